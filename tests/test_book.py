"""The course as a web page: everything is on it, every link leads somewhere, and no other host is needed to read it."""

import ast
import os
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from filelock import FileLock

pytest.importorskip("furo", reason="the extra `book` is not installed")
bs4 = pytest.importorskip("bs4")

from course_utils.desk.authoring import book  # noqa: E402
from course_utils.desk.authoring.book import sheets  # noqa: E402

pytestmark = pytest.mark.slow(60)  # the first of them builds the page
ROOT = Path(__file__).parents[1]
LESSONS = [path.stem for path in book.lessons()]
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}  # by itself, and from where


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, one for all processes of a test run. Warnings would fail the build."""
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-gw"):  # a process of pytest-xdist
        folder = folder.parent
    with FileLock(folder / "book.lock"):
        if not (folder / "book" / "index.html").exists():
            book.build(folder / "book")
    return folder / "book"


class Reader(HTMLParser):
    """What a page holds: ids, links, what the browser loads by itself, headings, pictures."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.headings: list[int] = []
        self.images: list[dict[str, str | None]] = []
        self.lang: str | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        about = dict(attributes)
        if about.get("id"):
            self.ids.add(about["id"])
        if tag == "a" and about.get("href"):
            self.links.append(about["href"])
        if about.get(LOADS.get(tag, "")):
            self.loads.append(about[LOADS[tag]])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(about)
        if tag == "html":
            self.lang = about.get("lang")


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Reader]:
    return {path: Reader(path) for path in sorted(site.rglob("*.html"))}


def soup(path: Path) -> "bs4.BeautifulSoup":
    return bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def stored(lesson: str, folder: str = "notebooks") -> nbformat.NotebookNode:
    return nbformat.read(ROOT / folder / f"{lesson}.ipynb", as_version=4)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="name another folder"):
        book.build(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


# ---------------------------------------------------------------- links


def test_every_link_and_anchor_leads_somewhere(pages: dict[Path, Reader]) -> None:
    broken, followed = [], 0
    for path, page in pages.items():
        for link in page.links + page.loads:
            if re.match(r"[a-z]+:", link):
                continue
            address, anchor = urldefrag(link)
            target = (path.parent / unquote(address.partition("?")[0])).resolve() if address else path
            followed += 1
            if not target.is_file() or (anchor and unquote(anchor) not in pages[target].ids):
                broken.append(f"{path.name}: {link}")
    assert broken == []
    assert followed > 50 * len(LESSONS)


def test_no_link_is_left_that_only_the_repository_can_follow(pages: dict[Path, Reader]) -> None:
    links = [link for page in pages.values() for link in page.links if not link.startswith("http")]
    assert not [link for link in links if link.endswith((".md", ".py"))]
    assert not [link for link in links if link.endswith(".ipynb") and "_downloads/" not in link]


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Reader]) -> None:
    assert not [
        (path.name, what) for path, page in pages.items() for what in page.loads if re.match(r"(?!data:)\w+:|//", what)
    ]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


# ---------------------------------------------------------------- lessons


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_can_be_opened_in_colab_and_downloaded_as_the_learner_gets_it(site: Path, lesson: str) -> None:
    path = site / "notebooks" / f"{lesson}.html"
    *colab, download = soup(path).select(".buttons a")
    badges = re.findall(r"\[Open in Colab\]\(([^)]*)\)$", stored(lesson).cells[0].source)  # none without an address
    assert [link["href"] for link in colab] == badges
    assert (path.parent / download["href"]).read_bytes() == (ROOT / "notebooks" / f"{lesson}.ipynb").read_bytes()
    assert download.has_attr("download")


