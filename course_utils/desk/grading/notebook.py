"""One notebook, made into answers. Nothing is run here, and nothing that is found is believed.

Where an answer is: nbgrader's metadata, else the comment `# Exercise 01.q_step` near the top of its cell, else a
function of the right name anywhere. An answer that was split is put together again. Everything odd is noted.
"""

import hashlib
import itertools
from dataclasses import dataclass, field

from course_utils.desk.grading.cells import (
    CELLS_LIMIT,
    CODE_LIMIT,
    SOURCE_LIMIT,
    Cell,
    checks,
    read_cells,
)
from course_utils.desk.grading.files import FILE_LIMIT
from course_utils.desk.grading.links import linked
from course_utils.desk.grading.words import shown
from course_utils.desk.lesson import ANSWER, check_arguments, grade_id, lessons, read_source, tags

OTHERS = {b"PK": "a zip", b"\x1f\x8b": "an archive", b"%PDF": "a PDF", b"<": "a web page"}
"""How files begin that are handed in under a notebook's name."""


@dataclass(frozen=True)
class Question:
    """One exercise, or one free-text question, as the lesson's source has it."""

    id: str  # "01.q_step"
    points: float
    function: str = ""  # the name that its check asks for; empty for free text
    asked: str = ""  # of free text, the heading of the cell above that asks for it


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
    needs: dict[str, list[str]] = field(default_factory=dict)  # exercise -> other exercises whose answers it calls
    computed: dict[str, str] = field(default_factory=dict)  # exercise -> what other cells compute and it uses
    texts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unread: str = ""  # why nothing could be read
    name: str = ""  # what the learner is called where the hand-in came from


def assignment(lesson: str) -> Assignment:
    """The assignment of a lesson, "01", from its one source. Raises LessonError if there is no such lesson."""
    (source,) = lessons([lesson])
    cells = read_source(source).cells
    checks = [check_arguments(cell.source) for cell in cells if "check" in tags(cell)]
    names = {checked[0]: checked[1] for checked in checks if checked}
    code = [cell.source for cell in cells if cell.cell_type == "code" and not tags(cell) & {"exercise", "check"}]
    imports = "\n".join(Cell("code", source).kept(imports_only=True) for source in code)
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
        tuple(
            Question(cell.metadata.question, cell.metadata.points, asked=_heading(above.source))
            for above, cell in itertools.pairwise(cells)
            if "manual" in tags(cell)
        ),
    )


def _heading(text: str) -> str:
    """The last heading in a cell of words."""
    return next((line.strip() for line in reversed(text.split("\n")) if line.startswith("#")), "")


def read_submission(content: bytes, student: str, this: Assignment) -> Submission:
    """The answers in a notebook's bytes. Never raises: what cannot be read is noted, and answers nothing."""
    found = Submission(student, this.lesson, hashlib.sha256(content).hexdigest())
    try:
        if len(content) > FILE_LIMIT:
            found.unread = f"{len(content) / 2**20:.0f} MiB, more than {FILE_LIMIT / 2**20:.0f}"
            found.notes.append(f"not read: {found.unread}")
            return found
        try:
            cells, more = read_cells(content)
        except Exception as error:  # arbitrary bytes: there is no end to the ways they can be wrong
            said = next((kind for start, kind in OTHERS.items() if content.startswith(start)), type(error).__name__)
            found.unread = f"not a notebook: {said}" if content else "empty file"
            found.notes.append(found.unread)
            return found
        _read(found, cells, more, this)
    except Exception as error:  # arbitrary source: a parser, too, can be brought to its knees
        found.notes.append(f"could not be read to the end: {type(error).__name__}")
    found.notes = list(map(shown, found.notes))
    return found


