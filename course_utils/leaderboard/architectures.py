"""U-Net, DiT and Swin at equal cost: what each has learned for as many floating-point operations, or as many seconds.

`run_architectures` trains and measures what is missing of `plans`, in their order, and writes each row before it goes
on: stop it whenever you like; `course bench architectures` calls it. Lesson 17 reads the rows.

* The cost of a training step is 3 · batch · (FLOPs of a forward pass): backward costs twice what forward does.
* Each architecture has the learning rate of `RATES` that was best for it at the smallest budget, by held-out loss, with
  a seed that counts for nothing else. Other patch sizes take that of "dit".
* To choose a rate, and for other patch sizes, nothing is drawn: there FID is not a number.
* Equal seconds are processor seconds of one thread, by the median of some steps, the architectures taking turns.
* Photographs are the embedded ones, 5,000 to learn from and 1,000 unseen, as for `guided`.
"""

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_utils import metrics, runtime
from course_utils._validate import require_one_of
from course_utils.data import load_images, normalize
from course_utils.denoisers import Denoiser
from course_utils.denoisers.costs import activation_bytes, count_flops
from course_utils.forward import noise_like
from course_utils.leaderboard.rows import path_of, read, write
from course_utils.losses import denoising_loss
from course_utils.recipes import Recipe, make_model, make_task
from course_utils.samplers import quadratic_grid, sample_dpmpp_2m, uniform_grid
from course_utils.tasks.denoising import draw_t
from course_utils.training import Training, train

TABLE = "architectures"  # its file, in data/leaderboard

NETWORKS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "mnist": {
        "unet": ("unet", {"widths": (32, 64), "blocks": 1}),
        "dit": ("dit", {"width": 96, "blocks": 4, "patch": 4}),
        "swin": ("swin", {"widths": (32, 64), "window": 7}),
        "dit, patch 2": ("dit", {"width": 96, "blocks": 4, "patch": 2}),
        "dit, patch 7": ("dit", {"width": 96, "blocks": 4, "patch": 7}),
    },
    "cifar10": {
        "unet": ("unet", {"widths": (32, 64), "blocks": 1}),
        "dit": ("dit", {"width": 96, "blocks": 4, "patch": 4}),
        "swin": ("swin", {"widths": (32, 64), "window": 8}),
    },
}
THREE = ("unet", "dit", "swin")
BUDGETS = {"mnist": (1.0, 2.0, 4.0, 8.0, 16.0), "cifar10": (4.0, 8.0, 16.0)}  # of training, in 10^12 operations
RATES, RATE_SEED = (1e-3, 2e-3, 4e-3, 8e-3), 100
BATCH, N = 64, 1000


class ArchitecturePlan(NamedTuple):
    """A training to be made and measured."""

    dataset: str
    architecture: str
    equal: str  # "flops", also for "rate", to choose the learning rate, and for "patch"; or "seconds"
    budget: float  # 10^12 operations; for "seconds" those of the U-Net that took as long
    seed: int
    lr: float = 0.0  # 0 for the best of those tried


@dataclasses.dataclass(frozen=True)
class ArchitectureRow:
    """One training and what was measured after it, with all that it depends on."""

    dataset: str
    architecture: str
    equal: str
    budget: float
    seed: int
    lr: float
    steps: int
    batch: int
    parameters: int
    flops: int  # of a forward pass of one image
    activation_bytes: int  # kept for the backward pass, of one image
    step_seconds: float  # processor seconds of one thread, median, the architectures taking turns
    loss: float  # of `held_out_loss`
    fid: float  # of n samples against the training images; DPM-Solver++ 2M, ten steps
    low: float  # a 95 % interval of it, for other draws of n samples
    high: float
    floor: float  # the same figure for n real images of the test split
    n: int
    agreement: float
    device: str
    precision: str

    @property
    def plan(self) -> ArchitecturePlan:
        return ArchitecturePlan(self.dataset, self.architecture, self.equal, self.budget, self.seed, self.lr)


