"""Small networks: for points, many of them side by side; for digits, convolutions.

Points. A row of a batch has `copies` points, (b, copies, d), and each copy has weights of its own: ten seeds train in
one run at the price of little more than one, and none hears of another. Generator, critic and denoiser have the same
hidden layers, so that they can be compared.
"""

import itertools
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import Count, checked

FIRST = 5.0
"""Spread of the first layer's weights: its features then bend within a fifth of a unit, as points a unit apart want."""


class _SideBySide(nn.Module):
    """`copies` perceptrons: (b, copies, inputs) -> (b, copies, outputs). The last layer begins at a tenth."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, copies: int):
        super().__init__()
        sizes = list(itertools.pairwise([inputs, *[width] * depth, outputs]))
        gains = [FIRST * (2 / inputs) ** 0.5, *[(2 / width) ** 0.5] * (depth - 1), 0.1 / width**0.5]
        self.weights = nn.ParameterList(
            gain * torch.randn(copies, a, b) for (a, b), gain in zip(sizes, gains, strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(copies, 1, b) for _, b in sizes)
        nn.init.uniform_(self.biases[0], -2 * FIRST, 2 * FIRST)

    def forward(self, x: Tensor) -> Tensor:
        h = x.transpose(0, 1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, F.silu(h) if i else h, weight)
        return h.transpose(0, 1)


class PointGenerator(nn.Module):
    """Points (b, copies, d) from noises (b, copies, latent)."""

    @checked
    def __init__(self, d: Count = 2, latent: Count = 2, width: Count = 64, depth: Count = 3, copies: Count = 1):
        super().__init__()
        self.latent = (copies, latent)
        self.body = _SideBySide(latent, d, width, depth, copies)

    def forward(self, z: Float[Tensor, "b copies latent"]) -> Float[Tensor, "b copies d"]:
        return self.body(z) * 10.0  # undoes the small start of the last layer: points as wide as the noise


class PointCritic(nn.Module):
    """Logits (b / pack, copies) of points (b, copies, d): `pack` rows are judged together (Lin et al. 2018)."""

    @checked
    def __init__(self, d: Count = 2, width: Count = 64, depth: Count = 3, copies: Count = 1, pack: Count = 1):
        super().__init__()
        self.pack = pack
        self.body = _SideBySide(d * pack, 1, width, depth, copies)

    def forward(self, x: Float[Tensor, "b copies d"]) -> Float[Tensor, "n copies"]:
        return self.body(packed(x, self.pack))[..., 0]


class PointDenoiser(nn.Module):
    """What `denoisers.Denoiser` wraps, for points (b, copies, d): it also takes a second time (lesson 14).

    A log-SNR s enters as tanh(s / 4), s / 8 and sigmoid(-s / 2): the last is t on the straight path.
    """

    @checked
    def __init__(self, d: Count = 2, width: Count = 64, depth: Count = 3, copies: Count = 1):
        super().__init__()
        self.body = _SideBySide(d + 6, d, width, depth, copies)

    def forward(
        self, x: Float[Tensor, "b copies d"], log_snr: Float[Tensor, "b"], log_snr_r: Float[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b copies d"]:
        ends = (s.clamp(-20, 20) for s in (log_snr, log_snr if log_snr_r is None else log_snr_r))
        times = torch.stack([f for s in ends for f in (torch.tanh(s / 4), s / 8, torch.sigmoid(-s / 2))], 1)
        return self.body(torch.cat([x, times[:, None].expand(-1, x.shape[1], -1)], 2))


@checked
def packed(x: Float[Tensor, "b *shape"], pack: Count) -> Float[Tensor, "n *packed"]:
    """Neighbouring rows as one: of points (b, copies, d) as (b / pack, copies, pack d), of images (b, c, h, w) as
    (b / pack, pack c, h, w). Raises ValueError if b is no multiple of `pack`.
    """
    if len(x) % pack:
        raise ValueError(f"x: wanted a multiple of {pack} rows to be judged together, got {len(x)}")
    rows = x.unflatten(0, (-1, pack))
    return rows.flatten(1, 2) if x.ndim == 4 else rows.transpose(1, 2).flatten(2)


class DigitGenerator(nn.Module):
    """Grey images 28 × 28 from noises (b, latent): 7 × 7, 14 × 14, then blocks of pixels.

    If `bounded`, by a tanh, as is the custom: flat where it is saturated, and digits are nearly all black.
    """

    @checked
    def __init__(self, latent: Count = 64, width: Count = 32, bounded: bool = True):
        super().__init__()
        self.latent, self.bounded = (latent,), bounded
        self.first = nn.Linear(latent, 2 * width * 49)
        self.low = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.high = nn.Conv2d(2 * width, width, 3, padding=1)
        self.more = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, z: Float[Tensor, "b latent"]) -> Float[Tensor, "b 1 28 28"]:
        h = self.first(z).unflatten(1, (-1, 7, 7)).contiguous(memory_format=torch.channels_last)
        h = h + self.low(F.leaky_relu(h, 0.2))
        h = self.high(F.interpolate(F.leaky_relu(h, 0.2), scale_factor=2, mode="nearest"))
        h = h + self.more(F.leaky_relu(h, 0.2))
        x = F.pixel_shuffle(self.last(F.leaky_relu(h, 0.2)), 2)
        return torch.tanh(x) if self.bounded else x


class DigitCritic(nn.Module):
    """Logits (b / pack,) of grey images 28 × 28, `pack` of them judged together.

    With `num_classes` it is told what an image should be, and adds <e_class, h> / sqrt(d) to what the last layer makes
    of its d features h (Miyato & Koyama 2018, Eq. 3).
    """

    @checked
    def __init__(self, width: Count = 32, pack: Count = 1, num_classes: Count | None = None):
        super().__init__()
        if num_classes and pack > 1:
            raise ValueError(f"pack: wanted 1 where the critic is told classes, got {pack}")
        self.pack = pack
        self.first = nn.Conv2d(4 * pack, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.more = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.third = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.last = nn.Linear(4 * width * 16, 1)
        self.classes = nn.Embedding(num_classes, 4 * width * 16) if num_classes else None

    def forward(self, x: Float[Tensor, "b 1 28 28"], label: Int64[Tensor, "b"] | None = None) -> Float[Tensor, "n"]:
        h = self.second(F.leaky_relu(self.first(F.pixel_unshuffle(packed(x, self.pack), 2)), 0.2))
        h = h + self.more(F.leaky_relu(h, 0.2))
        h = F.leaky_relu(self.third(F.leaky_relu(h, 0.2)), 0.2).flatten(1)
        answer = self.last(h)[:, 0]
        if self.classes is None or label is None:
            return answer
        return answer + (self.classes(label) * h).sum(1) / h.shape[1] ** 0.5


class Rivals(nn.Module):
    """A generator, which makes rows of noises, and the critic that tells them from real ones.

    `rivals(z)` are the generator's, so that it can be drawn from as any network: one of lesson 18, with a `latent`
    shape, or a denoiser, which is told times and classes too.
    """

    def __init__(self, generator: nn.Module, critic: nn.Module):
        super().__init__()
        self.generator, self.critic = generator, critic

    def forward(self, z: Tensor, *times: Any, **cond: Any) -> Tensor:
        return self.generator(z, *times, **cond)


@checked
def point_rivals(
    d: Count = 2, latent: Count = 2, width: Count = 64, depth: Count = 3, copies: Count = 1, pack: Count = 1
) -> Rivals:
    """`copies` generators of points, each with its critic."""
    return Rivals(PointGenerator(d, latent, width, depth, copies), PointCritic(d, width, depth, copies, pack))


@checked
def digit_rivals(
    latent: Count = 64, width: Count = 32, critic_width: Count = 32, pack: Count = 1, bounded: bool = True
) -> Rivals:
    """A generator of digits and its critic."""
    return Rivals(DigitGenerator(latent, width, bounded), DigitCritic(critic_width, pack))
