"""What a step of training minimises, as `training.train` sees it."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

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
