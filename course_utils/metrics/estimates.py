"""A figure measured on n samples, and how far chance may have moved it; what features every measure accepts."""

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._validate import require_count, require_finite, require_generator, require_in, require_type


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


def subset(features: Float[Tensor, "n d"], n: int, generator: torch.Generator) -> Float[Tensor, "m d"]:
    """n rows drawn at random without replacement: the first n of an official split may not be typical of it."""
    require_type("features", features, Tensor, "a tensor")
    require_generator(generator)
    require_count("n", n)
    if n > len(features):
        raise ValueError(f"n: wanted 1 … {len(features)}, got {n}")
    return features[torch.randperm(len(features), generator=generator)[:n]]


def require_features(features: Tensor, reference: Tensor, least: int = 2) -> None:
    require_together(features=features, reference=reference)
    for name, values in (("features", features), ("reference", reference)):
        require_rows(name, values, least)
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features: wanted {reference.shape[1]} of them, as the reference has, got {features.shape[1]}"
        )


def require_together(**sets: Tensor) -> None:
    """Raise unless all are tensors on one device."""
    (first, model), *_ = sets.items()
    for name, values in sets.items():
        require_type(name, values, Tensor, "a tensor")
        if values.device != model.device:
            raise ValueError(f"{name}: wanted the device of {first}, {model.device}, got {values.device}")


def require_rows(name: str, features: Tensor, least: int) -> None:
    require_finite(name, features)
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"{name}: wanted {least} rows or more of features, got shape {tuple(features.shape)}")
