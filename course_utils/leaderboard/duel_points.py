"""GANs against diffusion on mixtures whose modes can be counted: a row a seed, stored (lesson 18).

All networks have the same hidden layers, and every method may spend the same FLOPs on training, whatever it needs them
for: a critic, penalties, a teacher and its paths. Ten seeds train side by side (`adversarial.networks`), from the same
draws of noise levels, and share nothing else.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from course_utils import metrics, toy
from course_utils._validate import require_one_of
from course_utils.adversarial import PointDenoiser, point_rivals
from course_utils.denoisers import Denoiser
from course_utils.leaderboard.rows import path_of, read, write
from course_utils.samplers import sample_dpmpp_2m, sample_flow_map, uniform_grid
from course_utils.schedules import VE
from course_utils.tasks import Adversarial, Denoising, Jumping, Task
from course_utils.training import Training, train

TABLE = "duel-points"  # its file, in data/leaderboard

WORLDS: dict[str, toy.GaussianMixture] = {"25 on a grid": toy.grid_of_spots(), "8 on a ring": toy.ring_of_spots()}
BUDGET = 5e10
"""FLOPs of training, a seed."""
SEEDS, BATCH, N, WIDTH, CALLS, PAIRS, EMA = 10, 128, 2500, 64, 12, 8000, 0.99
GANS: dict[str, dict[str, Any]] = {
    "GAN": {"task": Adversarial("non_saturating"), "lr": 1e-3, "betas": (0.5, 0.99)},
    "packed GAN": {"task": Adversarial("non_saturating"), "lr": 2e-3, "betas": (0.5, 0.99), "pack": 2},
    "relativistic, R1 + R2": {"task": Adversarial("relativistic", 0.1, 0.1), "lr": 2e-3, "betas": (0.0, 0.99)},
}
"""How each plays: of what was tried on other seeds, what found most modes (docs/measured.md says all of it)."""
METHODS = (*GANS, "diffusion", "one step")
NOISE = VE(0.005, 20.0)
"""Even in log sigma: half of the training, and of the steps, go to noises below a third of the distance of spots."""


@dataclasses.dataclass(frozen=True)
class PointRow:
    """One seed of one method, and all that its figures depend on."""

    world: str
    method: str
    seed: int
    found: int  # modes, of good samples among n: `metrics.mode_coverage`
    good: float
    reverse_kl: float
    n: int
    steps: int  # of training, a teacher's not counted
    flops: float  # of training, a seed
    calls: int  # of the network, a point
    width: int


class Flops(TorchDispatchMode):
    """Adds up, in `total`, what PyTorch's formulas say of every matrix product and convolution within it.

    PyTorch's own counter also names the modules; its hooks do not bear the derivative of a derivative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def batches_of(world: toy.GaussianMixture, copies: int) -> Callable[[int, torch.Generator], Tensor]:
    """What makes batches (n, copies, 2) for `train`."""

    def batch(n: int, generator: torch.Generator) -> Tensor:
        return cast(Tensor, world.sample(n * copies, generator)).float().reshape(n, copies, -1)

    return batch


def spend(make: Callable[[], Training], data: Any, task: Task, flops: float) -> Training:
    """A new run, after as many steps as `flops` pay for, all copies together: one is taken before, and counted."""
    trial = make()
    with Flops() as counted:
        next(train(trial, data, steps=1, task=task, batch_size=BATCH))
    run = make()
    for _ in train(run, data, steps=int(flops / counted.total), task=task, batch_size=BATCH, clip=math.inf):
        pass
    return run


def _made(make: Callable[..., nn.Module], seed: int, **how: Any) -> Any:
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        return make(width=WIDTH, **how)


