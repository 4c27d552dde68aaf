"""Real images as a classifier sees them: what samples are compared with, and the floor that their figures have."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.classifier import Classifier, look_at
from course_utils.data import load_images
from course_utils.metrics.distances import fid
from course_utils.pretrained import load_classifier


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
