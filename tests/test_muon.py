"""Muon: its orthogonal matrices are those of linear algebra, its steps PyTorch's, and runs by it go on as others do."""

import copy
import dataclasses
import itertools
import math
import pickle
import re
from pathlib import Path

import pytest
import torch
from test_tasks import PARTS, game, rivals
from test_training import TINY, drain, flat, launch, same, steps_of, tiny, tiny_run
from torch import Tensor, nn

from course_utils.checkpoints import CheckpointError
from course_utils.muon import QUINTIC, Muon, hidden_matrices, orthogonalised
from course_utils.recipes import RECIPES, make_model, recipe_from, settings_of
from course_utils.run_folder import begin
from course_utils.training import Training

SHAPES = [(3, 4, 9), (2, 9, 4), (1, 5, 5), (4, 1, 6)]


def matrices(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def quintic(s: Tensor, steps: int) -> Tensor:
    a, b, c = QUINTIC
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return s


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_singular_vectors_stay_and_singular_values_go_through_the_quintic(shape: tuple, steps: int) -> None:
    M = matrices(*shape)
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    wanted = U @ torch.diag_embed(quintic(S / S.norm(dim=1, keepdim=True), steps)) @ Vh
    torch.testing.assert_close(orthogonalised(M, steps), wanted, rtol=1e-9, atol=1e-9)


def test_five_steps_bring_all_but_tiny_singular_values_near_one() -> None:
    """And so the whole near the polar factor U V^T: of values in [a, b] mean / rms is at least 2 sqrt(ab) / (a + b)."""
    U, _, Vh = torch.linalg.svd(matrices(1, 40, 60), full_matrices=False)
    S = torch.logspace(-1.5, 0, 40, dtype=torch.float64)[None]
    assert (S / S.norm()).min() > 0.01
    found = orthogonalised(U @ torch.diag_embed(S) @ Vh)
    values = torch.linalg.svdvals(found)
    a, b = 0.68, 1.14
    assert a < values.min() < values.max() < b
    polar = U @ Vh
    assert (found * polar).sum() / (found.norm() * polar.norm()) > 2 * math.sqrt(a * b) / (a + b)
    assert quintic(torch.linspace(0.01, 1, 10_000), 5).min() > a
    assert quintic(torch.linspace(0.01, 1, 10_000), 5).max() < b
    assert torch.equal(orthogonalised(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def twins(shapes: list[tuple[int, ...]]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    made = [matrices(*shape, seed=i, dtype=torch.float32) for i, shape in enumerate(shapes)]
    mine, theirs = ([nn.Parameter(w.clone()) for w in made] for _ in range(2))
    return mine, theirs


def with_gradients(step: int, *sides: list[nn.Parameter]) -> None:
    for i, weights in enumerate(zip(*sides, strict=True)):
        gradient = matrices(*weights[0].shape, seed=100 * step + i, dtype=torch.float32)
        for weight in weights:
            weight.grad = gradient.reshape(weight.shape).clone()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has none yet")
def test_steps_are_those_of_pytorchs_muon() -> None:
    """Which rounds to bfloat16 in between, as ours then does; two of one shape go together."""
    mine, theirs = twins([(6, 10), (10, 6), (6, 10), (8, 8)])
    common = {"lr": 0.02, "weight_decay": 0.1}
    muon = Muon([{"params": mine, "orthogonal": True}], torch.bfloat16, **common)
    other = torch.optim.Muon(theirs, momentum=0.95, adjust_lr_fn="match_rms_adamw", **common)
    for step in range(6):
        before = [w.detach().clone() for w in mine]
        with_gradients(step, mine, theirs)
        muon.step()
        other.step()
        for a, b, old in zip(mine, theirs, before, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0.02 * 0.01)  # a hundredth of the rate: bfloat16's rounding
            assert (a - old).abs().max() > 0.02 * 0.2


def test_in_float32_a_step_is_the_formula() -> None:
    (mine,), _ = twins([(6, 10)])
    muon, mean = Muon([{"params": [mine], "orthogonal": True}], lr=0.1, weight_decay=0.5), torch.zeros(6, 10)
    wanted = mine.detach().clone().double()
    for step in range(4):
        with_gradients(step, [mine])
        assert mine.grad is not None
        g = mine.grad.double()
        mean = 0.95 * mean + 0.05 * g
        U, S, Vh = torch.linalg.svd(0.95 * mean + 0.05 * g, full_matrices=False)
        update = U @ torch.diag(quintic(S / S.norm(), 5)) @ Vh
        wanted = wanted * (1 - 0.1 * 0.5) - 0.1 * 0.2 * math.sqrt(10) * update
        muon.step()
        torch.testing.assert_close(mine.detach().double(), wanted, rtol=1e-4, atol=1e-5)


def test_a_convolution_is_the_matrix_of_its_filters_in_any_memory_format() -> None:
    (flat_one,), _ = twins([(4, 3 * 9)])
    convolution = nn.Parameter(flat_one.detach().clone().view(4, 3, 3, 3).to(memory_format=torch.channels_last))
    both = [Muon([{"params": [w], "orthogonal": True}], lr=0.1) for w in (flat_one, convolution)]
    for step in range(3):
        with_gradients(step, [flat_one], [convolution])
        assert convolution.grad is not None
        convolution.grad = convolution.grad.to(memory_format=torch.channels_last)
        for muon in both:
            muon.step()
    torch.testing.assert_close(convolution.flatten(1), flat_one)
    assert convolution.is_contiguous(memory_format=torch.channels_last)


def test_what_is_not_orthogonal_is_adamws_to_the_bit() -> None:
    shapes = [(6, 10), (5,), (3, 4)]
    mine, theirs = twins(shapes)
    common = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    muon = Muon([{"params": mine[:1], "orthogonal": True}, {"params": mine[1:], "orthogonal": False}], **common)
    other = torch.optim.AdamW(theirs[1:], **common)
    for step in range(5):
        with_gradients(step, mine, theirs)
        muon.step()
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(mine[1:], theirs[1:], strict=True))
    assert not torch.equal(mine[0], theirs[0])


def test_a_step_is_as_long_as_one_of_adamw() -> None:
    """Root mean square 0.2 lr, but for the band of the singular values, whatever the shape."""
    for shape in [(16, 16), (8, 64), (64, 8), (8, 4, 3, 3)]:
        (mine,), (before,) = twins([shape])
        with_gradients(0, [mine])
        Muon([{"params": [mine], "orthogonal": True}], lr=0.1).step()
        assert 0.65 < (mine - before).square().mean().sqrt() / (0.1 * 0.2) < 1.14


def test_hidden_are_the_matrices_between_the_ends() -> None:
    model = tiny(widths=(16, 16), attention=(1,))
    names = {id(weight): name for name, weight in model.named_parameters()}
    hidden = [names[id(weight)] for weight in hidden_matrices(model)]
    rest = [name for name in names.values() if name not in hidden]
    assert "network.down.0.0.conv1.weight" in hidden
    assert "network.middle.0.attention.qkv.weight" in hidden
    assert "network.up.0.0.skip.weight" in hidden
    assert all(name.endswith(".weight") and "norm" not in name for name in hidden)
    matrices_left = {name for name in rest if dict(model.named_parameters())[name].ndim > 1}
    assert matrices_left == {
        f"network.{name}.weight" for name in ("first", "last", "embed.layers.0", "embed.layers.2", "embed.classes")
    }


@pytest.mark.parametrize("name", RECIPES)
def test_of_every_network_in_the_course_the_ends_are_adamws(name: str) -> None:
    """The ends are told from what goes through them: who sees the input, and who makes the output."""
    model = make_model(RECIPES[name], (0.0, 1.0))
    for part in [getattr(model, name) for name in RECIPES[name].parts or ()] or [model]:
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
        layers = {name: layer for name, layer in part.named_modules() if isinstance(layer, kinds)}
        hidden = {id(weight) for weight in hidden_matrices(part)}
        body = [layer for name, layer in layers.items() if "embed" not in name.split(".")]
        last = next((layer for name, layer in layers.items() if re.search(r"(^|\.)(last|head)\b", name)), body[-1])
        assert hidden
        assert not {id(body[0].weight), id(last.weight)} & hidden


def test_the_ends_of_a_network_that_names_none_are_its_first_layer_and_its_last() -> None:
    layers = [nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 2)]
    found = hidden_matrices(nn.Sequential(*layers))
    assert [id(weight) for weight in found] == [id(layers[2].weight), id(layers[4].weight)]
    assert hidden_matrices(nn.Sequential(*layers[:1])) == hidden_matrices(nn.SiLU()) == []
    words = nn.Sequential(nn.Embedding(5, 8), *layers[2:])
    assert [id(weight) for weight in hidden_matrices(words)] == [id(layers[2].weight), id(layers[4].weight)]


def test_it_goes_up_where_adamw_does() -> None:
    (down, up), _ = twins([(6, 10), (6, 10)])
    up.data.copy_(down)
    for weight, which in ((down, {}), (up, {"maximize": True})):
        weight.grad = torch.full((6, 10), -1.0 if which else 1.0)
        Muon([{"params": [weight], "orthogonal": True} | which], lr=0.1).step()
    assert torch.equal(down, up)


def test_a_copy_of_it_goes_on_as_it_does() -> None:
    (mine,), _ = twins([(6, 10)])
    muon = Muon([{"params": [mine], "orthogonal": True}], torch.bfloat16, momentum=0.5, lr=0.1)
    with_gradients(0, [mine])
    muon.step()
    for other in (copy.deepcopy(muon), pickle.loads(pickle.dumps(muon))):
        (theirs,) = other.param_groups[0]["params"]
        with_gradients(1, [mine], [theirs])
        other.step()
        before = mine.detach().clone(), copy.deepcopy(muon.state_dict())
        muon.step()
        assert torch.equal(mine, theirs)
        mine.data.copy_(before[0])
        muon.load_state_dict(before[1])


# ---------------------------------------------------------------- runs


def muon_run(precision: torch.dtype = torch.float32, **settings: object) -> Training:
    return tiny_run(precision, **{"optimizer": "muon"} | settings)


def test_a_run_by_muon_moves_hidden_matrices_as_muon_does_and_the_rest_as_adamw() -> None:
    """One step: of the whole gradient's length nothing is left but its direction, in each hidden matrix."""
    run, plain = muon_run(), tiny_run()
    for one in (run, plain):  # which starts at zero, and lets no gradient through
        nn.init.normal_(one.model.network.last.weight, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    for one in (run, plain):
        drain(steps_of(one, 1, warmup=0, clip=math.inf))
    hidden = {id(weight) for weight in hidden_matrices(run.model)}
    others = dict(plain.model.named_parameters())
    for name, value in run.model.named_parameters():
        if id(value) not in hidden:
            assert torch.equal(value, others[name]), name
        elif name.endswith("conv2.weight"):
            change = (value - before[name]).flatten(1) / (3e-3 * 0.2 * math.sqrt(value[0].numel()))
            assert 0.6 < torch.linalg.svdvals(change).median() < 1.2, name


def test_a_picture_is_learnt_by_muon() -> None:
    picture = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    picture[..., 2:6, 3:] = 255
    from course_utils.training import train

    run = Training(tiny(num_classes=0, dropout=0), lr=5e-3, ema=0.95, precision=torch.float32, optimizer="muon")
    losses = [r.loss for r in train(run, picture.repeat(32, 1, 1, 1), steps=80, batch_size=32, warmup=10)]
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])


@pytest.mark.parametrize(
    ("stop", "precision"), [(1, torch.float32), (8, torch.float32), (3, torch.bfloat16), (5, torch.float16)]
)
def test_a_resumed_run_by_muon_is_one_that_never_stopped(tmp_path: Path, stop: int, precision: torch.dtype) -> None:
    whole, first = muon_run(precision), muon_run(precision)
    wanted = [(r.step, r.loss, r.lr) for r in steps_of(whole, 11)]
    seen = [(r.step, r.loss, r.lr) for r in itertools.islice(steps_of(first, 11), stop)]
    first.save(tmp_path / "c.pt")
    second = Training(tiny(start=9), ema=0.9, precision=precision, lr=3e-3, seed=5, optimizer="muon")
    seen += [(r.step, r.loss, r.lr) for r in steps_of(second.resume(tmp_path / "c.pt"), 11)]
    assert seen == wanted
    assert same(second.state(), whole.state())
    for place, value in flat(second.state()).items():
        if isinstance(value, Tensor) and value.ndim == 4:
            assert value.is_contiguous(memory_format=torch.channels_last), place
    with pytest.raises(CheckpointError, match="in other parts than model, or by another optimizer"):
        tiny_run(precision).resume(tmp_path / "c.pt")


def test_float16_by_muon_skips_a_step_that_overflowed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = muon_run(torch.float16)
    drain(steps_of(run, 1))
    before = {name: value.clone() for name, value in flat(run.state()["model"]).items()}
    run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 2.0**60})  # far too large: gradients overflow
    (record,) = steps_of(run, 2)
    assert record.skipped
    assert same(before, flat(run.state()["model"]))
    run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 16.0})
    (record,) = steps_of(run, 3)
    assert not record.skipped
    assert not same(before, flat(run.state()["model"]))


