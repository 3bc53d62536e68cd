"""Whether a number that a claim or a condition reads can be there, before anything is computed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sslens.comparisons.lookup import Place
from sslens.errors import InputError, do_all, nearest
from sslens.find import plugin
from sslens.study.asked import Study
from sslens.study.conditions import BoundCondition, Condition
from sslens.study.contract import needs_of
from sslens.study.members import Member

if TYPE_CHECKING:
    from sslens.models.backbone import Backbone

#: between two taps that are concatenated
PLUS = " + "


def require_places(
    study: Study,
    conditions: Sequence[Condition],
    members: Sequence[Member],
    told: Sequence[InputError] = (),
) -> None:
    """Refuse claims and conditions about a table, a column, a model or a tap that there will not
    be.

    Args:
        study: the study, with its claims.
        conditions: the conditions.
        members: the models and the controls.
        told: errors that are told with these.

    Raises:
        InputError: the nearest name is offered, of all that are wrong at once.
    """
    places = [
        (f'The condition "{one.words}"', one.place)
        for one in conditions
        if isinstance(one, BoundCondition)
    ]
    for claim in study.claims:
        places += [(f'The claim "{claim.name}"', place) for place in claim.list_places().values()]
    do_all(lambda place: _require_place(*place, members), places, told)


def find_columns(place: Place) -> tuple[str, ...]:
    """Return the columns of the table of a number; none where the analysis does not list them.

    Raises:
        InputError: the analysis has no such table, or the table no such column.
    """
    tables = getattr(plugin("analyses", place.analysis), "TABLES", None)
    return () if tables is None else tuple(tables[place.choose_table(tables)])


def _require_place(what: str, place: Place, members: Sequence[Member]) -> None:
    columns = find_columns(place)
    name, tap = place.where.get("model"), place.where.get("tap")
    if name is None or "model" not in columns or "members" in columns:
        return
    known = {member.name: member for member in members}
    if name not in known:
        raise InputError(f'{what} is about a model "{name}": {nearest(str(name), known)}')
    model = known[str(name)].model
    if tap is None or "tap" not in columns or model is None or PLUS in str(tap):
        return
    taps = _list_taps(place.analysis, model)
    if tap not in taps:
        last = ", and last: true is the last layer of any model" if "last" in columns else ""
        raise InputError(
            f'{what} reads a tap "{tap}" that {name} does not have: {nearest(str(tap), taps)}{last}'
        )


def _list_taps(analysis: str, model: "Backbone") -> tuple[str, ...]:
    """The names of the taps of a model that an analysis reads."""
    from sslens.capture import FeatureReducer

    taps = model.pick(None)
    if "features" in needs_of(analysis):
        taps = FeatureReducer().taps(model, taps)
    return tuple(tap.name for tap in taps)
