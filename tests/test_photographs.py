"""Ideas for photographs, one at a time: equal photographs or operations, paired differences; a sweep goes on."""

import dataclasses
import math

import pytest
import torch
from typer.testing import CliRunner

from course_utils import metrics
from course_utils._validate import require_one_of
from course_utils.checkpoints import CheckpointError
from course_utils.data import load_images, normalize
from course_utils.denoisers.costs import count_flops
from course_utils.desk import cli
from course_utils.files import DataError
from course_utils.leaderboard import photographs, rows
from course_utils.leaderboard.architectures import held_out_loss, held_out_losses
from course_utils.leaderboard.photographs import (
    PhotographPlan,
    load_photographs,
    run_photographs,
    trained,
    training_flops,
    trainings,
)
from course_utils.leaderboard.show import table_of_photographs
from course_utils.recipes import make_model, settings_of


@pytest.mark.parametrize("way", photographs.WAYS)
def test_a_way_sees_as_many_photographs_or_costs_as_many_operations(way):
    (baseline,), found = trainings(PhotographPlan("baseline")), trainings(PhotographPlan(way, seed=3))
    assert all(recipe.seed == 3 and recipe.full and recipe.warmup == recipe.steps // 10 for recipe in found)
    cost = sum(map(training_flops, found)) / training_flops(baseline)
    if "small" in photographs.WAYS[way]:
        small, large = found
        assert (small.dataset, large.dataset, large.start) == ("cifar10-16", "cifar10", small.name)
        assert training_flops(small) == pytest.approx(training_flops(large), rel=0.01)
        assert cost == pytest.approx(1, abs=0.01)
        assert small.network == large.network == baseline.network
        return
    (recipe,) = found
    assert recipe.steps * recipe.batch_size == 64_000
    assert cost == pytest.approx(1, abs=0.03)
    before = settings_of(dataclasses.replace(baseline, name=recipe.name, seed=3))
    changed = {key for key, value in settings_of(recipe).items() if value != before[key]}
    assert changed <= {*photographs.WAYS[way], *(["steps", "warmup"] if "batch_size" in photographs.WAYS[way] else [])}
    assert bool(changed) == (way != "baseline")


def test_operations_are_three_forward_passes_of_each_photograph():
    (recipe,) = trainings(PhotographPlan("baseline", photographs=6400))
    forward = count_flops(make_model(recipe, (0.0, 1.0)).network, (3, 32, 32))
    assert training_flops(recipe) == 3 * 6400 * forward


def test_a_difference_is_that_of_pairs():
    generator = torch.Generator().manual_seed(0)
    hard = torch.rand(4000, generator=generator) * 10  # how hard each photograph is matters most, and to both alike
    noise = 0.3 * torch.randn(4000, generator=generator)
    found = metrics.mean_difference(hard + 0.05 + noise, hard)
    assert found.value == pytest.approx(0.05 + noise.mean().item(), abs=1e-5)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.3 / math.sqrt(4000), rel=0.05)


# ---------------------------------------------------------------- a small sweep


@pytest.fixture
def small(monkeypatch):
    """A network that learns in no time, on the embedded photographs; three ways; few samples."""
    network = {"channels": 3, "widths": [16], "blocks": 1, "attention": [], "num_classes": 10, "stem": 4}
    tiny = dataclasses.replace(photographs.BASELINE, full=False, network=network, batch_size=8, ema=[0.99, 0.0])
    monkeypatch.setattr(photographs, "BASELINE", tiny)
    monkeypatch.setattr(
        photographs, "WAYS", {"baseline": {}, "muon": {"optimizer": "muon"}, "progressive": {"small": 0.5}}
    )
    for name, value in (("N", 20), ("CALLS", 2), ("REPEATS", 2)):
        monkeypatch.setattr(photographs, name, value)
    monkeypatch.setenv("COURSE_DEVICE", "cpu")


