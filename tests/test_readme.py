"""The README is one page, and what it shows works."""

import re
from pathlib import Path

import pytest

from course_utils.classifier import look_at
from course_utils.data import denormalize
from course_utils.desk.upkeep import readme
from course_utils.pretrained import load_classifier

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_ten_lines_draw_the_digits_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"(?s)```python\n(.*?)```", README)
    there: dict = {}
    exec(code, there)
    assert (tmp_path / "digits.png").stat().st_size > 1000
    seen = look_at(load_classifier("mnist"), denormalize(there["x_0"]))[1].tolist()
    assert sum(digit == asked for asked, digit in enumerate(seen)) >= 8, seen  # of ten; here it is all of them


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"(?s)```.*?```", "", (ROOT / page).read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_it_is_one_page() -> None:
    assert len(re.sub(r"\(https?://[^)]*\)", "", README).split()) < 1000


def test_the_seconds_of_a_lesson_go_into_the_column_of_such_machines() -> None:
    for precision, column in readme.COLUMNS.items():
        page = readme.with_seconds(README, {"07": 123.4, "13": 56.7}, precision)
        before, after = README.split("\n"), page.split("\n")
        changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert [re.findall(r"\[(\d\d) ", after[i]) for i in changed] == [["07"], ["13"]]
        for i, seconds in zip(changed, ("123", "57"), strict=True):
            old, new = (line.strip("|").split(" | ") for line in (before[i], after[i]))
            assert new == [*old[:column], seconds, *old[column + 1 :]]
        (head,) = [line for line in before if line.startswith("| lesson | question")]
        assert head.strip("| ").split(" | ")[column] == {"bfloat16": "bfloat16", "float32": "without"}[precision]
