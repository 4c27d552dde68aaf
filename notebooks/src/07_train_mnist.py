# %% [markdown]
# # 07 · Training on MNIST
#
# *You will take the training loop apart, derive each of its pieces, stop it in the middle and go on as if nothing had
# happened; then you will spend the same number of sums on four networks. About 75 minutes to read and run, 70 to solve
# its five exercises. A natural break comes after section 4.*

# %% tags=["fold"]
# @title Imports and data
import math
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_utils import forward, losses, parameterizations, schedules
from course_utils.classifier import look_at
from course_utils.data import batches, load_images, normalize
from course_utils.denoisers import DAE, AttentionDenoiser, Denoiser, PlainCNN, UNet
from course_utils.exercises import check, progress
from course_utils.metrics import draw_images
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
from course_utils.pretrained import load_classifier, load_denoiser
from course_utils.recipes import pixel_moments
from course_utils.runtime import varies
from course_utils.samplers import uniform_grid
from course_utils.training import EMA, Training, learning_rate, train
from course_utils.widgets import choice, explore, slider, watch

use_style()
images, labels = load_images("mnist", "train")
mean, std = pixel_moments("mnist")
schedule = schedules.linear()
SHAPE = (1, 28, 28)

# %% [markdown]
# ## The question
#
# Lessons 04 to 06 built four networks: a plain CNN, a denoising autoencoder, a network of attention alone, and a
# U-Net. Here is what the U-Net draws, one digit of each class, on the day it is built.


# %%
def draw_digits(
    denoiser: nn.Module, each: int = 1, steps: int = 10, seed: int = lesson.seed
) -> Tensor:
    """Digits 0 … 9 in order, `each` times, as bytes: DDIM from the same noise for
    every denoiser."""
    drawn, _ = draw_images(
        denoiser.eval(),
        schedule,
        SHAPE,
        10 * each,
        timesteps=uniform_grid(schedule, steps),
        num_classes=10,
        generator=torch.Generator().manual_seed(seed),
        device=lesson.device,
        precision=lesson.dtype,
    )
    return drawn


def wrapped(network: nn.Module) -> Denoiser:
    """The network as a denoiser, with lesson 04's scaling."""
    return Denoiser(network, schedule, "v", mean, std).to(lesson.device)


with torch.random.fork_rng([]):  # the same start, whatever was drawn before
    torch.manual_seed(lesson.seed)
    fresh = wrapped(UNet(1, (32, 64), 1, num_classes=10))
real = torch.stack([images[labels == digit][0] for digit in range(10)])

# %% tags=["figure", "fold"]
# @title Real digits, and what a new U-Net draws
show(
    image_grid(
        torch.cat([real, draw_digits(fresh)]),
        columns=10,
        row_labels=["real", "U-Net, new"],
        size=0.75,
    ),
    "Ten real digits; below, ten squares of grainy noise, all alike: what a U-Net "
    "draws before it has been trained.",
)

# %% [markdown]
# It has everything: residual blocks, skip connections, attention, a time embedding. It could learn. **What turns a
# network that could learn into one that did?** A loop of a dozen lines, and each line has a reason. This page derives
# them. Then it gives all four networks the same number of floating-point operations to spend on MNIST.
# *Commit to a guess now:* who will draw best?

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice("Best for the same cost:", ["CNN", "DAE", "attention", "U-Net"])
guess

# %% [markdown]
# ## 1 · One loss, many weightings
#
# Two things are called *weight* in this trade: a number that a network learns, and a number by which a loss is
# multiplied. On this page the first are **parameters**, $\theta$, and the second is the **weight of the loss**, $w(t)$.
#
# Papers train on the noise, on the picture, on the velocity, on the score. Lesson 03 showed that these are one answer
# in four units. So their squared errors are one error, times a factor that depends on $t$ alone:
#
# $$L = \mathbb E_{t,\,x_0,\,\epsilon}\; w(t)\,|x_0 - \hat x_0(x_t, t)|^2 . \tag{7.1}$$
#
# The factor can be read off (3.18). An error $\delta$ in $\epsilon$ is one of $\delta\,\sigma_t/\alpha_t$ in $x_0$,
# so the squared error in $\epsilon$ is $\alpha_t^2/\sigma_t^2$ times that in $x_0$. For $v$ the factor is
# $1/\sigma_t^2 = (\alpha_t^2 + \sigma_t^2)/\sigma_t^2$, for the score it is $\alpha_t^2/\sigma_t^4$. With
# $\mathrm{SNR} = \alpha_t^2/\sigma_t^2$:
#
# $$w_{x_0} = 1, \qquad w_\epsilon = \mathrm{SNR}(t), \qquad w_v = \mathrm{SNR}(t) + 1, \qquad
# w_\text{score} = \mathrm{SNR}(t)\,\bigl(\mathrm{SNR}(t) + 1\bigr). \tag{7.2}$$
#
# "We train on the noise" and "we weight the picture's error by the SNR" are the same sentence. A weight that belongs
# to no such target is min-SNR (Hang et al.). It follows $\epsilon$ while there is much noise, and stops growing where
# there is little:
#
# $$w_\text{min-SNR} = \min\bigl(\mathrm{SNR}(t),\ \gamma\bigr), \qquad \gamma = 5. \tag{7.3}$$
#
# ### Exercise 1 · The weight of a loss
# *10 minutes · easy · Eqs. (7.2) and (7.3).* `kind` is `"x0"`, `"eps"`, `"v"` or `"min_snr"`.


