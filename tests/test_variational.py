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
from course_utils.variational import (
    beta_variance,
    bits_per_dim,
    bound,
    decoder_nll,
    denoising_errors,
    gaussian_kl,
    jump_cost,
    optimal_variance,
    posterior_variance,
    prior_kl,
    step_kl,
    step_weight,
)

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
    together = step_weight(t, schedule) * squared
    torch.testing.assert_close(step_kl(x_0, x0_hat, x_0, t, schedule), together, rtol=1e-10, atol=0)


@each_schedule
def test_step_weights_add_up_to_half_the_fall_in_snr(schedule):
    alpha, sigma = schedule.coeffs(torch.arange(1, schedule.T + 1))
    snr = (alpha / sigma) ** 2
    weights = step_weight(torch.arange(2, schedule.T + 1), schedule)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(), (snr[0] - snr[-1]) / 2, rtol=1e-10, atol=0)
    assert step_weight(1, schedule) == math.inf


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


# --- the variance of a step ------------------------------------------------------------------------------------------

JUMPS = [(linear(), 600, 350), (cosine(), 900, 899), (VPLinear(), 0.8, 0.3), (FlowMatching(), 0.9, 0.1)]
each_jump = pytest.mark.parametrize(("schedule", "t", "s"), JUMPS, ids=lambda x: repr(x)[:20])


def wrong_denoiser(x, t):
    return 0.4 * torch.tanh(x) + 0.1


def jump(schedule, t, n=500):
    x_0 = torch.tanh(draw(n, 3))
    x_t = q_sample(x_0, t, schedule, draw(n, 3, seed=1))
    return x_0, wrong_denoiser(x_t, t), x_t


@each_jump
def test_the_fixed_variances_are_those_of_the_forward_process(schedule, t, s):
    x_0, x0_hat, x_t = jump(schedule, t)
    _, posterior = q_posterior(x_t, x_0, t, schedule, s)
    close(posterior_variance(x_t, x0_hat, t, s, schedule), posterior)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
    close(beta_variance(x_t, x0_hat, t, s, schedule), sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2)
    assert beta_variance(x_t, x0_hat, t, s, schedule) > posterior


def test_onto_clean_data_the_fixed_variances_are_that_of_the_noise():
    schedule = linear()
    for t in (1, 20, torch.tensor([3, 8])):
        for variance in (posterior_variance, beta_variance):
            close(variance(draw(2, 3), draw(2, 3), t, 0, schedule).flatten(), (schedule.coeffs(t)[1] ** 2).flatten())


@each_jump
def test_the_optimal_variance_is_that_of_the_true_step_of_a_gaussian(schedule, t, s):
    """x_s given x_t, both Gaussian: the conditional variance by the Schur complement."""
    spread = 0.3
    data = Gaussian(torch.tensor([0.2]).double(), spread)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
    var_s, var_t = alpha_s**2 * spread + sigma_s**2, alpha_t**2 * spread + sigma_t**2
    covariance = alpha_s * alpha_t * spread + alpha_t / alpha_s * sigma_s**2
    want = var_s - covariance**2 / var_t
    left = spread * sigma_t**2 / var_t  # Var[x_0 | x_t]
    x_t = draw(4, 1)
    got = optimal_variance({t: left.item()})(x_t, data.denoise(x_t, t, schedule), t, s, schedule)
    close(got, want)


@each_jump
def test_no_other_variance_makes_the_step_cheaper_whatever_the_denoiser(schedule, t, s):
    x_0, x0_hat, x_t = jump(schedule, t)
    best = optimal_variance({t: (x_0 - x0_hat).square().mean().item()})
    costs = {
        factor: jump_cost(x_0, x0_hat, x_t, t, s, schedule, lambda *a, f=factor: f * best(*a)).mean()
        for factor in (0.9, 0.99, 1.0, 1.01, 1.1)
    }
    assert min(costs, key=costs.get) == 1.0
    # With v_q the posterior's variance and v = v_q (1 + x), x = (SNR_s - SNR_t) mse, the KL is d/2 log(1 + x).
    x = (schedule.log_snr(s).exp() - schedule.log_snr(t).exp()) * (x_0 - x0_hat).square().mean()
    close(costs[1.0], 3 / 2 * torch.log1p(x), 1e-8)