def _read(found: Submission, cells: list[Cell], more: int, this: Assignment) -> None:
    """Fill in what the cells answer."""
    cells = _affordable(found, cells, more)
    of = {grade_id(question.id): question.id for question in (*this.exercises, *this.texts)}
    asked = [of.get(cell.name) or of.get(grade_id(cell.marker)) for cell in cells]
    loose = [cell for cell, id in zip(cells, asked, strict=True) if id is None and cell.kind == "code"]
    checked = {id: name for cell in loose for id, name in checks(cell.body)}
    for question in this.exercises:
        marked = [cell for cell, id in zip(cells, asked, strict=True) if id == question.id]
        if words := [cell for cell in marked if cell.kind != "code"]:
            found.notes.append(f"{question.id}: its cell is no longer code")
        _answer(found, question, [cell for cell in marked if cell not in words], cells, checked.get(question.id, ""))
    for question in this.texts:
        _text(found, question, [cell for cell, id in zip(cells, asked, strict=True) if id == question.id], cells)
    found.definitions = "\n".join(kept for cell in loose if (kept := cell.kept()))
    found.needs, found.computed, notes = linked(found.answers, found.definitions, this.prelude, loose)
    found.notes += notes


def _affordable(found: Submission, cells: list[Cell], more: int) -> list[Cell]:
    """Without what is too large to be looked at: parsing it would take the time of others."""
    kept, left = [], CODE_LIMIT
    for cell in cells:
        if len(cell.source) > SOURCE_LIMIT:
            found.notes.append(f"a cell of {len(cell.source):,} characters left out")
        elif cell.kind != "code" or len(cell.source) <= left:
            kept.append(cell)
            left -= len(cell.source) if cell.kind == "code" else 0
    if more := more + len(cells) - len(kept):
        found.notes.append(f"{more} cell(s) not read; {CELLS_LIMIT} are, and {CODE_LIMIT:,} characters of code")
    return kept


def _answer(found: Submission, question: Question, marked: list[Cell], cells: list[Cell], checked: str) -> None:
    """The answer to one exercise: its own cell, with the halves that were split off, or one that stands elsewhere.

    `checked` is the name that the learner's page hands to its check, where they have changed it.
    """
    id, function = question.id, question.function
    if not any(cell.answers(function) for cell in cells) and any(cell.answers(checked) for cell in cells):
        found.notes.append(f"{id}: its function is called {checked}, not {function}")
        function = checked
    own = [cell for cell in marked if cell.answers(function)]
    halves = [cell for cell in marked if function not in cell.binds]
    elsewhere = [cell for cell in cells if cell.answers(function)]
    broken = [cell for cell in marked if cell.broken]
    if own:
        if len(own) > 1:
            found.notes.append(f"{id}: answered by more than one cell; the last counts")
        chosen = [cell for cell in marked if cell in halves or cell is own[-1]]
    elif broken:
        chosen = broken[-1:]
    elif elsewhere:
        found.notes.append(f"{id}: found by the name of its function, not by its cell's marks")
        chosen = [cell for cell in cells if cell in halves or cell is elsewhere[-1]]
    else:
        chosen = marked[-1:]
    if not chosen:
        found.notes.append(f"{id}: no cell answers it")
        return
    if len(chosen) > 1:
        found.notes.append(f"{id}: put together from {len(chosen)} cells")
    found.answers[id] = "\n\n".join(cell.python for cell in chosen)[:SOURCE_LIMIT]
    found.functions[id] = function
    defined = [name for cell in chosen for name in cell.defines]
    if not any(function in cell.binds for cell in chosen) and len(defined) == 1:
        found.functions[id] = defined[0]
        found.notes.append(f"{id}: its function is called {defined[0]}, not {function}")


def _text(found: Submission, question: Question, marked: list[Cell], cells: list[Cell]) -> None:
    """The answer to one free-text question: its own cells, or, where an editor has dropped marks, what follows it."""
    words = [cell.source for cell in marked]
    if not marked:
        texts = [cell.source for cell in cells if cell.kind == "markdown"]
        words = [text for above, text in itertools.pairwise(texts) if question.asked and _asks(above, question.asked)]
        words = words[-1:]
        how = "found by its place, not by its cell's mark" if words else "no cell answers it"
        found.notes.append(f"{question.id}: {how}")
    written = list(dict.fromkeys(text for text in words if text.strip() != ANSWER))
    if len(written) > 1:
        found.notes.append(f"{question.id}: put together from {len(written)} cells")
    if words:
        found.texts[question.id] = "\n\n".join(written or words[:1])[:SOURCE_LIMIT]


def _asks(text: str, heading: str) -> bool:
    """Whether a cell of words asks for a text under this heading."""
    return any(line.strip() == heading for line in text.split("\n"))
