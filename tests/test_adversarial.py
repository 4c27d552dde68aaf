"""A generator and its critic: losses against exact densities, penalties against closed forms, networks side by side."""

import itertools
import math

import pytest
import torch
from torch import nn

from course_utils import metrics, toy
from course_utils.adversarial import (
    GAMES,
    DigitCritic,
    DigitGenerator,
    PointCritic,
    PointDenoiser,
    PointGenerator,
    Rivals,
    critic_loss,
    digit_rivals,
    generator_loss,
    gradient_penalty,
    point_rivals,
)
from course_utils.adversarial.networks import packed
from course_utils.leaderboard import duel_digits, duel_points
from course_utils.runs import Training
from course_utils.tasks import Adversarial
from course_utils.training import train


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LINE = torch.linspace(-9, 9, 6001, dtype=torch.float64)
STEP = (LINE[1] - LINE[0]).item()
P = toy.GaussianMixture(torch.tensor([[-1.0], [1.5]]).double(), 0.2)
Q = toy.GaussianMixture(torch.tensor([[0.3]]).double(), 1.5)


# ---------------------------------------------------------------- losses


def test_the_critics_loss_is_smallest_at_the_log_ratio_and_there_it_is_jensen_shannon() -> None:
    """Of exact densities: descend on a logit at each point of a line."""
    log_p, log_q = (law.log_prob(LINE[:, None]) for law in (P, Q))
    p, q, ratio = log_p.exp(), log_q.exp(), log_p - log_q
    here = (p + q) > 1e-6

    def value(f, game):
        if game == "relativistic":  # every real point with every made one
            return (p[:, None] * q * critic_loss(*torch.broadcast_tensors(f[:, None], f), game)).sum() * STEP**2
        real, fake = critic_loss(f, torch.full_like(f, -1e9), game), critic_loss(torch.full_like(f, 1e9), f, game)
        return ((p * real + q * fake)[here] * STEP).sum()

    for game in ("minimax", "non_saturating"):
        best = value(ratio, game)
        m = (p + q) / 2
        js = (torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).sum() * STEP / 2
        assert best.item() == pytest.approx(math.log(4) - 2 * js.item(), abs=1e-5)
        f = ratio.clone().requires_grad_()
        (slope,) = torch.autograd.grad(value(f, game), f)
        assert slope.abs().max() < 1e-12
        for push in (0.1 * LINE.sin(), torch.full_like(LINE, 0.2)):
            assert value(ratio + push, game) > best + 1e-4

    coarse = slice(None, None, 20)
    p, q, ratio = p[coarse], q[coarse], ratio[coarse]
    same = torch.zeros_like(ratio)
    assert value(ratio, "relativistic") < value(same, "relativistic")
    torch.testing.assert_close(
        value(ratio + 3.0, "relativistic"), value(ratio, "relativistic")
    )  # only differences count
    q = p
    assert value(ratio, "relativistic") > value(same, "relativistic")  # of equal laws nothing can be told


def test_where_the_generators_slope_vanishes() -> None:
    f = torch.tensor([-30.0, 0.0, 30.0], dtype=torch.float64, requires_grad=True)
    real = torch.zeros_like(f)
    slopes = {game: torch.autograd.grad(generator_loss(real, f, game).sum(), f)[0] for game in GAMES}
    torch.testing.assert_close(slopes["minimax"], -torch.sigmoid(f))
    torch.testing.assert_close(slopes["non_saturating"], -torch.sigmoid(-f))
    torch.testing.assert_close(slopes["relativistic"], -torch.sigmoid(real - f))
    assert slopes["minimax"][0].abs() < 1e-12
    assert slopes["non_saturating"][0] < -0.999


def test_the_non_saturating_generator_descends_on_reverse_kl_less_two_js() -> None:
    """Arjovsky & Bottou 2017, theorem 2.5, for a Gaussian that moves towards two humps."""

    def laws(theta):
        q = torch.exp(-((LINE - theta) ** 2) / 2) / math.sqrt(2 * math.pi)
        p = P.log_prob(LINE[:, None]).exp()
        return p.clamp(min=1e-300), q

    for value in (-1.0, 0.4, 2.5):
        theta = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        p, q = laws(theta)
        frozen = (p / q).log().detach()
        here = (q > 1e-14) & (p > 1e-200)
        loss = (q * generator_loss(frozen, frozen, "non_saturating"))[here].sum() * STEP
        (got,) = torch.autograd.grad(loss, theta)
        p, q = laws(theta)
        m = (p + q) / 2
        two_js = ((p * (p / m).log() + q * (q / m).log())[here]).sum() * STEP
        (want,) = torch.autograd.grad(((q * (q / p).log())[here]).sum() * STEP - two_js, theta)
        assert got.item() == pytest.approx(want.item(), rel=1e-4, abs=1e-5)


