"""The task of every denoiser: to guess the clean image at random noise levels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import Count, OneOf, checked
from course_utils._validate import require_count, require_generator, require_in, require_one_of
from course_utils.data import CLASSES, random_flip
from course_utils.forward import noise_like
from course_utils.losses import WEIGHTINGS, denoising_loss
from course_utils.runs import Training
from course_utils.runtime import moved
from course_utils.samplers import uniform_grid
from course_utils.schedules import Schedule, require_schedule
from course_utils.tasks.task import known_classes

TIMES = ("uniform", "cosine", "lognormal")


@dataclass(frozen=True)
class Denoising:
    """`losses.denoising_loss` at random times, for `training.train`.

    Args:
        weighting: see `losses`.
        times: which noise levels are drawn how often: see `draw_t`.
        label_drop: share of labels replaced by -1, no class, so that guidance works later (lesson 15).
        flip: mirror half of the images (never digits).
    """

    weighting: str = "v"
    times: str = "uniform"
    label_drop: float = 0.1
    flip: bool = False

    def __post_init__(self) -> None:
        require_one_of("weighting", self.weighting, WEIGHTINGS)
        require_one_of("times", self.times, TIMES)
        require_in("label_drop", self.label_drop, "[0, 1]")

    def __call__(
        self, run: Training, x_0: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        model: Any = run.model
        rows = run.rows
        if not hasattr(model, "schedule"):
            raise TypeError(
                f"run: wanted a Training of a Denoiser, which has a schedule, got one of {type(model).__name__}; "
                "Denoiser(network, schedule) makes one of a network"
            )
        t = draw_t(model.schedule, len(x_0), generator, self.times)
        cond: dict[str, Any] = {}
        if label is not None:
            dropped = torch.rand(len(x_0), generator=generator, dtype=torch.float32) < self.label_drop
            cond["label"] = torch.where(moved(dropped, label.device), -1, label)[rows]
        x_0 = random_flip(x_0, generator) if self.flip else x_0
        more = self.shown(run, x_0, generator)
        eps = noise_like(x_0, generator)[rows]
        x_0, t = x_0[rows], t[rows]
        if x_0.ndim == 4:
            x_0 = x_0.contiguous(memory_format=torch.channels_last)
        how: dict[str, Any] = {"weighting": self.weighting, "data_std": model.data_std}
        losses = denoising_loss(run.forward, x_0, moved(t, run.device), model.schedule, eps, **how, **cond, **more)
        return losses, t

    def shown(self, run: Training, x_0: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """What the network is shown beside x_t, the class and the time, for `run.rows` of the batch: nothing here."""
        return {}

    def through(self, model: Any, sampler: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The sampler that makes the dataset's images of the network: the one given, here."""
        return sampler

    def measure(
        self,
        model: Any,
        dataset: str,
        *,
        n: int = 10_000,
        steps: int = 50,
        sampler: str = "ddim",
        guidance: float = 1.0,
        seed: int = 0,
        precision: torch.dtype = torch.float32,
        progress: Callable[[int], object] | None = None,
    ) -> object:
        """FID of n samples, its interval and its floor; class agreement if there are classes: a `metrics.Score`."""
        from course_utils import metrics  # above tasks: they take networks that a recipe of a task describes

        require_one_of("sampler", sampler, metrics.SAMPLERS)
        if dataset not in CLASSES:
            raise ValueError(f"dataset: {dataset} has no figures by itself; measure a network that builds on it")
        return metrics.evaluate(
            model,
            dataset,
            n=n,
            sampler=self.through(model, metrics.SAMPLERS[sampler]),
            timesteps=uniform_grid(model.schedule, steps),
            guidance=guidance,
            num_classes=known_classes(model),
            seed=seed,
            precision=precision,
            progress=progress,
        )


def named(way: Any, sampler: Callable[..., Tensor], how: str) -> Any:
    """A sampler that goes another way, called after the one that it goes by, so that a `metrics.Score` can say it."""
    way.__name__ = f"{getattr(sampler, '__name__', type(sampler).__name__)} ({how})"
    return way


@checked
def draw_log_snr(
    n: Count, generator: torch.Generator, times: Annotated[str, OneOf(TIMES[1:])] = "cosine"
) -> Float[Tensor, "n"]:
    """n log-SNRs to train at, float64, falling, for one u in each nth of [0, 1] (Kingma et al. 2021, app. I.1):

    * "cosine": -2 log tan(pi u / 2), as on a cosine schedule (Nichol & Dhariwal 2021);
    * "lognormal": normal, of mean 2.4 and deviation 2.4, as where log (sigma / alpha) has mean -1.2 and deviation 1.2
      (Karras et al. 2022, table 1).
    """
    u = ((torch.rand(1, generator=generator, dtype=torch.float64) + torch.arange(n)) / n).clamp(1e-3, 1 - 1e-3)
    if times == "lognormal":
        return 2.4 - 2.4 * torch.special.ndtri(u)
    return -2 * torch.tan(torch.pi / 2 * u).log()


def draw_t(schedule: Schedule, n: int, generator: torch.Generator, times: str = "uniform") -> Tensor:
    """n times to train at: among 1 … T, or in [0.001, 0.999) if time is continuous, where both ends can be singular.

    * "uniform": each as often, independently: what papers write;
    * "cosine", "lognormal": where the log-SNR is as `draw_log_snr` says.

    The second trains the same network for the same schedule, only more where there is more to learn: a third of the
    times of `linear()` have an SNR below 1/100, where almost nothing is; this way it is one in sixteen.
    """
    require_schedule(schedule)
    require_count("n", n)
    require_generator(generator)
    require_one_of("times", times, TIMES)
    if times != "uniform":
        t = schedule.t_at_log_snr(draw_log_snr(n, generator, times))
        return t if schedule.T else t.clamp(0.001, 0.999).float()
    if schedule.T is None:
        return 0.001 + 0.998 * torch.rand(n, generator=generator, dtype=torch.float32)
    return torch.randint(1, schedule.T + 1, (n,), generator=generator)
