"""A learner's answer, observed: call it on copies, and tell what it returned, changed, drew and raised.

The learner's function is only ever run through `observe`, which takes tensors and numbers and returns tensors and
numbers. A grader can therefore run `observe` in another process and hand a check a callable with the attribute
`observe` (see `Answer`).
"""

import contextlib
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises.conditions import known_state, other_hash, own_stream, time_limit

TIME_LIMIT_S = 20.0
"""One call of a learner's function may take this long before it is stopped."""


class Wrong(Exception):
    """The answer is wrong: what is wrong, and the likely reason."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message, self.hint = message, hint


class NotYet(Exception):
    """The stub is untouched."""


@dataclass(frozen=True)
class Observation:
    """What one call did. Plain data, so that it can cross a process boundary."""

    output: Any = None
    error: str = ""  # "RuntimeError: …", or empty
    changed: tuple[int, ...] = ()  # positions of arguments that were changed in place
    drew_globally: bool = False  # the output depends on the global random stream, or the function seeded it
    gradient: Tensor | None = None  # of sum(output * cotangent) with respect to args[wrt]


def observe(function: Callable, args: tuple, *, wrt: int | None = None, cotangent: Tensor | None = None) -> Observation:
    """Call `function(*args)` on copies of its tensors and report what happened; never raises but for Ctrl-C.

    A function that draws from the global stream is called once more, from another place in it: `nn.Conv2d` draws
    weights, too, and does no harm where they are replaced. The output lies on the CPU, whatever device it came from.
    """
    with known_state(), own_stream():
        before, started, elsewhere = tuple(map(_copied, args)), _stream(0x5EED_0001), _stream(0x5EED_0002)
        torch.random.set_rng_state(started)  # a page's own seed, set once more, would go unnoticed
        given = tuple(map(_copied, args))
        output, gradient, error = _called(function, given, wrt, cotangent)
        changed = tuple(i for i, (a, b) in enumerate(zip(given, before, strict=True)) if not _same(a, b))
        ended, drew = torch.random.get_rng_state(), False
        if not error and not torch.equal(started, ended):
            torch.random.set_rng_state(elsewhere)
            again, _, _ = _called(function, before, wrt, cotangent)
            seeded = torch.equal(ended, torch.random.get_rng_state())
            drew = seeded or not _same(again, output)
    return Observation(output, error, changed, drew, gradient)


def _stream(seed: int) -> Tensor:
    return torch.Generator().manual_seed(seed).get_state()


def _called(function: Callable, args: tuple, wrt: int | None, cotangent: Tensor | None) -> tuple[Any, Any, str]:
    """Output, gradient and error of one call."""
    output, gradient = None, None
    if wrt is not None:
        args[wrt].requires_grad_(True)
    try:
        with time_limit(TIME_LIMIT_S), other_hash(function):
            output = function(*args)
            if wrt is not None and isinstance(output, Tensor) and output.requires_grad:
                seed = (
                    torch.ones_like(output)
                    if cotangent is None
                    else cotangent.reshape(output.shape).to(output.device, output.dtype)
                )
                (gradient,) = torch.autograd.grad(output, args[wrt], seed, allow_unused=True)
            return _plain(output), _plain(gradient), ""
    except (Exception, SystemExit) as e:
        return None, None, f"{type(e).__name__}: {e}"


def _copied(x: Any) -> Any:
    """A copy of a tensor, or of lists, tuples and dicts of tensors."""
    if isinstance(x, Tensor):
        return x.detach().clone()
    if isinstance(x, list | tuple):
        return type(x)(map(_copied, x))
    return {key: _copied(value) for key, value in x.items()} if isinstance(x, dict) else x


def _plain(x: Any) -> Any:
    """An output without what belongs to where it was made: gradients, devices, numbers of other libraries' kinds."""
    if isinstance(x, Tensor):
        return x.detach() if x.device.type in ("cpu", "meta") else x.detach().cpu()
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, numbers.Real) and not isinstance(x, int | float):  # a fraction; what sympy makes
        return int(x) if isinstance(x, numbers.Integral) else float(x)
    if isinstance(x, list | tuple):
        return list(map(_plain, x)) if isinstance(x, list) else tuple(map(_plain, x))
    return {key: _plain(value) for key, value in x.items()} if isinstance(x, dict) else x


