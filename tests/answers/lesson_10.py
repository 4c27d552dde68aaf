"""Answers to lesson 10."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from answers import right, wrong

# --- 10.sigma --------------------------------------------------------------------------------------------------------


@right("10.sigma")
def sigma(t, s, eta, alpha_bar):
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    return eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()


@right("10.sigma")
def sigma_as_in_the_paper(t, s, eta, alpha_bar):
    now, then = alpha_bar[t], alpha_bar[s]
    return eta * torch.sqrt((1 - then) / (1 - now)) * torch.sqrt(1 - now / then)


@right("10.sigma")
def sigma_loop(t, s, eta, alpha_bar):
    out = []
    for i, j in zip(t.tolist(), s.tolist()):
        jump = (alpha_bar[j] - alpha_bar[i]) / alpha_bar[j]
        out.append(eta * (jump * (1 - alpha_bar[j]) / (1 - alpha_bar[i])) ** 0.5)
    return torch.stack(out)


@wrong("10.sigma", "c is a standard deviation")
def sigma_variance(t, s, eta, alpha_bar):
    return sigma(t, s, 1.0, alpha_bar) ** 2 * eta


@wrong("10.sigma", "yours multiplies c²")
def sigma_eta_inside(t, s, eta, alpha_bar):
    return (eta * sigma(t, s, 1.0, alpha_bar) ** 2).sqrt()


@wrong("10.sigma", "yours does so twice")
def sigma_eta_twice(t, s, eta, alpha_bar):
    return eta**2 * sigma(t, s, 1.0, alpha_bar)


@wrong("10.sigma", "eta is missing")
def sigma_without_eta(t, s, eta, alpha_bar):
    return sigma(t, s, 1.0, alpha_bar)


@wrong("10.sigma", "upside down")
def sigma_upside_down(t, s, eta, alpha_bar):
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    return eta * ((1 - a_t) / (1 - a_s) * (1 - a_t / a_s)).sqrt()


@wrong("10.sigma", "the jump forward")
def sigma_forward(t, s, eta, alpha_bar):
    return eta * (1 - alpha_bar[t] / alpha_bar[s]).sqrt()


@wrong("10.sigma", "the jump goes to s")
def sigma_single_step(t, s, eta, alpha_bar):
    return sigma(t, t - 1, eta, alpha_bar)


@wrong("10.sigma", "the variance of one step")
def sigma_with_beta(t, s, eta, alpha_bar):
    beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
    return eta * ((1 - alpha_bar[s]) / (1 - alpha_bar[t]) * beta).sqrt()


@wrong("10.sigma", "alpha_bar itself")
def sigma_of_signal(t, s, eta, alpha_bar):
    return eta * (alpha_bar[s] / alpha_bar[t] * (1 - alpha_bar[t] / alpha_bar[s])).sqrt()


@wrong("10.sigma", "not a difference")
def sigma_difference(t, s, eta, alpha_bar):
    return eta * ((1 - alpha_bar[s]) / (1 - alpha_bar[t]) * (alpha_bar[s] - alpha_bar[t])).sqrt()


@wrong("10.sigma", "roots already")
def sigma_root_twice(t, s, eta, alpha_bar):
    sigma_t, sigma_s = (1 - alpha_bar[t]).sqrt(), (1 - alpha_bar[s]).sqrt()
    return eta * (sigma_s / sigma_t * (1 - alpha_bar[t] / alpha_bar[s])).sqrt()


@wrong("10.sigma", "off by one")
def sigma_off_by_one(t, s, eta, alpha_bar):
    return sigma(t - 1, s - 1, eta, alpha_bar)


@wrong("10.sigma", "all use the first")
def sigma_first(t, s, eta, alpha_bar):
    return sigma(t[:1], s[:1], eta, alpha_bar).expand(len(t))


@wrong("10.sigma", "is negative")
def sigma_ratio_reversed(t, s, eta, alpha_bar):
    return eta * ((1 - alpha_bar[s]) / (1 - alpha_bar[t]) * (1 - alpha_bar[s] / alpha_bar[t])).sqrt()


@wrong("10.sigma", "clean data")
def sigma_with_a_floor(t, s, eta, alpha_bar):
    return sigma(t, s, eta, alpha_bar).clamp(min=1e-3)


# --- 10.ddim_step ----------------------------------------------------------------------------------------------------


def parts(x_t, x0_hat, t, s, eta, alpha_bar):
    """alpha_s, sigma_s, c and eps."""
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    c = eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()
    return a_s.sqrt(), (1 - a_s).sqrt(), c, (x_t - a_t.sqrt() * x0_hat) / (1 - a_t).sqrt()


@right("10.ddim_step")
def ddim_step(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * eps + c * z


@right("10.ddim_step")
def ddim_step_as_in_the_paper(x_t, x0_hat, t, s, eta, alpha_bar, z):
    a, b = alpha_bar[t], alpha_bar[s]
    eps = (x_t - a**0.5 * x0_hat) / (1 - a) ** 0.5
    c = eta * ((1 - b) / (1 - a)) ** 0.5 * (1 - a / b) ** 0.5
    return b**0.5 * x0_hat + (1 - b - c**2) ** 0.5 * eps + c * z


@right("10.ddim_step")
def ddim_step_collected(x_t, x0_hat, t, s, eta, alpha_bar, z):
    a, b = alpha_bar[t], alpha_bar[s]
    variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    of_x_t = ((1 - b - variance) / (1 - a)).sqrt()
    return of_x_t * x_t + (b.sqrt() - a.sqrt() * of_x_t) * x0_hat + variance.sqrt() * z


@wrong("10.ddim_step", "makes room for itself")
def ddim_step_no_room(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + sigma_s * eps + c * z


@wrong("10.ddim_step", "deviations do not")
def ddim_step_deviations(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s - c) * eps + c * z


@wrong("10.ddim_step", "is the root of sigma_s² - c²")
def ddim_step_no_root(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2) * eps + c * z


@wrong("10.ddim_step", "nothing takes its place")
def ddim_step_no_z(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * eps


@wrong("10.ddim_step", "eta = 0")
def ddim_step_deterministic(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x_t, x0_hat, t, s, 0.0, alpha_bar, z)


@wrong("10.ddim_step", "eta = 1 whatever")
def ddim_step_ancestral(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x_t, x0_hat, t, s, 1.0, alpha_bar, z)


@wrong("10.ddim_step", "yours multiplies c²")
def ddim_step_eta_inside(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x_t, x0_hat, t, s, eta**0.5, alpha_bar, z)


@wrong("10.ddim_step", "not by c²")
def ddim_step_variance(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * eps + c**2 * z


@wrong("10.ddim_step", "throws all the old noise away")
def ddim_step_fresh(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return alpha_bar[s].sqrt() * x0_hat + (1 - alpha_bar[s]).sqrt() * z


@wrong("10.ddim_step", "not x_t")
def ddim_step_keeps_x_t(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, _ = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * x_t + c * z


@wrong("10.ddim_step", "took the place of eps")
def ddim_step_z_for_eps(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, _ = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * z + c * z


@wrong("10.ddim_step", "before it is taken off")
def ddim_step_unshrunk_eps(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, _ = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    eps = (x_t - x0_hat) / (1 - alpha_bar[t]).sqrt()
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * eps + c * z


@wrong("10.ddim_step", "variance 1: divide by sigma_t")
def ddim_step_undivided(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, _ = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * (x_t - alpha_bar[t].sqrt() * x0_hat) + c * z


@wrong("10.ddim_step", "not by sigma_t²")
def ddim_step_divided_twice(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * eps / (1 - alpha_bar[t]).sqrt() + c * z


@wrong("10.ddim_step", "not with those of s")
def ddim_step_eps_of_s(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, _ = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_s * x0_hat + (sigma_s**2 - c**2).sqrt() * (x_t - alpha_s * x0_hat) / sigma_s + c * z


@wrong("10.ddim_step", "yours holds alpha_t")
def ddim_step_alpha_t(x_t, x0_hat, t, s, eta, alpha_bar, z):
    _, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_bar[t].sqrt() * x0_hat + (sigma_s**2 - c**2).sqrt() * eps + c * z


@wrong("10.ddim_step", "is not shrunk")
def ddim_step_unshrunk(x_t, x0_hat, t, s, eta, alpha_bar, z):
    _, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return x0_hat + (sigma_s**2 - c**2).sqrt() * eps + c * z


@wrong("10.ddim_step", "alpha_s is the root")
def ddim_step_alpha_bar(x_t, x0_hat, t, s, eta, alpha_bar, z):
    _, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    return alpha_bar[s] * x0_hat + (sigma_s**2 - c**2).sqrt() * eps + c * z


@wrong("10.ddim_step", "the jump goes to s")
def ddim_step_single(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x_t, x0_hat, t, t - 1, eta, alpha_bar, z)


@wrong("10.ddim_step", "off by one")
def ddim_step_off_by_one(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x_t, x0_hat, t - 1, s - 1, eta, alpha_bar, z)


@wrong("10.ddim_step", "s = 0")
def ddim_step_never_clean(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x_t, x0_hat, t, max(s, 1), eta, alpha_bar, z)


@wrong("10.ddim_step", "random numbers of its own")
def ddim_step_own_noise(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x_t, x0_hat, t, s, eta, alpha_bar, torch.randn_like(z))


@wrong("10.ddim_step", "in place")
def ddim_step_in_place(x_t, x0_hat, t, s, eta, alpha_bar, z):
    alpha_s, sigma_s, c, eps = parts(x_t, x0_hat, t, s, eta, alpha_bar)
    x0_hat *= alpha_s
    return x0_hat + (sigma_s**2 - c**2).sqrt() * eps + c * z


# --- 10.grid ---------------------------------------------------------------------------------------------------------


@right("10.grid")
def grid(T, n, power):
    return [round(T * (i / n) ** power) for i in range(n, -1, -1)]


@right("10.grid")
def grid_by_torch(T, n, power):
    return (T * torch.linspace(1, 0, n + 1, dtype=torch.float64) ** power).round().long()


@right("10.grid")
def grid_reversed(T, n, power):
    times = []
    for i in range(n + 1):
        times.append(int(T * (i / n) ** power + 0.5))
    return times[::-1]


@wrong("10.grid", "walks back")
def grid_rising(T, n, power):
    return grid(T, n, power)[::-1]


@wrong("10.grid", "0 is missing")
def grid_without_end(T, n, power):
    return [round(T * (i / n) ** power) for i in range(n, 0, -1)]


@wrong("10.grid", "T is missing")
def grid_without_start(T, n, power):
    return [round(T * (i / n) ** power) for i in range(n - 1, -1, -1)]


@wrong("10.grid", "yours has n times")
def grid_of_n_times(T, n, power):
    return grid(T, n - 1, power)


@wrong("10.grid", "one step too long")
def grid_too_long(T, n, power):
    return grid(T, n + 1, power)


@wrong("10.grid", "yours at T - 1")
def grid_from_T_minus_1(T, n, power):
    return grid(T - 1, n, power)


@wrong("10.grid", "as arrays do")
def grid_of_indices(T, n, power):
    return [t - 1 for t in grid(T, n, power)]


@wrong("10.grid", "counted from 1, never reaches T")
def grid_leading(T, n, power):
    return [1 + T // n * i for i in reversed(range(n))] + [0]


@wrong("10.grid", "counted from 0, never reaches T")
def grid_leading_from_0(T, n, power):
    return list(range(0, T // n * n, T // n))[::-1]


@wrong("10.grid", "round them")
def grid_unrounded(T, n, power):
    return [T * (i / n) ** power for i in range(n, -1, -1)]


@wrong("10.grid", "gives an int")
def grid_of_floats(T, n, power):
    return [float(t) for t in grid(T, n, power)]


@wrong("10.grid", "rounds down")
def grid_floor(T, n, power):
    return [math.floor(T * (i / n) ** power) for i in range(n, -1, -1)]


@wrong("10.grid", "rounds up")
def grid_ceil(T, n, power):
    return [math.ceil(T * (i / n) ** power) for i in range(n, -1, -1)]


@wrong("10.grid", "of i / n alone")
def grid_power_of_all(T, n, power):
    return [round((T * i / n) ** power) for i in range(n, -1, -1)]


@wrong("10.grid", "of the whole fraction")
def grid_power_of_i(T, n, power):
    return [round(T * i**power / n) for i in range(n, -1, -1)]


@wrong("10.grid", "with i = n first")
def grid_short_at_the_noise(T, n, power):
    return [round(T * (1 - (i / n) ** power)) for i in range(n + 1)]


@wrong("10.grid", "the power 1/p")
def grid_root(T, n, power):
    return grid(T, n, 1 / power)


@wrong("10.grid", "no notice of the power")
def grid_without_power(T, n, power):
    return grid(T, n, 1.0)


@wrong("10.grid", "a list of times")
def grid_generator(T, n, power):
    return (round(T * (i / n) ** power) for i in range(n, -1, -1))


# --- 10.threshold ----------------------------------------------------------------------------------------------------


def columns(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


def measure(x, q):
    return x.abs().flatten(1).quantile(q, dim=1)


def by(s, x):
    return x.clamp(-s, s) / s


@right("10.threshold")
def threshold(x0_hat, q):
    s = x0_hat.abs().flatten(1).quantile(q, dim=1).clamp(min=1).reshape(-1, *[1] * (x0_hat.ndim - 1))
    return x0_hat.clamp(-s, s) / s


@right("10.threshold")
def threshold_divided_first(x0_hat, q):
    s = columns(torch.maximum(measure(x0_hat, q), torch.ones_like(x0_hat.flatten(1)[:, 0])), x0_hat)
    return (x0_hat / s).clamp(-1, 1)


@right("10.threshold")
def threshold_loop(x0_hat, q):
    out = []
    for image in x0_hat:
        s = max(1.0, torch.quantile(image.abs().flatten(), q).item())
        out.append(torch.clamp(image, -s, s) / s)
    return torch.stack(out)


@wrong("10.threshold", "must not be blown up")
def threshold_without_one(x0_hat, q):
    return by(columns(measure(x0_hat, q), x0_hat), x0_hat)


@wrong("10.threshold", "divide by s in the end")
def threshold_undivided(x0_hat, q):
    s = columns(measure(x0_hat, q).clamp(min=1), x0_hat)
    return x0_hat.clamp(-s, s)


@wrong("10.threshold", "before dividing")
def threshold_unclipped(x0_hat, q):
    return x0_hat / columns(measure(x0_hat, q).clamp(min=1), x0_hat)


@wrong("10.threshold", "plain clipping")
def threshold_static(x0_hat, q):
    return x0_hat.clamp(-1, 1)


@wrong("10.threshold", "before dividing")
def threshold_clips_late(x0_hat, q):
    s = columns(measure(x0_hat, q).clamp(min=1), x0_hat)
    return (x0_hat / s).clamp(-s, s)


@wrong("10.threshold", "of the absolute values")
def threshold_signed(x0_hat, q):
    return by(columns(x0_hat.flatten(1).quantile(q, dim=1).clamp(min=1), x0_hat), x0_hat)


@wrong("10.threshold", "one for the whole batch")
def threshold_of_the_batch(x0_hat, q):
    return by(x0_hat.abs().flatten().quantile(q).clamp(min=1), x0_hat)


@wrong("10.threshold", "not the largest value")
def threshold_max(x0_hat, q):
    return by(columns(measure(x0_hat, 1.0).clamp(min=1), x0_hat), x0_hat)


@wrong("10.threshold", "not that of 1 - q")
def threshold_other_end(x0_hat, q):
    return by(columns(measure(x0_hat, 1 - q).clamp(min=1), x0_hat), x0_hat)


@wrong("10.threshold", "not at most 1")
def threshold_at_most_one(x0_hat, q):
    return by(columns(measure(x0_hat, q).clamp(max=1), x0_hat), x0_hat)


@wrong("10.threshold", "not a standard deviation")
def threshold_std(x0_hat, q):
    return by(columns(x0_hat.flatten(1).std(1).clamp(min=1), x0_hat), x0_hat)


@wrong("10.threshold", "its colours change")
def threshold_by_channel(x0_hat, q):
    if x0_hat.ndim < 4:
        return threshold(x0_hat, q)
    return by(x0_hat.abs().flatten(2).quantile(q, dim=2).clamp(min=1)[..., None, None], x0_hat)


@wrong("10.threshold", "along the width")
def threshold_wrong_axis(x0_hat, q):
    if x0_hat.shape[-1] != len(x0_hat):
        return threshold(x0_hat, q)
    return by(measure(x0_hat, q).clamp(min=1), x0_hat)


@wrong("10.threshold", "one number an image, shape (b,)")
def threshold_bare(x0_hat, q):
    return by(measure(x0_hat, q).clamp(min=1)[:3], x0_hat)


@wrong("10.threshold", "in place")
def threshold_in_place(x0_hat, q):
    s = columns(measure(x0_hat, q).clamp(min=1), x0_hat)
    return x0_hat.clamp_(-s, s) / s


# --- 10.slerp --------------------------------------------------------------------------------------------------------


def angle(a, b):
    return F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()


def mix(a, b, w, theta):
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


@right("10.slerp")
def slerp(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = cosine.acos().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


@right("10.slerp")
def slerp_by_torch(a, b, w):
    return mix(a, b, w, columns(angle(a, b), a))


@right("10.slerp")
def slerp_loop(a, b, w):
    out = []
    for one, other in zip(a, b):
        theta = torch.acos((one * other).sum() / (one.norm() * other.norm()))
        out.append(torch.sin(theta - w * theta) / torch.sin(theta) * one + torch.sin(w * theta) / theta.sin() * other)
    return torch.stack(out)


@wrong("10.slerp", "a straight line")
def slerp_straight(a, b, w):
    return (1 - w) * a + w * b


@wrong("10.slerp", "goes the other way")
def slerp_other_way(a, b, w):
    return slerp(a, b, 1 - w)


@wrong("10.slerp", "one for the whole batch")
def slerp_one_angle(a, b, w):
    return mix(a, b, w, F.cosine_similarity(a.flatten(), b.flatten(), dim=0).acos())


@wrong("10.slerp", "divide by sin(theta)")
def slerp_undivided(a, b, w):
    theta = columns(angle(a, b), a)
    return torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b


@wrong("10.slerp", "to be a right one")
def slerp_right_angle(a, b, w):
    return math.cos(w * math.pi / 2) * a + math.sin(w * math.pi / 2) * b


@wrong("10.slerp", "roots as weights")
def slerp_roots(a, b, w):
    return (1 - w) ** 0.5 * a + w**0.5 * b


@wrong("10.slerp", "theta is its `acos`")
def slerp_cosine(a, b, w):
    return mix(a, b, w, columns(angle(a, b).cos(), a))


@wrong("10.slerp", "sines, not cosines")
def slerp_cosines(a, b, w):
    theta = columns(angle(a, b), a)
    return (torch.cos((1 - w) * theta) * a + torch.cos(w * theta) * b) / torch.cos(theta)


@wrong("10.slerp", "unit vector")
def slerp_unit(a, b, w):
    between = slerp(a, b, w)
    return between / columns(between.flatten(1).norm(dim=1), a)


@wrong("10.slerp", "in radians")
def slerp_degrees(a, b, w):
    return mix(a, b, w, columns(angle(a, b) * 180 / math.pi, a))


@wrong("10.slerp", "all use the first")
def slerp_first(a, b, w):
    return mix(a, b, w, columns(angle(a, b), a)[:1])


@wrong("10.slerp", "for each line of pixels")
def slerp_of_lines(a, b, w):
    if a.ndim < 4:
        return slerp(a, b, w)
    return mix(a, b, w, F.cosine_similarity(a, b, dim=-1)[..., None].acos())


@wrong("10.slerp", "by both lengths")
def slerp_without_lengths(a, b, w):
    return mix(a, b, w, columns((a * b).flatten(1).sum(1).acos(), a))


@wrong("10.slerp", "along the width")
def slerp_wrong_axis(a, b, w):
    if a.shape[-1] != len(a):
        return slerp(a, b, w)
    return mix(a, b, w, angle(a, b))


@wrong("10.slerp", "one angle an image")
def slerp_bare(a, b, w):
    return mix(a, b, w, angle(a, b)[:3])


@wrong("10.slerp", "as large as a")
def slerp_too_few_dimensions(a, b, w):
    return mix(a, b, w, angle(a, b).reshape(-1, 1, 1))


@wrong("10.slerp", "in place")
def slerp_in_place(a, b, w):
    between = slerp(a, b, w)
    a.mul_(0.5)
    return between


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("10.sigma", "root of a root")
def sigma_root_of_root(t, s, eta, alpha_bar):
    return eta * (sigma(t, s, 1.0, alpha_bar)).sqrt()


@wrong("10.sigma", "no roots under the root")
def sigma_of_roots(t, s, eta, alpha_bar):
    return sigma(t, s, eta, alpha_bar.sqrt())


@wrong("10.sigma", "second fraction of yours is outside")
def sigma_brackets(t, s, eta, alpha_bar):
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    return eta * ((1 - a_s) / (1 - a_t)).sqrt() * (1 - a_t / a_s)


@wrong("10.ddim_step", "x_t and x0_hat are swapped")
def ddim_step_roles(x_t, x0_hat, t, s, eta, alpha_bar, z):
    return ddim_step(x0_hat, x_t, t, s, eta, alpha_bar, z)


@wrong("10.ddim_step", "brackets round the difference")
def ddim_step_brackets(x_t, x0_hat, t, s, eta, alpha_bar, z):
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    c = eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()
    eps = x_t - a_t.sqrt() * x0_hat / (1 - a_t).sqrt()
    return a_s.sqrt() * x0_hat + (1 - a_s - c**2).sqrt() * eps + c * z


@right("10.grid")
def grid_of_numpy_numbers(T, n, power):
    return [np.int64(round(T * (i / n) ** power)) for i in range(n, -1, -1)]


@wrong("10.grid", "whole numbers")
def grid_of_numpy_floats(T, n, power):
    return [np.float32(round(T * (i / n) ** power)) for i in range(n, -1, -1)]


@wrong("10.threshold", "still clipped")
def threshold_only_above(x0_hat, q):
    s = x0_hat.abs().flatten(1).quantile(q, dim=1).reshape(-1, *[1] * (x0_hat.ndim - 1))
    return torch.where(s > 1, x0_hat.clamp(-s, s) / s, x0_hat)


@wrong("10.threshold", "points (b, d) must be served too")
def threshold_for_images(x0_hat, q):
    s = x0_hat.abs().flatten(1).quantile(q, dim=1).clamp(min=1)[:, None, None, None]
    return x0_hat.clamp(-s, s) / s


@wrong("10.threshold", "not a sum")
def threshold_one_more(x0_hat, q):
    s = 1 + x0_hat.abs().flatten(1).quantile(q, dim=1).reshape(-1, *[1] * (x0_hat.ndim - 1))
    return x0_hat.clamp(-s, s) / s


@wrong("10.slerp", "`acos` with its sign")
def slerp_asin(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = (1 - cosine**2).sqrt().asin().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


@wrong("10.slerp", "`acos` with its sign")
def slerp_acute(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = cosine.abs().acos().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


@wrong("10.slerp", "and not 0")
def slerp_clamped(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = cosine.clamp(0, 1).acos().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


@wrong("10.slerp", "unit vectors are for the angle alone")
def slerp_of_unit_vectors(a, b, w):
    a, b = (x / x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1)) for x in (a, b))
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = cosine.acos().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


@wrong("10.slerp", "goes the other way")
def slerp_roles(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = cosine.acos().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin(w * theta) * a + torch.sin((1 - w) * theta) * b) / torch.sin(theta)


@wrong("10.slerp", "points (b, d) must be served too")
def slerp_for_images(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = cosine.acos().reshape(-1, 1, 1, 1)
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)
