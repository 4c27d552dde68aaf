r"""The tasks of networks that jump: where the flow leads, learned without following it step by step (lesson 14).

All want a model that is told where a jump ends, `denoise(x_t, t, r=r, **cond) -> x0_hat`; the jump itself is

    x_r = alpha_r x0_hat + (sigma_r / sigma_t) (x_t - alpha_t x0_hat)            (see `samplers.flow_maps`)

A *teacher* is a denoiser: `run.frozen["teacher"]`, or one given to the task, such as an exact one. Shipped networks
hold averaged weights (EMA); that a teacher of your own does so is your care, and no small matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from course_utils import guidance
from course_utils._validate import require_count, require_falling_times, require_in
from course_utils.denoisers import Denoiser
from course_utils.forward import noise_like, q_sample
from course_utils.losses import energy_distance, pseudo_huber
from course_utils.protocols import Denoise
from course_utils.runs import Training
from course_utils.runtime import moved
from course_utils.samplers import uniform_grid
from course_utils.schedules import FlowMatching, Schedule
from course_utils.schedules.jumps import Jump, coeffs_of
from course_utils.tasks.denoising import Denoising
from course_utils.tensors import broadcast


class _Jumps:
    """What the tasks of jumping networks share: how they are measured."""

    def measure(
        self,
        model: Any,
        dataset: str,
        *,
        n: int = 10_000,
        steps: int = 1,
        sampler: str = "consistency",
        seed: int = 0,
        precision: torch.dtype = torch.float32,
        progress: Callable[[int], object] | None = None,
    ) -> object:
        """FID of n samples in one call, unless told more steps; with interval, floor, agreement: a `metrics.Score`."""
        how: dict[str, Any] = {"n": n, "steps": steps, "sampler": sampler, "seed": seed}
        return Denoising().measure(model, dataset, **how, precision=precision, progress=progress)


@dataclass(frozen=True)
class Consistency(_Jumps):
    r"""Jumps to clean data that agree along a path: f(x_t) should be what f says one step nearer, at x_r.

        |f(x_t, t) - sg f(x_r, r)|,      x_r from x_t by one step of DDIM with a guess of x_0

    With a teacher the guess is its own: consistency *distillation* (Song et al. 2023, Alg. 2). Without one it is x_0
    itself, so that x_r has the noise of x_t: consistency *training* (Alg. 3). The target is asked of the same weights,
    in the same mode, without a gradient (Song & Dhariwal 2024, section 3.2). At the last step x_r = x_0, and f says so,
    whatever its weights are: that c_out is 0 at t = 0 is what all else hangs on.

    Args:
        teacher: a denoiser of the model's path; None takes the run's frozen teacher, if it has one.
        guidance: weight of the teacher's classifier-free guidance.
        steps: in how many steps time is cut at first, evenly; doubled every `doubling` steps of training up to `most`,
            never if that is 0. Few steps learn fast and end at a bias, many the other way round.
    """

    teacher: Denoise | None = None
    guidance: float = 1.0
    steps: int = 10
    doubling: int = 0
    most: int = 160

    def __post_init__(self) -> None:
        require_in("guidance", self.guidance, "[0, inf)")
        require_count("steps", self.steps)
        require_count("doubling", self.doubling, least=0)
        require_count("most", self.most)

    def __call__(
        self, run: Training, x_0: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        model: Any = run.model
        schedule, rows, cond = model.schedule, run.rows, _condition(label, run)
        doubled = self.steps * 2 ** (run.step // self.doubling) if self.doubling else self.steps
        grid = torch.tensor(uniform_grid(schedule, min(doubled, max(self.most, self.steps))))
        i = torch.randint(len(grid) - 1, (len(x_0),), generator=generator)[rows]
        t, r = moved(grid[i], run.device), moved(grid[i + 1], run.device)
        eps, x_0 = noise_like(x_0, generator)[rows], x_0[rows]
        x_t = q_sample(x_0, t, schedule, eps)
        with torch.no_grad():
            teacher = _teacher(self.teacher, self.guidance, run)
            guess = x_0 if teacher is None else teacher(x_t, t, **cond)
            x_r = _jumped(x_t, guess, t, r, schedule)
            target = model(x_r, r, r=0 * r, **cond)
        return pseudo_huber(run.forward(x_t, t, r=0 * t, **cond), target), t.cpu()


@dataclass(frozen=True)
class MeanFlow(_Jumps):
    r"""Jumps between any two times of the straight path, by the derivative of their mean velocity (Geng et al. 2025).

        u(x_t, t, r) = v - (t - r) du/dt,   d/dt along the path: v d/dx + d/dt            (their Eq. 6)

    v = eps - x_0, or the teacher's velocity at x_t. The right-hand side is the target: without a gradient, its
    derivative by one forward-mode product with the tangents (v, 1) of (x_t, t), r at rest. The error is divided by its
    own size, |error|² + c, p = 1 (section 4.3). Wants `schedules.FlowMatching`, and written-out attention:
    forward-mode differentiation knows no fused one.

    Args:
        teacher: a denoiser of the model's path; None takes the run's frozen teacher, if it has one.
        guidance: weight of the teacher's classifier-free guidance.
        same: share of rows with r = t, plain flow matching.
        whole: share of rows with r = 0.
    """

    teacher: Denoise | None = None
    guidance: float = 1.0
    same: float = 0.5
    whole: float = 0.0

    def __post_init__(self) -> None:
        require_in("guidance", self.guidance, "[0, inf)")
        require_in("same", self.same, "[0, 1]")
        require_in("whole", self.whole, "[0, 1]")

    def __call__(
        self, run: Training, x_0: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        model: Any = run.model
        if not isinstance(model.schedule, FlowMatching):
            raise TypeError(f"run: wanted a model on the straight path, FlowMatching(), got {model.schedule!r}")
        rows, cond, n = run.rows, _condition(label, run), len(x_0)
        two, kind = torch.rand(2, n, generator=generator), torch.rand(n, generator=generator)
        t, r = 0.001 + 0.998 * two.amax(0), 0.001 + 0.998 * two.amin(0)
        r = torch.where(kind < self.same, t, torch.where(kind > 1 - self.whole, 0.0, r))
        t, r = moved(t[rows], run.device), moved(r[rows], run.device)
        eps, x_0 = noise_like(x_0, generator)[rows], x_0[rows]
        x_t = q_sample(x_0, t, model.schedule, eps)
        teacher, v = _teacher(self.teacher, self.guidance, run), eps - x_0
        if teacher is not None:
            with torch.no_grad():
                v = (x_t - teacher(x_t, t, **cond)) / broadcast(t, x_t)

        def mean_velocity(x_t: Tensor, t: Tensor) -> Tensor:
            return (x_t - model(x_t, t, r=r, **cond)) / broadcast(t, x_t)

        with torch.autocast(run.device.type, enabled=False):
            u, dudt = cast(Any, torch.func.jvp(mean_velocity, (x_t, t), (v, torch.ones_like(t))))
        target = v - broadcast(t - r, v) * dudt.detach()
        squared = (u - target).square().flatten(1).mean(1)
        return squared / (squared.detach() + 1e-3), t.cpu()


@dataclass(frozen=True)
class Reflow:
    """Flow matching on given pairs: straight lines between a noise and *its* image (Liu et al. 2023).

    A row of the data is such a pair, (2, *shape): the noise, and where the flow led from it. Their times are uniform.
    """

    def __call__(
        self, run: Training, pairs: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        t = (0.001 + 0.998 * torch.rand(len(pairs), generator=generator, dtype=torch.float32))[run.rows]
        eps, x_0 = pairs[run.rows].unbind(1)
        model: Any = run.model
        here = moved(t, run.device)
        x_t = q_sample(x_0, here, model.schedule, eps)
        x0_hat = run.forward(x_t, here, **_condition(label, run))
        u_error = (x0_hat - x_0) / broadcast(here, x_0)
        return u_error.square().flatten(1).mean(1), t


@dataclass(frozen=True)
class Jumping(_Jumps):
    """Regression on paths that were walked once and kept: from a state of a path to its end, in one jump.

    A row of the data is a path, (len(times), *shape): noise first. With two times, noise and clean data, this is what
    Liu et al. 2023 do after reflow, and Luhman & Luhman 2021 without it.

    With `run.frozen["eyes"]`, a classifier, images are also compared as its layers see them (Zhang et al. 2018), and
    batches by their distances in its features (the energy distance, Székely & Rizzo 2013). It must not be the one that
    measures afterwards.

    Args:
        times: of the states, falling; the model's own.
        whole: share of rows that begin at the noise; the others at any later state but the last.
        seen, spread: weights of the eyes' two, beside the squared error of pixels.
    """

    times: Sequence[int | float] = (1000, 0)
    whole: float = 1.0
    seen: float = 0.3
    spread: float = 0.3

    def __post_init__(self) -> None:
        require_falling_times("times", self.times)
        require_in("whole", self.whole, "[0, 1]")
        require_in("seen", self.seen, "[0, inf)")
        require_in("spread", self.spread, "[0, inf)")

    def __call__(
        self, run: Training, paths: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Any, Tensor]:
        return self.jump(run, paths, label, generator)[:2]

    def jump(
        self, run: Training, paths: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and times, row by row, and where the jumps ended."""
        last, n = len(self.times) - 1, len(paths)
        later = torch.randint(1, max(last, 2), (n,), generator=generator) * (last > 1)
        start = torch.where(torch.rand(n, generator=generator) < self.whole, 0, later)[run.rows]
        paths, times = paths[run.rows], torch.tensor(self.times)
        x_t, x_0, t = paths[torch.arange(len(paths)), start], paths[:, last], times[start]
        found = run.forward(x_t, moved(t, run.device), r=times[-1], **_condition(label, run))
        losses = (found - x_0).float().square().flatten(1).mean(1)
        if "eyes" in run.frozen:
            whole = start == 0
            a, b = (_layers(run.frozen["eyes"], x) for x in (found, x_0))
            losses = losses + self.seen * sum(
                (p - q).float().square().flatten(1).mean(1) for p, q in zip(a, b, strict=True)
            )
            if whole.sum() > 1:
                means = [torch.cat([p.float().mean((2, 3))[whole] for p in layers], 1) for layers in (a, b)]
                losses = losses + self.spread * energy_distance(*means)
        return losses, t, found


