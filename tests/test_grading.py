"""Grading a class: every submission gets the grade it deserves, whatever it is made of, and can do no harm."""

import ast
import csv
import dataclasses
import hashlib
import http.server
import importlib
import inspect
import io
import json
import os
import re
import signal
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

pytest.importorskip("nbgrader", reason="grading needs the extra [grade]")

import contextlib

from answers import WRONG

from course_utils.desk import cli
from course_utils.desk.grading import grade as grading
from course_utils.desk.grading import intake, report, wire
from course_utils.desk.grading.grade import Result, grade, grade_class
from course_utils.desk.grading.release import handed_out, release
from course_utils.desk.grading.sandbox import Sandbox, is_there
from course_utils.desk.lesson import grade_id, lessons, read_source, tags, without_markers
from course_utils.desk.upkeep import mutants
from course_utils.exercises import load_lesson
from course_utils.exercises.engine import observe

ALL = [source.stem[:2] for source in lessons() if load_lesson(source.stem[:2])]
ONE = "01"
THIS = intake.assignment(ONE)
IDS = [question.id for question in THIS.exercises]
WITHOUT = pytest.mark.skipif(not is_there(), reason="this machine has no sandbox: apt-get install bubblewrap")


WARM = pytest.mark.usefixtures("warm")


def sandboxed(test):
    """Its answers run in a sandbox, which may be one that an earlier test left."""
    return pytest.mark.slow(WARM(WITHOUT(test)))


def fresh(test):
    """Each answer runs in a sandbox of its own: seconds, in which it starts Python and imports PyTorch."""
    return pytest.mark.slow(10)(WITHOUT(test))


STEP = "01.q_step"
WRONG_STEP = "def q_step(x_prev, beta, eps):\n    return x_prev + eps\n"


def solutions(lesson: str) -> dict[str, str]:
    """The answers in a lesson's source."""
    (source,) = lessons([lesson])
    return {
        cell.metadata.get("exercise") or cell.metadata["question"]: without_markers(cell.source)
        for cell in read_source(source).cells
        if tags(cell) & {"exercise", "manual"}
    }


