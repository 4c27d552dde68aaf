"""Checks of lesson 09, evaluation."""

from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Tensor

from course_utils import metrics
from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect, numbers
from course_utils.exercises.engine import exercise
from course_utils.exercises.slips import in_float32


def _root(S: Tensor) -> Tensor:
    """The symmetric root of a covariance."""
    values, axes = torch.linalg.eigh(S)
    return (axes * values.clamp(min=0).sqrt()) @ axes.T


def _cross(S: Tensor, R: Tensor) -> Tensor:
    """tr (R^{1/2} S R^{1/2})^{1/2}."""
    return _root(_root(R) @ S @ _root(R)).trace()


_ROWS = "`torch.cov` takes one row a *feature*: hand it `features.T`"


@exercise(
    "09.fid",
    "The Fréchet distance",
    error_hints={
        "mat1 and mat2": _ROWS,
        "The size of tensor": _ROWS,
        "must match": _ROWS,
        "size mismatch": _ROWS,
        "incompatible": _ROWS,
    },
)
def _(answer: Answer, draw: Draw) -> None:
    got, want = [], []
    mistakes: dict[str, list[Tensor]] = {}
    for n, m, d in [(25, 40, 4), (60, 30, 6), (20, 21, 2)]:
        x = draw.normal(n, d, dtype=torch.float64) @ draw.normal(d, d, dtype=torch.float64) + 0.7
        y = draw.normal(m, d, dtype=torch.float64) @ draw.normal(d, d, dtype=torch.float64)
        S, R, apart = torch.cov(x.T), torch.cov(y.T), (x.mean(0) - y.mean(0)).abs()
        means, traces, cross = apart.square().sum(), S.trace() + R.trace(), _cross(S, R)
        n_S, n_R = S * (n - 1) / n, R * (m - 1) / m
        S_2, R_2 = x.T @ x / n, y.T @ y / m
        right = torch.tensor(metrics.fid(x, y), dtype=torch.float64)  # torchmetrics
        value = answer(x, y)
        if isinstance(value, Tensor) and value.is_complex():
            raise Wrong("the distance is a complex number", "`eigvals` answers in complex numbers: take `.real`")
        got.append(value)
        want.append(right)
        for hint, figure in {
            "the cross term wants a factor of two": means + traces - cross,
            "the cross term has a minus: the more the two agree, the nearer they are": means + traces + 2 * cross,
            "S R is not symmetric: `eigvalsh` reads one half of it alone, `torch.linalg.eigvals` all": means
            + traces
            - 2 * torch.linalg.eigvalsh(S @ R).clamp(min=0).sqrt().sum(),
            "S R is not symmetric, and `eigvalsh` is for what is; take `torch.linalg.eigvals`": means
            + traces
            - 2 * torch.linalg.eigvalsh(S @ R).abs().sqrt().sum(),
            "the singular values of S R are not its eigenvalues": means
            + traces
            - 2 * torch.linalg.svdvals(S @ R).sqrt().sum(),
            "the root is missing in the cross term: the eigenvalues of S R, each under a root": means
            + traces
            - 2 * (S @ R).trace(),
            "the root of a trace is not the trace of the root: root each eigenvalue, then add": means
            + traces
            - 2 * (S @ R).trace().sqrt(),
            "tr S^{1/2} R^{1/2} is the cross term only where S and R have the same axes": means
            + traces
            - 2 * (_root(S) @ _root(R)).trace(),
            "the means are missing": traces - 2 * cross,
            "the distance of the means is squared": means.sqrt() + traces - 2 * cross,
            "add up the *squares* of the differences of the means": apart.sum() + traces - 2 * cross,
            "add up over the features, do not average": means / d + traces - 2 * cross,
            "that compares feature by feature: the correlations are lost": means + (x.std(0) - y.std(0)).square().sum(),
            "FID is the squared distance: no root at the end": right.clamp(min=0).sqrt(),
            "divide covariances by n - 1, as `torch.cov` and torchmetrics do": means
            + n_S.trace()
            + n_R.trace()
            - 2 * _cross(n_S, n_R),
            "a product, not a sum: the eigenvalues of S R, each under a root": means
            + traces
            - 2 * torch.linalg.eigvalsh(S + R).sqrt().sum(),
            "tr (S R)^{1/2} is in it; yours compares the covariances entry by entry": means + (S - R).square().sum(),
            "the means are vectors: one for each feature, not one for all": (x.mean() - y.mean()) ** 2
            + traces
            - 2 * cross,
            "that compares the means alone": means,
            "the covariances have a trace each: one is missing": means + S.trace() - 2 * cross,
            "covariances, not correlations: the spread counts": means
            + 2 * d
            - 2 * _cross(torch.corrcoef(x.T), torch.corrcoef(y.T)),
            "the eigenvalues of S R, not the products of those of S and of R": means
            + traces
            - 2 * (torch.linalg.eigvalsh(S) * torch.linalg.eigvalsh(R)).clamp(min=0).sqrt().sum(),
            "one root of the eigenvalues is enough": means
            + traces
            - 2 * torch.linalg.eigvals(S @ R).real.clamp(min=0).sqrt().sqrt().sum(),
            "those are second moments: take the mean off before you square": means
            + S_2.trace()
            + R_2.trace()
            - 2 * _cross(S_2, R_2),
        }.items():
            mistakes.setdefault(hint, []).append(figure)
    found = numbers(got, "the distance")
    if found.isnan().any():
        raise Wrong(
            "the distance is not a number",
            "a root of a negative number: the root of a matrix is not the root of its entries; take the eigenvalues",
        )
    right = torch.stack(want)
    found = torch.where((found - right).abs() <= 1e-4 + 1e-6 * right, right, found)  # roots of small eigenvalues
    wrong = {hint: torch.stack(figures) for hint, figures in mistakes.items()}
    expect(found, right, mistakes=wrong, what="the distance")


