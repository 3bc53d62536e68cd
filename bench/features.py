"""What storing the features of images from disk costs over the bare forward pass, both in turn in
one run.

    python bench/features.py --images photos                   # ViT-S/16, 96 images, 13 taps × 3
    poolings, 3 rounds python bench/features.py --images photos --size base --count 32

"bare" is the forward pass on minibatches that are transformed already, under torch.inference_mode,
without a hook. "sslens" is what `sslens features` does from the folder on: decoding, transform,
pass, pooling, float16, files. Each round runs both; the ratio is the median over rounds of bare
over sslens, with the lowest and highest. With OMP_NUM_THREADS=1 processor time is counted, decoding
included, in which other work on the machine has little part. Weights are random. Target: 0.95.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

import sslens
from sslens.capture.shards import BATCH, describe, fill, require_folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True)
    parser.add_argument("--size", default="small")
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    model = sslens.load(f"random:vit_{given.size}_patch16_224").to(given.device)
    images = sslens.open_images(given.images, limit=given.count)
    ready = torch.stack([model.transform(images.image(row)) for row in range(len(images))]).split(
        given.batch
    )

    def bare() -> None:
        for batch in ready:
            with torch.inference_mode():
                model(batch.to(given.device))
        if given.device != "cpu":
            torch.cuda.synchronize()

    def stored() -> None:
        with tempfile.TemporaryDirectory() as folder:
            wanted = describe(model, images)
            missing = require_folder(Path(folder), wanted)
            fill(
                Path(folder), wanted, missing, model, images, batch=given.batch, device=given.device
            )

    seconds: dict[str, list[float]] = {"bare": [], "sslens": []}
    bare()
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for number in range(given.rounds):
        for name, work in (("bare", bare), ("sslens", stored)):
            start = clock()
            work()
            seconds[name].append(clock() - start)
        print(
            f"round {number + 1}: " + ", ".join(f"{k} {v[-1]:.2f} s" for k, v in seconds.items()),
            file=sys.stderr,
        )
    ratios = [a / b for a, b in zip(seconds["bare"], seconds["sslens"], strict=True)]
    rate = len(images) / statistics.median(seconds["sslens"])
    print(
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of the bare"
        f" pass, {rate:.1f} images a second"
    )


if __name__ == "__main__":
    main()
