# %% [markdown]
# # 04 · The first network
#
# *You will build the smallest network that denoises, train it by hand in ten lines, tell it what time it is, and
# measure it against the best that is possible. About 70 minutes to read and run, 65 to solve its five exercises.*

# %% tags=["fold"]
# @title Imports, digits, a schedule
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from course_utils import denoisers, forward, losses, schedules, widgets
from course_utils.data import load_images, normalize
from course_utils.denoisers.embeddings import sinusoidal_embedding
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
from course_utils.toy import Gaussian, GaussianMixture, IdealDenoiser
from course_utils.widgets import explore, slider

use_style()
digits, labels = load_images("mnist", "train", n=20_000)
held_out = normalize(load_images("mnist", "test", n=64)[0]).to(lesson.device)
schedule = schedules.linear()

# %% [markdown]
# ## The question
#
# Lesson 03 told us what a network should say: $\mathbb E[x_0 \mid x_t]$, the average of all pictures that could be
# behind $x_t$. There we had it from the perfect observer of 5,000 digits. Here is that observer once more, at five
# noise levels.

# %% tags=["figure", "fold"]
# @title A seven at five noise levels, and the best answers
world = normalize(digits[:5000])
seven = world[labels[:5000] == 7][3:4]
times, noise = [10, 100, 300, 500, 800], forward.noise_like(seven, lesson.generator)
noisy = torch.cat([forward.q_sample(seven, t, schedule, noise) for t in times])
answers = IdealDenoiser(world.double(), schedule)(
    noisy.double(), torch.tensor(times)
).float()
show(
    image_grid(
        torch.cat([noisy, answers]),
        columns=5,
        titles=[f"t = {t}" for t in times],
        row_labels=["$x_t$", r"$E[x_0|x_t]$"],
    ),
    "A seven at five noise levels and, below, the best answers: at t = 10 the input "
    "itself, at 300 a clean seven out of "
    "much noise, at 500 a nine, wrongly, and at 800 a grey blur.",
)

# %% [markdown]
# These are different jobs. At $t = 10$: hand back what you got, and touch nothing. At $t = 300$: find the strokes in
# the noise. At $t = 800$: believe the input very little, and answer with a blur. **How can one small network do all
# of them?**
#
# In the version that people copy, the network is called as `denoiser(x, t)`, and inside, `t` is never used. It is not
# told how noisy its picture is. *Where does that cost most? Commit to a guess:* at which $t$ does not knowing $t$ add
# the largest share to the error?

# %% tags=["widget", "fold"]
# @title Your guess
guess = slider("Not knowing t costs most at t =", 1, 1000, 500)
guess

# %% [markdown]
# ## 1 · A network that looks around
#
# One pixel alone does not tell much. If its values are Gaussian, the best answer from it is (3.12), a straight line
# in $x_t$. To do better, look at the neighbours. A **convolution** of $3 \times 3$ does that in the same way everywhere:
# each output pixel is a weighted sum of nine input pixels, and the nine weights are the same at every place. That is
# a good bet, as a stroke looks like a stroke wherever it lies; and so the network works on pictures of any size.
#
# Nine pixels are few. Stack the layers, with a nonlinearity between them (without it, two convolutions would be one
# larger one). How far does an output pixel see? After no layer it sees one pixel. A layer with a kernel of $k$ sees
# $k$ of its inputs, $k - 1$ more than one, and its inputs lie as far apart as all strides before it have made
# them:
#
# $$r = 1 + \sum_{l=1}^{L} (k_l - 1) \prod_{j<l} \mathrm{stride}_j, \qquad \text{for } 3\times 3 \text{ without strides: } r = 2L + 1. \tag{4.1}$$
#
# This is the **receptive field**, in pixels across.
#
# ### Exercise 1 · How far it sees
# *10 minutes · easy · Eq. (4.1).* Kernels and strides of the layers, from input to output. (Strides come back in lesson
# 06.)


# %% tags=["exercise"] exercise="04.receptive_field" points=1
# Exercise 04.receptive_field
def receptive_field(kernels: list[int], strides: list[int]) -> int:
    """How many input pixels, across, one output pixel depends on."""
    ### BEGIN SOLUTION
    sees, apart = 1, 1  # pixels seen; distance of neighbouring outputs, in input pixels
    for kernel, stride in zip(kernels, strides, strict=True):
        sees += (kernel - 1) * apart
        apart *= stride
    return sees
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Walk from input to output with two numbers, both 1 at first: what a pixel sees, and how far apart two neighbours
# lie. Each layer adds `(kernel - 1) * apart` to the first; only then its stride multiplies the second. </details>

# %% tags=["check"]
check("04.receptive_field", receptive_field)

# %% [markdown]
# Now measure it. An output pixel depends on exactly those input pixels in which it has a gradient.


# %%
def stack(
    *channels: int, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """3 × 3 convolutions with an activation between them, and none after the last."""
    layers = []
    for i, o in itertools.pairwise(channels):
        layers += [nn.Conv2d(i, o, 3, padding=1), activation()]
    return nn.Sequential(*layers[:-1])


def seen_by_the_centre(network: nn.Module) -> Tensor:
    """|d (centre pixel of the output) / d (input pixel)|, 28 × 28."""
    x = seven.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, 0, 14, 14], x)
    return gradient[0, 0].abs()


# Eq. (4.1)
widths = [[1, *[16] * (depth - 1), 1] for depth in range(1, 8)]
networks = [stack(*channels, activation=nn.SiLU) for channels in widths]
reach = [int(seen_by_the_centre(network).any(0).sum()) for network in networks]
assert reach == [2 * depth + 1 for depth in range(1, 8)]
print("pixels across that 1 to 7 layers see:", *reach)

# %% tags=["figure", "fold"]
# @title What the centre pixel sees through 1, 3 and 6 layers
figure, axes = plt.subplots(1, 3, figsize=(8, 2.5))
for axis, depth in zip(axes, (1, 3, 6), strict=True):
    seen = seen_by_the_centre(networks[depth - 1])
    axis.imshow((seven[0, 0] + 1) / 2, vmin=0, vmax=2.5)
    axis.imshow(
        (seen / seen.max()).clamp(min=1e-9).log10(),
        cmap="Blues",
        vmin=-4,
        vmax=0,
        alpha=(seen > 0).float(),
    )
    axis.set(
        xticks=[],
        yticks=[],
        title=f"{depth} layer{'s' * (depth > 1)}: {2 * depth + 1} pixels across",
    )
figure.colorbar(axes[2].images[1], ax=axes, label="log10 |gradient|", shrink=0.8)
show(
    figure,
    "What the centre pixel of the output sees of a seven: squares of 3, 7 and 13 "
    "pixels. In the deeper stacks the gradient "
    "falls off by powers of ten from the centre of the square to its edge.",
)

