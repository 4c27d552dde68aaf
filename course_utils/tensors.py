"""Numbers as tensors: in float64 for what is looked up and derived, in an image's own dtype for what multiplies it."""

import torch
from torch import Tensor

from course_utils._validate import as_device


def as_double(values: object, device: torch.device | str | None = None, name: str = "values") -> Tensor:
    """`values` as a float64 tensor (float32 on Apple's MPS, which has no float64); `name` is the argument's."""
    wanted = as_device(device) if device is not None else getattr(values, "device", torch.device("cpu"))
    try:
        return torch.as_tensor(values, dtype=torch.float32 if wanted.type == "mps" else torch.float64, device=wanted)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: wanted numbers, got {values!r:.60}") from error


def broadcast(value: Tensor, x: Tensor, name: str = "t") -> Tensor:
    """`value` (one number, or one per image) with the dtype of x, shaped (b, 1, …, 1) to multiply it.

    One number of the CPU stays there: it multiplies what is on a GPU as it is, and a copy would make Python wait.
    """
    if value.ndim == 0:
        return value.to(x.dtype) if value.device.type == "cpu" else value.to(x.device, x.dtype)
    if value.shape != x.shape[:1]:
        raise ValueError(f"{name}: wanted one number, or {tuple(x.shape[:1])}, one per image, got {tuple(value.shape)}")
    return value.reshape(-1, *[1] * (x.ndim - 1)).to(x.device, x.dtype)


def per_image(value: Tensor, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """`value` (one number, or one per image) as one for each image of x, (b,), where x is."""
    if value.ndim == 0 and value.device != x.device and not value.requires_grad:  # a number is no copy to wait for
        return torch.full((len(x),), value.item(), dtype=dtype, device=x.device)
    return value.to(x.device, dtype).expand(len(x))


def nonzero(value: Tensor, why: str, name: str = "t") -> Tensor:
    """`value`, by which something is about to be divided. Raises ValueError, which says why, if it is 0 somewhere.

    Not of what is on a GPU, where a look makes Python wait (`_contract.times`): NaN and infinity are found later.
    """
    if value.device.type == "cpu" and (value == 0).any():
        raise ValueError(f"{name}: {why}")
    return value


class Table:
    """Numbers to be looked up, and a copy for each device that asked: a new one each time would make Python wait."""

    def __init__(self, values: Tensor):
        self.copies = {values.device: values}

    def on(self, device: torch.device) -> Tensor:
        """The numbers where they are wanted."""
        if device not in self.copies:
            self.copies[device] = as_double(self.copies[torch.device("cpu")], device)
        return self.copies[device]
