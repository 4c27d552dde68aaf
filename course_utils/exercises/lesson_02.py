"""Checks of lesson 02, noise schedules."""

import math

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect
from course_utils.exercises.engine import exercise
from course_utils.schedules import DiscreteSchedule, rescale_zero_terminal_snr


def random_table(draw: Draw, T: int, dtype: torch.dtype, low: float = 0.02, high: float = 0.2) -> Tensor:
    """alpha_bar_0 … alpha_bar_T, falling in steps so large that neighbours, roots and squares all differ visibly."""
    betas = draw.uniform(low, high, T, dtype=torch.float64)
    return DiscreteSchedule.from_betas(betas).alpha_bar.to(dtype)


@exercise("02.betas_from_alpha_bar", "Back from alpha_bar to the betas")
def _(answer: Answer, draw: Draw) -> None:
    for T, dtype, ends_at_zero in [
        (12, torch.float64, True),
        (30, torch.float32, True),
        (9, torch.float64, False),
        (1, torch.float64, False),
    ]:
        alpha_bar = random_table(draw, T, dtype, high=0.3)
        alpha_bar[-1] *= 0.0 if ends_at_zero else 0.3  # the last beta is large enough for any clip
        alpha_bar[T // 2 :] *= 0.3 if T > 1 else 1.0  # and so is one in the middle, and no others
        before, after = alpha_bar[:-1], alpha_bar[1:]
        betas, upside_down = 1 - after / before, 1 - before / after
        max_beta = draw.number(0.35, 0.55)
        expect(
            answer(alpha_bar, max_beta),
            betas.clamp(max=max_beta),
            what="betas",
            mistakes={
                "the clip is missing: no beta may be larger than max_beta": betas,
                "max_beta is an argument; yours has 0.999 written into it": betas.clamp(max=0.999),
                "that scales all betas down; only those above the limit change": betas * (max_beta / betas.max()),
                "a beta above the limit becomes the limit; yours becomes 0": betas.masked_fill(betas > max_beta, 0.0),
                "steps multiply, so divide neighbours: divided by alpha_bar_{t-1}, not by alpha_bar_t": (
                    (before - after) / after
                ).clamp(max=max_beta),
                "max_beta is an upper limit; yours is a lower one": betas.clamp(min=max_beta),
                "only the last beta is clipped; the limit holds for every step": torch.cat(
                    [betas[:-1], betas[-1:].clamp(max=max_beta)]
                ),
                "that is alpha_t, the share that is kept; beta_t is 1 minus it": (after / before).clamp(max=max_beta),
                "the fraction is upside down: alpha_bar_t over alpha_bar_{t-1}": upside_down.clamp(max=max_beta),
                "steps multiply, so divide neighbours; yours takes their difference": (before - after).clamp(
                    max=max_beta
                ),
                "no root here: alpha_bar is a product of (1 - beta), not of their roots": (
                    1 - (after / before).sqrt()
                ).clamp(max=max_beta),
                "that is 1 - alpha_bar, the noise after all steps so far; beta_t is that of one step": (
                    1 - after
                ).clamp(max=max_beta),
                "the sign: 1 minus the quotient, and not the other way round": (after / before - 1).clamp(max=max_beta),
                "the first beta belongs to step 1: yours come in reverse": betas.clamp(max=max_beta).flip(0),
                "no root here: that is the noise's factor, sqrt(beta)": betas.sqrt().clamp(max=max_beta),
                "only the upper end is clipped: a small beta stays what it is": betas.clamp(min=0.1, max=max_beta),
                "a logarithm is near beta for a small beta alone": (before.log() - after.log()).clamp(max=max_beta),
                "1 minus the quotient, not plus": (1 + after / before).clamp(max=max_beta),
                "clip the betas, not alpha_bar": 1 - after.clamp(min=1 - max_beta) / before.clamp(min=1 - max_beta),
                "one entry too many: nothing happens before step 1, so there is no beta_0 in this list": torch.cat(
                    [betas.new_zeros(1), betas]
                ).clamp(max=max_beta),
            },
            shape_hint="T + 1 alpha_bars have T neighbouring pairs, so there are T betas",
        )
    alpha_bar = random_table(draw, 6, torch.float64)
    want = 1 - alpha_bar[1:] / alpha_bar[:-1]
    expect(answer(alpha_bar, 0.999), want, what="betas that are all below the limit,")


@exercise("02.cosine_alpha_bar", "The cosine schedule")
def _(answer: Answer, draw: Draw) -> None:
    for T in (11, 40, 1, 1000):
        s = draw.number(0.05, 0.3)
        t = torch.arange(T + 1, dtype=torch.float64)

        def f(t: Tensor, s: float = s, power: int = 2, inner: float = 1 + s, angle: float = math.pi / 2) -> Tensor:
            return torch.cos((t / T + s) / inner * angle) ** power

        got = answer(T, s)
        if isinstance(got, Tensor) and got.dtype == torch.float32:
            raise Wrong(
                "alpha_bar should be torch.float64, got torch.float32",
                "`torch.linspace` and `torch.arange` make float32 numbers unless told `dtype=torch.float64`",
            )
        want = f(t) / f(t)[0]
        expect(
            got,
            want,
            what="alpha_bar",
            mistakes={
                "the cosine is squared: alpha_bar is a variance": f(t, power=1) / f(t, power=1)[0],
                "s is an argument; yours has 0.008 written into it": f(t, s=0.008, inner=1.008)
                / f(t, s=0.008, inner=1.008)[0],
                "divide by f(0), so that alpha_bar_0 is exactly 1": f(t),
                "the offset s is missing": f(t, s=0.0, inner=1.0),
                "with the offset in the numerator alone the angle runs past a right angle; divide by 1 + s too": f(
                    t, inner=1.0
                )
                / f(t, inner=1.0)[0],
                "a quarter turn is pi / 2; yours goes twice as far": f(t, angle=math.pi) / f(t, angle=math.pi)[0],
                "t runs from 0 to T: the last entry, T, is missing": want[:-1],
                "clean data, alpha_bar_0 = 1, is missing in front": want[1:],
                "f is alpha_bar already; its cumulative product uses it as the alpha of one step": torch.cumprod(
                    want, 0
                ),
                "cos takes radians, in which a right angle is pi / 2": f(t, angle=90.0) / f(t, angle=90.0)[0],
                "that falls in a straight line; a cosine is asked for": 1 - t / T,
                "the cosine, not the sine: clean data comes first": want.flip(0),
                "the angle is divided by 1 + s, so that it ends at a right angle; yours by 1 - s": f(t, inner=1 - s)
                / f(t, inner=1 - s)[0],
                "the cosine's square, no higher power": f(t, power=4) / f(t, power=4)[0],
                "without the clip: no beta is held below 0.999 here, and alpha_bar ends at 0": torch.cat(
                    [want[:1], torch.cumprod(1 - (1 - want[1:] / want[:-1]).clamp(max=0.999), 0)]
                ),
                "alpha_bar ends at 0: nothing is clipped": want.clamp(min=1e-3),
                "divide by f(0), not by the sum": want / want.sum(),
                "alpha_bar_0 belongs to t = 0: yours begins at t = 1": f(t + 1) / f(t + 1)[0],
                "s is added to t / T, not to t": (torch.cos((t + s) / (T + s) * math.pi / 2) ** 2)
                / math.cos(s / (T + s) * math.pi / 2) ** 2,
                "t is divided by T + 1: then the last entry, at t = T, is not yet zero": (
                    torch.cos((t / (T + 1) + s) / (1 + s) * math.pi / 2) ** 2
                )
                / f(t)[0],
            },
            shape_hint="t = 0, 1, …, T makes T + 1 entries",
        )
    t = torch.arange(8, dtype=torch.float64) / 7
    expect(answer(7, 0.0), torch.cos(t * math.pi / 2) ** 2, what="alpha_bar without an offset, s = 0,")


@exercise("02.log_snr", "The log-SNR")
def _(answer: Answer, draw: Draw) -> None:
    for T, dtype, ends_at_zero in [
        (8, torch.float64, False),
        (20, torch.float32, True),
        (60, torch.float64, True),
        (1, torch.float32, False),
    ]:
        alpha_bar = random_table(draw, T, dtype)
        if ends_at_zero:
            alpha_bar[-1] = 0
        want = torch.logit(alpha_bar)
        got = answer(alpha_bar)
        if not isinstance(got, Tensor) or got.shape != want.shape:
            expect(got, want, what="the log-SNR", shape_hint="one number for each entry of alpha_bar")
        inner = slice(1, -1 if ends_at_zero else None)  # where it is finite
        expect(
            got[inner],
            want[inner],
            what="the log-SNR",
            mistakes={
                "the natural logarithm is wanted, `torch.log`; yours has base 10": want[inner] / math.log(10),
                "the natural logarithm is wanted, `torch.log`; yours are decibels": want[inner] * 10 / math.log(10),
                "the natural logarithm is wanted, `torch.log`; yours has base 2": want[inner] / math.log(2),
                "the ratio is upside down: signal over noise": -want[inner],
                "the SNR is a ratio of variances: no root": want[inner] / 2,
                "that is log alpha_bar; the noise's share 1 - alpha_bar belongs under it": alpha_bar[inner].log(),
                "the logarithm is missing: that is the SNR itself": want[inner].exp(),
                "log(a / b) is log(a) - log(b), a difference; yours is a quotient": alpha_bar[inner].log()
                / (1 - alpha_bar[inner]).log(),
                "alpha_bar is a variance already: no further square": (alpha_bar**2).logit()[inner],
                "alpha_bar is a variance already: no root": alpha_bar.sqrt().logit()[inner],
                "that is log(1 - alpha_bar), the noise alone": (1 - alpha_bar[inner]).log(),
                "brackets: the logarithm of 1 - alpha_bar, not 1 minus something": alpha_bar[inner].log()
                - 1
                - alpha_bar[inner],
                "log, not log1p: the SNR itself is under the logarithm": want[inner].exp().log1p(),
                "that is the way back, sigmoid": alpha_bar[inner].sigmoid(),
                "alpha_bar is the product of all steps already: no further `cumprod`": alpha_bar.cumprod(0).logit()[
                    inner
                ],
            },
        )
        if got.isnan().any():
            raise Wrong(
                "the log-SNR has NaN in it",
                "0 / 0 and inf - inf are NaN; look at t = 0, where alpha_bar is 1, and at the end, where it may be 0",
            )
        for t, sign, why in [(0, 1, "clean data has no noise at all"), (-1, -1, "no signal is left")]:
            if want[t].isinf() and got[t] != sign * math.inf:
                raise Wrong(
                    f"the log-SNR should be {sign * math.inf:+} where alpha_bar is {alpha_bar[t].item():g}, and is not",
                    f"{why}, and PyTorch's log knows infinity: no clamp and no small constant is needed",
                )


@exercise("02.zero_terminal_snr", "An end without a trace")
def _(answer: Answer, draw: Draw) -> None:
    for T, dtype in [(9, torch.float64), (30, torch.float32), (2, torch.float64), (100, torch.float64)]:
        alpha_bar = random_table(draw, T, dtype, high=0.6 if T < 10 else 0.1)
        r, clean = alpha_bar.double().sqrt(), torch.ones(1, dtype=torch.float64)
        shifted = r - r[-1]
        want = rescale_zero_terminal_snr(DiscreteSchedule(alpha_bar)).alpha_bar

        def table(later: Tensor, first: Tensor = clean, dtype: torch.dtype = dtype) -> Tensor:
            return torch.cat([first, later[1:]]).to(dtype)

        scaled = shifted * r[1] / (r[1] - r[-1])
        ends = (alpha_bar.double() - alpha_bar[-1]) * alpha_bar[1] / (alpha_bar[1] - alpha_bar[-1])
        expect(
            answer(alpha_bar),
            want.to(dtype),
            what="the new alpha_bar",
            mistakes={
                "shift and scale the *roots*, which are what multiplies the picture, and square at the end": table(
                    ends
                ),
                "square the roots again at the end: alpha_bar is a variance": table(scaled),
                "the scale is missing: after the shift alone the value at t = 1 has changed": table(shifted**2),
                "the shift is missing: scaling can never reach 0": table((r * r[1] / (r[1] - r[-1])) ** 2),
                "the factor is upside down: r_1 / (r_1 - r_T), a little more than 1": table(
                    (shifted * (r[1] - r[-1]) / r[1]) ** 2
                ),
                "the value to keep is that at t = 1; yours keeps the one at t = 0": table((shifted / (1 - r[-1])) ** 2),
                "alpha_bar_0 belongs to clean data and stays 1": table(scaled**2, scaled[:1] ** 2),
                "only the last entry has changed: that is a cliff from t = T - 1 to T": table(
                    torch.cat([alpha_bar[:-1].double(), clean * 0])
                ),
                "clean data, alpha_bar_0 = 1, is missing in front": scaled[1:].to(dtype) ** 2,
                "the scale is r_1 / (r_1 - r_T): yours lacks r_1 above the line": table(
                    (shifted / (r[1] - r[-1])) ** 2
                ),
                "the shift takes r_T off, it does not add it": table(((r + r[-1]) * r[1] / (r[1] + r[-1])) ** 2),
                "the scale has r_1 - r_T below the line; yours has the sum": table(
                    (shifted * r[1] / (r[1] + r[-1])) ** 2
                ),
                "r_1 is a root of alpha_bar_1; yours is alpha_bar_1 itself": table(
                    (shifted * alpha_bar[1].double() / (r[1] - r[-1])) ** 2
                ),
                "brackets: the scale multiplies the whole difference r_t - r_T": table(
                    (r - r[-1] * r[1] / (r[1] - r[-1])) ** 2
                ),
                "one square at the end is enough": table(scaled**4),
            },
            shape_hint="the table keeps its T + 1 entries",
        )
    alpha_bar = random_table(draw, 6, torch.float64)
    alpha_bar[-1] = 0.0
    expect(answer(alpha_bar), alpha_bar, what="a table that ends at 0 already, and so stays as it is,")


@exercise("02.t_weights", "Which t, how often, and with what weight")
def _(answer: Answer, draw: Draw) -> None:
    for T, history, dtype in [(7, 5, torch.float64), (6, 6, torch.float32), (40, 3, torch.float64)]:
        spread = draw.uniform(0.1, 3.0, T, 1, dtype=torch.float64)
        losses = (spread * draw.normal(T, history, dtype=torch.float64).abs() + 0.1 * spread).to(dtype)
        got = answer(losses)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong("it should return two tensors, p and weight", "end with `return p, weight`")

        def share(of_t: Tensor) -> Tensor:
            return of_t / of_t.sum()

        root = losses.square().mean(1).sqrt()
        p = share(root)
        expect(
            got[0],
            p,
            what="p",
            mistakes={
                "square first, then take the mean, then the root; yours is the plain mean": share(losses.mean(1)),
                "the root is missing: p goes with the root of the mean square": share(losses.square().mean(1)),
                "the loss is squared before the mean; yours is the root of the mean": share(losses.mean(1).sqrt()),
                "the probabilities must sum to 1: divide by their sum": root,
                "the more a t costs, the more often it is drawn; yours is the other way round": share(1 / root),
                "the mean square is wanted, not the spread around the mean": share(losses.std(1)),
                "a softmax is something else: divide the roots by their sum": torch.softmax(root, 0),
                "a row is a t, a column a remembered loss: take the mean along the row, `mean(1)`": share(
                    losses.square().mean(0).sqrt()
                ),
                "the weights were returned first: p comes first, then weight": 1 / (T * p),
                "the mean of the squares, not the largest": share(losses.abs().amax(1)),
                "the mean of the squares, not their median": share(losses.square().median(1).values.sqrt()),
                "all the remembered losses count, not the last alone": share(losses[:, -1].abs()),
                "one root is enough": share(root.sqrt()),
                "that is a uniform p: it must depend on the losses": torch.full_like(p, 1 / T),
            },
            shape_hint="one probability for each of the T rows",
        )
        expect(
            got[1],
            1 / (T * p),
            what="weight",
            mistakes={
                "T is missing: a uniform p, 1 / T, must give every loss the weight 1": 1 / p,
                "that is upside down: what is drawn more often must weigh less": T * p,
                "the weight belongs to p, which sums to 1; yours was made from the roots": 1 / (T * root),
                "these are relative weights; they must not be normalised once more": share(1 / p),
                "a weight for each t is 1 / (T p_t); yours is p itself": p,
                "T is the number of times, the rows; yours is that of remembered losses": 1 / (history * p)
                if history != T
                else T * p,
                "divide by p itself, not by its square": 1 / (T * p**2),
                "every loss weighs 1 only where p is uniform": torch.ones_like(p),
            },
            shape_hint="one weight for each of the T rows",
        )
