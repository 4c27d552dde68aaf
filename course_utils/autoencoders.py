r"""Pictures as few numbers, and back: an autoencoder whose code is noisy, so that what it tells can be counted.

    rate R = E KL(q(z | x) || N(0, I)),    distortion D = E |x - x_hat(z)|²

(Kingma & Welling 2014; Rombach et al. 2022, section 3.1.) Lesson 16 reads both, and lets a diffusion run on z.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import SOME, AllIn, Count, In, Sizes, checked
from course_utils._contract.times import Grid
from course_utils.data import normalize
from course_utils.denoisers._inputs import require_input
from course_utils.denoisers.layers import zeroed
from course_utils.denoisers.unet import group_norm
from course_utils.forward import noise_like
from course_utils.protocols import Denoise, Schedule
from course_utils.runtime import moved
from course_utils.samplers import sample_ddim
from course_utils.samplers.walk import Callback, Images, Noise, draws, sampler
from course_utils.variational import gaussian_kl

Pictures = Float[Tensor, "b c height width"]
Codes = Float[Tensor, "b latent high wide"]


class _Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), which starts as x."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(channels), zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Pictures) -> Pictures:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Autoencoder(nn.Module):
    """Encoder and decoder: a picture becomes mean and variance of a code, (b, latent, height / 4, width / 4).

    The code itself may have any mean and size. `encode` and `decode` speak of it *standardised*, by one mean and one
    deviation that `standardise` takes from a whole training set; they are kept with the weights.

    Args:
        channels: of the pictures.
        latent: channels of the code.
        widths: channels at half of the picture's side, and at a quarter, where the code lies.

    Sides must be multiples of 4.
    """

    mean: Tensor
    std: Tensor

    @checked
    def __init__(self, channels: Count = 1, latent: Count = 4, widths: Annotated[tuple[int, ...], Sizes(2)] = (32, 64)):
        super().__init__()
        self.channels, self.latent, (fine, coarse) = channels, latent, widths
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * channels, fine, 3, padding=1),
            _Block(fine),
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1),
            _Block(coarse),
            *(group_norm(coarse), nn.SiLU(), nn.Conv2d(coarse, 2 * latent, 3, padding=1)),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, coarse, 3, padding=1),
            _Block(coarse),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(coarse, fine, 3, padding=1),
            _Block(fine),
            *(group_norm(fine), nn.SiLU(), nn.Conv2d(fine, 4 * channels, 3, padding=1)),
            nn.PixelShuffle(2),
        )
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def code_shape(self, x: Pictures) -> tuple[int, int, int]:
        """Of a picture's code: (latent, height / 4, width / 4)."""
        return self.latent, x.shape[-2] // 4, x.shape[-1] // 4

    def posterior(self, x: Pictures) -> tuple[Codes, Codes]:
        """Mean and variance of q(z | x), before they are standardised."""
        require_input(self, x)
        mean, log_variance = self.encoder(x).float().chunk(2, 1)
        return mean, log_variance.clamp(-14, 4).exp()

    def forward(self, x: Pictures, eps: Codes) -> tuple[Pictures, Codes, Codes]:
        """The picture as its drawn code tells it, z = mean + deviation · eps; mean and variance of q(z | x)."""
        mean, variance = self.posterior(x)
        return self.decoder(mean + variance.sqrt() * eps), mean, variance

    @torch.no_grad()
    def encode(self, x: Pictures, generator: torch.Generator | None = None) -> Codes:
        """A standardised code: drawn from q(z | x) if there is a generator, its mean otherwise."""
        z, variance = self.posterior(x)
        if generator is not None:
            z = z + variance.sqrt() * noise_like(z, generator)
        return (z - self.mean) / self.std

    def decode(self, z: Codes) -> Pictures:
        """The picture of a standardised code."""
        return self.decoder(z * self.std + self.mean)


@checked
@torch.no_grad()
def standardise(
    autoencoder: Autoencoder, images: Annotated[UInt8[Tensor, "n c height width"], SOME], *, batch_size: Count = 500
) -> Autoencoder:
    """Set the code's mean and deviation from all the images, over channels and positions; returns the autoencoder.

    Of codes that are drawn, not of their means: E z = E mean,  Var z = Var mean + E variance. Sums over all images, in
    float64: the first batch, or an average of batches' deviations, would be another number.
    """
    device = autoencoder.mean.device
    n, total, squares = 0, 0.0, 0.0
    for batch in images.split(batch_size):
        mean, variance = autoencoder.posterior(normalize(moved(batch, device)))
        n, total = n + mean.numel(), total + mean.double().sum().item()
        squares += (mean.double().square() + variance.double()).sum().item()
    autoencoder.mean.fill_(total / n)
    autoencoder.std.fill_(math.sqrt(squares / n - (total / n) ** 2))
    return autoencoder


class Told(NamedTuple):
    """What codes tell of pictures, and what they leave out."""

    rate: float  # nats a picture
    distortion: float  # squared error, summed over a picture


@checked
@torch.no_grad()
def rate_and_distortion(
    autoencoder: Autoencoder, images: Annotated[UInt8[Tensor, "n c height width"], SOME], generator: torch.Generator
) -> Told:
    """R = mean KL(q(z | x) || N(0, I)) and D = mean |x - x_hat(z)|² with one draw of z for each image."""
    device = autoencoder.mean.device
    rate = distortion = 0.0
    for batch in images.split(500):
        x = normalize(moved(batch, device))
        mean, variance = autoencoder.posterior(x)
        found = autoencoder.decoder(mean + variance.sqrt() * noise_like(mean, generator))
        rate += gaussian_kl(mean, variance, torch.zeros_like(mean), 1.0).sum().item()
        distortion += (x - found).square().sum().item()
    return Told(rate / len(images), distortion / len(images))


@checked
def gaussian_rate(
    variances: Annotated[Float[Tensor, "d"], SOME, AllIn("[0, inf)")], level: Annotated[float, In("(0, inf)")]
) -> Told:
    r"""The least rate of a Gaussian with these principal variances, and its distortion, at a water level.

        R = sum_i max(0, 1/2 log(l_i / level)),     D = sum_i min(l_i, level)

    (Reverse water-filling: Cover & Thomas 2006, Theorem 10.3.3.) A linear autoencoder that minimises D / (2 level) + R
    is there: a direction with l > level gets z = a x + noise, and spends its error down to the level; others get none.
    """
    l = variances.double()
    return Told(((l / level).log() / 2).clamp(min=0).sum().item(), l.clamp(max=level).sum().item())


@sampler
def sample_codes(
    decode: Callable[[Tensor], Tensor],
    shape: Annotated[tuple[int, ...], Sizes()],
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    by: Callable[..., Tensor] = sample_ddim,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """Codes by a denoiser of codes, and what the decoder makes of them; of x_T only the number of pictures is used.

    With `functools.partial(sample_codes, autoencoder.decode, (4, 7, 7))` it has the form of every other sampler.

    Args:
        decode: from codes to pictures.
        shape: of a code.
        denoise: of codes.
        by: the sampler.
        generator: of the noise, and the sampler's.
    """
    sigma = schedule.coeffs(timesteps[0])[1].item()
    z_T = sigma * noise_like(x_T.new_empty(len(x_T), *shape), generator)
    more: dict[str, Any] = cond | ({"generator": generator} if draws(by) else {})
    return decode(by(denoise, z_T, schedule, timesteps, callback=callback, **more))
