r"""The variational bound: why minimising a bound on -log p(x_0) is regression, and with which weight.

-log p(x_0) <= L_0 + sum_{t=2}^T L_{t-1} + L_T                                             (Ho et al. 2020, Eq. 5)
L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)),   L_T = KL(q(x_T | x_0) || N(0, I))

Lesson 03 derives these; lesson 12 trains on them. All results are in nats, one number an image.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import require_count, require_float, require_number, require_same
from course_utils.forward import q_posterior
from course_utils.schedules import DiscreteSchedule, Schedule, Time, as_double, broadcast, coeffs_for, require_discrete


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
    return _sum_over_pixels((var_p / var_q).log() + (var_q + (mean_q - mean_p) ** 2) / var_p - 1) / 2


def prior_kl(x_0: Float[Tensor, "b *shape"], schedule: Schedule) -> Float[Tensor, "b"]:
    """L_T = KL(q(x_T | x_0) || N(0, I)), in nats: what the last noise level still tells about x_0 (Eq. 5).

    For schedules that end in noise of variance about 1; one that explodes has another prior, and no bound of this form.
    """
    require_float("x_0", x_0)
    alpha, sigma = coeffs_for(x_0, schedule.T if schedule.T is not None else 1.0, schedule)
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
