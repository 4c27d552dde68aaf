"""Which t to train on: those whose loss has been large."""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils._contract import ANYWHERE, FINITE, AllIn, Count, In, checked


class LossAwareSampler:
    """Draws training times t in proportion to how large their loss has been (Nichol & Dhariwal 2021, Eq. 18).

    p_t ∝ sqrt(E[L_t²]),  and the loss is weighted by 1 / (T p_t), so its expectation stays that of a uniform t while
    its variance falls. Each t keeps its last `history` losses; until all have that many, t is uniform. Where large
    losses are rare, a short history misses them and makes the variance worse: give it more memory, and a larger share.

    Args:
        T: number of noise levels.
        history: losses remembered per t.
        uniform: share of draws spread evenly, so that no t is forgotten.
    """

    @checked
    def __init__(self, T: Count, history: Count = 10, uniform: Annotated[float, In("[0, 1]")] = 0.001):
        self.T, self.uniform = T, uniform
        self.losses = torch.zeros(T + 1, history, dtype=torch.float64)  # row t, newest last; row 0 is never used
        self.counts = torch.zeros(T + 1, dtype=torch.long)

    @property
    def probabilities(self) -> Float[Tensor, "levels"]:
        """p_t for t = 0 … T, with p_0 = 0: clean images are not trained on."""
        p = self.losses[1:].square().mean(1).sqrt()
        # Too few losses, or losses that are all zero, say nothing: then every t is as good as another.
        if (self.counts[1:] < self.losses.shape[1]).any() or p.sum() == 0:
            p = torch.ones_like(p)
        p = (1 - self.uniform) * p / p.sum() + self.uniform / self.T
        return torch.cat([p.new_zeros(1), p])

    @checked
    def sample(self, n: Count, generator: torch.Generator | None = None) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """n times t in 1 … T, and the weight 1 / (T p_t) of each one's loss."""
        p = self.probabilities
        t = torch.multinomial(p, n, replacement=True, generator=generator)
        return t, 1 / (self.T * p[t])

    @checked
    def update(
        self,
        t: Annotated[Int[Tensor, "n"], ANYWHERE, AllIn("[1, self.T]")],
        losses: Annotated[Float[Tensor, "n"], FINITE],
    ) -> None:
        """Remember the unweighted loss of each image at its t."""
        for i, loss in zip(t.tolist(), losses.detach().double().tolist(), strict=True):
            self.losses[i] = torch.cat([self.losses[i, 1:], torch.tensor([loss], dtype=torch.float64)])
            self.counts[i] += 1
