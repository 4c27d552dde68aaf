# %% [markdown]
# # 11 · Fast solvers
#
# *You will find the equation that DDIM solves without saying so, solve it with ten network calls instead of a hundred,
# measure how fast each method's error falls, and put a sampler of your own on the leaderboard. About 80 minutes to read
# and run, 75 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports and data
import functools
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course_utils import leaderboard, samplers, schedules
from course_utils.exercises import check, progress
from course_utils.plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    image_grid,
    show,
    use_style,
)
from course_utils.pretrained import load_denoiser
from course_utils.runtime import varies
from course_utils.toy import GaussianMixture
from course_utils.widgets import choice, explore, slider

use_style()
network = load_denoiser("mnist-unet", lesson.device)
digits = network.schedule  # T = 1000, linear

# %% [markdown]
# ## The question
#
# Eight noises, one trained network, and DDIM of lesson 10 with 5, 10, 20 and 100 network calls:

# %%
x_T = torch.randn(16, 1, 28, 28, generator=lesson.generator).to(lesson.device)
wish = torch.arange(16, device=lesson.device) % 8


def draw(sample, grid, steps: int) -> Tensor:
    """Sixteen digits, each from its own noise, always the same."""
    return sample(network, x_T, digits, grid(digits, steps), label=wish)


rows = {
    f"{n} calls": draw(samplers.sample_ddim, samplers.uniform_grid, n)[:8]
    for n in (5, 10, 20, 100)
}

# %% tags=["figure", "fold"]
# @title Eight noises, four numbers of calls
show(
    image_grid(
        torch.cat(list(rows.values())).cpu(),
        columns=8,
        row_labels=list(rows),
        size=0.75,
    ),
    "Four rows of the digits 0 to 7, from the same eight noises. Five calls give soft "
    "shapes; with ten, twenty and a "
    "hundred calls the same digits get crisper and hardly change their form.",
)

# %% [markdown]
# More calls do not draw *other* digits. Each column runs towards one picture, and by 100 calls it has nearly arrived. **What is
# it that they all run towards, and how few calls does it take to get there?** Ten calls are ten calls: they can be ten
# small steps, or five steps in which one looks twice, or ten steps that remember what they saw before. *If ten calls are
# spent as well as you can, how far from the end of the row do they leave you, compared with DDIM's ten?*

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice("", ["as far", "three quarters as far", "half as far, or nearer"])
guess

# %% [markdown]
# ## 1 · A walk without noise
#
# Take one clean picture and one noise. As $t$ runs, $x_t = \alpha_t x_0 + \sigma_t\epsilon$ moves at the velocity
# $\dot\alpha_t x_0 + \dot\sigma_t\epsilon$ (a dot is a derivative by $t$). Somebody who sees only $x_t$ knows neither
# $x_0$ nor $\epsilon$. The best they can say of the velocity is its average over all pairs that could be behind this
# $x_t$, and with $\hat x_0 = \mathbb E[x_0 \mid x_t]$ and $\hat\epsilon = (x_t - \alpha_t\hat x_0)/\sigma_t$ that is
#
# $$\frac{dx}{dt} = u(x, t) = \mathbb E\bigl[\dot\alpha_t x_0 + \dot\sigma_t\epsilon \,\big|\, x_t = x\bigr]
# = \dot\alpha_t\,\hat x_0 + \dot\sigma_t\,\hat\epsilon. \tag{11.1}$$
#
# Now let a swarm of points drift with this *average* velocity, each alone, without any noise. **At every $t$ the swarm
# is distributed as $x_t$ is.** To see it, ask how the mean of any smooth function $\varphi$ changes. Over true pairs,
#
# $$\frac{d}{dt}\,\mathbb E\,\varphi(x_t) = \mathbb E\bigl[\nabla\varphi(x_t)\cdot(\dot\alpha_t x_0 + \dot\sigma_t\epsilon)\bigr]
# = \mathbb E\bigl[\nabla\varphi(x_t)\cdot u(x_t, t)\bigr], \tag{11.2}$$
#
# where the second step averages over the pairs behind each $x_t$ first. Over the swarm, $\frac{d}{dt}\varphi(x) =
# \nabla\varphi(x)\cdot u(x, t)$: the same right-hand side. Two crowds that agree at one time and change alike agree at
# all times.
#
# So (11.1) takes noise to data backwards in time, and it needs nothing but a denoiser. It is the *probability-flow ODE*
# (Song et al., 2021). With Tweedie's formula, (5.4), it takes their form,
#
# $$\frac{dx}{dt} = f\,x - \tfrac12\,g^2\;\nabla\log q(x_t), \qquad f = \frac{d\log\alpha_t}{dt},
# \qquad g^2 = \sigma_t^2\,\frac{d}{dt}\log\frac{\sigma_t^2}{\alpha_t^2}, \tag{11.3}$$
#
# which for $\alpha_t^2 + \sigma_t^2 = 1$ is $\frac{dx}{dt} = -\tfrac12\beta(t)\,(x + \text{score})$, where
# $\beta(t) = g^2 = -2f$ is what lesson 01's $\beta_t$ becomes with ever shorter steps: the noise added, per unit of time.
#
# To test it we need a world in which the answer is known. On a line, points that drift cannot overtake each other (two
# on one place would have one velocity). So whoever has 30 % of the swarm below them will always have 30 % below:
#
# $$F_s(x_s) = F_t(x_t), \qquad F_t = \text{distribution function of } x_t. \tag{11.4}$$
#
# **That is the exact solution of the ODE, and it contains no derivative and no denoiser.** For a mixture of Gaussians,
# $F_t$ is a sum of normal distribution functions, and bisection inverts it to sixteen digits.

# %%
centres, weights, S = (
    torch.tensor([-1.0, 0.2, 1.1]).double(),
    torch.tensor([0.5, 0.3, 0.2]).double(),
    0.3**2,
)
line = GaussianMixture(centres[:, None], S, weights)
path = schedules.VPLinear()  # continuous time: 0 clean, 1 noise
p = (
    torch.arange(40).double() + 0.5
) / 40  # forty particles, by the share of the swarm below them


# Eq. (11.4)
def exact(t: float, p: Tensor = p) -> Tensor:
    """Where the particles are at time t: the quantiles of x_t, (n, 1), by bisection."""
    alpha, sigma = path.coeffs(t)
    low, high = torch.full_like(p, -20), torch.full_like(p, 20)
    for _ in range(70):
        middle = (low + high) / 2
        z = (middle[:, None] - alpha * centres) / (alpha**2 * S + sigma**2).sqrt()
        below = torch.special.ndtr(z) @ weights < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return middle[:, None]


# %% [markdown]
# Does (11.1) give the velocity of these particles? The left side comes from quantiles at two neighbouring times, the
# right side from the exact denoiser. And (11.3), with the score, must say the same.

# %%
believe = line.denoiser(path)  # the exact denoiser of the mixture
for t in (0.05, 0.2, 0.5, 0.9):
    x, dt = exact(t), 1e-5
    by_quantiles = (exact(t + dt) - exact(t - dt)) / (2 * dt)
    time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    d_alpha, d_sigma, d_log_snr = (
        torch.autograd.grad(f, time, retain_graph=True)[0]
        for f in (*path.coeffs(time), path.log_snr(time))
    )
    (alpha, sigma), x0_hat = path.coeffs(t), believe(x, t)
    # Eq. (11.1)
    velocity = d_alpha * x0_hat + d_sigma * (x - alpha * x0_hat) / sigma
    assert torch.allclose(velocity, by_quantiles, rtol=1e-6, atol=1e-6)
    # Eq. (11.3)
    with_score = d_alpha / alpha * x + sigma**2 * d_log_snr / 2 * line.score(x, t, path)
    assert torch.allclose(velocity, with_score, rtol=1e-9, atol=1e-9)
