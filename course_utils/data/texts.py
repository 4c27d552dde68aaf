"""A text by name, verified; letters that are seldom are folded into others, so that a small network may learn it."""

import re
from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Int
from torch import Tensor

from course_utils._contract import Count, Whole, checked
from course_utils._validate import require_one_of
from course_utils.files import data_dir, parse_json, read, read_verified

TEXTS = ("paradise_lost",)
Length = Annotated[int, Whole(1, 10_000, "the test split has not many more")]
LETTERS = "\n !',-.:;?abcdefghijklmnopqrstuvwxyz"
"""What `load_text` leaves: 36 characters."""


def load_text(name: str = "paradise_lost", split: str = "train") -> str:
    """John Milton, *Paradise Lost* (1674): "train" is books I to X, "test" XI and XII. Small letters, no headings.

    Verified against the SHA-256 in `data/texts/manifest.json`; see `data/README.md` for where it comes from.

    Raises:
        ValueError: no such name or split.
        DataError: a file is missing or damaged.
    """
    require_one_of("name", name, TEXTS)
    require_one_of("split", split, ("train", "test"))
    folder = data_dir() / "texts"
    manifest = parse_json(folder / "manifest.json", read(folder / "manifest.json"), "git checkout -- data/texts")
    whole = read_verified(folder / f"{name}.txt", manifest[name]).decode("ascii")
    books = re.split(r"(?m)^Book [IVX]+\n+", whole)[1:]
    return folded("".join(books[:10] if split == "train" else books[10:]))


def folded(text: str) -> str:
    """Small letters and the commoner marks; blanks, digits and what else is left of scanning go."""
    text = "".join(letter for letter in text.lower() if letter in LETTERS)
    return re.sub(r"\n{2,}", "\n", re.sub(r" +\n", "\n", re.sub(r" {2,}", " ", text)))


def numbers_of(text: str) -> Int[Tensor, "n"]:
    """A text of LETTERS as the numbers of its letters."""
    known = {letter: i for i, letter in enumerate(LETTERS)}
    return torch.tensor([known[letter] for letter in text])


@checked
def random_rows(
    length: Length, name: str = "paradise_lost"
) -> Callable[[int, torch.Generator], Int[Tensor, "n length"]]:
    """A function that makes batches for `training.train`: n rows that begin anywhere in the training split."""
    x = numbers_of(load_text(name))

    def rows(n: int, generator: torch.Generator) -> Tensor:
        start = torch.randint(len(x) - length + 1, (n, 1), generator=generator)
        return x[start + torch.arange(length)]

    return rows


@checked
def held_out_rows(length: Length, n: Count | None = None, name: str = "paradise_lost") -> Int[Tensor, "n length"]:
    """The test split cut into rows, or n of them, evenly spread."""
    rows = numbers_of(load_text(name, "test"))
    rows = rows[: len(rows) // length * length].view(-1, length)
    return rows if n is None else rows[torch.linspace(0, len(rows) - 1, min(n, len(rows))).long()]
