"""One source becomes two notebooks: nothing leaks, drifts or is half-written, and every rule of the page bites."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="the lessons are built where nbgrader can be installed: Python 3.11 and newer")

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.utils import compute_checksum

from course_utils.desk.authoring import build
from course_utils.desk.authoring.build import as_text
from course_utils.desk.authoring.lint import lint_lesson
from course_utils.desk.lesson import STUB, LessonError, learner_path, lessons, solved_path

ROOT = Path(__file__).parents[1]
REPO = "https://github.com/someone/course"
SOURCE = r'''# %% [markdown]
# # 01 · Tiny
# How much is two and two? 5 minutes to read and run, 2 to solve.

# %% tags=["fold"]
# @title Imports
import time

import matplotlib.pyplot as plt
from ipywidgets import IntSlider

from course_utils.plotting import show
from course_utils.runtime import varies


def check(exercise: str, function) -> str:  # stands in for course_utils.exercises
    try:
        return f"{exercise}: {'right' if function(2) == 4 else 'wrong'}"
    except NotImplementedError:
        return f"{exercise}: not yet"


# %% [markdown]
# ## 1 · Doubling
# $$ y = 2 x \tag{1.1} $$
#
# *2 minutes · easy.* Write it.


# %% tags=["exercise"] exercise="01.double" points=2
# Exercise 01.double
def double(x: int) -> int:
    """Twice x."""
    ### BEGIN SOLUTION
    secret = 2
    return secret * x
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>Add it to itself.</details>

# %% tags=["check"]
check("01.double", double)

# %% [markdown]
# The equation at work.

# %% tags=["figure"]
# Eq. (1.1)
figure, axes = plt.subplots(figsize=(2, 1))
axes.plot([0, 2, 4])
show(figure, "A line that rises by two at every step.")

# %% [markdown]
# Again, with other numbers.


# %% tags=["exercise"] exercise="01.square" points=1
# Exercise 01.square
def square(x: int) -> int:
    ### BEGIN SOLUTION
    return x**2
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>Times itself.</details>

# %% tags=["check"]
check("01.square", square)

# %% [markdown]
# And once more.


# %% tags=["exercise"] exercise="01.four" points=1.5
# Exercise 01.four
def four(x: int) -> int:
    ### BEGIN SOLUTION
    return 4
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>Which number is it?</details>

# %% tags=["check"]
check("01.four", four)

# %% [markdown]
# ## 2 · What usually goes wrong
# Clocks.

# %%
print("before")
varies("now", time.perf_counter())
print("after")

# %% [markdown]
# Move it.

# %% tags=["widget", "fold"]
# @title A slider
IntSlider(3)

# %% [markdown]
# Here every output may differ.

# %% tags=["varies"]
print(time.perf_counter())

# %% [markdown] tags=["manual"] question="01.own_words" points=3
# In your own words: why four?
#
# ### BEGIN SOLUTION
# Because a model answer says so.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# Three points for naming both twos.
'''


def write_lesson(folder: Path, source: str = SOURCE) -> Path:
    path = folder / "notebooks" / "src" / "01_tiny.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return path


def edited(*replacements: tuple[str, str]) -> str:
    source = SOURCE
    for old, new in replacements:
        assert source.count(old) >= 1, old
        source = source.replace(old, new)
    return source


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    return write_lesson(tmp_path)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built lesson; tests that change it take a copy (`built`)."""
    path = write_lesson(tmp_path_factory.mktemp("lesson"))
    assert build.build_lesson(path, repo_url=REPO) == "executed"
    return path


@pytest.fixture
def built(executed: Path, tmp_path: Path) -> Path:
    shutil.copytree(executed.parents[1], tmp_path / "notebooks")
    return tmp_path / "notebooks" / "src" / executed.name


def files(path: Path) -> dict[str, bytes]:
    """Everything that lies in a lesson's folders, hidden files too."""
    return {str(p.relative_to(path.parents[1])): p.read_bytes() for p in path.parents[1].rglob("*") if p.is_file()}


def tagged(nb: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nb.cells if tag in cell.metadata.get("tags", [])]


# ---------------------------------------------------------------- the learner's copy


def test_exercises_are_blank_and_say_so(lesson: Path) -> None:
    nb = build.learner_notebook(lesson, REPO)
    double, *_ = tagged(nb, "exercise")
    assert double.source == (
        "# Exercise 01.double\n"
        "def double(x: int) -> int:\n"
        '    """Twice x."""\n'
        '    raise NotImplementedError("your turn")'
    )
    (manual,) = tagged(nb, "manual")
    assert manual.source == "In your own words: why four?\n\n*Your answer here.*"


