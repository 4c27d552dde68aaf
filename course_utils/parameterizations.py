r"""What a network may predict, and how each prediction turns into the others.

From x_t = alpha_t x_0 + sigma_t eps any one of these gives all the rest, at any t with 0 < alpha_t and 0 < sigma_t:

    x_0                                     the clean image
    eps                                     the noise                           (Ho et al. 2020)
    v = alpha_t eps - sigma_t x_0           the velocity                        (Salimans & Ho 2022, appendix D)
    u = eps - x_0                           the flow, from data to noise        (Lipman et al. 2023, time reversed)
    score = grad log q(x_t) = -eps / sigma_t, for the *expected* eps given x_t  (Song et al. 2021)

Lesson 03 derives all but u, which is lesson 14's. All functions take and return tensors of one shape (b, …), work on
every schedule, and are exact inverses of each other. At t = 0 the noise is unknowable, at alpha_t = 0 the image is: a
conversion that would have to divide by that zero raises a ValueError that says so.
"""

from collections.abc import Callable
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from course_utils._contract import OneOf, checked
from course_utils.protocols import Schedule, Time
from course_utils.schedules import coeffs_for
from course_utils.tensors import nonzero

Images = Float[Tensor, "b *shape"]


_NO_IMAGE = "at this t alpha_t = 0 and x_t holds no image; predict x0 or v there"
_NO_NOISE = "at this t sigma_t = 0 and x_t holds no noise; start from t > 0"


@checked
def x0_from_eps(x_t: Images, eps: Images, t: Time, schedule: Schedule) -> Images:
    """x_0 = (x_t - sigma_t eps) / alpha_t           (DDPM, Eq. 4 solved for x_0)"""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (x_t - sigma * eps) / nonzero(alpha, _NO_IMAGE)


@checked
def eps_from_x0(x_t: Images, x_0: Images, t: Time, schedule: Schedule) -> Images:
    """eps = (x_t - alpha_t x_0) / sigma_t           (DDPM, Eq. 4 solved for eps)"""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (x_t - alpha * x_0) / nonzero(sigma, _NO_NOISE)


@checked
def v_from_x0_eps(x_0: Images, eps: Images, t: Time, schedule: Schedule) -> Images:
    """v = alpha_t eps - sigma_t x_0                 (Salimans & Ho 2022, appendix D)"""
    alpha, sigma = coeffs_for(x_0, t, schedule)
    return alpha * eps - sigma * x_0


@checked
def x0_from_v(x_t: Images, v: Images, t: Time, schedule: Schedule) -> Images:
    """x_0 = (alpha_t x_t - sigma_t v) / (alpha_t² + sigma_t²); the divisor is 1 when variance is preserved."""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (alpha * x_t - sigma * v) / (alpha**2 + sigma**2)


@checked
def eps_from_v(x_t: Images, v: Images, t: Time, schedule: Schedule) -> Images:
    """eps = (sigma_t x_t + alpha_t v) / (alpha_t² + sigma_t²)"""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (sigma * x_t + alpha * v) / (alpha**2 + sigma**2)


@checked
def eps_from_u(x_t: Images, u: Images, t: Time, schedule: Schedule) -> Images:
    """eps = (x_t + alpha_t u) / (alpha_t + sigma_t)"""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (x_t + alpha * u) / (alpha + sigma)


@checked
def eps_from_score(x_t: Images, score: Images, t: Time, schedule: Schedule) -> Images:
    """E[eps | x_t] = -sigma_t score"""
    _, sigma = coeffs_for(x_t, t, schedule)
    return -sigma * score


@checked
def x0_from_u(x_t: Images, u: Images, t: Time, schedule: Schedule) -> Images:
    """x_0 = (x_t - sigma_t u) / (alpha_t + sigma_t); the divisor is 1 on the flow-matching path."""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (x_t - sigma * u) / (alpha + sigma)


@checked
def score_from_eps(x_t: Images, eps: Images, t: Time, schedule: Schedule) -> Images:
    """score = -eps / sigma_t                        (Song et al. 2021; Vincent 2011)"""
    _, sigma = coeffs_for(x_t, t, schedule)
    return -eps / nonzero(sigma, _NO_NOISE)


@checked
def score_from_x0(x_t: Images, x_0: Images, t: Time, schedule: Schedule) -> Images:
    """score = (alpha_t x_0 - x_t) / sigma_t²        (Tweedie's formula, solved for the score)"""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (alpha * x_0 - x_t) / nonzero(sigma, _NO_NOISE) ** 2


@checked
def x0_from_score(x_t: Images, score: Images, t: Time, schedule: Schedule) -> Images:
    """E[x_0 | x_t] = (x_t + sigma_t² score) / alpha_t       (Tweedie's formula; Efron 2011, Eq. 2.8)"""
    alpha, sigma = coeffs_for(x_t, t, schedule)
    return (x_t + sigma**2 * score) / nonzero(alpha, _NO_IMAGE)


_TO_X0: dict[str, Callable[[Tensor, Tensor, Time, Schedule], Tensor]] = {
    "x0": lambda x_t, x_0, t, schedule: x_0,
    "eps": x0_from_eps,
    "v": x0_from_v,
    "u": x0_from_u,
    "score": x0_from_score,
}
_TO_EPS: dict[str, Callable[[Tensor, Tensor, Time, Schedule], Tensor]] = {
    "x0": eps_from_x0,
    "eps": lambda x_t, eps, t, schedule: eps,
    "v": eps_from_v,
    "u": eps_from_u,
    "score": eps_from_score,
}
KINDS = tuple(_TO_X0)
"""The names `convert` knows: x0, eps, v, u, score."""


Kind = Annotated[str, OneOf(KINDS)]


@checked
def convert(prediction: Images, kind: Kind, to: Kind, x_t: Images, t: Time, schedule: Schedule) -> Images:
    """A prediction of one kind as another: `convert(out, "v", "eps", x_t, t, schedule)`.

    Raises:
        ValueError: an unknown kind, or a t at which the prediction does not tell the wanted quantity.
    """
    if kind == to:
        return prediction
    # Each way divides by alpha_t or sigma_t only where it must: v tells eps at t = 0, eps the score at alpha_t = 0.
    if to == "x0":
        return _TO_X0[kind](x_t, prediction, t, schedule)
    eps = _TO_EPS[kind](x_t, prediction, t, schedule)
    if to == "eps":
        return eps
    if to == "score":
        return score_from_eps(x_t, eps, t, schedule)
    x_0 = _TO_X0[kind](x_t, prediction, t, schedule)
    return v_from_x0_eps(x_0, eps, t, schedule) if to == "v" else eps - x_0
