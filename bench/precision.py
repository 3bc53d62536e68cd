"""How far CKA moves when the forward pass is in half precision, and when stored Grams are rounded
to float16.

    python bench/precision.py  # two random ViT-Tiny at 224 px, 49 taps, 128 generated scenes
    python bench/precision.py MODEL … --images photos --limit 128

Grams are float32 in every case. Shown is the largest change of CKA over all pairs of taps, within a
model and of the first two models with each other, against the pass in float32.
"""

import argparse
import itertools

import numpy as np

import peers
import sslens
from sslens.capture import Grams
from sslens.capture.passes import grams
from sslens.measures.cka import minibatch_cka


def change(exact: list[Grams], other: list[Grams]) -> float:
    pairs = itertools.combinations_with_replacement(range(len(exact)), 2)
    return max(
        float(
            np.nanmax(np.abs(minibatch_cka(exact[i], exact[j]) - minibatch_cka(other[i], other[j])))
        )
        for i, j in pairs
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    random = [f"random:timm/vit_tiny_patch16_224:{seed}" for seed in range(2)]
    parser.add_argument("models", nargs="*", default=random)
    parser.add_argument("--images", default="scenes:0:128")
    parser.add_argument("--limit", type=int, default=128)
    arguments = parser.parse_args()
    images = sslens.open_images(arguments.images, limit=arguments.limit)
    models = [sslens.load(source) for source in arguments.models]
    found = {
        precision: [grams(model, images, precision=precision) for model in models]
        for precision in ("float32", "bfloat16", "float16")
    }
    table = [
        [name, f"{change(found['float32'], found[name]):.1e}"] for name in ("bfloat16", "float16")
    ]
    print(peers.markdown(["forward pass", "largest change of CKA"], table))


if __name__ == "__main__":
    main()
