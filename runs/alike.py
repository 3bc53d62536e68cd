"""Whether two draws of minibatches, from the same images, can contradict each other in which models
are alike.

    python runs/alike.py                                     about a minute of a core
    python runs/alike.py --draws 200 --images 360 --source cifar10:val

Models see the images once. Then the images are divided into minibatches of 32 anew in each draw,
and all that follows is the code of the first screen: CKA at the same depth with the raw pixels
regressed out, its interval over minibatches, groups (`likeness.find_groups`), and whether these are
settled (`Group.settled`). An answer is sure if all its groups are settled, else probable; without a
group it is undecided. Over all pairs of draws it is counted how often

- two answers contradict each other: a model is in a group of one, and the groups differ;
- one is sure and the other one undecided, which should be rare.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

import sslens
from sslens.capture import Grams
from sslens.comparisons.compared import compare_pair, deconfound_pair
from sslens.comparisons.deconfounding import compare_with_pixels
from sslens.comparisons.likeness import Likeness, compare_alike, find_groups
from sslens.comparisons.pairs import make_cka_columns, read_cka
from sslens.data.images import ImageSet
from sslens.models.taps import Tap
from sslens.statistics.estimate import Estimate
from sslens.statistics.sampled import Sampled

SETS = (
    ("scenes_dino", "scenes_mae", "scenes_moco_v3"),
    ("scenes_mae", "scenes_mae_seed1", "scenes_dino"),
    ("scenes_msn", "scenes_msn_seed1", "scenes_moco_v3", "scenes_dino"),
    ("scenes_mae_ft", "scenes_moco_v3_ft", "scenes_supervised"),
)
BATCH = 32
#: what an answer comes to
SURE, PROBABLE, UNDECIDED = "sure", "probable", "undecided"
#: the inner products of the features of all images, tap by tap
Products = tuple[tuple[Tap, ...], Float64[Tensor, "tap image image"]]


def main() -> None:
    """Print a table: a row for each set of models and number of images."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--images", type=int, nargs="+", default=[192, 384])
    parser.add_argument("--source", default="scenes:7:384")
    given = parser.parse_args()
    print("| models | images | answers by draws | contradictions | sure and undecided |")
    print("|---|---|---|---|---|")
    for count in given.images:
        images = sslens.open_images(given.source, limit=count)
        names = sorted({name for own in SETS for name in own} | {"pixels"})
        products = {name: list_products(name, images) for name in names}
        for models in SETS:
            answers = list(draw_answers(models, products, given.draws))
            print(write_row(models, count, answers), flush=True)


def list_products(name: str, images: ImageSet) -> Products:
    """The inner products of the features of each block, all tokens flattened."""
    model = sslens.load(name)
    taps = tuple(tap for tap in model.taps.values() if tap.kind in ("block", "pixels"))
    seen = torch.stack([model.transform(images.image(row)) for row in range(len(images))])
    outputs = sslens.activations(model, seen, [tap.name for tap in taps])
    features = [outputs[tap.name].flatten(1).double() for tap in taps]
    return taps, torch.stack([x @ x.T for x in features])


def draw_answers(
    models: Sequence[str], products: Mapping[str, Products], draws: int
) -> Iterator[tuple[str, tuple[tuple[str, ...], ...]]]:
    """Divide the images anew in each draw, and yield how sure the answer is, and its groups."""
    images = products["pixels"][1].shape[-1]
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(images)
        grams = {name: divide(name, products[name], order) for name in (*models, "pixels")}
        beside = {name: compare_with_pixels(grams[name], grams["pixels"]) for name in models}
        pairs = []
        for a, b in itertools.combinations(models, 2):
            pair = compare_pair((a, grams[a]), (b, grams[b]), False)
            pair = deconfound_pair(pair, beside[a], beside[b])
            assert pair.deconfounded is not None
            plain, left = _mean(pair.same), _mean(pair.deconfounded.same)
            beyond = left.defined
            pairs.append(Likeness(a, b, False, left if beyond else plain, plain, beyond))
        groups = find_groups(compare_alike(pairs))
        sure = SURE if all(one.settled for one in groups) else PROBABLE
        yield sure if groups else UNDECIDED, tuple(one.members for one in groups)


def _mean(values: Sampled) -> Estimate:
    return read_cka(make_cka_columns(values.mean()))


def divide(name: str, products: Products, order: np.ndarray) -> Grams:
    """The Grams of minibatches of images in an order."""
    taps, whole = products
    parts = np.split(order, range(BATCH, len(order), BATCH))
    blocks, energy = [], []
    for part in parts:
        own = whole[:, part][:, :, part]
        mean = own.mean(-1, keepdim=True)
        centred = own - mean - mean.mT + mean.mean(-2, keepdim=True)
        short = BATCH - len(part)
        blocks.append(torch.nn.functional.pad(centred, (0, short, 0, short)))
        energy.append(own.sum((-2, -1)) / len(part))
    sizes = torch.tensor([len(part) for part in parts])
    return Grams(
        name,
        tuple(map(str, order)),
        taps,
        torch.stack(blocks, 1).float(),
        torch.stack(energy, 1),
        sizes,
        {"images": None, "plan": sizes.tolist()},
    )


def write_row(models: Sequence[str], count: int, answers: Sequence[tuple[str, tuple]]) -> str:
    """A row of the table."""
    counted = Counter(answers)
    said = "; ".join(
        f"{number} {sure}{' ' if groups else ''}{', '.join(' + '.join(one) for one in groups)}"
        for (sure, groups), number in counted.most_common()
    )
    pairs = list(itertools.combinations(answers, 2))
    against = sum(contradict(a[1], b[1]) for a, b in pairs)
    weak = sum({a[0], b[0]} == {SURE, UNDECIDED} for a, b in pairs)
    shares = f"{against / len(pairs):.1%} | {weak / len(pairs):.1%}"
    return f"| {', '.join(models)} | {count} | {said} | {shares} |"


def contradict(one: Sequence[Sequence[str]], other: Sequence[Sequence[str]]) -> bool:
    """Whether a model is in a group of both, and these groups differ.

    >>> contradict([("a", "b")], [("b", "c")]), contradict([("a", "b")], [("c", "d")])
    (True, False)
    """
    return any(set(a) & set(b) and set(a) != set(b) for a, b in itertools.product(one, other))


if __name__ == "__main__":
    main()
