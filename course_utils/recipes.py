"""Named trainings: a dataset, a network and every number that matters, so that `course train NAME` repeats them.

A run lives in a folder: `checkpoint.pt`, `log.csv` with a row per step, and `recipe.json`, which keeps a run from going
on with other settings than it began with.
"""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from course_utils._validate import require_type
from course_utils.checkpoints import CheckpointError
from course_utils.classifier import Classifier, classification
from course_utils.data import DataError, load_images, parse_json, write_atomically
from course_utils.denoisers import DAE, AttentionDenoiser, Denoiser, PlainCNN, UNet
from course_utils.schedules import linear
from course_utils.training import Record, Training, train

CHECKPOINT, LOG, SETTINGS = "checkpoint.pt", "log.csv", "recipe.json"
COLUMNS = "step,loss,lr,gradient_norm"
ARCHITECTURES: dict[str, type[nn.Module]] = {
    "cnn": PlainCNN,
    "dae": DAE,
    "attention": AttentionDenoiser,
    "unet": UNet,
    "classifier": Classifier,
}


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how."""

    name: str
    dataset: str
    architecture: str = "unet"
    network: dict[str, Any] = field(default_factory=dict)  # the architecture's arguments
    full: bool = False  # all of the dataset, downloaded, instead of the embedded part
    steps: int = 4000
    batch_size: int = 128
    lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.0
    ema: float = 0.999
    flip: bool = False
    seed: int = 0
    # of denoisers alone
    T: int = 1000
    predict: str = "v"
    weighting: str = "v"
    times: str = "uniform"
    label_drop: float = 0.1
    # of classifiers alone
    shift: int = 0


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "mnist-classifier",
            "mnist",
            "classifier",
            {"channels": 1, "widths": (32, 64, 64)},
            steps=4000,
            lr=3e-3,
            weight_decay=0.05,
            shift=2,
        ),
        Recipe(
            "cifar10-classifier",
            "cifar10",
            "classifier",
            {"channels": 3, "widths": (32, 64, 128, 192), "stem": 1},
            full=True,
            steps=9_000,
            lr=3e-3,
            weight_decay=0.05,
            shift=4,
            flip=True,
        ),
        Recipe("mnist-cnn", "mnist", "cnn", {"channels": 1, "width": 48, "depth": 8, "num_classes": 10}, steps=2500),
        Recipe(
            "mnist-dae", "mnist", "dae", {"channels": 1, "size": 28, "bottleneck": 64, "num_classes": 10}, steps=2500
        ),
        Recipe(
            "mnist-attention",
            "mnist",
            "attention",
            {"channels": 1, "width": 96, "blocks": 4, "patch": 4, "num_classes": 10},
            steps=2500,
        ),
        Recipe(
            "mnist-unet",
            "mnist",
            "unet",
            {"channels": 1, "widths": (64, 128), "blocks": 1, "num_classes": 10},
            steps=47_000,
            batch_size=64,
            lr=2e-3,
            warmup=500,
            times="cosine",
        ),
        Recipe(
            "mnist-smoke",
            "mnist",
            "unet",
            {"channels": 1, "widths": (16, 32), "blocks": 1, "attention": (), "num_classes": 10},
            steps=100,
            batch_size=32,
            warmup=10,
            ema=0.9,
        ),
        Recipe(
            "cifar10-unet",
            "cifar10",
            "unet",
            {"channels": 3, "widths": (96, 144, 144), "blocks": 1, "attention": (1, 2), "num_classes": 10},
            full=True,
            steps=26_000,
            batch_size=64,
            lr=2e-3,
            warmup=500,
            flip=True,
            times="cosine",
        ),
    )
}


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is read back from a file: tuples have become lists."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


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


def make_model(recipe: Recipe, moments: tuple[float, float] | None = None) -> Denoiser | Classifier:
    """The recipe's network, as a denoiser unless it is a classifier, with the weights that training starts from.

    They are the same for the same seed. `moments` are the `pixel_moments` of the dataset, where they are known already.
    """
    require_type("recipe", recipe, Recipe, "a Recipe, such as RECIPES['mnist-unet']")
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(recipe.seed)
        network = ARCHITECTURES[recipe.architecture](**recipe.network)
    if isinstance(network, Classifier):
        return network
    return Denoiser(network, linear(recipe.T), recipe.predict, *(moments or pixel_moments(recipe.dataset)))


def load_data(recipe: Recipe) -> tuple[Tensor, Tensor | None]:
    """Training images, uint8, and their labels, None if the network knows no classes. Raises DataError."""
    require_type("recipe", recipe, Recipe, "a Recipe, such as RECIPES['mnist-unet']")
    images, labels = load_images(recipe.dataset, full=recipe.full)
    return images, labels if recipe.architecture == "classifier" or recipe.network.get("num_classes") else None


def begin(recipe: Recipe, folder: str | os.PathLike[str], *, fresh: bool = False, **options: Any) -> Training:
    """A run in a folder: gone on with if the folder holds a checkpoint, unless `fresh`, which deletes what is there.

    `options` go to `Training`: device, precision, compile, accelerator.

    Raises CheckpointError if the checkpoint is damaged, or was begun with other settings; more `steps` are allowed.
    """
    folder = Path(folder)
    settings = settings_of(recipe)
    settled: dict[str, Any] = {
        "lr": recipe.lr,
        "weight_decay": recipe.weight_decay,
        "ema": recipe.ema,
        "seed": recipe.seed,
    }
    run = Training(make_model(recipe), **settled, **options)
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
            before = _settings_in(folder / SETTINGS)
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


def _settings_in(path: Path) -> dict[str, Any]:
    """The settings that a run was begun with. Raises CheckpointError if the file is damaged."""
    try:
        return parse_json(path, path.read_bytes(), "")
    except DataError as error:
        raise CheckpointError(f"{error}Delete it, and the run goes on with the settings of today") from error


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
            weighting=recipe.weighting,
            times=recipe.times,
            warmup=recipe.warmup,
            label_drop=recipe.label_drop,
            flip=recipe.flip,
            loss=classification(recipe.shift, recipe.flip) if recipe.architecture == "classifier" else None,
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