# %% tags=["exercise"] exercise="07.weight" points=1
# Exercise 07.weight
def weight(snr: Tensor, kind: str, gamma: float) -> Tensor:
    """w(t) of Eq. (7.1) for signal-to-noise ratios of any shape;
    gamma counts only for "min_snr"."""
    ### BEGIN SOLUTION
    weights = {
        "x0": torch.ones_like(snr),
        "eps": snr,
        "v": snr + 1,
        "min_snr": snr.clamp(max=gamma),
    }
    return weights[kind]
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.ones_like(snr)` for the picture: a tensor of the same shape, not the number 1. `snr.clamp(max=gamma)` is the
# minimum of the two.
# </details>

# %% tags=["check"]
check("07.weight", weight)

# %% [markdown]
# Is (7.2) right? Take a wrong guess of $x_0$, convert truth and guess into each unit with lesson 03's functions, and
# divide the squared errors. Nothing of (7.2) goes into that.

# %%
# Eq. (7.2)
x_0 = normalize(images[:5]).double()
t = torch.tensor([1, 50, 300, 600, 1000])
x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
guessed = x_0 + 0.1 * forward.noise_like(x_0, lesson.generator)
snr = schedule.log_snr(t).exp()
for kind, w in {"eps": snr, "v": snr + 1, "score": snr * (snr + 1)}.items():
    truth, other = (
        parameterizations.convert(x, "x0", kind, x_t, t, schedule)
        for x in (x_0, guessed)
    )
    in_unit, in_x0 = (truth - other).square(), (x_0 - guessed).square()
    ratio = in_unit.sum((1, 2, 3)) / in_x0.sum((1, 2, 3))
    assert torch.allclose(ratio, w, rtol=1e-9, atol=0)
print("the squared errors have the ratios of Eq. (7.2), at five times, to nine digits")

# %% [markdown]
# What does $w(t)$ do? For each $t$ alone, nothing: the best answer is $\mathbb E[x_0 \mid x_t]$ under any of them,
# (3.6). But a network is finite, its $t$ share their parameters, and a gradient is an average over a few $t$. What counts
# is each $t$'s **share of the loss**: $w(t)$ *times the error that is left there*. For a network that knows nothing
# but mean and standard deviation $s$ of a pixel, lesson 04 has that error: it is $c_\text{out}^2$, and
# $1/c_\text{out}^2 = \mathrm{SNR}(t) + 1/s^2$ by (4.10). So the shares are
#
# $$w_\epsilon\,c_\text{out}^2 = \frac{\mathrm{SNR}}{\mathrm{SNR} + 1/s^2}, \qquad
# \frac{w_{x_0}}{s^2}\,c_\text{out}^2 = \frac{1/s^2}{\mathrm{SNR} + 1/s^2}, \qquad
# \Bigl(\mathrm{SNR} + \frac1{s^2}\Bigr)\,c_\text{out}^2 = 1. \tag{7.4}$$
#
# Read it twice. The first two add up to the third. $\epsilon$ pays attention where there is little noise, $x_0$ where
# there is much, and $v$ (with $1/s^2$ for 1, the unit of our `Denoiser`) to every $t$ alike. **In these units a
# network that knows nothing of digits has a loss of exactly 1, at every $t$.** Ours starts there, since its last
# layer starts at zero. Measured, on 300 test digits:

# %%
# Eq. (7.4)
test_images, test_labels = load_images("mnist", "test")
chosen = torch.randperm(10_000, generator=lesson.generator)[:300]
test_x = normalize(test_images[chosen]).to(lesson.device)
test_y = test_labels[chosen].to(lesson.device)
measured = {}
for at in (20, 150, 300, 500, 700, 1000):
    eps = forward.noise_like(test_x, lesson.generator)
    with torch.no_grad():
        loss = losses.denoising_loss(
            fresh, test_x, at, schedule, eps, data_std=std, label=test_y
        )
    measured[at] = loss.mean().item()
    assert abs(measured[at] - 1) < 4.5 * loss.std() / 300**0.5  # standard errors

# %% tags=["figure", "fold"]
# @title The weights of the loss, and the shares of the times
ts = torch.arange(1, 1001)
snr = schedule.log_snr(ts).exp()
error = 1 / (snr + 1 / std**2)  # c_out²
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3))
kinds = {"x0": BLUE, "eps": ORANGE, "v": GREEN, "min_snr": PINK}
for kind, colour in kinds.items():
    w = losses.loss_weight(ts, schedule, kind, data_std=std)
    left.loglog(snr, w, color=colour, label=kind)
    right.plot(ts, w * error / (w * error).mean(), color=colour)
right.plot(list(measured), list(measured.values()), "o", color=GREEN, ms=5)
left.set(
    xlabel="SNR (clean on the right)",
    ylabel="w",
    title="The weights, Eqs. (7.2) and (7.3)",
)
left.legend(ncols=2)
right.set(
    xlabel="t",
    ylabel="share of the loss (mean 1)",
    title="What a network that knows nothing is told to mend",
)
show(
    figure,
    "Left: the weights against the SNR; eps a straight line, v the same with a floor, "
    "min-SNR with a ceiling of 5, x0 constant. Right: shares of the loss against t. "
    "eps: high up to t = 200, then falling to nothing. x0: the reverse. v: flat, with "
    "dots measured on the new network on it. min-SNR: a sharp hump at t = 130.",
)

# %% [markdown]
# $w(t)$ has a second effect, on the **noise in the gradient**. A step follows the mean gradient $g$ of a batch, a
# random thing. Write $\bar g$ for its expectation. The number that matters is
#
# $$\text{noise-to-signal} = \frac{\mathbb E\,|g - \bar g|^2}{|\bar g|^2}: \tag{7.5}$$
#
# at 1, half of what moves the parameters is chance. Let us measure it twice: on a new network, and on one that knows a
# little. Call that one the apprentice: a small U-Net after sixty steps.


# %% tags=["widget", "open"]
def small(run: int, lr: float, dropout: float = 0.0, **options: object) -> Training:
    """A run of a small U-Net from a start of its own."""
    seed = lesson.seed + run
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = UNet(1, (16, 32), 1, attention=(), num_classes=10, dropout=dropout)
    options = {"device": lesson.device, "precision": lesson.dtype} | options
    return Training(wrapped(network), lr=lr, seed=seed, **options)


apprentice = small(0, lr=1e-2)
going = train(apprentice, images, labels, steps=60, batch_size=32, warmup=10)
records = list(watch(going, 60, label="apprentice"))

# %% [markdown]
# Now 16 batches of 32 digits, and for each the gradient under four weights $w(t)$. From $n$ gradients one gets
# $\mathbb E|g - \bar g|^2$ as their variance, and $|\bar g|^2$ as the squared length of their mean, less what chance
# adds to it, the variance over $n$. *Predict: is the gradient noisier at the start or later? Under which $w(t)$?*


# %%
# Eq. (7.5)
def gradient_noise(model: Denoiser, n: int = 16) -> dict[str, float]:
    """Noise-to-signal of the gradient of 32 digits, by the weight of the loss."""
    g, parameters = lesson.generator, list(model.parameters())
    stream = batches(images, labels, 32, generator=g, device=lesson.device)
    gradients: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    for _, (x_0, y) in zip(range(n), stream, strict=False):
        t = torch.randint(1, 1001, (32,), generator=g).to(lesson.device)
        eps = forward.noise_like(x_0, g)
        plain = losses.denoising_loss(
            model, x_0, t, schedule, eps, weighting="x0", label=y
        )
        for kind in kinds:
            w = losses.loss_weight(t, schedule, kind, data_std=std).to(plain)
            found = torch.autograd.grad(
                (w * plain).mean(), parameters, retain_graph=True
            )
            gradients[kind].append(torch.cat([part.flatten() for part in found]))
    ratios = {}
    for kind, found in gradients.items():
        noise = torch.stack(found).var(0).sum()
        signal = torch.stack(found).mean(0).square().sum() - noise / n
        ratios[kind] = (noise / signal).item()
    return ratios


at_first = gradient_noise(small(0, lr=0.0).model)
later = gradient_noise(apprentice.model.eval())
for kind in kinds:
    ratios = f"new network {at_first[kind]:.2f}, apprentice {later[kind]:.2f}"
    varies(f"{kind:8} noise-to-signal: {ratios}")
assert max(at_first.values()) < 0.3
assert later["v"] > 4 * at_first["v"]

# %% [markdown]
# A new network is told nearly the same by every batch, under any $w(t)$: it is wrong in the same way everywhere. Sixty
# steps later that has been mended, and much of what a batch says is about that batch alone. (Under which $w(t)$ it is
# noisiest depends on what the network happens to know already: start from another seed, and the order changes.) From
# here on, training looks for a small signal in much noise.
#
# Larger batches make gradients quieter, by one over their size. There is a cheaper way.
#
# ## 2 · The average of all steps
#
# Gradients are noisy, so parameters never come to rest: they jitter around a minimum. Where would you rather be than on
# the jitter? In the middle of it. Here is the smallest world in which that can be computed. One parameter $\theta$, a
# loss $\tfrac12 h\,\theta^2$, gradients with noise of standard deviation $\tau$, learning rate $\eta$:
#
# $$\theta_k = \theta_{k-1} - \eta\,(h\,\theta_{k-1} + \tau\,\xi_k) = a\,\theta_{k-1} - \eta\tau\,\xi_k, \qquad a = 1 - \eta h,
# \qquad \xi_k \sim \mathcal N(0, 1). \tag{7.6}$$
#
# The memory of the start fades as $a^k$: a small $\eta$ is slow. When it has faded, the variance $V$ reproduces
# itself, $V = a^2 V + \eta^2\tau^2$, so
#
# $$V = \frac{\eta^2\tau^2}{1 - a^2} = \frac{\eta\,\tau^2}{h\,(2 - \eta h)}, \qquad
# \operatorname{Cov}(\theta_k, \theta_{k+j}) = a^{j}\,V. \tag{7.7}$$
#
# **The jitter's variance is proportional to the learning rate**, near enough. To be fast you want $\eta$ large, to be
# exact you want it small. An **exponential moving average** (EMA) of the parameters has both:
#
# $$\bar\theta_k = d\,\bar\theta_{k-1} + (1 - d)\,\theta_k = (1 - d)\sum_{j=0}^{k-1} d^{\,j}\,\theta_{k-j} + d^{\,k}\,\bar\theta_0 . \tag{7.8}$$
#
# The factors in the sum fall by $d$ each step and reach back about $1/(1-d)$ steps: $d = 0.999$ is an average over
# the last thousand. Its variance is a double sum over (7.7), two geometric series one inside the other:
#
# $$\operatorname{Var}(\bar\theta) = (1-d)^2 \sum_{i,j\ge0} d^{\,i+j} a^{|i-j|}\,V = \frac{1-d}{1+d}\cdot\frac{1+ad}{1-ad}\;V
# \;\approx\; \frac{1-d}{\eta h}\;V \quad\text{if } 1-d \ll \eta h \ll 1. \tag{7.9}$$
#
# (Without the correlation, $a = 0$, only the first factor would be left: an average of about $(1+d)/(1-d)$
# independent numbers.) Test it with 20,000 such worlds:


# %%
# Eq. (7.6)
def jitter(
    lr: float, decay: float, steps: int, worlds: int, start: float | None = None
) -> tuple[Tensor, Tensor]:
    """theta and its EMA after each step, (steps + 1, worlds), for h = tau = 1.
    Without a start, theta begins at rest."""
    generator = torch.Generator().manual_seed(lesson.seed + 1)
    if start is None:
        theta = (lr / (2 - lr)) ** 0.5 * torch.randn(worlds, generator=generator)
        average = torch.zeros(worlds)
    else:
        theta = average = torch.full((1,), start)
    path = [(theta, average)]
    for _ in range(steps):
        theta = (1 - lr) * theta - lr * torch.randn(worlds, generator=generator)
        average = decay * average + (1 - decay) * theta  # Eq. (7.8)
        path.append((theta, average))
    thetas, averages = zip(*path, strict=True)
    return torch.stack(thetas), torch.stack(averages)


def shrinkage(lr: float, decay: float) -> float:
    """Var(EMA) / V of Eq. (7.9), for h = 1."""
    a = 1 - lr
    return (1 - decay) / (1 + decay) * (1 + a * decay) / (1 - a * decay)


four = 4 * (2 / 20_000) ** 0.5  # four standard errors of a variance, as a share of it
for lr, decay in [(0.5, 0.9), (0.2, 0.9), (0.2, 0.98), (0.05, 0.98)]:
    raw, kept = (x[-1].var().item() for x in jitter(lr, decay, 500, 20_000))
    # Eqs. (7.7) and (7.9)
    assert abs(raw / (lr / (2 - lr)) - 1) < four
    assert abs(kept / raw / shrinkage(lr, decay) - 1) < 2 * four
    print(
        f"lr {lr:4}, d = {decay}: the EMA keeps {shrinkage(lr, decay):6.1%} of the "
        "variance, as computed"
    )

# %% [markdown]
# Now (7.8)'s last term, $d^k\,\bar\theta_0$. **The average remembers its start**, and the start of a network is random
# numbers. With $d = 0.999$ the start's share after 500 steps is $0.999^{500} = 61\,\%$: an average of mostly nothing, that
# would draw noise. So the decay is warmed up. The course takes
#
# $$d_k = \min\Bigl(d,\ \frac{1 + k}{10 + k}\Bigr), \qquad \prod_{i=1}^{k} \frac{1+i}{10+i}
# = \frac{10!}{(k+2)(k+3)\cdots(k+10)}, \tag{7.10}$$
#
# where the product is the start's share: it falls as the *ninth power* of $k$. A step $j$ then enters the average at
# step $k$ with a share proportional to about $j^8$: the average is always over the last tenth or so of the run,
# however long that was. Averages whose shares are a power of $j$ have a name of their own, power-function EMA
# (Karras et al. 2024); we have one until $d_k$ reaches $d$, at $k = 8990$ for $d = 0.999$, and an ordinary EMA from
# then on.
#
# ### Exercise 2 · The average
# *10 minutes · easy · Eqs. (7.8) and (7.10).* `step` counts from 1: it is the number of steps that `theta` has seen.


# %% tags=["exercise"] exercise="07.ema" points=1
# Exercise 07.ema
def ema(average: Tensor, theta: Tensor, step: int, decay: float) -> Tensor:
    """The new average, with the decay warmed up. average, theta: any one shape."""
    ### BEGIN SOLUTION
    d = min(decay, (1 + step) / (10 + step))
    return d * average + (1 - d) * theta
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# First the decay of this step, the *smaller* of the two numbers in (7.10). Then (7.8): $d$ goes with the old average,
# $1 - d$ with the new parameters.
# </details>

# %% tags=["check"]
check("07.ema", ema)

# %% [markdown]
# The course's `EMA` keeps such an average of a whole model. What does it remember of the start? Let the start be 1
# and everything after it 0; what is left is the start's share.

# %%
# Eq. (7.10)
probe = nn.Linear(1, 1, bias=False).double()
nn.init.ones_(probe.weight)
average = EMA(probe, decay=0.999)
assert math.isclose((1 + 8990) / (10 + 8990), 0.999)  # constant from here on
nn.init.zeros_(probe.weight)
for k in range(1, 501):
    average.update(probe, k)
    if k in (1, 10, 100, 500):
        left_over = average.weights["weight"].item()
        product = math.factorial(10) / math.prod(range(k + 2, k + 11))
        assert math.isclose(left_over, product, rel_tol=1e-9)
        print(
            f"share of the start after {k:3} steps: {left_over:.1e} with warm-up, "
            f"{0.999**k:.2f} without"
        )

# %% [markdown]
# Move the sliders: a run from far away (at 5), with its jitter, and two averages of it. *Predict before you move:
# what does a decay near 1 cost, with and without warm-up?*


# %% tags=["widget", "fold"]
# @title A jittering parameter and two averages of it


def wobble(lr: float, decay: float) -> plt.Figure:
    """One run, its EMA, and its EMA with warm-up;
    beside it, how much of the variance an EMA keeps."""
    (theta, plain), steps = jitter(lr, decay, 400, 1, start=5.0), torch.arange(401)
    warmed = [theta[0]]
    for k in range(1, len(theta)):
        d = min(decay, (1 + k) / (10 + k))  # Eq. (7.10)
        warmed.append(d * warmed[-1] + (1 - d) * theta[k])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), width_ratios=[2, 1])
    left.plot(steps, theta, color=BLUE, lw=0.8, alpha=0.6, label="parameter")
    left.plot(steps, plain, color=ORANGE, label=f"EMA, d = {decay:.3f}")
    left.plot(steps, torch.stack(warmed), color=GREEN, label="EMA, decay warmed up")
    left.axhline(0, color=BLACK, lw=1, ls=":")
    left.set(
        xlabel="step",
        ylabel="distance from the minimum",
        ylim=(-2.2, 5.2),
        title=f"learning rate {lr:.2f}",
    )
    left.legend(fontsize=8)
    decays = (1 - torch.logspace(-3, 0, 60)).tolist()
    windows = [1 / (1 - d) for d in decays]
    right.loglog(windows, [shrinkage(lr, d) for d in decays], color=BLACK)
    right.plot(1 / (1 - decay), shrinkage(lr, decay), "o", color=ORANGE, ms=7)
    right.set(
        xlabel="window 1 / (1 - d), steps",
        ylabel="variance kept, Eq. (7.9)",
        ylim=(5e-4, 1.5),
    )
    return figure


explore(
    wobble,
    alt="A jittering parameter that comes from 5 to 0, its EMA, and its EMA with "
    "warm-up; right, the share of the variance kept.",
    lr=slider("learning rate", 0.02, 0.6, 0.2),
    decay=slider("decay d", 0.5, 0.998, 0.98, step=0.002),
)

# %% [markdown]
# The same for one setting, for a page without a running kernel:

# %% tags=["figure", "fold"]
# @title The same for a rate of 0.2 and a decay of 0.98
show(
    wobble(0.2, 0.98),
    "Left: a parameter falls from 5 to 0 within 20 steps and jitters. The plain EMA "
    "comes down over 150 steps; the one with warm-up follows closely and lies just as "
    "quietly later. Right: the variance kept falls as one over the window.",
)

# %% [markdown]
# Near 1 the average is quiet and late. With warm-up it is late only as long as it is new. And it is free: nothing in
# the training changes, one more copy of the parameters is kept. So we sample from the average, always, and never train
# on it.
#
# ## 3 · How long a step
#
# **Adam.** All networks of the course are trained with Adam(W). It keeps two moving averages of each parameter's
# gradient: $m$ of $g$ and $u$ of $g^2$. Both start at zero, which by (7.8) has the share $\beta^k$; so Adam divides by
# the rest, $1 - \beta^k$:
#
# $$m_k = \beta_1 m_{k-1} + (1-\beta_1)\,g_k, \quad u_k = \beta_2 u_{k-1} + (1-\beta_2)\,g_k^2,$$
#
# $$\theta_k = \theta_{k-1} - \eta_{k-1}\;\frac{m_k / (1 - \beta_1^k)}{\sqrt{u_k / (1 - \beta_2^k)} + 10^{-8}}. \tag{7.11}$$
#
# Two consequences. Multiply the loss by 1000, and Adam's steps stay the same (but for the $10^{-8}$): **for Adam only
# the shape of $w(t)$ counts, not its size.** (For the clipping below, size counts too.) And in the first step the
# fraction is $g/|g|$, so *every* parameter moves by $\eta$, be its gradient large, small or pure chance:

# %%
# Eq. (7.11)
gradient = torch.tensor([2e-4, -0.03, 5.0, -200.0])
theta = nn.Parameter(torch.zeros(4))
optimizer = torch.optim.Adam([theta], lr=0.01)
theta.grad = gradient.clone()
optimizer.step()
assert torch.allclose(theta.detach(), -0.01 * gradient.sign(), rtol=1e-3)
print("gradients  2e-4  -0.03   5.00  -200.0")
print("first step", "  ".join(f"{x:5.2f}" for x in theta.tolist()))

# %% [markdown]
# That is why the learning rate is **warmed up**: while $u$ is an average of a handful of gradients, steps should be
# small. Afterwards it should be large, to be fast, and at the end small, to be quiet, (7.7). A line up for
# $K_\text{w}$ of the $K$ steps, then half a cosine down; here $k = 0, 1, \dots, K - 1$ counts the steps that are done:
#
# $$\eta_k = \eta\;\frac{k+1}{K_\text{w}} \ \text{ for } k < K_\text{w}, \qquad
# \eta_k = \frac\eta2\left(1 + \cos\pi\,\frac{k - K_\text{w}}{K - K_\text{w}}\right) \ \text{ after}. \tag{7.12}$$
#
# Falling rate and EMA do one job in two ways. An EMA does it at any time, without knowing when the run will end; a run
# that ends at rate zero hardly needs one. Most people take both.
#
# **Clipping.** Now and then a batch has a gradient many times longer than usual, and with it the step goes somewhere
# at random; and Adam's $u$ remembers it for $1/(1-\beta_2)$ steps and makes all of them short. So a gradient that is
# too long is shortened, and its direction is kept. The length is that of the whole: *all* tensors of the network,
# written one after the other as one vector.
#
# $$g \leftarrow g \cdot \min\Bigl(1, \frac{c}{|g|}\Bigr), \qquad |g|^2 = \sum_{\text{tensors}} \sum_i g_i^2 . \tag{7.13}$$

# %%
# Eq. (7.12)
assert learning_rate(199, 2000, 1.0, 200) == 1
assert learning_rate(1999, 2000, 1.0, 200) < 1e-5
varies(f"{sum(r.gradient_norm > 1 for r in records)} of 60 gradients were clipped")

# %% tags=["figure", "fold"]
# @title The learning rate, and the apprentice's gradients
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 2.7))
left.plot([learning_rate(k, 2000, 1.0, 200) for k in range(2000)], color=BLUE)
left.set(
    xlabel="step k",
    ylabel=r"$\eta_k / \eta$",
    title="Eq. (7.12): 200 steps of warm-up, 2,000 in all",
)
right.semilogy(
    [r.step for r in records], [r.gradient_norm for r in records], color=ORANGE
)
right.axhline(1, color=BLACK, ls="--", lw=1)
right.set(xlabel="step", ylabel="|g| before clipping")
right.set_title("The apprentice, clipped at 1")
show(
    figure,
    "Left: the learning rate, a line up over 200 steps, then half a cosine down to "
    "zero. Right: the length of the apprentice's gradient, which rises above 1 in the "
    "first dozen steps and settles below it.",
)

# %% [markdown]
# ### Exercise 3 · Clipping
# *10 minutes · easy · Eq. (7.13).* The gradients come as a list, one tensor for each of the network's.


# %% tags=["exercise"] exercise="07.clip" points=1
# Exercise 07.clip
def clip(gradients: list[Tensor], limit: float) -> list[Tensor]:
    """The gradients, shortened to `limit` if together they are longer."""
    ### BEGIN SOLUTION
    length = sum(g.square().sum() for g in gradients).sqrt().item()
    factor = limit / length if length > limit else 1.0
    return [factor * g for g in gradients]
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# One length for all of them: add up the squared sums of the tensors, take one root at the end. If it is no more than
# `limit`, nothing changes; that also saves you from dividing by zero.
# </details>

# %% tags=["check"]
check("07.clip", clip)

# %% [markdown]
# ## 4 · Numbers of sixteen bits
#
# Half as many bits are half the memory traffic, and the units that multiply matrices are several times faster with
# them. What is lost? A float is $\pm\,1.f \times 2^e$; the bits are shared between $f$, the digits, and $e$, the
# range.

# %%
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    info = torch.finfo(dtype)
    print(
        f"{str(dtype)[6:]:9} largest {info.max:8.1e}   smallest normal "
        f"{info.tiny:8.1e}   next after 1: 1 + {info.eps:.1e}"
    )

overflow, tiny = torch.tensor(70_000.0), torch.tensor(1e-8)
assert overflow.half().isinf()
assert tiny.half() == 0
assert overflow.bfloat16().isfinite()
assert tiny.bfloat16() > 0
w16, w32 = torch.ones((), dtype=torch.bfloat16), torch.ones(())
assert w16 + 2**-9 == 1  # less than half of the distance to the next number
for _ in range(1000):
    w16, w32 = w16 - 0.001, w32 - 0.001
print(
    f"1 - 0.001 - 0.001 - … a thousand times: {w32:.4f} in float32, {w16:.4f} in "
    "bfloat16"
)
assert w16 == 1

# %% [markdown]
# float16 has the digits and not the range: 70,000 is infinity, and a gradient of $10^{-8}$ is zero. (So the loss is
# multiplied by a large number first, and the gradients divided by it again: a *scaler*; lesson 08 has the accident.)
# bfloat16 has float32's range, and eight bits of digits. That is enough for the factors of a long sum, whose roundings
# average out. It is **not** enough for parameters, as the last line shows: steps are small beside them, and each of
# them is rounded away. Hence *mixed* precision: parameters, optimizer and EMA stay in float32;
# `torch.autocast` rounds copies for convolutions and matrix products alone.
#
# The other switch that costs nothing is the order in memory. PyTorch keeps images as (batch, channels, height, width):
# all reds, then all greens. A convolution wants all channels of *one* pixel, and they lie far apart. With
# `memory_format=torch.channels_last` they lie side by side; shapes and numbers stay the same. Here and now:


# %% tags=["varies"]
def speed(channels_last: bool, dtype: torch.dtype) -> float:
    """Images a second through forward and backward of the small U-Net;
    the best of four."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    model = wrapped(UNet(1, (32, 64), 1, attention=())).to(memory_format=order)
    x, t = (
        torch.zeros(64, *SHAPE, device=lesson.device).contiguous(memory_format=order),
        500,
    )
    best = math.inf
    for _ in range(4):
        start = time.perf_counter()
        with torch.autocast(lesson.device.type, dtype, enabled=dtype != torch.float32):
            loss = model(x, t).square().mean()
        loss.backward()
        loss.item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 64 / best


for dtype in dict.fromkeys((torch.float32, lesson.dtype)):
    for channels_last in (False, True):
        layout = "channels last" if channels_last else "contiguous"
        varies(
            f"{str(dtype)[6:]:9} {layout:14} {speed(channels_last, dtype):6.0f} "
            "images/s"
        )

# %% [markdown]
# *A natural break: up to here the pieces, from here on they are put together.*
#
# ## 5 · The loop
#
# A training run will be stopped: by a crash, a power cut, a colleague. Whether it can go on *as if nothing had
# happened* is decided now, by where its random numbers come from. If they come from one long stream, the stream's
# state must be saved too: on each device, in each worker, and dropout's. The other way is to need no state at all:
# **everything that step $k$ draws is a function of the pair (seed, $k$)**. A new generator for each step, seeded with
# a number made of the two. But made how? `seed + k` will not do: step 8 of run 0 would be step 7 of run 1. Nor will
# any other short sum or product. What is wanted is a tool that mixes any tuple of whole numbers into one, so well that
# neighbours have nothing in common. NumPy has one, made for this very purpose:

# %%
for run, k in [(0, 8), (1, 7), (1, 8)]:
    number = np.random.SeedSequence((run, k)).generate_state(1)[0]
    print(f"run {run}, step {k}: {number}")

# %% [markdown]
# ### Exercise 4 · Noise that can be repeated
# *15 minutes · medium.* `n` standard normal numbers for one step of one run. The same pair gives the same numbers
# today and tomorrow; different pairs give numbers that have nothing in common, in a run of a million steps, too. PyTorch's
# global stream stays as it is. (PyTorch's generator on a CPU takes the lower 32 bits of a seed alone, and `hash` of a text is another in
# every kernel.)


# %% tags=["exercise"] exercise="07.noise" points=2
# Exercise 07.noise
def noise(seed: int, step: int, n: int) -> Tensor:
    """n standard normal numbers, (n,), that depend on seed and step alone."""
    ### BEGIN SOLUTION
    mixed = np.random.SeedSequence((seed, step)).generate_state(1)[0]
    return torch.randn(n, generator=torch.Generator().manual_seed(int(mixed)))
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.Generator().manual_seed(number)` makes a generator of your own, `torch.randn(n, generator=…)` uses it. The
# number is what the cell above prints, for `(seed, step)`; wrap it in `int(…)`, since PyTorch does not take NumPy's.
# </details>

