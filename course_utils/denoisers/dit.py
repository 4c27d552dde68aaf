"""The diffusion transformer: a picture as a row of patches, and blocks that the noise level modulates (adaLN-zero)."""

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, Divides, Whole, checked
from course_utils.denoisers._inputs import require_input, require_multiples
from course_utils.denoisers.embeddings import NoiseEmbedding, sinusoidal_2d
from course_utils.denoisers.layers import pad_to_multiple, zeroed


@checked
def patchify(x: Float[Tensor, "b c height width"], patch: Count) -> Float[Tensor, "b n values"]:
    """Cut pictures into squares of patch × patch pixels, row by row, each as one row of c · patch² numbers.

    Within a patch channels come first, then rows, then columns: space-to-depth (lesson 06), with positions in a row.

    Raises:
        ValueError: sides that are no multiples of `patch`.
    """
    require_multiples("x", x.shape[-2:], patch)
    return F.pixel_unshuffle(x, patch).flatten(2).mT


@checked
def unpatchify(
    tokens: Float[Tensor, "b n values"], patch: Count, height: Count, width: Count
) -> Float[Tensor, "b c height width"]:
    """The pictures, height × width, that `patchify` makes these rows of.

    Raises:
        ValueError: a number of patches, or of numbers in one, that cannot be theirs.
    """
    rows, columns = height // patch, width // patch
    require_multiples("height, width", (height, width), patch)
    if rows * columns != tokens.shape[1] or tokens.shape[2] % patch**2:
        raise ValueError(f"tokens: wanted (b, {rows} · {columns}, c · {patch}²), got shape {tuple(tokens.shape)}")
    return F.pixel_shuffle(tokens.mT.unflatten(2, (rows, columns)), patch)


