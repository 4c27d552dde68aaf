"""Checks of lesson 11, fast solvers."""

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect, numbers
from course_utils.exercises.engine import exercise
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
    expect(clean, x0_hat, what="the step to clean data, where Euler's end is all there is,")


@exercise("11.order", "The order of a method, measured")
def _(answer: Answer, draw: Draw) -> None:
    for n in (2, 3, 5, 8):
        calls = (4.0 * 2 ** torch.arange(n, dtype=torch.float64)) + draw.integers(0, 2, n)
        p = draw.number(0.7, 3.5)
        errors = (draw.number(-2, 2) - p * calls.log() + 0.3 * draw.normal(n).double()).exp()
        x, y = calls.log(), errors.log()
        right = -((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()

        def slope(x: Tensor, y: Tensor) -> Tensor:
            return ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()

        expect(
            numbers([answer(errors, calls)], what="the order"),
            right[None],
            what="the order",
            mistakes={
                "the sign: the error falls, and an order is a positive number": -right[None],
                "that is a slope without logarithms; on log-log axes a power is a line": -slope(calls, errors)[None],
                "take the logarithm of the calls too": -slope(calls, y)[None],
                "take the logarithm of the errors too": -slope(x, errors)[None],
                "that is the slope of calls against errors: the errors go up the y-axis": -slope(y, x)[None],
                "the line need not pass through the origin: subtract both means first": -(
                    (x * y).sum() / x.square().sum()
                )[None],
                "the order is the exponent itself: no root, and no square, of the slope": right[None].square(),
                "the two logarithms have different bases": -(slope(x, y) / torch.tensor(10.0).double().log())[None],
            }
            | (
                {"use all the points, not the first and the last alone": -((y[-1] - y[0]) / (x[-1] - x[0]))[None]}
                if n > 2
                else {}
            ),
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
        high, low, rho = draw.number(20, 80), draw.number(0.01, 0.1), float(draw.integers(3, 6))
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
