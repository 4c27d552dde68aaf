"""The leaderboard counts what is asked of the network, measures what it says, and never measures a row twice."""

import dataclasses
import math

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from course_utils import leaderboard, metrics, pretrained
from course_utils.classifier import look_at
from course_utils.data import load_images, normalize
from course_utils.denoisers import Denoiser
from course_utils.files import DataError
from course_utils.leaderboard import (
    CONTENDERS,
    Contender,
    Counted,
    GuidancePlan,
    GuidedRow,
    Row,
    guided,
    measuring,
    plan_within,
    planned,
    plans,
    rows,
)
from course_utils.samplers import sample_ddim, sample_heun
from course_utils.schedules import linear

SCHEDULE = linear(40, 1e-3, 0.2)


class Copies(Denoiser):
    """A denoiser that knows ten real digits, one a class, and answers with them, a little greyer at high noise."""

    def forward(self, x_t, t, label=None):
        seen.append((x_t.detach().clone(), t))
        return DIGITS[label] * (1 - 0.3 * t / 40) + 0.01 * x_t


seen: list = []
_images, _labels = load_images("mnist", n=200)
DIGITS = torch.stack([normalize(_images[_labels == c][0]) for c in range(10)])


@pytest.fixture
def board(monkeypatch, tmp_path):
    """A leaderboard of a small world: 600 real digits, and a network that costs nothing."""
    real = load_images

    def small(name, split="train", **options):
        return real(name, split, n=600)

    network = Copies(nn.Linear(1, 1), SCHEDULE)
    monkeypatch.setattr(metrics.real_images, "load_images", small)
    monkeypatch.setattr(pretrained, "load_denoiser", lambda name, device="cpu": network)
    monkeypatch.setattr(plans, "LONGEST", 40)
    for cached in (metrics.reference, metrics.floor_of):
        cached.cache_clear()
    seen.clear()
    yield lambda **options: leaderboard.run(n=20, budgets=(3, 5, 40), folder=tmp_path, **options)
    for cached in (metrics.reference, metrics.floor_of):
        cached.cache_clear()


# --- network calls ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda c: c.sampler)
@pytest.mark.parametrize("budget", [1, 2, 5, 10, 20, 50])
def test_a_plan_is_the_longest_grid_within_its_budget(contender, budget):
    """Counted by hand: a step costs one call, or two but for the last for those that look twice."""
    schedule = linear()
    plan = plan_within(contender, schedule, budget)
    twice = contender.sampler in ("heun", "dpmpp_2s")
    calls = []

    def denoise(x_t, t, **cond):
        calls.append(t)
        return x_t / 2

    contender.sample(denoise, torch.ones(3, 2), schedule, plan.timesteps, generator=torch.Generator())
    assert plan.nfe == len(calls) <= budget
    longer = leaderboard.GRIDS[contender.grid](schedule, len(plan.timesteps))
    assert leaderboard.network_calls(contender.sample, schedule, longer) > budget
    steps = len(plan.timesteps) - 1
    assert plan.nfe == steps or (twice and steps < plan.nfe <= 2 * steps - 1)
    assert plan.timesteps[0] == 1000
    assert plan.timesteps[-1] == 0


@pytest.mark.slow(10)
def test_everything_is_planned_cheap_ones_first():
    plans = planned(linear(), budgets=(5, 10, 1000))
    assert [plan.nfe for plan in plans] == sorted(plan.nfe for plan in plans)
    asked = {(plan.contender.sampler, plan.nfe) for plan in plans}
    assert {("ddpm", 1000), ("heun", 9), ("heun", 5), ("dpmpp_2m", 10), ("unipc_3", 5)} <= asked
    assert len(plans) == 2 * len(CONTENDERS) + 1


def test_a_budget_that_is_too_small_is_said():
    greedy = Contender("greedy", lambda denoise, x, *a, **k: denoise(denoise(x, 2), 1), "uniform")
    with pytest.raises(ValueError, match="greedy asks 2 times in a single step, got 1"):
        plan_within(greedy, linear(), 1)


def test_images_are_counted_not_batches():
    told, counted = [], Counted(lambda x, t: x)
    counted.progress = told.append
    counted(torch.ones(7, 2), 1)
    counted(torch.ones(3, 2), 1)
    assert (counted.images, told) == (10, [7, 3])


# --- measuring -------------------------------------------------------------------------------------------------------