print(
    "the average velocity moves the quantiles, and the score form says the same: four "
    "times, forty particles"
)

# %% [markdown]
# Two ways from noise to the same data. On the left lesson 03's walks, which draw noise at each step; on the right the
# particles of (11.4). Grey is the density of $x_t$.

# %%
walks, walkers = [], exact(1.0, p[2::5])
samplers.sample_ddpm(
    believe,
    walkers,
    path,
    samplers.uniform_grid(path, 200),
    generator=lesson.generator,
    callback=walks.append,
)

# %% tags=["figure", "fold"]
# @title Two ways from noise to the same data
ts, xs = torch.linspace(0.002, 1, 120).double(), torch.linspace(-3, 3, 161).double()
density = torch.stack([line.log_prob(xs[:, None], t.item(), path).exp() for t in ts], 1)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
axes[0].plot(
    [step.t for step in walks],
    torch.stack([step.x_t[:, 0] for step in walks]),
    lw=0.8,
    color=ORANGE,
)
axes[1].plot(
    ts, torch.stack([exact(t.item(), p[2::5])[:, 0] for t in ts]), lw=1.2, color=BLUE
)
for axis, title in zip(
    axes,
    ("ancestral walks: noise in every step", "the probability-flow ODE"),
    strict=True,
):
    axis.pcolormesh(ts, xs, density.sqrt(), cmap="Greys", vmax=2, rasterized=True)
    axis.set(
        xlim=(1, 0),
        ylim=(-2.5, 2.5),
        xlabel="t (noise on the left, data on the right)",
        title=title,
    )
    axis.grid(False)
axes[0].set_ylabel("x")
show(
    figure,
    "Both panels: a density that begins as one hump and ends in three. Left: jagged "
    "random paths. Right: eight smooth curves "
    "that never cross and fan out into the three humps.",
)

# %% [markdown]
# The same crowd at each $t$; but on the right every point has one fixed path, and a smooth one. **A smooth path can be
# followed in long steps.** That is the whole subject of this lesson.
#
# ## 2 · Straighten it
#
# Equation (11.1) bends for two reasons: because $\hat x_0$ changes, which is the network's business, and because
# $\alpha_t$ and $\sigma_t$ are curved, which we know exactly. Take the second out. In the coordinates
# $y = x/\alpha_t$ and $r = \sigma_t/\alpha_t$ a pair moves on $y = x_0 + r\,\epsilon$: a straight line in $r$, whatever
# the schedule. Its velocity is $\epsilon$, on average $\hat\epsilon$:
#
# $$\frac{dy}{dr} = \frac{y - \hat x_0}{r}. \tag{11.5}$$
#
# **The schedule is gone.** Every schedule solves this one equation and only calls its noise levels by other names. If
# $\hat x_0$ did not change along the way, the path would be a straight line that ends, at $r = 0$, in $\hat x_0$.
# The simplest solver walks as if that were so, from $r_t$ to $r_s$ (Euler, 1768):
#
# $$y_s = y_t + (r_s - r_t)\,\frac{y_t - \hat x_0}{r_t}, \qquad x_s = \alpha_s\,y_s. \tag{11.6}$$
#
# ### Exercise 1 · Euler's step
# *15 minutes · easy · Eq. (11.6).* From $x_t$ to $x_s$. `alpha` and `sigma` hold two numbers each, of $t$ and of $s$.


