# %% [markdown]
# # 02 · Noise schedules
#
# *You will learn to read a schedule on the one axis that matters, count in bits what each of its steps is worth, and
# let real digits say how it should run. About 75 minutes to read and run, 55 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports and digits
import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course_utils import forward, parameterizations, schedules, variational
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
    to_pixels,
    use_style,
)
from course_utils.runtime import varies
from course_utils.toy import IdealDenoiser
from course_utils.widgets import choice, explore, slider

use_style()
digits, labels = load_images("mnist", "train", n=10_000)

# %% [markdown]
# ## The question
#
# In lesson 01 the betas fell from the sky. Who chose them? Here are two schedules that people use. Both start at the picture,
# both take 1000 steps, and both end in the same noise.

# %%
first, second = schedules.linear(), schedules.cosine()
seven = normalize(digits[labels == 7][3:4])
noise = forward.noise_like(seven, lesson.generator)
frames = list(range(0, 1001, 100))


def film(schedule: schedules.Schedule, times: list[int] = frames) -> Tensor:
    """The seven at the given times, always with the same noise."""
    return torch.cat([forward.q_sample(seven, t, schedule, noise) for t in times])


# %% tags=["figure", "fold"]
# @title A seven by two schedules
show(
    image_grid(
        torch.cat([film(first), film(second)]),
        columns=11,
        titles=[f"t = {t}" for t in frames],
        row_labels=["schedule A", "schedule B"],
        size=0.8,
    ),
    "A seven fading into noise by two schedules, t from 0 to 1000. By A it is hard to "
    "see at 400, by B at 600 or 700.",
)

# %% [markdown]
# One of the two spends **more than a quarter of its steps on pictures that hold less than one bit of the digit**: not enough
# to settle a single yes-or-no question, even for a perfect observer, if both answers are equally likely. *Which one? And how could you know before training
# anything?*

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice(
    "More than a quarter of its steps are spent on nothing by",
    ["schedule A", "schedule B"],
)
guess

# %% [markdown]
# ## 1 · From beta to alpha_bar and back
#
# Some schedules are written as betas, one variance a step. DDPM's is a straight line; an exponential keeps the *ratio* of
# neighbours constant. With $\beta_1 = 10^{-4}$, and $\beta_T = 0.02$ and $0.04$ unless told,
#
# $$\text{linear: } \beta_t = \beta_1 + \tfrac{t - 1}{T - 1}\,(\beta_T - \beta_1), \qquad
# \text{exponential: } \beta_t = \beta_1\,(\beta_T/\beta_1)^{(t - 1)/(T - 1)}. \tag{2.1}$$
#
# Others are written as $\bar\alpha_t$, the share of the picture's variance that is left. With $u = t/T$ and
# $h(u) = \operatorname{sigmoid}\bigl((a + u\,(b - a))/\tau\bigr)$, and $a, b = -3, 3$ and $\tau = 1$ unless told,
#
# $$\text{cosine: } \bar\alpha_t = \frac{f(t)}{f(0)},\ f(t) = \cos^2\left(\frac{u + s}{1 + s}\cdot\frac{\pi}{2}\right),
# \qquad \text{sigmoid: } \bar\alpha_t = \frac{h(1) - h(u)}{h(1) - h(0)}. \tag{2.2}$$
#
# Both fall from exactly 1 to exactly 0. Lesson 01 went from beta to alpha_bar, by a product. The way back is a division,
# because neighbours in a cumulative product differ by one factor, $\bar\alpha_t = (1 - \beta_t)\,\bar\alpha_{t-1}$:
#
# $$\beta_t = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}}. \tag{2.3}$$
#
# There is a trap at the end. If $\bar\alpha_T = 0$, then $\beta_T = 1$: the last step throws away all that is left. And
# (1.7), the way from the noise back to the picture, divides by $\sqrt{\bar\alpha_T}$. So Nichol and Dhariwal *clip*: no beta
# above 0.999.
#
# ### Exercise 1 · Back from alpha_bar to the betas
# *10 minutes · easy · Eq. (2.3).* `alpha_bar` has $T + 1$ entries, the first of them 1. Return $\beta_1 … \beta_T$, clipped.


# %% tags=["exercise"] exercise="02.betas_from_alpha_bar" points=1
# Exercise 02.betas_from_alpha_bar
def betas_from_alpha_bar(alpha_bar: Tensor, max_beta: float) -> Tensor:
    """(T + 1,) alpha_bars to (T,) betas, none of them above max_beta."""
    ### BEGIN SOLUTION
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `alpha_bar[1:]` are the entries for $t$, `alpha_bar[:-1]` those for $t - 1$. `.clamp(max=…)` is an upper limit.
#
# </details>

# %% tags=["check"]
check("02.betas_from_alpha_bar", betas_from_alpha_bar)

# %% [markdown]
# ### Exercise 2 · The cosine schedule
# *10 minutes · easy · Eq. (2.2).* The whole table for $t = 0 … T$, without the clip.


