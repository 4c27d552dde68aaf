# %% [markdown]
# # 03 · The reverse process
#
# *You will turn the noising around: derive the one step back that every diffusion model takes, find out what a network
# has to say for it, and walk from noise to data without training anything. About 75 minutes to read and run, 65 to
# solve its five exercises. A natural break comes after section 4.*

# %% tags=["fold"]
# @title Imports, 5,000 digits, a schedule
import itertools
import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course_utils import forward, parameterizations, samplers, schedules, variational
from course_utils.data import load_images, normalize
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
from course_utils.toy import GaussianMixture, IdealDenoiser
from course_utils.widgets import explore, slider

use_style()
digits, labels = load_images("mnist", "train", n=5000)
world = normalize(digits)  # every digit that exists, on this page
schedule = schedules.linear()

# %% [markdown]
# ## The question
#
# You see a noisy picture $x_t$. **What was it one step earlier?** There is no single answer: many pictures could have
# become this one. In a world of only 5,000 digits we can do better than talk about them. The perfect observer of
# lesson 01 knows how probable each digit is, Eq. (1.6), so we can *draw* earlier pictures exactly as often as they
# occur. Seven of them, one step back; and seven more, 400 steps back. (How such draws are made is the subject of this
# page.)

# %% tags=["figure", "fold"]
# @title Seven earlier pictures, exactly as probable as they are
seven = world[labels == 7][3:4]
x_600 = forward.q_sample(
    seven, 600, schedule, forward.noise_like(seven, lesson.generator)
)
alpha, sigma = schedule.coeffs(600)
belief = torch.softmax(
    -(x_600 - alpha * world).square().sum((1, 2, 3)) / (2 * sigma**2), 0
)  # Eq. (1.6)
origin = world[
    torch.multinomial(belief, 7, replacement=True, generator=lesson.generator)
]
rows = []
for s in (599, 200):
    mean, variance = forward.q_posterior(
        x_600.expand(7, -1, -1, -1), origin, 600, schedule, s
    )
    rows += [x_600, mean + variance.sqrt() * forward.noise_like(mean, lesson.generator)]
show(
    image_grid(
        torch.cat(rows),
        columns=8,
        titles=["seen", *["could be"] * 7],
        row_labels=["1 step back", "400 steps back"],
        size=0.95,
    ),
    "A noisy picture at t = 600 and seven candidates for an earlier one. One step "
    "back all look the same; 400 steps back "
    "they are different digits.",
)

# %% [markdown]
# One step back, the candidates differ by a breath of noise. 400 steps back they are different digits, and the average
# of them would be none. **So what should a network say?** If it may only answer with a mean and a spread, a Gaussian,
# then it had better be asked about small steps. How small?
#
# Make it precise. A world of a single pixel, black or white. A walk from pure noise back to that pixel, in $n$
# Gaussian steps, each with the best mean and the best spread there are. How large must $n$ be before nobody can tell
# the walk's pixels from real ones? Commit to a guess. The last section computes the answer.

# %% tags=["widget", "fold"]
# @title Your guess
guess = slider("Steps needed:", 1, 1000, 300)
guess

# %% [markdown]
# ## 1 · The step back, if the picture were known
#
# From here on $\alpha_t = \sqrt{\bar\alpha_t}$ and $\sigma_t = \sqrt{1 - \bar\alpha_t}$, so that
# $x_t = \alpha_t x_0 + \sigma_t\epsilon$. A jump from $s$ to a later $t$ is Gaussian too, by the same sum
# of noises as in lesson 01:
#
# $$q(x_t \mid x_s) = \mathcal N\bigl(\alpha_{t|s}\,x_s,\ \sigma_{t|s}^2 I\bigr), \qquad \alpha_{t|s} = \frac{\alpha_t}{\alpha_s},
# \qquad \sigma_{t|s}^2 = \sigma_t^2 - \alpha_{t|s}^2\,\sigma_s^2 . \tag{3.1}$$
#
# For a single step, $s = t - 1$, these are $\sqrt{1 - \beta_t}$ and $\beta_t$. To go back, Bayes' rule says
# $q(x_s \mid x_t) = q(x_t \mid x_s)\,q(x_s)\,/\,q(x_t)$, and there we are stuck: $q(x_s)$ is the distribution of all
# slightly noisy pictures in the world. Nobody can write that down.
#
# If only $x_0$ were known! Bayes' rule with $x_0$ given throughout has $q(x_t \mid x_s, x_0)$ in it. But the chain
# forgets: whoever knows $x_s$ learns nothing more about $x_t$ from $x_0$. So
#
# $$q(x_s \mid x_t, x_0) \;\propto\; \underbrace{q(x_s \mid x_0)}_{\text{what } x_0 \text{ says about } x_s}\;
# \underbrace{q(x_t \mid x_s)}_{\text{what } x_t \text{ says about } x_s}, \tag{3.2}$$
#
# two Gaussians in $x_s$, multiplied. What is a product of two Gaussians? Add the exponents and complete the square:
#
# $$\begin{aligned} &\frac{(x - m_1)^2}{V_1} + \frac{(x - m_2)^2}{V_2} = \frac{(x - m)^2}{V} + \text{const}, \\
# &\frac1V = \frac1{V_1} + \frac1{V_2}, \qquad m = V\left(\frac{m_1}{V_1} + \frac{m_2}{V_2}\right). \end{aligned} \tag{3.3}$$
#
# **Two pieces of evidence: precisions (one over variance) add, and the mean is the average weighted by precision.**
# This one line carries the whole page; we shall use it three times. Here it is for the first time. What $x_0$ says:
# mean $\alpha_s x_0$, variance $\sigma_s^2$. What $x_t$ says: mean $x_t/\alpha_{t|s}$, variance
# $\sigma_{t|s}^2/\alpha_{t|s}^2$. The precisions add up to
#
# $$\frac1{\sigma_s^2} + \frac{\alpha_{t|s}^2}{\sigma_{t|s}^2} = \frac{\sigma_{t|s}^2 + \alpha_{t|s}^2\sigma_s^2}{\sigma_s^2\,\sigma_{t|s}^2}
# = \frac{\sigma_t^2}{\sigma_s^2\,\sigma_{t|s}^2},$$
#
# and so $q(x_s \mid x_t, x_0) = \mathcal N(\tilde\mu, \tilde\sigma^2 I)$ with
#
# $$\tilde\mu(x_t, x_0) = \frac{\alpha_{t|s}\,\sigma_s^2}{\sigma_t^2}\,x_t + \frac{\alpha_s\,\sigma_{t|s}^2}{\sigma_t^2}\,x_0, \qquad
# \tilde\sigma^2 = \frac{\sigma_s^2\,\sigma_{t|s}^2}{\sigma_t^2}. \tag{3.4}$$
#
# For one step, in DDPM's letters:
# $\tilde\mu = \frac{\sqrt{1-\beta_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\,x_t + \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1 - \bar\alpha_t}\,x_0$
# and $\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t$.
#
# ### Exercise 1 · The step back, if x_0 were known
# *15 minutes · medium · Eq. (3.4).* The mean for one step, $s = t - 1$, with one $t$ for each picture; points,
# `(b, d)`, must be served too. There is no table of betas this time: $1 - \beta_t = \bar\alpha_t / \bar\alpha_{t-1}$.