def test_no_solution_leaks_but_into_its_fold(lesson: Path) -> None:
    nb = build.learner_notebook(lesson, REPO)
    unfolded = "\n".join(cell.source for cell in nb.cells if "solution-fold" not in cell.metadata.get("tags", []))
    for leak in ("secret", "x**2", "return 4", "model answer", "naming both twos", "BEGIN SOLUTION", "END SOLUTION"):
        assert leak not in unfolded, leak
    assert not tagged(nb, "rubric")
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in nb.cells)


def test_each_check_is_followed_by_its_own_solution_folded(lesson: Path) -> None:
    nb = build.learner_notebook(lesson, REPO)
    after = {cell.metadata.exercise: nb.cells[i + 1] for i, cell in enumerate(nb.cells) if cell in tagged(nb, "check")}
    solutions = {"01.double": "return secret * x", "01.square": "return x**2", "01.four": "return 4"}
    assert after.keys() == solutions.keys()
    for exercise, line in solutions.items():
        fold = after[exercise].source
        assert fold.startswith("<details><summary>Solution</summary>\n\n```python\n# Exercise " + exercise)
        assert line in fold
        assert fold.endswith("\n```\n\n</details>")


def test_the_solved_copy_has_the_code_without_its_markers(lesson: Path) -> None:
    nb = build.solved_notebook(lesson, REPO)
    double, *_ = tagged(nb, "exercise")
    assert double.source.endswith('"""Twice x."""\n    secret = 2\n    return secret * x')
    assert tagged(nb, "manual")[0].source.endswith("\n\nBecause a model answer says so.")
    assert len(tagged(nb, "rubric")) == 1
    assert not tagged(nb, "solution-fold")
    assert "SOLUTION" not in as_text(nb)


def test_nbgrader_accepts_the_grading_metadata(lesson: Path) -> None:
    for nb in (build.learner_notebook(lesson, REPO), build.solved_notebook(lesson, REPO)):
        MetadataValidator().validate_nb(nb)
        meta = {
            cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader for cell in nb.cells if "nbgrader" in cell.metadata
        }
        flags = {name: (m.grade, m.solution, m.locked, m.get("points")) for name, m in meta.items()}
        assert flags == {
            "01-double": (False, True, False, None),
            "01-double-check": (True, False, True, 2),
            "01-square": (False, True, False, None),
            "01-square-check": (True, False, True, 1),
            "01-four": (False, True, False, None),
            "01-four-check": (True, False, True, 1.5),
            "01-own_words": (True, True, False, 3),
        }


def test_learners_checks_are_locked_and_checksummed(lesson: Path) -> None:
    graded = [cell for cell in build.learner_notebook(lesson, REPO).cells if "nbgrader" in cell.metadata]
    assert all(cell.metadata.nbgrader.checksum == compute_checksum(cell) for cell in graded)
    assert all(cell.metadata.deletable is False for cell in graded)
    assert [cell.metadata.get("editable", True) for cell in graded] == [True, False] * 3 + [True]


@pytest.mark.slow
def test_no_dialog_and_no_version_number_greets_the_learner(built: Path) -> None:
    for path in (learner_path(built), solved_path(built)):
        metadata = nbformat.read(path, as_version=4).metadata
        assert metadata.kernelspec.name == "python3"
        assert "version" not in metadata.language_info
        sha256 = hashlib.sha256(built.read_bytes()).hexdigest()
        assert metadata.course == {"lesson": "01", "source_sha256": sha256, "built_with": build.GENERATOR}
        assert set(metadata) == {"course", "kernelspec", "language_info"}


def test_badge_opens_this_notebook_of_this_repository(lesson: Path) -> None:
    learner, solved = (make(lesson, REPO).cells[0].source for make in (build.learner_notebook, build.solved_notebook))
    colab = "[Open in Colab](https://colab.research.google.com/github/someone/course/blob/main/notebooks/"
    assert learner.startswith("# 01 · Tiny")
    assert learner.endswith(f"\n\n{colab}01_tiny.ipynb)")
    assert solved.endswith(f"\n\n{colab}solutions/01_tiny.ipynb)")
    assert "![" not in learner + solved, "a picture from elsewhere is broken without a network"
    elsewhere = build.learner_notebook(lesson, "file:///somewhere/course").cells[0].source
    assert elsewhere.endswith("*Colab opens notebooks from GitHub alone.*")


