"""How probes are trained. The labelled images must be enough to train, choose and test them."""

from sslens.comparisons.inputs import ProbeSettings
from sslens.study.image_sets import LEAST, may_have_more
from sslens.study.needs import labels
from sslens.study.situation import Captured, Lack, Situation

TYPE = ProbeSettings


def unmet(situation: Situation) -> Lack | None:
    """Probes need images of two classes or more, and several of each."""
    from sslens.comparisons.probe_split import explain_unfit

    lack = labels.unmet(situation)
    if lack is not None:
        return lack
    images, bank = situation.images, situation.bank
    assert images is not None
    assert images.labels is not None
    reason = explain_unfit(images.labels, None if bank is None else bank.labels, images.classes)
    if reason is None:
        return None
    if bank is not None:
        mend = "add images of these classes to {bank}"
    elif may_have_more(images, LEAST):
        mend = "raise {limit}, since the sample is too small and not the folder, or give {bank}"
    else:
        mend = "add images, since the folder is too small and not the sample, or give {bank}"
    return Lack(reason, mend, noted=True)


def gather(captured: Captured) -> ProbeSettings:
    """Return how the study trains probes, and the device on which probes are trained."""
    situation = captured.situation
    return ProbeSettings(situation.study.grid, situation.device, situation.quiet)


def key(value: ProbeSettings) -> str:
    """Return how probes are trained; the device does not count, since it decides no result."""
    return value.grid