# %% tags=["check"]
check("07.noise", noise)

# %% [markdown]
# Now all pieces are there. One step, in the only order that is right: batch, times, noise; loss; gradients; clip;
# learning rate; step; and *then* the average, of the new parameters. (Forget `zero_grad`, and every step follows the sum
# of all gradients so far. Clip after `step`, and nothing is clipped.) A tenth of the labels is replaced by $-1$, "no
# class": lesson 15 will want a network that can also draw without being told what.


# %%
def mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def my_train(
    model: Denoiser, steps: int, *, lr: float, batch: int, warmup: int, seed: int = 0
) -> dict[str, Tensor]:
    """Train, and return the averaged parameters."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0
    )
    average = EMA(model, decay=0.999)
    order = torch.Generator().manual_seed(mixed(seed))
    for step, (x_0, y) in zip(
        range(steps), batches(images, labels, batch, generator=order), strict=False
    ):
        generator = torch.Generator().manual_seed(mixed(seed, step))
        t = torch.randint(1, schedule.T + 1, (batch,), generator=generator)
        y = y.masked_fill(torch.rand(batch, generator=generator) < 0.1, -1)
        x_0 = x_0.contiguous(memory_format=torch.channels_last)
        eps = forward.noise_like(x_0, generator)
        # Eqs. (7.1) and (7.4)
        loss = losses.denoising_loss(
            model, x_0, t, schedule, eps, weighting="v", data_std=std, label=y
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # Eq. (7.13)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, lr, warmup)  # Eq. (7.12)
        optimizer.step()
        average.update(model, step + 1)  # Eqs. (7.8) and (7.10)
    return average.weights


# %% [markdown]
# The course's `train` has the same steps, and around them what a long run needs: autocast and a scaler, dropout seeded
# by the step, errors that say what to do, checkpoints, several processes. It is a generator: it hands out a record
# after every step, and whoever calls it prints, draws or stops. In float32 on the CPU the two must agree, and they do,
# to the last bit of every parameter:

# %%
on_cpu = {"device": "cpu", "precision": torch.float32}
with_course = small(3, lr=3e-3, **on_cpu)
by_hand = small(3, lr=3e-3, **on_cpu).model
for _ in train(with_course, images, labels, steps=6, batch_size=16, warmup=2):
    pass
settings = {"lr": 3e-3, "batch": 16, "warmup": 2, "seed": lesson.seed + 3}
average = my_train(by_hand.train(), 6, **settings)
for name, value in by_hand.state_dict().items():
    assert torch.equal(value, with_course.model.state_dict()[name])
    assert torch.equal(average[name], with_course.ema.weights[name])
print(
    f"after 6 steps all {len(average)} tensors are equal, bit for bit, and so are "
    "their averages"
)

# %% [markdown]
# **What is in a checkpoint?** Whatever the next step depends on. The parameters; the optimizer's two averages; the EMA;
# the step, which stands for the place in the data, the noise, the learning rate and $d_k$ at once; the seed; in
# float16 the scaler. Leave one out, and the run that goes on is another run. Write a small one yourself:
#
# ### Exercise 5 · A run that can be stopped
# *25 minutes · medium.* Linear regression by gradient descent with momentum. The state is a dictionary: `"w"` has the
# parameters $\theta$, `"m"` the momentum $m$ (like Adam's, but without the factor $1 - \beta$ and without $u$), and
# `"step"` the number of steps done. Step $k = 0, 1, …$ looks at one row of the data, row $k \bmod n$, with the squared
# error $(x \cdot \theta - y)^2$:
#
# $$m \leftarrow 0.9\,m + 2\,(x_k \cdot \theta - y_k)\,x_k, \qquad \theta \leftarrow \theta - \eta\,m . \tag{7.14}$$
#
# Run from the state's step up to `until`, wherever it begins, and return the new state. The old one is the caller's:
# leave it as it is.


# %% tags=["exercise"] exercise="07.go_on" points=2
# Exercise 07.go_on
def go_on(state: dict, x: Tensor, y: Tensor, until: int, lr: float) -> dict:
    """The state {"w": (d,), "m": (d,), "step": int} after `until` steps in all.
    x: (n, d); y: (n,)."""
    ### BEGIN SOLUTION
    w, m = state["w"], state["m"]
    for step in range(state["step"], until):
        row = step % len(x)
        m = 0.9 * m + 2 * (x[row] @ w - y[row]) * x[row]
        w = w - lr * m
    return {"w": w, "m": m, "step": until}
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `for step in range(state["step"], until)`: a run that has done 4 steps does number 4 next. Write `w = w - …`, not
# `w -= …`, which would change the caller's tensor. All three entries go out again, new.
# </details>

# %% tags=["check"]
check("07.go_on", go_on)

# %% [markdown]
# Now in earnest: a U-Net with dropout, Adam and EMA. One run of eight steps; and one that is stopped after five, goes
# through a file, and is taken up by a *new* `Training` whose network started somewhere else. A file, too, can be cut
# off in the middle by a crash. So it is written beside the old one, flushed to the disk, and renamed only then; and it
# ends in a checksum of itself.

# %%
folder = Path(tempfile.mkdtemp())
cpu = {"device": "cpu", "dropout": 0.1}
schedule_of_both = {"steps": 8, "batch_size": 16, "warmup": 2}
whole = small(1, lr=3e-3, **cpu)
for _ in train(whole, images, labels, **schedule_of_both):
    pass
stopped = small(1, lr=3e-3, **cpu)
for record in train(stopped, images, labels, **schedule_of_both):
    if record.step == 5:
        break
stopped.save(folder / "crash.pt")
resumed = small(99, lr=3e-3, **cpu).resume(folder / "crash.pt")
for _ in train(resumed, images, labels, **schedule_of_both):
    pass
for name, value in whole.model.state_dict().items():
    assert torch.equal(value, resumed.model.state_dict()[name])
    assert torch.equal(whole.ema.weights[name], resumed.ema.weights[name])
print("stopped and resumed, or not: the same, bit for bit, and so are the averages")

# %% [markdown]
# ## 6 · Four networks, one budget
#
# What does "the same budget" mean? Not the same number of parameters: a convolution uses each of its own at every
# pixel, a linear layer once. Not the same time: that would depend on your machine. We count **floating-point
# operations**: PyTorch adds up those of all matrix products and convolutions, forward and backward, for one image.
# Each network gets as many steps as the budget pays for.

# %%
BATCH, BUDGET = 16, 4e11 * (1 if lesson.device.type == "cpu" else 10)
builders = {
    "CNN": lambda: PlainCNN(1, 24, 6, num_classes=10),
    "DAE": lambda: DAE(1, 28, 32, 64, num_classes=10),
    "attention": lambda: AttentionDenoiser(1, 96, 3, patch=4, num_classes=10),
    "U-Net": lambda: UNet(1, (24, 48), 1, num_classes=10),
}


def training_flops(network: nn.Module) -> int:
    """Floating-point operations of one image, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *SHAPE), torch.zeros(1)).sum().backward()
    network.zero_grad()
    return counter.get_total_flops()