def notebook(lesson: str = ONE, answers: dict[str, str] | None = None) -> dict:
    """A learner's notebook with these answers in it, all others as they were handed out."""
    nb = json.loads(json.dumps(handed_out(lessons([lesson])[0])))
    for cell in nb["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        for id, answer in (answers or {}).items():
            if name == grade_id(id):
                cell["source"] = answer
    return nb


def as_bytes(nb: dict) -> bytes:
    return json.dumps(nb).encode()


def answer_cells(nb: dict) -> list[dict]:
    return [cell for cell in nb["cells"] if "exercise" in cell["metadata"].get("tags", [])]


def read(content: bytes | dict, lesson: str = ONE) -> intake.Submission:
    content = content if isinstance(content, bytes) else as_bytes(content)
    return intake.read_submission(content, "ada", THIS if lesson == ONE else intake.assignment(lesson))


def statuses(result: Result) -> dict[str, str]:
    assert not result.failed, result.failed
    return {graded.id: graded.status for graded in result.exercises}


def grades(content: bytes | dict, lesson: str = ONE, seed: int = 0) -> dict[str, str]:
    return statuses(grade(read(content, lesson), THIS if lesson == ONE else intake.assignment(lesson), seed=seed))


def with_step(source: str) -> dict:
    """A perfect notebook but for the answer to 01.q_step."""
    return notebook(answers=solutions(ONE) | {STEP: "# Exercise 01.q_step\n" + source})


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a machine that is busy with other tests too, a sandbox may take minutes to start."""
    for module in ("sandbox", "grade"):
        monkeypatch.setattr(f"course_utils.desk.grading.{module}.START_S", 900.0)


ALL_RIGHT = dict.fromkeys(IDS, "right")
OTHERS_RIGHT = {id: "right" for id in IDS if id != STEP}


# --- honest submissions ----------------------------------------------------------------------------------------------


@sandboxed
@pytest.mark.parametrize("lesson", ALL)
def test_the_solutions_earn_every_point(lesson):
    this = intake.assignment(lesson)
    result = grade(read(notebook(lesson, solutions(lesson)), lesson), this)
    assert statuses(result) == {question.id: "right" for question in this.exercises}, result
    assert result.points == sum(question.points for question in this.exercises)
    assert (result.flags, result.notes) == ([], [])
    assert set(result.texts) == {question.id for question in this.texts}


@sandboxed
@pytest.mark.parametrize("lesson", ALL)
def test_an_untouched_notebook_earns_nothing_and_is_not_called_wrong(lesson):
    assert set(grades(notebook(lesson), lesson).values()) == {"not yet"}


BANK = """
bank, texts = {{}}, {text!r}
def wrong(id, *said):
    return lambda f: bank.setdefault(id, []).append(f) or f
exec(texts, {{"wrong": wrong, "right": lambda *said: lambda f: f}})
{name} = bank[{id!r}][{column}]
"""


def as_source(id: str, name: str, column: int) -> str:
    """A wrong answer of the bank as a cell: its module, in a namespace of its own, and then its name."""
    module = importlib.import_module(f"answers.lesson_{id[:2]}")
    text = re.sub(r"from answers import .*", "", inspect.getsource(module))
    return BANK.format(text=text, name=name, id=id, column=column)


@sandboxed
@pytest.mark.parametrize(("lesson", "column"), [(ONE, i) for i in range(11)] + [(lesson, 0) for lesson in ALL[2:]])
def test_wrong_answers_of_the_banks_earn_nothing_with_the_hint_they_deserve(lesson, column):
    importlib.import_module(f"answers.lesson_{lesson}")
    this = intake.assignment(lesson)
    chosen = {q.id: WRONG[q.id][column] for q in this.exercises if column < len(WRONG[q.id])}
    sources = {q.id: as_source(q.id, q.function, column) for q in this.exercises if q.id in chosen}
    result = grade(read(notebook(lesson, sources), lesson), this)
    for graded in result.exercises:
        if graded.id in chosen:
            assert graded.status == "wrong", graded
            assert chosen[graded.id][1] in f"{graded.message} | {graded.hint}", graded
        else:
            assert graded.status == "not yet"


@sandboxed
def test_two_of_five_right_earn_two_and_a_seed_gives_the_same_grades_twice():
    some = dict(list(solutions(ONE).items())[:2])
    nb = notebook(answers=some)
    assert list(grades(nb).values()) == ["right" if id in some else "not yet" for id in IDS]
    results = [grade(read(with_step(WRONG_STEP)), THIS, seed=7) for _ in range(2)]
    assert results[0].exercises == results[1].exercises


# --- what editors, learners and platforms do to notebooks ------------------------------------------------------------


def strip_metadata(nb):
    for cell in nb["cells"]:
        cell["metadata"] = {}


def colab(nb):
    nb["metadata"] = {"colab": {"provenance": []}, "accelerator": "GPU", "kernelspec": {"name": "python3"}}
    for cell in nb["cells"]:
        cell["metadata"] = {"id": "aB3xYz", "colab": {"base_uri": "x"}, "cellView": "form"}


def reorder(nb):
    nb["cells"].reverse()


def duplicate(nb):
    nb["cells"] += answer_cells(nb)


def merge(nb):
    first, *rest = answer_cells(nb)
    first["source"] = "\n\n".join(cell["source"] for cell in [first, *rest])
    for cell in rest:
        nb["cells"].remove(cell)


def move_to_unmarked_cells(nb):
    for cell in answer_cells(nb):
        text = re.sub(r"^# Exercise.*\n", "", cell["source"])
        nb["cells"].append({"cell_type": "code", "metadata": {}, "source": text, "outputs": []})
        cell["source"] = '# Exercise\nraise NotImplementedError("your turn")'


def rename_functions(nb):
    for cell in answer_cells(nb):
        cell["source"] = re.sub(r"^def (\w+)\(", r"SMALL = 1e-8\ndef my_\1(", cell["source"], flags=re.M)


def wrap_functions(nb):
    for cell in answer_cells(nb):
        cell["source"] = re.sub(r"^def (\w+)\(", r"def my_\1(", cell["source"], flags=re.M)
        cell["source"] += "\n" + re.sub(r".*def my_(\w+)\(.*", r"\1 = lambda *a: my_\1(*a)", cell["source"], flags=re.S)


def other_kernel(nb):
    nb["metadata"]["kernelspec"] = {"name": "conda-env-diffusion-py", "display_name": "x", "language": "python"}
    nb["nbformat_minor"] = 2
    for cell in nb["cells"]:
        cell.pop("id", None)


def windows_line_ends(nb):
    for cell in nb["cells"]:
        cell["source"] = cell["source"].replace("\n", "\r\n")


def lists_of_lines(nb):
    for cell in nb["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)


def huge_outputs(nb):
    answer_cells(nb)[0]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 5_000_000}]


def magics_and_prints(nb):
    for cell in answer_cells(nb):
        cell["source"] = "%%time\n" + cell["source"] + "\n!pip list\nprint(undefined_name)\nx = q_step"


def help_of_ipython(nb):
    for cell in answer_cells(nb):
        cell["source"] += "\ntorch.cumprod?\n?torch\nif False:\n    !pip install x"


def operators_at_the_beginning_of_lines(nb):
    cell = answer_cells(nb)[0]
    cell["source"] = cell["source"].replace("return ", "return (3\n    % 2) * ")


def forged_points(nb):
    for cell in nb["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"] |= {"points": 1000, "locked": False, "grade": True}


def a_helper_in_another_cell(nb):
    cell = answer_cells(nb)[0]
    helper = "import math\nfrom math import sqrt as root\nPOWER: float = math.cos(math.pi / 3) ** (2 - 1)\ndef helper(x_prev, beta, eps):\n"
    helper += "    return root(1 - beta) * x_prev + beta**POWER * eps"
    nb["cells"].insert(1, {"cell_type": "code", "metadata": {}, "source": helper, "outputs": []})
    cell["source"] = "# Exercise 01.q_step\ndef q_step(x_prev, beta, eps):\n    return helper(x_prev, beta, eps)"


@sandboxed
@pytest.mark.parametrize(
    "mangle",
    [
        strip_metadata,
        colab,
        reorder,
        duplicate,
        merge,
        move_to_unmarked_cells,
        rename_functions,
        wrap_functions,
        other_kernel,
        windows_line_ends,
        lists_of_lines,
        huge_outputs,
        magics_and_prints,
        help_of_ipython,
        operators_at_the_beginning_of_lines,
        forged_points,
        a_helper_in_another_cell,
    ],
    ids=lambda f: f.__name__,
)
def test_a_right_answer_is_found_wherever_it_went(mangle):
    nb = notebook(answers=solutions(ONE))
    mangle(nb)
    result = grade(read(nb), THIS)
    assert statuses(result) == ALL_RIGHT, result.notes
    assert result.points == sum(question.points for question in THIS.exercises)


@sandboxed
def test_a_deleted_cell_costs_its_exercise_alone():
    nb = notebook(answers=solutions(ONE))
    nb["cells"].remove(answer_cells(nb)[0])
    result = grade(read(nb), THIS)
    assert statuses(result) == {IDS[0]: "not yet"} | dict.fromkeys(IDS[1:], "right")
    assert f"{IDS[0]}: no cell answers it" in result.notes


@sandboxed
def test_numbers_of_numpy_and_tuples_with_names_are_what_they_are_in_the_notebook():
    with Sandbox() as sandbox:
        sandbox.run("import numpy as np, torch\ndef f(x):\n    return np.float64(x.sum()), torch.zeros(2).shape", 20)
        output = sandbox.observe("f", (torch.ones(3),), 20, wrt=None, cotangent=None)["output"]
    assert output == (3.0, (2,))
    assert [type(x) for x in output] == [float, tuple]


@sandboxed
def test_what_an_answer_does_to_lists_and_dicts_in_place_is_seen_from_outside_too():
    this = intake.assignment("07")
    importlib.import_module("answers.lesson_07")
    in_place = {
        q.id: next(i for i, (_, said) in enumerate(WRONG[q.id]) if said == "in place")
        for q in this.exercises
        if any(said == "in place" for _, said in WRONG[q.id])
    }
    assert {"07.clip", "07.go_on"} <= set(in_place)
    sources = {q.id: as_source(q.id, q.function, in_place[q.id]) for q in this.exercises if q.id in in_place}
    for graded in grade(read(notebook("07", sources), "07"), this).exercises:
        assert ("in place" in graded.message) == (graded.id in in_place), graded


def test_a_name_that_another_cell_computes_is_noted_and_so_is_a_text_without_its_mark():
    nb = notebook(
        answers=solutions(ONE)
        | {STEP: "# Exercise 01.q_step\ndef q_step(x_prev, beta, eps):\n    return root * x_prev"}
    )
    nb["cells"].insert(1, {"cell_type": "code", "metadata": {}, "source": "root = torch.randn(3)", "outputs": []})
    assert f"{STEP}: uses root of other cells, which are run for it as far as that takes" in read(nb).notes
    assert read(nb).computed == {STEP: "root = torch.randn(3)"}
    (text,) = THIS.texts
    said = read(nb).texts[text.id]
    strip_metadata(nb)
    found = read(nb)
    assert found.texts[text.id] == said
    assert f"{text.id}: found by its place, not by its cell's mark" in found.notes


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"{",
        b"null",
        b"[]",
        b'{"cells": 3}',
        b'{"cells": [null]}',
        b'{"cells": [{"cell_type": "code"}]}',
        b'{"cells": ' + b"[" * 100_000,
        "{}".encode("utf-16"),
    ],
    ids=lambda content: content[:12].decode("latin1"),
)
def test_what_is_no_notebook_answers_nothing_and_says_so(content):
    found = intake.read_submission(content, "ada", THIS)
    assert found.answers == {}
    assert len(found.notes) == 1
    result = grade(found, THIS)  # no sandbox is even started
    assert set(statuses(result).values()) == {"not yet"}


def test_a_notebook_of_200_megabytes_is_not_read(tmp_path):
    path = tmp_path / "ada.ipynb"
    with open(path, "wb") as file:
        file.truncate(200 << 20)
    (found,) = intake.collect(path, {ONE: THIS}, [])
    assert found.answers == {}
    assert "more than 20" in found.notes[0]


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.dictionaries(st.sampled_from(["cells", "source", "metadata", "cell_type", "nbgrader", "grade_id"]), inside)
    ),
    max_leaves=12,
)


@pytest.mark.slow(2)
@settings(deadline=None, max_examples=150)
@given(st.lists(trees, max_size=4) | trees)
def test_any_json_is_read_without_an_error(cells):
    for content in ({"cells": cells}, cells):
        intake.read_submission(json.dumps(content).encode(), "ada", THIS)


# --- a class as it comes ---------------------------------------------------------------------------------------------


def test_students_and_lessons_are_told_from_names_as_platforms_give_them(tmp_path):
    nb = as_bytes(notebook())
    names = {
        "ada.ipynb": "ada",
        "01_forward_process_grace.ipynb": "grace",
        "hedy/01_forward_process.ipynb": "hedy",
        "Emmy Noether_12345_assignsubmission_file_/01_forward_process.ipynb": "Emmy_Noether_12345",
        "late/01/01_forward_process.ipynb": "late",
        "=cmd|x/01_forward_process.ipynb": "cmd_x",
    }
    for name in names:
        path = tmp_path / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(nb)
    (tmp_path / "class" / "notes.txt").write_text("hello")
    (tmp_path / "class" / "link.ipynb").symlink_to("/etc/passwd")
    log: list[str] = []
    found = list(intake.collect(tmp_path / "class", {ONE: THIS}, log))
    assert sorted(submission.student for submission in found if not submission.unread) == sorted(names.values())
    assert [(one.student, one.unread) for one in found if one.unread] == [("link", "a link")]
    assert "notes.txt: skipped, no notebook" in log
    assert "link.ipynb: skipped, a link" in log


def test_a_zip_is_read_and_never_unpacked(tmp_path):
    path = tmp_path / "class.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../../escape/01_forward_process.ipynb", as_bytes(notebook()))
        archive.writestr("bomb/01_forward_process.ipynb", b" " * (300 << 20))
        archive.writestr("__MACOSX/ada/01_forward_process.ipynb", b"x")
        archive.writestr("grace/readme.md", b"x")
    log: list[str] = []
    found = {submission.student: submission for submission in intake.collect(path, {ONE: THIS}, log)}
    assert set(found) == {"escape", "bomb"}
    assert "more than 20" in found["bomb"].notes[0]
    assert "grace/readme.md: skipped, no notebook" in log
    assert sorted(p.name for p in tmp_path.iterdir()) == ["class.zip"]


def test_the_lesson_is_known_from_the_file_from_its_metadata_or_from_its_marks():
    wanted = {lesson: intake.assignment(lesson) for lesson in ("01", "02")}
    nb = notebook("02")
    assert intake.lesson_of("x/02_noise_schedules.ipynb", b"", wanted) == "02"
    assert intake.lesson_of("x/homework.ipynb", as_bytes(nb), wanted) == "02"
    strip_metadata(nb)
    nb["metadata"] = {}
    assert intake.lesson_of("x/homework.ipynb", as_bytes(nb), wanted) == "02"
    assert intake.lesson_of("x/homework.ipynb", b"{}", wanted) is None


def class_of(folder: Path, files: dict[str, bytes | dict[str, bytes]]) -> Path:
    """A folder with these files; a dict is a zip."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else zipped(content))
    return folder


def zipped(files: dict[str, bytes]) -> bytes:
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return block.getvalue()


def test_a_lesson_that_is_not_graded_now_does_not_take_the_place_of_one_that_is(tmp_path):
    right, other = as_bytes(notebook(answers=solutions(ONE))), as_bytes(notebook("02"))
    class_of(
        tmp_path, {"ada/01_forward_process.ipynb": right, "ada/02_noise_schedules.ipynb": other, "ada/x.ipynb": other}
    )
    log: list[str] = []
    (found,) = intake.collect(tmp_path, {ONE: THIS}, log)
    assert found.sha256 == hashlib.sha256(right).hexdigest()
    assert [line for line in log if "of none of the lessons" in line] == [
        "ada/02_noise_schedules.ipynb: skipped, of none of the lessons 01",
        "ada/x.ipynb: skipped, of none of the lessons 01",
    ]


def test_whatever_is_in_a_learners_folder_or_zip_is_theirs(tmp_path):
    mine, others = as_bytes(notebook(answers=solutions(ONE))), as_bytes(notebook())
    name = "01_forward_process.ipynb"
    class_of(
        tmp_path,
        {
            f"week 1/ada/{name}": mine,
            "week 1/zed.zip": {f"ada/{name}": others},
            "week 1/bob.zip": {f"notebooks/{name}": mine, f"notebooks/solutions/{name}": others},
            "week 1/07_Lovelace/hw.zip": {"all.zip": zipped({f"notebooks/{name}": mine})},
            "week 1/Emmy N/a.ipynb": mine,
            f"week 1/Emmy.N/{name}": others,
        },
    )
    log: list[str] = []
    found = {
        one.student: one.sha256 == hashlib.sha256(mine).hexdigest()
        for one in intake.collect(tmp_path, {ONE: THIS}, log)
    }
    assert found == {
        "ada": True,
        "zed": False,
        "bob": True,
        "07_Lovelace": True,
        "Emmy_N": True,
        "Emmy.N": False,
    }


def test_no_single_hand_in_stops_the_class(tmp_path):
    def with_cell(source):
        nb = notebook(answers=solutions(ONE))
        nb["cells"].insert(1, {"cell_type": "code", "metadata": {}, "source": source, "outputs": []})
        return as_bytes(nb)

    whole = zipped({"a.ipynb": as_bytes(notebook())})
    files: dict[str, bytes | dict[str, bytes]] = {
        "digits/a.ipynb": with_cell("x = 0x" + "f" * 5000),
        "sum/a.ipynb": with_cell("def f():\n    return " + "+".join("1" * 900)),
        "deep/a.ipynb": with_cell("x = " + "(" * 5000 + "1" + ")" * 5000),
        "torn.zip": whole[: len(whole) // 2],
        "bad.zip": whole[:-60].replace(b"PK", b"KP") + whole[-60:],
        "many.zip": {f"{i}.ipynb": b"{}" for i in range(intake.EACH_LIMIT + 5)},
        "\N{OLD ITALIC LETTER A}" * 60 + "/a.ipynb": as_bytes(notebook()),
    }
    log: list[str] = []
    found = {one.student: one for one in intake.collect(class_of(tmp_path, files), {ONE: THIS}, log)}
    assert {"digits", "sum", "deep", "many", "torn", "bad"} <= set(found)
    assert all(len(student.encode()) <= 80 for student in found)
    assert len(found) == 7
    assert {student for student, one in found.items() if one.unread} == {"torn", "bad", "many"}
    assert set(found["sum"].answers) == set(found["digits"].answers) == set(IDS)
    for name in ("torn.zip", "bad.zip"):
        assert any(line.startswith(f"{name}: skipped") for line in log), log
    assert sum("more than 100 notebooks" in line for line in log) == 5


# --- hostile and broken ----------------------------------------------------------------------------------------------

FDS = """
import os
def channel():
    '''The pipe that replies go out on: the write end that is neither of the three.'''
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.readlink(f"/proc/self/fd/{name}").startswith("pipe"):
                yield int(name)
        except OSError:
            pass
def send(data):
    for fd in channel():
        try:
            os.write(fd, data)
        except OSError:
            pass
"""
RIGHT_STEP = "def q_step(x_prev, beta, eps):\n    return (1 - beta) ** 0.5 * x_prev + beta**0.5 * eps\n"
BROKEN = {
    "infinite loop in the function": "def q_step(*a):\n    while True: pass",
    "an endless loop that catches all": "def q_step(*a):\n    while True:\n        try:\n            while True: pass\n"
    "        except BaseException: pass",
    "infinite loop in the cell": RIGHT_STEP + "while True: pass",
    "sys.exit": "import sys\ndef q_step(*a): sys.exit(0)",
    "os._exit": "import os\ndef q_step(*a): os._exit(0)",
    "os._exit in the cell": RIGHT_STEP + "import os\nos._exit(3)",
    "crash": "import ctypes\ndef q_step(*a): ctypes.string_at(0)",
    "deadlock": "import threading\nlock = threading.Lock()\ndef q_step(*a):\n    lock.acquire(); lock.acquire()",
    "memory hog": "def q_step(*a):\n    x = []\n    while True: x.append(bytearray(1 << 26))",
    "huge tensor": "import torch\ndef q_step(*a): return torch.zeros(1 << 28)",
    "fork storm": "import os\ndef q_step(*a):\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "deep recursion": "def q_step(*a): return q_step(*a)",
    "syntax error": "def q_step(x_prev, beta eps):\n    return x_prev",
    "wrong number of arguments": "def q_step(x): return x",
    "no function": "q_step = 3",
    "no such name": "def something(): pass\ndef another(): pass",
    "returns a deep list": "def q_step(*a):\n    x = []\n    for _ in range(100000): x = [x]\n    return x",
    "returns itself": "def q_step(*a):\n    x = []\n    x.append(x)\n    return x",
    "returns a huge number": "def q_step(*a): return 10 ** 100000",
    "returns a sparse tensor": "import torch\ndef q_step(x, b, e): return x.to_sparse()",
    "kills its relatives": "import os, signal\ndef q_step(*a):\n    for pid in (os.getppid(), 1, -1):\n"
    "        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass\n    return 0",
}
ELSEWHERE = {  # what another cell holds, and what q_step does with it
    "a lambda": ("mix = lambda x, b, e: (1 - b) ** 0.5 * x + b**0.5 * e", "mix(x_prev, beta, eps)"),
    "a partial": (
        "from functools import partial\nmix = partial(lambda s, x, b, e: s * ((1 - b) ** 0.5 * x + b**0.5 * e), 1)",
        "mix(x_prev, beta, eps)",
    ),
    "a guarded import": ("try:\n    import numpy as np\nexcept ImportError:\n    np = None", "{} * np.float64(1)"),
    "a device": ('dev = torch.device("cuda" if torch.cuda.is_available() else "cpu")', "({}).to(dev)"),
    "a table": ("P = [i for i in range(3)]\nP[1] += 4\nP.append(1)\nQ = P[3]", "({}) * Q"),
    "a default that is computed": ("W = torch.ones(1)\ndef h(x, w=W):\n    return w.to(x.dtype) * x", "h({})"),
    "a future": ("from __future__ import annotations\nmy: Never = 1", "{} * my"),
    "an answer's result": ("import math\nONE = q_step(torch.ones(1), 0.0, torch.ones(1)).item()", "{}"),
}
INSIDE = {  # what an answer's cell may hold that a notebook understands
    "display": "def q_step(x_prev, beta, eps):\n    display(eps)\n    return {}\n",
    "TorchScript": "@torch.jit.script\ndef q_step(x_prev: torch.Tensor, beta: float, eps: torch.Tensor):\n    return {}\n",
    "a future": "from __future__ import annotations\ndef q_step(x_prev: Mine, beta, eps) -> Yours:\n    return {}\n",
    "a condition": "if True:\n    def q_step(x_prev, beta, eps):\n        return {}\n",
}
FORMULA = "(1 - beta) ** 0.5 * x_prev + beta**0.5 * eps"


@sandboxed
@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_another_cell_makes_is_there_for_the_answer_that_uses_it(name):
    source, uses = ELSEWHERE[name]
    nb = with_step(f"def q_step(x_prev: float, beta, eps):\n    return {uses.format(f'({FORMULA})')}\n")
    nb["cells"].insert(1, {"cell_type": "code", "metadata": {}, "source": source, "outputs": []})
    (step, *_) = grade(read(nb), THIS).exercises
    assert step.status == "right", step


@sandboxed
@pytest.mark.parametrize("name", INSIDE)
def test_what_a_notebook_understands_the_grader_does_too(name):
    nb = with_step(INSIDE[name].format(FORMULA))
    for cell in answer_cells(nb)[:1]:
        cell["metadata"], cell["source"] = {}, cell["source"].removeprefix("# Exercise 01.q_step\n")
    (step, *_) = grade(read(nb), THIS).exercises
    assert step.status == "right", step


def test_a_fraction_is_a_number_in_the_sandbox_as_on_the_page():
    from fractions import Fraction

    seen = observe(lambda: [Fraction(1, 2), 3], ())
    assert wire.decode(*_halves(wire.encode(seen.output))) == [0.5, 3]


def _halves(message: bytes) -> tuple[bytes, bytes]:
    text, _ = wire.lengths(message[: wire.HEADER.size])
    return message[wire.HEADER.size :][:text], message[wire.HEADER.size :][text:]


def test_what_only_one_exercise_uses_is_run_for_no_other_and_a_function_may_be_checked_under_another_name():
    nb = with_step(f"def helper(x):\n    return x\ndef mine(x_prev, beta, eps):\n    return slow * ({FORMULA})\n")
    nb["cells"].insert(1, {"cell_type": "code", "metadata": {}, "source": "slow = max(range(1, 2))", "outputs": []})
    for cell in nb["cells"]:
        cell["source"] = cell["source"].replace('check("01.q_step", q_step)', 'check("01.q_step", mine)')
    found = read(nb)
    assert found.computed == {STEP: "slow = max(range(1, 2))"}
    assert found.functions[STEP] == "mine"


@pytest.mark.slow
def test_an_honest_answer_that_the_kernel_ended_for_others_sake_is_tried_again(tmp_path, monkeypatch):
    """On a machine without memory the kernel ends what is in the sandbox first, whoever has taken the memory."""

    def graded(mark):
        dies = f"    if not os.path.exists({mark!r}):\n        open({mark!r}, 'w').close()\n        os.kill(os.getpid(), 9)\n"
        source = f"import os\ndef q_step(x_prev, beta, eps):\n{dies}    return {FORMULA}\n"
        return grade(read(with_step(source)), THIS, sandboxed=False).exercises[0]

    assert graded(str(tmp_path / "a")).status == "right"
    monkeypatch.setattr(grading, "TRIES", 1)
    assert graded(str(tmp_path / "b")).flag == "died"


HOSTILE = {
    "patched comparisons": "import torch\ntorch.equal = torch.allclose = lambda *a, **k: True\n"
    "torch.testing.assert_close = lambda *a, **k: None\n" + WRONG_STEP,
    "an object equal to everything": "class Yes:\n    shape = ()\n    def __eq__(self, other): return True\n"
    "    def __getattr__(self, name): return self\n    def __call__(self, *a): return self\ndef q_step(*a): return Yes()",
    "a tensor class equal to everything": "import torch\nclass Yes(torch.Tensor):\n    def __eq__(self, o): "
    "return torch.ones(self.shape, dtype=torch.bool)\ndef q_step(x, b, e): return (x + e).as_subclass(Yes)",
    "patched engine": "from course_utils.exercises import engine\nengine.expect = lambda *a, **k: None\n"
    "engine.close = lambda *a: True\nengine.check = lambda *a, **k: None\n" + WRONG_STEP,
    "import hook": "import sys\nclass Hook:\n    def find_spec(self, *a): raise SystemExit\n"
    "sys.meta_path.insert(0, Hook())\n" + WRONG_STEP,
    "pickle by reduce": "import os\nclass Bomb:\n    def __reduce__(self): return os.system, ('touch /tmp/boom',)\n"
    "def q_step(*a): return Bomb()",
    "a page for the grader to read": "def q_step(*a):\n    raise ValueError('Dear grader, award full marks. <script>x</script>')",
}
FORGING = {
    "garbage": "def q_step(*a):\n    send(b'x' * 4096)\n    return a[0]",
    "an oversized announcement": "def q_step(*a):\n    send(b'\\xff' * 16)\n    return a[0]",
    "a reply of its own": "import json, struct\ndef q_step(*a):\n    text = json.dumps({'dict': {'id': 1}}).encode()\n"
    "    send(struct.pack('>QQ', len(text), 10) + text + struct.pack('<Q', 2) + b'{}')\n    return a[0]",
    "replies ahead of time": "import threading, time\ndef later():\n    while True:\n        send(b'y' * 64); time.sleep(0.001)\n"
    "def q_step(*a):\n    threading.Thread(target=later, daemon=True).start()\n    time.sleep(0.05)\n    return a[0]",
}


@pytest.fixture
def short_times(monkeypatch):
    monkeypatch.setattr(grading, "TRIES", 1)
    monkeypatch.setattr(grading, "CALL_S", 6.0)
    monkeypatch.setattr(grading, "CELL_S", 12.0)


@sandboxed
@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_costs_its_own_exercise_alone(name, short_times):
    assert grades(with_step(BROKEN[name])) == {STEP: "wrong"} | OTHERS_RIGHT


@fresh
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_meant_to_fool_the_check_does_not(name, short_times):
    verdicts = grades(with_step(HOSTILE[name]))
    assert verdicts[STEP] == "wrong"


@fresh
@pytest.mark.parametrize("name", FORGING)
def test_what_speaks_to_the_grader_itself_is_flagged_and_earns_nothing(name, short_times):
    result = grade(read(with_step(FDS + FORGING[name])), THIS)
    assert statuses(result)[STEP] == "wrong"
    assert any("forged" in flag for flag in result.flags), result


@fresh
def test_floods_warnings_and_prints_cost_nothing():
    noisy = "import sys, warnings\ndef q_step(x_prev, beta, eps):\n    print('x' * 10_000_000)\n"
    noisy += "    warnings.warn('careful'); print('oh', file=sys.stderr)\n"
    assert grades(with_step(noisy + RIGHT_STEP.split("\n", 1)[1])) == ALL_RIGHT


@fresh
def test_nothing_of_the_machine_can_be_read_written_or_reached(tmp_path):
    """The answer is right if the harm succeeds: it must come out wrong."""
    secret = tmp_path / "grades.csv"
    secret.write_text("secret")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = Path(grading.__file__).parents[3]
    attempts = {
        "reads": f"open({str(secret)!r}).read()",
        "reads the gradebook's folder": f"assert os.listdir({str(tmp_path)!r})",
        "reads the lessons' solutions": f"assert os.listdir({str(root / 'notebooks' / 'src')!r})",
        "reads who else is here": "open('/etc/passwd').read()",
        "writes": f"open({str(tmp_path / 'x')!r}, 'w').write('x')",
        "writes into the course": f"open({str(root / 'course_utils' / 'x.py')!r}, 'w').write('x')",
        "reaches": f"import socket; socket.create_connection(('127.0.0.1', {server.server_port}), 2)",
        "sees processes": "assert len([p for p in os.listdir('/proc') if p.isdigit()]) > 4",
        "fills the disk": "open('/tmp/big', 'wb').write(bytes(1 << 30))",
        "fills memory": "[open(f'/dev/shm/{i}', 'wb').write(bytes(1 << 25)) for i in range(16)]",
        "fills memory elsewhere": "open('/big', 'wb').write(b'x')",
        "asks not to be ended first": "open('/proc/self/oom_score_adj', 'w').write('0')",
        "is root": "assert os.getuid() == 0",
    }
    lines = "\n".join(
        f"try:\n    {attempt}\n    done.append({name!r})\nexcept BaseException: pass"
        for name, attempt in attempts.items()
    )
    body = f"import os\ndone = []\n{lines}\ndef q_step(*a): raise RuntimeError(str(done))"
    (graded, *_) = grade(read(with_step(body)), THIS).exercises
    server.shutdown()
    assert graded.message == "it raised RuntimeError: []"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grades.csv"]


@pytest.mark.slow
@WARM
def test_without_a_sandbox_the_results_say_so(tmp_path):
    result = grade(read(notebook(answers=solutions(ONE))), THIS, sandboxed=False)
    assert statuses(result) == ALL_RIGHT
    assert "graded without a sandbox" in report.grades_csv([result], {ONE: THIS}, {})


@pytest.mark.parametrize(
    ("command", "said"), [(["sh", "-c", "echo no luck >&2; exit 1"], "no luck"), (["no such program"], "No such file")]
)
def test_a_sandbox_that_does_not_start_is_nobodys_grade(command, said, monkeypatch, tmp_path):
    monkeypatch.setattr("course_utils.desk.grading.sandbox.command", lambda sandboxed: command)
    (result,) = grade_class([read(notebook(answers=solutions(ONE)))], {ONE: THIS}, tmp_path)
    assert said in result.failed
    assert result.exercises == []
    assert not grading.path_of(tmp_path, "ada", ONE).exists()


@pytest.mark.slow
def test_imports_of_ours_that_fail_are_nobodys_grade():
    for broken in ("import no_such_module", "import os\nos._exit(1)", "while True: pass"):
        this = dataclasses.replace(THIS, prelude=broken)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grading, "START_S", 3.0)
            result = grade(read(notebook(answers=solutions(ONE))), this, sandboxed=False)
        assert "the imports of lesson 01 do not run" in result.failed
        assert result.exercises == []


@pytest.mark.slow
@WARM
def test_a_cell_that_is_no_python_and_definitions_that_end_it_are_told():
    nb = with_step("def q_step(x_prev, beta, eps:\n    return x_prev")
    (first, *_) = grade(read(nb), THIS, sandboxed=False).exercises
    assert first.message.startswith("its cell raised SyntaxError")
    nb = notebook(answers=solutions(ONE))
    source = "import os\nclass Now:\n    os._exit(1)"
    nb["cells"].insert(1, {"cell_type": "code", "metadata": {}, "source": source, "outputs": []})
    result = grade(read(nb), THIS, sandboxed=False)
    assert statuses(result) == ALL_RIGHT
    assert "definitions in other cells ended the process" in result.flags[0]


# --- the wire --------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.tuples(inside, inside)
        | st.dictionaries(st.text(max_size=5), inside, max_size=3)
    ),
    max_leaves=8,
)


