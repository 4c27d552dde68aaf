"""Inside the sandbox: run what a learner wrote, and call their functions when asked.

Started by `sandbox.Sandbox`, as `python worker.py FOLDER`, FOLDER being where `course_utils` is. Requests come in on
standard input and replies go out on standard output, as `wire` writes them. Nothing here is trusted by the other side.
"""

import ast
import os
import sys
import types
from typing import Any


def main() -> None:
    """Serve requests until there are no more."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # what learners print goes nowhere, however much it is
    sys.path[:] = [sys.argv[1], *(path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__)))]
    sys.setrecursionlimit(3000)

    import torch

    from course_utils.desk.grading import wire
    from course_utils.exercises.engine import observe

    torch.set_num_threads(1)
    page = types.ModuleType("__main__")
    sys.modules["__main__"] = page

    def read() -> dict[str, Any]:
        header = requests.read(wire.HEADER.size)
        if len(header) < wire.HEADER.size:
            raise EOFError
        text, block = wire.lengths(header)
        return wire.decode(requests.read(text), requests.read(block))

    def write(message: dict[str, Any]) -> None:
        replies.write(wire.encode(message))
        replies.flush()

    write({"id": -1, "ready": True})
    os.dup2(nowhere, 2)
    while True:
        try:
            request = read()
        except EOFError:
            return
        if "source" in request:
            write({"id": request["id"], "error": run(request["source"], page)})
            continue
        function = getattr(page, request["name"], missing)
        seen = observe(function, request["args"], wrt=request["wrt"], cotangent=request["cotangent"])
        reply = {"id": request["id"], **{key: getattr(seen, key) for key in seen.__dataclass_fields__}}
        try:
            write(reply)
        except wire.WireError as error:
            write(reply | {"output": None, "gradient": None, "error": f"what it returned is {error}"})


def missing(*_: object) -> None:
    """Stands for a function that is not there."""
    raise NameError("there is no function of this name")


def run(source: str, page: types.ModuleType) -> str:
    """Run a cell statement by statement, so that one that fails does not take the next with it; the first error."""
    first = ""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    for statement in statements:
        try:
            exec(compile(ast.Module([statement], []), "<cell>", "exec"), page.__dict__)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            first = first or f"{type(error).__name__}: {error}"[:2000]
    return first


if __name__ == "__main__":
    main()
