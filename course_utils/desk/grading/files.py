"""The files of a class: notebooks in folders, in zips, in zips in zips. Nothing is unpacked, nothing is trusted.

What one learner's zip can cost is bounded before it is opened: its size, the length of its table of contents, and how
much of each file is read.
"""

import functools
import io
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FILE_LIMIT = 20 << 20  # bytes of one notebook
ZIP_LIMIT = 200 << 20  # bytes of a learner's zip
CONTENTS_LIMIT = 2 << 20  # bytes of its table of contents: some twenty thousand entries
INNER_LIMIT = 10  # zips in it that are looked into
LINES_LIMIT = 20  # remarks about the other files in it
NOTEBOOK = re.compile(r"(?i)\.ipynb( ?\(\d+\))?(\.json|\.txt)?$")  # browsers and mail programs add to names
ARCHIVE = re.compile(r"(?i)\.(7z|rar|tar|tgz|tar\.\w+|gz|bz2|xz)$")
IGNORED = ("__MACOSX", ".ipynb_checkpoints", ".git")
SUBMITTERS = "submission_metadata.yml"  # Gradescope's list of who is who
CONFIG = "nbgrader_config.py"  # in a class folder


class IntakeError(Exception):
    """The whole hand-in cannot be taken in; the message says why."""


@dataclass(frozen=True)
class File:
    """Something handed in."""

    name: str  # relative, with slashes; zips stand in it like folders
    read: Callable[[], bytes] = bytes  # may raise anything
    trouble: str = ""  # why it cannot be read


def find(path: Path, log: list[str]) -> list[File]:
    """All notebooks in a notebook, folder or zip, in order of their names; and what seems to be one and cannot be read.

    Raises IntakeError if there is none of the three.
    """
    if path.is_file() and path.suffix.lower() == ".zip":
        try:
            return _zipped(functools.partial(zipfile.ZipFile, path), "", log)
        except Exception as error:  # zipfile has many ways to refuse
            raise IntakeError(f"{path}: cannot be read, {type(error).__name__}: {error}") from error
    if path.is_file():
        return [File(path.name, functools.partial(_bytes, path))]
    if not path.is_dir():
        raise IntakeError(f"{path}: no notebook, folder or zip is there")
    found: list[File] = []
    files = sorted(path.rglob("*"))
    ours = [file.parent for file in files if file.name == CONFIG and (file.parent / "source").is_dir()]
    log += [
        f"{folder.relative_to(path).as_posix()}: a class folder; of it only what is in `submitted` counts"
        for folder in ours
    ]
    for file in files:
        name = file.relative_to(path).as_posix()
        parts = PurePosixPath(name).parts
        inside = (file.relative_to(folder).parts[0] for folder in ours if folder in file.parents)
        if any(part in IGNORED for part in parts) or any(part != "submitted" for part in inside):
            continue
        kind = file.lstat().st_mode
        if stat.S_ISLNK(kind):
            log.append(f"{name}: skipped, a link")
            if NOTEBOOK.search(name) or name.lower().endswith(".zip"):
                found.append(File(name, trouble="a link"))
        elif stat.S_ISREG(kind):
            found += _one(name, functools.partial(_bytes, file), functools.partial(_inner, file), log)
        elif stat.S_ISDIR(kind):
            if not os.access(file, os.R_OK | os.X_OK):
                log.append(f"{name}: skipped, a folder that may not be read")
                found.append(File(f"{name}/(all)", trouble="a folder that may not be read"))
        else:
            log.append(f"{name}: skipped, no file that can be read")
            if NOTEBOOK.search(name):
                found.append(File(name, trouble="a pipe, a socket or a device"))
    return found


def _one(
    name: str, read: Callable[[], bytes], opened: Callable[[], zipfile.ZipFile], log: list[str], depth: int = 0
) -> list[File]:
    """What a file is: a notebook, a zip of notebooks, something that cannot be read, or nothing of ours."""
    base = PurePosixPath(name).name
    if NOTEBOOK.search(base) or base == SUBMITTERS:
        return [File(name, read)]
    trouble = "an archive that is no zip" if ARCHIVE.search(base) else ""
    if base.lower().endswith(".zip") and depth < 2:
        try:
            if found := _zipped(opened, name + "/", log, depth):
                return found
            trouble = "no notebook is in it"
        except Exception as error:  # zipfile has many ways to refuse
            trouble = f"{type(error).__name__}: {error}"
    log.append(f"{name}: skipped, {trouble or 'no notebook'}")
    return [File(name, trouble=trouble)] if trouble else []


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(FILE_LIMIT + 1)  # one more than is allowed: enough to be refused


def _inner(path: Path) -> zipfile.ZipFile:
    """A learner's zip on the disk. Raises ValueError if it is too large to be looked into."""
    if path.stat().st_size > ZIP_LIMIT:
        raise ValueError(f"more than {ZIP_LIMIT >> 20} MiB")
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 17)))
        _check_contents(file.read())
    return zipfile.ZipFile(path)


def _check_contents(tail: bytes) -> None:
    """Raise ValueError if a zip's end announces a longer table of contents than a learner's work has."""
    at = tail.rfind(b"PK\5\6")
    if at >= 0 and len(tail) >= at + 22 and struct.unpack_from("<I", tail, at + 12)[0] > CONTENTS_LIMIT:
        raise ValueError("too many files are in it")


def _zipped(opened: Callable[[], zipfile.ZipFile], where: str, log: list[str], depth: int = 0) -> list[File]:
    """The notebooks of a zip, which is never unpacked to disk: no path can escape, no bomb can burst."""

    def one(entry: zipfile.ZipInfo, limit: int) -> bytes:
        with opened() as archive, archive.open(entry) as file:
            return file.read(limit)

    @functools.lru_cache(maxsize=1)
    def inner(number: int) -> bytes:
        if entries[number].file_size > ZIP_LIMIT:
            raise ValueError(f"more than {ZIP_LIMIT >> 20} MiB")
        content = one(entries[number], ZIP_LIMIT)
        _check_contents(content[-(1 << 17) :])
        return content

    def reopened(number: int) -> zipfile.ZipFile:
        return zipfile.ZipFile(io.BytesIO(inner(number)))

    with opened() as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
    found: list[File] = []
    lines: list[str] = []
    inside = 0
    for number, entry in enumerate(entries):
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if entry.is_dir() or any(part in IGNORED for part in parts):
            continue
        name = where + "/".join(part for part in parts if part not in ("..", "/", "."))
        inside += entry.filename.lower().endswith(".zip")
        if where and inside > INNER_LIMIT:  # small ones may hold gigabytes
            lines.append(f"{name}: skipped, one of more than {INNER_LIMIT} zips in a zip")
            continue
        read = functools.partial(one, entry, FILE_LIMIT + 1)
        found += _one(name, read, functools.partial(reopened, number), lines, depth + 1)
    more = len(lines) - LINES_LIMIT if where else 0
    log += [*lines[:LINES_LIMIT], f"{where}: {more} more files skipped"] if more > 0 else lines
    return found
