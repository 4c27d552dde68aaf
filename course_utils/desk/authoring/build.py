"""Build the two notebooks of a lesson from its one source, and tell when they have fallen out of step with it.

    notebooks/src/01_forward_process.py           edited: jupytext py:percent
    notebooks/01_forward_process.ipynb            the learner's copy: blank exercises, no outputs
    notebooks/solutions/01_forward_process.ipynb  the solved copy, executed, with its outputs

jupytext reads the source, nbgrader's own preprocessors blank the exercises, nbclient executes. CONTRIBUTING.md shows
the tags a cell can carry.
"""

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import PIL.Image
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import ClearOutput, ClearSolutions, ComputeChecksums, LockCells

from course_utils.desk.lesson import (
    ANSWER,
    BEGIN,
    END,
    STUB,
    LessonError,
    checked_exercise,
    grade_id,
    learner_path,
    read_source,
    repository,
    solved_path,
    tags,
    without_markers,
)
from course_utils.desk.work import FOLDER, is_blank, keep
from course_utils.files import write_atomically
from course_utils.runtime import VARIES

GENERATOR = 2  # raise it when this file changes what it writes
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_STANDS_IN = "A live widget: run this cell to use it."
IMAGE_LIMIT = 1_000_000  # bytes of images in one notebook; beyond that, git and GitHub's viewer suffer

# A few lines that test_authoring runs for real, where there is no course yet. The address stands alone, since a pip
# that is not new refuses a `name @` before some of them.
SETUP = """\
# @title Setup (on Colab: File ▸ Save a copy in Drive keeps what you write)
import os
import sys
from importlib import metadata, util
from pathlib import Path

near = Path.cwd().parents[:2]
sys.path += [str(folder) for folder in near if (folder / "course_utils").is_dir()]
if not util.find_spec("course_utils"):  # install it; keep the PyTorch and NumPy here
{address}
    keep = [p for p in ("torch", "torchvision", "numpy") if util.find_spec(p)]
    keep = " ".join(f"{{p}}=={{metadata.version(p)}}" for p in keep)
    !"{{sys.executable}}" -m pip install -q {{keep}} "git+{{repo}}"
from course_utils.runtime import setup

lesson = setup("{lesson}", seed=0)"""

ADDRESS = """\
    repo = "{repo}"
    repo = os.environ.get("COURSE_REPO", repo)"""
NO_ADDRESS = """\
    repo = os.environ.get("COURSE_REPO")
    assert repo, "This copy has no address; make lessons REPO=https://… gives it one\""""


# ---------------------------------------------------------------- from source to notebooks


def learner_notebook(source_path: Path, repo_url: str | None = None) -> NotebookNode:
    """The learner's copy: exercises blank, checks locked, each check followed by its folded solution, no outputs."""
    nb = _notebook(source_path, repo_url, folder="notebooks")
    nb.cells = [cell for cell in nb.cells if "rubric" not in tags(cell)]
    solutions = {cell.metadata.exercise: without_markers(cell.source) for cell in nb.cells if "exercise" in tags(cell)}
    clear = ClearSolutions(code_stub={"python": STUB}, text_stub=ANSWER)
    clear.begin_solution_delimeter, clear.end_solution_delimeter = BEGIN, END
    try:
        for preprocessor in (clear, LockCells(), ComputeChecksums(), ClearOutput()):
            nb, _ = preprocessor.preprocess(nb, {})
    except RuntimeError as error:
        raise LessonError(f"{source_path.name}: {error}") from error
    cells = []
    for cell in nb.cells:
        cells.append(cell)
        if "check" in tags(cell):
            cells.append(_solution(cell.metadata.exercise, solutions[cell.metadata.exercise]))
    nb.cells = cells
    return _validated(nb, source_path)


def annotated_notebook(source_path: Path, repo_url: str | None = None) -> NotebookNode:
    """The instructor's copy: solutions between their markers, and the rubrics; what nbgrader calls a source."""
    return _validated(_notebook(source_path, repo_url, folder="notebooks"), source_path)


def solved_notebook(source_path: Path, repo_url: str | None = None) -> NotebookNode:
    """The solved copy before it is executed: solutions in place, their markers gone."""
    nb = _notebook(source_path, repo_url, folder="notebooks/solutions")
    for cell in nb.cells:
        cell.source = without_markers(cell.source)
    return _validated(nb, source_path)


