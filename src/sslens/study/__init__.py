"""A study: models × images × analyses, declared in a few lines, planned before it starts, and
cached step by step.

What is expensive (a pass of a model over the images) is kept in the store, addressed by its
content; so is each table. A study that was stopped goes on with what is missing, on this machine or
on any that has the same store.
"""

from sslens.study.asked import Study, read
from sslens.study.planning import StudyPlan, prepare
from sslens.study.running import run

__all__ = ["Study", "StudyPlan", "prepare", "read", "run"]
