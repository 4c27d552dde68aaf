"""DDIM: the same denoiser, and steps that may be long, because they need no noise."""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import require_in
from course_utils.forward import noise_like
from course_utils.parameterizations import eps_from_x0
from course_utils.samplers.grids import Step, ask, check_start
from course_utils.schedules import Schedule, broadcast, transition


@torch.no_grad()
def sample_ddim(
    denoise: Callable[..., Tensor],
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callable[[Step], None] | None = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
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
    check_start(denoise, x_T, schedule, timesteps)
    require_in("eta", eta, "[0, 1]")
    x = x_T
    for i, (t, s) in enumerate(itertools.pairwise(timesteps)):
        x0_hat = ask(denoise, x, t, i, cond)
        (alpha_s, sigma_s), (_, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
        _, variance_ts = transition(s, t, schedule)
        c = eta * variance_ts.sqrt() * sigma_s / sigma_t
        kept = (sigma_s**2 - c**2).clamp(min=0).sqrt()  # rounding may leave -1e-17
        before, x = x, broadcast(alpha_s, x) * x0_hat + broadcast(kept, x) * eps_from_x0(x, x0_hat, t, schedule)
        if eta > 0:
            x = x + broadcast(c, x) * noise_like(x, generator)
        if callback is not None:
            callback(Step(i, t, s, before, x0_hat, x))
    return x
