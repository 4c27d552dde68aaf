# %% [markdown]
# # 00 · Start here
#
# *The whole idea of diffusion, run in front of you; then how this course works, what its symbols mean, and where it
# goes. About 15 minutes to read and run, 3 to solve the one warm-up exercise.*

# %% tags=["fold"]
# @title Imports, digits, a trained denoiser
import os
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course_utils import forward, runtime
from course_utils.classifier import look_at
from course_utils.data import denormalize, load_images, normalize
from course_utils.exercises import check, course_map
from course_utils.plotting import image_grid, show, use_style
from course_utils.pretrained import load_classifier, load_denoiser
from course_utils.runtime import varies
from course_utils.samplers import sample_ddpm, uniform_grid
from course_utils.toy import IdealDenoiser
from course_utils.widgets import choice, explore, slider

use_style()
digits, labels = load_images("mnist", "train")
digits = normalize(digits)  # pixels in [-1, 1]
denoise = load_denoiser("mnist-unet")
schedule = denoise.schedule  # noise levels t = 0 … 1000

# %% [markdown]
# ## The question
#
# **Can you draw a digit by removing noise from noise?** It sounds absurd: there is nothing in there to find. Run the cells one
# after the other from the top (Shift + Enter), and see. (Code that only sets up, imports or draws is folded: its title says
# what it does, and a click opens it.)

# %% tags=["figure", "fold"]
# @title Fifty steps from noise to digits
x_T = torch.randn(4, 1, 28, 28, generator=lesson.generator)
wish, steps = torch.tensor([2, 3, 6, 8]), []
grid = uniform_grid(schedule, 50)
sample_ddpm(
    denoise,
    x_T,
    schedule,
    grid,
    generator=lesson.generator,
    callback=steps.append,
    label=wish,
)
shown = [steps[i] for i in (0, 15, 22, 26, 30, 34, 38, 42, 46)]
film = torch.stack([*(step.x_t for step in shown), steps[-1].x_s], dim=1)
show(
    image_grid(
        film.flatten(0, 1),
        columns=10,
        titles=[*(f"t = {step.t}" for step in shown), "t = 0"],
    ),
    "Four rows of ten frames. Each begins as pure noise; strokes show from t = 400 "
    "on; each ends as a clear digit.",
)

# %% [markdown]
# **Yes.** Each row began as noise and took 50 small steps. At each step a *denoiser* was asked what clean picture might be
# behind this one, and the picture moved a little towards the answer. (It was also told which digit we wish for: a two, a
# three, a six, an eight.)
#
# The denoiser is a network with 1.6 million weights. It has seen three million noisy digits and guessed what was behind each, and
# that is all it has learned: nobody ever showed it how to draw. Lesson 07 trains such a network before your eyes. Here it
# comes trained, with the course.
#
# ## The idea in four sentences
#
# ### 1 · Noise destroys a picture, and we know exactly how
#
# Shrink the picture $x_0$, add noise $\epsilon$ (a standard normal number for each pixel):
#
# $$x_t = \alpha_t\,x_0 + \sigma_t\,\epsilon. \tag{0.1}$$
#
# The time $t$ counts from 0 (clean) to 1000 (nothing but noise). On the way $\alpha_t$ falls from 1 almost to 0, and
# $\sigma_t$ rises from 0 almost to 1.

# %%
# Eq. (0.1)
x_0 = digits[labels == 3][7:8]
eps = forward.noise_like(x_0, lesson.generator)
alpha_t, sigma_t = schedule.coeffs(300)
x_t = forward.q_sample(x_0, 300, schedule, eps)

# %% tags=["figure", "fold"]
# @title A picture, noise, and their mixture
titles = [
    "picture $x_0$",
    r"noise $\epsilon$",
    rf"${alpha_t:.2f}\,x_0 + {sigma_t:.2f}\,\epsilon$",
]
show(
    image_grid(torch.cat([x_0, eps, x_t]), titles=titles, size=1.5),
    "A handwritten three, a square of noise, and their mixture at t = 300, in which "
    "the three can just be seen.",
)