# %% tags=["exercise"] exercise="11.euler_step" points=1
# Exercise 11.euler_step
def euler_step(x_t: Tensor, x0_hat: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_s, as large as x_t. x_t, x0_hat: (b, …);
    alpha, sigma: (2,), first at t, then at s."""
    ### BEGIN SOLUTION
    r_t, r_s = sigma / alpha
    y = x_t / alpha[0]
    return alpha[1] * (y + (r_s - r_t) * (y - x0_hat) / r_t)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `r_t, r_s = sigma / alpha` gives both ratios. Go over to `y = x_t / alpha[0]`, make the step there, and come back with
# `alpha[1]`.
# </details>

# %% tags=["check"]
check("11.euler_step", euler_step)

# %% [markdown]
# Put $y = x/\alpha$ back into (11.6) and sort: $x_s = \alpha_s\hat x_0 + \sigma_s\hat\epsilon$. Have you seen that
# before?

# %%
# Eq. (11.6)
times = samplers.uniform_grid(digits, 10)
euler = samplers.sample_euler(network, x_T, digits, times, label=wish)
ddim = samplers.sample_ddim(network, x_T, digits, times, label=wish)
assert (euler - ddim).abs().max() < 1e-3  # float32, through a network, ten times
print("Euler's method in (r, y) and DDIM with eta = 0: the same pictures")

# %% [markdown]
# **DDIM is Euler's method.** Nobody has to believe in it any more: it is the first and simplest of the solvers that
# people have had for 250 years, and better ones are known.
#
# From here on, a stage to compare them on. Forty particles of the mixture start at $r = 4$ and are wanted at
# $r = 0.05$; (11.4) knows where they must end. Time grids: even steps in $\log r$.


# %%
def times_at(r: Tensor) -> list[float]:
    """The times at which sigma / alpha has these values."""
    return path.t_at_log_snr(-2 * r.log()).tolist()


def even(n: int) -> list[float]:
    """n steps, even in log r, from r = 4 to r = 0.05."""
    return times_at(torch.linspace(math.log(4), math.log(0.05), n + 1).double().exp())


def measured(sample, times: list[float]) -> tuple[int, float]:
    """Denoiser calls of a solver, counted, and the error of its end (rms over the
    particles)."""
    counted = leaderboard.Counted(believe)
    end = sample(counted, exact(times[0]), path, times)
    return counted.images // len(p), (
        end - exact(times[-1])
    ).square().mean().sqrt().item()


SOLVERS = {
    "Euler (DDIM)": (samplers.sample_euler, BLUE, "-"),
    "Heun": (samplers.sample_heun, GREEN, "-"),
    "DPM-Solver++ 2S": (samplers.sample_dpmpp_2s, GREEN, "--"),
    "DPM-Solver++ 2M": (samplers.sample_dpmpp_2m, ORANGE, "-"),
    "UniPC-2": (functools.partial(samplers.sample_unipc, order=2), PINK, "-"),
    "UniPC-3": (functools.partial(samplers.sample_unipc, order=3), PINK, "--"),
}

# %% [markdown]
# **Widget:** the true paths in grey, a solver's in colour; every dot is a denoiser call. *Predict before you move
# anything: with four Euler steps, will the ends lie too wide or too narrow? With two?*


# %% tags=["fold"]
# @title Drawing a solver's way through the plane
def plane(x: Tensor, t: float) -> tuple[float, Tensor]:
    """(r, y) of particles at time t."""
    alpha, sigma = path.coeffs(t)
    return (sigma / alpha).item(), (x / alpha)[:, 0]


def paths(solver: str, steps: int) -> plt.Figure:
    """A solver's way through the (r, y) plane, call by call, beside the exact one."""
    sample, colour, dash = SOLVERS[solver]
    few, times, asked = p[1::3], even(steps), []

    def recorded(x, t):
        asked.append(plane(x, t))
        return believe(x, t)

    end = sample(recorded, exact(times[0], few), path, times)
    asked.append(plane(end, times[-1]))
    figure, axis = plt.subplots(figsize=(7.5, 3.4))
    for way, look in [
        ([plane(exact(t, few), t) for t in even(60)], {"color": BLACK, "lw": 0.7}),
        (asked, {"color": colour, "ls": dash, "lw": 1.2, "marker": "o", "ms": 3}),
    ]:
        r, y = zip(*way, strict=True)
        axis.plot(r, torch.stack(y), **look)
    calls, error = measured(sample, times)
    axis.set(xlim=(2.5, 0), xlabel=r"$r = \sigma/\alpha$")
    axis.set(ylim=(-4, 4), ylabel=r"$y = x/\alpha$")
    axis.set_title(f"{solver}: {steps} steps, {calls} calls, error {error:.2g}")
    return figure


# %% tags=["widget", "fold"]
# @title A solver's way, call by call
explore(
    paths,
    alt="Paths of particles in the plane of r and y; a solver's polygons approach the "
    "exact curves as its steps increase.",
    solver=choice("", list(SOLVERS)),
    steps=slider("steps", 1, 24, 4),
)

# %% [markdown]
# For a page without a kernel, Euler with four steps:

# %% tags=["figure", "fold"]
# @title Euler with four steps
show(
    paths("Euler (DDIM)", 4),
    "Exact paths in grey, straight at large r and bending towards three centres below "
    "r = 1. Euler's polygons with four steps "
    "leave them there.",
)

# %% [markdown]
# At large $r$ the paths are straight lines towards the mean of the data, and Euler is as good as perfect. They bend where
# the particle has to decide for one of the humps. There a slope taken at the start of the step is out of date at its end:
# it still points to the middle, so the ends lie too narrow: by a fifth with four steps, and by a third with two, where one
# stale slope does half of the way. It is lesson 10's missing variance, path by path.
#
# ## 3 · Look twice
#
# Expand the true path at the start of a step of length $\delta$: $y(r + \delta) = y + \delta\,y' + \tfrac12\delta^2 y'' + \dots$
# Euler keeps the first two terms, so one step errs by about $\tfrac12\delta^2 y''$. Halve the steps: each errs a quarter as
# much, there are twice as many, and the sum of errors is *half*. That is what is meant by **order 1**.
#
# Heun's cure (1900): make Euler's step, look at the slope *there*, and go again from the start with the mean of both.
#
# $$\begin{aligned} d_t &= \frac{y_t - \hat x_0(x_t, t)}{r_t}, & \tilde y &= y_t + (r_s - r_t)\,d_t, \\
# d_s &= \frac{\tilde y - \hat x_0(\alpha_s\tilde y, s)}{r_s}, &
# y_s &= y_t + (r_s - r_t)\,\frac{d_t + d_s}{2}. \end{aligned} \tag{11.7}$$
#
# Here $\tilde y$ is where Euler's step would end, a place to look from; $y_s$ is where Heun's step ends. The slope changes
# by $\delta y''$ along the step, so half of the change, times $\delta$, is just the term that Euler drops. What is left of each step is of size $\delta^3$; halve the steps and the sum of errors is a *quarter*: **order
# 2**. The price is a second network call. The step to clean data makes do with one: at $r_s = 0$ the second slope
# would be $0/0$.
#
# ### Exercise 2 · Heun's step
# *15 minutes · medium · Eq. (11.7).* Both guesses are given: `x0_hat` made at $x_t$, and `x0_there` made at the end of
# Euler's step. At $r_s = 0$, and only there, is there no second slope: return Euler's end.


# %% tags=["exercise"] exercise="11.heun_step" points=2
# Exercise 11.heun_step
def heun_step(
    x_t: Tensor, x0_hat: Tensor, x0_there: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """x_s, as large as x_t. x_t, x0_hat, x0_there: (b, …);
    alpha, sigma: (2,), first at t, then at s."""
    ### BEGIN SOLUTION
    r_t, r_s = sigma / alpha
    y = x_t / alpha[0]
    slope = (y - x0_hat) / r_t
    y_euler = y + (r_s - r_t) * slope
    if r_s == 0:
        return alpha[1] * y_euler
    there = (y_euler - x0_there) / r_s
    return alpha[1] * (y + (r_s - r_t) * (slope + there) / 2)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# The lines of exercise 1 end in $\tilde y$; call it `y_euler`. At `r_s == 0` it is the answer, times `alpha[1]`. Else
# the second slope is `(y_euler - x0_there) / r_s`, and the step is made again *from `y`* with `(slope + there) / 2`.
# </details>

# %% tags=["check"]
check("11.heun_step", heun_step)

# %% [markdown]
# The course's own is `samplers.sample_heun`. Is its order 2? Count the calls, $N$, and measure the error. If
#
# $$\text{error} \approx C\,N^{-p}, \qquad\text{then}\qquad \log\text{error} \approx \log C - p\,\log N, \tag{11.8}$$
#
# a straight line on log-log axes, and its slope is $-p$.
#
# ### Exercise 3 · The order, measured
# *10 minutes · easy · Eq. (11.8).* Minus the slope of the least-squares line through the points
# $(\log N, \log\text{error})$. One number; below zero where the error rises. (A least-squares slope is the sum of $(a - \bar a)(b - \bar b)$ over the sum
# of $(a - \bar a)^2$.)


# %% tags=["exercise"] exercise="11.order" points=1
# Exercise 11.order
def order(errors: Tensor, calls: Tensor) -> Tensor:
    """p of Eq. (11.8), one number. errors, calls: (n,)."""
    ### BEGIN SOLUTION
    a, b = calls.log(), errors.log()
    a, b = a - a.mean(), b - b.mean()
    return -(a @ b) / (a @ a)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Take both logarithms first, subtract each one's mean, then `(a @ b) / (a @ a)`; and mind the sign.
# </details>

# %% tags=["check"]
check("11.order", order)


# %%
# Eq. (11.8)
def fitted(points: list[tuple[int, float]]) -> float:
    """The order: minus the slope of a line through (log calls, log error)."""
    a, b = torch.tensor(points, dtype=torch.float64).log().T
    return -(
        ((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum()
    ).item()


sizes = (10, 20, 40, 80, 160)
curves = {
    name: [measured(sample, even(n)) for n in sizes]
    for name, (sample, _, _) in SOLVERS.items()
}
for name in ("Euler (DDIM)", "Heun"):
    print(
        f"{name:14}",
        "  ".join(f"{calls:3}: {error:.1e}" for calls, error in curves[name]),
        end="   ",
    )
    print(f"order {fitted(curves[name][-3:]):.2f}")
assert abs(fitted(curves["Euler (DDIM)"][-3:]) - 1) < 0.1
assert abs(fitted(curves["Heun"][-3:]) - 2) < 0.1

# %% [markdown]
# Doubling the calls halves Euler's error and quarters Heun's.
#
# ## 4 · The exact step
#
# Instead of $x/\alpha$, look at $x/\sigma$. A pair moves on $x/\sigma = e^\lambda x_0 + \epsilon$ with
# $\lambda = \log(\alpha/\sigma)$, half the log-SNR. Now the *noise* is the part that stands still. Differentiate by
# $\lambda$, average as in (11.1), integrate from $t$ to $s$, and multiply by $\sigma_s$:
#
# $$x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \sigma_s\int_{\lambda_t}^{\lambda_s} e^{\lambda}\;\hat x_0(\lambda)\;d\lambda. \tag{11.9}$$
#
# There is no approximation in this. Everything that we know about schedules has been integrated; all that is left to
# guess is how $\hat x_0$ goes on between the two ends. Guess that it stays as it is. Then $\int e^\lambda d\lambda =
# e^{\lambda_s} - e^{\lambda_t}$, and with $h = \lambda_s - \lambda_t$
#
# $$x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s\,\bigl(1 - e^{-h}\bigr)\,\hat x_0. \tag{11.10}$$
#
# Which is DDIM once more. Guess instead that $\hat x_0$ is a line, $\hat x_0 + (\lambda - \lambda_t)\,\hat x_0'$. The
# integral can be done as well; up to terms of size $h^3$, which a second-order method may drop, it is (11.10) with the
# line read in the *middle* of the step:
#
# $$\hat x_0 \;\to\; \hat x_0 + \frac h2\,\hat x_0', \qquad
# \hat x_0' \approx \underbrace{\frac{\hat x_0(\lambda_u) - \hat x_0}{\lambda_u - \lambda_t}}_{\text{2S: look at a time } u \text{ in between}}
# \quad\text{or}\quad \underbrace{\frac{\hat x_0 - \hat x_0^{\,\text{before}}}{h_\text{before}}}_{\text{2M: remember the step before}}. \tag{11.11}$$
#
# These are DPM-Solver++(2S) and (2M) (Lu et al., 2022). **2M has order 2 and costs one call a step:** the second look is
# the one that was paid for in the step before.
#
# ### Exercise 4 · DPM-Solver++(2M)
# *25 minutes · medium · Eqs. (11.10) and (11.11).* One step from $t$ to $s$. `alpha` and `sigma` hold three numbers each:
# of the time before, of $t$, of $s$.


# %% tags=["exercise"] exercise="11.dpmpp_2m" points=2
# Exercise 11.dpmpp_2m
def dpmpp_2m_step(
    x_t: Tensor, x0_hat: Tensor, x0_before: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """x_s, as large as x_t. x0_hat: the guess at x_t; x0_before: the last step's;
    alpha, sigma: (3,)."""
    ### BEGIN SOLUTION
    h_before, h = (alpha / sigma).log().diff()
    ahead = x0_hat + h / (2 * h_before) * (x0_hat - x0_before)
    return sigma[2] / sigma[1] * x_t + alpha[2] * (1 - torch.exp(-h)) * ahead
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `(alpha / sigma).log()` has the three $\lambda$; its `.diff()` is `h_before, h`. In (11.11),
# $\frac h2 \cdot \frac{1}{h_\text{before}}$ is one number. Put the new guess into (11.10), with `alpha[2]` for
# $\alpha_s$.
# </details>

# %% tags=["check"]
check("11.dpmpp_2m", dpmpp_2m_step)

# %% [markdown]
# The whole sampler, written out. In the first step there is nothing to remember, and in the step to clean data $h$ is
# infinite: both are DDIM's. It is `samplers.sample_dpmpp_2m`, on particles and on digits.


# %%
# Eqs. (11.10) and (11.11)
def multistep(
    denoise, x_T, schedule, timesteps, *, before=None, generator=None, **cond
):
    """DPM-Solver++(2M).
    `before`: a guess from before the first step, if there is one."""
    x, h_before = x_T, None
    for t, s in pairwise(timesteps):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.coeffs(t), schedule.coeffs(s)
        h = (schedule.log_snr(s) - schedule.log_snr(t)) / 2
        x0_hat = ahead = denoise(x, t, **cond)
        if before is not None and h.isfinite():
            ahead = x0_hat + h / (2 * (h_before or h)) * (x0_hat - before)
        keep = sigma_s / sigma_t
        x = (
            keep * x + (alpha_s - keep * alpha_t) * ahead
        )  # alpha_s (1 - e^-h), and right at sigma_s = 0 too
        before, h_before = x0_hat, h
    return x


for ours, theirs in [
    (
        multistep(believe, exact(0.9), path, [0.9, 0.5, 0.2, 0.0]),
        samplers.sample_dpmpp_2m(believe, exact(0.9), path, [0.9, 0.5, 0.2, 0.0]),
    ),
    (
        draw(multistep, samplers.log_snr_grid, 10),
        draw(samplers.sample_dpmpp_2m, samplers.log_snr_grid, 10),
    ),
]:
    assert torch.allclose(
        ours, theirs, atol=1e-4 if ours.dtype == torch.float32 else 1e-12
    )
print("the same as samplers.sample_dpmpp_2m")

# %% [markdown]
# ## 5 · Correct it for nothing
#
# After the step to $s$ the network is called at $s$ anyway, for the next step. But that guess,
# $\hat x_0^{\,\text{new}}$, also tells how $\hat x_0$ has changed during the step just made! UniPC (Zhao et al., 2023)
# makes use of it: it *predicts* $x_s$ with what it has, calls the network there once, goes back and **corrects** the same
# step with the new guess, and then steps on from the corrected $x_s$ without a further call. In the simplest case the
# predictor is (11.10) and the corrector the line through both guesses:
#
# $$x_s \leftarrow \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s\bigl(1 - e^{-h}\bigr)\Bigl[\hat x_0 + \tfrac12\bigl(\hat x_0^{\,\text{new}} - \hat x_0\bigr)\Bigr]. \tag{11.12}$$
#
# It is Heun's idea at half of Heun's price. In general, UniPC-$p$ predicts with the polynomial through the last $p$
# guesses (2M's line for $p = 2$), and corrects with the one through $p + 1$; the weights follow from integrating (11.9) with
# a polynomial in place of $\hat x_0$. Its order is $p + 1$.


# %%
# Eq. (11.12)
def unipc_1(denoise, x_T, schedule, timesteps):
    """Euler's step, corrected by the guess that the next step needs anyway."""
    x, old = x_T, None
    for t, s in pairwise(timesteps):
        x0_hat = denoise(x, t)  # at the predicted x
        if old:
            start, guess_before, keep, gain = old
            x = (
                keep * start + gain * (guess_before + x0_hat) / 2
            )  # the step just made, again
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.coeffs(t), schedule.coeffs(s)
        keep = sigma_s / sigma_t
        old = x, x0_hat, keep, alpha_s - keep * alpha_t
        x = keep * x + old[3] * x0_hat
    return x


ours = unipc_1(believe, exact(0.9), path, [0.9, 0.6, 0.4, 0.2])
assert torch.allclose(
    ours,
    samplers.sample_unipc(believe, exact(0.9), path, [0.9, 0.6, 0.4, 0.2], order=1),
    atol=1e-12,
)
corrected = [measured(unipc_1, even(n)) for n in sizes]
print(
    "Euler, corrected for nothing:",
    "  ".join(f"{calls:3}: {error:.1e}" for calls, error in corrected),
)
print(f"order {fitted(corrected[-3:]):.2f}")
assert abs(fitted(corrected[-3:]) - 2) < 0.1

# %% [markdown]
# Euler's method has become one of order 2 without a single additional call. Now all of them, on one pair of axes. *Predict:
# Heun and 2M have the same order. Which line lies lower, and by how much?*

# %% tags=["figure", "fold"]
# @title Error against calls, six solvers
figure, axis = plt.subplots(figsize=(7, 3.6))
for name, (_, colour, dash) in SOLVERS.items():
    calls, errors = zip(*curves[name], strict=True)
    axis.loglog(
        calls,
        errors,
        dash,
        marker="o",
        ms=4,
        color=colour,
        label=f"{name}: order {fitted(curves[name][-2:]):.2f}",
    )
axis.set(xlabel="denoiser calls", ylabel="error (rms over the particles)")
axis.set_xticks([10, 20, 50, 100, 200, 300], ["10", "20", "50", "100", "200", "300"])
axis.minorticks_off()
axis.legend(fontsize=8, loc="lower left")
show(
    figure,
    "Error against calls on log-log axes: straight lines. Euler falls slowest; Heun, "
    "2S and 2M are parallel with 2M lowest; "
    "UniPC-2 and UniPC-3 are steeper.",
)

# %%
found = {name: fitted(points[-2:]) for name, points in curves.items()}
for name, wanted in zip(SOLVERS, (1, 2, 2, 2, 3), strict=False):
    assert abs(found[name] - wanted) < 0.15, name
assert found["UniPC-3"] > 3.5

# %% [markdown]
# Five of the six lines have the slope they should have. UniPC-3's is not 4 yet: its first steps, for want of guesses, are of
# lower order, and in the end that shows. 2M lies below Heun because it pays half as much for a step: on these axes
# **the order is the slope, and the price is a shift to the right.**
#
# ## 6 · Where the steps should be
#
# So far the particles stopped at $r = 0.05$. A picture has to go on to $r = 0$, and there every solver above makes its
# last step with (11.10), $h = \infty$: it jumps to $\hat x_0$. How wrong is that? Near clean data $\hat x_0 = y + r^2 s(y)$
# with the score $s$, (5.4) for $\alpha = 1$, so (11.5) reads $dy/dr = -r\,s(y)$, and from $r_1$ to 0 the true
# path moves by $\tfrac12 r_1^2 s$. The jump moves by $r_1^2 s$, twice as far:
#
# $$\hat x_0(r_1) - y(0) \approx \tfrac12\,r_1^2\,s(y). \tag{11.13}$$

# %%
# Eq. (11.13)
for r_1 in (0.1, 0.03, 0.01):
    (t,) = times_at(torch.tensor([r_1]).double())
    excess = believe(exact(t), t) - exact(0.0)
    predicted = r_1**2 / 2 * line.score(exact(0.0))
    print(
        f"r = {r_1}: the last step errs by {excess.square().mean().sqrt():.1e}; Eq. "
        f"(11.13): {predicted.square().mean().sqrt():.1e}"
    )
assert ((excess - predicted).norm() / predicted.norm()) < 0.01

# %% [markdown]
# So the last noise level sets a floor, $r_1^2/2$ times the score, that no solver can get under; and the grid decides how
# fast $r_1$ falls with the number of steps $n$. On this schedule $\sigma_t^2 \approx 0.1\,t$ near $t = 0$. With steps
# even in $t$, $t_1 = 1/n$ and the floor falls like $1/n$: **in the end, every solver has order 1.** With $t_i = (i/n)^2$, DDIM's
# *quadratic* grid, it falls like $1/n^2$. Grids that are even in $\log r$, or in
#
# $$r(u) = \Bigl(r_\text{max}^{1/\rho} + u\,\bigl(r_\text{min}^{1/\rho} - r_\text{max}^{1/\rho}\bigr)\Bigr)^\rho, \qquad 0 \le u \le 1,
# \qquad \rho = 7 \tag{11.14}$$
#
# (Karras et al., 2022), and then 0, choose $r_1 = r_\text{min}$ beforehand, low enough for nobody to see, and spend all the other
# steps where the paths bend. $\rho = 1$ is even in $r$; the larger $\rho$, the more steps lie at low noise;
# $\rho \to \infty$ is even in $\log r$.
#
# ### Exercise 5 · Karras' noise levels
# *10 minutes · easy · Eq. (11.14).* The level at each `u`, in the order in which the `u` come: they need be neither evenly
# spaced nor sorted. $\rho$ is handed over, and need not be a whole number.


# %% tags=["exercise"] exercise="11.karras_levels" points=1
# Exercise 11.karras_levels
def karras_levels(u: Tensor, r_max: float, r_min: float, rho: float) -> Tensor:
    """r(u), as large as u. u: (n,), from 0, the noisiest, to 1, the cleanest."""
    ### BEGIN SOLUTION
    start, end = r_max ** (1 / rho), r_min ** (1 / rho)
    return (start + u * (end - start)) ** rho
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Two numbers first, `r_max ** (1 / rho)` and `r_min ** (1 / rho)`; go from the one to the other by the share `u`, as it is
# handed over; then `** rho`.
# </details>

# %% tags=["check"]
check("11.karras_levels", karras_levels)

# %% [markdown]
# One solver of order 2, Heun, from $t = 1$ all the way to 0, on four grids:

# %%
GRIDS = {
    "uniform": (samplers.uniform_grid, BLACK),
    "quadratic": (samplers.quadratic_grid, BLUE),
    "log-SNR": (samplers.log_snr_grid, ORANGE),
    "Karras": (samplers.karras_grid, PINK),
}
whole = {
    name: [
        measured(samplers.sample_heun, grid(path, n))
        for n in (5, 10, 20, 40, 80, 160, 320)
    ]
    for name, (grid, _) in GRIDS.items()
}
r_1 = plane(exact(0.001), 0.001)[0]  # the last level of the lower two
bottom = r_1**2 / 2 * line.score(exact(0.0)).square().mean().sqrt().item()

# %% tags=["figure", "fold"]
# @title The levels of four grids, and Heun's error on them
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2))
for i, (name, (grid, colour)) in enumerate(GRIDS.items()):
    levels = [plane(exact(t), t)[0] for t in grid(path, 12)[:-1]]
    left.plot(levels, [-i] * 12, "o", ms=5, color=colour, label=name)
    right.loglog(*zip(*whole[name], strict=True), "o-", ms=4, color=colour, label=name)
right.axhline(bottom, color=BLACK, lw=1, ls=":")
right.text(11, 1.15 * bottom, "Eq. (11.13)", fontsize=8)
left.set(
    xscale="log",
    xlim=(300, 0.006),
    ylim=(-3.6, 0.6),
    xlabel="r",
    title="twelve noise levels, then 0",
)
left.set_yticks([0, -1, -2, -3], list(GRIDS))
right.set(
    xlabel="denoiser calls",
    ylabel="error at $r = 0$",
    title="Heun, all the way to clean data",
)
right.legend(fontsize=8)
show(
    figure,
    "Left: the levels of four grids on a log axis of r; uniform and quadratic stop "
    "early, log-SNR and Karras reach 0.01. Right: "
    "Heun's error. On the uniform grid it falls with a slope near 1, on the quadratic "
    "with 2; on the other two with 2 until "
    "both run into the floor of Eq. (11.13).",
)

# %%
slopes = {name: fitted(points[-3:]) for name, points in whole.items()}
print(
    "orders of Heun, from 160 calls on:",
    ", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items()),
)
assert slopes["uniform"] < 1.5  # a second-order solver, first-order results
assert abs(slopes["quadratic"] - 2) < 0.1
assert abs(whole["log-SNR"][-1][1] / bottom - 1) < 0.2
assert abs(whole["Karras"][-1][1] / bottom - 1) < 0.2
few = {name: points[1][1] for name, points in whole.items()}  # 19 calls
assert max(few["uniform"], few["quadratic"]) < min(few["log-SNR"], few["Karras"])

# %% [markdown]
# The solver is the same in all four. **On the uniform grid it has lost its order to the last step.** Quadratic keeps
# it. Log-SNR and Karras run down until they stand on the floor of (11.13), here a ten-thousandth, which no eye would see.
# But look at the left end: with few calls the two plain grids are ahead. The other two spend half of their steps above $r = 3$,
# where these particles' paths are straight, or far below 0.1, where all is decided. **The best grid depends on where the
# paths bend, and that depends on the data.** Measure, then choose.
#
# ## 7 · The digits
#
# Does any of that hold for a trained network, whose denoiser is neither exact nor given by a formula? There is no
# $F_t$ for pictures, but a fine solution will do for the truth: UniPC-3 with 100 calls. Another solver should agree with it.

# %%
truth = draw(SOLVERS["UniPC-3"][0], samplers.quadratic_grid, 100)
other = draw(samplers.sample_dpmpp_2s, samplers.quadratic_grid, 50)


def off_by(images: Tensor) -> float:
    """Distance to the end of the path, rms over the pixels."""
    return (images - truth).square().mean().sqrt().item()


def within(sample, grid: str, budget: int) -> float:
    """How far off a solver is, on the longest grid within so many calls."""
    plan = leaderboard.plan_within(
        leaderboard.Contender("this", sample, grid), digits, budget
    )
    return off_by(sample(network, x_T, digits, plan.timesteps, label=wish))


varies(f"two fine solutions differ by {off_by(other):.4f} a pixel, of a range of 2")
assert off_by(other) < 0.02

# %% [markdown]
# Ten calls each (nine for those that look twice), on three grids:

# %%
off = {}
for name, (sample, _, _) in SOLVERS.items():
    off[name] = {
        grid: within(sample, grid, 10) for grid in ("uniform", "quadratic", "karras")
    }
    varies(
        f"{name:16}",
        "   ".join(f"{grid} {error:.3f}" for grid, error in off[name].items()),
    )
ddim = off["Euler (DDIM)"]["uniform"]
error, name, grid = min(
    (error, name, grid)
    for name, errors in off.items()
    for grid, error in errors.items()
)
varies(
    f"your guess: {guess.value}. DDIM {ddim:.3f}; the best {error:.3f}: {name}, "
    f"{grid} grid"
)
assert error < 0.6 * ddim
assert off["DPM-Solver++ 2M"]["uniform"] < 0.8 * ddim
assert (
    off["Heun"]["uniform"] > off["DPM-Solver++ 2M"]["uniform"]
)  # the same order, twice the price
assert off["Heun"]["karras"] > 1.3 * off["Heun"]["uniform"]

# %% [markdown]
# Yes, mostly. The multistep solvers end nearer to the truth than DDIM does, and the best of them at about half the
# distance, or nearer. Two things are not as the particles would have it. **Heun gains little on Euler, if anything:** an
# order says how fast an error falls, not where it begins, and five steps of double price are few. On Karras' grid it is far worse. If Euler's
# step ends $\delta$ off, the second slope is off by up to $\delta/r_s$, and the step hands on up to
# $\frac12(r_t/r_s - 1)\,\delta$. What counts is how many times smaller the next level is. With five levels from
# $r = 157$ down to 0.01 that is 4, 6, 12 and at last 49 times, and by then Euler has something to miss. And **plain
# grids beat Karras' here**: that one was made for noise levels from 80 down to 0.002, and for other networks. (Sixteen
# pictures; other noises move these figures, and which of the two plain grids is ahead changes with them.)
#
# ## 8 · What usually goes wrong
#
# **A bad first step.** 2M needs a guess from before its first step, and there is none. A popular shortcut fills the
# buffer with zeros, so that no special case is needed. It is one step out of many. *Predict: what does it do to the
# order?*
#
# **A bad last step.** Or somebody wants no special case at the *end*: the grid runs evenly in $t$ to $t = 0.001$
# instead of 0, so that $h$ stays finite, and 2M extrapolates as in every other step. But that last step is
# several times as long (in $\lambda$) as the one before, and the line is read far outside the two points through which it was drawn.


# %%
def zeros_first(denoise, x_T, schedule, timesteps):
    """2M with a buffer of zeros."""
    return multistep(denoise, x_T, schedule, timesteps, before=torch.zeros_like(x_T))


def uniform_to(end: float, n: int) -> list[float]:
    """n steps even in t, the last one to `end`."""
    return [*samplers.uniform_grid(path, n)[:-1], end]


first = {
    "2M": ([measured(multistep, even(n)) for n in sizes], ORANGE),
    "2M, a buffer of zeros": ([measured(zeros_first, even(n)) for n in sizes], BLACK),
}
last = {
    "to 0, last step by DDIM": (
        [measured(multistep, uniform_to(0.0, n)) for n in sizes],
        ORANGE,
    ),
    "to 0.001, extrapolated": (
        [measured(multistep, uniform_to(0.001, n)) for n in sizes],
        BLACK,
    ),
}

# %% tags=["figure", "fold"]
# @title A bad first step, a bad last step
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2))
for axis, lines, title in zip(
    axes, (first, last), ("a bad first step", "a bad last step"), strict=True
):
    for name, (points, colour) in lines.items():
        axis.loglog(*zip(*points, strict=True), "o-", ms=4, color=colour, label=name)
    axis.set(xlabel="denoiser calls", ylabel="error", title=title)
    axis.legend(fontsize=8)
show(
    figure,
    "Two log-log plots of error against calls. Left: with a buffer of zeros the line "
    "is flatter, and ten times as high at the "
    "right end. Right: with the last step extrapolated the error is several times "
    "larger at every number of calls.",
)

# %%
lost, kept = (fitted(first[name][0][-3:]) for name in ("2M, a buffer of zeros", "2M"))
print(f"order: 2M {kept:.2f}, with a buffer of zeros {lost:.2f}")
assert abs(kept - 2) < 0.1
assert abs(lost - 1) < 0.15
worse = {
    n: last["to 0.001, extrapolated"][0][i][1]
    / last["to 0, last step by DDIM"][0][i][1]
    for i, n in enumerate(sizes)
}
print(
    "the extrapolated last step multiplies the error by",
    ", ".join(f"{times:.1f} ({n} calls)" for n, times in worse.items()),
)
assert min(worse.values()) > 1.5
stopped_short = draw(
    multistep, lambda schedule, n: [*samplers.uniform_grid(schedule, n)[:-1], 1], 10
)
varies(
    f"digits, 10 calls: to t = 1, extrapolated {off_by(stopped_short):.3f}; to 0 "
    f"{within(multistep, 'uniform', 10):.3f}"
)

# %% [markdown]
# The zeros are wrong by as much as $\hat x_0$ itself, so the first step errs by a multiple of $h$, which no later step mends: **one step of
# order 0 makes a method of order 1.** (One step of order 1, DDIM's, is harmless: it errs by $h^2$, like all the others together.) The
# long last step multiplies the error several times over. The cure for both is the same: where there is nothing to
# draw a line through, do not draw one.
#
# **Counting steps.** Heun's paper-and-pencil step is not the network's. Here are the same measurements twice: against
# the number of *steps*, as many papers' tables and nearly all tutorials have it, and against the number of *calls*, which is what you pay for.

# %% tags=["figure", "fold"]
# @title The same errors against steps and against calls
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), sharey=True)
for name in ("Heun", "DPM-Solver++ 2S", "DPM-Solver++ 2M"):
    _, colour, dash = SOLVERS[name]
    calls, errors = zip(*curves[name], strict=True)
    left.loglog(sizes, errors, dash, marker="o", ms=4, color=colour, label=name)
    right.loglog(calls, errors, dash, marker="o", ms=4, color=colour)
