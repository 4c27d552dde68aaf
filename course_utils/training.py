"""The training loop, as a generator: it yields a record per step, and the caller decides what to make of it.

    run = Training(model, lr=1e-3)
    for record in train(run, images, labels, steps=2000):
        ...                                   # print, plot, stop: whatever the page wants

EMA, checkpoints, progress bars and live plots are small things around it. Data order, times, noise, dropped labels and
dropout are functions of the seed and the step, so there is no random state to save: a run that was stopped and resumed
ends with the same weights as one that was not, bit for bit on a CPU, wherever it was stopped.
"""

import copy
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_utils._validate import (
    as_device,
    require_callable,
    require_count,
    require_counts,
    require_dtype,
    require_generator,
    require_in,
    require_one_of,
    require_type,
)
from course_utils.checkpoints import CheckpointError, load_checkpoint, load_weights, require_fit, save_checkpoint
from course_utils.data import batches, random_flip
from course_utils.forward import noise_like
from course_utils.losses import WEIGHTINGS, denoising_loss
from course_utils.runtime import keep_freed_memory, pick_precision
from course_utils.schedules import Schedule, require_schedule

TIMES = ("uniform", "cosine")


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, and what to change."""


class EMA:
    """A running average of a model's weights: ema <- d ema + (1 - d) weights, d = min(decay, (1 + step) / (10 + step)).

    The decay warms up, so that the average is right from the first step and forgets its random start soon.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        require_type("model", model, nn.Module, "a network")
        require_in("decay", decay, "[0, 1)")
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model's weights after `step` steps (1, 2, …)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = [], []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                mine.append(self.weights[name])
                theirs.append(value)
            else:
                self.weights[name].copy_(value)  # counters have no average
        torch._foreach_lerp_(mine, theirs, 1 - decay)  # one fused call; a loop in Python costs several per cent

    def copy_to(self, model: nn.Module) -> nn.Module:
        """Put the average into a model, and return it in eval mode."""
        model.load_state_dict(self.weights)
        return model.eval()


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Rises on a line over `warmup` steps, then falls towards zero at `steps` as a cosine. `step` counts from 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


class Training:
    """Everything a run changes as it goes, and so all that a checkpoint holds.

    Args:
        model: a `denoisers.Denoiser`, or whatever the `loss` of `train` calls; moved to `device`, and to channels-last
            memory, which convolutions like.
        lr: peak learning rate of AdamW.
        ema: decay of the averaged weights.
        seed: of data order, times, noise and dropout; 0 or more. The weights' start is the model's own affair.
        device, precision: a precision of None is chosen by `runtime`; float32 means no autocast.
        compile: let `torch.compile` translate the model first: minutes at the start, faster steps afterwards.
        accelerator: an `accelerate.Accelerator`, for several processes. Each computes its share of every batch, and all
            take the step that one process would have taken with the whole of it. Its device counts, not `device`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        ema: float = 0.999,
        seed: int = 0,
        device: torch.device | str = "cpu",
        precision: torch.dtype | None = None,
        compile: bool = False,
        accelerator: Any = None,
    ):
        require_type("model", model, nn.Module, "a network")
        require_in("lr", lr, "[0, inf)")
        require_in("weight_decay", weight_decay, "[0, inf)")
        require_in("ema", ema, "[0, 1)")
        require_count("seed", seed, least=0)
        if precision is not None:
            require_dtype("precision", precision)
        self.device = accelerator.device if accelerator else as_device(device)
        self.precision = precision or pick_precision(self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr, self.seed, self.step = lr, seed, 0
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)
        self.scaler = self._new_scaler()
        self.ema = EMA(self.model, ema)
        # What a step calls. It shares its weights with the model, whose names in checkpoints stay as they are.
        self.forward: nn.Module = torch.compile(self.model) if compile else self.model  # type: ignore[assignment]
        self.accelerator = accelerator
        if accelerator:
            self.forward = accelerator.prepare_model(self.forward)

    def state(self) -> dict[str, Any]:
        """All of it as tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.weights,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "seed": self.seed,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all. Call it between two steps."""
        save_checkpoint(path, self.state())

    def resume(self, path: str | os.PathLike[str]) -> "Training":
        """Go on where a checkpoint stopped, on any device.

        Raises CheckpointError, and changes nothing, if it is damaged, of another architecture or no training run's.
        """
        content = load_checkpoint(path)
        if content.keys() != self.state().keys():
            raise CheckpointError(f"{path}: wanted a training run with {', '.join(self.state())}, got {list(content)}")
        require_fit(self.model, content["ema"], str(path))
        load_weights(self.model, content["model"], str(path))
        for name, value in self.ema.weights.items():
            value.copy_(content["ema"][name])
        self.optimizer.load_state_dict(content["optimizer"])
        if content["scaler"]:  # empty if the run so far was not in float16
            self.scaler.load_state_dict(content["scaler"])
        self.step, self.seed = content["step"], content["seed"]
        return self

    def forget_step(self) -> None:
        """Drop what an error or Ctrl-C left of a step, so that the next one can begin."""
        self.optimizer.zero_grad(set_to_none=True)
        state, self.scaler = self.scaler.state_dict(), self._new_scaler()
        if state:  # a scaler remembers how far a step went, and would refuse to begin another
            self.scaler.load_state_dict(state)

    def _new_scaler(self) -> torch.amp.GradScaler:
        # Only float16 needs its gradients scaled up; bfloat16 has float32's range.
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)

    @property
    def share(self) -> slice:
        """The images of a batch that are this process's to compute."""
        return (
            slice(self.accelerator.process_index, None, self.accelerator.num_processes)
            if self.accelerator
            else slice(None)
        )

    @property
    def writes(self) -> bool:
        """Whether files are this process's to write: of several, only the first one's."""
        return not self.accelerator or self.accelerator.is_main_process

    def averaged(self) -> Any:
        """A copy of the model with the averaged weights, in eval mode: what one samples from."""
        return self.ema.copy_to(copy.deepcopy(self.model))


