r"""Pictures of which a part is known: filled in, or begun from another picture. Lesson 15.

What is wanted is a draw of p(x_0 | its known part is y). Given x_t that is as hard as everything else, so there are
three ways to come near it, and each leaves something out:

* *replacement*: known pixels take the road that they would have taken from y. `with_known` for any sampler,
  `sample_repaint` with rounds = 1. What is unknown hears of y only through x_t.
* *resampling*: at each noise level go back up and down again, so that both parts have time to agree: rounds > 1.
* *gradient*: the score of y given x_t, from the guess alone: `towards`.

All take a guided denoiser as well as a plain one. A mask is true where the picture is known.
"""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course_utils._contract import ANYWHERE, FINITE, Count, In, Whole, checked
from course_utils._contract.times import Grid
from course_utils.forward import noise_like, posterior, q_sample
from course_utils.protocols import Denoise, Schedule, answer
from course_utils.samplers.walk import Callback, Images, Noise, Walk, sampler
from course_utils.schedules.jumps import coeffs_for
from course_utils.tensors import broadcast, nonzero
from course_utils.toy import GaussianMixture

Known = Annotated[Float[Tensor, "..."], FINITE, ANYWHERE]
Mask = Annotated[Bool[Tensor, "..."], ANYWHERE]
"""True where the picture is known. Mask and picture may lie on any device."""


