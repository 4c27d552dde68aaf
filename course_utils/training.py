"""The training loop, as a generator: it yields a record per step, and the caller decides what to make of it.

    run = Training(model, lr=1e-3)
    for record in train(run, images, labels, steps=2000):
        ...                                   # print, plot, stop: whatever the page wants

One loop for every task: `tasks` says what a step minimises, `runs` what it changes. EMA, checkpoints, progress bars and
live plots are small things around it. Data, their order, times, noise, dropped labels and dropout are functions of the
seed and the step, so there is no random state to save: a run that was stopped and resumed ends with the same weights as
one that was not, bit for bit on a CPU, wherever it was stopped.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_utils._validate import require_callable, require_count, require_in, require_type
from course_utils.data import as_batch, as_labels, batches
from course_utils.runs import EMA, WHOLE, Training
from course_utils.tasks import Denoising, Task

__all__ = ["EMA", "Record", "Training", "TrainingError", "learning_rate", "train"]

MAKING, DROPOUT = 2**32 - 1, 1  # what a seed is for; two numbers alone, of the run and the step, are the task's


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, and what to change."""


@dataclass(frozen=True)
class Record:
    """What one step did."""

    step: int  # steps done, this one included
    loss: float  # of the first part, if the model has several
    lr: float
    gradient_norm: float  # before clipping, of all parts together
    losses: Tensor = field(repr=False)  # unreduced, (b,), on the CPU; of several processes, this one's rows
    t: Tensor | None = field(repr=False)  # (b,), on the CPU
    skipped: bool = False  # float16 overflowed and the step was not taken
    parts: Mapping[str, float] = field(default_factory=dict)  # the loss of each part

    @property
    def summary(self) -> str:
        """The loss in words, or that of each part if there are several."""
        named = self.parts if len(self.parts) > 1 else {"loss": self.loss}
        return ", ".join(f"{name} {value:.4f}" for name, value in named.items())


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Rises on a line over `warmup` steps, then falls towards zero at `steps` as a cosine. `step` counts from 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def train(
    run: Training,
    images: Tensor | Callable[[int, torch.Generator], Any],
    labels: Tensor | None = None,
    *,
    steps: int,
    task: Task | None = None,
    batch_size: int = 128,
    warmup: int = 200,
    clip: float = 1.0,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 500,
    **denoising: Any,
) -> Iterator[Record]:
    """Train until `steps` steps are done in all, yielding a Record after each one.

    Args:
        run: what to train; goes on from `run.step`.
        images: the data, (n, …): images as bytes; or, as they are, latents, waveforms and clips (floats) or tokens
            (whole numbers). Or a function that makes a batch, or a pair of it and its labels: `images(n, generator)`.
        labels: (n,) or None.
        steps: in all, counting those done before a resume. The learning rate falls to zero there.
        task: what to minimise, see `tasks`; `Denoising(**denoising)` unless told: weighting, times, label_drop, flip.
        batch_size: images a step, of all processes together.
        clip: gradients longer than this are shortened to it, part by part.
        checkpoint: a file to write every `every` steps, and at the end; when the caller comes back for the next record,
            so that whatever is done with a step's record is done before that step is on the disk.

    Works alike under no_grad, inference_mode or autocast of the caller's, and whatever the default dtype is.

    Raises:
        ValueError: a batch that several processes cannot share equally.
        TrainingError: a loss or a gradient that is NaN or infinite, out of memory, or no compiler for
            `Training(compile=True)`; the step is not taken and the last checkpoint is kept.
        DataError: a checkpoint could not be written; the last one is kept, and the run can go on.
    """
    require_type("run", run, Training, "a Training")
    steps = require_count("steps", steps, least=0)
    batch_size, every = require_count("batch_size", batch_size), require_count("every", every)
    require_in("warmup", warmup, "[0, inf)")
    require_in("clip", clip, "(0, inf]")
    if task is None:
        task = Denoising(**denoising)
    elif denoising:
        raise TypeError(f"task: it has its own settings, and {', '.join(denoising)} would be lost")
    require_callable("task", task)
    if batch_size % run.processes:  # the mean of the processes' means would not be the mean over the batch
        raise ValueError(f"batch_size: wanted a multiple of the {run.processes} processes, got {batch_size}")
    stream = _stream(run, images, labels, batch_size)
    while run.step < steps:
        rates = [float(learning_rate(run.step, steps, peak, warmup)) for peak in run.peaks]
        buffers = [buffer.clone() for buffer in run.model.buffers()]  # a batch norm's averages move on the way forward
        try:
            with torch.inference_mode(False), torch.enable_grad(), torch.autocast(run.device.type, enabled=False):
                record = _step(run, *next(stream), rates, task, clip)
        except BaseException as error:
            run.forget_step()
            for buffer, before in zip(run.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            kept = f"; the last checkpoint is {Path(checkpoint)}" if checkpoint and Path(checkpoint).exists() else ""
            if reason := _in_words(error, run, batch_size):
                raise TrainingError(f"{reason}{kept}") from (None if isinstance(error, TrainingError) else error)
            raise
        yield record
        if checkpoint and run.writes and (run.step % every == 0 or run.step == steps):
            run.save(checkpoint)


def _stream(run: Training, images: Any, labels: Tensor | None, n: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Batches and their labels, or None, from the run's step on."""
    if not callable(images):
        order = torch.Generator().manual_seed(_mixed(run.seed))
        stream = batches(images, labels, n, generator=order, device=run.device, skip=run.step, dtype=run.dtype)
        yield from stream if labels is not None else ((x, None) for x in stream)  # for ever
    if labels is not None:
        raise ValueError("labels: a function that makes batches makes their labels too: it returns a pair")
    while True:
        made = images(n, torch.Generator().manual_seed(_mixed(run.seed, run.step, MAKING)))
        x, label = made if isinstance(made, tuple) else (made, None)
        if not isinstance(x, Tensor) or len(x) != n or (label is not None and len(label) != n):
            raise ValueError(f"images: wanted a function that makes {n} rows, and as many labels if any")
        yield as_batch(x, run.device, run.dtype), None if label is None else as_labels(label, run.device)


def _step(run: Training, x: Tensor, label: Tensor | None, rates: list[float], task: Task, clip: float) -> Record:
    """One step down each part's own loss, all from the same weights: it is taken whole, or not at all.

    Changes `run` only if all losses and gradients are finite, else raises TrainingError.
    """
    run.forward.train()  # the caller may have sampled, in eval mode
    generator = torch.Generator().manual_seed(_mixed(run.seed, run.step))
    autocast = torch.autocast(run.device.type, run.precision, enabled=run.precision != torch.float32)
    with autocast, _dropout_seed(run.device, _mixed(run.seed, run.step, DROPOUT + (run.rows.start or 0))):
        found, t = task(run, x, label, generator)
    losses = found if isinstance(found, Mapping) else {next(iter(run.parts)): found}
    means = {name: values.mean() for name, values in losses.items()}
    for i, (name, mean) in enumerate(means.items(), 1):
        own = {} if name == WHOLE else {"inputs": run.parts[name], "retain_graph": i < len(means)}
        run.scaler.scale(mean).backward(**own)
    if run.processes > 1:
        _average_gradients(run)
        means = {name: run.accelerator.reduce(mean.detach(), "mean") for name, mean in means.items()}
    run.scaler.unscale_(run.optimizer)
    norms = [nn.utils.clip_grad_norm_(run.parts[name], clip) for name in losses]

    # Here Python waits for the device, once, until the gradients are there. The optimizer's work, which comes after it,
    # may overlap with the preparation of the next batch.
    first = next(iter(losses.values())).detach()
    numbers = torch.cat([first.flatten(), torch.stack([*means.values(), *norms])]).detach().cpu()
    at = numbers[len(first) :].tolist()
    values, norm = dict(zip(means, at, strict=False)), math.hypot(*at[len(means) :])
    # In float16 an overflow at a large scale is no error: that step is not taken, and the scale is halved.
    overflowed = not math.isfinite(norm) and run.scaler.get_scale() > 1
    if not all(map(math.isfinite, values.values())) or not (math.isfinite(norm) or overflowed):
        loss = ", ".join(f"{value}" if len(values) == 1 else f"{name} {value}" for name, value in values.items())
        raise TrainingError(
            f"loss {loss}, gradient norm {norm} at step {run.step + 1}, learning rate {rates[0]:.2g}: lower the "
            "rate, lengthen the warm-up or clip harder"
        )
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    run.scaler.step(run.optimizer)  # float16: does nothing if a gradient overflowed
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    for average in run.averages:
        average.update(run.model, run.step)
    return Record(run.step, at[0], rates[0], norm, numbers[: len(first)], t, skipped=overflowed, parts=values)


def _average_gradients(run: Training) -> None:
    """Give each process the mean of all gradients, in one message."""
    gradients = [weight.grad for weight in run.model.parameters() if weight.grad is not None]
    mean = run.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))


def _mixed(*numbers: int) -> int:
    """One seed of several numbers, so that neighbouring steps and neighbouring runs have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _dropout_seed(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the global stream, which dropout draws from, and put it back afterwards as it was."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


# "not enough memory" is Windows's, "can't allocate" Linux's; MPS says "out of memory", as CUDA and its libraries do
_NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|bad_alloc|ALLOC_FAILED")


def _in_words(error: BaseException, run: Training, batch_size: int) -> str:
    """What to do about an error that PyTorch tells in its own words; nothing for others."""
    if isinstance(error, TrainingError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return f"out of memory at step {run.step + 1}: halve batch_size ({batch_size}), or take a smaller network"
    compiler = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
    if compiler and isinstance(error, Exception) and run.forward is not run.model:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return (
            f"torch.compile cannot translate the network here ({first:.100}): install a C++ compiler, or train without "
            "compile"
        )
    return ""
