r"""A language whose sentences can be listed: its exact denoiser, and the exact law of a sampler's draws. Lesson 19."""

import itertools
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils._contract import FINITE, Count, In, checked
from course_utils.text.kernel import Kept, Mask, Masked, Predict


class Language:
    """Sentences of one length and their probabilities; `predict` is the exact denoiser of masked diffusion.

    Args:
        sentences: (k, n) tokens 0 … V - 1, each sentence once.
        vocabulary: V; MASK is the number V.
        weights: of the sentences, as they are proportional; equal unless told.
    """

    @checked
    def __init__(
        self,
        sentences: Int[Tensor, "k n"],
        vocabulary: Count,
        weights: Annotated[Float[Tensor, "k"], FINITE] | None = None,
    ):
        if len(sentences.unique(dim=0)) != len(sentences):
            raise ValueError("sentences: wanted each once")
        if sentences.min() < 0 or sentences.max() >= vocabulary:
            raise ValueError(f"sentences: wanted tokens 0 … {vocabulary - 1}")
        weights = torch.ones(len(sentences)) if weights is None else weights
        self.sentences, self.vocabulary, self.mask = sentences.long(), vocabulary, vocabulary
        self.log_weights = (weights.double() / weights.double().sum()).log()
        self._letters = torch.nn.functional.one_hot(self.sentences, vocabulary).double().flatten(1)  # (k, n V)

    @checked
    def log_prob(self, x: Masked) -> Float[Tensor, "b"]:
        """log p of whole sentences, float64; -inf for what is none."""
        x = x.to(self.sentences.device)
        same = (x[:, None] == self.sentences).all(-1)
        return torch.where(same, self.log_weights, -torch.inf).logsumexp(1)

    @checked
    def predict(self, x_t: Masked) -> Float[Tensor, "b n v"]:
        """log p(each position is v | what is not MASK), float64; where no sentence fits, each token is as likely."""
        if x_t.shape[1] != self.sentences.shape[1]:
            raise ValueError(f"x_t: wanted {self.sentences.shape[1]} letters a row, got {x_t.shape[1]}")
        x_t, back = x_t.to(self.sentences.device).unique(
            dim=0, return_inverse=True
        )  # samplers ask the same of many rows
        fits = torch.ones(len(x_t), len(self.sentences), dtype=torch.bool)
        for i, column in enumerate(self.sentences.T):  # position by position: (b, k) at a time
            fits &= (x_t[:, i, None] == column) | (x_t[:, i, None] == self.mask)
        p = torch.where(fits, self.log_weights.exp(), 0.0)  # (b, k)
        mass = (p @ self._letters).unflatten(1, (-1, self.vocabulary))
        mass = torch.where(p.sum(1)[:, None, None] > 0, mass, 1.0)
        return (mass / mass.sum(-1, keepdim=True)).log()[back]

    @property
    def entropy(self) -> float:
        """In nats: what the best of all models needs for a sentence, on average."""
        return -(self.log_weights.exp() * self.log_weights).sum().item()

    @property
    def states(self) -> Int[Tensor, "s n"]:
        """Every x_t there could be: (V + 1)^n of them, all masked the last."""
        return torch.cartesian_prod(*[torch.arange(self.vocabulary + 1)] * self.sentences.shape[1]).reshape(
            -1, self.sentences.shape[1]
        )


Alpha = Annotated[float, In("[0, 1]")]
Later = Annotated[float, In("(a_t, 1]")]  # more is there after the step


@checked
def reverse_kernel(predict: Predict, states: Int[Tensor, "s n"], mask: Mask, a_t: Alpha, a_s: Later) -> Tensor:
    r"""p(x_s | x_t) of a reverse step from every state to every other, (s, s), float64. Each position by itself:

    known: stays.    MASK: stays with (1 - alpha_s) / (1 - alpha_t), else becomes v with p(v | x_t)
    """
    hidden = states == mask
    stay = (1 - a_s) / (1 - a_t)
    p = predict(states).double().exp()  # (s, n, V)
    table = torch.cat([(1 - stay) * p, torch.full((*states.shape, 1), stay, dtype=torch.float64)], -1)
    known = torch.nn.functional.one_hot(states, mask + 1).double()
    table = torch.where(hidden[..., None], table, known)
    position = torch.arange(states.shape[1])
    return table[:, position, states].prod(-1)  # table[s, j, states[s', j]]


@checked
def law_of(language: Language, kept: Kept, predict: Predict | None = None) -> Float[Tensor, "s"]:
    """The exact probability of each of `language.states` after ancestral steps from all MASK along a grid of alphas.

    Args:
        kept: alpha at the times of the grid, rising from 0 to 1.
        predict: the exact denoiser unless told.
    """
    states = language.states
    answer = predict or language.predict
    law = torch.zeros(len(states), dtype=torch.float64)
    law[-1] = 1.0
    for a_t, a_s in itertools.pairwise(kept):
        law = law @ reverse_kernel(answer, states, language.mask, a_t, a_s)
    return law
