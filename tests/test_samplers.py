"""Samplers: the law of what they draw, step by step, on data whose law is known; and what a caller may rely on."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from course_utils.forward import q_posterior
from course_utils.samplers import Step, sample_ddim, sample_ddpm, uniform_grid
from course_utils.schedules import (
    VE,
    DiscreteSchedule,
    FlowMatching,
    VPCosine,
    VPLinear,
    cosine,
    linear,
    rescale_zero_terminal_snr,
)
from course_utils.toy import Gaussian, IdealDenoiser
from course_utils.variational import beta_variance, optimal_variance, posterior_variance

SCHEDULES = {
    "linear": linear(50, 1e-3, 0.2),
    "cosine": cosine(40),
    "zero_terminal": rescale_zero_terminal_snr(linear(50, 1e-3, 0.2)),
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "ve": VE(),
    "flow": FlowMatching(),
}
each = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
SHORT = SCHEDULES["linear"]  # T = 50


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=stream(seed), dtype=dtype)


def half(x_t, t, **cond):
    """A denoiser that is wrong and harmless."""
    return x_t / 2


# --- the law of what is drawn ----------------------------------------------------------------------------------------

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.6, 0.3], [0.3, 0.4]], dtype=torch.float64)
DATA = Gaussian(MEAN, COVARIANCE)
EYE = torch.eye(2, dtype=torch.float64)


def law_of_ddpm(schedule, timesteps):
    """Mean and covariance of x at the end of the grid, from those of x_T ~ N(0, sigma_T² I): a closed form.

    The posterior q(x_s | x_t, x_0) is a product of two Gaussians in x_s, so precisions add:
        1 / v = 1 / sigma_s² + alpha_{t|s}² / sigma_{t|s}²
        x_s = v (alpha_s x0_hat / sigma_s² + alpha_{t|s} x_t / sigma_{t|s}²) + sqrt(v) z,
    with x0_hat = m + K (x_t - alpha_t m), K = alpha_t S (alpha_t² S + sigma_t² I)^-1: x_s is affine in x_t.
    """
    mean, covariance = torch.zeros_like(MEAN), EYE * schedule.coeffs(timesteps[0])[1] ** 2
    for t, s in pairwise(timesteps):
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
        K = alpha_t * COVARIANCE @ torch.linalg.inv(alpha_t**2 * COVARIANCE + sigma_t**2 * EYE)
        if sigma_s == 0:
            of_x_t, of_x0_hat, v = 0.0, alpha_s, 0.0
        else:
            alpha_ts = alpha_t / alpha_s
            variance_ts = sigma_t**2 - (alpha_ts * sigma_s) ** 2
            v = 1 / (1 / sigma_s**2 + alpha_ts**2 / variance_ts)
            of_x_t, of_x0_hat = v * alpha_ts / variance_ts, v * alpha_s / sigma_s**2
        A = of_x_t * EYE + of_x0_hat * K
        mean = A @ mean + of_x0_hat * (EYE - alpha_t * K) @ MEAN
        covariance = A @ covariance @ A.T + v * EYE
    return mean, covariance


def assert_moments(x, mean, covariance):
    """The sample's mean and covariance are those of N(mean, covariance), within four standard errors."""
    n, spread = len(x), covariance.diag()
    assert ((x.mean(0) - mean).abs() <= 4 * (spread / n).sqrt() + 1e-12).all(), x.mean(0) - mean
    error = torch.cov(x.T) - covariance
    assert (error.abs() <= 4 * ((spread.outer(spread) + covariance**2) / n).sqrt() + 1e-12).all(), error


def drawn_from_data(schedule, timesteps, n=20_000):
    x_T = schedule.coeffs(timesteps[0])[1] * normal(n, 2, seed=1)
    return sample_ddpm(DATA.denoiser(schedule), x_T, schedule, timesteps, generator=stream(2))


