"""Step selection: what a jump costs, the cheapest path, and times learned through the sampler."""

import itertools
import math
import time

import pytest
import torch

from course_utils import variational
from course_utils.denoisers import Denoiser, UNet
from course_utils.forward import noise_like, q_sample
from course_utils.samplers import (
    quadratic_grid,
    sample_ddim,
    sample_dpmpp_2m,
    sample_heun,
    step_selection,
    uniform_grid,
)
from course_utils.samplers.step_selection import (
    ContinuousTwin,
    best_path,
    best_paths,
    cost_matrix,
    end_point,
    greedy_path,
    in_continuous_time,
    learn_times,
    measure,
    path_cost,
    prune,
    to_logits,
    to_times,
)
from course_utils.schedules import FlowMatching, VPLinear, cosine, linear, rescale_zero_terminal_snr
from course_utils.toy import Gaussian, GaussianMixture

T = 9
SHORT = linear(T, 1e-2, 0.5)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_costs(seed, T=T):
    """Any numbers: no bound, no triangle inequality."""
    costs = draw(T + 1, T + 1, seed=seed)
    return costs.masked_fill(torch.ones_like(costs).triu().bool(), math.inf)


def all_paths(T, n):
    for inner in itertools.combinations(range(T - 1, 0, -1), n - 1):
        yield [T, *inner, 0]


def gaussian_costs(schedule, variances, variance="optimal"):
    """The exact matrix of Gaussian data with these variances; the decoder is a density, with the same variance."""
    alpha, sigma = schedule.coeffs(torch.arange(1, schedule.T + 1))
    S = torch.as_tensor(variances, dtype=torch.float64)
    errors = (S * sigma[:, None] ** 2 / (alpha[:, None] ** 2 * S + sigma[:, None] ** 2)).mean(1)
    v = errors if variance == "optimal" else sigma**2
    decoder = len(S) / 2 * ((2 * math.pi * v).log() + errors / v)
    return cost_matrix(errors, decoder, schedule, len(S), variance=variance)


def two_points_costs(schedule, spread=0.0):
    """The same for two equal spots at -1 and 1 on a line, whose errors are integrals; done by the trapezium rule."""
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    world = GaussianMixture(torch.tensor([[-1.0], [1.0]]).double(), spread**2)
    errors = []
    for t in range(1, schedule.T + 1):
        alpha, sigma = schedule.coeffs(t)
        y = (alpha**2 * spread**2 + sigma**2).sqrt() * x  # fine where the spots are narrow
        y = torch.cat([y - alpha, y + alpha]).sort(0).values
        r = world.responsibilities(y, t, schedule)
        within = spread**2 * sigma**2 / (alpha**2 * spread**2 + sigma**2)
        shrink = sigma**2 / (alpha**2 * spread**2 + sigma**2)  # how far apart the two guesses are, of 2
        var = within + 4 * shrink**2 * r[:, 0] * r[:, 1]
        errors.append(torch.trapezoid(var * world.log_prob(y, t, schedule).exp(), y[:, 0]).item())
    errors = torch.tensor(errors, dtype=torch.float64)
    return cost_matrix(errors, 0.5 * (2 * math.pi * math.e * errors).log(), schedule, 1), errors


# --- what a jump costs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [SHORT, cosine(T)], ids=["linear", "cosine"])
@pytest.mark.parametrize("variance", ["posterior", "optimal"])
def test_the_matrix_is_the_bound_jump_by_jump(schedule, variance):
    x_0 = draw(5, 1, 3, 3).clamp(-1, 1)
    guesses = {t: x_0 + 0.1 * t * draw(5, 1, 3, 3, seed=t) for t in range(1, T + 1)}  # of no denoiser: any will do
    errors = {t: (guesses[t] - x_0).square().mean().item() for t in guesses}
    step = variational.posterior_variance if variance == "posterior" else variational.optimal_variance(errors)

    def jump(t, s):
        x_t = q_sample(x_0, t, schedule, draw(5, 1, 3, 3, seed=100 + t))
        return variational.jump_cost(x_0, guesses[t], x_t, t, s, schedule, step).mean().item()

    decoder = torch.tensor([jump(t, 0) for t in range(1, T + 1)], dtype=torch.float64)
    costs = cost_matrix(
        torch.tensor(list(errors.values()), dtype=torch.float64), decoder, schedule, 9, variance=variance
    )
    for t in range(T + 1):
        for s in range(T + 1):
            assert costs[t, s] == math.inf if s >= t else math.isclose(costs[t, s], jump(t, s), rel_tol=1e-8)


