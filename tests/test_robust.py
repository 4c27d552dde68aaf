"""`course bench robust`: a lesson is tried under other circumstances, and what failed is told with its line."""

import pytest
import torch
from typer.testing import CliRunner

from course_utils.desk.cli import app
from course_utils.desk.upkeep import bench, robust
from course_utils.desk.upkeep.robust import Circumstances

LESSON = """# %% [markdown]
# # 99 · A lesson
#
# Words.

# %%
import os

import torch

from course_utils.runs import pick_precision

print(lesson.seed, torch.get_num_threads(), lesson.dtype, pick_precision(lesson.device))
assert str(lesson.device) == "cpu"

# %%
assert lesson.seed == 0, "bad luck"
x = 1

# %%
assert x == 1
assert lesson.dtype == torch.float32

# %%
print(y)
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "notebooks" / "src" / "99_a_lesson.py"
    path.parent.mkdir(parents=True)
    path.write_text(LESSON, encoding="utf-8")
    return path


@pytest.mark.slow(10)
def test_a_lesson_is_tried_under_each_circumstance_and_what_failed_is_told(source, tmp_path, monkeypatch):
    runs = [Circumstances(0, 2, "float32"), Circumstances(1, 1, "bfloat16")]
    monkeypatch.setenv("MKL_NUM_THREADS", "1")  # MKL's word, as where two CPUs are one core; PyTorch follows it
    monkeypatch.setattr(robust, "lessons", lambda names: [source])
    monkeypatch.setattr(robust, "circumstances", lambda: runs)
    rows = list(robust.robust(["99"], tmp_path / "cache"))
    assert rows == [
        "99, 1 of 2: seed 0, 2 threads, float32: 3 of 4 cells hold",
        "99, 2 of 2: seed 1, 1 thread, bfloat16: 1 of 4 cells hold",
        '99, cell 3 (assert lesson.seed == 0, "bad luck") fails in 1 of 2 runs:',
        "    seed 1, 1 thread, bfloat16: AssertionError: bad luck in 'assert lesson.seed == 0, \"bad luck\"'",
        "99, cell 4 (assert x == 1) fails in 1 of 2 runs:",
        "    seed 1, 1 thread, bfloat16: NameError: name 'x' is not defined in 'assert x == 1'",
        "99, cell 5 (print(y)) fails in 2 of 2 runs:",
        "    seed 0, 2 threads, float32: NameError: name 'y' is not defined in 'print(y)'",
        "    seed 1, 1 thread, bfloat16: NameError: name 'y' is not defined in 'print(y)'",
    ]
    printed = [robust.tried(source, run, tmp_path / "cache")[0]["printed"] for run in runs]
    assert printed == ["0 2 torch.float32 torch.float32\n", "1 1 torch.bfloat16 torch.bfloat16\n"]
    monkeypatch.setattr(robust, "execute", None)  # any use of it would raise: all is in the files
    assert list(robust.robust(["99"], tmp_path / "cache")) == rows
    source.write_text(LESSON.replace("x = 1", "x = 2"), encoding="utf-8")
    with pytest.raises(TypeError):
        robust.tried(source, runs[0], tmp_path / "cache")  # another lesson now


@pytest.mark.parametrize(("able", "kinds"), [({}, {"float32"}), ({"avx512_bf16": True}, {"float32", "bfloat16"})])
def test_five_seeds_two_numbers_of_threads_and_what_the_machine_can_compute_in(able, kinds, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    runs = robust.circumstances()
    assert {(run.seed, run.threads) for run in runs} == {(seed, threads) for seed in range(5) for threads in (1, 2)}
    assert {run.precision for run in runs} == kinds
    assert len(runs) == 10 * len(kinds)


def test_a_sweep_may_be_narrowed_from_the_command_line(monkeypatch):
    asked = []
    monkeypatch.setattr(robust, "robust", lambda names, runs: asked.append((names, runs)) or iter(()))
    options = ["--seed", "1", "--seed", "3", "--threads", "1", "--precision", "float32"]
    done = CliRunner().invoke(app, ["bench", "robust", "13", "12", *options])
    assert done.exit_code == 0, done.output
    assert asked == [(("13", "12"), [Circumstances(1, 1, "float32"), Circumstances(3, 1, "float32")])]
    refused = CliRunner().invoke(app, ["bench", "sampling", "--seed", "1"])
    assert refused.exit_code == 1
    assert "for `course bench robust`" in refused.output


def test_lessons_are_timed_one_by_one_and_only_lessons_go_into_readme(monkeypatch):
    asked = []
    monkeypatch.setitem(bench.PARTS, "lessons", lambda *names, write: asked.append((names, write)) or iter(()))
    assert CliRunner().invoke(app, ["bench", "lessons", "07", "13", "--write"]).exit_code == 0
    assert asked == [(("07", "13"), True)]
    assert "for `course bench lessons`" in CliRunner().invoke(app, ["bench", "sampling", "--write"]).output
