# %% [markdown]
# # 17 · Transformers
#
# *You will cut pictures into patches and denoise them without a single convolution; find out how layers that start at zero
# learn, and when they never do; slide windows over a grid and prove that nothing leaks; and set U-Net, DiT and Swin side
# by side at equal cost. About 65 minutes to read and run, 55 to solve its six exercises.*

# %% tags=["fold"]
# @title Imports
import itertools
import math
import statistics

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import forward, samplers
from course_utils.data import load_images, normalize
from course_utils.denoisers import Denoiser, DiT, Swin, UNet, compare
from course_utils.denoisers.costs import count_flops
from course_utils.denoisers.dit import TokenAttention, patchify, unpatchify
from course_utils.denoisers.embeddings import sinusoidal_2d, sinusoidal_embedding
from course_utils.denoisers.layers import zeroed
from course_utils.denoisers.swin import WindowAttention, shift_mask
from course_utils.exercises import check, progress
from course_utils.leaderboard.architectures import load_architectures
from course_utils.plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    image_grid,
    show,
    use_style,
)
from course_utils.pretrained import load_denoiser, read_manifest, recipe_of
from course_utils.runtime import varies
from course_utils.training import Training, train
from course_utils.widgets import choice, explore, slider

use_style()

# %% [markdown]
# ## The question
#
# Two networks drew these digits, from the same noises, with ten calls each. One is a small U-Net. In the other there is
# no convolution at all: it reads squares of $4 \times 4$ pixels, and no layer of it prefers a neighbouring square to a far one.


# %%
def drawn(network: Denoiser, label: Tensor, side: int = 28) -> Tensor:
    """Digits by DPM-Solver++ 2M in ten steps, always from the same noises."""
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(len(label), 1, side, side, generator=generator)
    grid = samplers.uniform_grid(network.schedule, 10)
    with torch.autocast(
        lesson.device.type, lesson.dtype, enabled=lesson.dtype != torch.float32
    ):
        how = {"label": label.to(lesson.device)}
        x = x_T.to(lesson.device)
        return samplers.sample_dpmpp_2m(network, x, network.schedule, grid, **how).cpu()


weak = load_denoiser("mnist-unet-weak", lesson.device)
dit = load_denoiser("mnist-dit", lesson.device)
schedule, ten = dit.schedule, torch.arange(10)

# %% tags=["figure", "fold"]
# @title Two networks, the same ten noises
show(
    image_grid(
        torch.cat([drawn(weak, ten), drawn(dit, ten)]),
        columns=10,
        row_labels=["A", "B"],
        size=0.8,
    ),
    "Two rows of the digits 0 to 9, drawn by two networks from the same ten noises. "
    "Most digits of both rows can be read, and both rows have strokes that fray.",
)

# %% [markdown]
# **Does a picture need convolutions?** The honest form of the question asks for the price: which of U-Net, transformer,
# and transformer with windows learns most from *the same number of floating-point operations*? Guess; section 7 has the
# table.

# %% tags=["widget", "fold"]
# @title Your guess: most learned at equal cost
guess = choice("", ["U-Net", "DiT", "Swin", "no difference"])
guess

# %% [markdown]
# ## 1 · A picture as a row of patches
#
# Lesson 06 let every pixel look at every other, and found that $n$ positions make $n^2$ weights. So take fewer, larger
# positions. Cut the picture, of $C$ channels and $H \times W$ pixels, into squares of $p \times p$ pixels, row by row.
# Each square becomes one row of numbers, a **token**:
#
# $$n = \frac{HW}{p^2} \text{ tokens}, \qquad \text{each of } C\,p^2 \text{ numbers}. \tag{17.1}$$
#
# ### Exercise 1 · Patches in a row
# *10 minutes · medium · Eq. (17.1).* Within a patch all of the first channel comes first, row by row, then the next
# channel.


