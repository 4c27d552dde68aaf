"""Processes that run what learners wrote and can do no harm: bubblewrap, resource limits, a filter, a clock.

In the sandbox there is no network, no other process, nothing of the grader's environment, and no file of the machine
but the system and the Python installation, read-only; its /tmp is its own, and vanishes. Processes, the memory of each,
file sizes and open files are bounded by prlimit, system calls by `seccomp`, time by whoever asks. Should the machine
run out of memory all the same, the kernel ends what is in the sandbox first. Everything that comes out is read by
`wire`, which believes nothing. For root no limit on processes holds: a grader who is root runs learners'
code as another user.
"""

import contextlib
import os
import secrets
import select
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from course_utils.desk.grading import seccomp, wire

ROOT = Path(__file__).parents[3]
START_S = 300.0  # importing torch, on a machine that is busy with much else; what dies is told at once
GIB = 1 << 30
LIMITS = {"as": 8 * GIB, "nproc": 128, "fsize": 64 << 20, "nofile": 256, "core": 0}
TMP_BYTES = 256 << 20
USERS = (61184, 65519)  # numbers that systemd sets aside for users who exist for one service only
KEYS = ("/proc/keys", "/proc/key-users")  # the kernel's keyrings, by name
FILTER = "(filter)"
LISTEN_S = 0.25  # how often a wait looks whether somebody wants to stop
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


class Stopped(Exception):
    """The instructor wants to stop; what was under way is nobody's grade."""


class SandboxError(Exception):
    """The process in the sandbox is no longer of use; the message says what became of it."""


class Died(SandboxError):
    """It ended by itself."""


class TookTooLong(SandboxError):
    """It was stopped by the clock."""


class Forged(SandboxError):
    """It sent what our own code does not send."""


def is_there() -> bool:
    """Whether a sandbox starts here: bubblewrap, allowed to make namespaces; util-linux; a known kind of processor."""
    return not what_is_missing()


def what_is_missing() -> str:
    """Why no sandbox starts on this machine; empty if one does."""
    if missing := [name for name in ("bwrap", "prlimit", "choom", "setpriv") if not shutil.which(name)]:
        return f"{missing[0]} is not installed"
    try:
        with _filter() as fd:
            line = [str(fd) if word == FILTER else word for word in command(True, ["true"])]
            done = subprocess.run(line, capture_output=True, pass_fds=[fd], env={})
    except seccomp.NoFilter as error:
        return str(error)
    return done.stderr.decode(errors="replace").strip() or "it ended at once" if done.returncode else ""


@contextlib.contextmanager
def _filter() -> Iterator[int]:
    """An open file that the filter can be read from once."""
    with tempfile.TemporaryFile() as file:
        file.write(seccomp.program())
        file.seek(0)
        yield file.fileno()


def command(sandboxed: bool, inside: Sequence[str] = ()) -> list[str]:
    """The command that starts a keeper, or whatever else is named; FILTER stands for the number of the open filter."""
    inside = inside or [sys.executable, "-I", str(Path(__file__).with_name("worker.py")), str(ROOT)]
    if not sandboxed:
        return [*inside]
    python = {Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages())}
    seen: list[Path] = []
    for path in (*map(Path, SYSTEM), *sorted(python), ROOT / "course_utils", ROOT / "data"):
        if path.exists() and not any(path.is_relative_to(other) for other in seen):
            seen.append(path)
    # The folders above them are made here, and open to whoever the code runs as.
    above = sorted({up for path in seen for up in path.parents} - {Path("/")})
    binds = [arg for path in above for arg in ("--perms", "0755", "--dir", str(path))]
    binds += [arg for path in seen for arg in ("--ro-bind", str(path), str(path))]
    hidden = [arg for path in KEYS if os.path.exists(path) for arg in ("--ro-bind", "/dev/null", path)]
    limits = [f"--{name}={value}" for name, value in LIMITS.items()]
    if os.geteuid() == 0:  # the namespaces need no user namespace; each sandbox a user of its own, who is nobody
        user = str(USERS[0] + secrets.randbelow(USERS[1] - USERS[0] + 1))
        apart = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        apart += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        become = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all", "--pdeathsig=KILL"]
    else:
        apart = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
        become = []
    tmp = ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs"]
    return [
        _found("choom"), "-n", "1000", "--",
        _found("bwrap"), *apart, "--as-pid-1", "--die-with-parent", "--new-session", "--hostname", "sandbox",
        "--clearenv", *tmp, "/tmp", "--proc", "/proc", "--dev", "/dev", *tmp, "/dev/shm", *binds,
        *hidden,
        "--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/",
        "--chdir", "/tmp", "--setenv", "HOME", "/tmp", "--setenv", "OMP_NUM_THREADS", "1",
        "--setenv", "PATH", "/usr/bin:/bin", "--seccomp", FILTER,
        "prlimit", *limits, *become, *inside,
    ]  # fmt: skip


def _found(program: str) -> str:
    """Where a program is: the sandbox is started without a PATH."""
    return shutil.which(program) or program


