# %% [markdown]
# # 05 · The denoising autoencoder
#
# *You will find out what a network knows once it can denoise: where the data are, which way they lie from anywhere, and
# how sure it may be. Then you squeeze a picture through too few numbers, and see what the popular recipe makes of it.
# About 75 minutes to read and run, 65 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports, a schedule
import math
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from course_utils import forward, losses, parameterizations, samplers, schedules
from course_utils.data import load_images, normalize
from course_utils.denoisers import DAE, Denoiser
from course_utils.exercises import check, progress
from course_utils.plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    YELLOW,
    image_grid,
    show,
    use_style,
)
from course_utils.runtime import varies
from course_utils.toy import GaussianMixture
from course_utils.training import Training, train
from course_utils.widgets import choice, explore, slider, watch

use_style()
schedule = schedules.linear()

# %% [markdown]
# ## The question
#
# Here is some homework for a network. On the left, what it is given: points, each with noise on it. On the right, what
# it is told afterwards: where each point came from.

# %% tags=["figure", "fold"]
# @title Points on a spiral, with noise; and where they came from
angle = torch.linspace(0.5, 2.6, 24).double()[:, None] * math.pi
spots = 0.24 * angle * torch.cat([angle.cos(), angle.sin()], 1)  # along a spiral
curl = GaussianMixture(spots, 0.12**2)
x_0 = curl.sample(400, lesson.generator)
x_t = forward.q_sample(x_0, 200, schedule, forward.noise_like(x_0, lesson.generator))
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 4), sharey=True)
left.plot(*x_t.T, ".", ms=3, color=ORANGE)
right.plot(
    *torch.stack([x_t, x_0])[:, ::4].permute(2, 0, 1), color=BLACK, lw=0.4, alpha=0.6
)
right.plot(*x_t[::4].T, ".", ms=3, color=ORANGE, label="given")
right.plot(*x_0[::4].T, ".", ms=4, color=BLUE, label="the answer")
right.legend(loc="upper left", fontsize=8)
for axis, title in [
    (left, "given: $x_t$ at t = 200"),
    (right, "told afterwards: $x_0$ (one in four)"),
]:
    axis.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3), title=title)
show(
    figure,
    "Left: a shapeless cloud of noisy points. Right: lines from a hundred of them to "
    "their clean points, which lie on a "
    "spiral; the lines cross each other everywhere.",
)

# %% [markdown]
# Neighbours get contradictory answers: the lines cross everywhere. Nobody ever shows the network a density, let alone
# the spiral. **Why does learning to denoise teach a network where the data are?** And does it know everywhere? Ask it,
# after training, about places where no noisy point ever fell. *Out there its error is, compared with its error among
# the points,*

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice(
    "", ["about the same", "three times as large", "more than five times as large"]
)
guess

# %% [markdown]
# ## 1 · An autoencoder with a harder task
#
# An autoencoder is a network $f$ that returns its input: minimise $\lVert f(x) - x\rVert^2$. As it stands the task teaches
# nothing, because copying solves it. One cure is a narrow waist (section 5). The other is from Vincent et al., 2008:
# **spoil the input, and ask for the clean picture.** With our noise,
#
# $$L_\text{DAE}(f) = \mathbb E\,\bigl\lVert f(x_t) - x_0\bigr\rVert^2, \qquad x_t = \alpha_t\,x_0 + \sigma_t\,\epsilon. \tag{5.1}$$
#
# Copying does not solve that. This is the loss we have used since lesson 03, and the whole difference lies in three
# places where it is easy to slip: what goes in, what is asked for, and which noise level it was.
#
# ### Exercise 1 · The loss of a denoising autoencoder
# *15 minutes · easy · Eq. (5.1).* The simplest autoencoder is a matrix: it guesses `x_t @ W`. Spoil `x_0` with the
# noise `eps`, each row with its own `t`; return one number a row, the squared error averaged over the row. It is a loss, so
# the gradient with respect to `W` has to get through.


