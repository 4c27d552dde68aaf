"""The task of a cascade's upper network: to guess a large picture, given its small one (lesson 16)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_utils._validate import require_count, require_in
from course_utils.cascades import downsample, enlarge, sample_cascade
from course_utils.forward import noise_like, q_sample
from course_utils.protocols import steps_of
from course_utils.runs import Training
from course_utils.runtime import moved
from course_utils.samplers import uniform_grid
from course_utils.tasks.denoising import Denoising, named


@dataclass(frozen=True)
class Upscaling(Denoising):
    """`Denoising` of pictures whose small version is shown beside x_t, itself noised to a random time r, which is told.

    Args:
        k: sides of the squares that a small picture's pixels are means of.
        most: share of the schedule's times that r is drawn from, evenly, first ones first; with 0 the small picture is
            always shown as it is, and r = 0.
        base: the shipped network that draws small pictures, for `measure`.
        augment: the r of `measure`, as a share of the schedule's times.
        base_steps: in how many steps `measure` draws small pictures; 0 for as many as the large ones.
    """

    k: int = 4
    most: float = 0.3
    base: str = "mnist-seven"
    augment: float = 0.025
    base_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("k", self.k)
        require_in("most", self.most, "[0, 1]")
        require_in("augment", self.augment, "[0, 1]")
        require_count("base_steps", self.base_steps, least=0)

    def shown(self, run: Training, x_0: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """The small pictures, enlarged, and the times to which they are noised."""
        model: Any = run.model
        T = steps_of(model.schedule)
        r = torch.rand(len(x_0), generator=generator, dtype=torch.float32) * self.most
        r = moved((r * T).round().long() if T else r, x_0.device)
        small = downsample(x_0, self.k)
        small = q_sample(small, r, model.schedule, noise_like(small, generator))[run.rows]
        return {"r": r[run.rows], "beside": enlarge(small, self.k)}

    def through(self, model: Any, sampler: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The whole cascade, by the sampler."""
        from course_utils.pretrained import load_denoiser  # which knows the recipes of tasks

        T = steps_of(model.schedule)
        r = round(self.augment * T) if T else self.augment
        base = load_denoiser(self.base, next(model.parameters()).device)
        grid = uniform_grid(model.schedule, self.base_steps) if self.base_steps else None
        how: dict[str, Any] = {"k": self.k, "r": r, "by": sampler, "base_timesteps": grid}
        return named(functools.partial(sample_cascade, base, **how), sampler, f"cascade, r = {r}")
