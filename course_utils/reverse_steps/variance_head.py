"""A variance for every pixel of a step, learned."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, In, checked
from course_utils._contract.times import check_time
from course_utils._validate import require_same
from course_utils.denoisers._inputs import require_input
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding
from course_utils.denoisers.layers import pad_to_multiple, zeroed
from course_utils.parameterizations import eps_from_x0
from course_utils.protocols import Schedule, Time, Variance
from course_utils.schedules.jumps import coeffs_for
from course_utils.tensors import broadcast, per_image
from course_utils.variational import step_variance

Images = Float[Tensor, "b *shape"]


class VarianceHead(nn.Module):
    r"""What squared error to expect of each pixel of x0_hat: e = floor + sigma_t² sigmoid(h(x_t, x0_hat, log-SNR_t)).

    On a variance-preserving schedule `step_variance(e)` thus runs, but for the floor, from the posterior's variance
    (share 0) to sigma²_{t|s} (share 1), the two ends that Nichol & Dhariwal 2021, Eq. 15, interpolate between. Theirs
    is a straight line between logarithms, whose best v depends on s; this one is a straight line between variances, and
    the best share is the same for every s.

    Args:
        channels: of the images; any height and width.
        width: channels inside.
        floor: the smallest error to expect. A millionth is a quarter of half a grey level, squared.
    """

    @checked
    def __init__(self, channels: Count = 1, width: Count = 48, floor: Annotated[float, In("[0, inf)")] = 1e-6):
        super().__init__()
        self.channels, self.floor, dim = channels, floor, 64
        self.embed = NoiseEmbedding(dim)
        self.first = nn.Conv2d(3 * 4 * channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film1, self.film2 = FiLM(dim, width), FiLM(dim, width)
        self.last = zeroed(nn.Conv2d(width, 4 * channels, 3, padding=1))

    def forward(
        self,
        x_t: Float[Tensor, "b c height width"],
        x0_hat: Float[Tensor, "b c height width"],
        t: Time,
        schedule: Schedule,
    ) -> Float[Tensor, "b c height width"]:
        """The expected squared error of each pixel of x0_hat, in the dtype of x_t."""
        require_same("x0_hat", x0_hat, "x_t", x_t)
        require_input(self, x_t.to(self.first.weight.dtype))  # a bound asks in float64
        alpha, sigma = coeffs_for(x_t, t, schedule)
        eps_hat = eps_from_x0(x_t, x0_hat, t, schedule)
        seen = torch.cat([x_t / (alpha**2 + sigma**2).sqrt(), x0_hat, eps_hat], 1).to(self.first.weight.dtype)
        vector = self.embed(per_image(schedule.log_snr(t), x_t))
        h = F.pixel_unshuffle(pad_to_multiple(seen, 2), 2)
        h = F.silu(self.film1(self.first(h), vector))
        h = F.silu(self.film2(self.second(h), vector))
        h = F.pixel_shuffle(self.last(h), 2)[..., : x_t.shape[-2], : x_t.shape[-1]]
        return self.floor + sigma**2 * torch.sigmoid(h.to(x_t.dtype))


@checked
def learned_variance(head: VarianceHead) -> Variance:
    """The head as a `variance` for `sample_ddpm` and `variational.bound`; it costs one call of the head a step."""

    def variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
        return step_variance(head(x_t, x0_hat, t, schedule), t, s, schedule)

    return variance


def relative_step_kl(
    squared: Float[Tensor, "b *shape"], relative: Float[Tensor, "..."], gain: Tensor | float
) -> Float[Tensor, "b *shape"]:
    """KL(q(x_s | x_t, x_0) || N(mean with x0_hat, relative · sigma~²)) of each pixel, in nats:

    1/2 [log relative + (1 + gain (x_0 - x0_hat)²) / relative - 1],    gain = k² / sigma~² = SNR_s - SNR_t

    relative = 1 + gain e is the step of `step_variance(e)`, relative = sigma_t² / sigma_s² that of sigma²_{t|s}.
    """
    return (torch.log(relative) + (1 + gain * squared) / relative - 1) / 2


@checked
def variance_loss(
    head: VarianceHead,
    x_0: Images,
    x_t: Images,
    x0_hat: Images,
    t: Time,
    s: Time,
    schedule: Schedule,
) -> Float[Tensor, "b"]:
    """What the step costs in the bound, nats a pixel, as a function of the head alone: L_vlb with the mean held fixed.

    Nothing flows back into x0_hat (Nichol & Dhariwal 2021, section 3.1). Onto clean data SNR_s is infinite; there
    1 / floor stands for it, for x_0 is known to no more than its grey level.

    Raises ValueError for s that is not before t, and for a floor that is 0, or above 1 / SNR_t, in a step onto data.
    """
    x0_hat = x0_hat.detach()
    snr_s = schedule.log_snr(check_time(s, schedule, "s")).exp()
    limit = torch.full_like(snr_s, 1 / head.floor if head.floor else math.inf)
    gain = torch.where(snr_s.isinf(), limit, snr_s) - schedule.log_snr(t).exp()
    if not ((gain > 0) & gain.isfinite()).all():
        raise ValueError("s: wanted a time before t, and onto data a head whose floor is between 0 and 1 / SNR_t")
    gain = broadcast(gain, x_t)
    relative = 1 + gain * head(x_t, x0_hat, t, schedule)
    return relative_step_kl((x_0 - x0_hat).square(), relative, gain).flatten(1).mean(1)
