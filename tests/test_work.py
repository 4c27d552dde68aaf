"""What a learner types is theirs: copies of the lessons are made, refreshed while untouched, and never overwritten."""

import json
from pathlib import Path

import pytest

from course_utils.desk import work
from course_utils.desk.lesson import ROOT, STUB
from course_utils.files import DataError

NAME = "01_small.ipynb"


def page(version: str, answer: str = STUB, outputs: tuple = ()) -> bytes:
    """A released page of a version; with an answer, or outputs, one that somebody worked in."""
    cell = {"cell_type": "code", "metadata": {"tags": ["exercise"]}, "source": [answer], "outputs": list(outputs)}
    return json.dumps({"cells": [cell], "metadata": {"course": {"source_sha256": version}}}).encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "notebooks").mkdir()
    release(tmp_path, page("1"))
    return tmp_path


def release(root: Path, content: bytes) -> None:
    (root / "notebooks" / NAME).write_bytes(content)


def copies(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "work").glob("*.ipynb")}


def test_copies_are_made_where_they_are_missing(root: Path) -> None:
    assert work.prepare(root) == []
    assert copies(root) == {NAME: page("1")}
    (root / "work" / NAME).unlink()
    work.prepare(root)
    assert copies(root) == {NAME: page("1")}


def test_an_untouched_copy_follows_its_lesson(root: Path) -> None:
    work.prepare(root)
    release(root, page("2"))
    assert work.prepare(root) == []
    assert copies(root) == {NAME: page("2")}


@pytest.mark.parametrize("touched", [page("1", "my answer"), page("1", outputs=("4",)), b"torn", b""])
def test_what_somebody_has_touched_is_never_overwritten(root: Path, touched: bytes) -> None:
    work.prepare(root)
    (root / "work" / NAME).write_bytes(touched)
    for _ in range(2):
        work.prepare(root)
        assert copies(root)[NAME] == touched
    release(root, page("2"))
    work.prepare(root)
    assert copies(root) == {NAME: touched, "01_small-2.ipynb": page("2")}


def test_when_a_lesson_changes_the_learner_is_told_once_and_keeps_both(root: Path) -> None:
    work.prepare(root)
    (root / "work" / NAME).write_bytes(page("1", "mine"))
    assert work.prepare(root) == []  # today's page, with work in it: nothing to tell, nothing to add
    assert copies(root) == {NAME: page("1", "mine")}
    release(root, page("2"))
    (told,) = work.prepare(root)
    assert NAME in told
    assert "01_small-2.ipynb" in told
    assert work.prepare(root) == []
    assert work.latest("01", root) == root / "work" / "01_small-2.ipynb"
    release(root, page("3"))  # the second is still untouched
    work.prepare(root)
    assert copies(root) == {NAME: page("1", "mine"), "01_small-2.ipynb": page("3")}
    (root / "work" / "01_small-2.ipynb").write_bytes(page("3", "mine too"))
    release(root, page("4"))
    work.prepare(root)
    assert copies(root).keys() == {NAME, "01_small-2.ipynb", "01_small-3.ipynb"}


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_no_file_keeps_its_name_and_the_page_takes_the_next(root: Path, kind: str) -> None:
    """A link to a stick that is not plugged in, say."""
    copy = root / "work" / "01_small.ipynb"
    copy.parent.mkdir(exist_ok=True)
    copy.mkdir() if kind == "folder" else copy.symlink_to(root / "stick" / "mine.ipynb")
    (told,) = work.prepare(root)
    assert told == "01_small is blocked: left as it is, 01_small.ipynb, the new page is 01_small-2.ipynb"
    assert copy.is_dir() if kind == "folder" else copy.is_symlink()
    assert work.latest("01", root) == copy.with_name("01_small-2.ipynb")
    assert not work.prepare(root)


def test_a_lost_record_costs_no_work(root: Path) -> None:
    work.prepare(root)
    for damage in (b"torn", b"[1]", None):
        record = root / "work" / work.RECORD
        record.write_bytes(damage) if damage else record.unlink()
        (root / "work" / NAME).write_bytes(page("1", "mine"))
        work.prepare(root)
        assert copies(root) == {NAME: page("1", "mine")}


def test_work_in_the_page_itself_is_carried_over(root: Path) -> None:
    """As `course lab` once had it: people typed into the tracked page."""
    release(root, page("1", "mine"))
    (told,) = work.prepare(root)
    assert "git checkout" in told
    assert copies(root) == {NAME: page("1", "mine")}
    assert work.prepare(root) == []
    release(root, page("1"))
    assert work.prepare(root) == []
    assert copies(root) == {NAME: page("1", "mine")}


def test_a_folder_that_cannot_be_written_is_named(root: Path) -> None:
    (root / "work").write_text("a file of that name")
    with pytest.raises(DataError, match="work"):
        work.prepare(root)


def test_the_newest_copy_is_found_by_number_or_name(root: Path) -> None:
    assert work.latest("01", root) is None
    work.prepare(root)
    assert work.latest("01", root) == work.latest("01_small", root) == root / "work" / NAME
    assert work.latest("0", root) == root / "work" / NAME
    assert work.latest("07", root) is None


def test_pages_as_they_are_handed_out_are_blank() -> None:
    pages = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [path.name for path in pages if not work.is_blank(path.read_bytes())] == []
    solved = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
    assert [path.name for path in solved if work.is_blank(path.read_bytes())] == []


def test_git_does_not_see_it() -> None:
    assert f"/{work.FOLDER}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
