"""What becomes of the results: tables, feedback for each learner, Gradescope's JSON, nbgrader's gradebook.

All of it is written from the stored results and the manual points in the gradebook, so it can be written again at any
time: after a crash, or after points were given by hand in formgrader.
"""

import contextlib
import copy
import csv
import io
import itertools
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from nbformat import NotebookNode

from course_utils.desk.grading.grade import CELL_S, EXERCISE_S, Result
from course_utils.desk.grading.intake import Assignment
from course_utils.desk.grading.release import release
from course_utils.desk.grading.words import in_table, quoted
from course_utils.desk.lesson import ANSWER, grade_id
from course_utils.exercises.answer import TIME_LIMIT_S
from course_utils.files import DataError, write_atomically

GRADEBOOK = "gradebook.db"
Manual = dict[tuple[str, str, str], tuple[float | None, str]]
"""(student, lesson, question) -> points given by hand, None as long as there are none, and a comment."""

PAGE = jinja2.Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ this.slug }}: {{ result.student }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em }
section { border-left: 5px solid #8a8a8a; padding: .2em .9em; margin: 1em 0 }
.right { border-color: #2a9d6f } .wrong { border-color: #d9722e }
pre { white-space: pre-wrap; background: #8881; padding: .6em }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee } }
</style>
<h1>{{ this.slug }}</h1>
<p>{{ result.student }}: <b>{{ "%g" % total }} of {{ "%g" % most }} points</b>{% if open %},
{{ open }} answer(s) still to be read{% endif %}</p>
{% if result.unread %}<p><b>Your hand-in could not be read:</b> {{ result.unread }}. Hand it in again.</p>{% endif %}
{% for graded in result.exercises %}
<section class="{{ graded.status.replace(' ', '-') }}"><h2>{{ graded.id }}: {{ graded.status }},
{{ "%g" % graded.points }} of {{ "%g" % graded.of }}</h2>
{% if graded.message %}<p>{{ graded.message }}.</p>{% endif %}
{% if graded.hint %}<p><i>Likely reason:</i> {{ graded.hint }}.</p>{% endif %}
{% if graded.id in result.answers %}<details><summary>What you handed in</summary>
<pre>{{ result.answers[graded.id] }}</pre></details>{% endif %}</section>
{% endfor %}
{% for question in this.texts %}{% set points, comment = manual.get(question.id, (none, "")) %}
<section><h2>{{ question.id }}: {% if points is none %}not read yet{% else %}{{ "%g" % points }}{% endif %}
of {{ "%g" % question.points }}</h2>
{% if comment %}<p>{{ comment }}</p>{% endif %}
<details><summary>What you wrote</summary><pre>{{ result.texts.get(question.id, "nothing") }}</pre></details></section>
{% endfor %}
{% if result.notes %}<h2>Noticed when it came in</h2><ul>{% for note in result.notes %}<li>{{ note }}</li>{% endfor %}
</ul>{% endif %}
<p><small>A call of your function may take {{ "%g" % limits[0] }} seconds, a cell {{ "%g" % limits[1] }}, all calls that
check one exercise {{ "%g" % limits[2] }}.</small></p></html>
""")


def write_reports(
    folder: Path, assignments: dict[str, Assignment], log: Sequence[str] | None = None, about: str = ""
) -> Path:
    """Write everything that follows from the stored results; the path of grades.csv.

    Args:
        folder: where `grade_class` stored its results.
        assignments: of the lessons that are there.
        log: what intake had to say, for intake.csv, which stays as it is if this is None.
        about: the lessons that were looked for; what intake.csv says about others stays.
    """
    results = [result for result in _stored(folder) if result.lesson in assignments]
    write_gradebook(folder, results, assignments)
    manual = read_manual(folder, assignments)
    _write(folder / "grades.csv", grades_csv(results, assignments, manual))
    if log is not None:
        rows = [*_earlier_intakes(folder / "intake.csv"), *([about, in_table(line)] for line in log)]
        _write(folder / "intake.csv", _csv([("lessons", "file and what was odd"), *dict.fromkeys(map(tuple, rows))]))
    for result in results:
        mine = _of(result, manual)
        where, this = folder / "feedback" / result.student / result.lesson, assignments[result.lesson]
        _write(where / f"{this.slug}.html", feedback_html(result, this, mine))
        _write(where / "results.json", json.dumps(gradescope(result, this, mine), indent=1))
    return folder / "grades.csv"


def _stored(folder: Path) -> Iterator[Result]:
    """All results that are whole; what is damaged `grade_class` makes again."""
    for path in sorted((folder / "results").glob("*/*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            yield Result.from_json(path.read_text(encoding="utf-8"))


def _earlier_intakes(path: Path) -> list[list[str]]:
    """What earlier hand-ins have left in the table, of this week and of others."""
    if not path.exists():
        return []
    csv.field_size_limit(1 << 30)  # a table that an earlier version wrote may have cells of any length
    rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8", errors="replace")))
    return [row for row in itertools.islice(rows, 1, None) if len(row) == 2]


def grades_csv(results: Iterable[Result], assignments: dict[str, Assignment], manual: Manual) -> str:
    """A row for each learner and lesson: points of each exercise, of each text, their sum, and what was odd."""
    columns = [question.id for this in assignments.values() for question in (*this.exercises, *this.texts)]
    rows: list[Sequence[object]] = [("student", "lesson", *columns, "points", "of", "to be read", "flags")]
    for result in results:
        this = assignments[result.lesson]
        points: dict[str, object] = {graded.id: f"{graded.points:g}" for graded in result.exercises}
        mine = _of(result, manual)
        points |= {id: f"{value:g}" for id, (value, _) in mine.items() if value is not None}
        total, unread = _total(result, this, mine)
        rows.append(
            (
                result.student,
                result.lesson,
                *(points.get(column, "") for column in columns),
                f"{total:g}",
                f"{most(this):g}",
                unread,
                "; ".join(result.flags + ([] if result.sandboxed else ["graded without a sandbox"])),
            )
        )
    return _csv(rows)


def _of(result: Result, manual: Manual) -> dict[str, tuple[float | None, str]]:
    """The points and comments given by hand to one submission, by question."""
    return {key[2]: value for key, value in manual.items() if key[:2] == (result.student, result.lesson)}


def _total(result: Result, this: Assignment, manual: dict[str, tuple[float | None, str]]) -> tuple[float, int]:
    """All points of a submission so far, and how many of its texts nobody has read yet."""
    given = [manual.get(question.id, (None, ""))[0] for question in this.texts]
    return result.points + sum(value or 0 for value in given), given.count(None)


def most(this: Assignment) -> float:
    """Points that a lesson can earn."""
    return sum(question.points for question in (*this.exercises, *this.texts))


def feedback_html(result: Result, this: Assignment, manual: dict[str, tuple[float | None, str]]) -> str:
    """A learner's page. Everything that came from them is escaped; nothing that was expected is told."""
    total, unread = _total(result, this, manual)
    limits = TIME_LIMIT_S, CELL_S, EXERCISE_S
    return PAGE.render(
        result=result, this=this, manual=manual, total=total, most=most(this), open=unread, limits=limits
    )


def gradescope(result: Result, this: Assignment, manual: dict[str, tuple[float | None, str]]) -> dict:
    """The autograder's `results.json` of Gradescope."""
    tests: list[dict[str, object]] = [
        {
            "name": graded.id,
            "score": graded.points,
            "max_score": graded.of,
            "status": "passed" if graded.status == "right" else "failed",
            "output": ". ".join(part for part in (graded.status, graded.message, graded.hint) if part),
            "output_format": "text",
        }
        for graded in result.exercises
    ]
    for question in this.texts:
        points, comment = manual.get(question.id, (None, ""))
        if points is not None:
            read = {"score": points, "max_score": question.points, "output": comment, "output_format": "text"}
            tests.append({"name": question.id, **read})
    return {"execution_time": round(result.seconds), "tests": tests}


# ---------------------------------------------------------------- nbgrader


def write_gradebook(folder: Path, results: Sequence[Result], assignments: dict[str, Assignment]) -> None:
    """Put the results into nbgrader's database and folders, so that formgrader can show them and take manual points."""
    released = {path.parent.name: path for path in release(folder, list(assignments))}
    with _gradebook(folder) as book:
        for lesson, this in assignments.items():
            mine = [result for result in results if result.lesson == lesson]
            nb = nbformat.read(released[lesson], as_version=4)
            if mine:
                _register(book, this, nb)
            for result in mine:
                scores = {grade_id(graded.id, check=True): graded.points for graded in result.exercises}
                texts = {grade_id(question.id) for question in this.texts}
                book.update_or_create_student(result.student)
                submission = book.update_or_create_submission(lesson, result.student)
                path = folder / "autograded" / result.student / lesson / f"{this.slug}.ipynb"
                filled, before = _filled(nb, result), _texts(path)
                for notebook in submission.notebooks:
                    for grade in notebook.grades:
                        grade.auto_score = scores.get(grade.name, 0.0 if grade.name not in texts else None)
                        if grade.name in texts:
                            given = grade.manual_score is not None
                            pending = given and grade.needs_manual_grade  # another text came before, not read yet
                            other = given and before.get(grade.name) not in _shapes(filled, result, grade.name)
                            grade.needs_manual_grade = not given or pending or other
                book.db.commit()
                _write(path, nbformat.writes(filled) + "\n")


def _register(book: Any, this: Assignment, nb: NotebookNode) -> None:
    """The assignment's structure: which cells are graded, which are answers."""
    book.update_or_create_assignment(this.lesson)
    book.update_or_create_notebook(this.slug, this.lesson)
    for cell in nb.cells:
        if not (mark := cell.metadata.get("nbgrader")):
            continue
        name = mark["grade_id"]
        book.update_or_create_source_cell(
            name, this.slug, this.lesson, source=cell.source, cell_type=cell.cell_type, locked=mark["locked"]
        )
        if mark["grade"]:
            book.update_or_create_grade_cell(
                name, this.slug, this.lesson, max_score=mark["points"], cell_type=cell.cell_type
            )
        if mark["solution"]:
            book.update_or_create_solution_cell(name, this.slug, this.lesson)


def _sources(nb: NotebookNode) -> dict[str, str]:
    """What stands in each of nbgrader's cells."""
    return {cell.metadata.get("nbgrader", {}).get("grade_id", ""): cell.source for cell in nb.cells}


def _shapes(filled: NotebookNode, result: Result, name: str) -> tuple[str | None, ...]:
    """How a text may stand in an autograded notebook: as it does now, or bare, as earlier versions put it there."""
    return _sources(filled).get(name), next((text for id, text in result.texts.items() if grade_id(id) == name), None)


def _texts(path: Path) -> dict[str, str]:
    """What stood in a learner's autograded notebook the last time."""
    return _sources(nbformat.read(path, as_version=4)) if path.exists() else {}


def _filled(nb: NotebookNode, result: Result) -> NotebookNode:
    """The handed-out notebook with this learner's answers in their places, and each verdict below its check.

    formgrader shows it with the rights of whoever reads it, so texts are quoted: as Markdown they could be scripts.
    """
    nb = copy.deepcopy(nb)
    answers = {grade_id(id): text for id, text in result.answers.items()}
    answers |= {grade_id(id): quoted(text) for id, text in result.texts.items() if text.strip() != ANSWER}
    verdicts = {grade_id(graded.id, check=True): graded for graded in result.exercises}
    for cell in nb.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        cell.source = answers.get(name, cell.source)
        if graded := verdicts.get(name):
            text = ". ".join(part for part in (graded.status, graded.message, graded.hint, graded.flag) if part)
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text + "\n")]
    return nb


def read_manual(folder: Path, assignments: dict[str, Assignment]) -> Manual:
    """Points and comments given by hand in formgrader; nothing if there is no gradebook yet.

    Points for a text that has been handed in anew since then count once it is read again.
    """
    from nbgrader.api import SubmittedAssignment

    found: Manual = {}
    if not (folder / GRADEBOOK).exists():
        return found
    with _gradebook(folder) as book:
        for submission in book.db.query(SubmittedAssignment).all():
            lesson, student = submission.assignment.name, submission.student.id
            if lesson not in assignments:
                continue
            names = {grade_id(question.id): question.id for question in assignments[lesson].texts}
            for notebook in submission.notebooks:
                comments = {comment.name: comment.comment or "" for comment in notebook.comments}
                for grade in notebook.grades:
                    if grade.name in names:
                        points = None if grade.needs_manual_grade else grade.manual_score
                        found[student, lesson, names[grade.name]] = points, comments.get(grade.name, "")
    return found


@contextlib.contextmanager
def _gradebook(folder: Path) -> Iterator[Any]:
    """nbgrader's database, made if it is not there; for that nbgrader calls `alembic`, which is beside Python.

    Raises DataError if it cannot be read or written: the disk is full, or another program holds it.
    """
    import sqlalchemy
    from nbgrader.api import Gradebook, InvalidEntry

    # As a URL object: in one that is written out, % and ? of a folder's name would mean something.
    address: Any = sqlalchemy.URL.create("sqlite", database=str((folder / GRADEBOOK).resolve()))
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    try:
        with warnings.catch_warnings(), Gradebook(address) as book:
            warnings.filterwarnings("ignore", message="Object of type <Submitted")  # nbgrader's own habit
            yield book
    except (sqlalchemy.exc.DBAPIError, InvalidEntry) as error:  # nbgrader wraps some of the database's
        said = str(error).split("\n")[0]
        raise DataError(f"{folder / GRADEBOOK}: cannot be read or written ({said}); mend that and run again") from error
    finally:
        os.environ["PATH"] = path


# ---------------------------------------------------------------- files


def _csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([in_table(cell) for cell in row] for row in rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode("utf-8", "replace"))
