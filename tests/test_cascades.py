"""A cascade against one Gaussian, whose factors and noise levels all are formulas; and the task that teaches it."""

import functools

import pytest
import torch
from torch import nn

from course_utils import guidance
from course_utils.cascades import downsample, enlarge, given_small, sample_cascade
from course_utils.denoisers import Denoiser, UNet
from course_utils.forward import noise_like, q_sample
from course_utils.losses import denoising_loss
from course_utils.runs import Training
from course_utils.samplers import sample_ddim, sample_ddpm, uniform_grid
from course_utils.schedules import VPCosine, linear
from course_utils.tasks import Upscaling, draw_t

S = linear(1000)
VARIANCE, DETAIL = 0.7, 0.2  # of the small pictures, of one pixel; and of what a pixel of the large has besides
A = torch.full((1, 4), 0.25, dtype=torch.float64)
CENTRED = torch.eye(4, dtype=torch.float64) - 0.25
COVARIANCE = VARIANCE * torch.ones(4, 4, dtype=torch.float64) + DETAIL * CENTRED


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=stream(seed), dtype=torch.float64)


def exact(x_t, t, *, r, beside, **cond):
    """E[x | x_t, y_r] of the four pixels, by conditioning their joint Gaussian."""
    (alpha, sigma), (alpha_r, sigma_r) = S.coeffs(t), S.coeffs(r)
    sees = torch.cat([alpha * torch.eye(4, dtype=torch.float64), alpha_r * A])
    noise = torch.diag(torch.cat([sigma.expand(4) ** 2, sigma_r.reshape(1) ** 2]))
    gain = COVARIANCE @ sees.T @ torch.linalg.inv(sees @ COVARIANCE @ sees.T + noise)
    seen = torch.cat([x_t.flatten(1), beside[:, 0, :1, :1].flatten(1)], 1)
    return (seen @ gain.T).reshape(x_t.shape)


def base(bias):
    """The exact denoiser of small pictures, if their mean were `bias`: it is 0 in truth."""

    def denoise(y_t, t, **cond):
        alpha, sigma = S.coeffs(t)
        return bias + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (y_t - alpha * bias)

    return denoise


# --- small and large -------------------------------------------------------------------------------------------------


def test_small_is_the_mean_of_squares_and_enlarging_is_undone():
    x = normal(2, 3, 8, 12)
    y = downsample(x, 4)
    assert torch.allclose(y[1, 2, 1, 0], x[1, 2, 4:, :4].mean())
    assert torch.allclose(downsample(enlarge(y, 4), 4), y, rtol=1e-14)
    assert torch.equal(enlarge(y, 4)[0, 0, :4, 4:8], y[0, 0, 0, 1].expand(4, 4))
    with pytest.raises(ValueError, match="x: wanted sides that are multiples of 5, got"):
        downsample(x, 5)


@pytest.mark.parametrize("k", [2, 4])
def test_white_noise_stays_white_with_a_kth_of_its_deviation(k):
    small = downsample(normal(500, 1, 16, 16), k)
    n = small.numel()
    assert (k**2 * small.var() - 1).abs() < 5 * (2 / n) ** 0.5  # the relative error of a variance of n numbers
    beside = (small[..., 1:] * small[..., :-1]).mean() * k**2
    assert beside.abs() < 5 / (small[..., 1:].numel()) ** 0.5


# --- the second factor -----------------------------------------------------------------------------------------------


def recorder(asked):
    def denoise(x_t, t, **cond):
        asked.append(cond)
        return x_t / 2

    return denoise


def test_the_second_network_is_shown_the_small_picture_and_told_its_noise():
    small, x_t, asked = normal(3, 1, 2, 2), normal(3, 1, 8, 8, seed=1), []
    given_small(recorder(asked), small, 0, S)(x_t, 500, label=torch.tensor([1, 2, 3]))
    assert torch.equal(asked[0]["beside"], enlarge(small, 4))
    assert asked[0]["r"] == 0
    assert torch.equal(asked[0]["label"], torch.tensor([1, 2, 3]))
    above = given_small(recorder(asked), small, 80, S, stream(4))
    for t in (700, 300):  # noised once, whatever is asked
        above(x_t, t)
        expected = q_sample(small, 80, S, noise_like(small, stream(4)))
        assert torch.equal(asked[-1]["beside"], enlarge(expected, 4))
        assert asked[-1]["r"] == 80


def test_it_is_guided_like_any_other():
    small, x_t, asked = normal(2, 1, 2, 2), normal(2, 1, 4, 4), []
    guided = guidance.classifier_free(given_small(recorder(asked), small, 30, S, stream()), 2.0)
    guided(x_t, 100, label=torch.tensor([1, 2]))
    assert len(asked) == 2
    assert torch.equal(asked[0]["beside"], asked[1]["beside"])


# --- the whole, exactly ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0, 100, 400])
def test_with_exact_factors_the_cascade_draws_the_truth_at_every_level(r):
    x_T = normal(4000, 1, 2, 2, seed=7)
    x = sample_cascade(base(0.0), exact, x_T, S, uniform_grid(S, 100), k=2, r=r, generator=stream(3))
    found = torch.cov(x.flatten(1).T)
    standard_error = ((COVARIANCE.diag()[:, None] * COVARIANCE.diag() + COVARIANCE**2) / len(x)).sqrt()
    assert ((found - COVARIANCE).abs() < 5 * standard_error + 0.01).all()  # 0.01: of a hundred steps
    assert x.mean().abs() < 5 * (VARIANCE / len(x)) ** 0.5


