"""Shuffled batches of anything that comes in rows: images as bytes, latents, waveforms, tokens."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Integer, Shaped
from torch import Tensor

from course_utils._validate import (
    as_device,
    require_count,
    require_dtype,
    require_finite,
    require_generator,
    require_whole,
)
from course_utils.data.pixels import normalize
from course_utils.runtime import moved


def as_batch(x: Shaped[Tensor, "b *shape"], device: torch.device, dtype: torch.dtype) -> Shaped[Tensor, "b *shape"]:
    """What a network is shown: bytes are images, and go to [-1, 1]; floats get the dtype; tokens are int64."""
    x = moved(x, device)
    return normalize(x, dtype) if x.dtype == torch.uint8 else x.to(dtype if x.is_floating_point() else torch.long)


def as_labels(label: Shaped[Tensor, "b *shape"], device: torch.device) -> Shaped[Tensor, "b *shape"]:
    """Whole numbers as int64; floats, such as a pitch, as they are."""
    label = moved(label, device)
    return label if label.is_floating_point() else label.long()


def batches(
    images: Shaped[Tensor, "n *shape"],
    labels: Integer[Tensor, "n"] | None = None,
    batch_size: int = 128,
    *,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    drop_last: bool = True,
    epochs: int | None = None,
    skip: int = 0,
) -> Iterator[Any]:
    """Shuffled batches, each image once an epoch, in a new order every epoch; images of bytes are normalised.

    There are no worker processes, because there is nothing for them to do: the images are in memory as bytes (47 MB for
    MNIST, 154 MB for CIFAR-10), a batch is one lookup, and only bytes travel to the device, where they become floats of
    four times the size. Pass images that live on the GPU already and nothing travels at all.

    Args:
        images: uint8 (n, channels, height, width), clips with frames before height, on any device; kept as they are.
            Floats (latents, waveforms) and tokens, whole numbers, of any shape (n, …), are not normalised.
        labels: one per image, whole numbers of any kind (bytes, as the data files have them), or None.
        batch_size: images per batch.
        generator: draws one permutation an epoch; the global random stream is left alone.
        device, dtype: where batches go, None: where `images` is; and of what floating-point kind they are.
        drop_last: leave out an epoch's last batch if it is short.
        epochs: how often to go through the images; None: for ever.
        skip: batches to leave out at the start, unbuilt. With the generator as it was at the beginning, a resumed run
            finds its place: `batches(…, skip=k)` is what was left after k batches.

    Yields:
        (x, y), or x if there are no labels: x (batch_size, …), float32 in [-1, 1] if the images are bytes; y int64,
        (batch_size,).

    Raises:
        TypeError: images are not numbers.
        ValueError: images as bytes without channels, or floats with NaN; labels that do not match the images, or not
            one whole batch.

    Used by lessons 04 … 19.
    """
    _require_data(images)
    require_generator(generator)
    require_dtype("dtype", dtype)
    batch_size, skip = require_count("batch_size", batch_size), require_count("skip", skip, least=0)
    if epochs is not None:
        epochs = require_count("epochs", epochs, least=0)
    n, device = len(images), images.device if device is None else as_device(device)
    if labels is not None:
        require_whole("labels", labels)
        if labels.shape != (n,):
            raise ValueError(f"labels: wanted one for each of {n} images, got {tuple(labels.shape)}")
    if (n // batch_size if drop_last else n) < 1:
        raise ValueError(f"batch_size: wanted 1 … {n}, the number of images, got {batch_size}")

    per_epoch = n // batch_size if drop_last else None

    def indices() -> Iterator[Tensor]:
        for _ in itertools.count() if epochs is None else range(epochs):
            order = torch.randperm(n, generator=generator, device=generator.device).to(images.device)
            yield from order.split(batch_size)[:per_epoch]

    def generate() -> Iterator[Any]:
        for chosen in itertools.islice(indices(), skip, None):
            x = as_batch(images[chosen], device, dtype)
            yield x if labels is None else (x, as_labels(labels[chosen.to(labels.device)], device))

    return generate()  # a function of its own, so that wrong arguments are reported at the call, not at the first batch


def _require_data(images: object) -> None:
    if isinstance(images, Tensor) and images.is_floating_point():
        require_finite("images", images)
    elif not isinstance(images, Tensor) or images.dtype != torch.uint8:
        require_whole("images", images)
    elif images.ndim < 4:
        raise ValueError(
            f"images: wanted bytes of shape (n, channels, height, width), got {tuple(images.shape)}; images[:, None] "
            "has one channel"
        )
