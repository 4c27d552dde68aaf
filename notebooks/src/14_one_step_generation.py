# %% [markdown]
# # 14 · One-step generation
#
# *You will prove that flow matching is a network you already have, read in other coordinates; measure how bent its paths
# are, and straighten them; and teach a network to jump to their ends at once, in three ways, each set beside the exact
# answer, point by point. At the end you drag a slider and digits are drawn under it, one network call each. About 70 minutes to
# read and run, 55 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports and data
import functools
import itertools
import math
import time
import warnings
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from course_utils import leaderboard, samplers, schedules
from course_utils.denoisers import Denoiser
from course_utils.exercises import check, progress
from course_utils.leaderboard.distillations import load_distillations
from course_utils.plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    image_grid,
    show,
    use_style,
)
from course_utils.pretrained import load_denoiser, read_manifest, recipe_of
from course_utils.runs import Training
from course_utils.runtime import varies
from course_utils.samplers import step_selection
from course_utils.tasks import Consistency, Jumping, MeanFlow, Reflow
from course_utils.toy import GaussianMixture
from course_utils.training import train
from course_utils.widgets import choice, explore, slider

use_style()
warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # of torch.func.jvp
flow = schedules.FlowMatching()
unet = load_denoiser("mnist-unet", lesson.device)

# %% [markdown]
# ## The question
#
# Eight noises, the network of lesson 07, and DDIM with ever fewer calls:

# %%
x_T = torch.randn(8, 1, 28, 28, generator=lesson.generator).to(lesson.device)
wish = torch.arange(8, device=lesson.device)
rows = {
    f"{n} call{'s' * (n > 1)}": samplers.sample_ddim(
        unet, x_T, unet.schedule, samplers.uniform_grid(unet.schedule, n), label=wish
    )
    for n in (8, 4, 2, 1)
}

# %% tags=["figure", "fold"]
# @title Eight noises, ever fewer calls
show(
    image_grid(
        torch.cat(list(rows.values())).cpu(),
        columns=8,
        row_labels=list(rows),
        size=0.75,
    ),
    "Four rows of the digits 0 to 7 from the same eight noises. Eight and four calls "
    "draw digits; two calls draw pale ones; a single call draws grey clouds, each the "
    "mean of its class.",
)

# %% [markdown]
# A thousand steps became ten in lesson 11, and here eight draw digits. **What stands in the way of one?** Not the network's
# size: the clouds of the last row are
# what the *best possible* denoiser would draw. Something else has to be learned. *Guess: a network of the very same size,
# trained to answer another question, called once:*

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice("", ["draws clouds, too", "draws pale digits", "draws digits"])
guess

# %% [markdown]
# ## 1 · The straight path
#
# Papers on few steps like a path of their own, from the picture to the noise in a straight line:
#
# $$x_t = (1 - t)\,x_0 + t\,\epsilon, \qquad \frac{dx_t}{dt} = u = \epsilon - x_0. \tag{14.1}$$
#
# (In many of them $t = 0$ is the noise. Here, as in all lessons, $t = 0$ is clean.) A network is trained to say $u$, which
# is called *flow matching* (Lipman et al., 2023). It can only say the mean of all $u$ that could be behind this $x_t$; with
# $\hat x_0 = \mathbb E[x_0 \mid x_t]$, and (11.1) with $\alpha_t = 1 - t$, $\sigma_t = t$,
#
# $$u(x, t) = \mathbb E[\epsilon - x_0 \mid x_t = x] = \frac{x - \hat x_0(x, t)}{t}. \tag{14.2}$$
#
# Is this a new kind of model? Scale $x_t$ to keep its variance: with $n^2 = (1 - t)^2 + t^2$, the point $x_t / n$ lies on
# a variance-preserving path, at $\alpha = (1 - t)/n$, $\sigma = t/n$, where lesson 03 predicted $v = \alpha\epsilon -
# \sigma x_0$. Put in $\epsilon = x_t + (1 - t)\,u$ and $x_0 = x_t - t\,u$, both from (14.1):
#
# $$v = \frac{(1 - t)\,\epsilon - t\,x_0}{n} = n\,u + \frac{1 - 2t}{n}\,x_t. \tag{14.3}$$
#
# Given $x_t$, the one is a line in the other. And the losses? The same $x_t$ on both sides, so the errors differ by $n$
# alone: $|v - \hat v|^2 = n^2\,|u - \hat u|^2$, a weight between $\frac12$ and 1. **Flow matching with Gaussian noise is
# v-prediction in other coordinates**, with another schedule and a slightly other weight.
#
# ### Exercise 1 · From u to v
# *10 minutes · easy · Eq. (14.3).* Each row has its own $t$.