def test_the_penalty_of_a_linear_critic_is_its_weights_length_everywhere() -> None:
    w, x = normal(3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    penalty = gradient_penalty(x @ w, x)
    torch.testing.assert_close(penalty, w.square().sum().expand(5))
    torch.testing.assert_close(torch.autograd.grad(penalty.mean(), w)[0], 2 * w)


def test_the_penalty_of_a_packed_critic_is_over_its_whole_pack_and_the_mean_over_copies() -> None:
    critic = PointCritic(d=2, width=5, depth=2, copies=3, pack=2).double()
    x = normal(4, 3, 2).requires_grad_()
    answers = critic(x)
    assert answers.shape == (2, 3)
    by_hand = torch.zeros(2, dtype=torch.float64)
    for i, k in itertools.product(range(2), range(3)):
        (slope,) = torch.autograd.grad(answers[i, k], x, retain_graph=True)
        assert slope[2 * i : 2 * i + 2, k].square().sum() == slope.square().sum()  # of its own pack and copy alone
        by_hand[i] += slope.square().sum() / 3
    torch.testing.assert_close(gradient_penalty(answers, x), by_hand)


# ---------------------------------------------------------------- networks


def test_copies_know_nothing_of_each_other() -> None:
    torch.manual_seed(0)
    networks = [PointGenerator(copies=3), PointCritic(copies=3), PointDenoiser(copies=3)]
    x = normal(4, 3, 2).float().requires_grad_()
    for network, arguments in zip(networks, [(x,), (x,), (x, torch.zeros(4))], strict=True):
        out = network(*arguments)
        (slope,) = torch.autograd.grad(out[:, 1].sum(), x)
        assert slope[:, 1].abs().sum() > 0
        assert slope[:, [0, 2]].abs().max() == 0
        gradients = torch.autograd.grad(network(*arguments)[:, 1].sum(), list(network.parameters()))
        assert all(g[1].abs().sum() > 0 and g[[0, 2]].abs().max() == 0 for g in gradients)
    assert not torch.equal(networks[0].body.weights[1][0], networks[0].body.weights[1][1])


def test_a_copy_is_a_perceptron() -> None:
    network = PointGenerator(d=2, latent=3, width=7, depth=2, copies=2).double()
    z, h = normal(5, 2, 3), normal(5, 2, 3)[:, 1]
    weights, biases = network.body.weights, network.body.biases
    for i in range(3):
        h = (nn.functional.silu(h) if i else h) @ weights[i][1] + biases[i][1]
    torch.testing.assert_close(network(z)[:, 1], 10 * h)


def test_a_pack_holds_neighbouring_rows() -> None:
    points, images = normal(4, 3, 2), normal(4, 1, 28, 28)
    torch.testing.assert_close(packed(points, 2)[1, 2], torch.cat([points[2, 2], points[3, 2]]))
    torch.testing.assert_close(packed(images, 2)[0], torch.cat([images[0], images[1]]))
    with pytest.raises(ValueError, match="wanted a multiple of 3 rows to be judged together, got 4"):
        packed(points, 3)
    answers = DigitCritic(width=4, pack=2)(images.float())
    moved = images.float().clone()
    moved[3] += 1
    assert answers.shape == (2,)
    torch.testing.assert_close(DigitCritic(width=4)(images.float()).shape, torch.Size([4]))
    critic = DigitCritic(width=4, pack=2)
    assert (critic(moved) != critic(images.float())).tolist() == [False, True]


def test_a_generator_of_digits_fills_the_whole_picture() -> None:
    torch.manual_seed(0)
    made = DigitGenerator(latent=8, width=4)
    z = normal(3, 8).float()
    x = made(z)
    assert x.shape == (3, 1, 28, 28)
    assert x.abs().max() <= 1
    moved = z.clone()
    moved[1, 0] += 1
    assert ((made(moved) - x).abs().amax((1, 2, 3)) > 0).tolist() == [False, True, False]
    assert ((made(moved) - x)[1, 0].abs() > 0).all()


# ---------------------------------------------------------------- the task


def rivals(task_seed=0, **how) -> Training:
    torch.manual_seed(1)
    parts = {"critic": {"lr": 1e-3}, "generator": {"lr": 1e-3}}
    return Training(point_rivals(width=8, depth=2, **how), parts=parts, seed=task_seed, precision=torch.float32)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(("copies", "pack"), [(1, 1), (3, 2)])
def test_the_task_is_the_games_losses_and_penalties(game: str, copies: int, pack: int) -> None:
    run, x = rivals(copies=copies, pack=pack), normal(8, copies, 2).float()
    losses, times = Adversarial(game, r1=0.3, r2=0.7)(run, x, None, torch.Generator().manual_seed(5))
    assert times is None
    z = torch.randn(8, copies, 2, generator=torch.Generator().manual_seed(5))
    critic, made = run.model.critic, run.model.generator
    real, fake = x.clone().requires_grad_(), made(z).detach().requires_grad_()
    a, b = critic(real), critic(fake)
    slopes = [torch.autograd.grad(f.sum(), at)[0].square().sum() / copies for f, at in ((a, real), (b, fake))]
    wanted = critic_loss(a, b, game).mean(1).sum() + 0.15 * slopes[0] + 0.35 * slopes[1]
    torch.testing.assert_close(losses["critic"].sum(), wanted)
    torch.testing.assert_close(losses["generator"], generator_loss(a, b, game).mean(1))
    assert losses["critic"].shape == (8 // pack,)


def test_the_critic_teaches_itself_and_the_generator_is_taught_by_its_own_loss() -> None:
    run, x = rivals(), normal(8, 1, 2).float()
    losses, _ = Adversarial("relativistic", 0.1, 0.1)(run, x, None, torch.Generator().manual_seed(0))
    made = list(run.model.generator.parameters())
    through = torch.autograd.grad(losses["critic"].sum(), made, allow_unused=True, retain_graph=True)
    assert all(g is None for g in through)  # its made points are detached
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses["generator"].sum(), made))
    for wrong in ({"game": "chess"}, {"r1": -1.0}, {"r2": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Adversarial(**wrong)


def test_a_game_moves_points_to_their_data_side_by_side() -> None:
    """Two copies, each with data of its own: each goes to its own."""
    centre = torch.tensor([[1.5, 0.0], [-1.5, 0.5]])
    torch.manual_seed(0)
    how = {"lr": 1e-2, "betas": (0.0, 0.9)}
    model = point_rivals(width=16, depth=2, copies=2)
    run = Training(model, parts={"critic": how, "generator": how}, ema=0.98, precision=torch.float32)
    task = Adversarial("relativistic", 0.5, 0.5)

    def data(n, generator):
        return centre + 0.3 * torch.randn(n, 2, 2, generator=generator)

    for _ in train(run, data, steps=300, batch_size=32, warmup=10, task=task, clip=math.inf):
        pass
    with torch.no_grad():
        x = run.averaged()(torch.randn(500, *model.generator.latent, generator=torch.Generator().manual_seed(0)))
    assert (x.mean(0) - centre).norm(dim=1).max() < 0.5  # they began 1.5 away


# ---------------------------------------------------------------- what was found


def test_coverage_of_points_whose_modes_are_known() -> None:
    grid = toy.grid_of_spots()
    assert torch.allclose(toy.ring_of_spots().means.norm(dim=1), torch.ones(8).double())
    x = torch.cat([grid.means[:3].repeat(4, 1), grid.means[3:4] + 0.2])  # a fourth mode, by a sample that is not good
    modes = metrics.mode_coverage(x, grid)
    q = torch.tensor([4, 4, 4, 1.0]) / 13
    assert modes.found == 3
    assert modes.good == pytest.approx(12 / 13)
    assert modes.reverse_kl == pytest.approx((q * (q * 25).log()).sum().item())
    lost = torch.cat([x, torch.full((2, 2), float("nan")).double()])
    assert metrics.mode_coverage(lost, grid) == (3, 12 / 15, modes.reverse_kl)
    with pytest.raises(ValueError, match="wanted one draw or more"):
        metrics.mode_coverage(lost[-2:], grid)
    with pytest.raises(ValueError, match="wanted round parts"):
        metrics.mode_coverage(x, toy.GaussianMixture(normal(2, 2), torch.tensor([[1.0, 2.0]])))
    n = 20_000
    fair = metrics.mode_coverage(grid.sample(n, torch.Generator().manual_seed(0)), grid)
    share = 1 - math.exp(-4.5)
    assert abs(fair.good - share) < 4 * math.sqrt(share * (1 - share) / n)
    assert fair.found == 25
    assert fair.reverse_kl < 3 * 24 / (2 * n)


def test_reverse_kl_of_lost_modes_is_the_log_of_what_is_left() -> None:
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert metrics.reverse_kl(torch.tensor([0, 20, 30, 40]), shares) == pytest.approx(math.log(1 / 0.9))
    assert metrics.reverse_kl(torch.tensor([10, 20, 30, 40]), shares) == pytest.approx(0, abs=1e-6)


def test_the_interval_over_seeds_is_students() -> None:
    for n, t in ((2, 12.7062), (5, 2.77645), (10, 2.26216)):  # from tables
        values = normal(n).tolist()
        found = metrics.over_seeds(values)
        half = t * torch.tensor(values).double().std().item() / math.sqrt(n)
        assert found.value == pytest.approx(sum(values) / n)
        assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-3)
    with pytest.raises(ValueError, match="number of values: wanted"):
        metrics.over_seeds([1.0])


# ---------------------------------------------------------------- equal budgets


def test_flops_are_those_of_the_matrix_products_with_a_second_derivative() -> None:
    run = rivals()
    data = duel_points.batches_of(toy.ring_of_spots(), 1)
    with duel_points.Flops() as plain:
        next(train(run, data, steps=1, task=Adversarial("non_saturating"), batch_size=16))
    with duel_points.Flops() as charged:
        next(train(rivals(), data, steps=1, task=Adversarial("non_saturating", 0.1, 0.1), batch_size=16))
    sizes = [2 * 8, 8 * 8, 8 * 2], [2 * 8, 8 * 8, 8 * 1]  # generator, critic
    forward = [2 * 16 * sum(s) for s in sizes]
    first = [2 * 16 * s[0] for s in sizes]
    # generator: forward, and twice that back but for the first layer's input. Critic: three times forward; back for
    # real and made points (weights, and inputs but the first's), and through the made points alone for the generator.
    by_hand = 3 * forward[0] - first[0] + 3 * forward[1] + 2 * (2 * forward[1] - first[1]) + forward[1]
    assert plain.total == by_hand
    assert 1.3 * plain.total < charged.total < 3 * plain.total


@pytest.mark.slow(8)
def test_a_duel_spends_its_budget_and_is_resumed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 16, "N": 50, "WIDTH": 8, "CALLS": 3, "PAIRS": 64}.items():
        monkeypatch.setattr(duel_points, name, value)
    monkeypatch.setattr(duel_points, "WORLDS", {"ring": toy.ring_of_spots()})
    seen = list(duel_points.run_points(copies=2, flops=4e6, folder=tmp_path))
    assert [rows[0].method for rows in seen] == list(duel_points.METHODS)
    assert all([row.seed for row in rows] == [0, 1] for rows in seen)
    steps = {rows[0].method: rows[0].steps for rows in seen}
    assert steps["relativistic, R1 + R2"] < steps["GAN"] < steps["diffusion"]
    assert steps["one step"] < steps["diffusion"] / 2
    for method in duel_points.METHODS:  # with the step that is only counted, and the drawing of the samples
        with duel_points.Flops() as spent:
            duel_points.samples_of(method, toy.ring_of_spots(), copies=2, flops=4e6)
        assert 0.95 < spent.total / (2 * 4e6) < 1.1, method
    stored = duel_points.load(tmp_path)
    assert [row.found for row in stored] == [row.found for rows in seen for row in rows]
    assert list(duel_points.run_points(copies=2, flops=4e6, folder=tmp_path)) == []
    duel_points.write(duel_points.path_of(duel_points.TABLE, tmp_path), duel_points.PointRow, stored[:-1])
    (again,) = duel_points.run_points(copies=2, flops=4e6, folder=tmp_path)
    assert [row.method for row in again] == ["one step"] * 2