@pytest.mark.parametrize("r", [0, 100, 400])
def test_the_first_networks_error_comes_through_as_far_as_it_is_believed(r):
    """E x = E E[x | y_r] = alpha_r² v / (alpha_r² v + sigma_r²) times the wrong mean: all of it at r = 0."""
    x_T, bias = normal(4000, 1, 2, 2, seed=7), 0.8
    x = sample_cascade(base(bias), exact, x_T, S, uniform_grid(S, 100), k=2, r=r, generator=stream(3))
    alpha, sigma = S.coeffs(r)
    believed = alpha**2 * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
    assert (x.mean() - believed * bias).abs() < 5 * (VARIANCE / len(x)) ** 0.5 + 0.01


def test_a_sampler_that_draws_gets_the_generator():
    x_T, grid = normal(3, 1, 2, 2), uniform_grid(S, 5)
    same = [
        sample_cascade(base(0.0), exact, x_T, S, grid, k=2, r=50, by=sample_ddpm, generator=stream(1)) for _ in range(2)
    ]
    assert torch.equal(*same)
    other = sample_cascade(base(0.0), exact, x_T, S, grid, k=2, r=50, by=sample_ddpm, generator=stream(2))
    assert not torch.equal(same[0], other)


# --- the network, the task -------------------------------------------------------------------------------------------

SMALL = {"channels": 1, "widths": (16,), "blocks": 1, "attention": (), "num_classes": 10, "second_time": True}


def stirred(network):
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=stream(5)), alpha=0.1)
    return network


def test_a_picture_beside_that_has_no_weight_changes_nothing_and_one_that_has_does():
    plain, beside = stirred(UNet(**SMALL)), UNet(**SMALL, beside=1)
    weights = plain.state_dict()
    first = torch.zeros_like(beside.first.weight)
    first[:, :4] = weights["first.weight"]  # pixels of x_t come first, in blocks of 2 × 2
    beside.load_state_dict(weights | {"first.weight": first})
    x, level, picture = (normal(2, 1, 8, 8).float(), torch.zeros(2), normal(2, 1, 8, 8, seed=2).float())
    assert torch.equal(plain(x, level), beside(x, level, beside=picture))
    with torch.no_grad():
        beside.first.weight[:, 4:] = 0.3
    assert not torch.allclose(plain(x, level), beside(x, level, beside=picture), atol=1e-3)
    for given, network in ((None, beside), (picture, plain), (picture[..., :4], beside)):
        with pytest.raises(ValueError, match="beside: wanted"):
            network(x, level, beside=given)


def run_of(most_of=None):
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        model = Denoiser(stirred(UNet(**SMALL, beside=1)), S, "v", -0.7, 0.6)
    return Training(model, precision=torch.float32)


def test_in_training_the_small_picture_is_noised_as_it_is_told():
    run, x_0 = run_of(), normal(2000, 1, 8, 8).float()
    told = Upscaling(k=4, most=0.3).shown(run, x_0, stream())
    r = told["r"]
    assert r.min() >= 0
    assert r.max() <= 300
    assert (r.float().mean() - 150).abs() < 5 * 87 / 2000**0.5
    alpha, sigma = (c.float() for c in S.coeffs(r))
    left = downsample(told["beside"], 4) - alpha.reshape(-1, 1, 1, 1) * downsample(x_0, 4)
    standard = (left / sigma.clamp(min=1e-9).reshape(-1, 1, 1, 1))[r > 0]
    assert (standard.var() - 1).abs() < 5 * (2 / standard.numel()) ** 0.5
    torch.testing.assert_close(told["beside"], enlarge(downsample(told["beside"], 4), 4))
    clean = Upscaling(k=4, most=0.0).shown(run, x_0, stream())
    assert torch.equal(clean["beside"], enlarge(downsample(x_0, 4), 4))
    assert not clean["r"].any()


def test_its_loss_is_the_denoising_loss_given_what_is_shown():
    run, x_0, label, task = run_of(), normal(6, 1, 8, 8).float(), torch.arange(6), Upscaling(k=2, label_drop=0.0)
    losses, t = task(run, x_0, label, stream(9))
    again = stream(9)
    assert torch.equal(t, draw_t(S, 6, again, "uniform"))
    torch.rand(6, generator=again)  # which labels are dropped: none
    told = task.shown(run, x_0, again)
    eps = noise_like(x_0, again)
    by_hand = denoising_loss(run.model, x_0, t, S, eps, data_std=0.6, label=label, **told)
    assert torch.allclose(losses, by_hand)


def test_time_may_be_continuous():
    model = Denoiser(UNet(**SMALL, beside=1), VPCosine())
    r = Upscaling(most=0.25).shown(Training(model), normal(500, 1, 8, 8).float(), stream())["r"]
    assert r.is_floating_point()
    assert 0.2 < r.max() <= 0.25


def test_it_is_measured_as_a_whole_cascade(monkeypatch):
    monkeypatch.setattr("course_utils.pretrained.load_denoiser", lambda name, device: base(0.0))
    model = Denoiser(nn.Linear(1, 1), S)
    sample = Upscaling(k=2, augment=0.1).through(model, sample_ddim)
    assert sample.__name__ == "sample_ddim (cascade, r = 100)"
    x_T, grid = normal(3, 1, 2, 2), uniform_grid(S, 4)
    by_hand = functools.partial(sample_cascade, base(0.0), k=2, r=100, generator=stream())(exact, x_T, S, grid)
    assert torch.equal(sample(exact, x_T, S, grid, generator=stream()), by_hand)
