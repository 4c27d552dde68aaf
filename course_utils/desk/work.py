"""The learner's own copies of the lessons, in `work/`: made when missing, refreshed while untouched, never overwritten.

`notebooks/` holds the pages as they are handed out, under git; nobody types there. A copy that somebody has changed, or
only run, is theirs: when its lesson changes, the new page comes beside it, as `01_forward_process-2.ipynb`.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from course_utils.desk.lesson import ROOT, STUB
from course_utils.files import write_atomically

FOLDER = "work"
RECORD = ".copies.json"  # copy -> SHA-256 of what was written there: while it is that, nobody has touched it


def prepare(root: Path = ROOT, folder: Path | None = None) -> list[str]:
    """Bring the copies up to date with `notebooks/`; what the learner should be told, a sentence each.

    Raises DataError if the folder cannot be written.
    """
    folder = folder or root / FOLDER
    record, told = _record(folder), []
    for page in _pages(root):
        content, older = page.read_bytes(), None
        if not is_blank(content):  # somebody has typed into the page itself, as was the way once
            if kept := keep(page, folder):
                told.append(
                    f"{page.name} holds work: it is in {kept} now. `git checkout {page.name}` brings the page back"
                )
            continue
        for copy in _names(folder, page.stem):
            found = _content(copy)
            if found is None or record.get(copy.name) == _sha256(found) or found == content:
                if older and found is None:
                    why = "has changed: your work stays in" if older.is_file() else "is blocked: left as it is,"
                    told.append(f"{page.stem} {why} {older.name}, the new page is {copy.name}")
                if found != content:
                    write_atomically(copy, content)
                record[copy.name] = _sha256(content)
                break
            if _version(found) == _version(content):
                break  # the page of today, with work in it
            older = copy
    write_atomically(folder / RECORD, json.dumps(record, indent=0, sort_keys=True).encode())
    return told


def keep(page: Path, folder: Path) -> Path | None:
    """Copy a page that holds somebody's work to where work is kept; the copy, or None if it was there already."""
    content = page.read_bytes()
    for copy in _names(folder, page.stem):
        found = _content(copy)
        if found is None:
            write_atomically(copy, content)
            return copy
        if found == content:
            return None
    raise AssertionError("there is always another name")


def latest(lesson: str, root: Path = ROOT, folder: Path | None = None) -> Path | None:
    """The newest copy of a lesson, which is named by its number or the start of its file's name; None without one."""
    pages = [page for page in _pages(root) if page.stem.startswith(lesson)]
    names = (_names(folder or root / FOLDER, page.stem) for page in pages)
    copies = [copy for stem in names for copy in itertools.takewhile(os.path.lexists, stem) if copy.is_file()]
    return copies[-1] if len(pages) == 1 and copies else None


def is_blank(content: bytes) -> bool:
    """Whether a notebook is a page as it is handed out: nothing was run, every exercise is its stub."""
    try:
        cells = json.loads(content)["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        stubs = ["".join(cell["source"]) for cell in code if "exercise" in cell["metadata"].get("tags", [])]
        return not any(cell["outputs"] for cell in code) and all(STUB in stub for stub in stubs)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # torn, or no notebook: nothing that we would throw away


def _pages(root: Path) -> list[Path]:
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def _names(folder: Path, stem: str) -> Iterator[Path]:
    """Where copies of a page are, the first of them first."""
    yield folder / f"{stem}.ipynb"
    yield from (folder / f"{stem}-{k}.ipynb" for k in itertools.count(2))


def _content(copy: Path) -> bytes | None:
    """What is there; None if the name is free. A link to nowhere, a folder, a locked file is somebody's, and empty."""
    try:
        return copy.read_bytes()
    except OSError:
        return b"" if os.path.lexists(copy) else None


def _version(content: bytes) -> Any:
    """Which version of its lesson a notebook is, as its build noted; Jupyter and Colab keep the note."""
    try:
        return json.loads(content)["metadata"]["course"]
    except (ValueError, KeyError, TypeError):
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _record(folder: Path) -> dict[str, str]:
    """What is known of the copies; nothing if the file is missing or damaged: then they count as somebody's work."""
    try:
        return dict(json.loads((folder / RECORD).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}
