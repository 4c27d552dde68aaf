"""A toy language whose sentences can be checked: all sums of two numbers below a hundred: 12+7=19. Lesson 19."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from course_utils._contract import SOME, AllIn, Count, checked
from course_utils._validate import require_between
from course_utils.text.kernel import Predict
from course_utils.text.unmasking import sample_chosen

LENGTH = 9  # "12+ 7= 19": numbers stand right in two, two and three places


@dataclass(frozen=True)
class Alphabet:
    """Letters and their numbers; the number after the last stands for MASK, and is shown as an underscore."""

    letters: str

    def __len__(self) -> int:
        return len(self.letters)

    def encode(self, text: str) -> Int[Tensor, "n"]:
        """Numbers of letters, MASK for an underscore. Raises ValueError for a letter that is none."""
        known = {letter: i for i, letter in enumerate(self.letters + "_")}
        if strange := sorted(set(text) - known.keys()):
            raise ValueError(f"text: wanted letters of {self.letters!r} and _, got {strange}")
        return torch.tensor([known[letter] for letter in text])

    @checked
    def decode(self, x: Int[Tensor, "b n"]) -> list[str]:
        """A text for each row."""
        require_between("x", x, 0, len(self), f"numbers of letters, 0 … {len(self)}")
        shown = self.letters + "_"
        return ["".join(shown[i] for i in row) for row in x.tolist()]


DIGITS = Alphabet("0123456789+= ")


def all_sums() -> Int[Tensor, "10000 9"]:
    """Every sum of two numbers 0 … 99 once, in their order."""
    return torch.stack([DIGITS.encode(f"{a:2}+{b:2}={a + b:3}") for a in range(100) for b in range(100)])


def shuffled_sums(seed: int = 0) -> tuple[Int[Tensor, "8000 9"], Int[Tensor, "2000 9"]]:
    """Those to learn from, and those never seen."""
    sums = all_sums()[torch.randperm(10_000, generator=torch.Generator().manual_seed(seed))]
    return sums[:8000], sums[8000:]


@checked
def are_true(x: Annotated[Int[Tensor, "b 9"], AllIn("[0, 13]")]) -> Bool[Tensor, "b"]:
    """Which rows are one of the 10,000 sums, written as `all_sums` writes them."""
    x = x.cpu()
    digit = torch.where(x < 10, x, 0)
    a, b = digit[:, 0] * 10 + digit[:, 1], digit[:, 3] * 10 + digit[:, 4]
    return (x == all_sums()[a * 100 + b]).all(1)


def blanked(sums: Int[Tensor, "b 9"], generator: torch.Generator) -> Int[Tensor, "b 9"]:
    """Sums with one to six letters hidden, each number as often; with more, almost anything would do."""
    count = torch.randint(1, 7, (len(sums), 1), generator=generator)
    rank = torch.rand(sums.shape, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    return torch.where((rank < count).to(sums.device), len(DIGITS), sums)


@checked
def fill_blanks(
    predict: Predict,
    sums: Annotated[Int[Tensor, "b 9"], SOME, AllIn("[0, 12]")],
    steps: Count = LENGTH,
    *,
    generator: torch.Generator,
) -> Bool[Tensor, "b"]:
    """Which sums are true again after `blanked`, and filled in by `sample_chosen`, the surest letter first."""
    x_T = blanked(sums, generator)
    return are_true(sample_chosen(predict, x_T, len(DIGITS), steps, by="sure", generator=generator))
