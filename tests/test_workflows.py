"""What runs on GitHub is what runs here: every command of a workflow is a target of the Makefile."""

import re
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