def plans(dataset: str) -> list[ArchitecturePlan]:
    """What is to be measured, the most telling first."""
    small, middle, *_ = budgets = BUDGETS[dataset]
    others = [name for name in NETWORKS[dataset] if name not in THREE]
    seeds = range(3)
    return [
        *(ArchitecturePlan(dataset, name, "rate", small, RATE_SEED, lr) for name in THREE for lr in RATES),
        *(
            ArchitecturePlan(dataset, name, "flops", budget, seed)
            for budget in budgets[:2]
            for seed in seeds
            for name in THREE
        ),
        *(ArchitecturePlan(dataset, name, "patch", middle, seed) for seed in seeds for name in others),
        *(ArchitecturePlan(dataset, name, "seconds", middle, seed) for seed in seeds for name in THREE),
        *(
            ArchitecturePlan(dataset, name, "flops", budget, seed)
            for budget in budgets[2:]
            for seed in seeds
            for name in THREE
        ),
    ]


def recipe_for(dataset: str, architecture: str, seed: int = 0) -> Recipe:
    """The network and the task of a contender, as a recipe."""
    require_one_of("dataset", dataset, NETWORKS)
    require_one_of("architecture", architecture, NETWORKS[dataset])
    kind, network = NETWORKS[dataset][architecture]
    photographs = dataset == "cifar10"
    network = {"channels": 3 if photographs else 1, "num_classes": 10, **network}
    task: dict[str, Any] = {"kind": "denoising", "times": "cosine"} | ({"flip": True} if photographs else {})
    return Recipe(f"{dataset}-{architecture}", dataset, architecture=kind, network=network, task=task, seed=seed)


def shape_of(dataset: str) -> tuple[int, int, int]:
    """Of an image."""
    return (1, 28, 28) if dataset == "mnist" else (3, 32, 32)


def step_flops(denoiser: Denoiser, dataset: str) -> int:
    """Floating-point operations of a training step."""
    return 3 * BATCH * count_flops(denoiser.network, shape_of(dataset))


def held_out_loss(denoiser: Denoiser, dataset: str, n: int = N) -> float:
    """The loss on n images of the test split, told their classes, always with the same noises and at the same times."""
    return held_out_losses(denoiser, dataset, n).mean().item()


@torch.no_grad()
def held_out_losses(denoiser: Denoiser, dataset: str, n: int = N, seed: int = 0) -> Tensor:
    """The loss on each of these images, in their order; for each seed at times, and with noises, of its own."""
    device, generator = next(denoiser.parameters()).device, torch.Generator().manual_seed(seed)
    images, labels = load_images(dataset, "test", n=n)
    order, losses = torch.randperm(n, generator=generator), []
    t = draw_t(denoiser.schedule, n, generator, "cosine")
    for chosen, times in zip(order.split(100), t[torch.randperm(n, generator=generator)].split(100), strict=True):
        x_0 = normalize(images[chosen])
        eps = noise_like(x_0, generator)
        x_0, eps = (x.to(device, memory_format=torch.channels_last) for x in (x_0, eps))
        how: dict[str, Any] = {"label": labels[chosen].to(device), "data_std": denoiser.data_std}
        losses.append(denoising_loss(denoiser, x_0, times.to(device), denoiser.schedule, eps, **how))
    return torch.cat(losses).cpu()[order.argsort()]


def seconds_a_step(dataset: str, names: Sequence[str], turns: int = 9) -> dict[str, float]:
    """Processor seconds of a training step of each: the median over turns, in which each takes one."""
    images, labels = load_images(dataset, "train", n=BATCH * 4)
    runs = {name: Training(make_model(recipe_for(dataset, name)), device=runtime.pick_device()) for name in names}
    streams = {name: train(run, images, labels, steps=turns + 2, batch_size=BATCH) for name, run in runs.items()}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(turns + 2):
        for name, stream in streams.items():
            start = time.process_time()
            next(stream)
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(seconds[2:]) for name, seconds in taken.items()}


