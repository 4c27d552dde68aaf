r"""Guidance: a denoiser made of denoisers, that leans towards what is asked of it. Every sampler takes it. Lesson 15.

Guesses, noises and scores of one x_t are lines in each other (Tweedie's formula):

x0_hat = (x_t + sigma_t² score) / alpha_t

So a line through two guesses is the same line through two scores, and what is added to a score, a gradient g, is added
to a guess as (sigma_t² / alpha_t) g.
"""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from course_utils._contract import In, Whole, checked
from course_utils._contract.times import check_time
from course_utils.protocols import Denoise, Schedule, answer
from course_utils.schedules.jumps import coeffs_for
from course_utils.tensors import broadcast, nonzero

_PURE_NOISE = "alpha is 0, and 1 / alpha infinite; guide in an interval that leaves out pure noise"
Weight = Annotated[float, In("[0, inf)")]
LogSNR = Annotated[float, In("[-inf, inf)")]


@checked
def away_from(denoise: Denoise, negative: Denoise, w: Weight) -> Denoise:
    r"""The denoiser led away from another one's guess, its negative:

    x0_hat = negative + w (denoise - negative)

    w = 0 is the negative, w = 1 the denoiser itself, w > 1 overdoes the difference. Both get the same condition. In
    scores it is that of  p(x_t)^w / p_negative(x_t)^(w - 1).  Each guess costs a call of both.

    With a worse network as the negative this is autoguidance (Karras et al. 2024, Eq. 3): what the worse one does worse
    the better one does worse too, only less, so it is led away from its own mistakes.

    Raises ValueError for a w that is negative or infinite.
    """

    def guided(x_t: Tensor, t: Any, **cond: Any) -> Tensor:
        worse = answer(negative, x_t, t, cond, role="negative")
        better = answer(denoise, x_t, t, cond)
        return worse + w * (better - worse)

    return guided


@checked
def classifier_free(denoise: Denoise, w: Weight) -> Denoise:
    r"""The denoiser led away from what it would guess without a class, towards what it guesses with one.

    x0_hat = uncond + w (cond - uncond)        (Ho & Salimans 2022, Eq. 6, whose own w is one less than ours)

    w = 0 forgets the class, w = 1 is the plain conditional guess, w > 1 overdoes it. At one x_t the guess, eps, v and
    score are lines in each other, so the same line through any of them gives the same; in scores it is that of
    p(x_t) p(class | x_t)^w. Each guess costs two network calls.

    Args:
        denoise: one that takes `label=`, (b,), and without it guesses for no class: any network trained with
            `label_drop`, or `toy.IdealDenoiser`.
        w: the guidance weight.

    Raises ValueError for a w that is negative or infinite.
    """

    def guided(x_t: Tensor, t: Any, *, label: Tensor, **cond: Any) -> Tensor:
        uncond = answer(denoise, x_t, t, cond)
        return uncond + w * (denoise(x_t, t, label=label, **cond) - uncond)

    return guided


@checked
def away_from_class(denoise: Denoise, unwanted: Annotated[int, Whole(0)], w: Weight) -> Denoise:
    r"""The denoiser led away from what it would guess for a class that is not wanted.

    x0_hat = negative + w (wanted - negative),   negative the guess for the class `unwanted`

    `wanted` is the guess for the `label` that is asked, or for no class if none is. w = 1 is that guess alone. In
    scores, without a label, it is that of  p(x_t) / p(unwanted | x_t)^(w - 1): not yet that of p(x_t | another class),
    for which w would have to be 1 / (1 - p(unwanted | x_t)), another one at each x_t.
    """

    def negative(x_t: Tensor, t: Any, *, label: Tensor | None = None, **cond: Any) -> Tensor:
        unwanted_label = torch.full((len(x_t),), unwanted, device=x_t.device)
        return answer(denoise, x_t, t, {"label": unwanted_label, **cond})

    return away_from(denoise, negative, w)


@checked
def in_interval(
    guided: Denoise, denoise: Denoise, schedule: Schedule, low: LogSNR, high: Annotated[float, In("[low, inf]")]
) -> Denoise:
    """`guided` where low <= log-SNR <= high, `denoise` at all other noise levels (Kynkäänniemi et al. 2024, section 3).

    An interval of noise levels means the same on every time grid; one of step numbers would not. Outside of it each
    guess costs what `denoise` costs. A batch with times on both sides asks both.

    Raises ValueError unless low <= high.
    """

    def limited(x_t: Tensor, t: Any, **cond: Any) -> Tensor:
        log_snr = schedule.log_snr(check_time(t, schedule))
        inside = (low <= log_snr) & (log_snr <= high)
        guesses = []
        for name, one, asked in (("guided", guided, inside.any()), ("denoise", denoise, not inside.all())):
            if asked:
                guesses.append(answer(one, x_t, t, cond, role=name))
        if len(guesses) == 1:
            return guesses[0]
        led, plain = guesses
        return torch.where(broadcast(inside.double(), x_t) > 0, led, plain)

    return limited


@checked
def classifier_guidance(
    denoise: Denoise, classify: Callable[..., Tensor], schedule: Schedule, w: Weight = 1.0
) -> Denoise:
    r"""The denoiser pushed to where a classifier of *noisy* images sees the class that is asked for.

    x0_hat = uncond + w (sigma_t² / alpha_t) grad_x log p(class | x_t)

    since the score of p(x_t) p(class | x_t)^w is  score + w grad log p(class | x_t)  (Dhariwal & Nichol 2021, Eq. 14,
    who write it for eps: eps - w sigma_t grad log p). Each guess costs a call of the denoiser, without the
    class, and one of the classifier, with the way back.

    Args:
        denoise: called without `label`.
        classify: classify(x_t, t) -> logits or log-probabilities (b, classes), differentiable, of noisy images.
        w: 1 is Bayes' rule, more overdoes it.

    Raises ValueError where alpha_t = 0: no class can be seen in pure noise.
    """

    def guided(x_t: Tensor, t: Any, *, label: Tensor, **cond: Any) -> Tensor:
        alpha, sigma = coeffs_for(x_t, t, schedule)
        with torch.inference_mode(False), torch.enable_grad():  # samplers keep no gradients
            x = x_t.detach().clone().requires_grad_()
            log_p = classify(x, t).log_softmax(1).gather(1, label.long()[:, None])
            (gradient,) = torch.autograd.grad(log_p.sum(), x)
        uncond = answer(denoise, x_t, t, cond)
        return uncond + w * sigma**2 / nonzero(alpha, _PURE_NOISE) * gradient

    return guided
