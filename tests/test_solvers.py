"""The solvers have the order they claim, take the steps of other implementations, and every grid is a grid."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_samplers import SCHEDULES, normal, stream

from course_utils.samplers import (
    karras_grid,
    leading_grid,
    linspace_grid,
    log_snr_grid,
    quadratic_grid,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2s,
    sample_euler,
    sample_heun,
    sample_unipc,
    uniform_grid,
)
from course_utils.schedules import (
    VE,
    DiscreteSchedule,
    FlowMatching,
    VPLinear,
    cosine,
    linear,
)
from course_utils.toy import GaussianMixture, IdealDenoiser

UNIPC_3 = partial(sample_unipc, order=3)
SOLVERS = {
    "euler": sample_euler,
    "heun": sample_heun,
    "2s": sample_dpmpp_2s,
    "2m": sample_dpmpp_2m,
    "unipc": sample_unipc,
    "unipc3": UNIPC_3,
}
ALL = {"ddim": sample_ddim, **SOLVERS}
each_solver = pytest.mark.parametrize("sample", SOLVERS.values(), ids=SOLVERS.keys())
CLEAN_ENDS = {"ddim", "2s", "2m", "unipc", "unipc3"}  # those that can begin at alpha = 0


def curved(x_t, t, **cond):
    return torch.tanh(2 * x_t) - x_t / 3  # anything but linear


# --- order of convergence --------------------------------------------------------------------------------------------

MIXTURE = GaussianMixture(1.2 * normal(5, 3), 0.3)
PATHS = {"vp": (VPLinear(), 0.8, 0.2), "ve": (VE(), 0.8, 0.3), "flow": (FlowMatching(), 0.9, 0.1)}


def even(schedule, start, end, n):
    """n steps of equal length in log-SNR."""
    first, last = schedule.log_snr(start), schedule.log_snr(end)
    inner = schedule.t_at_log_snr(first + (last - first) * torch.arange(1, n, dtype=torch.float64) / n)
    return [start, *inner.tolist(), end]


@pytest.fixture(scope="module", params=PATHS.values(), ids=PATHS.keys())
def path(request):
    """A schedule, noisy points of an exact mixture, its exact denoiser, and where the ODE takes them."""
    schedule, start, end = request.param
    alpha, sigma = schedule.coeffs(start)
    x = alpha * MIXTURE.sample(40, stream(1)) + sigma * normal(40, 3, seed=2)
    denoise = MIXTURE.denoiser(schedule)
    grid = partial(even, schedule, start, end)
    reference = UNIPC_3(denoise, x, schedule, grid(1200))
    assert (reference - sample_dpmpp_2m(denoise, x, schedule, grid(1200))).abs().max() < 1e-5
    return schedule, denoise, x, grid, reference


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("2s", 2), ("2m", 2), ("unipc", 3), ("unipc3", 4)]
)
def test_the_error_falls_with_the_order_of_the_solver(path, name, order):
    schedule, denoise, x, grid, reference = path
    coarse, fine = ((ALL[name](denoise, x, schedule, grid(n)) - reference).abs().max() for n in (80, 160))
    found = math.log2(coarse / fine)
    # UniPC-3 begins with two steps of lower order, whose error falls only like h³: it shows at last.
    assert found > 3.5 if name == "unipc3" else found == pytest.approx(order, abs=0.1)


@pytest.mark.slow
def test_unipc_of_order_one_corrects_euler_to_order_two(path):
    schedule, denoise, x, grid, reference = path
    errors = [(sample_unipc(denoise, x, schedule, grid(n), order=1) - reference).abs().max() for n in (80, 160)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("schedule", [cosine(12), cosine(30), VPLinear()], ids=repr)
def test_2s_is_exact_in_the_middle_where_the_guess_is_linear_in_lambda_wherever_it_looks(schedule):
    """Between whole times there is no middle: r is not 1/2, and 1 / (2 r) makes up for it."""
    t, s = uniform_grid(schedule, 3)[1:3]
    x_t, (_, sigma_t), (alpha_s, sigma_s) = normal(3, 2), schedule.coeffs(t), schedule.coeffs(s)
    start, end = schedule.log_snr(t) / 2, schedule.log_snr(s) / 2
    middle, h = (start + end) / 2, end - start

    def denoise(x, u):
        return torch.full_like(x, schedule.log_snr(u).item() / 2)

    want = sigma_s / sigma_t * x_t - alpha_s * torch.expm1(-h) * middle
    torch.testing.assert_close(sample_dpmpp_2s(denoise, x_t, schedule, [t, s]), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [linear(), VPLinear(), VE(), cosine(200)], ids=repr)
def test_euler_in_x_over_alpha_is_ddim(schedule):
    grid = uniform_grid(schedule, 20)
    x_T = schedule.coeffs(grid[0])[1] * normal(3, 1, 4, 4)
    torch.testing.assert_close(
        sample_euler(curved, x_T, schedule, grid), sample_ddim(curved, x_T, schedule, grid), rtol=1e-7, atol=1e-7
    )


# --- another implementation ------------------------------------------------------------------------------------------

DISCRETE = linear(40, 1e-3, 0.2)


def theirs(kind, **options):
    betas = DISCRETE.betas[1:].numpy()
    scheduler = kind(DISCRETE.T, trained_betas=betas, timestep_spacing="trailing", **options)
    scheduler.set_timesteps(8)
    return scheduler


@pytest.mark.parametrize("clip", [False, True], ids=["unclipped", "clipped"])
@pytest.mark.parametrize(
    ("sample", "kind", "options"),
    [
        (sample_dpmpp_2m, DPMSolverMultistepScheduler, {"solver_order": 2, "lower_order_final": True}),
        (sample_unipc, UniPCMultistepScheduler, {"solver_order": 2}),
        (UNIPC_3, UniPCMultistepScheduler, {"solver_order": 3}),
    ],
    ids=["2m", "unipc2", "unipc3"],
)
def test_every_step_is_that_of_diffusers(sample, kind, options, clip):
    scheduler = theirs(kind, prediction_type="sample", final_sigmas_type="zero", **options)

    def denoise(x_t, t):
        return curved(x_t, t).clamp(-0.5, 0.5) if clip else curved(x_t, t)

    ours, x_T = [], normal(3, 1, 4, 4)
    sample(denoise, x_T, DISCRETE, uniform_grid(DISCRETE, 8), callback=ours.append)
    x = x_T
    for step, index in zip(ours, scheduler.timesteps, strict=True):
        assert step.t == int(index) + 1  # they count from 0
        x = scheduler.step(denoise(x, None), index, x).prev_sample
        torch.testing.assert_close(step.x_s, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("sample", "kind"), [(sample_euler, EulerDiscreteScheduler), (sample_heun, HeunDiscreteScheduler)]
)
def test_euler_and_heun_are_those_of_diffusers_whose_state_is_x_over_alpha(sample, kind):
    scheduler = theirs(kind, prediction_type="epsilon")
    grid = uniform_grid(DISCRETE, 8)
    alpha_T, _ = DISCRETE.coeffs(grid[0])
    x_T = normal(3, 1, 4, 4)
    y = x_T / alpha_T
    for index in scheduler.timesteps:
        x = scheduler.scale_model_input(y, index)  # y / sqrt(1 + r²) = alpha y
        alpha, sigma = DISCRETE.coeffs(round(float(index)) + 1)
        eps = (x - alpha * curved(x, None)) / sigma
        y = scheduler.step(eps, index, y).prev_sample
    torch.testing.assert_close(sample(curved, x_T, DISCRETE, grid), y, rtol=1e-4, atol=1e-4)


# --- what a caller may rely on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_from_pure_noise_to_clean_data_on_every_schedule(name, schedule, n):
    """The last step gives the denoiser's guess itself; where alpha_T = 0, Euler and Heun say so."""
    images = normal(6, 1, 3, 3)
    grid, steps = uniform_grid(schedule, n), []
    alpha, sigma = schedule.coeffs(grid[0])
    arguments = IdealDenoiser(images, schedule), sigma * normal(4, 1, 3, 3, seed=1), schedule, grid
    if alpha == 0 and name not in CLEAN_ENDS:
        with pytest.raises(ValueError, match="alpha is 0 at t"):
            SOLVERS[name](*arguments)
        return
    x_0 = SOLVERS[name](*arguments, callback=steps.append)
    assert x_0.isfinite().all()
    torch.testing.assert_close(x_0, steps[-1].x0_hat)
    assert [(step.i, step.t, step.s) for step in steps] == [(i, t, s) for i, (t, s) in enumerate(pairwise(grid))]