@exercise("09.chance", "What chance alone scores")
def _(answer: Answer, draw: Draw) -> None:
    got, want = [], []
    mistakes: dict[str, list[float]] = {}
    for d, n, m in [(1, 50, 80), (3, 200, 100), (5, 40, 1000)]:
        l = draw.uniform(0.2, 3.0, d, dtype=torch.float64)
        want.append(metrics.gaussian_chance_fid(l, n, m))
        got.append(in_float32(answer(l, n, m), torch.tensor(want[-1], dtype=torch.float64)))
        pairs = (l[:, None] * l / (l[:, None] + l)).sum()
        total, both = l.sum(), 1 / n + 1 / m

        def figure(mean: float = 1.0, diagonal: float = 0.25, pair: float = 0.5, chance: float = both) -> float:
            return (chance * ((mean + diagonal) * total + pair * pairs)).item()

        own = l[:, None] * l / (l[:, None] + l) * (1 - torch.eye(d, dtype=l.dtype))
        for hint, value in {
            "the means are missing: they alone give tr S (1/n + 1/m)": figure(mean=0.0),
            "a variance has twice the chance: the delta_ij of (9.5) adds another quarter of tr S": figure(diagonal=0.0),
            "the half in front of the double sum is missing": figure(diagonal=0.5, pair=1.0),
            "half a sum of the l is missing: from the means, or from the pairs i = j": figure(mean=0.5),
            "each pair i, j counts twice, as i, j and as j, i": figure(pair=0.0)
            + (both * (own.sum() / 4 + total / 4)).item(),
            "the chance of both sets counts: 1/n + 1/m": figure(chance=1 / n),
            "1/n + 1/m, not 1/(n + m)": figure(chance=1 / (n + m)),
            "1/n + 1/m, not its root: these are squares already": figure(chance=both**0.5),
            "l are variances already: no root": metrics.gaussian_chance_fid(l.sqrt(), n, m),
            "the double sum runs over all pairs, i = j and both orders among them": figure(pair=0.25),
            "that holds for variances of one: here each has its own": both * (d**2 + 5 * d) / 4,
            "the fraction is upside down: the product stands above the sum": (
                both * (1.25 * total + 0.5 * ((l[:, None] + l) / (l[:, None] * l)).sum())
            ).item(),
            "the double sum runs over all pairs i, j; yours over i alone": both * (1.25 * total + 0.25 * total).item(),
            "1/n + 1/m: the sum of both, not their product": figure(chance=1 / (n * m)),
            "1/n + 1/m: the first set's chance counts, too": figure(chance=1 / m),
            "1/n + 1/m: the sets need not be of one size": figure(chance=2 / n),
            "n and m, not one less: (9.6) counts the samples": figure(chance=1 / (n - 1) + 1 / (m - 1)),
            "brackets: 1/n multiplies as well": 1 / n + figure(chance=1 / m),
            "the sum of the two chances, not their difference": figure(chance=abs(1 / n - 1 / m)),
            "the double sum is a sum, not a mean": (both * (1.25 * total + 0.5 * pairs / d**2)).item(),
            "the covariances have a double sum, too": figure(pair=0.0),
            "the sum of the l is missing: from the means, and a quarter from the variances": figure(
                mean=0.0, diagonal=0.0
            ),
            "l are variances already: no further square": metrics.gaussian_chance_fid(l**2, n, m),
        }.items():
            mistakes.setdefault(hint, []).append(value)
    expect(
        numbers(got, "the chance"),
        torch.tensor(want, dtype=torch.float64),
        what="the chance",
        mistakes={hint: torch.tensor(values, dtype=torch.float64) for hint, values in mistakes.items()},
    )


