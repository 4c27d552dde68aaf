"""What a network costs and how far it sees: parameters, FLOPs, memory, speed, one row per network."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from course_utils._contract import Count, Is, Sizes, Whole, checked

Shape = Annotated[tuple[int, ...], Sizes(3)]
Networks = Annotated[Mapping[str, nn.Module], Is("networks by their names")]


@dataclass(frozen=True)
class Description:
    """What `describe` measured. Costs are per image."""

    parameters: int
    flops: int  # of one forward pass; a multiplication and an addition count as two
    activation_bytes: int  # kept from the forward pass for the backward pass, weights not counted
    receptive_field: int  # pixels across
    images_per_second: float | None = None  # forward and backward; varies by machine


def _inputs(network: nn.Module, shape: Shape, n: int) -> tuple[Tensor, Tensor]:
    """(x, log_snr) in the dtype and on the device of the network's weights."""
    like = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(like)
    return x, torch.zeros(n, device=like.device)


@checked
def count_flops(network: nn.Module, shape: Shape, **cond: Tensor) -> int:
    """Floating-point operations of one forward pass of one image, as PyTorch's counter counts matrix products.

    `cond` is what the network is told besides x and the log-SNR, for one image.
    """
    # Attention unfused: the counter of PyTorch 2.4 knows no fused attention on a CPU, and counts nothing for it.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(*_inputs(network, shape, 1), **cond)
    return counter.get_total_flops()


@checked
def activation_bytes(network: nn.Module, shape: Shape) -> int:
    """Bytes that the forward pass of one image keeps for the backward pass, each piece of memory counted once."""
    network = copy.deepcopy(network).requires_grad_(True)  # a shipped network is frozen, and would keep nothing
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        output = network(*_inputs(network, shape, 1))
    del output  # until here it held all that was saved, so that no address was used twice
    return sum(kept.values())


@checked
def receptive_field(network: nn.Module, shape: Shape) -> int:
    """Side of the square of input pixels that move the output pixel at the centre, at most the image's own.

    Measured as the reach of the centre pixel's gradient, on a float64 copy whose weights are all stirred: layers that
    start at zero pass no gradient. Normalisation over the whole image counts, as its statistics do reach everywhere.
    """
    network = copy.deepcopy(network).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            stir = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.add_(stir.to(weight.device), alpha=0.05)
    x, log_snr = _inputs(network, shape, 1)
    x.requires_grad_()
    height, width = shape[-2:]
    network(x, log_snr)[..., height // 2, width // 2].sum().backward()
    assert x.grad is not None
    rows, columns = x.grad[0].abs().amax(0).nonzero().T
    return max(int(reached.max() - reached.min()) + 1 if len(reached) else 0 for reached in (rows, columns))


@checked
def images_per_second(network: nn.Module, shape: Shape, batch: Count, repeats: Count = 3) -> float:
    """Images a second through forward and backward pass: the best of some repeats, after one to warm up."""
    x, log_snr = _inputs(network, shape, batch)
    network, best = copy.deepcopy(network).requires_grad_(True), float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        network(x, log_snr).square().mean().backward()
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        best = min(best, time.perf_counter() - start)
    return batch / best


@checked
def describe(network: nn.Module, shape: Shape, batch: Annotated[int, Whole(0)] = 0) -> Description:
    """Parameters, FLOPs, activation memory and receptive field of a network for images of one shape.

    Args:
        network: `network(x, log_snr) -> F`; not changed.
        shape: (channels, height, width).
        batch: if not 0, speed is measured too, with batches of this many.

    Raises:
        ValueError: a shape that is not (channels, height, width).
    """
    return Description(
        parameters=sum(p.numel() for p in network.parameters()),
        flops=count_flops(network, shape),
        activation_bytes=activation_bytes(network, shape),
        receptive_field=receptive_field(network, shape),
        images_per_second=images_per_second(network, shape, batch) if batch else None,
    )


@checked
def compare(networks: Networks, shape: Shape, batch: Annotated[int, Whole(0)] = 0) -> str:
    """`describe` for several networks, as a table to print."""
    columns = ["parameters", "MFLOPs", "activations kB", "receptive field", *["images/s"] * bool(batch)]
    lines = [f"{'':<16}" + "".join(f"{column:>17}" for column in columns)]
    for name, network in networks.items():
        d = describe(network, shape, batch)
        cells = [
            f"{d.parameters:,}",
            f"{d.flops / 1e6:,.1f}",
            f"{d.activation_bytes / 1e3:,.0f}",
            f"{d.receptive_field}",
        ]
        if d.images_per_second is not None:
            cells.append(f"{d.images_per_second:,.0f}")
        lines.append(f"{name:<16}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)
