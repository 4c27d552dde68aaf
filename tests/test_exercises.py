"""Every check accepts every honest answer, and rejects every typical wrong one with the hint meant for it."""

import builtins
import contextlib
import importlib
import io
import pkgutil
import sys
import time

import answers
import numpy as np
import pytest
import simgpu
import torch
from answers import RIGHT, WRONG

from course_utils.exercises import check, course_map, engine, load_lesson, progress
from course_utils.exercises.compare import Draw, expect, kinship
from course_utils.exercises.conditions import time_limit

for module in pkgutil.iter_modules(answers.__path__):
    importlib.import_module(f"answers.{module.name}")

EXERCISES = [id for i in range(20) for id in load_lesson(f"{i:02d}")]


@pytest.fixture(scope="session")
def seeds(pytestconfig):
    """Of a check's inputs. Edge cases are among them whatever the seed; more seeds would find one that is not."""
    return range(8 if pytestconfig.getoption("--weekly") else 2)


def named(value) -> str:
    return value.__name__ if callable(value) else str(value)


@pytest.mark.bank
@pytest.mark.parametrize(("id", "answer"), [(id, a) for id in RIGHT for a in RIGHT[id]], ids=named)
def test_honest_answers_pass(id, answer, seeds):
    for seed in seeds:
        verdict = check(id, answer, seed=seed)
        assert verdict.passed, f"seed {seed}: {verdict}"


@pytest.mark.bank
@pytest.mark.parametrize(("id", "answer", "said"), [(id, a, s) for id in WRONG for a, s in WRONG[id]], ids=named)
def test_wrong_answers_fail_with_their_hint(id, answer, said, seeds):
    heard = set()
    for seed in seeds:
        verdict = check(id, answer, seed=seed)
        assert verdict.status == "wrong", f"seed {seed}: accepted"
        assert said in f"{verdict.message} | {verdict.hint}", f"seed {seed}: {verdict}"
        heard.add((verdict.message, verdict.hint))
    assert len(heard) == 1, f"the words change from run to run: {heard}"


def told(id, seed, monkeypatch):
    """{hint: what is said to somebody who has its numbers}, for all mistakes that a check itself can compute.

    A mistake stands in one place, the check, which computes it on the learner's inputs. Here it is handed in: the check
    runs with a right answer, and wherever it compares, each mistake is compared as well, until it is first found wrong.
    """
    lesson, heard = importlib.import_module(f"course_utils.exercises.lesson_{id[:2]}"), {}

    def expect_of_all(got, want, *, mistakes=None, **options):
        for hint, mistake in (mistakes or {}).items():
            nowhere = mistake.isnan().any()  # on these inputs the mistake leads to no number, and elsewhere it does
            if not heard.get(hint) and not nowhere:
                heard[hint] = ""
                try:
                    expect(mistake, want, mistakes=mistakes, **options)
                except engine.Wrong as wrong:
                    heard[hint] = wrong.hint
        return expect(got, want, mistakes=mistakes, **options)

    monkeypatch.setattr(lesson, "expect", expect_of_all)
    assert check(id, RIGHT[id][0], seed=seed).passed
    return heard


@pytest.mark.parametrize("id", EXERCISES)
def test_every_mistake_is_told_by_its_own_hint(id, monkeypatch, seeds):
    for seed in seeds:
        for hint, said in told(id, seed, monkeypatch).items():
            assert said == hint, f"seed {seed}: {hint!r} is told {said!r}"


@pytest.mark.parametrize("id", EXERCISES)
def test_every_exercise_has_its_mistakes_and_its_bank(id, monkeypatch):
    mistakes = told(id, 0, monkeypatch)
    assert len(RIGHT[id]) >= 2, "the solution, and at least one honest variant"
    assert len(WRONG[id]) >= 2, "wrong answers, as people write them"
    assert len(mistakes) + len(WRONG[id]) >= 10, "typical mistakes"
    assert len({said for _, said in WRONG[id]} | mistakes.keys()) >= 8, "hints that tell them apart"


def test_no_answers_to_exercises_that_do_not_exist():
    assert set(RIGHT) | set(WRONG) <= set(EXERCISES)


@pytest.mark.parametrize("id", EXERCISES)
@pytest.mark.parametrize(
    "junk", [lambda *a: "text", lambda *a: torch.tensor(float("nan")), lambda *a: object(), 3, None]
)
def test_strange_answers_never_raise_and_never_pass(id, junk):
    assert check(id, junk, seed=0).status == "wrong"


