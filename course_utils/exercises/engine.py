"""The register of exercises, and the answer to the learner.

    @exercise("01.q_step", "One step of the chain")
    def _(answer, draw):
        x, eps = draw.normal(4, 3), draw.normal(4, 3)
        expect(answer(x, 0.1, eps), want=..., mistakes={"hint shown if the answer equals this": ...})

A check draws fresh inputs and says what is right (`want`) and, for each typical mistake, what that mistake would have
computed on the very same inputs (`compare`). It sees the learner's function only through `answer`, which runs it under
observation. If the learner's numbers equal a mistake's, they get that mistake's hint. Edge cases are not left to luck:
a check visits each of them, every time.
"""

import html
import importlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from course_utils.exercises import record
from course_utils.exercises.answer import Answer, NotYet, Observation, Wrong, observe
from course_utils.exercises.compare import Draw, described
from course_utils.exercises.conditions import known_state
from course_utils.runtime import printable

__all__ = [
    "Answer",
    "Draw",
    "Exercise",
    "NotYet",
    "Observation",
    "Wrong",
    "check",
    "load_lesson",
    "observe",
]  # a grader's


@dataclass(frozen=True)
class Exercise:
    """One graded exercise."""

    id: str  # "01.q_step"
    title: str
    test: Callable[[Answer, Draw], None]
    error_hints: Mapping[str, str] = field(default_factory=dict)

    @property
    def lesson(self) -> str:
        """The lesson's number, "01"."""
        return self.id.split(".")[0]


_exercises: dict[str, Exercise] = {}
_done: set[str] = set()


def exercise(id: str, title: str, *, error_hints: Mapping[str, str] | None = None) -> Callable:
    """Register the decorated function as the check of exercise `id`."""

    def register(test: Callable[[Answer, Draw], None]) -> Callable[[Answer, Draw], None]:
        _exercises[id] = Exercise(id, title, known_state()(test), error_hints or {})
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
        return printable(f"{head}{said}. ({self.done} of {self.total} done){hint}")

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
        if status == "right":  # what was once right stays done, whatever is tried afterwards
            _done.add(id)
            record.add(id)
        return Verdict(id, this.title, status, message, hint, len(_done & set(lesson)), len(lesson))

    if not callable(answer):
        return verdict("wrong", f"this is {described(answer)}, not a function", "hand over the name, without brackets")
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
        return printable(
            "\n".join(f"{lesson}  {' '.join(mark[0] for mark in marks)}  {said}" for lesson, marks, said in self.rows())
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
