"""The `course` command: look at the machine, open the lab, build the lessons."""

import contextlib
import enum
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from course_utils.files import DataError, write_atomically

# Everything heavy (torch, jupytext) is imported inside the commands, so that `course --help` answers at once.

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
DISTRIBUTION = "diffusion-from-scratch"

# Settings that JupyterLab starts from, below the learner's own; in a folder of the course, so theirs stay as they are.
LAB_FOLDER = ROOT / ".cache" / "lab"
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosaveInterval": 30},
}

LEARN, TEACH, MAKE = "Learn", "Teach a class", "Make the course"
# Said here, since the modules that know them import PyTorch; tests/test_cli.py compares.
RECIPES = (
    "mnist-unet, mnist-cnn, mnist-dae, mnist-attention, mnist-dit, cifar10-unet; mnist-unet-weak, mnist-onestep; "
    "notes, film; sums, text-masked, text-twin; "
    "mnist-pixels, mnist-seven, mnist-upscaler, mnist-upscaler-clean, mnist-latent, mnist-autoencoder; "
    "mnist-classifier, cifar10-classifier, mnist-noisy-classifier, mnist-eyes; mnist-smoke"
)
SHIPPED = (
    "mnist-unet, mnist-cnn, mnist-dae, mnist-attention, mnist-dit, cifar10-unet; mnist-unet-weak, mnist-onestep; "
    "notes, film; sums, text-masked, text-twin; "
    "mnist-pixels, mnist-seven, mnist-upscaler, mnist-upscaler-clean, mnist-latent, mnist-autoencoder; "
    "mnist-classifier, cifar10-classifier, mnist-noisy-classifier, mnist-eyes"
)
PARTS = (
    "size, imports, forward, attention, training, sampling, lessons; if named: book, steps, onestep, distillations, "
    "guidance, gan, scale, memory, architectures, photographs, grading, faults, race, robust"
)

