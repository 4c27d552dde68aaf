r"""Data whose diffusion is known exactly: Gaussians, mixtures of Gaussians, and a finite set of images.

For these the best possible denoiser E[x_0 | x_t], the score and the likelihood of every noise level are closed forms,
so each network and sampler of the course can be compared with the truth.

With x_0 ~ sum_k w_k N(mu_k, S_k) and x_t = alpha x_0 + sigma eps, x_t ~ sum_k w_k N(alpha mu_k, C_k),
C_k = alpha² S_k + sigma² I, and with r_k(x_t) the probability that x_t came from part k:

    score         = sum_k r_k C_k^{-1} (alpha mu_k - x_t)
    E[x_0 | x_t]  = sum_k r_k [mu_k + alpha S_k C_k^{-1} (x_t - alpha mu_k)]

Lessons 03 and 05 derive these; Karras et al. 2022, appendix B.3, has the last one for a set of images. All of it is
computed in float64 and returned in the dtype of x_t: differences of squared distances, over sigma_t², leave float32 few
right digits, and autocast or TF32 none.
"""

import math
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils._contract import DOUBLE, FINITE, OWN_SHAPE, SOME, AllIn, Count, In, checked
from course_utils.protocols import Denoise, Schedule, Time
from course_utils.schedules.jumps import coeffs_of
from course_utils.tensors import as_double, broadcast, nonzero

Points = Annotated[Float[Tensor, "b *shape"], OWN_SHAPE]
"""One data point or more, of the shape of the object's own."""


def _per_point(value: Tensor, x: Tensor) -> Tensor:
    """A coefficient of a time, or of one time per point, as (1 or b, 1) to meet flattened points (b, d)."""
    return broadcast(value, x).to(x.device).reshape(-1, 1)


def _looks_like_a_matrix(x: Tensor) -> bool:
    """Symmetric, and not the same number throughout."""
    return bool((x == x.mT).all() and (x != x[0, 0]).any())


def _principal(covariances: Tensor, K: int, d: int) -> tuple[Tensor, Tensor | None]:
    """Variances (K, d) along each part's own axes, and these, (K, d, d), unless they are the coordinates'."""
    shape, rows = tuple(covariances.shape), None
    if shape == (K, d, d):
        if not torch.allclose(covariances, covariances.mT, atol=1e-6):
            raise ValueError("covariances: wanted symmetric matrices")
        variances, axes = torch.linalg.eigh(covariances)
        # Rounding may leave a zero eigenvalue a hair below zero.
        tiny = 1e-6 * variances.abs().amax(1, keepdim=True)
        return torch.where(variances.abs() <= tiny, variances.clamp(min=0), variances), axes
    if shape in [(K, d), (1, d), (d,), (K, 1), ()]:
        rows = covariances
    elif shape == (K,):
        rows = covariances[:, None]
    if K == d > 1 and (shape == (K,) or (shape == (d, d) and _looks_like_a_matrix(covariances))):
        clear = f"({K}, 1) or (1, {d}), for variances, or ({K}, {d}, {d}), for matrices"
        raise ValueError(f"covariances: {shape} could be of each part or one for all; give {clear}")
    if rows is None:
        wanted = f"({K}, {d}, {d}), ({K}, {d}), (1, {d}), ({K}, 1) or a number"
        raise ValueError(f"covariances: wanted {wanted}, got {shape}")
    return rows.expand(K, d), None


