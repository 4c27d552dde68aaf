"""Learned and bounded variances, and the variational jump: against closed form, autograd and quadrature."""

import functools
import math
from itertools import pairwise

import pytest
import torch

from course_utils.forward import noise_like, q_posterior, q_sample
from course_utils.reverse_steps import (
    VarianceHead,
    VariationalJump,
    error_bound,
    jump_loss,
    learned_variance,
    log_interpolated,
    relative_step_kl,
    sample_jumps,
    variance_bounds,
    variance_loss,
)
from course_utils.samplers import sample_ddpm, uniform_grid
from course_utils.schedules import VE, FlowMatching, VPLinear, cosine, linear, transition
from course_utils.toy import Gaussian, GaussianMixture
from course_utils.variational import (
    beta_variance,
    bound,
    decoder_nll,
    gaussian_kl,
    jump_cost,
    optimal_variance,
    posterior_variance,
    step_variance,
)

JUMPS = [(linear(), 600, 350), (linear(), 1000, 1), (cosine(), 900, 899), (VPLinear(), 0.8, 0.3)]
OTHERS = [(VE(), 0.7, 0.2), (FlowMatching(), 0.9, 0.1)]  # not variance-preserving
each_jump = pytest.mark.parametrize(("schedule", "t", "s"), JUMPS + OTHERS, ids=lambda x: repr(x)[:20])
each_vp_jump = pytest.mark.parametrize(("schedule", "t", "s"), JUMPS, ids=lambda x: repr(x)[:20])


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float64), rtol=tolerance, atol=tolerance)


# --- variances -------------------------------------------------------------------------------------------------------


@each_jump
def test_a_step_of_known_error_has_the_optimal_variance(schedule, t, s):
    x = draw(3, 1, 4, 4)
    for error in (0.0, 0.03125, 0.75):
        want = optimal_variance({float(t): error})(x, x, t, s, schedule)
        close(step_variance(torch.full_like(x, error), t, s, schedule), want.expand_as(x))
        close(step_variance(torch.tensor(error).double(), t, s, schedule), want.squeeze())


def test_onto_clean_data_the_variance_is_the_error():
    error = draw(2, 3).square()
    for schedule, t in [(linear(), 300), (VPLinear(), 0.4), (VE(), 0.5)]:
        close(step_variance(error, t, 0 if schedule.T else 0.0, schedule), error)


