"""What lets a network of photographs learn more from as many of them: one idea at a time, against one recipe.

`run_photographs` trains what is missing in `data/leaderboard/photographs.csv` and writes each row before it goes on;
`course bench photographs` calls it. A training goes on where it was stopped, too: its run lies in the folder `work`.

* A way is `BASELINE` with what `WAYS` says: the same number of photographs seen and the same seed, so the same start,
  order and noises where networks are alike. The rate rises over a tenth of the steps and falls to zero at the end.
* Held-out loss: of v, on 1,000 photographs of the embedded test split, told their classes, each at `REPEATS` times.
  Every way meets the same noises at the same times, so that the difference to the baseline is known far better than
  either loss. Its interval is for other photographs; it does not cover another training.
* FID against the 50,000 photographs in the course's own features, n = `N`, DPM-Solver++ 2M on `CALLS` uniform steps.
* Of each run several averages of the weights are kept. Samples are drawn from the first; of the baseline, from all.
  A decay of 0.999 is not reached by step 9,000: until then it is (1 + step) / (10 + step), see `runs.EMA`.
* "progressive" spends half of its operations on photographs of 16 × 16 first, in the same network. It is told the
  log-SNR of what it sees, at either size, so that to its convolutions a share of noise in a pixel is called the same.
  (Means over 2 × 2 pixels have log 4 more: a network that looked at whole pictures might rather be told that.)
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_utils import metrics, runtime
from course_utils._validate import require_count, require_one_of
from course_utils.checkpoints import load_checkpoint, save_checkpoint
from course_utils.denoisers.costs import count_flops
from course_utils.files import write_atomically
from course_utils.leaderboard import rows
from course_utils.leaderboard.architectures import held_out_losses
from course_utils.recipes import Recipe, load_data, make_model
from course_utils.run_folder import begin, train_recipe
from course_utils.samplers import sample_dpmpp_2m, uniform_grid
from course_utils.training import Training

TABLE = "photographs"  # its file, in data/leaderboard

BASELINE = Recipe(  # "cifar10-unet", as the sweep found it
    "baseline",
    "cifar10",
    full=True,
    network={"channels": 3, "widths": [96, 144, 144], "blocks": 1, "attention": [1, 2], "num_classes": 10},
    task={"kind": "denoising", "times": "cosine", "flip": True},
    batch_size=64,
    lr=2e-3,
    ema=[0.999, 0.98, 0.9],
)
_MUON: dict[str, Any] = {"optimizer": "muon", "lr": 4e-3}
WAYS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "muon-2e-3": {"optimizer": "muon"},
    "muon-4e-3": _MUON,
    "muon-8e-3": {"optimizer": "muon", "lr": 8e-3},
    "adamw-1e-3": {"lr": 1e-3},
    "adamw-4e-3": {"lr": 4e-3},
    "progressive": {"small": 0.5},
    "deeper": {"network": {"widths": [96, 128, 144], "blocks": [1, 1, 2]}},
    "deeper-narrow": {"network": {"widths": [80, 112, 144], "blocks": [1, 2, 2]}},
    "stem-1": {"network": {"widths": [32, 64, 144, 160], "attention": [2, 3], "stem": 1}},
    "lognormal": {"task": {"times": "lognormal"}},
    "uniform": {"task": {"times": "uniform"}},
    "batch-32": {"batch_size": 32},
    "batch-128": {"batch_size": 128},
    "dropout": {"network": {"dropout": 0.1}},
    "muon-progressive": {**_MUON, "small": 0.5},
    "muon-deeper": {**_MUON, "network": {"widths": [96, 128, 144], "blocks": [1, 1, 2]}},
    "muon-stem-1": {**_MUON, "network": {"widths": [32, 64, 144, 160], "attention": [2, 3], "stem": 1}},
    "muon-batch-128": {**_MUON, "batch_size": 128},
}
"""In which settings a way differs from BASELINE; networks at about as many operations. What matters most first, and
then on top of what won. "small" is no setting: the share of operations that is spent first on small photographs."""
PHOTOGRAPHS, N, CALLS, REPEATS = 64_000, 2000, 20, 4
SHAPE, SMALLER = (3, 32, 32), ("cifar10-16", (3, 16, 16))
Watch = Callable[[str, int, int], object]  # told a training's name, the steps done and all of them


class PhotographPlan(NamedTuple):
    """A training to be made and measured."""

    way: str  # one of WAYS
    seed: int = 0
    photographs: int = PHOTOGRAPHS  # that a step costs: those of 16 × 16 count as their operations do


@dataclasses.dataclass(frozen=True)
class PhotographRow:
    """One average of a training's weights, what was measured of it, and all that it depends on."""

    way: str
    seed: int
    photographs: int
    average: float  # decay
    optimizer: str
    lr: float
    steps: int
    batch: int
    parameters: int
    training_flops: float  # of all steps: backward costs twice what forward does
    seconds: float  # processor seconds of all threads: the median step, times the steps
    loss: float  # of v, held out
    difference: float  # of it, to the baseline's of the same seed and photographs, first average
    difference_low: float  # a 95 % interval of that, for other held-out photographs
    difference_high: float
    fid: float  # not a number where nothing was drawn
    low: float  # a 95 % interval of it, for other draws of n samples
    high: float
    floor: float  # the same figure for n real photographs of the test split
    agreement: float
    n: int
    device: str
    precision: str

    @property
    def key(self) -> tuple:
        """What makes a measurement another one."""
        return self.way, self.seed, self.photographs, self.average