# %% tags=["exercise"] exercise="14.v_from_u" points=1
# Exercise 14.v_from_u
def v_from_u(u: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """v on the variance-preserving path, (b, *shape). u, x_t: (b, *shape), on the
    straight path; t: (b,), in [0, 1]."""
    ### BEGIN SOLUTION
    t = t.reshape(-1, *[1] * (x_t.ndim - 1))
    n = ((1 - t) ** 2 + t**2).sqrt()
    return n * u + (1 - 2 * t) / n * x_t
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `t.reshape(-1, *[1] * (x_t.ndim - 1))` turns one number per row into something that multiplies images and points alike.
# </details>

# %% tags=["check"]
check("14.v_from_u", v_from_u)

# %% [markdown]
# Now the proof by running. The shipped U-Net was trained on $v$, on another schedule. Our wrapper scales its input to unit
# variance and tells it the log-SNR, so it can be asked on the straight path as it is. *The same network, the same
# noises*: a grid on its own path, and the times of the straight path with the same log-SNRs. Noises have to be scaled by $n$
# as well.

# %%
# Eq. (14.3)
twin = step_selection.in_continuous_time(unet)
straight = Denoiser(unet.network, flow, "v", unet.data_mean, unet.data_std)
grid = samplers.uniform_grid(twin.schedule, 6)
levels = [twin.schedule.log_snr(t) for t in grid[:-1]]
same_grid = [flow.t_at_log_snr(level).item() for level in levels] + [0.0]
n = math.hypot(1 - same_grid[0], same_grid[0])
as_v = samplers.sample_ddim(twin, x_T, twin.schedule, grid, label=wish)
as_u = samplers.sample_ddim(straight, n * x_T, flow, same_grid, label=wish)
varies(f"largest difference of a pixel: {(as_v - as_u).abs().max():.1e}")
assert (as_v - as_u).abs().max() < 1e-2

# %% [markdown]
# The network computes in float32; what is left is its rounding. For an exact denoiser, in float64, nothing is left. Five
# spots in the plane, whose denoiser is known (lesson 03), drawn by way of $v$ and by way of $u$:

# %%
corners = torch.arange(5) * 2 * math.pi / 5 + math.pi / 2
spots = GaussianMixture(
    1.5 * torch.stack([corners.cos(), corners.sin()], 1).double(), 0.04
)
vp = schedules.VPCosine()
vp_grid = [0.98 * (1 - i / 40) for i in range(41)]
flow_grid = [flow.t_at_log_snr(vp.log_snr(t)).item() for t in vp_grid[:-1]] + [0.0]
n = math.hypot(1 - flow_grid[0], flow_grid[0])
noise = torch.randn(500, 2, generator=lesson.generator).double()
by_v = samplers.sample_unipc(spots.denoiser(vp), noise, vp, vp_grid)
by_u = samplers.sample_unipc(spots.denoiser(flow), n * noise, flow, flow_grid)
assert torch.allclose(by_v, by_u, atol=1e-9)
print("500 points, 40 steps, two paths: the same to nine digits")

# %% [markdown]
# So a new name does not make fewer steps. What might is the *straightness*.
#
# ## 2 · Straight lines, bent paths
#
# Every line of (14.1) is straight. On a straight path one Euler step would do:
#
# $$x_1 - u(x_1, 1) = \hat x_0(x_1, 1) = \mathbb E[x_0]. \tag{14.4}$$
#
# But this is one point, the mean of all data: at $t = 1$ nothing of $x_0$ is seen, and the first velocity of every
# particle points at it. Those are the clouds. The *particles* do not move along the lines of (14.1) but along
# their mean, (14.2), and where lines cross the mean bends. How much?
#
# $$S = \int_0^1 \mathbb E\,\bigl|\,\dot x(t) - \bigl(x(1) - x(0)\bigr)\bigr|^2\,dt, \tag{14.5}$$
#
# the squared distance of the velocity from its own average, along the particle's path (Liu et al., 2023). It is zero only if all paths
# are straight and walked evenly.
#
# ### Exercise 2 · How bent
# *10 minutes · medium · Eq. (14.5).* From the states of a path at even times. The velocity between two neighbours is
# their difference over the time between them; all steps take $1/k$.


# %% tags=["exercise"] exercise="14.bend" points=2
# Exercise 14.bend
def bend(path: Tensor) -> Tensor:
    """S of each particle, (b,). path: (k + 1, b, d), the states at the times
    1, 1 - 1/k, …, 0."""
    ### BEGIN SOLUTION
    k = len(path) - 1
    velocity = (path[:-1] - path[1:]) * k
    return (velocity - (path[0] - path[-1])).square().sum(-1).mean(0)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `path[:-1] - path[1:]` is how far each step went, later time minus earlier; times $k$ it is a velocity. The chord
# $x(1) - x(0)$ is `path[0] - path[-1]`. Sum over coordinates, mean over steps.
# </details>

# %% tags=["check"]
check("14.bend", bend)

# %%
# Eq. (14.5)
TIMES = [1 - i / 100 for i in range(101)]


@torch.no_grad()
def walk(velocity, x: Tensor) -> Tensor:
    """States at TIMES, (101, b, d): the midpoint rule along dx/dt = velocity(x, t)."""
    states = [x]
    for t, s in itertools.pairwise(TIMES):
        half = x - (t - s) / 2 * velocity(x, t)
        x = x - (t - s) * velocity(half, (t + s) / 2)
        states.append(x)
    return torch.stack(states)


def exact_velocity(x: Tensor, t: float) -> Tensor:
    """Eq. (14.2) of the five spots."""
    return (x - spots.denoise(x, t, flow)) / t


def bend_of(path: Tensor) -> float:
    """S on average over particles."""
    velocity = (path[:-1] - path[1:]) * (len(path) - 1)
    return (velocity - (path[0] - path[-1])).square().sum(-1).mean().item()


start = torch.randn(1000, 2, generator=lesson.generator).double()
exact_paths = walk(exact_velocity, start)
print(f"the exact flow of the five spots: S = {bend_of(exact_paths):.3f}")
assert bend_of(exact_paths) > 0.1

# %% [markdown]
# Which lines cross depends on *who is paired with whom*. We drew each $\epsilon$ and each $x_0$ by themselves, but nothing in (14.1) asks
# for it: any coupling of the two, with the right crowd at each end, has a flow between the same two crowds. Its crossings have a
# price of their own, the least loss that flow matching can reach:
#
# $$V = \int_0^1 \mathbb E\,\bigl|(\epsilon - x_0) - \mathbb E[\epsilon - x_0 \mid x_t]\bigr|^2\,dt. \tag{14.6}$$
#
# With $V = 0$ the $x_t$ tells which line it lies on; then the flow *is* the lines, and straight. Two ways to cross less:
#
# * **Minibatch optimal transport** (Tong et al., 2024): pair the noises and the data of a batch anew, so that the sum of
#   squared distances is small. Below by Sinkhorn's algorithm, which turns $e^{-|\epsilon_i - x_j|^2 / \tau}$ into a table with
#   equal row and column sums by dividing by rows and columns in turn; partners are then drawn from it.
# * **Reflow** (Liu et al., 2023): pair each noise with the point at which *its own* particle arrived, and match a new flow
#   to those lines. Particles of a flow never meet, so these lines cross less. And no convex cost $c$ of the coupling rises: with
#   the line's velocity $\Delta = \epsilon - x_0$, the new partners differ by $\int u(x(t), t)\,dt$. At each $t$ a particle
#   $x(t)$ has the law of $x_t$ (lesson 11), and $u$ is (14.2), a conditional mean. So by Jensen, twice,
#
# $$\mathbb E\,c\Bigl(\int_0^1 u\,dt\Bigr) \le \int_0^1 \mathbb E\,c\bigl(\mathbb E[\Delta \mid x_t]\bigr)\,dt
# \le \int_0^1 \mathbb E\,c(\Delta)\,dt = \mathbb E\,c(\epsilon - x_0). \tag{14.7}$$


# %%
# Eqs. (14.6) and (14.7): three couplings
def independent(n: int, generator: torch.Generator) -> Tensor:
    """Pairs (n, 2, 2) of noise and data, drawn each by itself."""
    eps = torch.randn(n, 2, generator=generator)
    return torch.stack([eps, spots.sample(n, generator).float()], 1)


def transported(n: int, generator: torch.Generator) -> Tensor:
    """The same, paired anew within the batch, by Sinkhorn."""
    eps, x_0 = independent(n, generator).unbind(1)
    log_plan = -(torch.cdist(eps, x_0) ** 2) / 0.1
    for _ in range(30):
        log_plan = log_plan - log_plan.logsumexp(1, keepdim=True)
        log_plan = log_plan - log_plan.logsumexp(0, keepdim=True)
    partner = torch.multinomial(log_plan.softmax(1), 1, generator=generator)[:, 0]
    return torch.stack([eps, x_0[partner]], 1)


arrived = torch.stack([exact_paths[0], exact_paths[-1]], 1).float()
several = walk(
    exact_velocity, torch.randn(4000, 2, generator=lesson.generator).double()
)
reflowed_pairs = torch.stack([several[0], several[-1]], 1).float()


def reflowed(n: int, generator: torch.Generator) -> Tensor:
    """Noises, and where the exact flow of the independent coupling took them."""
    return reflowed_pairs[torch.randint(4000, (n,), generator=generator)]


costs = {
    pairs.__name__: (lambda p: (p[:, 0] - p[:, 1]).square().sum(1).mean().item())(
        torch.cat([pairs(256, lesson.generator) for _ in range(8)])
    )
    for pairs in (independent, transported, reflowed)
}
for name, cost in costs.items():
    varies(f"{name:12} E |eps - x_0|² = {cost:.2f}")
assert costs["reflowed"] < costs["independent"] > costs["transported"]

# %% [markdown]
# (14.7) holds, by a wide margin. Of the flows themselves only that of the independent
# coupling is a closed form. So a small network learns each of the three, (14.1) on pairs, and we measure $S$ along its particles.


# %%
class Jumper(nn.Module):
    """A small network for points: told x, t and r (which is t unless told)."""

    def __init__(self, d: int, width: int = 96):
        super().__init__()
        sizes = [d + 2, width, width, width]
        hidden = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.hidden, self.last = nn.ModuleList(hidden), nn.Linear(width, d)

    def forward(self, x: Tensor, log_snr: Tensor, log_snr_r: Tensor | None = None):
        """t from the log-SNR: a network of the straight path may use the very t."""
        ends = log_snr, log_snr if log_snr_r is None else log_snr_r
        h = torch.cat([x, *(torch.sigmoid(-s / 2)[:, None] for s in ends)], 1)
        for layer in self.hidden:
            h = nn.functional.silu(layer(h))
        return self.last(h)


def learn(task, data, d: int, deviation: float, steps: int = 900, lr: float = 0.01):
    """A Jumper after some hundred steps of a task; its averaged weights."""
    model = Denoiser(Jumper(d), flow, "v", 0.0, deviation)
    run = Training(model, lr=lr, ema=0.98, precision=torch.float32)
    for _ in train(run, data, steps=steps, batch_size=256, warmup=50, task=task):
        pass
    return run.averaged()


# %%
flows = {
    pairs.__name__: learn(Reflow(), pairs, d=2, deviation=1.1)
    for pairs in (independent, transported, reflowed)
}
paths = {
    name: walk(lambda x, t, model=model: (x - model(x, t)) / t, start[:500].float())
    for name, model in flows.items()
}
bends = {name: bend_of(path) for name, path in paths.items()}
for name, value in bends.items():
    varies(f"{name:12} S = {value:.3f}")
assert bends["transported"] < bends["independent"] / 2
assert bends["reflowed"] < bends["independent"] / 2

# %% tags=["figure", "fold"]
# @title The paths of sixty particles under three couplings
figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), sharex=True, sharey=True)
for axis, (name, path) in zip(axes, paths.items(), strict=True):
    axis.plot(path[:, :60, 0], path[:, :60, 1], color=BLUE, lw=0.7, alpha=0.7)
    axis.plot(path[-1, :60, 0], path[-1, :60, 1], ".", color=ORANGE, ms=4)
    axis.set(title=f"{name}, S = {bends[name]:.2f}", aspect="equal")