runs, steps, flops = {}, {}, {}
for name, build in builders.items():
    with torch.random.fork_rng([]):
        torch.manual_seed(lesson.seed)
        network = build()
    flops[name] = training_flops(network)
    steps[name] = round(BUDGET / (flops[name] * BATCH))
    options = {"device": lesson.device, "precision": lesson.dtype}
    runs[name] = Training(wrapped(network), lr=4e-3, seed=lesson.seed, **options)
    size = sum(p.numel() for p in network.parameters())
    print(f"{name:10}{size:9,} parameters {flops[name] / 1e6:6.1f} MFLOP an image")
    varies(f"{steps[name]} steps of {BATCH}")
    assert abs(steps[name] * flops[name] * BATCH / BUDGET - 1) < 0.01

# %% [markdown]
# On a CPU that is five to twenty seconds each. (The DAE has the most parameters, seven in ten of them in its two
# linear layers. Each of those is used once a picture, so they cost next to nothing.) All see the same digits in the
# same order with the same noise. First the U-Net, with what it draws every hundred steps:

# %% tags=["widget", "open"]
history: dict[str, list[float]] = {}


def spend(name: str, **options: object) -> None:
    """Train one of the four for as many steps as the budget pays for."""
    settings = {"steps": steps[name], "batch_size": BATCH, "warmup": 20}
    going = train(runs[name], images, labels, **settings)
    records = watch(going, steps[name], label=name, **options)
    history[name] = [record.loss for record in records]


