# %% [markdown]
# # 13 · Which steps matter
#
# *You will put a price on every jump a sampler could make, find the cheapest path of any length at once, prove when one
# more step can do no harm; then you let gradient descent move the steps. On the way the best grid by the bound draws
# poor digits, and a grid that looks best turns out to have been fitted to its test. About 80 minutes to read and run,
# 80 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports and data
import itertools
import math
import time

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LogNorm
from torch import Tensor

from course_utils import forward, samplers, schedules, variational
from course_utils.classifier import look_at
from course_utils.data import denormalize, load_images, normalize
from course_utils.exercises import check, progress
from course_utils.metrics import fid, subset
from course_utils.plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    YELLOW,
    image_grid,
    show,
    use_style,
)
from course_utils.pretrained import load_classifier, load_denoiser
from course_utils.runtime import varies
from course_utils.samplers import step_selection
from course_utils.toy import GaussianMixture
from course_utils.widgets import choice, explore, slider, watch

use_style()
schedule = schedules.linear()
names = "uniform", "quadratic", "log-SNR", "Karras", "best path", "greedy", "learned"
colours = BLUE, SKY, GREEN, PINK, ORANGE, YELLOW, BLACK
COLOURS = dict(zip(names, colours, strict=True))

# %% [markdown]
# ## The question
#
# A network was trained on a thousand noise levels, and you can afford to call it eight times. Which eight? Here are four
# answers in common use. Each has its paper and its reasons; none has asked the network.


# %%
def common_grids(n: int, schedule: schedules.Schedule = schedule) -> dict[str, list]:
    """The fixed grids of lessons 10 and 11."""
    return {
        "uniform": samplers.uniform_grid(schedule, n),
        "quadratic": samplers.quadratic_grid(schedule, n),
        "log-SNR": samplers.log_snr_grid(schedule, n),
        "Karras": samplers.karras_grid(schedule, n),
    }


# %% tags=["figure", "fold"]
# @title Where four common grids call the network
def strips(grids: dict[str, list]) -> plt.Figure:
    """Where the network is asked, by each grid: whole times on a log axis."""
    figure, axis = plt.subplots(figsize=(7.5, 0.5 + 0.3 * len(grids)))
    for row, (name, grid) in enumerate(grids.items()):
        axis.plot(
            grid[:-1],
            [row] * (len(grid) - 1),
            "o",
            color=COLOURS[name],
            ms=6,
            clip_on=False,
        )
    axis.set(
        xscale="log",
        xlim=(0.9, 1050),
        ylim=(len(grids) - 0.5, -0.5),
        xlabel="t at which the network is called",
    )
    axis.set_yticks(range(len(grids)), list(grids))
    return figure


show(
    strips(common_grids(8)),
    "Four rows of eight dots on a log axis of t. All begin at 1000. Uniform ends at "
    "125; quadratic at 16; log-SNR and "
    "Karras reach 1, log-SNR with even gaps.",
)

# %% [markdown]
# Could one *compute* the best eight? For the likelihood, yes: exactly, in a second, and for every other number of steps
# in the same second (Watson et al., 2021). *Commit to a guess before you read on.* The eight steps with the best
# likelihood of all, given to DDIM, draw digits that are, next to those of the four grids above,

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice("", ["the best", "about as good", "clearly worse"])
guess

# %% [markdown]
# ## 1 · What a jump costs
#
# Lesson 12 wrote the bound on $-\log p(x_0)$ for any falling grid $T = t_0 > t_1 > \dots > t_K = 0$. Each jump adds a
# term of its own. Take one, from $t$ to an earlier $s > 0$. By (3.4), if somebody told us $x_0$, the right step would be
# the Gaussian
#
# $$q(x_s \mid x_t, x_0) = \mathcal N\bigl(a\,x_t + k\,x_0,\ \tilde\sigma^2 I\bigr), \qquad
# k = \frac{\alpha_s\,\sigma_{t|s}^2}{\sigma_t^2}, \quad \tilde\sigma^2 = \frac{\sigma_{t|s}^2\,\sigma_s^2}{\sigma_t^2}.$$
#
# Look at it as a *measurement*. We know $x_t$ already. What $x_s$ brings is $k\,x_0$ plus noise of standard deviation
# $\tilde\sigma$: a fresh look at the picture, with the signal-to-noise ratio
#
# $$\frac{k^2}{\tilde\sigma^2} = \frac{\alpha_s^2\,\sigma_{t|s}^2}{\sigma_s^2\,\sigma_t^2} = \mathrm{SNR}_s - \mathrm{SNR}_t =: \Delta. \tag{13.1}$$
#
# (The last step is the identity above (3.10).) So **a jump is a fresh look at the picture, as sharp as the gain in
# SNR.** The sampler does not know $x_0$; it uses the denoiser's guess $\hat x_0(x_t)$, and moves the mean by
# $k\,(x_0 - \hat x_0)$. With the posterior's variance, both Gaussians are equally wide, and the KL is the squared shift
# over $2\tilde\sigma^2$. In expectation, for $d$ pixels, with the **error a pixel** $m_t = \mathbb E\,|x_0 - \hat x_0(x_t)|^2/d$:
#
# $$C(t, s) = \frac d2\,\Delta\,m_t. \tag{13.2}$$
#
# But lesson 12 found a better width. For a variance $v$ the KL is $\frac d2\left[\log\frac{v}{\tilde\sigma^2} +
# \frac{\tilde\sigma^2 + k^2 m_t}{v} - 1\right]$, smallest at $v = \tilde\sigma^2 + k^2 m_t$: the posterior's own width
# and our ignorance of its mean. What remains is the logarithm:
#
# $$C(t, s) = \frac d2\,\log\bigl(1 + \Delta\,m_t\bigr), \qquad \Delta = \mathrm{SNR}_s - \mathrm{SNR}_t. \tag{13.3}$$
#
# Since $\log(1 + u) \le u$, it never costs more. The jump onto clean data, $s = 0$, has no such form: $\mathrm{SNR}_0$
# is infinite. There stands a likelihood, estimated from the data:
#
# $$C(t, 0) = \mathbb E\bigl[-\log p(x_0 \mid x_t)\bigr], \tag{13.4}$$
#
# a Gaussian around $\hat x_0$, cut into the 256 bins of a pixel. Its variance? The $v$ above would be $m_t$, and that is
# best for a density. But black pixels lie in the outermost bin, which reaches to infinity: however wide the Gaussian, they
# cost at most a bit, and the grey ones gain by the width. So take the best of $m_t, 2m_t, 4m_t, \dots$ for each $t$; on the digits that
# is worth a few tenths of a bit.
# With the prior's term, the same for all grids, the bound is
#
# $$-\log p(x_0) \ \le\ L_T + \sum_{i=1}^{K} C(t_{i-1}, t_i)\quad\text{on average.} \tag{13.5}$$
#
# Now count what went in. **A thousand numbers $m_t$ give the price of half a million jumps, and a thousand more,
# (13.4), those onto the data.** Nobody has to try one.
#
# ### Exercise 1 · What every jump costs
# *15 minutes · medium · Eq. (13.3).* The whole table at once, for the noisy times alone (13.4 comes from elsewhere). Row:
# where a jump starts; column: where it ends. `snr` falls from left to right, so only columns to the *left* of the
# diagonal are jumps; everything else, the diagonal too, costs infinity, `math.inf`. `mse` is $m_t$, that of the start of a jump;
# `dims` is $d$, and may be odd.


