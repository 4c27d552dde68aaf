"""Samplers: from noise to images. One function an algorithm, all of one form:

sample_<name>(denoise, x_T, schedule, timesteps, *, generator=None, callback=None) -> x at the last of the timesteps

`timesteps` is a descending grid, one step between neighbours; `denoise(x_t, t, **cond) -> x0_hat` is a network wrapped
by `denoisers.Denoiser`, or an exact denoiser of `toy`. `callback` gets a `Step` after each one: films,
progress bars and plots hang there. What they share is in `walk`.
"""

from course_utils.samplers.ancestral import sample_ddpm
from course_utils.samplers.ddim import sample_ddim
from course_utils.samplers.flow_maps import sample_consistency, sample_flow_map
from course_utils.samplers.grids import (
    karras_grid,
    leading_grid,
    linspace_grid,
    log_snr_grid,
    quadratic_grid,
    uniform_grid,
)
from course_utils.samplers.solvers import sample_dpmpp_2m, sample_dpmpp_2s, sample_euler, sample_heun, sample_unipc
from course_utils.samplers.walk import Step
from course_utils.samplers.wrappers import clip_x0, dynamic_threshold

__all__ = [
    "Step",
    "clip_x0",
    "dynamic_threshold",
    "karras_grid",
    "leading_grid",
    "linspace_grid",
    "log_snr_grid",
    "quadratic_grid",
    "sample_consistency",
    "sample_ddim",
    "sample_ddpm",
    "sample_dpmpp_2m",
    "sample_dpmpp_2s",
    "sample_euler",
    "sample_flow_map",
    "sample_heun",
    "sample_unipc",
    "uniform_grid",
]