spend("U-Net", sample=lambda: draw_digits(runs["U-Net"].averaged()))

# %% [markdown]
# The plain CNN, which sees 13 pixels across:

# %% tags=["widget", "open"]
spend("CNN")

# %% [markdown]
# The autoencoder, which sees everything, through a code of 64 numbers:

# %% tags=["widget", "open"]
spend("DAE")

# %% [markdown]
# And attention, which sees everything and has to learn where it lies:

# %% tags=["widget", "open"]
spend("attention")

# %% [markdown]
# The loss of a batch is a noisy thing. So they are judged on 300 test digits, with the same times and noise for all, by
# their averaged parameters, in the unit of (7.4): 1 is a network that knows nothing.

# %%
judge_t = torch.randint(1, 1001, (300,), generator=lesson.generator).to(lesson.device)
judge_eps = forward.noise_like(test_x, lesson.generator)


@torch.no_grad()
def judge(model: nn.Module, n: int = 300) -> float:
    """The loss of (7.4) on n test digits, always with the same times and noise."""
    x_0, t, eps, y = (a[:n] for a in (test_x, judge_t, judge_eps, test_y))
    half = lesson.dtype != torch.float32
    with torch.autocast(lesson.device.type, lesson.dtype, enabled=half):
        loss = losses.denoising_loss(
            model, x_0, t, schedule, eps, data_std=std, label=y
        )
    return loss.mean().item()