# %% tags=["exercise"] exercise="13.jump_costs" points=2
# Exercise 13.jump_costs
def jump_costs(snr: Tensor, mse: Tensor, dims: int) -> Tensor:
    """C(t, s) of Eq. (13.3) in nats, (T, T); inf where s >= t.
    snr, mse: (T,), for t = 1 … T."""
    ### BEGIN SOLUTION
    told = snr[None, :] - snr[:, None]
    costs = dims / 2 * torch.log1p(told.clamp(min=0) * mse[:, None])
    return costs.masked_fill(torch.ones_like(costs).triu().bool(), math.inf)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `snr[None, :] - snr[:, None]` is $\Delta$ for all pairs, start first. The error is that of the start: `mse[:, None]`.
# For the wall of infinities, `torch.ones_like(costs).triu().bool()` is true on the diagonal and above.
# </details>

# %% tags=["check"]
check("13.jump_costs", jump_costs)

# %% [markdown]
# Is it right? Take some jumps and let `variational.jump_cost` of lesson 12 compute their KLs from means and variances,
# without any SNR. The world is one that we know exactly: five spots in the plane.

# %%
# Eq. (13.3)
corners = torch.arange(5) * 2 * math.pi / 5 + math.pi / 2
spots, S = 1.5 * torch.stack([corners.cos(), corners.sin()], 1).double(), 0.2**2
world = GaussianMixture(spots, S, torch.tensor([0.10, 0.15, 0.20, 0.25, 0.30]))
x_0 = world.sample(5000, lesson.generator)
for t, s in [(1000, 700), (600, 599), (500, 40), (30, 2)]:
    x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    x0_hat = world.denoise(x_t, t, schedule)
    m_t = (x0_hat - x_0).square().mean()
    kl = variational.jump_cost(
        x_0, x0_hat, x_t, t, s, schedule, variational.optimal_variance({t: m_t.item()})
    )
    told = schedule.log_snr(s).exp() - schedule.log_snr(t).exp()
    assert torch.isclose(kl.mean(), 2 / 2 * torch.log1p(told * m_t), rtol=1e-6)
print("four jumps, long and short: the KL is the formula")

# %% [markdown]
# For this world $m_t$ need not be measured as an error: given $x_t$, a mixture's posterior has a known variance, that within
# a spot and that between them, weighted by $r_k(x_t)$ of (3.13), so that only the average over $x_t$ is left to draws. And
# its data are no 8-bit pictures, so the last jump is priced by
# a density, $\frac d2\log(2\pi e\,m_t)$.


# %%
def exact_error(t: int, x_0: Tensor, eps: Tensor) -> Tensor:
    """m_t of the five spots: E Var[x_0 | x_t], a coordinate."""
    alpha, sigma = schedule.coeffs(t)
    width = alpha**2 * S + sigma**2
    r = world.responsibilities(forward.q_sample(x_0, t, schedule, eps), t, schedule)
    between = r @ spots.square().sum(1) - (r @ spots).square().sum(1)
    return S * sigma**2 / width + (sigma**2 / width) ** 2 * between.mean() / 2


x_0 = x_0[:2000]
eps = forward.noise_like(x_0, lesson.generator)
m = torch.stack([exact_error(t, x_0, eps) for t in range(1, 1001)])
density = torch.log(2 * math.pi * math.e * m)  # d / 2 = 1
toy_costs = step_selection.cost_matrix(m, density, schedule, dims=2)
print(
    "a matrix of",
    tuple(toy_costs.shape),
    "with",
    int(toy_costs.isfinite().sum()),
    "jumps",
)

# %% [markdown]
# ## 2 · The cheapest path
#
# A grid of $K$ steps is a path from $T$ down to 0, and costs the sum of its jumps. How many are there?

# %%
for K in (2, 4, 8, 16):
    print(f"{K:3} steps: {math.comb(999, K - 1):.3g} grids")

# %% [markdown]
# Trying is out of the question for more than three. But the sum has a property that saves us: what the rest of the way
# costs depends on where I am, not on how I came. Let $B_k(t)$ be the price of the cheapest way from $t$ to 0 in exactly
# $k$ jumps. One jump is no choice; with more, jump somewhere, and go on in the cheapest way from there:
#
# $$B_1(t) = C(t, 0), \qquad B_k(t) = \min_{s < t}\,\bigl[C(t, s) + B_{k-1}(s)\bigr]. \tag{13.6}$$
#
# (From 0 there is nowhere to jump: $B_k(0) = \infty$.) That is **dynamic programming**. One round is a table of $T^2$ sums and a minimum over each row. After $K$ rounds
# $B_K(T)$ is the price of the best grid, and the places of the minima, followed from $T$ down, are the grid itself.
#
# ### Exercise 2 · One more step
# *10 minutes · easy · Eq. (13.6).* From $B_{k-1}$ to $B_k$, for all $t$ at once. Prices alone, not the places. Where there is
# no way in just so many jumps, the price is infinite.


# %% tags=["exercise"] exercise="13.one_more_step" points=1
# Exercise 13.one_more_step
def one_more_step(costs: Tensor, best: Tensor) -> Tensor:
    """B_k for t = 0 … T, (T + 1,). costs[t, s]: (T + 1, T + 1), inf where s >= t;
    best: B_{k-1}, (T + 1,)."""
    ### BEGIN SOLUTION
    return (costs + best).min(1).values
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# In `costs + best` the last axes meet: column $s$ gets `best[s]`. That is the bracket of (13.6). The minimum is over
# $s$, the columns.
# </details>

# %% tags=["check"]
check("13.one_more_step", one_more_step)

# %% [markdown]
# ### Exercise 3 · The best grid
# *25 minutes · hard · Eq. (13.6).* The same rounds, but remember *where* each minimum was. Then walk: from $T$, with $n$
# steps left, the last round's table says where to go; from there the table before it; and so on. $n$ may be anything from 1,
# straight to 0, to $T$. Times are whole numbers, of any integer dtype, or a list of them.


