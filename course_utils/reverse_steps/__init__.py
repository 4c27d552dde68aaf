r"""Better reverse steps: a Gaussian with a variance for every pixel, and a step with a latent, which is no Gaussian.

Both stand on a trained denoiser and leave it as it is. Both describe x_0 given x_t by a guess and the squared error e
to expect of it, and let the schedule do the rest: whatever s is, the step from t to s is then

    N(mean of q(x_s | x_t, x0_hat), sigma~² + k² e),    sigma~² = sigma²_{t|s} sigma_s² / sigma_t²,
                                                        k = alpha_s sigma²_{t|s} / sigma_t²

so one network serves every grid. Lesson 12 derives this. Nichol & Dhariwal 2021 (learned variances), Bao et al. 2022
(Analytic-DPM), Sohn et al. 2015 (conditional VAE).
"""

from course_utils.reverse_steps.bounds import error_bound, log_interpolated, variance_bounds
from course_utils.reverse_steps.latent import VariationalJump, jump_loss, sample_jumps
from course_utils.reverse_steps.variance_head import VarianceHead, learned_variance, relative_step_kl, variance_loss

__all__ = [
    "VarianceHead",
    "VariationalJump",
    "error_bound",
    "jump_loss",
    "learned_variance",
    "log_interpolated",
    "relative_step_kl",
    "sample_jumps",
    "variance_bounds",
    "variance_loss",
]