NOT_SET = "https://not-set.invalid/course"


def test_without_an_address_badge_and_setup_cell_say_what_to_do(lesson: Path) -> None:
    """Nobody can register a name that ends in .invalid, and no link or cell leads to one."""
    opening, setup = build.learner_notebook(lesson, NOT_SET).cells[:2]
    assert "make lessons REPO=https://" in opening.source
    assert "](" not in opening.source
    assert ".invalid" not in setup.source
    page = "| [01 Tiny](notebooks/01_tiny.ipynb) | How much? | 1 s | anything |\n"
    unset = build.with_badges(page, NOT_SET)
    assert "| – |" in unset  # the README says once, below, what to do
    named = build.with_badges(unset, REPO)
    assert "| 1 s | [Open in Colab](https://colab.research.google.com/github/someone/course/blob/main/" in named
    assert build.with_badges(named, NOT_SET) == unset
    assert build.has_address("https://github.com/invalid/course.invalid")


def test_the_setup_cell_without_an_address_stops_in_words(lesson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = build.learner_notebook(lesson, NOT_SET).cells[1].source
    source = re.sub(r"(?m)^( *)!.*", r"\1installed.append(repo)", source.partition("from course_utils")[0])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("COURSE_REPO", raising=False)
    installed: list[str] = []
    with pytest.raises(AssertionError, match=r"no address; make lessons REPO=https://… gives it one"):
        exec(source, {"installed": installed})
    monkeypatch.setenv("COURSE_REPO", REPO)
    exec(source, {"installed": installed})
    assert installed == [REPO]


def test_what_is_folded_is_folded_wherever_it_is_read(lesson: Path) -> None:
    for nb in (build.learner_notebook(lesson, REPO), build.solved_notebook(lesson, REPO)):
        folded = tagged(nb, "fold")
        assert [cell.source.split("\n")[0][:14] for cell in folded] == [
            "# @title Setup",
            "# @title Impor",
            "# @title A sli",
        ]
        for cell in nb.cells:
            marks = (cell.metadata.get("jupyter"), cell.metadata.get("cellView"), cell in tagged(nb, "hide-input"))
            assert marks == (({"source_hidden": True}, "form", True) if cell in folded else (None, None, False))


@pytest.mark.slow(3)
def test_folding_a_cell_costs_no_execution(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "execute", lambda *_, **__: pytest.fail("executed"))
    built.write_text(edited(('tags=["varies"]', 'tags=["varies", "fold"]')), encoding="utf-8")
    assert build.build_lesson(built, repo_url=NOT_SET) == "rewritten"


def test_setup_cell_is_short_and_the_same_in_every_lesson(lesson: Path) -> None:
    other = lesson.with_name("02_other.py")
    other.write_text(SOURCE.replace("01.", "02."), encoding="utf-8")
    first, second = (build.learner_notebook(path, REPO).cells[1].source for path in (lesson, other))
    assert first.replace('setup("01"', 'setup("02"') == second
    assert sum(bool(line.strip()) for line in first.splitlines()) <= 15
    assert "Save a copy in Drive" in first.splitlines()[0]  # what Colab shows of it
    assert REPO in first


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('exercise="01.four" points=1.5', 'exercise="01.four"', "needs its name and points"),
        ('check("01.four", four)', 'check("01.five", four)', "needs its name and points"),
        (
            "    ### END SOLUTION\n\n\n# %% [markdown]\n# <details><summary>Hint</summary>Add",
            "# %% [markdown]\n# Add",
            "no end solution",
        ),
        ("    ### BEGIN SOLUTION\n    return 4\n    ### END SOLUTION", "    return 4", "has no ### BEGIN SOLUTION"),
        ('print("before")', "### BEGIN SOLUTION\n1\n### END SOLUTION", "non-solution cell"),
        ('check("01.four", four)', 'check("01.square", four)', "Duplicate grade id"),
        ("# %% [markdown]\n# # 01 · Tiny\n# How", "# %%\n# How", "the first cell must be markdown"),
    ],
)
def test_a_source_that_cannot_be_built_says_why(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_lesson(tmp_path, edited((old, new)))
    with pytest.raises(LessonError, match=message):
        build.learner_notebook(path, REPO)


# ---------------------------------------------------------------- in step


@pytest.mark.slow
def test_building_again_changes_no_byte(built: Path) -> None:
    """Not even where a clock is printed: lines of `varies` stay as they were stored while the rest agrees."""
    built.write_text(edited(("print(time.perf_counter())", "print(4)")), encoding="utf-8")
    assert build.build_lesson(built, repo_url=REPO) == "executed"
    before = files(built)
    assert build.build_lesson(built, repo_url=REPO) == "in step"
    assert files(built) == before
    assert build.build_lesson(built, force=True, repo_url=REPO) == "executed"
    assert files(built) == before


@pytest.mark.slow
def test_what_one_run_printed_does_not_stay_beside_the_outputs_of_another(built: Path) -> None:
    clocks = []
    for n in (4, 5):
        built.write_text(edited(("print(time.perf_counter())", f"print({n})")), encoding="utf-8")
        assert build.build_lesson(built, repo_url=REPO) == "executed"
        clocks += re.findall(r"now [\d.]+", solved_path(built).read_text(encoding="utf-8"))
    assert len(clocks) == len(set(clocks)) == 2


@pytest.mark.slow(3)
def test_a_new_lesson_is_in_step_once_built(built: Path) -> None:
    assert build.out_of_step(built, REPO) == []


def test_a_changed_character_in_the_learners_copy_is_found(built: Path) -> None:
    path = learner_path(built)
    path.write_text(path.read_text(encoding="utf-8").replace("Twice x", "Twice y", 1), encoding="utf-8")
    (problem,) = build.out_of_step(built, REPO)
    assert "notebooks/01_tiny.ipynb" in problem
    assert "# Exercise 01.double" in problem


def test_a_changed_cell_or_tag_in_the_solved_copy_is_found(built: Path) -> None:
    path = solved_path(built)
    text = path.read_text(encoding="utf-8")
    for old, new in (("x**2", "x**3"), ('"nbval-ignore-output"', '"nbval-skip"'), ("naming both twos", "anything")):
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        (problem,) = build.out_of_step(built, REPO)
        assert "solutions/01_tiny.ipynb" in problem


def test_an_output_that_differs_is_left_to_nbval(built: Path) -> None:
    path = solved_path(built)
    path.write_text(path.read_text(encoding="utf-8").replace("after", "later"), encoding="utf-8")
    path.write_text(
        path.read_text(encoding="utf-8").replace('print(\\"later\\")', 'print(\\"after\\")'), encoding="utf-8"
    )
    assert build.out_of_step(built, REPO) == []


def test_a_changed_source_puts_both_copies_out_of_step(built: Path) -> None:
    built.write_text(edited(("And once more.", "And for the last time.")), encoding="utf-8")
    assert len(build.out_of_step(built, REPO)) == 2


def test_missing_unreadable_and_unexecuted_notebooks_are_found(built: Path) -> None:
    learner_path(built).write_text("<<<<<<< HEAD\n", encoding="utf-8")
    solved = build.solved_notebook(built, REPO)
    solved_path(built).write_text(as_text(solved), encoding="utf-8")
    unreadable, unexecuted = build.out_of_step(built, REPO)
    assert "cannot be read" in unreadable
    assert "never executed" in unexecuted
    solved_path(built).unlink()
    assert "missing" in build.out_of_step(built, REPO)[1]


def test_new_words_cost_no_execution_and_new_code_does(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("executed")

    outputs = [
        cell.outputs for cell in nbformat.read(solved_path(built), as_version=4).cells if cell.cell_type == "code"
    ]
    monkeypatch.setattr(build, "execute", refuse)
    built.write_text(edited(("And once more.", "And for the last time.")), encoding="utf-8")
    assert build.build_lesson(built, repo_url="https://github.com/fork/course") == "rewritten"
    assert build.out_of_step(built, "https://github.com/fork/course") == []
    kept = [cell.outputs for cell in nbformat.read(solved_path(built), as_version=4).cells if cell.cell_type == "code"]
    assert kept == outputs
    built.write_text(edited(("return 4", "return 2 + 2")), encoding="utf-8")
    with pytest.raises(AssertionError, match="executed"):
        build.build_lesson(built, repo_url=REPO)


# ---------------------------------------------------------------- executing


def test_the_solved_copy_stores_what_its_cells_show(built: Path) -> None:
    nb = nbformat.read(solved_path(built), as_version=4)
    assert [cell.outputs[0].data["text/plain"] for cell in tagged(nb, "check")] == [
        "'01.double: right'",
        "'01.square: right'",
        "'01.four: right'",
    ]
    assert "image/png" in tagged(nb, "figure")[0].outputs[0].data
    assert all("execution" not in cell.metadata for cell in nb.cells)


@pytest.mark.slow
def test_the_learners_copy_runs_to_its_end_unsolved(built: Path) -> None:
    nb = build.execute(build.learner_notebook(built, REPO), built.parents[1])
    assert all("not yet" in cell.outputs[0].data["text/plain"] for cell in tagged(nb, "check"))


def test_no_widget_state_is_stored(built: Path) -> None:
    text = solved_path(built).read_text(encoding="utf-8")
    assert "application/vnd.jupyter.widget" not in text
    assert "widgets" not in json.loads(text)["metadata"]
    (slider,) = tagged(nbformat.read(solved_path(built), as_version=4), "widget")
    assert slider.outputs[0].data == {"text/plain": build.WIDGET_STANDS_IN}


@pytest.mark.slow
def test_a_lesson_that_fails_is_not_written(built: Path) -> None:
    built.write_text(edited(('print("before")', "1 / 0  # here")), encoding="utf-8")
    before = files(built)
    with pytest.raises(LessonError, match=r"1 / 0  # here(?s:.*)ZeroDivisionError: division by zero"):
        build.build_lesson(built, repo_url=REPO)
    assert files(built) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.stderr.write('careful')", "writes to stderr(?s:.*)careful"),
        ("import warnings\nwarnings.warn('old')", "writes to stderr(?s:.*)UserWarning: old"),
        ("import os\nos._exit(1)", "[Kk]ernel died"),
        ("import time\ntime.sleep(10**6)", "took longer than 5 seconds"),
        ("import ipywidgets\nipywidgets.IntSlider(4)", 'tag it "widget"'),
        ("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()", "shows a picture without words"),
    ],
    ids=["error", "stderr", "warning", "dead kernel", "time-out", "untagged widget", "picture without words"],
)
def test_a_cell_that_fails_is_shown(tmp_path: Path, code: str, message: str) -> None:
    cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_code_cell(f"# the one\n{code}")]
    limit = 5 if "sleep" in code else 1000
    with pytest.raises(LessonError, match=f"^this cell\n\n    # the one(?s:.*){message}"):
        build.execute(nbformat.v4.new_notebook(cells=cells), tmp_path, timeout=limit)