@torch.no_grad()
def _gan(method: str, world: toy.GaussianMixture, copies: int, flops: float, seed: int) -> tuple[Tensor, int]:
    how = dict(GANS[method])
    task, pack = how.pop("task"), how.pop("pack", 1)

    def make() -> Training:
        model = _made(point_rivals, seed, copies=copies, pack=pack)
        parts = {"critic": how, "generator": how}
        return Training(model, parts=parts, ema=EMA, seed=seed, precision=torch.float32)

    run = spend(make, batches_of(world, copies), task, flops * copies)
    model = run.averaged()
    return model(torch.randn(N, *model.generator.latent, generator=torch.Generator().manual_seed(seed))), run.step


@torch.no_grad()
def _diffusion(method: str, world: toy.GaussianMixture, copies: int, flops: float, seed: int) -> tuple[Tensor, int]:
    """Diffusion; or, for half of the FLOPs, a teacher, and for the rest its paths and one that learns their ends."""
    data, scale = batches_of(world, copies), world.means.square().mean().sqrt().item()
    how: dict[str, Any] = {"lr": 4e-3, "ema": EMA, "seed": seed, "precision": torch.float32}

    def make() -> Training:
        return Training(Denoiser(_made(PointDenoiser, seed, copies=copies), NOISE, "v", 0.0, scale), **how)

    one = method == "one step"
    teacher = spend(make, data, Denoising(), copies * (flops / 2 if one else flops))
    model, grid = teacher.averaged(), uniform_grid(NOISE, CALLS)
    noise, sigma = torch.Generator().manual_seed(seed), NOISE.coeffs(1.0)[1].item()
    if not one:
        return sample_dpmpp_2m(model, sigma * torch.randn(N, copies, 2, generator=noise), NOISE, grid), teacher.step
    with Flops() as drawing:
        starts = sigma * torch.randn(PAIRS, copies, 2, generator=noise)
        ends = torch.cat([sample_dpmpp_2m(model, x, NOISE, grid) for x in starts.split(1000)])
    pairs, left = torch.stack([starts, ends], 1), copies * flops / 2 - drawing.total
    student = spend(make, pairs, Jumping(times=(1.0, 0.0)), left)
    x_T = sigma * torch.randn(N, copies, 2, generator=noise)
    return sample_flow_map(student.averaged(), x_T, NOISE, [1.0, 0.0]), student.step


def samples_of(
    method: str, world: toy.GaussianMixture, *, copies: int = SEEDS, flops: float = BUDGET, seed: int = 0
) -> tuple[Tensor, int]:
    """Points (N, copies, 2) of `copies` trainings, and the steps that each took."""
    require_one_of("method", method, METHODS)
    return (_gan if method in GANS else _diffusion)(method, world, copies, flops, seed)


def load(folder: Path | None = None) -> list[PointRow]:
    """The stored rows, none if there is no file. Raises DataError if it is damaged."""
    return read(path_of(TABLE, folder), PointRow)


def run_points(
    seed: int = 0, *, copies: int = SEEDS, flops: float = BUDGET, folder: Path | None = None
) -> Iterator[list[PointRow]]:
    """Train and measure what is missing: the rows of one world's method at a time, written before they are yielded.

    Seeds are seed, seed + 1, …, one a copy. Stop it whenever you like.
    """
    for world, method in itertools.product(WORLDS, METHODS):
        there = {(row.world, row.method, row.seed, row.flops) for row in load(folder)}
        if all((world, method, seed + i, flops) in there for i in range(copies)):
            continue
        x, steps = samples_of(method, WORLDS[world], copies=copies, flops=flops, seed=seed)
        rows = [
            PointRow(
                world,
                method,
                seed + i,
                *metrics.mode_coverage(x[:, i], WORLDS[world]),
                n=len(x),
                steps=steps,
                flops=flops,
                calls=CALLS if method == "diffusion" else 1,
                width=WIDTH,
            )
            for i in range(copies)
        ]
        again = {(row.world, row.method, row.seed, row.flops) for row in rows}
        rest = [row for row in load(folder) if (row.world, row.method, row.seed, row.flops) not in again]
        write(path_of(TABLE, folder), PointRow, [*rest, *rows])
        yield rows
