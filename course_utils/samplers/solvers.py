r"""Solvers of the probability-flow ODE: from noise to data without drawing anything on the way.

All of them rest on one exact equation. With lambda = log(alpha / sigma) falling from clean data to noise, and a step
from t to s that is h = lambda_s - lambda_t > 0 long,

    x_s = (sigma_s / sigma_t) x_t + sigma_s  integral of  e^lambda x0_hat(lambda)  over lambda_t … lambda_s
                                                                    (Lu et al. 2022, DPM-Solver++, Eq. 8)

What differs is what they take for x0_hat between the two ends: a constant (DDIM), a line through two values (the
second-order solvers), a polynomial through more. All use `schedule.coeffs` alone, so they run on every schedule.
"""

from typing import Any

import torch
from torch import Tensor

from course_utils._contract import Count
from course_utils._contract.times import Grid
from course_utils.protocols import Denoise, Schedule, Time
from course_utils.samplers.walk import Callback, Images, Noise, Walk, sampler
from course_utils.schedules.jumps import Jump, coeffs_of
from course_utils.schedules.times import t_at_log_snr
from course_utils.tensors import broadcast, nonzero


def _half_log_snr(schedule: Schedule, t: Time) -> Tensor:
    return schedule.log_snr(t) / 2


def _noise_to_signal(step: Jump) -> tuple[Tensor, Tensor]:
    """r = sigma / alpha at both ends: the coordinate of Euler and Heun, which ends where alpha = 0."""
    why = f"alpha is 0 at t = {step.t}, where x / alpha is infinite; start a little below"
    return step.sigma_t / nonzero(step.alpha_t, why, "timesteps"), step.sigma_s / step.alpha_s


