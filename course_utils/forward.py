r"""The forward process: from an image to noise, one step at a time, in one jump, and back if the image is known.

Lessons 01 and 03 derive these. Equation numbers are those of Ho et al. 2020 (DDPM).
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import checked
from course_utils._contract.times import check_time
from course_utils.protocols import Counted, Schedule, Time, steps_of
from course_utils.schedules.jumps import Jump, coeffs_for, jump, transition
from course_utils.tensors import broadcast


@checked
def noise_like(x: Float[Tensor, "*shape"], generator: torch.Generator | None = None) -> Float[Tensor, "*shape"]:
    """Standard normal noise of the shape, dtype and device of x, drawn with the given generator.

    A CPU generator serves every device: the noise is drawn on the CPU and moved, so a seed means the same everywhere.
    """
    device = generator.device if generator is not None else x.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(
        x.device, non_blocking=device.type == "cpu"
    )


@checked
def q_step(
    x_prev: Float[Tensor, "b *shape"], t: Time, schedule: Counted, eps: Float[Tensor, "b *shape"]
) -> Float[Tensor, "b *shape"]:
    r"""One step of the forward chain, from x_{t-1} to x_t.

    x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps           (Eq. 2)

    Args:
        x_prev: x_{t-1}, floats.
        t: the time stepped *to*, 1 … T; a number, or one per image.
        schedule: a discrete schedule.
        eps: standard normal noise of the shape of x_prev.
    """
    t = check_time(t, schedule, first=1)
    alpha, variance = transition(t - 1, t, schedule)
    return broadcast(alpha, x_prev) * x_prev + broadcast(variance.sqrt(), x_prev) * eps


@checked
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
    alpha, sigma = coeffs_for(x_0, t, schedule)
    return alpha * x_0 + sigma * eps


@checked
def q_chain(
    x_0: Float[Tensor, "b *shape"], schedule: Counted, generator: torch.Generator | None = None
) -> Iterator[tuple[int, Float[Tensor, "b *shape"]]]:
    """The forward chain, lazily: yields (0, x_0), (1, x_1), … (T, x_T), holding one x_t at a time."""
    x_t = x_0
    yield 0, x_t
    for t in range(1, schedule.T + 1):
        x_t = q_step(x_t, t, schedule, noise_like(x_t, generator))
        yield t, x_t


@checked
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
    if s is None:
        if steps_of(schedule) is None:
            raise ValueError("s: a continuous schedule has no step before t; say which s < t is wanted")
        t = check_time(t, schedule, first=1)
        s = t - 1
    mean, variance = posterior(x_t, x_0, jump(t, s, schedule))
    return mean, variance.to(x_t.device)


def posterior(x_t: Tensor, x_0: Tensor, step: Jump) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0): `q_posterior` for a jump whose coefficients are known."""
    of_x_t, of_x_0, variance = step.posterior
    mean = broadcast(of_x_t, x_t) * x_t + broadcast(of_x_0, x_t) * x_0
    return mean, broadcast(variance, x_t)


def posterior_coeffs(t: Time, s: Time, schedule: Schedule) -> tuple[Tensor, Tensor, Tensor]:
    r"""What q(x_s | x_t, x_0) = N(a x_t + k x_0, variance I) is made of: a, k and the variance, float64, shaped as t.

    a = alpha_{t|s} sigma_s² / sigma_t²,   k = alpha_s sigma²_{t|s} / sigma_t²,
    variance = sigma²_{t|s} sigma_s² / sigma_t²
    """
    return jump(t, s, schedule).posterior
