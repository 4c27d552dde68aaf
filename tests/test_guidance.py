"""Guidance against closed form: the score that it stands for, by autograd through an exact denoiser's own densities."""

import pytest
import torch
from test_samplers import normal

from course_utils import recipes
from course_utils.classifier import NoisyClassifier
from course_utils.guidance import away_from, away_from_class, classifier_free, classifier_guidance, in_interval
from course_utils.parameterizations import eps_from_x0, score_from_x0, x0_from_eps
from course_utils.samplers import log_snr_grid, sample_ddim, sample_dpmpp_2m, sample_heun, uniform_grid
from course_utils.schedules import VE, VPCosine, cosine, linear, t_at_log_snr
from course_utils.tasks import NoisyClassification
from course_utils.toy import GaussianMixture, IdealDenoiser
from course_utils.training import Training

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


# --- other negatives --------------------------------------------------------------------------------------------------


def log_density(x, schedule, t, means, variance):
    """log of an even mixture of round Gaussians at noise level t, up to a constant; made from no denoiser."""
    alpha, sigma = (value.item() for value in schedule.coeffs(t))
    spread = alpha**2 * variance + sigma**2
    return (-((x[:, None] - alpha * means) ** 2).sum(-1) / (2 * spread)).logsumexp(1)


@pytest.mark.parametrize("w", [0.0, 1.0, 1.7, 3.0])
def test_away_from_a_worse_denoiser_is_a_line_through_the_scores(w):
    schedule, t, x = cosine(50), 30, normal(6, 2, seed=3).requires_grad_()
    means, worse = normal(3, 2, seed=1), normal(2, 2, seed=2)
    log_p = w * log_density(x, schedule, t, means, 0.1) + (1 - w) * log_density(x, schedule, t, worse, 0.5)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    good, bad = (GaussianMixture(m, v).denoiser(schedule) for m, v in ((means, 0.1), (worse, 0.5)))
    x0_hat = away_from(good, bad, w)(x.detach(), t)
    torch.testing.assert_close(score_from_x0(x.detach(), x0_hat, t, schedule), score, rtol=1e-9, atol=1e-9)


def test_both_hear_the_same_condition():
    heard = []

    def told(name):
        return lambda x_t, t, **cond: (heard.append((name, cond)), x_t)[1]

    away_from(told("good"), told("bad"), 2.0)(normal(2, 3), 5, label=ASKED[:2])
    assert sorted(name for name, _ in heard) == ["bad", "good"]
    assert all(torch.equal(cond["label"], ASKED[:2]) for _, cond in heard)


@pytest.mark.parametrize("label", [None, ASKED])
@pytest.mark.parametrize("w", [1.0, 2.5])
def test_away_from_a_class_the_score_is_that_of_the_quotient(label, w):
    schedule, t, x_t = linear(50, 1e-3, 0.2), 20, normal(5, 1, 2, 3, seed=1).requires_grad_()
    alpha, sigma = (value.item() for value in schedule.coeffs(t))
    exponents = -((x_t[:, None] - alpha * IMAGES).flatten(2).square().sum(-1)) / (2 * sigma**2)
    wanted = exponents if label is None else exponents.masked_fill(label[:, None] != LABELS, -torch.inf)
    log_p = w * wanted.logsumexp(1) + (1 - w) * exponents[:, LABELS == 2].logsumexp(1)
    (score,) = torch.autograd.grad(log_p.sum(), x_t)
    ideal, cond = IdealDenoiser(IMAGES, schedule, LABELS), {} if label is None else {"label": label}
    x0_hat = away_from_class(ideal, 2, w)(x_t.detach(), t, **cond)
    torch.testing.assert_close(score_from_x0(x_t.detach(), x0_hat, t, schedule), score, rtol=1e-8, atol=1e-8)