for axis, what in ((left, "steps"), (right, "denoiser calls")):
    axis.set(xlabel=what, xlim=(8, 400))
    axis.set_xticks([10, 20, 50, 100, 300], ["10", "20", "50", "100", "300"])
    axis.minorticks_off()
left.set_ylabel("error")
left.legend(fontsize=8)
show(
    figure,
    "The same errors twice. Against steps, 2S lies a little below 2M, and Heun above "
    "both. Against calls, 2M is far below the other two, "
    "which have moved to the right by a factor of two.",
)

# %%
two_s, two_m = (curves[f"DPM-Solver++ {kind}"] for kind in ("2S", "2M"))
for i, n in enumerate(sizes[:-1]):
    assert two_s[i][1] < two_m[i][1]  # n steps of each: 2S is ahead
    assert two_s[i][0] == two_m[i + 1][0] == 2 * n
    assert two_s[i][1] > 3 * two_m[i + 1][1]  # 2 n calls of each: 2M is, by far
print(
    "at equal steps 2S is ahead of 2M; at equal calls it errs more than three times "
    "as much"
)

# %% [markdown]
# Counted by steps, 2S wins, and so would any method that asks often enough within a step. Counted by calls it errs more than three times as
# much as 2M. **Read the axis before you read the curve.**
#
# ## 9 · The leaderboard
#
# Distance to the end of a path is one thing, good pictures are another: a solver could err and still draw fine digits.
# So measure what lesson 09 measures. One checkpoint, `mnist-unet`; every sampler, on the uniform grid or the
# quadratic one, two of them on both; with five to a hundred network calls, and DDPM with its thousand, too (Euler's
# step is DDIM's: the row `euler` is DDIM on the quadratic grid). For each, $n = 1000$ digits from the same noises, and
# their FID against the training split, in the features of our own classifier, with an interval and with the floor of
# real digits. That takes most of an hour, so it was done beforehand. (`course leaderboard` goes on where it was stopped.
# The rows are drawn in bfloat16, where your machine may have float32. That is no matter: five of them, drawn in both from
# the same noises, differ by 0.0003 at most.)
# The page reads the table; a star is the best of a column.

