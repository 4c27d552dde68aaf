"""What is measured: every sampler on its time grids, as many steps as a budget of network calls allows.

Calls are counted while a sampler runs, so a step that asks twice counts twice.
"""

import bisect
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils._validate import require_callable, require_count, require_type
from course_utils.metrics import GRIDS
from course_utils.samplers import (
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
    sample_dpmpp_2s,
    sample_euler,
    sample_heun,
    sample_unipc,
)
from course_utils.schedules import Schedule, check_grid, require_schedule

LONGEST = 1000  # DDPM's own number of steps: the yardstick, for DDPM alone
BUDGETS = (5, 10, 20, 50, 100, LONGEST)  # network calls a sample that a sampler may spend


class Contender(NamedTuple):
    """A sampler, and the time grid that it runs on."""

    sampler: str
    sample: Callable[..., Tensor]
    grid: str  # one of GRIDS


# On two grids: the uniform one, and the quadratic one, which takes more of its steps where there is little noise.
# Euler's step is DDIM's, so it stands for DDIM on the second.
CONTENDERS = (
    Contender("ddpm", sample_ddpm, "uniform"),
    Contender("ddim", sample_ddim, "uniform"),
    Contender("heun", sample_heun, "uniform"),
    Contender("dpmpp_2m", sample_dpmpp_2m, "uniform"),
    Contender("unipc_3", functools.partial(sample_unipc, order=3), "uniform"),
    Contender("euler", sample_euler, "quadratic"),
    Contender("dpmpp_2s", sample_dpmpp_2s, "quadratic"),
    Contender("dpmpp_2m", sample_dpmpp_2m, "quadratic"),
    Contender("unipc_2", functools.partial(sample_unipc, order=2), "quadratic"),
    Contender("unipc_3", functools.partial(sample_unipc, order=3), "quadratic"),
)


class Plan(NamedTuple):
    """A measurement to be made."""

    contender: Contender
    timesteps: list
    nfe: int


class Counted:
    """A denoiser that counts the images it is asked about, and tells `progress` about each batch of them."""

    def __init__(self, denoise: Callable[..., Tensor], progress: Callable[[int], object] | None = None):
        self.denoise, self.progress, self.images = denoise, progress, 0

    def __call__(self, x_t: Tensor, t: object, **cond: object) -> Tensor:
        self.images += len(x_t)
        x0_hat = self.denoise(x_t, t, **cond)
        if self.progress:
            self.progress(len(x_t))
        return x0_hat


def network_calls(sample: Callable[..., Tensor], schedule: Schedule, timesteps: Sequence[int | float]) -> int:
    """Network calls that a sampler makes on a grid, counted on a network that costs nothing."""
    require_callable("sample", sample)
    check_grid(timesteps, schedule)
    nothing = Counted(lambda x_t, t, **cond: torch.zeros_like(x_t))
    sample(nothing, torch.ones(1, 1), schedule, timesteps, generator=torch.Generator())
    return nothing.images


def plan_within(contender: Contender, schedule: Schedule, budget: int) -> Plan:
    """The longest grid on which a sampler stays within `budget` network calls.

    Raises ValueError if even a single step asks more often.
    """
    require_type("contender", contender, Contender, "a Contender")
    require_schedule(schedule)
    budget = require_count("budget", budget)

    @functools.cache
    def calls(steps: int) -> int:
        return network_calls(contender.sample, schedule, GRIDS[contender.grid](schedule, steps))

    steps = min(budget, schedule.T or budget)  # at one call a step; if that is too many:
    if calls(steps) > budget:
        steps = bisect.bisect_right(range(1, steps), budget, key=calls)  # more steps, more calls
    if not steps:
        raise ValueError(f"budget: {contender.sampler} asks {calls(1)} times in a single step, got {budget}")
    return Plan(contender, GRIDS[contender.grid](schedule, steps), calls(steps))


def planned(schedule: Schedule, budgets: Sequence[int] = BUDGETS) -> list[Plan]:
    """Every sampler at every budget, but DDPM alone from LONGEST on; cheap ones first."""
    plans = [
        plan_within(contender, schedule, budget)
        for budget in budgets
        for contender in (CONTENDERS if budget < LONGEST else CONTENDERS[:1])
    ]
    return sorted(plans, key=lambda plan: plan.nfe)