@each
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_on_gaussian_data_the_law_of_ddpm_is_its_closed_form_at_any_number_of_steps(schedule, n):
    grid = uniform_grid(schedule, n)
    assert_moments(drawn_from_data(schedule, grid), *law_of_ddpm(schedule, grid))


@each
def test_a_grid_that_ends_above_zero_returns_the_law_of_that_level(schedule):
    grid = uniform_grid(schedule, 20)[:-8]
    assert grid[-1] > 0
    assert_moments(drawn_from_data(schedule, grid), *law_of_ddpm(schedule, grid))


@pytest.mark.slow
def test_with_all_thousand_steps_ddpm_draws_from_the_data():
    schedule = linear()
    assert_moments(drawn_from_data(schedule, uniform_grid(schedule, 1000), n=4000), MEAN, COVARIANCE)


@pytest.mark.parametrize("n", [10, 50, pytest.param(1000, marks=pytest.mark.slow)])
def test_on_a_gaussian_the_optimal_variance_makes_every_number_of_steps_exact(n):
    """At t = 1 the law is that of the data there; with the posterior variance it is too narrow, with beta too wide."""
    schedule, spread, count = linear(), 0.3, 20_000
    data = Gaussian(torch.tensor([0.5]).double(), spread)
    grid = [*uniform_grid(schedule, n)[:-1], 1] if n < 1000 else uniform_grid(schedule, n)[:-1]
    left = {}
    for t in grid:
        alpha, sigma = schedule.coeffs(t)
        left[t] = (spread * sigma**2 / (alpha**2 * spread + sigma**2)).item()
    alpha, sigma = schedule.coeffs(1000)
    x_T = alpha * 0.5 + (alpha**2 * spread + sigma**2).sqrt() * normal(count, 1, seed=1)
    alpha, sigma = schedule.coeffs(1)
    law = alpha * torch.tensor([0.5]).double(), (alpha**2 * spread + sigma**2).reshape(1, 1)

    def walk(variance):
        return sample_ddpm(data.denoiser(schedule), x_T, schedule, grid, variance=variance, generator=stream(2))

    assert_moments(walk(optimal_variance(left)).clone(), *law)
    if n < 1000:
        narrow, wide = walk(posterior_variance).var(), walk(beta_variance).var()
        standard_error = law[1].item() * (2 / count) ** 0.5
        assert narrow < law[1].item() - 5 * standard_error
        assert wide > law[1].item() + 5 * standard_error


