# %% [markdown]
# # 06 · Attention and the U-Net
#
# *You will write self-attention, find out what each of its parts is for by leaving it out, count what it costs, and put
# together the network that most diffusion models use. About 75 minutes to read and run, 65 to solve its five
# exercises.*

# %% tags=["fold"]
# @title Imports, a schedule
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import denoisers, forward, schedules, widgets
from course_utils.data import load_images, normalize
from course_utils.denoisers.attention import SelfAttention, attend
from course_utils.denoisers.embeddings import sinusoidal_2d
from course_utils.denoisers.layers import zeroed
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
from course_utils.pretrained import load_denoiser
from course_utils.recipes import pixel_moments
from course_utils.runtime import varies
from course_utils.widgets import choice, explore, slider

use_style()
schedule = schedules.linear()

# %% [markdown]
# ## The question
#
# Here is a world of wallpaper. A tile of $4 \times 4$ random pixels is printed four times, and then noise is added, as
# strong as the picture itself.


# %%
def wallpaper(n: int) -> tuple[Tensor, Tensor]:
    """n clean wallpapers x_0 of variance 1, and x = x_0 + noise of variance 1;
    each (n, 1, 8, 8)."""
    tile = torch.randn(n, 1, 4, 4, generator=lesson.generator)
    x_0 = tile.tile(1, 1, 2, 2)
    return x_0, x_0 + forward.noise_like(x_0, lesson.generator)


test_x0, test_x = wallpaper(4000)
tiles = test_x.unflatten(2, (2, 4)).unflatten(4, (2, 4))  # 2 × 2 tiles of 4 × 4
mean_of_four = tiles.mean((2, 4)).tile(1, 1, 2, 2)

# %% tags=["figure", "fold"]
# @title A wallpaper, its noise, and two guesses
rows = [test_x0[:1], test_x[:1], test_x[:1] / 2, 0.8 * mean_of_four[:1]]
show(
    image_grid(
        torch.cat(rows) / 2.5,
        titles=["wallpaper", "with noise", "best from 1 pixel", "best from 4"],
        size=1.6,
    ),
    "A wallpaper of four equal tiles, the same in noise, and two guesses. The one "
    "from single pixels is as noisy as "
    "before. The one from four pixels each looks like the wallpaper.",
)

# %% [markdown]
# Every pixel has three twins, and the nearest is four pixels away. What is a twin worth? Each look at a value adds its
# precision, (3.3). The world knows the value with precision 1, and each noisy look adds one SNR. So after $\ell$ looks the
# pixel's error is
#
# $$\min \mathbb E\,(x_0 - \hat x_0)^2 = \frac{1}{1 + \ell\cdot\mathrm{SNR}}, \qquad \hat x_0 = \frac{\mathrm{SNR}}{1 + \ell\cdot\mathrm{SNR}}\sum_{i=1}^{\ell} x^{(i)}. \tag{6.1}$$
#
# With SNR 1: an error of 1/2 alone, and 1/5 with the twins. **How does a pixel learn what is happening at the other end
# of the image?**
#
# Ask a convolutional network first. The one that tutorials copy has three layers of $3\times3$, and sees 7 pixels
# across (lesson 04): three to each side. *Predict: what error will it reach? How many layers would it need?*


# %% tags=["widget", "open"]
class Step(NamedTuple):
    """What `widgets.watch` shows of a step."""

    step: int
    loss: float


def learn(
    network: nn.Module, steps: int, batch: int = 32, lr: float = 1e-2
) -> Iterator[Step]:
    """Train a network on fresh wallpapers to answer with x_0."""
    optimizer = torch.optim.Adam(network.parameters(), lr)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, pct_start=0.1
    )
    for step in range(1, steps + 1):
        x_0, x = (images.to(lesson.device) for images in wallpaper(batch))
        loss = (network(x) - x_0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        yield Step(step, loss.item())


layers = [
    nn.Conv2d(1, 32, 3, padding=1),
    nn.Conv2d(32, 32, 3, padding=1),
    nn.Conv2d(32, 1, 3, padding=1),
]
cnn = nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2]).to(
    lesson.device
)
for _ in widgets.watch(learn(cnn, 150), 150, label="three convolutions"):
    pass