@pytest.mark.parametrize("id", EXERCISES)
def test_an_untouched_stub_is_not_yet(id):
    def stub(*args):
        raise NotImplementedError("your turn")

    assert check(id, stub).status == "not yet"


def test_what_pytorch_cannot_do_is_no_untouched_stub():
    """`1 - mask` raises a NotImplementedError, too, and was answered with "not yet"."""

    def subtracts(*args):
        return 1 - torch.tensor([True])

    verdict = check("01.q_step", subtracts)
    assert verdict.status == "wrong"
    assert "turns them round" in verdict.hint


@pytest.mark.parametrize("id", EXERCISES)
def test_checks_leave_the_global_stream_alone(id):
    before = torch.random.get_rng_state()
    check(id, RIGHT[id][0])
    check(id, lambda *a: torch.randn(3))
    assert torch.equal(before, torch.random.get_rng_state())


def test_progress_counts_solved_exercises_and_keeps_the_best_of_each(monkeypatch):
    monkeypatch.setattr(engine, "_done", set())
    first, second, *_ = ids = list(load_lesson("01"))
    assert check(first, lambda *a: None).done == 0
    assert check(first, RIGHT[first][0]).done == 1
    assert check(second, RIGHT[second][0]).done == 2
    assert check(first, lambda *a: None).done == 2, "a later wrong try undoes nothing"
    assert progress("01").done == 2
    assert progress("01").total == len(ids)
    for id in ids:
        check(id, RIGHT[id][0])
    assert progress("01").passed


def test_inputs_are_fresh_each_time():
    seen = []

    def spy(x, beta, eps):
        seen.append(x.flatten()[0].item())
        return RIGHT["01.q_step"][0](x, beta, eps)

    check("01.q_step", spy)
    first = set(seen)
    seen.clear()
    check("01.q_step", spy)
    assert len(seen) > 10
    assert not first & set(seen)


def test_an_endless_loop_is_stopped(monkeypatch):
    monkeypatch.setattr("course_utils.exercises.answer.TIME_LIMIT_S", 0.2)

    def forever(*args):
        while True:
            pass

    assert "still running" in check("01.q_step", forever).message


def test_a_busy_machine_is_no_endless_loop():
    """Observed: on a machine that many shared, right answers were stopped after 20 seconds in which they hardly ran."""
    with time_limit(0.05):
        time.sleep(0.2)  # the clock runs, and the process does not
    with pytest.raises(TimeoutError), time_limit(0.02):
        time.sleep(600)  # nor does it wait for ever


def test_an_unknown_exercise_says_which_there_are():
    assert "01.q_step" in check("01.q_stepp", print).message


def test_html_is_escaped():
    def hostile(*args):
        raise ValueError("<script>alert(1)</script>")

    shown = check("01.q_step", hostile)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_proxy_can_observe_the_function_elsewhere():
    """The grader's way in: a callable whose `observe` runs the function somewhere else, tensors in, tensors out."""

    class Proxy:
        calls = 0

        def __call__(self, *args):
            raise AssertionError("a proxy is only ever observed")

        def observe(self, args, **options):
            Proxy.calls += 1
            return engine.observe(RIGHT["01.q_sample"][0], args, **options)

    assert check("01.q_sample", Proxy()).passed
    assert Proxy.calls > 10


def test_what_was_changed_in_place_is_noticed_and_nan_is_no_change():
    def spoil(x, y):
        y[0] = 7.0
        return x

    x, y = torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")])
    assert engine.observe(spoil, (x, y)).changed == (1,)
    assert engine.observe(lambda x, y: x + y, (x, y)).changed == ()
    assert engine.observe(lambda x, y: y.fill_(0.0), (x, y)).changed == (1,)


@pytest.mark.parametrize("left", ["gradients off", "inference mode", "autocast", "float64", "a device"])
def test_what_a_page_left_switched_changes_no_verdict_and_stays_as_it_was(left):
    """Observed: `torch.set_grad_enabled(False)`, or a mode entered and never left, made right answers wrong."""

    def switched():
        here = torch.get_default_device().type
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(), here

    with contextlib.ExitStack() as stack:
        if left == "gradients off":
            stack.enter_context(torch.no_grad())
        elif left == "inference mode":
            stack.enter_context(torch.inference_mode())
        elif left == "autocast":
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        elif left == "a device":
            stack.enter_context(torch.device("meta"))
        else:
            stack.callback(torch.set_default_dtype, torch.float32)
            torch.set_default_dtype(torch.float64)
        before = switched()
        for id in ("01.q_sample", "04.descend", "06.attend", "09.precision", "13.times"):
            verdict = check(id, RIGHT[id][0], seed=1)
            assert verdict.passed, verdict
        assert switched() == before


