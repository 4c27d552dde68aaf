"""The denoising autoencoder: down to a narrow code and up again (Vincent et al. 2008)."""

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, Sizes, Whole, checked
from course_utils.denoisers._inputs import require_input
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding
from course_utils.denoisers.layers import pad_to_multiple, zeroed


class DAE(nn.Module):
    """Convolutions down to a quarter of the size, a linear code of `bottleneck` numbers, and convolutions up again.

    All that the output knows of the input goes through the code, unless `skips` carry each level across as well.

    Args:
        channels: of the images.
        size: (height, width) of the images, or one number if they are square: the linear layers need to know it.
        width: channels at full size; twice as many below.
        bottleneck: length of the code.
        skips: concatenate each level on the way down to its counterpart on the way up, as a U-Net does.
        conditioned: False for a network that is not told the noise level.
        num_classes: 0, or the number of classes for `label`; wants `conditioned`.

    Sides that are no multiple of 4 are padded by repeating the edge, then cropped.

    Raises:
        ValueError: classes without conditioning; an input of another size or with other channels.
    """

    @checked
    def __init__(
        self,
        channels: Count,
        size: Annotated[int | tuple[int, int], Sizes(2, square=True)],
        width: Count = 32,
        bottleneck: Count = 128,
        skips: bool = False,
        conditioned: bool = True,
        num_classes: Annotated[int, Whole(0, lambda conditioned: None if conditioned else 0, "unconditioned")] = 0,
    ):
        super().__init__()
        self.channels, self.skips = channels, skips
        self.size: tuple[int, int] = size  # type: ignore[assignment]  # one number was read as two
        low = (2 * width, *(-(-side // 4) for side in self.size))  # a quarter of each side, rounded up
        self.down = nn.ModuleList(
            [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
                nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            ]
        )
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(low), bottleneck))
        self.decode = nn.Sequential(nn.Linear(bottleneck, math.prod(low)), nn.Unflatten(1, low))
        twice = 2 if skips else 1
        # Enlarge, then convolve: a strided transposed convolution would leave a checkerboard (Odena et al. 2016).
        self.up = nn.ModuleList(
            [
                nn.Conv2d(twice * 2 * width, 2 * width, 3, padding=1),
                nn.Conv2d(twice * 2 * width, width, 3, padding=1),
                nn.Conv2d(twice * width, width, 3, padding=1),
            ]
        )
        self.last = zeroed(nn.Conv2d(width, channels, 3, padding=1))
        dim = 2 * width
        self.embed = NoiseEmbedding(dim, num_classes) if conditioned else None
        self.films = nn.ModuleList(
            FiLM(dim, conv.out_channels) if conditioned else nn.Identity() for conv in [*self.down, *self.up]
        )

    def forward(
        self,
        x: Float[Tensor, "b c height width"],
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c height width"]:
        require_input(self, x, log_snr, label)
        height, width = x.shape[-2:]
        vector = None if self.embed is None else self.embed(log_snr, label)

        def layer(conv: nn.Module, film: nn.Module, h: Tensor) -> Tensor:
            return F.silu(conv(h) if vector is None else film(conv(h), vector))

        h, levels = pad_to_multiple(x, 4), []
        for conv, film in zip(self.down, self.films[:3], strict=True):
            h = layer(conv, film, h)
            levels.append(h)
        h = self.decode(self.encode(h))
        for i, (conv, film) in enumerate(zip(self.up, self.films[3:], strict=True)):
            if i:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
            h = layer(conv, film, torch.cat([h, levels.pop()], dim=1) if self.skips else h)
        return self.last(h)[..., :height, :width]
