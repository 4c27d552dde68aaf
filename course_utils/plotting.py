"""Figures: one look for the whole course, images in rows, and alt text on everything.

Every figure of a lesson ends in `show(figure, "what it shows, for who cannot see it")`.
"""

import html
import io
import math
import os
from collections.abc import Sequence

import matplotlib.pyplot as plt
import PIL.Image
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure
from torch import Tensor

from course_utils._validate import require_count, require_float, require_in, require_type

# Okabe and Ito's colours: told apart by colour-blind readers, dark enough on the white card.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = COLOURS


def use_style() -> None:
    """The look of the course: called once, in a lesson's first cell. A white card, readable on light and dark pages."""
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "lines.linewidth": 1.8,
            "legend.edgecolor": "none",  # a patch of the card's white, so that no line strikes the words through
            "legend.fancybox": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, and closed: nothing is left for matplotlib to draw a second time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display a figure in the notebook, with alt text for who cannot see it.

    JupyterLab drops the alt text of a PNG. So what runs under a Jupyter server (which names its sessions) gets HTML as
    well; stored copies, Colab, GitHub and nbconvert get the PNG, whose alt text they know.

    Args:
        figure: a matplotlib figure; closed by this.
        alt: what the figure shows, in a sentence or two.
    """
    require_type("figure", figure, Figure, "a matplotlib figure")
    _require_alt(alt)
    width = int(figure.get_figwidth() * 96)  # the same size on a page whatever its resolution
    picture = Image(to_png(figure), format="png", width=width, alt=alt)
    if "JPY_SESSION_NAME" not in os.environ:
        display(picture)
        return
    data, about = picture._repr_mimebundle_()
    page = f'<img src="data:image/png;base64,{data["image/png"]}" width="{width}" alt="{html.escape(alt)}">'
    display({**data, "text/html": page}, metadata=about, raw=True)


def _require_alt(alt: object) -> None:
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("alt: wanted a sentence that says what the figure shows, got nothing")


def show_film(clips: Tensor, alt: str, *, scale: int = 5, seconds: float = 0.12) -> None:
    """Clips (n, 1, frames, h, w) in [-1, 1], side by side, as a picture that moves (APNG); stills where it cannot.

    Say the same in a strip of frames beside it, for who cannot see it move.
    """
    require_float("clips", clips)
    if clips.ndim != 5 or clips.shape[1] != 1 or clips.numel() == 0:
        raise ValueError(f"clips: wanted some, (n, 1, frames, height, width), got shape {tuple(clips.shape)}")
    _require_alt(alt)
    require_count("scale", scale)
    require_in("seconds", seconds, "[0.01, 60]")
    shown = to_pixels(torch.nn.functional.pad(clips, (1, 1, 1, 1), value=1.0).transpose(1, 2))  # (n, frames, h, w)
    rows = shown.permute(1, 2, 0, 3).flatten(2).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    pages = [PIL.Image.fromarray(page) for page in (rows * 255).to(torch.uint8).numpy()]
    buffer = io.BytesIO()
    pages[0].save(buffer, "PNG", save_all=True, append_images=pages[1:], duration=int(1000 * seconds), loop=0)
    display(Image(buffer.getvalue(), format="png", alt=alt))


def to_pixels(images: Tensor) -> Tensor:
    """Images (…, c, h, w) or (…, h, w) in [-1, 1], or uint8, as floats in [0, 1] shaped (…, h, w) or (…, h, w, 3).

    Values outside [-1, 1] are clipped, as any screen must. Raises ValueError for other channel counts than 1 and 3.
    """
    require_type("images", images, Tensor, "a tensor")
    if images.dtype != torch.uint8:
        require_float("images", images)
    images = images.detach().cpu()
    images = images / 255 if images.dtype == torch.uint8 else (images.float() + 1) / 2
    images = images.clamp(0, 1)
    if images.ndim < 3:
        return images
    channels = images.shape[-3]
    if channels not in (1, 3):
        raise ValueError(f"images: wanted (…, 1 or 3, h, w), got {tuple(images.shape)}")
    return images.squeeze(-3) if channels == 1 else images.movedim(-3, -1)


def image_grid(
    images: Tensor,
    *,
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    size: float = 0.9,
    title: str | None = None,
) -> Figure:
    """Images side by side, row by row.

    Args:
        images: (n, c, h, w) in [-1, 1], or uint8.
        columns: images a row; all in one row up to ten, unless told.
        titles: one above each image of the first row, or one above every image.
        row_labels: one left of each row.
        size: width and height of an image, in inches.
        title: one line above everything.
    """
    require_type("images", images, Tensor, "a tensor")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images: wanted (n, c, h, w) with n >= 1, got {tuple(images.shape)}")
    if columns is not None:
        require_count("columns", columns)
    require_in("size", size, "(0, inf)")
    columns = columns or min(len(images), 10)
    rows = math.ceil(len(images) / columns)
    if row_labels and len(row_labels) < rows:
        raise ValueError(f"row_labels: wanted one for each of {rows} rows, got {len(row_labels)}")
    height = size * rows + 0.25 * bool(titles) * (rows if titles and len(titles) > columns else 1) + 0.3 * bool(title)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns + 0.9 * bool(row_labels), height), squeeze=False)
    pixels = to_pixels(images).numpy()
    for i, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if i < len(pixels):
            axis.imshow(pixels[i], vmin=0, vmax=1)
        if titles and i < len(titles):
            axis.set_title(titles[i], fontsize=9, pad=3)
        if row_labels and i % columns == 0:
            axis.set_ylabel(row_labels[i // columns], rotation=0, ha="right", va="center", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
