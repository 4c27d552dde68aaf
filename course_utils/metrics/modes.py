"""What a generator found: of a mixture, which of its parts; of images, which classes, and how well (lesson 18)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn

from course_utils._contract import SOME, AllIn, Count, In, Is, OneOf, Whole, checked
from course_utils.classifier import look_at
from course_utils.data import CLASSES, denormalize, load_images
from course_utils.metrics.distances import fid_interval
from course_utils.metrics.estimates import Estimate, subset
from course_utils.metrics.neighbours import precision_recall
from course_utils.metrics.real_images import floor_of, reference
from course_utils.runtime import moved
from course_utils.toy import GaussianMixture


@checked
def reverse_kl(
    counts: Annotated[Integer[Tensor, "k"], SOME, AllIn("[0, inf)")],
    shares: Annotated[Float[Tensor, "k"], AllIn("(0, 1]")],
) -> float:
    """sum_k q_k log(q_k / p_k), in nats: q the shares that were drawn, p those of the data. 0 for the same shares.

    What is missing costs little, log 1 / (1 - its share); n fair draws have about (k - 1) / (2 n) by chance.
    Raises ValueError if nothing was drawn.
    """
    if not counts.sum():
        raise ValueError("counts: wanted one draw or more, got none")
    q = counts.double() / counts.sum()
    return max(0.0, torch.special.xlogy(q, q / shares.to(q)).sum().item())


class Modes(NamedTuple):
    """What samples found of a mixture, as Srivastava et al. 2017 and Lin et al. 2018 count."""

    found: int  # parts to which a good sample belongs
    good: float  # share of samples within some standard deviations of the nearest mean
    reverse_kl: float  # of all samples by their nearest part, against the mixture's weights


@checked
def mode_coverage(
    x: Annotated[Float[Tensor, "n d"], SOME],
    mixture: Annotated[GaussianMixture, Is("a GaussianMixture")],
    *,
    within: Annotated[float, In("(0, inf)")] = 3.0,
) -> Modes:
    """Modes found, share of good samples, and balance. NaN and infinity are no good samples, and of no part.

    In the plane fair draws within three standard deviations are 1 - exp(-9/2) = 98.9 %.

    Raises ValueError for a mixture whose parts are not round, or if no sample is finite.
    """
    variance = mixture.variances
    if mixture.axes is not None or not (variance == variance[:, :1]).all():
        raise ValueError("mixture: wanted round parts, the same variance along every axis")
    if x.shape[1:] != mixture.means.shape[1:]:
        raise ValueError(f"x: wanted points of {mixture.means.shape[1]} coordinates, got shape {tuple(x.shape)}")
    rows = x.double()
    finite = rows.isfinite().all(1)
    distance, part = torch.cdist(rows[finite], mixture.means.to(rows)).min(1)
    good = distance <= within * variance[:, 0].sqrt().to(rows)[part]
    counts = part.bincount(minlength=len(variance))
    return Modes(len(part[good].unique()), good.sum().item() / len(x), reverse_kl(counts.cpu(), mixture.weights.cpu()))


@dataclass(frozen=True)
class SetScore:
    """How good a set of images is that nobody asked for a class, and all that the figures depend on."""

    fid: Estimate  # of n images against the training split, with an interval for other draws of n
    floor: float  # the same of n real images of the test split
    precision: float  # `precision_recall`, k = 3, beside n training images
    recall: float
    class_kl: float  # `reverse_kl` of their classes, as the classifier sees them, from those of the test split
    n: int
    features: str
    seed: int

    def __str__(self) -> str:
        return (
            f"FID {self.fid.value:.3g} [{self.fid.low:.3g}, {self.fid.high:.3g}] (real images {self.floor:.3g}, "
            f"n = {self.n:,}, features of {self.features}), precision {self.precision:.2f}, recall {self.recall:.2f}, "
            f"KL of the classes {self.class_kl:.3f}; seed {self.seed}"
        )


@checked
def score_images(
    images: Annotated[UInt8[Tensor, "n c height width"], SOME],
    dataset: Annotated[str, OneOf(CLASSES)],
    *,
    seed: Annotated[int, Whole(0)] = 0,
) -> SetScore:
    """FID with its interval, precision, recall and class balance of images, on the CPU.

    Args:
        images: bytes, as `data.denormalize` makes them; 4 or more, and no more than the test split has.
        seed: of the interval's resampling.
    """
    real, n = reference(dataset), len(images)
    features, seen = look_at(real.classifier, images)
    shares = real.test_labels.bincount(minlength=len(CLASSES[dataset])).double() / len(real.test_labels)
    nearby = precision_recall(features, train_features(dataset, n))
    return SetScore(
        fid=fid_interval(features, real.train, generator=torch.Generator().manual_seed(seed)),
        floor=floor_of(dataset, n),
        precision=nearby.precision,
        recall=nearby.recall,
        class_kl=reverse_kl(seen.bincount(minlength=len(shares)), shares),
        n=n,
        features=f"{dataset}-classifier",
        seed=seed,
    )


@functools.lru_cache(maxsize=4)
def train_features(dataset: str, n: int) -> Tensor:
    """Of n training images, always the same ones."""
    images = subset(load_images(dataset)[0], n, torch.Generator().manual_seed(0))
    return look_at(reference(dataset).classifier, images)[0]


@torch.no_grad()
@checked
def draw_generated(
    model: Annotated[nn.Module, Is("a network with a generator")],
    n: Count,
    *,
    seed: Annotated[int, Whole(0)] = 0,
    batch_size: Count = 250,
    progress: Callable[[int], object] | None = None,
) -> UInt8[Tensor, "n c height width"]:
    """n images from the generator of `adversarial.Rivals`, one call each, as bytes.

    Args:
        model: in the mode it is to draw in; on any device.
        seed: of the noises.
        progress: called with the number of images done after each batch.
    """
    generator, images = torch.Generator().manual_seed(seed), []
    made: Any = model.generator
    device = next(model.parameters()).device
    for rows in torch.arange(n).split(batch_size):
        z = torch.randn(len(rows), *made.latent, generator=generator, dtype=torch.float32)
        images.append(denormalize(made(moved(z, device))).cpu())
        if progress:
            progress(len(rows))
    return torch.cat(images)