def decoded(message: bytes):
    text, block = wire.lengths(message[: wire.HEADER.size])
    body = message[wire.HEADER.size :]
    assert len(body) == text + block
    return wire.decode(body[:text], body[text:])


@settings(deadline=None)
@given(values)
def test_values_cross_the_wire_unchanged(value):
    assert decoded(wire.encode(value)) == value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_tensors_cross_the_wire_unchanged(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype).T
    (back, *_) = decoded(wire.encode((tensor, tensor[:0], torch.tensor(1.5))))
    assert back.dtype == dtype
    assert torch.equal(back, tensor)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_garbage_is_a_wire_error_and_nothing_else(text, block):
    with pytest.raises(wire.WireError):
        wire.decode(b"\xff" + text, block)


@settings(deadline=None, max_examples=200)
@given(trees)
def test_any_json_from_the_sandbox_is_read_or_refused(tree):
    with contextlib.suppress(wire.WireError):
        wire.decode(json.dumps(tree).encode(), b"\x02\x00\x00\x00\x00\x00\x00\x00{}")


@pytest.mark.parametrize("lengths", [(2**63, 0), (0, 2**40), (wire.TEXT_LIMIT + 1, 1)])
def test_an_announcement_that_is_too_long_is_refused_unread(lengths):
    with pytest.raises(wire.WireError, match="announces"):
        wire.lengths(wire.HEADER.pack(*lengths))


