"""A transformer over tokens, for both ways to model text: all positions look at all, or each at those before it."""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, Divides, Whole, checked
from course_utils.denoisers.layers import zeroed


class _Neighbours(nn.Module):
    """x + a weighted sum of each position's neighbours, channel by channel: `reach` to each side, or 2 reach before it.

    What stands near tells most about a letter of a text. Attention learns that, too, and takes far longer.
    """

    def __init__(self, width: int, reach: int, causal: bool):
        super().__init__()
        self.pad = (2 * reach, 0) if causal else (reach, reach)
        self.conv = nn.Conv1d(width, width, 2 * reach + 1, groups=width)

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        return x + self.conv(F.pad(x.mT, self.pad)).mT


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); starts as the identity, but for what `reach` adds."""

    def __init__(self, width: int, heads: int, causal: bool, reach: int):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.near = _Neighbours(width, reach, causal) if reach else nn.Identity()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), zeroed(nn.Linear(width, width))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), zeroed(nn.Linear(4 * width, width)))

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        x = self.near(x)
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class TokenTransformer(nn.Module):
    """`network(x) -> log-probabilities (b, n, V)`, float32: what each position is, given tokens 0 … V - 1 and MASK = V.

    There is no output for MASK, so MASK is never predicted. With `causal`, position i looks at those before it alone:
    the autoregressive twin, which has not a weight more or less; its first position sees MASK for "nothing yet".

    Args:
        vocabulary: V.
        length: of the longest text.
        width, blocks, heads: of the transformer.
        causal: see above.
        reach: how far each block looks at its neighbours by convolution as well, for long texts; 0 for not.
    """

    @checked
    def __init__(
        self,
        vocabulary: Count,
        length: Count,
        width: Annotated[int, Whole(2)] = 96,
        blocks: Count = 4,
        heads: Annotated[int, Whole(), Divides("width")] = 4,
        causal: bool = False,
        reach: Annotated[int, Whole(0)] = 0,
    ):
        super().__init__()
        self.vocabulary, self.mask, self.length, self.causal = vocabulary, vocabulary, length, causal
        self.tokens, self.positions = nn.Embedding(vocabulary + 1, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(_Block(width, heads, causal, reach) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, x: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        if x.ndim != 2 or x.is_floating_point() or not 0 < x.shape[1] <= self.length:
            raise ValueError(f"x: wanted tokens (b, 1 … {self.length}), got {x.dtype} of shape {tuple(x.shape)}")
        if self.causal:
            x = torch.cat([torch.full_like(x[:, :1], self.mask), x[:, :-1]], 1)
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.last(self.norm(h)).float().log_softmax(-1)
