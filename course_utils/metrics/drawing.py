"""Drawing a network's samples, as bytes, as real images are."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from course_utils._validate import (
    as_device,
    require_callable,
    require_count,
    require_dtype,
    require_generator,
    require_sizes,
)
from course_utils.data import denormalize
from course_utils.runtime import moved
from course_utils.samplers import sample_ddim
from course_utils.schedules import Schedule, check_grid, require_schedule


@torch.no_grad()
def draw_images(
    denoise: Callable[..., Tensor],
    schedule: Schedule,
    shape: Sequence[int],
    n: int,
    *,
    timesteps: Sequence[int | float],
    sampler: Callable[..., Tensor] = sample_ddim,
    num_classes: int = 0,
    labels: Int64[Tensor, "n"] | None = None,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    batch_size: int = 250,
    progress: Callable[[int], object] | None = None,
) -> tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, "n"]]:
    """n samples as bytes, as real images are, and the classes they were asked to be.

    Args:
        denoise: a denoiser; called with `label` if there are classes.
        shape: (channels, height, width).
        timesteps: a falling grid, such as `samplers.uniform_grid(schedule, 50)`.
        sampler: `sampler(denoise, x_T, schedule, timesteps, **cond)`.
        num_classes: 0 for samples without a class, whose answer is -1.
        labels: the classes to ask for; 0, 1, …, each equally often, if not given.
        generator: of the noise; lives on the CPU, so that every device draws the same.
        precision: of autocast; float32 means none. The sampler's own arithmetic is in float32.
        batch_size: images at a time.
        progress: called with the number of images done after each batch.
    """
    n, batch_size = require_count("n", n), require_count("batch_size", batch_size)
    require_schedule(schedule)
    check_grid(timesteps, schedule)
    require_dtype("precision", precision)
    require_count("num_classes", num_classes, least=0)
    require_callable("denoise", denoise)
    require_callable("sampler", sampler)
    require_sizes("shape", shape, 3)
    require_generator(generator)
    if not num_classes:
        labels = torch.full((n,), -1)
    elif labels is None:
        labels = torch.arange(n) % num_classes
    elif labels.shape != (n,):
        raise ValueError(f"labels: wanted one for each of {n} samples, got {tuple(labels.shape)}")
    device, images = as_device(device), []
    sigma = schedule.coeffs(timesteps[0])[1].item()
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for label in labels.split(batch_size):
            x_T = moved(sigma * torch.randn(len(label), *shape, generator=generator, dtype=torch.float32), device)
            x_T = x_T.contiguous(memory_format=torch.channels_last)
            cond = {"label": label.to(device)} if num_classes else {}
            images.append(denormalize(sampler(denoise, x_T, schedule, timesteps, **cond)).cpu())
            if progress:
                progress(len(label))
    return torch.cat(images), labels
