"""The machine a lesson runs on: its device, its precision, its seed; and a voice for what differs between machines."""

import ctypes
import importlib.metadata
import math
import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from course_utils._validate import as_device, require_count
from course_utils.files import data_dir

VARIES = "≈ "  # lines that begin so are left out when stored outputs are compared (tests/nbval_sanitize.cfg)


class Lesson(NamedTuple):
    """What a lesson's setup cell hands to the lesson."""

    id: str
    device: torch.device
    dtype: torch.dtype  # for autocast; float32 means: no autocast
    seed: int
    generator: torch.Generator  # lives on the CPU, so that every machine draws the same numbers


def setup(lesson: str, seed: int | np.integer = 0) -> Lesson:
    """Prepare a lesson: pick device, precision and threads, seed, and say so in one line. Called by every setup cell.

    The one place in the course that seeds PyTorch's global stream; every function that draws takes a generator instead.
    """
    seed = require_count("seed", seed, least=0)
    device = pick_device()
    dtype = pick_precision(device)
    fewer = fit_threads()
    torch.manual_seed(seed)
    versions = ", ".join(f"{name} {version(name) or 'missing'}" for name in ("torch", "torchvision"))
    varies(
        f"{device_name(device)}, {str(dtype).removeprefix('torch.')} | {fewer}seed {seed} | "
        f"Python {platform.python_version()}, {versions} | data: {data_source()}"
    )
    return Lesson(lesson, device, dtype, seed, torch.Generator().manual_seed(seed))


def pick_device() -> torch.device:
    """The device to run on: what the variable COURSE_DEVICE names, else CUDA where there is one, else the CPU.

    Apple's MPS has to be asked for, since it lacks float64. Raises ValueError if COURSE_DEVICE names a device that is
    not there.
    """
    wanted = os.environ.get("COURSE_DEVICE", "").strip()
    if not wanted:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    found += ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    if wanted not in found:
        raise ValueError(f"COURSE_DEVICE={wanted}: no such device here. Unset it, or use one of: {', '.join(found)}")
    return torch.device(wanted)


def pick_precision(device: torch.device) -> torch.dtype:
    """The fastest number type that is safe for autocast on this device: bfloat16, float16 or float32.

    bfloat16 on GPUs since Ampere and on CPUs with AVX512-BF16 or AMX; float16 on Volta and Turing (a T4), where
    bfloat16 is only emulated; float32 everywhere else.
    """
    device = as_device(device)
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if major >= 8 else torch.float16 if major == 7 else torch.float32
    if device.type == "cpu":
        features: dict = getattr(torch.cpu, "get_capabilities", dict)()  # newer than our floor of PyTorch
        if features.get("avx512_bf16") or features.get("amx_bf16"):
            return torch.bfloat16
    return torch.float32


def fit_threads(root: Path = Path("/")) -> str:
    """Give PyTorch no more threads than this process has CPUs; words for it, or "" where nothing had to change.

    PyTorch starts a thread for each core of the host. In a container that may use two of 64, those 64 wait for each
    other. A number that somebody chose is left alone: by OMP_NUM_THREADS or MKL_NUM_THREADS, or by
    `torch.set_num_threads` (which we see by its being neither the number of cores nor half of it, PyTorch's defaults).
    """
    now, ours = torch.get_num_threads(), usable_cpus(root)
    cores = {os.cpu_count() or 1, _affinity()}
    chosen = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    if chosen or now <= ours or now not in cores | {n // 2 for n in cores}:
        return ""
    torch.set_num_threads(ours)
    return f"{_threads(ours)} in place of {now}, as many as this process has CPUs | "


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use: by its affinity, and by the quota of its container, rounded up.

    Quotas are those of Linux' control groups, version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us`), of the process's group
    and of every group around it; `root` is where `proc` and `sys` are.
    """
    shares = [float(_affinity())]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, kinds, group = line.split(":", 2)
        mount = root / "sys/fs/cgroup" / kinds  # version 2 has one tree, and no kinds
        if kinds == "" or "cpu" in kinds.split(","):
            inner = mount / group.lstrip("/")  # often as the host sees it, and not there for us
            shares += [_quota(folder) for folder in (inner, *inner.parents) if folder.is_relative_to(mount)]
    return max(1, math.ceil(min(shares)))


def _quota(group: Path) -> float:
    """CPUs that a control group may use; infinity if it says nothing."""
    two, one = _read(group / "cpu.max"), (_read(group / f"cpu.cfs_{word}_us") for word in ("quota", "period"))
    quota, _, period = (two or " ".join(one)).partition(" ")  # or "max", or -1
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(quota) and int(period) else math.inf


def _affinity() -> int:
    """CPUs that the operating system may put this process on; all of them where it does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(path: Path) -> str:
    """A small file of the system, "" where it is not."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones, instead of giving it back to the system.

    A training step takes and frees the same large blocks again and again, and each time the system hands them out anew
    it must clear them, page by page. For a batch of 64 digits and the U-Net these are ten thousand pages.
    For the GNU C library, so on most of Linux; elsewhere nothing happens. No computed number changes.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_max, 0)


def device_name(device: torch.device) -> str:
    """The device in words, such as `cpu (8 threads)` or `cuda (Tesla T4)`."""
    device = as_device(device)
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({_threads(torch.get_num_threads())})" if device.type == "cpu" else str(device)


def _threads(n: int) -> str:
    return f"{n} thread" if n == 1 else f"{n} threads"


def moved(x: Tensor, device: torch.device) -> Tensor:
    """x on the device; to a GPU without waiting until all that it still has to do is done."""
    return x.to(device, non_blocking=x.device.type == "cpu")  # the other way round Python must wait for the numbers


def data_source() -> str:
    """Where the images come from, in words: this checkout, the installed package, or the folder $COURSE_DATA_DIR."""
    folder = data_dir()
    if not (folder / "manifest.json").is_file():
        return "missing (`course doctor` says more)"
    if os.environ.get("COURSE_DATA_DIR"):
        return "from $COURSE_DATA_DIR"
    return "embedded in the installed package" if folder.name == "_data" else "embedded in this checkout"


def version(distribution: str) -> str | None:
    """The installed version of a distribution, or None. Reads metadata alone, so nothing heavy is imported."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def varies(*values: object) -> None:
    """Print what differs from machine to machine (timings, memory), each line marked so that no comparison minds it."""
    text = " ".join(map(str, values))
    text = "\n".join(VARIES + line for line in text.splitlines() or [""])
    print(printable(text))


def printable(text: str) -> str:
    """The text as this terminal can show it: not every encoding, such as Windows' cp1252, has a tick or a ≈."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(str.maketrans("✔✘○", "+x-")).encode(encoding, "replace").decode(encoding)
    return text
