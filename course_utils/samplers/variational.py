r"""Better reverse steps: a Gaussian with a variance for every pixel, and a step with a latent, which is no Gaussian.

Both stand on a trained denoiser and leave it as it is. Both describe x_0 given x_t by a guess and the squared error e
to expect of it, and let the schedule do the rest: whatever s is, the step from t to s is then

    N(mean of q(x_s | x_t, x0_hat), sigma~² + k² e),    sigma~² = sigma²_{t|s} sigma_s² / sigma_t²,
                                                        k = alpha_s sigma²_{t|s} / sigma_t²

so one network serves every grid. Lesson 12 derives this. Nichol & Dhariwal 2021 (learned variances), Bao et al. 2022
(Analytic-DPM), Sohn et al. 2015 (conditional VAE).
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._validate import (
    require_count,
    require_counts,
    require_finite,
    require_float,
    require_in,
    require_same,
    require_sizes,
    require_type,
)
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding
from course_utils.denoisers.layers import pad_to_multiple, require_input, require_like_weights, zeroed
from course_utils.forward import noise_like, q_posterior
from course_utils.parameterizations import eps_from_x0
from course_utils.samplers.grids import Step, ask, check_start
from course_utils.schedules import Schedule, Time, as_double, broadcast, coeffs_for, require_schedule
from course_utils.variational import Variance, beta_variance, decoder_nll, gaussian_kl, step_variance

# ---------------------------------------------------------------------------------------------------------------------
# Fixed forms
# ---------------------------------------------------------------------------------------------------------------------


def log_interpolated(v: Float[Tensor, "b *shape"], t: Time, s: Time, schedule: Schedule) -> Float[Tensor, "b *shape"]:
    """exp(v log sigma²_{t|s} + (1 - v) log sigma~²)           (Nichol & Dhariwal 2021, Eq. 15), for any jump.

    Raises ValueError at s = 0, where sigma~² = 0 has no logarithm.
    """
    require_float("v", v)
    beta = beta_variance(v, v, t, s, schedule)
    known = step_variance(torch.zeros_like(v), t, s, schedule)
    if (known <= 0).any():
        raise ValueError("s: wanted s > 0; at s = 0 the posterior's variance is zero and has no logarithm")
    return torch.exp(v * beta.log() + (1 - v) * known.log())


def error_bound(t: Time, schedule: Schedule, variances: Tensor | float = math.inf) -> Float[Tensor, "*b"]:
    """The most that the best denoiser errs, a pixel, if the data have these variances: mean of 1/(SNR_t + 1/variance).

    That is what the best *linear* denoiser errs. With the eigenvalues of the data's covariance it is its exact error;
    with each pixel's variance, or ((b - a) / 2)² for pixels in [a, b], more; with nothing known of the data
    1/SNR_t = sigma_t² / alpha_t² is left (Bao et al. 2022, Thm. 2).
    """
    require_schedule(schedule)
    variances = as_double(variances, name="variances").flatten()
    require_count("number of variances", len(variances))
    if not (variances >= 0).all():
        raise ValueError(f"variances: wanted numbers >= 0, got {variances.min().item():.6g}")
    snr = schedule.log_snr(t).exp()[..., None]
    return (1 / (snr + 1 / variances.to(snr.device))).mean(-1)


def variance_bounds(
    t: Time, s: Time, schedule: Schedule, variances: Tensor | float = math.inf
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """The least and the most that the optimal variance of a step can be, for data of these variances (`error_bound`).

    From sigma~², if x_t told x_0 exactly, to sigma~² + k² error_bound (Bao et al. 2022, Thm. 2); the latter is
    sigma²_{t|s} / alpha²_{t|s} if nothing is known of the data.
    """
    most = error_bound(t, schedule, variances)
    return step_variance(torch.zeros_like(most), t, s, schedule), step_variance(most, t, s, schedule)


# ---------------------------------------------------------------------------------------------------------------------
# A variance for every pixel
# ---------------------------------------------------------------------------------------------------------------------


class VarianceHead(nn.Module):
    r"""What squared error to expect of each pixel of x0_hat: e = floor + sigma_t² sigmoid(h(x_t, x0_hat, log-SNR_t)).

    On a variance-preserving schedule `step_variance(e)` thus runs, but for the floor, from the posterior's variance
    (share 0) to sigma²_{t|s} (share 1), the two ends that Nichol & Dhariwal 2021, Eq. 15, interpolate between. Theirs
    is a straight line between logarithms, whose best v depends on s; this one is a straight line between variances, and
    the best share is the same for every s.

    Args:
        channels: of the images; any height and width.
        width: channels inside.
        floor: the smallest error to expect. A millionth is a quarter of half a grey level, squared.
    """

    def __init__(self, channels: int = 1, width: int = 48, floor: float = 1e-6):
        super().__init__()
        require_counts(channels=channels, width=width)
        require_in("floor", floor, "[0, inf)")
        self.channels, self.floor, dim = channels, floor, 64
        self.embed = NoiseEmbedding(dim)
        self.first = nn.Conv2d(3 * 4 * channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film1, self.film2 = FiLM(dim, width), FiLM(dim, width)
        self.last = zeroed(nn.Conv2d(width, 4 * channels, 3, padding=1))

    def forward(
        self,
        x_t: Float[Tensor, "b c height width"],
        x0_hat: Float[Tensor, "b c height width"],
        t: Time,
        schedule: Schedule,
    ) -> Float[Tensor, "b c height width"]:
        """The expected squared error of each pixel of x0_hat, in the dtype of x_t."""
        require_float("x_t", x_t)
        require_input(self, x_t.to(self.first.weight.dtype))  # a bound asks in float64
        require_same("x0_hat", x0_hat, "x_t", x_t)
        alpha, sigma = coeffs_for(x_t, t, schedule)
        eps_hat = eps_from_x0(x_t, x0_hat, t, schedule)
        seen = torch.cat([x_t / (alpha**2 + sigma**2).sqrt(), x0_hat, eps_hat], 1).to(self.first.weight.dtype)
        vector = self.embed(schedule.log_snr(t).to(x_t.device, torch.float32).expand(len(x_t)))
        h = F.pixel_unshuffle(pad_to_multiple(seen, 2), 2)
        h = F.silu(self.film1(self.first(h), vector))
        h = F.silu(self.film2(self.second(h), vector))
        h = F.pixel_shuffle(self.last(h), 2)[..., : x_t.shape[-2], : x_t.shape[-1]]
        return self.floor + sigma**2 * torch.sigmoid(h.to(x_t.dtype))


def learned_variance(head: VarianceHead) -> Variance:
    """The head as a `variance` for `sample_ddpm` and `variational.bound`; it costs one call of the head a step."""
    require_type("head", head, VarianceHead, "a VarianceHead")

    def variance(x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule) -> Tensor:
        return step_variance(head(x_t, x0_hat, t, schedule), t, s, schedule)

    return variance


def relative_step_kl(
    squared: Float[Tensor, "b *shape"], relative: Float[Tensor, "..."], gain: Tensor | float
) -> Float[Tensor, "b *shape"]:
    """KL(q(x_s | x_t, x_0) || N(mean with x0_hat, relative · sigma~²)) of each pixel, in nats:

    1/2 [log relative + (1 + gain (x_0 - x0_hat)²) / relative - 1],    gain = k² / sigma~² = SNR_s - SNR_t

    relative = 1 + gain e is the step of `step_variance(e)`, relative = sigma_t² / sigma_s² that of sigma²_{t|s}.
    """
    return (torch.log(relative) + (1 + gain * squared) / relative - 1) / 2


def variance_loss(
    head: VarianceHead,
    x_0: Float[Tensor, "b c height width"],
    x_t: Float[Tensor, "b c height width"],
    x0_hat: Float[Tensor, "b c height width"],
    t: Time,
    s: Time,
    schedule: Schedule,
) -> Float[Tensor, "b"]:
    """What the step costs in the bound, nats a pixel, as a function of the head alone: L_vlb with the mean held fixed.

    Nothing flows back into x0_hat (Nichol & Dhariwal 2021, section 3.1). Onto clean data SNR_s is infinite; there
    1 / floor stands for it, for x_0 is known to no more than its grey level.

    Raises ValueError for s that is not before t, and for a floor that is 0, or above 1 / SNR_t, in a step onto data.
    """
    require_type("head", head, VarianceHead, "a VarianceHead")
    require_same("x0_hat", x0_hat, "x_t", x_t)
    require_same("x_0", x_0, "x_t", x_t)
    require_schedule(schedule)
    x0_hat = x0_hat.detach()
    snr_s = schedule.log_snr(schedule.check_t(s, "s")).exp()
    limit = torch.full_like(snr_s, 1 / head.floor if head.floor else math.inf)
    gain = torch.where(snr_s.isinf(), limit, snr_s) - schedule.log_snr(t).exp()
    if not ((gain > 0) & gain.isfinite()).all():
        raise ValueError(
            f"s: wanted a time before t, and for a step onto data a head whose floor is between 0 and 1 / SNR_t; it "
            f"is {head.floor:.3g}, and SNR_s - SNR_t is {gain.min().item():.3g} … {gain.max().item():.3g}"
        )
    gain = broadcast(gain, x_t)
    relative = 1 + gain * head(x_t, x0_hat, t, schedule)
    return relative_step_kl((x_0 - x0_hat).square(), relative, gain).flatten(1).mean(1)


# ---------------------------------------------------------------------------------------------------------------------
# A step with a latent
# ---------------------------------------------------------------------------------------------------------------------


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

    def __init__(
        self,
        shape: Sequence[int],
        latent: int = 1,
        width: int = 64,
        floor: float = 1e-4,
        error: float | None = None,
    ):
        super().__init__()
        require_sizes("shape", shape)
        require_counts(latent=latent, width=width)
        require_in("floor", floor, "[0, inf)")
        if error is not None:
            require_in("error", error, "(0, inf)")
        self.shape, self.latent, self.floor, self.error = tuple(shape), latent, floor, error
        d = math.prod(self.shape)
        self.context = _mlp(d + 2, width, width)
        self.prior = zeroed(nn.Linear(width, 2 * latent))  # N(0, I)
        self.encoder = _mlp(d + width, width, width, 2 * latent)
        self.decoder = _mlp(latent + width, width, width, 2 * d)

    def look(self, x0_hat: Float[Tensor, "b *shape"], t: Time, s: Time, schedule: Schedule) -> Float[Tensor, "b width"]:
        """What the step knows before it begins: the guess, and where it goes from and to."""
        require_schedule(schedule)
        require_finite("x0_hat", x0_hat)
        require_like_weights("x0_hat", x0_hat, self)
        if x0_hat.shape[1:] != self.shape:
            raise ValueError(f"x0_hat: wanted (b, {', '.join(map(str, self.shape))}), got {tuple(x0_hat.shape)}")
        s, t = schedule.check_t(s, "s"), schedule.check_t(t)
        levels = [schedule.log_snr(time).to(x0_hat).clamp(-14, 14).expand(len(x0_hat)) / 7 for time in (t, s)]
        return F.silu(self.context(torch.cat([x0_hat.flatten(1), torch.stack(levels, 1)], 1)))

    def p_z(self, h: Float[Tensor, "b width"]) -> tuple[Tensor, Tensor]:
        """Mean and variance of p(z | x_t), each (b, latent)."""
        return _mean_and_variance(self.prior(h))

    def q_z(
        self,
        h: Float[Tensor, "b width"],
        x_s: Float[Tensor, "b *shape"],
        x_t: Float[Tensor, "b *shape"],
        x0_hat: Float[Tensor, "b *shape"],
        t: Time,
        s: Time,
        schedule: Schedule,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(z | x_s, x_t): the encoder sees how far x_s is from where x0_hat would have it."""
        mean, _ = q_posterior(x_t, x0_hat, t, schedule, s)
        _, sigma_t = coeffs_for(x_t, t, schedule)
        scale = step_variance((sigma_t**2).expand_as(x_t), t, s, schedule).sqrt()
        news = ((x_s - mean) / scale).flatten(1)
        return _mean_and_variance(self.encoder(torch.cat([news, h], 1)))

    def p_x(
        self,
        z: Float[Tensor, "b latent"],
        h: Float[Tensor, "b width"],
        x_t: Float[Tensor, "b *shape"],
        x0_hat: Float[Tensor, "b *shape"],
        t: Time,
        s: Time,
        schedule: Schedule,
    ) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *shape"]]:
        """Mean and variance of p(x_s | x_t, z)."""
        shift, share = self.decoder(torch.cat([z, h], 1)).to(x_t.dtype).chunk(2, 1)
        _, sigma = coeffs_for(x_t, t, schedule)
        guess = x0_hat + sigma * shift.reshape(x_t.shape)
        error = self.floor + sigma**2 * torch.sigmoid(share.reshape(x_t.shape))
        error = error if self.error is None else torch.full_like(guess, self.error)
        mean, _ = q_posterior(x_t, guess, t, schedule, s)
        return mean, step_variance(error, t, s, schedule)

    def reconstruct(
        self,
        x_s: Float[Tensor, "b *shape"],
        x_t: Float[Tensor, "b *shape"],
        x0_hat: Float[Tensor, "b *shape"],
        t: Time,
        s: Time,
        schedule: Schedule,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *shape"], Float[Tensor, "b"]]:
        """With one draw of z ~ q(z | x_s, x_t): mean and variance of p(x_s | x_t, z), and KL(q(z) || p(z)) in nats."""
        require_same("x_t", x_t, "x0_hat", x0_hat)
        require_same("x_s", x_s, "x_t", x_t)
        require_finite("x_s", x_s)
        require_finite("x_t", x_t)
        h = self.look(x0_hat, t, s, schedule)
        mean_q, var_q = self.q_z(h, x_s, x_t, x0_hat, t, s, schedule)
        z = mean_q + var_q.sqrt() * noise_like(mean_q, generator)
        return *self.p_x(z, h, x_t, x0_hat, t, s, schedule), gaussian_kl(mean_q, var_q, *self.p_z(h))

    def draw(
        self,
        x_t: Float[Tensor, "b *shape"],
        x0_hat: Float[Tensor, "b *shape"],
        t: Time,
        s: Time,
        schedule: Schedule,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b *shape"]:
        """x_s ~ p(x_s | x_t); onto clean data (s = 0) without the last noise, as every sampler here."""
        require_same("x_t", x_t, "x0_hat", x0_hat)
        h = self.look(x0_hat, t, s, schedule)
        mean, variance = self.p_z(h)
        z = mean + variance.sqrt() * noise_like(mean, generator)
        mean, variance = self.p_x(z, h, x_t, x0_hat, t, s, schedule)
        onto_data = bool((schedule.coeffs(s)[1] == 0).all())
        return mean if onto_data else mean + variance.sqrt() * noise_like(x_t, generator)


def _mean_and_variance(values: Tensor) -> tuple[Tensor, Tensor]:
    values = values.to(torch.promote_types(values.dtype, torch.float32))  # autocast may have halved them
    mean, log_variance = values.chunk(2, dim=1)
    return mean, log_variance.clamp(-12, 6).exp()


def jump_loss(
    jump: VariationalJump,
    x_s: Float[Tensor, "b *shape"],
    x_t: Float[Tensor, "b *shape"],
    x0_hat: Float[Tensor, "b *shape"],
    t: Time,
    s: Time,
    schedule: Schedule,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """The bound on -log p(x_s | x_t) with one draw of z, as two parts in nats: -log p(x_s | x_t, z), and the KL of z.

    x_s and x_t belong to one walk: x_s ~ q(x_s | x_t, x_0).
    """
    require_type("jump", jump, VariationalJump, "a VariationalJump")
    mean, variance, told = jump.reconstruct(x_s, x_t, x0_hat, t, s, schedule, generator)
    nll = ((x_s - mean) ** 2 / variance + (2 * math.pi * variance).log()) / 2
    return nll.flatten(1).sum(1), told


@torch.no_grad()
def variational_jump_cost(
    jump: VariationalJump,
    x_0: Float[Tensor, "b *shape"],
    x_t: Float[Tensor, "b *shape"],
    x0_hat: Float[Tensor, "b *shape"],
    t: Time,
    s: Time,
    schedule: Schedule,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b"]:
    """What a jump adds to the bound on -log p(x_0), in nats, with one draw of x_s and one of z: a twin of `jump_cost`.

    -log p(x_s | x_t, z) + KL of z - H[q(x_s | x_t, x_0)], on average at least the KL of q(x_s | x_t, x_0) and
    p(x_s | x_t); for the jump onto data the decoder's likelihood of 8-bit images and the KL of z.
    """
    require_type("jump", jump, VariationalJump, "a VariationalJump")
    require_finite("x_0", x_0)
    require_finite("x_t", x_t)
    mean, known = q_posterior(x_t, x_0, t, schedule, s)
    x_s = mean + known.sqrt() * noise_like(x_t, generator)
    if bool((schedule.coeffs(s)[1] > 0).all()):
        nll, told = jump_loss(jump, x_s, x_t, x0_hat, t, s, schedule, generator)
        entropy = torch.log(2 * math.pi * math.e * known).expand_as(x_t).flatten(1).sum(1) / 2
        return nll + told - entropy
    mean, variance, told = jump.reconstruct(x_s, x_t, x0_hat, t, s, schedule, generator)
    return decoder_nll(x_0, mean, variance) + told


@torch.no_grad()
def sample_jumps(
    jump: VariationalJump,
    denoise: Callable[..., Tensor],
    x_T: Float[Tensor, "b *shape"],
    schedule: Schedule,
    timesteps: Sequence[int | float],
    *,
    generator: torch.Generator | None = None,
    callback: Callable[[Step], None] | None = None,
    **cond: object,
) -> Float[Tensor, "b *shape"]:
    """Walk the grid by variational jumps: at each time one call of the denoiser, a draw of z, and a draw of x_s.

    With `functools.partial(sample_jumps, jump)` it has the form of every other sampler.
    """
    require_type("jump", jump, VariationalJump, "a VariationalJump")
    check_start(denoise, x_T, schedule, timesteps)
    x = x_T
    for i, (t, s) in enumerate(itertools.pairwise(timesteps)):
        x0_hat = ask(denoise, x, t, i, cond)
        before, x = x, jump.draw(x, x0_hat, t, s, schedule, generator)
        if callback is not None:
            callback(Step(i, t, s, before, x0_hat, x))
    return x