# %% tags=["varies"]
stored = leaderboard.stored("mnist-unet", n=1000)
print(leaderboard.table(stored))
assert all(row.fid < row.floor + 0.1 for row in leaderboard.at(stored, 5).values())
assert min(row.high for row in stored) > max(
    row.low for row in stored
)  # every interval overlaps every other

# %% [markdown]
# **Five calls reach the floor, and a thousand do no more.** For this network, that is: it saw three million digits. MNIST is
# easy, $n = 1000$ is few, and all the intervals overlap: whoever ranked the samplers by this table would rank luck. (All start
# from the same noises, so that differences are a little surer than the intervals say.)
#
# Most rows even lie *below* the floor. They are not better than real digits. At this $n$ nearly all of a FID is chance, 0.05
# of it, as lesson 09 computed, and samples that vary less than real digits have less of it. And the reference is the split
# that the network was trained on; the floor's digits come from the other.
#
# Ten times as many digits, then, with ten calls. *Predict: which solver leads, and which is last?*

# %% tags=["varies"]
many = leaderboard.stored("mnist-unet", n=10_000)
at_ten = leaderboard.at(many, 10)
print(leaderboard.table([*at_ten.values()]))
assert at_ten["ddim", "uniform"].high < at_ten["unipc_3", "quadratic"].low