class GaussianMixture:
    """A mixture of K Gaussians in any dimension, and everything diffusion makes of it.

    Args:
        means: (K, *shape), floating point; the shape of one data point is `shape`.
        covariances: (K, d, d) full; (K, d), (1, d) or (d,) diagonal; (K, 1), (K,) or a number for variance times
            identity. Zero is allowed (points). d is the number of elements of `shape`; where K = d > 1 a vector could
            mean either, so there give it two dimensions.
        weights: (K,) positive, summing to 1; equal unless told.

    Raises:
        ValueError: shapes that do not fit, weights that are no distribution, covariances with negative eigenvalues.
    """

    @checked
    def __init__(
        self,
        means: Annotated[Float[Tensor, "K d *more"], SOME, FINITE],
        covariances: Annotated[Tensor | float, DOUBLE, FINITE],
        weights: Annotated[Float[Tensor, "K"], DOUBLE] | None = None,
    ):
        self.shape, self.dtype = means.shape[1:], means.dtype
        self.means = means = as_double(means.flatten(1))  # (K, d)
        K, d = self.means.shape
        weights = means.new_full((K,), 1 / K) if weights is None else weights.to(means)
        if not (weights > 0).all() or abs(weights.sum().item() - 1) > 1e-5:
            raise ValueError(f"weights: wanted {K} positive numbers that sum to 1, got {weights.tolist()}")
        self.weights = weights / weights.sum()
        # axes: (K, d, d), columns are eigenvectors; None when covariances are diagonal
        self.variances, self.axes = _principal(as_double(covariances, means.device, "covariances"), K, d)
        if (self.variances < 0).any():
            raise ValueError("covariances: wanted variances >= 0, got a negative one")

    def _rotate(self, x: Tensor, back: bool = False) -> Tensor:
        """(b, K, d) into each part's own axes, or back from them."""
        if self.axes is None:
            return x
        axes = self.axes.to(x)
        return torch.einsum("kde,bke->bkd" if back else "kde,bkd->bke", axes, x)

    def _parts(self, x: Tensor, t: Time | None, schedule: Schedule | None):
        """alpha (b, 1); in each part's axes, residual and variance C_k (b, K, d); log w_k N(x_t; …) (b, K)."""
        if (t is None) != (schedule is None):
            raise ValueError("t, schedule: wanted both (noisy data) or neither (clean data), got only one")
        x = as_double(x.flatten(1))
        if t is None or schedule is None:
            alpha, sigma = x.new_ones(1, 1), x.new_zeros(1, 1)
        else:
            alpha, sigma = (_per_point(value, x) for value in coeffs_of(t, schedule))
        residual = self._rotate(x[:, None] - alpha[..., None] * self.means.to(x))  # (b, K, d)
        variance = alpha[..., None] ** 2 * self.variances.to(x) + sigma[..., None] ** 2  # (b or 1, K, d)
        nonzero(variance, "points without width have no density at sigma_t = 0; ask at t > 0")
        log_density = -0.5 * (residual**2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
        return alpha, residual, variance, log_density + self.weights.to(x).log()

    @checked
    def log_prob(self, x_t: Points, t: Time | None = None, schedule: Schedule | None = None) -> Float[Tensor, "b"]:
        """log q(x_t), in nats; of clean data when t is left out."""
        return torch.logsumexp(self._parts(x_t, t, schedule)[3], dim=1).to(x_t.dtype)

    @checked
    def responsibilities(
        self, x_t: Points, t: Time | None = None, schedule: Schedule | None = None
    ) -> Float[Tensor, "b K"]:
        """r_k = q(part k | x_t): what a perfect observer believes about which part x_t came from."""
        return torch.softmax(self._parts(x_t, t, schedule)[3], dim=1).to(x_t.dtype)

    @checked
    def score(self, x_t: Points, t: Time | None = None, schedule: Schedule | None = None) -> Points:
        """grad_x log q(x_t) = sum_k r_k C_k^{-1} (alpha_t mu_k - x_t)."""
        _, residual, variance, log_joint = self._parts(x_t, t, schedule)
        each = self._rotate(-residual / variance, back=True)
        return torch.einsum("bk,bkd->bd", torch.softmax(log_joint, 1), each).reshape(x_t.shape).to(x_t.dtype)

    @checked
    def denoise(self, x_t: Points, t: Time, schedule: Schedule) -> Points:
        """E[x_0 | x_t] = sum_k r_k [mu_k + alpha_t S_k C_k^{-1} (x_t - alpha_t mu_k)]: no denoiser errs less."""
        alpha, residual, variance, log_joint = self._parts(x_t, t, schedule)
        shrunk = alpha[..., None] * self.variances.to(residual) * residual / variance
        each = self.means.to(residual) + self._rotate(shrunk, back=True)
        return torch.einsum("bk,bkd->bd", torch.softmax(log_joint, 1), each).reshape(x_t.shape).to(x_t.dtype)

    @checked
    def denoiser(self, schedule: Schedule) -> Denoise:
        """The exact denoiser as the course's contract wants it: denoise(x_t, t, **cond) -> x0_hat."""
        return lambda x_t, t, **cond: self.denoise(x_t, t, schedule)

    @checked
    def sample(
        self, n: Count, generator: torch.Generator | None = None, *, return_parts: bool = False
    ) -> Tensor | tuple[Tensor, Int[Tensor, "n"]]:
        """n points (n, *shape) of clean data in the dtype of the means, and the part each came from if asked."""
        device = generator.device if generator is not None else self.means.device
        k = torch.multinomial(as_double(self.weights, device), n, replacement=True, generator=generator)
        k = k.to(self.means.device)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype, device=device)
        spread = self.variances[k].sqrt() * noise.to(k.device)
        if self.axes is not None:
            spread = torch.einsum("nde,ne->nd", self.axes[k], spread)
        x = (self.means[k] + spread).reshape(n, *self.shape).to(self.dtype)
        return (x, k) if return_parts else x


