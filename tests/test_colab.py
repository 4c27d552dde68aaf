"""Colab: its setup cell makes an empty machine ready, and what it does to a notebook does not cost a point.

Lesson 01 is set up and run in tests/test_authoring.py. `make colab` runs more so, as $LESSONS says, such as "05 10".
"""

import json
import os
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="grading needs the extra [grade]")

import test_authoring
from test_grading import ALL_RIGHT, IDS, THIS, as_bytes, grade, grades, notebook, sandboxed, solutions, statuses

from course_utils.desk.grading import intake

ROOT = Path(__file__).parents[1]
clone, machine = test_authoring.clone, test_authoring.machine  # fixtures

# ---------------------------------------------------------------- opening a lesson there


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("lesson", os.environ.get("LESSONS", "").split())
def test_a_lesson_runs_on_a_machine_that_has_pytorch_but_not_the_course(lesson, machine, clone, tmp_path):
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    empty = tmp_path / "content"
    empty.mkdir()
    there = {"COURSE_REPO": clone.as_uri(), "COLAB_RELEASE_TAG": "release-colab"}
    last = "from course_utils import exercises\nprint(exercises.__file__)\nprint(exercises.progress(lesson.id))"
    file, *said = test_authoring.run_there(machine, empty, [*cells, last], **there).splitlines()
    assert Path(file).is_relative_to(machine.parents[1])
    assert f"(0 of {len(intake.assignment(lesson).exercises)} done)" in said[0]
    assert not list(empty.iterdir())


# ---------------------------------------------------------------- handing it in from there


def as_colab_saves(nb: dict, tags_and_marks: bool) -> dict:
    """A notebook as Colab writes it: its own metadata, ids and times; sources as lines; and sometimes ours dropped."""
    saved = {"nbformat": 4, "nbformat_minor": 0, "cells": []}
    saved["metadata"] = {
        "colab": {"provenance": [], "toc_visible": True, "gpuType": "T4"},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
        "accelerator": "GPU",
        "widgets": {"application/vnd.jupyter.widget-state+json": {"8f0b": {"model_name": "HBoxModel", "state": {}}}},
    }
    for i, cell in enumerate(nb["cells"]):
        metadata = {"id": f"aB3x{i:08d}"} | (cell["metadata"] if tags_and_marks else {})
        new = {"cell_type": cell["cell_type"], "source": cell["source"].splitlines(keepends=True), "metadata": metadata}
        if cell["cell_type"] == "code":
            user = {"displayName": "Ada", "userId": "0123"}
            ran = {"status": "ok", "timestamp": 1764000000000 + i, "user_tz": -60, "elapsed": 5, "user": user}
            metadata |= {
                "executionInfo": ran,
                "outputId": f"8f0b-{i}",
                "colab": {"base_uri": "https://localhost:8080/"},
            }
            new |= {"execution_count": i, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["≈ 3 s\n"]}]}
        saved["cells"].append(new)
    return saved


def code_cell(source: str) -> dict:
    return {"cell_type": "code", "metadata": {"id": "new"}, "execution_count": None, "outputs": [], "source": source}


def is_answer(cell: dict) -> bool:
    return cell["cell_type"] == "code" and "# Exercise" in "".join(cell["source"])


def form(cell: dict) -> None:
    """A cell as a form: a title, its code hidden."""
    title = ['# @title My answer { display-mode: "form" }\n']
    cell["source"] = title + [line for line in cell["source"] if not line.startswith("# Exercise")]
    cell["metadata"]["cellView"] = "form"


@sandboxed
@pytest.mark.parametrize("lesson", ["01", "05", "10"])
@pytest.mark.parametrize("tags_and_marks", [True, False], ids=["marks kept", "marks dropped"])
def test_right_answers_count_as_colab_saves_them(lesson, tags_and_marks):
    nb = as_colab_saves(notebook(lesson, solutions(lesson)), tags_and_marks)
    assert set(grades(nb, lesson).values()) == {"right"}


@sandboxed
@pytest.mark.parametrize("tags_and_marks", [True, False], ids=["marks kept", "marks dropped"])
def test_forms_magics_and_cells_of_colabs_own_do_no_harm(tags_and_marks):
    nb = as_colab_saves(notebook(answers=solutions("01")), tags_and_marks)
    for cell in filter(is_answer, nb["cells"]):
        form(cell)
        cell["source"] = ["%%time\n", *cell["source"], "\n", "\n!nvidia-smi"]
    nb["cells"][:0] = [
        code_cell("from google.colab import drive, files\ndrive.mount('/content/drive')\n%cd /content/drive/MyDrive"),
        code_cell(
            '#@title Settings\nsteps = 50 #@param {type:"slider", min:1, max:100}\nname = \'x\' # @param ["x", "y"]'
        ),
        code_cell("%%bash\napt-get -qq install graphviz && echo done"),
        code_cell("# prompt: plot the noise\n\nplt.plot(noise)"),
    ]
    found = intake.read_submission(as_bytes(nb), "ada", THIS)
    assert "steps = 50" in found.definitions
    assert statuses(grade(found, THIS)) == ALL_RIGHT


@pytest.mark.parametrize(
    "lost",
    [["schema_version"], ["grade", "points"], ["solution", "locked", "task"], ["checksum", "cell_type"], ["grade_id"]],
    ids="-".join,
)
def test_lost_fields_of_nbgrader_cost_nothing(lost):
    nb = as_colab_saves(notebook(answers=solutions("01")), tags_and_marks=True)
    for cell in nb["cells"]:
        for field in lost:
            cell["metadata"].get("nbgrader", {}).pop(field, None)
    found = intake.read_submission(as_bytes(nb), "ada", THIS)
    assert list(found.answers) == IDS
    assert {id: text.strip() for id, text in found.answers.items()} == {
        id: text.strip() for id, text in solutions("01").items() if id in IDS
    }
    assert found.texts["01.own_words"].strip() == solutions("01")["01.own_words"].strip()
    place = ["01.own_words: found by its place, not by its cell's mark"]
    assert found.notes == (place if "grade_id" in lost else [])


@pytest.mark.parametrize(
    "name", ["Copy of 01_forward_process.ipynb", "01_forward_process (1).ipynb", "Untitled7.ipynb"]
)
def test_a_copy_in_drive_is_known_by_its_name_or_its_cells(name, tmp_path):
    nb = as_colab_saves(notebook(answers=solutions("01")), tags_and_marks=False)
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / name).write_text(json.dumps(nb), encoding="utf-8")
    log: list[str] = []
    wanted = {lesson: intake.assignment(lesson) for lesson in ("01", "02")}
    (found,) = intake.collect(tmp_path, wanted, log)
    assert (found.student, found.lesson, set(found.answers)) == ("ada", "01", set(IDS))
