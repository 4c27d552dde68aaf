"""The bound: its KLs, its weights, and that it bounds -log p and closes in on it."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from course_utils.forward import q_posterior, q_sample
from course_utils.schedules import (
    DiscreteSchedule,
    FlowMatching,
    VPLinear,
    cosine,
    exponential,
    linear,
    rescale_zero_terminal_snr,
    sigmoid,
)
from course_utils.toy import Gaussian
from course_utils.variational import bits_per_dim, gaussian_kl, prior_kl, step_kl, step_weight, weighted_mse

DISCRETE = {
    "linear": linear(40, 1e-3, 0.3),
    "exponential": exponential(30),
    "cosine": cosine(20),
    "sigmoid": sigmoid(20),
    "zero_terminal": rescale_zero_terminal_snr(linear(10, 1e-2, 0.4)),
}
each_schedule = pytest.mark.parametrize("schedule", DISCRETE.values(), ids=DISCRETE.keys())


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float64), rtol=tolerance, atol=tolerance)


# --- KL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 1, 2, 2)], ids=str)
@pytest.mark.parametrize("variances", ["a number", "one an image", "one a pixel"])
def test_kl_is_that_of_torch(shape, variances):
    mean_q, mean_p = draw(*shape), draw(*shape, seed=1)
    if variances == "a number":
        var_q, var_p = 0.3, 2.0
    else:
        size = shape if variances == "one a pixel" else (shape[0], *[1] * (len(shape) - 1))
        var_q, var_p = draw(*size, seed=2).exp(), draw(*size, seed=3).exp()

    def torchs(mean, var):
        sd = torch.as_tensor(var, dtype=torch.float64).sqrt().expand(shape)
        return Independent(Normal(mean, sd), len(shape) - 1)

    close(gaussian_kl(mean_q, var_q, mean_p, var_p), kl_divergence(torchs(mean_q, var_q), torchs(mean_p, var_p)))
    close(gaussian_kl(mean_q, var_q, mean_q, var_q), torch.zeros(5))


def test_kl_is_the_mean_log_ratio():
    n, q, p = 100_000, Normal(0.3, 0.8), Normal(-0.5, 1.7)
    x = 0.3 + 0.8 * draw(n)
    ratio = q.log_prob(x) - p.log_prob(x)
    kl = gaussian_kl(torch.tensor([0.3]), 0.8**2, torch.tensor([-0.5]), 1.7**2).item()
    assert abs(ratio.mean() - kl) < 4 * ratio.std() / n**0.5


@each_schedule
def test_a_step_costs_its_weight_times_the_squared_error(schedule):
    x_0, x0_hat = draw(4, 1, 3, 3), draw(4, 1, 3, 3, seed=1)
    squared = ((x_0 - x0_hat) ** 2).sum((1, 2, 3))
    for t in range(2, schedule.T + 1):
        x_t = q_sample(x_0, t, schedule, draw(4, 1, 3, 3, seed=t))
        kl = step_kl(x_0, x0_hat, x_t, t, schedule)
        torch.testing.assert_close(kl, step_weight(t, schedule) * squared, rtol=1e-10, atol=0)
        mean_q, variance = q_posterior(x_t, x_0, t, schedule)
        mean_p, _ = q_posterior(x_t, x0_hat, t, schedule)
        by_hand = ((mean_q - mean_p) ** 2).sum((1, 2, 3)) / (2 * variance)  # of two Gaussians of one variance
        torch.testing.assert_close(kl, by_hand, rtol=1e-9, atol=0)
    t = torch.tensor([2, 4, 6, 8])
    together = weighted_mse(x_0, x0_hat, step_weight(t, schedule))
    torch.testing.assert_close(step_kl(x_0, x0_hat, x_0, t, schedule), together, rtol=1e-10, atol=0)


@each_schedule
def test_step_weights_add_up_to_half_the_fall_in_snr(schedule):
    alpha, sigma = schedule.coeffs(torch.arange(1, schedule.T + 1))
    snr = (alpha / sigma) ** 2
    weights = step_weight(torch.arange(2, schedule.T + 1), schedule)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(), (snr[0] - snr[-1]) / 2, rtol=1e-10, atol=0)
    assert step_weight(1, schedule) == math.inf


def test_weighted_mse_is_a_sum_over_pixels_for_each_image():
    x_0, x0_hat = draw(3, 2, 2), draw(3, 2, 2, seed=1)
    squared = ((x_0 - x0_hat) ** 2).sum((1, 2))
    close(weighted_mse(x_0, x0_hat), squared)
    close(weighted_mse(x_0, x0_hat, 0.5), squared / 2)
    close(weighted_mse(x_0, x0_hat, torch.tensor([1.0, 2.0, 4.0])), squared * torch.tensor([1, 2, 4]))
    close(weighted_mse(x_0[:, 0, 0], x0_hat[:, 0, 0]), (x_0 - x0_hat)[:, 0, 0] ** 2)


@pytest.mark.parametrize(("schedule", "end"), [(linear(10, 0.01, 0.3), 10), (VPLinear(), 1.0)], ids=["linear", "vp"])
def test_the_prior_term_is_what_the_last_level_still_tells(schedule, end):
    x_0 = draw(4, 1, 2, 2)
    alpha, sigma = (value.item() for value in schedule.coeffs(end))
    close(prior_kl(x_0, schedule), ((sigma**2 + (alpha * x_0) ** 2 - 1) / 2 - math.log(sigma)).sum((1, 2, 3)))


def test_a_last_level_of_pure_noise_tells_nothing():
    x_0 = draw(4, 1, 2, 2)
    for schedule in (rescale_zero_terminal_snr(linear(10, 1e-2, 0.4)), FlowMatching()):
        assert torch.equal(prior_kl(x_0, schedule), torch.zeros(4, dtype=torch.float64))


def test_eight_bits_are_eight_bits():
    dims = 3 * 32 * 32
    close(bits_per_dim(torch.tensor([dims * math.log(256)], dtype=torch.float64), dims), [8.0])


# --- the bound -------------------------------------------------------------------------------------------------------


def even(T):
    """A schedule whose log-SNR falls from 8 at t = 1 to -10 at t = T in equal steps."""
    log_snr = torch.linspace(8, -10, T, dtype=torch.float64)
    return DiscreteSchedule(torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(log_snr)]))


def expected_bound(data, schedule, denoise):
    """E[L_0 + sum L_{t-1} + L_T] over clean data and noise, without any error of sampling.

    Everything here is quadratic in x_0 and eps, and independent per element, so that their expectations are exact when
    each takes its mean plus and minus one standard deviation. L_0 is -log N(x_0; x0_hat, Var[x_0 | x_1]).
    """
    (mean,), (variance,), alpha_bar_1 = data.means, data.variances, schedule.alpha_bar[1]
    left = variance * (1 - alpha_bar_1) / (alpha_bar_1 * variance + 1 - alpha_bar_1)
    t = torch.arange(2, schedule.T + 1)
    total = 0.0
    for sign in (1.0, -1.0):
        x_0 = (mean + sign * variance.sqrt())[None]
        total += prior_kl(x_0, schedule) / 2
        for noise in (1.0, -1.0):
            eps = torch.full_like(x_0, noise)
            each = x_0.expand(len(t), -1)  # one row a time
            x_t = q_sample(each, t, schedule, eps.expand_as(each))
            total += step_kl(each, denoise(x_t, t), x_t, t, schedule).sum() / 4
            x_1 = q_sample(x_0, 1, schedule, eps)
            total -= Normal(denoise(x_1, torch.tensor([1])), left.sqrt()).log_prob(x_0).sum() / 4
    return total.item()


DATA = Gaussian(torch.tensor([0.5, -1.0]).double(), torch.tensor([0.2, 1.5]).double())
ENTROPY = 0.5 * (2 * math.pi * math.e * DATA.variances).log().sum().item()  # E[-log p(x_0)], the best any model can do


def test_the_bound_is_above_the_likelihood_and_closes_in_on_it():
    gaps = []
    for T in (50, 100, 200, 400, 800):
        gaps.append(expected_bound(DATA, even(T), DATA.denoiser(even(T))) - ENTROPY)
        assert gaps[-1] > 0
    for coarse, fine in pairwise(gaps):
        assert 1.8 < coarse / fine < 2.2  # first order in 1 / T
    limit = 2 * gaps[-1] - gaps[-2]  # what is left when the first order is taken out
    assert abs(limit) < 0.05 * gaps[-1]


def test_the_bound_is_lowest_for_the_exact_denoiser():
    schedule = linear(25, 0.1 / 25, 20 / 25)
    exact = DATA.denoiser(schedule)
    best = expected_bound(DATA, schedule, exact)
    for other in (
        lambda x, t: 0.9 * exact(x, t),
        lambda x, t: exact(x, t) + 0.05,
        lambda x, t: exact(x, (t - 1).clamp(min=1)),
    ):
        assert expected_bound(DATA, schedule, other) > best
