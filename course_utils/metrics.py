"""How good samples are: distances between sets of images, in the features of a classifier of our own.

FID depends on the features, on the number of images and on the reference: a figure without them, and without its floor
(the FID of real images against real images, as many), says nothing. Lesson 09 takes it apart, and the other measures:
KID, precision and recall, nearest training images, a classifier that has seen nothing but samples.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Integer, Shaped, UInt8
from torch import Tensor, nn

from course_utils._validate import (
    as_device,
    require_bytes,
    require_callable,
    require_count,
    require_counts,
    require_dtype,
    require_finite,
    require_generator,
    require_in,
    require_one_of,
    require_sizes,
    require_type,
    require_whole,
)
from course_utils.classifier import Classifier, look_at
from course_utils.data import CLASSES, denormalize, load_images
from course_utils.denoisers import Denoiser
from course_utils.guidance import classifier_free
from course_utils.pretrained import load_classifier
from course_utils.samplers import sample_ddim, sample_ddpm, uniform_grid
from course_utils.schedules import Schedule
from course_utils.tasks import Classification
from course_utils.training import Record, Training, train

SAMPLERS: dict[str, Callable[..., Tensor]] = {"ddim": sample_ddim, "ddpm": sample_ddpm}


class _AsTheyAre(nn.Module):
    """What torchmetrics calls on images to get features, for when they are features already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _require_features(features: Tensor, reference: Tensor, least: int = 2) -> None:
    for name, values in (("features", features), ("reference", reference)):
        _require_rows(name, values, least)
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features: wanted {reference.shape[1]} of them, as the reference has, got {features.shape[1]}"
        )


def _require_rows(name: str, features: Tensor, least: int) -> None:
    require_finite(name, features)
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"{name}: wanted {least} rows or more of features, got shape {tuple(features.shape)}")


def subset(features: Float[Tensor, "n d"], n: int, generator: torch.Generator) -> Float[Tensor, "m d"]:
    """n rows drawn at random without replacement: the first n of an official split may not be typical of it."""
    require_type("features", features, Tensor, "a tensor")
    require_generator(generator)
    require_count("n", n)
    if n > len(features):
        raise ValueError(f"n: wanted 1 … {len(features)}, got {n}")
    return features[torch.randperm(len(features), generator=generator)[:n]]


# ---------------------------------------------------------------------------------------------------------------------
# Figures and their chance
# ---------------------------------------------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """A figure measured on n samples, and how far chance may have moved it."""

    value: float
    low: float  # the interval, for what the figure is on average over draws of n samples
    high: float
    bias: float = 0.0  # by how much that average exceeds the figure of infinitely many samples

    @property
    def corrected(self) -> float:
        """An estimate of what infinitely many samples would give: the value without its bias."""
        return self.value - self.bias

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def share(hits: int, n: int, *, level: float = 0.95) -> Estimate:
    """A share, hits / n, with Wilson's interval: all p for which |hits / n - p| <= z sqrt(p (1 - p) / n).

    It never leaves [0, 1], and keeps its level even for shares near 0 or 1, as accuracies are (Wilson 1927).

    Raises:
        ValueError: more hits than n, or a level that is no probability.
    """
    require_count("n", n)
    require_count("hits", hits, least=0)
    require_in("level", level, "(0, 1)")
    if hits > n:
        raise ValueError(f"hits: wanted 0 … {n}, got {hits}")
    p, z = hits / n, NormalDist().inv_cdf((1 + level) / 2)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half))


# ---------------------------------------------------------------------------------------------------------------------
# FID
# ---------------------------------------------------------------------------------------------------------------------


