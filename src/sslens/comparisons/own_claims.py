"""A user's own claim: a few lines of a study, judged like the claims of the papers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

from sslens.comparisons.lookup import Place, TableNumber, Where, describe
from sslens.errors import InputError, nearest
from sslens.find import names
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate, subtract_unpaired
from sslens.statistics.verdicts import Part, Verdict, reach_verdict
from sslens.table import Results

#: what a claim may say of the difference, and the sign that it expects
DIRECTIONS: Mapping[str, Literal[1, 0, -1]] = {"more": 1, "less": -1, "no more": 0}
#: the keys that choose a row
ROWS = ("a", "b", "where", "control")
KEYS = ("name", "words", "table", "column", "a", "b", "where")
OPTIONAL = ("direction", "kind", "smallest", "control")
#: the kind of numbers of an analysis' tables; elsewhere it is "cka"
KIND_OF = {
    **dict.fromkeys(("knn-depth", "probe-depth", "probe-layers", "dense-depth"), "accuracy"),
    **dict.fromkeys(("detection-frozen", "detection-finetuned", "detection-layers"), "ap"),
    "factors-depth": "r2",
    "agreement": "tau",
    "finetune-path": "straightness",
    "invariance": "sensitivity",
}


@final
@dataclass(frozen=True)
class OwnClaim:
    """A claim about any difference of the tables.

    The difference is either a column of one row (`where`), such as `difference` of `families`; or
    the number of one row (`a`) less the number of another row (`b`) in one column. The interval of
    the second is [a.low − b.high, a.high − b.low], which is wider than necessary, because tables do
    not keep how two numbers vary together; a column that holds a paired difference decides sooner.

    Attributes:
        name: its name, which is the name of no claim of the papers and of no analysis.
        words: the claim as a sentence.
        table: the analysis, or the analysis and its table, such as "knn-depth/accuracies".
        column: the column with the number.
        a: the values of other columns by which the row of the first number is chosen.
        b: the values by which the row of the number that is subtracted is chosen.
        where: the values by which the row of a difference is chosen, instead of `a` and `b`.
        direction: what the claim says of the difference: "more", "less" or "no more".
        kind: the kind of number, a key of `SMALLEST`; that of the analysis' numbers unless given.
        smallest: the smallest difference worth a word, above 0; `SMALLEST` of the kind unless
            given.
        control: the values by which the row of a control is chosen: with `a` and `b`, `a` less the
            control stands beside the claim; with `where`, the control's difference.

    Raises:
        InputError: a value cannot be used.
    """

    name: str
    words: str
    table: str
    column: str
    a: Where = field(default_factory=dict)
    b: Where = field(default_factory=dict)
    where: Where = field(default_factory=dict)
    direction: str = "more"
    kind: str = ""
    smallest: float | None = None
    control: Where = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = (*names("claims"), *names("analyses"))
        if not self.name or self.name in taken or "\n" in self.name:
            raise InputError(
                f'A claim cannot be called "{self.name}": sslens has a claim or an analysis of this'
                " name. Give it a name of its own."
                if self.name
                else "A claim of a study has no name."
            )
        if not self.words.strip():
            raise InputError(f'The claim "{self.name}" says nothing: give its words.')
        if bool(self.a) != bool(self.b) or bool(self.a) == bool(self.where):
            raise InputError(
                f'The claim "{self.name}" needs a and b, two rows of its table, or where, the row'
                " of a difference."
            )
        if not self.kind:
            kind = KIND_OF.get(self.table.partition("/")[0], "cka")
            object.__setattr__(self, "kind", kind)  # so that it is kept with the study
        for what, value, options in (
            ("direction", self.direction, DIRECTIONS),
            ("kind", self.kind, SMALLEST),
        ):
            if value not in options:
                raise InputError(
                    f'The {what} of the claim "{self.name}" is "{value}": {nearest(value, options)}'
                )
        if self.smallest is not None and not 0 < self.smallest < float("inf"):
            raise InputError(
                f'The smallest difference of the claim "{self.name}" is {self.smallest:g}: it must'
                " be above 0."
            )
        self.list_places()

    @classmethod
    def parse(cls, value: object) -> "OwnClaim":
        """Read a claim from an entry of a study file.

        Raises:
            InputError: a key or a value is missing, unknown or of a wrong kind.

        >>> entry = {"name": "mine", "words": "Mine is better.", "table": "knn-depth"}
        >>> entry |= {"column": "accuracy", "a": {"model": "mine"}, "b": {"model": "dino"}}
        >>> OwnClaim.parse(entry).direction, OwnClaim.parse(entry).kind
        ('more', 'accuracy')
        """
        if not isinstance(value, Mapping):
            raise InputError(f"A claim of a study is {value!r}: expected keys such as name, words.")
        label = f'claim "{value.get("name", "")}"'
        known = (*KEYS, *OPTIONAL)
        for key in value:
            if key not in known:
                raise InputError(f'The {label} has a key "{key}": {nearest(key, known)}')
        missing = [key for key in KEYS[:4] if key not in value]
        if missing:
            raise InputError(f"The {label} does not say its {missing[0]}.")
        for key in ("name", "words", "table", "column", "direction", "kind"):
            if key in value and not isinstance(value[key], str):
                raise InputError(f"{key} of the {label} is {value[key]!r}: expected text.")
        rows = {
            key: require_where(value[key], f"{key} of the {label}") for key in ROWS if key in value
        }
        numbers: dict[str, float] = {}
        if (smallest := value.get("smallest")) is not None:
            if isinstance(smallest, bool) or not isinstance(smallest, int | float):
                raise InputError(f"smallest of the {label} is {smallest!r}: expected a number.")
            numbers["smallest"] = float(smallest)
        return cls(**{**value, **rows, **numbers})

    def to_yaml(self) -> dict[str, object]:
        """Return the claim as an entry of a study file, without what is as usual."""
        return {
            key: dict(value) if isinstance(value, Mapping) else value
            for key, value in vars(self).items()
            if value not in ({}, None)
        }

    def list_places(self) -> dict[str, Place]:
        """Return where each number of the claim stands, by its key.

        Raises:
            InputError: there is no such analysis; the nearest is offered.
        """
        return {
            key: Place.parse(self.table, self.column, getattr(self, key))
            for key in ROWS
            if getattr(self, key)
        }

    def judge(self, results: Mapping[str, Results]) -> Verdict:
        """Judge the claim on results.

        Args:
            results: the results of the analyses that ran, by the analysis' name.

        Raises:
            InputError: a table, a column or a value is not there; the nearest is offered.
        """
        try:
            found = {key: place.find(results) for key, place in self.list_places().items()}
        except InputError as error:
            raise InputError(f'The claim "{self.name}": {error.message}', error.mend) from None
        contrast = self._subtract(found)
        smallest = SMALLEST[self.kind] if self.smallest is None else self.smallest
        part = Part(
            f"{self.column},",
            contrast,
            smallest,
            self.kind,
            DIRECTIONS[self.direction],
            *_read_trainings(found.get("where"), self.column, contrast),
        )
        members = self._list_members(found, contrast)
        controls = self._list_controls(found)
        supposed = dict.fromkeys(describe(one.supposed) for one in found.values() if one.supposed)
        why = f"by default {' and '.join(supposed)}" if supposed else ""
        verdict = reach_verdict(self.name, [part], members=members, controls=controls, why=why)
        return replace(verdict, words=self.words.strip().removesuffix(".") + ".")

    def _subtract(self, found: Mapping[str, TableNumber]) -> Contrast:
        """The difference that the claim is about."""
        if "where" in found:
            self._require_intervals(found["where"])
            row = found["where"].row
            named = [str(row[key]) for key in ("model", "model_a", "model_b") if row.get(key)]
            less = str(row.get("less") or row.get("against") or "what it is held against")
            return Contrast(" · ".join(named) or describe(self.where), less, found["where"].value)
        difference = self._subtract_rows(found["a"], found["b"])
        return Contrast(*_name_apart(self.a, self.b), difference, paired=False)

    def _subtract_rows(self, one: TableNumber, other: TableNumber) -> Estimate:
        self._require_intervals(one, other)
        return subtract_unpaired(one.value, other.value)

    def _require_intervals(self, *numbers: TableNumber) -> None:
        if not all(number.interval for number in numbers):
            raise InputError(
                f'The claim "{self.name}": {self.column} of {numbers[0].table} has no interval, so'
                " that nothing can be decided by it."
            )

    def _list_members(
        self, found: Mapping[str, TableNumber], contrast: Contrast
    ) -> dict[str, tuple[str, ...]]:
        """The models that the numbers are of, by the name of the number; of a row about families
        the models of the families."""
        if "where" in found and (members := found["where"].row.get("members")):
            from sslens.comparisons.parts import split_members

            return split_members(str(members))
        named = {"where": contrast.a, "a": contrast.a, "b": contrast.b, "control": "control"}
        return {named[key]: one.models for key, one in found.items() if one.models}

    def _list_controls(self, found: Mapping[str, TableNumber]) -> list[Contrast]:
        """What stands beside the claim."""
        if "control" not in found:
            return []
        control = found["control"]
        if "where" in found:
            return [Contrast(describe(self.control), "the same", control.value)]
        difference = self._subtract_rows(found["a"], control)
        return [Contrast(*_name_apart(self.a, self.control), difference, paired=False)]


def require_where(value: object, what: str) -> Where:
    """Return the values by which a row is chosen.

    Args:
        value: what a file has.
        what: what it is, for the message.

    Raises:
        InputError: it is no mapping from columns to texts, numbers, true or false.
    """
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            f"{what} is {value!r}: expected columns and values, such as {{model: dino_vitb16}}."
        )
    for column, one in value.items():
        if not isinstance(column, str) or not isinstance(one, str | int | float | bool):
            raise InputError(f"{what} has {column}: {one!r}, where one value of a column must be.")
    return dict(value)


def _name_apart(one: Where, other: Where) -> tuple[str, str]:
    """Name two rows by the values in which they differ.

    >>> _name_apart({"model": "mae", "tap": "norm"}, {"model": "dino", "tap": "norm"})
    ('mae', 'dino')
    """
    apart = [key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)]
    texts = [
        ", ".join(str(where[key]) for key in apart if key in where) or describe(where)
        for where in (one, other)
    ]
    return texts[0], texts[1]


def _read_trainings(
    number: TableNumber | None, column: str, contrast: Contrast
) -> tuple[Contrast | None, int | None]:
    """The interval of a difference over images and trainings, and the number of trainings; None
    where the table has none."""
    if number is None:
        return None, None
    prefix = "" if column == "difference" else f"{column}_"
    row: Mapping[str, Any] = number.row
    count = row.get(f"{prefix}trainings")
    if count is None or count != count:
        return None, None
    low, high = (row.get(f"{prefix}trainings_{end}", float("nan")) for end in ("low", "high"))
    if low != low or "trainings" in contrast.difference.over:
        return None, int(count)
    value, over = contrast.difference.value, f"{contrast.difference.over} and trainings"
    estimate = Estimate(value, float(low), float(high), over, int(count))
    return Contrast(contrast.a, contrast.b, estimate), int(count)
