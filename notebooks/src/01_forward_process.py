# %% [markdown]
# # 01 · The forward process
#
# *You will derive the two equations that every diffusion model starts from, write both, prove that they agree, and find
# out exactly when a picture is gone. About 60 minutes to read and run, 55 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports, digits, a schedule of 1000 steps
import time

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course_utils import forward, parameterizations, schedules
from course_utils.data import load_images, normalize
from course_utils.exercises import check, progress
from course_utils.plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    image_grid,
    show,
    use_style,
)
from course_utils.runtime import varies
from course_utils.toy import IdealDenoiser
from course_utils.widgets import choice, explore, slider

use_style()
digits, labels = load_images("mnist", "train")
schedule = schedules.linear()  # 1000 steps; where these come from is lesson 02

# %% [markdown]
# ## The question
#
# A handwritten 7 dissolves into noise, a little more in each frame.

# %% tags=["figure", "fold"]
# @title A seven fades
seven = normalize(digits[labels == 7][3:4])
frames_t = torch.tensor([0, 50, 100, 200, 300, 400, 500, 600, 800, 1000])
film = forward.q_sample(
    seven.expand(10, -1, -1, -1),
    frames_t,
    schedule,
    forward.noise_like(seven.expand(10, -1, -1, -1), lesson.generator),
)
show(
    image_grid(film, titles=[f"t = {t}" for t in frames_t.tolist()]),
    "Ten frames of a handwritten seven. It is clear at t = 0, grainy at 100, hard to "
    "see at 300 and gone at 500.",
)

# %% [markdown]
# **At which frame can nobody tell that it was a 7?** Not you, and not a perfect observer who knows every digit ever
# written. Commit to a guess before you read on. The lesson ends with the exact answer, and your guess marked on it.

# %% tags=["widget", "fold"]
# @title Your guess
guess = slider("Nobody can tell from t =", 0, 1000, 500, step=10)
guess

# %% [markdown]
# ## 1 · One step
#
# To noise a picture, why not simply add noise, again and again? Let $x_0$ be the picture, as numbers around zero, and
# $\epsilon \sim \mathcal N(0, I)$ fresh noise at every step.
#
# *Predict before you run: after 100 steps of $x_t = x_{t-1} + 0.3\,\epsilon$, how wide is the histogram of the pixels?*

# %%
standard = (digits[:500] - digits[:500].float().mean()) / digits[
    :500
].float().std()  # mean 0, variance 1
x, kept = standard, {}
for t in range(1, 101):
    x = x + 0.3 * forward.noise_like(x, lesson.generator)
    if t in (1, 10, 100):
        kept[t] = x

# %% tags=["figure", "fold"]
# @title The histogram after 1, 10 and 100 additions
figure = plt.figure(figsize=(7, 2.4))
for t, x in kept.items():
    plt.hist(
        x.flatten(),
        bins=120,
        range=(-10, 10),
        density=True,
        histtype="step",
        label=f"t = {t}: {x.var():.1f}",
    )
plt.gca().set(xlabel="pixel value", ylabel="density")
plt.legend(title="variance")
show(
    figure,
    "Histograms of pixel values after 1, 10 and 100 additions of noise: each is "
    "wider, the variance reaches 10.",
)

# %% [markdown]
# The variance climbs without end: after $t$ steps it is $1 + 0.09\,t$. A network would have to work on numbers whose size
# depends on $t$, and there would be no fixed distribution to start from when we want to go back.
#
# So shrink a little before adding. By what factor $c$? Signal and noise are independent, so their variances add:
#
# $$\operatorname{Var}(c\,x_{t-1} + \sqrt{\beta_t}\,\epsilon) = c^2 \operatorname{Var}(x_{t-1}) + \beta_t .$$
#
# If $x_{t-1}$ has variance 1 and $x_t$ shall have it too, then $c^2 = 1 - \beta_t$. That is the whole design of a step:
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\;\epsilon, \qquad 0 < \beta_t < 1. \tag{1.1}$$
#
# And if the picture does not have variance 1? Then the gap closes by itself, by the factor $1 - \beta_t$ a step:
#
# $$\operatorname{Var}(x_t) - 1 = (1 - \beta_t)\,\bigl(\operatorname{Var}(x_{t-1}) - 1\bigr). \tag{1.2}$$
#
# ### Exercise 1 · One step of the chain
# *10 minutes · easy · Eq. (1.1).* `x_prev` and `eps` are tensors of one shape, `beta` is a number.


