"""Attention in windows that shift from layer to layer, and a U-shaped transformer made of it (Liu et al. 2021)."""

import itertools
from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, Sizes, Whole, checked
from course_utils._validate import as_device
from course_utils.denoisers._inputs import require_input, require_multiples
from course_utils.denoisers.dit import AdaLNZero, LastLayer, TokenAttention, patchify, unpatchify
from course_utils.denoisers.embeddings import NoiseEmbedding
from course_utils.denoisers.layers import pad_to_multiple

Window = Annotated[int | tuple[int, int], Sizes(2, square=True)]
Shift = Annotated[int | tuple[int, int], Sizes(2, least=0, square=True)]


@checked
def window_partition(h: Float[Tensor, "b rows columns width"], window: Window) -> Float[Tensor, "b windows n width"]:
    """Cut a grid of tokens into windows, row by row, and each window into a row of its tokens.

    Args:
        window: (rows, columns) of one, or one number if it is square; the grid's sides are multiples of them.
    """
    down, across = window  # type: ignore[misc]  # one number was read as two
    require_multiples("h", h.shape[1:3], (down, across))
    return h.unflatten(2, (-1, across)).unflatten(1, (-1, down)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


@checked
def window_reverse(
    windows: Float[Tensor, "b windows n width"], window: Window, rows: Count, columns: Count
) -> Float[Tensor, "b rows columns width"]:
    """The grid, rows × columns, that `window_partition` makes these windows of."""
    down, across = window  # type: ignore[misc]
    require_multiples("rows, columns", (rows, columns), (down, across))
    if windows.shape[1:3] != (rows * columns // (down * across), down * across):
        raise ValueError(f"windows: wanted those {window} of {rows} × {columns}, got shape {tuple(windows.shape)}")
    grid = windows.unflatten(1, (rows // down, columns // across)).unflatten(3, (down, across))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)


@checked
def shift_mask(
    rows: Count, columns: Count, window: Window, shift: Shift, device: torch.device | str | None = None
) -> Bool[Tensor, "windows n n"]:
    """Who may look at whom in each window of a grid that was padded to whole windows, then rolled by -shift.

    The roll brings rows of the top to the bottom, and padding lies in between: in a window that holds several of these
    only tokens of the same one may look at each other. A token always sees itself.

    Args:
        rows, columns: of the grid, before it is padded.
    """

    def pieces(side: int, window: int, shift: int) -> Tensor:  # 0 as it was, 1 come round the edge, 2 padding
        padded = side + -side % window
        place = torch.arange(padded, device=device).roll(-shift)
        return torch.where(place >= side, 2, (place < shift).long())

    device = as_device(device)
    of_rows, of_columns = map(pieces, (rows, columns), window, shift)  # type: ignore[arg-type]
    piece = (3 * of_rows[:, None] + of_columns).double()[None, :, :, None]
    piece = window_partition(piece, window)[0, :, :, 0]
    return piece[:, :, None] == piece[:, None, :]


@checked
def relative_index(window: Window, largest: Count, device: torch.device | str | None = None) -> Int[Tensor, "n n"]:
    """Which entry of a table of (2 largest - 1)² offsets belongs to query i and key j of a window.

    (row_i - row_j + largest - 1) (2 largest - 1) + (column_i - column_j + largest - 1)
    """
    down, across = window  # type: ignore[misc]
    device = as_device(device)
    row = torch.arange(down, device=device).repeat_interleave(across)
    column = torch.arange(across, device=device).repeat(down)
    apart = [place[:, None] - place + largest - 1 for place in (row, column)]
    return apart[0] * (2 * largest - 1) + apart[1]


def fitted(window: int, side: int, shifted: bool) -> tuple[int, int]:
    """(window, shift) along a side of so many tokens: a window that holds all of it is as long, and does not shift."""
    return (side, 0) if window >= side else (window, window // 2 if shifted else 0)


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learned bias for each offset; by half a window shifted or not.

    Pad, roll, cut into windows, attend, and all that back again. Padding comes before the roll, and the mask knows of
    both, so that each token sees exactly the tokens of its own window that are there.

    Args:
        width: of a token.
        heads: a divisor of `width`.
        window: its side, in tokens. Along a side of the grid that is no longer, it is as long and does not shift.
        shifted: whether windows begin half a window earlier.
        qk_norm, fused: see `dit.TokenAttention`.
    """

    @checked
    def __init__(
        self,
        width: Count,
        heads: Count = 4,
        window: Count = 7,
        shifted: bool = False,
        qk_norm: bool = True,
        fused: bool | None = None,
    ):
        super().__init__()
        self.window, self.shifted = window, shifted
        self.attention = TokenAttention(width, heads, qk_norm, fused)
        self.bias = nn.Parameter(0.02 * torch.randn(heads, (2 * window - 1) ** 2))

    def forward(self, h: Float[Tensor, "b rows columns width"]) -> Float[Tensor, "b rows columns width"]:
        rows, columns = h.shape[1:3]
        window, shift = zip(*(fitted(self.window, side, self.shifted) for side in (rows, columns)), strict=True)
        bias = self.bias[:, relative_index(window, self.window, h.device)]  # (heads, n, n)
        below, right = -rows % window[0], -columns % window[1]
        if below or right or any(shift):
            allowed = shift_mask(rows, columns, window, shift, h.device)
            bias = bias.masked_fill(~allowed[:, None], float("-inf"))  # (windows, heads, n, n)
        h = F.pad(h, (0, 0, 0, right, 0, below)).roll((-shift[0], -shift[1]), dims=(1, 2))
        mixed = self.attention(window_partition(h, window), bias)
        h = window_reverse(mixed, window, rows + below, columns + right).roll(shift, dims=(1, 2))
        return h[:, :rows, :columns]


def merge(h: Float[Tensor, "b rows columns width"]) -> Float[Tensor, "b rows//2 columns//2 4*width"]:
    """2 × 2 tokens become one of four times the width."""
    return h.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).flatten(3)


def split(h: Float[Tensor, "b rows columns four"]) -> Float[Tensor, "b 2*rows 2*columns four//4"]:
    """The inverse of `merge`."""
    return h.unflatten(3, (2, 2, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


class Swin(nn.Module):
    """A U-Net of shifted windows: (scaled x_t, log-SNR, class) in, what its wrapper asks for out.

    Args:
        channels: of the images.
        widths: of a token at each level, finest first; each level merges 2 × 2 tokens into one.
        blocks: `AdaLNZero`s a level, on the way down and as many on the way up; every second one shifts.
        head: channels of a head of attention; divides the widths.
        window: side of a window, in tokens.
        patch: side of the squares that become one token.
        num_classes: 0, or the number of classes for `label`.
        qk_norm: see `dit.TokenAttention`.

    Where a token lies it knows from the windows' biases alone. Images whose sides are no multiple of
    patch · 2^(levels - 1) are padded by repeating the edge, then cropped.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        widths: Annotated[Sequence[int], Sizes()] = (64, 128),
        blocks: Count = 2,
        head: Count = 16,
        window: Count = 7,
        patch: Count = 2,
        num_classes: Annotated[int, Whole(0)] = 0,
        qk_norm: bool = True,
    ):
        super().__init__()
        self.channels, self.patch, self.multiple = channels, patch, patch * 2 ** (len(widths) - 1)
        dim = widths[-1]
        self.embed = NoiseEmbedding(dim, num_classes)
        self.first = nn.Linear(channels * patch**2, widths[0])

        def level(width: int) -> nn.ModuleList:
            return nn.ModuleList(
                AdaLNZero(width, dim, WindowAttention(width, width // head, window, i % 2 == 1, qk_norm))
                for i in range(blocks)
            )

        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(level(width) for width in widths[:-1])
        self.merges = nn.ModuleList(nn.Linear(4 * fine, coarse) for fine, coarse in steps)
        self.middle = level(widths[-1])
        self.splits = nn.ModuleList(nn.Linear(coarse, 4 * fine) for fine, coarse in steps)
        self.joins = nn.ModuleList(nn.Linear(2 * fine, fine) for fine, _ in steps)
        self.up = nn.ModuleList(level(width) for width in widths[:-1])
        self.last = LastLayer(widths[0], dim, channels * patch**2)

    def forward(
        self,
        x: Float[Tensor, "b c height width"],
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c height width"]:
        require_input(self, x, log_snr, label)
        vector = self.embed(log_snr, label)
        padded = pad_to_multiple(x, self.multiple)
        height, width = padded.shape[-2:]
        h = self.first(patchify(padded, self.patch)).unflatten(1, (height // self.patch, width // self.patch))
        skips = []
        for blocks, linear in zip(self.down, self.merges, strict=True):
            for block in blocks.children():
                h = block(h, vector)
            skips.append(h)
            h = linear(merge(h))
        for block in self.middle:
            h = block(h, vector)
        for i in reversed(range(len(self.up))):
            h = self.joins[i](torch.cat([split(self.splits[i](h)), skips.pop()], dim=-1))
            for block in self.up[i].children():
                h = block(h, vector)
        out = unpatchify(self.last(h.flatten(1, 2), vector), self.patch, height, width)
        return out[..., : x.shape[-2], : x.shape[-1]]
