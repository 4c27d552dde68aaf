r"""The tasks of text: to fill in what is hidden, and to say what comes next (lesson 19)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_utils._validate import require_count
from course_utils.data.texts import held_out_rows
from course_utils.runs import Training
from course_utils.text import by_counts, fill_blanks, hidden_counts, of_hidden, sequence_log_prob, shuffled_sums


@dataclass(frozen=True)
class Unmasking:
    """Masked diffusion, for `training.train` of a `text.TokenTransformer`: its bound, in nats a token."""

    def __call__(self, run: Training, x: Tensor, label: None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        hidden = hidden_counts(len(x), x.shape[1], generator).to(x.device)[run.rows]
        x = x[run.rows]
        model: Any = run.model
        losses = of_hidden(run.forward, x, hidden, model.mask) / hidden.sum(1)
        return losses, hidden.double().mean(1).cpu()

    def measure(self, model: Any, dataset: str, *, n: int = 400, seed: int = 0) -> object:
        """Of sums the share of blanks filled rightly; of a text the bound, bits a character, on held-out rows."""
        require_count("n", n, least=2)
        generator = torch.Generator().manual_seed(seed)
        if dataset == "sums":
            from course_utils.metrics import share  # above tasks

            right = fill_blanks(model, shuffled_sums()[1][:n], generator=generator)
            of_all = share(int(right.sum()), len(right))
            found = f"{of_all.value:.1%} [{of_all.low:.1%}, {of_all.high:.1%}]"
            return f"{found} of {len(right):,} sums never seen are true again, with blanks filled in"
        x = held_out_rows(model.length, n)
        with torch.no_grad():
            nats = torch.stack([by_counts(model, x, model.mask, generator) for _ in range(8)]).mean(0)
        bits = in_words(nats / model.length / math.log(2), ".3f")
        return f"at most {bits} bits a character, {len(x):,} held-out rows"


@dataclass(frozen=True)
class NextToken:
    """Each token from those before it, for `training.train` of a causal `text.TokenTransformer`: nats a token."""

    def __call__(self, run: Training, x: Tensor, label: None, generator: torch.Generator) -> tuple[Tensor, None]:
        x = x[run.rows]
        return -sequence_log_prob(run.forward(x), x).mean(1), None

    def measure(self, model: Any, dataset: str, *, n: int = 400) -> object:
        """Bits a character on held-out rows of a text."""
        x = held_out_rows(model.length, require_count("n", n, least=2))
        with torch.no_grad():
            bits = -sequence_log_prob(model(x), x).mean(1) / math.log(2)
        return f"{in_words(bits, '.3f')} bits a character, {len(x):,} held-out rows"


def in_words(values: Tensor, digits: str) -> str:
    """A mean with its 95 % interval, of independent values."""
    mean, half = values.mean().item(), 1.96 * (values.std() / len(values) ** 0.5).item()
    return f"{mean:{digits}} [{mean - half:{digits}}, {mean + half:{digits}}]"
