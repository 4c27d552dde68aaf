"""The leaderboard: one trained network, every sampler, quality against network calls.

A row holds one measurement and all that it depends on; `data/leaderboard/NAME.csv` holds the rows. `run` measures what
is missing there, cheap rows first, and writes each row before it goes on, so a run that was stopped goes on where it
was. `add` measures a sampler of your own at the same settings, to stand beside the stored rows. Lesson 11 reads it.

Every sampler starts from the same noise, of the same seed. The count of network calls is taken while it samples, so a
step that asks twice counts twice.
"""

import bisect
import csv
import dataclasses
import functools
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from course_utils import pretrained, runtime
from course_utils._validate import require_callable, require_count, require_dtype, require_one_of, require_type
from course_utils.classifier import look_at
from course_utils.data import DataError, data_dir, write_atomically
from course_utils.denoisers import Denoiser
from course_utils.metrics import draw_images, fid_interval, floor_of, reference
from course_utils.plotting import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW
from course_utils.samplers import (
    karras_grid,
    log_snr_grid,
    quadratic_grid,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
    sample_dpmpp_2s,
    sample_euler,
    sample_heun,
    sample_unipc,
    uniform_grid,
)
from course_utils.schedules import Schedule, check_grid, require_schedule

FOLDER = "leaderboard"
LONGEST = 1000  # DDPM's own number of steps: the yardstick, for DDPM alone
BUDGETS = (5, 10, 20, 50, 100, LONGEST)  # network calls a sample that a sampler may spend
GRIDS = {"uniform": uniform_grid, "quadratic": quadratic_grid, "log_snr": log_snr_grid, "karras": karras_grid}


class Contender(NamedTuple):
    """A sampler, and the time grid that it runs on."""

    sampler: str
    sample: Callable[..., Tensor]
    grid: str  # one of GRIDS