def test_too_many_bytes_of_images_are_refused() -> None:
    image = nbformat.v4.new_output("display_data", {"image/png": "a" * 600_000}, metadata={"image/png": {"alt": "a"}})
    cells = [nbformat.v4.new_code_cell("figure", outputs=[image]) for _ in range(2)]
    assert build.output_problems(nbformat.v4.new_notebook(cells=cells[:1])) == []
    (problem,) = build.output_problems(nbformat.v4.new_notebook(cells=cells))
    assert "images take 1,200,000 bytes" in problem


def test_stored_widget_state_and_errors_are_refused() -> None:
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[error])], metadata={"widgets": {}})
    state, stored = build.output_problems(nb)
    assert "widget state" in state
    assert "ValueError: no" in stored


def test_a_write_that_is_cut_short_leaves_the_old_notebook(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built.write_text(edited(("And once more.", "And for the last time.")), encoding="utf-8")
    before = files(built)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as broken:
            broken.setattr(os, step, full)
            with pytest.raises(Exception, match="no space left"):
                build.build_lesson(built, repo_url=REPO)
        assert files(built) == before


def test_lessons_are_found_by_number_slug_and_file(tmp_path: Path) -> None:
    first = write_lesson(tmp_path)
    second = first.with_name("02_next_one.py")
    second.write_text(SOURCE, encoding="utf-8")
    assert lessons(root=tmp_path) == [first, second]
    for name in ("02", "next_one", "02_next_one", "notebooks/02_next_one.ipynb"):
        assert lessons([name], tmp_path) == [second]
    with pytest.raises(LessonError, match="no lesson '03'; there are: 01_tiny, 02_next_one"):
        lessons(["03"], tmp_path)


# ---------------------------------------------------------------- the rules of a page


def test_the_example_breaks_no_rule(built: Path) -> None:
    assert lint_lesson(built, REPO) == []


LONG = "\n".join(f"x{i} = {i}" for i in range(41))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# # 01 · Tiny", "# # Tiny", "the first cell must begin with the title '# 01 · '"),
        ('print("before")', LONG, "has 43 lines, at most 40"),
        ("IntSlider(3)", f"{LONG}\nIntSlider(3)", "has 43 lines, at most 40"),  # folded
        ("axes.plot([0, 2, 4])\n", "\n# %%\n1\n\n# %%\n2\n", "3 code cells in a row without words"),
        (r" \tag{1.1}", "", "no equation has a"),
        (r" \tag{1.1}", "", "'# Eq. (1.1)' names no"),
        (r"\tag{1.1}", r"\tag{2.1}", "is not numbered 1.m"),
        (r"\tag{1.1}", r"\tag{1.1} \tag{1.1}", r"equation (1.1) has two"),
        ("# Eq. (1.1)\n", "# Eq. (1.2)\n", "'# Eq. (1.2)' names no"),
        ("# Eq. (1.1)\n", "# Eq. one\n", "'# Eq. one' names no"),
        ("# Eq. (1.1)\n", "", "no code cell begins with # Eq. (n.m)"),
        ("# Exercise 01.four\n", "", "01.four: the first line of the cell must be `# Exercise 01.four`"),
        ("01.four", "02.four", "exercise '02.four' should be called like 01.q_step"),
        ("01.four", "01.square", "Duplicate grade id"),
        ("<summary>Hint</summary>Times", "Times", "01.square has no hint"),
        ('# %% tags=["check"]\ncheck("01.four", four)', "", "01.four has no check after it"),
        ('# %% tags=["check"]\ncheck("01.square", square)', "", "01.square has no check after it"),
        (
            "# %% [markdown]\n# <details><summary>Hint</summary>Times",
            "# %%\n1\n\n# %% [markdown]\n# Times",
            "stands between",
        ),
        ('tags=["widget", "fold"]', "", "no cell is tagged 'widget'"),
        ('tags=["widget", "fold"]', 'tags=["widget"]', 'has a `# @title` and no tag "fold"'),
        ('tags=["widget", "fold"]\n# @title A slider', 'tags=["widget"]', "'IntSlider(3)' draws: tag it \"fold\""),
        ("# @title A slider\n", "", "'IntSlider(3)' is folded and does not begin with `# @title`"),
        ('# %% tags=["fold"]\n# @title Imports', "# %%", "'import time' imports: tag it \"fold\""),
        ('# %% tags=["figure"]', '# %% tags=["figure", "fold"]', "'# Eq. (1.1)' is folded: equations, exercises"),
        ('tags=["check"]', 'tags=["check", "fold"]', "is folded: equations, exercises and checks stand open"),
        ('print("before")', f'print("{"a" * 80}")', "89 columns, at most 88: 'print(\"aaa"),
        ("2 to solve", "3 to solve", 'must say "… minutes to read and run, 2 to solve"'),
        ("*2 minutes ·", "*7 minutes ·", 'must say "… minutes to read and run, 7 to solve"'),
        ('tags=["figure"]', "", "no cell is tagged 'figure'"),
        ('tags=["varies"]', 'tags=["vary"]', "unknown tag 'vary'"),
        ('print("before")', 'open("/home/me/x")', "names an absolute path"),
        ("# And once more.", "# ![](picture.png)", "an image without alternative text"),
        ("What usually goes wrong", "Pitfalls", 'no section is headed "What usually goes wrong"'),
        (
            '    """Twice x."""\n',
            '    """Twice x."""\n' + "    # so\n" * 10,
            "01.double: the stub has 13 lines, at most 12",
        ),
        (
            "def four(x: int) -> int:\n    ### BEGIN SOLUTION\n    return 4\n    ### END SOLUTION",
            "### BEGIN SOLUTION\nfour = 4\n### END SOLUTION",
            "01.four: the solution must be inside a function",
        ),
        (
            "### BEGIN SOLUTION\n    return 4",
            "if True\n    ### BEGIN SOLUTION\n    return 4",
            "01.four: the blank stub is not valid",
        ),
    ],
)
def test_each_rule_of_the_page_bites(tmp_path: Path, old: str, new: str, message: str) -> None:
    problems = lint_lesson(write_lesson(tmp_path, edited((old, new))), REPO)
    assert any(message in problem for problem in problems), problems


