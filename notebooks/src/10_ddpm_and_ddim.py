# %% [markdown]
# # 10 · DDPM and DDIM
#
# *You will skip steps. First with noise, then without: derive the family of walks that one trained network serves,
# compute what each of them loses, choose the times to visit, and see what a walk without noise can do that no other
# can. About 80 minutes to read and run, 65 to solve its five exercises. A natural break comes after section 5.*

# %% tags=["fold"]
# @title Imports
import itertools
import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from course_utils import (
    forward,
    parameterizations,
    samplers,
    schedules,
    variational,
)
from course_utils.classifier import look_at
from course_utils.data import denormalize, load_images, normalize
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
from course_utils.pretrained import load_classifier, load_denoiser
from course_utils.runtime import varies
from course_utils.samplers import wrappers
from course_utils.toy import Gaussian, GaussianMixture
from course_utils.widgets import choice, explore

use_style()

# %% [markdown]
# ## The question
#
# A network has been trained for 1,000 levels of noise, and a walk that visits all of them asks it 1,000 times.

# %%
network = load_denoiser("mnist-unet", lesson.device)
network = network.to(memory_format=torch.channels_last)  # faster, the same numbers
schedule = network.schedule  # 1,000 noise levels


def denoise(x_t: Tensor, t: int, **cond: object) -> Tensor:
    """The shipped network, in the precision that this machine is fast in."""
    with torch.autocast(
        lesson.device.type, lesson.dtype, enabled=lesson.dtype != torch.float32
    ):
        return network(x_t, t, **cond)


# %% [markdown]
# Visit fewer levels, then: here are five noises, and from each of them six walks, with 10, 30 and 100 steps of equal
# length. The upper three are lesson 03's, which put noise back at every step. The lower three put none back; how they
# do that is the subject of this page.

# %%
start = torch.randn(5, 1, 28, 28, generator=lesson.generator).to(lesson.device)
kinds, first = {1.0: "noise put back", 0.0: "none put back"}, {}
for eta, n in itertools.product(kinds, (10, 30, 100)):
    grid = samplers.uniform_grid(schedule, n)
    noise = torch.Generator().manual_seed(lesson.seed + 1)
    first[eta, n] = samplers.sample_ddim(
        denoise, start, schedule, grid, eta=eta, generator=noise
    ).cpu()
moved = {
    eta: (first[eta, 30] - first[eta, 100]).square().mean().sqrt().item()
    for eta in kinds
}
for eta, change in moved.items():
    varies(f"{kinds[eta]}: from 30 steps to 100 a pixel changes by {change:.2f}")
assert moved[0.0] < moved[1.0] / 3

# %% tags=["figure", "fold"]
# @title Five noises, six walks
show(
    image_grid(
        torch.cat(list(first.values())),
        columns=5,
        row_labels=[f"{kinds[eta]}\n{n} steps" for eta, n in first],
        size=0.75,
    ),
    "Five digits by 10, 30 and 100 steps. With noise put back the three rows show "
    "different digits. Without it they show the same five digits, a little cleaner "
    "with more steps.",
)

# %% [markdown]
# Above, another number of steps gives other digits. Below, it gives **the same digits**, in a little more detail. It is one network, and nobody trained it for either of the two. **How can one
# network serve different walks, and which one should you take?** Commit to a guess: in only five steps, which of the
# two draws the better digits?

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice("", ["with noise put back", "without", "no difference"])
guess

# %% [markdown]
# ## 1 · Long jumps, with noise
#
# Lesson 03's step back already knows jumps: $q(x_s \mid x_t, x_0)$ in (3.4) holds for any $s < t$. So choose falling
# times $T = \tau_n > \dots > \tau_1 > \tau_0 = 0$, ask the network at each of them but the last, and draw from the
# posterior of the *whole jump* to the next:
#
# $$x_s = \tilde\mu(x_t, \hat x_0) + \tilde\sigma\,z, \qquad t = \tau_i,\quad s = \tau_{i-1}. \tag{10.1}$$
#
# This is *ancestral sampling*, `samplers.sample_ddpm`. Each jump is the exact posterior, however long, *if* $x_0$ is
# what the network says. It is not. The network gives the mean of all possible $x_0$, and a draw from a posterior around
# the mean has less spread than the truth, Eq. (3.5). What does that cost, in $n$ jumps?
#
# Take a world where it can be computed: data $\mathcal N(0, 1)$, where $\hat x_0 = \alpha_t x_t$ and the mean is
# $\tilde\mu = \alpha_{t|s}\,x_t$, (3.20). True walks have variance 1 at every time. Ours have $V_t$, and
# $M_t = 1 - V_t$ is missing. A jump makes $V_s = \alpha_{t|s}^2 V_t + \sigma_s^2\sigma_{t|s}^2/\sigma_t^2$, and with
# $1 = \alpha_{t|s}^2 + \sigma_{t|s}^2$
#
# $$M_s = \alpha_{t|s}^2\,M_t + \sigma_{t|s}^2\,\frac{\sigma_t^2 - \sigma_s^2}{\sigma_t^2}
# \qquad\Longrightarrow\qquad \bar\alpha_s M_s = \bar\alpha_t M_t + \frac{(\bar\alpha_s - \bar\alpha_t)^2}{1 - \bar\alpha_t},$$
#
# after multiplying by $\bar\alpha_s = \alpha_s^2$ and using
# $\bar\alpha_s\,\sigma_{t|s}^2 = \bar\alpha_s - \bar\alpha_t = \sigma_t^2 - \sigma_s^2$. What is missing adds up, from
# $M_T = 0$ to
#
# $$M_0 = \sum_{i=1}^{n} \frac{(\bar\alpha_s - \bar\alpha_t)^2}{1 - \bar\alpha_t}, \qquad t = \tau_i,\quad s = \tau_{i-1}. \tag{10.2}$$
#
# **Every jump costs the *square* of the signal it brings in, divided by the noise it starts from.** Cut a short jump in
# two, and each half costs about a quarter: twice the steps, half the loss. The last jump is never short in this sense.
# It starts from $\bar\alpha_t = 1 - \sigma_t^2$ and brings in all that is left, $1 - \bar\alpha_t = \sigma_t^2$; so it
# costs $\sigma_t^2$, the first power. (Section 5 asks where it should start.) Draw 20,000 walks and see.


# %%
# Eq. (10.2)
def missing_with_noise(times: list[int]) -> float:
    """What n jumps of ancestral sampling lose of the variance of N(0, 1)."""
    a = schedule.alpha_bar[times]
    return ((a[1:] - a[:-1]) ** 2 / (1 - a[:-1])).sum().item()


bell = Gaussian(torch.zeros(1).double(), 1.0)
many = torch.randn(20_000, 1, dtype=torch.float64, generator=lesson.generator)
for n in (5, 10, 50, 250, 1000):
    times = samplers.uniform_grid(schedule, n)
    lost, measured = missing_with_noise(times), ""
    if n <= 50:
        drawn = samplers.sample_ddpm(
            bell.denoiser(schedule), many, schedule, times, generator=lesson.generator
        )
        assert (
            abs(drawn.var().item() / (1 - lost) - 1) < 4 * (2 / 20_000) ** 0.5
        )  # four standard errors
        measured = f"   20,000 walks have {drawn.var():.3f}"
    print(f"{n:4} steps: {lost:6.1%} of the variance is missing{measured}")