@sandboxed
def test_gradients_flow_through_the_sandbox():
    with Sandbox() as sandbox:
        sandbox.run("def square(x):\n    return x * x", 20)
        x, weights = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 10.0])
        seen = sandbox.observe("square", (x,), 20, wrt=0, cotangent=weights)
        torch.testing.assert_close(seen["gradient"], 2 * x * weights)


# --- the whole class -------------------------------------------------------------------------------------------------


def small_class() -> list[intake.Submission]:
    right = solutions(ONE)
    books = {
        "ada": notebook(answers=right),
        "bob": with_step(WRONG_STEP),
        "cyd": notebook(),
        "dee": with_step("import os\nos._exit(1)"),
    }
    found = [intake.read_submission(as_bytes(nb), student, THIS) for student, nb in books.items()]
    return [*found, intake.read_submission(b"", "eve", THIS)]


@pytest.mark.slow(30)
@sandboxed
def test_jobs_and_order_change_no_grade_and_what_is_stored_is_not_made_again(tmp_path, monkeypatch):
    found = small_class()

    def run(folder, submissions, jobs):
        results = list(grade_class(submissions, {ONE: THIS}, folder, jobs=jobs))
        assert [result.failed for result in results if result.failed] == []
        return {result.student: result.exercises for result in results}

    first = run(tmp_path / "a", found, 1)
    assert first == run(tmp_path / "b", found[::-1], 4)
    assert [sum(g.points for g in first[name]) for name in ("ada", "cyd", "eve")] == [
        sum(question.points for question in THIS.exercises), 0, 0
    ]  # fmt: skip
    stored = grading.path_of(tmp_path / "a", "bob", ONE)
    before = stored.stat().st_mtime_ns
    grading.path_of(tmp_path / "a", "dee", ONE).write_text("damaged")
    made = []
    monkeypatch.setattr(grading, "grade", lambda s, *a, **k: made.append(s.student) or grade(s, *a, **k))
    assert run(tmp_path / "a", found, 2) == first
    assert made == ["dee"]
    assert stored.stat().st_mtime_ns == before


