"""One loop for every task: parts with losses of their own, data of any kind, and whatever the caller's page has set."""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from test_training import (
    GENERATOR,
    IMAGES,
    LABELS,
    LONG,
    Once,
    course,
    drain,
    fail,
    forks,  # noqa: F401,
    killed_again_and_again,
    launch,
    on_a_leash,
    same,
    steps_of,
    tiny,
    tiny_run,
)
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import metrics, pretrained, recipes, samplers, tasks, training
from course_utils.checkpoints import CheckpointError, load_checkpoint
from course_utils.classifier import Classifier
from course_utils.data import load_images
from course_utils.denoisers import Denoiser, PlainCNN, UNet
from course_utils.files import data_dir
from course_utils.recipes import Recipe, recipe_from, settings_of
from course_utils.run_folder import begin, train_recipe
from course_utils.runs import Training
from course_utils.schedules import FlowMatching, linear
from course_utils.tasks import Classification, Denoising
from course_utils.training import Record, TrainingError, train

# ---------------------------------------------------------------- two parts: a generator and its critic

POINTS = torch.randn(40, 2, generator=GENERATOR) * 0.5 + torch.tensor([1.0, -1.0])


class Rivals(nn.Module):
    """What makes points of noise, and what tells them from those of the data."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, 2))
        self.critic = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Dropout(0.1), nn.Linear(width, 1))


@dataclass(frozen=True)
class Adversarial:
    """The non-saturating game (Goodfellow et al. 2014), with the critic's gradient at real points kept short."""

    penalty: float = 0.1

    def __call__(
        self, run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], None]:
        z = torch.randn(len(x), 2, generator=generator).to(x)[run.rows]
        real, fake = x[run.rows].detach().requires_grad_(), run.model.generator(z)
        says = run.model.critic(real)[:, 0]
        (slope,) = torch.autograd.grad(says.sum(), real, create_graph=True)
        against = run.model.critic(fake.detach())[:, 0]
        critic = F.softplus(-says) + F.softplus(against) + self.penalty / 2 * slope.square().sum(1)
        return {"critic": critic, "generator": F.softplus(-run.model.critic(fake)[:, 0])}, None


PARTS = {"critic": {"lr": 2e-3, "betas": (0.0, 0.99)}, "generator": {"lr": 1e-3}}


def rivals(precision: torch.dtype = torch.float32, start: int = 0, **settings) -> Training:
    with torch.random.fork_rng():
        torch.manual_seed(start)
        model = Rivals()
    return Training(model, **{"parts": PARTS, "ema": 0.9, "precision": precision} | settings)


def game(run: Training, steps: int, **settings) -> Iterator[Record]:
    return train(run, POINTS, **{"steps": steps, "task": Adversarial(), "batch_size": 8, "warmup": 2} | settings)


def test_each_part_descends_on_its_own_loss_at_its_own_rate() -> None:
    run, seen = rivals(), []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(
            ([[w.grad.clone() for w in part] for part in run.parts.values()], [g["lr"] for g in optimizer.param_groups])
        )
    )
    twin, given = rivals(), []

    def task(run: Training, *batch: object) -> tuple[dict[str, Tensor], None]:
        given.append(batch)
        return Adversarial(0.1)(run, *batch)  # type: ignore[arg-type]

    for part in (run, twin):
        part.model.critic[2].p = 0.0  # so that it can be computed again
    (record,) = game(run, 1, task=task, clip=float("inf"))
    x, label, _ = given[0]
    drawn = torch.Generator().manual_seed(training._mixed(0, 0))  # of the seed and the step
    losses, _ = Adversarial(0.1)(twin, x, label, drawn)
    norms = []
    for name, gradients in zip(("critic", "generator"), seen[0][0], strict=True):
        weights = list(getattr(twin.model, name).parameters())
        by_hand = torch.autograd.grad(losses[name].mean(), weights, retain_graph=True)
        for mine, theirs in zip(gradients, by_hand, strict=True):
            torch.testing.assert_close(mine, theirs)
        norms.append(torch.cat([g.flatten() for g in by_hand]).norm())
        assert record.parts[name] == pytest.approx(losses[name].mean().item())
    assert seen[0][1] == [1e-3, 5e-4]  # half of each peak, in the first of two steps of warm-up
    assert [group["betas"] for group in run.optimizer.param_groups] == [(0.0, 0.99), (0.9, 0.99)]
    assert record.gradient_norm == pytest.approx(torch.stack(norms).norm().item())
    assert record.loss == record.parts["critic"]
    torch.testing.assert_close(record.losses, losses["critic"].detach())