# %% [markdown]
# Most intervals still overlap. But the ends of the list part: UniPC-3 on the quadratic grid, of the highest order, has the
# highest FID, and plain DDIM on the uniform grid one that is lower by more than chance. Put the figures against the
# distances of section 7:

# %%
same = dict(
    zip(
        ("euler", "heun", "dpmpp_2s", "dpmpp_2m", "unipc_2", "unipc_3"),
        SOLVERS,
        strict=True,
    )
)
same["ddim"] = same["euler"]

# %% tags=["figure", "fold"]
# @title FID against the distance to the end of the path
figure, axis = plt.subplots(figsize=(8, 3.6))
for grid, colour, look, up in (
    ("uniform", BLUE, "o", -11),
    ("quadratic", ORANGE, "s", 4),
):
    family = [
        row for row in at_ten.values() if row.grid == grid and row.sampler in same
    ]
    x = [off[same[row.sampler]][grid] for row in family]
    y, low, high = zip(*((row.fid, row.low, row.high) for row in family), strict=True)
    below = [value - bound for value, bound in zip(y, low, strict=True)]
    above = [bound - value for value, bound in zip(y, high, strict=True)]
    style = {"fmt": look, "ms": 5, "lw": 0.8, "color": colour}
    axis.errorbar(x, y, (below, above), label=f"{grid} grid", **style)
    for place, row in zip(x, family, strict=True):
        beside = {"xytext": (6, up), "textcoords": "offset points", "fontsize": 8}
        axis.annotate(row.sampler, (place, row.fid), **beside)
