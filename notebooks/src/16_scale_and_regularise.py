# %% [markdown]
# # 16 · Scale and regularise
#
# *You will prove that a picture made small has less noise, and what that means for schedules; draw digits of 49 pixels and
# make them large, with and without the noise that keeps such a cascade on its feet; run a diffusion on codes in place of
# pixels, and count in nats what a code tells; and find out when a network stops learning and begins to remember. About 70
# minutes to read and run, 55 to solve its six exercises. A natural break comes after section 3.*

# %% tags=["fold"]
# @title Imports
import functools
import itertools
import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course_utils import cascades, forward, samplers, schedules
from course_utils.autoencoders import gaussian_rate, rate_and_distortion, sample_codes
from course_utils.cascades import downsample, enlarge
from course_utils.classifier import look_at
from course_utils.data import denormalize, load_images, normalize, random_flip, shifted
from course_utils.exercises import check, progress
from course_utils.leaderboard import load_memory, load_scale
from course_utils.leaderboard.memory import MOVES, small_digits, train_on, unseen_digits
from course_utils.metrics import ratio_test, two_nearest
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
from course_utils.toy import IdealDenoiser
from course_utils.variational import gaussian_kl
from course_utils.widgets import choice, explore, slider

use_style()
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, BLACK)

# %% [markdown]
# ## The question
#
# Eight digits, drawn by a small network on 7 × 7 pixels, and what a second network, which was shown them, made of each:


# %%
def on_device(*names: str) -> list:
    """Shipped networks, where this lesson computes."""
    return [load_denoiser(name, lesson.device) for name in names]


seven, upscaler, clean, latent = on_device(
    "mnist-seven", "mnist-upscaler", "mnist-upscaler-clean", "mnist-latent"
)
schedule = seven.schedule
ten_steps = samplers.uniform_grid(schedule, 10)
wish = torch.arange(8)


