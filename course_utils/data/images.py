"""MNIST and CIFAR-10 by name: as bytes, with their labels, in the official order."""

import os

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from course_utils._validate import require_count, require_one_of
from course_utils.data.cifar10 import full_cifar10
from course_utils.data.embedded import embedded
from course_utils.files import read_manifest

CLASSES = {
    "mnist": ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
SPLITS = ("train", "test")


def load_images(
    name: str,
    split: str = "train",
    *,
    n: int | None = None,
    full: bool = False,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> tuple[UInt8[Tensor, "n channels height width"], Int64[Tensor, "n"]]:
    """Images and labels of one split, verified against the checksums in `data/manifest.json`.

    MNIST is embedded whole (60,000 and 10,000 images). Of CIFAR-10 the first 500 of each class are embedded (test: the
    first 100); `full=True` gives all 50,000 (test: 10,000) instead.

    Args:
        name: "mnist" or "cifar10".
        split: "train" or "test".
        n: only the first n, in the official order. That order is not shuffled everywhere: the first 5,000 of MNIST's
            test split were written by other people than the last 5,000 and are easier to read.
        full: all official images. Changes nothing for MNIST.
        root: where the whole of CIFAR-10 lies or goes, in torchvision's layout; only read if `full`.
            Default: $COURSE_DATA, else ~/.cache/diffusion-course.
        download: whether torchvision may fetch the whole of CIFAR-10 (170 MB) if it is not under `root`.

    Returns:
        Images, uint8 in 0 … 255, shape (n, 1, 28, 28) or (n, 3, 32, 32); labels, int64 in 0 … 9, shape (n,).

    Raises:
        ValueError: no such name or split, or n out of range.
        DataError: a file is missing, damaged or unreadable, or the download failed.

    Used by every lesson from 01 on.
    """
    require_one_of("name", name, CLASSES)
    require_one_of("split", split, SPLITS)
    manifest, key = read_manifest(), f"{name}/{split}"
    whole = full and key in manifest["full"]
    entry = manifest["full" if whole else "splits"][key]
    if n is not None:
        require_count("n", n)
    if n is not None and n > entry["count"]:
        hint = "; full=True gives more" if key in manifest["full"] and not whole else ""
        raise ValueError(f"n: wanted 1 … {entry['count']}, the images in {key}{hint}, got {n}")

    images, labels = full_cifar10(split, entry, root, download) if whole else embedded(entry, manifest["files"])
    if n is not None:
        images, labels = images[:n].copy(), labels[:n]  # copied, so that the others can be freed
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
