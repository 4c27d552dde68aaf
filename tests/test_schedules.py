"""Schedules: the tables, the formulas and the times they promise, and which t to train on."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from course_utils.schedules import (
    VE,
    DiscreteSchedule,
    FlowMatching,
    LearnedSchedule,
    LossAwareSampler,
    VPCosine,
    VPLinear,
    coeffs_for,
    cosine,
    exponential,
    from_alpha_bar_function,
    linear,
    rescale_zero_terminal_snr,
    sigmoid,
    transition,
)

DISCRETE = {
    "linear": linear(100, 1e-3, 0.2),
    "exponential": exponential(60),
    "cosine": cosine(50),
    "sigmoid": sigmoid(40),
    "zero_terminal": rescale_zero_terminal_snr(linear(30, 1e-3, 0.2)),
}
CONTINUOUS = {
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "ve": VE(),
    "flow": FlowMatching(),
    "learned": LearnedSchedule(generator=torch.Generator().manual_seed(0)),
}
ALL = DISCRETE | CONTINUOUS


def each(schedules):
    return pytest.mark.parametrize("schedule", schedules.values(), ids=schedules.keys())


def times(schedule):
    """All times of a discrete schedule, many of a continuous one, ends included."""
    if schedule.T is not None:
        return torch.arange(schedule.T + 1)
    return torch.linspace(0, 1, 101, dtype=torch.float64)


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float64), rtol=tolerance, atol=tolerance)


# --- discrete tables -------------------------------------------------------------------------------------------------

betas_of_any_length = st.lists(st.floats(1e-6, 0.5), min_size=1, max_size=200)


@given(betas_of_any_length)
def test_betas_and_alpha_bar_give_each_other_back(betas):
    schedule = DiscreteSchedule.from_betas(torch.tensor(betas, dtype=torch.float64))
    product, by_hand = 1.0, [1.0]
    for beta in betas:
        product *= 1 - beta
        by_hand.append(product)
    assert len(betas) == schedule.T
    close(schedule.alpha_bar, by_hand)
    for again in (schedule, DiscreteSchedule(schedule.alpha_bar)):
        close(again.betas, [0.0, *betas])
        close(again.alphas, [1.0, *(1 - beta for beta in betas)])
    assert schedule.alpha_bar[0] == 1
    assert schedule.betas[0] == 0


@pytest.mark.parametrize("T", [1, 2, 10, 1000])
def test_linear_and_exponential_run_from_their_first_beta_to_their_last(T):
    one, other = linear(T, 1e-4, 0.02).betas[1:], exponential(T, 1e-4, 0.04).betas[1:]
    for t in range(1, T + 1):
        along = (t - 1) / max(T - 1, 1)
        close(one[t - 1], 1e-4 + along * (0.02 - 1e-4))
        close(other[t - 1], 1e-4 * 400**along)


def test_cosine_follows_its_formula_until_the_clip():
    T, s = 50, 0.008
    schedule = cosine(T)
    for t in range(T):
        f, f_0 = (math.cos((u + s) / (1 + s) * math.pi / 2) ** 2 for u in (t / T, 0))
        close(schedule.alpha_bar[t], f / f_0)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.5), (-3.0, 2.0, 0.9)])
def test_sigmoid_follows_its_formula(start, end, tau):
    T = 40
    schedule = sigmoid(T, start, end, tau, max_beta=1.0)

    def h(u):
        return 1 / (1 + math.exp(-(start + u * (end - start)) / tau))

    close(schedule.alpha_bar, [1 - (h(t / T) - h(0)) / (h(1) - h(0)) for t in range(T + 1)])
    assert schedule.alpha_bar[-1] == 0


def test_sigmoid_goes_from_minus_three_to_three_if_nothing_is_said():
    close(sigmoid(40).alpha_bar, sigmoid(40, start=-3.0, end=3.0, tau=1.0, max_beta=0.999).alpha_bar)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([1, 0.75, 0.5, 0.625, 0.125], r"got 0.5 at t = 2 and 0.625 at t = 3$"),
        ([1, 0.5, -0.125, -0.25], r"got 0.5 at t = 1 and -0.125 at t = 2$"),
        ([1, 0.5, -0.125, 0.25], r"got 0.5 at t = 1 and -0.125 at t = 2$"),
        ([1, 1], r"got 1 at t = 0 and 1 at t = 1$"),
    ],
)
def test_a_table_that_is_none_is_told_where(table, words):
    with pytest.raises(ValueError, match=words):
        DiscreteSchedule(torch.tensor(table))


@pytest.mark.parametrize("build", [cosine, sigmoid])
@pytest.mark.parametrize("max_beta", [0.999, 0.3])
def test_betas_are_clipped_and_no_others_are_touched(build, max_beta):
    clipped, free = build(30, max_beta=max_beta).betas, build(30, max_beta=1.0).betas
    assert free[-1] > 0.9999
    close(clipped, free.clamp(max=max_beta))
    close(build(30).betas[-1], 0.999)


def test_a_table_is_a_copy():
    alpha_bar = torch.tensor([1, 0.5, 0.1], dtype=torch.float64)
    schedule = DiscreteSchedule(alpha_bar)
    alpha_bar[1] = 0.9
    assert schedule.alpha_bar[1] == 0.5


def test_a_function_of_u_is_divided_by_its_start():
    schedule = from_alpha_bar_function(4, lambda u: 5 - 4 * u)
    close(schedule.alpha_bar, [1, 0.8, 0.6, 0.4, 0.2])


def diffusers_close(ours, theirs, T):
    """diffusers keeps its tables in float32: each of T factors may be off by one rounding."""
    torch.testing.assert_close(ours[1:], theirs.double(), rtol=T * 2**-23, atol=2**-23)


@pytest.mark.parametrize("T", [10, 100, 1000])
def test_diffusers_has_the_same_tables_one_index_lower(T):
    for ours, settings in [
        (linear(T), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        (cosine(T), {"beta_schedule": "squaredcos_cap_v2"}),
        (exponential(T), {"trained_betas": [1e-4 * 400 ** (i / (T - 1)) for i in range(T)]}),
        (sigmoid(T), {"trained_betas": sigmoid(T).betas[1:].tolist()}),
    ]:
        theirs = DDPMScheduler(num_train_timesteps=T, **settings)
        diffusers_close(ours.alpha_bar, theirs.alphas_cumprod, T)
        diffusers_close(ours.betas, theirs.betas, T)
        diffusers_close(ours.alphas, theirs.alphas, T)


@pytest.mark.parametrize("schedule", [linear(10, 1e-3, 0.4), linear(1000)], ids=repr)
def test_zero_terminal_snr_ends_at_exactly_zero_and_keeps_its_first_step(schedule):
    rescaled = rescale_zero_terminal_snr(schedule)
    assert rescaled.alpha_bar[-1] == 0
    assert rescaled.log_snr(rescaled.T) == -math.inf
    close(rescaled.alpha_bar[1], schedule.alpha_bar[1], 1e-14)
    # In between, sqrt(alpha_bar) is mapped by one straight line.
    root, root_rescaled = schedule.alpha_bar[1:].sqrt(), rescaled.alpha_bar[1:].sqrt()
    slope = root_rescaled.diff() / root.diff()
    close(slope, slope[0].expand(len(slope)), 1e-9)
    betas = schedule.betas[1:].tolist()
    theirs = DDPMScheduler(num_train_timesteps=schedule.T, trained_betas=betas, rescale_betas_zero_snr=True)
    torch.testing.assert_close(rescaled.alpha_bar[1:], theirs.alphas_cumprod.double(), rtol=0, atol=1e-5)


# --- continuous formulas ---------------------------------------------------------------------------------------------


def test_vp_linear_is_the_integral_of_its_beta():
    schedule = VPLinear(0.1, 20.0)
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    beta = 0.1 + t * (20.0 - 0.1)
    integral = torch.cat([t.new_zeros(1), torch.cumulative_trapezoid(beta, t)])  # exact for a straight line
    alpha, sigma = schedule.coeffs(t)
    close(alpha.log(), -integral / 2, 1e-10)
    close(sigma**2, -torch.expm1(-integral), 1e-10)


@pytest.mark.parametrize("u", [0.25, 0.5, 1.0])
def test_discrete_linear_tends_to_vp_linear_at_first_order(u):
    exact = VPLinear(0.1, 20.0).log_snr(u)
    errors = [abs(linear(T, 0.1 / T, 20 / T).log_snr(int(T * u)) - exact).item() for T in (1000, 2000, 4000)]
    assert errors[0] < 0.2
    for coarse, fine in pairwise(errors):
        assert 1.8 < coarse / fine < 2.2


def by_autograd(function, t):
    t = t.clone().requires_grad_()
    return torch.autograd.grad(function(t).sum(), t)[0]


@pytest.mark.parametrize(
    ("schedule", "drift", "diffusion_squared"),
    [
        (VPLinear(0.1, 20.0), lambda t: -(0.1 + 19.9 * t) / 2, lambda t: 0.1 + 19.9 * t),
        (VE(0.01, 50.0), lambda t: 0 * t, lambda t: 0.01**2 * 5000 ** (2 * t) * 2 * math.log(5000)),
    ],
    ids=["vp_linear", "ve"],
)
def test_coefficients_solve_the_sde_of_song(schedule, drift, diffusion_squared):
    # dx = f(t) x dt + g(t) dw has mean alpha and variance sigma² with alpha' = f alpha, (sigma²)' = 2 f sigma² + g².
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    alpha, sigma = schedule.coeffs(t)
    close(by_autograd(lambda t: schedule.coeffs(t)[0] + 0 * t, t), drift(t) * alpha, 1e-10)
    change = by_autograd(lambda t: schedule.coeffs(t)[1] ** 2, t)
    close(change, 2 * drift(t) * sigma**2 + diffusion_squared(t), 1e-10)


def test_vp_cosine_and_flow_matching_are_a_quarter_turn_and_a_straight_line():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, sigma = VPCosine().coeffs(t)
    close(torch.atan2(sigma, alpha), t * math.pi / 2)
    assert (alpha[-1], sigma[0]) == (0, 0)
    alpha, sigma = FlowMatching().coeffs(t)
    close(alpha, 1 - t)
    close(sigma, t)
    assert sigma.data_ptr() != t.data_ptr()  # writing into sigma would change the caller's t


@each(CONTINUOUS)
def test_coefficients_and_log_snr_can_be_differentiated(schedule):
    t = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.97], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: (*schedule.coeffs(t + 0), schedule.log_snr(t)), t)


@pytest.mark.parametrize("seed", range(5))
def test_a_learned_schedule_rises_between_fixed_ends_whatever_its_weights(seed):
    generator = torch.Generator().manual_seed(seed)
    schedule = LearnedSchedule(-10.0, 6.0, hidden=16, generator=generator)
    parameters = list(schedule.parameters())
    for p in parameters:
        p.data += 3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    before = [p.detach().clone() for p in parameters]
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (schedule.gamma(t) - 16 * torch.rand(t.shape, generator=generator)).square().mean().backward()
        optimizer.step()
    assert all((p != old).any() for p, old in zip(parameters, before, strict=True))
    with torch.no_grad():
        gamma = schedule.gamma(t)
        assert (gamma.diff() > 0).all()
        close(gamma[[0, -1]], [-10, 6])
        close(schedule.log_snr(t), -gamma)
        alpha, sigma = schedule.coeffs(t)
        close(2 * (alpha / sigma).log(), -gamma, 1e-9)


def test_a_learned_schedule_is_the_network_of_the_paper():
    schedule = LearnedSchedule(-13.3, 5.0, hidden=3)
    with torch.no_grad():
        for p, values in zip(schedule.parameters(), (0.7, [1, 2, -1], [0.3, -2, 1], [-1, 0.5, 2]), strict=True):
            p.copy_(torch.tensor(values))

    def softplus(x):
        return math.log1p(math.exp(x))

    def network(t):
        first = softplus(0.7) * t
        units = ((1, 0.3, -1), (2, -2, 0.5), (-1, 1, 2))
        return first + sum(softplus(w3) / (1 + math.exp(-softplus(w2) * first - b)) for w2, b, w3 in units)

    for t in (0.0, 0.2, 0.9):
        share = (network(t) - network(0)) / (network(1) - network(0))
        close(schedule.gamma(t).detach(), -13.3 + 18.3 * share, 1e-6)  # the weights above are float32 numbers


# --- what every schedule promises ------------------------------------------------------------------------------------


@each({name: schedule for name, schedule in ALL.items() if name not in ("ve", "flow")})
def test_variance_is_preserved(schedule):
    alpha, sigma = schedule.coeffs(times(schedule))
    close(alpha**2 + sigma**2, torch.ones_like(alpha))


@each(ALL)
def test_log_snr_is_that_of_the_coefficients_and_falls(schedule):
    t = times(schedule)
    alpha, sigma = schedule.coeffs(t)
    log_snr = schedule.log_snr(t)
    torch.testing.assert_close(log_snr, (alpha**2 / sigma**2).log(), rtol=1e-9, atol=1e-9)
    assert (log_snr[1:] < log_snr[:-1]).all()


@each({name: schedule for name, schedule in ALL.items() if name != "learned"})
def test_t_0_is_clean_data(schedule):
    alpha, sigma = schedule.coeffs(0)
    assert (alpha, sigma) == (1, 0)
    assert schedule.log_snr(0) == math.inf


@each(ALL)
def test_one_time_and_many_times_agree(schedule):
    t = times(schedule)[1::7]
    alpha, sigma = schedule.coeffs(t)
    assert alpha.shape == sigma.shape == schedule.log_snr(t).shape == t.shape
    assert alpha.dtype == sigma.dtype == torch.float64
    for i, one in enumerate(t):
        for time in (one, one.item()):
            (a, s), log_snr = schedule.coeffs(time), schedule.log_snr(time)
            assert a.shape == s.shape == log_snr.shape == ()
            close(torch.stack([a, s]).detach(), torch.stack([alpha[i], sigma[i]]).detach(), 1e-14)


@each(CONTINUOUS)
def test_a_continuous_time_is_found_from_its_log_snr(schedule):
    t = torch.linspace(0.002, 0.998, 50, dtype=torch.float64)
    close(schedule.t_at_log_snr(schedule.log_snr(t)), t, 1e-9)
    assert schedule.t_at_log_snr(schedule.log_snr(0.5).item()).shape == ()
    assert schedule.t_at_log_snr(1e6) == pytest.approx(0, abs=1e-9)
    assert schedule.t_at_log_snr(-1e6) == pytest.approx(1, abs=1e-9)


@each(DISCRETE)
def test_a_discrete_time_is_found_from_its_log_snr(schedule):
    t = torch.arange(1, schedule.T + 1)
    log_snr = schedule.log_snr(t)
    assert torch.equal(schedule.t_at_log_snr(log_snr), t)
    hair = 1e-9 * (1 + log_snr.abs().nan_to_num(posinf=0, neginf=0))
    assert torch.equal(schedule.t_at_log_snr(log_snr + hair), t)  # already noisy enough at t, not at t - 1
    assert torch.equal(schedule.t_at_log_snr((log_snr - hair)[:-1]), t[1:])  # just too clean at t
    assert schedule.t_at_log_snr(math.inf) == 1
    assert schedule.t_at_log_snr(-math.inf) == schedule.T


@each(DISCRETE)
def test_one_step_is_the_transition_of_ddpm(schedule):
    t = torch.arange(1, schedule.T + 1)
    alpha, variance = transition(t - 1, t, schedule)
    close(alpha, (1 - schedule.betas[1:]).sqrt())
    close(variance, schedule.betas[1:])


@each(ALL)
def test_transitions_compose(schedule):
    for s, m, t in [(0, 3, schedule.T), (2, 3, 17)] if schedule.T else [(0.0, 0.3, 1.0), (0.1, 0.3, 0.9)]:
        (a_ms, v_ms), (a_tm, v_tm), (a_ts, v_ts) = (transition(*pair, schedule) for pair in [(s, m), (m, t), (s, t)])
        close(a_tm * a_ms, a_ts.item())
        close(a_tm**2 * v_ms + v_tm, v_ts.item())
        alpha_s, sigma_s = schedule.coeffs(s)
        alpha_t, sigma_t = schedule.coeffs(t)
        close(a_ts * alpha_s, alpha_t.item())
        close(a_ts**2 * sigma_s**2 + v_ts, (sigma_t**2).item())


@each(ALL)
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 1, 2, 2)])
def test_coefficients_come_ready_to_multiply_a_batch(schedule, shape):
    t = times(schedule)[[1, 5, 9, 20]]
    for dtype in (torch.float32, torch.float64):
        x = torch.ones(shape, dtype=dtype)
        for coefficient, wanted in zip(coeffs_for(x, t, schedule), schedule.coeffs(t), strict=True):
            assert coefficient.shape == (4, *[1] * (len(shape) - 1))
            assert coefficient.dtype == dtype
            assert torch.equal(coefficient.flatten(), wanted.to(dtype))
        assert coeffs_for(x, t[0], schedule)[0].shape == ()


def test_a_schedule_says_what_it_is():
    assert repr(VE()) == "VE(sigma_min=0.01, sigma_max=50.0)"
    assert repr(linear(1000)) == "DiscreteSchedule(T=1000, alpha_bar[T]=4.04e-05)"


# --- which t to train on ---------------------------------------------------------------------------------------------

T = 8
LOSSES = torch.tensor([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8], dtype=torch.float64)  # of t = 1 … 8


def warmed_up(losses=LOSSES, history=3, uniform=0.001):
    sampler = LossAwareSampler(len(losses), history, uniform)
    for _ in range(history):
        sampler.update(torch.arange(1, len(losses) + 1), losses)
    return sampler


def test_t_is_uniform_until_every_t_has_its_history():
    sampler = LossAwareSampler(T, history=2)
    even = torch.tensor([0, *[1 / T] * T], dtype=torch.float64)
    for t in [*range(1, T + 1), *range(1, T)]:
        close(sampler.probabilities, even)
        sampler.update(torch.tensor([t]), LOSSES[[t - 1]])
    close(sampler.probabilities, even)
    assert (sampler.sample(50)[1] - 1).abs().max() < 1e-12
    sampler.update(torch.tensor([T]), LOSSES[[-1]])
    assert (sampler.probabilities - even).abs().max() > 0.1


def test_p_t_is_the_root_of_the_mean_square_of_the_last_losses():
    history, uniform = 3, 0.1
    sampler = LossAwareSampler(T, history, uniform)
    losses = torch.rand(history + 2, T, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row in losses:
        sampler.update(torch.arange(1, T + 1), row)
    root = (losses[-history:] ** 2).mean(0) ** 0.5
    close(sampler.probabilities, [0, *((1 - uniform) * root / root.sum() + uniform / T).tolist()])


def test_two_losses_of_one_t_in_one_batch_are_both_remembered():
    sampler = LossAwareSampler(1, history=2)
    sampler.update(torch.tensor([1, 1, 1]), torch.tensor([9.0, 3.0, 4.0]))
    assert sampler.losses[1].tolist() == [3, 4]


def test_no_t_is_forgotten_and_zero_losses_mean_uniform():
    losses = LOSSES.clone()
    losses[0] = 0
    close(warmed_up(losses, uniform=0.08).probabilities[1], 0.01)
    for uniform in (0.0, 0.1):
        close(warmed_up(torch.zeros(T, dtype=torch.float64), uniform=uniform).probabilities, [0, *[1 / T] * T])


def test_the_weighted_loss_has_the_uniform_mean_and_less_variance():
    n = 20_000
    t, weight = warmed_up(uniform=0.05).sample(n, torch.Generator().manual_seed(0))
    assert t.min() >= 1
    assert t.max() <= T
    noise = 1 + torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weighted = weight * LOSSES[t - 1] * noise
    standard_error = weighted.std() / n**0.5
    assert abs(weighted.mean() - 1.5 * LOSSES.mean()) < 4 * standard_error
    everywhere = torch.outer(LOSSES, noise)  # every t equally often
    assert weighted.var() < everywhere.var() / 4


def test_t_is_drawn_as_often_as_its_probability_says():
    n = 20_000
    sampler = warmed_up()
    t, weight = sampler.sample(n, torch.Generator().manual_seed(0))
    p = sampler.probabilities
    counts = torch.bincount(t, minlength=T + 1)
    assert ((counts - n * p).abs() <= 4 * (n * p * (1 - p)).sqrt()).all()
    close(weight, 1 / (T * p[t]))


def test_drawing_t_is_repeatable_and_leaves_the_global_stream_alone():
    sampler, state = warmed_up(), torch.get_rng_state()
    one, other = (sampler.sample(50, torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("t", [[3, 41], [-1, 3]])
def test_one_time_out_of_range_spoils_a_batch(t):
    with pytest.raises(ValueError, match=r"wanted 0 \(clean\) … 40 \(all noise\), got"):
        linear(40).coeffs(torch.tensor(t))


def test_a_learned_schedule_answers_in_the_precision_it_is_asked_in_whatever_its_own():
    half = LearnedSchedule(generator=torch.Generator().manual_seed(0))
    before = half.log_snr(torch.tensor([0.1, 0.5, 1.0]).double())
    after = half.float().log_snr(torch.tensor([0.1, 0.5, 1.0]).double())
    assert after.dtype == torch.float64
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert half.coeffs(0.5)[0].isfinite()
