"""The simplest denoiser: a stack of 3 × 3 convolutions."""

from typing import Annotated

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, Whole, checked
from course_utils.denoisers._inputs import require_input
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding
from course_utils.denoisers.layers import zeroed


class PlainCNN(nn.Module):
    """`depth` convolutions of 3 × 3 with SiLU between them: each output pixel sees 2 depth + 1 pixels across, no more.

    Args:
        channels: of the images.
        width: channels inside.
        depth: how many convolutions, 2 or more.
        time: False for a network that is not told the noise level.
        num_classes: 0, or the number of classes for `label`; wants `time`.

    No normalisation: its statistics are of the whole image, and the receptive field would be too. The last layer starts
    at zero and has no nonlinearity after it: noise, and with it every target, has no bounds. Any image size will do.

    Raises:
        ValueError: classes without time; an input with other channels; a label that the network cannot use.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        width: Count = 64,
        depth: Annotated[int, Whole(2)] = 6,
        time: bool = True,
        num_classes: Annotated[int, Whole(0, lambda time: None if time else 0, "without time")] = 0,
    ):
        super().__init__()
        self.channels = channels
        hidden = [nn.Conv2d(channels if i == 0 else width, width, 3, padding=1) for i in range(depth - 1)]
        # Without normalisation the first weights must keep the signal's size by themselves (He et al. 2015).
        for conv in hidden:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        self.hidden = nn.ModuleList(hidden)
        self.last = zeroed(nn.Conv2d(width, channels, 3, padding=1))
        self.embed = NoiseEmbedding(2 * width, num_classes) if time else None
        self.films = nn.ModuleList(FiLM(2 * width, width) for _ in self.hidden) if time else None

    def forward(
        self,
        x: Float[Tensor, "b c height width"],
        log_snr: Float[Tensor, "b"],
        label: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b c height width"]:
        require_input(self, x, log_snr, label)
        if self.embed is None or self.films is None:
            for conv in self.hidden:
                x = F.silu(conv(x))
            return self.last(x)
        vector = self.embed(log_snr, label)
        for conv, film in zip(self.hidden, self.films, strict=True):
            x = F.silu(film(conv(x), vector))
        return self.last(x)