@pytest.mark.parametrize("lesson", LESSONS)
def test_answers_hints_rubrics_and_drawing_are_folded_and_nothing_else_is(site: Path, lesson: str) -> None:
    solved = stored(lesson, "notebooks/solutions")
    kinds = [kind for cell in solved.cells for kind in cell.metadata.get("tags", [])]
    article = soup(site / "notebooks" / f"{lesson}.html").article
    learner = [cell for cell in stored(lesson).cells if cell.cell_type == "code"]
    shown = [cell.get_text().strip() for cell in article.select(".cell_input pre")]
    assert shown == [cell.source.strip() for cell in learner]
    folded = [fold.extract() for fold in article.find_all("details")]
    assert not any(fold.has_attr("open") for fold in folded)
    drawing = [cell for cell in learner if "fold" in cell.metadata.get("tags", [])]
    assert [fold.pre.get_text().strip() for fold in folded if fold.select(".cell_input")] == [
        cell.source.strip() for cell in drawing
    ]
    titles = [fold.summary.get_text().strip() for fold in folded]
    for cell in drawing:
        named = cell.source.split("\n")[0].removeprefix("# @title ")
        assert any(summary.startswith(named) for summary in titles), named
    assert titles.count("Hint") == sum(cell.source.count("<summary>Hint") for cell in solved.cells)
    assert titles.count("Solution") == kinds.count("exercise")
    assert titles.count("An answer") == kinds.count("manual")
    assert titles.count("What earns the points") == kinds.count("rubric")
    solutions = [fold.pre.get_text().strip() for fold in folded if fold.summary.get_text().strip() == "Solution"]
    assert solutions == [cell.source.strip() for cell in solved.cells if "exercise" in cell.metadata.get("tags", [])]


@pytest.mark.parametrize("lesson", LESSONS)
def test_all_outputs_are_there(site: Path, lesson: str) -> None:
    outputs = [output for cell in stored(lesson, "notebooks/solutions").cells for output in cell.get("outputs", [])]
    page = soup(site / "notebooks" / f"{lesson}.html").article
    alts = [output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]
    assert [image["alt"] for image in page.find_all("img")] == alts
    streams = [output.text for output in outputs if output.output_type == "stream"]
    assert [block.get_text().strip() for block in page.select(".output.stream")] == [text.strip() for text in streams]
    verdicts = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(page.select(".output.text_html")) == len(verdicts)
    widgets = [output for output in outputs if "A live widget" in output.get("data", {}).get("text/plain", "")]
    assert page.get_text().count("A live widget: open the lesson") == len(widgets)
    assert "A live widget: run this cell" not in page.get_text()


def formulas(lesson: str) -> SimpleNamespace:
    """How many formulas a lesson's text has, counted in its source: displayed, numbered, and within lines."""
    counted = SimpleNamespace(displayed=0, numbered=0, within=0)
    for cell in stored(lesson, "notebooks/solutions").cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"(?s)```.*?```|`[^`]*`", "", cell.source)
            displayed = re.findall(r"(?s)\$\$(.+?)\$\$", text)
            counted.displayed += len(displayed)
            counted.numbered += sum("\\tag" in formula for formula in displayed)
            counted.within += len(re.findall(r"\$[^$]+\$", re.sub(r"(?s)\$\$.+?\$\$", "", text)))
    return counted


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_formula_is_one(site: Path, lesson: str) -> None:
    page, counted = soup(site / "notebooks" / f"{lesson}.html").article, formulas(lesson)
    assert len(page.select("div.math")) == counted.displayed
    assert len(page.select("span.math")) == counted.within
    for formula in page.select("div.math, span.math, pre, code"):
        formula.extract()
    assert "$" not in page.get_text()


# ---------------------------------------------------------------- the other pages


def test_the_front_page_leads_to_every_lesson(site: Path, pages: dict[Path, Reader]) -> None:
    table = soup(site / "index.html").select_one("#the-lessons table")
    assert [link["href"] for link in table.select("td:first-child a")] == [f"notebooks/{name}.html" for name in LESSONS]


