"""The rules of a lesson's page that a program can check; taste stays with its author."""

import ast
import re
import statistics
from itertools import groupby
from pathlib import Path

from nbformat import NotebookNode

from course_utils.desk.authoring.build import learner_notebook, output_problems, solved_notebook, stored
from course_utils.desk.lesson import LessonError, checked_exercise, read_source, solved_path, tags, title

WIDTH = 88  # columns of code: what the web page, JupyterLab beside its side bar, and Colab show
LINES = 40  # in a code cell, folded or open
MEDIAN = 12
RUN = 3  # this many code cells without words between them are too many
STUB_LINES = 12
EXERCISES = range(3, 7)
KNOWN_TAGS = {"exercise", "check", "manual", "rubric", "varies", "widget", "figure", "fold", "open"}
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:content|home|mnt|root|tmp|Users|usr|var|work)/|\b[A-Z]:\\Users")


def lint_lesson(path: Path, repo_url: str | None = None) -> list[str]:
    """What is wrong with a lesson's page, one sentence each; empty when nothing is.

    Looks at the source, at the notebooks it generates and, where the solved copy is there, at its stored outputs.
    Lesson 00 needs no exercises and no equations.
    """
    try:
        solved, learner = solved_notebook(path, repo_url), learner_notebook(path, repo_url)
    except LessonError as error:
        return [str(error)]
    cells = read_source(path).cells
    problems = _title(path, cells) + _cells(solved) + _folds(cells) + _tags(cells) + _text(path, cells)
    problems += _learner(learner) + _width(solved, learner)
    problems += _equations(path, cells) + _letters(path, cells) + _exercises(path, cells)
    if executed := stored(solved_path(path)):
        problems += output_problems(executed)
    return problems


def _title(path: Path, cells: list[NotebookNode]) -> list[str]:
    wanted, first = f"# {path.stem[:2]} · ", cells[0].source
    problems = [] if first.startswith(wanted) else [f"the first cell must begin with the title {wanted!r}"]
    words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    solving = sum(map(int, re.findall(r"(?m)^\*(\d+) minutes? · ", words)))  # what the exercises say, one by one
    if not re.search(rf"\d+\sminutes\sto\sread\sand\srun,\s{solving}\sto\ssolve", first):
        problems.append(f'the first cell must say "… minutes to read and run, {solving} to solve"')
    return problems


def _cells(nb: NotebookNode) -> list[str]:
    """Long cells; and runs of code without words, as a reader of the solved copy meets them: folds closed."""
    problems = []
    for cell in nb.cells:
        if cell.cell_type == "code" and (lines := _lines(cell.source)) > LINES:
            problems.append(f"{_named(cell)} has {lines} lines, at most {LINES}")
    cells = [cell for cell in nb.cells if "fold" not in tags(cell)]
    code = [cell for cell in cells if cell.cell_type == "code"]
    for is_code, group in groupby(cells, key=lambda cell: cell.cell_type == "code"):
        run = list(group)
        if is_code and len(run) >= RUN:
            problems.append(f"{len(run)} code cells in a row without words, from {_named(run[0])}")
    median = statistics.median(_lines(cell.source) for cell in code) if code else 0
    if median > MEDIAN:
        problems.append(f"the median code cell has {median:g} lines, at most {MEDIAN}")
    return problems


def _folds(cells: list[NotebookNode]) -> list[str]:
    """Imports and drawing that stand open, mathematics that does not, folds that do not say what is in them."""
    problems, code = [], [cell for cell in cells if cell.cell_type == "code"]
    for cell in code:
        mathematics = cell.source.startswith("# Eq")
        if "fold" in tags(cell):
            if mathematics or tags(cell) & {"exercise", "check", "manual", "open"}:
                problems.append(f"{_named(cell)} is folded: equations, exercises and checks stand open")
            if not title(cell):
                problems.append(f"{_named(cell)} is folded and does not begin with `# @title` and what it does")
        elif title(cell):
            problems.append(f'{_named(cell)} has a `# @title` and no tag "fold"')
        elif tags(cell) & {"figure", "widget"} and not mathematics and "open" not in tags(cell):
            problems.append(f'{_named(cell)} draws: tag it "fold", or "open" if its code is to be read')
    if code and "fold" not in tags(code[0]):
        problems.append(f'{_named(code[0])} imports: tag it "fold"')
    return problems


