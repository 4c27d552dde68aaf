# %% [markdown]
# # 15 · Conditional generation
#
# *You will say what to draw, and how strictly: derive the push of a classifier and its replacement by a difference of two
# guesses, measure how far guided sampling is from the law it is named after, learn where to insist and where to let be,
# and fill holes in pictures by three methods, each beside the exact answer. About 75 minutes to read and run, 55 to
# solve its six exercises. A natural break comes after section 6.*

# %% tags=["fold"]
# @title Imports
import itertools

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course_utils import forward, guidance, inpainting, samplers, schedules
from course_utils.classifier import look_at
from course_utils.data import CLASSES, denormalize, load_images, normalize
from course_utils.denoisers import Denoiser
from course_utils.exercises import check, progress
from course_utils.leaderboard import load_guided
from course_utils.metrics import share
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
from course_utils.pretrained import load_classifier, load_denoiser, load_network
from course_utils.runtime import varies
from course_utils.tasks import Denoising
from course_utils.toy import GaussianMixture, IdealDenoiser
from course_utils.training import Training, train
from course_utils.widgets import choice, explore, slider, span

use_style()

# %% [markdown]
# ## The question
#
# The networks of this course hear a class. Ask the one that draws photographs for each of its ten, ten times, and look
# at what comes back.


# %%
def fast(network: torch.nn.Module) -> object:
    """The network as a denoiser, in the precision that this machine is fast in."""

    def denoise(x_t: Tensor, t: float | Tensor, **cond: Tensor) -> Tensor:
        with torch.autocast(
            lesson.device.type, lesson.dtype, enabled=lesson.dtype != torch.float32
        ):
            return network(x_t, t, **cond)

    return denoise


def drawn(
    denoise: object, shape: tuple, label: Tensor | None, grid: list, seed: int = 0
) -> Tensor:
    """Pictures by DPM-Solver++ 2M, always from the same noises."""
    generator = torch.Generator().manual_seed(seed)
    n = 10 if label is None else len(label)
    x_T = torch.randn(n, *shape, generator=generator).to(lesson.device)
    x_T = x_T.contiguous(memory_format=torch.channels_last)
    cond = {} if label is None else {"label": label.to(lesson.device)}
    return samplers.sample_dpmpp_2m(denoise, x_T, schedule, grid, **cond).cpu()


photo_net = load_denoiser("cifar10-unet", lesson.device)
photos, schedule = fast(photo_net), photo_net.schedule
photo_grid = samplers.quadratic_grid(schedule, 10)  # ten network calls
PHOTO, DIGIT = (3, 32, 32), (1, 28, 28)

# %% tags=["figure", "fold"]
# @title Ten classes, asked for once, and asked for with emphasis
ten = torch.arange(10)
plain = drawn(photos, PHOTO, ten, photo_grid)
strict = drawn(guidance.classifier_free(photos, 3.0), PHOTO, ten, photo_grid)
show(
    image_grid(
        torch.cat([plain, strict]),
        columns=10,
        titles=list(CLASSES["cifar10"]),
        row_labels=["asked", "insisted"],
        size=0.85,
    ),
    "Two rows of ten small photographs, one of each class, from the same ten noises. "
    "Above many show no clear object; below most show the class that was asked for.",
)

# %% [markdown]
# The upper row was *asked* for airplanes, automobiles, birds. By our classifier, which names 92 % of real photographs
# rightly, only half of what this network draws is of the class asked for. The lower row is the same network, from the
# same noises, called twice as often; nothing was trained again. What was done, and what does it cost?
#
# *Commit to a guess.* Let $w$ say how strictly one insists, with $w = 1$ for plain asking. Which of these will be *worse* at
# $w = 3$ than at $w = 1$: the distance of drawn pictures from real ones (FID), precision (the share of drawn pictures that
# look real), recall (the share of real pictures that are within reach), or none?

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice("", ["FID", "precision", "recall", "none of them"])
guess

# %% [markdown]
# ## 1 · Asking
#
# A class $c$ is one more thing the network hears: an embedding added to that of the noise level. It then learns
# $\mathbb E[x_0 \mid x_t, c]$, since the best guess of a least-squares problem is the mean given all that is known. For
# what follows it must know the mean *without* a class as well. So in training a share of the labels, here one in ten, is
# dropped: replaced by $-1$, "no class", which has an embedding of its own.
#
# ### Exercise 1 · Labels that are dropped
# *5 minutes · easy.* Replace by $-1$ each label whose `u`, drawn evenly from $[0, 1)$, is below the share.


