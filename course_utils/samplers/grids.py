"""Time grids, and the record a sampler hands to its callback."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from course_utils.schedules import Schedule


class Step(NamedTuple):
    """What a sampler knows after one step from t to s."""

    i: int  # steps done before this one
    t: int | float  # the time stepped from
    s: int | float  # the time stepped to
    x_t: Tensor  # before the step
    x0_hat: Tensor  # the denoiser's guess there
    x_s: Tensor  # after the step


def uniform_grid(schedule: Schedule, n: int) -> list[int] | list[float]:
    """n steps of equal length from the last noise level to clean data: n + 1 falling times, ending at 0.

    Whole numbers T, …, 0 for a discrete schedule, rounded to the nearest; floats 1, …, 0 for a continuous one.
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n: wanted a whole number of steps, got {n!r}")
    if n < 1 or (schedule.T is not None and n > schedule.T):
        most = "" if schedule.T is None else f" … {schedule.T}, as many as the schedule has"
        raise ValueError(f"n: wanted 1{most} steps, got {n}")
    if schedule.T is None:
        return [1 - i / n for i in range(n)] + [0.0]
    return [round(schedule.T * (n - i) / n) for i in range(n + 1)]


def check_grid(timesteps: Sequence[int | float]) -> None:
    """Raise unless the grid has two times or more, falls strictly and stays at or above 0."""
    times = list(timesteps)
    if len(times) < 2:
        raise ValueError(f"timesteps: wanted at least two times, a start and an end, got {times}")
    for t, s in itertools.pairwise(times):
        if not s < t:
            raise ValueError(f"timesteps: wanted a strictly falling grid, got {t} followed by {s}")
    if times[-1] < 0:
        raise ValueError(f"timesteps: wanted times >= 0, got {times[-1]}")


def require_finite(x0_hat: Tensor, i: int, t: int | float) -> None:
    """Raise unless the denoiser's answer is all numbers: NaN would spread, and be found far from its cause."""
    if not x0_hat.isfinite().all():
        raise ValueError(f"denoise: returned NaN or infinity at step {i}, t = {t}")
