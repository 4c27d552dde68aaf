"""How good a network is, with all that the figures depend on: FID of a denoiser's samples, accuracy of a classifier."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_utils._validate import (
    require_callable,
    require_count,
    require_dtype,
    require_in,
    require_one_of,
    require_type,
)
from course_utils.classifier import Classifier, NoisyClassifier, look_at
from course_utils.data import CLASSES, load_images, normalize
from course_utils.forward import noise_like
from course_utils.guidance import classifier_free
from course_utils.metrics.distances import fid_interval
from course_utils.metrics.drawing import draw_images
from course_utils.metrics.estimates import Estimate, share
from course_utils.metrics.real_images import floor_of, reference
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
from course_utils.samplers.walk import draws
from course_utils.schedules import Schedule, check_grid

SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "consistency": sample_consistency,  # this and the next for networks of two times
    "flow_map": sample_flow_map,
}
GRIDS = {"uniform": uniform_grid, "quadratic": quadratic_grid, "log_snr": log_snr_grid, "karras": karras_grid}


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
    precision: str = ""  # of the network; not said if it is not known

    def __str__(self) -> str:
        agree = "" if self.agreement is None else f", class agreement {self.agreement.value:.1%}"
        low, high = self.interval
        return (
            f"FID {self.fid:.3g} [{low:.3g}, {high:.3g}] (real images {self.floor:.3g}, n = {self.n:,}, features of "
            f"{self.features}){agree}; {self.sampler}, {self.grid} grid, {self.nfe} network calls, seed {self.seed}"
            f"{self.precision and ', ' + self.precision}"
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
    seed = require_count("seed", seed, least=0)
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
        sampler=functools.partial(sampler, generator=generator) if draws(sampler) else sampler,
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
        precision=str(precision).removeprefix("torch."),
    )


def _name_of(timesteps: Sequence[int | float], schedule: Schedule) -> str:
    """What the grid is called, if it has a name."""
    steps = len(timesteps) - 1
    if steps > (schedule.T or steps):
        return "own"
    return next((name for name, grid in GRIDS.items() if list(timesteps) == list(grid(schedule, steps))), "own")


@dataclass(frozen=True)
class Accuracy:
    """How good a classifier is on a test split."""

    share: Estimate  # of the images that it names rightly
    n: int

    def __str__(self) -> str:
        value, low, high = (f"{figure:.2%}" for figure in self.share[:3])
        return f"{value} [{low}, {high}] of the {self.n:,} images of the test split named rightly"


def accuracy(classifier: Classifier, dataset: str, *, full: bool = True) -> Accuracy:
    """Share of a test split that a classifier names rightly, with its interval of 95 %."""
    require_one_of("dataset", dataset, CLASSES)
    images, labels = load_images(dataset, "test", full=full)
    right = int((look_at(classifier, images)[1] == labels).sum())
    return Accuracy(share(right, len(images)), len(images))


@torch.no_grad()
def noisy_accuracy(classifier: NoisyClassifier, dataset: str, log_snr: float, *, full: bool = True) -> Estimate:
    """Share of a test split that a classifier of noisy images names rightly at one noise level, always in one noise."""
    require_type("classifier", classifier, NoisyClassifier, "a NoisyClassifier")
    require_one_of("dataset", dataset, CLASSES)
    require_in("log_snr", log_snr, "(-inf, inf)")
    images, labels = load_images(dataset, "test", full=full)
    weight, generator, right = next(classifier.parameters()), torch.Generator().manual_seed(0), 0
    level = torch.as_tensor(log_snr, dtype=weight.dtype)
    for chunk, label in zip(images.split(500), labels.split(500), strict=True):
        x = normalize(chunk, weight.dtype)
        x_t = torch.sigmoid(level).sqrt() * x + torch.sigmoid(-level).sqrt() * noise_like(x, generator)
        logits = classifier(x_t.to(weight.device), level.to(weight.device).expand(len(x)))
        right += int((logits.argmax(1).cpu() == label).sum())
    return share(right, len(labels))