def _spread(y: Tensor, mask: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The known picture and its mask as they meet x, or an error that says what does not fit."""
    _require_spreads("known", y, x)
    _require_spreads("mask", mask, x)
    return y.to(x.device, x.dtype), mask.to(x.device)


def _require_spreads(name: str, value: Tensor, x: Tensor) -> None:
    try:
        fits = torch.broadcast_shapes(value.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: wanted a shape that spreads to {tuple(x.shape)}, got {tuple(value.shape)}")


@checked
def with_known(denoise: Denoise, known: Known, mask: Mask) -> Denoise:
    r"""The denoiser whose guess has the known pixels as they are: replacement, for every sampler.

    x0_hat <- mask y + (1 - mask) x0_hat

    Then the known part of x_s is alpha_s y + noise of the level s, the *new* one, whatever the sampler: its step with a
    guess that is right. At s = 0 the truth itself stands there. The same law as pasting noised pixels (Song et al.
    2021, app. I.2), for the pixels that are known.

    Args:
        known: y, of the shape of x, or one that spreads to it; what it holds outside of the mask does not count.
        mask: true where the picture is known.
    """

    def pinned(x_t: Tensor, t: Any, **cond: Any) -> Tensor:
        y, given = _spread(known, mask, x_t)
        x0_hat = answer(denoise, x_t, t, cond)
        return torch.where(given, y, x0_hat)

    return pinned


@sampler
def sample_repaint(
    denoise: Denoise,
    x_T: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    known: Known,
    mask: Mask,
    rounds: Count = 1,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    **cond: Any,
) -> Images:
    r"""Ancestral steps with known pixels pasted in, each taken `rounds` times (Lugmayr et al. 2022, RePaint, Alg. 1).

    unknown: x_s ~ q(x_s | x_t, x0_hat)        known: x_s = alpha_s y + sigma_s z, at the level of the *new* time
    then back, for another round:  x_t = alpha_{t|s} x_s + sigma_{t|s} z

    rounds = 1 is replacement (Song et al. 2021). Each round costs a network call. At s = 0 the known pixels are y.

    Args:
        known, mask: as of `with_known`.
        rounds: how often each step is taken; more give the unknown part time to hear of the known one.

    Raises as `sample_ddpm` does.
    """
    y, given = _spread(known, mask, x_T)
    walk = Walk(denoise, x_T, schedule, timesteps, callback, cond)
    for x, x0_hat, step in walk:
        back, spread = (broadcast(value, x) for value in (step.alpha_ts, step.variance_ts.sqrt()))
        alpha_s, sigma_s = (broadcast(value, x) for value in (step.alpha_s, step.sigma_s))
        for left in reversed(range(rounds)):
            mean, variance = posterior(x, x0_hat, step)
            ours = mean + variance.sqrt() * noise_like(x, generator)
            theirs = alpha_s * y + sigma_s * noise_like(x, generator)
            walk.x = torch.where(given, theirs, ours)
            if left:
                x = back * walk.x + spread * noise_like(x, generator)
                x0_hat = walk.ask(x, step.t)
    return walk.x


@checked
def towards(
    denoise: Denoise,
    look: Callable[[Tensor], Tensor],
    y: Float[Tensor, "..."],
    schedule: Schedule,
    *,
    w: Annotated[float, In("[0, inf)")] = 1.0,
    data_std: Annotated[float, In("(0, inf)")] = 1.0,
) -> Denoise:
    r"""The denoiser pushed to where its guess agrees with what was seen, look(x_0) = y: diffusion posterior sampling.

    x0_hat <- x0_hat - w (sigma_t² / alpha_t) grad_x |y - look(x0_hat(x_t))|² / (2 v_t)

    as `guidance.classifier_guidance`, with  p(y | x_t) ~ N(y; look(x0_hat), v_t)  in place of the classifier's (Chung
    et al. 2023, Eq. 16, who scale by hand). v_t is how far x_0 is from its guess, here as if data were a Gaussian of
    variance s²,  v_t = s² sigma_t² / (alpha_t² s² + sigma_t²)  (Song et al. 2023, PiGDM). Each guess costs
    a call of the denoiser and the way back through it, about three calls' time.

    Args:
        look: what was done to the picture, differentiable: `lambda x: x[mask]` would mix rows; `lambda x: mask * x`.
        y: what was seen, of the shape of look(x_0).
        w: 1 is Bayes' rule, as far as the Gaussian holds.
        data_std: s.

    Raises ValueError where alpha_t = 0.
    """

    def guided(x_t: Tensor, t: Any, **cond: Any) -> Tensor:
        alpha, sigma = coeffs_for(x_t, t, schedule)
        signal = nonzero(alpha, "alpha is 0, and 1 / alpha infinite; begin a little below pure noise")
        with torch.inference_mode(False), torch.enable_grad():  # samplers keep no gradients
            x = x_t.detach().clone().requires_grad_()
            x0_hat = answer(denoise, x, t, cond)
            seen = look(x0_hat)
            _require_spreads("y", y, seen)
            misfit = (y.to(seen) - seen).square().sum() / 2
            (slope,) = torch.autograd.grad(misfit, x)
        per_variance = (alpha**2 * data_std**2 + sigma**2) / (signal * data_std**2)  # sigma² / (alpha v), finite at 0
        return x0_hat.detach() - w * per_variance * slope

    return guided


@checked
def image_to_image(
    sample: Callable[..., Tensor],
    denoise: Denoise,
    x_0: Noise,
    schedule: Schedule,
    timesteps: Grid,
    *,
    generator: torch.Generator | None = None,
    **cond: Any,
) -> Float[Tensor, "b *shape"]:
    """Another picture of the same large shapes: x_0 noised to the first of the times, and sampled from there.

    (Meng et al. 2022, SDEdit.) The more noise, the less is left of x_0 and the more is the denoiser's.

    Args:
        sample: one of the course's samplers.
        timesteps: a falling grid from the noise level to begin at.
    """
    x_t = q_sample(x_0, timesteps[0], schedule, noise_like(x_0, generator))
    return sample(denoise, x_t, schedule, timesteps, generator=generator, **cond)


@checked
def box_mask(
    height: Count,
    width: Count,
    top: Annotated[int, Whole(0)],
    left: Annotated[int, Whole(0)],
    bottom: Annotated[int, Whole(0)],
    right: Annotated[int, Whole(0)],
) -> Bool[Tensor, "height width"]:
    """A mask that knows all but a box: rows top … bottom - 1, columns left … right - 1."""
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = False
    return mask


@checked
def conditional(mixture: GaussianMixture, known: Annotated[Float[Tensor, "d"], FINITE], mask: Mask) -> GaussianMixture:
    r"""The exact law of a mixture's unknown coordinates, given the known ones: a mixture again.

    With u the unknown and k the known coordinates of each part,  G = S_uk S_kk^{-1}:

    mean m_u + G (y_k - m_k),   covariance S_uu - G S_ku,   weight proportional to w N(y_k; m_k, S_kk)

    Args:
        known: y; its unknown coordinates do not count.
        mask: true where known; neither everywhere nor nowhere.
    """
    known, mask = _spread(known, mask, mixture.means[0])
    if mask.all() or not mask.any():
        raise ValueError("mask: wanted something known and something unknown")
    S = mixture.variances.diag_embed()
    if mixture.axes is not None:
        S = mixture.axes @ S @ mixture.axes.mT
    S_kk, S_uk, S_uu = S[:, mask][..., mask], S[:, ~mask][..., mask], S[:, ~mask][..., ~mask]
    surprise = known[mask] - mixture.means[:, mask]
    seen = torch.distributions.MultivariateNormal(torch.zeros_like(surprise), S_kk)
    gain = torch.cholesky_solve(S_uk.mT, seen.scale_tril).mT
    means = mixture.means[:, ~mask] + torch.einsum("kij,kj->ki", gain, surprise)
    covariances = S_uu - gain @ S_uk.mT
    weights = torch.softmax(mixture.weights.log() + seen.log_prob(surprise), 0)
    return GaussianMixture(means, (covariances + covariances.mT) / 2, weights)
