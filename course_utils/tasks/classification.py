"""The task of a classifier: to name the class of an image."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils._validate import require_count, require_in
from course_utils.data import random_flip, shifted
from course_utils.runs import Training


@dataclass(frozen=True)
class Classification:
    """Cross-entropy, for `training.train`, on images moved by up to `shift` pixels and, if `flip`, mirrored at random.

    `smoothing` of the target's mass is spread over all classes (Szegedy et al. 2016, section 7).
    """

    shift: int = 0
    flip: bool = False
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_count("shift", self.shift, least=0)
        require_in("smoothing", self.smoothing, "[0, 1)")

    def __call__(
        self, run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, None]:
        if label is None:
            raise ValueError("labels: a classifier needs them")
        by = torch.randint(-self.shift, self.shift + 1, (len(x), 2), generator=generator)
        x = shifted(random_flip(x, generator) if self.flip else x, by)[run.rows]
        return F.cross_entropy(run.forward(x), label[run.rows], reduction="none", label_smoothing=self.smoothing), None

    def measure(self, model: Any, dataset: str) -> object:
        """Accuracy on the test split, `metrics.Accuracy`, in float32."""
        from course_utils.metrics import accuracy  # above tasks: it takes classifiers that a recipe of a task describes

        return accuracy(model, dataset)
