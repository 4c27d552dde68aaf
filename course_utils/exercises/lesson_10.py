"""Checks of lesson 10, DDPM and DDIM."""

import math

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import CASES, Draw, along_the_wrong_axis, expect, numbers, random_schedule
from course_utils.exercises.engine import exercise
from course_utils.exercises.slips import lookups

_OUT_OF_TABLE = {"out of bounds": "alpha_bar has T + 1 entries and t runs from 0 to T: use t and s as they are"}


@exercise("10.sigma", "How much noise is new", error_hints=_OUT_OF_TABLE)
def _(answer: Answer, draw: Draw) -> None:
    for b, dtype in [(5, torch.float64), (1, torch.float64), (4, torch.float32), (3, torch.float64)]:
        schedule = random_schedule(draw, dtype=dtype)
        ab, eta = schedule.alpha_bar.to(dtype), draw.number(0.2, 0.8)
        t, s = draw.times(7, schedule.T, b), draw.times(2, 5, 4).repeat(2)[:b]  # jumps of two and more

        def c_squared(a_t: Tensor, a_s: Tensor) -> Tensor:
            return (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)

        a_t, a_s = ab[t], ab[s]
        right = eta * c_squared(a_t, a_s).sqrt()
        got = answer(t, s, eta, ab)
        if isinstance(got, Tensor) and got.isnan().any():
            raise Wrong(
                "c has NaN in it",
                "one of the factors under the root is negative: alpha_bar falls, so it is alpha_bar[t] / alpha_bar[s] "
                "that is below 1",
            )
        expect(
            got,
            right,
            what="c",
            mistakes={
                "c is a standard deviation: the product of the two fractions is its square": eta * c_squared(a_t, a_s),
                "eta multiplies c itself; yours multiplies c²": (eta * c_squared(a_t, a_s)).sqrt(),
                "eta multiplies c once; yours does so twice": eta * right,
                "eta is missing": right / eta,
                "the first fraction is upside down: at s there is less noise than at t": eta
                * ((1 - a_t) / (1 - a_s) * (1 - a_t / a_s)).sqrt(),
                "that is the noise of the jump forward, sigma_{t|s}; the way back has less of it": eta
                * (1 - a_t / a_s).sqrt(),
                "that is the step to t - 1; the jump goes to s": eta * c_squared(a_t, ab[t - 1]).sqrt(),
                "beta_t is the variance of one step; a jump's is 1 - alpha_bar[t] / alpha_bar[s]": eta
                * ((1 - a_s) / (1 - a_t) * (1 - a_t / ab[t - 1])).sqrt(),
                "sigma² is 1 - alpha_bar; yours has alpha_bar itself in the first fraction": eta
                * (a_s / a_t * (1 - a_t / a_s)).sqrt(),
                "sigma²_{t|s} is 1 minus a quotient, not a difference of the two alpha_bar": eta
                * ((1 - a_s) / (1 - a_t) * (a_s - a_t)).sqrt(),
                "sigma are roots already: their squares belong under the root": eta
                * ((1 - a_s).sqrt() / (1 - a_t).sqrt() * (1 - a_t / a_s)).sqrt(),
                "one root is enough: yours has the root of a root": eta * c_squared(a_t, a_s) ** 0.25,
                "the root goes over the whole product; the second fraction of yours is outside": eta
                * ((1 - a_s) / (1 - a_t)).sqrt()
                * (1 - a_t / a_s),
                "the root goes over the whole product; the first fraction of yours is outside": eta
                * (1 - a_s)
                / (1 - a_t)
                * (1 - a_t / a_s).sqrt(),
                "the second fraction is missing: what the jump adds, 1 - alpha_bar[t] / alpha_bar[s]": eta
                * ((1 - a_s) / (1 - a_t)).sqrt(),
                "1 minus the quotient, not plus": eta * ((1 - a_s) / (1 - a_t) * (1 + a_t / a_s)).sqrt(),
                "alpha_bar falls: alpha_bar[t] / alpha_bar[s] is below 1, yours is upside down": eta
                * ((1 - a_s) / (1 - a_t) * (a_s / a_t - 1)).sqrt(),
                "that is all the noise of level s; new is only a part of it": eta * (1 - a_s).sqrt(),
                "sigma² is 1 - alpha_bar, without a root of alpha_bar": eta
                * ((1 - a_s.sqrt()) / (1 - a_t.sqrt()) * (1 - a_t / a_s)).sqrt(),
                "each t goes with its own s, in the order they come": eta
                * c_squared(a_t.sort(descending=True).values, a_s).sqrt(),
            }
            | lookups(lambda a, b, eta=eta: eta * c_squared(a, b).sqrt(), ab, torch.empty(b, dtype=dtype), t, s),
            shape_hint="one number for each pair (t, s)",
        )
    table, t, s = random_schedule(draw).alpha_bar, torch.tensor([5, 12]), torch.tensor([4, 1])
    ancestral = ((1 - table[s]) / (1 - table[t]) * (1 - table[t] / table[s])).sqrt()
    expect(
        answer(t, s, 1.0, table),
        ancestral,
        what="c with eta = 1, ancestral sampling's,",
        mistakes={"eta goes from 0 to 1, and is not cut off on the way": ancestral / 2},
    )
    last = answer(torch.tensor([3, 9]), torch.tensor([0, 0]), 0.7, table)
    expect(last, torch.zeros(2, dtype=torch.float64), what="c of a jump to clean data, where nothing may be added,")
    expect(
        answer(t, s, 0.0, table),
        torch.zeros(2, dtype=torch.float64),
        what="c with eta = 0, where torch.zeros(2, dtype=torch.float64) is new,",
    )


