"""Every lesson: its page keeps the rules, its notebooks are what its source generates, and the learner's copy runs.

`make test` executes each page once: the solved copy, under nbval (`tests/replay.py`). The learner's copy then needs no
execution of its own, by three steps that are shown here for every lesson:

1. Its code is the solved copy's, but for what stands inside the functions of the exercises.
2. Those functions go into their own checks, and nothing else on the page touches them.
3. Given the blank ones, each check says "not yet".

So all other cells do in both copies the same. Lesson 01 is executed all the same, and the others once a week.
"""

import ast
import os
import subprocess
import symtable
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

pytest.importorskip("nbgrader", reason="the lessons are built where nbgrader can be installed: Python 3.11 and newer")

from course_utils.desk import lesson
from course_utils.desk.authoring import build
from course_utils.desk.authoring.lint import lint_lesson
from course_utils.desk.grading.sandbox import is_there

LESSONS = lesson.lessons()
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@each_lesson
def test_page_keeps_the_rules(path: Path) -> None:
    assert lint_lesson(path) == []


@each_lesson
def test_notebooks_are_in_step_with_their_source(path: Path) -> None:
    assert build.out_of_step(path) == []


def test_every_notebook_has_a_source() -> None:
    generated = {path(source) for source in LESSONS for path in (lesson.learner_path, lesson.solved_path)}
    folder = lesson.ROOT / "notebooks"
    assert {*folder.glob("*.ipynb"), *folder.glob("solutions/*.ipynb")} <= generated


# ---------------------------------------------------------------- the learner's copy, without executing it

Cell = nbformat.NotebookNode
DEFINES = ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
BINDS = DEFINES | ast.Assign | ast.AnnAssign
SEES_ALL = {"globals", "locals", "vars", "eval", "exec", "In", "Out"}  # ways round a name
AT_ONCE = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # scopes whose code runs where it stands


def code_cells(path: Path) -> list[Cell]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def statements(source: str) -> list[ast.stmt]:
    """A cell's statements; IPython's `!` and `%` become calls."""
    return ast.parse(TransformerManager().transform_cell(source)).body


def outside_functions(source: str) -> str:
    """A cell without what stands inside its functions."""
    tree = ast.Module(statements(source), [])
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def uses(table: symtable.SymbolTable, later: bool = False) -> Iterator[tuple[str, bool]]:
    """The page's names that a statement reads, each with whether a function reads it, so perhaps later."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
            yield symbol.get_name(), later
    for inside in table.get_children():
        deferred = inside.get_type() == "function" and inside.get_name() not in AT_ONCE
        yield from uses(inside, later or deferred)


def leaks(cells: list[Cell]) -> list[str]:
    """Where a page may run what a learner writes, other than in the exercise's own check."""
    problems, functions, blank = [], set(), {}  # names that functions read; of whose exercise a name is now
    for cell in cells:
        kinds, exercise = lesson.tags(cell), cell.metadata.get("exercise")
        for statement in statements(cell.source):
            table = symtable.symtable(ast.unparse(statement), "cell", "exec")
            for name, later in uses(table):
                mine = kinds & {"exercise", "check"} and blank.get(name, exercise) == exercise
                if (name in blank and not mine) or name in SEES_ALL:
                    problems.append(f"{name} is used in: {ast.unparse(statement)}")
                if later and "exercise" not in kinds:
                    functions.add(name)
            bound = [
                symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()
            ]
            if "exercise" in kinds:
                if not isinstance(statement, DEFINES):
                    problems.append(f"{exercise} does more than define: {ast.unparse(statement)}")
                problems += [f"{name} is used in an earlier function" for name in bound if name in functions]
                blank |= dict.fromkeys(bound, exercise)
            elif isinstance(statement, BINDS):
                blank = {name: owner for name, owner in blank.items() if name not in bound}
    return problems


@each_lesson
def test_the_learners_copy_is_the_solved_one_but_for_the_inside_of_exercises(path: Path) -> None:
    both = code_cells(lesson.learner_path(path)), code_cells(lesson.solved_path(path))
    for blank, solved in zip(*both, strict=True):
        if "exercise" in lesson.tags(solved):
            assert outside_functions(blank.source) == outside_functions(solved.source)
            assert blank.source != solved.source
        else:
            assert blank.source == solved.source


@each_lesson
def test_what_a_learner_writes_goes_into_its_check_and_nowhere_else(path: Path) -> None:
    assert leaks(code_cells(lesson.learner_path(path))) == []


@each_lesson
def test_every_check_of_a_blank_exercise_says_not_yet(path: Path) -> None:
    page: dict[str, object] = {"__name__": "__main__"}
    checked = 0
    for cell in code_cells(lesson.learner_path(path)):
        kinds = lesson.tags(cell)
        for statement in statements(cell.source):
            if "check" in kinds:
                verdict = eval(ast.unparse(statement), page)
                assert "not yet" in str(verdict), cell.source
                checked += 1
            elif "exercise" in kinds or isinstance(statement, ast.Import | ast.ImportFrom):
                exec(ast.unparse(statement), page)
    assert checked


