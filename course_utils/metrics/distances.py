"""How far two sets of features lie apart: FID, with its floor, its bias and its interval; KID."""

import warnings
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils._contract import SOME, AllIn, Count, Whole, checked
from course_utils.metrics.estimates import Estimate, Features, Level, Reference

SubsetSize = Annotated[
    int, Whole(2, lambda features, reference: min(len(features), len(reference)), "the images of the smaller set")
]


@checked
def fid(features: Features, reference: Reference) -> float:
    """The Fréchet distance of two Gaussians with the sets' means and covariances (Heusel et al. 2017, Eq. 6):

    |mu - mu_r|² + tr(S + S_r - 2 (S S_r)^{1/2})

    Biased upwards by what `chance_fid` says: only figures of the same n, and of the same features, can be compared.
    Computed by torchmetrics, in float64.

    Raises:
        ValueError: sets of other widths, or with fewer than two images; NaN or infinity in one of them.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    distance = FrechetInceptionDistance(_AsTheyAre(features.shape[1])).set_dtype(torch.float64).to(features.device)
    distance.update(features.double(), real=False)
    distance.update(reference.double(), real=True)
    return max(0.0, distance.compute().item())  # of a set with itself rounding alone is left, of either sign


@checked
def gaussian_chance_fid(
    variances: Annotated[Float[Tensor, "d"], SOME, AllIn("[0, inf)")], n: Count, m: Count | None = None
) -> float:
    r"""The FID that n samples of a Gaussian have by chance, on average, against m others of it (None: the law itself):

    (1/n + 1/m) [ 5/4 sum_i l_i + 1/2 sum_ij l_i l_j / (l_i + l_j) ],   l the eigenvalues of the covariance

    To first order in d/n; about d² / (4 n) for each of the sets if all l are 1 and d is large. Lesson 09 derives it.

    Args:
        variances: the eigenvalues, zero or more.
    """
    l = variances.double()
    spread = l[:, None] * l * (1 + torch.eye(len(l), dtype=l.dtype, device=l.device))  # n Var of a covariance's entries
    return _chance(l, spread, n, m)


@checked
def chance_fid(features: Features, n: Count, m: Count | None = None) -> float:
    """`gaussian_chance_fid` for features that are no Gaussian's: their fourth moments take the place of its own.

    (1/n + 1/m) [ sum_i l_i + 1/2 sum_ij Var(z_i z_j) / (l_i + l_j) ],  z the centred features on their principal axes
    """
    z = features.double() - features.double().mean(0)
    l, axes = torch.linalg.eigh(z.T @ z / len(z))
    squared = (z @ axes).square()
    return _chance(l.clamp(min=0), squared.T @ squared / len(z) - l.square().diag(), n, m)


def _chance(l: Tensor, spread: Tensor, n: int, m: int | None) -> float:
    sums = l[:, None] + l
    live = sums > 1e-12 * sums.max()  # features that never vary add nothing
    once = l.sum() + torch.where(live, spread / torch.where(live, sums, 1.0), 0.0).sum() / 2
    return once.item() * (1 / n + (1 / m if m else 0.0))


@checked
def fid_interval(
    features: Features,
    reference: Reference,
    *,
    resamples: Annotated[int, Whole(2)] = 200,
    level: Level = 0.95,
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


@checked
def kid(
    features: Features,
    reference: Reference,
    *,
    subsets: Count = 100,
    subset_size: SubsetSize | None = None,
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

    size = min(1000, len(features), len(reference)) if subset_size is None else subset_size
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        distance = KernelInceptionDistance(_AsTheyAre(features.shape[1]), subsets=subsets, subset_size=size)
    distance.update(features.double(), real=False)
    distance.update(reference.double(), real=True)
    with torch.random.fork_rng([]):  # torchmetrics draws from the global stream
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return distance.compute()[0].item()


class _AsTheyAre(nn.Module):
    """What torchmetrics calls on images to get features, for when they are features already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