trained = {name: runs[name].averaged() for name in builders}
verdict = {name: judge(denoiser) for name, denoiser in trained.items()}
for name, loss in verdict.items():
    varies(f"{name:10} loss on test digits {loss:.3f}")
assert all(loss < 0.75 for loss in verdict.values())
assert max(verdict, key=verdict.__getitem__) == "DAE" or lesson.device.type != "cpu"

# %% tags=["figure", "fold"]
# @title The four losses, for the same cost
figure, axis = plt.subplots(figsize=(6.5, 3))
for name, colour in zip(builders, (BLUE, PINK, ORANGE, GREEN), strict=True):
    smooth = np.convolve(history[name], np.ones(20) / 20, "valid")
    cost = flops[name] * BATCH / 1e12
    spent = (np.arange(len(smooth)) + 20) * cost
    axis.plot(spent, smooth, color=colour, label=name)
    end = steps[name] * cost
    axis.plot(end, verdict[name], "o", color=colour, ms=6, clip_on=False)
axis.axhline(1, color=BLACK, lw=1, ls=":")
axis.set(xlabel="spent (TFLOP)", ylabel="loss, mean of 20 batches", ylim=(0.3, 1.1))
axis.legend(ncols=2)
show(
    figure,
    "The four losses against the operations spent. All fall from 1; the DAE stays "
    "highest, the other three end close together below it. Dots at the end: the same "
    "measured on test digits.",
)

# %% [markdown]
# The DAE's loss is the highest, from every start that was tried. The other three end near each other: on this budget
# another start may change their order, so this page makes nothing of it.
#
# And what do they draw? The same noise for all four, ten steps of DDIM (lesson 10), each digit asked for by its class:

# %% tags=["widget", "open"]
drawn = {name: draw_digits(denoiser, each=5) for name, denoiser in trained.items()}


def sheet(drawn: dict[str, Tensor]) -> plt.Figure:
    """Real digits, and below them one row of each network's."""
    rows = torch.cat([real, *(digits[:10] for digits in drawn.values())])
    return image_grid(rows, columns=10, row_labels=["real", *drawn], size=0.75)


# %% tags=["figure", "fold"]
# @title Ten digits by each of the four
show(
    sheet(drawn),
    "Ten real digits, and ten drawn by each of the four networks, from the same noise. "
    "The DAE's are whole digits under heavy grain; those of the others are strokes, "
    "patches and parts of digits.",
)

# %% [markdown]
# The course's classifier can tell how many are what they were asked to be. It has never seen grain, though. So ask it
# twice: about the digits as they are, and with the grain wiped off, which is done to all four alike: the mean of
# $3 \times 3$ pixels, everything below 60 of 255 black, the rest stretched. *Predict: whom will that help?*


# %%
classifier = load_classifier("mnist", lesson.device)


def agreement(digits: Tensor) -> float:
    """The share of digits, 0 … 9 in turn, that the classifier takes for what they
    were asked to be."""
    seen = look_at(classifier, digits)[1]
    return (seen == torch.arange(len(digits)) % 10).double().mean().item()