def test_a_learners_function_finds_the_switches_of_a_fresh_kernel_wherever_it_is_observed():
    def answer():
        leaf = torch.ones(2, requires_grad=True)
        (gradient,) = torch.autograd.grad((leaf @ leaf).square(), leaf)
        torch.set_default_dtype(torch.float64)  # what it leaves behind is put back, too
        return gradient

    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        seen = engine.observe(answer, ())
    assert not seen.error
    assert torch.equal(seen.output, torch.tensor([8.0, 8.0]))
    assert seen.output.dtype == torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("id", ["01.x0_from_eps", "04.descend", "07.clip", "09.kid", "13.best_path"])
def test_answers_come_home_from_a_gpu(id):
    def answer(*args):
        return simgpu.mapped(lambda x: x.to("cuda"), RIGHT[id][0](*args))

    with simgpu.installed():
        assert check(id, answer, seed=0).passed


def test_numpys_numbers_come_home_as_pythons():
    seen = engine.observe(lambda: {"w": [np.float32(0.5), np.int64(3)]}, ()).output
    assert [type(x) for x in seen["w"]] == [float, int]


def test_a_draw_that_changes_nothing_is_no_fault_and_a_seed_is_one():
    def observed(function):
        return engine.observe(function, (torch.ones(2),))

    assert not observed(lambda x: (torch.randn(3), 2 * x)[1]).drew_globally
    assert observed(lambda x: x + torch.randn(2)).drew_globally
    torch.manual_seed(3)  # as the page itself did
    assert observed(lambda x: (torch.manual_seed(3), 2 * x)[1]).drew_globally


def test_hash_of_a_text_cannot_be_repeated_and_hash_of_numbers_can():
    def of_text(x):
        return hash(f"{x}")

    def of_numbers(x):
        return hash((x, 0.5))

    assert engine.observe(of_text, (1,)).output != engine.observe(of_text, (1,)).output
    assert engine.observe(of_numbers, (1,)).output == engine.observe(of_numbers, (1,)).output == hash((1, 0.5))
    assert hash is builtins.hash


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_verdicts_and_the_map_can_be_printed_in_any_terminal(encoding, monkeypatch):
    def hostile(*args):
        raise ValueError("σ ≠ 1 ✔")

    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    for answer in (RIGHT["01.q_step"][0], hostile, lambda *a: None):
        print(check("01.q_step", answer))
    print(course_map(), progress("01"))
    terminal.flush()
    said = terminal.buffer.getvalue().decode(encoding)
    assert ("✔ 01.q_step" in said) == (encoding == "utf-8")
    assert ("+ 01.q_step" in said) == (encoding != "utf-8")


def test_times_always_have_both_ends_in_the_same_places():
    """Where they stood by chance, a slip that takes the last t for all was told another thing every day."""
    for seed in range(20):
        draw = Draw(torch.Generator().manual_seed(seed))
        times = draw.times(1, 12, 4).tolist()
        assert times[1:3] == [12, 1]
        assert set(times) <= set(range(1, 13))
        assert len(times) == len(set(times))
        assert draw.times(1, 12, 2).tolist() == [12, 1]
        assert draw.times(3, 3, 1).tolist() == [3]


@pytest.mark.parametrize(
    ("relative", "said"),
    [
        (lambda x: -x, "the sign"),
        (lambda x: 2 * x, "a factor of 2"),
        (lambda x: 0.3 * x, "by one factor"),
        (lambda x: x + 0.3, "by one amount"),
        (lambda x: x.square(), "square of what"),
        (lambda x: x.sqrt(), "root of what"),
        (lambda x: x.log(), "logarithm of what"),
        (lambda x: x * torch.tensor([[1.0], [2.0], [3.0]]), "a factor of its own"),
        (lambda x: x.clamp(-1, 1), "stop at -1 and 1"),
        (lambda x: x.half(), "half precision"),
        (lambda x: x.bfloat16(), "half precision"),
        (lambda x: 4 * x.round(), ""),
        (lambda x: x.flip(0), ""),
    ],
)
def test_wrong_numbers_that_are_akin_to_the_right_ones_are_told_how(relative, said):
    for dtype in (torch.float32, torch.float64):
        want = Draw(torch.Generator().manual_seed(0)).uniform(0.2, 3.0, 3, 5, dtype=dtype)
        assert said in kinship(relative(want).to(dtype), want)
        assert bool(kinship(relative(want).to(dtype), want)) == bool(said)