def _same(a: Any, b: Any) -> bool:
    """Equal to the last bit, all through lists, tuples and dicts; not-a-number is the same as itself here."""
    if type(a) is not type(b):
        return False
    if isinstance(b, Tensor):
        return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in b)
    with contextlib.suppress(Exception):  # what a learner returned may refuse to be compared
        return a is b or bool(a == b)
    return False


class Answer:
    """The learner's function as a check sees it: call it, and get its output or a `Wrong` with a reason.

    Args:
        function: the learner's callable. If it has an attribute `observe`, that is called in place of this module's
            `observe`: a grader's proxy runs the function elsewhere and returns the Observation.
        error_hints: {text found in an error: hint}, asked before the hints that every exercise has.
    """

    def __init__(self, function: Callable, error_hints: Mapping[str, str] | None = None):
        self.function, self.error_hints = function, error_hints or {}

    def _observe(self, args: tuple, **options: Any) -> Observation:
        run = getattr(self.function, "observe", None)
        seen = run(args, **options) if run else observe(self.function, args, **options)
        return self._judge(seen, args)

    def __call__(self, *args: Any) -> Any:
        return self._observe(args).output

    def gradient(self, *args: Any, wrt: int, cotangent: Tensor | None = None) -> Tensor:
        """d sum(output * cotangent) / d args[wrt], or Wrong if the answer cuts the gradient off."""
        seen = self._observe(args, wrt=wrt, cotangent=cotangent)
        if seen.gradient is None:
            raise Wrong(
                "no gradient flows back through your function",
                "`.detach()`, `.item()`, `.data`, `torch.no_grad()` and numpy all cut it off; none is needed here",
            )
        return seen.gradient

    def _judge(self, seen: Observation, args: tuple) -> Observation:
        if seen.error.startswith("NotImplementedError"):
            raise NotYet
        if seen.error:
            known = [*self.error_hints.items(), *_errors(args).items()]
            hints = [hint for text, hint in known if text in seen.error]
            said = re.sub(r"index -?\d+ is", "an index is", seen.error)  # which one depends on what was drawn
            raise Wrong(f"it raised {said}", hints[0] if hints else "run it by hand on a small tensor")
        if seen.changed:
            raise Wrong(
                f"it changed its argument number {seen.changed[0] + 1} in place",
                "`x *= …`, `x += …` and methods that end in `_` overwrite the caller's tensor; make a new one",
            )
        if seen.drew_globally:
            raise Wrong(
                "it drew random numbers of its own, or seeded the stream that everybody draws from",
                "the randomness comes in through the arguments; `torch.randn` inside makes the result unrepeatable",
            )
        if seen.output is None:
            raise Wrong("it returned None", "is there a `return` on every path?")
        return seen


def _errors(args: tuple) -> dict[str, str]:
    """What Python's and PyTorch's commonest errors mean, for a call with these arguments."""
    which = [str(i + 1) for i, x in enumerate(args) if isinstance(x, int | float)]
    number = (
        f"argument number {which[0]} is a Python number: `x ** 0.5` and `math.sqrt(x)` take it, `torch.sqrt` does not"
        if which
        else "`torch.sqrt` and its like take tensors, not Python numbers"
    )
    many = "`math` and `float()` take one number; for tensors there are `torch.sqrt`, `torch.log` and their like"
    kinds = "two dtypes meet: a constant needs `dtype=x.dtype`"
    return {
        "must be Tensor, not float": number,
        "must be Tensor, not int": number,
        "'float' object has no attribute": number,
        "'int' object has no attribute": number,
        "converted to Python scalar": many,
        "cannot be converted to Scalar": many,
        "ambiguous": "`if` and `and` ask about one number; a tensor holds many: `torch.where` chooses for each",
        "is not defined": "a name that the page does not know: is it spelled as in the line with `def`?",
        "positional argument": "keep the arguments as they are in the line with `def`",
        "expected scalar type": kinds,
        "same dtype": kinds,
        "expected m1 and m2": kinds,
        "must be long": "only whole numbers can be an index: use t as it is, without arithmetic in floats",
        "only integers, slices": "only whole numbers can be an index: use t as it is, without arithmetic in floats",
        "still running": "does a loop in it ever end?",
    }