# %%
def error(network: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Mean squared error on the 4,000 wallpapers kept for tests, and its standard
    error."""
    with torch.no_grad():
        x0_hat = network(test_x.to(lesson.device)).cpu()
    each = (x0_hat - test_x0).square().mean((1, 2, 3))
    return each.mean().item(), (each.std() / len(each) ** 0.5).item()


# Eq. (6.1)
assert abs(error(lambda x: x / 2)[0] - 1 / 2) < 4 * error(lambda x: x / 2)[1]
best = (0.8 * mean_of_four - test_x0).square().mean((1, 2, 3))
assert abs(best.mean() - 1 / 5) < 4 * best.std() / 4000**0.5
cnn_error, spread = error(cnn)
varies(f"three convolutions: {cnn_error:.3f}")
# The lower end is a theorem: it sees no twin.
assert 1 / 2 - 4 * spread < cnn_error < 0.6

# %% [markdown]
# One half, and no training will change that. A fourth layer would just reach the twins, as this world is small. In a
# photo 1,000 pixels wide the other end is 1,000 layers away, and every pixel on the way would have to carry the
# message.
#
# ## 1 · Ask, and be answered
#
# Let every pixel ask every other pixel directly. A pixel holds a vector, its features. From it three linear layers
# make three vectors:
#
# * a **query** $q$: what I am looking for,
# * a **key** $k$: what I can be found by,
# * a **value** $v$: what I have to tell.
#
# Pixel $i$ compares its query with all keys by dot products. A softmax makes weights of them that sum to one. What
# pixel $i$ gets is the average of all values under these weights. With the $n$ queries, keys and values as rows of
# three matrices,
#
# $$\mathrm{attend}(Q, K, V) = \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt d}\right) V, \qquad
# w_{ij} = \frac{e^{q_i\cdot k_j/\sqrt d}}{\sum_{l} e^{q_i\cdot k_l/\sqrt d}}. \tag{6.2}$$
#
# The best guess in (6.1) is of exactly this kind: an average with equal weights on four pixels.
#
# Why the root? Take a query and a key of $d$ independent numbers each, with mean 0 and variance 1, as layers give them
# before they have learned anything. Each product $q_a k_a$ has mean 0 and variance $1 \cdot 1$, and variances add:
#
# $$\operatorname{Var}(q\cdot k) = \sum_{a=1}^{d} \operatorname{Var}(q_a k_a) = d, \qquad
# \operatorname{Var}\left(\frac{q\cdot k}{\sqrt d}\right) = 1. \tag{6.3}$$
#
# Without the root, the differences between logits grow like $\sqrt d$, and the softmax becomes a choice of one.
# *Predict: with $d = 64$ and 64 pixels, how large is the largest weight, with the root and without?*

# %%
# Eq. (6.3)
sizes, largest = [1, 4, 16, 64, 256], {"with the root": [], "without": []}
for d in sizes:
    q, k = (
        torch.randn(500, 64, d, generator=lesson.generator, dtype=torch.float64)
        for _ in range(2)
    )
    dots = q[:, :1] @ k.mT  # 500 queries, 64 keys each
    for name, logits in [("with the root", dots / math.sqrt(d)), ("without", dots)]:
        largest[name].append(logits.softmax(-1).amax(-1).mean())
    # 500 · d independent products, of variance 1 and fourth moment 9:
    products = q[:, 0] * k[:, 0]
    assert abs(products.square().mean() - 1) < 4 * (8 / products.numel()) ** 0.5
assert largest["with the root"][3] < 0.2 < 0.7 < largest["without"][3]

# %% tags=["figure", "fold"]
# @title The largest of 64 weights, with the root and without
figure = plt.figure(figsize=(5.5, 2.6))
for (name, values), colour in zip(largest.items(), (BLUE, ORANGE), strict=True):
    plt.semilogx(sizes, values, "o-", color=colour, label=name)
plt.axhline(1 / 64, color=BLACK, lw=1, ls=":", label="all equal")
plt.gca().set(
    xlabel="d, numbers in a query",
    ylabel="largest of 64 weights",
    ylim=(0, 1),
    xticks=sizes,
)
plt.gca().set_xticklabels(sizes)
plt.legend(fontsize=8)
show(
    figure,
    "The largest of 64 attention weights against d. With the root it stays near a "
    "tenth. Without, it climbs to nine tenths.",
)

# %% [markdown]
# A softmax that has chosen passes almost no gradient: its derivative is $w_i(\delta_{ij} - w_j)$, and that is near zero
# if one weight is near one. The layer would stick to its first, random choice.
#
# ### Exercise 1 · Attention
# *15 minutes · medium · Eq. (6.2).* Any number of batch dimensions in front. `.mT` swaps the last two dimensions of a
# tensor. Mind overflow: in float32 $e^{89}$ is infinite, so (6.2) typed as it stands gives NaN for large logits. Numerator and
# denominator may be divided by the same number, $e^{\max}$ of the row; `torch.softmax` does.


# %% tags=["exercise"] exercise="06.attend" points=2
# Exercise 06.attend
def my_attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Eq. (6.2). q, k, v: (…, n, d); the result too."""
    ### BEGIN SOLUTION
    logits = q @ k.mT / q.shape[-1] ** 0.5  # (…, n, n), a row for each query
    return torch.softmax(logits, dim=-1) @ v
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `q @ k.mT` has one row per query and one column per key. The weights of a query sum to one, so the softmax runs along
# its row, `dim=-1`. $d$ is `q.shape[-1]`.
# </details>

# %% tags=["check"]
check("06.attend", my_attend)

# %% [markdown]
# The course's own is `denoisers.attention.attend`. PyTorch has one too, in one fused kernel. They must agree.

# %%
# Eq. (6.2)
q, k, v = (
    torch.randn(2, 3, 49, 16, generator=lesson.generator, dtype=torch.float64)
    for _ in range(3)
)
difference = (attend(q, k, v) - F.scaled_dot_product_attention(q, k, v)).abs().max()
print("agrees with torch.nn.functional.scaled_dot_product_attention")
assert difference < 1e-6

# %% [markdown]
# **Heads.** One softmax can ask one question. To ask several at a time, cut the $c$ features into $h$ parts of
# $d = c/h$, let each part attend by itself, and join the answers. A last linear layer mixes them:
#
# $$\mathrm{head}_m = \mathrm{attend}(Q_m, K_m, V_m), \qquad y = \bigl[\mathrm{head}_1, \dots, \mathrm{head}_h\bigr]\,W_\text{out}. \tag{6.4}$$
#
# ### Exercise 2 · Splitting heads
# *10 minutes · medium · Eq. (6.4).* From `(b, n, c)` to `(b, heads, n, c/heads)`. Head 0 gets the first $c/h$ features
# of *every* pixel. Careful: `reshape` alone gives this shape as well, and trains, and is wrong: head 0 would get all
# features of the first pixels.


# %% tags=["exercise"] exercise="06.split_heads" points=1
# Exercise 06.split_heads
def split_heads(x: Tensor, heads: int) -> Tensor:
    """(b, n, c) to (b, heads, n, c / heads)."""
    ### BEGIN SOLUTION
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Two moves. Split the last dimension where it is, which gives `(b, n, heads, c / heads)`. Then swap dimensions 1 and 2.
# </details>

# %% tags=["check"]
check("06.split_heads", split_heads)

# %% [markdown]
# That is all there is to `denoisers.attention.SelfAttention`: normalise, three linear layers (in one), split, attend,
# join, mix, and add the result to the input. Here it is by hand, with its own weights, and its attention weights, which
# we shall look at all through this lesson.


# %%
def weights_of(block: SelfAttention, x: Tensor) -> Tensor:
    """The attention weights (b, heads, n, n) of a block whose input is x (b, c,
    height, width)."""
    tokens = block.norm(x).flatten(2).mT  # (b, n, c): the pixels in a row
    q, k, _ = (
        part.unflatten(-1, (block.heads, -1)).transpose(1, 2)
        for part in block.qkv(tokens).chunk(3, dim=-1)
    )
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1)


block = SelfAttention(16, heads=4).double()
block.out.reset_parameters()  # it starts at zero; section 3 says why
x = torch.randn(2, 16, 6, 5, generator=lesson.generator, dtype=torch.float64)
# Eq. (6.4)
values = block.qkv(block.norm(x).flatten(2).mT)[..., 32:]
values = values.unflatten(-1, (4, -1)).transpose(1, 2)
joined = (weights_of(block, x) @ values).transpose(1, 2).flatten(2)
assert torch.allclose(block(x), x + block.out(joined).mT.reshape(x.shape), atol=1e-6)
assert torch.allclose(weights_of(block, x).sum(-1), torch.ones(2, 4, 30).double())

# %% [markdown]
# ## 2 · Where am I?
#
# Shuffle the pixels of a picture by a permutation matrix $P$. The queries, keys and values are shuffled alike, and
# $PQ(PK)^\top = P\,QK^\top P^\top$. The softmax goes row by row and minds no order, and $P^\top P = I$:
#
# $$\mathrm{attend}(PQ, PK, PV) = P \operatorname{softmax}\left(\frac{QK^\top}{\sqrt d}\right) P^\top P\,V = P\,\mathrm{attend}(Q, K, V). \tag{6.5}$$
#
# **Attention sees a bag of pixels.** It does not know who stands beside whom, nor which pixel is a twin. So tell it:
# add to the features of each pixel a vector that says where it lies, a **position embedding**. It can be made of
# sinusoids of row and column, as `sinusoidal_2d` does (it works for every size of picture); or it can be learned, one
# vector for each place.

