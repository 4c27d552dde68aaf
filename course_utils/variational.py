r"""The variational bound: why minimising a bound on -log p(x_0) is regression, and with which weight.

-log p(x_0) <= L_0 + sum_{t=2}^T L_{t-1} + L_T                                             (Ho et al. 2020, Eq. 5)
L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)),   L_T = KL(q(x_T | x_0) || N(0, I))

Lesson 03 derives these; lesson 12 trains on them. All results are in nats, one number an image.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import require_float, require_same
from course_utils.forward import q_posterior
from course_utils.schedules import DiscreteSchedule, Schedule, Time, broadcast, coeffs_for


def _sum_over_pixels(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def gaussian_kl(
    mean_q: Float[Tensor, "b *shape"],
    var_q: Float[Tensor, "..."] | float,
    mean_p: Float[Tensor, "b *shape"],
    var_p: Float[Tensor, "..."] | float,
) -> Float[Tensor, "b"]:
    """KL(N(mean_q, var_q) || N(mean_p, var_p)) summed over pixels, in nats; variances are per pixel, broadcastable.

    KL = 1/2 sum [ log(var_p / var_q) + (var_q + (mean_q - mean_p)²) / var_p - 1 ]
    """
    require_same("mean_p", mean_p, "mean_q", mean_q)
    var_q, var_p = torch.as_tensor(var_q).to(mean_q), torch.as_tensor(var_p).to(mean_q)
    if (var_q <= 0).any() or (var_p <= 0).any():
        raise ValueError("var_q, var_p: wanted variances > 0; at s = 0 the posterior is a point and has no KL")
    return _sum_over_pixels(
        ((var_p / var_q).log() + (var_q + (mean_q - mean_p) ** 2) / var_p - 1).expand_as(mean_q) / 2
    )


def prior_kl(x_0: Float[Tensor, "b *shape"], schedule: Schedule) -> Float[Tensor, "b"]:
    """L_T = KL(q(x_T | x_0) || N(0, I)), in nats: what the last noise level still tells about x_0 (Eq. 5)."""
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
    mean_q, variance = q_posterior(x_t, x_0, t, schedule)
    mean_p, _ = q_posterior(x_t, x0_hat, t, schedule)
    return gaussian_kl(mean_q, variance, mean_p, variance)


def step_weight(t: Time, schedule: DiscreteSchedule) -> Float[Tensor, "*b"]:
    """w_t with L_{t-1} = w_t |x_0 - x0_hat|²:  w_t = (SNR_{t-1} - SNR_t) / 2    (Kingma et al. 2021, Eq. 13)

    Infinite at t = 1, where SNR_0 is: there L_0, a likelihood and not a KL, takes its place.
    """
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
    return broadcast(torch.as_tensor(weight), squared) * squared


def bits_per_dim(nats: Float[Tensor, "b"], dims: int) -> Float[Tensor, "b"]:
    """Nats an image as bits a pixel value: nats / (dims log 2)."""
    return nats / (dims * math.log(2))
