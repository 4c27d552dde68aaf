"""Bad input is refused in words: every error names the argument, says what was wanted and what was got.

Runs without the shape hook (`pytest --no-shape-hook tests/test_bad_input.py`), since that is what a learner's notebook
sees: with it, jaxtyping's own error comes first.
"""

import dataclasses
import fnmatch
import functools
import importlib
import inspect
import itertools
import math
import pkgutil
import re
from collections.abc import Iterator
from types import FunctionType

import calls
import numpy as np
import pytest
import torch
from calls import CALLS, FINE, INSIDE, Fresh, half
from torch import Tensor

import course_utils
from course_utils import leaderboard, metrics
from course_utils import parameterizations as p
from course_utils.checkpoints import CheckpointError
from course_utils.data import load_images
from course_utils.files import DataError
from course_utils.forward import noise_like, q_chain, q_posterior, q_sample, q_step
from course_utils.schedules import (
    VE,
    ContinuousSchedule,
    DiscreteSchedule,
    FlowMatching,
    LearnedSchedule,
    LossAwareSampler,
    Schedule,
    VPCosine,
    VPLinear,
    coeffs_for,
    cosine,
    exponential,
    from_alpha_bar_function,
    linear,
    rescale_zero_terminal_snr,
    sigmoid,
    transition,
)
from course_utils.toy import Gaussian, GaussianMixture, IdealDenoiser
from course_utils.training import TrainingError
from course_utils.variational import bits_per_dim, gaussian_kl, prior_kl, step_kl, step_weight

X = torch.zeros(2, 3)
BYTES = torch.zeros(2, 3, dtype=torch.uint8)
WIDE = torch.zeros(2, 4)
DOUBLE = X.double()
ELSEWHERE = torch.zeros(2, 3, device="meta")
NAN = math.nan
S = linear(10)
C = VPLinear()
MIXTURE = GaussianMixture(torch.zeros(4, 3), 1.0)
IDEAL = IdealDenoiser(torch.zeros(4, 3), S, torch.tensor([0, 0, 2, 2]))
LEVELS = LossAwareSampler(5)


@pytest.fixture(autouse=True)
def _without_shape_hook(request):
    if not request.config.getoption("--no-shape-hook"):
        pytest.skip("has its own run: pytest --no-shape-hook tests/test_bad_input.py")


def refused(call, name, error):
    """The call raises `error`, and the head of the message, before its first colon, names the argument."""
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    head, _, wanted = str(raised.value).partition(": ")
    assert name in head.replace(",", " ").split(), raised.value
    assert len(wanted) > 10, raised.value


def table(*rows):
    """Rows of (what is wrong, the argument, the error, the call)."""
    return pytest.mark.parametrize(
        ("name", "error", "call"), [row[1:] for row in rows], ids=[row[0].replace(" ", "_") for row in rows]
    )


# --- a time ----------------------------------------------------------------------------------------------------------

BAD_FOR_DISCRETE = {
    "negative": (-1, ValueError),
    "above T": (11, ValueError),
    "a float": (3.0, TypeError),
    "a float tensor": (torch.tensor([3.0, 4.0]), TypeError),
    "a bool": (True, TypeError),
    "a bool tensor": (torch.tensor([True, False]), TypeError),
    "text": ("3", TypeError),
    "nothing": (None, TypeError),
    "one of many": (torch.tensor([3, 11]), ValueError),
}
BAD_FOR_CONTINUOUS = {
    "negative": (-0.1, ValueError),
    "above 1": (1.5, ValueError),
    "NaN": (NAN, ValueError),
    "a bool": (True, TypeError),
    "a bool tensor": (torch.tensor([True, False]), TypeError),
    "a whole tensor": (torch.tensor([0, 1]), TypeError),
    "text": ("3", TypeError),
    "one of many": (torch.tensor([0.3, 1.1]), ValueError),
}
OF_A_TIME = {
    "coeffs": lambda t, s: s.coeffs(t),
    "log_snr": lambda t, s: s.log_snr(t),
    "transition": lambda t, s: transition(0, t, s),
    "coeffs_for": lambda t, s: coeffs_for(X, t, s),
    "q_sample": lambda t, s: q_sample(X, t, s, X),
    "q_posterior": lambda t, s: q_posterior(X, X, t, s, 0),
    "x0_from_eps": lambda t, s: p.x0_from_eps(X, X, t, s),
    "v_from_x0_eps": lambda t, s: p.v_from_x0_eps(X, X, t, s),
    "score_from_x0": lambda t, s: p.score_from_x0(X, X, t, s),
    "convert": lambda t, s: p.convert(X, "v", "eps", X, t, s),
    "log_prob": lambda t, s: MIXTURE.log_prob(X, t, s),
    "denoise": lambda t, s: MIXTURE.denoise(X, t, s),
    "IdealDenoiser": lambda t, s: IdealDenoiser(X, s)(X, t),
}
OF_A_STEP = {
    "q_step": lambda t: q_step(X, t, S, X),
    "q_posterior": lambda t: q_posterior(X, X, t, S),
    "step_weight": lambda t: step_weight(t, S),
    "step_kl": lambda t: step_kl(X, X, X, t, S),
}


