"""Checks of arguments, shared by every floor. Each error names the argument, what it got and what it wants."""

import itertools
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def require_count(
    name: str, n: object, least: int = 1, most: int | None = None, why: str = "", multiple_of: int = 1
) -> int:
    """`n` as an int, if it is a whole number, `least` or more; of numpy's too, which PyTorch does not always take."""
    if isinstance(n, bool) or not isinstance(n, Integral):
        raise TypeError(f"{name}: wanted a whole number, got {n!r}")
    n = int(n)
    if n < least or (most is not None and n > most):
        limits = f"{least} … {most}" if most != least else str(least)
        wanted = f"{least} or more" if most is None else limits + f", {why}" * bool(why)
        raise ValueError(f"{name}: wanted {wanted}, got {n}")
    if n % multiple_of:
        raise ValueError(f"{name}: wanted a multiple of {multiple_of}, got {n}")
    return n


def require_sizes(name: str, sizes: object, n: int | None = None, least: int = 1) -> tuple[int, ...]:
    """A tuple or list of whole numbers, `least` or more, as a tuple; of `n` of them if that is given."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or (least and not sizes):
        raise TypeError(f"{name}: wanted a tuple of whole numbers, got {sizes!r:.60}")
    found = tuple(require_count(name, size, least) for size in sizes)
    if n is not None and len(found) != n:
        raise ValueError(f"{name}: wanted {n} whole numbers, got {found}")
    return found


def _inside(x: Any, interval: str) -> Any:
    """Whether a number lies in an interval, or where a tensor does; NaN lies in none."""
    low, high = map(float, interval[1:-1].split(","))
    return (x >= low if interval[0] == "[" else x > low) & (x <= high if interval[-1] == "]" else x < high)


def require_in(name: str, x: object, interval: str) -> None:
    """Raise unless `x` is one number in an interval, written as in mathematics: "(0, 1]" is 0 < x <= 1."""
    if isinstance(x, Tensor) and x.ndim == 0:
        x = x.item()
    if isinstance(x, bool) or not isinstance(x, Real):
        raise TypeError(f"{name}: wanted a number in {interval}, got {x!r}")
    if not _inside(float(x), interval):
        raise ValueError(f"{name}: wanted a number in {interval}, got {x}")


def require_all_in(name: str, values: Tensor, interval: str) -> None:
    """Raise unless all numbers of a tensor lie in an interval."""
    if not _inside(values, interval).all():
        got = " … ".join(dict.fromkeys(f"{end.item():.6g}" for end in (values.min(), values.max())))
        raise ValueError(f"{name}: wanted {'numbers' if values.ndim else 'a number'} in {interval}, got {got}")


def require_one_of(name: str, value: object, options: Collection[str]) -> None:
    """Raise unless `value` is one of some names."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}: wanted one of {', '.join(options)}, got {value!r}")


def require_type(name: str, value: object, wanted: type, words: str) -> None:
    """Raise unless `value` is of a type, which `words` describe: for what would fail later, and far away."""
    if not isinstance(value, wanted):
        got = f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__}"
        raise TypeError(f"{name}: wanted {words}, got {got}")


def require_callable(name: str, f: object) -> None:
    """Raise unless `f` can be called."""
    if not callable(f):
        raise TypeError(f"{name}: wanted a function, got {f!r:.60}")


def require_generator(generator: object) -> None:
    """Raise unless it is a generator: a seed is the likely mistake."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator: wanted torch.Generator().manual_seed(…), got {generator!r:.60}")


def as_device(device: torch.device | str | None) -> torch.device:
    """`torch.device`, with an error that names the argument: of a wrong name, and of a GPU that is not there."""
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: wanted a name such as cpu, cuda or cuda:1, got {device!r}") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: wanted one of {torch.cuda.device_count()} GPUs that PyTorch finds here, got {found}")
    return found


def require_dtype(name: str, dtype: object) -> None:
    """Raise unless it is one of PyTorch's floating-point types."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"{name}: wanted a type such as torch.float32 or torch.bfloat16, got {dtype!r}")


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


def require_finite(name: str, x: Tensor) -> None:
    """Raise if a tensor has NaN or infinity in it: for what sorts, sums or trains, where they would spread."""
    require_float(name, x)
    if not x.isfinite().all():
        raise ValueError(f"{name}: wanted finite numbers, got NaN or infinity")


def require_mask(name: str, x: object) -> None:
    """Raise unless `x` is a tensor of true and false."""
    if not isinstance(x, Tensor) or x.dtype != torch.bool:
        raise TypeError(f"{name}: wanted a tensor of true and false, got {getattr(x, 'dtype', type(x).__name__)}")


