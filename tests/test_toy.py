"""Exact diffusion of Gaussians, mixtures and sets of images: against Bayes, autograd, quadrature and brute force."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from course_utils.forward import q_sample
from course_utils.parameterizations import x0_from_score
from course_utils.schedules import VE, FlowMatching, LearnedSchedule, VPCosine, VPLinear, linear
from course_utils.toy import Gaussian, GaussianMixture, IdealDenoiser

SCHEDULES = {
    "linear": (linear(40, 1e-3, 0.3), (1, 9, 40)),
    "vp_linear": (VPLinear(), (0.02, 0.3, 1.0)),
    "vp_cosine": (VPCosine(), (0.05, 0.5, 0.95)),
    "ve": (VE(), (0.1, 0.5, 1.0)),
    "flow": (FlowMatching(), (0.05, 0.5, 0.95)),
    "learned": (LearnedSchedule(generator=torch.Generator().manual_seed(0)).requires_grad_(False), (0.0, 0.4, 1.0)),
}
each_schedule = pytest.mark.parametrize(("schedule", "some_t"), SCHEDULES.values(), ids=SCHEDULES.keys())


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spd(*shape, d, seed):
    """Random full covariances (*shape, d, d), none of them round."""
    root = draw(*shape, d, d, seed=seed)
    return root @ root.mT / d + 0.05 * torch.eye(d, dtype=torch.float64)


LINE = GaussianMixture(
    torch.tensor([[-1.0], [0.3], [1.2]]).double(), torch.tensor([0.3, 0.02, 0.1]), torch.tensor([0.5, 0.2, 0.3])
)
PLANE = GaussianMixture(draw(3, 2), spd(3, d=2, seed=1), torch.tensor([0.2, 0.3, 0.5]))
IMAGES = GaussianMixture(draw(2, 1, 2, 2), spd(2, d=4, seed=2), torch.tensor([0.4, 0.6]))
DIAGONAL = GaussianMixture(draw(3, 2), 0.1 + draw(3, 2, seed=3).abs())
ONE = Gaussian(draw(3), spd(d=3, seed=4))
MIXTURES = {"line": LINE, "plane": PLANE, "images": IMAGES, "diagonal": DIAGONAL, "one": ONE}
each_mixture = pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES.keys())


def noisy(mixture, t, schedule, n=7, seed=0):
    x_0 = mixture.sample(n, torch.Generator().manual_seed(seed))
    return q_sample(x_0, t, schedule, draw(*x_0.shape, seed=seed + 1))


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def covariances(mixture):
    """The full covariances that a mixture was made from, put together again from its axes."""
    full = torch.diag_embed(mixture.variances)
    return full if mixture.axes is None else mixture.axes @ full @ mixture.axes.mT


def as_distribution(mixture, t=None, schedule=None):
    alpha, sigma = (1, 0) if schedule is None else schedule.coeffs(t)
    covariance = alpha**2 * covariances(mixture) + sigma**2 * torch.eye(mixture.means.shape[1], dtype=torch.float64)
    return MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(alpha * mixture.means, covariance))


# --- Gaussians and mixtures ------------------------------------------------------------------------------------------


def test_covariances_are_the_ones_given():
    close(covariances(PLANE), spd(3, d=2, seed=1))
    close(covariances(ONE)[0], spd(d=3, seed=4))


@each_mixture
@each_schedule
def test_log_prob_and_responsibilities_are_those_of_torch_and_bayes(mixture, schedule, some_t):
    for t in some_t:
        x = noisy(mixture, t, schedule)
        torchs = as_distribution(mixture, t, schedule)
        flat = x.flatten(1)
        close(mixture.log_prob(x, t, schedule), torchs.log_prob(flat))
        joint = mixture.weights * torchs.component_distribution.log_prob(flat[:, None]).exp()
        close(mixture.responsibilities(x, t, schedule), joint / joint.sum(1, keepdim=True))
    x = noisy(mixture, some_t[0], schedule)
    close(mixture.log_prob(x), as_distribution(mixture).log_prob(x.flatten(1)))


@each_mixture
@each_schedule
def test_score_is_the_gradient_of_log_prob(mixture, schedule, some_t):
    for t in (None, *some_t):
        level = () if t is None else (t, schedule)
        x = noisy(mixture, some_t[0] if t is None else t, schedule).requires_grad_()
        wanted = torch.autograd.grad(mixture.log_prob(x, *level).sum(), x)[0]
        close(mixture.score(x.detach(), *level), wanted)


@each_mixture
@each_schedule
def test_denoising_is_tweedie(mixture, schedule, some_t):
    for t in some_t:
        x = noisy(mixture, t, schedule)
        close(mixture.denoise(x, t, schedule), x0_from_score(x, mixture.score(x, t, schedule), t, schedule), 1e-7)
        close(mixture.denoiser(schedule)(x, t, label=3), mixture.denoise(x, t, schedule))


@each_schedule
def test_denoising_and_log_prob_are_integrals_over_the_clean_data(schedule, some_t):
    x_0 = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    for t in some_t:
        alpha, sigma = schedule.coeffs(t)
        if sigma < 0.01:
            continue  # narrower than the grid
        x = noisy(LINE, t, schedule)
        log_joint = as_distribution(LINE).log_prob(x_0[:, None]) - (x - alpha * x_0) ** 2 / (2 * sigma**2)
        log_joint = log_joint - sigma.log() - math.log(2 * math.pi) / 2
        log_prob = torch.logsumexp(log_joint, 1) + math.log(12 / 20_000)
        close(LINE.log_prob(x, t, schedule), log_prob)
        close(LINE.denoise(x, t, schedule)[:, 0], torch.softmax(log_joint, 1) @ x_0)


def test_a_gaussian_shrinks_towards_its_mean():
    # One Gaussian with variance S: E[x_0 | x_t] = mu + alpha S / (alpha² S + sigma²) (x_t - alpha mu).
    mean, variance = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([0.25, 4.0], dtype=torch.float64)
    x = draw(5, 2)
    alpha, sigma = 0.4, 0.6
    gain = alpha * variance / (alpha**2 * variance + sigma**2)
    for given in (variance, variance.diag()):
        close(Gaussian(mean, given).denoise(x, 0.6, FlowMatching()), mean + gain * (x - alpha * mean))


@each_mixture
def test_clean_data_need_no_denoising(mixture):
    x = mixture.sample(5, torch.Generator().manual_seed(0))
    for schedule, t in ((linear(10), 0), (VE(), 0.0)):
        close(mixture.denoise(x, t, schedule), x)
        close(mixture.log_prob(x, t, schedule), mixture.log_prob(x))


def test_full_diagonal_and_round_covariances_agree_when_equal():
    means, weights, x = draw(3, 2), torch.tensor([0.2, 0.3, 0.5]), draw(5, 2, seed=1)
    eye = torch.eye(2, dtype=torch.float64)
    seven = torch.full((3,), 0.7, dtype=torch.float64)
    each = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)  # one variance a part
    along = torch.tensor([0.3, 1.5], dtype=torch.float64)  # one a direction
    for ways in (
        [0.7, seven, seven[:, None], seven[:, None].expand(3, 2), 0.7 * eye.expand(3, 2, 2)],
        [each, each[:, None], each[:, None].expand(3, 2), each[:, None, None] * eye],
        [along, along[None], along.expand(3, 2), along.diag().expand(3, 2, 2)],
    ):
        first, *others = (GaussianMixture(means, way, weights) for way in ways)
        for other in others:
            for function in ("log_prob", "responsibilities", "score", "denoise"):
                one, two = (getattr(mixture, function)(x, 0.3, VPLinear()) for mixture in (first, other))
                close(one, two)


@pytest.mark.parametrize("seed", range(8))
def test_data_on_a_line_stay_on_it(seed):
    # A covariance of rank one: rounding leaves eigenvalues a hair to either side of zero.
    along = torch.nn.functional.normalize(draw(5, seed=seed), dim=0)
    line = Gaussian(torch.zeros(5).double(), 4 * torch.outer(along, along))
    x_0 = line.sample(10, torch.Generator().manual_seed(0))
    x_t = q_sample(x_0, 0.5, VPLinear(), draw(10, 5, seed=1))
    for x in (x_0, line.denoise(x_t, 0.5, VPLinear())):
        assert (x - x @ torch.outer(along, along)).abs().max() < 1e-6 * x.abs().max()


def test_an_image_is_its_row_of_pixels():
    rows = GaussianMixture(draw(2, 1, 2, 2).flatten(1), spd(2, d=4, seed=2), torch.tensor([0.4, 0.6]))
    x = draw(5, 1, 2, 2, seed=5)
    for function in ("score", "denoise"):
        close(
            getattr(IMAGES, function)(x, 0.4, VPLinear()).flatten(1),
            getattr(rows, function)(x.flatten(1), 0.4, VPLinear()),
        )
    assert torch.equal(
        IMAGES.sample(3, torch.Generator().manual_seed(0)).flatten(1), rows.sample(3, torch.Generator().manual_seed(0))
    )


@each_mixture
def test_one_time_per_point_is_point_by_point(mixture):
    x, t = noisy(mixture, 5, linear(10), n=3), torch.tensor([1, 5, 10])
    for function in ("log_prob", "responsibilities", "score", "denoise"):
        together = getattr(mixture, function)(x, t, linear(10))
        alone = [getattr(mixture, function)(x[[i]], t[i].item(), linear(10)) for i in range(3)]
        close(together, torch.cat(alone), 1e-12)


@each_mixture
def test_samples_have_the_moments_of_the_mixture(mixture):
    n, K = 20_000, len(mixture.means)
    x, part = mixture.sample(n, torch.Generator().manual_seed(0), return_parts=True)
    assert x.shape == (n, *mixture.shape)
    assert torch.equal(mixture.sample(n, torch.Generator().manual_seed(0)), x)
    counts = torch.bincount(part, minlength=K)
    assert ((counts - n * mixture.weights).abs() <= 4 * (n * mixture.weights * (1 - mixture.weights)).sqrt()).all()
    for k in range(K):
        own, S, m = x.flatten(1)[part == k], covariances(mixture)[k], counts[k]
        assert ((own.mean(0) - mixture.means[k]).abs() < 4 * (S.diag() / m).sqrt()).all()
        standard_error = ((S**2 + torch.outer(S.diag(), S.diag())) / m).sqrt()  # of a Gaussian's sample covariance
        assert ((own.T.cov().reshape(S.shape) - S).abs() < 4 * standard_error).all()


def test_sampling_is_repeatable_in_either_precision_and_leaves_the_global_stream_alone():
    state = torch.get_rng_state()
    single = GaussianMixture(PLANE.means.float(), spd(3, d=2, seed=1), PLANE.weights)
    x, y = (mixture.sample(9, torch.Generator().manual_seed(3)) for mixture in (PLANE, single))
    assert y.dtype == torch.float32
    torch.testing.assert_close(x.float(), y)
    assert torch.equal(torch.get_rng_state(), state)


@each_schedule
def test_no_other_denoiser_errs_less(schedule, some_t):
    n, t = 20_000, some_t[1]
    mixture = PLANE
    x_0 = mixture.sample(n, torch.Generator().manual_seed(0))
    x_t = q_sample(x_0, t, schedule, draw(n, 2, seed=1))
    exact = mixture.denoise(x_t, t, schedule)
    earlier, later = (t // 2, 2 * t) if schedule.T else (0.6 * t, 1.5 * t)
    others = [
        0.9 * exact,
        1.1 * exact,
        exact + 0.1,
        exact - 0.1,
        mixture.denoise(x_t, earlier, schedule),
        mixture.denoise(x_t, later, schedule),
        mixture.means[mixture.responsibilities(x_t, t, schedule).argmax(1)],
    ]
    for other in others:
        worse = ((other - x_0) ** 2).sum(1) - ((exact - x_0) ** 2).sum(1)
        assert worse.mean() > 4 * worse.std() / n**0.5


# --- a set of images -------------------------------------------------------------------------------------------------

SET = draw(12, 1, 2, 3, seed=6).clamp(-1, 1)
LABELS = torch.tensor([0, 2, 1, 0, 0, 2, 1, 1, 2, 0, 2, 0])


def brute_force(x, t, schedule, images=SET):
    """Bayes, one image at a time: the p_i of every image and the mean."""
    alpha, sigma = (value.item() for value in schedule.coeffs(t))
    rows, means = [], []
    for one in x:
        logs = [-((one - alpha * image) ** 2).sum().item() / (2 * sigma**2) for image in images]
        p = [math.exp(log - max(logs)) for log in logs]
        p = [value / sum(p) for value in p]
        rows.append(p)
        means.append(sum(value * image for value, image in zip(p, images, strict=True)))
    return torch.tensor(rows, dtype=torch.float64), torch.stack(means)


@each_schedule
def test_ideal_denoiser_is_bayes_by_brute_force(schedule, some_t):
    ideal = IdealDenoiser(SET, schedule, LABELS)
    for t in some_t:
        x = q_sample(SET[:5], t, schedule, draw(5, 1, 2, 3, seed=8))
        p, mean = brute_force(x, t, schedule)
        close(ideal(x, t), mean)
        classes = torch.stack([p[:, label == LABELS].sum(1) for label in range(3)], 1)
        close(ideal.class_posterior(x, t), classes)
        for label in range(3):
            own = SET[label == LABELS]
            wanted = brute_force(x, t, schedule, own)[1]
            close(ideal(x, t, label=torch.full((5,), label)), wanted)
            close(IdealDenoiser(own, schedule)(x, t), wanted)


@each_schedule
def test_a_mixture_without_width_is_the_ideal_denoiser(schedule, some_t):
    ideal = IdealDenoiser(SET, schedule)
    for points in (GaussianMixture(SET, 0.0), GaussianMixture(SET, torch.zeros(12, 6, 6))):
        for t in some_t:
            x = q_sample(SET[:5], t, schedule, draw(5, 1, 2, 3, seed=8))
            close(ideal(x, t), points.denoise(x, t, schedule))


def test_labels_may_differ_within_a_batch_and_times_too():
    ideal = IdealDenoiser(SET, linear(10), LABELS)
    x, t, label = draw(3, 1, 2, 3), torch.tensor([2, 5, 10]), torch.tensor([1, 0, 2])
    together = ideal(x, t, label=label, unknown_condition="ignored")
    alone = [ideal(x[[i]], t[i].item(), label=label[[i]]) for i in range(3)]
    close(together, torch.cat(alone), 1e-12)


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision_in_means_rounding_and_nothing_else(dtype, autocast):
    # Two images 0.001 a pixel apart and a noise of 0.01: in float32 arithmetic the logits would be off by about one.
    base = draw(1, 784).sign()
    images = torch.cat([base, base + 0.001 * draw(1, 784, seed=1), draw(8, 784, seed=2).sign()]).to(dtype)
    labels = torch.arange(10)
    schedule = linear(1000)
    ideal, exact = IdealDenoiser(images, schedule, labels), IdealDenoiser(images.double(), schedule, labels)
    points, exact_points = GaussianMixture(images, 1e-4), GaussianMixture(images.double(), 1e-4)
    for t in (1, 2, 50, 500, 1000):
        x = q_sample(images[:3].double(), t, schedule, draw(3, 784, seed=3)).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            got = [
                ideal(x, t),
                ideal.class_posterior(x, t),
                points.denoise(x, t, schedule),
                points.score(x, t, schedule),
                points.log_prob(x, t, schedule),
            ]
        wanted = [
            exact(x.double(), t),
            exact.class_posterior(x.double(), t),
            exact_points.denoise(x.double(), t, schedule),
            exact_points.score(x.double(), t, schedule),
            exact_points.log_prob(x.double(), t, schedule),
        ]
        for one, other in zip(got, wanted, strict=True):
            assert one.dtype == dtype
            assert one.isfinite().all()
            # half a unit in the last place for the result, and a little for the order of float64 sums
            torch.testing.assert_close(one.double(), other, rtol=torch.finfo(dtype).eps, atol=1e-9)


def test_ill_conditioned_covariances_survive_float32():
    S = torch.tensor([[1.0, 0.999], [0.999, 1.0]])
    mean, x = torch.zeros(2), torch.tensor([[0.3, 0.31]])
    single, double = Gaussian(mean, S), Gaussian(mean.double(), S.double())
    one, other = single.score(x), double.score(x.double())
    torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=0)


def test_one_matrix_for_all_parts_is_not_taken_for_their_variances():
    means = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    for matrix in (torch.eye(2), torch.tensor([[1.0, 0.3], [0.3, 1.0]])):
        with pytest.raises(ValueError, match=r"one for all; give .*\(1, 2\).*or \(2, 2, 2\), for matrices"):
            GaussianMixture(means, matrix)
    GaussianMixture(means, torch.full((2, 2), 0.04))
    GaussianMixture(means, torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