# %% tags=["exercise"] exercise="01.q_step" points=1
# Exercise 01.q_step
def q_step(x_prev: Tensor, beta: float, eps: Tensor) -> Tensor:
    """x_t from x_{t-1}, by Eq. (1.1)."""
    ### BEGIN SOLUTION
    return (1 - beta) ** 0.5 * x_prev + beta**0.5 * eps
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# $\beta_t$ is a variance. What multiplies a tensor is a standard deviation, its square root: `beta**0.5` will do.
# </details>

# %% tags=["check"]
check("01.q_step", q_step)

# %% [markdown]
# From here on the page uses the course's own `forward.q_step`, which does the same for any schedule, so nothing below
# waits for your answer. Here is the chain on a colour picture. Only one $x_t$ is alive at a time: `q_chain` hands them
# over one by one.

# %%
colour, colour_labels = load_images("cifar10", "train")
ship = normalize(colour[colour_labels == 8][5:6])


def run_chain(x_0: Tensor) -> Tensor:
    """Eleven frames of one run of the chain."""
    # Eq. (1.1)
    return torch.cat(
        [
            x_t
            for t, x_t in forward.q_chain(x_0, schedule, lesson.generator)
            if t % 100 == 0
        ]
    )


first, second = run_chain(ship), run_chain(ship)

# %% tags=["figure", "fold"]
# @title Two runs of the chain
show(
    image_grid(
        torch.cat([first, second]),
        columns=11,
        titles=[str(t) for t in range(0, 1001, 100)],
        row_labels=["first run", "second run"],
        size=0.75,
    ),
    "Two runs of the noising chain from one photo of a ship, t from 0 to 1000. Both "
    "fade into noise, each into another.",
)

# %% [markdown]
# Look at the last column: one picture, one schedule, two different ends. **The forward process is random. What is fixed is
# its distribution,** and that is enough: it is all a network will ever be asked to undo.

# %%
correlation = torch.corrcoef(torch.stack([first[-1].flatten(), second[-1].flatten()]))[
    0, 1
]
print(
    f"correlation of the two ends: {correlation:.3f}; by chance alone, up to "
    f"±{4 / 3072**0.5:.3f}"
)
assert (
    abs(correlation) < 4 / 3072**0.5
)  # four standard errors for 3072 independent pixels

# %% [markdown]
# ## 2 · A thousand steps at once
#
# Training will need $x_t$ at random $t$, millions of times. Walking there step by step would cost 500 steps a picture.
# Nothing forces us to walk. Put one step into the next:
#
# $$\begin{aligned}
# x_2 &= \sqrt{1 - \beta_2}\,\bigl(\sqrt{1 - \beta_1}\,x_0 + \sqrt{\beta_1}\,\epsilon_1\bigr) + \sqrt{\beta_2}\,\epsilon_2 \\
# &= \sqrt{(1 - \beta_2)(1 - \beta_1)}\,x_0
# + \underbrace{\sqrt{(1 - \beta_2)\,\beta_1}\,\epsilon_1 + \sqrt{\beta_2}\,\epsilon_2}_{\text{two independent noises}} .
# \end{aligned}$$
#
# Two independent Gaussian noises make one Gaussian noise, and their *variances* add:
#
# $$(1 - \beta_2)\,\beta_1 + \beta_2 = 1 - (1 - \beta_2)(1 - \beta_1). \tag{1.3}$$
#
# So standard deviations add like the short sides of a right triangle, never end to end:

# %% tags=["figure", "fold"]
# @title The two noises as sides of a triangle
beta_1, beta_2 = 0.20, 0.30
old, new = ((1 - beta_2) * beta_1) ** 0.5, beta_2**0.5
triangle = {  # what each side is: from where to where, its colour, where its name is
    "noise of step 1, shrunk\n" + r"$\sqrt{(1-\beta_2)\,\beta_1}$": (
        *((0, 0), (old, 0), BLUE),
        *(old / 2, -0.13, "center"),
    ),
    "noise of step 2\n" + r"$\sqrt{\beta_2}$": (
        *((old, 0), (old, new), ORANGE),
        *(old + 0.03, new / 2, "left"),
    ),
    "both at once\n" + r"$\sqrt{1-(1-\beta_1)(1-\beta_2)}$": (
        *((0, 0), (old, new), BLACK),
        *(-0.17, new / 2 + 0.04, "center"),
    ),
}
figure, axis = plt.subplots(figsize=(4.2, 2.9))
for text, (corner, tip, colour_, x, y, side) in triangle.items():
    arrow = {"arrowstyle": "->", "lw": 2.2, "color": colour_}
    axis.annotate("", tip, corner, arrowprops=arrow)
    axis.text(x, y, text, color=colour_, ha=side, va="center")
axis.set(xlim=(-0.32, 0.72), ylim=(-0.22, 0.62), aspect="equal")
axis.axis("off")
show(
    figure,
    "A right triangle: the shrunk noise of step one and the noise of step two are its "
    "short sides, both at once the long one.",
)

# %% [markdown]
# So the noise of both steps is exactly what the signal has lost, and (1.3) holds for any two factors below one. The same step
# from $t-1$ to $t$ finishes an induction. With $\bar\alpha_t = \prod_{s=1}^{t}(1 - \beta_s)$ and $\bar\alpha_0 = 1$,
#
# $$q(x_t \mid x_0) = \mathcal N\bigl(\sqrt{\bar\alpha_t}\,x_0,\ (1 - \bar\alpha_t)\,I\bigr), \qquad
# x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1 - \bar\alpha_t}\;\epsilon. \tag{1.4}$$
#
# (The bar comes from the first papers, which write $\alpha_t$ for the single factor $1 - \beta_t$. In this course $\alpha_t$ is
# what multiplies the picture, $\alpha_t = \sqrt{\bar\alpha_t}$, and $\sigma_t = \sqrt{1 - \bar\alpha_t}$ multiplies the noise, as in
# lesson 00.)
#
# ### Exercise 2 · How much signal is left after t steps
# *10 minutes · easy.* From the betas $\beta_1 … \beta_T$ make the table $\bar\alpha_0 … \bar\alpha_T$: one entry more, since
# clean data comes first. In this whole course `alpha_bar[t]` is $\bar\alpha_t$, with no shift to remember.