@pytest.mark.slow
def test_the_gan_spends_what_the_unet_did(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    small = {"batch_size": 8, "warmup": 1}
    for name, recipe in duel_digits.RECIPES.items():
        monkeypatch.setitem(duel_digits.RECIPES, name, dataclasses.replace(recipe, **small))
    unet, gan, timed, *others = duel_digits.run_digits([3], steps=12, n=20, folder=tmp_path)
    assert all(row.flops == gan.flops for row in others)
    assert (unet.method, gan.budget, timed.budget) == ("U-Net", "FLOPs", "seconds")
    assert unet.flops * 0.7 < gan.flops <= unet.flops
    assert (unet.steps, unet.unet_steps, timed.unet_steps) == (12, 12, 12)
    assert unet.calls == duel_digits.CALLS
    assert gan.calls == 1
    assert list(duel_digits.run_digits([3], steps=12, n=20, folder=tmp_path)) == []


@pytest.mark.slow(3)
def test_rivals_draw_bytes() -> None:
    torch.manual_seed(0)
    model = digit_rivals(latent=4, width=4, critic_width=4)
    assert isinstance(model, Rivals)
    images = metrics.draw_generated(model, 5, seed=1, batch_size=2)
    assert images.dtype == torch.uint8
    assert images.shape == (5, 1, 28, 28)
    assert torch.equal(images, metrics.draw_generated(model, 5, seed=1, batch_size=2))
    assert not torch.equal(images, metrics.draw_generated(model, 5, seed=2, batch_size=2))
    score = metrics.score_images(images, "mnist")
    assert score.n == 5
    assert score.fid.value > score.floor
    assert "KL of the classes" in str(score)
