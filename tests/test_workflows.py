"""What runs on GitHub is what runs here: every command of a workflow is a target of the Makefile."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = re.findall(
    r"^([a-z][a-z-]*):.*##|^([a-z]+): \$\(VENV\)", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_targets_that_exist(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    made = set()
    for job in jobs:
        matrix = job.get("strategy", {}).get("matrix", {})
        for run in filter(None, (step.get("run") for step in job["steps"])):
            for goals in re.findall(r"^make (.*)$", run, flags=re.MULTILINE):
                goals = [goals.replace("${{ matrix.target }}", name) for name in matrix.get("target", [""])]
                made.update(goal for line in goals for goal in line.split() if "=" not in goal)
    assert made
    assert made <= {name for names in TARGETS for name in names}


MAKEFILE = """
environment one three:
	@echo made $@ $(X)
two broken:
	@exit 7
"""


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
@pytest.mark.parametrize(
    ("parts", "made", "last"),
    [
        ("environment one three", "environment one three", "three   0 min  0 s"),
        ("environment two three", "environment three", "red: two"),
        ("environment two broken", "environment", "red: two broken"),
    ],
)
def test_a_red_part_does_not_keep_the_later_ones_from_being_made(
    parts: str, made: str, last: str, tmp_path: Path
) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    command = [ROOT / "tests" / "parts", *parts.split(), "X=for"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert re.findall(r"made (\w+) for", done.stdout) == made.split()
    assert re.findall(r"(?m)^ *(\w+) +\d+ min", done.stdout) == parts.split()
    assert re.sub(r"\d s$", "0 s", done.stdout.strip()).endswith(last)
    assert (done.returncode == 0) == ("red" not in last)
