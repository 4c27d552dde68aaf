"""Every test of the package runs with its shape annotations enforced, and with the same random examples every time.

The long tests begin first, so that no process works alone at the end; those of one module follow each other, since they
share what is made once for a module. What is marked `weekly` is left out unless asked for.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "course", derandomize=True, deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("course")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-shape-hook",
        action="store_true",
        help="leave jaxtyping's annotations unenforced: what a learner's notebook sees (tests/test_bad_input.py)",
    )
    parser.addoption("--weekly", action="store_true", help="run what is marked `weekly` too: `make weekly`")


def pytest_configure(config: pytest.Config) -> None:
    # The tests share the cores; kernels that they start inherit this too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not config.getoption("--no-shape-hook"):
        from jaxtyping import install_import_hook

        install_import_hook("course_utils", "typecheck.check")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--weekly"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("weekly")])
        items[:] = [item for item in items if not item.get_closest_marker("weekly")]
    longest = {item.path: 0.0 for item in items}
    for item in items:
        longest[item.path] = max(longest[item.path], seconds(item))
    items.sort(key=lambda item: (seconds(item) == 0, -longest[item.path], item.path, -seconds(item)))


def seconds(item: pytest.Item) -> float:
    """About how long a test takes, as its mark says: `slow(40)`; 5 where that only says `slow`, else 0."""
    return max(((mark.args or (5.0,))[0] for mark in item.iter_markers("slow")), default=0.0)


EMPTIED = "(lambda page: [page.pop(name) for name in list(page) if name[:2] != '__'])(globals())"


@pytest.fixture(scope="session")
def idle_sandboxes() -> Iterator[dict[bool, list]]:
    """Those that wait for the next test, within walls and without."""
    idle: dict[bool, list] = {True: [], False: []}
    yield idle
    for sandbox in idle[True] + idle[False]:
        sandbox.end()


@pytest.fixture
def warm(idle_sandboxes: dict[bool, list], monkeypatch: pytest.MonkeyPatch) -> None:
    """Grading goes on in a sandbox that an earlier test left, its page emptied: to start one takes seconds.

    For tests of grades. One that harms the process beyond its page, or is about how it starts, needs a fresh one.
    """
    from course_utils.desk.grading import grade, sandbox

    class Warm(sandbox.Sandbox):
        end = sandbox.Sandbox.close

        def close(self) -> None:
            try:
                self.run(EMPTIED, 5)
            except sandbox.SandboxError:  # dead, or busy: of no more use
                self.end()
            else:
                self.waits_among.append(self)

    def start(sandboxed: bool = True) -> sandbox.Sandbox:
        with contextlib.suppress(IndexError):
            return idle_sandboxes[sandboxed].pop()
        if sandboxed and threading.current_thread() is not threading.main_thread():
            return sandbox.Sandbox()  # bubblewrap ends it with the thread that started it
        new = Warm(sandboxed)
        new.waits_among = idle_sandboxes[sandboxed]
        return new

    monkeypatch.setattr(grade, "Sandbox", start)