# %% tags=["exercise"] exercise="02.cosine_alpha_bar" points=1
# Exercise 02.cosine_alpha_bar
def cosine_alpha_bar(T: int, s: float) -> Tensor:
    """The alpha_bar_t of Eq. (2.2), (T + 1,), float64."""
    ### BEGIN SOLUTION
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = ((u + s) / (1 + s) * torch.pi / 2).cos() ** 2
    return f / f[0]
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.linspace(0, 1, T + 1, dtype=torch.float64)` is $t/T$ at all $T + 1$ times, and `f[0]` is $f(0)$.
#
# </details>

# %% tags=["check"]
check("02.cosine_alpha_bar", cosine_alpha_bar)

# %% [markdown]
# What is the small offset $s = 0.008$ good for? Without it the cosine starts so flat that the first steps do nothing. Nichol
# and Dhariwal chose it so that the first step's noise, $\sqrt{\beta_1}$, comes near the distance between two grey levels,
# which is $1/127.5$ when pixels run from $-1$ to 1.

# %%
# Eq. (2.3)
without, with_s = (schedules.cosine(s=s).betas[1].sqrt() * 127.5 for s in (0.0, 0.008))
print(
    f"noise of the first step, in grey levels: {without:.2f} without the offset, "
    f"{with_s:.2f} with it"
)
assert without < 0.25 < 0.75 < with_s < 1

# %% [markdown]
# From here on the page uses the course's own schedules. The four families, in three views:

# %%
families = {
    "linear": schedules.linear(),
    "exponential": schedules.exponential(),
    "cosine": schedules.cosine(),
    "sigmoid": schedules.sigmoid(),
}
colours = dict(zip(families, [BLUE, GREEN, ORANGE, PINK], strict=True))
steps = torch.arange(1, 1001)

# %% tags=["figure", "fold"]
# @title Four families in three views
figure, axes = plt.subplots(1, 3, figsize=(10, 2.9))
for name, schedule in families.items():
    views = schedule.betas[steps], schedule.alpha_bar[steps], schedule.log_snr(steps)
    for axis, values in zip(axes, views, strict=True):
        axis.plot(steps, values, color=colours[name], label=name)
axes[0].set(yscale="log", xlabel="t", title=r"$\beta_t$: one step's noise")
axes[1].set(xlabel="t", title=r"$\bar\alpha_t$: the share of picture left")
axes[2].set(xlabel="t", title="log-SNR", ylim=(-13, 12))
axes[0].legend()
show(
    figure,
    "Four schedules as beta on a log axis, alpha_bar and log-SNR. Linear loses "
    "alpha_bar first, exponential last; cosine and "
    "sigmoid lie close together, and differ at the ends.",
)

# %% [markdown]
# The first view does not say when the picture is gone: that depends on all betas so far. The second does, but squeezes both
# ends against 1 and 0. The third shows the ends as well, and it deserves a section.
#
# ## 2 · The natural axis
#
# The signal-to-noise ratio spans many powers of ten, so take its logarithm, the natural one:
#
# $$\lambda_t = \log \mathrm{SNR}(t) = \log\frac{\bar\alpha_t}{1 - \bar\alpha_t}, \qquad\text{and back,}\qquad
# \bar\alpha_t = \frac{1}{1 + e^{-\lambda_t}} = \operatorname{sigmoid}(\lambda_t). \tag{2.4}$$
#
# (Solve $e^{\lambda} = \bar\alpha/(1 - \bar\alpha)$ for $\bar\alpha$.) It is $+\infty$ for clean data and $-\infty$ for pure
# noise. (Lesson 01 counted in decibels; 10 dB are 2.3 here.)
#
# ### Exercise 3 · The log-SNR
# *5 minutes · easy · Eq. (2.4).* For every entry of the table, infinite ends included.


# %% tags=["exercise"] exercise="02.log_snr" points=1
# Exercise 02.log_snr
def log_snr(alpha_bar: Tensor) -> Tensor:
    """Eq. (2.4), of the shape of alpha_bar;
    +inf where alpha_bar is 1, -inf where it is 0, never NaN."""
    ### BEGIN SOLUTION
    return alpha_bar.log() - (1 - alpha_bar).log()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.log(0)` is `-inf`, and PyTorch calculates on with it: no special case, no small constant. PyTorch also has the whole
# function, under the name statisticians use.
#
# </details>

# %% tags=["check"]
check("02.log_snr", log_snr)

# %% [markdown]
# Why is this the natural axis? Because $\lambda$ alone fixes both factors of $x_t = \alpha_t x_0 + \sigma_t\epsilon$, namely
# $\alpha_t^2 = \operatorname{sigmoid}(\lambda_t)$ and $\sigma_t^2 = \operatorname{sigmoid}(-\lambda_t)$. Two schedules with
# the same $\lambda$ show the *same picture*, whatever their $t$. Try it: where does a cosine have the log-SNR that the linear
# schedule has at $t = 300$?

# %%
# Eq. (2.4)
wanted = first.log_snr(300)
smooth = schedules.VPCosine()  # no offset, no steps: its t runs from 0 to 1
there = smooth.t_at_log_snr(wanted)
print(
    f"linear, t = 300 of 1000: log-SNR {wanted:.2f}; a cosine is there after "
    f"{there:.1%} of its time"
)
here, same = (
    forward.q_sample(seven.double(), time, schedule, noise.double())
    for time, schedule in [(300, first), (there, smooth)]
)
assert torch.allclose(here, same, atol=1e-9)  # one picture, up to rounding

# %% [markdown]
# So a schedule is nothing but a falling curve $t \mapsto \lambda$. It says **how long to stay at each noise level**: steep
# means hurry, flat means linger. Everything else about it is bookkeeping.
#
# Edit one. *Predict first: give the sigmoid a small `tau`, and what becomes of the film?*

# %% tags=["fold"]
# @title Drawing a schedule among the four, and its film
editable = {
    "linear": lambda beta_T, s, tau: schedules.linear(beta_T=beta_T),
    "exponential": lambda beta_T, s, tau: schedules.exponential(beta_T=beta_T),
    "cosine": lambda beta_T, s, tau: schedules.cosine(s=s),
    "sigmoid": lambda beta_T, s, tau: schedules.sigmoid(tau=tau),
}


def edit(family: str, beta_T: float, s: float, tau: float) -> plt.Figure:
    """The log-SNR curve of one schedule among the four standard ones, and the film it
    makes."""
    schedule = editable[family](beta_T, s, tau)
    figure = plt.figure(figsize=(9, 4.4))
    grid = figure.add_gridspec(2, 9, height_ratios=[2.6, 1])
    curve = figure.add_subplot(grid[0, :])
    for other in families.values():
        curve.plot(steps, other.log_snr(steps), color="0.8", lw=1)
    curve.plot(steps, schedule.log_snr(steps), color=BLUE)
    curve.set(
        xlabel="t",
        ylabel="log-SNR",
        ylim=(-13, 12),
        title=f"{family}; in grey the four standard schedules",
    )
    times = range(0, 1001, 125)
    for i, picture in enumerate(to_pixels(film(schedule, times))):
        axis = figure.add_subplot(grid[1, i])
        axis.imshow(picture, vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"t = {times[i]}", fontsize=9)
    return figure


# %% tags=["widget", "fold"]
# @title Edit a schedule
explore(
    edit,
    alt="Above, the log-SNR of the chosen schedule against t; below, a seven at nine "
    "times.",
    family=choice("family", list(families), "cosine"),
    beta_T=slider(
        "last beta (linear, exponential)",
        0.002,
        0.2,
        0.02,
        step=0.002,
        readout_format=".3f",
    ),
    s=slider("offset s (cosine)", 0.0, 0.5, 0.008, step=0.004, readout_format=".3f"),
    tau=slider("tau (sigmoid)", 0.1, 3.0, 1.0, step=0.1),
)

# %% [markdown]
# The four families as films, for a page without a running kernel:

# %% tags=["figure", "fold"]
# @title The four families as films
show(
    image_grid(
        torch.cat([film(schedule) for schedule in families.values()]),
        columns=11,
        titles=[f"t = {t}" for t in frames],
        row_labels=list(families),
        size=0.8,
    ),
    "A seven fading by four schedules. Linear is noise from 500 on, cosine and "
    "sigmoid from about 700, exponential from 800.",
)

