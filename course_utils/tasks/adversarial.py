"""A generator and its critic play (lesson 18): each part of the model descends on a loss of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_utils._validate import require_in, require_one_of
from course_utils.adversarial import GAMES, critic_loss, generator_loss, gradient_penalty
from course_utils.runs import Training
from course_utils.runtime import moved


@dataclass(frozen=True)
class Adversarial:
    r"""Both take a step at a time, from the same weights (Goodfellow et al. 2014; Huang et al. 2024 for the defaults).

        critic:     the game's, + r1 / 2 |grad f(x)|² at real x + r2 / 2 |grad f(G(z))|² at made ones
        generator:  the game's

    Wants a model in two parts, `generator` and `critic`, such as `adversarial.Rivals`, and the run's `parts` to name
    both. The made points that the critic learns from carry no gradient to the generator.

    Args:
        game: one of `adversarial.GAMES`; row i of the data is paired with noise i in the relativistic one.
        r1, r2: weights of the penalties; 0 for none.
    """

    game: str = "relativistic"
    r1: float = 0.0
    r2: float = 0.0

    def __post_init__(self) -> None:
        require_one_of("game", self.game, GAMES)
        require_in("r1", self.r1, "[0, inf)")
        require_in("r2", self.r2, "[0, inf)")

    def __call__(
        self, run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], None]:
        made, critic = (getattr(run.model, part) for part in ("generator", "critic"))
        z = torch.randn(len(x), *made.latent, generator=generator, dtype=torch.float32)
        fake = made(moved(z[run.rows], run.device).to(x.dtype)).to(x.dtype)
        of_critic, of_generator = played(critic, x[run.rows], fake, self.game, self.r1, self.r2)
        return {"critic": of_critic, "generator": of_generator}, None

    def measure(
        self,
        model: Any,
        dataset: str,
        *,
        n: int = 10_000,
        seed: int = 0,
        progress: Callable[[int], object] | None = None,
    ) -> object:
        """FID of n drawn images, recall and the balance of classes: a `metrics.SetScore`."""
        from course_utils.metrics import draw_generated, score_images  # above tasks

        images = draw_generated(model, n, seed=seed, progress=progress)
        return score_images(images, dataset, seed=seed)


def played(
    critic: Any, x: Tensor, made: Tensor, game: str = "relativistic", r1: float = 0.0, r2: float = 0.0, **cond: Any
) -> tuple[Tensor, Tensor]:
    """The critic's loss of real points and made ones, penalties included, and the generator's: a number a row each.

    What the critic is told beside the points is `cond`, such as their classes.
    """
    real, frozen = x.detach().requires_grad_(r1 > 0), made.detach().requires_grad_(r2 > 0)
    of_real, of_frozen = critic(real, **cond), critic(frozen, **cond)
    loss = _a_row(critic_loss(of_real, of_frozen, game))
    if r1:
        loss = loss + r1 / 2 * gradient_penalty(of_real, real)
    if r2:
        loss = loss + r2 / 2 * gradient_penalty(of_frozen, frozen)
    return loss, _a_row(generator_loss(of_real.detach(), critic(made, **cond), game))


def _a_row(losses: Tensor) -> Tensor:
    """One loss a row, if a critic gives several answers: their mean."""
    return losses.reshape(len(losses), -1).float().mean(1)
