"""From answers to grades: the checks of the lessons, run here, on functions that run in the sandbox.

A check draws fresh inputs from the seed, calls the learner's function through `Proxy`, and compares. It is run
`ROUNDS` times, on other inputs each time, and an exercise earns its points if every round is right. A function that
ends or hangs its process costs its own exercise; the next begins in a new one.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from course_utils.data import write_atomically
from course_utils.desk.grading.intake import Assignment, Question, Submission
from course_utils.desk.grading.sandbox import START_S, Died, Forged, Sandbox, SandboxError, TookTooLong
from course_utils.exercises import engine

ROUNDS = 3
CELL_S, CALL_S, EXERCISE_S = 20.0, 25.0, 60.0  # a cell, a call, all calls of one exercise
VERSION = 2  # raise it when grades would come out differently: stored results are then graded again


@dataclass(frozen=True)
class Graded:
    """What became of one exercise."""

    id: str
    status: str  # "right", "wrong", "not yet"
    points: float
    of: float
    message: str = ""
    hint: str = ""
    flag: str = ""  # something that the instructor should know: forged, died, took too long


@dataclass
class Result:
    """What became of one submission."""

    student: str
    lesson: str
    sha256: str
    seed: int
    exercises: list[Graded] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    sandboxed: bool = True
    failed: str = ""  # why it could not be graded at all, which is nobody's grade
    version: int = VERSION

    @property
    def points(self) -> float:
        """Of the exercises that are graded here."""
        return sum(graded.points for graded in self.exercises)

    @property
    def flags(self) -> list[str]:
        """What the instructor should know."""
        return [f"{graded.id}: {graded.flag}" for graded in self.exercises if graded.flag]

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """Raises ValueError, KeyError or TypeError for anything else."""
        data = json.loads(text)
        return cls(**{**data, "exercises": [Graded(**graded) for graded in data["exercises"]]})


class Proxy:
    """Stands for a learner's function in a check: `observe` runs it in the sandbox."""

    def __init__(self, desk: "Desk", name: str):
        self.desk, self.name, self.deadline = desk, name, time.monotonic() + EXERCISE_S

    def observe(self, args: tuple, *, wrt: int | None = None, cotangent: Tensor | None = None) -> engine.Observation:
        """As `engine.observe`, with nothing in it but what the types promise."""
        seconds = min(CALL_S, self.deadline - time.monotonic())
        if seconds <= 0:
            raise TookTooLong("the calls of this exercise took longer than all of them may")
        seen = self.desk.sandbox.observe(self.name, args, seconds, wrt=wrt, cotangent=cotangent)
        honest = (
            set(seen) == {"id", "output", "error", "changed", "drew_globally", "gradient"}
            and type(seen["error"]) is str
            and type(seen["drew_globally"]) is bool
            and type(seen["changed"]) is tuple
            and all(type(i) is int for i in seen["changed"])
            and (seen["gradient"] is None or isinstance(seen["gradient"], Tensor))
        )
        if not honest:
            raise Forged("a reply that is none of ours")
        return engine.Observation(**{key: value for key, value in seen.items() if key != "id"})

    def __call__(self, *args: Any) -> Any:
        """Checks go through `observe`."""
        raise TypeError("a proxy is called through observe")


class Desk:
    """One submission's sandbox, opened when it is needed, and again after it was lost."""

    def __init__(self, submission: Submission, this: Assignment, sandboxed: bool):
        self.submission, self.this, self.sandboxed = submission, this, sandboxed
        self.deadly: set[str] = set()  # cells that ended the process: exercises, or the definitions
        self.errors: dict[str, str] = {}  # the first error of each cell
        self._sandbox: Sandbox | None = None

    @property
    def sandbox(self) -> Sandbox:
        """The open sandbox."""
        assert self._sandbox is not None
        return self._sandbox

    def open(self) -> None:
        """Start a process and run everything in it that is not known to end it. Raises SandboxError if none starts."""
        if self._sandbox:
            return
        cells = [("definitions", self.submission.definitions), *self.submission.answers.items()]
        for _ in range(len(cells) + 1):
            self._sandbox = Sandbox(self.sandboxed)
            try:
                error = self._sandbox.run(self.this.prelude, START_S)  # our own code: what fails here is no answer's
            except SandboxError as ended:
                error = str(ended)
            if error:
                self.close()
                raise SandboxError(f"the imports of lesson {self.this.lesson} do not run: {error}")
            for id, source in cells:
                if id in self.deadly:
                    continue
                try:
                    self.errors[id] = self._sandbox.run(source, CELL_S)
                except SandboxError:
                    self.close()
                    self.deadly.add(id)
                    break
            else:
                return
        raise SandboxError("no cell can be run")

    def close(self) -> None:
        """End the process."""
        if self._sandbox:
            self._sandbox.close()
            self._sandbox = None