# %% [markdown]
# ## 3 · The end
#
# Generation will start from pure noise, $x_T \sim \mathcal N(0, I)$. Does the forward process end there? The linear schedule
# stops at $\sqrt{\bar\alpha_T} = 0.0064$, and Stable Diffusion's, a line in $\sqrt\beta$, at 0.068. Small. But is it nothing?
#
# > **Three words, ahead of lesson 03.** *Nats*: to tell somebody an event of probability $p$ takes $-\log p$ nats, or
# > $-\log_2 p$ bits; one nat is 1.44 bits. *Divergence*: telling draws of $q$ in a code made for $p$ takes on average
# > $\mathrm{KL}(q\,\|\,p) = \mathbb E_q[\log q - \log p]$ nats too many; it is zero only if $p$ and $q$ agree. *The bound*: a
# > diffusion model tells a picture from the noisy end to the clean one, and what that takes, a sum of divergences,
# > $L_T$ for the end and one $L_{t-1}$ for each step from $t$ back to $t - 1$, can never be less than $-\log p(x_0)$.
#
# Measure the end by the first term of that bound: by how many nats does $q(x_T \mid x_0)$ differ from $\mathcal N(0, I)$?
# Both are Gaussians, and for one number $\mathrm{KL}\bigl(\mathcal N(m, V)\,\|\,\mathcal N(0, 1)\bigr) =
# \tfrac12(V + m^2 - 1 - \log V)$. Here $m = \sqrt{\bar\alpha_T}\,x_0$ and $V = 1 - \bar\alpha_T$, so for $d$ pixels
#
# $$L_T = \tfrac12\Bigl[\bar\alpha_T \lVert x_0\rVert^2 - d\,\bigl(\bar\alpha_T + \log(1 - \bar\alpha_T)\bigr)\Bigr]
# \approx \tfrac12\,\bar\alpha_T \lVert x_0\rVert^2. \tag{2.5}$$

# %%
# Eq. (2.5)
pictures = normalize(digits)
stable = schedules.DiscreteSchedule.from_betas(
    torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2
)
cured = schedules.rescale_zero_terminal_snr(first)  # you will write this in a moment
for name, schedule in (
    families | {"Stable Diffusion": stable, "linear, cured": cured}
).items():
    bits = variational.prior_kl(pictures, schedule).mean() / math.log(2)
    print(
        f"{name:17} sqrt(alpha_bar_T) = {schedule.coeffs(1000)[0]:.6f}   left at the "
        f"end: {bits:.4f} bits a digit"
    )

# %% [markdown]
# Lin and others print these roots: 0.006353, 0.000049 and 0.068265 for linear, cosine and Stable Diffusion. A fiftieth of a
# bit is little for a small digit. But (2.5) adds up over pixels, and noise does not get stronger when a picture gets larger:

# %%
for schedule, root in [(first, 0.006353), (second, 4.928e-5), (stable, 0.068265)]:
    assert abs(schedule.coeffs(1000)[0] / root - 1) < 1e-3  # Lin et al. 2023, Table 1
large = pictures[:20].repeat_interleave(16, -1).repeat_interleave(16, -2)
small_bits, large_bits = (
    variational.prior_kl(x, first).mean().item() / math.log(2)
    for x in (pictures[:20], large)
)
print(
    f"linear, the same digits at 28 x 28: {small_bits:.3f} bits; enlarged to 448 x "
    f"448: {large_bits:.1f} bits"
)
assert abs(large_bits / small_bits / 16**2 - 1) < 1e-3

# %% [markdown]
# Where would one notice? In what survives an average over all pixels: the mean brightness. A digit is mostly
# black, so its mean is near $-0.74$, and at $t = T$ a mean of $-0.74\sqrt{\bar\alpha_T}$ is left, under noise of only
# $1/\sqrt{784}$.

# %%
eps = forward.noise_like(pictures, lesson.generator)
brightness = {
    name: forward.q_sample(pictures, 1000, schedule, eps).mean((1, 2, 3))
    for name, schedule in [
        ("Stable Diffusion", stable),
        ("linear", first),
        ("cured", cured),
    ]
}

# %% tags=["figure", "fold"]
# @title The mean brightness at t = T
figure, bins = plt.figure(figsize=(7, 2.6)), torch.linspace(-0.2, 0.15, 71)
for (name, values), colour in zip(
    brightness.items(), [ORANGE, BLUE, GREEN], strict=True
):
    plt.hist(
        values,
        bins.tolist(),
        density=True,
        histtype="step",
        lw=1.5,
        color=colour,
        label=name,
    )
normal = torch.exp(-784 * bins**2 / 2) * (784 / (2 * torch.pi)) ** 0.5
plt.plot(bins, normal, color=BLACK, lw=1, ls="--", label="pure noise")
plt.gca().set(xlabel="mean brightness of $x_T$", ylabel="density")
plt.legend()
show(
    figure,
    "Histograms of the mean brightness at t = T. Cured and linear lie on pure noise; "
    "Stable Diffusion's is shifted to the left.",
)

# %%
error = (784 * len(pictures)) ** -0.5  # standard error of a mean over this much noise
shift = {name: values.mean().item() for name, values in brightness.items()}
for name, value in shift.items():
    print(f"{name:17} mean brightness at T: {value:+.4f} ± {error:.4f}")
assert shift["linear"] < -5 * error
assert abs(shift["cured"]) < 4 * error

# %% [markdown]
# With Stable Diffusion's schedule the shift is larger than the width of the noise: a single $x_T$ already hints that its
# picture was dark. With the linear one it takes many pictures to notice. A network can learn to read that trace; at
# generation it is handed pure noise, whose mean says "medium". Lin and others found that Stable Diffusion could not paint a
# picture that is dark or bright all over, and cured it.
#
# Give the curve $r_t = \sqrt{\bar\alpha_t}$, the factor on the picture, a shift so that it ends at 0, and a scale so that it
# keeps its start, $r_1$. A shift and a scale are two unknowns: $r_t - r_T$ has the right end, and its scale must be
# $r_1/(r_1 - r_T)$ for the start to be $r_1$:
#
# $$\sqrt{\bar\alpha'_t} = \bigl(\sqrt{\bar\alpha_t} - \sqrt{\bar\alpha_T}\bigr)\,
# \frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1} - \sqrt{\bar\alpha_T}}, \qquad t = 1 … T. \tag{2.6}$$
#
# ### Exercise 4 · An end without a trace
# *15 minutes · medium · Eq. (2.6).* From the old table to the new one. Mind what (2.6) is about: roots, and times from 1 on.