@pytest.mark.usefixtures("small")
def test_held_out_losses_are_of_the_photographs_in_their_order():
    """Of a network that says nothing: where there is nearly only noise, the target of v is the photograph itself."""
    model = make_model(trainings(PhotographPlan("baseline"))[0])
    each = held_out_losses(model, "cifar10", 200)
    assert held_out_loss(model, "cifar10", 200) == pytest.approx(each.mean().item(), rel=1e-6)
    assert torch.equal(held_out_losses(model, "cifar10", 200, seed=0), each)
    many = torch.stack([held_out_losses(model, "cifar10", 200, seed=seed) for seed in range(4)])
    assert not torch.equal(many[0], many[1])
    pixels = normalize(load_images("cifar10", "test", n=200)[0])
    power = ((pixels - model.data_mean) / model.data_std).square().flatten(1).mean(1)
    assert torch.corrcoef(torch.stack([many.mean(0), power]))[0, 1] > 0.5


@pytest.mark.slow(20)
@pytest.mark.usefixtures("small")
def test_a_sweep_goes_on_where_it_was_and_ends_as_one_that_never_stopped(tmp_path):
    told = []
    how = {"photographs": 64, "folder": tmp_path / "table", "watch": lambda *of: told.append(of)}
    (tmp_path / "table").mkdir()
    first = run_photographs(tmp_path / "work", ["muon", "progressive"], **how)
    before = [next(first) for _ in range(3)]
    first.close()
    steps = len(told)
    rest = list(run_photographs(tmp_path / "work", ["muon", "progressive"], **how))
    assert list(run_photographs(tmp_path / "work", ["muon", "progressive"], **how)) == []
    keys = [(way, 0, 64, average) for way in ("baseline", "muon", "progressive") for average in (0.99, 0.0)]
    assert [row.key for row in before + rest] == keys
    assert [row.key for row in load_photographs(tmp_path / "table")] == keys
    assert steps == 16  # the baseline, and Muon
    late, cheaper = 4, round(4 * cost_ratio())
    assert [of[1:] for of in told[steps:]] == [
        *((step, cheaper) for step in range(1, cheaper + 1)),
        *((step, late) for step in range(1, late + 1)),
    ]
    baseline, average, *others = before + rest
    assert (baseline.difference, baseline.difference_low, baseline.difference_high) == (0, 0, 0)
    for row in (average, *others):
        assert row.difference == pytest.approx(row.loss - baseline.loss, abs=1e-5)
        assert row.difference_low < row.difference < row.difference_high
        assert math.isnan(row.fid) == (row.average == 0 and row.way != "baseline")
        assert row.seconds > 0
    assert others[0].optimizer == "muon"
    assert others[-1].steps == late + cheaper
    assert len(table_of_photographs(before + rest).splitlines()) == 7


@pytest.mark.slow(20)
@pytest.mark.usefixtures("small")
def test_where_the_table_has_a_baseline_whose_losses_are_elsewhere_it_is_trained_again(tmp_path):
    """As in a fresh clone: a difference to nothing would stand in the table for good."""
    (tmp_path / "table").mkdir()
    how = {"photographs": 64, "folder": tmp_path / "table"}
    before = list(run_photographs(tmp_path / "there", ["baseline"], **how))
    assert list(run_photographs(tmp_path / "here", ["baseline"], **how)) == []
    assert not (tmp_path / "here").exists()
    found = list(run_photographs(tmp_path / "here", ["muon"], **how))
    assert [row.way for row in found] == ["muon", "muon"]
    for row in found:
        assert row.difference == pytest.approx(row.loss - before[0].loss, abs=1e-5)
        assert row.difference_low < row.difference < row.difference_high
    assert [row.way for row in load_photographs(tmp_path / "table")] == ["baseline"] * 2 + ["muon"] * 2