@pytest.mark.parametrize("bad", BAD_FOR_DISCRETE)
@pytest.mark.parametrize("function", OF_A_TIME)
def test_a_discrete_schedule_refuses_a_time_it_does_not_have(function, bad):
    t, error = BAD_FOR_DISCRETE[bad]
    if function in ("log_prob", "denoise") and t is None:
        error = ValueError  # a mixture may be asked without t, but then without a schedule too
    refused(lambda: OF_A_TIME[function](t, S), "t", error)


@pytest.mark.parametrize("bad", BAD_FOR_DISCRETE)
@pytest.mark.parametrize("function", OF_A_STEP)
def test_a_step_refuses_a_time_the_schedule_does_not_have(function, bad):
    t, error = BAD_FOR_DISCRETE[bad]
    refused(lambda: OF_A_STEP[function](t), "t", error)


@pytest.mark.parametrize("bad", BAD_FOR_CONTINUOUS)
@pytest.mark.parametrize("function", OF_A_TIME)
def test_a_continuous_schedule_refuses_a_time_it_does_not_have(function, bad):
    t, error = BAD_FOR_CONTINUOUS[bad]
    refused(lambda: OF_A_TIME[function](t, C), "t", error)


@pytest.mark.parametrize(
    "schedule", [C, VPCosine(), VE(), FlowMatching(), LearnedSchedule()], ids=lambda s: type(s).__name__
)
def test_every_continuous_schedule_checks_its_time(schedule):
    refused(lambda: schedule.coeffs(1.5), "t", ValueError)
    refused(lambda: schedule.coeffs(torch.tensor([0, 1])), "t", TypeError)


@pytest.mark.parametrize("t", [torch.tensor([1, 2, 3]), torch.tensor([[1], [2]])], ids=["three for two", "a column"])
@pytest.mark.parametrize("function", [f for f in OF_A_TIME if f not in ("coeffs", "log_snr", "transition")])
def test_a_time_is_one_for_all_or_one_per_image(function, t):
    refused(lambda: OF_A_TIME[function](t, S), "t", ValueError)
    refused(lambda: OF_A_TIME[function](t / 10, C), "t", ValueError)


@table(
    ("q_step to 0", "t", ValueError, lambda: q_step(X, 0, S, X)),
    ("q_step to 0 for one", "t", ValueError, lambda: q_step(X, torch.tensor([1, 0]), S, X)),
    ("q_posterior of 0", "t", ValueError, lambda: q_posterior(X, X, 0, S)),
    ("q_posterior without s", "s", ValueError, lambda: q_posterior(X, X, 0.5, C)),
    ("q_posterior s above t", "s", ValueError, lambda: q_posterior(X, X, 3, S, 4)),
    ("q_posterior s equal t", "s", ValueError, lambda: q_posterior(X, X, 0.3, C, 0.3)),
    ("transition s above t", "s", ValueError, lambda: transition(4, 3, S)),
    ("transition s equal t", "s", ValueError, lambda: transition(0.5, 0.5, C)),
    ("transition s above t for one", "s", ValueError, lambda: transition(torch.tensor([1, 4]), 3, S)),
    ("transition two s three t", "s", ValueError, lambda: transition(torch.tensor([1, 1]), torch.tensor([2, 3, 4]), S)),
    ("step_weight of 0", "t", ValueError, lambda: step_weight(0, S)),
    ("step_kl of 1", "t", ValueError, lambda: step_kl(X, X, X, 1, S)),
    ("log_prob t alone", "schedule", ValueError, lambda: MIXTURE.log_prob(X, 3)),
    ("log_prob schedule alone", "t", ValueError, lambda: MIXTURE.log_prob(X, schedule=S)),
    ("ideal at t 0", "t", ValueError, lambda: IDEAL(X, 0)),
    ("points at t 0", "t", ValueError, lambda: GaussianMixture(X, 0.0).denoise(X, 0, S)),
    ("log_snr NaN", "log_snr", ValueError, lambda: S.t_at_log_snr(NAN)),
    ("log_snr NaN continuous", "log_snr", ValueError, lambda: C.t_at_log_snr(torch.tensor([0.0, NAN]))),
    ("log_snr bools", "log_snr", TypeError, lambda: C.t_at_log_snr(torch.tensor([True]))),
    ("log_snr text", "log_snr", TypeError, lambda: C.t_at_log_snr("0")),
    ("q_step continuous", "schedule", TypeError, lambda: q_step(X, 1, C, X)),
    ("q_chain continuous", "schedule", TypeError, lambda: next(q_chain(X, C))),
    ("step_weight continuous", "schedule", TypeError, lambda: step_weight(0.5, C)),
    ("step_kl continuous", "schedule", TypeError, lambda: step_kl(X, X, X, 0.5, C)),
    ("rescale continuous", "schedule", TypeError, lambda: rescale_zero_terminal_snr(C)),
)
def test_a_step_that_cannot_be_taken_is_refused(call, name, error):
    refused(call, name, error)