# %% [markdown]
# The square is where it *can* look. Where it does look is much smaller at first: few paths lead to the corners, many
# to the centre. The popular tutorial stacks three layers, so it sees 7 pixels across, a piece of a stroke. **How far
# must a denoiser see?** For a Gaussian world we can compute it. Let the picture be a texture with covariance $K$. A
# denoiser that sees a patch $P$ knows $y = \alpha_t x_P + \sigma_t \epsilon$, with covariance
# $\alpha_t^2 K_{PP} + \sigma_t^2 I$. The best guess of the pixel $o$ in the middle is linear in $y$, and the error
# that is left is the conditional variance of a Gaussian:
#
# $$\mathbb E\,(x_o - \hat x_o)^2 = K_{oo} - \alpha_t^2\, K_{oP}\,\bigl(\alpha_t^2 K_{PP} + \sigma_t^2 I\bigr)^{-1} K_{Po}. \tag{4.2}$$
#
# No network with this receptive field has a smaller error, whatever its weights.


# %%
# Eq. (4.2)
def cloth(side: int, tall: float, wide: float) -> Tensor:
    """Covariance of a texture of variance 1 whose pixels forget each other over `tall`
    rows and `wide` columns."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    place = place / torch.tensor([tall, wide]).double()
    return torch.exp(-torch.cdist(place, place))


def best_error(r: int, t: Tensor) -> Tensor:
    """The error of the best denoiser that sees r × r pixels, for each t, float64."""
    K, centre = cloth(r, 8, 8), r**2 // 2
    alpha, sigma = (c[:, None, None] for c in schedule.coeffs(t))
    of_noisy = alpha**2 * K + sigma**2 * torch.eye(r**2)
    of_centre = K[:, centre].expand(len(t), -1)[..., None]
    known = torch.cholesky_solve(of_centre, torch.linalg.cholesky(of_noisy))
    return K[centre, centre] - alpha[:, 0, 0] ** 2 * (K[centre] @ known)[:, 0]


t, patch = 300, Gaussian(torch.zeros(1, 7, 7).double(), cloth(7, 8, 8))
x_0 = patch.sample(4000, lesson.generator)
x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
squared = (patch.denoise(x_t, t, schedule) - x_0)[:, 0, 3, 3].square()
off = squared.mean() - best_error(7, torch.tensor([t]))[0]
assert abs(off) < 4 * squared.std() / 4000**0.5  # four standard errors

# %% [markdown]
# The exact denoiser of lesson 03 agrees on a $7 \times 7$ patch. *Predict: at which noise levels does a wide view
# pay?*

# %%
ts = torch.cat([torch.tensor([1, 5, 10, 20]), torch.arange(40, 1001, 40)])
alpha, sigma = schedule.coeffs(ts)
line = sigma**2 / (alpha**2 + sigma**2)  # of the straight line (3.12) for S = 1
at = {r: best_error(r, torch.tensor([20, 700])) for r in (1, 3, 13)}
assert torch.allclose(best_error(1, ts), line)
assert at[3][0] - at[13][0] < 0.1 * at[1][0]
assert at[3][1] - at[13][1] > 0.15 * at[1][1]

# %% tags=["figure", "fold"]
# @title What a wider view is worth, at each noise level
figure = plt.figure(figsize=(6.5, 2.8))
for r, colour in [(1, "0.2"), (3, "0.45"), (7, ORANGE), (13, BLUE), (21, GREEN)]:
    plt.plot(ts, best_error(r, ts) / line, color=colour, label=f"{r} × {r}")
plt.gca().set(xlabel="t", ylabel="best error / one pixel's", ylim=(0, 1.05))
plt.legend(title="it sees", loc="lower right", fontsize=8)
show(
    figure,
    "The smallest possible error on a texture, as a share of what one pixel allows, "
    "against t. Up to t = 150 all views but the "
    "single pixel are alike; 3 pixels fall behind at 200, 7 at 400, and 13 only "
    "beyond 600.",
)

# %% [markdown]
# With little noise the nearest neighbours tell nearly all. With much noise one has to average over many pixels, and
# every pixel out of sight is evidence thrown away. Our networks will have six layers and see 13; seeing the *whole*
# picture cheaply is the subject of lesson 06.
#
# ## 2 · Ten lines that learn
#
# What to teach it is clear since (3.6): draw a picture, a time and some noise, and make the squared error small.
#
# $$L(\theta) = \mathbb E_{x_0, t, \epsilon}\,\bigl\lVert x_0 - f_\theta(x_t)\bigr\rVert^2, \qquad x_t = \alpha_t x_0 + \sigma_t\epsilon, \qquad
# \theta \leftarrow \theta - \eta\,\nabla_\theta L. \tag{4.3}$$
#
# ### Exercise 2 · One step downhill
# *15 minutes · medium · Eq. (4.3).* The smallest network of all: one $3 \times 3$ convolution, without bias, with a
# padding of one pixel. Return its kernel after one step. The loss is the mean over all pixels and images.


# %% tags=["exercise"] exercise="04.descend" points=2
# Exercise 04.descend
def descend(kernel: Tensor, x_t: Tensor, x_0: Tensor, lr: float) -> Tensor:
    """The kernel (c, c, 3, 3) after one step of gradient descent.
    x_t, x_0: (b, c, h, w)."""
    ### BEGIN SOLUTION
    kernel = kernel.detach().requires_grad_()
    loss = (nn.functional.conv2d(x_t, kernel, padding=1) - x_0).square().mean()
    (gradient,) = torch.autograd.grad(loss, kernel)
    return (kernel - lr * gradient).detach()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `kernel.detach().requires_grad_()` is the same numbers, but PyTorch keeps book of what you do with them. Then
# `nn.functional.conv2d(x_t, kernel, padding=1)`, the loss as one number, and `torch.autograd.grad(loss, kernel)`, which returns a
# tuple of one.
# </details>

# %% tags=["check"]
check("04.descend", descend)

# %% [markdown]
# With many weights, PyTorch's optimizers keep book for us. Here is a whole training, of the network that people copy:
# three layers, and no $t$. One thing must not be forgotten: `backward` *adds* to the gradients that are there, so
# they are cleared at every step.

# %%
# Eq. (4.3)
copied = stack(1, 16, 16, 1).to(lesson.device)
optimizer = torch.optim.AdamW(copied.parameters(), lr=5e-3)
trace = []
for _ in range(200):
    chosen = torch.randint(len(digits), (16,), generator=lesson.generator)
    x_0 = normalize(digits[chosen]).to(lesson.device)
    t = torch.randint(1, 1001, (16,), generator=lesson.generator)
    x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    loss = (copied(x_t) - x_0).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    trace.append(loss.item())

# %% [markdown]
# Did it learn? The best answer of a *convolution* that does not look at $x_t$ is one grey for all pixels, since away from the
# edges it cannot know where it is. Its error is the variance of the pixels. That is the bar to be under. (Whoever knows the
# place can say the mean picture, and errs less than our small network does, averaged over all $t$.)

# %%
mean, std = (moment.item() for moment in (world.mean(), world.std()))
late = sum(trace[-50:]) / 50
of_place = world.var(0).mean()
varies(
    f"error over the last 50 steps: {late:.3f}; of one grey: {std**2:.3f}; of the "
    f"mean picture: {of_place:.3f}"
)
assert late < 0.85 * std**2  # six seeds ended between 0.65 and 0.76 of it

# %% tags=["figure", "fold"]
# @title A held-out digit and the first network's answers
times = [1, 100, 200, 400, 800]
some = held_out[:1].expand(5, -1, -1, -1)
noisy = forward.q_sample(
    some, torch.tensor(times), schedule, forward.noise_like(some, lesson.generator)
)
with torch.no_grad():
    answers = copied(noisy)
show(
    image_grid(
        torch.cat([noisy, answers]),
        columns=5,
        titles=[f"t = {t}" for t in times],
        row_labels=["$x_t$", "answer"],
    ),
    "A held-out digit at five noise levels and the answers of the first network: "
    "strokes found at t = 100 and 200, a smudge at 400, "
    "grey at 800.",
)

# %% [markdown]
# Ten lines, and it finds strokes in the noise of pictures that it has never seen. Now look at the left end, where
# there is nothing to do.

# %%
with torch.no_grad():
    x_1 = forward.q_sample(
        held_out, 1, schedule, forward.noise_like(held_out, lesson.generator)
    )
    before, after = ((x - held_out).square().mean().item() for x in (x_1, copied(x_1)))
varies(
    f"t = 1: error before the network {before:.5f}, after it {after:.5f}: "
    f"{after / before:.0f} times as large"
)
assert after > 10 * before  # over six seeds, 300 to 1,000 times

# %% [markdown]
# **On an almost clean picture it makes things worse.** Two reasons. It does not know that the picture is clean. And
# even if it knew: three layers with ReLU between them would have to learn to copy, to a part in a hundred, while the
# loss is all about other times. We shall repair the one, then the other.
#
# ## 3 · Telling the time
#
# *Which number?* Not $t$ itself: lesson 02 showed that the log-SNR $\lambda_t$ alone decides what a picture looks
# like, so a network that is told $\lambda_t$ can be used with any schedule. The course's networks are told the
# *position* $p = 50\,\lambda_t$, so that neighbouring steps of a thousand lie about one apart.
#
# *And how?* One number is one direction. A linear layer can only make its outputs rise or fall with $p$, while we may
# want "much at small noise, nothing in the middle, something else at the end". So spell $p$ out, as a clock does: a
# fast hand for neighbouring levels, a slow one for the whole range, and others in between. With $n$ hands
#
# $$e(p) = \bigl[\cos \omega_0 p,\ \dots,\ \cos \omega_{n-1} p,\ \sin \omega_0 p,\ \dots,\ \sin \omega_{n-1} p\bigr], \qquad
# \omega_i = \Lambda^{-i/(n-1)}, \tag{4.4}$$
#
# from $\omega_0 = 1$ down to $\omega_{n-1} = 1/\Lambda$; people take $\Lambda = 10^4$.
#
# ### Exercise 3 · A clock with many hands
# *15 minutes · medium · Eq. (4.4).* For a batch of positions. `dim` is even, $n$ is half of it, and `longest` is
# $\Lambda$.


# %% tags=["exercise"] exercise="04.embedding" points=2
# Exercise 04.embedding
def embedding(position: Tensor, dim: int, longest: float) -> Tensor:
    """The e(p) of Eq. (4.4) for positions (b,), as (b, dim): the cosines first."""
    ### BEGIN SOLUTION
    n = dim // 2
    frequency = longest ** (-torch.arange(n) / (n - 1))
    angle = position[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# All angles at once: `position[:, None]` is `(b, 1)`, the frequencies are `(n,)`, their product is `(b, n)`. Then
# cosines and sines side by side, `torch.cat(..., dim=1)`.
# </details>

# %% tags=["check"]
check("04.embedding", embedding)

# %% [markdown]
# Why waves? Compare two positions by the inner product of their vectors. With
# $\cos a \cos b + \sin a \sin b = \cos(a - b)$
#
# $$\frac{e(p)\cdot e(q)}{n} = \frac1n\sum_i \cos\bigl(\omega_i\,(p - q)\bigr) \;\approx\;
# 1 - \frac{\ln |p - q| + \gamma}{\ln \Lambda}, \qquad \gamma = 0.577\dots \tag{4.5}$$
#
# The sum depends on the *difference* alone: the code is equally fine everywhere. The approximation is for
# $1 \ll |p - q| \ll \Lambda$: hands slower than the difference still agree and count 1, faster ones point anywhere
# and count 0. The frequencies are spread evenly in their logarithm, so the share that agrees falls with the logarithm
# of the difference. And exactly, with many hands: the sum is $\int_0^1 \cos(d\,\Lambda^{-x})\,dx$ with $d = |p - q|$. Put
# $y = d\,\Lambda^{-x}$, so $dx = -dy/(y \ln\Lambda)$, and it is
# $\frac1{\ln\Lambda}\int_{d/\Lambda}^{d} \frac{\cos y}{y}\,dy$, a difference of two cosine integrals,
# $\bigl[\mathrm{Ci}(d) - \mathrm{Ci}(d/\Lambda)\bigr]/\ln\Lambda$. For large $d$ the first is nearly 0; for small $d/\Lambda$ the
# second is $\gamma + \ln(d/\Lambda)$, with Euler's constant $\gamma$. That is (4.5).

# %%
# Eq. (4.5)
gap = torch.logspace(0, 3.5, 200)


def likeness(p: float, dim: int) -> Tensor:
    """e(p) · e(p + gap) / n for each gap."""
    here = sinusoidal_embedding(torch.tensor([p]), dim)[0]
    return sinusoidal_embedding(p + gap, dim) @ here / (dim / 2)


alike = likeness(0.0, 128)
assert torch.allclose(alike, likeness(-300.0, 128), atol=1e-3)  # p - q alone counts
rule = 1 - (gap.log() + 0.5772) / torch.tensor(10_000.0).log()
off = likeness(0.0, 8192) - rule  # with very many hands
assert off[(gap > 5) & (gap < 1000)].abs().max() < 0.03

# %% tags=["figure", "fold"]
# @title The embedding, and how alike two positions are
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.7))
p = torch.linspace(-480, 460, 500)
image = left.imshow(
    sinusoidal_embedding(p, 128).T,
    aspect="auto",
    extent=(-480, 460, 128, 0),
    cmap="RdBu",
    vmin=-1,
    vmax=1,
)
left.set(
    xlabel=r"position $p = 50\,\lambda_t$",
    ylabel="element",
    title="64 cosines, 64 sines",
)
right.semilogx(gap, alike, label="inner product / n")
right.semilogx(gap, rule, "--", color=BLACK, lw=1, label="rule (4.5)")
right.set(xlabel="|p - q|", ylabel="how alike", ylim=(-0.1, 1))
right.legend()
show(
    figure,
    "Left: the embedding as stripes, fine at the top of each half and broad at the "
    "bottom. Right: how alike two embeddings are falls "
    "from nearly 1 at distance 1 along a straight line on a log axis, to one fifth at "
    "distance 1000.",
)

# %% [markdown]
# Neighbours are nearly the same vector, distant levels nearly orthogonal, and every scale of difference has its
# share. A small network on top can then form whatever function of the noise level it likes.
#
# *What to do with it?* Think of one channel of the network as a detector: a convolution asks "is there an edge
# here?", and the activation passes what is above zero. With more noise the question should be asked more softly (a
# **scale**), and the bar should be higher (a **shift**), since noise alone looks like an edge now and then. So let
# the vector set both, for each channel $c$ of each image:
#
# $$h'_{c}(i, j) = \bigl(1 + a_c(t)\bigr)\, h_{c}(i, j) + b_c(t). \tag{4.6}$$
#
# This is FiLM (feature-wise linear modulation). Why the 1? $a$ and $b$ come from a linear layer that starts at zero.
# With the 1 the network starts as if there were no time, and learns to use it; without it, it starts by multiplying
# every channel by zero, and no gradient passes through.
#
# ### Exercise 4 · Scale and shift
# *10 minutes · easy · Eq. (4.6).* One scale and one shift per image and channel.


# %% tags=["exercise"] exercise="04.film" points=1
# Exercise 04.film
def film(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Eq. (4.6). h: (b, c, height, width); scale, shift: (b, c)."""
    ### BEGIN SOLUTION
    return (1 + scale[:, :, None, None]) * h + shift[:, :, None, None]
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `scale[:, :, None, None]` has shape `(b, c, 1, 1)`: one number for all pixels of a channel.
# </details>