def grade(submission: Submission, this: Assignment, *, seed: int = 0, sandboxed: bool = True) -> Result:
    """Grade one submission. Nothing that a learner wrote makes this raise; `failed` says if no sandbox would start."""
    began = time.monotonic()
    result = Result(submission.student, this.lesson, submission.sha256, seed, sandboxed=sandboxed)
    result.texts, result.notes, result.answers = submission.texts, list(submission.notes), submission.answers
    checks, desk = engine.load_lesson(this.lesson), Desk(submission, this, sandboxed)
    try:
        for question in this.exercises:
            if question.id not in submission.answers:
                result.exercises.append(Graded(question.id, "not yet", 0, question.points, "no cell answers it"))
            else:
                result.exercises.append(_graded(question, checks[question.id], desk, seed))
    except SandboxError as error:  # of `Desk.open`: this machine's fault
        result.exercises, result.failed = [], str(error)
    except Exception as error:  # a fault of ours, which shall not take the class with it
        result.exercises, result.failed = [], f"{type(error).__name__}: {error}"
    finally:
        desk.close()
    result.seconds = time.monotonic() - began
    return result


def _graded(question: Question, check: engine.Exercise, desk: Desk, seed: int) -> Graded:
    def verdict(status: str, message: str = "", hint: str = "", flag: str = "") -> Graded:
        if "definitions" in desk.deadly and not flag:
            flag = "the definitions in other cells ended the process, or did not come to an end"
        points = question.points if status == "right" else 0
        return Graded(question.id, status, points, question.points, message[:500], hint[:500], flag)

    desk.open()
    if question.id in desk.deadly:
        return verdict("wrong", "its cell ended Python, or did not come to an end", flag="cell ended the process")
    proxy = Proxy(desk, desk.submission.functions[question.id])
    try:
        for i in range(ROUNDS):
            check.test(engine.Answer(proxy, check.error_hints), engine.Draw(_stream(seed, question.id, i)))
    except engine.NotYet:
        return verdict("not yet")
    except engine.Wrong as wrong:
        if "there is no function of this name" in wrong.message and desk.errors.get(question.id):
            return verdict("wrong", f"its cell raised {desk.errors[question.id]}")
        return verdict("wrong", wrong.message, wrong.hint)
    except SandboxError as error:
        desk.close()
        if isinstance(error, Forged):
            return verdict("wrong", "it spoke to the grader in its own way", flag=f"forged: {error}")
        kind = {Died: "died", TookTooLong: "took too long"}[type(error)]
        return verdict("wrong", str(error), flag=kind)
    except Exception as error:  # of a strange output's making, in the check itself
        return verdict("wrong", f"the check could not handle what it returned ({type(error).__name__})")
    return verdict("right")


def _stream(seed: int, id: str, i: int) -> torch.Generator:
    """Inputs are the same for every learner, and others for every exercise, round and seed."""
    digest = hashlib.sha256(f"{seed}/{id}/{i}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


# ---------------------------------------------------------------- a class


def grade_class(
    submissions: Iterable[Submission],
    assignments: dict[str, Assignment],
    results: Path,
    *,
    seed: int = 0,
    jobs: int = 1,
    sandboxed: bool = True,
    scheduler: str | None = None,
) -> Iterator[Result]:
    """Grade each submission, `jobs` at a time, and yield the results as they come; each is stored before that.

    A result that is stored already, for the same notebook, seed and version of the grader, is not made again: after a
    crash the same command goes on. With a `scheduler`, the address of a Dask cluster, its workers grade.
    """
    todo = []
    for submission in submissions:
        if (stored := read_result(results, submission, seed, sandboxed)) is not None:
            yield stored
        else:
            todo.append(submission)
    tasks = ((submission, assignments[submission.lesson]) for submission in todo)
    for result in _on_cluster(tasks, scheduler, seed, sandboxed) if scheduler else _here(tasks, jobs, seed, sandboxed):
        if not result.failed:
            write_atomically(path_of(results, result.student, result.lesson), result.to_json().encode())
        yield result


def path_of(results: Path, student: str, lesson: str) -> Path:
    """Where a submission's result is stored."""
    return results / "results" / lesson / f"{student}.json"


def read_result(results: Path, submission: Submission, seed: int, sandboxed: bool) -> Result | None:
    """The stored result, or None if it must be made: there is none, or it is of something else, or damaged."""
    try:
        text = path_of(results, submission.student, submission.lesson).read_text(encoding="utf-8")
        stored = Result.from_json(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = (stored.sha256, stored.seed, stored.sandboxed, stored.version)
    return stored if same == (submission.sha256, seed, sandboxed, VERSION) else None


def _here(tasks: Iterable[tuple[Submission, Assignment]], jobs: int, seed: int, sandboxed: bool) -> Iterator[Result]:
    """Threads are enough: the work is done in the sandboxes' processes."""
    from concurrent.futures import as_completed

    torch.set_num_threads(1)
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(grade, *task, seed=seed, sandboxed=sandboxed) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _on_cluster(
    tasks: Iterable[tuple[Submission, Assignment]], scheduler: str, seed: int, sandboxed: bool
) -> Iterator[Result]:
    """A task a submission; Dask gives those of a worker that died to another."""
    from distributed import Client, as_completed

    with Client(scheduler) as client:
        futures = [client.submit(grade, *task, seed=seed, sandboxed=sandboxed, pure=False) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