@pytest.mark.parametrize("call", [OF_A_STEP[f] for f in ("q_step", "q_posterior", "step_weight")])
def test_a_step_from_clean_data_is_told_what_it_asked_for(call):
    with pytest.raises(ValueError, match="got 0"):
        call(0)


# --- images ----------------------------------------------------------------------------------------------------------

# Functions of two tensors that must match: the names of both, and a call of (first, second).
PAIRS = {
    "q_step": ("x_prev", "eps", lambda a, b: q_step(a, 3, S, b)),
    "q_sample": ("x_0", "eps", lambda a, b: q_sample(a, 3, S, b)),
    "q_posterior": ("x_t", "x_0", lambda a, b: q_posterior(a, b, 3, S)),
    "x0_from_eps": ("x_t", "eps", lambda a, b: p.x0_from_eps(a, b, 3, S)),
    "x0_from_v": ("x_t", "v", lambda a, b: p.x0_from_v(a, b, 3, S)),
    "x0_from_u": ("x_t", "u", lambda a, b: p.x0_from_u(a, b, 3, S)),
    "x0_from_score": ("x_t", "score", lambda a, b: p.x0_from_score(a, b, 3, S)),
    "eps_from_x0": ("x_t", "x_0", lambda a, b: p.eps_from_x0(a, b, 3, S)),
    "eps_from_v": ("x_t", "v", lambda a, b: p.eps_from_v(a, b, 3, S)),
    "eps_from_u": ("x_t", "u", lambda a, b: p.eps_from_u(a, b, 3, S)),
    "eps_from_score": ("x_t", "score", lambda a, b: p.eps_from_score(a, b, 3, S)),
    "v_from_x0_eps": ("x_0", "eps", lambda a, b: p.v_from_x0_eps(a, b, 3, S)),
    "score_from_eps": ("x_t", "eps", lambda a, b: p.score_from_eps(a, b, 3, S)),
    "score_from_x0": ("x_t", "x_0", lambda a, b: p.score_from_x0(a, b, 3, S)),
    "convert": ("x_t", "prediction", lambda a, b: p.convert(b, "v", "eps", a, 3, S)),
    "convert to itself": ("x_t", "prediction", lambda a, b: p.convert(b, "v", "v", a, 3, S)),
    "gaussian_kl": ("mean_q", "mean_p", lambda a, b: gaussian_kl(a, 1.0, b, 1.0)),
    "step_kl": ("x_0", "x0_hat", lambda a, b: step_kl(a, b, a, 3, S)),
    "step_kl x_t": ("x_t", "x_0", lambda a, b: step_kl(b, b, a, 3, S)),
}


@pytest.mark.parametrize("function", PAIRS)
def test_two_tensors_must_match(function):
    first, second, call = PAIRS[function]
    refused(lambda: call(X, BYTES), second, TypeError)
    refused(lambda: call(BYTES, X), first, TypeError)
    refused(lambda: call(X, None), second, TypeError)
    for name in (first, second):
        message = rf"(?s)(?=.*\b{name}\b)"  # which of the two is wrong cannot be known: both are named
        with pytest.raises(ValueError, match=message):
            call(X, WIDE)
        with pytest.raises(TypeError, match=message):
            call(X, DOUBLE)
        with pytest.raises(ValueError, match=message):
            call(X, ELSEWHERE)


ONE_TENSOR = {
    "coeffs_for": ("x", lambda x: coeffs_for(x, 3, S)),
    "noise_like": ("x", noise_like),
    "q_chain": ("x_0", lambda x: next(q_chain(x, S))),
    "prior_kl": ("x_0", lambda x: prior_kl(x, S)),
    "bits_per_dim": ("nats", lambda x: bits_per_dim(x, 3)),
    "log_prob": ("x_t", lambda x: MIXTURE.log_prob(x)),
    "responsibilities": ("x_t", lambda x: MIXTURE.responsibilities(x)),
    "score": ("x_t", lambda x: MIXTURE.score(x)),
    "denoise": ("x_t", lambda x: MIXTURE.denoise(x, 3, S)),
    "ideal": ("x_t", lambda x: IDEAL(x, 3)),
    "class_posterior": ("x_t", lambda x: IDEAL.class_posterior(x, 3)),
    "mixture": ("means", lambda x: GaussianMixture(x, 1.0)),
    "gaussian": ("mean", lambda x: Gaussian(x, 1.0)),
    "images": ("images", lambda x: IdealDenoiser(x, S)),
}


