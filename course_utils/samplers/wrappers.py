"""Around a denoiser: its guess kept where pictures are. Around a sampler: a progress bar, and batches that fit."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from course_utils._validate import require_callable, require_count, require_in, require_same
from course_utils.samplers.grids import Step
from course_utils.schedules import Schedule, broadcast

Denoise = Callable[..., Tensor]
Sampler = Callable[..., Tensor]


def clip_x0(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """The denoiser with each pixel of its guess clipped to [low, high].

    Where all data lie in [low, high], so does E[x_0 | x_t], and clipping can only bring a guess nearer to it. The
    samplers take the noise from the clipped guess, so that the two still make up x_t. NaN and infinities are handed
    on as they are: the sampler says at which step they came. Lesson 10.

    Raises ValueError unless low < high.
    """
    require_callable("denoise", denoise)
    require_in("low", low, "[-inf, inf)")
    require_in("high", high, f"({low}, inf]")

    def clipped(x_t: Tensor, t: object, **cond: object) -> Tensor:
        x0_hat = denoise(x_t, t, **cond)
        require_same("denoise", x0_hat, "x_t", x_t)
        return torch.where(x0_hat.isfinite(), x0_hat.clamp(low, high), x0_hat)

    return clipped


def dynamic_threshold(denoise: Denoise, quantile: float = 0.995) -> Denoise:
    """The denoiser with a guess that leaves [-1, 1] clipped and scaled back, each image by its own measure.

    s = max(1, that quantile of |x0_hat| over the image's pixels and channels); x0_hat is clipped to [-s, s] and
    divided by s (Saharia et al. 2022, Imagen, section 2.3). Meant for guesses that strong guidance pushes outwards
    (lesson 15); a guess within [-1, 1] stays as it is. NaN and infinities are handed on as they are. Lesson 10.

    Raises ValueError unless 0 < quantile <= 1.
    """
    require_callable("denoise", denoise)
    require_in("quantile", quantile, "(0, 1]")

    def thresholded(x_t: Tensor, t: object, **cond: object) -> Tensor:
        x0_hat = denoise(x_t, t, **cond)
        require_same("denoise", x0_hat, "x_t", x_t)
        size = x0_hat.abs().flatten(1)
        size = size.to(torch.promote_types(size.dtype, torch.float32))  # torch has no quantile of half precision
        s = broadcast(size.quantile(quantile, dim=1).clamp(min=1), x0_hat)
        return torch.where(x0_hat.isfinite(), x0_hat.clamp(-s, s) / s, x0_hat)

    return thresholded


def in_batches(sampler: Sampler, batch_size: int) -> Sampler:
    """The sampler, run on at most `batch_size` images at a time, one batch after the other.

    What comes out is what one gets by hand: the batches sampled in turn with the same generator, and joined. Without
    noise on the way that is the sampler's own answer, up to the rounding of networks that compute other batch sizes
    in another order. With noise it is as good a draw as any, but another one, since the noise falls in another order.

    A keyword that is a tensor as long as the batch, such as `label`, is split along; anything else goes to every batch
    as it is. The callback gets all steps of the first batch, then all of the second, ….

    Raises what the sampler does; ValueError for a batch size below 1.
    """
    require_callable("sampler", sampler)
    require_count("batch_size", batch_size, least=1)

    def sample(
        denoise: Denoise, x_T: Float[Tensor, "b *shape"], schedule: Schedule, timesteps: Sequence, **options: object
    ) -> Float[Tensor, "b *shape"]:
        parts = []
        for start in range(0, max(len(x_T), 1), batch_size):  # an empty batch is one, too
            rows = slice(start, start + batch_size)
            here = {
                name: value[rows] if isinstance(value, Tensor) and value.shape[:1] == x_T.shape[:1] else value
                for name, value in options.items()
            }
            parts.append(sampler(denoise, x_T[rows], schedule, timesteps, **here))
        return torch.cat(parts)

    return sample


def with_progress(sampler: Sampler, label: str = "sampling") -> Sampler:
    """The sampler with a progress bar, which counts images times steps; a callback is called all the same.

    Around `in_batches` it is one bar for all batches, inside it one for each.
    """
    require_callable("sampler", sampler)

    def sample(
        denoise: Denoise,
        x_T: Float[Tensor, "b *shape"],
        schedule: Schedule,
        timesteps: Sequence,
        *,
        callback: Callable[[Step], None] | None = None,
        **options: object,
    ) -> Float[Tensor, "b *shape"]:
        with tqdm(total=len(x_T) * (len(timesteps) - 1), desc=label, unit=" image steps", unit_scale=True) as bar:

            def count(step: Step) -> None:
                bar.update(len(step.x_t))
                if callback is not None:
                    callback(step)

            return sampler(denoise, x_T, schedule, timesteps, callback=count, **options)

    return sample