@dataclass(frozen=True)
class Record:
    """What one step did."""

    step: int  # steps done, this one included
    loss: float
    lr: float
    gradient_norm: float  # before clipping
    losses: Tensor = field(repr=False)  # unreduced, (b,), on the CPU; of several processes, this one's share
    t: Tensor | None = field(repr=False)  # (b,), on the CPU
    skipped: bool = False  # float16 overflowed and the step was not taken


# (run, x in [-1, 1], labels or None, generator) -> a loss for each image of the run's share, and the times, if any
Loss = Callable[[Training, Tensor, Tensor | None, torch.Generator], tuple[Tensor, Tensor | None]]


def train(
    run: Training,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    steps: int,
    batch_size: int = 128,
    weighting: str = "v",
    times: str = "uniform",
    warmup: int = 200,
    clip: float = 1.0,
    label_drop: float = 0.1,
    flip: bool = False,
    loss: Loss | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 500,
) -> Iterator[Record]:
    """Train until `steps` steps are done in all, yielding a Record after each one.

    Args:
        run: what to train; goes on from `run.step`.
        images: uint8 (n, c, h, w); labels (n,) or None.
        steps: in all, counting those done before a resume. The learning rate falls to zero there.
        batch_size: images a step, of all processes together.
        weighting: see `losses`.
        times: which noise levels are drawn how often: see `draw_t`.
        clip: gradients longer than this are shortened to it.
        label_drop: share of labels replaced by -1, no class, so that guidance works later (lesson 15).
        flip: mirror half of the images (never digits).
        loss: what to minimise, in place of `losses.denoising_loss` at random times (which alone knows `weighting`,
            `times`, `label_drop` and `flip`). It draws for the whole batch, and computes `run.share` of it.
        checkpoint: a file to write every `every` steps, and at the end; when the caller comes back for the next record,
            so that whatever is done with a step's record is done before that step is on the disk.

    Raises:
        ValueError: a batch that several processes cannot share equally.
        TrainingError: a loss or a gradient that is NaN or infinite, or out of memory; the step is not taken and the
            last checkpoint is kept.
        DataError: a checkpoint could not be written; the last one is kept, and the run can go on.
    """
    require_type("run", run, Training, "a Training")
    require_count("steps", steps, least=0)
    require_counts(batch_size=batch_size, every=every)
    require_in("warmup", warmup, "[0, inf)")
    require_in("clip", clip, "(0, inf]")
    require_in("label_drop", label_drop, "[0, 1]")
    require_one_of("weighting", weighting, WEIGHTINGS)
    require_one_of("times", times, TIMES)
    if loss is not None:
        require_callable("loss", loss)
    processes = run.share.step or 1
    if batch_size % processes:  # the mean of the processes' means would not be the mean over the batch
        raise ValueError(f"batch_size: wanted a multiple of the {processes} processes, got {batch_size}")
    order = torch.Generator().manual_seed(_mixed(run.seed))
    stream = batches(images, labels, batch_size, generator=order, device=run.device, skip=run.step)
    loss = loss or _denoising(weighting, times, label_drop, flip)
    while run.step < steps:
        batch = next(stream)
        x_0, label = batch if labels is not None else (batch, None)
        lr = learning_rate(run.step, steps, run.lr, warmup)
        buffers = [buffer.clone() for buffer in run.model.buffers()]  # a batch norm's averages move on the way forward
        try:
            record = _step(run, x_0, label, lr, loss, clip)
        except BaseException as error:
            run.forget_step()
            for buffer, before in zip(run.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            kept = f"; the last checkpoint is {Path(checkpoint)}" if checkpoint and Path(checkpoint).exists() else ""
            if isinstance(error, TrainingError):
                raise TrainingError(f"{error}{kept}") from None
            if _out_of_memory(error):
                raise TrainingError(
                    f"out of memory at step {run.step + 1}: halve batch_size ({batch_size}), or take a smaller "
                    f"network{kept}"
                ) from error
            raise
        yield record
        if checkpoint and run.writes and (run.step % every == 0 or run.step == steps):
            run.save(checkpoint)


def _denoising(weighting: str, times: str, label_drop: float, flip: bool) -> Loss:
    def loss(run: Training, x_0: Tensor, label: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        schedule, mine = run.model.schedule, run.share
        t = draw_t(schedule, len(x_0), generator, times)
        cond: dict[str, Any] = {}
        if label is not None:
            dropped = torch.rand(len(x_0), generator=generator) < label_drop
            cond["label"] = label.masked_fill(dropped.to(label.device), -1)[mine]
        x_0 = random_flip(x_0, generator) if flip else x_0
        x_0 = x_0.contiguous(memory_format=torch.channels_last)
        eps, t = noise_like(x_0, generator)[mine], t[mine]
        data_std = run.model.data_std
        losses = denoising_loss(
            run.forward, x_0[mine], t.to(run.device), schedule, eps, weighting=weighting, data_std=data_std, **cond
        )
        return losses, t

    return loss


def _step(run: Training, x: Tensor, label: Tensor | None, lr: float, loss: Loss, clip: float) -> Record:
    """One step of gradient descent. Changes `run` only if loss and gradient are finite, else raises TrainingError."""
    run.forward.train()  # the caller may have sampled, in eval mode
    generator = torch.Generator().manual_seed(_mixed(run.seed, run.step))
    autocast = torch.autocast(run.device.type, run.precision, enabled=run.precision != torch.float32)
    with autocast, _dropout_seed(run.device, _mixed(run.seed, run.step, 1 + (run.share.start or 0))):
        losses, t = loss(run, x, label, generator)
    mean = losses.mean()
    run.scaler.scale(mean).backward()  # of several processes, each gets the mean of all gradients here
    run.scaler.unscale_(run.optimizer)
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), clip)

    # Here Python waits for the device until the gradients are there. The optimizer's work, which comes after it, may
    # overlap with the preparation of the next batch.
    mean = run.accelerator.reduce(mean.detach(), "mean") if run.accelerator else mean
    loss_value, norm_value, losses = mean.item(), norm.item(), losses.detach().cpu()
    scale = run.scaler.get_scale()  # 1 unless in float16, where an overflow at a large scale is no error
    if not (math.isfinite(loss_value) and (math.isfinite(norm_value) or scale > 1)):
        raise TrainingError(
            f"loss {loss_value}, gradient norm {norm_value} at step {run.step + 1}, learning rate {lr:.2g}: lower the "
            "rate, lengthen the warm-up or clip harder"
        )
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.scaler.step(run.optimizer)  # float16: does nothing if a gradient overflowed
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.ema.update(run.model, run.step)
    return Record(run.step, loss_value, lr, norm_value, losses, t, skipped=run.scaler.get_scale() < scale)


