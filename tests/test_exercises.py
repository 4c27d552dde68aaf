"""Every check accepts every honest answer, and rejects every typical wrong one with the hint meant for it."""

import importlib
import pkgutil

import answers
import pytest
import torch
from answers import RIGHT, WRONG

from course_utils.exercises import check, engine, load_lesson, progress

for module in pkgutil.iter_modules(answers.__path__):
    importlib.import_module(f"answers.{module.name}")

SEEDS = range(4)
EXERCISES = [id for i in range(20) for id in load_lesson(f"{i:02d}")]


def named(value) -> str:
    return value.__name__ if callable(value) else str(value)


@pytest.mark.parametrize(("id", "answer"), [(id, a) for id in RIGHT for a in RIGHT[id]], ids=named)
def test_honest_answers_pass(id, answer):
    for seed in SEEDS:
        verdict = check(id, answer, seed=seed)
        assert verdict.passed, f"seed {seed}: {verdict}"


@pytest.mark.parametrize(("id", "answer", "said"), [(id, a, s) for id in WRONG for a, s in WRONG[id]], ids=named)
def test_wrong_answers_fail_with_their_hint(id, answer, said):
    heard = set()
    for seed in SEEDS:
        verdict = check(id, answer, seed=seed)
        assert verdict.status == "wrong", f"seed {seed}: accepted"
        assert said in f"{verdict.message} | {verdict.hint}", f"seed {seed}: {verdict}"
        heard.add((verdict.message, verdict.hint))
    assert len(heard) == 1, f"the words change from run to run: {heard}"


@pytest.mark.parametrize("id", EXERCISES)
def test_every_exercise_has_its_bank(id):
    assert len(RIGHT[id]) >= 2, "the solution, and at least one honest variant"
    assert len(WRONG[id]) >= 6, "typical wrong answers"
    assert len({said for _, said in WRONG[id]}) >= 5, "hints that tell the wrong answers apart"


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
    check("01.q_step", spy)
    assert len(set(seen)) == len(seen)


def test_an_endless_loop_is_stopped(monkeypatch):
    monkeypatch.setattr("course_utils.exercises.answer.TIME_LIMIT_S", 0.2)

    def forever(*args):
        while True:
            pass

    assert "still running" in check("01.q_step", forever).message


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
