"""The course as a learner meets it: the real JupyterLab of `course lab` in a real browser, by mouse and by keyboard.

The lab has a home and a checkout of its own, since a browser saves what it shows. Pages are as tall as a lesson, so
that JupyterLab, which keeps only visible cells in the page, keeps them all. Nothing sleeps: each step waits for what a
learner would wait for.
"""

import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("playwright", reason="Playwright is missing: pip install '.[browser]'")
pytest.importorskip("jupyterlab", reason="JupyterLab is missing: pip install '.[lab]'")

from answers import RIGHT, WRONG, lesson_01  # noqa: F401  (the lesson's answers enter the two tables)
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_MS = 600_000  # for any one thing to happen, on a busy machine
DONE = re.compile(r"\[\d+\]")  # the prompt of a cell that has run; [*] while it runs
TROUBLE = "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"
pytestmark = [
    pytest.mark.slow(20),
    pytest.mark.skipif(not CHROMIUM, reason="no browser was found: apt-get install chromium"),
    pytest.mark.skipif(os.name != "posix", reason="the lab's checkout is made of links"),
]

TRAINING = """\
import torch
from course_utils.training import Training, train
from course_utils.widgets import watch

run = Training(torch.nn.Linear(4, 4))
images = torch.zeros(8, 1, 2, 2, dtype=torch.uint8)
loss = lambda run, x, label, generator: ((run.forward(x.flatten(1)) - x.flatten(1)).square().mean(1), None)
for record in watch(train(run, images, steps=10**6, batch_size=8, task=loss), 10**6, label="tiny"):
    pass
"""

