"""The leaderboard: one trained network, every sampler, quality against network calls.

`run` measures what is missing in a network's table, cheap rows first, and writes each row before it goes on, so a run
that was stopped goes on where it was. `add` measures a sampler of your own at the same settings, to stand beside the
stored rows; `table` and `figure` show them. Lesson 11 reads it.
"""

from course_utils.leaderboard.measuring import add, affordable, measure, missing, run
from course_utils.leaderboard.plans import (
    BUDGETS,
    CONTENDERS,
    GRIDS,
    LONGEST,
    Contender,
    Counted,
    Plan,
    network_calls,
    plan_within,
    planned,
)
from course_utils.leaderboard.rows import Row, load, path_of, save, stored
from course_utils.leaderboard.show import at, figure, table

__all__ = [
    "BUDGETS",
    "CONTENDERS",
    "GRIDS",
    "LONGEST",
    "Contender",
    "Counted",
    "Plan",
    "Row",
    "add",
    "affordable",
    "at",
    "figure",
    "load",
    "measure",
    "missing",
    "network_calls",
    "path_of",
    "plan_within",
    "planned",
    "run",
    "save",
    "stored",
    "table",
]
