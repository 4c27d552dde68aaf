"""A step with a latent: it chooses before it draws, and so is no Gaussian."""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._contract import OWN_SHAPE, Count, In, Sizes, checked
from course_utils._contract.times import Grid, check_time
from course_utils.denoisers._inputs import require_like_weights
from course_utils.denoisers.layers import zeroed
from course_utils.forward import noise_like, q_posterior
from course_utils.protocols import Denoise, Schedule, Time
from course_utils.samplers.walk import Callback, Images, Noise, Walk, sampler
from course_utils.schedules.jumps import coeffs_for, coeffs_of
from course_utils.tensors import per_image
from course_utils.variational import gaussian_kl, step_variance


def _mlp(*widths: int) -> nn.Sequential:
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


class VariationalJump(nn.Module):
    r"""A step that chooses before it draws: p(x_s | x_t) = integral of p(x_s | x_t, z) p(z | x_t) over z.

    p(z | x_t) is a Gaussian that the network sets; p(x_s | x_t, z) is a step with its own guess of x_0 and its own
    error, both functions of z. Each is Gaussian; their mixture over z is not: a conditional VAE (Sohn et al.
    2015, Eq. 4):

    -log p(x_s | x_t) <= E_{z ~ q(z | x_s, x_t)} [-log p(x_s | x_t, z)] + KL(q(z | x_s, x_t) || p(z | x_t))

    It stands on a denoiser: all it sees of x_t is x0_hat. Phase the KL in while training: a latent that is charged
    before it is of use may never be used (posterior collapse).

    Args:
        shape: of one data point.
        latent: size of z.
        width: of the hidden layers.
        floor: the smallest squared error of a guess; keeps likelihoods of near-constant pixels finite.
        error: the squared error of every guess, instead of a learned one. On pictures it makes the latent tell where
            the strokes are: with a learned error it pays better to tell which pixels are sure.
    """

    @checked
    def __init__(
        self,
        shape: Annotated[Sequence[int], Sizes()],
        latent: Count = 1,
        width: Count = 64,
        floor: Annotated[float, In("[0, inf)")] = 1e-4,
        error: Annotated[float, In("(0, inf)")] | None = None,
    ):
        super().__init__()
        self.shape, self.latent, self.floor, self.error = shape, latent, floor, error
        d = math.prod(self.shape)
        self.context = _mlp(d + 2, width, width)
        self.prior = zeroed(nn.Linear(width, 2 * latent))  # N(0, I)
        self.encoder = _mlp(d + width, width, width, 2 * latent)
        self.decoder = _mlp(latent + width, width, width, 2 * d)

    @checked
    def look(
        self, x0_hat: Annotated[Noise, OWN_SHAPE], t: Time, s: Time, schedule: Schedule
    ) -> Float[Tensor, "b width"]:
        """What the step knows before it begins: the guess, and where it goes from and to."""
        require_like_weights("x0_hat", x0_hat, self)
        s, t = check_time(s, schedule, "s"), check_time(t, schedule)
        levels = [per_image(schedule.log_snr(time), x0_hat, x0_hat.dtype).clamp(-14, 14) / 7 for time in (t, s)]
        return F.silu(self.context(torch.cat([x0_hat.flatten(1), torch.stack(levels, 1)], 1)))

    def p_z(self, h: Float[Tensor, "b width"]) -> tuple[Tensor, Tensor]:
        """Mean and variance of p(z | x_t), each (b, latent)."""
        return _mean_and_variance(self.prior(h))

    def q_z(
        self,
        h: Float[Tensor, "b width"],
        x_s: Images,
        x_t: Images,
        x0_hat: Images,
        t: Time,
        s: Time,
        schedule: Schedule,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(z | x_s, x_t): the encoder sees how far x_s is from where x0_hat would have it."""
        mean, _ = q_posterior(x_t, x0_hat, t, schedule, s)
        _, sigma_t = coeffs_for(x_t, t, schedule)
        scale = step_variance((sigma_t**2).to(x_t.device).expand_as(x_t), t, s, schedule).sqrt()
        news = ((x_s - mean) / scale).flatten(1)
        return _mean_and_variance(self.encoder(torch.cat([news, h], 1)))

    def p_x(
        self,
        z: Float[Tensor, "b latent"],
        h: Float[Tensor, "b width"],
        x_t: Images,
        x0_hat: Images,
        t: Time,
        s: Time,
        schedule: Schedule,
    ) -> tuple[Images, Images]:
        """Mean and variance of p(x_s | x_t, z)."""
        shift, share = self.decoder(torch.cat([z, h], 1)).to(x_t.dtype).chunk(2, 1)
        _, sigma = coeffs_for(x_t, t, schedule)
        guess = x0_hat + sigma * shift.reshape(x_t.shape)
        error = self.floor + sigma**2 * torch.sigmoid(share.reshape(x_t.shape))
        error = error if self.error is None else torch.full_like(guess, self.error)
        mean, _ = q_posterior(x_t, guess, t, schedule, s)
        return mean, step_variance(error, t, s, schedule)

    @checked
    def reconstruct(
        self,
        x_s: Noise,
        x_t: Noise,
        x0_hat: Images,
        t: Time,
        s: Time,
        schedule: Schedule,
        generator: torch.Generator | None = None,
    ) -> tuple[Images, Images, Float[Tensor, "b"]]:
        """With one draw of z ~ q(z | x_s, x_t): mean and variance of p(x_s | x_t, z), and KL(q(z) || p(z)) in nats."""
        h = self.look(x0_hat, t, s, schedule)
        mean_q, var_q = self.q_z(h, x_s, x_t, x0_hat, t, s, schedule)
        z = mean_q + var_q.sqrt() * noise_like(mean_q, generator)
        return *self.p_x(z, h, x_t, x0_hat, t, s, schedule), gaussian_kl(mean_q, var_q, *self.p_z(h))

    @checked
    def draw(
        self,
        x_t: Images,
        x0_hat: Images,
        t: Time,
        s: Time,
        schedule: Schedule,
        generator: torch.Generator | None = None,
    ) -> Images:
        """x_s ~ p(x_s | x_t); onto clean data (s = 0) without the last noise, as every sampler here."""
        h = self.look(x0_hat, t, s, schedule)
        mean, variance = self.p_z(h)
        z = mean + variance.sqrt() * noise_like(mean, generator)
        mean, variance = self.p_x(z, h, x_t, x0_hat, t, s, schedule)
        onto_data = bool((coeffs_of(s, schedule)[1] == 0).all())
        return mean if onto_data else mean + variance.sqrt() * noise_like(x_t, generator)


def _mean_and_variance(values: Tensor) -> tuple[Tensor, Tensor]:
    values = values.to(torch.promote_types(values.dtype, torch.float32))  # autocast may have halved them
    mean, log_variance = values.chunk(2, dim=1)
    return mean, log_variance.clamp(-12, 6).exp()


@checked
def jump_loss(
    jump: VariationalJump,
    x_s: Images,
    x_t: Images,
    x0_hat: Images,
    t: Time,
    s: Time,
    schedule: Schedule,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """The bound on -log p(x_s | x_t) with one draw of z, as two parts in nats: -log p(x_s | x_t, z), and the KL of z.

    x_s and x_t belong to one walk: x_s ~ q(x_s | x_t, x_0).
    """
    mean, variance, told = jump.reconstruct(x_s, x_t, x0_hat, t, s, schedule, generator)
    nll = ((x_s - mean) ** 2 / variance + (2 * math.pi * variance).log()) / 2
    return nll.flatten(1).sum(1), told


@sampler
def sample_jumps(
    jump: VariationalJump,
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    """Walk the grid by variational jumps: at each time one call of the denoiser, a draw of z, and a draw of x_s.

    With `functools.partial(sample_jumps, jump)` it has the form of every other sampler.
    """
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    for x, x0_hat, step in walk:
        walk.x = jump.draw(x, x0_hat, step.t, step.s, schedule, generator)
    return walk.x
