"""What somebody has done is remembered, and nothing is that nobody did: by programs, graders, or in solved copies."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from course_utils.exercises import check, course_map, engine, load_lesson, record

ROOT = Path(__file__).parents[1]
EXERCISES = {id for i in range(20) for id in load_lesson(f"{i:02d}")}


def mix(x_0, eps, alpha_t, sigma_t):
    return alpha_t * x_0 + sigma_t * eps


def sit_down(monkeypatch: pytest.MonkeyPatch, allow_stdin: bool = True) -> None:
    """Make this process look like a notebook's kernel."""
    shell = SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=allow_stdin))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of somebody who sits at a notebook, and who has done nothing in this session."""
    monkeypatch.setattr(engine, "_done", set())
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "new folder" / "進度.txt"))
    sit_down(monkeypatch)
    return record.path()


def test_a_check_that_passes_is_remembered_by_the_next_session(file, monkeypatch):
    assert not check("00.mix", lambda *a: None).passed
    assert not file.exists()
    for _ in range(2):
        assert check("00.mix", mix).passed
    assert file.read_text().split() == ["00.mix"]
    check("00.mix", lambda *a: None)  # it was done, all the same
    monkeypatch.setattr(engine, "_done", set())  # the next session
    assert course_map().done == {"00.mix"}


def test_the_map_has_every_exercise_and_says_which_are_done(file):
    record.add("00.mix")
    record.add("03.posterior")
    lines = repr(course_map()).splitlines()
    assert [line[:2] for line in lines] == [f"{i:02d}" for i in range(len(lines))]
    assert {e.id for lesson in course_map().lessons.values() for e in lesson} == EXERCISES
    assert lines[0] == "00  ✔  1 of 1"
    assert lines[1].startswith("01  ○ ○ ○ ○ ○  0 of 5, next: One step")
    shown = course_map()._repr_html_()
    assert shown.count("✔") == repr(course_map()).count("✔") == 2
    assert shown.count("○") == len(EXERCISES) - shown.count("✔")


@pytest.mark.parametrize(
    "damage",
    [b"01.q_", b"\xff\xfe\x00\n", b"\x00" * 100, b"{]\n" * 3, b"01.q_step\r\n01.q_step", b"nonsense " * 10_000],
    ids=lambda damage: str(damage[:10]),
)
def test_damage_costs_no_entry_before_it_or_after_it(file, damage):
    record.add("00.mix")
    with open(file, "ab") as handle:
        handle.write(damage)
    record.add("02.log_snr")
    assert {"00.mix", "02.log_snr"} <= record.done()
    course_map()


def test_what_cannot_be_written_or_read_is_passed_over(file, tmp_path, monkeypatch):
    def remember(path: Path | str) -> set[str]:
        monkeypatch.setenv("COURSE_PROGRESS", str(path))
        assert check("00.mix", mix).passed
        return record.done()

    (tmp_path / "a file").touch()
    assert remember(tmp_path) == set()  # a folder
    assert remember(tmp_path / "a file" / "progress.txt") == set()
    assert remember(os.devnull) == set()
    assert remember("~nobody-of-this-name/progress.txt") == set()  # a person without a home
    assert remember(file) == {"00.mix"}


def test_a_folder_that_is_not_ours_is_passed_over(file, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    record.add("00.mix")
    assert not file.exists()


def test_many_notebooks_at_once_lose_nothing(file):
    """Eight processes, twenty exercises each; half of the exercises are everybody's."""
    many = """
import sys
import record  # by itself, without PyTorch
record._somebody_is_there = lambda: True
for i in range(20):
    record.add(f"{sys.argv[1] if i % 2 else 'all'}.{i}")
"""
    there = {**os.environ, "PYTHONPATH": str(Path(record.__file__).parent)}
    run = [subprocess.Popen([sys.executable, "-c", many, str(n)], env=there) for n in range(8)]
    assert [process.wait(600) for process in run] == [0] * 8
    assert record.done() == {f"{n if i % 2 else 'all'}.{i}" for n in range(8) for i in range(20)}


def test_programs_and_solved_copies_are_nobodys_progress(file, tmp_path, monkeypatch):
    record.add("00.mix")
    sit_down(monkeypatch, allow_stdin=False)
    record.add("01.q_step")
    assert record.done() == set()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))  # no notebook at all
    record.add("01.q_step")
    sit_down(monkeypatch)
    (tmp_path / "solutions").mkdir()
    monkeypatch.chdir(tmp_path / "solutions")
    record.add("01.q_step")
    monkeypatch.chdir(tmp_path)
    assert record.done() == {"00.mix"}


def test_each_system_has_its_place(monkeypatch):
    home = Path.home()
    for name in ("COURSE_PROGRESS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for system, folder in (
        ("linux", ".local/share"),
        ("darwin", "Library/Application Support"),
        ("win32", "AppData/Local"),
    ):
        monkeypatch.setattr(sys, "platform", system)
        assert record.path() == home / folder / "diffusion-course" / "progress.txt"
    monkeypatch.setenv("LOCALAPPDATA", "elsewhere")
    assert record.path().parts[0] == "elsewhere"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "there")
    assert record.path().parts[0] == "there"


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False], ids=["a person", "a program"])
def test_in_a_real_kernel_a_person_is_told_from_a_program(file, asked):
    manager = KernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    manager.start_kernel(cwd=str(ROOT / "notebooks"), env={**os.environ, "PYTHONPATH": str(ROOT)})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=600)
        cell = "from course_utils.exercises import check\ncheck('00.mix', lambda x, eps, a, s: a * x + s * eps)"
        reply = client.execute_interactive(cell, allow_stdin=asked, timeout=600, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert record.done() == ({"00.mix"} if asked else set())
