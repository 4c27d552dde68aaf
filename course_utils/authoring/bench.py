"""The course's own measurements, as `course bench` prints them: ratios in one run, on whatever machine this is.

Nothing here is asserted; run it on an idle machine. Each figure is a median over fresh processes.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from course_utils.authoring.build import ROOT, execute, lessons, solved_notebook
from course_utils.authoring.build import repository as repository_url

CHAIN = """
import time, torch
from course_utils import forward, schedules
from course_utils.data import load_images, normalize
g = torch.Generator().manual_seed(0)
x_0, schedule = normalize(load_images("cifar10", "train")[0][:128]), schedules.linear()

def jump():
    t = torch.randint(1, 1001, (128,), generator=g)
    return [forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, g))]

def keep_all_copies():
    return [x_t for _, x_t in forward.q_chain(x_0, schedule, g)]

jump()  # warm-up
for work, times in ((jump, 100), (keep_all_copies, 1)):
    start = time.perf_counter()
    for _ in range(times):
        kept = work()
    print((time.perf_counter() - start) / times, sum(x.nbytes for x in kept))
"""
IMPORT = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
from course_utils import schedules, forward, parameterizations, variational, toy
print(middle - start, time.perf_counter() - middle)
"""


def _medians(code: str, times: int) -> list[float]:
    """The medians of the numbers that `code` prints, over fresh Python processes."""
    rows = []
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        rows.append([float(x) for x in done.stdout.split()])
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def forward_process() -> str:
    """128 CIFAR-10 images at random t: the closed form against keeping the whole chain of T = 1000."""
    jump_s, jump_bytes, copies_s, copies_bytes = _medians(CHAIN, times=3)
    return (
        f"128 CIFAR-10 images at random t: closed form {jump_s * 1e3:.1f} ms and {jump_bytes / 2**20:.1f} MiB, "
        f"all copies of the chain {copies_s:.1f} s and {copies_bytes / 2**20:.0f} MiB: "
        f"{copies_s / jump_s:.0f} times the time, {copies_bytes / jump_bytes:.0f} times the memory"
    )


def imports() -> str:
    """What importing the maths floor costs on top of importing torch."""
    torch_s, ours_s = _medians(IMPORT, times=5)
    return f"import torch {torch_s:.2f} s, the maths floor on top {ours_s * 1e3:.0f} ms: {ours_s / torch_s:+.1%}"


def repository_size() -> str:
    """The size of what git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / f for f in listed.stdout.split("\0") if f and (ROOT / f).is_file()]
    return f"repository: {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB in {len(files)} files (limit 48)"


def lesson_seconds() -> Iterator[str]:
    """Seconds each lesson takes from top to bottom, in a fresh kernel: the first time, and once more."""
    for source in lessons():
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            execute(solved_notebook(source, repository_url()), cwd=source.parents[1])
            seconds.append(time.perf_counter() - start)
        yield f"{source.stem}: {seconds[0]:.0f} s, again {seconds[1]:.0f} s"


def bench() -> None:
    """Print every measurement."""
    print(repository_size())
    print(imports())
    print(forward_process())
    for row in lesson_seconds():
        print(row, flush=True)
