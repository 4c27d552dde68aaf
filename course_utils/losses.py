r"""One loss, several weightings: which noise levels a network is asked to be good at.

Every loss of the course is  w(t) |x_0 - x0_hat|²  with x0_hat from a denoiser. Training on eps, on v or on x_0 differs
only in w:

    "x0":      w = 1
    "eps":     w = SNR                           since |eps - eps_hat|² = SNR |x_0 - x0_hat|² (Ho et al. 2020, Eq. 14)
    "v":       w = SNR + 1 / s²                  v-prediction; with s the data's standard deviation, the unit-variance
                                                 target of `denoisers.Denoiser` (Salimans & Ho 2022; Karras et al. 2022)
    "min_snr": w = min(SNR, gamma)               (Hang et al. 2023, Eq. 7 and section 3.3)
    "u":       w = (1 + sqrt(SNR))²              |u - u_hat|², u = eps - x_0: flow matching (Lipman et al. 2023, Eq. 14)

Lesson 03 derives the first three, lesson 07 compares them.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils._contract import In, OneOf, checked
from course_utils._validate import require_count, require_same
from course_utils.forward import q_sample
from course_utils.protocols import Denoise, Schedule, Time
from course_utils.tensors import broadcast

WEIGHTINGS = ("x0", "eps", "v", "min_snr", "u")
Weighting = Annotated[str, OneOf(WEIGHTINGS)]
Scale = Annotated[float, In("(0, inf)")]
Gamma = Annotated[float, In("(0, inf]")]


@checked
def loss_weight(
    t: Time, schedule: Schedule, weighting: Weighting = "v", *, data_std: Scale = 1.0, gamma: Gamma = 5.0
) -> Float[Tensor, "*b"]:
    """w(t), float64, of the shape of t.

    Raises:
        ValueError: an unknown weighting, or t = 0 with one that would be infinite there.
    """
    snr = schedule.log_snr(t).exp()
    if weighting == "x0":
        return torch.ones_like(snr)
    if weighting == "min_snr":
        return snr.clamp(max=gamma)
    if snr.device.type == "cpu" and snr.isinf().any():  # a look at a GPU's numbers would make Python wait for them
        raise ValueError(f"t: {weighting!r} weights clean images infinitely; wanted t > 0")
    if weighting == "u":
        return (1 + snr.sqrt()) ** 2
    return snr if weighting == "eps" else snr + 1 / data_std**2


@checked
def denoising_loss(
    denoise: Denoise,
    x_0: Float[Tensor, "b *shape"],
    t: Time,
    schedule: Schedule,
    eps: Float[Tensor, "b *shape"],
    *,
    weighting: Weighting = "v",
    data_std: Scale = 1.0,
    gamma: Gamma = 5.0,
    **cond: object,
) -> Float[Tensor, "b"]:
    """w(t) · mean over pixels of (x_0 - denoise(x_t, t))², one number an image, not yet averaged over the batch.

    Args:
        denoise: `denoise(x_t, t, **cond) -> x0_hat`.
        x_0: clean images.
        t: one time, or one per image.
        eps: the noise that makes x_t of x_0.
    """
    weight = loss_weight(t, schedule, weighting, data_std=data_std, gamma=gamma)  # it may wait for a GPU: not later
    x0_hat = denoise(q_sample(x_0, t, schedule, eps), t, **cond)
    require_same("x0_hat", x0_hat, "x_0", x_0)
    squared = (x_0 - x0_hat).square().flatten(1).mean(1)
    return broadcast(weight, squared) * squared


@checked
def pseudo_huber(
    found: Float[Tensor, "b *shape"], wanted: Float[Tensor, "b *shape"], c: Scale = 0.00054
) -> Float[Tensor, "b"]:
    """sqrt(mean (found - wanted)² + c²) - c of each row, float32 (Song & Dhariwal 2024, section 3.3)."""
    return ((found - wanted).float().square().flatten(1).mean(1) + c**2).sqrt() - c


@checked
def energy_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """2 E|a - b| - E|a - a'| - E|b - b'| of two sets of n >= 2 rows (Székely & Rizzo 2013).

    Row i of one is the partner of row i of the other: pairs i = i are left out throughout, so that it is zero on
    average where both are draws of one distribution.
    """
    require_count("a", len(a), least=2)
    others = ~torch.eye(len(a), dtype=torch.bool, device=a.device)

    def apart(p: Tensor, q: Tensor) -> Tensor:
        return ((p[:, None] - q[None]).square().sum(-1) + 1e-6).sqrt()[others].mean()

    return 2 * apart(a, b) - apart(a, a) - apart(b, b)