# Of each lesson, all displayed formulas.
FORMULAS = [
    "\n\n".join(re.findall(r"(?s)\$\$.*?\$\$", re.sub(r"(?m)^# ?", "", path.read_text(encoding="utf-8"))))
    for path in sorted((ROOT / "notebooks" / "src").glob("*.py"))
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `course lab` prints to somebody with a fresh checkout and an empty home."""
    home, checkout = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("my course")
    for name in ("course_utils", "data", "pyproject.toml"):
        (checkout / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "notebooks", checkout / "notebooks")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    training, formulas = [nbformat.v4.new_code_cell(TRAINING)], list(map(nbformat.v4.new_markdown_cell, FORMULAS))
    for name, cells in {"training": training, "formulas": formulas}.items():
        nb = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
        (checkout / "work").mkdir(exist_ok=True)
        nbformat.write(nb, checkout / "work" / f"{name}.ipynb")
    cleared = ("JUPYTER", "XDG_", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "COURSE_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(cleared)}
    lab = subprocess.Popen(
        [sys.executable, "-m", "course_utils.desk.cli", "lab"],
        env=environment | {"HOME": str(home), "PYTHONPATH": str(checkout)},
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = []
        for line in lab.stdout:
            said.append(line)
            if found := re.search(r"http://\S+token=\w+", line):
                break
        else:
            pytest.fail("course lab ended:\n" + "".join(said))
        assert (checkout / ".cache" / "lab").is_dir(), "the lab would change the notebooks of this repository"
        threading.Thread(target=lab.stdout.read, daemon=True).start()  # or its pipe would fill up
        yield found[0]
    finally:
        os.killpg(lab.pid, signal.SIGTERM)
        lab.wait(600)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to run as root otherwise
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*options, "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 30_000})
    context.set_default_timeout(WAIT_MS)
    context.route(re.compile(r"^https?://(?!localhost|127\.0\.0\.1)"), lambda route: route.abort())
    expect.set_options(timeout=WAIT_MS)
    yield context.new_page()
    context.close()


def open_notebook(page: Page, address: str, name: str = "") -> None:
    """Go to the address, or to another notebook of this lab, and wait until its kernel is there."""
    page.goto(re.sub(r"/lab/tree/[^?]+\?", f"/lab/tree/work/{name}?reset&", address) if name else address)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()


def code_cell(page: Page, beginning: str) -> Locator:
    """The code cell whose text begins so."""
    text = page.locator(".cm-content", has_text=re.compile("^" + re.escape(beginning)))
    return page.locator(".jp-CodeCell", has=text)


def unfold(page: Page, title: str) -> Locator:
    """The folded cell of this title, opened by one click on it."""
    folded = page.locator(".jp-CodeCell", has=page.locator(".jp-PlaceholderText", has_text=f"# @title {title}"))
    expect(folded.locator(".cm-content")).to_have_count(0)
    folded.locator(".jp-PlaceholderText").click()
    return code_cell(page, f"# @title {title}")


def run(page: Page, cell: Locator) -> Locator:
    """Click into a cell, press Shift + Enter, wait until it has run; its outputs."""
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(prompt).not_to_have_text(before)
    expect(prompt).to_have_text(DONE)
    return cell.locator(".jp-OutputArea-output")


def type_over(page: Page, cell: Locator, text: str) -> None:
    """Replace what a cell says."""
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)  # as it stands: JupyterLab would add brackets and indentation to single keys


def focus_by_tab(page: Page, role: str) -> Locator:
    """Press Tab until something of this role has the focus; it."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.locator(f"[role={role}]:focus").count():
            return page.locator(":focus")
    pytest.fail(f"no {role} was reached in 30 presses of Tab")


def source(function: Callable) -> str:
    """A function as it stands in the answers, without its decorator."""
    return re.sub(r"(?s)^@.*?(?=^def )", "", inspect.getsource(function), flags=re.MULTILINE)


def test_lesson_00_greets_runs_and_answers_to_the_keyboard(page: Page, address: str) -> None:
    open_notebook(page, address)
    expect(page.locator(".jp-Notebook h1")).to_contain_text("Start here")
    page.get_by_text("Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    prompts = page.locator(".jp-CodeCell:not(:has(.jp-PlaceholderText)) .jp-InputPrompt")  # a folded cell shows none
    expect(prompts.filter(has_text="[*]")).not_to_have_count(0)
    expect(prompts.filter(has_text="[*]")).to_have_count(0)
    expect(page.locator(TROUBLE)).to_have_count(0)
    expect(prompts.filter(has_not_text=DONE)).to_have_count(0)
    expect(page.locator(".jp-Dialog, .Toastify__toast")).to_have_count(0)  # they would have stayed
    expect(page.get_by_text("Mix a picture with noise: not yet").first).to_be_visible()
    pictures = page.locator(".jp-OutputArea-output img:not(.widget-image)").all()
    assert len(pictures) > 5
    assert all(picture.get_attribute("alt") for picture in pictures), "a screen reader has nothing to read"

    widget = unfold(page, "Draw digits live")
    expect(widget.locator(".cm-content")).to_contain_text("explore(")
    picture = widget.locator("img")
    before = picture.get_attribute("src")
    widget.locator(".jp-InputPrompt").click()  # Tab leads on from there
    steps = focus_by_tab(page, "slider")
    value = float(steps.get_attribute("aria-valuenow"))
    page.keyboard.press("ArrowRight")
    expect(steps).to_have_attribute("aria-valuenow", re.compile(rf"^{value + 1:g}(\.0+)?$"))
    expect(picture).not_to_have_attribute("src", before)
    expect(widget).not_to_contain_text("could not be drawn")


def test_an_exercise_gets_a_hint_and_then_turns_green(page: Page, address: str) -> None:
    open_notebook(page, address, "01_forward_process.ipynb")
    for title in ("Setup", "Imports"):
        run(page, unfold(page, title))
    run(page, code_cell(page, "# Exercise 01.q_step"))
    answer, check = code_cell(page, "# Exercise 01.q_step"), code_cell(page, 'check("01.q_step"')
    expect(run(page, check)).to_contain_text("One step of the chain: not yet")

    wrong, hint = WRONG["01.q_step"][0]
    type_over(page, answer, f"# Exercise 01.q_step\n{source(wrong)}\nq_step = {wrong.__name__}")
    run(page, answer)
    verdict = run(page, check)
    expect(verdict).to_contain_text("One step of the chain: wrong")
    expect(verdict).to_contain_text(hint)

    right = RIGHT["01.q_step"][0]
    type_over(page, answer, f"# Exercise 01.q_step\n{source(right)}")
    run(page, answer)
    verdict = run(page, check)
    expect(verdict).to_contain_text("✔ One step of the chain: right. (1 of 5 done in this lesson)")
    expect(verdict.locator("div[style]")).to_have_css("border-left-color", "rgb(42, 157, 111)")  # green


def test_training_shows_its_curve_until_it_is_interrupted(page: Page, address: str) -> None:
    open_notebook(page, address, "training.ipynb")
    training = page.locator(".jp-CodeCell").first
    training.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    curve = training.locator("img").first
    expect(curve).to_be_visible()
    assert curve.evaluate("image => image.naturalWidth") > 400
    early = curve.get_attribute("src")
    expect(curve).not_to_have_attribute("src", early)  # it grows
    expect(training).to_contain_text(re.compile(r"step \d+ of 1000000, loss \d\.\d+"))
    page.get_by_role("button", name=re.compile("Interrupt")).first.click()
    expect(training.locator(".jp-InputPrompt")).to_have_text(DONE)
    expect(training.locator(TROUBLE)).to_contain_text("KeyboardInterrupt")
    expect(training.locator(".progress-bar-warning")).to_be_visible()


def test_every_formula_can_be_read_to_its_end(page: Page, address: str) -> None:
    """MathJax understands it, and a window of 1280 pixels cuts neither it nor its number off."""
    open_notebook(page, address, "formulas.ipynb")
    formulas = page.locator("mjx-container[display=true]")
    expect(formulas).to_have_count(sum(text.count("$$") // 2 for text in FORMULAS))
    expect(page.locator("mjx-merror")).to_have_count(0)
    cut = formulas.evaluate_all(
        """all => all.filter(one => one.scrollWidth > one.closest(".jp-RenderedMarkdown").clientWidth)
                     .map(one => (one.innerText.match(/\\(\\d+\\.\\d+\\)/) || [one.textContent])[0])"""
    )
    assert not cut, ", ".join(cut)