@pytest.mark.usefixtures("small")
def test_a_way_that_is_none_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match="way: wanted one of baseline, muon, progressive, got 'magic'"):
        next(run_photographs(tmp_path / "work", ["magic"], photographs=64, folder=tmp_path))
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("small")
def test_a_table_whose_last_row_was_cut_off_is_damaged(tmp_path):
    table = tmp_path / "photographs.csv"
    whole = rows.path_of("photographs").read_text()
    table.write_text(whole[: whole.rindex(",")])
    with pytest.raises(DataError, match="cannot be read as a leaderboard"):
        load_photographs(tmp_path)
    table.write_text(whole.rstrip() + ",1\n")
    with pytest.raises(DataError, match="cannot be read as a leaderboard"):
        load_photographs(tmp_path)


@pytest.mark.usefixtures("small")
def test_the_command_tells_of_damaged_losses_in_words(monkeypatch):
    def run(work, ways, **how):
        raise CheckpointError("losses-0.99.pt: is damaged")

    monkeypatch.setattr(photographs, "run_photographs", run)
    done = CliRunner().invoke(cli.app, ["bench", "photographs"])
    assert (done.exit_code, "is damaged" in done.output) == (1, True)


def cost_ratio():
    network = make_model(trainings(PhotographPlan("baseline", photographs=64))[0], (0.0, 1.0)).network
    return count_flops(network, (3, 32, 32)) / count_flops(network, (3, 16, 16))


@pytest.mark.slow(10)
@pytest.mark.usefixtures("small")
def test_a_training_that_was_stopped_goes_on(tmp_path):
    class Stop(Exception):
        pass

    def stop(name, step, steps):
        if step == 230:
            raise Stop

    (recipe,) = trainings(PhotographPlan("baseline", photographs=8 * 240))
    with pytest.raises(Stop):
        trained(recipe, tmp_path, stop)
    steps = []
    run, seconds = trained(recipe, tmp_path, lambda name, step, of: steps.append(step))
    assert steps == list(range(201, 241))  # from the checkpoint
    assert run.step == 240
    assert seconds > 0
    assert trained(recipe, tmp_path)[1] == seconds
    assert torch.equal(*(one.model.network.last.weight for one in (run, trained(recipe, tmp_path / "whole")[0])))


@pytest.mark.usefixtures("small")
def test_the_command_tries_the_ways_that_are_named(monkeypatch, tmp_path):
    asked = []

    def run(work, ways, **how):
        asked.append((work.name, ways, how["seeds"], how["photographs"]))
        how["watch"]("baseline", 1, 2)
        require_one_of("way", ways[0], photographs.WAYS)
        return iter(())

    monkeypatch.setattr(photographs, "run_photographs", run)
    call = CliRunner().invoke
    done = call(cli.app, ["bench", "photographs", "muon", "--seed", "1", "--seed", "2", "--photographs", "640"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("way")
    assert call(cli.app, ["bench", "photographs"]).exit_code == 0
    assert asked == [
        ("photographs", ("muon",), [1, 2], 640),
        ("photographs", tuple(photographs.WAYS), (0,), photographs.PHOTOGRAPHS),
    ]
    for wrong, says in (
        (["photographs", "magic"], "way: wanted one of baseline, muon, progressive, got 'magic'"),
        (["photographs", "--threads", "1"], "--threads and --precision are for `course bench robust`"),
        (["size", "--photographs", "640"], "--photographs is for `course bench photographs`"),
    ):
        refused = call(cli.app, ["bench", *wrong])
        assert (refused.exit_code, says in refused.output) == (1, True), refused.output


def test_the_stored_table_holds_each_row_once_and_is_of_ways_that_there_are():
    found = load_photographs()
    assert len({row.key for row in found}) == len(found)
    for row in found:
        assert row.way in photographs.WAYS
        assert row.average in photographs.BASELINE.ema
        assert math.isfinite(row.loss)
        assert math.isnan(row.fid) or row.low <= row.fid <= row.high
        plan = PhotographPlan(row.way, row.seed, row.photographs)
        assert row.training_flops == pytest.approx(sum(map(training_flops, trainings(plan))), rel=1e-5)
        if row.way == "baseline" and row.average == photographs.BASELINE.ema[0]:
            assert row.difference == 0