def trainings(plan: PhotographPlan) -> list[Recipe]:
    """The recipes of a plan, to be trained one after the other: one, or two if small photographs come first."""
    require_one_of("way", plan.way, WAYS)
    changes = {
        key: getattr(BASELINE, key) | value if isinstance(value, dict) else value
        for key, value in WAYS[plan.way].items()
        if key != "small"
    }
    share = WAYS[plan.way].get("small")
    name = f"{plan.way}-{plan.photographs}-{plan.seed}"
    recipe = dataclasses.replace(BASELINE, name=name, seed=plan.seed, **changes)
    steps = require_count("photographs", plan.photographs // recipe.batch_size)
    if share is None:
        return [_for_steps(recipe, steps)]
    network = make_model(recipe, (0.0, 1.0)).network
    cheaper = count_flops(network, SHAPE) / count_flops(network, SMALLER[1])
    small = dataclasses.replace(recipe, name=f"{name}-small", dataset=SMALLER[0])
    late = steps - int(share * steps)
    return [
        _for_steps(small, max(1, round((steps - late) * cheaper))),
        _for_steps(dataclasses.replace(recipe, start=small.name), late),
    ]


def _for_steps(recipe: Recipe, steps: int) -> Recipe:
    return dataclasses.replace(recipe, steps=steps, warmup=max(1, steps // 10))


def training_flops(recipe: Recipe) -> float:
    """Floating-point operations of a training."""
    shape = SMALLER[1] if recipe.dataset == SMALLER[0] else SHAPE
    return float(recipe.calls * count_flops(make_model(recipe, (0.0, 1.0)).network, shape))


def trained(recipe: Recipe, work: Path, watch: Watch | None = None) -> tuple[Training, float]:
    """A recipe's run, gone on with in its folder until it is done; and the processor seconds of a step, the median."""
    folder = work / recipe.name
    run, note, taken = begin(recipe, folder, device=runtime.pick_device()), folder / "seconds.txt", list[float]()
    records = train_recipe(run, recipe, load_data(recipe), folder) if run.step < recipe.steps else ()
    last = time.process_time()
    for record in records:
        now = time.process_time()
        taken.append(now - last)
        last = now
        if watch:
            watch(recipe.name, record.step, recipe.steps)
    if taken:
        write_atomically(note, f"{statistics.median(taken)}".encode())
    return run, float(note.read_text(encoding="ascii")) if note.exists() else math.nan


def measure_photographs(plan: PhotographPlan, run: Training, decay: float, seconds: float, work: Path) -> PhotographRow:
    """What one average of a plan's run is worth."""
    model, recipes, first = run.averaged(decay), trainings(plan), run.ema.decay
    losses = _measure_losses(plan, run, decay, work)
    reference = _losses_of(plan._replace(way="baseline"), first, work)
    baseline = load_checkpoint(reference)["losses"] if reference.exists() else losses * math.nan
    difference = metrics.mean_difference(losses, baseline)
    drawn: dict[str, Any] = dict.fromkeys(("fid", "low", "high", "floor", "agreement"), math.nan)
    if decay == first or plan.way == "baseline":
        how: dict[str, Any] = {"n": N, "full": BASELINE.full, "sampler": sample_dpmpp_2m, "precision": run.precision}
        score = metrics.evaluate(model, BASELINE.dataset, timesteps=uniform_grid(model.schedule, CALLS), **how)
        assert score.agreement is not None
        low, high = score.interval
        drawn = {"fid": score.fid, "low": low, "high": high, "floor": score.floor, "agreement": score.agreement.value}
    return PhotographRow(
        *plan,
        average=decay,
        optimizer=recipes[-1].optimizer,
        lr=recipes[-1].lr,
        steps=sum(recipe.steps for recipe in recipes),
        batch=recipes[-1].batch_size,
        parameters=sum(weight.numel() for weight in model.parameters()),
        training_flops=sum(map(training_flops, recipes)),
        seconds=seconds,
        loss=losses.mean().item(),
        difference=difference.value,
        difference_low=difference.low,
        difference_high=difference.high,
        **drawn,
        n=N,
        device=runtime.device_name(run.device),
        precision=str(run.precision).removeprefix("torch."),
    )


def _measure_losses(plan: PhotographPlan, run: Training, decay: float, work: Path) -> Tensor:
    """The held-out loss on each photograph, which is written beside the run, too."""
    model = run.averaged(decay)
    with torch.autocast(run.device.type, run.precision, enabled=run.precision != torch.float32):
        each = [held_out_losses(model, BASELINE.dataset, seed=seed) for seed in range(REPEATS)]
    losses = torch.stack(each).mean(0)
    save_checkpoint(_losses_of(plan, decay, work), {"losses": losses})
    return losses


def _losses_of(plan: PhotographPlan, decay: float, work: Path) -> Path:
    return work / trainings(plan)[-1].name / f"losses-{decay:g}.pt"


def load_photographs(folder: Path | None = None) -> list[PhotographRow]:
    """The stored rows. Raises DataError if the file is damaged."""
    return rows.read(rows.path_of(TABLE, folder), PhotographRow)


def run_photographs(
    work: Path,
    ways: Sequence[str] = tuple(WAYS),
    *,
    seeds: Sequence[int] = (0,),
    photographs: int = PHOTOGRAPHS,
    folder: Path | None = None,
    watch: Watch | None = None,
) -> Iterator[PhotographRow]:
    """Train and measure what is missing, the baseline first, and yield each row once it is in the file.

    Args:
        work: where the runs lie, with their checkpoints and the losses of each photograph.
    """
    averages = BASELINE.ema if isinstance(BASELINE.ema, list) else [BASELINE.ema]
    for way in ways:
        require_one_of("way", way, WAYS)
    plans = [PhotographPlan(way, seed, photographs) for seed in seeds for way in dict.fromkeys(("baseline", *ways))]

    def missing(plan: PhotographPlan) -> list[float]:
        there = {row.key for row in load_photographs(folder)}
        return [decay for decay in averages if (*plan, decay) not in there]

    for plan in plans:
        todo, compared_to = missing(plan), any(missing(other) for other in plans if other.seed == plan.seed)
        # The baseline's row may be another machine's, which has kept the losses that others are compared with
        lost = plan.way == "baseline" and compared_to and not _losses_of(plan, averages[0], work).exists()
        if not (todo or lost):
            continue
        seconds = 0.0
        for recipe in trainings(plan):
            run, step_seconds = trained(recipe, work, watch)
            seconds += step_seconds * recipe.steps
        if lost and averages[0] not in todo:
            _measure_losses(plan, run, averages[0], work)
        for decay in todo:
            row = measure_photographs(plan, run, decay, seconds, work)
            rows.write(rows.path_of(TABLE, folder), PhotographRow, [*load_photographs(folder), row])
            yield row