def _notebook(source_path: Path, repo_url: str | None, folder: str) -> NotebookNode:
    """What both copies share: badge, setup cell, nbgrader's metadata, stable ids, a kernelspec."""
    nb, repo_url = read_source(source_path), repo_url or repository()
    lesson = source_path.stem[:2]
    if not nb.cells or nb.cells[0].cell_type != "markdown":
        raise LessonError(f"{source_path.name}: the first cell must be markdown, with the title `# {lesson} · …`")
    points = {
        cell.metadata.get("exercise", ""): cell.metadata.get("points") for cell in nb.cells if "exercise" in tags(cell)
    }
    for cell in nb.cells:
        _grading_metadata(cell, points, source_path)
        if tags(cell) & {"varies", "widget"}:
            cell.metadata.tags = [*cell.metadata.tags, "nbval-ignore-output"]
    opening, *rest = nb.cells
    opening.source += f"\n\n{badge(repo_url, f'{folder}/{source_path.stem}.ipynb')}"
    address = ADDRESS.format(repo=repo_url) if has_address(repo_url) else NO_ADDRESS
    source = SETUP.format(lesson=lesson, address=address)
    nb.cells = [opening, new_code_cell(source, metadata={"tags": ["setup", "fold"]}), *rest]
    for cell in nb.cells:
        if "fold" in tags(cell):
            _fold(cell)
    _number(nb.cells)
    nb.metadata = {
        "kernelspec": dict(KERNEL),
        "language_info": dict(LANGUAGE),
        "course": {"lesson": lesson, "source_sha256": _sha256(source_path), "built_with": GENERATOR},
    }
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nbformat.from_dict(nb)


def _grading_metadata(cell: NotebookNode, points: dict[str, int | float | None], source_path: Path) -> None:
    """Mark exercises, checks and free-text questions the way nbgrader does in its own user interface."""
    kinds = tags(cell) & {"exercise", "check", "manual"}
    if not kinds:
        return
    (kind,) = kinds
    if kind == "check":
        cell.metadata.exercise = checked_exercise(cell.source)
    name = cell.metadata.get("question" if kind == "manual" else "exercise")
    worth = cell.metadata.get("points") if kind == "manual" else points.get(name)
    if name is None or worth is None:
        raise LessonError(
            f'{source_path.name}: a {kind} cell needs its name and points, such as exercise="01.q_step" points=2, '
            f'and a check an exercise that exists, such as check("01.q_step", q_step). The cell:\n{cell.source}'
        )
    if kind != "check" and without_markers(cell.source) == cell.source:
        raise LessonError(f"{source_path.name}: {name} has no ### BEGIN SOLUTION and ### END SOLUTION")
    cell.metadata.nbgrader = {
        "schema_version": 3,
        "grade_id": grade_id(name, check=kind == "check"),
        "grade": kind != "exercise",
        "solution": kind != "check",
        "locked": kind == "check",
        "task": False,
    } | ({} if kind == "exercise" else {"points": worth})


def _fold(cell: NotebookNode) -> None:
    """Hide a cell's code, one click from view; its outputs stay. Each reader of notebooks has its own word for it."""
    cell.metadata.jupyter = {"source_hidden": True}  # JupyterLab, VS Code
    cell.metadata.cellView = "form"  # Colab, which shows what follows `# @title`
    cell.metadata.tags = [*cell.metadata.tags, "hide-input"]  # the web page


def _solution(exercise: str, solution: str) -> NotebookNode:
    text = f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n\n</details>"
    cell = new_markdown_cell(text, metadata={"tags": ["solution-fold"]})
    cell.id = grade_id(exercise) + "-solution"
    return cell


def has_address(repo_url: str) -> bool:
    """Whether the course can be fetched from here: no address ends in .invalid (RFC 2606)."""
    return not re.match(r"\w+://[^/]*\.invalid(/|$)", repo_url)


def badge(repo_url: str, path: str) -> str:
    """A link that opens the notebook on Colab, or why there is none. Words, for a picture would need a network."""
    if not has_address(repo_url):
        return "*On Colab after `make lessons REPO=https://github.com/…`*"
    if match := re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?/?", repo_url):
        return f"[Open in Colab](https://colab.research.google.com/github/{match[1]}/blob/main/{path})"
    return "*Colab opens notebooks from GitHub alone.*"


def with_badges(page: str, repo_url: str) -> str:
    """A markdown page with badges for this repository: the last cell of each row that begins with a lesson's link."""
    row = r"(?m)^(\| \[[^]]*\]\((notebooks/[^)]*\.ipynb)\) \|.*\| )[^|]+( \|)$"
    short = "" if has_address(repo_url) else "–"  # once below, the page says what to do
    return re.sub(row, lambda found: found[1] + (short or badge(repo_url, found[2])) + found[3], page)


