"""The signature is the contract: `@checked` refuses, in words, what the annotations of a function exclude.

    @checked
    def sample_ddim(denoise: Denoise, x_T: Annotated[Images, FINITE], schedule: Schedule, timesteps: Grid, *,
                    eta: Annotated[float, In("[0, 1]")] = 0.0):

    sample_ddim(…, eta=1.5)      ValueError: eta: wanted a number in [0, 1], got 1.5

What can be said:

* `Float[Tensor, "b *shape"]`, `Int[…]`, `UInt8[…]` of jaxtyping: the kind of numbers, and the shape. A name stands for
  one size within a call, `*shape` for several; what has the same `*shape` has the same dtype, and all of a call's
  tensors lie on one device (a number on the CPU meets any).
* `Annotated[float, In("(0, 1]")]`: an interval; an end may be an argument to the left: `In("(low, inf]")`.
* `Count`, `Annotated[int, Whole(0)]`, `Sizes()`, `OneOf(NAMES)`, `FINITE`, `ANYWHERE`, `Is("words")`; and whatever has
  a method `check(name, value, call)`.
* A class, a protocol, a function, a generator. Anything else, times among it, is left to who looks them up.

The rules are made when the function is; a call costs some microseconds. Code that `torch.compile` translates is not
checked.
"""

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from course_utils import _validate as v
from course_utils.protocols import Counted, Schedule, require_counted, require_schedule

F = TypeVar("F", bound=Callable[..., Any])
Rule = Callable[[str, Any, "Call"], None]


@dataclass
class Call:
    """What is known of a call while its arguments are looked at, one after the other."""

    arguments: dict[str, Any]
    defaults: Mapping[str, Any]
    sizes: dict[str, tuple[Any, str]] = field(default_factory=dict)  # of a dimension, and whose it was
    tensors: dict[str, tuple[Tensor, str]] = field(default_factory=dict)  # the first of each shape, and its name

    def get(self, name: str) -> Any:
        return self.arguments.get(name, self.defaults.get(name))


# ---------------------------------------------------------------------------------------------------------------------
# What `Annotated` can say
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class In:
    """One number in an interval, as in mathematics: "(0, 1]" is 0 < x <= 1. An end may be an argument to the left."""

    interval: str

    def check(self, name: str, value: object, call: Call) -> None:
        low, high = self.interval[1:-1].split(", ")
        low, high = (str(call.get(end)) if end.isidentifier() and end != "inf" else end for end in (low, high))
        v.require_in(name, value, f"{self.interval[0]}{low}, {high}{self.interval[-1]}")


@dataclass(frozen=True)
class Whole:
    """A whole number, `least` or more."""

    least: int = 1

    def check(self, name: str, value: object, call: Call) -> None:
        v.require_count(name, value, self.least)


@dataclass(frozen=True)
class Sizes:
    """A tuple or list of whole numbers, `least` or more; of `n` of them if that is given."""

    n: int | None = None
    least: int = 1

    def check(self, name: str, value: object, call: Call) -> None:
        v.require_sizes(name, value, self.n, self.least)


@dataclass(frozen=True)
class OneOf:
    """One of some names."""

    options: Sequence[str] | AbstractSet[str]

    def check(self, name: str, value: object, call: Call) -> None:
        v.require_one_of(name, value, self.options)


class _Finite:
    """No NaN and no infinity: for what sorts, sums or trains, where they would spread."""

    def check(self, name: str, value: Any, call: Call) -> None:
        v.require_finite(name, value)


class _Number:
    """A number, or a tensor of numbers; not NaN."""

    def check(self, name: str, value: Any, call: Call) -> None:
        v.require_number(name, value)


@dataclass(frozen=True)
class Is:
    """Of the annotated class, in these words."""

    words: str


class _Anywhere:
    """A tensor that may lie on any device, such as times, which are looked up."""


FINITE, NUMBER, ANYWHERE = _Finite(), _Number(), _Anywhere()
Count = Annotated[int, Whole()]
"""A whole number, 1 or more."""


# ---------------------------------------------------------------------------------------------------------------------
# Tensors
# ---------------------------------------------------------------------------------------------------------------------


