"""Checks of lesson 12, variational acceleration."""

import math

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer
from course_utils.exercises.compare import AS_COLUMN, BROADCASTING, Draw, column, expect, random_schedule
from course_utils.exercises.engine import exercise
from course_utils.exercises.slips import lookups

_SUMMED = "one number an image: sum over everything but the first axis, `.flatten(1).sum(1)`"


def _jump(now: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sigma²_{t|s}, sigma~² and k of a variance-preserving jump, from alpha_bar[t] and alpha_bar[s]."""
    forward = 1 - now / before
    return forward, forward * (1 - before) / (1 - now), before.sqrt() * forward / (1 - now)


@exercise("12.step_cost", "What a step costs", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in [
        ((4, 1, 4, 4), torch.float64),
        ((3, 2, 5, 3), torch.float32),
        ((5, 6), torch.float64),
        ((2, 1, 3, 3), torch.float32),
    ]:
        ab = random_schedule(draw, dtype=dtype).alpha_bar.to(dtype)
        x_0, x0_hat = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t, s = int(draw.integers(9, 12)), int(draw.integers(3, 6))
        forward, known, k = _jump(ab[t], ab[s])
        v, squared, d = known * draw.number(1.3, 2.5), (x_0 - x0_hat).square(), x_0[0].numel()

        def cost(v: Tensor = v, known: Tensor = known, k: Tensor | float = k, squared: Tensor = squared) -> Tensor:
            return ((v / known).log() + (known + k**2 * squared) / v - 1).flatten(1).sum(1) / 2

        right = cost()
        one_step = _jump(ab[t], ab[t - 1])
        expect(
            answer(x_0, x0_hat, v, t, s, ab),
            right,
            what="the cost",
            mistakes={
                "the half in front is missing": 2 * right,
                "nats add up over the pixels: yours is their mean": right / d,
                "that is the KL the other way round: the variance of q(x_s | x_t, x_0) stands above": (
                    (known / v).log() + (v + k**2 * squared) / known - 1
                )
                .flatten(1)
                .sum(1)
                / 2,
                "the logarithm is upside down: log(v / sigma~²) is positive for a v that is larger": (
                    (known / v).log() + (known + k**2 * squared) / v - 1
                )
                .flatten(1)
                .sum(1)
                / 2,
                "the -1 is missing: two equal Gaussians must cost nothing": right + d / 2,
                "k comes squared: it multiplies x_0 in the mean, and the mean is squared": cost(k=k.sqrt()),
                "an error in x_0 is not yet one in the mean: it arrives times k": cost(k=1.0),
                "k is missing its alpha_s, the root of alpha_bar[s]": cost(k=k / ab[s].sqrt()),
                "alpha_s in k is the root of alpha_bar[s]": cost(k=k * ab[s].sqrt()),
                "sigma~² is missing in the fraction: x_s has a spread of its own around the mean": (
                    (v / known).log() + k**2 * squared / v - 1
                )
                .flatten(1)
                .sum(1)
                / 2,
                "that is the KL of two Gaussians of one variance; these have two": (k**2 * squared / v)
                .flatten(1)
                .sum(1)
                / 2,
                "the logarithm is of the variances, not of their roots": (
                    (v / known).log() / 2 + (known + k**2 * squared) / v - 1
                )
                .flatten(1)
                .sum(1)
                / 2,
                "v is a variance already: no further square": cost(v=v**2),
                "sigma~² is sigma²_{t|s} sigma_s² / sigma_t²; yours lacks sigma_s² / sigma_t²": cost(known=forward),
                "sigma_s² and sigma_t² are swapped in sigma~²": cost(known=forward * (1 - ab[t]) / (1 - ab[s])),
                "the step goes from t to s, not to t - 1": cost(known=one_step[1], k=one_step[2]),
                "sigma~² is a variance: yours has its root": cost(known=known.sqrt()),
                "alpha_bar is alpha² already: no roots in sigma²_{t|s}": cost(
                    *[v, *_jump(ab[t].sqrt(), ab[s].sqrt())[1:]]
                ),
                "k divides by sigma_t² = 1 - alpha_bar[t]; yours by sigma_t": cost(k=k * (1 - ab[t]).sqrt()),
                "k has sigma²_{t|s}, not its root": cost(k=k / forward.sqrt()),
                "brackets: both terms are divided by v": (
                    ((v / known).log() + known + k**2 * squared / v - 1).flatten(1).sum(1) / 2
                ),
                "x0_hat's error is a difference, squared: (x_0 - x0_hat)²": cost(squared=x_0**2 - x0_hat**2),
                "the error is squared": cost(squared=(x_0 - x0_hat).abs()),
                "the error is squared once": cost(squared=squared**2),
                "in nats, so the natural logarithm; yours has base 2": right
                + d / 2 * (1 / math.log(2) - 1) * (v / known).log(),
                "in nats, so the natural logarithm; yours has base 10": right
                + d / 2 * (1 / math.log(10) - 1) * (v / known).log(),
                "minus 1: two equal Gaussians must cost nothing": right + d,
                "the logarithm is missing: a v that is too large has its price": right - d / 2 * (v / known).log(),
                "the logarithm of a quotient, not a difference": right + d / 2 * (v - known - (v / known).log()),
                "the fraction is upside down: v stands below the line": (
                    (v / known).log() + v / (known + k**2 * squared) - 1
                )
                .flatten(1)
                .sum(1)
                / 2,
                "v is handed over; yours takes the posterior's variance": cost(v=known),
                "v is a variance: no root": ((v / known).log() + (known + k**2 * squared) / v.sqrt() - 1)
                .flatten(1)
                .sum(1)
                / 2,
                "k has alpha_s in it, not alpha_t": cost(k=k * (ab[t] / ab[s]).sqrt()),
                "every image has its own cost; yours all have the first's": right[:1].expand(len(right)),
            },
            shape_hint=_SUMMED,
        )


@exercise("12.optimal_variance", "The best variance of a step", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for b, onto_data, dtype in [(5, False, torch.float64), (3, True, torch.float32), (4, False, torch.float32)]:
        ab = random_schedule(draw, dtype=dtype).alpha_bar.to(dtype)
        t = draw.times(7, 12, b)
        s = torch.zeros(b, dtype=torch.long) if onto_data else draw.times(1, 5, b)
        mse = draw.uniform(0.1, 0.9, b, dtype=dtype)
        now, before = ab[t], ab[s]
        forward, known, k = _jump(now, before)
        _, one_known, one_k = _jump(now, ab[t - 1])
        right = known + k**2 * mse

        def value(now: Tensor, before: Tensor, mse: Tensor = mse) -> Tensor:
            _, known, k = _jump(now, before)
            return known + k**2 * mse

        mistakes = {
            "that is the posterior's variance, for an x_0 that is known": known,
            "that is sigma²_{t|s}, which is right for data N(0, I) alone": forward,
            "that is what the error adds; the posterior's own variance is missing": k**2 * mse,
            "k comes squared: a spread of x_0 by e spreads the mean by k² e": known + k * mse,
            "an error in x_0 is not yet one in x_s: it arrives times k²": known + mse,
            "mse is squared already": known + k**2 * mse**2,
            "mse is a mean square; yours takes its root": known + k**2 * mse.sqrt(),
            "k is missing its alpha_s, the root of alpha_bar[s]": known + (k / before.sqrt()) ** 2 * mse,
            "alpha_s in k is the root of alpha_bar[s]": known + before**2 * (forward / (1 - now)) ** 2 * mse,
            "k has alpha_s, not alpha_t": known + now / before * k**2 * mse,
            "k divides by sigma_t², not by sigma_t": known + k**2 * (1 - now) * mse,
            "alpha_bar is alpha² already: no roots in sigma²_{t|s}": _jump(now.sqrt(), before.sqrt())[1] + k**2 * mse,
            "sigma~² is a variance: yours takes its root": known.sqrt() + k**2 * mse,
            "brackets: (k² mse), and only then the sum": (known + k**2) * mse,
            "the two parts are variances of independent things: they add, they are not multiplied": known * k**2 * mse,
            "that is the standard deviation: the root was not asked for": right.sqrt(),
            "the step goes from t to s, not to t - 1": one_known + one_k**2 * mse,
            "sigma~² is the posterior's variance; yours is the step's forward, sigma²_{t|s}": forward + k**2 * mse,
            "the two parts add up": known - k**2 * mse,
            "no bound from above was asked for: (12.8) is another one": right.clamp(max=forward),
            "an error may be as large as it likes: no clamp": known + k**2 * mse.clamp(max=0.5),
            "each entry has its own error; yours all have the average": known + k**2 * mse.mean(),
            "k is squared, and has its alpha_s squared: sigma²_{t|s} is squared as well": known
            + before * forward / (1 - now) ** 2 * mse,
            "s may be 0, clean data: there sigma~² is 0 and v* the error itself": value(now, ab[s.clamp(min=1)]),
            "that is the cost's logarithm, (12.5): v* itself is asked for": (1 + k**2 * mse / known).log(),
            "sigma_s² and sigma_t² are swapped in sigma~²": forward * (1 - now) / (1 - before).clamp(min=1e-12)
            + k**2 * mse,
        }
        expect(
            answer(mse, t, s, ab),
            right,
            what="the variance",
            mistakes=mistakes | lookups(value, ab, mse, t, s),
            shape_hint="one variance for each entry",
        )


@exercise("12.interpolate", "Between two logarithms", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in [
        ((4, 1, 4, 4), torch.float64),
        ((3, 3, 5, 2), torch.float32),
        ((5, 7), torch.float64),
        ((1, 1, 3, 3), torch.float32),
    ]:
        schedule = random_schedule(draw, dtype=dtype)
        ab, b = schedule.alpha_bar.to(dtype), shape[0]
        v = draw.uniform(0.1, 0.9, *shape, dtype=dtype)
        v.view(-1)[:4] = torch.tensor([-0.2, 0.0, 1.0, 1.3])  # a network's number, which nothing keeps between 0 and 1
        t, s = draw.times(8, 12, b), draw.times(2, 6, b)

        def ends(now: Tensor, before: Tensor, v: Tensor = v) -> tuple[Tensor, Tensor]:
            forward, known, _ = _jump(now, before)
            return column(forward, v), column(known, v)

        def formula(beta: Tensor, known: Tensor, v: Tensor = v) -> Tensor:
            return torch.exp(v * beta.log() + (1 - v) * known.log())

        beta, known = ends(ab[t], ab[s])
        right = formula(beta, known)
        mistakes = {
            "the straight line is between the logarithms, not between the variances": v * beta + (1 - v) * known,
            "v is a network's number and may leave [0, 1]: (12.11) goes on as it is, without a clamp": formula(
                beta, known, v.clamp(0, 1)
            ),
            "v may be below 0: (12.11) goes on as it is, without a clamp": formula(beta, known, v.clamp(min=0)),
            "v may be above 1: (12.11) goes on as it is, without a clamp": formula(beta, known, v.clamp(max=1)),
            "v goes from 0 to 1 already, not from -1 to 1": formula(beta, known, (v + 1) / 2),
            "exp goes with log: yours takes 10 to that power": 10 ** (v * beta.log() + (1 - v) * known.log()),
            "a straight line between the logarithms, not between one over the variances": 1
            / (v / beta + (1 - v) / known),
            "v and 1 - v, which add up to 1: yours has 1 + v": torch.exp(v * beta.log() + (1 + v) * known.log()),
            "v is a network's number and may leave [0, 1]: no sigmoid was asked for": formula(beta, known, v.sigmoid()),
            "a straight line between the logarithms, in any base, and its inverse at the end: exp goes with log": (
                torch.exp(v * beta.log10() + (1 - v) * known.log10())
            ),
            "the ends are swapped: v = 1 is the larger one, sigma²_{t|s}": formula(known, beta),
            "that is the logarithm: take the exponential at the end": right.log(),
            "that is the standard deviation: the root was not asked for": right.sqrt(),
            "the step goes from t to s, not to t - 1": formula(*ends(ab[t], ab[t - 1])),
            "both ends are that of the forward step; the lower one is sigma~²": beta.expand_as(v).clone(),
            "v is missing: that is the middle of the two": (beta * known).sqrt().expand_as(v).clone(),
            "the weights of the two logarithms are v and 1 - v; yours are v and 1": torch.exp(
                v * beta.log() + known.log()
            ),
            "sigma_s² and sigma_t² are swapped in sigma~²": formula(beta, beta**2 / known),
            "yours runs between standard deviations squared, not between logarithms": (
                v * beta.sqrt() + (1 - v) * known.sqrt()
            )
            ** 2,
        }
        expect(
            answer(v, t, s, ab),
            right,
            what="the variance",
            mistakes=mistakes | lookups(lambda now, before: formula(*_jump(now, before)[:2]), ab, v, t, s),
            shape_hint=f"as large as v: {AS_COLUMN}",
        )


@exercise(
    "12.best_gaussian",
    "The best Gaussian",
    error_hints={"The size of tensor": "each point's mean is (b,); to be taken from (b, K) it must become (b, 1)"},
)
def _(answer: Answer, draw: Draw) -> None:
    for b, K, dtype in [(5, 3, torch.float64), (4, 4, torch.float64), (3, 2, torch.float32)]:
        p = torch.softmax(draw.normal(b, K, dtype=dtype), 1)
        m, u = 2 * draw.normal(b, K, dtype=dtype), draw.uniform(0.1, 1.5, b, K, dtype=dtype)
        mean = (p * m).sum(1, keepdim=True)
        within, between = (p * u).sum(1, keepdim=True), (p * (m - mean) ** 2).sum(1, keepdim=True)
        best, plain = p.argmax(1, keepdim=True), m.mean(1, keepdim=True)

        def pair(mean: Tensor, variance: Tensor) -> Tensor:
            return torch.cat([mean, variance], 1)

        expect(
            answer(p, m, u),
            pair(mean, within + between),
            what="mean and variance",
            mistakes={
                "the parts lie apart, and that is spread too: add the variance of their means": pair(mean, within),
                "the parts have widths of their own: add the mean of their variances": pair(mean, between),
                "take the square of the mean off: that is E[x²], not a variance": pair(
                    mean, within + between + mean**2
                ),
                "the parts are not equally probable: weigh the means with p": pair(
                    plain, (p * u).sum(1, keepdim=True) + (p * (m - plain) ** 2).sum(1, keepdim=True)
                ),
                "weigh the parts with p throughout; yours count all alike": pair(
                    plain, u.mean(1, keepdim=True) + (m - plain).square().mean(1, keepdim=True)
                ),
                "a draw comes from one part, it is no weighted sum of draws: weigh variances with p, not p²": pair(
                    mean, (p**2 * u).sum(1, keepdim=True)
                ),
                "weigh variances with p, not p²": pair(mean, (p**2 * u).sum(1, keepdim=True) + between),
                "that is the likeliest part alone": pair(m.gather(1, best), u.gather(1, best)),
                "the mean of the squares, less the square of the mean: yours takes off the mean itself": pair(
                    mean, within + between + mean**2 - mean
                ),
                "the second one is the variance, not its root": pair(mean, (within + between).sqrt()),
                "mean first, then variance": pair(within + between, mean),
                "distances from the mean are squared": pair(mean, within + (p * (m - mean).abs()).sum(1, keepdim=True)),
                "the widths are variances already: no root": pair(mean, (p * u.sqrt()).sum(1, keepdim=True) + between),
                "the parts' means are weighed with p in their variance, too": pair(
                    mean, within + m.var(1, keepdim=True)
                ),
                "distances are from the mixture's own mean, p weighed; yours are from the plain one": pair(
                    mean, within + (p * (m - plain) ** 2).sum(1, keepdim=True)
                ),
                "distances are from each row's own mean; yours are from that of all": pair(
                    mean, within + (p * (m - m.mean()) ** 2).sum(1, keepdim=True)
                ),
                "the mean is that of all parts, not of the likeliest": pair(m.gather(1, best), within + between),
                "brackets: p weighs both, the variances and the squared distances": pair(
                    mean, within + ((m - mean) ** 2).sum(1, keepdim=True)
                ),
                "a mixture is no product: nothing is weighed with one over the variances": pair(
                    (p * m / u).sum(1, keepdim=True) / (p / u).sum(1, keepdim=True), 1 / (p / u).sum(1, keepdim=True)
                ),
                "p sums to 1 already: a sum, not a mean": pair((p * m).mean(1, keepdim=True), within + between),
                "the square of the mean is taken off, not added": pair(mean, within + between + 2 * mean**2),
                "the widths are variances already: no further square": pair(
                    mean, (p * u**2).sum(1, keepdim=True) + between
                ),
            },
            shape_hint="two numbers for each point, (b, 2): `torch.stack([mean, variance], 1)`",
        )
    # One part alone, and a part that never comes.
    p, m = torch.tensor([[1.0], [1.0]], dtype=torch.float64), draw.normal(2, 1).double()
    expect(answer(p, m, m**2), torch.cat([m, m**2], 1), what="mean and variance of a single part")
    p, rare = torch.cat([p, 0 * p], 1), torch.cat([m, m + 1], 1)
    expect(answer(p, rare, rare**2), torch.cat([m, m**2], 1), what="mean and variance where one part has p = 0")


@exercise("12.jump_bound", "The bound of a jump")
def _(answer: Answer, draw: Draw) -> None:
    for b, d, k, dtype in [(4, 6, 2, torch.float64), (3, 5, 4, torch.float32), (5, 1, 1, torch.float64)]:
        x, mean = draw.normal(b, d, dtype=dtype), draw.normal(b, d, dtype=dtype)
        mean_q, mean_p = draw.normal(b, k, dtype=dtype), draw.normal(b, k, dtype=dtype)
        v = draw.uniform(0.3, 2.0, b, d, dtype=dtype)
        v_q, v_p = draw.uniform(0.2, 0.8, b, k, dtype=dtype), draw.uniform(1.2, 3.0, b, k, dtype=dtype)

        def nll(v: Tensor = v, x: Tensor = x, mean: Tensor = mean) -> Tensor:
            return ((x - mean) ** 2 / v + (2 * math.pi * v).log()).sum(1) / 2

        def kl(m_q: Tensor = mean_q, v_q: Tensor = v_q, m_p: Tensor = mean_p, v_p: Tensor = v_p) -> Tensor:
            return ((v_p / v_q).log() + (v_q + (m_q - m_p) ** 2) / v_p - 1).sum(1) / 2

        right = nll() + kl()
        mistakes = {
            "the KL is missing: nothing then keeps q(z | x_s, x_t) near what can be drawn later": nll(),
            "that is the KL alone: the likelihood of x_s is missing": kl(),
            "the KL is a cost: it is added, not taken away": nll() - kl(),
            "the sign of the likelihood: the bound is on *minus* log p": kl() - nll(),
            "the KL goes from q to p: q's variance stands above the line": nll() + kl(mean_p, v_p, mean_q, v_q),
            "p(z | x_t) has a mean and a variance of its own; yours is N(0, 1)": nll()
            + kl(m_p=torch.zeros_like(mean_p), v_p=torch.ones_like(v_p)),
            "the logarithm in the KL is upside down": nll() + kl() + (v_q / v_p).log().sum(1),
            "the means of q and p are missing in the KL": nll() + kl(m_p=mean_q),
            "the half in front of the KL is missing": nll() + 2 * kl(),
            "the half in front of the likelihood is missing": 2 * nll() + kl(),
            "both halves are missing": 2 * right,
            "the -1 in the KL is missing: two equal Gaussians must cost nothing": right + k / 2,
            "2 pi is missing in the density of a Gaussian": right - d / 2 * math.log(2 * math.pi),
            "the logarithm of the variance is missing in the likelihood": right - v.log().sum(1) / 2,
            "the logarithm of the variance has the wrong sign: wide Gaussians are low": right - v.log().sum(1),
            "the squared error alone is no likelihood: divide it by the variance, add the logarithm": (x - mean)
            .square()
            .sum(1)
            + kl(),
            "variances are variances already: no further square": nll(v**2) + kl(),
            "v_q and v_p are variances already: no further square": nll() + kl(v_q=v_q**2, v_p=v_p**2),
            "variances are variances already, all three: `Normal` wants their roots": nll(v**2)
            + kl(v_q=v_q**2, v_p=v_p**2),
            "in nats, so natural logarithms; yours are bits": right / math.log(2),
            "2 pi is under the logarithm; yours has pi": right - d / 2 * math.log(2),
            "2 pi is under the logarithm, once for each number of x": right - (d - 1) / 2 * math.log(2 * math.pi)
            if d > 1
            else 2 * right,
            "the logarithm of 2 pi v is missing in the likelihood": right - (2 * math.pi * v).log().sum(1) / 2,
            "below the line of the KL stands v_p; yours has v_q": nll()
            + ((v_p / v_q).log() + (v_q + (mean_q - mean_p) ** 2) / v_q - 1).sum(1) / 2,
            "in the KL's fraction q's variance is above the line and p's below": nll()
            + ((v_p / v_q).log() + (v_p + (mean_q - mean_p) ** 2) / v_q - 1).sum(1) / 2,
            "brackets: v_q is divided by v_p as well": nll()
            + ((v_p / v_q).log() + v_q + (mean_q - mean_p) ** 2 / v_p - 1).sum(1) / 2,
            "the -1 belongs to each number of z": right + (k - 1) / 2 if k > 1 else 2 * right,
            "the likelihood has a natural logarithm": right
            + (1 / math.log(10) - 1) * (2 * math.pi * v).log().sum(1) / 2,
            "nats add up: sum over the numbers of x, do not average": nll() / d + kl() if d > 1 else 2 * right,
            "nats add up, over x and over z: do not average": nll() / d + kl() / k if d > 1 else 2 * right,
        }
        expect(
            answer(x, mean, v, mean_q, v_q, mean_p, v_p),
            right,
            what="the bound",
            mistakes=mistakes,
            shape_hint="one number for each point: sum over the second axis, of x and of z, each for itself",
        )
