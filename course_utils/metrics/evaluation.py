"""Drawing a network's samples, and measuring them beside real images."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from course_utils._validate import (
    as_device,
    require_callable,
    require_count,
    require_dtype,
    require_generator,
    require_in,
    require_one_of,
    require_sizes,
    require_type,
)
from course_utils.classifier import Classifier, look_at
from course_utils.data import CLASSES, denormalize, load_images, moved
from course_utils.guidance import classifier_free
from course_utils.metrics.distances import fid, fid_interval
from course_utils.metrics.estimates import Estimate, share
from course_utils.pretrained import load_classifier
from course_utils.samplers import (
    karras_grid,
    log_snr_grid,
    quadratic_grid,
    sample_consistency,
    sample_ddim,
    sample_ddpm,
    sample_flow_map,
    uniform_grid,
)
from course_utils.schedules import Schedule, check_grid, require_schedule

SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "consistency": sample_consistency,  # this and the next for networks of two times
    "flow_map": sample_flow_map,
}
GRIDS = {"uniform": uniform_grid, "quadratic": quadratic_grid, "log_snr": log_snr_grid, "karras": karras_grid}


@torch.no_grad()
def draw_images(
    denoise: Callable[..., Tensor],
    schedule: Schedule,
    shape: Sequence[int],
    n: int,
    *,
    timesteps: Sequence[int | float],
    sampler: Callable[..., Tensor] = sample_ddim,
    num_classes: int = 0,
    labels: Int64[Tensor, "n"] | None = None,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    batch_size: int = 250,
    progress: Callable[[int], object] | None = None,
) -> tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, "n"]]:
    """n samples as bytes, as real images are, and the classes they were asked to be.

    Args:
        denoise: a denoiser; called with `label` if there are classes.
        shape: (channels, height, width).
        timesteps: a falling grid, such as `samplers.uniform_grid(schedule, 50)`.
        sampler: `sampler(denoise, x_T, schedule, timesteps, **cond)`.
        num_classes: 0 for samples without a class, whose answer is -1.
        labels: the classes to ask for; 0, 1, …, each equally often, if not given.
        generator: of the noise; lives on the CPU, so that every device draws the same.
        precision: of autocast; float32 means none. The sampler's own arithmetic is in float32.
        batch_size: images at a time.
        progress: called with the number of images done after each batch.
    """
    n, batch_size = require_count("n", n), require_count("batch_size", batch_size)
    require_schedule(schedule)
    check_grid(timesteps, schedule)
    require_dtype("precision", precision)
    require_count("num_classes", num_classes, least=0)
    require_callable("denoise", denoise)
    require_callable("sampler", sampler)
    require_sizes("shape", shape, 3)
    require_generator(generator)
    if not num_classes:
        labels = torch.full((n,), -1)
    elif labels is None:
        labels = torch.arange(n) % num_classes
    elif labels.shape != (n,):
        raise ValueError(f"labels: wanted one for each of {n} samples, got {tuple(labels.shape)}")
    device, images = as_device(device), []
    sigma = schedule.coeffs(timesteps[0])[1].item()
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for label in labels.split(batch_size):
            x_T = moved(sigma * torch.randn(len(label), *shape, generator=generator, dtype=torch.float32), device)
            x_T = x_T.contiguous(memory_format=torch.channels_last)
            cond = {"label": label.to(device)} if num_classes else {}
            images.append(denormalize(sampler(denoise, x_T, schedule, timesteps, **cond)).cpu())
            if progress:
                progress(len(label))
    return torch.cat(images), labels


class Reference(NamedTuple):
    """Real images as a classifier sees them."""

    classifier: Classifier
    shape: tuple  # of an image
    train: Tensor  # features of either split
    test: Tensor
    test_labels: Tensor

    def draws(self, n: int) -> list[Tensor]:
        """Up to four disjoint random draws of n images of the test split, as indices.

        They make the floor; and samples that stand beside it are asked to be of the classes of the first. (Classes
        equally often would not do: MNIST has 6,742 ones and 5,421 fives, and a FID sees the difference.)
        """
        if n > len(self.test):
            raise ValueError(f"n: wanted at most {len(self.test):,}, as many real images as make the floor, got {n:,}")
        order = torch.randperm(len(self.test), generator=torch.Generator().manual_seed(0))
        return list(order.split(n)[: min(4, len(order) // n)])


@functools.lru_cache(maxsize=2)
def reference(dataset: str, device: str = "cpu", full: bool = True) -> Reference:
    """Features of both splits of a dataset; looked at once, and kept for the next call."""
    classifier = load_classifier(dataset, device)
    (train, _), (test, labels) = (load_images(dataset, split, full=full) for split in ("train", "test"))
    return Reference(classifier, train.shape[1:], look_at(classifier, train)[0], look_at(classifier, test)[0], labels)


@functools.lru_cache(maxsize=8)
def floor_of(dataset: str, n: int, device: str = "cpu", full: bool = True) -> float:
    """FID of n real images of the test split against the training split: a mean over up to four disjoint draws."""
    real = reference(dataset, device, full)
    draws = real.draws(n)
    return sum(fid(real.test[chosen], real.train) for chosen in draws) / len(draws)


@dataclass(frozen=True)
class Score:
    """How good a denoiser's samples are, and all that the figures depend on."""

    fid: float  # of n samples against the training split
    interval: tuple[float, float]  # of 95 %, for other draws of n samples: see `fid_interval`
    bias: float  # by how much fid would fall, on average, if n were infinite
    floor: float  # FID of n images of the test split against the training split: see `floor_of`
    n: int
    agreement: Estimate | None  # share of samples that the classifier sees as the class they were asked to be
    features: str
    sampler: str
    grid: str
    nfe: int  # network calls a sample
    seed: int

    def __str__(self) -> str:
        agree = "" if self.agreement is None else f", class agreement {self.agreement.value:.1%}"
        low, high = self.interval
        return (
            f"FID {self.fid:.3g} [{low:.3g}, {high:.3g}] (real images {self.floor:.3g}, n = {self.n:,}, features of "
            f"{self.features}){agree}; {self.sampler}, {self.grid} grid, {self.nfe} network calls, seed {self.seed}"
        )