@pytest.mark.parametrize("stop", [1, 5])
def test_a_game_by_muon_goes_on_and_each_part_has_its_rate(tmp_path: Path, stop: int) -> None:
    whole, first = rivals(optimizer="muon"), rivals(optimizer="muon")
    assert [group["orthogonal"] for group in whole.optimizer.param_groups] == [True, False, True, False]
    assert whole.peaks == [PARTS[name]["lr"] for name in ("critic", "critic", "generator", "generator")]
    wanted = [dict(r.parts) for r in game(whole, 8)]
    seen = [dict(r.parts) for r in itertools.islice(game(first, 8), stop)]
    first.save(tmp_path / "c.pt")
    second = rivals(start=9, seed=5, optimizer="muon").resume(tmp_path / "c.pt")
    seen += [dict(r.parts) for r in game(second, 8)]
    assert seen == wanted
    assert same(second.state(), whole.state())


SHARED = """
import sys, torch
from accelerate import Accelerator
from test_muon import drain, open_run, steps_of

torch.set_num_threads(1)
run = open_run(accelerator=Accelerator(cpu=True))
drain(steps_of(run, 1))
after_one = {place: value["exp_avg"].clone() for place, value in run.optimizer.state_dict()["state"].items()}
drain(steps_of(run, 3))
torch.save({"after one": after_one, "state": run.state()}, sys.argv[1])
"""