@pytest.mark.parametrize("function", ONE_TENSOR)
@pytest.mark.parametrize("bad", [BYTES, X.bool(), [0.0], None], ids=["bytes", "bools", "a list", "nothing"])
def test_only_floating_point_tensors_will_do(function, bad):
    name, call = ONE_TENSOR[function]
    refused(lambda: call(bad), name, TypeError)


@pytest.mark.parametrize("function", ["log_prob", "responsibilities", "score", "denoise", "ideal", "class_posterior"])
@pytest.mark.parametrize("bad", [WIDE, X[0], X[..., None]], ids=["four for three", "one point", "one axis more"])
def test_points_must_have_the_shape_of_the_data(function, bad):
    name, call = ONE_TENSOR[function]
    refused(lambda: call(bad), name, ValueError)


def test_an_empty_batch_gives_an_empty_result():
    nothing, no_t = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    for t in (3, no_t):
        results = [call(nothing, nothing) for call in (pair[2] for pair in PAIRS.values())]
        results += [q_sample(nothing, t, S, nothing), MIXTURE.denoise(nothing, t, S), MIXTURE.log_prob(nothing, t, S)]
        results += [IDEAL(nothing, t), IDEAL(nothing, t, label=no_t), IDEAL.class_posterior(nothing, t)]
        results += [noise_like(nothing), prior_kl(nothing, S), next(q_chain(nothing, S))[1]]
        for result in results:
            assert len(result[0] if isinstance(result, tuple) else result) == 0


# --- what things are made of -----------------------------------------------------------------------------------------


def alpha_bar(*values):
    return lambda: DiscreteSchedule(torch.tensor(values))


def betas(*values):
    return lambda: DiscreteSchedule.from_betas(torch.tensor(values))


@table(
    ("alpha_bar NaN", "alpha_bar", ValueError, alpha_bar(1, NAN, 0.1)),
    ("alpha_bar infinite", "alpha_bar", ValueError, alpha_bar(math.inf, 0.1)),
    ("alpha_bar rising", "alpha_bar", ValueError, alpha_bar(1, 0.5, 0.6)),
    ("alpha_bar level", "alpha_bar", ValueError, alpha_bar(1, 0.5, 0.5)),
    ("alpha_bar negative", "alpha_bar", ValueError, alpha_bar(1, 0.5, -0.1)),
    ("alpha_bar without t 0", "alpha_bar", ValueError, alpha_bar(0.99, 0.5)),
    ("alpha_bar of no steps", "alpha_bar", ValueError, alpha_bar(1.0)),
    ("alpha_bar a matrix", "alpha_bar", ValueError, lambda: DiscreteSchedule(torch.ones(2, 2))),
    ("betas zero", "betas", ValueError, betas(0.1, 0.0)),
    ("betas negative", "betas", ValueError, betas(0.1, -0.1)),
    ("betas above 1", "betas", ValueError, betas(0.1, 1.1)),
    ("betas NaN", "betas", ValueError, betas(0.1, NAN)),
    ("betas 1 too early", "betas", ValueError, betas(0.1, 1.0, 0.1)),
    ("betas none", "betas", ValueError, lambda: DiscreteSchedule.from_betas(torch.zeros(0))),
    ("betas a matrix", "betas", ValueError, lambda: DiscreteSchedule.from_betas(torch.full((2, 2), 0.1))),
    *(
        (f"{build.__name__} {what}", "T", error, lambda build=build, T=T: build(T))
        for build in (linear, exponential, cosine, sigmoid, LossAwareSampler)
        for what, T, error in (("T 0", 0, ValueError), ("T 10.0", 10.0, TypeError), ("T True", True, TypeError))
    ),
    ("linear beta_1 0", "beta_1", ValueError, lambda: linear(10, 0.0, 0.1)),
    ("linear beta_T 1", "beta_T", ValueError, lambda: linear(10, 0.1, 1.0)),
    ("exponential beta_1 0", "beta_1", ValueError, lambda: exponential(10, 0.0, 0.1)),
    ("exponential beta_T NaN", "beta_T", ValueError, lambda: exponential(10, 0.1, NAN)),
    ("cosine s negative", "s", ValueError, lambda: cosine(10, s=-0.1)),
    ("cosine max_beta 0", "max_beta", ValueError, lambda: cosine(10, max_beta=0.0)),
    ("cosine max_beta 1.1", "max_beta", ValueError, lambda: cosine(10, max_beta=1.1)),
    ("sigmoid end first", "end", ValueError, lambda: sigmoid(10, 3.0, -3.0)),
    ("sigmoid tau 0", "tau", ValueError, lambda: sigmoid(10, tau=0.0)),
    ("function rising", "alpha_bar", ValueError, lambda: from_alpha_bar_function(10, lambda u: 1 + u)),
    ("function level", "alpha_bar", ValueError, lambda: from_alpha_bar_function(10, lambda u: 1 + 0 * u)),
    ("function negative", "alpha_bar", ValueError, lambda: from_alpha_bar_function(10, lambda u: 1 - 2 * u)),
    ("function NaN", "alpha_bar", ValueError, lambda: from_alpha_bar_function(10, lambda u: u * NAN)),
    ("rescale one step", "schedule", ValueError, lambda: rescale_zero_terminal_snr(linear(1))),
    ("vp beta_min 0", "beta_min", ValueError, lambda: VPLinear(0.0, 20.0)),
    ("vp falling", "beta_max", ValueError, lambda: VPLinear(20.0, 0.1)),
    ("ve sigma_min 0", "sigma_min", ValueError, lambda: VE(0.0, 50.0)),
    ("ve falling", "sigma_max", ValueError, lambda: VE(50.0, 0.01)),
    ("learned falling", "gamma_1", ValueError, lambda: LearnedSchedule(5.0, -13.0)),
    ("learned no units", "hidden", ValueError, lambda: LearnedSchedule(hidden=0)),
)
def test_a_schedule_that_cannot_be_is_refused(call, name, error):
    refused(call, name, error)


