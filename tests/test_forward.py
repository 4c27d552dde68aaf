"""The forward process: the chain is the closed form in distribution, and the posterior is Bayes' rule."""

import inspect
import math
import weakref

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from course_utils.forward import noise_like, q_chain, q_posterior, q_sample, q_step
from course_utils.schedules import (
    VE,
    FlowMatching,
    LearnedSchedule,
    VPCosine,
    VPLinear,
    cosine,
    linear,
    rescale_zero_terminal_snr,
)

DISCRETE = {
    "linear": linear(40, 1e-3, 0.3),
    "cosine": cosine(20),
    "zero_terminal": rescale_zero_terminal_snr(linear(10, 1e-2, 0.4)),
}
CONTINUOUS = {
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "ve": VE(),
    "flow": FlowMatching(),
    "learned": LearnedSchedule(generator=torch.Generator().manual_seed(0)).requires_grad_(False),
}
ALL = DISCRETE | CONTINUOUS


def each(schedules):
    return pytest.mark.parametrize("schedule", schedules.values(), ids=schedules.keys())


def steps(schedule):
    """Pairs s < t: neighbours and jumps, from the clean end and to the noisy one."""
    if schedule.T is not None:
        return [(1, 2), (3, 4), (schedule.T - 1, schedule.T), (1, schedule.T), (2, 7)]
    return [(0.01, 0.02), (0.3, 0.31), (0.2, 0.9), (0.5, 1.0)]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- the chain and the jump ------------------------------------------------------------------------------------------


@each(DISCRETE)
def test_many_steps_are_one_jump_exactly(schedule):
    # The chain is linear, so its mean and variance can be carried along without drawing anything.
    x_0 = normal(3, 2)
    mean, variance = x_0, torch.zeros_like(x_0)
    nothing, one = torch.zeros_like(x_0), torch.ones_like(x_0)
    for t in range(1, schedule.T + 1):
        mean = q_step(mean, t, schedule, nothing)
        variance = q_step(variance.sqrt(), t, schedule, nothing) ** 2 + q_step(nothing, t, schedule, one) ** 2
        torch.testing.assert_close(mean, q_sample(x_0, t, schedule, nothing), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variance, q_sample(nothing, t, schedule, one) ** 2, rtol=1e-12, atol=1e-12)


def kolmogorov_smirnov(x):
    """sqrt(n) times the largest distance between the distribution of x and the standard normal one."""
    x, n = x.sort().values, len(x)
    below = torch.special.ndtr(x)
    ranks = torch.arange(n + 1, dtype=x.dtype) / n
    return n**0.5 * torch.maximum(below - ranks[:-1], ranks[1:] - below).max().item()


def test_chain_is_the_closed_form_in_distribution():
    schedule, n = linear(40, 1e-3, 0.3), 5000
    images = torch.tensor([[-1.0, -0.2, 0.0], [0.4, 1.0, 0.7]], dtype=torch.float64)
    x_0 = images.repeat_interleave(n, 0)
    for t, x_t in q_chain(x_0, schedule, torch.Generator().manual_seed(0)):
        if t not in (1, 7, 20, 40):
            continue
        jumps = q_sample(x_0, t, schedule, normal(*x_0.shape, seed=t))
        sigma = (1 - schedule.alpha_bar[t]).sqrt()
        centre = schedule.alpha_bar[t].sqrt() * images
        for x in (x_t, jumps):
            x = x.reshape(2, n, 3)
            assert ((x.mean(1) - centre).abs() < 4 * sigma / n**0.5).all()
            assert ((x.var(1) - sigma**2).abs() < 4 * sigma**2 * (2 / (n - 1)) ** 0.5).all()
            assert kolmogorov_smirnov(((x - centre[:, None]) / sigma).flatten()) < 1.95  # exceeded once in 1000


def test_chain_has_independent_steps():
    x = torch.stack([x for _, x in q_chain(torch.zeros(20_000), linear(3, 0.1, 0.3), torch.Generator().manual_seed(0))])
    betas = linear(3, 0.1, 0.3).betas[1:, None]
    fresh = (x[1:] - (1 - betas).sqrt() * x[:-1]) / betas.sqrt()
    correlation = torch.corrcoef(fresh) - torch.eye(3)
    assert correlation.abs().max() < 4 / 20_000**0.5


