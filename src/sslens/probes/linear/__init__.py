"""Linear and deeper probes: hundreds trained together.

`train_probes` trains heads at every point of a grid on `Held`, `Stored` or `Augmented` features.
`train_converged` trains deeper heads until they have converged, at a point inside their grid.
`outcomes` chooses each head's point on validation images and tests it on test images.
`few_shot_outcomes` does both with a share of the labels, and `train_in_folds` in folds, so that
each image is tested once.
"""

from sslens.probes.linear.augmented import Augmented
from sslens.probes.linear.batches import Batches, Held, Stored, usual_batch
from sslens.probes.linear.choosing import Outcome, choose, table
from sslens.probes.linear.converged import ConvergedHead
from sslens.probes.linear.converging import train_converged
from sslens.probes.linear.grid import GRIDS, Point, paper_grid, small_grid
from sslens.probes.linear.heads import Head
from sslens.probes.linear.protocols import few_shot_outcomes, train_in_folds
from sslens.probes.linear.training import Probes, outcomes, require_top, train_probes

__all__ = [
    "GRIDS",
    "Augmented",
    "Batches",
    "ConvergedHead",
    "Head",
    "Held",
    "Outcome",
    "Point",
    "Probes",
    "Stored",
    "choose",
    "few_shot_outcomes",
    "outcomes",
    "paper_grid",
    "require_top",
    "small_grid",
    "table",
    "train_converged",
    "train_in_folds",
    "train_probes",
    "usual_batch",
]