def draw_t(schedule: Schedule, n: int, generator: torch.Generator, times: str = "uniform") -> Tensor:
    """n times to train at: among 1 … T, or in [0.001, 0.999) if time is continuous, where both ends can be singular.

    * "uniform": each as often, independently: what papers write;
    * "cosine": where the log-SNR is -2 log tan(pi u / 2), as on a cosine schedule (Nichol & Dhariwal 2021), with one u
      in each nth of [0, 1] (Kingma et al. 2021, app. I.1).

    The second trains the same network for the same schedule, only more where there is more to learn: a third of the
    times of `linear()` have an SNR below 1/100, where almost nothing is; this way it is one in sixteen.
    """
    require_schedule(schedule)
    require_count("n", n)
    require_generator(generator)
    require_one_of("times", times, TIMES)
    if times == "cosine":
        u = (torch.rand(1, generator=generator, dtype=torch.float64) + torch.arange(n)) / n
        t = schedule.t_at_log_snr(-2 * torch.tan(torch.pi / 2 * u.clamp(1e-3, 1 - 1e-3)).log())
        return t if schedule.T else t.clamp(0.001, 0.999).float()
    if schedule.T is None:
        return 0.001 + 0.998 * torch.rand(n, generator=generator)
    return torch.randint(1, schedule.T + 1, (n,), generator=generator)


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


def _out_of_memory(error: BaseException) -> bool:
    """CUDA has a type for it, the CPU only words."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