def wiped(digits: Tensor) -> Tensor:
    """The digits without their grain."""
    smooth = nn.functional.avg_pool2d(digits.float(), 3, 1, 1)
    smooth = (smooth - 60).clamp(min=0)
    brightest = smooth.amax((2, 3), keepdim=True).clamp(min=1)
    return (255 * smooth / brightest).to(torch.uint8)


raw_share = {name: agreement(digits) for name, digits in drawn.items()}
wiped_share = {name: agreement(wiped(digits)) for name, digits in drawn.items()}
for name in drawn:
    shares = f"{raw_share[name]:.0%}, wiped {wiped_share[name]:.0%}"
    varies(f"{name:10} of the class asked for: {shares}; chance is 10%")
assert wiped_share["DAE"] > 0.6
if lesson.device.type == "cpu":  # elsewhere more is spent
    assert max(wiped_share, key=wiped_share.__getitem__) == "DAE"

# %% [markdown]
# **The network with the worst loss has drawn the best shapes.** The DAE's code of 64 numbers holds a shape after a few
# seconds, and can never hold grain (lesson 05): much of its loss should be grain, which the second look wipes away. The
# others have learned to clean up first, and shapes come last: the CNN's strokes do not know of each other; attention
# has to learn even where things lie; the U-Net sees near and far at once, and is on its way. A loss is one number, and
# does not say which fault it counts. (Lesson 09 measures samples properly.)
#
# Draw yourself: which network, which digit, from which noise?


# %% tags=["widget", "fold"]
# @title Eight digits: choose the network, the digit, the noise


def eight(network: str, digit: int, seed: int) -> plt.Figure:
    """Eight digits of one class from one seed's noise."""
    digits = draw_digits(trained[network], each=8, seed=seed)
    return image_grid(digits[digit::10], columns=8)


explore(
    eight,
    alt="Eight digits of the chosen class, drawn by the chosen network of this page "
    "from the chosen seed's noise.",
    network=choice("network", list(trained), "U-Net"),
    digit=slider("digit", 0, 9, 3),
    seed=slider("seed", 0, 20, 0),
)

# %% [markdown]
# ## 7 · Longer
#
# The course ships networks of the same four kinds, most of them larger, trained for thousands of steps instead of
# hundreds by the very same `train` (`course train mnist-unet` repeats it). What does patience buy?

# %%
SHIPPED = {
    "CNN": "mnist-cnn",
    "DAE": "mnist-dae",
    "attention": "mnist-attention",
    "U-Net": "mnist-unet",
}
finished = {name: load_denoiser(file, lesson.device) for name, file in SHIPPED.items()}
drawn = {name: draw_digits(denoiser, each=4) for name, denoiser in finished.items()}
patient = {name: agreement(digits) for name, digits in drawn.items()}
for name, denoiser in finished.items():
    shares = f"{patient[name]:.0%}, wiped {agreement(wiped(drawn[name])):.0%}"
    loss = judge(denoiser, 100)
    varies(f"{name:10} loss {loss:.3f}, of the class asked for: {shares}")
assert patient["U-Net"] > 0.8  # of 40 digits; five standard errors below 97 %
assert patient["U-Net"] > max(patient["CNN"], patient["DAE"])

# %% tags=["figure", "fold"]
# @title Ten digits by each of the shipped networks
show(
    sheet(drawn),
    "Ten real digits, and ten drawn by each of the four networks that the course "
    "ships. The CNN's are loose strokes, half of them no digit; the DAE's are digits "
    "under grain; attention's are torn; the U-Net's are clean, and most can be read.",
)

# %% [markdown]
# The loop is the same, to the last line. Between the two pictures lie larger networks and patience. (The U-Net had
# forty-seven thousand steps of 64 digits, the others two and a half thousand of 128. And it drew its $t$ where there is
# most to learn: `times="cosine"` spreads them over the log-SNR as a cosine schedule does, lesson 02, while a third of
# uniform times are next to pure noise. This page does not take these causes apart.) And patience does not mend
# everything: the CNN still cannot see across a digit, the DAE still cannot draw without grain.
#
# ## 8 · What usually goes wrong
#
# One more run, to be mistreated: a small U-Net with dropout, small batches, and a high, constant learning rate.
# (`steps=100_000` keeps the cosine at its top; we take 240 of them.)

# %% tags=["widget", "open"]
student, raw, averaged = small(7, lr=2e-2, dropout=0.1), {}, {}
endless = {"steps": 100_000, "batch_size": 16, "warmup": 20}
for record in watch(train(student, images, labels, **endless), 240, label="student"):
    if record.step == 1:
        first_times = record.t
    if record.step >= 120 and record.step % 15 == 0:
        raw[record.step] = judge(student.model.eval(), 150)
        averaged[record.step] = judge(student.averaged(), 150)
    if record.step == 240:
        break
student.save(folder / "student.pt")

# %% [markdown]
# **(a) Sampling from the last parameters.** The loop is there, the EMA is not; the parameters of the last step are
# saved. Compare them with their average, all along the way, on the same digits and noise:

# %%
gap = (sum(raw.values()) - sum(averaged.values())) / len(raw)
varies(f"the average is better by {gap:.3f}, and took no step of its own")
assert gap > 0

# %% tags=["figure", "fold"]
# @title The parameters of each step, and their average
figure, axis = plt.subplots(figsize=(6.5, 2.6))
for losses_at, colour, label in (
    (raw, ORANGE, "parameters of that step"),
    (averaged, GREEN, "averaged parameters"),
):
    axis.plot(*zip(*losses_at.items(), strict=True), "o-", color=colour, label=label)
axis.set(xlabel="step", ylabel="loss on test digits")
axis.legend()
show(
    figure,
    "The loss on test digits along one run. The curve of the parameters themselves "
    "jumps up and down; the curve of the averaged ones is smoother, and mostly lower.",
)

# %% [markdown]
# Better on the whole, at no cost. In a run whose rate falls to zero the gap closes at the end, as (7.7) says. Who
# stops early, looks in the middle or never lets the rate fall pays it.
#
# **(b) Forgetting eval mode.** Dropout puts a random tenth of the numbers to zero and enlarges the others. In training
# that is its purpose. A network that was last trained is still in that mode when you sample, and nobody complains.
# Ask it twice. With answers $D_1 … D_n$ under $n$ masks, and $\bar D$ their mean,
#
# $$\frac1n\sum_i |x_0 - D_i|^2 = |x_0 - \bar D|^2 + \frac1n\sum_i |D_i - \bar D|^2 : \tag{7.15}$$
#
# on average an answer under one mask is worse than their *mean*, by the masks' spread, whatever $x_0$ is. That is about
# the mean. What eval mode gives is another thing: one answer, with every number kept. For a linear network it would be
# the mean; for a deep one it is near it, and how near can only be measured.

# %%
# Eq. (7.15)
model, x_0, t = student.averaged(), test_x[:100], judge_t[:100]
x_t = forward.q_sample(x_0, t, schedule, judge_eps[:100])
with torch.no_grad():
    calm = model(x_t, t)
    assert torch.equal(calm, model(x_t, t))
    model.train()  # the mode a network is in after a step of training
    answers = torch.stack([model(x_t, t) for _ in range(8)])
assert not torch.equal(answers[0], answers[1])
middle = answers.mean(0)
one_mask = (x_0 - answers).square().mean()
mean_answer, spread = (x_0 - middle).square().mean(), (answers - middle).square().mean()
assert torch.allclose(one_mask, mean_answer + spread, rtol=1e-5)
varies(f"squared error: under one mask {one_mask:.5f}, of which spread {spread:.5f}")
varies(f"of the mean of eight answers {mean_answer:.5f}")
varies(f"of eval mode {(x_0 - calm).square().mean():.5f}")

