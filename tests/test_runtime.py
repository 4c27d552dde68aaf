"""A lesson's setup says one line, seeds, and picks what the machine can do; what varies is marked as such."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from course_utils import runtime

SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")


def test_setup_seeds_and_says_one_line_that_no_comparison_minds(capsys: pytest.CaptureFixture[str]) -> None:
    lesson = runtime.setup("07", seed=3)
    drawn = torch.rand(3)
    printed = capsys.readouterr().out
    assert printed.startswith(runtime.VARIES)
    assert printed.count("\n") == 1
    assert str(lesson.dtype).removeprefix("torch.") in printed
    for words in (str(lesson.device), "seed 3", f"torch {torch.__version__.split('+')[0]}", "data: "):
        assert words in printed
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(torch.rand(3, generator=lesson.generator), drawn)
    assert (lesson.id, lesson.seed, lesson.generator.device.type) == ("07", 3, "cpu")


def test_a_seed_of_numpys_is_a_seed() -> None:
    lesson = runtime.setup("07", seed=np.int64(3))
    drawn = torch.rand(3)
    assert (lesson.seed, type(lesson.seed), lesson.generator.initial_seed()) == (3, int, 3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))


def test_one_thread_is_one_thread() -> None:
    before, cpu = torch.get_num_threads(), torch.device("cpu")
    for threads, words in ((1, "cpu (1 thread)"), (2, "cpu (2 threads)")):
        torch.set_num_threads(threads)
        assert runtime.device_name(cpu) == words
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "✔ ≈ 5 ± 1 · ö"), ("cp1252", "+ ? 5 ± 1 · ö"), ("ascii", "+ ? 5 ? 1 ? ?"), (None, "✔ ≈ 5 ± 1 · ö")],
)
def test_a_terminal_of_few_letters_is_shown_what_it_has(
    monkeypatch: pytest.MonkeyPatch, encoding: str | None, shown: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", SimpleNamespace(encoding=encoding))
        found = runtime.printable("✔ ≈ 5 ± 1 · ö")
    assert found == shown


def test_device_is_the_gpu_if_there_is_one_and_mps_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert runtime.pick_device() == torch.device("cpu")
    monkeypatch.setenv("COURSE_DEVICE", "mps")
    assert runtime.pick_device() == torch.device("mps")
    monkeypatch.setenv("COURSE_DEVICE", "cuda")
    with pytest.raises(
        ValueError, match=r"COURSE_DEVICE=cuda: no such device here\. Unset it, or use one of: cpu, mps"
    ):
        runtime.pick_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.pick_device() == torch.device("cuda")
    monkeypatch.setenv("COURSE_DEVICE", "cuda:1")
    assert runtime.pick_device() == torch.device("cuda:1")
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert runtime.pick_device() == torch.device("cpu")
    monkeypatch.delenv("COURSE_DEVICE")
    assert runtime.pick_device() == torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((6, 1), torch.float32),
        ((7, 0), torch.float16),
        ((7, 5), torch.float16),
        ((8, 0), torch.bfloat16),
        ((9, 0), torch.bfloat16),
    ],
    ids=["P40", "V100", "T4", "A100", "H100"],
)
def test_precision_suits_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert runtime.pick_precision(torch.device("cuda")) == dtype


def test_precision_is_bfloat16_only_on_cpus_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for features, dtype in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx512_f": True}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features, raising=False)
        assert runtime.pick_precision(cpu) == dtype
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # an older PyTorch
    assert runtime.pick_precision(cpu) == torch.float32
    assert runtime.pick_precision(torch.device("mps")) == torch.float32


GROUPS = {  # what a container sees of its quota -> CPUs, of eight that the affinity allows
    "version 2": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
    "version 2, a share of a CPU": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
    "version 2, one and a half": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
    "version 2, no quota": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8),
    "version 2, the group around it": (
        {
            "proc/self/cgroup": "0::/pod/container",
            "sys/fs/cgroup/pod/cpu.max": "300000 100000",
            "sys/fs/cgroup/pod/container/cpu.max": "max 100000",
        },
        3,
    ),
    "version 2, the host's path": (
        {"proc/self/cgroup": "0::/docker/0123", "sys/fs/cgroup/cpu.max": "400000 100000"},
        4,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "3:memory:/docker/0123\n2:cpu,cpuacct:/docker/0123\n0::/",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/cpu.cfs_quota_us": "100000",  # no group of CPUs
            "sys/fs/cgroup/memory/cpu.cfs_period_us": "100000",
        },
        3,
    ),
    "version 1, no quota": (
        {
            "proc/self/cgroup": "2:cpu:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        8,
    ),
    "a quota that says nothing": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "0 0"}, 8),
    "more than the affinity": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "9900000 100000"}, 8),
    "no control groups": ({}, 8),
}


@pytest.fixture
def eight_of_64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of 64 cores, eight of which the affinity allows; PyTorch begins with as many threads as cores."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    before = torch.get_num_threads()
    torch.set_num_threads(64)
    yield
    torch.set_num_threads(before)


def written(root: Path, files: dict[str, str]) -> Path:
    """A root of these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize("group", GROUPS)
