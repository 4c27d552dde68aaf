"""Training learns, repeats itself exactly, survives being stopped anywhere, and says what went wrong and where."""

import collections
import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from course_utils import recipes
from course_utils.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from course_utils.classifier import Classifier
from course_utils.denoisers import Denoiser, UNet
from course_utils.desk import cli
from course_utils.recipes import Recipe
from course_utils.run_folder import begin, train_recipe
from course_utils.schedules import FlowMatching, Schedule, VPLinear, cosine, linear
from course_utils.tasks import Classification, denoising, draw_t
from course_utils.training import EMA, Record, Training, TrainingError, learning_rate, train

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.randint(0, 3, (40,), generator=GENERATOR)
NETWORK = {"channels": 1, "widths": (16,), "blocks": 1, "attention": (), "num_classes": 3, "dropout": 0.2}
PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]


def tiny(start: int = 0, **changes: Any) -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(start)
        return Denoiser(UNet(**NETWORK | changes), cosine(T=10), data_std=0.5)


def tiny_run(precision: torch.dtype = torch.float32, **settings: Any) -> Training:
    return Training(tiny(), **{"ema": 0.9, "precision": precision, "lr": 3e-3} | settings)


def steps_of(run: Training, steps: int, **settings: Any) -> Iterator[Record]:
    """Five batches an epoch, with everything random that there is: order, t, noise, dropped labels, flips, dropout."""
    return train(run, IMAGES, LABELS, **{"steps": steps, "batch_size": 8, "warmup": 3, "flip": True} | settings)