# %% tags=["check"]
check("04.film", film)

# %% [markdown]
# The course's `denoisers.PlainCNN` is section 1's stack with (4.4) and (4.6) in it; its last layer starts at zero,
# too. What does the time cost?

# %%
# Eq. (4.6)
plain, timed = (
    denoisers.PlainCNN(channels=1, width=32, depth=6, time=time)
    for time in (False, True)
)
print(denoisers.compare({"not told t": plain, "told t": timed}, (1, 28, 28)))
costs = [denoisers.describe(network, (1, 28, 28)) for network in (plain, timed)]
assert [c.receptive_field for c in costs] == [13, 13]
assert costs[1].flops < 1.01 * costs[0].flops

# %% [markdown]
# The number of weights nearly doubles, the arithmetic grows by less than one per cent: the vector is made once an
# image, not once a pixel.
#
# ## 4 · The right sizes
#
# Layers are initialised for inputs of variance 1, and one learning rate suits all times only if the targets are of
# one size as well. With pixels of mean $\mu$ and variance $s^2$, $x_t$ has mean $\alpha_t\mu$ and variance
# $\alpha_t^2 s^2 + \sigma_t^2$. So the network is shown
#
# $$\frac{x_t - \alpha_t\,\mu}{\sqrt{\alpha_t^2 s^2 + \sigma_t^2}}. \tag{4.7}$$
#
# And its answer $F$? Do not ask for what is known already. Give it a head start, a line through each pixel, and let
# it say what the line misses:
#
# $$\hat x_0 = \mu + c_\text{skip}\,(x_t - \alpha_t\mu) - c_\text{out}\,F. \tag{4.8}$$
#
# What the line misses is $(1 - c_\text{skip}\,\alpha_t)(x_0 - \mu) - c_\text{skip}\,\sigma_t\epsilon$, of variance
# $(1 - c_\text{skip}\,\alpha_t)^2 s^2 + c_\text{skip}^2\,\sigma_t^2$. Make it as small as possible (derivative zero),
# and let $c_\text{out}$ be its root, so that $F$ has variance 1:
#
# $$c_\text{skip} = \frac{\alpha_t s^2}{\alpha_t^2 s^2 + \sigma_t^2}, \qquad
# c_\text{out} = \frac{s\,\sigma_t}{\sqrt{\alpha_t^2 s^2 + \sigma_t^2}}. \tag{4.9}$$
#
# The line is our old friend (3.12). Where $\sigma_t$ is small, so is $c_\text{out}$: **whatever nonsense an $F$ of size 1
# is, it can hardly harm an almost clean picture.** (With $\mu = 0$ and $s = 1$, $F$ is the velocity $v$ of lesson 03.)
#
# ### Exercise 5 · From F to the picture
# *15 minutes · medium · Eqs. (4.8) and (4.9).* One $t$ for each picture, shapes as in lesson 01: points `(b, d)` must be
# served too. $\alpha_t^2$ is `alpha_bar[t]`.


