"""Checks of lesson 01, the forward process."""

from collections.abc import Callable

import torch

from course_utils.exercises.answer import Answer
from course_utils.exercises.compare import (
    AS_COLUMN,
    BROADCASTING,
    CASES,
    Draw,
    column,
    expect,
    numbers,
    random_schedule,
)
from course_utils.exercises.engine import exercise
from course_utils.exercises.slips import lookups
from course_utils.forward import q_sample
from course_utils.parameterizations import x0_from_eps
from course_utils.schedules import DiscreteSchedule


@exercise("01.q_step", "One step of the chain")
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        x, eps, beta = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype), draw.number(0.05, 0.6)
        signal, noise = (1 - beta) ** 0.5, beta**0.5
        expect(
            answer(x, beta, eps),
            signal * x + noise * eps,
            what="x_t",
            mistakes={
                "variances add up, and beta is a variance: both factors are square roots, yours has none": (1 - beta)
                * x
                + beta * eps,
                "the signal's factor is a square root too": (1 - beta) * x + noise * eps,
                "the noise's factor is a square root too": signal * x + beta * eps,
                "the image keeps all of its size: the variance will climb at every step": x + noise * eps,
                "the two factors are swapped: beta is the share of noise": noise * x + signal * eps,
                "noise is added, not taken away (harmless for one symmetric draw, but not the equation)": signal * x
                - noise * eps,
                "the noise is missing: a shrinking image is not a noisy one": signal * x,
                "one image's noise serves the whole batch: every image needs its own": signal * x + noise * eps[:1],
                "beta is a variance: one root of it is enough": (1 - beta) ** 0.25 * x + beta**0.25 * eps,
                "beta is a variance already: a root, where yours has a square": (1 - beta**2) ** 0.5 * x + beta * eps,
                "1 - sqrt(beta) is not sqrt(1 - beta)": (1 - noise) * x + noise * eps,
                "the sign under the root: the signal shrinks, by sqrt(1 - beta)": (1 + beta) ** 0.5 * x + noise * eps,
                "brackets: the noise has a factor of its own, and is not shrunk with the signal": signal
                * (x + noise * eps),
                "1 - beta / 2 is near sqrt(1 - beta) for a small beta alone": (1 - beta / 2) * x + noise * eps,
            },
        )
    x, eps = draw.normal(3, 2), draw.normal(3, 2)
    expect(answer(x, 0.0, eps), x, what="x_t where beta is 0 and nothing happens,")
    expect(answer(x, 1.0, eps), eps, what="x_t where beta is 1 and nothing is left,")


@exercise("01.alpha_bar", "How much signal is left after t steps")
def _(answer: Answer, draw: Draw) -> None:
    for T, dtype in [(1, torch.float64), (7, torch.float64), (40, torch.float32), (200, torch.float64)]:
        betas = draw.uniform(0.02, 0.2, T, dtype=dtype)
        if T in (7, 40):
            betas[4 if T == 7 else -1] = 1.0  # an end without a trace of the picture, as lesson 02 will want it
        one = betas.new_ones(1)
        product = torch.cumprod(1 - betas, 0)
        expect(
            answer(betas),
            torch.cat([one, product]),
            what="alpha_bar",
            mistakes={
                "the entry for clean data, alpha_bar[0] = 1, is missing": product,
                "that is the product of the betas: alpha = 1 - beta is what multiplies up": torch.cat(
                    [one, torch.cumprod(betas, 0)]
                ),
                "factors multiply: a cumulative product, where yours is a sum": torch.cat(
                    [one, 1 - torch.cumsum(betas, 0)]
                ),
                "that is alpha, one step's factor; alpha_bar is the product of all steps so far": torch.cat(
                    [one, 1 - betas]
                ),
                "no root here: alpha_bar is the product itself, its root is taken when it is used": torch.cat(
                    [one, product.sqrt()]
                ),
                "no square: alpha_bar is the product of the (1 - beta) itself": torch.cat([one, product.square()]),
                "no beta is too large: with beta = 1 nothing is left, alpha_bar = 0": torch.cat(
                    [one, torch.cumprod(1 - betas.clamp(max=0.999), 0)]
                ),
                "clean data comes first: the 1 stands in front, yours at the end": torch.cat([product, one]),
                "clean data is all signal: alpha_bar[0] is 1, yours is 0": torch.cat([0 * one, product]),
                "exp(-beta) is near 1 - beta for a small beta alone": torch.cat([one, (-betas.cumsum(0)).exp()]),
                "beta is a variance already: 1 - beta, not 1 - beta²": torch.cat([one, torch.cumprod(1 - betas**2, 0)]),
                "the signal shrinks: 1 - beta, not 1 + beta": torch.cat([one, torch.cumprod(1 + betas, 0)]),
                "each entry has the factors so far; yours all have the product of all": torch.cat(
                    [one, product[-1:].expand(T)]
                ),
                "logarithms add up: the exponential at the end is missing": torch.cat([one, product.log()]),
                "that is 1 - alpha_bar, the noise's share": torch.cat([one, product]) * -1 + 1,
                "the product runs from the wrong end: step 1 comes first": torch.cat(
                    [one, torch.cumprod(1 - betas.flip(0), 0)]
                ),
                "shifted by one: T betas make T + 1 entries, the last one being all factors": torch.cat(
                    [one, one, product[:-1]]
                )[: T + 1],
            },
            shape_hint="T betas make T + 1 entries: one more for clean data, in front",
        )


