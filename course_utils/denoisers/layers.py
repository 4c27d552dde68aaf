"""What every network here needs: a start at zero, sides that divide, and answers to wrong inputs."""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._validate import require_float, require_whole

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """The layer with all its weights at zero: a residual branch that ends in it starts as nothing."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


def require_channels(x: Tensor, channels: int) -> None:
    """Raise unless x is a batch of images with that many channels."""
    require_float("x", x)
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"x: wanted (batch, {channels}, height, width), got shape {tuple(x.shape)}")


def require_like_weights(name: str, x: Tensor, network: nn.Module) -> None:
    """Raise unless x has the device of the network's weights, and their dtype, which autocast does not mind."""
    weight = next(network.parameters())
    if x.device != weight.device:
        raise ValueError(f"{name}: wanted the device of the network's weights, {weight.device}, got {x.device}")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{name}: wanted the dtype of the network's weights, {weight.dtype}, got {x.dtype}")


def require_input(network: nn.Module, x: Tensor, log_snr: Tensor | None = None) -> None:
    """Raise unless x is one image or more, with the network's channels, device and dtype, and a log-SNR for each."""
    require_channels(x, network.channels)  # type: ignore[arg-type]
    if len(x) == 0:
        raise ValueError("x: wanted one image or more, got an empty batch")
    require_like_weights("x", x, network)
    if log_snr is not None:
        require_float("log_snr", log_snr)
        if log_snr.shape != x.shape[:1] or log_snr.device != x.device:
            got = f"shape {tuple(log_snr.shape)} on {log_snr.device}"
            raise ValueError(f"log_snr: wanted one per image, shape ({len(x)},) on {x.device}, got {got}")


def require_labels(label: Tensor, x: Tensor) -> None:
    """Raise unless these are whole numbers, one per image, and where x is."""
    require_whole("label", label)
    if label.shape != x.shape[:1]:
        raise ValueError(f"label: wanted one per image, {tuple(x.shape[:1])}, got {tuple(label.shape)}")
    if label.device != x.device:
        raise ValueError(f"label: wanted the device of the images, {x.device}, got {label.device}")


def require_no_label(label: Tensor | None) -> None:
    """Raise if a label is given to a network that is told nothing."""
    if label is not None:
        raise ValueError("label: this network is not conditioned and cannot use one")


def pad_to_multiple(x: Float[Tensor, "b c height width"], multiple: int) -> Tensor:
    """x with its last row and column repeated until both sides are multiples; crop the result to undo it."""
    height, width = x.shape[-2:]
    if height % multiple == 0 and width % multiple == 0:
        return x
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
