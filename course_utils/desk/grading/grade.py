"""From answers to grades: the checks of the lessons, run here, on functions that run in the sandbox.

A check draws fresh inputs from the seed, calls the learner's function through `Proxy`, and compares. It is run
`ROUNDS` times, on other inputs each time, and an exercise earns its points if every round is right. Each exercise
begins in a process of its own, so that whatever an answer does there costs its own exercise alone.
"""

import contextlib
import dataclasses
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from course_utils.desk.grading.intake import Assignment, Question, Submission
from course_utils.desk.grading.sandbox import START_S, Forged, Sandbox, SandboxError, Stopped, TookTooLong
from course_utils.desk.grading.words import shown
from course_utils.exercises import engine
from course_utils.files import write_atomically

ROUNDS = 3
TRIES = 2  # of what ended or took too long: the machine may have had no memory or no time left for it
CELL_S, CALL_S, EXERCISE_S = 20.0, 25.0, 60.0  # a cell, a call (within it `answer.TIME_LIMIT_S`), all of an exercise
VERSION = 4  # raise it when grades would come out differently: stored results are then graded again


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
    unread: str = ""  # why nothing could be read in what was handed in, which earns nothing
    version: int = VERSION
    name: str = ""  # what the learner is called where the hand-in came from

    @property
    def points(self) -> float:
        """Of the exercises that are graded here."""
        return sum(graded.points for graded in self.exercises)

    @property
    def flags(self) -> list[str]:
        """What the instructor should know."""
        flags = [f"{graded.id}: {graded.flag}" for graded in self.exercises if graded.flag]
        return [f"not read: {self.unread}", *flags] if self.unread else flags

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
    """One submission's sandbox: a worker for each exercise, and a new sandbox when the old one has been broken."""

    def __init__(self, submission: Submission, this: Assignment, sandboxed: bool, stop: threading.Event | None = None):
        self.submission, self.this, self.sandboxed, self.stop = submission, this, sandboxed, stop
        self.lost: dict[str, SandboxError] = {}  # cells that ended or hung their worker: answers, or the definitions
        self.errors: dict[str, str] = {}  # the first error of each cell
        self.tries: Counter[str] = Counter()
        self._sandbox: Sandbox | None = None

    @property
    def sandbox(self) -> Sandbox:
        """The open sandbox."""
        assert self._sandbox is not None
        return self._sandbox

    def begin(self, id: str) -> None:
        """A fresh worker with what the answer to one exercise needs: definitions, answers that it calls, what it uses.

        Cells that cannot be run are in `lost` afterwards. Raises SandboxError if no sandbox starts.
        """
        cells = {"definitions": self.submission.definitions}
        cells |= {other: self.submission.answers[other] for other in self.submission.needs.get(id, [])}
        cells[f"{id} uses"] = self.submission.computed.get(id, "")
        cells[id] = self.submission.answers[id]
        while id not in self.lost:
            self._fresh()
            if all(self._run(name, source) for name, source in cells.items() if source and name not in self.lost):
                return

    def _fresh(self) -> None:
        if self._sandbox:
            try:
                return self._sandbox.begin()
            except SandboxError:  # what ran in it has brought it down
                self.close()
        try:
            self._sandbox = Sandbox(self.sandboxed, self.this.prelude, self.stop, START_S)
        except SandboxError as error:  # no learner's code has run in it
            raise SandboxError(f"the imports of lesson {self.this.lesson} do not run: {error}") from error

    def _run(self, name: str, source: str) -> bool:
        try:
            self.errors[name] = self.sandbox.run(source, CELL_S)
        except SandboxError as error:
            if self.is_final(name, error):
                self.lost[name] = error
            return False
        return True

    def is_final(self, what: str, error: SandboxError) -> bool:
        """Whether a cell, or the calls of a function, need not be tried again; if so, in a new sandbox."""
        self.tries[what] += 1
        if isinstance(error, Forged) or self.tries[what] >= TRIES:
            return True
        self.close()
        return False

    def close(self) -> None:
        """End the process."""
        if self._sandbox:
            self._sandbox.close()
            self._sandbox = None