def _number(cells: list[NotebookNode]) -> None:
    """Give each cell an id that outlives edits elsewhere: nbgrader's where there is one, else a hash of its text."""
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        name = "setup" if "setup" in tags(cell) else cell.metadata.get("nbgrader", {}).get("grade_id", digest)
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"


def _validated(nb: NotebookNode, source_path: Path) -> NotebookNode:
    try:
        MetadataValidator().validate_nb(nb)
        nbformat.validate(nb)
    except Exception as error:  # both raise jsonschema's ValidationError or their own kin of it
        raise LessonError(f"{source_path.name}: {error}") from error
    return nb


# ---------------------------------------------------------------- executing


def execute(nb: NotebookNode, cwd: Path, timeout: int = 3600) -> NotebookNode:
    """Run a notebook from top to bottom in this interpreter's own kernel, each cell within `timeout` seconds.

    Changes `nb` in place and returns it, its outputs fit to be stored: no widget state, no timings. Raises LessonError
    with the cell and the end of the traceback if a cell fails, and if an output must not be stored (`output_problems`).
    """
    running = nb.cells[0]

    def start(cell: NotebookNode, cell_index: int) -> None:
        nonlocal running
        running = cell

    # No folders to search: "python3" can then only be this interpreter, whatever else is installed on the machine.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        nb,
        km=manager,
        timeout=timeout,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_start=start,
        extra_arguments=["--log-level=ERROR"],  # ipykernel warns about TCP on every start
        resources={"metadata": {"path": str(cwd)}},
    )
    try:
        client.execute(cleanup_kc=True)
    except CellTimeoutError as error:
        raise LessonError(_failure(running, f"took longer than {timeout} seconds")) from error
    except (CellExecutionError, DeadKernelError) as error:
        tail = "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()[-12:])
        raise LessonError(_failure(running, f"failed:\n\n{tail}")) from error
    for cell in nb.cells:
        if cell.cell_type == "code":
            _tidy_outputs(cell)
    nb.metadata.language_info = NotebookNode(LANGUAGE)
    if problems := output_problems(nb):
        raise LessonError("\n".join(problems))
    return nb


def _failure(cell: NotebookNode, what: str) -> str:
    return f"this cell\n\n{_indent(cell.source)}\n\n{what}"


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def _tidy_outputs(cell: NotebookNode) -> None:
    for output in cell.outputs:
        data = output.get("data", {})
        if WIDGET in data and "widget" in tags(cell):  # in other cells output_problems reports it
            output.data = NotebookNode({"text/plain": WIDGET_STANDS_IN})
        if "image/png" in data:
            data["image/png"] = base64.b64encode(in_256_colours(base64.b64decode(data["image/png"]))).decode()


def in_256_colours(png: bytes) -> bytes:
    """The picture with a palette: the eye sees no difference, and the repository's history is a third of the size.

    A picture that moves comes back as it was: a palette would leave its first frame only.
    """
    buffer = io.BytesIO()
    found = PIL.Image.open(io.BytesIO(png))
    if getattr(found, "is_animated", False):
        return png
    picture = found.convert("RGBA").quantize(256, PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE)
    picture.save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


def output_problems(nb: NotebookNode) -> list[str]:
    """What is wrong with a notebook's outputs: errors, stderr, widgets, pictures too large or without words."""
    problems, images = [], 0
    if "widgets" in nb.metadata:
        problems.append("widget state is stored, which GitHub cannot show")
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            pictures = [kind for kind in data if kind.startswith("image/")]
            images += sum(len(data[kind]) for kind in pictures)
            if output.output_type == "error":
                problems.append(_failure(cell, f"stores an error: {output.ename}: {output.evalue}"))
            elif output.get("name") == "stderr":
                problems.append(_failure(cell, f"writes to stderr, so warns its reader:\n\n{_indent(output.text)}"))
            elif WIDGET in data:
                problems.append(_failure(cell, 'shows a widget: tag it "widget"'))
            elif any(not output.metadata.get(kind, {}).get("alt") for kind in pictures):
                problems.append(
                    _failure(cell, "shows a picture without words: end it in show(figure, 'what it shows')")
                )
    if images > IMAGE_LIMIT:
        problems.append(f"images take {images:,} bytes, at most {IMAGE_LIMIT:,} may be stored: fewer, smaller figures")
    return problems


# ---------------------------------------------------------------- committed files


