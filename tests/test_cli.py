"""The `course` command answers at once, tells what is wrong and the way out, and opens a lab without dialogs."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from course_utils.desk import cli

ROOT = Path(__file__).parents[1]


def course(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    return result.exit_code, result.output


# ---------------------------------------------------------------- course --help


def test_help_is_readable_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom course_utils.desk.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'matplotlib', 'jupytext', 'nbgrader'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    for command in ("doctor", "lab", "lessons"):
        assert command in done.stdout
    for panel in (cli.LEARN, cli.TEACH, cli.MAKE):
        assert panel in done.stdout
    assert done.stdout.endswith("set()\n")


@pytest.mark.slow(3)
def test_the_lab_starts_with_what_make_lab_installs_and_without_waiting_for_pytorch(tmp_path: Path) -> None:
    """That is the extra [lab]: jupytext and nbgrader are for those who make the course, or teach it."""
    for name in ("course_utils", "notebooks", "data", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    code = (
        "import subprocess, sys\n"
        "sys.modules |= dict.fromkeys(('jupytext', 'nbgrader', 'sphinx', 'hypothesis', 'beartype'))\n"
        "def started(*arguments, **options):\n"
        "    sys.exit('started: ' + str({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))\n"
        "subprocess.run = started\n"
        "from course_utils.desk.cli import app\n"
        "app(['lab'])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stderr.strip() == "started: set()"
    assert (tmp_path / "work" / "00_start_here.ipynb").exists()


def test_help_names_what_there_is_to_choose_and_an_example() -> None:
    from course_utils import pretrained, recipes
    from course_utils.desk.upkeep import bench

    def names(text: str) -> set[str]:
        return set(re.findall(r"[\w-]+", text)) - {"if", "named"}

    assert names(cli.RECIPES) == set(recipes.RECIPES)
    assert names(cli.SHIPPED) == set(pretrained.read_manifest())
    assert names(cli.PARTS) == set(bench.PARTS)
    for command in cli.app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        assert command.epilog.startswith(f"Example: course {name}")


# ---------------------------------------------------------------- course doctor


def test_doctor_says_one_line_for_each_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    _, output = course("doctor")
    lines = output.splitlines()
    assert [line[2:].split(":")[0] for line in lines] == [name for name, *_ in cli.CHECKS]
    assert all(line[0] in "✔✘" for line in lines)
    assert "✔ device: " in output
    assert "✔ precision: " in output


def test_doctor_names_the_way_out_and_fails_when_something_essential_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DEVICE", "abacus")
    code, output = course("doctor")
    assert code == 1
    assert re.search(r"✘ device: COURSE_DEVICE=abacus: no such device here.* → unset COURSE_DEVICE", output)


def broken() -> str:
    raise RuntimeError("gone\nand more")


def test_doctor_forgives_what_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = ("this", lambda: "fine", True, "")
    monkeypatch.setattr(cli, "CHECKS", [fine, ("that", broken, False, "mend it")])
    assert course("doctor") == (0, "✔ this: fine\n✘ that: gone → mend it (optional)\n")
    monkeypatch.setattr(cli, "CHECKS", [("that", broken, True, "mend it"), fine])
    assert course("doctor") == (1, "✘ that: gone → mend it\n✔ this: fine\n")


def test_doctor_finds_packages_below_their_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    wanted = ["numpy>=1.26", "torch>=999", "no-such-thing>=1", 'left-out>=1; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(cli, "CHECKS", [("packages", cli._packages, True, "mend it")])
    code, output = course("doctor")
    assert code == 1
    assert re.fullmatch(r"✘ packages: torch [\d.+a-z]+ is not >=999, no-such-thing is missing → mend it\n", output)
    wanted[1:3] = ["torch>=2"]
    code, output = course("doctor")
    assert code == 0
    assert re.fullmatch(r"✔ packages: numpy [\d.]+, torch [\d.+a-z]+\n", output)


# ---------------------------------------------------------------- course lab


def test_lab_without_notebooks_says_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "NOTEBOOKS", tmp_path / "none")
    code, output = course("lab")
    assert code != 0
    assert "clone the repository" in output


def test_lab_opens_a_browser_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_has_browser", lambda: True)
    assert "--no-browser" not in cli._lab_command("notebooks", 8888, browser=True)
    assert "--no-browser" in cli._lab_command("notebooks", 8888, browser=False)
    monkeypatch.setattr(cli, "_has_browser", lambda: False)
    assert "--no-browser" in cli._lab_command("notebooks", 8888, browser=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux runs without a display")
def test_a_text_browser_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("webbrowser.get", lambda: "lynx")
    assert not cli._has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert cli._has_browser()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(tmp_path: Path):
    """`course lab` running in a checkout of its own with an empty home; yields its address, the home and the log."""
    pytest.importorskip("jupyterlab")
    home, checkout = tmp_path / "home", tmp_path / "checkout"
    home.mkdir()
    checkout.mkdir()
    for name in ("course_utils", "data", "notebooks", "pyproject.toml"):
        (checkout / name).symlink_to(ROOT / name)
    cleared = ("JUPYTER", "XDG_", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(cleared)}
    environment |= {"HOME": str(home), "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "course_utils.desk.cli", "lab", "--port", str(free_port())]
    log = tmp_path / "log"
    with open(log, "wb") as output:
        running = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True
        )
    try:
        for _ in range(6000):
            if found := re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/\S*token=\w+", log.read_text()):
                break
            assert running.poll() is None, log.read_text()
            time.sleep(0.1)
        yield found[0], home, log
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(600)


@pytest.mark.slow
def test_lab_greets_with_a_lesson_and_no_dialog(server: tuple[str, Path, Path]) -> None:
    address, home, log = server
    base, token = re.fullmatch(r"(http://[^/]+)/.*token=(\w+)", address).groups()

    def get(path: str) -> str:
        with urllib.request.urlopen(f"{base}{path}{'&' if '?' in path else '?'}token={token}", timeout=600) as answer:
            return answer.read().decode()

    notification = json.loads(get("/lab/api/settings/@jupyterlab/apputils-extension:notification"))
    defaults = {name: entry["default"] for name, entry in notification["schema"]["properties"].items()}
    assert defaults["fetchNews"] == "false"  # "none" would ask
    assert defaults["checkForUpdates"] is False
    assert notification["raw"] == "{}"  # the learner's own settings are theirs
    kernels = json.loads(get("/api/kernelspecs"))
    assert kernels["default"] == "python3"
    page = "/lab/tree/work/00_start_here.ipynb"
    assert page in address
    assert "JupyterLab" in get(page)
    pages = [path.name for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert sorted(entry["name"] for entry in json.loads(get("/api/contents/work"))["content"]) == sorted(pages)
    assert not list(home.rglob("*settings*"))
    assert "rror" not in log.read_text()


# ---------------------------------------------------------------- course lessons


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one lesson that has not been built."""
    pytest.importorskip("nbgrader")
    source = tmp_path / "notebooks" / "src" / "00_small.py"
    source.parent.mkdir(parents=True)
    source.write_text("# %% [markdown]\n# # 00 · Small\n\n# %%\n1 + 1\n", encoding="utf-8")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setattr("course_utils.desk.lesson.ROOT", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_lessons_builds_what_changed_and_says_how_long_it_took(checkout: Path) -> None:
    code, output = course("lessons")
    assert code == 0, output
    assert re.search(r"(?m)^00_small +executed +\d+\.\d s$", output)
    assert (checkout / "notebooks" / "00_small.ipynb").exists()
    assert (checkout / "notebooks" / "solutions" / "00_small.ipynb").exists()
    code, output = course("lessons", "small")
    assert re.search(r"(?m)^00_small +in step", output)


def test_lessons_check_changes_nothing_and_fails_when_out_of_step(checkout: Path) -> None:
    code, output = course("lessons", "--check")
    assert code == 1
    assert "notebooks/00_small.ipynb is missing" in output
    assert "no cell is tagged 'widget'" in output
    assert not (checkout / "notebooks" / "00_small.ipynb").exists()


@pytest.mark.slow
def test_lessons_shows_the_cell_that_fails(checkout: Path) -> None:
    (checkout / "notebooks" / "src" / "00_small.py").write_text(
        "# %% [markdown]\n# # 00 · S\n\n# %%\n1 / 0\n", encoding="utf-8"
    )
    code, output = course("lessons")
    assert code == 1
    assert "00_small" in output
    assert "FAILED" in output
    assert "ZeroDivisionError" in output
    assert not (checkout / "notebooks" / "00_small.ipynb").exists()


@pytest.mark.slow
def test_a_fork_names_itself_once(checkout: Path) -> None:
    url = "https://github.com/fork/course"
    code, output = course("lessons", "--repo", url)
    assert code == 0, output
    assert f'\nRepository = "{url}"\n' in (checkout / "pyproject.toml").read_text(encoding="utf-8")
    for folder in ("notebooks", "notebooks/solutions"):
        text = (checkout / folder / "00_small.ipynb").read_text(encoding="utf-8")
        assert "/github/fork/course/blob/main/" in text
        assert url in text
    assert set(re.findall(r"/github/(\S+)/blob/", (checkout / "README.md").read_text(encoding="utf-8"))) == {
        "fork/course"
    }


def test_an_unknown_lesson_is_an_error_that_lists_the_known(checkout: Path) -> None:
    code, output = course("lessons", "07")
    assert code == 1
    assert "no lesson '07'; there are: 00_small" in output


def test_no_lessons_is_no_error(checkout: Path) -> None:
    (checkout / "notebooks" / "src" / "00_small.py").unlink()
    assert course("lessons") == (0, "no lessons yet in notebooks/src\n")


# ---------------------------------------------------------------- course leaderboard


def test_the_leaderboard_says_which_network_and_which_calls_it_wants() -> None:
    code, said = course("leaderboard", "nobody")
    assert code == 1
    assert "no such network is shipped" in said
    for calls, wanted in (("5,a", "wanted whole numbers, such as 5,10"), ("0", "wanted 1 or more, got 0")):
        code, said = course("leaderboard", "--calls", calls)
        assert code == 1
        assert wanted in said
    code, said = course("leaderboard", "--sampler", "unipc")
    assert code == 1
    assert "samplers: wanted one of ddpm, ddim, " in said


def test_a_column_that_was_measured_is_shown_and_not_measured_again() -> None:
    before = (ROOT / "data" / "leaderboard" / "mnist-unet.csv").read_bytes()
    code, said = course("leaderboard", "--calls", "5")
    assert code == 0
    assert "ddpm, uniform" in said
    assert (ROOT / "data" / "leaderboard" / "mnist-unet.csv").read_bytes() == before


@pytest.mark.parametrize("command", [pytest.param("doctor", marks=pytest.mark.slow(3)), "--help"])
def test_a_terminal_of_few_letters_shows_what_it_can(command: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    program = [sys.executable, "-m", "course_utils.desk.cli", command]
    done = subprocess.run(program, env=environment, capture_output=True, cwd=ROOT)
    assert b"UnicodeEncodeError" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.slow(3)
def test_a_setup_line_can_be_printed_anywhere() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    program = [sys.executable, "-c", "from course_utils.runtime import varies; varies('1 ms')"]
    assert subprocess.run(program, env=environment, capture_output=True, cwd=ROOT).stdout.strip() == b"? 1 ms"
