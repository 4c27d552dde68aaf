"""The U-Net: residual blocks at falling resolution, back up again, with a skip connection at every level."""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, In, Sizes, Whole, checked
from course_utils.denoisers._inputs import require_input
from course_utils.denoisers.attention import SelfAttention
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding
from course_utils.denoisers.layers import pad_to_multiple, zeroed


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 16 channels, or one group if they do not divide."""
    return nn.GroupNorm(channels // 16 if channels % 16 == 0 else 1, channels)


class ResBlock(nn.Module):
    """x + conv(silu(film(norm(conv(silu(norm(x))))))), then self-attention if it `attends`: DDPM's block with FiLM.

    The last convolution starts at zero, so the block starts as its skip.
    """

    def __init__(self, channels_in: int, channels_out: int, dim: int, dropout: float = 0.0, attends: bool = False):
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels_in), nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2, self.conv2 = group_norm(channels_out), zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.film, self.dropout = FiLM(dim, channels_out), nn.Dropout(dropout)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        self.attention = SelfAttention(channels_out) if attends else nn.Identity()

    def forward(self, x: Float[Tensor, "b c height width"], vector: Float[Tensor, "b dim"]) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.film(self.norm2(h), vector))
        return self.attention(self.skip(x) + self.conv2(self.dropout(h)))


class UNet(nn.Module):
    """A U-Net that takes (scaled x_t, log-SNR, class) and predicts what its wrapper asks for (Ho et al. 2020, app. B).

    Args:
        channels: of the images, 1 or 3.
        widths: channels at each level, finest first; each level halves height and width.
        blocks: residual blocks per level, as many on the way up as on the way down; one number, or one for each level.
        attention: levels (counted from 0) whose blocks are followed by self-attention.
        num_classes: 0, or the number of classes for `label`.
        stem: side of the pixel blocks that become channels first (space-to-depth). 2 makes everything about four times
            cheaper, and costs little at 28 × 28 and 32 × 32.
        dropout: inside the residual blocks.
        second_time: told, beside the log-SNR, that where a jump is to end (lesson 14); answers as without it at first.
        beside: channels of a picture of the same size that is shown beside x_t, such as a small one enlarged.

    Images whose sides are no multiple of stem · 2^(levels - 1) are padded by repeating the edge, then cropped.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        widths: Annotated[Sequence[int], Sizes()] = (96, 160),
        blocks: Annotated[int | Sequence[int], Sizes(square=True)] = 2,
        attention: Annotated[Sequence[int], Sizes(least=0)] = (1,),
        num_classes: Annotated[int, Whole(0)] = 0,
        stem: Count = 2,
        dropout: Annotated[float, In("[0, 1)")] = 0.0,
        second_time: bool = False,
        beside: Annotated[int, Whole(0)] = 0,
    ):
        super().__init__()
        depths = tuple(blocks) * (len(widths) if len(blocks) == 1 else 1)  # type: ignore[arg-type]
        if len(depths) != len(widths):
            raise ValueError(f"blocks: wanted one number, or one for each of {len(widths)} levels, got {blocks}")
        self.channels, self.stem, self.multiple = channels, stem, stem * 2 ** (len(widths) - 1)
        self.beside = beside
        dim = 2 * widths[0]
        self.embed = NoiseEmbedding(dim, num_classes, second_time)
        self.first = nn.Conv2d((channels + beside) * stem**2, widths[0], 3, padding=1)

        def level(channels_in: Sequence[int], width: int, attends: bool) -> nn.ModuleList:
            return nn.ModuleList(ResBlock(c, width, dim, dropout, attends) for c in channels_in)

        below = [widths[0], *widths[:-1]]
        self.down = nn.ModuleList(
            level([before, *[width] * (depth - 1)], width, i in attention)
            for i, (before, width, depth) in enumerate(zip(below, widths, depths, strict=True))
        )
        self.shrink = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        self.middle = level([widths[-1]], widths[-1], True)
        # On the way up every block also gets what the block of the same size made on the way down.
        self.up = nn.ModuleList(
            level([above + width, *[2 * width] * (depth - 1)], width, i in attention)
            for i, (above, width, depth) in enumerate(zip([*widths[1:], widths[-1]], widths, depths, strict=True))
        )
        self.last_norm = group_norm(widths[0])
        self.last = zeroed(nn.Conv2d(widths[0], channels * stem**2, 3, padding=1))

    def forward(
        self,
        x: Float[Tensor, "b c height width"],
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
        log_snr_r: Float[Tensor, "b"] | None = None,
        beside: Float[Tensor, "b k tall wide"] | None = None,
    ) -> Float[Tensor, "b c height width"]:
        require_input(self, x, log_snr, label)
        shown = (len(x), self.beside, *x.shape[2:]) if self.beside else None
        if shown != (None if beside is None else tuple(beside.shape)):
            raise ValueError(f"beside: wanted {shown}, got {None if beside is None else tuple(beside.shape)}")
        x = x if beside is None else torch.cat([x, beside.to(x.dtype)], 1)
        vector = self.embed(log_snr, label, log_snr_r)
        height, width = x.shape[-2:]
        h = self.first(F.pixel_unshuffle(pad_to_multiple(x, self.multiple), self.stem))
        skips = []
        for i, blocks in enumerate(self.down):
            for block in blocks.children():
                h = block(h, vector)
                skips.append(h)
            if i < len(self.shrink):
                h = self.shrink[i](h)
        for block in self.middle:
            h = block(h, vector)
        for i in reversed(range(len(self.up))):
            for block in self.up[i].children():
                h = block(torch.cat([h, skips.pop()], dim=1), vector)
            if i:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
        h = F.pixel_shuffle(self.last(F.silu(self.last_norm(h))), self.stem)
        return h[..., :height, :width]
