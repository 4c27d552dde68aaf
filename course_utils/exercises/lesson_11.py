"""Checks of lesson 11, fast solvers."""

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect, numbers
from course_utils.exercises.engine import exercise
from course_utils.exercises.slips import in_float32
from course_utils.samplers import Step, karras_grid, sample_dpmpp_2m, sample_euler, sample_heun
from course_utils.schedules import FlowMatching, Schedule, VPLinear

# alpha² + sigma² = 1 on one of them, alpha + sigma = 1 on the other: no shortcut holds on both.
CASES = [
    (shape, schedule, dtype)
    for shape in [(4, 1, 3, 3), (2, 2), (5, 3), (3,)]
    for schedule in [VPLinear(), FlowMatching()]
    for dtype in [torch.float32, torch.float64]
]
_AT = "alpha and sigma hold two numbers each: those of t come first, those of s second"
_PAIR = {"The size of tensor": f"`alpha[0]` is a number and multiplies anything; {_AT}", "must match": _AT}
_TRIPLE = dict.fromkeys(_PAIR, "alpha and sigma hold three numbers each: before, at t, at s")


def _times(draw: Draw, n: int) -> list[float]:
    """n falling times, well apart."""
    return [0.9 - (i + 0.6 * draw.number(0, 1)) * 0.8 / n for i in range(n)]


def _coeffs(schedule: Schedule, times: list[float]) -> tuple[Tensor, Tensor]:
    return schedule.coeffs(torch.tensor(times, dtype=torch.float64))


