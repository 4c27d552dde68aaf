r"""Samplers of networks that jump (lesson 14): told where a jump begins, t, and ends, r, they need few of them.

A flow map takes x_t along the probability-flow ODE to x_r, in one call however far it is. Written with a denoiser,

    x_r = alpha_r x0_hat(x_t, t, r) + (sigma_r / sigma_t) (x_t - alpha_t x0_hat(x_t, t, r)),

it is a step of DDIM whose guess may depend on r. With r = t the guess is E[x_0 | x_t], that of every denoiser; with
r = 0 the jump ends at the guess itself, the consistency function of Song et al. (2023).
"""

from typing import Any

import torch

from course_utils._contract.times import Grid
from course_utils.forward import noise_like
from course_utils.protocols import Denoise, Schedule
from course_utils.samplers.walk import Callback, Images, Noise, Walk, sampler
from course_utils.tensors import broadcast


@sampler
def sample_flow_map(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """From each time of the grid to the next by one jump, and one network call; it draws nothing on the way.

    Args:
        denoise: `denoise(x_t, t, r=r, **cond) -> x0_hat`, such as a `Denoiser` whose network has a second time.

    Raises ValueError for a grid that does not fall, NaN, or a network that knows one time only.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond, tell_end=True)
    for x, x0_hat, step in walk:
        walk.x = step.advance(x, x0_hat)
    return walk.x


@sampler
def sample_consistency(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """All the way to clean data each time, then back up to the next time with fresh noise (Song et al. 2023, Alg. 1).

    Args:
        denoise: `denoise(x_t, t, r=0, **cond) -> x_0`.
        generator: of that noise; none is drawn for the last step if the grid ends at 0.

    Raises as `sample_flow_map` does.
    """
    asked = _to_clean(denoise)
    walk = Walk(asked, x_T, schedule, timesteps, callback, cond)
    for x, x0_hat, step in walk:
        walk.x = broadcast(step.alpha_s, x) * x0_hat
        if step.sigma_s > 0:
            walk.x = walk.x + broadcast(step.sigma_s, x) * noise_like(x, generator)
    return walk.x


def _to_clean(denoise: Denoise) -> Denoise:
    """The guess for a jump that ends at clean data, t = 0."""
    return lambda x_t, t, **cond: denoise(x_t, t, r=0 * t, **cond)  # of the kind of t
