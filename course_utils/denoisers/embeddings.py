"""What tells a network how noisy its input is, which class is wanted, and where each position lies."""

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, In, Whole, checked
from course_utils._validate import as_device, require_between, require_float, require_same
from course_utils.denoisers._inputs import require_labels
from course_utils.denoisers.layers import zeroed


@checked
def sinusoidal_embedding(
    position: Float[Tensor, "b"],
    dim: Annotated[int, Whole(2, of=2)],
    longest: Annotated[float, In("(0, inf)")] = 10_000.0,
) -> Float[Tensor, "b dim"]:
    """[cos(p w_i), sin(p w_i)] with wavelengths 2 pi / w_i from 2 pi up to 2 pi `longest` (Vaswani et al. 2017, 3.5).

    Args:
        position: (b,), on a scale where steps of about 1 should be told apart.
        dim: even.
    """
    frequency = torch.exp(-math.log(longest) * torch.arange(dim // 2, device=position.device) / max(dim // 2 - 1, 1))
    angle = position.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


@checked
def sinusoidal_2d(
    height: Count, width: Count, dim: Annotated[int, Whole(4, of=4)], device: torch.device | str | None = None
) -> Float[Tensor, "dim height width"]:
    """Where each position lies: `sinusoidal_embedding` of its row, then of its column, dim / 2 channels each.

    The wavelengths end at 2 pi · 100: images are at most a few hundred positions wide, and longer waves say nothing.
    """
    device = as_device(device)
    row, column = (
        sinusoidal_embedding(torch.arange(side, device=device).float(), dim // 2, longest=100.0).T
        for side in (height, width)
    )
    return torch.cat([row[:, :, None].expand(-1, -1, width), column[:, None, :].expand(-1, height, -1)])


class NoiseEmbedding(nn.Module):
    """The log-SNR (and, if asked, a class, and a second log-SNR) as a vector: sinusoids, then two layers.

    Conditioning on the log-SNR rather than on t lets one network serve every schedule and every time grid. It is
    clamped to ±20 and spread by 50, so that a schedule's thousand steps lie about 1 apart, as t = 1 … 1000 do in DDPM.

    Args:
        dim: width of the vector.
        num_classes: 0 for none; otherwise labels 0 … num_classes - 1, and -1 for "no class" (for guidance, lesson 15).
        second_time: also told where a jump that begins here is to end, that of t itself unless told (lesson 14). Its
            last layer starts at zero, so that a network to which it is added answers as before, to the bit.
    """

    @checked
    def __init__(self, dim: Count, num_classes: Annotated[int, Whole(0)] = 0, second_time: bool = False):
        super().__init__()
        self.dim, self.num_classes = dim, num_classes
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.classes = nn.Embedding(num_classes + 1, dim) if num_classes else None
        ends = (nn.Linear(dim, dim), nn.SiLU(), zeroed(nn.Linear(dim, dim))) if second_time else ()
        self.second = nn.Sequential(*ends) if second_time else None

    def forward(
        self,
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
        log_snr_r: Float[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b dim"]:
        require_float("log_snr", log_snr)
        h = self.layers(self._sinusoids(log_snr))
        if log_snr_r is not None:
            if self.second is None:
                raise ValueError("r: this network was made to be told one time (second_time = False)")
            require_same("log_snr_r", log_snr_r, "log_snr", log_snr)
        if self.second is not None:
            h = h + self.second(self._sinusoids(log_snr if log_snr_r is None else log_snr_r))
        if self.classes is not None:
            if label is None:
                label = torch.full_like(log_snr, -1, dtype=torch.long)
            require_labels(label, log_snr)
            h = h + self._of_class(label, self.classes)
        elif label is not None:
            raise ValueError("label: this network was made without classes (num_classes = 0)")
        return F.silu(h)

    def _sinusoids(self, log_snr: Tensor) -> Tensor:
        position = 50 * log_snr.clamp(-20, 20)
        return sinusoidal_embedding(position, self.dim).to(next(self.layers.parameters()).dtype)

    def _of_class(self, label: Tensor, classes: nn.Embedding) -> Tensor:
        label = label.long()
        known = (label >= -1) & (label < self.num_classes)
        words = f"0 … {self.num_classes - 1}, or -1 for no class"
        require_between("label", label, -1, self.num_classes - 1, words)
        # On a GPU a look would make Python wait, and a kernel that meets a wrong label ends the session: there it gives
        # NaN, which samplers and training refuse. Row 0 is for -1, no class.
        row = torch.where(known, label + 1, 0)
        return classes(row).masked_fill(~known[:, None], torch.nan)


class FiLM(nn.Module):
    """Scale and shift of feature maps by a vector, h (1 + scale) + shift (Perez et al. 2018); starts as identity."""

    def __init__(self, dim: int, channels: int):
        super().__init__()
        self.layer = zeroed(nn.Linear(dim, 2 * channels))

    def forward(self, h: Float[Tensor, "b c height width"], vector: Float[Tensor, "b dim"]) -> Tensor:
        scale, shift = self.layer(vector)[:, :, None, None].chunk(2, dim=1)
        return h * (1 + scale) + shift