# %% tags=["exercise"] exercise="05.dae_loss" points=2
# Exercise 05.dae_loss
def dae_loss(
    W: Tensor, x_0: Tensor, t: Tensor, alpha_bar: Tensor, eps: Tensor
) -> Tensor:
    """Loss of each row, (b,). W: (d, d); x_0, eps: (b, d); t: (b,);
    alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a = alpha_bar[t][:, None]
    x_t = a.sqrt() * x_0 + (1 - a).sqrt() * eps
    return (x_t @ W - x_0).square().mean(1)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Three lines: the column of $\bar\alpha_t$ with shape `(b, 1)`; `x_t` as in lesson 01; then the guess `x_t @ W` minus
# the *clean* `x_0`, squared, `.mean(1)`.
# </details>

# %% tags=["check"]
check("05.dae_loss", dae_loss)

# %% [markdown]
# ## 2 · What it learns: Tweedie's formula
#
# The best $f$ is $\mathbb E[x_0 \mid x_t]$, by (3.6). Lesson 03 turned that into a score in one line, (3.14). Now
# slowly, since everything on this page hangs on it. Noisy points have the density
#
# $$q(x_t) = \int q(x_0)\;\mathcal N\bigl(x_t;\ \alpha_t x_0,\ \sigma_t^2 I\bigr)\,dx_0, \tag{5.2}$$
#
# a sum of Gaussian bumps, one for each possible $x_0$. Move $x_t$ a little. A bump
# $\exp(-\lVert x_t - \alpha_t x_0\rVert^2 / 2\sigma_t^2)$ has the slope of its exponent times itself:
#
# $$\nabla_{x_t}\,\mathcal N(x_t; \alpha_t x_0, \sigma_t^2 I) = \frac{\alpha_t x_0 - x_t}{\sigma_t^2}\;
# \mathcal N(x_t; \alpha_t x_0, \sigma_t^2 I). \tag{5.3}$$
#
# Each bump pulls towards its own $\alpha_t x_0$. Put (5.3) into (5.2) and divide by $q(x_t)$. What stands under the
# integral is then $q(x_0)\,\mathcal N(x_t; \dots)/q(x_t) = q(x_0 \mid x_t)$, Bayes' rule, and the integral has become
# an average over it:
#
# $$\nabla\log q(x_t) = \frac{\nabla q(x_t)}{q(x_t)} = \int \frac{\alpha_t x_0 - x_t}{\sigma_t^2}\;q(x_0 \mid x_t)\,dx_0
# = \frac{\alpha_t\,\mathbb E[x_0 \mid x_t] - x_t}{\sigma_t^2}.$$
#
# Solved for the denoiser:
#
# $$\boxed{\;\mathbb E[x_0 \mid x_t] = \frac{x_t + \sigma_t^2\,\nabla\log q(x_t)}{\alpha_t}\;} \tag{5.4}$$
#
# **Best denoising is a step uphill on the log-density of noisy points,** of length $\sigma_t^2$ times the slope, and
# then undoing the shrink. Nothing was assumed about the data, nor about $\alpha_t^2 + \sigma_t^2$. So test it where
# nothing is special: a lopsided mixture in three dimensions, and three families of noise, one that preserves
# variance, one that lets it explode, and one that does neither. The left side is the mixture's exact posterior mean;
# the right side knows only its log-density, and autograd.

# %%
# Eq. (5.4)
root = torch.randn(4, 3, 3, dtype=torch.float64, generator=lesson.generator)
means = 2 * torch.randn(4, 3, dtype=torch.float64, generator=lesson.generator)
weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
lopsided = GaussianMixture(means, root @ root.mT / 3, weights)
for noise, times in [
    (schedule, (10, 300, 900)),
    (schedules.VE(), (0.2, 0.5)),
    (schedules.FlowMatching(), (0.1, 0.8)),
]:
    for t in times:
        x_t = 2 * forward.noise_like(torch.zeros(200, 3).double(), lesson.generator)
        x_t.requires_grad_(True)
        (slope,) = torch.autograd.grad(lopsided.log_prob(x_t, t, noise).sum(), x_t)
        alpha, sigma = noise.coeffs(t)
        uphill, best = (x_t + sigma**2 * slope) / alpha, lopsided.denoise(x_t, t, noise)
        assert torch.allclose(uphill, best, rtol=1e-9, atol=1e-9)
print(
    "a step uphill is the posterior mean: seven noise levels, three families, nine "
    "digits"
)

# %% [markdown]
# Read from right to left, (5.4) makes a score of any denoiser $f$:
#
# $$s_f(x_t) = \frac{\alpha_t\,f(x_t) - x_t}{\sigma_t^2}. \tag{5.5}$$
#
# ### Exercise 2 · A score from a denoiser
# *10 minutes · easy · Eq. (5.5).* One $t$ for each row of the batch; points or pictures.


# %% tags=["exercise"] exercise="05.score" points=1
# Exercise 05.score
def score(x_t: Tensor, x0_hat: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """s_f of Eq. (5.5), as large as x_t. x_t, x0_hat: (b, …); t: (b,) from 1;
    alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a = alpha_bar[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return (a.sqrt() * x0_hat - x_t) / (1 - a)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# $\alpha_t$ is a root, $\sigma_t^2$ is not: `1 - alpha_bar[t]`. The arrow points from `x_t` to the shrunken guess.
# </details>

# %% tags=["check"]
check("05.score", score)

# %% [markdown]
# And how good a score has a network that denoises only roughly? Write $m$ for the best denoiser and $s$ for the true
# score. Equation (3.6) splits the loss into a floor and an excess, and by (5.5) $f - m = \sigma_t^2 (s_f - s)/\alpha_t$:
#
# $$L_\text{DAE}(f) = \underbrace{\mathbb E\,\lVert x_0 - m\rVert^2}_{\text{nobody can avoid}}
# + \frac{\sigma_t^4}{\alpha_t^2}\;\mathbb E_{q(x_t)}\bigl\lVert s_f(x_t) - s(x_t)\bigr\rVert^2. \tag{5.6}$$
#
# **To train a denoiser is to fit the score,** and nobody had to know the score to do it. That is *denoising score
# matching* (Vincent, 2011). Note under the last expectation *where* the score is fitted: at points drawn from
# $q(x_t)$. Where noisy points never fall, the loss says nothing at all.
#
# ## 3 · A network that was never told
#
# Train one on the homework. It is small: five layers, 64 numbers wide. It is told the noise level (one network for all
# of them, conditioned on the log-SNR, lesson 04), wrapped in lesson 04's `Denoiser`, and trained on that lesson's
# weighting of (5.1).


# %%
class Points(nn.Module):
    """A small network for points in the plane: (x, log-SNR) -> F."""

    def __init__(self, width: int = 64):
        super().__init__()
        layers = [nn.Linear(3, width), nn.SiLU()]
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        return self.layers(torch.cat([x, log_snr[:, None] / 4], 1))


@dataclass
class Done:
    """What `watch` wants to know of a step."""

    step: int
    loss: float


# %% [markdown]
# The loop draws fresh points each time. Its loss is (5.1) with a weight; the spiral itself is nowhere in it but
# through its samples.


# %%
# Eq. (5.1)
def learn(denoiser: Denoiser, steps: int, batch: int = 512) -> Iterator[Done]:
    """Denoise fresh points of the spiral at random noise levels."""
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        x_0 = curl.sample(batch, lesson.generator).float()
        t = torch.randint(1, 1001, (batch,), generator=lesson.generator)
        eps = forward.noise_like(x_0, lesson.generator)
        loss = losses.denoising_loss(
            denoiser, x_0, t, schedule, eps, data_std=denoiser.data_std
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        yield Done(step, loss.item())


spread = curl.sample(10_000, lesson.generator).std().item()
points_net = Denoiser(Points(), schedule, "v", data_mean=0.0, data_std=spread)

# %% tags=["widget", "open"]
for _ in watch(learn(points_net, 1500), 1500, label="points"):
    pass

# %% [markdown]
# Did it reach what can be reached? We know the floor of (5.6) exactly. So measure the three terms on fresh points: the
# network's loss, the floor, and the error of its score against the true one.

# %%
# Eq. (5.6)
# From here on compared with float64 truth:
points_net = points_net.double().eval().requires_grad_(False)
for t in (50, 100, 200, 400):
    x_0 = curl.sample(20_000, lesson.generator)
    x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    alpha, sigma = schedule.coeffs(t)
    f, m = points_net(x_t, t), curl.denoise(x_t, t, schedule)
    s_f = parameterizations.score_from_x0(x_t, f, t, schedule)
    error = s_f - curl.score(x_t, t, schedule)
    loss, floor = (f - x_0).square().sum(1), (m - x_0).square().sum(1)
    excess = (sigma**4 / alpha**2) * error.square().sum(1)
    varies(
        f"t = {t:3}: loss {loss.mean():.4f} = floor {floor.mean():.4f} + score error "
        f"{excess.mean():.4f}, up to chance"
    )
    chance = loss - floor - excess  # zero on average, by (3.6)
    assert chance.mean().abs() < 4 * chance.std() / len(chance) ** 0.5
    assert excess.mean() < 0.12 * floor.mean()

# %% [markdown]
# The network stands within a few per cent of the floor, so by (5.6) its score must be nearly right *where the points
# are*. Look at it beside the truth. From each place an arrow makes the step uphill of (5.4), $\sigma_t^2$ times the
# score, at its true length: its tip is $\alpha_t\hat x_0$. Shades are the density of $x_t$.

# %%
window = torch.linspace(-3.6, 3.6, 61).double()
# 3,721 places, most of them far from the spiral:
plane = torch.cartesian_prod(window, window)
coarse = torch.cartesian_prod(window[3::6], window[3::6])


def learned_score(x_t: Tensor, t: int) -> Tensor:
    """Eq. (5.5) for the network."""
    return parameterizations.score_from_x0(x_t, points_net(x_t, t), t, schedule)


def rare(t: int) -> float:
    """The log-density that all but one in a thousand noisy points exceed."""
    x_0 = curl.sample(20_000, torch.Generator().manual_seed(1))
    x_t = forward.q_sample(
        x_0, t, schedule, forward.noise_like(x_0, torch.Generator().manual_seed(2))
    )
    return curl.log_prob(x_t, t, schedule).quantile(0.001).item()


# %% tags=["fold"]
# @title Drawing a score field
def frame(axis: plt.Axes, title: str) -> None:
    """The plane, its two directions alike."""
    axis.grid(False)
    axis.set(aspect="equal", title=title, xticks=[-3, 0, 3], yticks=[-3, 0, 3])


def draw_field(axis: plt.Axes, t: int, score: Tensor, colour: str, title: str) -> None:
    """A score field on the density of the noisy spiral: from each place, the step
    uphill at its true length."""
    density = curl.log_prob(plane, t, schedule).exp().reshape(61, 61).T
    axis.contourf(
        window, window, density, levels=6, cmap="Greys", vmax=2 * density.max()
    )
    step = schedule.coeffs(t)[1] ** 2 * score
    true_length = {"angles": "xy", "scale_units": "xy", "scale": 1}
    axis.quiver(*coarse.T, *step.T, color=colour, width=0.005, **true_length)
    frame(axis, title)


# %% tags=["fold"]
# @title Drawing the exact score, the learned one, and where they differ
def two_fields(t: int) -> plt.Figure:
    """The exact field, the learned one, and the length of their difference, which is
    shown as an error of x_0."""
    figure, (one, two, three) = plt.subplots(1, 3, figsize=(10.5, 3.5))
    draw_field(one, t, curl.score(coarse, t, schedule), BLUE, f"exact score, t = {t}")
    draw_field(two, t, learned_score(coarse, t), ORANGE, f"learned score, t = {t}")
    miss = (points_net(plane, t) - curl.denoise(plane, t, schedule)).norm(dim=1)
    shades = three.pcolormesh(
        window,
        window,
        miss.reshape(61, 61).T.clamp(0.01, 3).log10(),
        cmap="magma_r",
        vmin=-2,
        vmax=0.5,
        rasterized=True,
    )
    density = curl.log_prob(plane, t, schedule).reshape(61, 61).T
    three.contour(window, window, density, levels=[rare(t)], colors=BLUE)
    frame(three, r"error in $\hat x_0$; inside blue: 99.9 % of $x_t$")
    bar = figure.colorbar(shades, ax=three, ticks=[-2, -1, 0], shrink=0.8)
    bar.ax.set_yticklabels(["0.01", "0.1", "1"])
    return figure


# %% [markdown]
# Three panels: the true arrows, the network's, and how far apart their two guesses of $x_0$ are.

# %% tags=["widget", "fold"]
# @title Exact and learned score, and where they differ
explore(
    two_fields,
    alt="Exact score field, learned score field, and the error of the network's x_0; "
    "it is small where noisy points fall.",
    t=slider("t", 20, 600, 100, step=20),
)

# %% [markdown]
# *Move t down to 20. Where do the two fields differ first?* The same at $t = 100$, for a page without a kernel:

# %% tags=["figure", "fold"]
# @title The two fields at t = 100
show(
    two_fields(100),
    "Left and middle: arrows by the exact and by the learned score at t = 100, ending "
    "on the spiral; alike near it, and "
    "not far away. Right: the error of the network's guess, a few hundredths inside "
    "the region of noisy points, up to 1 "
    "and more outside of it.",
)

# %% [markdown]
# Inside the blue line, where 99.9 % of its homework lay, the network is hard to tell from the truth. Outside it is
# confidently wrong. Measure that, by how rare a place is:

# %%
t = 100
x_0 = curl.sample(20_000, lesson.generator)
x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
places = torch.cat([x_t, plane])
rarity = curl.log_prob(places, t, schedule)
miss = (points_net(places, t) - curl.denoise(places, t, schedule)).square().sum(1)
edges = torch.linspace(-60, 0, 13).double()
in_bin = torch.bucketize(rarity, edges)
rms = torch.stack([miss[in_bin == i].mean().sqrt() for i in range(1, 13)])

# %% tags=["figure", "fold"]
# @title The error against how rare a place is
figure = plt.figure(figsize=(6.5, 2.8))
plt.semilogy((edges[1:] + edges[:-1]) / 2, rms, "o-", color=ORANGE, label="the network")
plt.axvline(rare(t), color=BLUE, lw=1.2, label="99.9 % of the points lie to the right")
plt.gca().set(
    xlabel=r"$\log q(x_t)$ at the place, t = 100", ylabel=r"error in $\hat x_0$ (rms)"
)
plt.legend(fontsize=8)
show(
    figure,
    "The error against the log-density of the place: a few hundredths at the right, "
    "and more than 1 at the left.",
)

# %%
among, of_plane = miss[: len(x_t)].mean().sqrt(), miss[len(x_t) :]
out_there = of_plane[rarity[len(x_t) :] < rare(t)].mean().sqrt()
varies(
    f"your guess: {guess.value}. Among the points {among:.3f}, out there "
    f"{out_there:.3f}: {out_there / among:.0f} times"
)
assert out_there > 5 * among

# %% [markdown]
# So the answer to the opening question comes in two halves. **A denoiser knows where the data are because the average
# of all contradictory answers is a step uphill, (5.4).** And it knows that only where it was asked, (5.6). Is the
# second half a danger? The sampler of lesson 03 starts where the loss was measured, at $t = T$, and each of its steps
# ends where the noisy data of that level lie; so, but for its own small errors, it asks only what was practised. A loop that feeds the network
# something else has no such promise. Remember that for section 6.
#
# ## 4 · How sure it is
#
# There is more in a denoiser than its answer. Differentiate $\mathbb E[x_0 \mid x_t] = \int x_0\,q(x_0 \mid x_t)\,dx_0$.
# The weights change with $x_t$: by Bayes, (5.3) and (5.4),
#
# $$\nabla_{x_t}\log q(x_0 \mid x_t) = \frac{\alpha_t x_0 - x_t}{\sigma_t^2} - \nabla\log q(x_t)
# = \frac{\alpha_t}{\sigma_t^2}\,\bigl(x_0 - \mathbb E[x_0 \mid x_t]\bigr).$$
#
# A candidate gains weight if $x_t$ moves towards it, seen from the average candidate. Hence
# $\partial\,\mathbb E[x_0 \mid x_t]/\partial x_t = \frac{\alpha_t}{\sigma_t^2}\,\mathbb E\bigl[x_0\,(x_0 - \mathbb E[x_0 \mid x_t])^\top \mid x_t\bigr]$,
# and what stands there is a covariance:
#
# $$\operatorname{Cov}[x_0 \mid x_t] = \frac{\sigma_t^2}{\alpha_t}\;J(x_t), \qquad
# J = \frac{\partial\,\mathbb E[x_0 \mid x_t]}{\partial x_t}. \tag{5.7}$$
#
# **The derivative of the best denoiser is its uncertainty.** If a small change of the input changes the answer a lot,
# several answers were possible. It follows that $J$ is symmetric, with no negative eigenvalue, and that the error of
# the best denoiser can be had without any clean picture:
#
# $$\mathbb E\,\bigl\lVert x_0 - \mathbb E[x_0 \mid x_t]\bigr\rVert^2 = \frac{\sigma_t^2}{\alpha_t}\;\mathbb E\bigl[\operatorname{tr} J(x_t)\bigr]. \tag{5.8}$$
#
# For one Gaussian with covariance $S$ both sides of (5.7) are textbook formulas: precisions add (3.3), so
# $\operatorname{Cov} = (S^{-1} + \alpha_t^2/\sigma_t^2\,I)^{-1}$. For the spiral there is none, but a fine grid of
# candidates $x_0$ and Bayes' rule will do.


# %%
# Eq. (5.7)
def jacobian(f, x: Tensor) -> Tensor:
    """The derivatives of f at each point of a batch: (b, d, d), row i those of output
    i."""
    x = x.detach().requires_grad_(True)
    y = f(x)
    rows = [
        torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)[0]
        for i in range(y.shape[1])
    ]
    return torch.stack(rows, 1)


unit = torch.eye(3, dtype=torch.float64)
S = root[0] @ root[0].T + 0.1 * unit
one = GaussianMixture(means[:1], S[None])
for t in (30, 300, 900):
    alpha, sigma = schedule.coeffs(t)
    x_t = torch.randn(5, 3, dtype=torch.float64, generator=lesson.generator)
    J = jacobian(lambda x, t=t: one.denoise(x, t, schedule), x_t)
    by_precisions = torch.linalg.inv(torch.linalg.inv(S) + (alpha / sigma) ** 2 * unit)
    wanted = by_precisions.expand(5, 3, 3)
    assert torch.allclose(sigma**2 / alpha * J, wanted, rtol=1e-9, atol=1e-12)

t, x_t = 150, torch.tensor([[0.3, -0.8]]).double()
alpha, sigma = schedule.coeffs(t)
side = torch.linspace(-3, 3, 601, dtype=torch.float64)
candidates = torch.cartesian_prod(side, side)
noise_says = -(x_t - alpha * candidates).square().sum(1) / (2 * sigma**2)
# Bayes, on 361,201 candidates:
p = torch.softmax(curl.log_prob(candidates) + noise_says, 0)
on_grid = torch.cov(candidates.T, correction=0, aweights=p)
J = jacobian(lambda x: curl.denoise(x, t, schedule), x_t)[0]
assert torch.allclose(sigma**2 / alpha * J, on_grid, rtol=1e-10, atol=1e-12)
print(
    "the Jacobian is the posterior covariance: for Gaussians, and for the spiral by "
    "Bayes on a grid"
)

# %% [markdown]
# ### Exercise 3 · How sure, coordinate by coordinate
# *10 minutes · easy · Eq. (5.7).* The variance of each coordinate of $x_0$, given $x_t$: the diagonal. One $t$ for
# each point.


# %% tags=["exercise"] exercise="05.posterior_variance" points=1
# Exercise 05.posterior_variance
def posterior_variance(J: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """Variance of each coordinate, (b, d). J: Jacobians of the denoiser, (b, d, d);
    t: (b,); alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a = alpha_bar[t][:, None]
    return (1 - a) / a.sqrt() * J.diagonal(dim1=1, dim2=2)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `J.diagonal(dim1=1, dim2=2)` is `(b, d)`. The factor has $\sigma_t^2$, no root, above the line, and $\alpha_t$, a
# root, below.
# </details>

# %% tags=["check"]
check("05.posterior_variance", posterior_variance)

# %% [markdown]
# Nothing in the training mentioned variances. Does the *network's* derivative know them all the same? Draw the
# standard deviation that (5.7) gives, for the exact denoiser and for the network, at every place of the plane.

# %%
# Eq. (5.8), at one place
t = 150
alpha, sigma = schedule.coeffs(t)
inside = curl.log_prob(plane, t, schedule) > rare(t)
variances = [
    sigma**2 / alpha * jacobian(f, plane).diagonal(dim1=1, dim2=2).sum(1)
    for f in (lambda x: curl.denoise(x, t, schedule), lambda x: points_net(x, t))
]
sure = [variance[inside] for variance in variances]

# %% tags=["figure", "fold"]
# @title Two maps of how sure the denoiser may be
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
titles = ["exact", "the network's derivative"]
for axis, variance, title in zip(axes, variances, titles, strict=True):
    picture = variance.clamp(min=0).sqrt().where(inside, torch.nan).reshape(61, 61).T
    shades = axis.pcolormesh(
        window, window, picture, cmap="viridis", vmin=0, vmax=1.2, rasterized=True
    )
    axis.set(aspect="equal", title=title, xticks=[-3, 0, 3], yticks=[-3, 0, 3])
    axis.grid(False)
figure.colorbar(shades, ax=axes, shrink=0.8, label="std of $x_0$ given $x_t$, t = 150")
show(
    figure,
    "Two maps, nearly alike: low along the spiral, high on the ridge between its "
    "arms, where a point may have come from "
    "either.",
)

# %%
agree = torch.corrcoef(torch.stack(sure))[0, 1]
varies(f"correlation of the two maps of variance, where points fall: {agree:.3f}")
assert agree > 0.8

# %% [markdown]
# It does. A bright ridge runs between the arms, where a point may have come from either side. A derivative is harder to
# fit than the function, so the network's map is rougher than the true one; but it was never asked for.
#
# ## 5 · Through too few numbers
#
# Now pictures: MNIST, shrunk to $14 \times 14$ so that three networks train in half a minute. The classic autoencoder
# has a **bottleneck**: an encoder to $k$ numbers, a decoder back to $d = 196$ pixels. *Before you read on: how many
# numbers does a digit need?*
#
# For linear maps the question has an exact answer. Write the data's covariance in its own axes,
# $C = \sum_i \lambda_i u_i u_i^\top$ with $\lambda_1 \ge \lambda_2 \ge \dots$ Of all ways to squeeze clean pictures,
# with their mean $\mu$ taken off, through $k$ numbers and unfold them again, both linearly, the best is to keep the coordinates along
# $u_1, \dots, u_k$: principal components (Baldi and Hornik, 1989). What is lost is the variance along all the others,
#
# $$\min_{\text{linear, width } k} \mathbb E\,\lVert f(x_0) - x_0\rVert^2 = \sum_{i > k} \lambda_i. \tag{5.9}$$
#
# With noise, each coordinate that is kept should also be shrunk. A linear map knows only means and variances, so each
# coordinate may as well be a Gaussian, with mean $u_i^\top\mu$ and variance $\lambda_i$, and (3.12) says how. The best
# linear denoiser of width $k$ is
#
# $$f_k(x_t) = \mu + \sum_{i \le k} u_i\;\frac{\alpha_t\lambda_i}{\alpha_t^2\lambda_i + \sigma_t^2}\;u_i^\top(x_t - \alpha_t\mu), \qquad
# \mathbb E\,\lVert f_k - x_0\rVert^2 = \sum_{i \le k}\frac{\sigma_t^2\,\lambda_i}{\alpha_t^2\lambda_i + \sigma_t^2} + \sum_{i > k}\lambda_i. \tag{5.10}$$
#
# A kept coordinate pays its posterior variance, less than $\lambda_i$; a dropped one pays all of $\lambda_i$. (What
# keeping saves, $\alpha_t^2\lambda_i^2/(\alpha_t^2\lambda_i + \sigma_t^2)$, grows with $\lambda_i$, so the first $k$
# are still the right ones. With $k = d$ this is Wiener's filter.)
#
# ### Exercise 4 · The best linear bottleneck
# *15 minutes · medium · Eq. (5.10).* The columns of `U` are $u_1, \dots, u_k$, and `lam` their variances. `sigma` is
# handed over: it need not be the root of $1 - \alpha_t^2$.


# %% tags=["exercise"] exercise="05.pca_denoiser" points=2
# Exercise 05.pca_denoiser
def pca_denoiser(
    x_t: Tensor, alpha: float, sigma: float, mu: Tensor, U: Tensor, lam: Tensor
) -> Tensor:
    """f_k(x_t), (b, d). x_t: (b, d); mu: (d,); U: (d, k), orthonormal columns;
    lam: (k,)."""
    ### BEGIN SOLUTION
    code = (x_t - alpha * mu) @ U  # (b, k): all that is known of x_t from here on
    return mu + (code * alpha * lam / (alpha**2 * lam + sigma**2)) @ U.T
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Encode: `(x_t - alpha * mu) @ U` has shape `(b, k)`. Multiply by one factor for each of the `k`. Decode with `@ U.T`,
# and put `mu` back.
# </details>

# %% tags=["check"]
check("05.pca_denoiser", pca_denoiser)

# %% [markdown]
# Test (5.10) on the real digits. For a linear denoiser the average over the noise can be taken by hand:
# $x_t - \alpha_t\mu$ is a picture's part plus white noise, and $\lVert A\epsilon\rVert^2$ averages to the sum of $A$'s squares. So
# no chance is left, and the two sides must agree to all digits.

# %%
pixels, _ = load_images("mnist", "train")


def shrink(images: Tensor) -> Tensor:
    """Bytes in, bytes out: every block of 2 × 2 pixels becomes its mean."""
    return nn.functional.avg_pool2d(images.float(), 2).round().to(torch.uint8)


digits, unseen = shrink(pixels), normalize(shrink(load_images("mnist", "test")[0]))
flat = normalize(digits).flatten(1).double()
mu, C = flat.mean(0), torch.cov(flat.T, correction=0)
lam, U = (part.flip(-1) for part in torch.linalg.eigh(C))  # the largest first
lam = lam.clamp(min=0)


def linear_error(k: int, t: int) -> float:
    """Eq. (5.10), right: the mean squared error of a pixel."""
    alpha, sigma = schedule.coeffs(t)
    noisy = (alpha**2 * lam[:k] + sigma**2).clamp(min=1e-300)
    kept = (sigma**2 * lam[:k] / noisy).sum()
    return ((kept + lam[k:].sum()) / 196).item()


# %%
# Eq. (5.10)
def linear_denoiser(x_t: Tensor, t: int, k: int) -> Tensor:
    """Eq. (5.10), left, for images."""
    alpha, sigma = schedule.coeffs(t)
    factor = alpha * lam[:k] / (alpha**2 * lam[:k] + sigma**2).clamp(min=1e-300)
    code = (x_t.flatten(1).to(mu) - alpha * mu) @ U[:, :k]
    return (mu + (code * factor) @ U[:, :k].T).reshape(x_t.shape).to(x_t)


for k, t in [(4, 0), (16, 0), (16, 100), (64, 400), (196, 700)]:
    alpha, sigma = schedule.coeffs(t)
    shrunk = (alpha * flat).reshape(-1, 1, 14, 14)
    signal = linear_denoiser(shrunk, t, k).flatten(1)  # what comes out without noise
    factor = alpha * lam[:k] / (alpha**2 * lam[:k] + sigma**2).clamp(min=1e-300)
    by_hand = (signal - flat).square().sum(1).mean() + sigma**2 * factor.square().sum()
    assert math.isclose(by_hand / 196, linear_error(k, t), rel_tol=1e-8)
so_far = lam.cumsum(0) / lam.sum()
need = {share: int((so_far < share).sum()) + 1 for share in (0.5, 0.9, 0.99)}
assert need[0.9] == 45
print(
    "numbers that a linear code needs for",
    ", ".join(f"{share:.0%} of the variance: {k}" for share, k in need.items()),
)

# %% [markdown]
# A digit of 196 pixels needs 45 numbers for 90 % of its variance. The others hold the edges. **Widget:** choose a
# width and a noise level. *Two predictions: at $t = 1$, what does k = 8 make of a 4? At $t = 600$, what is the
# difference between k = 8 and all 196?*

# %% tags=["fold", "widget"]
# @title Digits through a code of k numbers
eight = unseen[[0, 1, 2, 4, 5, 7, 8, 15]]
grain = forward.noise_like(eight, lesson.generator)


def through(k: int, t: int) -> plt.Figure:
    """Clean digits, noisy ones, and what passes a linear code of k numbers."""
    x_t = forward.q_sample(eight, t, schedule, grain)
    rows, labels = (
        torch.cat([eight, x_t, linear_denoiser(x_t, t, k)]),
        ["clean", f"t = {t}", f"through {k} numbers"],
    )
    return image_grid(
        rows,
        columns=8,
        row_labels=labels,
        size=0.85,
        title=f"error of a pixel: {linear_error(k, t):.3f}",
    )


explore(
    through,
    alt="Eight digits: clean, noisy, and as the best linear denoiser with a code of k "
    "numbers gives them back.",
    k=slider("width k of the bottleneck", 1, 196, 8),
    t=slider("t", 0, 1000, 1),
)

# %% [markdown]
# For a page without a kernel, five widths at $t = 1$, where there is hardly any noise:

# %% tags=["figure", "fold"]
# @title Nearly clean digits through five codes
widths = [4, 8, 16, 64, 196]
nearly_clean = forward.q_sample(eight, 1, schedule, grain)
show(
    image_grid(
        torch.cat(
            [nearly_clean, *(linear_denoiser(nearly_clean, 1, k) for k in widths)]
        ),
        columns=8,
        row_labels=["input, t = 1", *(f"k = {k}" for k in widths)],
        size=0.75,
    ),
    "Eight digits at almost no noise through codes of 4, 8, 16, 64 and 196 numbers. 4 "
    "and 8 give blurs, several of a wrong digit, "
    "16 readable blurs, 64 nearly the picture, 196 the picture.",
)

# %% [markdown]
# And the error of each width at every noise level; dotted, the floors of (5.9).

# %% tags=["figure", "fold"]
# @title What a code of each width costs, at each noise level
ts = [1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 500, 600, 800, 1000]
figure = plt.figure(figsize=(7, 3.2))
for k, colour in zip(widths, (PINK, ORANGE, GREEN, BLUE, BLACK), strict=True):
    plt.loglog(
        [schedule.coeffs(t)[1] for t in ts],
        [linear_error(k, t) for t in ts],
        "o-",
        ms=3,
        color=colour,
        label=f"k = {k}",
    )
    plt.axhline(lam[k:].sum().item() / 196, color=colour, lw=0.7, ls=":")
plt.gca().set(xlabel=r"$\sigma_t$", ylabel="error of a pixel", ylim=(5e-5, 0.5))
plt.legend(fontsize=8)
show(
    figure,
    "Error of a pixel against the noise, log axes. Narrow codes run flat into a floor "
    "as the noise vanishes, each at its "
    "dotted line; the full width falls with the noise. At high noise all five meet.",
)

# %%
floor = {k: linear_error(k, 0) for k in widths}
# At t = 1 narrow codes pay for the code alone, and at t = 600 the width hardly matters.
assert all(floor[k] > 90 * linear_error(196, 1) for k in (4, 8, 16, 64))
assert linear_error(8, 600) < 1.05 * linear_error(196, 600)
for t in (1, 2, 5):
    assert linear_error(196, t) < schedule.coeffs(t)[1] ** 2

# %% [markdown]
# Two regimes. **When noise is strong the bottleneck costs nothing:** only a few coordinates stand above the noise, and
# they fit through. **When noise is weak the bottleneck is the whole error.** A denoiser with nothing to do should
# return its input. A narrow code cannot even do that: its error runs into the floor (5.9), while the full width falls
# with $\sigma_t^2$.
#
# And a sampler comes to the weak noise last. Whatever the last steps cannot say is missing in the picture.
#
# ### Skip connections
#
# A network is not bound to be linear: its $k$ numbers can be bent around the data. Does that help? And what if the
# fine detail need not pass the code at all, but is handed across, from each layer on the way down to its partner on
# the way up? Two networks, alike but for that: `denoisers.DAE`, 16 numbers wide, told the noise level, trained on
# (5.1) at all noise levels at once. Both answer with $\hat x_0$ itself. (Lesson 04's $v$ would hand the input around
# the network, by $c_\text{skip}$: a skip connection by another name, and we want to see the difference.)

# %%
mean, std = flat.mean().item(), flat.std().item()


def trained(
    network: nn.Module,
    label: str,
    mean: float = mean,
    std: float = std,
    steps: int = 300,
) -> Denoiser:
    """Train on the small digits, all noise levels weighted alike;
    returns the averaged weights."""
    run = Training(
        Denoiser(network, schedule, "x0", mean, std),
        lr=1e-2,
        ema=0.99,
        device=lesson.device,
        precision=lesson.dtype,
    )
    records = watch(
        train(run, digits, steps=steps, weighting="x0", warmup=50), steps, label=label
    )
    last = [record.loss for record in records][-50:]
    # Who knows nothing, and says one grey, pays the variance.
    assert sum(last) / len(last) < 0.6 * flat.var()
    return run.averaged().requires_grad_(False)


# %% tags=["widget", "open"]
narrow = trained(DAE(1, 14, width=16, bottleneck=16), "bottleneck")

# %% [markdown]
# The same with skips:

# %% tags=["widget", "open"]
skipping = trained(DAE(1, 14, width=16, bottleneck=16, skips=True), "with skips")

# %% [markdown]
# The error of both, on digits that they have never seen, beside the best linear maps of width 16 and of full width:

# %%
judged = unseen[-500:].to(lesson.device)


def error_of(denoise, t: int) -> float:
    """Mean squared error of a pixel on 500 digits that no network has seen."""
    eps = forward.noise_like(judged, torch.Generator().manual_seed(t))
    x_t = forward.q_sample(judged, t, schedule, eps)
    return (denoise(x_t, t) - judged).square().mean().item()


curves = {
    "linear, k = 16": [error_of(lambda x, t: linear_denoiser(x, t, 16), t) for t in ts],
    "linear, k = 196": [
        error_of(lambda x, t: linear_denoiser(x, t, 196), t) for t in ts
    ],
    "network, bottleneck 16": [error_of(narrow, t) for t in ts],
    "network, bottleneck 16 and skips": [error_of(skipping, t) for t in ts],
}

# %% tags=["figure", "fold"]
# @title Error of linear codes and of networks
figure = plt.figure(figsize=(7, 3.4))
for (name, curve), colour, dash in zip(
    curves.items(), (GREEN, BLACK, ORANGE, BLUE), ("--", "--", "-", "-"), strict=True
):
    plt.loglog(
        [schedule.coeffs(t)[1] for t in ts],
        curve,
        dash,
        marker="o",
        ms=3,
        color=colour,
        label=name,
    )
plt.gca().set(
    xlabel=r"$\sigma_t$", ylabel="error of a pixel, unseen digits", ylim=(5e-5, 0.5)
)
plt.legend(fontsize=8)
show(
    figure,
    "Error against noise for linear codes of 16 and 196 and the two networks. The "
    "bottleneck network runs into a floor "
    "like the linear one of 16; with skips the error falls to a small part of it, and "
    "rises again at the weakest noise. At "
    "high noise all four meet.",
)

# %%
# t: (linear 16, linear 196, narrow, skipping)
at = dict(zip(ts, zip(*curves.values(), strict=True), strict=True))
for t in (1, 20, 200, 600):
    varies(
        f"t = {t:3}: linear 16 {at[t][0]:.4f}   bottleneck {at[t][2]:.4f}   with "
        f"skips {at[t][3]:.4f}"
    )
assert at[1][2] > 3 * at[1][3]  # almost no noise: the code is the whole error
# A hundred times the noise that it was asked to remove:
assert at[1][2] > 100 * schedule.coeffs(1)[1] ** 2
assert 0.7 < at[1][2] / at[1][0] < 1.3  # near the linear code of its width
assert at[200][3] < at[200][1]  # the skips beat the best linear map of full width
assert at[1][3] > at[1][1]  # until there is nothing to do but copy
assert at[600][2] < 1.1 * at[600][3]  # much noise: the code costs nothing

# %% [markdown]
# The bottleneck network ends near the linear code of its width, and in weak noise its error hardly depends on the noise:
# at $t = 1$ it does more than a hundred times the damage of the noise that it was asked to remove. With skips the same network
# beats even the best linear map of full width, until the noise is so weak that one should simply copy. Copying has to
# be *learned* too, and a loss that weights all levels alike hardly asks for it: in the weakest noise the error even rises again. Handing the
# input around the network (lesson 04) makes copying free. The U-Net of the next lesson has both.
#
# One more look, with (5.7). If $f$ were the best denoiser, the spread that its derivative announces would equal its
# error, (5.8). *Predict for the bottleneck: does it know what it has lost?*


# %%
# Eq. (5.8)
def announced(denoise: Denoiser, x: Tensor, t: int) -> Tensor:
    """The variance of each pixel by (5.7), of the shape of x;
    row by row, from the full Jacobian."""
    alpha, sigma = schedule.coeffs(t)
    own = []
    for image in x:
        J = torch.autograd.functional.jacobian(
            lambda one: denoise(one[None], t)[0], image, vectorize=True
        )
        own.append(J.reshape(196, 196).diagonal().reshape(1, 14, 14).detach())
    return (sigma**2 / alpha).float() * torch.stack(own)


t, some = 200, judged[:16]
x_t = forward.q_sample(some, t, schedule, forward.noise_like(some, lesson.generator))
rows, told = [x_t[:6]], {}
for name, denoise in {"bottleneck": narrow, "with skips": skipping}.items():
    variance, x0_hat = announced(denoise, x_t, t), denoise(x_t, t)
    squared = (x0_hat - some).square()
    # The quarter of the pixels it is least sure of:
    doubtful = variance >= variance.flatten().quantile(0.75)
    announces = (variance.mean() / squared.mean()).item()
    told[name] = announces, (squared[doubtful].sum() / squared.sum()).item()
    rows += [
        x0_hat[:6],
        2 * variance[:6].clamp(min=0).sqrt() - 1,
        2 * squared[:6].sqrt() - 1,
    ]

# %% tags=["figure", "fold"]
# @title What the networks announce, and what is true
show(
    image_grid(
        torch.cat(rows),
        columns=6,
        row_labels=[
            "$x_t$, t = 200",
            *(text for net in told for text in (net, "announced std", "true error")),
        ],
        size=0.7,
    ),
    "Six noisy digits; for both networks the guess, the announced standard deviation "
    "of each pixel, and the true error. "
    "The bottleneck announces little; the one with skips marks the strokes and what "
    "lies around them, where its errors "
    "are.",
)

# %%
for name, (announces, share) in told.items():
    varies(
        f"{name:10}: announces {announces:.0%} of its squared error; {share:.0%} of "
        "it lies in the doubtful quarter"
    )
assert told["bottleneck"][0] < 0.5 < told["with skips"][0] < 1.6
assert told["with skips"][1] > 0.5  # twice a quarter

# %% [markdown]
# Both mark the strokes and what lies around them, which is where they err. With skips a network announces, on the whole,
# as much error as it makes. The bottleneck announces far too little. It is *sure* of its blur: what the code
# dropped cannot move its output, so its derivative does not see it. Formula (5.7) belongs to the best denoiser, and a
# bottleneck is far from it.
#
# ## 6 · What usually goes wrong
#
# A popular recipe for pictures from noise: train a denoising autoencoder, with a bottleneck, on all noise levels
# mixed, **without telling it which** (lesson 04 measured what that costs); then start from pure noise and apply it
# again and again, $x \leftarrow f(x)$, a thousand times. Every part sounds reasonable. Here it is: the same network
# once more, not conditioned.

# %% tags=["widget", "open"]
blind = trained(
    DAE(1, 14, width=16, bottleneck=16, conditioned=False), "blind", mean=0.0, std=1.0
)

# %% [markdown]
# (With mean 0 and standard deviation 1 the wrapper does nothing: the network sees $x_t$ as it is, and no $t$ at all.)
# First a measure of blur. A blurred picture has no sharp bends in its brightness; the Laplacian of a pixel, four times
# itself minus its four neighbours, is large at edges. (And for grain, or scraps of strokes: it measures blur, not
# beauty.) So
#
# $$\text{sharpness} = \operatorname*{mean}_{i,j}\,\bigl(4x_{i,j} - x_{i-1,j} - x_{i+1,j} - x_{i,j-1} - x_{i,j+1}\bigr)^2, \tag{5.11}$$
#
# over all pixels that have four neighbours.
#
# ### Exercise 5 · Sharpness
# *15 minutes · medium · Eq. (5.11).* One number an image, averaged over its channels too. Pixels at the border are left
# out.


# %% tags=["exercise"] exercise="05.sharpness" points=2
# Exercise 05.sharpness
def sharpness(images: Tensor) -> Tensor:
    """Mean squared Laplacian of each image, (b,). images: (b, c, h, w)."""
    ### BEGIN SOLUTION
    up, down = images[..., :-2, 1:-1], images[..., 2:, 1:-1]
    left, right = images[..., 1:-1, :-2], images[..., 1:-1, 2:]
    laplacian = 4 * images[..., 1:-1, 1:-1] - up - down - left - right
    return laplacian.square().mean((1, 2, 3))
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# The pixels with four neighbours are `images[..., 1:-1, 1:-1]`. Their upper neighbours are `images[..., :-2, 1:-1]`:
# the same window, moved by one. Three more of those; then square, then `.mean((1, 2, 3))`.
# </details>

# %% tags=["check"]
check("05.sharpness", sharpness)

# %% [markdown]
# From the same sixty-four noises: the recipe; then the honest sampler of lesson 03 with three denoisers, so that one
# thing changes at a time: the blind one, the bottleneck that is told $t$, and the one with skips.


# %%
def laplacian_energy(images: Tensor) -> Tensor:
    """Eq. (5.11), as a convolution."""
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
    laplacian = nn.functional.conv2d(images, kernel.to(images.device))
    return laplacian.square().mean((1, 2, 3))


start = torch.randn(64, 1, 14, 14, generator=lesson.generator).to(lesson.device)
assert torch.equal(blind(start, 1), blind(start, 1000))  # it is told nothing
film, x = [], start
for step in range(1, 1001):
    x = blind(x, 1)  # the recipe
    if step in (1, 3, 10, 1000):
        film.append(x)
ends = {
    "real digits": judged[:64],
    "recipe, 1 step": film[0],
    "recipe, 1,000 steps": film[3],
}
for name, denoise in {
    "blind": blind,
    "told t": narrow,
    "told t, skips": skipping,
}.items():
    grid, walk = samplers.uniform_grid(schedule, 100), torch.Generator().manual_seed(0)
    ends[f"sampler: {name}"] = samplers.sample_ddpm(
        denoise, start, schedule, grid, generator=walk
    )

# %% [markdown]
# *Predict: what has the recipe made of sixty-four different noises after a thousand steps?*

# %% tags=["figure", "fold"]
# @title Real digits, the recipe, the sampler
rows = {"real digits": ends["real digits"]}
rows |= dict(
    zip(["recipe, 1 step", "3 steps", "10 steps", "1,000 steps"], film, strict=True)
)
rows |= {name: images for name, images in ends.items() if name.startswith("sampler")}
show(
    image_grid(
        torch.cat([images[:10] for images in rows.values()]).cpu(),
        columns=10,
        row_labels=list(rows),
        size=0.62,
    ),
    "Ten pictures a row. Real digits. The recipe: after one step ten equal grey "
    "blurs, after a thousand a few "
    "shapes, repeated. The sampler with the blind and the narrow network: soft "
    "digits; with skips: crisp strokes.",
)


# %%
def clusters(images: Tensor, distance: float = 1.0) -> int:
    """How many pictures are left if those closer than `distance` to an earlier one
    count as the same."""
    kept = images[:1].flatten(1)
    for image in images.flatten(1):
        if torch.cdist(image[None], kept).min() > distance:
            kept = torch.cat([kept, image[None]])
    return len(kept)


table = {}
for name, images in ends.items():
    table[name] = laplacian_energy(images).mean().item(), clusters(images)
    varies(
        f"{name:24} sharpness {table[name][0]:.2f}   different {table[name][1]} of 64"
    )

# %% [markdown]
# Sharpness is (5.11); the last column counts the pictures that differ. One against the other:

# %% tags=["figure", "fold"]
# @title Sharpness against variety
figure = plt.figure(figsize=(6.6, 3))
for (name, (sharp, different)), colour in zip(
    table.items(), (BLACK, YELLOW, ORANGE, PINK, GREEN, BLUE), strict=True
):
    plt.plot(different, sharp, "o", ms=8, color=colour, label=name)
plt.gca().set(
    xlabel="different pictures among 64",
    ylabel="sharpness",
    xlim=(0, 68),
    ylim=(0, None),
)
plt.legend(fontsize=8, loc="upper left")
show(
    figure,
    "Sharpness against the number of different pictures. The recipe is at the left, "
    "with a handful of pictures or fewer; "
    "the samplers are at the right, the one with skips highest, next to the real "
    "digits.",
)

# %%
real, one_step, recipe, by_blind, by_narrow, by_skips = table.values()
assert one_step[0] < 0.2 * real[0]  # blur: the very first step is a grey average
# Sameness: sixty-four noises, a handful of pictures. The honest sampler cures that,
# with the same network, but not the blur of a bottleneck.
assert recipe[1] < 16 < 48 < by_skips[1]
assert by_blind[1] > 2 * recipe[1]
assert max(by_blind[0], by_narrow[0]) < 0.8 * by_skips[0] < 0.8 * real[0]

# %% [markdown]
# Take the failure apart.
#
# * **The loop.** $x \leftarrow f(x)$ draws nothing and forgets the noise level. The first step is right, as far as it
#   goes: the average of all digits, a grey blur. Now there is no noise left in $x$, and the network is asked about
#   something it never saw in training, its own blur. For the other 999 steps it is where section 3 was outside the
#   blue line. There every noise ends near one of a few pictures. What they look like is an accident of the training: here
#   a faint blur, with another seed perhaps a crisp digit. With the *exact* denoiser, told a falling $t$ (lesson 03), it was
#   one picture, sharp as can be. **Whoever looks at a single sample may even be pleased; look at sixty-four.**
# * **The missing $t$.** The same blind network in the honest sampler draws many different pictures: the sampler puts the
#   right noise back at each step, so that the input is of the kind it was trained on. What $t$ adds is sharpness.
# * **The bottleneck.** Told $t$ and sampled honestly, it still draws soft edges: the last steps end at its floor.
# * **With skips** the strokes are crisp, but look at the shapes: they are worse than the narrow network's, often mere
#   pieces. Large shapes fit through a code very well. It takes more training than ten seconds to get both right: lesson 07.
#
# Perhaps the loop would at least keep a good picture as it is? Give it real digits.

# %%
kept, x = [eight.to(lesson.device)], eight.to(lesson.device)
for step in range(1, 101):
    x = blind(x, 1)
    if step in (1, 10, 100):
        kept.append(x)
assert laplacian_energy(kept[1]).mean() < 0.6 * laplacian_energy(kept[0]).mean()

# %% tags=["figure", "fold"]
# @title Real digits under the blind autoencoder
show(
    image_grid(
        torch.cat(kept).cpu(),
        columns=8,
        row_labels=["real digit", "1 step", "10 steps", "100 steps"],
        size=0.7,
    ),
    "Eight real digits, and after 1, 10 and 100 applications of the blind "
    "autoencoder: blurred at once, later other shapes.",
)

# %% [markdown]
# A single application takes most of the edges away, though there was no noise to remove.
#
# ## 7 · The answer
#
# Why does learning to denoise teach a network where the data are? Because a noisy point has many possible origins, the
# squared error asks for their average, and that average lies *uphill*: by (5.4) its displacement is the gradient of
# the log-density of noisy points, at the level of noise it was told. No density is ever shown. It is in the
# contradictions.
#
# ### In your own words
# *Manually graded, about four lines.* A friend trained a denoising autoencoder with a code of 16 numbers, without
# telling it $t$, applies it a thousand times to noise, and gets blurred pictures that all look alike. "My network is too
# small," she says. What would you tell her? Name two separate causes, and how each could be tested.

# %% [markdown] tags=["manual"] question="05.own_words" points=2
# ### BEGIN SOLUTION
# Size is not the cause; even the exact denoiser, told t, ends in one picture for all noises if its answer is taken for the next x.
# First, the loop: after one step the input has no noise, which
# the network never saw, and nothing random is added, so all starts run into a few pictures. Test: put the same network into the
# ancestral sampler; there are many different pictures again. Second, the bottleneck: at low noise its error stays at the floor of a
# 16-number code, so no edge survives the last steps. Test: feed it clean digits and look at the error at t = 1, or add skip
# connections and compare the sharpness. (Third: not knowing t, it must average over noise levels.)
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: names two of the three causes (the loop without noise on inputs never trained on; the bottleneck's floor;
# the missing $t$) and keeps them apart. One point: gives for each a test that changes only that.

# %% [markdown]
# ## Summary
#
# * A denoising autoencoder is asked for the clean picture, (5.1). Its best answer is a step uphill on the log-density
#   of noisy points, (5.4): **a denoiser is a score model.**
# * Loss above the floor is exactly the error of the score, (5.6), counted where noisy points fall. Elsewhere the network is
#   free to be wrong, and is.
# * The derivative of the best denoiser is its uncertainty, (5.7).
# * A bottleneck costs nothing at high noise and everything at low noise, (5.10). Skip connections carry the rest across.
# * One network serves all levels if it is told the level; a sampler must feed it what it was trained on.

# %%
progress("05")

# %% [markdown]
# ## References
#
# * Vincent, Larochelle, Bengio, Manzagol: *Extracting and Composing Robust Features with Denoising Autoencoders*, 2008.
# * Vincent: *A Connection Between Score Matching and Denoising Autoencoders*, 2011. Our (5.6), in other
#   letters.
# * Efron: *Tweedie's Formula and Selection Bias*, 2011. Our (5.4) for $\alpha_t = 1$; Robbins (1956), who credits
#   Tweedie, and Miyasawa (1961) had it first.
# * Alain, Bengio: *What Regularized Auto-Encoders Learn from the Data-Generating Distribution*, 2014.
# * Baldi, Hornik: *Neural Networks and Principal Component Analysis*, 1989. Our (5.9).
# * Manor, Michaeli: *On the Posterior Distribution in Denoising: Application to Uncertainty Quantification*, 2024. Our (5.7), and
#   higher moments.
#
# **Next:** lesson 06 lets distant pixels talk to each other, and builds the network that everyone uses: the U-Net.
