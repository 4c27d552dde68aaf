"""Answers to lesson 11."""

import math
import statistics

import torch

from answers import right, wrong


def ratio(alpha, sigma):
    return sigma[0] / alpha[0], sigma[1] / alpha[1]


# --- 11.euler_step ---------------------------------------------------------------------------------------------------


@right("11.euler_step")
def euler_step(x_t, x0_hat, alpha, sigma):
    r_t, r_s = sigma / alpha
    y = x_t / alpha[0]
    return alpha[1] * (y + (r_s - r_t) * (y - x0_hat) / r_t)


@right("11.euler_step")
def euler_step_as_ddim(x_t, x0_hat, alpha, sigma):
    eps_hat = (x_t - alpha[0] * x0_hat) / sigma[0]
    return alpha[1] * x0_hat + sigma[1] * eps_hat


@right("11.euler_step")
def euler_step_in_floats(x_t, x0_hat, alpha, sigma):
    (a_t, a_s), (s_t, s_s) = alpha.tolist(), sigma.tolist()
    keep = s_s * a_t / (a_s * s_t)
    return a_s * (keep * (x_t / a_t) + (1 - keep) * x0_hat)


@wrong("11.euler_step", "that is y_s")
def euler_step_stays_in_y(x_t, x0_hat, alpha, sigma):
    return euler_step(x_t, x0_hat, alpha, sigma) / alpha[1]


@wrong("11.euler_step", "yours has alpha_t")
def euler_step_back_at_t(x_t, x0_hat, alpha, sigma):
    return euler_step(x_t, x0_hat, alpha, sigma) / alpha[1] * alpha[0]


@wrong("11.euler_step", "in place")
def euler_step_in_place(x_t, x0_hat, alpha, sigma):
    r_t, r_s = ratio(alpha, sigma)
    x_t /= alpha[0]
    return alpha[1] * (x_t + (r_s - r_t) * (x_t - x0_hat) / r_t)


@wrong("11.euler_step", "drew random numbers")
def euler_step_noisy(x_t, x0_hat, alpha, sigma):
    return alpha[1] * x0_hat + sigma[1] * torch.randn_like(x_t)


# --- 11.heun_step ----------------------------------------------------------------------------------------------------


@right("11.heun_step")
def heun_step(x_t, x0_hat, x0_there, alpha, sigma):
    r_t, r_s = sigma / alpha
    y = x_t / alpha[0]
    slope = (y - x0_hat) / r_t
    y_s = y + (r_s - r_t) * slope
    if r_s > 0:
        y_s = y + (r_s - r_t) * (slope + (y_s - x0_there) / r_s) / 2
    return alpha[1] * y_s


@right("11.heun_step")
def heun_step_in_eps(x_t, x0_hat, x0_there, alpha, sigma):
    (a_t, a_s), (s_t, s_s) = alpha.tolist(), sigma.tolist()
    eps = (x_t - a_t * x0_hat) / s_t
    x_s = a_s * x0_hat + s_s * eps
    if s_s == 0:
        return x_s
    eps = (eps + (x_s - a_s * x0_there) / s_s) / 2
    return a_s * (x_t / a_t + (s_s / a_s - s_t / a_t) * eps)


def heun_with(x_t, x0_hat, x0_there, alpha, sigma, second=None, combine=None, start=None, back=True):
    r_t, r_s = ratio(alpha, sigma)
    y = x_t / alpha[0] if start is None else start
    slope = (y - x0_hat) / r_t
    euler = y + (r_s - r_t) * slope
    if r_s == 0:
        return alpha[1] * euler
    there = (euler - x0_there) / r_s if second is None else second(y, euler, r_t, r_s)
    mean = (slope + there) / 2 if combine is None else combine(slope, there)
    y_s = y + (r_s - r_t) * mean
    return alpha[1] * y_s if back else y_s


@wrong("11.heun_step", "that is Euler's step")
def heun_step_once(x_t, x0_hat, x0_there, alpha, sigma):
    return euler_step(x_t, x0_hat, alpha, sigma)


@wrong("11.heun_step", "yours is their sum")
def heun_step_sum(x_t, x0_hat, x0_there, alpha, sigma):
    return heun_with(x_t, x0_hat, x0_there, alpha, sigma, combine=lambda a, b: a + b)


@wrong("11.heun_step", "0 / 0")
def heun_step_nan(x_t, x0_hat, x0_there, alpha, sigma):
    r_t, r_s = sigma / alpha
    y = x_t / alpha[0]
    slope = (y - x0_hat) / r_t
    euler = y + (r_s - r_t) * slope
    return alpha[1] * (y + (r_s - r_t) * (slope + (euler - x0_there) / r_s) / 2)


# --- 11.order --------------------------------------------------------------------------------------------------------


def centred(values):
    return values - values.mean()


@right("11.order")
def order(errors, calls):
    x, y = centred(calls.log()), centred(errors.log())
    return -(x @ y) / (x @ x)


@right("11.order")
def order_by_lstsq(errors, calls):
    columns = torch.stack([calls.log2(), torch.ones_like(calls)], 1)
    return -torch.linalg.lstsq(columns, errors.log2()[:, None]).solution[0].item()


