"""A GPU that is not there: finds tensors on the wrong device, and what makes Python wait, on a machine that has none.

    with simgpu.installed((7, 5)) as waits:    # a T4; (8, 0) is an A100
        network.to("cuda")(x.to("cuda"), t)
    print(waits)                               # [("to gpu", "embeddings.py:80"), …]

A tensor "on the GPU" is a CPU tensor with a label, `Cuda`. A mode sees every call of PyTorch's Python interface: it
computes on the CPU, labels what comes out, and refuses what CUDA refuses: two devices in one operation (a CPU tensor
of no dimension may join in), numpy, an index on the GPU into a tensor on the CPU. It sits above autograd, so gradients
need no simulation; and it does not see what happens inside an operation.

Not simulated: streams, memory, TF32, the device's own random numbers, generators that live there, fused kernels.
"""

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # now: its register of functions would not like those below
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

Wait = tuple[str, str]  # what Python waits for, and "file.py:line" of the course
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
COURSE = str(Path(__file__).parents[1] / "course_utils")
PROPERTIES = {Tensor.device.__get__: GPU, Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}
READ = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__format__", "__repr__"}
READ |= {"equal", "allclose", "nonzero", "unique", "bincount"}  # what comes out, or its size, depends on the numbers
COPY = {"to", "cpu", "cuda", "copy_", "__setitem__", "__getitem__", "as_tensor"}  # two devices may meet
PRODUCTS = {"conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "matmul", "__matmul__", "mm", "bmm", "einsum"}
PRODUCTS |= {"scaled_dot_product_attention"}  # what a GPU multiplies in float16 and sums in float32
STRICT = {"cat", "stack", "concat", "matmul", "mm", "bmm", "linear", "conv2d", "embedding", "clamp"}  # even 0-d refused


class Cuda(Tensor):
    """A CPU tensor that says it is on the GPU."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return MODE.run(func, args, kwargs or {})

    def __reduce_ex__(self, protocol: int) -> Any:  # what torch.save writes
        return plain(self.detach()).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict) -> Any:
        if id(self) not in memo:
            copied = labelled(plain(self.detach()).clone()).requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied._is_param = True  # all that makes it one, for PyTorch
            if self.is_leaf and self.grad is not None:
                copied.grad = copy.deepcopy(self.grad, memo)
            memo[id(self)] = copied
        return memo[id(self)]


class Mode(TorchFunctionMode):
    """Sees every call, and writes down the waits."""

    waits: list[Wait]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def run(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        name = getattr(func, "__name__", "")
        given = list(tensors(args[:1] if name == "__deepcopy__" else (args, kwargs)))  # its memo has other things
        there = [x for x in given if isinstance(x, Cuda)]
        if there and func in PROPERTIES:
            return PROPERTIES[func]
        if name == "_has_compatible_shallow_copy_type":  # a parameter that moves: exchanged, not refilled
            return len(there) in (0, len(given)) and func(*map(plain, args))
        goal, args, kwargs = destination(name, args, kwargs)
        if there and len(there) < len(given):
            refuse(name, args, given)
        if there and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first (simulated)")
        if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], Tensor):  # in place
            goal = "cuda" if isinstance(args[0], Cuda) else "cpu"
        if name == "__format__":  # PyTorch lets only its own class be formatted like a number
            args = plain(args)
        on_gpu = bool(there) if goal is None else goal == "cuda"
        if kind := wait(name, args, kwargs, given, there, on_gpu):
            self.waits.append((kind, line()))
        with torch._C.DisableTorchFunctionSubclass():
            out = accumulated(func, args, kwargs) if name in PRODUCTS and halves(given) else func(*args, **kwargs)
        if any(out is x for x in given) and isinstance(out, Cuda) == on_gpu:
            return out
        return labelled(out) if on_gpu else plain(out)


MODE = Mode()


def halves(given: list[Tensor]) -> bool:
    """Whether an operation's numbers are float16 there, or autocast makes them so: it leaves float64 alone."""
    kinds = {x.dtype for x in given}
    if torch.is_autocast_enabled("cpu") and torch.float64 not in kinds:
        return torch.get_autocast_dtype("cpu") == torch.float16 and bool(kinds & {torch.float32, torch.float16})
    return torch.float16 in kinds


def accumulated(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A product of float16 numbers as a GPU forms it: summed in float32, rounded once. (A CPU takes 40 times as long.)

    Each number passes through float16 on its way in, and so does its gradient on its way out.
    """

    def rounded(x: Tensor) -> Tensor:
        return x.half().float() if x.is_floating_point() else x

    with torch.autocast("cpu", enabled=False):
        out = func(*mapped(rounded, args), **{key: mapped(rounded, value) for key, value in kwargs.items()})
    return mapped(Tensor.half, out)


def labelled(x: Any) -> Any:
    """All tensors in a result, on the GPU."""
    return mapped(lambda one: one if isinstance(one, Cuda) else one.as_subclass(Cuda), x)


def plain(x: Any) -> Any:
    """All tensors in a result, on the CPU."""

    def unlabelled(one: Tensor) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return one.as_subclass(Tensor) if isinstance(one, Cuda) else one

    return mapped(unlabelled, x)


def mapped(f: Callable[[Tensor], Tensor], x: Any) -> Any:
    if isinstance(x, Tensor):
        return f(x)
    if type(x) in (tuple, list):
        return type(x)(mapped(f, one) for one in x)
    return type(x)(tuple(mapped(f, one) for one in x)) if type(x).__module__ == "torch.return_types" else x


def tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, tuple | list | dict):
        for one in x.values() if isinstance(x, dict) else x:
            yield from tensors(one)


def destination(name: str, args: tuple, kwargs: dict) -> tuple[str | None, tuple, dict]:
    """Where a call says its result shall be, "cuda" or "cpu" or nothing; and the call with the CPU in its place."""
    goal = {"cpu": "cpu", "cuda": "cuda"}.get(name)

    def here(x: Any) -> Any:
        nonlocal goal
        if isinstance(x, torch.device) or (isinstance(x, str) and x.split(":")[0] in ("cpu", "cuda")):
            goal = torch.device(x).type
            return CPU
        return x

    if name == "to" and len(args) > 1 and isinstance(args[1], Tensor):  # x.to(other)
        goal = "cuda" if isinstance(args[1], Cuda) else "cpu"
    moved = args[:1] + tuple(map(here, args[1:])) if name == "to" else args
    kwargs = {key: here(value) if key == "device" else value for key, value in kwargs.items()}
    if name == "cuda":
        kwargs = {}
    return goal, moved, kwargs


def refuse(name: str, args: tuple, given: list[Tensor]) -> None:
    """Raise if CUDA would not take these tensors together."""
    if name in ("__getitem__", "__setitem__") and not isinstance(args[0], Cuda):
        indices = list(tensors(args[1]))
        if any(isinstance(i, Cuda) for i in indices):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (simulated)"
            )
    if name in COPY or name == "__get__" or name == "__set__":
        return
    strays = [x for x in given if not isinstance(x, Cuda) and (size(x) or name in STRICT)]
    strays += [args[0]] if isinstance(args[0], Tensor) and not isinstance(args[0], Cuda) and name.endswith("_") else []
    if strays:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"(simulated, in {name}: a CPU tensor of {size(strays[0])} dimensions)"
        )


def size(x: Tensor) -> int:
    with torch._C.DisableTorchFunctionSubclass():
        return x.ndim


def wait(name: str, args: tuple, kwargs: dict, given: list[Tensor], there: list[Tensor], on_gpu: bool) -> str:
    """What Python would wait for in this call, in a word; nothing if nothing."""
    if name in READ:
        return "read" if there else ""
    if name in ("to", "cpu", "cuda", "as_tensor", "tensor", "new_tensor"):
        before = bool(given) and isinstance(given[0], Cuda)
        if on_gpu and kwargs.get("non_blocking"):  # PyTorch queues the copy, and Python goes on
            return ""
        return ("to gpu" if on_gpu else "to cpu") if before != on_gpu and (given or on_gpu) else ""
    if name in ("copy_", "__setitem__") and there and len(there) < len(given) and size(given[-1]):
        return "to gpu" if isinstance(args[0], Cuda) else "to cpu"
    if name == "__getitem__" and there:
        indices = list(tensors(args[1]))
        if any(not isinstance(i, Cuda) and size(i) for i in indices):
            return "to gpu"
        if any(i.dtype == torch.bool for i in indices):
            return "read"
    return ""


def line() -> str:
    """Where in the course we are: its innermost line."""
    frame = sys._getframe(1)
    while frame and not frame.f_code.co_filename.startswith(COURSE):
        frame = frame.f_back  # type: ignore[assignment]
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "elsewhere"


@contextlib.contextmanager
def installed(capability: tuple[int, int] = (7, 5)) -> Iterator[list[Wait]]:
    """The device in place; what makes Python wait is added to the list that is yielded."""

    def nothing(*_: Any, **__: Any) -> None:
        return None

    autocast, engine = torch.autocast, torch.autograd._engine_run_backward

    def run_backward(*args: Any, **kwargs: Any) -> Any:
        with MODE:  # what is computed again on the way back is on the GPU, too
            return engine(*args, **kwargs)

    apply, swap = torch.nn.Module._apply, torch.__future__.set_swap_module_params_on_conversion

    def moved(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        before = torch.__future__.get_swap_module_params_on_conversion()
        swap(True)  # a parameter that moves gets its label so; one that is loaded is filled, as everywhere
        try:
            return apply(self, *args, **kwargs)
        finally:
            swap(before)

    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_capability": lambda device=None: capability,
        "get_device_name": lambda device=None: "simulated GPU",
        "get_device_properties": lambda device=None: SimpleNamespace(total_memory=16 * 2**30, multi_processor_count=40),
        "device": lambda device: contextlib.nullcontext(),
        "synchronize": nothing,
        "manual_seed": nothing,
        "manual_seed_all": nothing,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": nothing,
        "reset_peak_memory_stats": nothing,
        "max_memory_allocated": lambda device=None: 1,
    }
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(mock.patch.object(torch, "autocast", lambda kind, *a, **k: autocast("cpu", *a, **k)))
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", run_backward))
        metadata = {"default": lambda x: (x.shape, x.dtype)}  # not its device: it was kept as it is
        stack.enter_context(mock.patch.dict(checkpoint._allowed_determinism_checks_to_fns, metadata))
        for name in ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"):  # old PyTorch, new
            if hasattr(torch.optim.Optimizer, name):
                stack.enter_context(mock.patch.object(torch.optim.Optimizer, name, nothing))
        stack.enter_context(mock.patch.object(torch.nn.Module, "_apply", moved))
        MODE.waits = []
        stack.enter_context(MODE)
        yield MODE.waits
