"""Checks of lesson 15, conditional generation."""

from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import (
    BROADCASTING,
    CASES,
    Draw,
    along_the_wrong_axis,
    column,
    expect,
    random_schedule,
)
from course_utils.exercises.engine import exercise

_COLUMN = (
    "one number for each image must become a column before it can multiply images: "
    "`.reshape(-1, *[1] * (x.ndim - 1))`, for images and points alike"
)
_SHAPES = BROADCASTING | dict.fromkeys(("The size of tensor", "must match"), _COLUMN)
_MASK_SHAPES = "mask, y and z spread over the batch by themselves: `torch.where(mask, known, x_s)`"
_ONE_TIME = "t and s are whole numbers: `alpha_bar[t]` is one number, which multiplies any shape"


@exercise("15.classifier", "Pushed by a classifier", error_hints=_SHAPES)
def _(answer: Answer, draw: Draw) -> None:
    for i, (shape, dtype) in enumerate(CASES):
        x0_hat, gradient = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        alpha = draw.uniform(0.2, 0.9, shape[0], dtype=dtype)
        sigma = (draw.uniform(1.1, 1.9, shape[0], dtype=dtype) - alpha**2).sqrt()
        w = [2.5, 1.0, 0.0, 0.4][i % 4]
        a, s = column(alpha, x0_hat), column(sigma, x0_hat)
        push = w * gradient
        expect(
            answer(x0_hat, gradient, w, alpha, sigma),
            x0_hat + s**2 / a * push,
            what="the guess",
            mistakes={
                "uphill: to where the class is *more* probable; yours goes down": x0_hat - s**2 / a * push,
                "sigma_t is squared: the score enters Tweedie's formula with sigma_t²": x0_hat + s / a * push,
                "Tweedie's formula divides by alpha_t, the gradient's part as well": x0_hat + s**2 * push,
                "alpha_t divides: yours multiplies by it": x0_hat + s**2 * a * push,
                "that is the rule for the noise, eps - w sigma_t g; the guess of x_0 moves by w sigma_t² / alpha_t g": (
                    x0_hat - s * push
                ),
                "it is added to the guess that there is: yours is the push alone": s**2 / a * push,
                "w multiplies the gradient; yours is not in it": x0_hat + s**2 / a * gradient,
                "here w counts from 0, where nothing is pushed: yours pushes by 1 + w": x0_hat
                + s**2 / a * (1 + w) * gradient,
                "alpha_t divides once, not squared": x0_hat + s**2 / a**2 * push,
                "only the push is scaled, not the guess": w * x0_hat + s**2 / a * push,
                "x0_hat is a guess already: only the push is divided by alpha_t": (x0_hat + s**2 * push) / a,
                "the factor sigma_t² / alpha_t is missing: the gradient is one of a score": x0_hat + push,
                "sigma_t² / alpha_t; yours is the signal-to-noise ratio": x0_hat + a**2 / s**2 * push,
                "sigma_t² / alpha_t; yours is turned round": x0_hat + a / s**2 * push,
                "w = 1 pushes by the whole gradient; yours counts from 1, where it pushes by nothing": x0_hat
                + s**2 / a * (w - 1) * gradient,
                "w is not squared, only sigma_t is": x0_hat + s**2 / a * w * push,
                "what comes in is alpha_t, no alpha_bar_t: no root of it": x0_hat + s**2 / a.sqrt() * push,
                "sigma_t comes in, and need not be sqrt(1 - alpha_t²): other schedules are served as well": x0_hat
                + (1 - a**2) / a * push,
                "sigma_t² comes in as sigma_t; 1 - alpha_t is another number": x0_hat + (1 - a) / a * push,
                "each image has its own factor: no mean over them": x0_hat + (sigma**2 / alpha).mean() * push,
            }
            | {
                f"{hint.split(':')[0].replace('t runs', 'alpha_t and sigma_t run')}: {_COLUMN}": mistake
                for hint, mistake in along_the_wrong_axis(sigma**2 / alpha, x0_hat, lambda k: x0_hat + k * push).items()
            },
        )


