"""A generator and its critic (lesson 18): what each minimises, and small networks for both.

The task that lets them play is `tasks.Adversarial`.
"""

from course_utils.adversarial.losses import GAMES, critic_loss, generator_loss, gradient_penalty
from course_utils.adversarial.networks import (
    DigitCritic,
    DigitGenerator,
    PointCritic,
    PointDenoiser,
    PointGenerator,
    Rivals,
    digit_rivals,
    point_rivals,
)

__all__ = [
    "GAMES",
    "DigitCritic",
    "DigitGenerator",
    "PointCritic",
    "PointDenoiser",
    "PointGenerator",
    "Rivals",
    "critic_loss",
    "digit_rivals",
    "generator_loss",
    "gradient_penalty",
    "point_rivals",
]