show(
    figure,
    "Three panels of sixty paths from noise to five spots. Independent pairs: paths "
    "head for the middle first, then bend out to a spot. Transported and reflowed "
    "pairs: almost straight lines.",
)

# %% [markdown]
# What you see is the reason for the clouds: with independent pairs everybody walks to the middle first. The other two walk
# straight to their spots, at a price. Transport needs large batches in many dimensions; with 784 pixels any two noises
# are about equally far from a digit, and a batch holds no good partners. Reflow needs a flow that was solved, pair by pair, and
# inherits its faults.
#
# ## 3 · Where a path ends
#
# Straightening is a detour: what one wants is the path's *end*. Call it $f$:
#
# $$f(x_t, t) = x_0 \text{, the end of the path through } x_t. \tag{14.8}$$
#
# Two facts make it learnable (Song et al., 2023). **It does not change along a path**, so that two points of one path must
# get the same answer. And **$f(x, 0) = x$**: without that, $f = 0$ everywhere would be consistent too. It costs nothing: our wrapper,
# (4.8), says, with the data's mean $\mu$ and deviation $s$,
#
# $$f = \mu + c_\mathrm{skip}\,(x_t - \alpha_t\mu) - c_\mathrm{out}\,F, \qquad c_\mathrm{out} = \frac{s\,\sigma_t}{\sqrt{\alpha_t^2 s^2 + \sigma_t^2}}, \tag{14.9}$$
#
# with $c_\mathrm{skip}$ as in (4.9). At $t = 0$, where $\alpha_0 = 1$ and $\sigma_0 = 0$, it is 1, and $f$ is $x$ whatever the
# network $F$ says. (A schedule that ends at $\sigma_\min > 0$ must shift both,
# so that it holds *there*.)
#
# More generally one may jump from $t$ to any $r < t$. With the **mean velocity** of the way in between,
# $\bar u(x_t, t, r) = (x_t - x_r)/(t - r)$, the jump is $x_r = x_t - (t - r)\,\bar u$; and if we write it, as everything
# here, with a guess $\hat x_0 = x_t - t\,\bar u$,
#
# $$x_r = x_t - (t - r)\,\frac{x_t - \hat x_0(x_t, t, r)}{t}, \tag{14.10}$$
#
# it is a step of DDIM whose guess may depend on $r$. At $r = t$ the guess is the denoiser's; at $r = 0$ it is $f$. **One
# network, told a second time, is everything from a denoiser to a one-step generator.** In the U-Net this second time is
# one more embedding. It starts at zero, so that training can begin with the network we have.
#
# ### Exercise 3 · One jump
# *10 minutes · easy · Eq. (14.10).* Each row has its own $t$ and $r$; no $t$ is 0.