@pytest.mark.slow(10)
def test_a_row_is_the_fid_of_the_samples_that_it_names(board):
    """The same figure from the pieces: noise, sampler, bytes, features, distance."""
    ddim = Contender("ddim", sample_ddim, "quadratic")
    plan = plan_within(ddim, SCHEDULE, 5)
    network = Copies(nn.Linear(1, 1), SCHEDULE)
    row = leaderboard.measure("mnist-unet", network, plan, n=30, seed=3, precision=torch.float32)
    real = metrics.reference("mnist")
    label = real.test_labels[real.draws(30)[0]]
    _, sigma = SCHEDULE.coeffs(40)
    x_T = sigma.float() * torch.randn(30, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    x_0 = sample_ddim(network, x_T, SCHEDULE, plan.timesteps, label=label)
    images = ((x_0.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    assert row.fid == pytest.approx(metrics.fid(look_at(real.classifier, images)[0], real.train), rel=1e-3)
    assert (row.sampler, row.grid, row.steps, row.nfe, row.n, row.seed) == ("ddim", "quadratic", 5, 5, 30, 3)
    assert row.sha256 == pretrained.read_manifest()["mnist-unet"]["sha256"][:12]
    assert row.seconds > 0
    assert (row.features, row.precision) == ("mnist-classifier", "float32")
    assert row.low <= row.fid <= row.high


@pytest.mark.parametrize(("seconds", "n"), [(1, 10), (49, 10), (51, 25), (1e3, 100)])
def test_as_many_samples_as_the_machine_draws_in_time(seconds, n, monkeypatch):
    clock = iter([0, 30, 30, 40])  # the second batch of fifty takes 10 s: 0.2 s an image
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    assert leaderboard.affordable((10, 100, 25), calls=10, seconds=seconds, name="mnist-cnn") == n


@pytest.mark.slow(10)
def test_the_floor_is_a_mean_over_disjoint_draws_of_real_images(board, monkeypatch):
    real, draws = metrics.reference("mnist"), []

    def recorded(features, reference):
        assert torch.equal(reference, real.train)
        draws.append([next(i for i, row in enumerate(real.test) if torch.equal(row, f)) for f in features])
        return fid(features, reference)

    fid = metrics.fid
    monkeypatch.setattr(metrics.real_images, "fid", recorded)
    floor = metrics.floor_of("mnist", 100)
    assert len(draws) == 4
    assert len({i for draw in draws for i in draw}) == 400
    assert draws == [draw.tolist() for draw in real.draws(100)]
    assert floor == pytest.approx(sum(fid(real.test[draw], real.train) for draw in draws) / 4, rel=1e-9)
    with pytest.raises(ValueError, match="n: wanted at most 600"):
        metrics.floor_of("mnist", 601)


@pytest.mark.slow(10)
def test_every_sampler_starts_from_the_same_noise(board):
    starts = {}
    for row in board():
        first = max(seen, key=lambda call: call[1])
        starts[row.sampler, row.grid] = first[0]
        seen.clear()
    assert len(starts) == len(CONTENDERS)
    assert all(torch.equal(x_T, starts["ddpm", "uniform"]) for x_T in starts.values())


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.slow(10)
def test_a_run_that_was_stopped_goes_on_where_it_was(board, tmp_path):
    first = board()
    before = [next(first) for _ in range(3)]
    first.close()
    stored = leaderboard.load(folder=tmp_path)
    assert [row.key for row in stored] == [row.key for row in before]  # each was in the file before it came back
    rest = list(board())
    assert len(before) + len(rest) == 2 * len(CONTENDERS) + 1
    assert not {row.key for row in before} & {row.key for row in rest}
    assert [row.nfe for row in before + rest] == sorted(row.nfe for row in before + rest)
    seen.clear()
    assert list(board()) == []
    assert seen == []
    assert len(list(board(seed=1))) == len(before) + len(rest)
    rows = leaderboard.load(folder=tmp_path)
    assert {row.seed for row in rows} == {0, 1}
    assert len({row.key for row in rows}) == len(rows)


AVX2, BF16 = {"avx2": True}, {"avx2": True, "avx512_bf16": True}


@pytest.fixture
def machine(monkeypatch):
    """A CPU with other abilities: `machine(AVX2)` has no bfloat16, and would only emulate it, twenty times slower."""
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    return lambda able: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)


@pytest.mark.slow(10)
def test_a_table_goes_on_in_the_precision_of_the_machine(board, machine, tmp_path):
    """Whatever its first rows were drawn in; and what is there is not measured again."""
    machine(BF16)
    first = next(board())
    machine(AVX2)
    others = list(board())
    assert first.precision == "bfloat16"
    assert {row.precision for row in others} == {"float32"}
    assert [row.precision for row in leaderboard.load(folder=tmp_path)] == ["bfloat16", *["float32"] * len(others)]
    assert first.key not in {row.key for row in others}


@pytest.mark.slow(10)
def test_other_weights_are_measured_again(board, tmp_path, monkeypatch):
    next(board())
    manifest = pretrained.read_manifest()
    manifest["mnist-unet"]["sha256"] = "0" * 64
    monkeypatch.setattr(pretrained, "read_manifest", lambda: manifest)
    assert next(board()).sha256 == "0" * 12
    assert len(leaderboard.load(folder=tmp_path)) == 2


def test_a_table_holds_one_seed_and_the_weights_that_are_shipped(tmp_path):
    now = pretrained.read_manifest()["mnist-unet"]["sha256"][:12]
    old = dataclasses.replace(ROW, sha256="b" * 12)
    mine, later = (dataclasses.replace(ROW, sha256=now, seed=seed) for seed in (0, 1))
    leaderboard.save([old, mine, later], folder=tmp_path)
    assert leaderboard.stored(folder=tmp_path) == [mine]
    assert leaderboard.stored(seed=1, folder=tmp_path) == [later]
    assert leaderboard.stored(n=50, folder=tmp_path) == []
    for show in (leaderboard.table, leaderboard.figure):
        show([mine])
        for other in (old, later):
            with pytest.raises(ValueError, match="rows: wanted rows of one network, the same weights and one seed"):
                show([mine, other])


@pytest.mark.slow(10)
def test_ones_own_sampler_is_drawn_in_the_precision_of_the_machine(board, machine, monkeypatch):
    """The network is asked in it, not only the row labelled so, beside a table that is stored in bfloat16."""
    assert {row.precision for row in leaderboard.stored("mnist-unet")} == {"bfloat16"}
    asked = []
    calls = Copies.forward

    def noted(self, x_t, t, label=None):
        asked.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
        return calls(self, x_t, t, label)

    monkeypatch.setattr(Copies, "forward", noted)
    for able, precision in ((AVX2, torch.float32), (BF16, torch.bfloat16)):
        machine(able)
        asked.clear()
        mine = leaderboard.add("mine", sample_ddim, grid="uniform", budget=3, n=20)
        assert (set(asked), f"torch.{mine.precision}") == ({precision}, str(precision))


@pytest.mark.slow(10)
def test_progress_is_told_of_every_call(board):
    done = []
    plans = leaderboard.missing(n=20, budgets=(3, 5, 40))
    rows = list(board(progress=done.append))
    assert sum(done) == 20 * sum(row.nfe for row in rows)
    assert sum(plan.nfe for plan in plans) == sum(row.nfe for row in rows)


def test_of_all_samplers_some_are_asked_for(tmp_path):
    every = leaderboard.missing(n=20, budgets=(10, 100), folder=tmp_path)
    some = leaderboard.missing(n=20, budgets=(10, 100), samplers=("unipc_3", "ddpm"), folder=tmp_path)
    assert [plan.contender for plan in some] == [
        p.contender for p in every if p.contender.sampler in ("ddpm", "unipc_3")
    ]
    assert {plan.contender.grid for plan in some} == {"uniform", "quadratic"}


ROW = Row(
    "mnist-unet", "a" * 12, "ddim", "uniform", 5, 5, 1000, 0, 0.25, 0.2, 0.31, 0.01, 0.04, "mnist-classifier", 0.0033,
    "cpu (1 threads)", "float32",
)  # fmt: skip


def test_rows_come_back_from_the_file_as_they_went(tmp_path):
    rows = [ROW, dataclasses.replace(ROW, sampler="a, b", fid=1.25e-05)]
    leaderboard.save(rows, folder=tmp_path)
    assert leaderboard.load(folder=tmp_path) == rows
    assert leaderboard.load("other", tmp_path) == []


@pytest.mark.parametrize("damage", ["sampler,nfe\nddim,5\n", "{}\nx,y\n", 'a"b'])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "mnist-unet.csv"
    leaderboard.save([ROW], folder=tmp_path)
    path.write_text(damage.replace("{}", path.read_text().splitlines()[0]) + "x\n")
    with pytest.raises(DataError, match=r"mnist-unet\.csv: cannot be read as a leaderboard"):
        leaderboard.load(folder=tmp_path)


@pytest.mark.parametrize("name", ["mnist-unet", "cifar10-unet"])
def test_the_stored_table_is_of_the_shipped_weights(name):
    rows = leaderboard.load(name)
    assert rows
    assert {row.sha256 for row in rows} == {pretrained.read_manifest()[name]["sha256"][:12]}
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        assert row.fid > 0
        assert row.nfe <= 1000
        assert row.low <= row.fid <= row.high


# --- a sampler of one's own ------------------------------------------------------------------------------------------


@pytest.mark.slow(10)
def test_ones_own_sampler_is_measured_like_the_others_and_written_nowhere(board, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "data_dir", lambda: tmp_path)

    def mine(denoise, x_T, schedule, timesteps, *, generator=None, **cond):
        return sample_heun(denoise, x_T, schedule, timesteps, **cond)

    own = leaderboard.add("mine", mine, grid="uniform", budget=5, n=20)
    theirs = next(row for row in board() if row.sampler == "heun" and row.nfe == 5)
    assert dataclasses.replace(own, sampler="heun", seconds=0.0) == dataclasses.replace(theirs, seconds=0.0)
    assert not (tmp_path / rows.FOLDER).exists()


@pytest.mark.slow(10)
def test_what_is_no_sampler_is_said(board):
    with pytest.raises(ValueError, match="grid: wanted one of uniform, quadratic, log_snr, karras, got 'even'"):
        leaderboard.add("mine", sample_ddim, grid="even")

    def flat(denoise, x_T, schedule, timesteps, **options):
        return denoise(x_T, timesteps[0], label=options.get("label")).flatten(1)

    with pytest.raises(ValueError, match=r"flat: wanted images of shape \(20, 1, 28, 28\) back, got \(20, 784\)"):
        leaderboard.add("flat", flat, n=20)


# --- showing it ------------------------------------------------------------------------------------------------------


def rows_like(**columns):
    return [
        dataclasses.replace(ROW, **dict(zip(columns, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]


def test_the_table_puts_calls_into_columns_and_stars_the_best():
    rows = rows_like(sampler=["ddim", "ddim", "heun", "heun"], nfe=[5, 10, 5, 9], fid=[0.9, 0.5, 0.7, 0.6])
    lines = leaderboard.table(rows).splitlines()
    assert lines[0].split()[-2:] == ["5", "10"]
    assert lines[1].split()[2:] == ["0.900", "±0.055", "0.500", "±0.055*"]
    assert lines[2].split()[2:] == ["0.700", "±0.055*", "0.600", "±0.055"]
    assert "0.0400" in lines[3]
    assert "n = 1,000" in lines[3]
    assert leaderboard.at(rows, 10)["heun", "uniform"].nfe == 9
    with pytest.raises(ValueError, match="rows: wanted rows of one n"):
        leaderboard.table(rows_like(n=[1000, 2000]))


def test_rows_of_another_precision_are_marked():
    rows = rows_like(nfe=[5, 10, 20], fid=[0.9, 0.5, 0.7], precision=["bfloat16", "float32", "bfloat16"], n=[1000] * 3)
    table = leaderboard.table(rows).splitlines()
    assert table[1].split()[2:] == ["0.900", "±0.055*", "0.500", "±0.055'*", "0.700", "±0.055*"]
    assert table[2].endswith("features of mnist-classifier, bfloat16, ' float32")
    assert leaderboard.table(rows[::2]).endswith("features of mnist-classifier, bfloat16")
    own = [dataclasses.replace(ROW, sampler="mine", nfe=7, precision=kind) for kind in ("float32", "bfloat16")]
    (axis,) = leaderboard.figure(rows, own).axes
    assert {"mine, uniform (float32)", "mine, uniform"} <= {line.get_label() for line in axis.lines}
    (hollow,) = [line for line in axis.lines if line.get_color() == "white"]
    assert (list(hollow.get_ydata()), list(hollow.get_xdata())) == ([0.5], [pytest.approx(10, rel=0.05)])
    plt.close("all")


def test_the_figure_has_a_line_a_sampler_the_floor_and_ones_own_star():
    rows = rows_like(sampler=["ddim", "ddim", "heun"], nfe=[10, 5, 9], fid=[0.5, 0.9, 0.6])
    (axis,) = leaderboard.figure(rows, [dataclasses.replace(ROW, sampler="mine", nfe=7)]).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines["ddim, uniform"].get_xdata()) == pytest.approx([5, 10], rel=0.05)
    assert list(lines["ddim, uniform"].get_ydata()) == [0.9, 0.5]
    assert lines["mine, uniform"].get_marker() == "*"
    assert set(lines["real images"].get_ydata()) == {0.04}
    assert axis.get_xlabel() == "network calls a sample"
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
    assert axis.get_ylim()[0] == 0
    assert leaderboard.figure(rows_like(nfe=[5, 10], fid=[40.0, 3.0])).axes[0].get_yscale() == "log"
    plt.close("all")
    with pytest.raises(ValueError, match="one n"):
        leaderboard.figure(rows, [dataclasses.replace(ROW, n=20)])


# --- against the weight of guidance -----------------------------------------------------------------------------------


class Classes(Denoiser):
    """A denoiser that answers with a digit of the class, and without one with the mean of all."""

    def forward(self, x_t, t, label=None):
        seen.append((x_t.detach().clone(), t))
        return (DIGITS.mean(0) if label is None else DIGITS[label]) + 0.1 * x_t


PLANNED = (
    GuidancePlan("classifier-free", 1.0, 20, "ddim", "uniform", 4),
    GuidancePlan("classifier-free", 3.0, 20, "ddim", "uniform", 4),
    GuidancePlan("in an interval", 3.0, 20, "ddim", "uniform", 4),
    GuidancePlan("autoguidance", 2.0, 20, "ddpm", "uniform", 4),
    GuidancePlan("classifier", 1.0, 20, "ddim", "uniform", 4),
)


@pytest.fixture
def sweep(board, monkeypatch, tmp_path):
    network, real = Classes(nn.Linear(1, 1), SCHEDULE), pretrained.load_network
    weak = Classes(nn.Linear(1, 1), SCHEDULE)
    monkeypatch.setattr(pretrained, "load_denoiser", lambda name, device="cpu": network)
    monkeypatch.setattr(
        pretrained, "load_network", lambda name, *a, **o: weak if "weak" in name else real(name, *a, **o)
    )
    monkeypatch.setitem(guided.PLANS, "mnist-unet", PLANNED)
    return lambda: leaderboard.run_guided("mnist-unet", folder=tmp_path)


@pytest.mark.slow(10)
def test_a_sweep_goes_on_where_it_was_and_counts_its_calls(sweep, tmp_path):
    first = sweep()
    before = [next(first), next(first)]
    first.close()
    assert leaderboard.missing_guided("mnist-unet", folder=tmp_path) == list(PLANNED[2:])
    rest = list(sweep())
    assert list(sweep()) == []
    found = leaderboard.load_guided("mnist-unet", folder=tmp_path)
    assert [row.key for row in found] == [row.key for row in before + rest]
    levels = [SCHEDULE.log_snr(t).item() for t in (40, 30, 20, 10)]
    inside = sum(guided.INTERVAL[0] <= level <= guided.INTERVAL[1] for level in levels)
    assert 0 < inside < 4
    assert [(row.nfe, row.other_calls) for row in found] == [(4, 0), (8, 0), (4 + inside, 0), (4, 4), (4, 4)]
    assert len({row.floor for row in found}) == 1


@pytest.mark.slow(10)
def test_a_guided_row_is_what_its_samples_are(sweep):
    """Digits that a denoiser copies are of the class asked for; and rows come back from a file as they went."""
    row = next(sweep())
    assert row.agreement > 0.9
    assert row.log_snr_low == -math.inf
    assert row.low <= row.fid <= row.high


def test_a_method_without_its_second_network_is_said():
    with pytest.raises(ValueError, match="other: autoguidance wants a second network"):
        guided.guided_denoiser("mnist-unet", Copies(nn.Linear(1, 1), SCHEDULE), SCHEDULE, PLANNED[3])


@pytest.mark.parametrize("name", ["mnist-unet", "cifar10-unet"])
def test_the_stored_sweeps_are_of_the_shipped_weights(name):
    found = leaderboard.load_guided(name)
    assert len({row.key for row in found}) == len(found)
    assert found == rows.read(guided.guided_path(name), GuidedRow)
    for row in found:
        assert row.low <= row.fid <= row.high
        assert GuidancePlan(row.method, row.w, row.n, row.sampler, row.grid, row.steps) in guided.PLANS[name]
