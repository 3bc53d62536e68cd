"""The plan of a reproduction in words: steps, costs, and what would not be run and why."""

from collections.abc import Callable, Iterator

from sslens.errors import as_argument, spell_parameters
from sslens.study.reproduce_request import ReproduceRequest
from sslens.study.reproduction import (
    SHIPPED,
    Step,
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
    for step in plan_steps(request):
        yield from describe_step(step, spell)


def describe_step(step: Step, spell: Spell = as_argument) -> Iterator[str]:
    """Describe a step in lines for a person: weights, images, cost, and what is missing."""
    begin, indent = f"{step.name:<20}", " " * 20
    lacks = [*step.lacks]
    if step.costly:
        hours = spell_hours(step.setting.hours)
        state = "stored results are taken" if find_stored(step) else "it would not run"
        lacks.append(f"it takes about {hours}; {state}: name it, or give {{costly=True}}")
    if step.lacks:
        yield spell_parameters(f"{begin}would not run: {'; '.join(lacks)}", spell)
    else:
        yield f"{begin}{describe_data(step)}"
        if step.costly:
            yield spell_parameters(f"{indent}{lacks[-1]}", spell)
    if not (step.lacks or step.costly):
        on = "two processor cores" if step.on == SHIPPED else "one GPU like an H200, estimated"
        yield f"{indent}about {spell_hours(step.setting.hours)} of {on}"
    if step.why:
        yield spell_parameters(f"{indent}not on the authors' weights: {step.why}", spell)
    fetched = list_fetched(step)
    if fetched and not step.lacks:
        known = sum(card.size or 0 for card in fetched) / 1e6
        size = f", {known:,.0f} MB or more" if known else ""
        yield f"{indent}fetches {', '.join(card.name for card in fetched)}{size}"
    for note in (*step.absent, *(f"{name}: {why}" for name, why in step.left_out.items())):
        yield spell_parameters(f"{indent}without: {note}", spell)
    for text in step.differs if step.on != SHIPPED else ():
        yield f"{indent}not comparable with published numbers: {text}"