class _TensorRule:
    """What jaxtyping's annotation of a tensor says, in our words."""

    def __init__(self, annotation: Any, anywhere: bool = False):
        self.anywhere = anywhere
        self.text: str = annotation.dim_str
        self.dims = self.text.split()
        self.kind: Callable[[str, Any], None] = v.require_float if annotation.dtype is Float else v.require_whole
        if annotation.dtype is UInt8:
            self.kind = v.require_bytes
        many = [i for i, dim in enumerate(self.dims) if dim[0] == "*" or dim == "..."]
        self.many = many[0] if many else None
        self.images = any(dim[0] == "*" for dim in self.dims[1:])

    def __call__(self, name: str, x: Any, call: Call) -> None:
        self.kind(name, x)
        known, other = call.tensors.setdefault(self.text, (x, name))
        if x is not known and self.many is not None and self.text != "..." and x.shape != known.shape:
            raise ValueError(f"{name}: wanted the shape of {other}, {tuple(known.shape)}, got {tuple(x.shape)}")
        if not self.fits(name, x.shape, call.sizes):
            raise ValueError(f"{name}: wanted {self.words(call.sizes)}, got {tuple(x.shape)}")
        if self.images and x.dtype != known.dtype:
            raise TypeError(f"{name}: wanted the dtype of {other}, {known.dtype}, got {x.dtype}")
        if not self.anywhere:
            require_device(name, x, call)

    def fits(self, name: str, shape: torch.Size, sizes: dict[str, tuple[Any, str]]) -> bool:
        """Whether the shape has the sizes that are known; those that are not are from now on."""
        dims = self.dims
        if self.many is None:
            if len(shape) != len(dims):
                return False
        else:
            if len(shape) < len(dims) - 1:
                return False
            end = len(shape) - (len(dims) - 1 - self.many)
            shape = (*shape[: self.many], tuple(shape[self.many : end]), *shape[end:])  # type: ignore[assignment]
        for dim, size in zip(dims, shape, strict=True):
            if dim.isdigit():
                if size != int(dim):
                    return False
            elif dim not in ("_", "...") and sizes.setdefault(dim, (size, name))[0] != size:
                return False
        return True

    def words(self, sizes: dict[str, tuple[Any, str]]) -> str:
        known = [(dim, *sizes[dim]) for dim in dict.fromkeys(self.dims) if dim in sizes]
        shape = f"shape ({', '.join(self.dims)}{',' * (len(self.dims) == 1)})"
        return shape + "".join(f", {dim} = {size} as in {other}" for dim, size, other in known)


def require_device(name: str, x: Tensor, call: Call) -> None:
    """Raise unless x lies where the call's first tensor does; a single number of the CPU meets all."""
    if x.ndim == 0 and x.device.type == "cpu":
        return
    first, other = call.tensors.setdefault("device", (x, name))
    if x.device != first.device:
        raise ValueError(f"{name}: wanted the device of {other}, {first.device}, got {x.device}")


# ---------------------------------------------------------------------------------------------------------------------
# From an annotation to its rule
# ---------------------------------------------------------------------------------------------------------------------

_CLASSES: dict[Any, Callable[[str, Any], None]] = {
    Schedule: lambda name, value: require_schedule(value),
    Counted: lambda name, value: require_counted(value),
    torch.Generator: lambda name, value: v.require_generator(value),
    torch.dtype: v.require_dtype,
    nn.Module: lambda name, value: v.require_type(name, value, nn.Module, "a network"),
}


def rule_of(annotation: Any) -> Rule | None:
    """What an annotation demands of an argument; None if that is nothing."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _rule_of_union(inside)
    if origin is Annotated and ANYWHERE in inside[1:]:
        return _TensorRule(inside[0], anywhere=True)
    if origin is Annotated:
        words = [mark.words for mark in inside[1:] if isinstance(mark, Is)]
        first = _rule_of_class(get_origin(inside[0]) or inside[0], words[0]) if words else rule_of(inside[0])
        return _all([first, *(_rule_of_mark(mark) for mark in inside[1:] if hasattr(mark, "check"))])
    if origin is Callable or annotation is Callable or (_is_protocol(annotation) and annotation not in _CLASSES):
        return lambda name, value, call: v.require_callable(name, value)
    if hasattr(annotation, "dim_str"):
        return _TensorRule(annotation)
    if annotation in _CLASSES:
        look = _CLASSES[annotation]
        return lambda name, value, call: look(name, value)
    if isinstance(annotation, type) and annotation.__module__.startswith("course_utils"):
        return _rule_of_class(annotation, f"a {annotation.__name__}")
    return None


def _rule_of_union(members: Sequence[Any]) -> Rule | None:
    """`None` allows None; a tensor or a number is a number, or a tensor of numbers where its annotation has it."""
    rules = [rule for member in members if (rule := rule_of(member))]
    if len(rules) != 1:
        return None
    rule, optional = rules[0], type(None) in members
    number = isinstance(rule, _TensorRule) and (float in members or int in members)

    def check(name: str, value: Any, call: Call) -> None:
        if value is None and optional:
            return
        if number:
            v.require_number(name, value)
            if isinstance(value, Tensor):
                require_device(name, value, call)
        else:
            rule(name, value, call)

    return check


def _rule_of_class(wanted: type, words: str) -> Rule:
    return lambda name, value, call: v.require_type(name, value, wanted, words)


def _rule_of_mark(mark: Any) -> Rule:
    return mark.check


def _is_protocol(annotation: Any) -> bool:
    return getattr(annotation, "_is_protocol", False)


def _all(rules: Sequence[Rule | None]) -> Rule | None:
    kept = [rule for rule in rules if rule]
    if len(kept) < 2:
        return kept[0] if kept else None

    def check(name: str, value: Any, call: Call) -> None:
        for rule in kept:
            rule(name, value, call)

    return check


def checked(f: F) -> F:
    """f, refusing arguments that its annotations exclude: TypeError for a wrong kind, ValueError for a wrong value."""
    parameters = inspect.signature(f).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    rules = [(p.name, rule) for p in named if (rule := rule_of(p.annotation))]
    places = [p.name for p in named if p.kind != p.KEYWORD_ONLY]
    defaults = {p.name: p.default for p in named}

    @functools.wraps(f)
    def with_checks(*args: Any, **options: Any) -> Any:
        if not torch.compiler.is_compiling():
            call = Call({**dict(zip(places, args, strict=False)), **options}, defaults)
            for name, rule in rules:
                if name in call.arguments:
                    rule(name, call.arguments[name], call)
        return f(*args, **options)

    return with_checks  # type: ignore[return-value]
