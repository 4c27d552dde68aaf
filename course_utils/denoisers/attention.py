"""Self-attention over the positions of an image, written out, and a network made of it."""

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, Divides, Whole, checked
from course_utils.denoisers._inputs import require_input
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding, sinusoidal_2d
from course_utils.denoisers.layers import pad_to_multiple, zeroed


def attend(
    q: Float[Tensor, "*b n d"], k: Float[Tensor, "*b n d"], v: Float[Tensor, "*b n d"]
) -> Float[Tensor, "*b n d"]:
    """softmax(q k^T / sqrt(d)) v           (Vaswani et al. 2017, Eq. 1); n² weights a head are held in memory."""
    weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1)
    return weights @ v


class SelfAttention(nn.Module):
    """x + project(attention(norm(x))) over all height · width positions, with `heads` heads.

    Pre-norm and residual; the projection starts at zero, so the block starts as the identity.

    Args:
        channels: of x.
        heads: a divisor of `channels`.
        fused: True for PyTorch's scaled_dot_product_attention, False for `attend`, the same function written out; None
            takes the fused one on a GPU only.

    Raises:
        ValueError: heads do not divide the channels.
    """

    # Why None: on one CPU core (128 channels, 4 heads, 128 images, forward and backward) the written-out one takes
    # 23 ms at 49 positions in bfloat16 autocast and the fused one 91; at 196 positions 167 and 277. In float32 they tie
    # at 49 (41 and 46 ms), and the fused one wins from about 200 on (450 and 230 ms): pass fused=True there.

    @checked
    def __init__(
        self, channels: Count, heads: Annotated[int, Whole(), Divides("channels")] = 4, fused: bool | None = None
    ):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm = nn.GroupNorm(1, channels)
        # Linear layers on (b, positions, channels) rather than 1 × 1 convolutions: the same sums, fewer copies.
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Float[Tensor, "b c height width"]) -> Float[Tensor, "b c height width"]:
        tokens = self.norm(x).flatten(2).mT  # (b, positions, channels)
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (b, heads, positions, channels of a head)
        fused = x.is_cuda if self.fused is None else self.fused
        mixed = F.scaled_dot_product_attention(q, k, v) if fused else attend(q, k, v)
        return x + self.out(mixed.transpose(1, 2).flatten(2)).mT.reshape(x.shape)


class AttentionBlock(nn.Module):
    """FiLM, self-attention, then x + mlp(norm(x)) at each position by itself; starts as the identity."""

    def __init__(self, width: int, heads: int, dim: int):
        super().__init__()
        self.film, self.attention = FiLM(dim, width), SelfAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.GroupNorm(1, width), nn.Conv2d(width, 4 * width, 1), nn.SiLU(), zeroed(nn.Conv2d(4 * width, width, 1))
        )

    def forward(
        self, x: Float[Tensor, "b c height width"], vector: Float[Tensor, "b dim"]
    ) -> Float[Tensor, "b c height width"]:
        x = self.attention(self.film(x, vector))
        return x + self.mlp(x)


class AttentionDenoiser(nn.Module):
    """A network of attention alone: every patch looks at every other, and only its position says where it lies.

    Args:
        channels: of the images.
        width: channels of a patch's vector; a multiple of 4 and of `heads`.
        blocks: how many `AttentionBlock`s.
        heads: of attention.
        patch: side of the pixel blocks that become one position (space-to-depth).
        num_classes: 0, or the number of classes for `label`.

    The position embedding is made of sinusoids, so any size will do; images whose sides are no multiple of `patch` are
    padded by repeating the edge, then cropped. Cost and memory grow with the square of the number of patches.

    Raises:
        ValueError: a width that 4 or the heads do not divide; an input with other channels.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        width: Annotated[int, Whole(of=4)] = 64,  # sine and cosine, of row and column
        blocks: Count = 3,
        heads: Annotated[int, Whole(), Divides("width")] = 4,
        patch: Count = 2,
        num_classes: Annotated[int, Whole(0)] = 0,
    ):
        super().__init__()
        self.channels, self.width, self.patch = channels, width, patch
        dim = 2 * width
        self.embed = NoiseEmbedding(dim, num_classes)
        self.first = nn.Conv2d(channels * patch**2, width, 1)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, dim) for _ in range(blocks))
        self.last_norm = nn.GroupNorm(1, width)
        self.last = zeroed(nn.Conv2d(width, channels * patch**2, 1))

    def forward(
        self,
        x: Float[Tensor, "b c height width"],
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c height width"]:
        require_input(self, x, log_snr, label)
        vector = self.embed(log_snr, label)
        height, width = x.shape[-2:]
        h = self.first(F.pixel_unshuffle(pad_to_multiple(x, self.patch), self.patch))
        h = h + sinusoidal_2d(h.shape[-2], h.shape[-1], self.width, h.device).to(h.dtype)
        for block in self.blocks:
            h = block(h, vector)
        h = F.pixel_shuffle(self.last(self.last_norm(h)), self.patch)
        return h[..., :height, :width]
