# %% [markdown]
# # 08 · From digits to photographs
#
# *You will move from grey digits to colour photographs: what noise does to their waves, what a mirror does to their
# classes, what makes a training fast. About 75 minutes to read and run, 65 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports and data
import copy
import math
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from course_utils import (
    denoisers,
    forward,
    losses,
    metrics,
    pretrained,
    recipes,
    samplers,
    schedules,
    widgets,
)
from course_utils.classifier import Classifier, look_at
from course_utils.data import CLASSES, load_images, normalize
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
from course_utils.runtime import varies
from course_utils.training import Training, train
from course_utils.widgets import explore, slider

use_style()
photos, labels = load_images("cifar10", "train")  # the 5,000 embedded, of 50,000
unseen, unseen_labels = load_images("cifar10", "test")
world, schedule = normalize(photos), schedules.linear()

# %% [markdown]
# ## The question
#
# Lesson 07 trained networks on digits. The same loop, told `cifar10` instead of `mnist`, runs. **What changes when
# digits become photographs?** Three channels instead of one, a few more pixels, ten other names. Look at what the same
# noise leaves of either:

# %%
digits, digit_labels = load_images("mnist", "test", n=5000)
ship = normalize(unseen[unseen_labels == 8][5:6])
eight = nn.functional.pad(
    normalize(digits[digit_labels == 8][:1]), (2, 2, 2, 2), value=-1.0
).expand(-1, 3, -1, -1)
times = [0, 50, 100, 200, 300, 500]
eps = forward.noise_like(ship, lesson.generator)
frames = [forward.q_sample(x, t, schedule, eps) for x in (ship, eight) for t in times]

# %% tags=["figure", "fold"]
# @title A ship and an 8 under the same noise
show(
    image_grid(
        torch.cat(frames),
        columns=6,
        titles=[f"t = {t}" for t in times],
        row_labels=["a ship", "an 8"],
        size=0.9,
    ),
    "A photograph of a ship and a handwritten eight under the same noise at six "
    "times. At t = 200 the ship is a bright stain on blue, at 300 hardly that; the "
    "eight can be read at 300 still.",
)

# %% [markdown]
# The 8 can still be read where the ship is no more than a stain. A photograph of $32 \times 32$ is a sum of 1,024 waves of brightness,
# from the one that spans the picture to the one that changes from pixel to pixel. *Commit to a guess:* at $t = 500$,
# how many of the 1,024 still stand above the noise?

# %% tags=["widget", "fold"]
# @title Your guess
guess = slider("Waves that stand out at t = 500:", 0, 1024, 300)
guess

# %% [markdown]
# ## 1 · Three channels, one noise level
#
# A colour picture has three numbers a pixel. The forward process does not care: every number gets its own noise, all of
# the *same* $\sigma_t$, and so a picture still has one $t$. How noisy it is at that $t$ depends on how large the numbers
# are. The schedule's $\mathrm{SNR}_t = \alpha_t^2/\sigma_t^2$ takes the picture to have variance 1. With variance $s^2$
# of the pixels, and their mean left out (a constant grey says nothing), the log-SNR of the *data* is
#
# $$\ell_t = \ln\frac{\alpha_t^2\,s^2}{\sigma_t^2} = \ln\mathrm{SNR}_t + \ln s^2, \qquad
# x \to a\,x + b \;\text{ moves it by }\; 2\ln a. \tag{8.1}$$
#
# ### Exercise 1 · How much signal, really
# *10 minutes · easy · Eq. (8.1).* For images in whatever range, and several times. $s^2$ is the variance of all
# numbers in `x_0` around their one mean. There is no schedule object this time: $\alpha_t^2$ is `alpha_bar[t]`.


