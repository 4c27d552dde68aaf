"""Guidance against closed form: the score that it stands for, by autograd through an exact denoiser's own densities."""

import pytest
import torch
from test_samplers import normal

from course_utils import recipes
from course_utils.guidance import classifier_free
from course_utils.parameterizations import eps_from_x0, x0_from_eps
from course_utils.samplers import sample_ddim, uniform_grid
from course_utils.schedules import cosine, linear
from course_utils.toy import IdealDenoiser

LABELS = torch.tensor([0, 0, 1, 2, 2, 2, 1])
IMAGES = normal(7, 1, 2, 3).clamp(-1, 1)
ASKED = torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize("schedule", [linear(50, 1e-3, 0.2), cosine(50)])
@pytest.mark.parametrize("t", [5, 20, 45])
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 1.2, 4.0])
def test_the_score_is_that_of_the_density_times_a_power_of_the_class_probability(schedule, t, w):
    """log p(x_t) + w log p(class | x_t), differentiated; neither is made from a denoiser."""
    x_t = normal(5, 1, 2, 3, seed=1).requires_grad_()
    alpha, sigma = (value.item() for value in schedule.coeffs(t))
    exponents = -((x_t[:, None] - alpha * IMAGES).flatten(2).square().sum(-1)) / (2 * sigma**2)
    log_p = exponents.logsumexp(1)
    own = exponents.masked_fill(ASKED[:, None] != LABELS, -torch.inf)
    log_class = own.logsumexp(1) - log_p
    (score,) = torch.autograd.grad((log_p + w * log_class).sum(), x_t)

    x0_hat = classifier_free(IdealDenoiser(IMAGES, schedule, LABELS), w)(x_t.detach(), t, label=ASKED)
    torch.testing.assert_close((alpha * x0_hat - x_t.detach()) / sigma**2, score, rtol=1e-9, atol=1e-9)


def test_in_the_noise_it_is_the_same_line():
    """What papers and diffusers write: eps = uncond + w (cond - uncond)."""
    schedule, x_t, t = linear(50, 1e-3, 0.2), normal(5, 1, 2, 3, seed=1), torch.tensor([1, 7, 20, 33, 50])
    ideal = IdealDenoiser(IMAGES, schedule, LABELS)
    uncond, cond = (eps_from_x0(x_t, ideal(x_t, t, **how), t, schedule) for how in ({}, {"label": ASKED}))
    wanted = x0_from_eps(x_t, uncond + 3 * (cond - uncond), t, schedule)
    torch.testing.assert_close(classifier_free(ideal, 3)(x_t, t, label=ASKED), wanted, rtol=1e-9, atol=1e-9)


def test_of_a_network_it_asks_for_the_class_and_for_none():
    model = recipes.make_model(recipes.RECIPES["mnist-smoke"]).eval()
    with torch.no_grad():
        for p in model.parameters():  # a fresh network's last layer is zero, and its answers all alike
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        x_t, label = normal(4, 1, 28, 28).float(), torch.tensor([3, 1, 4, -1])
        cond, none = model(x_t, 400, label=label), model(x_t, 400, label=torch.full((4,), -1))
        got = classifier_free(model, 2.0)(x_t, 400, label=label)
    torch.testing.assert_close(got, 2 * cond - none)
    assert (got - cond).flatten(1).abs().amax(1)[:3].min() > 1e-4
    torch.testing.assert_close(got[3], cond[3])  # nothing asked, nothing led


def test_a_strong_lead_ends_at_the_class_that_was_asked():
    """With w = 1 DDIM draws an image of the class; with 3, still one of them, since the others' densities fall."""
    schedule = linear(200, 1e-4, 0.1)
    ideal = IdealDenoiser(IMAGES, schedule, LABELS)
    for w in (1.0, 3.0):
        x = sample_ddim(
            classifier_free(ideal, w), normal(5, 1, 2, 3, seed=2), schedule, uniform_grid(schedule, 200), label=ASKED
        )
        nearest = torch.cdist(x.flatten(1), IMAGES.flatten(1)).argmin(1)
        assert torch.equal(LABELS[nearest], ASKED)


def test_a_denoiser_of_another_shape_is_named():
    with pytest.raises(ValueError, match="denoise"):
        classifier_free(lambda x_t, t, **cond: x_t[:1], 1.5)(normal(2, 3), 5, label=torch.tensor([0, 1]))