def noise(n: int, *shape: int, seed: int = 0) -> Tensor:
    """Always the same noises for a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator).to(lesson.device)


def drawn_small(label: Tensor, calls: int = 10, seed: int = 0) -> Tensor:
    """Digits of 7 × 7."""
    x_T, grid = (
        noise(len(label), 1, 7, 7, seed=seed),
        samplers.uniform_grid(schedule, calls),
    )
    label = label.to(lesson.device)
    return samplers.sample_ddim(seven, x_T, schedule, grid, label=label)


def made_large(
    small: Tensor, label: Tensor, network: object, r: int = 0, seed: int = 0
) -> Tensor:
    """Digits of 28 × 28, each given its small one, which is shown as it is at r."""
    generator = torch.Generator().manual_seed(seed)
    above = cascades.given_small(network, small, r, schedule, generator)
    x_T, label = noise(len(small), 1, 28, 28, seed=seed + 1), label.to(lesson.device)
    return samplers.sample_ddim(above, x_T, schedule, ten_steps, label=label).cpu()


small = drawn_small(wish)
large = made_large(small, wish, upscaler, r=25)

# %% tags=["figure", "fold"]
# @title Small ones, and what was made of them
show(
    image_grid(
        torch.cat([enlarge(small, 4).cpu(), large]),
        columns=8,
        row_labels=["49 pixels", "784 pixels"],
        size=0.85,
    ),
    "Two rows of the digits 0 to 7: in the first coarse squares in which a digit can "
    "be guessed, in the second digits of the same shapes with fine strokes.",
)

# %% [markdown]
# So pictures become large: not at once. This lesson asks how, what it costs and what it saves; and then a second question that
# comes up whenever networks get larger than their training sets: **when does a network only remember?**
#
# *Commit to a guess.* A network is trained on 50 digits. Its loss falls, and goes on falling, to the very end of
# training. What does it draw at the end?

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice(
    "", ["ever better digits", "blurred digits", "its fifty digits", "noise"]
)
guess

# %% [markdown]
# ## 1 · Small pictures have less noise
#
# Take a noisy picture $x_t = \alpha_t x_0 + \sigma_t\epsilon$ and make it small: let $A$ take the mean over each square of
# $k \times k$ pixels. The mean of $k^2$ independent noises has a $k^2$-th of the variance; different squares share no
# pixel, so what is left is white again. With $y = A x_0$,
#
# $$A x_t = \alpha_t\,y + \frac{\sigma_t}{k}\,\epsilon', \qquad \epsilon' \sim \mathcal N(0, I). \tag{16.1}$$
#
# That is the small picture, noised, at a signal-to-noise ratio $\alpha_t^2/\sigma_t^2$ that is $k^2$ times as large:
#
# $$\text{log-SNR of the small} = \text{log-SNR of the large} + 2 \log k. \tag{16.2}$$
#
# How much of the *picture* is left? The share $\rho_k = \operatorname{Var} y / \operatorname{Var} x_0$ of its variance, near 1 if
# neighbours look alike. So measured by variances the ratio grows by $k^2 \rho_k$. Real pictures:

# %%
# Eqs. (16.1) and (16.2)
for name, sides in (("mnist", (2, 4, 7)), ("cifar10", (2, 4, 8))):
    pictures = normalize(load_images(name, n=2000)[0])
    for k in sides:
        rho = downsample(pictures, k).var() / pictures.var()
        print(
            f"{name:7} k = {k}: {rho:.2f} of the variance left, SNR × {k**2 * rho:4.1f}"
        )
        assert 1 < k**2 * rho < k**2
spread = downsample(torch.randn(400, 1, 28, 28, generator=lesson.generator), 4).var()
assert abs(16 * spread - 1) < 0.05

# %% [markdown]
# *Means of 4 × 4 leave a sixteenth of the noise's variance, and of a photograph's four fifths.* See it: each column shows one
# noisy photograph, whole and made small. Nothing was denoised. *At which log-SNR can you name it in the first row, and at
# which in the last?*


# %% tags=["widget", "fold"]
# @title One noise, three sizes
photographs = normalize(load_images("cifar10", "test", n=60)[0])[[1, 7, 13, 18, 25, 30]]
vp = schedules.VPCosine()


def three_sizes(log_snr: float) -> plt.Figure:
    """Six noisy photographs, and the means of their squares."""
    t = vp.t_at_log_snr(log_snr).item()
    generator = torch.Generator().manual_seed(0)
    eps = forward.noise_like(photographs, generator)
    x_t = forward.q_sample(photographs, t, vp, eps)
    x_t = x_t / vp.coeffs(t)[0].item()
    rows = [enlarge(downsample(x_t, k), k) if k > 1 else x_t for k in (1, 2, 4)]
    labels = [f"{32 // k} × {32 // k}" for k in (1, 2, 4)]
    how = {"columns": 6, "row_labels": labels, "size": 0.95}
    return image_grid(torch.cat(rows), title=f"log-SNR {log_snr:g}", **how)


explore(
    three_sizes,
    alt="Six photographs with noise of one level, whole and made small twice: in the "
    "smaller ones there is less noise, and less picture.",
    log_snr=slider("log-SNR of the large", -4.0, 5.0, 0.5, 0.5),
)

# %% tags=["figure", "fold"]
# @title The same at log-SNR 0.5
show(
    three_sizes(0.5),
    "Three rows of six photographs at log-SNR 0.5: at 32 × 32 mostly noise, at 16 × 16 "
    "shapes in it, and at 8 × 8 large areas of their own colours, with little noise.",
)

# %% [markdown]
# So the log-SNR at which a picture drowns is lower the larger it is. A schedule that was made for 32 × 32, used on
# 256 × 256, hides the large shapes only in its very last steps, and spends nearly all others on fine detail. The remedy is to
# **shift the schedule with the side** (Hoogeboom and others, 2023): at each $t$,
#
# $$\text{log-SNR}_{\text{side}}(t) = \text{log-SNR}_{\text{base}}(t) + 2 \log\frac{\text{base}}{\text{side}}. \tag{16.3}$$
#
# ### Exercise 1 · Shifted with the side
# *5 minutes · easy · Eq. (16.3).* The log-SNRs at which pictures of one side show as much as pictures of another do.


# %% tags=["exercise"] exercise="16.shift" points=1
# Exercise 16.shift
def shift(log_snr: Tensor, base: int, side: int) -> Tensor:
    """The log-SNRs for pictures of `side` that belong to `log_snr`, (n,), of pictures
    of `base`."""
    ### BEGIN SOLUTION
    return log_snr + 2 * math.log(base / side)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Larger pictures want more noise. For twice the side the ratio of variances is four times as small.
# </details>

# %% tags=["check"]
check("16.shift", shift)

# %% [markdown]
# For pictures made of squares, (16.2) is the whole truth: $Ax_t$ tells all that $x_t$ tells about $x_0$. Then the
# best guess of the large picture is the best guess of the small one, made large. Three hundred digits, as 7 × 7 and as
# squares of 4 × 4, and the exact denoiser of either (lesson 05):

# %%
# Eq. (16.2), exactly
digits, names = load_images("mnist", n=300)
tiny = downsample(normalize(digits).double(), 4)
of_large, of_small = (IdealDenoiser(x, vp) for x in (enlarge(tiny, 4), tiny))
for t in (0.3, 0.6, 0.9):
    eps = forward.noise_like(enlarge(tiny, 4), lesson.generator)
    x_t = forward.q_sample(enlarge(tiny, 4), t, vp, eps)
    r = vp.t_at_log_snr(vp.log_snr(t) + 2 * math.log(4)).item()
    y_r = downsample(x_t, 4) * (vp.coeffs(r)[0] / vp.coeffs(t)[0])
    guess_small = of_small(y_r, r)
    torch.testing.assert_close(of_large(x_t, t), enlarge(guess_small, 4))
print("of 300 digits made of squares: the same guesses, to rounding")

# %% [markdown]
# And real digits, which are not made of squares? Let the perfect observer of lesson 01, who knows two thousand digits by heart,
# name three hundred of them, noisy, at 28 × 28, 14 × 14 and 7 × 7. How often is it right?

# %%
known, truth = load_images("mnist", n=2000)
known = normalize(known).double()
levels = [i / 2 for i in range(-18, 11)]
right_at: dict[int, list[float]] = {}
for k in (1, 2, 4):
    y = downsample(known, k)
    observer = IdealDenoiser(y, vp, truth)
    right_at[28 // k] = []
    for level in levels:
        t = vp.t_at_log_snr(level).item()
        eps = forward.noise_like(y[:300], lesson.generator)
        seen = observer.class_posterior(forward.q_sample(y[:300], t, vp, eps), t)
        hit = (seen.argmax(1) == truth[:300]).float().mean().item()
        right_at[28 // k].append(hit)

# %% tags=["figure", "fold"]
# @title How often a perfect observer is right
figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), sharey=True)
for colour, (side, hits) in zip(COLOURS, right_at.items(), strict=False):
    moved = [level + 2 * math.log(side / 28) for level in levels]
    axes[0].plot(levels, hits, color=colour, label=f"{side} × {side}")
    axes[1].plot(moved, hits, color=colour, label=f"{side} × {side}")
axes[0].set(xlabel="log-SNR", ylabel="share named rightly")
axes[1].set(xlabel="log-SNR + 2 log(side / 28)", xlim=axes[0].get_xlim())
axes[0].legend()
show(
    figure,
    "Two panels of three rising curves. Against the log-SNR they are far apart: small "
    "digits need much less noise to be named. Shifted by (16.3) the curves of 28 and "
    "14 come near each other, and that of 7 stays somewhat behind.",
)


# %%
def half_right(side: int) -> float:
    """The first log-SNR from which on half are named rightly, on a line between two."""
    hits = right_at[side]
    i = max(j for j, hit in enumerate(hits) if hit < 0.5)
    part = (0.5 - hits[i]) / (hits[i + 1] - hits[i])
    return levels[i] + part * (levels[i + 1] - levels[i])


for side in (14, 7):
    gap, rule = half_right(side) - half_right(28), 2 * math.log(28 / side)
    varies(f"{side} × {side}: half are named {gap:.2f} higher; by the rule {rule:.2f}")
    assert rule - 0.4 < gap < rule + 1.2

# %% [markdown]
# *The shift explains most of it.* What the curve of 7 × 7 stays behind is what the averages left out: detail, that also told
# something. (16.3) is a rule for where the large shapes drown, and no more is claimed for it.
#
# ## 2 · A cascade
#
# If small pictures are easy, draw them first. The small picture $y = Ax$ is a function of the large, so nothing is lost in
# writing the law of pictures (here $x$ is short for $x_0$) as a product,
#
# $$p(x) = p(y)\;p(x \mid y). \tag{16.4}$$
#
# The first factor is a diffusion on 49 pixels. The second is a diffusion on 784 that is given $y$: the
# course's U-Net, whose input has one channel more, in which $y$ stands beside $x_t$, enlarged. Loss, training and samplers are
# those of lessons 07 and 10. Given a *real* small digit it should have a choice only in what the squares leave open:

# %%
tests, test_names = load_images("mnist", "test")
chosen = [int((test_names == d).nonzero()[3]) for d in range(8)]
originals = normalize(tests[chosen])
real_small = downsample(originals, 4).to(lesson.device)
again = [made_large(real_small, wish, upscaler, seed=10 * i) for i in range(3)]

# %% tags=["figure", "fold"]
# @title Real digits, made small, and three large ones given each
show(
    image_grid(
        torch.cat([originals, enlarge(real_small, 4).cpu(), *again]),
        columns=8,
        row_labels=["real", "made small", "given it", "", ""],
        size=0.7,
    ),
    "Five rows: eight real digits; their 7 × 7 versions; and three large digits drawn "
    "given each, which agree in place and mostly in shape and differ in their strokes, "
    "those of the 2 most.",
)
apart = [(downsample(x, 4) - real_small.cpu()).square().mean().sqrt() for x in again]
varies(f"made small again, they are {max(apart):.3f} from what was given (rms)")
assert max(apart) < 0.5 * real_small.std()

# %% [markdown]
# **Now the catch.** In training the second network sees real small pictures, in sampling those of the first network, which are a
# little wrong in ways it has never seen. How wrong may the result be? Let both factors be perfect but for $\hat p(y)$ in place of
# $p(y)$. A pair $(x, y)$ then has the law $\hat p(y)\,p(x \mid y)$; by the chain rule its divergence from the truth is that of the
# small pictures alone, and looking at $x$ only cannot increase it:
#
# $$\mathrm{KL}\bigl(p(x)\,\|\,\hat p(x)\bigr) \le \mathrm{KL}\bigl(p(y)\,\|\,\hat p(y)\bigr). \tag{16.5}$$
#
# The right side may well be infinite: real small pictures fill hardly any of their space, and a $\hat p$ that lies beside them,
# however near, gives them probability 0. Then (16.5) promises nothing, and a network told such a $y$ answers as it likes. The
# remedy is noise (Ho and
# others, 2022, *noise-conditioning augmentation*): show the second network $y_r = \alpha_r y + \sigma_r \epsilon$ in place of $y$, and
# tell it $r$, in training for every $r$ up to some, in sampling for one that we choose. (16.5) then holds with the noised laws,
#
# $$\mathrm{KL}\bigl(p(x)\,\|\,\hat p(x)\bigr) \le \mathrm{KL}\bigl(p(y_r)\,\|\,\hat p(y_r)\bigr), \tag{16.6}$$
#
# which is finite for every $r > 0$ (pictures are bounded) and never grows with $r$, since the same noise on both makes laws more alike (data-processing
# inequality). The price: the more noise, the less the second network is told, and the more it has to draw by itself. At $r = T$ it is told next to nothing.
# For two Gaussians in the plane, of which the true one is flat, all of it is a formula:

# %%
# Eq. (16.6): the truth has no width in its second coordinate, the guess has a little
zero = torch.zeros(1, 2).double()
told = {}
for r in (1, 10, 50, 100, 200, 400):
    alpha, sigma = (c.item() for c in schedule.coeffs(r))
    of_truth = torch.tensor([1.0, 0.0]).double() * alpha**2 + sigma**2
    of_guess = torch.tensor([0.8, 0.04]).double() * alpha**2 + sigma**2
    told[r] = gaussian_kl(zero, of_truth[None], zero, of_guess[None]).item()
print("KL by r:", {r: round(kl, 4) for r, kl in told.items()})
assert all(told[a] > told[b] for a, b in itertools.pairwise(told))

# %% [markdown]
# ### Exercise 2 · What the second network is shown
# *10 minutes · medium.* From large pictures, in training: made small, noised, enlarged again. Each picture has its own $r$, and so its
# own $\alpha_r$ and $\sigma_r$.


# %% tags=["exercise"] exercise="16.shown" points=1
# Exercise 16.shown
def shown(x: Tensor, eps: Tensor, alpha_r: Tensor, sigma_r: Tensor, k: int) -> Tensor:
    """y_r of pictures x, (b, c, h, w), each of its pixels as a square of k × k.
    eps: (b, c, h / k, w / k); alpha_r, sigma_r: (b,)."""
    ### BEGIN SOLUTION
    y = torch.nn.functional.avg_pool2d(x, k)
    alpha_r, sigma_r = alpha_r.reshape(-1, 1, 1, 1), sigma_r.reshape(-1, 1, 1, 1)
    y_r = alpha_r * y + sigma_r * eps
    return y_r.repeat_interleave(k, -1).repeat_interleave(k, -2)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.nn.functional.avg_pool2d(x, k)` takes the means; `.repeat_interleave(k, -1)` repeats columns, `-2` rows.
# </details>

# %% tags=["check"]
check("16.shown", shown)

# %% [markdown]
# Two networks come with the course, alike in all but this: `mnist-upscaler` was shown small digits at times $r$ up to 300 (of
# 1,000), `mnist-upscaler-clean` clean ones only. To see what they do with errors, let the first network make some: called
# twice in place of ten times, it draws pale small digits, such as no real one is. *Move $r$, and try both. Which network minds the
# pale ones? And what of the small digit does the large one still follow at the largest $r$?*

# %%
ten = torch.arange(10)
smalls = {calls: drawn_small(ten, calls, seed=3) for calls in (2, 10)}


def by_augmentation(r: int, calls: int) -> dict[str, Tensor]:
    """Ten small digits, and the cascade without and with augmentation."""
    first = smalls[calls]
    return {
        "small": enlarge(first, 4).cpu(),
        "clean only": made_large(first, ten, clean, seed=5),
        f"r = {r}": made_large(first, ten, upscaler, r=r, seed=5),
    }


# %% tags=["widget", "fold"]
# @title A cascade by r
def cascade_rows(r: int, calls: int) -> plt.Figure:
    """Three rows of ten."""
    rows = by_augmentation(r, calls)
    return image_grid(
        torch.cat(list(rows.values())), columns=10, row_labels=list(rows), size=0.7
    )


explore(
    cascade_rows,
    alt="Ten small digits; large ones by the network that knows clean ones only; and "
    "by the one that is shown them with noise of the time r.",
    r=slider("r", 0, 300, 25, 25),
    calls=choice("calls of the first network", {"two": 2, "ten": 10}),
)

# %% tags=["figure", "fold"]
# @title Pale small digits: clean only, and four levels of augmentation
rows = by_augmentation(0, 2)
for r in (50, 150, 300):
    rows[f"r = {r}"] = made_large(smalls[2], ten, upscaler, r=r, seed=5)
show(
    image_grid(
        torch.cat(list(rows.values())), columns=10, row_labels=list(rows), size=0.7
    ),
    "Six rows of the digits 0 to 9: pale small ones; large ones by the network that "
    "knows clean ones only, with strokes too many, frayed or doubled; and by the other "
    "one at r = 0, 50, 150 and 300, with clean strokes, and bound to the small ones "
    "ever less.",
)
follows = {
    name: (downsample(x, 4) - smalls[2].cpu()).square().mean().sqrt().item()
    for name, x in rows.items()
    if name != "small"
}
for name, distance in follows.items():
    varies(f"{name:10} made small again: {distance:.3f} from what was drawn (rms)")
assert follows["clean only"] < follows["r = 0"] < follows["r = 300"]

# %% [markdown]
# *The network of clean pictures takes every square at its word: it frays strokes and adds others until the means fit. The other one has learned
# that what it is shown may be wrong, and draws digits.* The larger $r$, the less it is bound.
#
# Which is better, and is either better than *one* network that draws 784 pixels from noise? That comparison is fair only at equal cost. So
# each of these was trained for 12 · 10¹² floating-point operations, counted as in lesson 06, backward as twice forward, all
# networks of a way together: little, a laptop can do it. (`mnist-pixels` is the one network. Codes come in the
# next section.) `course bench scale` measures and stores it.

# %% tags=["fold"]
# @title The stored table
stored = load_scale()


def called(row) -> str:
    """What a row of the table is about."""
    if "cascade" not in row.way:
        return row.way
    return f"{row.way}, r = {row.r}, first called {row.base_calls} times"


for n in sorted({row.n for row in stored}):
    mine = sorted((row for row in stored if row.n == n), key=lambda row: row.fid)
    print(f"n = {n:,}, {mine[0].calls} DDIM steps, real digits {mine[0].floor:.4f}")
    for row in mine:
        print(
            f"  {called(row):45} FID {row.fid:.3f} [{row.low:.3f}, {row.high:.3f}], "
            f"class {row.agreement:.1%}, {row.sample_flops / 1e6:,.0f} MFLOP a sample"
        )
costs = {row.way: row.training_flops / 1e12 for row in stored}
print("training, in 10¹²:", {way: round(cost, 1) for way, cost in costs.items()})
assert max(costs.values()) < 1.05 * min(costs.values())

# %% tags=["figure", "fold"]
# @title FID at equal training cost
few = [row for row in stored if row.n == 2000]
few.sort(key=lambda row: (-len(row.way), row.base_calls, row.r))
figure, axis = plt.subplots(figsize=(8, 3.6))
hues = {"one network": BLACK, "cascade, clean": ORANGE, "codes": GREEN}
for i, row in enumerate(few):
    ends = [[row.fid - row.low], [row.high - row.fid]]
    axis.errorbar(row.fid, -i, xerr=ends, fmt="o", color=hues.get(row.way, BLUE))
axis.axvline(few[0].floor, color=BLACK, ls=":", lw=1)
axis.set_yticks([-i for i in range(len(few))], map(called, few), fontsize=8)
axis.set(xscale="log", xlabel="FID, n = 2,000, 95 % interval; dotted: real digits")
ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1]
axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
axis.minorticks_off()
show(
    figure,
    "A row for each way, its FID as a point with an interval on a logarithmic axis: "
    "one network above 0.5, codes below 0.3, cascades near 0.1 for small r and worse "
    "for large; the cascade of clean pictures is above 1 where the first network is "
    "called twice.",
)
by_plan = {(row.way, row.r, row.base_calls): row for row in few}
assert by_plan["cascade", 0, 10].high < by_plan["one network", 0, 10].low
assert by_plan["cascade", 0, 2].high < by_plan["cascade, clean", 0, 2].low

# %% [markdown]
# *At equal cost the cascade with little noise is far ahead*: its interval lies well below that of the one network, and a sample costs a quarter
# more (with two calls of the first network, the same). As we read it, most of what must be decided about a digit is decided on 49 pixels, where
# training is cheap. And **the noise in training decides**, once the first
# network makes errors: called twice, the cascade of clean pictures is worse than the one network, the other one as good as before. At
# *sampling* a little noise does no harm and, here, no good: the network has learned what to believe. Much noise throws away what the first
# network knew. In the paper's cascades, of large pictures, noise in sampling pays as well; $r$ is one number, and cheap to try.
#
# Three remarks. The intervals are for other noises, *one* training of each. That two calls do no worse than ten, and for $r$ of 50 and
# 100 better, does not make pale small digits good ones: they are typical ones, easily named (see the column "class"), and what that costs in
# variety this table does not show (lesson 15 measures recall). And these are short trainings. Whether
# the order holds at a hundred times the cost, this table cannot say.
#
# ## 3 · Codes in place of pixels
#
# A small picture is one summary of a large one, and a fixed one: means of squares. Let a network find a better summary. An
# *autoencoder* makes of a picture a code $z$ and of the code a picture $\hat x(z)$. Ours writes 784 pixels as $4 \times 7 \times 7 = 196$
# numbers. But how much can 196 real numbers tell? As much as you like, in their digits. So the code is given noise of its own: the
# encoder says a mean and a variance for each number, and what is told can be counted, in nats (Kingma & Welling, 2014):
#
# $$\text{rate } R = \mathbb E\,\mathrm{KL}\bigl(q(z \mid x)\,\|\,\mathcal N(0, I)\bigr), \qquad
# \text{distortion } D = \mathbb E\,|x - \hat x(z)|^2. \tag{16.7}$$
#
# It is trained on $D/(2\tau) + R$: a nat is worth spending if it saves $2\tau$ of squared error. What is the best anybody can do? For
# Gaussian data with variances $\lambda_i$ along its axes it is known: spend nothing on an axis with
# $\lambda_i \le \tau$, and bring every other down to an error of $\tau$ (reverse water-filling; Cover & Thomas, section 10.3):
#
# $$R = \sum_i \max\Bigl(0, \tfrac12 \log\frac{\lambda_i}{\tau}\Bigr), \qquad D = \sum_i \min(\lambda_i, \tau). \tag{16.8}$$
#
# ### Exercise 3 · Water-filling
# *10 minutes · medium · Eq. (16.8).* The two numbers, in this order.


# %% tags=["exercise"] exercise="16.waterfill" points=2
# Exercise 16.waterfill
def waterfill(variances: Tensor, tau: float) -> Tensor:
    """(R, D), a tensor of two numbers. variances: (d,), all above 0."""
    ### BEGIN SOLUTION
    rate = ((variances / tau).log() / 2).clamp(min=0).sum()
    return torch.stack([rate, variances.clamp(max=tau).sum()])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `.clamp(min=0)` keeps what is positive, `.clamp(max=tau)` is the minimum with tau. Then sums.
# </details>

# %% tags=["check"]
check("16.waterfill", waterfill)

# %% [markdown]
# An autoencoder reaches that. On one axis of variance $\lambda$, let $z = ax + \sqrt v\,\epsilon$ and $\hat x = bz$. Put the two derivatives
# after $a$ and $v$ to zero, then that after $b$, and find $b^2 = \lambda - \tau$, $a = b/\lambda$, $v = \tau/\lambda$: a
# code of variance $a^2\lambda + v = 1$, an error of exactly $\tau$, and a rate of $\frac12\log(\lambda/\tau)$. In numbers,
# with PyTorch to take the derivatives:

# %%
# Eqs. (16.7) and (16.8)
variances, tau = torch.tensor([3.0, 1.0, 0.4, 0.2]).double(), 0.1
b = (variances - tau).sqrt()
a, v = b / variances, tau / variances
best = torch.stack([a, v, b]).requires_grad_()


def rate_of(a: Tensor, v: Tensor) -> Tensor:
    """R of (16.7) on axes of these variances."""
    return ((a**2 * variances + v - 1 - v.log()) / 2).sum()


def distortion_of(a: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """D of (16.7)."""
    return ((1 - a * b) ** 2 * variances + b**2 * v).sum()


loss = distortion_of(*best) / (2 * tau) + rate_of(*best[:2])
(slope,) = torch.autograd.grad(loss, best)
assert slope.abs().max() < 1e-12
filled = gaussian_rate(variances, tau)
print(
    f"rate {rate_of(a, v):.4f}, by (16.8) {filled.rate:.4f}; "
    f"distortion {distortion_of(a, v, b):.4f}, by (16.8) {filled.distortion:.4f}"
)
assert abs(rate_of(a, v) - filled.rate) < 1e-12

# %% [markdown]
# Digits are no Gaussian. A code that is not linear may use that. `mnist-autoencoder` (130,000 weights, trained with $\tau = 0.005$) on
# a thousand digits that it has not seen, beside (16.8) for a Gaussian of the digits' own covariance:

# %%
coder = load_network("mnist-autoencoder", lesson.device)
some = tests[torch.randperm(10_000, generator=lesson.generator)[:1000]]
measured = rate_and_distortion(coder, some, lesson.generator)
flat = normalize(load_images("mnist", n=10_000)[0]).flatten(1).double()
axes_of_digits = torch.linalg.eigvalsh(torch.cov(flat.T)).clamp(min=0)
curve = [gaussian_rate(axes_of_digits, 10 ** (-i / 8)) for i in range(4, 24)]
level = 0.02
equal = gaussian_rate(axes_of_digits, level)
varies(f"told {measured.rate:.0f} nats, squared error left {measured.distortion:.1f}")
varies(f"a Gaussian: {equal.rate:.0f} nats, {equal.distortion:.1f}")

# %% tags=["figure", "fold"]
# @title What is told, and what is left out
figure, axis = plt.subplots(figsize=(5.5, 2.9))
axis.plot(
    [point.rate for point in curve],
    [point.distortion for point in curve],
    color=BLUE,
    label="a Gaussian, at best",
)
axis.plot(measured.rate, measured.distortion, "o", color=ORANGE, label="our codes")
axis.set(xlabel="rate, nats a digit", ylabel="distortion", yscale="log", xlim=(0, 700))
axis.legend()
show(
    figure,
    "The curve of a Gaussian falls with the rate. The point of the autoencoder, near "
    "three hundred nats, lies below it.",
)
between = min(curve, key=lambda point: abs(point.rate - measured.rate))
assert measured.distortion < between.distortion

# %% [markdown]
# *Below the curve: at the same rate over a quarter less error than the best code of a Gaussian.* That is no contradiction: of all data with
# one covariance, Gaussian ones are the hardest to tell. Before anything is drawn, one check
# that is often forgotten: real → code → real. What is lost in this row no sampler brings back.

# %%
with torch.no_grad():
    back = coder.decode(coder.encode(originals.to(lesson.device), lesson.generator))
back = back.cpu()

# %% tags=["figure", "fold"]
# @title Real digits, and their codes decoded
show(
    image_grid(
        torch.cat([originals, back]),
        columns=8,
        row_labels=["real", "decoded"],
        size=0.75,
    ),
    "Two rows of eight digits, real ones and decoded ones, hardly to be told apart.",
)

# %% [markdown]
# **The scale.** A schedule's noise has variance 1 at the end, and a log-SNR of 0 means "as much picture as noise" only if the data have
# about variance 1 as well. A code's unit is the autoencoder's own affair: those of Stable Diffusion have a deviation of 5.5, ours 0.87.
# Used as they are, codes five times too large shift the schedule by $2 \log 5$, as (16.2) does. So codes are divided by their deviation, taken
# **once, over the whole training set, and kept with the network**; and multiplied back before decoding.
#
# ### Exercise 4 · One mean, one deviation
# *10 minutes · easy.* The codes come in batches, not all of one length. What is wanted are mean and deviation of *all* numbers,
# dividing by how many there are.


# %% tags=["exercise"] exercise="16.moments" points=1
# Exercise 16.moments
def moments(batches: list) -> Tensor:
    """(mean, deviation), a tensor of two numbers. batches: tensors (b, c, h, w)."""
    ### BEGIN SOLUTION
    n = sum(z.numel() for z in batches)
    mean = sum(z.sum() for z in batches) / n
    square = sum((z - mean).square().sum() for z in batches) / n
    return torch.stack([mean, square.sqrt()])
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Sums over all batches first, a division by how many numbers there are in all last. Or put the batches into one: `torch.cat(batches)`.
# </details>

# %% tags=["check"]
check("16.moments", moments)

# %% [markdown]
# **Letters in place of numbers.** Some autoencoders use a *codebook*: $K$ vectors, and each place of the code is replaced by the nearest one (van
# den Oord and others, 2017). The rate is then at most $\log K$ nats a place, and nothing has to be said about noise. But the choice of
# the nearest has no derivative. The *straight-through* trick: forwards the chosen vector $e$, backwards as if nothing
# had been done,
#
# $$z_q = z + \mathrm{sg}(e - z), \qquad \mathrm{sg}: \text{no gradient}. \tag{16.9}$$
#
# ### Exercise 5 · The nearest letter
# *10 minutes · medium · Eq. (16.9).*


# %% tags=["exercise"] exercise="16.quantise" points=2
# Exercise 16.quantise
def quantise(z: Tensor, codebook: Tensor) -> Tensor:
    """Each row of z, (n, d), replaced by the nearest of the rows of codebook, (K, d);
    gradients go to z as if it were returned."""
    ### BEGIN SOLUTION
    nearest = codebook[torch.cdist(z, codebook).argmin(1)]
    return z + (nearest - z).detach()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.cdist(z, codebook)` has all distances, (n, K); `.argmin(1)` says which is the nearest of each row.
# </details>

# %% tags=["check"]
check("16.quantise", quantise)

# %% [markdown]
# ### Diffusion on codes
#
# `mnist-latent` is the U-Net once more, on four channels of 7 × 7. It does not know that its pictures are codes. Draw, multiply
# back, decode:

# %%
by_codes = functools.partial(sample_codes, coder.decode, (4, 7, 7))
eight = by_codes(
    latent,
    noise(8, 1, 28, 28),
    schedule,
    ten_steps,
    generator=torch.Generator().manual_seed(0),
    label=wish.to(lesson.device),
).cpu()
pixels = load_denoiser("mnist-pixels", lesson.device)
at_once = samplers.sample_ddim(
    pixels,
    noise(8, 1, 28, 28, seed=1),
    schedule,
    ten_steps,
    label=wish.to(lesson.device),
).cpu()

# %% tags=["figure", "fold"]
# @title Three ways at equal training cost
show(
    image_grid(
        torch.cat([at_once, large, eight]),
        columns=8,
        row_labels=["one network", "cascade", "codes"],
        size=0.8,
    ),
    "Three rows of the digits 0 to 7, by one network on pixels, by the cascade, and by "
    "way of codes.",
)

# %% [markdown]
# In the table above codes lie between the two: better than the one network at the same cost, the training of the autoencoder included, and at
# half the cost a sample. The larger the picture, the more this saves. At 784 pixels there is little to leave out.
#
# **A walk.** From a 3 to a 5, two ways: their pixels faded into each other, and the straight line between their codes,
# decoded. And from a 3 to another 3: the arc of lesson 14 between two noises, each drawn and decoded. It never leaves
# the shell in which noises lie, for which the network was trained.

# %%
first, second = originals[3:4].to(lesson.device), originals[5:6].to(lesson.device)
with torch.no_grad():
    p, q = coder.encode(first), coder.encode(second)
    steps = torch.linspace(0, 1, 8, device=lesson.device).reshape(-1, 1, 1, 1)
    faded = (1 - steps) * first + steps * second
    line = coder.decode((1 - steps) * p + steps * q)
u, w = noise(2, 4, 7, 7, seed=8).split(1)
angle = torch.arccos((u * w).sum() / (u.norm() * w.norm()))
arc = (((1 - steps) * angle).sin() * u + (steps * angle).sin() * w) / angle.sin()
threes = torch.full((8,), 3, device=lesson.device)
with torch.no_grad():
    walked = coder.decode(
        samplers.sample_ddim(latent, arc, schedule, ten_steps, label=threes)
    )

# %% tags=["figure", "fold"]
# @title Three walks
show(
    image_grid(
        torch.cat([faded, line, walked]).cpu(),
        columns=8,
        row_labels=["pixels", "codes", "noises"],
        size=0.75,
    ),
    "Three rows of eight pictures. Pixels fade, two digits on top of each other; the "
    "line between codes fades as well, with less of one digit behind the other; along "
    "the arc of noises one three turns into another, and all are threes or nearly.",
)

# %% [markdown]
# *The line between codes is a fade, too, only a cleaner one: half-way there is no digit of its own.* A good code need not be a map on which digits
# lie side by side; it is a shorter way to write. What digits there are is left to the diffusion.
#
# ## 4 · When it only remembers
#
# Which denoiser has the least training loss of all? Lesson 05 has the answer: the exact denoiser of the training
# pictures, `IdealDenoiser`. And all that it can draw are those pictures. **So a network that draws new ones has failed to
# minimise its loss**, luckily, and whatever keeps it from doing so regularises: its size, an early end, an
# average of weights, dropout, a decay of weights, pictures moved a little.
#
# To see it one needs a test for copies. The distance $d_1$ to the nearest training picture alone will not do, since a simple
# picture, such as a one, is near to many. A copy is near to *one*, so compare with the second nearest (Yoon and others, 2023):
#
# $$\text{copy} \iff d_1 < \tfrac13\,d_2. \tag{16.10}$$
#
# ### Exercise 6 · Copies
# *10 minutes · medium · Eq. (16.10).* For each picture, whether it is a copy; Euclidean distances over all pixels.


# %% tags=["exercise"] exercise="16.copies" points=2
# Exercise 16.copies
def copies(x: Tensor, train: Tensor, ratio: float) -> Tensor:
    """(n,) of True and False: d_1 < ratio · d_2. x: (n, …), train: (m, …), m >= 2."""
    ### BEGIN SOLUTION
    distance = torch.cdist(x.flatten(1), train.flatten(1))
    first, second = distance.topk(2, largest=False).values.unbind(1)
    return first < ratio * second
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `distance.topk(2, largest=False).values` has the two smallest of each row, the smaller first.
# </details>

# %% tags=["check"]
check("16.copies", copies)

# %% [markdown]
# How often is the test wrong? Ask it about real digits that nobody trained on. From here on digits are 14 × 14 (means of 2 × 2
# pixels), so that trainings fit into seconds.

# %%
unseen, _ = unseen_digits(2000)
for n in (50, 1000, 10_000):
    alarms = ratio_test(unseen, small_digits(n, 0)[0])
    print(f"among {n:6,} digits {alarms.value:.2%} of 2,000 unseen ones are 'copies'")
    assert alarms.value < 0.01

# %% [markdown]
# Hardly ever. Now train: twenty digits, and a network with twenty thousand weights for each of them. It is the U-Net of this
# course, small, with the loss of every other lesson.

# %%
few_digits, few_labels = small_digits(20, lesson.seed)
story = []
for step, run in train_on(few_digits, few_labels, at=(50, 150, 300, 500), ema=0.98):
    net = run.averaged()
    x_T = noise(100, 1, 14, 14, seed=7)
    label = torch.arange(100) % 10
    with torch.no_grad():
        x = samplers.sample_ddim(
            net, x_T, schedule, ten_steps, label=label.to(lesson.device)
        ).cpu()
    story.append((step, x, ratio_test(x, few_digits)))
for step, _, found in story:
    varies(f"after {step:3} steps: share of copies {found}, of 100")

# %% tags=["figure", "fold"]
# @title Ten samples on the way, and the training digits nearest to the last
last = story[-1][1][:10]
nearest = torch.cdist(last.flatten(1), few_digits.flatten(1)).argmin(1)
show(
    image_grid(
        torch.cat([*(x[:10] for _, x, _ in story), few_digits[nearest]]),
        columns=10,
        row_labels=[*(f"step {step}" for step, _, _ in story), "in training"],
        size=0.65,
    ),
    "Five rows of ten small digits: first blots, then rough digits, then cleaner ones; "
    "the last row, the nearest training digits, nearly repeats the row above it.",
)
assert story[0][2].value < 0.1
assert story[-1][2].value > story[0][2].value + 0.2

# %% [markdown]
# *They become digits, and ever more of the digits are known.* How does it go on with more of them? `course bench memory`
# trains the same network
# on more digits, and with regularisers, three seeds each, and stores what it finds: copies among 300 samples, the loss on training digits, and
# on unseen ones at the same times with the same noises.

# %% tags=["fold"]
# @title Reading the stored sweep
sweep = [row for row in load_memory() if row.average]
plain = [row for row in sweep if row.regulariser == "none"]
SIZES = sorted({row.n for row in plain})


def by_step(rows: list, what) -> tuple[list, list, list, list]:
    """Steps, and over seeds the mean, least and largest of a figure of the rows."""
    at = sorted({row.steps for row in rows})
    values = [[what(row) for row in rows if row.steps == step] for step in at]
    mean = [sum(some) / len(some) for some in values]
    return at, mean, [min(some) for some in values], [max(some) for some in values]


def line_of(axis, rows: list, what, label: str, colour: str, scale: float = 1) -> None:
    """The mean over seeds as a line, and what lies between the extremes as a band."""
    at, mean, low, high = by_step(rows, what)
    at = [step / scale for step in at]
    axis.plot(at, mean, "o-", ms=3, color=colour, label=label)
    axis.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)


def in_steps(axis) -> None:
    """Steps on a logarithmic axis, with the numbers that were measured."""
    axis.set(xscale="log", xlabel="steps")
    at = [250, 500, 1000, 2000, 4000, 8000, 16_000]
    axis.set_xticks(at, [f"{step:,}" for step in at], fontsize=7)
    axis.minorticks_off()
    axis.set_xlim(200, 1.2 * max(row.steps for row in sweep))


def copied_share(row) -> float:
    return row.copies / row.samples


# %% tags=["figure", "fold"]
# @title Copies against steps, by the number of training digits
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3))
for n, colour in zip(SIZES, COLOURS, strict=False):
    mine = [row for row in plain if row.n == n]
    line_of(axes[0], mine, copied_share, f"{n:,} digits", colour)
    line_of(axes[1], mine, copied_share, f"{n:,} digits", colour, scale=n)
    line_of(axes[2], mine, lambda row: row.train_loss, "", colour)
    at, mean, _, _ = by_step(mine, lambda row: row.unseen_loss)
    axes[2].plot(at, mean, "--", color=colour)
axes[0].set(ylabel="share of copies")
axes[1].set(xscale="log", xlabel="steps / training digits")
visits = [1, 2, 5, 10, 20, 40, 80]
axes[1].set_xticks(visits, map(str, visits), fontsize=7)
axes[1].minorticks_off()
axes[2].set(ylabel="loss; dashed: unseen")
axes[0].legend(fontsize=7)
in_steps(axes[0])
in_steps(axes[2])
show(
    figure,
    "Three panels. Copies against steps: with few digits they come early, with more "
    "later, with two hundred not yet. Against steps per digit the curves lie nearer to "
    "each other. The training losses fall throughout; those on unseen digits turn and "
    "rise, the sooner the fewer digits are trained on.",
)

# %% [markdown]
# *Copies come with time, and the later the more digits there are.* Counted in steps a digit (in the middle) the curves move nearer together: the
# onset grows about like the number of digits, here rather faster. Bonnaire and others (2025) find this law on faces, and derive it for a simpler
# model; it is more, they find, than a matter of how often each picture was seen. When samples become *good*, they find, does not depend on the
# number, and so the time in between, in which to stop, is the longer the larger the training set. That second half our small
# table does not show: here it also takes longer, with more digits, until samples are seen as what was asked for.
#
# On the right is what would have told you: the training loss falls to the end in every run. On unseen digits it turns: for
# a hundred and for two hundred *before* there are copies, for fifty so early that our looks are too far apart to tell. When a tenth of the samples are copies, and what regularisers do about it:

# %% tags=["fold"]
# @title When a tenth of the samples are copies
TENTH = 0.1


def onset(rows: list) -> float:
    """The step at which a tenth are copies, on a line between two in log(step)."""
    rows = sorted(rows, key=lambda row: row.steps)
    for one, two in itertools.pairwise(rows):
        low, high = copied_share(one), copied_share(two)
        if low < TENTH <= high:
            part = (TENTH - low) / (high - low)
            return one.steps * (two.steps / one.steps) ** part
    return math.inf


onsets: dict = {}
for n, name in sorted({(row.n, row.regulariser) for row in sweep}):
    for seed in sorted({row.seed for row in sweep}):
        mine = [r for r in sweep if (r.n, r.regulariser, r.seed) == (n, name, seed)]
        if mine:
            onsets.setdefault((n, name), []).append(onset(mine))
for (n, name), found in onsets.items():
    last_step = max(r.steps for r in sweep if (r.n, r.regulariser) == (n, name))
    words = ", ".join(
        f"{s:,.0f}" if s < math.inf else f"> {last_step:,}" for s in found
    )
    print(f"{n:6,} digits, {name:17} a tenth are copies at step {words}")


# %% tags=["fold"]
# @title After a thousand steps; and the average beside the last weights
def over_seeds(rows: list, what) -> str:
    """Mean, least and largest of a figure over seeds."""
    values = [what(row) for row in rows]
    return f"{sum(values) / len(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


for n, name in onsets:
    mine = [r for r in sweep if (r.n, r.regulariser, r.steps) == (n, name, 1000)]
    print(
        f"{n:6,} digits, {name:17} copies {over_seeds(mine, copied_share)}, "
        f"unseen loss {over_seeds(mine, lambda row: row.unseen_loss)}, as asked for "
        f"{over_seeds(mine, lambda row: row.agreement)}"
    )
lasts = [row for row in load_memory() if not row.average and row.regulariser == "none"]
for n in SIZES:
    mine = [row for row in lasts if row.n == n]
    twins = [r for r in plain if (r.n, r.steps) == (n, mine[0].steps)]
    print(
        f"{n:6,} digits, {mine[0].steps:,} steps: copies, average "
        f"{over_seeds(twins, copied_share)}, last {over_seeds(mine, copied_share)}"
    )
alarms = {n: max(row.false_alarms for row in plain if row.n == n) for n in SIZES}
print("false alarms among 300 unseen digits, by n, at most:", alarms)

# %% tags=["figure", "fold"]
# @title What delays it
ways = sorted({row.regulariser for row in sweep} - {"none"})
n_ways = min(row.n for row in sweep if row.regulariser in ways or not ways)
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
for name, colour in zip(["none", *ways], (BLACK, *COLOURS), strict=False):
    mine = [row for row in sweep if (row.n, row.regulariser) == (n_ways, name)]
    line_of(axes[0], mine, copied_share, name, colour)
    line_of(axes[1], mine, lambda row: row.unseen_loss, name, colour)
axes[0].set(ylabel="share of copies")
axes[1].set(ylabel="loss on unseen digits")
axes[0].legend(fontsize=7)
axes[0].set_title(f"{n_ways} digits", fontsize=9)
for axis in axes:
    in_steps(axis)
show(
    figure,
    "Two panels against steps, a line for each regulariser. Copies pass a half without "
    "one, and with weight decay alike; with dropout they come late; with shifts not at "
    "all. The loss on unseen digits rises in the same order, and with shifts it falls.",
)

# %% [markdown]
# *Dropout delays it; shifts by one pixel, in as many steps, leave no copy at all*: they make nine digits of each, and the test looked among the
# moves. This much decay of the weights hardly matters. The loss on unseen digits puts them in the same order. Nothing is free: look at the shares that are seen as the
# digit asked for. With shifts the network has more to learn, and needs more steps for it. An average of the weights is no
# regulariser of this kind: average and last weights copy alike.
#
# Small print: 300 samples a point, three trainings, one network, at most 2,000 steps, with a regulariser 1,000. Whether dropout prevents copies or
# only puts them off, runs of this length cannot say; `course bench memory` goes on where it was stopped, up to 60,000 digits and 16,000
# steps.
#
# ## 5 · What usually goes wrong
#
# **(a) A cascade trained on clean pictures only.** You saw it in section 2.
#
# **(b) The scale left out, or not undone.** A code's unit is arbitrary: write our autoencoder's codes five times as large, and let its decoder
# divide by five. It is the same autoencoder. Whoever standardises notices nothing. Whoever forgets to multiply back gives the
# decoder codes that are five times too small:


# %%
def named(x: Tensor, label: Tensor) -> float:
    """The share that the classifier sees as the digit asked for."""
    return (look_at(classifier, denormalize(x.cpu()))[1] == label).float().mean().item()


classifier = load_classifier("mnist", lesson.device)
fifty = torch.arange(50) % 10
z = samplers.sample_ddim(
    latent,
    noise(50, 4, 7, 7, seed=4),
    schedule,
    ten_steps,
    label=fifty.to(lesson.device),
)
unit = 5.0
with torch.no_grad():
    in_units = unit * (z * coder.std + coder.mean)  # multiplied back, in its unit
    undone = coder.decoder(in_units / unit)
    forgotten = coder.decoder(z / unit)
    doubled = coder.decoder(unit * z)  # undone the wrong way round
for name, x in (("forgotten", forgotten), ("the wrong way round", doubled)):
    off = (x - undone).square().mean().sqrt() / undone.std()
    varies(
        f"{name}: {named(x, fifty):.0%} seen as asked for, off by {off:.0%} of contrast"
    )
    assert off > 0.2
varies(f"multiplied back: {named(undone, fifty):.0%} seen as asked for")

# %% tags=["figure", "fold"]
# @title Decoded in the right unit and in wrong ones
show(
    image_grid(
        torch.cat([x[:10] for x in (undone, forgotten, doubled)]).cpu(),
        columns=10,
        row_labels=["right", "too small", "too large"],
        size=0.7,
    ),
    "Three rows of ten digits: as they should be; thin and grey, as codes five times "
    "too small are decoded; and fat on a grey ground, of codes five times too large.",
)

# %% [markdown]
# **(c) Statistics of one batch.** With batches drawn at random it is a matter of luck, here of little: a code has 196 numbers. A batch that is sorted, by
# class or by when it was recorded, has another deviation. Over the whole training set it is one number, and nobody has to ask:

# %%
some_images, some_names = load_images("mnist", n=5000)
with torch.no_grad():
    whole = coder.encode(normalize(some_images).to(lesson.device), lesson.generator)
whole = whole.cpu()
batches = [whole[64 * i : 64 * i + 64].std().item() for i in range(70)]
ones = whole[some_names == 1][:64].std().item()
varies(
    f"deviation of 5,000 codes {whole.std():.3f}, of batches of 64 "
    f"{min(batches):.3f} … {max(batches):.3f}, of 64 ones {ones:.3f}"
)
assert abs(ones - whole.std()) > max(abs(s - whole.std().item()) for s in batches)

# %% [markdown]
# **(d) Flips and shifts that leak.** Pictures moved at random are a good regulariser, until a network that has learned them by heart draws moved
# training digits: a test that only knows them in their place finds few. Perfect copies, each moved by one of nine moves
# (one of which is none), or mirrored by the toss of a coin, and the test with and without knowing it:

# %%
train_digits, _ = small_digits(1000, 0)
by = MOVES[torch.arange(300) % 9]
moved = shifted(train_digits[:300], by)
blind, seeing = (
    ratio_test(moved, train_digits),
    ratio_test(moved, train_digits, moves=MOVES),
)
flipped = random_flip(train_digits[:300], lesson.generator)
mirrored = torch.minimum(
    *(two_nearest(x, train_digits)[:, 0] for x in (flipped, flipped.flip(-1)))
)
print(f"moved copies found: {blind.value:.0%}; looking among moves: {seeing.value:.0%}")
varies(
    f"mirrored copies found: {ratio_test(flipped, train_digits).value:.0%}; looking "
    f"both ways: {(mirrored < 1e-4).float().mean():.0%}"
)
assert blind.value < 0.5 < 0.95 < seeing.value

# %% [markdown]
# The wrong repair would be to put moved digits into the training set of the *test*: then a copy's second nearest is the same digit, moved
# otherwise, and the ratio says "new". (And mirrored digits are no digits. What a flip adds to the training set the
# network will draw.)
#
# **(e) "The loss still falls, so it still learns."** It fell to the end on fifty digits. What it learned were the fifty.
#
# ## In your own words
#
# A colleague trains on 3,000 medical images for three days. "The training loss fell to the last hour; FID against the training set is
# the best ever, 1.2; and we mirror and shift all images, so it cannot have memorised them." Say for each of the three what it does
# not show, and what you would measure.

# %% [markdown] tags=["manual"] question="16.own_words" points=3
# ### BEGIN SOLUTION
# The training loss has its minimum where the network only remembers, so its fall shows nothing; I would measure the loss on images held
# out, at the same noise levels, and stop where it turns. FID against the training set is best for a copier of it; I would take held-out
# images as the reference, and count copies by the ratio of the two nearest distances, with the false alarms of the same test on unseen real
# images. Mirroring and shifting delay it at most: a network can learn mirrored and shifted copies, and a test that looks only for images in
# place misses them; the test must look among the moves, and take the second nearest of another image. All with n, seeds and intervals.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: a falling training loss does not tell learning from remembering; held-out loss. One point: FID against the training set
# rewards copies; a test for copies with its false alarms (or a held-out reference). One point: augmented images can be copied, augmented; look among the moves.

# %% [markdown]
# ## Summary
#
# * A picture made small has $2 \log k$ more log-SNR, (16.2). Schedules shift with the side, (16.3).
# * $p(x) = p(y)\,p(x \mid y)$, (16.4). The second network must be trained for what it will be shown: noise on the small
#   picture, told, makes what the first network draws and real ones more alike, (16.6), and costs what it hides.
# * A code has a rate and a distortion, (16.7); for a Gaussian, water-filling is the best, (16.8). Divide codes by the whole training set's
#   deviation, and multiply back.
# * Compare at equal *training* cost, all networks of a way together, and say what a sample costs.
# * The least training loss belongs to the one that only remembers. Look at the loss on unseen pictures, and count copies by
#   (16.10), with the false alarms of the test beside it.

# %%
progress("16")

# %% [markdown]
# ## References
#
# * Hoogeboom, Heek, Salimans: *Simple Diffusion*, 2023. Our (16.3) is their shifted schedule (section 3.1). Chen: *On the Importance
#   of Noise Scheduling for Diffusion Models*, 2023.
# * Ho, Saharia, Chan, Fleet, Norouzi, Salimans: *Cascaded Diffusion Models for High Fidelity Image Generation*, 2022. Our
#   section 2: FID 1.48, 3.52 and 4.88 on ImageNet at 64, 128 and 256, and the augmentation that decides.
# * Kingma, Welling: *Auto-Encoding Variational Bayes*, 2014. Our (16.7). Lucas, Tucker, Grosse, Norouzi: *Don't Blame the ELBO!*, 2019: the
#   linear case.
# * Cover, Thomas: *Elements of Information Theory*, 2006. Our (16.8), Theorem 10.3.3.
# * Rombach, Blattmann, Lorenz, Esser, Ommer: *High-Resolution Image Synthesis with Latent Diffusion Models*, 2022. Section 3; the scale in
#   their appendix G.
# * van den Oord, Vinyals, Kavukcuoglu: *Neural Discrete Representation Learning*, 2017. Our (16.9).
# * Yoon, Choi, Kwon, Ryu: *Diffusion Probabilistic Models Generalize when They Fail to Memorize*, 2023. Our (16.10).
# * Gu, Du, Pang, Li, Lin, Wang: *On Memorization in Diffusion Models*, 2023. Bonnaire, Urfin, Biroli, Mézard: *Why Diffusion Models Don't
#   Memorize*, 2025: the onset grows like $n$.
#
# **Next:** lesson 17 asks whether a picture needs convolutions.