@sampler
def sample_euler(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """Euler's method for  dy / dr = (y - x0_hat) / r,  y = x / alpha,  r = sigma / alpha  (Karras et al. 2022, Eq. 1).

    Order 1; one network call a step. In these coordinates Euler's step is DDIM's: the same numbers come out.

    Raises:
        ValueError: a grid that does not fall, or that begins where alpha = 0; NaN from the denoiser, with its step.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    for x, x0_hat, step in walk:
        r_t, r_s = _noise_to_signal(step)
        y = x / broadcast(step.alpha_t, x)
        slope = (y - x0_hat) / broadcast(r_t, x)
        walk.x = broadcast(step.alpha_s, x) * (y + broadcast(r_s - r_t, x) * slope)
    return walk.x


@sampler
def sample_heun(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """Heun's method for the ODE of `sample_euler`: go, look at the slope there, go again with the mean of both.

    Order 2; two network calls a step, one for the step to clean data, where the second slope would be 0 / 0 (Karras et
    al. 2022, Alg. 1). Raises as `sample_euler` does.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    for x, x0_hat, step in walk:
        r_t, r_s = _noise_to_signal(step)
        y, length, alpha_s = x / broadcast(step.alpha_t, x), broadcast(r_s - r_t, x), broadcast(step.alpha_s, x)
        slope = (y - x0_hat) / broadcast(r_t, x)
        y_s = y + length * slope
        if r_s > 0:
            there = (y_s - walk.ask(alpha_s * y_s, step.s)) / broadcast(r_s, x)
            y_s = y + length * (slope + there) / 2
        walk.x = alpha_s * y_s
    return walk.x


@sampler
def sample_dpmpp_2s(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """DPM-Solver++(2S): a look at the middle of each step, in lambda (Lu et al. 2022, DPM-Solver++, Alg. 1).

    With x0_u the guess at the middle time u, r = (lambda_u - lambda_t) / h:  x0_hat + (x0_u - x0_hat) / (2 r)  takes
    the place of x0_hat. Order 2; two network calls a step, one for steps to clean data, or from pure noise, whose
    middle is at no finite lambda, or between neighbours of a discrete schedule. Raises ValueError for a bad grid, NaN.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    lambdas = torch.stack([_half_log_snr(schedule, t) for t in walk.times])
    start, h = lambdas[:-1], lambdas.diff()
    middles = t_at_log_snr((start + lambdas[1:]).nan_to_num(), schedule)
    for i, (x, x0_hat, step) in enumerate(walk):
        guess, u = x0_hat, middles[i].item()
        if step.s < u < step.t and h[i].isfinite():
            r = (_half_log_snr(schedule, u) - start[i]) / h[i]
            alpha_u, sigma_u = coeffs_of(u, schedule)
            x0_u = walk.ask(step._replace(s=u, alpha_s=alpha_u, sigma_s=sigma_u).advance(x, x0_hat), u)
            guess = x0_hat + (x0_u - x0_hat) * broadcast(1 / (2 * r), x)
        walk.x = step.advance(x, guess)
    return walk.x


@sampler
def sample_dpmpp_2m(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """DPM-Solver++(2M): the slope of x0_hat from the last step's guess (Lu et al. 2022, DPM-Solver++, Alg. 2).

    With r = h_before / h:  x0_hat + (x0_hat - x0_before) / (2 r)  takes the place of x0_hat. Order 2; one network call
    a step. The first step, and one to clean data, have order 1. Raises ValueError for a bad grid or NaN.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    x0_before, h_before = None, torch.zeros(())
    for x, x0_hat, step in walk:
        guess, h = x0_hat, _half_log_snr(schedule, step.s) - _half_log_snr(schedule, step.t)
        if x0_before is not None and h.isfinite():
            guess = x0_hat + (x0_hat - x0_before) * broadcast(h / (2 * h_before), x)
        walk.x = step.advance(x, guess)
        x0_before, h_before = x0_hat, h
    return walk.x


@sampler
def sample_unipc(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    order: Count = 2,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    r"""UniPC: predict with the last `order` guesses, and correct by the guess that is made there anyway.

    x_s = (a x_t + b x0_hat) - alpha_s B(h) sum_k rho_k (x0_k - x0_hat) / r_k,  B(h) = e^{-h} - 1,
    r_k = (lambda_k - lambda_t) / h  (Zhao et al. 2023, Eqs. 3 and 9, data prediction, B_2). The rho solve
    sum_k rho_k r_k^{m-1} = b_m, m = 1 …; the corrector has one more node, the guess at s itself, with r = 1.

    Order p + 1 for `order` p; one network call a step. The order is lower in the first steps, for want of guesses, and
    in the last ones if they lead to clean data, where h is infinite.

    Raises:
        ValueError: an order below 1; a grid that does not fall; NaN from the denoiser, with its step.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    lambdas = [_half_log_snr(schedule, t) for t in walk.times]
    clean, n = bool(lambdas[-1].isinf()), len(walk.times) - 1
    guesses: list[Tensor] = []
    used, start, before = 0, x_T, None  # start: x, corrected, where the step before began
    for i, (x, x0_hat, step) in enumerate(walk):
        if before is not None:
            x = walk.x_t = _unify(start, guesses, lambdas, i - 1, used, before, new=x0_hat)
        used = min(order, i + 1, n - i) if clean else min(order, i + 1)
        guesses.append(x0_hat)
        start, before = x, step
        walk.x = _unify(x, guesses, lambdas, i, used, step)
    return walk.x


def _unify(
    x: Tensor,
    guesses: list[Tensor],
    lambdas: list[Tensor],
    i: int,
    order: int,
    step: Jump,
    new: Tensor | None = None,
) -> Tensor:
    """The i-th step with the last `order` guesses, and the `new` one at its end if there is one."""
    x0_hat, h = guesses[i], lambdas[i + 1] - lambdas[i]
    plain = step.advance(x, x0_hat)
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
    weights = -step.alpha_s * B * rho / r
    return plain + sum(broadcast(w, x) * value for w, value in zip(weights, values, strict=True))
