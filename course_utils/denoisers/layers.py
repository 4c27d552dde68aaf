"""What every network here needs: a start at zero, sides that divide, and answers to wrong inputs."""

from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """The layer with all its weights at zero: a residual branch that ends in it starts as nothing."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


def require_channels(x: Tensor, channels: int) -> None:
    """Raise unless x is a batch of images with that many channels."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"x: wanted (batch, {channels}, height, width), got shape {tuple(x.shape)}")


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