def test_the_game_ends_where_the_data_are() -> None:
    run = rivals(lr=0.0, parts={name: {"lr": 0.02, "betas": (0.0, 0.9)} for name in PARTS}, ema=0.98)
    drain(game(run, 300, batch_size=40, task=Adversarial(1.0)))
    with torch.no_grad():
        drawn = run.averaged().generator(torch.randn(500, 2, generator=torch.Generator().manual_seed(1)))
    assert (drawn.mean(0) - POINTS.mean(0)).norm() < 0.5  # it began 1.4 away
    assert POINTS.mean(0).norm() > 1.2


@pytest.mark.parametrize(("stop", "precision"), [(1, torch.float32), (5, torch.float32), (3, torch.float16)])
def test_a_resumed_game_is_one_that_never_stopped(tmp_path: Path, stop: int, precision: torch.dtype) -> None:
    whole, first = rivals(precision), rivals(precision)
    wanted = [(r.step, dict(r.parts)) for r in game(whole, 8)]
    seen = [(r.step, dict(r.parts)) for r in itertools.islice(game(first, 8), stop)]
    first.save(tmp_path / "c.pt")
    second = rivals(precision, start=9, seed=5).resume(tmp_path / "c.pt")
    seen += [(r.step, dict(r.parts)) for r in game(second, 8)]
    assert seen == wanted
    assert same(second.state(), whole.state())
    with pytest.raises(CheckpointError, match=r"c\.pt: was trained in other parts than model"):
        rivals(parts=None).resume(tmp_path / "c.pt")


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_a_step_of_two_parts_is_taken_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, precision: torch.dtype
) -> None:
    """The critic's loss is fine, and its gradient is there; then something happens to the generator's."""
    whole, run = rivals(precision), rivals(precision)
    drain(game(whole, 6))

    def spoilt(run: Training, *batch: object) -> tuple[dict[str, Tensor], None]:
        losses, _ = Adversarial()(run, *batch)  # type: ignore[arg-type]
        return losses | {"generator": losses["generator"] * (float("nan") if run.step == 3 else 1)}, None

    with pytest.raises(TrainingError, match=r"loss critic [0-9.]+, generator nan, gradient norm nan at step 4"):
        drain(game(run, 6, task=spoilt))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", Once(nn.utils.clip_grad_norm_, 2, fail(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        drain(game(run, 6))
    assert run.step == 3
    drain(game(run, 6))
    assert same(run.state()["model"], whole.state()["model"])
    assert same(run.state()["ema"], whole.state()["ema"])


def test_a_part_without_a_loss_stays_where_it_is() -> None:
    """As a generator does while its critic takes several steps."""

    def task(run: Training, *batch: object) -> tuple[dict[str, Tensor], None]:
        losses, _ = Adversarial()(run, *batch)  # type: ignore[arg-type]
        return losses if run.step % 3 == 2 else {"critic": losses["critic"]}, None

    run, moved = rivals(), []
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    for record in game(run, 6, task=task):
        now = {name: value.clone() for name, value in run.model.state_dict().items()}
        moved.append({name.split(".")[0] for name in now if not torch.equal(now[name], before[name])})
        assert record.parts.keys() == moved[-1]
        before = now
    assert moved == [{"critic"}, {"critic"}, {"critic", "generator"}] * 2


def test_parts_are_children_of_the_model() -> None:
    for wrong in ({}, {"judge": {}}):
        with pytest.raises(ValueError, match="parts: wanted children of the model, of generator, critic, got"):
            rivals(parts=wrong)


SHARED = """
import sys, torch
from accelerate import Accelerator
from test_tasks import PARTS, game, rivals

torch.set_num_threads(1)
run = rivals(start=int(sys.argv[2]), accelerator=Accelerator(cpu=True))  # each begins elsewhere: the first one counts
run.model.critic[2].p = 0.0
losses = [(record.loss, dict(record.parts), record.losses) for record in game(run, 4)]
torch.save({"losses": losses, "state": run.state()}, sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_play_the_game_that_one_would(tmp_path: Path) -> None:
    launch(2, "-c", SHARED, tmp_path / "RANK.pt", "RANK")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    run = rivals()
    run.model.critic[2].p = 0.0
    assert same(first["state"], second["state"])
    for record, (loss, parts, losses), (_, _, others) in zip(
        game(run, 4), first["losses"], second["losses"], strict=True
    ):
        assert loss == pytest.approx(record.loss, rel=1e-5)
        assert parts == pytest.approx(dict(record.parts), rel=1e-5)
        torch.testing.assert_close(losses, record.losses[::2], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(others, record.losses[1::2], rtol=1e-4, atol=1e-6)
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(first["state"]["model"][name], value, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- recipes

GAME = Recipe(
    "game", "points", architecture="rivals", network={"width": 8}, schedule=None, parts=PARTS,
    task={"kind": "adversarial", "penalty": 0.2}, steps=6, batch_size=8, warmup=2, ema=0.9,
)  # fmt: skip


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lesson adds for a task of its own: a line a table."""
    monkeypatch.setitem(recipes.ARCHITECTURES, "rivals", Rivals)
    monkeypatch.setitem(tasks.TASKS, "adversarial", Adversarial)
    monkeypatch.setitem(recipes.RECIPES, "game", GAME)


