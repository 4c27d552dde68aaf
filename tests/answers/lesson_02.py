"""Answers to lesson 02."""

import math

import numpy as np
import torch

from answers import right, wrong

# --- 02.betas_from_alpha_bar -----------------------------------------------------------------------------------------


@right("02.betas_from_alpha_bar")
def betas(alpha_bar, max_beta):
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)


@right("02.betas_from_alpha_bar")
def betas_loop(alpha_bar, max_beta):
    out = torch.empty(len(alpha_bar) - 1, dtype=alpha_bar.dtype)
    for t in range(1, len(alpha_bar)):
        out[t - 1] = min(1 - alpha_bar[t] / alpha_bar[t - 1], max_beta)
    return out


@right("02.betas_from_alpha_bar")
def betas_in_logs(alpha_bar, max_beta):
    return torch.minimum(-torch.expm1(alpha_bar.log().diff()), torch.full_like(alpha_bar[1:], max_beta))


@wrong("02.betas_from_alpha_bar", "clip is missing")
def betas_unclipped(alpha_bar, max_beta):
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


@wrong("02.betas_from_alpha_bar", "upper limit")
def betas_clipped_below(alpha_bar, max_beta):
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(min=max_beta)


@wrong("02.betas_from_alpha_bar", "in place")
def betas_in_place(alpha_bar, max_beta):
    alpha_bar[1:] /= alpha_bar[:-1].clone()
    return (1 - alpha_bar[1:]).clamp(max=max_beta)


@wrong("02.betas_from_alpha_bar", "should be a tensor, got ndarray")
def betas_numpy(alpha_bar, max_beta):
    return np.clip(1 - alpha_bar[1:].numpy() / alpha_bar[:-1].numpy(), None, max_beta)


# --- 02.cosine_alpha_bar ---------------------------------------------------------------------------------------------


def f(t, T, s):
    return torch.cos((t / T + s) / (1 + s) * torch.pi / 2) ** 2


def times(T):
    return torch.arange(T + 1, dtype=torch.float64)


@right("02.cosine_alpha_bar")
def cosine(T, s):
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    values = ((u + s) / (1 + s) * math.pi / 2).cos() ** 2
    return values / values[0]


@right("02.cosine_alpha_bar")
def cosine_by_the_double_angle(T, s):
    values = (1 + torch.cos((times(T) / T + s) / (1 + s) * math.pi)) / 2
    return values / values[0]


@right("02.cosine_alpha_bar")
def cosine_numpy(T, s):
    values = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    return torch.from_numpy(values / values[0])


@right("02.cosine_alpha_bar")
def cosine_in_python(T, s):
    values = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    return torch.tensor([v / values[0] for v in values], dtype=torch.float64)


@wrong("02.cosine_alpha_bar", "cosine is squared")
def cosine_not_squared(T, s):
    values = torch.cos((times(T) / T + s) / (1 + s) * math.pi / 2)
    return values / values[0]


@wrong("02.cosine_alpha_bar", "divide by f(0)")
def cosine_not_from_one(T, s):
    return f(times(T), T, s)


@wrong("02.cosine_alpha_bar", "make float32 numbers unless told")
def cosine_float32(T, s):
    return cosine(T, s).float()


# --- 02.log_snr ------------------------------------------------------------------------------------------------------


@right("02.log_snr")
def log_snr(alpha_bar):
    return alpha_bar.log() - (1 - alpha_bar).log()


@right("02.log_snr")
def log_snr_of_the_ratio(alpha_bar):
    return (alpha_bar / (1 - alpha_bar)).log()


@right("02.log_snr")
def log_snr_logit(alpha_bar):
    return torch.logit(alpha_bar)


@right("02.log_snr")
def log_snr_of_coefficients(alpha_bar):
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return 2 * (alpha / sigma).log()


@wrong("02.log_snr", "base 10")
def log_snr_base_10(alpha_bar):
    return (alpha_bar / (1 - alpha_bar)).log10()


@wrong("02.log_snr", "decibels")
def log_snr_decibels(alpha_bar):
    return 10 * (alpha_bar / (1 - alpha_bar)).log10()


