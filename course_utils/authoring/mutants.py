"""Mutation testing of the checks: small faults put into the lessons' own solutions, which every check must reject.

A mutant is a solution with one operator, number, comparison, method or argument changed. Some are equivalent: they
compute the same. Those that a check accepts are listed, for somebody to look at.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from course_utils.authoring.build import lessons, read_source, tags
from course_utils.exercises import check
from course_utils.grading.intake import assignment

SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.USub: ast.UAdd,
}
METHODS = {
    **dict.fromkeys(("sqrt", "exp", "log", "square", "flip", "abs")),  # left out
    **{"rsqrt": "sqrt", "mean": "sum", "sum": "mean", "cumsum": "cumprod", "cumprod": "cumsum", "cos": "sin"},
    **{"sin": "cos", "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "log1p": "log"},
}


class Mutant(NamedTuple):
    """One changed solution."""

    id: str  # of the exercise
    change: str  # "line 3: alpha_bar[t] ** 0.5  ->  alpha_bar[t] * 0.5"
    source: str


def mutants(id: str, source: str) -> Iterator[Mutant]:
    """Every way to change one thing in a solution."""
    tree = ast.parse(source)
    for i, node in enumerate(ast.walk(tree)):
        for changed in _changes(node):
            other = copy.deepcopy(tree)
            old = list(ast.walk(other))[i]
            before = ast.unparse(old) if isinstance(old, ast.expr) else ""
            _replace(other, old, changed)
            ast.fix_missing_locations(other)
            text = ast.unparse(other)
            if text != ast.unparse(tree):
                after = ast.unparse(changed) if isinstance(changed, ast.expr) else type(changed).__name__
                yield Mutant(id, f"line {getattr(node, 'lineno', 0)}: {before}  ->  {after}", text)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left, op, right) if type(op) in SWAPS:
            yield ast.BinOp(left, SWAPS[type(op)](), right)
            if isinstance(op, ast.Sub | ast.Div | ast.Pow):
                yield ast.BinOp(right, op, left)
            else:
                yield left
        case ast.UnaryOp(op, operand) if isinstance(op, ast.USub):
            yield operand
        case ast.Compare(left, [op], [right]) if type(op) in SWAPS:
            yield ast.Compare(left, [SWAPS[type(op)]()], [right])
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            yield ast.Constant(value + 1)
            if isinstance(value, float) and value:  # a whole number is often an axis, of which -1 may be the same
                yield ast.Constant(-value)
        case ast.Call(ast.Attribute(inside, name), args, keywords) if name in METHODS:
            other = METHODS[name]
            is_module = isinstance(inside, ast.Name) and inside.id in ("torch", "math", "F")
            if other:
                yield ast.Call(ast.Attribute(inside, other, ast.Load()), args, keywords)
            else:
                yield args[0] if is_module and args else inside
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, copy.deepcopy(new))
            elif isinstance(value, list) and any(item is old for item in value):
                setattr(parent, name, [copy.deepcopy(new) if item is old else item for item in value])


def survivors(lesson: str, seeds: range = range(3)) -> tuple[int, list[Mutant]]:
    """How many mutants a lesson's solutions have, and those that its checks accept."""
    (source,) = lessons([lesson])
    this = assignment(lesson)
    page: dict[str, Any] = {}
    exec(this.prelude, page)
    names = {question.id: question.function for question in this.exercises}
    count, alive = 0, []
    for cell in read_source(source).cells:
        if "exercise" not in tags(cell):
            continue
        id = cell.metadata.exercise
        exec(cell.source, page)  # a later exercise may use an earlier one
        for mutant in mutants(id, cell.source):
            count += 1
            function = _defined(mutant.source, names[id], dict(page))
            if function and all(check(id, function, seed=seed).passed for seed in seeds):
                alive.append(mutant)
    return count, alive


def _defined(source: str, name: str, page: dict[str, Any]) -> Callable | None:
    try:
        exec(source, page)
    except Exception:  # a mutant that does not even run is rejected by whoever runs it
        return None
    return page[name]