def open_run(**settings: object) -> Training:
    """Whose last layer lets gradients through from the first step; without dropout, which processes draw apart."""
    run = Training(tiny(dropout=0.0), lr=3e-3, ema=0.9, precision=torch.float32, optimizer="muon", **settings)  # type: ignore[arg-type]
    nn.init.normal_(run.model.network.last.weight, generator=torch.Generator().manual_seed(0))
    return run


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_by_muon(tmp_path: Path) -> None:
    """What is rounded otherwise may turn a small singular value: of one step, it is the momentum that is alike."""
    launch(2, "-c", SHARED, tmp_path / "RANK.pt")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert same(first["state"], second["state"])
    run = open_run()
    drain(steps_of(run, 1))
    alone = run.optimizer.state_dict()["state"]
    assert alone.keys() == first["after one"].keys()
    for place, value in alone.items():
        torch.testing.assert_close(first["after one"][place], value["exp_avg"], rtol=1e-3, atol=1e-6)


def test_a_recipe_names_its_optimizer_and_those_of_today_mean_adamw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("course_utils.recipes.parts.pixel_moments", lambda name: (0.0, 0.5))
    by_muon = dataclasses.replace(TINY, optimizer="muon")
    assert isinstance(begin(by_muon, tmp_path / "muon").optimizer, Muon)
    assert recipe_from(settings_of(by_muon)).optimizer == "muon"
    old = {key: value for key, value in settings_of(TINY).items() if key != "optimizer"}
    assert settings_of(recipe_from(old)) == settings_of(TINY)
    assert type(begin(TINY, tmp_path / "adamw").optimizer) is torch.optim.AdamW
    with pytest.raises(ValueError, match="optimizer: wanted one of adamw, muon, got 'sgd'"):
        tiny_run(optimizer="sgd")