# %% tags=["exercise"] exercise="02.zero_terminal_snr" points=2
# Exercise 02.zero_terminal_snr
def zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """(T + 1,) alpha_bars, rescaled so that the last is 0;
    entries 0 and 1 stay as they are."""
    ### BEGIN SOLUTION
    r = alpha_bar.sqrt()
    rescaled = (r[1:] - r[-1]) * r[1] / (r[1] - r[-1])
    return torch.cat([alpha_bar[:1], rescaled**2])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Take the root of the whole table first, square at the end. `alpha_bar[:1]`, the entry for clean data, goes back in front
# untouched.
# </details>

# %% tags=["check"]
check("02.zero_terminal_snr", zero_terminal_snr)

# %% [markdown]
# A schedule that ends at exactly 0 has a price: at $t = T$ the noise *is* the picture $x_T$, so a network that predicts noise
# has nothing to learn there, and (1.7) divides by 0. Such schedules want a network that predicts $x_0$ or $v$ (lesson 03).
# Section 7 shows what happens if one forgets.
#
# ## 4 · What a schedule cannot change
#
# Time to count. Lesson 03 will derive what one step back costs, when the picture is $x_0$ and the denoiser's guess is
# $\hat x_0(x_t)$:
#
# $$L_{t-1} = \tfrac12\,\bigl(\mathrm{SNR}(t-1) - \mathrm{SNR}(t)\bigr)\,\lVert x_0 - \hat x_0(x_t)\rVert^2 \ \text{nats}, \tag{2.7}$$
#
# and that their sum over all steps, with what the two ends cost, bounds $-\log p(x_0)$: the nats it takes to tell which picture
# it was. (The ends are (2.5) for the noisy one, and telling the picture from $x_1$. In the test below both cost next to
# nothing.) Take (2.7) on credit; it will have to stand that test in a minute. Now let the steps become short. With $\mathrm{SNR} = e^{\lambda}$ the difference
# becomes a derivative, $\mathrm{SNR}(t - dt) - \mathrm{SNR}(t) = -\lambda'(t)\,e^{\lambda(t)}\,dt$, and the sum becomes an
# integral:
#
# $$L = \int_0^1 -\lambda'(t)\; c\bigl(\lambda(t)\bigr)\,dt, \qquad
# c(\lambda) = \tfrac12\, e^{\lambda}\;\mathbb E\,\lVert x_0 - \hat x_0\rVert^2. \tag{2.8}$$
#
# The error depends on $t$ through $\lambda$ alone, since equal $\lambda$ means equal pictures. So change the variable from
# $t$ to $\lambda$:
#
# $$L = \int_{\lambda(1)}^{\lambda(0)} c(\lambda)\,d\lambda. \tag{2.9}$$
#
# The schedule has dropped out. Only its two ends are left. **Linear, cosine, anything: over the same range of noise, the
# bound, but for its ends, is the same number**. It is the area under one curve, which belongs to the data and the denoiser.
#
# We can draw that curve for the perfect observer of lesson 01. Let the world hold 1,024 digits, each equally likely.

# %%
world = pictures[:1024]


def squared_errors(t: Tensor, schedule: schedules.Schedule) -> Tensor:
    """|x_0 - x0_hat|² of the perfect observer, for a random digit and fresh noise at
    each of the times t."""
    x_0 = world[torch.randint(len(world), (len(t),), generator=lesson.generator)]
    x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    x0_hat = IdealDenoiser(world, schedule)(x_t, t)
    return (x_0 - x0_hat).double().square().sum((1, 2, 3))


def table(log_snr: Tensor) -> schedules.DiscreteSchedule:
    """The schedule that has the given falling log-SNRs at t = 1, 2, 3, …"""
    return schedules.DiscreteSchedule(
        torch.cat([log_snr.new_ones(1), torch.sigmoid(log_snr)])
    )


# %%
# Eq. (2.8)
levels = torch.linspace(3, -10, 53, dtype=torch.float64)  # log-SNRs, a quarter apart
step, n = 0.25, 256  # 256 pictures a level
t = torch.arange(1, 54).repeat_interleave(n)
errors = squared_errors(t, table(levels)).reshape(53, n)
costs = errors * levels.exp()[:, None] / 2 / math.log(2)  # in bits
c = costs.mean(1)

# %% [markdown]
# *Predict before you run: what is the area under this curve?* The perfect observer cannot be beaten, and with steps as short
# as these nothing is lost on the way, so its bound must be the truth. To tell one of 1,024 equally likely digits takes
# exactly $\log_2 1024 = 10$ bits.

# %%
# Eq. (2.9)
area = torch.trapezoid(c, dx=step)
error = (step**2 * costs.var(1) / n).sum().sqrt()
print(f"area: {area:.2f} ± {error:.2f} bits; it should be 10")
assert abs(area - 10) < 4 * error

# %% [markdown]
# The credit is paid back: (2.7) stands. And the area has a meaning at every point. What lies to the *noisy* side of $\lambda$
# is what an observer has been told about the digit by the time the noise has fallen to $\lambda$: the bits that $x_\lambda$
# holds. Check that on its own, without any squared error. Of 10 bits, those are left that the observer, looking at
# $x_\lambda$, does *not* doubt: $10 + \mathbb E \log_2 p(x_0 \mid x_\lambda)$, with the probabilities of (1.6).

# %%
tail = torch.cumulative_trapezoid(c.flip(0), dx=step).flip(0)
# Beyond the last level c falls as e^lambda: its area is c[-1].
bits_left = torch.cat([tail, tail.new_zeros(1)]) + c[-1]
for i in (20, 24, 28, 32, 36):
    x = forward.q_sample(
        world, i + 1, table(levels), forward.noise_like(world, lesson.generator)
    )
    belief = IdealDenoiser(world, table(levels), torch.arange(1024)).class_posterior(
        x, i + 1
    )
    known = 10 + belief.diagonal().clamp(min=1e-30).log2().double()
    error = (known.var() / 1024 + (step**2 * costs[i:].var(1) / n).sum()).sqrt()
    print(
        f"log-SNR {levels[i]:+.0f}: {bits_left[i]:.2f} bits by area, "
        f"{known.mean():.2f} by doubt, ± {error:.2f}"
    )
    assert abs(bits_left[i] - known.mean()) < 4 * error

