"""Checks of lesson 14, one-step generation."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import BROADCASTING, CASES, Draw, column, expect
from course_utils.exercises.engine import exercise

_RESHAPE = (
    "t has one number a row, (b,); `t.reshape(-1, *[1] * (x_t.ndim - 1))` makes it multiply images and points alike"
)
_SHAPES = BROADCASTING | dict.fromkeys(("The size of tensor", "must match"), _RESHAPE)


def _along_the_wrong_axis(x: Tensor, formula: Callable[..., Tensor], *times: Tensor) -> dict[str, Tensor]:
    """Mistakes for `expect`: times spread over width or height, where PyTorch lets that pass."""
    return {
        f"t runs along the {name} of the images: {_RESHAPE}": formula(*(time.reshape(-1, *after) for time in times))
        for axis, name, after in [(-1, "width", ()), (-2, "height", (1,))]
        if x.ndim == 4 and x.shape[axis] == len(times[0])
    }


@exercise("14.v_from_u", "From u to v", error_hints=_SHAPES)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        u, x_t = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.uniform(0.05, 0.45, shape[0], dtype=dtype)
        t[0], t[-1] = (0.0, 1.0) if len(t) > 1 else (0.3, 0.3)

        def right(t: Tensor, u: Tensor = u, x_t: Tensor = x_t) -> Tensor:
            n = ((1 - t) ** 2 + t**2).sqrt()
            return n * u + (1 - 2 * t) / n * x_t

        time = column(t, x_t)
        n = ((1 - time) ** 2 + time**2).sqrt()
        x_0, eps = x_t - time * u, x_t + (1 - time) * u
        expect(
            answer(u, x_t, t),
            right(time),
            what="v",
            mistakes={
                "x_t must be brought to the variance-preserving path as well: divided by n": n * u
                + (1 - 2 * time) * x_t,
                "n is a root: (1 - t)² + t² is n²": n**2 * u + (1 - 2 * time) / n**2 * x_t,
                "the factor n in front of u is missing": u + (1 - 2 * time) / n * x_t,
                "u is multiplied by n, x_t divided by it; yours has it the other way round": u / n
                + (1 - 2 * time) * n * x_t,
                "multiply u by n: dividing leads back from v": u / n + (1 - 2 * time) / n * x_t,
                "the sign of the second term: (1 - 2t), positive near clean data": n * u - (1 - 2 * time) / n * x_t,
                "here t = 0 is clean and u = eps - x_0; yours points from the noise to the image": -n * u
                + (1 - 2 * time) / n * x_t,
                "the term with x_t is missing: u and v differ by more than a scale": n * u,
                "that is x_t on the straight path's own u: use n, which keeps the variance": u + (1 - 2 * time) * x_t,
                "(1 - 2t), not (1 - t)": n * u + (1 - time) / n * x_t,
                "n belongs to u alone: x_t is divided by it": n * (u + (1 - 2 * time) * x_t),
                "eps = x_t + (1 - t) u, as t of it are there already; yours adds t u": (time * u + (1 - 2 * time) * x_t)
                / n,
                "v = alpha eps - sigma x_0; yours has eps and x_0 in each other's places": (
                    x_0 * (1 - time) - time * eps
                )
                / n,
                "alpha = (1 - t)/n goes with eps, sigma = t/n with x_0; yours has them swapped": (
                    time * eps - (1 - time) * x_0
                )
                / n,
                "v = alpha eps - sigma x_0, with a minus": ((1 - time) * eps + time * x_0) / n,
                "alpha and sigma of the other path are (1 - t) and t *over n*": (1 - time) * eps - time * x_0,
                "that is x_0; v has eps in it as well": x_0,
                "that is eps; v has x_0 in it as well": eps,
                "(14.1) holds for x_t as it is: only alpha and sigma are divided by n": n * u
                + (1 - 2 * time) / n**2 * x_t,
                "each row has its own t: no mean over them": right(t.mean()),
                **_along_the_wrong_axis(x_t, right, t),
            },
        )


@exercise("14.bend", "How bent")
def _(answer: Answer, draw: Draw) -> None:
    for (k, b, d), dtype in [
        ((7, 5, 2), torch.float64),
        ((4, 6, 3), torch.float32),
        ((9, 4, 2), torch.float64),
        ((2, 3, 1), torch.float64),
    ]:
        path = draw.normal(k + 1, b, d, dtype=dtype)
        steps, chord = path[:-1] - path[1:], path[0] - path[-1]
        off = steps * k - chord
        mistakes = {
            "a velocity is the way over the time it took, 1/k: multiply by k": (steps - chord).square().sum(-1).mean(0),
            "velocities and chord run with the time, later state minus earlier; one of yours has the other sign": (
                (steps * k + chord).square().sum(-1).mean(0)
            ),
            "an integral over times 0 … 1 is the mean over steps, not the sum": off.square().sum(-1).sum(0),
            "path has k + 1 states, so k steps": ((steps * (k + 1) - chord).square().sum(-1).mean(0)),
            "the squared length, without a root": off.square().sum(-1).sqrt().mean(0),
            "the mean of the squares; the root of it is not asked for": off.square().sum(-1).mean(0).sqrt(),
            "one number a particle: no mean over them": off.square().sum(-1).mean(),
            "the mean over steps: yours is over particles": off.square().sum(-1).mean(1),
            "the chord's own length is no part of it: subtract the chord before you square": (
                (steps * k).square().sum(-1).mean(0)
            ),
            "the chord took the whole time, 1: only steps are multiplied by k": (
                (steps * k - chord * k).square().sum(-1).mean(0)
            ),
            "a way minus its share of the chord is no velocity yet: over the time it took, 1/k": (
                off.square().sum(-1).mean(0) / k**2
            ),
            "that adds squared ways: a velocity is the way times k, an integral the mean over steps": (
                off.square().sum(-1).mean(0) / k
            ),
            "square first: on average velocities *are* the chord, and nothing is left": off.mean(0).square().sum(-1),
            "k steps, of k + 1 states: the mean is over steps": off.square().sum(-1).sum(0) / (k + 1),
            "velocities are compared, not places: how far the path is from its chord is another measure": (
                (path - path[-1] - chord * torch.linspace(1, 0, k + 1, dtype=dtype)[:, None, None])
                .square()
                .sum(-1)
                .mean(0)
            ),
            "the velocity of a step is between two neighbours; `torch.gradient` reaches over two": (
                (-torch.gradient(path, spacing=1 / k, dim=0)[0] - chord).square().sum(-1).mean(0)
            ),
        }
        if d > 1:
            mistakes["the square of a vector's length is the sum over its coordinates, not the mean"] = (
                off.square().mean(-1).mean(0)
            )
            mistakes["the squared length: squares are summed, not absolute values"] = off.abs().sum(-1).mean(0)
            mistakes["square each coordinate first, then sum"] = off.sum(-1).square().mean(0)
        if k > 2:
            mistakes["the mean velocity is the chord, so a variance will do, but not one over k - 1"] = (
                (steps * k).var(0).sum(-1)
            )
        expect(
            answer(path), off.square().sum(-1).mean(0), what="the bend", mistakes=mistakes, shape_hint="one a particle"
        )
    line = torch.linspace(1, 0, 6, dtype=torch.float64)[:, None, None] * draw.normal(1, 4, 2, dtype=torch.float64)
    got = answer(line)
    expect(got, torch.zeros(4, dtype=torch.float64), what="the bend of straight paths")


@exercise("14.jump", "One jump", error_hints=_SHAPES)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        x_t, x0_hat = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.uniform(0.5, 0.95, shape[0], dtype=dtype)
        r = t * draw.uniform(0.2, 0.8, shape[0], dtype=dtype)
        if shape[0] > 2:
            t[0], r[1], r[2] = 1.0, 0.0, t[2]  # from noise; to clean data; a jump of no length

        def right(t: Tensor, r: Tensor, x_t: Tensor = x_t, x0_hat: Tensor = x0_hat) -> Tensor:
            return x_t - (t - r) * (x_t - x0_hat) / t

        T, R = column(t, x_t), column(r, x_t)
        mean = (x_t - x0_hat) / T
        expect(
            answer(x_t, x0_hat, t, r),
            right(T, R),
            what="x_r",
            mistakes={
                "going back in time means against the velocity: minus": x_t + (T - R) * mean,
                "the way is the velocity times the time it takes, t - r": x_t - mean,
                "the mean velocity is (x_t - x0_hat) / t: the division by t is missing": x_t - (T - R) * (x_t - x0_hat),
                "the jump takes the time t - r, not r": x_t - R * mean,
                "that jumps all the way to clean data: only t - r of it is asked for": x_t - T * mean,
                "r / t of x_t stays, and the guess comes in with what is left": R / T * x_t,
                "r is where the jump ends; yours has t and r the other way round": x_t
                - (R - T) * (x_t - x0_hat) / R.clamp(min=1e-9),
                "that starts from the guess: start from x_t": x0_hat - (T - R) * mean,
                "x0_hat is a guess of the picture, and no velocity: that is (x_t - x0_hat) / t": x_t - (T - R) * x0_hat,
                "x_t is not the noise: eps is (x_t - (1 - t) x0_hat) / t": (1 - R) * x0_hat + R * x_t,
                "(x_t - x0_hat) / t is u = eps - x_0, and not eps": (1 - R) * x0_hat + R * mean,
                "at r a share 1 - r of the guess is left, not the whole of it": x0_hat
                + R * (x_t - (1 - T) * x0_hat) / T,
                "from x_t down for the time t - r, or from the guess up for the time r: a sign is turned": x0_hat
                - R * mean,
                "the jump takes the time t - r, not 1 - r": x_t - (1 - R) * mean,
                "divide by t, the time from x_t to the guess; r is where the jump ends": x_t
                - (T - R) * (x_t - x0_hat) / R.clamp(min=1e-9),
                "that is x_t: the jump is missing": x_t,
                "each row has its own t and r: no mean, and no first one for all": right(t.mean(), r.mean()),
                **_along_the_wrong_axis(x_t, right, t, r),
            },
        )


@exercise("14.mean_flow_target", "The target of a mean velocity", error_hints=_SHAPES)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        v, dudt = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.uniform(0.5, 0.95, shape[0], dtype=dtype)
        r = t * draw.uniform(0.2, 0.8, shape[0], dtype=dtype)
        if shape[0] > 2:
            t[0], r[1], r[2] = 1.0, 0.0, t[2]  # all noise; to clean data; no way at all, where the target is v

        def right(gap: Tensor, v: Tensor = v, dudt: Tensor = dudt) -> Tensor:
            return v - gap * dudt

        T, R = column(t, v), column(r, v)
        expect(
            answer(v, dudt, t, r),
            right(T - R),
            what="the target",
            mistakes={
                "the factor (t - r) in front of the derivative is missing": v - dudt,
                "a minus: (14.12) solved for the mean velocity": v + (T - R) * dudt,
                "the way is t - r, not t": v - T * dudt,
                "the way is t - r, not r": v - R * dudt,
                "the derivative is missing: that is plain flow matching": v,
                "the factor (t - r) belongs to the derivative alone": (T - R) * (v - dudt),
                "the factor (t - r) belongs to the derivative, not to v": (T - R) * v - dudt,
                "multiply by t - r; dividing is for a way that becomes a velocity": torch.where(
                    T > R, v - dudt / (T - R), v
                ),
                "v and its derivative have changed places": dudt - (T - R) * v,
                "the factor is t - r, not its square": v - (T - R) ** 2 * dudt,
                "the way is t - r, not t + r": v - (T + R) * dudt,
                "the way is t - r, not 1 - r": v - (1 - R) * dudt,
                "the way is t - r, not 1 - t: here t = 0 is clean": v - (1 - T) * dudt,
                "v is missing: without a derivative the target is v": -(T - R) * dudt,
                "that is how far the jump goes; the target is a velocity": (T - R) * (v - (T - R) * dudt),
                "each row has its own way: no mean over them": right((t - r).mean()),
                **_along_the_wrong_axis(v, right, t - r),
            },
        )
    v, dudt = draw.normal(4, 2, dtype=torch.float64), draw.normal(4, 2, dtype=torch.float64)
    t = torch.full((4,), 0.9, dtype=torch.float64)
    for wrt in (0, 1):
        seen = answer._observe((v, dudt, t, t / 3), wrt=wrt)
        if seen.gradient is not None:
            raise Wrong(
                "a gradient flows back through the target",
                "`.detach()` the whole of it: the target is a number to be reached, and nothing that may move",
            )


@exercise(
    "14.slerp",
    "Along the sphere",
    error_hints=dict.fromkeys(
        ("1D tensors expected", "inconsistent tensor size", "cannot be multiplied"), "`(a * b).sum()` takes any shape"
    ),
)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in [((1, 8, 8), torch.float32), ((3, 4, 5), torch.float64), ((30,), torch.float64)]:
        a, b = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        for s in (0.0, draw.number(0.15, 0.4), 1.0):
            cosine = (a * b).sum() / (a.norm() * b.norm())
            theta = cosine.arccos()

            def right(first: Tensor, second: Tensor, s: float = s, theta: Tensor = theta) -> Tensor:
                return (((1 - s) * theta).sin() * first + (s * theta).sin() * second) / theta.sin()

            size = (1 - s) * a.norm() + s * b.norm()
            line = (1 - s) * a + s * b
            along = torch.nn.functional.cosine_similarity(a, b, dim=-1).arccos()[..., None]
            rows = (((1 - s) * along).sin() * a + (s * along).sin() * b) / along.sin()
            first = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).arccos() if a.ndim > 1 else theta
            dot, lengths = (a * b).sum(), a.norm() * b.norm()
            expect(
                answer(a, b, s),
                right(a, b),
                what="the noise on the way" if 0 < s < 1 else f"the noise at s = {s:g}",
                mistakes={
                    "s = 0 is a and s = 1 is b; yours runs the other way": right(b, a),
                    "that is the straight line, whose middle is too short for a noise": line,
                    "the division by sin(theta) is missing": right(a, b) * theta.sin(),
                    "that is the straight line, stretched to the length of a noise: near, but its speed is not even": (
                        line * (size / line.norm())
                    ),
                    "that is the straight line over sqrt((1 - s)² + s²), right only for orthogonal noises": line
                    / ((1 - s) ** 2 + s**2) ** 0.5,
                    "that is right only for orthogonal noises: theta is the angle between these two": (
                        torch.cos(torch.tensor(s * torch.pi / 2)).to(dtype) * a
                        + torch.sin(torch.tensor(s * torch.pi / 2)).to(dtype) * b
                    ),
                    "theta is the angle, the arccos of the cosine": right(a, b, theta=cosine),
                    "one angle for the whole noise; yours has one for each of its rows": rows,
                    "both noises keep their own length: do not normalise the result": right(a / a.norm(), b / b.norm()),
                    "between two lengths, a's is not kept: do not normalise the result": right(a, b)
                    * (a.norm() / right(a, b).norm()),
                    "that is the straight line, stretched to a's length: near, but its speed is not even": (
                        line * (a.norm() / line.norm())
                    ),
                    "that is the straight line, scaled to variance 1: near, but its speed is not even": line
                    / line.std(),
                    "squared weights of sum 1 are right only for orthogonal noises, and not even": (
                        (1 - s) ** 0.5 * a + s**0.5 * b
                    ),
                    "sines, not cosines": (((1 - s) * theta).cos() * a + (s * theta).cos() * b) / theta.cos(),
                    "one angle for the whole noise; yours has one for each entry of its first axis": right(
                        a, b, theta=first.reshape(-1, *[1] * (a.ndim - 1))
                    ),
                    "the product of two noises is a sum over pixels, not a mean": right(
                        a, b, theta=(dot / a.numel() / lengths).arccos()
                    ),
                    "the mean of a b is about the cosine, not exactly: divide the sum by both lengths": right(
                        a, b, theta=(dot / a.numel()).clamp(-1, 1).arccos()
                    ),
                    "divide by both lengths, not by one of them squared": right(
                        a, b, theta=(dot / a.square().sum()).clamp(-1, 1).arccos()
                    ),
                    "`.sin()` takes radians, as `.arccos()` gives them": right(a, b, theta=theta.rad2deg()),
                },
                shape_hint="like a and b: no `.flatten()` on the way out",
            )
