"""How good samples are: distances between sets of images, in the features of a classifier of our own.

FID depends on the features, on the number of images and on the reference: a figure without them, and without its floor
(the FID of real images against real images, as many), says nothing. Lesson 09 takes it apart.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from course_utils._validate import require_count
from course_utils.classifier import Classifier, look_at
from course_utils.data import denormalize, load_images
from course_utils.denoisers import Denoiser
from course_utils.pretrained import load_classifier
from course_utils.samplers import sample_ddim, sample_ddpm, uniform_grid
from course_utils.schedules import Schedule

SAMPLERS = {"ddim": sample_ddim, "ddpm": sample_ddpm}


class _AsTheyAre(nn.Module):
    """What torchmetrics calls on images to get features, for when they are features already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(features: Float[Tensor, "n d"], reference: Float[Tensor, "m e"]) -> float:
    """The Fréchet distance of two Gaussians with the sets' means and covariances (Heusel et al. 2017, Eq. 6):

    |mu - mu_r|² + tr(S + S_r - 2 (S S_r)^{1/2})

    Biased upwards by roughly d² / (2 n): only figures of the same n, and of the same features, can be compared.
    Computed by torchmetrics, in float64.

    Raises:
        ValueError: sets of other widths, or with fewer than two images; NaN or infinity in one of them.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    for name, values in (("features", features), ("reference", reference)):
        require_count(f"number of {name}", len(values), least=2)
        if not values.isfinite().all():
            raise ValueError(f"{name}: wanted finite numbers, got NaN or infinity")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features: wanted {reference.shape[1]} of them, as the reference has, got {features.shape[1]}"
        )
    distance = FrechetInceptionDistance(_AsTheyAre(features.shape[1])).set_dtype(torch.float64)
    distance.update(features.double(), real=False)
    distance.update(reference.double(), real=True)
    return distance.compute().item()


def subset(features: Float[Tensor, "n d"], n: int, generator: torch.Generator) -> Float[Tensor, "m d"]:
    """n rows drawn at random without replacement: the first n of an official split may not be typical of it."""
    require_count("n", n)
    if n > len(features):
        raise ValueError(f"n: wanted 1 … {len(features)}, got {n}")
    return features[torch.randperm(len(features), generator=generator)[:n]]


@torch.no_grad()
def draw_images(
    denoise: Callable[..., Tensor],
    schedule: Schedule,
    shape: Sequence[int],
    n: int,
    *,
    steps: int = 50,
    num_classes: int = 0,
    sampler: Callable[..., Tensor] = sample_ddim,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    batch_size: int = 250,
    progress: Callable[[int], object] | None = None,
) -> tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, "n"]]:
    """n samples as bytes, as real images are, and the classes they were asked to be: 0, 1, …, each equally often.

    Args:
        denoise: a denoiser; called with `label` if there are classes.
        shape: (channels, height, width).
        steps: of a uniform grid; with `sample_ddim` as many network calls.
        num_classes: 0 for samples without a class, whose answer is -1.
        generator: of the noise; lives on the CPU, so that every device draws the same.
        precision: of autocast; float32 means none. The sampler's own arithmetic is in float32.
        batch_size: images at a time.
        progress: called with the number of images done after each batch.
    """
    require_count("n", n)
    labels = torch.arange(n) % num_classes if num_classes else torch.full((n,), -1)
    device, grid, images = torch.device(device), uniform_grid(schedule, steps), []
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for label in labels.split(batch_size):
            sigma = schedule.coeffs(grid[0])[1].item()
            x_T = (sigma * torch.randn(len(label), *shape, generator=generator)).to(device)
            x_T = x_T.contiguous(memory_format=torch.channels_last)
            cond = {"label": label.to(device)} if num_classes else {}
            images.append(denormalize(sampler(denoise, x_T, schedule, grid, **cond)).cpu())
            if progress:
                progress(len(label))
    return torch.cat(images), labels


@dataclass(frozen=True)
class Score:
    """How good a denoiser's samples are, and all that the figures depend on."""

    fid: float  # of n samples against the training split
    floor: float  # of n images of the test split against the training split
    n: int
    agreement: float | None  # share of samples that the classifier sees as the class they were asked to be
    features: str
    sampler: str
    nfe: int  # network calls a sample
    seed: int

    def __str__(self) -> str:
        agree = "" if self.agreement is None else f", class agreement {self.agreement:.1%}"
        return (
            f"FID {self.fid:.3g} (real images {self.floor:.3g}, n = {self.n:,}, features of {self.features}){agree}; "
            f"{self.sampler}, {self.nfe} network calls, seed {self.seed}"
        )


def evaluate(
    denoiser: Denoiser,
    dataset: str,
    *,
    n: int = 10_000,
    steps: int = 50,
    sampler: str = "ddim",
    num_classes: int = 10,
    full: bool = True,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> Score:
    """Draw n samples on a uniform grid, and compare them with the training split, in our own features.

    Args:
        denoiser: on the device to draw on.
        dataset: "mnist" or "cifar10".
        n: samples; as many images of the test split make the floor.
        steps, sampler: network calls a sample, by "ddim" (no noise on the way) or "ddpm".
        num_classes: 0 for a denoiser that knows none.
        full: compare with all of the dataset, downloaded, instead of the embedded part.
        progress: called with the number of samples done after each batch.

    Raises DataError if the data cannot be had.
    """
    device = next(denoiser.parameters()).device
    classifier = load_classifier(dataset, device)
    (train, _), (test, _) = (load_images(dataset, split, full=full) for split in ("train", "test"))
    generator = torch.Generator().manual_seed(seed)
    images, labels = draw_images(
        denoiser,
        denoiser.schedule,
        train.shape[1:],
        n,
        steps=steps,
        sampler=functools.partial(SAMPLERS[sampler], generator=generator),
        num_classes=num_classes,
        generator=generator,
        device=device,
        precision=precision,
        progress=progress,
    )
    reference, (features, seen) = look_at(classifier, train)[0], look_at(classifier, images)
    return Score(
        fid=fid(features, reference),
        floor=fid(subset(look_at(classifier, test)[0], n, generator), reference),
        n=n,
        agreement=(seen == labels).float().mean().item() if num_classes else None,
        features=f"{dataset}-classifier",
        sampler=f"{sampler.upper()}, uniform grid",
        nfe=steps,
        seed=seed,
    )


def accuracy(classifier: Classifier, dataset: str, *, full: bool = True) -> float:
    """Share of a test split that the classifier names rightly."""
    images, labels = load_images(dataset, "test", full=full)
    return (look_at(classifier, images)[1] == labels).float().mean().item()
