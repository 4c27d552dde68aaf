"""Answers to the exercises of lesson 13."""

import itertools
import math

import torch

from answers import right, wrong


def masked(costs):
    return costs.masked_fill(torch.ones_like(costs).triu().bool(), math.inf)


# --- 13.jump_costs ---------------------------------------------------------------------------------------------------


@right("13.jump_costs")
def jump_costs(snr, mse, dims):
    told = snr[None, :] - snr[:, None]
    costs = dims / 2 * torch.log(1 + told.clamp(min=0) * mse[:, None])
    return costs.masked_fill(torch.ones_like(costs).triu().bool(), math.inf)


@right("13.jump_costs")
def jump_costs_where(snr, mse, dims):
    told = snr - snr.reshape(-1, 1)
    return torch.where(told > 0, (1 + told * mse.reshape(-1, 1)).log() * dims / 2, torch.inf)


@right("13.jump_costs")
def jump_costs_loop(snr, mse, dims):
    costs = torch.full((len(snr), len(snr)), math.inf, dtype=snr.dtype)
    for t, s in itertools.product(range(len(snr)), repeat=2):
        if s < t:
            costs[t, s] = 0.5 * dims * torch.log1p((snr[s] - snr[t]) * mse[t])
    return costs


def told(snr):
    return (snr[None, :] - snr[:, None]).clamp(min=0)


@wrong("13.jump_costs", "yours is that of its end")
def jump_costs_error_of_the_end(snr, mse, dims):
    return masked(dims / 2 * torch.log1p(told(snr) * mse))


@wrong("13.jump_costs", "the posterior's variance")
def jump_costs_posterior(snr, mse, dims):
    return masked(dims / 2 * told(snr) * mse[:, None])


@wrong("13.jump_costs", "put infinity there, last of all")
def jump_costs_nan(snr, mse, dims):
    return torch.log(1 + 100 * (snr[None, :] - snr[:, None]) * mse[:, None]) * dims / 2


@wrong("13.jump_costs", "is (T, T), start first")
def jump_costs_one_step(snr, mse, dims):
    return dims / 2 * torch.log1p((snr[:-1] - snr[1:]) * mse[1:])


@wrong("13.jump_costs", "in place")
def jump_costs_in_place(snr, mse, dims):
    mse *= dims / 2
    return masked(told(snr) * mse[:, None])


# --- 13.one_more_step ------------------------------------------------------------------------------------------------


@right("13.one_more_step")
def one_more_step(costs, best):
    return (costs + best).min(1).values


@right("13.one_more_step")
def one_more_step_amin(costs, best):
    return torch.amin(costs + best[None, :], dim=-1)


@right("13.one_more_step")
def one_more_step_loop(costs, best):
    return torch.stack([torch.stack([row[s] + best[s] for s in range(len(best))]).min() for row in costs])


@wrong("13.one_more_step", "begins where the jump ends")
def one_more_step_start(costs, best):
    return (costs + best[:, None]).min(1).values


@wrong("13.one_more_step", "yours is over where it starts")
def one_more_step_columns(costs, best):
    return (costs + best).min(0).values


@wrong("13.one_more_step", "`.values` alone")
def one_more_step_pair(costs, best):
    return tuple((costs + best).min(1))


@wrong("13.one_more_step", "not where they are found")
def one_more_step_places(costs, best):
    return (costs + best).argmin(1)


@wrong("13.one_more_step", "one number for each t")
def one_more_step_inner(costs, best):
    return (costs[1:, 1:] + best[1:]).min(1).values


@wrong("13.one_more_step", "in place")
def one_more_step_in_place(costs, best):
    costs += best
    return costs.min(1).values


# --- 13.best_path ----------------------------------------------------------------------------------------------------


def tables(costs, n):
    best, found = costs[:, 0], []
    for _ in range(n - 1):
        best, choice = (costs + best).min(1)
        found.append(choice)
    return found


@right("13.best_path")
def best_path(costs, n):
    best, choices = costs[:, 0], []
    for _ in range(n - 1):
        best, choice = (costs + best).min(1)
        choices.append(choice)
    path = [len(costs) - 1]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return torch.tensor([*path, 0])


@right("13.best_path")
def best_path_as_a_list(costs, n):
    return best_path(costs, n).tolist()


@right("13.best_path")
def best_path_by_brute_force(costs, n):
    T = len(costs) - 1
    paths = [(T, *inner, 0) for inner in itertools.combinations(range(T - 1, 0, -1), n - 1)]
    return torch.tensor(min(paths, key=lambda path: sum(costs[t, s] for t, s in itertools.pairwise(path))))


@right("13.best_path")
def best_path_from_the_noise(costs, n):
    T = len(costs) - 1
    ways = {T: (0.0, [T])}
    for _ in range(n - 1):
        found = {}
        for t, (price, way) in ways.items():
            for s in range(1, t):
                if s not in found or price + costs[t, s] < found[s][0]:
                    found[s] = price + costs[t, s], [*way, s]
        ways = found
    return torch.tensor([*min(ways.items(), key=lambda item: item[1][0] + costs[item[0], 0])[1][1], 0])


@wrong("13.best_path", "yours rises")
def best_path_rising(costs, n):
    return best_path(costs, n).flip(0)


