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


@wrong("03.posterior", "it would cancel")
def posterior_wrong_noise_level(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    return (keep.sqrt() * (1 - now) * x_t + before.sqrt() * (1 - keep) * x_0) / (1 - now)


@wrong("03.posterior", "both are roots")
def posterior_no_roots(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    return (keep * (1 - before) * x_t + before * (1 - keep) * x_0) / (1 - now)


@wrong("03.posterior", "sqrt(1 - beta_t), a root")
def posterior_no_root_on_x_t(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    return (keep * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0) / (1 - now)


@wrong("03.posterior", "sqrt(alpha_bar[t - 1]), a root")
def posterior_no_root_on_x_0(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    return (keep.sqrt() * (1 - before) * x_t + before * (1 - keep) * x_0) / (1 - now)


@wrong("03.posterior", "the noise of the whole way")
def posterior_undivided(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    keep = now / before
    return keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0


@wrong("03.posterior", "one step's variance")
def posterior_beta_of_all_steps(x_t, x_0, t, alpha_bar):
    now, before = (column(alpha_bar[i], x_t) for i in (t, t - 1))
    return (now / before).sqrt() * (1 - before) / (1 - now) * x_t + before.sqrt() * x_0


@wrong("03.posterior", "off by one")
def posterior_off_by_one(x_t, x_0, t, alpha_bar):
    after, now = (column(alpha_bar[i], x_t) for i in ((t + 1).clamp(max=len(alpha_bar) - 1), t))
    return mean_of(x_t, x_0, after, now)


@wrong("03.posterior", "x_t has evidence too")
def posterior_of_x_0_alone(x_t, x_0, t, alpha_bar):
    return column(alpha_bar[t - 1], x_t).sqrt() * x_0


@wrong("03.posterior", "along the width")
def posterior_wrong_axis(x_t, x_0, t, alpha_bar):
    return mean_of(x_t, x_0, alpha_bar[t], alpha_bar[t - 1])


@wrong("03.posterior", "(b, 1, 1, 1)")
def posterior_too_few_dimensions(x_t, x_0, t, alpha_bar):
    return mean_of(x_t, x_0, alpha_bar[t].reshape(-1, 1, 1), alpha_bar[t - 1].reshape(-1, 1, 1))


@wrong("03.posterior", "all use the first")
def posterior_one_t(x_t, x_0, t, alpha_bar):
    return mean_of(x_t, x_0, alpha_bar[t[0]], alpha_bar[t[0] - 1])


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


@wrong("03.kl_weight", "no root")
def kl_weight_of_roots(t, alpha_bar):
    snr = (alpha_bar / (1 - alpha_bar)).sqrt()
    return (snr[t - 1] - snr[t]) / 2


@wrong("03.kl_weight", "not t and t + 1")
def kl_weight_off_by_one(t, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return (snr[t] - snr[t + 1]) / 2


@wrong("03.kl_weight", "error in eps")
def kl_weight_of_eps(t, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return (snr[t - 1] / snr[t] - 1) / 2


@wrong("03.kl_weight", "divide each by its")
def kl_weight_of_alpha_bar(t, alpha_bar):
    return (alpha_bar[t - 1] - alpha_bar[t]) / 2


@wrong("03.kl_weight", "not of their logarithms")
def kl_weight_of_logs(t, alpha_bar):
    log_snr = alpha_bar.log() - (1 - alpha_bar).log()
    return (log_snr[t - 1] - log_snr[t]) / 2


@wrong("03.kl_weight", "weight of L_simple")
def kl_weight_of_simple(t, alpha_bar):
    return alpha_bar[t] / (1 - alpha_bar[t]) / 2


@wrong("03.kl_weight", "upside down")
def kl_weight_upside_down(t, alpha_bar):
    noise = (1 - alpha_bar) / alpha_bar
    return (noise[t] - noise[t - 1]) / 2


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


def denoiser_with(x_t, alpha, sigma, means, weights, variance, spread=None, half=2, dim=1, shrink=None, scaled=None):
    total = alpha**2 * variance + sigma**2
    gap = x_t[:, None] - (scaled or alpha) * means
    r = torch.softmax(weights.log() - gap.square().sum(-1) / (half * (spread or total)), dim=dim)
    return (r[..., None] * (means + (shrink or alpha * variance / total) * gap)).sum(1)


@wrong("03.exact_denoiser", "not sigma²")
def exact_denoiser_width_forgotten(x_t, alpha, sigma, means, weights, variance):
    return denoiser_with(x_t, alpha, sigma, means, weights, variance, spread=sigma**2)


@wrong("03.exact_denoiser", "not S + sigma²")
def exact_denoiser_width_unscaled(x_t, alpha, sigma, means, weights, variance):
    return denoiser_with(x_t, alpha, sigma, means, weights, variance, spread=variance + sigma**2)


@wrong("03.exact_denoiser", "moved to alpha mu")
def exact_denoiser_centres_unscaled(x_t, alpha, sigma, means, weights, variance):
    return denoiser_with(x_t, alpha, sigma, means, weights, variance, scaled=1.0)


@wrong("03.exact_denoiser", "not the likeliest one alone")
def exact_denoiser_hard(x_t, alpha, sigma, means, weights, variance):
    spread = alpha**2 * variance + sigma**2
    gap = x_t[:, None] - alpha * means
    best = (weights.log() - gap.square().sum(-1) / (2 * spread)).argmax(1)
    return means[best] + alpha * variance / spread * (x_t - alpha * means[best])


@wrong("03.exact_denoiser", "half is missing")
def exact_denoiser_no_half(x_t, alpha, sigma, means, weights, variance):
    return denoiser_with(x_t, alpha, sigma, means, weights, variance, half=1)


@wrong("03.exact_denoiser", "yours over the batch")
def exact_denoiser_wrong_softmax(x_t, alpha, sigma, means, weights, variance):
    return denoiser_with(x_t, alpha, sigma, means, weights, variance, dim=0)


@wrong("03.exact_denoiser", "they are not the weights")
def exact_denoiser_prior(x_t, alpha, sigma, means, weights, variance):
    spread = alpha**2 * variance + sigma**2
    each = means + alpha * variance / spread * (x_t[:, None] - alpha * means)
    return (weights[:, None] * each).sum(1)


@wrong("03.exact_denoiser", "yours lacks alpha")
def exact_denoiser_shrink_without_alpha(x_t, alpha, sigma, means, weights, variance):
    shrink = variance / (alpha**2 * variance + sigma**2)
    return denoiser_with(x_t, alpha, sigma, means, weights, variance, shrink=shrink)


@wrong("03.exact_denoiser", "alpha² S above the line")
def exact_denoiser_shrink_squared(x_t, alpha, sigma, means, weights, variance):
    shrink = alpha**2 * variance / (alpha**2 * variance + sigma**2)
    return denoiser_with(x_t, alpha, sigma, means, weights, variance, shrink=shrink)


@wrong("03.exact_denoiser", "x_t, rescaled")
def exact_denoiser_rescales(x_t, alpha, sigma, means, weights, variance):
    return x_t / alpha


@wrong("03.exact_denoiser", "the signal in x_t")
def exact_denoiser_signal(x_t, alpha, sigma, means, weights, variance):
    return alpha * exact_denoiser(x_t, alpha, sigma, means, weights, variance)


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


@wrong("03.x0_from_v", "swapped")
def x0_from_v_swapped(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return (1 - ab).sqrt() * x_t - ab.sqrt() * v


@wrong("03.x0_from_v", "reads v as if it were eps")
def x0_from_v_as_eps(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return (x_t - (1 - ab).sqrt() * v) / ab.sqrt()


@wrong("03.x0_from_v", "nothing to divide by")
def x0_from_v_divided(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return (ab.sqrt() * x_t - (1 - ab).sqrt() * v) / ab.sqrt()


@wrong("03.x0_from_v", "are the roots")
def x0_from_v_no_roots(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return ab * x_t - (1 - ab) * v


@wrong("03.x0_from_v", "off by one")
def x0_from_v_t_minus_one(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t - 1], x_t)
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


@wrong("03.x0_from_v", "x_t and v are swapped")
def x0_from_v_makes_v(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return ab.sqrt() * v - (1 - ab).sqrt() * x_t


@wrong("03.x0_from_v", "along the width")
def x0_from_v_wrong_axis(x_t, v, t, alpha_bar):
    ab = alpha_bar[t]
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


@wrong("03.x0_from_v", "all use the first")
def x0_from_v_one_t(x_t, v, t, alpha_bar):
    ab = alpha_bar[t[0]]
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


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


@wrong("03.reverse_step", "yours has beta_t")
def reverse_step_beta(x_t, x0_hat, t, alpha_bar, z):
    mean, _ = mean_and_variance(x_t, x0_hat, t, alpha_bar)
    return mean + (1 - alpha_bar[t] / alpha_bar[t - 1]).sqrt() * z


@wrong("03.reverse_step", "the noise is missing")
def reverse_step_no_noise(x_t, x0_hat, t, alpha_bar, z):
    return mean_and_variance(x_t, x0_hat, t, alpha_bar)[0]


@wrong("03.reverse_step", "as large as a whole picture")
def reverse_step_unit_noise(x_t, x0_hat, t, alpha_bar, z):
    return mean_and_variance(x_t, x0_hat, t, alpha_bar)[0] + z


@wrong("03.reverse_step", "fresh noising")
def reverse_step_renoise(x_t, x0_hat, t, alpha_bar, z):
    return alpha_bar[t - 1].sqrt() * x0_hat + (1 - alpha_bar[t - 1]).sqrt() * z


@wrong("03.reverse_step", "not of x_{t-1}")
def reverse_step_like_the_tutorial(x_t, x0_hat, t, alpha_bar, z):
    return x0_hat


@wrong("03.reverse_step", "weigh it against x_t")
def reverse_step_guess_plus_noise(x_t, x0_hat, t, alpha_bar, z):
    return x0_hat + mean_and_variance(x_t, x0_hat, t, alpha_bar)[1].sqrt() * z


@wrong("03.reverse_step", "off by one")
def reverse_step_off_by_one(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x_t, x0_hat, t + 1, alpha_bar)
    return mean + variance.sqrt() * z


@wrong("03.reverse_step", "not taken away")
def reverse_step_subtracts(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x_t, x0_hat, t, alpha_bar)
    return mean - variance.sqrt() * z


@wrong("03.reverse_step", "every image needs its own")
def reverse_step_same_noise(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x_t, x0_hat, t, alpha_bar)
    return mean + variance.sqrt() * z[0]


@wrong("03.reverse_step", "x_t and x0_hat are swapped")
def reverse_step_swapped(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x0_hat, x_t, t, alpha_bar)
    return mean + variance.sqrt() * z


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


@wrong("03.posterior", "one root each")
def posterior_root_of_root(x_t, x_0, t, alpha_bar):
    now, before = column(alpha_bar[t], x_t), column(alpha_bar[t - 1], x_t)
    keep = now / before
    return (keep**0.25 * (1 - before) * x_t + before**0.25 * (1 - keep) * x_0) / (1 - now)


@wrong("03.posterior", "the two weights are swapped")
def posterior_roles(x_t, x_0, t, alpha_bar):
    return posterior(x_0, x_t, t, alpha_bar)


@wrong("03.posterior", "only x_0's term is divided")
def posterior_brackets(x_t, x_0, t, alpha_bar):
    now, before = column(alpha_bar[t], x_t), column(alpha_bar[t - 1], x_t)
    keep = now / before
    return keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0 / (1 - now)


@wrong("03.posterior", "not by its root")
def posterior_divided_by_root(x_t, x_0, t, alpha_bar):
    return posterior(x_t, x_0, t, alpha_bar) * (1 - column(alpha_bar[t], x_t)).sqrt()


@wrong("03.posterior", "yours has sqrt(alpha_bar[t])")
def posterior_alpha_bar_for_alpha(x_t, x_0, t, alpha_bar):
    now, before = column(alpha_bar[t], x_t), column(alpha_bar[t - 1], x_t)
    return (now.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - now / before) * x_0) / (1 - now)


@wrong("03.posterior", "points (b, d) must be served too")
def posterior_for_images(x_t, x_0, t, alpha_bar):
    now, before = alpha_bar[t].reshape(-1, 1, 1, 1), alpha_bar[t - 1].reshape(-1, 1, 1, 1)
    keep = now / before
    return (keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0) / (1 - now)


@wrong("03.kl_weight", "the noise at t alone")
def kl_weight_common_noise(t, alpha_bar):
    return (alpha_bar[t - 1] - alpha_bar[t]) / (1 - alpha_bar[t]) / 2


@wrong("03.kl_weight", "no further square")
def kl_weight_squared(t, alpha_bar):
    snr = (alpha_bar / (1 - alpha_bar)).square()
    return (snr[t - 1] - snr[t]) / 2


@wrong("03.exact_denoiser", "sigma is not")
def exact_denoiser_sigma(x_t, alpha, sigma, means, weights, variance):
    return exact_denoiser(x_t, alpha, sigma**0.5, means, weights, variance)


@wrong("03.exact_denoiser", "yours has alpha")
def exact_denoiser_alpha(x_t, alpha, sigma, means, weights, variance):
    total = alpha * variance + sigma**2
    gap = x_t[:, None] - alpha * means
    r = torch.softmax(weights.log() - gap.square().sum(-1) / (2 * total), 1)
    return (r[..., None] * (means + alpha * variance / total * gap)).sum(1)


@wrong("03.x0_from_v", "root of a root")
def x0_from_v_root_of_root(x_t, v, t, alpha_bar):
    ab = column(alpha_bar[t], x_t)
    return ab**0.25 * x_t - (1 - ab) ** 0.25 * v


@wrong("03.x0_from_v", "yours is 1 - sqrt")
def x0_from_v_one_minus_root(x_t, v, t, alpha_bar):
    a = column(alpha_bar[t], x_t).sqrt()
    return a * x_t - (1 - a).sqrt() * v


@wrong("03.x0_from_v", "one step's alpha")
def x0_from_v_one_step(x_t, v, t, alpha_bar):
    alpha = column(alpha_bar[t] / alpha_bar[t - 1], x_t)
    return alpha.sqrt() * x_t - (1 - alpha).sqrt() * v


@wrong("03.x0_from_v", "points (b, d) must be served too")
def x0_from_v_for_images(x_t, v, t, alpha_bar):
    ab = alpha_bar[t].reshape(-1, 1, 1, 1)
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v


@wrong("03.reverse_step", "one root of the variance")
def reverse_step_root_of_root(x_t, x0_hat, t, alpha_bar, z):
    mean, variance = mean_and_variance(x_t, x0_hat, t, alpha_bar)
    return mean + variance**0.25 * z