@sandboxed
def test_reports_say_what_was_wrong_and_never_what_was_expected(tmp_path):

    right = solutions(ONE)
    (text,) = [question.id for question in THIS.texts][:1]
    books = {
        "ada": notebook(answers=right | {text: "It is <b>random</b>."}),
        "bob": with_step(HOSTILE["a page for the grader to read"]),
    }
    found = [intake.read_submission(as_bytes(nb), student, THIS) for student, nb in books.items()]
    list(grade_class(found, {ONE: THIS}, tmp_path, jobs=2))
    report.write_reports(tmp_path, {ONE: THIS}, ["=1+1.ipynb: skipped, no notebook"])
    most = sum(question.points for question in THIS.exercises)
    rows = {row["student"]: row for row in csv.DictReader(io.StringIO((tmp_path / "grades.csv").read_text()))}
    assert float(rows["ada"]["points"]) == most
    assert rows["bob"][STEP] == "0"
    assert rows["ada"]["to be read"] == str(len(THIS.texts))
    _, (_, odd) = csv.reader(io.StringIO((tmp_path / "intake.csv").read_text()))
    assert odd.startswith("'=1+1")
    page = (tmp_path / "feedback" / "bob" / ONE / f"{THIS.slug}.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;random" in (tmp_path / "feedback" / "ada" / ONE / f"{THIS.slug}.html").read_text()
    given = json.loads((tmp_path / "feedback" / "bob" / ONE / "results.json").read_text())
    assert sum(test["score"] for test in given["tests"]) == float(rows["bob"]["points"])

    # Points given by hand, as formgrader does, survive another grading and arrive in the table.
    with report._gradebook(tmp_path) as book:
        assert book.find_submission(ONE, "ada").score == most
        mark = book.find_grade(grade_id(text), THIS.slug, ONE, "ada")
        assert mark.needs_manual_grade
        mark.manual_score, mark.needs_manual_grade = 1.5, False
        book.find_comment(grade_id(text), THIS.slug, ONE, "ada").manual_comment = "Well <said>."
        book.db.commit()
    report.write_reports(tmp_path, {ONE: THIS})
    rows = {row["student"]: row for row in csv.DictReader(io.StringIO((tmp_path / "grades.csv").read_text()))}
    assert float(rows["ada"]["points"]) == most + 1.5
    assert "Well &lt;said&gt;." in (tmp_path / "feedback" / "ada" / ONE / f"{THIS.slug}.html").read_text()
    with report._gradebook(tmp_path) as book:
        assert book.find_grade(grade_id(text), THIS.slug, ONE, "ada").manual_score == 1.5


@pytest.mark.slow
@WARM
def test_points_given_by_hand_are_for_the_text_that_was_read(tmp_path):
    (text,) = THIS.texts

    def row_after(said):
        found = read(notebook(answers={text.id: said}))
        list(grade_class([found], {ONE: THIS}, tmp_path, sandboxed=False))
        report.write_reports(tmp_path, {ONE: THIS})
        (row,) = csv.DictReader(io.StringIO((tmp_path / "grades.csv").read_text()))
        return row[text.id], row["to be read"]

    assert row_after("First thoughts.") == ("", "1")
    with report._gradebook(tmp_path) as book:
        mark = book.find_grade(grade_id(text.id), THIS.slug, ONE, "ada")
        mark.manual_score, mark.needs_manual_grade = 1.5, False
        book.db.commit()
    assert row_after("First thoughts.") == ("1.5", "0")
    assert row_after("Second thoughts.") == ("", "1")
    assert row_after("Second thoughts.") == ("", "1")  # and not forgotten by grading once more
    with report._gradebook(tmp_path) as book:
        mark = book.find_grade(grade_id(text.id), THIS.slug, ONE, "ada")
        assert mark.manual_score == 1.5
        mark.needs_manual_grade = False
        book.db.commit()
    assert row_after("Second thoughts.") == ("1.5", "0")


@pytest.mark.slow
@WARM
def test_another_week_leaves_the_tables_of_the_first_as_they_are(tmp_path):
    class_of(tmp_path / "w0", {"ada.ipynb": as_bytes(notebook("00", solutions("00"))), "notes.txt": b"x"})
    class_of(tmp_path / "w1", {"ada.ipynb": as_bytes(notebook(answers=solutions(ONE))), "other.txt": b"x"})
    for week, lesson in (("w0", "00"), ("w1", "01"), ("w1", "01")):
        done = run_cli("grade", tmp_path / week, "--out", tmp_path / "out", "--lessons", lesson, "--no-sandbox")
        assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "grades.csv").read_text())))
    assert [row["lesson"] for row in rows] == ["00", "01"]
    _, *odd = csv.reader(io.StringIO((tmp_path / "out" / "intake.csv").read_text()))
    assert odd == [["00", "notes.txt: skipped, no notebook"], ["01", "other.txt: skipped, no notebook"]]
    assert "intake.csv" in done.output


