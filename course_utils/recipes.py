"""Named trainings: a dataset, a network and every number that matters, so that `course train NAME` repeats them.

A run lives in a folder: `checkpoint.pt`, `log.csv` with a row per step, and `recipe.json`, which keeps a run from going
on with other settings than it began with.
"""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from course_utils import schedules
from course_utils._validate import require_type
from course_utils.checkpoints import CheckpointError
from course_utils.classifier import Classifier
from course_utils.data import DataError, load_images, parse_json, write_atomically
from course_utils.denoisers import DAE, AttentionDenoiser, Denoiser, PlainCNN, UNet
from course_utils.paths import draw_paths
from course_utils.runtime import pick_device, pick_precision
from course_utils.samplers import uniform_grid
from course_utils.schedules import Schedule
from course_utils.tasks import TASKS, Task
from course_utils.training import Record, Training, train

CHECKPOINT, LOG, SETTINGS = "checkpoint.pt", "log.csv", "recipe.json"
COLUMNS = "step,loss,lr,gradient_norm"

# What a part of a recipe may be called: {"kind": a name of these, and its arguments}.
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "cnn": PlainCNN,
    "dae": DAE,
    "attention": AttentionDenoiser,
    "unet": UNet,
    "classifier": Classifier,
}
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": schedules.linear,
    "cosine": schedules.cosine,
    "sigmoid": schedules.sigmoid,
    "exponential": schedules.exponential,
    "vp_linear": schedules.VPLinear,
    "vp_cosine": schedules.VPCosine,
    "ve": schedules.VE,
    "flow": schedules.FlowMatching,
}


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how: data · network · schedule · task · optimizer.

    `schedule` and `task` are {"kind": name, and the arguments of what SCHEDULES and TASKS know by that name}.
    """

    name: str
    # data
    dataset: str
    full: bool = False  # all of it, downloaded, instead of the embedded part
    paths: dict[str, Any] | None = None  # instead of images: the paths of a shipped network, see `load_data`
    # network
    architecture: str = "unet"
    network: dict[str, Any] = field(default_factory=dict)  # the architecture's arguments
    # schedule: a network that has one is a denoiser, and predicts what is said
    schedule: dict[str, Any] | None = field(default_factory=lambda: {"kind": "linear", "T": 1000})
    predict: str = "v"
    start: str | None = None  # a shipped network whose weights the training begins with, as far as it has them
    # task
    task: dict[str, Any] = field(default_factory=lambda: {"kind": "denoising"})
    # optimizer: AdamW, and where parts of the network differ from it, see `runs.Training`
    lr: float = 1e-3
    weight_decay: float = 0.0
    parts: dict[str, dict[str, Any]] | None = None
    ema: float = 0.999
    steps: int = 4000
    batch_size: int = 128
    warmup: int = 200
    seed: int = 0

    @property
    def flip(self) -> bool:
        """Whether half of the images are mirrored."""
        return self.task.get("flip", False)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "mnist-classifier",
            "mnist",
            architecture="classifier",
            network={"channels": 1, "widths": (32, 64, 64)},
            schedule=None,
            task={"kind": "classification", "shift": 2},
            steps=4000,
            lr=3e-3,
            weight_decay=0.05,
        ),
        Recipe(
            "cifar10-classifier",
            "cifar10",
            full=True,
            architecture="classifier",
            network={"channels": 3, "widths": (32, 64, 128, 192), "stem": 1},
            schedule=None,
            task={"kind": "classification", "shift": 4, "flip": True},
            steps=9_000,
            lr=3e-3,
            weight_decay=0.05,
        ),
        Recipe(
            "mnist-cnn",
            "mnist",
            architecture="cnn",
            network={"channels": 1, "width": 48, "depth": 8, "num_classes": 10},
            steps=2500,
        ),
        Recipe(
            "mnist-dae",
            "mnist",
            architecture="dae",
            network={"channels": 1, "size": 28, "bottleneck": 64, "num_classes": 10},
            steps=2500,
        ),
        Recipe(
            "mnist-attention",
            "mnist",
            architecture="attention",
            network={"channels": 1, "width": 96, "blocks": 4, "patch": 4, "num_classes": 10},
            steps=2500,
        ),
        Recipe(
            "mnist-unet",
            "mnist",
            network={"channels": 1, "widths": (64, 128), "blocks": 1, "num_classes": 10},
            task={"kind": "denoising", "times": "cosine"},
            steps=47_000,
            batch_size=64,
            lr=2e-3,
            warmup=500,
        ),
        Recipe(
            "mnist-eyes",  # a second classifier, for what may not be learned from the one that measures
            "mnist",
            architecture="classifier",
            network={"channels": 1, "widths": (24, 48, 96)},
            schedule=None,
            task={"kind": "classification", "shift": 1},
            steps=700,
            lr=3e-3,
            weight_decay=0.05,
            ema=0.99,
            warmup=100,
            seed=77,
        ),
        Recipe(
            "mnist-onestep",
            "mnist",
            paths={"of": "mnist-unet", "n": 11_000, "steps": 6, "guidance": 1.3, "seed": 10_000},
            network={"channels": 1, "widths": (64, 128), "blocks": 1, "num_classes": 10, "second_time": True},
            start="mnist-unet",
            task={
                "kind": "jumping",
                "times": (1000, 833, 667, 500, 333, 167, 0),
                "whole": 0.75,
                "eyes": "mnist-eyes",
            },
            steps=600,
            batch_size=32,
            warmup=100,
            ema=0.998,
        ),
        Recipe(
            "mnist-smoke",
            "mnist",
            network={"channels": 1, "widths": (16, 32), "blocks": 1, "attention": (), "num_classes": 10},
            steps=100,
            batch_size=32,
            warmup=10,
            ema=0.9,
        ),
        Recipe(
            "cifar10-unet",
            "cifar10",
            full=True,
            network={"channels": 3, "widths": (96, 144, 144), "blocks": 1, "attention": (1, 2), "num_classes": 10},
            task={"kind": "denoising", "times": "cosine", "flip": True},
            steps=26_000,
            batch_size=64,
            lr=2e-3,
            warmup=500,
        ),
    )
}


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is read back from a file: tuples have become lists."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


# What the first recipes said of their task and schedule, flat, and what was meant where nothing was said.
_OF_DENOISERS = {"weighting": "v", "times": "uniform", "label_drop": 0.1}
_FLAT = _OF_DENOISERS | {"flip": False, "shift": 0, "T": 1000}


def recipe_from(settings: Mapping[str, Any]) -> Recipe:
    """The recipe of `settings_of`; also of the flat settings that the first files and runs carry."""
    rest = {key: value for key, value in settings.items() if key not in _FLAT}
    if "task" not in settings:
        flat = _FLAT | {key: value for key, value in settings.items() if key in _FLAT}
        if settings.get("architecture") == "classifier":
            task: dict[str, Any] = {"kind": "classification", "shift": flat["shift"]}
            rest |= {"schedule": None}
        else:
            task = {"kind": "denoising"} | {key: flat[key] for key in _OF_DENOISERS}
            rest |= {"schedule": {"kind": "linear", "T": flat["T"]}}
        task |= {"flip": flat["flip"]}
        rest["task"] = {key: value for key, value in task.items() if key == "kind" or value != _FLAT[key]}
    return Recipe(**rest)


def _made(table: Mapping[str, Callable[..., Any]], part: Mapping[str, Any]) -> Any:
    """The thing that a part of a recipe names, made with its arguments."""
    settings = dict(part)
    return table[settings.pop("kind")](**settings)


def log_row(record: Record) -> str:
    """One line of the log, its COLUMNS."""
    return f"{record.step},{record.loss:.6g},{record.lr:.6g},{record.gradient_norm:.6g}\n"


@functools.cache
def pixel_moments(dataset: str) -> tuple[float, float]:
    """Mean and standard deviation of a training set's pixels in [-1, 1], over images and positions.

    Of the embedded images, so that a network can be rebuilt without a download. Exact: counted, byte by byte.
    """
    images, _ = load_images(dataset)
    counts = sum(chunk.flatten().bincount(minlength=256) for chunk in images.split(1000)).double()
    share, value = counts / counts.sum(), torch.arange(256, dtype=torch.float64) / 127.5 - 1
    mean = (share * value).sum()
    return mean.item(), (share * (value - mean) ** 2).sum().sqrt().item()


def make_model(recipe: Recipe, moments: tuple[float, float] | None = None) -> Any:
    """The recipe's network, a `Denoiser` if it has a schedule, with the weights that training starts from, float32.

    They are the same for the same seed. `moments` are the `pixel_moments` of the dataset, where they are known already.
    """
    require_type("recipe", recipe, Recipe, "a Recipe, such as RECIPES['mnist-unet']")
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(recipe.seed)
        network = ARCHITECTURES[recipe.architecture](**recipe.network)
    if recipe.schedule is None:
        return network
    schedule = _made(SCHEDULES, recipe.schedule)
    return Denoiser(network, schedule, recipe.predict, *(moments or pixel_moments(recipe.dataset)))


def make_task(recipe: Recipe) -> Task:
    """What the recipe's training minimises."""
    return _made(TASKS, recipe.task)


