"""Continuous schedules: functions of t in [0, 1]."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, In, checked
from course_utils._contract.times import float_time
from course_utils.protocols import Time
from course_utils.schedules.discrete import DiscreteSchedule
from course_utils.schedules.times import LogSNR, bisect_log_snr
from course_utils.tensors import Table


class ContinuousSchedule:
    """A schedule given by two smooth functions of t in [0, 1]; `coeffs` can be differentiated by autograd."""

    T: int | None = None

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """(alpha_t, sigma_t), float64, each of the shape of t."""
        raise NotImplementedError

    def check_t(self, t: Time, name: str = "t") -> Float[Tensor, "*b"]:
        """t as float64, or an error that says which times there are."""
        return float_time(t, name)

    def log_snr(self, t: Time) -> Float[Tensor, "*b"]:
        alpha, sigma = self.coeffs(t)
        return 2 * (alpha.log() - sigma.log())

    @checked
    def t_at_log_snr(self, log_snr: LogSNR) -> Float[Tensor, "*b"]:
        """The t at which the log-SNR has the given value, by bisection (to float64's resolution of t)."""
        return bisect_log_snr(log_snr, self)

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v}" for k, v in vars(self).items() if isinstance(v, int | float))
        return f"{type(self).__name__}({settings})"


class VPLinear(ContinuousSchedule):
    """The variance-preserving SDE with linear beta(t) = beta_min + t (beta_max - beta_min)  (Song et al. 2021, Eq. 33).

    log alpha_t = -t² (beta_max - beta_min)/4 - t beta_min/2,   sigma_t² = 1 - alpha_t².
    """

    @checked
    def __init__(
        self,
        beta_min: Annotated[float, In("(0, inf)")] = 0.1,
        beta_max: Annotated[float, In("[beta_min, inf)")] = 20.0,
    ):
        self.beta_min, self.beta_max = beta_min, beta_max

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        t = self.check_t(t)
        log_alpha = -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()  # expm1 keeps small sigmas exact


class VPCosine(ContinuousSchedule):
    """alpha_t = cos(pi t / 2), sigma_t = sin(pi t / 2): a quarter turn from data to noise, SNR exactly 0 at t = 1."""

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        t = self.check_t(t)
        # sin(pi (1 - t) / 2) equals cos(pi t / 2) but is exactly zero at t = 1.
        return (math.pi / 2 * (1 - t)).sin(), (math.pi / 2 * t).sin()


class VE(ContinuousSchedule):
    """The variance-exploding SDE: the image keeps its size and noise grows geometrically (Song et al. 2021, Eq. 31).

    alpha_t = 1,   sigma_t² = sigma_min² ((sigma_max / sigma_min)^(2t) - 1), so that sigma_0 = 0 is clean data.
    """

    @checked
    def __init__(
        self,
        sigma_min: Annotated[float, In("(0, inf)")] = 0.01,
        sigma_max: Annotated[float, In("(sigma_min, inf)")] = 50.0,
    ):
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        t = self.check_t(t)
        growth = torch.expm1(2 * t * math.log(self.sigma_max / self.sigma_min))
        return torch.ones_like(t), self.sigma_min * growth.sqrt()


class FlowMatching(ContinuousSchedule):
    """alpha_t = 1 - t, sigma_t = t: a straight line from data to noise (Lipman et al. 2023; Liu et al. 2023).

    Those papers run time the other way, noise at 0; here, as everywhere in the course, t = 0 is clean.
    """

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        t = self.check_t(t)
        return 1 - t, t.clone()


class LearnedSchedule(nn.Module, ContinuousSchedule):
    """A variance-preserving schedule whose log-SNR is a small monotone network (Kingma et al. 2021, appendix H).

    gamma(t) = -log SNR_t rises from gamma_0 to gamma_1;  alpha_t² = sigmoid(-gamma), sigma_t² = sigmoid(gamma).
    The network is  l1(t) + l3(sigmoid(l2(l1(t))))  with positive weights, so it can only rise; it is then shifted and
    scaled onto the two ends, which stay fixed. t = 0 is therefore *nearly* clean: sigma_0 = exp(gamma_0 / 2), 0.0013.
    """

    @checked
    def __init__(
        self,
        gamma_0: Annotated[float, In("(-inf, inf)")] = -13.3,
        gamma_1: Annotated[float, In("(gamma_0, inf)")] = 5.0,
        hidden: Count = 64,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.gamma_0, self.gamma_1 = gamma_0, gamma_1
        # Stored before a softplus, which makes them positive. The hidden units start spread over t in [0, 1].
        self.w1 = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.w2 = nn.Parameter(3 + torch.randn(hidden, generator=generator, dtype=torch.float64))
        self.b2 = nn.Parameter(-6 * torch.rand(hidden, generator=generator, dtype=torch.float64))
        self.w3 = nn.Parameter(torch.full((hidden,), -4.0, dtype=torch.float64))

    def _rising(self, t: Tensor) -> Tensor:
        w1, w2, w3 = (F.softplus(w.to(t)) for w in (self.w1, self.w2, self.w3))  # where t is, in its precision
        first = w1 * t
        return first + torch.sigmoid(first[..., None] * w2 + self.b2.to(t)) @ w3

    def gamma(self, t: Time) -> Float[Tensor, "*b"]:
        """-log SNR_t, rising from gamma_0 at t = 0 to gamma_1 at t = 1."""
        t = self.check_t(t)
        start, end = self._rising(torch.arange(2, dtype=t.dtype, device=t.device))
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * (self._rising(t) - start) / (end - start)

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        gamma = self.gamma(t)
        return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()

    def log_snr(self, t: Time) -> Float[Tensor, "*b"]:
        return -self.gamma(t)


class ContinuousTwin(ContinuousSchedule):
    """A discrete schedule in continuous time: the same at t / T, and between them log alpha_bar on a straight line.

    A network that is told the log-SNR cannot tell the two apart, and times can then be moved by a gradient.

    Raises:
        ValueError: a schedule that ends in alpha_bar = 0, which has no logarithm.
    """

    @checked
    def __init__(self, schedule: DiscreteSchedule):
        if schedule.alpha_bar[-1] == 0:
            raise ValueError("schedule: wanted alpha_bar[T] > 0, got 0, whose logarithm no line can reach")
        self.steps, self.log_alpha_bar = schedule.T, schedule.alpha_bar.log()
        self._table = Table(self.log_alpha_bar)

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        u = self.check_t(t) * self.steps
        below = u.detach().nan_to_num().floor().clamp(max=self.steps - 1).long()
        table = self._table.on(u.device)
        log_alpha_bar = table[below] + (u - below) * (table[below + 1] - table[below])
        return (log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt()