@exercise("15.classifier_free", "Two guesses, one line")
def _(answer: Answer, draw: Draw) -> None:
    for i, (shape, dtype) in enumerate(CASES):
        uncond, cond = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        w = [3.0, 1.0, 0.0, 0.5, 7.5][i % 5]
        away = cond - uncond
        expect(
            answer(uncond, cond, w),
            uncond + w * away,
            what="the guess",
            mistakes={
                "that is the first paper's w, which counts from 0; ours is 1 where nothing is overdone": cond
                + w * away,
                "from the guess without a class towards the one with it; yours goes the other way": cond - w * away,
                "the line begins at `uncond`; yours goes backwards from there": uncond - w * away,
                "the difference to `uncond` is what w multiplies, not the guess itself": uncond + w * cond,
                "w weighs the whole difference: w cond - w uncond": w * cond - uncond,
                "the guess it leads from is missing": w * away,
                "that is the mean of the two, whatever w is": (cond + uncond) / 2,
                "that is the conditional guess alone, whatever w is": cond,
                "w enters once, not squared": uncond + w**2 * away,
                "that is the guess without a class, whatever w is": uncond,
                "from `uncond` the whole w counts; w - 1 is counted from `cond`": uncond + (w - 1) * away,
                "from `cond` the rest of w counts, w - 1; yours has 1 - w": cond + (1 - w) * away,
                "that is w + 1 in place of w, away from the class": uncond - (w + 1) * away,
                "w multiplies the difference, and is not added": uncond + w + away,
                "w belongs to the difference: w (cond - uncond), added to `uncond`": (uncond + w) * away,
                "a sum, `uncond` plus w times the difference; yours is a product": uncond * w * away,
                "a difference is what w multiplies, cond - uncond; yours is a sum": uncond + w * (cond + uncond),
                "no mean: at w = 1 it must arrive at `cond`": (uncond + w * cond) / (1 + w),
                "in the first paper's form w stands before `uncond`, too; ours is uncond + w (cond - uncond)": cond
                + w * cond
                - uncond,
                "the difference is in it once more than w says": away + w * away,
                "no power of w: it multiplies": uncond + away.sign() * away.abs() ** w,
                "that is guidance rescaled to the spread of `cond`; here the line is asked for": (uncond + w * away)
                * (cond.std() / (uncond + w * away).std()),
                "the length of the difference is what says how far: it is not normalised": uncond
                + w * away / away.norm(),
            },
        )