PAGE = {  # a cell, and its tags
    "import": "from course_utils.forward import q_step",
    "exercise": "def q_step(x):\n    raise NotImplementedError",
    "check": 'check("01.q_step", q_step)',
    "use": "y = q_step(1)",
}


def made_up(*sources: str) -> list[Cell]:
    cells = []
    for source in sources:
        kind = next((key for key in ("exercise", "check") if PAGE.get(key) == source or source.startswith(key)), None)
        about = {"tags": [kind], "exercise": "01.q_step"} if kind else {}
        cells.append(nbformat.v4.new_code_cell(source.removeprefix("exercise:"), metadata=about))
    return cells


EXERCISE, CHECK, USE, IMPORT = PAGE["exercise"], PAGE["check"], PAGE["use"], PAGE["import"]


@pytest.mark.parametrize(
    "cells",
    [
        (USE, EXERCISE, CHECK, IMPORT, USE),
        (EXERCISE, CHECK, IMPORT + "\n" + USE),
        (EXERCISE, CHECK, "def f(q_step):\n    return q_step"),
        (EXERCISE, CHECK, "f(q_step=3)"),
    ],
)
def test_a_page_that_goes_on_with_its_own_function_is_fine(cells: tuple[str, ...]) -> None:
    assert leaks(made_up(*cells)) == []


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ((IMPORT, EXERCISE, CHECK, USE), "y = q_step(1)"),
        ((EXERCISE, CHECK, USE, IMPORT), "y = q_step(1)"),
        ((EXERCISE, CHECK, "if x:\n    from course_utils.forward import q_step\nz = q_step"), "z = q_step"),
        ((EXERCISE, CHECK, "q_step = wrapped(q_step)"), "wrapped(q_step)"),
        ((EXERCISE, CHECK, "f = [q_step(x) for x in y]"), "q_step(x) for"),
        ((EXERCISE, CHECK, "def f(x):\n    return q_step(x)"), "def f"),
        (("f = lambda x: q_step(x)", EXERCISE, CHECK, "f(1)"), "earlier function"),
        ((EXERCISE, CHECK, "globals()['q_' + 'step'](1)"), "globals"),
        (("exercise:" + EXERCISE + "\nq_step(1)",), "more than define"),
    ],
)
def test_a_page_that_runs_what_a_learner_writes_is_caught(cells: tuple[str, ...], said: str) -> None:
    assert any(said in problem for problem in leaks(made_up(*cells)))


# ---------------------------------------------------------------- the learner's copy, executed

ROOM = Path(__file__).with_name("alone")
RUN = """
import sys
from pathlib import Path
import nbformat
from course_utils.desk.authoring import build

page = build.execute(nbformat.read(sys.argv[1], as_version=4), Path.home(), timeout=3600)
checks = [cell for cell in page.cells if "check" in build.tags(cell)]
assert checks
for cell in checks:
    assert "not yet" in str(cell.outputs), cell.source
"""


LOOK = """
import os, socket, sys
from pathlib import Path

assert [name for _, name in socket.if_nameindex()] == ["lo"], "there is a network"
assert os.environ["HOME"] == os.environ["TMPDIR"]
assert not list(Path.home().iterdir())
(Path.home() / "mine").touch()
for folder in map(Path, ("/", "/tmp", *sys.argv[1:])):
    try:
        (folder / "tests_were_here").touch()
    except OSError:
        continue
    raise AssertionError(f"{folder} can be written")
"""


@pytest.mark.skipif(not is_there(), reason="no bubblewrap, or it may not make namespaces")
def test_the_room_in_which_pages_run_has_no_network_and_one_empty_folder() -> None:
    command = [ROOM, sys.executable, "-c", LOOK, lesson.ROOT, lesson.ROOT / "notebooks"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


FOUND = """
from pathlib import Path

assert not (Path.home() / "left").exists(), "another page was here"
(Path.home() / "left").touch()
"""


@pytest.mark.slow
def test_solved_copies_are_replayed_the_last_lesson_first_and_each_in_a_home_of_its_own(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell(FOUND, execution_count=1)
    for name in ("01_a", "02_b"):
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "-rA", "--nbval", "--nbval-current-env", "-p", "replay"]
    there = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run([*command, "."], cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.index("02_b.ipynb") < done.stdout.index("01_a.ipynb")


@pytest.mark.slow(40)
@pytest.mark.timeout(7200)
@pytest.mark.skipif(os.name != "posix", reason="tests/alone is a script for a shell")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.stem.startswith("01") else pytest.mark.weekly) for path in LESSONS[::-1]],
    ids=lambda path: path.stem,
)
def test_learners_copy_runs_on_day_one_with_every_exercise_not_yet(path: Path) -> None:
    """Without a network, its home is empty, and it runs there."""
    command = [ROOM, sys.executable, "-c", RUN, lesson.learner_path(path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=lesson.ROOT)
    assert run.returncode == 0, run.stderr[-3000:]
