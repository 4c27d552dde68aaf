"""Checks of lesson 13, learned steps."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect
from course_utils.exercises.engine import exercise
from course_utils.samplers.step_selection import best_path, greedy_path, to_times

_PAIRS = "one axis for the jump's start, one for its end: `snr[None, :] - snr[:, None]` is (T, T), start first"


def _no_nan(got: Any, hint: str) -> None:
    if isinstance(got, Tensor) and got.isnan().any():
        raise Wrong("it has NaN in it", hint)


@exercise(
    "13.jump_costs",
    "What every jump costs",
    error_hints={"The size of tensor": _PAIRS, "must match": _PAIRS, "out of range": _PAIRS},
)
def _(answer: Answer, draw: Draw) -> None:
    for T, dtype in [(6, torch.float64), (9, torch.float32), (4, torch.float64), (1, torch.float64)]:
        snr = draw.uniform(0.1, 20.0, T, dtype=dtype).sort(descending=True).values
        mse, dims = draw.uniform(0.05, 1.0, T, dtype=dtype), 2 * int(draw.integers(1, 25)) + T % 2  # odd ones, too
        told = snr[None, :] - snr[:, None]
        backwards = torch.arange(T)[None, :] >= torch.arange(T)[:, None]

        def matrix(costs: Tensor, wall: Tensor = backwards) -> Tensor:
            return costs.masked_fill(wall, math.inf)

        gain = told.clamp(min=0) * mse[:, None]
        right = matrix(dims / 2 * torch.log1p(gain))
        ratio = (snr[None, :] / snr[:, None]).clamp(min=1)
        got = answer(snr, mse, dims)
        _no_nan(got, "where s >= t the logarithm may meet a negative number: put infinity there, last of all")
        expect(
            got,
            right,
            what="the matrix of costs",
            mistakes={
                "the error is the denoiser's at the start of the jump, mse[:, None]; yours is that of its end": matrix(
                    dims / 2 * torch.log1p(told.clamp(min=0) * mse[None, :])
                ),
                "that is the cost with the posterior's variance: the optimal one takes the logarithm": matrix(
                    dims / 2 * gain
                ),
                "a half is missing in front": matrix(dims * torch.log1p(gain)),
                "that is one pixel's cost: an image has `dims` of them": matrix(torch.log1p(gain) / 2),
                "1 + … stands inside the logarithm; without it a jump of no length would cost minus infinity": matrix(
                    dims / 2 * gain.log()
                ),
                "in nats, so `torch.log`; yours are bits": matrix(dims / 2 * torch.log2(1 + gain)),
                "rows are where a jump starts, columns where it ends; yours is transposed": right.T,
                "the diagonal is no jump: infinite, as above it": right.masked_fill(
                    torch.eye(T, dtype=torch.bool), 0.0
                ),
                "a jump that is not allowed costs infinity; yours costs nothing there": right.masked_fill(
                    backwards, 0.0
                ),
                "the difference of the SNRs, not their ratio": matrix(dims / 2 * torch.log1p(ratio * mse[:, None])),
                "the difference of the SNRs themselves, not of their logarithms": matrix(
                    dims / 2 * torch.log1p(ratio.log() * mse[:, None])
                ),
                "the error stands under the logarithm, beside the difference of the SNRs; yours is outside": (
                    matrix(dims / 2 * (1 + told.clamp(min=0)).log() * mse[:, None])
                ),
                "what is no jump costs infinity, not just much": torch.nan_to_num(right, posinf=1e9),
                "that is the price of the jump onto the neighbour; the table has all jumps": right.masked_fill(
                    torch.ones_like(right).tril(-2).bool(), math.inf
                ),
                "a price is positive: the sign": -right.masked_fill(backwards, -math.inf),
                "the error is squared already: no root": matrix(
                    dims / 2 * torch.log1p(told.clamp(min=0) * mse[:, None].sqrt())
                ),
                "each start has its own error; yours all have the average": matrix(
                    dims / 2 * torch.log1p(told.clamp(min=0) * mse.mean())
                ),
                "the difference of the SNRs, without a root": matrix(
                    dims / 2 * torch.log1p(told.clamp(min=0).sqrt() * mse[:, None])
                ),
                "the error is missing: the logarithm of the ratio of the SNRs is another number": matrix(
                    dims / 2 * ratio.log()
                ),
                "half of `dims`, which may be odd: `/`, not `//`": matrix((dims // 2) * torch.log1p(gain)),
                "a jump goes to an earlier time: where s >= t there is none, whatever the size of the difference": (
                    dims / 2 * torch.log1p(told.abs() * mse[:, None])
                ),
                "in log10: the natural logarithm is `torch.log`": matrix(dims / 2 * (1 + gain).log10()),
                "the error is squared already": matrix(dims / 2 * torch.log1p(told.clamp(min=0) * mse[:, None] ** 2)),
            }
            if T > 1
            else {},
            shape_hint=_PAIRS,
        )


def _random_costs(draw: Draw, T: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Any numbers below the diagonal, infinity on it and above."""
    costs = draw.uniform(0.5, 3.0, T + 1, T + 1, dtype=dtype)
    return costs.masked_fill(torch.ones_like(costs).triu().bool(), math.inf)