# %% tags=["exercise"] exercise="14.jump" points=1
# Exercise 14.jump
def jump(x_t: Tensor, x0_hat: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """x_r on the straight path. x_t, x0_hat: (b, *shape);
    t, r: (b,), 0 <= r <= t."""
    ### BEGIN SOLUTION
    t, r = (time.reshape(-1, *[1] * (x_t.ndim - 1)) for time in (t, r))
    return x_t - (t - r) * (x_t - x0_hat) / t
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# First the mean velocity, `(x_t - x0_hat) / t`; then go against it for the time $t - r$. Reshape both times as in exercise 1.
# </details>

# %% tags=["check"]
check("14.jump", jump)

# %% [markdown]
# In one dimension $f$ is known: particles cannot overtake, so it maps quantiles to quantiles, (11.4), $f(x_1, 1) =
# F_0^{-1}(\Phi(x_1))$. That is our judge from here on. Two humps:

# %%
# The quantile map, as in (11.4)
humps = GaussianMixture(
    torch.tensor([[-1.0], [0.9]]).double(),
    torch.tensor([[0.09], [0.16]]).double(),
    torch.tensor([0.4, 0.6]).double(),
)
DEVIATION = 1.0  # about the root mean square of the data


def cdf(x: Tensor) -> Tensor:
    """F_0 of the two humps, of any shape."""
    z = (x[..., None] - humps.means[:, 0]) / humps.variances[:, 0].sqrt()
    return torch.special.ndtr(z) @ humps.weights


def exact_end(x_1: Tensor) -> Tensor:
    """f(x_1, 1), by bisection."""
    low, high = torch.full_like(x_1, -4), torch.full_like(x_1, 4)
    for _ in range(60):
        middle = (low + high) / 2
        below = cdf(middle) < torch.special.ndtr(x_1)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return middle


ruler = torch.special.ndtri((torch.arange(1000).double() + 0.5) / 1000)  # quantiles
truth = exact_end(ruler)


def data(n: int, generator: torch.Generator) -> Tensor:
    """Draws of the two humps."""
    return humps.sample(n, generator).float()


# %% [markdown]
# ## 4 · Three ways to learn it
#
# **Consistency.** Cut time into steps. Take a noisy $x_t$, make one small step back to $x_r$, and ask that
#
# $$f(x_t, t) = \mathrm{sg}\,f(x_r, r), \qquad x_r \text{ from } x_t \text{ by (14.10) with some guess of } x_0. \tag{14.11}$$
#
# The $\mathrm{sg}$ stops the gradient: the target is a number, so that what is nearer to the data teaches what is further
# away, and not the reverse. Truth enters at the last step, where $f(x_0, 0) = x_0$, and runs up from there.
# With a teacher's guess this is consistency *distillation*. And with the true $x_0$ as the guess, $x_r$ has the noise of
# $x_t$ (and must meet the same dropout, if there is any), no teacher is needed, and it is consistency *training*: on average
# over $x_0$ that guess is the best denoiser's,
# and the difference is a noise that grows with the step.
#
# **Mean velocity.** Write (14.10)'s definition as $(t - r)\,\bar u = \int_r^t u(x_\tau, \tau)\,d\tau$ and differentiate by
# $t$, along the path:
#
# $$\bar u + (t - r)\,\frac{d\bar u}{dt} = u(x_t, t), \qquad
# \frac{d\bar u}{dt} = \frac{\partial\bar u}{\partial x}\,u + \frac{\partial\bar u}{\partial t}. \tag{14.12}$$
#
# No integral is left, and no solver. Training (Geng et al., 2025, *MeanFlow*) brings $\bar u$ near to
#
# $$\mathrm{sg}\Bigl[\,v - (t - r)\,\frac{d\bar u}{dt}\Bigr], \tag{14.13}$$
#
# where $v$, in the paper's letter and not that of (14.3), is $\epsilon - x_0$, whose mean is $u$, or a teacher's $u$ itself.
# The total derivative is *one* product of the Jacobian with a vector,
# forward mode: `torch.func.jvp` of $\bar u$ as a function of $(x, t)$ at the tangents $(v, 1)$; $r$ rests. The target is
# stopped for two reasons: a gradient through it would differentiate the network twice; and it would also pull the
# target towards the answer, which is not (14.12).
#
# ### Exercise 4 · The target of a mean velocity
# *15 minutes · medium · Eq. (14.13).* `dudt` is what `jvp` returned. No gradient may flow through what you return.


# %% tags=["exercise"] exercise="14.mean_flow_target" points=2
# Exercise 14.mean_flow_target
def mean_flow_target(v: Tensor, dudt: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """The target of Eq. (14.13), (b, *shape). v, dudt: (b, *shape); t, r: (b,)."""
    ### BEGIN SOLUTION
    gap = (t - r).reshape(-1, *[1] * (v.ndim - 1))
    return (v - gap * dudt).detach()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `.detach()` is the $\mathrm{sg}$. Detach the whole, not one term.
# </details>

# %% tags=["check"]
check("14.mean_flow_target", mean_flow_target)

# %% [markdown]
# Is (14.12) right? Here $\bar u$ is known to any number of digits, from quantiles at $t$ and $r$. Its derivative along the
# path, by a difference quotient, against the exact velocity:

# %%
# Eq. (14.12)
p = torch.linspace(0.02, 0.98, 49).double()  # particles, by their rank


def at(t: float) -> Tensor:
    """Where they are at time t: quantiles of x_t."""
    width = ((1 - t) ** 2 * humps.variances[:, 0] + t**2).sqrt()
    low, high = torch.full_like(p, -6), torch.full_like(p, 6)
    for _ in range(70):
        middle = (low + high) / 2
        z = (middle[:, None] - (1 - t) * humps.means[:, 0]) / width
        below = torch.special.ndtr(z) @ humps.weights < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return middle


for t, r in [(0.9, 0.1), (0.7, 0.4), (0.5, 0.0)]:
    mean = [(at(s) - at(r)) / (s - r) for s in (t - 1e-4, t, t + 1e-4)]
    velocity = (at(t) - humps.denoise(at(t)[:, None], t, flow)[:, 0]) / t
    left = mean[1] + (t - r) * (mean[2] - mean[0]) / 2e-4
    assert torch.allclose(left, velocity, atol=1e-5)
print("three pairs of times, 49 particles: the identity holds")

# %% [markdown]
# **Regression on ends.** Third, the plain way: solve the flow from many noises, once, keep the pairs, and learn
# them by heart. It is what follows reflow in the papers, and needs no theory.
#
# Now all of them: the same small network, the same number of steps, with the exact denoiser as teacher where one is
# needed. *Which will be nearest to the exact map, and which furthest?*

# %%
teacher = humps.denoiser(flow)


def solved(n: int, generator: torch.Generator) -> Tensor:
    """Pairs of a noise and its end, by sixteen steps of DPM-Solver++(2M)."""
    eps = torch.randn(n, 1, generator=generator)
    ends = samplers.sample_dpmpp_2m(teacher, eps, flow, samplers.uniform_grid(flow, 16))
    return torch.stack([eps, ends], 1)


methods = {
    "consistency distillation": (Consistency(teacher=teacher, steps=32), data),
    "consistency training": (Consistency(steps=32), data),
    "mean flow, with a teacher": (
        MeanFlow(teacher=teacher, same=0.25, whole=0.3),
        data,
    ),
    "mean flow, from data": (MeanFlow(same=0.5, whole=0.2), data),
    "regression on ends": (Jumping(times=(1.0, 0.0)), solved),
}
jumpers = {}
for name in ("consistency distillation", "consistency training", "regression on ends"):
    task, source = methods[name]
    jumpers[name] = learn(task, source, d=1, deviation=DEVIATION)

# %% [markdown]
# Each step of mean flow costs more, for its derivative:

# %%
for name in ("mean flow, with a teacher", "mean flow, from data"):
    task, source = methods[name]
    jumpers[name] = learn(task, source, d=1, deviation=DEVIATION)


# %%
@torch.no_grad()
def one_call(model) -> Tensor:
    """f(x_1, 1) on the ruler of noises."""
    return model(ruler[:, None].float(), 1.0, r=0.0)[:, 0].double()


def miss(ends: Tensor) -> float:
    """Root mean square distance from the exact map, over noises."""
    return (ends - truth).square().mean().sqrt().item()


found = {name: one_call(model) for name, model in jumpers.items()}
cloud = (humps.weights @ humps.means[:, 0]).expand(1000)  # (14.4)
varies(f"{'one call of the exact denoiser':32} {miss(cloud):.3f}")
for name, ends in found.items():
    varies(f"{name:32} {miss(ends):.3f}")
assert miss(found["regression on ends"]) < 0.2 * miss(cloud)
assert miss(found["consistency distillation"]) < 0.5 * miss(cloud)
assert all(miss(ends) < miss(cloud) for ends in found.values())

# %% tags=["figure", "fold"]
# @title Each map, point by point
figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), sharex=True, sharey=True)
for axis, (name, ends), colour in zip(
    axes, found.items(), (BLUE, SKY, ORANGE, PINK, GREEN), strict=True
):
    axis.plot(ruler, truth, color=BLACK, lw=3, alpha=0.3)
    axis.plot(ruler, ends, color=colour, lw=1.3)
    axis.set_title(name, fontsize=8)
    axis.set(xlabel="noise $x_1$")
