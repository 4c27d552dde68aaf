"""Do the lessons' assertions hold on other machines, and with other luck? `course bench robust [LESSONS]`

Each solved lesson runs from top to bottom once for every seed of its setup cell, number of threads and precision. A
cell that fails does not stop it. What each cell with an assertion said goes to .cache/robust, one file a run, so that
the command goes on where it was stopped, and a changed lesson is tried anew. Hours; for the weekly run.
"""

import ast
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from course_utils.desk.authoring.build import solved_notebook
from course_utils.desk.lesson import ROOT, lessons, repository, tags
from course_utils.files import write_atomically
from course_utils.runtime import pick_precision

FOLDER = ROOT / ".cache" / "robust"
SEEDS, THREADS, PRECISIONS = range(5), (1, 2), ("float32", "bfloat16")

# Runs before the setup cell: what the lesson then imports picks this precision, whatever the machine has. PyTorch is
# told the number of threads too: where two CPUs are one core, MKL makes one of the two that the environment asks for.
FORCED = """\
import sys
sys.path.insert(0, {root!r})
import torch
from course_utils import runtime
runtime.pick_precision = lambda device: torch.{precision}
torch.set_num_threads({threads})"""


class Circumstances(NamedTuple):
    """Of one run."""

    seed: int
    threads: int
    precision: str

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.threads} thread{'s' * (self.threads > 1)}, {self.precision}"


def circumstances(
    seeds: Sequence[int] = (), threads: Sequence[int] = (), precisions: Sequence[str] = ()
) -> list[Circumstances]:
    """All that a lesson is tried under, or what is named of it; bfloat16 is left out where it would be emulated."""
    able = pick_precision(torch.device("cpu")) == torch.bfloat16
    given = seeds or SEEDS, threads or THREADS, precisions or PRECISIONS[: 1 + able]
    return list(itertools.starmap(Circumstances, itertools.product(*given)))


def robust(
    names: Sequence[str] = (), folder: Path = FOLDER, runs: Sequence[Circumstances] | None = None
) -> Iterator[str]:
    """A line a run, then each cell that failed somewhere, with what it said there."""
    runs = circumstances() if runs is None else runs
    for source in lessons(list(names) or None):
        said: dict[tuple[int, str], list[str]] = {}
        for k, run in enumerate(runs, start=1):
            cells = tried(source, run, folder)
            failed = [cell for cell in cells if cell["error"]]
            for cell in failed:
                said.setdefault((cell["number"], cell["line"]), []).append(f"{run}: {cell['error']}")
            yield f"{source.stem[:2]}, {k} of {len(runs)}: {run}: {len(cells) - len(failed)} of {len(cells)} cells hold"
        for (number, line), errors in sorted(said.items()):
            yield f"{source.stem[:2]}, cell {number} ({line}) fails in {len(errors)} of {len(runs)} runs:"
            yield from (f"    {error}" for error in errors)


def tried(source: Path, run: Circumstances, folder: Path = FOLDER) -> list[dict]:
    """What the cells with assertions, and those that failed, said in a run: from its file, or by running the lesson."""
    nb = under(solved_notebook(source, repository()), run)
    digest = hashlib.sha256("\n".join(cell.source for cell in nb.cells if cell.cell_type == "code").encode())
    path = folder / f"{source.stem[:2]}-{'-'.join(map(str, run))}-{digest.hexdigest()[:12]}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    execute(nb, source.parents[1], run.threads)
    cells = [
        {"number": number, "line": cell.source.strip().splitlines()[0], "error": error, "printed": printed(cell)}
        for number, cell in enumerate(nb.cells[1:])  # as they are numbered without ours
        if cell.cell_type == "code" and ((error := failure(cell)) or asserts(cell))
    ]
    write_atomically(path, json.dumps(cells, indent=1).encode())
    return cells


def under(nb: NotebookNode, run: Circumstances) -> NotebookNode:
    """The notebook with another seed in its setup cell, after a cell of ours that forces precision and threads."""
    (setup,) = (cell for cell in nb.cells if "setup" in tags(cell))
    setup.source, count = re.subn(r"(?m)^(lesson = setup\(.*)seed=0\)", rf"\g<1>seed={run.seed})", setup.source)
    if count != 1:
        raise RuntimeError(f"the setup cell has no seed to change:\n{setup.source}")
    nb.cells.insert(0, new_code_cell(FORCED.format(root=str(ROOT), precision=run.precision, threads=run.threads)))
    return nb


def execute(nb: NotebookNode, cwd: Path, threads: int) -> None:
    """Run all cells on the CPU, those after a failed one too; a machine may take as long as it likes."""
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        nb,
        km=manager,
        timeout=None,
        allow_errors=True,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(cwd)}},
    )
    client.execute(cleanup_kc=True, env={**os.environ, "OMP_NUM_THREADS": str(threads), "COURSE_DEVICE": "cpu"})


def asserts(cell: NotebookNode) -> bool:
    """Whether a cell has an assertion."""
    try:
        return any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.source)))
    except SyntaxError:  # the setup cell speaks to IPython
        return False


def failure(cell: NotebookNode) -> str:
    """What a cell failed with, and on which line of it; "" if it did not."""
    for output in cell.outputs:
        if output.output_type == "error":
            trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
            (line, *_) = re.findall(r"(?m)^-+> +\d+ +(.*)$", trace) or [""]
            return f"{output.ename}{': ' * bool(output.evalue)}{output.evalue} in {line.strip()!r}"
    return ""


def printed(cell: NotebookNode) -> str:
    """What a cell printed."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
