"""Paths through the matrix of costs: the cheapest of each length, and greedy ones to compare with."""

import itertools
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import SOME, AllIn, Whole, checked
from course_utils._contract.times import Grid, numbers

Costs = Annotated[Float[Tensor, "levels levels"], SOME, AllIn("(-inf, inf]")]
"""Of the jump from t to s at [t, s], t and s from 0 to T; infinite where there is no jump."""
Steps = Annotated[int, Whole(1, lambda costs: len(costs) - 1, "the times to step to")]


class Path(NamedTuple):
    """A grid, and what it costs."""

    timesteps: list[int]  # falling from T to 0
    cost: float  # nats an image, without the prior's


@checked
def path_cost(costs: Costs, timesteps: Grid) -> float:
    """The sum of a grid's jumps, in nats an image."""
    T = len(costs) - 1
    if timesteps[0] > T:
        raise ValueError(f"timesteps: wanted times from {T} to 0, got {timesteps[0]}")
    return sum(costs[t, s].item() for t, s in itertools.pairwise(map(int, numbers(timesteps))))


@checked
def best_paths(costs: Costs, most: Steps) -> list[Path]:
    """The cheapest grid from T to 0 of each length, 1, 2, … `most` steps, by dynamic programming.

    best_1(t) = costs[t, 0],  best_k(t) = min over s < t of  costs[t, s] + best_{k-1}(s)    (Watson et al. 2021, Alg. 1)

    One round is T² additions, all in one tensor; it serves every time t at once, and every length k on the way.
    """
    T = len(costs) - 1
    best, next_time, totals = costs[:, 0], [], [costs[T, 0].item()]
    for _ in range(most - 1):
        best, choice = (costs + best).min(dim=1)
        next_time.append(choice)
        totals.append(best[T].item())
    paths = []
    for k, total in enumerate(totals):
        grid = [T]
        for choice in reversed(next_time[:k]):
            grid.append(int(choice[grid[-1]]))
        paths.append(Path([*grid, 0], total))
    return paths


@checked
def best_path(costs: Costs, n: Steps) -> Path:
    """The cheapest grid of n steps from T to 0; see `best_paths`."""
    return best_paths(costs, n)[-1]


@checked
def greedy_path(costs: Costs, n: Steps) -> Path:
    """A grid of n steps by taking times away from T, T - 1, … 0, always the one that is missed least.

    A baseline: what was taken away never comes back, so the grids of different n are nested and not the best ones.
    """
    T = len(costs) - 1
    grid = torch.arange(T, -1, -1, device=costs.device)
    while len(grid) > n + 1:
        before, here, after = grid[:-2], grid[1:-1], grid[2:]
        missed = costs[before, after] - costs[before, here] - costs[here, after]
        i = int(missed.argmin()) + 1
        grid = torch.cat([grid[:i], grid[i + 1 :]])
    timesteps = grid.tolist()
    return Path(timesteps, path_cost(costs, timesteps))


@checked
def prune(
    timesteps: Grid,
    loss: Callable[[list[int | float]], float],
    n: Annotated[int, Whole(1, lambda timesteps: len(timesteps) - 1, "as many steps as the grid has")],
) -> list[int | float]:
    """A grid of n steps by taking times away from `timesteps`, always the one without which `loss(grid)` is smallest.

    The same greedy idea for any measure, such as the distance to a teacher. A grid of m steps asks for m - 1 losses.
    """
    grid = list(timesteps)
    while len(grid) > n + 1:
        grid = min((grid[:i] + grid[i + 1 :] for i in range(1, len(grid) - 1)), key=loss)
    return grid