def update(t, losses):
    return lambda: LEVELS.update(t, losses)


@table(
    ("history 0", "history", ValueError, lambda: LossAwareSampler(5, history=0)),
    ("uniform 2", "uniform", ValueError, lambda: LossAwareSampler(5, uniform=2.0)),
    ("sample none", "n", ValueError, lambda: LEVELS.sample(0)),
    ("sample 2.0", "n", TypeError, lambda: LEVELS.sample(2.0)),
    ("losses NaN", "losses", ValueError, update(torch.tensor([1]), torch.tensor([NAN]))),
    ("losses too few", "losses", ValueError, update(torch.tensor([1, 2]), torch.tensor([1.0]))),
    ("losses whole", "losses", TypeError, update(torch.tensor([1]), torch.tensor([1]))),
    ("t 0", "t", ValueError, update(torch.tensor([0]), torch.tensor([1.0]))),
    ("t above T", "t", ValueError, update(torch.tensor([6]), torch.tensor([1.0]))),
    ("t a float", "t", TypeError, update(torch.tensor([1.0]), torch.tensor([1.0]))),
    ("t a number", "t", TypeError, update(1, torch.tensor([1.0]))),
)
def test_a_sampler_of_t_refuses_what_it_cannot_use(call, name, error):
    refused(call, name, error)


MEANS = torch.zeros(4, 3)


@table(
    ("means one point", "means", ValueError, lambda: GaussianMixture(torch.zeros(3), 1.0)),
    ("means none", "means", ValueError, lambda: GaussianMixture(torch.zeros(0, 3), 1.0)),
    ("means NaN", "means", ValueError, lambda: GaussianMixture(MEANS * NAN, 1.0)),
    ("mean a number", "means", ValueError, lambda: Gaussian(torch.tensor(0.0), 1.0)),
    ("weights too few", "weights", ValueError, lambda: GaussianMixture(MEANS, 1.0, torch.tensor([0.5, 0.5]))),
    ("weights sum to 2", "weights", ValueError, lambda: GaussianMixture(MEANS, 1.0, torch.full((4,), 0.5))),
    ("weights zero", "weights", ValueError, lambda: GaussianMixture(MEANS, 1.0, torch.tensor([0.5, 0.5, 0.0, 0.0]))),
    ("weights NaN", "weights", ValueError, lambda: GaussianMixture(MEANS, 1.0, torch.full((4,), NAN))),
    ("covariances negative", "covariances", ValueError, lambda: GaussianMixture(MEANS, -1.0)),
    ("covariances NaN", "covariances", ValueError, lambda: GaussianMixture(MEANS, NAN)),
    ("covariances misshapen", "covariances", ValueError, lambda: GaussianMixture(MEANS, torch.ones(5))),
    ("covariances either way", "covariances", ValueError, lambda: GaussianMixture(torch.zeros(3, 3), torch.ones(3))),
    (
        "covariances lopsided",
        "covariances",
        ValueError,
        lambda: GaussianMixture(MEANS, torch.arange(9.0).reshape(3, 3).expand(4, 3, 3)),
    ),
    (
        "covariances indefinite",
        "covariances",
        ValueError,
        lambda: GaussianMixture(torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])),
    ),
    ("sample none", "n", ValueError, lambda: MIXTURE.sample(0)),
    ("images none", "images", ValueError, lambda: IdealDenoiser(torch.zeros(0, 3), S)),
    ("images one row", "images", ValueError, lambda: IdealDenoiser(torch.zeros(3), S)),
    ("labels too few", "labels", ValueError, lambda: IdealDenoiser(MEANS, S, torch.tensor([0, 1]))),
    ("labels floats", "labels", TypeError, lambda: IdealDenoiser(MEANS, S, torch.zeros(4))),
    ("labels a list", "labels", TypeError, lambda: IdealDenoiser(MEANS, S, [0, 0, 1, 1])),
    ("labels negative", "labels", ValueError, lambda: IdealDenoiser(MEANS, S, torch.tensor([0, 0, 1, -1]))),
    ("label unknown", "label", ValueError, lambda: IDEAL(X, 3, label=torch.tensor([0, 7]))),
    ("label of no image", "label", ValueError, lambda: IDEAL(X, 3, label=torch.tensor([0, 1]))),
    ("label too many", "label", ValueError, lambda: IDEAL(X, 3, label=torch.tensor([0, 2, 0]))),
    ("label one for two", "label", ValueError, lambda: IDEAL(X, 3, label=torch.tensor([0]))),
    ("label a number", "label", TypeError, lambda: IDEAL(X, 3, label=0)),
    ("label without labels", "label", ValueError, lambda: IdealDenoiser(X, S)(X, 3, label=torch.tensor([0, 0]))),
    ("posterior without labels", "labels", ValueError, lambda: IdealDenoiser(X, S).class_posterior(X, 3)),
)
def test_data_that_cannot_be_are_refused(call, name, error):
    refused(call, name, error)


