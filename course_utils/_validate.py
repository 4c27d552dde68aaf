"""Checks of arguments, shared by every floor. Each error names the argument, what it got and what it wants."""

from numbers import Real

import torch
from torch import Tensor


def require_count(name: str, n: object, least: int = 1) -> None:
    """Raise unless `n` is a whole number, `least` or more."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name}: wanted a whole number, got {n!r}")
    if n < least:
        raise ValueError(f"{name}: wanted {least} or more, got {n}")


def require_number(name: str, x: object) -> None:
    """Raise unless `x` is a number or a tensor of numbers; True and False are not numbers."""
    if isinstance(x, Tensor):
        if x.dtype == torch.bool or x.dtype.is_complex:
            raise TypeError(f"{name}: wanted real numbers, got {x.dtype}")
    elif isinstance(x, bool) or not isinstance(x, Real):
        raise TypeError(f"{name}: wanted a number or a tensor of numbers, got {type(x).__name__}")


def require_whole(name: str, x: object) -> None:
    """Raise unless `x` is a tensor of whole numbers: labels, times of a discrete schedule."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: wanted a tensor, got {type(x).__name__}")
    if x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool:
        raise TypeError(f"{name}: wanted whole numbers, got {x.dtype}")


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
