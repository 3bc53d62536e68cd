"""The files that sslens wrote into a folder, in a list that lies in the folder: other files there
are never written over, emptied or removed.

The list, `.sslens.json`, also says what the files are of: a study with its settings, or a training.
Each file is listed before it is written, so that after a kill no file of ours is taken for
someone's own.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.store import write_beside
from sslens.whole_file import open_regular

#: the list in the folder
LIST = ".sslens.json"
#: the word for files in a folder that nothing has claimed as a whole
UNCLAIMED = "files"
#: the word for the files of a training, whose weights took long and may be what is compared
TRAINING = "training"
#: what is replaced by its own kind alone
KEPT = (TRAINING, UNCLAIMED)
#: values of a setting that are shown where two studies differ, and characters of each
SHOWN, WIDTH = 3, 60
#: how the names of settings begin that are digests
DIGEST = "digest of "


@final
@dataclass(frozen=True)
class Contents:
    """What a folder's list says.

    Attributes:
        kind: the word for what the files are of, such as "study".
        asked: its settings, as plain JSON values.
        command: the command line that wrote it, or nothing.
        files: the paths of the files below the folder, with slashes.
    """

    kind: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    files: frozenset[str] = frozenset()

    def is_same(self, kind: str, asked: Mapping[str, Any]) -> bool:
        """Whether the list is of this study or training."""
        return self.kind == kind and _as_plain(self.asked) == _as_plain(asked)

    def explain(self, kind: str, asked: Mapping[str, Any]) -> str:
        """Say what the files are of, and in what that differs from what is asked for.

        >>> Contents("study", {"models": ["a"], "limit": 8}).explain("study", {"models": ["b"]})
        'another study (limit was 8 and is not given now; models was a and is now b)'
        >>> Contents(UNCLAIMED).explain("study", {})
        'files that sslens wrote'
        """
        name = f"another {kind}" if self.kind == kind else f"a {self.kind}"
        name = "files that sslens wrote" if self.kind == UNCLAIMED else name
        by = f" by `{_cut(self.command)}`" if self.command else ""
        if self.kind != kind:
            return f"{name}{by}"
        before, now = _as_plain(self.asked), _as_plain(asked)
        apart = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        apart.sort(key=lambda key: key.startswith(DIGEST))  # words first
        changes = "; ".join(
            _word_change(key, before.get(key), now.get(key)) for key in apart[:SHOWN]
        )
        more = (
            f"; and {spell_count(len(apart) - SHOWN, 'more setting')}" if len(apart) > SHOWN else ""
        )
        return f"{name}{by} ({changes}{more})"


def _as_plain(asked: Mapping[str, Any]) -> Mapping[str, object]:
    """Settings as they come back from a list."""
    plain: Mapping[str, object] = json.loads(json.dumps(dict(asked), default=str))
    return plain


def _word_change(key: str, before: Any, now: Any) -> str:
    """Say how a setting changed; of a digest what is other, and then the digests; of lists that
    look alike where they are cut what only one of them has.

    >>> _word_change("digest of the images", "f4eaa", "34aab")
    'the images are not the same ones (digest f4eaa, now 34aab)'
    >>> paths = [f"trainings/of/the/year/before/checkpoint-{n}.pth" for n in (5, 12, 20)]
    >>> _word_change("models", paths, [paths[0], paths[2]])
    'models lost trainings/of/the/year/before/checkpoint-12.pth'
    """
    if key.startswith(DIGEST) and before and now:
        return f"{key.removeprefix(DIGEST)} are not the same ones (digest {before}, now {now})"
    was, is_now = _word_value(before, "was"), _word_value(now, "is now")
    alike = was.removeprefix("was") == is_now.removeprefix("is now")
    if alike and isinstance(before, list) and isinstance(now, list):
        return f"{key} {word_lists(before, now)}"
    return f"{key} {was} and {is_now}"


def word_lists(before: list[Any], now: list[Any]) -> str:
    """Say what a list lost and what it gained.

    >>> word_lists(["cat", "dog", "fox", "owl"], ["cat", "cow", "dog", "fox"])
    'lost owl and gained cow'
    """
    apart = []
    for verb, one, other in (("lost", before, now), ("gained", now, before)):
        if names := [str(name) for name in one if name not in other]:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            apart.append(f"{verb} {', '.join(names[:SHOWN])}{more}")
    return " and ".join(apart) or "is in another order"


def _word_value(value: Any, verb: str) -> str:
    if value is None:
        return "was not given" if verb == "was" else "is not given now"
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or "empty"
    return f"{verb} {_cut(str(value))}"


def _cut(text: str) -> str:
    """Shorten a text in its middle, between words where there are some.

    >>> _cut("sslens compare " + "model " * 20 + "images")
    'sslens compare model model … model model model images'
    """
    half = WIDTH // 2
    if len(text) <= WIDTH:
        return text
    first, last = text[: half - 1], text[-half:]
    if " " in first and " " in last:
        first, last = f"{first.rpartition(' ')[0]} ", f" {last.partition(' ')[2]}"
    return f"{first}…{last}"


@final
@dataclass(frozen=True)
class OwnFiles:
    """A folder with the list of the files that sslens wrote into it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "mine.csv").write_text("a")
    >>> own = OwnFiles(folder)
    >>> own.claim("study", {"models": ["mae"]})
    >>> own.before(folder / "ours.csv").name
    'ours.csv'
    >>> own.before(folder / "mine.csv")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sslens.errors.InputError: .../mine.csv is there, and sslens did not write it: ...

    Attributes:
        folder: the folder, which need not be there yet.
    """

    folder: Path

    def read(self) -> Contents | None:
        """Read the list; None where there is none.

        Raises:
            InputError: the list is damaged.
        """
        path = self.folder / LIST
        try:
            with open_regular(path) as file:
                values = json.loads(file.read())
            kind, files = values["kind"], values["files"]
            if not (isinstance(kind, str) and all(_is_inside(name) for name in files)):
                raise ValueError("a name leads out of the folder")
            return Contents(kind, dict(values["asked"]), str(values["command"]), frozenset(files))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}, the list of the files of sslens in that folder, is damaged ({error})",
                mend="choose another {out}, or remove the folder",
            ) from error

    def require_folder(self) -> None:
        """Refuse a file in the place of the folder.

        Raises:
            InputError: a file is there.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(
                f"{self.folder} is a file, and a folder is to be written",
                mend="give another {out}",
            )

    def require(
        self,
        kind: str,
        asked: Mapping[str, Any],
        *,
        names: Iterable[str] = (),
        overwrite: bool = False,
        older: Contents | None = None,
    ) -> None:
        """Refuse a folder that holds something else, or strangers' files where ours would be.

        Args:
            kind: the word for what will be written, such as "study".
            asked: its settings, as plain JSON values.
            names: paths below the folder that will surely be written.
            overwrite: whether the files of another study may be removed; those of a training only
                for another training.
            older: what the folder holds where it was written before there were lists.

        Raises:
            InputError: the folder cannot be taken.
        """
        self.require_folder()
        there = self.read() or older
        if there is not None and not there.is_same(kind, asked):
            kept = there.kind in KEPT and there.kind != kind
            replaced = "" if kept else ", or replace that one's files with {overwrite=True}"
            if kept or not overwrite:
                raise InputError(
                    f"{self.folder} holds {there.explain(kind, asked)}",
                    mend=f"give another {{out}}{replaced}",
                )
        for name in names:
            self._require_own(name, there)

    def claim(
        self,
        kind: str,
        asked: Mapping[str, Any],
        *,
        command: str = "",
        overwrite: bool = False,
        older: Contents | None = None,
    ) -> None:
        """Take the folder, after `require`: with `overwrite` the listed files of another study are
        removed first.

        Raises:
            InputError: the folder cannot be taken or written.
        """
        self.require(kind, asked, overwrite=overwrite, older=older)
        there = self.read() or older
        if there is not None and not there.is_same(kind, asked):
            self.remove_all(there)
            there = None
        files = frozenset() if there is None else there.files
        self._write(Contents(kind, asked, command, files))

    def adopt(self, older: Contents | None) -> None:
        """Write the list of a folder that was written before there were lists; nothing for None."""
        if older is not None:
            self._write(older)

    def before(self, path: Path) -> Path:
        """List a file that is about to be written; returns its path.

        Raises:
            InputError: a file of that name is there, and is not listed.
        """
        self.before_all([path])
        return path

    def before_all(self, paths: Iterable[Path]) -> None:
        """List files that are about to be written, at once.

        Raises:
            InputError: a file of one of these names is there, and is not listed.
        """
        names, there = {self._name(path) for path in paths}, self.read() or Contents(UNCLAIMED)
        for name in sorted(names):
            self._require_own(name, there)
        if not names <= there.files:
            files = there.files | names
            self._write(Contents(there.kind, there.asked, there.command, files))

    def remove(self, path: Path) -> None:
        """Remove a file if it is listed, and do nothing otherwise."""
        there, name = self.read(), self._name(path)
        if there is not None and name in there.files:
            path.unlink(missing_ok=True)

    def has(self, path: Path) -> bool:
        """Whether a file is listed."""
        there = self.read()
        return there is not None and self._name(path) in there.files

    def remove_all(self, there: Contents | None = None) -> None:
        """Remove all listed files, the list, what a kill left half-written of them, and folders
        that are then empty."""
        there = there or self.read()
        if there is None:
            return
        for name in sorted(there.files):
            if self._leads_here(name):
                (self.folder / name).unlink(missing_ok=True)
        self.remove_parts(there)
        (self.folder / LIST).unlink(missing_ok=True)
        below = {parent for name in there.files for parent in Path(name).parents} - {Path()}
        for folder in sorted(below, key=lambda one: -len(one.parts)):
            with contextlib.suppress(OSError):  # not empty: someone's own files are in it
                (self.folder / folder).rmdir()

    def remove_parts(self, there: Contents | None = None) -> None:
        """Remove what a kill left half-written of listed files (`store.write_beside`)."""
        there = there or self.read()
        names = sorted(there.files) if there is not None else []
        for name in (*names, *([LIST] if names else [])):
            path = self.folder / name
            part = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.part")
            if self._leads_here(name) and path.parent.is_dir():
                for other in path.parent.iterdir():
                    if part.fullmatch(other.name):
                        other.unlink(missing_ok=True)

    def _leads_here(self, name: str) -> bool:
        """Whether a listed file lies in the folder, and not behind a link out of it."""
        return (self.folder / name).parent.resolve().is_relative_to(self.folder.resolve())

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _require_own(self, name: str, there: Contents | None) -> None:
        path = self.folder / name
        if (there is None or name not in there.files) and (path.exists() or path.is_symlink()):
            raise InputError(
                f"{path} is there, and sslens did not write it",
                mend="move it away, or give another {out}",
            )

    def _write(self, contents: Contents) -> None:
        values = {
            "kind": contents.kind,
            "asked": contents.asked,
            "command": contents.command,
            "files": sorted(contents.files),
        }
        with write_beside(self.folder / LIST, durable=False) as temporary:
            temporary.write_text(json.dumps(values, indent=1, default=str) + "\n", encoding="utf-8")


def _is_inside(name: object) -> bool:
    """Whether a listed name is a path below the folder: a list is a file, and no file is trusted.

    >>> [_is_inside(name) for name in ("a/b.csv", "../b.csv", "/etc/b", "", 3)]
    [True, False, False, False, False]
    """
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        return False
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and path.parts != ()
