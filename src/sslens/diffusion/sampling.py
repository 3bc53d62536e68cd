"""Samplers of Gaussian diffusion: from noise to images, step by step."""

import torch
from jaxtyping import Float
from torch import Tensor

from sslens.diffusion.chain import Chain, Images
from sslens.diffusion.process import Fresh, Network


@torch.no_grad()
def sample_ancestral(
    chain: Chain,
    network: Network,
    noise: Images,
    condition: Float[Tensor, "image dim"] | None,
    fresh: Fresh,
    *,
    clip: bool = True,
) -> Images:
    """Sample by the steps that the network learned (Ho et al., 2020, algorithm 2): from the
    noisiest time down, x_{t−1} = m(x_t) + σ(x_t) z, without noise z in the last step.

    Args:
        chain: the chain over the times that are visited.
        network: see `Network`; in evaluation mode.
        noise: normal noise, one for each image.
        condition: a representation for each image, or None.
        fresh: draws the noise z of the step at a time.
        clip: whether each predicted clean image is clipped to [−1, 1].
    """
    x = noise
    for number, time in reversed(list(enumerate(chain.visited.tolist()))):
        numbers = torch.full((len(x),), number, device=x.device)
        predicted = chain.read(chain.run(network, x, numbers, condition), x, numbers, clip)
        x = predicted.mean
        if number:
            x = x + (predicted.log_variance / 2).exp() * fresh(time).to(x)
    return x


@torch.no_grad()
def sample_ddim(
    chain: Chain,
    network: Network,
    noise: Images,
    condition: Float[Tensor, "image dim"] | None,
    *,
    eta: float = 0.0,
    fresh: Fresh | None = None,
    clip: bool = True,
) -> Images:
    """Sample by DDIM (Song et al., 2021, arXiv:2010.02502, equation 12): from the noisiest time
    down, x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − σ²) ε̂ + σ z with σ = η √((1 − ᾱ_{t−1}) /
    (1 − ᾱ_t)) √(1 − ᾱ_t / ᾱ_{t−1}). The noise ε̂ is the one that the clipped image x̂_0 implies.

    Args:
        chain: the chain over the times that are visited.
        network: see `Network`; in evaluation mode. Its variances are not used.
        noise: normal noise, one for each image.
        condition: a representation for each image, or None.
        eta: η; 0 is deterministic.
        fresh: draws the noise z of the step at a time; not used where η is 0.
        clip: whether each predicted clean image is clipped to [−1, 1].
    """
    x = noise
    now, before = chain.alpha_bar, chain.alpha_bar_before
    sigmas = eta * ((1 - before) / (1 - now)).sqrt() * (1 - now / before).sqrt()
    of_clean, of_noise = before.sqrt().tolist(), (1 - before - sigmas**2).sqrt().tolist()
    for number, time in reversed(list(enumerate(chain.visited.tolist()))):
        numbers = torch.full((len(x),), number, device=x.device)
        output = chain.run(network, x, numbers, condition)
        clean = chain.read(output, x, numbers, clip).clean
        x = of_clean[number] * clean + of_noise[number] * chain.find_noise(x, numbers, clean)
        if number and eta and fresh is not None:
            x = x + float(sigmas[number]) * fresh(time).to(x)
    return x
