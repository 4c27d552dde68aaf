"""Paths that a denoiser was led along: from its noise to where it ends, kept for others to learn from (lesson 14)."""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils import guidance as guiding
from course_utils._contract import Count, In, Sizes, Whole, checked
from course_utils._contract.times import Grid
from course_utils._validate import as_device, require_count
from course_utils.protocols import Denoise, Schedule
from course_utils.runtime import moved
from course_utils.samplers import sample_dpmpp_2m


@torch.no_grad()
@checked
def draw_paths(
    denoise: Denoise,
    schedule: Schedule,
    n: Count,
    shape: Annotated[Sequence[int], Sizes()],
    timesteps: Grid,
    *,
    labels: Int64[Tensor, "m"],
    guidance: Annotated[float, In("[0, inf)")] = 1.0,
    sampler: Callable[..., Tensor] = sample_dpmpp_2m,
    seed: Annotated[int, Whole(0)] = 0,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> tuple[Float[Tensor, "n times *shape"], Int64[Tensor, "n"]]:
    """The states of n paths at the times of a grid, noise first, in float16; and what each was asked to be.

    Args:
        denoise: `denoise(x_t, t, label=…)`.
        shape: of an image.
        labels: those of some data: a path is asked to be of the class of one drawn at random.
        guidance: weight of classifier-free guidance.
        sampler: that of the paths.
        seed: every thousand paths draw from a stream of their own, seed, seed + 1, …: more are the same, and others.
        precision: of autocast; float32 means none.
        progress: called with the number of paths done after each batch.
    """
    device = as_device(device)
    require_count("number of labels", len(labels))
    asked = denoise if guidance == 1 else guiding.classifier_free(denoise, guidance)
    sigma = schedule.coeffs(timesteps[0])[1].item()
    paths, classes = [], []
    for k, some in enumerate(torch.arange(n).split(1000)):
        generator = torch.Generator().manual_seed(seed + k)
        for batch in some.split(125):
            label = labels[torch.randint(len(labels), (len(batch),), generator=generator)]
            x_T = moved(sigma * torch.randn(len(batch), *shape, generator=generator, dtype=torch.float32), device)
            states = [x_T]
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                sampler(
                    asked,
                    x_T.contiguous(memory_format=torch.channels_last) if x_T.ndim == 4 else x_T,
                    schedule,
                    timesteps,
                    callback=lambda step, states=states: states.append(step.x_s),
                    label=label.to(device),
                )
            paths.append(torch.stack(states, 1).half().cpu())
            classes.append(label)
            if progress:
                progress(len(batch))
    return torch.cat(paths), torch.cat(classes)