@table(
    ("kind unknown", "kind", ValueError, lambda: p.convert(X, "x_0", "eps", X, 3, S)),
    ("to unknown", "to", ValueError, lambda: p.convert(X, "eps", "noise", X, 3, S)),
    ("kind not text", "kind", ValueError, lambda: p.convert(X, 0, "eps", X, 3, S)),
    ("variance 0", "var_q", ValueError, lambda: gaussian_kl(X, 0.0, X, 1.0)),
    ("variance negative", "var_p", ValueError, lambda: gaussian_kl(X, 1.0, X, -torch.ones(2, 3))),
    ("variance NaN", "var_p", ValueError, lambda: gaussian_kl(X, 1.0, X, NAN)),
    ("variance one an image", "var_q", ValueError, lambda: gaussian_kl(X, torch.ones(2), X, 1.0)),
    ("variance a row", "var_q", ValueError, lambda: gaussian_kl(X, torch.ones(3), X, 1.0)),
    ("variance too wide", "var_q", ValueError, lambda: gaussian_kl(X, torch.ones(2, 4), X, 1.0)),
    ("variance text", "var_q", TypeError, lambda: gaussian_kl(X, "1", X, 1.0)),
    ("dims 0", "dims", ValueError, lambda: bits_per_dim(torch.zeros(2), 0)),
    ("dims 3.0", "dims", TypeError, lambda: bits_per_dim(torch.zeros(2), 3.0)),
)
def test_a_request_that_makes_no_sense_is_refused(call, name, error):
    refused(call, name, error)


# --- every public function, every argument --------------------------------------------------------------------------

OUR_OWN = (CheckpointError, DataError, TrainingError)  # RuntimeErrors that say what to do


def public_functions():
    """name -> function, of all modules that lessons import: functions, classes that are no mere records, methods."""
    found = {}
    for module in pkgutil.walk_packages(course_utils.__path__, "course_utils."):
        name = module.name.removeprefix("course_utils.")
        hidden = "._" in f".{name}" and name != "_contract.times"  # whose functions lessons call
        if name.split(".")[0] in ("desk", "exercises") or hidden:
            continue  # people's tasks; and `check` never raises, which tests/test_exercises.py proves
        for key, thing in vars(importlib.import_module(module.name)).items():
            if key.startswith("_") or getattr(thing, "__module__", "") != module.name or not callable(thing):
                continue
            if getattr(thing, "_is_protocol", False):
                continue  # it says what others have
            if inspect.isclass(thing):
                record = dataclasses.is_dataclass(thing) or issubclass(thing, tuple | BaseException)
                if not record and thing is not ContinuousSchedule:
                    found[f"{name}.{key}"] = thing
                for method, attribute in vars(thing).items():
                    public = method == "__call__" or not method.startswith("_")
                    if public and isinstance(attribute, FunctionType | classmethod):
                        found[f"{name}.{key}.{method}"] = getattr(thing, method)
            else:
                found[f"{name}.{key}"] = thing
    return found


PUBLIC = public_functions()


def test_every_public_function_is_called():
    assert PUBLIC.keys() - CALLS.keys() == set(), "give each a right call in tests/calls.py"
    assert CALLS.keys() - PUBLIC.keys() == set()


def first(sequence, other):
    return type(sequence)([other, *sequence[1:]])


