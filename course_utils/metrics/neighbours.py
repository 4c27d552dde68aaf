"""Which images lie near which: precision and recall, copies of training images."""

from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from course_utils._contract import Count, Whole, checked
from course_utils._validate import require_count, require_finite, require_in, require_type
from course_utils.metrics.estimates import Estimate, Features, Reference, share


def _flat(x: Tensor) -> Tensor:
    """Images or features as rows: features in float64; bytes in float32, moved about zero, where they are exact."""
    x = x.flatten(1)
    return x.double() if x.is_floating_point() else x.float() - 127.5


def _require_comparable(**sets: Tensor) -> None:
    """Raise unless all are images, or all features, on one device, of one shape and kind of numbers: the second's."""
    (first, start), (like, model) = list(sets.items())[:2]
    for name, values in sets.items():
        require_type(name, values, Tensor, "a tensor")
        if values.device != start.device:
            raise ValueError(f"{name}: wanted the device of {first}, {start.device}, got {values.device}")
    for name, values in {like: model, **sets}.items():
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
    k, batch_size = require_count("k", k), require_count("batch_size", batch_size)
    _require_comparable(images=images, among=among)
    if k > len(among):
        raise ValueError(f"k: wanted 1 … {len(among)}, the rows to be near to, got {k}")
    distances, indices = [], []
    for chunk in images.split(batch_size):
        x = _flat(chunk)
        best, which = x.new_empty(len(x), 0), torch.empty(len(x), 0, dtype=torch.long, device=x.device)
        for first in range(0, len(among), 5 * batch_size):
            y = _flat(among[first : first + 5 * batch_size])
            # |x - y|² less |x|², which is the same for all y
            best, picked = torch.cat([best, torch.addmm(y.square().sum(1), x, y.T, alpha=-2)], 1).topk(
                min(k, best.shape[1] + len(y)), largest=False
            )
            here = torch.arange(first, first + len(y), device=x.device).expand(len(x), -1)
            which = torch.cat([which, here], 1).gather(1, picked)
        exact = torch.stack([(x - _flat(among[column])).norm(dim=1) for column in which.T], 1)
        exact, order = exact.sort(1)
        distances.append(exact)
        indices.append(which.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


Neighbours = Annotated[
    int, Whole(1, lambda features, reference: min(len(features), len(reference)) - 1, "fewer than the smaller set has")
]


class Coverage(NamedTuple):
    """How two sets lie to each other; each is a share of images, but for density, which may exceed 1."""

    precision: float  # samples that lie among the real images
    recall: float  # real images that lie among the samples
    density: float  # real balls that a sample lies in, over k
    coverage: float  # real images whose ball holds a sample


@checked
@torch.no_grad()
def precision_recall(
    features: Features, reference: Reference, *, k: Neighbours = 3, batch_size: Count = 500
) -> Coverage:
    """Improved precision and recall (Kynkäänniemi et al. 2019, Eqs. 1 and 2), density and coverage (Naeem et al. 2020).

    Around each image of a set stands a ball that reaches to its k-th nearest neighbour in that set; together they are
    where the set lies. All four depend on n: take as many real images as samples, and show the same figures for real
    images against real ones. Memory does not grow with the sets.

    Raises:
        ValueError: sets of other widths, NaN or infinity, or not more than k images in one of them.
    """
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
    for name, values in {"images": images, "train": train, "unseen": unseen}.items():
        require_count(name, len(values))
    near = nearest(unseen, train)[0][:, 0].quantile(quantile)
    return share(int((nearest(images, train)[0][:, 0] < near).sum()), len(images))