def evaluate(
    denoiser: Any,
    dataset: str,
    *,
    n: int = 10_000,
    sampler: Callable[..., Tensor] = sample_ddim,
    timesteps: Sequence[int | float] | None = None,
    guidance: float = 1.0,
    num_classes: int = 10,
    full: bool = True,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> Score:
    """Draw n samples, of the classes of n test images, and compare them with the training split.

    Args:
        denoiser: a `Denoiser`, or a module of your own with a schedule; on the device to draw on.
        dataset: "mnist" or "cifar10".
        n: samples; as many images of the test split make the floor.
        sampler, timesteps: as of `draw_images`; DDIM on 50 uniform steps, if there are as many, unless told. A sampler
            that takes a generator gets that of the start.
        guidance: weight of classifier-free guidance, which calls the network twice a step; 1 does without.
        num_classes: 0 for a denoiser that knows none.
        full: compare with all of the dataset, downloaded, instead of the embedded part.
        progress: called with the number of samples done after each batch.

    Raises DataError if the data cannot be had; ValueError for guidance of a denoiser that knows no classes.
    """
    require_type("denoiser", denoiser, nn.Module, "a Denoiser")
    if not hasattr(denoiser, "schedule"):
        raise TypeError(f"denoiser: wanted a Denoiser, which has a schedule, got {type(denoiser).__name__}")
    require_one_of("dataset", dataset, CLASSES)
    require_callable("sampler", sampler)
    n = require_count("n", n)
    require_count("seed", seed, least=0)
    require_dtype("precision", precision)
    require_in("guidance", guidance, "[0, inf)")
    if guidance != 1 and not num_classes:
        raise ValueError(f"guidance: wanted 1 for a denoiser that knows no classes, got {guidance:g}")
    schedule = denoiser.schedule
    timesteps = uniform_grid(schedule, min(50, schedule.T or 50)) if timesteps is None else timesteps
    check_grid(timesteps, schedule)
    asked: list[int] = []

    def counted(x_t: Tensor, t: object, **cond: object) -> Tensor:
        asked.append(len(x_t))
        return denoiser(x_t, t, **cond)

    denoise = counted if guidance == 1 else classifier_free(counted, guidance)
    name = getattr(sampler, "__name__", type(sampler).__name__).removeprefix("sample_").upper()
    name += "" if guidance == 1 else f" guided with w = {guidance:g}"
    device = next(denoiser.parameters()).device
    real, floor = reference(dataset, str(device), full), floor_of(dataset, n, str(device), full)
    generator = torch.Generator().manual_seed(seed)
    images, labels = draw_images(
        denoise,
        schedule,
        real.shape,
        n,
        timesteps=timesteps,
        sampler=functools.partial(sampler, generator=generator) if _draws(sampler) else sampler,
        num_classes=num_classes,
        labels=real.test_labels[real.draws(n)[0]],
        generator=generator,
        device=device,
        precision=precision,
        progress=progress,
    )
    features, seen = look_at(real.classifier, images)
    measured = fid_interval(features, real.train, generator=generator)
    return Score(
        fid=measured.value,
        interval=(measured.low, measured.high),
        bias=measured.bias,
        floor=floor,
        n=n,
        agreement=share(int((seen == labels).sum()), n) if num_classes else None,
        features=f"{dataset}-classifier",
        sampler=name,
        grid=_name_of(timesteps, schedule),
        nfe=round(sum(asked) / n),
        seed=seed,
    )


def _draws(sampler: Callable[..., Tensor]) -> bool:
    """Whether it takes a generator, for noise on the way."""
    taken = inspect.signature(sampler).parameters.values()
    return any(one.name == "generator" or one.kind is one.VAR_KEYWORD for one in taken)


def _name_of(timesteps: Sequence[int | float], schedule: Schedule) -> str:
    """What the grid is called, if it has a name."""
    steps = len(timesteps) - 1
    if steps > (schedule.T or steps):
        return "own"
    return next((name for name, grid in GRIDS.items() if list(timesteps) == list(grid(schedule, steps))), "own")


def accuracy(classifier: Classifier, dataset: str, *, full: bool = True) -> float:
    """Share of a test split that the classifier names rightly."""
    require_one_of("dataset", dataset, CLASSES)
    images, labels = load_images(dataset, "test", full=full)
    return (look_at(classifier, images)[1] == labels).float().mean().item()
