"""Answers to lesson 03."""

import math

import torch

from answers import right, wrong


def column(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


# --- 03.posterior ----------------------------------------------------------------------------------------------------


def mean_of(x_t, x_0, now, before):
    keep = now / before
    return (keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0) / (1 - now)


@right("03.posterior")
def posterior(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    return (keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0) / (1 - now)


@right("03.posterior")
def posterior_loop(x_t, x_0, t, alpha_bar):
    out = []
    for x, clean, i in zip(x_t, x_0, t.tolist()):
        a, b = alpha_bar[i], alpha_bar[i - 1]
        beta = 1 - a / b
        out.append((1 - beta) ** 0.5 * (1 - b) / (1 - a) * x + b**0.5 * beta / (1 - a) * clean)
    return torch.stack(out)


@right("03.posterior")
def posterior_by_way_of_eps(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    alpha, beta = now / before, 1 - now / before
    eps = (x_t - now.sqrt() * x_0) / (1 - now).sqrt()
    return (x_t - beta / (1 - now).sqrt() * eps) / alpha.sqrt()  # DDPM, Eq. 11


@wrong("03.posterior", "swapped")
def posterior_swapped(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    return mean_of(x_0, x_t, now, before)


@wrong("03.posterior", "how much of x_0 is in x_{t-1}")
def posterior_root_of_now(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    return (keep.sqrt() * (1 - before) * x_t + now.sqrt() * (1 - keep) * x_0) / (1 - now)


@wrong("03.posterior", "(b, 1, 1, 1)")
def posterior_too_few_dimensions(x_t, x_0, t, alpha_bar):
    return mean_of(x_t, x_0, alpha_bar[t].reshape(-1, 1, 1), alpha_bar[t - 1].reshape(-1, 1, 1))


@wrong("03.posterior", "at t = 1 the mean is NaN")
def posterior_from_precisions(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    variance = 1 / (keep / (1 - keep) + 1 / (1 - before))
    return variance * (keep.sqrt() / (1 - keep) * x_t + before.sqrt() / (1 - before) * x_0)


@wrong("03.posterior", "in place")
def posterior_in_place(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    x_t *= (now / before).sqrt() * (1 - before) / (1 - now)
    return x_t + before.sqrt() * (1 - now / before) / (1 - now) * x_0


@wrong("03.posterior", "should be a tensor, got tuple")
def posterior_tuple(x_t, x_0, t, alpha_bar):
    return posterior(x_t, x_0, t, alpha_bar), 0.1


# --- 03.kl_weight ----------------------------------------------------------------------------------------------------


@right("03.kl_weight")
def kl_weight(t, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return (snr[t - 1] - snr[t]) / 2


@right("03.kl_weight")
def kl_weight_ddpm(t, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    return before * (1 - now / before) / (2 * (1 - now) * (1 - before))


@right("03.kl_weight")
def kl_weight_loop(t, alpha_bar):
    def snr(i):
        return alpha_bar[i] / (1 - alpha_bar[i])

    return torch.stack([0.5 * (snr(i - 1) - snr(i)) for i in t.tolist()])


@wrong("03.kl_weight", "half is missing")
def kl_weight_no_half(t, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return snr[t - 1] - snr[t]


@wrong("03.kl_weight", "never negative")
def kl_weight_sign(t, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return (snr[t] - snr[t - 1]) / 2


@wrong("03.kl_weight", "one weight for each t")
def kl_weight_summed(t, alpha_bar):
    return kl_weight(t, alpha_bar).sum()


# --- 03.exact_denoiser -----------------------------------------------------------------------------------------------


@right("03.exact_denoiser")
def exact_denoiser(x_t, alpha, sigma, means, weights, variance):
    spread = alpha**2 * variance + sigma**2
    gap = x_t[:, None] - alpha * means
    r = torch.softmax(weights.log() - gap.square().sum(-1) / (2 * spread), dim=1)
    each = means + alpha * variance / spread * gap
    return (r[..., None] * each).sum(1)


@right("03.exact_denoiser")
def exact_denoiser_loop(x_t, alpha, sigma, means, weights, variance):
    spread, guesses = alpha**2 * variance + sigma**2, []
    for x in x_t:
        logs = torch.stack([w.log() - ((x - alpha * m) ** 2).sum() / 2 / spread for m, w in zip(means, weights)])
        r = (logs - logs.max()).exp()
        r = r / r.sum()
        guesses.append(sum(p * (sigma**2 * m + alpha * variance * x) / spread for p, m in zip(r, means)))
    return torch.stack(guesses)


@right("03.exact_denoiser")
def exact_denoiser_by_tweedie(x_t, alpha, sigma, means, weights, variance):
    spread = alpha**2 * variance + sigma**2
    logits = weights.log() - torch.cdist(x_t, alpha * means, compute_mode="donot_use_mm_for_euclid_dist") ** 2 / (
        2 * spread
    )
    score = (alpha * logits.softmax(1) @ means - x_t) / spread
    return (x_t + sigma**2 * score) / alpha


@wrong("03.exact_denoiser", "weights of the parts are missing")
def exact_denoiser_no_weights(x_t, alpha, sigma, means, weights, variance):
    return exact_denoiser(x_t, alpha, sigma, means, torch.ones_like(weights), variance)


@wrong("03.exact_denoiser", "shrunk towards it")
def exact_denoiser_centres_only(x_t, alpha, sigma, means, weights, variance):
    spread = alpha**2 * variance + sigma**2
    gap = x_t[:, None] - alpha * means
    return torch.softmax(weights.log() - gap.square().sum(-1) / (2 * spread), dim=1) @ means


@wrong("03.exact_denoiser", "0 / 0 is NaN")
def exact_denoiser_densities(x_t, alpha, sigma, means, weights, variance):
    spread = alpha**2 * variance + sigma**2
    gap = x_t[:, None] - alpha * means
    p = weights * torch.exp(-gap.square().sum(-1) / (2 * spread)) / math.sqrt(2 * math.pi * spread)
    r = p / p.sum(1, keepdim=True)
    return (r[..., None] * (means + alpha * variance / spread * gap)).sum(1)


@wrong("03.exact_denoiser", "(b, 1, d) and (K, d)")
def exact_denoiser_shapes(x_t, alpha, sigma, means, weights, variance):
    spread = alpha**2 * variance + sigma**2
    gap = x_t - alpha * means
    return torch.softmax(weights.log() - gap.square().sum(-1) / (2 * spread), dim=0) @ means


# --- 03.x0_from_v ----------------------------------------------------------------------------------------------------


@right("03.x0_from_v")
def x0_from_v(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


@right("03.x0_from_v")
def x0_from_v_by_angle(x_t, v, t, alpha_bar):
    angle = column(torch.acos(alpha_bar[t].double().sqrt()), x_t).to(x_t.dtype)
    return angle.cos() * x_t - angle.sin() * v


@right("03.x0_from_v")
def x0_from_v_by_way_of_eps(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    eps = (1 - ab).sqrt() * x_t + ab.sqrt() * v
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@wrong("03.x0_from_v", "the sign")
def x0_from_v_sign(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return ab.sqrt() * x_t + (1 - ab).sqrt() * v


@wrong("03.x0_from_v", "that is eps")
def x0_from_v_eps(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return (1 - ab).sqrt() * x_t + ab.sqrt() * v


@wrong("03.x0_from_v", "in place")
def x0_from_v_in_place(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    x_t *= ab.sqrt()
    return x_t - (1 - ab).sqrt() * v


# --- 03.reverse_step -------------------------------------------------------------------------------------------------


def mean_and_variance(x_t, x0_hat, t, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    return mean_of(x_t, x0_hat, now, before), (1 - before) / (1 - now) * (1 - now / before)


@right("03.reverse_step")
def reverse_step(x_t, x0_hat, t, alpha_bar, z):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    keep = now / before
    mean = (keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x0_hat) / (1 - now)
    variance = (1 - before) * (1 - keep) / (1 - now)
    return mean + variance.sqrt() * z


@right("03.reverse_step")
def reverse_step_with_if(x_t, x0_hat, t, alpha_bar, z):
    if t == 1:
        return x0_hat
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    variance = 1 / ((1 - beta) / beta + 1 / (1 - before))
    mean = variance * ((1 - beta) ** 0.5 / beta * x_t + before**0.5 / (1 - before) * x0_hat)
    return mean + variance**0.5 * z


@right("03.reverse_step")
def reverse_step_like_ddpm(x_t, x0_hat, t, alpha_bar, z):
    now, before = alpha_bar[t].item(), alpha_bar[t - 1].item()
    beta = 1 - now / before
    eps = (x_t - now**0.5 * x0_hat) / (1 - now) ** 0.5
    mean = (x_t - beta / math.sqrt(1 - now) * eps) / math.sqrt(1 - beta)
    return mean + (math.sqrt((1 - before) / (1 - now) * beta) * z if t > 1 else 0)


@wrong("03.reverse_step", "no noise is added")
def reverse_step_noise_at_the_end(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x_t, x0_hat, t, alpha_bar)
    return mean + (variance if t > 1 else 1 - alpha_bar[1]).sqrt() * z


@wrong("03.reverse_step", "square root")
def reverse_step_no_root(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x_t, x0_hat, t, alpha_bar)
    return mean + variance * z


@wrong("03.reverse_step", "at t = 1 it returns NaN")
def reverse_step_nan(x_t, x0_hat, t, alpha_bar, z):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    variance = 1 / ((1 - beta) / beta + 1 / (1 - before))
    mean = variance * ((1 - beta) ** 0.5 / beta * x_t + before**0.5 / (1 - before) * x0_hat)
    return mean + variance**0.5 * z


@wrong("03.reverse_step", "drew random numbers")
def reverse_step_own_noise(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x_t, x0_hat, t, alpha_bar)
    return mean + variance.sqrt() * torch.randn_like(x_t)


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("03.posterior", "points (b, d) must be served too")
def posterior_for_images(x_t, x_0, t, alpha_bar):
    now, before = alpha_bar[t].reshape(-1, 1, 1, 1), alpha_bar[t - 1].reshape(-1, 1, 1, 1)
    keep = now / before
    return (keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0) / (1 - now)


@wrong("03.x0_from_v", "points (b, d) must be served too")
def x0_from_v_for_images(x_t, v, t, alpha_bar):
    ab = alpha_bar[t].reshape(-1, 1, 1, 1)
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v
