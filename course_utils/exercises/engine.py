"""How a check works: draw fresh inputs, call the learner's function under observation, compare, explain.

    @exercise("01.q_step", "One step of the chain", minutes=5)
    def _(answer, draw):
        x, eps = draw.normal(4, 3), draw.normal(4, 3)
        expect(answer(x, 0.1, eps), want=..., mistakes={"hint shown if the answer equals this": ...})

A check says what is right (`want`) and, for each typical mistake, what that mistake would have computed on the very
same inputs. If the learner's numbers equal a mistake's, they get that mistake's hint.

The learner's function is only ever run through `observe`, which takes tensors and numbers and returns tensors and
numbers. A grader can therefore run `observe` in another process and hand `check` a callable with the attribute
`observe` (see `Answer`).
"""

import contextlib
import html
import importlib
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises import record
from course_utils.schedules import DiscreteSchedule

TIME_LIMIT_S = 20.0
"""One call of a learner's function may take this long before it is stopped."""


class Wrong(Exception):
    """The answer is wrong: what is wrong, and the likely reason."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message, self.hint = message, hint


class NotYet(Exception):
    """The stub is untouched."""


# ---------------------------------------------------------------------------------------------------------------------
# Running the learner's function
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """What one call did. Plain data, so that it can cross a process boundary."""

    output: Any = None
    error: str = ""  # "RuntimeError: …", or empty
    changed: tuple[int, ...] = ()  # positions of arguments that were changed in place
    drew_globally: bool = False  # the global random stream moved
    gradient: Tensor | None = None  # of sum(output * cotangent) with respect to args[wrt]


def observe(function: Callable, args: tuple, *, wrt: int | None = None, cotangent: Tensor | None = None) -> Observation:
    """Call `function(*args)` on copies of its tensors and report what happened; never raises but for Ctrl-C."""
    args, before = tuple(map(_copied, args)), tuple(map(_copied, args))
    if wrt is not None:
        args[wrt].requires_grad_(True)
    stream = torch.random.get_rng_state()
    output, error, gradient = None, "", None
    try:
        with _time_limit(TIME_LIMIT_S):
            output = function(*args)
            if wrt is not None and isinstance(output, Tensor) and output.requires_grad:
                seed = torch.ones_like(output) if cotangent is None else cotangent.reshape(output.shape)
                (gradient,) = torch.autograd.grad(output, args[wrt], seed, allow_unused=True)
    except Exception as e:
        error = f"{type(e).__name__}: {e}"
    drew_globally = not torch.equal(stream, torch.random.get_rng_state())
    torch.random.set_rng_state(stream)  # the lesson goes on as if nothing had been drawn
    changed = tuple(i for i, (a, b) in enumerate(zip(args, before, strict=True)) if not _same(a, b))
    if isinstance(output, Tensor):
        output = output.detach()
    return Observation(output, error, changed, drew_globally, gradient)


def _copied(x: Any) -> Any:
    """A copy of a tensor, or of lists, tuples and dicts of tensors."""
    if isinstance(x, Tensor):
        return x.detach().clone()
    if isinstance(x, list | tuple):
        return type(x)(map(_copied, x))
    return {key: _copied(value) for key, value in x.items()} if isinstance(x, dict) else x


def _same(a: Any, b: Any) -> bool:
    """Equal to the last bit, all through lists, tuples and dicts; not-a-number is the same as itself here."""
    if type(a) is not type(b):
        return False
    if isinstance(b, Tensor):
        return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in b)
    return a is b or bool(a == b)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop an endless loop, where the platform can: a Unix main thread, as in every notebook kernel there."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"still running after {seconds:.0f} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class Answer:
    """The learner's function as a check sees it: call it, and get its output or a `Wrong` with a reason.

    Args:
        function: the learner's callable. If it has an attribute `observe`, that is called in place of this module's
            `observe`: a grader's proxy runs the function elsewhere and returns the Observation.
        error_hints: {text found in an error: hint}.
    """

    def __init__(self, function: Callable, error_hints: Mapping[str, str] | None = None):
        self.function, self.error_hints = function, error_hints or {}

    def _observe(self, args: tuple, **options: Any) -> Observation:
        run = getattr(self.function, "observe", None)
        return run(args, **options) if run else observe(self.function, args, **options)

    def __call__(self, *args: Any) -> Any:
        return self._judge(self._observe(args)).output

    def gradient(self, *args: Any, wrt: int, cotangent: Tensor | None = None) -> Tensor:
        """d sum(output * cotangent) / d args[wrt], or Wrong if the answer cuts the gradient off."""
        seen = self._judge(self._observe(args, wrt=wrt, cotangent=cotangent))
        if seen.gradient is None:
            raise Wrong(
                "no gradient flows back through your function",
                "`.detach()`, `.item()`, `.data`, `torch.no_grad()` and numpy all cut it off; none is needed here",
            )
        return seen.gradient

    def _judge(self, seen: Observation) -> Observation:
        if seen.error.startswith("NotImplementedError"):
            raise NotYet
        if seen.error:
            hint = next((h for text, h in self.error_hints.items() if text in seen.error), "")
            raise Wrong(f"it raised {seen.error}", hint or "run it by hand on a small tensor to see where")
        if seen.changed:
            raise Wrong(
                f"it changed its argument number {seen.changed[0] + 1} in place",
                "`x *= …`, `x += …` and methods that end in `_` overwrite the caller's tensor; make a new one",
            )
        if seen.drew_globally:
            raise Wrong(
                "it drew random numbers of its own",
                "the randomness comes in through the arguments; `torch.randn` inside makes the result unrepeatable",
            )
        if seen.output is None:
            raise Wrong("it returned None", "is there a `return` on every path?")
        return seen


# ---------------------------------------------------------------------------------------------------------------------
# Drawing inputs and comparing outputs
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Draw:
    """Fresh random inputs, from a stream of their own."""

    generator: torch.Generator

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def uniform(self, low: float, high: float, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Numbers spread evenly over [low, high)."""
        return (low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)).to(dtype)

    def number(self, low: float, high: float) -> float:
        """One Python float in [low, high)."""
        return self.uniform(low, high, dtype=torch.float64).item()

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers low … high, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def distinct(self, low: int, high: int, n: int) -> Tensor:
        """n different whole numbers low … high, both included."""
        return torch.randperm(high + 1 - low, generator=self.generator)[:n] + low

    def seed(self) -> int:
        """A seed for something that wants one."""
        return int(self.integers(0, 2**31 - 1).item())


