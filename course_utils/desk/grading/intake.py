"""What was handed in, made into answers. Nothing is run here, and nothing that is found is believed.

A class comes as a folder of notebooks, a folder of students' folders, or a zip as a learning platform exports it. From
each notebook come the cells that answer an exercise, the definitions of the other cells, and the free text; everything
odd is noted for the instructor. Where an answer is: nbgrader's metadata, else the comment `# Exercise 01.q_step` that
its cell begins with, else a function of the right name anywhere.
"""

import ast
import contextlib
import functools
import hashlib
import io
import itertools
import json
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from course_utils.desk.lesson import STUB, check_arguments, grade_id, lessons, read_source, tags

FILE_LIMIT = 20 << 20  # bytes of one notebook
ZIP_LIMIT = 200 << 20  # bytes of a zip in a zip
EACH_LIMIT = 100  # notebooks of one learner
SOURCE_LIMIT = 200_000  # characters of one answer
MARKER = re.compile(r"#\s*Exercise\s+(\d\d\.\w+)")
MAGIC = re.compile(r"(?m)^([ \t]*)(?:[%!?].*|[\w.]+\?{1,2}[ \t]*)$")  # %time, !pip, ?torch, torch.cat?
IGNORED = ("__MACOSX", ".ipynb_checkpoints", ".git")
SIMPLE = (
    ast.Constant, ast.Name, ast.Attribute, ast.UnaryOp, ast.BinOp, ast.Tuple, ast.List, ast.Set, ast.Dict,
    ast.operator, ast.unaryop, ast.expr_context, ast.Call,
)  # fmt: skip
"""What the value of a constant may be made of; of calls, only those of `math`."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


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
    try:
        _read(found, content, this)
    except Exception as error:  # arbitrary source: a parser, too, can be brought to its knees
        found.notes.append(f"could not be read to the end: {type(error).__name__}")
    return found


def _read(found: Submission, content: bytes, this: Assignment) -> None:
    """Fill in what the notebook answers."""
    if len(content) > FILE_LIMIT:
        found.notes.append(f"not read: {len(content) / 2**20:.0f} MiB, more than {FILE_LIMIT / 2**20:.0f}")
        return
    try:
        cells = [_cell(cell) for cell in json.loads(content.decode("utf-8-sig"))["cells"]]
    except Exception as error:  # arbitrary bytes: there is no end to the ways they can be wrong
        found.notes.append(f"not a notebook: {type(error).__name__}" if content else "empty file")
        return
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
    _look_for_text(found, this, cells)
    found.definitions = "\n".join(_kept(source) for source in loose)
    _note_what_is_missing(found, this, loose)


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


def _look_for_text(found: Submission, this: Assignment, cells: list[tuple[str, str, str]]) -> None:
    """A lesson's one free text, where an editor has dropped its mark: it follows the cell that asks for it."""
    for question in this.texts:
        if question.id in found.texts:
            continue
        texts = [source for kind, source, _ in cells if kind == "markdown"]
        after = [text for asked, text in itertools.pairwise(texts) if "### In your own words" in asked]
        if len(this.texts) == len(after) == 1:
            found.notes.append(f"{question.id}: found by its place, not by its cell's mark")
            found.texts[question.id] = after[0]
        else:
            found.notes.append(f"{question.id}: no cell answers it")


def _note_what_is_missing(found: Submission, this: Assignment, loose: list[str]) -> None:
    """Names that an answer uses and that only a computation in another cell makes, which is not run here."""
    kept = _bound([node for source in (this.prelude, found.definitions) for node in _parsed(source)])
    kept |= _bound([node for source in found.answers.values() for node in _parsed(source)])
    made = _bound([node for source in loose for node in _parsed(source) if not _is_kept(node)]) - kept
    for id, source in found.answers.items():
        nodes = [node for statement in _parsed(source) for node in ast.walk(statement)]
        local = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        local |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        used = {node.id for node in nodes if isinstance(node, ast.Name)} & made - local
        if used:
            found.notes.append(
                f"{id}: {', '.join(sorted(used))} comes from another cell, which is not run; bring it along"
            )


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
    body = _parsed(source)
    return [node.name for node in body if isinstance(node, Definition)], _bound(body)