LETTERS = """

# %% [markdown]
# ### Letters with several meanings
#
# | letter | what it stands for |
# |---|---|
# | $y$ | twice x (01, 04 to 06) |
# | $\\lambda$ | a level (03) |
#
# ## Next
"""


def test_a_letter_that_the_table_does_not_explain_is_found(tmp_path: Path) -> None:
    first = write_lesson(tmp_path)
    start, second = first.with_name("00_start_here.py"), first.with_name("02_next.py")
    start.write_text(SOURCE + LETTERS, encoding="utf-8")
    second.write_text(SOURCE.replace("y = 2 x", r"y_1 = \lambda + \text{my}"), encoding="utf-8")

    def unexplained(path: Path) -> list[str]:
        return [line for line in lint_lesson(path, REPO) if "does not say" in line]

    assert unexplained(first) == []
    assert unexplained(second) == [
        "lesson 00 does not say what $y$ means in lesson 02",
        r"lesson 00 does not say what $\lambda$ means in lesson 02",
    ]
    second.write_text(SOURCE.replace("y = 2 x", r"x = \text{my} \mathrm{y} \lambdas `$y$`"), encoding="utf-8")
    assert unexplained(second) == []


def test_exercises_are_three_to_six_but_in_lesson_00(tmp_path: Path) -> None:
    start, end = SOURCE.index("# %% [markdown]\n# And once more."), SOURCE.index("# %% [markdown]\n# ## 2")
    one, two = SOURCE[start:end], SOURCE[:start] + SOURCE[end:]
    assert any("2 exercises, wanted 3 to 6" in line for line in lint_lesson(write_lesson(tmp_path, two), REPO))
    seven = SOURCE[:end] + "".join(one.replace("four", f"four{i}") for i in range(4)) + SOURCE[end:]
    assert any("7 exercises, wanted 3 to 6" in line for line in lint_lesson(write_lesson(tmp_path, seven), REPO))
    start = write_lesson(tmp_path).with_name("00_start_here.py")
    start.write_text(two.replace("01.", "00.").replace("# 01 ·", "# 00 ·").replace("1.1", "0.1"), encoding="utf-8")
    assert lint_lesson(start, REPO) == []