@pytest.mark.usefixtures("known")
def test_a_recipe_of_a_new_task_trains_ships_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(GAME, tmp_path / "run")
    drain(train_recipe(run, GAME, (POINTS, None), tmp_path / "run", every=2))
    other = Training(recipes.make_model(GAME), parts=PARTS, ema=0.9)
    drain(game(other, 6, task=Adversarial(0.2)))
    assert same(run.state(), other.state())
    again = begin(GAME, tmp_path / "run")  # from recipe.json and the checkpoint
    assert same(again.state(), run.state())
    changed = dataclasses.replace(GAME, parts=PARTS | {"generator": {"lr": 1.0}})
    with pytest.raises(CheckpointError, match="was begun with parts"):
        begin(changed, tmp_path / "run")
    assert recipe_from(json.loads(json.dumps(settings_of(GAME)))).task == GAME.task

    pretrained.ship(run, GAME, tmp_path / "data" / "checkpoints")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    model = pretrained.load_network("game")
    assert isinstance(model, Rivals)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, run.ema.weights[name], rtol=2**-11, atol=2**-24)
    with pytest.raises(ValueError, match="no denoiser 'game' is shipped"):
        pretrained.load_denoiser("game")


@pytest.mark.usefixtures("known")
def test_the_log_has_a_column_for_the_loss_of_each_part(tmp_path: Path) -> None:
    """Of a part without a loss at a step it says nothing; a resumed run reads that too."""

    @dataclass(frozen=True)
    class Slow(Adversarial):  # the generator waits for every second step
        def __call__(self, run: Training, *batch: object) -> tuple[dict[str, Tensor], None]:  # type: ignore[override]
            losses, _ = super().__call__(run, *batch)  # type: ignore[arg-type]
            return losses if run.step % 2 else {"critic": losses["critic"]}, None

    tasks.TASKS["adversarial"] = Slow
    first = begin(GAME, tmp_path)
    seen = list(itertools.islice(train_recipe(first, GAME, (POINTS, None), tmp_path, every=2), 4))
    seen = seen[:2] + list(train_recipe(begin(GAME, tmp_path), GAME, (POINTS, None), tmp_path))
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert header == "step,loss_critic,loss_generator,lr,gradient_norm"
    assert len(rows) == len(seen) == 6
    for row, record in zip(rows, seen, strict=True):
        step, critic, generator, *_ = row.split(",")
        assert (int(step), float(critic)) == (record.step, pytest.approx(record.parts["critic"], rel=1e-5))
        waits = record.step % 2 == 1
        assert (generator == "") is waits
        assert waits or float(generator) == pytest.approx(record.parts["generator"], rel=1e-5)
    assert seen[-1].summary == ", ".join(f"{part} {loss:.4f}" for part, loss in seen[-1].parts.items())
    assert seen[-2].summary == f"loss {seen[-2].loss:.4f}"


LONG_GAME = dataclasses.replace(GAME, steps=LONG.steps)


def play_until_killed(folder: Path, last: int | None) -> None:
    recipes.ARCHITECTURES["rivals"], tasks.TASKS["adversarial"] = Rivals, Adversarial  # in a process of its own
    torch.set_num_threads(1)
    on_a_leash(train_recipe(begin(LONG_GAME, folder), LONG_GAME, (POINTS, None), folder, every=2), last)


@pytest.mark.slow(15)
@pytest.mark.usefixtures("forks")
def test_a_game_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = killed_again_and_again(play_until_killed, tmp_path)
    assert same(load_checkpoint(parts / "checkpoint.pt"), load_checkpoint(whole / "checkpoint.pt"))
    assert (parts / "log.csv").read_text() == (whole / "log.csv").read_text()


# ---------------------------------------------------------------- a teacher, a start, data of one's own


@dataclass(frozen=True)
class Distillation:
    """The student says at once, of noise alone, what its frozen teacher says; and measures how far it is off."""

    t: int = 900

    def __call__(
        self, run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, None]:
        noise = torch.randn(x.shape, generator=generator)[run.rows].to(run.device)
        with torch.no_grad():
            wanted = run.frozen["teacher"](noise, self.t)
        return (run.forward(noise, self.t) - wanted).square().flatten(1).mean(1), None

    def measure(self, model: nn.Module, dataset: str, *, n: int = 8, seed: int = 0) -> str:
        noise = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        off = (model(noise, self.t) - pretrained.load_denoiser("mnist-cnn")(noise, self.t)).square().mean().item()
        return f"off by {off:.3g} on {dataset}, n = {n}, seed {seed}"


