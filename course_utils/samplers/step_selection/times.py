"""Times as parameters: gradient descent moves a grid until a few steps end where many steps end."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from course_utils._contract import ANYWHERE, SOME, Call, Count, In, Whole, checked
from course_utils._contract.times import Falls
from course_utils.denoisers import Denoiser
from course_utils.protocols import Denoise, Schedule, steps_of
from course_utils.samplers.walk import Images, Noise, ask
from course_utils.schedules import ContinuousTwin, DiscreteSchedule
from course_utils.schedules.jumps import coeffs_of
from course_utils.tensors import broadcast


class _Continuous:
    def check(self, name: str, schedule: Schedule, call: Call) -> None:
        if steps_of(schedule) is not None:
            raise TypeError(f"{name}: wanted one in continuous time, whose times can move; see `in_continuous_time`")


Order = Annotated[int, Whole(1, 2, "DDIM or DPM-Solver++ 2M")]
ToData = Annotated[Sequence[float], Falls(last=0)]


@checked
def in_continuous_time(denoiser: Denoiser) -> Denoiser:
    """The same network, to be asked at any t in [0, 1]: t / T is the time it was trained at."""
    d, schedule = denoiser, denoiser.schedule
    if not isinstance(schedule, DiscreteSchedule):
        return denoiser
    return Denoiser(d.network, ContinuousTwin(schedule), d.predict, d.data_mean, d.data_std)


@checked
def to_logits(timesteps: ToData) -> Float[Tensor, "n"]:
    """The parameters of `to_times` that give this grid, up to its scale: the logarithms of its gaps, noise first.

    Raises ValueError for a grid that does not end at 0.
    """
    times = torch.as_tensor(timesteps, dtype=torch.float64)
    return (-times.diff() / times[0]).log()


@checked
def to_times(logits: Annotated[Float[Tensor, "n"], SOME]) -> Float[Tensor, "m"]:
    """n + 1 times that fall from exactly 1 to exactly 0, whatever the n logits: their gaps are softmax(logits)."""
    gaps = torch.softmax(logits, 0)
    inner = gaps.flip(0).cumsum(0)[:-1].flip(0)  # summed from the clean end, where times are small
    return torch.cat([logits.new_ones(1), inner, logits.new_zeros(1)])


def _again_on_the_way_back(denoise: Denoise, x: Tensor, t: Tensor, **cond: Any) -> Tensor:
    return checkpoint(denoise, x, t, use_reentrant=False, **cond)


@checked
def end_point(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    times: Annotated[Float[Tensor, "m"], Falls(), ANYWHERE],
    *,
    order: Order = 2,
    **cond: Any,
) -> Images:
    """Where `sample_ddim` (order 1) or `sample_dpmpp_2m` (order 2) ends, differentiable in the times.

    Each network call is computed again on the way back (checkpointing), so that memory holds one at a time.

    Args:
        times: falling, the last one 0; see `to_times`.
    """
    again = functools.partial(_again_on_the_way_back, denoise)
    x, before, h_before = x_T, x_T, torch.ones(())
    for i, (t, s) in enumerate(itertools.pairwise(times[:-1])):
        x0_hat = ask(again, x, t, i, cond)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = coeffs_of(t, schedule), coeffs_of(s, schedule)
        h = (alpha_s / sigma_s * sigma_t / alpha_t).log()
        guess = x0_hat
        if order == 2 and i > 0 and h_before.isfinite():  # after pure noise it is not: no line, and no NaN for a slope
            guess = x0_hat + broadcast(h / (2 * h_before), x) * (x0_hat - before)
        a = sigma_s / sigma_t
        x = broadcast(a, x) * x + broadcast(alpha_s - a * alpha_t, x) * guess
        before, h_before = x0_hat, h
    return ask(again, x, times[-2], len(times) - 2, cond)  # the step onto data


class GridRecord(NamedTuple):
    """What `learn_times` yields after a step."""

    step: int  # from 1
    loss: float  # of this step's batch, before the step
    timesteps: list[float]  # after the step


SCALE = 2.0**12
"""Of the loss on its way back: a mean over many pixels has gradients that float16 would round to zero. A power of two
changes nothing else."""


def mean_squared(x: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance a pixel."""
    return (x - target).square().mean()


@checked
def learn_times(
    denoise: Denoise,
    x_T: Noise,
    target: Noise,
    schedule: Annotated[Schedule, _Continuous()],
    timesteps: Annotated[Sequence[float], Falls(1, 0)],
    *,
    steps: Count,
    lr: Annotated[float, In("(0, inf)")] = 0.05,
    order: Order = 2,
    batch_size: Count | None = None,
    distance: Callable[[Tensor, Tensor], Tensor] = mean_squared,
    generator: torch.Generator | None = None,
    **cond: Tensor,
) -> Iterator[GridRecord]:
    """Move the times of a grid by gradient descent until its end points are those of a many-step teacher.

    The gaps between times are a softmax of free parameters, so the grid falls from 1 to 0 whatever the optimizer does
    (after Tong et al. 2025). Adam, with a learning rate that falls to zero on a half cosine.

    Args:
        denoise, schedule: in continuous time; see `in_continuous_time`.
        x_T, target: noises, and where the teacher ended from each.
        timesteps: the grid to start from, 1 to 0.
        order: 1 for DDIM, 2 for DPM-Solver++ 2M.
        batch_size: noises a step, drawn by the generator; all of them if left out.
        distance: of end points and targets, one number.
        cond: one entry for each noise.

    Yields:
        A record after each step; judge the grid on noises that are not among these.
    """
    logits = to_logits(timesteps).requires_grad_(True)
    optimizer = torch.optim.Adam([logits], lr=lr)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        chosen = torch.arange(len(x_T))
        if batch_size is not None:
            chosen = torch.randperm(len(x_T), generator=generator)[:batch_size]
        chosen = chosen.to(x_T.device)
        with torch.enable_grad():
            some = {name: value[chosen] for name, value in cond.items()}
            x_0 = end_point(denoise, x_T[chosen], schedule, to_times(logits), order=order, **some)
            loss = distance(x_0, target[chosen])
            optimizer.zero_grad()
            (loss * SCALE).backward()
        assert logits.grad is not None
        logits.grad /= SCALE
        optimizer.step()
        rate.step()
        yield GridRecord(step, loss.item(), to_times(logits.detach()).tolist())