def test_the_errors_of_the_exact_denoiser_are_the_variance_that_is_left():
    schedule, spread, n = linear(), 0.3, 40_000
    data = Gaussian(torch.tensor([0.2]).double(), spread)
    x_0 = 0.2 + math.sqrt(spread) * draw(n, 1)
    errors = denoising_errors(data.denoiser(schedule), x_0, schedule, [900, 300, 50, 0], generator=torch.Generator())
    assert list(errors) == [900, 300, 50]
    for t, error in errors.items():
        alpha, sigma = schedule.coeffs(t)
        left = (spread * sigma**2 / (alpha**2 * spread + sigma**2)).item()
        assert abs(error - left) < 4 * left * math.sqrt(2 / n)  # the error is Gaussian: its square has that spread


def test_an_optimal_variance_knows_only_the_times_it_was_measured_at():
    with pytest.raises(ValueError, match="errors: no mean squared error is known at t = 7"):
        optimal_variance({8: 0.1})(draw(2, 3), draw(2, 3), 7, 3, linear())


# --- the decoder -----------------------------------------------------------------------------------------------------

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


@pytest.mark.parametrize("sd", [1e-4, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.004, 0.77, 1.0, 2.0])
def test_the_256_probabilities_of_a_pixel_sum_to_one(mean, sd):
    nll = decoder_nll(LEVELS[:, None], torch.full((256, 1), mean, dtype=torch.float64), sd**2)
    assert (nll >= 0).all()
    close((-nll).exp().sum(), 1.0)


def test_a_bin_has_the_probability_of_its_interval_however_far_out():
    x, mean, sd = LEVELS[[0, 128, 200, 255]], 0.05, 0.02
    got = decoder_nll(x[:, None], torch.full((4, 1), mean, dtype=torch.float64), sd**2)
    edges = (x[:, None] + torch.tensor([-1, 1]).double() / 255 - mean) / sd
    inside = torch.diff(torch.special.ndtr(edges[1]))
    close(got[1], -inside.log()[0])
    # Where both ends are far out, all the mass is at the nearer one: log Phi(-edge) of torch, with 40 digits to spare.
    close(got[3], -torch.special.log_ndtr(-edges[3, 0]))
    close(got[0], -torch.special.log_ndtr(edges[0, 1]))
    assert got[2].isfinite()
    assert got[2] < -torch.special.log_ndtr(-edges[2, 1])


# --- the bound on any grid -------------------------------------------------------------------------------------------


@each_jump
def test_with_the_posterior_variance_a_jump_costs_its_weight_times_the_squared_error(schedule, t, s):
    x_0, x0_hat, x_t = jump(schedule, t)
    weight = (schedule.log_snr(s).exp() - schedule.log_snr(t).exp()) / 2
    close(jump_cost(x_0, x0_hat, x_t, t, s, schedule), weight * ((x_0 - x0_hat) ** 2).flatten(1).sum(1), 1e-8)


def test_a_jump_of_one_step_is_the_step_of_the_chain_and_times_may_differ_by_image():
    schedule, t = linear(), torch.tensor([2, 70, 1000])
    x_0, x_t = draw(3, 4), draw(3, 4, seed=1)
    close(jump_cost(x_0, 0.5 * x_t, x_t, t, t - 1, schedule), step_kl(x_0, 0.5 * x_t, x_t, t, schedule), 1e-8)
    for s in (0, torch.zeros(3, dtype=torch.long)):
        nll = decoder_nll(x_0, 0.5 * x_t, (schedule.coeffs(t)[1] ** 2)[:, None])
        close(jump_cost(x_0, 0.5 * x_t, x_t, t, s, schedule), nll)
    with pytest.raises(ValueError, match="s: wanted clean data for all images or for none"):
        jump_cost(x_0, x_0, x_t, t, torch.tensor([0, 1, 1]), schedule)