def test_threads_are_as_many_as_affinity_and_quota_allow(group: str, eight_of_64: None, tmp_path: Path) -> None:
    files, cpus = GROUPS[group]
    root = written(tmp_path, files)
    assert runtime.usable_cpus(root) == cpus
    threads = "1 thread" if cpus == 1 else f"{cpus} threads"
    assert runtime.fit_threads(root).startswith(f"{threads} in place of 64, as")
    assert torch.get_num_threads() == cpus
    assert runtime.fit_threads(root) == ""  # nothing left to do


def test_a_number_of_threads_that_somebody_chose_is_left_alone(
    eight_of_64: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = written(tmp_path, GROUPS["version 2"][0])
    for chosen in (1, 2, 5, 48):
        torch.set_num_threads(chosen)
        assert runtime.fit_threads(root) == ""
        assert torch.get_num_threads() == chosen
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        torch.set_num_threads(64)
        with monkeypatch.context() as patch:
            patch.setenv(variable, "64")
            assert runtime.fit_threads(root) == ""
        assert torch.get_num_threads() == 64
    torch.set_num_threads(32)  # PyTorch's own, where two threads share a core
    assert "2 threads in place of 32," in runtime.fit_threads(root)
    assert torch.get_num_threads() == 2


def test_setup_fits_the_threads_and_says_so(
    eight_of_64: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "usable_cpus", lambda root: 2)
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    runtime.setup("07")
    assert torch.get_num_threads() == 2
    printed = capsys.readouterr().out
    assert printed.startswith("≈ cpu (2 threads), ")
    assert " | 2 threads in place of 64, as many as this process has CPUs | seed 0 | " in printed
    assert printed.count("\n") == 1


def test_data_source_says_which_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    for folder, words in (("_data", "embedded in the installed package"), ("data", "embedded in this checkout")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(runtime, "data_dir", lambda folder=folder: tmp_path / folder)
        assert "missing" in runtime.data_source()
        (tmp_path / folder / "manifest.json").touch()
        assert runtime.data_source() == words
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    assert runtime.data_source() == "from $COURSE_DATA_DIR"


def sanitized(text: str) -> str:
    """What nbval makes of an output before it compares."""
    rules = re.findall("^regex: (.*)$\n^replace: (.*)$", SANITIZE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rules
    for regex, replace in rules:
        text = re.sub(regex, replace, text)
    return text


def test_what_varies_is_left_out_of_comparisons_and_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    def output(*lines: object) -> str:
        print("loss 0.25")
        runtime.varies(*lines)
        print("a ≈ b")
        return capsys.readouterr().out

    assert sanitized(output("12 ms")) == sanitized(output("900 ms\nand", 3, "MB")) == "loss 0.25\n(varies)a ≈ b\n"
    assert output("12 ms\n3 MB") == "loss 0.25\n≈ 12 ms\n≈ 3 MB\na ≈ b\n"


def test_a_missing_distribution_has_no_version() -> None:
    assert runtime.version("torch")
    assert runtime.version("no-such-distribution") is None


PAGES = """
import resource, torch
from course_utils import runtime

def pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(2**24).add_(1)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = pages(10)
runtime.keep_freed_memory()
once = pages(1)
print(given_back, once, pages(100))
"""


@pytest.mark.slow
def test_make_plain_hides_bfloat16_and_nothing_else() -> None:
    code = "import json, torch; print(json.dumps(torch.cpu.get_capabilities()))"
    there = os.environ | {"PYTHONPATH": str(SANITIZE.with_name("without_bf16"))}
    hidden = json.loads(subprocess.run([sys.executable, "-c", code], env=there, stdout=subprocess.PIPE).stdout)
    ours = getattr(torch.cpu, "get_capabilities", dict)()
    assert hidden == {what: has and "bf16" not in what for what, has in ours.items()}
    assert not any(has for what, has in hidden.items() if "bf16" in what)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such switch")
def test_kept_memory_is_taken_from_the_system_once() -> None:
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    given_back, once, kept = map(int, done.stdout.split())
    assert given_back > 5 * once  # huge pages make them fewer, wherever they are in use
    assert kept < 25 * once  # 100 times at worst; a small piece put into a freed block now and then makes the heap grow


def test_a_c_library_without_the_switch_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(runtime.ctypes, "CDLL", None)  # any use of it would raise
    runtime.keep_freed_memory()
