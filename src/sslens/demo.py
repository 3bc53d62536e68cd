"""The whole way on generated images: pre-train a reconstruction and a joint-embedding model, compare them, report."""

from collections.abc import Callable
from pathlib import Path

from sslens.store import digest, home

ARCH = "vit_nano_patch8_64"
TRAIN, BANK, TEST = 8000, 4000, 1024
#: what differs from each objective's own settings; epochs are chosen so that both train in under a minute on two cores
RECIPES = {
    "mae": ({"decoder_dim": 64, "decoder_blocks": 2, "decoder_heads": 2, "base_lr": 1e-3}, 5),
    "moco-v3": ({"head_dim": 512, "out_dim": 128, "base_lr": 1e-3}, 2),
}
NOTE = (
    "This is a demonstration: a small Vision Transformer, trained for under a minute an objective on generated scenes. It shows "
    "the way through, not the papers' models; what it can and cannot tell is what stands beyond the controls."
)


def run_demo(
    out: Path,
    *,
    device: str = "auto",
    dry_run: bool = False,
    command: str = "sslens demo",
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Generate scenes, pre-train both objectives on them (or take what an earlier demo trained), and compare them.

    Raises:
        InputError: what was given cannot be used; a training that was stopped goes on at the next run.
    """
    if dry_run:
        for objective, (settings, epochs) in RECIPES.items():
            say(f"pre-train {objective}, {ARCH}, {epochs} epochs of {TRAIN:,} scenes, {settings}")
        say(f"compare them and their controls on {TEST:,} other scenes, k-NN with a bank of {BANK:,}")
        return None
    runs = tuple(str(_trained(objective, device, say)) for objective in RECIPES)
    from sslens.study import Study, run

    # scenes of other seeds are other scenes
    study = Study(models=runs, images=f"scenes:1:{TEST}", bank=f"scenes:2:{BANK}", limit=None, device=device)
    return run(study, out, command=command, title="sslens demo", notes=[NOTE], say=say)


def _trained(objective: str, device: str, say: Callable[[str], None]) -> Path:
    from sslens.data import open_images
    from sslens.find import plugin
    from sslens.training.loop import Training, train

    settings, epochs = RECIPES[objective]
    key = {"demo": 1, "objective": objective, "arch": ARCH, "settings": settings, "epochs": epochs, "images": TRAIN}
    folder = home() / "runs" / f"demo-{objective}-{digest(key)[:12]}"
    train(
        objective,
        open_images(f"scenes:0:{TRAIN}"),
        ARCH,
        folder,
        settings=plugin("objectives", objective).Settings(**settings),
        training=Training(epochs=epochs, batch_size=128, device=device, precision="float32"),
        resume=True,
        say=say,
    )
    return folder
