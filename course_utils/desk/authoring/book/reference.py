"""Pages of the code: the docstrings of course_utils, floor by floor."""

import subprocess
import sys

from course_utils.desk.floors import floors
from course_utils.desk.lesson import ROOT


def code_pages() -> dict[str, str]:
    """One page for each module, or package of modules, and one for each floor, as the package draws them."""
    pages: dict[str, str] = {}
    for floor, rows in floors().items():
        lines = [f"# {floor}", ""]
        for names, knows in rows:
            names = [name for name in names if not name.startswith("_")]
            lines += [f"* {' · '.join(f'[{name}]({name}.md)' for name in names)}: {knows}"]
            pages |= {name: module_page(f"desk.{name}" if floor == "desk" else name) for name in names}
        names = [name for names, _ in rows for name in names if not name.startswith("_")]
        pages[f"floor_{floor}"] = "\n".join([*lines, "", "```{toctree}", ":hidden:", *names, "```", ""])
    return pages


def module_page(name: str) -> str:
    """The page of a module, or of a package with all its modules. The command line describes itself."""
    if name == "desk.cli":
        command = [sys.executable, "-m", "typer", "course_utils.desk.cli", "utils", "docs", "--name", "course"]
        return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    folder = ROOT.joinpath("course_utils", *name.split("."))
    if not folder.is_dir():
        return f"# {name}\n\n{_automodule(name, members=True)}"
    files = [path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob("[a-z]*.py"))]
    parts = [".".join(path.parts) for path in files if not path.stem.startswith("lesson_")]
    sections = [f"## {name}.{part}\n\n{_automodule(f'{name}.{part}', members=True)}" for part in parts]
    return "\n".join([f"# {name}\n\n{_automodule(name, members=False)}", *sections])


def _automodule(name: str, members: bool) -> str:
    options = "   :members:\n   :member-order: bysource\n   :ignore-module-all:\n" if members else ""
    return f"```{{eval-rst}}\n.. automodule:: course_utils.{name}\n{options}```\n"