# %% tags=["exercise"] exercise="17.patchify" points=2
# Exercise 17.patchify
def my_patchify(x: Tensor, p: int) -> Tensor:
    """(b, c, height, width) to (b, n, c p²); p divides both sides."""
    ### BEGIN SOLUTION
    b, c, height, width = x.shape
    cut = x.reshape(b, c, height // p, p, width // p, p)  # b c r i s j
    cut = cut.permute(0, 2, 4, 1, 3, 5)  # b r s c i j
    return cut.reshape(b, (height // p) * (width // p), c * p * p)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Three moves. Split height and width in two each, which gives six dimensions. Bring them into the order in which the
# numbers are to stand: batch, row of patches, column of patches, channel, row, column. Then join.
# </details>

# %% tags=["check"]
check("17.patchify", my_patchify)

# %% tags=["figure", "fold"]
# @title A digit, and its tokens for p = 2, 4 and 7
seven = normalize(load_images("mnist", "test", n=1)[0])
sides = (2, 4, 7)
figure, axes = plt.subplots(1, 4, figsize=(10, 2.7))
axes[0].imshow(seven[0, 0], vmin=-1, vmax=1)
axes[0].set_title("28 × 28 pixels")
for axis, p in zip(axes[1:], sides, strict=True):
    tokens = patchify(seven, p)
    axis.imshow(tokens[0], aspect="auto", vmin=-1, vmax=1)
    axis.set(
        title=f"p = {p}: {tokens.shape[1]} tokens of {tokens.shape[2]}",
        xlabel="numbers of a token",
        ylabel="tokens",
    )
for axis in axes:
    axis.grid(False)
show(
    figure,
    "A handwritten seven, and the matrices of its tokens: 196 rows of 4 numbers, 49 "
    "rows of 16, and 16 rows of 49.",
)

# %%
# Eq. (17.1)
for p in sides:
    tokens = patchify(seven, p)
    assert tokens.shape == (1, 28 * 28 // p**2, p**2)
    assert torch.equal(unpatchify(tokens, p, 28, 28), seven)
print("cut and put together again, to the bit")

# %% [markdown]
# No number was lost, and none was computed: that is only another order. What a convolution takes for granted, that
# neighbours belong together, holds *inside* a patch; between patches nothing says which is whose neighbour. So a position
# is added to each token, here as the sinusoids of its row and of its column (lesson 06). A table of learned positions
# would do as well, for one size of picture. Sinusoids exist for every size, and say the same of every place that two
# sizes share:

# %%
small, large = (sinusoidal_2d(side, side, 96) for side in (7, 8))
assert torch.equal(small, large[:, :7, :7])

# %% [markdown]
# ## 2 · What a token costs
#
# One block of a transformer has six matrix products. With $n$ tokens of width $c$: queries, keys and values take
# $3 \cdot 2nc^2$ operations (a multiplication and an addition are two), the layer after attention $2nc^2$, and the MLP,
# which goes to $4c$ and back, $2 \cdot 8nc^2$. And attention itself: each token compares its query with the keys of the
# $\ell$ tokens it may see, $2n\ell c$, and averages as many values, $2n\ell c$. Together
#
# $$F = 24\,n\,c^2 + 4\,n\,\ell\,c. \tag{17.2}$$
#
# In a DiT (Peebles & Xie, 2023) each token sees all, $\ell = n$. *Predict: halve the side of a patch, and each
# of the two terms becomes how many times as large? Which of them is the larger one on digits?*
#
# ### Exercise 2 · What a block costs
# *5 minutes · easy · Eq. (17.2).*


# %% tags=["exercise"] exercise="17.flops" points=1
# Exercise 17.flops
def block_flops(n: int, c: int, seen: int) -> int:
    """FLOPs of a block: n tokens of width c, each sees `seen` of them."""
    ### BEGIN SOLUTION
    linear = 2 * n * (3 * c**2 + c**2 + 4 * c**2 + 4 * c**2)
    attention = 2 * n * seen * c + 2 * n * seen * c
    return linear + attention
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# A linear layer from $a$ to $b$ numbers costs $2ab$ for each token.
# </details>

# %% tags=["check"]
check("17.flops", block_flops)

# %% [markdown]
# PyTorch counts the products that a network really makes. The difference of two depths is one block:

# %%
# Eq. (17.2)
DIGIT = (1, 28, 28)
for p in sides:
    five, four = (count_flops(DiT(width=96, blocks=b, patch=p), DIGIT) for b in (5, 4))
    n, c = 28 * 28 // p**2, 96
    of_tokens = 24 * n * c**2 + 4 * n * n * c
    of_level = 12 * c**2  # six modulations, once a picture: section 3
    assert five - four == of_tokens + of_level
    print(
        f"p = {p}: {n:3} tokens, {of_tokens / 1e6:5.1f} million a block, "
        f"{4 * n * n * c / of_tokens:4.0%} of it attention's own"
    )

# %% [markdown]
# Half the side makes four times the tokens: four times the first term, sixteen times the second. *At these sizes the linear
# layers are the price, not the $n^2$.* Attention's share passes one half only where $n > 6c$.
#
# ## 3 · The noise level, and zeros that learn
#
# How does the network hear the noise level and the class? In lesson 06 a vector made of both scaled and shifted feature
# maps. A DiT does that to the norms in its blocks, and adds a **gate** at the end of each branch. With
# $\mathrm{norm}(h)$ the layer norm of each token, without weights of its own,
#
# $$h \leftarrow h + \text{gate} \cdot f\bigl((1 + \text{scale}) \cdot \mathrm{norm}(h) + \text{shift}\bigr), \tag{17.3}$$
#
# once with $f$ attention and once with the MLP. Shift, scale and gate are a linear layer of the vector, one number for
# each channel, and that layer starts at zero: *adaLN-zero*. So each block starts as the identity.
#
# ### Exercise 3 · A branch of adaLN-zero
# *10 minutes · medium · Eq. (17.3).* Here $f$ is one linear layer, $f(x) = x\,W^\top$. The norm divides by the root of
# variance + 0.00001, as `F.layer_norm(h, h.shape[-1:])` does.


# %% tags=["exercise"] exercise="17.adaln" points=2
# Exercise 17.adaln
def branch(
    h: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, weight: Tensor
) -> Tensor:
    """Eq. (17.3). h: (b, n, c); shift, scale, gate: (b, c); weight: (c, c)."""
    ### BEGIN SOLUTION
    x = F.layer_norm(h, h.shape[-1:])
    x = (1 + scale[:, None]) * x + shift[:, None]
    return h + gate[:, None] * (x @ weight.mT)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# A vector for each picture meets tokens as `scale[:, None]`, of shape `(b, 1, c)`.
# </details>

# %% tags=["check"]
check("17.adaln", branch)

# %% [markdown]
# If the gate is zero, does the branch ever learn? Write it as $y = h + g \cdot f_\theta(h)$. The gradient of a loss $L$ is
#
# $$\frac{\partial L}{\partial g} = \frac{\partial L}{\partial y} \cdot f_\theta(h), \qquad
# \frac{\partial L}{\partial \theta} = g\,\frac{\partial L}{\partial y} \cdot \frac{\partial f_\theta(h)}{\partial \theta}. \tag{17.4}$$
#
# At $g = 0$ the branch itself gets nothing; but the gate does, since $f_\theta(h)$ is not zero. After one step the gate is
# open, and from then on both learn. Now put a second zero in the row, and let $f_\theta$ end in a layer of zeros, as the
# blocks of lesson 06 do. Then both gradients are zero, at this step and so at every other one: $(0, 0)$ is a saddle, and a
# walk along gradients never leaves it.
#
# There is a third slip. Whoever initialises all linear layers alike after the zeros were put in has overwritten them.
# *Predict: which of the two slips costs more in a hundred steps?*


# %%
def generic(layer: nn.Module) -> None:
    """What one does to all linear layers of a transformer."""
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def beginner(order: str) -> DiT:
    """A small DiT, initialised in one of three ways."""
    torch.manual_seed(lesson.seed)
    network = DiT(1, width=48, blocks=3, patch=4, num_classes=10)
    network.apply(generic)  # the zeros of DiT.__init__ came before: gone
    if order != "zero before":
        for block in network.blocks:
            zeroed(block.modulation)
            if order == "two zeros":
                zeroed(block.mixer.out)
                zeroed(block.mlp[-1])
        zeroed(network.last.modulation)
        zeroed(network.last.linear)
    return network


# %% [markdown]
# How far is a block from the identity, and which of its layers get a gradient at the first and at the second step?


# %%
# Eq. (17.4)
def first_steps(order: str) -> list[dict]:
    """Which layers of one block get a gradient, at two steps of gradient descent."""
    block, found = beginner(order).blocks[0].double(), []
    h, vector, aim = (
        torch.randn(4, *size, generator=lesson.generator).double()
        for size in ((49, 48), (48,), (49, 48))
    )
    varies(f"{order:11} moves h by {(block(h, vector) - h).abs().mean():.3f}")
    for _ in range(2):
        block.zero_grad()
        (block(h, vector) - aim).square().mean().backward()
        layers = {"modulation": block.modulation, "mlp": block.mlp[0]}
        found.append(
            {k: bool(v.weight.grad.abs().sum() > 0) for k, v in layers.items()}
        )
        with torch.no_grad():
            for weight in block.parameters():
                weight -= 0.5 * weight.grad
    return found


ORDERS = ("zero after", "zero before", "two zeros")
learns = {order: first_steps(order) for order in ORDERS}
for order, steps in learns.items():
    print(f"{order:11}: learns at step 1 {steps[0]}, at step 2 {steps[1]}")
assert learns["zero after"] == [
    {"modulation": True, "mlp": False},
    {"modulation": True, "mlp": True},
]
assert not any(any(step.values()) for step in learns["two zeros"])

# %% [markdown]
# Now train them, each on the same digits in the same noises.

# %%
digits, labels = load_images("mnist", "train", n=4000)
curves, blocks_moved = {}, {}
for order in ORDERS:
    network = beginner(order)
    begun = [w.detach().clone() for w in network.blocks.parameters()]
    model = Denoiser(network, schedule, data_mean=-0.74, data_std=0.62)
    run = Training(model, lr=3e-3, device=lesson.device, precision=lesson.dtype)
    how = {"steps": 120, "batch_size": 32, "warmup": 12, "times": "cosine"}
    curves[order] = [record.loss for record in train(run, digits, labels, **how)]
    now = [w.detach().cpu() for w in network.blocks.parameters()]
    blocks_moved[order] = max(
        (a - b).abs().max().item() for a, b in zip(now, begun, strict=True)
    )
ends = {order: statistics.mean(losses[-40:]) for order, losses in curves.items()}
for order in ORDERS:
    varies(
        f"{order:11} loss of the last 40 steps {ends[order]:.3f}, "
        f"blocks moved by {blocks_moved[order]:.2g}"
    )
assert blocks_moved["two zeros"] == 0 < blocks_moved["zero after"]
assert ends["zero after"] < 0.85 * min(ends["two zeros"], ends["zero before"])

# %% tags=["figure", "fold"]
# @title Three orders of zeros
figure = plt.figure(figsize=(6.5, 2.8))
for (order, losses), colour in zip(curves.items(), (BLUE, GREEN, ORANGE), strict=True):
    smooth = torch.tensor(losses).unfold(0, 12, 1).mean(1)
    plt.plot(range(12, 12 + len(smooth)), smooth, color=colour, label=order)
plt.gca().set(xlabel="step", ylabel="loss, mean of 12 steps")
plt.legend(fontsize=8)
show(
    figure,
    "Training losses of three initialisations. With the zeros put in last it falls "
    "fastest, and ends lowest. With two zeros in a row it levels off early. With zeros "
    "that were overwritten it begins far above the others, and stays behind.",
)

# %% [markdown]
# *With two zeros in a row not one weight of the blocks has moved, not even by one bit.* What such a network learns, its first and
# its last layer learn, which see one patch each. Its loss does fall, so nobody is warned. The network whose zeros were
# overwritten learns with all its blocks. But it begins with gates and an answer made of chance, at a loss far above that of
# saying nothing, which is one. The way back to one takes it about a fifth of the
# steps, and by the last it has not caught up. Which of the two slips costs more you see above; neither raises an error. So the
# rule: **zeros come last, and one in a row.**
#
# **QK-norm.** Another guard of deep transformers. As weights grow, so do queries and keys, and their products grow with the
# square; the softmax becomes a choice of one, and passes no gradient (lesson 06). So bring each query and each key to a root
# mean square of one, times a learned scale $\gamma$ (the course has one for each number; then the bound holds with the
# largest), before they meet. By Cauchy and Schwarz, with $d$ numbers in each,
#
# $$\frac{|q \cdot k|}{\sqrt d} \le \gamma_q\,\gamma_k\,\frac{\sqrt d\,\sqrt d}{\sqrt d} = \gamma_q\,\gamma_k\,\sqrt d. \tag{17.5}$$


# %%
# Eq. (17.5)
def logits_of(attention: TokenAttention, h: Tensor) -> Tensor:
    """The logits (b, heads, n, n) before bias and softmax."""
    qkv = attention.qkv(h).unflatten(-1, (3, attention.heads, -1))
    q, k = qkv.movedim(-3, 0).transpose(-3, -2)[:2]
    if attention.scales is not None:
        gammas = attention.scales
        q, k = (F.rms_norm(x, g.shape, g) for x, g in zip((q, k), gammas, strict=True))
    return q @ k.mT / math.sqrt(q.shape[-1])


h = torch.randn(2, 49, 96, generator=lesson.generator)
for qk_norm in (False, True):
    attention = TokenAttention(96, 4, qk_norm)
    for grown in (1, 10):
        with torch.no_grad():
            attention.qkv.weight *= grown
            largest = logits_of(attention, h).abs().max().item()
        name = "with QK-norm" if qk_norm else "without"
        varies(f"{name:12} weights × {grown:2}: largest logit {largest:6.1f}")
    assert not qk_norm or largest <= math.sqrt(24) * 1.001

# %% [markdown]
# ## 4 · How far do they look?
#
# The shipped `mnist-dit` has four such blocks on 49 patches, and was trained for 3,000 steps. A convolution looks at its
# neighbours because it must. Where does a network look that may look anywhere? Let $r_i$ be the place of token $i$, in
# patches, and $A_{ij}$ its attention to token $j$. The **span** of a head is the mean distance it looks:
#
# $$\text{span} = \frac1n \sum_{i,j} A_{ij}\,\lVert r_i - r_j \rVert. \tag{17.6}$$
#
# Who looks everywhere alike has a span of 3.6 patches here; who looks at the eight neighbours and itself alike, one of 1.07.


# %%
# Eq. (17.6)
place = torch.cartesian_prod(torch.arange(7.0), torch.arange(7.0))
apart = torch.cdist(place, place)


@torch.no_grad()
def looks(x_0: Tensor, t: int) -> Tensor:
    """The attention weights of each block: (blocks, b, heads, n, n), in float32."""
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(5))
    x_t = forward.q_sample(x_0, t, schedule, noise)
    seen, hooks = [], []
    for block in dit.network.blocks:

        def look(mixer: nn.Module, inputs: tuple) -> None:
            seen.append(logits_of(mixer, inputs[0]).softmax(-1).cpu())

        hooks.append(block.mixer.register_forward_pre_hook(look))
    dit(x_t.to(lesson.device), t)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen)


tests = normalize(load_images("mnist", "test", n=64)[0])
LEVELS = (100, 400, 800)
spans = {
    t: (looks(tests, t) * apart).sum(-1).mean((1, 3)) for t in LEVELS
}  # (blocks, heads)
for t, span in spans.items():
    by_block = ", ".join(f"{x:.2f}" for x in span.mean(1).tolist())
    varies(f"t = {t}: span by block {by_block}")
    assert span[1:3].mean() < span[0].mean()
uniform = apart.mean().item()
nine = apart[24][apart[24] < 1.5].mean().item()  # from the middle
print(f"everywhere alike {uniform:.2f}, eight neighbours and itself {nine:.2f}")

# %% tags=["figure", "fold"]
# @title Span of every head, block by block
figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.7), sharey=True)
for axis, (t, span) in zip(axes, spans.items(), strict=True):
    axis.axhline(uniform, color=BLACK, ls=":", lw=1)
    axis.plot(range(1, 5), span, "o", color=BLUE, alpha=0.7)
    axis.plot(range(1, 5), span.mean(1), "-", color=ORANGE)
    axis.set(title=f"t = {t}", xlabel="block", xticks=range(1, 5), ylim=(0, 5.5))
