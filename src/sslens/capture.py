"""One pass a model: hooks at the taps feed streaming reducers, and no activation outlives its minibatch.

A reducer turns the output of a tap on one minibatch into something small: `Grams` into the mean-centred n × n Gram of
the flattened features, `Features` into pooled vectors. What a pass yields is an artefact. It is looked up in the store
by the digests of weights, images and plan, by the transform, and by the reducer's settings and version, and computed
only when it is not there. All artefacts of a model that are missing are computed in the same pass.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn

from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.store import Store

Progress = Callable[[int, int], None]

#: columns of a Gram's operand that are centred and multiplied at a time, two such parts a thread: with 32 images 0.5 MB, which
#: stay in its cache; no power of two, with which all rows of a column would fall into one set of the cache (25 % slower)
COLUMNS = 2064
#: features that vary over images by less than this share of their size carry rounding only: float32 has 24 bits, 2⁻²⁴ ≈ 6e-8
CONSTANT = 4e-6


@contextlib.contextmanager
def tapped(model: Backbone, taps: Sequence[Tap], visit: Callable[[Tap, Tensor], None]) -> Iterator[None]:
    """Within the block, `visit` is called with the output of each tap as it is computed; the hooks are gone after it."""
    handles = []
    try:
        for tap in taps:

            def hook(_module: nn.Module, _args: Any, output: Tensor, tap: Tap = tap) -> None:
                visit(tap, output)

            handles.append(model.network.get_submodule(tap.name).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def activations(
    model: Backbone, x: Float[Tensor, "image channel height width"], taps: Sequence[str] | None = None
) -> dict[str, Float[Tensor, "image ..."]]:
    """The outputs of the taps for a batch that is already transformed, by tap name in the order of computation.

    Raises:
        InputError: a name is not a tap of the model.

    >>> import sslens
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> found = activations(model, torch.zeros(2, 3, 32, 32), taps=["blocks.3", "blocks.0.attn.qkv"])
    >>> {name: tuple(value.shape) for name, value in found.items()}
    {'blocks.0.attn.qkv': (2, 17, 192), 'blocks.3': (2, 17, 64)}
    """
    found: dict[str, Tensor] = {}

    def keep(tap: Tap, output: Tensor) -> None:
        found[tap.name] = output

    with torch.inference_mode(), tapped(model, model.pick(taps), keep):
        model(x)
    return found


def centred_gram(
    x: Float[Tensor, "image feature"],
) -> tuple[Float64[Tensor, "image image"], Float64[Tensor, ""]]:
    """The Gram K = (X − 1μᵀ)(X − 1μᵀ)ᵀ of float32 features about their mean μ over images, and the energy n‖μ‖².

    Every estimate here is invariant to the centring, but without it a common offset cancels the digits of a float32
    product. Products are float32, sums over blocks of columns float64.

    >>> gram, energy = centred_gram(torch.tensor([[30.0, 1.0], [31.0, 3.0]]))
    >>> gram.tolist(), energy.item()  # ±(0.5, 1) about (30.5, 2): 2 · (30.5² + 2²)
    ([[1.25, -1.25], [-1.25, 1.25]], 1868.5)
    """
    n, features = x.shape
    columns = COLUMNS if x.device.type == "cpu" else max(1, features)
    parts = max(1, min(2 * torch.get_num_threads(), features // columns))
    place = torch.empty(parts, n, columns, device=x.device)  # written over and over: a new one a block is 20 % slower
    grams, energies = [], []
    with torch.autocast(x.device.type, enabled=False):  # which would multiply in bfloat16
        for block in x.detach().split(parts * columns, dim=1):
            whole = block.shape[1] == parts * columns
            part = block.float().view(n, parts if whole else 1, -1).transpose(0, 1)
            total = part.sum(1, keepdim=True)
            centred = torch.sub(part, total, alpha=1 / n, out=place if whole else None)
            grams.append(torch.bmm(centred, centred.mT))
            energies.append(total.square().sum())
    return torch.cat(grams).sum(0, dtype=torch.float64), torch.stack(energies).sum(dtype=torch.float64) / n


def choose_tokens(output: Float[Tensor, "image ..."], prefix: int | None, tokens: str) -> Tensor | None:
    """All tokens, the CLS token or the patch tokens of a tap's output; None where the output has no such tokens."""
    if tokens == "all":
        return output
    if output.ndim != 3 or not prefix:
        return None
    return output[:, 0] if tokens == "cls" else output[:, prefix:]


@runtime_checkable
class Reducer(Protocol):
    """What a pass makes of the outputs of the taps, one minibatch at a time."""

    kind: ClassVar[str]
    version: ClassVar[int]

    def settings(self) -> dict[str, Any]:
        """What decides the result, plain JSON values."""
        ...

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Those of the taps that this reducer can read."""
        ...

    def start(self, model: Backbone, taps: Sequence[Tap], plan: Plan) -> Callable[[Tap, Tensor, int], None]:
        """Begin a pass; returns what takes a tap's output on the minibatch of a number."""
        ...

    def result(self) -> dict[str, Tensor]:
        """The tensors of the artefact; the reducer can be started again."""
        ...