def drain(stream: Iterator) -> None:
    collections.deque(stream, maxlen=0)


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """Every tensor and number of nested dicts and lists, by its place."""
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {place: value for key, inner in items for place, value in flat(inner, f"{name}/{key}").items()}
    return {name: state}


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit."""
    a, b = flat(a), flat(b)
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], Tensor) else a[key] == b[key] for key in a
    )


def finite(module: nn.Module) -> bool:
    return all(value.isfinite().all() for value in module.state_dict().values())


class Spy(Denoiser):
    """Keeps what it is given, and answers x_t times a weight."""

    def __init__(self, schedule: Any):
        super().__init__(nn.Identity(), schedule)
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.seen.append((x_t.detach(), t, label))
        return self.weight * x_t


# ---------------------------------------------------------------- the parts


def test_learning_rate_rises_on_a_line_and_falls_as_a_cosine() -> None:
    rate = [learning_rate(step, 110, 2.0, 10) for step in range(111)]
    assert rate[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert rate[10] == 2.0
    assert rate[10 + 25] == pytest.approx(1 + math.cos(math.pi / 4))
    assert rate[60] == pytest.approx(1.0)
    assert rate[110] == pytest.approx(0.0, abs=1e-15)
    assert all(later < earlier for earlier, later in itertools.pairwise(rate[10:]))
    assert learning_rate(0, 10, 2.0, warmup=0) == 2.0


def test_ema_is_its_recursion() -> None:
    model = nn.BatchNorm1d(3).double()  # floats, and a counter, which has no average
    model.extra = nn.Parameter(torch.zeros(2))  # float32 among float64
    ema, wanted = EMA(model, 0.8), {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 61):
        for value in model.state_dict().values():
            value.copy_(torch.randn(value.shape, generator=generator) * 10)
        d = min(0.8, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            wanted[name] = d * wanted[name] + (1 - d) * value if value.is_floating_point() else value.clone()
        ema.update(model, step)
    for name, value in ema.weights.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-6 if value.dtype == torch.float32 else 1e-12, atol=1e-6)


def test_ema_of_constant_weights_is_constant() -> None:
    model = nn.Linear(5, 5)
    ema = EMA(model, 0.99)
    for step in range(1, 50):
        ema.update(model, step)
    assert same(ema.weights, dict(model.state_dict()))
    assert same(dict(ema.copy_to(nn.Linear(5, 5)).state_dict()), dict(model.state_dict()))


def test_ema_keeps_its_own_copy_and_the_start_is_soon_forgotten() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1000.0)
    ema = EMA(model, 0.9999)
    nn.init.constant_(model.weight, 1.0)
    assert ema.weights["weight"].item() == 1000
    ema.update(model, 1)
    assert ema.weights["weight"].item() == pytest.approx(2 / 11 * 1000 + 9 / 11)
    for step in range(2, 30):
        ema.update(model, step)
    assert ema.weights["weight"].item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_ema_wants_a_decay_below_one(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay: wanted a number in \[0, 1\)"):
        EMA(nn.Linear(1, 1), decay)


def test_times_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    n, T = 60_000, 6
    counts = draw_t(linear(T), n, generator).bincount(minlength=T + 1)
    assert counts[0] == 0
    assert ((counts[1:] - n / T).abs() < 4.5 * math.sqrt(n / T)).all()
    t = draw_t(FlowMatching(), n, generator)
    assert 0.001 <= t.min() < 0.002
    assert 0.998 < t.max() < 0.999
    assert t.mean().item() == pytest.approx(0.5, abs=4.5 / math.sqrt(12 * n))


@pytest.mark.parametrize("schedule", [linear(), cosine(), VPLinear(), FlowMatching()], ids=lambda it: type(it).__name__)
def test_times_of_a_cosine_schedule_are_spread_over_log_snr_as_it_spreads_them(schedule: Schedule) -> None:
    """P(log SNR < x) = 1 - u with x = -2 log tan(pi u / 2), and every batch has one u in each nth of [0, 1]."""
    generator, n, batches = torch.Generator().manual_seed(0), 50, 20
    t = torch.stack([draw_t(schedule, n, generator, "cosine") for _ in range(batches)])
    log_snr = schedule.log_snr(t)
    for x in (-6.0, -2.0, 0.0, 1.0, 5.0):
        below = 1 - 2 / math.pi * math.atan(math.exp(-x / 2))
        # A time of a table is the first at or below the level: it may lie one step lower.
        step = 0 if schedule.T is None else 5 / schedule.T
        share = (log_snr < x).double().mean(1)
        assert share.mean().item() == pytest.approx(below, abs=step + 4.5 * 0.5 / (n * math.sqrt(batches)))
        assert (share - below).abs().max() < 1 / n + step  # independent draws would be off by several nths
    with pytest.raises(ValueError, match="times: wanted one of"):
        draw_t(schedule, n, generator, "sometimes")


@pytest.mark.parametrize("schedule", [linear(), VPLinear(), FlowMatching()], ids=lambda it: type(it).__name__)
def test_times_of_lognormal_noise_are_those_of_the_paper(schedule: Schedule) -> None:
    """log (sigma / alpha) is normal, of mean -1.2 and deviation 1.2: P(log SNR > -2 x) is its distribution function."""
    generator, n, batches = torch.Generator().manual_seed(0), 50, 20
    log_snr = schedule.log_snr(torch.stack([draw_t(schedule, n, generator, "lognormal") for _ in range(batches)]))
    for x in (-3.0, -1.2, 0.0, 1.0):  # of log (sigma / alpha)
        below = statistics.NormalDist(-1.2, 1.2).cdf(x)
        step = 0 if schedule.T is None else 0.02  # a table's levels lie apart
        share = (log_snr > -2 * x).double().mean(1)
        assert share.mean().item() == pytest.approx(below, abs=step + 4.5 * 0.5 / (n * math.sqrt(batches)))
        assert (share - below).abs().max() < 1 / n + step


# ---------------------------------------------------------------- it learns


def test_a_dataset_of_one_picture_is_learnt() -> None:
    """The exact denoiser of one picture answers that picture, whatever it is shown."""
    picture = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    picture[..., 2:6, 3:] = 255
    run = Training(tiny(num_classes=0, dropout=0), lr=5e-3, ema=0.95, precision=torch.float32)
    losses = [r.loss for r in train(run, picture.repeat(32, 1, 1, 1), steps=80, batch_size=32, warmup=10)]
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    x_t = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    averaged = run.averaged()
    assert not averaged.training
    with torch.no_grad():
        error = (averaged(x_t, torch.tensor(10)) - (picture / 127.5 - 1)).square().mean()
    assert error < 0.02  # the picture's own mean square is 1


def test_continuous_time_and_autocast_work() -> None:
    denoiser = Denoiser(UNet(**NETWORK), FlowMatching())
    losses = [r.loss for r in steps_of(Training(denoiser, precision=torch.bfloat16), 3)]
    assert all(map(math.isfinite, losses))


def test_convolutions_are_channels_last() -> None:
    run = tiny_run()
    drain(steps_of(run, 1))
    for place, value in flat(run.state()).items():
        if isinstance(value, Tensor) and value.ndim == 4:
            assert value.is_contiguous(memory_format=torch.channels_last), place


# ---------------------------------------------------------------- it repeats itself


def test_same_seed_same_weights() -> None:
    a, b, c = tiny_run(), tiny_run(), tiny_run(seed=1)
    for run in (a, b, c):
        drain(steps_of(run, 6))
    assert same(a.state(), b.state())
    assert not same(a.state()["model"], c.state()["model"])


def test_the_global_stream_neither_matters_nor_moves() -> None:
    a, b = tiny_run(), tiny_run()
    drain(steps_of(a, 4))
    before = torch.get_rng_state()
    drain(steps_of(b, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for _ in steps_of(b, 4):
        torch.rand(3)  # a caller that draws
    assert same(a.state(), b.state())


def test_sampling_between_steps_does_not_matter() -> None:
    a, b = tiny_run(), tiny_run()
    drain(steps_of(a, 4))
    for _ in steps_of(b, 4):
        b.model.eval()
    assert same(a.state(), b.state())


@pytest.mark.parametrize(
    ("stop", "precision"),  # mid-epoch, at an epoch's end, in the second epoch
    [*((stop, torch.float32) for stop in (1, 3, 5, 8)), (3, torch.bfloat16), (8, torch.bfloat16), (5, torch.float16)],
)
def test_a_resumed_run_is_one_that_never_stopped(tmp_path: Path, stop: int, precision: torch.dtype) -> None:
    whole = tiny_run(precision)
    wanted = [(r.step, r.loss, r.lr) for r in steps_of(whole, 11)]

    first = tiny_run(precision)
    seen = []
    for record in steps_of(first, 11):
        seen.append((record.step, record.loss, record.lr))
        if record.step == stop:
            break
    first.save(tmp_path / "c.pt")
    torch.rand(7)
    second = Training(tiny(start=9), ema=0.9, precision=precision, lr=3e-3, seed=5).resume(tmp_path / "c.pt")
    seen += [(r.step, r.loss, r.lr) for r in steps_of(second, 11)]
    assert seen == wanted
    assert same(second.state(), whole.state())
    assert same(dict(second.averaged().state_dict()), whole.ema.weights)


def test_several_averages_are_those_of_runs_that_keep_one_each(tmp_path: Path) -> None:
    decays = [0.9, 0.5, 0.0]
    run, alone = tiny_run(ema=decays), {decay: tiny_run(ema=decay) for decay in decays}
    drain(itertools.islice(steps_of(run, 8), 3))
    run.save(tmp_path / "c.pt")
    run = tiny_run(ema=decays, seed=4).resume(tmp_path / "c.pt")
    for one in (run, *alone.values()):
        drain(steps_of(one, 8))
    for decay, one in alone.items():
        assert same(dict(run.averaged(decay).state_dict()), one.ema.weights)
    assert same(dict(run.averaged().state_dict()), alone[0.9].ema.weights)
    assert same(dict(run.averaged(0.0).state_dict()), dict(run.model.state_dict()))
    with pytest.raises(ValueError, match=r"decay: wanted one of 0\.9, 0\.5, 0, got 0\.7"):
        run.averaged(0.7)
    with pytest.raises(CheckpointError, match=r"c\.pt: wanted .*"):
        tiny_run().resume(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="wanted 2 averages of the weights, got 3"):
        tiny_run(ema=(0.9, 0.5)).resume(tmp_path / "c.pt")
    with pytest.raises(ValueError, match="ema: wanted a decay or several, got none"):
        tiny_run(ema=[])
    with pytest.raises(ValueError, match=r"ema: wanted a number in \[0, 1\)"):
        tiny_run(ema=[0.9, 1.0])


def test_a_finished_run_has_nothing_to_do() -> None:
    run = tiny_run()
    drain(steps_of(run, 2))
    assert list(steps_of(run, 2)) == []


def test_checkpoints_are_written_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    path, on_disk = tmp_path / "c.pt", []
    for _ in steps_of(tiny_run(), 5, checkpoint=path, every=2):
        on_disk.append(load_checkpoint(path)["step"] if path.exists() else 0)
    assert on_disk == [0, 0, 2, 2, 4]  # a step's record comes first, then its checkpoint
    assert load_checkpoint(path)["step"] == 5


@pytest.mark.parametrize(("old", "new"), [(torch.float32, torch.float16), (torch.float16, torch.float32)])
def test_a_run_can_change_its_precision(tmp_path: Path, old: torch.dtype, new: torch.dtype) -> None:
    """As it does when it moves from one kind of GPU to another."""
    run = tiny_run(old)
    drain(steps_of(run, 2, checkpoint=tmp_path / "c.pt"))
    moved = tiny_run(new).resume(tmp_path / "c.pt")
    assert same(moved.state()["model"], run.state()["model"])
    drain(steps_of(moved, 4))
    assert finite(moved.model)


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    drain(steps_of(Training(tiny(widths=(32,)), precision=torch.float32), 1, checkpoint=tmp_path / "c.pt"))
    run = tiny_run()
    drain(steps_of(run, 2))
    before = {place: v.clone() if isinstance(v, Tensor) else v for place, v in flat(run.state()).items()}
    with pytest.raises(CheckpointError, match=r"c\.pt: is of another architecture.*such as network\."):
        run.resume(tmp_path / "c.pt")
    save_checkpoint(tmp_path / "d.pt", {"model": {}, "step": 1})
    with pytest.raises(CheckpointError, match=r"d\.pt: wanted a training run with model, ema, optimizer"):
        run.resume(tmp_path / "d.pt")
    save_checkpoint(tmp_path / "e.pt", tiny_run().state() | {"ema": {}})
    with pytest.raises(CheckpointError, match=r"e\.pt: is of another architecture"):
        run.resume(tmp_path / "e.pt")
    assert same(flat(run.state()), before)


# ---------------------------------------------------------------- it survives


class Once:
    """Does something at the k-th call of a function, and otherwise what the function does."""

    def __init__(self, function: Callable, k: int, then: Callable):
        self.function, self.k, self.then, self.calls = function, k, then, 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        result = self.function(*arguments, **named)
        return self.then(result) if self.calls == self.k else result


def fail(error: BaseException) -> Callable:
    def then(_: Any) -> None:
        raise error

    return then


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_an_interrupted_step_leaves_a_run_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, where: str, precision: torch.dtype
) -> None:
    whole, run = tiny_run(precision), tiny_run(precision)
    drain(steps_of(whole, 6))
    owner, name = (denoising, "denoising_loss") if where == "loss" else (nn.utils, "clip_grad_norm_")
    monkeypatch.setattr(owner, name, Once(getattr(owner, name), 4, fail(KeyboardInterrupt())))
    stream = steps_of(run, 6)
    with pytest.raises(KeyboardInterrupt):
        drain(stream)
    assert next(stream, None) is None  # closed
    assert run.step == 3
    assert finite(run.model)
    drain(steps_of(run, 6))
    assert same(run.state(), whole.state())


def test_an_interrupted_step_leaves_the_averages_of_a_batch_norm_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(run: Training) -> Iterator[Record]:
        return train(run, IMAGES, LABELS, steps=5, task=Classification(), batch_size=4)

    whole, run = (Training(Classifier(1, (4, 4)), seed=1, precision=torch.float32) for _ in range(2))
    run.model.load_state_dict(whole.model.state_dict())
    run.ema.weights = {name: value.clone() for name, value in whole.ema.weights.items()}
    drain(steps(whole))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", Once(nn.utils.clip_grad_norm_, 3, fail(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        drain(steps(run))
    drain(steps(run))
    assert same(run.state(), whole.state())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_before_it_does_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, precision: torch.dtype
) -> None:
    whole, run, path = tiny_run(precision), tiny_run(precision), tmp_path / "c.pt"
    drain(steps_of(whole, 5))
    broken = Once(denoising.denoising_loss, 4, lambda losses: losses * value)
    monkeypatch.setattr(denoising, "denoising_loss", broken)
    with pytest.raises(
        TrainingError, match=rf"loss {value}.* at step 4, learning rate 0\.003: .*checkpoint is .*c\.pt"
    ):
        drain(steps_of(run, 5, checkpoint=path, every=3))
    assert run.step == 3
    assert finite(run.model)
    assert load_checkpoint(path)["step"] == 3
    drain(steps_of(run, 5))
    assert same(run.state()["model"], whole.state()["model"])


def test_a_gradient_that_is_no_number_stops_the_run_too() -> None:
    run = tiny_run()
    drain(steps_of(run, 2))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    hook = run.model.network.last.bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match="gradient norm nan at step 3"):
        drain(steps_of(run, 4))
    assert same(dict(run.model.state_dict()), before)
    hook.remove()
    drain(steps_of(run, 4))
    assert run.step == 4


def test_float16_skips_a_step_that_overflowed_and_halves_its_scale() -> None:
    run = tiny_run(torch.float16)
    drain(steps_of(run, 2))
    before, scale = {k: v.clone() for k, v in run.model.state_dict().items()}, run.scaler.get_scale()
    hook = run.model.network.last.bias.register_hook(lambda gradient: gradient * float("inf"))
    stream = steps_of(run, 40)
    record = next(stream)
    assert record.skipped
    assert run.scaler.get_scale() == scale / 2
    assert same(dict(run.model.state_dict()), before)
    with pytest.raises(TrainingError, match="gradient norm"):  # once there is no scale left to blame
        drain(stream)
    hook.remove()
    assert not any(r.skipped for r in steps_of(run, run.step + 2))


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_out_of_memory_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> None:
    run = tiny_run()
    monkeypatch.setattr(denoising, "denoising_loss", Once(denoising.denoising_loss, 2, fail(error)))
    with pytest.raises(TrainingError, match=r"out of memory at step 2: halve batch_size \(8\)"):
        drain(steps_of(run, 3))
    drain(steps_of(run, 3))
    assert run.step == 3


def test_other_errors_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoising, "denoising_loss", Once(denoising.denoising_loss, 1, fail(RuntimeError("other"))))
    with pytest.raises(RuntimeError, match=r"^other$"):
        drain(steps_of(tiny_run(), 3))
    with pytest.raises(ValueError, match="label: this network was made without classes"):
        drain(steps_of(Training(tiny(num_classes=0)), 1))


# ---------------------------------------------------------------- what a step does


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_long_gradients_are_clipped(precision: torch.dtype) -> None:
    run, taken, rates = tiny_run(precision), [], []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [p.grad.flatten() for p in run.model.parameters() if p.grad is not None]
        taken.append(torch.cat(gradients).norm().item())
        rates.append(optimizer.param_groups[0]["lr"])

    run.optimizer.register_step_pre_hook(look)
    records = list(steps_of(run, 6, clip=0.5))
    norms = [r.gradient_norm for r in records]
    assert max(norms) > 0.5
    assert taken == pytest.approx([min(0.5, norm) for norm in norms], rel=1e-3)
    assert rates == [r.lr for r in records] == [learning_rate(step, 6, 3e-3, 3) for step in range(6)]


def test_labels_are_dropped_at_the_stated_rate_and_stay_with_their_images() -> None:
    labels = torch.arange(64) % 3
    images = (labels[:, None, None, None] * 127).to(torch.uint8).expand(64, 1, 4, 4)  # a label's grey: -1, 0, 1
    spy = Spy(linear(2, 1e-4, 2e-4))  # next to no noise
    drain(train(Training(spy, lr=0), images, labels, steps=150, batch_size=64, label_drop=0.3))
    seen = torch.cat([label for *_, label in spy.seen])
    grey = torch.cat([x_t.mean((1, 2, 3)) for x_t, *_ in spy.seen])
    n = len(seen)
    assert (seen == -1).double().mean().item() == pytest.approx(0.3, abs=4.5 * math.sqrt(0.3 * 0.7 / n))
    kept = seen >= 0
    assert torch.equal((grey[kept] + 1).round().long(), seen[kept])
    drain(train(Training(spy, lr=0), images, labels, steps=20, batch_size=64, label_drop=0))
    assert all((label >= 0).all() for *_, label in spy.seen[-20:])


def test_half_of_the_images_are_mirrored_if_asked() -> None:
    images = torch.zeros(64, 1, 4, 4, dtype=torch.uint8)
    images[..., :2] = 255
    for flip, share in ((True, 0.5), (False, 0.0)):
        spy = Spy(linear(2, 1e-4, 2e-4))
        drain(train(Training(spy, lr=0), images, steps=100, batch_size=64, flip=flip))
        mirrored = torch.cat([x_t[..., 0].mean((1, 2)) < 0 for x_t, *_ in spy.seen]).double()
        assert mirrored.mean().item() == pytest.approx(share, abs=4.5 * math.sqrt(share * (1 - share) / len(mirrored)))
        assert all(label is None for *_, label in spy.seen)


def test_noise_and_times_are_new_at_every_step_and_the_record_tells_them() -> None:
    images = torch.full((8, 1, 4, 4), 128, dtype=torch.uint8)
    spy = Spy(linear(1000))
    records = list(train(Training(spy, lr=0), images, steps=200, batch_size=8, weighting="x0"))
    assert len({x_t.sum().item() for x_t, *_ in spy.seen}) == 200
    assert len(torch.cat([r.t for r in records]).unique()) > 700  # of 1,600 draws: 798 expected
    for record, (x_t, t, _) in zip(records, spy.seen, strict=True):
        assert torch.equal(record.t, t)
        assert record.loss == pytest.approx(record.losses.mean().item())
        torch.testing.assert_close(record.losses, (x_t - 1 / 255).square().mean((1, 2, 3)))
    # eps = (x_t - alpha x_0) / sigma is standard normal, and not the same for all images
    alpha, sigma = spy.schedule.coeffs(torch.cat([r.t for r in records]))
    x_t = torch.cat([x for x, *_ in spy.seen]).double()
    eps = (x_t - alpha[:, None, None, None] / 255) / sigma[:, None, None, None]
    assert eps.mean().abs().item() < 4.5 / math.sqrt(eps.numel())
    assert eps.var().item() == pytest.approx(1, abs=4.5 * math.sqrt(2 / eps.numel()))
    assert eps.mean((1, 2, 3)).var().item() == pytest.approx(1 / 16, rel=4.5 * math.sqrt(2 / len(eps)))


# ---------------------------------------------------------------- recipes, and the command

TINY = Recipe(
    "tiny", "mnist", network=NETWORK, schedule={"kind": "linear", "T": 10}, task={"kind": "denoising", "flip": True},
    steps=8, batch_size=8, warmup=3, ema=0.9,
)  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    monkeypatch.setattr(recipes.parts, "load_images", lambda name, full=False: (IMAGES, LABELS))
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (0.0, 0.5))
    monkeypatch.setenv("COURSE_DEVICE", "cpu")


def course(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def logged(folder: Path) -> list[int]:
    header, *rows = (folder / "log.csv").read_text().splitlines()
    assert header == "step,loss,lr,gradient_norm"
    assert all(math.isfinite(float(x)) for row in rows for x in row.split(","))
    return [int(row.split(",")[0]) for row in rows]


def test_mnist_has_its_published_moments() -> None:
    mean, std = recipes.pixel_moments("mnist")
    assert (mean + 1) / 2 == pytest.approx(0.1307, abs=5e-5)
    assert std / 2 == pytest.approx(0.3081, abs=5e-5)
    images = recipes.parts.load_images("mnist")[0][:500].double() / 127.5 - 1
    assert images.mean().item() == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("name", [name for name in recipes.RECIPES if name != "tiny"])
def test_every_recipe_can_be_built_and_only_its_seed_matters(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (0.1, 0.5))
    recipe = dataclasses.replace(recipes.RECIPES[name])
    before = torch.get_rng_state()
    a = recipes.make_model(recipe)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert same(dict(a.state_dict()), dict(recipes.make_model(recipe).state_dict()))
    other = recipes.make_model(dataclasses.replace(recipe, seed=1))
    assert not same(dict(a.state_dict()), dict(other.state_dict()))
    if recipe.architecture == "tokens":
        n, V = recipe.network["length"], recipe.network["vocabulary"]
        assert a(torch.zeros(1, n, dtype=torch.long)).shape == (1, n, V)
        return
    sides = {"cifar10": (32, 32), "mnist-7": (7, 7), "mnist-codes": (7, 7), "film": (8, 16, 16)}
    x = torch.zeros(1, recipe.network["channels"], *sides.get(recipe.dataset, (28, 28)))
    if recipe.architecture == "classifier":
        assert a.eval()(x).shape == (1, 10)
        return
    if recipe.architecture == "noisy_classifier":
        assert a.eval()(x, torch.zeros(1)).shape == (1, 10)
        return
    if recipe.architecture == "autoencoder":
        assert a(x, torch.zeros(1, *a.code_shape(x)))[0].shape == x.shape
        return
    T, more = recipe.schedule["T"], {"beside": x} if "beside" in recipe.network else {}
    assert a(x, torch.tensor(T), **more).shape == x.shape
    pixels = recipe.dataset not in ("mnist-codes", "notes", "film")  # which are standardised, or nearly, as they are
    assert (a.data_mean, a.data_std, a.schedule.T) == ((0.1, 0.5, T) if pixels else (0.0, 1.0, T))


@pytest.mark.usefixtures("small")
def test_every_setting_of_a_recipe_arrives(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        TINY, schedule={"kind": "linear", "T": 20}, predict="x0", steps=4, lr=2e-3, ema=0.2, seed=3,
        task={"kind": "denoising", "weighting": "min_snr", "label_drop": 0.5, "flip": True},
    )  # fmt: skip
    images, labels = recipes.load_data(recipe)
    run = begin(recipe, tmp_path)
    drain(train_recipe(run, recipe, (images, labels), tmp_path))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        denoiser = Denoiser(UNet(**NETWORK), linear(20), "x0", 0.0, 0.5)
    other = Training(denoiser, lr=2e-3, ema=0.2, seed=3)
    named = {"weighting": "min_snr", "warmup": 3, "label_drop": 0.5, "flip": True}
    drain(train(other, IMAGES, LABELS, steps=4, batch_size=8, **named))
    assert same(run.state(), other.state())
    assert recipes.load_data(dataclasses.replace(recipe, network={"channels": 1}))[1] is None


@pytest.mark.usefixtures("small")
def test_course_train_trains_saves_logs_and_goes_on(tmp_path: Path) -> None:
    code, output = course("train", "tiny", "--out", tmp_path / "whole")
    assert code == 0
    assert "step 0 of 8" in output
    assert "done: loss" in output
    assert logged(tmp_path / "whole") == list(range(1, 9))

    # A run killed after step 5, with its last checkpoint at 4 and half a row in the log.
    folder = tmp_path / "parts"
    run = begin(TINY, folder)
    for record in train_recipe(run, TINY, (IMAGES, LABELS), folder, every=2):
        if record.step == 5:
            break
    with open(folder / "log.csv", "a") as log:
        log.write("1")
    (folder / ".checkpoint.pt.123.part").write_bytes(b"half")
    code, output = course("train", "tiny", "--out", folder)
    assert (code, "step 4 of 8" in output) == (0, True)
    assert logged(folder) == list(range(1, 9))
    assert sorted(os.listdir(folder)) == ["checkpoint.pt", "log.csv", "recipe.json"]
    assert (folder / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    assert same(load_checkpoint(folder / "checkpoint.pt"), load_checkpoint(tmp_path / "whole" / "checkpoint.pt"))

    assert "8 steps are done already" in course("train", "tiny", "--out", folder)[1]
    assert "step 8 of 9" in course("train", "tiny", "--out", folder, "--steps", 9)[1]
    assert logged(folder) == list(range(1, 10))
    code, output = course("train", "tiny", "--out", folder, "--batch-size", 4)
    assert code == 1
    assert "was begun with batch_size 8, not 4" in output
    code, output = course("train", "tiny", "--out", folder, "--batch-size", 4, "--steps", 2, "--fresh")
    assert (code, "step 0 of 2" in output) == (0, True)
    assert logged(folder) == [1, 2]
    assert json.loads((folder / "recipe.json").read_text())["batch_size"] == 4


@pytest.mark.usefixtures("small")
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    course("train", "tiny", "--out", tmp_path / "whole")
    assert signal.getsignal(signal.SIGINT) is before
    interrupted = Once(denoising.denoising_loss, 3, lambda x: os.kill(os.getpid(), signal.SIGINT) or x)
    monkeypatch.setattr(denoising, "denoising_loss", interrupted)
    code, output = course("train", "tiny", "--out", tmp_path / "parts")
    assert code == 130
    assert "stopped and saved at step 3; the same command goes on" in output
    assert signal.getsignal(signal.SIGINT) is before
    assert "step 3 of 8" in course("train", "tiny", "--out", tmp_path / "parts")[1]
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert same(parts, whole)
    assert logged(tmp_path / "parts") == list(range(1, 9))


@pytest.mark.usefixtures("small")
def test_course_train_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = course("train", "nothing")
    assert code == 1
    assert f"nothing: no such recipe. There are {', '.join(recipes.RECIPES)}" in output
    code, output = course("train", "tiny", "--out", tmp_path, "--device", "abacus")
    assert code == 1
    assert "COURSE_DEVICE=abacus: no such device here" in output
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    (tmp_path / "checkpoint.pt").write_bytes(b"rubbish" * 10)
    code, output = course("train", "tiny", "--out", tmp_path)
    assert code == 1
    assert "checkpoint.pt: is damaged" in output
    monkeypatch.setattr(denoising, "denoising_loss", Once(denoising.denoising_loss, 2, lambda x: x * float("nan")))
    code, output = course("train", "tiny", "--out", tmp_path, "--fresh")
    assert code == 1
    assert "loss nan, gradient norm" in output


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("log.csv", "step;loss;lr;gradient_norm\n1;0,97;0,0001;0,5\n"),  # a spreadsheet's, in German
        ("log.csv", "step,loss,lr,gradient_norm\n1,0.97,0.0001,0.5\n# the rate was lowered here\n"),
        ("log.csv", "step,loss,lr,gradient_norm\n" + "\0" * 64 + "\n"),  # a crash's
        ("log.csv", "step,loss,lr,gradient_norm\nnan,0.97,0.0001,0.5\n"),
        ("log.csv", "caf\xe9\n"),
        ("recipe.json", ""),
        ("recipe.json", "[]"),
        ("recipe.json", "\0\0"),
        ("recipe.json", "[" * 100_000),
    ],
)
def test_a_file_of_the_run_that_others_have_touched_is_named_with_the_way_out(tmp_path, file, text) -> None:
    assert course("train", "tiny", "--out", tmp_path, "--steps", 2)[0] == 0
    (tmp_path / file).write_bytes(text.encode("latin1"))
    code, output = course("train", "tiny", "--out", tmp_path, "--steps", 3)
    assert code == 1
    assert re.search(rf"{re.escape(str(tmp_path / file))}: is .*(Move it away|Delete it), and the run goes on", output)
    assert (tmp_path / file).read_bytes() == text.encode("latin1")  # it may be dear to somebody
    (tmp_path / file).unlink()
    assert "step 2 of 3" in course("train", "tiny", "--out", tmp_path, "--steps", 3)[1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("file", ["log.csv", "recipe.json"])
def test_a_folder_where_a_file_of_the_run_should_be_is_named_with_the_way_out(tmp_path, file) -> None:
    assert course("train", "tiny", "--out", tmp_path, "--steps", 2)[0] == 0
    (tmp_path / file).unlink()
    (tmp_path / file / "notes").mkdir(parents=True)
    code, output = course("train", "tiny", "--out", tmp_path, "--steps", 3)
    assert code == 1
    assert re.search(rf"{re.escape(str(tmp_path / file))}: .*(Move it away|Delete it), and the run goes on", output)
    assert (tmp_path / file / "notes").is_dir()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", ["", "step,loss,lr,gradient_norm\n1,0.9", "step,lo"])
def test_a_log_cut_short_by_a_crash_is_gone_on_with(tmp_path, damage) -> None:
    assert course("train", "tiny", "--out", tmp_path, "--steps", 2)[0] == 0
    (tmp_path / "log.csv").write_text(damage)
    assert course("train", "tiny", "--out", tmp_path, "--steps", 3)[0] == 0
    assert logged(tmp_path) == [3]


@pytest.mark.usefixtures("small")
def test_world_size_may_be_empty_and_is_a_number_else(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "")
    assert course("train", "tiny", "--out", tmp_path, "--steps", 1)[0] == 0
    for wrong in ("two", "0", "-1"):
        monkeypatch.setenv("WORLD_SIZE", wrong)
        code, output = course("train", "tiny", "--out", tmp_path, "--steps", 2)
        assert (code, f"WORLD_SIZE={wrong}: wanted the number of processes" in output) == (1, True)


# ---------------------------------------------------------------- several processes, and compiled

SHARED = """
import sys, torch
from accelerate import Accelerator
from test_training import IMAGES, LABELS, Training, tiny, train