# %% tags=["exercise"] exercise="04.precondition" points=2
# Exercise 04.precondition
def x0_from_F(
    x_t: Tensor, F: Tensor, t: Tensor, alpha_bar: Tensor, mean: float, std: float
) -> Tensor:
    """Eq. (4.8). x_t, F: (b, …); t: (b,); alpha_bar: (T + 1,);
    mean, std: of the data's pixels."""
    ### BEGIN SOLUTION
    a = alpha_bar[t].reshape(-1, *[1] * (x_t.ndim - 1))
    variance = a * std**2 + 1 - a
    line = mean + a.sqrt() * std**2 / variance * (x_t - a.sqrt() * mean)
    return line - std * ((1 - a) / variance).sqrt() * F
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Call the variance of $x_t$, `a * std**2 + 1 - a`, by a name: it is used twice. $\sigma_t$ is the root of `1 - a`.
# </details>

# %% tags=["check"]
check("04.precondition", x0_from_F)

# %% [markdown]
# The course's `denoisers.Denoiser` wraps a network in (4.7) and (4.8). Are the sizes right? On 5,000 digits, at
# twelve times:

# %%
# Eq. (4.7)
wrapped = denoisers.Denoiser(timed, schedule, "v", mean, std)
ts = torch.tensor([1, 3, 10, 30, 60, 100, 200, 300, 400, 600, 800, 1000])
eps = forward.noise_like(world, lesson.generator)
shown, wanted, missed = [], [], []
for t in ts.tolist():
    x_t = forward.q_sample(world, t, schedule, eps)
    alpha, (c_in, c_skip, _) = schedule.coeffs(t)[0].float(), wrapped.scales(x_t, t)
    shown.append((c_in * (x_t - alpha * mean)).square().mean().sqrt())
    # Eq. (4.9)
    missed.append((mean + c_skip * (x_t - alpha * mean) - world).square().mean().sqrt())
    wanted.append(wrapped.target(world, eps, t).square().mean().sqrt())