@exercise("11.euler_step", "Euler's step, straightened", error_hints=_PAIR)
def _(answer: Answer, draw: Draw) -> None:
    for shape, schedule, dtype in CASES:
        x_t, x0_hat = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t, s = _times(draw, 2)
        alpha, sigma = _coeffs(schedule, [t, s])
        (a_t, a_s), (s_t, s_s) = alpha, sigma
        r_t, r_s = s_t / a_t, s_s / a_s
        y = x_t / a_t
        slope = (y - x0_hat) / r_t
        right = sample_euler(lambda x, t, g=x0_hat: g, x_t, schedule, [t, s])
        expect(
            answer(x_t, x0_hat, alpha, sigma),
            right,
            what="x_s",
            mistakes={
                "that is y_s; at the end multiply by alpha_s, to come back to x": y + (r_s - r_t) * slope,
                "back to x at s with alpha_s; yours has alpha_t": a_t * (y + (r_s - r_t) * slope),
                "the sign of the step: r falls, so r_s - r_t is negative": a_s * (y - (r_s - r_t) * slope),
                "x_t is not y: divide it by alpha_t first": a_s * (x_t + (r_s - r_t) * (x_t - x0_hat) / r_t),
                "the slope is (y - x0_hat) divided by r_t": a_s * (y + (r_s - r_t) * (y - x0_hat)),
                "the slope at t has r_t below the line; yours has r_s": a_s * (y + (r_s - r_t) * (y - x0_hat) / r_s),
                "r is sigma / alpha, not sigma: only on a schedule with alpha = 1 are they the same": a_s
                * (y + (s_s - s_t) * (y - x0_hat) / s_t),
                "r is sigma / alpha; yours is upside down": a_s * (y + (1 / r_s - 1 / r_t) * (y - x0_hat) * r_t),
                "the line would end at r = 0; stop at r_s": a_s * x0_hat,
                "alpha_s goes with x0_hat: x_s = alpha_s x0_hat + sigma_s eps; yours has alpha_t": a_t * x0_hat
                + s_s * (x_t - a_t * x0_hat) / s_t,
                "sigma_s goes with eps: x_s = alpha_s x0_hat + sigma_s eps; yours has sigma_t": a_s * x0_hat
                + x_t
                - a_t * x0_hat,
                "eps is (x_t - alpha_t x0_hat) / sigma_t: the guess has to shrink": a_s * x0_hat
                + s_s * (x_t - x0_hat) / s_t,
                "eps is (x_t - alpha_t x0_hat) / sigma_t; yours has alpha_s": a_s * x0_hat
                + s_s * (x_t - a_s * x0_hat) / s_t,
                "eps is (x_t - alpha_t x0_hat) / sigma_t; yours is not divided": a_s * x0_hat
                + s_s * (x_t - a_t * x0_hat),
                "eps is (x_t - alpha_t x0_hat) / sigma_t; yours is x_t itself": a_s * x0_hat + s_s * x_t,
                "eps is (x_t - alpha_t x0_hat) / sigma_t: brackets round the difference": a_s * x0_hat
                + s_s * (x_t - a_t * x0_hat / s_t),
                "the picture is missing: x_s = alpha_s x0_hat + sigma_s eps": s_s * (x_t - a_t * x0_hat) / s_t,
                "the picture shrinks as well: x_s = alpha_s x0_hat + sigma_s eps": x0_hat
                + s_s * (x_t - a_t * x0_hat) / s_t,
                "brackets: the slope is the whole difference (y - x0_hat), divided by r_t": a_s
                * (y + (r_s - r_t) * (y - x0_hat / r_t)),
                "x_t and x0_hat are swapped": a_s * (x0_hat / a_t + (r_s - r_t) * (x0_hat / a_t - x_t) / r_t),
                "the slope stays what it is at t; the step is r_s - r_t, not r_s": a_s * (y + r_s * slope),
                "t and s are swapped: alpha[0] and sigma[0] belong to t": a_t
                * (x_t / a_s + (r_t - r_s) * (x_t / a_s - x0_hat) / r_s),
                "alpha and sigma are swapped: r is sigma / alpha": s_s
                * (x_t / s_t + (a_s / s_s - a_t / s_t) * (x_t / s_t - x0_hat) * s_t / a_t),
                "sigma is handed over: it need not be the root of 1 - alpha²": a_s * x0_hat
                + (1 - a_s**2).sqrt() * (x_t - a_t * x0_hat) / (1 - a_t**2).sqrt(),
                "that is the step in x where alpha + sigma = 1: on other schedules it is not straight there": x_t
                + (s_s - s_t) * (x_t - x0_hat) / s_t,
                "eps is (x_t - alpha_t x0_hat) / sigma_t, not over sigma_t²": a_s * x0_hat
                + s_s * (x_t - a_t * x0_hat) / s_t**2,
                "alpha_s goes with the guess, not with x_t": a_s * x_t + s_s * (x_t - a_t * x0_hat) / s_t,
                "the step is r_s - r_t in r itself, not in its logarithm": a_s
                * (y + (r_s.log() - r_t.log()) * (y - x0_hat)),
                "alpha and sigma multiply as they are: no roots": a_s.sqrt() * x0_hat
                + s_s.sqrt() * (x_t - a_t.sqrt() * x0_hat) / s_t.sqrt(),
                "in eps the guess is taken off, not added": a_s * x0_hat + s_s * (x_t + a_t * x0_hat) / s_t,
                "the noise is added at s, not taken away": a_s * x0_hat - s_s * (x_t - a_t * x0_hat) / s_t,
                "back to x: multiply by alpha_s, do not divide": (y + (r_s - r_t) * slope) / a_s,
                "the slope is that of y = x_t / alpha_t; yours has x_t": a_s * (y + (r_s - r_t) * (x_t - x0_hat) / r_t),
                "nothing is to be clipped: x0_hat goes in as it is": a_s * x0_hat.clamp(-1, 1)
                + s_s * (x_t - a_t * x0_hat.clamp(-1, 1)) / s_t,
            },
            shape_hint="x_s is as large as x_t",
        )
    x_t, x0_hat = draw.normal(3, 2).double(), draw.normal(3, 2).double()
    alpha, sigma = torch.tensor([0.6, 1.0]).double(), torch.tensor([0.8, 0.0]).double()
    expect(answer(x_t, x0_hat, alpha, sigma), x0_hat, what="the step to clean data, which ends at x0_hat,")


