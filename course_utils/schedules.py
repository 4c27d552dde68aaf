r"""Noise schedules: how much of the image and how much noise is in x_t.

Every schedule answers two questions about a time t,

    x_t = alpha_t x_0 + sigma_t eps        `coeffs(t)`  -> (alpha_t, sigma_t)
    log SNR_t = log(alpha_t² / sigma_t²)   `log_snr(t)`

and everything else in the course is written in terms of those. t = 0 is clean data. Discrete schedules count
t = 1 … T as the DDPM paper does; continuous ones take a float t in [0, 1].

Lesson 02 derives them. References: Ho et al. 2020 (DDPM), Nichol & Dhariwal 2021 (cosine), Song et al. 2021 (VP and
VE SDEs), Kingma et al. 2021 (VDM), Chen 2023 (sigmoid), Lin et al. 2023 (zero terminal SNR), Lipman et al. 2023
(flow matching).
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._validate import (
    as_device,
    require_callable,
    require_count,
    require_counts,
    require_float,
    require_generator,
    require_in,
    require_number,
    require_type,
    require_whole,
)

Time = int | float | Tensor
"""A time for the whole batch (a number or a 0-d tensor), or one per image (shape (b,))."""


def as_double(values: object, device: torch.device | str | None = None, name: str = "values") -> Tensor:
    """`values` as a float64 tensor (float32 on Apple's MPS, which has no float64); `name` is the argument's."""
    wanted = as_device(device) if device is not None else getattr(values, "device", torch.device("cpu"))
    try:
        return torch.as_tensor(values, dtype=torch.float32 if wanted.type == "mps" else torch.float64, device=wanted)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: wanted numbers, got {values!r:.60}") from error


def _checked_log_snr(log_snr: float | Tensor) -> Tensor:
    require_number("log_snr", log_snr)
    log_snr = as_double(log_snr)
    if log_snr.isnan().any():
        raise ValueError("log_snr: wanted numbers, got NaN")
    return log_snr


class Schedule:
    """What every schedule offers. `T` is its number of steps, or None if its time is continuous."""

    T: int | None = None

    def coeffs(self, t: Time) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t), float64, each of the shape of t."""
        raise NotImplementedError

    def log_snr(self, t: Time) -> Tensor:
        """log(alpha_t² / sigma_t²), float64, of the shape of t; +inf for clean data, -inf for pure noise."""
        raise NotImplementedError

    def check_t(self, t: Time, name: str = "t") -> Tensor:
        """t as a tensor, or an error that says which times this schedule has."""
        raise NotImplementedError

    def t_at_log_snr(self, log_snr: float | Tensor) -> Tensor:
        """The time at which the log-SNR has fallen to the given value: the inverse of `log_snr`."""
        raise NotImplementedError


def broadcast(value: Tensor, x: Tensor, name: str = "t") -> Tensor:
    """`value` (one number, or one per image) with the dtype and device of x, shaped (b, 1, …, 1) to multiply it."""
    require_type(name, value, Tensor, "a tensor")
    if value.ndim > 1:
        raise ValueError(f"{name}: wanted a number or a tensor of shape (batch,), got shape {tuple(value.shape)}")
    if value.ndim == 1:
        if value.shape != x.shape[:1]:
            raise ValueError(f"{name}: wanted one number, or one per image of {tuple(x.shape)}, got {len(value)}")
        value = value.reshape(-1, *[1] * (x.ndim - 1))
    return value.to(x.device, x.dtype)


def coeffs_for(x: Tensor, t: Time, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(alpha_t, sigma_t), ready to multiply x.

    Raises:
        TypeError: x is not floating point, or t is of the wrong kind.
        ValueError: t is out of range, or has another length than the batch.
    """
    require_float("x", x)
    require_schedule(schedule)
    alpha, sigma = schedule.coeffs(t)
    return broadcast(alpha, x), broadcast(sigma, x)


def transition(s: Time, t: Time, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(alpha_{t|s}, sigma²_{t|s}) of the jump q(x_t | x_s) = N(alpha_{t|s} x_s, sigma²_{t|s} I), s < t, float64.

    alpha_{t|s} = alpha_t / alpha_s,  sigma²_{t|s} = sigma_t² - alpha_{t|s}² sigma_s²  (Kingma et al. 2021, app. A)

    For s = t - 1 of a DDPM schedule these are sqrt(1 - beta_t) and beta_t.
    """
    require_schedule(schedule)
    s, t = schedule.check_t(s, "s"), schedule.check_t(t)
    if s.ndim and t.ndim and s.shape != t.shape:
        raise ValueError(f"s: wanted one time, or as many as t, {tuple(t.shape)}, got {tuple(s.shape)}")
    if (s >= t).any():
        raise ValueError(f"s: wanted s < t for every image, got s = {s.tolist()} and t = {t.tolist()}")
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
    alpha_ts = alpha_t / alpha_s
    return alpha_ts, sigma_t**2 - alpha_ts**2 * sigma_s**2


def require_schedule(schedule: object) -> None:
    """Raise unless it is a schedule: a name, or a function that was not called, is the likely mistake."""
    require_type("schedule", schedule, Schedule, "a schedule, such as linear()")


def check_grid(timesteps: Sequence[int | float], schedule: Schedule | None = None) -> None:
    """Raise unless the grid has two times or more, all of the schedule's if one is given, and falls strictly."""
    # An iterator, such as reversed(range(11)), is empty once it was looked at, and a sampler would take no step.
    if not hasattr(timesteps, "__len__") or getattr(timesteps, "ndim", 1) != 1:
        raise TypeError(f"timesteps: wanted a list of times, got {timesteps!r}")
    times = list(timesteps)
    if len(times) < 2:
        raise ValueError(f"timesteps: wanted at least two times, a start and an end, got {times}")
    for t in times:
        require_number("timesteps", t)
    for t, s in itertools.pairwise(times):
        if not s < t:
            raise ValueError(f"timesteps: wanted a strictly falling grid, got {t} followed by {s}")
    if times[-1] < 0:
        raise ValueError(f"timesteps: wanted times >= 0, got {times[-1]}")
    if schedule is not None:
        require_schedule(schedule)
        schedule.check_t(times[0], "timesteps")
        schedule.check_t(times[-1], "timesteps")


# ---------------------------------------------------------------------------------------------------------------------
# Discrete schedules: a table of alpha_bar, indexed by t = 0 … T
# ---------------------------------------------------------------------------------------------------------------------


class DiscreteSchedule(Schedule):
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

    def __init__(self, alpha_bar: Tensor):
        alpha_bar = as_double(alpha_bar, "cpu", "alpha_bar").clone()
        if alpha_bar.ndim != 1 or len(alpha_bar) < 2:
            raise ValueError(f"alpha_bar: wanted shape (T + 1,) with T >= 1, got {tuple(alpha_bar.shape)}")
        if not alpha_bar.isfinite().all():
            raise ValueError("alpha_bar: wanted finite numbers, got NaN or infinity")
        if alpha_bar[0] != 1:
            raise ValueError(f"alpha_bar: wanted alpha_bar[0] == 1 (clean data), got {alpha_bar[0].item():.6g}")
        if (alpha_bar.diff() >= 0).any() or alpha_bar[-1] < 0:
            t = int(((alpha_bar.diff() >= 0) | (alpha_bar[1:] < 0)).nonzero()[0]) + 1
            raise ValueError(
                f"alpha_bar: wanted a strictly falling table that stays >= 0, got "
                f"{alpha_bar[t - 1].item():.6g} at t = {t - 1} and {alpha_bar[t].item():.6g} at t = {t}"
            )
        self.alpha_bar = alpha_bar
        self.alphas = torch.cat([alpha_bar.new_ones(1), alpha_bar[1:] / alpha_bar[:-1]])
        self.betas = 1 - self.alphas
        self.T = len(alpha_bar) - 1

    @classmethod
    def from_betas(cls, betas: Tensor) -> "DiscreteSchedule":
        """The schedule with the T step variances beta_1 … beta_T, each in (0, 1]; only the last may be 1."""
        betas = as_double(betas, "cpu", "betas")
        if betas.ndim != 1 or len(betas) == 0:
            raise ValueError(f"betas: wanted shape (T,) with T >= 1, got {tuple(betas.shape)}")
        if not ((betas > 0) & (betas <= 1)).all():
            raise ValueError(
                f"betas: wanted numbers in (0, 1], got {betas.min().item():.6g} … {betas.max().item():.6g}"
            )
        if (betas[:-1] == 1).any():
            raise ValueError(
                "betas: only the last may be 1, after which nothing is left to take away, got an earlier one"
            )
        return cls(torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(T={self.T}, alpha_bar[T]={self.alpha_bar[-1].item():.3g})"

    def check_t(self, t: Time, name: str = "t") -> Int[Tensor, "*b"]:
        require_number(name, t)
        t = torch.as_tensor(t)
        require_whole(name, t)
        if t.numel() and (t.min() < 0 or t.max() > self.T):
            got = f"{t.min().item()} … {t.max().item()}"
            raise ValueError(f"{name}: wanted 0 (clean) … {self.T} (all noise), got {got}")
        return t.long()

    def _at(self, table: Tensor, t: Time) -> Tensor:
        t = self.check_t(t)
        return as_double(table, t.device)[t]

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        alpha_bar = self._at(self.alpha_bar, t)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def log_snr(self, t: Time) -> Float[Tensor, "*b"]:
        alpha_bar = self._at(self.alpha_bar, t)
        return alpha_bar.log() - torch.log1p(-alpha_bar)

    def t_at_log_snr(self, log_snr: float | Tensor) -> Int[Tensor, "*b"]:
        """The first t in 1 … T whose log-SNR is at or below the value (T if none is)."""
        falling = self.log_snr(torch.arange(1, self.T + 1))
        wanted = _checked_log_snr(log_snr).cpu()
        return (torch.searchsorted(-falling, -wanted) + 1).clamp(max=self.T)


def require_discrete(schedule: object) -> None:
    """Raise unless `schedule` counts its steps, as what needs a step t - 1 wants."""
    if not isinstance(schedule, DiscreteSchedule):
        raise TypeError(f"schedule: wanted a discrete one, with steps t - 1 and t, got {type(schedule).__name__}")


def linear(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> DiscreteSchedule:
    """beta_t rises on a straight line from beta_1 to beta_T (DDPM, section 4; its constants are for T = 1000)."""
    require_count("T", T)
    require_in("beta_1", beta_1, "(0, 1)")
    require_in("beta_T", beta_T, "(0, 1)")
    return DiscreteSchedule.from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64))


def exponential(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.04) -> DiscreteSchedule:
    """beta_t = beta_1 (beta_T / beta_1)^((t - 1) / (T - 1)): variances grow by a constant factor."""
    require_count("T", T)
    require_in("beta_1", beta_1, "(0, 1)")
    require_in("beta_T", beta_T, "(0, 1)")
    log_betas = torch.linspace(math.log(beta_1), math.log(beta_T), T, dtype=torch.float64)
    return DiscreteSchedule.from_betas(log_betas.exp())


def from_alpha_bar_function(T: int, alpha_bar: Callable[[Tensor], Tensor], max_beta: float = 0.999) -> DiscreteSchedule:
    """The schedule that follows a falling function of u = t / T in [0, 1], with every beta_t clipped to `max_beta`.

    Without the clip a function that ends at zero would end with beta_T = 1, and eps-prediction would divide by
    alpha_T = 0 (Nichol & Dhariwal 2021, below Eq. 17). The function need not start at 1: it is divided by its start.
    """
    require_count("T", T)
    require_in("max_beta", max_beta, "(0, 1]")
    require_callable("alpha_bar", alpha_bar)
    values = alpha_bar(torch.linspace(0, 1, T + 1, dtype=torch.float64))
    if not isinstance(values, Tensor) or values.shape != (T + 1,):
        raise ValueError(f"alpha_bar: wanted a function of a tensor that returns one of its shape, got {values!r:.60}")
    if not ((values.diff() < 0).all() and values[-1] >= 0):
        raise ValueError(
            "alpha_bar: wanted a function that falls from u = 0 to u = 1 and stays >= 0, and this one does not"
        )
    betas = 1 - values[1:] / values[:-1]
    return DiscreteSchedule.from_betas(betas.clamp(max=max_beta))


def cosine(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> DiscreteSchedule:
    """alpha_bar_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) pi/2), betas clipped  (Nichol & Dhariwal 2021, Eq. 17)."""
    require_in("s", s, "[0, inf)")
    return from_alpha_bar_function(T, lambda u: ((u + s) / (1 + s) * math.pi / 2).cos() ** 2, max_beta)


def sigmoid(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, max_beta: float = 0.999
) -> DiscreteSchedule:
    """alpha_bar_t falls as a sigmoid: with h(u) = sigmoid((u (end - start) + start) / tau) and u = t/T,

    alpha_bar_t = (h(1) - h(u)) / (h(1) - h(0))         (Chen 2023, Algorithm 1), betas clipped to max_beta.
    """

    def falling(u: Tensor) -> Tensor:
        h = torch.sigmoid((u * (end - start) + start) / tau)
        return (h[-1] - h) / (h[-1] - h[0])

    require_in("tau", tau, "(0, inf)")
    require_in("start", start, "(-inf, inf)")
    require_in("end", end, f"({start}, inf)")
    return from_alpha_bar_function(T, falling, max_beta)


def rescale_zero_terminal_snr(schedule: DiscreteSchedule) -> DiscreteSchedule:
    """The same schedule shifted and scaled so that x_T holds no trace of x_0: alpha_T = 0 (Lin et al. 2023, Alg. 1).

    sqrt(alpha_bar) is shifted to end at 0 and scaled to keep its value at t = 1. Predict x_0 or v with it: at t = T
    the noise says nothing about x_0, so eps-prediction has nothing to divide by.
    """
    require_discrete(schedule)
    if schedule.T < 2:
        raise ValueError("schedule: wanted at least two steps to rescale, got T = 1")
    root = schedule.alpha_bar.sqrt()
    rescaled = (root - root[-1]) * root[1] / (root[1] - root[-1])
    return DiscreteSchedule(torch.cat([root.new_ones(1), rescaled[1:] ** 2]))


# ---------------------------------------------------------------------------------------------------------------------
# Continuous schedules: functions of t in [0, 1]
# ---------------------------------------------------------------------------------------------------------------------


class ContinuousSchedule(Schedule):
    """A schedule given by two smooth functions of t in [0, 1]; `coeffs` can be differentiated by autograd."""

    def check_t(self, t: Time, name: str = "t") -> Float[Tensor, "*b"]:
        require_number(name, t)
        if isinstance(t, Tensor) and not t.dtype.is_floating_point:
            raise TypeError(f"{name}: a continuous schedule wants floats in [0, 1], got {t.dtype}")
        t = as_double(t)
        if not ((t >= 0) & (t <= 1)).all():
            got = f"{t.min().item():.6g} … {t.max().item():.6g}"
            raise ValueError(f"{name}: wanted times in [0, 1], 0 clean, got {got}")
        return t

    def log_snr(self, t: Time) -> Float[Tensor, "*b"]:
        alpha, sigma = self.coeffs(t)
        return 2 * (alpha.log() - sigma.log())

    @torch.no_grad()
    def t_at_log_snr(self, log_snr: float | Tensor) -> Float[Tensor, "*b"]:
        """The t at which the log-SNR has the given value, by bisection (to float64's resolution of t)."""
        wanted = _checked_log_snr(log_snr)
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(60):
            middle = (low + high) / 2
            too_clean = self.log_snr(middle) > wanted
            low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
        return (low + high) / 2

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v}" for k, v in vars(self).items() if isinstance(v, int | float))
        return f"{type(self).__name__}({settings})"


class VPLinear(ContinuousSchedule):
    """The variance-preserving SDE with linear beta(t) = beta_min + t (beta_max - beta_min)  (Song et al. 2021, Eq. 33).

    log alpha_t = -t² (beta_max - beta_min)/4 - t beta_min/2,   sigma_t² = 1 - alpha_t².
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        require_in("beta_min", beta_min, "(0, inf)")
        require_in("beta_max", beta_max, f"[{beta_min}, inf)")
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

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0):
        require_in("sigma_min", sigma_min, "(0, inf)")
        require_in("sigma_max", sigma_max, f"({sigma_min}, inf)")
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

    def __init__(self, gamma_0: float = -13.3, gamma_1: float = 5.0, hidden: int = 64, *, generator=None):
        super().__init__()
        require_generator(generator, optional=True)
        require_count("hidden", hidden)
        require_in("gamma_0", gamma_0, "(-inf, inf)")
        require_in("gamma_1", gamma_1, f"({gamma_0}, inf)")
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
        start, end = self._rising(t.new_tensor([0.0, 1.0]))
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * (self._rising(t) - start) / (end - start)

    def coeffs(self, t: Time) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        gamma = self.gamma(t)
        return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()

    def log_snr(self, t: Time) -> Float[Tensor, "*b"]:
        return -self.gamma(t)


# ---------------------------------------------------------------------------------------------------------------------
# Which t to train on
# ---------------------------------------------------------------------------------------------------------------------


class LossAwareSampler:
    """Draws training times t in proportion to how large their loss has been (Nichol & Dhariwal 2021, Eq. 18).

    p_t ∝ sqrt(E[L_t²]),  and the loss is weighted by 1 / (T p_t), so its expectation stays that of a uniform t while
    its variance falls. Each t keeps its last `history` losses; until all have that many, t is uniform. Where large
    losses are rare, a short history misses them and makes the variance worse: give it more memory, and a larger share.

    Args:
        T: number of noise levels.
        history: losses remembered per t.
        uniform: share of draws spread evenly, so that no t is forgotten.
    """

    def __init__(self, T: int, history: int = 10, uniform: float = 0.001):
        require_counts(T=T, history=history)
        require_in("uniform", uniform, "[0, 1]")
        self.T, self.uniform = T, uniform
        self.losses = torch.zeros(T + 1, history, dtype=torch.float64)  # row t, newest last; row 0 is never used
        self.counts = torch.zeros(T + 1, dtype=torch.long)

    @property
    def probabilities(self) -> Float[Tensor, "levels"]:
        """p_t for t = 0 … T, with p_0 = 0: clean images are not trained on."""
        p = self.losses[1:].square().mean(1).sqrt()
        # Too few losses, or losses that are all zero, say nothing: then every t is as good as another.
        if (self.counts[1:] < self.losses.shape[1]).any() or p.sum() == 0:
            p = torch.ones_like(p)
        p = (1 - self.uniform) * p / p.sum() + self.uniform / self.T
        return torch.cat([p.new_zeros(1), p])

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """n times t in 1 … T, and the weight 1 / (T p_t) of each one's loss."""
        require_count("n", n)
        p = self.probabilities
        require_generator(generator, optional=True)
        t = torch.multinomial(p, n, replacement=True, generator=generator)
        return t, 1 / (self.T * p[t])

    def update(self, t: Int[Tensor, "n"], losses: Float[Tensor, "n"]) -> None:
        """Remember the unweighted loss of each image at its t."""
        require_whole("t", t)
        require_float("losses", losses)
        if t.shape != losses.shape or t.ndim != 1:
            raise ValueError(f"losses: wanted one per t, {tuple(t.shape)}, got {tuple(losses.shape)}")
        if t.numel() and (t.min() < 1 or t.max() > self.T):
            raise ValueError(f"t: wanted 1 … {self.T}, got {t.min().item()} … {t.max().item()}")
        if not losses.isfinite().all():
            raise ValueError("losses: wanted finite numbers, got NaN or infinity")
        for i, loss in zip(t.tolist(), losses.detach().double().tolist(), strict=True):
            self.losses[i] = torch.cat([self.losses[i, 1:], torch.tensor([loss], dtype=torch.float64)])
            self.counts[i] += 1
