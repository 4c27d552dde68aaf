r"""Films of moving digits, and what tells a film from a heap of pictures: class, velocity, flicker. Lesson 19.

A clip has 8 frames of 16 × 16: one digit of MNIST at half size, moved evenly on a straight line. Pixels are in [-1, 1],
-1 is black; networks learn `standardised` clips. A frame's *centre* is that of its brightness.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from course_utils._contract import FINITE, Count, checked
from course_utils._validate import require_bytes

FRAMES, SIDE, REACH = 8, 16, 2.5  # digits start and end within 2.5 pixels of the middle, to each side
MEAN, STD = -0.81, 0.43  # about, of pixels in [-1, 1]

Clips = Annotated[Float[Tensor, "b 1 frames height width"], FINITE]


def standardised(clips: Clips) -> Clips:
    """Pixels with mean 0 and variance 1, about."""
    return (clips - MEAN) / STD


def pixels(x: Clips) -> Clips:
    """The inverse of `standardised`, clipped to [-1, 1]."""
    return (x * STD + MEAN).clamp(-1, 1)


def shifted_frames(bright: Float[Tensor, "n 1 h w"], by: Float[Tensor, "n 2"], side: int = SIDE) -> Tensor:
    """Each picture, 0 where it is dark, moved by its own (down, right), not whole pixels alone, on a dark square.

    Bilinear: the centre moves by exactly `by`, as long as nothing leaves the square.
    """
    height, width = bright.shape[2:]
    at = torch.arange(side, dtype=bright.dtype, device=bright.device) - (side - 1) / 2
    by = by.to(bright.device)
    y, x = at[None] - by[:, :1], at[None] - by[:, 1:]  # where each row and column comes from, the middle being 0
    grid = torch.stack(torch.broadcast_tensors(2 * x[:, None, :] / width, 2 * y[:, :, None] / height), -1)
    return F.grid_sample(bright, grid.to(bright), align_corners=False)


@checked
def moving_digits(
    images: UInt8[Tensor, "b 1 28 28"], generator: torch.Generator, frames: Count = FRAMES
) -> Float[Tensor, "b 1 frames 16 16"]:
    """A clip of each digit, from one random place to another, at a velocity that stays: up to 0.7 pixels a frame."""
    require_bytes("images", images)
    n = len(images)
    small = F.avg_pool2d(images.float() / 255, 2)  # 14 × 14
    start, end = (REACH * (2 * torch.rand(2, n, 2, generator=generator) - 1)).unbind()
    share = torch.linspace(0, 1, frames) if frames > 1 else torch.zeros(1)
    places = start[:, None] + share[None, :, None] * (end - start)[:, None]  # (n, frames, 2)
    moved = shifted_frames(small.repeat_interleave(frames, 0), places.flatten(0, 1))
    return (2 * moved.unflatten(0, (n, frames)) - 1).transpose(1, 2)


def clips_of(
    images: UInt8[Tensor, "k 1 28 28"], labels: Int[Tensor, "k"], alone: float = 0.2
) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    """A function that makes batches for `training.train`: clips, and at a share `alone` of all steps single frames."""

    def batch(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(images), (n,), generator=generator)
        single = torch.rand((), generator=generator) < alone
        clips = moving_digits(images[chosen], generator, 1 if single else FRAMES)
        return standardised(clips), labels[chosen]

    return batch


@checked
def centres(clips: Clips) -> Float[Tensor, "b frames 2"]:
    """The (row, column) of each frame's centre of brightness, in pixels from the middle."""
    bright = ((clips[:, 0] + 1) / 2).clamp(min=0)
    bright = torch.where(bright > 0.1, bright, 0.0)  # a network's black is not quite black
    height, width = clips.shape[-2:]
    row = torch.arange(height, dtype=bright.dtype, device=clips.device) - (height - 1) / 2
    column = torch.arange(width, dtype=bright.dtype, device=clips.device) - (width - 1) / 2
    mass = bright.sum((2, 3)).clamp(min=1e-6)
    return torch.stack([(bright.sum(3) * row).sum(2) / mass, (bright.sum(2) * column).sum(2) / mass], -1)


@checked
def unsteadiness(clips: Clips) -> Float[Tensor, "b"]:
    """How far the centres are from the straight, even motion that fits them best, root mean square, in pixels."""
    place = centres(clips).double()  # (b, f, 2)
    time = torch.linspace(-1, 1, place.shape[1], dtype=torch.float64, device=clips.device)[None, :, None]
    place = place - place.mean(1, keepdim=True)
    slope = (time * place).sum(1, keepdim=True) / (time**2).sum()
    return (place - time * slope).square().sum(2).mean(1).sqrt()


@checked
def centred(clips: Clips) -> Clips:
    """Every frame moved so that its centre lies in the middle."""
    by = -centres(clips).flatten(0, 1)
    bright = ((clips + 1) / 2).transpose(1, 2).flatten(0, 1)
    moved = shifted_frames(bright, by, clips.shape[-1])
    return (2 * moved.unflatten(0, (len(clips), clips.shape[2])) - 1).transpose(1, 2)


@checked
def flicker(clips: Clips) -> Float[Tensor, "b"]:
    """How much a frame differs from the next when both are centred, root mean square over pixels: motion left out."""
    still = centred(clips)
    return (still[:, :, 1:] - still[:, :, :-1]).square().mean((1, 2, 3, 4)).sqrt()


@checked
def as_digits(clips: Clips) -> UInt8[Tensor, "n 1 28 28"]:
    """All frames, row by row, centred, twice as large and sharpened, as bytes: as MNIST's classifier knows digits."""
    bright, by = ((clips + 1) / 2).transpose(1, 2).flatten(0, 1), centres(clips).flatten(0, 1)
    at = (torch.arange(28, dtype=bright.dtype, device=clips.device) - 13.5) / 2
    y, x = at[None] + by[:, :1], at[None] + by[:, 1:]
    height, width = clips.shape[-2:]
    grid = torch.stack(torch.broadcast_tensors(2 * x[:, None, :] / width, 2 * y[:, :, None] / height), -1)
    large = F.grid_sample(bright, grid, mode="bicubic", align_corners=False)
    large = large / large.amax((2, 3), keepdim=True).clamp(min=1e-6)
    return ((2 * large - 0.4) * 255).round().clamp(0, 255).to(torch.uint8)
