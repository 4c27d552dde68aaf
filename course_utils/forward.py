r"""The forward process: from an image to noise, one step at a time, in one jump, and back if the image is known.

Lessons 01 and 03 derive these. Equation numbers are those of Ho et al. 2020 (DDPM).
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import require_float, require_generator, require_same
from course_utils.schedules import (
    DiscreteSchedule,
    Schedule,
    Time,
    broadcast,
    coeffs_for,
    require_discrete,
    require_schedule,
    transition,
)


def noise_like(x: Float[Tensor, "*shape"], generator: torch.Generator | None = None) -> Float[Tensor, "*shape"]:
    """Standard normal noise of the shape, dtype and device of x, drawn with the given generator.

    A CPU generator serves every device: the noise is drawn on the CPU and moved, so a seed means the same everywhere.
    """
    require_float("x", x)
    require_generator(generator, optional=True)
    device = generator.device if generator is not None else x.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


def q_step(
    x_prev: Float[Tensor, "b *shape"], t: Time, schedule: DiscreteSchedule, eps: Float[Tensor, "b *shape"]
) -> Float[Tensor, "b *shape"]:
    r"""One step of the forward chain, from x_{t-1} to x_t.

    x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps           (Eq. 2)

    Args:
        x_prev: x_{t-1}, floats.
        t: the time stepped *to*, 1 … T; a number, or one per image.
        schedule: a discrete schedule.
        eps: standard normal noise of the shape of x_prev.
    """
    require_same("eps", eps, "x_prev", x_prev)
    require_discrete(schedule)
    t = schedule.check_t(t)
    if (t < 1).any():
        raise ValueError("t: wanted the time stepped to, 1 … T, got 0")
    alpha, variance = transition(t - 1, t, schedule)
    return broadcast(alpha, x_prev) * x_prev + broadcast(variance.sqrt(), x_prev) * eps


def q_sample(
    x_0: Float[Tensor, "b *shape"], t: Time, schedule: Schedule, eps: Float[Tensor, "b *shape"]
) -> Float[Tensor, "b *shape"]:
    r"""x_t straight from x_0: t steps of the chain in one.

    x_t = alpha_t x_0 + sigma_t eps, for DDPM  sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps           (Eq. 4)

    Args:
        x_0: clean images, floats.
        t: a time for the whole batch, or one per image, shape (b,).
        schedule: any schedule.
        eps: standard normal noise of the shape of x_0.
    """
    require_same("eps", eps, "x_0", x_0)
    alpha, sigma = coeffs_for(x_0, t, schedule)
    return alpha * x_0 + sigma * eps


def q_chain(
    x_0: Float[Tensor, "b *shape"], schedule: DiscreteSchedule, generator: torch.Generator | None = None
) -> Iterator[tuple[int, Float[Tensor, "b *shape"]]]:
    """The forward chain, lazily: yields (0, x_0), (1, x_1), … (T, x_T), holding one x_t at a time."""
    require_float("x_0", x_0)
    require_discrete(schedule)
    x_t = x_0
    yield 0, x_t
    for t in range(1, schedule.T + 1):
        x_t = q_step(x_t, t, schedule, noise_like(x_t, generator))
        yield t, x_t


def q_posterior(
    x_t: Float[Tensor, "b *shape"], x_0: Float[Tensor, "b *shape"], t: Time, schedule: Schedule, s: Time | None = None
) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "..."]]:
    r"""Mean and variance of q(x_s | x_t, x_0), the Gaussian that one reverse step would have if x_0 were known.

    mean = (alpha_{t|s} sigma_s² x_t + alpha_s sigma²_{t|s} x_0) / sigma_t²
    variance = sigma²_{t|s} sigma_s² / sigma_t²            (Eqs. 6 and 7 for s = t - 1; any s < t here)

    Args:
        x_t, x_0: the noisy and the clean images.
        t: 1 … T (or a float > 0); a number, or one per image.
        schedule: any schedule; s must be given for continuous ones.
        s: the earlier time, t - 1 unless told.

    Returns:
        The mean, of the shape of x_t, and the variance, broadcastable against it; 0 when s = 0.
    """
    require_same("x_0", x_0, "x_t", x_t)
    require_schedule(schedule)
    t = schedule.check_t(t)
    if s is None:
        if schedule.T is None:
            raise ValueError("s: a continuous schedule has no step before t; say which s < t is wanted")
        if (t < 1).any():
            raise ValueError("t: wanted 1 … T, got 0, before which there is nothing")
        s = t - 1
    of_x_t, of_x_0, variance = posterior_coeffs(t, s, schedule)
    mean = broadcast(of_x_t, x_t) * x_t + broadcast(of_x_0, x_t) * x_0
    return mean, broadcast(variance, x_t)


def posterior_coeffs(t: Time, s: Time, schedule: Schedule) -> tuple[Tensor, Tensor, Tensor]:
    r"""What q(x_s | x_t, x_0) = N(a x_t + k x_0, variance I) is made of: a, k and the variance, float64, shaped as t.

    a = alpha_{t|s} sigma_s² / sigma_t²,   k = alpha_s sigma²_{t|s} / sigma_t²,
    variance = sigma²_{t|s} sigma_s² / sigma_t²
    """
    alpha_ts, variance_ts = transition(s, t, schedule)
    (alpha_s, sigma_s), (_, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
    return (
        alpha_ts * sigma_s**2 / sigma_t**2,
        alpha_s * variance_ts / sigma_t**2,
        variance_ts * sigma_s**2 / sigma_t**2,
    )
