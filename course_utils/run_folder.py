"""A recipe's training in a folder: begun or gone on with, a checkpoint every so often, a row of `log.csv` per step.

The folder holds `checkpoint.pt`, `log.csv`, and `recipe.json`, which keeps a run from going on with other settings than
it began with.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from course_utils.checkpoints import CheckpointError, load_checkpoint
from course_utils.files import DataError, parse_json, read, write_atomically
from course_utils.pretrained import load_network
from course_utils.recipes import Recipe, make_model, make_task, recipe_from, settings_of
from course_utils.training import Record, Training, train

CHECKPOINT, LOG, SETTINGS = "checkpoint.pt", "log.csv", "recipe.json"


def begin(recipe: Recipe, folder: str | os.PathLike[str], *, fresh: bool = False, **options: Any) -> Training:
    """A run in a folder: gone on with if the folder holds a checkpoint, unless `fresh`, which deletes what is there.

    `options` go to `Training`: device, precision, compile, accelerator.

    Raises CheckpointError if the checkpoint is damaged, or was begun with other settings; more `steps` are allowed.
    """
    folder = Path(folder)
    settings = settings_of(recipe)
    settled = {key: getattr(recipe, key) for key in ("optimizer", "lr", "weight_decay", "ema", "seed", "parts")}
    frozen = {role: load_network(name) for role, name in (recipe.frozen or {}).items()}
    run = Training(starting_model(recipe, folder.parent), frozen=frozen, **settled, **options)
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


def starting_model(recipe: Recipe, runs: Path | None = None) -> Any:
    """The recipe's network as its training finds it.

    What it starts from is a run in the folder `runs`, whose averaged weights are taken, or else a shipped network.

    Raises ValueError if nothing of that fits, or if there is neither; CheckpointError if that run is not done.
    """
    model = make_model(recipe)
    if recipe.start:
        learner = model.generator if recipe.critic else model
        own = learner.state_dict()
        theirs = _averaged_in(runs / recipe.start) if runs and (runs / recipe.start / CHECKPOINT).exists() else None
        theirs = theirs or load_network(recipe.start).state_dict()
        fits = {name: value for name, value in theirs.items() if name in own and value.shape == own[name].shape}
        if not fits:
            raise ValueError(f"start: no weights of {recipe.start} fit into {recipe.name}")
        learner.load_state_dict(fits, strict=False)
    return model


def _averaged_in(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a run that is done. Raises CheckpointError if it is not."""
    content, steps = load_checkpoint(folder / CHECKPOINT), _recipe_in(folder / SETTINGS).steps
    if content["step"] < steps:
        raise CheckpointError(f"{folder}: {content['step']} of {steps} steps are done. Train it to the end first")
    return content["ema"]


def _recipe_in(path: Path) -> Recipe:
    """The recipe that a run was begun with. Raises CheckpointError if the file is damaged."""
    way_out = "Delete it, and the run goes on with the settings of today"
    try:
        return recipe_from(parse_json(path, read(path, way_out), way_out))
    except (DataError, TypeError) as error:
        told = error if isinstance(error, DataError) else f"{path}: is damaged ({error}). {way_out}"
        raise CheckpointError(str(told)) from error


def train_recipe(
    run: Training,
    recipe: Recipe,
    data: tuple[Any, Tensor | None],
    folder: str | os.PathLike[str],
    *,
    every: int = 200,
) -> Iterator[Record]:
    """`training.train` with the recipe's settings; writes the folder's checkpoint every so often and a row per step."""
    folder, parts = Path(folder), recipe.parts or ()
    with _open_log(folder / LOG, run.step, log_columns(parts)) if run.writes else open(os.devnull, "w") as log:
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
            log.write(log_row(record, parts))
            yield record


def log_columns(parts: Iterable[str] = ()) -> str:
    """What a row of the log says; of a model in several parts, the loss of each."""
    return ",".join(["step", *([f"loss_{part}" for part in parts] or ["loss"]), "lr", "gradient_norm"])


def log_row(record: Record, parts: Iterable[str] = ()) -> str:
    """One line of the log; nothing for a part that had no loss at this step."""
    losses = [record.parts.get(part) for part in parts] or [record.loss]
    figures = ["" if x is None else f"{x:.6g}" for x in (*losses, record.lr, record.gradient_norm)]
    return ",".join([str(record.step), *figures]) + "\n"


def _open_log(path: Path, step: int, columns: str) -> TextIO:
    """The log, open for more, without the rows after `step`: a resumed run takes those steps again.

    Raises CheckpointError if something else than this course has written in it.
    """
    kept: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else [f"{columns}\n"]
        if lines and not f"{columns}\n".startswith(lines[0]):
            raise ValueError(f"line 1 is {lines[0]!r:.60}")
        for number, line in enumerate(lines[1:], 2):
            if not line.endswith("\n"):  # a kill left half a row
                break
            try:
                taken, *values = (float(value.strip() or "nan") for value in line.split(","))
            except ValueError:
                taken, values = math.nan, []
            if len(values) != columns.count(",") or not taken.is_integer():
                raise ValueError(f"line {number} is {line!r:.60}")
            if taken <= step:
                kept.append(line)
    except (ValueError, OSError) as error:  # of bytes that are no text, or of a folder, too
        raise CheckpointError(
            f"{path}: is not as a training wrote it ({error}). Move it away, and the run goes on, with a new log"
        ) from error
    write_atomically(path, "".join([columns + "\n", *kept]).encode())
    return open(path, "a", encoding="utf-8", buffering=1)  # flushed at every line