torch.set_num_threads(1)
run = Training(tiny(dropout=0.0), ema=0.9, lr=3e-3, precision=torch.float32, accelerator=Accelerator(cpu=True))
gradients, losses = [], []
run.optimizer.register_step_pre_hook(lambda *_: gradients.append([p.grad.clone() for p in run.model.parameters()]))
for record in train(run, IMAGES, LABELS, steps=3, batch_size=8, clip=1e9, flip=True, warmup=3):
    losses.append((record.loss, record.losses, record.t))
torch.save({"gradients": gradients, "losses": losses, "state": run.state(), "writes": run.writes}, sys.argv[1])
"""


def launch(number: int, *command: object) -> None:
    """Run a command as `number` processes that know of each other, as `accelerate launch` and torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "COURSE_DEVICE": "cpu"}
    common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    processes = []
    for rank in range(number):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        arguments = [sys.executable, *(str(part).replace("RANK", str(rank)) for part in command)]
        processes.append(subprocess.Popen(arguments, env=os.environ | common | own, text=True, stderr=subprocess.PIPE))
    for process in processes:
        _, said = process.communicate(timeout=1200)
        assert process.returncode == 0, said


PATHS = [Path(__file__).parent, Path(__file__).parents[1]]


@pytest.mark.slow
def test_two_processes_take_the_steps_that_one_would_with_the_whole_batch(tmp_path: Path) -> None:
    launch(2, "-c", SHARED, tmp_path / "RANK.pt")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    run = Training(tiny(dropout=0.0), ema=0.9, lr=3e-3, precision=torch.float32)
    gradients: list[list[Tensor]] = []
    run.optimizer.register_step_pre_hook(
        lambda *_: gradients.append([p.grad.clone() for p in run.model.parameters() if p.grad is not None])
    )
    alone = list(train(run, IMAGES, LABELS, steps=3, batch_size=8, clip=1e9, flip=True, warmup=3))
    assert (first["writes"], second["writes"]) == (True, False)
    assert same(first["state"], second["state"])
    for step, record in enumerate(alone):
        for a, b in zip(first["gradients"][step], gradients[step], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        (loss, losses, t), (_, others, other_t) = first["losses"][step], second["losses"][step]
        assert loss == pytest.approx(record.loss, rel=1e-5)
        torch.testing.assert_close(losses, record.losses[::2], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(others, record.losses[1::2], rtol=1e-4, atol=1e-6)
        assert record.t is not None
        assert torch.equal(t, record.t[::2])
        assert torch.equal(other_t, record.t[1::2])


def test_a_batch_that_processes_cannot_share_equally_is_refused() -> None:
    class Three:
        device, process_index, num_processes, is_main_process = torch.device("cpu"), 1, 3, False

        def prepare_model(self, model: nn.Module) -> nn.Module:
            return model

    run = Training(tiny(), precision=torch.float32, accelerator=Three())
    with pytest.raises(ValueError, match="batch_size: wanted a multiple of the 3 processes, got 8"):
        next(steps_of(run, 1))


@pytest.mark.slow
def test_course_train_shares_a_run_between_processes_and_goes_on_alone(tmp_path: Path) -> None:
    command = ["-m", "course_utils.desk.cli", "train", "mnist-smoke", "--out", tmp_path / "both", "--batch-size", "8"]
    launch(2, *command, "--steps", "3")
    assert logged(tmp_path / "both") == [1, 2, 3]
    assert load_checkpoint(tmp_path / "both" / "checkpoint.pt")["step"] == 3
    code, output = course(*command[2:], "--steps", "4", "--device", "cpu")
    assert (code, "step 3 of 4" in output) == (0, True)
    course("train", "mnist-smoke", "--out", tmp_path / "one", "--batch-size", "8", "--steps", "3", "--device", "cpu")
    both, one = (load_checkpoint(tmp_path / name / "checkpoint.pt")["ema"] for name in ("both", "one"))
    assert both.keys() == one.keys()
    rows = [(tmp_path / name / "log.csv").read_text().splitlines()[1:4] for name in ("both", "one")]
    for a, b in zip(*rows, strict=True):
        loss_a, loss_b = (float(row.split(",")[1]) for row in (a, b))
        assert loss_a == pytest.approx(loss_b, rel=0.01)  # bfloat16, where the machine has it, rounds each share anew


@pytest.mark.slow(10)
@pytest.mark.skipif(torch.__version__.startswith("2.4."), reason="PyTorch 2.4 cannot compile through jaxtyping's hook")
def test_a_compiled_run_calls_the_compiled_network_and_keeps_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled, plain = tiny_run(compile=True), tiny_run()
    assert compiled.forward is not compiled.model
    drain(steps_of(compiled, 2))
    drain(steps_of(plain, 2))
    assert compiled.state()["model"].keys() == plain.state()["model"].keys()
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_any_loss_will_do() -> None:
    """With a loss of the caller's own, on a module that is no denoiser."""
    run = Training(nn.Linear(64, 3), lr=0.05, ema=0.9, precision=torch.float32)

    def loss(run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator) -> tuple[Tensor, None]:
        return nn.functional.cross_entropy(run.forward(x.flatten(1)), label, reduction="none"), None

    records = list(train(run, IMAGES, LABELS, steps=60, batch_size=40, task=loss, warmup=5))
    assert records[0].t is None
    assert records[-1].loss < 0.1 < records[0].loss


# ---------------------------------------------------------------- SIGKILL

KILLS, LEASH = 50, 4
LONG = dataclasses.replace(TINY, steps=KILLS * LEASH + 20)


def on_a_leash(records: Iterator[Record], last: int | None) -> None:
    """Train as far as a life may: on a fast machine, too, there are steps left for all of them."""
    for record in records:
        if record.step == last:
            time.sleep(3600)  # until it is killed


def train_until_killed(folder: Path, last: int | None) -> None:
    recipes.parts.pixel_moments = lambda name: (0.0, 0.5)  # in a process of its own
    torch.set_num_threads(1)
    run = begin(LONG, folder)
    on_a_leash(train_recipe(run, LONG, (IMAGES, LABELS), folder, every=2), last)


def rows(folder: Path) -> int:
    return (folder / "log.csv").read_text().count("\n") if (folder / "log.csv").exists() else 0


def halves(folder: Path) -> bool:
    return any(folder.glob(".checkpoint.pt.*.part"))


def killed_again_and_again(target: Callable[[Path, int | None], None], folder: Path) -> tuple[Path, Path]:
    """Folders of a run that lived once, and of one that was killed KILLS times: at its start, in a step, in a write."""
    # The fork server imports what takes long, once; a life then begins in a fraction of a second.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_tasks", "torch._dynamo"])
    whole, parts, draw = folder / "whole", folder / "parts", random.Random(0)

    def life(folder: Path, last: int | None = None) -> Any:
        process = context.Process(target=target, args=(folder, last))
        process.start()
        return process

    def lives_to_its_end(folder: Path) -> None:
        process = life(folder)
        process.join()
        assert process.exitcode == 0

    lives_to_its_end(whole)
    kills, caught, on_disk = 0, 0, 0
    while kills < KILLS:
        done = max(rows(parts) - 1, 0)  # the first row is the header
        process, goal = life(parts, done + LEASH), 1 + done + draw.randint(1, LEASH)
        moment = draw.choice(["start", "step", "write"])
        if moment == "start":
            time.sleep(draw.uniform(0, 0.1))
        while process.is_alive() and (
            (moment == "step" and rows(parts) < goal)
            or (moment == "write" and not halves(parts) and rows(parts) <= done + LEASH)
        ):
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.02) if moment == "step" else 0)
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was done
            break
        kills += process.exitcode == -signal.SIGKILL
        caught += halves(parts)
        if (parts / "checkpoint.pt").exists():
            content = load_checkpoint(parts / "checkpoint.pt")
            assert content["step"] >= on_disk
            on_disk = content["step"]
    print(f"{kills} kills, {caught} of them in the middle of a write, {on_disk} steps")
    assert kills == KILLS
    assert on_disk > 0
    lives_to_its_end(parts)
    return whole, parts


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, PATHS)))


@pytest.mark.slow(20)
@pytest.mark.usefixtures("forks")
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = killed_again_and_again(train_until_killed, tmp_path)
    assert same(load_checkpoint(parts / "checkpoint.pt"), load_checkpoint(whole / "checkpoint.pt"))
    assert logged(parts) == list(range(1, LONG.steps + 1))
    assert (parts / "log.csv").read_text() == (whole / "log.csv").read_text()
