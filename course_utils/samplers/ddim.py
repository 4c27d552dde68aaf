"""DDIM: the same denoiser, and steps that may be long, because they need no noise."""

from typing import Annotated, Any

import torch

from course_utils._contract import In
from course_utils._contract.times import Grid
from course_utils.forward import noise_like
from course_utils.protocols import Denoise, Schedule
from course_utils.samplers.walk import Callback, Images, Noise, Walk, sampler
from course_utils.tensors import broadcast


@sampler
def sample_ddim(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    eta: Annotated[float, In("[0, 1]")] = 0.0,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    r"""Keep the noise that is in x_t, and take it to the next level (Song et al. 2021, Eq. 12, for any schedule):

    x_s = alpha_s x0_hat + sqrt(sigma_s² - c²) eps_hat + c z,      eps_hat = (x_t - alpha_t x0_hat) / sigma_t
    c² = eta² sigma²_{t|s} sigma_s² / sigma_t², eta² times the variance of the posterior q(x_s | x_t, x_0)

    eta = 0 draws no noise on the way: x_0 is then a function of x_T. eta = 1 is `sample_ddpm`.

    Args:
        denoise: `denoise(x_t, t, **cond) -> x0_hat`.
        x_T: noise at the first time of the grid; its dtype is kept.
        timesteps: a falling grid; see `uniform_grid`.
        eta: 0 … 1.
        generator: for the noise of the steps.
        callback: gets a `Step` after each one.

    Raises:
        ValueError: eta out of range; a grid that does not fall; a denoiser that returns NaN or infinity, with the step
            where it did.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    for x, x0_hat, step in walk:
        c = eta * step.variance_ts.sqrt() * step.sigma_s / step.sigma_t
        kept = (step.sigma_s**2 - c**2).clamp(min=0).sqrt()  # rounding may leave -1e-17
        eps_hat = (x - broadcast(step.alpha_t, x) * x0_hat) / broadcast(step.sigma_t, x)
        walk.x = broadcast(step.alpha_s, x) * x0_hat + broadcast(kept, x) * eps_hat
        if eta > 0:
            walk.x = walk.x + broadcast(c, x) * noise_like(x, generator)
    return walk.x
