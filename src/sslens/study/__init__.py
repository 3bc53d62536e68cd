"""A study: models × images × analyses, declared in a few lines, planned before it starts, and
cached step by step.

What is expensive (a pass of a model over the images) is kept in the store, addressed by its
content; so is each table. A study that was stopped goes on with what is missing, on this machine or
on any that has the same store.
"""

from typing import TYPE_CHECKING

from sslens.find import lazy_names

if TYPE_CHECKING:
    from sslens.study.asked import Study as Study
    from sslens.study.asked import read as read
    from sslens.study.planning import StudyPlan as StudyPlan
    from sslens.study.planning import prepare as prepare
    from sslens.study.result import Result as Result
    from sslens.study.running import carry_out as carry_out
    from sslens.study.running import run as run

__all__ = ["Result", "Study", "StudyPlan", "carry_out", "prepare", "read", "run"]

# a name is fetched when it is first used: what is asked can be refused without what carries it out
__getattr__ = lazy_names(
    __name__,
    {
        "Result": "sslens.study.result",
        "Study": "sslens.study.asked",
        "StudyPlan": "sslens.study.planning",
        "carry_out": "sslens.study.running",
        "prepare": "sslens.study.planning",
        "read": "sslens.study.asked",
        "run": "sslens.study.running",
    },
)
