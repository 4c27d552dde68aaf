"""A training run: all that training changes as it goes, and so all that a checkpoint of it holds.

There is no random state in it: data order, times, noise and dropout are functions of the seed and the step.
"""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course_utils._validate import as_device, require_count, require_dtype, require_in, require_one_of, require_type
from course_utils.checkpoints import CheckpointError, load_checkpoint, load_weights, require_fit, save_checkpoint
from course_utils.muon import Muon, hidden_matrices
from course_utils.runtime import keep_freed_memory, pick_precision

WHOLE = "model"  # the name of the one part of a model that has no others
OPTIMIZERS = ("adamw", "muon")


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


class Training:
    """Everything a run changes as it goes, and so all that a checkpoint holds.

    Args:
        model: a `denoisers.Denoiser`, or whatever the `task` of `train` knows; moved to `device`, and to channels-last
            memory, which convolutions like.
        lr: peak learning rate.
        ema: decay of the averaged weights; or several, whose averages are all kept, so that one may choose afterwards.
            The first is `run.ema`.
        seed: of data order, times, noise and dropout; 0 or more. The weights' start is the model's own affair.
        optimizer: "adamw"; or "muon" for the matrices of hidden layers, with AdamW for all else (`muon`).
        parts: children of the model, such as a generator and its critic, that each descend on a loss of their own; by
            name, with the settings of AdamW (lr, betas, weight_decay) in which they differ. Weights in none of them
            stay as they are. None: the whole model is one part, called "model".
        frozen: networks that help and do not learn, such as a teacher, by what the task calls them: `run.frozen`. They
            are moved to the device and put in eval mode, and no checkpoint holds them.
        device, precision: a precision of None is chosen by `runtime`; float32 means no autocast.
        compile: let `torch.compile` translate the model first: minutes at the start, faster steps afterwards.
        accelerator: an `accelerate.Accelerator`, for several processes. Each computes its rows of every batch, and all
            take the step that one process would have taken with the whole of it. Its device counts, not `device`.

    Raises ValueError for a model without weights that learn.
    """

    @torch.inference_mode(False)  # what is made here must be able to learn, wherever it is made
    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        ema: float | Sequence[float] = 0.999,
        optimizer: str = "adamw",
        seed: int = 0,
        parts: Mapping[str, Mapping[str, Any]] | None = None,
        frozen: Mapping[str, nn.Module] | None = None,
        device: torch.device | str = "cpu",
        precision: torch.dtype | None = None,
        compile: bool = False,
        accelerator: Any = None,
    ):
        require_type("model", model, nn.Module, "a network")
        require_in("lr", lr, "[0, inf)")
        require_in("weight_decay", weight_decay, "[0, inf)")
        decays = tuple(ema) if isinstance(ema, list | tuple) else (ema,)
        for decay in decays:
            require_in("ema", decay, "[0, 1)")
        if not decays:
            raise ValueError("ema: wanted a decay or several, got none")
        require_one_of("optimizer", optimizer, OPTIMIZERS)
        if precision is not None:
            require_dtype("precision", precision)
        if any(weight.is_inference() for weight in model.parameters()):
            raise ValueError("model: wanted weights that can learn, and these were made in torch.inference_mode()")
        if not any(weight.requires_grad for weight in model.parameters()):
            raise ValueError(
                "model: wanted weights that learn, and all are fixed, as those of a shipped network are; "
                "model.requires_grad_(True) frees them"
            )
        self.device = accelerator.device if accelerator else as_device(device)
        self.precision = precision or pick_precision(self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model, self.accelerator = _channels_last(model.to(self.device)), accelerator
        self.frozen: dict[str, Any] = {
            role: _channels_last(network.to(self.device)).eval().requires_grad_(False)
            for role, network in (frozen or {}).items()
        }
        if self.processes > 1 and torch.distributed.is_initialized():
            for value in self.model.state_dict().values():  # all begin where the first one does
                torch.distributed.broadcast(value, 0)
        self.seed, self.step = require_count("seed", seed, least=0), 0
        self.parts = _weights_of(self.model, parts)
        common: dict[str, Any] = {"lr": lr, "betas": (0.9, 0.99), "weight_decay": weight_decay}
        groups = [
            which | common | dict((parts or {}).get(name, {}))
            for name, weights in self.parts.items()
            for which in _groups(self.model if name == WHOLE else getattr(self.model, name), weights, optimizer)
        ]
        self.peaks = [group["lr"] for group in groups]  # a rate for each group, before warm-up and fall
        orthogonal_in = self.precision if self.precision == torch.bfloat16 else torch.float32
        self.optimizer = torch.optim.AdamW(groups) if optimizer == "adamw" else Muon(groups, orthogonal_in)
        self.scaler = self._new_scaler()
        self.averages = [EMA(self.model, decay) for decay in decays]
        self.ema = self.averages[0]
        # What a step calls. It shares its weights with the model, whose names in checkpoints stay as they are.
        self.forward: nn.Module = torch.compile(self.model) if compile else self.model  # type: ignore[assignment]

    def state(self) -> dict[str, Any]:
        """All of it as tensors and plain data."""
        more = {"averages": [average.weights for average in self.averages[1:]]} if len(self.averages) > 1 else {}
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.weights,
            **more,
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
        averages = [content["ema"], *content.get("averages", [])]
        if len(averages) != len(self.averages):
            raise CheckpointError(f"{path}: wanted {len(self.averages)} averages of the weights, got {len(averages)}")
        for weights in averages:
            require_fit(self.model, weights, str(path))
        saved, own = (
            [len(group["params"]) for group in groups]
            for groups in (content["optimizer"]["param_groups"], self.optimizer.param_groups)
        )
        if saved != own:
            words = f"in other parts than {', '.join(self.parts)}, or by another optimizer"
            raise CheckpointError(f"{path}: was trained {words}")
        load_weights(self.model, content["model"], str(path))
        for average, weights in zip(self.averages, averages, strict=True):
            for name, value in average.weights.items():
                value.copy_(weights[name])
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
    def processes(self) -> int:
        """How many processes share each batch."""
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def rows(self) -> slice:
        """The rows of a batch that are this process's to compute."""
        return slice(self.accelerator.process_index if self.accelerator else 0, None, self.processes)

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's weights, and so of what it is shown."""
        return next((weight.dtype for weight in self.model.parameters() if weight.is_floating_point()), torch.float32)

    @property
    def writes(self) -> bool:
        """Whether files are this process's to write: of several, only the first one's."""
        return not self.accelerator or self.accelerator.is_main_process

    def averaged(self, decay: float | None = None) -> Any:
        """A copy of the model with the averaged weights, in eval mode: what one samples from.

        Of several averages it is the first, unless the decay of another is named; ValueError if there is none of it.
        """
        if decay is None:
            return self.ema.copy_to(copy.deepcopy(self.model))
        require_in("decay", decay, "[0, 1)")
        kept = {average.decay: average for average in self.averages}
        if decay not in kept:
            raise ValueError(f"decay: wanted one of {', '.join(f'{one:g}' for one in kept)}, got {decay:g}")
        return kept[decay].copy_to(copy.deepcopy(self.model))


def _channels_last(model: nn.Module) -> nn.Module:
    """The model with the weights of its convolutions over images in channels-last memory; others stay as they are."""
    for value in (*model.parameters(), *model.buffers()):
        if value.ndim == 4:
            value.data = value.data.to(memory_format=torch.channels_last)
    return model


def _groups(part: nn.Module, weights: list[Tensor], optimizer: str) -> list[dict[str, Any]]:
    """The weights of a part in the groups of its optimizer: one, or the matrices of hidden layers and the rest."""
    if optimizer == "adamw":
        return [{"params": weights}]
    chosen = {id(weight) for weight in hidden_matrices(part)}
    hidden, rest = ([w for w in weights if (id(w) in chosen) is inner] for inner in (True, False))
    return [{"params": hidden, "orthogonal": True}, {"params": rest, "orthogonal": False}]


def _weights_of(model: nn.Module, parts: Mapping[str, Any] | None) -> dict[str, list[Tensor]]:
    """The weights of each part, by its name."""
    if parts is None:
        return {WHOLE: list(model.parameters())}
    children = dict(model.named_children())
    if not parts or not parts.keys() <= children.keys():
        raise ValueError(f"parts: wanted children of the model, of {', '.join(children)}, got {', '.join(parts)}")
    return {name: list(children[name].parameters()) for name in parts}
