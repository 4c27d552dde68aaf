"""What `Annotated` can say of an argument: a mark has `check(name, value, call)`, or `read`, which returns it as meant.

A whole number of numpy's is read as Python's, since PyTorch does not always take it. A mark that says `beside` looks
at other arguments: it is asked of what is left out, too.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Annotated, Any

from torch import Tensor

from course_utils import _validate as v
from course_utils.tensors import as_double


@dataclass
class Call:
    """What is known of a call while its arguments are looked at, one after the other."""

    arguments: dict[str, Any]
    defaults: Mapping[str, Any]
    sizes: dict[str, tuple[Any, str]] = field(default_factory=dict)  # of a dimension, and whose it was
    tensors: dict[str, tuple[Tensor, str]] = field(default_factory=dict)  # the first of each shape, and its name

    def get(self, name: str) -> Any:
        """The argument of that name, or what one knows, as in "self.T"; None if there is no such thing."""
        first, *rest = name.split(".")
        found = self.arguments.get(first, self.defaults.get(first))
        for part in rest:
            found = getattr(found, part, None)
        return found


# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class In:
    """One number in an interval, as in mathematics: "(0, 1]" is 0 < x <= 1. An end may be an argument, or "self.T"."""

    interval: str

    @property
    def beside(self) -> bool:
        return any(end[0].isalpha() and end != "inf" for end in self.interval[1:-1].split(", "))

    def of(self, call: Call) -> str:
        ends = self.interval[1:-1].split(", ")
        low, high = (str(call.get(end)) if end[0].isalpha() and end != "inf" else end for end in ends)
        return f"{self.interval[0]}{low}, {high}{self.interval[-1]}"

    def check(self, name: str, value: Any, call: Call) -> None:
        v.require_in(name, value, self.of(call))


class AllIn(In):
    """A number, or a tensor of numbers, all of them in an interval."""

    def check(self, name: str, value: Any, call: Call) -> None:
        v.require_number(name, value)
        v.require_all_in(name, as_double(value), self.of(call))


@dataclass(frozen=True)
class Whole:
    """A whole number, `least` or more, a multiple of `of`; no more than `most`, for the reason that `why` gives.

    `most` may be a function of other arguments, by their names: `Whole(1, lambda n: n)`; None sets no limit.
    """

    least: int = 1
    most: int | Callable[..., int | None] | None = None
    why: str = ""
    of: int = 1

    @property
    def beside(self) -> bool:
        return callable(self.most)

    def read(self, name: str, value: object, call: Call) -> int:
        most = self.most
        if callable(most):
            most = most(*map(call.get, inspect.signature(most).parameters))
        return v.require_count(name, value, self.least, most, self.why, self.of)


Count = Annotated[int, Whole()]
"""A whole number, 1 or more."""


@dataclass(frozen=True)
class Divides:
    """A divisor of another argument."""

    other: str
    beside = True

    def check(self, name: str, value: int, call: Call) -> None:
        if call.get(self.other) % value:
            raise ValueError(f"{name}: wanted a divisor of {call.get(self.other)} {self.other}, got {value}")


@dataclass(frozen=True)
class Sizes:
    """A tuple or list of whole numbers, `least` or more; of `n` of them if that is given.

    If `square`, one number stands for n of it.
    """

    n: int | None = None
    least: int = 1
    square: bool = False

    def read(self, name: str, value: object, call: Call) -> tuple[int, ...]:
        if self.square and isinstance(value, Integral):
            value = (value,) * (self.n or 1)
        return v.require_sizes(name, value, self.n, self.least)


@dataclass(frozen=True)
class OneOf:
    """One of some names."""

    options: Collection[str]

    def check(self, name: str, value: object, call: Call) -> None:
        v.require_one_of(name, value, self.options)


# ---------------------------------------------------------------------------------------------------------------------
# Tensors, and the rest
# ---------------------------------------------------------------------------------------------------------------------


class _Finite:
    """No NaN and no infinity: for what sorts, sums or trains, where they would spread."""

    def check(self, name: str, value: Any, call: Call) -> None:
        v.require_finite(name, value)


class _Some:
    """One number or more in it."""

    def check(self, name: str, value: Any, call: Call) -> None:
        if isinstance(value, Tensor) and value.numel() == 0:
            raise ValueError(f"{name}: wanted one or more, got shape {tuple(value.shape)}")


class _Number:
    """A number, or a tensor of numbers."""

    def check(self, name: str, value: Any, call: Call) -> None:
        v.require_number(name, value)


class _Anywhere:
    """A tensor that may lie on any device, such as times, which are looked up."""


class _Double(_Anywhere):
    """Whatever becomes a tensor of numbers, a list too; the function gets it in float64."""

    def read(self, name: str, value: Any, call: Call) -> Tensor:
        return as_double(value, name=name)


class _OwnShape:
    """A batch of what has the shape `self.shape`."""

    def check(self, name: str, value: Tensor, call: Call) -> None:
        shape = call.get("self.shape")
        if value.shape[1:] != shape:
            raise ValueError(f"{name}: wanted shape (b, {', '.join(map(str, shape))}), got {tuple(value.shape)}")


@dataclass(frozen=True)
class Is:
    """Of the annotated class, in these words."""

    words: str


FINITE, SOME, NUMBER, ANYWHERE, DOUBLE, OWN_SHAPE = _Finite(), _Some(), _Number(), _Anywhere(), _Double(), _OwnShape()