def require_bytes(name: str, images: object) -> None:
    """Raise unless these are images as bytes, uint8."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name}: wanted uint8, got {got}; is it normalised already?")


def require_same(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless both are float tensors of one shape, dtype and device."""
    require_float(name, x)
    require_float(other_name, other)
    require_beside(name, x, other_name, other)
    if x.dtype != other.dtype:
        raise TypeError(f"{name}: wanted the dtype of {other_name}, {other.dtype}, got {x.dtype}")


def require_beside(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless both tensors are of one shape, and on one device."""
    if x.shape != other.shape:
        raise ValueError(f"{name}: wanted the shape of {other_name}, {tuple(other.shape)}, got {tuple(x.shape)}")
    if x.device != other.device:
        raise ValueError(f"{name}: wanted the device of {other_name}, {other.device}, got {x.device}")


def require_falling(name: str, table: Tensor, start: float | None, length: int | None = None) -> None:
    """Raise unless a table, at t = 0 … T, begins at `start`, falls strictly, and never below 0."""
    require_finite(name, table)
    if table.ndim != 1 or len(table) < 2 or len(table) != (length or len(table)):
        raise ValueError(f"{name}: wanted shape ({length or 'T + 1'},) with T >= 1, got {tuple(table.shape)}")
    if start is not None and table[0] != start:
        raise ValueError(f"{name}: wanted {name}[0] == {start:g} (clean data), got {table[0].item():.6g}")
    wrong = ((table.diff() >= 0) | (table[1:] < 0)).nonzero()
    if len(wrong):
        t = int(wrong[0])
        got = f"{table[t].item():.6g} at t = {t} and {table[t + 1].item():.6g} at t = {t + 1}"
        raise ValueError(f"{name}: wanted a strictly falling table that stays >= 0, got {got}")


def require_time(name: str, t: object, T: int | None = None) -> Tensor:
    """Times, one or many, as a tensor: whole numbers from 0 to T, or floats in [0, 1] where T is None."""
    require_number(name, t)
    times = t if isinstance(t, Tensor) else torch.tensor(t, dtype=None if isinstance(t, Integral) else torch.float64)
    if T is not None:
        require_whole(name, times)
    elif isinstance(t, Tensor) and not t.dtype.is_floating_point:
        raise TypeError(f"{name}: a continuous schedule wants floats in [0, 1], got {t.dtype}")
    words = "times in [0, 1], 0 clean" if T is None else f"0 (clean) … {T} (all noise)"
    require_between(name, times, 0, T or 1, words)
    return times


def require_falling_times(name: str, grid: object) -> None:
    """Raise unless this is a list of two numbers or more that fall strictly, none below 0."""
    # An iterator, such as reversed(range(11)), is empty once it was looked at, and a sampler would take no step.
    if not hasattr(grid, "__len__") or getattr(grid, "ndim", 1) != 1:
        raise TypeError(f"{name}: wanted a list of times, got {grid!r}")
    times: list[Any] = grid.tolist() if isinstance(grid, Tensor) else list(grid)  # type: ignore[call-overload]
    if len(times) < 2:
        raise ValueError(f"{name}: wanted at least two times, a start and an end, got {times}")
    for t in times:
        require_number(name, t)
    for t, s in itertools.pairwise(times):
        if not s < t:
            raise ValueError(f"{name}: wanted a strictly falling grid, got {t} followed by {s}")
    if times[-1] < 0:
        raise ValueError(f"{name}: wanted times >= 0, got {times[-1]}")


def require_schedule(schedule: object) -> None:
    """Raise unless it is a schedule: a name, or a function that was not called, is the likely mistake."""
    methods = (getattr(schedule, "coeffs", None), getattr(schedule, "log_snr", None))
    if isinstance(schedule, type) or not all(map(callable, methods)):
        got = f"the class {schedule.__name__}" if isinstance(schedule, type) else type(schedule).__name__
        raise TypeError(f"schedule: wanted a schedule, such as linear(), got {got}")


def require_counted(schedule: object) -> None:
    """Raise unless it is a schedule that counts its steps, as what needs a step t - 1 wants."""
    require_schedule(schedule)
    if getattr(schedule, "T", None) is None:
        raise TypeError(f"schedule: wanted a discrete one, with steps t - 1 and t, got {type(schedule).__name__}")


def require_between(name: str, x: Tensor, low: float, high: float, words: str) -> None:
    """Raise unless all numbers lie in [low, high]; not of what is on a GPU, where a look makes Python wait."""
    if x.device.type == "cpu" and not ((x >= low) & (x <= high)).all():
        got = [f"{end.item():.6g}" for end in (x.min(), x.max())]
        raise ValueError(f"{name}: wanted {words}, got {got[0]} … {got[1]}")
