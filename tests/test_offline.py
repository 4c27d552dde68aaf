"""Installed once, the course needs no network: lessons run in a namespace without one, in a home without caches.

`make offline` runs every lesson so; here two short ones stand for them. ($LESSONS names others, such as "05 07".)
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.grading.sandbox import is_there

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CHOSEN = os.environ.get("LESSONS", "01 02").split()
LESSONS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if CHOSEN == ["all"] or path.name[:2] in CHOSEN]

RUN = """
import socket, sys, nbformat
from nbclient import NotebookClient

assert [name for _, name in socket.if_nameindex()] == ["lo"], "there is a network"
page = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(page, timeout=600, kernel_name="python3").execute()
checks = [str(cell.outputs) for cell in page.cells if "check" in cell.metadata.get("tags", [])]
assert checks and all("not yet" in said for said in checks), checks
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not is_there(), reason="this machine makes no namespaces, or has no bubblewrap to ask for them")
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs_without_a_network_a_cache_and_a_place_to_write(lesson: Path, tmp_path: Path) -> None:
    """Only its own empty home, from which it runs, can be written."""
    there = {key: value for key, value in os.environ.items() if not key.startswith(("COURSE_", "XDG_", "JUPYTER"))}
    there |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    alone = ["bwrap", "--unshare-net", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    alone += ["--bind", str(tmp_path), str(tmp_path), "--chdir", str(tmp_path)]
    run = subprocess.run([*alone, sys.executable, "-c", RUN, str(lesson)], env=there, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