STUDENT = Recipe(
    "student", "mnist", architecture="cnn", network={"channels": 1, "width": 8, "depth": 2, "num_classes": 10},
    task={"kind": "distillation", "t": 950}, frozen={"teacher": "mnist-cnn"}, steps=5, batch_size=8, warmup=1, ema=0.5,
)  # fmt: skip


@pytest.fixture
def distillation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.TASKS, "distillation", Distillation)
    monkeypatch.setitem(recipes.RECIPES, "student", STUDENT)
    monkeypatch.setattr(recipes.parts, "load_images", lambda name, full=False: (IMAGES, LABELS))
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (0.0, 0.5))


@pytest.mark.usefixtures("distillation")
def test_a_frozen_teacher_helps_does_not_learn_and_is_in_no_file(tmp_path: Path) -> None:
    data, teacher = recipes.load_data(STUDENT), pretrained.load_denoiser("mnist-cnn")
    exact = {"precision": torch.float32}
    whole, first = (begin(STUDENT, tmp_path / name, **exact) for name in ("whole", "parts"))
    wanted = [r.loss for r in train_recipe(whole, STUDENT, data, tmp_path / "whole")]
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(training._mixed(0, 0)))
    start = recipes.make_model(STUDENT).train()
    assert wanted[0] == pytest.approx((start(x, 950) - teacher(x, 950)).square().mean().item(), rel=1e-5)

    seen = [r.loss for r in itertools.islice(train_recipe(first, STUDENT, data, tmp_path / "parts", every=1), 3)][:2]
    second = begin(STUDENT, tmp_path / "parts", **exact)
    seen += [r.loss for r in train_recipe(second, STUDENT, data, tmp_path / "parts")]
    assert seen == wanted
    assert same(second.state(), whole.state())
    assert same(dict(whole.frozen["teacher"].state_dict()), dict(teacher.state_dict()))
    assert not whole.frozen["teacher"].training
    assert whole.state()["model"].keys() == recipes.make_model(STUDENT).state_dict().keys()
    other = dataclasses.replace(STUDENT, frozen={"teacher": "mnist-dae"})
    with pytest.raises(CheckpointError, match="was begun with frozen"):
        begin(other, tmp_path / "parts")
    with pytest.raises(ValueError, match="no network 'nobody' is shipped"):
        begin(dataclasses.replace(STUDENT, frozen={"teacher": "nobody"}), tmp_path / "new")


def test_what_is_frozen_is_in_eval_mode_and_cannot_learn() -> None:
    teacher = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.5)).train()
    run = tiny_run(frozen={"teacher": teacher})
    drain(steps_of(run, 1))
    assert run.frozen["teacher"] is teacher
    assert not any(part.training for part in teacher.modules())
    assert not any(weight.requires_grad for weight in teacher.parameters())