axes[0].set_ylabel("span, in patches")
show(
    figure,
    "Three panels, for little noise, more, and much: the span of each of four heads in "
    "each of four blocks, and their mean, which is lower in the two middle blocks. A "
    "dotted line marks a head that looks everywhere alike.",
)

# %% [markdown]
# The two middle blocks look nearest. Near, but where? For each head, the one offset from asking patch to seen patch that
# gets most of its attention, averaged over digits and over all places that have such a neighbour:

# %%
offset = (place - place[:, None]).long()  # (n, n, 2): of key j from query i
NEAR = {(-1, 0): "above", (1, 0): "below", (0, -1): "left", (0, 1): "right"}


def favourite(weights: Tensor) -> tuple[float, tuple[int, int]]:
    """The largest mean attention (n, n) to one offset, and the offset."""
    shares = {}
    for step in itertools.product(range(-3, 4), repeat=2):
        there = (offset == torch.tensor(step)).all(-1)
        shares[weights[there].mean().item(), step] = None
    return max(shares)


favourites = [
    [favourite(head) for head in block] for block in looks(tests, 400).mean(1)
]
for number, block in enumerate(favourites, start=1):
    heads = (f"{share:4.0%} {NEAR.get(step, step)!s:8}" for share, step in block)
    varies(f"block {number}:", *heads)