def chosen_rate(rows: Sequence[ArchitectureRow], dataset: str, architecture: str) -> float:
    """The learning rate of those tried that had the lowest held-out loss; that of "dit" for every patch size."""
    tried = [r for r in rows if (r.dataset, r.architecture, r.equal) == (dataset, architecture.split(",")[0], "rate")]
    if len(tried) < len(RATES):
        raise ValueError(f"rows: wanted {len(RATES)} learning rates tried for {architecture}, got {len(tried)}")
    return min(tried, key=lambda row: row.loss).lr


def measure_architecture(plan: ArchitecturePlan, steps: int, step_seconds: float) -> ArchitectureRow:
    """Train as a plan says, for so many steps, and measure."""
    device, recipe = runtime.pick_device(), recipe_for(plan.dataset, plan.architecture, plan.seed)
    precision = runtime.pick_precision(device)
    shape, photographs = shape_of(plan.dataset), plan.dataset == "cifar10"
    images, labels = load_images(plan.dataset)
    run = Training(make_model(recipe), lr=plan.lr, seed=plan.seed, device=device, precision=precision)
    how: dict[str, Any] = {"task": make_task(recipe), "batch_size": BATCH, "warmup": max(1, steps // 10)}
    for _ in train(run, images, labels, steps=steps, **how):
        pass
    model = run.averaged()
    drawn: dict[str, Any] = dict.fromkeys(("fid", "low", "high", "floor", "agreement"), float("nan"))
    if plan.equal in ("flops", "seconds"):
        grid = (quadratic_grid if photographs else uniform_grid)(model.schedule, 10)
        draws: dict[str, Any] = {"n": N, "sampler": sample_dpmpp_2m, "timesteps": grid, "precision": precision}
        score = metrics.evaluate(model, plan.dataset, full=not photographs, **draws)
        assert score.agreement is not None
        low, high = score.interval
        drawn = {"fid": score.fid, "low": low, "high": high, "floor": score.floor, "agreement": score.agreement.value}
    return ArchitectureRow(
        **plan._asdict(),
        steps=steps,
        batch=BATCH,
        parameters=sum(weight.numel() for weight in model.parameters()),
        flops=count_flops(model.network, shape),
        activation_bytes=activation_bytes(model.network, shape),
        step_seconds=step_seconds,
        loss=held_out_loss(model, plan.dataset),
        **drawn,
        n=N,
        device=runtime.device_name(device),
        precision=str(precision).removeprefix("torch."),
    )


def load_architectures(folder: Path | None = None) -> list[ArchitectureRow]:
    """The stored rows. Raises DataError if the file is damaged."""
    return read(path_of(TABLE, folder), ArchitectureRow)


def run_architectures(
    dataset: str, todo: Sequence[ArchitecturePlan] | None = None, folder: Path | None = None
) -> Iterator[ArchitectureRow]:
    """Train and measure what is missing, and yield each row once it is in the file."""
    todo = plans(dataset) if todo is None else todo
    done = [row for row in load_architectures(folder) if row.dataset == dataset]
    seconds = {row.architecture: row.step_seconds for row in done}
    new = dict.fromkeys(plan.architecture for plan in todo if plan.architecture not in seconds)
    seconds |= seconds_a_step(dataset, list(new)) if new else {}
    costs = {name: step_flops(make_model(recipe_for(dataset, name)), dataset) for name in seconds | new}
    for plan in todo:
        rows = load_architectures(folder)
        plan = plan if plan.lr else plan._replace(lr=chosen_rate(rows, dataset, plan.architecture))
        if any(row.plan == plan for row in rows):
            continue
        steps = round(plan.budget * 1e12 / costs[plan.architecture])
        if plan.equal == "seconds":
            steps = round(plan.budget * 1e12 / costs["unet"] * seconds["unet"] / seconds[plan.architecture])
        same = (dataset, plan.architecture, plan.seed, plan.lr, steps)
        again = [row for row in rows if (row.dataset, row.architecture, row.seed, row.lr, row.steps) == same]
        row = (
            dataclasses.replace(again[0], equal=plan.equal, budget=plan.budget)
            if again
            else measure_architecture(plan, steps, seconds[plan.architecture])
        )
        write(path_of(TABLE, folder), ArchitectureRow, [*load_architectures(folder), row])
        yield row
