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


@wrong("13.jump_costs", "a half is missing")
def jump_costs_no_half(snr, mse, dims):
    return masked(dims * torch.log1p(told(snr) * mse[:, None]))


@wrong("13.jump_costs", "one pixel's cost")
def jump_costs_a_pixel(snr, mse, dims):
    return masked(torch.log1p(told(snr) * mse[:, None]) / 2)


@wrong("13.jump_costs", "stands inside the logarithm")
def jump_costs_no_one(snr, mse, dims):
    return masked(dims / 2 * torch.log(told(snr) * mse[:, None]))


@wrong("13.jump_costs", "yours are bits")
def jump_costs_bits(snr, mse, dims):
    return masked(dims / 2 * torch.log2(1 + told(snr) * mse[:, None]))


@wrong("13.jump_costs", "transposed")
def jump_costs_transposed(snr, mse, dims):
    return jump_costs(snr, mse, dims).T


@wrong("13.jump_costs", "the diagonal is no jump")
def jump_costs_diagonal(snr, mse, dims):
    costs = jump_costs(snr, mse, dims).clone()
    return costs.fill_diagonal_(0)


@wrong("13.jump_costs", "yours costs nothing there")
def jump_costs_zero_for_not_allowed(snr, mse, dims):
    return dims / 2 * torch.log1p(told(snr) * mse[:, None])


@wrong("13.jump_costs", "not their ratio")
def jump_costs_ratio(snr, mse, dims):
    return masked(dims / 2 * torch.log1p((snr[None, :] / snr[:, None]) * mse[:, None]))


@wrong("13.jump_costs", "not of their logarithms")
def jump_costs_log_snr(snr, mse, dims):
    return masked(dims / 2 * torch.log1p(told(snr.log()) * mse[:, None]))


@wrong("13.jump_costs", "squared already")
def jump_costs_squared(snr, mse, dims):
    return masked(dims / 2 * torch.log1p(told(snr) * mse[:, None] ** 2))


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


@wrong("13.one_more_step", "the jump itself has a price")
def one_more_step_free_jumps(costs, best):
    return torch.where(costs.isinf(), math.inf, best.expand_as(costs)).min(1).values


@wrong("13.one_more_step", "the rest of the way has a price")
def one_more_step_jump_alone(costs, best):
    return costs.min(1).values


@wrong("13.one_more_step", "exactly k steps")
def one_more_step_or_fewer(costs, best):
    return torch.minimum(best, (costs + best).min(1).values)


@wrong("13.one_more_step", "not the dearest")
def one_more_step_max(costs, best):
    return (costs + best).max(1).values


@wrong("13.one_more_step", "soft minimum")
def one_more_step_soft(costs, best):
    return -torch.logsumexp(-(costs + best), 1)


@wrong("13.one_more_step", "the cheapest jump, and then")
def one_more_step_greedy(costs, best):
    s = costs.argmin(1)
    return costs[range(len(best)), s] + best[s]


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


@wrong("13.best_path", "the cheapest next jump")
def best_path_greedy(costs, n):
    path = [len(costs) - 1]
    for left in range(n - 1, 0, -1):
        path.append(min(range(left, path[-1]), key=lambda s: costs[path[-1], s]))
    return torch.tensor([*path, 0])


@wrong("13.best_path", "one by one")
def best_path_by_removal(costs, n):
    path = list(range(len(costs) - 1, -1, -1))
    while len(path) > n + 1:
        shorter = [path[:i] + path[i + 1 :] for i in range(1, len(path) - 1)]
        path = min(shorter, key=lambda p: sum(costs[t, s] for t, s in itertools.pairwise(p)))
    return torch.tensor(path)


@wrong("13.best_path", "of any length")
def best_path_any_length(costs, n):
    T = len(costs) - 1
    paths = [best_path(costs, k) for k in range(1, T + 1)]
    return min(paths, key=lambda p: sum(costs[t, s] for t, s in itertools.pairwise(p.tolist())))


@wrong("13.best_path", "the dearest")
def best_path_dearest(costs, n):
    return best_path(torch.where(costs.isinf(), math.inf, -costs), n)