axes[0].set(ylabel="end $x_0$", ylim=(-2.6, 2.6))
show(
    figure,
    "Five panels: the exact map from noise to data, a smooth staircase with one steep "
    "rise, and what each method learned. Regression lies on it, distillation near it; "
    "of those without a teacher the rise is rounded off, or beside its place.",
)

# %% [markdown]
# All of them beat the cloud, and not alike. The steep rise between the humps is what is hard: a noise a little further
# right belongs to the other hump. Learning the ends by heart has it exactly: its targets are the truth, and they stand
# still. A target that is made of the network's own answer must first become right near the data, and then carry it up; and
# where nobody but $x_0$ itself stands in for the teacher it is noisy as well. With nine hundred steps the rise is still rounded off, or
# stands beside its place. (What the large
# budgets in papers buy is this: they pay in training what regression pays in solving the flow beforehand.)
#
# Several calls. A consistency network goes to clean data, adds fresh noise for an earlier time, and goes again. A mean-flow
# network jumps to $r$ and goes on from there. We compare whole distributions, since the first way draws noise: the mean distance between sorted samples
# and exact quantiles.

# %%
some = torch.randn(4000, 1, generator=lesson.generator)
exact_quantiles = exact_end(
    torch.special.ndtri((torch.arange(4000).double() + 0.5) / 4000)
)


def distance(x_0: Tensor) -> float:
    """Of the samples' distribution to the data's (Wasserstein, order 1)."""
    return (x_0[:, 0].double().sort().values - exact_quantiles).abs().mean().item()


