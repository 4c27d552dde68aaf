"""What a jump costs: the errors of a denoiser, and from them the price of every jump there is."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import FINITE, AllIn, Count, OneOf, Sizes, checked
from course_utils.forward import noise_like, q_sample
from course_utils.protocols import Counted, Denoise, Schedule, Time
from course_utils.samplers.walk import Noise, ask
from course_utils.schedules.jumps import coeffs_of
from course_utils.tensors import as_double, broadcast
from course_utils.variational import decoder_nll, optimal_variance

VARIANCES = ("posterior", "optimal")
VarianceName = Annotated[str, OneOf(VARIANCES)]


class Measured(NamedTuple):
    """What `cost_matrix` needs to know of a denoiser, at t = 1 … T."""

    errors: Tensor  # (T,): mean squared error a pixel
    decoder: Tensor  # (T,): -log p(x_0 | x_t) in nats an image, of the jump from t onto data
    decoder_variance: Tensor  # (T,): of that jump

    def variance(self, x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
        """The optimal variance of a step, the decoder's own onto data: for `sample_ddpm` and `variational.bound`."""
        if (coeffs_of(s, schedule)[1] == 0).all():
            return broadcast(self.decoder_variance[torch.as_tensor(t).long().cpu() - 1], x_t)
        known: dict[int | float, float] = dict(enumerate(self.errors.tolist(), start=1))
        return optimal_variance(known)(x_t, x0_hat, t, s, schedule)


@checked
@torch.no_grad()
def measure(
    denoise: Denoise,
    x_0: Noise,
    schedule: Counted,
    timesteps: Annotated[Sequence[int], Sizes()],
    *,
    variance: VarianceName = "optimal",
    generator: torch.Generator | None = None,
    **cond: Any,
) -> Measured:
    """The errors of a denoiser and what its jumps onto data cost, measured at some times and interpolated to all.

    The jump onto data is a likelihood, that of `variational.decoder_nll`: a Gaussian around x0_hat, cut into 256 bins.
    Its variance is sigma_t² ("posterior"), or the best of mse_t times 1, 2, 4, … 64 ("optimal"): mse_t is best for a
    density, but a pixel at the edge of the range costs no more if the Gaussian is wide, and those in the middle less.
    Between the times, the logarithms of the variances and the nats are taken as linear in the log-SNR. One noise serves
    all times, so that the curves are smooth.

    Args:
        x_0: 8-bit images in [-1, 1].
        timesteps: whole numbers from 1 to T, both included, in any order; b network calls each.

    Raises:
        ValueError: the first or the last time is missing, an unknown variance.
    """
    times = sorted(set(timesteps))
    if times[0] != 1 or times[-1] != schedule.T:
        raise ValueError(f"timesteps: wanted times from 1 to {schedule.T}, got {times[:3]} … {times[-1:]}")
    errors: list[float] = []
    eps, decoder, decoder_variance = noise_like(x_0, generator), [], []
    for t in times:
        x0_hat = as_double(ask(denoise, q_sample(x_0, t, schedule, eps), t, len(errors), cond))
        mse = (x0_hat - as_double(x_0)).square().mean().item()
        wide = [mse * 2**k for k in range(7)] if variance == "optimal" else [schedule.coeffs(t)[1].item() ** 2]
        nats = [decoder_nll(as_double(x_0), x0_hat, v).mean().item() for v in wide]
        errors.append(mse)
        decoder.append(min(nats))
        decoder_variance.append(wide[nats.index(min(nats))])
    noise_level = -schedule.log_snr(torch.arange(1, schedule.T + 1)).numpy()  # rises with t
    at = noise_level[np.array(times) - 1]
    return Measured(
        errors=torch.from_numpy(np.exp(np.interp(noise_level, at, np.log(errors)))),
        decoder=torch.from_numpy(np.interp(noise_level, at, decoder)),
        decoder_variance=torch.from_numpy(np.exp(np.interp(noise_level, at, np.log(decoder_variance)))),
    )


@checked
def cost_matrix(
    errors: Annotated[Float[Tensor, "{schedule.T}"], AllIn("[0, inf)")],
    decoder: Annotated[Float[Tensor, "{schedule.T}"], FINITE],
    schedule: Counted,
    dims: Count,
    *,
    variance: VarianceName = "optimal",
) -> Float[Tensor, "levels levels"]:
    """costs[t, s]: what the jump from t to s < t adds to the bound, in nats an image; infinite where s >= t.

    d/2 (SNR_s - SNR_t) mse_t  for the posterior's variance, from  (SNR_s - SNR_t)/2 |x_0 - x0_hat|²  (Kingma et al.
    2021, Eq. 13);  d/2 log(1 + (SNR_s - SNR_t) mse_t)  for the optimal one, which is never more. Column 0 is the jump
    onto data, whose price is a likelihood.

    Args:
        errors, decoder: at t = 1 … T; see `measure`.
        dims: pixels times channels of an image.
        variance: "posterior" or "optimal".

    Returns:
        (T + 1, T + 1), float64. The bound of a grid is `path_cost`, and `variational.prior_kl` on top.

    Raises:
        ValueError: not one error for each of t = 1 … T; one that is negative or not finite; an unknown variance.
    """
    snr = schedule.log_snr(torch.arange(1, schedule.T + 1)).exp().to(errors.device)
    told = (snr[None, :] - snr[:, None]) * as_double(errors)[:, None]  # [t, s]: what x_s tells beyond x_t
    costs = told.new_full((schedule.T + 1, schedule.T + 1), torch.inf)
    costs[1:, 1:] = dims / 2 * (told if variance == "posterior" else torch.log1p(told.clamp(min=0)))
    costs[1:, 0] = as_double(decoder)
    t = torch.arange(schedule.T + 1, device=costs.device)
    return costs.masked_fill(t[None, :] >= t[:, None], torch.inf)
