"""The sweeps of lessons 14 and 16: ways to jump, what copies, what large pictures cost; all can be gone on with."""

import pytest
import torch

from course_utils import leaderboard
from course_utils.denoisers import UNet
from course_utils.denoisers.costs import count_flops
from course_utils.leaderboard import distillations, memory, rows, scale
from course_utils.metrics import ratio_test
from course_utils.recipes import RECIPES, make_model


@pytest.fixture
def tiny(monkeypatch):
    """Two plans of a few steps, with few samples."""
    monkeypatch.setattr(memory, "SAMPLES", 20)
    monkeypatch.setattr(memory, "CALLS", 2)
    plans = (memory.MemoryPlan(6, "none", 0, (2, 3)), memory.MemoryPlan(6, "shifts by 1", 1, (2,)))
    monkeypatch.setattr(memory, "PLANS", plans)
    return plans


@pytest.mark.slow
def test_a_sweep_of_memory_goes_on_where_it_was(tiny, tmp_path):
    first = list(leaderboard.run_memory(tmp_path, plans=1))
    assert [(row.n, row.steps, row.average) for row in first] == [(6, 2, 0.99), (6, 3, 0.99), (6, 3, 0.0)]
    assert leaderboard.missing_memory(tmp_path) == [tiny[1]]
    assert [row.key for row in leaderboard.load_memory(tmp_path)] == [row.key for row in first]
    rest = list(leaderboard.run_memory(tmp_path))
    assert {row.regulariser for row in rest} == {"shifts by 1"}
    assert leaderboard.missing_memory(tmp_path) == []
    assert not list(leaderboard.run_memory(tmp_path))
    again = list(memory.measure_memory(tiny[0]))
    assert [row.train_loss for row in again] == [row.train_loss for row in first]


@pytest.mark.slow
def test_what_is_said_of_copies_is_so(tiny, monkeypatch):
    """A network that draws training digits and nothing else: all are copies; its losses differ as it does."""
    digits, _ = memory.small_digits(6, 0)
    drawn = digits[torch.arange(20) % 6]
    monkeypatch.setattr(memory, "_drawn", lambda model, seed, precision: (drawn, torch.arange(20) % 10))
    row, *_ = memory.measure_memory(tiny[0])
    assert row.copies == 20
    unseen, _ = memory.unseen_digits(20)
    assert row.false_alarms == round(20 * ratio_test(unseen, digits).value)


def test_small_digits_are_nested_and_those_unseen_are_others():
    few, few_labels = memory.small_digits(5, 3)
    many, labels = memory.small_digits(50, 3)
    assert torch.equal(few, many[:5])
    assert torch.equal(few_labels, labels[:5])
    assert not torch.equal(few, memory.small_digits(5, 4)[0])
    unseen, _ = memory.unseen_digits(50)
    assert torch.cdist(unseen.flatten(1), memory.small_digits(2000, 3)[0].flatten(1)).min() > 0


def test_the_loss_is_taken_at_the_same_times_with_the_same_noises():
    model, (x, labels) = memory.small_denoiser(dropout=0.5).eval(), memory.small_digits(40, 0)
    assert memory.losses_at(model, x, labels) == memory.losses_at(model, x, labels)
    # an untrained network answers 0, so that its loss of v is the target's own size: about 1
    assert memory.losses_at(model, x, labels) == pytest.approx(1, abs=0.3)


def test_the_stored_sweep_is_of_plans_and_holds_each_row_once():
    found = leaderboard.load_memory()
    plans = {plan[:3]: plan.at for plan in memory.PLANS}
    steps = {key: {s for plan in memory.PLANS if plan[:3] == key for s in plan.at} for key in plans}
    assert len({row.key for row in found}) == len(found)
    for row in found:
        assert row.steps in steps[row.n, row.regulariser, row.seed]
        assert 0 <= row.copies <= row.samples
    assert len({row.seed for row in found}) >= 3


# --- equal cost ------------------------------------------------------------------------------------------------------


def test_the_ways_were_trained_at_equal_cost():
    costs = [sum(map(scale.training_flops, names)) for names in scale.WAYS.values()]
    assert max(costs) < 1.03 * min(costs)
    assert all(cost == pytest.approx(12e12, rel=0.03) for cost in costs)


