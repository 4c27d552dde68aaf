"""Ancestral sampling: walk back by drawing from the posterior, with the denoiser's guess in place of x_0."""

from typing import Any

import torch

from course_utils._contract.times import Grid
from course_utils.forward import noise_like, posterior
from course_utils.protocols import Denoise, Schedule, Variance
from course_utils.samplers.walk import Callback, Images, Noise, Walk, sampler
from course_utils.variational import posterior_variance


@sampler
def sample_ddpm(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    variance: Variance = posterior_variance,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    r"""Draw x_s ~ q(x_s | x_t, x_0 = denoise(x_t, t)) from each time of the grid to the next (Ho et al. 2020, Alg. 2).

    x_s = mean(x_t, x0_hat) + sqrt(variance) z, with the mean of `forward.q_posterior`; no noise is added at s = 0.
    Steps may be longer than one: the posterior is that of the whole jump.

    Args:
        denoise: `denoise(x_t, t, **cond) -> x0_hat`.
        x_T: noise at the first time of the grid; its dtype is kept.
        timesteps: a falling grid; see `uniform_grid`.
        variance: of a step: `variational.posterior_variance`, `beta_variance`, an `optimal_variance`, a learned one.
        generator: for the noise of the steps.
        callback: gets a `Step` after each one.

    Raises:
        ValueError: a grid that does not fall; a denoiser that returns NaN or infinity, with the step where it did.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    for x, x0_hat, step in walk:
        mean, _ = posterior(x, x0_hat, step)
        noise = noise_like(x, generator)
        walk.x = mean + variance(x, x0_hat, step.t, step.s, schedule).sqrt() * noise if step.s > 0 else mean
    return walk.x
