"""Checks of lesson 03, the reverse process."""

import math

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import (
    AS_COLUMN,
    BROADCASTING,
    CASES,
    Draw,
    column,
    expect,
    random_schedule,
)
from course_utils.exercises.engine import exercise
from course_utils.exercises.slips import lookups
from course_utils.forward import q_posterior
from course_utils.parameterizations import x0_from_v
from course_utils.schedules import linear
from course_utils.toy import GaussianMixture
from course_utils.variational import step_weight


def _posterior_mean(x_t: Tensor, x_0: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """The mean of q(x_{t-1} | x_t, x_0) from alpha_bar_t and alpha_bar_{t-1}; any of the four may be a mistake."""
    keep = now / before
    return (keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0) / (1 - now)


@exercise("03.posterior", "The step back, if x_0 were known", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        schedule = random_schedule(draw, dtype=dtype)
        x_t, x_0 = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.times(2, schedule.T, len(x_t))
        table = schedule.alpha_bar.to(dtype)
        now, before = column(table[t], x_t), column(table[t - 1], x_t)
        keep = now / before  # 1 - beta_t
        of_x_t, of_x_0 = keep.sqrt() * (1 - before) / (1 - now), before.sqrt() * (1 - keep) / (1 - now)
        mistakes = {
            "the two weights are swapped: near t = 1 it is x_0 that decides": of_x_0 * x_t + of_x_t * x_0,
            "x_0's weight has sqrt(alpha_bar[t - 1]), how much of x_0 is in x_{t-1}; yours has t": of_x_t * x_t
            + now.sqrt() * (1 - keep) / (1 - now) * x_0,
            "x_t's weight has 1 - alpha_bar[t - 1] above the line; with alpha_bar[t] it would cancel": keep.sqrt() * x_t
            + of_x_0 * x_0,
            "sqrt(1 - beta_t) with x_t, sqrt(alpha_bar[t - 1]) with x_0: both are roots": keep
            * (1 - before)
            / (1 - now)
            * x_t
            + before * (1 - keep) / (1 - now) * x_0,
            "the factor of x_t is sqrt(1 - beta_t), a root": keep * (1 - before) / (1 - now) * x_t + of_x_0 * x_0,
            "the factor of x_0 is sqrt(alpha_bar[t - 1]), a root": of_x_t * x_t + before * (1 - keep) / (1 - now) * x_0,
            "divide by 1 - alpha_bar[t], the noise of the whole way": (of_x_t * x_t + of_x_0 * x_0) * (1 - now),
            "beta_t is one step's variance, 1 - alpha_bar[t] / alpha_bar[t - 1]": of_x_t * x_t
            + before.sqrt() * (1 - now) / (1 - now) * x_0,
            "the factors are roots of 1 - beta_t and of alpha_bar[t - 1], one root each": keep**0.25
            * (1 - before)
            / (1 - now)
            * x_t
            + before**0.25 * (1 - keep) / (1 - now) * x_0,
            "only x_0's term is divided; the line is below both": keep.sqrt() * (1 - before) * x_t + of_x_0 * x_0,
            "only x_t's term is divided; the line is below both": of_x_t * x_t + before.sqrt() * (1 - keep) * x_0,
            "divide by 1 - alpha_bar[t], not by its root": (of_x_t * x_t + of_x_0 * x_0) * (1 - now).sqrt(),
            "x_t's factor has sqrt(1 - beta_t), one step; yours has sqrt(alpha_bar[t])": now.sqrt()
            * (1 - before)
            / (1 - now)
            * x_t
            + of_x_0 * x_0,
            "the sign: both x_t and x_0 pull towards themselves": of_x_t * x_t - of_x_0 * x_0,
            "the root belongs to 1 - beta_t; beta_t itself multiplies x_0 without one": of_x_t * x_t
            + before.sqrt() * (1 - keep).sqrt() / (1 - now) * x_0,
            "x_t's factor is the root of 1 - beta_t; yours is that of beta_t": (1 - keep).sqrt()
            * (1 - before)
            / (1 - now)
            * x_t
            + of_x_0 * x_0,
            "beta_t is 1 minus a quotient, not a difference of the two alpha_bar": of_x_t * x_t
            + before.sqrt() * (before - now) / (1 - now) * x_0,
            "nothing is to be clipped: x_0 goes in as it is": of_x_t * x_t + of_x_0 * x_0.clamp(-1, 1),
            "that is the mean of x_{t-1} given x_0 alone; x_t has evidence too": before.sqrt() * x_0,
        }
        expect(
            answer(x_t, x_0, t, table),
            q_posterior(x_t, x_0, t, schedule)[0],
            what="the mean",
            mistakes=mistakes
            | lookups(lambda a, b, x=x_t, x_0=x_0: _posterior_mean(x, x_0, a, b), table, x_t, t, t - 1),
            shape_hint=f"the mean is as large as x_t: {AS_COLUMN}",
        )
    # The last step: alpha_bar[0] = 1, so x_0 decides alone, and whoever divides by 1 - alpha_bar[t - 1] gets NaN.
    schedule, x_t, x_0 = random_schedule(draw), draw.normal(2, 3).double(), draw.normal(2, 3).double()
    last = answer(x_t, x_0, torch.tensor([1, 1]), schedule.alpha_bar)
    if isinstance(last, Tensor) and last.isnan().any():
        raise Wrong(
            "at t = 1 the mean is NaN",
            "1 - alpha_bar[0] is zero: multiply by it, as Eq. (3.4) does, rather than divide by it",
        )
    expect(last, x_0, what="the mean at t = 1, where x_0 alone decides,")


@exercise("03.kl_weight", "What the bound charges for a step", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    # A thousand small steps first, as in training: there the weights of the first are in the thousands.
    cases = [(linear(1000), torch.tensor([2, 999, 400]), torch.float64)]
    for n, dtype in [(1, torch.float64), (5, torch.float64), (4, torch.float32), (9, torch.float64)]:
        schedule = random_schedule(draw, dtype=dtype)
        cases.append((schedule, draw.times(2, schedule.T - 1, n), dtype))
    for schedule, t, dtype in cases:
        ab = schedule.alpha_bar.to(dtype)
        snr = ab / (1 - ab)
        right = step_weight(t, schedule).to(dtype)
        expect(
            answer(t, ab),
            right,
            what="the weight",
            mistakes={
                "the half is missing: KL = |difference of the means|² / (2 variance)": 2 * right,
                "the sign, and the half: KL = |difference of the means|² / (2 variance)": -2 * right,
                "that is the fall over the noise at t alone: each SNR has its own 1 - alpha_bar below": (
                    (ab[t - 1] - ab[t]) / (1 - ab[t]) / 2
                ),
                "alpha_bar is a variance already: no further square": (
                    ab[t - 1] ** 2 / (1 - ab[t - 1]) ** 2 - ab[t] ** 2 / (1 - ab[t]) ** 2
                )
                / 2,
                "the sign: the SNR falls with t, and a KL is never negative": -right,
                "the SNR is a ratio of variances, alpha_bar / (1 - alpha_bar): no root": (
                    snr[t - 1].sqrt() - snr[t].sqrt()
                )
                / 2,
                "the steps are t - 1 and t, not t and t + 1": (snr[t] - snr[t + 1]) / 2,
                "that is the weight of an error in eps; an error in x_0 is not divided by the SNR": right / snr[t],
                "a difference of alpha_bar is not one of the SNR: divide each by its 1 - alpha_bar": (ab[t - 1] - ab[t])
                / 2,
                "a difference of SNRs, not of their logarithms": (snr[t - 1].log() - snr[t].log()) / 2,
                "that is half the SNR itself, the weight of L_simple; the bound charges its fall in one step": snr[t]
                / 2,
                "the SNR is upside down: signal over noise": (1 / snr[t] - 1 / snr[t - 1]) / 2,
                **{
                    f"a weight may be as large as it likes, here thousands: yours stops at {most}": right.clamp(
                        max=most
                    )
                    for most in (1.0, 5.0, 10.0, 100.0, 1000.0)
                },
                "a difference of SNRs, not their ratio": snr[t - 1] / snr[t] / 2,
                "brackets: the half belongs to the whole difference": snr[t - 1] - snr[t] / 2,
                "one half in all: |difference of the means|² / (2 variance)": right / 2,
                "alpha_bar is a variance already: 1 - alpha_bar is not under a root": (
                    1 / (1 - ab[t - 1]).sqrt() - 1 / (1 - ab[t]).sqrt()
                )
                / 2,
            },
            shape_hint="one weight for each t",
        )
    schedule, t = random_schedule(draw), torch.tensor([12, 2, 12])
    expect(answer(t, schedule.alpha_bar), step_weight(t, schedule), what="the weight at t = T and t = 2")


def _mixture_mean(
    x: Tensor,
    alpha: float,
    sigma: float,
    means: Tensor,
    weights: Tensor,
    variance: float,
    *,
    spread: float | None = None,
    shrink: float | None = None,
    scaled: float | None = None,
    half: float = 0.5,
    dim: int = 1,
) -> Tensor:
    """E[x_0 | x_t] of a mixture of equally wide round parts, with each ingredient open to a mistake."""
    total = alpha**2 * variance + sigma**2
    gap = x[:, None] - (alpha if scaled is None else scaled) * means  # (b, K, d)
    logits = weights.log() - half * gap.square().sum(-1) / (total if spread is None else spread)
    each = means + (alpha * variance / total if shrink is None else shrink) * gap
    return (torch.softmax(logits, dim)[..., None] * each).sum(1)


@exercise(
    "03.exact_denoiser",
    "The exact denoiser of a mixture",
    error_hints={
        "The size of tensor": "line the shapes up as (b, 1, d) and (K, d): `x_t[:, None] - alpha * means` is (b, K, d)",
        "must match": "line the shapes up as (b, 1, d) and (K, d): `x_t[:, None] - alpha * means` is (b, K, d)",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, K, d, dtype in [
        (5, 3, 1, torch.float64),
        (4, 4, 4, torch.float64),
        (3, 2, 2, torch.float32),
        (1, 5, 3, torch.float64),
        (6, 1, 2, torch.float64),
    ]:
        schedule = random_schedule(draw, dtype=dtype)
        t, variance = int(draw.integers(4, schedule.T)), draw.number(0.3, 0.8)
        alpha, sigma = (c.to(dtype).item() for c in schedule.coeffs(t))
        if K == 4:
            sigma *= 1.3  # handed over: it need not be the root of 1 - alpha²
        x_t, means = draw.normal(b, d, dtype=dtype), 1.5 * draw.normal(K, d, dtype=dtype)
        weights = draw.uniform(0.2, 1.0, K, dtype=dtype)
        weights = weights / weights.sum()
        data = x_t, alpha, sigma, means, weights, variance
        equal = torch.full_like(weights, 1 / K)
        total = alpha**2 * variance + sigma**2
        gap = x_t[:, None] - alpha * means
        r = torch.softmax(weights.log() - gap.square().sum(-1) / (2 * total), 1)
        each = means + alpha * variance / total * gap
        # The course's own denoiser where a schedule has these two numbers; elsewhere Eq. (3.13) once more.
        own = GaussianMixture(means, variance, weights).denoise(x_t, t, schedule)
        right = _mixture_mean(*data) if K == 4 else own
        expect(
            answer(*data),
            right,
            what="E[x_0 | x_t]",
            mistakes={
                "the weights of the parts are missing: a rare part needs more evidence": _mixture_mean(
                    x_t, alpha, sigma, means, equal, variance
                ),
                "each part has a width: inside it the best guess is not its centre, but shrunk towards it": (r @ means),
                "a part of variance S has variance alpha² S + sigma² in x_t, not sigma²": _mixture_mean(
                    *data, spread=sigma**2
                ),
                "a part of variance S has variance alpha² S + sigma² in x_t, not S + sigma²": _mixture_mean(
                    *data, spread=variance + sigma**2
                ),
                "a standard deviation's square: sigma² is a variance, sigma is not": _mixture_mean(
                    *data,
                    spread=alpha**2 * variance + sigma,
                    shrink=alpha * variance / (alpha**2 * variance + sigma),
                ),
                "in x_t the variance is alpha² S + sigma²: yours has alpha": _mixture_mean(
                    *data,
                    spread=alpha * variance + sigma**2,
                    shrink=alpha * variance / (alpha * variance + sigma**2),
                ),
                "S is a variance already: no further square": _mixture_mean(
                    *data,
                    spread=alpha**2 * variance**2 + sigma**2,
                    shrink=alpha * variance**2 / (alpha**2 * variance**2 + sigma**2),
                ),
                "in x_t the centres have moved to alpha mu": _mixture_mean(*data, scaled=1.0),
                "an average over all parts, not the likeliest one alone": each[torch.arange(b), r.argmax(1)],
                "the half is missing in the exponent of the Gaussian": _mixture_mean(*data, half=1.0),
                "the probabilities of one x_t sum to one over the parts; yours over the batch": _mixture_mean(
                    *data, dim=0
                ),
                "x_t tells which part it came from: the probabilities depend on it, they are not the weights": (
                    weights[:, None] * each
                ).sum(1),
                "the shrink is alpha S / (alpha² S + sigma²): yours lacks alpha": _mixture_mean(
                    *data, shrink=variance / total
                ),
                "the shrink is alpha S / (alpha² S + sigma²): yours has alpha² S above the line": _mixture_mean(
                    *data, shrink=alpha**2 * variance / total
                ),
                "that is x_t, rescaled; a denoiser has to weigh x_t against what it knows of the data": x_t / alpha,
                "that is alpha times x_0, the signal in x_t": alpha * right,
                "add up the squares over the d coordinates of a point, do not average": _mixture_mean(
                    *data, half=0.5 / d
                )
                if d > 1
                else torch.full_like(right, math.nan),
                "a probability gets smaller with the distance: minus, under the softmax": _mixture_mean(
                    *data, half=-0.5
                ),
                "the weights go in as logarithms: softmax takes their exponential": _mixture_mean(
                    x_t, alpha, sigma, means, weights.exp(), variance
                ),
                "the weights belong inside the softmax, so that the probabilities add up to 1": (
                    (weights * torch.softmax(-gap.square().sum(-1) / (2 * total), 1))[..., None] * each
                ).sum(1),
                "the weights are in it twice": _mixture_mean(x_t, alpha, sigma, means, weights**2, variance),
                "alpha and sigma are swapped": _mixture_mean(x_t, sigma, alpha, means, weights, variance),
                "S is missing in the shrink: alpha S / (alpha² S + sigma²)": _mixture_mean(*data, shrink=alpha / total),
                "inside a part too x_t is compared with alpha mu, where its centre has moved": (
                    r[..., None] * (means + alpha * variance / total * (x_t[:, None] - means))
                ).sum(1),
                "the guess is of x_0, whose parts lie at mu, not at alpha mu": right - (1 - alpha) * (r @ means),
                "distances are squared in the exponent of a Gaussian": (
                    torch.softmax(weights.log() - gap.norm(dim=-1) / (2 * total), 1)[..., None] * each
                ).sum(1),
                "brackets: 2 (alpha² S + sigma²) is all below the line": (
                    torch.softmax(weights.log() - gap.square().sum(-1) / 2 * total, 1)[..., None] * each
                ).sum(1),
                "sigma is handed over: it need not be the root of 1 - alpha²": _mixture_mean(
                    x_t, alpha, (1 - alpha**2) ** 0.5, means, weights, variance
                ),
            },
            shape_hint="one guess for each x_t, as large as x_t",
        )
    # Far away every Gaussian density is zero in floating point, and 0 / 0 is NaN. Logits never are.
    far = torch.tensor([[-300.0], [300.0]], dtype=torch.float64)
    means, weights = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)
    got = answer(far, 0.6, 0.8, means, weights, 0.04)
    if isinstance(got, Tensor) and not got.isfinite().all():
        raise Wrong(
            "far from all parts it returns NaN or infinity",
            "there every density underflows to 0, and 0 / 0 is NaN: put the logarithms into `torch.softmax`",
        )
    expect(got, _mixture_mean(far, 0.6, 0.8, means, weights, 0.04), what="E[x_0 | x_t] far from all parts")


@exercise("03.x0_from_v", "The picture from the velocity", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        schedule = random_schedule(draw, dtype=dtype)
        x_t, v = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.times(1, schedule.T, len(x_t))
        table = schedule.alpha_bar.to(dtype)
        ab = column(table[t], x_t)
        alpha, sigma = ab.sqrt(), (1 - ab).sqrt()
        expect(
            answer(x_t, v, t, table),
            x0_from_v(x_t, v, t, schedule),
            what="x_0",
            mistakes={
                "the sign: v points away from x_0, so it is taken off": alpha * x_t + sigma * v,
                "that is eps, the other axis: sigma x_t + alpha v": sigma * x_t + alpha * v,
                "the two factors are swapped": sigma * x_t - alpha * v,
                "that reads v as if it were eps: x_0 = (x_t - sigma eps) / alpha": (x_t - sigma * v) / alpha,
                "turning back is multiplying: alpha² + sigma² = 1, there is nothing to divide by": (
                    alpha * x_t - sigma * v
                )
                / alpha,
                "alpha_t and sigma_t are the roots of alpha_bar and 1 - alpha_bar": ab * x_t - (1 - ab) * v,
                "x_t and v are swapped: alpha_t multiplies x_t, sigma_t multiplies v": alpha * v - sigma * x_t,
                "one root of alpha_bar is enough: yours has the root of a root": alpha.sqrt() * x_t - sigma.sqrt() * v,
                "sigma_t² is 1 - alpha_bar[t]; yours is 1 - sqrt(alpha_bar[t])": alpha * x_t - (1 - alpha).sqrt() * v,
                "sigma_t is the root of 1 - alpha_bar": alpha * x_t - (1 - ab) * v,
                "alpha_t is the root of alpha_bar": ab * x_t - sigma * v,
                "1 - sqrt(alpha_bar) is not sqrt(1 - alpha_bar)": alpha * x_t - (1 - alpha) * v,
                "sigma_t² is 1 - alpha_bar[t]; yours is 1 - alpha_bar[t]²": alpha * x_t - (1 - ab**2).sqrt() * v,
                "brackets: v has a factor of its own, sigma_t alone": alpha * (x_t - sigma * v),
                "x_t is multiplied by alpha_t; yours comes in full": x_t - sigma * v,
                "v is missing: that is alpha_t x_t": alpha * x_t,
            }
            | lookups(lambda a, x=x_t, v=v: a.sqrt() * x - (1 - a).sqrt() * v, table, x_t, t),
            shape_hint=f"x_0 is as large as x_t: {AS_COLUMN}",
        )


@exercise("03.reverse_step", "One step of the walk back")
def _(answer: Answer, draw: Draw) -> None:
    for i, (shape, dtype) in enumerate(CASES):
        schedule = random_schedule(draw, dtype=dtype)
        x_t, x0_hat, z = (draw.normal(*shape, dtype=dtype) for _ in range(3))
        # The first step and the last are asked about, too; the words are the same whatever t is drawn.
        t = {2: schedule.T, 3: 1, 5: 2}.get(i) or int(draw.integers(3, schedule.T - 1))
        mean, variance = q_posterior(x_t, x0_hat, t, schedule)
        now, before, after = (schedule.alpha_bar[j].to(dtype) for j in (t, t - 1, min(t + 1, schedule.T)))
        beta, next_beta = 1 - now / before, 1 - after / now
        z_of_first = z[:1].expand_as(z)
        mistakes = {
            "that is the variance; what multiplies z is its square root": mean + variance * z,
            "one root of the variance is enough": mean + variance**0.25 * z,
            "the noise has the posterior's variance, (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) beta_t; yours has "
            "beta_t": mean + beta.sqrt() * z,
            "the noise is missing: without it every walk ends in nearly the same place (section 7)": mean,
            "the noise is as large as a whole picture: scale it by the root of the posterior's variance": mean + z,
            "that is a fresh noising of x0_hat to t - 1: x_t has evidence of its own": before.sqrt() * x0_hat
            + (1 - before).sqrt() * z,
            "x0_hat is a guess of the clean picture, not of x_{t-1}": x0_hat,
            "x0_hat is the mean of the picture, not of x_{t-1}: weigh it against x_t": x0_hat + variance.sqrt() * z,
            "t is off by one: the step goes from t to t - 1": _posterior_mean(x_t, x0_hat, after, now)
            + ((1 - now) / (1 - after) * next_beta).sqrt() * z,
            "noise is added, not taken away (harmless for one symmetric draw, but not the equation)": mean
            - variance.sqrt() * z,
            "one image's noise serves the whole batch: every image needs its own": mean + variance.sqrt() * z_of_first,
            "x_t and x0_hat are swapped": q_posterior(x0_hat, x_t, t, schedule)[0] + variance.sqrt() * z,
            "the noise that is added has the posterior's variance; yours has all the noise of level t - 1": mean
            + (1 - before).sqrt() * z,
            "the noise that is added has the posterior's variance; yours has all the noise of level t": mean
            + (1 - now).sqrt() * z,
            "beta_t stands under the root of the variance, too": mean + ((1 - before) / (1 - now)).sqrt() * beta * z,
            "nothing is to be clipped: x0_hat goes in as it is": q_posterior(x_t, x0_hat.clamp(-1, 1), t, schedule)[0]
            + variance.sqrt() * z,
            "that is the formula for a network that predicts eps; x0_hat is a picture": (
                x_t - beta / (1 - now).sqrt() * x0_hat
            )
            / (1 - beta).sqrt()
            + variance.sqrt() * z,
            "the mean is divided by 1 - alpha_bar[t]": mean * (1 - now) + variance.sqrt() * z,
            "in the mean x0_hat's weight has sqrt(alpha_bar[t - 1]); yours has t": mean
            + (now.sqrt() - before.sqrt()) * beta / (1 - now) * x0_hat
            + variance.sqrt() * z,
            "in the mean stand roots: sqrt(1 - beta_t) and sqrt(alpha_bar[t - 1])": (
                (1 - beta) * (1 - before) * x_t + before * beta * x0_hat
            )
            / (1 - now)
            + variance.sqrt() * z,
        }
        if t == 1:
            hint = "at t = 1 no noise is added: the posterior's variance is 0 there, as alpha_bar[0] = 1"
            mistakes = {hint: mean + beta.sqrt() * z} | mistakes
        got = answer(x_t, x0_hat, t, schedule.alpha_bar.to(dtype), z)
        if isinstance(got, Tensor) and t == 1 and got.isnan().any():
            raise Wrong("at t = 1 it returns NaN", "1 - alpha_bar[0] is zero: multiply by it, do not divide by it")
        expect(got, mean + variance.sqrt() * z, what="x_{t-1}", mistakes=mistakes)
