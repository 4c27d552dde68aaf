"""Checks of arguments, shared by every floor. Each error names the argument, what it got and what it wants."""

from torch import Tensor


def require_float(name: str, x: object) -> None:
    """Raise unless `x` is a floating-point tensor: integer images would silently lose their fractions."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: wanted a tensor, got {type(x).__name__}")
    if not x.dtype.is_floating_point:
        raise TypeError(
            f"{name}: wanted floating-point numbers, got {x.dtype}; uint8 images go through `normalize` first"
        )


def require_same(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless both are float tensors of one shape, dtype and device."""
    require_float(name, x)
    require_float(other_name, other)
    if x.shape != other.shape:
        raise ValueError(f"{name}: wanted the shape of {other_name}, {tuple(other.shape)}, got {tuple(x.shape)}")
    if x.dtype != other.dtype:
        raise TypeError(f"{name}: wanted the dtype of {other_name}, {other.dtype}, got {x.dtype}")
    if x.device != other.device:
        raise ValueError(f"{name}: wanted the device of {other_name}, {other.device}, got {x.device}")