# %% [markdown]
# ### 2 · A denoiser guesses the clean picture
#
# It is given $x_t$ and $t$, and answers with a guess, $\hat x_0$. The best guess is the average of all the pictures that might
# be behind $x_t$, each as heavy as it is probable.
#
# *Predict before you run: what is the best guess when $x_t$ is nothing but noise?*

# %%
times = [1000, 800, 700, 600, 500, 450, 400, 300, 200]
noisy = [
    forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    for t in times
]
guesses = [denoise(x_t, t) for x_t, t in zip(noisy, times, strict=True)]

# %% tags=["figure", "fold"]
# @title What is given, and the guess below
show(
    image_grid(
        torch.cat(noisy + guesses),
        columns=9,
        titles=[f"t = {t}" for t in times],
        row_labels=["given", "guess"],
    ),
    "The three under less and less noise; below, the guess: a grey blur of all digits "
    "at first, the very three at the end.",
)

# %% [markdown]
# From pure noise it guesses the average of all digits: a blur. With less noise fewer digits are possible, and the guess
# sharpens.
#
# ### 3 · Take a step towards the guess, and put a little noise back
#
# From time $t$ to an earlier time $s$, with fresh noise $z$:
#
# $$x_s = a\,x_t + b\,\hat x_0 + c\,z. \tag{0.2}$$
#
# The numbers $a$, $b$ and $c$ follow from the schedule; lesson 03 derives them. They make $x_s$ a picture such as (0.1) has at time
# $s$: a little more picture, a little less noise. The last step, to $s = 0$, takes the guess as it is.

# %%
# Eq. (0.2)
step = steps[28]  # of the film above
x_t, guess = step.x_t[:1], step.x0_hat[:1]
mean, variance = forward.q_posterior(
    x_t, guess, step.t, schedule, s=300
)  # a x_t + b x0_hat, and c squared
x_s = mean + variance.sqrt() * forward.noise_like(x_t, lesson.generator)

# %% tags=["figure", "fold"]
# @title One step: towards the guess, and a little back
titles = [
    f"$x_t$, t = {step.t}",
    r"guess $\hat x_0$",
    "towards the guess",
    "noise back: $x_s$, s = 300",
]
show(
    image_grid(torch.cat([x_t, guess, mean, x_s]), titles=titles, size=1.6),
    "A noisy picture at t = 440, the denoiser's guess, the step towards it, and the "
    "step with a little noise put back.",
)

# %% [markdown]
# ### 4 · Repeat until t = 0
#
# That is all. Here is the whole algorithm; `sample_ddpm`, which drew the film, is the same lines with checks around them.


# %%
# Eq. (0.2)
def walk(
    x: Tensor,
    n: int,
    generator: torch.Generator,
    label: Tensor | None = None,
    put_back: float = 1.0,
) -> Tensor:
    """n steps from noise to pictures; `put_back` scales the noise that is put back."""
    for t, s in pairwise(
        uniform_grid(schedule, n)
    ):  # for n = 4: 1000, 750, 500, 250, 0
        mean, variance = forward.q_posterior(
            x, denoise(x, t, label=label), t, schedule, s
        )
        x = mean + put_back * variance.sqrt() * forward.noise_like(x, generator)
    return x


seeded = [torch.Generator().manual_seed(1) for _ in range(2)]
drawn = sample_ddpm(
    denoise, x_T, schedule, uniform_grid(schedule, 10), generator=seeded[0]
)
assert torch.equal(walk(x_T, 10, seeded[1]), drawn)

# %% [markdown]
# And here is the first row of the film again, with the guesses below it.

# %% tags=["figure", "fold"]
# @title The first row of the film, with its guesses
guesses = [*(step.x0_hat[:1] for step in shown), steps[-1].x0_hat[:1]]
show(
    image_grid(
        torch.cat([film[0], *guesses]),
        columns=10,
        titles=[*(f"t = {step.t}" for step in shown), "t = 0"],
        row_labels=["$x_t$", r"guess $\hat x_0$"],
    ),
    "Above the film of one digit, below the guess at each frame: first a blur of all "
    "digits, then a shape, then details.",
)