def close(got: Tensor, want: Tensor) -> bool:
    """Equal up to the rounding of a few operations in their precision, relative to the size of what is wanted.

    Infinities must be the same infinities; NaN is close to nothing.
    """
    got, want, tolerance = got.double(), want.double(), {torch.float64: 1e-9, torch.float32: 2e-5}.get(want.dtype, 0.0)
    finite = want[want.isfinite()]
    scale = finite.abs().max().clamp(min=1e-3) if finite.numel() else torch.tensor(1.0)
    return bool(((got == want) | ((got - want).abs() <= tolerance * scale)).all())


def expect(
    got: Any,
    want: Tensor,
    *,
    mistakes: Mapping[str, Tensor] | None = None,
    what: str = "the result",
    shape_hint: str = "",
) -> None:
    """Raise Wrong unless `got` is `want`, with the hint of the first mistake whose numbers it has instead.

    `mistakes` maps a hint to what somebody who needs it would have returned.
    """
    if not isinstance(got, Tensor):
        raise Wrong(f"{what} should be a tensor, got {_describe(got)}", shape_hint)
    right = got.shape == want.shape and close(got, want)
    for hint, mistake in (mistakes or {}).items():
        if not right and mistake.shape == got.shape and close(got, mistake):
            raise Wrong(f"{what} is not right", hint)
    if got.shape != want.shape:
        raise Wrong(f"{what} should have shape {tuple(want.shape)}, got {tuple(got.shape)}", shape_hint)
    if got.dtype != want.dtype:
        raise Wrong(
            f"{what} should be {want.dtype} like the input, got {got.dtype}",
            "keep the input's dtype: no `.float()`, no `.int()`, no numpy on the way",
        )
    if not got.isfinite().all() and want.isfinite().all():
        raise Wrong(f"{what} has NaN or infinity in it", "look for a division by zero, or a root or log of one")
    if not close(got, want):
        raise Wrong(
            f"{what} has the right shape and the wrong numbers", "set your line beside the equation, term by term"
        )


