"""Three architectures at equal cost: budgets are what they say, a sweep goes on where it was, rows stay whole."""

import dataclasses
import math

import pytest
import torch

from course_utils.denoisers import Denoiser
from course_utils.leaderboard import architectures
from course_utils.leaderboard.architectures import (
    BATCH,
    BUDGETS,
    NETWORKS,
    RATES,
    THREE,
    ArchitecturePlan,
    ArchitectureRow,
    chosen_rate,
    held_out_loss,
    load_architectures,
    plans,
    recipe_for,
    run_architectures,
    step_flops,
)
from course_utils.recipes import make_model

STORED = load_architectures()


def row_of(plan, steps, step_seconds):
    """What `measure_architecture` returns, without a training: the rate in the middle is the best."""
    figures = dict.fromkeys(("fid", "low", "high", "floor", "agreement"), 1.0)
    return ArchitectureRow(
        **plan._asdict(), steps=steps, batch=BATCH, parameters=1, flops=1, activation_bytes=1,
        step_seconds=step_seconds, loss=abs(math.log(plan.lr / 2e-3)), n=10, device="cpu", precision="float32",
        **figures,
    )  # fmt: skip


@pytest.fixture
def sweep(monkeypatch, tmp_path):
    """A sweep that trains nothing; what it would have trained is noted."""
    trained = []

    def measured(plan, steps, step_seconds):
        trained.append((plan, steps))
        return row_of(plan, steps, step_seconds)

    monkeypatch.setattr(architectures, "measure_architecture", measured)
    seconds = {"unet": 1.0, "dit": 2.0, "swin": 4.0, "dit, patch 2": 5.0, "dit, patch 7": 0.5}
    monkeypatch.setattr(architectures, "seconds_a_step", lambda dataset, names: {name: seconds[name] for name in names})
    return trained, lambda: run_architectures("mnist", folder=tmp_path), tmp_path


@pytest.mark.slow(3)
def test_a_sweep_goes_on_where_it_was_and_trains_nothing_twice(sweep):
    trained, run, folder = sweep
    first = run()
    before = [next(first) for _ in range(14)]
    first.close()
    rest = list(run())
    assert list(run()) == []
    assert [row.plan for row in load_architectures(folder)] == [row.plan for row in before + rest]
    assert len({row.plan for row in before + rest}) == len(plans("mnist")) == len(before + rest)
    keys = [(plan.architecture, plan.seed, plan.lr, steps) for plan, steps in trained]
    assert len(set(keys)) == len(keys)
    # The U-Net at equal seconds is the U-Net at equal operations: the same training, measured once.
    assert len(trained) == len(plans("mnist")) - 3


def test_budgets_are_equal_operations_and_equal_seconds(sweep):
    _, run, _ = sweep
    costs = {name: step_flops(make_model(recipe_for("mnist", name)), "mnist") for name in NETWORKS["mnist"]}
    for row in run():
        operations = row.steps * costs[row.architecture]
        if row.equal == "seconds":
            budget = row.budget * 1e12 / costs["unet"]  # of seconds: a step of this U-Net takes one
            assert row.steps * row.step_seconds == pytest.approx(budget, abs=row.step_seconds)
        else:
            assert operations == pytest.approx(row.budget * 1e12, abs=costs[row.architecture])


@pytest.mark.slow(2)
def test_every_architecture_gets_the_rate_that_was_best_for_it(sweep):
    _, run, folder = sweep
    for row in run():
        assert row.equal == "rate" or row.lr == 2e-3
    found = load_architectures(folder)
    assert chosen_rate(found, "mnist", "dit, patch 2") == 2e-3
    better = [dataclasses.replace(r, loss=-1.0) if (r.architecture, r.lr) == ("dit", 4e-3) else r for r in found]
    assert chosen_rate(better, "mnist", "dit, patch 2") == 4e-3
    assert chosen_rate(better, "mnist", "unet") == 2e-3
    with pytest.raises(ValueError, match="rows: wanted 4 learning rates tried for swin, got 0"):
        chosen_rate([row for row in found if row.architecture != "swin"], "mnist", "swin")


def test_the_held_out_loss_is_that_of_the_task_and_always_in_the_same_noises():
    """A network that says nothing misses all of a target of unit variance; and what it does not depend on is luck."""
    silent = make_model(recipe_for("mnist", "dit"))
    assert isinstance(silent, Denoiser)
    loss = held_out_loss(silent, "mnist", 200)
    torch.manual_seed(1)
    assert held_out_loss(silent, "mnist", 200) == loss
    assert 0.9 < loss < 1.1
    with torch.no_grad():
        silent.network.last.linear.bias += 0.5  # and of that it misses the half more, squared
    assert held_out_loss(silent, "mnist", 200) == pytest.approx(loss + 0.25, abs=0.05)


@pytest.mark.slow(20)
def test_a_row_is_what_was_trained(monkeypatch):
    monkeypatch.setattr(architectures, "N", 40)
    row = architectures.measure_architecture(ArchitecturePlan("mnist", "dit, patch 7", "flops", 1.0, 0, 1e-3), 2, 0.1)
    assert (row.steps, row.seed, row.n, row.parameters) == (2, 0, 40, 717_361)
    assert row.low <= row.fid <= row.high
    assert 0.9 < row.loss < 1.2


@pytest.mark.parametrize("dataset", sorted(NETWORKS))
def test_the_stored_table_is_whole_and_its_budgets_are_equal(dataset):
    here = [row for row in STORED if row.dataset == dataset]
    assert len({row.plan for row in here}) == len(here)
    planned = {plan._replace(lr=0.0) for plan in plans(dataset)}
    costs = {name: step_flops(make_model(recipe_for(dataset, name)), dataset) for name in NETWORKS[dataset]}
    for row in here:
        assert row.plan._replace(lr=0.0) in planned or row.equal == "rate"
        assert row.lr in RATES
        assert math.isfinite(row.loss)
        assert 3 * row.batch * row.flops == costs[row.architecture]
        if row.equal != "seconds":
            assert row.steps * costs[row.architecture] == pytest.approx(row.budget * 1e12, abs=costs[row.architecture])
        if row.equal != "rate":
            assert row.lr == chosen_rate(here, dataset, row.architecture)
        assert (row.equal in ("flops", "seconds")) == (row.low <= row.fid <= row.high)


def test_of_digits_there_are_two_budgets_of_three_seeds_at_least():
    counts = {
        (name, budget): sum(
            (row.architecture, row.equal, row.budget) == (name, "flops", budget)
            for row in STORED
            if row.dataset == "mnist"
        )
        for name in THREE
        for budget in BUDGETS["mnist"]
    }
    assert all(counts[name, budget] == 3 for name in THREE for budget in BUDGETS["mnist"][:2]), counts
