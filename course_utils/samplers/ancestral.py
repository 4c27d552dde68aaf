"""Ancestral sampling: walk back by drawing from the posterior, with the denoiser's guess in place of x_0."""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import require_callable
from course_utils.forward import noise_like, q_posterior
from course_utils.samplers.grids import Step, ask, check_start
from course_utils.schedules import Schedule
from course_utils.variational import Variance, posterior_variance


@torch.no_grad()
def sample_ddpm(
    denoise: Callable[..., Tensor],
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    variance: Variance = posterior_variance,
    generator: torch.Generator | None = None,
    callback: Callable[[Step], None] | None = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
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
    check_start(denoise, x_T, schedule, timesteps)
    require_callable("variance", variance)
    x = x_T
    for i, (t, s) in enumerate(itertools.pairwise(timesteps)):
        x0_hat = ask(denoise, x, t, i, cond)
        mean, _ = q_posterior(x, x0_hat, t, schedule, s)
        noise = noise_like(x, generator)
        before, x = x, mean + variance(x, x0_hat, t, s, schedule).sqrt() * noise if s > 0 else mean
        if callback is not None:
            callback(Step(i, t, s, before, x0_hat, x))
    return x
