"""Real images as a classifier sees them: what samples are compared with, and the floor that their figures have."""

import functools
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.classifier import Classifier, look_at
from course_utils.data import load_images
from course_utils.metrics.distances import fid
from course_utils.pretrained import load_classifier, load_moments


class Reference(NamedTuple):
    """Real images as a classifier sees them."""

    classifier: Classifier
    shape: tuple  # of an image
    train: Tensor  # a set with the mean and the covariance of the training split's features: all that FID asks of it
    test: Tensor  # features of the test split
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
    """What a dataset's classifier sees in both splits; looked at once, and kept for the next call.

    Where mean and covariance of the training split are stored (`pretrained.load_moments`), it need not be looked at.
    """
    classifier = load_classifier(dataset, device)
    test, labels = load_images(dataset, "test", full=full)
    if moments := load_moments(dataset):
        train = _points_with(*moments)
    else:
        train = look_at(classifier, load_images(dataset, "train", full=full)[0])[0]
    return Reference(classifier, test.shape[1:], train, look_at(classifier, test)[0], labels)


def _points_with(mean: Float[Tensor, "d"], covariance: Float[Tensor, "d d"]) -> Float[Tensor, "2*d d"]:
    """Points of this mean and (unbiased) covariance: mean ± a_i sqrt((2d - 1) / 2), if covariance = sum a_i a_i^T."""
    values, axes = torch.linalg.eigh(covariance)
    root = (axes * values.clamp(min=0).sqrt()).T  # its rows are the a_i
    shift = root * ((2 * len(mean) - 1) / 2) ** 0.5
    return torch.cat([mean + shift, mean - shift])


@functools.lru_cache(maxsize=8)
def floor_of(dataset: str, n: int, device: str = "cpu", full: bool = True) -> float:
    """FID of n real images of the test split against the training split: a mean over up to four disjoint draws."""
    real = reference(dataset, device, full)
    draws = real.draws(n)
    return sum(fid(real.test[chosen], real.train) for chosen in draws) / len(draws)