@final
class Grams:
    """Per tap and minibatch the mean-centred n × n Gram of the flattened features, float32: `grams [tap batch n n]`.

    A minibatch shorter than the others is padded with zeros (`sizes [batch]` says how many rows are real), which no
    measure sees. `energy [tap batch]` is n‖μ‖², what the centring took away, by which a constant tap is known.
    `tokens` is "all" (the papers' choice), "cls" or "patch".
    """

    kind: ClassVar[str] = "grams"
    version: ClassVar[int] = 1

    def __init__(self, tokens: str = "all") -> None:
        self.tokens = tokens

    def settings(self) -> dict[str, Any]:
        return {"tokens": self.tokens}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        return tuple(taps) if self.tokens == "all" or model.prefix else ()

    def start(self, model: Backbone, taps: Sequence[Tap], plan: Plan) -> Callable[[Tap, Tensor, int], None]:
        n = max(plan.sizes)
        row = {tap.name: i for i, tap in enumerate(taps)}
        self._grams = torch.zeros(len(taps), len(plan.sizes), n, n)
        self._energy = torch.zeros(len(taps), len(plan.sizes), dtype=torch.float64)
        self._sizes = torch.tensor(plan.sizes)

        def add(tap: Tap, output: Tensor, batch: int) -> None:
            chosen = choose_tokens(output, model.prefix, self.tokens)
            if chosen is not None:
                gram, energy = centred_gram(chosen.flatten(1))
                size = len(gram)
                self._grams[row[tap.name], batch, :size, :size] = gram.float().cpu()
                self._energy[row[tap.name], batch] = energy.cpu()

        return add

    def result(self) -> dict[str, Tensor]:
        return {"grams": self._grams, "energy": self._energy, "sizes": self._sizes}


@final
class Features:
    """Per tap the CLS token, the mean of all tokens and the mean of the patch tokens: `TAP/POOLING [image dim]`, float32.

    Outputs that are not tokens have one pooling, "flat". Rows are in the order of the plan.
    """

    kind: ClassVar[str] = "features"
    version: ClassVar[int] = 1

    def __init__(self, kinds: Sequence[str] = ("block", "norm", "pixels")) -> None:
        self.kinds = tuple(kinds)

    def settings(self) -> dict[str, Any]:
        return {"kinds": list(self.kinds)}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        return tuple(tap for tap in taps if tap.kind in self.kinds)

    def start(self, model: Backbone, taps: Sequence[Tap], plan: Plan) -> Callable[[Tap, Tensor, int], None]:
        self._features: dict[str, Tensor] = {}
        starts = np.cumsum([0, *plan.sizes])

        def add(tap: Tap, output: Tensor, batch: int) -> None:
            for pooling, vectors in pooled(output, model.prefix).items():
                key = f"{tap.name}/{pooling}"
                if key not in self._features:
                    self._features[key] = torch.empty(int(starts[-1]), vectors.shape[1])
                self._features[key][starts[batch] : starts[batch + 1]] = vectors.float().cpu()

        return add

    def result(self) -> dict[str, Tensor]:
        return self._features


def pooled(output: Float[Tensor, "image ..."], prefix: int | None) -> dict[str, Float[Tensor, "image dim"]]:
    """A tap's output as vectors, by pooling: "cls", "mean" (of all tokens), "patch" (mean of the patch tokens), or "flat".

    >>> {k: v.tolist() for k, v in pooled(torch.tensor([[[1.0], [3.0], [8.0]]]), prefix=1).items()}
    {'cls': [[1.0]], 'mean': [[4.0]], 'patch': [[5.5]]}
    """
    if output.ndim != 3:
        return {"flat": output.flatten(1)}
    poolings = {"mean": output.mean(1)}
    if prefix:
        poolings = {"cls": output[:, 0], **poolings, "patch": output[:, prefix:].mean(1)}
    return poolings


@dataclass(frozen=True)
class Artefact:
    """What a reducer made of a model over images: tensors, and the ids, taps and key that say what they are."""

    kind: str
    model: str
    ids: tuple[str, ...]
    taps: tuple[Tap, ...]
    tensors: dict[str, Tensor]
    key: dict[str, Any]

    def at(self, kind: str) -> "Artefact":
        """The part of Grams that belongs to the taps of one kind, in order of depth."""
        rows = [i for i, tap in enumerate(self.taps) if tap.kind == kind]
        tensors = {name: value if name == "sizes" else value[rows] for name, value in self.tensors.items()}
        return Artefact(self.kind, self.model, self.ids, tuple(self.taps[i] for i in rows), tensors, self.key)


