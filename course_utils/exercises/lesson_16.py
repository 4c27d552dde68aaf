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
                "a factor on the SNR is a term on its logarithm; yours adds the factor itself": log_snr + 1 / k**2,
                "the term is added to log_snr; yours multiplies it": log_snr * -2 * math.log(k),
                "the term alone: it is to be added to log_snr": torch.full_like(log_snr, -2 * math.log(k)),
                "the 2 belongs to the log of the ratio alone, not to log_snr": 2 * (log_snr - math.log(k)),
                "2 log of the ratio: yours is the square of its log": log_snr + math.log(k) ** 2,
                "that is the SNR: its logarithm is wanted": log_snr.exp() / k**2,
            }
            expect(answer(log_snr, base, side), log_snr - 2 * math.log(k), what="the log-SNR", mistakes=mistakes)


_COLUMN = "alpha_r and sigma_r have one number a picture: `.reshape(-1, 1, 1, 1)` lets them multiply (b, c, h, w)"

_SHOWN = "y_r alone, each of its pixels repeated k times in both directions: as large as x"


@exercise(
    "16.shown",
    "What the second network is shown",
    error_hints={
        "non-negative": "avg_pool2d wants the pictures (b, c, h, w) and the side k of a square",
        "must be divisible": "the sides are multiples of k: take squares of k × k",
    }
    | dict.fromkeys(
        ("The size of tensor", "must match"),
        f"{_COLUMN}; and eps is as small as the small pictures: add it before you enlarge",
    ),
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
                alpha[1], sigma[1] = 1.0, 0.0  # r = 0: shown as it is
            squares = x.reshape(b, c, h // k, k, w // k, k)
            y = squares.mean((3, 5))

            def large(y_r: Tensor, k: int = k) -> Tensor:
                return torch.kron(y_r, torch.ones(k, k, dtype=y_r.dtype))

            def noisy(y: Tensor, a: Tensor, s: Tensor, eps: Tensor = eps) -> Tensor:
                return a * y + s * eps

            a, s = alpha.reshape(-1, 1, 1, 1), sigma.reshape(-1, 1, 1, 1)
            mistakes = {
                "sigma_r, not its square: it multiplies noise of variance 1": large(noisy(y, a, s**2)),
                "sigma_r as it is, without a root": large(noisy(y, a, s.sqrt())),
                "alpha_r as it is, without a root": large(noisy(y, a.sqrt(), s)),
                "alpha_r, not its square": large(noisy(y, a**2, s)),
                "the noise is added: alpha_r y + sigma_r eps": large(noisy(y, a, -s)),
                "sigma_r eps as it is: (16.1) divides by k where *large* noise is averaged; eps is small": large(
                    noisy(y, a, s / k)
                ),
                "sigma_r eps as it is: no k belongs to it, since eps is small already": large(noisy(y, a, k * s)),
                "sigma_r is given: it is not 1 - alpha_r": large(noisy(y, a, 1 - a)),
                "sigma_r is given: sqrt(1 - alpha_r²) is another number for these": large(
                    noisy(y, a, (1 - a**2).clamp(min=0).sqrt())
                ),
                "alpha_r multiplies y alone": large(noisy(y, a, a * s)),
                "a picture made small first: yours has every pixel of x still in it": a * x + s * large(eps),
                "that is the noise alone: alpha_r y is missing": large(s * eps),
                "alpha_r is missing: y_r = alpha_r y + sigma_r eps": large(noisy(y, torch.ones_like(a), s)),
                "sigma_r is missing: y_r = alpha_r y + sigma_r eps": large(noisy(y, a, torch.ones_like(s))),
                "the noise is missing: the network would be shown clean pictures": large(a * y),
                "that is y enlarged, and no noise on it": large(y),
                "alpha_r and sigma_r have changed places": large(noisy(y, s, a)),
                "the mean of each square; yours takes its first pixel": large(noisy(x[..., ::k, ::k], a, s)),
                "the mean of each square; yours is of pixels that lie h / k apart: (h / k, k), not (k, h / k)": large(
                    noisy(x.reshape(b, c, k, h // k, k, w // k).mean((2, 4)), a, s)
                ),
                "the mean of all k × k pixels; bilinear interpolation looks at four at most": large(
                    noisy(F.interpolate(x, scale_factor=1 / k, mode="bilinear"), a, s)
                ),
                "the mean divides by k²; yours by k": large(noisy(squares.sum((3, 5)) / k, a, s)),
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
            if b > 2:
                mistakes |= {
                    "each picture has its own alpha_r and sigma_r; yours takes the first's for all": large(
                        noisy(y, a[:1], s[:1])
                    ),
                    "each picture has its own alpha_r and sigma_r; yours takes the last's for all": large(
                        noisy(y, a[-1:], s[-1:])
                    ),
                    "each picture has its own alpha_r and sigma_r; yours are their means": large(
                        noisy(y, a.mean(), s.mean())
                    ),
                }
            if b == w // k and b > 1:
                mistakes[f"alpha_r and sigma_r run along the width of the pictures: {_COLUMN}"] = large(
                    noisy(y, alpha, sigma)
                )
            expect(
                answer(x, eps, alpha, sigma, k),
                large(noisy(y, a, s)),
                what="what is shown",
                mistakes=mistakes,
                shape_hint=_SHOWN,
            )


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
                "neither 1/2 nor max(0, …) is in your rate": pair(2 * half.sum(), error),
                "the rate is in nats: natural logarithms": pair(rate / math.log(2), error),
                "the rate is in nats: natural logarithms; yours are decimal": pair(rate / math.log(10), error),
                "max(0, …) of each axis, not the size of its logarithm": pair(half.abs().sum(), error),
                "max(0, …), not min: yours keeps the axes below the water": pair(half.clamp(max=0).sum(), error),
                "log(l / tau): (1 + l / tau) belongs to a channel with noise, not to this": pair(
                    (l / level).log1p().sum() / 2, error
                ),
                "the ratio goes into the log: log l - log tau, not log l / log tau": pair(
                    (l.log() / math.log(level) / 2).clamp(min=0).sum(), error
                ),
                "the sign of the rate": pair(-rate, error),
                "tau, not 2 tau: that stands in what is minimised, D / (2 tau) + R": pair(
                    (half - math.log(2) / 2).clamp(min=0).sum(), l.clamp(max=2 * level).sum()
                ),
                "D as it is: D / (2 tau) is its term in what is minimised": pair(rate, error / (2 * level)),
                "min(l, tau) is what is left; yours is what stands above the water": pair(
                    rate, (l - level).clamp(min=0).sum()
                ),
                "min(l, tau): yours is l itself, as if nothing were told": pair(rate, l.sum()),
                "the minimum on each axis, then the sum; yours is of the sum": pair(rate, l.sum().clamp(max=level)),
                "l are variances already, and D is a sum of them: no square": pair(
                    rate, l.clamp(max=level).square().sum()
                ),
                "l are variances already: no root": pair((l.sqrt() / level).log().clamp(min=0).sum() / 2, error),
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
            first, per = batches[0].double(), whole[0].numel()
            weights = torch.tensor(sizes) / sum(sizes)
            of_means = each_mean.mean()

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
                "that is the variance, and divided by one less": pair(mean, whole.var()),
                "that is the mean square, not reduced by the mean's, and its root is missing": pair(
                    mean, whole.square().mean()
                ),
                "the mean square *less* the square of the mean": pair(mean, (whole.square().mean() + mean**2).sqrt()),
                "a deviation is the root of a mean square, not a mean of absolute values": pair(
                    mean, (whole - mean).abs().mean()
                ),
                "divide by how many *numbers* there are: `.numel()`, not `len`, which counts pictures": pair(
                    mean * per, (whole - mean * per).square().sum().div(len(whole)).sqrt()
                ),
                "the mean is right; divide the squares by how many *numbers* there are, too, not pictures": pair(
                    mean, std * math.sqrt(per)
                ),
                "a mean over the pictures' deviations leaves out how their means differ": pair(
                    mean, whole.flatten(1).std(1, correction=0).mean()
                ),
                "that is the root of a sum: divide by how many numbers there are": pair(
                    mean, std * math.sqrt(whole.numel())
                ),
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
                    "the mean is right; a mean of the batches' deviations leaves out how they differ; divide by all": (
                        pair(mean, unbiased.mean())
                    ),
                    "that is the last batch alone, and divided by one less": pair(
                        batches[-1].double().mean(), batches[-1].double().std()
                    ),
                    "the root of the mean variance leaves out how the batches' means differ": pair(
                        mean, each_std.square().mean().sqrt()
                    ),
                    "the root of the mean variance leaves out how the batches' means differ; and divide by all": pair(
                        mean, unbiased.square().mean().sqrt()
                    ),
                    "means over batches, of mean and of variance: sum over all numbers instead": pair(
                        of_means, each_std.square().mean().sqrt()
                    ),
                    "means over batches, of mean and of variance, divided by one less: sum over all numbers": pair(
                        of_means, unbiased.square().mean().sqrt()
                    ),
                    "weighing the batches' deviations by length does not help: their means differ": pair(
                        mean, (weights * each_std).sum()
                    ),
                    "each batch less its *own* mean leaves out how the means differ: take that of all": pair(
                        mean, (weights * each_std.square()).sum().sqrt()
                    ),
                    "that is how the batches' means differ; how numbers differ inside of them is missing": pair(
                        of_means, each_mean.std(correction=0)
                    ),
                    "the mean is not that of all numbers: batches of different length weigh differently": pair(
                        of_means, (whole - of_means).square().mean().sqrt()
                    ),
                    "sums of the batches' means and deviations: one mean and one deviation of all are wanted": pair(
                        each_mean.sum(), each_std.sum()
                    ),
                    "divide by how many numbers there are, not by how many batches": pair(
                        whole.sum() / len(batches), std
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


_OVER_LETTERS = "distances are (n, K): `.argmin(1)`, over the letters, has a number for each row of z"


@exercise(
    "16.quantise",
    "The nearest letter",
    error_hints=dict.fromkeys(("out of bounds", "out of range", "The size of tensor"), _OVER_LETTERS),
)
def _(answer: Answer, draw: Draw) -> None:
    for n, d, K in ((40, 3, 7), (4, 4, 4), (6, 2, 9), (1, 5, 3), (3, 2, 1)):
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
                "a mean of the letters, weighed by distance, is no letter": torch.softmax(-squares.sqrt(), 1)
                @ codebook,
                "the nearest, not the one of most alike direction": codebook[
                    F.cosine_similarity(z[:, None], codebook[None], dim=2).argmax(1)
                ],
                "squares of the differences: yours cancel each other in the sum": codebook[
                    (z[:, None] - codebook[None]).sum(2).argmin(1)
                ],
                "squares of each difference, then the sum; yours is the size of their sum": codebook[
                    (z[:, None] - codebook[None]).sum(2).abs().argmin(1)
                ],
                "|z - e|² = |z|² - 2 z·e + |e|²: the 2 is missing": codebook[
                    (codebook.square().sum(1) - z @ codebook.T).argmin(1)
                ],
                "a letter is a whole row; yours takes each coordinate from another": codebook.gather(
                    0, (z[:, None] - codebook[None]).abs().argmin(1)
                ),
                "that is the distance to the letter, not the letter": squares.amin(1).sqrt()[:, None].expand(n, d),
                "`.argmin()` without the 1 is one number for all; each row has its own nearest": codebook[
                    (squares.argmin() % K).expand(n)
                ],
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
    first, second, third = every.topk(3, largest=False).values.unbind(1)
    chess, next_chess = (x[:, None] - train[None]).abs().amax(2).topk(2, largest=False).values.unbind(1)
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
        "nothing is to be skipped: x is not among the training pictures; yours are second and third": (
            second < ratio * third
        ),
        "d_2 is the second nearest's; yours is the third's": first < ratio * third,
        "the second nearest, not the mean of all others": first < ratio * (every.sum(1) - first) / (every.shape[1] - 1),
        "the second nearest, not the one in the middle": first < ratio * every.median(1).values,
        "the ratio is told: 1/3 is only the usual one": first < second / 3,
        "the ratio as it is, not its square: it compares distances": first < ratio**2 * second,
        "Euclidean distances, not the largest of the differences": chess < ratio * next_chess,
        "sort the distances of each picture: yours are to the first two of train": every[:, 0] < ratio * every[:, 1],
    }


_ROWS = "distances over all pixels: `.flatten(1)` makes a row of each picture, of x and of train"


@exercise(
    "16.copies", "Copies", error_hints=dict.fromkeys(("The size of tensor", "must match", "X1", "at least"), _ROWS)
)
def _(answer: Answer, draw: Draw) -> None:
    for shape, ratio in (((1, 4, 4), 1 / 3), ((3, 3, 2), 0.5), ((6,), 0.25), ((2, 5, 3), 1 / 3)):
        for dtype in BOTH:
            train = 2 * draw.normal(9, *shape, dtype=dtype)
            train[8] = train[0] + 0.15 * train[8]  # two are much alike: what is near to both is a copy of neither
            # From each training picture to another: of a thousand places on the ways those that tell two verdicts apart
            ends = draw.integers(0, 8, 1000), draw.integers(0, 8, 1000)
            s = column(draw.uniform(0.0, 0.5, 1000, dtype=dtype).square() * 2, train[ends[0]])
            x = (1 - s) * train[ends[0]] + s * train[ends[1]]
            every = torch.cdist(x.flatten(1).double(), train.flatten(1).double())
            first, second = every.topk(2, largest=False).values.unbind(1)
            x = x[(first / second - ratio).abs() > 3e-3]  # the others are too near to say
            verdicts = list(_verdicts(x, train, ratio).values())
            apart = [(a != b).nonzero()[:1, 0] for a, b in itertools.combinations(verdicts, 2)]
            x = torch.cat([x[torch.cat(apart)], x])[:160]
            right, *_ = _verdicts(x, train, ratio).values()
            expect(
                answer(x, train, ratio),
                right,
                what="which are copies",
                mistakes={hint: called for hint, called in _verdicts(x, train, ratio).items() if hint},
                shape_hint="True or False for each picture of x, (n,): `.flatten(1)` makes a row of each picture",
            )
    for dtype in BOTH:  # whole numbers, so that no rounding decides: distances 1 and 2, and 0 and 3
        train = torch.tensor([[0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 9]], dtype=dtype).reshape(3, 1, 2, 2)
        x = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]], dtype=dtype).reshape(3, 1, 2, 2)
        expect(
            answer(x, train, 0.5),
            torch.tensor([False, True, False]),
            what="which are copies",
            mistakes={"*less* than the ratio allows: at d_1 = ratio · d_2 it is no copy": torch.tensor([True] * 3)},
        )
