r"""The variational bound: why minimising a bound on -log p(x_0) is regression, and with which weight.

-log p(x_0) <= L_0 + sum_{t=2}^T L_{t-1} + L_T                                             (Ho et al. 2020, Eq. 5)
L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)),   L_T = KL(q(x_T | x_0) || N(0, I))

The same holds for any grid of times instead of 1 … T, with a step from each to the next: `bound`.

Lesson 03 derives these; lessons 12 and 13 shorten the grid. All results are in nats, one number an image.
"""

from course_utils.protocols import Variance
from course_utils.variational.terms import (
    Bound,
    bits_per_dim,
    bound,
    decoder_nll,
    gaussian_kl,
    jump_cost,
    prior_kl,
    step_kl,
    step_weight,
)
from course_utils.variational.variances import (
    beta_variance,
    denoising_errors,
    optimal_variance,
    posterior_variance,
    step_variance,
)

__all__ = [
    "Bound",
    "Variance",
    "beta_variance",
    "bits_per_dim",
    "bound",
    "decoder_nll",
    "denoising_errors",
    "gaussian_kl",
    "jump_cost",
    "optimal_variance",
    "posterior_variance",
    "prior_kl",
    "step_kl",
    "step_variance",
    "step_weight",
]