# %% tags=["figure", "fold"]
# @title The price of each level, and the bits it holds
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
left.fill_between(
    levels,
    c - 2 * costs.std(1) / 16,
    c + 2 * costs.std(1) / 16,
    color=BLUE,
    alpha=0.25,
    lw=0,
)
left.plot(levels, c, color=BLUE)
left.set(
    xlim=(3, -10),
    xlabel="log-SNR  (noise →)",
    ylabel=r"$c(\lambda)$, bits per unit",
    title="the price of each level",
)
right.plot(levels, bits_left, color=BLUE)
right.axhline(1, color=BLACK, lw=1, ls=":")
right.text(2.7, 1.25, "one bit", fontsize=9)
right.set(
    xlim=(3, -10),
    xlabel="log-SNR  (noise →)",
    ylabel="bits",
    title="what a picture of that level still holds",
)
show(
    figure,
    "Left, the price curve: a single hill between log-SNR 0 and -7, highest near "
    "-2.7. Right, bits left: ten until 0, then "
    "falling to one at -5 and to nothing at -10.",
)

# %% [markdown]
# Nearly all that tells one digit from another happens between $\lambda = 0$ and $\lambda = -7$. On the left of the hill the
# observer knows the digit already; on the right it knows nothing yet. (A denoiser that does not know these digits by heart
# goes on paying to the left of the hill, for the fine detail. To the right nobody can do better than this observer.)
#
# ## 5 · What it can change: the variance
#
# If the area is the same for all, why do schedules matter? Because nobody integrates. Training draws *one* random $t$ for
# each picture and takes the loss there for the whole: right on average, but noisy. The mean cannot be changed. The noise can.
#
# Whoever draws $t$ sees the loss $L_{t-1}$ of (2.7). Let $p_t$ be the probability of drawing $t$, and divide by it:
#
# $$\mathbb E_{t \sim p}\left[\frac{L_{t-1}}{p_t}\right] = \sum_t p_t\,\frac{\mathbb E[L_{t-1}]}{p_t} = \sum_t \mathbb E[L_{t-1}], \qquad
# \mathbb E\left[\Bigl(\frac{L_{t-1}}{p_t}\Bigr)^2\right] = \sum_t \frac{\mathbb E[L_{t-1}^2]}{p_t}. \tag{2.10}$$
#
# Any $p$ gives the right mean. Which gives the smallest square, and so the smallest variance? Write
# $\rho_t = \sqrt{\mathbb E[L_{t-1}^2]}$ and use the inequality of Cauchy and Schwarz, remembering that $\sum p_t = 1$:
#
# $$\Bigl(\sum_t \rho_t\Bigr)^2 = \Bigl(\sum_t \sqrt{p_t}\cdot\frac{\rho_t}{\sqrt{p_t}}\Bigr)^2 \le
# \sum_t p_t \cdot \sum_t \frac{\rho_t^2}{p_t} = \sum_t \frac{\rho_t^2}{p_t}.$$
#
# The left side knows nothing of $p$: nobody gets below it. Equality holds when $\rho_t/\sqrt{p_t}$ is proportional to
# $\sqrt{p_t}$, that is
#
# $$p_t = \frac{\sqrt{\mathbb E[L_{t-1}^2]}}{\sum_{t'} \sqrt{\mathbb E[L_{t'-1}^2]}}, \qquad \text{weight of a drawn loss: } \frac{1}{T\,p_t}. \tag{2.11}$$
#
# (The weight has the $T$ so that a uniform $p$ gives weight 1, and so estimates the *mean* over $t$, as usual in training.)
# **Visit each $t$ in proportion to how large its loss tends to be.**
#
# ### Exercise 5 · Which t, how often, and with what weight
# *15 minutes · medium · Eq. (2.11).* Row $i$ of `losses` holds the last few losses seen at $t = i + 1$, that is draws of $L_i$.


# %% tags=["exercise"] exercise="02.t_weights" points=2
# Exercise 02.t_weights
def t_weights(losses: Tensor) -> tuple[Tensor, Tensor]:
    """(T, history) losses to p (T,), which sums to 1, and the weights (T,)."""
    ### BEGIN SOLUTION
    p = losses.square().mean(1).sqrt()
    p = p / p.sum()
    return p, 1 / (len(p) * p)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Square, mean along a row, root, in this order. Then divide by the sum. `len(p)` is $T$.
#
# </details>

# %% tags=["check"]
check("02.t_weights", t_weights)

# %% [markdown]
# `schedules.LossAwareSampler` does this while training goes on: it remembers the last losses of each $t$, draws by (2.11),
# and keeps a share of draws uniform, so that no $t$ is forgotten. Feed it the real costs (2.7) on a linear schedule of 100
# steps.


# %%
# Eq. (2.7)
def step_costs(t: Tensor, schedule: schedules.DiscreteSchedule) -> Tensor:
    """L_{t-1} of the perfect observer, in bits, one for each of the times t."""
    # The weight is infinite at t = 1, where the observer's error is zero.
    weight = variational.step_weight(t.clamp(min=2), schedule)
    return weight * squared_errors(t, schedule) / math.log(2)


short = schedules.linear(100, beta_1=1e-3, beta_T=0.2)
every_t = torch.arange(1, 101)
# 200 pictures at each time:
seen = step_costs(every_t.repeat(200), short).reshape(200, 100)
sampler = schedules.LossAwareSampler(100, history=100, uniform=0.25)
for losses in seen[:100]:
    sampler.update(every_t, losses)

# %% [markdown]
# *Predict before you run: at which $t$ will it look most often? You have seen the hill.*

# %%
# Eq. (2.10)
draws = 8192
t = torch.randint(1, 101, (draws,), generator=lesson.generator)
uniform = 100 * step_costs(t, short)
t, weight = sampler.sample(draws, lesson.generator)
adaptive = 100 * weight * step_costs(t, short)
for name, estimate in [("uniform t", uniform), ("adaptive t", adaptive)]:
    print(
        f"{name:10}  {estimate.mean():5.2f} ± {estimate.std() / draws**0.5:.2f} bits, "
        f"spread {estimate.std():.1f}"
    )
assert (
    abs(uniform.mean() - adaptive.mean())
    < 4 * ((uniform.var() + adaptive.var()) / draws).sqrt()
)
squares = uniform.square().mean() - adaptive.square().mean()
assert squares > 4 * ((uniform.square().var() + adaptive.square().var()) / draws).sqrt()

# %% [markdown]
# The same mean, less than half the variance. Two things deserve honesty. The mean is a little above 10: a hundred steps are
# long, and the bound with long steps is not tight. And the choice of settings mattered. Here is what (2.10) predicts for
# others, with $\mathbb E[L_{t-1}^2]$ from the 100 pictures a level that the sampler has not seen.