app = typer.Typer(
    help="Diffusion models from scratch: learn, teach, and make the course.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _main() -> None:
    for stream in (sys.stdout, sys.stderr):  # a terminal without ✔, such as Windows' cp1252, shows ?
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


# ---------------------------------------------------------------- course doctor


@app.command(rich_help_panel=LEARN, epilog="Example: course doctor")
def doctor() -> None:
    """Say what works on this machine and, where something does not, what to do about it."""
    verdicts = [_report(*check) for check in CHECKS]
    if not all(verdicts):
        raise typer.Exit(1)


def _report(name: str, look: Callable[[], str], essential: bool, remedy: str) -> bool:
    """Print one line for one check; False if something essential is off. A check raises to say that it is."""
    try:
        typer.echo(f"✔ {name}: {look()}")
    except Exception as error:  # whatever is wrong with an installation, the doctor goes on to the next line
        reason = str(error).strip().splitlines() or [type(error).__name__]
        typer.echo(f"✘ {name}: {reason[0]} → {remedy}{'' if essential else ' (optional)'}")
        return not essential
    return True


def _python() -> str:
    return platform.python_version()


def _packages() -> str:
    """Check every installed requirement against its floor in pyproject.toml."""
    from importlib import metadata

    from packaging.requirements import Requirement

    off, shown = [], []
    for requirement in map(Requirement, metadata.requires(DISTRIBUTION) or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            off.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            off.append(f"{requirement.name} {found} is not {requirement.specifier}")
        if requirement.name in ("torch", "torchvision", "numpy"):
            shown.append(f"{requirement.name} {found}")
    if off:
        raise RuntimeError(", ".join(off))
    return ", ".join(shown)


def _device() -> str:
    from course_utils import runtime

    return runtime.device_name(runtime.pick_device())


def _precision() -> str:
    from course_utils import runtime

    return str(runtime.pick_precision(runtime.pick_device())).removeprefix("torch.")


def _jupyter() -> str:
    from importlib import metadata

    from jupyter_client.kernelspec import KernelSpecManager

    KernelSpecManager().get_kernel_spec("python3")
    return f"JupyterLab {metadata.version('jupyterlab')}, kernel python3"


def _data() -> str:
    from course_utils import data, runtime

    counts = {name: [len(data.load_images(name, split)[0]) for split in data.SPLITS] for name in data.CLASSES}
    sizes = (f"{name} {train:,} + {test:,}" for name, (train, test) in counts.items())
    return f"{', '.join(sizes)} images, checksums right, {runtime.data_source()}"


def _disk() -> str:
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < 2:
        raise RuntimeError(f"{free:.1f} GB free")
    return f"{free:.0f} GB free"


INSTALL = 'run `make lab` in a checkout, or: pip install -e ".[lab]"'
CHECKS: list[tuple[str, Callable[[], str], bool, str]] = [
    ("Python", _python, True, "install Python 3.10 or newer"),
    ("packages", _packages, True, INSTALL),
    ("device", _device, True, "unset COURSE_DEVICE"),
    ("precision", _precision, True, "set COURSE_DEVICE=cpu"),
    ("Jupyter", _jupyter, False, INSTALL),
    ("data", _data, True, "or clone the repository again"),
    ("disk", _disk, False, "free some space: training and full CIFAR-10 need about 2 GB"),
]


# ---------------------------------------------------------------- course lab


@app.command(rich_help_panel=LEARN, epilog="Example: course lab --port 8890")
def lab(
    port: Annotated[int, typer.Option(help="Port to try first; the next free one is taken.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is one.")] = True,
) -> None:
    """Open the lessons in JupyterLab, at the first one: your copies in `work/`, which nothing overwrites."""
    if not NOTEBOOKS.is_dir():
        _stop("the notebooks are not part of the installed package: clone the repository, and run `make lab` there")
    from course_utils.desk import work

    try:
        told = work.prepare()
    except DataError as error:
        _stop(f"your copies of the lessons: {error}")
    for sentence in told:
        typer.echo(sentence)
    start = work.latest("00")
    page = start.relative_to(ROOT).as_posix() if start else work.FOLDER
    overrides = LAB_FOLDER / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir(parents=True, exist_ok=True)
    overrides.write_text(json.dumps(LAB_SETTINGS), encoding="utf-8")
    typer.echo("Starting JupyterLab; Ctrl-C here stops it.")
    signal.signal(signal.SIGINT, lambda *_: None)  # the server hears Ctrl-C too, and asks whether it is meant
    done = subprocess.run(_lab_command(page, port, browser), env=os.environ | _lab_environment())
    raise typer.Exit(done.returncode)


def _lab_command(page: str, port: int, browser: bool) -> list[str]:
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", f"--ServerApp.port={port}"]
    command += [f"--FileContentsManager.preferred_dir={ROOT / 'work'}"]  # what the file browser shows
    command += [f"--LabApp.default_url=/lab/tree/{page}", "--Application.log_level=WARN"]
    if not (browser and _has_browser()):
        command.append("--no-browser")
    if getattr(os, "geteuid", lambda: 1)() == 0:  # in a container; Jupyter would refuse, though only localhost gets in
        command.append("--allow-root")
    return command


def _lab_environment() -> dict[str, str]:
    """Our settings below the learner's, this environment's kernel first, and a window layout of the course's own."""
    search = [str(LAB_FOLDER), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return {
        "JUPYTER_CONFIG_PATH": os.pathsep.join(search),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTERLAB_WORKSPACES_DIR": str(LAB_FOLDER / "workspaces"),
    }


def _has_browser() -> bool:
    """Whether a browser window can open here: on Linux that takes a display, for text browsers do not do."""
    import webbrowser

    if sys.platform.startswith("linux") and not any(
        os.environ.get(v) for v in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    ):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


# ---------------------------------------------------------------- course lessons


@app.command(rich_help_panel=MAKE, epilog="Example: course lessons 01 07")
def lessons(
    names: Annotated[
        list[str] | None, typer.Argument(help="Lessons, such as 01 or forward_process; all of them if none.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Execute even what has not changed.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: fail if a page breaks a rule or is out of step.")
    ] = False,
    repo: Annotated[
        str | None, typer.Option(help="Address of your fork; kept in pyproject.toml.", metavar="URL")
    ] = None,
    timeout: Annotated[int, typer.Option(help="Seconds that one cell may take.")] = 3600,
) -> None:
    """Build the notebooks from notebooks/src: only those whose source changed."""
    from tqdm import tqdm

    try:
        from course_utils.desk import lesson
        from course_utils.desk.authoring import build
        from course_utils.desk.authoring.lint import lint_lesson
    except ModuleNotFoundError as error:
        _stop(f"{error.name} is missing: run `make lessons`, which brings it, with Python 3.11 or newer")

    if repo:
        _name_repository(repo)
    try:
        sources = lesson.lessons(names, ROOT)
    except lesson.LessonError as error:
        _stop(str(error))
    failed = 0
    with tqdm(sources, unit="lesson", disable=not sys.stderr.isatty()) as bar:
        for path in bar:
            bar.set_description(path.stem)
            start = time.perf_counter()
            try:
                problems = lint_lesson(path) + (build.out_of_step(path) if check else [])
                done = "checked" if check else build.build_lesson(path, force, timeout=timeout)
            except lesson.LessonError as error:
                problems, done = [str(error)], "FAILED"
            seconds = time.perf_counter() - start
            bar.write("\n".join([f"{path.stem:32} {done:10} {seconds:6.1f} s", *(f"    {line}" for line in problems)]))
            failed += done == "FAILED" or (check and bool(problems))
    readme = ROOT / "README.md"
    page = readme.read_text(encoding="utf-8")
    if (fresh := build.with_badges(page, lesson.repository())) != page and not check:
        write_atomically(readme, fresh.encode())
        typer.echo("README.md: badges point at this repository now")
    if not sources:
        typer.echo("no lessons yet in notebooks/src")
    if failed:
        typer.echo(f"{failed} of {len(sources)} lessons need work", err=True)
        raise typer.Exit(1)


# ---------------------------------------------------------------- course bench


class Precision(str, enum.Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"


@app.command(rich_help_panel=MAKE, epilog="Example: course bench sampling")
def bench(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Of {PARTS}.")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="For robust and photographs: this one alone; may be repeated.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="For robust, likewise.")] = None,
    precision: Annotated[list[Precision] | None, typer.Option(help="For robust, likewise.")] = None,
    write: Annotated[bool, typer.Option("--write", help="For lessons: put the seconds into README.")] = False,
    photographs: Annotated[int | None, typer.Option(min=128, help="For photographs: how many are seen.")] = None,
) -> None:
    """Measure what docs/measured.md says, on an idle machine; what takes long only if named.

    `course bench robust 11 13` tries the assertions of lessons with other seeds, threads and precisions.
    `course bench lessons 11 13` takes the time of these lessons alone.
    `course bench photographs muon-4e-3 deeper` tries two ways to train beside the baseline.
    """
    from course_utils.checkpoints import CheckpointError
    from course_utils.desk.lesson import LessonError
    from course_utils.desk.upkeep.bench import LONG, PARTS

    chosen, lessons = parts or [part for part in PARTS if part not in LONG], []
    if chosen[0] in ("robust", "lessons", "photographs"):
        chosen, lessons = chosen[:1], chosen[1:]
    if unknown := [part for part in chosen if part not in PARTS]:
        _stop(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    among = {"seeds": seed or (), "threads": threads or (), "precisions": [one.value for one in precision or ()]}
    if any(among.values()) and chosen not in (["robust"], ["photographs"]):
        _stop("--seed, --threads and --precision are for `course bench robust`")
    if (threads or precision) and chosen != ["robust"]:
        _stop("--threads and --precision are for `course bench robust`")
    if photographs and chosen != ["photographs"]:
        _stop("--photographs is for `course bench photographs`")
    if write and chosen != ["lessons"]:
        _stop("--write is for `course bench lessons`")
    options: dict[str, dict] = {"robust": among, "lessons": {"write": write}}
    options["photographs"] = {"seeds": seed or (), "photographs": photographs}
    try:
        for part in chosen:
            for row in PARTS[part](*lessons, **options.get(part, {})):
                typer.echo(row)
    except (LessonError, CheckpointError, DataError, ValueError) as error:
        _stop(str(error))


def _name_repository(url: str) -> None:
    """Write a new address into pyproject.toml, the one place that names it."""
    path = ROOT / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    new, count = re.subn(r'(?m)^Repository = ".*"$', f'Repository = "{url}"', text)
    if count != 1:
        _stop(f'{path.name} should have one line `Repository = "…"`, it has {count}')
    if new != text:
        path.write_text(new, encoding="utf-8")
        typer.echo(f"pyproject.toml: Repository = {url}")


# ---------------------------------------------------------------- course train


@app.command(rich_help_panel=LEARN, epilog="Example: course train mnist-unet --steps 2000")
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {RECIPES}.")],
    steps: Annotated[int | None, typer.Option(min=1, help="In all; the recipe's own number if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Go on where a run stopped, or begin again.")] = True,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:1; chosen if not given.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Steps from one checkpoint to the next.")] = 200,
    compile: Annotated[bool, typer.Option("--compile", help="Let torch.compile translate the network first.")] = False,
) -> None:
    """Train a network by a named recipe; Ctrl-C saves, and the same command goes on.

    On several GPUs or machines: accelerate launch -m course_utils.desk.cli train RECIPE. The steps are the same.
    """
    import dataclasses

    from tqdm import tqdm

    from course_utils import recipes, run_folder, runtime
    from course_utils.checkpoints import CheckpointError
    from course_utils.training import TrainingError

    runtime.fit_threads()
    plan = _recipe(recipe)
    plan = dataclasses.replace(plan, steps=steps or plan.steps, batch_size=batch_size or plan.batch_size)
    folder = out or Path("runs") / recipe
    if device:
        os.environ["COURSE_DEVICE"] = device
    accelerator = _accelerator()
    stop_requested = []
    try:
        options = {"accelerator": accelerator} if accelerator else {"device": runtime.pick_device()}
        run = run_folder.begin(plan, folder, fresh=not resume, compile=compile, **options)
        weights = sum(parameter.numel() for parameter in run.model.parameters())
        where = f"{runtime.device_name(run.device)}, {str(run.precision).removeprefix('torch.')}"
        if accelerator:
            where = f"{accelerator.num_processes} processes, each on {where}"
        if run.writes:
            typer.echo(
                f"{recipe}: {weights / 1e6:.1f} M weights, {where}, step {run.step} of {plan.steps}, in {folder}"
            )
        data = recipes.load_data(plan)
        # Ctrl-C lets the step that is under way be finished; a second one does not wait. Several processes would not
        # stop at the same step, and wait for each other for ever: there it ends them, and the last checkpoint is kept.
        before = signal.getsignal(signal.SIGINT)
        if not accelerator:
            signal.signal(signal.SIGINT, lambda *_: stop_requested.append(signal.signal(signal.SIGINT, before)))
        quiet = not (run.writes and sys.stderr.isatty())
        bar = tqdm(total=plan.steps, initial=run.step, unit="step", disable=quiet)
        start, first = time.perf_counter(), run.step
        try:
            for record in run_folder.train_recipe(run, plan, data, folder, every=every):
                speed = (record.step - first) * plan.batch_size / (time.perf_counter() - start)
                bar.set_postfix_str(f"{record.summary}, {speed:.0f} rows/s", refresh=False)
                bar.update()
                if stop_requested:
                    run.save(folder / run_folder.CHECKPOINT)
                    break
        finally:
            bar.close()
            signal.signal(signal.SIGINT, before)
    except (TrainingError, CheckpointError, DataError, ValueError, OSError) as error:
        _stop(str(error))
    if stop_requested:
        typer.echo(f"stopped and saved at step {run.step}; the same command goes on from there", err=True)
        raise typer.Exit(130)
    if run.step == first:
        typer.echo(f"{run.step} steps are done already: ask for more with --steps, or begin again with --fresh")
    elif run.writes:
        typer.echo(f"done: {record.summary}, {folder / run_folder.CHECKPOINT}")


def _recipe(name: str) -> Any:
    from course_utils import recipes

    if name not in recipes.RECIPES:
        _stop(f"{name}: no such recipe. There are {', '.join(recipes.RECIPES)}")
    return recipes.RECIPES[name]


def _accelerator() -> Any:
    """An Accelerator if `accelerate launch` or torchrun started this process as one of several, else None."""
    processes = os.environ.get("WORLD_SIZE", "").strip() or "1"
    if not processes.isdecimal() or int(processes) < 1:
        _stop(f"WORLD_SIZE={processes}: wanted the number of processes, as accelerate launch sets it; unset it for one")
    if int(processes) == 1:
        return None
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError:
        _stop("several processes need Hugging Face Accelerate: pip install -e '.[multi]'")
    return Accelerator(cpu=os.environ.get("COURSE_DEVICE") == "cpu")


# ---------------------------------------------------------------- course ship, course evaluate


@app.command(rich_help_panel=MAKE, epilog="Example: course ship mnist-unet")
def ship(
    recipe: Annotated[str, typer.Argument(help=f"One of {RECIPES}.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE if not given.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the average, of a run that kept several.")] = None,
) -> None:
    """Put a trained network into data/checkpoints, for the lessons to load: averaged weights, float16."""
    from course_utils import pretrained, run_folder
    from course_utils.checkpoints import CheckpointError

    plan, folder = _recipe(recipe), run or Path("runs") / recipe
    try:
        if not (folder / run_folder.CHECKPOINT).exists():
            _stop(f"{folder}: no run is there. Train it first: course train {recipe} --out {folder}")
        path = pretrained.ship(run_folder.begin(plan, folder), plan, decay=ema)
    except (CheckpointError, DataError, ValueError) as error:
        _stop(str(error))
    typer.echo(f"{path}: {path.stat().st_size:,} bytes. Measure it: course evaluate {recipe} --record")


@app.command(rich_help_panel=LEARN, epilog="Example: course evaluate mnist-unet --n 1000 --steps 20")
def evaluate(
    name: Annotated[str, typer.Argument(help=f"One of {SHIPPED}.")],
    n: Annotated[int | None, typer.Option(min=2, help="Samples to draw; 10,000 if not given.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps a sample; 50 if not given.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="ddim or ddpm; consistency or flow_map for networks that jump.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Weight of classifier-free guidance; 1, none, if not given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise; 0 if not given.")] = None,
    run: Annotated[Path | None, typer.Option(help="Measure the run of this folder instead, as far as it is.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of that run's average, where it kept several.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Note the result of a shipped network in data/checkpoints.")
    ] = False,
) -> None:
    """Measure a network as its task says: FID, its floor and class agreement, or a classifier's accuracy."""
    import inspect

    from tqdm import tqdm

    from course_utils import pretrained, recipes, run_folder, runtime, tasks
    from course_utils.checkpoints import CheckpointError

    if run and record:
        _stop(f"--record notes what is shipped, and a run is not: course ship {name} --run {run}, then without --run")
    runtime.fit_threads()
    device = runtime.pick_device()
    if run and not (run / run_folder.CHECKPOINT).exists():
        _stop(f"{run}: no run is there. Train it first: course train {name} --out {run}")
    options = {"n": n, "steps": steps, "sampler": sampler, "guidance": guidance, "seed": seed}
    options = {option: value for option, value in options.items() if value is not None}
    try:
        manifest = pretrained.read_manifest()
        plan = _recipe(name) if run or name not in manifest else pretrained.recipe_of(name)
        task, kind = recipes.make_task(plan), plan.task["kind"]
        if not isinstance(task, tasks.Measured):
            _stop(f"{name}: how well the task {kind} is done is not measured here")
        takes = inspect.signature(task.measure).parameters
        if odd := [f"--{option}" for option in options if option not in takes]:
            _stop(f"{', '.join(odd)}: the task {kind} is measured without")
        model = run_folder.begin(plan, run).averaged(ema) if run else pretrained.load_network(name)
        total = options.get("n") or (takes["n"].default if "n" in takes else None)
        with tqdm(total=total, unit="image", disable=not sys.stderr.isatty()) as bar:
            machine = {"precision": runtime.pick_precision(device), "progress": bar.update}
            options |= {key: value for key, value in machine.items() if key in takes}
            result = str(task.measure(model.to(device), plan.dataset, **options))
    except (CheckpointError, DataError, ValueError) as error:
        _stop(str(error))
    typer.echo(f"{name}: {result}")
    if record:
        manifest[name]["measured"] = result
        pretrained.write_manifest(manifest)


@app.command(rich_help_panel=LEARN, epilog="Example: course leaderboard mnist-unet --calls 10")
def leaderboard(
    name: Annotated[str, typer.Argument(help="mnist-unet, cifar10-unet or another shipped denoiser.")] = "mnist-unet",
    n: Annotated[int, typer.Option(min=2, help="Samples a row; rows of another n stand apart.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the noise that every sampler starts from.")] = 0,
    calls: Annotated[
        str, typer.Option(help="Network calls a sample; from 1000 on for DDPM alone.")
    ] = "5,10,20,50,100,1000",
    sampler: Annotated[list[str] | None, typer.Option(help="Only this one, such as unipc_3; may be repeated.")] = None,
) -> None:
    """Measure every sampler on one network, row by row; stop it whenever you like, the same command goes on."""
    from tqdm import tqdm

    from course_utils import leaderboard as board
    from course_utils import pretrained, runtime

    runtime.fit_threads()

    if name not in pretrained.read_manifest():
        _stop(f"{name}: no such network is shipped. There are {', '.join(pretrained.read_manifest())}")
    try:
        budgets = [int(budget) for budget in calls.split(",")]
    except ValueError:
        _stop(f"{calls}: wanted whole numbers, such as 5,10")
    try:
        what: dict[str, Any] = {"n": n, "seed": seed, "budgets": budgets, "samplers": sampler or ()}
        total = n * sum(plan.nfe for plan in board.missing(name, **what))
        with tqdm(total=total, unit=" calls", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
            for row in board.run(name, **what, progress=bar.update):
                bar.set_postfix_str(f"{row.sampler}, {row.nfe} calls: FID {row.fid:.3f}", refresh=False)
        typer.echo(board.table(board.stored(name, n=n, seed=seed)))
    except KeyboardInterrupt:
        _stop("stopped; the rows that were measured are kept, and the same command goes on")
    except (DataError, ValueError) as error:
        _stop(str(error))


# ---------------------------------------------------------------- course release, grade, feedback, self-grade


def _assignments(names: str | None) -> dict[str, Any]:
    """Lessons by number, such as "01,02"; all that have exercises if none are named."""
    try:
        import nbgrader  # noqa: F401  # the extra [grade], which some commands use only at their end

        from course_utils.desk import lesson as format
        from course_utils.desk.grading.intake import assignment
    except ModuleNotFoundError as error:
        if sys.version_info < (3, 11):
            _stop(f"grading needs {error.name}, which needs Python 3.11 or newer")
        _stop(f'grading needs {error.name}: pip install -e ".[grade]"')
    try:
        sources = format.lessons([name.strip() for name in names.split(",")] if names else None)
    except format.LessonError as error:
        _stop(str(error))
    found = {source.stem[:2]: assignment(source.stem[:2]) for source in sources}
    return {lesson: this for lesson, this in found.items() if this.exercises}


def _graded(folder: Path) -> list[str]:
    """The lessons of which a folder holds results."""
    return sorted({path.parent.name for path in (folder / "results").glob("[0-9][0-9]/*.json")})


@app.command(rich_help_panel=TEACH, epilog="Example: course release class --lessons 01,02")
def release(
    out: Annotated[Path, typer.Argument(help="Folder of the class.")],
    lessons: Annotated[str | None, typer.Option(help="Such as 01,02; all if not given.")] = None,
) -> None:
    """Write what is handed out, into OUT/release: the lessons without solutions, with nbgrader's metadata.

    OUT/source holds the solved ones, for nbgrader's formgrader: it is not for learners.
    """
    wanted = _assignments(lessons)
    from course_utils.desk.grading.release import release as write

    with _class_folder(out):
        paths = write(out, list(wanted))
    for path in paths:
        typer.echo(path)


@contextlib.contextmanager
def _class_folder(folder: Path) -> Iterator[None]:
    """Hold a class folder, so that no two commands write into it at once; in words if it cannot be written."""
    from course_utils.desk.grading.grade import alone

    def waits() -> None:
        typer.echo(f"{folder}: another command is at work there; waiting for it", err=True)

    try:
        with alone(folder, waits):
            yield
    except OSError as error:
        _stop(f"{error.filename or folder}: cannot be read or written ({error.strerror}); mend that and run again")
    except DataError as error:
        _stop(str(error))


@app.command(rich_help_panel=TEACH, epilog="Example: course grade handed-in.zip --out class --lessons 01")
def grade(
    submissions: Annotated[
        Path, typer.Argument(help="A notebook, a folder of them or of students' folders, or a zip.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    lessons: Annotated[str | None, typer.Option(help="Such as 01,02; all if not given.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Submissions at a time.")] = max(1, (os.cpu_count() or 2) - 1),
    seed: Annotated[int, typer.Option(help="Of the inputs of the checks: the same seed gives the same grades.")] = 0,
    pattern: Annotated[
        str | None,
        typer.Option(help="Who handed in a file, if its path does not tell: a regular expression with (?P<student>…)."),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox/--no-sandbox", help="Without one, what learners wrote can do what you can do.")
    ] = True,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask cluster that does the work.")] = None,
) -> None:
    """Grade a class; stop it whenever you like, the same command goes on."""
    from tqdm import tqdm

    wanted = _assignments(lessons)
    from course_utils.desk.grading import grade as grading
    from course_utils.desk.grading import intake, report
    from course_utils.desk.grading import sandbox as box
    from course_utils.desk.grading.words import shown

    if sandbox and not scheduler and not box.is_there():
        _stop(
            f"no sandbox: {shown(box.what_is_missing())}. It takes bubblewrap (apt-get install bubblewrap) "
            "that may make namespaces (Ubuntu 24.04 forbids it; docs/grading.md says how to allow it). "
            "Without one learners' code would run with your rights; --no-sandbox does that, and says so in the results"
        )
    if pattern is not None:
        try:
            if "student" not in re.compile(pattern).groupindex:
                _stop("--pattern needs a group (?P<student>…); docs/grading.md has examples")
        except re.error as error:
            _stop(f"--pattern is no regular expression: {error}")
    log: list[str] = []
    failed: list[str] = []
    done, stopped = 0, False
    if not submissions.exists():
        _stop(f"{submissions}: no notebook, folder or zip is there")
    with _class_folder(out):
        try:
            names = intake.Names(out)
            found = list(intake.collect(submissions, wanted, log, names, pattern))
        except intake.IntakeError as error:
            _stop(str(error))
        names.save()
        run = grading.grade_class(found, wanted, out, seed=seed, jobs=jobs, sandboxed=sandbox, scheduler=scheduler)
        try:
            for result in tqdm(run, total=len(found), unit="submission", disable=not sys.stderr.isatty()):
                done += not result.failed
                if result.failed:
                    failed.append(shown(f"{result.student}, {result.lesson}: {result.failed}"))
        except KeyboardInterrupt:
            run.close()  # what is under way is given up, what is done is stored
            stopped = True
        lessons_there = ",".join(_graded(out))  # earlier weeks too
        graded = _assignments(lessons_there) if lessons_there else {}
        table = report.write_reports(out, graded, log, about=",".join(wanted))
    learners = len({submission.student for submission in found})
    typer.echo(f"{done} of {len(found)} graded, of {learners} learner(s): {table}")
    if log:
        typer.echo(f"{len(log)} oddities among the files, skipped or replaced ones too: {out / 'intake.csv'}")
    if stopped:
        typer.echo("stopped; what was graded is kept, and the same command goes on", err=True)
        raise typer.Exit(130)
    if failed:
        _stop("not graded, and nobody's fault but this machine's; the same command tries again:\n" + "\n".join(failed))


@app.command(rich_help_panel=TEACH, epilog="Example: course feedback class")
def feedback(results: Annotated[Path, typer.Argument(help="Folder that course grade wrote.")]) -> None:
    """Write grades.csv and the learners' pages again, with the points given by hand in formgrader since."""
    lessons = _graded(results)
    if not lessons:
        _stop(f"{results}: no results are there; course grade writes them")
    assignments = _assignments(",".join(lessons))
    from course_utils.desk.grading import report

    with _class_folder(results):
        typer.echo(report.write_reports(results, assignments))


@app.command(name="self-grade", rich_help_panel=LEARN, epilog="Example: course self-grade 01")
def self_grade(
    notebook: Annotated[Path, typer.Argument(help="A lesson's number, for your newest copy in `work/`; or a file.")],
) -> None:
    """Grade your own notebook, as `course grade` would."""
    if os.name != "posix":
        _stop("self-grade needs Linux, macOS or WSL; the check cells of the page say the same")
    wanted = _assignments(None)
    from course_utils.desk import work
    from course_utils.desk.grading import grade as grading
    from course_utils.desk.grading import intake

    log: list[str] = []
    if not notebook.exists():
        notebook = work.latest(notebook.name) or notebook
    try:
        found = list(intake.collect(notebook, wanted, log))
    except intake.IntakeError as error:
        _stop(str(error))
    if not found:
        _stop("; ".join(log) or f"{notebook}: answers no lesson")
    for note in log:
        typer.echo(note, err=True)
    for submission in found:
        result = grading.grade(submission, wanted[submission.lesson], sandboxed=False)  # it is your own code
        if result.failed:
            _stop(result.failed)
        for graded in result.exercises:
            typer.echo(f"{graded.id}: {graded.status}" + (f", {graded.message}" if graded.message else ""))
            if graded.hint:
                typer.echo(f"  Likely reason: {graded.hint}.")
        typer.echo(f"{result.points:g} of {sum(graded.of for graded in result.exercises):g} points")


if __name__ == "__main__":
    app()
