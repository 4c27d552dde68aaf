"""When a network only remembers: its copies of training digits against their number, the steps, and regularisers.

`run_memory` trains what is missing in `data/leaderboard/memory.csv`, one network a plan, measures it on the way and
writes its rows before it goes on; `course bench memory` does so for all of `PLANS`. Lesson 16 reads the rows.

Digits are 14 × 14, means of 2 × 2 pixels, so that a sweep fits into minutes. Rates of learning hardly fall, so that
what is said of a step does not depend on when the run ended.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import recipes, runtime
from course_utils._contract import Count, Whole, checked
from course_utils._validate import require_count, require_type
from course_utils.cascades import downsample
from course_utils.classifier import look_at
from course_utils.data import denormalize, load_images, normalize, shifted
from course_utils.denoisers import Denoiser, UNet
from course_utils.forward import noise_like
from course_utils.leaderboard.rows import path_of, read, write
from course_utils.losses import denoising_loss
from course_utils.metrics import ratio_test
from course_utils.pretrained import load_classifier
from course_utils.recipes.parts import SMALL, small_images
from course_utils.samplers import sample_ddim, uniform_grid
from course_utils.schedules import linear
from course_utils.tasks import Denoising, draw_t
from course_utils.training import Training, train

TABLE = "memory"  # its file, in data/leaderboard

MOVES = torch.cartesian_prod(*2 * [torch.arange(-1, 2)])
REGULARISERS: dict[str, dict[str, Any]] = {
    "none": {},
    "dropout 0.3": {"dropout": 0.3},
    "weight decay 0.1": {"weight_decay": 0.1},
    "shifts by 1": {"shift": 1},
}
SAMPLES, CALLS, BATCH = 300, 10, 32
HORIZON = 64_000  # steps to which the rate would fall


class MemoryPlan(NamedTuple):
    """A network to be trained."""

    n: int  # training digits
    regulariser: str  # one of REGULARISERS
    seed: int
    at: tuple[int, ...]  # steps after which it is measured


@dataclasses.dataclass(frozen=True)
class MemoryRow:
    """What a network does after some steps."""

    n: int
    regulariser: str
    seed: int
    steps: int
    average: float  # decay of the average of its weights; 0 for the last weights, which are looked at once, at the end
    copies: int  # of `samples`, by `metrics.ratio_test`
    samples: int
    false_alarms: int  # of as many unseen digits of the test split, by the same test
    train_loss: float  # of v, on training digits, without dropout
    unseen_loss: float  # on unseen ones, at the same times with the same noises
    agreement: float  # share of samples in which the classifier sees, enlarged, the digit that was asked for
    real_agreement: float  # of as many unseen digits, made small and enlarged
    device: str
    precision: str

    @property
    def key(self) -> tuple:
        """What makes a measurement another one."""
        return self.n, self.regulariser, self.seed, self.steps, self.average


def _plans() -> tuple[MemoryPlan, ...]:
    short, medium, long = (250, 500, 1000, 2000), (500, 1000, 2000, 4000), (1000, 2000, 4000, 8000, 16_000)
    ways = [name for name in REGULARISERS if name != "none"]

    def each(sizes: Sequence[int], names: Sequence[str], at: tuple[int, ...]) -> list[MemoryPlan]:
        return [MemoryPlan(n, name, seed, at) for n in sizes for name in names for seed in (0, 1, 2)]

    first = each((50,), ["none"], short) + each((50,), ["shifts by 1", "dropout 0.3"], short[:3])
    first += each((100,), ["none"], short) + each((50,), ["weight decay 0.1"], short[:3])
    second = each((200, 1000), ["none"], short) + each((50,), ways, short) + each((200, 400), ["none"], medium)
    second += each((100,), ways, medium)
    return (*first, *second, *each((300, 1000, 3000, 60_000), ["none"], long), *each((300, 1000), ways, long))


PLANS = _plans()
"""What matters most first."""


@checked
def small_digits(n: Count, seed: Annotated[int, Whole(0)]) -> tuple[Tensor, Tensor]:
    """n random training digits of 14 × 14, floats in [-1, 1], and their labels; those of a smaller n are among them."""
    images, labels = small_images("mnist-14")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    return images[chosen], labels[chosen]


@checked
def unseen_digits(n: Count) -> tuple[Tensor, Tensor]:
    """n random digits of the test split, made as small, and their labels."""
    images, labels = load_images("mnist", "test")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    return downsample(normalize(images[chosen]), SMALL["mnist-14"][1]), labels[chosen]


def small_denoiser(dropout: float = 0.0, seed: int = 0) -> Denoiser:
    """The network of the sweep, before it learns."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        network = UNet(widths=(32, 64), blocks=1, attention=(), num_classes=10, dropout=dropout)
    return Denoiser(network, linear(), "v", *recipes.pixel_moments("mnist-14"))