@exercise(
    "09.interval",
    "An interval that knows about the bias",
    error_hints={
        "quantile() q": "`quantile` takes shares between 0 and 1",
        "same dtype": "hand `quantile` one number at a time, or a tensor of the resamples' dtype",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for count, level, dtype in [(200, 0.95, torch.float64), (150, 0.8, torch.float64), (101, 0.9, torch.float32)]:
        # lopsided, as resampled FIDs are, and far above the value: their own bias
        resampled = 3 + draw.normal(count, dtype=dtype).exp()
        value = draw.number(2.0, 3.0)
        mean, tail = resampled.mean(), (1 - level) / 2

        def pair(low: Tensor, high: Tensor) -> Tensor:
            return torch.stack([low, high])

        q = resampled.quantile
        low, high = q(tail), q(1 - tail)
        half = resampled.std() * NormalDist().inv_cdf(1 - tail)
        right = pair(value - (high - mean), value - (low - mean))
        expect(
            in_float32(answer(value, resampled, level), right),
            right,
            what="the interval",
            mistakes={
                "those are the resamples' own quantiles, and the resamples have twice the bias": pair(low, high),
                "take off the mean of the resamples, not the value: that difference is the bias": pair(
                    2 * value - high, 2 * value - low
                ),
                "the errors change sides: where resamples lie high, the value may have come out high, so the mean lies "
                "*below* it": pair(value + low - mean, value + high - mean),
                "low and high are swapped": pair(value - (low - mean), value - (high - mean)),
                "half of what is left out lies on each side: the quantiles (1 - level) / 2 and (1 + level) / 2": pair(
                    value - (q(level) - mean), value - (q(1 - level) - mean)
                ),
                "one level, two sides: half of what is left out lies on each, (1 - level) / 2": pair(
                    value - (q(1 - tail / 2) - mean), value - (q(tail / 2) - mean)
                ),
                **{
                    "between two resamples the quantile lies on the line between them, as `quantile` has it; yours "
                    f"takes {name}": pair(
                        value - (q(1 - tail, interpolation=how) - mean), value - (q(tail, interpolation=how) - mean)
                    )
                    for how, name in {
                        "lower": "the lower one",
                        "higher": "the higher one",
                        "nearest": "the nearest",
                        "midpoint": "the middle",
                    }.items()
                },
                "the spread of the resamples *is* the error; more resamples would not make more data": pair(
                    value - (high - mean) / count**0.5, value - (low - mean) / count**0.5
                ),
                "resampled FIDs are lopsided: take their quantiles, not their standard deviation": pair(
                    value - half, value + half
                ),
                "level is an argument; yours has 0.95 written into it": pair(
                    value - (q(0.975) - mean), value - (q(0.025) - mean)
                ),
                "that reaches over all resamples: take their quantiles": pair(
                    value - (resampled.max() - mean), value - (resampled.min() - mean)
                ),
                "the two sides differ, as the resamples are lopsided: yours are equally long": pair(
                    value - (high - low) / 2, value + (high - low) / 2
                ),
                "the error counts once, not twice": pair(value - 2 * (high - mean), value - 2 * (low - mean)),
                "the mean of the resamples is not the figure: the interval lies around the value": pair(
                    2 * mean - high, 2 * mean - low
                ),
                "take off the mean of the resamples, not their median": pair(
                    value - (high - resampled.median()), value - (low - resampled.median())
                ),
            },
            shape_hint="two numbers, low and high: `torch.stack([low, high])`",
        )


_KERNEL = "the kernel is a table, (n, m): `features @ reference.T`, over d, plus one, cubed"


@exercise(
    "09.kid",
    "A distance without bias",
    error_hints={
        "mat1 and mat2": _KERNEL,
        "The size of tensor": _KERNEL,
        "must match": _KERNEL,
        "expected a matrix": _KERNEL,
    },
)
def _(answer: Answer, draw: Draw) -> None:
    got, want = [], []
    mistakes: dict[str, list[Tensor]] = {}
    for n, m, d in [(5, 5, 3), (4, 7, 2), (9, 6, 5), (6, 6, 4)]:
        x, y = draw.normal(n, d, dtype=torch.float64) + 0.5, 1.5 * draw.normal(m, d, dtype=torch.float64)
        if d == 4:
            y = x.flip(0)  # the same images twice: the estimate lies below zero, always

        def kernel(a: Tensor, b: Tensor, power: int = 3, over: float = d, plus: float = 1.0) -> Tensor:
            return (a @ b.T / over + plus) ** power

        def distance(k: Callable[..., Tensor] = kernel, x: Tensor = x, y: Tensor = y, own: bool = False) -> Tensor:
            def within(z: Tensor) -> Tensor:
                table = k(z, z)
                return table.mean() if own else (table.sum() - table.trace()) / (len(z) * (len(z) - 1))

            return within(x) + within(y) - 2 * k(x, y).mean()

        right = distance()
        want.append(right)
        got.append(in_float32(answer(x, y), right))
        across = kernel(x, y).mean()
        K, L = kernel(x, x), kernel(y, y)
        off = K.sum() - K.trace(), L.sum() - L.trace()
        for hint, figure in {
            "each image meets itself on the diagonal, and that is the bias: leave the diagonal out": distance(own=True),
            "without the diagonal there are n (n - 1) pairs, not n²": off[0] / n**2 + off[1] / m**2 - 2 * across,
            "the pairs across the sets count twice": right + across,
            "pairs across the sets have a minus: they are near if the sets are alike": right + 4 * across,
            "divide x · y by the number of features": distance(lambda a, b: kernel(a, b, over=1.0)),
            "divide x · y by d, not by its root": distance(lambda a, b: kernel(a, b, over=d**0.5)),
            "the kernel has + 1 in it": distance(lambda a, b: kernel(a, b, plus=0.0)),
            "the kernel is cubed": distance(lambda a, b: kernel(a, b, power=2)),
            "the kernel is cubed; with the first power only the means are compared": distance(
                lambda a, b: kernel(a, b, power=1)
            ),
            "without the diagonal there are n (n - 1) pairs; yours counts half as many": 2
            * (off[0] / (n * (n - 1)) + off[1] / (m * (m - 1)))
            - 2 * across,
            "without bias it may come out below zero, and then it stays there: no clamp, and no `max`": right.clamp(
                min=0
            ),
            "without bias it may come out below zero, and then it stays there: no `abs`": right.abs(),
            "across the sets all n m pairs count, not the n (m - 1) or the diagonal alone": right
            + 2 * across
            - 2 * kernel(x, y).diagonal().mean(),
            "each pair counts twice, as i, j and as j, i": (off[0] / (n * (n - 1)) + off[1] / (m * (m - 1))) / 2
            - 2 * across,
            "brackets: divide by n (n - 1), all of it": off[0] / n * (n - 1) + off[1] / m * (m - 1) - 2 * across,
            "the reference's own pairs count, too": off[0] / (n * (n - 1)) - 2 * across,
            "that compares the reference with itself": 2 * off[1] / (m * (m - 1)) - 2 * (off[1] + L.trace()) / m**2,
            "across the sets there are n m pairs, not n²": right + 2 * across - 2 * kernel(x, y).sum() / n**2,
            "divide x · y by d, do not multiply": distance(lambda a, b: kernel(a, b, over=1 / d)),
            "KID is the squared distance: no root at the end": right.clamp(min=0).sqrt(),
            "averages, not sums: each term over the number of its pairs": off[0] + off[1] - 2 * n * m * across,
            "the two sets have different numbers of pairs: each term over its own": off[0] / (n * (n - 1))
            + off[1] / (n * (n - 1))
            - 2 * across,
            "nothing is left out across the sets: no image meets itself there": right
            + 2 * across
            - 2 * (kernel(x, y).sum() - kernel(x, y).diagonal().sum()) / (n * m - min(n, m)),
        }.items():
            mistakes.setdefault(hint, []).append(figure)
    expect(
        numbers(got, "KID"),
        torch.stack(want),
        what="KID",
        mistakes={hint: torch.stack(figures) for hint, figures in mistakes.items()},
    )


@exercise(
    "09.precision",
    "Precision",
    error_hints={
        "selected index k out of range": "there are as many distances as reference images: k + 1 of them at most",
        "The size of tensor": "`torch.cdist(samples, reference)` is (n, m): a radius for each column",
        "must match": "`torch.cdist(samples, reference)` is (n, m): a radius for each column",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    got, want = [], []
    mistakes: dict[str, list[float]] = {}
    for n, m, d, k in [(40, 60, 2, 1), (60, 35, 2, 3), (45, 45, 1, 2), (50, 50, 2, 2)]:
        reference = draw.normal(m, d, dtype=torch.float64)
        samples = 1.3 * draw.normal(n, d, dtype=torch.float64) + 0.5
        got.append(answer(samples, reference, k))
        found = metrics.precision_recall(samples, reference, k=k)
        want.append(found.precision)
        table, own = torch.cdist(samples, reference), torch.cdist(reference, reference).sort(1).values
        among = torch.cdist(samples, samples).sort(1).values[:, k]

        def inside(radius: Tensor | float, table: Tensor = table) -> float:
            return (table <= radius).any(1).double().mean().item()

        closest, which = table.min(1)
        for hint, figure in {
            "balls around real images, samples that lie in them; yours is the other way round: recall": found.recall,
            "an image is its own nearest neighbour: the k-th *other* one stands at place k of the sorted row": inside(
                own[:, k - 1]
            ),
            "counted from 0 with the image itself at place 0, the k-th neighbour is at place k, not k + 1": inside(
                own[:, k + 1]
            ),
            "a sample may lie in any ball; yours looks only at that of the nearest image": (closest <= own[which, k])
            .double()
            .mean()
            .item(),
            "each image has a radius of its own; yours gives all the average one": inside(own[:, k].mean()),
            "one ball is enough: `any`, not `all`": (table <= own[:, k]).all(1).double().mean().item(),
            "a sample that lies in several balls counts once: that is the density": found.density,
            "that is the share of balls that hold a sample: the coverage": found.coverage,
            "the radii belong to the real images, not to the samples": (table <= among[:, None])
            .any(1)
            .double()
            .mean()
            .item(),
            "the radius is the distance to the k-th neighbour, not the mean of the first k": inside(
                own[:, 1 : k + 1].mean(1)
            )
            if k > 1
            else inside(own[:, 1]),
            "compare distances with distances: one of yours is squared": inside(own[:, k].square()),
            "that is the share of samples outside": 1 - found.precision,
            "each image has a radius of its own; yours gives all the largest": inside(own[:, k].max()),
            "each image has a radius of its own; yours gives all the middle one": inside(own[:, k].median()),
            "k is an argument; yours takes the nearest neighbour": inside(own[:, 1]),
            "k is an argument; yours takes the third neighbour": inside(own[:, 3]),
            "a share of samples: `any` over the balls first; yours averages over all pairs": (
                (table <= own[:, k]).double().mean().item()
            ),
            "compare distances with distances: yours squares one side": (table.square() <= own[:, k])
            .any(1)
            .double()
            .mean()
            .item(),
            "sort each image's distances first: yours takes the distance to image number k": inside(
                torch.cdist(reference, reference)[:, k]
            ),
            "the k-th smallest distance, not the k-th largest": inside(own.flip(1)[:, k]),
            "the distance is Euclid's: `torch.cdist` as it is": (
                torch.cdist(samples, reference, p=1) <= torch.cdist(reference, reference, p=1).sort(1).values[:, k]
            )
            .any(1)
            .double()
            .mean()
            .item(),
            "a share, not a count: divide by the number of samples": found.precision * n,
            "divide by the number of samples, not of real images": found.precision * n / m,
        }.items():
            mistakes.setdefault(hint, []).append(figure)
    expect(
        numbers(got, "the precision").float(),  # a share of a few dozen images: float32 will do, for learners too
        torch.tensor(want, dtype=torch.float32),
        what="the precision",
        mistakes={hint: torch.tensor(values, dtype=torch.float32) for hint, values in mistakes.items()},
    )
    # Radii 1, 1, 2 and 4 around 0, 1, 3 and 7: samples on the edge of a ball are in it, and one of them in two balls.
    reference = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    samples = torch.tensor([[-1.0], [5.0], [11.0], [12.0], [3.0]], dtype=torch.float64)
    expect(
        numbers([answer(samples, reference, 1)], "the precision").float(),
        torch.tensor([0.8]),
        what="the precision of samples on the edge of a ball",
        mistakes={"a ball's edge belongs to it: a distance equal to the radius is inside, `<=`": torch.tensor([0.4])},
    )
    # Radii 0, 0, 3 and 4 around two twins at 0, and 3 and 7: a twin is another picture, and a neighbour at distance 0.
    reference = torch.tensor([[0.0], [0.0], [3.0], [7.0]], dtype=torch.float64)
    samples = torch.tensor([[-1.0], [0.0], [-2.0], [9.0]], dtype=torch.float64)
    expect(
        numbers([answer(samples, reference, 1)], "the precision").float(),
        torch.tensor([0.5]),
        what="the precision where two real pictures are alike",
        mistakes={
            "a picture is no neighbour of its own, but its twin is one, at distance 0: leave out the picture, not the "
            "distance 0": torch.tensor([1.0])
        },
    )
