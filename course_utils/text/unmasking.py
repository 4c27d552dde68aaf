r"""From MASK to text: samplers of masked diffusion. What is known in x_T is carried through, untouched. Lesson 19.

One step reveals several tokens, each drawn by itself from p(x^i | x_t). They are not independent, so a step that
reveals more than one is wrong even with an exact denoiser; one at a time, in any order, is right: the chain rule.
"""

import itertools
from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils._contract import Count, OneOf, Whole, checked
from course_utils.text.kernel import Mask, Masked, Predict

CHOICES = ("random", "sure", "drawn")
Callback = Callable[[Tensor], None]


def draw_tokens(log_probs: Float[Tensor, "b n v"], generator: torch.Generator) -> Int[Tensor, "b n"]:
    """A token for each position, by the inverse of the running sum in float64.

    Gumbel noise in float32 would prefer what is probable (Zheng et al. 2024).
    """
    total = log_probs.double().exp().cpu().cumsum(-1)
    u = torch.rand(total.shape[:-1], generator=generator, dtype=torch.float64)[..., None] * total[..., -1:]
    return (u >= total).sum(-1).clamp(max=log_probs.shape[-1] - 1).to(log_probs.device)


@checked
@torch.no_grad()
def sample_ancestral(
    predict: Predict,
    x_T: Masked,
    mask: Mask,
    steps: Count,
    *,
    generator: torch.Generator,
    callback: Callback | None = None,
) -> Int[Tensor, "b n"]:
    r"""`steps` reverse steps of equal length with alpha_t = 1 - t (Sahoo et al. 2024, Eq. 7).

    A hidden token is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t), drawn from p(x^i | x_t).

    Args:
        x_T: what is known, and MASK where something is to be drawn.
        callback: gets x after each step.
    """
    x = x_T.clone()
    kept = [i / steps for i in range(steps + 1)]
    for a_t, a_s in itertools.pairwise(kept):
        drawn = draw_tokens(predict(x), generator)
        reveal = torch.rand(x.shape, generator=generator, dtype=torch.float64) < (a_s - a_t) / (1 - a_t)
        x = torch.where((x == mask) & reveal.to(x.device), drawn, x)
        if callback is not None:
            callback(x)
    return x


@checked
@torch.no_grad()
def sample_chosen(
    predict: Predict,
    x_T: Masked,
    mask: Mask,
    steps: Count,
    *,
    by: Annotated[str, OneOf(CHOICES)] = "sure",
    generator: torch.Generator,
    callback: Callback | None = None,
) -> Int[Tensor, "b n"]:
    """Reveal as many tokens in each step, at chosen positions; each row has its own count of hidden ones.

    Args:
        by: which are revealed. "random": any. "sure": where the likeliest token is likeliest, before anything is drawn,
            so that one at a time keeps the law. "drawn": where the token that was drawn is likely (MaskGIT: Chang et
            al. 2022), which prefers likely sentences even one at a time.
    """
    x = x_T.clone()
    for left in range(steps, 0, -1):
        hidden = x == mask
        log_probs = predict(x)
        drawn = draw_tokens(log_probs, generator)
        if by == "random":
            score = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        elif by == "sure":
            score = log_probs.amax(-1).double()
        else:
            score = log_probs.gather(-1, drawn[..., None])[..., 0].double()
        score = score.masked_fill(~hidden, -torch.inf)
        count = (hidden.sum(1) + left - 1) // left  # so many, rounded up, that none is left at the end
        rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        x = torch.where(hidden & (rank < count[:, None]), drawn, x)
        if callback is not None:
            callback(x)
    return x


@checked
@torch.no_grad()
def sample_left_to_right(
    predict: Predict, n: Count, length: Annotated[int, Whole(1)], mask: Mask, *, generator: torch.Generator
) -> Int[Tensor, "b n"]:
    """n texts of an autoregressive network, a token at a time: `predict(x)[:, i]` looks at x[:, :i] alone."""
    x = torch.full((n, length), mask)
    for i in range(length):
        x[:, i] = draw_tokens(predict(x)[:, i : i + 1], generator)[:, 0]
    return x