def test_how_often_each_solver_asks():
    def calls(sample, grid, schedule):
        asked = []
        sample(lambda x, t, **cond: (asked.append(t), x / 2)[1], normal(2, 3), schedule, grid)
        return len(asked)

    grid = uniform_grid(DISCRETE, 10)
    assert {name: calls(sample, grid, DISCRETE) for name, sample in SOLVERS.items()} == {
        "euler": 10, "heun": 19, "2s": 19, "2m": 10, "unipc": 10, "unipc3": 10,
    }  # fmt: skip
    assert calls(sample_dpmpp_2s, list(range(40, -1, -1)), DISCRETE) == 40  # no time lies between neighbours


@each_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_conditions_and_streams_are_left_alone(sample, dtype):
    label, seen = torch.tensor([3, 8]), []

    def denoise(x_t, t, **cond):
        seen.append((x_t.dtype, cond["label"] is label))
        return x_t / 2

    before = torch.random.get_rng_state()
    x_T = normal(2, 3).to(dtype).requires_grad_()
    kept = x_T.detach().clone()
    x_0 = sample(denoise, x_T, DISCRETE, uniform_grid(DISCRETE, 5), label=label)
    assert set(seen) == {(dtype, True)}
    assert (x_0.dtype, x_0.requires_grad) == (dtype, False)
    assert torch.equal(x_T, kept)
    assert torch.equal(torch.random.get_rng_state(), before)


