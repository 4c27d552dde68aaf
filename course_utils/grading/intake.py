"""What was handed in, made into answers. Nothing is run here, and nothing that is found is believed.

A class comes as a folder of notebooks, a folder of students' folders, or a zip as a learning platform exports it. From
each notebook come the cells that answer an exercise, the definitions of the other cells, and the free text; everything
odd is noted for the instructor. Where an answer is: nbgrader's metadata, else the comment `# Exercise 01.q_step` that
its cell begins with, else a function of the right name anywhere.
"""

import ast
import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from course_utils.authoring.build import STUB, check_arguments, grade_id, lessons, read_source, tags

FILE_LIMIT = 20 << 20  # bytes of one notebook
CLASS_LIMIT = 10_000  # notebooks
SOURCE_LIMIT = 200_000  # characters of one answer
MARKER = re.compile(r"#\s*Exercise\s+(\d\d\.\w+)")
IGNORED = ("__MACOSX", ".ipynb_checkpoints", ".git")


class IntakeError(Exception):
    """The whole hand-in cannot be read; the message says why."""


@dataclass(frozen=True)
class Question:
    """One exercise, or one free-text question, as the lesson's source has it."""

    id: str  # "01.q_step"
    points: float
    function: str = ""  # the name that its check asks for; empty for free text


@dataclass(frozen=True)
class Assignment:
    """A lesson as the grader sees it."""

    lesson: str  # "01"
    slug: str  # "01_forward_process"
    prelude: str  # the imports of its page
    exercises: tuple[Question, ...]
    texts: tuple[Question, ...]


@dataclass
class Submission:
    """One learner's answers to one lesson."""

    student: str
    lesson: str
    sha256: str = ""
    definitions: str = ""  # imports, functions, classes and plain constants of the cells that answer nothing
    answers: dict[str, str] = field(default_factory=dict)  # exercise -> source
    functions: dict[str, str] = field(default_factory=dict)  # exercise -> the name to call
    texts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def assignment(lesson: str) -> Assignment:
    """The assignment of a lesson, "01", from its one source. Raises LessonError if there is no such lesson."""
    (source,) = lessons([lesson])
    cells = read_source(source).cells
    checks = [check_arguments(cell.source) for cell in cells if "check" in tags(cell)]
    names = {checked[0]: checked[1] for checked in checks if checked}
    code = [cell.source for cell in cells if cell.cell_type == "code" and not tags(cell) & {"exercise", "check"}]
    imports = "\n".join(_kept(source, imports_only=True) for source in code)
    prelude = f'from course_utils.runtime import setup\nlesson = setup("{lesson}", seed=0)\n{imports}'
    return Assignment(
        lesson,
        source.stem,
        prelude,
        tuple(
            Question(cell.metadata.exercise, cell.metadata.points, names[cell.metadata.exercise])
            for cell in cells
            if "exercise" in tags(cell)
        ),
        tuple(Question(cell.metadata.question, cell.metadata.points) for cell in cells if "manual" in tags(cell)),
    )


# ---------------------------------------------------------------- one notebook


def read_submission(content: bytes, student: str, this: Assignment) -> Submission:
    """The answers in a notebook's bytes. Never raises: what cannot be read is noted, and answers nothing."""
    found = Submission(student, this.lesson, hashlib.sha256(content).hexdigest())
    if len(content) > FILE_LIMIT:
        found.notes.append(f"not read: {len(content) / 2**20:.0f} MiB, more than {FILE_LIMIT / 2**20:.0f}")
        return found
    try:
        cells = [_cell(cell) for cell in json.loads(content.decode("utf-8-sig"))["cells"]]
    except Exception as error:  # arbitrary bytes: there is no end to the ways they can be wrong
        found.notes.append(f"not a notebook: {type(error).__name__}" if content else "empty file")
        return found
    by_id = {grade_id(question.id): question for question in (*this.exercises, *this.texts)}
    loose: list[str] = []
    for kind, source, name in cells:
        if len(source) > SOURCE_LIMIT:
            found.notes.append(f"a cell of {len(source):,} characters left out")
            continue
        marked = MARKER.match(source.lstrip())
        question = by_id.get(name) or (by_id.get(grade_id(marked[1])) if marked else None)
        if question is None:
            if kind == "code":
                loose.append(source)
        elif not question.function:
            _keep(found, found.texts, question.id, source)
        elif kind == "code":
            if question.id not in found.answers or question.function in _names(source)[1]:
                _keep(found, found.answers, question.id, source)
        else:
            found.notes.append(f"{question.id}: its cell is no longer code")
    code = [source for kind, source, _ in cells if kind == "code" and len(source) <= SOURCE_LIMIT]
    for question in this.exercises:
        if STUB in found.answers.get(question.id, STUB):
            _look_elsewhere(found, question, code)
        _name_function(found, question)
    found.definitions = "\n".join(_kept(_plain(source)) for source in loose)
    return found


def _cell(cell: Any) -> tuple[str, str, str]:
    """Kind, source and nbgrader's name of a cell, whatever stands where they should."""
    source = cell["source"]
    text = "".join(source) if isinstance(source, list) else str(source)
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return str(cell["cell_type"]), text.replace("\r\n", "\n"), name if isinstance(name, str) else ""


def _keep(found: Submission, where: dict[str, str], id: str, source: str) -> None:
    if id in where:
        found.notes.append(f"{id}: answered by more than one cell; the last counts")
    where[id] = _plain(source) if where is found.answers else source


def _look_elsewhere(found: Submission, question: Question, cells: list[str]) -> None:
    """An answer that is not where it should be: in a cell without marks, or together with another answer."""
    holding = [source for source in cells if STUB not in source and question.function in _names(source)[1]]
    if holding:
        found.notes.append(f"{question.id}: found by the name of its function, not by its cell's marks")
        found.answers[question.id] = _plain(holding[-1])
    elif question.id not in found.answers:
        found.notes.append(f"{question.id}: no cell answers it")