# --- another implementation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 5, 40])
@pytest.mark.parametrize("schedule", [linear(40, 1e-3, 0.2), cosine(40)], ids=["linear", "cosine"])
def test_every_step_is_that_of_diffusers_on_the_same_noise(schedule, stride):
    n = schedule.T // stride
    theirs = DDPMScheduler(
        schedule.T,
        trained_betas=schedule.betas[1:].numpy(),
        prediction_type="sample",
        clip_sample=False,
        variance_type="fixed_small",
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(n)
    theirs.alphas_cumprod = schedule.alpha_bar[1:]  # their own table is in float32

    def denoise(x_t, t):
        return torch.tanh(2 * x_t + t / schedule.T)  # anything but linear

    ours = []
    x = x_T = normal(3, 1, 4, 4)
    sample_ddpm(denoise, x_T, schedule, uniform_grid(schedule, n), generator=stream(1), callback=ours.append)
    noise = stream(1)
    assert [step.t for step in ours] == [t + 1 for t in theirs.timesteps.tolist()]  # they count from 0
    for step, index in zip(ours, theirs.timesteps, strict=True):
        x = theirs.step(denoise(x, int(index) + 1), index, x, generator=noise).prev_sample
        torch.testing.assert_close(step.x_s, x, rtol=1e-10, atol=1e-9)  # no variance of theirs is below 1e-20


# --- DDIM -------------------------------------------------------------------------------------------------------------


def curved(x_t, t):
    return torch.tanh(2 * x_t) - x_t / 3  # anything but linear


@each
@pytest.mark.parametrize("n", [1, 7, 40])
def test_with_eta_one_ddim_is_ddpm_on_the_same_noise(schedule, n):
    grid = uniform_grid(schedule, n)
    x_T = schedule.coeffs(grid[0])[1] * normal(3, 1, 4, 4)
    ours = sample_ddim(curved, x_T, schedule, grid, eta=1.0, generator=stream(1))
    torch.testing.assert_close(
        ours, sample_ddpm(curved, x_T, schedule, grid, generator=stream(1)), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("schedule", [linear(), cosine(), VPLinear(), VPCosine(), VE(), FlowMatching()], ids=repr)
def test_ddim_follows_the_exact_path_of_gaussian_data_with_order_one(schedule):
    """Along the probability-flow ODE, (x_t - alpha_t m) / sqrt(alpha_t² lambda + sigma_t²) stays in each eigenspace."""
    variances, turn = torch.linalg.eigh(COVARIANCE)
    start = 800 if schedule.T else 0.8  # away from ends that may be singular; both numbers of steps divide 800
    (alpha, sigma), errors = schedule.coeffs(start), []
    x_T = alpha * MEAN + normal(50, 2) @ torch.diag((alpha**2 * variances + sigma**2).sqrt()) @ turn.T
    shrink = (variances / (alpha**2 * variances + sigma**2)).sqrt()
    exact = MEAN + (x_T - alpha * MEAN) @ turn @ torch.diag(shrink) @ turn.T
    for n in (200, 400):
        grid = [start * (n - i) // n if schedule.T else start * (n - i) / n for i in range(n + 1)]
        errors.append((sample_ddim(DATA.denoiser(schedule), x_T, schedule, grid) - exact).abs().max().item())
    assert 0.9 < math.log2(errors[0] / errors[1]) < 1.1


@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("stride", [1, 5, 40])
def test_every_step_of_ddim_is_that_of_diffusers_on_the_same_noise(stride, eta):
    schedule = linear(40, 1e-3, 0.2)
    theirs = DDIMScheduler(
        schedule.T,
        trained_betas=schedule.betas[1:].numpy(),
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    theirs.alphas_cumprod = schedule.alpha_bar[1:]  # their own table is in float32
    n = schedule.T // stride
    theirs.set_timesteps(n)
    ours, x, x_T, noise = [], *[normal(3, 1, 4, 4)] * 2, stream(1)
    grid = uniform_grid(schedule, n)
    sample_ddim(curved, x_T, schedule, grid, eta=eta, generator=stream(1), callback=ours.append)
    for step, index in zip(ours, theirs.timesteps, strict=True):
        assert step.t == int(index) + 1  # they count from 0
        x = theirs.step(curved(x, None), index, x, eta=eta, generator=noise).prev_sample
        torch.testing.assert_close(step.x_s, x, rtol=1e-10, atol=1e-10)


def test_without_eta_ddim_draws_nothing_and_the_middle_is_between():
    generator, x_T, grid = stream(), normal(4, 3), uniform_grid(SHORT, 10)[:-1]
    before = generator.get_state()
    sample_ddim(half, x_T, SHORT, grid, generator=generator)
    assert torch.equal(generator.get_state(), before)
    for eta in (0.25, 0.5):  # c is eta times the posterior's deviation, step by step
        steps = []
        sample_ddim(half, torch.zeros(20_000, 1), SHORT, [50, 30], eta=eta, generator=stream(1), callback=steps.append)
        _, variance = q_posterior(steps[0].x_t, steps[0].x0_hat, 50, SHORT, 30)
        assert steps[0].x_s.var().item() == pytest.approx(eta**2 * variance.item(), rel=4 * (2 / 20_000) ** 0.5)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_ddim_refuses_an_eta_that_is_none(eta):
    with pytest.raises(ValueError, match=r"eta: wanted a number in \[0, 1\]"):
        sample_ddim(half, normal(2, 3), SHORT, [50, 0], eta=eta)


# --- where it ends ---------------------------------------------------------------------------------------------------


@each
def test_at_time_zero_no_noise_is_added_and_the_guess_is_returned_exactly(schedule):
    images = normal(6, 1, 3, 3)
    steps = []
    x_T = schedule.coeffs(uniform_grid(schedule, 1)[0])[1] * normal(4, 1, 3, 3, seed=1)
    x_0 = sample_ddpm(
        IdealDenoiser(images, schedule),
        x_T,
        schedule,
        uniform_grid(schedule, 10),
        generator=stream(),
        callback=steps.append,
    )
    assert torch.equal(x_0, steps[-1].x0_hat)


def test_a_shorter_grid_is_the_beginning_of_the_longer_one():
    x_T, grid, steps = normal(4, 3), uniform_grid(SHORT, 10), []
    sample_ddpm(half, x_T, SHORT, grid, generator=stream(1), callback=steps.append)
    for i in (1, 4, 9):
        assert torch.equal(sample_ddpm(half, x_T, SHORT, grid[: i + 1], generator=stream(1)), steps[i - 1].x_s)


# --- what a caller may rely on ---------------------------------------------------------------------------------------


both = pytest.mark.parametrize("sample", [sample_ddpm, sample_ddim])


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_dtype_is_kept_at_every_step(sample, dtype):
    seen = []

    def denoise(x_t, t):
        seen.append(x_t.dtype)
        return x_t / 2

    x_0 = sample(denoise, normal(2, 3, dtype=dtype), SHORT, uniform_grid(SHORT, 5), generator=stream())
    assert {x_0.dtype, *seen} == {dtype}


@both
def test_the_callback_gets_every_step_in_order(sample):
    steps, x_T = [], normal(2, 1, 4, 4)
    x_0 = sample(half, x_T, SHORT, [50, 30, 29, 0], generator=stream(), callback=steps.append)
    assert [(step.i, step.t, step.s) for step in steps] == [(0, 50, 30), (1, 30, 29), (2, 29, 0)]
    assert all(isinstance(step, Step) for step in steps)
    assert steps[0].x_t is x_T
    assert steps[-1].x_s is x_0
    for step, following in pairwise(steps):
        assert step.x_s is following.x_t
    for step in steps:
        assert torch.equal(step.x0_hat, half(step.x_t, step.t))
        assert step.x_t.shape == step.x0_hat.shape == step.x_s.shape == x_T.shape


@both
def test_conditions_reach_the_denoiser_at_every_step(sample):
    label, seen = torch.tensor([3, 8]), []

    def denoise(x_t, t, **cond):
        seen.append((t, cond))
        return x_t / 2

    sample(denoise, normal(2, 3), SHORT, [50, 20, 0], generator=stream(), label=label, w=2.0)
    assert [t for t, _ in seen] == [50, 20]
    assert all(cond == {"label": label, "w": 2.0} and cond["label"] is label for _, cond in seen)


def test_a_generator_decides_everything_and_the_global_stream_stays_where_it_is():
    def draw(seed):
        return sample_ddpm(half, normal(2, 3), SHORT, uniform_grid(SHORT, 5)[:-1], generator=stream(seed))

    before = torch.random.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.allclose(draw(1), draw(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_step_and_every_image_gets_noise_of_its_own():
    steps, noises = [], []
    sample_ddpm(half, normal(2, 500), SHORT, [50, 30, 20], generator=stream(1), callback=steps.append)
    for step in steps:
        mean, variance = q_posterior(step.x_t, step.x0_hat, step.t, SHORT, step.s)
        noises.append((step.x_s - mean) / variance.sqrt())
    correlation = torch.corrcoef(torch.cat(noises)) - torch.eye(4)
    assert correlation.abs().max() < 4 / 500**0.5


@both
def test_x_T_is_left_as_it_was_and_no_gradient_is_kept(sample):
    x_T = normal(2, 3).requires_grad_()
    before = x_T.detach().clone()
    x_0 = sample(half, x_T, SHORT, uniform_grid(SHORT, 5), generator=stream())
    assert torch.equal(x_T, before)
    assert not x_0.requires_grad


# --- grids -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 1200).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_a_discrete_uniform_grid_falls_from_T_to_0_in_n_steps_as_equal_as_whole_numbers_allow(T_and_n):
    T, n = T_and_n
    grid = uniform_grid(DiscreteSchedule(torch.linspace(1, 0, T + 1, dtype=torch.float64)), n)
    assert all(type(t) is int for t in grid)
    assert len(grid) == n + 1
    assert (grid[0], grid[-1]) == (T, 0)
    assert {t - s for t, s in pairwise(grid)} <= {T // n, math.ceil(T / n), T // n + 1}
    assert all(abs(t - T * (n - i) / n) <= 0.5 for i, t in enumerate(grid))
    assert min(t - s for t, s in pairwise(grid)) >= 1


def test_one_step_and_all_steps():
    assert uniform_grid(SHORT, 1) == [50, 0]
    assert uniform_grid(SHORT, 50) == list(range(50, -1, -1))
    assert uniform_grid(FlowMatching(), 1) == [1.0, 0.0]


@pytest.mark.parametrize("n", [1, 3, 7, 2000])
def test_a_continuous_uniform_grid_falls_from_1_to_0_in_n_equal_steps(n):
    grid = uniform_grid(FlowMatching(), n)
    assert len(grid) == n + 1
    assert (grid[0], grid[-1]) == (1.0, 0.0)
    assert [t - s for t, s in pairwise(grid)] == pytest.approx([1 / n] * n)
    assert all(isinstance(t, float) for t in grid)


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [SHORT, FlowMatching()], ids=["discrete", "continuous"])
@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_number_of_steps_that_is_none_is_refused(schedule, n, error):
    plain = getattr(uniform_grid, "__wrapped__", uniform_grid)  # without the type checks of the test run
    with pytest.raises(error, match=r"n: wanted"):
        plain(schedule, n)


def test_more_steps_than_the_schedule_has_are_refused():
    with pytest.raises(ValueError, match="n: wanted 1 … 50, as many as the schedule has steps, got 51"):
        uniform_grid(SHORT, 51)


def never(x_t, t):
    raise AssertionError("the grid should have been refused before the denoiser was asked")


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ([], "at least two times"),
        ([50], "at least two times"),
        ([50, 50, 0], "strictly falling grid, got 50 followed by 50"),
        ([0, 25, 50], "strictly falling grid, got 0 followed by 25"),
        ([50, 10, 20, 0], "strictly falling grid, got 10 followed by 20"),
        ([50, math.nan, 0], "strictly falling grid"),
        ([50, 0, -1], "times >= 0, got -1"),
    ],
    ids=str,
)
def test_a_grid_that_does_not_fall_is_refused_before_anything_is_drawn(grid, said):
    with pytest.raises(ValueError, match=f"timesteps: wanted .*{said}"):
        sample_ddpm(never, normal(2, 3), SHORT, grid, generator=stream())


def test_a_grid_that_starts_beyond_the_last_noise_level_is_refused():
    with pytest.raises(ValueError, match=r"timesteps: wanted 0 .* 50 .*, got 51"):
        sample_ddpm(half, normal(2, 3), SHORT, [51, 0], generator=stream())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_denoiser_that_breaks_down_is_named_with_its_step(bad):
    def denoise(x_t, t):
        x0_hat = x_t / 2
        if t == 20:
            x0_hat[1, 2] = bad
        return x0_hat

    with pytest.raises(ValueError, match=r"denoise: returned NaN or infinity at step 2, t = 20"):
        sample_ddpm(denoise, normal(2, 3), SHORT, [50, 30, 20, 0], generator=stream())