@wrong("02.log_snr", "no clamp")
def log_snr_clamped(alpha_bar):
    return torch.logit(alpha_bar, eps=1e-6)


@wrong("02.log_snr", "no small constant")
def log_snr_with_epsilon(alpha_bar):
    return (alpha_bar / (1 - alpha_bar + 1e-12)).log()


@wrong("02.log_snr", "0 / 0 and inf - inf are NaN")
def log_snr_nan(alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return (snr / (1 + snr)).log() - (1 / (1 + snr)).log()


@wrong("02.log_snr", "one number for each entry")
def log_snr_without_clean(alpha_bar):
    return torch.logit(alpha_bar[1:])


# --- 02.zero_terminal_snr --------------------------------------------------------------------------------------------


def roots(alpha_bar):
    r = alpha_bar.sqrt()
    return r, r[1], r[-1]


def with_clean(later):
    return torch.cat([torch.ones(1, dtype=later.dtype), later[1:]])


@right("02.zero_terminal_snr")
def zero_terminal_snr(alpha_bar):
    r = alpha_bar.sqrt()
    rescaled = (r[1:] - r[-1]) * r[1] / (r[1] - r[-1])
    return torch.cat([alpha_bar[:1], rescaled**2])


@right("02.zero_terminal_snr")
def zero_terminal_snr_as_a_line(alpha_bar):
    r, first, last = roots(alpha_bar)
    slope = first / (first - last)
    out = (slope * r - slope * last) ** 2
    out[0] = 1
    return out


@right("02.zero_terminal_snr")
def zero_terminal_snr_loop(alpha_bar):
    r, first, last = (x.double() for x in roots(alpha_bar))
    out = [1.0] + [((x - last) / (first - last) * first).item() ** 2 for x in r[1:]]
    return torch.tensor(out, dtype=alpha_bar.dtype)


@wrong("02.zero_terminal_snr", "shift and scale the *roots*")
def zero_terminal_snr_of_variances(alpha_bar):
    first, last = alpha_bar[1], alpha_bar[-1]
    return with_clean((alpha_bar - last) * first / (first - last))


@wrong("02.zero_terminal_snr", "square the roots again")
def zero_terminal_snr_not_squared(alpha_bar):
    r, first, last = roots(alpha_bar)
    return with_clean((r - last) * first / (first - last))


@wrong("02.zero_terminal_snr", "in place")
def zero_terminal_snr_in_place(alpha_bar):
    alpha_bar[-1] = 0
    return alpha_bar


@wrong("02.zero_terminal_snr", "wrong numbers")
def zero_terminal_snr_untouched(alpha_bar):
    return alpha_bar.clone()


# --- 02.t_weights ----------------------------------------------------------------------------------------------------


@right("02.t_weights")
def t_weights(losses):
    p = losses.square().mean(1).sqrt()
    p = p / p.sum()
    return p, 1 / (len(p) * p)


@right("02.t_weights")
def t_weights_by_norm(losses):
    norms = torch.linalg.vector_norm(losses, dim=1)
    p = norms / norms.sum()
    return p, (1 / len(losses)) / p


@right("02.t_weights")
def t_weights_loop(losses):
    roots = torch.stack([sum(x * x for x in row) for row in losses]) ** 0.5
    p = roots / sum(roots)
    return [p, p.mean() / p]


def both(of_t):
    p = of_t / of_t.sum()
    return p, 1 / (len(p) * p)


@wrong("02.t_weights", "yours is the plain mean")
def t_weights_of_the_mean(losses):
    return both(losses.mean(1))


@wrong("02.t_weights", "the root is missing")
def t_weights_without_root(losses):
    return both(losses.square().mean(1))


@wrong("02.t_weights", "two tensors")
def t_weights_only_p(losses):
    return t_weights(losses)[0]


@wrong("02.t_weights", "in place")
def t_weights_in_place(losses):
    return both(losses.square_().mean(1).sqrt())


# --- what readers and attackers found ---------------------------------------------------------------------------------