near = [step for share, step in favourites[2] if share > 0.4]
assert len(near) >= 2
assert set(near) <= set(NEAR)

# %% [markdown]
# *It has learned what a convolution is given.* In the third block three of four heads give more than half of their attention
# to one fixed neighbour, averaged over all places and digits: the patch above, the one to the left, the one to the right. The
# patch below is a head's of the second block. Places were put in, neighbours were not. A network that may look anywhere found
# them, from examples.
#
# *Move the cross onto the stroke and off it, go through the blocks, raise the noise.* Each map is where one head looks from
# there.


# %% tags=["widget", "fold"]
# @title Where a patch looks
def map_row(axes: list, block: int, t: int, row: int, column: int) -> None:
    """x_t with the asking patch, and where each head looks."""
    noise = torch.randn(seven.shape, generator=torch.Generator().manual_seed(5))
    axes[0].imshow(forward.q_sample(seven, t, schedule, noise)[0, 0])
    maps = looks(seven, t)[block - 1, 0, :, 7 * row + column].unflatten(-1, (7, 7))
    for axis, one in zip(axes[1:], maps, strict=True):
        big = F.interpolate(one[None, None], scale_factor=4)[0, 0]
        axis.imshow(big, cmap="viridis", vmin=0)
        axis.contour(seven[0, 0], [0.0], colors="white", linewidths=0.8)
    for axis in axes:
        axis.plot(4 * column + 1.5, 4 * row + 1.5, "x", color=ORANGE, ms=8, mew=2.5)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)


def look_from(block: int, t: int, row: int, column: int) -> plt.Figure:
    figure, axes = plt.subplots(1, 5, figsize=(9, 2.1))
    map_row(list(axes), block, t, row, column)
    for axis, title in zip(
        axes, ["$x_t$", *(f"head {i}" for i in range(1, 5))], strict=True
    ):
        axis.set_title(title)
    return figure


explore(
    look_from,
    alt="A noisy seven with the asking patch, and where four heads look from there.",
    block=slider("block", 1, 4, 1),
    t=slider("t", 1, 1000, 400),
    row=slider("row", 0, 6, 2),
    column=slider("column", 0, 6, 4),
)

# %% tags=["figure", "fold"]
# @title The same for a page without a kernel: one patch, four blocks
figure, axes = plt.subplots(4, 5, figsize=(8, 6))
for block, row_of_axes in enumerate(axes, start=1):
    map_row(list(row_of_axes), block, 400, 2, 4)
    row_of_axes[0].set_ylabel(f"block {block}", rotation=0, ha="right", va="center")
for axis, title in zip(
    axes[0], ["$x_t$", *(f"head {i}" for i in range(1, 5))], strict=True
):
    axis.set_title(title)
show(
    figure,
    "Attention maps of four heads in four blocks, for a patch on the stroke of a noisy "
    "seven at t = 400. In the third block three heads look at the patch above, to the "
    "right and to the left. In the first and the last most look far off.",
)

# %% [markdown]
# Bright fields are where the cross looks; each map has its own scale. The first block and the last gather from far, often
# from the stroke; between them, most heads look near by.
#
# ## 5 · Windows
#
# When $n$ grows, so does the second term of (17.2). Liu and others (2021) let a token see only its **window**, of $w \times
# w$ tokens:
#
# $$4\,n\,\ell\,c \quad\text{with } \ell = w^2: \qquad \text{linear in } n, \text{ where a DiT's is } 4\,n^2\,c. \tag{17.7}$$
#
# To cut a grid of tokens into windows is to patchify once more, with tokens for pixels; the course's `window_partition`
# does that. The way back is yours.
#
# ### Exercise 4 · Back from windows
# *5 minutes · easy.* The windows lie row by row, and so do the tokens in each.