@exercise("11.heun_step", "Look twice", error_hints=_PAIR)
def _(answer: Answer, draw: Draw) -> None:
    for shape, schedule, dtype in CASES:
        x_t, x0_hat, x0_there = (draw.normal(*shape, dtype=dtype) for _ in range(3))
        t, s = _times(draw, 2)
        alpha, sigma = _coeffs(schedule, [t, s])
        (a_t, a_s), (s_t, s_s) = alpha, sigma
        r_t, r_s = s_t / a_t, s_s / a_s
        y, step = x_t / a_t, r_s - r_t
        slope = (y - x0_hat) / r_t
        euler = y + step * slope
        there = (euler - x0_there) / r_s
        both = iter([x0_hat, x0_there])
        right = sample_heun(lambda x, t, both=both: next(both), x_t, schedule, [t, s])
        mean_guess = (x0_hat + x0_there) / 2
        expect(
            answer(x_t, x0_hat, x0_there, alpha, sigma),
            right,
            what="x_s",
            mistakes={
                "that is Euler's step: the second guess is not used": a_s * euler,
                "the mean of two slopes: yours is their sum": a_s * (y + step * (slope + there)),
                "average the slopes, not the guesses: the second one was made at another place": a_s
                * (y + step * (y - mean_guess) / r_t),
                "the second slope is at s: divide by r_s": a_s * (y + step * (slope + (euler - x0_there) / r_t) / 2),
                "the second slope starts from Euler's end, y_s, not from y": a_s
                * (y + step * (slope + (y - x0_there) / r_s) / 2),
                "with the mean slope go again from the start, not from Euler's end": a_s
                * (euler + step * (slope + there) / 2),
                "brackets: the half belongs to the sum of both slopes": a_s * (y + step * (slope + there / 2)),
                "back to x at s with alpha_s; yours has alpha_t": a_t * (y + step * (slope + there) / 2),
                "the sign of the step: r falls, so r_s - r_t is negative": a_s
                * (y - step * (slope + (y - step * slope - x0_there) / r_s) / 2),
                "the two guesses are swapped: the first one was made at x_t": a_s
                * (y + step * ((y - x0_there) / r_t + (y + step * (y - x0_there) / r_t - x0_hat) / r_s) / 2),
                "only the second slope is used: the mean of both, Eq. (11.7)": a_s * (y + step * there),
                "that is y_s; at the end multiply by alpha_s, to come back to x": y + step * (slope + there) / 2,
                "the second slope is that of y: Euler's end must not be multiplied by alpha_s there": a_s
                * (y + step * (slope + (a_s * euler - x0_there) / r_s) / 2),
                "the mean of both slopes has them in equal parts": a_s * (y + step * (slope + 3 * there) / 4),
                "the mean of two slopes: a sum, not a difference": a_s * (y + step * (slope - there) / 2),
                "the half and the step belong to both slopes: brackets round their sum": a_s
                * (y + step * slope + there / 2),
                "against the step: r falls, so r_s - r_t is negative already": a_s * (y - step * (slope + there) / 2),
                "each slope is divided by its own r: r_t and r_s": a_s
                * (y + step * (y - x0_hat + euler - x0_there) / (r_t + r_s)),
                "x_t is not y: divide it by alpha_t first": a_s
                * (x_t + step * ((x_t - x0_hat) / r_t + (x_t + step * (x_t - x0_hat) / r_t - x0_there) / r_s) / 2),
            },
            shape_hint="x_s is as large as x_t",
        )
    x_t, x0_hat, x0_there = (draw.normal(3, 2).double() for _ in range(3))
    alpha, sigma = torch.tensor([0.6, 1.0]).double(), torch.tensor([0.8, 0.0]).double()
    clean = answer(x_t, x0_hat, x0_there, alpha, sigma)
    if isinstance(clean, Tensor) and not clean.isfinite().all():
        raise Wrong(
            "in the step to clean data it returns NaN or infinity",
            "where r_s = 0 the second slope is 0 / 0: return Euler's end there",
        )
    expect(
        clean,
        x0_hat,
        what="the step to clean data, where Euler's end is all there is,",
        mistakes={"at r_s = 0 the second guess is not asked: Euler's end is x0_hat": x0_there},
    )
    # Nearly clean is not clean: the second slope counts as long as there is one.
    alpha, sigma = torch.tensor([0.6, 1.0]).double(), torch.tensor([0.8, 1e-3]).double()
    y, (r_t, r_s) = x_t / 0.6, sigma / alpha
    first = (y - x0_hat) / r_t
    euler = y + (r_s - r_t) * first
    expect(
        answer(x_t, x0_hat, x0_there, alpha, sigma),
        y + (r_s - r_t) * (first + (euler - x0_there) / r_s) / 2,
        what="the step to r_s = 0.001",
        mistakes={"only at r_s = 0 there is no second slope; here there is one": euler},
    )


