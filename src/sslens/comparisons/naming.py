"""The names that a study gives to two groups of models, in place of the roles of the families.

Inside, the first group has the role `JE` and the second the role `REC`: analyses and claims know
these two roles alone, so that whatever they say of two families is also said of two groups. What a
reader sees has the names of the groups.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar, final

from sslens.comparisons.roles import JE, REC
from sslens.table import Results, Table

#: columns of tables that hold no names of families
KEPT = ("picture", "image", "neighbour")
#: the words that may stand beside a role, and mean it
_MEANT = {JE: "[Jj]oint[ -]embedding", REC: "[Rr]econstruction"}
T = TypeVar("T")


@final
@dataclass(frozen=True)
class SideNames:
    """The names of two groups of models.

    Attributes:
        first: the name of the group that has the role of joint embedding.
        second: the name of the group that has the role of reconstruction.
        models: the names of all models, which are never changed.

    >>> names = SideNames("old", "new", ("a JE model",))
    >>> names.rename("JE · JE less JE · REC, without a JE model and JE.pth")
    'old · old less old · new, without a JE model and JE.pth'
    >>> names.rename("joint embedding (JE) and reconstruction models (REC)")
    'old and new models'
    """

    first: str
    second: str
    models: tuple[str, ...] = ()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """What is looked for: names of models, then roles with the words that mean them."""
        models = [re.escape(name) for name in sorted(self.models, key=len, reverse=True)]
        begin, end = r"(?<![\w.#/@=-])", r"(?![\w#/@=-]|\.\w)"
        roles = [
            rf"(?:{words}(?P<{role}_between> \w+)? \({role}\)|{role}(?:,|:) {words}|{role}){end}"
            for role, words in _MEANT.items()
        ]
        named = [rf"(?P<{role}>{text})" for role, text in zip(_MEANT, roles, strict=True)]
        kept = [rf"(?P<kept>{'|'.join(models)}){end}"] if models else []
        return re.compile(begin + f"(?:{'|'.join([*kept, *named])})")

    def rename(self, value: T) -> T:
        """Replace the roles by the names of the groups in a text, or in all texts of a value.

        Args:
            value: a text, results, a tuple, a list or a mapping of values, or a dataclass; anything
                else is returned as it is.
        """
        renamed: Any = value
        if isinstance(value, Results):
            renamed = self._rename_results(value)
        elif isinstance(value, str):
            renamed = self._pattern.sub(self._replace, value)
        elif isinstance(value, tuple | list):
            renamed = type(value)(self.rename(one) for one in value)
        elif isinstance(value, Mapping):
            renamed = {self.rename(key): self.rename(one) for key, one in value.items()}
        elif is_dataclass(value) and not isinstance(value, type):
            texts = {entry.name: self.rename(getattr(value, entry.name)) for entry in fields(value)}
            renamed = replace(value, **texts)
        result: T = renamed
        return result

    def _rename_results(self, results: Results) -> Results:
        """Replace the roles in all columns of text, and in what is said of the columns."""
        return Results({name: self._rename_table(one) for name, one in results.tables.items()})

    def _rename_table(self, table: Table) -> Table:
        frame = table.frame.copy()
        for column in frame.columns:
            if column not in KEPT and frame[column].dtype.kind == "O":
                frame[column] = frame[column].map(self.rename)
        return replace(table, frame=frame, units=self.rename(dict(table.units)))

    def _replace(self, match: re.Match[str]) -> str:
        """The text in place of one match."""
        if match.groupdict().get("kept"):
            return match[0]
        role, name = (JE, self.first) if match[JE] else (REC, self.second)
        return f"{name}{match[f'{role}_between'] or ''}"


def rename_sides(names: SideNames | None, value: T) -> T:
    """Replace the roles by the names of the groups, if the study names groups (`SideNames.rename`).

    >>> rename_sides(None, "JE less REC"), rename_sides(SideNames("old", "new"), "JE less REC")
    ('JE less REC', 'old less new')
    """
    return value if names is None else names.rename(value)
