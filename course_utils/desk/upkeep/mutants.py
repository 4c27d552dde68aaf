"""Mutation testing: small faults put into the lessons' solutions, which every check must reject, and into the code of
the maths and sample floors, which a test must notice.

A mutant is a source with one operator, number, comparison, method or argument changed. Some are equivalent: they
compute the same. Those that live are listed, for somebody to look at.
"""

import ast
import copy
import importlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from course_utils.desk.grading.intake import assignment
from course_utils.desk.lesson import ROOT, lessons, read_source, tags
from course_utils.exercises import check

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
EDGES: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
METHODS = {
    **dict.fromkeys(("sqrt", "exp", "log", "square", "flip", "abs")),  # left out
    **{"rsqrt": "sqrt", "mean": "sum", "sum": "mean", "cumsum": "cumprod", "cumprod": "cumsum", "cos": "sin"},
    **{"sin": "cos", "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "log1p": "log"},
}


class Mutant(NamedTuple):
    """One changed source."""

    id: str  # of the exercise, or the module's path
    change: str  # "line 3: alpha_bar[t] ** 0.5  ->  alpha_bar[t] * 0.5"
    source: str


def mutants(id: str, source: str) -> Iterator[Mutant]:
    """Every way to change one thing in a source."""
    tree = ast.parse(source)
    for place, changed in _changes_of(tree):
        mutant = _mutant(id, tree, place, changed)
        if mutant.source != ast.unparse(tree):
            yield mutant


def _changes_of(tree: ast.AST) -> Iterator[tuple[int, ast.AST]]:
    """(how many nodes come before it, what to put in its place) for every node that can be changed."""
    return ((i, changed) for i, node in enumerate(ast.walk(tree)) for changed in _changes(node))


def _mutant(id: str, tree: ast.AST, place: int, changed: ast.AST) -> Mutant:
    other = copy.deepcopy(tree)
    old = list(ast.walk(other))[place]
    before = ast.unparse(old) if isinstance(old, ast.expr) else ""
    after = ast.unparse(changed) if isinstance(changed, ast.expr) else type(changed).__name__
    _replace(other, old, changed)
    text = ast.unparse(ast.fix_missing_locations(other))
    return Mutant(id, f"line {getattr(old, 'lineno', 0)}: {before}  ->  {after}", text)


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
            if type(op) in EDGES:
                yield ast.Compare(left, [EDGES[type(op)]()], [right])
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


# ---------------------------------------------------------------------------------------------------------------------
# The code of the floors that hold the mathematics
# ---------------------------------------------------------------------------------------------------------------------

# Each module, with the tests that are asked first; a mutant that outlives them meets all the others.
MODULES = {
    "schedules/discrete.py": ("schedules",),
    "schedules/continuous.py": ("schedules", "step_selection"),
    "schedules/jumps.py": ("schedules", "forward"),
    "_contract/times.py": ("schedules", "contract"),
    "schedules/times.py": ("schedules", "solvers"),
    "schedules/loss_aware.py": ("schedules",),
    "forward.py": ("forward",),
    "parameterizations.py": ("parameterizations",),
    "variational/terms.py": ("variational",),
    "variational/variances.py": ("variational", "variational_steps"),
    "toy.py": ("toy",),
    "samplers/grids.py": ("solvers", "samplers"),
    "samplers/ancestral.py": ("samplers",),
    "samplers/ddim.py": ("samplers",),
    "samplers/solvers.py": ("solvers",),
    "samplers/step_selection/costs.py": ("step_selection",),
    "samplers/step_selection/paths.py": ("step_selection",),
    "samplers/step_selection/times.py": ("step_selection",),
    "reverse_steps/bounds.py": ("variational_steps",),
    "reverse_steps/variance_head.py": ("variational_steps",),
    "reverse_steps/latent.py": ("variational_steps",),
    "samplers/wrappers.py": ("wrappers",),
}
HEAVY = ("torch", "pytest", "hypothesis", "jaxtyping", "beartype", "diffusers", "torchmetrics", "matplotlib.pyplot")


def source_of(name: str) -> str:
    """A module as it stands."""
    return (ROOT / "course_utils" / name).read_text(encoding="utf-8")


def sampled(n: int, seed: int = 0) -> list[Mutant]:
    """n mutants of those modules, drawn at random, each change as likely."""
    trees = {name: ast.parse(source_of(name)) for name in MODULES}
    everyone = [(name, *change) for name, tree in trees.items() for change in _changes_of(tree)]
    chosen = random.Random(seed).sample(everyone, min(n, len(everyone)))
    return [_mutant(name, trees[name], place, changed) for name, place, changed in chosen]


def is_noticed(id: str, source: str, limit_s: float = 900) -> bool:
    """Whether a test fails, or does not end in time, where this is the source of a module. It forks: POSIX."""
    for name in HEAVY:  # what every test needs is imported once, here, and not in each child
        importlib.import_module(name)
    first = [f"tests/test_{name}.py" for name in MODULES[id]]
    rest = {f"tests/test_{name}.py" for names in MODULES.values() for name in names}.difference(first)
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder)
        for name in ("course_utils", "tests"):
            shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("data", "pyproject.toml"):
            (copied / name).symlink_to(ROOT / name)
        (copied / "course_utils" / id).write_text(source, encoding="utf-8")
        return any(not _pass(copied, tests, limit_s) for tests in (first, sorted(rest)))


def _pass(folder: Path, tests: list[str], limit_s: float) -> bool:
    child = multiprocessing.get_context("fork").Process(target=_test, args=(folder, tests))
    child.start()
    child.join(limit_s)
    child.kill()
    child.join()
    return child.exitcode == 0


def _test(folder: Path, tests: list[str]) -> None:
    os.chdir(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "course_utils"]:
        del sys.modules[name]  # the copy's are imported anew
    sys.path.insert(0, str(folder))
    import pytest

    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
    sys.exit(code)
