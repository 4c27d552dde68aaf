"""The cells of a notebook as data: read from JSON of any age, parsed once, never run."""

import ast
import contextlib
import functools
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SOURCE_LIMIT = 200_000  # characters of one cell
CELLS_LIMIT = 2000
CODE_LIMIT = 250_000  # characters of all code of a notebook: what parsing it may cost
MARKER = re.compile(r"#\s*Exercise\s+(\d\d\.\w+)")
BODY_MAGICS = ("time", "timeit", "capture", "prun", "debug")  # %%time: what follows is Python
SPECIAL = re.compile(r"^\s*[%!?]|[?]\s*$|=\s*[%!]")  # a line that may be IPython's
SIMPLE = (
    ast.Constant, ast.Name, ast.Attribute, ast.UnaryOp, ast.BinOp, ast.Tuple, ast.List, ast.Set, ast.Dict,
    ast.operator, ast.unaryop, ast.expr_context, ast.Call,
)  # fmt: skip
"""What the value of a constant may be made of; of calls, only those of `math`."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell."""

    kind: str  # "code", "markdown", …
    source: str
    name: str = ""  # nbgrader's, which an exercise's cell carries in its metadata

    @property
    def marker(self) -> str:
        """The exercise that a comment on one of its first lines names, such as "01.q_step"."""
        for line in self.source.lstrip().split("\n", 4)[:4]:
            if found := MARKER.match(line.strip()):
                return found[1]
        return ""

    @functools.cached_property
    def _parsed(self) -> tuple[str, list[ast.stmt]]:
        return parsed(self.source) if self.kind == "code" else (self.source, [])

    @property
    def python(self) -> str:
        """The source, without what only IPython understands."""
        return self._parsed[0]

    @property
    def body(self) -> list[ast.stmt]:
        """Its statements; none if it is no Python."""
        return self._parsed[1]

    @property
    def broken(self) -> bool:
        """Whether something stands there that cannot be parsed."""
        return self.kind == "code" and not self.body and bool(re.sub(r"(?m)^\s*#.*$", "", self.source).strip())

    @functools.cached_property
    def binds(self) -> set[str]:
        """All names that it binds, as in `q_step = torch.compile(mine)`."""
        return bound(self.body)

    @functools.cached_property
    def defines(self) -> list[str]:
        """The functions and classes that it defines, in an `if` or a `try` too."""
        return [node.name for node in outside_of_functions(self.body) if isinstance(node, Definition)]

    @functools.cached_property
    def uses(self) -> set[str]:
        """Names that it reads and does not make itself."""
        return used(self.body)

    def answers(self, function: str) -> bool:
        """Whether it binds that name, and to more than the stub that was handed out."""
        if function not in self.binds:
            return False
        nodes = outside_of_functions(self.body)
        last = [node for node in nodes if isinstance(node, Definition) and node.name == function][-1:]
        return not (last and is_stub(last[0]))

    def kept(self, imports_only: bool = False) -> str:
        """Its imports, and unless told otherwise its definitions and constants: what costs nothing to run."""
        kept = []
        for node in self.body:
            if isinstance(node, ast.Import | ast.ImportFrom) if imports_only else is_kept(node):
                with contextlib.suppress(Exception):  # of an expression as deep, or a number as long, as can be parsed
                    kept.append(ast.unparse(node))
        return "\n".join(kept)


def read_cells(content: bytes) -> tuple[list[Cell], int]:
    """The cells of a notebook, of today's format or of those before, and how many more there are than are read.

    Raises anything if it is none.
    """
    notebook = json.loads(_decoded(content))
    sheets = notebook.get("worksheets")  # until 2015, nbformat 3
    listed = [cell for sheet in sheets for cell in sheet["cells"]] if sheets else notebook["cells"]
    cells = [_cell(cell) for cell in listed[:CELLS_LIMIT] if isinstance(cell, dict)]
    if listed and not any(cell.source for cell in cells):
        raise ValueError("its cells hold nothing")
    return cells, max(0, len(listed) - CELLS_LIMIT)


