"""Which linear probe to use of each model: chosen on the validation images, judged on the test
images."""

from collections.abc import Iterator, Sequence

from sslens.comparisons.choices import list_choices
from sslens.comparisons.inputs import CLASSES, Models
from sslens.comparisons.options import Option, Options
from sslens.comparisons.probing import PLUS, ModelProbes, is_settled
from sslens.comparisons.rows import Row
from sslens.probes.linear.heads import Head


def list_probe_choices(models: Models, trained: Sequence[ModelProbes]) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `choices` of an exhibit of probes.

    Only linear probes that have converged with a setting inside those that were tried may be
    chosen, of models and controls alike: what deeper ones gain is told in `families`. A model of
    which the usual probe has not converged so is left out.

    Args:
        models: the models and the controls.
        trained: the probes of each model and control.
    """
    made = [_list_options(models, one) for one in trained if is_settled(one.rows[one.usual])]
    if made:
        usual = trained[0].rows[trained[0].usual]
        classes = {name: int(usual[name]) for name in CLASSES}
        yield from list_choices(made, float(usual["chance"]), classes)


def _list_options(models: Models, trained: ModelProbes) -> Options:
    """The settled linear probes of one model; of equally good ones that of one tap comes first."""
    heads = [
        head for head in trained.outcomes if head.layers == 1 and is_settled(trained.rows[head])
    ]
    heads.sort(key=lambda head: len(head.columns))
    options = [_make_option(trained, head) for head in heads]
    return Options(trained.name, models.is_control(trained.name), options, trained.chosen_on)


def _make_option(trained: ModelProbes, head: Head) -> Option:
    outcome = trained.outcomes[head]
    return Option(
        PLUS.join(tap for tap, _ in head.columns),
        head.columns[0][1],
        float(outcome.validation),
        outcome.right,
        layers=head.layers,
        usual=head == trained.usual,
    )
