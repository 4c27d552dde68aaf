"""How the grader and the sandbox speak: one JSON text and one safetensors block a message, and nothing that is code.

    8 bytes    length of the JSON text
    8 bytes    length of the block
    the text   a tree in which each tensor is {"tensor": its number in the block}; {"complex": …} if those are pairs
    the block  safetensors

Whatever comes out of the sandbox may be a lie. It can be garbage, endless, or nested a million deep; it cannot be more
than numbers and text.
"""

import json
import math
import struct
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

HEADER = struct.Struct(">QQ")
TEXT_LIMIT, BLOCK_LIMIT = 1 << 16, 1 << 20  # bytes of a reply; the lessons' right ones have 200 and 16,000
HEAD_LIMIT = 1 << 14  # bytes of safetensors' own head: some 200 tensors
SIZE_LIMIT, RANK_LIMIT = 1 << 18, 16  # numbers in all tensors of a reply, and in each direction of one; directions
NAME_LIMIT = 80  # characters of a type's name
PLAIN: tuple[type, ...] = (bool, int, float, str)
DTYPES = {
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
}  # fmt: skip
"""The kinds of number that a check may see; of the others (quantised, float8, uint16, …) it sees that they are some."""


class WireError(Exception):
    """The other side sent something that is no message."""


class Opaque:
    """Stands for something that cannot cross: only the name of its type did."""


def encode(value: Any, limited: bool = True) -> bytes:
    """A message of numbers, texts, tensors, lists, tuples and dicts.

    Anything else becomes the name of its type. Raises WireError if the message is larger than a reply may be, which a
    question (`limited=False`) may be too, or if what a learner has made refuses to be looked at.
    """
    tensors: dict[str, Tensor] = {}
    size = 0

    def tree(x: Any) -> Any:
        nonlocal size
        if x is None:
            return x
        for kind in PLAIN:
            if isinstance(x, kind):
                return kind(x)  # of a subclass, such as numpy.float64, the value
        if isinstance(x, Tensor) and x.layout == torch.strided and x.device.type != "meta" and x.dtype in DTYPES:
            size += x.numel()  # before it is copied: a view of one number may have any size
            if limited and size > SIZE_LIMIT:
                raise WireError(f"too large to be sent: {size:,} numbers")
            plain = x.detach().cpu().resolve_conj().resolve_neg()
            plain = torch.view_as_real(plain) if plain.is_complex() else plain
            tensors[name := str(len(tensors))] = plain.contiguous().clone()
            return {"complex" if x.is_complex() else "tensor": name}
        if isinstance(x, list | tuple):
            return {"list" if isinstance(x, list) else "tuple": [tree(item) for item in x]}
        if isinstance(x, dict) and all(type(key) is str for key in x):
            return {"dict": {key: tree(item) for key, item in x.items()}}
        called = type(x).__name__
        return {"opaque": called if called.isidentifier() and len(called) <= NAME_LIMIT else "object"}

    try:
        text = json.dumps(tree(value), ensure_ascii=False).encode(errors="replace")
        block = safetensors.torch.save(tensors)
    except WireError:
        raise
    except Exception as error:  # an integer of a million digits; a list in itself; methods of a learner's own class
        raise WireError(f"cannot be sent: {type(error).__name__}") from error
    if limited and (len(text) > TEXT_LIMIT or len(block) > BLOCK_LIMIT):
        raise WireError(f"too large to be sent: {len(text) + len(block):,} bytes")
    return HEADER.pack(len(text), len(block)) + text + block


def lengths(header: bytes) -> tuple[int, int]:
    """How many bytes of text and of tensors follow a header. Raises WireError if they are more than is allowed."""
    text, block = HEADER.unpack(header)
    if text > TEXT_LIMIT or block > BLOCK_LIMIT:
        raise WireError(f"announces {text + block:,} bytes")
    return text, block


def decode(text: bytes, block: bytes, limited: bool = True) -> Any:
    """The value that `encode` was given. Raises WireError for garbage, and for a reply that a check could choke on."""
    try:
        if limited and int.from_bytes(block[:8], "little") > HEAD_LIMIT:
            raise WireError("sent too many tensors")
        tensors = safetensors.torch.load(block)
        shapes = [tensor.shape for tensor in tensors.values()]
        if limited and (
            sum(map(math.prod, shapes)) > SIZE_LIMIT
            or any(len(shape) > RANK_LIMIT or max(shape, default=0) > SIZE_LIMIT for shape in shapes)
        ):
            raise WireError("sent too many numbers")
        return _grown(json.loads(text), tensors)
    except WireError:
        raise
    except Exception as error:  # safetensors and json have many ways to refuse
        raise WireError(f"sent what cannot be read: {type(error).__name__}") from error


def _grown(x: Any, tensors: dict[str, Tensor]) -> Any:
    if x is None or isinstance(x, PLAIN):
        return x
    if not isinstance(x, dict) or len(x) != 1:
        raise WireError("sent a tree that is none of ours")
    ((kind, inside),) = x.items()
    match kind, inside:
        case "tensor", str(name):
            return tensors.pop(name)  # each once: a thousand names for one large tensor would be as bad as a thousand
        case "complex", str(name):
            return torch.view_as_complex(tensors.pop(name))
        case (("list" | "tuple"), list(items)):
            grown = [_grown(item, tensors) for item in items]
            return grown if kind == "list" else tuple(grown)
        case "dict", dict(items):
            return {key: _grown(item, tensors) for key, item in items.items()}
        case "opaque", str(name) if name.isidentifier() and len(name) <= NAME_LIMIT:
            return type(name, (Opaque,), {})()
    raise WireError("sent a tree that is none of ours")
