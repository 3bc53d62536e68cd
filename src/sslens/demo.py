"""The whole way on generated images: the models that come with the package, compared, with a report."""

from collections.abc import Callable
from pathlib import Path

from sslens.cards import cards

BANK, TEST = 4000, 1024
NOTE = (
    "These are small Vision Transformers, one architecture, trained on generated scenes on two processor cores: they show the "
    "way through, not the papers' models. What they can and cannot tell is what stands beyond the controls; `sslens zoo NAME` "
    "says how each was trained."
)


def models() -> tuple[str, ...]:
    """The names of the models that come with the package, by family.

    >>> "scenes_mae" in models()
    True
    """
    shipped = [card for card in cards().values() if card.file is not None and not card.tuned]
    return tuple(card.name for card in sorted(shipped, key=lambda card: (card.family, card.name)))


def run_demo(
    out: Path,
    *,
    device: str = "auto",
    dry_run: bool = False,
    command: str = "sslens demo",
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Compare the shipped models and their controls on scenes that none of them was trained on.

    Raises:
        InputError: what was given cannot be used.
    """
    from sslens.study import Study, run

    # scenes of other seeds are other scenes: the models were trained on those of seed 0
    study = Study(models=models(), images=f"scenes:1:{TEST}", bank=f"scenes:2:{BANK}", limit=None, device=device)
    return run(study, out, command=command, title="sslens demo", notes=[NOTE], dry_run=dry_run, say=say)