# %% [markdown]
# Nine in a thousand are missing at full length (lesson 03 found that number), nearly half of everything in ten steps.
# Lesson 12 repairs this from the side of the variance. On this page we ask another question: must it be this walk at
# all?
#
# ## 2 · What training never fixed
#
# Look once more at what the network was trained on: a picture $x_0$, a time $t$, noise $\epsilon$, and
# $x_t = \alpha_t x_0 + \sigma_t\epsilon$. Never on two times of one walk. The loss knows each $q(x_t \mid x_0)$ by
# itself; **how $x_s$ and $x_t$ hang together it was never told.** So any process with these marginals has the same
# network for its best denoiser (Song, Meng, Ermon, 2021).
#
# Which processes are there? Let $x_s$ be made of the picture, of some of the noise that is in $x_t$, and of some new
# noise $z$:
#
# $$x_s = \alpha_s\,x_0 + k\,\epsilon_t + c\,z, \qquad \epsilon_t = \frac{x_t - \alpha_t x_0}{\sigma_t}. \tag{10.3}$$
#
# If $x_t$ has its marginal, then $\epsilon_t$ is standard normal, independent of $z$, and $x_s$ has mean $\alpha_s x_0$
# and variance $k^2 + c^2$. It should be $\sigma_s^2$:
#
# $$k = \sqrt{\sigma_s^2 - c^2}, \qquad 0 \le c \le \sigma_s. \tag{10.4}$$
#
# That is all. Begin with $x_T \sim q(x_T \mid x_0)$, go down any grid with any $c$ in that range, another one at each
# step if you like: $x_s$ inherits the right marginal from $x_t$, down to the end. Three choices, tried on a single
# pixel with $x_0 = 0.8$: all noise kept, lesson 03's posterior, all noise new. *Predict: what will the paths look like,
# and what their spread?*


# %%
# Eqs. (10.3) and (10.4)
def sigma_of(t: int) -> Tensor:
    """sigma_t alone."""
    return schedule.coeffs(t)[1]


choices = {
    "all noise kept, $c = 0$": lambda t, s: torch.zeros(()).double(),
    "the posterior of lesson 03": lambda t, s: (
        schedules.transition(s, t, schedule)[1].sqrt() * sigma_of(s) / sigma_of(t)
    ),
    r"all noise new, $c = \sigma_s$": lambda t, s: sigma_of(s),
}
chance = 4.5 / 4000**0.5  # 4.5 standard errors, for there are 150 comparisons
x_0, grid, paths = (
    torch.full((4000, 1), 0.8).double(),
    samplers.uniform_grid(schedule, 25),
    {},
)
for name, choose in choices.items():
    paths[name] = [
        forward.q_sample(x_0, 1000, schedule, forward.noise_like(x_0, lesson.generator))
    ]
    for t, s in itertools.pairwise(grid[:-1]):
        (alpha_s, sigma_s), c = schedule.coeffs(s), choose(t, s)
        eps = parameterizations.eps_from_x0(paths[name][-1], x_0, t, schedule)
        x = (
            alpha_s * x_0
            + (sigma_s**2 - c**2).sqrt() * eps
            + c * forward.noise_like(x_0, lesson.generator)
        )
        assert abs(x.mean() - alpha_s * 0.8) < chance * sigma_s
        assert abs(x.std() / sigma_s - 1) < chance / 2**0.5
        paths[name].append(x)

# %% [markdown]
# Five paths of each. The grey band is the mean of $q(x_t \mid x_0)$, give or take two standard deviations.

# %% tags=["figure", "fold"]
# @title Five paths of each process
figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.1), sharey=True)
alpha, sigma = schedule.coeffs(torch.tensor(grid[:-1]))
for axis, (name, path) in zip(axes, paths.items(), strict=True):
    axis.fill_between(
        grid[:-1],
        alpha * 0.8 - 2 * sigma,
        alpha * 0.8 + 2 * sigma,
        color=BLACK,
        alpha=0.08,
    )
    axis.plot(grid[:-1], torch.cat(path, 1)[:5].T, lw=0.8)
    axis.set(xlabel="t", title=name, xlim=(1000, 0))
axes[0].set_ylabel("$x_t$, given $x_0 = 0.8$")
show(
    figure,
    "Five paths of each process, from t = 1000 to 40. With all noise kept they are "
    "smooth curves; with the posterior they wander; with all noise new they jump "
    "about. All three fill the same grey band of two standard deviations.",
)

# %% [markdown]
# Smooth, wandering, wild; and at every single time the same distribution (the first cell asserted it at 24 times for
# each). A network trained on single times cannot tell them apart.
#
# ## 3 · One dial: eta
#
# Where in this family is lesson 03? Its posterior has $c^2 = \sigma_s^2\,\sigma_{t|s}^2/\sigma_t^2$, and (10.4) then
# gives $k^2 = \sigma_s^2(\sigma_t^2 - \sigma_{t|s}^2)/\sigma_t^2 = (\alpha_{t|s}\sigma_s^2/\sigma_t)^2$: so
# $k/\sigma_t$ is just the weight of $x_t$ in (3.4). It is that member, and the only one whose *forward* step forgets
# $x_0$, that is, which is a Markov chain. Put a dial on it:
#
# $$c = \eta\;\frac{\sigma_s}{\sigma_t}\,\sigma_{t|s}, \qquad\text{here}\quad
# c = \eta\,\sqrt{\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\left(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\right)}. \tag{10.5}$$
#
# $\eta = 1$ is ancestral sampling; $\eta = 0$ draws nothing on the way and is called DDIM, as is the family.
#
# ### Exercise 1 · How much noise is new
# *10 minutes · easy · Eq. (10.5).* For several jumps at once, from `t[i]` to `s[i]`, and any $\eta$ from 0 to 1. At $s = 0$
# nothing may be added.


