"""A figure measured on n samples, and how far chance may have moved it; what features every measure accepts."""

import math
from collections.abc import Sequence
from numbers import Real
from statistics import NormalDist
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import Call, Count, In, Is, Whole, checked
from course_utils._validate import require_count, require_finite


class _Rows:
    """Two rows or more of finite numbers."""

    def check(self, name: str, features: Tensor, call: Call) -> None:
        if len(features) < 2:
            raise ValueError(f"{name}: wanted 2 rows or more of features, got shape {tuple(features.shape)}")
        if not features.is_meta:  # which has no numbers, and stands for a GPU in tests
            require_finite(name, features)


Features = Annotated[Float[Tensor, "n d"], _Rows()]
Reference = Annotated[Float[Tensor, "m d"], _Rows()]
Level = Annotated[float, In("(0, 1)")]


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


@checked
def share(hits: Annotated[int, Whole(0)], n: Count, *, level: Level = 0.95) -> Estimate:
    """A share, hits / n, with Wilson's interval: all p for which |hits / n - p| <= z sqrt(p (1 - p) / n).

    It never leaves [0, 1], and keeps its level even for shares near 0 or 1, as accuracies are (Wilson 1927).

    Raises:
        ValueError: more hits than n, or a level that is no probability.
    """
    if hits > n:
        raise ValueError(f"hits: wanted 0 … {n}, got {hits}")
    p, z = hits / n, NormalDist().inv_cdf((1 + level) / 2)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half))


@checked
def over_seeds(values: Sequence[float], *, level: Level = 0.95) -> Estimate:
    """The mean over trainings under other seeds, with Student's interval for the mean of all that there could be.

    Raises ValueError for fewer than two, which say nothing of how seeds differ; for NaN or infinity.
    """
    if not isinstance(values, Sequence) or not all(isinstance(value, Real) for value in values):
        raise TypeError(f"values: wanted a list of numbers, one a seed, got {values!r:.80}")
    n = require_count("number of values", len(values), least=2)
    seen = torch.tensor([float(value) for value in values], dtype=torch.float64)
    require_finite("values", seen)
    # With t = sqrt(n - 1) tan(a), Student's density becomes cos(a)^(n - 2): its quantile, by adding up.
    angle = torch.linspace(-torch.pi / 2, torch.pi / 2, 200_001, dtype=torch.float64)[1:-1]
    below = angle.cos().pow(n - 2).cumsum(0)
    t = math.sqrt(n - 1) * angle[torch.searchsorted(below, below[-1] * (1 + level) / 2)].tan().item()
    mean, half = seen.mean().item(), t * (seen.std() / math.sqrt(n)).item()
    return Estimate(mean, mean - half, mean + half)


@checked
def mean_difference(values: Float[Tensor, "n"], others: Float[Tensor, "n"]) -> Estimate:
    """The mean of values less others, pair by pair, with its interval of 95 % for the mean of all pairs.

    What makes a pair large in both falls out of it: 1.96 standard errors of the differences, not of the values.
    """
    difference = (values - others).double()
    mean, half = difference.mean().item(), 1.96 * (difference.std() / math.sqrt(len(difference))).item()
    return Estimate(mean, mean - half, mean + half)


@checked
def subset(
    features: Annotated[Tensor, Is("a tensor")],
    n: Annotated[int, Whole(1, lambda features: len(features))],
    generator: torch.Generator,
) -> Tensor:
    """n rows of anything, drawn at random without replacement: the first n of an official split may not be typical."""
    return features[torch.randperm(len(features), generator=generator)[:n]]
