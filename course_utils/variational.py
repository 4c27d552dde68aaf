r"""The variational bound: why minimising a bound on -log p(x_0) is regression, and with which weight.

-log p(x_0) <= L_0 + sum_{t=2}^T L_{t-1} + L_T                                             (Ho et al. 2020, Eq. 5)
L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)),   L_T = KL(q(x_T | x_0) || N(0, I))

The same holds for any grid of times instead of 1 … T, with a step from each to the next: `bound`.

Lesson 03 derives these; lessons 12 and 13 shorten the grid. All results are in nats, one number an image.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import (
    require_callable,
    require_count,
    require_finite,
    require_float,
    require_number,
    require_same,
    require_type,
)
from course_utils.forward import noise_like, posterior_coeffs, q_posterior, q_sample
from course_utils.schedules import (
    DiscreteSchedule,
    Schedule,
    Time,
    as_double,
    broadcast,
    check_grid,
    coeffs_for,
    require_discrete,
    require_schedule,
    transition,
)

Variance = Callable[[Tensor, Tensor, Time, Time, Schedule], Tensor]
"""variance(x_t, x0_hat, t, s, schedule): of the step from t to s, to be broadcast against x_t."""


def _sum_over_pixels(x: Tensor) -> Tensor:
    return x.unsqueeze(1).flatten(1).sum(1)  # (b,) stays (b,)


def _variance_for(name: str, variance: Tensor | float, mean: Tensor) -> Tensor:
    require_number(name, variance)
    variance = as_double(variance).to(mean)
    # One per image must be (b, 1, …, 1): a bare (b,) would meet the last axis of the images.
    fits = variance.ndim == 0 or (
        variance.ndim == mean.ndim and all(n in (1, m) for n, m in zip(variance.shape, mean.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"{name}: wanted a number, or each axis 1 or that of {tuple(mean.shape)}, got {tuple(variance.shape)}"
        )
    if not (variance > 0).all():
        raise ValueError(f"{name}: wanted a variance > 0, got {variance.min().item():.6g}; a point has no KL")
    return variance


def gaussian_kl(
    mean_q: Float[Tensor, "b *shape"],
    var_q: Float[Tensor, "..."] | float,
    mean_p: Float[Tensor, "b *shape"],
    var_p: Float[Tensor, "..."] | float,
) -> Float[Tensor, "b"]:
    """KL(N(mean_q, var_q) || N(mean_p, var_p)) summed over pixels, in nats; a variance is a number, or per pixel.

    KL = 1/2 sum [ log(var_p / var_q) + (var_q + (mean_q - mean_p)²) / var_p - 1 ]
    """
    require_same("mean_p", mean_p, "mean_q", mean_q)
    var_q, var_p = _variance_for("var_q", var_q, mean_q), _variance_for("var_p", var_p, mean_q)
    ratio = var_q / var_p
    # Small terms are added to small ones: with equal variances nothing is lost, not even in float32.
    return _sum_over_pixels((ratio - 1 - ratio.log()) + (mean_q - mean_p) ** 2 / var_p) / 2


def prior_kl(x_0: Float[Tensor, "b *shape"], schedule: Schedule, t: Time | None = None) -> Float[Tensor, "b"]:
    """L_T = KL(q(x_T | x_0) || N(0, I)), in nats: what the last noise level still tells about x_0 (Eq. 5).

    For schedules that end in noise of variance about 1; one that explodes has another prior, and no bound of this form.
    `t` is where a grid begins that does not begin at the last level.
    """
    require_float("x_0", x_0)
    require_schedule(schedule)
    last = schedule.T if schedule.T is not None else 1.0
    alpha, sigma = coeffs_for(x_0, last if t is None else t, schedule)
    return gaussian_kl(alpha * x_0, sigma**2, torch.zeros_like(x_0), 1.0)


def step_kl(
    x_0: Float[Tensor, "b *shape"],
    x0_hat: Float[Tensor, "b *shape"],
    x_t: Float[Tensor, "b *shape"],
    t: Time,
    schedule: DiscreteSchedule,
) -> Float[Tensor, "b"]:
    """L_{t-1} for t >= 2: KL between the posterior given x_0 and the one given the guess x0_hat, in nats (Eq. 5)."""
    require_same("x_0", x_0, "x_t", x_t)
    require_same("x0_hat", x0_hat, "x_0", x_0)
    require_discrete(schedule)
    t = schedule.check_t(t)
    if (t < 2).any():
        raise ValueError(
            f"t: wanted 2 … {schedule.T}, got {t.min().item()}; the step to t = 0 has a likelihood, not a KL"
        )
    mean_q, variance = q_posterior(x_t, x_0, t, schedule)
    mean_p, _ = q_posterior(x_t, x0_hat, t, schedule)
    return gaussian_kl(mean_q, variance, mean_p, variance)


def step_weight(t: Time, schedule: DiscreteSchedule) -> Float[Tensor, "*b"]:
    """w_t with L_{t-1} = w_t |x_0 - x0_hat|²:  w_t = (SNR_{t-1} - SNR_t) / 2    (Kingma et al. 2021, Eq. 13)

    Infinite at t = 1, where SNR_0 is: there L_0, a likelihood and not a KL, takes its place.
    """
    require_discrete(schedule)
    t = schedule.check_t(t)
    if (t < 1).any():
        raise ValueError("t: wanted 1 … T, got 0, before which there is no step")
    return (schedule.log_snr(t - 1).exp() - schedule.log_snr(t).exp()) / 2


def weighted_mse(
    x_0: Float[Tensor, "b *shape"], x0_hat: Float[Tensor, "b *shape"], weight: Float[Tensor, "*b"] | float = 1.0
) -> Float[Tensor, "b"]:
    """weight · |x_0 - x0_hat|², summed over pixels: the bound when `weight` is `step_weight`, one number an image."""
    require_same("x0_hat", x0_hat, "x_0", x_0)
    squared = _sum_over_pixels((x_0 - x0_hat) ** 2)
    require_number("weight", weight)
    return broadcast(as_double(weight), squared, "weight") * squared


def bits_per_dim(nats: Float[Tensor, "b"], dims: int) -> Float[Tensor, "b"]:
    """Nats an image as bits a pixel value: nats / (dims log 2)."""
    require_float("nats", nats)
    require_count("dims", dims)
    return nats / (dims * math.log(2))


# ---------------------------------------------------------------------------------------------------------------------
# The variance of a reverse step
# ---------------------------------------------------------------------------------------------------------------------


def beta_variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
    """sigma²_{t|s}, beta_t for s = t - 1: right for data that are N(0, I); the larger (Ho et al. 2020, 3.2)"""
    _, variance_ts = transition(s, t, schedule)
    return broadcast(variance_ts, x_t)


def posterior_variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
    """beta-tilde, sigma²_{t|s} sigma_s² / sigma_t²: right for data that are one point (Ho et al. 2020, Eq. 7).

    The step onto the data has none by that formula, and a decoder without a variance no likelihood: it gets
    sigma²_{t|s} = sigma_t². (Ho et al. give it beta-tilde of the step before; the samplers never use it.)
    """
    _, _, known = posterior_coeffs(t, s, schedule)
    return torch.where(broadcast(known, x_t) > 0, broadcast(known, x_t), beta_variance(x_t, x0_hat, t, s, schedule))


def step_variance(error: Float[Tensor, "*b"], t: Time, s: Time, schedule: Schedule) -> Float[Tensor, "*b"]:
    """Of a step whose x_0 is known up to that squared error: the posterior's own variance, and that of its mean.

    sigma²_{t|s} sigma_s² / sigma_t² + k² error,    k = alpha_s sigma²_{t|s} / sigma_t²        (Bao et al. 2022, Thm. 1)

    `error` may be a number, one per image, or one per pixel. Onto clean data, where k = 1, it is `error`.
    """
    require_float("error", error)
    _, k, known = posterior_coeffs(t, s, schedule)
    return broadcast(known, error) + broadcast(k**2, error) * error


def optimal_variance(errors: Mapping[int | float, float]) -> Variance:
    r"""The best variance of a Gaussian step, for a denoiser that is so far from x_0 (Bao et al. 2022, Thm. 1):

    `step_variance(mse_t)`. It minimises the bound over all variances that are one number a step, whatever the denoiser.

    Args:
        errors: mse_t, mean squared error a pixel, at each t that will be stepped from; see `denoising_errors`.
    """
    require_type("errors", errors, Mapping, "errors by their times, as `denoising_errors` returns them")

    def variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
        times = as_double(t)  # a float32 0.8 would not be found
        missing = [one for one in times.flatten().tolist() if one not in errors]
        if missing:
            raise ValueError(f"errors: no mean squared error is known at t = {missing[0]}")
        mse = as_double([errors[one] for one in times.flatten().tolist()]).reshape(times.shape)
        return broadcast(step_variance(mse, t, s, schedule), x_t)

    return variance


@torch.no_grad()
def denoising_errors(
    denoise: Callable[..., Tensor],
    x_0: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    generator: torch.Generator | None = None,
    **cond: object,
) -> dict[int | float, float]:
    """mse_t = mean (x_0 - denoise(x_t, t))² over images and pixels, at each of the times above 0.

    For the exact denoiser this is E Var[x_0 | x_t], a pixel.
    """
    require_callable("denoise", denoise)
    require_finite("x_0", x_0)
    require_schedule(schedule)
    errors = {}
    for t in timesteps:
        schedule.check_t(t, "timesteps")
        if t > 0:
            x0_hat = denoise(q_sample(x_0, t, schedule, noise_like(x_0, generator)), t, **cond)
            require_same("denoise", x0_hat, "x_0", x_0)
            errors[t] = (as_double(x0_hat) - as_double(x_0)).square().mean().item()
    return errors


# ---------------------------------------------------------------------------------------------------------------------
# The bound on any grid
# ---------------------------------------------------------------------------------------------------------------------


def decoder_nll(
    x_0: Float[Tensor, "b *shape"], mean: Float[Tensor, "b *shape"], variance: Float[Tensor, "..."] | float
) -> Float[Tensor, "b"]:
    r"""-log p(x_0) of 8-bit images in [-1, 1] under a Gaussian that is cut into 256 bins (Ho et al. 2020, Eq. 13):

    p(x_0) = prod over pixels of  Phi((x + 1/255 - mean) / sd) - Phi((x - 1/255 - mean) / sd)

    summed over pixels, in nats. The outermost bins reach to infinity, so the 256 probabilities sum to one.
    """
    require_same("mean", mean, "x_0", x_0)
    sd = _variance_for("variance", variance, mean).sqrt()
    half = 1 / 255
    above = torch.where(x_0 > 1 - half, math.inf, (x_0 + half - mean) / sd)
    below = torch.where(x_0 < -1 + half, -math.inf, (x_0 - half - mean) / sd)
    # Phi(a) - Phi(b) = Phi(-b) - Phi(-a): on the side where both are small, the difference keeps its digits.
    flip = below > 0
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    log_above, log_below = torch.special.log_ndtr(above), torch.special.log_ndtr(below)
    return -_sum_over_pixels(log_above + torch.log(-torch.expm1(log_below - log_above)))


def jump_cost(
    x_0: Float[Tensor, "b *shape"],
    x0_hat: Float[Tensor, "b *shape"],
    x_t: Float[Tensor, "b *shape"],
    t: Time,
    s: Time,
    schedule: Schedule,
    variance: Variance = posterior_variance,
) -> Float[Tensor, "b"]:
    """What the step from t to s adds to the bound, in nats: a KL, or the decoder's likelihood for the step onto data.

    KL(q(x_s | x_t, x_0) || N(mean, v)), where the mean is that of q(x_s | x_t, x0_hat). Computed in float64: the two
    means differ by little.
    """
    require_same("x0_hat", x0_hat, "x_0", x_0)
    require_same("x_t", x_t, "x_0", x_0)
    require_callable("variance", variance)
    require_schedule(schedule)
    onto_data = schedule.coeffs(schedule.check_t(s, "s"))[1] == 0
    if onto_data.any() != onto_data.all():
        raise ValueError("s: wanted clean data for all images or for none, got both")
    x_0, x0_hat, x_t = as_double(x_0), as_double(x0_hat), as_double(x_t)
    v = variance(x_t, x0_hat, t, s, schedule)
    if onto_data.all():
        return decoder_nll(x_0, x0_hat, v)
    mean_q, var_q = q_posterior(x_t, x_0, t, schedule, s)
    mean_p, _ = q_posterior(x_t, x0_hat, t, schedule, s)
    return gaussian_kl(mean_q, var_q, mean_p, v)


class Bound(NamedTuple):
    """The bound's terms, in nats, one number an image."""

    prior: Tensor  # (b,): KL of the first level against N(0, I)
    steps: Tensor  # (n - 1, b): KL of each step but the last, from noise to data
    decoder: Tensor  # (b,): -log p(x_0) of the last step

    @property
    def total(self) -> Tensor:
        """(b,): an upper bound on -log p(x_0)."""
        return self.prior + self.steps.sum(0) + self.decoder