# %% tags=["exercise"] exercise="10.sigma" points=1
# Exercise 10.sigma
def new_noise(t: Tensor, s: Tensor, eta: float, alpha_bar: Tensor) -> Tensor:
    """c of Eq. (10.5), (b,). t, s: (b,), s < t; alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    return eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Look up `alpha_bar[t]` and `alpha_bar[s]`, and type (10.5) as it stands. With `alpha_bar[0] == 1` a jump to clean data
# needs no case of its own.
# </details>

# %% tags=["check"]
check("10.sigma", new_noise)

# %% [markdown]
# To walk, put the network's guess where $x_0$ stands. Then $\hat\epsilon = (x_t - \alpha_t\hat x_0)/\sigma_t$ is its
# guess of the noise, and
#
# $$x_s = \alpha_s\,\hat x_0 + \sqrt{\sigma_s^2 - c^2}\;\hat\epsilon + c\,z. \tag{10.6}$$
#
# ### Exercise 2 · One step of DDIM
# *15 minutes · medium · Eqs. (10.5) and (10.6).* One jump from `t` to `s` for the whole batch. At $s = 0$ it must give
# the guess itself.


# %% tags=["exercise"] exercise="10.ddim_step" points=2
# Exercise 10.ddim_step
def ddim_step(
    x_t: Tensor,
    x0_hat: Tensor,
    t: int,
    s: int,
    eta: float,
    alpha_bar: Tensor,
    z: Tensor,
) -> Tensor:
    """x_s of Eq. (10.6). x_t, x0_hat, z: (b, …); s < t; alpha_bar: (T + 1,)."""
    ### BEGIN SOLUTION
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    c = eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()
    eps = (x_t - a_t.sqrt() * x0_hat) / (1 - a_t).sqrt()
    return a_s.sqrt() * x0_hat + (1 - a_s - c**2).sqrt() * eps + c * z
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Three lines before the last: the two entries of `alpha_bar`; `c`, from exercise 1; the noise in `x_t` if `x0_hat` is
# the picture. In the last line three things are added: $\alpha_s$ of the picture, the noise that is kept, the noise
# that is new.
# </details>

# %% tags=["check"]
check("10.ddim_step", ddim_step)

# %% [markdown]
# The course's own is `samplers.sample_ddim(..., eta=...)`. With $\eta = 1$ it must be `sample_ddpm`, number for number
# on the same noise. Nine digits, on a mixture of five spots:

# %%
# Eq. (10.6)
fifty = samplers.uniform_grid(schedule, 50)
angle = torch.arange(5).double() * 2 * math.pi / 5
spots = GaussianMixture(1.5 * torch.stack([angle.cos(), angle.sin()], 1), 0.2**2)
points = torch.randn(300, 2, dtype=torch.float64, generator=lesson.generator)
ends = []
for sample, options in [
    (samplers.sample_ddim, {"eta": 1.0}),
    (samplers.sample_ddpm, {}),
]:
    noise = torch.Generator().manual_seed(lesson.seed)
    ends.append(
        sample(
            spots.denoiser(schedule),
            points,
            schedule,
            fifty,
            generator=noise,
            **options,
        )
    )
assert torch.allclose(*ends, rtol=1e-9, atol=1e-9)
print("eta = 1 is ancestral sampling")

# %% [markdown]
# And the bound of lesson 03, would it have trained another network for another $\eta$? For $c > 0$ both the process and
# the model's step are Gaussians of variance $c^2$, and their means differ in the picture alone:
#
# $$\mathrm{KL} = \frac{1}{2c^2}\left(\alpha_s - \frac{k\,\alpha_t}{\sigma_t}\right)^2 |x_0 - \hat x_0|^2. \tag{10.7}$$
#
# Again a squared error with a weight, as in (3.10). **The dial changes the weights, not the best guess.**

# %%
# Eq. (10.7)
x_0, t, s = normalize(load_images("mnist", "test")[0][:6]).double(), 400, 300
x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
x0_hat = x_0 + 0.2 * forward.noise_like(x_0, lesson.generator)  # some guess
(alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.coeffs(t), schedule.coeffs(s)
for eta in (0.3, 1.0):
    c = eta * forward.q_posterior(x_t, x_0, t, schedule, s)[1].sqrt()
    k = (sigma_s**2 - c**2).sqrt()
    means = [
        alpha_s * x + k * parameterizations.eps_from_x0(x_t, x, t, schedule)
        for x in (x_0, x0_hat)
    ]
    kl = variational.gaussian_kl(means[0], c**2, means[1], c**2)
    weight = (alpha_s - k * alpha_t / sigma_t) ** 2 / (2 * c**2)
    assert torch.allclose(
        kl, weight * (x_0 - x0_hat).square().sum((1, 2, 3)), rtol=1e-9
    )
snr_s, snr_t = (schedule.log_snr(time).exp() for time in (s, t))
assert torch.allclose(
    weight, (snr_s - snr_t) / 2, rtol=1e-9
)  # eta = 1: (3.10), for a jump
print("the KL is the weighted squared error; for eta = 1 with the weight of (3.10)")

# %% [markdown]
# ## 4 · Without noise
#
# At $\eta = 0$ nothing is drawn on the way: the picture is a *function* of $x_T$. Divide (10.6) by $\alpha_s$:
#
# $$\frac{x_s}{\alpha_s} = \frac{x_t}{\alpha_t} + \left(\frac{\sigma_s}{\alpha_s} - \frac{\sigma_t}{\alpha_t}\right)\hat\epsilon(x_t, t). \tag{10.8}$$
#
# A value, plus a step length times a slope: that is Euler's method for the differential equation
# $d(x/\alpha) = \hat\epsilon\;d(\sigma/\alpha)$. **A walk without noise follows a curve, and short steps follow it
# closely.** That is why the lower rows of our first figure agree: all of them follow the same five curves, some more
# roughly. Euler's error falls like $1/n$.
#
# In the world $\mathcal N(0, 1)$ it can be seen with bare hands. Write $\alpha_t = \cos\varphi_t$ and
# $\sigma_t = \sin\varphi_t$. The guess is $\hat x_0 = \cos\varphi_t\,x_t$, and so $\hat\epsilon = \sin\varphi_t\,x_t$:
#
# $$x_s = (\cos\varphi_s\cos\varphi_t + \sin\varphi_s\sin\varphi_t)\,x_t = \cos(\varphi_t - \varphi_s)\,x_t. \tag{10.9}$$
#
# Each step shrinks $x$ by the cosine of the angle that it turns, where it should have kept it. Of the variance
#
# $$M_0 = 1 - \prod_{i=1}^{n} \cos^2(\varphi_t - \varphi_s) \tag{10.10}$$
#
# is missing; for $n$ equal angles, $\pi/2n$ each, that is about $\pi^2/4n$. The true curve is $x_0 = x_T$. Here is the
# exact variance of a walk with any $\eta$ into $\mathcal N(0, S)$: in each step $x_t$ is multiplied by a number, and
# $c^2$ is added.


# %%
# Eq. (10.10)
def missing(times: list[int], eta: float, S: float = 1.0) -> float:
    """What a walk of DDIM loses of the variance S of the data, as a share; exact."""
    V = torch.ones((), dtype=torch.float64)
    for t, s in itertools.pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.coeffs(t), schedule.coeffs(s)
        guess = alpha_t * S / (alpha_t**2 * S + sigma_t**2)  # x0_hat / x_t, Eq. (3.12)
        c = eta * schedules.transition(s, t, schedule)[1].sqrt() * sigma_s / sigma_t
        A = (
            alpha_s * guess
            + (sigma_s**2 - c**2).clamp(min=0).sqrt() * (1 - alpha_t * guess) / sigma_t
        )
        V = A**2 * V + c**2
    return 1 - V.item() / S


phi = schedule.alpha_bar.sqrt().arccos()
for n in (5, 10, 50, 250, 1000):
    times = samplers.uniform_grid(schedule, n)
    turned = 1 - phi[times].diff().cos().square().prod().item()
    assert math.isclose(missing(times, 0.0), turned, rel_tol=1e-8)
    assert math.isclose(missing(times, 1.0), missing_with_noise(times), rel_tol=1e-8)
    print(
        f"{n:4} steps: missing without noise {turned:6.1%}, "
        f"with it {missing_with_noise(times):6.1%}"
    )

# %% [markdown]
# The walk without noise loses less, at each of these lengths. Both losses fall like $1/n$ in the end. Is that so for worlds that
# are not Gaussian? The five spots have no formula for the curves, but an exact denoiser and a solver from the next
# lesson follow them to many digits. How far is DDIM off at the end?

# %%
smooth, ns = (
    schedules.VPLinear(),
    [5, 10, 20, 40, 80, 160, 320],
)  # time without a grid, so that n may grow
exact, field = samplers.sample_heun, spots.denoiser(smooth)
truth = exact(field, points[:100], smooth, samplers.uniform_grid(smooth, 1500))
errors = []
for n in ns:
    end = samplers.sample_ddim(
        field, points[:100], smooth, samplers.uniform_grid(smooth, n)
    )
    errors.append((end - truth).norm(dim=1).median().item())
slope = math.log2(errors[-2] / errors[-1])
assert 0.9 < slope < 1.1
print(f"doubling 160 steps divides the error by {2**slope:.2f}")

# %% [markdown]
# On the left these distances; on the right (10.2), (10.10), and one walk between the two.

# %% tags=["figure", "fold"]
# @title First order, for one walk and for many
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.6))
left.loglog(ns, errors, "o-", ms=4, label="DDIM, five spots")
left.loglog(
    ns, [errors[-1] * ns[-1] / n for n in ns], ":", color=BLACK, lw=1, label="1/n"
)
left.set(xlabel="steps n", ylabel="distance from the exact end")
left.set_title("One walk: how far off (median of 100)")
lengths = [2, 5, 10, 20, 50, 100, 200, 500, 1000]
for eta, colour in [(0.0, BLUE), (0.5, GREEN), (1.0, ORANGE)]:
    lost = [missing(samplers.uniform_grid(schedule, n), eta) for n in lengths]
    right.loglog(lengths, lost, "o-", ms=4, color=colour, label=rf"$\eta$ = {eta:g}")
right.loglog(
    lengths, [lost[-1] * 1000 / n for n in lengths], ":", color=BLACK, lw=1, label="1/n"
)
right.set(xlabel="steps n", ylabel="share of the variance", ylim=(0.002, 2))
right.set_title("Many walks: variance missing, $N(0, 1)$")
for axis in (left, right):
    axis.legend(fontsize=8)
show(
    figure,
    "Log-log plots against the number of steps. Left: DDIM's distance from the exact "
    "end point falls along a line of slope minus one. Right: the missing variance for "
    "eta 0, 0.5 and 1 falls likewise, eta 0 lowest.",
)

# %% [markdown]
# First order, in both senses. Lesson 11 makes solvers whose error falls faster, and they all begin with (10.8).
#
# ## 5 · Which times to visit
#
# So far all steps were of equal length. A *time grid* may be any falling times. The commonest, with their ends:
#
# $$t_i = T\left(\frac{i}{n}\right)^{p}, \qquad i = n, \dots, 0: \tag{10.11}$$
#
# *uniform* for $p = 1$ (also called *trailing*), *quadratic* for $p = 2$. Then *linspace*, $n$ times spread evenly from
# $T$ down to 1, and 0 after them; and *leading*, each $T/n$-th time counted from 1, as in $1, 101, 201, \dots, 901$,
# and 0 below.
#
# Where times are whole numbers, (10.11) is rounded, and for $p > 1$ and many steps it stops falling: with $T = 1000$,
# $p = 2$ and $n = 50$ the lowest time is $1000/50^2 = 0.4$, which rounds to 0, where the grid ends anyway. The course's
# own grids move such times up, each to at least one above the next, `samplers.quadratic_grid`; below 45 steps they are
# (10.11) to the letter.
#
# ### Exercise 3 · A time grid
# *10 minutes · easy · Eq. (10.11).* For a schedule that counts whole times: round to the nearest. $n$ steps have $n + 1$
# ends. Take (10.11) as it stands: nobody asks for so many steps that two times meet.


# %% tags=["exercise"] exercise="10.grid" points=1
# Exercise 10.grid
def time_grid(T: int, n: int, power: float) -> list[int]:
    """The n + 1 falling times of Eq. (10.11), whole numbers."""
    ### BEGIN SOLUTION
    return [round(T * (i / n) ** power) for i in range(n, -1, -1)]
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# A list comprehension over `range(n, -1, -1)`, which counts from `n` down to 0.
# </details>

# %% tags=["check"]
check("10.grid", time_grid)

# %% [markdown]
# *Predict for ten steps: which of the four grids are wrong at the noisy end, which waste a call at the clean one?*

# %%
GRIDS = {
    "uniform": samplers.uniform_grid,
    "leading": samplers.leading_grid,
    "linspace": samplers.linspace_grid,
    "quadratic": samplers.quadratic_grid,
}
for n in (2, 10, 44):  # Eq. (10.11), to the letter
    squares = [round(1000 * (i / n) ** 2) for i in range(n, -1, -1)]
    assert samplers.quadratic_grid(schedule, n) == squares
    assert samplers.uniform_grid(schedule, n) == [
        round(1000 * i / n) for i in range(n, -1, -1)
    ]
crowded = [round(1000 * (i / 50) ** 2) for i in range(50, -1, -1)]
print("(10.11) in 50 steps ends", crowded[-4:], "and the course's grid", end=" ")
print(samplers.quadratic_grid(schedule, 50)[-4:])
assert len(set(crowded)) < 51 == len(set(samplers.quadratic_grid(schedule, 50)))

# %% tags=["figure", "fold"]
# @title Ten steps of four grids
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.1), sharey=True)
for row, make in enumerate(GRIDS.values()):
    times = torch.tensor(make(schedule, 10)[:-1])
    left.plot(times, 0 * times - row, "o", ms=4)
    right.plot(schedule.coeffs(times)[1], 0 * times - row, "o", ms=4)
left.set(
    xlabel="t",
    yticks=range(0, -4, -1),
    yticklabels=GRIDS,
    xlim=(1030, -30),
    ylim=(-3.5, 0.5),
)
left.set_title("Ten steps: where the network is asked")
right.set(xlabel=r"noise there, $\sigma_t$", xlim=(1.03, -0.03))
show(
    figure,
    "Ten times of four grids, against t and against the noise level. Leading starts at "
    "901. Leading and linspace have a last time almost without noise. Quadratic has "
    "half of its times below t = 300.",
)

# %% [markdown]
# What do the ends look like, and what does each grid lose of a wide and of a narrow Gaussian?

# %%
# Eq. (10.11)
print(
    "10 steps    first   signal there   last   noise there   missing: S = 1   S = 0.04"
)
for name, make in GRIDS.items():
    times = make(schedule, 10)
    (alpha, _), (_, sigma) = schedule.coeffs(times[0]), schedule.coeffs(times[-2])
    lost = [missing(times, 0.0, S) for S in (1.0, 0.04)]
    print(
        f"{name:10} {times[0]:6} {alpha:13.3f} {times[-2]:7} {sigma:12.2f} "
        f"{lost[0]:16.0%} {lost[1]:10.0%}"
    )
even, quadratic = (
    missing(make(schedule, 10), 0.0, 0.04)
    for make in (GRIDS["uniform"], GRIDS["quadratic"])
)
assert quadratic < even / 2

# %% [markdown]
# * **Uniform** starts at the last level. Its last jump takes $\sigma = 0.32$ of noise off in one go, too much for fine
#   detail.
# * **Leading** never sees the last level: it is told $t = 901$ and shown $t = 1000$ (section 9 measures what that
#   does). And its last call, at $\sigma = 0.01$, has next to nothing to do.
# * **Linspace** mends the noisy end; its last call is as idle.
# * **Quadratic** starts at the last level, hurries where nothing is decided yet, and takes care at the end. Where the
#   data are narrow ($S = 0.04$, an inner spread of 0.2) that is where all is lost or won: 36 percent are missing in
#   place of 76.
#
# ## 6 · Measured on digits
#
# Theory knows Gaussians. Now the network: a hundred digits of each kind, ten of each class, all from the same noises.
# The two walks may fail in different ways, so ask two questions.
#
# * *How much of the spread is there?* The variance of all pixels, added up, as a share of the real digits'. That is
#   what (10.2) and (10.10) are about.
# * *Can each digit be read?* The share that the course's classifier sees as the class that was wished for.

# %%
classifier = load_classifier("mnist", lesson.device)
(train, _), (test, test_labels) = (
    load_images("mnist", split) for split in ("train", "test")
)
train, test = normalize(train), normalize(test)
chosen = torch.randperm(60_000, generator=lesson.generator)[:10_000]
many_digits = train[chosen].flatten(1).double()
centre = many_digits.mean(0)
variances, components = torch.linalg.eigh(torch.cov(many_digits.T))
wish = torch.arange(100) % 10
x_T = torch.randn(200, 1, 28, 28, generator=lesson.generator).to(lesson.device)


def spread(images: Tensor) -> float:
    """The variance of all pixels together, as a share of the real digits'."""
    return (images.clamp(-1, 1).flatten(1).var(0).sum() / variances.sum()).item()