@exercise("11.order", "The order of a method, measured")
def _(answer: Answer, draw: Draw) -> None:
    for n, rises in [(5, False), (2, False), (3, False), (8, False), (4, True)]:
        calls = 5.0 * 2 ** torch.arange(n, dtype=torch.float64) + torch.arange(n) % 3  # not quite doubled each time
        p = draw.number(0.7, 3.5) if not rises else -draw.number(0.5, 1.5)
        errors = (draw.number(-2, 2) - p * calls.log() + 0.3 * draw.normal(n).double()).exp()
        x, y = calls.log(), errors.log()
        right = -((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()

        def slope(x: Tensor, y: Tensor) -> Tensor:
            return ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()

        expect(
            numbers([in_float32(answer(errors, calls), right)], what="the order"),
            right[None],
            what="the order" if not rises else "the order of errors that rise",
            mistakes={"errors that rise have an order below zero: minus the slope, not its size": right.abs()[None]}
            if rises
            else {
                "the sign: the error falls, and an order is a positive number": -right[None],
                "that is a slope without logarithms; on log-log axes a power is a line": -slope(calls, errors)[None],
                "take the logarithm of the calls too": -slope(calls, y)[None],
                "take the logarithm of the errors too": -slope(x, errors)[None],
                "that is the slope of calls against errors: the errors go up the y-axis": -slope(y, x)[None],
                "the line need not pass through the origin: subtract both means first": -(
                    (x * y).sum() / x.square().sum()
                )[None],
                "the order is the exponent itself: no root, and no square, of the slope": right[None].square(),
                "the line through all points, not the mean of the slopes between neighbours": -(
                    y.diff() / x.diff()
                ).mean()[None],
                "that is the correlation: divide by the sum of (a - a_bar)², of the calls alone": -torch.corrcoef(
                    torch.stack([x, y])
                )[0, 1][None],
                "divide by the sum of (a - a_bar)²": -((x - x.mean()) * (y - y.mean())).mean()[None],
                "sum over sum, or mean over mean: yours divides by n on one side and by n - 1 on the other": right[None]
                * n
                / (n - 1),
                "all the points count, not the last two alone": -((y[-1] - y[-2]) / (x[-1] - x[-2]))[None],
                "a slope, not a quotient of the means": -(y.mean() / x.mean())[None],
                "the order need not be a whole number": right.round()[None],
                "the two logarithms have different bases": -(slope(x, y) / torch.tensor(10.0).double().log())[None],
            }
            | (
                {"use all the points, not the first and the last alone": -((y[-1] - y[0]) / (x[-1] - x[0]))[None]}
                if n > 2
                else {}
            )
            if n != 2
            else {},
        )


@exercise("11.dpmpp_2m", "Remember the last guess", error_hints=_TRIPLE)
def _(answer: Answer, draw: Draw) -> None:
    for shape, schedule, dtype in CASES:
        start, x0_before, x0_hat = (draw.normal(*shape, dtype=dtype) for _ in range(3))
        times = _times(draw, 3)
        alpha, sigma = _coeffs(schedule, times)
        both = iter([x0_before, x0_hat])
        steps: list[Step] = []
        right = sample_dpmpp_2m(lambda x, t, both=both: next(both), start, schedule, times, callback=steps.append)
        x_t = steps[1].x_t
        (_, a_t, a_s), (_, s_t, s_s), lam = alpha, sigma, (alpha / sigma).log()
        h_before, h = lam.diff()
        difference = x0_hat - x0_before

        right_a, right_b = s_s / s_t, a_s * -torch.expm1(-h)

        def step(guess: Tensor, a: Tensor = right_a, b: Tensor = right_b, x_t: Tensor = x_t) -> Tensor:
            return a * x_t + b * guess

        guess = x0_hat + h / (2 * h_before) * difference
        swapped = alpha.flip(0), sigma.flip(0)
        h_swapped = (swapped[0] / swapped[1]).log().diff()
        expect(
            answer(x_t, x0_hat, x0_before, alpha, sigma),
            right,
            what="x_s",
            mistakes={
                "that is DDIM's step: the guess before is not used": step(x0_hat),
                "the ratio is h over twice h_before; yours is upside down": step(
                    x0_hat + h_before / (2 * h) * difference
                ),
                "half of the step: the line is read at its middle; yours lacks the 2": step(
                    x0_hat + h / h_before * difference
                ),
                "steps differ in length: the ratio h / h_before is missing": step(x0_hat + difference / 2),
                "the sign: go on in the direction from the guess before to this one": step(
                    x0_hat - h / (2 * h_before) * difference
                ),
                "the line starts at x0_hat, the newer guess": step(x0_before + h / (2 * h_before) * difference),
                "an average of the two looks back; the line must look ahead": step((x0_hat + x0_before) / 2),
                "lambda is log(alpha / sigma), half the log-SNR": step(guess, b=a_s * -torch.expm1(-2 * h)),
                "the weight of the guess is alpha_s (1 - e^-h): alpha_s is missing": step(guess, b=-torch.expm1(-h)),
                "h is positive, so that 1 - e^-h lies between 0 and 1: lambda rises from t to s": step(
                    guess, b=a_s * -torch.expm1(h)
                ),
                "x_t is multiplied by sigma_s / sigma_t; alpha_s / alpha_t goes with a noise that stays": step(
                    guess, a=a_s / a_t
                ),
                "h / (2 h_before) has both below the line; brackets: h / 2 times h_before is another number": step(
                    x0_hat + h / 2 * h_before * difference
                ),
                "x_t is multiplied by sigma_s / sigma_t; yours is upside down": step(guess, a=s_t / s_s),
                "back to alpha_s: the guess shrinks to the end of the step, and yours has alpha_t": step(
                    guess, b=a_t * -torch.expm1(-h)
                ),
                "x0_hat and x0_before are swapped: the guess before is the older one": step(
                    x0_before - h / (2 * h_before) * difference
                ),
                "x_t is multiplied by sigma_s / sigma_t; yours is alone": step(guess, a=torch.ones(())),
                "the weight of the guess has h, this step's length; yours has the step before": step(
                    guess, b=a_s * -torch.expm1(-h_before)
                ),
                "h over twice h_before; yours lacks h_before": step(x0_hat + h / 2 * difference),
                "lambda is a natural logarithm": step(
                    guess, b=a_s * -torch.expm1(-h / torch.tensor(10.0).double().log())
                ),
                "1 - e^-h, not e^h - 1": step(guess, b=a_s * torch.expm1(h)),
                "e^-h is subtracted from 1: the guess's weight is positive": step(guess, b=a_s * torch.expm1(-h)),
                "brackets: the correction belongs to the guess, and has its weight": step(x0_hat)
                + h / (2 * h_before) * difference,
                "a line in lambda, not in r": step(
                    x0_hat + ((s_s / a_s - s_t / a_t) / (2 * (s_t / a_t - sigma[0] / alpha[0]))) * difference
                ),
                "half of the step, once: yours has a quarter": step(x0_hat + h / (4 * h_before) * difference),
                "the three are before, t, s: yours steps from the first to the second": s_t / sigma[0] * x_t
                + a_t * -torch.expm1(-h) * guess,
                "the order is before, t, s: yours is backwards": swapped[1][2] / swapped[1][1] * x_t
                + swapped[0][2]
                * -torch.expm1(-h_swapped[1])
                * (x0_hat + h_swapped[1] / (2 * h_swapped[0]) * difference),
                "that is the guess; the step is the exact one of Eq. (11.10), with it in x0_hat's place": guess,
            },
            shape_hint="x_s is as large as x_t",
        )


@exercise("11.karras_levels", "Karras' noise levels")
def _(answer: Answer, draw: Draw) -> None:
    for n, dtype in [(6, torch.float64), (2, torch.float64), (9, torch.float32), (15, torch.float64)]:
        even = torch.linspace(0, 1, n, dtype=dtype)
        u = torch.cat([draw.uniform(0.3, 0.7, n - 2, dtype=dtype), even[[0, -1]]])  # in any order, both ends there
        high, low, rho = draw.number(20, 80), draw.number(0.01, 0.1), draw.number(3.2, 3.8) + int(draw.integers(0, 2))
        root = high ** (1 / rho) + u * (low ** (1 / rho) - high ** (1 / rho))
        expect(
            answer(u, high, low, rho),
            root**rho,
            what="the levels",
            mistakes={
                "the level at each u: the u that are handed over need not be evenly spaced": (
                    high ** (1 / rho) + even * (low ** (1 / rho) - high ** (1 / rho))
                )
                ** rho,
                "raise to the power rho at the end": root,
                "that is an even grid in r: take the roots first": high + u * (low - high),
                "the levels fall: u = 0 is r_max": (low ** (1 / rho) + u * (high ** (1 / rho) - low ** (1 / rho)))
                ** rho,
                "first the root, 1 / rho, then the power rho; yours is the other way round": (
                    high**rho + u * (low**rho - high**rho)
                )
                ** (1 / rho),
                "that is even in log r, the limit of a very large rho": high * (low / high) ** u,
                "rho is an argument; 7 is only the usual choice": (
                    high ** (1 / 7) + u * (low ** (1 / 7) - high ** (1 / 7))
                )
                ** 7,
                "rho need not be a whole number: yours was cut off": (
                    high ** (1 / int(rho)) + u * (low ** (1 / int(rho)) - high ** (1 / int(rho)))
                )
                ** int(rho),
                "the levels in the order of the u: yours are sorted": root.sort(descending=True).values ** rho,
                "take the roots before mixing: the power alone comes at the end": (high + u * (low - high)) ** rho,
                "u is no root: it goes from 0 to 1 as it is": (
                    high ** (1 / rho) + u ** (1 / rho) * (low ** (1 / rho) - high ** (1 / rho))
                )
                ** rho,
                "u has no power: it goes from 0 to 1 as it is": (
                    high ** (1 / rho) + u**rho * (low ** (1 / rho) - high ** (1 / rho))
                )
                ** rho,
                "from r_max *towards* r_min: the difference is r_min's root minus r_max's": (
                    high ** (1 / rho) + u * (high ** (1 / rho) - low ** (1 / rho))
                )
                ** rho,
                "rho is an argument; yours has 2 written into it": (high**0.5 + u * (low**0.5 - high**0.5)) ** 2,
                "the root is r ** (1 / rho): brackets, or it is r / rho": (
                    (high / rho + u * (low / rho - high / rho)) ** rho
                ),
                "the power belongs to the levels, not to u": high + u**rho * (low - high),
                "1 / rho, the rho-th root; yours has 1 / rho² or a root of a root": (
                    high ** (1 / rho**2) + u * (low ** (1 / rho**2) - high ** (1 / rho**2))
                )
                ** rho,
                "u multiplies the difference of the roots: brackets round both": (
                    (high ** (1 / rho) + u * low ** (1 / rho) - high ** (1 / rho)) ** rho
                ),
                "minus: from r_max towards r_min": (high ** (1 / rho) + u * (low ** (1 / rho) + high ** (1 / rho)))
                ** rho,
            },
            shape_hint="one level for each u",
        )
    # The course's own grid, at the levels of a schedule.
    schedule = VPLinear()
    times = torch.tensor(karras_grid(schedule, 8)[:-1], dtype=torch.float64)
    r = (-schedule.log_snr(times) / 2).exp()
    got = answer(torch.linspace(0, 1, 8, dtype=torch.float64), r[0].item(), r[-1].item(), 7.0)
    expect(got.log() if isinstance(got, Tensor) else got, r.log(), what="the logarithm of the levels of `karras_grid`")
