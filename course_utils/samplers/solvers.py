r"""Solvers of the probability-flow ODE: from noise to data without drawing anything on the way.

All of them rest on one exact equation. With lambda = log(alpha / sigma) falling from clean data to noise, and a step
from t to s that is h = lambda_s - lambda_t > 0 long,

    x_s = (sigma_s / sigma_t) x_t + sigma_s  integral of  e^lambda x0_hat(lambda)  over lambda_t … lambda_s
                                                                    (Lu et al. 2022, DPM-Solver++, Eq. 8)

What differs is what they take for x0_hat between the two ends: a constant (DDIM), a line through two values (the
second-order solvers), a polynomial through more. All use `schedule.coeffs` alone, so they run on every schedule.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import require_count
from course_utils.samplers.grids import Step, ask, check_start
from course_utils.schedules import Schedule, Time, broadcast

Denoise = Callable[..., Tensor]
Callback = Callable[[Step], None] | None


def _half_log_snr(schedule: Schedule, t: Time) -> Tensor:
    return schedule.log_snr(t) / 2


def _advance(x: Tensor, x0: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
    """The exact step from t to s for an x0_hat that stays as it is: a x + b x0, b = alpha_s (1 - e^-h).

    Written with alpha and sigma, so that it holds at both ends: alpha_t = 0 (nothing but noise), sigma_s = 0 (clean).
    """
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
    a = sigma_s / sigma_t
    return broadcast(a, x) * x + broadcast(alpha_s - a * alpha_t, x) * x0


def _over_alpha(schedule: Schedule, t: Time) -> tuple[Tensor, Tensor]:
    """(alpha_t, sigma_t / alpha_t): the coordinates of Euler and Heun, which end where alpha_t = 0."""
    alpha, sigma = schedule.coeffs(t)
    if (alpha == 0).any():
        raise ValueError(f"timesteps: alpha is 0 at t = {t}, where x / alpha is infinite; start a little below")
    return alpha, sigma / alpha


@torch.no_grad()
def sample_euler(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    generator: torch.Generator | None = None,
    callback: Callback = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
    """Euler's method for  dy / dr = (y - x0_hat) / r,  y = x / alpha,  r = sigma / alpha  (Karras et al. 2022, Eq. 1).

    Order 1; one network call a step. In these coordinates Euler's step is DDIM's: the same numbers come out.

    Raises:
        ValueError: a grid that does not fall, or that begins where alpha = 0; NaN from the denoiser, with its step.
    """
    check_start(denoise, x_T, schedule, timesteps)
    x = x_T
    for i, (t, s) in enumerate(itertools.pairwise(timesteps)):
        x0_hat = ask(denoise, x, t, i, cond)
        (alpha_t, r_t), (alpha_s, r_s) = _over_alpha(schedule, t), _over_alpha(schedule, s)
        y = x / broadcast(alpha_t, x)
        slope = (y - x0_hat) / broadcast(r_t, x)
        before, x = x, broadcast(alpha_s, x) * (y + broadcast(r_s - r_t, x) * slope)
        if callback is not None:
            callback(Step(i, t, s, before, x0_hat, x))
    return x


@torch.no_grad()
def sample_heun(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    generator: torch.Generator | None = None,
    callback: Callback = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
    """Heun's method for the ODE of `sample_euler`: go, look at the slope there, go again with the mean of both.

    Order 2; two network calls a step, one for the step to clean data, where the second slope would be 0 / 0 (Karras et
    al. 2022, Alg. 1). Raises as `sample_euler` does.
    """
    check_start(denoise, x_T, schedule, timesteps)
    x = x_T
    for i, (t, s) in enumerate(itertools.pairwise(timesteps)):
        x0_hat = ask(denoise, x, t, i, cond)
        (alpha_t, r_t), (alpha_s, r_s) = _over_alpha(schedule, t), _over_alpha(schedule, s)
        y, step = x / broadcast(alpha_t, x), broadcast(r_s - r_t, x)
        slope = (y - x0_hat) / broadcast(r_t, x)
        y_s = y + step * slope
        if r_s > 0:
            there = (y_s - ask(denoise, broadcast(alpha_s, x) * y_s, s, i, cond)) / broadcast(r_s, x)
            y_s = y + step * (slope + there) / 2
        before, x = x, broadcast(alpha_s, x) * y_s
        if callback is not None:
            callback(Step(i, t, s, before, x0_hat, x))
    return x


@torch.no_grad()
def sample_dpmpp_2s(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    generator: torch.Generator | None = None,
    callback: Callback = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
    """DPM-Solver++(2S): a look at the middle of each step, in lambda (Lu et al. 2022, DPM-Solver++, Alg. 1).

    With x0_u the guess at the middle time u, r = (lambda_u - lambda_t) / h:  x0_hat + (x0_u - x0_hat) / (2 r)  takes
    the place of x0_hat. Order 2; two network calls a step, one for steps to clean data, or from pure noise, whose
    middle is at no finite lambda, or between neighbours of a discrete schedule. Raises ValueError for a bad grid, NaN.
    """
    check_start(denoise, x_T, schedule, timesteps)
    x = x_T
    for i, (t, s) in enumerate(itertools.pairwise(timesteps)):
        x0_hat = guess = ask(denoise, x, t, i, cond)
        start, end = _half_log_snr(schedule, t), _half_log_snr(schedule, s)
        u = schedule.t_at_log_snr(start + end).item() if (end - start).isfinite() else t
        if s < u < t:
            r = (_half_log_snr(schedule, u) - start) / (end - start)
            x0_u = ask(denoise, _advance(x, x0_hat, t, u, schedule), u, i, cond)
            guess = x0_hat + (x0_u - x0_hat) * broadcast(1 / (2 * r), x)
        before, x = x, _advance(x, guess, t, s, schedule)
        if callback is not None:
            callback(Step(i, t, s, before, x0_hat, x))
    return x


@torch.no_grad()
def sample_dpmpp_2m(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    generator: torch.Generator | None = None,
    callback: Callback = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
    """DPM-Solver++(2M): the slope of x0_hat from the last step's guess (Lu et al. 2022, DPM-Solver++, Alg. 2).

    With r = h_before / h:  x0_hat + (x0_hat - x0_before) / (2 r)  takes the place of x0_hat. Order 2; one network call
    a step. The first step, and one to clean data, have order 1. Raises ValueError for a bad grid or NaN.
    """
    check_start(denoise, x_T, schedule, timesteps)
    x, x0_before, h_before = x_T, None, torch.zeros(())
    for i, (t, s) in enumerate(itertools.pairwise(timesteps)):
        x0_hat = guess = ask(denoise, x, t, i, cond)
        h = _half_log_snr(schedule, s) - _half_log_snr(schedule, t)
        if x0_before is not None and h.isfinite():
            guess = x0_hat + (x0_hat - x0_before) * broadcast(h / (2 * h_before), x)
        before, x = x, _advance(x, guess, t, s, schedule)
        x0_before, h_before = x0_hat, h
        if callback is not None:
            callback(Step(i, t, s, before, x0_hat, x))
    return x


@torch.no_grad()
def sample_unipc(
    denoise: Denoise,
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    order: int = 2,
    generator: torch.Generator | None = None,
    callback: Callback = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
    r"""UniPC: predict with the last `order` guesses, and correct by the guess that is made there anyway.

    x_s = (a x_t + b x0_hat) - alpha_s B(h) sum_k rho_k (x0_k - x0_hat) / r_k,  B(h) = e^{-h} - 1,
    r_k = (lambda_k - lambda_t) / h  (Zhao et al. 2023, Eqs. 3 and 9, data prediction, B_2). The rho solve
    sum_k rho_k r_k^{m-1} = b_m, m = 1 …; the corrector has one more node, the guess at s itself, with r = 1.

    Order p + 1 for `order` p; one network call a step. The order is lower in the first steps, for want of guesses, and
    in the last ones if they lead to clean data, where h is infinite.

    Raises:
        ValueError: an order below 1; a grid that does not fall; NaN from the denoiser, with its step.
    """
    check_start(denoise, x_T, schedule, timesteps)
    require_count("order", order)
    times = list(timesteps)
    lambdas = [_half_log_snr(schedule, t) for t in times]
    clean = bool(lambdas[-1].isinf())
    guesses: list[Tensor] = []
    used, x, start = 0, x_T, x_T  # start: x, corrected, at the beginning of the step before
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        x0_hat = ask(denoise, x, t, i, cond)
        if i:
            x = _unify(start, guesses, times, lambdas, i - 1, used, schedule, new=x0_hat)
        used = min(order, i + 1, len(times) - 1 - i) if clean else min(order, i + 1)
        guesses.append(x0_hat)
        start = x
        x = _unify(x, guesses, times, lambdas, i, used, schedule)
        if callback is not None:
            callback(Step(i, t, s, start, x0_hat, x))
    return x


def _unify(
    x: Tensor,
    guesses: list[Tensor],
    times: list,
    lambdas: list[Tensor],
    i: int,
    order: int,
    schedule: Schedule,
    new: Tensor | None = None,
) -> Tensor:
    """The step from times[i] to the next with `order` guesses, and the `new` one at its end if there is one."""
    x0_hat, h = guesses[i], lambdas[i + 1] - lambdas[i]
    plain = _advance(x, x0_hat, times[i], times[i + 1], schedule)
    earlier = [k for k in range(i - 1, i - order, -1) if lambdas[k].isfinite()]
    nodes = [(lambdas[k] - lambdas[i]) / h for k in earlier] + [torch.ones((), dtype=h.dtype)] * (new is not None)
    values = [guesses[k] - x0_hat for k in earlier] + ([new - x0_hat] if new is not None else [])
    if not nodes or not h.isfinite():
        return plain
    # b_m = m! phi_{m+1}(-h) (-h) / B(h), where phi_1(z) = (e^z - 1) / z and phi_{m+1}(z) = (phi_m(z) - 1 / m!) / z
    r, z = torch.stack(nodes), -h
    B, phi, factorial, b = torch.expm1(z), torch.expm1(z) / z - 1, 1.0, []
    for m in range(1, len(nodes) + 1):
        b.append(phi * factorial / B)
        factorial *= m + 1
        phi = phi / z - 1 / factorial
    rho = torch.linalg.solve(r ** torch.arange(len(nodes))[:, None].to(r), torch.stack(b))
    if len(nodes) == 1:
        rho = torch.full_like(rho, 0.5)  # exact to the same order, and what the paper's own code takes
    alpha_s, _ = schedule.coeffs(times[i + 1])
    weights = -alpha_s * B * rho / r
    return plain + sum(broadcast(w, x) * value for w, value in zip(weights, values, strict=True))