@wrong("13.best_path", "0, is missing")
def best_path_without_zero(costs, n):
    return best_path(costs, n)[:-1]


@wrong("13.best_path", "T, is missing")
def best_path_without_T(costs, n):
    return best_path(costs, n)[1:]


@wrong("13.best_path", "one step too many")
def best_path_too_long(costs, n):
    return best_path(costs, min(n + 1, len(costs) - 1))


@wrong("13.best_path", "one step too few")
def best_path_too_short(costs, n):
    return best_path(costs, max(n - 1, 1))


@wrong("13.best_path", "the last round first")
def best_path_tables_in_order(costs, n):
    path = [len(costs) - 1]
    for choice in tables(costs, n):
        path.append(int(choice[path[-1]]))
    return torch.tensor([*path, 0])


@wrong("13.best_path", "of any length")
def best_path_any_length(costs, n):
    T = len(costs) - 1
    paths = [best_path(costs, k) for k in range(1, T + 1)]
    return min(paths, key=lambda p: sum(costs[t, s] for t, s in itertools.pairwise(p.tolist())))


@wrong("13.best_path", "follow one time only")
def best_path_all_times_at_once(costs, n):
    path = [torch.arange(len(costs))]
    for choice in reversed(tables(costs, n)):
        path.append(choice[path[-1]])
    return torch.tensor([int(p) for p in path])


@wrong("13.best_path", "T is `len(costs) - 1`")
def best_path_past_the_end(costs, n):
    t = len(costs)
    for choice in reversed(tables(costs, n)):
        t = choice[t]
    return t


# --- 13.remove_one ---------------------------------------------------------------------------------------------------


@right("13.remove_one")
def remove_one(costs, grid):
    before, here, after = grid[:-2], grid[1:-1], grid[2:]
    missed = costs[before, after] - costs[before, here] - costs[here, after]
    i = int(missed.argmin()) + 1
    return torch.cat([grid[:i], grid[i + 1 :]])


@right("13.remove_one")
def remove_one_by_trying(costs, grid):
    shorter = [torch.cat([grid[:i], grid[i + 1 :]]) for i in range(1, len(grid) - 1)]
    return min(shorter, key=lambda g: costs[g[:-1], g[1:]].sum())


@right("13.remove_one")
def remove_one_as_a_list(costs, grid):
    times = grid.tolist()
    shorter = [[t for t in times if t != out] for out in times[1:-1]]
    return min(shorter, key=lambda g: sum(costs[t, s].item() for t, s in itertools.pairwise(g)))


def parts(costs, grid):
    before, here, after = grid[:-2], grid[1:-1], grid[2:]
    return costs[before, after], costs[before, here], costs[here, after]


def without(grid, place):
    i = int(place) + 1
    return torch.cat([grid[:i], grid[i + 1 :]])


@wrong("13.remove_one", "missed most")
def remove_one_missed_most(costs, grid):
    skip, first, second = parts(costs, grid)
    return without(grid, (skip - first - second).argmax())


@wrong("13.remove_one", "subtract both")
def remove_one_cheapest_skip(costs, grid):
    return without(grid, parts(costs, grid)[0].argmin())


@wrong("13.remove_one", "not the time that goes")
def remove_one_the_time(costs, grid):
    skip, first, second = parts(costs, grid)
    return grid[1:-1][(skip - first - second).argmin()]


@wrong("13.remove_one", "exactly one time goes")
def remove_one_nothing(costs, grid):
    return grid.clone()


@wrong("13.remove_one", "`grid[:-2]`, `grid[1:-1]`, `grid[2:]`")
def remove_one_shapes(costs, grid):
    return without(grid, (costs[grid[:-2], grid[2:]] - costs[grid[:-1], grid[1:]]).argmin())


# --- 13.times --------------------------------------------------------------------------------------------------------


@right("13.times")
def times(theta):
    gaps = torch.softmax(theta, 0)
    return torch.cat([theta.new_ones(1), 1 - gaps.cumsum(0)])


@right("13.times")
def times_from_the_clean_end(theta):
    gaps = torch.softmax(theta, 0)
    return torch.cat([gaps.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=theta.dtype)])


@right("13.times")
def times_by_hand(theta):
    gaps = (theta - theta.max()).exp()
    gaps = gaps / gaps.sum()
    return torch.stack([gaps[i:].sum() for i in range(len(theta) + 1)])


@wrong("13.times", "yours rise")
def times_rising(theta):
    return torch.cat([theta.new_zeros(1), torch.softmax(theta, 0).cumsum(0)])


@wrong("13.times", "in reverse")
def times_reversed(theta):
    return torch.cat([theta.new_zeros(1), torch.softmax(theta, 0).cumsum(0)]).flip(0)


@wrong("13.times", "no gradient")
def times_detached(theta):
    return times(theta.detach())


@wrong("13.times", "in place")
def times_in_place(theta):
    theta -= theta.max()
    return times(theta)


# --- what readers and attackers found ---------------------------------------------------------------------------------


@right("13.best_path")
def best_path_int32(costs, n):
    return torch.as_tensor(best_path(costs, n)).int()


@wrong("13.best_path", "whole numbers")
def best_path_in_floats(costs, n):
    return torch.as_tensor(best_path(costs, n)).double()