# %% tags=["exercise"] exercise="03.posterior" points=2
# Exercise 03.posterior
def posterior_mean(x_t: Tensor, x_0: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The mean of q(x_{t-1} | x_t, x_0). x_t, x_0: (b, …); t: (b,) from 1 to T;
    alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    now, before = (alpha_bar[i].reshape(-1, *[1] * (x_t.ndim - 1)) for i in (t, t - 1))
    keep = now / before  # 1 - beta_t
    both = keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x_0
    return both / (1 - now)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Make two columns first, `now` from `alpha_bar[t]` and `before` from `alpha_bar[t - 1]`, each of shape
# `(b, 1, 1, 1)` for pictures and `(b, 1)` for points, as in lesson 01. Then $\beta_t$ is `1 - now / before`, and the line in DDPM's letters can be typed
# as it stands.
# </details>

# %% tags=["check"]
check("03.posterior", posterior_mean)

# %% [markdown]
# The course's own is `forward.q_posterior(x_t, x_0, t, schedule, s)`; it returns mean and variance, for any $s < t$.
# Completing squares is where signs get lost, so test it against Bayes' rule done by brute force: multiply the two
# densities of (3.2) on a fine grid, divide by their sum, and take mean and variance of what is left. No square is
# completed there.

# %%
# Eq. (3.2)
x_0, x_t = torch.tensor([[0.8]]).double(), torch.tensor([[-0.3]]).double()
grid = torch.linspace(-6, 6, 60_001, dtype=torch.float64)


def bayes_on_a_grid(t: int, s: int) -> Tensor:
    """q(x_s | x_t, x_0) at the points of the grid, from the two densities alone."""
    alpha_s, sigma_s = schedule.coeffs(s)
    alpha_ts, variance_ts = schedules.transition(s, t, schedule)
    of_x_0 = -((grid - alpha_s * x_0) ** 2) / (2 * sigma_s**2)
    of_x_t = -((x_t - alpha_ts * grid) ** 2) / (2 * variance_ts)
    return torch.softmax((of_x_0 + of_x_t).flatten(), 0)


for t, s in [(2, 1), (300, 299), (1000, 999), (300, 150), (1000, 10)]:
    p = bayes_on_a_grid(t, s)
    by_hand = (p * grid).sum(), (p * grid**2).sum() - (p * grid).sum() ** 2
    # Eq. (3.4)
    by_rule = forward.q_posterior(x_t, x_0, t, schedule, s)
    for found, wanted in zip(by_hand, by_rule, strict=True):
        assert torch.allclose(found, wanted.squeeze(), rtol=1e-9, atol=0)
print("mean and variance agree to nine digits, for single steps and for jumps")

# %% [markdown]
# What weight do the two get in a single step?

# %%
# Eq. (3.4)
ts = torch.arange(1, 1001)
alpha, sigma = schedule.coeffs(ts)
alpha_1, sigma_1 = schedule.coeffs(ts - 1)  # of s = t - 1
of_x_t = schedule.alphas[1:].sqrt() * sigma_1**2 / sigma**2  # weights in the mean
of_x_0 = alpha_1 * schedule.betas[1:] / sigma**2

# %% tags=["figure", "fold"]
# @title Two pieces of evidence; and who decides in one step
t, s = 300, 150
alpha_s, sigma_s = schedule.coeffs(s)
alpha_ts, variance_ts = schedules.transition(s, t, schedule)
mean, variance = forward.q_posterior(x_t, x_0, t, schedule, s)
near = grid[::100]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
for m, v, text, colour in [
    (alpha_s * 0.8, sigma_s**2, "what $x_0$ says", BLUE),
    (-0.3 / alpha_ts, variance_ts / alpha_ts**2, "what $x_t$ says", ORANGE),
    (mean.item(), variance.item(), "both: Eq. (3.4)", BLACK),
]:
    bell = torch.exp(-((near - m) ** 2) / (2 * v)) / (2 * math.pi * v) ** 0.5
    left.plot(near, bell, color=colour, label=text)
sums = bayes_on_a_grid(t, s)[::400] / 2e-4
left.plot(near[::4], sums, "o", ms=4, color=GREEN, label="Bayes on a grid")
left.set(
    xlim=(-2, 2.6),
    xlabel="$x_s$",
    ylabel="density",
    title="$x_0 = 0.8$, $x_t = -0.3$, from t = 300 to s = 150",
)
left.legend(fontsize=8)
right.loglog(ts[1:], of_x_t[1:], color=ORANGE, label="of $x_t$ (0 at t = 1)")
right.loglog(ts, of_x_0, color=BLUE, label="of $x_0$")
right.set(xlabel="t", ylabel="weight in the mean")
right.set_title("Who decides in one step, $s = t - 1$")
right.legend()
show(
    figure,
    "Left: the two pieces of evidence and their product, narrower than both, with "
    "dots from the grid on it. "
    "Right: the weight of x_0 in a single step is 1 at t = 1 and falls below one "
    "hundredth by t = 200.",
)

# %% [markdown]
# Look at the right-hand side. In the very last step, $t = 1$, the answer is $x_0$ and nothing else. At $t = 500$ it
# is $x_t$ almost alone; $x_0$ has a weight of a few thousandths. **Wherever the picture is hardest to guess, the step
# hardly asks for it.** Keep that in mind.
#
# ## 2 · What a network should say
#
# Nobody knows $x_0$. We know $x_t$, which leaves several $x_0$ possible, each with a probability $q(x_0 \mid x_t)$.
# So the true step back is a mixture, one Gaussian (3.4) for every picture that could be behind $x_t$. They all have
# the same variance, and their means are $\tilde\mu = a\,x_t + b\,x_0$: linear in $x_0$. So whatever the world looks
# like,
#
# $$\mathbb E[x_s \mid x_t] = \tilde\mu\bigl(x_t,\ \mathbb E[x_0 \mid x_t]\bigr), \qquad
# \operatorname{Cov}(x_s \mid x_t) = \tilde\sigma^2 I + b^2\operatorname{Cov}(x_0 \mid x_t), \qquad
# b = \frac{\alpha_s\,\sigma_{t|s}^2}{\sigma_t^2}. \tag{3.5}$$
#
# For the mean of the step back we need a single picture: $\mathbb E[x_0 \mid x_t]$, the average of all pictures that
# could be behind $x_t$. And that is exactly what the simplest training gives. Let $f(x_t)$ be any guess, and
# $m(x_t) = \mathbb E[x_0 \mid x_t]$:
#
# $$\mathbb E\,\lVert x_0 - f\rVert^2 = \mathbb E\,\lVert x_0 - m\rVert^2 + \mathbb E\,\lVert m - f\rVert^2 + 2\,\mathbb E\bigl[(x_0 - m)\cdot(m - f)\bigr], \tag{3.6}$$
#
# and the last term is zero: for a given $x_t$ the second bracket is a fixed number, and the first averages to zero.
# The first term does not depend on $f$. So **the squared error is smallest for $f = m$**, and nothing else. *Predict:
# for one pixel that is black ($-1$) or white ($+1$), give or take 0.1, what does the best guess look like as a
# function of $x_t$?*

# %%
pixel = GaussianMixture(torch.tensor([[-1.0], [1.0]]).double(), 0.1**2)
t, n = 300, 40_000
x_0 = pixel.sample(n, lesson.generator)
x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
best = pixel.denoise(x_t, t, schedule)
in_order = x_t.flatten().argsort().reshape(25, -1)  # 25 bins of 1,600 pixels each
average = x_0.flatten()[in_order].mean(1)
error = x_0.flatten()[in_order] - best.flatten()[in_order]
# In every bin, up to four standard errors:
assert (error.mean(1).abs() < 4 * error.std(1) / 1600**0.5).all()

# %% tags=["figure", "fold"]
# @title Pairs of noisy and clean, and the best guess
figure = plt.figure(figsize=(6, 2.8))
plt.plot(
    x_t[:2000], x_0[:2000], ".", ms=2, alpha=0.3, color=BLUE, label="pairs $(x_t, x_0)$"
)
plt.plot(
    x_t.flatten()[in_order].mean(1),
    average,
    "o",
    ms=5,
    color=ORANGE,
    label="mean $x_0$ in a bin",
)
plt.plot(
    *torch.stack([x_t, best])[:, in_order.flatten()[::50], 0],
    color=BLACK,
    lw=1.2,
    label="exact $E[x_0|x_t]$",
)
plt.gca().set(xlabel="$x_t$ at t = 300", ylabel="$x_0$", ylim=(-1.7, 1.7))
plt.legend(fontsize=8, loc="lower right")
show(
    figure,
    "Pairs of noisy and clean pixel, in two bands at plus and minus one. The mean in "
    "each bin follows an S-shaped curve "
    "between the bands, the exact conditional mean.",
)

# %% [markdown]
# In the middle the best guess is grey, a value that no pixel ever had. **A blur is no failure of the network. It is
# the right answer to the question that was asked**, and no larger network will sharpen it. Sharper guesses cost more,
# by exactly what (3.6) says:

# %%
# Eq. (3.6)
loss = (x_0 - best).square()
for name, f in {
    "black or white, whichever is likelier": x_t.sign(),
    "the noisy pixel, scaled up": x_t / schedule.coeffs(300)[0],
}.items():
    whole, excess = (x_0 - f).square().mean(), (best - f).square().mean()
    cross = 2 * (x_0 - best) * (best - f)
    print(f"{name}: {whole:.2f} = {loss.mean():.2f} + {excess:.2f}, up to chance")
    assert abs(whole - loss.mean() - excess) < 4 * cross.std() / n**0.5

# %% [markdown]
# ## 3 · The same from the likelihood
#
# "Predict the mean of $x_0$" was our own idea. A principled person would ask for something else: a model $p$ under
# which the real pictures are as probable as possible. Write $x_{1:T}$ for the walk $x_1, x_2, \dots, x_T$, and $x_{0:T}$
# for the walk with its picture. The model walks back from $p(x_T) = \mathcal N(0, I)$ by steps
# $p(x_{t-1} \mid x_t)$, and the probability of a picture is an integral over all walks that end in it, which nobody
# can compute. A bound can be had. Multiply and divide by $q$, and use that $-\log$ of a mean is at most the mean of
# $-\log$ (Jensen):
#
# $$-\log p(x_0) = -\log \mathbb E_{q(x_{1:T} \mid x_0)}\left[\frac{p(x_{0:T})}{q(x_{1:T} \mid x_0)}\right]
# \le \mathbb E_q\left[-\log p(x_T) + \sum_{t=1}^{T} \log\frac{q(x_t \mid x_{t-1})}{p(x_{t-1} \mid x_t)}\right]. \tag{3.7}$$
#
# Each fraction compares a step forward with a step back: not yet like with like. Turn the forward step around with
# Bayes. It does not mind being told $x_0$ as well, since the chain forgets, so for $t \ge 2$
#
# $$q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x_0) = q(x_{t-1} \mid x_t, x_0)\;\frac{q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)}, \tag{3.8}$$
#
# and in the product over $t$ the last fractions cancel in a row, each numerator with the next denominator:
#
# $$\begin{aligned}\prod_{t=2}^{T} q(x_t \mid x_{t-1}) &= \prod_{t=2}^{T} q(x_{t-1} \mid x_t, x_0)\;\cdot\;
# \frac{q(x_2 \mid x_0)}{q(x_1 \mid x_0)}\cdot\frac{q(x_3 \mid x_0)}{q(x_2 \mid x_0)}\cdots\frac{q(x_T \mid x_0)}{q(x_{T-1} \mid x_0)} \\
# &= \frac{q(x_T \mid x_0)}{q(x_1 \mid x_0)} \prod_{t=2}^{T} q(x_{t-1} \mid x_t, x_0).\end{aligned}$$
#
# The $q(x_1 \mid x_0)$ below the line cancels the forward step $t = 1$. What is left is a sum of comparisons of like with
# like:
#
# $$\begin{aligned} -\log p(x_0) \le{} &\underbrace{\mathrm{KL}\bigl(q(x_T|x_0) \,\Vert\, p(x_T)\bigr)}_{L_T}
# + \sum_{t=2}^{T} \mathbb E_q\,\underbrace{\mathrm{KL}\bigl(q(x_{t-1}|x_t, x_0) \,\Vert\, p(x_{t-1}|x_t)\bigr)}_{L_{t-1}} \\
# &+ \underbrace{\mathbb E_q[-\log p(x_0|x_1)]}_{L_0}. \end{aligned} \tag{3.9}$$
#
# $L_T$ has nothing to train in it, and $L_0$ is the last step. The sum in the middle is what we are after.
#
# The rearranging is exact for every single walk, not only on average, and that can be tested: the log-probability of
# a walk, multiplied up forwards by (1.1), and backwards by (3.4), must be the same number.


# %%
# Eq. (3.8)
def log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """The log-density of a Gaussian."""
    return -((x - mean) ** 2) / (2 * variance) - (2 * math.pi * variance).log() / 2


x_0 = torch.tensor([[0.8]]).double()
chain = forward.q_chain(x_0, schedule, lesson.generator)
walk = torch.cat([x_t for _, x_t in chain])  # x_0 … x_1000, shape (1001, 1)
betas = schedule.betas[1:, None]
forwards = log_normal(walk[1:], (1 - betas).sqrt() * walk[:-1], betas).sum()
mean, variance = forward.q_posterior(
    walk[2:], x_0.expand(999, 1), torch.arange(2, 1001), schedule
)
alpha_T, sigma_T = schedule.coeffs(1000)
backwards = log_normal(walk[1:-1], mean, variance).sum()
backwards += log_normal(walk[-1], alpha_T * x_0, sigma_T**2).sum()
agree = torch.allclose(forwards, backwards, rtol=1e-10)  # a thousand terms, in float64
print(f"forwards and backwards agree: {agree}")
assert agree

# %% [markdown]
# Now choose the model's step. The natural choice is the same Gaussian (3.4), with the network's guess $\hat x_0$ in
# place of $x_0$. Then both Gaussians in $L_{t-1}$ have one variance, and the KL between two such is the squared
# distance of their means over twice that variance:
#
# $$L_{t-1} = \frac{\lVert \tilde\mu(x_t, x_0) - \tilde\mu(x_t, \hat x_0)\rVert^2}{2\,\tilde\sigma^2}
# = \frac{1}{2}\,\frac{\alpha_s^2\,\sigma_{t|s}^4}{\sigma_t^4}\,\frac{\sigma_t^2}{\sigma_s^2\,\sigma_{t|s}^2}\;\lVert x_0 - \hat x_0\rVert^2
# = \frac12\,\frac{\alpha_s^2\,\sigma_{t|s}^2}{\sigma_s^2\,\sigma_t^2}\;\lVert x_0 - \hat x_0\rVert^2 .$$
#
# And that fraction is an old friend:
# $\frac{\alpha_s^2}{\sigma_s^2} - \frac{\alpha_t^2}{\sigma_t^2} = \frac{\alpha_s^2(\sigma_t^2 - \alpha_{t|s}^2\sigma_s^2)}{\sigma_s^2\sigma_t^2}$,
# the same thing. With $s = t - 1$:
#
# $$L_{t-1} = \tfrac12\bigl(\mathrm{SNR}(t-1) - \mathrm{SNR}(t)\bigr)\;\lVert x_0 - \hat x_0\rVert^2 . \tag{3.10}$$
#
# **So the principled person arrives at the squared error of $\hat x_0$ too,** with a weight: a step is charged by how
# much signal is lost in it.
#
# ### Exercise 2 · What the bound charges for a step
# *10 minutes · easy · Eq. (3.10).* The weight in front of $\lVert x_0 - \hat x_0\rVert^2$, for several $t$ at once.


# %% tags=["exercise"] exercise="03.kl_weight" points=1
# Exercise 03.kl_weight
def kl_weight(t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The weight of Eq. (3.10). t: (b,) from 2 to T; alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    snr = alpha_bar / (1 - alpha_bar)
    return (snr[t - 1] - snr[t]) / 2
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# $\mathrm{SNR}(t) = \bar\alpha_t / (1 - \bar\alpha_t)$, Eq. (1.5). Make the whole table of SNRs first; then look two
# entries up for each $t$.
# </details>

# %% tags=["check"]
check("03.kl_weight", kl_weight)

# %%
# Eq. (3.10)
x_0 = world[:8].double()
x0_hat = x_0 + 0.3 * forward.noise_like(x_0, lesson.generator)  # some guess
t = torch.tensor([2, 3, 10, 50, 200, 500, 900, 1000])
x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
# From means and variances, without any SNR; and by (3.10):
kl = variational.step_kl(x_0, x0_hat, x_t, t, schedule)
squared_error = (x_0 - x0_hat).square().sum((1, 2, 3))
charged = variational.step_weight(t, schedule) * squared_error
assert torch.allclose(kl, charged, rtol=1e-8, atol=0)
print("the KL of eight steps is the weighted squared error, to eight digits")

# %% [markdown]
# The same in the noise. Equation (1.7) says that the error in $x_0$ is the error in $\epsilon$ times
# $\sigma_t/\alpha_t$, so $\lVert x_0 - \hat x_0\rVert^2 = \lVert \epsilon - \hat\epsilon\rVert^2 / \mathrm{SNR}(t)$, and
#
# $$L_{t-1} = \kappa_t\,\lVert \epsilon - \hat\epsilon\rVert^2, \qquad
# \kappa_t = \frac12\left(\frac{\mathrm{SNR}(t-1)}{\mathrm{SNR}(t)} - 1\right) = \frac{\beta_t}{2\,(1-\beta_t)(1-\bar\alpha_{t-1})}. \tag{3.11}$$
#
# Ho et al. found that pictures get *better* when $\kappa_t$ is replaced by 1. They call this $L_\text{simple}$, and
# most of the world trains with it. It is no longer the bound. What has changed is which $t$ the network cares about:

# %%
# Eq. (3.11)
ts = torch.arange(2, 1001)
weight, snr = variational.step_weight(ts, schedule), schedule.log_snr(ts).exp()
beta, before = schedule.betas[ts], schedule.alpha_bar[ts - 1]
kappa = beta / (2 * (1 - beta) * (1 - before))
assert torch.allclose(weight / snr, kappa, rtol=1e-9, atol=0)

# %% tags=["figure", "fold"]
# @title Two weights, of the picture's error and of the noise's
figure, axes = plt.subplots(1, 2, figsize=(9, 2.7))
for axis, bound, simple, what in [
    (axes[0], weight, snr, "x_0"),
    (axes[1], weight / snr, torch.ones(999), r"\epsilon"),
]:
    axis.semilogy(ts, bound / bound.mean(), label="the bound")
    axis.semilogy(ts, simple / simple.mean(), "--", label=r"$L_{\mathrm{simple}}$")
    axis.set(
        xlabel="t", ylabel="weight (mean 1)", title=f"Weight of an error in ${what}$"
    )
    axis.legend()
show(
    figure,
    "Weights against t, on log axes. Of an error in x_0, both fall by many powers of "
    "ten. Of an error in the noise, the "
    "bound's falls from sixty to one half at t = 350 and returns to one; L_simple is "
    "one throughout.",
)

# %%
share = [(w[ts <= 100].sum() / w.sum()).item() for w in (weight / snr, torch.ones(999))]
print(
    f"share of the weight (on errors of the noise) at t <= 100: bound {share[0]:.0%}, "
    f"L_simple {share[1]:.0%}"
)
assert share[0] > 3 * share[1]

# %% [markdown]
# The bound gives the first hundred levels four times their share, levels where the picture is all but there and only its
# finest detail is in doubt: that is where bits are won. $L_\text{simple}$ moves the attention to the levels where shapes are decided: that is
# what eyes look at. In the paper the bound reaches 3.70 bits per dimension with an FID of 13.5, $L_\text{simple}$
# 3.75 bits with 3.17. With either weight **the best guess at each $t$ is the same, $\mathbb E[x_0 \mid x_t]$**; a
# weight decides only where a network of finite size errs less.
#
# ## 4 · Denoisers that we know exactly
#
# For some worlds $\mathbb E[x_0 \mid x_t]$ has a formula. Then every claim about networks and samplers can be tested
# against the truth, without training anything.
#
# **One Gaussian,** $x_0 \sim \mathcal N(\mu, S I)$. Two pieces of evidence about $x_0$: the world says $\mu$, with
# variance $S$; the picture says $x_t/\alpha_t$, with variance $\sigma_t^2/\alpha_t^2$. Equation (3.3), for the second
# time:
#
# $$\mathbb E[x_0 \mid x_t] = \frac{\sigma_t^2\,\mu + \alpha_t S\,x_t}{\alpha_t^2 S + \sigma_t^2}
# = \mu + \frac{\alpha_t S}{\alpha_t^2 S + \sigma_t^2}\,(x_t - \alpha_t\mu). \tag{3.12}$$
#
# Start from the mean of the world, and let $x_t$ pull as hard as its noise allows: a linear shrink.
#
# **A mixture of Gaussians,** part $k$ with weight $w_k$, mean $\mu_k$ and variance $S$. In $x_t$ part $k$ has become
# $\mathcal N(\alpha_t\mu_k, (\alpha_t^2 S + \sigma_t^2) I)$. First ask which part $x_t$ came from (Bayes), then
# shrink towards each one, and average:
#
# $$\begin{aligned} r_k(x_t) &= \operatorname{softmax}_k\left(\log w_k - \frac{\lVert x_t - \alpha_t\mu_k\rVert^2}{2(\alpha_t^2 S + \sigma_t^2)}\right), \\
# \mathbb E[x_0 \mid x_t] &= \sum_k r_k\left[\mu_k + \frac{\alpha_t S\,(x_t - \alpha_t\mu_k)}{\alpha_t^2 S + \sigma_t^2}\right]. \end{aligned} \tag{3.13}$$
#
# With $S = 0$ and the training pictures as parts this is the perfect observer of lesson 01, (1.6).
#
# ### Exercise 3 · The exact denoiser of a mixture
# *15 minutes · medium · Eq. (3.13).* `x_t` is a batch of points `(b, d)`; there are `K` parts. Make a tensor
# `(b, K, d)` of all differences first. `sigma` is handed over: it need not be the root of $1 - \alpha_t^2$. Points may lie
# far from all parts, where every density is 0 in floating point; logarithms are not.


# %% tags=["exercise"] exercise="03.exact_denoiser" points=2
# Exercise 03.exact_denoiser
def exact_denoiser(
    x_t: Tensor,
    alpha: float,
    sigma: float,
    means: Tensor,
    weights: Tensor,
    variance: float,
) -> Tensor:
    """E[x_0 | x_t] of a mixture. x_t: (b, d); means: (K, d); weights: (K,), sum 1;
    variance: S of every part."""
    ### BEGIN SOLUTION
    spread = alpha**2 * variance + sigma**2
    gap = x_t[:, None] - alpha * means  # (b, K, d)
    log_r = weights.log() - gap.square().sum(-1) / (2 * spread)  # (b, K)
    r = torch.softmax(log_r, dim=1)
    each = means + alpha * variance / spread * gap
    return (r[..., None] * each).sum(1)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `gap = x_t[:, None] - alpha * means` has shape `(b, K, d)`. Its squares, summed over the last axis, are `(b, K)`:
# give them to `torch.softmax(..., dim=1)` as logarithms, with no `exp` of your own. Then average over axis 1 with
# `r[..., None]`.
# </details>

# %% tags=["check"]
check("03.exact_denoiser", exact_denoiser)

# %% [markdown]
# A second view of the same thing. How does the density of noisy pictures change if $x_t$ is moved a little?
# Differentiate under the integral, with $\nabla q(x_t \mid x_0) = q(x_t \mid x_0)\,(\alpha_t x_0 - x_t)/\sigma_t^2$,
# and divide by $q(x_t)$:
#
# $$\begin{aligned} \nabla \log q(x_t) &= \frac{\int q(x_0)\,\nabla q(x_t \mid x_0)\,dx_0}{q(x_t)}
# = \mathbb E\left[\frac{\alpha_t x_0 - x_t}{\sigma_t^2}\,\Big|\,x_t\right] \\
# &= \frac{\alpha_t\,\mathbb E[x_0 \mid x_t] - x_t}{\sigma_t^2} = -\frac{\mathbb E[\epsilon \mid x_t]}{\sigma_t}. \end{aligned} \tag{3.14}$$
#
# The left side is called the **score**; the formula is Tweedie's. It holds in any world. *To denoise is to know which
# way the density rises.* Test it where nothing is shared: the density of a mixture, differentiated by autograd,
# against its denoiser (3.13).

# %%
# Eq. (3.14)
corners = torch.arange(5) * 2 * math.pi / 5 + math.pi / 2
means = 1.5 * torch.stack([corners.cos(), corners.sin()], 1).double()
weights = torch.tensor([0.10, 0.15, 0.20, 0.25, 0.30]).double()
# Five round spots on a pentagon, of unequal weight:
mixture = GaussianMixture(means, 0.2**2, weights)

for t in (10, 200, 500, 900):
    x_t = 2 * forward.noise_like(torch.zeros(100, 2).double(), lesson.generator)
    x_t.requires_grad_(True)
    (by_autograd,) = torch.autograd.grad(mixture.log_prob(x_t, t, schedule).sum(), x_t)
    x_t = x_t.detach()
    x0_hat = mixture.denoise(x_t, t, schedule)
    score = parameterizations.score_from_x0(x_t, x0_hat, t, schedule)
    assert torch.allclose(by_autograd, score, rtol=1e-8)
print("the score by autograd is that of the denoiser, at four levels, to eight digits")

# %% [markdown]
# > **A good place to stop.** You know what a network should say, and have worlds in which it is known exactly. What follows:
# > the names that people give to the answer (5), the walk that it makes possible (6 and 7), and the number of steps (8).
#
# ## 5 · Four names for one answer
#
# $x_t = \alpha_t x_0 + \sigma_t\epsilon$ ties three things together; whoever knows $x_t$ and one of the others knows
# all.
#
# $$x_0 = \frac{x_t - \sigma_t\,\epsilon}{\alpha_t}, \qquad \epsilon = \frac{x_t - \alpha_t\,x_0}{\sigma_t}, \qquad
# \nabla\log q(x_t \mid x_0) = -\frac{\epsilon}{\sigma_t}. \tag{3.15}$$
#
# The last would be the score *if $x_0$ were known*. For given $x_t$ the maps are linear, so they hold for expectations
# too, and the average of the last one over all possible $x_0$ is, by (3.14), the score $\nabla\log q(x_t)$ itself. So
# $\mathbb E[x_0 \mid x_t]$, $\mathbb E[\epsilon \mid x_t]$ and the score are one answer in three units. There is a
# fourth name. Since
# $\alpha_t^2 + \sigma_t^2 = 1$, write $\alpha_t = \cos\varphi$ and $\sigma_t = \sin\varphi$: then $x_t$ runs along a
# circle, from the picture at $\varphi = 0$ to the noise at 90°. Its velocity along the circle is
#
# $$v = \frac{d x_t}{d\varphi} = \frac{d}{d\varphi}\bigl(\cos\varphi\;x_0 + \sin\varphi\;\epsilon\bigr)
# = \alpha_t\,\epsilon - \sigma_t\,x_0. \tag{3.16}$$

# %% tags=["figure", "fold"]
# @title x_t and v on the circle
phi = math.radians(35)
x_at, v_at = (math.cos(phi), math.sin(phi)), (-math.sin(phi), math.cos(phi))
arc = torch.linspace(0, math.pi / 2, 100)
figure, axis = plt.subplots(figsize=(3.9, 3.7))
axis.plot(arc.cos(), arc.sin(), color=BLACK, lw=1, ls=":")
axis.plot(0.3 * arc[:39].cos(), 0.3 * arc[:39].sin(), color=BLACK, lw=1)
axis.text(0.34, 0.09, r"$\varphi$")
for start, (dx, dy), colour, text, where in [
    ((0, 0), (1, 0), BLUE, "$x_0$", (1.02, -0.09)),
    ((0, 0), (0, 1), ORANGE, r"$\epsilon$", (-0.1, 0.98)),
    (
        (0, 0),
        x_at,
        BLACK,
        r"$x_t = \cos\varphi\,x_0 + \sin\varphi\,\epsilon$",
        (0.86, 0.56),
    ),
    (
        x_at,
        v_at,
        GREEN,
        r"$v = \cos\varphi\,\epsilon - \sin\varphi\,x_0$",
        (0.36, 1.37),
    ),
]:
    axis.annotate(
        "",
        (start[0] + dx, start[1] + dy),
        start,
        arrowprops={"arrowstyle": "->", "lw": 2.2, "color": colour},
    )
    axis.text(*where, text, color=colour)
axis.set(xlim=(-0.15, 1.6), ylim=(-0.15, 1.5), aspect="equal")
axis.axis("off")
show(
    figure,
    "A quarter circle from x_0 to the noise. The arrow to x_t stands at the angle "
    "phi; v starts at its tip, at a right angle to it.",
)

# %% [markdown]
# So $(x_t, v)$ is $(x_0, \epsilon)$ turned by the angle $\varphi$. To get back, turn the other way:
#
# $$x_0 = \alpha_t\,x_t - \sigma_t\,v, \qquad \epsilon = \sigma_t\,x_t + \alpha_t\,v. \tag{3.17}$$
#
# (Put in (3.16) and watch the other variable cancel.) Turning divides by nothing.
#
# ### Exercise 4 · The picture from the velocity
# *10 minutes · easy · Eq. (3.17).* One $t$ for each picture, or for each point `(b, d)`.


# %% tags=["exercise"] exercise="03.x0_from_v" points=1
# Exercise 03.x0_from_v
def x0_from_v(x_t: Tensor, v: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_0 of Eq. (3.17). x_t, v: (b, …); t: (b,); alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a = alpha_bar[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return a.sqrt() * x_t - (1 - a).sqrt() * v
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# $\alpha_t$ is the root of `alpha_bar[t]`, $\sigma_t$ the root of `1 - alpha_bar[t]`. The shapes are those of lesson
# 01.
# </details>

# %% tags=["check"]
check("03.x0_from_v", x0_from_v)

# %%
# Eq. (3.16)
x_0, eps = world[:4].double(), forward.noise_like(world[:4].double(), lesson.generator)
t = torch.tensor([1, 100, 500, 1000])
x_t = forward.q_sample(x_0, t, schedule, eps)
angle = torch.acos(schedule.coeffs(t)[0]).reshape(-1, 1, 1, 1)
phi = angle.expand_as(x_0).clone().requires_grad_(True)  # each pixel has its own
(velocity,) = torch.autograd.grad((phi.cos() * x_0 + phi.sin() * eps).sum(), phi)
v = parameterizations.v_from_x0_eps(x_0, eps, t, schedule)
assert torch.allclose(v, velocity, atol=1e-9)
score = -eps / schedule.coeffs(t)[1].reshape(-1, 1, 1, 1)
for name, truth in {"x0": x_0, "eps": eps, "score": score}.items():
    # Eq. (3.17) for two of them, and then on to the score
    found = parameterizations.convert(v, "v", name, x_t, t, schedule)
    assert torch.allclose(found, truth, rtol=1e-9, atol=1e-9)
print("v is the derivative, and v gives back x0, eps and score")

# %% [markdown]
# Here are the four on a real digit, in two rows. Above, the truth that belongs to this $x_t$. Below, what the perfect
# observer of our 5,000 digits answers, $\mathbb E[\,\cdot \mid x_t]$, the most that any network can say. (The score that a
# sampler uses is the lower one; the upper knows $x_0$.) Both are shown times $\sigma_t$, to keep their size. *Predict: at t = 900, which of the four still looks like a digit, and
# which could you copy from the input?*

# %%
observer = IdealDenoiser(world.double(), schedule)
noise = forward.noise_like(seven, lesson.generator).double()


def four_names(t: int) -> Tensor:
    """x_t, x_0, eps, v and sigma times score, for the truth and for the perfect
    observer: ten pictures."""
    x_t, pictures = forward.q_sample(seven.double(), t, schedule, noise), []
    for x_0 in (seven.double(), observer(x_t, t)):
        # Eqs. (3.15) and (3.16)
        eps, v, score = (
            parameterizations.convert(x_0, "x0", kind, x_t, t, schedule)
            for kind in ("eps", "v", "score")
        )
        pictures += [x_t, x_0, eps, v, schedule.coeffs(t)[1] * score]
    return torch.cat(pictures)


# %% tags=["widget", "fold"]
# @title Four names for one answer, at any t
def named_grid(times: list[int], size: float) -> plt.Figure:
    """The ten pictures for each time, in labelled rows."""
    labels = [f"t = {t}, {who}" for t in times for who in ("truth", "observer")]
    titles = ["$x_t$", "$x_0$", r"$\epsilon$", "$v$", r"$\sigma_t\,$score"]
    return image_grid(
        torch.cat([four_names(t) for t in times]),
        columns=5,
        titles=titles,
        row_labels=labels,
        size=size,
    )


explore(
    lambda t: named_grid([t], 1.5),
    alt="Noisy picture, x_0, eps, v and scaled score of one digit; above the truth, "
    "below the perfect observer's expectation.",
    t=slider("t", 1, 1000, 500),
)

# %% [markdown]
# The same at three times, for a page without a running kernel:

# %% tags=["figure", "fold"]
# @title Four names at three times
show(
    named_grid([100, 500, 900], 0.8),
    "The four quantities at three times. At t = 100 the observer's x_0 is a clean "
    "seven and v looks like the noise. "
    "At t = 900 its x_0 is a grey blur of all digits, eps looks like x_t, and v is "
    "the blur in negative.",
)

# %% [markdown]
# The score is the noise with its sign turned. At $t = 900$ the noise is nearly the input itself, which a network can
# copy; the picture is the hard part. At $t = 100$ it is the other way round. $v$ asks for the hard part at both ends.
#
# Section 4 of lesson 01 gave a warning: 1 % of error in $\epsilon$ costs $0.01\,\sigma_t/\alpha_t$ in $x_0$. Now all four
# can be compared. If a prediction is off by $\delta$, then by (3.15) and (3.17) $x_0$ is off by $\delta$ times
#
# $$\epsilon:\ \frac{\sigma_t}{\alpha_t}, \qquad x_0:\ 1, \qquad v:\ \sigma_t, \qquad \text{score}:\ \frac{\sigma_t^2}{\alpha_t}, \tag{3.18}$$
#
# and what arrives in $x_{t-1}$ is that times the weight $b$ of $x_0$ in (3.5). Measured, with $\delta = 0.01$:

# %%
# Eq. (3.18)
ts = torch.tensor([1, 2, 5, 10, 20, 50, 100, 150, 250, 400, 600, 800, 1000])
x_0 = seven.double().expand(len(ts), -1, -1, -1)
eps = forward.noise_like(x_0, lesson.generator)
x_t = forward.q_sample(x_0, ts, schedule, eps)
off = 0.01 * forward.noise_like(x_0, lesson.generator)
alpha, sigma = schedule.coeffs(torch.arange(1, 1001))
factors = {
    "eps": sigma / alpha,
    "x0": torch.ones(1000),
    "v": sigma,
    "score": sigma**2 / alpha,
}
chance, errors = 4 * (2 * 784) ** -0.5, {}  # four standard errors
for kind, factor in factors.items():
    truth = parameterizations.convert(eps, "eps", kind, x_t, ts, schedule)
    guessed = parameterizations.convert(truth + off, kind, "x0", x_t, ts, schedule)
    after, wanted = (
        forward.q_posterior(x_t, x, ts, schedule)[0] for x in (guessed, x_0)
    )
    errors[kind] = [
        error.square().mean((1, 2, 3)).sqrt()
        for error in (guessed - x_0, after - wanted)
    ]
    for rms, scale in zip(errors[kind], (1, of_x_0), strict=True):
        predicted = 0.01 * (factor * scale)[ts - 1].double()
        assert torch.allclose(rms, predicted, rtol=chance)

# %% tags=["figure", "fold"]
# @title What 1 % off does, in the picture and in the next step
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3))
for (kind, factor), colour in zip(
    factors.items(), (ORANGE, BLUE, GREEN, PINK), strict=True
):
    for axis, rms, scale in zip(axes, errors[kind], (1, of_x_0), strict=True):
        axis.loglog(torch.arange(1, 1001), 0.01 * factor * scale, color=colour, lw=1.3)
        axis.loglog(ts, rms, "o", ms=4, color=colour, label=kind)
axes[0].set(xlabel="t", ylabel="error (rms)", title="in the picture: $x_0$")
axes[1].set(xlabel="t", ylabel="error (rms)", title="in the next step: $x_{t-1}$")
axes[0].legend(title="1 % off in", fontsize=8)
show(
    figure,
    "What an error of 0.01 in eps, x0, v or score does, on log axes. In x_0: eps and "
    "score rise to 1.6 at t = 1000, "
    "x0 stays flat, v rises to 0.01. In x_{t-1}: x0 falls from 0.01 at t = 1 to a "
    "millionth at t = 1000; eps and v never "
    "exceed 0.0002.",
)

# %%
alpha, sigma = schedule.coeffs(torch.arange(1, 1001))
safe = int((sigma / alpha <= 1).sum())
print(
    f"an error in eps is not enlarged in the picture up to t = {safe}; one in x0 and "
    "in v never is"
)
# Exactly where the SNR crosses one:
assert schedule.log_snr(safe) >= 0 > schedule.log_snr(safe + 1)
worst = (of_x_0 * sigma / alpha).max().item()
print(f"in the next step an error in eps is at most {worst:.3f} of its size, at any t")
assert worst < 0.021

# %% [markdown]
# If you want the *picture* in one shot, $\epsilon$ is safe only while there is more signal than noise. If you want
# the *next step*, the weight of $x_0$ takes back what $1/\alpha_t$ had blown up, and $\epsilon$ is harmless at every
# $t$. That is why DDPM could predict $\epsilon$ with a thousand steps, and why models that take a few big steps
# prefer $v$ or $x_0$ (lesson 14). (The score looks best of all near $t = 1$. But its own size there is $1/\sigma_t$,
# a hundred: 0.01 is a far smaller share of it.)
#
# ## 6 · A sampler
#
# All is there. Start with noise. At each step ask the denoiser for $\mathbb E[x_0 \mid x_t]$, pretend that it is
# $x_0$, and draw from (3.4):
#
# $$x_s = \tilde\mu(x_t, \hat x_0) + \tilde\sigma\,z, \qquad \hat x_0 = \mathbb E[x_0 \mid x_t], \qquad z \sim \mathcal N(0, I). \tag{3.19}$$
#
# ### Exercise 5 · One step of the walk back
# *15 minutes · medium · Eqs. (3.4) and (3.19).* One $t$ for the whole batch, $s = t - 1$; the noise `z` is handed
# over. At $t = 1$ nothing random may be left. Do you need an `if` for that?


# %% tags=["exercise"] exercise="03.reverse_step" points=2
# Exercise 03.reverse_step
def reverse_step(
    x_t: Tensor, x0_hat: Tensor, t: int, alpha_bar: Tensor, z: Tensor
) -> Tensor:
    """x_{t-1} of Eq. (3.19). x_t, x0_hat, z: (b, …); alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    now, before = alpha_bar[t], alpha_bar[t - 1]
    keep = now / before  # 1 - beta_t
    both = keep.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - keep) * x0_hat
    mean = both / (1 - now)
    variance = (1 - before) * (1 - keep) / (1 - now)  # 0 at t = 1, where before is 1
    return mean + variance.sqrt() * z
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# The mean is that of exercise 1. The variance is $\tilde\beta_t$, below (3.4); `z` wants its root. With
# `alpha_bar[0] == 1` the variance at $t = 1$ is zero by itself.
# </details>

# %% tags=["check"]
check("03.reverse_step", reverse_step)

# %% [markdown]
# And the whole sampler, in ten lines. It takes a rule for the step, so that section 7 can put wrong rules in; and any
# falling grid of times, since (3.4) knows jumps. With the right rule it is `samplers.sample_ddpm`, number for number.


# %%
# Eq. (3.19)
def step_back(x: Tensor, x0_hat: Tensor, t: int, s: int) -> Tensor:
    """Draw x_s from the posterior, with the denoiser's guess in place of x_0."""
    mean, variance = forward.q_posterior(x, x0_hat, t, schedule, s)
    return mean + variance.sqrt() * forward.noise_like(x, lesson.generator)


def walk_back(rule, denoise, x: Tensor, times: list[int]) -> Tensor:
    """From the first of the times to the last."""
    for t, s in itertools.pairwise(times):
        x = rule(x, denoise(x, t), t, s)
    return x


start = torch.randn(500, 2, dtype=torch.float64, generator=lesson.generator)
denoise = mixture.denoiser(schedule)
fifty = samplers.uniform_grid(schedule, 50)
lesson.generator.manual_seed(1)  # the same noise for both
ours = walk_back(step_back, denoise, start, fifty)
same = samplers.sample_ddpm(
    denoise, start, schedule, fifty, generator=torch.Generator().manual_seed(1)
)
assert torch.equal(ours, same)

# %% [markdown]
# Let 3,000 particles walk back into the pentagon of section 4, in 1,000 steps, and film them.

# %%
film = {}


def camera(step: samplers.Step) -> None:
    """Keep the particles of every twentieth step."""
    if step.s % 20 == 0:
        film[step.s] = step.x_s


particles = torch.randn(3000, 2, dtype=torch.float64, generator=lesson.generator)
film[1000] = particles
thousand = samplers.uniform_grid(schedule, 1000)
walked = samplers.sample_ddpm(
    denoise, particles, schedule, thousand, generator=lesson.generator, callback=camera
)

# %% [markdown]
# Shades are the density of $x_t$, arrows its score, dots the particles. *Move t from 1000 down. When do the arrows
# begin to point at the five spots, and not at the middle?*


# %% tags=["fold"]
# @title Drawing density, score and particles
def draw_field(axis: plt.Axes, t: int) -> None:
    """The density at time t as shades, the score as arrows, and 300 of the
    particles."""
    line = torch.linspace(-2.8, 2.8, 71).double()
    density = (
        mixture.log_prob(torch.cartesian_prod(line, line), t, schedule)
        .exp()
        .reshape(71, 71)
        .T
    )
    axis.contourf(line, line, density, levels=5, cmap="Greys", vmax=2 * density.max())
    coarse = torch.cartesian_prod(line[5::6], line[5::6])
    arrows = mixture.score(coarse, t, schedule)
    # Long ones are drawn shorter, or one would fill the page.
    arrows = arrows / (1 + arrows.norm(dim=1, keepdim=True))
    axis.quiver(*coarse.T, *arrows.T, color=BLUE, scale=13, width=0.006)
    axis.plot(*film[t][:300].T, ".", ms=2.5, color=ORANGE)
    axis.set(
        xlim=(-2.8, 2.8),
        ylim=(-2.8, 2.8),
        aspect="equal",
        xticks=[],
        yticks=[],
        title=f"t = {t}",
    )


def field(t: int) -> plt.Figure:
    """One frame, large."""
    figure, axis = plt.subplots(figsize=(5, 5))
    draw_field(axis, t)
    return figure


# %% tags=["widget", "fold"]
# @title Density, score and particles, at any t
explore(
    field,
    alt="The density of the noisy mixture in grey, arrows of its score, and particles "
    "that gather on five spots as t falls.",
    t=slider("t", 0, 1000, 400, step=20),
)

# %% [markdown]
# The same as a strip, for a page without a running kernel:

# %% tags=["figure", "fold"]
# @title Five frames of the walk back
figure, axes = plt.subplots(1, 5, figsize=(9.5, 2.1))
for axis, t in zip(axes, (1000, 300, 180, 100, 0), strict=True):
    draw_field(axis, t)
show(
    figure,
    "Five frames of the walk back. At t = 1000 and 300 one cloud, all arrows pointing "
    "to its middle; at 180 it comes apart; "
    "at 0 the particles sit on five small spots, more of them on some than on others.",
)

# %% [markdown]
# Are they where they should be, and as many as there should be? Count them: on each spot, and in 20 bins along the
# horizontal axis, against the true density. 3,000 particles can tell differences of about one standard error; we
# allow four.

# %%
part = mixture.responsibilities(walked).argmax(1)
on_spot, of_truth = torch.bincount(part, minlength=5), 3000 * weights
assert ((on_spot - of_truth).abs() < 4 * (of_truth * (1 - weights)).sqrt()).all()
edges = torch.linspace(-2, 2, 21).double()
# The true probability to the left of each edge:
below = torch.special.ndtr((edges[:, None] - means[:, 0]) / 0.2) @ weights
share = below.diff()
count = torch.histogram(walked[:, 0], edges).hist
bars = 4 * (3000 * share * (1 - share)).sqrt()
assert ((count - 3000 * share).abs() < bars).all()

# %% tags=["figure", "fold"]
# @title The particles along the horizontal axis
figure = plt.figure(figsize=(7, 2.6))
middle = (edges[1:] + edges[:-1]) / 2
plt.bar(middle, count, width=0.19, color=BLUE, alpha=0.5, label="particles")
plt.errorbar(
    middle,
    3000 * share,
    bars,
    fmt="_",
    color=BLACK,
    lw=1,
    capsize=2,
    label="truth ± 4 standard errors",
)
plt.gca().set(xlabel="horizontal position", ylabel="particles in the bin")
plt.legend(fontsize=8)
show(
    figure,
    "Histogram of the particles along the horizontal axis: every bar ends within the "
    "error bar of the truth.",
)

# %%
print(
    "particles on the five spots:",
    *on_spot.tolist(),
    "  wanted:",
    *of_truth.round().long().tolist(),
)

# %% [markdown]
# From pure noise, in steps that each know nothing but an average, to five spots with the right number on each. The
# blur never hurt: at first it only says "towards the middle"; then the noise of the steps tips the balance little by
# little, and the average sharpens as it does.
#
# Now the same loop on real pictures. The denoiser is the perfect observer of our 5,000 digits. *Predict: what will it
# draw?*

# %%
last = []
x_T = torch.randn(10, 1, 28, 28, dtype=torch.float64, generator=lesson.generator)
drawn = samplers.sample_ddpm(
    observer, x_T, schedule, fifty, generator=lesson.generator, callback=last.append
)


def nearest(pictures: Tensor) -> Tensor:
    """The digit of the world closest to each picture."""
    return world[
        torch.cdist(pictures.flatten(1), world.double().flatten(1)).argmin(1)
    ].double()


# %% tags=["figure", "fold"]
# @title Drawn digits above their nearest relatives
show(
    image_grid(
        torch.cat([drawn, nearest(drawn)]),
        columns=10,
        row_labels=["drawn", "nearest of 5,000"],
        size=0.85,
    ),
    "Ten digits drawn from noise, clean and varied; under each the nearest training "
    "digit, which is the same picture.",
)

# %%
print(
    "largest difference of any pixel from the nearest training digit: "
    f"{(drawn - nearest(drawn)).abs().max():.6f}"
)
assert (drawn - nearest(drawn)).abs().max() < 1e-9

# %% [markdown]
# Every picture is a training digit, pixel for pixel. **A perfect denoiser of the training set can only remember it.**
# Whatever a real network makes that is new, it makes because it is a *worse* denoiser of its training set than this
# one: it cannot tell 5,000 digits apart, and learns what they have in common. Lesson 09 measures where the one ends
# and the other begins.
#
# ## 7 · What usually goes wrong
#
# Four rules for the step that circulate in tutorials and bug reports. Each gets the *exact* denoiser, so no training
# can be blamed.
#
# **(a) "The network outputs $x_{t-1}$", while the loss compares with $x_0$.** What such a network learns is
# $\mathbb E[x_0 \mid x_t]$, by (3.6). So the rule is $x_{t-1} = \mathbb E[x_0 \mid x_t]$.
#
# **(b) The mean without the noise:** $x_{t-1} = \tilde\mu$.
#
# **(c) Noise after the last step,** as in a loop that adds $\sqrt{\beta_t}\,z$ every time, with no `if t > 1`. A last
# step from $t$ to 0 then gives $x_0 = \hat x_0 + \sigma_t\,z$.
#
# **(d) The sign of the score:** in (3.14) solved for the picture,
# $\hat x_0 = (x_t - \sigma_t^2\,\text{score})/\alpha_t$ instead of plus.
#
# All four get the same ten noises as the digits above. *Which of them will you see at a glance, and which not?*


# %%
def regress(x: Tensor, x0_hat: Tensor, t: int, s: int) -> Tensor:
    """(a) the denoiser's output taken for x_s."""
    return x0_hat


def without_noise(x: Tensor, x0_hat: Tensor, t: int, s: int) -> Tensor:
    """(b) the posterior's mean alone."""
    return forward.q_posterior(x, x0_hat, t, schedule, s)[0]


def wrong_sign(x: Tensor, x0_hat: Tensor, t: int, s: int) -> Tensor:
    """(d) the score with its sign turned."""
    alpha, sigma = schedule.coeffs(t)
    score = parameterizations.score_from_x0(x, x0_hat, t, schedule)
    return step_back(x, (x - sigma**2 * score) / alpha, t, s)


_, leftover = schedule.coeffs(last[-1].t)  # for (c): the last step is from t = 20
wrong = [walk_back(rule, observer, x_T, fifty) for rule in (regress, without_noise)]
wrong += [
    drawn + leftover * forward.noise_like(drawn, lesson.generator),
    walk_back(wrong_sign, observer, x_T, fifty),
]
for same in wrong[:2]:
    assert (same - same[:1]).abs().max() < 1e-6  # ten noises, one picture

# %% tags=["figure", "fold"]
# @title Ten digits by the right rule and by four wrong ones
show(
    image_grid(
        torch.cat([drawn, *wrong]),
        columns=10,
        row_labels=[
            "right",
            "(a) output as $x_{t-1}$",
            "(b) no noise",
            "(c) noise at the end",
            "(d) sign",
        ],
        size=0.8,
    ),
    "Ten digits by the right rule; (a) draws one single 1 ten times over, and so does "
    "(b); (c) the right digits, grainy; "
    "(d) black and white noise.",
)

# %% [markdown]
# (a) and (b) do not blur. They do something worse: sharp, plausible, and always the same. Whoever looks at one sample
# sees nothing. Numbers, on the mixture, where the truth is known:

# %%
ends = {"right": walked}
for name, rule in [("(a)", regress), ("(b)", without_noise), ("(d)", wrong_sign)]:
    ends[name] = walk_back(rule, denoise, particles[:500], thousand)
for name, end in ends.items():
    distance, spot = torch.cdist(end, means).min(1)
    reached = spot[distance < 1].unique().numel()  # within five standard deviations
    within = (end - means[spot]).var(0).mean().item()
    shown = f"{within:.5f}" if within < 1 else f"{within:.0e}"
    print(
        f"{name:6} spots reached: {reached} of 5   variance within a spot (truth "
        f"0.04): {shown}"
    )
    assert reached == {"right": 5, "(a)": 1, "(b)": 1, "(d)": 0}[name]
    assert (within < 0.01 * 0.04) == (name in ("(a)", "(b)"))

# %% [markdown]
# Why one spot? **(a)** At $t = T$ nothing is known, so $\mathbb E[x_0 \mid x_T]$ is the mean of all data, whatever
# $x_T$ was. After the first step all walks stand within a hair of one point, and no noise parts them again. **(d)**
# runs down the density, away from everything, ever faster.
#
# **(b)** can be solved. Let the data be $\mathcal N(0, 1)$. Then the denoiser (3.12) is $\hat x_0 = \alpha_t x_t$,
# everything is linear, and the mean (3.4) is
#
# $$\tilde\mu = \frac{\alpha_{t|s}\sigma_s^2 + \alpha_s\sigma_{t|s}^2\,\alpha_t}{\sigma_t^2}\,x_t = \alpha_{t|s}\,x_t, \tag{3.20}$$
#
# for $\alpha_t = \alpha_{t|s}\alpha_s$ leaves $\alpha_{t|s}\,(\sigma_s^2 + \alpha_s^2\sigma_{t|s}^2)$ above the line,
# and the bracket is
# $\sigma_s^2 + \alpha_s^2\sigma_t^2 - \alpha_t^2\sigma_s^2 = \sigma_s^2(1 - \alpha_t^2) + \alpha_s^2\sigma_t^2 = \sigma_t^2$.
# Without noise, every step shrinks by $\sqrt{1 - \beta_t}$, just as the forward step did, and after a thousand steps
#
# $$x_0 = \sqrt{\bar\alpha_T}\;x_T, \qquad \operatorname{Var}(x_0) = \bar\alpha_T = 0.00004. \tag{3.21}$$
#
# The noise in each step is not a blemish that a careful person leaves out. **It is the only thing that keeps the
# walks apart.** (A walk without noise that does work exists. Its mean is another one: lesson 10.) And how much noise?
# With data $\mathcal N(0, S)$ a step multiplies $x_t$ by the number $A$ that (3.4) and (3.12) give, and adds a
# variance $u$ of our choice. So the walk's own variance is $V_s = A^2\,V_t + u$, from $V_T = 1$ down to $V_0$, which
# should be $S$:

# %%
# Eq. (3.21)
bell = GaussianMixture(torch.zeros(1, 1).double(), 1.0)
x = torch.randn(3000, 1, dtype=torch.float64, generator=lesson.generator)
assert torch.allclose(
    walk_back(without_noise, bell.denoiser(schedule), x, thousand),
    schedule.alpha_bar[-1].sqrt() * x,
    rtol=1e-9,
)


def variance_of_walks(S: float, times: list[int]) -> Tensor:
    """V_0 / S for data of variance S, with no noise, the posterior's variance, or the
    forward step's: 1 is right."""
    data = GaussianMixture(torch.zeros(1, 1).double(), S)
    one, V = torch.ones(1, 1).double(), torch.ones(3).double()
    for t, s in itertools.pairwise(times):
        x0_hat = data.denoise(one, t, schedule)
        A, posterior = forward.q_posterior(one, x0_hat, t, schedule, s)
        _, of_step = schedules.transition(s, t, schedule)
        u = torch.stack([torch.zeros_like(posterior), posterior, of_step])
        V = A.squeeze() ** 2 * V + u
    return V / S


for S, times in [(1.0, thousand), (1.0, fifty), (0.04, thousand)]:
    none, posterior, beta = ratio = variance_of_walks(S, times).tolist()
    print(
        f"S = {S:.2f}, {len(times) - 1:4} steps: none {none:.5f}   posterior "
        f"{posterior:.3f}   forward {beta:.3f}"
    )

# %% [markdown]
# Do the walks that we took agree? 3,000 of them into the Gaussian, and the 3,000 particles that ended on the spots of
# the pentagon, where $S = 0.04$:

# %%
_, posterior, beta = variance_of_walks(1.0, thousand)
measured = walk_back(step_back, bell.denoiser(schedule), x, thousand).var()
assert abs(measured / posterior - 1) < 4 * (2 / 3000) ** 0.5  # four standard errors
inside = (walked - means[part]).var(0).mean() / 0.04  # over two coordinates
assert abs(inside / ratio[1] - 1) < 4 * (2 / 6000) ** 0.5
assert abs(beta - 1) < 1e-12
print(
    f"the Gaussian: {measured:.3f} ± {posterior * (2 / 3000) ** 0.5:.3f}, computed "
    f"{posterior:.3f}"
)
print(
    f"inside a spot: {inside:.3f} ± {ratio[1] * (2 / 6000) ** 0.5:.3f}, computed "
    f"{ratio[1]:.3f}"
)

# %% [markdown]
# So the right rule is not *quite* right either: for $S = 1$ it loses 1 % of the variance in a thousand steps.
# $\tilde\sigma^2$ is the spread if $x_0$ were known, and (3.5) says what not knowing it adds. DDPM's other choice,
# $u = \sigma_{t|s}^2$ ($\beta_t$ for one step), is exact for $S = 1$ and too wide for narrower worlds. Inside a spot
# of our pentagon the posterior's choice loses 4 % of the variance (our particles, by chance, some more), the other adds
# 1 %. With a thousand steps nobody
# sees it. With 50 steps 14 % are missing ($S = 1$). Lesson 12 puts it right.
#
# **(c)**, measured: how far are its digits from clean ones?

# %%
grain = (wrong[2] - nearest(drawn)).std().item()
print(
    f"grain: {grain:.3f}, that is {grain * 127.5:.0f} of 256 grey levels; predicted "
    f"{leftover:.3f}"
)
chance = 4 * (2 * drawn.numel()) ** -0.5  # four standard errors
assert abs(grain / leftover - 1) < chance
print(
    f"after 1,000 steps it would be sqrt(beta_1) = {schedule.betas[1].sqrt():.3f}, "
    "too little to see"
)

# %% [markdown]
# Nothing comes after the last step that could take its noise away. With a thousand steps the mistake is invisible,
# and so it stays in the code until somebody samples in fifty.
#
# ## 8 · The answer
#
# Back to the world of one pixel, black or white. Its true step back can be written down. Given that the pixel came
# from part $k$, there are two pieces of evidence about $x_s$: part $k$ says $\alpha_s\mu_k$ with variance
# $C_s = \alpha_s^2 S + \sigma_s^2$; $x_t$ says $x_t/\alpha_{t|s}$ with variance $\sigma_{t|s}^2/\alpha_{t|s}^2$.
# Equation (3.3), for the third time, and then (3.13)'s $r_k$ to weigh the parts:
#
# $$q(x_s \mid x_t) = \sum_k r_k(x_t)\;\mathcal N(x_s;\,m_k, u), \qquad \frac1u = \frac1{C_s} + \frac{\alpha_{t|s}^2}{\sigma_{t|s}^2}, \qquad
# m_k = u\left(\frac{\alpha_s\mu_k}{C_s} + \frac{\alpha_{t|s}\,x_t}{\sigma_{t|s}^2}\right). \tag{3.22}$$

# %%
# Eq. (3.22)
black_white, S = torch.tensor([-1.0, 1.0]).double(), 0.1**2


def true_step(x_t: Tensor, t: int, s: int) -> tuple[Tensor, Tensor, Tensor]:
    """q(x_s | x_t) of the pixel: probabilities (b, 2) and means (b, 2) of the parts,
    and their variance."""
    alpha_s, sigma_s = schedule.coeffs(s)
    alpha_ts, variance_ts = schedules.transition(s, t, schedule)
    C_s = alpha_s**2 * S + sigma_s**2
    u = 1 / (1 / C_s + alpha_ts**2 / variance_ts)
    m = u * (alpha_s * black_white / C_s + alpha_ts * x_t / variance_ts)
    return pixel.responsibilities(x_t, t, schedule), m, u


def best_gaussian(x_t: Tensor, t: int, s: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t)."""
    r, m, u = true_step(x_t, t, s)
    apart = (m[:, :1] - m[:, 1:]) ** 2
    return (r * m).sum(1, keepdim=True), u + r.prod(1, keepdim=True) * apart


x_t = torch.linspace(-3, 3, 50)[:, None].double()
for t, s in [(2, 1), (400, 399), (400, 50), (1000, 0)]:
    # Eq. (3.5): the mean needs E[x_0|x_t] only
    x0_hat = pixel.denoise(x_t, t, schedule)
    by_denoiser, _ = forward.q_posterior(x_t, x0_hat, t, schedule, s)
    assert torch.allclose(best_gaussian(x_t, t, s)[0], by_denoiser, rtol=1e-9)

# %% [markdown]
# Here it is, for an undecided pixel at $t = 400$ that leans a little to white. In blue the truth; in orange the
# walk's Gaussian (3.19); dashed the best of all Gaussians. (Best in KL:
# $-\mathbb E \log \mathcal N(x_s; m, V) = \tfrac12\log 2\pi V + \mathbb E(x_s - m)^2 / 2V$ is smallest when $m$ and
# $V$ are mean and variance of the truth.)

# %% tags=["figure", "fold"]
# @title One step back, and longer ones: the truth and two Gaussians
figure, axes = plt.subplots(1, 3, figsize=(10.5, 2.9))
x_t, t = torch.tensor([[0.15]]).double(), 400
for axis, s in zip(axes, (399, 200, 50), strict=True):
    r, m, u = true_step(x_t, t, s)
    walk_mean, walk_variance = forward.q_posterior(
        x_t, pixel.denoise(x_t, t, schedule), t, schedule, s
    )
    mean, variance = best_gaussian(x_t, t, s)
    y = mean + variance.sqrt() * torch.linspace(-4, 4, 400)
    truth = (r[..., None] * log_normal(y, m[..., None], u).exp()).sum(1)
    axis.fill_between(y[0], truth[0], color=BLUE, alpha=0.3, label="truth")
    axis.plot(
        y[0],
        log_normal(y, walk_mean, walk_variance).exp()[0],
        color=ORANGE,
        label="posterior with $E[x_0|x_t]$",
    )
    axis.plot(
        y[0],
        log_normal(y, mean, variance).exp()[0],
        "--",
        color=BLACK,
        lw=1.2,
        label="best Gaussian",
    )
    axis.set(xlabel="$x_s$", title=f"{t - s} step{'s' * (t - s > 1)} back, s = {s}")
axes[0].set_ylabel("density")
handles = axes[0].get_legend_handles_labels()
figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=9)
show(
    figure,
    "The true reverse density of one pixel and two Gaussians. One step back all three "
    "agree. 200 steps back the truth is "
    "wide, with two shoulders. 350 steps back it has two separate peaks, black and "
    "white, and both Gaussians sit between them.",
)

# %% [markdown]
# One step back, the truth *is* a Gaussian, for all that an eye can see. 350 steps back it is two peaks, and the best
# Gaussian puts its pixel where no pixel is. So a big step cannot be taken by any network whose answer is a mean and a
# variance, be it ever so good. (Give it a richer answer, and it can: lesson 12.)
#
# How many steps, then? Charge each step with the KL between truth and best Gaussian, averaged over $x_t$. (It is the
# entropy of the Gaussian less the entropy of the truth, since both have one mean and variance.) The charges of a walk add
# up. Both the true walk back and ours are chains, in which each step looks at the place before it and at nothing else (the
# *Markov* property), so the logarithm of the probability of a whole walk is a sum over its steps, and so is its mean. That
# is the *chain rule* of the divergence, with $q$ for the true walk, $p$ for ours, and $s$ the time after $t$:
#
# $$\mathrm{KL}\bigl(q(x_{0:T})\,\Vert\,p(x_{0:T})\bigr) = \mathrm{KL}\bigl(q(x_T)\,\Vert\,p(x_T)\bigr)
# + \sum_{t} \mathbb E_{q(x_t)}\,\mathrm{KL}\bigl(q(x_s \mid x_t)\,\Vert\,p(x_s \mid x_t)\bigr) .$$
#
# And whoever sees only where a walk *ends* (*marginalising*: the rest is summed over) can tell the two apart no better than
# one who sees all of it: $\mathrm{KL}(q(x_0)\,\Vert\,p(x_0))$ is at most this sum. The start, $\mathcal N(0, 1)$ instead of
# $q(x_T)$, costs less than $10^{-12}$ nats here. If the total is $D$, an observer who is shown a real pixel or a walked one,
# by the toss of a coin, is right in at most $\tfrac12 + \tfrac12\sqrt{D/2}$ of all cases (Pinsker's inequality). Say that
# nobody can tell when $D < 0.01$: then that is 53.5 %.


# %%
def cost(t: int, s: int) -> float:
    """E over x_t of KL(q(x_s | x_t) || best Gaussian), in nats."""
    x_t = torch.linspace(-5, 5, 201)[:, None].double()
    density = pixel.log_prob(x_t, t, schedule).exp()
    r, m, u = true_step(x_t, t, s)
    # In units of a part's width the two means are this far apart, whatever x_t is.
    apart = ((m[0, 1] - m[0, 0]) / u.sqrt()).item()
    y = torch.linspace(-apart / 2 - 7, apart / 2 + 7, 161).double()
    centres = torch.tensor([[-apart / 2], [apart / 2]]).double()
    p = r @ log_normal(y, centres, torch.ones(1).double()).exp()
    entropy = -(p * p.clamp(min=1e-300).log()).sum(1) * (y[1] - y[0])
    of_gaussian = (2 * math.pi * math.e * (1 + r.prod(1) * apart**2)).log() / 2
    return ((density * (of_gaussian - entropy)).sum() / density.sum()).item()


numbers = [1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 500]
grids = [itertools.pairwise(samplers.uniform_grid(schedule, n)) for n in numbers]
total = [sum(itertools.starmap(cost, grid)) for grid in grids]
enough = next(n for n, D in zip(numbers, total, strict=True) if D < 0.01)
assert total[0] > 1
assert total[-1] < 0.001
print(
    f"one step costs {total[0]:.2f} nats, ten {total[5]:.2f}, a hundred "
    f"{total[10]:.4f}; enough: {enough}"
)

# %% tags=["figure", "fold"]
# @title The cost of a walk, and pixels after 2, 7 and enough steps
figure, axes = plt.subplots(1, 4, figsize=(11, 2.8), width_ratios=[1.9, 1, 1, 1])
axes[0].loglog(numbers, total, "o-", ms=4)
axes[0].axhline(0.01, color=BLACK, lw=1, ls=":")
axes[0].text(1, 0.012, "nobody can tell", fontsize=8)
axes[0].axvline(guess.value, color=BLACK, lw=1, ls="--")
axes[0].text(
    guess.value * 0.93,
    0.97,
    "your guess",
    fontsize=8,
    rotation=90,
    ha="right",
    va="top",
    transform=axes[0].get_xaxis_transform(),
)
axes[0].set(xlabel="steps n", ylabel="cost of the walk (nats)")
start = torch.randn(20_000, 1, dtype=torch.float64, generator=lesson.generator)
shades = torch.linspace(-2.2, 2.2, 89).double()
for axis, n in zip(axes[1:], (2, 7, enough), strict=True):
    x = start
    for t, s in itertools.pairwise(samplers.uniform_grid(schedule, n)):
        mean, variance = best_gaussian(x, t, s)
        x = mean + variance.sqrt() * forward.noise_like(x, lesson.generator)
    axis.hist(x.flatten(), shades.tolist(), density=True, color=ORANGE, alpha=0.7)
    axis.plot(shades, pixel.log_prob(shades[:, None]).exp(), color=BLACK, lw=1)
    axis.set(title=f"{n} steps", xlabel="pixel", ylim=(0, 2.2))
show(
    figure,
    "Left: the cost of a walk against its number of steps, flat up to three steps, "
    "then falling; below 0.01 at 70. Right: the "
    "pixels after 2, 7 and 70 steps: one hump, two peaks with grey in between, two "
    "clean peaks on the truth.",
)

# %% [markdown]
# Seventy steps, for one pixel. Three are hardly better than one; from ten on, each doubling of the steps divides the cost
# by about three. **That is why diffusion walks in many small steps: a small step back is Gaussian, whatever the world
# is like.** Where you can spend the steps better, or need fewer, is the subject of lessons 10 to 14.
#
# And what should a network say? The average of all pictures that could be behind $x_t$, as $x_0$, as $\epsilon$, as
# $v$ or as a score. It is a blur, it is the right answer, and it is all that a small step needs.
#
# ### In your own words
# *Manually graded, about three lines.* A friend trains a network with squared error to give $x_0$ from $x_t$. At
# $t = 700$ its output is a blur, and your friend wants a larger network. Why is the blur right? And how can a walk
# that only ever asks for blurs end in a sharp picture?

# %% [markdown] tags=["manual"] question="03.own_words" points=2
# ### BEGIN SOLUTION
# The squared error is smallest for $\mathbb E[x_0 \mid x_t]$, the average of all pictures that could have become this
# $x_t$; at $t = 700$ there are many, and their average is a blur, so a larger network would only come closer to it.
# The walk uses the blur as the mean of one *small* step, in which $x_0$ has little weight, and adds noise, which
# decides a little. With each step fewer pictures remain possible, so the average sharpens, until at $t = 1$ only one
# is left.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: the minimiser of the squared error is the conditional mean, an average over the pictures
# possible given $x_t$. One point: the walk uses it only as the mean of a small step (little weight, or a small step
# being Gaussian), and noise with shrinking uncertainty makes the later averages sharp.

# %% [markdown]
# ## Summary
#
# * If $x_0$ is known, a step back is a Gaussian: two pieces of evidence, precisions add, (3.3) and (3.4).
# * It is not known; the mean of the true step needs only $\mathbb E[x_0 \mid x_t]$, (3.5), which is what squared
#   error learns, (3.6).
# * The bound on the likelihood asks for the same, weighted by the fall of the SNR, (3.10). $L_\text{simple}$ drops
#   the weight in the noise's units, (3.11).
# * Denoiser, noise, velocity and score are one answer, (3.14) to (3.17). Which one is safe depends on $t$ and on what
#   you do next, (3.18).
# * The sampler draws from the posterior again and again, (3.19). Its noise keeps the walks apart; none comes after
#   the last step.
# * A small step back is Gaussian. A big one is not, (3.22).

# %%
progress("03")

# %% [markdown]
# ## References
#
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. Our (3.4) is its Eqs. (6) and (7), (3.9) its
#   Eq. (5), (3.11) the weight of its Eq. (12) with $\sigma_t^2 = \tilde\beta_t$, $L_\text{simple}$ its Eq. (14),
#   (3.19) its Algorithm 2; the numbers are from its Tables 1 and 2.
# * Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli: *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*,
#   2015. The bound, and why small steps back are Gaussian.
# * Kingma, Salimans, Poole, Ho: *Variational Diffusion Models*, 2021. Our (3.1) and (3.4) are in its appendix A,
#   (3.10) is its Eq. (13).
# * Salimans, Ho: *Progressive Distillation for Fast Sampling of Diffusion Models*, 2022. Appendix D has $v$ as the
#   velocity on a circle, (3.16).
# * Efron: *Tweedie's Formula and Selection Bias*, 2011; Vincent: *A Connection Between Score Matching and Denoising
#   Autoencoders*, 2011. Our (3.14).
# * Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole: *Score-Based Generative Modeling through Stochastic
#   Differential Equations*, 2021.
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. Appendix
#   B.3: the exact denoiser of a set of images.
#
# **Next:** nobody hands us $\mathbb E[x_0 \mid x_t]$ for real pictures. Lesson 04 builds the first network that
# learns it.
