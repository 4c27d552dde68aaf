"""Which times a schedule has: one, a grid of them, and the one that belongs to a log-SNR.

Numbers on the CPU are looked at, and refused in words. Those on a GPU are not, since a look makes Python wait for all
that was asked of the GPU before: there what is out of range becomes NaN, which samplers and training look for once a
step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from course_utils._contract import AllIn, Call, checked
from course_utils._validate import require_falling_times, require_time
from course_utils.protocols import Schedule, Time, steps_of
from course_utils.tensors import as_double


def whole_time(t: Time, T: int, name: str = "t") -> Tensor:
    """t as a tensor of whole numbers, each of 0 … T if it is on the CPU."""
    return require_time(name, t, T).long()


def float_time(t: Time, name: str = "t") -> Tensor:
    """t as a float64 tensor of numbers in [0, 1]."""
    t = as_double(require_time(name, t))
    return t if t.device.type == "cpu" else t.masked_fill((t < 0) | (t > 1), torch.nan)


def check_time(t: Time, schedule: Schedule, name: str = "t", first: int = 0) -> Tensor:
    """t as a tensor, or an error that says which times there are: 0 … T, or floats in [0, 1] on a schedule without T.

    A schedule that has a `check_t` of its own is asked instead. `first` is the first that will do, where one step or
    two must lie before t.
    """
    T = steps_of(schedule)
    if hasattr(schedule, "check_t"):
        found = schedule.check_t(t, name)
    else:
        found = float_time(t, name) if T is None else whole_time(t, T, name)
    if first and found.device.type == "cpu" and (found < first).any():
        raise ValueError(f"{name}: wanted {first} … {T}, got {found.min().item()}; no such step ends before it")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# A grid of times
# ---------------------------------------------------------------------------------------------------------------------


@checked
def check_grid(timesteps: Sequence[int | float] | Tensor, schedule: Schedule | None = None) -> None:
    """Raise unless the grid has two times or more, all of the schedule's if one is given, and falls strictly."""
    require_falling_times("timesteps", timesteps)
    if schedule is not None:
        for end in numbers(timesteps)[:: len(timesteps) - 1]:
            check_time(end, schedule, "timesteps")


def numbers(timesteps: Iterable[Any]) -> list[Any]:
    """The times of a grid as Python's numbers, also if the grid is a tensor: the CPU looks up what belongs to them."""
    return timesteps.tolist() if isinstance(timesteps, Tensor) else list(timesteps)


@dataclass(frozen=True)
class Falls:
    """Times that fall strictly, two or more: of the schedule, if there is one; from `first` and to `last`, if told."""

    first: float | None = None
    last: float | None = None

    def check(self, name: str, timesteps: Any, call: Call) -> None:
        check_grid(timesteps, call.get("schedule"))
        if self.first not in (None, timesteps[0]) or self.last not in (None, timesteps[-1]):
            wanted = f"that ends at {self.last}" if self.first is None else f"from {self.first} to {self.last}"
            raise ValueError(f"{name}: wanted a grid {wanted}, got {timesteps[0]} … {timesteps[-1]}")


Grid = Annotated[Sequence[int | float], Falls()]


# ---------------------------------------------------------------------------------------------------------------------
# The inverse of `log_snr`
# ---------------------------------------------------------------------------------------------------------------------


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
