"""What is known of one time, and of a jump between two."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from course_utils._contract import checked
from course_utils._contract.times import check_time
from course_utils._validate import require_beside
from course_utils.protocols import Schedule, Time
from course_utils.tensors import as_double, broadcast


def coeffs_of(t: Time, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(alpha_t, sigma_t) in float64, also of a schedule that answers with plain numbers."""
    alpha, sigma = schedule.coeffs(t)
    return as_double(alpha), as_double(sigma)


@checked
def coeffs_for(x: Float[Tensor, "..."], t: Time, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(alpha_t, sigma_t), ready to multiply x.

    Raises:
        TypeError: x is not floating point, or t is of the wrong kind.
        ValueError: t is out of range, or has another length than the batch.
    """
    alpha, sigma = coeffs_of(t, schedule)
    return broadcast(alpha, x), broadcast(sigma, x)


class Jump(NamedTuple):
    """What a schedule says of the two ends of a jump from t back to s < t, float64, and what follows.

    q(x_t | x_s) = N(alpha_{t|s} x_s, sigma²_{t|s} I)                       (Kingma et al. 2021, app. A)
    q(x_s | x_t, x_0) = N(a x_t + k x_0, sigma~² I)                         (Ho et al. 2020, Eqs. 6 and 7)
    """

    t: Time
    s: Time
    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor

    @property
    def alpha_ts(self) -> Tensor:
        """alpha_{t|s} = alpha_t / alpha_s"""
        return self.alpha_t / self.alpha_s

    @property
    def variance_ts(self) -> Tensor:
        """sigma²_{t|s} = sigma_t² - alpha_{t|s}² sigma_s²"""
        return self.sigma_t**2 - self.alpha_ts**2 * self.sigma_s**2

    @property
    def posterior(self) -> tuple[Tensor, Tensor, Tensor]:
        """a = alpha_{t|s} sigma_s² / sigma_t²,  k = alpha_s sigma²_{t|s} / sigma_t²,

        sigma~² = sigma²_{t|s} sigma_s² / sigma_t²
        """
        variance_ts = self.variance_ts
        return (
            self.alpha_ts * self.sigma_s**2 / self.sigma_t**2,
            self.alpha_s * variance_ts / self.sigma_t**2,
            variance_ts * self.sigma_s**2 / self.sigma_t**2,
        )

    def advance(self, x: Tensor, x0: Tensor) -> Tensor:
        """Where the probability-flow ODE takes x from t to s if x_0 is x0 all the way: DDIM's step, exact for that x0.

        sigma_s / sigma_t x + (alpha_s - sigma_s / sigma_t alpha_t) x0

        In alpha and sigma, so that it holds at both ends: alpha_t = 0 (nothing but noise), sigma_s = 0 (clean).
        """
        a = self.sigma_s / self.sigma_t
        return broadcast(a, x) * x + broadcast(self.alpha_s - a * self.alpha_t, x) * x0


@checked
def jump(t: Time, s: Time, schedule: Schedule) -> Jump:
    """The jump from t to s < t; one time for all images, or one for each."""
    s, t = check_time(s, schedule, "s"), check_time(t, schedule)
    if s.ndim and t.ndim:
        require_beside("s", s, "t", t)
    if (s >= t).any():
        raise ValueError(f"s: wanted s < t for every image, got s = {s.tolist()} and t = {t.tolist()}")
    return Jump(t, s, *coeffs_of(t, schedule), *coeffs_of(s, schedule))


def transition(s: Time, t: Time, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """(alpha_{t|s}, sigma²_{t|s}) of the jump q(x_t | x_s) = N(alpha_{t|s} x_s, sigma²_{t|s} I), s < t, float64.

    alpha_{t|s} = alpha_t / alpha_s,  sigma²_{t|s} = sigma_t² - alpha_{t|s}² sigma_s²  (Kingma et al. 2021, app. A)

    For s = t - 1 of a DDPM schedule these are sqrt(1 - beta_t) and beta_t.
    """
    steps = jump(t, s, schedule)
    return steps.alpha_ts, steps.variance_ts
