r"""Muon: a matrix of weights takes a step along its momentum made orthogonal (Jordan et al. 2024; Liu et al. 2025).

The gradient of a matrix is often nearly of low rank: a few directions are large, and what is rare is learned late. With
the momentum's singular value decomposition M = U S V^T, Muon steps along U V^T, the nearest orthogonal matrix: every
direction counts the same. Five products of matrices stand in for the decomposition.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils._contract import Count, checked

QUINTIC = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024: steep at 0, and near 1 on average afterwards, not exactly
# What networks call their two ends, and what tells them the time and the class:
FIRST, LAST, EMBED = {"first"}, {"last", "head"}, {"embed"}


@checked
def orthogonalised(matrices: Float[Tensor, "b rows columns"], steps: Count = 5) -> Float[Tensor, "b rows columns"]:
    """Nearly U V^T of each matrix U S V^T, in its own dtype:  X <- a X + b (X X^T) X + c (X X^T)² X,  from X / |X|_F.

    A step leaves U and V as they are and makes a s + b s³ + c s⁵ of each singular value s (Newton & Schulz; `QUINTIC`).
    Five bring those above 1 % of |X|_F to between 0.68 and 1.14; zeros stay zeros.
    """
    a, b, c = QUINTIC
    X = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices  # the smaller square is the cheaper one
    X = X / X.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(steps):
        square = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(square, square, square, beta=b, alpha=c), X, beta=a)
    return X.mT if matrices.shape[1] > matrices.shape[2] else X


class Muon(torch.optim.AdamW):
    """Muon for the groups that say "orthogonal": True, AdamW for all others; one rate serves both.

        M <- mu M + (1 - mu) G,    W <- (1 - lr wd) W - lr 0.2 sqrt(max(rows, columns)) O(mu M + (1 - mu) G)

    with O for `orthogonalised`. An orthogonal matrix has the root mean square 1 / sqrt(max(rows, columns)); made 0.2,
    it is that of AdamW's steps (Liu et al. 2025, Eq. 4). Weights of convolutions are matrices (out, in · k · k).

    Args:
        groups: of weights, as of every optimizer.
        precision: what O is computed in: bfloat16 where that is fast, else float32.
        **settings: of AdamW, for groups that do not say them: lr, betas, weight_decay, …
    """

    def __init__(self, groups: Any, precision: torch.dtype = torch.float32, momentum: float = 0.95, **settings: Any):
        super().__init__(groups, **settings)
        self.precision, self.momentum = precision, momentum

    def __getstate__(self) -> dict[str, Any]:  # what a copy gets
        return super().__getstate__() | {"precision": self.precision, "momentum": self.momentum}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the gradients of matrices are used up."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}  # those of one shape are made orthogonal together
            for weight in group["params"] if group.get("orthogonal") else ():
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for weights in alike.values():
                self._descend(weights, group)
        super().step()  # which passes by what has no gradient
        return loss

    def _descend(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        ahead = []
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            assert gradient is not None
            gradient = -gradient if group["maximize"] else gradient
            if not state:  # by the names of Adam's, which asks every weight for its "step"
                state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(weight)}
            mean = state["exp_avg"].lerp_(gradient, 1 - self.momentum)
            ahead.append(gradient.lerp(mean, self.momentum).flatten(1))  # Nesterov's: one step further
        turned = orthogonalised(torch.stack(ahead).to(self.precision))
        length = 0.2 * max(turned.shape[1:]) ** 0.5
        for weight, along in zip(weights, turned, strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(along.view(weight.shape), alpha=-group["lr"] * length)
            weight.grad = None


def hidden_matrices(network: nn.Module) -> list[Tensor]:
    """The weights of a network that Muon is for: of linear layers and convolutions between its two ends.

    An end that is not called so is the first of its layers, or the last, in the order in which they were made.
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
    found = [(set(name.split(".")), layer) for name, layer in network.named_modules() if isinstance(layer, layers)]
    found = [(names, layer) for names, layer in found if not names & EMBED]
    called = set[str]().union(*(names for names, _ in found))
    found = found[0 if called & FIRST else 1 : None if called & LAST else -1]
    inner = [layer for names, layer in found if not names & (FIRST | LAST)]
    return [layer.weight for layer in inner if not isinstance(layer, nn.Embedding)]  # of which each row is one's own
