"""Every lesson: its page keeps the rules, its notebooks are what its source generates, and the learner's copy runs."""

from pathlib import Path

import pytest

pytest.importorskip("nbgrader", reason="the lessons are built where nbgrader can be installed: Python 3.11 and newer")

from course_utils.authoring import build
from course_utils.authoring.lint import lint_lesson

LESSONS = build.lessons()
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@each_lesson
def test_page_keeps_the_rules(path: Path) -> None:
    assert lint_lesson(path) == []


@each_lesson
def test_notebooks_are_in_step_with_their_source(path: Path) -> None:
    assert build.out_of_step(path) == []


@each_lesson
@pytest.mark.slow
@pytest.mark.timeout(3600)  # each cell has its own, shorter limit
def test_learners_copy_runs_on_day_one_with_every_exercise_not_yet(path: Path) -> None:
    nb = build.execute(build.learner_notebook(path, build.repository()), path.parents[1])
    for cell in nb.cells:
        if "check" in build.tags(cell):
            assert "not yet" in str(cell.outputs), cell.source


def test_every_notebook_has_a_source() -> None:
    generated = {path(lesson) for lesson in LESSONS for path in (build.learner_path, build.solved_path)}
    folder = build.ROOT / "notebooks"
    assert {*folder.glob("*.ipynb"), *folder.glob("solutions/*.ipynb")} <= generated
