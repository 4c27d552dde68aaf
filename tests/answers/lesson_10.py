"""Answers to lesson 10."""

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


@wrong("10.grid", "gives an int")
def grid_of_floats(T, n, power):
    return [float(t) for t in grid(T, n, power)]


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


@wrong("10.slerp", "by both lengths")
def slerp_without_lengths(a, b, w):
    return mix(a, b, w, columns((a * b).flatten(1).sum(1).acos(), a))


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


@wrong("10.slerp", "`acos` with its sign")
def slerp_asin(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = (1 - cosine**2).sqrt().asin().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


@wrong("10.slerp", "points (b, d) must be served too")
def slerp_for_images(a, b, w):
    cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    theta = cosine.acos().reshape(-1, 1, 1, 1)
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)