# On two grids: the uniform one, and the quadratic one, which takes more of its steps where there is little noise.
# Euler's step is DDIM's, so it stands for DDIM on the second.
CONTENDERS = (
    Contender("ddpm", sample_ddpm, "uniform"),
    Contender("ddim", sample_ddim, "uniform"),
    Contender("heun", sample_heun, "uniform"),
    Contender("dpmpp_2m", sample_dpmpp_2m, "uniform"),
    Contender("unipc_3", functools.partial(sample_unipc, order=3), "uniform"),
    Contender("euler", sample_euler, "quadratic"),
    Contender("dpmpp_2s", sample_dpmpp_2s, "quadratic"),
    Contender("dpmpp_2m", sample_dpmpp_2m, "quadratic"),
    Contender("unipc_2", functools.partial(sample_unipc, order=2), "quadratic"),
    Contender("unipc_3", functools.partial(sample_unipc, order=3), "quadratic"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement, and all that it depends on."""

    network: str
    sha256: str  # of the network's file, its first twelve digits
    sampler: str
    grid: str
    steps: int
    nfe: int  # network calls a sample, counted
    n: int  # samples
    seed: int
    fid: float  # of n samples against the training split
    low: float  # a 95 % interval of it, for other draws of n samples: see `metrics.fid_interval`
    high: float
    bias: float  # by how much chance, at this n, raises it on average
    floor: float  # the same figure for n real images of the test split
    features: str
    seconds: float  # a sample, of the fastest batch: the one least disturbed by other work
    device: str
    precision: str

    @property
    def key(self) -> tuple:
        """What makes a measurement another one; device and precision do not."""
        return self.sha256, self.sampler, self.grid, self.steps, self.n, self.seed


class Plan(NamedTuple):
    """A measurement to be made."""

    contender: Contender
    timesteps: list
    nfe: int


# ---------------------------------------------------------------------------------------------------------------------
# Counting network calls
# ---------------------------------------------------------------------------------------------------------------------


class Counted:
    """A denoiser that counts the images it is asked about, and tells `progress` about each batch of them."""

    def __init__(self, denoise: Callable[..., Tensor], progress: Callable[[int], object] | None = None):
        self.denoise, self.progress, self.images = denoise, progress, 0

    def __call__(self, x_t: Tensor, t: object, **cond: object) -> Tensor:
        self.images += len(x_t)
        x0_hat = self.denoise(x_t, t, **cond)
        if self.progress:
            self.progress(len(x_t))
        return x0_hat


def network_calls(sample: Callable[..., Tensor], schedule: Schedule, timesteps: Sequence[int | float]) -> int:
    """Network calls that a sampler makes on a grid, counted on a network that costs nothing."""
    require_callable("sample", sample)
    check_grid(timesteps, schedule)
    nothing = Counted(lambda x_t, t, **cond: torch.zeros_like(x_t))
    sample(nothing, torch.ones(1, 1), schedule, timesteps, generator=torch.Generator())
    return nothing.images


def plan_within(contender: Contender, schedule: Schedule, budget: int) -> Plan:
    """The longest grid on which a sampler stays within `budget` network calls.

    Raises ValueError if even a single step asks more often.
    """
    require_type("contender", contender, Contender, "a Contender")
    require_schedule(schedule)
    require_count("budget", budget)

    def calls(steps: int) -> int:
        return network_calls(contender.sample, schedule, GRIDS[contender.grid](schedule, steps))

    most = min(budget, schedule.T or budget)
    steps = bisect.bisect_right(range(1, most + 1), budget, key=calls)  # more steps, more calls
    if not steps:
        raise ValueError(f"budget: {contender.sampler} asks {calls(1)} times in a single step, got {budget}")
    return Plan(contender, GRIDS[contender.grid](schedule, steps), calls(steps))


def planned(schedule: Schedule, budgets: Sequence[int] = BUDGETS) -> list[Plan]:
    """Every sampler at every budget, but DDPM alone from LONGEST on; cheap ones first."""
    plans = [
        plan_within(contender, schedule, budget)
        for budget in budgets
        for contender in (CONTENDERS if budget < LONGEST else CONTENDERS[:1])
    ]
    return sorted(plans, key=lambda plan: plan.nfe)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------


def measure(
    name: str,
    denoiser: Denoiser,
    plan: Plan,
    *,
    n: int,
    seed: int = 0,
    precision: torch.dtype | None = None,
    progress: Callable[[int], object] | None = None,
) -> Row:
    """Draw n samples by a plan, look at them, and return the row.

    Args:
        name: of a shipped network.
        denoiser: that network, on the device to draw on.
        precision: of the drawing; `runtime` chooses unless told.
        progress: called with the number of images after each network call.

    Raises:
        ValueError: n out of range, or a sampler that returns something other than images of the shape of x_T.
        DataError: a file is missing or damaged.
    """
    require_type("denoiser", denoiser, Denoiser, "a Denoiser")
    require_type("plan", plan, Plan, "a Plan")
    require_count("n", n, least=2)
    require_count("seed", seed, least=0)
    if precision is not None:
        require_dtype("precision", precision)
    device = next(denoiser.parameters()).device
    precision = precision or runtime.pick_precision(device)
    recipe = pretrained.recipe_of(name)
    real, floor = reference(recipe.dataset, str(device)), floor_of(recipe.dataset, n, str(device))
    counted, seconds = Counted(denoiser, progress), []
    start, noise = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)

    def sampler(denoise, x_T, schedule, timesteps, **cond):
        """The contender; comes back when the device is done."""
        began = time.perf_counter()
        x = plan.contender.sample(denoise, x_T, schedule, timesteps, generator=noise, **cond)
        if not isinstance(x, Tensor) or x.shape != x_T.shape:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{plan.contender.sampler}: wanted images of shape {tuple(x_T.shape)} back, got {got}")
        x = x.cpu()
        seconds.append((time.perf_counter() - began) / len(x))
        return x

    images, _ = draw_images(
        counted,
        denoiser.schedule,
        real.shape,
        n,
        timesteps=plan.timesteps,
        num_classes=recipe.network.get("num_classes", 0),
        labels=real.test_labels[real.draws(n)[0]],
        sampler=sampler,
        generator=start,
        device=device,
        precision=precision,
    )
    features, _ = look_at(real.classifier, images)
    score = fid_interval(features, real.train, generator=torch.Generator().manual_seed(seed))
    return Row(
        network=name,
        sha256=_weights(name),
        sampler=plan.contender.sampler,
        grid=plan.contender.grid,
        steps=len(plan.timesteps) - 1,
        nfe=math.ceil(counted.images / n),
        n=n,
        seed=seed,
        fid=score.value,
        low=score.low,
        high=score.high,
        bias=score.bias,
        floor=floor,
        features=f"{recipe.dataset}-classifier",
        seconds=min(seconds),
        device=runtime.device_name(device),
        precision=str(precision).removeprefix("torch."),
    )


def _weights(name: str) -> str:
    """What tells a shipped network's weights from others: the first digits of the SHA-256 of its file."""
    return pretrained.read_manifest()[name]["sha256"][:12]


def _begun_in(rows: Sequence[Row]) -> torch.dtype | None:
    """The precision of a table's first row."""
    return getattr(torch, rows[0].precision, None) if rows else None


def missing(
    name: str = "mnist-unet",
    *,
    n: int = 1000,
    seed: int = 0,
    budgets: Sequence[int] = BUDGETS,
    folder: Path | None = None,
) -> list[Plan]:
    """What is still to be measured: no row has the same weights, sampler, grid, steps, n and seed."""
    require_one_of("name", name, pretrained.read_manifest())
    require_count("n", n, least=2)
    require_count("seed", seed, least=0)
    sha256 = _weights(name)
    there = {row.key for row in load(name, folder)}
    schedule = pretrained.load_denoiser(name).schedule

    def key(plan: Plan) -> tuple:
        return sha256, plan.contender.sampler, plan.contender.grid, len(plan.timesteps) - 1, n, seed

    return [plan for plan in planned(schedule, budgets) if key(plan) not in there]


def run(
    name: str = "mnist-unet",
    *,
    n: int = 1000,
    seed: int = 0,
    budgets: Sequence[int] = BUDGETS,
    folder: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Row]:
    """Measure what is missing, and yield each row once it is in the file. Stop it whenever you like.

    A table goes on in the precision that it was begun in, so that its rows differ by their samplers alone.

    Args:
        name: a shipped network.
        n: samples a row. Figures of another n cannot be compared; their rows stand beside these in the file.
        seed: of the noise that every sampler starts from.
        budgets: network calls a sample; from LONGEST on for DDPM alone.
        folder: of the table; `data/leaderboard` unless told.
        progress: called with the number of images after each network call: sum(plan.nfe) n of them in all.
    """
    denoiser = pretrained.load_denoiser(name, runtime.pick_device())
    precision = _begun_in(stored(name, n=n, seed=seed, folder=folder))
    for plan in missing(name, n=n, seed=seed, budgets=budgets, folder=folder):
        row = measure(name, denoiser, plan, n=n, seed=seed, precision=precision, progress=progress)
        save([*load(name, folder), row], name, folder)
        yield row


def add(
    label: str,
    sample: Callable[..., Tensor],
    *,
    grid: str = "log_snr",
    budget: int = 10,
    n: int = 1000,
    seed: int = 0,
    name: str = "mnist-unet",
    progress: Callable[[int], object] | None = None,
) -> Row:
    """Measure a sampler of your own at the leaderboard's settings, in its table's precision. Nothing is written.

    Args:
        label: the row's name.
        sample: `sample(denoise, x_T, schedule, timesteps, *, generator=None, **cond) -> x_0`, as every sampler here;
            what is in `cond` goes on to the denoiser.
        grid: "uniform", "quadratic", "log_snr" or "karras".
        budget: network calls a sample; as many steps as stay within it are taken.
        n, seed: those of the rows to compare with.

    Raises as `measure` does; ValueError for an unknown grid.
    """
    require_callable("sample", sample)
    require_one_of("grid", grid, GRIDS)
    denoiser = pretrained.load_denoiser(name, runtime.pick_device())
    plan = plan_within(Contender(label, sample, grid), denoiser.schedule, budget)
    precision = _begun_in(stored(name, n=n, seed=seed))
    return measure(name, denoiser, plan, n=n, seed=seed, precision=precision, progress=progress)


# ---------------------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------------------


_KINDS: dict[str, Callable] = get_type_hints(Row)  # str, int or float, by column


def path_of(name: str, folder: Path | None = None) -> Path:
    """Where a network's rows are."""
    return (folder or data_dir() / FOLDER) / f"{name}.csv"


def load(name: str = "mnist-unet", folder: Path | None = None) -> list[Row]:
    """The stored rows of a network, none if there is no file. Raises DataError if the file is damaged."""
    path = path_of(name, folder)
    if not path.exists():
        return []
    fields = dataclasses.fields(Row)
    try:
        lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), strict=True)
        if lines.fieldnames != [field.name for field in fields]:
            raise ValueError(f"its columns are {lines.fieldnames}")
        return [Row(**{field.name: _KINDS[field.name](line[field.name]) for field in fields}) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a leaderboard ({type(error).__name__}: {error}). "
            f"Run `git checkout -- {path.name}` in its folder, or delete it and measure again"
        ) from error