# %%
# Eq. (6.5)
order = torch.randperm(30, generator=lesson.generator)
place = 3 * sinusoidal_2d(6, 5, 16).double()


def shuffled(x: Tensor) -> Tensor:
    """The pixels of x in another order."""
    return x.flatten(2)[..., order].reshape(x.shape)


assert torch.allclose(block(shuffled(x)), shuffled(block(x)))
before, after = block(shuffled(x) + place), shuffled(block(x + place))
assert not torch.allclose(before, after, atol=1e-2)
print("without positions: shuffling before is shuffling after. With them: it is not")

# %% [markdown]
# Now the wallpaper. One attention block between two linear layers ($1 \times 1$ convolutions, which see one pixel), and
# a learned vector for each place. No convolution looks sideways: all that a pixel hears of others comes through
# attention.


# %% tags=["widget", "open"]
class Looker(nn.Module):
    """Pixels to vectors, plus their places; blocks; and back to pixels."""

    def __init__(self, *blocks: nn.Module, width: int = 32):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, width, 1), nn.Conv2d(width, 1, 1)
        self.place = nn.Parameter(torch.randn(width, 8, 8))
        self.blocks = nn.Sequential(*blocks)

    def embed(self, x: Tensor) -> Tensor:
        return self.first(x) + self.place

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.embed(x)))


looker = Looker(SelfAttention(32, heads=1)).to(lesson.device)
for _ in widgets.watch(learn(looker, 400, lr=2e-2), 400, label="one attention block"):
    pass

# %%
looker_error, _ = error(looker)
varies(f"one attention block: {looker_error:.3f}, three convolutions: {cnn_error:.3f}")
# Less than halfway from the twins' 1/5 to the single pixel's 1/2:
assert looker_error < 0.35
with torch.no_grad():
    embedded = looker.embed(test_x[:256].to(lesson.device))
    weights = weights_of(looker.blocks[0], embedded).mean((0, 1)).cpu()
rows, columns = (
    place.flatten() for place in torch.meshgrid(*[torch.arange(8)] * 2, indexing="ij")
)
twins = (rows[:, None] - rows) % 4 + (columns[:, None] - columns) % 4 == 0
share, itself = weights.masked_fill(~twins, 0).sum(1).mean(), weights.diagonal().mean()
varies(
    f"of its attention a pixel gives {share - itself:.0%} to its three twins, and "
    f"{itself:.0%} to itself"
)
assert share > 0.5  # 4 pixels of 64

# %% tags=["figure", "fold"]
# @title Where three pixels look, and what it is worth
queries = [(1, 1), (3, 6), (6, 2)]
figure, axes = plt.subplots(1, 4, figsize=(10, 2.5), width_ratios=[1, 1, 1, 1.2])
for axis, (row, column) in zip(axes, queries, strict=False):
    picture = axis.imshow(
        weights[8 * row + column].reshape(8, 8), vmin=0, vmax=0.5, cmap="viridis"
    )
    axis.plot(column, row, "x", color="white", ms=9, mew=2)
    axis.set(xticks=[], yticks=[], title=f"pixel ({row}, {column}) asks")
figure.colorbar(picture, ax=axes[2], label="weight")
axes[3].barh(
    ["convolutions", "attention"], [cnn_error, looker_error], color=[ORANGE, BLUE]
)
for floor, name in [(1 / 2, "1 look"), (1 / 5, "4 looks")]:
    axes[3].axvline(floor, color=BLACK, lw=1, ls="--")
    axes[3].text(floor - 0.01, 1.62, name, ha="center", fontsize=8)
axes[3].set(xlabel="error", xlim=(0, 0.6))
show(
    figure,
    "For three asking pixels, where they look: a few bright dots, which are their "
    "twins. A bar chart: convolutions stay at the error of one look, one half; "
    "attention comes close to that of four looks, one fifth.",
)

# %% [markdown]
# Nobody told it of tiles, and distance does not matter to it: a twin at the other end of the picture is as near as a
# neighbour, in one layer. That is what attention is for. (Where a twin is missing, 400 steps were too few.) But why
# does a pixel not look at itself, when its own value is one of the four looks? Because it has that already:
# `SelfAttention` adds what it found to what came in.
#
# ## 3 · How to add a layer without breaking the network
#
# `SelfAttention` returns its input plus what it computed:
#
# $$y = x + f(\operatorname{norm}(x)), \qquad f \text{ ends in a layer whose weights start at zero.} \tag{6.6}$$
#
# Three ideas in one line, and each has its reason.
#
# * **Residual**, $x + …$: the block need not pass the picture on, it only adds. And the gradient passes: $\partial
#   L/\partial x$ is $\partial L/\partial y$ plus something.
# * **Pre-norm**: the branch sees inputs of size one whatever has been added up before, and the sum itself is never
#   squeezed. With the norm *behind* the sum, the straight way would go through every norm.
# * **Zero**: at the first step $f = 0$, so the block *is* the identity. However many there are, the network starts as
#   if they were not there.
#
# *Predict: if the last layer is zero, and the gradient flows back through it, which weights of the block learn at the
# first step?*

# %%
# Eq. (6.6)
block = SelfAttention(16, heads=4).double()
x.requires_grad_(True)
seed = torch.randn(x.shape, generator=lesson.generator, dtype=torch.float64)
y = block(x)
assert torch.equal(y, x)  # the identity, exactly


def gradients() -> dict[str, bool]:
    """Which of the block's two linear layers has a gradient;
    that of x is asserted on the way."""
    block.zero_grad()
    (block(x) * seed).sum().backward()
    return {
        name: bool(getattr(block, name).weight.grad.abs().sum() > 0)
        for name in ("qkv", "out")
    }


print("learns at step 1:", gradients())
assert torch.equal(x.grad, seed)  # it goes through as if the block were not there
with torch.no_grad():
    block.out.weight -= 0.1 * block.out.weight.grad
print("learns at step 2:", gradients())
assert gradients() == {"qkv": True, "out": True}

# %% [markdown]
# First the last layer, then all. (With *two* layers in a row at zero, the weights of neither would ever
# learn: each has the other's zero in its gradient.) Section 7 takes the residual away and measures what happens.
#
# ## 4 · What it costs
#
# Let $n = H \cdot W$ pixels have $c$ features each. A linear layer from $c$ to $c$ costs $2nc^2$ operations, counting a
# multiplication and an addition as two. A block has four of them, three before and one after. $QK^\top$ compares $n$
# queries with $n$ keys over $c$ numbers in all heads together: $2n^2c$. Averaging the values costs the same again.
#
# $$\text{attention: } 8\,n\,c^2 + 4\,n^2 c, \qquad \text{a } 3\times 3 \text{ convolution: } 18\,n\,c^2. \tag{6.7}$$
#
# The convolution grows with the *area* of the picture, attention with its *square*. And to learn, the weights must be
# kept until the gradient comes back: $h\,n^2$ numbers.
#
# ### Exercise 3 · Where attention becomes dearer
# *10 minutes · easy · Eq. (6.7).* A square picture of side $L$ has $n = L^2$ pixels. From which side on does an
# attention block cost more than one convolution? Return the smallest whole $L$, for any number of channels. (As much is not
# more.)