@exercise(
    "01.q_sample",
    "A thousand steps at once",
    error_hints=BROADCASTING
    | {"numpy()": "NumPy knows no gradients, and later lessons train through this function: stay with tensors"},
)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        schedule = random_schedule(draw, dtype=dtype)
        x, eps = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t, table = draw.times(1, schedule.T, len(x)), schedule.alpha_bar.to(dtype)
        ab = column(table[t], x)
        root, sigma = ab.sqrt(), (1 - ab).sqrt()
        mistakes = {
            "alpha_bar is a variance: the image's factor is its square root": ab * x + sigma * eps,
            "the noise's factor is sqrt(1 - alpha_bar); without the root the variance sags": root * x + (1 - ab) * eps,
            "both factors are square roots": ab * x + (1 - ab) * eps,
            "1 - sqrt(alpha_bar) is not sqrt(1 - alpha_bar)": root * x + (1 - root) * eps,
            "the two factors are swapped": sigma * x + root * eps,
            "one root of alpha_bar is enough: yours has the root of a root": root.sqrt() * x + sigma * eps,
            "1 - alpha_bar, under the root, is no root itself": root * x + (1 - root).sqrt() * eps,
            "1 - alpha_bar, under the root, is no square itself": root * x + (1 - ab**2).sqrt() * eps,
            "noise is added, not taken away (harmless for one symmetric draw, but not the equation)": root * x
            - sigma * eps,
            "brackets: the noise has a factor of its own, and is not shrunk with the image": root * (x + sigma * eps),
            "the noise is missing: eps was handed over to be used": root * x,
            "one image's noise serves the whole batch: every image needs its own": root * x + sigma * eps[:1],
        }
        expect(
            answer(x, t, table, eps),
            q_sample(x, t, schedule, eps),
            what="x_t",
            mistakes=mistakes | lookups(lambda a, x=x, eps=eps: a.sqrt() * x + (1 - a).sqrt() * eps, table, x, t),
            shape_hint=f"x_t is as large as x_0: {AS_COLUMN}",
        )
    schedule, x, eps = random_schedule(draw), draw.normal(4, 2).double(), draw.normal(4, 2).double()
    t = torch.tensor([0, 12, 12, 0])  # clean data belong to the table, and two images may have one t
    expect(answer(x, t, schedule.alpha_bar, eps), q_sample(x, t, schedule, eps), what="x_t at t = 0 and t = T")
    # Later lessons train through this function: the gradient with respect to x_0 is alpha_t.
    schedule, t = random_schedule(draw), draw.distinct(1, 12, 3)
    x, eps, weights = (draw.normal(3, 1, 4, 4, dtype=torch.float64) for _ in range(3))
    gradient = answer.gradient(x, t, schedule.alpha_bar, eps, wrt=0, cotangent=weights)
    expect(gradient, column(schedule.alpha_bar[t].sqrt(), x) * weights, what="the gradient with respect to x_0")


