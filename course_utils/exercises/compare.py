"""What a check draws, and how it compares: fresh inputs, what is right, and the numbers of typical mistakes."""

import numbers as kinds_of_number
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.answer import Wrong
from course_utils.schedules import DiscreteSchedule


@dataclass
class Draw:
    """Fresh random inputs, from a stream of their own."""

    generator: torch.Generator

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def uniform(self, low: float, high: float, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Numbers spread evenly over [low, high)."""
        return (low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)).to(dtype)

    def number(self, low: float, high: float) -> float:
        """One Python float in [low, high)."""
        return self.uniform(low, high, dtype=torch.float64).item()

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers low … high, both included."""
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def distinct(self, low: int, high: int, n: int) -> Tensor:
        """n different whole numbers low … high, both included."""
        return torch.randperm(high + 1 - low, generator=self.generator)[:n] + low

    def times(self, low: int, high: int, n: int) -> Tensor:
        """n different whole numbers low … high, with both ends among them wherever n > 1.

        The ends stand in the same places every time, in the middle where there is one: what a slip does to them is told
        in the same words from run to run, and nothing is sorted.
        """
        if n == 1:
            return self.distinct(low, high, 1)
        inner = self.distinct(low + 1, high - 1, n - 2)
        return torch.cat([inner[:1], torch.tensor([high, low]), inner[1:]])

    def seed(self) -> int:
        """A seed for something that wants one."""
        return int(self.integers(0, 2**31 - 1).item())


def close(got: Tensor, want: Tensor, tolerance: float | None = None) -> bool:
    """Equal up to the rounding of a few operations in their precision, relative to the size of what is wanted.

    Infinities must be the same infinities; NaN is close to nothing.
    """
    if tolerance is None:
        tolerance = {torch.float64: 1e-9, torch.float32: 2e-5}.get(want.dtype, 0.0)
    got, want = got.double(), want.double()
    finite = want[want.isfinite()]
    scale = finite.abs().max().clamp(min=1e-3) if finite.numel() else torch.tensor(1.0)
    return bool(((got == want) | ((got - want).abs() <= tolerance * scale)).all())


SIX_DIGITS = 5e-6
"""How near to the right numbers a constant in float32 leads, where the others are float64."""


def expect(
    got: Any,
    want: Tensor,
    *,
    mistakes: Mapping[str, Tensor] | None = None,
    what: str = "the result",
    shape_hint: str = "",
) -> None:
    """Raise Wrong unless `got` is `want`, with the hint of the first mistake whose numbers it has instead.

    `mistakes` maps a hint to what somebody who needs it would have returned.
    """
    if not isinstance(got, Tensor):
        raise Wrong(f"{what} should be a tensor, got {described(got)}", shape_hint)
    if got.is_complex():
        raise Wrong(f"{what} should be real, got complex numbers", "take `.real`, where the imaginary part is 0")
    if got.shape == want.shape and got.dtype == want.dtype and close(got, want):
        return
    for tolerance in [None, SIX_DIGITS] if want.dtype == got.dtype == torch.float64 else [None]:
        if tolerance and got.shape == want.shape and close(got, want, tolerance):
            raise Wrong(
                f"{what} agrees with the right numbers to about six digits, and no further",
                "a constant in it is float32: make it with `dtype=x.dtype`, and take no `.float()` on the way",
            )
        for hint, mistake in (mistakes or {}).items():
            same = got.shape == want.shape and close(got, want)  # only its dtype is wrong
            if not same and mistake.shape == got.shape and close(got, mistake, tolerance):
                raise Wrong(f"{what} is not right", hint)
    if got.shape != want.shape:
        hint = POINTS if want.ndim == 2 and got.ndim == 4 else shape_hint
        raise Wrong(f"{what} should have shape {tuple(want.shape)}, got {tuple(got.shape)}", hint)
    if got.dtype != want.dtype:
        raise Wrong(
            f"{what} should be {want.dtype} like the input, got {got.dtype}",
            "keep the input's dtype: no `.float()` and no `.int()` on the way; `torch.tensor([…])`, `torch.zeros(n)` "
            "and their like make float32 unless told `dtype=x.dtype`",
        )
    if not got.isfinite().all() and want.isfinite().all():
        raise Wrong(f"{what} has NaN or infinity in it", "look for a division by zero, or a root or log of one")
    raise Wrong(
        f"{what} has the right shape and the wrong numbers",
        kinship(got, want) or "set your line beside the equation, term by term",
    )


def kinship(got: Tensor, want: Tensor) -> str:
    """What wrong numbers have to do with the right ones, in words that fit any formula; empty if nothing."""
    if want.numel() < 3 or not want.is_floating_point() or not want.isfinite().all():
        return ""
    for words, relative in {
        "the sign: all numbers come out with the opposite one": -want,
        "a factor of 2: all numbers come out twice as large": 2 * want,
        "a factor of 2: all numbers come out half as large": want / 2,
        "that is the square of what is wanted": want.square(),
        "that is the root of what is wanted": want.sqrt(),
        "that is one over what is wanted": 1 / want,
        "that is the logarithm of what is wanted": want.log(),
        "that is the exponential of what is wanted": want.exp(),
    }.items():
        if relative.isfinite().all() and close(got, relative):
            return words

    if close(got, want.clamp(-1, 1)):
        return "your numbers stop at -1 and 1: nothing is to be clipped here"
    for short in (torch.float16, torch.bfloat16):
        if (got != got.round()).any() and torch.equal(got, got.to(short).to(got.dtype)):
            return "your numbers have the digits of half precision, and no more: no `.half()`, no autocast on the way"

    def factor(got: Tensor, want: Tensor, dims: tuple[int, ...]) -> Tensor:
        return (got * want).sum(dims, keepdim=True) / want.square().sum(dims, keepdim=True)

    everything, each = tuple(range(want.ndim)), tuple(range(1, want.ndim))
    if close(got, factor(got, want, everything) * want):
        return "all numbers are wrong by one factor: look at what multiplies everything"
    if close(got, want + (got - want).mean()):
        return "all numbers are wrong by one amount: look for a term that is missing, or too many"
    if want.ndim > 1 and want[0].numel() > 2 and close(got, factor(got, want, each) * want):
        return "each is wrong by a factor of its own: look for a factor that depends on t"
    return ""


POINTS = (
    "points (b, d) must be served too: `a.reshape(-1, *[1] * (x.ndim - 1))` makes a column of one number each, for "
    "images and for points"
)
AS_COLUMN = (
    "alpha_bar[t] has shape (b,); before it can multiply images (b, c, h, w) it must become (b, 1, 1, 1); points "
    "(b, d) must be served too: `.reshape(-1, *[1] * (x.ndim - 1))` does both"
)
"""The hint for the commonest shape mistake of all."""
BROADCASTING = {
    "The size of tensor": AS_COLUMN,
    "must match": AS_COLUMN,
    "invalid for input of size": "reshape to as many dimensions as the images have, whatever they are",
    "too many indices": POINTS,
    "out of bounds": "alpha_bar has T + 1 entries and t runs from 0 to T: use t as it is",
}
"""PyTorch's errors that mean so, for `error_hints`."""


def column(values: Tensor, x: Tensor) -> Tensor:
    """One number per image, shaped to multiply images of any dimension."""
    return values.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


# A batch as wide as its images are (4) is where a t that is spread over the wrong axis goes unnoticed by PyTorch.
CASES = [
    (shape, dtype)
    for shape in [(4, 1, 4, 4), (3, 3, 8, 8), (5, 2, 6, 4), (1, 1, 5, 5), (6, 2)]
    for dtype in [torch.float32, torch.float64]
]


def random_schedule(draw: Draw, T: int = 12, dtype: torch.dtype = torch.float64) -> DiscreteSchedule:
    """Steps so large that beta and alpha_bar, roots and no roots, t and t - 1 all differ visibly."""
    betas = draw.uniform(0.02, 0.2, T, dtype=torch.float64)
    return DiscreteSchedule(DiscreteSchedule.from_betas(betas).alpha_bar.to(dtype))  # exact in the learner's dtype


def along_the_wrong_axis(values: Tensor, x: Tensor, formula: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Mistakes for `expect`: one number per image, spread over width or height where PyTorch lets that pass."""
    return {
        f"t runs along the {name} of the images: {AS_COLUMN}": formula(values.to(x.dtype).reshape(-1, *after))
        for axis, name, after in [(-1, "width", ()), (-2, "height", (1,))]
        if x.ndim == 4 and x.shape[axis] == len(values)
    }


def numbers(values: list[Any], what: str = "the result") -> Tensor:
    """Several answers that should each be one number, as a float64 vector; Wrong if one of them is not."""
    for value in values:
        one = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
        if isinstance(value, bool) or not (one or isinstance(value, kinds_of_number.Real)):
            several = isinstance(value, Tensor) and value.numel() != 1
            raise Wrong(
                f"{what} should be one number, got {'several' if several else described(value)}",
                "is a sum or a mean missing, or one entry to be taken out?" if several else "",
            )
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def described(value: Any) -> str:
    """What it is, in words."""
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