def judge(times: list[int], eta: float) -> tuple[float, float, Tensor]:
    """The spread, the share seen as the class wished for, and the digits."""
    noise, label = (
        torch.Generator().manual_seed(lesson.seed + 2),
        wish.to(lesson.device),
    )
    x_0 = samplers.sample_ddim(
        denoise, x_T[:100], schedule, times, eta=eta, generator=noise, label=label
    ).cpu()
    seen = look_at(classifier, denormalize(x_0))[1]
    return spread(x_0), (seen == wish).float().mean().item(), x_0


# %% [markdown]
# Five steps and ten, with noise and without:

# %% tags=["widget", "open"]
tries = list(itertools.product((5, 10), (0.0, 1.0)))
results = {
    (n, eta): judge(samplers.uniform_grid(schedule, n), eta)
    for n, eta in tqdm(tries, desc="100 digits of each kind")
}

# %% tags=["figure", "fold"]
# @title The first eight of each
rows = {
    rf"{n} steps, $\eta$ = {eta:g}": results[n, eta][2][:8]
    for eta in (0.0, 1.0)
    for n in (5, 10)
}
show(
    image_grid(
        torch.cat(list(rows.values())), columns=8, row_labels=list(rows), size=0.75
    ),
    "The digits 0 to 7, each wished for. With eta 0 both rows show the same digits, "
    "softer in five steps. With eta 1 each row shows others; five steps give smooth, "
    "simple shapes.",
)

# %% [markdown]
# And the two answers. Is there more spread without noise than with it? Lesson 09's bootstrap of the *difference* says
# how much of it may be chance; paired, since the two walks start from the same noises.

# %%
for n, eta in tries:
    share, readable, _ = results[n, eta]
    varies(
        f"{n:2} steps, eta {eta:g}: spread {share:4.0%}   can be read {readable:4.0%}"
    )
