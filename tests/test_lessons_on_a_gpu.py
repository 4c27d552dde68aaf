"""Every lesson's solved code on a GPU that is not there (tests/simgpu.py): a T4, which has float16, and an A100.

No cell fails, whatever lies where; what a cell asserts holds in either arithmetic; and no check refuses the solution.
The sizes are those of a CPU, also where a lesson would do more on a GPU: this one computes on the CPU, and slowly. So
two lessons run in `make test`, one on each, and all of them on both in `make weekly`; as a learner runs them, without
the shape annotations enforced (`--no-shape-hook`).
"""

import traceback
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
import simgpu
from matplotlib import pyplot as plt
from nbformat import NotebookNode

from course_utils import exercises
from course_utils.desk.authoring.build import solved_notebook
from course_utils.desk.lesson import ROOT, lessons, tags
from course_utils.exercises import check

GPUS = {"T4": (7, 5), "A100": (8, 0)}
IS_CPU = 'lesson.device.type == "cpu"'  # how a lesson asks whether to do less
QUICK = {("00", "A100"), ("06", "T4")}  # some twenty seconds each


def cases() -> Iterator[object]:
    """Each lesson on each of them."""
    for path in lessons():
        for gpu in GPUS:
            often = [pytest.mark.slow(20)]
            seldom = [pytest.mark.weekly, pytest.mark.timeout(0)]
            marks = often if (path.stem[:2], gpu) in QUICK else seldom
            yield pytest.param(path, gpu, id=f"{path.stem[:2]}-{gpu}", marks=marks)


@pytest.mark.parametrize(("path", "gpu"), [*cases()])
def test_a_solved_lesson_runs(path: Path, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts: list[exercises.Verdict] = []
    monkeypatch.setattr(exercises, "check", lambda name, answer: verdicts.append(check(name, answer)))
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    world: dict[str, object] = {"__name__": "__main__"}
    with matplotlib.rc_context(), simgpu.installed(GPUS[gpu]):
        exec(f"from course_utils.runtime import setup\nlesson = setup('{path.stem[:2]}', seed=0)", world)
        for number, cell in enumerate(solved_notebook(path, None).cells):
            if cell.cell_type == "code" and "setup" not in tags(cell):
                run(cell, f"{path.stem}, cell {number}", world)
                assert "check" not in tags(cell) or verdicts[-1].passed, verdicts[-1]
    assert str(world["lesson"].device) == "cuda"  # type: ignore[attr-defined]


def run(cell: NotebookNode, name: str, world: dict) -> None:
    """A cell as it stands, in the lesson's names."""
    try:
        exec(compile(cell.source.replace(IS_CPU, "True"), name, "exec"), world)
    except Exception:
        pytest.fail(f"{name}:\n{cell.source}\n\n{traceback.format_exc()}")
    finally:
        plt.close("all")
