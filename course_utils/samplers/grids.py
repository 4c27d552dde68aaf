"""Time grids, and the record a sampler hands to its callback."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from course_utils._validate import require_callable, require_count, require_finite, require_in, require_same
from course_utils.schedules import Schedule, check_grid, require_schedule


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
    _check_count(schedule, n)
    if schedule.T is None:
        return [1 - i / n for i in range(n)] + [0.0]
    return [round(schedule.T * (n - i) / n) for i in range(n + 1)]


def linspace_grid(schedule: Schedule, n: int) -> list[int] | list[float]:
    """n noisy times spread evenly from the last noise level to the *first*, then 0: T, …, 1, 0.

    The last step is short. For a continuous schedule the first noise level is taken to be 1/1000.
    """
    _check_count(schedule, n)
    first, last = _first_level(schedule), schedule.T or 1.0
    times = [last + (first - last) * i / max(n - 1, 1) for i in range(n)]
    return _finished(times, schedule)


def leading_grid(schedule: Schedule, n: int) -> list[int] | list[float]:
    """Every (T / n)-th time counted from the first noise level, then 0: what much code does, and a fault.

    Its largest time is about T - T / n: it never reaches the last noise level, though sampling begins with that much
    noise (Lin et al. 2024, section 3.3). Here to be compared with.
    """
    _check_count(schedule, n)
    first, last = _first_level(schedule), schedule.T or 1.0
    stride = last // n if schedule.T else last / n
    return _finished([first + stride * i for i in reversed(range(n))], schedule)


def quadratic_grid(schedule: Schedule, n: int) -> list[int] | list[float]:
    """t_i = T (i / n)², i = n … 0: short steps near clean data (Song et al. 2021, appendix D.2)."""
    _check_count(schedule, n)
    return _finished([(schedule.T or 1.0) * (i / n) ** 2 for i in range(n, 0, -1)], schedule)


def log_snr_grid(schedule: Schedule, n: int) -> list[int] | list[float]:
    """n times at equal distances in log-SNR, from the last noise level to the first, then 0 (Lu et al. 2022)."""
    _check_count(schedule, n)
    first, last = (schedule.log_snr(t).item() for t in (_first_level(schedule), _last_level(schedule)))
    levels = [last + (first - last) * i / max(n - 1, 1) for i in range(n)]
    return _at_levels(levels, schedule)


def karras_grid(schedule: Schedule, n: int, rho: float = 7.0) -> list[int] | list[float]:
    """n times at equal distances in r^(1/rho), r = sigma / alpha, from the last noise level to the first, then 0.

    r_i = (r_max^(1/rho) + i / (n - 1) (r_min^(1/rho) - r_max^(1/rho)))^rho        (Karras et al. 2022, Eq. 5)
    """
    _check_count(schedule, n)
    require_in("rho", rho, "(0, inf)")
    ends = _first_level(schedule), _last_level(schedule)
    first, last = (math.exp(-schedule.log_snr(t).item() / 2 / rho) for t in ends)
    levels = [-2 * rho * math.log(last + (first - last) * i / max(n - 1, 1)) for i in range(n)]
    return _at_levels(levels, schedule)


def _check_count(schedule: Schedule, n: Any) -> None:
    require_schedule(schedule)
    require_count("n", n)
    if schedule.T is not None and n > schedule.T:
        raise ValueError(f"n: wanted 1 … {schedule.T}, as many as the schedule has steps, got {n}")


def _first_level(schedule: Schedule) -> int | float:
    """The smallest noisy time: 1, or 1/1000 where time is continuous."""
    return 1 if schedule.T else 0.001


def _last_level(schedule: Schedule) -> int | float:
    """The largest time with a finite log-SNR: T or 1, or the one before if nothing of the signal is left there."""
    last, before = (schedule.T, schedule.T - 1) if schedule.T else (1.0, 0.999)
    return last if schedule.log_snr(last).isfinite() else before


def _at_levels(levels: list[float], schedule: Schedule) -> list[int] | list[float]:
    times = [schedule.t_at_log_snr(level).item() for level in levels]
    times[-1] = _first_level(schedule)  # both ends exactly, whatever rounding says
    times[0] = _last_level(schedule)
    return _finished(times, schedule, times[0])


def _finished(times: list, schedule: Schedule, last: int | float | None = None) -> list[int] | list[float]:
    """The falling times, then 0; on a discrete schedule rounded, and moved apart where two would fall on one.

    None is above `last`, the schedule's end unless told, if n times have room below it.
    """
    if schedule.T is None:
        return [*map(float, times), 0.0]
    rising = [0]
    for t in reversed(times):
        rising.append(max(round(t), rising[-1] + 1))
    ceiling = max(int(last or schedule.T), len(times)) + 1
    for i in range(len(rising) - 1, 0, -1):  # the push upwards may have gone too far
        ceiling = rising[i] = min(rising[i], ceiling - 1)
    return rising[::-1]


def check_start(
    denoise: Callable[..., Tensor], x_T: Tensor, schedule: Schedule, timesteps: Sequence[int | float]
) -> None:
    """Raise unless a sampler can begin: a function, noise that is all numbers, and times of the schedule that fall."""
    require_callable("denoise", denoise)
    require_finite("x_T", x_T)
    require_schedule(schedule)
    check_grid(timesteps, schedule)


def ask(denoise: Callable[..., Tensor], x: Tensor, t: int | float | Tensor, i: int, cond: dict[str, object]) -> Tensor:
    """The denoiser's answer at step i. Raises unless it is as x is, and all numbers: NaN would be found far away."""
    x0_hat = denoise(x, t, **cond)
    require_same("denoise", x0_hat, "x", x)
    if not x0_hat.isfinite().all():
        raise ValueError(f"denoise: returned NaN or infinity at step {i}, t = {t}")
    return x0_hat