def load_data(recipe: Recipe) -> tuple[Tensor, Tensor | None]:
    """Training images, uint8, and their labels, None if neither network nor task knows classes. Raises DataError.

    For a recipe with `paths` these are drawn first, which takes minutes: `n` paths of the shipped network `of`, on a
    uniform grid of `steps`, by DPM-Solver++(2M), with `guidance`; and the classes that they were asked to be.
    """
    require_type("recipe", recipe, Recipe, "a Recipe, such as RECIPES['mnist-unet']")
    images, labels = load_images(recipe.dataset, full=recipe.full)
    if recipe.paths is not None:
        from course_utils.pretrained import load_denoiser  # which knows the recipes

        device, how = pick_device(), dict(recipe.paths)
        denoise = load_denoiser(how.pop("of"), device)
        grid = uniform_grid(denoise.schedule, how.pop("steps"))
        how |= {"labels": labels, "device": device, "precision": pick_precision(device)}
        return draw_paths(denoise, denoise.schedule, how.pop("n"), tuple(images.shape[1:]), grid, **how)
    return images, labels if recipe.schedule is None or recipe.network.get("num_classes") else None


def begin(recipe: Recipe, folder: str | os.PathLike[str], *, fresh: bool = False, **options: Any) -> Training:
    """A run in a folder: gone on with if the folder holds a checkpoint, unless `fresh`, which deletes what is there.

    `options` go to `Training`: device, precision, compile, accelerator.

    Raises CheckpointError if the checkpoint is damaged, or was begun with other settings; more `steps` are allowed.
    """
    folder = Path(folder)
    settings = settings_of(recipe)
    settled = {key: getattr(recipe, key) for key in ("lr", "weight_decay", "ema", "seed", "parts")}
    run = Training(start_from(make_model(recipe), recipe.start), **settled, **options)
    checkpoint = folder / CHECKPOINT
    if run.writes:
        for part in folder.glob(f".{CHECKPOINT}.*.part"):  # a write that was killed
            part.unlink()
        if fresh:
            checkpoint.unlink(missing_ok=True)
    if run.accelerator:
        run.accelerator.wait_for_everyone()
    if checkpoint.exists():
        if (folder / SETTINGS).exists():
            before = settings_of(_recipe_in(folder / SETTINGS))
            other = [key for key in settings if key != "steps" and settings[key] != before.get(key)]
            if other:
                raise CheckpointError(
                    f"{checkpoint}: was begun with {other[0]} {before.get(other[0])}, not {settings[other[0]]}. Take "
                    "the same settings, another folder, or --fresh to begin again"
                )
        run.resume(checkpoint)
    if run.writes:
        write_atomically(folder / SETTINGS, json.dumps(settings, indent=2).encode())
    return run