def key_of(
    model: Backbone, images: ImageSet, plan: Plan, reducer: Reducer, taps: Sequence[Tap], precision: str
) -> dict[str, Any]:
    """Everything that decides an artefact's content."""
    return {
        "reducer": reducer.kind,
        "version": reducer.version,
        "settings": reducer.settings(),
        "weights": model.digest,
        "transform": model.transform.spec(),
        "taps": [asdict(tap) for tap in taps],
        "images": images.content,
        "plan": plan.digest,
        "precision": precision,
    }


def collect(
    model: Backbone,
    images: ImageSet,
    reducers: Sequence[Reducer],
    *,
    plan: Plan | None = None,
    taps: Sequence[str] | None = None,
    store: Store | None = None,
    device: str = "cpu",
    precision: str = "float32",
    progress: Progress | None = None,
) -> list[Artefact]:
    """What the reducers make of a model over images, in one pass, or from the store.

    Args:
        plan: the minibatches; of 32 images, drawn from the ids with seed 0, unless given.
        taps: names; all unless given.
        store: where artefacts are looked up and kept; none unless given.
        precision: "float32", or "bfloat16" for the forward pass under autocast (Grams stay float32).
        progress: called with images done and images in all.

    Raises:
        InputError: unknown taps, or a plan that is not of these images.
    """
    plan = plan or Plan.draw(images.ids)
    plan.require(images.ids)
    jobs = []
    for reducer in reducers:
        chosen = reducer.taps(model, model.pick(taps))
        jobs.append((reducer, chosen, key_of(model, images, plan, reducer, chosen, precision)))
    found = [store.read(reducer.kind, key) if store else None for reducer, _, key in jobs]
    missing = [(reducer, chosen) for (reducer, chosen, _), have in zip(jobs, found, strict=True) if have is None]
    if missing:
        _pass(model, images, missing, plan, device, precision, progress)
    results = []
    for (reducer, chosen, key), have in zip(jobs, found, strict=True):
        tensors = have if have is not None else reducer.result()
        if have is None and store:
            store.write(reducer.kind, key, tensors)
        results.append(Artefact(reducer.kind, model.name, plan.ids, chosen, tensors, key))
    return results


def _pass(
    model: Backbone,
    images: ImageSet,
    jobs: Sequence[tuple[Reducer, tuple[Tap, ...]]],
    plan: Plan,
    device: str,
    precision: str,
    progress: Progress | None,
) -> None:
    adders = [({tap.name for tap in taps}, reducer.start(model, taps, plan)) for reducer, taps in jobs]
    union = [tap for tap in model.taps.values() if any(tap.name in names for names, _ in adders)]
    model.to(device)
    done = 0
    for number, batch in enumerate(_batches(model, images, plan)):

        def visit(tap: Tap, output: Tensor, number: int = number) -> None:
            for names, add in adders:
                if tap.name in names:
                    add(tap, output, number)

        with (
            torch.inference_mode(),
            torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"),
            tapped(model, union, visit),
        ):
            model(batch.to(device))
        done += len(batch)
        if progress:
            progress(done, len(plan.ids))


def _batches(model: Backbone, images: ImageSet, plan: Plan) -> Iterator[Float32[Tensor, "image 3 height width"]]:
    """The minibatches of the plan, transformed; one is decoded ahead while the model works on the one before."""
    row = {name: i for i, name in enumerate(images.ids)}

    def prepare(ids: tuple[str, ...]) -> Tensor:
        return torch.stack([model.transform(images.image(row[name])) for name in ids])

    with ThreadPoolExecutor(1) as ahead:
        waiting = None
        for ids in plan.minibatches:
            coming = ahead.submit(prepare, ids)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def grams(model: Backbone, images: ImageSet, *, tokens: str = "all", **options: Any) -> Artefact:
    """The Grams of a model over images; options as `collect` has them.

    >>> import sslens
    >>> found = grams(sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:40"), taps=["blocks.3"])
    >>> tuple(found.tensors["grams"].shape), found.tensors["sizes"].tolist()
    ((1, 2, 32, 32), [32, 8])
    """
    if tokens not in ("all", "cls", "patch"):
        raise InputError(f'There are no tokens "{tokens}": expected all, cls or patch.')
    if tokens != "all" and not model.prefix:
        raise InputError(f"{model.name} has no CLS token, so its tokens are all alike: leave tokens at all.")
    return collect(model, images, [Grams(tokens)], **options)[0]


def features(model: Backbone, images: ImageSet, **options: Any) -> Artefact:
    """The pooled features of a model over images; options as `collect` has them.

    >>> import sslens
    >>> found = features(sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8"))
    >>> sorted(found.tensors)[:3], tuple(found.tensors["norm/cls"].shape)
    (['blocks.0/cls', 'blocks.0/mean', 'blocks.0/patch'], (8, 64))
    """
    return collect(model, images, [Features()], **options)[0]
