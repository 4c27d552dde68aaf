"""What the course measures itself against: the network that tutorials train on MNIST, on the same schedule."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.parameterizations import x0_from_eps
from course_utils.schedules import linear


class Rival(nn.Module):
    """diffusers' UNet2DModel as a denoiser: (32, 64, 64) channels, two layers a block, attention in the lower levels.

    It predicts eps, and is told t - 1, since diffusers counts from 0. No class (-1) is one more class to it.
    """

    def __init__(self, num_classes: int = 10, T: int = 1000):
        super().__init__()
        from diffusers import UNet2DModel

        self.schedule, self.num_classes, self.data_std = linear(T), num_classes, 1.0
        self.network: Any = UNet2DModel(  # type: ignore[operator]
            sample_size=28,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            num_class_embeds=num_classes + 1,
        )

    def forward(self, x_t: Tensor, t: Tensor | int, label: Tensor | None = None) -> Tensor:
        t = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        label = torch.full_like(t, -1) if label is None else label
        label = torch.where(label < 0, self.num_classes, label)
        return x0_from_eps(x_t, self.network(x_t, t - 1, class_labels=label).sample, t, self.schedule)


class AsDiffusers(nn.Module):
    """A denoiser of ours as diffusers' pipelines want a network; for a scheduler whose prediction type is "sample"."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(in_channels=1, sample_size=28)

    def __init__(self, denoise: nn.Module, label: Tensor):
        super().__init__()
        self.denoise, self.label = denoise, label

    def forward(self, x_t: Tensor, t: Tensor) -> Any:
        return SimpleNamespace(sample=self.denoise(x_t, int(t) + 1, label=self.label))  # they count from 0
