"""Time grids: at which noise levels a sampler asks its denoiser."""

import math
from typing import Annotated

from course_utils._contract import In, Whole, checked
from course_utils.protocols import Schedule, steps_of
from course_utils.schedules.times import t_at_log_snr

Times = list[int] | list[float]


Steps = Annotated[int, Whole(1, lambda schedule: steps_of(schedule), "as many as the schedule has steps")]


@checked
def uniform_grid(schedule: Schedule, n: Steps) -> Times:
    """n steps of equal length from the last noise level to clean data: n + 1 falling times, ending at 0.

    Whole numbers T, …, 0 for a discrete schedule, rounded to the nearest; floats 1, …, 0 for a continuous one.
    """
    T = steps_of(schedule)
    if T is None:
        return [1 - i / n for i in range(n)] + [0.0]
    return [round(T * (n - i) / n) for i in range(n + 1)]


@checked
def linspace_grid(schedule: Schedule, n: Steps) -> Times:
    """n noisy times spread evenly from the last noise level to the *first*, then 0: T, …, 1, 0.

    The last step is short. For a continuous schedule the first noise level is taken to be 1/1000.
    """
    first, last = _first_level(schedule), steps_of(schedule) or 1.0
    times = [last + (first - last) * i / max(n - 1, 1) for i in range(n)]
    return _finished(times, schedule)


@checked
def leading_grid(schedule: Schedule, n: Steps) -> Times:
    """Every (T / n)-th time counted from the first noise level, then 0: what much code does, and a fault.

    Its largest time is about T - T / n: it never reaches the last noise level, though sampling begins with that much
    noise (Lin et al. 2024, section 3.3). Here to be compared with.
    """
    T = steps_of(schedule)
    first, stride = _first_level(schedule), T // n if T else 1.0 / n
    return _finished([first + stride * i for i in reversed(range(n))], schedule)


@checked
def quadratic_grid(schedule: Schedule, n: Steps) -> Times:
    """t_i = T (i / n)², i = n … 0: short steps near clean data (Song et al. 2021, appendix D.2)."""
    return _finished([(steps_of(schedule) or 1.0) * (i / n) ** 2 for i in range(n, 0, -1)], schedule)


@checked
def log_snr_grid(schedule: Schedule, n: Steps) -> Times:
    """n times at equal distances in log-SNR, from the last noise level to the first, then 0 (Lu et al. 2022)."""
    first, last = (schedule.log_snr(t).item() for t in (_first_level(schedule), _last_level(schedule)))
    levels = [last + (first - last) * i / max(n - 1, 1) for i in range(n)]
    return _at_levels(levels, schedule)


@checked
def karras_grid(schedule: Schedule, n: Steps, rho: Annotated[float, In("(0, inf)")] = 7.0) -> Times:
    """n times at equal distances in r^(1/rho), r = sigma / alpha, from the last noise level to the first, then 0.

    r_i = (r_max^(1/rho) + i / (n - 1) (r_min^(1/rho) - r_max^(1/rho)))^rho        (Karras et al. 2022, Eq. 5)
    """
    ends = _first_level(schedule), _last_level(schedule)
    first, last = (math.exp(-schedule.log_snr(t).item() / 2 / rho) for t in ends)
    levels = [-2 * rho * math.log(last + (first - last) * i / max(n - 1, 1)) for i in range(n)]
    return _at_levels(levels, schedule)


def _first_level(schedule: Schedule) -> int | float:
    """The smallest noisy time: 1, or 1/1000 where time is continuous."""
    return 1 if steps_of(schedule) else 0.001


def _last_level(schedule: Schedule) -> int | float:
    """The largest time with a finite log-SNR: T or 1, or the one before if nothing of the signal is left there."""
    T = steps_of(schedule)
    last, before = (T, T - 1) if T else (1.0, 0.999)
    return last if schedule.log_snr(last).isfinite() else before


def _at_levels(levels: list[float], schedule: Schedule) -> Times:
    times = [t_at_log_snr(level, schedule).item() for level in levels]
    times[-1] = _first_level(schedule)  # both ends exactly, whatever rounding says
    times[0] = _last_level(schedule)
    return _finished(times, schedule, times[0])


def _finished(times: list, schedule: Schedule, last: int | float | None = None) -> Times:
    """The falling times, then 0; on a discrete schedule rounded, and moved apart where two would fall on one.

    None is above `last`, the schedule's end unless told, if n times have room below it.
    """
    T = steps_of(schedule)
    if T is None:
        return [*map(float, times), 0.0]
    rising = [0]
    for t in reversed(times):
        rising.append(max(round(t), rising[-1] + 1))
    ceiling = max(int(last or T), len(times)) + 1
    for i in range(len(rising) - 1, 0, -1):  # the push upwards may have gone too far
        ceiling = rising[i] = min(rising[i], ceiling - 1)
    return rising[::-1]