def fid(features: Float[Tensor, "n d"], reference: Float[Tensor, "m e"]) -> float:
    """The Fréchet distance of two Gaussians with the sets' means and covariances (Heusel et al. 2017, Eq. 6):

    |mu - mu_r|² + tr(S + S_r - 2 (S S_r)^{1/2})

    Biased upwards by what `chance_fid` says: only figures of the same n, and of the same features, can be compared.
    Computed by torchmetrics, in float64.

    Raises:
        ValueError: sets of other widths, or with fewer than two images; NaN or infinity in one of them.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _require_features(features, reference)
    distance = FrechetInceptionDistance(_AsTheyAre(features.shape[1])).set_dtype(torch.float64).to(features.device)
    distance.update(features.double(), real=False)
    distance.update(reference.double(), real=True)
    return max(0.0, distance.compute().item())  # of a set with itself rounding alone is left, of either sign


def gaussian_chance_fid(variances: Float[Tensor, "d"], n: int, m: int | None = None) -> float:
    r"""The FID that n samples of a Gaussian have by chance, on average, against m others of it (None: the law itself):

    (1/n + 1/m) [ 5/4 sum_i l_i + 1/2 sum_ij l_i l_j / (l_i + l_j) ],   l the eigenvalues of the covariance

    To first order in d/n; about d² / (4 n) for each of the sets if all l are 1 and d is large. Lesson 09 derives it.

    Args:
        variances: the eigenvalues, zero or more.
    """
    require_finite("variances", variances)
    if variances.ndim != 1 or not len(variances):
        raise ValueError(f"variances: wanted one for each direction, shape (d,), got {tuple(variances.shape)}")
    if not (variances >= 0).all():
        raise ValueError(f"variances: wanted numbers >= 0, got {variances.min().item():.6g}")
    l = variances.double()
    spread = l[:, None] * l * (1 + torch.eye(len(l), dtype=l.dtype, device=l.device))  # n Var of a covariance's entries
    return _chance(l, spread, n, m)


def chance_fid(features: Float[Tensor, "k d"], n: int, m: int | None = None) -> float:
    """`gaussian_chance_fid` for features that are no Gaussian's: their fourth moments take the place of its own.

    (1/n + 1/m) [ sum_i l_i + 1/2 sum_ij Var(z_i z_j) / (l_i + l_j) ],  z the centred features on their principal axes
    """
    _require_rows("features", features, 2)
    z = features.double() - features.double().mean(0)
    l, axes = torch.linalg.eigh(z.T @ z / len(z))
    squared = (z @ axes).square()
    return _chance(l.clamp(min=0), squared.T @ squared / len(z) - l.square().diag(), n, m)


def _chance(l: Tensor, spread: Tensor, n: int, m: int | None) -> float:
    require_count("n", n)
    if m is not None:
        require_count("m", m)
    sums = l[:, None] + l
    live = sums > 1e-12 * sums.max()  # features that never vary add nothing
    once = l.sum() + torch.where(live, spread / torch.where(live, sums, 1.0), 0.0).sum() / 2
    return once.item() * (1 / n + (1 / m if m else 0.0))


def fid_interval(
    features: Float[Tensor, "n d"],
    reference: Float[Tensor, "m e"],
    *,
    resamples: int = 200,
    level: float = 0.95,
    generator: torch.Generator,
) -> Estimate:
    r"""FID with its bias and an interval, by a bootstrap of the samples (Efron 1979) that minds the bias.

    A resample draws n of the n samples with replacement. Its FID is biased once more, upwards, so its quantiles do not
    surround the figure. But what a resample is to the samples, they are to the network:

    FID_n - E FID_n  ~  FID* - E* FID*,        E FID_n - FID_inf  ~  E* FID* - FID of the samples as a population

    The first gives the interval, [value - (q_high - mean), value - (q_low - mean)]; the second the bias.

    It covers the luck of the draw: another seed, the same network, sampler, n, features and reference. It does not
    cover another training, other features, or the choice of the reference, which is held fixed. Near the floor it is
    too wide, never too narrow.

    Args:
        resamples: how many; 200 give a level of 0.95 to about a percent.
        generator: of the resampling.
    """
    require_count("resamples", resamples, least=2)
    require_in("level", level, "(0, 1)")
    require_generator(generator)
    value = fid(features, reference)
    y = reference.double()
    centre, R = y.mean(0), torch.cov(y.T).reshape(y.shape[1], -1)
    values, axes = torch.linalg.eigh(R)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    x, n = features.double() - centre, len(features)

    def frechet(weights: Tensor, unbiased: bool) -> Tensor:  # each sample's weight, adding up to n
        mean = weights @ x / n
        S = ((x * weights[:, None]).T @ x / n - mean[:, None] * mean) * (n / (n - 1) if unbiased else 1.0)
        cross = torch.linalg.eigvalsh(root @ S @ root).clamp(min=0).sqrt().sum()
        return mean.square().sum() + S.trace() + R.trace() - 2 * cross

    drawn = (torch.randint(n, (n,), generator=generator).bincount(minlength=n).double() for _ in range(resamples))
    figures = torch.stack([frechet(weights.to(x.device), unbiased=True) for weights in drawn])
    mean = figures.mean()
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64, device=x.device)
    low, high = (figures.quantile(tail) - mean).tolist()
    population = frechet(torch.ones(n, dtype=x.dtype, device=x.device), unbiased=False)
    return Estimate(value, max(0.0, value - high), value - low, (mean - population).item())


# ---------------------------------------------------------------------------------------------------------------------
# KID
# ---------------------------------------------------------------------------------------------------------------------


def kid(
    features: Float[Tensor, "n d"],
    reference: Float[Tensor, "m e"],
    *,
    subsets: int = 100,
    subset_size: int | None = None,
    generator: torch.Generator,
) -> float:
    """The squared kernel distance of the two sets (Binkowski et al. 2018, section 4), k(x, y) = (x·y / d + 1)³:

    E k(x, x') + E k(y, y') - 2 E k(x, y),    x, x' different samples, y, y' different reference features

    Unbiased at any number of images, so it may come out below zero. The mean over random subsets of both sets, by
    torchmetrics, in float64. Its scale depends on the features: it compares with nothing but other KIDs of them.

    Args:
        subset_size: images of each set in a subset; 1,000, or all of the smaller set, unless told.
        generator: of the subsets.

    Raises:
        ValueError: sets of other widths, or with fewer than two images; a subset larger than a set.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _require_features(features, reference)
    require_generator(generator)
    most = min(len(features), len(reference))
    size = min(1000, most) if subset_size is None else subset_size
    require_count("subset_size", size, least=2)
    require_count("subsets", subsets)
    if size > most:
        raise ValueError(f"subset_size: wanted 2 … {most}, the images of the smaller set, got {size}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        distance = KernelInceptionDistance(_AsTheyAre(features.shape[1]), subsets=subsets, subset_size=size)
    distance.update(features.double(), real=False)
    distance.update(reference.double(), real=True)
    with torch.random.fork_rng([]):  # torchmetrics draws from the global stream
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return distance.compute()[0].item()


# ---------------------------------------------------------------------------------------------------------------------
# Neighbours: precision and recall, memorisation
# ---------------------------------------------------------------------------------------------------------------------


def _flat(x: Tensor) -> Tensor:
    """Images or features as rows: features in float64; bytes in float32, moved about zero, where they are exact."""
    x = x.flatten(1)
    return x.double() if x.is_floating_point() else x.float() - 127.5


def _require_comparable(**sets: Tensor) -> None:
    """Raise unless all are images, or all rows of features, of one shape and one kind of numbers: the second's."""
    _, (like, model) = list(sets.items())[:2]
    for name, values in {like: model, **sets}.items():
        require_type(name, values, Tensor, "a tensor")
        if values.is_floating_point():
            require_finite(name, values)
        elif values.dtype != torch.uint8:
            raise TypeError(f"{name}: wanted bytes or floating-point numbers, got {values.dtype}")
        if values.ndim < 2 or values.shape[1:] != model.shape[1:]:
            wanted = ", ".join(["n", *map(str, model.shape[1:])])
            raise ValueError(f"{name}: wanted shape ({wanted}), as {like} has, got {tuple(values.shape)}")
        if values.is_floating_point() != model.is_floating_point():
            raise TypeError(f"{name}: wanted the kind of numbers that {like} has, {model.dtype}, got {values.dtype}")


@torch.no_grad()
def nearest(
    images: Shaped[Tensor, "n *shape"], among: Shaped[Tensor, "m *other"], *, k: int = 1, batch_size: int = 1000
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Euclidean distances to the k nearest rows of `among`, nearest first, and which they are.

    Takes images (bytes or floats) and features alike. Memory does not grow with either set. The distances are exact;
    candidates are found by a matrix product, so that of neighbours that are equally far any may be named.

    Args:
        k: how many.
        batch_size: rows of `images` at a time, and a fifth of the rows of `among`.

    Raises:
        ValueError: images of other shapes, or fewer than k of them to be near to.
    """
    require_counts(k=k, batch_size=batch_size)
    _require_comparable(images=images, among=among)
    if k > len(among):
        raise ValueError(f"k: wanted 1 … {len(among)}, the rows to be near to, got {k}")
    distances, indices = [], []
    for chunk in images.split(batch_size):
        x = _flat(chunk)
        best, which = x.new_empty(len(x), 0), torch.empty(len(x), 0, dtype=torch.long, device=x.device)
        for first in range(0, len(among), 5 * batch_size):
            y = _flat(among[first : first + 5 * batch_size]).to(x)
            # |x - y|² less |x|², which is the same for all y
            best, picked = torch.cat([best, torch.addmm(y.square().sum(1), x, y.T, alpha=-2)], 1).topk(
                min(k, best.shape[1] + len(y)), largest=False
            )
            here = torch.arange(first, first + len(y), device=x.device).expand(len(x), -1)
            which = torch.cat([which, here], 1).gather(1, picked)
        exact = torch.stack([(x - _flat(among[column]).to(x)).norm(dim=1) for column in which.T], 1)
        exact, order = exact.sort(1)
        distances.append(exact)
        indices.append(which.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


class Coverage(NamedTuple):
    """How two sets lie to each other; each is a share of images, but for density, which may exceed 1."""

    precision: float  # samples that lie among the real images
    recall: float  # real images that lie among the samples
    density: float  # real balls that a sample lies in, over k
    coverage: float  # real images whose ball holds a sample


@torch.no_grad()
def precision_recall(
    features: Float[Tensor, "n d"], reference: Float[Tensor, "m e"], *, k: int = 3, batch_size: int = 500
) -> Coverage:
    """Improved precision and recall (Kynkäänniemi et al. 2019, Eqs. 1 and 2), density and coverage (Naeem et al. 2020).

    Around each image of a set stands a ball that reaches to its k-th nearest neighbour in that set; together they are
    where the set lies. All four depend on n: take as many real images as samples, and show the same figures for real
    images against real ones. Memory does not grow with the sets.

    Raises:
        ValueError: sets of other widths, NaN or infinity, or not more than k images in one of them.
    """
    require_counts(k=k, batch_size=batch_size)
    _require_features(features, reference, least=k + 1)
    # Each image is its own nearest neighbour: hence k + 1. Ties count as inside: rounding moves a distance of zero by
    # about 1e-8 of a row's length.
    of_real, of_samples = (
        nearest(x, x, k=k + 1)[0][:, k] * (1 + 1e-9) + 1e-7 * x.double().norm(dim=1) for x in (reference, features)
    )
    real = reference.double()
    precise = inside = 0
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for x, radius in zip(features.double().split(batch_size), of_samples.split(batch_size), strict=True):
        distance = torch.cdist(x, real)
        within = distance <= of_real
        precise += int(within.any(1).sum())
        inside += int(within.sum())
        covered |= within.any(0)
        recalled |= (distance <= radius[:, None]).any(0)
    n, m = len(features), len(real)
    return Coverage(precise / n, int(recalled.sum()) / m, inside / (k * n), int(covered.sum()) / m)


def copied(
    images: Shaped[Tensor, "n *shape"],
    train: Shaped[Tensor, "m *other"],
    unseen: Shaped[Tensor, "k *another"],
    *,
    quantile: float = 0.01,
) -> Estimate:
    """The share of images that lie nearer to a training image than nearly all unseen real images do.

    The yardstick is the `quantile` of the distances from unseen images to their nearest training images: of more real
    images, about that share would lie below it, so a share near `quantile` speaks against copying. Compare like with
    like: with other shares of the classes, or smoother images, the distances are others too.

    Args:
        images, train, unseen: bytes, floats or features, alike in kind.

    Raises:
        ValueError: a quantile outside (0, 1), or shapes that differ.
    """
    require_in("quantile", quantile, "(0, 1)")
    _require_comparable(images=images, train=train, unseen=unseen)
    require_counts(images=len(images), train=len(train), unseen=len(unseen))
    near = nearest(unseen, train)[0][:, 0].quantile(quantile)
    return share(int((nearest(images, train)[0][:, 0] < near).sum()), len(images))


# ---------------------------------------------------------------------------------------------------------------------
# A classifier that has seen nothing but samples
# ---------------------------------------------------------------------------------------------------------------------


def samples_only_accuracy(
    images: UInt8[Tensor, "n c h w"],
    labels: Integer[Tensor, "n"],
    test_images: UInt8[Tensor, "m c h w"],
    test_labels: Integer[Tensor, "m"],
    *,
    steps: int = 400,
    batch_size: int = 128,
    lr: float = 3e-3,
    shift: int = 2,
    widths: Sequence[int] = (32, 64, 64),
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: torch.dtype | None = None,
    progress: Callable[[Record], object] | None = None,
) -> Estimate:
    """Train a small classifier on samples alone, and return its accuracy on real images (Ravuri and Vinyals 2019).

    It falls short if samples are wrong *or* if something is missing from them, and it needs no features. Show beside it
    what as many real images give, trained alike; the difference is what the samples lack.

    Args:
        images, labels: samples, and the classes they were asked to be, 0, 1, ….
        test_images, test_labels: real images.
        steps, batch_size, lr, shift: of the training, as in the recipes of the shipped classifiers.
        seed: of weights and training.
        progress: called with the training's `Record` after each step.

    Raises:
        ValueError: a sample without a class.
    """
    require_counts(steps=steps, batch_size=batch_size)
    require_count("seed", seed, least=0)
    for name, values in (("images", images), ("test_images", test_images)):
        require_bytes(name, values, ndim=4)
    for name, values, of in (("labels", labels, images), ("test_labels", test_labels, test_images)):
        require_whole(name, values)
        if values.shape != of.shape[:1]:
            raise ValueError(f"{name}: wanted one for each of {len(of)} images, got {tuple(values.shape)}")
        if (values < 0).any():
            got = values.min().item()
            raise ValueError(f"{name}: wanted classes 0, 1, …, got {got}; draw samples with num_classes")
    num_classes = int(torch.cat([labels, test_labels]).max()) + 1
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        classifier = Classifier(images.shape[1], widths, num_classes)
    run = Training(classifier, lr=lr, weight_decay=0.05, ema=0.99, seed=seed, device=device, precision=precision)
    for record in train(
        run, images, labels, steps=steps, batch_size=batch_size, warmup=steps // 10, task=Classification(shift)
    ):
        if progress:
            progress(record)
    seen = look_at(run.averaged(), test_images)[1]
    return share(int((seen == test_labels).sum()), len(test_labels))


# ---------------------------------------------------------------------------------------------------------------------
# A network's samples
# ---------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def draw_images(
    denoise: Callable[..., Tensor],
    schedule: Schedule,
    shape: Sequence[int],
    n: int,
    *,
    steps: int = 50,
    num_classes: int = 0,
    labels: Int64[Tensor, "n"] | None = None,
    sampler: Callable[..., Tensor] = sample_ddim,
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
        steps: of a uniform grid; with `sample_ddim` as many network calls.
        num_classes: 0 for samples without a class, whose answer is -1.
        labels: the classes to ask for; 0, 1, …, each equally often, if not given.
        generator: of the noise; lives on the CPU, so that every device draws the same.
        precision: of autocast; float32 means none. The sampler's own arithmetic is in float32.
        batch_size: images at a time.
        progress: called with the number of images done after each batch.
    """
    require_counts(n=n, steps=steps, batch_size=batch_size)
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
    device, grid, images = as_device(device), uniform_grid(schedule, steps), []
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
    denoiser: Denoiser,
    dataset: str,
    *,
    n: int = 10_000,
    steps: int = 50,
    sampler: str = "ddim",
    guidance: float = 1.0,
    num_classes: int = 10,
    full: bool = True,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> Score:
    """Draw n samples on a uniform grid, of the classes of n test images, and compare them with the training split.

    Args:
        denoiser: on the device to draw on.
        dataset: "mnist" or "cifar10".
        n: samples; as many images of the test split make the floor.
        steps, sampler: steps a sample, by "ddim" (no noise on the way) or "ddpm".
        guidance: weight of classifier-free guidance, which calls the network twice a step; 1 does without.
        num_classes: 0 for a denoiser that knows none.
        full: compare with all of the dataset, downloaded, instead of the embedded part.
        progress: called with the number of samples done after each batch.

    Raises DataError if the data cannot be had; ValueError for guidance of a denoiser that knows no classes.
    """
    require_type("denoiser", denoiser, Denoiser, "a Denoiser")
    require_one_of("dataset", dataset, CLASSES)
    require_one_of("sampler", sampler, SAMPLERS)
    require_counts(n=n, steps=steps)
    require_count("seed", seed, least=0)
    require_dtype("precision", precision)
    require_in("guidance", guidance, "[0, inf)")
    if guidance != 1 and not num_classes:
        raise ValueError(f"guidance: wanted 1 for a denoiser that knows no classes, got {guidance:g}")
    denoise: Callable[..., Tensor] = denoiser
    name, nfe = sampler.upper(), steps
    if guidance != 1:
        denoise, name, nfe = classifier_free(denoiser, guidance), f"{name} guided with w = {guidance:g}", 2 * steps
    device = next(denoiser.parameters()).device
    real, floor = reference(dataset, str(device), full), floor_of(dataset, n, str(device), full)
    generator = torch.Generator().manual_seed(seed)
    images, labels = draw_images(
        denoise,
        denoiser.schedule,
        real.shape,
        n,
        steps=steps,
        sampler=functools.partial(SAMPLERS[sampler], generator=generator),
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
        grid="uniform",
        nfe=nfe,
        seed=seed,
    )


def accuracy(classifier: Classifier, dataset: str, *, full: bool = True) -> float:
    """Share of a test split that the classifier names rightly."""
    require_one_of("dataset", dataset, CLASSES)
    images, labels = load_images(dataset, "test", full=full)
    return (look_at(classifier, images)[1] == labels).float().mean().item()