# %% [markdown]
# Large shapes first, details last: the guess makes up its mind while the picture still looks like snow.
#
# ## Why put noise back?
#
# The term $c\,z$ looks like a step in the wrong direction. *Predict: if you leave it out, and wish for nothing, what do 20
# different noises become?*

# %%
noise = torch.randn(20, 1, 28, 28, generator=lesson.generator)
put_back, left_out = (
    walk(noise, 50, lesson.generator),
    walk(noise, 50, lesson.generator, put_back=0.0),
)

# %% tags=["figure", "fold"]
# @title With the noise put back, and without
show(
    image_grid(
        torch.cat([put_back[:10], left_out[:10]]),
        columns=10,
        row_labels=["put back", "left out"],
    ),
    "Ten digits of many kinds drawn with the noise put back; below, from the same ten "
    "noises without it, ten times the same one.",
)

# %%
classifier = load_classifier("mnist")
kinds = {
    name: look_at(classifier, denormalize(x))[1]
    for name, x in [("put back", put_back), ("left out", left_out)]
}
for name, seen in kinds.items():
    varies(f"{name}: 0 to 9 drawn {seen.bincount(minlength=10).tolist()} times")
assert len(kinds["put back"].unique()) >= 5
assert (kinds["left out"] == 1).float().mean() > 0.8

# %% [markdown]
# Without it (0.2) calms the picture faster than $t$ tells the denoiser, and nearly all the walks slide into the same picture, the
# plainest digit there is. The noise is where the variety comes from. (One *can* walk without any, but then with other numbers
# $a$ and $b$: lesson 10.)
#
# ## How many steps are enough?
#
# Each step costs one call of the denoiser, so fewer steps mean faster drawing. Fewer steps are also longer, and a long
# step trusts an early guess.
#
# *Predict before you run: how many steps does a clear digit need? 1, 5, 50, 1000?*

# %%
rows, few, wish = [], (1, 2, 5, 10, 25, 50), torch.arange(10)
for n in few:
    rows.append(walk(noise[:10], n, lesson.generator, wish))

# %% tags=["figure", "fold"]
# @title The same ten noises in 1 to 50 steps
show(
    image_grid(
        torch.cat(rows),
        columns=10,
        row_labels=[f"{n} step{'s' * (n > 1)}" for n in few],
    ),
    "The digits 0 to 9, each wished for, in 1 to 50 steps: one gives blurred "
    "averages, two and five soft shapes, ten and more digits.",
)

# %% [markdown]
# One step gives what all threes have in common, all fours, and so on: blurs. With more steps a walk decides for *one* three.
# (Every row begins with the same ten noises. The digits differ because the number of steps does, and the noise put back.) The first papers took 1000
# steps, and the whole of part III is about needing fewer.
#
# ## Are they new?
#
# Has the network learned to draw, or does it give back what it has seen? Look for the nearest of all 60,000 digits it was
# trained on.