# %% tags=["exercise"] exercise="13.best_path" points=3
# Exercise 13.best_path
def best_path(costs: Tensor, n: int) -> Tensor:
    """The times of the cheapest n steps from T to 0: whole numbers, (n + 1,), falling.
    costs: (T + 1, T + 1)."""
    ### BEGIN SOLUTION
    best, choices = costs[:, 0], []
    for _ in range(n - 1):
        best, choice = (costs + best).min(1)
        choices.append(choice)
    path = [len(costs) - 1]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return torch.tensor([*path, 0])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `best, choice = (costs + best).min(1)` gives both. Append each `choice` to a list, $n - 1$ of them. Then
# `path = [T]`, and for each `choice` in *reversed* order, `path.append(int(choice[path[-1]]))`. The last jump, onto 0,
# is no choice.
# </details>

# %% tags=["check"]
check("13.best_path", best_path)

# %% [markdown]
# The strongest test of an optimum is to try everything. For a schedule of ten steps that can be done:

# %%
# Eq. (13.6)
short = schedules.linear(10, 1e-2, 0.4)
tiny = torch.rand(11, 11, generator=lesson.generator).double().tril(-1)
# any numbers at all: the method knows nothing of bounds
tiny = tiny.masked_fill(tiny == 0, math.inf)
for n, path in enumerate(step_selection.best_paths(tiny, 10), start=1):
    every = [
        [10, *inner, 0] for inner in itertools.combinations(range(9, 0, -1), n - 1)
    ]
    assert path.timesteps == min(
        every, key=lambda grid: step_selection.path_cost(tiny, grid)
    )
print(
    "best of all",
    sum(math.comb(9, n) for n in range(10)),
    "grids, for each number of steps from 1 to 10",
)

# %% [markdown]
# And now all grids from 1 to 64 steps for the five spots, out of the full matrix. Look at the matrix, and at the
# staircase through it: from the diagonal straight down is one jump, from its $t$ to its $s$ (a dot); then across, back to
# the diagonal, where the next one begins.


