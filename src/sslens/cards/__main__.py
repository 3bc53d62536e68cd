"""`python -m sslens.cards` prints the table of docs/zoo.md."""

from sslens.cards import Card, cards
from sslens.counts import spell_count

HEAD = (
    "name",
    "what it is",
    "objective",
    "family",
    "architecture",
    "epochs",
    "licence",
    "weights",
    "verified by",
)


def markdown() -> str:
    """All cards as a table in Markdown, one a row."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(_row(card) for card in cards().values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _row(card: Card) -> tuple[str, ...]:
    tuned = {False: "", "fine-tuned": ", fine-tuned", "linear": ", linear probe"}[card.tuned]
    weights = (
        f"[{card.filename}]({card.url})"
        if card.url
        else "with sslens"
        if card.file
        else f"`{card.source}`"
    )
    hashes = {
        "sha256": card.sha256,
        "sha256, first digits": card.sha256_prefix,
        "md5, first digits": card.md5_prefix,
    }
    verified = next(
        (name for name, value in hashes.items() if value), "by timm" if card.source else "—"
    )
    return (
        f"`{card.name}`",
        f"[{card.title}](https://arxiv.org/abs/{card.paper.arxiv})",
        card.objective or "none",
        f"{card.family}{tuned}",
        f"`{card.arch}`" + (f", {spell_count(card.heads, 'head')}" if card.heads else ""),
        f"{card.epochs:,}" if card.epochs else "",
        card.licence,
        weights,
        verified,
    )


if __name__ == "__main__":
    print(markdown(), end="")