class Sandbox:
    """A keeper in a sandbox, started at once, and the worker that it last forked; a context manager.

    Each request waits for its reply, and not for ever.

    Args:
        sandboxed: or else the same without walls: the course's own user runs their own code.
        prelude: source of ours that each worker has run already.
        stop: once it is set, every wait ends with `Stopped`.
        seconds: for the start and the prelude.

    Raises:
        SandboxError: it does not start, or the prelude does not run; later one of its kinds, after which `begin` gives
            a new worker, or raises SandboxError again because the keeper is gone too.
    """

    def __init__(
        self,
        sandboxed: bool = True,
        prelude: str = "",
        stop: threading.Event | None = None,
        seconds: float = START_S,
    ):
        self.stop, self.number = stop or threading.Event(), 0
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self.control, theirs = socket.socketpair()
        self.pipes: tuple[int, int] | None = None
        try:
            self.process = _started(sandboxed, theirs, self.log)
        except (OSError, seccomp.NoFilter) as error:  # no bubblewrap on this worker of a cluster; no process to be had
            self.log.close()
            self.control.close()
            raise SandboxError(f"the sandbox does not start: {error}") from error
        finally:
            theirs.close()
        try:
            source = prelude.encode()
            with contextlib.suppress(OSError):  # it has ended: its last words are in the log
                self.control.sendall(len(source).to_bytes(4, "big") + source)
            if failed := self._line(seconds):
                raise SandboxError(failed)
            self.begin()
        except BaseException as error:
            self.log.seek(0)
            said = self.log.read(2000).decode(errors="replace").strip()
            self.close()
            if isinstance(error, Died | TookTooLong):
                raise SandboxError(f"the sandbox does not start: {said or error}") from error
            raise

    def begin(self) -> None:
        """End the worker and all that it started, and fork a new one, in which only the prelude has run."""
        self._close_pipes()
        (asked, ask), (hear, told) = os.pipe(), os.pipe()
        self.pipes, self.number = (ask, hear), 0
        os.set_blocking(ask, False)
        try:
            socket.send_fds(self.control, [b"\n"], [asked, told])
        except OSError as error:
            raise Died("the sandbox has ended") from error
        finally:
            os.close(asked)
            os.close(told)
        if self._line(START_S) != "forked":
            raise Forged("the sandbox is not what it was")

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
        assert self.pipes is not None
        ask, hear = self.pipes
        if select.select([hear], [], [], 0)[0]:
            if not os.read(hear, 1):
                raise Died("Python ended")
            raise Forged("a reply before there was a question")
        self.number += 1
        deadline = time.monotonic() + seconds
        rest = memoryview(wire.encode({"id": self.number, **message}, limited=False))
        while rest:
            self._wait(deadline, "it did not listen", write=ask)
            try:
                rest = rest[os.write(ask, rest) :]
            except OSError as error:
                raise Died("Python ended") from error
        try:
            text, block = wire.lengths(self._bytes(hear, wire.HEADER.size, deadline))
            reply = wire.decode(self._bytes(hear, text, deadline), self._bytes(hear, block, deadline))
        except wire.WireError as error:
            raise Forged(str(error)) from error
        if type(reply) is not dict or reply.get("id") != self.number:
            raise Forged("a reply to another question")
        return reply

    def _wait(self, deadline: float, said: str, read: int | None = None, write: int | None = None) -> None:
        """Until there is something to read, or room to write; TookTooLong with `said` if there never is."""
        reads, writes = [read] if read is not None else [], [write] if write is not None else []
        while (left := deadline - time.monotonic()) > 0:
            if self.stop.is_set():
                raise Stopped("stopped")
            if any(select.select(reads, writes, [], min(left, LISTEN_S))):
                return
        raise TookTooLong(said)

    def _bytes(self, descriptor: int, count: int, deadline: float) -> bytes:
        pieces = []
        while count:
            self._wait(deadline, "it was still running when its time was over", read=descriptor)
            try:
                piece = os.read(descriptor, min(count, 1 << 20))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Died("Python ended")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _line(self, seconds: float) -> str:
        """What the keeper says, which is one line."""
        deadline, said = time.monotonic() + seconds, b""
        while not said.endswith(b"\n"):
            said += self._bytes(self.control.fileno(), 1, deadline)
        return said.decode(errors="replace").strip()

    def _close_pipes(self) -> None:
        for pipe in self.pipes or ():
            with contextlib.suppress(OSError):
                os.close(pipe)
        self.pipes = None

    def close(self) -> None:
        """End it, and all that it started: they share a process space, whose first member this kills."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._close_pipes()
        self.control.close()
        self.log.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _started(sandboxed: bool, control: socket.socket, log: Any) -> subprocess.Popen:
    """The keeper's process. Of the environment it gets nothing, unless it runs without a sandbox."""
    with contextlib.ExitStack() as stack:
        fds = [stack.enter_context(_filter())] if sandboxed else []
        line = [str(fds[0]) if word == FILTER else word for word in command(sandboxed)]
        env = {} if sandboxed else {**os.environ, "OMP_NUM_THREADS": "1", "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(
            line, stdin=control.fileno(), stdout=nowhere, stderr=log, start_new_session=True, pass_fds=fds, env=env
        )
