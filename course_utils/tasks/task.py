"""What a task is: what a step of training minimises, and how well a trained network does it."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from course_utils._contract import checked
from course_utils.runs import Training

Losses = Tensor | Mapping[str, Tensor]
"""A loss for each row, (b,); or, of a model in several parts, that by the part which descends on it."""


@runtime_checkable
class Task(Protocol):
    """Any function of this signature is a task; those of the course are dataclasses, whose fields a recipe can name.

    It draws for the whole batch, from the generator alone, and computes `run.rows` of it by `run.forward`, so that
    several processes draw alike.

    Args:
        run: whose `model` is to learn.
        x: the batch: floats of the weights' dtype (images in [-1, 1]), or tokens; on the run's device.
        label: one for each row, or None.
        generator: on the CPU, seeded by the run's seed and step.

    Returns:
        The losses; and what they were taken at, a time for each row, if there are such.
    """

    def __call__(
        self, run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator, /
    ) -> tuple[Losses, Tensor | None]: ...


@runtime_checkable
class Measured(Task, Protocol):
    """A task that measures its own network: what `course evaluate` shows, and a card of a shipped network notes.

    What a measurement can be told is its keywords, each with a default: `n`, `seed`, `steps` and others, which
    `course evaluate` has options for; `precision` of the network, and `progress`, called with how many are done.

    Args:
        model: a trained network, in eval mode, on the device to work on.
        dataset: whose images it was trained on, "mnist" or "cifar10".

    Returns:
        What says itself in one line, `str(…)`: figures with n, an interval, and all that they depend on.
    """

    measure: Callable[..., object]  # measure(model, dataset, *, n=…, …)


@checked
def known_classes(model: nn.Module) -> int:
    """How many classes a network can be asked for; 0 if it knows none."""
    return max(getattr(module, "num_classes", 0) for module in model.modules())
