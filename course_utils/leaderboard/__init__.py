"""The leaderboard: one trained network, every sampler, quality against network calls.

`run` measures what is missing in a network's table, cheap rows first, and writes each row before it goes on, so a run
that was stopped goes on where it was. `add` measures a sampler of your own at the same settings, to stand beside the
stored rows; `table` and `figure` show them. Lesson 11 reads it.
"""

from course_utils.leaderboard.guided import PLANS as GUIDANCE_PLANS
from course_utils.leaderboard.guided import (
    GuidancePlan,
    GuidedRow,
    load_guided,
    measure_guided,
    missing_guided,
    run_guided,
)
from course_utils.leaderboard.measuring import add, affordable, measure, missing, run
from course_utils.leaderboard.memory import (
    MemoryPlan,
    MemoryRow,
    load_memory,
    measure_memory,
    missing_memory,
    run_memory,
)
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
from course_utils.leaderboard.scale import ScalePlan, ScaleRow, load_scale, measure_scale, run_scale, training_flops
from course_utils.leaderboard.show import at, figure, table

__all__ = [
    "BUDGETS",
    "CONTENDERS",
    "GRIDS",
    "GUIDANCE_PLANS",
    "LONGEST",
    "Contender",
    "Counted",
    "GuidancePlan",
    "GuidedRow",
    "MemoryPlan",
    "MemoryRow",
    "Plan",
    "Row",
    "ScalePlan",
    "ScaleRow",
    "add",
    "affordable",
    "at",
    "figure",
    "load",
    "load_guided",
    "load_memory",
    "load_scale",
    "measure",
    "measure_guided",
    "measure_memory",
    "measure_scale",
    "missing",
    "missing_guided",
    "missing_memory",
    "network_calls",
    "path_of",
    "plan_within",
    "planned",
    "run",
    "run_guided",
    "run_memory",
    "run_scale",
    "save",
    "stored",
    "table",
    "training_flops",
]