def losses_at(model: Denoiser, x_0: Tensor, labels: Tensor, precision: torch.dtype = torch.float32) -> float:
    """The mean loss of v on some digits: always at the same times, with the same noises; in eval mode."""
    generator, device = torch.Generator().manual_seed(0), next(model.parameters()).device
    t = draw_t(model.schedule, len(x_0), generator, "cosine")
    eps = noise_like(x_0, generator)
    with torch.no_grad(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
        parts = zip(*(values.to(device).split(500) for values in (x_0, t, eps, labels)), strict=True)
        loss = [
            denoising_loss(model, x, t, model.schedule, e, data_std=model.data_std, label=y) for x, t, e, y in parts
        ]
    return torch.cat(loss).mean().item()


def train_on(
    x_0: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    shift: int = 0,
    at: Sequence[int],
    ema: float = 0.99,
) -> Iterator[tuple[int, Training]]:
    """Train the network of the sweep on some digits, and yield the run at the steps asked for."""
    device = runtime.pick_device()
    run = Training(small_denoiser(dropout, seed), lr=2e-3, weight_decay=weight_decay, ema=ema, seed=seed, device=device)

    def batch(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(x_0), (n,), generator=generator)
        x, by = x_0[rows], torch.randint(-shift, shift + 1, (n, 2), generator=generator)
        return (shifted(x, by) if shift else x), labels[rows]

    task = Denoising(times="cosine")
    for record in train(run, batch, steps=HORIZON, batch_size=BATCH, warmup=100, task=task):
        if record.step in at:
            yield record.step, run
        if record.step >= max(at):
            return


def measure_memory(plan: MemoryPlan) -> Iterator[MemoryRow]:
    """Train a plan's network, and yield what its average does on the way; at the end its last weights, too."""
    require_type("plan", plan, MemoryPlan, "a MemoryPlan")
    how = dict(REGULARISERS[plan.regulariser])
    moves = MOVES if how.get("shift") else None
    x_0, labels = small_digits(plan.n, plan.seed)
    unseen, names = unseen_digits(SAMPLES)
    classifier = load_classifier("mnist", runtime.pick_device())
    alarms = ratio_test(unseen, x_0, moves=moves).value
    real = (_seen(classifier, unseen) == names).double().mean().item()
    for step, run in train_on(x_0, labels, seed=plan.seed, at=plan.at, **how):
        models = {run.ema.decay: run.averaged()}
        for average, model in (models | ({0.0: run.model.eval()} if step == max(plan.at) else {})).items():
            x, asked = _drawn(model, plan.seed, run.precision)
            yield MemoryRow(
                *plan[:3],
                steps=step,
                average=average,
                copies=round(ratio_test(x, x_0, moves=moves).value * SAMPLES),
                samples=SAMPLES,
                false_alarms=round(alarms * SAMPLES),
                train_loss=losses_at(model, x_0[:SAMPLES], labels[:SAMPLES], run.precision),
                unseen_loss=losses_at(model, unseen, names, run.precision),
                agreement=(_seen(classifier, x) == asked).double().mean().item(),
                real_agreement=real,
                device=runtime.device_name(run.device),
                precision=str(run.precision).removeprefix("torch."),
            )


def _seen(classifier: Any, small: Tensor) -> Tensor:
    """What the classifier sees in small pictures, enlarged smoothly."""
    large = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    return look_at(classifier, denormalize(large))[1]


@torch.no_grad()
def _drawn(model: Denoiser, seed: int, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """Samples, on the CPU, and the digits that they were asked to be."""
    device = next(model.parameters()).device
    asked = torch.arange(SAMPLES) % 10
    generator = torch.Generator().manual_seed(1000 + seed)
    grid, found = uniform_grid(model.schedule, CALLS), []
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for label in asked.split(250):
            x_T = torch.randn(len(label), 1, 14, 14, generator=generator).to(device)
            found.append(sample_ddim(model, x_T, model.schedule, grid, label=label.to(device)).cpu())
    return torch.cat(found), asked


def load_memory(folder: Path | None = None) -> list[MemoryRow]:
    """The stored rows. Raises DataError if the file is damaged."""
    return read(path_of(TABLE, folder), MemoryRow)


def missing_memory(folder: Path | None = None) -> list[MemoryPlan]:
    """The plans whose last step has no row yet."""
    there = {row.key[:4] for row in load_memory(folder)}
    return [plan for plan in PLANS if (*plan[:3], max(plan.at)) not in there]


def run_memory(folder: Path | None = None, *, plans: int | None = None) -> Iterator[MemoryRow]:
    """Train what is missing, and yield each network's rows once they are in the file. Stop it whenever you like.

    Args:
        plans: how many at most; all unless told.
    """
    some = missing_memory(folder)
    for plan in some if plans is None else some[: require_count("plans", plans)]:
        rows = list(measure_memory(plan))
        kept = {row.key: row for row in [*load_memory(folder), *rows]}
        write(path_of(TABLE, folder), MemoryRow, list(kept.values()))
        yield from rows