def _decoded(content: bytes) -> str:
    """A notebook's text: UTF-8; or what editors and shells of Windows make of it, UTF-16 or the country's own bytes."""
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode(json.detect_encoding(content), "surrogatepass")
    return content.decode("latin-1")


def _cell(cell: dict[str, Any]) -> Cell:
    """A cell, whatever stands where its parts should."""
    source = cell.get("source", cell.get("input", ""))
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    kind = str(cell.get("cell_type"))
    if kind == "heading":  # nbformat 3
        kind, text = "markdown", "### " + text
    return Cell(kind, text.replace("\r\n", "\n"), name if isinstance(name, str) else "")


# ---------------------------------------------------------------- Python, and what IPython adds to it


def parsed(source: str) -> tuple[str, list[ast.stmt]]:
    """A source as Python, and its statements: none if it is no Python, even without what only IPython understands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the source on the terminal
        with contextlib.suppress(*UNPARSABLE):
            return source, ast.parse(source).body
        plain = without_ipython(source)
        with contextlib.suppress(*UNPARSABLE):
            return plain, ast.parse(plain).body
    return source, []


def without_ipython(source: str) -> str:
    """IPython's lines as the calls that IPython itself makes of them; a `%%bash` cell and its kind as nothing."""
    from IPython.core.inputtransformer2 import TransformerManager

    lines = source.split("\n")
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    if first.startswith("%%") and first[2:].split(" ")[0] not in BODY_MAGICS:
        return ""
    lines = ["" if line.startswith("%%") else line for line in lines]
    special = sum(bool(SPECIAL.search(line)) for line in lines)
    if special * len(source) > 1_000_000:  # IPython reads the whole cell again for each of them
        return "\n".join("pass" if SPECIAL.search(line) else line for line in lines)
    try:
        return TransformerManager().transform_cell("\n".join(lines))
    except Exception:  # of a source that is neither
        return source


def outside_of_functions(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """All parts of statements in their order, but for the insides of functions and classes."""
    todo: list[ast.AST] = [*reversed(body)]
    while todo:
        yield (node := todo.pop())
        if not isinstance(node, Definition | ast.Lambda):
            todo += reversed([*ast.iter_child_nodes(node)])


def bound(body: Sequence[ast.stmt]) -> set[str]:
    """The names that statements bind, outside of functions."""
    names = set()
    for node in outside_of_functions(body):
        if isinstance(node, Definition):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def changed(statement: ast.stmt) -> set[str]:
    """The names that a statement binds, and those whose object it may change: `table[0] = 1`, `table.append(1)`."""
    names = bound([statement])
    targets: list[ast.expr] = [*getattr(statement, "targets", []), getattr(statement, "target", ast.Constant(0))]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets.append(statement.value.func)
    for target in targets:
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
            if isinstance(target, ast.Name):
                names.add(target.id)
    return names


def used(body: Sequence[ast.stmt]) -> set[str]:
    """The names that statements read, other than those that they make themselves."""
    nodes = [node for statement in body for node in ast.walk(statement)]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    made = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    made |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return {node.id for node in names} - made


def checks(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Exercise and name of each call such as `check("01.q_step", q_step)`."""
    for statement in body:
        match statement:
            case ast.Expr(ast.Call(ast.Name("check"), [ast.Constant(str(id)), ast.Name(name), *_])):
                yield id, name


def is_stub(node: ast.stmt) -> bool:
    """Whether a function's body is the stub's one line, with or without the words above it."""
    body = [part for part in getattr(node, "body", []) if not isinstance(getattr(part, "value", None), ast.Constant)]
    return len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.dump(body[0])


def is_kept(node: ast.stmt) -> bool:
    """Whether a statement of a cell that answers nothing is taken along."""
    if isinstance(node, ast.Import | ast.ImportFrom | Definition):
        return True
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    return all(isinstance(part, SIMPLE) and _is_cheap(part) for part in ast.walk(node.value))


def _is_cheap(part: ast.AST) -> bool:
    """No call, or one such as `math.sqrt(2)`."""
    if not isinstance(part, ast.Call):
        return True
    of = part.func.value if isinstance(part.func, ast.Attribute) else None
    return isinstance(of, ast.Name) and of.id == "math" and not part.keywords
