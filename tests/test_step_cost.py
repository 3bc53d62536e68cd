"""The cost of a training step."""

import itertools
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sslens.study.step_cost import take_step


class Step(torch.nn.Module):
    """A method of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.weight]}]

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (self.weight * batch["view"]).square().sum()


def test_a_step_on_a_cpu_costs_processor_time_whatever_else_runs_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = itertools.count(0, 3600)  # between two looks at the clock, an hour
    monkeypatch.setattr(time, "monotonic", lambda: float(next(waited)))
    settings = SimpleNamespace(weight_decay=0.0, betas=(0.9, 0.95))
    seconds, _ = take_step(Step(), {"view": torch.ones(4)}, settings)
    assert 0 <= seconds < 60