def test_cells_are_short_on_the_whole(tmp_path: Path) -> None:
    cell = "\n\n# %% [markdown]\n# Words.\n\n# %%\n" + "\n".join(f"x{i} = {i}" for i in range(13))
    problems = lint_lesson(write_lesson(tmp_path, SOURCE + cell * 20), REPO)
    assert problems == ["the median code cell has 13 lines, at most 12"]


def test_what_is_stored_is_linted_too(built: Path) -> None:
    path = solved_path(built)
    path.write_text(
        path.read_text(encoding="utf-8").replace('"name": "stdout"', '"name": "stderr"', 1), encoding="utf-8"
    )
    assert any("writes to stderr" in problem for problem in lint_lesson(built, REPO))


def test_what_is_generated_passes_ruff(built: Path) -> None:
    """A source that ruff likes becomes notebooks that it likes, setup cell and stubs included."""
    unset = build.learner_notebook(built, NOT_SET)
    (built.parents[1] / "without_an_address.ipynb").write_text(as_text(unset), encoding="utf-8")
    config = ["--config", str(ROOT / "notebooks" / "ruff.toml"), "--no-cache", str(built.parents[1])]
    for command in (["check", "--ignore=INP"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- with nbval


def nbval(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
        *options,
    ]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, cwd=path.parent)


@pytest.mark.slow
def test_nbval_replays_a_solved_copy_and_minds_what_must_hold(built: Path) -> None:
    sanitize = f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}"
    replayed = nbval(solved_path(built), sanitize)
    assert replayed.returncode == 0, replayed.stdout
    unsanitized = nbval(solved_path(built))
    assert "now" in unsanitized.stdout  # the clock of `varies` is compared unless the file says otherwise
    assert unsanitized.returncode == 1
    text = solved_path(built).read_text(encoding="utf-8")
    solved_path(built).write_text(text.replace("'01.four: right'", "'01.four: wrong'"), encoding="utf-8")
    changed = nbval(solved_path(built), sanitize)
    assert changed.returncode == 1
    assert changed.stdout.count("FAILED") == 1