def _width(*copies: NotebookNode) -> list[str]:
    """Lines of code that some box would cut. An address cannot be broken."""
    code = [cell for nb in copies for cell in nb.cells if cell.cell_type == "code"]
    lines = dict.fromkeys(line for cell in code for line in cell.source.split("\n"))
    wide = [line for line in lines if len(line) > WIDTH and "://" not in line]
    return [f"{len(line)} columns, at most {WIDTH}: {line.strip()[:60]!r}" for line in wide]


def _tags(cells: list[NotebookNode]) -> list[str]:
    used = set().union(*map(tags, cells))
    problems = [f"unknown tag {tag!r}; there are: {', '.join(sorted(KNOWN_TAGS))}" for tag in sorted(used - KNOWN_TAGS)]
    problems += [
        f"no cell is tagged {tag!r}: a lesson has at least one" for tag in ("widget", "figure") if tag not in used
    ]
    return problems


def _text(path: Path, cells: list[NotebookNode]) -> list[str]:
    problems = [f"{_named(cell)} names an absolute path" for cell in cells if ABSOLUTE_PATH.search(cell.source)]
    words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    problems += [f"an image without alternative text: {match[0]}" for match in re.finditer(r"!\[\s*\]\([^)]*\)", words)]
    if not _is_start(path) and not re.search(r"(?im)^#+ .*what usually goes wrong", words):
        problems.append('no section is headed "What usually goes wrong"')
    return problems


def _equations(path: Path, cells: list[NotebookNode]) -> list[str]:
    words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    tagged = re.findall(r"\\tag\{([^}]*)\}", words)
    number = int(path.stem[:2])
    problems = [
        f"equation \\tag{{{tag}}} is not numbered {number}.m"
        for tag in tagged
        if not re.fullmatch(rf"{number}\.\d+", tag)
    ]
    problems += [f"equation ({tag}) has two \\tags" for tag in sorted(set(tagged)) if tagged.count(tag) > 1]
    quoted = set()
    for cell in cells:
        first = cell.source.split("\n")[0]
        if cell.cell_type == "code" and first.startswith("# Eq"):
            mentioned = re.findall(r"\((\d+\.\d+)\)", first)
            quoted.update(mentioned)
            problems += [f"{first!r} names no \\tag of this lesson" for tag in mentioned or [None] if tag not in tagged]
    if not _is_start(path):
        problems += [] if tagged else ["no equation has a \\tag{n.m}"]
        problems += [] if quoted else ["no code cell begins with # Eq. (n.m)"]
    return problems


def _letters(path: Path, cells: list[NotebookNode]) -> list[str]:
    """Letters with several meanings that lesson 00 explains, but not for this lesson."""
    start = next(path.parent.glob("00_*.py"), None)
    used = _formulas(cells)
    known = declared_letters(read_source(start).cells if start and start != path else cells)
    return [
        f"lesson 00 does not say what ${letter}$ means in lesson {path.stem[:2]}"
        for letter, meant in known.items()
        if int(path.stem[:2]) not in meant and re.search(rf"(?<![A-Za-z\\]){re.escape(letter)}(?![A-Za-z])", used)
    ]