real_digits = test[torch.randperm(10_000, generator=lesson.generator)[:100]]
varies(f"100 real digits: spread {spread(real_digits):4.0%}")
for n in (5, 10):
    without, with_noise = results[n, 0.0][2], results[n, 1.0][2]
    picks = torch.randint(100, (200, 100), generator=lesson.generator)
    apart = torch.tensor([spread(without[i]) - spread(with_noise[i]) for i in picks])
    gap = spread(without) - spread(with_noise)
    varies(f"{n:2} steps: {gap:+.1%} without noise, give or take {apart.std():.1%}")
for eta in (0.0, 1.0):
    assert results[10, eta][0] > results[5, eta][0]  # more steps help both
assert min(readable for _, readable, _ in results.values()) > 0.85

# %% [markdown]
# Real digits have the most spread, and **more steps bring both walks nearer to it**. Between the two walks the Gaussians
# predicted a difference, in favour of no noise; on these digits what is measured stands too near its own chance for a
# hundred of them to settle it. One at a time they can be read about as well with noise as without, and in five steps as well
# as in ten: the average of many threes is a very legible three. *A measure answers its own question, and no other.*
#
# So the guess above has no answer on digits that a hundred of them could give. What is noise good for? Each jump with $\eta > 0$ throws away part of $x_t$,
# and with it part of the errors that the network has made so far. Without noise every error is carried to the end. (The
# first figure cannot show it: five digits a row are too few.) On CIFAR-10, where the walks differ by far more than
# chance, Song et al. found, in FID of 50,000 pictures, ancestral and without noise, both on quadratic grids: 41.1 and 13.4 in 10 steps, 18.4 and 6.8 in 20, 8.0 and 4.7 in 50, 5.8 and 4.2
# in 100. Yet the best figure of that network is ancestral: 3.2, with a thousand steps and the variance of the forward
# step (which in ten steps has 367). **Few steps: no noise. Many: noise may pay.**
#
# And the grid? Ten steps again, without noise. The uniform grid's last jump is too long for edges; does the quadratic
# one draw them? Sharpness is lesson 05's, (5.11).


# %%
def sharpness(images: Tensor) -> float:
    """Mean squared Laplacian, Eq. (5.11)."""
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
    return torch.nn.functional.conv2d(images, kernel).square().mean().item()


late = judge(samplers.quadratic_grid(schedule, 10), 0.0)[2]
uniform, quadratic, real = map(sharpness, (results[10, 0.0][2], late, test[:1000]))
varies(f"sharpness: uniform {uniform:.2f}, quadratic {quadratic:.2f}, real {real:.2f}")
assert uniform < 0.95 * quadratic  # the same noises, the same digits

# %% [markdown]
# It does, with the same number of calls, from the same noises.
#
# Now you: two of the noises through every length and three values of $\eta$, stored so that the picture answers at
# once. One batch serves all three: $c$ may differ from image to image.

# %% tags=["widget"]
# Eq. (10.6)
etas = torch.tensor([0.0, 0.5, 1.0], device=lesson.device)
etas = etas.repeat_interleave(2)[:, None, None, None]
walks = {}
for n in tqdm((5, 10, 20, 40, 80, 160), desc="walks of 5 to 160 steps"):
    x = start[:2].repeat(3, 1, 1, 1)
    noise = torch.Generator().manual_seed(lesson.seed + 1)
    for t, s in itertools.pairwise(samplers.uniform_grid(schedule, n)):
        x0_hat, (alpha_s, sigma_s) = denoise(x, t), schedule.coeffs(s)
        sigma_st, sigma_t = schedules.transition(s, t, schedule)[1].sqrt(), sigma_of(t)
        c = etas * (sigma_st * sigma_s / sigma_t).item()
        eps = parameterizations.eps_from_x0(x, x0_hat, t, schedule)
        z = forward.noise_like(x[:2], noise).repeat(3, 1, 1, 1)  # one for every eta
        kept = (sigma_s.item() ** 2 - c**2).clamp(min=0).sqrt()
        x = alpha_s.item() * x0_hat + kept * eps + c * z
    walks[n] = x.cpu()
again = (walks[10][:2] - first[0.0, 10][:2]).square().mean().sqrt()
assert again < 0.1  # eta = 0 once more, up to rounding


# %% tags=["widget", "fold"]
# @title Two digits: choose the steps and eta


def same_noise(n: int, eta: float) -> plt.Figure:
    """The two digits of the first two noises."""
    i, title = round(eta * 2) * 2, rf"{n} steps, $\eta$ = {eta:g}"
    return image_grid(walks[n][i : i + 2], columns=2, size=1.6, title=title)


explore(
    same_noise,
    alt="Two digits drawn from the same noises with the chosen steps and eta.",
    n=choice("steps", {f"{n}": n for n in (5, 10, 20, 40, 80, 160)}, 10),
    eta=choice("eta", {"0": 0.0, "0.5": 0.5, "1": 1.0}, 0.0),
)

# %% [markdown]
# *For which $\eta$ does the picture stop changing as the steps grow?* In numbers: by how much does a pixel change when
# the steps are doubled?

# %%
doubled = {}
for i, eta in enumerate((0.0, 0.5, 1.0)):
    ends = {n: x[2 * i : 2 * i + 2] for n, x in walks.items()}
    doubled[eta] = {
        n: (ends[2 * n] - ends[n]).square().mean().sqrt().item()
        for n in ends
        if n < 160
    }
assert doubled[0.0][80] < doubled[0.0][10] / 3
assert doubled[0.0][80] < min(doubled[0.5][80], doubled[1.0][80]) / 3

# %% tags=["figure", "fold"]
# @title What doubling the steps changes
figure = plt.figure(figsize=(5.4, 2.6))
for (eta, change), colour in zip(doubled.items(), (BLUE, GREEN, ORANGE), strict=True):
    label = rf"$\eta$ = {eta:g}"
    plt.loglog(change.keys(), change.values(), "o-", ms=4, color=colour, label=label)
line = [5 * doubled[0.0][5] / n for n in (5, 80)]
plt.loglog([5, 80], line, ":", color=BLACK, lw=1, label="1/n")
plt.xticks(list(change), [str(n) for n in change])
plt.minorticks_off()
plt.gca().set(xlabel="steps n", ylabel="change from n to 2n (rms)", ylim=(0.003, 2))
plt.legend(fontsize=8, ncols=2)
show(
    figure,
    "How much a pixel changes from n steps to 2n, against n. For eta 0 the change "
    "falls roughly like 1/n; for eta 0.5 and 1 it stays large, since another number "
    "of steps draws other noise.",
)

# %% [markdown]
# ## 7 · Keep the guess in range
#
# Pixels lie in $[-1, 1]$, and a mean of pictures does too. A network's guess may not. Clip it, and whatever the truth
# is, no pixel moves away from it:
#
# $$\bigl|\operatorname{clip}(\hat x_0) - x_0\bigr| \le \bigl|\hat x_0 - x_0\bigr| \qquad\text{for all } x_0 \in [-1, 1]. \tag{10.12}$$
#
# So clipping is free. `wrappers.clip_x0(denoise)` is a denoiser like any other. How often has our network need of it?

# %%
# Eq. (10.12)
x_0 = test[:64].to(lesson.device)
print("   t", " outside", "  squared error before and after")
for t in (1000, 900, 600, 300, 50):
    x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    raw = denoise(x_t, t)
    kept = wrappers.clip_x0(lambda x_t, t, raw=raw: raw)(x_t, t)
    before, after = (raw - x_0).square(), (kept - x_0).square()
    assert (after <= before).all()  # pixel by pixel
    varies(
        f"{t:4} {(raw.abs() > 1).float().mean():8.1%}   "
        f"{before.mean():.5f}  {after.mean():.5f}"
    )

