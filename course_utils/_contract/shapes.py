"""What jaxtyping's annotation of a tensor demands, in our words."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from course_utils import _validate as v
from course_utils._contract.marks import Call


class TensorRule:
    """The kind of numbers, the shape, and the device that is the call's."""

    def __init__(self, annotation: Any, anywhere: bool = False):
        self.anywhere = anywhere
        self.text: str = annotation.dim_str
        dims = self.text.split()
        self.dims = [dim.replace("#", "") for dim in dims]
        self.broad = "#" in self.text
        kinds = {Float: v.require_float, Bool: v.require_mask, UInt8: v.require_bytes}
        self.kind: Callable[[str, Any], None] = kinds.get(annotation.dtype, v.require_whole)
        self.many = next((i for i, dim in enumerate(self.dims) if dim[0] == "*" or dim == "..."), None)
        self.images = any(dim[0] == "*" for dim in self.dims[1:]) and not self.broad

    def __call__(self, name: str, x: Any, call: Call) -> Any:
        self.kind(name, x)
        known, other = call.tensors.setdefault(self.text, (x, name))
        together = self.many is not None and self.text != "..." and not self.broad
        if x is not known and together and x.shape != known.shape:
            raise ValueError(f"{name}: wanted the shape of {other}, {tuple(known.shape)}, got {tuple(x.shape)}")
        if not self.fits(name, x.shape, call):
            raise ValueError(f"{name}: wanted {self.words(name, call)}, got {tuple(x.shape)}")
        if self.images and x.dtype != known.dtype:
            raise TypeError(f"{name}: wanted the dtype of {other}, {known.dtype}, got {x.dtype}")
        if not self.anywhere:
            require_device(name, x, call)
        return x

    def fits(self, name: str, shape: torch.Size, call: Call) -> bool:
        """Whether the shape has the sizes that are known; those that are not are from now on."""
        dims: list[str] = self.dims
        sizes: list[Any] = list(shape)
        if self.many is not None and len(shape) >= len(dims) - 1:
            end = len(shape) - (len(dims) - 1 - self.many)
            sizes[self.many : end] = [tuple(shape[self.many : end])]
        if len(sizes) != len(dims):
            return False
        for dim, size in zip(dims, sizes, strict=True):
            if dim in ("_", "..."):
                continue
            known = self.known(name, dim, size, call)
            if size != known and not (self.broad and _broadcasts(size, known)):
                return False
        return True

    def known(self, name: str, dim: str, size: Any, call: Call) -> Any:
        """The size that a dimension has; `size` if none is known, or if the argument that knows it is none itself."""
        if dim.isdigit():
            return int(dim)
        if dim[0] == "{":
            return call.get(dim[1:-1]) or size
        return call.sizes.setdefault(dim, (size, name))[0]

    def words(self, name: str, call: Call) -> str:
        """The shape that is wanted, as far as it is known, and whose it is."""
        known = [(dim, *call.sizes[dim]) for dim in dict.fromkeys(self.dims) if dim in call.sizes]
        known = [one for one in known if one[2] != name or self.dims.count(one[0]) > 1]
        if self.broad:
            sizes = [size if isinstance(size, tuple) else (size,) for _, size, _ in known]
            return f"a number, or each axis 1 or that of {known[0][2]}, {sum(sizes, ())}"
        dims = [str(call.get(dim[1:-1])) if dim[0] == "{" else dim for dim in self.dims]
        shape = f"shape ({', '.join(dims)}{',' * (len(dims) == 1)})"
        return shape + "".join(f", {dim} = {size} as in {other}" for dim, size, other in known)


def _broadcasts(size: Any, known: Any) -> bool:
    """Whether a size, or several, are 1 where they are not what is known."""
    if isinstance(size, tuple):
        return len(size) == len(known) and all(a in (1, b) for a, b in zip(size, known, strict=True))
    return size == 1


def require_device(name: str, x: Tensor, call: Call) -> None:
    """Raise unless x lies where the call's first tensor does; a single number of the CPU meets all."""
    if x.ndim == 0 and x.device.type == "cpu":
        return
    first, other = call.tensors.setdefault("device", (x, name))
    if x.device != first.device:
        raise ValueError(f"{name}: wanted the device of {other}, {first.device}, got {x.device}")