@each_solver
def test_what_cannot_be_solved_is_said(sample):
    with pytest.raises(ValueError, match="strictly falling"):
        sample(curved, normal(2, 3), DISCRETE, [40, 20, 30, 0])
    with pytest.raises(ValueError, match=r"NaN or infinity at step [01], t = 20"):  # Heun asks at both ends of a step
        sample(lambda x, t: x * (math.nan if t == 20 else 1), normal(2, 3), DISCRETE, [40, 20, 0])
    with pytest.raises(ValueError, match="order: wanted 1 or more"):
        sample_unipc(curved, normal(2, 3), DISCRETE, [40, 0], order=0)


# --- grids -----------------------------------------------------------------------------------------------------------

GRIDS = [uniform_grid, linspace_grid, leading_grid, quadratic_grid, log_snr_grid, karras_grid]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("schedule", [linear(), cosine(), *SCHEDULES.values()], ids=repr)
@pytest.mark.parametrize("n", [1, 2, 5, 10, 40])
def test_every_grid_falls_in_n_steps_from_the_last_noise_level_to_clean_data(grid, schedule, n):
    times = grid(schedule, n)
    assert len(times) == n + 1
    assert times[-1] == 0
    assert all(s < t for t, s in pairwise(times))
    assert all(type(t) is (int if schedule.T else float) for t in times)
    if grid in (log_snr_grid, karras_grid):
        last = schedule.T or 1.0
        if not schedule.log_snr(last).isfinite():  # the largest time at which anything is left of the picture
            last = last - 1 if schedule.T else 0.999
        assert times[0] == last
    elif grid is not leading_grid:
        assert times[0] == (schedule.T or 1.0)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GRIDS), st.integers(2, 60).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T - 1))))
def test_short_schedules_have_room_for_every_grid(grid, T_and_n):
    T, n = T_and_n
    times = grid(DiscreteSchedule(torch.linspace(1, 0, T + 1, dtype=torch.float64)), n)
    assert len(times) == n + 1
    assert times[-1] == 0
    assert times[0] <= T
    assert all(s < t for t, s in pairwise(times))


def test_each_grid_is_even_in_its_own_measure():
    schedule = VPLinear()
    levels = schedule.log_snr(torch.tensor(log_snr_grid(schedule, 20)[:-1]))
    assert levels.diff().max() - levels.diff().min() < 1e-6
    r = (-schedule.log_snr(torch.tensor(karras_grid(schedule, 20)[:-1])) / 2).exp() ** (1 / 7)
    assert r.diff().max() - r.diff().min() < 1e-6
    roots = torch.tensor(quadratic_grid(schedule, 20)).sqrt()
    torch.testing.assert_close(roots.diff(), torch.full((20,), -1 / 20))


@pytest.mark.parametrize("grid", [linspace_grid, log_snr_grid, karras_grid])
def test_two_times_are_the_last_noise_level_and_the_first(grid):
    assert grid(linear(), 2) == [1000, 1, 0]
    assert grid(VPLinear(), 2) == pytest.approx([1, 0.001, 0])


def test_the_leading_grid_never_reaches_the_last_level():
    assert leading_grid(linear(), 10) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_refuse_what_is_no_number_of_steps(grid):
    with pytest.raises(ValueError, match="n: wanted 1 … 40, as many as the schedule has steps, got 41"):
        grid(DISCRETE, 41)
    with pytest.raises(ValueError, match="n: wanted 1"):
        grid(VE(), 0)
    if grid is karras_grid:
        with pytest.raises(ValueError, match="rho: wanted a number in"):
            karras_grid(DISCRETE, 5, rho=0)


@pytest.mark.slow(5)
@pytest.mark.parametrize("schedule", [linear(), cosine(), linear(100, 1e-3, 0.2)], ids=["linear", "cosine", "short"])
@pytest.mark.parametrize("make", [log_snr_grid, karras_grid])
def test_grids_by_noise_level_come_down_to_the_first_level_whatever_rounding_says(make, schedule):
    for n in range(2, 100):
        assert make(schedule, n)[-2:] == [1, 0], n