c_out = [wrapped.scales(world[:1], t)[2].item() for t in ts.tolist()]
assert all(abs(size - 1) < 0.01 for size in shown + wanted)
assert torch.allclose(torch.stack(missed), torch.tensor(c_out), rtol=0.01)

# %% tags=["figure", "fold"]
# @title Sizes of input, target and error
figure = plt.figure(figsize=(6.5, 2.7))
plt.loglog(ts, shown, "o-", ms=4, label="input (4.7)")
plt.loglog(ts, wanted, "s--", ms=4, label="target F")
plt.loglog(ts, missed, "^", ms=5, color=GREEN, label="what the line misses")
plt.loglog(ts, c_out, color=BLACK, lw=1, label=r"$c_\mathrm{out}$ (4.9)")
plt.gca().set(xlabel="t", ylabel="size (rms)")
plt.legend(fontsize=8)
show(
    figure,
    "Sizes against t on log axes: scaled input and target F stay at one; what the "
    "line misses lies on c_out, from 0.01 at t = 1 to 0.6.",
)

# %% [markdown]
# (On this schedule $x_t$ has nearly the right size by itself. Others let $\sigma_t$ grow, in Karras et al. to 80;
# there it is (4.7) that keeps the input in bounds. Here the output is what gains.)
#
# From here on the error is quoted in units of the line's, $c_\text{out}^2$. So **1 is what the best line through each
# pixel reaches, and what counts is how far below 1 a network comes.** In these units every time counts alike; the
# loss of (4.3) becomes
#
# $$L = \mathbb E\,\frac{\lVert x_0 - \hat x_0(x_t, t)\rVert^2}{c_\text{out}^2} = \mathbb E\,\lVert F^* - F\rVert^2, \qquad
# \frac1{c_\text{out}^2} = \mathrm{SNR}(t) + \frac1{s^2}, \tag{4.10}$$
#
# where $F^*$ is the target.
#
# ## 5 · Against the truth
#
# First in a world that we know. A picture is a cloth with stripes, lying or standing, with equal probability: a
# mixture of two Gaussians in 144 dimensions. Its $\mathbb E[x_0 \mid x_t]$ is (3.13). The network is not told any of
# that; it sees 8,000 cloths, each once. The loop is that of section 2, with the loss (4.10), a learning rate that
# rises and falls, and half precision where the machine has it (lesson 07 has the details).


# %%
# Eq. (4.10)
class Done(NamedTuple):
    step: int
    loss: float


def learn(
    denoiser: denoisers.Denoiser, draw: Callable[[int], Tensor], batch: int, steps: int
) -> Iterator[Done]:
    """The ten lines for any denoiser and any world."""
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, steps, cycle_momentum=False
    )
    for step in range(1, steps + 1):
        x_0 = draw(batch).to(lesson.device, memory_format=torch.channels_last)
        t = torch.randint(1, 1001, (batch,), generator=lesson.generator)
        eps = forward.noise_like(x_0, lesson.generator)
        half = lesson.dtype == torch.bfloat16
        with torch.autocast(lesson.device.type, torch.bfloat16, enabled=half):
            each = losses.denoising_loss(
                denoiser, x_0, t, schedule, eps, data_std=denoiser.data_std
            )
            loss = each.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        rate.step()
        yield Done(step, loss.item())


def make(time: bool, mean: float = 0.0, std: float = 1.0) -> denoisers.Denoiser:
    """Six layers of 32 channels as a denoiser, on the lesson's device."""
    network = denoisers.PlainCNN(1, width=32, depth=6, time=time)
    denoiser = denoisers.Denoiser(network, schedule, "v", mean, std)
    return denoiser.to(lesson.device, memory_format=torch.channels_last)


# %% [markdown]
# Some cloths, and then the training.

# %%
cloths = GaussianMixture(
    torch.zeros(2, 1, 12, 12).double(), torch.stack([cloth(12, 1, 8), cloth(12, 8, 1)])
)

# %% tags=["figure", "fold"]
# @title Eight cloths
show(
    image_grid(cloths.sample(8, lesson.generator) / 2.5, size=0.8),
    "Eight random textures, striped across or down.",
)


# %% tags=["widget", "open"]
def weave(n: int) -> Tensor:
    """n cloths."""
    return cloths.sample(n, lesson.generator).float()


on_cloth = make(time=True)
for _ in widgets.watch(
    learn(on_cloth, weave, 32, 250), steps=250, label="cloths, told t"
):
    pass

# %% [markdown]
# By (3.6), the error of any denoiser is the error of the best one *plus* its squared distance from the best one. The
# distance is what we measure: it has no luck of the draw in it.


# %%
def from_the_best(
    denoiser: Callable[..., Tensor], x_t: Tensor, t: int, best: Tensor
) -> float:
    """Mean squared distance from the exact answer, in units of the line's error."""
    with torch.no_grad():
        x0_hat = denoiser(x_t.float().to(lesson.device), t).cpu().double()
    return ((x0_hat - best).square().mean() / line_error(t)).item()


def line_error(t: int, std: float = 1.0) -> Tensor:
    """c_out², the error of the best line through one pixel."""
    alpha, sigma = schedule.coeffs(t)
    return std**2 * sigma**2 / (alpha**2 * std**2 + sigma**2)