def test_any_class_but_one_needs_another_weight_at_each_point():
    """w = 1 / (1 - p(unwanted | x_t)) leaves the guess of a denoiser that never saw the class; no other w does."""
    schedule, t, x_t = linear(50, 1e-3, 0.2), 20, normal(5, 1, 2, 3, seed=1)
    ideal, kept = IdealDenoiser(IMAGES, schedule, LABELS), LABELS != 2
    p = ideal.class_posterior(x_t, t)[:, 2]
    rest = IdealDenoiser(IMAGES[kept], schedule)(x_t, t)
    for i, w in enumerate((1 / (1 - p)).tolist()):
        one = away_from_class(ideal, 2, w)(x_t[i : i + 1], t)
        torch.testing.assert_close(one, rest[i : i + 1], rtol=1e-7, atol=1e-7)


# --- an interval of noise levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [linear(), cosine(60), VE()])
def test_the_interval_is_one_of_noise_levels(schedule):
    low, high = -2.0, 1.0
    guided, plain = (lambda x_t, t: x_t + 1), (lambda x_t, t: x_t - 1)
    limited, x = in_interval(guided, plain, schedule, low, high), normal(1, 3)
    for log_snr, inside in [(-2.5, False), (-1.5, True), (0.5, True), (1.5, False)]:
        t = t_at_log_snr(log_snr, schedule).item()
        torch.testing.assert_close(limited(x, t), x + 1 if inside else x - 1)


def test_both_ends_belong_to_the_interval_and_a_batch_may_lie_on_both_sides():
    schedule, x = linear(), normal(4, 1, 2, 2)
    t = torch.tensor([900, 500, 300, 10])
    low, high = schedule.log_snr(500).item(), schedule.log_snr(300).item()
    limited = in_interval(lambda x_t, t: x_t + 1, lambda x_t, t: x_t - 1, schedule, low, high)
    torch.testing.assert_close(limited(x, t), x + torch.tensor([-1.0, 1, 1, -1]).double()[:, None, None, None])


def test_calls_are_counted_truly():
    """Two calls within the interval, one outside of it."""
    schedule, asked = linear(), []

    def counted(x_t, t, **cond):
        asked.append(t)
        return 0 * x_t

    limited = in_interval(classifier_free(counted, 3.0), counted, schedule, -3.0, 3.0)
    grid = uniform_grid(schedule, 20)
    sample_ddim(limited, normal(2, 1, 2, 2), schedule, grid, label=ASKED[:2])
    inside = sum(-3 <= schedule.log_snr(t).item() <= 3 for t in grid[:-1])
    assert 0 < inside < 20
    assert len(asked) == 20 + inside


# --- a classifier of noisy images -------------------------------------------------------------------------------------


def exact_classifier(ideal):
    return lambda x_t, t: ideal.class_posterior(x_t, t).log()


@pytest.mark.parametrize("schedule", [linear(50, 1e-3, 0.2), cosine(50)])
@pytest.mark.parametrize("w", [0.0, 1.0, 2.0])
def test_with_the_exact_classifier_it_is_classifier_free_guidance(schedule, w):
    """Bayes: both are the score of p(x_t) p(class | x_t)^w, one by a gradient, the other by a difference."""
    ideal = IdealDenoiser(IMAGES, schedule, LABELS)
    guided, free = classifier_guidance(ideal, exact_classifier(ideal), schedule, w), classifier_free(ideal, w)
    x_t, t = normal(5, 1, 2, 3, seed=1), torch.tensor([8, 14, 20, 33, 45])
    for keeps in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with keeps():
            torch.testing.assert_close(guided(x_t, t, label=ASKED), free(x_t, t, label=ASKED), rtol=1e-8, atol=1e-8)
    assert not guided(x_t, t, label=ASKED).requires_grad