# %% [markdown]
# It is not much at each call. A sampler calls 10 or 1,000 times, each time with other masks; the samples are no longer
# a function of the noise, and every comparison of samplers (lessons 10 to 14) is spoiled. BatchNorm is worse: in
# train mode a picture's answer depends on its neighbours in the batch. **`averaged()` and `load_denoiser` return
# networks in eval mode, and `train` switches back by itself.**
#
# **(c) A resume that is none.** The student crashed at step 240. Four ways to go on: it was all a dream (never
# stopped); a right resume; the optimizer forgotten, parameters and step alone loaded; the step forgotten, so that data,
# noise and learning rate begin anew. *Predict: which of the mistakes will you see in the loss?*


# %%
def flat(run: Training) -> Tensor:
    """All parameters of a run as one vector."""
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def go_on_student(run: Training, n: int = 8) -> tuple[list[float], list[Tensor]]:
    """n more steps: the loss on 100 test digits and the times of each."""
    curve, times = [], []
    for record in train(run, images, labels, **endless):
        curve.append(judge(run.model.eval(), 100))
        times.append(record.t)
        if len(curve) == n:
            return curve, times


def from_file() -> Training:
    """A new run that goes on with the student's."""
    return small(99, lr=2e-2, dropout=0.1).resume(folder / "student.pt")


no_optimizer, no_step = from_file(), from_file()
no_optimizer.optimizer.state.clear()
no_step.step = 0
start = flat(from_file())
ways = {
    "never stopped": student,
    "right": from_file(),
    "no optimizer": no_optimizer,
    "no step": no_step,
}
after = {way: go_on_student(run) for way, run in ways.items()}

# %% [markdown]
# How far is each from where the run would have been, as a share of the way that this one travelled in eight steps?

# %%
travelled = (flat(student) - start).norm()
off = {
    way: ((flat(run) - flat(student)).norm() / travelled).item()
    for way, run in ways.items()
}
for way, share in off.items():
    varies(f"{way:14} off by {share:.2f} of the way travelled")
if lesson.device.type == "cpu":  # a GPU adds up in an order of its own
    assert off["right"] == 0
assert min(off["no optimizer"], off["no step"]) > 0.5
assert max(after["no optimizer"][0][:3]) > 1.1 * max(after["right"][0][:3])
assert torch.equal(after["no step"][1][0], first_times)  # step 241 is step 1 again

# %% tags=["figure", "fold"]
# @title The loss after each of the four
figure, axis = plt.subplots(figsize=(6.5, 2.8))
looks = [(BLACK, "-"), (GREEN, "--"), (ORANGE, "-"), (PINK, "-")]
for (way, (curve, _)), (colour, style) in zip(after.items(), looks, strict=True):
    axis.plot(range(241, 241 + len(curve)), curve, style, color=colour, label=way)
axis.set(xlabel="step", ylabel="loss on 100 test digits")
axis.legend(ncols=2, fontsize=8)
show(
    figure,
    "The loss after a resume at step 240. Never stopped and right lie on each other. "
    "Without the optimizer it jumps up at once. Without the step it stays where the "
    "right one is, give or take the jitter.",
)

# %% [markdown]
# The forgotten optimizer shows: Adam starts anew, and its first steps move every parameter by the full rate, (7.11), out
# of a place that had been found with care. The forgotten step hides in the jitter. That run is looking at the digits,
# times and noise of its first steps once more; the assertion has compared the times. A run that crashes every hundred
# steps and begins its stream again each time sees the same hundred batches for ever, and its training loss only gets
# better: that is how a network learns a part of its training set by heart.
#
# ## 9 · The answer
#
# What turned a network that could learn into one that did? A loss that does not let any noise level starve; steps
# that are short at first, long in the middle and short at the end; an average that takes the jitter away; a leash on
# the odd gradient; and patience, which needs checkpoints. The network itself is one line of the loop. And who drew
# best for the same cost? It depends on whom you ask, and how long you wait.

# %%
best = min(verdict, key=verdict.__getitem__)
most = max(wiped_share, key=wiped_share.__getitem__)
varies(f"your guess: {guess.value}; lowest loss for the same cost: {best}")
varies(f"most of the right class, wiped: {most}")

# %% [markdown]
# ### In your own words
# *Manually graded, about four lines.* A colleague's run crashed at step 3,000 of 8,000. Only the weights had been
# saved; they were loaded and `train` was started again. "The loss jumped", says the colleague, "but after a few
# hundred steps it was fine". What explains the jump? And what else is different from a run that was never stopped,
# that the loss does not show?

# %% [markdown] tags=["manual"] question="07.own_words" points=2
# ### BEGIN SOLUTION
# Adam's two averages were gone, so its first steps move every weight by the same length, whatever its gradient. The
# warm-up begins again and keeps them short at first, but then takes the rate back up to its peak, higher than the cosine had
# it at step 3,000: steps like these throw the weights out of the place they had found. The loss does not show that the
# step began at 0 again: the run sees the same digits, times and noise as in its first steps a second time and the later ones
# perhaps never, and the learning rate starts its warm-up and cosine again, so it ends at another rate or another
# length. The averaged weights are lost as well, and start from the loaded ones.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: the jump comes from the lost optimizer state (Adam's averages; sign-like first steps), or from the
# rate that rises to its peak once more. One point: at least one silent difference: repeated data, times or noise; the learning-rate schedule; the
# EMA.

# %% [markdown]
# ## Summary
#
# * Losses on $x_0$, $\epsilon$, $v$ and the score are one loss with different $w(t)$, (7.2). What counts is
#   $w(t)$ times the error that is left: $\epsilon$ looks at little noise, $x_0$ at much, $v$ at all, (7.4).
# * Parameters jitter with a variance proportional to the learning rate, (7.7); their moving average keeps a computable
#   fraction of it, (7.9), and its decay must be warmed up, (7.10).
# * Adam's first step has the same size everywhere, (7.11): warm up. Then fast, then quiet, (7.12). Clip by the length
#   of the whole gradient, (7.13).
# * Matrix products may be in 16 bits; parameters and their averages may not.
# * What a step draws is a function of seed and step, so a run can be stopped and resumed bit for bit, if parameters,
#   optimizer, EMA and step are all saved.
# * Compare networks at equal floating-point operations. Sample from the average, in eval mode.

# %%
progress("07")

# %% [markdown]
# ## References
#
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. The weight $w_\epsilon$ (its Eq. 14); EMA with
#   0.9999 (appendix B).
# * Salimans, Ho: *Progressive Distillation for Fast Sampling of Diffusion Models*, 2022. $v$ and its weight SNR + 1
#   (section 4).
# * Hang, Gu, Li, Bao, Chen, Hu, Geng, Guo: *Efficient Diffusion Training via Min-SNR Weighting Strategy*, 2023. Our
#   (7.3) is its section 3.3.
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. The weight
#   $1/c_\text{out}^2$ (its table 1).
# * Karras, Aittala, Lehtinen, Hellsten, Aila, Laine: *Analyzing and Improving the Training Dynamics of Diffusion
#   Models*, 2024. Power-function EMA (section 3).
# * Polyak, Juditsky: *Acceleration of Stochastic Approximation by Averaging*, 1992. Why to average the iterates.
# * Kingma, Ba: *Adam: A Method for Stochastic Optimization*, 2015. Our (7.11) is its Algorithm 1. Loshchilov, Hutter:
#   *Decoupled Weight Decay Regularization*, 2019 (AdamW); *SGDR*, 2017 (the cosine).
# * Pascanu, Mikolov, Bengio: *On the Difficulty of Training Recurrent Neural Networks*, 2013. Clipping by the norm,
#   our (7.13).
# * Micikevicius and others: *Mixed Precision Training*, 2018. float32 weights, and the scaler.
# * McCandlish, Kaplan, Amodei: *An Empirical Model of Large-Batch Training*, 2018. The noise in a gradient against its
#   length: our (7.5) is its simple noise scale, divided by the batch size.
#
# **Next:** colour. Lesson 08 takes the same loop to CIFAR-10, and to a GPU.