def start_from(model: Any, start: str | None) -> Any:
    """The model, with the weights of a shipped denoiser if one is named; what that has not keeps its own.

    Raises ValueError if it has weights that the model has not.
    """
    if start is not None:
        from course_utils.pretrained import load_denoiser  # which knows the recipes

        known = load_denoiser(start).state_dict()
        fits = model.load_state_dict(known, strict=False)
        if fits.unexpected_keys:
            raise ValueError(f"start: {start} has weights that this network has not, {fits.unexpected_keys[0]}")
    return model


def _recipe_in(path: Path) -> Recipe:
    """The recipe that a run was begun with. Raises CheckpointError if the file is damaged."""
    way_out = "Delete it, and the run goes on with the settings of today"
    try:
        return recipe_from(parse_json(path, path.read_bytes(), way_out))
    except (DataError, TypeError) as error:
        told = error if isinstance(error, DataError) else f"{path}: is damaged ({error}). {way_out}"
        raise CheckpointError(str(told)) from error


def train_recipe(
    run: Training,
    recipe: Recipe,
    data: tuple[Tensor, Tensor | None],
    folder: str | os.PathLike[str],
    *,
    every: int = 200,
) -> Iterator[Record]:
    """`training.train` with the recipe's settings; writes the folder's checkpoint every so often and a row per step."""
    folder = Path(folder)
    with _open_log(folder / LOG, run.step) if run.writes else open(os.devnull, "w") as log:
        for record in train(
            run,
            *data,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            task=make_task(recipe),
            warmup=recipe.warmup,
            checkpoint=folder / CHECKPOINT,
            every=every,
        ):
            # Written before the step's checkpoint is: a resumed run finds no row missing, only some too many.
            log.write(log_row(record))
            yield record


def _open_log(path: Path, step: int) -> TextIO:
    """The log, open for more, without the rows after `step`: a resumed run takes those steps again.

    Raises CheckpointError if something else than this course has written in it.
    """
    kept: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else [f"{COLUMNS}\n"]
        if lines and not f"{COLUMNS}\n".startswith(lines[0]):
            raise ValueError(f"line 1 is {lines[0]!r:.60}")
        for number, line in enumerate(lines[1:], 2):
            if not line.endswith("\n"):  # a kill left half a row
                break
            try:
                taken, *values = (float(value) for value in line.split(","))
            except ValueError:
                taken, values = math.nan, []
            if len(values) != COLUMNS.count(",") or not taken.is_integer():
                raise ValueError(f"line {number} is {line!r:.60}")
            if taken <= step:
                kept.append(line)
    except ValueError as error:  # of bytes that are no text, too
        raise CheckpointError(
            f"{path}: is not as a training wrote it ({error}). Move it away, and the run goes on, with a new log"
        ) from error
    write_atomically(path, "".join([COLUMNS + "\n", *kept]).encode())
    return open(path, "a", encoding="utf-8", buffering=1)  # flushed at every line
