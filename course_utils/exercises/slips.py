"""Slips that many exercises share, as mistakes for `expect`: said once, and told in the same words in all lessons."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.compare import AS_COLUMN, close, column

FIRST_T = "every image has its own t; yours all use the first"


def lookups(formula: Callable[..., Tensor], alpha_bar: Tensor, x: Tensor, *times: Tensor) -> dict[str, Tensor]:
    """What goes wrong when alpha_bar is looked up: another entry, another power, along another axis.

    Args:
        formula: what is right, from alpha_bar at each of `times`, in shapes that multiply x.
        alpha_bar: the table, (T + 1,).
        x: images (b, c, h, w) or points (b, d).
        times: (b,) each.
    """
    right = formula(*(column(alpha_bar[t], x) for t in times))
    one_step = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])

    def read(table: Tensor = alpha_bar, shift: int = 0, which: slice = slice(None)) -> Tensor:
        places = [(t + shift).clamp(0, len(table) - 1)[which] for t in times]
        return formula(*(column(table[place], x) for place in places)).expand_as(right)

    mistakes = {
        "t is off by one, too early: alpha_bar[0] is clean data, so alpha_bar[t] is already the right entry": read(
            shift=-1
        ),
        "t is off by one, too late: alpha_bar[0] is clean data, so alpha_bar[t] is already the right entry": read(
            shift=1
        ),
        "that is one step's alpha; alpha_t² is the product of all steps so far, alpha_bar[t]": read(one_step),
        "alpha_bar is the product of all steps already: no further `cumprod`": read(alpha_bar.cumprod(0)),
        "alpha_bar is alpha_t² already: no further square": read(alpha_bar**2),
        "alpha_t² is alpha_bar[t] itself; you took a root of it first: one root too many": read(alpha_bar.sqrt()),
        FIRST_T: read(which=slice(1)),
        "every image has its own t; yours all use the last": read(which=slice(-1, None)),
    }
    for axis, name, after in [(-1, "width", ()), (-2, "height", (1,))]:
        if x.ndim == 4 and x.shape[axis] == len(x):
            spread = [alpha_bar[t].to(x.dtype).reshape(-1, *after) for t in times]
            mistakes[f"t runs along the {name} of the images: {AS_COLUMN}"] = formula(*spread)
    if x.ndim == 2 and x.shape[1] == len(x):
        spread = [alpha_bar[t].to(x.dtype) for t in times]
        mistakes["t runs along the columns; as `alpha_bar[t][:, None]` it belongs to the rows"] = formula(*spread)
    return mistakes


def in_float32(got: object, want: Tensor) -> object:
    """`want` for an answer of that shape in float32 and right to its precision, where a page asks for no dtype.

    `torch.tensor(3.14)` of an honest Python number is one.
    """
    if isinstance(got, Tensor) and got.dtype == torch.float32 and got.numel() == want.numel():
        return want if close(got.reshape(want.shape), want.float()) else got
    return got
