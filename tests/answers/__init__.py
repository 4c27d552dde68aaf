"""Answers a learner might hand in: right ones in several styles, and typical wrong ones with the hint they deserve."""

from collections import defaultdict
from collections.abc import Callable

RIGHT: dict[str, list[Callable]] = defaultdict(list)
WRONG: dict[str, list[tuple[Callable, str]]] = defaultdict(list)


def right(exercise: str) -> Callable[[Callable], Callable]:
    """An answer the check must accept."""

    def add(function: Callable) -> Callable:
        RIGHT[exercise].append(function)
        return function

    return add


def wrong(exercise: str, said: str) -> Callable[[Callable], Callable]:
    """An answer the check must reject, with `said` in its message or hint."""

    def add(function: Callable) -> Callable:
        WRONG[exercise].append((function, said))
        return function

    return add