def declared_letters(cells: list[NotebookNode]) -> dict[str, set[int]]:
    """Each letter of lesson 00's table of letters with several meanings, and the lessons that its row names."""
    words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    _, _, table = words.partition("\n### Letters with several meanings\n")
    known: dict[str, set[int]] = {}
    for letter, meanings in re.findall(r"(?m)^\| \$(\\?[A-Za-z]+)\$ \| (.*) \|$", table.partition("\n#")[0]):
        named = re.findall(r"\(((?:\d\d(?:, | to )?)+)\)", meanings)
        known[letter] = {n for spans in named for span in spans.split(", ") for n in _span(span)}
    return known


def _span(text: str) -> range:
    """ "03" or "10 to 13" as lessons."""
    first, _, last = text.partition(" to ")
    return range(int(first), int(last or first) + 1)


def _formulas(cells: list[NotebookNode]) -> str:
    """All formulas of a page, without the words in them; code and the table of letters itself are none."""
    words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    words = re.sub(r"(?s)```.*?```|`[^`\n]*`|\n### Letters with several meanings\n.*?(?=\n#)", " ", words)
    found = re.findall(r"(?s)\$\$(.+?)\$\$|\$([^$]+)\$", words)
    named = r"\\(?:text|mathrm|operatorname|begin|end|tag)\*?\{[^}]*\}"
    return "\n".join(re.sub(named, " ", display or within) for display, within in found)


def _exercises(path: Path, cells: list[NotebookNode]) -> list[str]:
    names = [cell.metadata.exercise for cell in cells if "exercise" in tags(cell)]
    problems = [f"two exercises are called {name}" for name in sorted(set(names)) if names.count(name) > 1]
    if not _is_start(path) and len(names) not in EXERCISES:
        problems.append(f"{len(names)} exercises, wanted {EXERCISES[0]} to {EXERCISES[-1]}")
    due = None  # the exercise whose check comes next
    hinted = False
    for cell in cells:
        if "exercise" in tags(cell):
            if due:
                problems.append(f"{due} has no check after it")
            due, hinted = cell.metadata.exercise, False
            if not re.fullmatch(rf"{path.stem[:2]}\.[a-z][a-z0-9_]*", due):
                problems.append(f"exercise {due!r} should be called like {path.stem[:2]}.q_step")
            if cell.source.split("\n")[0] != f"# Exercise {due}":
                problems.append(f"{due}: the first line of the cell must be `# Exercise {due}`")
        elif "check" in tags(cell):
            checked = checked_exercise(cell.source)
            if checked != due:
                problems.append(f"check({checked!r}, …) follows " + (f"exercise {due}" if due else "no exercise"))
            elif not hinted:
                problems.append(f"{due} has no hint: a cell with <details><summary>Hint</summary> before its check")
            due = None
        elif due and cell.cell_type == "code":
            problems.append(f"{_named(cell)} stands between exercise {due} and its check")
        hinted |= "<summary>Hint" in cell.source
    if due:
        problems.append(f"{due} has no check after it")
    return problems


def _learner(nb: NotebookNode) -> list[str]:
    """Stubs that are too long, or that would stop the page."""
    problems = []
    for cell in nb.cells:
        if "exercise" in tags(cell):
            name, lines = cell.metadata.exercise, _lines(cell.source) - 1  # the marker comment is no part of the stub
            if lines > STUB_LINES:
                problems.append(f"{name}: the stub has {lines} lines, at most {STUB_LINES}")
            try:
                if _raises_at_once(ast.parse(cell.source)):
                    problems.append(
                        f"{name}: the solution must be inside a function, else the blank stub stops the page"
                    )
            except SyntaxError as error:
                problems.append(f"{name}: the blank stub is not valid Python: {error}")
    return problems


def _raises_at_once(node: ast.AST) -> bool:
    """Whether running this code raises: it has a `raise` outside of any function."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    return isinstance(node, ast.Raise) or any(map(_raises_at_once, ast.iter_child_nodes(node)))


def _is_start(path: Path) -> bool:
    return path.stem.startswith("00")


def _lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


def _named(cell: NotebookNode) -> str:
    return f"the cell {cell.source.splitlines()[0][:60]!r}" if cell.source else "an empty cell"
