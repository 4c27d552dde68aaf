"""Which times a schedule has: one, or a grid of them.

Numbers on the CPU are looked at, and refused in words. Those on a GPU are not, since a look makes Python wait for all
that was asked of the GPU before: there what is out of range becomes NaN, which samplers and training look for once a
step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from course_utils._contract.marks import Call
from course_utils._contract.rules import checked
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
