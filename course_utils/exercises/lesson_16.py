"""Checks of lesson 16, scale and regularise."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, column, expect
from course_utils.exercises.engine import exercise

BOTH = (torch.float32, torch.float64)


@exercise("16.shift", "Shifted with the side")
def _(answer: Answer, draw: Draw) -> None:
    for dtype in BOTH:
        for base, side in ((32, 256), (64, 16), (28, 7), (32, 32), (28, 84)):
            log_snr = draw.uniform(-9, 9, 6, dtype=dtype)
            k = side / base
            mistakes = {
                "the other way round: larger pictures want more noise, a lower log-SNR": log_snr + 2 * math.log(k),
                "the ratio of *variances* changes, by the square of the side's ratio: 2 log": log_snr - math.log(k),
                "the wrong way, and once: larger pictures want more noise, and 2 log of the ratio": log_snr
                + math.log(k),
                "the log of the ratio of *areas* is 2 log of the sides' already: twice is too often": log_snr
                - 4 * math.log(k),
                "natural logarithms: log-SNRs are in nats; yours are binary": log_snr - 2 * math.log2(k),
                "natural logarithms: log-SNRs are in nats; yours are decimal": log_snr - 2 * math.log10(k),
                "a factor on the SNR is a term on its logarithm: add": log_snr / k**2,
                "a factor on the SNR is a term on its logarithm; yours adds the factor itself": log_snr - k**2,
                "that is the SNR: its logarithm is wanted": log_snr.exp() / k**2,
            }
            expect(answer(log_snr, base, side), log_snr - 2 * math.log(k), what="the log-SNR", mistakes=mistakes)


_MEANS = {
    "non-negative": "avg_pool2d wants the pictures (b, c, h, w) and the side k of a square",
    "must match the size": "eps is as small as the small pictures: add it before you enlarge",
    "must be divisible": "the sides are multiples of k: take squares of k × k",
}
_COLUMN = "alpha_r and sigma_r have one number a picture: `.reshape(-1, 1, 1, 1)` lets them multiply (b, c, h, w)"


@exercise(
    "16.shown",
    "What the second network is shown",
    error_hints=_MEANS
    | dict.fromkeys(("The size of tensor", "must match"), f"{_COLUMN}; and add eps before enlarging"),
)
def _(answer: Answer, draw: Draw) -> None:
    for (b, c, h, w), k in (
        ((3, 1, 8, 8), 2),
        ((2, 3, 8, 12), 4),
        ((5, 2, 6, 6), 3),
        ((1, 1, 8, 8), 4),
        ((4, 1, 8, 8), 2),
    ):
        for dtype in BOTH:
            x, eps = draw.normal(b, c, h, w, dtype=dtype), draw.normal(b, c, h // k, w // k, dtype=dtype)
            alpha = draw.uniform(0.3, 0.9, b, dtype=dtype)
            sigma = (draw.uniform(1.05, 1.6, b, dtype=dtype) - alpha**2).sqrt()
            if b > 2:
                alpha[0], sigma[0] = 1.0, 0.0  # r = 0: shown as it is
            squares = x.reshape(b, c, h // k, k, w // k, k)
            y = squares.mean((3, 5))

            def large(y_r: Tensor, k: int = k) -> Tensor:
                return torch.kron(y_r, torch.ones(k, k, dtype=y_r.dtype))

            def noisy(y: Tensor, a: Tensor, s: Tensor, eps: Tensor = eps) -> Tensor:
                return a * y + s * eps

            a, s = alpha.reshape(-1, 1, 1, 1), sigma.reshape(-1, 1, 1, 1)
            mistakes = {
                "sigma_r, not its square: it multiplies noise of variance 1": large(noisy(y, a, s**2)),
                "alpha_r as it is, without a root": large(noisy(y, a.sqrt(), s)),
                "alpha_r is missing: y_r = alpha_r y + sigma_r eps": large(noisy(y, torch.ones_like(a), s)),
                "sigma_r is missing: y_r = alpha_r y + sigma_r eps": large(noisy(y, a, torch.ones_like(s))),
                "the noise is missing: the network would be shown clean pictures": large(a * y),
                "that is y enlarged, and no noise on it": large(y),
                "alpha_r and sigma_r have changed places": large(noisy(y, s, a)),
                "the mean of each square; yours takes its first pixel": large(noisy(x[..., ::k, ::k], a, s)),
                "the mean of each square; yours is the sum": large(noisy(squares.sum((3, 5)), a, s)),
                "the mean of each square; yours is its largest pixel": large(noisy(squares.amax((3, 5)), a, s)),
                "each pixel becomes a square of k × k; yours tiles the whole picture": noisy(y, a, s).repeat(
                    1, 1, k, k
                ),
                "squares of k × k, not a smooth picture: `.repeat_interleave`": F.interpolate(
                    noisy(y, a, s), scale_factor=k, mode="bilinear", align_corners=False
                ),
                "enlarge it again, so that it can stand beside x_t": noisy(y, a, s),
            }
            if b == w // k and b > 1:
                mistakes[f"alpha_r and sigma_r run along the width of the pictures: {_COLUMN}"] = large(
                    noisy(y, alpha, sigma)
                )
            expect(answer(x, eps, alpha, sigma, k), large(noisy(y, a, s)), what="what is shown", mistakes=mistakes)


@exercise("16.waterfill", "Water-filling")
def _(answer: Answer, draw: Draw) -> None:
    for dtype in BOTH:
        for d, level in ((6, 0.5), (9, 0.2), (5, 5.0), (4, 0.01), (1, 0.3)):  # some, some, none, all above the water
            l = draw.uniform(0.05, 3.0, d, dtype=dtype)
            if d > 4 and level < 1:
                l[0], l[1], l[2] = 2.5, 0.1, level  # one above, one below, one at the water
            half = (l / level).log() / 2
            rate, error = half.clamp(min=0).sum(), l.clamp(max=level).sum()
            above = l > level

            def pair(rate: Tensor, error: Tensor) -> Tensor:
                return torch.stack([rate, error])

            mistakes = {
                "the factor 1/2 of the rate is missing": pair(2 * rate, error),
                "an axis below the water costs no rate, not a negative one: max(0, …)": pair(half.sum(), error),
                "the rate is in nats: natural logarithms": pair(rate / math.log(2), error),
                "the error of an axis is at most its variance: min(l, tau), not tau for all": pair(
                    rate, torch.full_like(error, d * level)
                ),
                "min(l, tau): yours is the larger of the two": pair(rate, l.clamp(min=level).sum()),
                "an axis below the water keeps its whole variance as error": pair(
                    rate, (level * above.to(dtype)).sum()
                ),
                "only axes below the water are in your distortion; each above leaves tau": pair(rate, l[~above].sum()),
                "sums over the axes, not means": pair(rate / d, error / d),
                "the rate is a sum over the axes, not a mean": pair(rate / d, error),
                "the distortion is a sum over the axes, not a mean": pair(rate, error / d),
                "rate first, then distortion": pair(error, rate),
                "the log of l / tau: yours has it the other way round": pair((-half).clamp(min=0).sum(), error),
                "l are variances already: no root, no square": pair(
                    (l.square() / level).log().clamp(min=0).sum() / 2, error
                ),
            }
            expect(
                answer(l, level),
                pair(rate, error),
                what="(R, D)",
                mistakes=mistakes,
                shape_hint="two numbers in one tensor: `torch.stack([rate, distortion])`",
            )


@exercise("16.moments", "One mean, one deviation")
def _(answer: Answer, draw: Draw) -> None:
    for dtype in BOTH:
        for sizes, offset in (((8, 8, 3), 2.0), ((4, 9, 1, 5), -3.0), ((6,), 0.5), ((5, 5), 0.0)):
            # batches that differ in mean and size, so that no mean of means will do
            batches = [(1 + i) * draw.normal(n, 2, 3, 3, dtype=dtype) + offset * (i + 1) for i, n in enumerate(sizes)]
            whole = torch.cat(batches).double()
            mean, std = whole.mean(), whole.std(correction=0)
            each_mean, each_std = (
                torch.stack([z.double().mean() for z in batches]),
                torch.stack([z.double().std(correction=0) for z in batches]),
            )
            first = batches[0].double()

            def pair(mean: Tensor, std: Tensor, dtype: torch.dtype = dtype) -> Tensor:
                return torch.stack([mean, std]).to(dtype)

            unbiased = torch.stack([z.double().std() for z in batches])
            mistakes = {
                "divide by how many numbers there are, not by one less: `correction=0`": pair(mean, whole.std()),
                "that is the variance: the deviation is its root": pair(mean, std**2),
                "deviation from the mean: the mean square is not reduced by the mean's": pair(
                    mean, whole.square().mean().sqrt()
                ),
                "deviation second, mean first": pair(std, mean),
            }
            if len(sizes) > 1:
                mistakes |= {
                    "that is the first batch alone: all of them are wanted": pair(
                        first.mean(), first.std(correction=0)
                    ),
                    "that is the first batch alone, and divided by one less": pair(first.mean(), first.std()),
                    "that is the last batch alone: all of them are wanted": pair(
                        batches[-1].double().mean(), batches[-1].double().std(correction=0)
                    ),
                    "a mean of the batches' deviations leaves out how their means differ": pair(
                        each_mean.mean(), each_std.mean()
                    ),
                    "a mean of the batches' deviations leaves out how their means differ; and divide by all": pair(
                        each_mean.mean(), unbiased.mean()
                    ),
                    "the mean is right; a mean of the batches' deviations leaves out how their means differ": pair(
                        mean, each_std.mean()
                    ),
                    "the root of the mean variance leaves out how the batches' means differ": pair(
                        mean, each_std.square().mean().sqrt()
                    ),
                    "batches of different length weigh differently: sum over all numbers first": pair(
                        each_mean.mean(), std
                    ),
                }
            expect(
                answer([z.clone() for z in batches]),
                pair(mean, std),
                what="(mean, deviation)",
                mistakes=mistakes,
                shape_hint="two numbers in one tensor, over all channels and positions: `torch.stack([mean, std])`",
            )


@exercise("16.quantise", "The nearest letter")
def _(answer: Answer, draw: Draw) -> None:
    for n, d, K in ((7, 3, 5), (4, 4, 4), (6, 2, 9), (1, 5, 3), (3, 2, 1)):
        for dtype in BOTH:
            z, codebook = draw.normal(n, d, dtype=dtype), 2 * draw.normal(K, d, dtype=dtype)
            if n > 3:
                z[0] = codebook[-1]  # a letter itself
            if d == 3:  # of three letters one is nearest in squares, one in absolute values, one in the largest of them
                codebook[:3] = z[1] + torch.tensor([[1.0, 1.0, 0.5], [1.55, 0, 0], [0.95, 0.95, 0.95]], dtype=dtype)
                codebook[3:] += 9 * torch.sign(codebook[3:] - z[1])
                z[0] = codebook[-1]
            squares = (z[:, None] - codebook[None]).square().sum(2)
            e = codebook[squares.argmin(1)]
            mistakes = {
                "that is the farthest: `argmin`": codebook[squares.argmax(1)],
                "that is z itself: forwards the letter is wanted": z,
                "z is in it twice: z + (e - z)": z + e,
                "the difference goes the other way: e - z": 2 * z - e,
                "the nearest, not the one of largest scalar product": codebook[(z @ codebook.T).argmax(1)],
                "the letter, not its distance from z": e - z,
                "distances over all coordinates of a row, not the largest of them": codebook[
                    (z[:, None] - codebook[None]).abs().amax(2).argmin(1)
                ],
                "Euclidean distances: squares, not absolute values": codebook[
                    (z[:, None] - codebook[None]).abs().sum(2).argmin(1)
                ],
                "a mean of the letters, weighed by nearness, is no letter": torch.softmax(-squares, 1) @ codebook,
            }
            weights = draw.normal(n, d, dtype=dtype)
            expect(
                answer(z, codebook),
                e,
                what="the letters",
                mistakes=mistakes,
                shape_hint="a vector for each row of z, (n, d): the rows of the codebook, not their numbers",
            )
            seen = answer._observe((z, codebook), wrt=0, cotangent=weights)
            got = seen.gradient
            if got is None or got.abs().max() == 0:
                raise Wrong(
                    "the letters are right, but no gradient comes back to z",
                    "z + (e - z).detach(): forwards e, backwards z",
                )
            expect(
                got,
                weights,
                what="the gradient that comes back to z",
                mistakes={
                    "only the difference is detached, e - z; the z in front of it is not": torch.zeros_like(weights),
                    "two gradients come back: the z inside of the bracket must be detached too": 2 * weights,
                },
            )


def _verdicts(x: Tensor, train: Tensor, ratio: float) -> dict[str, Tensor]:
    """Which are copies, under "", and what each mistake calls one, by its hint."""
    x, train = x.flatten(1).double(), train.flatten(1).double()
    every = torch.cdist(x, train)
    first, second = every.topk(2, largest=False).values.unbind(1)
    near, next_near = (x[:, None] - train[None]).abs().sum(2).topk(2, largest=False).values.unbind(1)
    return {
        "": first < ratio * second,
        "a copy is *nearer* than the ratio allows; yours are the others": first >= ratio * second,
        "distances, not their squares: the ratio would be squared too": first**2 < ratio * second**2,
        "the second nearest, not the farthest": first < ratio * every.amax(1),
        "the second nearest, not the mean of all": first < ratio * every.mean(1),
        "d_1 against ratio · d_2: yours compares with the ratio itself": first < ratio,
        "the nearest always is nearer than the second: the ratio is to multiply d_2": first < second,
        "Euclidean distances, not sums of absolute differences": near < ratio * next_near,
        "d_1 is the nearest's distance, and stands alone on the left; yours are none ever": second < ratio * first,
    }


@exercise("16.copies", "Copies")
def _(answer: Answer, draw: Draw) -> None:
    for shape, ratio in (((1, 4, 4), 1 / 3), ((3, 3, 2), 0.5), ((6,), 0.25), ((2, 5, 3), 1 / 3)):
        for dtype in BOTH:
            train = 2 * draw.normal(9, *shape, dtype=dtype)
            # From each training picture to another: of a thousand places on the ways those that tell two verdicts apart
            ends = draw.integers(0, 8, 1000), draw.integers(0, 8, 1000)
            s = column(draw.uniform(0.0, 0.5, 1000, dtype=dtype).square() * 2, train[ends[0]])
            x = (1 - s) * train[ends[0]] + s * train[ends[1]]
            first, second = torch.cdist(x.flatten(1), train.flatten(1)).topk(2, largest=False).values.unbind(1)
            x = x[(first / second - ratio).abs() > 1e-3]  # the others are too near to say
            verdicts = list(_verdicts(x, train, ratio).values())
            apart = [(a != b).nonzero()[:1, 0] for a, b in itertools.combinations(verdicts, 2)]
            x = torch.cat([x[torch.cat(apart)], x])[:48]
            right, *_ = _verdicts(x, train, ratio).values()
            expect(
                answer(x, train, ratio),
                right,
                what="which are copies",
                mistakes={hint: called for hint, called in _verdicts(x, train, ratio).items() if hint},
                shape_hint="True or False for each picture of x, (n,): `.flatten(1)` makes a row of each picture",
            )
