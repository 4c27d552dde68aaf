"""Checks of lesson 04, the first network."""

import math
from itertools import accumulate
from math import prod
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.denoisers import Denoiser
from course_utils.denoisers.embeddings import sinusoidal_embedding
from course_utils.exercises.answer import Answer
from course_utils.exercises.compare import (
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


@exercise("04.receptive_field", "How far it sees")
def _(answer: Answer, draw: Draw) -> None:
    plain = [([3] * depth, [1] * depth) for depth in (1, 3, 6)]
    stacks = [([3, 5, 3, 7], [2, 3, 2, 1]), ([5, 5, 3], [2, 2, 1]), ([7, 3, 5], [3, 1, 2])]
    stacks += [([1, 3, 1], [1, 2, 1]), ([4, 2], [4, 2])]  # kernels of one pixel see no further; even ones exist
    stacks += [([1], [1]), ([1], [3])]
    drawn = [([3 + 2 * int(i) for i in draw.integers(0, 3, 4)], [1 + int(i) for i in draw.distinct(0, 3, 4)])]
    cases = plain + stacks + drawn
    right = []
    for kernels, strides in cases:
        before = accumulate([1, *strides[:-1]], mul)  # the product of all earlier strides
        right.append(1 + sum((k - 1) * apart for k, apart in zip(kernels, before, strict=True)))

    def each(formula) -> Tensor:
        return torch.tensor([float(formula(kernels, strides)) for kernels, strides in cases], dtype=torch.float64)

    expect(
        numbers([answer(list(kernels), list(strides)) for kernels, strides in cases], "the receptive field"),
        torch.tensor(right, dtype=torch.float64),
        what="the receptive field",
        mistakes={
            "each layer adds k - 1 to what is seen, not k: the middle pixel is seen already": each(
                lambda ks, ss: 1 + sum(k * prod(ss[:i]) for i, k in enumerate(ks))
            ),
            "the 1 is missing: before the first layer a pixel sees itself": torch.tensor(right).double() - 1,
            "the strides are missing: a layer's inputs lie as far apart as the strides before it have made them": each(
                lambda ks, ss: 1 + sum(k - 1 for k in ks)
            ),
            "a layer's own stride moves its outputs apart, not its inputs: multiply by the strides *before* it": each(
                lambda ks, ss: 1 + sum((k - 1) * prod(ss[: i + 1]) for i, k in enumerate(ks))
            ),
            "strides multiply, they do not add": each(
                lambda ks, ss: 1 + sum((k - 1) * (1 + sum(ss[:i])) for i, k in enumerate(ks))
            ),
            "only the stride of the layer just before is in it: distances multiply through all earlier layers": each(
                lambda ks, ss: 1 + sum((k - 1) * (ss[i - 1] if i else 1) for i, k in enumerate(ks))
            ),
            "kernels do not multiply: each layer adds to what is seen": each(lambda ks, ss: prod(ks)),
            "that is 2 · depth + 1, which holds for kernels of 3 without strides only": each(
                lambda ks, ss: 2 * len(ks) + 1
            ),
            "a kernel of k sees k pixels, be k odd or even: k - 1 more, not 2 (k // 2)": each(
                lambda ks, ss: 1 + sum(2 * (k // 2) * prod(ss[:i]) for i, k in enumerate(ks))
            ),
            "the strides do not multiply everything: each layer is spread by those before it": each(
                lambda ks, ss: prod(ss) * (1 + sum(k - 1 for k in ks))
            ),
            "that is the sum of the kernels: they overlap, and strides count": each(lambda ks, ss: sum(ks)),
            "a pixel sees itself before the first layer, and that is the 1; k - 1 is added, not k": each(
                lambda ks, ss: sum(k * prod(ss[:i]) for i, k in enumerate(ks))
            ),
            "the layers have different kernels: yours take all to be like the first": each(
                lambda ks, ss: 1 + sum((ks[0] - 1) * prod(ss[:i]) for i, _ in enumerate(ks))
            ),
            "one too many: the pixel itself counts once": torch.tensor(right).double() + 1,
            "that is the radius; the question is how many pixels across": torch.tensor(right).double() // 2,
            "the strides that count are those of the layers nearer to the *input*": each(
                lambda ks, ss: 1 + sum((k - 1) * prod(ss[i + 1 :]) for i, k in enumerate(ks))
            ),
        },
    )


@exercise(
    "04.descend",
    "One step downhill",
    error_hints={
        "does not require grad": "say that gradients of the kernel are wanted: `kernel.detach().requires_grad_()`",
        "unsupported operand type": "`torch.autograd.grad` returns a tuple, also of one: `(gradient,) = …`",
        "can't multiply sequence": "`torch.autograd.grad` returns a tuple, also of one: `(gradient,) = …`",
        "grad can be implicitly created": "the loss must be one number: the mean over all pixels and images",
        "must match the size": "without `padding=1` the output is two pixels smaller than the input",
        "scalar outputs": "the loss must be one number: the mean over all pixels and images",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, c, h, w, dtype in [
        (4, 1, 5, 5, torch.float64),
        (3, 2, 6, 4, torch.float32),
        (1, 3, 4, 4, torch.float64),
        (5, 1, 8, 7, torch.float64),
    ]:
        x_t, x_0 = draw.normal(b, c, h, w, dtype=dtype), draw.normal(b, c, h, w, dtype=dtype)
        kernel, lr = draw.normal(c, c, 3, 3, dtype=dtype), draw.number(0.2, 0.7)

        def gradient(target: Tensor, x: Tensor, k: Tensor = kernel, error=torch.square, after=lambda y: y) -> Tensor:
            k = k.clone().requires_grad_()
            (g,) = torch.autograd.grad(error(after(F.conv2d(x, k, padding=1)) - target).mean(), k)
            return g

        g, size = gradient(x_0, x_t), x_0.numel()
        expect(
            answer(kernel, x_t, x_0, lr),
            kernel - lr * g,
            what="the new kernel",
            mistakes={
                "that climbs: the step goes against the gradient": kernel + lr * g,
                "that is the gradient; take it, times lr, off the kernel": g,
                "that is the step; take it off the kernel": lr * g,
                "that is the old kernel: the step was not taken": kernel,
                "the learning rate is missing": kernel - g,
                "the loss is a mean over all pixels and images, yours is a sum": kernel - lr * size * g,
                "the loss is a mean over the images, too; yours sums over them": kernel - lr * b * g,
                "the loss is a mean over all pixels, too; yours sums over them": kernel - lr * (size / b) * g,
                "the target is x_0; yours has x_t, and learns to copy": kernel - lr * gradient(x_t, x_t),
                "x_t goes in and x_0 is wanted; yours has them swapped": kernel - lr * gradient(x_t, x_0),
                "the square has no half in front of it": kernel - lr / 2 * g,
                "lr multiplies the gradient, not the loss as well": kernel - lr**2 * g,
                "the step is lr times the gradient, not divided by lr": kernel - g / lr,
                "divide the gradient by nothing: only the direction of yours is right": kernel - lr * g / g.norm(),
                "the step is as large as the gradient; yours has its sign alone": kernel - lr * g.sign(),
                "the gradient is that of a squared error, not of an absolute one": kernel
                - lr * gradient(x_0, x_t, error=torch.abs),
                "the loss is the mean square itself, without a root": kernel
                - lr * g / 2 / (F.conv2d(x_t, kernel, padding=1) - x_0).square().mean().sqrt(),
                "one step; yours takes two": kernel - lr * g - lr * gradient(x_0, x_t, kernel - lr * g),
                "square each error, then average: yours squares the average": kernel
                - lr * gradient(x_0, x_t, error=lambda e: e.mean().square()),
                "nothing but lr times the gradient: nothing is clipped": kernel - lr * g.clamp(-1, 1),
                "one convolution, and nothing after it: no ReLU": kernel - lr * gradient(x_0, x_t, after=F.relu),
            },
            shape_hint="the new kernel has the shape of the old one, (c, c, 3, 3)",
        )


_ALL_ANGLES = "position[:, None] is (b, 1), the frequencies are (n,): their product is (b, n)"


@exercise(
    "04.embedding",
    "A clock with many hands",
    error_hints={"The size of tensor": _ALL_ANGLES, "must match": _ALL_ANGLES},
)
def _(answer: Answer, draw: Draw) -> None:
    for b, dim, longest in [(4, 8, 10_000.0), (4, 4, 200.0), (1, 12, 1000.0), (7, 6, 50.0), (8, 16, 10_000.0)]:
        p, n = draw.uniform(0, 20, b), dim // 2
        p[0] = 3.7  # no whole number, nor is it rounded down
        p[1::2] *= -1  # positions may be negative, as a log-SNR is

        def code(frequency: Tensor, p: Tensor = p) -> Tensor:
            angle = p[:, None] * frequency
            return torch.cat([angle.cos(), angle.sin()], 1)

        i = torch.arange(n).float()
        right = sinusoidal_embedding(p, dim, longest)
        mistakes = {
            "the exponent is -i / (n - 1): with n, or with 2i / dim, the last wave falls short of `longest`": code(
                longest ** (-i / n)
            ),
            "the exponent's sign: the frequencies fall from 1 to 1 / longest": code(longest ** (i / (n - 1))),
            "the cosines come first": torch.cat([right[:, n:], right[:, :n]], 1),
            "all cosines first, then all sines; yours alternate": torch.stack([right[:, :n], right[:, n:]], 2).flatten(
                1
            ),
            "omega falls to 1 / longest; yours stays at 1": code(torch.ones(n)),
            "the exponent is -i / (n - 1), a share of the whole range: yours lacks n - 1": code(longest ** (-i)),
            "there is no 2 pi: omega is an angle per unit of position": code(2 * torch.pi * longest ** (-i / (n - 1))),
            "frequencies are spaced evenly in their logarithm, not in themselves": code(
                torch.linspace(1, 1 / longest, n)
            ),
            "sines are missing: cosines alone cannot tell p from -p": torch.cat([right[:, :n]] * 2, 1),
            "cosines are missing: sines alone": torch.cat([right[:, n:]] * 2, 1),
            "that is (dim, b): one row for each position": right.T if b != dim else right.new_tensor(float("nan")),
            "the exponent is -i / (n - 1); yours has n + 1 below the line": code(longest ** (-i / (n + 1))),
            "i counts from 0, so that the first frequency is 1; yours counts from 1": code(longest ** (-(i + 1) / n)),
            "the exponent is -i / (n - 1): yours is twice as large": code(longest ** (-2 * i / (n - 1))),
            "the frequencies fall, from 1 to 1 / longest: yours rise": code(longest ** (-i.flip(0) / (n - 1))),
            "`longest` is an argument; do not write 10,000 into the function": code(10_000 ** (-i / (n - 1))),
            "exp goes with the natural logarithm: yours has base 2": code(torch.exp(-math.log2(longest) * i / (n - 1))),
            "exp goes with the natural logarithm: yours has base 10": code(
                torch.exp(-math.log10(longest) * i / (n - 1))
            ),
            "positions may be negative, and sines tell: yours has lost the sign": code(
                longest ** (-i / (n - 1)), p.abs()
            ),
            "positions are no whole numbers: yours were rounded": code(longest ** (-i / (n - 1)), p.round()),
            "positions are no whole numbers: yours were cut off": code(longest ** (-i / (n - 1)), p.trunc()),
            "the angle is omega p, without a minus": code(-(longest ** (-i / (n - 1)))),
            "there is no pi: omega is an angle per unit of position": code(torch.pi * longest ** (-i / (n - 1))),
            "n is half of dim: n cosines and n sines make dim numbers": code(
                longest ** (-torch.arange(dim) / (dim - 1))
            ),
        }
        expect(
            answer(p, dim, longest),
            right,
            what="e(p)",
            mistakes=mistakes,
            shape_hint=f"one row of `dim` numbers for each position: {_ALL_ANGLES}",
        )


_PER_CHANNEL = "scale and shift are (b, c); `[:, :, None, None]` makes them one number for all pixels of a channel"


@exercise(
    "04.film",
    "Scale and shift",
    error_hints={"The size of tensor": _PER_CHANNEL, "must match": _PER_CHANNEL, "invalid for input": _PER_CHANNEL},
)
def _(answer: Answer, draw: Draw) -> None:
    for b, c, h, w, dtype in [
        (4, 4, 4, 4, torch.float64),
        (2, 3, 5, 6, torch.float32),
        (3, 5, 3, 5, torch.float64),
        (1, 6, 2, 2, torch.float32),
        (5, 1, 3, 4, torch.float64),
    ]:
        x = draw.normal(b, c, h, w, dtype=dtype)
        scale, shift = draw.normal(b, c, dtype=dtype), draw.normal(b, c, dtype=dtype)
        a, s = scale[:, :, None, None], shift[:, :, None, None]
        mistakes = {
            "the 1 is missing: at the start, with scale 0, every channel would be 0": a * x + s,
            "scale and shift are swapped": (1 + s) * x + a,
            "scale first, then shift: the shift is not scaled": (1 + a) * (x + s),
            "the shift is missing": (1 + a) * x,
            "the scale is missing": x + s,
            "the shift is added, not taken off": (1 + a) * x - s,
            "that shrinks what should grow: 1 + scale, not 1 - scale": (1 - a) * x + s,
            "h is in it twice: 1 + scale is the whole factor": x + (1 + a) * x + s,
            "every image has its own scale and shift; yours all use the first's": (1 + a[:1]) * x + s[:1],
            "every image has its own scale and shift; yours all use the last's": (1 + a[-1:]) * x + s[-1:],
            "every image has its own scale and shift; yours all use their average": (1 + a.mean(0, True)) * x
            + s.mean(0, True),
            "every channel has its own scale and shift; yours all use their average": (1 + a.mean(1, True)) * x
            + s.mean(1, True),
            "brackets: (1 + scale) multiplies h": 1 + a * x + s,
            "the factor is 1 + scale, without an exponential": a.exp() * x + s,
            "the 1 belongs to the scale alone: h' = (1 + scale) h + shift": (1 + a) * x + 1 + s,
            "nothing after the shift: no ReLU was asked for": ((1 + a) * x + s).relu(),
            "h is not normalised here: (4.6) takes it as it is": (1 + a) * F.group_norm(x, 1) + s,
        }
        if (h, w) == (b, c):
            mistakes[f"it runs along the height and width of the images: {_PER_CHANNEL}"] = (1 + scale) * x + shift
        if w == c:
            mistakes[f"it runs along the width of the images: {_PER_CHANNEL}"] = (1 + scale[:, None, None]) * x + shift[
                :, None, None
            ]
        if b == c:
            turned = (v.T[:, :, None, None] for v in (scale, shift))
            mistakes["batch and channels are exchanged"] = (1 + next(turned)) * x + next(turned)
        expect(answer(x, scale, shift), (1 + a) * x + s, what="h'", mistakes=mistakes, shape_hint="h' is as large as h")


class _Says(nn.Module):
    """A network that always gives the same answer."""

    def __init__(self, said: Tensor):
        super().__init__()
        self.said = said

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        return self.said


@exercise("04.precondition", "From F to the picture", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        schedule = random_schedule(draw, dtype=dtype)
        x, said = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.times(1, schedule.T, len(x))
        mean, std = draw.number(-0.9, -0.4), draw.number(0.4, 0.7)
        table = schedule.alpha_bar.to(dtype)

        def formula(ab: Tensor, x=x, said=said, m=mean, s=std, *, sign=-1.0, skip=None, out=None) -> Tensor:
            variance = ab * s**2 + 1 - ab
            skip = ab.sqrt() * s**2 / variance if skip is None else skip
            out = s * ((1 - ab) / variance).sqrt() if out is None else out
            return m + skip * (x - ab.sqrt() * m) + sign * out * said

        a = column(table[t], x)
        alpha, sigma, variance = a.sqrt(), (1 - a).sqrt(), a * std**2 + 1 - a
        skip, out = alpha * std**2 / variance, std * sigma / variance.sqrt()
        mistakes = {
            "the sign: c_out F is taken off the line, as v is in (3.17)": formula(a, sign=1.0),
            "the line is missing: F says only what it misses": mean - out * said,
            "F is missing: that is the line alone": formula(a, sign=0.0),
            "the mean is missing in front: the line is about mu, and its result is a picture": formula(a) - mean,
            "x_t has mean alpha mu: take that off before c_skip multiplies it": mean + skip * x - out * said,
            "x_t has mean alpha mu, not mu": mean + skip * (x - mean) - out * said,
            "s is a standard deviation: variances have s²": formula(
                a,
                skip=alpha * std / (a * std + 1 - a),
                out=std * sigma / (a * std + 1 - a).sqrt(),
            ),
            "that is (3.17), which holds for mu = 0 and s = 1": alpha * x - sigma * said,
            "c_skip has alpha, not alpha², above the line": formula(a, skip=a * std**2 / variance),
            "c_out has the root of the variance below the line": formula(a, out=std * sigma / variance),
            "c_out has sigma, the root of 1 - alpha_bar": formula(a, out=std * (1 - a) / variance.sqrt()),
            "c_out lacks s": formula(a, out=sigma / variance.sqrt()),
            "alpha is the root of alpha_bar": mean + a * std**2 / variance * (x - a * mean) - out * said,
            "the variance of x_t is alpha² s² + sigma²: yours lacks alpha²": formula(
                a, skip=alpha * std**2 / (std**2 + 1 - a), out=std * sigma / (std**2 + 1 - a).sqrt()
            ),
            "sigma² is the noise's variance: yours has sigma": formula(
                a, skip=alpha * std**2 / (a * std**2 + sigma), out=std * sigma / (a * std**2 + sigma).sqrt()
            ),
            "c_skip multiplies the difference, in brackets: c_skip (x_t - alpha mu)": mean
            + skip * x
            - alpha * mean
            - out * said,
            "x_t and F are swapped": formula(a, said, x),
            "mu was handed over: yours takes it to be 0": formula(a, m=0.0),
            "s was handed over: yours takes it to be 1": formula(a, s=1.0),
            "std is a standard deviation already: no root of it": formula(a, s=std**0.5),
            "std is a standard deviation: one square makes a variance, yours has two": formula(a, s=std**2),
            "c_out has s, not s², above the line": formula(a, out=std**2 * sigma / variance.sqrt()),
            "c_skip has the variance below the line; yours has its root": formula(
                a, skip=alpha * std**2 / variance.sqrt()
            ),
            "c_skip has s² above the line; yours has s": formula(a, skip=alpha * std / variance),
            "c_skip has alpha above the line: yours lacks it": formula(a, skip=std**2 / variance),
            "c_out has sigma above the line; yours has alpha": formula(a, out=std * alpha / variance.sqrt()),
            "sigma_t² goes with the noise: alpha² and sigma² are swapped in the variance": formula(
                a, skip=alpha * std**2 / ((1 - a) * std**2 + a), out=std * sigma / ((1 - a) * std**2 + a).sqrt()
            ),
            "the sign: alpha mu is taken off x_t": mean + skip * (x + alpha * mean) - out * said,
            "mu in front is that of a picture, not shrunk by alpha": formula(a) + (alpha - 1) * mean,
        } | lookups(formula, table, x, t)
        expect(
            answer(x, said, t, table, mean, std),
            Denoiser(_Says(said), schedule, "v", mean, std)(x, t),
            what="x0_hat",
            mistakes=mistakes,
            shape_hint="x0_hat is as large as x_t",
        )