@exercise("10.ddim_step", "One step of DDIM", error_hints=_OUT_OF_TABLE)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        schedule = random_schedule(draw, dtype=dtype)
        ab, eta = schedule.alpha_bar.to(dtype), draw.number(0.3, 0.8)
        t, s = int(draw.integers(8, schedule.T)), int(draw.integers(2, 5))
        x_t, x0, z = (draw.normal(*shape, dtype=dtype) for _ in range(3))

        def c_squared(a_t: Tensor, a_s: Tensor) -> Tensor:
            return (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)

        a_t, a_s = ab[t], ab[s]
        alpha_s, sigma_s, alpha_t, sigma_t = a_s.sqrt(), (1 - a_s).sqrt(), a_t.sqrt(), (1 - a_t).sqrt()
        c = eta * c_squared(a_t, a_s).sqrt()
        k, eps = (sigma_s**2 - c**2).sqrt(), (x_t - alpha_t * x0) / sigma_t

        def step(c: Tensor, eps: Tensor = eps, a_s: Tensor = a_s, k: Tensor | None = None) -> Tensor:
            kept = (1 - a_s - c**2).sqrt() if k is None else k
            return a_s.sqrt() * x0 + kept * eps + c * z

        def shifted(by: int, eta: float = eta, x_t: Tensor = x_t, x0: Tensor = x0) -> Tensor:
            a, b = ab[min(t + by, schedule.T)], ab[s + by]
            return step(eta * c_squared(a, b).sqrt(), (x_t - a.sqrt() * x0) / (1 - a).sqrt(), b)

        one = c_squared(a_t, ab[t - 1])
        expect(
            answer(x_t, x0, t, s, eta, ab, z),
            step(c),
            what="x_s",
            mistakes={
                "the new noise makes room for itself: keep sqrt(sigma_s² - c²) of the old, not sigma_s": step(
                    c, k=sigma_s
                ),
                "variances subtract, deviations do not: sqrt(sigma_s² - c²), not sigma_s - c": step(c, k=sigma_s - c),
                "the kept part is the root of sigma_s² - c²": step(c, k=k**2),
                "c z is missing: less of the old noise is kept, and nothing takes its place": step(c) - c * z,
                "that is the step without noise, eta = 0": step(torch.zeros_like(c)),
                "that is eta = 1 whatever eta is": step(c / eta),
                "eta multiplies c itself; yours multiplies c²": step((eta * c_squared(a_t, a_s)).sqrt()),
                "z has to be multiplied by c, not by c²": step(c) - c * z + c**2 * z,
                "that throws all the old noise away: alpha_s x0_hat + sigma_s z": step(sigma_s, k=0 * sigma_s),
                "it is the noise that is kept, eps = (x_t - alpha_t x0_hat) / sigma_t, not x_t": step(c, x_t),
                "z took the place of eps: the old noise is (x_t - alpha_t x0_hat) / sigma_t": step(c, z),
                "in eps the guess shrinks before it is taken off: x_t - alpha_t x0_hat": step(c, (x_t - x0) / sigma_t),
                "x_t and x0_hat are swapped": alpha_s * x_t + k * (x0 - alpha_t * x_t) / sigma_t + c * z,
                "eps is all of (x_t - alpha_t x0_hat) / sigma_t: brackets round the difference": step(
                    c, x_t - alpha_t * x0 / sigma_t
                ),
                "in eps stands alpha_t, the root of alpha_bar[t]": step(c, (x_t - a_t * x0) / sigma_t),
                "sigma_t is the root of 1 - alpha_bar[t]; yours is 1 - alpha_t": step(
                    c, (x_t - alpha_t * x0) / (1 - alpha_t)
                ),
                "a root is missing: c² is the product, c its root": step(eta * c_squared(a_t, a_s)),
                "what is left of the old noise is sigma_s² - c², under the root: 1 - alpha_bar[s] - c²": step(
                    c, k=(sigma_s - c**2).clamp(min=0).sqrt()
                ),
                "eps has variance 1: divide by sigma_t": step(c, x_t - alpha_t * x0),
                "eps has variance 1: divide by sigma_t, not by sigma_t²": step(c, eps / sigma_t),
                "eps belongs to x_t: take it out with alpha_t and sigma_t, not with those of s": step(
                    c, (x_t - alpha_s * x0) / sigma_s
                ),
                "x_s holds alpha_s of the picture; yours holds alpha_t": step(c) + (alpha_t - alpha_s) * x0,
                "the picture is not shrunk: x_s holds alpha_s of it": step(c) + (1 - alpha_s) * x0,
                "alpha_s is the root of alpha_bar[s]": step(c) + (a_s - alpha_s) * x0,
                "that is the step to t - 1; the jump goes to s": step(eta * one.sqrt(), a_s=ab[t - 1]),
                "nothing is to be clipped: x0_hat goes in as it is": step(
                    c, (x_t - alpha_t * x0.clamp(-1, 1)) / sigma_t
                )
                + alpha_s * (x0.clamp(-1, 1) - x0),
                "only in x_s itself is the guess clipped in yours; nothing is to be": step(c)
                + alpha_s * (x0.clamp(-1, 1) - x0),
                "c² goes under the root, not c": step(c, k=(sigma_s**2 - c).clamp(min=0).sqrt()),
                "the new noise makes room: sigma_s² minus c², not plus": step(c, k=(sigma_s**2 + c**2).sqrt()),
                "noise is added, not taken away (harmless for one symmetric draw, but not the equation)": step(c)
                - 2 * c * z,
                "the old noise is added, not taken away": step(c, -eps),
                "c is the noise of the way back: it has (1 - alpha_bar[s]) / (1 - alpha_bar[t]) in it, too": step(
                    eta * (1 - a_t / a_s).sqrt(), k=(1 - a_s - eta**2 * (1 - a_t / a_s)).clamp(min=0).sqrt()
                ),
                "in c the first fraction is upside down: at s there is less noise than at t": step(
                    eta * ((1 - a_t) / (1 - a_s) * (1 - a_t / a_s)).sqrt(),
                    k=(1 - a_s - eta**2 * (1 - a_t) / (1 - a_s) * (1 - a_t / a_s)).clamp(min=0).sqrt(),
                ),
                "that is the posterior's mean, where eta is 1; here less than that is new": (
                    (a_t / a_s).sqrt() * (1 - a_s) * x_t + a_s.sqrt() * (1 - a_t / a_s) * x0
                )
                / (1 - a_t)
                + c * z,
                "in eps the guess is taken off, not added": step(c, (x_t + alpha_t * x0) / sigma_t),
                "one image's noise serves the whole batch: every image needs its own": step(c) + c * (z[:1] - z),
                "x_s holds alpha_s of the guess, not of x_t": step(c) + alpha_s * (x_t - x0),
                "eta is in c already: z has c alone in front of it": step(c) + (eta - 1) * c * z,
                "t and s are off by one, too early: alpha_bar[t] is already the right entry": shifted(-1),
                "t and s are off by one, too late: alpha_bar[t] is already the right entry": shifted(1),
            },
            shape_hint="x_s is as large as x_t; every coefficient is one number",
        )
    schedule = random_schedule(draw)
    ab, arguments = schedule.alpha_bar, [draw.normal(3, 2, dtype=torch.float64) for _ in range(3)]
    x_t, x0, z = arguments
    still = ab[4].sqrt() * x0 + (1 - ab[4]).sqrt() * (x_t - ab[12].sqrt() * x0) / (1 - ab[12]).sqrt()
    expect(answer(x_t, x0, 12, 4, 0.0, ab, z), still, what="the step with eta = 0, which has no new noise,")
    last = answer(x_t, x0, 5, 0, 0.6, ab, z)
    expect(last, x0, what="the step to s = 0, which returns the guess itself,")
    a_t, a_s = ab[9], ab[4]
    posterior = ((a_t / a_s).sqrt() * (1 - a_s) * x_t + a_s.sqrt() * (1 - a_t / a_s) * x0) / (1 - a_t)
    noise = ((1 - a_s) * (1 - a_t / a_s) / (1 - a_t)).sqrt() * z
    expect(answer(x_t, x0, 9, 4, 1.0, ab, z), posterior + noise, what="the step with eta = 1, ancestral sampling's,")