# %% tags=["exercise"] exercise="08.log_snr" points=1
# Exercise 08.log_snr
def log_snr(x_0: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """Eq. (8.1) for images x_0 (n, …) at the times t (k,), as (k,), natural logarithm;
    alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    variance = (x_0 - x_0.mean()).square().mean()
    return (alpha_bar[t] * variance / (1 - alpha_bar[t])).log()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Signal: `alpha_bar[t]` times the variance of the pixels. Noise: `1 - alpha_bar[t]`. The logarithm of their ratio;
# nothing is squared a second time, `alpha_bar` is $\alpha_t^2$ already.
# </details>

# %% tags=["check"]
check("08.log_snr", log_snr)

# %% [markdown]
# Photographs as bytes over 255 lie in $[0, 1]$, half as wide as $[-1, 1]$: a quarter of the variance, so $\ell_t$ is
# lower by $\ln 4$ *at every $t$*. Measure it, signal and noise apart:

# %%
# Eq. (8.1)
for name, x in {
    "[-1, 1]": world,
    "[0, 1]": (world + 1) / 2,
    "digits in [-1, 1]": normalize(digits),
}.items():
    x_t = forward.q_sample(x, 300, schedule, forward.noise_like(x, lesson.generator))
    noise = x_t - schedule.coeffs(300)[0].float() * x
    measured = ((x_t - noise).var() / noise.var()).log().item()
    exact = (schedule.log_snr(300) + x.var().log()).item()
    assert (
        abs(measured - exact) < 4 * (2 / x.numel()) ** 0.5
    )  # noise of n numbers: its variance is good to sqrt(2 / n)
    print(f"{name:18} pixel std {x.std():.3f}, log-SNR at t = 300: {measured:.2f}")
assert torch.isclose(
    world.var() / ((world + 1) / 2).var(), torch.tensor(4.0), rtol=1e-4
)

# %% [markdown]
# So a schedule is made for a range, and a network for a schedule *and* a range. The course's denoisers are told the
# mean and the standard deviation of their data's pixels (lesson 04's $\mu$ and $s$), one number for all channels; what
# happens when the range is another one is section 7's business.
#
# **Colour axes.** One $\sigma_t$ for all channels has a pleasant consequence. Turn the colour space by an orthogonal
# matrix $U$, the same for all pixels:
#
# $$U x_t = \alpha_t\,U x_0 + \sigma_t\,U\epsilon, \qquad U\epsilon \sim \mathcal N(0, I) \text{ again}. \tag{8.2}$$
#
# To the noise all axes are alike. To the pictures they are not: red, green and blue rise and fall together. So choose
# axes that suit the pictures: brightness, $(1, 1, 1)$; warm against cold, $(1, 0, -1)$; magenta against green,
# $(1, -2, 1)$; each divided by its length.

# %%
# Eq. (8.2)
U = nn.functional.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]))
AXES = ("brightness", "warm–cold", "magenta–green")


def to_axes(x: Tensor) -> Tensor:
    """Colours (n, 3, h, w) in the axes U."""
    return torch.einsum("dc,nchw->ndhw", U.to(x), x)


# %% [markdown]
# How much of the photographs' variance, and of the noise's, lies on each axis?

# %%
mean = world.mean(0)  # the average photograph
turned = to_axes(world - mean)
noise = to_axes(forward.noise_like(world, lesson.generator))
variance, n = turned.square().mean((0, 2, 3)), world[:, 0].numel()
assert torch.allclose(
    variance.sum(), (world - mean).square().sum(1).mean(), rtol=1e-4
)  # turning keeps lengths
assert variance[0] > 0.88 * variance.sum()
assert (noise.var((0, 2, 3)) - 1).abs().max() < 4 * (2 / n) ** 0.5
assert (
    torch.corrcoef(noise.permute(1, 0, 2, 3).reshape(3, -1))
    .fill_diagonal_(0)
    .abs()
    .max()
    < 4 / n**0.5
)
print(
    {
        name: f"{share:.0%} of the variance"
        for name, share in zip(AXES, variance / variance.sum(), strict=True)
    }
)

# %% [markdown]
# Nine tenths of a photograph is grey. The noise spreads its power evenly, so **colour drowns long before brightness**;
# a network that walks back decides light and dark first, and paints afterwards.
#
# ## 2 · Waves in a photograph
#
# Do the same once more, in space. The discrete Fourier transform with `norm="ortho"` is an orthogonal change of axes,
# too: one number $\hat x(k)$ for each wave $k$ (with a $k$ behind it, a hat means the transform, not a guess), and noise that is as strong in every wave, $\mathbb E|\hat\epsilon(k)|^2 = 1$.
# What are photographs like in these axes? Their **power spectrum** is
#
# $$P(k) = \mathbb E\,|\hat x_0(k)|^2, \qquad \text{and in } x_t: \quad \alpha_t^2\,P(k) + \sigma_t^2. \tag{8.3}$$
#
# From here on $x_0$ is a photograph less the average photograph, as in the variances above: what all have in common need not
# be guessed. A wave has a direction and a frequency $|k|$, the number of its periods across the picture. To draw one
# curve, average over directions.
#
# ### Exercise 2 · The power spectrum
# *15 minutes · medium · Eq. (8.3).* Average the power over the images, then over all waves whose frequency
# $\sqrt{k_1^2 + k_2^2}$ rounds to 0, 1, 2, … up to half of the side (the corners beyond are left out).


# %% tags=["exercise"] exercise="08.radial_power" points=2
# Exercise 08.radial_power
def radial_power(x: Tensor) -> Tensor:
    """Mean of |x̂(k)|² over images and ring |k| ≈ 0, 1, …, side // 2.
    x: (n, side, side), real."""
    ### BEGIN SOLUTION
    side = x.shape[-1]
    power = torch.fft.fft2(x, norm="ortho").abs().square().mean(0)
    k = torch.fft.fftfreq(side) * side  # 0, 1, …, -2, -1
    ring = (k[:, None] ** 2 + k**2).sqrt().round()
    return torch.stack([power[ring == r].mean() for r in range(side // 2 + 1)])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.fft.fft2(x, norm="ortho")` transforms the last two dimensions. `torch.fft.fftfreq(side) * side` are the whole
# frequencies in the order in which it returns them; the second half is negative. Square first, average afterwards.
# </details>

# %% tags=["check"]
check("08.radial_power", radial_power)

# %%
# Eq. (8.3)
side = world.shape[-1]
spectrum = (
    torch.fft.fft2(turned, norm="ortho").abs().square().mean(0)
)  # (3, 32, 32): a power for each axis and wave
k = torch.fft.fftfreq(side) * side
ring = (k[:, None] ** 2 + k**2).sqrt().round().long()
rings = torch.stack(
    [torch.stack([p[ring == r].mean() for r in range(side // 2 + 1)]) for p in spectrum]
)
flat = torch.fft.fft2(noise[:1000], norm="ortho").abs().square().mean((0, 1))
assert (
    (flat - 1).abs().max() < 6 * 3000** -0.5 * 2** 0.5
)  # noise is white: the same power in each of 1,024 waves

# %% [markdown]
# The noise is flat. The photographs are not: fit a power law to the curve up to $|k| = 8$ (the finest waves were smoothed away when the photos were shrunk).

# %%
r = torch.arange(1, 9).float()
both = torch.cov(torch.stack([r.log(), rings[0, 1:9].log()]))
gamma = -(both[0, 1] / both[0, 0]).item()
C = (rings[0, 1:9].log() + gamma * r.log()).mean().exp().item()
print(f"brightness: power falls as one over frequency to the power of {gamma:.1f}")
assert 2 < gamma < 3

# %% [markdown]
# A straight line on logarithmic axes, with noise as the floor: at $t$, signal and noise stand $P(k)$ against
# $\sigma_t^2/\alpha_t^2$. *A wave drowns when the floor reaches it.* With $P(k) = C\,|k|^{-\gamma}$ that is at
#
# $$k_c(t) = \bigl(C\;\mathrm{SNR}_t\bigr)^{1/\gamma}. \tag{8.4}$$


# %%
# Eq. (8.4)
def standing(t: Tensor) -> Tensor:
    """How many of the 1,024 waves of each axis stand above the noise at the times t
    (k,): (k, 3)."""
    floor = (-schedule.log_snr(t)).exp().float()  # sigma² / alpha²
    return (spectrum > floor[:, None, None, None]).sum((2, 3))


# %%
ts = torch.arange(5, 1001, 5)
assert (standing(ts)[:, 0] >= standing(ts)[:, 1]).all()  # brightness outlives colour


# %% tags=["fold"]
# @title Drawing power against frequency, with the noise floor of some times
def draw_power(axis: plt.Axes) -> None:
    """Power of each axis, the power law, and what noise adds at five times."""
    for power, name, colour in zip(rings, AXES, (BLACK, ORANGE, PINK), strict=True):
        k = range(1, side // 2 + 1)
        axis.loglog(k, power[1:], "o-", ms=3, color=colour, label=name)
    law = rf"$C\,|k|^{{-{gamma:.1f}}}$"
    axis.loglog(r, C * r**-gamma, ":", color=BLUE, lw=3, alpha=0.6, label=law)
    at_the_right = {"fontsize": 8, "color": BLUE, "va": "bottom", "ha": "right"}
    for t in (10, 100, 300, 500, 700):
        floor = (-schedule.log_snr(t)).exp().item()
        axis.axhline(floor, color=BLUE, lw=0.8)
        axis.text(26, floor * 1.15, f"t = {t}", **at_the_right)
    axis.set(
        xlabel="frequency |k| (periods across the picture)",
        ylabel="power",
        xlim=(0.9, 27),
        ylim=(5e-5, 500),
        title="Photographs, and the noise floor",
    )
    axis.legend(fontsize=8, loc="lower left")


# %% [markdown]
# Both together: the spectrum with the noise floor of five times, and the count of what stands at every time.

# %% tags=["figure", "fold"]
# @title Power against frequency, and how many waves stand
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.1))
draw_power(left)
for i, (name, colour) in enumerate(zip(AXES, (BLACK, ORANGE, PINK), strict=True)):
    right.semilogy(ts, standing(ts)[:, i].clamp(min=0.5), color=colour, label=name)
right.semilogy(
    ts,
    (torch.pi * (C * schedule.log_snr(ts).exp()) ** (2 / gamma)).clamp(0.5, 1024),
    ":",
    color=BLUE,
    lw=3,
    alpha=0.6,
    label=r"brightness by (8.4): $\pi k_c^2$",
)
right.set(
    xlabel="t",
    ylabel="waves above the noise",
    ylim=(0.7, 1300),
    title="Of 1,024 waves of each axis, how many stand",
)
right.legend(fontsize=8)
show(
    figure,
    "Left: power against frequency for brightness and two colour axes, three nearly "
    "parallel falling lines with horizontal noise floors for five times. Right: the "
    "number of waves above the noise falls steeply with t, for the colour axes much "
    "earlier than for brightness.",
)

# %% [markdown]
# Noise takes the fine waves first, and colour before brightness. **Going back, a diffusion model paints from coarse to
# fine, in the order that the spectrum prescribes.** And digits? How much of the power is in the 13 broadest waves,
# $|k| \le 2$?

# %%
broad = {}
for name, x in {
    "photographs": world.mean(1),
    "digits": normalize(digits)[:, 0],
}.items():
    power = torch.fft.fft2(x - x.mean(0), norm="ortho").abs().square().mean(0)
    k = torch.fft.fftfreq(x.shape[-1]) * x.shape[-1]
    broad[name] = (power[k[:, None] ** 2 + k**2 <= 4].sum() / power.sum()).item()
print({name: f"{share:.0%}" for name, share in broad.items()})
assert broad["photographs"] > 0.6
assert broad["digits"] < 0.25

# %% [markdown]
# There is the difference between an 8 and a ship: a digit consists of strokes, and its power lies in waves as wide as they are; a photograph has two thirds
# of it in waves that are half as long as the picture, or longer.
#
# How well can one denoise with the spectrum alone? Multiply each wave of $x_t$ by a number $w(k)$. The error of wave
# $k$ is $|1 - \alpha_t w|^2 P + w^2\sigma_t^2$. Its derivative is zero at
#
# $$w(k) = \frac{\alpha_t\,P(k)}{\alpha_t^2 P(k) + \sigma_t^2}, \qquad
# \mathbb E\,|\hat x_0(k) - w\,\hat x_t(k)|^2 = \frac{\sigma_t^2\,P(k)}{\alpha_t^2 P(k) + \sigma_t^2}. \tag{8.5}$$
#
# This is the **Wiener filter**, the line (3.12) drawn for each wave. It keeps what stands above the floor, drops what
# does not, and has a soft threshold in between. Its error is exact for *any* pictures with this spectrum.
#
# ### Exercise 3 · The Wiener filter
# *15 minutes · medium · Eq. (8.5).* For one colour axis of whole photographs. The spectrum is that of the differences from
# the average, so take $\alpha_t$ times `mean` off first, and put the whole of it back at the end.


# %% tags=["exercise"] exercise="08.wiener" points=2
# Exercise 08.wiener
def wiener(
    x_t: Tensor, mean: Tensor, power: Tensor, alpha: float, sigma: float
) -> Tensor:
    """The best filter's guess of x_0. x_t: (n, h, w);
    mean, power: (h, w), power[k] as fft2 orders it."""
    ### BEGIN SOLUTION
    w = alpha * power / (alpha**2 * power + sigma**2)
    waves = torch.fft.fft2(x_t - alpha * mean, norm="ortho")
    return mean + torch.fft.ifft2(w * waves, norm="ortho").real
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# To Fourier space, times $w$, and back: `torch.fft.ifft2(..., norm="ortho").real`. The imaginary part is rounding
# error, since $w$ is the same for $k$ and $-k$.
# </details>

# %% tags=["check"]
check("08.wiener", wiener)


# %% [markdown]
# In colour, with the three axes at once:


# %%
# Eq. (8.5)
def to_waves(x: Tensor) -> Tensor:
    """Photographs (n, 3, 32, 32) as waves on each colour axis."""
    return torch.fft.fft2(to_axes(x), norm="ortho")


def from_waves(waves: Tensor) -> Tensor:
    """The way back."""
    return torch.einsum("dc,ndhw->nchw", U, torch.fft.ifft2(waves, norm="ortho").real)


# %% [markdown]
# Between the two, (8.5), and the mean of its error over all waves:


# %%
def filtered(x_t: Tensor, t: int) -> Tensor:
    """The Wiener filter's x0_hat for photographs (n, 3, 32, 32)."""
    alpha, sigma = (c.float() for c in schedule.coeffs(t))
    waves = (
        to_waves(x_t - alpha * mean)
        * alpha
        * spectrum
        / (alpha**2 * spectrum + sigma**2)
    )
    return mean + from_waves(waves)


def filter_error(t: int) -> float:
    """The mean over waves of (8.5)'s error: what the filter reaches on the pictures
    whose spectrum it knows."""
    alpha, sigma = schedule.coeffs(t)
    return (sigma**2 * spectrum / (alpha**2 * spectrum + sigma**2)).mean().item()


# %% [markdown]
# Formula and trial, side by side:

# %%
for t in (10, 300, 700):
    x_t = forward.q_sample(
        world, t, schedule, forward.noise_like(world, lesson.generator)
    )
    error = (filtered(x_t, t) - world).square().mean((1, 2, 3))
    assert (
        abs(error.mean() - filter_error(t)) < 4 * error.std() / len(world) ** 0.5
    )  # four standard errors
    print(
        f"t = {t}: the filter's error is {filter_error(t):.4f}, by the formula and by "
        "trying it"
    )

# %% [markdown]
# Three lines of algebra, no training. Remember these errors: a network has to earn its keep by beating them.
# The filter is soft. To see what stands, keep or drop:


# %%
def what_stands(x_0: Tensor, t: int) -> Tensor:
    """Clean photographs, with only those waves that stand above the noise at t."""
    return mean + from_waves(
        to_waves(x_0 - mean) * (spectrum > (-schedule.log_snr(t)).exp().float())
    )


# %% [markdown]
# Slide $t$:

# %% tags=["widget", "fold"]
# @title What the noise leaves of a photograph: choose t and the photo


def survivors(t: int, index: int) -> plt.Figure:
    """x_t, what stands above the noise, the filter's answer, and the spectrum with the
    noise floor."""
    x_0 = normalize(unseen[index : index + 1])
    x_t = forward.q_sample(
        x_0, t, schedule, forward.noise_like(x_0, torch.Generator().manual_seed(index))
    )
    floor = (-schedule.log_snr(t)).exp()
    pictures = x_t, what_stands(x_0, t), filtered(x_t, t)
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), width_ratios=[1, 1, 1, 1.5])
    for axis, x, name in zip(
        axes, pictures, ("$x_t$", "waves that stand", "filter's answer"), strict=False
    ):
        axis.imshow(((x[0].movedim(0, -1) + 1) / 2).clamp(0, 1))
        axis.set(xticks=[], yticks=[], title=name)
    for power, name, colour in zip(rings, AXES, (BLACK, ORANGE, PINK), strict=True):
        axes[3].loglog(range(1, side // 2 + 1), power[1:], color=colour, label=name)
    axes[3].axhspan(1e-5, floor.item(), color=BLUE, alpha=0.2)
    axes[3].set(
        xlabel="frequency |k|",
        ylabel="power",
        ylim=(1e-4, 100),
        title=f"noise floor at t = {t}",
    )
    axes[3].legend(fontsize=7, loc="upper right")
    return figure


explore(
    survivors,
    alt="A noisy photograph, the waves of it that stand above the noise, the Wiener "
    "filter's answer, and the spectrum with the noise floor.",
    t=slider("t", 1, 1000, 200),
    index=slider("photo", 0, len(unseen) - 1, 85),
)

# %% [markdown]
# The same without a kernel, for the ship above. First row: of the clean picture, only the waves that stand above the
# floor. Second: what the filter makes of $x_t$.

# %% tags=["figure", "fold"]
# @title What the noise leaves of the ship
noisy_ship = [forward.q_sample(ship, t, schedule, eps) for t in times]
stand = [what_stands(ship, t) for t in times]
answers = [filtered(x_t, t) for x_t, t in zip(noisy_ship, times, strict=True)]
show(
    image_grid(
        torch.cat(stand + answers),
        columns=6,
        titles=[f"t = {t}" for t in times],
        row_labels=["what stands", "filter"],
        size=0.9,
    ),
    "Of the ship at six times, only the waves above the noise floor: they lose "
    "detail, then colour, then shape. Below that, the Wiener filter's answers to the "
    "noisy ship, which look much alike.",
)

# %% [markdown]
# ## 3 · Mirror images
#
# 5,000 photographs are few. A photograph seen in a mirror is a photograph, too: twice as many, for nothing. That is an
# **augmentation**, and it is honest only if nobody could tell. In symbols: flips are free if
#
# $$q(\mathrm{flip}(x_0)) = q(x_0), \tag{8.6}$$
#
# for then the augmented data have the same distribution as the data. A network that is told classes learns one
# distribution for each of them, so (8.6) must hold within each class.
#
# ### Exercise 4 · Half of them
# *10 minutes · easy · Eq. (8.6).* Mirror each image from left to right if its own number in `u` is below one half.


# %% tags=["exercise"] exercise="08.random_flip" points=1
# Exercise 08.random_flip
def random_flip(x: Tensor, u: Tensor) -> Tensor:
    """x (b, c, h, w) with image i mirrored left to right where u[i] < 0.5;
    u: (b,) in [0, 1)."""
    ### BEGIN SOLUTION
    return torch.where((u < 0.5)[:, None, None, None], x.flip(-1), x)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `x.flip(-1)` mirrors all of them, `torch.where(condition, a, b)` chooses. The condition must have the shape
# `(b, 1, 1, 1)`, so that an image is mirrored as a whole.
# </details>

# %% tags=["check"]
check("08.random_flip", random_flip)

# %% [markdown]
# Can anybody tell? Make it a game. A coin is tossed, and you are handed either a picture or its mirror image: which of
# the two is it?
#
# Any picture is half the sum of two parts, the even part $x + \mathrm{flip}(x)$ and the odd part
# $x - \mathrm{flip}(x)$. A mirror leaves the even part as it is and turns the odd part into its negative. Take the
# simplest kind of player, a linear one: it multiplies each pixel by a number of its own, adds up, and says "picture" if
# the sum is above zero. What it gets from the even part is the same in both cases, so only the odd part can help it.
# Which numbers are best, in least squares, one system of equations tells. The player learns on 5,000 pictures and plays
# with others. *Predict: how often is it right on digits, how often on photographs?*


# %%
# Eq. (8.6)
def odd_part(images: Tensor) -> Tensor:
    """What a mirror turns into its negative, (n, pixels), float64: of x - flip(x)
    the left half, since the right half is its negative."""
    x = normalize(images).double()
    return (x - x.flip(-1))[..., : x.shape[-1] // 2].flatten(1)


def right_guesses(name: str) -> float:
    """How often the best linear player tells a test picture from its mirror image."""
    seen, fresh = (
        odd_part(load_images(name, split, n=n)[0])
        for split, n in (("train", 5000), ("test", 1000))
    )
    C = seen.T @ seen / len(seen)
    player = torch.linalg.solve(
        C + C.diagonal().mean() * torch.eye(len(C)), seen.mean(0)
    )  # a little ridge
    return ((fresh @ player) > 0).double().mean().item()


told = {name: right_guesses(name) for name in ("mnist", "cifar10")}
print({name: f"{share:.0%} right" for name, share in told.items()})
assert told["mnist"] > 0.9
assert recipes.RECIPES["cifar10-unet"].flip
assert not recipes.RECIPES["mnist-unet"].flip
assert told["cifar10"] < 0.5 + 4 * 0.5 / 1000**0.5  # a coin, up to four standard errors

# %% [markdown]
# Digits betray the mirror nineteen times out of twenty. Photographs do not: the player is as good as a coin. (A better player might find
# the lettering on a truck.) So CIFAR-10's recipe has `flip: True`, and MNIST's has not.
#
# ## 4 · Which picture is wanted
#
# Ten classes, ten names. The class enters where the noise level does: each has a learned vector, added to the embedding of $\lambda_t$. A number
# of ours, $-1$, stands for *no class* and has a vector of its own. In training, every tenth label is replaced by $-1$:

# %%
dropped = (
    torch.rand(len(labels), generator=lesson.generator) < 0.1
)  # a coin for each image, not for each batch
shown_labels = labels.masked_fill(dropped, -1)
assert abs(dropped.float().mean() - 0.1) < 4 * (0.1 * 0.9 / len(labels)) ** 0.5

# %% [markdown]
# So one network learns two answers. With a class, $\mathbb E[x_0 \mid x_t, c]$; with $-1$, the average over the classes that are possible:
#
# $$\mathbb E[x_0 \mid x_t] = \sum_c q(c \mid x_t)\;\mathbb E[x_0 \mid x_t, c]. \tag{8.7}$$
#
# That costs nothing, and guidance (lesson 15) lives on the difference of the two. A network that has never seen $-1$ answers it with whatever its random
# start left there.
#
# At $t = 1000$ nothing is left of the picture. So we *know* the right answers: with a class, the average photograph of that
# class; without one, the average of all. Ask the course's trained network:

# %%
# Eq. (8.7)
half = lambda: torch.autocast(  # noqa: E731
    lesson.device.type, lesson.dtype, enabled=lesson.dtype != torch.float32
)
trained = pretrained.load_denoiser("cifar10-unet", lesson.device)
noise = forward.noise_like(torch.empty(16, 3, 32, 32), lesson.generator)
noise = noise.to(lesson.device)


def at_the_end(c: int) -> Tensor:
    """The network's answer to pure noise, when asked for class c;
    averaged over 16 noises."""
    label = torch.full((16,), c, device=lesson.device)
    with torch.no_grad(), half():
        return trained(noise, 1000, label=label).float().mean(0).cpu()


average = torch.stack([world[labels == c].mean(0) for c in range(10)])
answers = torch.stack([at_the_end(c) for c in range(10)])

# %% tags=["figure", "fold"]
# @title What the network sees in pure noise, class by class
names = ["plane", "car", *CLASSES["cifar10"][2:]]  # short enough to stand side by side
show(
    image_grid(
        torch.cat([average, answers]),
        columns=10,
        titles=names,
        row_labels=["average", "network"],
        size=0.7,
    ),
    "Ten blurred average photographs, one for each class, and below them the "
    "network's answers to pure noise when asked for that class.",
)

# %% [markdown]
# How many of the answers are nearest to the average of their own class? And is the answer to $-1$ the mean of the ten?

# %%
gap = torch.cdist(answers.flatten(1), average.flatten(1))  # asked for, by class
named = (gap.argmin(1) == torch.arange(10)).sum().item()
without = (at_the_end(-1) - answers.mean(0)).square().mean().sqrt()
varies(f"nearest to their own class: {named} of 10")
varies(f"no class against the mean of ten: off by {without:.3f}, rms")
assert named >= 8
assert without < 0.1

# %% [markdown]
# It knows what "ship" means before there is anything to see. And asked for $-1$, it gives the average of its ten answers, as (8.7) says for $q(c \mid x_t) =
# \tfrac1{10}$.
#
# ## 5 · The recipe
#
# A photograph of $3 \times 32 \times 32$ takes more arithmetic than a digit, and there is more to learn. Of the following,
# space-to-depth makes another network; the rest changes nothing in what is computed, but for rounding. All of it changes how long it takes.
#
# * **Bytes until the device.** A picture travels and waits as `uint8`, and becomes floats where it is used: a quarter of the memory. All of CIFAR-10, 154 MB,
#   fits on any GPU, so no worker processes are needed.
# * **Space-to-depth.** Blocks of $2 \times 2$ pixels become channels ($3 \to 12$), and the network works at half the side; nothing is lost.
# * **Channels-last.** The numbers of one pixel lie side by side in memory, as fast convolutions like it.
# * **Half precision.** bfloat16 has the range of float32 with 8 bits of precision. `autocast` uses it where it is safe, in convolutions and matrix
#   products; weights, sums and the optimizer stay in float32.
# * **Compile.** `course train cifar10-unet --compile` lets PyTorch fuse the small steps between convolutions: a minute at the start, faster steps
#   afterwards, on a GPU above all.
#
# *Predict: which switch does most for speed, which for memory?* Memory here means what the forward pass has to keep for the backward pass; it is what
# limits the batch.


# %%
def kept_bytes(network: nn.Module, n: int) -> int:
    """Bytes that the forward pass of n images keeps for the backward pass."""
    storages: dict[int, int] = {}
    keep = lambda s: (  # noqa: E731
        storages.update({s.untyped_storage().data_ptr(): s.untyped_storage().nbytes()})
        or s
    )
    x = normalize(photos[:n]).to(lesson.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda s: s):
        out = network(x, torch.zeros(n, device=lesson.device))
    del out
    return sum(storages.values())


def measure(
    stem: int, channels_last: bool, dtype: torch.dtype, n: int = 16
) -> tuple[float, float]:
    """Images a second, forward and backward, the best of three;
    kilobytes kept for each image."""
    network = denoisers.UNet(3, (64, 128), blocks=1, attention=(), stem=stem).to(
        lesson.device
    )
    x = normalize(photos[:n]).to(lesson.device)
    if channels_last:
        network, x = (
            network.to(memory_format=torch.channels_last),
            x.to(memory_format=torch.channels_last),
        )
    best = float("inf")
    with torch.autocast(lesson.device.type, dtype, enabled=dtype != torch.float32):
        for _ in range(3):
            start = time.perf_counter()
            network(x, torch.zeros(n, device=lesson.device)).square().mean().backward()
            if lesson.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        kilobytes = (
            kept_bytes(network, 5) - kept_bytes(network, 1)
        ) / 4e3  # what does not grow with n is no image's
    return n / best, kilobytes


# %% [markdown]
# Switch by switch, each on top of those before:

# %%
switches = {
    "full resolution": (1, False, torch.float32),
    "+ space-to-depth": (2, False, torch.float32),
    "+ channels-last": (2, True, torch.float32),
}
if lesson.dtype != torch.float32:  # where the machine has it
    switches[f"+ {str(lesson.dtype).removeprefix('torch.')}"] = (2, True, lesson.dtype)
results = {name: measure(*switch) for name, switch in switches.items()}
for name, (speed, kilobytes) in results.items():
    varies(f"{name:17} {speed:6.0f} images/s {kilobytes:8.0f} kB an image")
assert results["full resolution"][1] > 3 * results["+ space-to-depth"][1]

# %% tags=["figure", "fold"]
# @title Speed and memory, switch by switch
figure, axes = plt.subplots(1, 2, figsize=(9, 2.2), sharey=True)
for i, (axis, text, colour) in enumerate(
    zip(
        axes, ("images a second", "kB kept for each image"), (BLUE, ORANGE), strict=True
    )
):
    bars = axis.barh(
        list(results)[::-1],
        [row[i] for row in list(results.values())[::-1]],
        color=colour,
    )
    axis.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    axis.margins(x=0.12)
    axis.set_xlabel(text)
show(
    figure,
    "Bars of speed and of memory for each switch. Space-to-depth is several times "
    "faster and needs a quarter of the memory; channels-last helps a little; half "
    "precision, where the machine has it, is faster again and halves the memory.",
)

# %% [markdown]
# **Several GPUs.** The same script, started once for each: `accelerate launch -m course_utils.desk.cli train cifar10-unet`. Every process holds the whole network, takes its
# share of the batch, and all take the step with the average of their gradients. Is that the step that one process would have taken? Say process $r$ has the images
# $B_r$, $n_r$ of $n$. The loss is a mean over images, and a gradient is linear:
#
# $$\nabla L = \frac1n \sum_{i} \nabla \ell_i = \sum_r \frac{n_r}{n}\; \underbrace{\frac1{n_r}\sum_{i \in B_r} \nabla \ell_i}_{\text{gradient of process } r}. \tag{8.8}$$
#
# A plain average has weights $1/R$ instead of $n_r/n$. It is right if and only if the shares are equal (or by luck). And (8.8) assumes that $\ell_i$
# depends on image $i$ alone. Try it, in float64, on a U-Net; and on the classifier, whose BatchNorm lets every image see its batch:


# %%
# Eq. (8.8)
def gradient(model: nn.Module, loss: Callable[[slice], Tensor], share: slice) -> Tensor:
    """The gradient of the mean loss over a share of the batch, as one vector."""
    return torch.cat(
        [
            g.flatten()
            for g in torch.autograd.grad(loss(share).mean(), list(model.parameters()))
        ]
    )


unet = denoisers.Denoiser(
    denoisers.UNet(3, (16, 32), blocks=1, attention=()), schedule, "v"
).double()
x, t = world[:16].double(), torch.randint(1, 1001, (16,), generator=lesson.generator)
eps = forward.noise_like(x, lesson.generator)
seer = Classifier(3, (16, 32)).double()


def of_unet(i: slice) -> Tensor:
    return losses.denoising_loss(unet, x[i], t[i], schedule, eps[i])


def of_seer(i: slice) -> Tensor:
    return nn.functional.cross_entropy(seer(x[i]), labels[:16][i], reduction="none")


for name, model, loss, cut in [
    ("U-Net, 8 + 8 images", unet, of_unet, 8),
    ("U-Net, 12 + 4 images", unet, of_unet, 12),
    ("BatchNorm, 8 + 8 images", seer, of_seer, 8),
]:
    whole, first, second = (
        gradient(model, loss, share)
        for share in (slice(16), slice(cut), slice(cut, 16))
    )
    plain, weighted = (first + second) / 2, (cut * first + (16 - cut) * second) / 16
    off = [((g - whole).norm() / whole.norm()).item() for g in (plain, weighted)]
    print(
        f"{name:24} plain average {'is right' if off[0] < 1e-9 else 'is wrong'}, "
        f"weighted {'is right' if off[1] < 1e-9 else 'is wrong'}"
    )
    varies(f"off by {off[0]:.1e} and {off[1]:.1e} of the gradient")
    assert (off[0] < 1e-9, off[1] < 1e-9) == (model is unet and cut == 8, model is unet)

# %% [markdown]
# The U-Net normalises with GroupNorm, within each image, and passes. That is one reason why diffusion models use it. In the course's
# `train` the batch size counts the images of all processes together; let it be a multiple of their number, and the steps are those of one process.
#
# **Half precision on older GPUs.** A T4 has no bfloat16, only float16: 11 bits of precision, but a narrow range. Numbers below $2^{-24} = 6 \cdot 10^{-8}$ in size round to zero or to $2^{-24}$,
# numbers above 65,504 to infinity. Weights and activations fit. Gradients are another matter: the loss is a mean over all numbers of the batch, so each has a small part in it.
# The remedy is **loss scaling**: multiply the loss by $S$, and all gradients grow by $S$, by the chain rule; divide them by $S$ in float32 before the step. Which $S$? As large as it
# can be. Try, and adapt:
#
# $$S \leftarrow \begin{cases} S/2, \text{ and skip the step,} & \text{if a gradient is infinite or NaN,}\\ 2S & \text{after every } N \text{ clean steps in a row,}\\ S & \text{otherwise.}\end{cases} \tag{8.9}$$
#
# ### Exercise 5 · The scale of the next step
# *15 minutes · medium · Eq. (8.9).* `clean` counts the clean steps before this one, since the scale was last changed; return the new
# scale and the new count. This step counts as well if it is clean: with it, the $N$-th in a row doubles the scale. Whenever the scale
# has changed, be it halved or doubled, the count begins again at 0.
# One infinite or NaN element makes the norm of the gradient so. A norm that is finite, however large, or 0, is that of a clean step.
# The scale may fall below 1, as far as it likes, and nothing caps it.


# %% tags=["exercise"] exercise="08.next_scale" points=2
# Exercise 08.next_scale
def next_scale(
    scale: float, clean: int, norm: float, patience: int
) -> tuple[float, int]:
    """(scale, clean) after a step whose gradient, computed with `scale`, has this norm;
    patience is N."""
    ### BEGIN SOLUTION
    if not math.isfinite(norm):
        return scale / 2, 0
    if clean + 1 == patience:
        return scale * 2, 0
    return scale, clean + 1
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Three cases, three returns. `math.isfinite` is false for infinity and for NaN. This step counts, too: if it is the
# $N$-th clean one, the scale doubles now, and the count begins again.
# </details>

# %% tags=["check"]
check("08.next_scale", next_scale)

# %% [markdown]
# PyTorch's `torch.amp.GradScaler` does this with $N = 2000$ from $S = 2^{16}$ on; the course's `Training` uses it where the machine calls for float16, and only there.
#
# ## 6 · A short stretch, and a long one
#
# Train. A small U-Net, the 5,000 photographs, 240 steps of 16 of them, flips, labels, all switches on. The loss is (4.10): 1 is what the best line
# through a single number reaches.

# %%
moments = recipes.pixel_moments("cifar10")
torch.manual_seed(lesson.seed)
network = denoisers.UNet(3, (32, 64), blocks=1, attention=(), num_classes=10)
run = Training(
    denoisers.Denoiser(network, schedule, "v", *moments),
    lr=4e-3,
    ema=0.98,
    seed=lesson.seed,
    device=lesson.device,
    precision=lesson.dtype,
)

# %% tags=["widget", "open"]
going = train(run, photos, labels, steps=240, batch_size=16, warmup=30, flip=True)
for _ in widgets.watch(going, 240, label="CIFAR-10"):
    pass

# %% [markdown]
# Judge it on photographs that it has not seen, at ten noise levels; beside it the Wiener filter; and the course's own network, `cifar10-unet`.
# That one has 3.9 million weights, and saw 1.7 million photographs (of all 50,000, and their mirror images) in an hour and a half on two CPU cores. DDPM's has
# 36 million weights, and saw 100 million.


# %%
some = torch.arange(0, len(unseen), 8)  # 125 photographs
recipe = pretrained.recipe_of("cifar10-unet")
assert recipe.steps * recipe.batch_size == 1_664_000
assert round(sum(p.numel() for p in trained.parameters()) / 1e6, 1) == 3.9
x_0, label = normalize(unseen[some]), unseen_labels[some].to(lesson.device)
test_t = [1, 10, 30, 100, 200, 300, 500, 700, 900, 1000]
noisy = {
    t: forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    for t in test_t
}


def line_error(t: int) -> float:
    """c_out² of (4.9): the error of the best line through one number."""
    alpha, sigma = schedule.coeffs(t)
    return (moments[1] ** 2 * sigma**2 / (alpha**2 * moments[1] ** 2 + sigma**2)).item()


def quality(denoise: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Mean squared error on unseen photographs at each test time, in units of the
    line's."""
    errors = {t: (denoise(x_t, t) - x_0).square().mean() for t, x_t in noisy.items()}
    return torch.stack([error / line_error(t) for t, error in errors.items()])


@torch.no_grad()
def ask(
    model: denoisers.Denoiser, x_t: Tensor, t: int, label: Tensor | None = None
) -> Tensor:
    """x0_hat from a network, in the machine's precision, back on the CPU in float32."""
    with half():
        return model(x_t.to(lesson.device), t, label=label).float().cpu()


short_run = run.averaged()
of_filter = quality(filtered)
of_short, of_long = (
    quality(lambda x_t, t, m=m: ask(m, x_t, t, label)) for m in (short_run, trained)
)

# %% tags=["figure", "fold"]
# @title Three denoisers against the best line
figure = plt.figure(figsize=(6.5, 3))
plt.axhline(1, color=BLACK, lw=1, ls=":", label="best line through one number")
plt.plot(test_t, of_short, "s-", ms=4, color=GREEN, label="240 steps on this page")
plt.plot(test_t, of_filter, "--", color=ORANGE, label="Wiener filter (8.5)")
plt.plot(
    test_t,
    [filter_error(t) / line_error(t) for t in test_t],
    ":",
    color=ORANGE,
    label="its formula, on its own photographs",
)
plt.plot(test_t, of_long, "o-", ms=4, color=BLUE, label="cifar10-unet")
plt.gca().set(xlabel="t", ylabel="error / the line's error", ylim=(0, 1.15))
plt.legend(fontsize=8, loc="lower right")
show(
    figure,
    "Error on unseen photographs against t, in units of the line's. All curves are "
    "lowest between t = 100 and 300. The short training is far above the Wiener "
    "filter for small t and near it at large t; the long-trained network is the "
    "lowest.",
)

# %% [markdown]
# The figure's numbers, and what must hold:

# %%
qualities = {"240 steps": of_short, "filter": of_filter, "cifar10-unet": of_long}
for name, q in qualities.items():
    pairs = zip(test_t, q, strict=True)
    varies(f"{name:12} " + "  ".join(f"{t}: {error:.2f}" for t, error in pairs))
assert of_short.mean() < 0.95  # better than the line, on the whole
assert (of_short[:4] > of_filter[:4]).all()  # up to t = 100, far above the filter
late = torch.tensor(test_t) >= 100
assert (of_long[late] < of_filter[late]).all()
assert of_long.mean() < of_filter.mean()

# %% [markdown]
# A sober picture. Where the noise is weak, 240 steps are hardly better than the line, if at all, and far above a filter from 1942, which knows the spectrum exactly.
# The network that was trained for longer beats the filter by a fifth at $t = 1$, where there is little else to know; by a third from $t = 30$ to 100, where edges
# and shapes can be told from noise; and by less than a tenth from $t = 700$ on, where hardly more is left than what photographs are *of*, and it is told the class. This is the use of a baseline in closed form: a loss of 0.5 alone says nothing.
#
# Now sample: 60 pictures, six of each class, in 40 steps each. (`metrics.draw_images` calls DDIM, which is lesson 10's.)

# %%
start = time.perf_counter()
samples, wanted = metrics.draw_images(
    trained,
    trained.schedule,
    (3, 32, 32),
    60,
    timesteps=samplers.uniform_grid(trained.schedule, 40),
    num_classes=10,
    generator=lesson.generator,
    device=lesson.device,
    precision=lesson.dtype,
)
seconds = time.perf_counter() - start
rate = 40 * len(samples) / seconds
varies(f"{seconds:.1f} s for 60 pictures: {rate:.0f} through the network a second")

# %% tags=["figure", "fold"]
# @title Sixty photographs that nobody took
show(
    image_grid(samples, columns=10, titles=names, size=0.7),
    "Sixty generated pictures, six of each of the ten classes. Colours and layout are "
    "those of photographs, sky above and ground below; some cars, horses, ships and "
    "planes can be made out, most animals are blotches.",
)

# %% [markdown]
# Be honest with it. Sky and water behind planes and ships, green and brown around deer and frogs, dark shapes in the middle: the colours and layouts of the classes
# are there, and some of the things: a car, a horse on its legs, a ship on the water. Most animals are blotches of the right colours. The network has seen one sixtieth of what
# DDPM's had; a GPU can go further, with `course train cifar10-unet --steps 50000` (from the start: the course ships averaged weights, and no checkpoint to go on from). What a number can say about such a wall is lesson
# 09's subject. One thing we can see now: the spectrum of the samples beside that of photographs. Rings below a line are contrast
# that the network does not dare; rings above it would be grain that it has left. *Will it be shy on one of the three axes, or on all?* (Sixty pictures are few, and a single
# gaudy one could tip their sum. The geometric mean asks what a typical picture has.)

# %%
drawn = to_axes(normalize(samples) - mean)
power = torch.fft.fft2(drawn, norm="ortho").abs().square().mean(0)
theirs = torch.stack(
    [torch.stack([p[ring == r].mean() for r in range(side // 2 + 1)]) for p in power]
)


def typical(x: Tensor) -> Tensor:
    """The power of a picture on each axis: their geometric mean over the pictures."""
    return x.var((2, 3)).log().mean(0).exp()


kept = dict(zip(AXES, (typical(drawn) / typical(turned)).tolist(), strict=True))
shares = ", ".join(f"{axis} {share:.0%}" for axis, share in kept.items())
varies(f"a sample's power, of a photograph's: {shares}")
assert math.prod(kept.values()) < 1

# %% tags=["figure", "fold"]
# @title The spectrum of samples and of photographs
figure = plt.figure(figsize=(4.5, 2.4))
for ours, real, name, colour in zip(
    theirs, rings, AXES, (BLACK, ORANGE, PINK), strict=True
):
    plt.loglog(range(1, side // 2 + 1), real[1:], color=colour, label=name)
    plt.loglog(range(1, side // 2 + 1), ours[1:], "o", ms=4, mfc="none", color=colour)
plt.gca().set(
    xlabel="frequency |k|",
    ylabel="power",
    title="photographs (lines) and samples (rings)",
)
plt.legend(fontsize=8)
show(
    figure,
    "Power spectra of photographs as lines and of samples as rings, which run along "
    "below the lines on every axis.",
)

# %% [markdown]
# It is shy on all of them. On which one most, a single wall cannot say: in five walls of sixty, from five seeds
# (`course bench robust 08`), brightness kept 79 to 87 % of a photograph's power, warm against cold 74 to 80 %, magenta against green
# anything from 56 to 93 %. In four of the five that was the least, as one would expect of the axis whose waves the noise drowns first;
# in one it was the most.
#
# ## 7 · What usually goes wrong
#
# **(a) A flip that leaks.** "Augmentation never hurts", so somebody flips the digits. Then the data *are* half mirror images, the network learns them faithfully, and half of
# its samples are mirrored. What are those worth? Ask the course's classifier what it sees in real digits, and in their mirror images.

# %%
judge = pretrained.load_classifier("mnist", lesson.device)
some_digits, true = digits[:2000], digit_labels[:2000]
straight, mirrored = (
    look_at(judge, images)[1] for images in (some_digits, some_digits.flip(-1))
)
shares = torch.tensor(
    [
        [(seen[true == c] == c).float().mean() for c in range(10)]
        for seen in (straight, mirrored)
    ]
)
written, turned_round = ((seen == true).float().mean() for seen in (straight, mirrored))
varies(f"as written {written:.0%}, mirrored {turned_round:.0%}")
mixture = (written + turned_round) / 2
varies(f"samples of a perfect model of flipped digits would get {mixture:.0%}")
assert shares[1, [0, 1, 8]].min() > 0.9
assert shares[1, [2, 3, 5, 6, 7, 9]].max() < 0.2

# %% tags=["figure", "fold"]
# @title What the classifier sees in mirrored digits
figure, axis = plt.subplots(figsize=(7, 2.5))
axis.bar(torch.arange(10) - 0.2, shares[0], 0.4, color=BLUE, label="as written")
axis.bar(torch.arange(10) + 0.2, shares[1], 0.4, color=ORANGE, label="mirrored")
axis.set(xticks=range(10), xlabel="digit", ylabel="seen as itself", ylim=(0, 1.05))
axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2)
show(
    figure,
    "The share of digits that the classifier sees as themselves. As written nearly "
    "all; mirrored, only 0, 1 and 8 and most fours keep their class.",
)

# %% [markdown]
# Only 0, 1 and 8, and a good part of the fours, survive the mirror. A mirrored 2 is no digit at all. And no loss curve shows it: the network is *right* about the data that it was given. The game of section 3 shows it before the training. If you
# need an augmentation that leaks (few data, say), tell the network which one was used, as one more label, and ask for the plain kind when you sample (Karras et al. 2022).
#
# **(b) The wrong range.** Somebody feeds pictures in $[0, 1]$ to a schedule, and a network, made for $[-1, 1]$. Nothing raises. By (8.1) there is $\ln 4$ less signal at every $t$:
# a picture at $t$ is as noisy as it should be at a later $t'$ with $\ln\mathrm{SNR}_{t'} = \ln\mathrm{SNR}_t - \ln 4$. And the network believes what it is told.

# %%
lower = schedule.log_snr(torch.arange(1, 1001))
later = {
    t: int((lower >= schedule.log_snr(t) - torch.tensor(4.0).log()).sum())
    for t in (100, 300, 500)
}
print("in [0, 1], the picture at t is as noisy as it should be at t':", later)
assert all(t_prime > t + 40 for t, t_prime in later.items())

# %% [markdown]
# What does that cost? The same photographs with the same noise, once in the right range and once in $[0, 1]$, its answers stretched back to $[-1, 1]$:

# %%
price = {}
for t in (100, 300, 500):
    noise = forward.noise_like(x_0, lesson.generator)
    honest = ask(trained, forward.q_sample(x_0, t, schedule, noise), t, label)
    x_t = forward.q_sample((x_0 + 1) / 2, t, schedule, noise)
    fooled = 2 * ask(trained, x_t, t, label) - 1
    price[t] = ((fooled - x_0).square().mean() / (honest - x_0).square().mean()).item()
    varies(f"t = {t}: the error in the wrong range, over the right one {price[t]:.1f}")
assert min(price.values()) > 1.3

# %% tags=["figure", "fold"]
# @title Two photographs in the wrong range
t, some_photos = 300, x_0[[3, 20]]
noise = forward.noise_like(some_photos, lesson.generator)
rows = []
for a, b in ((1.0, 0.0), (0.5, 0.5)):
    x_t = forward.q_sample(a * some_photos + b, t, schedule, noise)
    rows += [(x_t - b) / a, (ask(trained, x_t, t, label[[3, 20]]) - b) / a]
show(
    image_grid(
        torch.stack([some_photos, *rows], 1).flatten(0, 1),
        columns=5,
        titles=["photo", "$x_t$, [-1, 1]", "answer", "$x_t$, [0, 1]", "answer"],
        size=1.1,
    ),
    "Two photographs, noised at t = 300 in the right range and in the wrong one, each "
    "with the network's answer, all shown in the same range. In the wrong range the "
    "pictures are twice as noisy and the answers grainy.",
)

# %% [markdown]
# (The last two columns are stretched back to $[-1, 1]$ to be comparable.) Trained from scratch on $[0, 1]$, a network would adapt, since it knows $\mu$ and $s$. But the schedule would spend its
# thousand steps on other noise levels than intended. Check the range once, at the door: `normalize` refuses anything but bytes.
#
# **(c) float16 without a scale.** Gradients travel backwards through the layers. Let them travel in float16, by rounding them at the door of each layer, and compare the gradient of the weights with the exact one. (That the
# rest is in float32 isolates the effect, and works on every machine.) The loss is a mean over the batch: 16 of $n$ images have the share $16/n$ in it. So dividing their loss by $n/16$ shows what these messages look like in a batch of $n$.


# %%
def backward(scale: float, in_half: bool) -> tuple[Tensor, Tensor]:
    """The weights' gradient, and all messages that came in at the doors of its layers,
    for a loss times `scale`."""
    model, seen = copy.deepcopy(short_run).cpu().train().requires_grad_(True), []

    def door(module: nn.Module, message: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(message[0].flatten())
        return (message[0].half().float(),) if in_half else message

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_full_backward_pre_hook(door)
    loss = losses.denoising_loss(
        model, x, t, schedule, eps, data_std=model.data_std, label=labels[:16]
    ).mean()
    found = torch.autograd.grad(scale * loss, list(model.parameters()))
    return torch.cat([g.flatten() for g in found]) / scale, torch.cat(seen)


x, eps = world[:16], forward.noise_like(world[:16], lesson.generator)
t = torch.randint(1, 1001, (16,), generator=lesson.generator)
exact, messages = backward(1.0, in_half=False)
powers = list(range(-7, 34, 4))
off = torch.tensor(
    [((backward(2.0**p, True)[0] - exact).norm() / exact.norm()).item() for p in powers]
)
in_batch = {
    n: ((messages * 16 / n).half() == 0).float().mean().item() for n in (128, 2048)
}


# %% tags=["fold"]
# @title Drawing the sizes of gradients, and what float16 makes of them
def draw_sizes(axis: plt.Axes) -> None:
    """How large the messages are, as they are and scaled."""
    some = messages[::37]
    sizes = (some[some != 0].abs() * 16 / 128).log2()
    look = {"bins": 60, "range": (-45, 35), "density": True, "alpha": 0.6}
    axis.hist(sizes.tolist(), color=ORANGE, label="batch of 128", **look)
    scaled = "the same, times $2^{16}$"
    axis.hist((sizes + 16).tolist(), color=BLUE, label=scaled, **look)
    axis.axvspan(-45, -25, color=BLACK, alpha=0.12)
    axis.axvspan(16, 35, color=BLACK, alpha=0.12)
    axis.text(-44, 0.128, "becomes 0", fontsize=8)
    axis.text(17.5, 0.128, "becomes ∞", fontsize=8)
    axis.set(xlabel="log2 |gradient| at the layers' doors", ylabel="density")
    axis.set(ylim=(0, 0.16), xlim=(-45, 35))
    axis.legend(fontsize=8, loc="upper center")


# %% tags=["figure", "fold"]
# @title Gradients in float16, and the scale that saves them
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
draw_sizes(left)
right.semilogy(powers, off, "o-", ms=4, color=BLUE)
last = max(p for p, e in zip(powers, off, strict=True) if e.isfinite())
right.axvspan(last + 2, 36, color=BLACK, alpha=0.12)
right.text(33.5, off[0] / 3, "NaN", fontsize=8, ha="right", va="top")
right.axvline(16, color=BLACK, lw=1, ls="--")
right.text(
    15.5, off[-5] * 3, "PyTorch's first scale", fontsize=8, rotation=90, ha="right"
)
for n in (128, 2048):
    power = round(math.log2(16 / n))
    y = off[powers.index(power)]
    right.plot(power, y, "o", ms=7, color=ORANGE)
    right.text(power + 1, y, f"batch of {n:,}, no scale", fontsize=8, va="center")
right.set(
    xlabel="log2 of the scale", ylabel="error of the weights' gradient", xlim=(-10, 36)
)
show(
    figure,
    "Left: sizes of gradients inside the network on a log axis; a part of them lies "
    "where float16 has only zero, none after scaling. Right: "
    "the relative error of the weights' gradient is large for small scales, falls to "
    "a plateau, and is NaN when the scale is too large.",
)

# %% [markdown]
# In numbers:

# %%
lost = ", ".join(f"{share:.0%} in a batch of {n}" for n, share in in_batch.items())
scaled = ((messages / 8 * 2**16).half() == 0).float().mean()
varies(f"messages that vanish without a scale: {lost}; with 2^16: {scaled:.2%}")
squares = (exact.square().half() == 0).float().mean().item()
varies(f"and {squares:.0%} of the squares that Adam keeps: so they stay in float32")
assert in_batch[2048] > in_batch[128] > 0.02
assert off[0] > 10 * off[powers.index(17)]
assert all(off[powers.index(power)] < 1e-3 for power in (9, 13, 17))
assert not off[-1].isfinite()
assert squares > 0.2

# %% [markdown]
# Too small, and messages vanish in silence: the large ones arrive, so nothing looks broken, but the gradient is off, the more
# the larger the batch. Too large, and the step is lost with a bang. Between them lies a plateau
# of eight powers of two and more, and (8.9) finds it. bfloat16 has no such problem: its smallest numbers are as small as float32's.
#
# ## 8 · The answer
#
# How many of the 1,024 waves stand at $t = 500$?

# %%
answer = standing(torch.tensor([500]))[0].tolist()
print(
    f"at t = 500: {answer[0]} of 1,024 waves of brightness, {answer[1]} and "
    f"{answer[2]} of the two colours; you guessed {guess.value}"
)
assert answer == [11, 1, 0]

# %% [markdown]
# Eleven, and one of colour. All other waves of the picture are quieter than the noise on them. What can one make of that? Side by side: the waves that stand, the filter's answer, and the
# network's.

# %% tags=["figure", "fold"]
# @title What can be made of eleven waves
t, chosen = 500, [2, 20, 77]
clean = x_0[chosen]
x_t = forward.q_sample(clean, t, schedule, forward.noise_like(clean, lesson.generator))
stand = what_stands(clean, t)
show(
    image_grid(
        torch.cat(
            [clean, stand, filtered(x_t, t), ask(trained, x_t, t, label[chosen])]
        ),
        columns=3,
        size=0.8,
        titles=[CLASSES["cifar10"][c] for c in label[chosen].tolist()],
        row_labels=["photo", "what stands", "filter", "network"],
    ),
    "Three photographs, the few waves of each that stand above the noise at t = 500, "
    "the Wiener filter's answers and the network's, "
    "which have a little more shape and contrast.",
)

# %% [markdown]
# So this is what changes. **Photographs keep their power in a few broad waves, and noise takes them apart from fine to coarse, and colour before brightness.** The loop of lesson 07 is the
# same, word for word. What needs care is around it: the range of the numbers, the symmetries that the data really have, labels that are sometimes left out, and arithmetic that is fast
# and does not overflow.
#
# ### In your own words
# *Manually graded, about three lines.* A friend has photographs of road signs, as floats in $[0, 1]$, and takes over our recipe for CIFAR-10 as it is: made for $[-1, 1]$, with flips. Which two things go wrong?
# How would you have found out *before* a night of training?

# %% [markdown] tags=["manual"] question="08.own_words" points=2
# ### BEGIN SOLUTION
# The range: in $[0, 1]$ the pixels have a quarter of the variance, so the log-SNR is lower by $\ln 4$ at every $t$; the pictures drown earlier than the schedule intends. Compute mean and standard deviation of what goes in,
# or the log-SNR. The flips: arrows and letters are not symmetric, a mirrored "turn left" is a "turn right" with the wrong label, and the network will sample such signs. Play the mirror game: if a
# simple classifier can tell a picture from its mirror image, or if a trained one changes its mind about the class, do not flip.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: the range shifts the log-SNR (less signal at every $t$), and a check of it (range, standard deviation or log-SNR of the inputs). One point: mirrored signs are other
# signs or none, so flips leak into the classes, and a check of it (mirror game, classifier on flipped images, looking at flipped batches).

# %% [markdown]
# ## Summary
#
# * All channels share one noise level; how noisy a picture is depends on its range too, (8.1). $[0, 1]$ instead of $[-1, 1]$ costs $\ln 4$.
# * White noise is white in all orthogonal axes, (8.2), (8.3). Photographs are not: brightness before colour, broad before fine, so noise takes the fine waves first, (8.4).
# * The spectrum alone gives a denoiser with a known error, (8.5). A network is worth what it gains over that.
# * Flip only what cannot be told from its mirror image, (8.6).
# * Drop every tenth label: one network, two answers, (8.7).
# * Bytes, space-to-depth, channels-last, half precision, compile. Over several processes, average gradients of equal shares, (8.8). In float16, scale the loss, (8.9).

# %%
progress("08")

# %% [markdown]
# ## References
#
# * Krizhevsky: *Learning Multiple Layers of Features from Tiny Images*, 2009. CIFAR-10.
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. Appendix B: 35.7 million weights, 800,000 steps of 128 photographs, random horizontal flips for CIFAR-10.
# * Wiener: *Extrapolation, Interpolation, and Smoothing of Stationary Time Series*, 1949, written in 1942. Our (8.5).
# * Field: *Relations between the Statistics of Natural Images and the Response Properties of Cortical Cells*, 1987; van der Schaaf, van Hateren: *Modelling the Power
#   Spectra of Natural Images*, 1996. Power that falls roughly as $1/f^2$.
# * Rissanen, Heinonen, Solin: *Generative Modelling with Inverse Heat Dissipation*, 2023; Dieleman: *Diffusion Is Spectral Autoregression*, 2024 (a blog post). Diffusion
#   goes from coarse to fine, seen in the spectrum.
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. Section 5: augmentation that does not leak.
# * Ho, Salimans: *Classifier-Free Diffusion Guidance*, 2022. Labels that are dropped in training.
# * Micikevicius et al.: *Mixed Precision Training*, 2018. Section 3.2: loss scaling, and the histogram that ours is modelled on.
# * Wu, He: *Group Normalization*, 2018.
#
# **Next:** "they look nice" is no measurement. Lesson 09 puts numbers on samples, and error bars on the numbers.