again = functools.partial(samplers.sample_consistency, generator=lesson.generator)
ways = {
    "exact denoiser, DDIM": (samplers.sample_ddim, teacher),
    "consistency distillation": (again, jumpers["consistency distillation"]),
    "mean flow, with a teacher": (
        samplers.sample_flow_map,
        jumpers["mean flow, with a teacher"],
    ),
}
varies(f"{'calls':26}" + "".join(f"{n:8}" for n in (1, 2, 4, 8)))
for name, (sample, model) in ways.items():
    row = [
        distance(sample(model, some, flow, samplers.uniform_grid(flow, n)))
        for n in (1, 2, 4, 8)
    ]
    varies(f"{name:26}" + "".join(f"{value:8.3f}" for value in row))
    if name.startswith("consistency"):
        assert row[0] < 0.5 * distance(
            samplers.sample_ddim(teacher, some, flow, [1.0, 0.0])
        )

# %% [markdown]
# The denoiser needs many calls. The jumpers are near at once, and gain little or nothing by more of them: each further jump brings a
# fault of its own.
#
# ## 5 · Digits
#
# `mnist-onestep` is the U-Net of lesson 07, with a second time added, and nothing else changed: 1.7 million weights. It began with
# the weights of `mnist-unet` and learned regression on ends: paths of the teacher, a little guided (six
# steps of DPM-Solver++(2M), $w = 1.1$), 36,000 of them, drawn once and kept, and learned several times over, in pixels and in
# the eyes of a small classifier, `mnist-eyes`, that is
# not the one which measures. Beside the pairs it is told how far a batch of its digits is from a batch of
# the teacher's: their energy distance in the same eyes.

# %%
onestep = load_denoiser("mnist-onestep", lesson.device)
recipe = recipe_of("mnist-onestep")
ours = {
    "mnist-onestep, 1 call": samplers.sample_flow_map(
        onestep, x_T, onestep.schedule, [1000, 0], label=wish
    ),
    "2 calls": samplers.sample_consistency(
        onestep,
        x_T,
        onestep.schedule,
        [1000, 500, 0],
        generator=lesson.generator,
        label=wish,
    ),
    "mnist-unet, 8 calls": rows["8 calls"],
    "1 call": rows["1 call"],
}
looks = recipe.steps * recipe.batch_size
print(f"learned in {looks:,} looks at {recipe.paths['n']:,} paths")

# %% tags=["figure", "fold"]
# @title The same eight noises, a network that jumps
show(
    image_grid(
        torch.cat(list(ours.values())).cpu(),
        columns=8,
        row_labels=list(ours),
        size=0.75,
    ),
    "Four rows of the digits 0 to 7 from the noises of the first figure. The one-step "
    "network draws digits in one call and in two; below it the teacher's digits in "
    "eight calls, and its clouds in one.",
)

# %% [markdown]
# Same noise, same class, about the same digit as the teacher in eight calls: a flow map is what it learned. How good is it?
# `course bench onestep` draws and stores these rows. FID counts as in lesson 09, with the floor of real images; a
# figure at another n is another figure.

# %%
stored = leaderboard.load("one-step")
for n in sorted({row.n for row in stored}):
    some_rows = [row for row in stored if row.n == n]
    print(f"n = {n:,}, floor {some_rows[0].floor:.4f}   calls, FID, training calls")
    for row in sorted(some_rows, key=lambda row: (row.network, row.sampler, row.nfe)):
        cost = recipe_of(row.network).calls / 1e6
        print(
            f"  {row.network:14} {row.sampler:12} {row.nfe}  {row.fid:8.4f} "
            f"[{row.low:.4f}, {row.high:.4f}]  {cost:.1f} M"
        )
print("its card:", read_manifest()["mnist-onestep"]["measured"])

# %% [markdown]
# Read it as lesson 11 taught: by calls, and beside the floor of the same n. (The last column is what training cost, in
# network calls of one image, a step counted as three; for `mnist-onestep` with its paths, and after its teacher's.) In one
# call the denoiser's clouds are far from digits
# (13, where real ones have hundredths); the network of the same size that was told where to jump is near the floor. *How*
# near, a thousand images cannot say:
# the intervals reach below it. Ten thousand can: one call is still several times the floor, where the teacher
# with fifty calls hardly differs from it (lesson 07); a second jump about halves the figure. (An earlier one, with a fifth of the steps, a third
# of the paths, and a teacher guided more, had half as much again at one call.) The teacher was paid for, once, in those paths and
# in the steps that learned from them. From then on a picture costs one call.
# (The card has another interval for the same figure: both come of 200 resamples, and those were others.)
#
# And the other ways of section 4? `course bench distillations` gave all four the same beginning, the weights of `mnist-unet` in a
# network that also hears where a jump ends, the same thousand steps of 32 digits, and two thousand digits to draw at the end.
# *Predict: which is best in one call, and which in eight?*

# %% tags=["figure", "fold"]
# @title Four ways to jump, a thousand steps each
LOOKS = {
    "regression on ends": (BLUE, "o-"),
    "consistency distillation": (ORANGE, "s-"),
    "mean flow": (GREEN, "D-"),
    "consistency training": (PINK, "^-"),
    "DDIM": (BLACK, "o:"),
    "UniPC-2": (BLACK, "s--"),
}
learned = [row for row in load_distillations() if row.seed == 0]
figure, axis = plt.subplots(figsize=(7, 3.4))
for way, (colour, look) in LOOKS.items():
    mine = sorted((row for row in learned if row.way == way), key=lambda row: row.nfe)
    calls, found = [row.nfe for row in mine], [row.fid for row in mine]
    axis.plot(calls, found, look, color=colour, ms=4, label=way)
    axis.vlines(calls, [r.low for r in mine], [r.high for r in mine], colour, lw=1)
    varies(
        f"{way:26}{mine[0].seconds / 60:6.1f} min" + "".join(f"{v:9.3f}" for v in found)
    )
axis.axhline(learned[0].floor, color=BLACK, ls=":", lw=0.8)
axis.set(xscale="log", yscale="log", xlabel="calls", ylabel="FID, n = 2,000")
axis.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
axis.minorticks_off()
figure.legend(fontsize=8, loc="outside right upper")
show(
    figure,
    "FID against network calls, both logarithmic, with intervals (those that reach "
    "zero run off the page) and the floor of real digits. At one call regression on "
    "ends is lowest, three times the floor; above it the two consistencies, mean flow, "
    "and far above DDIM and UniPC, one line up to two calls. At eight calls mean flow, "
    "DDIM and UniPC are at the floor, regression's interval reaches it, and the "
    "consistencies are above.",
)
fid = {(row.way, row.nfe): row.fid for row in learned}
assert len(fid) == len(learned)  # one training of each
in_one = sorted(LOOKS, key=lambda way: fid[way, 1])
assert in_one[0] == "regression on ends"
assert (
    fid["mean flow", 8] < fid["regression on ends", 8] < fid["consistency training", 8]
)