def shelf(folder: Path) -> Path:
    """The course's data, but for a shelf of networks of the test's own."""
    for path in data_dir().iterdir():
        if path.name != "checkpoints":
            (folder / path.name).symlink_to(path)
    (folder / "checkpoints").mkdir()
    for path in (data_dir() / "checkpoints").iterdir():
        if path.suffix == ".safetensors":
            (folder / "checkpoints" / path.name).symlink_to(path)
        else:
            (folder / "checkpoints" / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.usefixtures("distillation")
def test_a_task_of_ones_own_is_trained_shipped_measured_and_noted_by_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_DATA_DIR", str(shelf(tmp_path)))
    run = tmp_path / "run"
    assert course("train", "student", "--out", run)[0] == 0
    assert course("ship", "student", "--run", run)[0] == 0
    code, said = course("evaluate", "student", "--n", 4, "--record")
    assert code == 0, said
    wanted = Distillation(950).measure(pretrained.load_network("student"), "mnist", n=4)
    assert said.strip() == f"student: {wanted}"
    assert "on mnist, n = 4, seed 0" in wanted
    assert pretrained.read_manifest()["student"]["measured"] == wanted
    assert f"5 × 8 | {wanted} |" in (tmp_path / "checkpoints" / "README.md").read_text(encoding="utf-8")
    assert course("evaluate", "student", "--run", run, "--seed", 3)[1].strip().endswith("n = 8, seed 3")
    before = pretrained.read_manifest()
    for options, odd in (
        (("--guidance", 2), "--guidance"),
        (("--steps", 4, "--sampler", "ddpm"), "--steps, --sampler"),
    ):
        code, said = course("evaluate", "student", *options, "--record")
        assert (code, said.strip()) == (1, f"{odd}: the task distillation is measured without")
    assert pretrained.read_manifest() == before


@pytest.mark.usefixtures("known")
def test_a_task_that_measures_nothing_says_so(tmp_path: Path) -> None:
    begin(GAME, tmp_path).save(tmp_path / "checkpoint.pt")
    code, said = course("evaluate", "game", "--run", tmp_path)
    assert (code, "how well the task adversarial is done is not measured here" in said) == (1, True)


def test_a_classifier_is_measured_by_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four test images named rightly, and Wilson's interval of that."""
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    monkeypatch.setattr(metrics.evaluation, "load_images", lambda *a, **k: (images, torch.tensor([0, 0, 0, 1])))
    monkeypatch.setattr(metrics.evaluation, "look_at", lambda *_: (None, torch.zeros(4, dtype=torch.long)))
    found = Classification().measure(Classifier(1, (8, 8), 3), "mnist")
    assert (found.share, found.n) == (metrics.share(3, 4), 4)
    assert str(found) == "75.00% [30.06%, 95.44%] of the 4 images of the test split named rightly"


def test_a_denoiser_is_measured_by_its_task_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(metrics, "evaluate", lambda *about, **how: asked.append((about, how)) or "a score")
    model = Denoiser(UNet(1, (16,), 1, (), num_classes=3), linear(20))
    assert Denoising().measure(model, "mnist", n=5, steps=4, sampler="ddpm", guidance=2.0, seed=3) == "a score"
    ((about, how),) = asked
    assert about == (model, "mnist")
    assert (how["n"], how["guidance"], how["seed"], how["num_classes"]) == (5, 2.0, 3, 3)
    assert (how["sampler"], list(how["timesteps"])) == (samplers.sample_ddpm, [20, 15, 10, 5, 0])
    Denoising().measure(Denoiser(UNet(1, (16,), 1, ()), FlowMatching(), "u"), "mnist", n=5, steps=2)
    assert (asked[1][1]["num_classes"], list(asked[1][1]["timesteps"])) == (0, [1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match="sampler: wanted one of ddim, ddpm, consistency, flow_map, got 'euler'"):
        Denoising().measure(model, "mnist", sampler="euler")


def test_a_training_may_start_from_what_fits_of_a_shipped_network(tmp_path: Path) -> None:
    like = pretrained.recipe_of("mnist-cnn")
    more = dataclasses.replace(like, name="more", start="mnist-cnn", network=like.network | {"num_classes": 12})
    own, theirs = recipes.make_model(more).state_dict(), pretrained.load_denoiser("mnist-cnn").state_dict()
    begun = begin(more, tmp_path).model.state_dict()
    anew = [name for name in begun if begun[name].shape != theirs[name].shape]
    assert anew == ["network.embed.classes.weight"]
    for name, value in begun.items():
        assert torch.equal(value, own[name] if name in anew else theirs[name]), name
    with pytest.raises(ValueError, match="start: no weights of mnist-classifier fit into more"):
        begin(dataclasses.replace(more, start="mnist-classifier"), tmp_path)


def test_a_training_may_start_from_a_run_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As large pictures may from small ones: the averaged weights, of a run that is done; before what is shipped."""
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (0.0, 0.5))
    network = {"channels": 1, "width": 8, "depth": 2}
    small = Recipe("mnist-cnn", "mnist", architecture="cnn", network=network, steps=3, batch_size=8, ema=0.5)
    large = dataclasses.replace(small, name="large", start="mnist-cnn", seed=1)
    run = begin(small, tmp_path / "mnist-cnn")
    halves = train_recipe(run, small, (IMAGES[..., ::2, ::2], None), tmp_path / "mnist-cnn", every=1)
    drain(itertools.islice(halves, 2))
    with pytest.raises(CheckpointError, match=r"mnist-cnn: 1 of 3 steps are done\. Train it to the end first"):
        begin(large, tmp_path / "large")
    drain(halves)
    begun = begin(large, tmp_path / "large")
    assert same(dict(begun.model.state_dict()), run.ema.weights)
    assert not same(dict(begun.model.state_dict()), dict(run.model.state_dict()))
    drain(train_recipe(begun, large, (IMAGES, None), tmp_path / "large"))
    assert same(begin(large, tmp_path / "large").state(), begun.state())


def test_of_several_averages_one_is_shipped_and_its_recipe_has_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (0.0, 0.5))
    network = {"channels": 1, "width": 8, "depth": 2}
    recipe = Recipe("two", "mnist", architecture="cnn", network=network, steps=3, batch_size=8, ema=[0.9, 0.0])
    run = begin(recipe, tmp_path / "run")
    drain(train_recipe(run, recipe, (IMAGES, None), tmp_path / "run"))
    folder = tmp_path / "data" / "checkpoints"
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    for decay, average in ((None, 0.9), (0.0, 0.0)):
        pretrained.ship(run, recipe, folder, decay=decay)
        assert pretrained.recipe_of("two").ema == average
        for name, value in pretrained.load_denoiser("two").state_dict().items():
            torch.testing.assert_close(value, run.averaged(average).state_dict()[name], rtol=1e-3, atol=1e-6)


def test_photographs_of_16_pixels_are_means_of_the_whole_or_the_embedded_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("small", "cifar10-16", network={"channels": 3, "num_classes": 10})
    images, labels = recipes.load_data(recipe)
    whole, of_whole = load_images("cifar10")
    means = whole[:50].double().unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5)) / 127.5 - 1
    torch.testing.assert_close(images[:50].double(), means, rtol=0, atol=1e-6)
    assert torch.equal(labels, of_whole)
    mean, std = recipes.pixel_moments("cifar10-16")
    assert mean == pytest.approx(recipes.pixel_moments("cifar10")[0], abs=1e-6)
    assert 0.8 * recipes.pixel_moments("cifar10")[1] < std < recipes.pixel_moments("cifar10")[1]
    asked = []
    monkeypatch.setattr(recipes.parts, "load_images", lambda name, full=False: asked.append(full) or (whole, of_whole))
    recipes.parts.small_images.cache_clear()
    recipes.load_data(dataclasses.replace(recipe, full=True))
    recipes.parts.small_images.cache_clear()
    assert asked == [True]


def test_a_recipe_may_name_a_stream_a_continuous_schedule_and_u(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents made on the way: trained in a folder, stopped and gone on with, shipped, loaded."""

    def latents(n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 2, 8, 8, generator=generator)

    monkeypatch.setitem(recipes.STREAMS, "latents", lambda recipe: (latents, None))
    recipe = Recipe(
        "of-latents", "latents", architecture="cnn", network={"channels": 2, "width": 8, "depth": 2}, predict="u",
        schedule={"kind": "flow"}, task={"kind": "denoising", "weighting": "u"}, steps=4, batch_size=8, ema=0.5,
    )  # fmt: skip
    data = recipes.load_data(recipe)
    whole = begin(recipe, tmp_path / "whole")
    drain(train_recipe(whole, recipe, data, tmp_path / "whole"))
    drain(itertools.islice(train_recipe(begin(recipe, tmp_path / "run"), recipe, data, tmp_path / "run", every=1), 3))
    run = begin(recipe, tmp_path / "run")
    assert run.step == 2
    drain(train_recipe(run, recipe, data, tmp_path / "run"))
    assert same(run.state(), whole.state())
    pretrained.ship(run, recipe, tmp_path / "data" / "checkpoints")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    model = pretrained.load_denoiser("of-latents")
    assert isinstance(model.schedule, FlowMatching)
    assert (model.predict, model.data_mean, model.data_std) == ("u", 0.0, 1.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "transformer"}, "architecture: wanted one of cnn, dae, .*got 'transformer'"),
        ({"schedule": {"kind": "square"}}, "kind: wanted one of linear, cosine, .*got 'square'"),
        ({"task": {"kind": "juggling"}}, "kind: wanted one of denoising, .*got 'juggling'"),
    ],
)
def test_a_name_that_a_recipe_may_not_have_is_answered_with_those_it_may(change: dict, says: str) -> None:
    recipe = dataclasses.replace(STUDENT, **change)
    with pytest.raises(ValueError, match=says):
        (recipes.make_task if "task" in change else recipes.make_model)(recipe)