@exercise(
    "15.drop_labels", "Labels that are dropped", error_hints={"ambiguous": "`torch.where` chooses for each label"}
)
def _(answer: Answer, draw: Draw) -> None:
    for n, share in [(12, 0.3), (9, 0.1), (6, 0.0), (6, 1.0), (1, 0.5)]:
        label = draw.integers(1, 9, n)
        label[0] = 0  # a class like any other
        u = draw.uniform(share, 1.0, n) if share < 1 else draw.uniform(0.0, 1.0, n)
        if 0 < share < 1 and n > 1:
            u[1 : n // 2] *= share / 2  # some below, and some above, in every run
            u[1 : n // 2] = u[1 : n // 2].clamp(max=share / 2)
        if share == 0:
            u[2] = 0.0  # as `torch.rand` may draw it
        drop = u < share
        got = answer(label, u, share)
        if isinstance(got, Tensor) and got.is_floating_point():
            raise Wrong("the labels should be whole numbers", "-1 is one, too: `torch.where(drop, -1, label)`")
        expect(
            got,
            torch.where(drop, -1, label),
            what="the batch of labels",
            mistakes={
                "no class is -1; 0 is a class, and the network would learn it as `none`": torch.where(drop, 0, label),
                "no class is -1 in this course; 10 is no row of the table": torch.where(drop, 10, label),
                "dropped where u < share: yours keeps those, and drops the others": torch.where(drop, label, -1),
                "nothing is dropped: the network never learns what to guess without a class": label,
                "all are dropped: the network never learns what a class is": torch.full_like(label, -1),
                "u < share, not <=: a share of 0 drops nothing, even where u is 0": torch.where(u <= share, -1, label),
                "the dropped labels are still there, as -1: the batch keeps its length": label[~drop],
                "-1 in place of the label, not its negative": torch.where(drop, -label, label),
                "one below the label is another class": torch.where(drop, label - 1, label),
                "dropped where u < share; yours looks at 1 - share": torch.where(u < 1 - share, -1, label),
                "dropped where u is *below* the share; yours takes those at the upper end": torch.where(
                    u > 1 - share, -1, label
                ),
                "those that are kept are wanted; yours keeps the dropped, and has 0 for the others": label * drop,
                "the share is a chance for each label, by its own u; yours drops the first ones": torch.where(
                    torch.arange(n) < int(share * n), -1, label
                ),
                "the share is a chance for each label, and no number of them: compare u with it": torch.where(
                    u.argsort().argsort() < int(share * n), -1, label
                ),
                "u is compared with the share itself, not with a quantile of this batch": torch.where(
                    u <= u.quantile(share), -1, label
                ),
            }
            if 0 < share < 1 and n > 1
            else {
                "u < share, not <=: a share of 0 drops nothing, even where u is 0": torch.where(u <= share, -1, label),
            },
            shape_hint="one label for each image",
        )


@exercise(
    "15.interval",
    "Guided in an interval",
    error_hints={
        **_SHAPES,
        "ambiguous": "log_snr holds a number for each image: `torch.where`, and `&` for and",
        "bitwise_and": "`&` binds before `<=`: brackets around each of the two comparisons",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for i, (shape, dtype) in enumerate(CASES[-2:] + CASES[:-2]):  # six levels first, which tell all mistakes apart
        b, w = shape[0], [3.0, 5.0, 0.0, 2.0][i % 4]
        uncond, cond = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        low, high = draw.number(-4.0, -3.2), draw.number(1.0, 2.0)  # another interval, with the sign turned
        levels = [0.4 * high, low, high, high + 3.0, low - 1.3, 0.9 * low] if b > 1 else [0.5]
        log_snr = torch.tensor(levels[:b], dtype=torch.float64)
        above, below = log_snr >= low, log_snr <= high

        def led(weight: Tensor, uncond: Tensor = uncond, cond: Tensor = cond) -> Tensor:
            return uncond + column(weight, uncond) * (cond - uncond)

        def scaled(inside: Tensor, w: float = w) -> Tensor:
            return torch.where(inside, w, 1.0).double()

        right = led(scaled(above & below))
        expect(
            answer(uncond, cond, log_snr, w, low, high),
            right,
            what="the guess",
            mistakes={
                "outside, the plain conditional guess, w = 1; yours forgets the class there": led(
                    torch.where(above & below, w, 0.0).double()
                ),
                "guided inside, plain outside: yours is the other way round": led(scaled(~(above & below))),
                "both ends belong to the interval: <=, not <": led(scaled((log_snr > low) & (log_snr < high))),
                "the upper end belongs to the interval": led(scaled(above & (log_snr < high))),
                "the lower end belongs to the interval": led(scaled((log_snr > low) & below)),
                "the interval ends at `high`, too: above it there is hardly any noise": led(scaled(above)),
                "the interval begins at `low`: below it there is hardly anything but noise": led(scaled(below)),
                "that is guided at every noise level; each image has its own, and so its own w": led(
                    torch.full_like(log_snr, w)
                ),
                "that is guided nowhere; each image has its own level, and so its own w": cond,
                "log_snr as it comes: it is large where the picture is clean, and low <= log_snr <= high": led(
                    scaled((-log_snr >= low) & (-log_snr <= high))
                ),
                "log_snr is a logarithm already, and so are both ends": led(
                    scaled((log_snr.exp() >= low) & (log_snr.exp() <= high))
                ),
                "inside: from `uncond` towards `cond` and beyond; yours goes the other way": torch.where(
                    column(above & below, cond).bool(), cond - w * (cond - uncond), cond
                ),
                "inside, the guess that it leads from is missing": torch.where(
                    column(above & below, cond).bool(), w * (cond - uncond), cond
                ),
                "w enters once: yours multiplies by it everywhere, and inside again": led(w * scaled(above & below)),
                "inside: uncond + w (cond - uncond); yours overdoes it by one more": led(
                    torch.where(above & below, 1 + w, 1.0).double()
                ),
            }
            if b > 1
            else {},
        )


def _levels(draw: Draw, i: int, dtype: torch.dtype) -> tuple[Tensor, int, int]:
    """A table of alpha_bar and two times; the last jump, to clean data, among them."""
    t, s = [(9, 4), (12, 11), (5, 0), (7, 2), (1, 0)][i % 5]
    return random_schedule(draw).alpha_bar.to(dtype), t, s


@exercise(
    "15.paste",
    "What is known, pasted in",
    error_hints={
        "The size of tensor": _MASK_SHAPES,
        "must match": _MASK_SHAPES,
        "shape of the mask": _MASK_SHAPES,
        "no attribute 'reshape'": _ONE_TIME,
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for i, (shape, dtype) in enumerate(CASES):
        x_s, z, y = (draw.normal(*size, dtype=dtype) for size in (shape, shape, shape[1:]))
        mask = draw.uniform(0, 1, *shape[-2:] if len(shape) == 4 else shape[1:]) < 0.6
        mask.view(-1)[:2] = torch.tensor([True, False])
        alpha_bar, t, s = _levels(draw, i, dtype)
        a_t, a_s = alpha_bar[t], alpha_bar[s]

        def known(a: Tensor, y: Tensor = y, z: Tensor = z) -> Tensor:
            return a.sqrt() * y + (1 - a).sqrt() * z

        def put(values: Tensor, mask: Tensor = mask, x_s: Tensor = x_s) -> Tensor:
            return torch.where(mask, values, x_s)

        got: Any = answer(x_s, y, mask, z, alpha_bar, t, s)
        expect(
            got,
            put(known(a_s)),
            what="x_s",
            mistakes={
                "x_s is at the level of s, the new one; yours has the known pixels at the old level, t": put(
                    known(a_t)
                ),
                "the known pixels need the noise of level s: yours are clean, and the network would know": put(
                    y.expand(shape)
                ),
                "mask is true where the picture is known; yours keeps the others": put(x_s, x_s=known(a_s)),
                "alpha_s is the root of alpha_bar[s]": put(a_s * y + (1 - a_s).sqrt() * z),
                "sigma_s is the root of 1 - alpha_bar[s]": put(a_s.sqrt() * y + (1 - a_s) * z),
                "the noise is missing: alpha_s y + sigma_s z": put((a_s.sqrt() * y).expand(shape)),
                "the picture is scaled by alpha_s as well": put(y + (1 - a_s).sqrt() * z),
                "only the known pixels are pasted; yours overwrites the unknown, too": known(a_s),
                "the known pixels are to be pasted in; yours leaves x_s as it was": x_s,
                "where nothing is known x_s stays; yours is 0 there": put(known(a_s), x_s=torch.zeros_like(x_s)),
                "alpha_s goes with y and sigma_s with z; yours are swapped": put((1 - a_s).sqrt() * y + a_s.sqrt() * z),
                "alpha_s and sigma_s are both roots; yours are their squares": put(a_s * y + (1 - a_s) * z),
                "s is where the picture has come to, on any grid; yours has t - 1": put(known(alpha_bar[t - 1])),
                "use s as it is; yours has s + 1": put(known(alpha_bar[s + 1])),
                "y is clean: alpha_bar[s] takes it to level s; a ratio is for the way between two noisy levels": put(
                    known(a_t / a_s)
                ),
                "the noise is added, not taken away (its law is the same; the check's z is not)": put(
                    a_s.sqrt() * y - (1 - a_s).sqrt() * z
                ),
                "alpha_s and sigma_s are of one level; yours has the noise of t": put(
                    a_s.sqrt() * y + (1 - a_t).sqrt() * z
                ),
                "alpha_s and sigma_s are of one level; yours has the picture at t": put(
                    a_t.sqrt() * y + (1 - a_s).sqrt() * z
                ),
                "sigma_s² = 1 - alpha_bar[s]: the root is of all of it": put(a_s.sqrt() * y + (1 - a_s.sqrt()) * z),
                "alpha_bar is a square already: sigma_s² = 1 - alpha_bar[s]": put(
                    a_s.sqrt() * y + (1 - a_s**2).sqrt() * z
                ),
                "the known pixels are replaced, not added to what is there": x_s + mask * known(a_s),
                "x_s has its noise already: only the known pixels get z": put((a_s.sqrt() * y).expand(shape))
                + (1 - a_s).sqrt() * z,
                "x_s is at its level already: only y is taken there": known(a_s, put(y.expand(shape))),
                "z is fresh noise; yours takes x_s for it": put(a_s.sqrt() * y + (1 - a_s).sqrt() * x_s),
                "each image has its own noise: z as it comes, not z[0] for all": put(known(a_s, z=z[:1]).expand(shape)),
            },
            shape_hint=_MASK_SHAPES,
        )


def _with_one_z(x: Tensor, z: Tensor, alpha_bar: Tensor, t: int, s: int) -> Tensor:
    """The chain from s to t, whose every step adds the same noise."""
    for r in range(s + 1, t + 1):
        keep = alpha_bar[r] / alpha_bar[r - 1]
        x = keep.sqrt() * x + (1 - keep).sqrt() * z
    return x


@exercise("15.up_again", "Back up again", error_hints={"no attribute 'reshape'": _ONE_TIME})
def _(answer: Answer, draw: Draw) -> None:
    for i, (shape, dtype) in enumerate(CASES):
        x_s, z = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        alpha_bar, t, s = _levels(draw, i, dtype)
        a_t, a_s = alpha_bar[t], alpha_bar[s]
        r, one = a_t / a_s, alpha_bar[t] / alpha_bar[t - 1]
        expect(
            answer(x_s, z, alpha_bar, t, s),
            r.sqrt() * x_s + (1 - r).sqrt() * z,
            what="x_t",
            mistakes={
                "x_s is noisy already: only the noise from s to t is added; yours noises it as if it were clean": (
                    a_t.sqrt() * x_s + (1 - a_t).sqrt() * z
                ),
                "that is one step of the chain; from s to t there are several: alpha_bar[t] / alpha_bar[s]": (
                    one.sqrt() * x_s + (1 - one).sqrt() * z
                ),
                "the factor of x_s is a root: variances multiply": r * x_s + (1 - r).sqrt() * z,
                "the noise's factor is a root: 1 - alpha_bar[t] / alpha_bar[s] is its variance": r.sqrt() * x_s
                + (1 - r) * z,
                "sigma_t² - alpha_bar[t] / alpha_bar[s] sigma_s² is 1 minus the ratio, not the difference of the two "
                "alpha_bar": r.sqrt() * x_s + (a_s - a_t).sqrt() * z,
                "the noise is missing": r.sqrt() * x_s,
                "x_s has to shrink, or the variance grows": x_s + (1 - r).sqrt() * z,
                "up to t: the ratio is alpha_bar[t] / alpha_bar[s], below 1; yours is turned round": (
                    x_s / r.sqrt() + (1 - r).sqrt() * z
                ),
                "fresh noise is added, not taken away (its law is the same; the check's z is not)": r.sqrt() * x_s
                - (1 - r).sqrt() * z,
                "the factors are swapped": (1 - r).sqrt() * x_s + r.sqrt() * z,
                "both factors are roots": r * x_s + (1 - r) * z,
                "that adds all the noise of level t; part of it is in x_s already": r.sqrt() * x_s
                + (1 - a_t).sqrt() * z,
                "that adds the noise of level s once more; what is missing is that from s to t": r.sqrt() * x_s
                + (1 - a_s).sqrt() * z,
                "x_s has shrunk by alpha_s already: the factor is alpha_t / alpha_s": a_t.sqrt() * x_s
                + (1 - r).sqrt() * z,
                "variances are subtracted, not standard deviations": r.sqrt() * x_s
                + ((1 - a_t).sqrt() - (1 - a_s).sqrt()) * z,
                "the variance is 1 - alpha_bar[t] / alpha_bar[s], without another root": r.sqrt() * x_s
                + (1 - r.sqrt()).sqrt() * z,
                "the noise's factor is the root of 1 minus the ratio, not 1 minus the root": r.sqrt() * x_s
                + (1 - r.sqrt()) * z,
                "alpha_bar is a square already: its ratio is not squared again": r * x_s + (1 - r**2).sqrt() * z,
                "from s: alpha_bar[s], not alpha_bar[s + 1]": (a_t / alpha_bar[s + 1]).sqrt() * x_s
                + (1 - a_t / alpha_bar[s + 1]).sqrt() * z,
                "the steps from s to t are not the first t - s ones: alpha_bar[t] / alpha_bar[s]": (
                    alpha_bar[t - s].sqrt() * x_s + (1 - alpha_bar[t - s]).sqrt() * z
                ),
                "nothing has changed: x_s goes up to the level of t": x_s,
                "x_s and z have factors of their own": r.sqrt() * (x_s + z),
                "step by step with one and the same z its shares add up: fresh noise each time, or all at once": (
                    _with_one_z(x_s, z, alpha_bar, t, s)
                ),
            },
        )