test_t = [1, 3, 10, 30, 60, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
x_0 = cloths.sample(64, lesson.generator)
noisy_cloths = {
    t: forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    for t in test_t
}
best = {t: cloths.denoise(x_t, t, schedule) for t, x_t in noisy_cloths.items()}
least = torch.stack([(best[t] - x_0).square().mean() / line_error(t) for t in test_t])
excess = torch.tensor(
    [from_the_best(on_cloth, noisy_cloths[t], t, best[t]) for t in test_t]
)
varies(
    f"on average {excess.mean() / (1 - least).mean():.0%} of what there is to gain "
    "over the line is missed"
)
assert excess.mean() < 0.35 * (1 - least).mean()  # six seeds missed 21 to 25 %

# %% tags=["figure", "fold"]
# @title Error on cloths, against the best there is
figure = plt.figure(figsize=(6.5, 2.8))
plt.axhline(1, color=BLACK, lw=1, ls=":", label="best line through one pixel")
plt.plot(test_t, least + excess, "o-", ms=4, color=BLUE, label="network, told t")
plt.plot(test_t, least, "--", color=BLACK, label="the best there is (3.13)")
plt.gca().set(xlabel="t", ylabel="error / the line's error", ylim=(0, 1.1))
plt.legend(fontsize=8, loc="lower right")
show(
    figure,
    "Error on textures against t, in units of the line's: the best possible falls to "
    "a half between t = 200 and 300 and rises to one; "
    "the network's curve lies a little above it.",
)

# %% [markdown]
# Nobody told it about stripes. It has found a good part of the way to the formula from examples alone. Now digits, of
# which no formula exists.


# %% tags=["widget", "open"]
def some_digits(n: int) -> Tensor:
    """n of the training digits."""
    chosen = torch.randint(len(digits), (n,), generator=lesson.generator)
    return normalize(digits[chosen])


with_t = make(True, mean, std)
for _ in widgets.watch(
    learn(with_t, some_digits, 16, 250), steps=250, label="digits, told t"
):
    pass

# %% [markdown]
# And the widely copied mistake, the same network, wrapped and trained in the same way, whose layers are not told $t$:

# %% tags=["widget", "open"]
without_t = make(False, mean, std)
for _ in widgets.watch(
    learn(without_t, some_digits, 16, 250), steps=250, label="digits, not told"
):
    pass

# %% [markdown]
# Judge them, and the first network of section 2, on 64 digits that none has seen, with the same noise for all.

# %%
noisy_digits = {
    t: forward.q_sample(
        held_out, t, schedule, forward.noise_like(held_out, lesson.generator)
    )
    for t in test_t
}


def quality(answer: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Mean squared error on the held-out digits at each of the test times, in units of
    the line's."""
    with torch.no_grad():
        errors = [
            (answer(x_t, t) - held_out).square().mean().cpu() / line_error(t, std)
            for t, x_t in noisy_digits.items()
        ]
    return torch.stack(errors)


told, blind = quality(with_t), quality(without_t)
first = quality(lambda x_t, t: copied(x_t))
varies(
    f"averaged over these times: told t {told.mean():.3f}, not told "
    f"{blind.mean():.3f}, section 2 {first.mean():.0f}"
)
assert told.mean() < 0.65  # three seeds: 0.51 to 0.53
assert told.mean() < blind.mean()

# %% tags=["figure", "fold"]
# @title Error on held-out digits: three networks
figure = plt.figure(figsize=(7, 3.2))
plt.axhline(1, color=BLACK, lw=1, ls=":", label="best line through one pixel")
plt.loglog(
    test_t,
    first,
    "^-",
    ms=4,
    color=GREEN,
    label="section 2: three layers, nothing told",
)
plt.loglog(
    test_t, blind, "s-", ms=4, color=ORANGE, label="six layers, right sizes, not told t"
)
plt.loglog(test_t, told, "o-", ms=4, color=BLUE, label="the same, told t")
plt.gca().set(xlabel="t", ylabel="error / the line's error", ylim=(0.1, 1500))
plt.legend(fontsize=8)
show(
    figure,
    "Error on held-out digits against t on log axes, in units of the line's. The "
    "first network is hundreds of times worse than the line "
    "at t = 1. The other two stay below one everywhere; the one that is told t is "
    "lower, most between t = 10 and 300.",
)

# %% [markdown]
# One pair of eyes is worth many curves. Slide $t$:


# %% tags=["fold", "widget"]
# @title A held-out digit, at any t
def compare_answers(t: int, index: int) -> plt.Figure:
    """x_t, both answers and the truth, for one held-out digit."""
    x_0 = held_out[index : index + 1]
    x_t = forward.q_sample(
        x_0, t, schedule, forward.noise_like(x_0, torch.Generator().manual_seed(index))
    )
    with torch.no_grad():
        pictures = [x_t, with_t(x_t, t), without_t(x_t, t), x_0]
    titles = ["$x_t$", "told t", "not told t", "truth"]
    off = [f", off by {(p - x_0).square().mean().sqrt():.3f}" for p in pictures[1:3]]
    return image_grid(
        torch.cat(pictures),
        titles=[n + o for n, o in zip(titles, ["", *off, ""], strict=True)],
        size=1.9,
    )


explore(
    compare_answers,
    alt="A noisy held-out digit, the answers of the network that is told t and of the "
    "one that is not, and the truth.",
    t=slider("t", 1, 1000, 200),
    index=slider("digit", 0, 63, 0),
)

# %% [markdown]
# The same at four times, for a page without a running kernel. The last two columns show what the answers get wrong,
# enlarged as far as the line's error allows:

# %% tags=["figure", "fold"]
# @title Answers and errors at four times
rows, shown_t = [], [10, 100, 300, 600]
x_0 = held_out[2:3]
for t in shown_t:
    x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    with torch.no_grad():
        pair = [with_t(x_t, t), without_t(x_t, t)]
    rows += [
        x_t,
        *pair,
        *((p - x_0) / (3 * line_error(t, std).sqrt().item()) for p in pair),
    ]
show(
    image_grid(
        torch.cat(rows),
        columns=5,
        titles=["$x_t$", "told t", "not told t", "error, told", "error, not told"],
        row_labels=[f"t = {t}" for t in shown_t],
        size=1.0,
    ),
    "A digit at four noise levels with both answers and their errors. Most answers "
    "look alike; the errors of the network that is "
    "not told t are stronger, above all in the background.",
)

# %% [markdown]
# Most of the answers look alike. **A network that ignores $t$ still works, which is why nobody notices.** The errors
# differ.
#
# ## 6 · What usually goes wrong
#
# **(a) The network ignores t.** How much should it cost? The argument of (3.6) does not care what is unknown: whoever
# is not told $t$ does best with the average over all $t$ that are possible, given what is seen. For the target $F^*$,
#
# $$F_\text{blind}(x) = \sum_t q(t \mid x)\;\mathbb E[F^* \mid x, t], \qquad q(t \mid x) \propto q(x_t = x),$$
#
# $$\text{cost at } t = \mathbb E\,\bigl\lVert F_\text{blind}(x_t) - \mathbb E[F^* \mid x_t, t]\bigr\rVert^2. \tag{4.11}$$
#
# So everything depends on how well $x_t$ *betrays* its $t$. Take the worst world: pictures that are white noise of
# variance 1 themselves. Then $x_t$ is white noise of variance 1 at every $t$ and betrays nothing, however many pixels
# there are. A blind network that answers with $x_0$ has to average the right answers $\alpha_t x_t$ into
# $\langle\alpha\rangle\,x_t$, where $\langle\alpha\rangle$ is the mean of all $\alpha_t$. It pays, in each pixel,
#
# $$\mathbb E\,\bigl(\langle\alpha\rangle\,x_t - \alpha_t\,x_t\bigr)^2 = (\alpha_t - \langle\alpha\rangle)^2 , \tag{4.12}$$
#
# at the two *ends*: near $t = 0$ more than a third of the picture's variance, for a picture that was almost clean.
# (Right sizes help: with (4.8) the line is told $t$ even if the network is not. In this world the line is everything,
# $F^* $ averages to 0 at every $t$, and the cost is gone.)
#
# The other extreme is a picture with a flat background. There the grain can be measured: the standard deviation of
# $n$ noisy pixels is known to one part in $\sqrt{2n}$. Our cloths lie in between. For them (4.11) can be computed,
# with $\mathbb E[F^* \mid x, t]$ from (3.13) and $q(x_t)$ from the same mixture.

# %%
# Eq. (4.12)
white, n = Gaussian(torch.zeros(1, 4, 4).double(), 1.0), 4000
alphas = schedule.coeffs(torch.arange(1, 1001))[0]
for t in (1, 300, 1000):
    x_0 = white.sample(n, lesson.generator)
    x_t = forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, lesson.generator))
    paid = (alphas.mean() * x_t - white.denoise(x_t, t, schedule)).square().mean()
    predicted = (alphas[t - 1] - alphas.mean()) ** 2
    assert abs(paid / predicted - 1) < 4 * (2 / (16 * n)) ** 0.5  # 4 standard errors
