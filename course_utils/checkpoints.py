"""Checkpoints: written whole or not at all, read only if every byte is right, and without running what they contain.

A file is what `torch.save` wrote, followed by the 32 bytes of its SHA-256: PyTorch's reader does not look at the sums
that zip files carry, and a byte that flipped on a disk would go straight into the weights.
"""

import hashlib
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from course_utils._contract import Is, checked
from course_utils._validate import as_device
from course_utils.files import write_atomically

DIGEST = hashlib.sha256().digest_size
PLAIN = (bool, int, float, str, bytes, type(None))


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, hostile or of another architecture; the message says which, and what to do."""


def save_checkpoint(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts of them: to a neighbour, flushed to the disk, then renamed.

    Raises:
        TypeError: anything else in it, such as a number of numpy's, which `load_checkpoint` would not read.
        DataError: the disk is full, or the folder read-only; what was there before is there still.
    """
    _require_plain("content", content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    write_atomically(Path(path), buffer.getvalue())


def _require_plain(name: str, value: object) -> None:
    """Raise unless it is what `load_checkpoint` reads: by its very type, for numpy's float64 is a kind of float."""
    if isinstance(value, dict) and type(value) in (dict, OrderedDict):
        for key, inner in value.items():
            _require_plain(f"a key of {name}", key)
            _require_plain(f"{name}[{key!r}]", inner)
    elif type(value) in (list, tuple):
        for i, inner in enumerate(value):  # type: ignore[arg-type, var-annotated]
            _require_plain(f"{name}[{i}]", inner)
    elif type(value) not in PLAIN and not isinstance(value, Tensor):
        kind = type(value)
        raise TypeError(
            f"{name}: wanted tensors, numbers, text, lists and dicts, got {kind.__module__}.{kind.__qualname__}, which "
            "could not be read again; float(…), int(…) or str(…) makes it plain"
        )


def load_checkpoint(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote. Nothing in the file is executed (`weights_only=True`).

    Raises:
        CheckpointError: no such file, or an unreadable one; truncated or damaged; anything in it but tensors and plain
            data.
    """
    path, device = Path(path), as_device(device)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such checkpoint") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if len(content) < DIGEST or hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
        raise CheckpointError(f"{path}: is damaged, or no checkpoint of this course. Delete it and train again")
    try:
        return torch.load(io.BytesIO(content[:-DIGEST]), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds something other than tensors and plain data, and was not opened. Only load checkpoints "
            "that this course wrote"
        ) from error


def load_weights(module: nn.Module, weights: dict[str, Tensor], name: str = "the checkpoint") -> None:
    """`module.load_state_dict`, with an error that says which tensors do not fit.

    Raises CheckpointError, and leaves the module as it was, if names or shapes differ.
    """
    require_fit(module, weights, name)
    module.load_state_dict(weights)


@checked
def require_fit(
    module: nn.Module, weights: Annotated[dict[str, Tensor], Is("tensors by their names")], name: str
) -> None:
    """Raise CheckpointError unless the weights have the names and shapes of the module's."""
    own = module.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape)
    if missing or extra or shapes:
        raise CheckpointError(
            f"{name}: is of another architecture than this {type(module).__name__}: {len(missing)} tensors missing, "
            f"{len(extra)} unknown, {len(shapes)} of another shape, such as {(missing + extra + shapes)[0]}. Build the "
            "network with the settings it was trained with"
        )
