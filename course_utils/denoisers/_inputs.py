"""What the networks refuse: an input that is not theirs, in words that name it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_utils._validate import require_float, require_whole


def require_multiples(name: str, sides: Sequence[int], of: int | Sequence[int]) -> None:
    """Raise unless sides can be cut into whole pieces of that length, or of those lengths, one for each side."""
    lengths = (of,) * len(sides) if isinstance(of, int) else tuple(of)
    if any(side % length for side, length in zip(sides, lengths, strict=True)):
        raise ValueError(f"{name}: wanted sides that are multiples of {of}, got {tuple(sides)}")


def require_like_weights(name: str, x: Tensor, network: nn.Module) -> None:
    """Raise unless x has the device of the network's weights, and their dtype, which autocast does not mind."""
    weight = next(network.parameters())
    if x.device != weight.device:
        raise ValueError(f"{name}: wanted the device of the network's weights, {weight.device}, got {x.device}")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{name}: wanted the dtype of the network's weights, {weight.dtype}, got {x.dtype}")


def require_input(network: nn.Module, x: Tensor, log_snr: Tensor | None = None, label: Tensor | None = None) -> None:
    """Raise unless x is one image or more, with the network's channels, device and dtype, and a log-SNR for each;

    and of its size, where a network was made for one.
    """
    require_float("x", x)
    if x.ndim != 4 or x.shape[1] != network.channels:
        raise ValueError(f"x: wanted (batch, {network.channels}, height, width), got shape {tuple(x.shape)}")
    if len(x) == 0:
        raise ValueError("x: wanted one image or more, got an empty batch")
    if getattr(network, "size", None) not in (None, tuple(x.shape[2:])):
        raise ValueError(f"x: wanted size {network.size}, as this network was made for, got {tuple(x.shape[2:])}")
    require_like_weights("x", x, network)
    if log_snr is not None:
        require_float("log_snr", log_snr)
        if log_snr.shape != x.shape[:1] or log_snr.device != x.device:
            got = f"shape {tuple(log_snr.shape)} on {log_snr.device}"
            raise ValueError(f"log_snr: wanted one per image, shape ({len(x)},) on {x.device}, got {got}")
    if label is not None and network.embed is None:  # it is told nothing
        raise ValueError("label: this network is not conditioned and cannot use one")


def require_labels(label: Tensor, x: Tensor) -> None:
    """Raise unless these are whole numbers, one per image, and where x is."""
    require_whole("label", label)
    if label.shape != x.shape[:1]:
        raise ValueError(f"label: wanted one per image, {tuple(x.shape[:1])}, got {tuple(label.shape)}")
    if label.device != x.device:
        raise ValueError(f"label: wanted the device of the images, {x.device}, got {label.device}")
