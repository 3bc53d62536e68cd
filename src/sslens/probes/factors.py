"""Probes of the factors with which images were generated: position, size, orientation, hue,
texture, …."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes.ridge import LAMBDAS, ridge
from sslens.statistics.explained import estimate_r2
from sslens.statistics.proportions import estimate_share

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["categorical", "continuous", "circular"]

#: factors of which 360° is 0° again
CIRCULAR = frozenset({"hue", "background_hue", "light_angle"})

UNITS = {
    "factor": "what is decoded",
    "kind": "categorical, continuous or circular (as its sine and cosine)",
    "measure": "accuracy (share of test images), or R² (1 is all, 0 no better than the mean)",
    "value": "on test images",
    "low": "lower end of the 95 % interval over test images: Wilson's, or `explained.estimate_r2`",
    "high": "upper end",
    "chance": "share of the most frequent class of the test images; 0 for R²",
    "decoded": (
        "R², or (accuracy − chance) / (1 − chance): 1 where all is known, 0 where nothing is"
    ),
    "penalty": "λ of the ridge regression, chosen by leave-one-out on the training images",
}


def kind_of(name: str, values: "pd.Series[Any]") -> Kind:
    """Return the kind of a factor: "circular" by its name (`CIRCULAR`), "continuous" where its
    values are numbers with a fraction, else "categorical".

    >>> import pandas as pd
    >>> number, name = pd.Series([1.5]), pd.Series(["left"])
    >>> kind_of("hue", number), kind_of("x", number), kind_of("facing", name)
    ('circular', 'continuous', 'categorical')
    """
    if name in CIRCULAR:
        return "circular"
    return "continuous" if values.dtype.kind == "f" else "categorical"


def decode(
    features: Float[Tensor, "image dim"],
    factors: "pd.DataFrame",
    test_features: Float[Tensor, "test dim"],
    test_factors: "pd.DataFrame",
) -> "pd.DataFrame":
    """Measure how well each factor is read from features by a ridge probe.

    All factors are targets of one regression (`ridge`): a number as it is, an angle as its sine and
    cosine, a category as one target for each class. Each factor takes the penalty with which the
    left-out predictions on the training images are best. R² is 1 − Σ(y − ŷ)² / Σ(y − ȳ)² over test
    images, for an angle over both sine and cosine.

    Args:
        features: of the training images.
        factors: a row for each training image, a column for each factor.
        test_features: of the test images.
        test_factors: a row for each test image.

    Returns:
        A row for each factor, with the columns of `UNITS`.

    Raises:
        InputError: a frame has not one row for each image, a factor is missing in the test frame,
            or a factor never varies.

    >>> import pandas as pd
    >>> x = torch.linspace(-3, 3, 40)[:, None]
    >>> side = np.where(x[:, 0] > 0, "right", "left")
    >>> frame = pd.DataFrame({"x": 2 * x[:, 0].numpy(), "side": side})
    >>> found = decode(x, frame, x, frame)
    >>> found[["factor", "measure", "value", "decoded"]].round(3).values.tolist()
    [['x', 'R²', 1.0, 1.0], ['side', 'accuracy', 1.0, 1.0]]
    """
    import pandas as pd

    _require_rows((features, factors), (test_features, test_factors))
    coded = {
        str(name): _Coded.of(str(name), factors[name], test_factors[name])
        for name in factors.columns
    }
    path = ridge(features, torch.cat([factor.targets for factor in coded.values()], 1))
    predicted = path.predict(test_features)
    rows, start = [], 0
    for name, factor in coded.items():
        part = slice(start, start + factor.targets.shape[1])
        start = part.stop
        best = factor.best(path.left_out[:, :, part].contiguous())
        scores = factor.scores(predicted[best][:, part])
        rows.append({"factor": name, "kind": factor.kind, **scores, "penalty": LAMBDAS[best]})
    return pd.DataFrame(rows, columns=list(UNITS))


def _require_rows(
    training: tuple[Float[Tensor, "image dim"], "pd.DataFrame"],
    test: tuple[Float[Tensor, "test dim"], "pd.DataFrame"],
) -> None:
    """Refuse frames that have not a row for each image, or not the same factors."""
    for x, frame in (training, test):
        if len(x) != len(frame):
            raise InputError(
                f"There are factors of {spell_count(len(frame), 'image')}, and features of"
                f" {len(x):,}: give a row an image."
            )
    missing = [str(name) for name in training[1].columns if name not in test[1].columns]
    if missing:
        raise InputError(f"The test images' factors lack {', '.join(missing)}.")


@dataclass(frozen=True)
class _Coded:
    """A factor as numbers."""

    kind: Kind
    targets: Float64[Tensor, "image target"]
    test: Float64[Tensor, "test target"]

    @classmethod
    def of(cls, name: str, train: "pd.Series[Any]", test: "pd.Series[Any]") -> "_Coded":
        kind = kind_of(name, train)
        if train.nunique() < 2 or test.nunique() < 2:
            raise InputError(
                f"The factor {name} is the same for all images: there is nothing to decode, leave"
                " it out."
            )
        if kind == "categorical":
            classes = sorted(train.astype(str).unique())
            targets = [
                torch.from_numpy(
                    (values.astype(str).to_numpy()[:, None] == np.array(classes)).astype(np.float64)
                )
                for values in (train, test)
            ]
            return cls(kind, *targets)
        numbers = [
            torch.from_numpy(values.to_numpy(np.float64).copy())[:, None]
            for values in (train, test)
        ]
        if kind == "circular":
            numbers = [torch.cat([x.deg2rad().sin(), x.deg2rad().cos()], 1) for x in numbers]
        return cls(kind, numbers[0], numbers[1])

    def best(self, left_out: Float64[Tensor, "lambda image target"]) -> int:
        """The row of the penalty that does best on images left out; of equals the largest
        penalty."""
        if self.kind == "categorical":
            good = (left_out.argmax(2) == self.targets.argmax(1)).double().mean(1)
        else:
            good = -(left_out - self.targets).square().mean((1, 2))
        return max(range(len(good)), key=lambda row: (float(good[row]), row))

    def scores(self, predicted: Float64[Tensor, "test target"]) -> Mapping[str, Any]:
        """Value, interval, chance and what is decoded."""
        if self.kind == "categorical":
            # a class that no training image has is never predicted, and never right
            known = self.test.sum(1) > 0
            right = (predicted.argmax(1) == self.test.argmax(1)) & known
            chance = float(self.test.mean(0).max())
            estimate, measure = estimate_share(right.numpy()), "accuracy"
            decoded = (estimate.value - chance) / (1 - chance) if chance < 1 else np.nan
        else:
            estimate, measure = estimate_r2(self.test.numpy(), predicted.numpy()), "R²"
            chance, decoded = 0.0, estimate.value
        scores = estimate.columns("value", ("low", "high"))
        return {"measure": measure, **scores, "chance": chance, "decoded": decoded}
