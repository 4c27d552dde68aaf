"""A lesson's page: the learner's copy with the outputs and answers of the solved one."""

import itertools
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from course_utils.desk.authoring.book import live
from course_utils.desk.lesson import ROOT, title


def lessons() -> list[Path]:
    """The learner's copies of all lessons, in order."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def lesson_page(path: Path) -> NotebookNode:
    """The learner's copy of a lesson with the outputs of the solved one; hints, solutions and answers folded."""
    page = nbformat.read(path, as_version=4)
    answered = nbformat.read(path.parent / "solutions" / path.name, as_version=4).cells
    solved = {cell.id: cell for cell in answered}
    rubrics = {cell.id: after for cell, after in itertools.pairwise(answered) if "rubric" in _tags(after)}
    if not {cell.id for cell in page.cells if cell.cell_type == "code"} <= solved.keys():
        raise ValueError(f"{path.name} and its solved copy are out of step: run `make lessons`")
    cells: list[NotebookNode] = []
    for cell in page.cells:
        tags = _tags(cell)
        if cell.cell_type == "code":
            cell.outputs = solved[cell.id].outputs
            cell.execution_count = solved[cell.id].execution_count
        if "manual" in tags:
            cell.source = _folded("An answer", solved[cell.id].source)
            if cell.id in rubrics:
                cell.source += "\n\n" + _folded("What earns the points", rubrics[cell.id].source)
        if "solution-fold" in tags:
            cells.insert(-1, cell)  # before the check, which is that of the solved copy
        else:
            cells.extend(_one_picture_each(cell))
    cells[0].source = _title(cells[0].source, path.name)
    page.cells = cells
    _bring_to_life(page, path.stem)
    return page


def _bring_to_life(page: NotebookNode, lesson: str) -> None:
    """Put what runs in a browser where the kernel put a widget, and the scripts after the last of them."""
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    sources, names, last = [cell.source for cell in code], [], None
    for cell in code:
        for output in cell.outputs:
            if output.get("data", {}).get("text/plain", "").startswith("A live widget"):
                name, text = live.live_cell(lesson, cell.source, sources) or (None, live.NOTE)
                output.data = NotebookNode({"text/markdown": text})
                if name:
                    names.append(name)
                    last = output.data
    if last:
        last["text/markdown"] += "\n" + live.scripts(names)


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _title(source: str, name: str) -> str:
    """The first cell with its links as buttons: to Colab, where the course has an address, and to the notebook."""
    colab = re.search(r"\n\n(\[Open in Colab\]\([^)]*\))$", source)
    links = [*([colab[1]] if colab else []), f"{{download}}`Download the notebook <../download/{name}>`"]
    title, _, rest = (source[: colab.start()] if colab else source).partition("\n")
    return f"{title}\n\n```{{container}} buttons\n{' '.join(links)}\n```\n{rest}"


def _one_picture_each(cell: NotebookNode) -> list[NotebookNode]:
    """The cell, and one without input for each further picture: MyST-NB knows one alt text and one width for a cell."""
    if cell.cell_type != "code":
        return [cell]
    shown = [any(kind.startswith("image/") for kind in output.get("data", {})) for output in cell.outputs]
    ends = [*[i for i, picture in enumerate(shown) if picture][1:], len(shown)]
    more = [
        new_code_cell(
            "# the same cell's",  # a cell without code would be left out
            id=f"{cell.id}-{k}",
            outputs=cell.outputs[start:end],
            metadata={"tags": ["remove-input"]},
        )
        for k, (start, end) in enumerate(itertools.pairwise(ends), start=2)
    ]
    cell.outputs = cell.outputs[: ends[0]]
    for one in (cell, *more):
        _say_what_is_shown(one)
    return [cell, *more]


def _say_what_is_shown(cell: NotebookNode) -> None:
    """Alt text and width for a picture, and for folded code what it does."""
    cell.metadata.mystnb = {}
    if named := title(cell):
        cell.metadata.mystnb |= {"code_prompt_show": named, "code_prompt_hide": named}
    for output in cell.outputs:
        for kind, about in output.get("metadata", {}).items():
            if kind.startswith("image/"):
                cell.metadata.mystnb["image"] = {key: about[key] for key in ("alt", "width") if key in about}


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