def _bound(body: Sequence[ast.stmt]) -> set[str]:
    """The names that statements bind, outside of functions."""
    names = set()
    for statement in body:
        if isinstance(statement, Definition):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        else:
            inside = ast.walk(statement)
            names |= {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names


def _parsed(source: str) -> list[ast.stmt]:
    """A cell's statements; none if it is no Python."""
    try:
        return ast.parse(_plain(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _plain(source: str) -> str:
    """Python: where a cell is none as it stands, without what only IPython understands."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return MAGIC.sub(r"\1pass", source)
    return source


def _kept(source: str, imports_only: bool = False) -> str:
    """A cell's imports, and unless told otherwise its definitions and constants: what costs nothing to run."""
    kept = []
    for node in _parsed(source):
        if isinstance(node, ast.Import | ast.ImportFrom) if imports_only else _is_kept(node):
            with contextlib.suppress(Exception):  # of an expression as deep, or a number as long, as Python can parse
                kept.append(ast.unparse(node))
    return "\n".join(kept)


def _is_kept(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | Definition):
        return True
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    return all(isinstance(part, SIMPLE) and _is_cheap(part) for part in ast.walk(node.value))


def _is_cheap(part: ast.AST) -> bool:
    """No call, or one such as `math.sqrt(2)`."""
    if not isinstance(part, ast.Call):
        return True
    of = part.func.value if isinstance(part.func, ast.Attribute) else None
    return isinstance(of, ast.Name) and of.id == "math" and not part.keywords


# ---------------------------------------------------------------- a class


def collect(path: Path, wanted: dict[str, Assignment], log: list[str]) -> Iterator[Submission]:
    """Every submission in a notebook, a folder or a zip, to the wanted lessons; one for each learner and lesson.

    Raises IntakeError if `path` is none of these; what is skipped, and why, goes to `log`.
    """
    files = sorted(_files(path, log), key=lambda file: ("solutions" not in PurePosixPath(file[0]).parts, file[0]))
    students = students_of([name for name, _ in files], log)
    chosen: dict[tuple[str, str], tuple[str, Submission]] = {}  # parsed at once: the files themselves may be large
    count: Counter[str] = Counter()
    for name, read in files:
        student = students[name]
        count[student] += 1
        if count[student] > EACH_LIMIT:
            log.append(f"{name}: skipped, {student} handed in more than {EACH_LIMIT} notebooks")
            continue
        try:
            content = read()
        except Exception as error:  # a damaged zip, an unreadable disk
            log.append(f"{name}: skipped, {type(error).__name__}: {error}")
            continue
        lesson = lesson_of(name, content, wanted)
        if lesson is None:
            log.append(f"{name}: skipped, of none of the lessons {', '.join(wanted)}")
            continue
        if (student, lesson) in chosen:
            log.append(f"{name}: {student} handed in lesson {lesson} more than once; the last in the alphabet counts")
        chosen[student, lesson] = name, read_submission(content, student, wanted[lesson])
    for _, (name, found) in sorted(chosen.items()):
        log.extend(f"{name}: {note}" for note in found.notes)
        yield found


def lesson_of(name: str, content: bytes, wanted: dict[str, Assignment]) -> str | None:
    """Which of the wanted lessons a notebook answers, None if it answers another.

    Its file's name says so if a lesson's is in it, else its metadata, else the marks in its cells, else a number that
    the name begins with. One that says nothing is of the lesson that is wanted, if that is one alone.
    """
    stem = PurePosixPath(name).stem
    lesson = next((source.stem[:2] for source in lessons() if source.stem in stem), None)
    if lesson is None:
        head = content[:FILE_LIMIT].decode("utf-8", errors="replace")
        told = re.search(r'"lesson":\s*"(\d\d)"', head) or MARKER.search(head)
        numbered = re.match(r"(\d\d)(\D|$)", stem)
        if told:
            lesson = told[1][:2]
        elif numbered and numbered[1] in wanted:
            lesson = numbered[1]
        elif len(wanted) == 1:
            return next(iter(wanted))
    return lesson if lesson in wanted else None


def students_of(names: Sequence[str], log: list[str]) -> dict[str, str]:
    """Who handed in each file: the first folder by which hand-ins differ, else the file's name without the lesson's.

    What a learner puts into a folder or zip of their own is theirs, whatever they call it. What is no word becomes an
    underscore; two folders that would become one learner are kept apart, and `log` says so.
    """
    slugs = [source.stem for source in lessons()]
    other = {"submitted", "solutions", *slugs, *(slug[:2] for slug in slugs)}  # folders that name no learner
    paths = {name: PurePosixPath(name) for name in names}
    folders = {name: [part for part in path.parts[:-1] if part not in other] for name, path in paths.items()}
    levels = zip(*folders.values(), strict=False) if len(names) > 1 else ()
    shared = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
    students: dict[str, str] = {}
    taken: dict[str, str] = {}  # a learner -> the folder that it stands for
    for name, path in paths.items():
        stem = path.stem
        for slug in slugs:
            stem = stem.replace(slug, "")
        stem = re.sub(r"[^\w.@-]+", "_", stem).strip("._-@")
        inside = folders[name][shared:]
        who = inside[0] if inside else stem or (folders[name] or list(path.parts[-2:-1]) or ["unknown"])[-1]
        who = re.sub(r"_(assignsubmission_file|onlinetext)_?$", "", who)  # Moodle
        word = re.sub(r"[^\w.@-]+", "_", who).strip("._-@").encode()[:80].decode(errors="ignore") or "unknown"
        student, n = word, 1
        while taken.setdefault(student, who) != who:
            student, n = f"{word}_{n + 1}", n + 1
        if student != word and student not in students.values():
            log.append(f"{name}: {who} is written like {taken[word]}; kept apart as {student}")
        students[name] = student
    return students


File = tuple[str, Callable[[], bytes]]
"""A notebook's name, relative and with slashes, and a function that reads it."""


def _files(path: Path, log: list[str]) -> list[File]:
    """All notebooks in a notebook, folder or zip, and in the zips therein."""
    if path.is_file() and path.suffix.lower() == ".zip":
        try:
            return _zipped(lambda: path, "", log)
        except Exception as error:  # zipfile has many ways to refuse
            raise IntakeError(f"{path}: cannot be read, {type(error).__name__}: {error}") from error
    if path.is_file():
        return [(path.name, lambda: _bytes(path))]
    if not path.is_dir():
        raise IntakeError(f"{path}: no notebook, folder or zip is there")
    found: list[File] = []
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if any(part in IGNORED for part in file.parts) or not stat.S_ISREG(file.lstat().st_mode):
            if file.is_symlink():
                log.append(f"{name}: skipped, a link")
        elif file.suffix == ".ipynb":
            found.append((name, functools.partial(_bytes, file)))
        elif file.suffix.lower() == ".zip":
            found += _inner(functools.partial(Path, file), name, log)
        else:
            log.append(f"{name}: skipped, no notebook")
    return found


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(FILE_LIMIT + 1)  # one more than is allowed: enough to be refused


def _zipped(opened: Callable[[], Path | io.BytesIO], where: str, log: list[str], depth: int = 0) -> list[File]:
    """The notebooks of a zip, which is never unpacked to disk: no path can escape, no bomb can burst."""

    def one(entry: zipfile.ZipInfo, limit: int) -> bytes:
        with zipfile.ZipFile(opened()) as archive, archive.open(entry) as file:
            return file.read(limit)

    def inner(entry: zipfile.ZipInfo) -> io.BytesIO:
        return io.BytesIO(one(entry, ZIP_LIMIT))

    with zipfile.ZipFile(opened()) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
    found: list[File] = []
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if entry.is_dir() or any(part in IGNORED for part in parts):
            continue
        name = where + "/".join(part for part in parts if part not in ("..", "/", "."))
        if name.endswith(".ipynb"):
            found.append((name, functools.partial(one, entry, FILE_LIMIT + 1)))
        elif name.lower().endswith(".zip") and depth < 1 and entry.file_size <= ZIP_LIMIT:
            found += _inner(functools.partial(inner, entry), name, log, depth + 1)
        else:
            log.append(f"{name}: skipped, no notebook")
    return found


def _inner(opened: Callable[[], Path | io.BytesIO], name: str, log: list[str], depth: int = 0) -> list[File]:
    """The notebooks of one learner's zip; none, and a line in the log, if it cannot be read."""
    try:
        return _zipped(opened, name[:-4] + "/", log, depth)
    except Exception as error:  # zipfile has many ways to refuse
        log.append(f"{name}: skipped, {type(error).__name__}: {error}")
        return []