def build_lesson(path: Path, force: bool = False, *, repo_url: str | None = None, timeout: int = 3600) -> str:
    """Bring a lesson's two notebooks in step with its source, and say what that took.

    Returns "in step" if nothing had to change, "rewritten" if only words did (the stored outputs are kept, since no
    line of code changed), "executed" if the solved copy ran. `force` executes in any case. What somebody has typed into
    the learner's copy goes to `work/` first. Raises LessonError, and then writes neither notebook.
    """
    if not force and not out_of_step(path, repo_url):
        return "in step"
    learner, solved = learner_notebook(path, repo_url), solved_notebook(path, repo_url)
    old = stored(solved_path(path))
    if old is not None and not force and _code(old) == _code(solved) and not _unexecuted(old):
        _carry_outputs(old, solved, always=True)
        done = "rewritten"
    else:
        execute(solved, path.parents[1], timeout)
        if old is not None:
            _carry_outputs(old, solved, always=False)
        done = "executed"
    write_atomically(solved_path(path), as_text(solved).encode())
    page = learner_path(path)
    if page.exists() and not is_blank(page.read_bytes()):  # somebody has typed into it
        keep(page, path.parents[2] / FOLDER)
    write_atomically(page, as_text(learner).encode())
    return done


def out_of_step(path: Path, repo_url: str | None = None) -> list[str]:
    """How a lesson's committed notebooks differ from what its source generates; empty when they do not.

    The learner's copy is compared byte for byte, the solved one without its outputs.
    """
    problems = []
    for target, fresh in (
        (learner_path(path), learner_notebook(path, repo_url)),
        (solved_path(path), solved_notebook(path, repo_url)),
    ):
        name = f"{target.parent.name}/{target.name}"
        found = stored(target)
        if found is None:
            problems.append(f"{name} is missing or cannot be read: run `make lessons`")
            continue
        text = target.read_text(encoding="utf-8")
        if target == solved_path(path):
            if _unexecuted(found):
                problems.append(f"{name} has cells that were never executed: run `make lessons`")
            text = as_text(_without_outputs(found))
        if text != as_text(fresh):
            problems.append(f"{name} is not what its source generates ({_where(found, fresh)}): run `make lessons`")
    return problems


def stored(path: Path) -> NotebookNode | None:
    """A notebook file, or None if it is missing or no notebook (after a merge conflict, say)."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, nbformat.reader.NotJSONError):
        return None


def as_text(nb: NotebookNode) -> str:
    """A notebook as the text of its file: sorted keys, a newline at the end."""
    return nbformat.writes(nb).rstrip("\n") + "\n"


def _code(nb: NotebookNode) -> list[Any]:
    """All that can change an output: code and tags, but not where the course is cloned from, nor what is folded."""
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    address = r"(?m)^    (repo = |assert repo).*\n"
    return [(re.sub(address, "", cell.source), sorted(tags(cell) - {"fold", "open", "hide-input"})) for cell in code]


def _carry_outputs(old: NotebookNode, new: NotebookNode, *, always: bool) -> None:
    """Take stored outputs over, so that a diff shows what changed: if they all say the same, or whatever they say.

    All or none: figures printed by one run must not stand beside the pictures of another.
    """
    known = {cell.id: cell for cell in old.cells if cell.cell_type == "code"}
    pairs = [(known.get(cell.id), cell) for cell in new.cells if cell.cell_type == "code"]
    if always or all(before and _steady(before.outputs) == _steady(cell.outputs) for before, cell in pairs):
        for before, cell in pairs:
            if before:
                cell.outputs = before.outputs
                if always:
                    cell.execution_count = before.execution_count


def _steady(outputs: list[NotebookNode]) -> str:
    """Outputs as text, without the lines that differ on every run."""
    return re.sub(rf'{VARIES}.*?(?=\\n|")', VARIES, json.dumps(outputs, sort_keys=True, ensure_ascii=False))


def _unexecuted(nb: NotebookNode) -> bool:
    return any(cell.cell_type == "code" and cell.source and cell.execution_count is None for cell in nb.cells)


def _without_outputs(nb: NotebookNode) -> NotebookNode:
    nb, _ = ClearOutput().preprocess(nb, {})
    return nb


def _where(found: NotebookNode, fresh: NotebookNode) -> str:
    """The first cell that differs, in words."""
    for i, cell in enumerate(fresh.cells):
        if i >= len(found.cells) or any(found.cells[i].get(key) != cell[key] for key in ("id", "metadata", "source")):
            return f"cell {i + 1}: {cell.source.splitlines()[0][:60]!r}"
    return "more cells" if len(found.cells) > len(fresh.cells) else "not in its cells"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest()  # read as text: the same on any system