def _jumped(x_t: Tensor, x0_hat: Tensor, t: Tensor, r: Tensor, schedule: Schedule) -> Tensor:
    """The jump from t to r, row by row."""
    return Jump(t, r, *coeffs_of(t, schedule), *coeffs_of(r, schedule)).advance(x_t, x0_hat)  # of times not looked at


def _condition(label: Tensor | None, run: Training) -> dict[str, Tensor]:
    return {} if label is None else {"label": label[run.rows]}


def _teacher(given: Denoise | None, w: float, run: Training) -> Denoise | None:
    """The task's own teacher, or the run's, guided if w is not 1; None if there is none.

    Networks are told the log-SNR, and wrappers scale their input: one that was trained on another path serves as it is.
    """
    teacher, model = given or run.frozen.get("teacher"), cast(Any, run.model)
    if isinstance(teacher, Denoiser):
        teacher = Denoiser(teacher.network, model.schedule, teacher.predict, teacher.data_mean, teacher.data_std)
    return teacher if teacher is None or w == 1 else guidance.classifier_free(teacher, w)


def _layers(eyes: Any, x: Tensor) -> list[Tensor]:
    """What each stage of a classifier makes of images."""
    found = []
    for stage in eyes.body:
        x = stage(x)
        found.append(x)
    return found[1:]  # the first only rearranges pixels