print(
    f"white pictures: the blind one pays {(1 - alphas.mean()) ** 2:.2f} of their "
    "variance at t = 1"
)

# %%
# Eq. (4.11)
# Stand for all times: each of the early ones, then every tenth.
every = [*range(1, 20), *range(20, 1001, 10)]
stands_for = torch.tensor([1.0] * 19 + [10.0] * 99)[:, None]


def F_star(x_t: Tensor, t: int) -> Tensor:
    """E[F* | x_t, t] of the cloths: here mu = 0 and s = 1, so F is v."""
    alpha, sigma = schedule.coeffs(t)
    return (alpha * x_t - cloths.denoise(x_t, t, schedule)) / sigma


def F_blind(x: Tensor) -> Tensor:
    """The average of E[F* | x, t] over the times that x could be from."""
    log_q = torch.stack([cloths.log_prob(x, t, schedule) for t in every])
    q = torch.softmax(log_q + stands_for.log(), 0)
    return torch.einsum("tb,tbchw->bchw", q, torch.stack([F_star(x, t) for t in every]))


unavoidable = torch.stack(
    [(F_blind(x_t) - F_star(x_t, t)).square().mean() for t, x_t in noisy_cloths.items()]
)
varies(
    f"cloths: the best blind answer pays at most {unavoidable.max():.3f} of the "
    "line's error at any of these t"
)

# %% [markdown]
# On cloths, the ideal blind observer pays little. What does a blind *network* pay there?

# %% tags=["widget", "open"]
blind_on_cloth = make(time=False)
for _ in widgets.watch(
    learn(blind_on_cloth, weave, 32, 250), steps=250, label="cloths, not told"
):
    pass

# %%
blind_excess = torch.tensor(
    [from_the_best(blind_on_cloth, noisy_cloths[t], t, best[t]) for t in test_t]
)

# %% tags=["figure", "fold"]
# @title The price of not being told t
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3))
left.semilogx(
    test_t, blind_excess, "s-", ms=4, color=ORANGE, label="network, not told t"
)
left.semilogx(test_t, excess, "o-", ms=4, color=BLUE, label="network, told t")
left.semilogx(
    test_t, unavoidable, "--", color=BLACK, label="unavoidable without t (4.11)"
)
left.set(xlabel="t", ylabel="distance from the best answer", title="Cloths")
left.legend(fontsize=8)
right.semilogx(test_t, blind / told - 1, "s-", ms=4, color=ORANGE)
right.yaxis.set_major_formatter("{x:.0%}")
right.axvline(guess.value, color=BLACK, lw=1, ls="--")
where = {
    "transform": right.get_xaxis_transform(),
    "rotation": 90,
    "ha": "right",
    "va": "top",
}
right.text(guess.value * 0.95, 0.97, "your guess", fontsize=8, **where)
right.axhline(0, color=BLACK, lw=1, ls=":")
right.set(
    xlabel="t", ylabel="additional error", title="Digits: the price of not being told t"
)
show(
    figure,
    "Left: distance from the best answer on textures. The unavoidable cost of not "
    "knowing t is small; the network that is not told "
    "pays more than the one that is told at every t. Right: on digits the additional "
    "error is largest between t = 10 and 300, and "
    "a tenth at most from 500 on.",
)

# %% [markdown]
# On the right, where was your guess? In numbers:

# %%
price = dict(zip(test_t, blind / told - 1, strict=True))
varies(
    "additional error on digits: "
    + ", ".join(f"t = {t}: {p:.0%}" for t, p in price.items())
)
# These are evenly spread over the times:
in_pixels = torch.stack([line_error(t, std) for t in test_t if t >= 100])
average = (in_pixels * blind[-10:]).sum() / (in_pixels * told[-10:]).sum() - 1
varies(f"additional mean squared error of the picture, averaged over t: {average:.0%}")
assert average < max(price.values()) / 2
assert (blind_excess > excess).float().mean() > 0.8
assert (excess < unavoidable)[-2:].all()  # held at six seeds
early = sum(price[t] for t in (10, 30, 60, 100, 200, 300)) / 6
assert early > 2 * max(price[t] for t in (500, 600, 700))

# %% [markdown]
# So a picture of some size betrays its noise, and on the cloths an ideal observer would not miss $t$ much. **The network
# pays far more.** A likely reason: it must measure the noise, out of $13 \times 13$ pixels, before it can take it away.
# (Not the only one: the network that is told has more weights, too, and both stopped early. At
# $t \ge 900$ the cloths show the other side: there the network that is told errs less than the *ideal* blind one.) On
# digits the price is highest where there is something to win, between $t = 10$ and 300: there grain must be told from
# the edges of strokes. At $t = 1$ the line does nearly all the work, and from 500 on, where all answers are blurs, the
# price is about a tenth, or less. An average over all $t$ is mostly blurs, and hides it. The price of telling $t$ was less
# than one per cent of arithmetic.
#
# **(b) A bounded output.** "Pixels lie in $[-1, 1]$, so end in tanh"; "every layer gets a ReLU". But targets are not
# pixels. Noise is unbounded: 32 % of it lies beyond $\pm 1$, and half of it below 0. An output that is confined to an
# interval $I$ can at best give the point of $I$ nearest to the target $z$. So no training gets below
# $\mathbb E\,\mathrm{dist}(z, I)^2$. For $z \sim \mathcal N(0, 1)$, with density $\phi$ and upper tail $Q$,
#
# $$\text{tanh: } 2\int_1^\infty (z - 1)^2 \phi(z)\,dz = 4\,Q(1) - 2\,\phi(1) = 0.151, \qquad
# \text{ReLU: } \int_{-\infty}^0 z^2 \phi(z)\,dz = \tfrac12 . \tag{4.13}$$
#
# (By parts: $z\,\phi = -\phi'$.) That holds at every $t$, even where the noise is as plain as day: at $t = 1000$ it
# *is* the picture, and a network has only to copy. Let three small networks learn just that.

