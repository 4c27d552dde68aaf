r"""Which steps to take: the cheapest path by the variational bound, and times learned through the sampler.

The bound is a sum over the jumps of a grid, and what a jump from t to s adds depends on t and s alone. With the mean
squared error a pixel of the denoiser at t, mse_t, and d pixels, it is in expectation

    d/2 (SNR_s - SNR_t) mse_t              with the posterior's variance,
    d/2 log(1 + (SNR_s - SNR_t) mse_t)     with the optimal one (`variational.optimal_variance`).

So T numbers give the cost of every jump, and the best grid of any length is a shortest path (Watson et al. 2021). The
second way asks no bound: the times are parameters, and gradient descent moves them until a few steps end where many
steps end (Watson et al. 2022; Tong et al. 2025). Lesson 13 derives both.
"""

from course_utils.samplers.step_selection.costs import VARIANCES, Measured, cost_matrix, measure
from course_utils.samplers.step_selection.paths import Path, best_path, best_paths, greedy_path, path_cost, prune
from course_utils.samplers.step_selection.times import (
    GridRecord,
    end_point,
    in_continuous_time,
    learn_times,
    mean_squared,
    to_logits,
    to_times,
)
from course_utils.schedules import ContinuousTwin

__all__ = [
    "VARIANCES",
    "ContinuousTwin",
    "GridRecord",
    "Measured",
    "Path",
    "best_path",
    "best_paths",
    "cost_matrix",
    "end_point",
    "greedy_path",
    "in_continuous_time",
    "learn_times",
    "mean_squared",
    "measure",
    "path_cost",
    "prune",
    "to_logits",
    "to_times",
]
