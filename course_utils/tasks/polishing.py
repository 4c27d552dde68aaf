r"""Jumps that a critic polishes: regression says where each should end, a game how they look together (lesson 14)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_utils._validate import require_count, require_in
from course_utils.runs import Training
from course_utils.tasks.adversarial import played
from course_utils.tasks.distillation import Jumping


@dataclass(frozen=True)
class Polishing(Jumping):
    r"""`Jumping`, and then also a game against real images (Sauer et al. 2023, Eq. 1; Huang et al. 2024 for the game).

        generator:  Jumping's loss + weight · softplus(f(x) - f(G))
        critic:     softplus(f(G) - f(x)) + penalty / 2 (|grad f(x)|² + |grad f(G)|²)

    Squared errors ask for the mean of what may be, which is a little too smooth; a critic f that has seen real images x
    of the class finds that. A row of the data is a path, and behind it such an image: (len(times) + 1, *shape).

    Wants a model in two parts, `generator` and `critic` (`adversarial.Rivals`), and the run's `parts` to name both.

    Args:
        alone: steps before the critic joins in.
        weight: of the game, in what the generator minimises.
        penalty: R1 at real images, R2 at made ones.
    """

    alone: int = 0
    weight: float = 0.02
    penalty: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("alone", self.alone, least=0)
        require_in("weight", self.weight, "[0, inf)")
        require_in("penalty", self.penalty, "[0, inf)")

    def __call__(
        self, run: Training, rows: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        paths, x = rows[:, :-1], rows[run.rows, -1]
        losses, t, made = self.jump(run, paths, label, generator)
        if run.step < self.alone:
            return {"generator": losses}, t
        cond: dict[str, Any] = {} if label is None else {"label": label[run.rows]}
        of_critic, of_generator = played(
            run.model.critic, x, made.to(x.dtype), r1=self.penalty, r2=self.penalty, **cond
        )
        return {"generator": losses + self.weight * of_generator, "critic": of_critic}, t

    def measure(self, model: Any, dataset: str, **options: Any) -> object:
        """What the generator's jumps are worth, see `Jumping`."""
        return super().measure(getattr(model, "generator", model), dataset, **options)