# %% tags=["exercise"] exercise="06.dearer_from" points=1
# Exercise 06.dearer_from
def dearer_from(channels: int) -> int:
    """The smallest side at which attention costs more operations than a 3 × 3
    convolution."""
    ### BEGIN SOLUTION
    side = 1
    while 4 * side**2 <= 10 * channels:  # 4 n² c + 8 n c² <= 18 n c²
        side += 1
    return side
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Set the two sides of (6.7) equal and divide by $nc$. What remains is a condition on $n$ and $c$, with $n = L^2$. Count
# up from 1, or take a root and mind the rounding; at a tie attention is not yet dearer.
# </details>

# %% tags=["check"]
check("06.dearer_from", dearer_from)

# %% [markdown]
# Counting by hand can go wrong, so let PyTorch's own counter count, and measure memory and time as well. `describe`
# wants a network that is told the noise level; `Only` ignores it.


# %%
class Only(nn.Module):
    """One layer as a whole network, for `describe`."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        return self.layer(x)


c, heads, sides = 64, 4, (7, 14, 28)
layers = {
    "attention, weights kept": SelfAttention(c, heads, fused=False),
    "attention, fused": SelfAttention(c, heads, fused=True),
    "3 × 3 convolution": nn.Conv2d(c, c, 3, padding=1),
}
cost = {
    name: [denoisers.describe(Only(layer), (c, s, s)) for s in sides]
    for name, layer in layers.items()
}
# Eq. (6.7)
for name, formula in [
    ("attention, weights kept", lambda n: 8 * n * c**2 + 4 * n**2 * c),
    ("3 × 3 convolution", lambda n: 18 * n * c**2),
]:
    assert [d.flops for d in cost[name]] == [formula(s * s) for s in sides]
of_pairs = [
    d.flops - 8 * s * s * c**2
    for d, s in zip(cost["attention, weights kept"], sides, strict=True)
]
slopes = [math.log(b / a) / math.log(4) for a, b in itertools.pairwise(of_pairs)]
print("slope of the pairs' operations against H · W:", slopes)
assert slopes == [2.0, 2.0]

# %% [markdown]
# The counter agrees with the derivation to the last operation. On log-log axes a power is a straight line, and its
# slope is the exponent.


# %% tags=["fold"]
# @title Timing a layer
def milliseconds(layer: nn.Module, side: int) -> float:
    """Forward and backward pass of eight pictures, the best of three."""
    pictures = torch.randn(8, c, side, side, generator=lesson.generator)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        layer(pictures).sum().backward()
        taken.append(1e3 * (time.perf_counter() - start))
    return min(taken)


# %% tags=["figure", "fold"]
# @title Operations, memory and time of three layers
areas = [s * s for s in sides]
figure, axes = plt.subplots(1, 3, figsize=(10, 2.9))
for (name, found), colour in zip(cost.items(), (ORANGE, PINK, BLUE), strict=True):
    taken = [milliseconds(layers[name], s) for s in sides]
    slope = math.log(taken[-1] / taken[0]) / math.log(areas[-1] / areas[0])
    varies(f"{name}: time grows like (H · W) to the power of {slope:.2f}")
    numbers = (
        [d.flops / 1e6 for d in found],
        [d.activation_bytes / 1e6 for d in found],
        taken,
    )
    for axis, values in zip(axes, numbers, strict=True):
        dash = "o--" if "fused" in name else "o-"
        axis.loglog(areas, values, dash, color=colour, ms=4, label=name)
for axis, name in zip(
    axes,
    ("operations (millions)", "memory for the gradient (MB)", "time (ms)"),
    strict=True,
):
    axis.set(
        xlabel="H · W (pixels)",
        ylabel=name,
        xticks=areas,
        xticklabels=["7²", "14²", "28²"],
    )
    axis.minorticks_off()
axes[0].legend(fontsize=7)
show(
    figure,
    "Operations, memory and time against the number of pixels, on log axes, for "
    "attention with weights kept, fused "
    "attention and a convolution. Attention rises more steeply than the convolution; "
    "fused attention's memory does not.",
)

# %% [markdown]
# The dashed line is worth a look. A fused kernel (FlashAttention) goes through the keys in pieces, never has all the
# weights at once, and computes them anew on the way back. Its memory grows with $n$ alone. Its operations do not:
# *they* grow with $n^2$ whoever counts.
#
# So use attention where $n$ is small. Let convolutions do the near and the fine, at full size, and attention the far
# and the coarse, on a picture that has been made smaller. **A network that does so is a U-Net.**
#
# ## 5 · The U-Net, from parts you know
#
# Three parts are new.
#
# **Fewer, thicker pixels.** At $28 \times 28$ even a convolution is dear. Cut the picture into blocks of $2 \times 2$
# and make one pixel with four channels out of each:
#
# $$y_{\,c r^2 + i r + j,\;I,\;J} = x_{\,c,\;I r + i,\;J r + j}, \qquad i, j = 0 … r - 1. \tag{6.8}$$
#
# Nothing is lost; the numbers only move. But there are $r^2$ times fewer places, and whatever comes after costs $r^2$
# times less. The course's U-Net begins with it, and ends with the way back: that is its **stem**, `stem=2`. From
# $28 \times 28$ pixels it makes $14 \times 14$ places before the first block runs.
#
# ### Exercise 4 · Space to depth
# *15 minutes · hard · Eq. (6.8).* With `reshape` and `permute`, for any block size `r` that divides both sides.
# (PyTorch has it as `F.pixel_unshuffle`; write it without.)


# %% tags=["exercise"] exercise="06.space_to_depth" points=2
# Exercise 06.space_to_depth
def space_to_depth(x: Tensor, r: int) -> Tensor:
    """(b, c, h, w) to (b, c r², h / r, w / r)."""
    ### BEGIN SOLUTION
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // r, r, w // r, r)  # rows I r + i, columns J r + j
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(b, c * r * r, h // r, w // r)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Split the rows into `(h / r, r)` and the columns into `(w / r, r)`: six dimensions, b, c, I, i, J, j. Bring them into
# the order b, c, i, j, I, J with `permute`, and only then join c, i and j.
# </details>

# %% tags=["check"]
check("06.space_to_depth", space_to_depth)

# %%
digits, labels = load_images("mnist", "train", n=20_000)
seven = normalize(digits[labels == 7][3:4])
# Eq. (6.8)
folded = F.pixel_unshuffle(seven, 2)
assert folded.shape == (1, 4, 14, 14)
assert torch.equal(F.pixel_shuffle(folded, 2), seven)  # nothing is lost
body = nn.Conv2d(c, c, 3, padding=1)
at_full, at_half = (denoisers.describe(Only(body), (c, s, s)).flops for s in (28, 14))
print(
    f"the same convolution at 28 × 28 and at 14 × 14: {at_full / at_half:.0f} times "
    "cheaper"
)
assert at_full == 4 * at_half

# %% [markdown]
# **A norm that keeps noise levels apart.** Image networks often normalise with BatchNorm: each channel is shifted and
# scaled by its mean and variance *over the batch*. But our batch holds pictures of all noise levels, and the features
# of noise have another size than those of strokes. The statistics would mix them: what the network makes of *this*
# picture would depend on how noisy the *others* are; and a sampler, in which all pictures are equally noisy, would meet
# statistics that fit none of its steps. **GroupNorm** takes each picture alone. It cuts the channels into groups, and
# for picture $b$ and group $g$
#
# $$y = \frac{x - \mu_{bg}}{\sqrt{V_{bg} + \varepsilon}}, \qquad \mu_{bg},\ V_{bg}: \text{ mean and variance of all channels in } g \text{, at all pixels.} \tag{6.9}$$
#
# ### Exercise 5 · GroupNorm
# *15 minutes · medium · Eq. (6.9).* Groups are neighbouring channels. The variance is the mean of the squared differences
# from $\mu_{bg}$: divided by the number of values, not by one less. (The learned scale and shift of each channel are left out.)


# %% tags=["exercise"] exercise="06.group_norm" points=2
# Exercise 06.group_norm
def group_norm(x: Tensor, groups: int, eps: float) -> Tensor:
    """Eq. (6.9). x: (b, c, h, w); groups: a divisor of c."""
    ### BEGIN SOLUTION
    grouped = x.reshape(len(x), groups, -1)
    mean = grouped.mean(-1, keepdim=True)
    variance = grouped.var(-1, keepdim=True, correction=0)
    return ((grouped - mean) / (variance + eps).sqrt()).reshape(x.shape)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `x.reshape(b, groups, -1)` puts all that is normalised together into the last dimension. Mean and variance over it
# with `keepdim=True`, and back to the old shape at the end. `correction=0` divides by the number of values.
# </details>

# %% tags=["check"]
check("06.group_norm", group_norm)

# %% [markdown]
# Let the difference be a number. One noisy seven, at $t = 100$, in a batch with 63 other digits. Change only how noisy
# the *others* are. Scaled as in lesson 04, all inputs have variance 1, whatever $t$.

# %%
# Eq. (6.9)
mean, std = pixel_moments("mnist")
scale = denoisers.Denoiser(nn.Identity(), schedule, "v", mean, std).scales
torch.nn.init.normal_((conv := nn.Conv2d(1, 64, 3, padding=1)).weight)
others = normalize(digits[:64])
others[0] = seven[0]
noise = forward.noise_like(others, lesson.generator)


def features_of_the_seven(norm: nn.Module, t_of_others: int) -> Tensor:
    """Normalised features of the first picture, at t = 100, among others at another
    t."""
    t = torch.full((64,), t_of_others)
    t[0] = 100
    alpha = schedule.coeffs(t)[0].reshape(-1, 1, 1, 1).float()
    x_t = forward.q_sample(others, t, schedule, noise)
    with torch.no_grad():
        return norm(conv(scale(x_t, t)[0] * (x_t - alpha * mean)))[0]


moved = {}
for name, norm in {
    "BatchNorm": nn.BatchNorm2d(64),
    "GroupNorm": nn.GroupNorm(4, 64),
}.items():
    among_clean = features_of_the_seven(norm, 100)
    change = features_of_the_seven(norm, 1000) - among_clean
    moved[name] = (change.norm() / among_clean.norm()).item()
varies(f"the seven's features move by {moved['BatchNorm']:.0%} with BatchNorm")
print(f"and by {moved['GroupNorm']:.0%} with GroupNorm")
assert moved["GroupNorm"] < 1e-6
assert moved["BatchNorm"] > 0.1

# %% [markdown]
# **Residual blocks.** $x +
# \mathrm{conv}(\mathrm{silu}(\mathrm{film}(\mathrm{norm}(\mathrm{conv}(\mathrm{silu}(\mathrm{norm}(x)))))))$, with the
# last convolution at zero: Eq. (6.6) again, with convolutions in the branch, and FiLM (lesson 04) to tell it the noise
# level.
#
# The rest you have seen. Strided convolutions make the picture smaller, `interpolate` makes it larger, and skips carry
# each level across, so that no detail must pass through the narrow part (lesson 05). Attention stands at the bottom,
# where $n$ is 49. And where does *it* learn who stands beside whom (section 2)? From the convolutions around it. They pad
# the picture with zeros at its rim, so the features near the rim are marked, and each further layer carries the mark inwards:
# a place can tell how far it lies from the edges. The course's U-Net adds no position embedding to its attention;
# `AttentionDenoiser`, which has no convolution, must. Below is `denoisers.UNet` as it runs: hooks record what each part puts out, and a skip is drawn where
# the input of a block really holds an earlier output, number for number.

# %%
unet = denoisers.UNet(channels=1, widths=(64, 128), blocks=1, attention=(1,))
parts = {
    name: part
    for name, part in unet.named_modules()
    if isinstance(part, type(unet.middle[0]))
}
parts |= {"first": unet.first, "shrink": unet.shrink[0], "last": unet.last}
# Name, input, output, in the order in which they ran:
ran: list[tuple[str, Tensor, Tensor]] = []
hooks = [
    part.register_forward_hook(
        lambda _, inputs, output, name=name: ran.append((name, inputs[0], output))
    )
    for name, part in parts.items()
]
with torch.no_grad():
    # Blocks that start as the identity could not be told from their inputs.
    for weight in unet.parameters():
        weight.normal_(std=0.05, generator=lesson.generator)
    unet(seven, torch.zeros(1))
for hook in hooks:
    hook.remove()
skips = [
    (i, j)
    for j, (_, wide, _) in enumerate(ran)
    for i, (_, _, early) in enumerate(ran[: max(j - 1, 0)])
    if wide.shape[2:] == early.shape[2:]
    and torch.equal(wide[:, -early.shape[1] :], early)
]
print("skips:", ", ".join(f"{ran[i][0]} → {ran[j][0]}" for i, j in skips))
assert [(ran[i][0], ran[j][0]) for i, j in skips] == [
    ("down.1.0", "up.1.0"),
    ("down.0.0", "up.0.0"),
]

# %% tags=["fold"]
# @title Drawing a part of the U-Net, as a box of its resolution
level = {28: 2.0, 14: 1.0, 7: 0.0}  # its height on the page, by the side of its output
boxes = [("image", seven), *[(name, out) for name, _, out in ran], ("answer", seven)]


def attends(name: str) -> bool:
    """Whether this part of the network has attention in it."""
    attention = getattr(parts.get(name), "attention", nn.Identity())
    return not isinstance(attention, nn.Identity)


def draw_box(axis: plt.Axes, i: int, name: str, channels: int, side: int) -> None:
    """The i-th part, with the shape of its output and its name."""
    half = 0.16 + 0.1 * math.log2(side / 7)
    look = {"fc": ORANGE if attends(name) else BLUE, "alpha": 0.25, "ec": BLACK}
    corner = i - 0.3, level[side] - half
    axis.add_patch(plt.Rectangle(corner, 0.6, 2 * half, **look))
    shape, middle = f"{channels}\n× {side}²", {"ha": "center", "va": "center"}
    axis.text(i, level[side], shape, fontsize=8, **middle)
    below = f"{name}\n+ attention" if attends(name) else name
    bottom = level[side] - half - 0.05
    axis.text(i, bottom, below, ha="center", va="top", fontsize=7.5)


# %% tags=["figure", "fold"]
# @title The U-Net as it runs
figure, axis = plt.subplots(figsize=(10, 3.9))
for i, (name, output) in enumerate(boxes):
    draw_box(axis, i, name, *output.shape[1:3])
    if i:
        before, here = level[boxes[i - 1][1].shape[2]], level[output.shape[2]]
        arrow = {"arrowstyle": "->"}
        axis.annotate("", (i - 0.3, here), (i - 0.7, before), arrowprops=arrow)
for i, j in skips:
    top = level[ran[i][2].shape[2]] + 0.34
    arrow = {"color": GREEN, "lw": 1.8, "connectionstyle": "arc3,rad=-0.18"}
    arrow |= {"arrowstyle": "->"}
    axis.annotate("", (j + 1, top), (i + 1, top), arrowprops=arrow)
axis.set(xlim=(-0.6, len(boxes) - 0.4), ylim=(-0.55, 2.6))
axis.axis("off")
show(
    figure,
    "The U-Net as boxes from left to right: the image of 28 by 28, its stem and first "
    "block at 14 by 14, three blocks with attention "
    "at 7 by 7, and back up. Arrows carry the two blocks on the way down across to "
    "the way up.",
)

# %% [markdown]
# Here are all denoisers of the course so far, side by side. *Which one has most weights, which one most operations?
# Which ones see the whole picture?*

# %%
networks = {
    "CNN (04)": denoisers.PlainCNN(width=64, depth=6),
    "DAE (05)": denoisers.DAE(1, 28, bottleneck=128),
    "DAE, skips (05)": denoisers.DAE(1, 28, bottleneck=128, skips=True),
    "attention": denoisers.AttentionDenoiser(width=96, blocks=4, patch=4),
    "U-Net": unet,
    "U-Net, no stem": denoisers.UNet(widths=(64, 128), blocks=1, stem=1),
}
print(denoisers.compare(networks, (1, 28, 28)))

# %% [markdown]
# Read it by columns. The DAE's weights sit in its two linear layers and work once a picture; the CNN's few weights work
# at every pixel, and cost most but for the last row. That row is the U-Net without its stem, at full size: four
# times the operations and the memory for the size alone, and more on top, since its attention then runs at
# $14 \times 14$. All but the CNN see the
# whole picture. Weights say little about cost. Which of them denoises best for its money, lesson 07 measures.

# %%
with_stem, without = (
    denoisers.describe(networks[name], (1, 28, 28))
    for name in ("U-Net", "U-Net, no stem")
)
assert without.flops > 4 * with_stem.flops
assert without.activation_bytes > 4 * with_stem.activation_bytes

# %% [markdown]
# ## 6 · Look where it looks
#
# What does attention do on real digits? There is no tile here, and no formula. Take `denoisers.AttentionDenoiser`: no
# convolution anywhere, blocks of $4 \times 4$ pixels as its 49 positions. One comes with the course, trained as lesson 07
# will show, with four layers of attention. How good is it? Lesson 04's unit: 1 is what a line through each pixel leaves.

# %%
denoise = load_denoiser("mnist-attention", lesson.device)
held_out, held_out_labels = load_images("mnist", "test", n=200)
clean = normalize(held_out)
for t in (100, 300, 600):
    x_t = forward.q_sample(
        clean, t, schedule, forward.noise_like(clean, lesson.generator)
    )
    wished = held_out_labels.to(lesson.device)
    with torch.no_grad():
        x0_hat = denoise(x_t.to(lesson.device), t, label=wished).cpu()
    of_line = 1 / (schedule.log_snr(t).exp() + 1 / std**2)  # (4.10)
    left_over = ((x0_hat - clean).square().mean() / of_line).item()
    varies(f"t = {t}: {left_over:.2f} of the line's error")
    assert left_over < 0.8

# %% [markdown]
# One pixel asks. Its block's query is compared with the keys of all 49, in every head of the last layer.

# %%
pictures = {str(d): normalize(digits[labels == d][3:4]) for d in range(10)}
noise = forward.noise_like(seven, lesson.generator)


def look(digit: str, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, the denoiser's answer, and its last block's attention weights (heads, 49,
    49)."""
    x_t = forward.q_sample(pictures[digit], t, schedule, noise)
    attention, seen = denoise.network.blocks[-1].attention, []
    hook = attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        x0_hat = denoise(x_t.to(lesson.device), t).cpu()
        hook.remove()
        return x_t, x0_hat, weights_of(attention, seen[0])[0].cpu()