# %% [markdown]
# *In one call learning the ends by heart leads, by far. In eight it does not:* mean flow is at the floor by then, beside the teacher,
# taught nothing more; regression cannot be told from either, and the two consistencies are above the floor. Mean flow costs most
# (the minutes beside the names, the teacher's part included), for its derivative, which is taken in full precision; consistency
# training costs least, and asks no teacher, though it began with one's weights.
#
# It is no fair race. Regression alone was also shown its digits through `mnist-eyes`, and FID looks with eyes of that kind. In
# several calls mean flow jumps on, and the others go back up with fresh noise, which costs
# `mnist-onestep` at two calls 0.033 where jumps have 0.021. Mean flow's first call is told a noise level that its training never
# reached, since the straight path begins in pure noise (begun a little later, it has 5.8 in one call, no better). The teacher of three of them is guided a little, DDIM and UniPC are not. A thousand
# steps are few: those who invented these methods took hundreds of thousands. And the intervals are for other noises, not for another
# training: mean flow in one call has 3.9 here, and had 2.2 on another seed.
#
# On that seed each way's rate was chosen, the best of three in one call; nothing else was tuned, and for regression and mean
# flow the best is the largest tried, $10^{-3}$. At that rate the consistencies end in one call about where the teacher began
# or worse, at 17 (distillation) and 13 (training), where it has 13.3; at a fifth of it they had 0.3 and 0.4. None of the others
# depends as much on its rate.
#
# ## 6 · While you drag
#
# One call is some milliseconds. So nothing has to be drawn beforehand: move through the space of noises, and let the network
# draw under your hand. Between two noises the straight line will not do: its middle, $(a + b)/2$, has
# half the variance, and no noise of training looked so. On the sphere, as in (10.15), it keeps its length; with $\theta$ the
# angle between $a$ and $b$,
#
# $$z(s) = \frac{\sin((1 - s)\,\theta)\,a + \sin(s\,\theta)\,b}{\sin\theta}. \tag{14.14}$$
#
# ### Exercise 5 · Along the sphere
# *10 minutes · easy · Eq. (14.14).* One angle for the whole noise, whatever its shape.


# %% tags=["exercise"] exercise="14.slerp" points=1
# Exercise 14.slerp
def slerp(a: Tensor, b: Tensor, s: float) -> Tensor:
    """The noise at s, from a (s = 0) to b (s = 1). a, b: of one shape."""
    ### BEGIN SOLUTION
    theta = ((a * b).sum() / (a.norm() * b.norm())).arccos()
    return (((1 - s) * theta).sin() * a + (s * theta).sin() * b) / theta.sin()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# The cosine of the angle is `(a * b).sum() / (a.norm() * b.norm())`; `.arccos()` makes it the angle.
# </details>

# %% tags=["check"]
check("14.slerp", slerp)

# %%
# Eq. (14.14)
a, b = torch.randn(2, 1, 28, 28, generator=lesson.generator).to(lesson.device)


def between(s: float) -> Tensor:
    """The noise at s."""
    theta = ((a * b).sum() / (a.norm() * b.norm())).arccos()
    return (((1 - s) * theta).sin() * a + (s * theta).sin() * b) / theta.sin()


def drawn(z: Tensor, digit: int) -> Tensor:
    """Digits from noises (n, 1, 28, 28), one network call."""
    label = torch.full((len(z),), digit, device=lesson.device)
    with torch.no_grad():
        return onestep(z, 1000, r=0, label=label).cpu()


middle, line = between(0.5), (a + b) / 2
print(
    f"variance in the middle: {middle.var():.2f}; of the straight line {line.var():.2f}"
)
assert abs(middle.var() - 1) < 0.15 < 1 - line.var()

# %% tags=["widget", "fold"]
# @title Digits while you drag
TOOK = []


def live(digit: int, s: float) -> plt.Figure:
    """The digit at s, and the rate of the last twenty calls."""
    began = time.perf_counter()
    image = drawn(between(s)[None], digit)
    TOOK.append(time.perf_counter() - began)
    rate = 1 / (sum(TOOK[-20:]) / len(TOOK[-20:]))
    return image_grid(image, size=2.2, title=f"one call, {rate:.0f} a second")


explore(
    live,
    alt="One digit, drawn by one network call for each position of the sliders; the "
    "title says how many calls a second the network makes.",
    digit=slider("class", 0, 9, 3),
    s=slider("from one noise to another", 0.0, 1.0, 0.0, 0.02),
)

# %% [markdown]
# *Drag slowly. Where does one form turn into another, and is there a moment in between that is no digit?* The same as a
# film, for a page without a kernel:

# %% tags=["figure", "fold"]
# @title The film: four classes along one arc
film = torch.stack([between(i / 9) for i in range(10)])
show(
    image_grid(
        torch.cat([drawn(film, digit) for digit in (2, 3, 7, 8)]), columns=10, size=0.7
    ),
    "Four rows of ten digits, 2, 3, 7 and 8, along the arc between two noises: slant "
    "and weight change little by little, and every frame is a digit or nearly one.",
)

# %% [markdown]
# The figures cost more than the digits: most of the time under your hand goes into drawing the picture's frame. `course bench onestep` measures the
# network alone.
#
# ## 7 · What usually goes wrong
#
# Three slips of (14.13), each from public code. The world of two humps tells them apart in seconds: as in
# section 4 with its exact teacher, in six hundred steps, one line changed.
#
# * The factor $(t - r)$ is lost: `v - dudt`.
# * The tangents stand in the wrong order: $x$ moves at 1, and time at $v$.
# * The target keeps its gradient.


