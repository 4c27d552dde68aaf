"""The bound itself: its terms, and their sum over any grid."""

import itertools
import math
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import AllIn, Count, checked
from course_utils._contract.times import Grid, check_time, numbers
from course_utils.forward import noise_like, posterior, q_posterior, q_sample
from course_utils.protocols import Counted, Denoise, Schedule, Time, Variance, steps_of
from course_utils.schedules.jumps import coeffs_for, coeffs_of, jump
from course_utils.tensors import as_double
from course_utils.variational.variances import posterior_variance

Images = Float[Tensor, "b *shape"]
Spread = Annotated[Float[Tensor, "#b *#shape"] | Float[Tensor, ""] | float, AllIn("(0, inf]")]
"""A variance: a number, or a tensor that has each axis of the images or 1; a bare (b,) would meet their last axis."""


def _sum_over_pixels(x: Tensor) -> Tensor:
    return x.unsqueeze(1).flatten(1).sum(1)  # (b,) stays (b,)


@checked
def gaussian_kl(
    mean_q: Images,
    var_q: Spread,
    mean_p: Images,
    var_p: Spread,
) -> Float[Tensor, "b"]:
    """KL(N(mean_q, var_q) || N(mean_p, var_p)) summed over pixels, in nats; a variance is a number, or per pixel.

    KL = 1/2 sum [ log(var_p / var_q) + (var_q + (mean_q - mean_p)²) / var_p - 1 ]
    """
    var_q, var_p = as_double(var_q).to(mean_q), as_double(var_p).to(mean_q)
    ratio = var_q / var_p
    # Small terms are added to small ones: with equal variances nothing is lost, not even in float32.
    return _sum_over_pixels((ratio - 1 - ratio.log()) + (mean_q - mean_p) ** 2 / var_p) / 2


@checked
def prior_kl(x_0: Images, schedule: Schedule, t: Time | None = None) -> Float[Tensor, "b"]:
    """L_T = KL(q(x_T | x_0) || N(0, I)), in nats: what the last noise level still tells about x_0 (Eq. 5).

    For schedules that end in noise of variance about 1; one that explodes has another prior, and no bound of this form.
    `t` is where a grid begins that does not begin at the last level.
    """
    last = steps_of(schedule) or 1.0
    alpha, sigma = coeffs_for(x_0, last if t is None else t, schedule)
    return gaussian_kl(alpha * x_0, sigma**2, torch.zeros_like(x_0), 1.0)


@checked
def step_kl(
    x_0: Images,
    x0_hat: Images,
    x_t: Images,
    t: Time,
    schedule: Counted,
) -> Float[Tensor, "b"]:
    """L_{t-1} for t >= 2: KL between the posterior given x_0 and the one given the guess x0_hat, in nats (Eq. 5)."""
    t = check_time(t, schedule, first=2)  # the step to t = 0 has a likelihood, not a KL
    mean_q, variance = q_posterior(x_t, x_0, t, schedule)
    mean_p, _ = q_posterior(x_t, x0_hat, t, schedule)
    return gaussian_kl(mean_q, variance, mean_p, variance)


@checked
def step_weight(t: Time, schedule: Counted) -> Float[Tensor, "*b"]:
    """w_t with L_{t-1} = w_t |x_0 - x0_hat|²:  w_t = (SNR_{t-1} - SNR_t) / 2    (Kingma et al. 2021, Eq. 13)

    Infinite at t = 1, where SNR_0 is: there L_0, a likelihood and not a KL, takes its place.
    """
    t = check_time(t, schedule, first=1)
    return (schedule.log_snr(t - 1).exp() - schedule.log_snr(t).exp()) / 2


@checked
def bits_per_dim(nats: Float[Tensor, "b"], dims: Count) -> Float[Tensor, "b"]:
    """Nats an image as bits a pixel value: nats / (dims log 2)."""
    return nats / (dims * math.log(2))


# ---------------------------------------------------------------------------------------------------------------------
# The bound on any grid
# ---------------------------------------------------------------------------------------------------------------------


