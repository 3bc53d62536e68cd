"""What invariance to eleven transforms at all taps costs over twelve bare passes, in turn.

    python bench/invariance.py                        # ViT-S/16, 64 scenes at 224 px, 2 rounds
    python bench/invariance.py --size tiny --count 96 --rounds 3

"bare" is twelve forward passes on minibatches that are transformed already, under
torch.inference_mode, without a hook. "sslens" is what `sslens invariance --no-decode
--no-controls` does from the images on: decoding once, eleven transforms, passes with pooled
features and Grams, files, and all numbers of the tables. Each round runs both; the ratio is the
median over rounds of sslens over bare, with the lowest and highest. With OMP_NUM_THREADS=1
processor time is counted, in which other work on the machine has little part. Weights are random.
Target: 1.15.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

import sslens
from sslens.analyses import invariance
from sslens.store import Store
from sslens.study import Study, prepare
from sslens.study.capturing import capture
from sslens.study.needs import invariance as need

#: eleven transforms and the images as they are
PASSES = 12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="scenes:1:64")
    parser.add_argument("--size", default="small")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    source = f"random:vit_{given.size}_patch16_224"
    model = sslens.load(source)
    images = sslens.open_images(given.images, limit=given.count)
    ready = torch.stack([model.transform(images.image(row)) for row in range(len(images))])

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(PASSES):
                for batch in ready.split(given.batch):
                    model(batch)

    parts: dict[str, float] = {}

    def measured() -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SSLENS_HOME"] = folder
            study = Study(
                (source,),
                given.images,
                ("invariance",),
                limit=given.count,
                batch=given.batch,
                controls=False,
                decode=False,
                device="cpu",
            )
            plan = prepare(study, Store(Path(folder)), quiet=True)
            assert len(plan.passes) == PASSES
            began = clock()
            captured = capture(plan.situation, plan.passes, plan.runner)
            parts["passes"] = clock() - began
            invariance.compute(plan.situation.models, invariance=need.gather(captured))

    seconds: dict[str, list[float]] = {"bare": [], "sslens": []}
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    with torch.inference_mode():
        model(ready[: given.batch])
    for number in range(given.rounds):
        for name, work in (("bare", bare), ("sslens", measured)):
            start = clock()
            work()
            seconds[name].append(clock() - start)
        told = ", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items())
        print(f"round {number + 1}: {told} (passes {parts['passes']:.2f} s)", file=sys.stderr)
    ratios = [a / b for a, b in zip(seconds["sslens"], seconds["bare"], strict=True)]
    print(
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of {PASSES} bare"
        f" passes over {len(images)} images"
    )


if __name__ == "__main__":
    main()