@torch.no_grad()
def bound(
    denoise: Callable[..., Tensor],
    x_0: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    variance: Variance = posterior_variance,
    generator: torch.Generator | None = None,
    **cond: object,
) -> Bound:
    """The variational bound of the sampler that walks this grid with this variance, one draw of x_t a step.

    -log p(x_0) <= prior + sum of KLs + decoder                                     (Ho et al. 2020, Eq. 5, on any grid)

    Raises:
        ValueError: a grid that does not fall, or does not end on clean data.
    """
    require_callable("denoise", denoise)
    require_callable("variance", variance)
    require_float("x_0", x_0)
    require_schedule(schedule)
    check_grid(timesteps, schedule)
    if schedule.coeffs(timesteps[-1])[1] > 0:
        raise ValueError(f"timesteps: wanted a grid that ends on clean data, got one that ends at {timesteps[-1]}")
    costs = []
    for t, s in itertools.pairwise(timesteps):
        x_t = q_sample(x_0, t, schedule, noise_like(x_0, generator))
        costs.append(jump_cost(x_0, denoise(x_t, t, **cond), x_t, t, s, schedule, variance))
    prior = prior_kl(as_double(x_0), schedule, timesteps[0])
    steps = torch.stack(costs[:-1]) if len(costs) > 1 else prior.new_zeros(0, len(prior))
    return Bound(prior, steps, costs[-1])