def _name_function(found: Submission, question: Question) -> None:
    """The function to call: the one asked for, or the only one that the cell defines."""
    source = found.answers.get(question.id, "")
    found.functions[question.id] = question.function
    defined, bound = _names(source)
    if question.function not in bound and len(defined) == 1:
        found.functions[question.id] = defined[0]
        found.notes.append(f"{question.id}: its function is called {defined[0]}, not {question.function}")


def _names(source: str) -> tuple[list[str], set[str]]:
    """The functions and classes that a cell defines; and all names it binds, as in `q_step = torch.compile(mine)`."""
    try:
        body = ast.parse(_plain(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], set()
    defined = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return defined, {*defined, *(target.id for target in targets if isinstance(target, ast.Name))}


def _plain(source: str) -> str:
    """Python without the lines that only IPython understands."""
    return "\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in source.split("\n"))


def _kept(source: str, imports_only: bool = False) -> str:
    """A cell's imports, and unless told otherwise its definitions and constants: what costs nothing to run."""
    try:
        body = ast.parse(_plain(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    kinds = (
        (ast.Import, ast.ImportFrom) if imports_only else (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    )
    return "\n".join(ast.unparse(node) for node in body if isinstance(node, kinds) or _is_constant(node, imports_only))


def _is_constant(node: ast.stmt, never: bool) -> bool:
    if never or not isinstance(node, ast.Assign):
        return False
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


# ---------------------------------------------------------------- a class


def collect(path: Path, wanted: dict[str, Assignment], log: list[str]) -> Iterator[Submission]:
    """Every submission in a notebook, a folder or a zip, to the wanted lessons; one for each learner and lesson.

    Raises IntakeError if `path` is none of these; what is skipped, and why, goes to `log`.
    """
    chosen: dict[tuple[str, str], tuple[str, Submission]] = {}  # parsed at once: the files themselves may be large
    count = 0
    for name, content in _files(path, log):
        count += 1
        if count > CLASS_LIMIT:
            raise IntakeError(f"{path}: more than {CLASS_LIMIT:,} notebooks")
        lesson = lesson_of(name, content, wanted)
        if lesson is None:
            log.append(f"{name}: skipped, of none of the lessons {', '.join(wanted)}")
            continue
        student = student_of(name, wanted[lesson].slug)
        if (student, lesson) in chosen:
            log.append(f"{name}: {student} handed in lesson {lesson} more than once; the last in the alphabet counts")
        chosen[student, lesson] = name, read_submission(content, student, wanted[lesson])
    for _, (name, found) in sorted(chosen.items()):
        log.extend(f"{name}: {note}" for note in found.notes)
        yield found


def lesson_of(name: str, content: bytes, wanted: dict[str, Assignment]) -> str | None:
    """Which lesson a notebook answers: its file's name, else what its metadata say, else the marks in its cells."""
    stem = PurePosixPath(name).stem
    for lesson, this in wanted.items():
        if this.slug in stem or re.match(rf"{lesson}(\D|$)", stem):
            return lesson
    if len(wanted) == 1:
        return next(iter(wanted))
    head = content[:FILE_LIMIT].decode("utf-8", errors="replace")
    told = re.search(r'"lesson":\s*"(\d\d)"', head) or MARKER.search(head)
    return told[1][:2] if told and told[1][:2] in wanted else None


def student_of(name: str, slug: str) -> str:
    """Who handed a file in: its folder, else its name without the lesson's. What is no word becomes an underscore."""
    path = PurePosixPath(name)
    folder = [part for part in path.parts[:-1] if not re.fullmatch(r"\d\d(_.*)?|submitted", part)]
    stem = path.stem.replace(slug, "")
    who = folder[-1] if folder else stem
    who = re.sub(r"_(assignsubmission_file|onlinetext)_?$", "", who)  # Moodle
    return re.sub(r"[^\w.@-]+", "_", who).strip("._-@")[:80] or "unknown"


def _files(path: Path, log: list[str]) -> Iterator[tuple[str, bytes]]:
    """Names, relative and with slashes, and contents of all notebooks, in order."""
    if path.is_file() and zipfile.is_zipfile(path):
        yield from _zipped(path, log)
    elif path.is_file():
        yield path.name, _bytes(path)
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if any(part in IGNORED for part in file.parts) or not stat.S_ISREG(file.lstat().st_mode):
                if file.is_symlink():
                    log.append(f"{name}: skipped, a link")
            elif file.suffix == ".ipynb":
                yield name, _bytes(file)
            elif file.suffix == ".zip" and zipfile.is_zipfile(file):
                yield from ((f"{file.stem}/{inner}", content) for inner, content in _zipped(file, log))
            else:
                log.append(f"{name}: skipped, no notebook")
    else:
        raise IntakeError(f"{path}: no notebook, folder or zip is there")


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(FILE_LIMIT + 1)  # one more than is allowed: enough to be refused


def _zipped(path: Path, log: list[str]) -> Iterator[tuple[str, bytes]]:
    """The notebooks of a zip, which is never unpacked to disk: no path can escape, no bomb can burst."""
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
            if entry.is_dir() or any(part in IGNORED for part in parts):
                continue
            name = "/".join(part for part in parts if part not in ("..", "/", "."))
            if not name.endswith(".ipynb"):
                log.append(f"{name}: skipped, no notebook")
                continue
            try:
                with archive.open(entry) as file:
                    yield name, file.read(FILE_LIMIT + 1)
            except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, NotImplementedError) as error:
                log.append(f"{name}: skipped, {type(error).__name__}: {error}")