def test_every_sampler_takes_it():
    schedule = linear(50, 1e-3, 0.2)
    ideal, grid, x_T = IdealDenoiser(IMAGES, schedule, LABELS), uniform_grid(schedule, 25), normal(5, 1, 2, 3, seed=4)
    guided = classifier_guidance(ideal, exact_classifier(ideal), schedule, 1.5)
    for sample in (sample_ddim, sample_dpmpp_2m):
        got = sample(guided, x_T, schedule, grid, label=ASKED)
        torch.testing.assert_close(got, sample(classifier_free(ideal, 1.5), x_T, schedule, grid, label=ASKED))


def test_in_pure_noise_no_class_can_be_seen():
    guided = classifier_guidance(lambda x_t, t: x_t, lambda x_t, t: x_t, VPCosine())
    with pytest.raises(ValueError, match="alpha is 0"):
        guided(normal(2, 3), 1.0, label=ASKED[:2])


def test_a_classifier_hears_the_noise_of_any_schedule():
    """x_t of a schedule that keeps the image's size, and of one that keeps the variance: one picture, one answer."""
    classifier, x_0, eps = (
        NoisyClassifier(1, (8, 8)).eval(),
        normal(3, 1, 8, 8).float(),
        normal(3, 1, 8, 8, seed=1).float(),
    )
    answers = []
    for schedule in (VE(), VPCosine()):
        t = t_at_log_snr(0.3, schedule)
        alpha, sigma = (value.float() for value in schedule.coeffs(t))
        answers.append(classifier.at_times_of(schedule)(alpha * x_0 + sigma * eps, t.item()))
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


def test_noisy_classification_shows_images_at_the_noise_level_it_says():
    """Of a black-and-white world: an image of value a in every pixel has mean alpha a and variance sigma²."""
    seen = []

    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(1, 2)

        def forward(self, x_t, log_snr):
            seen.append((x_t, log_snr))
            return self.head(log_snr[:, None])

    run, n, a = Training(Told(), precision=torch.float32), 512, 0.7
    task, label = NoisyClassification(), torch.arange(n) % 2
    losses, levels = task(run, torch.full((n, 1, 16, 16), a), label, torch.Generator().manual_seed(0))
    x_t, log_snr = seen[0]
    assert losses.shape == (n,)
    assert torch.equal(levels, log_snr)
    alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    off = (x_t.mean((1, 2, 3)) - alpha * a) / (sigma / 16)  # 256 pixels
    assert off.abs().max() < 5
    assert abs(off.mean()) < 4 / n**0.5
    ratio = x_t.var((1, 2, 3)) / sigma**2 - 1
    assert ratio.abs().max() < 6 * (2 / 255) ** 0.5
    assert ratio.abs().median() < (2 / 255) ** 0.5
    u = torch.atan(torch.exp(-log_snr / 2).double()) * 2 / torch.pi  # uniform, one in each nth
    assert torch.equal((u * n).floor().clamp(1, n - 2).unique(), torch.arange(1.0, n - 1).double())
    wanted = torch.nn.functional.cross_entropy(run.model.head(log_snr[:, None]), label, reduction="none")
    torch.testing.assert_close(losses, wanted)


# --- guided sampling is not what its score seems to say ---------------------------------------------------------------


@pytest.mark.slow(8)
def test_of_two_gaussians_guidance_ends_at_the_geometric_mean_of_their_variances():
    """Class N(0, c), all N(0, u): the ODE's guided samples have variance c^w u^(1-w); p p(class | x)^w has another."""
    c, u, w = 0.5, 2.0, 2.0
    schedule = VE(0.002, 200.0)
    one, every = (GaussianMixture(torch.zeros(1, 1).double(), v).denoiser(schedule) for v in (c, u))
    x_T = torch.full((1, 1), 200.0).double()  # one standard deviation, and the ODE is linear
    x_0 = sample_heun(away_from(one, every, w), x_T, schedule, log_snr_grid(schedule, 400))
    assert abs(x_0.item() ** 2 / (c**w * u ** (1 - w)) - 1) < 1e-3  # what 400 steps and a sigma of 200 leave: 1e-4
    assert abs(1 / (w / c + (1 - w) / u) / (c**w * u ** (1 - w)) - 1) > 1
