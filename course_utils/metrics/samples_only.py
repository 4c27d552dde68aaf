"""A classifier that has seen nothing but samples: what it does not know of real images, the samples lack."""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from course_utils._contract import Count, Sizes, Whole, checked
from course_utils.classifier import Classifier, look_at
from course_utils.metrics.estimates import Estimate, share
from course_utils.tasks import Classification
from course_utils.training import Record, Training, train


@checked
def samples_only_accuracy(
    images: UInt8[Tensor, "n c h w"],
    labels: Integer[Tensor, "n"],
    test_images: UInt8[Tensor, "m c h w"],
    test_labels: Integer[Tensor, "m"],
    *,
    steps: Count = 400,
    batch_size: Count = 128,
    lr: float = 3e-3,
    shift: int = 2,
    widths: Annotated[Sequence[int], Sizes()] = (32, 64, 64),
    seed: Annotated[int, Whole(0)] = 0,
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
    for name, values in (("labels", labels), ("test_labels", test_labels)):
        if (values < 0).any():
            got = values.min().item()
            raise ValueError(f"{name}: wanted classes 0, 1, …, got {got}; draw samples with num_classes")
    num_classes = 1 + int(max(labels.max(), test_labels.max()))
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
    return share(int((seen == test_labels.cpu()).sum()), len(test_labels))