# %%
@dataclass(frozen=True)
class Slip(MeanFlow):
    """MeanFlow of section 4 with one thing wrong, `slip`."""

    slip: str = ""

    def __call__(self, run, x_0: Tensor, label, generator: torch.Generator):
        n = len(x_0)
        two, kind = (
            torch.rand(2, n, generator=generator),
            torch.rand(n, generator=generator),
        )
        t, r = 0.001 + 0.998 * two.amax(0), 0.001 + 0.998 * two.amin(0)
        r = torch.where(kind < self.same, t, torch.where(kind > 1 - self.whole, 0.0, r))
        eps = torch.randn(x_0.shape, generator=generator)
        T, R = t[:, None], r[:, None]
        x_t = (1 - T) * x_0 + T * eps
        v = (x_t - teacher(x_t, t)) / T
        tangents = (v, torch.ones_like(t))
        if self.slip == "tangents swapped":
            tangents = (torch.ones_like(v), v[:, 0])
        u, dudt = torch.func.jvp(
            lambda x, t: (x - run.model(x, t, r=r)) / t[:, None], (x_t, t), tangents
        )
        target = v - (1 if self.slip == "t - r lost" else T - R) * dudt
        target = target if self.slip == "not detached" else target.detach()
        squared = (u - target).square().mean(1)
        return squared / (squared.detach() + 1e-3), t


slips = {}
for slip in ("", "t - r lost", "tangents swapped", "not detached"):
    task = Slip(same=0.25, whole=0.3, slip=slip)
    slips[slip or "as it should be"] = miss(
        one_call(learn(task, data, d=1, deviation=DEVIATION, steps=600))
    )

# %%
for name, value in slips.items():
    varies(f"{name:18} {value:.3f}")
assert slips["t - r lost"] > 1.5 * slips["as it should be"]
assert slips["tangents swapped"] > 1.5 * slips["as it should be"]

# %% [markdown]
# The first two ruin it. The third does no harm *here*. The
# velocity of an exact teacher has no noise in it, and so the error may be made small from both of its sides. With
# $\epsilon - x_0$ in its place that side is noise, which a gradient would then flatten away, and in every case it costs
# a second derivative. Do not take from one world that a rule is idle.
#
# And one that no loss shows: **a step counted as one call when it is two.** A step of Heun's asks twice (only its last
# one, which ends at clean data, asks once), a guided step asks twice, and a consistency network "in two steps" asks twice. Count what the
# network sees:

# %%
asked = []


def counting(x_t: Tensor, t, **cond) -> Tensor:
    """The exact denoiser of the humps, counted."""
    asked.append(len(x_t))
    return teacher(x_t, t, **cond)


for name, sample in {
    "DDIM": samplers.sample_ddim,
    "Heun": samplers.sample_heun,
}.items():
    asked.clear()
    sample(counting, some[:1], flow, [0.999, 0.5, 0.0])
    print(f"{name}: two steps, {sum(asked)} calls")

# %% [markdown]
# The others you met before: FID at another $n$ (lesson 09: with a thousand images the floor alone is ten times that of ten thousand), and a
# teacher without its average (lesson 07): the student learns the faults of the last few steps by heart, as nothing else that it
# sees says otherwise.
#
# ## 8 · The answer
#
# What stands in the way of one step? A denoiser answers with a mean, and the first step of every path is the mean of
# everything. Straightening the paths helps it, and does not change the question. A network that is told *where the jump
# is to end* can answer with the end; it can be taught by agreement along a path, by a derivative, or by heart. The steps
# were not saved. They were walked in training.
#
# ### In your own words
# *Manually graded, about five lines.* A colleague writes: "Our flow-matching model is better than diffusion, since its paths are straight: with
# one Euler step we get FID 20 at n = 1,000, while the diffusion model had 12 at n = 50,000 with 50 steps." Name three things that are
# wrong or cannot be compared, and say for each what you would do instead.

# %% [markdown] tags=["manual"] question="14.own_words" points=3
# ### BEGIN SOLUTION
# First, the straight lines are the conditional ones; the particles follow their mean, and those paths bend: with Gaussian noise flow
# matching is v-prediction in other coordinates. Measure S of (14.5), or straighten by reflow, before saying straight. Second, FIDs at
# different n cannot be compared: the floor at 1,000 is many times that at 50,000. Draw the same n for both, with the floor and an interval.
# Third, one call and 50 calls answer different questions: compare at equal calls (both at 1 and both at 50), count calls and not steps, and
# state what training cost.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: conditional lines are straight, marginal paths are not (or: it is v-prediction). One point: FID depends on n; same n, floor,
# interval. One point: equal network calls, with the cost of training.

# %% [markdown]
# ## Summary
#
# * Flow matching with Gaussian noise *is* v-prediction, (14.3): one network serves both paths.
# * Straight lines between pairs do not make straight paths, (14.5). Fewer crossings do: transport, reflow, (14.7).
# * One step of a denoiser ends at the mean, (14.4). A network told a second time can end anywhere, (14.10).
# * Consistency needs $f(x, 0) = x$, and a target without a gradient, (14.11); a mean velocity needs $(t - r)$, the tangents $(v, 1)$, and
#   the same, (14.13).
# * In one dimension the answer is the quantile map. Try a new method there first.
# * Count calls, not steps. Say n, floor, interval, and what training cost.

# %%
progress("14")

# %% [markdown]
# ## References
#
# * Lipman, Chen, Ben-Hamu, Nickel, Le: *Flow Matching for Generative Modeling*, 2023. Our (14.1) and (14.2), time reversed.
# * Liu, Gong, Liu: *Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow*, 2023. Our (14.5), and
#   (14.7) as their theorem 3.5.
# * Tong, Fatras, Malkin and others: *Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal
#   Transport*, 2024.
# * Song, Dhariwal, Chen, Sutskever: *Consistency Models*, 2023. Our (14.8), (14.11), and `sample_consistency` as their
#   algorithm 1. The $c_\mathrm{skip}$ of (14.9) is Karras and others' (2022).
# * Geng, Deng, Bai, Kolter, He: *Mean Flows for One-step Generative Modeling*, 2025. Our (14.12) as their (6).
# * Kim, Lai, Liao and others: *Consistency Trajectory Models*, 2024. A network told both times, our (14.10).
# * Luhman, Luhman: *Knowledge Distillation in Iterative Generative Models for Improved Sampling Speed*, 2021. Regression on ends.
#
# **Next:** lesson 15 asks for something: a class, a missing half, a picture like this one.
