"""Text by masked diffusion (lesson 19): noise is a blank, denoising is filling in. Tokens are numbers 0 … V - 1.

`predict(x_t) -> log-probabilities (b, n, V)` is to tokens what a denoiser is to pictures: what each position is when
nothing hides, given what is not hidden in x_t. It needs no time: see `kernel`.
"""

from course_utils.text.kernel import (
    at_a_time,
    by_counts,
    exact_bound,
    hidden_at_random,
    hidden_counts,
    of_hidden,
    sequence_log_prob,
)
from course_utils.text.language import Language, law_of, reverse_kernel
from course_utils.text.network import TokenTransformer
from course_utils.text.sums import DIGITS, Alphabet, all_sums, are_true, blanked, fill_blanks, shuffled_sums
from course_utils.text.unmasking import CHOICES, sample_ancestral, sample_chosen, sample_left_to_right

__all__ = [
    "CHOICES",
    "DIGITS",
    "Alphabet",
    "Language",
    "TokenTransformer",
    "all_sums",
    "are_true",
    "at_a_time",
    "blanked",
    "by_counts",
    "exact_bound",
    "fill_blanks",
    "hidden_at_random",
    "hidden_counts",
    "law_of",
    "of_hidden",
    "reverse_kernel",
    "sample_ancestral",
    "sample_chosen",
    "sample_left_to_right",
    "sequence_log_prob",
    "shuffled_sums",
]
