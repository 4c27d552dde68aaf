r"""Masked diffusion: each token goes over to MASK once, at a time of its own, and stays there.

    q(x_t = x_0) = alpha_t,   q(x_t = MASK) = 1 - alpha_t,   independently at each of n positions

Given x_t, what is hidden is distributed as p(x_0 | what is not hidden): *when* it was hidden tells nothing more. So a
denoiser of tokens needs no t. The bound on -log p(x_0), for infinitely many steps (Sahoo et al. 2024, Eq. 10):

    E over t of  -alpha_t' / (1 - alpha_t)  sum over hidden i of -log p(x_0^i | x_t)

alpha falls from 1 to 0, and the integral is the same for every such alpha: with u = 1 - alpha_t the weight is 1 / u.
Sum up over which m of the n tokens are hidden, and u integrates away (Ou et al. 2025):

    sum over m = 1 … n of  1 / m  mean over sets of m of  sum over hidden i of -log p(x_0^i | the others)

Bounds are in nats a sequence. Times and keeping probabilities are float64 on the CPU.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_utils._contract import ANYWHERE, SOME, AllIn, Call, Count, checked
from course_utils._validate import require_between, require_count
from course_utils.tensors import as_double


class _Letters:
    """Numbers of letters, 0 … mask - 1, and of MASK if it `may` be there."""

    beside = True

    def __init__(self, may: bool):
        self.may = may

    def check(self, name: str, x: Tensor, call: Call) -> None:
        mask = call.get("mask") or call.get("self.mask")
        if isinstance(mask, int) and mask > 1:  # else its own rule complains
            most = mask if self.may else mask - 1
            require_between(name, x, 0, most, f"tokens 0 … {most}")


class _Rising:
    """Numbers that rise from 0 to 1: alpha at the times of a grid, from the last one down to clean data."""

    def read(self, name: str, value: object, call: Call) -> list[float]:
        kept = as_double(value, name=name)
        if kept.ndim != 1 or len(kept) < 2 or not (kept.diff() > 0).all() or (kept[0], kept[-1]) != (0, 1):
            raise ValueError(f"{name}: wanted alphas that rise from 0 to 1, got {value!r:.60}")
        return kept.tolist()


Tokens = Annotated[Int[Tensor, "b n"], SOME, _Letters(False)]
Masked = Annotated[Int[Tensor, "b n"], SOME, _Letters(True)]
Hidden = Annotated[Bool[Tensor, "b n"], ANYWHERE]
Kept = Annotated[Sequence[float], _Rising()]
Predict = Callable[[Tensor], Tensor]
"""predict(x_t) -> log-probabilities (b, n, V) of what each position is."""
Mask = Count
Share = Annotated[Float[Tensor, "b"], AllIn("[0, 1]")]


def sequence_log_prob(log_probs: Float[Tensor, "b n v"], x_0: Tokens) -> Float[Tensor, "b n"]:
    """The log-probability that each position's own token was given."""
    return log_probs.gather(-1, x_0[..., None].long())[..., 0]


@checked
def hidden_at_random(x_0: Tokens, keep: Share, generator: torch.Generator) -> Bool[Tensor, "b n"]:
    """Which tokens are hidden when each is kept with probability `keep`, a number for each row."""
    u = torch.rand(x_0.shape, generator=generator, dtype=torch.float64)
    return (u >= keep.double().cpu()[:, None]).to(x_0.device)


@checked
def of_hidden(predict: Predict, x_0: Tokens, hidden: Hidden, mask: Mask) -> Float[Tensor, "b"]:
    """-sum over the hidden of log p(x_0^i | x_t), nats a row: what is not hidden is known, and costs nothing.

    Args:
        hidden: (b, n), true where x_t is MASK.
    """
    hidden = hidden.to(x_0.device)
    x_t = torch.where(hidden, mask, x_0)
    return -torch.where(hidden, sequence_log_prob(predict(x_t), x_0), 0.0).sum(1)


@checked
def at_a_time(
    predict: Predict,
    x_0: Tokens,
    alpha: Callable[[Tensor], Tensor],
    t: Share,
    mask: Mask,
    generator: torch.Generator,
) -> Float[Tensor, "b"]:
    r"""One draw of the bound at each row's time:  -alpha_t' / (1 - alpha_t) · `of_hidden`.

    Its mean over t in [0, 1] is the bound. With alpha = 1 - t its variance is infinite: at t = 0.001 one token in a
    thousand is hidden, and counts a thousandfold. `by_counts` has the same mean, and a variance.

    Args:
        alpha: the probability of a token to be still there, falling from 1 at t = 0 to 0 at t = 1; differentiable.
    """
    with torch.enable_grad():
        time = t.detach().double().requires_grad_()
        keep = alpha(time)
        (slope,) = torch.autograd.grad(keep.sum(), time)
    weight = -slope / (1 - keep.detach())
    cost = of_hidden(predict, x_0, hidden_at_random(x_0, keep.detach(), generator), mask)
    return weight.to(cost.device, cost.dtype) * cost


@checked
def hidden_counts(n: Count, length: Count, generator: torch.Generator) -> Bool[Tensor, "n length"]:
    """A set of hidden positions for each of n rows: 1 … length of them, each number as often.

    The numbers of a batch are spread evenly, one in each nth, so that the bound varies less.
    """
    u = (torch.arange(n) + torch.rand(1, generator=generator, dtype=torch.float64)) / n
    count = 1 + (u * length).long().clamp(max=length - 1)
    rank = torch.rand(n, length, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    return rank < count[torch.randperm(n, generator=generator), None]


@checked
def by_counts(predict: Predict, x_0: Tokens, mask: Mask, generator: torch.Generator) -> Float[Tensor, "b"]:
    """One draw of the bound a row:  n / m · `of_hidden`, with m of its n tokens hidden, each m = 1 … n as likely."""
    hidden = hidden_counts(len(x_0), x_0.shape[1], generator).to(x_0.device)
    return x_0.shape[1] / hidden.sum(1) * of_hidden(predict, x_0, hidden, mask)


@checked
def exact_bound(
    predict: Predict,
    x_0: Tokens,
    mask: Mask,
    kept: Kept | None = None,
) -> Float[Tensor, "b"]:
    r"""The bound itself, every set of hidden tokens counted: 2^n calls, so n <= 16.

    A set of m hidden tokens counts  sum over steps  alpha_t^(n-m) (1 - alpha_t)^m (alpha_s - alpha_t) / (1 - alpha_t),
    which for infinitely many steps is the integral (n-m)! (m-1)! / n!  (a beta function), whatever alpha is.

    Args:
        kept: alpha at the times of a grid, rising from 0 to 1; None for infinitely many steps.
    """
    n = x_0.shape[1]
    require_count("x_0", n, 1, 16, "2^n sets of positions are looked at")
    total = torch.zeros(len(x_0), dtype=torch.float64)
    for m in range(1, n + 1):
        weight = _weight(n, m, kept)
        for chosen in itertools.combinations(range(n), m):
            hidden = torch.zeros(x_0.shape, dtype=torch.bool, device=x_0.device)
            hidden[:, chosen] = True
            total += weight * of_hidden(predict, x_0, hidden, mask).double().cpu()
    return total


def _weight(n: int, m: int, kept: Sequence[float] | None) -> float:
    if kept is None:
        return math.factorial(n - m) * math.factorial(m - 1) / math.factorial(n)
    return sum(t ** (n - m) * (1 - t) ** (m - 1) * (s - t) for t, s in itertools.pairwise(kept))
