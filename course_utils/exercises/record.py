"""Which exercises somebody has done, remembered from one session to the next: one small file, an exercise a line.

Lines are only ever added, each with one write, so two notebooks at once lose nothing. A damaged line names an exercise
that does not exist, and costs no other. Where nothing can be written, nothing is remembered, and no lesson minds.
"""

import contextlib
import os
import sys
from pathlib import Path


def done() -> set[str]:
    """The exercises that are noted as done, such as "01.q_step"; none when nobody is there whose they would be."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
        if _somebody_is_there():
            return set(path().read_text(encoding="utf-8", errors="replace").split())
    return set()


def add(id: str) -> None:
    """Note an exercise as done, unless it is noted already or nobody is there who did it."""
    with contextlib.suppress(OSError, RuntimeError):
        if _somebody_is_there() and id not in done():
            path().parent.mkdir(parents=True, exist_ok=True)
            with open(path(), "ab", buffering=0) as file:
                file.write(f"\n{id}\n".encode())  # the first line end closes what a crash may have left open


def path() -> Path:
    """The file: $COURSE_PROGRESS, else `progress.txt` where this system keeps a person's data."""
    if named := os.environ.get("COURSE_PROGRESS"):
        return Path(named).expanduser()
    folder = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    if sys.platform == "darwin":
        folder = "~/Library/Application Support"
    elif sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    return Path(folder).expanduser() / "diffusion-course" / "progress.txt"


def _somebody_is_there() -> bool:
    """Whether this is a notebook with a person at it, and not the solved copy.

    Programs that run notebooks (nbclient, nbval) tell the kernel not to ask for input, since nobody would answer.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False)) and Path.cwd().name != "solutions"