@pytest.mark.parametrize("steps", [10, 50, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_optimal_variance_makes_ancestral_sampling_of_a_gaussian_exact(steps):
    """Mean and variance of the sampler's x_s, step by step: x_s = A x_t + B + noise, so both follow in closed form."""
    schedule, mean, spread = linear(), 0.6, 0.3
    data = Gaussian(torch.tensor([mean], dtype=torch.float64), spread)

    def left(t):
        alpha, sigma = schedule.coeffs(t)
        return (spread * sigma**2 / (alpha**2 * spread + sigma**2)).item()

    grid = uniform_grid(schedule, steps)
    variance = optimal_variance({float(t): left(t) for t in grid[:-1]})
    alpha, sigma = schedule.coeffs(grid[0])
    m, v = alpha * mean, alpha**2 * spread + sigma**2
    for t, s in pairwise(grid):
        probes = torch.tensor([[0.0], [1.0]]).double()
        at_0, at_1 = q_posterior(probes, data.denoise(probes, t, schedule), t, schedule, s)[0].flatten()
        slope, added = at_1 - at_0, variance(probes, probes, t, s, schedule).flatten()[0]
        m, v = slope * m + at_0, slope**2 * v + added
        alpha, sigma = schedule.coeffs(s)
        close(m, alpha * mean)
        close(v, alpha**2 * spread + sigma**2)
        if s > 0:  # and the sampler itself takes this very step
            x, noise, seed = draw(6, 1, seed=int(t)), draw(6, 1, seed=1), torch.Generator().manual_seed(1)
            walked = sample_ddpm(data.denoiser(schedule), x, schedule, [t, s], variance=variance, generator=seed)
            close(walked, slope * x + at_0 + added.sqrt() * noise, 1e-8)
    close(torch.stack([m, v]), [mean, spread])


def test_the_other_two_variances_are_not_exact():
    schedule, spread, grid = linear(), 0.3, uniform_grid(linear(), 10)[:-1]
    data = Gaussian(torch.zeros(1).double(), spread)
    alpha, sigma = schedule.coeffs(grid[-1])
    ends = []
    for variance in (posterior_variance, beta_variance):
        v = torch.ones(1, 1).double()
        for t, s in pairwise(grid):
            one = torch.ones_like(v)
            slope, _ = q_posterior(one, data.denoise(one, t, schedule), t, schedule, s)
            v = slope**2 * v + variance(v, v, t, s, schedule)
        ends.append(v.item() / (alpha**2 * spread + sigma**2).item())
    assert ends[0] < 0.9
    assert ends[1] > 1.1


@each_jump
def test_interpolation_of_logarithms_has_both_ends_and_the_geometric_mean(schedule, t, s):
    x = draw(2, 1, 3, 3)
    beta, known = (v(x, x, t, s, schedule).expand_as(x) for v in (beta_variance, posterior_variance))
    close(log_interpolated(torch.ones_like(x), t, s, schedule), beta)
    close(log_interpolated(torch.zeros_like(x), t, s, schedule), known)
    close(log_interpolated(torch.full_like(x, 0.5), t, s, schedule), (beta * known).sqrt())


def test_interpolation_of_logarithms_says_why_it_cannot_reach_clean_data():
    with pytest.raises(ValueError, match="s: wanted s > 0"):
        log_interpolated(draw(2, 3), 10, 0, linear())


def test_the_error_bound_is_the_error_of_the_best_linear_denoiser():
    """By brute force: the least squares of x_0 on x_t, from their exact covariances."""
    root, d = draw(4, 4), 4
    S = root @ root.T
    for schedule, t in [(linear(), 250), (VE(), 0.6), (FlowMatching(), 0.4)]:
        alpha, sigma = schedule.coeffs(t)
        cov_t = alpha**2 * S + sigma**2 * torch.eye(d).double()
        error = torch.trace(S - alpha**2 * S @ torch.linalg.inv(cov_t) @ S) / d
        tight = error_bound(t, schedule, torch.linalg.eigvalsh(S))
        close(tight, error)
        by_pixel = error_bound(t, schedule, S.diagonal())
        by_range = error_bound(t, schedule, S.diagonal().max().item())
        nothing = error_bound(t, schedule)
        assert tight < by_pixel < by_range < nothing
        close(nothing, sigma**2 / alpha**2)


@each_jump
def test_the_optimal_variance_of_a_mixture_lies_within_its_bounds(schedule, t, s):
    data = GaussianMixture(torch.tensor([[-1.0], [1.0]]).double(), 0.01, torch.tensor([0.3, 0.7]))
    x_0 = data.sample(20_000, torch.Generator().manual_seed(0))
    x_t = q_sample(x_0, t, schedule, draw(*x_0.shape, seed=7))
    squared = (x_0 - data.denoise(x_t, t, schedule)).square()
    chance = 4 * squared.std() / 20_000**0.5
    low, high = variance_bounds(t, s, schedule, 0.01 + 4 * 0.3 * 0.7)
    assert low < step_variance(squared.mean(), t, s, schedule)
    assert step_variance(squared.mean() - chance, t, s, schedule) < high
    alpha_ts, variance_ts = transition(s, t, schedule)
    close(variance_bounds(t, s, schedule)[1], variance_ts / alpha_ts**2)


def test_bounds_at_several_times_at_once():
    t, s, schedule = torch.tensor([900, 300]), torch.tensor([500, 0]), linear()
    low, high = variance_bounds(t, s, schedule, torch.tensor([0.1, 0.4]))
    for i in range(2):
        one = variance_bounds(t[i], s[i], schedule, torch.tensor([0.1, 0.4]))
        close(torch.stack([low[i], high[i]]), torch.stack(one))


def test_variances_of_data_are_not_negative():
    with pytest.raises(ValueError, match=r"variances: wanted numbers in \[0, inf\], got -0\.1 … 0\.1"):
        error_bound(10, linear(), torch.tensor([0.1, -0.1]))


# --- the head --------------------------------------------------------------------------------------------------------


def a_head(bias=-0.7):
    """A head that says something else at every pixel and every time."""
    head = VarianceHead(1, width=8).double()
    with torch.no_grad():
        for i, p in enumerate(head.parameters()):
            p.copy_(0.3 * draw(*p.shape, seed=i))
        head.last.bias.fill_(bias)
    return head


@each_vp_jump
def test_the_head_runs_between_the_two_fixed_variances(schedule, t, s):
    x_t, x0_hat = draw(3, 1, 5, 7), draw(3, 1, 5, 7, seed=1)
    beta, known = (v(x_t, x_t, t, s, schedule).expand_as(x_t) for v in (beta_variance, posterior_variance))
    got = learned_variance(a_head())(x_t, x0_hat, t, s, schedule)
    assert got.shape == x_t.shape
    assert (known < got).all()
    floor = step_variance(torch.full_like(x_t, 1e-6), t, s, schedule) - known
    assert (got <= beta + floor + 1e-12).all()
    head = VarianceHead(1, width=8, floor=0.0).double()
    with torch.no_grad():
        for bias, want in [(40.0, beta), (-40.0, known), (0.0, (beta + known) / 2)]:
            head.last.bias.fill_(bias)
            close(learned_variance(head)(x_t, x0_hat, t, s, schedule), want)


def test_the_head_says_the_same_error_whatever_the_step():
    x_t, x0_hat, schedule, head = draw(3, 1, 4, 4), draw(3, 1, 4, 4, seed=1), linear(), a_head()
    error = head(x_t, x0_hat, 600, schedule)
    for s in (0, 10, 599):
        close(learned_variance(head)(x_t, x0_hat, 600, s, schedule), step_variance(error, 600, s, schedule))


def test_each_image_of_a_batch_has_its_own_time():
    x_t, x0_hat, schedule, head = draw(3, 1, 4, 4), draw(3, 1, 4, 4, seed=1), linear(), a_head()
    t, s = torch.tensor([10, 500, 999]), torch.tensor([3, 0, 998])
    together = learned_variance(head)(x_t, x0_hat, t, s, schedule)
    for i in range(3):
        one = learned_variance(head)(x_t[i : i + 1], x0_hat[i : i + 1], t[i].item(), s[i].item(), schedule)
        close(together[i : i + 1], one)


@each_jump
def test_the_cost_of_a_step_is_the_kl_of_two_gaussians(schedule, t, s):
    x_0, x0_hat = draw(4, 1, 3, 3), draw(4, 1, 3, 3, seed=1)
    x_t, error = q_sample(x_0, t, schedule, draw(4, 1, 3, 3, seed=2)), draw(4, 1, 3, 3, seed=3).square()
    mean_q, var_q = q_posterior(x_t, x_0, t, schedule, s)
    mean_p, _ = q_posterior(x_t, x0_hat, t, schedule, s)
    gain = schedule.log_snr(s).exp() - schedule.log_snr(t).exp()
    (_, sigma_s), (_, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
    got = relative_step_kl((x_0 - x0_hat) ** 2, 1 + gain * error, gain).flatten(1).sum(1)
    close(got, gaussian_kl(mean_q, var_q, mean_p, step_variance(error, t, s, schedule)), 1e-8)
    got = relative_step_kl((x_0 - x0_hat) ** 2, (sigma_t / sigma_s) ** 2, gain).flatten(1).sum(1)
    close(got, gaussian_kl(mean_q, var_q, mean_p, beta_variance(x_t, x_t, t, s, schedule)), 1e-8)


def test_the_heads_loss_is_the_bounds_step():
    schedule, head = linear(), a_head()
    x_0, x0_hat = draw(4, 1, 4, 4), draw(4, 1, 4, 4, seed=1)
    t, s = torch.tensor([20, 300, 600, 1000]), torch.tensor([19, 10, 599, 500])
    x_t = q_sample(x_0, t, schedule, draw(4, 1, 4, 4, seed=2))
    want = jump_cost(x_0, x0_hat, x_t, t, s, schedule, learned_variance(head))
    close(variance_loss(head, x_0, x_t, x0_hat, t, s, schedule), want / 16, 1e-7)


def test_the_heads_loss_leaves_the_mean_alone():
    schedule, head = linear(), a_head()
    x_0, x0_hat = draw(4, 1, 4, 4), draw(4, 1, 4, 4, seed=1).requires_grad_(True)
    loss = variance_loss(head, x_0, draw(4, 1, 4, 4, seed=2), x0_hat, 400, 200, schedule).sum()
    loss.backward()
    assert x0_hat.grad is None
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize(("t", "s"), [(400, 100), (400, 399), (200, 0)])
def test_the_heads_loss_is_lowest_for_the_true_error(t, s):
    """By autograd: where a pixel's squared error has mean e over the batch, the loss is stationary at e, whatever s."""
    schedule, e, n = linear(), 0.05, 4000
    x0_hat = torch.zeros(n, 1, 2, 2, dtype=torch.float64)
    x_0 = draw(n, 1, 2, 2)
    x_0 = x_0 * math.sqrt(e) / x_0.square().mean().sqrt()
    head = VarianceHead(1, width=4, floor=1e-12).double()
    share = e / schedule.coeffs(t)[1] ** 2
    slopes = []
    for factor in (0.8, 1.0, 1.25):
        with torch.no_grad():
            head.last.bias.fill_(torch.logit(factor * share))
        head.zero_grad()
        variance_loss(head, x_0, draw(n, 1, 2, 2, seed=1), x0_hat, t, s, schedule).mean().backward()
        slopes.append(head.last.bias.grad.sum().item())
    assert slopes[0] < 0 < slopes[2]
    assert abs(slopes[1]) < 1e-3 * min(-slopes[0], slopes[2])


def test_the_head_serves_the_bound_and_the_sampler():
    schedule, head = linear(), a_head()
    data = Gaussian(torch.full((1, 4, 4), 0.2).double(), 0.1)
    denoise, grid, x_0 = data.denoiser(schedule), [1000, 600, 200, 0], draw(3, 1, 4, 4).clamp(-1, 1)
    with torch.no_grad():
        terms = bound(denoise, x_0, schedule, grid, variance=learned_variance(head), generator=torch.Generator())
        x = sample_ddpm(denoise, draw(3, 1, 4, 4), schedule, grid, variance=learned_variance(head))
    assert terms.total.isfinite().all()
    assert x.shape == (3, 1, 4, 4)
    assert x.dtype == torch.float64


def test_a_head_in_float32_answers_a_bound_in_float64_without_autocast():
    schedule, head = linear(), a_head()
    x_0, x0_hat, x_t = (draw(3, 1, 4, 4, seed=i) for i in range(3))
    want = jump_cost(x_0, x0_hat, x_t, 600, 200, schedule, learned_variance(head))
    got = jump_cost(x_0, x0_hat, x_t, 600, 200, schedule, learned_variance(head.float()))
    assert got.dtype == torch.float64
    close(got, want, 1e-5)


def test_a_head_keeps_the_dtype_of_its_images():
    x = draw(2, 1, 6, 6).float()
    assert VarianceHead(1, 8)(x, x, 300, linear()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"x: wanted \(batch, 1"):
        VarianceHead(1, 8)(draw(2, 3, 6, 6).float(), draw(2, 3, 6, 6).float(), 300, linear())


# --- the jump --------------------------------------------------------------------------------------------------------

PIXEL = GaussianMixture(torch.tensor([[-1.0], [1.0]]).double(), 0.01, torch.tensor([0.3, 0.7]))


def a_jump(d=1, latent=1, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        jump = VariationalJump((d,), latent, width=16).double()
        with torch.no_grad():
            for layer in (jump.prior, jump.decoder[-1]):  # which start at zero
                layer.weight.normal_(std=0.3)
    return jump


def log_density(jump, x_s, x_t, x0_hat, t, s, schedule, points=801):
    """log p(x_s | x_t) of a jump with a one-dimensional latent, by quadrature over z."""
    h, n = jump.look(x0_hat, t, s, schedule), len(x_s)
    (mean, variance), u = jump.p_z(h), torch.linspace(-8, 8, points).double()
    z = (mean + variance.sqrt() * u).reshape(-1, 1)  # (n · points, 1)
    many = (value.repeat_interleave(points, 0) for value in (h, x_t, x0_hat))
    centre, spread = (value.reshape(n, points) for value in jump.p_x(z, *many, t, s, schedule))
    log_x = -((x_s - centre) ** 2 / spread + (2 * math.pi * spread).log()) / 2
    log_z = -(u**2) / 2 - math.log(2 * math.pi) / 2
    return torch.logsumexp(log_x + log_z, 1) + math.log(16 / (points - 1))


@pytest.mark.parametrize(("t", "s"), [(600, 200), (1000, 0), (300, 299)])
def test_the_jumps_loss_bounds_its_likelihood(t, s):
    schedule, jump, n = linear(), a_jump(), 4000
    x_t, x_s = draw(1, 1).expand(n, 1), draw(1, 1, seed=1).expand(n, 1)
    x0_hat = PIXEL.denoise(x_t, t, schedule)
    with torch.no_grad():
        nll, kl = jump_loss(jump, x_s, x_t, x0_hat, t, s, schedule, torch.Generator().manual_seed(0))
        exact = -log_density(jump, x_s[:1], x_t[:1], x0_hat[:1], t, s, schedule)
        # with weights exp(-log q + log p) the draws give the likelihood itself, without bias
        h = jump.look(x0_hat[:1], t, s, schedule)
        mean_q, var_q = jump.q_z(h, x_s[:1], x_t[:1], x0_hat[:1], t, s, schedule)
        mean_p, var_p = jump.p_z(h)
        z = mean_q + var_q.sqrt() * torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        log_w = (
            -nll
            - ((z - mean_p) ** 2 / var_p + var_p.log()).sum(1) / 2
            + ((z - mean_q) ** 2 / var_q + var_q.log()).sum(1) / 2
        )
        weights = log_w.exp()
    assert (kl >= 0).all()
    total = nll + kl
    assert total.mean() > exact - 4 * total.std() / n**0.5
    assert abs(weights.mean() - (-exact).exp()) < 4 * weights.std() / n**0.5


def test_the_encoder_sees_how_far_x_s_is_from_the_mean_and_nothing_else_of_it():
    schedule, jump, t, s = linear(), a_jump(), 600, 200
    h, x_t, x0_hat = draw(1, 16).expand(4, 16), draw(4, 1), draw(4, 1, seed=1)
    mean, _ = q_posterior(x_t, x0_hat, t, schedule, s)
    with torch.no_grad():
        above, below = (jump.q_z(h, mean + away, x_t, x0_hat, t, s, schedule)[0] for away in (0.3, -0.3))
    close(above, above[:1].expand_as(above))
    close(below, below[:1].expand_as(below))
    assert (above - below).abs().min() > 1e-3


def test_a_jumps_density_integrates_to_one_and_its_draws_follow_it():
    schedule, jump, t, s, n = linear(), a_jump(seed=3), 700, 100, 20_000
    x_t = torch.full((n, 1), 0.4).double()
    x0_hat = PIXEL.denoise(x_t, t, schedule)
    line = torch.linspace(-8, 8, 801).double()[:, None]
    with torch.no_grad():
        p = log_density(jump, line, x_t[:801], x0_hat[:801], t, s, schedule).exp() * 0.02
        drawn = jump.draw(x_t, x0_hat, t, s, schedule, torch.Generator().manual_seed(0)).flatten()
    assert abs(p.sum() - 1) < 1e-4
    mean, square = (p * line[:, 0]).sum(), (p * line[:, 0] ** 2).sum()
    assert abs(drawn.mean() - mean) < 4 * drawn.std() / n**0.5
    assert abs(drawn.square().mean() - square) < 4 * drawn.square().std() / n**0.5


def plain(jump):
    """The jump with a silent encoder and a deaf decoder: its guess is the denoiser's, its share one half."""
    with torch.no_grad():
        for layer in (jump.encoder[-1], jump.decoder[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
    return jump


@each_jump
def test_a_jump_that_adds_nothing_is_the_denoisers_own_gaussian_step(schedule, t, s):
    x_t, x0_hat = draw(5, 2), draw(5, 2, seed=1)
    half = schedule.coeffs(t)[1] ** 2 / 2
    for jump, error in [
        (VariationalJump((2,), 3, width=8, floor=0.0), half),
        (VariationalJump((2,), 3, width=8, error=0.07), torch.tensor(0.07, dtype=torch.float64)),
    ]:
        jump = plain(jump.double())
        h = jump.look(x0_hat, t, s, schedule)
        with torch.no_grad():
            mean, variance = jump.p_x(draw(5, 3, seed=2), h, x_t, x0_hat, t, s, schedule)
        close(mean, q_posterior(x_t, x0_hat, t, schedule, s)[0])
        close(variance, step_variance(error.expand_as(x_t), t, s, schedule))


def jump_bound(jump, x_0, x_t, x0_hat, t, s, schedule, generator=None):
    """What a jump adds to the bound on -log p(x_0), in nats, with one draw of x_s and one of z: a twin of `jump_cost`.

    -log p(x_s | x_t, z) + KL of z - H[q(x_s | x_t, x_0)], on average at least the KL of q(x_s | x_t, x_0) and
    p(x_s | x_t); for the jump onto data the decoder's likelihood of 8-bit images and the KL of z.
    """
    mean, known = q_posterior(x_t, x_0, t, schedule, s)
    x_s = mean + known.sqrt() * noise_like(x_t, generator)
    with torch.no_grad():
        if s > 0:
            nll, told = jump_loss(jump, x_s, x_t, x0_hat, t, s, schedule, generator)
            return nll + told - torch.log(2 * math.pi * math.e * known).expand_as(x_t).flatten(1).sum(1) / 2
        mean, variance, told = jump.reconstruct(x_s, x_t, x0_hat, t, s, schedule, generator)
        return decoder_nll(x_0, mean, variance) + told


def test_a_jump_that_ignores_its_latent_costs_what_its_gaussian_costs():
    """On average over x_s, the KL of the step: nothing is told about z."""
    schedule, jump, t, s, n = linear(), plain(VariationalJump((2,), 1, width=8).double()), 600, 300, 20_000
    x_0 = draw(1, 2).expand(n, 2)
    x_t = q_sample(x_0, t, schedule, draw(1, 2, seed=1).expand(n, 2))
    x0_hat = torch.tanh(x_t)
    error = 1e-4 + schedule.coeffs(t)[1] ** 2 / 2
    want = jump_cost(x_0, x0_hat, x_t, t, s, schedule, lambda x, *_: step_variance(error.expand_as(x), t, s, schedule))
    costs = jump_bound(jump, x_0, x_t, x0_hat, t, s, schedule, torch.Generator().manual_seed(0))
    assert abs(costs.mean() - want[0]) < 4 * costs.std() / n**0.5


def test_onto_data_a_jump_costs_the_decoders_likelihood():
    schedule, jump, t = linear(), plain(VariationalJump((1, 2, 2), 1, width=8).double()), 60
    x_0 = (draw(5, 1, 2, 2).clamp(-1, 1) * 127.5).round() / 127.5
    x_t = q_sample(x_0, t, schedule, draw(5, 1, 2, 2, seed=1))
    error = 1e-4 + schedule.coeffs(t)[1] ** 2 / 2
    close(jump_bound(jump, x_0, x_t, x_0, t, 0, schedule), decoder_nll(x_0, x_0, error))


def test_jumps_walk_a_grid_like_any_sampler():
    schedule, jump, grid = linear(), a_jump(), [1000, 400, 0]
    steps, x_T = [], draw(7, 1)
    sampler = functools.partial(sample_jumps, jump)
    x = sampler(PIXEL.denoiser(schedule), x_T, schedule, grid, generator=torch.Generator(), callback=steps.append)
    assert [(step.t, step.s) for step in steps] == [(1000, 400), (400, 0)]
    assert torch.equal(steps[0].x_t, x_T)
    assert torch.equal(steps[1].x_s, x)
    again = sampler(PIXEL.denoiser(schedule), x_T, schedule, grid, generator=torch.Generator())
    assert torch.equal(x, again)
    with pytest.raises(ValueError, match="timesteps"):
        sampler(PIXEL.denoiser(schedule), x_T, schedule, [0, 400])


def test_onto_clean_data_nothing_random_comes_after_the_latent():
    schedule, jump = linear(), a_jump()
    x_t = draw(5, 1)
    x0_hat = PIXEL.denoise(x_t, 300, schedule)
    h = jump.look(x0_hat, 300, 0, schedule)
    with torch.no_grad():
        mean, variance = jump.p_z(h)
        z = mean + variance.sqrt() * torch.randn(5, 1, generator=torch.Generator(), dtype=torch.float64)
        want, _ = jump.p_x(z, h, x_t, x0_hat, 300, 0, schedule)
        close(jump.draw(x_t, x0_hat, 300, 0, schedule, torch.Generator()), want)


@pytest.mark.slow
def test_a_trained_jump_beats_every_gaussian_on_two_modes():
    """From pure noise straight onto a pixel that is black or white: KL against the truth, by quadrature."""
    schedule, jump, g = linear(), a_jump(seed=1), torch.Generator().manual_seed(0)
    jump = jump.float()
    optimizer = torch.optim.Adam(jump.parameters(), 5e-3)
    for step in range(400):
        x_0 = PIXEL.sample(256, g)
        x_t = q_sample(x_0, 1000, schedule, torch.randn(256, 1, generator=g, dtype=torch.float64))
        x0_hat = PIXEL.denoise(x_t, 1000, schedule)
        nll, kl = jump_loss(jump, x_0.float(), x_t.float(), x0_hat.float(), 1000, 0, schedule, g)
        optimizer.zero_grad()
        (nll + min(1, step / 200) * kl).mean().backward()  # phased in, or z stays unused
        optimizer.step()
    jump = jump.double()
    line = torch.linspace(-3, 3, 1201).double()[:, None]
    log_q = PIXEL.log_prob(line)
    q = log_q.exp() * 0.005
    x_t = torch.zeros_like(line)  # at t = 1000 it tells next to nothing
    with torch.no_grad():
        log_p = log_density(jump, line, x_t, PIXEL.denoise(x_t, 1000, schedule), 1000, 0, schedule)
    kl = (q * (log_q - log_p)).sum().item()
    barrier = 0.5 * math.log(2 * math.pi * math.e * (0.01 + 4 * 0.3 * 0.7)) + (q * log_q).sum().item()
    assert barrier > 0.9  # nats: no Gaussian is closer
    assert kl < 0.5 * barrier


def test_the_variance_loss_prices_every_jump_with_its_own_snr_and_refuses_what_has_none():
    schedule, head = linear(), VarianceHead(1, width=8, floor=1e-3)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    x_t, x0_hat = x + 0.01, x + 0.1
    with pytest.raises(ValueError, match="a head whose floor is between 0 and"):
        variance_loss(head, x, x_t, x0_hat, 2, 0, schedule)  # 1 / floor is less than SNR_2
    gain = (schedule.log_snr(1).exp() - schedule.log_snr(2).exp()).item()  # above 1 / floor, and right all the same
    e = head(x_t, x0_hat, 2, schedule)
    want = (torch.log1p(gain * e) + (1 + gain * 0.01) / (1 + gain * e) - 1) / 2
    torch.testing.assert_close(
        variance_loss(head, x, x_t, x0_hat, 2, 1, schedule), want.flatten(1).mean(1), rtol=1e-6, atol=1e-8
    )
    bare = VarianceHead(1, width=8, floor=0.0)
    assert variance_loss(bare, x, x_t, x0_hat, 500, 400, schedule).isfinite().all()
    with pytest.raises(ValueError, match="a head whose floor"):
        variance_loss(bare, x, x_t, x0_hat, 500, 0, schedule)
    with pytest.raises(ValueError, match="s: wanted a time before t"):
        variance_loss(bare, x, x_t, x0_hat, 400, 400, schedule)
