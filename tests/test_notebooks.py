"""Every lesson: its page keeps the rules, its notebooks are what its source generates, and the learner's copy runs.

Installed once, the course needs no network and nothing but its home to write to; so where bubblewrap can make such a
place, the learner's copies run in one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbgrader", reason="the lessons are built where nbgrader can be installed: Python 3.11 and newer")

from course_utils.desk import lesson
from course_utils.desk.authoring import build
from course_utils.desk.authoring.lint import lint_lesson
from course_utils.desk.grading.sandbox import is_there

LESSONS = lesson.lessons()[::-1]  # the long ones first: no process waits long for another at the end
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@each_lesson
def test_page_keeps_the_rules(path: Path) -> None:
    assert lint_lesson(path) == []


@each_lesson
def test_notebooks_are_in_step_with_their_source(path: Path) -> None:
    assert build.out_of_step(path) == []


ALONE = ["bwrap", "--unshare-net", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
RUN = """
import socket, sys
from pathlib import Path
import nbformat
from course_utils.desk.authoring import build

if "alone" in sys.argv:
    assert [name for _, name in socket.if_nameindex()] == ["lo"], "there is a network"
page = build.execute(nbformat.read(sys.argv[1], as_version=4), Path.cwd())
checks = [cell for cell in page.cells if "check" in build.tags(cell)]
assert checks
for cell in checks:
    assert "not yet" in str(cell.outputs), cell.source
"""


@each_lesson
@pytest.mark.slow
@pytest.mark.timeout(3600)  # each cell has its own, shorter limit
def test_learners_copy_runs_on_day_one_with_every_exercise_not_yet(path: Path, tmp_path: Path) -> None:
    """Its home is empty, and it runs there."""
    there = {key: value for key, value in os.environ.items() if not key.startswith(("COURSE_", "XDG_", "JUPYTER"))}
    there |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    alone = [*ALONE, "--bind", tmp_path, tmp_path, "--chdir", tmp_path] if is_there() else []
    command = [*alone, sys.executable, "-c", RUN, lesson.learner_path(path), *["alone"] * bool(alone)]
    run = subprocess.run(command, env=there, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_every_notebook_has_a_source() -> None:
    generated = {path(source) for source in LESSONS for path in (lesson.learner_path, lesson.solved_path)}
    folder = lesson.ROOT / "notebooks"
    assert {*folder.glob("*.ipynb"), *folder.glob("solutions/*.ipynb")} <= generated
