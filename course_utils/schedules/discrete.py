"""Discrete schedules: a table of alpha_bar, indexed by t = 0 … T."""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils._contract import DOUBLE, SOME, AllIn, Count, In, checked
from course_utils._contract.times import whole_time
from course_utils._validate import require_falling
from course_utils.protocols import Time
from course_utils.schedules.times import LogSNR, search_log_snr
from course_utils.tensors import Table, nonzero

Beta = Annotated[float, In("(0, 1)")]
Clip = Annotated[float, In("(0, 1]")]


class DiscreteSchedule:
    r"""A variance-preserving schedule of T steps, given by its table of alpha_bar.

    alpha_bar_t = prod_{s=1}^t (1 - beta_s), with alpha_bar_0 = 1           (DDPM, above Eq. 4)
    alpha_t = sqrt(alpha_bar_t),  sigma_t = sqrt(1 - alpha_bar_t)

    Args:
        alpha_bar: (T + 1,) falling strictly from exactly 1 to a value in [0, 1).

    Attributes (all (T + 1,), float64, so that index t is the paper's t):
        alpha_bar; alphas = 1 - betas; betas, with betas[0] = 0 as nothing happens before step 1.

    Raises:
        ValueError: alpha_bar does not start at 1, does not fall, leaves [0, 1], or is not finite.
    """

    T: int

    @checked
    def __init__(self, alpha_bar: Annotated[Tensor, DOUBLE]):
        alpha_bar = alpha_bar.cpu().double().clone()
        require_falling("alpha_bar", alpha_bar, start=1.0)
        self.alpha_bar = alpha_bar
        self.alphas = torch.cat([alpha_bar.new_ones(1), alpha_bar[1:] / alpha_bar[:-1]])
        self.betas = 1 - self.alphas
        self.T = len(alpha_bar) - 1
        self._table = Table(alpha_bar)

    @classmethod
    @checked
    def from_betas(cls, betas: Annotated[Float[Tensor, "T"], DOUBLE, SOME, AllIn("(0, 1]")]) -> "DiscreteSchedule":
        """The schedule with the T step variances beta_1 … beta_T, each in (0, 1]; only the last may be 1."""
        if (betas[:-1] == 1).any():
            raise ValueError("betas: only the last may be 1, after which no image is left, got an earlier 1")
        return cls(torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(T={self.T}, alpha_bar[T]={self.alpha_bar[-1].item():.3g})"

    def check_t(self, t: Time, name: str = "t") -> Int[Tensor, "*b"]:
        """t as whole numbers, or an error that says which there are."""
        return whole_time(t, self.T, name)

    def _alpha_bar_at(self, t: Time) -> Tensor:
        t = self.check_t(t)
        there = t.clamp(0, self.T)  # on a GPU, where no one looked; a kernel that misses its table ends the session
        found = self._table.on(t.device)[there]
        return found if t.device.type == "cpu" else found.masked_fill(t != there, torch.nan)

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        alpha_bar = self._alpha_bar_at(t)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def log_snr(self, t: Time) -> Float[Tensor, "*b"]:
        alpha_bar = self._alpha_bar_at(t)
        return alpha_bar.log() - torch.log1p(-alpha_bar)

    @checked
    def t_at_log_snr(self, log_snr: LogSNR) -> Int[Tensor, "*b"]:
        """The first t in 1 … T whose log-SNR is at or below the value (T if none is)."""
        return search_log_snr(log_snr, self.T, self)


@checked
def linear(T: Count = 1000, beta_1: Beta = 1e-4, beta_T: Beta = 0.02) -> DiscreteSchedule:
    """beta_t rises on a straight line from beta_1 to beta_T (DDPM, section 4; its constants are for T = 1000)."""
    return DiscreteSchedule.from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64))


@checked
def exponential(T: Count = 1000, beta_1: Beta = 1e-4, beta_T: Beta = 0.04) -> DiscreteSchedule:
    """beta_t = beta_1 (beta_T / beta_1)^((t - 1) / (T - 1)): variances grow by a constant factor."""
    log_betas = torch.linspace(math.log(beta_1), math.log(beta_T), T, dtype=torch.float64)
    return DiscreteSchedule.from_betas(log_betas.exp())


@checked
def from_alpha_bar_function(
    T: Count, alpha_bar: Callable[[Tensor], Tensor], max_beta: Clip = 0.999
) -> DiscreteSchedule:
    """The schedule that follows a falling function of u = t / T in [0, 1], with every beta_t clipped to `max_beta`.

    Without the clip a function that ends at zero would end with beta_T = 1, and eps-prediction would divide by
    alpha_T = 0 (Nichol & Dhariwal 2021, below Eq. 17). The function need not start at 1: it is divided by its start.
    """
    values = alpha_bar(torch.linspace(0, 1, T + 1, dtype=torch.float64))
    require_falling("alpha_bar", values, start=None, length=T + 1)
    betas = 1 - values[1:] / values[:-1]
    return DiscreteSchedule.from_betas(betas.clamp(max=max_beta))


@checked
def cosine(T: Count = 1000, s: Annotated[float, In("[0, inf)")] = 0.008, max_beta: Clip = 0.999) -> DiscreteSchedule:
    """alpha_bar_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) pi/2), betas clipped  (Nichol & Dhariwal 2021, Eq. 17)."""
    return from_alpha_bar_function(T, lambda u: ((u + s) / (1 + s) * math.pi / 2).cos() ** 2, max_beta)


@checked
def sigmoid(
    T: Count = 1000,
    start: Annotated[float, In("(-inf, inf)")] = -3.0,
    end: Annotated[float, In("(start, inf)")] = 3.0,
    tau: Annotated[float, In("(0, inf)")] = 1.0,
    max_beta: Clip = 0.999,
) -> DiscreteSchedule:
    """alpha_bar_t falls as a sigmoid: with h(u) = sigmoid((u (end - start) + start) / tau) and u = t/T,

    alpha_bar_t = (h(1) - h(u)) / (h(1) - h(0))         (Chen 2023, Algorithm 1), betas clipped to max_beta.
    """

    def falling(u: Tensor) -> Tensor:
        h = torch.sigmoid((u * (end - start) + start) / tau)
        return (h[-1] - h) / (h[-1] - h[0])

    return from_alpha_bar_function(T, falling, max_beta)


@checked
def rescale_zero_terminal_snr(schedule: DiscreteSchedule) -> DiscreteSchedule:
    """The same schedule shifted and scaled so that x_T holds no trace of x_0: alpha_T = 0 (Lin et al. 2023, Alg. 1).

    sqrt(alpha_bar) is shifted to end at 0 and scaled to keep its value at t = 1. Predict x_0 or v with it: at t = T
    the noise says nothing about x_0, so eps-prediction has nothing to divide by.
    """
    root = schedule.alpha_bar.sqrt()
    drop = nonzero(root[1] - root[-1], "wanted at least two steps to rescale, got T = 1", "schedule")
    rescaled = (root - root[-1]) * root[1] / drop
    return DiscreteSchedule(torch.cat([root.new_ones(1), rescaled[1:] ** 2]))
