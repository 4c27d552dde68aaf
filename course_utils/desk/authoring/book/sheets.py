"""Two sheets to keep, and an index: every numbered equation, every term of the field, every exercise.

All of it is read from the lessons and from docs/glossary.md, where each stands once.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat

from course_utils.desk.lesson import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
PDF = "formulas.pdf"
TAG = re.compile(r"\s*\\tag\{(\d+\.\d+)\}")
ENTRY = re.compile(r"(?m)^\* \*\*(.+?)\*\*(?: \(also (.+?)\))? · (.+?) · (.+?)\. \[(.+?)\]\((.+?)\)$")


class Equation(NamedTuple):
    """A numbered equation of a lesson, and the section that it stands in."""

    number: str
    lesson: str
    section: str
    formula: str  # without its number


class Exercise(NamedTuple):
    """An exercise of a lesson: its heading, and what its first line says of it."""

    lesson: str
    heading: str
    about: str


class Term(NamedTuple):
    """A term of the field, other names for it, its Chinese word, what it means, and where it is derived."""

    name: str
    also: tuple[str, ...]  # in italics, as *value*, where they are everyday words as well
    chinese: str
    meaning: str
    where: str  # an equation, "(1.4)", or "lesson 09"
    lesson: str  # the notebook that this is in, from docs/

    @property
    def names(self) -> list[str]:
        """All its names."""
        return [self.name, *(name.strip("*") for name in self.also)]

    @property
    def anchor(self) -> str:
        """Its id on the page of the glossary."""
        return "term-" + re.sub(r"\W+", "-", self.name.lower()).strip("-")


def _words(lesson: Path) -> str:
    """All that a lesson says in words, from its notebook."""
    cells = nbformat.read(lesson, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def equations(lesson: Path) -> Iterator[Equation]:
    """The numbered equations of a lesson, in order."""
    section = ""
    for heading, formula in re.findall(r"(?m)^## (.+)$|\$\$((?s:.+?))\$\$", _words(lesson)):
        section = heading or section
        if tag := TAG.search(formula):
            yield Equation(tag[1], lesson.stem, section, TAG.sub("", formula).strip())


def exercises(lesson: Path) -> Iterator[Exercise]:
    """The exercises of a lesson, in order."""
    for heading, about in re.findall(r"(?m)^### (Exercise \d.*)\n\*(.+?)\*", _words(lesson)):
        yield Exercise(lesson.stem, heading, about)


def terms(text: str | None = None) -> list[Term]:
    """The entries of the glossary, in its order."""
    text = GLOSSARY.read_text(encoding="utf-8") if text is None else text
    return [Term(name, tuple(filter(None, also.split(", "))), *rest) for name, also, *rest in ENTRY.findall(text)]


# ---------------------------------------------------------------- pages


def pages(lessons: list[Path], printed: bool) -> dict[str, str]:
    """The sheets by name, as Markdown; `printed` says whether there will be a PDF of the formulas."""
    return {
        "formulas": formulas_page(lessons, printed),
        "glossary": glossary_page(GLOSSARY.read_text(encoding="utf-8")),
        "exercises": exercises_page(lessons),
    }


def formulas_page(lessons: list[Path], printed: bool) -> str:
    """Every numbered equation, lesson by lesson, under the section that derives it; the symbols before them."""
    links = f'<a href="{PDF}">As PDF, to print.</a>' if printed else "To print, print this page."
    lines = ["# Formulas", "", f"Every numbered equation of the course. A number leads to where it is derived. {links}"]
    lines += ["", "## What the symbols mean", "", *symbols(lessons[0])]
    for lesson in lessons:
        lines += ["", f"## [{heading(lesson)}](../notebooks/{lesson.name})"]
        section = ""
        for equation in equations(lesson):
            if equation.section != section:
                section = equation.section
                lines += ["", f"**{section}**"]
            lines += ["", "::::{container} formula", f"({equation.number})", "", f"$${equation.formula}$$", "::::"]
    return "\n".join(lines) + "\n"


def heading(lesson: Path) -> str:
    """The title of a lesson: `01 · The forward process`."""
    return _words(lesson).partition("\n")[0].removeprefix("# ")


def symbols(first: Path) -> list[str]:
    """The two tables of symbols that lesson 00 has."""
    section = _words(first).partition("## What the symbols mean\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return "\n".join(tables).splitlines()


def glossary_page(text: str) -> str:
    """The glossary with an anchor on every entry; equation numbers stand alone, and become links on every page."""
    anchors = {term.name: term.anchor for term in terms(text)}
    text = re.sub(r"(?m)^\* \*\*(.+?)\*\*", lambda it: f'* <span id="{anchors[it[1]]}"></span>**{it[1]}**', text)
    return re.sub(r"\[(\(\d+\.\d+\))\]\([^)]*\)", r"\1", text)


def exercises_page(lessons: list[Path]) -> str:
    """Every exercise with its time and difficulty, linked to where it stands."""
    lines = ["# Exercises", "", "Every exercise of the course, with how long it takes."]
    for lesson in lessons:
        lines += ["", f"## [{heading(lesson)}](../notebooks/{lesson.name})", ""]
        for exercise in exercises(lesson):
            anchor = re.sub(r"[^\w\- ]", "", exercise.heading.lower()).replace(" ", "-")
            lines += [f"* [{exercise.heading}](../notebooks/{lesson.name}#{anchor}): {exercise.about}"]
    return "\n".join(lines) + "\n"
