r"""Noise schedules: how much of the image and how much noise is in x_t.

Every schedule answers two questions about a time t,

    x_t = alpha_t x_0 + sigma_t eps        `coeffs(t)`  -> (alpha_t, sigma_t)
    log SNR_t = log(alpha_t² / sigma_t²)   `log_snr(t)`

and everything else in the course is written in terms of those: whatever has both methods is a schedule. t = 0 is clean
data. Discrete schedules count t = 1 … T as the DDPM paper does; continuous ones take a float t in [0, 1].

Lesson 02 derives them. References: Ho et al. 2020 (DDPM), Nichol & Dhariwal 2021 (cosine), Song et al. 2021 (VP and
VE SDEs), Kingma et al. 2021 (VDM), Chen 2023 (sigmoid), Lin et al. 2023 (zero terminal SNR), Lipman et al. 2023
(flow matching).
"""

from course_utils._contract.times import Grid, check_grid, check_time
from course_utils._validate import require_counted, require_schedule
from course_utils.protocols import Counted, Schedule, Time
from course_utils.schedules.continuous import (
    VE,
    ContinuousSchedule,
    ContinuousTwin,
    FlowMatching,
    LearnedSchedule,
    VPCosine,
    VPLinear,
)
from course_utils.schedules.discrete import (
    DiscreteSchedule,
    cosine,
    exponential,
    from_alpha_bar_function,
    linear,
    rescale_zero_terminal_snr,
    sigmoid,
)
from course_utils.schedules.jumps import Jump, coeffs_for, jump, transition
from course_utils.schedules.loss_aware import LossAwareSampler
from course_utils.schedules.times import t_at_log_snr

__all__ = [
    "VE",
    "ContinuousSchedule",
    "ContinuousTwin",
    "Counted",
    "DiscreteSchedule",
    "FlowMatching",
    "Grid",
    "Jump",
    "LearnedSchedule",
    "LossAwareSampler",
    "Schedule",
    "Time",
    "VPCosine",
    "VPLinear",
    "check_grid",
    "check_time",
    "coeffs_for",
    "cosine",
    "exponential",
    "from_alpha_bar_function",
    "jump",
    "linear",
    "require_counted",
    "require_schedule",
    "rescale_zero_terminal_snr",
    "sigmoid",
    "t_at_log_snr",
    "transition",
]
