"""The tasks of networks that jump, against a world whose flow is a closed form: one Gaussian."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from course_utils import recipes, run_folder
from course_utils.denoisers import Denoiser
from course_utils.losses import energy_distance, pseudo_huber
from course_utils.paths import draw_paths
from course_utils.pretrained import load_denoiser
from course_utils.runs import Training
from course_utils.samplers import sample_ddim, sample_dpmpp_2m, uniform_grid
from course_utils.schedules import FlowMatching, VPLinear, linear
from course_utils.tasks import Consistency, Jumping, MeanFlow, Reflow
from course_utils.tasks.distillation import _jumped
from course_utils.tensors import broadcast

FLOW, M, S = FlowMatching(), 0.7, 0.4
DATA_DEVIATION = math.sqrt(S)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


class ExactJump(nn.Module):
    """The guess with which every jump is exact, for data N(M, S); moved by `wrong`, a weight."""

    def __init__(self, schedule, wrong=0.0):
        super().__init__()
        self.schedule, self.wrong = schedule, nn.Parameter(torch.tensor(wrong, dtype=torch.float64))

    def end(self, x_t, t, r):
        (alpha_t, sigma_t), (alpha_r, sigma_r) = self.schedule.coeffs(t), self.schedule.coeffs(r)
        widths = ((alpha_r**2 * S + sigma_r**2) / (alpha_t**2 * S + sigma_t**2)).sqrt()
        return broadcast(alpha_r, x_t) * M + broadcast(widths, x_t) * (x_t - broadcast(alpha_t, x_t) * M)

    def forward(self, x_t, t, *, r=None, label=None):
        t, r = torch.as_tensor(t), torch.as_tensor(t if r is None else r)
        (alpha_t, sigma_t), (alpha_r, sigma_r) = self.schedule.coeffs(t), self.schedule.coeffs(r)
        kept = sigma_r / sigma_t
        divisor = alpha_r - kept * alpha_t  # 0 for a jump of no length, whose guess is E[x_0 | x_t]
        here = M + broadcast(alpha_t * S / (alpha_t**2 * S + sigma_t**2), x_t) * (x_t - broadcast(alpha_t, x_t) * M)
        safe = torch.where(divisor.abs() > 1e-12, divisor, 1.0)
        there = (self.end(x_t, t, r) - broadcast(kept, x_t) * x_t) / broadcast(safe, x_t)
        guess = torch.where(broadcast((divisor.abs() > 1e-12).double(), x_t) > 0, there, here)
        clean = broadcast((sigma_t == 0).double(), x_t) > 0
        return torch.where(clean, x_t, guess) + self.wrong * broadcast(sigma_t, x_t) * (1 + x_t.tanh())


def run_of(model, step=0):
    run = Training(model, precision=torch.float32)
    run.step = step
    return run


def data(n=64):
    return M + DATA_DEVIATION * normal(n, 3)


# --- consistency -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [FLOW, VPLinear(), linear()], ids=repr)
def test_the_exact_map_is_consistent_up_to_the_teachers_own_error(schedule):
    """One step of DDIM errs by h², so with twice as many steps a fourth of the loss is left."""
    exact, losses = ExactJump(schedule), []
    for steps in (20, 40, 80):
        task = Consistency(teacher=exact, steps=steps)
        with torch.no_grad():
            found, t = task(run_of(exact), data(4000), None, stream())
        losses.append(found.mean().item())
        assert t.min() > 0
        assert len(t.unique()) == steps
    assert losses[0] < 0.03
    assert losses[1] < losses[0] / 2.5
    assert losses[2] < losses[1] / 2


def test_a_wrong_map_is_not_consistent():
    exact, wrong = ExactJump(FLOW), ExactJump(FLOW, wrong=0.3)
    with torch.no_grad():
        right = Consistency(teacher=exact, steps=50)(run_of(exact), data(), None, stream())[0].mean()
        worse = Consistency(teacher=exact, steps=50)(run_of(wrong), data(), None, stream())[0].mean()
    assert worse > 5 * right


def test_the_target_of_consistency_has_no_gradient_and_is_what_is_written():
    model, x_0 = ExactJump(FLOW, wrong=0.3), data()
    loss, t = Consistency(steps=10)(run_of(model), x_0, None, stream())
    (gradient,) = torch.autograd.grad(loss.sum(), model.wrong)
    # by hand: the same draws, the same noise at both times, and only f(x_t) moves
    generator = stream()
    grid = torch.tensor(uniform_grid(FLOW, 10))
    i = torch.randint(10, (len(x_0),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
    later, earlier = grid[i], grid[i + 1]
    assert torch.equal(later, t)
    x_t, x_r = ((1 - time)[:, None] * x_0 + time[:, None] * eps for time in (later, earlier))
    target = model(x_r, earlier, r=0.0).detach()
    wanted = pseudo_huber(model(x_t, later, r=0.0), target)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), model.wrong)[0])


def test_the_last_step_of_consistency_ends_on_the_image_itself():
    """steps = 1: the target is x_0, whatever the weights are, since f(x, 0) = x."""
    model = load_denoiser("mnist-unet")
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        network.last.bias += 100
    told = Denoiser(network, FLOW, "v", model.data_mean, model.data_std)
    x = normal(2, 1, 28, 28).float()
    torch.testing.assert_close(told(x, torch.zeros(2)), x, rtol=0, atol=1e-6)


def test_the_number_of_steps_doubles_up_to_its_most():
    task, model = Consistency(steps=4, doubling=10, most=16), ExactJump(FLOW)
    for step, steps in [(0, 4), (9, 4), (10, 8), (25, 16), (1000, 16)]:
        _, t = task(run_of(model, step), data(2000), None, stream())
        assert len(t.unique()) == steps
    assert len(Consistency(steps=4)(run_of(model, 1000), data(500), None, stream())[1].unique()) == 4


# --- mean flow -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", [0.0, 0.5])
def test_the_exact_mean_velocity_fulfils_the_identity(same):
    """u = v - (t - r) du/dt with v the marginal velocity: nothing is left, whatever t and r."""
    exact = ExactJump(FLOW)
    loss, t = MeanFlow(teacher=exact, same=same)(run_of(exact), data(500), None, stream())
    assert loss.max() < 1e-4 * 1e-3  # errors below 1e-5, over c = 1e-3
    assert 0.001 <= t.min() < t.max() < 1


def test_without_t_minus_r_or_with_another_velocity_the_identity_fails():
    exact, wrong = ExactJump(FLOW), ExactJump(FLOW, wrong=0.3)
    for model, teacher in [(wrong, exact), (exact, wrong), (exact, None)]:
        loss, _ = MeanFlow(teacher=teacher, same=0.0)(run_of(model), data(500), None, stream())
        assert loss.mean() > 0.5


def test_the_target_of_mean_flow_has_no_gradient_and_its_derivative_is_along_the_path():
    model, x_0 = ExactJump(FLOW, wrong=0.3), data(40)
    loss, t = MeanFlow(same=0.0)(run_of(model), x_0, None, stream())
    (gradient,) = torch.autograd.grad(loss.sum(), model.wrong)
    generator = stream()
    two, _ = torch.rand(2, 40, generator=generator), torch.rand(40, generator=generator)
    later, earlier = 0.001 + 0.998 * two.amax(0), 0.001 + 0.998 * two.amin(0)
    assert torch.equal(later, t)
    eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
    v, (t, r) = eps - x_0, (later.double(), earlier.double())

    def u(x, time):
        return (x - model(x, time, r=r)) / time[:, None]

    x_t, h = (1 - t)[:, None] * x_0 + t[:, None] * eps, 1e-5
    with torch.no_grad():  # central differences, along the line on which x_t moves
        dudt = (u(x_t + h * v, t + h) - u(x_t - h * v, t - h)) / (2 * h)
    target = v - (t - r)[:, None] * dudt
    squared = (u(x_t, t) - target).square().mean(1)
    wanted = squared / (squared.detach() + 1e-3)
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), model.wrong)[0], rtol=1e-4, atol=1e-6)


def test_mean_flow_wants_the_straight_path():
    with pytest.raises(TypeError, match="wanted a model on the straight path"):
        MeanFlow()(run_of(ExactJump(VPLinear())), data(), None, stream())


def test_mean_flow_differentiates_the_shipped_network():
    """Forward mode through its convolutions, norms and written-out attention: against a difference quotient."""
    net = load_denoiser("mnist-unet").double()
    straight = Denoiser(net.network, FLOW, "v", net.data_mean, net.data_std)
    x, v, t = normal(1, 1, 28, 28), normal(1, 1, 28, 28, seed=1), torch.tensor([0.6], dtype=torch.float64)
    _, found = torch.func.jvp(straight, (x, t), (v, torch.ones_like(t)))
    h = 3e-4  # the embedding of the log-SNR is float32
    quotient = (straight(x + h * v, t + h) - straight(x - h * v, t - h)) / (2 * h)
    assert (found - quotient).norm() < 0.05 * found.norm()


# --- paths and pairs -------------------------------------------------------------------------------------------------


def test_reflow_is_flow_matching_on_the_given_pairs():
    model, pairs = ExactJump(FLOW, wrong=0.1), torch.stack([normal(50, 3), normal(50, 3, seed=1)], 1)
    loss, t = Reflow()(run_of(model), pairs, None, stream())
    eps, x_0 = pairs.unbind(1)
    time = t.double()[:, None]
    x_t = (1 - time) * x_0 + time * eps
    u_hat = (x_t - model(x_t, t.double())) / time
    torch.testing.assert_close(loss, (u_hat - (eps - x_0)).square().mean(1), rtol=1e-5, atol=1e-6)


def test_the_exact_map_fits_exact_paths_from_every_state():
    times, model = (1.0, 0.7, 0.2, 0.0), ExactJump(FLOW)
    x_1 = normal(500, 3)
    paths = torch.stack([model.end(x_1, torch.tensor(1.0), torch.tensor(t)) for t in times], 1)
    loss, t = Jumping(times=times, whole=0.5)(run_of(model), paths, None, stream())
    assert loss.max() < 1e-12
    shares = [(t == time).double().mean().item() for time in torch.tensor(times)]
    for share, wanted in zip(shares, (0.5, 0.25, 0.25, 0.0), strict=True):
        assert abs(share - wanted) < 5 * math.sqrt(0.25 / 500) * (wanted > 0) + 1e-9
    assert Jumping(times=(1.0, 0.0))(run_of(model), paths[:, [0, -1]], None, stream())[1].unique().tolist() == [1.0]


def test_the_energy_distance_is_its_definition_and_vanishes_on_average():
    a, b = normal(6, 2), normal(6, 2, seed=1) + 1

    def apart(p, q):
        return sum((p[i] - q[j]).norm() for i in range(6) for j in range(6) if i != j) / 30

    torch.testing.assert_close(energy_distance(a, b), 2 * apart(a, b) - apart(a, a) - apart(b, b), rtol=1e-4, atol=1e-4)
    alike = torch.stack([energy_distance(normal(30, 2, seed=k), normal(30, 2, seed=k + 500)) for k in range(300)])
    assert abs(alike.mean()) < 5 * alike.std() / math.sqrt(300)
    assert energy_distance(a, b) > 5 * alike.std()


def test_jumps_are_those_of_ddim():
    schedule, x = linear(), normal(2, 3)
    ends = sample_ddim(lambda x_t, t: x_t.tanh(), x, schedule, [700, 300])
    t, r = torch.tensor([700, 700]), torch.tensor([300, 300])
    torch.testing.assert_close(_jumped(x, x.tanh(), t, r, schedule), ends)


def test_paths_end_where_the_sampler_does_and_more_of_them_are_the_same_and_others():
    schedule, grid = linear(), [1000, 400, 0]

    def denoise(x_t, t, label):
        return x_t.tanh() + label[:, None] / 10

    pool = torch.arange(10)
    paths, classes = draw_paths(denoise, schedule, 1300, (3,), grid, labels=pool, seed=5)
    assert paths.shape == (1300, 3, 3)
    ends = sample_dpmpp_2m(denoise, paths[:, 0].float(), schedule, grid, label=classes)
    torch.testing.assert_close(paths[:, -1].float(), ends, rtol=1e-2, atol=5e-3)  # float16
    more, more_classes = draw_paths(denoise, schedule, 2000, (3,), grid, labels=pool, seed=5)
    assert torch.equal(more[:1000], paths[:1000])
    assert torch.equal(more_classes[:1000], classes[:1000])
    assert not torch.equal(more[1000:1300], more[:300])
    counts = more_classes.bincount(minlength=10).double()
    assert ((counts - 200).square() / 200).sum() < 27.9  # chi squared, 9 degrees, one in a thousand


def test_a_recipe_may_learn_from_paths_and_begin_with_a_shipped_network(tmp_path):
    recipe = dataclasses.replace(
        recipes.RECIPES["mnist-onestep"],
        paths={"of": "mnist-unet", "n": 4, "steps": 2, "guidance": 1.3, "seed": 0},
        task={"kind": "jumping", "times": (1000, 500, 0)},
        frozen={"eyes": "mnist-eyes"},
        steps=1,
        batch_size=2,
    )
    run, teacher = run_folder.begin(recipe, tmp_path), load_denoiser("mnist-unet")
    x, label = normal(2, 1, 28, 28).float(), torch.tensor([3, -1])
    with torch.no_grad():
        torch.testing.assert_close(run.model(x, 700, r=0, label=label), teacher(x, 700, label=label))
    assert all(torch.equal(run.ema.weights[name], value) for name, value in teacher.state_dict().items())
    paths, classes = recipes.load_data(recipe)
    assert paths.shape == (4, 3, 1, 28, 28)
    (record,) = run_folder.train_recipe(run, recipe, (paths, classes), tmp_path)
    assert math.isfinite(record.loss)
    assert recipes.settings_of(recipes.recipe_from(recipes.settings_of(recipe))) == recipes.settings_of(recipe)


def test_what_a_training_costs_is_counted_in_network_calls(monkeypatch):
    """A step counts as three calls an image; the paths are those that the teacher is really asked for."""
    asked = 0

    class Counting(torch.nn.Module):
        schedule = linear()

        def forward(self, x_t, t, label=None):
            nonlocal asked
            asked += len(x_t)
            return x_t.tanh()

    monkeypatch.setattr("course_utils.pretrained.load_denoiser", lambda name, device: Counting())
    for guidance in (1.0, 1.3):
        paths = {"of": "mnist-unet", "n": 4, "steps": 3, "guidance": guidance, "seed": 0}
        recipe = dataclasses.replace(recipes.RECIPES["mnist-onestep"], paths=paths, steps=5, batch_size=2)
        asked = 0
        recipes.load_data(recipe)
        assert recipe.calls == 3 * 5 * 2 + asked
    assert recipes.RECIPES["mnist-unet"].calls == 3 * 47_000 * 64
