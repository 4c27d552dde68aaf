"""The sandbox keeps its promises: what it hides, what it refuses, what it bounds, and that it ends when told to."""

import ctypes
import errno
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("nbgrader", reason="grading needs the extra [grade]")

from course_utils.desk.grading import sandbox as box
from course_utils.desk.grading import seccomp, wire
from course_utils.desk.grading.sandbox import Died, Forged, Sandbox, SandboxError, Stopped, TookTooLong, is_there

SECRET = "do-not-tell-7731"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_there(), reason="this machine has no sandbox: apt-get install bubblewrap"),
]


@pytest.fixture(scope="module")
def shared():
    """One sandbox, started by a grader with a secret in its environment; each test begins with a fresh worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_TEST_SECRET", SECRET)
        with Sandbox(prelude="import ctypes, os, socket\nPRELUDE = 41") as sandbox:
            yield sandbox


@pytest.fixture
def sandbox(shared):
    shared.begin()
    return shared


def said(sandbox, body: str):
    """What a learner's function with this body returns; the error if it raises one."""
    lines = "\n".join("    " + line for line in body.strip().split("\n"))
    assert sandbox.run(f"def f():\n{lines}", 20) == ""
    seen = sandbox.observe("f", (), 20, wrt=None, cotangent=None)
    return seen["error"] or seen["output"]


def test_nothing_of_the_graders_environment_is_to_be_found_anywhere(sandbox):
    seen = said(
        sandbox,
        """
found = {}
for process in [p for p in os.listdir("/proc") if p.isdigit()] + ["self"]:
    for name in ("environ", "cmdline", "maps", "mem", "fd", "cwd", "root"):
        path = f"/proc/{process}/{name}"
        try:
            if name == "fd":
                found[path] = str([os.readlink(f"{path}/{fd}") for fd in os.listdir(path)])
            elif name in ("cwd", "root"):
                found[path] = os.readlink(path)
            elif name != "mem":
                with open(path) as file:
                    found[path] = file.read()[:5000]
            else:
                open(path, "rb").close()
                found[path] = "open"
        except OSError:
            pass
return found
""",
    )
    assert SECRET not in json.dumps(seen)
    # Of the keeper there is its command alone: paths of Python and the course, which a learner's code can see anyway.
    assert {path for path in seen if path.startswith("/proc/1/")} == {"/proc/1/cmdline"}
    own = dict(line.split("=", 1) for line in seen["/proc/self/environ"].split("\0") if line)
    assert set(own) <= {"HOME", "PATH", "PWD", "OMP_NUM_THREADS", "LC_CTYPE"}


def test_what_a_worker_has_open_is_its_pipes_and_nowhere(sandbox):
    seen = said(
        sandbox,
        """
links = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        links[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # the folder itself
        pass
return links
""",
    )
    kinds = {name.split(":")[0] for name in seen.values()}
    assert kinds <= {"pipe", "/dev/null"}, seen
    assert sum(name.startswith("pipe") for name in seen.values()) == 2
    assert all(seen[standard] == "/dev/null" for standard in "012")


REFUSED = """
libc = ctypes.CDLL(None, use_errno=True)
done = []
def call(name, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(*arguments) >= 0:
        done.append(name)
    else:
        done.append((name, ctypes.get_errno()))
for name, number in CALLS.items():
    call(name, number, 0, 0, 0, 0, 0, 0)
for family in (40, 38, 16):
    call(f"socket {family}", SOCKET, family, 1, 0)
call("clone", CLONE, 0x10000000 | 17, 0, 0, 0, 0)
call("clone3", CLONE3, 0, 0)
call("prlimit", PRLIMIT, 1, 7, ctypes.byref((ctypes.c_uint64 * 2)(0, 0)), None)
return [list(x) if isinstance(x, tuple) else x for x in done]
"""


def test_calls_that_lead_past_the_walls_are_refused_by_the_filter(sandbox):
    column, _ = seccomp.MACHINES[os.uname().machine]
    numbers = {"CALLS": {name: pair[column] for name, pair in seccomp.CALLS.items()}}
    for name in ("SOCKET", "CLONE", "CLONE3", "PRLIMIT"):
        numbers[name] = getattr(seccomp, name)[column]
    sandbox.run("\n".join(f"{name} = {value!r}" for name, value in numbers.items()), 20)
    done = dict(said(sandbox, REFUSED))
    assert done.pop("clone3") == errno.ENOSYS
    assert {done.pop(f"socket {family}") for family in (40, 38, 16)} == {errno.EAFNOSUPPORT}
    assert set(done.values()) == {errno.EPERM}, done
    assert {"keyctl", "add_key", "request_key", "memfd_create", "unshare", "clone", "prlimit"} <= set(done)


