r"""A small picture first, then a larger one that is told the small: a cascade (Ho et al. 2022), lesson 16.

    p(x) = p(y) p(x | y),    y the means of x over squares of k × k pixels

The network of the second factor is shown y, enlarged, beside x_t. Where y is drawn by another network, and so not quite
as real ones are, it is shown y_r = alpha_r y + sigma_r eps instead, and told r: in training for all r up to some, in
sampling for one that is chosen (noise-conditioning augmentation).
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from course_utils._contract import Count, checked
from course_utils._contract.times import Grid, check_time
from course_utils.denoisers._inputs import require_multiples
from course_utils.forward import noise_like, q_sample
from course_utils.protocols import Denoise, Schedule, Time
from course_utils.samplers import sample_ddim
from course_utils.samplers.walk import Callback, Images, Noise, draws, sampler

Pictures = Float[Tensor, "b c height width"]


@checked
def downsample(x: Pictures, k: Count) -> Float[Tensor, "b c small narrow"]:
    """The mean over each square of k × k pixels.

    Of white noise it leaves white noise, with 1 / k² of the variance; of a smooth picture almost all.

    Raises:
        ValueError: sides that k does not divide.
    """
    require_multiples("x", x.shape[-2:], k)
    return F.avg_pool2d(x, k)


@checked
def enlarge(x: Pictures, k: Count) -> Float[Tensor, "b c large wide"]:
    """Each pixel as a square of k × k: what `downsample` takes back to x."""
    return x.repeat_interleave(k, -1).repeat_interleave(k, -2)


@checked
def given_small(
    denoise: Denoise, small: Pictures, r: Time, schedule: Schedule, generator: torch.Generator | None = None
) -> Denoise:
    """The denoiser of large pictures, each given its small one: a denoiser like any other, for any sampler.

    Args:
        denoise: `denoise(x_t, t, r=…, beside=…, **cond)`, such as one that learned by `tasks.Upscaling`.
        small: a small picture for each large one.
        r: the time to which it is noised, once; 0 shows it as it is.
        schedule: whose time r is, the denoiser's own.
        generator: of that noise.
    """
    r = check_time(r, schedule, "r")
    shown = q_sample(small, r, schedule, noise_like(small, generator))

    def denoise_given(x_t: Tensor, t: Time, **cond: Any) -> Tensor:
        return denoise(x_t, t, r=r, beside=enlarge(shown, x_t.shape[-1] // small.shape[-1]), **cond)

    return denoise_given


@sampler
def sample_cascade(
    base: Denoise,
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    k: Count = 4,
    r: Time = 0,
    by: Callable[..., Tensor] = sample_ddim,
    base_timesteps: Grid | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """Small pictures by `base`, then large ones given them: p(y) p(x | y), by any sampler on one grid.

    With `functools.partial(sample_cascade, base)` it has the form of every other sampler.

    Args:
        base: a denoiser of pictures whose sides are 1 / k of those of x_T, on the same schedule.
        denoise: as of `given_small`.
        k: how many times the sides grow.
        r: the level of the augmentation, a time of the schedule.
        by: the sampler of both.
        base_timesteps: the grid of the small pictures; that of the large unless told.
        generator: of the small pictures' noise, the augmentation's, and the samplers'.
        callback: of the large pictures' steps.
    """
    grid = timesteps if base_timesteps is None else base_timesteps
    sigma = schedule.coeffs(grid[0])[1].item()
    more: dict[str, Any] = cond | ({"generator": generator} if draws(by) else {})
    small = by(base, sigma * noise_like(x_T[..., ::k, ::k], generator), schedule, grid, **more)
    above = given_small(denoise, small, r, schedule, generator)
    return by(above, x_T, schedule, timesteps, callback=callback, **more)
