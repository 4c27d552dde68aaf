"""From an annotation to its rule, and from the rules of a signature to a function that keeps them."""

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import torch
from torch import Tensor, nn

from course_utils import _validate as v
from course_utils._contract.marks import Call, Is, _Anywhere
from course_utils._contract.shapes import TensorRule, require_device
from course_utils.protocols import Counted, Schedule

F = TypeVar("F", bound=Callable[..., Any])
Rule = Callable[[str, Any, Call], Any]
"""Raises, or returns what the function is to get: the value itself, but for what a mark reads."""

_CLASSES: dict[Any, Callable[[str, Any], object]] = {
    Schedule: lambda name, value: v.require_schedule(value),
    Counted: lambda name, value: v.require_counted(value),
    torch.Generator: lambda name, value: v.require_generator(value),
    torch.dtype: v.require_dtype,
    nn.Module: lambda name, value: v.require_type(name, value, nn.Module, "a network"),
}


def rule_of(annotation: Any) -> Rule | None:
    """What an annotation demands of an argument; None if that is nothing."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _rule_of_union(inside)
    if origin is Annotated:
        return _rule_of_marks(inside[0], inside[1:])
    if hasattr(annotation, "dim_str"):
        return TensorRule(annotation)
    if annotation in _CLASSES:
        return _looking(_CLASSES[annotation])
    if origin is Callable or annotation is Callable or getattr(annotation, "_is_protocol", False):
        return _looking(v.require_callable)
    if isinstance(annotation, type) and annotation.__module__.startswith("course_utils"):
        return _rule_of_class(annotation, f"a {annotation.__name__}")
    return None


def _rule_of_marks(annotation: Any, marks: Sequence[Any]) -> Rule | None:
    """What is read first, then the annotation's own, then what is checked."""
    words = [mark.words for mark in marks if isinstance(mark, Is)]
    own: Rule | None
    if words:
        own = _rule_of_class(get_origin(annotation) or annotation, words[0])
    elif any(isinstance(mark, _Anywhere) for mark in marks) and hasattr(annotation, "dim_str"):
        own = TensorRule(annotation, anywhere=True)
    else:
        own = rule_of(annotation)
    reads = [mark.read for mark in marks if hasattr(mark, "read")]
    checks = [_looking(mark.check) for mark in marks if hasattr(mark, "check")]
    rules = [one for one in (*reads, own, *checks) if one is not None]

    def in_turn(name: str, value: Any, call: Call) -> Any:
        for rule in rules:
            value = rule(name, value, call)
        return value

    return in_turn if rules else None


def _rule_of_union(members: Sequence[Any]) -> Rule | None:
    """`None` allows None; a tensor or a number may be one number, and a tensor of the shape if not."""
    single = float in members or int in members
    rules = [rule for member in members if (rule := rule_of(member)) and not (single and _is_scalar(member))]
    if len(rules) != 1:
        return None
    own, optional = rules[0], type(None) in members
    number = single and isinstance(own, TensorRule)

    def either(name: str, value: Any, call: Call) -> Any:
        if value is None and optional:
            return None
        if not number:
            return own(name, value, call)
        v.require_number(name, value)
        if isinstance(value, Tensor) and value.ndim:
            return own(name, value, call)
        if isinstance(value, Tensor):
            require_device(name, value, call)
        return value

    return either


def _is_scalar(annotation: Any) -> bool:
    return getattr(annotation, "dim_str", None) == ""


def _rule_of_class(wanted: type, words: str) -> Rule:
    return _looking(lambda name, value: v.require_type(name, value, wanted, words))


def _looking(check: Callable[..., object]) -> Rule:
    """A check, of a value or of a value in its call, as a rule that hands the value on."""

    def of_value(name: str, value: Any, call: Call) -> Any:
        check(name, value)
        return value

    def in_call(name: str, value: Any, call: Call) -> Any:
        check(name, value, call)
        return value

    return in_call if len(inspect.signature(check).parameters) == 3 else of_value


def _is_beside(parameter: inspect.Parameter) -> bool:
    """Whether what is allowed depends on other arguments, so that a default may be wrong beside them."""
    marks = getattr(parameter.annotation, "__metadata__", ())
    return parameter.default is not parameter.empty and any(getattr(mark, "beside", False) for mark in marks)


def checked(f: F) -> F:
    """f, refusing arguments that its annotations exclude: TypeError for a wrong kind, ValueError for a wrong value."""
    parameters = inspect.signature(f).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    rules = [(p.name, rule, _is_beside(p)) for p in named if (rule := rule_of(p.annotation))]
    places = [p.name for p in named if p.kind != p.KEYWORD_ONLY]
    defaults = {p.name: p.default for p in named}

    @functools.wraps(f)
    def with_checks(*args: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling():
            return f(*args, **options)
        call = Call({**dict(zip(places, args, strict=False)), **options}, defaults)
        read: dict[str, Any] = {}  # what a rule made something else of
        for name, rule, beside in rules:
            if beside or name in call.arguments:
                value = call.arguments.get(name, defaults[name])
                found = rule(name, value, call)
                if found is not value:
                    call.arguments[name] = read[name] = found
        if read:
            args = tuple(read.get(name, value) for name, value in zip_longest(places[: len(args)], args))
            options = {name: read.get(name, value) for name, value in options.items()}
        return f(*args, **options)

    return with_checks  # type: ignore[return-value]