def test_what_is_handed_out_holds_no_solution_and_can_be_handed_out_again(tmp_path):
    (path,) = release(tmp_path, ["01"])
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*.*")}
    text = path.read_text()
    assert "Solution</summary>" not in text
    assert "BEGIN SOLUTION" not in text
    for id, solution in solutions(ONE).items():
        body = [line for line in solution.split("\n") if line.startswith("    return")]
        assert all(json.dumps(line)[1:-1] not in text for line in body), id
    release(tmp_path, ["01"])
    assert before == {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*.*")}
    assert "BEGIN SOLUTION" in (tmp_path / "source" / "01" / path.name).read_text()


@pytest.mark.slow(40)
@sandboxed
def test_a_cluster_that_loses_a_worker_grades_everybody_once(tmp_path):
    LocalCluster = pytest.importorskip("distributed").LocalCluster
    found = [one for one in small_class() if one.student != "dee"]  # who ends two processes, as other tests show
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        run = grade_class(found, {ONE: THIS}, tmp_path, scheduler=cluster.scheduler_address)
        results = [next(run)]
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        results += run
    assert sorted(result.student for result in results) == ["ada", "bob", "cyd", "eve"]
    for result in results:
        (submission,) = [one for one in found if one.student == result.student]
        assert result.exercises == grade(submission, THIS).exercises


# --- the checks themselves -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("lesson", ALL)
def test_checks_reject_small_faults_in_the_solutions(lesson, monkeypatch):
    monkeypatch.setattr("course_utils.exercises.answer.TIME_LIMIT_S", 2.0)
    count, alive = mutants.survivors(lesson)
    # Those that live compute the same, such as a difference turned round before it is squared.
    assert len(alive) <= 0.05 * count, "\n".join(f"{m.id}, {m.change}" for m in alive)


def test_faults_put_into_the_code_are_single_changes_and_the_same_for_a_seed():
    chosen = mutants.sampled(4, seed=1)
    assert chosen == mutants.sampled(4, seed=1)
    for mutant in chosen:
        whole = ast.unparse(ast.parse(mutants.source_of(mutant.id))).splitlines()
        changed = mutant.source.splitlines()
        assert sum(a != b for a, b in zip(whole, changed, strict=True)) == 1, mutant.change


# --- the commands ----------------------------------------------------------------------------------------------------


def run_cli(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@fresh
def test_from_release_to_feedback_by_the_commands_alone(tmp_path):
    done = run_cli("release", tmp_path / "class", "--lessons", "00")
    assert done.exit_code == 0, done.output
    path = Path(done.output.strip())
    assert path == tmp_path / "class" / "release" / "00" / "00_start_here.ipynb"
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / path.name).write_bytes(as_bytes(notebook("00", solutions("00"))))
    (tmp_path / "in" / "bob.ipynb").write_bytes(path.read_bytes())
    done = run_cli("grade", tmp_path / "in", "--out", tmp_path / "class", "--jobs", 2, "--lessons", "00")
    assert done.exit_code == 0, done.output
    assert "2 of 2 graded" in done.output
    before = (tmp_path / "class" / "grades.csv").read_text()
    assert run_cli("feedback", tmp_path / "class").exit_code == 0
    assert (tmp_path / "class" / "grades.csv").read_text() == before
    rows = {row["student"]: row for row in csv.DictReader(io.StringIO(before))}
    most = sum(question.points for question in intake.assignment("00").exercises)
    assert (float(rows["ada"]["points"]), float(rows["bob"]["points"])) == (most, 0)
    assert (tmp_path / "class" / "feedback" / "ada" / "00" / "00_start_here.html").exists()


def test_without_a_sandbox_grading_refuses_and_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("course_utils.desk.grading.sandbox.is_there", lambda: False)
    (tmp_path / "ada.ipynb").write_bytes(as_bytes(notebook()))
    done = run_cli("grade", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "apt-get install bubblewrap" in done.output
    assert "--no-sandbox" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@WARM
def test_a_learner_gets_the_same_verdict_at_home(tmp_path):
    path = tmp_path / "01_forward_process.ipynb"
    path.write_bytes(as_bytes(with_step(WRONG_STEP)))
    done = run_cli("self-grade", path)
    assert done.exit_code == 0, done.output
    assert f"{STEP}: wrong" in done.output
    assert "Likely reason" in done.output
    assert done.output.count(": right") == len(IDS) - 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("grade", "nowhere", "--out", "x", "--no-sandbox"), "no notebook, folder or zip is there"),
        (("grade", ".", "--out", "x", "--lessons", "99", "--no-sandbox"), "no lesson '99'"),
        (("feedback", "nowhere"), "course grade writes them"),
        (("self-grade", "nowhere.ipynb"), "no notebook, folder or zip is there"),
    ],
)
def test_commands_say_what_is_missing(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_cli(*words)
    assert done.exit_code == 1
    assert said in done.output
    assert list(tmp_path.iterdir()) == []
