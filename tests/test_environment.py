"""The environment is named once: the same floors everywhere, no upper pins, no machine in any file, imports go down."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import course_utils
from course_utils.desk.floors import floors

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch"}  # where conda-forge's name is another
PINNED = {"nbgrader"}  # our grading builds on the inside of one version

FLOORS = floors()
HEIGHTS = [  # from the bottom: a floor with all its rows, but of the desk each row for itself
    *([name for names, _ in rows for name in names] for floor, rows in reversed(FLOORS.items()) if floor != "desk"),
    *([f"desk.{name}" for name in names] for names, _ in reversed(FLOORS["desk"])),
]
HEIGHT_OF = {module: height for height, modules in enumerate(HEIGHTS) for module in modules}


def requirements(*extras: str) -> list[Requirement]:
    return [
        Requirement(line) for line in (*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra]))
    ]


def committed() -> list[Path]:
    """All files that are, or could be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in filter(None, listed.split("\0")) if (ROOT / name).is_file()]


# ---------------------------------------------------------------- versions


def test_conda_has_the_same_floors() -> None:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = {line for line in listed if isinstance(line, str)}
    wanted = {f"{CONDA_NAMES.get(r.name, r.name)}{r.specifier}" for r in requirements("lab", "dev")}
    assert conda == wanted | {f"python{PROJECT['requires-python']}", "pip"}
    assert {"pip": ["-e ."]} in listed


def test_dependencies_have_floors_and_no_ceilings() -> None:
    for requirement in requirements(*EXTRAS):
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators == (["=="] if requirement.name in PINNED else [">="]), requirement


PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    for pin in PINS:
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert not pin.url
        assert "+" not in specifier.version  # a build of one machine's
    assert not [pin for pin in PINS if pin.name == "torch" and pin.specifier.contains("2.13.0")]


@pytest.mark.parametrize("system", [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")], ids="-".join)
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_constraints_pin_each_requirement_once_on_every_system(python: str, system: tuple[str, str]) -> None:
    platform, machine = system
    there = {"python_version": python, "python_full_version": f"{python}.9", "extra": "", "os_name": "posix"}
    there |= {"sys_platform": platform, "platform_machine": machine, "implementation_name": "cpython"}
    there |= {"platform_system": {"linux": "Linux", "darwin": "Darwin"}[platform]}
    pinned: dict[str, list[Requirement]] = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(there):
            pinned.setdefault(pin.name, []).append(pin)
    for requirement in requirements(*EXTRAS):
        if requirement.marker and not requirement.marker.evaluate(there):
            continue
        (pin,) = pinned[requirement.name]
        (version,) = pin.specifier
        assert requirement.specifier.contains(version.version), f"{pin} against {requirement}"


# ---------------------------------------------------------------- the README


def test_every_lesson_is_in_the_readme_with_a_badge_for_this_repository() -> None:
    pytest.importorskip("nbgrader", reason="lessons are built with the extra [grade]: Python 3.11 and newer")
    from course_utils.desk import lesson
    from course_utils.desk.authoring import build

    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert build.with_badges(page, lesson.repository()) == page
    for source in lesson.lessons():
        assert f"](notebooks/{source.stem}.ipynb)" in page
    fork = build.with_badges(page, "https://github.com/me/my-fork")
    assert fork.count("github/me/my-fork/blob/main/notebooks/") == len(lesson.lessons())


# ---------------------------------------------------------------- what no file may name

HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "download.py" + "torch.org",
    "registry.npm" + "js.org",
    "conda." + "anaconda.org",
]
MACHINE_PATH = re.compile(r"(?<![\w.:/~])/(?:home|root|Users|work|mnt|opt)/[\w.]")
ENCODED = re.compile(r"[A-Za-z0-9+/=]{200,}")  # images in notebooks


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in committed():
        try:
            found.append((path, ENCODED.sub("", path.read_text(encoding="utf-8"))))
        except UnicodeDecodeError:
            continue  # an image, a checkpoint
    return found


def test_no_file_names_a_package_registry() -> None:
    named = [f"{path.relative_to(ROOT)}: {host}" for path, text in texts() for host in HOSTS if host in text]
    assert named == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    here = Path(__file__).resolve()  # which must try such paths out
    named = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in texts()
        for match in MACHINE_PATH.finditer(text)
        if path not in (here, here.with_name("test_authoring.py"))
    ]
    assert named == []