@pytest.mark.parametrize("grid", [[1000, 0], [1000, 300, 0], [900, 500, 200, 60, 0]], ids=str)
def test_for_gaussian_data_with_the_optimal_variance_the_bound_is_the_likelihood(grid):
    """Then every step is exact, the chain backwards is the chain forwards, and nothing is lost but the prior's fit."""
    schedule, n, mean, spread = linear(), 20_000, 0.1, 0.05
    data = Gaussian(torch.full((1,), mean, dtype=torch.float64), spread)
    x_0 = mean + math.sqrt(spread) * draw(n, 1)
    left = {}
    for t in grid[:-1]:
        alpha, sigma = schedule.coeffs(t)
        left[t] = (spread * sigma**2 / (alpha**2 * spread + sigma**2)).item()
    terms = bound(
        data.denoiser(schedule),
        x_0,
        schedule,
        grid,
        variance=optimal_variance(left),
        generator=torch.Generator().manual_seed(5),
    )
    alpha, sigma = schedule.coeffs(grid[0])
    marginal = alpha**2 * spread + sigma**2
    lost = gaussian_kl(alpha * data.means, marginal, torch.zeros(1, 1).double(), 1.0)
    bins = torch.distributions.Normal(mean, math.sqrt(spread))
    inside = (x_0 > -1 + 1 / 255) & (x_0 < 1 - 1 / 255)
    p = bins.cdf(torch.where(x_0 > 1 - 1 / 255, math.inf, x_0 + 1 / 255)) - bins.cdf(
        torch.where(x_0 < -1 + 1 / 255, -math.inf, x_0 - 1 / 255)
    )
    assert inside.double().mean() > 0.99
    assert len(terms.steps) == len(grid) - 2
    gap = terms.total - (-p.log()[:, 0] + lost)
    # The bins are exact for the likelihood; of a decoder whose sd is well above one bin the same holds to 1e-4.
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(n) + 2e-3, gap.mean()


def test_the_bound_needs_a_grid_that_ends_on_data_and_starts_from_its_first_time():
    schedule, x_0 = linear(), torch.tanh(draw(5, 2))
    with pytest.raises(ValueError, match="wanted a grid that ends on clean data, got one that ends at 10"):
        bound(wrong_denoiser, x_0, schedule, [1000, 10])
    one = bound(wrong_denoiser, x_0, schedule, [700, 0], generator=torch.Generator())
    assert one.steps.shape == (0, 5)
    close(one.prior, prior_kl(x_0, schedule, 700))
    close(one.total, one.prior + one.decoder)


def test_images_in_float32_lose_nothing_to_rounding():
    """Two means that differ by 1e-5: in float32 their squared difference would be off by per cents."""
    schedule = linear()
    x_0, x_t = torch.tanh(draw(4, 6)), draw(4, 6, seed=1)
    exact = jump_cost(x_0, x_0 + 0.01, x_t, 500, 499, schedule)
    rounded = jump_cost(x_0.float(), (x_0 + 0.01).float(), x_t.float(), 500, 499, schedule)
    close(rounded, exact, 1e-3)


def test_the_kl_of_a_step_loses_nothing_in_float32_where_it_is_small():
    """At t = T it is a few 1e-8 a pixel, less than the last digit of a float32 near 1."""
    schedule = linear()
    x_0 = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    x0_hat, x_t = x_0 + 0.3, x_0 + 1
    for t in (2, 500, 1000):
        exact = step_kl(x_0.double(), x0_hat.double(), x_t.double(), t, schedule)
        torch.testing.assert_close(step_kl(x_0, x0_hat, x_t, t, schedule).double(), exact, rtol=1e-3, atol=0)
