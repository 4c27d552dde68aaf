"""The course as a web page: `make book` writes a static site, which needs no other host to be read.

    the learner's notebooks + the outputs and answers of the solved ones ──► a page for each lesson       lesson_page
    their equations, exercises and symbols, docs/glossary.md             ──► sheets to keep               sheets, links
    their widgets, docs/book/live, data/                                 ──► widgets that run              live
    README, CONTRIBUTING, docs/, data/                                   ──► pages as they are
    the docstrings of course_utils, floor by floor                       ──► pages of the code            reference

Nothing is executed. Sphinx does the rest: docs/book holds its settings, the style sheet and the front page.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from course_utils.desk.authoring.book import live, sheets
from course_utils.desk.authoring.book.lesson_page import lesson_page, lessons
from course_utils.desk.authoring.book.reference import code_pages
from course_utils.desk.lesson import ROOT

__all__ = ["build", "lesson_page", "lessons"]

BOOK = ROOT / "docs" / "book"
WORDS = ["CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "data/checkpoints/README.md"]
WORDS += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
START = "```{container} buttons\n[Start with lesson 00](notebooks/00_start_here.ipynb)\n```\n\n"


def build(site: Path) -> None:
    """Write the site to a folder, in place of an older one.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: a lesson's two notebooks are out of step.
        CalledProcessError: Sphinx found something to warn of, and has said what.
    """
    if site.exists() and any(site.iterdir()) and not (site / ".buildinfo").exists():
        raise FileExistsError(f"{site} holds something that is no such site: empty it, or name another folder")
    with tempfile.TemporaryDirectory() as work:
        pages = Path(work) / "pages"
        write_pages(pages)
        shutil.rmtree(site, ignore_errors=True)
        sphinx = ["-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto", "-d", str(Path(work) / "doctrees")]
        subprocess.run([sys.executable, *sphinx, "-c", str(BOOK), str(pages), str(site)], check=True)
    if problem := live.write_files(site / "_static" / "live"):
        print(problem, file=sys.stderr)
    if chromium():
        print_page(site / "docs" / "formulas.html", site / "docs" / sheets.PDF)


def write_pages(pages: Path) -> None:
    """Everything that Sphinx reads, laid out as the repository is, so that links between pages hold."""
    for name in ("docs", "data/checkpoints", "notebooks", "download", "code"):
        (pages / name).mkdir(parents=True)
    for name in (*WORDS, "docs/film.png"):
        shutil.copyfile(ROOT / name, pages / name)
    for path in lessons():
        shutil.copyfile(path, pages / "download" / path.name)
        nbformat.write(lesson_page(path), pages / "notebooks" / path.name)
    front = front_page((ROOT / "README.md").read_text(encoding="utf-8"))
    toctree = (BOOK / "contents.md").read_text(encoding="utf-8")
    made = {f"code/{name}": text for name, text in code_pages().items()}
    made |= {f"docs/{name}": text for name, text in sheets.pages(lessons(), printed=chromium() is not None).items()}
    made["index"] = f"{front}\n{toctree}"
    for name, text in made.items():
        (pages / f"{name}.md").write_text(text, encoding="utf-8")


def front_page(text: str) -> str:
    """The README with a button to begin before its sections."""
    return text.replace("\n## ", f"\n{START}## ", 1)


# ---------------------------------------------------------------- paper


def chromium() -> str | None:
    """The Chromium of this machine, if it has one that Playwright can drive."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    return next(found, None) if importlib.util.find_spec("playwright") else None


def print_page(page: Path, pdf: Path) -> None:
    """Print a page of the site to PDF, once its formulas are set."""
    from playwright.sync_api import sync_playwright

    as_root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium refuses to run so, unless without its sandbox
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium(), args=["--no-sandbox"] * as_root)
        sheet = browser.new_page()
        sheet.set_default_timeout(600_000)  # on a busy machine
        sheet.goto(page.resolve().as_uri())
        sheet.evaluate("MathJax.startup.promise")
        sheet.pdf(path=pdf, format="A4", margin={"top": "12mm", "bottom": "12mm", "left": "12mm", "right": "12mm"})
        browser.close()