def test_the_readme_is_there_whole(site: Path) -> None:
    shown = soup(site / "index.html").article.get_text()
    for title in re.findall(r"(?m)^## (.*)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert shown.count(title) >= 1, title


def test_every_public_function_and_class_has_its_docstring_on_a_page(pages: dict[Path, Reader]) -> None:
    """All of course_utils, but for the checks of exercises and the command line, which describes itself."""
    ids = set().union(*(page.ids for page in pages.values()))
    missing = []
    for path in sorted((ROOT / "course_utils").rglob("[a-z]*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.stem == "cli" or path.stem.startswith("lesson_") or "._" in module:  # private packages have no page
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and ast.get_docstring(node) and f"{module}.{node.name}" not in ids:
                missing.append(f"{module}.{node.name}")
    assert missing == []


def test_signatures_show_shapes(site: Path) -> None:
    signature = soup(site / "code" / "forward.html").find(id="course_utils.forward.q_step").get_text()
    assert "x_prev: Float[Tensor, 'b *shape']" in signature
    assert "schedule: Counted" in signature


def test_who_cannot_see_it_gets_words_headings_in_order_and_a_language(pages: dict[Path, Reader]) -> None:
    problems = []
    for path, page in pages.items():
        problems += [f"{path.name}: a picture without words" for image in page.images if not image.get("alt")]
        if page.lang != "en":
            problems.append(f"{path.name}: no language")
        if "_modules" not in path.parts and path.stem != "search":
            if page.headings[:1] != [1] or page.headings.count(1) != 1:
                problems.append(f"{path.name}: wanted one heading of the first order, and it first")
            if any(after > before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False)):
                problems.append(f"{path.name}: a heading skips an order: {page.headings}")
    assert problems == []


# ---------------------------------------------------------------- in a browser


NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as player:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to run as root otherwise
        running = player.chromium.launch(executable_path=chromium, args=[*options, NO_NETWORK])
        yield running
        running.close()


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def phone(browser: object, address: str) -> Iterator[tuple[object, list[str]]]:
    """A page as narrow as a phone's, and a list of what goes wrong on it."""
    context = browser.new_context(viewport={"width": 380, "height": 800}, base_url=address)
    context.set_default_timeout(600_000)  # on a busy machine
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith((address, "data:")) else wrong.append(sent.url))
    left = "net::ERR_ABORTED"  # by going on to the next page
    page.on("requestfailed", lambda sent: None if sent.failure == left else wrong.append(f"failed: {sent.url}"))
    yield page, wrong
    context.close()


LOOK = """() => ({
    unset: [...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container svg')).length,
    errors: [...document.querySelectorAll('[data-mml-node="merror"], [data-mml-node="mtext"][fill="red"]')]
        .map(error => error.closest('.math').textContent),
    numbered: document.querySelectorAll('[data-mml-node="mlabeledtr"]').length,
    wide: ['html', 'body', '.main', '.content']  // furo's own pane scrolls, not the window
        .filter(name => [...document.querySelectorAll(name)].some(e => e.scrollWidth > e.clientWidth + 1)),
    cut: [...document.querySelectorAll('article pre')]  // what cannot be scrolled to
        .filter(e => e.scrollWidth > e.clientWidth + 1 && !['auto', 'scroll'].includes(getComputedStyle(e).overflowX))
        .map(e => e.textContent.slice(0, 40)),
})"""


def test_every_page_on_a_phone_without_a_network(site: Path, phone: tuple[object, list[str]]) -> None:
    page, wrong = phone
    for path in [path for path in sorted(site.rglob("*.html")) if "_modules" not in path.parts]:
        page.goto(f"/{path.relative_to(site).as_posix()}")
        if page.query_selector(".math"):
            page.evaluate("MathJax.startup.promise")
        found = SimpleNamespace(**page.evaluate(LOOK))
        wrong += [f"{path.name}: {found.unset} formulas are not set"] if found.unset else []
        wrong += [f"{path.name}: a formula says {text}" for text in found.errors]
        wrong += [f"{path.name}: {name} is wider than the phone" for name in found.wide]
        wrong += [f"{path.name}: code is cut: {code}" for code in found.cut]
        if path.stem in LESSONS and found.numbered != formulas(path.stem).numbered:
            wrong.append(f"{path.name}: {found.numbered} numbered formulas, not {formulas(path.stem).numbered}")
    assert wrong == []


OPEN = "() => document.querySelectorAll('article details').forEach(fold => { fold.open = true; })"
TOO_WIDE = """() => [...document.querySelectorAll('article .highlight pre')]
    .filter(e => !e.closest('.cell_output') && e.scrollWidth > e.clientWidth + 1)
    .map(e => e.textContent.slice(0, 60))"""


@pytest.mark.parametrize("lesson", LESSONS)
def test_code_fits_into_its_box_beside_the_contents(browser: object, address: str, lesson: str) -> None:
    """In a window of 1280 pixels, folded parts opened by a click on one and then all of them."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=address)
    page.set_default_timeout(120_000)
    page.goto(f"/notebooks/{lesson}.html")
    fold = page.locator("article details.hide").nth(1)  # the imports
    assert not fold.locator("pre").is_visible()
    fold.locator("summary").click()
    assert fold.locator("pre").is_visible()
    page.evaluate(OPEN)
    assert page.evaluate(TOO_WIDE) == []
    page.close()


def test_a_button_copies_a_piece_of_code(phone: tuple[object, list[str]]) -> None:
    page, wrong = phone
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/notebooks/{LESSONS[1]}.html")
    box = page.locator("article div.highlight:has(button.copy):visible").first
    box.locator("button.copy").press("Enter")
    page.wait_for_function(
        "text => document.querySelector('button.copy') && navigator.clipboard.readText().then(t => t === text)",
        arg=box.locator("pre").text_content(),
    )
    assert wrong == []


def test_search_finds_tweedie(phone: tuple[object, list[str]]) -> None:
    page, wrong = phone
    page.goto("/index.html")
    page.locator("input[name=q]").first.fill("Tweedie")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    found = [link.get_attribute("href") for link in page.query_selector_all("#search-results li a")]
    said = [lesson for lesson in LESSONS if "Tweedie" in nbformat.writes(stored(lesson))]
    assert said
    assert all(any(f"{lesson}.html" in link for link in found) for lesson in said)
    assert wrong == []


# ---------------------------------------------------------------- sheets, and links to them


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_term_links_to_the_glossary_once_a_page_and_every_equation_that_is_named_to_its_place(
    site: Path, lesson: str
) -> None:
    article = soup(site / "notebooks" / f"{lesson}.html").article
    terms = article.select("a.term")
    assert len(terms) > 5
    assert len({link["href"] for link in terms}) == len(terms)
    assert all(link["href"].startswith("../docs/glossary.html#term-") and link["title"] for link in terms)
    numbers = {equation.number for path in book.lessons() for equation in sheets.equations(path)}
    for link in article.select("a.equation"):
        assert link["href"].endswith(f"#eq-{link.get_text().strip('()')}")
    for closed in article.select("a, pre, code, summary, .math, h1, h2, h3"):
        closed.extract()
    assert not numbers & set(re.findall(r"\((\d+\.\d+)\)", article.get_text()))


def test_the_sheet_of_formulas_has_them_all_and_comes_as_pdf(site: Path) -> None:
    page = soup(site / "docs" / "formulas.html")
    shown = [number.get_text().strip("()") for number in page.select(".formula > p > a.equation")]
    assert shown == [equation.number for path in book.lessons() for equation in sheets.equations(path)]
    assert len(page.select(".formula div.math")) == len(shown)
    if book.chromium():
        pdf = (site / "docs" / "formulas.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert 3 <= len(re.findall(rb"/Type ?/Page\b", pdf)) <= 12
