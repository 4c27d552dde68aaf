"""The frame that all samplers share: what is around the algorithm's own lines."""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import FINITE, checked
from course_utils._contract.times import numbers
from course_utils.protocols import Denoise, Schedule, Time, answer
from course_utils.schedules.jumps import Jump, coeffs_of

Images = Float[Tensor, "b *shape"]
Noise = Annotated[Images, FINITE]
F = TypeVar("F", bound=Callable[..., Any])


class Step(NamedTuple):
    """What a sampler knows after one step from t to s."""

    i: int  # steps done before this one
    t: int | float  # the time stepped from
    s: int | float  # the time stepped to
    x_t: Tensor  # before the step
    x0_hat: Tensor  # the denoiser's guess there
    x_s: Tensor  # after the step


Callback = Callable[[Step], None]


def sampler(f: F) -> F:
    """f as a sampler: its arguments checked against its signature, and no gradients kept."""
    return checked(torch.no_grad()(f))


def draws(sampler: Callable[..., Tensor]) -> bool:
    """Whether a sampler takes a generator, for noise on the way."""
    taken = inspect.signature(sampler).parameters.values()
    return any(one.name == "generator" or one.kind is one.VAR_KEYWORD for one in taken)


class Walk:
    """From x_T along a falling grid, a round of the loop for each step:

        walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
        for x, x0_hat, step in walk:        # x_t, the denoiser's guess there, and the `Jump` from t to s
            walk.x = …                      # x_s
        return walk.x

    What belongs to the grid's times is looked up once, on the CPU. After each round it looks whether x_s is all
    numbers, the one time in a step that Python waits for a GPU; NaN would be found far away from where it arose.
    """

    def __init__(
        self,
        denoise: Denoise,
        x_T: Tensor,
        schedule: Schedule,
        timesteps: Sequence[int | float],
        callback: Callback | None,
        cond: Mapping[str, Any],
        tell_end: bool = False,  # to denoise, as r, where the step ends
    ):
        self.denoise, self.callback, self.cond, self.x, self.tell_end = denoise, callback, cond, x_T, tell_end
        self.times = numbers(timesteps)
        self.levels = [coeffs_of(t, schedule) for t in self.times]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Jump]]:
        for i, (t, s) in enumerate(itertools.pairwise(self.times)):
            self.asked: list[tuple[Time, Tensor, Tensor]] = []
            self.x_t = self.x
            x0_hat = self.ask(self.x_t, t, **({"r": s} if self.tell_end else {}))
            yield self.x_t, x0_hat, Jump(t, s, *self.levels[i], *self.levels[i + 1])
            if not self.x.isfinite().all():
                self._explain(i, t, s)
            if self.callback is not None:
                self.callback(Step(i, t, s, self.x_t, x0_hat, self.x))

    def ask(self, x: Tensor, t: Time, **more: Any) -> Tensor:
        """The denoiser's guess of x_0. Raises unless it has the shape, dtype and device of x."""
        x0_hat = answer(self.denoise, x, t, {**more, **self.cond}, "x")
        self.asked.append((t, x, x0_hat))
        return x0_hat

    def _explain(self, i: int, t: int | float, s: int | float) -> None:
        for asked, x, x0_hat in self.asked:
            if x.isfinite().all():
                require_numbers(x0_hat, i, asked)
        raise ValueError(
            f"x_T: NaN or infinity came of the step from t = {t} to {s}, step {i}, and not of the denoiser: more "
            f"than {self.x.dtype} can hold, or a variance that is none"
        )


def require_numbers(x0_hat: Tensor, i: int, t: object) -> None:
    """Raise if a guess, made at step i, has NaN or infinity in it."""
    if not x0_hat.isfinite().all():
        hint = "" if x0_hat.device.type == "cpu" else "; on a GPU a label or a time out of range does so"
        raise ValueError(f"denoise: returned NaN or infinity at step {i}, t = {t}{hint}")


def ask(denoise: Denoise, x: Tensor, t: int | float | Tensor, i: int, cond: Mapping[str, Any]) -> Tensor:
    """The denoiser's answer at step i. Raises unless it is as x is, and all numbers."""
    x0_hat = answer(denoise, x, t, cond, "x")
    require_numbers(x0_hat, i, t)
    return x0_hat
