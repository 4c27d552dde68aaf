"""The course as a web page: `make book` writes a static site, which needs no other host to be read.

    the learner's notebooks + the outputs and answers of the solved ones ──► a page for each lesson
    README, CONTRIBUTING, docs/, data/                                   ──► pages as they are
    the docstrings of course_utils, floor by floor                       ──► pages of the code

Nothing is executed. Sphinx does the rest: docs/book holds its settings, the style sheet and the front page.
"""

import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_utils.desk.floors import floors
from course_utils.desk.lesson import ROOT, title

BOOK = ROOT / "docs" / "book"
WORDS = ["CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "data/checkpoints/README.md"]
WORDS += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
START = "```{container} buttons\n[Start with lesson 00](notebooks/00_start_here.ipynb)\n```\n\n"
NEEDS_KERNEL = "*A live widget: open the lesson in Colab or JupyterLab to use it.*"


def build(site: Path) -> None:
    """Write the site to a folder, in place of an older one.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: a lesson's two notebooks are out of step.
        CalledProcessError: Sphinx found something to warn of, and has said what.
    """
    if site.exists() and any(site.iterdir()) and not (site / ".buildinfo").exists():
        raise FileExistsError(f"{site} holds something that is no such site: empty it, or name another folder")
    with tempfile.TemporaryDirectory() as work:
        pages = Path(work) / "pages"
        write_pages(pages)
        shutil.rmtree(site, ignore_errors=True)
        sphinx = ["-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto", "-d", str(Path(work) / "doctrees")]
        subprocess.run([sys.executable, *sphinx, "-c", str(BOOK), str(pages), str(site)], check=True)


def write_pages(pages: Path) -> None:
    """Everything that Sphinx reads, laid out as the repository is, so that links between pages hold."""
    for name in ("docs", "data/checkpoints", "notebooks", "download", "code"):
        (pages / name).mkdir(parents=True)
    for name in (*WORDS, "docs/film.png"):
        shutil.copyfile(ROOT / name, pages / name)
    for path in lessons():
        shutil.copyfile(path, pages / "download" / path.name)
        nbformat.write(lesson_page(path), pages / "notebooks" / path.name)
    front = front_page((ROOT / "README.md").read_text(encoding="utf-8"))
    toctree = (BOOK / "contents.md").read_text(encoding="utf-8")
    (pages / "index.md").write_text(f"{front}\n{toctree}", encoding="utf-8")
    for name, text in code_pages().items():
        (pages / "code" / f"{name}.md").write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- lessons


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
            _say_what_is_shown(cell)
        if "manual" in tags:
            cell.source = _folded("An answer", solved[cell.id].source)
            if cell.id in rubrics:
                cell.source += "\n\n" + _folded("What earns the points", rubrics[cell.id].source)
        if "solution-fold" in tags:
            cells.insert(-1, cell)  # before the check, which is that of the solved copy
        else:
            cells.append(cell)
    cells[0].source = _title(cells[0].source, path.name)
    page.cells = cells
    return page


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _title(source: str, name: str) -> str:
    """The first cell with its links as buttons: to Colab, where the course has an address, and to the notebook."""
    colab = re.search(r"\n\n(\[Open in Colab\]\([^)]*\))$", source)
    links = [*([colab[1]] if colab else []), f"{{download}}`Download the notebook <../download/{name}>`"]
    title, _, rest = (source[: colab.start()] if colab else source).partition("\n")
    return f"{title}\n\n```{{container}} buttons\n{' '.join(links)}\n```\n{rest}"


def _say_what_is_shown(cell: NotebookNode) -> None:
    """Alt text and width for a picture, words for a widget, and for folded code what it does."""
    cell.metadata.mystnb = {}
    if named := title(cell):
        cell.metadata.mystnb |= {"code_prompt_show": named, "code_prompt_hide": named}
    for output in cell.outputs:
        for kind, about in output.get("metadata", {}).items():
            if kind.startswith("image/"):
                cell.metadata.mystnb["image"] = {key: about[key] for key in ("alt", "width") if key in about}
        if output.get("data", {}).get("text/plain", "").startswith("A live widget"):
            output.data = NotebookNode({"text/markdown": NEEDS_KERNEL})


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


# ---------------------------------------------------------------- words


def front_page(text: str) -> str:
    """The README with a button to begin before its sections."""
    return text.replace("\n## ", f"\n{START}## ", 1)


# ---------------------------------------------------------------- code


def code_pages() -> dict[str, str]:
    """One page for each module, or package of modules, and one for each floor, as the package draws them."""
    pages: dict[str, str] = {}
    for floor, rows in floors().items():
        lines = [f"# {floor}", ""]
        for names, knows in rows:
            names = [name for name in names if not name.startswith("_")]
            lines += [f"* {' · '.join(f'[{name}]({name}.md)' for name in names)}: {knows}"]
            pages |= {name: module_page(f"desk.{name}" if floor == "desk" else name) for name in names}
        names = [name for names, _ in rows for name in names if not name.startswith("_")]
        pages[f"floor_{floor}"] = "\n".join([*lines, "", "```{toctree}", ":hidden:", *names, "```", ""])
    return pages


def module_page(name: str) -> str:
    """The page of a module, or of a package with all its modules. The command line describes itself."""
    if name == "desk.cli":
        command = [sys.executable, "-m", "typer", "course_utils.desk.cli", "utils", "docs", "--name", "course"]
        return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    folder = ROOT.joinpath("course_utils", *name.split("."))
    if not folder.is_dir():
        return f"# {name}\n\n{_automodule(name, members=True)}"
    files = [path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob("[a-z]*.py"))]
    parts = [".".join(path.parts) for path in files if not path.stem.startswith("lesson_")]
    sections = [f"## {name}.{part}\n\n{_automodule(f'{name}.{part}', members=True)}" for part in parts]
    return "\n".join([f"# {name}\n\n{_automodule(name, members=False)}", *sections])


def _automodule(name: str, members: bool) -> str:
    options = "   :members:\n   :member-order: bysource\n   :ignore-module-all:\n" if members else ""
    return f"```{{eval-rst}}\n.. automodule:: course_utils.{name}\n{options}```\n"


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except (FileExistsError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"no book was made: {error}")
    print(f"open {sys.argv[1]}/index.html")