def _as_times(got: object) -> Tensor:
    """A learner's grid as a vector, if it is a list of numbers or a vector."""
    if isinstance(got, Tensor) and got.ndim == 1:
        got = got.tolist()
    if not isinstance(got, list | tuple):
        raise Wrong("a grid should be a list of times", "`[round(…) for i in range(n, -1, -1)]` makes one")
    return numbers(list(got), "each time")


@exercise("10.grid", "A time grid")
def _(answer: Answer, draw: Draw) -> None:
    for power, n in [(1.0, 7), (2.0, 5), (3.5, 5), (1.5, 9), (2.0, 7), (1.0, 5)]:
        # n odd: no time lies in the middle of two whole numbers. T no multiple of it: there is something to round.
        T = n * int(draw.integers(60, 120)) + int(draw.integers(1, n - 1))
        parts = [i / n for i in range(n, -1, -1)]

        def rounded(times: list[float]) -> Tensor:
            return torch.tensor([round(time) for time in times], dtype=torch.float64)

        exact = [T * part**power for part in parts]
        want = rounded(exact)
        floor, ceil = ([float(f(x)) for x in exact] for f in (math.floor, math.ceil))
        stride = T // n
        got = answer(T, n, power)
        times = _as_times(got)
        expect(
            times,
            want,
            what="the grid",
            mistakes={
                "a sampler walks back: the grid falls from T to 0": want.flip(0),
                "it must end on clean data: 0 is missing": want[:-1],
                "it must begin with the last noise level: T is missing": want[1:],
                "n steps have n + 1 ends; yours has n times, and n - 1 steps": rounded(
                    [T * (i / (n - 1)) ** power for i in range(n - 1, -1, -1)]
                ),
                "n steps have n + 1 ends; yours is one step too long": rounded(
                    [T * (i / (n + 1)) ** power for i in range(n + 1, -1, -1)]
                ),
                "it begins at T, the last noise level; yours at T - 1": rounded([(T - 1) * p**power for p in parts]),
                "that counts noise levels from 0, as arrays do: here 0 is clean data, and T the last level": want - 1,
                "every (T // n)-th time, counted from 1, never reaches T: a leading grid": torch.tensor(
                    [1.0 + stride * i for i in reversed(range(n))] + [0.0]
                ).double(),
                "every (T // n)-th time, counted from 0, never reaches T: a leading grid": torch.tensor(
                    [float(stride * i) for i in reversed(range(n))]
                ).double(),
                "the times are whole numbers: round them": torch.tensor(exact, dtype=torch.float64),
                "round to the nearest; yours rounds down": torch.tensor(floor, dtype=torch.float64),
                "round to the nearest; yours rounds up": torch.tensor(ceil, dtype=torch.float64),
                "the power is of i / n alone: T (i / n)^p": rounded([(T * part) ** power for part in parts]),
                "the power is of the whole fraction: (i / n)^p, not i^p / n": rounded(
                    [T * (part * n) ** power / n for part in parts]
                ),
                "that makes the steps short next to the noise: (i / n)^p is wanted, with i = n first": rounded(
                    [T * (1 - (1 - part) ** power) for part in parts]
                ),
                "that is the power 1/p: it makes the steps short next to the noise": rounded(
                    [T * part ** (1 / power) for part in parts]
                ),
                "yours takes no notice of the power": rounded([T * part for part in parts]),
                "`power` is an argument; yours has 2 written into it": rounded([T * part**2 for part in parts]),
                "the power need not be a whole number: yours was cut off": rounded(
                    [T * part ** int(power) for part in parts]
                ),
                "`T` is an argument; yours has 1000 written into it": rounded([1000 * part**power for part in parts]),
                "the power is of i / n; yours raises T to it": rounded([T**part for part in parts]),
                "that ends at 1 and puts 0 after it: linspace, another grid; (10.11) has i / n in it": rounded(
                    [*torch.linspace(T, 1, n, dtype=torch.float64).tolist(), 0.0]
                ),
                "it must end on clean data: the last time is 0, yours is 1": torch.cat([want[:-1], want[-1:] + 1]),
            },
            shape_hint=f"n = {n} steps have {n + 1} ends",
        )
        if any(isinstance(time, float) for time in (got.tolist() if isinstance(got, Tensor) else got)):
            raise Wrong("the times should be whole numbers, `int`", "`round(x)` with one argument gives an int")
    for T, n in [(50, 1), (4, 4)]:
        want = torch.linspace(T, 0, n + 1, dtype=torch.float64)
        expect(_as_times(answer(T, n, 1.0)), want, what=f"the grid of {n} steps from T = {T}")


