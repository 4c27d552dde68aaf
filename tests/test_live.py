"""Widgets that run in the reader's browser: they compute what PyTorch does, every control counts, nothing is fetched.

The pages here are bare ones, opened from files; tests/test_book.py looks at the whole site, served by a host.
"""

import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from course_utils import guidance, inpainting, samplers, schedules
from course_utils.data import load_images, normalize
from course_utils.desk.lesson import lessons, read_source
from course_utils.pretrained import load_denoiser
from course_utils.toy import GaussianMixture, IdealDenoiser

playwright = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
live = pytest.importorskip("course_utils.desk.authoring.book.live")
book = pytest.importorskip("course_utils.desk.authoring.book")

pytestmark = pytest.mark.slow(40)
WIDGETS = sorted(path.stem for path in (live.LIVE / "widgets").glob("*.js"))


def cells() -> dict[str, str]:
    """What stands on the web page for each live widget, by its name."""
    found = {}
    for source in lessons():
        code = [cell.source for cell in read_source(source).cells if cell.cell_type == "code"]
        found |= dict(filter(None, (live.live_cell(source.stem, cell, code) for cell in code)))
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bare page for each widget, `notebooks/00.draw.html`, and the files they need."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "notebooks").mkdir()
    if problem := live.write_files(folder / "_static" / "live"):
        pytest.skip(problem)
    for name, cell in cells().items():
        page = f'<!doctype html><html lang="en"><meta charset="utf-8">{cell}{live.scripts([name])}</html>'
        (folder / "notebooks" / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if book.chromium() is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as player:
        options = ["--no-sandbox"] * (os.geteuid() == 0)  # Chromium refuses to run as root otherwise
        running = player.chromium.launch(
            executable_path=book.chromium(), args=[*options, "--host-rules=MAP * ~NOTFOUND"]
        )
        yield running
        running.close()


@pytest.fixture
def opened(browser: object, pages: Path) -> Iterator[Callable[..., object]]:
    """Opens a widget's page from its file, runs the widget, and sees to it that nothing but files near it is loaded."""
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(600_000)  # on a busy machine
    wrong = []

    def seen(address: str) -> None:
        if not address.startswith((pages.as_uri(), "data:", "blob:null/")):
            wrong.append(address)

    def open_page(name: str) -> object:
        page = context.new_page()
        page.on("request", lambda sent: seen(sent.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((pages / "notebooks" / f"{name}.html").as_uri())
        if ask := page.query_selector(".live > button"):
            ask.press("Enter")
        settled(page)
        return page

    yield open_page
    context.close()
    assert wrong == []


def settled(page: object) -> None:
    page.wait_for_selector(".live:is([data-state=done], [data-state=failed])")
    assert page.get_attribute(".live", "data-state") == "done", page.inner_text(".live .says")


FIGURE = """() => [...document.querySelectorAll('.live .card > *')].map((part) =>
    part.outerHTML.replace(/plot-\\d+|<span class="varies">.*?<.span>/g, '')
        + [...part.querySelectorAll('canvas')].map((c) => c.toDataURL()).join())"""


def test_a_live_widget_is_a_widget_of_a_lesson() -> None:
    assert {name[:2] for name in WIDGETS} >= {"00", "01", "02", "10", "11", "14", "15"}
    found = cells()
    assert sorted(found) == WIDGETS
    for name, cell in found.items():
        about = json.loads(live.html.unescape(re.search('data-controls="(.*?)"', cell)[1]))
        assert about["alt"], name
        assert about["controls"], name


def test_what_the_library_is_and_where_from_is_pinned() -> None:
    lock = json.loads((live.LIVE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = lock.pop("")["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert all(entry["integrity"].startswith("sha512-") for entry in lock.values())
    assert "://" not in json.dumps([entry.get("resolved", "") for entry in lock.values()])


def test_the_network_and_what_runs_it_are_small(pages: Path) -> None:
    files = json.loads(re.search(r"\{.*\}", (pages / "_static/live/files.js").read_text(encoding="utf-8"))[0])
    for name, need in files.items():
        size = sum((pages / "_static" / "live" / file).stat().st_size for file in need["files"])
        assert size == need["bytes"] < (5e6 if name == "mnist-onestep" else 8e6), name
    assert "Apache License" in (pages / "_static" / "live" / "tf.LICENSE.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WIDGETS)
def test_every_control_changes_the_figure(opened: Callable[..., object], name: str) -> None:
    """Each one moved with the keyboard, one after the other."""
    page = opened(name)
    for slider in page.query_selector_all(".live input[type=range]"):
        if name == "02.edit":  # sliders of single families
            family = {"beta_T": 0, "s": 2, "tau": 3}[slider.get_attribute("name")]
            page.locator(".live input[type=radio]").nth(family).check(force=True)
            settled(page)
        before = page.evaluate(FIGURE)
        slider.press("ArrowRight")
        settled(page)
        assert page.evaluate(FIGURE) != before, slider.get_attribute("name")
    for group in page.query_selector_all(".live fieldset"):
        before = page.evaluate(FIGURE)
        group.query_selector("input:checked").press("ArrowRight")
        settled(page)
        assert page.evaluate(FIGURE) != before, group.inner_text()
    page.close()


def test_who_wants_no_motion_sees_only_the_last_picture(browser: object, pages: Path) -> None:
    shown = {}
    for motion in ("reduce", "no-preference"):
        page = browser.new_page(reduced_motion=motion)
        page.set_default_timeout(600_000)
        page.goto((pages / "notebooks" / "10.same_noise.html").as_uri())
        page.press(".live > button", "Enter")
        settled(page)
        page.evaluate(
            """() => { window.times = 0; new MutationObserver(() => window.times++)
                .observe(document.querySelector('.live .card'), { childList: true }); }"""
        )
        page.locator(".live input[type=radio]").first.check(force=True)  # five steps
        settled(page)
        shown[motion] = page.evaluate("window.times")
        page.close()
    assert shown["reduce"] == 1
    assert shown["no-preference"] >= 5


# ---------------------------------------------------------------- against PyTorch


def test_noise_and_schedules_are_pytorchs(opened: Callable[..., object]) -> None:
    page = opened("11.paths")
    for seed, n in ((0, 784), (3, 8 * 784), (20, 21)):
        wanted = torch.randn(n, generator=torch.Generator().manual_seed(seed))
        found = page.evaluate("([seed, n]) => [...course.generator(seed).randn(n)]", [seed, n])
        assert torch.allclose(torch.tensor(found), wanted, atol=1e-5)
    for call, schedule in {
        "linear()": schedules.linear(),
        "linear(0.05)": schedules.linear(beta_T=0.05),
        "exponential(0.1)": schedules.exponential(beta_T=0.1),
        "cosine(0.1)": schedules.cosine(s=0.1),
        "sigmoid(0.4)": schedules.sigmoid(tau=0.4),
    }.items():
        found = page.evaluate(f"course.schedules.{call}.alphaBar")
        assert torch.allclose(torch.tensor(found, dtype=torch.float64), schedule.alpha_bar, rtol=1e-9), call
    for n in (1, 3, 16, 160):
        found = page.evaluate(f"course.uniformGrid(course.schedules.linear(), {n})")
        assert found == samplers.uniform_grid(schedules.linear(), n)


DRAWN = """async ([step, grid, label]) => {
    const { denoise, schedule } = await course.make['mnist-unet']();
    const { randn } = course.generator(5);
    const labels = Array(2).fill(label);
    const steps = { ddim: course.steps.ddim(), ddpm: course.steps.ddim(1, randn), dpmpp_2m: course.steps.dpmpp2m };
    const results = {};
    for (const name of step) {
        const { randn } = course.generator(5);
        const one = name === 'ddpm' ? course.steps.ddim(1, randn) : steps[name];
        let last;
        for await (const { xs } of course.walk(one, (x, t) => denoise(x, t, labels), randn(2 * 784), schedule, grid)) {
            last = xs;
        }
        results[name] = [...last];
    }
    return results;
}"""


def test_the_browser_draws_the_digits_that_pytorch_draws(opened: Callable[..., object]) -> None:
    """Same noise, same grid, float32 in both: to a thousandth of the way from black to white, and of the range."""
    page, denoise = opened("00.draw"), load_denoiser("mnist-unet")
    names = {"ddim": samplers.sample_ddim, "ddpm": samplers.sample_ddpm, "dpmpp_2m": samplers.sample_dpmpp_2m}
    for label in (None, 7):
        grid = samplers.uniform_grid(denoise.schedule, 5)
        found = page.evaluate(DRAWN, [list(names), grid, -1 if label is None else label])
        for name, sample in names.items():
            noise = torch.Generator().manual_seed(5)
            x_T = torch.randn(2, 1, 28, 28, generator=noise)
            cond = {"label": None if label is None else torch.full((2,), label)}
            wanted = sample(denoise, x_T, denoise.schedule, grid, generator=noise, **cond)
            assert (torch.tensor(found[name]).reshape(wanted.shape) - wanted).abs().max() < 1e-3, (name, label)


def test_the_widget_of_lesson_00_shows_what_the_lesson_computes(opened: Callable[..., object]) -> None:
    """Its eight digits, as bytes on the screen, for the values that the controls have at first: 10 steps, seed 0."""
    page, denoise = opened("00.draw"), load_denoiser("mnist-unet")
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(8, 1, 28, 28, generator=generator)
    wanted = samplers.sample_ddpm(
        denoise, x_T, denoise.schedule, samplers.uniform_grid(denoise.schedule, 10), generator=generator, label=None
    )
    found = page.evaluate(
        """() => [...document.querySelectorAll('.live .pictures')[0].querySelectorAll('canvas')].map((canvas) =>
            [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0))"""
    )
    bytes_wanted = ((wanted.clamp(-1, 1) + 1) * 127.5).flatten(1)
    assert (torch.tensor(found).float() - bytes_wanted).abs().max() < 0.5 + 0.2  # rounded, and a thousandth


def test_the_observer_of_lesson_01_believes_what_bayes_says(opened: Callable[..., object]) -> None:
    page = opened("01.look")
    pixels, labels = load_images("mnist", "train", n=live.DIGITS)
    world, schedule = normalize(pixels), schedules.linear()
    eps = torch.randn(784, generator=torch.Generator().manual_seed(0)).reshape(1, 1, 28, 28)
    alpha, sigma = schedule.coeffs(500)
    page.locator(".live input[name=t]").fill("500")  # where belief is divided
    settled(page)
    x_t = (alpha * world[labels == 7][3:4] + sigma * eps).float()
    wanted = IdealDenoiser(world, schedule, labels).class_posterior(x_t, 500)[0]
    assert 0.05 < wanted.max() < 0.95
    heights = page.evaluate(
        "[...document.querySelectorAll('.live svg')[1].querySelectorAll('g rect')].map(r => +r.getAttribute('height'))"
    )
    found = torch.tensor(heights) / max(240 - 26 - 38, 1)
    assert torch.allclose(found, wanted.float(), atol=2e-3)


def test_the_solvers_of_lesson_11_err_as_the_lessons_do(opened: Callable[..., object]) -> None:
    """The title's figures, against the course's own solvers in the world of the lesson's own cells."""
    page = opened("11.paths")
    (source,) = lessons(["11"])
    code = [cell.source for cell in read_source(source).cells if cell.cell_type == "code"]
    lesson = {"torch": torch, "math": __import__("math"), "functools": functools, "samplers": samplers}
    lesson |= {"GaussianMixture": GaussianMixture, "schedules": schedules, "Tensor": torch.Tensor}
    lesson |= {"leaderboard": __import__("course_utils.leaderboard").leaderboard, "line": None}
    lesson |= dict.fromkeys(("BLUE", "GREEN", "ORANGE", "PINK", "BLACK"), "")
    exec(next(cell for cell in code if cell.startswith("centres, weights, S =")), lesson)
    lesson["believe"] = lesson["line"].denoiser(lesson["path"])
    exec(next(cell for cell in code if "SOLVERS = {" in cell), lesson)
    for i, (name, (sample, *_)) in enumerate(lesson["SOLVERS"].items()):
        page.locator(".live input[type=radio]").nth(i).check(force=True)
        settled(page)
        calls, error = lesson["measured"](sample, lesson["even"](4))
        title = page.text_content(".live svg .title")
        assert title.startswith(f"{name}: 4 steps, {calls} calls, error ")
        assert float(title.rpartition(" ")[2]) == pytest.approx(error, rel=0.06), name  # two digits are shown


def test_the_browser_jumps_where_pytorch_jumps(opened: Callable[..., object]) -> None:
    """The one-step network, whose second time is told: from two noises on the sphere, and by way of an inner time."""
    page, denoise = opened("14.live"), load_denoiser("mnist-onestep")
    a, b = torch.randn(2 * 784, generator=torch.Generator().manual_seed(1)).split(784)  # the widget's own
    theta = (a @ b / (a.norm() * b.norm())).arccos()
    for s, digit, times in ((0.0, 3, (1000, 0)), (0.4, 8, (1000, 0)), (1.0, 5, (1000, 500, 0))):
        found = page.evaluate(
            """async ([s, digit, times]) => {
                const { denoise, schedule } = await course.make["mnist-onestep"]();
                const noise = course.generator(1).randn(2 * 784);
                let x = course.slerp(noise.slice(0, 784), noise.slice(784), s);
                for (let i = 0; i + 1 < times.length; i++) {
                    const [t, r] = [times[i], times[i + 1]];
                    const guess = await denoise(x, t, [digit], r);
                    x = course.steps.ddim()({ x, t, s: r, guess, schedule });
                }
                return [...x];
            }""",
            [s, digit, times],
        )
        z = (((1 - s) * theta).sin() * a + (s * theta).sin() * b) / theta.sin()
        wanted = samplers.sample_flow_map(
            denoise, z.reshape(1, 1, 28, 28), denoise.schedule, list(times), label=torch.tensor([digit])
        )
        assert (torch.tensor(found) - wanted.flatten()).abs().max() < 1e-3, (s, digit)
    shown = page.evaluate(
        "[...document.querySelector('.live canvas').getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    wanted = denoise(a.reshape(1, 1, 28, 28), 1000, r=0, label=torch.tensor([3])).detach().clamp(-1, 1).flatten()
    assert (torch.tensor(shown[::4]).float() - (wanted + 1) * 127.5).abs().max() < 0.5 + 0.2


FILLED = """async (how) => {
    const unet = await course.make['mnist-unet'](), { pictures, labels } = await course.make.digits();
    const y = pictures[labels.indexOf(7)];
    const mask = y.map((_, i) => (i < 18 * 28 ? 0 : 1));
    let last;
    for await (const xs of course.fill(unet, y, mask, how)) last = xs;
    return [...last];
}"""


def test_the_browser_fills_holes_as_pytorch_does(opened: Callable[..., object]) -> None:
    """Same noise, same grid, same rounds; the gradient of (15.13) goes through the network in both."""
    page, denoise = opened("15.boxed"), load_denoiser("mnist-unet")
    schedule, grid = denoise.schedule, samplers.uniform_grid(denoise.schedule, 4)
    pixels, labels = load_images("mnist", "train", n=live.DIGITS)
    y, mask = normalize(pixels[labels == 7][:1]), inpainting.box_mask(28, 28, 0, 0, 18, 28)
    for ask, w in ((None, 1.0), (9, 2.0)):
        led = denoise if ask is None else guidance.classifier_free(denoise, w)
        cond = {} if ask is None else {"label": torch.full((2,), ask)}
        for method in ("replacement", "resampling", "gradient"):
            generator = torch.Generator().manual_seed(5)
            x_T = torch.randn(2, 1, 28, 28, generator=generator)
            if method == "gradient":
                slope = inpainting.towards(led, lambda x: mask * x, mask * y, schedule, data_std=0.6)
                pinned = inpainting.with_known(slope, y, mask)
                wanted = samplers.sample_ddpm(pinned, x_T, schedule, grid, generator=generator, **cond)
            else:
                hole = {"known": y, "mask": mask, "rounds": 3 if method == "resampling" else 1}
                wanted = inpainting.sample_repaint(led, x_T, schedule, grid, generator=generator, **hole, **cond)
            how = {"method": method, "ask": ask, "w": w, "n": 2, "steps": 4, "rounds": 3, "seed": 5}
            found = torch.tensor(page.evaluate(FILLED, how)).reshape(wanted.shape)
            assert (found - wanted).abs().max() < 1e-3, (method, ask)
            assert (found - y).where(mask, torch.tensor(0.0)).abs().max() < 1e-5, (method, ask)


def test_a_brush_hides_what_it_paints_until_the_box_is_moved(opened: Callable[..., object]) -> None:
    page = opened("15.boxed")
    easel = ".live canvas.easel"
    pixels = "getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)"
    grey = f"[...document.querySelector('{easel}').{pixels}"
    before, fillings = page.evaluate(grey), page.evaluate(FIGURE)[1]
    box = page.query_selector(easel).bounding_box()
    at = lambda x, y: (box["x"] + box["width"] * x, box["y"] + box["height"] * y)  # noqa: E731
    page.mouse.move(*at(0.2, 0.9))
    page.mouse.down()
    page.mouse.move(*at(0.8, 0.9), steps=10)
    page.mouse.up()
    settled(page)
    after = page.evaluate(grey)
    painted = [b for a, b in zip(before, after, strict=True) if a != b]
    assert len(painted) > 20
    assert set(painted) == {128}
    assert page.evaluate(FIGURE)[1] != fillings
    page.locator(".live input[name=rows-from]").press("ArrowRight")
    page.locator(".live input[name=rows-from]").press("ArrowLeft")
    settled(page)
    assert page.evaluate(grey) == before
    assert page.evaluate(FIGURE)[1] == fillings


def test_the_ends_of_a_span_keep_their_order(opened: Callable[..., object]) -> None:
    page = opened("15.boxed")
    ends = "['from', 'to'].map((end) => document.querySelector(`.live input[name=rows-${end}]`).valueAsNumber)"
    assert page.evaluate(ends) == [2, 18]
    page.locator(".live input[name=rows-from]").press("End")
    assert page.evaluate(ends) == [28, 28]
    page.locator(".live input[name=rows-to]").press("Home")
    settled(page)
    assert page.evaluate(ends) == [0, 0]


# ---------------------------------------------------------------- where it cannot run


def test_without_the_library_the_page_says_so_and_keeps_its_words(browser: object, pages: Path, tmp_path: Path) -> None:
    shutil.copytree(pages, tmp_path / "copy")
    folder = tmp_path / "copy" / "_static" / "live"
    page = browser.new_page()
    page.set_default_timeout(600_000)
    (folder / "mnist-unet.js").unlink()
    page.goto((tmp_path / "copy" / "notebooks" / "00.draw.html").as_uri())
    page.click(".live > button")
    page.wait_for_selector(".live[data-state=failed]")
    assert "mnist-unet.js is missing" in page.inner_text(".live .says")
    assert "The figure beside it says the same" in page.inner_text(".live .says")
    (folder / "files.js").write_text(
        'course.files = {"mnist-unet": {"missing": "there was no npm"}};\n', encoding="utf-8"
    )
    page.goto((tmp_path / "copy" / "notebooks" / "00.draw.html").as_uri())
    assert "open the lesson in Colab or JupyterLab" in page.inner_text(".live")
    assert "there was no npm" in page.inner_text(".live .says")
    page.close()


def test_a_build_without_npm_leaves_the_network_out_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(live.shutil, "which", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = live.write_files(tmp_path / "live")
    assert "npm" in problem
    assert '"missing"' in (tmp_path / "live" / "files.js").read_text(encoding="utf-8")
    assert not (tmp_path / "live" / "mnist-unet.js").exists()
