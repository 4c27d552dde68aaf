"""A GAN against a U-Net on digits, at one budget in FLOPs and at one in seconds: a row a training, stored (lesson 18).

The U-Net sets both: what its training took, in FLOPs as PyTorch counts them and in seconds of the processor, the GAN
may take as well, once each. Neither is told a class, so that the balance of the classes is theirs.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from course_utils import metrics, recipes, runtime
from course_utils.data import load_images
from course_utils.leaderboard.duel_points import Flops
from course_utils.leaderboard.rows import path_of, read, write
from course_utils.metrics.modes import train_features
from course_utils.recipes import Recipe
from course_utils.samplers import sample_dpmpp_2m, uniform_grid
from course_utils.training import Training, train

TABLE = "duel-digits"  # its file, in data/leaderboard

UNET = Recipe(
    "duel-unet",
    "mnist",
    network={"channels": 1, "widths": (16, 32), "blocks": 1},
    task={"kind": "denoising", "times": "cosine"},
    steps=600,
    batch_size=32,
    lr=8e-3,
    ema=0.99,
    warmup=50,
)
GAN = Recipe(
    "duel-gan",
    "mnist",
    architecture="digit_rivals",
    network={"latent": 64, "width": 16, "critic_width": 16},
    schedule=None,
    task={"kind": "adversarial", "r1": 0.2, "r2": 0.2},
    parts={"critic": {"lr": 5e-3, "betas": (0.0, 0.99)}, "generator": {"lr": 5e-3, "betas": (0.0, 0.99)}},
    batch_size=64,
    ema=0.99,
    warmup=50,
)
SLOWER = dataclasses.replace(
    GAN,
    name="duel-gan-slower",
    parts={"critic": {"lr": 2e-3, "betas": (0.0, 0.99)}, "generator": {"lr": 2e-3, "betas": (0.0, 0.99)}},
    batch_size=32,
)
"""Tried first: a little worse than GAN on the seed that both were tuned on."""
CHARGED = dataclasses.replace(GAN, name="duel-gan-charged", task={"kind": "adversarial", "r1": 5.0, "r2": 5.0})
"""With 25 times the penalty."""
OPEN = dataclasses.replace(GAN, name="duel-gan-open", network=GAN.network | {"bounded": False})
"""Without the tanh at the generator's end."""
RECIPES = {"U-Net": UNET, "GAN": GAN, "slower GAN": SLOWER, "charged GAN": CHARGED, "open GAN": OPEN}
DUELS = (
    *(("U-Net", "both"), ("GAN", "FLOPs"), ("GAN", "seconds")),
    *((f"{name} GAN", "FLOPs") for name in ("slower", "charged", "open")),
)
CALLS, N = 10, 1000


@dataclasses.dataclass(frozen=True)
class DigitRow:
    """One training, and all that its figures depend on."""

    method: str  # one of RECIPES
    budget: str  # "both", "FLOPs" or "seconds": in what it equals the U-Net of its seed
    unet_steps: int  # of the U-Net that set the budget
    seed: int
    steps: int
    flops: float  # of training
    seconds: float  # of the processor, for training
    weights: int  # of the network that draws
    calls: int  # of it, a picture
    one: float  # seconds of the processor, for a picture drawn alone
    fid: float
    low: float
    high: float
    floor: float
    precision: float
    recall: float
    real_recall: float
    class_kl: float
    n: int
    device: str
    dtype: str

    @property
    def key(self) -> tuple:
        """What makes a measurement another one."""
        return self.method, self.budget, self.unet_steps, self.seed, self.n


def load(folder: Path | None = None) -> list[DigitRow]:
    """The stored rows, none if there is no file. Raises DataError if it is damaged."""
    return read(path_of(TABLE, folder), DigitRow)