def test_chain_is_q_step_with_fresh_noise_from_the_generator():
    schedule, x_0 = linear(6), normal(2, 1, 4, 4)
    generator, chain = (torch.Generator().manual_seed(7) for _ in range(2))
    chain = q_chain(x_0, schedule, chain)
    t, x = next(chain)
    assert t == 0
    assert torch.equal(x, x_0)
    for wanted_t in range(1, schedule.T + 1):
        x = q_step(x, wanted_t, schedule, noise_like(x_0, generator))
        t, x_t = next(chain)
        assert t == wanted_t
        assert torch.equal(x_t, x)
    assert next(chain, None) is None


def test_chain_is_lazy_and_holds_one_x_t():
    generator, x_0 = torch.Generator().manual_seed(0), torch.zeros(2, 3)
    chain = q_chain(x_0, linear(1000), generator)
    assert inspect.isgenerator(chain)
    start = generator.get_state()
    next(chain)
    assert torch.equal(generator.get_state(), start)  # nothing drawn before it is asked for
    seen = []
    for _ in range(5):
        x_t = next(chain)[1]
        seen.append(weakref.ref(x_t))
        del x_t
        assert sum(ref() is not None for ref in seen) == 1


@each(ALL)
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 1, 4, 4)], ids=str)
def test_one_time_per_image_is_image_by_image(schedule, shape):
    x, eps = normal(*shape), normal(*shape, seed=1)
    s = torch.tensor([1, 5, 3]) if schedule.T else torch.tensor([0.1, 0.7, 0.3])
    t = torch.tensor([2, 6, 9]) if schedule.T else torch.tensor([0.2, 0.8, 1.0])
    together = [q_sample(x, t, schedule, eps), *q_posterior(x, eps, t, schedule, s)]
    if schedule.T:
        together += [q_step(x, t, schedule, eps), *q_posterior(x, eps, t, schedule)]
    for i in range(3):
        x_i, eps_i, s_i, t_i = x[[i]], eps[[i]], s[i].item(), t[i].item()
        alone = [q_sample(x_i, t_i, schedule, eps_i), *q_posterior(x_i, eps_i, t_i, schedule, s_i)]
        if schedule.T:
            alone += [q_step(x_i, t_i, schedule, eps_i), *q_posterior(x_i, eps_i, t_i, schedule)]
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many[[i]], one.expand_as(many[[i]]))


# --- the posterior ---------------------------------------------------------------------------------------------------


@each(ALL)
def test_posterior_is_bayes_on_a_grid(schedule):
    x_0 = torch.tensor([0.6], dtype=torch.float64)
    for s, t in steps(schedule):
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
        x_t = alpha_t * x_0 - 0.8 * sigma_t
        # q(x_t | x_s) keeps alpha_t / alpha_s of x_s and adds what variance is missing.
        keeps = alpha_t / alpha_s
        adds = sigma_t**2 - keeps**2 * sigma_s**2
        x_s = alpha_s * x_0 + sigma_s * torch.linspace(-12, 12, 200_001, dtype=torch.float64)
        log_joint = -((x_s - alpha_s * x_0) ** 2) / (2 * sigma_s**2) - (x_t - keeps * x_s) ** 2 / (2 * adds)
        p = torch.softmax(log_joint, 0)
        wanted_mean = (p * x_s).sum()
        wanted_variance = (p * (x_s - wanted_mean) ** 2).sum()
        mean, variance = q_posterior(x_t, x_0, t, schedule, s)
        torch.testing.assert_close(mean[0], wanted_mean, rtol=1e-6, atol=1e-6 * sigma_s.item())
        torch.testing.assert_close(variance, wanted_variance, rtol=1e-6, atol=0)


