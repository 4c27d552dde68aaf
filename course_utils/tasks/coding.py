"""Two tasks of latent diffusion (lesson 16): an autoencoder that counts what it tells, and denoising of its codes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_utils._validate import require_in
from course_utils.autoencoders import Autoencoder, rate_and_distortion, sample_codes, standardise
from course_utils.data import denormalize, load_images, normalize
from course_utils.runs import Training
from course_utils.tasks.denoising import Denoising, named
from course_utils.variational import gaussian_kl


@dataclass(frozen=True)
class Reconstruction:
    r"""What an autoencoder's code leaves out of a picture, and what it tells, a pixel each, for `training.train`.

        D / d + 2 tau R / d,    d pixels: 2 tau / d times the bound -log p(x) of a decoder of variance tau

    Args:
        tau: the squared error a pixel at which more of it is not worth its nats.
    """

    tau: float = 0.005

    def __post_init__(self) -> None:
        require_in("tau", self.tau, "(0, inf)")

    def __call__(
        self, run: Training, x: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, None]:
        model: Autoencoder = run.model  # type: ignore[assignment]
        eps = torch.randn(len(x), *model.code_shape(x), generator=generator, dtype=torch.float32).to(x.device)
        x = x[run.rows]
        found, mean, variance = run.forward(x, eps[run.rows])
        rate = gaussian_kl(mean, variance, torch.zeros_like(mean), 1.0)
        error = (found - x).float().square().flatten(1)
        return error.mean(1) + 2 * self.tau * rate / error.shape[1], None

    def finish(self, model: Autoencoder, dataset: str) -> None:
        """Mean and deviation of the codes, from the whole training split: see `autoencoders.standardise`."""
        standardise(model, load_images(dataset)[0])

    def measure(self, model: Autoencoder, dataset: str, *, n: int = 10_000, seed: int = 0) -> object:
        """Rate, distortion and FID of n decoded codes of test images; and the FID of the images themselves."""
        from course_utils import metrics  # above tasks
        from course_utils.classifier import look_at

        device, generator = next(model.parameters()).device, torch.Generator().manual_seed(seed)
        real = metrics.reference(dataset, str(device))
        images = load_images(dataset, "test")[0][real.draws(n)[0]]
        told = rate_and_distortion(model, images, generator)
        with torch.no_grad():
            back = [
                denormalize(model.decode(model.encode(normalize(x.to(device)), generator))) for x in images.split(500)
            ]
        fid = metrics.fid_interval(look_at(real.classifier, torch.cat(back))[0], real.train, generator=generator)
        error = (told.distortion / images[0].numel()) ** 0.5
        return (
            f"rate {told.rate:.0f} nats, rms error {error:.3f}; of n = {n:,} decoded test images FID {fid}, of the "
            f"images themselves {metrics.floor_of(dataset, n, str(device)):.3g}"
        )


@dataclass(frozen=True)
class CodeDenoising(Denoising):
    """`Denoising` of standardised codes; measured on the pictures that they are decoded to.

    Args:
        autoencoder: the shipped network that makes codes and decodes them.
    """

    autoencoder: str = "mnist-autoencoder"

    def through(self, model: Any, sampler: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Codes by the sampler, then pictures."""
        from course_utils.pretrained import load_network  # which knows the recipes of tasks

        coder = load_network(self.autoencoder, next(model.parameters()).device)
        shape = (model.network.channels, 7, 7)
        return named(functools.partial(sample_codes, coder.decode, shape, by=sampler), sampler, "decoded")
