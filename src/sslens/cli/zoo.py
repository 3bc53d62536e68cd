"""`sslens zoo`."""

import dataclasses
import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import tyro

from sslens.arguments.options import Text
from sslens.cards import Card, cards, look_up, names
from sslens.counts import spell_count
from sslens.errors import InputError, nearest
from sslens.zoo.cache import is_here, locate

GROUP = "begin"

#: columns of a terminal that the table fits
WIDTH = 120
#: letters that are left at least of a licence, then of an architecture, where lines are too long
LEAST = {5: 16, 3: 12}


@dataclass(frozen=True)
class Command:
    """List the checkpoints that can be loaded by name. Of one, show all that is known.

    Examples:
      sslens zoo                                    all of them
      sslens zoo mae_vitb16                         one card
      sslens zoo vitb16 full                        cards in whose name, alias or title both words
          are
      sslens zoo JE                                 cards of a family, or of an objective
      sslens zoo --family JE --arch vit_base
      sslens zoo --objective dino --json
    """

    words: tyro.conf.Positional[tuple[str, ...]] = ()
    """A card's name, or words to look for."""
    family: str | None = None
    """JE (joint embedding), REC (reconstruction), supervised, language-image, distilled, or
    control."""
    objective: str | None = None
    """dino, mae, moco-v3, msn, fcmae, …"""
    arch: str | None = None
    """The beginning of an architecture's name, such as vit_base, or any part of it."""
    json: bool = False
    """Print the cards as JSON, with all their fields."""


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; the answer goes to standard output."""
    card = look_up(command.words[0]) if len(command.words) == 1 else None
    if card is not None and not (command.family or command.objective or command.arch):
        print(
            json.dumps(describe_card(card), ensure_ascii=False, indent=2)
            if command.json
            else show_card(card)
        )
        return None
    chosen = select_cards(command)
    if command.json:
        print(json.dumps([describe_card(card) for card in chosen], ensure_ascii=False, indent=2))
    else:
        print(format_table(chosen, WIDTH if sys.stdout.isatty() else None))
        say(
            f"{len(chosen)} of {len(cards())} cards. sslens zoo NAME shows one; timm:NAME and files"
            " load too."
        )
    return None


def select_cards(command: Command) -> list[Card]:
    """The cards that a command asks for.

    Raises:
        InputError: no card has that family, objective, architecture or these words; the nearest are
            offered.
    """
    chosen = list(cards().values())
    for option in ("family", "objective"):
        asked = getattr(command, option)
        if asked is not None:
            there = {str(getattr(card, option)) for card in chosen}
            chosen = [
                card for card in chosen if str(getattr(card, option)).lower() == asked.lower()
            ]
            if not chosen:
                raise InputError(f'No card has the {option} "{asked}": {nearest(asked, there)}')
    if command.arch is not None:
        there = {card.arch for card in chosen}
        chosen = [card for card in chosen if command.arch in card.arch]
        if not chosen:
            raise InputError(
                f'No card has "{command.arch}" in its architecture: {nearest(command.arch, there)}'
            )
    for word in command.words:
        matching = [card for card in chosen if has_word(card, word)]
        if not matching:
            raise InputError(
                f'No card has "{word}" in its name or title: {nearest(word, list_words())}'
            )
        chosen = matching
    return chosen


def has_word(card: Card, word: str) -> bool:
    """Whether a word says a card's family or objective, or else is in its name, an alias, its
    title or its architecture.

    >>> [has_word(look_up(name), "JE") for name in ("dino_vitb16", "mae_vitb16")]
    [True, False]
    """
    word = word.lower()
    every = cards().values()
    for field in ("family", "objective"):
        if word in {str(getattr(one, field)).lower() for one in every}:
            return bool(str(getattr(card, field)).lower() == word)
    return word in " ".join((card.name, *card.aliases, card.title, card.arch)).lower()


def list_words() -> set[str]:
    """List the words that find cards: names, aliases, the parts of names, families and
    objectives."""
    every = cards().values()
    parts = {part for name in names() for part in name.split("_")}
    kinds = {str(kind) for card in every for kind in (card.family, card.objective) if kind}
    return {*names(), *parts, *kinds}


def format_table(chosen: list[Card], width: int | None = WIDTH) -> str:
    """One line a card, in columns that fit a width; nothing is cut if it is None."""
    head = ("name", "objective", "family", "architecture", "size", "licence", "cached")
    rows = [
        (
            c.name,
            c.objective or "none",
            c.family + ("*" if c.tuned else ""),
            c.arch.removeprefix("timm/"),
            format_size(c),
            c.licence,
            describe_cached(c),
        )
        for c in chosen
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    over = 0 if width is None else sum(widths) + 2 * (len(widths) - 1) - width
    for column, least in LEAST.items():
        cut = max(0, min(over, widths[column] - least))
        widths[column] -= cut
        over -= cut
    lines = [
        "  ".join(clip(cell, size) for cell, size in zip(row, widths, strict=True))
        for row in [head, *rows]
    ]
    lines.append("")
    if any(card.tuned for card in chosen):
        lines.append("* trained further with labels")
    if any(format_size(card) == "?" for card in chosen):
        lines.append("? the size is not published; it is known once the file was fetched")
    return "\n".join(line.rstrip() for line in lines)


def clip(text: str, width: int) -> str:
    """The text in a column of this width.

    >>> clip("vit_base_patch16_224", 10), clip("dino", 6)
    ('vit_base_…', 'dino  ')
    """
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def format_size(card: Card) -> str:
    """The size of its file in MB, as far as the card or the cache knows it; nothing where another
    library fetches it."""
    if card.source is not None:
        return ""
    count = card.size or (locate(card).stat().st_size if is_here(card) else None)
    return "?" if count is None else f"{count / 1e6:,.0f} MB"


def describe_cached(card: Card) -> str:
    """Whether its file is in the cache."""
    return {True: "yes", False: "no", None: "by timm"}[is_here(card)]


def describe_card(card: Card) -> dict[str, object]:
    """All fields, as JSON values."""
    where = None if card.source is not None else str(locate(card))
    return dataclasses.asdict(card) | {"path": where, "cached": is_here(card)}


def show_card(card: Card) -> str:
    """One card whole."""
    trained = {
        False: "not tuned further",
        "fine-tuned": "fine-tuned with labels",
        "linear": "a linear head on it was trained",
    }
    e = card.evaluation
    rows = [
        ("objective", f"{card.objective or 'none'} ({card.family}), {trained[card.tuned]}"),
        ("architecture", card.arch + _count(card.heads, "head")),
        ("trained on", card.trained_on + _count(card.epochs, "epoch")),
        (
            "evaluation",
            (
                f"resize {e.resize} {e.interpolation}, central crop {e.crop}, mean {list(e.mean)},"
                f" std {list(e.std)}"
            ),
        ),
        ("feature", card.feature + _describe_prefix(card)),
        ("licence", card.licence + _describe_gate(card)),
        ("paper", f"{card.paper.title}, https://arxiv.org/abs/{card.paper.arxiv}"),
        ("code", card.repository or "sslens pretrain"),
        ("weights", card.origin + (f", branch {card.branch}" if card.branch else "")),
    ]
    if card.source is None:
        rows.append(("size", format_size(card) if card.size else "not published"))
        rows.append(
            (
                "sha256",
                card.sha256
                or (f"{card.sha256_prefix}…" if card.sha256_prefix else "not published"),
            )
        )
        if card.md5_prefix:
            rows.append(("md5", f"{card.md5_prefix}…"))
        if card.sha256_note:
            rows.append(("", card.sha256_note))
        rows.append(
            (
                "file",
                f"{locate(card)} ({'there' if is_here(card) else 'fetched when it is loaded'})",
            )
        )
    if card.aliases:
        rows.append(("also called", ", ".join(card.aliases)))
    rows += [*_label("note", card.notes), *_label("facts", card.facts)]
    rows.append(("load", f'sslens.load("{card.name}")'))
    body = [
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=f"  {label:<14}",
            subsequent_indent=" " * 16,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, text in rows
    ]
    return "\n".join([f"{card.name}: {card.title}", "", *body])


def _count(number: int | None, noun: str) -> str:
    """A number of things as a further clause; empty where it is not known."""
    return f", {spell_count(number, noun)}" if number else ""


def _label(label: str, lines: tuple[str, ...]) -> list[tuple[str, str]]:
    """Rows of which the first alone has a label."""
    return [(label if i == 0 else "", line) for i, line in enumerate(lines)]


def _describe_gate(card: Card) -> str:
    """Whether a file is given to everybody, where a source says it."""
    gates = {None: "", True: "; gated: accept its conditions first", False: "; not gated"}
    return gates[card.gated]


def _describe_prefix(card: Card) -> str:
    if card.prefix_tokens is None:
        return ""
    return f"; tokens before the patches: {card.prefix_tokens}"
