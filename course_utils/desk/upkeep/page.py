"""What the web page costs and how fast it draws in a reader's browser: `course bench book`."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# The networks' seconds: a digit in ten calls, its first call left out; eight at once; single calls for one digit.
DRAW = """async () => {
    const { denoise, schedule } = await course.make["mnist-unet"]();
    const seconds = async (pictures, steps) => {
        const [labels, x] = [Array(pictures).fill(3), course.generator(0).randn(784 * pictures)];
        const grid = course.uniformGrid(schedule, steps);
        const start = performance.now();
        for await (const _ of course.walk(course.steps.ddim(), (x, t) => denoise(x, t, labels), x, schedule, grid));
        return (performance.now() - start) / 1000;
    };
    await seconds(1, 2);
    await seconds(8, 2);
    const found = { ten: [], eight: [], one: [] };
    for (let i = 0; i < 7; i++) {
        found.ten.push(await seconds(1, 10));
        found.eight.push(await seconds(8, 10));
        found.one.push(await seconds(1, 1));
    }
    return found;
}"""


# A digit by one call of the one-step network, as the widget of lesson 14 draws it; and seconds a step of four guided
# fillings, by each method of lesson 15.
JUMP = """async () => {
    const { denoise } = await course.make["mnist-onestep"]();
    const ends = [0, 1].map((seed) => course.generator(seed).randn(784));
    const seconds = [];
    for (let i = 0; i < 60; i++) {
        const start = performance.now();
        course.pictures(await denoise(course.slerp(...ends, i / 60), 1000, [i % 10], 0));
        if (i >= 10) seconds.push((performance.now() - start) / 1000);
    }
    return seconds;
}"""
FILL = """async () => {
    const unet = await course.make["mnist-unet"]();
    const [y, mask] = [new Float32Array(784), Float32Array.from({ length: 784 }, (_, i) => (i < 500 ? 0 : 1))];
    const found = {};
    for (const method of ["replacement", "resampling", "gradient"]) {
        const start = performance.now();
        const how = { method, ask: "9", w: 2, n: 4, steps: 4, rounds: 4 };
        for await (const _ of course.fill(unet, y, mask, how));
        found[method] = (performance.now() - start) / 4000;
    }
    return found;
}"""


def web_page() -> Iterator[str]:
    """The web page: seconds to make it, its size, seconds to the first picture, pictures a second in Chromium."""
    from playwright.sync_api import sync_playwright

    from course_utils.desk.authoring import book

    if book.chromium() is None:
        yield "no Chromium here"
        return
    with tempfile.TemporaryDirectory() as folder:
        site, start = Path(folder, "site"), time.perf_counter()
        book.build(site)
        made = time.perf_counter() - start
        live = site / "_static" / "live"
        yield f"the page: {made:.0f} s to make; {_size(site):.1f} MB, of it {_size(live):.1f} MB for live widgets"
        with sync_playwright() as player:
            as_root = hasattr(os, "geteuid") and os.geteuid() == 0
            browser = player.chromium.launch(executable_path=book.chromium(), args=["--no-sandbox"] * as_root)
            page = browser.new_page()
            page.set_default_timeout(600_000)
            page.goto((site / "notebooks" / "00_start_here.html").as_uri())
            start = time.perf_counter()
            page.click(".live > button")
            page.wait_for_selector(".live canvas")
            yield f"lesson 00 from a file: {time.perf_counter() - start:.1f} s from the click to the first pictures"
            page.wait_for_selector(".live[data-state=done]")
            ten, eight, one = (statistics.median(times) for times in page.evaluate(DRAW).values())
            page.goto((site / "notebooks" / "14_one_step_generation.html").as_uri())
            start = time.perf_counter()
            page.click(".live > button")
            page.wait_for_selector(".live canvas")
            yield f"lesson 14 from a file: {time.perf_counter() - start:.1f} s from the click to the first picture"
            page.wait_for_selector(".live[data-state=done]")
            jump = statistics.median(page.evaluate(JUMP))
            page.goto((site / "notebooks" / "15_conditional_generation.html").as_uri())
            page.click(".live > button")
            page.wait_for_selector(".live[data-state=done]")
            fill = page.evaluate(FILL)
            browser.close()
        yield f"in Chromium, one thread: a digit in ten calls {ten:.2f} s; single calls {1 / one:.0f} a second"
        yield f"the one-step network: {1 / jump:.0f} pictures a second"
        yield "four guided fillings, a step: " + ", ".join(f"{name} {value:.2f} s" for name, value in fill.items())
        yield f"eight digits at once in ten calls: {eight:.2f} s, {8 / eight:.1f} pictures a second"


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