@exercise(
    "01.t_at_snr",
    "When is so much signal left?",
    error_hints={"with size 0": "your condition holds nowhere in the table: is the right quantity compared, with <=?"},
)
def _(answer: Answer, draw: Draw) -> None:
    tables, ratios, right = [], [], []
    for T in (20, 60, 300):
        betas = draw.uniform(0.5, 1.5, T, dtype=torch.float64) * 4 / T
        alpha_bar = DiscreteSchedule.from_betas(betas).alpha_bar
        snr = alpha_bar / (1 - alpha_bar)
        for t in draw.times(1, T, 5).tolist():
            before = min(snr[t - 1].item(), 1e4)
            for share in (0.1, 0.9):  # near the ratio at t, and near that at t - 1: the nearest entry is not asked for
                tables.append(alpha_bar)
                ratios.append(snr[t].item() + share * (before - snr[t].item()))
                right.append(t)
    falling = [draw.number(0.6, 0.9), 0.5, draw.number(0.1, 0.4)]
    tables.append(torch.tensor([1.0, *falling], dtype=torch.float64))  # SNR(2) is 1 exactly
    ratios.append(1.0)
    right.append(2)

    def each(find: Callable[[torch.Tensor, float], int | torch.Tensor]) -> torch.Tensor:
        found = [float(find(ab, r)) for ab, r in zip(tables, ratios, strict=True)]
        return torch.tensor(found, dtype=torch.float64)

    def first_below(quantity: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What somebody gets who compares another quantity with the ratio; T if it never falls so far."""
        return each(
            lambda ab, r: next((t for t, q in enumerate(quantity(ab).tolist()) if t > 0 and q <= r), len(ab) - 1)
        )

    def ratio(ab: torch.Tensor) -> torch.Tensor:
        return ab / (1 - ab)

    t = torch.tensor(right, dtype=torch.float64)
    expect(
        numbers([answer(ab, r) for ab, r in zip(tables, ratios, strict=True)], "t"),
        t,
        what="t",
        mistakes={
            "one too early: the first t at or below the ratio is wanted, and the table begins at t = 0": t - 1,
            "at *or* below: where the ratio is met exactly, that t counts": each(
                lambda ab, r: (ratio(ab) < r).nonzero()[0]
            ),
            "that is the t with the nearest ratio; wanted is the first at or below it": each(
                lambda ab, r: (ratio(ab) - r).abs().argmin()
            ),
            "one too late: alpha_bar has its entry for t = 0, so position and t are the same number": t + 1,
            "the SNR is a ratio of variances, alpha_bar / (1 - alpha_bar): no root": first_below(
                lambda ab: (ab / (1 - ab)).sqrt()
            ),
            "that is where alpha_bar falls to the ratio; the SNR divides it by 1 - alpha_bar": first_below(
                lambda ab: ab
            ),
            "alpha_bar is a variance already: no further square": first_below(lambda ab: ab**2 / (1 - ab**2)),
            "the ratio is upside down: signal over noise": first_below(lambda ab: (1 - ab) / ab),
            "that is the last t which is at or above the ratio": each(lambda ab, r: (ratio(ab) >= r).nonzero()[-1]),
            "the nearest entry of alpha_bar is not asked for: the first t at or below the ratio is": each(
                lambda ab, r: (ab - r / (1 + r)).abs().argmin()
            ),
            "the ratio is not in decibels": first_below(lambda ab: 10 * ratio(ab).log10()),
            "the ratio is no logarithm": first_below(lambda ab: ratio(ab).log()),
            "that is the last t of the table": torch.tensor([len(ab) - 1.0 for ab in tables], dtype=torch.float64),
            "that is clean data, where the ratio is infinite: wanted is a ratio at or *below*": torch.zeros_like(t),
        },
    )


@exercise("01.x0_from_eps", "Back, if we knew the noise", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        schedule = random_schedule(draw, dtype=dtype)
        x_t, eps = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.times(1, schedule.T, len(x_t))
        table = schedule.alpha_bar.to(dtype)
        ab = column(table[t], x_t)
        root, sigma = ab.sqrt(), (1 - ab).sqrt()
        noise = sigma * eps
        expect(
            answer(x_t, t, table, eps),
            x0_from_eps(x_t, eps, t, schedule),
            what="x_0",
            mistakes={
                "divide by the square root of alpha_bar, the factor that x_0 came with": (x_t - noise) / ab,
                "the noise came with sqrt(1 - alpha_bar), a root": (x_t - (1 - ab) * eps) / root,
                "both factors are square roots": (x_t - (1 - ab) * eps) / ab,
                "the noise is taken away again, not added once more": (x_t + noise) / root,
                "without its noise the image is still too small: divide by sqrt(alpha_bar)": x_t - noise,
                "divide, do not multiply: the image had been shrunk": (x_t - noise) * root,
                "only x_t is divided; brackets go round the whole difference": x_t / root - noise,
                "only the noise is divided; brackets go round the whole difference": x_t - noise / root,
                "one root of alpha_bar is enough: yours has the root of a root": (x_t - noise) / root.sqrt(),
                "1 - alpha_bar, under the root, is no root itself": (x_t - (1 - root).sqrt() * eps) / root,
                "1 - sqrt(alpha_bar) is not sqrt(1 - alpha_bar)": (x_t - (1 - root) * eps) / root,
                "divide by sqrt(alpha_bar), the image's factor, not by the noise's": (x_t - noise) / sigma,
                "x_t and eps are swapped": (eps - sigma * x_t) / root,
                "the two factors are swapped: divide by sqrt(alpha_bar)": (x_t - root * eps) / sigma,
                "that is one more step forward, Eq. (1.4)": root * x_t + noise,
                "the noise arrived with a factor, sqrt(1 - alpha_bar), and leaves with it": (x_t - eps) / root,
            }
            | lookups(lambda a, x=x_t, eps=eps: (x - (1 - a).sqrt() * eps) / a.sqrt(), table, x_t, t),
            shape_hint=f"x_0 is as large as x_t: {AS_COLUMN}",
        )
