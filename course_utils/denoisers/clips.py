"""A denoiser of films: convolutions within each frame, attention over time at each place."""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, Divides, Whole, checked
from course_utils.denoisers._inputs import require_input, require_multiples
from course_utils.denoisers.attention import SelfAttention
from course_utils.denoisers.embeddings import NoiseEmbedding, sinusoidal_embedding
from course_utils.denoisers.layers import zeroed
from course_utils.denoisers.unet import ResBlock, group_norm


class ClipDenoiser(nn.Module):
    """`network(x, log_snr, label) -> F` for clips (b, channels, frames, height, width): factorised space and time.

    Each block first looks at each frame by itself (a `ResBlock`), then at each place through all frames (attention over
    `frames` positions): n places and f frames cost n f² and convolutions (in one block f n² as well, within frames),
    where attention over all at once would cost n² f². Any number of frames will do; with one, time is only what it has
    learned of single frames (Ho et al. 2022).

    Args:
        channels: of a frame.
        width: channels inside, a multiple of 2 and of `heads`.
        blocks: of both kinds.
        heads: of attention over time.
        stem: side of the pixel blocks that become channels first; divides height and width.
        num_classes: 0, or the number of classes for `label`.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        width: Annotated[int, Whole(of=2)] = 64,
        blocks: Count = 4,
        heads: Annotated[int, Whole(), Divides("width")] = 4,
        stem: Count = 2,
        num_classes: Annotated[int, Whole(0)] = 0,
    ):
        super().__init__()
        self.channels, self.width, self.stem = channels, width, stem
        dim = 2 * width
        self.embed = NoiseEmbedding(dim, num_classes)
        self.first = nn.Conv2d(channels * stem**2, width, 3, padding=1)
        self.space = nn.ModuleList(ResBlock(width, width, dim, attends=i == blocks // 2) for i in range(blocks))
        self.time = nn.ModuleList(SelfAttention(width, heads) for _ in range(blocks))
        self.last_norm = group_norm(width)
        self.last = zeroed(nn.Conv2d(width, channels * stem**2, 3, padding=1))

    def forward(
        self,
        x: Float[Tensor, "b c frames height width"],
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c frames height width"]:
        if x.ndim != 5:
            raise ValueError(f"x: wanted (b, {self.channels}, frames, height, width), got {tuple(x.shape)}")
        b, frames, pictures = len(x), x.shape[2], x.transpose(1, 2).flatten(0, 1)
        require_input(self, pictures)
        require_multiples("x", x.shape[3:], self.stem)
        vector = self.embed(log_snr, label).repeat_interleave(frames, 0)
        h = self.first(F.pixel_unshuffle(pictures, self.stem))  # (b · frames, width, …)
        when = sinusoidal_embedding(torch.arange(frames, device=x.device).float(), self.width, longest=10.0)
        h = h + when.to(h.dtype).repeat(b, 1)[:, :, None, None]
        for within, through in zip(self.space, self.time, strict=True):
            h = _over_time(through, within(h, vector), frames)
        h = F.pixel_shuffle(self.last(F.silu(self.last_norm(h))), self.stem)
        return h.unflatten(0, (b, frames)).transpose(1, 2)


def _over_time(attention: nn.Module, h: Tensor, frames: int) -> Tensor:
    """Attention over the frames at each place: (b · frames, c, h, w) as (b · h · w, c, frames, 1), and back."""
    c, height, width = h.shape[1:]
    lines = h.unflatten(0, (-1, frames)).permute(0, 3, 4, 2, 1)  # (b, h, w, c, frames)
    mixed = attention(lines.reshape(-1, c, frames, 1))
    return mixed.reshape(-1, height, width, c, frames).permute(0, 4, 3, 1, 2).reshape(h.shape)
