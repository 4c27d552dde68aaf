"""A process that runs what learners wrote and can do no harm: bubblewrap, resource limits, a clock.

In the sandbox there is no network, no other process, and no file of the machine but the system and the Python
installation, read-only; its /tmp is its own, and vanishes. Processes, the memory of each, file sizes and open files are
bounded by prlimit, time by whoever asks. Should the machine run out of memory all the same, the kernel ends what is in
the sandbox first. Everything that comes out is read by `wire`, which believes nothing.
"""

import contextlib
import os
import select
import shutil
import site
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from course_utils.desk.grading import wire

ROOT = Path(__file__).parents[3]
START_S = 60.0  # importing torch, on a machine that is busy with others
GIB = 1 << 30
LIMITS = {"as": 8 * GIB, "nproc": 128, "fsize": 64 << 20, "nofile": 256, "core": 0}
TMP_BYTES = 256 << 20
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
)


class SandboxError(Exception):
    """The process in the sandbox is no longer of use; the message says what became of it."""


class Died(SandboxError):
    """It ended by itself."""


class TookTooLong(SandboxError):
    """It was stopped by the clock."""


class Forged(SandboxError):
    """It sent what our own code does not send."""


def is_there() -> bool:
    """Whether this machine has what a sandbox needs: bubblewrap, allowed to make namespaces; prlimit and choom."""
    if not all(map(shutil.which, ("bwrap", "prlimit", "choom"))):
        return False
    alone = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    return subprocess.run(alone, capture_output=True).returncode == 0


def command(sandboxed: bool) -> list[str]:
    """The command that starts a worker."""
    worker = [sys.executable, "-I", str(Path(__file__).with_name("worker.py")), str(ROOT)]
    if not sandboxed:
        return worker
    python = {Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages())}
    seen: list[Path] = []
    for path in (*map(Path, SYSTEM), *sorted(python), ROOT / "course_utils", ROOT / "data"):
        if path.exists() and not any(path.is_relative_to(other) for other in seen):
            seen.append(path)
    binds = [arg for path in seen for arg in ("--ro-bind", str(path), str(path))]
    limits = [f"--{name}={value}" for name, value in LIMITS.items()]
    return [
        "choom", "-n", "1000", "--",
        "bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--die-with-parent",
        "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv",
        "--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev",
        "--size", str(TMP_BYTES), "--tmpfs", "/dev/shm", *binds,
        "--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/",
        "--chdir", "/tmp", "--setenv", "HOME", "/tmp", "--setenv", "OMP_NUM_THREADS", "1",
        "--setenv", "PATH", "/usr/bin:/bin",
        "prlimit", *limits, *worker,
    ]  # fmt: skip


class Sandbox:
    """A worker process, started at once; a context manager. Each request waits for its reply, and not for ever.

    Raises:
        SandboxError: it does not start; later one of its kinds, after which it must be started anew.
    """

    def __init__(self, sandboxed: bool = True):
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        env = None if sandboxed else {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(
                command(sandboxed), stdin=pipe, stdout=pipe, stderr=self.log, start_new_session=True, env=env
            )
        except OSError as error:  # no bubblewrap on this worker of a cluster; no process or file left to be had
            self.log.close()
            raise SandboxError(f"the sandbox does not start: {error}") from error
        os.set_blocking(self.process.stdin.fileno(), False)  # type: ignore[union-attr]
        self.number = 0
        try:
            self._read(time.monotonic() + START_S, -1)
        except SandboxError as error:
            self.log.seek(0)
            said = self.log.read(2000).decode(errors="replace").strip()
            self.close()
            raise SandboxError(f"the sandbox does not start: {said or error}") from error

    def run(self, source: str, seconds: float) -> str:
        """Run a cell; the first error it raised, or nothing."""
        reply = self._ask({"source": source}, seconds)
        if set(reply) != {"id", "error"} or type(reply["error"]) is not str:
            raise Forged("a reply to a cell that is none of ours")
        return reply["error"]

    def observe(self, name: str, args: tuple, seconds: float, *, wrt: int | None, cotangent: Any) -> dict[str, Any]:
        """What `exercises.engine.observe` says of the function of that name, as plain data."""
        return self._ask({"name": name, "args": args, "wrt": wrt, "cotangent": cotangent}, seconds)

    def _ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], 0)[0]:
            if self.process.poll() is not None:
                raise Died(self._last_words())
            raise Forged("a reply before there was a question")
        self.number += 1
        deadline = time.monotonic() + seconds
        self._write({"id": self.number, **message}, deadline)
        return self._read(deadline, self.number)

    def _write(self, message: dict[str, Any], deadline: float) -> None:
        assert self.process.stdin is not None
        rest = memoryview(wire.encode(message))
        while rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self.process.stdin], [], left)[1]:
                raise TookTooLong("it did not listen")
            try:
                rest = rest[os.write(self.process.stdin.fileno(), rest) :]
            except OSError as error:
                raise Died(self._last_words()) from error

    def _read(self, deadline: float, number: int) -> dict[str, Any]:
        try:
            text, block = wire.lengths(self._bytes(wire.HEADER.size, deadline))
            reply = wire.decode(self._bytes(text, deadline), self._bytes(block, deadline))
        except wire.WireError as error:
            raise Forged(str(error)) from error
        if type(reply) is not dict or reply.get("id") != number:
            raise Forged("a reply to another question")
        return reply

    def _bytes(self, count: int, deadline: float) -> bytes:
        assert self.process.stdout is not None
        pieces, descriptor = [], self.process.stdout.fileno()
        while count:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TookTooLong("it was still running when its time was over")
            piece = os.read(descriptor, min(count, 1 << 20))
            if not piece:
                raise Died(self._last_words())
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        code = self.process.returncode
        return "Python ended" + (f" with exit status {code}" if code else "")

    def close(self) -> None:
        """End it, and all that it started: they share a process space, whose first member this kills."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, 9)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
