"""Sliders and buttons around a figure.

Each widget of a lesson stands beside a static figure that says the same, for readers on a page without a kernel.
"""

import html
import time
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from course_utils._validate import require_callable, require_count
from course_utils.plotting import image_grid, to_png
from course_utils.training import Record


def explore(draw: Callable[..., Figure], *, alt: str, **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """A figure that is drawn again whenever a control moves.

    The figure travels as one PNG, so it does not flicker, and works alike in JupyterLab, on Colab and in VS Code.

    Args:
        draw: takes the controls' values by name and returns a matplotlib figure.
        alt: what the figure shows, for who cannot see it.
        controls: ipywidgets, by the name of draw's argument; each can be reached and moved with the keyboard.
    """
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", object_fit="contain"))
    trouble = ipywidgets.HTML()

    def redraw(change: object = None) -> None:
        try:
            picture.value = to_png(draw(**{name: control.value for name, control in controls.items()}))
            trouble.value = ""
        except Exception as e:  # a widget's traceback would vanish in a log
            trouble.value = f"<b>The figure could not be drawn:</b> {html.escape(f'{type(e).__name__}: {e}')}"

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox(
        [*controls.values(), picture, trouble, ipywidgets.HTML(f"<small>{html.escape(alt)}</small>")]
    )


def slider(
    label: str, low: float, high: float, value: float, step: float | None = None, **options: object
) -> ipywidgets.IntSlider | ipywidgets.FloatSlider:
    """A slider with room for its label; whole numbers in, whole numbers out."""
    return _slid(label, low, high, value, step, (ipywidgets.IntSlider, ipywidgets.FloatSlider), options)


def span(
    label: str, low: float, high: float, value: tuple[float, float], step: float | None = None, **options: object
) -> ipywidgets.IntRangeSlider | ipywidgets.FloatRangeSlider:
    """A slider with two ends, whose value is a pair: from where to where."""
    return _slid(label, low, high, value, step, (ipywidgets.IntRangeSlider, ipywidgets.FloatRangeSlider), options)


def _slid(label: str, low: float, high: float, value: Any, step: float | None, kinds: Any, options: Any) -> Any:
    """A slider of the first kind if all that is given are whole numbers, of the second otherwise."""
    ends = value if isinstance(value, tuple) else (value,)
    whole = all(isinstance(x, Integral) for x in (low, high, *ends, step or 1))
    return kinds[0 if whole else 1](
        min=low,
        max=high,
        value=value,
        step=step or (1 if whole else (high - low) / 100),
        description=label,
        style={"description_width": "initial"},
        layout=ipywidgets.Layout(width="min(36em, 100%)"),
        **options,
    )


def choice(label: str, options: list | dict, value: object = None) -> ipywidgets.ToggleButtons:
    """A row of buttons, one of which is down; `options` as names, or names and their values."""
    extra = {} if value is None else {"value": value}
    return ipywidgets.ToggleButtons(
        options=list(options.items()) if isinstance(options, dict) else options,
        description=label,
        style={"description_width": "initial", "button_width": "auto"},
        **extra,
    )


def watch(
    records: Iterable[Record],
    steps: int,
    *,
    label: str = "training",
    sample: Callable[[], Tensor] | None = None,
    every: int = 100,
) -> Iterator[Record]:
    """Pass a training's records through, and show meanwhile how it goes: a bar, the loss curve, and samples if wanted.

        for record in watch(train(run, images, labels, steps=400), 400):
            ...

    The picture is drawn again after a second, and then ever more rarely, so that it costs less than a fiftieth of the
    time. Interrupt the kernel to stop: what was learned so far stays in the run.

    Args:
        records: of `training.train`.
        steps: where the bar is full.
        label: one or two words before the bar.
        sample: makes images (n, c, h, w) to show, from the model as it is; called every `every` steps and at the end.
    """
    require_count("steps", steps)
    require_count("every", every)
    if sample is not None:
        require_callable("sample", sample)
    bar = ipywidgets.IntProgress(max=steps, description=label, style={"description_width": "initial"})
    words = ipywidgets.Label("starting")
    curve, samples = (
        ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", display="none")) for _ in range(2)
    )
    display(ipywidgets.VBox([ipywidgets.HBox([bar, words]), curve, samples]))
    taken: list[int] = []
    losses: list[float] = []
    start, pause, due = time.perf_counter(), 1.0, time.perf_counter() + 1

    def draw(record: Record) -> float:
        before = time.perf_counter()
        bar.value = record.step
        speed = len(taken) / (before - start)
        words.value = f"step {record.step} of {steps}, loss {_smoothed(losses)[-1]:.4f}, {speed:.1f} steps/s"
        _put(curve, _loss_curve(taken, losses))
        return time.perf_counter() - before

    record = None
    try:
        for record in records:
            taken.append(record.step)
            losses.append(record.loss)
            if time.perf_counter() > due:
                pause = max(pause, 50 * draw(record))
                due = time.perf_counter() + pause
            if sample and (record.step % every == 0 or record.step == steps):
                _put(samples, image_grid(sample(), title=f"after step {record.step}"))
            yield record
    finally:
        if record is not None:
            draw(record)
            bar.bar_style = "success" if record.step >= steps else "warning"


def _put(picture: ipywidgets.Image, figure: Figure) -> None:
    picture.value = to_png(figure)
    picture.layout.display = ""


def _smoothed(losses: list[float]) -> list[float]:
    """An average over about the last twentieth of all losses, unbiased from the first one on."""
    keep = 1 - 1 / max(1, len(losses) / 20)
    total, weight, out = 0.0, 0.0, []
    for loss in losses:
        total, weight = keep * total + loss, keep * weight + 1
        out.append(total / weight)
    return out


def _loss_curve(steps: list[int], losses: list[float]) -> Figure:
    figure, axis = plt.subplots(figsize=(5.5, 2.4))
    axis.plot(steps, losses, alpha=0.25, linewidth=1)
    axis.plot(steps, _smoothed(losses), color="C0")
    axis.set(xlabel="step", ylabel="loss", yscale="log" if min(losses) > 0 else "linear")
    return figure