def stored(name: str = "mnist-unet", *, n: int = 1000, seed: int = 0, folder: Path | None = None) -> list[Row]:
    """One table: the rows of one n and one seed, of the weights that are shipped now. Raises DataError as `load`."""
    require_one_of("name", name, pretrained.read_manifest())
    require_count("n", n, least=2)
    require_count("seed", seed, least=0)
    wanted = _weights(name), n, seed
    return [row for row in load(name, folder) if (row.sha256, row.n, row.seed) == wanted]


def save(rows: Sequence[Row], name: str = "mnist-unet", folder: Path | None = None) -> None:
    """Write the rows of a network, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Row))
    for row in rows:
        values = dataclasses.astuple(row)
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in values)
    write_atomically(path_of(name, folder), text.getvalue().encode())


# ---------------------------------------------------------------------------------------------------------------------
# Showing it
# ---------------------------------------------------------------------------------------------------------------------

LOOKS = {
    "ddpm": (BLACK, "o"),
    "ddim": (BLUE, "o"),
    "euler": (BLUE, "o"),
    "heun": (GREEN, "o"),
    "dpmpp_2s": (GREEN, "s"),
    "dpmpp_2m": (ORANGE, "o"),
    "unipc_2": (PINK, "s"),
    "unipc_3": (PINK, "o"),
}
DASHES = {"uniform": "-", "quadratic": "--"}


def table(rows: Sequence[Row]) -> str:
    """FID by sampler and budget as plain text, the best of each column starred; the floor below.

    All rows must be of one n, one seed and the same weights, or they cannot be compared: ValueError if they are not.
    """
    n = _one_table(rows)
    budgets = [b for b in BUDGETS if any(_budget(row) == b for row in rows)]
    cells: dict[tuple[str, str, int], Row] = {}
    best: dict[int, float] = {}
    for row in rows:
        cells[row.sampler, row.grid, _budget(row)] = row
        best[_budget(row)] = min(row.fid, best.get(_budget(row), row.fid))
    lines = [f"{'FID at network calls':22}" + " ".join(f"{budget:>14,}" for budget in budgets)]
    for sampler, grid in dict.fromkeys((row.sampler, row.grid) for row in rows):
        line = f"{sampler + ', ' + grid:22}"
        for budget in budgets:
            found = cells.get((sampler, grid, budget))
            line += f"{_shown(found) + ('*' if found and found.fid == best[budget] else ' '):>15}"
        lines.append(line.rstrip())
    first = rows[0]
    lines.append(
        f"real images {first.floor:.4f}: the floor. n = {n:,}, seed {first.seed}, features of {first.features}"
    )
    return "\n".join(lines)


def figure(rows: Sequence[Row], own: Sequence[Row] = ()) -> Figure:
    """Quality against network calls, a line a sampler, with intervals and the floor; `own` rows as stars.

    Lines are moved apart a little along x, so that their intervals can be seen. Raises ValueError as `table` does.
    """
    _one_table(rows)
    _one_table([*rows, *own])
    figure, axis = plt.subplots(figsize=(8.5, 3.8))
    names = list(dict.fromkeys((row.sampler, row.grid) for row in rows))
    for k, (sampler, grid) in enumerate(names):
        line = sorted((row for row in rows if (row.sampler, row.grid) == (sampler, grid)), key=lambda row: row.nfe)
        (colour, marker), dash = LOOKS.get(sampler, (SKY, "^")), DASHES.get(grid, ":")
        calls = [row.nfe * 1.02 ** (k - len(names) / 2) for row in line]
        quality = [row.fid for row in line]
        axis.plot(calls, quality, dash, marker=marker, ms=4, lw=1.2, color=colour, label=f"{sampler}, {grid}")
        axis.vlines(calls, [row.low for row in line], [row.high for row in line], colour, lw=0.8, alpha=0.6)
    for row in own:
        axis.plot(row.nfe, row.fid, "*", ms=14, color=YELLOW, mec=BLACK, mew=0.8, label=f"{row.sampler}, {row.grid}")
    axis.axhline(rows[0].floor, color=BLACK, lw=1, ls=":", label="real images")
    found = [row.fid for row in (*rows, *own)]
    axis.set(xscale="log", xlabel="network calls a sample", ylabel=f"FID, n = {rows[0].n:,}")
    if max(found) > 10 * min(found):
        axis.set(yscale="log")
    else:
        axis.set(ylim=(0, None))
    ticks = [b for b in BUDGETS if b <= 1.1 * max(row.nfe for row in (*rows, *own))]
    axis.set_xticks(ticks, [f"{b:,}" for b in ticks])
    axis.minorticks_off()
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def at(rows: Sequence[Row], budget: int) -> dict[tuple[str, str], Row]:
    """The rows of one column of the table, by (sampler, grid): those that belong to this budget of network calls."""
    require_count("budget", budget)
    return {(row.sampler, row.grid): row for row in rows if _budget(row) == budget}


def _budget(row: Row) -> int:
    """The smallest budget that the row stays within; its own number of calls beyond them all."""
    return next((budget for budget in BUDGETS if row.nfe <= budget), row.nfe)


def _shown(row: Row | None) -> str:
    return "" if row is None else f"{row.fid:.3f} ±{(row.high - row.low) / 2:.3f}"


def _one_table(rows: Sequence[Row]) -> int:
    for row in rows:
        require_type("rows", row, Row, "rows of a leaderboard")
    found = sorted({row.n for row in rows})
    if len(found) != 1:
        raise ValueError(f"rows: wanted rows of one n, since FID depends on it, got n = {found or 'none at all'}")
    tables = sorted({(row.network, row.sha256, row.seed) for row in rows})
    if len(tables) != 1:
        raise ValueError(f"rows: wanted rows of one network, the same weights and one seed, got {tables}; see `stored`")
    return found[0]
