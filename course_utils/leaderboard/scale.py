"""Four ways to a digit of 28 × 28, trained at equal cost: one network, a cascade, one told clean pictures only, codes.

`run_scale` measures what is missing in `data/leaderboard/scale.csv`, a row at a time; `course bench scale` does so, and
lesson 16 reads it. The networks are shipped: `course train NAME` and `course ship NAME` make them again.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_utils import pretrained, recipes, runtime
from course_utils._validate import require_one_of
from course_utils.denoisers.costs import count_flops
from course_utils.leaderboard.rows import path_of, read, weights, write

TABLE = "scale"  # its file, in data/leaderboard

WAYS: dict[str, tuple[str, ...]] = {
    "one network": ("mnist-pixels",),
    "cascade": ("mnist-upscaler", "mnist-seven"),
    "cascade, clean": ("mnist-upscaler-clean", "mnist-seven"),
    "codes": ("mnist-latent", "mnist-autoencoder"),
}
"""The networks of each, the one that is measured first."""
_SHAPES = {"mnist-seven": (1, 7, 7), "mnist-latent": (4, 7, 7)}  # the others: digits of 28 × 28


class ScalePlan(NamedTuple):
    """A measurement to be made."""

    way: str
    r: int  # of the augmentation in sampling; 0 where there is none
    n: int = 2000
    seed: int = 0
    calls: int = 10
    base_calls: int = 10  # of the network of small pictures; with few of them they are worse


@dataclasses.dataclass(frozen=True)
class ScaleRow:
    """One measurement, and all that it depends on."""

    way: str
    sha256: str  # of the networks' files, their first twelve digits, joined by +
    r: int
    n: int
    seed: int
    calls: int  # DDIM steps of the network named first
    base_calls: int  # and of the one of small pictures
    training_flops: float  # of all networks together
    sample_flops: float
    fid: float
    low: float  # a 95 % interval, for other draws of n samples; it does not cover another training
    high: float
    floor: float
    agreement: float
    device: str
    precision: str

    @property
    def plan(self) -> ScalePlan:
        """What it is a measurement of."""
        return ScalePlan(self.way, self.r, self.n, self.seed, self.calls, self.base_calls)


PLANS = (
    *(ScalePlan(way, r) for way, r in (("one network", 0), ("cascade, clean", 0), ("cascade", 0), ("codes", 0))),
    *(ScalePlan("cascade", r) for r in (50, 100, 200, 25)),
    *(ScalePlan(way, r, base_calls=2) for way, r in (("cascade, clean", 0), ("cascade", 0), ("cascade", 50))),
    *(ScalePlan("cascade", r, base_calls=2) for r in (100, 200, 25)),
    *(ScalePlan(way, 0, n=10_000) for way in ("cascade", "cascade, clean", "one network", "codes")),
)
"""What matters most first."""


def forward_flops(name: str) -> int:
    """Floating-point operations of one forward pass of a recipe's network, for one picture."""
    recipe = recipes.RECIPES[name]
    model: Any = recipes.make_model(recipe)
    shape = _SHAPES.get(name, (1, 28, 28))
    x = torch.zeros(1, *shape)
    if recipe.schedule is None:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(x, torch.zeros(1, *model.code_shape(x)))
        return counter.get_total_flops()
    network: nn.Module = model.network
    cond: dict[str, Tensor] = {"beside": x, "log_snr_r": torch.zeros(1)} if recipe.network.get("beside") else {}
    return count_flops(network, shape, **cond)


def training_flops(name: str) -> float:
    """Of a whole training by a recipe: backward costs twice what forward does."""
    return float(forward_flops(name) * recipes.RECIPES[name].calls)


def measure_scale(plan: ScalePlan) -> ScaleRow:
    """Draw a plan's samples, look at them, and return the row."""
    require_one_of("way", plan.way, WAYS)
    names, device = WAYS[plan.way], runtime.pick_device()
    recipe, precision = pretrained.recipe_of(names[0]), runtime.pick_precision(device)
    task: Any = recipes.make_task(recipe)
    model: Any = pretrained.load_denoiser(names[0], device)
    if plan.way.startswith("cascade"):
        task = dataclasses.replace(task, augment=plan.r / model.schedule.T, base_steps=plan.base_calls)
    how = {"n": plan.n, "steps": plan.calls, "seed": plan.seed, "precision": precision}
    score = task.measure(model, "mnist", **how)
    asked = {"mnist-autoencoder": 1, "mnist-seven": plan.base_calls}  # a code is decoded once
    return ScaleRow(
        way=plan.way,
        sha256="+".join(weights(name) for name in names),
        r=plan.r,
        n=plan.n,
        seed=plan.seed,
        calls=plan.calls,
        base_calls=plan.base_calls,
        training_flops=sum(map(training_flops, names)),
        sample_flops=float(sum(asked.get(name, plan.calls) * forward_flops(name) for name in names)),
        fid=score.fid,
        low=score.interval[0],
        high=score.interval[1],
        floor=score.floor,
        agreement=score.agreement.value,
        device=runtime.device_name(device),
        precision=str(precision).removeprefix("torch."),
    )


def load_scale(folder: Path | None = None) -> list[ScaleRow]:
    """The stored rows of the weights that are shipped now. Raises DataError if the file is damaged."""
    shipped = pretrained.read_manifest()
    now = {way: "+".join(weights(n) for n in names) for way, names in WAYS.items() if set(names) <= set(shipped)}
    return [row for row in read(path_of(TABLE, folder), ScaleRow) if row.sha256 == now.get(row.way)]


def run_scale(folder: Path | None = None) -> Iterator[ScaleRow]:
    """Measure what is missing, and yield each row once it is in the file. Stop it whenever you like."""
    there = {row.plan for row in load_scale(folder)}
    for plan in PLANS:
        if plan not in there:
            row = measure_scale(plan)
            write(path_of(TABLE, folder), ScaleRow, [*load_scale(folder), row])
            yield row