# %%
square = seen[100:].square().mean(0)
careless = schedules.LossAwareSampler(100, history=10, uniform=0.001)
for losses in seen[:10]:
    careless.update(every_t, losses)
best = square.sqrt() / square.sqrt().sum()
choices = {
    "uniform": torch.full((100,), 0.01).double(),
    "history 10, uniform share 0.001": careless.probabilities[1:],
    "history 100, uniform share 0.25": sampler.probabilities[1:],
    "optimum (2.11)": best.clamp(min=1e-12),
}
spread = {
    name: ((square / p).sum() - seen.mean(0).sum() ** 2).sqrt().item()
    for name, p in choices.items()
}
ranking = sorted(spread, key=spread.get)
assert ranking == [
    "optimum (2.11)",
    "history 100, uniform share 0.25",
    "uniform",
    "history 10, uniform share 0.001",
]

# %% tags=["figure", "fold"]
# @title How often each t is drawn, and what that does
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 2.6), width_ratios=[1.2, 1])
for (name, p), colour in zip(
    choices.items(), [BLACK, ORANGE, BLUE, GREEN], strict=True
):
    left.plot(every_t, p, color=colour, lw=1.2)
    right.barh(name, spread[name], color=colour)
left.set(xlabel="t of 100", ylabel="$p_t$", title="how often each t is drawn")
right.set(xlabel="spread of one draw (bits)", title="what that does to the estimate")
right.invert_yaxis()
show(
    figure,
    "Left, probabilities of t: flat for uniform, a ragged hill between 40 and 70 for "
    "the others. Right, the spread of an estimate: "
    "largest for a short history with hardly any uniform share, smallest for the "
    "optimum.",
)

# %% [markdown]
# A short history misses rare large losses. The sampler then thinks a $t$ cheap, seldom goes there, and when it does, the
# large loss comes with an enormous weight. The mean is still right; the variance is worse than that of doing nothing. Our
# observer is an extreme case: it is nearly always right, and now and then quite wrong. But keep a uniform share all the same.
#
# ## 6 · A schedule learned from data
#
# Adaptive sampling keeps the schedule and moves the draws. One can as well keep the draws uniform and move the *schedule*:
# let it linger where losses are large. By (2.8) the estimate at a uniform $t$ is $-\lambda'(t)$ times the price seen there,
# so its mean square is
#
# $$J = \int_0^1 \lambda'(t)^2\,\rho\bigl(\lambda(t)\bigr)^2\,dt \ \ge\ \Bigl(\int_0^1 \lvert\lambda'(t)\rvert\,\rho\bigl(\lambda(t)\bigr)\,dt\Bigr)^2
# = \Bigl(\int \rho(\lambda)\,d\lambda\Bigr)^2, \tag{2.12}$$
#
# $$\rho(\lambda) = \sqrt{\mathbb E\bigl[(\tfrac12 e^{\lambda}\lVert x_0 - \hat x_0\rVert^2)^2\bigr]}.$$
#
# That is Cauchy and Schwarz again, with the constant 1 as the second factor. The right side is an area, the same for all
# schedules. Equality holds if $\lvert\lambda'(t)\rvert\,\rho(\lambda(t))$ is constant: **fast where it is cheap, slow where it
# is dear**. Divide by the total, and the best schedule is
#
# $$t(\lambda) = \int_{\lambda}^{\lambda(0)} \rho(\ell)\,d\ell \Big/ \int_{\lambda(1)}^{\lambda(0)} \rho(\ell)\,d\ell. \tag{2.13}$$
#
# Compare with (2.11): uniform $t$ on this schedule visits each level as often as the best $p$ would. A schedule and a
# distribution over $t$ are two handles on one thing.
#
# Kingma and others learn the schedule by gradient, along with the denoiser. The curve is a small network that can only rise,
# because all its weights are positive: `schedules.LearnedSchedule`. Like them it counts $\gamma = -\lambda$. We measured 256
# pictures a level, so a price of zero only means "not seen"; a floor of a tenth of the top keeps every level visited, as the
# sampler's uniform share did.

# %%
rho = costs.square().mean(1).sqrt()
rho = (rho**2 + (0.1 * rho.max()) ** 2).sqrt()
gammas = -levels  # rising from -3 to 10


def interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """The value at x of the broken line through the points (xs, ys), xs rising;
    gradients flow to x."""
    i = torch.searchsorted(xs, x.detach()).clamp(1, len(xs) - 1)
    return ys[i - 1] + (x - xs[i - 1]) * (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1])


# %%
# Eq. (2.12)
learned = schedules.LearnedSchedule(-3.0, 10.0, hidden=32, generator=lesson.generator)
optimizer = torch.optim.Adam(learned.parameters(), lr=0.1)
u = torch.linspace(0, 1, 257, dtype=torch.float64)
history = []
for _ in range(400):
    gamma = learned.gamma(u)
    price = interpolate((gamma[1:] + gamma[:-1]) / 2, gammas, rho)
    J = (gamma.diff() * 256 * price).square().mean()
    optimizer.zero_grad()
    J.backward()
    optimizer.step()
    history.append(J.item())

# %% [markdown]
# Does it arrive? The closed form (2.13) needs no training, only the running area under $\rho$, read backwards. And (2.12) says
# that $J$ can never fall below the square of the whole area, which we know up to the standard error of $\rho$.

# %%
# Eq. (2.13)
area = torch.cumulative_trapezoid(rho, dx=step)
running = torch.cat([area.new_zeros(1), area])
share_of_time = running / running[-1]  # t at each of the gammas
lowest = running[-1] ** 2
chance = step**2 * costs.square().var(1) / n / (4 * rho**2)
error = 2 * running[-1] * chance.sum().sqrt()
varies(
    f"J: {history[0]:.0f} at the start, {history[-1]:.0f} learned; the lowest "
    f"possible is {lowest:.0f} ± {error:.0f}"
)
assert abs(history[-1] - lowest) < 2 * error

# %%
learned_table = table(-learned.gamma(steps / 1000).detach())
strayed = interpolate(learned.gamma(u).detach(), gammas, share_of_time) - u
assert strayed.abs().max() < (J / lowest - 1) ** 0.5 / 2

# %% tags=["figure", "fold"]
# @title The learned schedule, and the bits it leaves
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3))
left.plot(
    share_of_time * 1000,
    levels,
    color=BLACK,
    lw=3.5,
    alpha=0.3,
    label="closed form (2.13)",
)
for name, schedule, colour in [
    ("learned", learned_table, GREEN),
    ("linear", first, BLUE),
    ("cosine", second, ORANGE),
]:
    left.plot(steps, schedule.log_snr(steps), color=colour, label=name, lw=1.5)
    right.plot(
        steps,
        interpolate(-schedule.log_snr(steps).clamp(-10, 3), gammas, bits_left),
        color=colour,
        lw=1.5,
    )
