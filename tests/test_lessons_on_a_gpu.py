"""Every lesson's solved code on a GPU that is not there (tests/simgpu.py): a T4, which has float16, and an A100.

No cell fails, whatever lies where; what a cell asserts holds in either arithmetic; and each check passes the solution.
The sizes are those of a CPU, also where a lesson would do more on a GPU: this one computes on the CPU, and slowly.
"""

import traceback
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
import simgpu
from matplotlib import pyplot as plt
from nbformat import NotebookNode

from course_utils.desk.authoring.build import solved_notebook
from course_utils.desk.lesson import ROOT, lessons, tags

T4, A100 = (7, 5), (8, 0)
IS_CPU = 'lesson.device.type == "cpu"'  # how a lesson asks whether to do less
SECONDS: dict[str, float] = {}
QUICK: tuple[str, ...] = ()


def cases() -> Iterator[object]:
    for path in lessons():
        for name, capability in (("T4", T4), ("A100", A100)):
            yield pytest.param(path, capability, id=f"{path.stem[:2]}-{name}")


@pytest.mark.parametrize(("path", "capability"), cases())
def test_a_solved_lesson_runs(path: Path, capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr(plt, "show", lambda: None)
    world: dict[str, object] = {"__name__": "__main__"}
    with matplotlib.rc_context(), simgpu.installed(capability):
        exec(f"from course_utils.runtime import setup\nlesson = setup('{path.stem[:2]}', seed=0)", world)
        for number, cell in enumerate(solved_notebook(path, None).cells):
            if cell.cell_type == "code" and "setup" not in tags(cell):
                run(cell, f"{path.stem}, cell {number}", world)
    assert "✘" not in capsys.readouterr().out


def run(cell: NotebookNode, name: str, world: dict) -> None:
    try:
        exec(compile(cell.source.replace(IS_CPU, "True"), name, "exec"), world)
    except Exception:
        pytest.fail(f"{name}:\n{cell.source}\n\n{traceback.format_exc()}")
    finally:
        plt.close("all")
