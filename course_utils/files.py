"""Files, whole or not at all: written aside and renamed, read only if every byte is right. Needs no PyTorch.

Where the course's own data lie is said here too: images, trained networks, the leaderboard.
"""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NoReturn


class DataError(RuntimeError):
    """A data file is missing, damaged, unreadable or out of reach; the message names it and says what to do."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a neighbour, flushed to the disk, then renamed.

    Raises DataError if that fails, and leaves nothing behind: what was there before is there still.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        way_out = "Free some space" if disk_is_full(error) else "Make the folder writable"
        raise DataError(f"{path}: cannot be written ({error}). {way_out} and run again") from error


def read(path: Path, way_out: str | None = None) -> bytes:
    """A file's bytes. Raises DataError, with what to do about it, if it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        told = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(f"{path}: {told}. {way_out or _way_out(path)}") from error


def read_verified(path: Path, entry: dict[str, Any]) -> bytes:
    """A file's bytes, if they have the `bytes` and the `sha256` of a manifest's entry. Raises DataError if not."""
    content = read(path)
    if len(content) != entry["bytes"]:
        raise DataError(f"{path}: has {len(content):,} bytes, wanted {entry['bytes']:,}. {_way_out(path)}")
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise DataError(f"{path}: is damaged: SHA-256 {found[:12]}…, wanted {entry['sha256'][:12]}…. {_way_out(path)}")
    return content


def parse_json(path: Path, content: bytes, way_out: str) -> dict[str, Any]:
    """A manifest. Raises DataError if it is no JSON, and whenever something is looked up that is not there."""

    class Entry(dict):
        def __missing__(self, key: str) -> NoReturn:
            raise DataError(f"{path}: is damaged: it has no {key!r}. {way_out}")

    try:
        found = json.loads(content, object_hook=Entry)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged ({error}). {way_out}") from error
    return found


def data_dir() -> Path:
    """The folder of embedded data: $COURSE_DATA_DIR if set, else the checkout's `data`, else the one in the package."""
    if named := os.environ.get("COURSE_DATA_DIR"):
        return Path(named).expanduser()
    package = Path(__file__).resolve().parent
    installed = package / "_data"  # only a built wheel has it
    return installed if installed.is_dir() else package.parent / "data"


def read_manifest() -> dict[str, Any]:
    """The checksums, counts and shapes of `data/manifest.json`. Raises DataError if it is missing or damaged."""
    path = data_dir() / "manifest.json"
    return parse_json(path, read(path), _way_out(path))


def _way_out(path: Path) -> str:
    """What to do about a file of the course's data that is missing or damaged."""
    if named := os.environ.get("COURSE_DATA_DIR"):
        return f"$COURSE_DATA_DIR is {named}: unset it, or name a folder with all of the course's data"
    if data_dir().name == "_data":
        return "Reinstall the package: `pip install --force-reinstall --no-deps diffusion-from-scratch`"
    inside = path.relative_to(data_dir()).as_posix()
    return f"Run `git checkout -- data/{inside}`, or make it anew as data/README.md says"


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error is of a full disk, or followed on one."""
    while error:  # torchvision retries on any OSError, so a full disk may hide behind the error of the second try
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__context__
    return False