# %% tags=["exercise"] exercise="01.alpha_bar" points=1
# Exercise 01.alpha_bar
def make_alpha_bar(betas: Tensor) -> Tensor:
    """(T,) betas to (T + 1,) alpha_bars, the first of them 1."""
    ### BEGIN SOLUTION
    return torch.cat([torch.ones_like(betas[:1]), torch.cumprod(1 - betas, dim=0)])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.cumprod` multiplies up; `torch.cat` puts a one in front.
# </details>

# %% tags=["check"]
check("01.alpha_bar", make_alpha_bar)

# %% [markdown]
# ### Exercise 3 · A thousand steps at once
# *15 minutes · medium · Eq. (1.4).* One $t$ for each picture of the batch. The mathematics is one line; the point is the
# shapes: `alpha_bar[t]` has shape `(b,)`, the pictures `(b, c, h, w)`. A batch of points, `(b, d)`, must be served too.
# Later lessons differentiate through this function, so stay with tensors: no NumPy, no `.item()`.


# %% tags=["exercise"] exercise="01.q_sample" points=2
# Exercise 01.q_sample
def q_sample(x_0: Tensor, t: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
    """x_t of Eq. (1.4). x_0, eps: (b, …); t: (b,) whole numbers;
    alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a = alpha_bar[t].reshape(-1, *[1] * (x_0.ndim - 1))  # (b, 1, …, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# PyTorch lines shapes up from the right. `(b,)` would meet the width of the pictures. For pictures reshape it to
# `(b, 1, 1, 1)`, for points to `(b, 1)`: for every number of dimensions, to `(-1, *[1] * (x_0.ndim - 1))`.
# </details>

# %% tags=["check"]
check("01.q_sample", q_sample)

# %% [markdown]
# Derivations can be wrong, so test this one. Take a single bright pixel, $x_0 = 0.8$. Send 4,000 copies of it down the chain,
# one step at a time. Send 4,000 more in one jump. If (1.4) holds, the two crowds have the same mean and variance at every $t$,
# up to what 4,000 samples can tell: four standard errors.

# %%
pixel, n = torch.full((4000, 1), 0.8, dtype=torch.float64), 4000
crowds = {}
for t, walked in forward.q_chain(pixel, schedule, lesson.generator):
    if t in (50, 150, 300, 500, 1000):
        # Eq. (1.4)
        jumped = forward.q_sample(
            pixel, t, schedule, forward.noise_like(pixel, lesson.generator)
        )
        crowds[t] = walked, jumped
        spread = walked.std()
        assert abs(walked.mean() - jumped.mean()) < 4 * spread * (2 / n) ** 0.5
        assert abs(walked.var() - jumped.var()) < 4 * spread**2 * (4 / n) ** 0.5

# %% tags=["figure", "fold"]
# @title Walked and jumped, at five times
figure, axes = plt.subplots(1, 5, figsize=(10, 2), sharey=True)
for axis, (t, (walked, jumped)) in zip(axes, crowds.items(), strict=True):
    bins = torch.linspace(-3.5, 3.5, 50).tolist()
    axis.hist(
        walked.flatten(), bins, density=True, color=BLUE, alpha=0.35, label="chain"
    )
    axis.hist(
        jumped.flatten(),
        bins,
        density=True,
        color=ORANGE,
        histtype="step",
        lw=1.5,
        label="jump",
    )
    axis.set(title=f"t = {t}", xlabel="value of the pixel")
axes[0].set_ylabel("density")
axes[0].legend(fontsize=8)
show(
    figure,
    "Histograms of the pixel after walking and after jumping, at five times t: each "
    "pair lies on top of each other.",
)

# %% [markdown]
# Walking and jumping cannot be told apart. That is why (1.4) is the line that every training loop uses.
#
# ## 3 · How much signal is left
#
# Equation (1.4) mixes $\sqrt{\bar\alpha_t}$ of picture with $\sqrt{1-\bar\alpha_t}$ of noise. Their ratio, in variances, is
# the **signal-to-noise ratio**:
#
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1 - \bar\alpha_t}, \qquad \text{in decibels } 10\log_{10}\mathrm{SNR}(t). \tag{1.5}$$
#
# It falls with every step, since $\bar\alpha_t$ does. (Some papers call the root of this the SNR. Here it is always the ratio of variances.)
#
# ### Exercise 4 · When is so much signal left?
# *10 minutes · easy · Eq. (1.5).* Return the first $t$ at which the SNR is at or below a given value. A value met exactly
# counts.


# %% tags=["exercise"] exercise="01.t_at_snr" points=1
# Exercise 01.t_at_snr
def t_at_snr(alpha_bar: Tensor, snr: float) -> int:
    """The first t with SNR(t) <= snr."""
    ### BEGIN SOLUTION
    return int((alpha_bar / (1 - alpha_bar) <= snr).nonzero()[0])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# At $t = 0$ the ratio is 1/0. In PyTorch that is `inf`, and `inf <= snr` is `False`: no special case. `.nonzero()` lists where
# a condition holds.
# </details>

# %% tags=["check"]
check("01.t_at_snr", t_at_snr)

# %%
# Eq. (1.5)
even = schedule.t_at_log_snr(0.0).item()
print(f"signal and noise are even at t = {even}, long before half of the 1000 steps")
assert schedule.log_snr(even) <= 0 < schedule.log_snr(even - 1)

# %% [markdown]
# Now meet the perfect observer. Suppose the world holds exactly the 60,000 digits of our training set, each as likely as
# any other. Given $x_t$, by Bayes' rule the probability that it came from digit $x^{(i)}$ is
#
# $$p(i \mid x_t) = \frac{q(x_t \mid x^{(i)})}{\sum_j q(x_t \mid x^{(j)})} = \operatorname{softmax}_i\left(
# -\frac{\lVert x_t - \sqrt{\bar\alpha_t}\,x^{(i)}\rVert^2}{2\,(1 - \bar\alpha_t)}\right), \tag{1.6}$$
#
# a softmax over distances. Adding it up over all sevens gives the probability of a 7. Nobody can do better.

# %%
# Eq. (1.6)
world = normalize(digits)
observer = IdealDenoiser(world, schedule, labels)
noise = forward.noise_like(seven, lesson.generator)
chosen = {f"{d}": world[labels == d][3:4] for d in range(10)}

# %% [markdown]
# Move the slider. *Where do the bars begin to waver? Is it where* you *can no longer tell?*


# %% tags=["fold"]
# @title Drawing a picture, its pixels, and what the perfect observer believes
def look(digit: str, t: int) -> plt.Figure:
    """The picture at time t, its pixels, and what the perfect observer believes."""
    x_t = forward.q_sample(chosen[digit], t, schedule, noise)
    belief = observer.class_posterior(x_t, t)[0]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(9, 2.4), width_ratios=[1, 1.5, 1.5]
    )
    left.imshow((x_t[0, 0] + 1) / 2, vmin=0, vmax=1)
    left.set(
        xticks=[],
        yticks=[],
        title=f"t = {t}, SNR {10 * schedule.log_snr(t) / 2.302585:.1f} dB",
    )
    middle.hist(
        x_t.flatten(), bins=40, range=(-4, 4), density=True, color=BLUE, alpha=0.5
    )
    grid = torch.linspace(-4, 4, 100)
    middle.plot(
        grid, torch.exp(-(grid**2) / 2) / 2.5066, color=BLACK, lw=1, label="N(0, 1)"
    )
    middle.set(xlabel="pixel value", ylabel="density", ylim=(0, 1))
    middle.legend()
    right.bar(
        range(10),
        belief,
        color=[ORANGE if str(d) == digit else BLUE for d in range(10)],
    )
    right.set(
        xticks=range(10),
        ylim=(0, 1),
        xlabel="digit",
        ylabel="probability",
        title="the perfect observer says",
    )
    return figure


# %% tags=["widget", "fold"]
# @title A picture at any t, and whether it is still known
explore(
    look,
    alt="Left the noised digit, in the middle the histogram of its pixels against "
    "N(0, 1), right the observer's belief.",
    digit=choice("digit", list(chosen), "7"),
    t=slider("t", 1, 1000, 300),
)

# %% [markdown]
# The same as a contact sheet, for a page without a running kernel:

# %% tags=["figure", "fold"]
# @title The same as a contact sheet
sheet_t = [100, 300, 400, 500, 600, 800]
shown, said = [], []
for digit in "718":
    for t in sheet_t:
        x_t = forward.q_sample(chosen[digit], t, schedule, noise)
        belief = observer.class_posterior(x_t, t)[0]
        shown.append(x_t)
        said.append(f"{belief.argmax()} ({belief.max():.0%})")
    said[-6:] = [
        f"t = {t}: {s}" if digit == "7" else s
        for t, s in zip(sheet_t, said[-6:], strict=True)
    ]
show(
    image_grid(
        torch.cat(shown),
        columns=6,
        titles=said,
        row_labels=["a 7", "a 1", "an 8"],
        size=1.3,
    ),
    "A seven, a one and an eight at six times; above each what the perfect observer "
    "takes it for, and how sure it is.",
)

# %% [markdown]
# At t = 400 the observer is still certain, where we see little more than snow. It has two advantages: it weighs all 784
# pixels at once, and it never forgets a digit.
#
# ## 4 · And back, if we knew the noise
#
# Equation (1.4) is linear, so with the noise in hand the picture comes back. Solve for $x_0$:
#
# $$x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\;\epsilon}{\sqrt{\bar\alpha_t}}. \tag{1.7}$$
#
# ### Exercise 5 · Back, if we knew the noise
# *10 minutes · easy · Eq. (1.7).* Mind the shapes, as in exercise 3: pictures and points.


# %% tags=["exercise"] exercise="01.x0_from_eps" points=1
# Exercise 01.x0_from_eps
def x0_from_eps(x_t: Tensor, t: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
    """x_0 of Eq. (1.7). x_t, eps: (b, …); t: (b,); alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a = alpha_bar[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - a).sqrt() * eps) / a.sqrt()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Undo in reverse order: take the noise away first, then undo the shrinking of the whole difference.
# </details>

# %% tags=["check"]
check("01.x0_from_eps", x0_from_eps)

# %% [markdown]
# A network will only ever know the noise approximately. If its guess is off by $\delta$ in every pixel, (1.7) puts the picture
# off by $\delta\,\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$. Let $\delta$ be 1 % and measure.

# %%
# Eq. (1.7)
ts = torch.arange(10, 1001, 10)
x_0 = seven.expand(len(ts), -1, -1, -1)
eps = forward.noise_like(x_0, lesson.generator)
x_t = forward.q_sample(x_0, ts, schedule, eps)
off = 0.01 * forward.noise_like(eps, lesson.generator)
back = parameterizations.x0_from_eps(x_t, eps + off, ts, schedule)
error = (back - x_0).square().mean((1, 2, 3)).sqrt()
alpha, sigma = schedule.coeffs(ts)
chance = 4 * (2 * 784) ** -0.5  # four standard errors
assert torch.allclose(error.double(), 0.01 * sigma / alpha, rtol=chance)

# %% tags=["figure", "fold"]
# @title What 1 % of error in the noise does to the picture
figure = plt.figure(figsize=(6, 2.6))
plt.semilogy(ts, error, label="measured")
plt.semilogy(
    ts,
    0.01 * sigma / alpha,
    "--",
    color=BLACK,
    lw=1,
    label=r"$0.01\,\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$",
)
plt.gca().set(
    xlabel="t",
    ylabel="error of $x_0$ (rms)",
    title="What 1 % of error in the noise does to the picture",
)
plt.legend()
show(
    figure,
    "The error of the recovered picture on a log axis: 0.0004 at t = 10, about 1.6 at "
    "t = 1000, on the predicted line.",
)

# %% [markdown]
# Near $t = 0$ knowing the noise is knowing the picture. Near $t = 1000$ one per cent of error in the noise is larger than
# the picture itself. What a network should be asked to predict is a real question; lesson 03 takes it up.
#
# ## 5 · What usually goes wrong
#
# Three lines that circulate in tutorials, each beside the right one.
#
# **(a) Keep all T noised copies, to train on one of them.** The closed form makes the list unnecessary. The price of not
# knowing that, for eight small colour pictures:

# %%
batch = normalize(colour[:8])
start = time.perf_counter()
# The list that circulates:
copies = [x_t for _, x_t in forward.q_chain(batch, schedule, lesson.generator)]
walk_s, walk_bytes = time.perf_counter() - start, sum(c.nbytes for c in copies)
del copies
start = time.perf_counter()
t = torch.randint(1, 1001, (8,), generator=lesson.generator)
jumped = forward.q_sample(
    batch, t, schedule, forward.noise_like(batch, lesson.generator)
)
jump_s, jump_bytes = time.perf_counter() - start, jumped.nbytes

# %% tags=["figure", "fold"]
# @title Time and memory of both
figure, axes = plt.subplots(1, 2, figsize=(7, 1.5))
axes[0].barh(
    ["closed form", "all copies"], [jump_s * 1e3, walk_s * 1e3], color=[BLUE, ORANGE]
)
axes[1].barh(
    ["closed form", "all copies"],
    [jump_bytes / 2**20, walk_bytes / 2**20],
    color=[BLUE, ORANGE],
)
axes[0].set(xscale="log", xlabel="time (ms)")
axes[1].set(xscale="log", xlabel="memory (MiB)")
show(
    figure,
    "Two bar charts on log axes: all copies cost hundreds of times the time and 1001 "
    "times the memory.",
)

# %%
print(f"memory: {walk_bytes // jump_bytes} times as much")
varies(f"time: {walk_s / jump_s:.0f} times as much")
assert walk_bytes == 1001 * jump_bytes

# %% [markdown]
# **(b) A root is missing: `(1 - alpha_bar) * eps`, or `alpha_bar * x_0`.** The picture looks noisy enough, so nobody notices.
# Measure the variance: with data of variance 1 it must stay 1. Without the second root it is
# $\bar\alpha_t + (1 - \bar\alpha_t)^2$, without the first $\bar\alpha_t^2 + (1 - \bar\alpha_t)$. Multiply out: both are
# $1 - \bar\alpha_t(1 - \bar\alpha_t)$, which sags to 3/4 where $\bar\alpha_t$ is one half.

# %%
ts = torch.arange(0, 1001, 20)
lines = {
    "both roots": lambda a, x, eps: a.sqrt() * x + (1 - a).sqrt() * eps,
    "second root missing": lambda a, x, eps: a.sqrt() * x + (1 - a) * eps,
    "first root missing": lambda a, x, eps: a * x + (1 - a).sqrt() * eps,
}
variances = {name: [] for name in lines}
for a in schedule.alpha_bar[ts].float():
    eps = forward.noise_like(standard, lesson.generator)
    for name, line in lines.items():
        variances[name].append(line(a, standard, eps).var().item())
assert max(abs(v - 1) for v in variances["both roots"]) < 0.02
for name in ("first root missing", "second root missing"):
    assert abs(min(variances[name]) - 0.75) < 0.01

# %% tags=["figure", "fold"]
# @title Variance and SNR of the right line and the wrong ones
a = schedule.alpha_bar[ts[1:]]
off_by = {"first root missing": a, "second root missing": 1 / (1 - a)}  # of the SNR
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6))
for (name, variance), colour_, style in zip(
    variances.items(), (BLUE, ORANGE, GREEN), ("-", "-", "--"), strict=True
):
    left.plot(ts, variance, style, color=colour_, label=name)
    if name in off_by:
        right.plot(ts[1:], 10 * off_by[name].log10(), style, color=colour_)
left.set(xlabel="t", ylabel="variance of the pixels", ylim=(0.6, 1.1))
right.axhline(0, color=BLUE)
right.set(xlabel="t", ylabel="SNR is off by (dB)", ylim=(-48, 30))
left.legend(fontsize=8)
show(
    figure,
    "Left, variance of the pixels against t: flat at one for the right line, sagging "
    "to three quarters for both wrong ones alike. Right, the SNR: too high early where "
    "the second root is missing, too low late where the first is.",
)

# %% [markdown]
# The variance tells *that* a root is missing, the SNR *which*. Without the second there is too little noise,
# $\bar\alpha_t/(1-\bar\alpha_t)^2$; without the first too little picture, $\bar\alpha_t^2/(1-\bar\alpha_t)$. A network trained on the
# first of these meets, on the way back, more noise than it was ever shown at that $t$; one trained on the other, more picture.
#
# **(c) "The forward process is deterministic."** If it were, two runs from one picture would end closer together than two runs
# from different pictures. Mean squared distances of the ends, over 200 pairs:

# %%
sevens, others = (
    world[labels == 7][:1].expand(200, -1, -1, -1),
    world[labels != 7][:200],
)
end = [
    forward.q_sample(x_0, 1000, schedule, forward.noise_like(x_0, lesson.generator))
    for x_0 in (sevens, sevens, others)
]
same = (end[0] - end[1]).square().mean().item()
different = (end[0] - end[2]).square().mean().item()
print(
    f"same picture: {same:.2f}   different pictures: {different:.2f}   two "
    "independent noises: 2.00"
)
assert abs(same - different) < 0.03

# %% [markdown]
# The end remembers next to nothing of its beginning. That is what makes it a place to start from: to generate, draw
# $x_T \sim \mathcal N(0, I)$ and walk back.
#
# ## 6 · The answer
#
# When can nobody tell? Take 20 of each digit, noise them, and ask the perfect observer how probable the *true* digit is.
# (Not how often its first guess is right: an observer who sees nothing always says 1, the commonest digit, and would be right
# about every 1.)

# %%
asked = torch.cat([torch.nonzero(labels == d)[:20, 0] for d in range(10)])
times = list(range(50, 1001, 50))
belief = torch.zeros(len(times), 10)  # mean probability of the true digit
for row, t in enumerate(times):
    x_t = forward.q_sample(
        world[asked], t, schedule, forward.noise_like(world[asked], lesson.generator)
    )
    of_truth = observer.class_posterior(x_t, t).gather(1, labels[asked, None])
    belief[row] = of_truth.reshape(10, 20).mean(1)

# %% [markdown]
# And your guess?

# %% tags=["figure", "fold"]
# @title The perfect observer's belief, and your guess
overall = belief.mean(1)
figure = plt.figure(figsize=(7, 3))
plt.plot(times, overall, color=BLUE, label="all ten digits")
for d, colour_ in [(1, GREEN), (8, ORANGE)]:
    plt.plot(times, belief[:, d], color=colour_, lw=1.2, label=f"only the {d}s")
plt.axhline(0.1, color=BLACK, lw=1, ls=":")
plt.text(60, 0.12, "knowing nothing", fontsize=8)
plt.axvline(guess.value, color=BLACK, lw=1, ls="--")
plt.text(guess.value + 8, 0.93, "your guess", fontsize=8)
plt.gca().set(xlabel="t", ylabel="probability of the true digit", ylim=(0, 1.03))
plt.legend()
show(
    figure,
    "The perfect observer's belief in the true digit against t: one up to t = 350, "
    "six tenths at 500, one tenth by 900. It "
    "holds out longer for the 1s, and gives up the 8s earlier.",
)

# %%
sure, half, blind = (
    next(t for t, p in zip(times, overall.tolist(), strict=True) if p < q)
    for q in (0.95, 0.5, 0.15)
)
print(
    f"less than sure (95 %) from t = {sure}; less than half from t = {half}; nobody "
    f"can tell (15 %) from t = {blind}"
)
assert overall[0] > 0.99
assert abs(overall[-1] - 0.1) < 0.02

# %% [markdown]
# Compare the two single digits. A 1 differs from all others in its large shape, and can be told longest. An 8 is told from a 3
# by two short strokes, and is lost sooner. In general *large* shapes survive the most noise, because noise in many pixels
# averages out. Fine detail goes first, large shapes go last. Run the film backwards and
# you have the order in which a diffusion model must work: **it decides the large shapes first, from almost nothing, and the details
# at the end.** You will see this happen in every sampler of this course.
#
# ### In your own words
# *Manually graded, about three lines.* Equation (1.4) has two square roots. Why? What would break without the first, and
# what without the second?

# %% [markdown] tags=["manual"] question="01.own_words" points=2
# ### BEGIN SOLUTION
# $\bar\alpha_t$ and $1 - \bar\alpha_t$ are variances; they add to one because picture and noise are independent, and what multiplies a
# tensor is a standard deviation. Without the first root the picture fades too early and the SNR is lower than the schedule
# says; without the second there is too little noise, and the SNR is higher. Either way the variance sags below one in the
# middle, so inputs have a size that depends on $t$, and the jump no longer agrees with the chain.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: variances of independent parts add, so factors on tensors are roots. One point: names what breaks in both
# cases (signal too weak or SNR wrong; variance below one, or disagreement with the chain).

# %% [markdown]
# ## Summary
#
# * One step shrinks and adds, (1.1); the factor is a square root because variances add.
# * Any number of steps is one jump, (1.4). Training uses the jump; nobody stores the chain.
# * SNR $= \bar\alpha_t/(1-\bar\alpha_t)$ says how much picture is left, and a perfect observer can be computed, (1.6).
# * The process is random; its distribution is fixed, and its end, $\mathcal N(0, I)$, is where generation begins.

# %%
progress("01")

# %% [markdown]
# ## References
#
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. Our (1.1) is its Eq. (2), our (1.4) its Eq. (4).
# * Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli: *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, 2015. The
#   first diffusion model.
# * Kingma, Salimans, Poole, Ho: *Variational Diffusion Models*, 2021. SNR as in our (1.5).
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. Appendix B.3 has the
#   perfect observer (1.6) as the "ideal denoiser".
#
# **Next:** lesson 02 asks who chose those betas, and what happens when they are chosen badly.