class Gaussian(GaussianMixture):
    """One Gaussian: mean (*shape), covariance (d, d), (d,) or a number."""

    @checked
    def __init__(self, mean: Float[Tensor, "..."], covariance: Annotated[Tensor, DOUBLE]):
        super().__init__(mean[None], covariance[None] if covariance.ndim else covariance)


@checked
def grid_of_spots(side: Count = 5, std: Annotated[float, In("(0, inf)")] = 0.025) -> GaussianMixture:
    """side² round Gaussians on a square grid, 1 apart, in the plane; `std` of each. The default is the usual test of
    lost modes, 2 apart with 0.05 (Srivastava et al. 2017), at half the size.
    """
    line = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return GaussianMixture(torch.cartesian_prod(line, line), std**2)


@checked
def ring_of_spots(k: Count = 8, std: Annotated[float, In("(0, inf)")] = 0.01) -> GaussianMixture:
    """k round Gaussians on a circle of radius 1, the first at (1, 0); `std` of each (Srivastava et al. 2017)."""
    angle = torch.arange(k, dtype=torch.float64) * (2 * math.pi / k)
    return GaussianMixture(torch.stack([angle.cos(), angle.sin()], 1), std**2)


class IdealDenoiser:
    r"""The exact denoiser of a finite set of images: what an infinitely large network would learn from them.

    With q(x_0) the images themselves, E[x_0 | x_t] = sum_i p_i x_i,
    p = softmax_i(-|x_t - alpha_t x_i|² / (2 sigma_t²))      (Karras et al. 2022, Eq. 57)

    It is a denoiser, `ideal(x_t, t, **cond)`, and a perfect observer, `ideal.class_posterior(x_t, t)`. Sampling with it
    can only ever give back the images: a network that generalises is a *worse* denoiser than this.

    Args:
        images: (n, *shape) floats in [-1, 1].
        schedule: any schedule.
        labels: (n,) whole numbers, for `class_posterior` and for `label=` when denoising.
    """

    @checked
    def __init__(
        self,
        images: Annotated[Float[Tensor, "n d *more"], SOME, FINITE],
        schedule: Schedule,
        labels: Annotated[Int[Tensor, "n"], AllIn("[0, inf)")] | None = None,
    ):
        self.shape, self.schedule, self.labels = images.shape[1:], schedule, labels
        self.images = as_double(images.flatten(1))
        self.squared_norms = self.images.square().sum(1)

    def _logits(self, x_t: Tensor, t: Time) -> Tensor:
        """-|x_t - alpha_t x_i|² / (2 sigma_t²) up to a constant per row: shape (b, n), float64."""
        x = as_double(x_t.flatten(1))
        alpha, sigma = (_per_point(value, x) for value in coeffs_of(t, self.schedule))
        # |x_t|² is the same for every image and falls out of the softmax.
        return (alpha * (x @ self.images.to(x).T) - alpha**2 / 2 * self.squared_norms.to(x)) / nonzero(
            sigma, "wanted t > 0; a clean image needs no denoiser"
        ) ** 2

    def _labels(self) -> Tensor:
        if self.labels is None:
            raise ValueError("label, labels: this denoiser was made without labels; pass them when making it")
        return self.labels

    @checked
    def __call__(self, x_t: Points, t: Time, *, label: Int[Tensor, "b"] | None = None, **cond: Any) -> Points:
        """E[x_0 | x_t], or E[x_0 | x_t, label]; t > 0."""
        logits = self._logits(x_t, t)
        if label is not None:
            of_class = label[:, None] == self._labels().to(label.device)
            unknown = ~of_class.any(1)
            if unknown.any():
                raise ValueError(f"label: no image has label {label[unknown][0].item()}")
            logits = logits.masked_fill(~of_class, -math.inf)
        return (torch.softmax(logits, 1) @ self.images.to(logits)).reshape(x_t.shape).to(x_t.dtype)

    @checked
    def class_posterior(self, x_t: Points, t: Time) -> Float[Tensor, "b classes"]:
        """q(class | x_t): what a perfect observer, who knows every image, believes. Rows sum to 1; t > 0."""
        p = torch.softmax(self._logits(x_t, t), 1)
        one_hot = torch.nn.functional.one_hot(self._labels().long()).to(p)
        return (p @ one_hot).to(x_t.dtype)