def test_a_key_of_the_grader_is_not_found_and_none_is_left_behind(sandbox):
    libc = ctypes.CDLL(None)
    add, key = seccomp.CALLS["add_key"][0], seccomp.CALLS["keyctl"][0]
    if os.uname().machine != "x86_64" or libc.syscall(add, b"user", b"course_test", b"secret", 6, ctypes.c_int(-3)) < 0:
        pytest.skip("no keyring to try it with")
    seen = said(
        sandbox,
        f"""
libc, listed = ctypes.CDLL(None), ""
found = libc.syscall({key}, 10, ctypes.c_int(-3), b"user", b"course_test", 0)
left = libc.syscall({add}, b"user", b"course_left", b"answer", 6, ctypes.c_int(-3))
for name in ("keys", "key-users"):
    try:
        listed += open(f"/proc/{{name}}").read()
    except PermissionError:
        pass
return [found, left, listed]
""",
    )
    assert seen == [-1, -1, ""]
    assert libc.syscall(key, 10, ctypes.c_int(-3), b"user", b"course_left", 0) < 0


def test_threads_programs_and_local_sockets_still_work(sandbox):
    seen = said(
        sandbox,
        """
import subprocess, threading
heard = []
a, b = socket.socketpair()
thread = threading.Thread(target=lambda: heard.append(a.recv(5).decode()))
thread.start(); b.send(b"hello"); thread.join()
said = subprocess.run(["/bin/echo", "there"], capture_output=True, text=True).stdout
return [*heard, said.strip()]
""",
    )
    assert seen == ["hello", "there"]


def test_processes_are_bounded_even_if_the_grader_is_root_and_memory_without_a_file_is_refused(sandbox):
    forks = said(
        sandbox,
        """
import subprocess
children = []
try:
    for _ in range(200):
        children.append(subprocess.Popen(["/bin/sleep", "60"]))
except OSError:
    pass
return len(children)
""",
    )
    assert 50 < forks < box.LIMITS["nproc"]
    sandbox.begin()  # which ends them
    assert said(sandbox, 'return [p for p in os.listdir("/proc") if p.isdigit()] == ["1", str(os.getpid())]')
    assert "PermissionError" in said(sandbox, 'return os.memfd_create("x")')


def test_a_worker_sees_nothing_of_the_one_before_it_and_cannot_hurt_the_keeper(sandbox):
    sandbox.run("LEFT = 1\nimport torch\ntorch.equal = lambda *a: True\nPRELUDE = 0", 20)
    sandbox.run("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()", 20)
    kill = "import signal\nfor number in (2, 9, 15, 17, 19):\n    os.kill(1, number)\nreturn os.getppid()"
    assert said(sandbox, kill) == 1
    with pytest.raises(Died):
        said(sandbox, "os._exit(0)")
    sandbox.begin()
    assert said(sandbox, 'return ["LEFT" in globals(), PRELUDE]') == [False, 41]
    assert sandbox.run("import torch\nassert not torch.equal(torch.zeros(1), torch.ones(1))", 20) == ""


def test_what_a_dead_worker_left_running_does_not_hold_up_the_verdict(sandbox):
    began = time.monotonic()
    with pytest.raises(Died):  # and not TookTooLong, though its child still holds the pipes
        sandbox.run("import os, time\nif os.fork() == 0:\n    time.sleep(600)\nos._exit(0)", 300)
    assert time.monotonic() - began < 200


def test_one_who_steals_the_questions_or_floods_the_answers_is_out_of_the_way_of_the_next(sandbox):
    thief = """
import threading
def steal(fd, data):
    while True:
        try:
            os.write(fd, data) if data else os.read(fd, 1)
        except OSError:
            return
for name in os.listdir("/proc/self/fd"):
    if int(name) > 2:
        for data in (b"", b"x"):
            threading.Thread(target=steal, args=(int(name), data), daemon=True).start()
"""

    def answers():
        sandbox.run(thief, 20)  # whose own reply may be the first to be lost
        return [sandbox.run("pass", 3) for _ in range(1000)]

    with pytest.raises(SandboxError) as error:
        answers()
    assert isinstance(error.value, Forged | TookTooLong | Died)
    sandbox.begin()
    assert sandbox.run("raise ValueError(PRELUDE)", 20) == "ValueError: 41"


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("torch.ones(67_000_000, dtype=torch.uint8)", "too large to be sent: 67,000,000 numbers"),
        ("[torch.zeros(0)] * 5000", "too large to be sent"),
        ("'x' * 200_000", "too large to be sent"),
        ("[0] * 100_000", "too large to be sent"),
    ],
)
def test_a_reply_that_is_too_large_is_an_answer_that_is_wrong(sandbox, returned, told):
    assert told in said(sandbox, f"import torch\nreturn {returned}")


def test_a_long_cell_in_any_script_and_a_long_error_cross(sandbox):
    assert sandbox.run(f'NOTES = "{"漢" * 190_000}"\nraise ValueError("y" * 10**7)', 20).startswith("ValueError: yyy")
    assert said(sandbox, "return len(NOTES)") == 190_000
    assert len(said(sandbox, 'raise ValueError("z" * 10**7)')) <= 2000


