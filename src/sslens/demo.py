"""The demo: models that come with the package, compared on generated images, with a report."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sslens.study import Study

BANK, TEST = 2000, 1024
#: one model of each objective, a second seed of one of them, two fine-tuned models, and a control
#: that was fine-tuned in the same way
MODELS = (
    "scenes_mae",
    "scenes_mae_seed1",
    "scenes_moco_v3",
    "scenes_dino",
    "scenes_msn",
    "scenes_mae_ft",
    "scenes_moco_v3_ft",
    "scenes_random_ft",
)
#: the analyses that together take about a minute
ANALYSES = (
    "cka-blocks",
    "cka-layer-types",
    "cka-finetune",
    "knn-depth",
    "factors-depth",
    "finetune-path",
    "neighbours",
)
NOTE = (
    "These are small Vision Transformers of one architecture, trained on generated scenes on two"
    " processor cores: they show the way through, and are not the papers' models. What they can and"
    " cannot tell is what stands beyond the controls; `sslens zoo NAME` says how each was trained."
)


def declare_demo(device: str = "auto") -> "Study":
    """Declare the demo's study: the shipped models on scenes that none of them was trained on.

    Raises:
        InputError: there is no such device.
    """
    from sslens.study import Study

    # the models were trained on the scenes of seeds 0 and 3; scenes of other seeds are new to them
    return Study(
        models=MODELS,
        images=f"scenes:1:{TEST}",
        bank=f"scenes:2:{BANK}",
        analyses=ANALYSES,
        limit=None,
        device=device,
    )