def spoiled(value):
    """What a learner may hand over instead of `value`: {what is wrong: the bad value}.

    Three kinds: another *form* of the same value, which may be taken if the result is the same; an *unknown* number,
    which may be taken if the result shows it; the rest is refused, or `FINE` says why not.
    """
    wrong = {"text": "?", "nothing": None}
    if isinstance(value, Tensor):
        wrong |= {"a list": value.tolist(), "none": value[:0], "twice as many": torch.cat([value, value])}
        wrong |= {"an axis more": value[None], "an axis fewer": value[0], "bools": value > 0}
        wrong |= {"elsewhere": value.to("meta")}
        if value.ndim > 1:
            wrong["wider"] = torch.cat([value, value], -1)
        if value.is_floating_point():
            whole = value.to(torch.uint8)
            another = torch.float64 if value.dtype == torch.float32 else torch.float32
            wrong |= {"bytes": whole, "precision": value.to(another), "complex": value.to(torch.complex64)}
            for name, number in (("NaN", NAN), ("infinity", math.inf)):
                wrong[name] = value.clone()
                wrong[name].view(-1)[0] = number
        else:
            wrong["floats"] = value.float()
            if value.dtype not in (torch.uint8, torch.bool):
                wrong |= {"negative": -5 - value, "huge": value + 1000}
    elif isinstance(value, bool):
        wrong = {}  # truth is Python's affair
    elif isinstance(value, int):
        wrong |= {"zero": 0, "negative": -value - 2, "a fraction": value + 0.5, "NaN": NAN, "a bool": True}
        wrong |= {"a list": [value]}
    elif isinstance(value, float):
        wrong |= {"NaN": NAN, "infinity": math.inf, "negative": -abs(value) - 1, "zero": 0.0}
        wrong |= {"a list": [value]}
    elif isinstance(value, str):
        wrong |= {"a number": 3, "a list": [value]}
    elif isinstance(value, list | tuple) and value and isinstance(value[0], int | float):
        wrong |= {"a number": 3, "none": value[:0], "NaN": first(value, NAN), "text inside": first(value, "?")}
        wrong |= {"negative": type(value)([*value[:-1], -5]), "huge": first(value, 500), "an iterator": iter(value)}
        wrong |= {"backwards": value[::-1], "nested": [list(value)]}
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        wrong |= {"a number": 3, "none": value[:0], "text inside": first(value, "?")}
    elif isinstance(value, Schedule):
        wrong |= {"a number": 10, "the other time": C if value.T else S, "not called": linear}
    elif isinstance(value, torch.Generator):
        wrong |= {"a number": 0}
    elif isinstance(value, torch.nn.Module):
        wrong |= {"a number": 3}
    elif callable(value):
        wrong |= {"a number": 3, "a tensor": X}

        def but(change):
            return lambda *args, **options: change(value(*args, **options))

        if value is half:  # a denoiser
            wrong |= {"answers nothing": but(lambda x: None), "answers NaN": but(lambda x: x * NAN)}
            wrong |= {
                "answers other shapes": but(lambda x: x[..., :1]),
                "answers elsewhere": but(lambda x: x.to("meta")),
            }
            wrong |= {"answers bytes": but(lambda x: x.byte()), "answers a pair": but(lambda x: (x, x))}
    else:
        wrong |= {"a number": 3}
    return wrong


FORMS = ("a list", "precision", "a bool", "a number", "an iterator", "elsewhere", "complex")
UNKNOWN = ("NaN", "infinity", "answers NaN")
SHAPES = ("twice as many", "wider", "an axis more", "an axis fewer", "none")
RELATIVE = (*SHAPES, "precision", "elsewhere", "the other time")  # wrong beside another argument, which may be named

# What is made by some functions is called, too: a wrapped denoiser, a sampler.
MADE = {
    "leaderboard.measuring.add": lambda row: dataclasses.replace(row, seconds=0.0),
    "toy.GaussianMixture.denoiser": lambda made: made(X, 3),
    "variational.variances.optimal_variance": lambda made: made(X, X, 5, 2, S),
    "samplers.wrappers.clip_x0": lambda made: made(X, 3),
    "guidance.classifier_free": lambda made: made(X, 3, label=calls.PAIR),
    "guidance.away_from": lambda made: made(X, 3),
    "guidance.away_from_class": lambda made: made(X, 3),
    "guidance.in_interval": lambda made: made(X, calls.BOTH_SIDES),
    "guidance.classifier_guidance": lambda made: made(X, 3, label=calls.PAIR),
    "inpainting.with_known": lambda made: made(X, 3),
    "inpainting.towards": lambda made: made(X, 3),
    "samplers.wrappers.dynamic_threshold": lambda made: made(X, 3),
}


def call(name, arguments):
    arguments = {key: value.make() if isinstance(value, Fresh) else value for key, value in arguments.items()}
    positional = [arguments.pop("self")] if "self" in arguments else []
    result = PUBLIC[name](*positional, **arguments)
    if isinstance(result, Iterator):
        result = list(itertools.islice(result, 3))
    return MADE.get(name, lambda made: made)(result)


def numbers_in(result):
    """All tensors and numbers of a result, however deep, in order."""
    if isinstance(result, Tensor | float | int):
        return [torch.as_tensor(result)]
    if isinstance(result, np.ndarray):
        return [torch.from_numpy(result)]
    if dataclasses.is_dataclass(result):
        result = list(vars(result).values())
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, Schedule | torch.nn.Module):
        result = list(vars(result).values()) + list(getattr(result, "state_dict", dict)().values())
    if isinstance(result, list | tuple):
        return [number for part in result for number in numbers_in(part)]
    return []


