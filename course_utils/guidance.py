"""Guidance: a denoiser that leans towards what is asked of it."""

from typing import Annotated, Any

from torch import Tensor

from course_utils._contract import In, checked
from course_utils._validate import require_same
from course_utils.protocols import Denoise


@checked
def classifier_free(denoise: Denoise, w: Annotated[float, In("[0, inf)")]) -> Denoise:
    r"""The denoiser led away from what it would guess without a class, towards what it guesses with one.

    x0_hat = uncond + w (cond - uncond)        (Ho & Salimans 2022, Eq. 6, whose own w is one less than ours)

    w = 0 forgets the class, w = 1 is the plain conditional guess, w > 1 overdoes it. At one x_t the guess, eps, v and
    score are lines in each other, so the same line through any of them gives the same; in scores it is that of
    p(x_t) p(class | x_t)^w. Each guess costs two network calls. Lesson 15.

    Args:
        denoise: one that takes `label=`, (b,), and without it guesses for no class: any network trained with
            `label_drop`, or `toy.IdealDenoiser`.
        w: the guidance weight.

    Raises ValueError for a w that is negative or infinite.
    """

    def guided(x_t: Tensor, t: object, *, label: Tensor, **cond: Any) -> Tensor:
        uncond = denoise(x_t, t, **cond)
        require_same("denoise", uncond, "x_t", x_t)
        return uncond + w * (denoise(x_t, t, label=label, **cond) - uncond)

    return guided