@pytest.mark.slow
def test_a_path_and_the_prior_are_the_whole_bound():
    """`measure` and `cost_matrix` against `variational.bound`, which draws noise of its own for every step."""
    schedule, world = linear(40, 1e-3, 0.3), GaussianMixture(torch.tensor([[-0.6, 0.2], [0.5, -0.3]]), 0.05)
    x_0 = world.sample(20_000, torch.Generator().manual_seed(0))
    x_0 = ((x_0.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1  # 8 bits
    denoise = world.denoiser(schedule)
    for name in ("posterior", "optimal"):
        found = measure(denoise, x_0, schedule, range(1, 41), variance=name, generator=torch.Generator().manual_seed(1))
        costs = cost_matrix(found.errors, found.decoder, schedule, 2, variance=name)
        step = variational.posterior_variance if name == "posterior" else found.variance
        for grid in ([40, 0], [40, 25, 11, 3, 0], list(range(40, -1, -1))):
            generator = torch.Generator().manual_seed(2)
            nats = variational.bound(denoise, x_0, schedule, grid, variance=step, generator=generator).total
            mine = path_cost(costs, grid) + variational.prior_kl(x_0, schedule).mean().item()
            # The same images, other noise: both means wander, each by its standard error.
            assert abs(mine - nats.mean()) < 6 * nats.std() / len(nats) ** 0.5, (name, grid)


@pytest.mark.slow
def test_between_the_measured_times_the_errors_are_interpolated():
    schedule = linear(200, 1e-3, 0.1)
    world = Gaussian(torch.zeros(4), 0.2)
    x_0 = ((world.sample(4000, torch.Generator().manual_seed(0)).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    runs = [
        measure(world.denoiser(schedule), x_0, schedule, times, generator=torch.Generator().manual_seed(1))
        for times in (range(1, 201), sorted({1, *quadratic_grid(schedule, 40)[:-1]}))
    ]
    for every, some in zip(*runs, strict=True):
        torch.testing.assert_close(some, every, rtol=0.01, atol=0)
        assert not torch.equal(some, every)
    alpha, sigma = schedule.coeffs(torch.arange(1, 201))
    exact = 0.2 * sigma**2 / (0.2 * alpha**2 + sigma**2)
    torch.testing.assert_close(runs[0].errors, exact, rtol=0.08, atol=1e-5)  # 8 bits, and clipped


def test_one_gaussian_costs_its_entropy_on_every_path():
    schedule = rescale_zero_terminal_snr(linear(T, 1e-2, 0.4))  # so that the prior costs nothing
    costs = gaussian_costs(schedule, [0.3] * 4)
    entropy = 2 * math.log(2 * math.pi * math.e * 0.3)
    for n in range(1, T + 1):
        for grid in all_paths(T, n):
            assert math.isclose(path_cost(costs, grid), entropy, rel_tol=1e-10)


def test_the_optimal_variance_never_costs_more():
    schedule = linear(T, 1e-2, 0.4)
    optimal, posterior = (gaussian_costs(schedule, [0.01, 0.5, 1.0], v) for v in ("optimal", "posterior"))
    allowed = optimal.isfinite()
    assert (optimal[allowed] <= posterior[allowed] + 1e-12).all()
    assert (optimal[allowed] < posterior[allowed] - 1e-3).any()


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_is_that_of_brute_force(seed):
    costs = random_costs(seed)
    for n, path in enumerate(best_paths(costs, T), start=1):
        cheapest = min(all_paths(T, n), key=lambda grid: path_cost(costs, grid))
        assert path.timesteps == cheapest
        assert math.isclose(path.cost, path_cost(costs, cheapest), rel_tol=1e-12)
        assert best_path(costs, n) == path


def test_at_n_equal_T_there_is_one_path_and_it_is_the_whole_bound():
    costs = random_costs(0)
    whole = sum(costs[t, t - 1].item() for t in range(1, T + 1))
    for path in (best_path(costs, T), greedy_path(costs, T)):
        assert path.timesteps == list(range(T, -1, -1))
        assert math.isclose(path.cost, whole, rel_tol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.1], ids=["two points", "two spots"])
def test_with_the_optimal_variance_and_an_exact_denoiser_more_steps_never_cost_more(spread):
    schedule = linear(60, 0.03, 0.2)
    costs, errors = two_points_costs(schedule, spread)
    # what makes it true: 1 / mse rises at least as fast as the SNR, with equality for a Gaussian alone
    snr = schedule.log_snr(torch.arange(1, 61)).exp()
    seen = errors > 1e-8  # below, the integral is rounding
    assert ((1 / errors - snr)[seen].diff() <= 1e-6).all()
    totals = torch.tensor([path.cost for path in best_paths(costs, 60)])
    assert (totals.diff() <= 1e-9).all()
    assert totals[0] > totals[7] + 0.1  # and eight steps are worth having


def test_with_the_posterior_variance_more_steps_can_cost_more():
    schedule = rescale_zero_terminal_snr(linear(T, 1e-2, 0.4))
    costs = gaussian_costs(schedule, [1.0], "posterior")  # N(0, 1), which one step draws exactly
    totals = [path.cost for path in best_paths(costs, T)]
    assert math.isclose(totals[0], 0.5 * math.log(2 * math.pi * math.e), rel_tol=1e-10)  # the entropy
    assert all(more > fewer + 1e-6 for fewer, more in itertools.pairwise(totals))
    grid = [T, 5, 0]
    _, sigma = schedule.coeffs(torch.tensor([T, 5]))
    r = (sigma[0] / sigma[1]).item() ** 2  # the closed form of lesson 13: what one stop costs more
    assert math.isclose(path_cost(costs, grid) - totals[0], (r - 1 - math.log(r)) / 2, rel_tol=1e-9)


def test_greedy_paths_are_nested_removals_and_no_better_than_the_best():
    costs = gaussian_costs(linear(30, 1e-3, 0.3), [0.001, 0.03, 0.3, 1.0])
    paths = [greedy_path(costs, n) for n in range(1, 31)]
    for n, (fewer, more) in enumerate(itertools.pairwise(paths), start=1):
        assert set(fewer.timesteps) < set(more.timesteps)
        removals = [[t for t in more.timesteps if t != out] for out in more.timesteps[1:-1]]
        assert math.isclose(fewer.cost, min(path_cost(costs, grid) for grid in removals), rel_tol=1e-12)
        assert best_path(costs, n).cost <= fewer.cost + 1e-12
    assert any(best_path(costs, n).cost < paths[n - 1].cost - 1e-4 for n in range(2, 10))  # greed costs something


def test_pruning_by_the_path_cost_is_the_greedy_path():
    costs = gaussian_costs(SHORT, [0.001, 0.03, 0.3, 1.0])
    for n in range(1, T + 1):
        assert prune(range(T, -1, -1), lambda grid: path_cost(costs, grid), n) == greedy_path(costs, n).timesteps


def test_all_lengths_up_to_64_of_a_thousand_steps_in_a_few_times_what_64_rounds_of_sums_take():
    costs = gaussian_costs(linear(), [0.001, 0.03, 0.3, 1.0])
    marks = [time.process_time()]  # of this process alone, so that a busy machine counts no more than an idle one
    for _ in range(64):
        (costs + costs[0]).min(dim=1)
    marks.append(time.process_time())
    paths = best_paths(costs, 64)
    marks.append(time.process_time())
    assert marks[2] - marks[1] < 10 * (marks[1] - marks[0])  # a loop in Python would take a thousand times as long
    assert [len(path.timesteps) for path in paths] == list(range(2, 66))
    assert math.isclose(paths[-1].cost, path_cost(costs, paths[-1].timesteps), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: best_path(random_costs(0), T + 1), "n: wanted 1 … 9"),
        (lambda: greedy_path(random_costs(0), T + 1), "n: wanted 1 … 9"),
        (lambda: best_path(random_costs(0) * math.nan, 2), r"costs: wanted numbers in \(-inf, inf\], got nan"),
        (lambda: path_cost(random_costs(0), [0, T]), "falling"),
        (lambda: cost_matrix(-torch.ones(T), torch.ones(T), SHORT, 1), r"errors: wanted numbers in \[0, inf\), got -1"),
        (
            lambda: cost_matrix(torch.ones(T) * math.inf, torch.ones(T), SHORT, 1),
            r"errors: wanted numbers in \[0, inf\), got inf",
        ),
        (lambda: cost_matrix(torch.ones(T), torch.ones(T), SHORT, 1, variance="beta"), "variance: wanted one of"),
        (
            lambda: measure(lambda x, t: x, torch.zeros(1, 1), SHORT, [1, 2, 5]),
            r"timesteps: wanted times from 1 to 9.*\[1, 2, 5\] … \[5\]",
        ),
        (lambda: ContinuousTwin(rescale_zero_terminal_snr(SHORT)), "alpha_bar"),
        (lambda: end_point(lambda x, t: x, torch.zeros(1, 1), VPLinear(), torch.tensor([1.0, 0]), order=3), "order"),
    ],
)
def test_errors_say_what_was_wanted(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# --- times as parameters ---------------------------------------------------------------------------------------------

VP = VPLinear()
WORLD = GaussianMixture(torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.2, -1.2]]).double(), 0.1**2)


