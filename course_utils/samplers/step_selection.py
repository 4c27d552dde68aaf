r"""Which steps to take: the cheapest path by the variational bound, and times learned through the sampler.

The bound is a sum over the jumps of a grid, and what a jump from t to s adds depends on t and s alone. With the mean
squared error a pixel of the denoiser at t, mse_t, and d pixels, it is in expectation

    d/2 (SNR_s - SNR_t) mse_t              with the posterior's variance,
    d/2 log(1 + (SNR_s - SNR_t) mse_t)     with the optimal one (`variational.optimal_variance`).

So T numbers give the cost of every jump, and the best grid of any length is a shortest path (Watson et al. 2021). The
second way asks no bound: the times are parameters, and gradient descent moves them until a few steps end where many
steps end (Watson et al. 2022; Tong et al. 2025). Lesson 13 derives both.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from course_utils._validate import (
    require_callable,
    require_count,
    require_counts,
    require_finite,
    require_float,
    require_generator,
    require_in,
    require_one_of,
    require_same,
    require_sizes,
    require_type,
)
from course_utils.denoisers import Denoiser
from course_utils.forward import noise_like, q_sample
from course_utils.samplers.grids import ask, check_start
from course_utils.schedules import (
    ContinuousSchedule,
    DiscreteSchedule,
    Schedule,
    Time,
    as_double,
    broadcast,
    check_grid,
    require_discrete,
    require_schedule,
)
from course_utils.variational import decoder_nll, optimal_variance

VARIANCES = ("posterior", "optimal")


# ---------------------------------------------------------------------------------------------------------------------
# What a jump costs
# ---------------------------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What `cost_matrix` needs to know of a denoiser, at t = 1 … T."""

    errors: Tensor  # (T,): mean squared error a pixel
    decoder: Tensor  # (T,): -log p(x_0 | x_t) in nats an image, of the jump from t onto data
    decoder_variance: Tensor  # (T,): of that jump

    def variance(self, x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
        """The optimal variance of a step, the decoder's own onto data: for `sample_ddpm` and `variational.bound`."""
        if (schedule.coeffs(s)[1] == 0).all():
            return broadcast(self.decoder_variance[torch.as_tensor(t).long().cpu() - 1], x_t)
        known: dict[int | float, float] = dict(enumerate(self.errors.tolist(), start=1))
        return optimal_variance(known)(x_t, x0_hat, t, s, schedule)


@torch.no_grad()
def measure(
    denoise: Callable[..., Tensor],
    x_0: Float[Tensor, "b *shape"],
    schedule: DiscreteSchedule,
    timesteps: Sequence[int],
    *,
    variance: str = "optimal",
    generator: torch.Generator | None = None,
    **cond: object,
) -> Measured:
    """The errors of a denoiser and what its jumps onto data cost, measured at some times and interpolated to all.

    The jump onto data is a likelihood, that of `variational.decoder_nll`: a Gaussian around x0_hat, cut into 256 bins.
    Its variance is sigma_t² ("posterior"), or the best of mse_t times 1, 2, 4, … 64 ("optimal"): mse_t is best for a
    density, but a pixel at the edge of the range costs no more if the Gaussian is wide, and those in the middle less.
    Between the times, the logarithms of the variances and the nats are taken as linear in the log-SNR. One noise serves
    all times, so that the curves are smooth.

    Args:
        x_0: 8-bit images in [-1, 1].
        timesteps: whole numbers from 1 to T, both included, in any order; b network calls each.

    Raises:
        ValueError: the first or the last time is missing, an unknown variance.
    """
    require_callable("denoise", denoise)
    require_finite("x_0", x_0)
    require_discrete(schedule)
    require_one_of("variance", variance, VARIANCES)
    require_sizes("timesteps", timesteps)
    times = sorted(set(timesteps))
    if not times or times[0] != 1 or times[-1] != schedule.T:
        raise ValueError(
            f"timesteps: wanted times from 1 to {schedule.T}, both included, got {times[:3]} … {times[-1:]}"
        )
    errors: list[float] = []
    eps, decoder, decoder_variance = noise_like(x_0, generator), [], []
    for t in times:
        x0_hat = as_double(ask(denoise, q_sample(x_0, t, schedule, eps), t, len(errors), cond))
        mse = (x0_hat - as_double(x_0)).square().mean().item()
        wide = [mse * 2**k for k in range(7)] if variance == "optimal" else [schedule.coeffs(t)[1].item() ** 2]
        nats = [decoder_nll(as_double(x_0), x0_hat, v).mean().item() for v in wide]
        errors.append(mse)
        decoder.append(min(nats))
        decoder_variance.append(wide[nats.index(min(nats))])
    noise_level = -schedule.log_snr(torch.arange(1, schedule.T + 1)).numpy()  # rises with t
    at = noise_level[np.array(times) - 1]
    return Measured(
        errors=torch.from_numpy(np.exp(np.interp(noise_level, at, np.log(errors)))),
        decoder=torch.from_numpy(np.interp(noise_level, at, decoder)),
        decoder_variance=torch.from_numpy(np.exp(np.interp(noise_level, at, np.log(decoder_variance)))),
    )


def cost_matrix(
    errors: Float[Tensor, "T"],
    decoder: Float[Tensor, "T"],
    schedule: DiscreteSchedule,
    dims: int,
    *,
    variance: str = "optimal",
) -> Float[Tensor, "levels levels"]:
    """costs[t, s]: what the jump from t to s < t adds to the bound, in nats an image; infinite where s >= t.

    d/2 (SNR_s - SNR_t) mse_t  for the posterior's variance, from  (SNR_s - SNR_t)/2 |x_0 - x0_hat|²  (Kingma et al.
    2021, Eq. 13);  d/2 log(1 + (SNR_s - SNR_t) mse_t)  for the optimal one, which is never more. Column 0 is the jump
    onto data, whose price is a likelihood.

    Args:
        errors, decoder: at t = 1 … T; see `measure`.
        dims: pixels times channels of an image.
        variance: "posterior" or "optimal".

    Returns:
        (T + 1, T + 1), float64. The bound of a grid is `path_cost`, and `variational.prior_kl` on top.

    Raises:
        ValueError: not one error for each of t = 1 … T; one that is negative or not finite; an unknown variance.
    """
    require_discrete(schedule)
    require_count("dims", dims)
    require_one_of("variance", variance, VARIANCES)
    for name, values in (("errors", errors), ("decoder", decoder)):
        require_float(name, values)
        if values.shape != (schedule.T,) or not values.isfinite().all():
            raise ValueError(f"{name}: wanted {schedule.T} finite numbers, for t = 1 … T, got {tuple(values.shape)}")
    if (errors < 0).any():
        raise ValueError(f"errors: wanted mean squared errors >= 0, got {errors.min().item():.6g}")
    snr = schedule.log_snr(torch.arange(1, schedule.T + 1)).exp()
    told = (snr[None, :] - snr[:, None]) * as_double(errors)[:, None]  # [t, s]: what x_s tells beyond x_t
    costs = told.new_full((schedule.T + 1, schedule.T + 1), torch.inf)
    costs[1:, 1:] = dims / 2 * (told if variance == "posterior" else torch.log1p(told.clamp(min=0)))
    costs[1:, 0] = as_double(decoder)
    t = torch.arange(schedule.T + 1)
    return costs.masked_fill(t[None, :] >= t[:, None], torch.inf)


# ---------------------------------------------------------------------------------------------------------------------
# Paths through the matrix
# ---------------------------------------------------------------------------------------------------------------------


class Path(NamedTuple):
    """A grid, and what it costs."""

    timesteps: list[int]  # falling from T to 0
    cost: float  # nats an image, without the prior's


def _check_costs(costs: Tensor) -> int:
    """T, of a matrix (T + 1, T + 1)."""
    require_float("costs", costs)
    if costs.ndim != 2 or costs.shape[0] != costs.shape[1] or len(costs) < 2:
        raise ValueError(f"costs: wanted shape (T + 1, T + 1), got {tuple(costs.shape)}")
    if costs.isnan().any():
        raise ValueError("costs: wanted numbers, got NaN")
    return len(costs) - 1


def path_cost(costs: Float[Tensor, "levels levels"], timesteps: Sequence[int]) -> float:
    """The sum of a grid's jumps, in nats an image."""
    T = _check_costs(costs)
    check_grid(timesteps)
    if timesteps[0] > T:
        raise ValueError(f"timesteps: wanted times from {T} to 0, got {timesteps[0]}")
    return sum(costs[t, s].item() for t, s in itertools.pairwise(timesteps))


def best_paths(costs: Float[Tensor, "levels levels"], most: int) -> list[Path]:
    """The cheapest grid from T to 0 of each length, 1, 2, … `most` steps, by dynamic programming.

    best_1(t) = costs[t, 0],  best_k(t) = min over s < t of  costs[t, s] + best_{k-1}(s)    (Watson et al. 2021, Alg. 1)

    One round is T² additions, all in one tensor; it serves every time t at once, and every length k on the way.
    """
    T = _check_costs(costs)
    require_count("most", most)
    if most > T:
        raise ValueError(f"most: wanted 1 … {T} steps, got {most}")
    best, next_time, totals = costs[:, 0], [], [costs[T, 0].item()]
    for _ in range(most - 1):
        best, choice = (costs + best).min(dim=1)
        next_time.append(choice)
        totals.append(best[T].item())
    paths = []
    for k, total in enumerate(totals):
        grid = [T]
        for choice in reversed(next_time[:k]):
            grid.append(int(choice[grid[-1]]))
        paths.append(Path([*grid, 0], total))
    return paths


def best_path(costs: Float[Tensor, "levels levels"], n: int) -> Path:
    """The cheapest grid of n steps from T to 0; see `best_paths`."""
    require_count("n", n)
    return best_paths(costs, n)[-1]


def greedy_path(costs: Float[Tensor, "levels levels"], n: int) -> Path:
    """A grid of n steps by taking times away from T, T - 1, … 0, always the one that is missed least.

    A baseline: what was taken away never comes back, so the grids of different n are nested and not the best ones.
    """
    T = _check_costs(costs)
    require_count("n", n)
    if n > T:
        raise ValueError(f"n: wanted 1 … {T} steps, got {n}")
    grid = torch.arange(T, -1, -1)
    while len(grid) > n + 1:
        before, here, after = grid[:-2], grid[1:-1], grid[2:]
        missed = costs[before, after] - costs[before, here] - costs[here, after]
        i = int(missed.argmin()) + 1
        grid = torch.cat([grid[:i], grid[i + 1 :]])
    timesteps = grid.tolist()
    return Path(timesteps, path_cost(costs, timesteps))


def prune(timesteps: Sequence[int | float], loss: Callable[[list[int | float]], float], n: int) -> list[int | float]:
    """A grid of n steps by taking times away from `timesteps`, always the one without which `loss(grid)` is smallest.

    The same greedy idea for any measure, such as the distance to a teacher. A grid of m steps asks for m - 1 losses.
    """
    check_grid(timesteps)
    require_callable("loss", loss)
    require_count("n", n)
    grid = list(timesteps)
    if n > len(grid) - 1:
        raise ValueError(f"n: wanted 1 … {len(grid) - 1}, as many steps as the grid has, got {n}")
    while len(grid) > n + 1:
        grid = min((grid[:i] + grid[i + 1 :] for i in range(1, len(grid) - 1)), key=loss)
    return grid


# ---------------------------------------------------------------------------------------------------------------------
# Times as parameters
# ---------------------------------------------------------------------------------------------------------------------


class ContinuousTwin(ContinuousSchedule):
    """A discrete schedule in continuous time: the same at t / T, and between them log alpha_bar on a straight line.

    A network that is told the log-SNR cannot tell the two apart, and times can then be moved by a gradient.

    Raises:
        ValueError: a schedule that ends in alpha_bar = 0, which has no logarithm.
    """

    def __init__(self, schedule: DiscreteSchedule):
        require_discrete(schedule)
        if schedule.alpha_bar[-1] == 0:
            raise ValueError("schedule: wanted alpha_bar[T] > 0, got 0, whose logarithm no line can reach")
        self.steps, self.log_alpha_bar = schedule.T, schedule.alpha_bar.log()

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        u = self.check_t(t) * self.steps
        below = u.detach().floor().clamp(max=self.steps - 1).long()
        table = as_double(self.log_alpha_bar, u.device)
        log_alpha_bar = table[below] + (u - below) * (table[below + 1] - table[below])
        return (log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt()


def in_continuous_time(denoiser: Denoiser) -> Denoiser:
    """The same network, to be asked at any t in [0, 1]: t / T is the time it was trained at."""
    require_type("denoiser", denoiser, Denoiser, "a Denoiser")
    d, schedule = denoiser, denoiser.schedule
    if not isinstance(schedule, DiscreteSchedule):
        return denoiser
    return Denoiser(d.network, ContinuousTwin(schedule), d.predict, d.data_mean, d.data_std)


def to_logits(timesteps: Sequence[int | float]) -> Float[Tensor, "n"]:
    """The parameters of `to_times` that give this grid, up to its scale: the logarithms of its gaps, noise first.

    Raises ValueError for a grid that does not end at 0.
    """
    check_grid(timesteps)
    if timesteps[-1] != 0:
        raise ValueError(f"timesteps: wanted a grid that ends at 0, got {timesteps[-1]}")
    times = torch.as_tensor(timesteps, dtype=torch.float64)
    return (-times.diff() / times[0]).log()


def to_times(logits: Float[Tensor, "n"]) -> Float[Tensor, "m"]:
    """n + 1 times that fall from exactly 1 to exactly 0, whatever the n logits: their gaps are softmax(logits)."""
    require_float("logits", logits)
    if logits.ndim != 1 or not len(logits):
        raise ValueError(f"logits: wanted one for each step, shape (n,), got {tuple(logits.shape)}")
    gaps = torch.softmax(logits, 0)
    inner = gaps.flip(0).cumsum(0)[:-1].flip(0)  # summed from the clean end, where times are small
    return torch.cat([logits.new_ones(1), inner, logits.new_zeros(1)])


def _check_order(order: int) -> None:
    require_count("order", order)
    if order > 2:
        raise ValueError(f"order: wanted 1 (DDIM) or 2 (DPM-Solver++ 2M), got {order}")


def _again_on_the_way_back(denoise: Callable[..., Tensor], x: Tensor, t: Tensor, **cond: Any) -> Tensor:
    return checkpoint(denoise, x, t, use_reentrant=False, **cond)


def end_point(
    denoise: Callable[..., Tensor],
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    times: Float[Tensor, "m"],
    *,
    order: int = 2,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
    """Where `sample_ddim` (order 1) or `sample_dpmpp_2m` (order 2) ends, differentiable in the times.

    Each network call is computed again on the way back (checkpointing), so that memory holds one at a time.

    Args:
        times: falling, the last one 0; see `to_times`.
    """
    _check_order(order)
    require_float("times", times)
    check_start(denoise, x_T, schedule, times.tolist())
    x, before, h_before = x_T, x_T, torch.ones(())
    for i, t in enumerate(times[:-1]):
        x0_hat = ask(functools.partial(_again_on_the_way_back, denoise), x, t, i, cond)
        if i == len(times) - 2:
            return x0_hat  # the step onto data
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.coeffs(t), schedule.coeffs(times[i + 1])
        h = (alpha_s / sigma_s * sigma_t / alpha_t).log()
        guess = x0_hat
        if order == 2 and i > 0 and h_before.isfinite():  # after pure noise it is not: no line, and no NaN for a slope
            guess = x0_hat + broadcast(h / (2 * h_before), x) * (x0_hat - before)
        a = sigma_s / sigma_t
        x = broadcast(a, x) * x + broadcast(alpha_s - a * alpha_t, x) * guess
        before, h_before = x0_hat, h
    raise AssertionError("unreachable: `check_start` has seen two times or more")


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


def learn_times(
    denoise: Callable[..., Tensor],
    x_T: Float[Tensor, "b *shape"],
    target: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[float],
    *,
    steps: int,
    lr: float = 0.05,
    order: int = 2,
    batch_size: int | None = None,
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
    _check_order(order)
    require_counts(steps=steps)
    require_in("lr", lr, "(0, inf)")
    require_callable("distance", distance)
    require_generator(generator, optional=True)
    if batch_size is not None:
        require_count("batch_size", batch_size)
    require_schedule(schedule)
    if schedule.T is not None:
        raise TypeError("schedule: wanted one in continuous time, whose times can move; see `in_continuous_time`")
    check_start(denoise, x_T, schedule, timesteps)
    if timesteps[0] != 1:
        raise ValueError(f"timesteps: wanted a grid from 1 to 0, got {timesteps[0]} at its beginning")
    require_same("target", target, "x_T", x_T)
    require_finite("target", target)
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