AS_COLUMN = "alpha_bar[t] has shape (b,); before it can multiply images (b, c, h, w) it must become (b, 1, 1, 1)"
"""The hint for the commonest shape mistake of all."""
BROADCASTING = {
    "The size of tensor": AS_COLUMN,
    "must match": AS_COLUMN,
    "invalid for input of size": "reshape to as many dimensions as the images have, whatever they are",
    "out of bounds": "alpha_bar has T + 1 entries and t runs from 0 to T: use t as it is",
}
"""PyTorch's errors that mean so, for `error_hints`."""


def column(values: Tensor, x: Tensor) -> Tensor:
    """One number per image, shaped to multiply images of any dimension."""
    return values.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


# A batch as wide as its images are (4) is where a t that is spread over the wrong axis goes unnoticed by PyTorch.
CASES = [
    (shape, dtype)
    for shape in [(4, 1, 4, 4), (3, 3, 8, 8), (5, 2, 6, 4), (1, 1, 5, 5), (6, 2)]
    for dtype in [torch.float32, torch.float64]
]


def random_schedule(draw: Draw, T: int = 12, dtype: torch.dtype = torch.float64) -> DiscreteSchedule:
    """Steps so large that beta and alpha_bar, roots and no roots, t and t - 1 all differ visibly."""
    betas = draw.uniform(0.02, 0.2, T, dtype=torch.float64)
    return DiscreteSchedule(DiscreteSchedule.from_betas(betas).alpha_bar.to(dtype))  # exact in the learner's dtype