# %% tags=["exercise"] exercise="15.drop_labels" points=1
# Exercise 15.drop_labels
def drop_labels(label: Tensor, u: Tensor, share: float) -> Tensor:
    """Labels to train with, (n,) whole numbers; u: (n,) in [0, 1)."""
    ### BEGIN SOLUTION
    return torch.where(u < share, -1, label)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.where(condition, this, that)` takes numbers as well as tensors.
# </details>

# %% tags=["check"]
check("15.drop_labels", drop_labels)

# %% [markdown]
# ## 2 · A classifier that sees through noise
#
# Suppose the denoiser knows no classes. Bayes' rule at noise level $t$ is $q(x_t \mid c) = q(x_t)\,q(c \mid x_t) / q(c)$.
# Take logarithms, and gradients by $x_t$, on which $q(c)$ does not depend:
#
# $$\nabla \log q(x_t \mid c) = \nabla \log q(x_t) + \nabla \log q(c \mid x_t). \tag{15.1}$$
#
# The last term is the gradient of a *classifier of noisy pictures*: which way must $x_t$ move to look more like a $c$? A
# classifier of clean pictures will not do; it has never seen $x_t$. To bring (15.1) into our frame, where a sampler wants
# a guess of $x_0$, put it into Tweedie's formula of lesson 05, $\hat x_0 = (x_t + \sigma_t^2\,\nabla\log q(x_t)) / \alpha_t$.
# The first score gives the guess without a class, and what is added to a score is added to the guess with a factor:
#
# $$\hat x_0(x_t, c) = \hat x_0(x_t) + w\,\frac{\sigma_t^2}{\alpha_t}\,\nabla \log q(c \mid x_t), \qquad w = 1. \tag{15.2}$$
#
# ### Exercise 2 · Pushed by a classifier
# *10 minutes · medium · Eq. (15.2).* With any $w$, and for each image its own $\alpha_t$ and $\sigma_t$.


# %% tags=["exercise"] exercise="15.classifier" points=1
# Exercise 15.classifier
def pushed(
    x0_hat: Tensor, gradient: Tensor, w: float, alpha_t: Tensor, sigma_t: Tensor
) -> Tensor:
    """Eq. (15.2). x0_hat, gradient: (b, …); alpha_t, sigma_t: (b,)."""
    ### BEGIN SOLUTION
    factor = (w * sigma_t**2 / alpha_t).reshape(-1, *[1] * (x0_hat.ndim - 1))
    return x0_hat + factor * gradient
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# A number for each image must become a column before it meets images: `.reshape(-1, *[1] * (x0_hat.ndim - 1))`.
# </details>

# %% tags=["check"]
check("15.classifier", pushed)

# %% [markdown]
# Is it right? Take a world in which everything is known: three hundred digits are all there is. Its denoiser (lesson 05)
# knows the guess with a class and without; its perfect observer (lesson 01) knows $q(c \mid x_t)$, and autograd its
# gradient. The course's `guidance.classifier_guidance` pushes by it:

# %%
# Eq. (15.2)
digits, names = load_images("mnist", "train", n=300)
world = IdealDenoiser(normalize(digits).double(), schedule, names)
some = torch.randperm(300, generator=lesson.generator)[:6]
x_0 = normalize(digits[some]).double()
x_t = forward.q_sample(x_0, 600, schedule, forward.noise_like(x_0, lesson.generator))
by_bayes = guidance.classifier_guidance(
    world, lambda x, t: world.class_posterior(x, t).log(), schedule
)
told = world(x_t, 600, label=names[some])
torch.testing.assert_close(by_bayes(x_t, 600, label=names[some]), told)
varies(
    f"apart: {(by_bayes(x_t, 600, label=names[some]) - told).abs().max():.1e}; "
    f"without the push: {(world(x_t, 600) - told).abs().max():.1e}"
)

# %% [markdown]
# *Being told the class and being pushed towards it are one and the same, to rounding.* And whoever has the classifier in
# hand can push harder, with $w > 1$ (Dhariwal & Nichol, 2021). For real digits a small one comes with the course,
# `mnist-noisy-classifier`: it was shown digits at every noise level, and is told the level. Push the shipped U-Net,
# which is told no class here, to sevens:

# %% tags=["figure", "fold"]
# @title Sevens by a classifier's push
digit_net = load_denoiser("mnist-unet", lesson.device)
digit = fast(digit_net)
digit_grid = samplers.uniform_grid(schedule, 10)
sees = load_network("mnist-noisy-classifier", lesson.device).at_times_of(schedule)
ten_sevens = torch.full((10,), 7)
by_push = [
    drawn(
        guidance.classifier_guidance(digit, sees, schedule, w),
        DIGIT,
        ten_sevens,
        digit_grid,
    )
    for w in (0.0, 1.0, 4.0)
]
show(
    image_grid(
        torch.cat(by_push),
        columns=10,
        row_labels=["no push", "w = 1", "w = 4"],
        size=0.7,
    ),
    "Three rows of ten digits from the same noises: any digit without a push; with "
    "w = 1 some have become sevens, with w = 4 most.",
)

# %% [markdown]
# Its price is a second network that must know every noise level, and a way back through it at each step.
#
# ## 3 · No classifier
#
# Read (15.1) from right to left. A network that was trained with dropped labels knows both scores on the other side:
#
# $$\nabla \log q(c \mid x_t) = \nabla \log q(x_t \mid c) - \nabla \log q(x_t). \tag{15.3}$$
#
# So the push is there without a classifier. With weight $w$, and in guesses (a line in the score is the same line in
# the guess, by Tweedie), this is *classifier-free guidance*:
#
# $$\hat x_0^{\,w} = \hat x_0(x_t) + w\,\bigl(\hat x_0(x_t, c) - \hat x_0(x_t)\bigr). \tag{15.4}$$
#
# $w = 0$ forgets the class, $w = 1$ is plain asking, $w > 1$ goes *beyond* the guess with the class, on the line away
# from the guess without it. **Two conventions are in use.** The first paper (Ho & Salimans, 2022) writes
# $(1 + w)\,\hat x_0(x_t, c) - w\,\hat x_0(x_t)$: its $w$ is ours less one, and its 0 is our 1.
#
# ### Exercise 3 · Two guesses, one line
# *5 minutes · easy · Eq. (15.4).*


# %% tags=["exercise"] exercise="15.classifier_free" points=1
# Exercise 15.classifier_free
def led(uncond: Tensor, cond: Tensor, w: float) -> Tensor:
    """The guided guess; uncond, cond: guesses without and with the class."""
    ### BEGIN SOLUTION
    return uncond + w * (cond - uncond)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# It begins at `uncond`, and at $w = 1$ it must arrive at `cond`.
# </details>

# %% tags=["check"]
check("15.classifier_free", led)

# %% [markdown]
# In the world of three hundred digits both ways must agree for every $w$: one takes a gradient, the other a difference.

# %%
# Eq. (15.4)
for w in (0.0, 1.0, 2.5):
    by_gradient = guidance.classifier_guidance(
        world, lambda x, t: world.class_posterior(x, t).log(), schedule, w
    )
    by_difference = guidance.classifier_free(world, w)
    asked = {"label": names[some]}
    torch.testing.assert_close(
        by_gradient(x_t, 600, **asked), by_difference(x_t, 600, **asked)
    )
print("the same guesses for w = 0, 1 and 2.5")

# %% [markdown]
# Now real digits, ten noises, ten calls (or twice ten). *Move $w$. From which value on does a digit stop being a digit,
# and what do all sevens begin to share?*


# %%
def sevens(w: float) -> Tensor:
    """Ten sevens, guided by w, always from the same noises."""
    return drawn(
        guidance.classifier_free(digit, w), DIGIT, torch.full((10,), 7), digit_grid
    )


# %% tags=["widget", "fold"]
# @title Sevens by w
explore(
    lambda w: image_grid(sevens(w), columns=10, size=0.8, title=f"w = {w:g}"),
    alt="Ten digits drawn from the same noises, asked to be sevens with weight w.",
    w=slider("w", 0.0, 8.0, 1.0, 0.5),
)

# %% tags=["figure", "fold"]
# @title Sevens at five weights
show(
    image_grid(
        torch.cat([sevens(w) for w in (0.0, 1.0, 2.0, 4.0, 8.0)]),
        columns=10,
        row_labels=[f"w = {w}" for w in (0, 1, 2, 4, 8)],
        size=0.7,
    ),
    "Five rows of ten digits from the same noises. Without guidance any digit; at 1 "
    "most are sevens, of many hands; at 2 all are; at 4 and 8 alike, thick, angular.",
)

# %% [markdown]
# *At 0 any digit comes; at 1 mostly sevens, of all hands; at 2 all of them are; beyond, they grow alike and bold.* In
# numbers, for forty noises: how many the classifier calls a seven, and how far apart two of them are on average, beside
# forty real sevens.

# %%
classifier = load_classifier("mnist", lesson.device)


def classes_of(images: Tensor) -> Tensor:
    """What the classifier sees."""
    return look_at(classifier, denormalize(images))[1]


def variety(images: Tensor) -> float:
    """The mean distance between two of the pictures, root mean square over pixels."""
    return (torch.pdist(images.flatten(1)) / images[0].numel() ** 0.5).mean().item()


forty = torch.full((40,), 7)
spread = {}
for w in (1.0, 2.0, 4.0):
    got = drawn(guidance.classifier_free(digit, w), DIGIT, forty, digit_grid)
    spread[w] = variety(got)
    hits = (classes_of(got) == 7).sum().item()
    varies(f"w = {w:g}: {hits} of 40 are sevens, {spread[w]:.3f} apart")
tests, truth = load_images("mnist", "test")
real = normalize(tests[truth == 7][:40])
varies(f"real : {(classes_of(real) == 7).sum()} of 40, {variety(real):.3f} apart")
assert spread[4.0] < spread[1.0]

# %% [markdown]
# *What is insisted on comes, and what was not asked for goes: the sevens lose what sets one hand apart from another.*
#
# ## 4 · What are we drawing from?
#
# The guided score is the gradient of $\log q(x_t) + w \log q(c \mid x_t)$. So one reads that guidance draws from
#
# $$p_w(x_0) \propto p(x_0)\,p(c \mid x_0)^w: \tag{15.5}$$
#
# pictures weighted by how sure the classifier is. **It does not**, and the reason fits in a line: at level $t$ the guided
# score belongs to $q(x_t)\,q(c \mid x_t)^w$, while a sampler of $p_w$ would need the score of *$p_w$ made noisy*. Making
# noisy averages over pictures, and the power of an average is not the average of powers.
#
# Two Gaussians show it in closed form. Let everything be $\mathcal N(0, a)$, and the class $\mathcal N(0, b)$, $b < a$. By (15.4)
# the guided score at noise $r = \sigma/\alpha$ is a line, $-g(r)\,y$ with $y = x/\alpha$ and
# $g = w/(b + r^2) + (1 - w)/(a + r^2)$. By Tweedie's formula $\hat x_0 = y - r^2 g\,y$, so lesson 11's equation,
# $\mathrm dy/\mathrm dr = (y - \hat x_0)/r$, becomes $\mathrm dy/\mathrm dr = r\,g(r)\,y$. Its solution is
# $y \propto (b + r^2)^{w/2}\,(a + r^2)^{(1-w)/2}$, which at large $r$ grows like $r$, as noise does. At $r = 0$ what is
# left of unit noise has
#
# $$\text{variance drawn} = b^{\,w}\,a^{1-w}, \qquad \text{variance of } p_w = \Bigl(\frac wb + \frac{1 - w}a\Bigr)^{-1}. \tag{15.6}$$
#
# A geometric mean, and a harmonic one.

# %%
# Eq. (15.6)
a, b, w = 2.0, 0.5, 2.0
ve = schedules.VE(0.002, 200.0)
everything, the_class = (
    GaussianMixture(torch.zeros(1, 1).double(), v).denoiser(ve) for v in (a, b)
)
x_T = torch.full((1, 1), 200.0).double()  # one standard deviation of the noise
lines = guidance.away_from(the_class, everything, w)
end = samplers.sample_heun(lines, x_T, ve, samplers.log_snr_grid(ve, 200)).item()
assert abs(end**2 - b**w * a ** (1 - w)) < 1e-3
print(
    f"drawn {end**2:.4f}, by (15.6) {b**w * a ** (1 - w):.4f}; "
    f"p_w has {1 / (w / b + (1 - w) / a):.4f}"
)

# %% [markdown]
# Now a line with three spots, of which the right two are the class. On a line the flow of the ODE keeps the order of its
# points, so its law can be drawn from 1,000 quantiles with no chance in it. We measure the distance between two laws by
# the area between their distribution functions (Wasserstein's).

# %%
centres = torch.tensor([[-1.2], [0.5], [1.9]]).double()
widths = torch.tensor([[0.3], [0.08], [0.2]]).double()
line = GaussianMixture(centres, widths, torch.tensor([0.5, 0.3, 0.2]))
right_two = GaussianMixture(centres[1:], widths[1:], torch.tensor([0.6, 0.4]))
axis_x = torch.linspace(-4, 5, 3001, dtype=torch.float64)[:, None]
dx = (axis_x[1] - axis_x[0]).item()


def sharpened(w: float) -> Tensor:
    """The density of p_w on the axis: p(x)^(1-w) p(x | c)^w, made to sum to 1."""
    log_p = (1 - w) * line.log_prob(axis_x) + w * right_two.log_prob(axis_x)
    p = torch.softmax(log_p, 0)
    return p / dx


def apart(x: Tensor, density: Tensor) -> float:
    """The area between the distribution functions of points and of a density."""
    points = x.flatten().sort().values
    below = torch.searchsorted(points, axis_x[:, 0].contiguous()).double() / len(points)
    return ((below - density.cumsum(0) * dx).abs().sum() * dx).item()


N = 1000
quantiles = torch.distributions.Normal(0.0, 1.0).icdf(
    ((torch.arange(N) + 0.5) / N).double()
)[:, None]


def on_the_line(w: float, steps: int, ancestral: bool) -> Tensor:
    """Guided draws with exact denoisers."""
    both = guidance.away_from(right_two.denoiser(schedule), line.denoiser(schedule), w)
    grid = samplers.uniform_grid(schedule, steps)
    if not ancestral:
        return samplers.sample_ddim(both, quantiles, schedule, grid)
    x_T = torch.randn(N, 1, generator=lesson.generator, dtype=torch.float64)
    return samplers.sample_ddpm(both, x_T, schedule, grid, generator=lesson.generator)


# %% [markdown]
# With $w = 1$ only the steps are to blame, and more of them help. With $w > 1$?

# %%
far = {
    (name, w, steps): apart(on_the_line(w, steps, name == "DDPM"), sharpened(w))
    for name in ("DDIM", "DDPM")
    for w in (1.0, 1.5, 2.0, 3.0, 5.0)
    for steps in (10, 50, 200)
}
for name in ("DDIM", "DDPM"):
    for steps in (10, 50, 200):
        row = (f"{far[name, w, steps]:6.2f}" for w in (1.0, 1.5, 2.0, 3.0, 5.0))
        varies(f"{name}, {steps:3} steps, w = 1, 1.5, 2, 3, 5:", *row)
assert far["DDIM", 1.0, 200] < 0.05 < 0.5 < far["DDIM", 3.0, 200]
assert abs(far["DDIM", 3.0, 200] - far["DDIM", 3.0, 50]) < 0.1
assert far["DDPM", 3.0, 200] < far["DDIM", 3.0, 200]


# %% tags=["widget", "fold"]
# @title Drawn, and what one thinks is drawn
def laws(w: float, steps: int = 200) -> plt.Figure:
    """The density p_w, the class's own, and histograms of both samplers."""
    figure, axis = plt.subplots(figsize=(7.5, 2.9))
    axis.plot(axis_x[:, 0], sharpened(w), color=BLACK, label="p(x) p(c | x)^w")
    own = right_two.log_prob(axis_x).exp()
    axis.plot(axis_x[:, 0], own, ":", color=BLACK, label="p(x | c)")
    for name, colour in (("DDIM", BLUE), ("DDPM", ORANGE)):
        points = on_the_line(w, steps, name == "DDPM").flatten()
        axis.hist(
            points.tolist(),
            bins=80,
            range=(-1, 4),
            density=True,
            histtype="step",
            color=colour,
            lw=1.5,
            label=f"drawn by {name}",
        )
    axis.set(xlim=(-1, 4), yticks=[], title=f"w = {w:g}, {steps} steps")
    axis.legend(fontsize=8)
    return figure


explore(
    lambda w: laws(w, 50),
    alt="The density of p_w and the histograms that DDIM and DDPM draw at weight w.",
    w=slider("w", 0.0, 5.0, 3.0, 0.5),
)

# %% tags=["figure", "fold"]
# @title The same, for a page without a kernel
show(
    laws(3.0),
    "The density p(x) p(c|x)^3 has two bumps, hardly narrower than the class's own. "
    "What DDIM draws at w = 3 lies mostly under the right one; DDPM's draws lie "
    "between the two laws.",
)

# %% [markdown]
# *For $w = 3$ the distance settles, at a value that no number of steps brings down, and another one for each sampler.* (15.5)
# keeps both bumps and sharpens little. Guided sampling prefers the right bump, far from the other class, and makes it narrow at larger $w$:
# early on, in much noise, the push already decides which bump a sample will go to. DDPM forgets some of the overshoot in
# its fresh noise, so it comes nearer. Guidance is useful; but "it samples from $p(x)\,p(c \mid x)^w$" is not why.
#
# ## 5 · Where to insist, and away from what
#
# **In an interval.** In nearly pure noise the two guesses differ in everything that classes differ in on average, and
# insisting there throws away whole kinds of pictures. In nearly clean ones the class is settled, and insisting only
# hardens edges. So guide in the middle (Kynkäänniemi et al., 2024):
#
# $$\hat x_0 = \hat x_0(x_t) + w(t)\,\bigl(\hat x_0(x_t, c) - \hat x_0(x_t)\bigr), \qquad
# w(t) = \begin{cases} w & \text{low} \le \log \mathrm{SNR}(t) \le \text{high} \\ 1 & \text{elsewhere.}\end{cases} \tag{15.7}$$
#
# The interval is one of *noise levels*. Numbers of steps would mean another interval on each grid. And outside of it one
# call is enough: `guidance.in_interval` makes no other.
#
# ### Exercise 4 · Guided in an interval
# *10 minutes · medium · Eq. (15.7).* Each image of the batch has a noise level of its own. Both ends belong to the interval.


# %% tags=["exercise"] exercise="15.interval" points=2
# Exercise 15.interval
def led_within(
    uncond: Tensor, cond: Tensor, log_snr: Tensor, w: float, low: float, high: float
) -> Tensor:
    """Eq. (15.7). uncond, cond: (b, …); log_snr: (b,), float64."""
    ### BEGIN SOLUTION
    inside = (low <= log_snr) & (log_snr <= high)
    weight = torch.where(inside, w, 1.0).to(uncond.dtype)
    weight = weight.reshape(-1, *[1] * (uncond.ndim - 1))
    return uncond + weight * (cond - uncond)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# First `inside`, of truth values, (b,): `&` joins two conditions. Then `torch.where(inside, w, 1.0)`, as a column, in
# the dtype of the guesses.
# </details>

# %% tags=["check"]
check("15.interval", led_within)

# %% [markdown]
# *Narrow the interval from both sides, at $w = 5$. Which end costs variety, which one hardness?*


# %% tags=["widget", "fold"]
# @title Threes by w and interval
def threes(w: float, interval: tuple) -> Tensor:
    """Ten threes, guided by w between two log-SNRs."""
    guided = guidance.classifier_free(digit, w)
    limited = guidance.in_interval(guided, digit, schedule, *interval)
    return drawn(limited, DIGIT, torch.full((10,), 3), digit_grid)


explore(
    lambda w, interval: image_grid(threes(w, interval), columns=10, size=0.8),
    alt="Ten digits drawn from the same noises, asked to be threes with weight w "
    "between two noise levels.",
    w=slider("w", 0.0, 8.0, 5.0, 0.5),
    interval=span("log-SNR from … to", -10.0, 10.0, (-4.0, 3.0), 0.5),
)

# %% tags=["figure", "fold"]
# @title Threes guided everywhere, in the middle, and nowhere
spans = {"everywhere": (-20, 20), "-4 … 3": (-4, 3), "only below -4": (-20, -4)}
show(
    image_grid(
        torch.cat(
            [threes(5.0, span) for span in spans.values()] + [threes(1.0, (0, 0))]
        ),
        columns=10,
        row_labels=[*spans, "nowhere"],
        size=0.7,
    ),
    "Four rows of ten threes from the same noises. Guided everywhere with w = 5 they "
    "are bold and alike; in the middle some keep their hands; in much noise alone they "
    "are as bold as everywhere; the last row is plain, and two are no threes.",
)

# %% [markdown]
# **Away from a worse self.** In (15.4) the negative, the guess without a class, is also a *worse* guess. How much of what
# guidance does comes from the class, and how much from leaving bad guesses behind? Take as the negative a worse network
# that hears the *same* class (Karras et al., 2024), and say that both err in the same direction, the worse one $\rho$
# times as far: $\hat x_0 = x^* + e$, $\hat x_0^- = x^* + \rho\,e$. Then
#
# $$\hat x_0^- + w\,(\hat x_0 - \hat x_0^-) = x^* + \bigl(w - (w - 1)\,\rho\bigr)\,e, \qquad \text{no error at } w = \frac{\rho}{\rho - 1}. \tag{15.8}$$
#
# On our line a network that blurs is the exact denoiser of spots that are too wide. Let one be too wide by 0.05, the other
# by 0.15: $\rho = 3$ to first order, and $w$ should be 1.5.

# %%
# Eq. (15.8)
better, worse = (
    GaussianMixture(centres[1:], widths[1:] + more, right_two.weights).denoiser(
        schedule
    )
    for more in (0.05, 0.15)
)
hundred = samplers.uniform_grid(schedule, 100)
missed = {
    w: apart(
        samplers.sample_ddim(
            guidance.away_from(better, worse, w), quantiles, schedule, hundred
        ),
        right_two.log_prob(axis_x).exp(),
    )
    for w in (0.0, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0)
}
for w, distance in missed.items():
    print(f"w = {w:4}: {distance:.3f} from the truth")
assert missed[1.5] < missed[1.0] / 2 < missed[0.0] / 4

# %% [markdown]
# *Two blurred denoisers make a sharp one.* No class was needed: both hear the same one. A worse version of the digits'
# network ships as well, `mnist-unet-weak`, a sixteenth of its size and trained for a thirtieth of its steps:

# %% tags=["figure", "fold"]
# @title A worse network, a better one, and away from the worse
weak = fast(load_network("mnist-unet-weak", lesson.device))
autoguided = {
    "the worse": weak,
    "the better": digit,
    "w = 2": guidance.away_from(digit, weak, 2.0),
    "w = 4": guidance.away_from(digit, weak, 4.0),
}
show(
    image_grid(
        torch.cat(
            [drawn(one, DIGIT, ten, digit_grid, 3) for one in autoguided.values()]
        ),
        columns=10,
        row_labels=list(autoguided),
        size=0.7,
    ),
    "Four rows of the digits 0 to 9 from the same noises. The worse network's are "
    "ragged; the better one's are digits, but for a doubtful 7; at w = 2 all are clean "
    "digits of the same hands; at w = 4 specks of noise appear around them.",
)

# %% [markdown]
# **Away from a class.** The negative may be another class, "a shirt, and not *this* shirt". With no class asked for, the
# line away from class $c$, $\hat x_0(c) + w\,(\hat x_0 - \hat x_0(c))$, has the score of $q(x_t) / q(c \mid x_t)^{w-1}$. Is
# that "anything but $c$"? By the law of total
# probability, as in (8.7), the guess without a class is a mean, $\hat x_0 = p\,\hat x_0(c) + (1 - p)\,\hat x_0(\text{not } c)$, with
# $p = q(c \mid x_t)$. Solve for the guess of everything else:
#
# $$\hat x_0(\text{not } c) = \hat x_0(c) + \frac{1}{1 - p}\,\bigl(\hat x_0 - \hat x_0(c)\bigr). \tag{15.9}$$
#
# It is our line, but with a $w$ of its own at each $x_t$: 1 where nothing looks like $c$, and without bound where all
# does. A constant $w$ pushes everywhere, also where there was nothing to avoid. In the world of three hundred digits:

# %%
# Eq. (15.9)
p = world.class_posterior(x_t, 600)[:, 7]
others = IdealDenoiser(world.images.reshape(300, *DIGIT)[names != 7], schedule)
for i, own in enumerate((1 / (1 - p)).tolist()):
    but_seven = guidance.away_from_class(world, 7, own)(x_t[i : i + 1], 600)
    torch.testing.assert_close(
        but_seven, others(x_t[i : i + 1], 600), atol=1e-6, rtol=0
    )
print("w at six digits:", ", ".join(f"{1 / (1 - one):.2f}" for one in p.tolist()))

# %% [markdown]
# ## 6 · What it buys and what it costs
#
# Now the photographs. Each point below is a measurement that `course bench guidance` made and stored: 500 photographs,
# one seed, DPM-Solver++ 2M on ten quadratic steps; FID against the 5,000 embedded training images, with a 95 % interval for
# other noises, and the floor of 500 real pictures. Precision is the share of samples that lie among real pictures, recall the
# share of real ones that lie among samples (lesson 09), agreement the share that the classifier sees as the class asked
# for; their intervals are Wilson's, for 500.


# %% tags=["fold"]
# @title The stored measurements
MEASURES = ("fid", "precision", "recall", "agreement")
LOOKS = {
    "classifier-free": (BLUE, "o"),
    "in an interval": (ORANGE, "s"),
    "autoguidance": (GREEN, "D"),
    "classifier": (PINK, "^"),
}


def sweep_of(name: str, n: int) -> list:
    """The stored measurements with n samples and ten steps."""
    return [row for row in load_guided(name) if row.n == n and row.steps == 10]


# %% tags=["fold"]
# @title Drawing a sweep
def sweep(rows: list, title: str) -> plt.Figure:
    """Four measures against w, a line a method, with the values of real pictures."""
    figure, axes = plt.subplots(1, 4, figsize=(12, 3))
    real = rows[0]
    floors = (real.floor, real.real_precision, real.real_recall)
    for axis, floor in zip(axes, floors, strict=False):
        axis.axhline(floor, color=BLACK, ls=":", lw=1, label="real pictures")
    for method, (colour, marker) in LOOKS.items():
        # At w = 1 all are the same, but the one that pushes a network told no class
        shared = "classifier-free" if method != "classifier" else method
        mine = [
            row
            for row in rows
            if row.method == method or (row.w == 1 and row.method == shared)
        ]
        mine.sort(key=lambda row: row.w)
        if len(mine) < 2:
            continue  # of this method nothing is stored
        ws, style = [row.w for row in mine], {"marker": marker, "ms": 4, "lw": 1.3}
        for axis, what in zip(axes, MEASURES, strict=True):
            values = [getattr(row, what) for row in mine]
            ends = [
                (row.low, row.high)
                if what == "fid"
                else share(round(row.n * value), row.n)[1:3]
                for row, value in zip(mine, values, strict=True)
            ]
            axis.plot(ws, values, color=colour, label=method, **style)
            axis.vlines(ws, *zip(*ends, strict=True), colour, lw=1)
            axis.set(xlabel="w", title="FID" if what == "fid" else what)
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure


# %% tags=["fold"]
# @title Which w is best by which measure
def best(rows: list) -> str:
    """Which w is best by which measure, with its interval."""
    lines = []
    for what in MEASURES:
        sign = -1 if what == "fid" else 1
        top = max(rows, key=lambda row: (sign * getattr(row, what), -row.w))
        if what == "fid":
            text = f"{top.fid:.3g} [{top.low:.3g}, {top.high:.3g}]"
        else:
            found = share(round(getattr(top, what) * top.n), top.n)
            text = f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"
        lines.append(f"{what:10} best at w = {top.w:g}, {top.method}: {text}")
    return "\n".join(lines)


# %% [markdown]
# *Before you look: what did you guess?*

# %% tags=["figure", "fold"]
# @title Photographs against w
photo_rows = sweep_of("cifar10-unet", 500)
show(
    sweep(photo_rows, "cifar10-unet, n = 500, DPM-Solver++ 2M, 10 quadratic steps"),
    "Four panels against w, for guidance everywhere and in an interval. FID falls from "
    "above 4 at w = 0 to about 1 at 3; everywhere, it rises again to 5, always above "
    "the floor; precision passes that of real pictures; recall is highest near 1.5, "
    "below theirs, and falls; agreement rises all the way, to above 0.9.",
)
varies(best(photo_rows))
free_rows = {row.w: row for row in photo_rows if row.method == "classifier-free"}
assert free_rows[3.0].agreement > 0.85
assert free_rows[3.0].high < free_rows[1.0].low

# %% [markdown]
# *Guided with $w = 3$, nearly nine of ten photographs are of the class asked for, where half were; and FID is less than
# half of what it was, far beyond the intervals.* Insist more, and the class comes still more often, while FID turns and
# rises again. Precision passes that of real pictures: samples crowd where real ones are dense. Recall pays as soon as one
# insists at all hard. In the interval the same $w$ does less; but at $w = 5$, where plain guidance is past its best, it keeps
# more of recall, for three calls where that one makes four. So each measure has its own best $w$, and "the best $w$" without
# a measure means nothing.
#
# Digits are another matter: this network is nearly as good as its training set, and there is little to lead away from.
# Two thousand of them, in ten uniform steps, measured by the same command:

# %% tags=["figure", "fold"]
# @title Digits against w
digit_rows = sweep_of("mnist-unet", 2000)
show(
    sweep(digit_rows, "mnist-unet, n = 2,000, DPM-Solver++ 2M, 10 uniform steps"),
    "Four panels against w. FID falls from 0.4 or more at w = 0 to the floor of real "
    "digits at w = 1; guided away from the worse network it stays there up to 2, and "
    "at 5 it is the highest of the three that are told the class; the classifier's "
    "line is far above. Above w = 1 precision rises for two methods; with the worse "
    "network it falls from 3 on. Recall falls for all, least for the classifier, whose "
    "recall is above that of real digits and precision far below. Agreement is nearly "
    "one from w = 1 on, but for the classifier.",
)
varies(best(digit_rows))
free_digits = {row.w: row for row in digit_rows if row.method == "classifier-free"}
away = {row.w: row for row in digit_rows if row.method == "autoguidance"}
pushed_digits = {row.w: row for row in digit_rows if row.method == "classifier"}
assert free_digits[1.0].high < free_digits[2.0].low
assert away[1.5].low < free_digits[1.0].fid < away[1.5].high
own_class = share(round(away[1.5].n * away[1.5].agreement), away[1.5].n)
assert own_class.low > free_digits[1.0].agreement
assert pushed_digits[1.0].agreement < free_digits[1.0].agreement / 2

# %% [markdown]
# *Here $w = 1$ has a better FID than insisting at 2, beyond the intervals, and as good a one as real digits have; insisting brings
# two more in a hundred to their class, and pays with recall.*
#
# Leading away from a worse self buys less, and pays less: at $w = 1.5$ it brings 99.0 % to their class where 97.7 % were, and FID and recall
# are what they were, within their intervals. (In an interval, the same $w$ brings 99.9 %, for 0.83 of recall where 0.88 was.) What it
# saves for certain is work: the worse network is a sixteenth of the size, so a guided step costs little more than a plain one, where
# ordinary guidance costs two.
#
# The classifier's push is another surprise. By Bayes $w = 1$ should be as good as being told the class, and in the world of three
# hundred digits it was, to rounding. Here a third come to be of the class, and FID is worse than without any push: 0.97, where the network
# that is told no class has 0.38 (the first point of the classifier-free line). Dhariwal and Nichol also found $w = 1$ too weak on
# photographs, and pushed ten times as hard. The equation is exact; the classifier is not: it was trained to answer, and we use its
# slope. (Ten steps may be to blame as well: that was not measured.)
#
# Ten thousand digits and 25 DDPM steps tell finer differences:

# %%
for row in load_guided("mnist-unet"):
    if row.n == 10_000:
        print(
            f"{row.method:16} w = {row.w:<5g} FID {row.fid:.4f} [{row.low:.4f}, "
            f"{row.high:.4f}], recall {row.recall:.3f}, agreement {row.agreement:.2%}"
        )
print(f"real digits{'':14} FID {row.floor:.4f}, recall {row.real_recall:.3f}")

# %% [markdown]
# *Insisting costs recall either way.* Ordinary guidance at $w = 1.25$ and the worse self at $w = 2$ both have 0.81 where plain asking
# has 0.83, beyond the intervals of a share of ten thousand; 99.75 % and 99.5 % are of their class where 98.6 % were. Their FIDs are
# 0.024 and 0.018, with intervals that overlap; only the first is beyond that of plain asking, 0.007. At $w = 1.5$ the worse self brings
# 99.2 %, and its FID, 0.013, and its recall, 0.82, cannot be told from plain asking's. How much a class is worth to you is no
# question of mathematics.
#
# Back to photographs, the wall: four of each class, guided, from noises that nobody chose.

# %% tags=["figure", "fold"]
# @title The wall of guided photographs
wall = torch.arange(40) // 4
guided_photos = guidance.classifier_free(photos, 3.0)
show(
    image_grid(
        torch.cat(list(drawn(guided_photos, PHOTO, wall, photo_grid, 15).split(10))),
        columns=10,
        size=0.85,
    ),
    "Forty small photographs in four rows: airplanes, automobiles, birds, cats, deer, "
    "dogs, frogs, horses, ships and trucks, four of each in reading order, many of "
    "them easily named, with strong colours.",
)

# %% [markdown]
# ## 7 · A picture with a hole
#
# Now a part of the picture is known, $y$ (from here on that is what $y$ means), and the rest is wanted: a draw of
# $p(x_0 \mid \text{its known part is } y)$. For
# a mixture of Gaussians that law is again a mixture. Write $u$ for the unknown coordinates and $k$ for the known ones; for
# each part, with mean $\mu$ and covariance $S$,
#
# $$\mu_{u|k} = \mu_u + S_{uk} S_{kk}^{-1} (y - \mu_k), \qquad S_{u|k} = S_{uu} - S_{uk} S_{kk}^{-1} S_{ku}, \tag{15.10}$$
#
# and its weight is multiplied by $\mathcal N(y; \mu_k, S_{kk})$, by how well it explains what is known. So in two dimensions,
# with the first coordinate known, we can say exactly what the methods below should draw.

# %%
# Eq. (15.10)
three = GaussianMixture(
    torch.tensor([[-1.5, -1.0], [0.3, 1.2], [1.4, -0.6]]).double(),
    torch.tensor(
        [
            [[0.20, 0.12], [0.12, 0.15]],
            [[0.10, -0.05], [-0.05, 0.20]],
            [[0.25, 0.15], [0.15, 0.20]],
        ]
    ).double(),
    torch.tensor([0.4, 0.3, 0.3]),
)
y, mask = torch.tensor([0.2, 0.0]).double(), torch.tensor([True, False])
exact = inpainting.conditional(three, y, mask)
whole = torch.cat([torch.full_like(axis_x, 0.2), axis_x], 1)
by_bayes_on_a_grid = torch.softmax(three.log_prob(whole), 0) / dx
right = exact.log_prob(axis_x).exp()
torch.testing.assert_close(right, by_bayes_on_a_grid, atol=1e-6, rtol=0)
print("weights of the three parts, given the known:", exact.weights.numpy().round(3))

# %% [markdown]
# **Replacement.** At each step, let the sampler do as it likes, and then paste over what is known, with the noise that it
# would have at this level (Song et al., 2021): with fresh $z$,
#
# $$x_s^{\text{known}} = \alpha_s\,y + \sigma_s\,z, \qquad x_s^{\text{unknown}} \text{ as the sampler left it.} \tag{15.11}$$
#
# The picture has come from $t$ to $s$, so the known pixels need the noise of $s$, the *new* level. At $s = 0$ the truth is
# pasted itself.
#
# ### Exercise 5 · What is known, pasted in
# *10 minutes · medium · Eq. (15.11).* The mask is true where the picture is known. $y$ and the mask have no batch
# dimension, and the mask of an image has no channels either: `torch.where` spreads it over both.


# %% tags=["exercise"] exercise="15.paste" points=2
# Exercise 15.paste
def paste(
    x_s: Tensor,
    y: Tensor,
    mask: Tensor,
    z: Tensor,
    alpha_bar: Tensor,
    t: int,
    s: int,
) -> Tensor:
    """x_s of Eq. (15.11), after a step from t to s. x_s, z: (b, …); mask: bool."""
    ### BEGIN SOLUTION
    known = alpha_bar[s].sqrt() * y + (1 - alpha_bar[s]).sqrt() * z
    return torch.where(mask, known, x_s)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# First the known picture at level $s$, as if nothing else were there; `torch.where(mask, …, …)` then chooses pixel by
# pixel, and spreads the mask over the batch.
# </details>

# %% tags=["check"]
check("15.paste", paste)

# %% [markdown]
# In our frame there is a shorter way. Put $y$ into the *guess*, $\hat x_0 \leftarrow y$ where it is known
# (`inpainting.with_known`): any sampler then carries the known pixels to every level by itself, since for them its guess
# is right.
#
# What is missing? The unknown part hears of $y$ only through $x_t$, in which $y$ is drowned in noise when the large decisions
# fall. So the parts do not fit. **Resampling** (RePaint, Lugmayr et al., 2022) gives them time: from $s$ go back up to
# $t$ with fresh noise, and come down again, several rounds *at each step*. The way up is the forward process of lesson 01,
# from $s$ to $t$,
#
# $$x_t = \sqrt{\frac{\bar\alpha_t}{\bar\alpha_s}}\;x_s + \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_s}}\;z. \tag{15.12}$$
#
# ### Exercise 6 · Back up again
# *15 minutes · medium · Eq. (15.12).* The variance of the new noise is what $\sigma_t^2$ has beyond the shrunken $\sigma_s^2$;
# convince yourself that it is what stands under the second root.


# %% tags=["exercise"] exercise="15.up_again" points=2
# Exercise 15.up_again
def up_again(x_s: Tensor, z: Tensor, alpha_bar: Tensor, t: int, s: int) -> Tensor:
    """x_t of Eq. (15.12) from x_s, s < t."""
    ### BEGIN SOLUTION
    ratio = alpha_bar[t] / alpha_bar[s]
    return ratio.sqrt() * x_s + (1 - ratio).sqrt() * z
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Like $x_t$ from $x_0$ in lesson 01, with $\bar\alpha_t/\bar\alpha_s$ in the place of $\bar\alpha_t$; for $s = 0$ it is
# that.
# </details>

# %% tags=["check"]
check("15.up_again", up_again)

# %% [markdown]
# **By gradient** (DPS, Chung et al., 2023). As in (15.1), with "the known part is $y$" in the place of the class:
# $\nabla \log q(x_t \mid y) = \nabla\log q(x_t) + \nabla \log q(y \mid x_t)$. Nobody knows $q(y \mid x_t)$, but
# there is a guess: $y$ is near the known part of $\hat x_0(x_t)$, give or take what the guess does not know, a variance
# $\tau_t^2$. For data of variance $\delta^2$ a Gaussian says, as in (5.10),
# $\tau_t^2 = \delta^2\sigma_t^2 / (\alpha_t^2\delta^2 + \sigma_t^2)$.
# With (15.2),
#
# $$\hat x_0 \leftarrow \hat x_0 - \frac{\sigma_t^2}{\alpha_t}\,\nabla_{x_t}\,\frac{\lvert y - \hat x_0(x_t)\rvert^2_{\text{known}}}{2\,\tau_t^2}. \tag{15.13}$$
#
# The gradient goes *through the denoiser*, so the unknown part hears of $y$ as the denoiser ties them together. What is
# left out is that $q(y \mid x_t)$ is no Gaussian of one width. All three against (15.10):

# %%
# Eq. (15.11), Eq. (15.12) and Eq. (15.13)
free = three.denoiser(schedule)
seen = mask.double()
by_slope = inpainting.towards(free, lambda x: seen * x, seen * y, schedule)
M = 2000
hole = {"known": y, "mask": mask, "generator": lesson.generator}


def filled(method: str, steps: int) -> Tensor:
    """M fillings of the second coordinate, (M, 2)."""
    grid = samplers.uniform_grid(schedule, steps)
    x_T = torch.randn(M, 2, generator=lesson.generator, dtype=torch.float64)
    if method == "gradient":
        pinned = inpainting.with_known(by_slope, y, mask)
        how = {"generator": lesson.generator}
        return samplers.sample_ddpm(pinned, x_T, schedule, grid, **how)
    rounds = int(method.split()[-1]) if "rounds" in method else 1
    return inpainting.sample_repaint(free, x_T, schedule, grid, rounds=rounds, **hole)


budget = {
    "replacement": (10, 50, 200),
    "gradient": (10, 50, 200),
    "rounds: 5": (10, 40),
    "rounds: 20": (10,),
    "rounds: 50": (10,),
}
gap = {
    (method, steps): apart(filled(method, steps)[:, 1], right)
    for method, many in budget.items()
    for steps in many
}
gap["exact", 0] = apart(exact.sample(M, lesson.generator), right)
for (method, steps), distance in gap.items():
    rounds = int(method.split()[-1]) if "rounds" in method else 1
    calls = f"{steps} steps, {steps * rounds} calls" if steps else "the floor"
    varies(f"{method:12} {calls:20}: {distance:.2f} from the exact law")
assert gap["replacement", 200] > 2 * gap["rounds: 50", 10] > 0
assert gap["rounds: 50", 10] < gap["rounds: 5", 10] < gap["replacement", 10]
assert gap["gradient", 200] < gap["replacement", 200]

# %% tags=["figure", "fold"]
# @title What each method fills in, beside the exact law
figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), sharey=True)
for axis, (method, steps) in zip(
    axes,
    [("replacement", 200), ("gradient", 200), ("rounds: 5", 10), ("rounds: 50", 10)],
    strict=True,
):
    axis.hist(
        filled(method, steps)[:, 1].tolist(),
        bins=60,
        range=(-3, 3),
        density=True,
        color=SKY,
        label="drawn",
    )
    axis.plot(axis_x[:, 0], right, color=BLACK, lw=1.3, label="exact")
    axis.set(xlim=(-3, 3), yticks=[], title=f"{method}, {steps} steps")
axes[0].legend(fontsize=8)
show(
    figure,
    "Four histograms of the unknown coordinate over the exact density, one bump at "
    "1.25. Replacement puts most of its draws near -1, the gradient still many; with "
    "rounds they move to the right bump, with fifty nearly all.",
)

# %% [markdown]
# *More steps do not mend replacement: its fault is none of step size.* Rounds do, slowly, each at the price of a call a step. The
# gradient is better at once, and stops at what its Gaussian leaves out. (To each of its calls belongs a way back through the
# network, worth two more.) Now digits. More than half of a 7 is
# hidden, from the top; nobody tells the network that it is one.

# %%
original = normalize(load_images("mnist", "test", n=18)[0])[17:18]  # a seven
HIDDEN = (2, 4, 18, 24)  # top, left, bottom, right


def fillings(
    box: tuple, method: str, n: int = 8, ask: int | None = None, w: float = 1.0
) -> Tensor:
    """n digits with the box filled in by one of three methods, guided if asked for."""
    known, mask = original.to(lesson.device), inpainting.box_mask(28, 28, *box)
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(n, *DIGIT, generator=generator).to(lesson.device)
    grid, how = samplers.uniform_grid(schedule, 20), {"generator": generator}
    led = digit if ask is None else guidance.classifier_free(digit, w)
    cond = {} if ask is None else {"label": torch.full((n,), ask).to(lesson.device)}
    if method == "gradient":
        m = mask.to(lesson.device, torch.float32)
        slope = inpainting.towards(
            led, lambda x: m * x, m * known, schedule, data_std=0.6
        )
        pinned = inpainting.with_known(slope, known, mask)
        return samplers.sample_ddpm(pinned, x_T, schedule, grid, **how, **cond).cpu()
    how |= {"known": known, "mask": mask, "rounds": 1 if method == "replacement" else 8}
    return inpainting.sample_repaint(led, x_T, schedule, grid, **how, **cond).cpu()


# %% tags=["figure", "fold"]
# @title Eight fillings by each method
hidden = torch.where(inpainting.box_mask(28, 28, *HIDDEN), original, 0.0)
rows = {
    method: fillings(HIDDEN, method)
    for method in ("replacement", "resampling", "gradient")
}
show(
    image_grid(
        torch.cat([torch.cat([hidden, x]) for x in rows.values()]),
        columns=9,
        row_labels=list(rows),
        size=0.75,
    ),
    "Three rows: a digit whose upper part is a grey box, and eight fillings. By "
    "replacement strokes often do not meet at the border of the box; by resampling "
    "and by gradient most digits are whole.",
)

# %% [markdown]
# *Move the box, and ask for a class, as strictly as you like: a guided denoiser is a denoiser. What does the network
# invent when only the foot is left, and when will it make an 8 of it?*


# %% tags=["widget", "fold"]
# @title Hide a box, and see several fillings
def boxed(
    rows: tuple, columns: tuple, method: str, ask: int | None, w: float
) -> plt.Figure:
    """The picture with its hole, and five fillings."""
    box = (rows[0], columns[0], rows[1], columns[1])
    hidden = torch.where(inpainting.box_mask(28, 28, *box), original, 0.0)
    shown = torch.cat([hidden, fillings(box, method, 5, ask, w)])
    return image_grid(shown, columns=6, size=1.1)


explore(
    boxed,
    alt="A digit with a hidden box, and several fillings of it.",
    rows=span("rows", 0, 28, (2, 18)),
    columns=span("columns", 0, 28, (4, 24)),
    method=choice("", ["replacement", "gradient", "resampling"]),
    ask=choice("class", {"none": None} | {str(d): d for d in range(10)}, 9),
    w=slider("w, for a class", 0.0, 5.0, 2.0, 0.5),
)

# %% [markdown]
# **From another picture** (SDEdit, Meng et al., 2022). No pixel is to stay, only the large shapes. Noise the picture to a
# level $t$, and sample from there:
#
# $$x_t = \alpha_t\,x_0 + \sigma_t\,\epsilon, \qquad \text{then the sampler, from } t \text{ to } 0. \tag{15.14}$$
#
# The level says how much is kept. In the perfect observer's terms of lesson 01: what is still legible at $t$ stays.

# %% tags=["figure"]
# Eq. (15.14)
levels = (1000, 700, 500, 350, 200)
generator = torch.Generator().manual_seed(0)
two = guidance.classifier_free(digit, 2.0)
remade = [original]
for t in levels:
    grid = [t * i // 10 for i in range(10, -1, -1)]
    x = original.to(lesson.device)
    how = {"generator": generator, "label": torch.tensor([9]).to(lesson.device)}
    step = inpainting.image_to_image(
        samplers.sample_ddim, two, x, schedule, grid, **how
    )
    remade.append(step.cpu())
show(
    image_grid(
        torch.cat(remade), titles=["original", *(f"t = {t}" for t in levels)], size=1.1
    ),
    "A seven, and five pictures made of it, asked to be nines, from falling noise "
    "levels: the first are nines and have little of it, the last is nearly the seven "
    "itself.",
)

# %% [markdown]
# ## 8 · What usually goes wrong
#
# **(a) $w$ against $1 + w$.** Someone reads "$w = 2$" in a paper that counts from 0, and types it into code that counts
# from 1. No error is raised; the pictures are weaker than the paper's. On the line of section 4, the width that DDIM
# draws:

# %%
for w in (0.5, 1.0, 2.0, 4.0):
    ours, theirs = (on_the_line(v, 50, False).std().item() for v in (w, 1 + w))
    print(f"w = {w}: standard deviation {ours:.2f} by (15.4), {theirs:.2f} by 1 + w")

# %% [markdown]
# **(b) The null class is class 0.** Zeros for "no label" look harmless. But then the negative is the guess for *class 0*:
# asking for zeros, guidance does nothing at all, and drawing without a class gives zeros.


# %%
def null_is_zero(x_t: Tensor, t: int, label: Tensor | None = None) -> Tensor:
    """A denoiser that hears class 0 where it should hear none."""
    label = torch.zeros(len(x_t), dtype=torch.long) if label is None else label
    return digit(x_t, t, label=label.to(x_t.device))


noise = torch.randn(4, *DIGIT, generator=lesson.generator).to(lesson.device)
zeros = torch.zeros(4, dtype=torch.long, device=lesson.device)
same = guidance.classifier_free(null_is_zero, 5.0)(noise, 500, label=zeros)
torch.testing.assert_close(same, digit(noise, 500, label=zeros), atol=0.05, rtol=0)
zeros_drawn = classes_of(drawn(null_is_zero, DIGIT, None, digit_grid))
varies("ten digits without a class:", zeros_drawn.tolist())
assert (zeros_drawn == 0).float().mean() > 0.5

# %% [markdown]
# **(c) Labels never dropped.** Then the row of "no class" is never trained, and holds the random numbers that it was made
# with. Two small networks on the line of section 4, alike but for this, beside the exact guesses:


# %%
class OnALine(torch.nn.Module):
    """A guess on the line, from x, the log-SNR, and the class or none."""

    def __init__(self):
        super().__init__()
        self.classes = torch.nn.Embedding(3, 8)  # row 0 is for none
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(10, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 1),
        )

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None):
        label = x.new_full((len(x),), -1).long() if label is None else label
        level = torch.tanh(log_snr[:, None] / 6)
        return self.layers(torch.cat([x, level, self.classes(label + 1)], 1))


points, part = line.sample(20_000, lesson.generator, return_parts=True)
trained = {}
for dropped in (0.1, 0.0):
    torch.manual_seed(lesson.seed)
    model = Denoiser(OnALine(), schedule, data_std=1.3)
    run = Training(model, lr=5e-3, ema=0.98, precision=torch.float32)
    task = Denoising(label_drop=dropped)
    how = {"steps": 500, "batch_size": 256, "task": task}
    for _ in train(run, points.float(), (part > 0).long(), **how):
        pass
    trained[dropped] = run.averaged()

# %% [markdown]
# How far their guesses are from the exact ones, root mean square over 2,000 points at four noise levels. What a row that was
# never trained says depends on the numbers it was made with; so it is made anew ten times.

# %%
x_0, one = points[:2000], torch.ones(2000, dtype=torch.long)


@torch.no_grad()
def error(net: Denoiser, exact: GaussianMixture, label: Tensor | None) -> float:
    """How far a network's guesses are from the exact ones."""
    squares = []
    for t in (200, 400, 600, 800):
        noise = forward.noise_like(x_0, lesson.generator)
        x_t = forward.q_sample(x_0, t, schedule, noise)
        guess = net(x_t.float(), t, label=label)
        squares.append((guess - exact.denoise(x_t, t, schedule)) ** 2)
    return torch.cat(squares).mean().sqrt().item()


without = {0.1: torch.tensor([error(trained[0.1], line, None)]), 0.0: torch.zeros(10)}
for i in range(10):
    row = torch.randn(8, generator=lesson.generator)
    trained[0.0].network.classes.weight.data[0] = row
    without[0.0][i] = error(trained[0.0], line, None)
wrong = {dropped: found.square().mean().sqrt() for dropped, found in without.items()}
for dropped, net in trained.items():
    told = error(net, right_two, one)
    varies(f"{dropped:.0%} dropped: with {told:.2f}, without {wrong[dropped]:.2f}")
varies(f"its ten rows: from {without[0.0].min():.2f} to {without[0.0].max():.2f}")
assert wrong[0.0] > 2 * wrong[0.1]

# %% [markdown]
# *With the class nothing shows, so such a network passes its first tests; and so does guidance at $w = 1$, where the
# negative cancels.* Without a class its guess is several times as wrong, more or less so as chance has it, and that is what
# guidance then leads away from.
#
# **(d) The known pixels at the old level, and (e) rounds outside of the loop.** In (d) the pasted pixels have the noise
# of $t$ when all else has that of $s$. In (e) somebody saw that resampling helps, and runs the *whole* chain again, from
# pure noise, ten times: twice as many calls as five rounds at each step.


# %%
def by_hand(level: str, steps: int = 10) -> Tensor:
    """Replacement written out, with the known at the new level or at the old one."""
    x = torch.randn(M, 2, generator=lesson.generator, dtype=torch.float64)
    grid, bar = samplers.uniform_grid(schedule, steps), schedule.alpha_bar
    for t, s in itertools.pairwise(grid):
        z = forward.noise_like(x, lesson.generator)
        mean, variance = forward.q_posterior(x, free(x, t), t, schedule, s)
        x = mean + variance.sqrt() * forward.noise_like(x, lesson.generator)
        a = bar[s if level == "new" else t]
        x = torch.where(mask, a.sqrt() * y + (1 - a).sqrt() * z, x)
    return x


off = {
    level: (by_hand(level)[:, 0] - y[0]).square().mean().sqrt().item()
    for level in ("new", "old")
}
assert off["new"] == 0
assert off["old"] > 0.1
x = filled("replacement", 10)
for _ in range(9):  # up to pure noise, and all the way down again
    z = forward.noise_like(x, lesson.generator)
    x_T = forward.q_sample(x, 1000, schedule, z)
    x = inpainting.sample_repaint(
        free, x_T, schedule, samplers.uniform_grid(schedule, 10), **hole
    )
varies(f"(d) the known coordinate ends {off['old']:.2f} off at the old level")
varies(
    f"(e) ten rounds outside: {apart(x[:, 1], right):.2f} from the exact law, one "
    f"{gap['replacement', 10]:.2f}; inside, five {gap['rounds: 5', 10]:.2f}"
)

# %% [markdown]
# *From pure noise nothing of the last round is left: ten rounds outside are one round, ten times as dear.*
#
# **(f) Strong guidance on clipped guesses.** At large $w$ the line (15.4) leaves the range of pictures, $[-1, 1]$. Clip the
# guess, as lesson 10 did, and whole areas stick at the ends: saturated colours. `dynamic_threshold` scales each picture
# back by its own measure instead (Saharia et al., 2022). The share of channel values that are within 0.02 of black or
# white, or beyond:

# %%
eight = torch.arange(8)
at_the_ends = {"real": normalize(load_images("cifar10", "test", n=200)[0])}
for name, w, wrap in (
    ("w = 1", 1.0, lambda denoise: denoise),
    ("w = 7", 7.0, lambda denoise: denoise),
    ("w = 7, clipped", 7.0, samplers.clip_x0),
    ("w = 7, threshold", 7.0, samplers.dynamic_threshold),
):
    guided = wrap(guidance.classifier_free(photos, w))
    at_the_ends[name] = drawn(guided, PHOTO, eight, photo_grid)
for name, x in at_the_ends.items():
    varies(f"{name:17} {(x.abs() > 0.98).float().mean():.1%} at the ends")

# %% tags=["figure", "fold"]
# @title Eight photographs at w = 1 and w = 7
kept = list(at_the_ends)[1:]
show(
    image_grid(
        torch.cat([at_the_ends[name] for name in kept]),
        columns=8,
        row_labels=kept,
        size=0.85,
    ),
    "Four rows of eight photographs from the same noises: plain and dull; with w = 7 "
    "glaring, whites without detail; clipped, hardly less; with the dynamic "
    "threshold the whites have come back, and colours are greyer.",
)

# %% [markdown]
# ## In your own words
#
# A colleague reports: "With $w = 3$ our classifier sees the class asked for in 95 % of samples, against 50 % with $w = 1$.
# Guidance draws from $p(x)\,p(c \mid x)^3$, so our samples are those on which the class is surest, and nothing is lost."
# Say what is wrong about the second sentence, what may have been lost, and what you would measure.

# %% [markdown] tags=["manual"] question="15.own_words" points=2
# ### BEGIN SOLUTION
# Guided sampling does not draw from that law: at each noise level its score is that of q(x_t) q(c given x_t)^w, which is not the noised
# p(x) p(c given x)^w, since noising averages and the power of an average is not the average of powers; the result depends on the
# sampler, and more steps do not bring it nearer. What may be lost is variety within the class (whole kinds of it, decided in much noise)
# and natural contrast. I would measure recall (and precision) and FID beside agreement, each with its interval, n and floor, over
# several w, and the same with guidance in an interval only. The agreement is that of a classifier, and says nothing about variety.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: guided sampling is not sampling from $p(x)\,p(c \mid x)^w$, with a reason (noise levels, the power of an average,
# the sampler's influence). One point: variety (recall) may be lost, and a measurement beside agreement that would show it.

# %% [markdown]
# ## Summary
#
# * A push by a classifier of noisy pictures enters the guess with $\sigma_t^2/\alpha_t$, (15.2); the difference of two guesses
#   is that push without a classifier, (15.4). Ours is the $w$ that is 1 for plain asking.
# * **Guided sampling is not sampling from $p(x)\,p(c \mid x)^w$**, (15.6): another law for each sampler, and no number
#   of steps mends it.
# * Insist in an interval of noise levels, (15.7). A worse network as the negative takes away errors that both share, (15.8).
#   "Anything but $c$" needs another weight at each point, (15.9).
# * Agreement, precision, recall and FID want different $w$: say which one you chose for.
# * Holes: replacement at the *new* level (15.11), rounds *inside* the loop (15.12), the gradient through the denoiser (15.13).
#   Beside the exact conditional (15.10) more steps do not mend what is left out.

# %%
progress("15")

# %% [markdown]
# ## References
#
# * Dhariwal, Nichol: *Diffusion Models Beat GANs on Image Synthesis*, 2021. Our (15.2), for the noise.
# * Ho, Salimans: *Classifier-Free Diffusion Guidance*, 2022. Our (15.4), with $w - 1$ for our $w$.
# * Bradley, Nakkiran: *Classifier-Free Guidance is a Predictor-Corrector*, 2024. Our section 4, with the proof that DDIM and
#   DDPM differ.
# * Kynkäänniemi, Aittala, Karras, Laine, Aila, Lehtinen: *Applying Guidance in a Limited Interval Improves Sample and
#   Distribution Quality in Diffusion Models*, 2024. Our (15.7): FID 1.81 → 1.40 on ImageNet-512.
# * Karras, Aittala, Kynkäänniemi, Lehtinen, Aila, Laine: *Guiding a Diffusion Model with a Bad Version of Itself*, 2024. Our (15.8);
#   ImageNet-64 at 1.01.
# * Koulischer, Deleu, Raya, Demeester, Ambrogioni: *Dynamic Negative Guidance of Diffusion Models*, 2024. Our (15.9).
# * Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole: *Score-Based Generative Modeling through SDEs*, 2021. Our (15.11).
# * Lugmayr, Danelljan, Romero, Yu, Timofte, Van Gool: *RePaint*, 2022. Our (15.12), Algorithm 1.
# * Chung, Kim, Mccann, Klasky, Ye: *Diffusion Posterior Sampling for General Noisy Inverse Problems*, 2023; and Song, Vahdat, Mardani,
#   Kautz: *Pseudoinverse-Guided Diffusion Models for Inverse Problems*, 2023. Our (15.13), with the second one's variance.
# * Meng, He, Song, Song, Wu, Zhu, Ermon: *SDEdit*, 2022. Our (15.14).
# * Saharia et al.: *Imagen*, 2022. The dynamic threshold, section 2.3.
#
# **Next:** lesson 16 goes to larger pictures, and to the question when a network only remembers.
