"""What every network here needs: a start at zero, and sides that divide."""

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


def pad_to_multiple(x: Float[Tensor, "b c height width"], multiple: int) -> Tensor:
    """x with its last row and column repeated until both sides are multiples; crop the result to undo it."""
    height, width = x.shape[-2:]
    if height % multiple == 0 and width % multiple == 0:
        return x
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
