"""From a network to a denoiser: scaling in, scaling out, and x_0 as the answer whatever the network predicts."""

from typing import Annotated, Any

from jaxtyping import Float
from torch import Tensor, nn

from course_utils._contract import In, OneOf, checked
from course_utils._validate import require_float
from course_utils.parameterizations import x0_from_eps, x0_from_u
from course_utils.protocols import Schedule, Time
from course_utils.schedules.jumps import coeffs_of
from course_utils.tensors import broadcast, per_image

PREDICTIONS = ("eps", "x0", "v", "u")


class Denoiser(nn.Module):
    r"""A network as `denoise(x_t, t, **cond) -> x0_hat`, with inputs and targets of unit variance at every t.

    With data of mean mu and standard deviation s, x_t has mean alpha mu and variance alpha² s² + sigma². The network
    sees  (x_t - alpha mu) / sqrt(alpha² s² + sigma²)  and the log-SNR, and its output F means

        "eps":  eps = F                          x0_hat = (x_t - sigma F) / alpha
        "x0":   x_0 = mu + s F                   x0_hat = mu + s F
        "v":    x0_hat = mu + c_skip (x_t - alpha mu) - c_out F
                c_skip = alpha s² / (alpha² s² + sigma²),  c_out = s sigma / sqrt(alpha² s² + sigma²)
        "u":    u = eps - x_0 = sqrt(1 + s²) F - mu

    "v" is the preconditioning of Karras et al. 2022 (Eq. 7, table 1) for any alpha: of all c_skip, this one makes
    c_out, the size of the network's errors, smallest. With s = 1, mu = 0 on a variance-preserving schedule F is v.

    A network that knows a second time is also told, as `log_snr_r`, where a jump is to end: `denoise(x_t, t, r=r)`. Its
    guess is then the x_0 that makes the jump of DDIM from t to r the right one (lesson 14): see `samplers.flow_maps`.

    Args:
        network: `network(x, log_snr, **cond) -> F`; x (b, c, h, w), log_snr (b,).
        schedule: the noise levels it is trained on.
        predict: "eps", "x0", "v" or "u".
        data_mean, data_std: of the pixels, over images and positions.

    Raises:
        ValueError: an unknown prediction, data_std <= 0; eps-prediction at a t with alpha_t = 0, where the noise says
            nothing about the image.
    """

    @checked
    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        predict: Annotated[str, OneOf(PREDICTIONS)] = "v",
        data_mean: Annotated[float, In("(-inf, inf)")] = 0.0,
        data_std: Annotated[float, In("(0, inf)")] = 1.0,
    ):
        super().__init__()
        self.network, self.schedule, self.predict = network, schedule, predict
        self.data_mean, self.data_std = data_mean, data_std

    def scales(self, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """(c_in, c_skip, c_out) at t, ready to multiply x_t."""
        return self._scales(*coeffs_of(t, self.schedule), x_t)

    def _scales(self, alpha: Tensor, sigma: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        variance = alpha**2 * self.data_std**2 + sigma**2
        c_in, c_skip = variance.rsqrt(), alpha * self.data_std**2 / variance
        c_out = self.data_std * sigma * c_in
        return broadcast(c_in, x_t), broadcast(c_skip, x_t), broadcast(c_out, x_t)

    def forward(
        self, x_t: Float[Tensor, "b *shape"], t: Time, *, r: Time | None = None, **cond: Any
    ) -> Float[Tensor, "b *shape"]:
        require_float("x_t", x_t)
        alpha, sigma = coeffs_of(t, self.schedule)
        c_in, c_skip, c_out = self._scales(alpha, sigma, x_t)
        centred = x_t - broadcast(alpha, x_t) * self.data_mean
        log_snr = per_image(self.schedule.log_snr(t), x_t)
        if r is not None:
            cond["log_snr_r"] = per_image(self.schedule.log_snr(r), x_t)
        F = self.network(c_in * centred, log_snr, **cond).to(x_t.dtype)
        if self.predict == "eps":
            return x0_from_eps(x_t, F, t, self.schedule)
        if self.predict == "x0":
            return self.data_mean + self.data_std * F
        if self.predict == "u":
            return x0_from_u(x_t, (1 + self.data_std**2) ** 0.5 * F - self.data_mean, t, self.schedule)
        return self.data_mean + c_skip * centred - c_out * F

    @checked
    def target(
        self, x_0: Float[Tensor, "b *shape"], eps: Float[Tensor, "b *shape"], t: Time
    ) -> Float[Tensor, "b *shape"]:
        """What the network should have said, F, for x_t = alpha x_0 + sigma eps: unit variance at every t.

        For "v" it is  (alpha s eps - sigma (x_0 - mu) / s) / sqrt(alpha² s² + sigma²),  which the formula above comes
        to when x_t is put in; this way nothing is divided by a small c_out.
        """
        if self.predict == "eps":
            return eps
        unit = (x_0 - self.data_mean) / self.data_std
        if self.predict == "x0":
            return unit
        if self.predict == "u":
            return (eps - x_0 + self.data_mean) / (1 + self.data_std**2) ** 0.5
        alpha, sigma = coeffs_of(t, self.schedule)
        c_in, _, _ = self._scales(alpha, sigma, x_0)
        return c_in * (broadcast(alpha, x_0) * self.data_std * eps - broadcast(sigma, x_0) * unit)
