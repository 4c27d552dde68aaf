"""What a network may predict: every kind tells every other, wherever it can, and says so where it cannot."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from course_utils.forward import q_sample
from course_utils.parameterizations import (
    KINDS,
    convert,
    eps_from_score,
    eps_from_u,
    eps_from_v,
    eps_from_x0,
    score_from_eps,
    score_from_x0,
    v_from_x0_eps,
    x0_from_eps,
    x0_from_score,
    x0_from_u,
    x0_from_v,
)
from course_utils.schedules import (
    VE,
    FlowMatching,
    LearnedSchedule,
    VPCosine,
    VPLinear,
    cosine,
    linear,
    rescale_zero_terminal_snr,
)

SCHEDULES = {
    "linear": linear(40, 1e-3, 0.3),
    "cosine": cosine(20),
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "ve": VE(),
    "flow": FlowMatching(),
    "learned": LearnedSchedule(generator=torch.Generator().manual_seed(0)).requires_grad_(False),
}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def draw(shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))


def times(schedule, n, seed=0):
    """One time per image, away from the two ends, where one of the quantities cannot be told from the others."""
    generator = torch.Generator().manual_seed(seed)
    if schedule.T is not None:
        return torch.randint(1, schedule.T, (n,), generator=generator)
    return 0.05 + 0.9 * torch.rand(n, generator=generator, dtype=torch.float64)


def column(value, x):
    return value.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def truth(x_0, eps, t, schedule):
    """Every kind, from its definition, and x_t."""
    alpha, sigma = (column(value, x_0) for value in schedule.coeffs(t))
    kinds = {"x0": x_0, "eps": eps, "v": alpha * eps - sigma * x_0, "u": eps - x_0, "score": -eps / sigma}
    return alpha * x_0 + sigma * eps, kinds


# shapes of a batch: numbers, points, images
shapes = st.one_of(
    st.tuples(st.integers(1, 4)), st.tuples(*[st.integers(1, 4)] * 2), st.tuples(*[st.integers(1, 3)] * 4)
)


@pytest.mark.slow(5)
@given(
    shapes,
    st.sampled_from([*SCHEDULES.values()]),
    st.integers(0, 1000),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_every_kind_tells_every_other(shape, schedule, seed, dtype):
    x_0, eps = draw(shape, seed, dtype)
    t = times(schedule, shape[0], seed)
    x_t, kinds = truth(x_0, eps, t, schedule)
    alpha, sigma = (value.min().item() for value in schedule.coeffs(t))
    for kind in KINDS:
        for to in KINDS:
            got = convert(kinds[kind], kind, to, x_t, t, schedule)
            # x_t and the prediction are rounded numbers; dividing by alpha, and up to twice by sigma, magnifies that.
            size = 1 + max(x_t.abs().max(), kinds[kind].abs().max(), kinds[to].abs().max()).item()
            tolerance = 16 * torch.finfo(dtype).eps * size * (1 + 1 / sigma) ** 2 * (1 + 1 / alpha)
            assert got.dtype == dtype
            torch.testing.assert_close(got, kinds[to], rtol=0, atol=tolerance)


@each_schedule
def test_round_trip_eps_x0_v_u_score_and_back(schedule):
    x_0, eps = draw((50, 1, 4, 4))
    t = times(schedule, 50)
    x_t, kinds = truth(x_0, eps, t, schedule)
    route = ["eps", "x0", "v", "u", "score", "x0", "u", "eps", "v", "score", "eps"]
    value = eps
    for kind, to in pairwise(route):
        value = convert(value, kind, to, x_t, t, schedule)
        torch.testing.assert_close(value, kinds[to], rtol=1e-10, atol=1e-10)


@each_schedule
def test_every_function_is_its_definition(schedule):
    x_0, eps = draw((6, 3))
    t = times(schedule, 6)
    x_t, kinds = truth(x_0, eps, t, schedule)
    v, u, score = kinds["v"], kinds["u"], kinds["score"]
    for function, given_kind, wanted in [
        (x0_from_eps, eps, x_0),
        (x0_from_v, v, x_0),
        (x0_from_u, u, x_0),
        (x0_from_score, score, x_0),
        (eps_from_x0, x_0, eps),
        (eps_from_v, v, eps),
        (eps_from_u, u, eps),
        (eps_from_score, score, eps),
        (lambda x_t, x_0, t, schedule: convert(x_0, "x0", "v", x_t, t, schedule), x_0, v),
        (lambda x_t, eps, t, schedule: convert(eps, "eps", "v", x_t, t, schedule), eps, v),
        (lambda x_t, x_0, t, schedule: convert(x_0, "x0", "u", x_t, t, schedule), x_0, u),
        (score_from_eps, eps, score),
        (score_from_x0, x_0, score),
    ]:
        torch.testing.assert_close(function(x_t, given_kind, t, schedule), wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(v_from_x0_eps(x_0, eps, t, schedule), v, rtol=1e-12, atol=1e-12)


@each_schedule
def test_score_is_the_gradient_of_log_q(schedule):
    x_0, eps = draw((6, 3))
    t = times(schedule, 6)
    alpha, sigma = (column(value, x_0) for value in schedule.coeffs(t))
    x_t = q_sample(x_0, t, schedule, eps).requires_grad_()
    log_q = torch.distributions.Normal(alpha * x_0, sigma.expand_as(x_0)).log_prob(x_t).sum()
    wanted = torch.autograd.grad(log_q, x_t)[0]
    x_t = x_t.detach()
    torch.testing.assert_close(score_from_eps(x_t, eps, t, schedule), wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(score_from_x0(x_t, x_0, t, schedule), wanted, rtol=1e-9, atol=1e-9)


def velocity(x_0, eps, t, schedule):
    """dx_t / dt, by autograd through q_sample."""
    t = torch.tensor(t, dtype=torch.float64)
    one = torch.ones_like(t)
    return torch.autograd.functional.jvp(lambda t: q_sample(x_0, t, schedule, eps), t, one)[1]


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_v_is_the_velocity_on_the_circle_and_u_on_the_line(t):
    x_0, eps = draw((6, 3))
    # On the circle x = cos(phi) x_0 + sin(phi) eps, v = dx / dphi; VPCosine has phi = pi t / 2.
    on_circle = velocity(x_0, eps, t, VPCosine()) / (math.pi / 2)
    torch.testing.assert_close(v_from_x0_eps(x_0, eps, t, VPCosine()), on_circle, rtol=1e-12, atol=1e-12)
    x_t = q_sample(x_0, t, FlowMatching(), eps)
    on_line = velocity(x_0, eps, t, FlowMatching())
    torch.testing.assert_close(convert(x_0, "x0", "u", x_t, t, FlowMatching()), on_line, rtol=1e-12, atol=1e-12)
    # Any variance-preserving schedule is on that circle: dx / dt = v dphi / dt, with phi = atan2(sigma, alpha).
    time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    alpha, sigma = VPLinear().coeffs(time)
    speed = torch.autograd.grad(torch.atan2(sigma, alpha), time)[0]
    v = v_from_x0_eps(x_0, eps, t, VPLinear())
    torch.testing.assert_close(v * speed, velocity(x_0, eps, t, VPLinear()), rtol=1e-10, atol=1e-10)


def test_diffusers_has_the_same_x0_and_v():
    T = 50
    ours = linear(T, 1e-3, 0.2)
    x_0, eps = draw((2, 3), dtype=torch.float32)
    for t in (1, 10, T):
        x_t = q_sample(x_0, t, ours, eps)
        v = convert(eps, "eps", "v", x_t, t, ours)
        for kind, prediction in (("epsilon", eps), ("v_prediction", v)):
            theirs = DDPMScheduler(
                num_train_timesteps=T, beta_start=1e-3, beta_end=0.2, clip_sample=False, prediction_type=kind
            )
            torch.testing.assert_close(
                theirs.step(prediction, t - 1, x_t).pred_original_sample, x_0, rtol=1e-4, atol=1e-4
            )
        torch.testing.assert_close(theirs.get_velocity(x_0, eps, torch.tensor([t - 1])), v, rtol=1e-4, atol=1e-4)


# --- the two ends, where something cannot be known -------------------------------------------------------------------

ENDS = [(linear(10), 0), (VPCosine(), 0.0), (FlowMatching(), 0.0), (VE(), 0.0)]
NOISE_ENDS = [(rescale_zero_terminal_snr(linear(10, 1e-3, 0.4)), 10), (VPCosine(), 1.0), (FlowMatching(), 1.0)]


def check_pair(kind, to, schedule, t, *, known):
    """`convert` gives the right answer where there is one, and says why where there is none."""
    x_0, eps = draw((4, 3))
    x_t, kinds = truth(x_0, eps, torch.as_tensor(t).expand(4), schedule)
    if known:
        got = convert(kinds[kind], kind, to, x_t, t, schedule)
        torch.testing.assert_close(got, kinds[to], rtol=1e-12, atol=1e-12)
    else:
        with pytest.raises(ValueError, match=r"^t: at this t "):
            convert(kinds[kind], kind, to, x_t, t, schedule)


@pytest.mark.parametrize(("schedule", "t"), ENDS, ids=lambda value: type(value).__name__)
def test_clean_data_tells_no_noise(schedule, t):
    for kind in ("x0", "eps", "v", "u"):
        for to in KINDS:
            check_pair(kind, to, schedule, t, known=kind == to or (kind != "x0" and to != "score"))


@pytest.mark.parametrize(("schedule", "t"), NOISE_ENDS, ids=lambda value: type(value).__name__)
def test_pure_noise_tells_no_image(schedule, t):
    for kind in KINDS:
        for to in KINDS:
            check_pair(kind, to, schedule, t, known=kind in ("x0", "v", "u") or to in ("eps", "score"))


def test_a_kind_as_itself_is_returned_untouched():
    prediction, x_t = draw((2, 3))
    for kind in KINDS:
        for t in (0.0, 0.5, 1.0):
            assert convert(prediction, kind, kind, x_t, t, VPCosine()) is prediction


def test_one_image_at_an_end_is_enough_to_raise():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"^t: .* sigma_t = 0"):
        eps_from_x0(x, x, torch.tensor([0, 5]), linear(10))
    with pytest.raises(ValueError, match=r"^t: .* alpha_t = 0"):
        x0_from_eps(x, x, torch.tensor([0.5, 1.0]), VPCosine())
    for score in (score_from_eps, score_from_x0):
        with pytest.raises(ValueError, match=r"^t: .* sigma_t = 0"):
            score(x, x, 0, linear(10))
    with pytest.raises(ValueError, match=r"^t: .* alpha_t = 0"):
        x0_from_score(x, x, 1.0, VPCosine())


# --- denoisers -------------------------------------------------------------------------------------------------------


def test_a_conversion_can_be_trained_through():
    x_0, eps = draw((4, 3))
    x_t = q_sample(x_0, 5, linear(10), eps)
    for kind in ("eps", "v", "u", "score"):
        prediction = torch.zeros_like(x_t, requires_grad=True)
        convert(prediction, kind, "x0", x_t, 5, linear(10)).sum().backward()
        assert prediction.grad.abs().min() > 0