def along_the_wrong_axis(values: Tensor, x: Tensor, formula: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Mistakes for `expect`: one number per image, spread over width or height where PyTorch lets that pass."""
    return {
        f"t runs along the {name} of the images: {AS_COLUMN}": formula(values.to(x.dtype).reshape(-1, *after))
        for axis, name, after in [(-1, "width", ()), (-2, "height", (1,))]
        if x.ndim == 4 and x.shape[axis] == len(values)
    }


def numbers(values: list[Any], what: str = "the result") -> Tensor:
    """Several answers that should each be one number, as a float64 vector; Wrong if one of them is not."""
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | Tensor)
            or (isinstance(value, Tensor) and value.numel() != 1)
        ):
            raise Wrong(f"{what} should be one number, got {_describe(value)}")
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def _describe(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


# ---------------------------------------------------------------------------------------------------------------------
# The register of exercises, and the answer to the learner
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """One graded exercise."""

    id: str  # "01.q_step"
    title: str
    minutes: int
    test: Callable[[Answer, Draw], None]
    error_hints: Mapping[str, str] = field(default_factory=dict)

    @property
    def lesson(self) -> str:
        """The lesson's number, "01"."""
        return self.id.split(".")[0]


_exercises: dict[str, Exercise] = {}
_done: set[str] = set()


def exercise(id: str, title: str, *, minutes: int, error_hints: Mapping[str, str] | None = None) -> Callable:
    """Register the decorated function as the check of exercise `id`."""

    def register(test: Callable[[Answer, Draw], None]) -> Callable[[Answer, Draw], None]:
        _exercises[id] = Exercise(id, title, minutes, test, error_hints or {})
        return test

    return register


def load_lesson(lesson: str) -> dict[str, Exercise]:
    """The exercises of a lesson, "01", in order; empty if it has none."""
    name = f"course_utils.exercises.lesson_{lesson}"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name != name:
            raise
    return {id: e for id, e in _exercises.items() if e.lesson == lesson}


@dataclass(frozen=True)
class Verdict:
    """The answer to one check: shows itself in a notebook, prints itself elsewhere."""

    id: str
    title: str
    status: str  # "right", "wrong" or "not yet"
    message: str = ""
    hint: str = ""
    done: int = 0  # exercises of this lesson solved so far
    total: int = 0

    @property
    def passed(self) -> bool:
        return self.status == "right"

    def __repr__(self) -> str:
        head = f"{_LOOK[self.status][0]} {self.id} · {self.title}: {self.status}"
        said = f", {self.message}" if self.message else ""
        hint = f"\n  Likely reason: {self.hint}." if self.hint else ""
        return f"{head}{said}. ({self.done} of {self.total} done){hint}"

    def _repr_html_(self) -> str:
        symbol, colour = _LOOK[self.status]
        said = f", {html.escape(self.message)}" if self.message else ""
        hint = f"<br><i>Likely reason:</i> {html.escape(self.hint)}." if self.hint else ""
        return (
            f'<div style="border-left:5px solid {colour};padding:.4em .8em;margin:.2em 0">'
            f'<b><span style="color:{colour}">{symbol}</span> {html.escape(self.title)}</b>: {self.status}{said}.'
            f'{hint} <span style="opacity:.7">({self.done} of {self.total} done in this lesson)</span></div>'
        )


# Green, orange and grey, each with its symbol and word: told apart without colours, on a light page and on a dark one.
_LOOK = {"right": ("✔", "#2a9d6f"), "wrong": ("✘", "#d9722e"), "not yet": ("○", "#8a8a8a")}


def check(id: str, answer: object, *, seed: int | None = None) -> Verdict:
    """Check an answer on fresh random inputs and say in words what is right or wrong with it. Never raises.

    Args:
        id: the exercise, "01.q_step".
        answer: the learner's function.
        seed: repeats the inputs of an earlier check; fresh ones each time if left out.
    """
    lesson = load_lesson(id.split(".")[0])
    if id not in lesson:
        known = ", ".join(lesson) or "none in this lesson"
        return Verdict(id, "unknown exercise", "not yet", f"there is no exercise of this name (known: {known})")
    this = lesson[id]

    def verdict(status: str, message: str = "", hint: str = "") -> Verdict:
        (_done.add if status == "right" else _done.discard)(id)
        if status == "right":
            record.add(id)
        return Verdict(id, this.title, status, message, hint, len(_done & set(lesson)), len(lesson))

    if not callable(answer):
        return verdict("wrong", f"this is {_describe(answer)}, not a function", "hand over the name, without brackets")
    draw = Draw(torch.Generator().manual_seed(secrets.randbits(62) if seed is None else seed))
    try:
        this.test(Answer(answer, this.error_hints), draw)
    except NotYet:
        return verdict("not yet")
    except Wrong as w:
        return verdict("wrong", w.message, w.hint)
    except KeyboardInterrupt:
        return verdict("wrong", "it was interrupted while running")
    except Exception as e:  # a surprise in the check itself, provoked by a strange answer; the page must go on
        return verdict("wrong", f"the check could not handle what it returned ({type(e).__name__}: {e})")
    return verdict("right")


def progress(lesson: str) -> Verdict:
    """How many of a lesson's exercises are solved in this session."""
    all_of_it = load_lesson(lesson)
    done = len(_done & set(all_of_it))
    left = [e.title for id, e in all_of_it.items() if id not in _done]
    status = "right" if not left else "not yet"
    message = "" if not left else "still open: " + "; ".join(left)
    return Verdict(lesson, f"Lesson {lesson}", status, message, "", done, len(all_of_it))


@dataclass(frozen=True)
class CourseMap:
    """Every exercise of the course, done or open: shows itself in a notebook, prints itself elsewhere."""

    done: set[str]
    lessons: dict[str, list[Exercise]]

    def rows(self) -> Iterator[tuple[str, list[tuple[str, str, str]], str]]:
        """For each lesson its number; symbol, colour and title of each exercise; and a summary in words."""
        for lesson, exercises in self.lessons.items():
            marks = [(*_LOOK["right" if e.id in self.done else "not yet"], e.title) for e in exercises]
            left = [e.title for e in exercises if e.id not in self.done]
            said = f"{len(exercises) - len(left)} of {len(exercises)}" + (f", next: {left[0]}" if left else "")
            yield lesson, marks, said

    def __repr__(self) -> str:
        return "\n".join(
            f"{lesson}  {' '.join(mark[0] for mark in marks)}  {said}" for lesson, marks, said in self.rows()
        )

    def _repr_html_(self) -> str:
        page, left = "", '<td style="text-align:left">'
        for lesson, marks, said in self.rows():
            spans = (f'<span style="color:{c}" title="{html.escape(title)}">{mark}</span>' for mark, c, title in marks)
            page += f"<tr><th>{lesson}</th>{left}{' '.join(spans)}</td>{left}{html.escape(said)}</td></tr>"
        return f"<table>{page}</table>"


def course_map() -> CourseMap:
    """All exercises of the course: done are those of this session and, in a notebook, those of earlier ones."""
    names = sorted(path.stem.removeprefix("lesson_") for path in Path(__file__).parent.glob("lesson_*.py"))
    return CourseMap(_done | record.done(), {name: list(load_lesson(name).values()) for name in names})