FLAT = {  # as the first runs and files say it
    "name": "old", "dataset": "mnist", "architecture": "unet", "network": {"channels": 1}, "full": False,
    "steps": 7, "batch_size": 4, "lr": 1e-3, "warmup": 2, "weight_decay": 0.0, "ema": 0.9, "flip": True, "seed": 3,
    "T": 20, "predict": "x0", "weighting": "min_snr", "times": "cosine", "label_drop": 0.3, "shift": 0,
}  # fmt: skip


def test_the_recipes_of_the_first_files_mean_what_they_meant() -> None:
    recipe = recipe_from(FLAT)
    assert recipe == Recipe(
        "old", "mnist", network={"channels": 1}, schedule={"kind": "linear", "T": 20}, predict="x0", steps=7,
        batch_size=4, warmup=2, ema=0.9, seed=3,
        task={"kind": "denoising", "weighting": "min_snr", "times": "cosine", "label_drop": 0.3, "flip": True},
    )  # fmt: skip
    assert recipes.make_task(recipe) == Denoising("min_snr", "cosine", 0.3, flip=True)
    classifier = recipe_from(FLAT | {"architecture": "classifier", "shift": 4})
    assert classifier.schedule is None
    assert recipes.make_task(classifier) == Classification(4, flip=True)
    assert recipe_from(settings_of(recipe)) == recipe


