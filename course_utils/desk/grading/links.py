"""What an answer is run with: the other answers that it calls, and what other cells compute and it uses.

Definitions of other cells are there for every answer. Of the rest of a notebook only those statements are run, and only
for the answer that uses what comes of them, that bind such a name or change its object; whatever they use in turn, too.
"""

import ast
import contextlib
import functools
from collections.abc import Sequence

from course_utils.desk.grading.cells import Cell, bound, changed, is_kept, parsed, used


def linked(
    answers: dict[str, str], definitions: str, prelude: str, loose: Sequence[Cell]
) -> tuple[dict[str, list[str]], dict[str, str], list[str]]:
    """For each answer the others that it calls, the source of what other cells compute for it, and remarks.

    Args:
        answers: sources, by exercise.
        definitions: the source of what is there for every answer.
        prelude: the source of the page's own imports.
        loose: the cells that answer nothing.
    """
    parts = {id: Cell("code", source) for id, source in answers.items()}
    makers = {name: id for id, cell in parts.items() for name in cell.binds}
    helpers: dict[str, set[str]] = {}
    for node in Cell("code", definitions).body:
        for name in bound([node]) - set(makers):
            helpers.setdefault(name, set()).update(used([node]))
    rows = [node for cell in loose for node in cell.body]
    uses = functools.cache(lambda row: used([rows[row]]))
    made = _made(rows, bound(parsed(prelude)[1]) | set(makers))
    needs, computed, notes = {}, {}, []
    for id, cell in parts.items():
        run: set[int] = set()
        seen, todo = set(cell.binds), set(cell.uses)
        while todo := todo - seen:
            seen |= todo
            new = {row for name in todo for row in made.get(name, ())} - run
            run |= new
            todo = {name for one in todo for name in helpers.get(one, ())} | {name for row in new for name in uses(row)}
            todo |= {name for one in seen & set(makers) for name in parts[makers[one]].uses}
        needs[id] = [other for other in parts if other != id and parts[other].binds & (seen - cell.binds)]
        computed[id] = "\n".join(_unparsed(rows[row]) for row in sorted(run))
        if names := sorted(seen & set(made) - cell.binds):
            notes.append(f"{id}: uses {', '.join(names)} of other cells, which are run for it as far as that takes")
    return needs, {id: source for id, source in computed.items() if source}, notes


def _made(rows: Sequence[ast.stmt], known: set[str]) -> dict[str, list[int]]:
    """Of each name that takes more than definitions, the statements that make it; but for names known otherwise."""
    made: dict[str, list[int]] = {}
    late: set[str] = set()
    for row, node in enumerate(rows):
        names = changed(node) - known
        if not is_kept(node) or used([node]) & late:
            late |= names
        for name in names:
            made.setdefault(name, []).append(row)
    return {name: places for name, places in made.items() if name in late}


def _unparsed(node: ast.stmt) -> str:
    with contextlib.suppress(Exception):  # of an expression as deep, or a number as long, as can be parsed
        return ast.unparse(node)
    return ""
