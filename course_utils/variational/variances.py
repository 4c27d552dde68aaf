"""The variance of a reverse step: three that are known beforehand, and the best one for what a denoiser errs."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import FINITE, Is, checked
from course_utils._contract.times import check_time
from course_utils.forward import noise_like, posterior_coeffs, q_sample
from course_utils.protocols import Denoise, Schedule, Time, Variance, answer
from course_utils.schedules.jumps import jump, transition
from course_utils.tensors import as_double, broadcast


def beta_variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
    """sigma²_{t|s}, beta_t for s = t - 1: right for data that are N(0, I); the larger (Ho et al. 2020, 3.2)"""
    _, variance_ts = transition(s, t, schedule)
    return broadcast(variance_ts, x_t)


def posterior_variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
    """beta-tilde, sigma²_{t|s} sigma_s² / sigma_t²: right for data that are one point (Ho et al. 2020, Eq. 7).

    The step onto the data has none by that formula, and a decoder without a variance no likelihood: it gets
    sigma²_{t|s} = sigma_t². (Ho et al. give it beta-tilde of the step before; the samplers never use it.)
    """
    step = jump(t, s, schedule)
    known, larger = broadcast(step.posterior[2], x_t), broadcast(step.variance_ts, x_t)
    return torch.where(known > 0, known, larger)


@checked
def step_variance(error: Float[Tensor, "..."], t: Time, s: Time, schedule: Schedule) -> Float[Tensor, "*b"]:
    """Of a step whose x_0 is known up to that squared error: the posterior's own variance, and that of its mean.

    sigma²_{t|s} sigma_s² / sigma_t² + k² error,    k = alpha_s sigma²_{t|s} / sigma_t²        (Bao et al. 2022, Thm. 1)

    `error` may be a number, one per image, or one per pixel. Onto clean data, where k = 1, it is `error`.
    """
    _, k, known = posterior_coeffs(t, s, schedule)
    return broadcast(known, error) + broadcast(k**2, error) * error


Errors = Annotated[Mapping[int | float, float], Is("errors by their times, as `denoising_errors` returns them")]


@checked
def optimal_variance(errors: Errors) -> Variance:
    r"""The best variance of a Gaussian step, for a denoiser that is so far from x_0 (Bao et al. 2022, Thm. 1):

    `step_variance(mse_t)`. It minimises the bound over all variances that are one number a step, whatever the denoiser.

    Args:
        errors: mse_t, mean squared error a pixel, at each t that will be stepped from; see `denoising_errors`.
    """

    def variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
        times = as_double(t)  # a float32 0.8 would not be found
        missing = [one for one in times.flatten().tolist() if one not in errors]
        if missing:
            raise ValueError(f"errors: no mean squared error is known at t = {missing[0]}")
        mse = as_double([errors[one] for one in times.flatten().tolist()]).reshape(times.shape)
        return broadcast(step_variance(mse, t, s, schedule), x_t)

    return variance


@checked
@torch.no_grad()
def denoising_errors(
    denoise: Denoise,
    x_0: Annotated[Float[Tensor, "b *shape"], FINITE],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    generator: torch.Generator | None = None,
    **cond: Any,
) -> dict[int | float, float]:
    """mse_t = mean (x_0 - denoise(x_t, t))² over images and pixels, at each of the times above 0.

    For the exact denoiser this is E Var[x_0 | x_t], a pixel.
    """
    errors = {}
    for t in timesteps:
        if check_time(t, schedule, "timesteps") > 0:
            x0_hat = answer(denoise, q_sample(x_0, t, schedule, noise_like(x_0, generator)), t, cond, "x_0")
            errors[t] = (as_double(x0_hat) - as_double(x_0)).square().mean().item()
    return errors
