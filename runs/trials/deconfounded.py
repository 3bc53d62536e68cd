"""What is left of CKA when the raw pixels are regressed out, between shipped models.

    python runs/trials/deconfounded.py scenes_mae scenes_mae_seed1 scenes_moco_v3 scenes_dino
        random:vit_mini_patch8_32:0 random:vit_mini_patch8_32:1  # on one line

Prints, for each pair of models, the mean over the blocks at the same depth of CKA, of the partial
correlation given the pixels without any threshold, and of the smaller share 1 - r² that is left;
then the seconds of CKA and of deconfounded CKA over all taps, the packing of Grams included.
"""

import argparse
import itertools
import time
from dataclasses import replace

import numpy as np

import sslens
from sslens.measures import measure
from sslens.measures.cka import minibatch_cka
from sslens.measures.deconfounded_cka import partial, share_left


def main() -> None:
    """Print the table and the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--images", default="scenes:0:1024")
    arguments = parser.parse_args()
    images = sslens.open_images(arguments.images)
    grams = {name: sslens.grams(sslens.load(name), images) for name in arguments.models}
    pixels = sslens.grams(sslens.load("pixels"), images)
    blocks = {name: one.at("block") for name, one in grams.items()}
    beside = {name: minibatch_cka(one, pixels)[:, 0] for name, one in blocks.items()}
    print("| models | CKA | beyond the pixels | left |\n|---|---|---|---|")
    for a, b in itertools.combinations(grams, 2):
        xy = minibatch_cka(blocks[a], blocks[b]).diagonal()
        left = np.minimum(share_left(beside[a]), share_left(beside[b]))
        value = partial(xy, beside[a], beside[b])
        print(f"| {a} · {b} | {xy.mean():.3f} | {value.mean():.2f} | {left.mean():.3f} |")
    first, second = list(grams.values())[:2]
    seconds = {"cka": [], "deconfounded-cka": []}
    for _ in range(5):
        for name, taken in seconds.items():
            # copies have no packed operands yet
            a, b, z = (replace(one) for one in (first, second, pixels))
            start = time.process_time()
            measure(name, a, b, z)
            taken.append(time.process_time() - start)
    for name, taken in seconds.items():
        print(f"{name}: {1000 * np.median(taken):.1f} ms, {len(first.taps)} taps each")


if __name__ == "__main__":
    main()
