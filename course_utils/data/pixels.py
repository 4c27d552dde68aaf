"""Images as bytes and as numbers in [-1, 1]; mirrored and moved at random."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from course_utils._validate import require_bytes, require_dtype, require_float, require_generator, require_whole
from course_utils.runtime import moved


def normalize(images: UInt8[Tensor, "*shape"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*shape"]:
    """Bytes to numbers in [-1, 1], where diffusion models work:  x = byte / 127.5 - 1.

    Computed in at least float32, so that `denormalize` returns every byte even after a cast to bfloat16.
    Raises TypeError for anything but uint8: an image that is normalised twice is a quiet, common bug.
    """
    require_bytes("images", images)
    require_dtype("dtype", dtype)
    return (images.to(torch.promote_types(dtype, torch.float32)) / 127.5 - 1).to(dtype)


def denormalize(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Numbers in [-1, 1] back to bytes: rounded to the nearest, clamped to 0 … 255; not-a-number becomes 0, black.

    Raises TypeError for integers.
    """
    require_float("x", x)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return ((x + 1) * 127.5).round().clamp(0, 255).nan_to_num(0).to(torch.uint8)


def random_flip(x: Float[Tensor, "b *shape"], generator: torch.Generator) -> Float[Tensor, "b *shape"]:
    """Half of the images mirrored left to right, drawn for each; the generator lives on the CPU."""
    require_float("x", x)
    require_generator(generator)
    mirrored = torch.rand(len(x), generator=generator, dtype=torch.float32) < 0.5
    return torch.where(moved(mirrored, x.device).reshape(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)


def shifted(x: Float[Tensor, "b c h w"], by: Int64[Tensor, "b 2"]) -> Float[Tensor, "b c h w"]:
    """Each image moved by its own (rows, columns), what comes in at the edge being mirrored; `by` lives on the CPU."""
    require_float("x", x)
    require_whole("by", by)
    if x.ndim != 4 or by.shape != (len(x), 2):
        raise ValueError(f"by: wanted (rows, columns) for each image of {tuple(x.shape)}, got {tuple(by.shape)}")
    most = int(by.abs().max()) if len(by) else 0
    if most >= min(x.shape[2:]):
        raise ValueError(f"by: wanted moves shorter than the images, {tuple(x.shape[2:])}, got {most}")
    by = moved(by, x.device)
    padded = F.pad(x, (most, most, most, most), mode="reflect")
    rows = torch.arange(x.shape[2], device=x.device) + (most - by[:, :1])  # (b, h)
    columns = torch.arange(x.shape[3], device=x.device) + (most - by[:, 1:])  # (b, w)
    image = torch.arange(len(x), device=x.device)
    return padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