# %%
def nearest(x: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """How far the nearest of the digits is, in grey levels (of 255;
    root mean square), and which one it is."""
    distance = torch.cdist(x.flatten(1), among.flatten(1))
    return distance.min(1).values / 28 * 127.5, distance.argmin(1)


drawn = rows[-1]
far, which = nearest(drawn, digits)

# %% tags=["figure", "fold"]
# @title Drawn digits above their nearest relatives
show(
    image_grid(
        torch.cat([drawn, digits[which]]), columns=10, row_labels=["drawn", "nearest"]
    ),
    "Ten drawn digits; below each the training digit most like it: nearly all of the "
    "same kind, with other strokes.",
)

# %% [markdown]
# Relatives, not copies. How far would a *new* digit be, one that people wrote and the network never saw? And how far is what the
# **perfect** denoiser draws? There is one: for a world of just 2,000 digits one can compute the best of all guesses, the average of
# all 2,000, each as heavy as it fits. No network comes closer to the truth about that world. *Predict: what does it draw?*

# %%
new = normalize(load_images("mnist", "test")[0])[
    torch.randperm(10_000, generator=lesson.generator)[:100]
]
world = digits[:2000]
perfect = sample_ddpm(
    IdealDenoiser(world, schedule),
    noise[:10],
    schedule,
    grid,
    generator=lesson.generator,
)
copies = (
    torch.cdist(
        perfect.flatten(1),
        world.flatten(1),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    .min(1)
    .values
)
varies(
    "off from the nearest training digit, of 255 grey levels: drawn "
    f"{far.mean():.0f}, new {nearest(new, digits)[0].mean():.0f}"
)
print(f"drawn with the perfect denoiser: {copies.max() / 28 * 127.5:.0f}")
assert copies.max() / 28 * 127.5 < 0.5  # the same, once rounded to bytes
assert far.mean() > nearest(new, digits)[0].mean() / 2

# %% [markdown]
# **The perfect denoiser gives copies; the network, which is less than perfect, draws what is new.** It is as far from all it has seen
# as a new digit is. Why it should be so is one of the deep questions of the field, and lesson 16 comes back to it.
#
# ## Now it is yours
#
# Move the steps. Choose a kind of digit, which is handed to the denoiser as `label=`, or none.
# *Does it take more steps or fewer, once the denoiser knows what to draw?*


# %% tags=["fold", "widget"]
# @title Draw digits live
def draw(n: int, seed: int, kind: str) -> plt.Figure:
    """Eight digits in n steps, from the noise of this seed."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(8, 1, 28, 28, generator=generator)
    label = None if kind == "any" else torch.full((8,), int(kind))
    return image_grid(
        sample_ddpm(
            denoise,
            noise,
            schedule,
            uniform_grid(schedule, n),
            generator=generator,
            label=label,
        )
    )


explore(
    draw,
    alt="Eight digits drawn live from eight noises, with the chosen number of steps.",
    n=slider("steps", 1, 50, 10),
    seed=slider("seed of the noise", 0, 20, 0),
    kind=choice("digit", ["any", *"0123456789"]),
)

# %% [markdown]
# Fewer: the average of all threes looks at least like a three. What the denoiser is told, the steps need not find. Lesson 15 makes
# much of this.
#
# ## How this course works
#
# Four verbs, in every lesson:
#
# * **Predict.** Where the text asks, commit to a guess before you run the cell. Being wrong is what makes it stick.
# * **Run.** Shift + Enter, from the top. Every lesson runs from start to end on a plain computer, without the internet.
# * **Slide.** A widget is there to be played with; the figure next to it says the same on a page where nothing runs.
# * **Solve.** Write the idea once by hand. After each exercise the page goes on with the course's own tested function, so
#   nothing below waits for you: skip, be wrong, come back. If an answer needs a constant or a helper, write it into the
#   same cell, where a grader finds it.
#
# A check answers in words. It never looks at how you wrote your function; it calls it on fresh random inputs. There are three
# answers. As long as a function is as we left it:


# %%
def untouched(x_0: Tensor, eps: Tensor, alpha_t: float, sigma_t: float) -> Tensor:
    """An exercise as you find it."""
    raise NotImplementedError("your turn")


check("00.mix", untouched)

# %% [markdown]
# If it is wrong, you are told what is wrong, and the likely reason if the mistake is a common one. Here is a typical answer
# to the exercise below:

# %%
check("00.mix", lambda x_0, eps, alpha_t, sigma_t: alpha_t * x_0 + (1 - alpha_t) * eps)

# %% [markdown]
# The third answer is yours to see.
#
# ### Exercise 1 · Mix a picture with noise
# *3 minutes · easy · Eq. (0.1).* `x_0` and `eps` are tensors of one shape, `alpha_t` and `sigma_t` are numbers.


# %% tags=["exercise"] exercise="00.mix" points=1
# Exercise 00.mix
def mix(x_0: Tensor, eps: Tensor, alpha_t: float, sigma_t: float) -> Tensor:
    """x_t by Eq. (0.1)."""
    ### BEGIN SOLUTION
    return alpha_t * x_0 + sigma_t * eps
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Put your line in the place of `raise NotImplementedError(…)`. It is (0.1), letter by letter.
# </details>

# %% tags=["check"]
check("00.mix", mix)

# %% [markdown]
# Under each check a solution is folded away, and the folder `solutions` holds every lesson solved, with its figures.
#
# ## What the symbols mean
#
# One notation for the whole course, in text and in code. Come back here when a letter puzzles you.
#
# | symbol | in code | meaning | first in |
# |---|---|---|---|
# | $x_0$ | `x_0` | a clean picture, pixels in [-1, 1]; `x0` inside longer names | 00 |
# | $t$, $T$ | `t`, `T` | time: 0 is clean, 1 … $T$ are noisy; a continuous $t$ runs from 0 to 1 | 00 |
# | $x_t$ | `x_t` | the noisy picture at time $t$ | 00 |
# | $\epsilon$ | `eps` | the noise in $x_t$, standard normal | 00 |
# | $\alpha_t,\ \sigma_t$ | `alpha_t`, `sigma_t` | factors of picture and noise, $x_t = \alpha_t x_0 + \sigma_t\epsilon$ | 00 |
# | $\hat x_0$ | `x0_hat` | a denoiser's guess of $x_0$ | 00 |
# | $\beta_t$ | `betas[t]` | variance of the noise that step $t$ adds | 01 |
# | $1 - \beta_t$ | `alphas[t]` | what step $t$ leaves of the signal's variance | 01 |
# | $\bar\alpha_t$ | `alpha_bar[t]` | product of all `alphas` so far; $\alpha_t = \sqrt{\bar\alpha_t}$, $\sigma_t = \sqrt{1 - \bar\alpha_t}$ | 01 |
# | $\mathrm{SNR}(t)$ | `snr` | signal-to-noise ratio, $\alpha_t^2 / \sigma_t^2$, often as `log_snr` | 01 |
# | $v$ | `v` | velocity, $\alpha_t\,\epsilon - \sigma_t\,x_0$ | 03 |
# | NFE | `nfe` | calls of the network that a drawing costs | 11 |
# | $u$ | `u` | flow from data to noise, $\epsilon - x_0$ | 14 |
# | $w$ | `w` | guidance weight, uncond + w · (cond − uncond): 1 is plain conditional | 15 |
#
# Papers differ. Where you read one beside this course:
#
# * **Alpha.** DDPM writes $\alpha_t$ for one step's $1 - \beta_t$, our `alphas[t]`. DDIM writes $\alpha_t$ for the product $\bar\alpha_t$.
# * **Counting.** Some code counts the noisy levels from 0, so that its 0 is our 1, and has no number for clean data.
# * **Direction.** Flow-matching papers let time run the other way: noise at 0, data at 1. Their velocity is our $-u$.
# * **Guidance.** The first paper on classifier-free guidance counts $w$ from 0: its $w$ is our $w - 1$.
# * **SNR.** Some take the ratio without the square, $\alpha_t / \sigma_t$.
#
# ### Letters with several meanings
#
# There are fewer letters than ideas. These mean one thing in one lesson and another in the next; in brackets, where.
#
# | letter | what it stands for |
# |---|---|
# | $\alpha$ | factor of the picture, with a bar its square, with $t\|s$ the factor of the step from $s$ to $t$ (00 to 16, 19); of a text, the share of letters still there (19) |
# | $c$ | factor of an earlier picture (01) · factor of the noise put back (00, 10) · price of a noise level (02) · a channel, and $c_\text{skip}$, $c_\text{out}$ of the wrapper (04, 05, 07) · number of features (06) · limit of a gradient's norm (07) · a class (08, 15), and the cut-off $k_c$ (08) · a convex cost, and $c_\text{skip}$, $c_\text{out}$ of the wrapper (14) · width of a token (17) |
# | $\gamma$ | minus the log-SNR (02) · Euler's constant (04) · the cap of min-SNR weights (07) · exponent of a spectrum (08) · scale of queries and keys (17) · weight of a penalty, R1 and R2 (18) |
# | $k$ | a part of a mixture (03, 13) · side of a kernel (04) · width of a bottleneck (05) · a key (06, 17) · counts training steps (07) · a wave (08) · a kernel of two pictures (09) · factor of the noise that is kept (10) · factor of $x_0$ in a step (12, 13) · number of steps of a path (13, 14) · known coordinates (15) · side of the squares that are averaged (16) · counts modes, and size of a pack (18) |
# | $\lambda$ | log-SNR (02, 04, 08, 11) · variance along a principal axis (05, 12, 16) · eigenvalue of a game (18) · weight of the bound in a mixed loss (12) |
# | $m$ | mean (02, 03, 10, 12) · the best denoiser, a conditional mean (03, 05) · a head (06) · mean of past gradients, digits of a float (07) · size of the second set (09) · mean squared error of a guess (13) · mean of two densities (18) |
# | $\nu$ | place of a step's variance between two logarithms (12) |
# | $r$ | factor of the picture before its schedule is stretched (02) · probability of a part of a mixture, given $x_t$ (03, 13) · pixels that a layer can see (04) · side of the squares that become channels (06) · one of several processes (08) · as index, of the real pictures (09) · noise against picture, $\sigma_t/\alpha_t$ (11, 15) · a variance against the best one (12, 13) · the time at which a jump ends (14) · noise level of the small picture (16) · place of a token (17) · a width against the right one (18) · share of the letters that are hidden (19) |
# | $s$ | a time before $t$ (00, 03, 10 to 13, 15, 19) · runs over steps (01) · offset of the cosine schedule (02) · standard deviation of the data (04, 06, 07, 08, 14) · the score (05) · place on an arc between two noises (14) · shift of windows (17) · share of the data that is covered (18) |
# | $S$ | variance or covariance of the data (03, 05, 10, 12, 13, 15) · covariance of features (09) · scale of a loss in half precision (08) · how bent paths are (14) |
# | $\tau$ | steepness of the sigmoid schedule (02) · standard deviation of a gradient's noise (07) · a time of the grid (10), under an integral (14) · temperature of a coupling (14) · standard deviation of what is left unknown of $x_0$ (15) · the error that a code allows (16) |
# | $u$ | flow from data to noise, with a bar its mean over a jump (00, 11, 14) · share of the time, $t/T$ (02) · variance of a step or of a part (03, 12) · a principal axis (05) · mean of past squared gradients (07) · a time between $s$ and $t$ (11, 13) · unknown coordinates (15) |
# | $v$ | velocity (00, 02, 03, 04, 05, 07, 14) · a value (06) · variance of a step (12, 13) · of a code (16) · $\epsilon - x_0$ (14) |
# | $w$ | guidance weight (00, 14, 15, 19) · weight of a part (03) · attention weight (06) · weight of a loss (07) · factor of a wave (08) · place between two pictures (10) · side of a window (17) · weight of a mode, of a noise level, of a critic (18) |
# | $y$ | picture and noise as they reach the network, and a number under an integral (04) · what a layer gives (06, 17) · the number to be predicted (07) · a sample of the other distribution (09) · $x_t/\alpha_t$ (11, 15) · what is known of the picture (15) · the small picture (16) |
#
# ## What machine am I on?

# %% tags=["fold"]
# @title Device, processor, memory
memory = "unknown"
if hasattr(os, "sysconf"):  # not on Windows
    memory = (
        f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    )
varies(f"device: {runtime.device_name(lesson.device)}")
varies(f"precision for training: {str(lesson.dtype).removeprefix('torch.')}")
varies(f"processor cores: {os.cpu_count()}, memory: {memory}")
if lesson.device.type == "cuda":
    varies(
        "GPU memory: "
        f"{torch.cuda.get_device_properties(lesson.device).total_memory / 2**30:.1f} "
        "GiB"
    )

# %% [markdown]
# Whatever it says, it is enough: every lesson runs from start to end on two cores without a GPU. Lessons 00 to 03 compute on the
# processor anyway. From 04 on there are networks to train, on a GPU where one is found, and then for longer and on more data.
# To choose yourself, set the variable `COURSE_DEVICE` (to `cpu`, say) before you start. If something does not work,
# `course doctor` in a terminal says what, and what to do.
#
# ## The map
#
# Twenty lessons in five parts.
#
# | part | lesson | what you will do |
# |---|---|---|
# | **I · Noise** | 00 · Start here | see the idea run; you are here |
# | | [01 · The forward process](01_forward_process.ipynb) | derive how noise destroys a picture, and find when it is gone |
# | | [02 · Noise schedules](02_noise_schedules.ipynb) | decide how fast, by hand and by learning |
# | | [03 · The reverse process](03_reverse_process.ipynb) | derive the way back, and what a network should predict |
# | **II · Denoisers, training, measuring** | [04 · A CNN denoiser](04_cnn_denoiser.ipynb) | build the first network, and tell it the time |
# | | [05 · A denoising autoencoder](05_dae_denoiser.ipynb) | find out what any denoiser secretly knows: the score |
# | | [06 · Attention and the U-Net](06_attention_and_unet.ipynb) | build the network that made diffusion work |
# | | [07 · Train on MNIST](07_train_mnist.ipynb) | train them all, and draw new digits |
# | | [08 · Train on CIFAR-10](08_train_cifar10.ipynb) | go to colour, classes and GPUs |
# | | [09 · How good is it?](09_evaluate.ipynb) | measure how good pictures are, and how sure you can be |
# | **III · Fewer steps** | [10 · DDPM and DDIM](10_ddpm_and_ddim.ipynb) | skip steps, with noise and without |
# | | [11 · Fast solvers](11_fast_solvers.ipynb) | solve an equation instead; enter the leaderboard |
# | | [12 · Variational acceleration](12_variational_acceleration.ipynb) | find the noise that long steps should put back |
# | | [13 · Which steps matter](13_learned_steps.ipynb) | let the data choose the steps |
# | | [14 · One-step generation](14_one_step_generation.ipynb) | draw in a single step |
# | **IV · Control** | [15 · Conditional generation](15_conditional_generation.ipynb) | say what to draw, and how strictly |
# | | [16 · Scale and regularise](16_scale_and_regularise.ipynb) | go to larger pictures, and stop the network from memorising |
# | **V · Beyond** | [17 · Transformers](17_transformers.ipynb) | trade the U-Net for a transformer, at equal cost |
# | | [18 · Diffusion against GANs](18_diffusion_vs_gan.ipynb) | compare two ways to generate, fairly |
# | | [19 · Other modalities](19_other_modalities.ipynb) | text, sound and video with the same ideas |
#
# They build on each other; in a hurry, 01, 03, 07 and 10 are the spine.
#
# Each exercise whose check has once been passed is remembered on this machine, whatever you do to its cell later. Come back
# and run this cell to see how far you are.

# %% tags=["varies"]
course_map()

# %% [markdown]
# ## Summary
#
# * Noise destroys a picture by a known recipe, (0.1). A denoiser guesses the picture behind the noise.
# * To draw: begin with noise, step towards the guess, put a little noise back, (0.2), and repeat.
# * Few steps give blur; many give clear pictures. A perfect denoiser gives copies, a learned one new pictures.
# * Predict, run, slide, solve.
#
# ## References
#
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. Our (0.1) is its Eq. (4), the loop its Algorithm 2.
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. Appendix B.3 has the
#   perfect denoiser.
#
# **Next:** [lesson 01](01_forward_process.ipynb) takes (0.1) apart, and answers exactly when a picture is gone.