def grade(
    submission: Submission,
    this: Assignment,
    *,
    seed: int = 0,
    sandboxed: bool = True,
    stop: threading.Event | None = None,
) -> Result:
    """Grade one submission. Nothing that a learner wrote makes this raise; `failed` says if no sandbox would start."""
    began = time.monotonic()
    result = Result(submission.student, this.lesson, submission.sha256, seed, sandboxed=sandboxed, name=submission.name)
    result.texts, result.notes, result.answers = submission.texts, list(submission.notes), submission.answers
    result.unread = submission.unread
    checks, desk = engine.load_lesson(this.lesson), Desk(submission, this, sandboxed, stop)
    try:
        for question in this.exercises:
            if question.id not in submission.answers:
                result.exercises.append(Graded(question.id, "not yet", 0, question.points, "no cell answers it"))
            else:
                result.exercises.append(_graded(question, checks[question.id], desk, seed))
    except (SandboxError, Stopped) as error:  # of `Desk.begin`: this machine's fault; or somebody wants to stop
        result.exercises, result.failed = [], str(error)
    except Exception as error:  # a fault of ours, which shall not take the class with it
        result.exercises, result.failed = [], f"{type(error).__name__}: {error}"
    finally:
        desk.close()
    result.seconds = time.monotonic() - began
    return result


def _graded(question: Question, check: engine.Exercise, desk: Desk, seed: int) -> Graded:
    def verdict(status: str, message: str = "", hint: str = "", flag: str = "") -> Graded:
        if "definitions" in desk.lost and not flag:
            flag = "the definitions in other cells ended the process, or did not come to an end"
        elif f"{question.id} uses" in desk.lost and not flag:
            flag = "what it uses of other cells ended the process, or did not come to an end"
        points = question.points if status == "right" else 0
        return Graded(question.id, status, points, question.points, shown(message), shown(hint), flag)

    def broken(error: SandboxError, message: str) -> Graded:
        if isinstance(error, Forged):
            return verdict("wrong", "it spoke to the grader in its own way", flag=f"forged: {shown(str(error))}")
        return verdict("wrong", message, flag="took too long" if isinstance(error, TookTooLong) else "died")

    desk.begin(question.id)
    if question.id in desk.lost:
        return broken(desk.lost[question.id], "its cell ended Python, or did not come to an end")
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
        if desk.is_final(f"{question.id} called", error):
            return broken(error, str(error))
        return _graded(question, check, desk, seed)
    except Stopped:
        raise
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
) -> Generator[Result, None, None]:
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
    tasks = [(submission, assignments[submission.lesson]) for submission in todo]
    run = _on_cluster(tasks, scheduler, seed, sandboxed) if scheduler else _here(tasks, jobs, seed, sandboxed, results)
    for result in run:
        if scheduler:
            store(results, result)
        yield result


def store(results: Path, result: Result) -> None:
    """Keep a result, unless it is nobody's grade."""
    if not result.failed:
        write_atomically(path_of(results, result.student, result.lesson), result.to_json().encode())


@contextlib.contextmanager
def alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold a class folder, so that no two commands write into it at once; `wait` is called if one has to wait."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a network disk without locks
            pass
        yield


def path_of(results: Path, student: str, lesson: str) -> Path:
    """Where a submission's result is stored."""
    return results / "results" / lesson / f"{student}.json"


def read_result(results: Path, submission: Submission, seed: int, sandboxed: bool) -> Result | None:
    """The stored result, or None if it must be made: there is none, or it is of something else, or damaged.

    A hand-in in which nothing could be read does not take the place of one that could.
    """
    try:
        text = path_of(results, submission.student, submission.lesson).read_text(encoding="utf-8")
        stored = Result.from_json(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if stored.name and submission.name and stored.name != submission.name:
        said = f"{submission.student} stands for {shown(repr(stored.name))} here, and not for this hand-in's learner"
        return dataclasses.replace(stored, exercises=[], failed=said)
    if submission.unread and not stored.unread:
        return stored
    same = (stored.sha256, stored.seed, stored.sandboxed, stored.version)
    return stored if same == (submission.sha256, seed, sandboxed, VERSION) else None


def _here(
    tasks: Sequence[tuple[Submission, Assignment]], jobs: int, seed: int, sandboxed: bool, results: Path
) -> Iterator[Result]:
    """Threads are enough: the work is done in the sandboxes' processes. Each result is stored as soon as it is there.

    Whoever stops listening (Ctrl-C) stops the work: what is under way is given up within a second.
    """
    torch.set_num_threads(1)
    stop = threading.Event()

    def work(submission: Submission, this: Assignment) -> Result:
        result = grade(submission, this, seed=seed, sandboxed=sandboxed, stop=stop)
        store(results, result)
        return result

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(work, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            stop.set()
            for future in futures:
                future.cancel()


def _on_cluster(
    tasks: Sequence[tuple[Submission, Assignment]], scheduler: str, seed: int, sandboxed: bool
) -> Iterator[Result]:
    """A task a submission; Dask gives those of a worker that died to another."""
    from distributed import Client, as_completed

    with Client(scheduler) as client:
        futures = [client.submit(grade, *task, seed=seed, sandboxed=sandboxed, pure=False) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