# %%
# Eq. (4.13)
normal, one = torch.distributions.Normal(0.0, 1.0), torch.tensor(1.0)
floors = {"linear": 0.0, "ReLU": 0.5}
upper_tail, density = normal.cdf(-one), normal.log_prob(one).exp()
floors["tanh"] = (4 * upper_tail - 2 * density).item()
z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
weight = torch.exp(-(z**2) / 2) / (2 * torch.pi) ** 0.5 * 1e-4
for name, nearest in {"tanh": z.clamp(-1, 1), "ReLU": z.clamp(min=0)}.items():
    assert abs((weight * (z - nearest) ** 2).sum() - floors[name]) < 1e-6
beyond = 2 * normal.cdf(torch.tensor(-1.0)).item()
print(
    f"beyond ±1: {beyond:.0%} of the noise; floors: {floors['tanh']:.4f} for tanh, "
    f"{floors['ReLU']:.4f} for ReLU"
)

# %% [markdown]
# The formulas agree with the integrals. Now the networks, which are alike but for their ends:

# %%
ends = {"linear": nn.Identity(), "tanh": nn.Tanh(), "ReLU": nn.ReLU()}
traces = {}
for name, end in ends.items():
    network = nn.Sequential(stack(1, 16, 16, 1, activation=nn.SiLU), end).to(
        lesson.device
    )
    optimizer, traces[name] = torch.optim.AdamW(network.parameters(), lr=5e-3), []
    for _ in range(250):
        x_0 = some_digits(8).to(lesson.device)
        eps = forward.noise_like(x_0, lesson.generator)
        x_T = forward.q_sample(x_0, 1000, schedule, eps)
        loss = (network(x_T) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        traces[name].append(loss.item())
    final = sum(traces[name][-50:]) / 50
    varies(f"{name}: {final:.4f} at the end; the floor is {floors[name]:.4f}")
    # 50 steps of 6,272 pixels: 2 % are over three standard errors.
    assert final > 0.98 * floors[name]
assert sum(traces["linear"][-50:]) / 50 < 0.03  # six seeds: 0.003 to 0.005

# %% tags=["figure", "fold"]
# @title The loss of three last layers
figure = plt.figure(figsize=(6.5, 2.8))
for (name, trace), colour in zip(traces.items(), (BLUE, ORANGE, GREEN), strict=True):
    plt.semilogy(trace, color=colour, lw=1.2, label=name)
    plt.axhline(max(floors[name], 1e-9), color=colour, lw=1, ls="--")
plt.gca().set(xlabel="step", ylabel="error of the noise", ylim=(1e-3, 2))
plt.legend(title="last layer", fontsize=8)
show(
    figure,
    "Loss against step for three last layers, log axis. Linear falls below 0.01; tanh "
    "and ReLU come down to their floors, dashed, at 0.15 and 0.5, or nearly, and stay "
    "there.",
)

# %% [markdown]
# The two bounded ones learn what they can, and stop at the floor or a little above. And if the network predicts the picture? Pixels do
# lie in $[-1, 1]$, and there tanh can reach every target but the two that digits mostly consist of, $-1$ and $1$, at
# which it is flat. Scale the pixels to variance 1, and many are out of reach again (as is section 4's target, which has
# noise in it):

# %%
unit = (world - mean) / std
lost = (unit - unit.clamp(-1, 1)).square().mean().item()
print(
    f"digits of variance 1: {(unit.abs() > 1).float().mean():.0%} of the pixels "
    f"beyond ±1; floor for tanh: {lost:.2f}"
)
assert lost > 0.2

# %% [markdown]
# **End in a plain layer.** If pictures must lie in a range, clip the finished picture.
#
# ## 7 · The answer
#
# One small network can remove every amount of noise if three things are taken off its hands. It is *told* the noise
# level, so that it need not spend itself on finding out. Its inputs, and the answers expected of it, are *of one
# size*. And it gets a *head start*: the line through each pixel is done for it, so that at small $t$ it has almost
# nothing to do and at large $t$ it need not shout.
#
# It also has two limits that none of this removes. It sees 13 pixels across, and (4.2) says what that costs where the
# noise is strong. And it is small.
#
# ### In your own words
# *Manually graded, about three lines.* A friend finds that the mean squared error, averaged over all $t$, grows by
# a mere tenth when `t` is taken out of a network, and concludes that `t` is useless. Where does the network get the
# noise level from without it? And what would you ask your friend to plot?

# %% [markdown] tags=["manual"] question="04.own_words" points=2
# ### BEGIN SOLUTION
# From the picture itself: the grain of flat regions shows how strong the noise is, and many pixels tell it precisely,
# so the average over the possible $t$ is close to the answer for the true one. But the network must spend layers on
# that measurement. An average over all $t$ is mostly made of large errors at large $t$ and hides where it fails. Plot
# the error against $t$, with and without $t$, in units of what a line through one pixel leaves: most is lost
# between $t = 10$ and 300.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: the noise level can be estimated from the noisy picture (grain, flat areas, many pixels). One
# point: asks for the error *by noise level*, relative to a sensible unit, or says that the average hides the cost at
# smaller $t$.

# %% [markdown]
# ## Summary
#
# * A stack of 3 × 3 convolutions sees $2L + 1$ pixels across, (4.1); what that costs can be computed, (4.2). Strong
#   noise wants a wide view.
# * Ten lines train it, (4.3).
# * Time goes in as waves of the log-SNR, (4.4), and acts as a scale and a shift per channel, (4.6).
# * Inputs and targets of variance 1, and a line as a head start, (4.7) to (4.9): then no time is neglected, and a
#   clean picture is safe.
# * Without $t$ a network averages over the times that are possible, (4.11). An observer of many pixels loses little;
#   a small network pays, most between $t = 10$ and 300.
# * The output is unbounded, since the targets are, (4.13).

# %%
progress("04")

# %% [markdown]
# ## References
#
# * Vaswani et al.: *Attention Is All You Need*, 2017. Section 3.5 has the waves, for positions in a sentence.
# * Perez, Strub, de Vries, Dumoulin, Courville: *FiLM: Visual Reasoning with a General Conditioning Layer*, 2018. Our
#   (4.6).
# * Karras, Aittala, Aila, Laine: *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022. Our (4.7)
#   to (4.9) are its Eq. (7) and Table 1 with an $\alpha_t$ and a mean, and with the sign of $F$ turned, so that it can be $v$.
# * Salimans, Ho: *Progressive Distillation for Fast Sampling of Diffusion Models*, 2022. The weight of (4.10), for
#   $s = 1$.
# * Zhang, Zuo, Chen, Meng, Zhang: *Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising*,
#   2017. A plain convolutional denoiser, one for many noise levels, before diffusion.
# * Luo, Li, Urtasun, Zemel: *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*,
#   2016. Why the corners of the square count so little.
#
# **Next:** what does a denoiser *know*? Lesson 05 builds one that squeezes its picture through a bottleneck, and
# finds a score in it.
