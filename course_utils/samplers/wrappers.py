"""Around a denoiser: its guess kept where pictures are."""

from typing import Annotated, Any

import torch
from torch import Tensor

from course_utils._contract import In, checked
from course_utils.protocols import Denoise, Time, answer
from course_utils.tensors import broadcast


@checked
def clip_x0(
    denoise: Denoise,
    low: Annotated[float, In("[-inf, inf)")] = -1.0,
    high: Annotated[float, In("(low, inf]")] = 1.0,
) -> Denoise:
    """The denoiser with each pixel of its guess clipped to [low, high].

    Where all data lie in [low, high], so does E[x_0 | x_t], and clipping can only bring a guess nearer to it. The
    samplers take the noise from the clipped guess, so that the two still make up x_t. NaN and infinities are handed
    on as they are: the sampler says at which step they came. Lesson 10.

    Raises ValueError unless low < high.
    """

    def clipped(x_t: Tensor, t: Time, **cond: Any) -> Tensor:
        x0_hat = answer(denoise, x_t, t, cond)
        return torch.where(x0_hat.isfinite(), x0_hat.clamp(low, high), x0_hat)

    return clipped


@checked
def dynamic_threshold(denoise: Denoise, quantile: Annotated[float, In("(0, 1]")] = 0.995) -> Denoise:
    """The denoiser with a guess that leaves [-1, 1] clipped and scaled back, each image by its own measure.

    s = max(1, that quantile of |x0_hat| over the image's pixels and channels); x0_hat is clipped to [-s, s] and
    divided by s (Saharia et al. 2022, Imagen, section 2.3). Meant for guesses that strong guidance pushes outwards
    (lesson 15); a guess within [-1, 1] stays as it is. NaN and infinities are handed on as they are. Lesson 10.

    Raises ValueError unless 0 < quantile <= 1.
    """

    def thresholded(x_t: Tensor, t: Time, **cond: Any) -> Tensor:
        x0_hat = answer(denoise, x_t, t, cond)
        size = x0_hat.abs().flatten(1)
        size = size.to(torch.promote_types(size.dtype, torch.float32))  # torch has no quantile of half precision
        s = broadcast(size.quantile(quantile, dim=1).clamp(min=1), x0_hat)
        return torch.where(x0_hat.isfinite(), x0_hat.clamp(-s, s) / s, x0_hat)

    return thresholded
