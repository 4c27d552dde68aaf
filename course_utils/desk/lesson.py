"""The format of a lesson: where its source stands, what its cells are, how a learner's copy of it looks.

Authoring builds notebooks by it, grading reads answers by it; neither needs the other for that. CONTRIBUTING.md shows
the tags that a cell can carry.
"""

import ast
from pathlib import Path

from nbformat import NotebookNode

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
STUB = 'raise NotImplementedError("your turn")'
ANSWER = "*Your answer here.*"
BEGIN, END = "BEGIN SOLUTION", "END SOLUTION"  # nbgrader's own marks
TITLE = "# @title "  # the first line of a folded cell; Colab shows what follows, JupyterLab the line


class LessonError(Exception):
    """A lesson cannot be built; the message says which cell, and why."""


# ---------------------------------------------------------------- files


def lessons(names: list[str] | None = None, root: Path = ROOT) -> list[Path]:
    """The sources of all lessons in order, or of those named: by number, slug, file name or the start of one."""
    found = sorted((root / "notebooks" / "src").glob("[0-9][0-9]_*.py"))
    if not names:
        return found
    chosen = []
    for name in names:
        stem = Path(name).stem
        if not (matching := [path for path in found if path.stem.startswith(stem) or path.stem[3:] == stem]):
            raise LessonError(f"no lesson {name!r}; there are: {', '.join(path.stem for path in found) or 'none yet'}")
        chosen += matching
    return sorted(set(chosen))


def learner_path(source_path: Path) -> Path:
    """notebooks/src/NN_slug.py -> notebooks/NN_slug.ipynb"""
    return source_path.parents[1] / f"{source_path.stem}.ipynb"


def solved_path(source_path: Path) -> Path:
    """notebooks/src/NN_slug.py -> notebooks/solutions/NN_slug.ipynb"""
    return source_path.parents[1] / "solutions" / f"{source_path.stem}.ipynb"


def repository() -> str:
    """The course's address, as pyproject.toml names it; while its host ends in .invalid, which nobody can own, none."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


# ---------------------------------------------------------------- cells


def read_source(source_path: Path) -> NotebookNode:
    """The cells of a lesson's source as jupytext reads them, without jupytext's notes on blank lines."""
    import jupytext  # of the extra [grade]: who only learns has none

    nb = jupytext.read(source_path, fmt="py:percent")
    for cell in nb.cells:
        for key in [key for key in cell.metadata if key.startswith("lines_to_")]:
            del cell.metadata[key]
    return nb


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def title(cell: NotebookNode) -> str | None:
    """What a folded cell says it does: its first line, after `# @title`. None for a cell without one."""
    first = cell.source.split("\n", 1)[0]
    return first.removeprefix(TITLE).strip() if first.startswith(TITLE) else None


def checked_exercise(source: str) -> str | None:
    """The exercise that a check cell checks: the first argument of its call of `check`, or None."""
    checked = check_arguments(source)
    return checked[0] if checked else None


def check_arguments(source: str) -> tuple[str, ...] | None:
    """What a check cell hands to `check`, as text: the exercise, and its function's name. None if it calls none."""
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return None
    for call in calls:
        match call:
            case ast.Call(func=ast.Name(id="check"), args=[ast.Constant(value=str(exercise)), *others]):
                return exercise, *map(ast.unparse, others)
    return None


def grade_id(name: str, check: bool = False) -> str:
    """nbgrader's name for the cell of an exercise or a question, or of an exercise's check: it allows no dots."""
    return name.replace(".", "-") + ("-check" if check else "")


def without_markers(source: str) -> str:
    """A cell without the lines that mark where its solution begins and ends."""
    return "\n".join(line for line in source.split("\n") if not any(mark in line for mark in (BEGIN, END)))