@checked
def decoder_nll(x_0: Images, mean: Images, variance: Spread) -> Float[Tensor, "b"]:
    r"""-log p(x_0) of 8-bit images in [-1, 1] under a Gaussian that is cut into 256 bins (Ho et al. 2020, Eq. 13):

    p(x_0) = prod over pixels of  Phi((x + 1/255 - mean) / sd) - Phi((x - 1/255 - mean) / sd)

    summed over pixels, in nats. The outermost bins reach to infinity, so the 256 probabilities sum to one.
    """
    sd = as_double(variance).to(mean).sqrt()
    half = 1 / 255
    above = torch.where(x_0 > 1 - half, math.inf, (x_0 + half - mean) / sd)
    below = torch.where(x_0 < -1 + half, -math.inf, (x_0 - half - mean) / sd)
    # Phi(a) - Phi(b) = Phi(-b) - Phi(-a): on the side where both are small, the difference keeps its digits.
    flip = below > 0
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    log_above, log_below = torch.special.log_ndtr(above), torch.special.log_ndtr(below)
    return -_sum_over_pixels(log_above + torch.log(-torch.expm1(log_below - log_above)))


@checked
def jump_cost(
    x_0: Images,
    x0_hat: Images,
    x_t: Images,
    t: Time,
    s: Time,
    schedule: Schedule,
    variance: Variance = posterior_variance,
) -> Float[Tensor, "b"]:
    """What the step from t to s adds to the bound, in nats: a KL, or the decoder's likelihood for the step onto data.

    KL(q(x_s | x_t, x_0) || N(mean, v)), where the mean is that of q(x_s | x_t, x0_hat). Computed in float64: the two
    means differ by little.
    """
    onto_data = coeffs_of(check_time(s, schedule, "s"), schedule)[1] == 0
    if onto_data.any() != onto_data.all():
        raise ValueError("s: wanted clean data for all images or for none, got both")
    x_0, x0_hat, x_t = as_double(x_0), as_double(x0_hat), as_double(x_t)
    v = variance(x_t, x0_hat, t, s, schedule)
    if onto_data.all():
        return decoder_nll(x_0, x0_hat, v)
    step = jump(t, s, schedule)
    (mean_q, var_q), (mean_p, _) = posterior(x_t, x_0, step), posterior(x_t, x0_hat, step)
    return gaussian_kl(mean_q, var_q, mean_p, v)


class Bound(NamedTuple):
    """The bound's terms, in nats, one number an image."""

    prior: Tensor  # (b,): KL of the first level against N(0, I)
    steps: Tensor  # (n - 1, b): KL of each step but the last, from noise to data
    decoder: Tensor  # (b,): -log p(x_0) of the last step

    @property
    def total(self) -> Tensor:
        """(b,): an upper bound on -log p(x_0)."""
        return self.prior + self.steps.sum(0) + self.decoder


@checked
@torch.no_grad()
def bound(
    denoise: Denoise,
    x_0: Images,
    schedule: Schedule,
    timesteps: Grid,
    *,
    variance: Variance = posterior_variance,
    generator: torch.Generator | None = None,
    **cond: Any,
) -> Bound:
    """The variational bound of the sampler that walks this grid with this variance, one draw of x_t a step.

    -log p(x_0) <= prior + sum of KLs + decoder                                     (Ho et al. 2020, Eq. 5, on any grid)

    Raises:
        ValueError: a grid that does not fall, or does not end on clean data.
    """
    times = numbers(timesteps)
    if coeffs_of(times[-1], schedule)[1] > 0:
        raise ValueError(f"timesteps: wanted a grid that ends on clean data, got one that ends at {times[-1]}")
    costs = []
    for t, s in itertools.pairwise(times):
        x_t = q_sample(x_0, t, schedule, noise_like(x_0, generator))
        costs.append(jump_cost(x_0, denoise(x_t, t, **cond), x_t, t, s, schedule, variance))
    prior = prior_kl(as_double(x_0), schedule, times[0])
    steps = torch.stack(costs[:-1]) if len(costs) > 1 else prior.new_zeros(0, len(prior))
    return Bound(prior, steps, costs[-1])