@each(ALL)
def test_posterior_undoes_the_noise_in_distribution(schedule):
    # x_t ~ q(x_t | x_0), then x_s ~ q(x_s | x_t, x_0), leaves x_s ~ q(x_s | x_0). The mean is linear in x_t and x_0.
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for s, t in [*steps(schedule), (0, 1) if schedule.T else (0.0, 0.5)]:
        (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule.coeffs(s), schedule.coeffs(t)
        of_x_t, variance = q_posterior(one, zero, t, schedule, s)
        of_x_0, _ = q_posterior(zero, one, t, schedule, s)
        torch.testing.assert_close((of_x_t * alpha_t + of_x_0)[0], alpha_s, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close((of_x_t**2 * sigma_t**2 + variance)[0], sigma_s**2, rtol=1e-10, atol=1e-10)


@each(DISCRETE)
def test_posterior_steps_to_t_minus_1_and_ends_at_the_image(schedule):
    x_t, x_0 = normal(4, 3), normal(4, 3, seed=1)
    for t in (2, 5, schedule.T):
        for default, explicit in zip(
            q_posterior(x_t, x_0, t, schedule), q_posterior(x_t, x_0, t, schedule, t - 1), strict=True
        ):
            assert torch.equal(default, explicit)
    mean, variance = q_posterior(x_t, x_0, 1, schedule)
    torch.testing.assert_close(mean, x_0, rtol=1e-12, atol=1e-12)
    assert variance == 0


def test_posterior_of_pure_noise_is_the_forward_process():
    schedule = DISCRETE["zero_terminal"]
    x_0 = normal(4, 3)
    mean, variance = q_posterior(normal(4, 3, seed=1), x_0, schedule.T, schedule)
    assert torch.equal(mean, schedule.alpha_bar[-2].sqrt() * x_0)
    assert variance == (1 - schedule.alpha_bar[-2]).sqrt() ** 2


def test_diffusers_noises_and_steps_the_same_one_index_lower():
    T = 50
    theirs = DDPMScheduler(num_train_timesteps=T, beta_start=1e-3, beta_end=0.2, clip_sample=False)
    theirs.set_timesteps(T)
    ours = linear(T, 1e-3, 0.2)
    x_0, eps = normal(2, 3, dtype=torch.float32), normal(2, 3, seed=1, dtype=torch.float32)
    for t in (2, 10, T):
        x_t = q_sample(x_0, t, ours, eps)
        torch.testing.assert_close(x_t, theirs.add_noise(x_0, eps, torch.tensor([t - 1])), rtol=1e-5, atol=1e-5)
        mean, variance = q_posterior(x_t, x_0, t, ours)
        stepped = theirs.step(eps, t - 1, x_t, generator=torch.Generator().manual_seed(5)).prev_sample
        noise = normal(2, 3, seed=5, dtype=torch.float32)
        torch.testing.assert_close(mean + variance.sqrt() * noise, stepped, rtol=1e-5, atol=1e-4)


# --- what is left alone ----------------------------------------------------------------------------------------------


@pytest.mark.slow(4)
@given(
    st.lists(st.integers(1, 3), max_size=3),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([*ALL.values()]),
)
def test_shape_dtype_and_inputs_are_kept(shape, dtype, schedule):
    x, eps = (normal(2, *shape, seed=seed).to(dtype) for seed in (0, 1))
    copies = x.clone(), eps.clone()
    s, t = (2, 9) if schedule.T else (0.2, 0.9)
    results = [q_sample(x, t, schedule, eps), *q_posterior(x, eps, t, schedule, s), noise_like(x)]
    if schedule.T:
        results += [q_step(x, t, schedule, eps), *(x_t for _, x_t in q_chain(x, schedule))]
    for result in results:
        assert result.dtype == dtype
        assert torch.broadcast_shapes(result.shape, x.shape) == x.shape
    assert results[0].shape == results[1].shape == results[3].shape == x.shape
    assert torch.equal(x, copies[0])
    assert torch.equal(eps, copies[1])


def test_noise_is_standard_normal_and_repeatable():
    generator = torch.Generator().manual_seed(0)
    noise = noise_like(torch.zeros(100, 100), generator)
    assert noise.std() == pytest.approx(1, abs=4 / math.sqrt(2 * 10_000))
    assert kolmogorov_smirnov(noise.flatten()) < 1.95
    assert torch.equal(noise_like(torch.zeros(100, 100), torch.Generator().manual_seed(0)), noise)
    assert not torch.equal(noise_like(torch.zeros(100, 100), generator), noise)


def test_a_cpu_generator_serves_every_device():
    here, there = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    noise_like(torch.zeros(5), here)
    assert noise_like(torch.zeros(5, device="meta"), there).device.type == "meta"
    assert torch.equal(here.get_state(), there.get_state())


def test_a_generator_leaves_the_global_stream_alone():
    state = torch.get_rng_state()
    noise_like(torch.zeros(5), torch.Generator().manual_seed(0))
    list(q_chain(torch.zeros(2, 3), linear(5), torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_batch_stays_empty():
    nothing, schedule = torch.zeros(0, 1, 4, 4), linear(5)
    for t in (3, torch.zeros(0, dtype=torch.long)):
        assert q_sample(nothing, t, schedule, nothing).shape == nothing.shape
        assert q_step(nothing, t, schedule, nothing).shape == nothing.shape
        assert q_posterior(nothing, nothing, t, schedule)[0].shape == nothing.shape