def test_a_run_of_the_first_kind_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are flat; its checkpoint has the form of today's."""
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (0.0, 0.5))
    recipe = recipe_from(FLAT | {"network": {"channels": 1, "widths": [16], "blocks": 1, "attention": []}})
    run = begin(recipe, tmp_path)
    drain(itertools.islice(train_recipe(run, recipe, (IMAGES, None), tmp_path, every=1), 3))
    run.save(tmp_path / "checkpoint.pt")
    (tmp_path / "recipe.json").write_text(json.dumps(FLAT | {"network": settings_of(recipe)["network"]}))
    assert begin(recipe, tmp_path).step == 3
    other = FLAT | {"network": settings_of(recipe)["network"], "times": "uniform"}
    (tmp_path / "recipe.json").write_text(json.dumps(other))
    with pytest.raises(CheckpointError, match="was begun with task"):
        begin(recipe, tmp_path)


@pytest.mark.parametrize("kind", recipes.SCHEDULES)
def test_a_recipe_may_name_any_schedule(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (0.0, 0.5))
    network = {"channels": 1, "width": 8, "depth": 2}
    recipe = Recipe("x", "mnist", architecture="cnn", network=network, schedule={"kind": kind}, predict="v")
    run = Training(recipes.make_model(recipe), precision=torch.float32)
    (record,) = train(run, IMAGES, steps=1, batch_size=8, task=recipes.make_task(recipe))
    assert torch.isfinite(record.losses).all()


# ---------------------------------------------------------------- data of any kind


def test_a_flow_is_learned_on_points_made_on_the_way() -> None:
    """No images: floats made by a function. The best u of one far point x_0 is known: u = (x_t - x_0) / t."""
    far = torch.tensor([3.0, -2.0])

    class Line(nn.Module):  # u is linear in x_t and 1 / t here, and log-SNR = 2 log((1 - t) / t) gives t
        def __init__(self):
            super().__init__()
            self.x_0 = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
            t = torch.sigmoid(-log_snr / 2)[:, None]
            scale = ((1 - t) ** 2 + t**2).sqrt()  # what the wrapper divided x_t by
            return (x * scale - self.x_0) / t / 2**0.5

    made = []

    def points(n: int, generator: torch.Generator) -> Tensor:
        made.append(far + 0 * torch.rand(n, 2, generator=generator))
        return made[-1]

    run = Training(Denoiser(Line(), FlowMatching(), "u"), lr=0.3, ema=0.0, precision=torch.float32)
    drain(train(run, points, steps=150, batch_size=8, warmup=0, weighting="x0"))
    torch.testing.assert_close(run.model.network.x_0.detach(), far, rtol=0, atol=0.02)
    assert len(made) == 150