class TokenAttention(nn.Module):
    """project(attention(h)) over rows of tokens, with QK-norm, and with a bias on the logits if there is one.

        softmax(q k^T / sqrt(d) + bias) v,      q, k scaled to a root mean square of 1, times what is learned

    A logit is then at most sqrt(d) times the learned scales, however large the activations grow (Henry et al. 2020;
    Esser et al. 2024, section 5.3.2). No residual and no zeros here: they are the block's (`AdaLNZero`).

    Args:
        width: of a token.
        heads: a divisor of `width`.
        qk_norm: False for queries and keys as they come.
        fused: as of `attention.SelfAttention`: PyTorch's kernel, or the function written out; None for that on CPUs.
    """

    @checked
    def __init__(
        self,
        width: Count,
        heads: Annotated[int, Whole(), Divides("width")] = 4,
        qk_norm: bool = True,
        fused: bool | None = None,
    ):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.scales = nn.Parameter(torch.ones(2, width // heads)) if qk_norm else None  # of queries, and of keys

    def forward(self, h: Float[Tensor, "*b n width"], bias: Tensor | None = None) -> Float[Tensor, "*b n width"]:
        """`bias` is added to the logits, (*b, heads, n, n), and may be one for all along any of its dimensions."""
        qkv = self.qkv(h).unflatten(-1, (3, self.heads, -1)).transpose(-4, -2)  # (*b, heads, 3, n, d)
        q, k, v = qkv.unbind(-3)
        if self.scales is not None:
            q, k = (F.rms_norm(x.to(s.dtype), s.shape, s) for x, s in zip((q, k), self.scales, strict=True))
        if h.is_cuda if self.fused is None else self.fused:
            added = None if bias is None else bias.to(v.dtype)
            mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, added)
        else:
            logits = (q / math.sqrt(q.shape[-1])) @ k.mT  # divided where there are fewer numbers
            mixed = torch.softmax(logits if bias is None else logits + bias, dim=-1) @ v
        return self.out(mixed.transpose(-3, -2).flatten(-2))


def modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) norm(h) + shift, the norm over channels and with no weights of its own: adaptive layer norm."""
    return (1 + scale) * F.layer_norm(h, h.shape[-1:]) + shift


class AdaLNZero(nn.Module):
    """Two residual branches that a vector modulates, closed at first (Peebles & Xie 2023, section 3.2):

        h <- h + gate_1 mixer((1 + scale_1) norm(h) + shift_1)
        h <- h + gate_2 mlp((1 + scale_2) norm(h) + shift_2)

    All six are linear in the vector, by a layer that starts at zero. The block starts as the identity, and learns,
    since the branches themselves do not end in zeros: of two zeros in a row neither would ever get a gradient.

    Args:
        width: of a token.
        dim: length of the vector.
        mixer: what tokens hear of each other by, such as `TokenAttention`: (b, …, width) to the same shape.
        expand: how many times wider the MLP is inside.
    """

    @checked
    def __init__(self, width: Count, dim: Count, mixer: nn.Module, expand: Count = 4):
        super().__init__()
        self.mixer = mixer
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.SiLU(), nn.Linear(expand * width, width))
        self.modulation = zeroed(nn.Linear(dim, 6 * width))

    def forward(self, h: Float[Tensor, "b *n width"], vector: Float[Tensor, "b dim"]) -> Float[Tensor, "b *n width"]:
        six = self.modulation(vector).reshape(len(h), *[1] * (h.ndim - 2), -1).chunk(6, dim=-1)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = six
        h = h + gate_1 * self.mixer(modulate(h, shift_1, scale_1))
        return h + gate_2 * self.mlp(modulate(h, shift_2, scale_2))


class LastLayer(nn.Module):
    """From tokens to what was asked: modulated norm, then a linear layer; both start at zero, and only the first waits.

    The linear layer gets a gradient at once, as what it reads is not zero; the modulation from the second step on.
    """

    @checked
    def __init__(self, width: Count, dim: Count, values: Count):
        super().__init__()
        self.modulation, self.linear = zeroed(nn.Linear(dim, 2 * width)), zeroed(nn.Linear(width, values))

    def forward(self, h: Float[Tensor, "b *n width"], vector: Float[Tensor, "b dim"]) -> Float[Tensor, "b *n values"]:
        shift, scale = self.modulation(vector).reshape(len(h), *[1] * (h.ndim - 2), -1).chunk(2, dim=-1)
        return self.linear(modulate(h, shift, scale))


class DiT(nn.Module):
    """A diffusion transformer, that takes (scaled x_t, log-SNR, class) and predicts what its wrapper asks for.

    Args:
        channels: of the images.
        width: of a token; a multiple of 4 and of `heads`.
        blocks: how many `AdaLNZero`s.
        heads: of attention.
        patch: side of the squares that become one token. Twice the side is a quarter of the tokens.
        num_classes: 0, or the number of classes for `label`.
        qk_norm: see `TokenAttention`.

    Positions are sinusoids of row and column, so any size will do; images whose sides are no multiple of `patch` are
    padded by repeating the edge, then cropped.

    Raises:
        ValueError: a width that 4 or the heads do not divide; an input with other channels.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        width: Annotated[int, Whole(of=4)] = 96,  # sine and cosine, of row and column
        blocks: Count = 4,
        heads: Annotated[int, Whole(), Divides("width")] = 4,
        patch: Count = 4,
        num_classes: Annotated[int, Whole(0)] = 0,
        qk_norm: bool = True,
    ):
        super().__init__()
        self.channels, self.width, self.patch = channels, width, patch
        self.embed = NoiseEmbedding(width, num_classes)
        self.first = nn.Linear(channels * patch**2, width)
        self.blocks = nn.ModuleList(
            AdaLNZero(width, width, TokenAttention(width, heads, qk_norm)) for _ in range(blocks)
        )
        self.last = LastLayer(width, width, channels * patch**2)

    def forward(
        self,
        x: Float[Tensor, "b c height width"],
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c height width"]:
        require_input(self, x, log_snr, label)
        vector = self.embed(log_snr, label)
        padded = pad_to_multiple(x, self.patch)
        height, width = padded.shape[-2:]
        places = sinusoidal_2d(height // self.patch, width // self.patch, self.width, x.device).flatten(1).mT
        h = self.first(patchify(padded, self.patch)) + places.to(x.dtype)
        for block in self.blocks:
            h = block(h, vector)
        out = unpatchify(self.last(h, vector), self.patch, height, width)
        return out[..., : x.shape[-2], : x.shape[-1]]