left.set(
    xlabel="t", ylabel="log-SNR", ylim=(-11, 6), title="how long to stay at each level"
)
right.set(xlabel="t", ylabel="bits left", title="what the picture at t still holds")
left.legend()
show(
    figure,
    "Left, the learned log-SNR curve lies on the closed form, steep at both ends and "
    "flat between -1 and -5. Right, bits left: "
    "linear loses them early and is done by 850, cosine late, the learned one nearly "
    "evenly.",
)

# %% [markdown]
# The two agree, and the bound says how well they must. Along the learned curve, $t(\lambda)$ of (2.13) runs at a rate whose
# mean is 1 and whose variance is $J/J_{\min} - 1$; since both ends are fixed, it strays from $t$ by at most half the root of
# that. The learned schedule gives its time to the hill. If all pictures had the same price at a level, $\rho$ would equal $c$,
# and the curve on the right would be a straight line: **the same number of bits in every step**. Did it help? Real draws, one
# uniform $t$ per picture, for three schedules:

# %%
# Eq. (2.8)
estimates = {}
for name, schedule in [
    ("linear", first),
    ("cosine", second),
    ("learned", learned_table),
]:
    t = torch.randint(1, 1001, (draws,), generator=lesson.generator)
    estimates[name] = 1000 * step_costs(t, schedule)
    mean, std = estimates[name].mean(), estimates[name].std()
    varies(f"{name:8} {mean:5.2f} ± {std / draws**0.5:.2f} bits, spread {std:.1f}")
    assert abs(mean - 10) < 4 * std / draws**0.5  # (2.9): the same area for all

# %% [markdown]
# All agree on the 10 bits, as (2.9) demands. They differ in the noise on the way. How many draws on the linear schedule is
# one on the learned worth?

# %%
plain, better = estimates["linear"], estimates["learned"]
error = ((plain.square().var() + better.square().var()) / draws).sqrt()
varies(
    f"one draw on the learned schedule is worth {plain.var() / better.var():.1f} on "
    "the linear one"
)
assert plain.square().mean() - better.square().mean() > 4 * error

# %% [markdown]
# Mind what has been learned: the best schedule *for this observer*, to estimate *this bound*. A network that does not know
# 1,024 digits by heart has prices to the left of the hill too, and its own schedule would linger there as well. That is why
# Kingma and others learn it during training. And a bound in bits is not beauty: a loss that weighs levels otherwise wants
# another schedule.
#
# ## 7 · What usually goes wrong
#
# **(a), (b) A curve for alpha_bar used as the alpha of every step.** Two lines that circulate: "cosine schedule", $\cos^2$
# from 0 to $\pi/2$, and "linear schedule", a straight line from 1 to 0; each then handed to
# (1.1), step by step, as the $1 - \beta_t$ of one step. As *alpha_bar* both are reasonable, and it
# is what their authors had in mind: smooth, from all picture to no picture. But per-step factors multiply up. *Predict: after
# how many of 1000 steps is the noise a hundred times as strong as the picture?*

# %%
u = torch.linspace(0, 1, 1000, dtype=torch.float64)
meant = {"cos², as alpha_bar": second.alpha_bar[1:].log()}
per_step = {"cos², per step": (u * torch.pi / 2).cos() ** 2, "line, per step": 1 - u}
log_alpha_bar = meant | {
    name: alphas.log().cumsum(0) for name, alphas in per_step.items()
}
gone = {
    name: int((values <= -math.log(101)).nonzero()[0]) + 1
    for name, values in log_alpha_bar.items()
}
for name, t_gone in gone.items():
    print(f"{name:20} signal 20 dB under the noise from t = {t_gone}")

# %% [markdown]
# (20 dB: $\mathrm{SNR} = \bar\alpha/(1 - \bar\alpha) = 1/100$, so $\bar\alpha = 1/101$.) A short calculation says the same.
# For small angles $\log\cos^2 z \approx -z^2$, so $\log\bar\alpha_t \approx -\pi^2 t^3/(12\,T^2)$; for the line,
# $\log\bar\alpha_t \approx -t^2/(2T)$.

# %%
expected = {
    "cos², per step": (12 * 1000**2 * math.log(101) / math.pi**2) ** (1 / 3),
    "line, per step": (2 * 1000 * math.log(101)) ** 0.5,
}
for name, value in expected.items():  # both neglect higher powers of t / T
    assert abs(gone[name] / value - 1) < 0.05
assert gone["line, per step"] < gone["cos², per step"] < 200
assert gone["cos², as alpha_bar"] > 900

# %% tags=["figure", "fold"]
# @title Three films of the seven
times = [25, 50, 75, 100, 150, 200, 300, 500, 800, 1000]
strips = []
for values in log_alpha_bar.values():
    a = values[torch.tensor(times) - 1].exp().float().reshape(-1, 1, 1, 1)
    strips.append(a.sqrt() * seven + (1 - a).sqrt() * noise)
show(
    image_grid(
        torch.cat(strips),
        columns=10,
        titles=[f"t = {t}" for t in times],
        row_labels=list(log_alpha_bar),
        size=0.85,
    ),
    "Three films of a seven. With cos² as alpha_bar it fades slowly and is seen until "
    "500; with cos² per step it is gone by 200, "
    "with the line per step by 100.",
)

# %% [markdown]
# And $\bar\alpha_t$ does not stop there: it falls below $10^{-45}$, the smallest number above 0 that float32 has.

# %%
for name in per_step:
    zero = int((log_alpha_bar[name].exp().float() == 0).nonzero()[0]) + 1
    print(f"{name:20} alpha_bar is 0 in float32 from t = {zero}")
    assert zero <= 500

# %% [markdown]
# After a tenth or a fifth of the steps the seven is gone. A network is then trained, for eight or nine steps in ten, on
# pictures that are noise and nothing else. By $t = 500$, $\bar\alpha_t$ is so small that float32 has no number for it but 0,
# which leads to the third mistake.
#
# **(c) alpha_bar reaching exactly 0, and a network that predicts noise.** Going back by (1.7) divides by
# $\sqrt{\bar\alpha_T}$. Let the predicted noise be off by 1 %, as in lesson 01, and look at the recovered pixels.

