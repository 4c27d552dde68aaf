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


def cost_of(x_0, x0_hat, v, known, k):
    return ((v / known).log() + (known + k**2 * (x_0 - x0_hat) ** 2) / v - 1).flatten(1).sum(1) / 2


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


@wrong("12.step_cost", "the other way round")
def step_cost_reversed(x_0, x0_hat, v, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    return cost_of(x_0, x0_hat, known, v, k)


@wrong("12.step_cost", "upside down")
def step_cost_log_sign(x_0, x0_hat, v, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    return ((known / v).log() + (known + k**2 * (x_0 - x0_hat) ** 2) / v - 1).flatten(1).sum(1) / 2


@wrong("12.step_cost", "the -1 is missing")
def step_cost_no_one(x_0, x0_hat, v, t, s, alpha_bar):
    return step_cost(x_0, x0_hat, v, t, s, alpha_bar) + x_0[0].numel() / 2


@wrong("12.step_cost", "k comes squared")
def step_cost_k(x_0, x0_hat, v, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    return ((v / known).log() + (known + k * (x_0 - x0_hat) ** 2) / v - 1).flatten(1).sum(1) / 2


@wrong("12.step_cost", "arrives times k")
def step_cost_no_k(x_0, x0_hat, v, t, s, alpha_bar):
    _, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return cost_of(x_0, x0_hat, v, known, 1)


@wrong("12.step_cost", "missing its alpha_s")
def step_cost_no_alpha(x_0, x0_hat, v, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return cost_of(x_0, x0_hat, v, known, forward / (1 - alpha_bar[t]))


@wrong("12.step_cost", "is the root of alpha_bar[s]")
def step_cost_alpha_bar(x_0, x0_hat, v, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return cost_of(x_0, x0_hat, v, known, alpha_bar[s] * forward / (1 - alpha_bar[t]))


@wrong("12.step_cost", "a spread of its own")
def step_cost_no_spread(x_0, x0_hat, v, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    return ((v / known).log() + k**2 * (x_0 - x0_hat) ** 2 / v - 1).flatten(1).sum(1) / 2


@wrong("12.step_cost", "of one variance")
def step_cost_means_only(x_0, x0_hat, v, t, s, alpha_bar):
    _, _, k = jump(alpha_bar[t], alpha_bar[s])
    return (k**2 * (x_0 - x0_hat) ** 2 / (2 * v)).flatten(1).sum(1)


@wrong("12.step_cost", "not of their roots")
def step_cost_log_of_roots(x_0, x0_hat, v, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    return ((v.sqrt() / known.sqrt()).log() + (known + k**2 * (x_0 - x0_hat) ** 2) / v - 1).flatten(1).sum(1) / 2


@wrong("12.step_cost", "no further square")
def step_cost_v_squared(x_0, x0_hat, v, t, s, alpha_bar):
    return step_cost(x_0, x0_hat, v**2, t, s, alpha_bar)


@wrong("12.step_cost", "yours lacks sigma_s²")
def step_cost_forward(x_0, x0_hat, v, t, s, alpha_bar):
    forward, _, k = jump(alpha_bar[t], alpha_bar[s])
    return cost_of(x_0, x0_hat, v, forward, k)


@wrong("12.step_cost", "are swapped in sigma~²")
def step_cost_swapped(x_0, x0_hat, v, t, s, alpha_bar):
    forward, _, k = jump(alpha_bar[t], alpha_bar[s])
    return cost_of(x_0, x0_hat, v, forward * (1 - alpha_bar[t]) / (1 - alpha_bar[s]), k)


@wrong("12.step_cost", "not to t - 1")
def step_cost_one_step(x_0, x0_hat, v, t, s, alpha_bar):
    return step_cost(x_0, x0_hat, v, t, t - 1, alpha_bar)


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


@wrong("12.optimal_variance", "a spread of x_0 by e")
def optimal_variance_k(mse, t, s, alpha_bar):
    _, known, k = jump(alpha_bar[t], alpha_bar[s])
    return known + k * mse


@wrong("12.optimal_variance", "it arrives times k²")
def optimal_variance_no_k(mse, t, s, alpha_bar):
    return jump(alpha_bar[t], alpha_bar[s])[1] + mse


@wrong("12.optimal_variance", "squared already")
def optimal_variance_squared(mse, t, s, alpha_bar):
    return optimal_variance(mse**2, t, s, alpha_bar)


@wrong("12.optimal_variance", "takes its root")
def optimal_variance_rmse(mse, t, s, alpha_bar):
    return optimal_variance(mse.sqrt(), t, s, alpha_bar)


@wrong("12.optimal_variance", "missing its alpha_s")
def optimal_variance_no_alpha(mse, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return known + (forward / (1 - alpha_bar[t])) ** 2 * mse


@wrong("12.optimal_variance", "is the root of alpha_bar[s]")
def optimal_variance_alpha_bar(mse, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return known + (alpha_bar[s] * forward / (1 - alpha_bar[t])) ** 2 * mse


@wrong("12.optimal_variance", "not alpha_t")
def optimal_variance_alpha_t(mse, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return known + alpha_bar[t] * (forward / (1 - alpha_bar[t])) ** 2 * mse


@wrong("12.optimal_variance", "not by sigma_t")
def optimal_variance_by_sigma(mse, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return known + (alpha_bar[s].sqrt() * forward / (1 - alpha_bar[t]).sqrt()) ** 2 * mse


@wrong("12.optimal_variance", "that is the standard deviation")
def optimal_variance_root(mse, t, s, alpha_bar):
    return optimal_variance(mse, t, s, alpha_bar).sqrt()


@wrong("12.optimal_variance", "not to t - 1")
def optimal_variance_one_step(mse, t, s, alpha_bar):
    return optimal_variance(mse, t, t - 1, alpha_bar)


@wrong("12.optimal_variance", "all use the first")
def optimal_variance_first(mse, t, s, alpha_bar):
    return optimal_variance(mse, t[:1], s[:1], alpha_bar)


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


@wrong("12.interpolate", "take the exponential")
def interpolate_logs(v, t, s, alpha_bar):
    return interpolate(v, t, s, alpha_bar).log()


@wrong("12.interpolate", "that is the standard deviation")
def interpolate_root(v, t, s, alpha_bar):
    return interpolate(v, t, s, alpha_bar).sqrt()


@wrong("12.interpolate", "not to t - 1")
def interpolate_one_step(v, t, s, alpha_bar):
    return interpolate(v, t, t - 1, alpha_bar)


@wrong("12.interpolate", "that of the forward step")
def interpolate_one_end(v, t, s, alpha_bar):
    return both_ends(v, t, s, alpha_bar)[0].expand_as(v)


@wrong("12.interpolate", "the middle of the two")
def interpolate_middle(v, t, s, alpha_bar):
    return interpolate(torch.full_like(v, 0.5), t, s, alpha_bar)


@wrong("12.interpolate", "yours are v and 1")
def interpolate_weights(v, t, s, alpha_bar):
    beta, known = both_ends(v, t, s, alpha_bar)
    return torch.exp(v * beta.log() + known.log())


@wrong("12.interpolate", "are swapped in sigma~²")
def interpolate_upside_down(v, t, s, alpha_bar):
    now, before = column(alpha_bar[t], v), column(alpha_bar[s], v)
    beta = 1 - now / before
    return beta**v * (beta * (1 - now) / (1 - before)) ** (1 - v)


@wrong("12.interpolate", "between standard deviations")
def interpolate_roots(v, t, s, alpha_bar):
    beta, known = both_ends(v, t, s, alpha_bar)
    return (v * beta.sqrt() + (1 - v) * known.sqrt()) ** 2


@wrong("12.interpolate", "along the width")
def interpolate_wrong_axis(v, t, s, alpha_bar):
    forward, known, _ = jump(alpha_bar[t], alpha_bar[s])
    return forward**v * known ** (1 - v)


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


@wrong("12.best_gaussian", "take the square of the mean off")
def best_gaussian_second_moment(p, m, u):
    return with_variance(p, m, (p * (u + m**2)).sum(1))


@wrong("12.best_gaussian", "weigh the means with p")
def best_gaussian_plain_mean(p, m, u):
    mean = m.mean(1)
    return torch.stack([mean, (p * (u + (m - mean[:, None]) ** 2)).sum(1)], 1)


@wrong("12.best_gaussian", "yours count all alike")
def best_gaussian_unweighted(p, m, u):
    return torch.stack([m.mean(1), u.mean(1) + m.var(1, correction=0)], 1)


@wrong("12.best_gaussian", "no weighted sum of draws")
def best_gaussian_of_a_sum(p, m, u):
    return with_variance(p, m, (p**2 * u).sum(1))


@wrong("12.best_gaussian", "the likeliest part alone")
def best_gaussian_hard(p, m, u):
    k = p.argmax(1, keepdim=True)
    return torch.cat([m.gather(1, k), u.gather(1, k)], 1)


@wrong("12.best_gaussian", "not its root")
def best_gaussian_std(p, m, u):
    mean, variance = best_gaussian(p, m, u).T
    return torch.stack([mean, variance.sqrt()], 1)


@wrong("12.best_gaussian", "mean first")
def best_gaussian_order(p, m, u):
    return best_gaussian(p, m, u).flip(1)


@wrong("12.best_gaussian", "distances from the mean are squared")
def best_gaussian_absolute(p, m, u):
    mean = (p * m).sum(1, keepdim=True)
    return with_variance(p, m, (p * (u + (m - mean).abs())).sum(1))


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


@wrong("12.jump_bound", "not taken away")
def jump_bound_minus_kl(x, mean, v, mean_q, v_q, mean_p, v_p):
    return nll(x, mean, v) - kl(mean_q, v_q, mean_p, v_p)


@wrong("12.jump_bound", "*minus* log p")
def jump_bound_plus_log_p(x, mean, v, mean_q, v_q, mean_p, v_p):
    return kl(mean_q, v_q, mean_p, v_p) - nll(x, mean, v)


@wrong("12.jump_bound", "goes from q to p")
def jump_bound_reversed(x, mean, v, mean_q, v_q, mean_p, v_p):
    return nll(x, mean, v) + kl(mean_p, v_p, mean_q, v_q)


@wrong("12.jump_bound", "yours is N(0, 1)")
def jump_bound_standard_prior(x, mean, v, mean_q, v_q, mean_p, v_p):
    return nll(x, mean, v) + (v_q + mean_q**2 - 1 - v_q.log()).sum(1) / 2


@wrong("12.jump_bound", "in the KL is upside down")
def jump_bound_log_sign(x, mean, v, mean_q, v_q, mean_p, v_p):
    return nll(x, mean, v) + ((v_q / v_p).log() + (v_q + (mean_q - mean_p) ** 2) / v_p - 1).sum(1) / 2


@wrong("12.jump_bound", "the means of q and p are missing")
def jump_bound_no_means(x, mean, v, mean_q, v_q, mean_p, v_p):
    return nll(x, mean, v) + kl(mean_q, v_q, mean_q, v_p)


@wrong("12.jump_bound", "both halves are missing")
def jump_bound_doubled(x, mean, v, mean_q, v_q, mean_p, v_p):
    return 2 * jump_bound(x, mean, v, mean_q, v_q, mean_p, v_p)


@wrong("12.jump_bound", "the -1 in the KL is missing")
def jump_bound_no_one(x, mean, v, mean_q, v_q, mean_p, v_p):
    return jump_bound(x, mean, v, mean_q, v_q, mean_p, v_p) + v_q.shape[1] / 2


@wrong("12.jump_bound", "2 pi is missing")
def jump_bound_no_pi(x, mean, v, mean_q, v_q, mean_p, v_p):
    return ((x - mean) ** 2 / v + v.log()).sum(1) / 2 + kl(mean_q, v_q, mean_p, v_p)


@wrong("12.jump_bound", "the logarithm of the variance is missing")
def jump_bound_no_log(x, mean, v, mean_q, v_q, mean_p, v_p):
    return ((x - mean) ** 2 / v + math.log(2 * math.pi)).sum(1) / 2 + kl(mean_q, v_q, mean_p, v_p)


@wrong("12.jump_bound", "the squared error alone")
def jump_bound_mse(x, mean, v, mean_q, v_q, mean_p, v_p):
    return (x - mean).square().sum(1) + kl(mean_q, v_q, mean_p, v_p)


@wrong("12.jump_bound", "no further square")
def jump_bound_squared(x, mean, v, mean_q, v_q, mean_p, v_p):
    return nll(x, mean, v**2) + kl(mean_q, v_q, mean_p, v_p)


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


@wrong("12.interpolate", "no sigmoid")
def interpolate_sigmoid(v, t, s, alpha_bar):
    return interpolate(v.sigmoid(), t, s, alpha_bar)


@wrong("12.interpolate", "exp goes with log")
def interpolate_log10(v, t, s, alpha_bar):
    now, before = (column(alpha_bar[i], v) for i in (t, s))
    beta = 1 - now / before
    known = beta * (1 - before) / (1 - now)
    return torch.exp(v * beta.log10() + (1 - v) * known.log10())


@wrong("12.interpolate", "points (b, d) must be served too")
def interpolate_for_images(v, t, s, alpha_bar):
    now, before = (alpha_bar[i].reshape(-1, 1, 1, 1) for i in (t, s))
    beta = 1 - now / before
    known = beta * (1 - before) / (1 - now)
    return torch.exp(v * beta.log() + (1 - v) * known.log())


@wrong("12.optimal_variance", "no roots in")
def optimal_variance_of_roots(mse, t, s, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[s]
    k = before.sqrt() * (1 - now / before) / (1 - now)
    now, before = now.sqrt(), before.sqrt()
    return (1 - now / before) * (1 - before) / (1 - now) + k**2 * mse


@wrong("12.optimal_variance", "and only then the sum")
def optimal_variance_brackets(mse, t, s, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[s]
    forward = 1 - now / before
    return (forward * (1 - before) / (1 - now) + before * (forward / (1 - now)) ** 2) * mse


@wrong("12.step_cost", "both terms are divided by v")
def step_cost_brackets(x_0, x0_hat, v, t, s, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[s]
    forward = 1 - now / before
    known, k = forward * (1 - before) / (1 - now), before.sqrt() * forward / (1 - now)
    each = (v / known).log() + known + k**2 * (x_0 - x0_hat) ** 2 / v - 1
    return each.flatten(1).sum(1) / 2


@wrong("12.step_cost", "a difference, squared")
def step_cost_difference_of_squares(x_0, x0_hat, v, t, s, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[s]
    forward = 1 - now / before
    known, k = forward * (1 - before) / (1 - now), before.sqrt() * forward / (1 - now)
    each = (v / known).log() + (known + k**2 * (x_0**2 - x0_hat**2)) / v - 1
    return each.flatten(1).sum(1) / 2


@wrong("12.best_gaussian", "takes off the mean itself")
def best_gaussian_mean_not_squared(p, m, u):
    mean = (p * m).sum(1)
    return torch.stack([mean, (p * (u + m**2)).sum(1) - mean], 1)