def test_flops_are_counted_with_what_the_network_is_told():
    """By hand: two for each product, at each position of the output."""
    network = UNet(1, (16,), 1, (), second_time=True, beside=1)
    found = count_flops(network, (1, 8, 8), beside=torch.zeros(1, 1, 8, 8), log_snr_r=torch.zeros(1))
    plain = count_flops(UNet(1, (16,), 1, (), second_time=True), (1, 8, 8))
    more = 2 * 4 * 9 * 16 * 16  # four channels more into the first convolution, at 4 × 4 places
    assert found - plain == more


def test_a_trainings_cost_is_three_forward_passes_a_picture():
    recipe = RECIPES["mnist-seven"]
    forward = count_flops(make_model(recipe).network, (1, 7, 7))
    assert scale.training_flops("mnist-seven") == 3 * forward * recipe.steps * recipe.batch_size


def test_the_stored_scale_is_of_the_shipped_weights():
    found = leaderboard.load_scale()
    assert found == rows.read(rows.path_of(scale.TABLE), scale.ScaleRow)
    assert len({row.plan for row in found}) == len(found)
    assert {row.way for row in found} == set(scale.WAYS)
    for row in found:
        assert row.plan in scale.PLANS
        assert row.low <= row.fid <= row.high
        assert row.training_flops == pytest.approx(sum(map(scale.training_flops, scale.WAYS[row.way])), rel=1e-5)


@pytest.mark.slow(10)
def test_a_row_of_scale_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "PLANS", (scale.ScalePlan("cascade", 50, n=20, calls=2, base_calls=3),))
    (row,) = leaderboard.run_scale(tmp_path)
    assert (row.way, row.r, row.n, row.calls, row.base_calls) == ("cascade", 50, 20, 2, 3)
    above, below = map(scale.forward_flops, scale.WAYS["cascade"])
    assert row.sample_flops == pytest.approx(2 * above + 3 * below)
    assert [one.plan for one in leaderboard.load_scale(tmp_path)] == [row.plan]
    assert not list(leaderboard.run_scale(tmp_path))


@pytest.mark.slow(10)
@pytest.mark.parametrize("way", distillations.WAYS)
def test_each_way_to_jump_is_taught_once_at_its_best_rate_and_measured_by_calls(way, tmp_path, monkeypatch):
    small = {"STEPS": 2, "BATCH": 2, "PATHS": 3, "N": 20, "CALLS": (1, 2), "RATES": (1e-3, 3e-4), "RATE_SEED": 7}
    for name, value in small.items():
        monkeypatch.setattr(distillations, name, value)
    told = []
    found = list(distillations.run_distillations([way], folder=tmp_path, watch=lambda *what: told.append(what)))
    best = min(found[:2], key=lambda row: row.fid).lr
    wanted = [(7, 1e-3, 1), (7, 3e-4, 1), (0, best, 1), (0, best, 2)]
    assert [(row.seed, row.lr, row.nfe) for row in found] == wanted
    assert {(row.way, row.n, row.steps) for row in found} == {(way, 20, 2)}
    assert told == [(way, 1, 2), (way, 2, 2)] * 3
    assert all(row.seconds > 0 and row.low <= row.fid for row in found)
    assert [row.key for row in distillations.load_distillations(tmp_path)] == [row.key for row in found]
    assert not list(distillations.run_distillations([way], folder=tmp_path))
    with pytest.raises(ValueError, match=r"there: wanted .* at all rates of RATES, got none at \[0.0003\]"):
        distillations.chosen_rate(way, found[:1])


def test_the_untaught_teacher_stands_beside_them(tmp_path, monkeypatch):
    monkeypatch.setattr(distillations, "N", 20)
    monkeypatch.setattr(distillations, "CALLS", (1, 8))
    (one, eight) = distillations.run_distillations(["DDIM"], folder=tmp_path)
    assert (one.steps, one.seconds, eight.steps) == (0, 0.0, 0)
    assert eight.fid < one.fid
    assert not list(distillations.run_distillations(["DDIM"], seeds=(0, 1), folder=tmp_path))
    with pytest.raises(ValueError, match="way: "):
        list(distillations.run_distillations(["by magic"], folder=tmp_path))
