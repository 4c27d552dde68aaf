"""Answers to lesson 12."""

import math

import torch
from torch.distributions import Independent, Normal, kl_divergence

from answers import right, wrong


def jump(now, before):
    forward = 1 - now / before
    return forward, forward * (1 - before) / (1 - now), before.sqrt() * forward / (1 - now)


def column(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


# --- 12.step_cost ----------------------------------------------------------------------------------------------------


@right("12.step_cost")
def step_cost(x_0, x0_hat, v, t, s, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[s]
    forward = 1 - now / before
    known = forward * (1 - before) / (1 - now)
    k = before.sqrt() * forward / (1 - now)
    return ((v / known).log() + (known + k**2 * (x_0 - x0_hat).square()) / v - 1).flatten(1).sum(1) / 2


@right("12.step_cost")
def step_cost_by_snr(x_0, x0_hat, v, t, s, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    gain = snr[s] - snr[t]
    ratio = v / ((1 - alpha_bar[t] / alpha_bar[s]) * (1 - alpha_bar[s]) / (1 - alpha_bar[t]))
    squared = (x_0 - x0_hat).flatten(1).square()
    return 0.5 * (ratio.log() + (1 + gain * squared) / ratio - 1).sum(1)


@right("12.step_cost")
def step_cost_by_torch(x_0, x0_hat, v, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    q, p = Normal(k * x_0.flatten(1), known.sqrt()), Normal(k * x0_hat.flatten(1), v.sqrt())
    return kl_divergence(Independent(q, 1), Independent(p, 1))


@wrong("12.step_cost", "the half in front is missing")
def step_cost_doubled(x_0, x0_hat, v, t, s, alpha_bar):
    return 2 * step_cost(x_0, x0_hat, v, t, s, alpha_bar)


@wrong("12.step_cost", "yours is their mean")
def step_cost_mean(x_0, x0_hat, v, t, s, alpha_bar):
    return step_cost(x_0, x0_hat, v, t, s, alpha_bar) / x_0[0].numel()


@wrong("12.step_cost", "in place")
def step_cost_in_place(x_0, x0_hat, v, t, s, alpha_bar):
    x0_hat -= x_0
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    return ((v / known).log() + (known + k**2 * x0_hat**2) / v - 1).flatten(1).sum(1) / 2


# --- 12.optimal_variance ---------------------------------------------------------------------------------------------


@right("12.optimal_variance")
def optimal_variance(mse, t, s, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[s]
    forward = 1 - now / before
    k = before.sqrt() * forward / (1 - now)
    return forward * (1 - before) / (1 - now) + k**2 * mse


@right("12.optimal_variance")
def optimal_variance_loop(mse, t, s, alpha_bar):
    out = []
    for e, i, j in zip(mse, t.tolist(), s.tolist()):
        forward = 1 - alpha_bar[i] / alpha_bar[j]
        out.append(forward / (1 - alpha_bar[i]) * (1 - alpha_bar[j] + alpha_bar[j] * forward * e / (1 - alpha_bar[i])))
    return torch.stack(out)


@wrong("12.optimal_variance", "for an x_0 that is known")
def optimal_variance_posterior(mse, t, s, alpha_bar):
    return jump(alpha_bar[t], alpha_bar[s])[1]


@wrong("12.optimal_variance", "right for data N(0, I) alone")
def optimal_variance_beta(mse, t, s, alpha_bar):
    return 1 - alpha_bar[t] / alpha_bar[s]


@wrong("12.optimal_variance", "in place")
def optimal_variance_in_place(mse, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    mse *= k**2
    return known + mse


# --- 12.interpolate --------------------------------------------------------------------------------------------------


def both_ends(v, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return column(forward, v), column(known, v)


@right("12.interpolate")
def interpolate(v, t, s, alpha_bar):
    now, before = (alpha_bar[i].reshape(-1, *[1] * (v.ndim - 1)) for i in (t, s))
    beta = 1 - now / before
    known = beta * (1 - before) / (1 - now)
    return torch.exp(v * beta.log() + (1 - v) * known.log())


@right("12.interpolate")
def interpolate_by_powers(v, t, s, alpha_bar):
    beta, known = both_ends(v, t, s, alpha_bar)
    return beta**v * known ** (1 - v)


@right("12.interpolate")
def interpolate_from_below(v, t, s, alpha_bar):
    beta, known = both_ends(v, t, s, alpha_bar)
    return known * (beta / known) ** v


@wrong("12.interpolate", "not between the variances")
def interpolate_linear(v, t, s, alpha_bar):
    beta, known = both_ends(v, t, s, alpha_bar)
    return v * beta + (1 - v) * known


@wrong("12.interpolate", "the ends are swapped")
def interpolate_swapped(v, t, s, alpha_bar):
    return interpolate(1 - v, t, s, alpha_bar)


@wrong("12.interpolate", "in place")
def interpolate_in_place(v, t, s, alpha_bar):
    beta, known = both_ends(v, t, s, alpha_bar)
    v *= (beta / known).log()
    return known * v.exp()


# --- 12.best_gaussian ------------------------------------------------------------------------------------------------


@right("12.best_gaussian")
def best_gaussian(p, m, u):
    mean = (p * m).sum(1)
    variance = (p * (u + (m - mean[:, None]) ** 2)).sum(1)
    return torch.stack([mean, variance], 1)


@right("12.best_gaussian")
def best_gaussian_by_moments(p, m, u):
    mean = (p * m).sum(1)
    return torch.stack([mean, (p * (u + m**2)).sum(1) - mean**2], dim=1)


@right("12.best_gaussian")
def best_gaussian_loop(p, m, u):
    rows = []
    for weights, centres, widths in zip(p, m, u):
        mean = weights @ centres
        rows.append(torch.stack([mean, weights @ widths + weights @ (centres - mean) ** 2]))
    return torch.stack(rows)


def with_variance(p, m, variance):
    return torch.stack([(p * m).sum(1), variance], 1)


@wrong("12.best_gaussian", "the parts lie apart")
def best_gaussian_within(p, m, u):
    return with_variance(p, m, (p * u).sum(1))


@wrong("12.best_gaussian", "widths of their own")
def best_gaussian_between(p, m, u):
    return with_variance(p, m, (p * (m - (p * m).sum(1, keepdim=True)) ** 2).sum(1))


@wrong("12.best_gaussian", "two numbers for each point")
def best_gaussian_transposed(p, m, u):
    return best_gaussian(p, m, u).T[:, :, None]


# --- 12.jump_bound ---------------------------------------------------------------------------------------------------


def nll(x, mean, v):
    return ((x - mean) ** 2 / v + (2 * math.pi * v).log()).sum(1) / 2


def kl(mean_q, v_q, mean_p, v_p):
    return ((v_p / v_q).log() + (v_q + (mean_q - mean_p) ** 2) / v_p - 1).sum(1) / 2


@right("12.jump_bound")
def jump_bound(x, mean, v, mean_q, v_q, mean_p, v_p):
    unlikely = ((x - mean) ** 2 / v + (2 * math.pi * v).log()).sum(1) / 2
    return unlikely + ((v_p / v_q).log() + (v_q + (mean_q - mean_p) ** 2) / v_p - 1).sum(1) / 2


@right("12.jump_bound")
def jump_bound_by_torch(x, mean, v, mean_q, v_q, mean_p, v_p):
    latent = kl_divergence(Normal(mean_q, v_q.sqrt()), Normal(mean_p, v_p.sqrt()))
    return latent.sum(1) - Normal(mean, v.sqrt()).log_prob(x).sum(1)


@wrong("12.jump_bound", "the KL is missing")
def jump_bound_no_kl(x, mean, v, mean_q, v_q, mean_p, v_p):
    return nll(x, mean, v)


@wrong("12.jump_bound", "that is the KL alone")
def jump_bound_kl_alone(x, mean, v, mean_q, v_q, mean_p, v_p):
    return kl(mean_q, v_q, mean_p, v_p)


@wrong("12.jump_bound", "one number for each point")
def jump_bound_of_the_batch(x, mean, v, mean_q, v_q, mean_p, v_p):
    return jump_bound(x, mean, v, mean_q, v_q, mean_p, v_p).sum()


@wrong("12.jump_bound", "in place")
def jump_bound_in_place(x, mean, v, mean_q, v_q, mean_p, v_p):
    mean_q -= mean_p
    return nll(x, mean, v) + ((v_p / v_q).log() + (v_q + mean_q**2) / v_p - 1).sum(1) / 2


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("12.interpolate", "without a clamp")
def interpolate_clamped(v, t, s, alpha_bar):
    return interpolate(v.clamp(0, 1), t, s, alpha_bar)


@wrong("12.interpolate", "points (b, d) must be served too")
def interpolate_for_images(v, t, s, alpha_bar):
    now, before = (alpha_bar[i].reshape(-1, 1, 1, 1) for i in (t, s))
    beta = 1 - now / before
    known = beta * (1 - before) / (1 - now)
    return torch.exp(v * beta.log() + (1 - v) * known.log())
