"""The task of a classifier: to name the class of an image, clean or noisy."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils._validate import require_count, require_in
from course_utils.data import random_flip, shifted
from course_utils.forward import noise_like
from course_utils.runs import Training
from course_utils.runtime import moved
from course_utils.tasks.denoising import draw_log_snr
from course_utils.tensors import broadcast


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


@dataclass(frozen=True)
class NoisyClassification:
    """Cross-entropy of the class of x_t given its log-SNR, for `training.train` of a `classifier.NoisyClassifier`.

    The noise is that of a variance-preserving schedule, alpha_t² = sigmoid(log-SNR), at log-SNRs as a cosine schedule
    has them: see `tasks.denoising.draw_log_snr`. Nothing is smoothed: guidance wants the gradient of log p itself.
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        require_count("shift", self.shift, least=0)

    def __call__(
        self, run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if label is None:
            raise ValueError("labels: a classifier needs them")
        n = len(x)
        by = torch.randint(-self.shift, self.shift + 1, (n, 2), generator=generator)
        x = shifted(random_flip(x, generator) if self.flip else x, by)
        log_snr = moved(draw_log_snr(n, generator), x.device)
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        x_t = broadcast(alpha, x) * x + broadcast(sigma, x) * noise_like(x, generator)
        rows = run.rows
        log_snr = log_snr.to(x.dtype)[rows]
        return F.cross_entropy(run.forward(x_t[rows], log_snr), label[rows], reduction="none"), log_snr

    def measure(self, model: Any, dataset: str) -> object:
        """Accuracy on the test split at three noise levels."""
        from course_utils.metrics import noisy_accuracy  # above tasks, as `accuracy` is

        named = (f"{noisy_accuracy(model, dataset, level).value:.2%} at {level}" for level in (8, 0, -4))
        return f"of the noisy test split named rightly, by log-SNR: {', '.join(named)}"
