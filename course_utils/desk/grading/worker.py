"""Inside the sandbox: run what a learner wrote, and call their functions when asked.

Started by `sandbox.Sandbox`, as `python worker.py FOLDER`, FOLDER being where `course_utils` is. Standard input is a
socket to the grader. The first process is the keeper: it runs the page's imports, which are our own, and from then on
forks a worker for each exercise, with a pair of pipes that the grader sends along. In a worker requests come in and
replies go out as `wire` writes them. Learners' code runs in workers alone, and the keeper ends all that is left of one
before it forks the next. It cannot be reached from there: the first process of a process space takes no signal from
within, and one that is not dumpable shows nobody its memory and its files. Nothing here is trusted by the grader.
"""

import __future__

import array
import ast
import contextlib
import ctypes
import linecache
import os
import signal
import socket
import sys
import types
from typing import Any

DUMPABLE = 4  # PR_SET_DUMPABLE
ALONE = os.getpid() == 1  # in a process space of our own
TEXT = 2000  # characters of an error that are sent back
features: set[str] = set()  # of future Pythons, that cells have asked for


def keep() -> None:
    """Run the page's imports, say how that went, and fork workers until the grader goes away."""
    if ALONE:
        ctypes.CDLL(None).prctl(DUMPABLE, 0, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which the first process does not hear
    control = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nowhere, standard)  # what learners print goes nowhere, however much it is
    sys.path[:] = [sys.argv[1], *(path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__)))]
    sys.setrecursionlimit(3000)

    import torch

    from course_utils.desk.grading import wire  # noqa: F401  # once, and not in every worker
    from course_utils.exercises import engine  # noqa: F401

    torch.set_num_threads(1)
    page = types.ModuleType("__main__")
    page.get_ipython, page.display = Shell, print  # type: ignore[attr-defined]
    sys.modules["__main__"] = page
    with control.makefile("rb") as stream:
        prelude = stream.read(int.from_bytes(stream.read(4), "big")).decode()
    control.sendall(run(prelude, page)[:TEXT].replace("\n", " ").encode(errors="replace") + b"\n")
    os.dup2(nowhere, 2)
    worker = 0

    def sweep(*_: object) -> None:
        """End whatever a worker has left behind, as soon as it has ended itself."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if ended == worker:
                    _end(worker)

    signal.signal(signal.SIGCHLD, sweep)
    while pipes := _receive(control):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if worker:
            _end(worker)
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
        worker = os.fork()
        if not worker:
            control.close()
            os.setsid()
            if ALONE:
                ctypes.CDLL(None).prctl(DUMPABLE, 1, 0, 0, 0)
            serve(pipes[0], pipes[1], page)
            os._exit(0)
        signal.signal(signal.SIGCHLD, sweep)
        sweep()  # it may have ended before anybody listened
        for pipe in pipes:
            os.close(pipe)
        control.sendall(b"forked\n")


def _end(worker: int) -> None:
    """All processes but this one, where there are only ours; else the worker's session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if ALONE:
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(worker, signal.SIGKILL)


def _receive(control: socket.socket) -> tuple[int, ...]:
    """The pipes for the next worker; none when the grader has gone."""
    fds = array.array("i")
    _, ancillary, *_ = control.recvmsg(1, socket.CMSG_LEN(2 * fds.itemsize))
    for _, _, data in ancillary:
        fds.frombytes(data)
    return tuple(fds)


def serve(asked: int, told: int, page: types.ModuleType) -> None:
    """Serve requests until there are no more."""
    from course_utils.desk.grading import wire
    from course_utils.exercises.engine import observe

    requests, replies = os.fdopen(asked, "rb"), os.fdopen(told, "wb")

    def write(message: dict[str, Any]) -> None:
        replies.write(wire.encode(message))
        replies.flush()

    while header := requests.read(wire.HEADER.size):
        text, block = wire.HEADER.unpack(header)
        request = wire.decode(requests.read(text), requests.read(block), limited=False)
        if "source" in request:
            write({"id": request["id"], "error": run(request["source"], page)[:TEXT]})
            continue
        function = getattr(page, request["name"], missing)
        seen = observe(function, request["args"], wrt=request["wrt"], cotangent=request["cotangent"])
        reply = {"id": request["id"], **{key: getattr(seen, key) for key in seen.__dataclass_fields__}}
        reply["error"] = reply["error"][:TEXT]
        try:
            write(reply)
        except wire.WireError as error:
            write(reply | {"output": None, "gradient": None, "error": f"what it returned is {error}"})


class Shell:
    """Stands for IPython: of lines such as `!pip list` and `%time` nothing is run here, and None comes of them."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def missing(*_: object) -> None:
    """Stands for a function that is not there."""
    raise NameError("there is no function of this name")


def run(source: str, page: types.ModuleType) -> str:
    """Run a cell statement by statement, so that one that fails does not take the next with it; the first error.

    As in a notebook, its source can be read again (`torch.jit.script` does), and `from __future__ import …` is for all
    cells below, too.
    """
    first = ""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    for statement in statements:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            features.update(alias.name for alias in statement.names if alias.name in __future__.all_feature_names)
        flags = sum(getattr(__future__, feature).compiler_flag for feature in features)
        try:
            exec(compile(ast.Module([statement], []), name, "exec", flags, dont_inherit=True), page.__dict__)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            first = first or f"{type(error).__name__}: {error}"[:TEXT]
    return first


if __name__ == "__main__":
    keep()