def same(result, right):
    ours, theirs = numbers_in(result), numbers_in(right)
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and not a.is_meta and torch.allclose(a.double(), b.double(), 1e-3, 1e-5, equal_nan=True)
        for a, b in zip(ours, theirs, strict=True)
    )


def aliases(argument):
    """What an error from further inside may call it: x for x_t, label for labels, covariances for covariance."""
    one = argument.removesuffix("s")
    return argument, one, f"{one}s", argument.split("_")[0], argument.replace("times", "timesteps")


def verdict(name, argument, what, bad):
    """Nothing if the call was answered as it should be, else what happened."""
    arguments = CALLS[name]
    try:
        result = call(name, {**arguments, argument: bad})
    except (ValueError, TypeError, *OUR_OWN) as error:
        head = str(error).partition(": ")[0]
        named = [one for one in arguments if re.search(rf"\b({'|'.join(aliases(one))})\b", head)]
        answered = what.startswith("answers") and re.search(r"\b(x0_hat|prediction|denoise|network)\b", head)
        if argument in named or answered or (named and what in RELATIVE):
            return ""
        return f"{type(error).__name__}: {str(error)[:110]}"
    except Exception as error:
        if what == "elsewhere" and "meta tensor" in str(error):
            return ""  # the stand-in for another device holds no numbers to look at; a real one does
        return f"{type(error).__name__}: {str(error)[:110]}"
    parameter = inspect.signature(PUBLIC[name]).parameters.get(argument)
    if what == "nothing" and (parameter is None or parameter.default is None):
        return ""
    if what in FORMS + UNKNOWN and same(result, call(name, arguments)):
        return ""
    found = numbers_in(result)
    if what == "elsewhere" and any(one.is_meta for one in found):
        return ""
    if what in UNKNOWN and any(
        one.is_floating_point() and not one.isfinite().all() for one in found if not one.is_meta
    ):
        return ""
    if what == "none" and any(one.ndim and one.numel() == 0 for one in found):
        return ""
    alone = sum(isinstance(value, Tensor) for key, value in arguments.items() if key != "self") == 1
    if what in SHAPES and alone and found and not same(result, call(name, arguments)):
        return ""  # any shape will do, and the result has it
    return f"accepted: {str(result)[:110]}"


def test_every_exemption_is_of_a_function_there_is():
    assert set(INSIDE) <= CALLS.keys()
    arguments = [f"{name}({argument})" for name in CALLS for argument in CALLS[name] or ()]
    assert [one for one in FINE if not fnmatch.filter(arguments, one)] == []


def fine(name, argument, what):
    return any(fnmatch.fnmatch(f"{name}({argument})", one) and what in FINE[one].split(", ") for one in FINE)


@functools.cache
def some(name, split="train", full=False):
    return load_images(name, split, n=40)


@pytest.fixture
def small_data(monkeypatch, tmp_path):
    """A few images stand for a dataset, and what is written goes to a folder of the test's own."""
    monkeypatch.setattr(metrics.evaluation, "load_images", some)
    monkeypatch.setattr(metrics.real_images, "load_images", some)
    monkeypatch.setattr(leaderboard.rows, "FOLDER", tmp_path)
    monkeypatch.setattr(leaderboard.plans, "LONGEST", 10)
    monkeypatch.setattr(calls.scratch, "root", tmp_path)
    monkeypatch.chdir(tmp_path)
    metrics.reference.cache_clear()
    metrics.floor_of.cache_clear()
    yield
    metrics.reference.cache_clear()
    metrics.floor_of.cache_clear()


COUNTING = [name for name in CALLS if int in map(type, (CALLS[name] or {}).values()) and name not in INSIDE]


@pytest.mark.parametrize("name", COUNTING)
@pytest.mark.filterwarnings("ignore")
def test_a_whole_number_of_numpys_is_as_good_as_pythons(name, small_data, capsys):
    """PyTorch does not always take one: `torch.zeros(np.int64(2), …)` does, `nn.Linear(np.int64(2), …)` does not."""
    as_numpys = {key: np.int64(value) if type(value) is int else value for key, value in CALLS[name].items()}
    torch.manual_seed(0)
    right = call(name, CALLS[name])
    torch.manual_seed(0)
    assert same(call(name, as_numpys), right)


@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name] is not None])
@pytest.mark.filterwarnings("ignore")
def test_a_spoiled_argument_is_refused_in_words(name, small_data, capsys):
    call(name, CALLS[name])  # the right call is right
    complaints = []
    for argument, value in CALLS[name].items() if name not in INSIDE else ():
        value = value.make() if isinstance(value, Fresh) else value
        for what, bad in spoiled(value).items() if argument != "self" else ():
            answer = verdict(name, argument, what, bad)
            if answer and not fine(name, argument, what):
                complaints.append(f"{argument}, {what}: {answer}")
    assert not complaints, "\n".join(complaints)