def test_the_twin_agrees_at_whole_times_and_falls_between_them():
    schedule = linear()
    twin, t = ContinuousTwin(schedule), torch.arange(1001)
    for mine, theirs in zip(twin.coeffs(t.double() / 1000), schedule.coeffs(t), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    fine = torch.linspace(0, 1, 30_001, dtype=torch.float64)
    alpha, sigma = twin.coeffs(fine)
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=0, atol=1e-12)
    t = torch.tensor(0.31415, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(twin.coeffs, (t,))


def test_a_network_cannot_tell_its_twin_schedule_from_its_own():
    torch.manual_seed(0)
    denoiser = Denoiser(UNet(1, (8, 16), 1, num_classes=3), linear(), "v", -0.5, 0.6).eval()
    for p in denoiser.parameters():
        p.data += 0.02 * torch.randn(p.shape)  # the last layer starts at zero
    x_t, label = draw(2, 1, 8, 8).float(), torch.tensor([0, 2])
    twin = in_continuous_time(denoiser)
    for t in (1, 250, 1000):
        torch.testing.assert_close(
            twin(x_t, t / 1000, label=label), denoiser(x_t, t, label=label), rtol=1e-4, atol=1e-5
        )
    assert twin.network is denoiser.network
    assert in_continuous_time(twin) is twin


def test_times_and_logits_are_each_others_inverse():
    for n in (1, 2, 8, 32):
        grid = quadratic_grid(VP, n)
        torch.testing.assert_close(
            to_times(to_logits(grid)), torch.tensor(grid, dtype=torch.float64), rtol=1e-12, atol=0
        )
    discrete = torch.tensor(quadratic_grid(linear(), 8)).double()
    torch.testing.assert_close(to_times(to_logits(discrete.int().tolist())), discrete / 1000, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [0.1, 3.0, 20.0])
def test_times_fall_from_one_to_zero_whatever_the_logits(scale):
    for seed in range(20):
        times = to_times(scale * draw(12, seed=seed))
        assert times[0] == 1
        assert times[-1] == 0
        assert (times.diff() <= 0).all()
        assert (times.diff() < 0).all() or scale > 10  # gaps below 1e-16 of the whole vanish


@pytest.mark.parametrize(("order", "sampler"), [(1, sample_ddim), (2, sample_dpmpp_2m)])
@pytest.mark.parametrize("schedule", [VP, ContinuousTwin(linear())], ids=["VP", "twin"])
def test_the_end_point_is_the_samplers(order, sampler, schedule):
    x_T, denoise = draw(6, 2), WORLD.denoiser(schedule)
    for n in (1, 2, 5, 10):
        grid = quadratic_grid(schedule, n)
        mine = end_point(denoise, x_T, schedule, torch.tensor(grid, dtype=torch.float64), order=order)
        torch.testing.assert_close(mine, sampler(denoise, x_T, schedule, grid), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("schedule", [VP, FlowMatching()], ids=["VP", "flow"])  # the second begins in pure noise
def test_the_gradient_is_that_of_finite_differences(order, schedule):
    x_T, target = draw(3, 2), draw(3, 2, seed=1)

    def loss(logits):
        end = end_point(WORLD.denoiser(schedule), x_T, schedule, to_times(logits), order=order)
        return (end - target).square().sum()

    assert torch.autograd.gradcheck(loss, (draw(5, seed=2).requires_grad_(True),), rtol=1e-4, atol=1e-5)


def test_the_gradient_goes_through_what_a_network_is_told_of_the_time():
    network = UNet(1, (8, 16), blocks=1, attention=())
    with torch.no_grad():  # its last layers begin at zero, and would hear nothing
        for k, weight in enumerate(network.parameters()):
            weight.copy_(0.3 * draw(*weight.shape, seed=k))
    denoise = in_continuous_time(Denoiser(network, linear()).double())
    x_T, middle = draw(2, 1, 8, 8), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def loss(t):
        times = torch.stack([torch.ones_like(t), t, torch.zeros_like(t)])
        return end_point(denoise, x_T, denoise.schedule, times).square().mean()

    loss(middle).backward()
    h = 1e-4  # the network hears the log-SNR in float32
    slope = (loss(middle.detach() + h) - loss(middle.detach() - h)) / (2 * h)
    torch.testing.assert_close(middle.grad, slope, rtol=0.02, atol=0)


def test_the_scale_of_the_loss_on_its_way_back_changes_nothing(monkeypatch):
    def learned():
        noises, ends = draw(4, 2), draw(4, 2, seed=1)
        return [*learn_times(WORLD.denoiser(VP), noises, ends, VP, uniform_grid(VP, 4), steps=3)]

    scaled = learned()
    monkeypatch.setattr(step_selection.times, "SCALE", 1.0)
    assert learned() == scaled


def test_a_grid_that_would_become_another_one_is_refused():
    noise = draw(2, 2)
    with pytest.raises(ValueError, match=r"timesteps: wanted a grid that ends at 0, got 1\.0 … 0\.1"):
        to_logits([1.0, 0.5, 0.1])
    with pytest.raises(ValueError, match=r"timesteps: wanted a grid from 1 to 0, got 0\.9"):
        next(learn_times(WORLD.denoiser(VP), noise, noise, VP, [0.9, 0.5, 0.0], steps=1))
    with pytest.raises(ValueError, match=r"n: wanted 1 … 2, as many steps as the grid has, got 5"):
        prune([10, 5, 0], len, 5)


def test_conditions_reach_the_denoiser_with_their_noises():
    means = torch.tensor([[-1.0], [1.0]]).double()

    def denoise(x, t, *, label):
        return means[label] + 0 * x

    label = torch.tensor([0, 1, 1, 0, 1])
    records = learn_times(
        denoise,
        draw(5, 1),
        means[label],
        VP,
        [1.0, 0.5, 0.0],
        steps=3,
        batch_size=2,
        generator=torch.Generator().manual_seed(0),
        label=label,
    )
    assert [record.loss for record in records] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_learning_finds_the_best_inner_time_of_a_gaussian(order):
    """Two steps have one free time; on a Gaussian the loss is a curve in it, whose minimum a fine scan finds."""
    world, x_T = Gaussian(torch.zeros(1).double(), 0.2**2), draw(64, 1)
    denoise = world.denoiser(VP)
    target = 0.2 * x_T  # the flow's exact end, but for alpha_1 = 0.0066
    scan = torch.linspace(0.02, 0.9, 881, dtype=torch.float64)

    def loss(u):
        return (end_point(denoise, x_T, VP, torch.tensor([1, u, 0]).double(), order=order) - target).square().mean()

    best = scan[torch.stack([loss(u) for u in scan]).argmin()].item()
    assert 0.05 < best < 0.85
    for start in (0.8, 0.1):
        *_, last = learn_times(denoise, x_T, target, VP, [1.0, start, 0.0], steps=200, lr=0.1, order=order)
        assert abs(last.timesteps[1] - best) < 0.005


@pytest.mark.slow
def test_a_learned_grid_beats_fixed_ones_on_noises_it_has_not_seen():
    n, denoise = 5, GaussianMixture(WORLD.means, 0.3**2).denoiser(VP)  # wide enough that few end on another spot
    learn_on, judge_on = draw(64, 2), draw(2000, 2, seed=1)
    teacher = [sample_heun(denoise, x, VP, quadratic_grid(VP, 200)) for x in (learn_on, judge_on)]
    start = quadratic_grid(VP, n)
    *_, last = learn_times(denoise, learn_on, teacher[0], VP, start, steps=100, lr=0.1, order=1)
    assert all(t > s for t, s in itertools.pairwise(last.timesteps))

    def held_out(grid):
        return (sample_ddim(denoise, judge_on, VP, grid) - teacher[1]).square().mean().item()

    fixed = min(held_out(grid(VP, n)) for grid in (uniform_grid, quadratic_grid))
    assert held_out(last.timesteps) < 0.7 * fixed


def test_discrete_schedules_are_refused_where_times_must_move():
    with pytest.raises(TypeError, match="continuous"):
        next(learn_times(lambda x, t: x, draw(1, 1), draw(1, 1), SHORT, [1.0, 0.0], steps=1))


def test_pruning_towards_a_teacher_keeps_what_the_loss_wants():
    wanted = {10, 7, 3, 1, 0}

    def loss(grid):
        return float(len(wanted - set(grid)))

    assert set(prune(range(10, -1, -1), loss, 4)) == wanted


def test_noise_is_drawn_from_the_generator_alone():
    x_0 = torch.zeros(2, 1, 2, 2)
    state = torch.random.get_rng_state()
    runs = [
        measure(lambda x, t: 0.5 * x, x_0, SHORT, range(1, T + 1), generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    ]
    assert all(map(torch.equal, *runs))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(noise_like(x_0, torch.Generator().manual_seed(3)), noise_like(x_0, torch.Generator()))