def test_data_that_are_made_are_the_same_after_a_resume(tmp_path: Path) -> None:
    """Of the seed and the step alone; labels come with them, bytes too."""

    def notes(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pitch = torch.randint(0, 3, (n,), generator=generator, dtype=torch.uint8)
        return (pitch[:, None, None, None] * 80 + torch.zeros(1, 1, 8, 8)).to(torch.uint8), pitch

    whole, first = tiny_run(), tiny_run()
    wanted = [r.loss for r in train(whole, notes, steps=6, batch_size=8)]
    seen = [r.loss for r in itertools.islice(train(first, notes, steps=6, batch_size=8), 2)]
    first.save(tmp_path / "c.pt")
    second = tiny_run(seed=9).resume(tmp_path / "c.pt")
    assert seen + [r.loss for r in train(second, notes, steps=6, batch_size=8)] == wanted
    assert same(second.state(), whole.state())
    for wrong in (lambda n, g: torch.zeros(n + 1, 1, 8, 8), lambda n, g: [0.0] * n):
        with pytest.raises(ValueError, match="images: wanted a function that makes 8 rows"):
            drain(train(tiny_run(), wrong, steps=1, batch_size=8))
    with pytest.raises(ValueError, match="labels: a function that makes batches makes their labels too"):
        drain(train(tiny_run(), notes, LABELS, steps=1, batch_size=8))


class Wave(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        return self.last(x)


class Film(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        return self.last(x)


@pytest.mark.parametrize(
    ("network", "rows"),
    [
        (Wave, torch.randn(20, 1, 32, generator=GENERATOR)),
        (Film, torch.randn(20, 1, 3, 4, 4, generator=GENERATOR).half()),
        (Film, torch.randint(0, 256, (20, 1, 3, 4, 4), generator=GENERATOR, dtype=torch.uint8)),
    ],
    ids=["waveforms", "clips", "clips as bytes"],
)
def test_waveforms_and_clips_are_trained_on_as_images_are(network: Callable[[], nn.Module], rows: Tensor) -> None:
    torch.manual_seed(0)
    run = Training(Denoiser(network(), FlowMatching(), "u"), lr=1e-2, precision=torch.float32)
    losses = [r.loss for r in train(run, rows, steps=40, batch_size=20, warmup=1, weighting="u")]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_tokens_reach_a_task_of_their_own() -> None:
    """A table of next letters is learned: 0 1 2 0 1 2 …"""
    text = (torch.arange(30)[:, None] + torch.arange(4)) % 3

    class Letters(nn.Embedding):
        pass

    def task(run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator) -> tuple[Tensor, None]:
        assert x.dtype == torch.long
        return F.cross_entropy(run.forward(x[:, :-1]).mT, x[:, 1:], reduction="none").mean(1), None

    run = Training(Letters(3, 3), lr=0.1, precision=torch.float32)
    drain(train(run, text.to(torch.uint8).long(), steps=60, batch_size=10, task=task, warmup=1))
    assert run.model.weight.argmax(1).tolist() == [1, 2, 0]


# ---------------------------------------------------------------- what a page may have set


@contextlib.contextmanager
def gradients_off() -> Iterator[None]:
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(before)


@contextlib.contextmanager
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "set_grad_enabled(False)": gradients_off,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype float64": doubles,
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    "task", [Denoising(times="cosine", flip=True), Denoising(flip=True)], ids=["cosine", "uniform"]
)
def test_what_the_page_has_set_does_not_change_a_training(setting: str, task: Denoising) -> None:
    def steps(run: Training) -> list[float]:
        return [r.loss for r in train(run, IMAGES, LABELS, steps=3, batch_size=8, task=task)]

    whole, model = tiny_run(), tiny()
    wanted = steps(whole)
    with SETTINGS[setting]():
        run = Training(model, ema=0.9, precision=torch.float32, lr=3e-3)
        assert steps(run) == wanted
    last = 1e-9 if SETTINGS[setting] is doubles else 0.0  # AdamW then counts its steps in float64, and rounds otherwise
    for name, value in run.state()["ema"].items():
        torch.testing.assert_close(value, whole.ema.weights[name], rtol=0, atol=last)
    drain(steps_of(run, 4))  # and afterwards it goes on


@pytest.mark.parametrize("setting", SETTINGS)
def test_nor_of_what_a_classifier_sees(setting: str) -> None:
    from course_utils.classifier import Classifier, look_at

    net = Classifier(1, (8, 8), 3)
    wanted = look_at(net, IMAGES)
    with SETTINGS[setting]():
        found = look_at(net, IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_shipped_network_has_float32_weights_whatever_the_page_has_set() -> None:
    with doubles():
        net = pretrained.load_denoiser("mnist-cnn")
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}


def test_a_network_in_float64_is_trained_in_float64() -> None:
    with doubles():
        run = Training(tiny(), precision=torch.float32)
    records = list(steps_of(run, 2))
    assert run.dtype == torch.float64
    assert records[-1].losses.dtype == torch.float64


# ---------------------------------------------------------------- first mistakes, in words


def shipped() -> Denoiser:
    return pretrained.load_denoiser("mnist-cnn")


def made_under_inference() -> Denoiser:
    with torch.inference_mode():
        return Denoiser(PlainCNN(1, 8, 2), linear())


@pytest.mark.parametrize(
    ("model", "images", "says"),
    [
        (
            tiny,
            IMAGES[:, 0],
            r"images: wanted bytes of shape \(n, channels, height, width\), got \(40, 8, 8\); images\[",
        ),
        (lambda: UNet(1, (16,), 1, ()), IMAGES, r"run: wanted a Training of a Denoiser.*got one of UNet"),
        (shipped, IMAGES, r"model: wanted weights that learn, and all are fixed.*requires_grad_\(True\)"),
        (made_under_inference, IMAGES, r"model: wanted weights that can learn.*inference_mode"),
    ],
    ids=["no channels", "a bare network", "fixed weights", "made under inference mode"],
)
def test_first_mistakes_are_answered_in_words(model, images: Tensor, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{says}"):
        drain(train(Training(model(), precision=torch.float32), images, steps=1, batch_size=8))


def test_settings_of_a_task_are_said_once() -> None:
    with pytest.raises(TypeError, match="task: it has its own settings, and flip would be lost"):
        drain(train(tiny_run(), IMAGES, LABELS, steps=1, task=Denoising(), flip=True))
    with pytest.raises(TypeError, match="wieghting"):
        drain(train(tiny_run(), IMAGES, LABELS, steps=1, wieghting="v"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:72] data. DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.8 GB, other allocations: 288.00 KB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_out_of_memory_in_the_words_of_every_system(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(tasks.denoising, "denoising_loss", lambda *a, **k: fail(error)(None))
    with pytest.raises(TrainingError, match=r"out of memory at step 1: halve batch_size \(8\)"):
        drain(steps_of(tiny_run(), 1))


def test_compile_without_a_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    class Translated(nn.Module):
        def __init__(self, model: nn.Module):
            super().__init__()
            self.model = model

        def forward(self, *args: object, **options: object) -> Tensor:
            raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", Translated)
    with pytest.raises(TrainingError, match=r"torch\.compile cannot translate the network here .*: install a C"):
        drain(steps_of(tiny_run(compile=True), 1))
