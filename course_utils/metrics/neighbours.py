"""Which images lie near which: precision and recall, copies of training images."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from course_utils._contract import FINITE, SOME, Count, In, Whole, checked
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


@checked
@torch.no_grad()
def two_nearest(
    images: Annotated[Float[Tensor, "n *shape"], SOME, FINITE],
    train: Annotated[Float[Tensor, "m *shape"], SOME, FINITE],
    *,
    moves: Annotated[Int64[Tensor, "k 2"], SOME] | None = None,
    batch_size: Count = 200,
) -> Float[Tensor, "n 2"]:
    """Distances to the nearest training image and to the nearest *other* one, whichever of the moves brings it nearest.

    Args:
        images, train: floats, (n, c, h, w); two training images or more.
        moves: rows and columns by which an image is moved, in turn, before it is compared, on the pixels that stay in
            sight: where a network was trained on moved images, its copies are moved too. Moved training images in
            `train` would not do: the second nearest were then the same image, moved otherwise.

    Raises:
        ValueError: images of other shapes, fewer than two training images, or no move.
    """
    require_count("train: number of images", len(train), least=2)
    moves = torch.zeros(1, 2, dtype=torch.long) if moves is None else moves
    train, found = train.to(images.dtype), []
    for x in images.split(batch_size):
        each = [_apart(_overlap(x, by), _overlap(train, [-step for step in by])) for by in moves.tolist()]
        found.append(torch.stack(each).amin(0).topk(2, largest=False).values)
    return torch.cat(found)


def _overlap(x: Tensor, by: Sequence[int]) -> Tensor:
    """The pixels of images that stay in sight when they are moved."""
    (i, j), (h, w) = by, x.shape[-2:]
    return x[..., max(0, -i) : h - max(0, i), max(0, -j) : w - max(0, j)]


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """All distances of two sets of images; of equal ones zero, which a matrix product would miss."""
    return torch.cdist(x.flatten(1), y.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")


@checked
def ratio_test(
    images: Annotated[Float[Tensor, "n *shape"], SOME, FINITE],
    train: Annotated[Float[Tensor, "m *shape"], SOME, FINITE],
    *,
    ratio: Annotated[float, In("(0, 1]")] = 1 / 3,
    **looking: Any,
) -> Estimate:
    """The share of images that are copies: nearer to one training image than `ratio` times the distance to any other.

    d_1 < ratio · d_2 (Yoon et al. 2023, section 3). Unlike a threshold on d_1 alone it needs no yardstick, and minds
    simple images less, which lie near to many. How often it errs is its share among unseen real images; say it too.

    Args:
        ratio: 1/3 in most papers.
        looking: `moves` and `batch_size`, as of `two_nearest`.
    """
    first, second = two_nearest(images, train, **looking).unbind(1)
    return share(int((first < ratio * second).sum()), len(images))
