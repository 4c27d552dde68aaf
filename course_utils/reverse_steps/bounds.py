"""The variances between which the best one of a step must lie, for what is known of the data."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import DOUBLE, SOME, AllIn, checked
from course_utils.protocols import Schedule, Time
from course_utils.tensors import as_double, nonzero
from course_utils.variational import beta_variance, step_variance

Images = Float[Tensor, "b *shape"]
Variances = Annotated[Tensor | float, DOUBLE, SOME, AllIn("[0, inf]")]


@checked
def log_interpolated(v: Images, t: Time, s: Time, schedule: Schedule) -> Images:
    """exp(v log sigma²_{t|s} + (1 - v) log sigma~²)           (Nichol & Dhariwal 2021, Eq. 15), for any jump.

    Raises ValueError at s = 0, where sigma~² = 0 has no logarithm.
    """
    beta = beta_variance(v, v, t, s, schedule)
    why = "wanted s > 0; at s = 0 the posterior's variance is zero and has no logarithm"
    known = nonzero(step_variance(torch.zeros_like(v), t, s, schedule), why, "s")
    return torch.exp(v * beta.log() + (1 - v) * known.log())


@checked
def error_bound(t: Time, schedule: Schedule, variances: Variances = math.inf) -> Float[Tensor, "*b"]:
    """The most that the best denoiser errs, a pixel, if the data have these variances: mean of 1/(SNR_t + 1/variance).

    That is what the best *linear* denoiser errs. With the eigenvalues of the data's covariance it is its exact error;
    with each pixel's variance, or ((b - a) / 2)² for pixels in [a, b], more; with nothing known of the data
    1/SNR_t = sigma_t² / alpha_t² is left (Bao et al. 2022, Thm. 2).
    """
    snr = schedule.log_snr(t).exp()[..., None]
    return (1 / (snr + 1 / as_double(variances, snr.device).flatten())).mean(-1)


@checked
def variance_bounds(
    t: Time, s: Time, schedule: Schedule, variances: Variances = math.inf
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """The least and the most that the optimal variance of a step can be, for data of these variances (`error_bound`).

    From sigma~², if x_t told x_0 exactly, to sigma~² + k² error_bound (Bao et al. 2022, Thm. 2); the latter is
    sigma²_{t|s} / alpha²_{t|s} if nothing is known of the data.
    """
    most = error_bound(t, schedule, variances)
    return step_variance(torch.zeros_like(most), t, s, schedule), step_variance(most, t, s, schedule)
