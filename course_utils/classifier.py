"""Small image classifiers: of clean images, whose answers tell whether samples are of their class, and whose features
how far sets differ; and of noisy ones, whose gradient guides."""

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import SOME, Count, Sizes, checked
from course_utils.data import normalize
from course_utils.denoisers._inputs import require_input
from course_utils.denoisers.embeddings import NoiseEmbedding
from course_utils.denoisers.layers import pad_to_multiple
from course_utils.denoisers.unet import ResBlock
from course_utils.protocols import Schedule, Time
from course_utils.runtime import moved
from course_utils.schedules.jumps import coeffs_for
from course_utils.tensors import per_image


def _conv(channels_in: int, channels_out: int, *shrink: nn.Module) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, *shrink, nn.BatchNorm2d(channels_out), nn.ReLU())


class Classifier(nn.Module):
    """Convolutions at falling resolution; the mean over positions is the feature vector, one linear layer the answer.

    Args:
        channels: of the images.
        widths: channels of the first convolution, then of each stage, which halves height and width; the last is the
            number of features.
        num_classes: length of the answer.
        stem: side of the pixel blocks that become channels first (space-to-depth), as in `denoisers.UNet`.

    Sides that the stem does not divide, or too short for the stages, are filled up with their last row and column.

    Raises:
        ValueError: an input with other channels.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        widths: Annotated[Sequence[int], Sizes()] = (32, 64, 64),
        num_classes: Count = 10,
        stem: Count = 2,
    ):
        super().__init__()
        self.channels, self.num_features, self.stem = channels, widths[-1], stem
        self.least = stem * 2 ** (len(widths) - 1)  # shorter sides have nothing left at the end
        stages = [
            nn.Sequential(_conv(before, width, nn.MaxPool2d(2)), _conv(width, width))
            for before, width in itertools.pairwise(widths)
        ]
        self.body = nn.Sequential(nn.PixelUnshuffle(stem), _conv(channels * stem**2, widths[0]), *stages)
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Float[Tensor, "b c height width"]) -> Float[Tensor, "b features"]:
        """The penultimate layer, for images in [-1, 1]."""
        require_input(self, x)
        height, width = (max(self.least - side, 0) for side in x.shape[2:])
        x = F.pad(x, (0, width, 0, height), mode="replicate") if height or width else x
        return self.body(pad_to_multiple(x, self.stem)).mean((2, 3))

    def forward(self, x: Float[Tensor, "b c height width"]) -> Float[Tensor, "b classes"]:
        """Logits, for images in [-1, 1]."""
        return self.head(self.features(x))


class NoisyClassifier(nn.Module):
    """Which class a noisy image is of: it takes x_t and the log-SNR, and answers with logits (lesson 15).

    Residual blocks that hear the noise level, each followed by halving height and width; mean over positions; one
    linear layer. It learns by `tasks.NoisyClassification`, of variance-preserving noise.

    Args:
        channels: of the images.
        widths: channels of each stage.
        num_classes: length of the answer.
        stem: side of the pixel blocks that become channels first (space-to-depth), as in `denoisers.UNet`.
    """

    @checked
    def __init__(
        self,
        channels: Count = 1,
        widths: Annotated[Sequence[int], Sizes()] = (24, 48),
        num_classes: Count = 10,
        stem: Count = 2,
    ):
        super().__init__()
        self.channels, self.stem, dim = channels, stem, 2 * widths[0]
        self.embed = NoiseEmbedding(dim)
        self.first = nn.Conv2d(channels * stem**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            ResBlock(before, width, dim) for before, width in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(
        self, x_t: Float[Tensor, "b c height width"], log_snr: Float[Tensor, "b"]
    ) -> Float[Tensor, "b classes"]:
        """Logits."""
        require_input(self, x_t, log_snr)
        vector = self.embed(log_snr)
        h = self.first(F.pixel_unshuffle(pad_to_multiple(x_t, self.stem), self.stem))
        for block in self.blocks.children():
            h = F.avg_pool2d(block(h, vector), 2, ceil_mode=True)
        return self.head(F.silu(h).mean((2, 3)))

    @checked
    def at_times_of(self, schedule: Schedule) -> Callable[[Tensor, Time], Tensor]:
        """classify(x_t, t) -> logits, as `guidance.classifier_guidance` wants it, for the noise of any schedule."""

        def classify(x_t: Float[Tensor, "b c height width"], t: Time) -> Float[Tensor, "b classes"]:
            alpha, sigma = coeffs_for(x_t, t, schedule)
            return self(x_t * (alpha**2 + sigma**2).rsqrt(), per_image(schedule.log_snr(t), x_t, x_t.dtype))

        return classify


@checked
@torch.no_grad()
def look_at(
    classifier: Classifier, images: Annotated[UInt8[Tensor, "n c height width"], SOME], *, batch_size: Count = 500
) -> tuple[Float[Tensor, "n features"], Int64[Tensor, "n"]]:
    """Features, float32, and the most probable class of each image, on the CPU; the classifier is put in eval mode.

    Everything is in float32, so that distances between features mean the same everywhere. (But for what a GPU makes of
    it: from Ampere on PyTorch rounds the inputs of convolutions to TF32, unless told otherwise.) Raises TypeError for
    images that are not bytes: quantise samples with `data.denormalize` first, as real images are.
    """
    weight = next(classifier.eval().parameters())
    features, classes = [], []
    for chunk in images.split(batch_size):
        with torch.autocast(weight.device.type, enabled=False):
            f = classifier.features(normalize(moved(chunk, weight.device), weight.dtype))
            classes.append(classifier.head(f).argmax(1).cpu())
        features.append(f.float().cpu())
    return torch.cat(features), torch.cat(classes)