# ---------------------------------------------------------------- the setup cell, for real


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This working tree, committed into a repository of its own."""
    folder = tmp_path_factory.mktemp("clone") / "course"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--no-gpg-sign", "-m", "tree"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A Python with PyTorch and Jupyter but without the course, like Colab's: the packages here, less our own."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    borrowed = tmp_path / "borrowed"
    borrowed.mkdir()
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        ours = "diffusion_from_scratch" in package.name or package.name.startswith("course_utils")
        if not ours and package.suffix != ".pth" and not package.name.startswith(("pip", "setuptools", "_distutils")):
            (borrowed / package.name).symlink_to(package)
    python = tmp_path / "venv" / "bin" / "python"
    (_site_packages(python) / "borrowed.pth").write_text(f"{borrowed}\n")
    return python


def _site_packages(python: Path) -> Path:
    return next(python.parents[1].glob("lib/python*/site-packages"))


def run_there(python: Path, cwd: Path, code: list[str], **environment: str) -> str:
    """Run cells in a kernel of another Python, as Jupyter would, and return what the last one prints."""
    spec = cwd.parent / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "there", "language": "python"}))
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False),
    )
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in code])
    client = NotebookClient(
        nb, km=manager, timeout=1800, coalesce_streams=True, resources={"metadata": {"path": str(cwd)}}
    )
    mine = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "COURSE_", "VIRTUAL_ENV"))
    }
    client.execute(cleanup_kc=True, env=mine | environment)
    return nb.cells[-1].outputs[0].text


VERSIONS = """
import json, course_utils, torch, torchvision, numpy
print(json.dumps({m.__name__: [m.__file__, m.__version__] for m in (course_utils, torch, torchvision, numpy)}))
"""


def borrowed_files(python: Path) -> dict[str, tuple[str, float]]:
    folder = python.parents[2] / "borrowed"
    wanted = [
        f
        for name in ("torch", "torchvision", "numpy")
        for f in (*folder.glob(f"{name}-*"), folder / name / "__init__.py")
    ]
    return {str(f): (str(f.resolve()), f.stat().st_mtime) for f in wanted}


@pytest.mark.slow(80)
def test_setup_cell_installs_the_course_and_leaves_torch_alone(
    lesson: Path, machine: Path, clone: Path, tmp_path: Path
) -> None:
    setup = build.learner_notebook(lesson, REPO).cells[1].source
    empty = tmp_path / "content"
    empty.mkdir()
    before = borrowed_files(machine)
    assert len(before) == 6
    there = {"COURSE_REPO": clone.as_uri(), "COLAB_RELEASE_TAG": "release-colab"}
    printed = run_there(machine, empty, [setup, VERSIONS + "print(lesson.id, lesson.seed)"], **there)
    first, second = printed.strip().splitlines()
    found = json.loads(first)
    site = _site_packages(machine)
    assert Path(found["course_utils"][0]).is_relative_to(site)
    import numpy
    import torch
    import torchvision

    for package in (torch, torchvision, numpy):
        path, version = found[package.__name__]
        assert not Path(path).is_relative_to(site)
        assert version == package.__version__
    assert borrowed_files(machine) == before
    assert second == "01 0"
    assert not list(empty.iterdir())
    assert (site / "course_utils" / "_data" / "manifest.json").is_file()
    load = "from course_utils.data import load_images\nprint(*load_images('mnist', n=3)[0].shape)"
    shutil.rmtree(tmp_path / "kernels")
    assert run_there(machine, empty, [load]) == "3 1 28 28\n"

    # And a whole lesson, as the learner finds it, from that empty folder.
    shutil.rmtree(tmp_path / "kernels")
    page = nbformat.read(ROOT / "notebooks" / "01_forward_process.ipynb", as_version=4)
    cells = [cell.source for cell in page.cells if cell.cell_type == "code"]
    assert "0 of 5 done" in run_there(machine, empty, [*cells, "print(progress('01'))"], **there)


@pytest.mark.slow
def test_setup_cell_uses_the_checkout_around_it_rather_than_installing(
    lesson: Path, machine: Path, clone: Path
) -> None:
    setup = build.learner_notebook(lesson, REPO).cells[1].source
    for folder in ("notebooks", "notebooks/solutions"):
        (clone / folder).mkdir(parents=True, exist_ok=True)
        printed = run_there(machine, clone / folder, [setup, VERSIONS])
        shutil.rmtree((clone / folder).parent / "kernels")
        assert Path(json.loads(printed)["course_utils"][0]) == clone / "course_utils" / "__init__.py"
    assert not (_site_packages(machine) / "course_utils").exists()


def test_what_somebody_has_typed_into_a_page_is_kept_when_it_is_built_anew(built: Path) -> None:
    page = learner_path(built)
    mine = page.read_text(encoding="utf-8").replace(STUB.replace('"', '\\"'), "return 42")
    assert mine != page.read_text(encoding="utf-8")
    page.write_text(mine, encoding="utf-8")
    build.build_lesson(built, repo_url=REPO)
    assert (built.parents[2] / "work" / page.name).read_text(encoding="utf-8") == mine
    assert "return 42" not in page.read_text(encoding="utf-8")