axis.axhline(at_ten["ddpm", "uniform"].fid, color=BLACK, lw=1, ls="--", label="ddpm")
axis.axhline(many[0].floor, color=BLACK, lw=1, ls=":", label="real images")
axis.set(
    ylim=(0, None),
    xlabel="distance to the end of the path (section 7)",
    ylabel="FID, n = 10,000",
)
axis.margins(x=0.12)  # for the last name
axis.legend(fontsize=8, loc="upper right")
show(
    figure,
    "Points for the solvers, in two colours, one a grid. On the quadratic grid the "
    "point nearest to the end of the path, "
    "UniPC-3, is the highest. DDPM is a dashed line among the points, real digits a "
    "dotted one below them.",
)

# %% [markdown]
# **Nearer to the end of the path is not better.** On the quadratic grid it is the other way round: 2M and the UniPCs end
# nearest, and have the highest FIDs; on the uniform grid the figures are too close to tell.
#
# Why? One explanation comes to mind: the end of the path is the end of *this network's* path, with all the network's errors
# in it, and a coarse solver leaves some of them out. Then the end itself must have a high FID. Has it? Follow UniPC-3 on
# the quadratic grid to it, with as many digits.

# %% tags=["varies"]
follow = [row for row in many if (row.sampler, row.grid) == ("unipc_3", "quadratic")]
for row in follow:
    print(f"{row.nfe:3} calls: FID {row.fid:.4f} [{row.low:.4f}, {row.high:.4f}]")
ten, *_, end = follow
for name, other in (("DDIM", at_ten["ddim", "uniform"]), ("UniPC-3", ten)):
    apart = end.fid - other.fid
    error = math.hypot(*((row.high - row.low) / (2 * 1.96) for row in (end, other)))
    print(
        f"the end less {name}, ten calls: {apart:+.4f}, "
        f"{apart / error:+.1f} standard errors"
    )

# %% [markdown]
# It comes to rest at 0.021. **That is the end of the path, and DDIM, which stops short of it after ten calls, has less.** By two
# standard errors as if the digits had nothing to do with each other; they come from the same noises, which makes the
# difference rather surer. So there is something in the explanation: followed faithfully, this network's path leads past the
# best pictures. But it does not explain UniPC-3 with ten calls, which by distance is nearly there, and whose FID is higher than
# both, if that is not chance (one and a half standard errors). A distance counts all directions of a picture alike, and FID
# those that the classifier looks at; what ten calls leave of UniPC-3's error is small, and need not be small *there*. More
# the tables do not say.
#
# So two errors stand between you and a good picture: the solver's, which this lesson makes small, and the network's, which
# no solver can. On digits, for this network, FID hardly sees either.
#
# Now add a sampler of your own. As it stands it is the `multistep` of section 4 on the uniform grid. Change the grid, a
# line, or the whole function; run the cell again, and see where your star lands. Same noises, features, reference and $n$
# as in a table: anything else could not stand beside it. (So 1,000 digits, if your machine draws them in a quarter of a
# minute, and else 250, for which there is a table, too. Its FIDs and its floor are higher; lesson 09 says why.)


# %%
def my_sampler(denoise, x_T, schedule, timesteps, *, generator=None, **cond):
    """Yours: from x_T to x_0 with `denoise(x, t, **cond)`. The calls are counted."""
    return multistep(denoise, x_T, schedule, timesteps, **cond)