# %% [markdown]
# Where it matters is where a guess is *pushed*: by guidance, for example, the subject of lesson 15. The guess for a
# class minus the guess for none points towards what is typical of the class; go five times as far, and pixels end far
# outside. In a photograph, clipping then paints large areas flat black and white. Imagen's cure (Saharia et al., 2022)
# takes its measure from each image (its $s$ is a size, and no time):
#
# $$s = \max\bigl(1,\ q\text{-quantile of } |\hat x_0| \text{ over its pixels}\bigr), \qquad
# \hat x_0 \leftarrow \operatorname{clip}(\hat x_0, -s, s) / s. \tag{10.13}$$
#
# ### Exercise 4 · Dynamic thresholding
# *15 minutes · medium · Eq. (10.13).* Images of any shape, points $(b, d)$ included, each with its own $s$.
# `x.quantile(q, dim=1)` takes quantiles along rows, on the straight line between two values where it falls between them.


# %% tags=["exercise"] exercise="10.threshold" points=2
# Exercise 10.threshold
def dynamic_threshold(x0_hat: Tensor, q: float) -> Tensor:
    """The guess of Eq. (10.13). x0_hat: (b, …)."""
    ### BEGIN SOLUTION
    s = x0_hat.abs().flatten(1).quantile(q, dim=1).clamp(min=1)
    s = s.reshape(-1, *[1] * (x0_hat.ndim - 1))
    return x0_hat.clamp(-s, s) / s
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `x0_hat.abs().flatten(1)` has one row an image. Its quantiles, at least 1, must be reshaped to `(b, 1, …, 1)` before
# they meet the images, with as many ones as fit: `s.reshape(-1, *[1] * (x0_hat.ndim - 1))` serves images and points
# `(b, d)` alike. `x.clamp(-s, s)` takes tensors too.
# </details>

# %% tags=["check"]
check("10.threshold", dynamic_threshold)

# %% [markdown]
# The course's own is `wrappers.dynamic_threshold(denoise)`. Both wrappers, under a strong push:


# %%
# Eq. (10.13)
def pushed(x_t: Tensor, t: int, label: Tensor) -> Tensor:
    """The guess for the class, pushed eight times as far from the guess for none."""
    neutral = denoise(x_t, t)
    return neutral + 8 * (denoise(x_t, t, label=label) - neutral)


ten, label = samplers.uniform_grid(schedule, 10), wish[:10].to(lesson.device)
rows = {"real digits": torch.stack([test[test_labels == c][0] for c in range(6)])}
outside = {}
for name, guess_of in {
    "as it is": pushed,
    "clipped": wrappers.clip_x0(pushed),
    "dynamic": wrappers.dynamic_threshold(pushed),
}.items():
    steps = []
    rows[name] = samplers.sample_ddim(
        guess_of, x_T[:6], schedule, ten, callback=steps.append, label=label[:6]
    ).cpu()
    far = [(step.x0_hat.abs() > 1).float().mean() for step in steps]
    outside[name] = torch.stack(far).mean().item()

# %% tags=["figure", "fold"]
# @title A strong push, three ways
show(
    image_grid(
        torch.cat(list(rows.values())), columns=6, row_labels=list(rows), size=0.75
    ),
    "The digits 0 to 5 under a strong push. As it is and clipped: fat, clear digits on "
    "black. With dynamic thresholding: grey digits on a grey, restless ground.",
)

# %% [markdown]
# How many of the guesses' pixels lay outside the range on the way, and how many end black or white?

# %%
flat = {name: (x.abs() > 0.9).float().mean().item() for name, x in rows.items()}
for name in outside:
    varies(f"{name}: {outside[name]:.0%} outside, {flat[name]:.0%} end black or white")
varies(f"real digits: {flat['real digits']:.0%} of the pixels are black or white")
assert outside["as it is"] > 0.05
assert outside["clipped"] == outside["dynamic"] == 0
assert flat["dynamic"] < 0.5 * flat["clipped"]

# %% [markdown]
# Clipping did no harm. Dynamic thresholding did: of a digit nearly every pixel *belongs* at an end of the range, and to
# divide by $s$ turns them all grey, step after step. Imagen draws photographs, in which few pixels do. **(10.12) is a
# theorem, (10.13) a habit.**
#
# ## 8 · What a walk without noise can do
#
# At $\eta = 0$ every picture has a noise of its own. Find it: walk *up*, with the same formula, from a picture to its
# noise:
#
# $$x_s = \alpha_s\,\hat x_0(x_t, t) + \sigma_s\,\hat\epsilon(x_t, t), \qquad s > t. \tag{10.14}$$
#
# That is Euler's method on the same curve in the other direction. Then walk down again. Where to begin? At $t = 0$
# there is no noise to keep, so begin at $t = 1$, and with what belongs there: the picture *with* its noise, of size
# 0.01, which no eye sees. (The curve carries it up. A black border has no other source of noise, and without it the
# noise found at the top is far too weak: both are printed below.) Digits from the test set, which the network has never
# seen:


# %%
# Eq. (10.14)
def ascend(x: Tensor, times: list[int]) -> Tensor:
    """From a picture to its noise, along rising times."""
    for t, s in itertools.pairwise(times):
        x0_hat, (alpha_s, sigma_s) = denoise(x, t), schedule.coeffs(s)
        eps = parameterizations.eps_from_x0(x, x0_hat, t, schedule)
        x = alpha_s.item() * x0_hat + sigma_s.item() * eps
    return x


photos, found, again = test[10:16].to(lesson.device), {}, {}
eps = forward.noise_like(photos, lesson.generator)
first_level = forward.q_sample(photos, 1, schedule, eps)
for n in (10, 30, 100):
    times = samplers.linspace_grid(schedule, n)
    found[n] = ascend(first_level, times[-2::-1])  # 1, …, 1000
    again[n] = samplers.sample_ddim(denoise, found[n], schedule, times)
off = {n: (x - photos).square().mean().sqrt().item() for n, x in again.items()}

# %% tags=["figure", "fold"]
# @title Up to the noise, and down again
show(
    image_grid(
        torch.cat([photos, found[100], *again.values()]).cpu(),
        columns=6,
        row_labels=[
            "real, unseen",
            "its noise",
            *(f"{n} steps\nup and down" for n in again),
        ],
        size=0.75,
    ),
    "Six real digits; the noise found for each, which looks like any noise; and the "
    "digits drawn from it again, with 10, 30 and 100 steps: rough, then nearly the "
    "same.",
)

# %% [markdown]
# In numbers:

# %%
varies("off by", *(f"{d:.3f} ({n} steps)" for n, d in off.items()), "rms")
too_clean = ascend(photos, samplers.linspace_grid(schedule, 30)[-2::-1])
varies(f"deviation of the noise found: {found[30].std():.2f}, wanted 1")
varies(f"without the invisible noise: {too_clean.std():.2f}")
assert abs(found[30].std() - 1) < 0.2
assert too_clean.std() < 0.75
assert off[100] < off[10]

# %% [markdown]
# The noise is a *code* of the picture, of the same size. Codes can be mixed: take the noises of two pictures, and draw
# from what lies between. Between in which sense? A standard normal vector of $d$ numbers is about $\sqrt d$ long, and
# two of them are nearly at right angles. The middle of the straight line is only $\sqrt{d/2}$ long: no such noise was
# ever in training. Walk along the sphere instead, at the angle $\theta$ between the two:
#
# $$\operatorname{slerp}(a, b; w) = \frac{\sin\bigl((1-w)\theta\bigr)}{\sin\theta}\,a + \frac{\sin(w\theta)}{\sin\theta}\,b, \qquad
# \cos\theta = \frac{a\cdot b}{|a|\,|b|}. \tag{10.15}$$
#
# ### Exercise 5 · Between two noises
# *15 minutes · medium · Eq. (10.15).* A batch of pairs, images or points $(b, d)$, each with its own angle; one $w$ for
# all.


# %% tags=["exercise"] exercise="10.slerp" points=2
# Exercise 10.slerp
def slerp(a: Tensor, b: Tensor, w: float) -> Tensor:
    """The noise between a and b, (b, …), at w from 0 (a) to 1 (b)."""
    ### BEGIN SOLUTION
    cosine = (a * b).flatten(1).sum(1) / (
        a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    )
    theta = cosine.acos().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(
        theta
    )
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `(a * b).flatten(1).sum(1)` is one dot product for each pair, `a.flatten(1).norm(dim=1)` one length. `torch.acos` of
# the cosine is $\theta$, one for each pair. Reshape it to `(b, 1, …, 1)`, as in exercise 4, so that it serves noises of
# any shape.
# </details>