# %% tags=["fold"]
# @title Drawing the matrix of prices and a path through it
def staircase(
    costs: Tensor, paths: list, K: int, unit: float, label: str
) -> plt.Figure:
    """The cost matrix on log axes with the path of K steps, and what the best path of
    each length costs."""
    ts = torch.unique(torch.logspace(0, 3, 90).round().long())
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.5, 3.9), width_ratios=(1.25, 1)
    )
    picture = (costs[ts][:, ts] / unit).T
    lowest = picture[picture.isfinite()].quantile(0.1).item()
    norm = LogNorm(lowest, picture[picture.isfinite()].max())
    shades = left.pcolormesh(
        ts, ts, picture, norm=norm, cmap="viridis_r", rasterized=True
    )
    left.axhspan(
        0.5, 0.75, color="0.9"
    )  # onto clean data; 0 has no place on a log axis
    grid = [t or 0.6 for t in paths[K - 1].timesteps]
    corners = [(t, level) for t, s in itertools.pairwise(grid) for level in (t, s)]
    left.plot(*zip(*corners, strict=True), color=ORANGE, lw=1.5)
    left.plot(grid[:-1], grid[1:], "o", color=ORANGE, ms=4)
    left.set(xscale="log", yscale="log", xlabel="from t", ylabel="to s")
    left.set_title(f"price of a jump ({label}); the best path of {K} steps", fontsize=9)
    left.set(xlim=(0.9, 1300), ylim=(0.5, 1300))
    left.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    left.set_yticks([0.6, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    left.grid(False)
    figure.colorbar(shades, ax=left)
    right.plot(
        range(1, len(paths) + 1), [path.cost / unit for path in paths], color=BLACK
    )
    right.set_xscale("log")
    right.plot(K, paths[K - 1].cost / unit, "o", color=ORANGE)
    right.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    right.set(xlabel="steps", title=f"price of the best path ({label})")
    return figure


# %%
start = time.perf_counter()
toy_paths = step_selection.best_paths(toy_costs, 64)
varies(f"64 best grids out of a thousand times: {time.perf_counter() - start:.2f} s")

# %% tags=["widget", "fold"]
# @title The matrix of prices and the best path of K steps
explore(
    lambda K: staircase(toy_costs, toy_paths, K, 1.0, "nats"),
    alt="The cost matrix with the best path of K steps as a staircase, and the price "
    "of the best path against K.",
    K=slider("steps", 1, 32, 6),
)

# %% [markdown]
# *Move K from 1 upwards. Which jumps stay long?* For a page without a kernel, six steps:

# %% tags=["figure", "fold"]
# @title Six steps through the five spots
show(
    staircase(toy_costs, toy_paths, 6, 1.0, "nats"),
    "Left: the cost matrix on log axes, cheap near the diagonal; a staircase of six "
    "steps goes through it. Right: the "
    "price of the best path falls with the number of steps, steeply at first, then "
    "hardly.",
)

# %% [markdown]
# **A poor man's way** is to take times away from the full grid, one by one, always the one that is missed least. If the
# neighbours of $t_i$ are $t_{i-1}$ and $t_{i+1}$, without it the bound rises by
#
# $$C(t_{i-1}, t_{i+1}) - C(t_{i-1}, t_i) - C(t_i, t_{i+1}). \tag{13.7}$$
#
# ### Exercise 4 · The step that is missed least
# *15 minutes · medium · Eq. (13.7).* Return the grid without the time for which (13.7) is smallest, with its sign: the bound
# may even fall. $T$ and 0 have to stay.


# %% tags=["exercise"] exercise="13.remove_one" points=2
# Exercise 13.remove_one
def remove_one(costs: Tensor, grid: Tensor) -> Tensor:
    """The grid with one time fewer, (n,). costs: (T + 1, T + 1);
    grid: falling whole numbers from T to 0, (n + 1,)."""
    ### BEGIN SOLUTION
    before, here, after = grid[:-2], grid[1:-1], grid[2:]
    missed = costs[before, after] - costs[before, here] - costs[here, after]
    i = int(missed.argmin()) + 1
    return torch.cat([grid[:i], grid[i + 1 :]])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `before, here, after = grid[:-2], grid[1:-1], grid[2:]` line up every inner time with its neighbours, and
# `costs[before, after]` looks up a whole vector of jumps. Place $i$ among the inner times is place $i + 1$ of the grid.
# </details>

# %% tags=["check"]
check("13.remove_one", remove_one)

# %% [markdown]
# What does greed cost? *Predict: much, little or nothing?*

# %%
# Eq. (13.7)
for n in (2, 3, 5, 8, 16):
    greedy, best = step_selection.greedy_path(toy_costs, n), toy_paths[n - 1]
    even = step_selection.path_cost(toy_costs, samplers.uniform_grid(schedule, n))
    print(
        f"{n:3} steps: best {best.cost:.3f} nats, greedy {greedy.cost:.3f}, uniform "
        f"{even:.3f}"
    )
    assert best.cost <= greedy.cost + 1e-9 <= even + 1e-9

# %% [markdown]
# A little, and its grids are nested: what is gone never comes back. It is a fair baseline.
#
# ## 3 · Can one more step do harm?
#
# The curve above only falls. Surely that is so by nature: more steps, finer walk, better bound? *Decide: is
# $B_{K+1}(T) \le B_K(T)$ always?* Not with every variance. Take data that are $\mathcal N(0, 1)$, a schedule that ends
# in pure noise, and the **posterior's** variance. One step from $T$ guesses $\hat x_0 = 0$, gives the decoder the
# variance $\sigma_T^2 = 1$, and has drawn $\mathcal N(0, 1)$: exact. Stop on the way at $s$, where
# $m_s = \sigma_s^2$. The jump costs $\frac12\mathrm{SNR}_s$ by (13.2), and the narrower decoder changes
# its price by $\frac12\log\sigma_s^2 < 0$. With $r = 1/\sigma_s^2 = 1 + \mathrm{SNR}_s$ the stop costs
#
# $$\tfrac12\,(r - 1 - \log r) > 0. \tag{13.8}$$
#
# The posterior's variance is too narrow for a long jump, and every stop adds a jump that is too narrow.
#
# With the **optimal** variance more steps do no harm, if the denoiser is exact. The reason is the measurement of (13.1).
# At $t$ we know $x_0$ up to a variance $V$ a pixel (it depends on $x_t$; its average is $m_t$). Now comes a fresh look
# with SNR $\Delta$. The best *linear* use of it leaves $V/(1 + \Delta V)$, precisions add; the best use of all leaves no
# more. What it leaves is $m_s$: the best use has both $x_t$ and the look, so both $x_t$ and $x_s$, and $x_t$ is $x_s$ with
# more noise, which tells nothing about $x_0$ that $x_s$ has not told. And $V/(1 + \Delta V)$ bends downwards, so its
# average is at most its value at the average (Jensen; then take reciprocals):
#
# $$m_s \ \le\ \mathbb E\,\frac{V}{1 + \Delta V}\ \le\ \frac{m_t}{1 + \Delta\,m_t}
# \qquad\text{or}\qquad \frac1{m_s} \ge \frac1{m_t} + \mathrm{SNR}_s - \mathrm{SNR}_t. \tag{13.9}$$
#
# A stop at $u$ between $t$ and $s$ turns $1 + (\Delta_1 + \Delta_2)\,m_t$ into $(1 + \Delta_1 m_t)(1 + \Delta_2 m_u)$.
# By (13.9) $m_u (1 + \Delta_1 m_t) \le m_t$, so the product is at most $1 + \Delta_1 m_t + \Delta_2 m_t$: the same or
# less. Onto the data the same holds if the decoder is priced as a density, $\frac d2\log 2\pi e\,m_t$: there the claim is
# (13.9) itself. (For 256 bins, (13.4), nothing is proved; on the digits we look.) Equality throughout needs data $\mathcal N(\mu, S I)$, one variance for all pixels: **for such data all grids
# cost the same.** Steps pay where the posterior is *not* Gaussian, and where some pixels are better known than others.

# %%
# Eq. (13.8)
ending = schedules.rescale_zero_terminal_snr(short)
alpha, sigma = ending.coeffs(torch.arange(1, 11))
one = sigma**2  # m_t of N(0, 1)
fixed_width = step_selection.cost_matrix(
    one, 0.5 * torch.log(2 * math.pi * sigma**2) + 0.5, ending, 1, variance="posterior"
)
optimal_width = step_selection.cost_matrix(
    one, 0.5 * torch.log(2 * math.pi * math.e * one), ending, 1
)
entropy = 0.5 * math.log(2 * math.pi * math.e)
for name, costs in {"posterior": fixed_width, "optimal": optimal_width}.items():
    extra = [
        max(0.0, path.cost - entropy) for path in step_selection.best_paths(costs, 10)
    ]
    print(
        f"{name:9} variance, N(0, 1), nats too many at 1, 2, 4, 10 steps:",
        *(f"{extra[n - 1]:.3f}" for n in (1, 2, 4, 10)),
    )
    assert (
        (sorted(extra) == extra and extra[-1] > 1)
        if name == "posterior"
        else max(map(abs, extra)) < 1e-9
    )
r = 1 / one
for s in range(1, 10):
    stop = step_selection.path_cost(fixed_width, [10, s, 0]) - entropy
    assert math.isclose(stop, (r - 1 - r.log())[s - 1].item() / 2, rel_tol=1e-8)

# %%
# Eq. (13.9)
snr = schedule.log_snr(torch.arange(1, 1001)).exp()
# the exact denoiser of the five spots keeps to it
assert ((1 / m - snr).diff() <= 1e-3 * (1 / m)[:-1]).all()
totals = torch.tensor([path.cost for path in toy_paths])
assert (totals.diff() < 0).all()
print(
    f"64 numbers of steps, and each costs less than the one before: {totals[0]:.3f} … "
    f"{totals[-1]:.3f} nats"
)

# %% [markdown]
# A trained network is not exact, and nothing forbids it to break (13.9). The next section looks whether this one does.
#
# ## 4 · The digits
#
# Now the shipped U-Net. Its errors are measured at forty times on training digits, and interpolated; the decoder's
# likelihood comes from the same forty calls.

# %%
unet = load_denoiser("mnist-unet", lesson.device)
classifier = load_classifier("mnist", lesson.device)
train_x, train_y = load_images("mnist", "train")
test_x, test_y = load_images("mnist", "test")


def denoise(x_t: Tensor, t: float | Tensor, **cond: Tensor) -> Tensor:
    """The network, in this machine's fastest precision."""
    with torch.autocast(
        lesson.device.type, lesson.dtype, enabled=lesson.dtype != torch.float32
    ):
        return unet(x_t, t, **cond)


def some(images: Tensor, labels: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """n digits drawn at random, and their labels, on the lesson's device."""
    chosen = torch.randperm(len(images), generator=lesson.generator)[:n]
    return normalize(images[chosen]).to(lesson.device), labels[chosen].to(lesson.device)


# %% [markdown]
# Sixty-four training digits, forty times, and from these the price of every jump and the best path of every length:

# %%
# Eqs. (13.3) and (13.4)
forty = sorted({1, *samplers.quadratic_grid(schedule, 40)[:-1]})
x_0, y = some(train_x, train_y, 64)
measured = step_selection.measure(
    denoise, x_0, schedule, forty, generator=lesson.generator, label=y
)
costs = step_selection.cost_matrix(
    measured.errors, measured.decoder, schedule, dims=784
)
paths = step_selection.best_paths(costs, 64)

# %% tags=["figure", "fold"]
# @title The network's errors, and Eq. (13.9) put to the test
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 2.9))
t = torch.arange(1, 1001)
sigma2 = schedule.coeffs(t)[1] ** 2
left.loglog(t, measured.errors, color=ORANGE, label="the U-Net, $m_t$")
left.loglog(
    t, sigma2 / (1 - sigma2), ":", color=BLACK, label="the noise itself, 1 / SNR"
)
left.set(xlabel="t", ylabel="squared error a pixel", ylim=(1e-5, 2))
left.legend(fontsize=8)
right.loglog(t, 1 / measured.errors - (1 - sigma2) / sigma2, color=ORANGE)
right.set(xlabel="t", ylabel=r"$1 / m_t - \mathrm{SNR}_t$")
show(
    figure,
    "Left: the network's error a pixel against t on log axes, rising from a few "
    "hundred-thousandths to a fifth, below the "
    "noise everywhere. Right: 1 / m minus the SNR, which falls with t.",
)

# %% [markdown]
# On the right (13.9) is put to the test: an exact denoiser's curve may only fall from left to right. The network's falls
# too, over four orders of magnitude. (At its right end, where next to nothing can be seen, 64 digits do not tell a fall
# from a rise.) So for this network more steps should not cost more.

# %%
prices = torch.tensor([path.cost for path in paths])
varies(
    f"of 63 extra steps, {int((prices.diff() <= 0).sum())} lower the bound; 64 steps: "
    f"{prices[-1] / 784 / math.log(2):.3f} bits"
)
assert (prices.diff() <= 0).sum() >= 60

# %% [markdown]
# Prices in bits a pixel, the unit of lesson 12. The prior's term is added once: it is the same for every grid.

# %%
# Eq. (13.5)
UNIT = 784 * math.log(2)
prior = variational.prior_kl(normalize(train_x[:1000]), schedule).mean().item()


def bits(grid: list[int]) -> float:
    """The bound of a grid in bits a pixel, from the table of prices alone."""
    return (step_selection.path_cost(costs, grid) + prior) / UNIT


STEPS = (5, 8, 10, 16, 32)
grids = {
    n: {
        **common_grids(n),
        "best path": paths[n - 1].timesteps,
        "greedy": step_selection.greedy_path(costs, n).timesteps,
    }
    for n in STEPS
}
names = list(grids[8])
varies("steps " + "".join(f"{name:>11}" for name in names))
for n in STEPS:
    varies(f"{n:5} " + "".join(f"{bits(grids[n][name]):11.3f}" for name in names))
    assert all(
        bits(grids[n]["best path"]) <= bits(grid) + 1e-9 for grid in grids[n].values()
    )

# %% [markdown]
# Was the table of prices honest? It was made of forty measurements, some interpolation, and training digits. So walk
# some grids with `variational.bound`, jump by jump, on *test* digits that had no part in choosing them.

# %%
x_0, y = some(test_x, test_y, 64)
for name in ("uniform", "log-SNR", "best path"):
    walked = variational.bound(
        denoise,
        x_0,
        schedule,
        grids[8][name],
        variance=measured.variance,
        generator=lesson.generator,
        label=y,
    )
    found = variational.bits_per_dim(walked.total, 784)
    varies(
        f"8 steps, {name:10} walked on test digits {found.mean():.3f} bits, by the "
        f"table {bits(grids[8][name]):.3f}"
    )
    # two samples of 64 digits: one that priced the jumps, one that walked them
    assert abs(found.mean() - bits(grids[8][name])) < 6 * found.std() / 8

# %% [markdown]
# The table tells what a walk costs. And the cheapest path itself, where does it call the network?

# %% tags=["figure", "fold"]
# @title Where six grids of eight steps call the network
show(
    strips(grids[8]),
    "Six rows of eight dots on a log axis of t: the four fixed grids; the best path "
    "and the greedy one, which begin at 1000 too, "
    "make their second call near 400, and go on from there in nearly even gaps.",
)

# %% [markdown]
# Its first jump is the longest by far. While there is much noise, the SNR is next to nothing, $\Delta\,m_t$ is small,
# and the way is cheap. *Move K: with how many steps does it call the network a second time above t = 500?*

# %% tags=["widget", "fold"]
# @title The U-Net's prices and the best path of K steps
explore(
    lambda K: staircase(costs, paths, K, UNIT, "bits a pixel"),
    alt="The U-Net's cost matrix with the best path of K steps as a staircase, and "
    "the bound of the best path against K.",
    K=slider("steps", 1, 64, 8),
)

# %% tags=["figure", "fold"]
# @title Eight steps through the U-Net's prices
show(
    staircase(costs, paths, 8, UNIT, "bits a pixel"),
    "Left: the U-Net's cost matrix with the best path of eight steps. Right: the "
    "price of the best path against the number "
    "of steps, falling and flattening.",
)

# %% [markdown]
# ## 5 · And the pictures?
#
# The grid with the best likelihood of all grids: *what will its digits look like?* The bound belongs to the ancestral
# sampler with our variances. A grid is a grid, though, and few-step pictures are mostly drawn by DDIM. So try both, from
# the same noises for all grids.


# %%
def drawn(grid: list[int], n: int, ancestral: bool = False) -> Tensor:
    """n digits 0 … 9 in turn, as bytes, always from the same noises: by DDIM, or by
    ancestral sampling with the bound's variances."""
    generator, out = torch.Generator().manual_seed(lesson.seed), []
    for label in (torch.arange(n) % 10).split(250):
        x = torch.randn(len(label), 1, 28, 28, generator=generator).to(lesson.device)
        x = x.contiguous(memory_format=torch.channels_last)
        cond = {"label": label.to(lesson.device)}
        if ancestral:
            cond |= {"variance": measured.variance, "generator": generator}
        sampler = samplers.sample_ddpm if ancestral else samplers.sample_ddim
        out.append(denormalize(sampler(denoise, x, schedule, grid, **cond)).cpu())
    return torch.cat(out)


# %% tags=["figure", "fold"]
# @title Ten digits, eight DDIM steps, five grids
shown = {name: drawn(grid, 10) for name, grid in grids[8].items() if name != "greedy"}
show(
    image_grid(
        torch.cat(list(shown.values())), columns=10, row_labels=list(shown), size=0.75
    ),
    "Ten digits from the same noise for each of five grids of eight DDIM steps: all "
    "are digits, mostly the same ones.",
)

# %% [markdown]
# The eye sees five rows of digits. Measure: FID in the features of our classifier, lesson 09, with few digits each. So
# the figure to compare with is that of as many *real* test digits, ten classes in equal parts as in the samples.

# %%
N = 100 if lesson.device.type == "cpu" else 2000
reference = look_at(classifier, subset(train_x, 10_000, lesson.generator))[0]


def distance(images: Tensor) -> float:
    """FID against ten thousand training digits."""
    return fid(look_at(classifier, images)[0], reference)


floor = distance(torch.cat([test_x[test_y == d][: N // 10] for d in range(10)]))
varies(f"n = {N}, FID of real digits {floor:.3f}")

# %% [markdown]
# All five grids with eight DDIM steps, from the same noises:

# %%
eight = {name: distance(drawn(grids[8][name], N)) for name in shown}
varies("8 DDIM steps: " + ", ".join(f"{name} {fid:.3f}" for name, fid in eight.items()))

# %% [markdown]
# And the two ends of the list of bits, the best path and the plain uniform grid, with fewer steps and more:

# %%
duel = {
    name: [
        eight[name] if n == 8 else distance(drawn(grids[n][name], N))
        for n in (5, 8, 10)
    ]
    for name in ("uniform", "best path")
}
for name, scores in duel.items():
    varies(f"{name:10} 5, 8, 10 steps: " + ", ".join(f"{fid:.3f}" for fid in scores))

# %% [markdown]
# Both verdicts, one beside the other:

# %% tags=["figure", "fold"]
# @title Bits and FID of the grids, side by side
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.3))
for name in shown:
    wide = 2.6 if name == "best path" else 1.4
    left.plot(
        STEPS,
        [bits(grids[n][name]) for n in STEPS],
        "o-",
        ms=4,
        color=COLOURS[name],
        lw=wide,
        label=name,
    )
    right.plot(8, eight[name], "o", ms=5, color=COLOURS[name])
for name, scores in duel.items():
    wide = 2.6 if name == "best path" else 1.4
    right.plot((5, 8, 10), scores, "o-", ms=4, color=COLOURS[name], lw=wide)
right.axhline(floor, color=BLACK, lw=1, ls=":", label="real digits")
for axis, ticks, title in [
    (left, STEPS, "bound (bits a pixel): lower is better"),
    (right, (5, 8, 10), f"FID of DDIM, n = {N}: lower is better"),
]:
    axis.set(xscale="log", xlabel="steps", title=title)
    axis.set_xticks(ticks, list(map(str, ticks)))
    axis.minorticks_off()
right.set(ylim=(0, None))
left.legend(fontsize=8)
right.legend(fontsize=8)
show(
    figure,
    "Left: bits a pixel against steps; the best path is lowest everywhere, Karras "
    "highest with few steps. Right: FID against steps for the best path and the "
    "uniform grid, and five points at eight steps; the best path lies above the "
    "uniform grid.",
)

# %%
# not ahead, from the same noises
assert sum(duel["best path"]) > 0.9 * sum(duel["uniform"])
by_chance = {name: distance(drawn(grids[8][name], N, ancestral=True)) for name in duel}
varies("8 ancestral steps:", ", ".join(f"{k} {v:.3f}" for k, v in by_chance.items()))

# %% [markdown]
# **Two orders, and they do not agree.** By the bound the best path wins at every number of steps, as it must; with few
# steps log-SNR and Karras are far behind. The pictures that DDIM draws say otherwise: the best path is not ahead of the
# plain uniform grid, and in this run far behind it. How far, and where the other three lie, changes with the table of
# prices and with the noises (with another seed of this page, 0.160 against 0.149 at eight steps): at this $n$ only the
# large differences are more than chance. By ancestral sampling, to which the bound belongs, it is not ahead by more than
# chance either.
#
# Why? Look at the first jump. It costs hardly any bits, since there are hardly any to be had: the SNR up there is next to
# nothing. But up there a picture makes its large decisions.

# %%
first, second = grids[8]["best path"][:2]
varies(
    f"the first jump, {first} to {second}: {costs[first, second] / UNIT:.3f} of "
    f"{bits(grids[8]['best path']):.3f} bits"
)
above = {name: sum(t > 500 for t in grids[8][name]) for name in shown}
varies(
    "of eight calls, above t = 500:",
    ", ".join(f"{name} {count}" for name, count in above.items()),
)
helped = [1000, 800, 600, *grids[8]["best path"][1:]]
rescued = distance(drawn(helped, N))
varies(
    f"ten steps: the best path {duel['best path'][-1]:.3f}, the best of eight with "
    f"800 and 600 added {rescued:.3f}; in bits "
    f"{bits(grids[10]['best path']):.3f} and {bits(helped):.3f}"
)
assert above["best path"] < above["uniform"]
assert bits(helped) > bits(grids[10]["best path"])

# %% [markdown]
# The bound had better uses for two calls up there, and in this run they are the ones that the pictures needed. (Where the
# best path is hardly behind, as with that other seed, they make no difference that a hundred digits could show.) Watson
# et al. found on larger pictures that the two orders differ, and say so: their grids improve the likelihood (with 8 steps to 4.59 bits, where even steps have
# 6.95) and not the FID.
#
# ## 6 · Steps that move
#
# If not the bound, what do we want of eight steps? *That they end where a thousand would have ended.* For samplers that
# draw nothing on the way (lessons 10 and 11) this is well defined: one noise, one picture. So take a teacher, the same
# network with many steps; call its end $\Phi_\infty(x_T)$, and that of few steps at times $t_0 > \dots > t_K$
# $\Phi_t(x_T)$. The times are numbers like any other, so let gradient descent move them:
#
# $$L(\theta) = \mathbb E_{x_T}\bigl|\Phi_{t(\theta)}(x_T) - \Phi_\infty(x_T)\bigr|^2 . \tag{13.10}$$
#
# Two things stand in the way. A time must be a real number: the network is told the log-SNR, not $t$ (lesson 04), so
# nothing is asked of it but to believe in $t = 314.15$; between two whole times we let $\log\bar\alpha$ run on a
# straight line. And the times must not cross, whatever the optimizer does. So do not learn the times. Learn their
# *gaps*:
#
# $$g = \operatorname{softmax}(\theta), \qquad t_0 = 1, \qquad t_i = t_{i-1} - g_i, \qquad t_K = 0. \tag{13.11}$$
#
# ### Exercise 5 · Times that cannot cross
# *15 minutes · easy · Eq. (13.11).* From $n$ free numbers to $n + 1$ falling times; $g_1$ is the first gap, below $t_0 = 1$.
# The gradient has to get through.


# %% tags=["exercise"] exercise="13.times" points=2
# Exercise 13.times
def times(theta: Tensor) -> Tensor:
    """The times of Eq. (13.11), (n + 1,), from 1 to 0. theta: (n,)."""
    ### BEGIN SOLUTION
    gaps = torch.softmax(theta, 0)
    return torch.cat([theta.new_ones(1), 1 - gaps.cumsum(0)])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.softmax(theta, 0)`, then `.cumsum(0)` is how far the time has fallen after each step. Put the 1 in front with
# `torch.cat`.
# </details>

# %% tags=["check"]
check("13.times", times)

# %% [markdown]
# First the five spots, with their exact denoiser: DDIM in five steps, from 256 noises, against a teacher of 300 Heun
# steps. To judge, two thousand noises that the grid has never met.

# %%
twin = step_selection.ContinuousTwin(schedule)  # the same levels, at real times
exact = world.denoiser(twin)


def ends(x_T: Tensor) -> Tensor:
    """Where the teacher ends."""
    return samplers.sample_heun(exact, x_T, twin, samplers.quadratic_grid(twin, 300))


def spots_noise(n: int) -> tuple[Tensor, Tensor]:
    """n noises and their ends."""
    x_T = torch.randn(n, 2, generator=lesson.generator, dtype=torch.float64)
    return x_T, ends(x_T)


def miss(grid: list[float], x_T: Tensor, target: Tensor) -> float:
    """How far DDIM on this grid ends from the teacher, root mean square."""
    return (
        (samplers.sample_ddim(exact, x_T, twin, grid) - target)
        .square()
        .mean()
        .sqrt()
        .item()
    )


many, judges = spots_noise(256), spots_noise(2000)
start_from = samplers.quadratic_grid(twin, 5)

# %% tags=["widget", "open"]
# Eq. (13.10)
history = list(
    watch(
        step_selection.learn_times(
            exact, *many, twin, start_from, steps=150, lr=0.1, order=1
        ),
        150,
        label="times",
    )
)

# %% [markdown]
# Against it: the fixed grids, the best path by the bound, and a greedy one that removes, from twelve quadratic steps,
# always the time without which the end points move least.

# %%
candidates = common_grids(5, twin)
candidates["best path"] = [t / 1000 for t in toy_paths[4].timesteps]
fine = samplers.quadratic_grid(twin, 12)
candidates["greedy"] = step_selection.prune(fine, lambda grid: miss(grid, *many), 5)
candidates["learned"] = history[-1].timesteps
held_out = {name: miss(grid, *judges) for name, grid in candidates.items()}

# %% tags=["figure", "fold"]
# @title The times as they move, and how far each grid ends from the teacher
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3), width_ratios=(1.2, 1))
left.plot(
    [
        [1000 * t for t in start_from[:-1]],
        *([1000 * t for t in r.timesteps[:-1]] for r in history),
    ],
    color=BLACK,
    lw=1.2,
)
left.set(yscale="log", xlabel="step of gradient descent", ylabel="the five times")
right.barh(
    list(held_out), list(held_out.values()), color=[COLOURS[name] for name in held_out]
)
right.set(xlabel="distance to the teacher, noises never met")
right.invert_yaxis()
show(
    figure,
    "Left: five times against the steps of gradient descent; they move and settle "
    "without crossing. Right: the distance to "
    "the teacher for seven grids; the learned one is shortest.",
)

# %%
for name, value in held_out.items():
    varies(f"{name:10} {value:.4f}")
assert held_out["learned"] < min(
    0.9 * min(held_out[name] for name in common_grids(5)), held_out["greedy"]
)
assert all(t > s for record in history for t, s in itertools.pairwise(record.timesteps))

# %% [markdown]
# The spots are settled. Now the digits: DPM-Solver++(2M) of lesson 11, *three* steps, starting from the uniform grid; the
# teacher takes 25. The gradient runs back through three network calls; each is computed a second time on the way, so
# that memory never holds more than one. Sixty-four noises, all of them in each of five steps: a step that draws a few anew each
# time pushes the times about, and where they end depends on which came last.

# %%
moving = step_selection.in_continuous_time(unet)


def denoise_at(x_t: Tensor, t: float | Tensor, **cond: Tensor) -> Tensor:
    """The network at any time in [0, 1]."""
    with torch.autocast(
        lesson.device.type, lesson.dtype, enabled=lesson.dtype != torch.float32
    ):
        return moving(x_t, t, **cond)


def solved(grid: list[float], x_T: Tensor) -> Tensor:
    """Digits 0 … 9 in turn from these noises, by DPM-Solver++(2M)."""
    label = (torch.arange(len(x_T)) % 10).to(lesson.device)
    return samplers.sample_dpmpp_2m(denoise_at, x_T, moving.schedule, grid, label=label)


def noises(n: int) -> Tensor:
    """n noises of digits."""
    return torch.randn(n, 1, 28, 28, generator=lesson.generator).to(lesson.device)


slow, homework = samplers.log_snr_grid(moving.schedule, 25), noises(64)
wanted = solved(slow, homework)

# %% tags=["widget", "open"]
# Eq. (13.10)
descent = step_selection.learn_times(
    denoise_at,
    homework,
    wanted,
    moving.schedule,
    samplers.uniform_grid(moving.schedule, 3),
    steps=5,
    lr=0.15,
    label=(torch.arange(64) % 10).to(lesson.device),
)
digit_history = list(watch(descent, 5, label="times"))

# %% [markdown]
# The verdict, on eighty noises from which nothing was learned:

# %%
three = common_grids(3, moving.schedule)
three["best path"] = [t / 1000 for t in paths[2].timesteps]
three["learned"] = digit_history[-1].timesteps
unseen = noises(80)
target = solved(slow, unseen)
drift = {
    name: (solved(grid, unseen) - target).square().mean().sqrt().item()
    for name, grid in three.items()
}
for name, value in drift.items():
    varies(f"{name:10} {value:.4f} from the teacher")
assert drift["learned"] < min(v for name, v in drift.items() if name != "learned")

# %% tags=["figure", "fold"]
# @title Where six grids of three steps call the network
show(
    strips({name: [1000 * t for t in grid] for name, grid in three.items()}),
    "Six rows of three dots on a log axis of t: the four fixed grids, the best path by "
    "the bound, and the learned grid, which lies between the uniform and the quadratic "
    "one.",
)

# %% [markdown]
# The gradient found a grid between the uniform and the quadratic one: the first call is fixed, and the other two have
# moved towards the picture. What the bound wanted lies further on, and ends further from the teacher than either. Note
# what is *not* claimed. Nearer to the teacher is what it was trained for. Whether its digits are better, too, is another
# question, and a few dozen of them could not answer it. And sixty-four noises do for two free times. Five
# steps have four, and twenty noises are too few for them: of two such grids that we learned, one was nearer than the
# uniform grid on noises that it never met, and one further away. Section 7 has more of that.
#
# ## 7 · What usually goes wrong
#
# **"The best likelihood makes the best sampler."** Section 5 ran both: the grid with the best bound of all, and those
# that people use. The bound's grid had the better bits at every number of steps and, over five to ten of them, worse
# DDIM digits than the plain uniform one. Whoever optimises one number and reports another should measure both.
#
# **A grid that was tuned on its test seeds.** Ten steps have nine free times. Tune them on two noises, and report how
# well they do on these two; then ask two thousand others. (Twelve different pairs, and the mean of what came out: a
# single pair could be picked to show anything, and four still could.) *Predict: of the gain on the pair, how much is left on the others?*

# %%
begin = samplers.quadratic_grid(twin, 10)
pairs = [spots_noise(2) for _ in range(12)]


def tuned(noises: tuple[Tensor, Tensor]) -> list[float]:
    """Ten DDIM steps whose times were moved for these noises."""
    *_, last = step_selection.learn_times(
        exact, *noises, twin, begin, steps=50, lr=0.15, order=1
    )
    return last.timesteps


def mean(values: list[float]) -> float:
    """Of a few numbers."""
    return sum(values) / len(values)


on_pairs, on_many = [tuned(pair) for pair in pairs], tuned(many)
verdict = {
    "not tuned": (mean([miss(begin, *pair) for pair in pairs]), miss(begin, *judges)),
    "tuned on the two": (
        mean([miss(grid, *pair) for grid, pair in zip(on_pairs, pairs, strict=True)]),
        mean([miss(grid, *judges) for grid in on_pairs]),
    ),
    "tuned on 256": (
        mean([miss(on_many, *pair) for pair in pairs]),
        miss(on_many, *judges),
    ),
}

# %% [markdown]
# Each verdict twice, on the two noises and on two thousand others:

# %% tags=["figure", "fold"]
# @title Each verdict twice
figure, axis = plt.subplots(figsize=(6.5, 2.4))
places = torch.arange(3).double()
axis.barh(
    places - 0.18,
    [own for own, _ in verdict.values()],
    0.34,
    color=SKY,
    label="on the two noises",
)
axis.barh(
    places + 0.18,
    [others for _, others in verdict.values()],
    0.34,
    color=BLUE,
    label="on 2,000 others",
)
axis.set_yticks(range(3), list(verdict))
axis.set(xlabel="distance to the teacher, ten DDIM steps", xlim=(0, None))
axis.invert_yaxis()
axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
show(
    figure,
    "Pairs of bars. Tuned on two noises, the distance on these two falls by about a "
    "third, and on two thousand others by a tenth; tuned on 256 it is smallest on the "
    "others.",
)

# %%
gain = {
    name: tuple(
        1 - after / before
        for after, before in zip(verdict[name], verdict["not tuned"], strict=True)
    )
    for name in ("tuned on the two", "tuned on 256")
}
for name, (own, others) in gain.items():
    varies(
        f"{name:17} on the two noises {own:.0%} nearer, on 2,000 others {others:.0%}"
    )
assert gain["tuned on the two"][0] > 1.5 * gain["tuned on the two"][1]
assert gain["tuned on 256"][1] > 1.2 * gain["tuned on the two"][1]

# %% [markdown]
# Nine numbers have much room to fit four coordinates. What the pair reports is a few times what is there. The same
# happens, more quietly, to whoever tries a hundred grids on one seed and reports the best. **What chose the grid may not
# judge it.**
#
# ## 8 · The answer
#
# Which steps matter? It depends on what you count. By the bound a jump is a fresh look at the picture, paid at
# $\log(1 + \Delta\,m_t)$; a thousand errors price all jumps, and the cheapest path of any length is found exactly. It
# buys bits, and bits lie where the noise is too faint to see. For pictures, let the sampler say itself what it misses: move
# its steps until few end where many end, and judge on noises it never met.
#
# ### In your own words
# *Manually graded, about five lines.* A paper draft says: "Our dynamic programme finds the grid of 8 steps with the best
# bound, hence the best samples. We then refined it by trying 500 variations, and our FID on the evaluation seed is 12 %
# lower than that of the uniform grid." Name two separate faults, and say for each which experiment would settle it.

# %% [markdown] tags=["manual"] question="13.own_words" points=2
# ### BEGIN SOLUTION
# First, best bound does not mean best samples: the bound counts bits, most of which lie at noise levels that no eye and no feature
# network sees, so its best path spends its calls there. To settle it, measure FID of the bound's grid beside uniform, quadratic,
# log-SNR and Karras grids at the same number of steps, same n, with intervals. Second, 500 variations were chosen on the seed that
# then judged them; the smallest of 500 noisy figures is low by luck. To settle it, fix the chosen grid, draw new seeds (and choose
# and judge on different ones from the start), and report the difference with an interval; the uniform grid deserves as many trials.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: the bound is not the picture's quality, with a comparison of FID at equal steps and n. One point: the choice was made
# on the seed that judges, with held-out seeds (and an interval) as the test.

# %% [markdown]
# ## Summary
#
# * A jump from $t$ to $s$ is a fresh look at $x_0$ with SNR $\Delta = \mathrm{SNR}_s - \mathrm{SNR}_t$, (13.1); it costs
#   $\frac d2\log(1 + \Delta\,m_t)$ with the optimal variance, (13.3), and $\frac d2\Delta\,m_t$ with the posterior's.
# * $T$ numbers price $T^2/2$ jumps; dynamic programming finds the cheapest path of every length at once, (13.6).
# * With an exact denoiser and the optimal variance another step never costs, (13.9); with the posterior's it can, (13.8).
# * **The best bound is not the best picture.** Say which of the two you optimised.
# * Times can be learned through the sampler, (13.10), if their gaps are a softmax, (13.11). Judge on noises that were not
#   used to choose.

# %%
progress("13")

# %% [markdown]
# ## References
#
# * Watson, Ho, Norouzi, Chan: *Learning to Efficiently Sample from Diffusion Probabilistic Models*, 2021. Our (13.6), with the
#   variance that the network was trained with. On ImageNet 64 × 64 they lose less than 0.1 bits with 32 of 4,000 steps; and they
#   report that the grids do not improve FID.
# * Bao, Li, Zhu, Zhang: *Analytic-DPM*, 2022. The optimal variance, and (13.3) in other letters.
# * Kingma, Salimans, Poole, Ho: *Variational Diffusion Models*, 2021. Our (13.2), and the SNR as time.
# * Guo, Wu, Shamai, Verdú: *Estimation in Gaussian Noise: Properties of the Minimum Mean-Square Error*, 2011. Our (13.9),
#   and much more about $m_t$.
# * Watson, Chan, Ho, Norouzi: *Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality*, 2022.
# * Tong, Hoang, Liu, Van den Broeck, Niepert: *Learning to Discretize Denoising Diffusion ODEs*, 2025. Our (13.10) and (13.11).
# * Sabour, Fidler, Kreis: *Align Your Steps*, 2024. Another bound, for the same purpose.
#
# **Next:** lesson 14 goes down to a single step, and has to train another network for it.