@exercise(
    "13.one_more_step",
    "One more step",
    error_hints={
        "The size of tensor": "best has one entry for each time, as each row of costs has: they add up as they are",
        "must match": "best has one entry for each time, as each row of costs has: they add up as they are",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for T, dtype in [(7, torch.float64), (5, torch.float32), (11, torch.float64)]:
        costs = _random_costs(draw, T, dtype)
        best = draw.uniform(0.5, 4.0, T + 1, dtype=dtype)
        best[0] = math.inf
        both = costs + best
        right = both.min(1).values
        got = answer(costs, best)
        if isinstance(got, tuple):
            raise Wrong("it returned a tuple", "`.min(1)` gives values and places; `.values` alone is asked for")
        _no_nan(got, "infinity minus infinity is NaN: costs are only ever added here")
        if isinstance(got, Tensor) and not got.is_floating_point():
            raise Wrong("the new table holds whole numbers", "the prices, not where they are found: `.values`")
        expect(
            got,
            right,
            what="the new table",
            mistakes={
                "the rest of the way begins where the jump ends: add best along the columns, as it is": (
                    costs + best[:, None]
                )
                .min(1)
                .values,
                "the smallest of each row, over where the jump may end; yours is over where it starts": both.min(
                    0
                ).values,
                "the jump itself has a price too: costs[t, s]": best.expand(T + 1, -1)
                .masked_fill(costs.isinf(), math.inf)
                .min(1)
                .values,
                "the rest of the way has a price too: best[s]": costs.min(1).values,
                "no jump starts from clean data: with one step or more B(0) is infinite, not 0": torch.cat(
                    [torch.zeros_like(right[:1]), right[1:]]
                ),
                "`best` comes as it is, with infinity at 0: nothing is set to 0 there": (
                    costs + torch.cat([0 * best[1:2], best[1:]])
                )
                .min(1)
                .values,
                "a jump may be as long as it likes: yours go to the neighbour alone": torch.cat(
                    [right[:1], costs.diagonal(-1) + best[:-1]]
                ),
                "costs[:, 0] is the jump to the end, at once; with one more step it goes by way of s": costs[:, 0]
                + best,
                "rows are where a jump starts: yours is transposed": (costs.T + best).min(1).values,
                "where there is no way the price is infinite: leave it so": torch.nan_to_num(right, posinf=1e9),
                "prices add up, they are not multiplied": (costs * best).min(1).values,
                "exactly k steps: a table that keeps the shorter way mixes lengths": torch.minimum(right, best),
                "the cheapest, not the dearest: infinity would always win": both.max(1).values,
                "that is a soft minimum; a hard one is asked for": -torch.logsumexp(-both, 1),
                "that is the cheapest jump, and then the rest from wherever it ends: the sum has to be smallest": (
                    both.gather(1, costs.argmin(1, keepdim=True)).squeeze(1)
                ),
                "that is the cheapest rest, and then the jump to it: the sum has to be smallest": (
                    both.gather(
                        1,
                        best.expand(T + 1, -1).masked_fill(costs.isinf(), math.inf).argmin(1, keepdim=True),
                    ).squeeze(1)
                ),
            },
            shape_hint="one number for each t = 0 … T",
        )


def _as_times(got: Any) -> Any:
    """A list of whole numbers, or a tensor of any whole kind, as the tensor that it means."""
    if isinstance(got, list | tuple) and all(
        isinstance(t, int) or (isinstance(t, Tensor) and t.ndim == 0) for t in got
    ):
        got = torch.tensor([t.item() if isinstance(t, Tensor) else t for t in got])
    if isinstance(got, Tensor) and (got.is_floating_point() or got.is_complex()):
        raise Wrong("the times should be whole numbers", "a time is a place in the table: keep an integer dtype")
    return got.long() if isinstance(got, Tensor) else got


def _judge(cases: list[tuple[Any, Tensor, dict[str, Tensor]]], what: str, shape_hint: str) -> None:
    """Several answers against what was wanted and the mistakes of each, all at once.

    By chance two mistakes may lead to one grid, and hardly ever to the same ones six times.
    """
    for got, right, mistakes in cases:
        if not isinstance(got, Tensor) or got.shape != right.shape:
            expect(got, right, what=what, mistakes=mistakes, shape_hint=shape_hint)
    _, first, hints = cases[0]
    expect(
        torch.cat([got for got, _, _ in cases]),
        torch.cat([right for _, right, _ in cases]),
        what=what,
        mistakes={
            hint: torch.cat([mistakes[hint] for _, _, mistakes in cases])
            for hint, mistake in hints.items()
            if mistake.shape == first.shape
        },
    )


def _forwards(costs: Tensor, n: int) -> list[int]:
    """From T on the cheapest next jump, as long as enough times are left below."""
    grid = [len(costs) - 1]
    for left in range(n - 1, 0, -1):
        grid.append(int(costs[grid[-1], left : grid[-1]].argmin()) + left)
    return [*grid, 0]


def _wrong_table_order(costs: Tensor, n: int) -> list[int]:
    """The right tables, read from the first to the last."""
    best, tables = costs[:, 0], []
    for _ in range(n - 1):
        best, choice = (costs + best).min(1)
        tables.append(choice)
    grid = [len(costs) - 1]
    for choice in tables:
        grid.append(int(choice[grid[-1]]))
    return [*grid, 0]


@exercise(
    "13.best_path",
    "The best grid",
    error_hints={
        "out of bounds": "costs has T + 1 rows: T is `len(costs) - 1`",
        "converted to": "follow one time only, from T: `int(choice[t])`",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for T, n in [(12, 5), (10, 3), (9, 2), (7, 1), (6, 6)]:
        cases = [(answer(costs, n), *_paths(costs, n)) for costs in (_random_costs(draw, T) for _ in range(6))]
        cases = [(_as_times(got), right, mistakes) for got, right, mistakes in cases]
        _judge(cases, "the path", "n steps are n + 1 times, T first and 0 last")


def _paths(costs: Tensor, n: int) -> tuple[Tensor, dict[str, Tensor]]:
    T = len(costs) - 1
    right = torch.tensor(best_path(costs, n).timesteps)
    every = [best_path(costs, k) for k in range(1, T + 1)]
    any_length = min(every, key=lambda path: path.cost).timesteps
    dearest = best_path((10 - costs).masked_fill(costs.isinf(), math.inf), n).timesteps
    mistakes = {
        "a grid falls, from T to 0; yours rises": right.flip(0),
        "the last time, 0, is missing": right[:-1],
        "the first time, T, is missing": right[1:],
        "follow the table of the last round first: from T there are n steps left": torch.tensor(
            _wrong_table_order(costs, n)
        ),
        "always the cheapest next jump is not the cheapest path: what is cheap now may lead to a dear place": (
            torch.tensor(_forwards(costs, n))
        ),
        "taking times away one by one does not lead to the cheapest path; keep a table for each number of "
        "steps": torch.tensor(greedy_path(costs, n).timesteps),
        "exactly n steps: yours is the cheapest path of any length": torch.tensor(any_length),
        "that is the dearest path": torch.tensor(dearest),
        "those are the first times, one by one, whatever the costs": torch.tensor([*range(T, T - n, -1), 0]),
        "those are the last times, one by one, whatever the costs": torch.tensor([T, *range(n - 1, -1, -1)]),
        "that grid is evenly spaced, whatever the costs": torch.linspace(T, 0, n + 1).round().long(),
    }
    if n < T:
        mistakes["n steps are n + 1 times; yours has one step too many"] = torch.tensor(every[n].timesteps)
    if n > 1:
        mistakes["n steps are n + 1 times; yours has one step too few"] = torch.tensor(every[n - 2].timesteps)
    return right, mistakes


@exercise(
    "13.remove_one",
    "The step that is missed least",
    error_hints={
        "The size of tensor": "every inner time has one before and one after: `grid[:-2]`, `grid[1:-1]`, `grid[2:]`",
        "must match": "every inner time has one before and one after: `grid[:-2]`, `grid[1:-1]`, `grid[2:]`",
        "out of bounds": "grid[1:-1] are the inner times: number i among them is number i + 1 of the grid",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for T, n in [(14, 9), (10, 4), (9, 9), (6, 2)]:
        cases = []
        for _ in range(6):
            inner = draw.distinct(1, T - 1, n - 1).sort(descending=True).values
            grid, costs = torch.cat([torch.tensor([T]), inner, torch.tensor([0])]), _random_costs(draw, T)
            cases.append((_as_times(answer(costs, grid)), *_shorter(costs, grid)))
        _judge(cases, "the shorter grid", "one time fewer than before")


def _shorter(costs: Tensor, grid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    before, here, after = grid[:-2], grid[1:-1], grid[2:]
    skip, first, second = costs[before, after], costs[before, here], costs[here, after]

    def without(place: Tensor, grid: Tensor = grid) -> Tensor:
        i = int(place) + 1
        return torch.cat([grid[:i], grid[i + 1 :]])

    missed = skip - first - second
    right = without(missed.argmin())
    return right, {
        "that is the time which is missed most": without(missed.argmax()),
        "what the two short jumps cost falls away when the long one comes: subtract both": without(skip.argmin()),
        "the long jump that takes their place has its price too: costs[before, after]": without(
            (first + second).argmax()
        ),
        "that throws out the cheapest pair of jumps, whatever takes their place": without((first + second).argmin()),
        "two jumps fall away, to the time and from it; yours forgets the one from it": without((skip - first).argmin()),
        "two jumps fall away, to the time and from it; yours forgets the one to it": without((skip - second).argmin()),
        "what falls away is taken off the long jump's price, not added": without((skip + first + second).argmin()),
        "the long jump's price and what it saves: costs[before, after] first, and minus both": without(
            (first - skip).argmin()
        ),
        "not the shortest jump goes, but the time that is missed least": without(first.argmin()),
        "the middle of the grid goes in yours, whatever the costs": without(torch.tensor((len(grid) - 2) // 2)),
        "the inner times begin at place 1 of the grid: yours is one too late": torch.cat(
            [grid[: int(missed.argmin()) + 2], grid[int(missed.argmin()) + 3 :]]
        )
        if int(missed.argmin()) + 2 < len(grid)
        else grid[:-1],
        "a grid falls, from T to 0; yours rises": right.flip(0),
        "a difference, not a ratio: the bound is a sum": without((skip / (first + second)).argmin()),
        "the first time, T, has to stay": grid[1:],
        "the last time, 0, has to stay": grid[:-1],
        "the inner times begin at place 1 of the grid: yours is off by one": torch.cat(
            [grid[: int(missed.argmin())], grid[int(missed.argmin()) + 1 :]]
        ),
        "return the grid that is left, not the time that goes": here[missed.argmin()],
        "exactly one time goes": grid,
    }


@exercise(
    "13.times",
    "Times that cannot cross",
    error_hints={"The size of tensor": "n gaps make n + 1 times", "must match": "n gaps make n + 1 times"},
)
def _(answer: Answer, draw: Draw) -> None:
    for n, dtype in [(5, torch.float64), (8, torch.float32), (2, torch.float64), (1, torch.float64)]:
        theta = 1.5 * draw.normal(n, dtype=dtype)
        theta = torch.cat([theta[:2].sort().values, theta[2:]])  # so that the first times of a sigmoid would cross
        one, zero = theta.new_ones(1), theta.new_zeros(1)
        gaps, right = torch.softmax(theta, 0), to_times(theta)
        free = theta.exp()
        got = answer(theta)
        expect(
            got,
            right,
            what="the times",
            mistakes={
                "they should fall, from 1 to 0; yours rise": torch.cat([zero, gaps.cumsum(0)]),
                "the first gap is the first step, the one that leaves the noise; yours are in reverse": torch.cat(
                    [one, 1 - gaps.flip(0).cumsum(0)]
                ),
                "the first time, 1, is missing": right[1:],
                "the last time, 0, is missing": right[:-1],
                "those are the gaps: add them up": gaps,
                "exp makes the gaps positive; divided by their sum they also add up to 1": torch.cat(
                    [one, 1 - free.cumsum(0)]
                ),
                "nothing keeps these gaps positive: softmax does": torch.cat([one, 1 - theta.cumsum(0)]),
                "each time by a sigmoid of its own may cross its neighbour: make the *gaps* positive": torch.cat(
                    [one, torch.sigmoid(theta[:-1]), zero]
                ),
                "sorting repairs the order after it was broken; gaps that are positive never break it": torch.cat(
                    [one, torch.sigmoid(theta[:-1]).sort(descending=True).values, zero]
                ),
                "squares may be zero, and their gradient vanishes there; the course takes softmax": torch.cat(
                    [one, 1 - (theta.square() / theta.square().sum()).cumsum(0)]
                ),
                "the times themselves are no softmax: their differences are": torch.cat(
                    [one, gaps.sort(descending=True).values]
                ),
                "a softmax takes theta as it is: the sign": to_times(-theta),
                "a softmax takes theta as it is: no factor in it": to_times(2 * theta),
                "times go from 1 to 0 here, not from T": 1000 * right,
                "gaps are taken off, the shares that are left are not multiplied": torch.cat(
                    [one, (1 - gaps).cumprod(0)]
                ),
                "that makes a time a product of sigmoids; (13.11) has a softmax": torch.cat(
                    [one, torch.sigmoid(theta).cumprod(0)]
                ),
                "the last time is 0 itself: no clamp": right.clamp(min=1e-3),
                "softmax, not its logarithm": torch.cat([one, 1 - torch.log_softmax(theta, 0).cumsum(0)]),
                "each gap is taken off the time before: `cumsum` is missing": torch.cat([one, 1 - gaps]),
                "nothing keeps these gaps positive: theta over its sum may be below 0": torch.cat(
                    [one, 1 - (theta / theta.sum()).cumsum(0)]
                ),
                "softplus makes gaps positive, too; the course takes softmax": torch.cat(
                    [one, 1 - (softplus(theta) / softplus(theta).sum()).cumsum(0)]
                ),
                "absolute values may be zero, and have a kink there; the course takes softmax": torch.cat(
                    [one, 1 - (theta.abs() / theta.abs().sum()).cumsum(0)]
                ),
                "evenly spaced, whatever theta: the gaps come from it": torch.linspace(1, 0, n + 1, dtype=dtype),
                "the gaps must add up to 1: each by a sigmoid of its own do not": torch.cat(
                    [one, 1 - torch.sigmoid(theta).cumsum(0)]
                ),
            }
            if n > 1
            else {},
            shape_hint="n gaps make n + 1 times, 1 first and 0 last",
        )
    theta = 1.5 * draw.normal(6, dtype=torch.float64)
    pull = draw.normal(7, dtype=torch.float64)
    leaf = theta.clone().requires_grad_(True)
    (want,) = torch.autograd.grad((to_times(leaf) * pull).sum(), leaf)
    expect(answer.gradient(theta, wrt=0, cotangent=pull), want, what="the gradient of the times with respect to theta")