n = leaderboard.affordable((250, 1000), calls=10, seconds=15)
mine = leaderboard.add("mine", my_sampler, grid="uniform", budget=10, n=n)
beside = leaderboard.stored("mnist-unet", n=mine.n)
varies(
    f"mine: FID {mine.fid:.3f} [{mine.low:.3f}, {mine.high:.3f}], n = {mine.n:,}, "
    f"{mine.nfe} calls, {mine.seconds * 1000:.1f} ms a digit, {mine.precision}"
)
assert mine.nfe <= 10
# measured against the same reference, or not comparable
assert math.isclose(mine.floor, beside[0].floor, rel_tol=0.05)

# %% tags=["figure", "fold"]
# @title All samplers, and your star
show(
    leaderboard.figure(beside, [mine]),
    "FID against network calls for all samplers, with intervals, your own as a star, "
    "and the floor of real digits as a dotted "
    "line. The lines lie close together, and the intervals overlap.",
)

# %% [markdown]
# Is it always so? The same samplers on photographs: `cifar10-unet`. *Predict: who leads with five calls? And how many
# does DDPM need, to draw as well as the leader?*

# %% tags=["varies"]
photographs = leaderboard.stored("cifar10-unet", n=1000)
print(leaderboard.table(photographs))
five, twenty, hundred = (leaderboard.at(photographs, calls) for calls in (5, 20, 100))
third_order = "unipc_3", "quadratic"
assert (
    five[third_order].high < five["dpmpp_2s", "quadratic"].low
)  # higher order, lower FID
assert (
    five["euler", "quadratic"].high < five["ddim", "uniform"].low
)  # one solver, two grids
assert five["ddim", "uniform"].high < five["ddpm", "uniform"].low
assert five[third_order].high < twenty["ddpm", "uniform"].low  # a quarter of the calls
assert (
    five[third_order].high > hundred["ddpm", "uniform"].low
)  # a twentieth of the calls, and one cannot tell
assert (
    five[third_order].low < hundred[third_order].high
)  # twenty times the calls, and no better that one could tell
assert hundred[third_order].low > 10 * photographs[0].floor

# %% tags=["figure", "fold"]
# @title All samplers on photographs
show(
    leaderboard.figure(photographs),
    "FID against network calls for photographs. With five calls the samplers lie "
    "between 3 and 9, DDPM highest; with a hundred "
    "all lie at about 3, where UniPC-3 on the quadratic grid is from the start. Real "
    "photographs: a dotted line at 0.1.",
)

# %% [markdown]
# With five calls everything is the other way round. The UniPCs lead, Euler's step pays for its low order, the quadratic
# grid beats the uniform one, and DDPM is last: it needs fifty to a hundred calls to be where the leader is with five. That
# the ends of the list differ is beyond doubt even with 1000 samples. Photographs have more in them that a coarse step can
# miss: here the solver's error is the larger one.
#
# But follow UniPC-3 on the quadratic grid to the right. With a hundred calls it draws no better than with five, and DDPM
# with a thousand is not ahead of it. A path that is followed more closely still does not help any more: what is left, about
# thirty times what real photographs have, is the error of a network that had far too little training. No solver takes it
# away; the slower ones arrive at it later. (Some are a little *below* it on their way, as on the digits.) **Which of the two
# errors is the larger, you have to measure.**
#
# Published numbers for CIFAR-10, from networks that saw a hundred million pictures or more, show how it goes on:
# Inception features, 50,000 samples. They cannot be compared with ours in value, only in shape:
#
# | calls | 5 | 10 | 20 | 50 | 100 | 1000 |
# |---|---:|---:|---:|---:|---:|---:|
# | DDPM, ancestral | | 41.07 | 18.36 | 8.01 | 5.78 | 4.73 |
# | DDIM, quadratic grid | | 13.36 | 6.84 | 4.67 | 4.16 | 4.04 |
# | DPM-Solver++ | 28.5 | 4.01 | 2.90 | | | |
# | UniPC | 23.7 | 3.93 | 2.73 | | | |
#
# (Ancestral and DDIM: Song et al., 2021, *DDIM*, table 1; with the forward step's variance in place of the posterior's the
# first row begins at 367 and ends at 3.17. The last two, on another network: Zheng et al., 2023, *DPM-Solver-v3*, table 1.)
#
# ## 10 · The answer
#
# What do all the rows run towards? The solution of an ordinary differential equation, (11.1), whose paths carry noise to
# data without drawing anything. DDIM is Euler's method for it, of order 1. Remembering one guess gives order 2 for the same
# number of calls, correcting with the next one gives 3, and on our digits ten calls of UniPC end about half as far from the
# truth as ten of DDIM. On photographs that buys better pictures; on digits none that FID could see.
#
# ### In your own words
# *Manually graded, about five lines.* An abstract says: "Our solver reaches in 10 steps what DDIM reaches in 20." In the
# appendix: each step asks the network twice; DDIM ran on the uniform grid, theirs on Karras'; FID with 2,000 samples for both, without
# an interval. Which of these do you have to set right before you believe anything, and how?

# %% [markdown] tags=["manual"] question="11.own_words" points=2
# ### BEGIN SOLUTION
# Ten steps with two calls each are twenty calls: they cost what DDIM's twenty cost, so nothing is gained yet; compare at equal numbers
# of network calls. The grids differ: run DDIM (and theirs) on both grids, since a good grid alone may be the gain, and the uniform one
# costs every solver its order. FID at n = 2,000 is biased upwards alike for both, but it scatters: give the floor of real images and an
# interval, or use the same noises and more samples, and look whether the difference is larger than that.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: calls, not steps: ten steps here are twenty calls. One point: names one of the other two (grid; interval and
# floor at the same n) and says what to run to settle it.

# %% [markdown]
# ## Summary
#
# * The average velocity of all pairs behind $x_t$ moves a swarm just as $q(x_t)$ moves, (11.1) and (11.2). A denoiser is
#   all it needs.
# * In $y = x/\alpha$ and $r = \sigma/\alpha$ the schedule is gone, (11.5), and Euler's method is DDIM.
# * The exact step, (11.9), leaves only $\hat x_0(\lambda)$ to guess: constant, DDIM; a line, 2S and 2M; a polynomial,
#   corrected by the next guess, UniPC.
# * Order $p$: twice the calls, $2^p$ times less error. Compare at equal *calls*.
# * The end of the path is the network's, not the data's. Distance to it measures the solver; FID measures both.
# * The first and the last step can spoil all the others, (11.13). Grids are half of a sampler, (11.14).

# %%
progress("11")

# %% [markdown]
# ## References
#
# * Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole: *Score-Based Generative Modeling through Stochastic Differential
#   Equations*, 2021. Our (11.3) is its Eq. (13).
# * Song, Meng, Ermon: *Denoising Diffusion Implicit Models*, 2021. Our (11.6) is its Eq. (12) with $\eta = 0$; section 4.3 sees
#   the ODE behind it, our (11.5).
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. Our (11.7) is its
#   Algorithm 1, (11.14) its Eq. (5).
# * Lu, Zhou, Bao, Chen, Li, Zhu: *DPM-Solver++*, 2022. Our (11.9) is its Eq. (8), (11.11) its Algorithms 1 and 2.
# * Zhao, Bai, Rao, Zhou, Lu: *UniPC*, 2023. Our (11.12) is its corrector of order 1.
# * Lipman, Chen, Ben-Hamu, Nickel, Le: *Flow Matching for Generative Modeling*, 2023. The argument of (11.2).
#
# **Next:** walks with noise have one more thing to choose, how much of it. Lesson 12 computes the best answer.