# %% tags=["exercise"] exercise="17.unwindow" points=1
# Exercise 17.unwindow
def unwindow(windows: Tensor, w: int, rows: int, columns: int) -> Tensor:
    """(b, windows, w², c) to the grid (b, rows, columns, c)."""
    ### BEGIN SOLUTION
    b, _, _, c = windows.shape
    cut = windows.reshape(b, rows // w, columns // w, w, w, c)
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(b, rows, columns, c)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Six dimensions again: batch, row of windows, column of windows, row in a window, column in a window, channel. The rows
# of windows and the rows in them belong together.
# </details>

# %% tags=["check"]
check("17.unwindow", unwindow)

# %% [markdown]
# Windows never hear of each other. So every second layer **shifts** them by half a window, $s = \lfloor w/2 \rfloor$. In
# place of smaller windows at the edges the whole grid is rolled by $-s$, cut as before, and rolled back. What went out at
# the top comes in at the bottom; so the last windows hold tokens from both edges, which must not see each other.
#
# ### Exercise 5 · Who came round the edge
# *15 minutes · hard.* For a grid of $rows \times columns$, both multiples of $w$, that was rolled by $-s$ in both
# directions: for each window, row by row, which of its $w^2$ tokens may look at which? True where the two came round
# the same edges: none, the one, the other, or both. Any $0 \le s < w$.


# %% tags=["exercise"] exercise="17.shift_mask" points=2
# Exercise 17.shift_mask
def my_shift_mask(rows: int, columns: int, w: int, s: int) -> Tensor:
    """Truth values (windows, w², w²), for a grid that was rolled by -s."""
    ### BEGIN SOLUTION
    late_row = torch.arange(rows) >= rows - s  # these came round the edge
    late_column = torch.arange(columns) >= columns - s
    piece = 2 * late_row.long()[:, None] + late_column.long()  # 0, 1, 2 or 3
    piece = piece.reshape(rows // w, w, columns // w, w)
    piece = piece.transpose(1, 2).reshape(-1, w * w)
    return piece[:, :, None] == piece[:, None, :]
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# After the roll the *last* $s$ rows and columns are those that came round. Give each token the number of its piece, one of
# four; cut these numbers into windows, as you would tokens; and compare them in pairs, `piece[:, :, None] ==
# piece[:, None, :]`.
# </details>

# %% tags=["check"]
check("17.shift_mask", my_shift_mask)

# %% tags=["figure", "fold"]
# @title A rolled grid, its pieces, and the masks of four windows
W, S, SIDE = 7, 3, 14
edge = (torch.arange(SIDE) >= SIDE - S).long()
pieces = (2 * edge[:, None] + edge).double()
masks = shift_mask(SIDE, SIDE, W, S)
figure, axes = plt.subplots(1, 5, figsize=(10.5, 2.4))
axes[0].imshow(pieces, cmap="viridis")
axes[0].axhline(W - 0.5, color="white", lw=2)
axes[0].axvline(W - 0.5, color="white", lw=2)
axes[0].set_title("14 × 14, rolled by -3")
for axis, mask, name in zip(
    axes[1:], masks, ("top left", "top right", "below left", "below right"), strict=True
):
    axis.imshow(mask, vmin=0, vmax=1)
    axis.set_title(f"{name}: {mask.double().mean():.0%}")
for axis in axes:
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
show(
    figure,
    "A grid of 14 by 14 in four windows of 7. The last three rows and columns came "
    "round the edge. Beside it, white where a token may look at another, the masks of "
    "the four windows: all white in the first, a chessboard where columns came round, "
    "two blocks where rows did, and both at once in the last.",
)

# %% [markdown]
# Inside a window a token must know where the others lie. Swin gives each head a table with one learned number for each
# offset, the query's place less the key's, which is added to the logit. With the mask,
#
# $$\text{logit}_{ij} = \frac{q_i \cdot k_j}{\sqrt d} + B_{\,r_i - r_j} + \begin{cases} 0 & \text{same piece} \\ -\infty & \text{else.}\end{cases} \tag{17.8}$$
#
# An offset of rows and one of columns run from $-(w - 1)$ to $w - 1$ each, so the table has $(2w - 1)^2$ entries.
#
# ### Exercise 6 · An entry for each offset
# *10 minutes · medium · Eq. (17.8).* The tokens of a window lie row by row. The offset of rows, $\text{row}_i -
# \text{row}_j$, chooses the row of the table, that of columns the column; the table lies in one row of numbers.


# %% tags=["exercise"] exercise="17.relative_index" points=1
# Exercise 17.relative_index
def my_relative_index(w: int) -> Tensor:
    """Whole numbers (w², w²): which of (2w - 1)² entries query i and key j get."""
    ### BEGIN SOLUTION
    row, column = torch.arange(w).repeat_interleave(w), torch.arange(w).repeat(w)
    down = row[:, None] - row + w - 1
    across = column[:, None] - column + w - 1
    return down * (2 * w - 1) + across
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `row[:, None] - row` is the offset of every query from every key. Make it start at 0; then a step of one row in the
# table is $2w - 1$ places.
# </details>

# %% tags=["check"]
check("17.relative_index", my_relative_index)

# %% [markdown]
# Roll, cut, mask, bias, and all that back: there are many ways to be wrong by a little. But one thing is plain. Windowed
# attention is full attention that was forbidden most pairs. So write down for each pair of the whole grid whether it is
# allowed, without any rolling, and let full attention do it:


# %%
# Eq. (17.8)
def window_of(i: Tensor, w: int, s: int) -> Tensor:
    """Which window a row or column belongs to, when windows begin at s - w, s, …"""
    return (i - s).div(w, rounding_mode="floor")


i = torch.arange(SIDE)
row, column = i.repeat_interleave(SIDE), i.repeat(SIDE)
for shifted in (False, True):
    layer = WindowAttention(16, 2, W, shifted).double()
    s = S if shifted else 0
    mine = window_of(row, W, s), window_of(column, W, s)
    allowed = (mine[0][:, None] == mine[0]) & (mine[1][:, None] == mine[1])
    down, across = row[:, None] - row, column[:, None] - column
    entry = (down + W - 1) * (2 * W - 1) + across + W - 1
    bias = layer.bias[:, entry.clamp(0, (2 * W - 1) ** 2 - 1)]
    bias = bias.masked_fill(~allowed, float("-inf"))
    grid = torch.randn(2, SIDE, SIDE, 16, generator=lesson.generator).double()
    full = layer.attention(grid.flatten(1, 2), bias).reshape(grid.shape)
    assert (layer(grid) - full).abs().max() < 1e-6
    name = "shifted" if shifted else "plain"
    print(f"{name:7}: full attention with a mask; {allowed.double().mean():.1%} seen")

# %% [markdown]
# And how far does a *pair* of layers, plain and shifted, see? A token sees its shifted window, and through each token of it
# that one's plain window. Along a side, with the shifted window $[a, b)$ around $i$,
#
# $$\text{field} = \left[\,w \lfloor a/w \rfloor,\; w \lceil b/w \rceil\,\right), \qquad 2w \text{ tokens across, away from the edges.} \tag{17.9}$$
#
# Measured by the gradient, on a grid of four windows a side:


# %%
# Eq. (17.9)
def field(i: int, w: int, s: int, side: int) -> tuple[int, int]:
    """First token, and the one after the last, that a pair of layers sees from i."""
    start = (i - s) // w * w + s
    a, b = max(0, start), min(side, start + w)
    return a // w * w, min(side, -(-b // w) * w)


SMALL, GRID = 4, 16
pair = nn.Sequential(
    WindowAttention(8, 1, SMALL, False), WindowAttention(8, 1, SMALL, True)
).double()


def reached(i: int, j: int) -> Tensor:
    """Where in the grid a gradient of token (i, j) arrives."""
    x = torch.randn(1, GRID, GRID, 8, generator=torch.Generator().manual_seed(0))
    x = x.double().requires_grad_()
    pair(x)[0, i, j].sum().backward()
    return x.grad[0].abs().amax(-1)


for i, j in itertools.product((0, 1, 5, 6, 9, 15), repeat=2):
    (top, bottom), (left, right) = (field(k, SMALL, 2, GRID) for k in (i, j))
    expected = torch.zeros(GRID, GRID, dtype=torch.bool)
    expected[top:bottom, left:right] = True
    assert torch.equal(reached(i, j) > 0, expected)
print("the gradient arrives where (17.9) says, and nowhere else")


# %% tags=["widget", "fold"]
# @title Which tokens a pair of layers sees
def fields(i: int, j: int) -> plt.Figure:
    """The plain window, the shifted one, and the gradient of the pair."""
    figure, axes = plt.subplots(1, 3, figsize=(8.5, 2.9))
    k = torch.arange(GRID)
    for axis, s, title in zip(axes, (0, 2), ("plain", "shifted by 2"), strict=False):
        rows, columns = (window_of(k, SMALL, s) for _ in range(2))
        seen = (rows == rows[i])[:, None] & (columns == columns[j])
        axis.imshow(seen, vmin=0, vmax=1.5, cmap="viridis")
        for edge in range(s, GRID, SMALL):
            axis.axhline(edge - 0.5, color="white", lw=0.7)
            axis.axvline(edge - 0.5, color="white", lw=0.7)
        axis.set_title(f"a window, {title}")
    axes[2].imshow(reached(i, j).log10().clamp(min=-9), cmap="viridis")
    axes[2].set_title("gradient of both, log")
    for axis in axes:
        axis.plot(j, i, "x", color=ORANGE, ms=8, mew=2.5)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    return figure


explore(
    fields,
    alt="A grid of 16 by 16 tokens: the plain window of a token, the shifted one, and "
    "which tokens both layers together see.",
    i=slider("row", 0, GRID - 1, 6),
    j=slider("column", 0, GRID - 1, 9),
)

# %% tags=["figure", "fold"]
# @title The same, for a page without a kernel
show(
    fields(6, 9),
    "A token of a grid of 16 by 16: its plain window of 4 by 4, its shifted window of "
    "4 by 4, and the 8 by 8 tokens that both layers together see.",
)

# %% [markdown]
# ## 6 · Three networks
#
# A DiT keeps one resolution. `denoisers.Swin` has the U of lesson 06, built of windows: **merging** makes one token of
# $2 \times 2$, by a linear layer from $4c$ to $2c$ numbers; **splitting** undoes it; skips go across. On digits, with patches
# of two pixels and windows of seven, it has $14 \times 14$ tokens, then $7 \times 7$; there a window holds all and does not
# shift. The three that section 7 compares, beside each other:

# %%
contenders = {
    "U-Net": UNet(1, (32, 64), 1, num_classes=10),
    "DiT": DiT(1, 96, 4, patch=4, num_classes=10),
    "Swin": Swin(1, (32, 64), window=7, num_classes=10),
}
print(compare(contenders, DIGIT))

# %% [markdown]
# *Which of these columns would you hold equal in a fair comparison?* Weights say little about cost: a U-Net uses a weight
# of its convolutions at 49 or 196 places, a DiT spends a third of its weights on the modulation, which runs once a
# picture. Operations are what a training costs in the end, on a machine that is good at all of them alike:
#
# $$\text{cost of a training} = 3 \cdot \text{batch} \cdot \text{steps} \cdot F, \tag{17.10}$$
#
# where $F$ is now the whole forward pass of one picture, and the way back costs twice that. For A and B, which drew the digits at the
# beginning, and for the large U-Net of lesson 07, with what their cards say of them:

# %%
# Eq. (17.10)
for name in ("mnist-unet-weak", "mnist-dit", "mnist-unet"):
    recipe, network = recipe_of(name), load_denoiser(name).network
    cost = 3 * recipe.batch_size * recipe.steps * count_flops(network, DIGIT)
    card = read_manifest()[name]["measured"].split(", features")[0]
    print(f"{name:15} {cost / 1e12:7,.1f} · 10^12 operations; {card})")

# %% [markdown]
# *By FID B, the transformer, draws the better digits. It had more than six times the operations.* That is no comparison yet.
#
# ## 7 · At equal cost
#
# `course bench architectures` trained each of the three with the same number of operations, at three budgets and from three
# seeds: batches of 64, AdamW, each with the learning rate of four that was best for it at the smallest budget, on a seed
# of its own (for the DiT that was the largest tried, so a larger one may be better still). Measured are the averaged weights
# (lesson 07). The loss is that of 1,000 unseen digits in noises that are the same for all. FID is that of 1,000
# draws (DPM-Solver++ 2M, ten steps, in the features of our classifier; 1,000 real digits have 0.058). Intervals are
# Student's, of 95 %, over seeds.

# %% tags=["fold"]
# @title Reading the stored table
NAMES = {"unet": "U-Net", "dit": "DiT", "swin": "Swin"}
COLOURS = {"unet": BLUE, "dit": ORANGE, "swin": GREEN}
STUDENT = {3: 4.303, 4: 3.182, 5: 2.776}  # by the number of seeds
stored = [row for row in load_architectures() if row.dataset == "mnist"]


def trained(equal: str, name: str) -> dict[float, list]:
    """The rows of an architecture by their budget, where there are three seeds."""
    found: dict[float, list] = {}
    for row in stored:
        if (row.equal, row.architecture) == (equal, name):
            found.setdefault(row.budget, []).append(row)
    return {budget: rows for budget, rows in sorted(found.items()) if len(rows) > 2}


def over_seeds(values: list[float]) -> str:
    """Mean and interval."""
    half = STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.3f} ± {half:.3f}"


def line_of(rows: list, name: str) -> str:
    """A line of a table."""
    one = rows[0]
    loss, fid = (over_seeds([getattr(row, k) for row in rows]) for k in ("loss", "fid"))
    cost = 3 * one.batch * one.steps * one.flops / 1e12
    time = one.steps * one.step_seconds
    return f"{name:14} {cost:5.2f} {one.steps:6,} {time:6.0f} s   {loss:15} {fid:15}"


HALF = 2.0  # a budget: that of other patch sizes, and of equal time
HEAD = f"{'':14} 10^12  steps     time   held-out loss   FID"

# %%
print(HEAD)
for budget in trained("flops", "unet"):
    for key, name in NAMES.items():
        rows = trained("flops", key)[budget]
        assert abs(3 * 64 * rows[0].steps * rows[0].flops / budget / 1e12 - 1) < 0.01
        print(line_of(rows, name))
    print()
losses = {
    (key, budget): [row.loss for row in trained("flops", key)[budget]]
    for key, budget in itertools.product(NAMES, trained("flops", "unet"))
}
assert max(losses["dit", 1.0]) < min(losses["unet", 1.0])
for budget in (HALF, 4.0):
    assert max(losses["unet", budget]) < min(losses["dit", budget])

# %% tags=["figure", "fold"]
# @title Loss and FID against operations, and loss against seconds
figure, axes = plt.subplots(1, 3, figsize=(11, 3))
for key, name in NAMES.items():
    for axis, what, by_time in (
        (axes[0], "loss", False),
        (axes[1], "fid", False),
        (axes[2], "loss", True),
    ):
        means = []
        for budget, rows in trained("flops", key).items():
            x = rows[0].steps * rows[0].step_seconds if by_time else budget
            values = [getattr(row, what) for row in rows]
            axis.plot([x] * len(rows), values, "o", color=COLOURS[key], ms=4, alpha=0.6)
            means.append((x, statistics.mean(values)))
        axis.plot(*zip(*means, strict=True), color=COLOURS[key], label=name)
axes[1].axhline(stored[-1].floor, color=BLACK, ls=":", lw=1)
axes[1].set_yscale("log")
for axis, ylabel in zip(axes, ("held-out loss", "FID", "held-out loss"), strict=True):
    axis.set(xscale="log", ylabel=ylabel, xlabel="$10^{12}$ operations")
for axis in axes[:2]:
    axis.set_xticks(list(trained("flops", "unet")))
axes[2].set_xlabel("seconds of one thread")
axes[2].set_xticks([10, 20, 40, 80])
for axis in axes:
    axis.minorticks_off()
    axis.xaxis.set_major_formatter("{x:g}")
axes[0].legend(fontsize=8)
show(
    figure,
    "Three panels for U-Net, DiT and Swin, a dot a seed: held-out loss against "
    "operations, FID against operations with that of real digits dotted, held-out loss "
    "against seconds. The U-Net begins worst and ends best in all three.",
)

# %% [markdown]
# *What did you guess?* The lines cross. For $10^{12}$ operations the DiT has learned most, and the
# U-Net least; for twice as many the U-Net has learned most, in loss and in FID and with every seed; for four times as many
# it is further ahead. So these transformers get
# going sooner, and the convolutions overtake them before the budget has doubled. One way to read it, which the table cannot
# prove: what a patch can tell by itself is learned first, and linear layers learn it fastest; then comes how neighbours fit, which a
# convolution has built in and a DiT must find (section 4). And all of these are beginnings, as the trainings above show.
#
# **At equal time.** Operations are not seconds. A convolution of many channels is one large product, which processors are good at;
# windows are many small products, with much carrying about between them. On one thread of the machine that made the table,
# the architectures taking turns:

# %%
for key, name in NAMES.items():
    row = next(row for row in stored if row.architecture == key)
    rate = 3 * row.batch * row.flops / row.step_seconds / 1e9
    print(
        f"{name:5}: {1000 * row.step_seconds:3.0f} ms a step of {row.batch} digits, "
        f"{rate:3.0f} GFLOP/s; {row.activation_bytes / 1e6:.1f} MB kept a digit"
    )
timed = {key: trained("seconds", key)[HALF] for key in NAMES}
print(f"\nEach as long as the U-Net takes for {HALF:g} · 10^12:\n{HEAD}")
for key, name in NAMES.items():
    print(line_of(timed[key], name))
in_time = {key: [row.loss for row in rows] for key, rows in timed.items()}
assert max(in_time["unet"]) < min(in_time["dit"])
assert max(in_time["dit"]) < min(in_time["swin"])

# %% [markdown]
# *On this processor the U-Net also computes fastest, and equal time parts the three further than equal operations do:* the
# U-Net first, then the DiT, then Swin, with every seed. On another machine the rates are others, and the order may be.
#
# **Patch size.** By (17.2) patches of 2 cost about five times as much as patches of 4, and patches of 7 a third. At equal
# operations, so with a fifth of the steps and with three times as many (all at the
# DiT's learning rate; here nothing was drawn):

# %%
for p in sides:
    rows = trained("patch", f"dit, patch {p}") if p != 4 else trained("flops", "dit")
    loss = over_seeds([row.loss for row in rows[HALF]])
    print(f"DiT, patch {p}: {rows[HALF][0].steps:4} steps, held-out loss {loss}")
fine, coarse = (
    [row.loss for row in trained("patch", f"dit, patch {p}")[HALF]] for p in (2, 7)
)
assert max(coarse) < min(losses["unet", HALF]) < max(losses["dit", HALF]) < min(fine)

# %% [markdown]
# *The coarsest patches win: at this budget many cheap steps beat few dear ones.* Fine patches have not begun to pay, and
# losses differ more among patch sizes than among the three networks. And look at the number: the DiT with patches of 7 has a
# lower loss than the U-Net at the same cost (whether its digits look better, nobody asked). So the table above compares three
# *networks*, not three architectures, and who wins depends on how each is cut to the budget: patch, width, depth. What is
# certain is only that a picture does not need convolutions. Of photographs nothing is known yet, nor of larger budgets:
# `course bench architectures` goes on where it stopped, with 8 and 16 times the smallest budget, then with photographs.
#
# ## 8 · What usually goes wrong
#
# **(a) Equal weights called equal cost.** "All three DiTs have 0.7 million weights, so the comparison is fair." Patch size
# changes the first and the last layer, and nothing else that has weights:

# %%
sizes, costs = {}, {}
for p in sides:
    network = DiT(1, 96, 4, patch=p, num_classes=10)
    sizes[p] = sum(weight.numel() for weight in network.parameters())
    costs[p] = count_flops(network, DIGIT)
    print(f"patch {p}: {sizes[p]:,} weights, {costs[p] / 1e6:6.1f} million operations")
assert max(sizes.values()) < 1.02 * min(sizes.values())
assert costs[2] > 15 * costs[7]

# %% [markdown]
# **(b) A window that holds everything, and shifts.** At the coarse level there are $7 \times 7$ tokens and windows of seven.
# There is nothing to shift to; whoever rolls and masks all the same cuts the one window into four pieces.

# %%
torn = shift_mask(7, 7, 7, 3).double().mean().item()
assert math.isclose(torn, (16**2 + 2 * 12**2 + 9**2) / 49**2)
print(f"of all pairs {torn:.0%} still see each other")

# %% [markdown]
# No error is raised, and the network trains. `WindowAttention` does not shift along a side that its window covers.
#
# **(c) Padding after the roll.** Nine rows, windows of four, a shift of two: three rows of padding are needed. Which rows
# meet in which window?


# %%
def windows_of_rows(pad_first: bool) -> list:
    """The rows of each window, -1 for padding."""
    rows, padding = torch.arange(9), torch.full((3,), -1)
    if pad_first:
        rows = torch.cat([rows, padding]).roll(-2)
    else:
        rows = torch.cat([rows.roll(-2), padding])
    return rows.reshape(3, 4).tolist()


right_order, wrong_order = windows_of_rows(True), windows_of_rows(False)
print("padded, then rolled:", right_order)
print("rolled, then padded:", wrong_order)
assert [6, 7, 8, 0] in wrong_order  # the last rows and the first one
assert not any({8, 0} <= set(rows) for rows in right_order)

# %% [markdown]
# *Rolled first, the bottom row shares a window with the top one.* And the mask, which expects what came round in the last
# two rows of the padded grid, does not part them. On grids that need no padding the slip cannot be seen.
#
# **(d) Learned places at another size.** The sinusoids of `mnist-dit` exist for every grid. Say it had learned a table of its
# 49 places instead, the very same numbers, and is shown digits with a margin below and to the right: $32 \times 32$ pixels,
# $8 \times 8$ patches, and every stroke where it was. The table is too short, and somebody stretches it to 64: as a list, or
# as a picture.

# %%
own = sinusoidal_2d(8, 8, 96).flatten(1).mT
table = sinusoidal_2d(7, 7, 96)
as_list = F.interpolate(table.flatten(1)[None], size=64, mode="linear")[0].mT
as_picture = F.interpolate(table[None], size=(8, 8), mode="bilinear")[0]
wider = F.pad(tests, (0, 4, 0, 4), value=-1.0)


@torch.no_grad()
def misses(x_0: Tensor, places: Tensor | None = None, t: int = 400) -> float:
    """Root mean square error of the guess, where digits are; other places if told."""
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    x_t = forward.q_sample(x_0, t, schedule, noise).to(lesson.device)

    def moved(block: nn.Module, inputs: tuple) -> tuple:
        if places is None:
            return inputs
        return inputs[0] + (places - own).to(inputs[0]), inputs[1]

    hook = dit.network.blocks[0].register_forward_pre_hook(moved)
    error = (dit(x_t, t).cpu() - x_0).square()
    hook.remove()
    return error[..., :28, :28].mean().sqrt().item()


off = {
    "28 × 28, as trained": misses(tests),
    "32 × 32, sinusoids go on": misses(wider),
    "32 × 32, stretched as a list": misses(wider, as_list),
    "32 × 32, as a picture": misses(wider, as_picture.flatten(1).mT),
}
for name, error in off.items():
    varies(f"{name:28} error {error:.3f}")
trained_size, go_on, listed, pictured = off.values()
assert go_on < 1.08 * trained_size
assert listed > 1.3 * go_on
assert pictured > 1.05 * go_on

# %% [markdown]
# *Places that go on cost next to nothing; stretched ones move every stroke.* As a list, which knows no rows, the table is worst.
# As a picture it is right when the digits were stretched with it; here they were not.
#
# **(e) A time in [0, 1] in an embedding that was made for 0 to 1,000.** Its waves have lengths of $2\pi$ to $20{,}000\,\pi$.
# Two noise levels, one per cent of the way apart, as the network hears them:

# %%
heard = {}
for name, scale in (("t from 0 to 1,000", 1000.0), ("t from 0 to 1", 1.0)):
    two = sinusoidal_embedding(torch.tensor([0.50, 0.51]) * scale, 96)
    heard[name] = (two[0] - two[1]).norm().item()
    print(f"{name:18}: {heard[name]:.3f} apart")
assert heard["t from 0 to 1,000"] > 100 * heard["t from 0 to 1"]

# %% [markdown]
# The course's networks hear 50 times the log-SNR (lesson 04), so that neighbouring noise levels are about one apart.
#
# ## In your own words
#
# *Manually graded, about four lines.* A colleague reports: "We replaced our U-Net by a DiT with patches of 2. It has fewer
# weights, and after the same 10,000 steps its loss is lower. So transformers are better for our pictures, and cheaper." What
# can be said from this, what not, and what would you measure?

# %% [markdown] tags=["manual"] question="17.own_words" points=2
# ### BEGIN SOLUTION
# Fewer weights do not make it cheaper: a weight is used once for each token, and patches of 2 make many tokens; operations (and seconds,
# which are something else again, and memory) have to be counted. Equal steps are then not equal cost, so a lower loss may have been bought.
# I would train both at the same number of operations, and again for the same time on the machine that matters, at several budgets, since
# the order may change with the budget; each with a learning rate of its own, at least three seeds, held-out loss and FID with intervals
# and floor; and patches of 4 as well.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: weights and steps are not cost; tokens times weights (operations), or time, are. One point: a fair measurement:
# equal operations or time, seeds and intervals on held-out data, and one more thing (budgets, own learning rates, patch size, memory).

# %% [markdown]
# ## Summary
#
# * Patches make tokens, (17.1); a block costs $24nc^2 + 4n\ell c$, (17.2). On small pictures the first term is the price.
# * adaLN-zero: the noise level shifts, scales and gates each branch, (17.3). One zero in a row learns, and opens what is behind
#   it; two never do, (17.4). Zeros come after every other initialisation.
# * Windows see $w^2$ tokens, (17.7); every second layer shifts. Roll and mask are full attention that was forbidden most
#   pairs, (17.8), and a pair of layers sees $2w$ across, (17.9).
# * A DiT that may look anywhere learns to look at neighbours, (17.6).
# * Equal weights, equal steps, equal operations (17.10) and equal seconds are four comparisons, each of *networks*: another
#   patch size may turn the order round. Say which one you made, and at what budget.

# %%
progress("17")

# %% [markdown]
# ## References
#
# * Dosovitskiy and others: *An Image is Worth 16x16 Words*, 2021. Patches as tokens.
# * Peebles, Xie: *Scalable Diffusion Models with Transformers*, 2023. Our (17.3) is its section 3.2, *adaLN-Zero block*.
# * Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo: *Swin Transformer*, 2021. Our (17.2) and (17.7) are its Eqs. (1) and (2), with the MLP;
#   (17.8) is its Eq. (4); the roll and its mask, section 3.2.
# * Liu and others: *Swin Transformer V2*, 2022. Normalised attention, and biases at other window sizes.
# * Henry, Dachapally, Pawar, Chen: *Query-Key Normalization for Transformers*, 2020; Esser and others: *Scaling Rectified Flow
#   Transformers for High-Resolution Image Synthesis*, 2024, section 5.3.2. Our (17.5).
# * Bao, Nie, Xue, Cao, Li, Su, Zhu: *All are Worth Words*, 2023. A ViT with skips: FID 3.11 on CIFAR-10 after 500,000 steps of 128.
# * Crowson, Baumann, Birch, Abraham, Kaplan, Shippole: *Scalable High-Resolution Pixel-Space Image Synthesis with Hourglass
#   Diffusion Transformers*, 2024. A U of local attention.
#
# **Next:** lesson 18 asks whether all that people say about GANs is true.