@wrong("13.best_path", "evenly spaced")
def best_path_uniform(costs, n):
    return torch.linspace(len(costs) - 1, 0, n + 1).round().long()


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


@wrong("13.remove_one", "has its price too")
def remove_one_dearest_pair(costs, grid):
    _, first, second = parts(costs, grid)
    return without(grid, (first + second).argmax())


@wrong("13.remove_one", "the cheapest pair of jumps")
def remove_one_cheapest_pair(costs, grid):
    _, first, second = parts(costs, grid)
    return without(grid, (first + second).argmin())


@wrong("13.remove_one", "forgets the one from it")
def remove_one_first_only(costs, grid):
    skip, first, _ = parts(costs, grid)
    return without(grid, (skip - first).argmin())


@wrong("13.remove_one", "forgets the one to it")
def remove_one_second_only(costs, grid):
    skip, _, second = parts(costs, grid)
    return without(grid, (skip - second).argmin())


@wrong("13.remove_one", "not a ratio")
def remove_one_ratio(costs, grid):
    skip, first, second = parts(costs, grid)
    return without(grid, (skip / (first + second)).argmin())


@wrong("13.remove_one", "T, has to stay")
def remove_one_the_first(costs, grid):
    return grid[1:]


@wrong("13.remove_one", "0, has to stay")
def remove_one_the_last(costs, grid):
    return grid[:-1]


@wrong("13.remove_one", "off by one")
def remove_one_off_by_one(costs, grid):
    skip, first, second = parts(costs, grid)
    return without(grid, (skip - first - second).argmin() - 1)


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


@wrong("13.times", "1, is missing")
def times_without_one(theta):
    return 1 - torch.softmax(theta, 0).cumsum(0)


@wrong("13.times", "0, is missing")
def times_without_zero(theta):
    return times(theta)[:-1]


@wrong("13.times", "add them up")
def times_gaps(theta):
    return torch.softmax(theta, 0)


@wrong("13.times", "divided by their sum")
def times_exp(theta):
    return torch.cat([theta.new_ones(1), 1 - theta.exp().cumsum(0)])


@wrong("13.times", "nothing keeps these gaps positive")
def times_raw(theta):
    return torch.cat([theta.new_ones(1), 1 - theta.cumsum(0)])


@wrong("13.times", "may cross its neighbour")
def times_sigmoid(theta):
    return torch.cat([theta.new_ones(1), torch.sigmoid(theta[:-1]), theta.new_zeros(1)])


@wrong("13.times", "sorting repairs")
def times_sorted(theta):
    inner = torch.sigmoid(theta[:-1]).sort(descending=True).values
    return torch.cat([theta.new_ones(1), inner, theta.new_zeros(1)])


@wrong("13.times", "squares may be zero")
def times_squares(theta):
    return torch.cat([theta.new_ones(1), 1 - (theta**2 / (theta**2).sum()).cumsum(0)])


@wrong("13.times", "must add up to 1")
def times_sigmoid_gaps(theta):
    return torch.cat([theta.new_ones(1), 1 - torch.sigmoid(theta).cumsum(0)])


@wrong("13.times", "no gradient")
def times_detached(theta):
    return times(theta.detach())


@wrong("13.times", "in place")
def times_in_place(theta):
    theta -= theta.max()
    return times(theta)


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("13.one_more_step", "infinite, not 0")
def one_more_step_from_clean(costs, best):
    table = (costs + best).min(1).values
    table[0] = 0
    return table


@wrong("13.jump_costs", "yours is outside")
def jump_costs_error_outside(snr, mse, dims):
    told = (snr[None, :] - snr[:, None]).clamp(min=0)
    costs = dims / 2 * (1 + told).log() * mse[:, None]
    return costs.masked_fill(torch.ones_like(told).triu().bool(), float("inf"))


@right("13.best_path")
def best_path_int32(costs, n):
    return torch.as_tensor(best_path(costs, n)).int()


@wrong("13.best_path", "whole numbers")
def best_path_in_floats(costs, n):
    return torch.as_tensor(best_path(costs, n)).double()