@exercise(
    "10.threshold",
    "Dynamic thresholding",
    error_hints={
        "The size of tensor": "s has one number an image, shape (b,): reshape it to (b, 1, …, 1) to meet the images",
        "must match": "s has one number an image, shape (b,): reshape it to (b, 1, …, 1) to meet the images",
        "invalid for input of size": "reshape to as many dimensions as the images have, whatever they are",
        "Dimension out of range": "images may have any number of dimensions: `x0_hat.flatten(1)` makes them rows",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        b = shape[0]
        scales = torch.linspace(0.2, 40, b, dtype=dtype) if b > 1 else torch.tensor([2.0], dtype=dtype)
        q = draw.number(0.75, 0.9)
        x = scales.reshape(-1, *[1] * (len(shape) - 1)) * draw.normal(*shape, dtype=dtype).clamp(-2.5, 2.5)
        if b > 1:  # an image of few large values: its quantile is below 1, its largest value above
            x[0] = 0.2 * x[0] / x[0].abs().max()
            x[0].view(-1)[0] = 1.05

        def columns(s: Tensor, x: Tensor = x) -> Tensor:
            return s.reshape(-1, *[1] * (x.ndim - 1))

        def by(s: Tensor, x: Tensor = x) -> Tensor:
            return x.clamp(-s, s) / s

        rows = x.abs().flatten(1)
        measure = rows.quantile(q, dim=1)
        s = columns(measure.clamp(min=1))
        mistakes = {
            "s is at least 1: a guess that stays within [-1, 1] must not be blown up": by(columns(measure)),
            "divide by s in the end, or the picture leaves [-1, 1]": x.clamp(-s, s),
            "clip to [-s, s] before dividing": x / s,
            "where s is 1 the guess is still clipped, to [-1, 1]": torch.where(columns(measure) <= 1, x, by(s)),
            "that is plain clipping to [-1, 1]": x.clamp(-1, 1),
            "clip to [-s, s] before dividing, not afterwards": (x / s).clamp(-s, s),
            "the quantile is of the absolute values": by(columns(x.flatten(1).quantile(q, dim=1).clamp(min=1))),
            "every image has its own s; yours is one for the whole batch": by(rows.flatten().quantile(q).clamp(min=1)),
            "s is the quantile, not the largest value": by(columns(rows.max(1).values.clamp(min=1))),
            "s is the q-quantile, not that of 1 - q": by(columns(rows.quantile(1 - q, dim=1).clamp(min=1))),
            "s is at least 1, not at most 1": by(columns(measure.clamp(max=1))),
            "s is a quantile over the image, not a standard deviation": by(columns(x.flatten(1).std(1).clamp(min=1))),
            "s is one number more than its measure: at *least* 1 is a maximum, not a sum": by(columns(1 + measure)),
            "s is a quantile over the image, not a mean": by(columns(rows.mean(1).clamp(min=1))),
            "q is an argument; yours has 0.995 written into it": by(columns(rows.quantile(0.995, dim=1).clamp(min=1))),
            "the q-quantile of the absolute values has both sides in it already: q, not (1 + q) / 2": by(
                columns(rows.quantile((1 + q) / 2, dim=1).clamp(min=1))
            ),
            "clip on both sides, to -s as well": x.clamp(max=s) / s,
            "clipped, and not bent: no tanh": torch.tanh(x / s),
            "the guess stays in [-1, 1]; yours is moved to [0, 1]": (by(s) + 1) / 2,
            **{
                "between two values the quantile lies on the line between them, as `quantile` has it; yours takes "
                f"{name}": by(columns(rows.quantile(q, dim=1, interpolation=how).clamp(min=1)))
                for how, name in {
                    "lower": "the lower one",
                    "higher": "the higher one",
                    "midpoint": "the middle",
                }.items()
            },
        }
        if len(shape) == 4 and shape[1] > 1:
            channel = x.abs().flatten(2).quantile(q, dim=2).clamp(min=1)[..., None, None]
            mistakes["one s for all channels of an image, or its colours change"] = by(channel)
        for hint, wrong in along_the_wrong_axis(s.flatten(), x, by).items():
            mistakes[f"s{hint.split(':')[0][1:]}: reshape it to (b, 1, 1, 1)"] = wrong
        expect(
            answer(x, q),
            by(s),
            what="the guess",
            mistakes=mistakes,
            shape_hint="what comes out is as large as x0_hat",
        )


_ONE_ANGLE = "one angle an image, shape (b,): reshape what comes of it to (b, 1, …, 1)"


@exercise(
    "10.slerp",
    "Between two noises",
    error_hints={
        "The size of tensor": _ONE_ANGLE,
        "must match": _ONE_ANGLE,
        "invalid for input of size": "reshape to as many dimensions as the images have, whatever they are",
        "1D tensors expected": "`torch.dot` is for one pair: `(a * b).flatten(1).sum(1)` is one dot product an image",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in sorted(CASES, key=lambda case: case[1] == torch.float32):
        shape = shape if len(shape) == 4 else (6, 9)  # in the plane two noises may be nearly opposite
        w = draw.number(0.15, 0.4)

        def columns(value: Tensor) -> Tensor:
            return value.reshape(-1, *[1] * (len(shape) - 1))

        a = draw.normal(*shape, dtype=dtype)
        # No right angles, and other lengths; every other pair is further apart than a right angle.
        along = columns(torch.tensor([-2.4, 0.9, -1.8, 1.3, -1.4, 0.7], dtype=dtype)[: shape[0]])
        b = 1.5 * draw.normal(*shape, dtype=dtype) + along * a

        def mix(theta: Tensor, w: float = w) -> Tensor:
            return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)

        dot, lengths = (a * b).flatten(1).sum(1), a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
        angle = torch.acos(dot / lengths)
        theta = columns(angle)
        whole = torch.acos((a * b).sum() / (a.norm() * b.norm()))
        right_angle = torch.full_like(theta, math.pi / 2)
        short, line = torch.minimum(theta, math.pi - theta), (1 - w) * a + w * b
        got = answer(a, b, w)
        if isinstance(got, Tensor) and got.isnan().any():
            raise Wrong(
                "the result has NaN in it",
                "a cosine is between -1 and 1: divide the dot product by both lengths before `acos`",
            )
        mistakes = {
            "a straight line between the two: its middle is too short": (1 - w) * a + w * b,
            "w = 0 is a, w = 1 is b; yours goes the other way": mix(theta, 1 - w),
            "beyond a right angle the cosine is negative: `acos` with its sign; `asin` finds another angle": mix(
                torch.minimum(theta, math.pi - theta)
            ),
            "the cosine keeps its sign: it is negative beyond a right angle, and not 0": mix(
                columns((dot / lengths).clamp(min=0).acos())
            ),
            "unit vectors are for the angle alone: a and b themselves are mixed": (
                torch.sin((1 - w) * theta) * a / columns(a.flatten(1).norm(dim=1))
                + torch.sin(w * theta) * b / columns(b.flatten(1).norm(dim=1))
            )
            / torch.sin(theta),
            "every pair has its own angle; yours is one for the whole batch": mix(whole),
            "divide by sin(theta), or the ends are not a and b": mix(theta) * torch.sin(theta),
            "that takes every angle to be a right one": mix(right_angle),
            "roots as weights keep the variance of independent noises only": (1 - w) ** 0.5 * a + w**0.5 * b,
            "that is the cosine itself: theta is its `acos`": mix(columns(dot / lengths)),
            "sines, not cosines, weigh the two": (torch.cos((1 - w) * theta) * a + torch.cos(w * theta) * b)
            / torch.cos(theta),
            "the noises keep their lengths: nothing has to be made a unit vector": mix(theta)
            / columns(mix(theta).flatten(1).norm(dim=1)),
            "angles are in radians here": mix(torch.rad2deg(theta)),
            "the mean of both over the root of 2 is right in the middle of two at right angles": (a + b) / 2**0.5,
            "a has sin((1 - w) theta) / sin(theta) in front of it, not a cosine": torch.cos(w * theta) * a
            + torch.sin(w * theta) * b,
            "brackets: sin((1 - w) theta), where 1 - w multiplies theta": (
                torch.sin(1 - w * theta) * a + torch.sin(w * theta) * b
            )
            / torch.sin(theta),
            "sin(theta) is below both, a and b": torch.sin((1 - w) * theta) * a
            + torch.sin(w * theta) * b / torch.sin(theta),
            "beyond a right angle b is not turned round: the way goes from a to b itself": (
                torch.sin((1 - w) * short) * a + torch.sin(w * short) * torch.where(theta > math.pi / 2, -b, b)
            )
            / torch.sin(short),
            "a line, made as long as a, is no walk at an even pace, and its end is not b": line
            * columns(a.flatten(1).norm(dim=1) / line.flatten(1).norm(dim=1)),
            "every pair has its own angle; yours all use the first": mix(theta[:1]),
        }
        if len(shape) == 4:
            lines = torch.nn.functional.cosine_similarity(a, b, dim=-1)[..., None]
            mistakes["the angle is between whole images; yours is one for each line of pixels"] = mix(lines.acos())
        for hint, wrong in along_the_wrong_axis(angle, a, mix).items():
            mistakes[f"the angle{hint.split(':')[0][1:]}: reshape it to (b, 1, 1, 1)"] = wrong
        expect(
            got,
            mix(theta),
            what="the noise between",
            mistakes=mistakes,
            shape_hint="what comes out is as large as a",
        )
    a, b = draw.normal(3, 9), draw.normal(3, 9)
    expect(answer(a, b, 0.0), a, what="the noise at w = 0, which is a,")
    expect(answer(a, b, 1.0), b, what="the noise at w = 1, which is b,")
