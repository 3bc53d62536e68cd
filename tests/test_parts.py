"""Minibatches on their way to the device: their order and numbers are the same however they are
loaded."""

import dataclasses

import pytest
import torch

from runs import ARCH, IMAGES, SETTINGS, TRAINING
from sslens.methods import Batch
from sslens.processes import Processes
from sslens.training.parts import Feed, Parts
from sslens.training.pretrain import make_pretraining_job


def parts(accumulate: int = 1) -> Parts:
    training = dataclasses.replace(TRAINING, accumulate=accumulate)
    job = make_pretraining_job("mae", ARCH, SETTINGS["mae"])
    return Parts(job, IMAGES, training, Processes(0, 1, "cpu"))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_parts_come_in_order_with_and_without_workers_and_one_ahead(
    workers: int, ahead: bool
) -> None:
    made = parts(accumulate=2)
    feed = Feed(made, range(4, 12), "cpu", workers, ahead=ahead)
    got: list[Batch] = []
    for _ in range(4):
        feed.fetch()
        feed.fetch()  # one ahead and no more
        got.extend(feed.take(2))
    feed.fetch()
    assert list(feed.take(0)) == []
    for number, part in zip(range(4, 12), got, strict=True):
        wanted = made[number]
        assert isinstance(wanted, dict)
        assert part.keys() == wanted.keys()
        assert all(torch.equal(part[name], value) for name, value in wanted.items())


def test_parts_asked_for_out_of_order_are_the_same() -> None:
    made, again = parts(), parts()
    whole = [made[number] for number in (0, 7, 14)]
    for number, wanted in zip((14, 7, 0), reversed(whole), strict=True):
        part = again[number]
        assert isinstance(part, dict)
        assert isinstance(wanted, dict)
        assert all(torch.equal(part[name], value) for name, value in wanted.items())