# %% [markdown]
# Move the asking pixel on a stroke, and off it; raise the noise. *Does a pixel of the stroke look at other things than
# a pixel of the background?*


# %% tags=["widget", "fold"]
# @title Where a pixel looks: choose digit, noise and place
def draw_row(axes: list[plt.Axes], digit: str, t: int, row: int, column: int) -> None:
    """x_t with the asking pixel, the answer, and four maps: where each head looks."""
    x_t, x0_hat, weights = look(digit, t)
    maps = weights[:, 7 * (row // 4) + column // 4].reshape(-1, 1, 7, 7)
    maps = F.interpolate(maps, scale_factor=4)[:, 0]
    axes[0].imshow(to_pixels(x_t)[0])
    axes[1].imshow(to_pixels(x0_hat)[0], vmin=0, vmax=1)
    for axis, one in zip(axes[2:], maps, strict=True):
        axis.imshow(one, cmap="viridis", vmin=0)
        axis.contour(
            to_pixels(pictures[digit])[0], [0.5], colors="white", linewidths=0.8
        )
    for axis in axes:
        axis.plot(column, row, "x", color=ORANGE, ms=8, mew=2.5)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)


def explore_attention(digit: str, t: int, row: int, column: int) -> plt.Figure:
    """One row of pictures for the widget."""
    figure, axes = plt.subplots(1, 6, figsize=(10, 2.1))
    draw_row(list(axes), digit, t, row, column)
    for axis, title in zip(
        axes, ["$x_t$", r"$\hat x_0$", *[f"head {i}" for i in range(1, 5)]], strict=True
    ):
        axis.set_title(title)
    return figure


explore(
    explore_attention,
    alt="The noisy digit with the asking pixel, the denoiser's answer, and for four "
    "heads where the pixel looks.",
    digit=choice("digit", list(pictures), "7"),
    t=slider("t", 1, 1000, 200),
    row=slider("row", 0, 27, 9),
    column=slider("column", 0, 27, 17),
)

# %% [markdown]
# The same for a page without a running kernel: a pixel on the stroke and one in the corner, at two noise levels.

# %% tags=["figure", "fold"]
# @title A pixel on the stroke and one in the corner, at two noise levels
asked = [(100, 9, 17), (600, 9, 17), (100, 2, 2), (600, 2, 2)]
figure, axes = plt.subplots(4, 6, figsize=(9, 6))
for row_of_axes, (t, row, column) in zip(axes, asked, strict=True):
    draw_row(list(row_of_axes), "7", t, row, column)
    row_of_axes[0].set_ylabel(
        f"{'stroke' if row == 9 else 'corner'}\nt = {t}",
        rotation=0,
        ha="right",
        va="center",
    )
for axis, title in zip(
    axes[0], ["$x_t$", r"$\hat x_0$", *[f"head {i}" for i in range(1, 5)]], strict=True
):
    axis.set_title(title)
show(
    figure,
    "Attention maps of four heads for a pixel on the stroke of a seven and one in the "
    "corner, at t = 100 and 600. The maps "
    "differ between heads and between the two pixels.",
)

# %% [markdown]
# Bright fields are where the cross looks; each map has its own scale. The heads look for different things, and the
# corner asks for others than the stroke. How far does what they hear travel? An output pixel depends on those input
# pixels in which it has a gradient. Take the network alone, without the line through each pixel that its wrapper adds
# (lesson 04): how much of the squared gradient comes from farther than the three pixels that the network of the opening
# could see?

# %%
square = torch.ones(28, 28)
square[9 - 3 : 9 + 4, 17 - 3 : 17 + 4] = 0  # 1 where the three convolutions see nothing
for t in (100, 300, 600):
    x_t = forward.q_sample(seven, t, schedule, noise).to(lesson.device)
    centred = x_t - schedule.coeffs(t)[0].item() * mean
    x_in = (denoise.scales(x_t, t)[0] * centred).requires_grad_(True)
    log_snr = schedule.log_snr(t).float().expand(1).to(lesson.device)
    denoise.network(x_in, log_snr)[0, 0, 9, 17].backward()
    reach = x_in.grad[0, 0].square().cpu()
    varies(
        f"t = {t}: {(reach * square).sum() / reach.sum():.0%} of the squared gradient "
        "lies farther than 3 pixels away"
    )
    assert (reach > 0).all()  # the whole picture, corners included
assert (reach * square).sum() < 0.25 * reach.sum()

# %% [markdown]
# A small part, though 94 % of the pixels lie out there: even here the neighbourhood says most about a pixel. But no pixel
# is without a say, not the farthest corner, where three convolutions could not hear anything at all.
#
# ## 7 · What usually goes wrong
#
# A tutorial that is copied a lot puts attention between two convolutions, at full size, and ends in tanh. Nothing is
# added to anything, nor is it told the time (lesson 04). Three more mistakes in one network; let us take them one by one.
#
# **(a) No residual around attention.** A softmax average lies between the values it averages. Average once more, and
# the pixels come closer still. Stack four blocks and measure how different the pixels still are: the part of their
# features' size that is not common to all pixels.


# %%
class Bare(SelfAttention):
    """Self-attention without its residual, initialised as is usual."""

    def __init__(self, channels: int, heads: int):
        super().__init__(channels, heads)
        self.out.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - x


def differences(stack: Looker) -> list[float]:
    """How different the pixels are after 0, 1, 2, … blocks, from 1 (nothing in common)
    to 0 (all the same)."""
    with torch.no_grad():
        h, found = stack.embed(test_x[:32]), []
        for block in [nn.Identity(), *stack.blocks]:
            h = block(h)
            own = h - h.mean((2, 3), keepdim=True)
            found.append((own.norm() / h.norm()).item())
    return found


bare = Looker(*(Bare(32, 1) for _ in range(4)))
good = Looker(*(SelfAttention(32, 1) for _ in range(4)))
good.load_state_dict(bare.state_dict())  # the same weights to begin with,
for block in good.blocks:
    zeroed(block.out)  # but for the zeros of Eq. (6.6)
plain = Looker(*(SelfAttention(32, 1) for _ in range(4)))
plain.load_state_dict(bare.state_dict())  # without the zeros
left = {
    "x + attention": differences(good),
    "the same, not begun at zero": differences(plain),
    "attention alone": differences(bare),
}
assert left["the same, not begun at zero"][-1] > 0.5
assert left["attention alone"][-1] < 1e-3

# %% [markdown]
# Before training, after four blocks without residuals, all 64 pixels hold the same vector: the picture is gone. With
# them it is not, whether they begin at zero, where the stack is the identity, or not. Does training mend it? Equal
# steps, equal data, and equal weights but for those zeros:

# %% tags=["widget", "open"]
curves = {}
for name, stack in [("x + attention", good), ("attention alone", bare)]:
    lesson.generator.manual_seed(1)
    stack.to(lesson.device)
    curves[name] = [
        step.loss
        for step in widgets.watch(learn(stack, 120, 16, lr=3e-3), 120, label=name)
    ]
errors = {
    name: error(stack)[0]
    for name, stack in [("x + attention", good), ("attention alone", bare)]
}
varies(", ".join(f"{name}: {value:.3f}" for name, value in errors.items()))
assert errors["x + attention"] < 0.6 < 0.75 < errors["attention alone"]

# %% tags=["figure", "fold"]
# @title Differences before training, and losses
figure, axes = plt.subplots(1, 2, figsize=(9, 2.7))
for (name, found), colour, size in zip(
    left.items(), (BLUE, GREEN, ORANGE), (11, 5, 5), strict=True
):
    axes[0].semilogy(
        range(5), [max(d, 1e-7) for d in found], "o-", ms=size, color=colour, label=name
    )
for name, colour in zip(curves, (BLUE, ORANGE), strict=True):
    smooth = torch.tensor(curves[name]).unfold(0, 10, 1).mean(1)
    axes[1].plot(range(10, 10 + len(smooth)), smooth, color=colour)
axes[0].set(
    xlabel="blocks",
    ylabel="difference of pixels",
    xticks=range(5),
    title="before training",
)
axes[0].legend(fontsize=8)
axes[1].axhline(1, color=BLACK, lw=1, ls=":")
axes[1].axhline(0.5, color=BLACK, lw=1, ls="--")
axes[1].text(60, 0.53, "one look", fontsize=8)
axes[1].text(60, 1.03, "no look at all", fontsize=8)
axes[1].set(
    xlabel="step", ylabel="loss, mean of 10 steps", ylim=(0.3, 1.6), title="training"
)
show(
    figure,
    "Left, the difference between pixels after 0 to 4 blocks: constant or nearly so "
    "with residuals, falling by orders of "
    "magnitude without. Right, training losses: with residuals one half, without near "
    "one, where nothing is learned.",
)

# %% [markdown]
# The stack with residuals has, in these few steps, only learned what a single pixel can know, one half. The bare one
# knows hardly more than that the mean is zero. It has lost the picture on the way. *Rank collapse* is its name: without
# skips and layers between, the differences shrink doubly exponentially with depth (Dong et al. 2021).
#
# **(b) tanh at the end.** Noise has no bounds, and neither have targets made of it, as (3.15) and (3.16). An answer in $(-1, 1)$
# can at best be the target, clipped, and lesson 04 has the price for a standard normal one, (4.13). Pixels of
# the wallpaper lie beyond 1, too. *Predict: what does the least error, one fifth, become?*

# %%
tail, density = math.erfc(0.5**0.5) / 2, math.exp(-0.5) / math.sqrt(2 * math.pi)
floor = 4 * tail - 2 * density
z = torch.randn(200_000, generator=lesson.generator, dtype=torch.float64)
cut = (z - z.clamp(-1, 1)).square()
print(
    f"the best answer within (-1, 1) to a standard normal target is off by {floor:.3f}"
)
assert abs(cut.mean() - floor) < 4 * cut.std() / len(z) ** 0.5
answer = 0.8 * mean_of_four  # of the wallpaper, exact, Eq. (6.1)
clipped = (answer.clamp(-1, 1) - test_x0).square().mean((1, 2, 3))
print(
    f"on the wallpaper it raises the least error from {best.mean():.2f} to "
    f"{clipped.mean():.2f}"
)
assert clipped.mean() > best.mean() + 0.05

# %% [markdown]
# About a seventh of the noise's variance is out of reach of a network that predicts the noise so, at every noise level,
# for every length of training. How much is that? Compare it with the simplest denoiser there is, a straight line through each pixel (3.12),
# which misses $\alpha_t^2 s^2/(\alpha_t^2 s^2 + \sigma_t^2)$ of the noise's variance, with pixels of variance $s^2$.

# %%
alpha, sigma = schedule.coeffs(600)
line = ((alpha * std) ** 2 / ((alpha * std) ** 2 + sigma**2)).item()
print(
    f"missed at t = 600: {line:.3f} by a line, at least {floor:.3f} by any network "
    "that predicts it through tanh"
)
assert line < floor / 10

# %% [markdown]
# At large $t$ a line does better than any network that predicts the noise through tanh. (Between blocks tanh harms too: it squeezes the
# residual stream that (6.6) keeps free.)
#
# **(c) Attention at full size.** The weights are $h\,n^2$ numbers of four bytes. Each halving of the sides divides $n$
# by 4 and the weights by 16.

# %%
kept = "attention, weights kept"
for side, found in zip(sides, cost[kept], strict=True):
    of_weights = 4 * heads * (side * side) ** 2
    print(
        f"{side:>2} × {side:<2}: {found.activation_bytes / 1e6:6.2f} MB for one "
        f"picture, {of_weights / 1e6:6.2f} of it weights"
    )
per_pixel = [
    (d.activation_bytes - 4 * heads * s**4) / s**2
    for d, s in zip(cost[kept], sides, strict=True)
]
# All the rest is linear in the number of pixels:
assert max(per_pixel) - min(per_pixel) < 1
of_fused = cost["attention, fused"][2].activation_bytes
ratio = cost[kept][2].activation_bytes / of_fused
varies(f"at 28 × 28 the fused kernel keeps {ratio:.1f} times less")
assert ratio > 5

# %% [markdown]
# At $28 \times 28$, a batch of 128 keeps more than a gigabyte for *one* layer. At $7 \times 7$ nobody notices. And at
# $256 \times 256$?

# %%
print(
    f"256 × 256: {4 * heads * 256**4 / 2**30:.0f} GiB of weights for one picture and "
    "one layer"
)
assert 128 * cost[kept][2].activation_bytes > 2**30
assert 4 * heads * 256**4 == 64 * 2**30

# %% [markdown]
# ### In your own words
# *Manually graded, about four lines.* A colleague has a plain CNN of ten $3\times3$ layers for pictures of $64\times64$
# and wants "to add attention". Where would you put it, what must stand around it, and what would you measure to find
# out whether it was worth its price?

# %% [markdown] tags=["manual"] question="06.own_words" points=2
# ### BEGIN SOLUTION
# Not at full size: $64^2$ positions make 16.8 million weights a head. Make the picture smaller first (strides or
# space-to-depth, to 16 or 8 across), attend there, go up again, with skips for the detail. Around it: a norm before,
# the residual, a zero-initialised last layer, no tanh, and positions, unless the convolutions with their padding tell
# them already. Measure the held-out loss by noise level against the same network without attention at equal time or
# operations (not equal steps), and memory; the gain should show where far pixels matter.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: attention at low resolution because of $n^2$, with residual and norm (zero start welcome). One
# point: a fair comparison is named: equal compute or time, held-out loss, memory.

# %% [markdown]
# ## Summary
#
# * A convolution sees near; $\ell$ looks instead of one lower the least error to $1/(1 + \ell\,\mathrm{SNR})$, (6.1),
#   wherever the looks are.
# * Attention averages values under a softmax of dot products, (6.2). The root keeps logits at variance 1, (6.3); heads
#   ask several questions, (6.4); without positions it sees a bag of pixels, (6.5).
# * $x + f(\operatorname{norm}(x))$ with $f$ starting at zero starts as the identity, (6.6). Without the residual, four
#   blocks forget the picture.
# * It costs $8nc^2 + 4n^2c$, (6.7), and keeps $hn^2$ weights: use it where $n$ is small.
# * The U-Net: space-to-depth, (6.8), residual blocks with GroupNorm, (6.9), and FiLM, down, attention, up, skips
#   across.

# %%
progress("06")

# %% [markdown]
# ## References
#
# * Vaswani and others: *Attention Is All You Need*, 2017. Our (6.2) is its Eq. (1); section 3.2.1 has the root, 3.2.2
#   the heads.
# * Ronneberger, Fischer, Brox: *U-Net*, 2015. Down, up, and skips across.
# * Ho, Jain, Abbeel: *Denoising Diffusion Probabilistic Models*, 2020. Appendix B: the U-Net with attention at $16
#   \times 16$.
# * Wu, He: *Group Normalization*, 2018.
# * Dong, Cordonnier, Loukas: *Attention is not all you need: pure attention loses rank doubly exponentially with
#   depth*, 2021.
# * Dao, Fu, Ermon, Rudra, Ré: *FlashAttention*, 2022.
# * Zhang, Dauphin, Ma: *Fixup Initialization*, 2019; Bachlechner and others: *ReZero is All You Need*, 2020. Blocks
#   that start as the identity.
#
# **Next:** lesson 07 trains all four denoisers under one budget, and asks which is worth its price.
