r"""What a critic and a generator minimise. The critic's answer f(x) is a logit: D(x) = sigmoid(f(x)) is its belief that
x is real. With softplus(a) = log(1 + e^a), -log D = softplus(-f) and -log(1 - D) = softplus(f).

    game               critic                                  generator
    "minimax"          softplus(-f(x)) + softplus(f(G(z)))     -softplus(f(G(z)))       Goodfellow et al. 2014, Eq. 1
    "non_saturating"   the same                                softplus(-f(G(z)))       their section 3
    "relativistic"     softplus(f(G(z)) - f(x))                softplus(f(x) - f(G(z))) Jolicoeur-Martineau 2019, Eq. 3

Lesson 18 derives them. A critic may give several answers a row, as `PointCritic` does: all here is elementwise.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from course_utils._contract import OneOf, checked

GAMES = ("minimax", "non_saturating", "relativistic")
Game = Annotated[str, OneOf(GAMES)]
Answers = Float[Tensor, "b *copies"]


@checked
def critic_loss(of_real: Answers, of_fake: Answers, game: Game = "relativistic") -> Answers:
    """What the critic minimises, from its logits of real points and of made ones, row by row."""
    if game == "relativistic":
        return softplus(of_fake - of_real)
    return softplus(-of_real) + softplus(of_fake)


@checked
def generator_loss(of_real: Answers, of_fake: Answers, game: Game = "relativistic") -> Answers:
    """What the generator minimises. Only the relativistic game looks at the real points' logits."""
    if game == "relativistic":
        return softplus(of_real - of_fake)
    return -softplus(of_fake) if game == "minimax" else softplus(-of_fake)


def gradient_penalty(answers: Float[Tensor, "b *copies"], x: Float[Tensor, "n *shape"]) -> Float[Tensor, "b"]:
    """|grad_x f(x)|², a number a row of answers, to be descended on: R1 at real x, R2 at made ones (Mescheder et al.
    2018, Eq. 9). Of several answers a row, the mean; of a packed critic, over all the points that an answer is about.

    Args:
        answers: the critic's, f(x), whose graph reaches x.
        x: what it was asked, with `requires_grad_()`.
    """
    (slope,) = torch.autograd.grad(answers.sum(), x, create_graph=True)
    return slope.square().reshape(len(answers), -1).sum(1) / answers[0].numel()