# %% tags=["check"]
check("10.slerp", slerp)

# %% [markdown]
# Now between the noises of two real digits, along the sphere and along the straight line; and for comparison the
# pixels themselves, faded from one to the other.


# %%
# Eq. (10.15)
def between(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Slerp, as in exercise 5."""
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
    theta = cosine.acos().reshape(-1, *[1] * (a.ndim - 1))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(
        theta
    )


one, other = found[100][2:3], found[100][5:6]  # the noises of two real digits
ws = torch.linspace(0, 1, 9).tolist()
on_sphere = torch.cat([between(one, other, w) for w in ws])
on_line = torch.cat([(1 - w) * one + w * other for w in ws])
fine = samplers.linspace_grid(schedule, 30)
faded = torch.cat([(1 - w) * photos[2:3] + w * photos[5:6] for w in ws])
drawn = [samplers.sample_ddim(denoise, x, schedule, fine) for x in (on_sphere, on_line)]

# %% tags=["figure", "fold"]
# @title From a nine to a five
show(
    image_grid(
        torch.cat([*drawn, faded]).cpu(),
        columns=9,
        row_labels=["along the sphere", "straight line", "pixels faded"],
        size=0.75,
    ),
    "From a nine to a five in nine frames. Along the sphere and along the straight "
    "line every frame is a stroke of its own; faded pixels show both digits at once.",
)

# %% [markdown]
# Fading pixels shows two digits at once; mixing noises shows one digit that changes its mind. Sphere or line? To the
# eye both will do. Look at many: halfway between 100 pairs of noises, how much do the digits vary among each other?

# %%
a, b = x_T[:100], x_T[100:]
sets = {"the noises": a, "sphere": between(a, b, 0.5), "line": (a + b) / 2}
spreads = {}
for name, x in sets.items():
    length = x.flatten(1).norm(dim=1).mean().item() / 784**0.5
    spreads[name] = spread(samplers.sample_ddim(denoise, x, schedule, ten).cpu())
    varies(f"{name}: length {length:.2f} of the right one; spread {spreads[name]:.0%}")
assert spreads["line"] < 0.9 * spreads["sphere"]

# %% [markdown]
# Noises that are too short draw digits that are too much alike: nearer to the mean, as (10.9) says of a Gaussian world.
# One at a time you would never see it.
#
# With noise put back ($\eta > 0$) none of this works: the digit is decided on the way, by the noise that is drawn
# there.
#
# ## 9 · What usually goes wrong
#
# **(a) Skipping times, and keeping the formula of one step.** The loop of the DDPM paper, with `range(1000, 0, -50)` in
# place of `range(1000, 0, -1)`; all else as it was:
#
# $$x_s = \frac{1}{\sqrt{1-\beta_t}}\left(x_t - \frac{\beta_t}{\sigma_t}\,\hat\epsilon\right) + \sqrt{\beta_t}\,z. \tag{10.16}$$
#
# Here $\beta_t$ is what *one* step adds. So one step's worth of noise is taken off, and the next time the network is
# told that fifty have been. Beside it DDIM on the same grid, from the same noises.


# %%
# Eq. (10.16)
def naive_walk(
    model, x: Tensor, times: list[int], generator: torch.Generator, **cond: object
) -> Tensor:
    """Visits fewer times, with the formula for single steps."""
    for t, s in itertools.pairwise(times):
        beta, sigma = schedule.betas[t].item(), schedule.coeffs(t)[1].item()
        eps = parameterizations.eps_from_x0(x, model(x, t, **cond), t, schedule)
        x = (x - beta / sigma * eps) / (1 - beta) ** 0.5
        x = x + (s > 0) * beta**0.5 * forward.noise_like(x, generator)
    return x


rows, agree = {}, {}
some, seen_as = x_T[:20], wish[:20].to(lesson.device)
for n in (20, 50):
    grid = samplers.uniform_grid(schedule, n)
    noise = torch.Generator().manual_seed(lesson.seed + 3)
    naive = naive_walk(denoise, some, grid, noise, label=seen_as)
    ddim = samplers.sample_ddim(denoise, some, schedule, grid, label=seen_as)
    for name, x in [(f"naive, {n} steps", naive), (f"DDIM, {n} steps", ddim)]:
        rows[name] = x[:5].cpu()
        seen = look_at(classifier, denormalize(x))[1]
        agree[name] = (seen == wish[:20]).float().mean().item()
        varies(f"{name}: {agree[name]:.0%} seen as the digit wished for")
for n in (20, 50):
    assert agree[f"naive, {n} steps"] < 0.5 < 0.75 < agree[f"DDIM, {n} steps"]

# %% tags=["figure", "fold"]
# @title The naive walk beside DDIM
show(
    image_grid(
        torch.cat(list(rows.values())), columns=5, row_labels=list(rows), size=0.75
    ),
    "The naive step-skipper: noise after 20 and after 50 steps. DDIM on the same "
    "grids: clean digits.",
)

# %% [markdown]
# Two traps make this mistake last. With all 1,000 steps it is no mistake at all: (10.16) is then ancestral sampling,
# with the forward step's variance. And on data $\mathcal N(0, 1)$ it looks perfect at *any* $n$: a step multiplies by
# $\sqrt{1-\beta_t}$ and adds $\beta_t$, and 1 stays 1. Test with data narrower than the noise. The cure is one line:
# not the $\beta_t$ of the step but that of the jump, $1 - \bar\alpha_t/\bar\alpha_s$.

# %%
narrow = Gaussian(torch.zeros(1).double(), 0.04)
for name, data in [("S = 1", bell), ("S = 0.04", narrow)]:
    for n in (20, 1000):
        grid = samplers.uniform_grid(schedule, n)
        end = naive_walk(data.denoiser(schedule), many, grid, lesson.generator)
        share = end.var().item() / {"S = 1": 1.0, "S = 0.04": 0.04}[name]
        print(f"{name:8} in {n:4} steps: {share:5.2f} times the variance of the data")
        wanted = 20 if (name, n) == ("S = 0.04", 20) else 1
        assert (share > wanted) if wanted > 1 else abs(share - 1) < 0.1

# %% [markdown]
# And the cure: with the jump's variance in place of $\beta_t$, (10.16) has the mean (3.4) of the whole jump.

# %%
t, s, x, x0_hat = 600, 400, many[:100], many[100:200]
jump = 1 - schedule.alpha_bar[t] / schedule.alpha_bar[s]
eps = parameterizations.eps_from_x0(x, x0_hat, t, schedule)
cured = (x - jump / schedule.coeffs(t)[1] * eps) / (1 - jump).sqrt()
assert torch.allclose(
    cured, forward.q_posterior(x, x0_hat, t, schedule, s)[0], rtol=1e-9
)
print("with the variance of the jump the formula holds")

# %% [markdown]
# **(b) Time 1,000 in an array of 1,000.** Much code stores levels 1 to 1,000 in an array that counts from 0. There
# `t = 1000` is out of range: a clear error on a CPU, on a GPU a crash in a later line. That one you find.

# %%
stored = schedule.alpha_bar[1:]  # 1,000 entries, from index 0
try:
    stored[1000]
except IndexError as error:
    print("IndexError:", error)

# %% [markdown]
# The other end is silent. With steps of 100 the last jump goes from index 99 to index $-1$, where clean data is meant.
# And index $-1$ is *the last entry*, the noisiest level of all:

# %%
steps = []
right_end = samplers.sample_ddim(
    denoise, x_T[:6], schedule, ten, callback=steps.append, label=label[:6]
)
last = steps[-1]
a_s = stored[99 - 100].item()  # meant: clean data
eps = parameterizations.eps_from_x0(last.x_t, last.x0_hat, last.t, schedule)
wrong_end = a_s**0.5 * last.x0_hat + (1 - a_s) ** 0.5 * eps
assert wrong_end.std() > 0.8
assert a_s == schedule.alpha_bar[1000]

# %% tags=["figure", "fold"]
# @title The last jump, right and to index -1
show(
    image_grid(
        torch.cat([right_end, wrong_end]).cpu(),
        columns=6,
        row_labels=["right", "index $-1$"],
        size=0.75,
    ),
    "Six digits by DDIM; below, the same walks with the last jump to index minus one: "
    "pure noise.",
)

# %% [markdown]
# The walk went all the way to clean digits, and its last step put all the noise back. (In a table of $T + 1$ entries
# with `alpha_bar[0] == 1` time 1,000 is an index, and the last jump ends at index 0 like any other. That is why this
# course counts so.)
#
# **(c) A grid that never reaches the last noise level.** The leading grid of five steps begins at $t = 801$. It is
# handed pure noise, and takes it for $x_{801}$, in which a little of the picture ought to be left:
# $\alpha_{801} = 0.04$. Too little to see? Treat the digits as one large Gaussian, with their mean picture $m$ and
# covariance $\Sigma$. A walk without noise carries a place in one Gaussian to the same place in the other, counted in
# standard deviations. Pure noise has mean 0 where $\alpha m$ was expected, so the pictures drawn have the mean
#
# $$m - \Sigma^{1/2}\,\bigl(\alpha^2\,\Sigma + \sigma^2 I\bigr)^{-1/2}\,\alpha\,m, \qquad \alpha, \sigma \text{ of the first time of the grid.} \tag{10.17}$$
#
# Digits are dark, their mean is far below 0: predicted are brighter ones. To see the start alone, both walks below take
# steps of 40.

# %%
# Eq. (10.17)
m, means, predicted = centre, {}, {}
for top, second in [(1000, 960), (801, 760)]:
    (alpha, sigma), grid = schedule.coeffs(top), [top, *range(second, 0, -40), 0]
    S = variances.clamp(min=0)
    factors = alpha * (S / (alpha**2 * S + sigma**2)).sqrt()
    predicted[top] = (m - components @ (factors * (components.T @ m))).mean().item()
    drawn = samplers.sample_ddim(denoise, x_T[:40], schedule, grid)
    means[top], of = drawn.mean((1, 2, 3)).cpu(), predicted[top]
    varies(f"from t = {top}: brightness {means[top].mean():.3f}, predicted {of:.3f}")
apart, told = means[801] - means[1000], predicted[801] - predicted[1000]
chance = (apart.std() / 40**0.5).item()
varies(f"brighter by {apart.mean():.3f} ± {chance:.3f}; predicted {told:.3f}")
varies(f"real digits have {m.mean():.3f}")
assert apart.mean() > 4 * chance  # from the same 40 noises: four standard errors
assert (
    1 / 3 < apart.mean() / told < 3
)  # the right size, for digits that are not Gaussian

# %% [markdown]
# Four hundredths of the signal were missing at the start, and the digits come out a little brighter on average. On
# schedules whose last level keeps more of the picture it is worse: the first versions of Stable Diffusion could draw
# neither very dark nor very bright pictures, partly for this reason (Lin et al., 2023). **Start where the noise you
# draw belongs.**
#
# ## 10 · The answer
#
# How can one network serve different walks? Because training fixed each $q(x_t \mid x_0)$ and nothing else. Every
# process with these marginals has the same best denoiser, and a walk may use any of them, with any amount of new noise,
# on any grid.
#
# Which one should you take? With few steps the one without noise: it loses least of the spread, and it follows a curve
# that is the same for every $n$, so you may sketch with ten steps and finish the same picture with a hundred. With many
# steps noise may pay, since it forgives the network's errors. Begin at the last level, end at clean data, and put the
# short steps where the detail is made.
#
# ### In your own words
# *Manually graded, about five lines.* A colleague speeds up the sampler of a trained DDPM: the loop now visits every
# 20th time. The pictures are noisy. "Of course," he says, "the network was trained for 1,000 steps; it has to be
# trained again for 50." What is wrong with his diagnosis, what with his loop, and which one experiment, without any
# network, would have shown it?

# %% [markdown] tags=["manual"] question="10.own_words" points=2
# ### BEGIN SOLUTION
# The network never learned steps. It was trained to guess $x_0$ (or the noise) at each single level, so every process
# with the same marginals $q(x_t \mid x_0)$, with jumps of any length, can use it as it is. His loop still has the
# coefficients of one step, $\beta_t$ and $1 - \beta_t$: it takes off one step's noise and then tells the network that
# twenty have been. The coefficients must be those of the jump ($1 - \bar\alpha_t/\bar\alpha_s$ in place of $\beta_t$),
# or DDIM's. Experiment: the same loop with the exact denoiser of a narrow Gaussian (not $\mathcal N(0, 1)$, where the
# mistake is invisible): the variance that comes out is far too large, and with the jump's coefficients it is nearly
# right.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: the network knows levels, not steps (only the marginals are trained), so no training is needed.
# One point: the loop's coefficients belong to single steps and must be the jump's, with a test that can tell (an exact
# denoiser of data narrower than the noise; or the same loop at $n = T$ and at $n = 50$ beside DDIM).

# %% [markdown]
# ### Two offers
# *Manually graded, about four lines.* You need (i) a thousand varied digits quickly, and (ii) a tool that turns one
# given digit slowly into another. For each: which $\eta$, roughly how many steps, and why?

# %% [markdown] tags=["manual"] question="10.two_offers" points=2
# ### BEGIN SOLUTION
# (i) $\eta = 0$ with ten to twenty steps: in few steps it loses least variance, so the set is nearest to the real one;
# variety comes from the different $x_T$. (ii) $\eta = 0$ as well, and more steps (50 to 200): only without noise is the
# picture a function of $x_T$, so that a noise can be found for each digit by walking up; its error falls like $1/n$.
# Then slerp between the two noises, because points on the straight line are too short to be noise the network knows.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: (i) few steps without noise, with a reason from this page. One point: (ii) a walk without noise
# since it can be inverted, enough steps for the inversion, and mixing along the sphere.

# %% [markdown]
# ## Summary
#
# * A posterior may jump, (10.1). With a guess in place of $x_0$ each jump loses the square of the signal it brings in,
#   divided by the noise it starts from, (10.2).
# * Training fixes the marginals alone, so all processes (10.3) with $k^2 + c^2 = \sigma_s^2$ share one network. $\eta$
#   is the dial, (10.5): 1 is ancestral sampling, 0 is DDIM.
# * Without noise a walk is Euler's method on a curve, (10.8): first order, the same picture for every $n$, and it can
#   be walked back up, (10.14).
# * A grid has two ends. At the noisy one it must begin at the level the noise is drawn for, (10.17); at the clean one
#   short steps keep the detail.
# * Clipping a guess to the range of the data cannot hurt, (10.12).
# * Coefficients of one step are wrong for a jump, (10.16), and $\mathcal N(0, 1)$ does not notice.

# %%
progress("10")

# %% [markdown]
# ## References
#
# * Song, Meng, Ermon: *Denoising Diffusion Implicit Models*, 2021. Our (10.3) is its Eq. (7), (10.5) its Eq. (16),
#   (10.6) its Eq. (12), (10.8) its Eq. (13), and (10.7) stands behind its Theorem 1; quadratic grids are in its
#   appendix D, the figures for CIFAR-10 in its Table 1.
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. Our (10.16) is its Algorithm 2.
# * Nichol, Dhariwal: *Improved Denoising Diffusion Probabilistic Models*, 2021. Skipping steps with the betas of the
#   jumps.
# * Lin, Liu, Li, Yang: *Common Diffusion Noise Schedules and Sample Steps Are Flawed*, 2023. Leading and trailing
#   grids.
# * Saharia, Chan, Saxena and others: *Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding*,
#   2022 (Imagen). Section 2.3: (10.13).
# * Shoemake: *Animating Rotation with Quaternion Curves*, 1985. Our (10.15).
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. Section 4:
#   what noise on the way is good for.
#
# **Next:** lesson 11 follows the same curve with better solvers, and opens the leaderboard.
