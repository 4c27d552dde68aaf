"""Sliders and buttons around a figure.

Each widget of a lesson stands beside a static figure that says the same, for readers on a page without a kernel.
"""

import html
from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from course_utils.plotting import to_png


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
    whole = all(isinstance(x, int) for x in (low, high, value, step or 1))
    make = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return make(
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