@right("11.order")
def order_by_hand(errors, calls):
    x, y = [math.log10(c) for c in calls.tolist()], [math.log10(e) for e in errors.tolist()]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return -sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


@wrong("11.order", "the sign")
def order_negative(errors, calls):
    return -order(errors, calls)


@wrong("11.order", "without logarithms")
def order_plain(errors, calls):
    x, y = centred(calls), centred(errors)
    return -(x @ y) / (x @ x)


@wrong("11.order", "should be one number")
def order_each(errors, calls):
    return -errors.log().diff() / calls.log().diff() if len(errors) > 2 else torch.zeros(2)


@right("11.order")
def order_in_python(errors, calls):
    slope = statistics.linear_regression(calls.log().tolist(), errors.log().tolist()).slope
    return torch.tensor(-slope)


# --- 11.dpmpp_2m -----------------------------------------------------------------------------------------------------


@right("11.dpmpp_2m")
def dpmpp_2m_step(x_t, x0_hat, x0_before, alpha, sigma):
    h_before, h = (alpha / sigma).log().diff()
    guess = x0_hat + h / (2 * h_before) * (x0_hat - x0_before)
    return sigma[2] / sigma[1] * x_t + alpha[2] * (1 - torch.exp(-h)) * guess


@right("11.dpmpp_2m")
def dpmpp_2m_step_in_floats(x_t, x0_hat, x0_before, alpha, sigma):
    before, now, then = (math.log(a / s) for a, s in zip(alpha.tolist(), sigma.tolist()))
    r = (now - before) / (then - now)
    guess = (1 + 1 / (2 * r)) * x0_hat - 1 / (2 * r) * x0_before
    return (sigma[2] / sigma[1]).item() * x_t - alpha[2].item() * math.expm1(now - then) * guess


@right("11.dpmpp_2m")
def dpmpp_2m_step_by_alphas(x_t, x0_hat, x0_before, alpha, sigma):
    lam = torch.log(alpha) - torch.log(sigma)
    slope = (x0_hat - x0_before) / (lam[1] - lam[0])
    guess = x0_hat + (lam[2] - lam[1]) / 2 * slope
    keep = sigma[2] / sigma[1]
    return keep * x_t + (alpha[2] - keep * alpha[1]) * guess


def two_m(x_t, x0_hat, x0_before, alpha, sigma, guess=None, keep=None, weight=None):
    h_before, h = (alpha / sigma).log().diff()
    look = x0_hat + h / (2 * h_before) * (x0_hat - x0_before) if guess is None else guess(h, h_before)
    a = sigma[2] / sigma[1] if keep is None else keep
    b = alpha[2] * (1 - torch.exp(-h)) if weight is None else weight(h)
    return a * x_t + b * look


@wrong("11.dpmpp_2m", "DDIM's step")
def dpmpp_2m_first_order(x_t, x0_hat, x0_before, alpha, sigma):
    return two_m(x_t, x0_hat, x0_before, alpha, sigma, guess=lambda h, before: x0_hat)


@wrong("11.dpmpp_2m", "upside down")
def dpmpp_2m_ratio(x_t, x0_hat, x0_before, alpha, sigma):
    def guess(h, before):
        return x0_hat + before / (2 * h) * (x0_hat - x0_before)

    return two_m(x_t, x0_hat, x0_before, alpha, sigma, guess=guess)


@wrong("11.dpmpp_2m", "in place")
def dpmpp_2m_in_place(x_t, x0_hat, x0_before, alpha, sigma):
    h_before, h = (alpha / sigma).log().diff()
    x0_hat += h / (2 * h_before) * (x0_hat - x0_before)
    return sigma[2] / sigma[1] * x_t + alpha[2] * (1 - torch.exp(-h)) * x0_hat


# --- 11.karras_levels ------------------------------------------------------------------------------------------------


@right("11.karras_levels")
def karras_levels(u, r_max, r_min, rho):
    return (r_max ** (1 / rho) + u * (r_min ** (1 / rho) - r_max ** (1 / rho))) ** rho


@right("11.karras_levels")
def karras_levels_loop(u, r_max, r_min, rho):
    levels = [((1 - v) * r_max ** (1 / rho) + v * r_min ** (1 / rho)) ** rho for v in u.tolist()]
    return torch.tensor(levels, dtype=u.dtype)


@wrong("11.karras_levels", "power rho at the end")
def karras_levels_no_power(u, r_max, r_min, rho):
    return karras_levels(u, r_max, r_min, rho) ** (1 / rho)


@wrong("11.karras_levels", "take the roots first")
def karras_levels_even(u, r_max, r_min, rho):
    return r_max + u * (r_min - r_max)


@wrong("11.karras_levels", "in place")
def karras_levels_in_place(u, r_max, r_min, rho):
    u *= r_min ** (1 / rho) - r_max ** (1 / rho)
    return (u + r_max ** (1 / rho)) ** rho


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("11.karras_levels", "need not be evenly spaced")
def karras_linspace(u, r_max, r_min, rho):
    return torch.linspace(r_max ** (1 / rho), r_min ** (1 / rho), len(u), dtype=u.dtype) ** rho