# %%
off = 0.01 * forward.noise_like(seven, lesson.generator)
# (2.2) at t = T, computed in float32, is not quite 0:
cosine_32 = (torch.tensor(torch.pi / 2).cos() ** 2).double()
ends = {
    "exactly 0": cured.alpha_bar[-1],
    "cos² in float32": cosine_32,
    "cosine, clipped": second.alpha_bar[-1],
}
for name, a in ends.items():
    alpha, sigma = a.sqrt().float(), (1 - a).sqrt().float()
    x_T = alpha * seven + sigma * noise
    exact, guessed = (
        (x_T - sigma * eps_hat) / alpha for eps_hat in (noise, noise + off)
    )
    error = (guessed - seven).square().mean().sqrt()
    print(
        f"{name:16} NaN with the exact noise: {exact.isnan().sum():3d} of 784;  error "
        f"with 1 % off: {error:.2g}"
    )

# %% [markdown]
# Zero over zero with the right noise, infinity with the wrong. Rounding may save you from the NaN, and then hides it: an
# error two hundred thousand times the picture. The clip makes it finite, yet still 200 times the picture. (Samplers clamp
# $\hat x_0$ to $[-1, 1]$ for this reason.) The course's functions do not return such numbers. They stop and say what to do:

# %%
x_T = forward.q_sample(seven, 1000, cured, noise)
try:
    parameterizations.x0_from_eps(x_T, noise, 1000, cured)
except ValueError as error:
    print("ValueError:", error)
v = parameterizations.v_from_x0_eps(seven, noise, 1000, cured)
from_v = parameterizations.x0_from_v(x_T, v + off, 1000, cured)
print(
    "the same schedule, v off by 1 %: error "
    f"{(from_v - seven).square().mean().sqrt():.2g}"
)
# At T, x_0 = -v: what v is off, the picture is off.
assert torch.allclose(from_v - seven, -off, atol=1e-6)

# %% [markdown]
# So there are two honest ways: clip, stay away from 0, and predict noise; or go all the way to 0 and predict $v$ or $x_0$.
#
# ## 8 · The answer
#
# Count the steps at which less than one bit is left.

# %%
one_bit = interpolate(
    torch.tensor(1.0).double(), bits_left.flip(0), levels.flip(0)
).item()
wasted = {
    name: 1000 - int(schedule.t_at_log_snr(one_bit))
    for name, schedule in families.items()
}
print(f"one bit is left at log-SNR {one_bit:.1f}; steps beyond it:")
print(
    ", ".join(f"{name} {steps}" for name, steps in wasted.items()),
    f"and {guess.value} was your guess",
)
assert wasted["linear"] > 250
assert max(wasted[name] for name in ("exponential", "cosine", "sigmoid")) < 60

# %% tags=["figure", "fold"]
# @title The films again, with the bits left
said = {}
for name, schedule in [
    ("A: linear", first),
    ("B: cosine", second),
    ("learned", learned_table),
]:
    at = schedule.log_snr(torch.tensor(frames)).clamp(-10, 3)
    said[name] = (
        film(schedule),
        [f"{bits:.1f}" for bits in interpolate(-at, gammas, bits_left).tolist()],
    )
show(
    image_grid(
        torch.cat([pictures_ for pictures_, _ in said.values()]),
        columns=11,
        titles=[text for _, texts in said.values() for text in texts],
        row_labels=list(said),
        size=0.8,
        title="bits left, at t = 0, 100, …, 1000",
    ),
    "The seven by the linear, the cosine and the learned schedule, with the bits left "
    "above each frame. Linear has one bit left "
    "at 700 and none at 900; cosine eight at 800; the learned one loses them "
    "gradually, from the second frame to the ninth.",
)

# %% [markdown]
# **It was A, the linear schedule.** And no training was needed to see it: a perfect observer, one curve, one area. On the
# learned schedule the bits drain away all along, by two a frame at the most. (Nichol and Dhariwal saw the idle steps from the
# other side: leaving out up to a fifth of the linear schedule's steps at the noisy end hardly changed the FID of their
# samples. That is why they made the cosine.)
#
# ### In your own words
# *Manually graded, about three lines.* A colleague changes the schedule, keeps everything else, and reports: "The training
# loss, the mean squared error of the predicted noise at uniform $t$, fell by 30 %: the new schedule is better." Why does this
# not follow? What would you compare instead?

# %% [markdown] tags=["manual"] question="02.own_words" points=2
# ### BEGIN SOLUTION
# The schedule decides how often each noise level is visited, and noise is easy to predict where there is much of it. A
# schedule that lingers there lowers the mean error without any better denoiser: the mean is taken over other levels. Compare
# the errors at equal log-SNR, or a quantity that does not depend on the path between equal ends, such as the bound (2.9); or
# samples, at the same number of steps.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: the mean over uniform $t$ weighs noise levels by the schedule, so it changes without the denoiser.
# One point: a comparison that does not (errors at equal log-SNR, the bound between equal ends, or samples).

# %% [markdown]
# ## Summary
#
# * beta, alpha_bar and log-SNR are three views of one table, (2.3) and (2.4). Equal log-SNR is an equal picture, so a
#   schedule says only how long to stay at each level.
# * An end that is not quite noise leaks, brightness above all, (2.5). Rescale, (2.6), and predict $v$ or $x_0$; or clip, and
#   stay clear of 0.
# * The bound depends on the schedule through its two ends alone, (2.9). What a schedule changes is the variance of its
#   estimate.
# * The best draws, (2.11), and the best schedule, (2.13), follow from one inequality: visit a level in proportion to the root
#   of its mean squared loss.
# * A curve meant as alpha_bar is no per-step alpha.

# %%
progress("02")

# %% [markdown]
# ## References
#
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. Section 4: the linear betas.
# * Nichol, Dhariwal: *Improved Denoising Diffusion Probabilistic Models*, 2021. The cosine in (2.2) is its Eq. (17), the clip
#   stands below it, our (2.11) is its Eq. (18).
# * Kingma, Salimans, Poole, Ho: *Variational Diffusion Models*, 2021. Our (2.7) is its Eq. (13), our (2.9) its Eq. (18), in
#   section 5.1; the monotone network is in appendix H.
# * Chen: *On the Importance of Noise Scheduling for Diffusion Models*, 2023. The sigmoid in (2.2) is its Algorithm 1.
# * Lin, Liu, Li, Yang: *Common Diffusion Noise Schedules and Sample Steps Are Flawed*, 2023. Our (2.6) is its Algorithm 1;
#   Table 1 has the ends.
# * Guo, Shamai, Verdú: *Mutual Information and Minimum Mean-Square Error in Gaussian Channels*, 2005. Their Theorem 1 says
#   why the area under the price curve is information.
#
# **Next:** lesson 03 turns around, derives (2.7), and walks from noise to data.
