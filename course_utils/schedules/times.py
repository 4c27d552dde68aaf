"""The inverse of `log_snr`: the time that belongs to a noise level."""

from typing import Annotated

import torch
from torch import Tensor

from course_utils._contract import AllIn, checked
from course_utils.protocols import Schedule, steps_of
from course_utils.tensors import as_double

LogSNR = Annotated[float | Tensor, AllIn("[-inf, inf]")]
"""Anything but NaN, which has no time."""


def search_log_snr(log_snr: float | Tensor, T: int, schedule: Schedule) -> Tensor:
    """The first t in 1 … T whose log-SNR is at or below the value (T if none is)."""
    falling = schedule.log_snr(torch.arange(1, T + 1))
    wanted = as_double(log_snr).cpu()
    return (torch.searchsorted(-falling, -wanted) + 1).clamp(max=T)


@torch.no_grad()
def bisect_log_snr(log_snr: float | Tensor, schedule: Schedule) -> Tensor:
    """The t in [0, 1] at which the log-SNR has the given value, by bisection (to float64's resolution of t)."""
    wanted = as_double(log_snr)
    low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
    for _ in range(60):
        middle = (low + high) / 2
        too_clean = schedule.log_snr(middle) > wanted
        low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
    return (low + high) / 2


@checked
def t_at_log_snr(log_snr: LogSNR, schedule: Schedule) -> Tensor:
    """The time at which the log-SNR has fallen to the value; asked of the schedule, if it knows by itself."""
    if hasattr(schedule, "t_at_log_snr"):
        return schedule.t_at_log_snr(log_snr)
    T = steps_of(schedule)
    return bisect_log_snr(log_snr, schedule) if T is None else search_log_snr(log_snr, T, schedule)