def test_whoever_wants_to_stop_need_not_wait_for_a_hanging_answer(shared):
    shared.begin()
    timer = threading.Timer(0.5, shared.stop.set)
    timer.start()
    with pytest.raises(Stopped):
        shared.run("while True: pass", 600)
    timer.join()
    shared.stop.clear()


GRADER = """
from course_utils.desk.grading.sandbox import Sandbox
sandbox = Sandbox()
print("ready", flush=True)
# PR_SET_NAME, to be found by; PR_SET_PDEATHSIG, to outlive the parent
sandbox.run("import ctypes\\nname = ctypes.CDLL(None).prctl\\nname(15, b'MARK')\\nname(1, 0)\\nwhile True: pass", 600)
"""


def test_a_grader_that_is_killed_leaves_no_learners_code_running(tmp_path):
    root = str(Path(box.__file__).parents[3])
    mark = f"course-test-{os.getpid()}"
    source, env = GRADER.replace("MARK", mark[-15:]), {**os.environ, "PYTHONPATH": root}
    grader = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=env)
    assert grader.stdout is not None
    assert grader.stdout.readline() == b"ready\n"

    def running() -> int:
        names = [path.read_text() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
        return sum(mark[-15:] in name for name in names)

    _until(lambda: running() > 0)
    os.kill(grader.pid, signal.SIGKILL)
    grader.wait()
    grader.stdout.close()
    _until(lambda: running() == 0)


def _until(true) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it never happened")


def test_the_filter_is_refused_on_a_machine_whose_calls_are_not_known():
    with pytest.raises(seccomp.NoFilter, match="riscv64"):
        seccomp.program("riscv64")


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_no_jump_of_the_filter_leaves_it_and_it_fits_the_kernel(machine):
    lines = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    assert len(lines) <= 4096
    assert lines[-1][0] == seccomp.RETURN
    for at, (code, then, other, _) in enumerate(lines):
        if code not in (seccomp.LOAD, seccomp.RETURN):
            assert at + 1 + max(then, other) < len(lines)


# --- what a reply may hold -------------------------------------------------------------------------------------------


def _reply(tree: object, head: dict, data: bytes = b"") -> tuple[bytes, bytes]:
    text = json.dumps(head).encode()
    return json.dumps(tree).encode(), len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            _reply([], {str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(600)}),
            "many tensors",
        ),
        (
            _reply([], {"0": {"dtype": "U8", "shape": [1 << 19], "data_offsets": [0, 1 << 19]}}, bytes(1 << 19)),
            "numbers",
        ),
        (_reply([], {"0": {"dtype": "F32", "shape": [0, 1 << 40], "data_offsets": [0, 0]}}), "numbers"),
        (_reply([], {"0": {"dtype": "F32", "shape": [1] * 40, "data_offsets": [0, 4]}}, bytes(4)), "numbers"),
        (
            _reply(
                {"list": [{"tensor": "0"}, {"tensor": "0"}]},
                {"0": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
                bytes(4),
            ),
            "cannot be read",
        ),
    ],
    ids=["many tensors", "many numbers", "an empty giant", "many directions", "one tensor twice"],
)
def test_a_forged_reply_that_a_check_could_choke_on_is_refused_before_it(reply, told):
    with pytest.raises(wire.WireError, match=told):
        wire.decode(*reply)


def test_strange_tensors_and_hostile_methods_are_named_or_refused_and_never_copied_first():
    class Sly(str):
        def __str__(self):
            raise OSError("no")

    pairs = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex128)
    seen = sent({"c": pairs.conj(), "imag": pairs.conj().imag, "odd": type("a b", (), {})()})
    assert torch.equal(seen["c"], pairs.conj())
    assert torch.equal(seen["imag"], torch.tensor([-2.0, 4.0], dtype=torch.float64))
    assert type(seen["odd"]).__name__ == "object"
    quantised = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)
    for strange in (
        quantised,
        torch.ones(3).to(torch.float8_e4m3fn),
        torch.ones(3).to_sparse(),
        torch.ones(3, device="meta"),
    ):
        assert isinstance(sent(strange), wire.Opaque)
    for refused in (torch.zeros(1).expand(1 << 40), Sly("x"), torch.nested.nested_tensor([torch.ones(2)])):
        with pytest.raises(wire.WireError, match=r"cannot be sent|too large"):
            wire.encode(refused)


def sent(value):
    """What arrives of a value."""
    message = wire.encode(value)
    text, block = wire.lengths(message[: wire.HEADER.size])
    rest = message[wire.HEADER.size :]
    return wire.decode(rest[:text], rest[text : text + block])


def test_questions_may_be_larger_than_replies():
    block = wire.encode({"args": (torch.zeros(1 << 19),)}, limited=False)
    text, size = wire.HEADER.unpack(block[:16])
    back = wire.decode(block[16 : 16 + text], block[16 + text :], limited=False)
    assert back["args"][0].shape == (1 << 19,)
    with pytest.raises(wire.WireError, match="announces"):
        wire.lengths(wire.HEADER.pack(text, size))