@pytest.mark.parametrize(
    ("text", "found"), [("open('/" + "home/me/x')", True), ("https://a.b/home/x", False), ("~/work/x", False)]
)
def test_a_path_of_somebodys_machine_would_be_seen(text: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is found


# ---------------------------------------------------------------- floors


def module_of(parts: Sequence[str]) -> str | None:
    """The module or package of the picture that a dotted name lies in: "desk.grading" of desk.grading.wire.encode."""
    names = [".".join(parts[:2]), *parts[:1]]
    return next((name for name in names if name in HEIGHT_OF), None)


def imported_modules(path: Path) -> set[str]:
    """What a file imports of the course, at its top or inside its functions, as the picture names it."""
    package = ["course_utils", *path.relative_to(ROOT / "course_utils").parent.parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            names.update(f"{module}.{alias.name}" for alias in node.names)
    parts = [name.split(".") for name in names]
    return {found for part in parts if part[0] == "course_utils" and (found := module_of(part[1:]))}


SOURCES = [path for path in sorted((ROOT / "course_utils").rglob("*.py")) if path.name != "__init__.py"]
SOURCES += [path for path in sorted((ROOT / "course_utils").glob("*/__init__.py")) if path.parent.name != "desk"]


def own_module(path: Path) -> str | None:
    return module_of(path.relative_to(ROOT / "course_utils").with_suffix("").parts)


def test_every_module_has_a_floor() -> None:
    assert [path for path in SOURCES if own_module(path) is None] == []
    assert {own_module(path) for path in SOURCES} == HEIGHT_OF.keys()


def test_contributing_draws_the_same_floors() -> None:
    picture = course_utils.__doc__[course_utils.__doc__.index("\n  desk") :]
    assert picture in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    module = own_module(path)
    for imported in imported_modules(path):
        assert HEIGHT_OF[imported] <= HEIGHT_OF[module], f"{module} must not import {imported}, which is above it"


def test_imports_are_seen_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "course_utils" / "samplers" / "ddim.py"
    path.parent.mkdir(parents=True)
    forms = [
        "from course_utils.desk.cli import app",
        "import course_utils.desk.cli",
        "from course_utils.desk import cli",
        "from ..desk.cli import app",
    ]
    for form, indent in product(forms, ["", "def f():\n    "]):
        path.write_text(indent + form, encoding="utf-8")
        assert imported_modules(path) == {"desk.cli"}


# ---------------------------------------------------------------- no name is undefined


def undefined_names(*places: Path) -> list[str]:
    """What ruff's F821 finds, but for the dimensions of jaxtyping's annotations, for whose sake lint leaves it out."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=F821", "--exit-zero"]
    done = subprocess.run([*command, "--output-format=json", *places], capture_output=True, text=True, check=True)
    return [
        f"{Path(found['filename']).name}:{found['location']['row']}: {found['message']}"
        for found in json.loads(done.stdout)
        if not is_dimension(Path(found["filename"]), **found["location"])
    ]


def is_dimension(path: Path, row: int, column: int) -> bool:
    """Whether a place lies in the string of an annotation such as `Float[Tensor, "b *shape"]`."""
    line = path.read_text(encoding="utf-8").splitlines()[row - 1]
    return any(shape.start() < column <= shape.end() for shape in re.finditer(r'(?<=\[Tensor, )"[^"]*"', line))


def test_no_name_is_undefined() -> None:
    found = undefined_names(ROOT / "course_utils", ROOT / "tests", ROOT / "notebooks" / "src")
    setup = re.compile(r"^\d\d_\w+\.py:\d+: Undefined name `lesson`$")  # the setup cell makes it
    assert [one for one in found if not setup.match(one)] == []


def test_an_undefined_name_would_be_seen(tmp_path: Path) -> None:
    head = "from jaxtyping import Float\nfrom torch import Tensor\n\n\n"
    (tmp_path / "a.py").write_text(
        head + 'def f(x: Float[Tensor, "b *shape"], n: "int") -> Float[Tensor, "n"]:\n    x\n'
    )
    (tmp_path / "b.py").write_text(head + 'def f(x: Float[Tensor, "b"], y: "Nothing") -> str:\n    return f"{shape}"\n')
    assert undefined_names(tmp_path) == ["b.py:5: Undefined name `Nothing`", "b.py:6: Undefined name `shape`"]


@pytest.mark.slow
def test_the_runtime_of_a_lesson_draws_nothing() -> None:
    heavy = "import sys, course_utils.runtime; print({'matplotlib', 'torchvision', 'ipywidgets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