def run_digits(
    seeds: Any = range(5), *, steps: int = UNET.steps, n: int = N, folder: Path | None = None
) -> Iterator[DigitRow]:
    """Train and measure what is missing, and yield each row once it is in the file: for each seed the U-Net of so many
    steps, then GANs at its FLOPs and at its seconds. Stop it whenever you like.
    """
    for seed in seeds:
        for method, budget in DUELS:
            there = {row.key: row for row in load(folder)}
            if (method, budget, steps, seed, n) not in there:
                before = there.get(("U-Net", "both", steps, seed, n))
                row = duel(method, budget, steps=steps, seed=seed, n=n, before=before)
                write(path_of(TABLE, folder), DigitRow, [*load(folder), row])
                yield row


def duel(method: str, budget: str, *, steps: int, seed: int, n: int = N, before: DigitRow | None = None) -> DigitRow:
    """One training and its row; `before` is the U-Net's, whose FLOPs or seconds a GAN may spend."""
    recipe = dataclasses.replace(RECIPES[method], seed=seed)
    flops, taken = _cost_of_step(recipe)
    if before is not None:
        steps = max(1, int(before.flops / flops if budget == "FLOPs" else before.seconds / taken))
    run, data = _begun(recipe), (load_images("mnist")[0], None)
    how: dict[str, Any] = {"batch_size": recipe.batch_size, "warmup": recipe.warmup, "task": recipes.make_task(recipe)}
    began = time.process_time()
    for _ in train(run, *data, steps=steps, **how):
        pass
    seconds = time.process_time() - began
    model = run.averaged()
    images, one, calls = draw(model, n, seed), seconds_alone(model), CALLS if method == "U-Net" else 1
    score, real = metrics.score_images(images, "mnist", seed=seed), metrics.reference("mnist")
    floor = metrics.precision_recall(real.test[real.draws(n)[0]], train_features("mnist", n))
    drawing = model if method == "U-Net" else model.generator
    return DigitRow(
        method=method,
        budget=budget,
        unet_steps=before.unet_steps if before else steps,
        seed=seed,
        steps=steps,
        flops=flops * steps,
        seconds=seconds,
        weights=sum(w.numel() for w in drawing.parameters()),
        calls=calls,
        one=one,
        fid=score.fid.value,
        low=score.fid.low,
        high=score.fid.high,
        floor=score.floor,
        precision=score.precision,
        recall=score.recall,
        real_recall=floor.recall,
        class_kl=score.class_kl,
        n=n,
        device=runtime.device_name(run.device),
        dtype=str(run.precision).removeprefix("torch."),
    )


def _begun(recipe: Recipe) -> Training:
    how: dict[str, Any] = {"lr": recipe.lr, "ema": recipe.ema, "seed": recipe.seed, "parts": recipe.parts}
    return Training(recipes.make_model(recipe), **how)


def _cost_of_step(recipe: Recipe) -> tuple[float, float]:
    """FLOPs and seconds of a step: of the processor, the median of eight after two to warm up."""
    run, taken = _begun(recipe), []
    steps = train(
        run,
        load_images("mnist")[0],
        steps=11,
        batch_size=recipe.batch_size,
        warmup=recipe.warmup,
        task=recipes.make_task(recipe),
    )
    with Flops() as counted:
        next(steps)
    for _ in range(10):
        began = time.process_time()
        next(steps)
        taken.append(time.process_time() - began)
    return counted.total, sorted(taken[2:])[4]


def draw(model: Any, n: int, seed: int) -> Tensor:
    """n images as bytes: one call of a generator, CALLS of a denoiser by DPM-Solver++(2M) on the uniform grid."""
    if hasattr(model, "generator"):
        return metrics.draw_generated(model, n, seed=seed)
    images, _ = metrics.draw_images(
        model,
        model.schedule,
        (1, 28, 28),
        n,
        timesteps=uniform_grid(model.schedule, CALLS),
        sampler=sample_dpmpp_2m,
        generator=torch.Generator().manual_seed(seed),
        device=next(model.parameters()).device,
    )
    return images


def seconds_alone(model: Any, times: int = 20) -> float:
    """Seconds of the processor for one picture, drawn alone: the median, after one to warm up."""
    taken = []
    for i in range(times + 1):
        began = time.process_time()
        draw(model, 1, i)
        taken.append(time.process_time() - began)
    return sorted(taken[1:])[times // 2]
