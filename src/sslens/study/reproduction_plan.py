"""The plan of a reproduction in words: steps, costs, and what would not be run and why."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from sslens.errors import as_argument, spell_parameters
from sslens.study.reproduce_request import ReproduceRequest
from sslens.study.reproduction import (
    SHIPPED,
    Step,
    describe_cost,
    describe_data,
    list_fetched,
    plan_steps,
    spell_hours,
)
from sslens.study.stored_results import find_stored

Spell = Callable[[str, str | None], str]


def describe_plan(request: ReproduceRequest, spell: Spell = as_argument) -> Iterator[str]:
    """Describe the plan of a reproduction in lines for a person; nothing is loaded or fetched.

    Raises:
        InputError: a source of images is not there.
    """
    steps = plan_steps(request)
    for step in steps:
        yield from describe_step(step, spell)
    compared = [step for step in steps if step.on != SHIPPED and step.exhibit.published]
    for begin, told in (
        ("without", {step.name: step.absent for step in steps}),
        ("not comparable with published numbers", {step.name: step.differs for step in compared}),
    ):
        for text in _join_exhibits(told):
            yield spell_parameters(f"{begin}: {text}", spell)


def _join_exhibits(told: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What is told of exhibits, each text once, with the exhibits that it is told of unless it is
    told of all."""
    by_text: dict[str, list[str]] = {}
    for name, texts in told.items():
        for text in texts:
            by_text.setdefault(text, []).append(name)
    for text, names in by_text.items():
        yield text if len(names) == len(told) else f"{text} ({', '.join(names)})"


def describe_step(step: Step, spell: Spell = as_argument) -> Iterator[str]:
    """Describe a step in lines for a person: weights, images, cost, and what is missing."""
    begin, indent = f"{step.name:<20}", " " * 20
    lacks = [*step.lacks]
    stored = step.long and find_stored(step) is not None
    if stored or step.costly:
        hours = spell_hours(step.setting.hours)
        state = "it would not run: name it, or give {costly=True}"
        if stored:
            state = "stored results are taken: give {costly=True} to compute them"
        lacks.append(f"it takes about {hours}; {state}")
    if step.lacks:
        yield spell_parameters(f"{begin}would not run: {'; '.join(lacks)}", spell)
    else:
        yield f"{begin}{describe_data(step)}"
        if stored or step.costly:
            yield spell_parameters(f"{indent}{lacks[-1]}", spell)
    if not (step.lacks or step.costly or stored):
        yield f"{indent}{describe_cost(step)}"
    if step.why:
        yield spell_parameters(f"{indent}not on the authors' weights: {step.why}", spell)
    fetched = list_fetched(step)
    if fetched and not step.lacks:
        known = sum(card.size or 0 for card in fetched) / 1e6
        size = f", {known:,.0f} MB or more" if known else ""
        yield f"{indent}fetches {', '.join(card.name for card in fetched)}{size}"
    for name, why in step.left_out.items():
        yield spell_parameters(f"{indent}without: {name}: {why}", spell)
