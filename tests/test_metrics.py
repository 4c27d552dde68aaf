"""FID is the Fréchet distance, its interval covers, KID is unbiased, neighbours are the nearest; the classifier sees
what it is shown; samples are drawn as asked."""

import functools
import itertools
import math

import pytest
import torch
from torch import nn

from course_utils import metrics
from course_utils.classifier import Classifier, look_at
from course_utils.data import denormalize, load_images, normalize, shifted
from course_utils.denoisers import Denoiser
from course_utils.metrics import (
    chance_fid,
    copied,
    draw_images,
    fid,
    fid_interval,
    gaussian_chance_fid,
    kid,
    nearest,
    precision_recall,
    ratio_test,
    samples_only_accuracy,
    share,
    subset,
    two_nearest,
)
from course_utils.samplers import quadratic_grid, sample_ddim, sample_ddpm, sample_heun, uniform_grid
from course_utils.schedules import VE, cosine
from course_utils.tasks import Classification
from course_utils.toy import Gaussian
from course_utils.training import Training, train


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=stream(seed), dtype=dtype)


# --- FID -------------------------------------------------------------------------------------------------------------


def with_moments(x, mean, root):
    """x moved and turned until its sample mean and covariance are exactly mean and root root^T."""
    x = x - x.mean(0)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return whitened @ root.T + mean


def test_fid_is_the_closed_form_for_covariances_that_commute():
    a = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    b = torch.tensor([4.0, 1.0, 16.0], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    turn = torch.linalg.qr(normal(3, 3))[0]
    x = with_moments(normal(50, 3, seed=1), mean, turn @ a.sqrt().diag())
    y = with_moments(normal(70, 3, seed=2), 0 * mean, turn @ b.sqrt().diag())
    wanted = mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert fid(x, y) == pytest.approx(wanted.item(), rel=1e-6)
    assert fid(y, x) == pytest.approx(wanted.item(), rel=1e-6)


def test_fid_of_any_two_covariances_is_that_of_an_independent_root():
    """tr (S R)^{1/2} = tr (R^{1/2} S R^{1/2})^{1/2}, from symmetric eigendecompositions alone."""

    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T

    x, y = normal(200, 5) @ normal(5, 5, seed=1), normal(300, 5, seed=2) @ normal(5, 5, seed=3) + 0.3
    S, R = torch.cov(x.T), torch.cov(y.T)
    cross = root(root(R) @ S @ root(R)).trace()
    wanted = (x.mean(0) - y.mean(0)).square().sum() + S.trace() + R.trace() - 2 * cross
    assert fid(x, y) == pytest.approx(wanted.item(), rel=1e-6)
    assert fid(x.float(), y.float()) == pytest.approx(wanted.item(), rel=1e-4)


def test_fid_of_a_set_with_itself_is_zero_and_of_two_samples_is_not():
    x = normal(500, 8)
    assert abs(fid(x, x)) < 1e-6
    assert fid(x, normal(500, 8, seed=1)) == pytest.approx(gaussian_chance_fid(torch.ones(8), 500, 500), rel=0.5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(10, 3), r"reference: wanted shape \(m, d\), d = 3 as in features, got \(10, 2\)"),
        (torch.zeros(1, 2), "features: wanted 2 rows or more"),
        (torch.full((10, 2), math.nan), "features: wanted finite numbers"),
    ],
)
def test_fid_says_what_is_wrong(x, message):
    with pytest.raises(ValueError, match=message):
        fid(x, torch.zeros(10, 2))


def test_a_subset_is_random_without_repetition():
    x = torch.arange(1000.0)[:, None]
    chosen = subset(x, 100, stream())
    assert len(chosen.unique()) == 100
    assert chosen.mean().item() == pytest.approx(499.5, abs=4 * 1000 / math.sqrt(12 * 100))
    assert torch.equal(subset(x, 1000, stream()).sort(0).values, x)
    with pytest.raises(ValueError, match="n: wanted 1 … 1000, got 1001"):
        subset(x, 1001, stream())
    images = torch.arange(6, dtype=torch.uint8).reshape(3, 1, 1, 2)
    assert subset(images, 3, stream()).sort(0).values.equal(images)  # rows of anything


# --- the chance in FID -----------------------------------------------------------------------------------------------


def chance(draw, n, m, reps=600):
    """Mean FID of two sets that `draw` makes, and its standard error."""
    figures = torch.tensor([fid(draw(n, 2 * i), draw(m, 2 * i + 1)) for i in range(reps)])
    return figures.mean().item(), figures.std().item() / math.sqrt(reps)


def test_chance_fid_of_gaussians_is_what_it_says():
    root = torch.linalg.qr(normal(3, 3))[0] @ torch.tensor([2.0, 1.5, 1.0]).double().diag()
    mean, error = chance(lambda n, seed: normal(n, 3, seed=seed) @ root.T, 1500, 800)
    wanted = gaussian_chance_fid(torch.tensor([4.0, 2.25, 1.0]), 1500, 800)
    assert mean == pytest.approx(wanted, abs=4 * error)
    assert error < 0.03 * wanted
    # All eigenvalues 1: (d² + 5 d) / (4 n) for each set.
    assert gaussian_chance_fid(torch.ones(64), 100) == pytest.approx((64**2 + 5 * 64) / 400)
    assert gaussian_chance_fid(torch.ones(64), 100, 50) == pytest.approx((64**2 + 5 * 64) / 4 * (1 / 100 + 1 / 50))
    # A direction without any variance has no chance in it.
    assert gaussian_chance_fid(torch.tensor([2.0, 0.0]), 10) == pytest.approx(
        gaussian_chance_fid(torch.ones(1) * 2, 10)
    )


def test_chance_fid_knows_heavy_tails():
    """Exponential numbers: E z⁴ = 9, so 1 + 8 / 4 = 3 where a Gaussian of their variance has 3 / 2."""

    def draw(n, seed):
        return -torch.rand(n, 1, generator=stream(seed), dtype=torch.float64).clamp(min=1e-12).log()

    features = draw(400_000, 9999)
    assert chance_fid(features, 700, 700) == pytest.approx(3 * 2 / 700, rel=0.05)
    mean, error = chance(draw, 700, 700)
    assert mean == pytest.approx(3 * 2 / 700, abs=4 * error + 0.02 * 3 * 2 / 700)
    assert gaussian_chance_fid(torch.ones(1), 700, 700) < mean - 4 * error
    x = normal(100_000, 4)
    assert chance_fid(x, 50) == pytest.approx(gaussian_chance_fid(torch.ones(4), 50), rel=0.05)


def known_pair(n, reps):
    """`reps` draws of n from one Gaussian, a reference with exactly the moments of another, and their distance."""
    spread, mean = torch.tensor([1.5, 1.0, 0.7, 0.4]).double(), torch.tensor([0.4, 0.0, -0.2, 0.0]).double()
    reference = with_moments(normal(500, 4, seed=999), torch.zeros(4).double(), torch.eye(4).double())
    draws = [normal(n, 4, seed=seed) * spread + mean for seed in range(reps)]
    return draws, reference, (mean.square().sum() + (spread - 1).square().sum()).item()


@pytest.mark.slow
def test_the_interval_covers_and_the_correction_removes_the_bias():
    draws, reference, truth = known_pair(300, 200)
    found = [fid_interval(x, reference, resamples=100, generator=stream(i)) for i, x in enumerate(draws)]
    values = torch.tensor([e.value for e in found], dtype=torch.float64)
    corrected = torch.tensor([e.corrected for e in found], dtype=torch.float64)
    assert values.tolist() == [fid(x, reference) for x in draws]
    error = values.std().item() / math.sqrt(200)
    assert corrected.mean().item() == pytest.approx(truth, abs=4 * error)
    assert values.mean() > truth + 4 * error
    inside = sum(e.low < values.mean() < e.high for e in found) / 200
    assert inside > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 200)
    width = sum(e.high - e.low for e in found) / 200
    assert width == pytest.approx(2 * 1.96 * values.std().item(), rel=0.2)


def test_near_the_floor_the_bias_is_known_and_the_interval_is_too_wide_rather_than_too_narrow():
    reference = with_moments(normal(500, 4, seed=999), torch.zeros(4).double(), torch.eye(4).double())
    draws = [normal(400, 4, seed=seed) for seed in range(60)]
    found = [fid_interval(x, reference, resamples=100, generator=stream(i)) for i, x in enumerate(draws)]
    bias = torch.tensor([e.bias for e in found])
    wanted = gaussian_chance_fid(torch.ones(4), 400)
    assert bias.mean().item() == pytest.approx(wanted, abs=4 * bias.std().item() / math.sqrt(60) + 0.02 * wanted)
    mean = sum(e.value for e in found) / 60
    assert sum(e.low < mean < e.high for e in found) / 60 > 0.9
    assert all(0 <= e.low <= e.high for e in found)


def test_an_interval_is_repeatable_wider_at_a_higher_level_and_readable():
    x, y = normal(200, 3) + 0.5, normal(300, 3, seed=1)
    a, b = (fid_interval(x, y, generator=stream()) for _ in range(2))
    assert a == b
    wide = fid_interval(x.float(), y.float(), level=0.99, generator=stream())
    assert wide.high - wide.low > 1.1 * (a.high - a.low)
    assert str(a) == f"{a.value:.3g} [{a.low:.3g}, {a.high:.3g}]"
    one = fid_interval(x[:, :1], y[:, :1], generator=stream())
    assert one.low < one.value < one.high
    with pytest.raises(ValueError, match=r"level: wanted a number in \(0, 1\)"):
        fid_interval(x, y, level=95, generator=stream())
    with pytest.raises(ValueError, match="resamples: wanted 2 or more"):
        fid_interval(x, y, resamples=1, generator=stream())


def test_wilsons_interval_solves_its_equation_and_covers():
    z = 1.959963984540054
    for hits, n in [(0, 10), (3, 10), (50, 100), (9964, 10_000), (7, 7)]:
        found = share(hits, n)
        assert found.value == hits / n
        for p in (found.low, found.high):
            if 1e-9 < p < 1:
                assert abs(hits / n - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n))
    assert share(10, 10).low == pytest.approx(10 / (10 + z**2))
    assert share(0, 10).low == pytest.approx(0, abs=1e-12)
    assert share(10, 10).high == pytest.approx(1)
    covered = []
    for p in torch.linspace(0.02, 0.98, 49).tolist():  # exactly, by adding up the binomial distribution
        weights = [math.comb(40, k) * p**k * (1 - p) ** (40 - k) for k in range(41)]
        covered.append(sum(w for k, w in enumerate(weights) if share(k, 40).low <= p <= share(k, 40).high))
    assert sum(covered) / 49 == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.9
    with pytest.raises(ValueError, match="hits: wanted 0 … 3, got 4"):
        share(4, 3)


# --- KID -------------------------------------------------------------------------------------------------------------


def kernel(a, b):
    return (a @ b / len(a) + 1) ** 3


def test_kid_is_unbiased_even_with_two_images():
    """Over all pairs that can be drawn from two sets of four points, its mean is the distance of the sets."""
    x, y = normal(4, 2), normal(4, 2, seed=1) + 0.5
    truth = sum(kernel(a, b) + kernel(c, d) - 2 * kernel(a, c) for a, b, c, d in itertools.product(x, x, y, y)) / 4**4
    pairs = list(itertools.product(range(4), repeat=2))
    found = [kid(x[list(i)], y[list(j)], subsets=1, generator=stream()) for i in pairs for j in pairs]
    assert sum(found) / len(found) == pytest.approx(truth.item(), rel=1e-6)
    assert min(found) < 0


def test_kid_of_whole_sets_is_the_statistic_by_hand():
    x, y = normal(6, 3), normal(6, 3, seed=1) + 1
    within = [sum(kernel(a, b) for a, b in itertools.permutations(z, 2)) / 30 for z in (x, y)]
    across = sum(kernel(a, b) for a in x for b in y) / 36
    assert kid(x, y, subsets=3, generator=stream()) == pytest.approx((sum(within) - 2 * across).item(), rel=1e-6)


def test_kid_draws_from_its_generator_alone():
    x, y = normal(50, 3), normal(80, 3, seed=1)
    before = torch.random.get_rng_state()
    figures = [kid(x, y, subset_size=10, subsets=5, generator=stream(seed)) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert figures[0] == figures[1] != figures[2]
    with pytest.raises(ValueError, match="subset_size: wanted 2 … 50, the images of the smaller set, got 51"):
        kid(x, y, subset_size=51, generator=stream())


# --- neighbours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "features", "floats"])
def test_nearest_are_the_nearest_whatever_the_batch(kind):
    if kind == "bytes":
        x, y = (torch.randint(0, 256, (n, 1, 5, 4), generator=stream(n), dtype=torch.uint8) for n in (23, 90))
    else:
        x, y = (normal(n, 7, seed=n, dtype=torch.float32 if kind == "floats" else torch.float64) for n in (23, 90))
    table = torch.stack([(y.double() - row.double()).flatten(1).norm(dim=1) for row in x])
    wanted, order = table.sort(1)
    for batch_size in (1, 4, 1000):
        distance, index = nearest(x, y, k=3, batch_size=batch_size)
        torch.testing.assert_close(distance.double(), wanted[:, :3], rtol=1e-6, atol=0)
        assert torch.equal(index, order[:, :3])
    distance, index = nearest(y[40:50], y)
    assert (distance == 0).all()
    assert torch.equal(index[:, 0], torch.arange(40, 50))


@pytest.mark.parametrize(
    ("x", "y", "k", "error", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(4, 2), 1, ValueError, r"images: wanted shape \(n, 2\), .* got \(2, 3\)"),
        (torch.zeros(2, 3), torch.zeros(4, 3), 5, ValueError, "k: wanted 1 … 4"),
        (torch.zeros(2, 3), torch.zeros(4, 3, dtype=torch.uint8), 1, TypeError, "images: wanted the kind of numbers"),
    ],
)
def test_nearest_says_what_is_wrong(x, y, k, error, message):
    with pytest.raises(error, match=message):
        nearest(x, y, k=k)


def test_precision_and_recall_on_a_line_by_hand():
    """Balls of the real points: [-1, 1], [0, 2], [1, 3], [2, 18]; of the samples: [-1.5, 2.5], [1.5, 3.5], [2.5, 4.5],
    [-100.5, 0.5]."""
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    samples = torch.tensor([[0.5], [2.5], [3.5], [-50.0]])
    assert precision_recall(samples, real, k=1) == (3 / 4, 3 / 4, 5 / 4, 4 / 4)
    assert precision_recall(real, samples, k=1) == (3 / 4, 3 / 4, 5 / 4, 3 / 4)


def by_definition(features, reference, k):
    def balls(x):
        return [(p, sorted((p - q).norm().item() for q in x)[k]) for p in x]

    def held(points, in_balls):
        return [[(p - c).norm().item() <= r for c, r in in_balls] for p in points]

    inside = held(features, balls(reference))
    precision = sum(map(any, inside)) / len(features)
    recall = sum(map(any, held(reference, balls(features)))) / len(reference)
    density = sum(map(sum, inside)) / (k * len(features))
    return precision, recall, density, sum(map(any, zip(*inside, strict=True))) / len(reference)


def test_precision_and_recall_are_their_definition_whatever_the_batch():
    real, samples = normal(60, 3), 0.6 * normal(45, 3, seed=1) + 0.8
    for k in (1, 3):
        wanted = by_definition(samples, real, k)
        assert 0.2 < wanted[1] < wanted[0] < 1  # neither trivial nor alike
        for batch_size in (7, 1000):
            assert precision_recall(samples, real, k=k, batch_size=batch_size) == pytest.approx(wanted)


def two_clouds():
    return normal(300, 8), 0.8 * normal(250, 8, seed=1) + 0.3


def test_precision_and_recall_are_those_of_torch_fidelity():
    pytest.importorskip("torch_fidelity", minversion="0.4")  # before, the real ones came first
    from torch_fidelity import metric_prc as library

    real, samples = two_clouds()
    options = {"prc_neighborhood": 5, "prc_batch_size": 100, "save_cpu_ram": True, "verbose": False}
    theirs = library.prc_features_to_metric(samples, real, **options)
    found = precision_recall(samples, real, k=5)
    assert (found.precision, found.recall) == pytest.approx((theirs["precision"], theirs["recall"]))


def test_precision_recall_density_and_coverage_are_those_of_prdc():
    library, (real, samples) = pytest.importorskip("prdc"), two_clouds()
    theirs = library.compute_prdc(real_features=real.numpy(), fake_features=samples.numpy(), nearest_k=5)
    assert precision_recall(samples, real, k=5)._asdict() == pytest.approx(theirs)


def test_copies_have_full_precision_and_so_has_a_set_against_itself():
    real = normal(200, 5).float()
    assert precision_recall(real, real)[:2] == (1, 1)
    few = precision_recall(real[:40], real)
    assert few.precision == 1
    assert few.coverage < 0.8
    with pytest.raises(ValueError, match=r"k: wanted 1 … 2, fewer than the smaller set has, got 3"):
        precision_recall(real[:3], real)


def test_copies_are_noticed_and_new_images_are_not():
    train = torch.randint(0, 256, (400, 1, 4, 4), generator=stream(), dtype=torch.uint8)
    unseen, fresh = (torch.randint(0, 256, (1000, 1, 4, 4), generator=stream(i), dtype=torch.uint8) for i in (1, 2))
    found = copied(fresh, train, unseen, quantile=0.05)
    assert found.value == pytest.approx(0.05, abs=4 * math.sqrt(2 * 0.05 * 0.95 / 1000))
    half = copied(torch.cat([fresh, train, train, train[:200]]), train, unseen, quantile=0.05)
    assert half.value == pytest.approx((1 + found.value) / 2)
    assert half.low < half.value < half.high
    with pytest.raises(ValueError, match=r"quantile: wanted a number in \(0, 1\)"):
        copied(fresh, train, unseen, quantile=5)


# --- samples ---------------------------------------------------------------------------------------------------------


class Marked:
    """A denoiser of one grey for each class; remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, x_t, t, label=None):
        self.calls.append((len(x_t), t))
        grey = torch.zeros(len(x_t)) if label is None else label.float() / 10
        return grey[:, None, None, None].expand_as(x_t)


def test_samples_come_in_classes_of_equal_size_as_bytes():
    denoise, done = Marked(), []
    images, labels = draw_images(
        denoise, cosine(100), (1, 4, 4), 25, timesteps=[100, 67, 33, 0], num_classes=10, generator=stream(),
        batch_size=10, progress=done.append,
    )  # fmt: skip
    assert (images.shape, images.dtype) == ((25, 1, 4, 4), torch.uint8)
    assert labels.tolist() == [i % 10 for i in range(25)]
    assert torch.equal(images[:, 0, 0, 0], denormalize(labels / 10))
    assert done == [10, 10, 5]
    assert denoise.calls == [(size, t) for size in (10, 10, 5) for t in (100, 67, 33)]
    images, labels = draw_images(Marked(), cosine(100), (3, 4, 4), 2, timesteps=[100, 0], generator=stream())
    assert labels.tolist() == [-1, -1]
    assert (images == 128).all()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [cosine(200), VE()], ids=["cosine", "ve"])
def test_samples_start_from_noise_of_the_last_level(schedule):
    """Of a Gaussian that is known exactly, DDIM makes its moments; bytes round by up to 1/255."""
    law = Gaussian(torch.full((4,), 0.2, dtype=torch.float64), 0.01 * torch.eye(4, dtype=torch.float64))
    images, _ = draw_images(
        lambda x, t: law.denoise(x.flatten(1), t, schedule).reshape(x.shape).to(x), schedule, (1, 2, 2), 4000,
        timesteps=uniform_grid(schedule, 200), generator=stream(),
    )  # fmt: skip
    x = normalize(images)
    assert x.mean().item() == pytest.approx(0.2, abs=5 * 0.1 / math.sqrt(16_000) + 1e-3)
    assert x.std().item() == pytest.approx(0.1, rel=0.05)


# --- the classifier --------------------------------------------------------------------------------------------------


def test_shifted_moves_each_image_by_its_own_amount():
    x = normal(3, 2, 6, 5)
    by = torch.tensor([[0, 0], [2, -1], [-1, 2]])
    moved = shifted(x, by)
    assert torch.equal(moved[0], x[0])
    assert torch.equal(moved[1, :, 2:, :-1], x[1, :, :-2, 1:])  # down by two, left by one
    assert torch.equal(moved[2, :, :-1, 2:], x[2, :, 1:, :-2])
    assert torch.equal(moved[1, :, 0, 0], x[1, :, 2, 1])  # mirrored at the edge


def stripes(n, seed=0):
    """Four orientations of a wave, at random places, and which it is: only who tolerates shifts tells them apart."""
    g = stream(seed)
    labels = torch.randint(0, 4, (n,), generator=g)
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    angle, phase = labels * math.pi / 4, torch.rand(n, generator=g) * 2 * math.pi
    wave = angle.cos()[:, None, None] * row + angle.sin()[:, None, None] * column
    return denormalize((1.5 * wave + phase[:, None, None]).sin()[:, None] * 0.9), labels


def test_a_classifier_learns_what_can_be_learned_and_shifts_see_every_offset():
    images, labels = stripes(800)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run = Training(Classifier(1, (8, 16), num_classes=4), lr=0.01, ema=0.9, precision=torch.float32)
    for _ in train(run, images[:600], labels[:600], steps=120, batch_size=50, warmup=5, task=Classification(shift=1)):
        pass
    classifier = run.averaged()
    features, seen = look_at(classifier, images[600:], batch_size=70)
    assert (seen == labels[600:]).float().mean() > 0.95
    assert (features.shape, features.dtype, features.isfinite().all()) == ((200, 16), torch.float32, True)
    assert torch.equal(classifier.head(features).argmax(1), seen)
    assert torch.equal(look_at(classifier.train(), images[600:])[1], seen)  # it sees to eval mode by itself


@pytest.mark.slow
def test_a_classifier_that_saw_only_samples_knows_what_they_lack():
    (images, labels), test = stripes(600), stripes(400, seed=1)
    settings = {"steps": 120, "batch_size": 50, "lr": 0.01, "shift": 1, "widths": (8, 16), "precision": torch.float32}
    before, steps = torch.random.get_rng_state(), []
    good = samples_only_accuracy(images, labels, *test, **settings, progress=lambda record: steps.append(record.step))
    assert good.value > 0.95
    assert steps == list(range(1, 121))
    assert torch.equal(before, torch.random.get_rng_state())
    assert samples_only_accuracy(images, labels, *test, **settings) == good
    three = samples_only_accuracy(images[labels != 2], labels[labels != 2], *test, **settings)
    assert 0.6 < three.value < 1 - (test[1] == 2).float().mean() + 1e-6  # what is missing cannot be named
    wrong = samples_only_accuracy(images, labels[torch.randperm(600, generator=stream())], *test, **settings)
    assert wrong.value < 0.5
    with pytest.raises(ValueError, match="labels: wanted classes 0, 1, …, got -1"):
        samples_only_accuracy(images, -torch.ones_like(labels), *test, **settings)


def test_what_the_loss_of_a_classifier_draws():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return torch.zeros(len(x), 3)

    run = Training(nn.Linear(1, 1), precision=torch.float32)
    run.forward = Spy()
    x, label = normal(4000, 1, 4, 4), torch.zeros(4000, dtype=torch.long)
    losses, t = Classification(shift=1, flip=True)(run, x, label, stream())
    assert t is None
    torch.testing.assert_close(losses, torch.full((4000,), math.log(3)))
    candidates = {
        (mirrored, dy, dx): shifted(x.flip(-1) if mirrored else x, torch.tensor([[dy, dx]]).expand(4000, 2))
        for mirrored in (False, True)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    shares = [(y == seen[0]).flatten(1).all(1).float().mean().item() for y in candidates.values()]
    assert sum(shares) == pytest.approx(1)
    assert all(share == pytest.approx(1 / 18, abs=4.5 * math.sqrt(1 / 18 / 4000)) for share in shares)
    with pytest.raises(ValueError, match="labels: a classifier needs them"):
        Classification()(run, x, None, stream())


# --- all of it -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluate_knows_real_images_from_noise(monkeypatch):
    """A denoiser that returns real digits of the class asked for scores like the floor, and one of grey does not."""
    train_images, train_labels = load_images("mnist")
    by_class = [normalize(train_images[train_labels == c][:60]) for c in range(10)]

    def small(name, split="train", full=False):
        images, labels = load_images(name, split, n=3000)
        return images, labels

    monkeypatch.setattr(metrics.real_images, "load_images", small)
    for cached in (metrics.reference, metrics.floor_of):
        cached.cache_clear()
        fresh = functools.lru_cache(cached.__wrapped__)
        for module in (metrics.real_images, metrics.evaluation):
            monkeypatch.setattr(module, cached.__name__, fresh)

    class Copies(Denoiser):
        def forward(self, x_t, t, label=None):
            return torch.stack([by_class[c][i % 60] for i, c in enumerate(label.tolist())])

    class Grey(Denoiser):
        def forward(self, x_t, t, label=None):
            return torch.zeros_like(x_t)

    scores = [
        metrics.evaluate(kind(nn.Linear(1, 1), cosine(10)), "mnist", n=500, timesteps=[10, 0])
        for kind in (Copies, Grey)
    ]
    assert scores[0].fid < 3 * scores[0].floor
    assert scores[1].fid > 50 * scores[1].floor
    assert scores[0].agreement.low > 0.95
    assert scores[1].agreement.value < 0.2  # every grey is of one class, and the share of none is above
    for score in scores:
        assert score.interval[0] <= score.fid <= score.interval[1]
        assert (score.n, score.nfe, score.grid, score.features) == (500, 1, "uniform", "mnist-classifier")
    assert scores[0].bias == pytest.approx(scores[0].floor, rel=0.5)  # real digits, seen or new: chance, mostly
    assert scores[1].bias == pytest.approx(0, abs=1e-6)  # every grey is alike: no chance at all
    low, high = scores[0].interval
    assert f"FID {scores[0].fid:.3g} [{low:.3g}, {high:.3g}] (real images {scores[0].floor:.3g}" in str(scores[0])
    assert "n = 500" in str(scores[0])
    assert "DDIM, uniform grid, 1 network calls, seed 0" in str(scores[0])

    class Timid(Copies):  # goes only half the way from grey; guided with w = 2 it goes all of it
        def forward(self, x_t, t, label=None):
            return torch.zeros_like(x_t) if label is None else super().forward(x_t, t, label) / 2

    timid = Timid(nn.Linear(1, 1), cosine(10))
    plain, guided = (metrics.evaluate(timid, "mnist", n=500, timesteps=[10, 0], guidance=w) for w in (1, 2))
    assert plain.fid > 10 * plain.floor
    assert (guided.fid, guided.agreement) == (scores[0].fid, scores[0].agreement)
    assert "DDIM guided with w = 2, uniform grid, 2 network calls" in str(guided)
    with pytest.raises(ValueError, match="guidance: wanted 1"):
        metrics.evaluate(timid, "mnist", n=500, guidance=2, num_classes=0)


def test_draw_images_takes_any_sampler():
    def sampler(denoise, x_T, schedule, grid, **cond):
        assert grid == [10, 4, 0]
        return sample_ddim(denoise, x_T, schedule, [10, 0], **cond)

    options = {"timesteps": [10, 4, 0], "generator": stream(), "sampler": sampler}
    images, _ = draw_images(Marked(), cosine(10), (1, 2, 2), 3, **options)
    assert images.shape == (3, 1, 2, 2)


@pytest.mark.parametrize(
    ("sampler", "timesteps", "says"),
    [
        (sample_heun, [10, 5, 0], "HEUN, uniform grid, 3 network calls"),  # two a step, but for the last
        (sample_ddpm, quadratic_grid(cosine(10), 3), "DDPM, quadratic grid, 3 network calls"),
        (sample_ddim, [10, 6, 5, 0], "DDIM, own grid, 3 network calls"),
    ],
)
def test_a_score_names_the_sampler_and_the_grid_and_counts_the_calls(monkeypatch, sampler, timesteps, says):
    monkeypatch.setattr(metrics.evaluation, "floor_of", lambda *_: 1.0)
    classifier = Classifier(1, (8, 8)).eval()
    real = metrics.Reference(classifier, (1, 8, 8), normal(30, 8), normal(20, 8), torch.arange(20) % 10)
    monkeypatch.setattr(metrics.evaluation, "reference", lambda *_: real)

    class Grey(nn.Linear):  # of nobody's class, with a schedule
        schedule = cosine(10)

        def forward(self, x_t, t, label=None):
            return torch.zeros_like(x_t)

    assert says in str(metrics.evaluate(Grey(1, 1), "mnist", n=6, sampler=sampler, timesteps=timesteps))


def test_sets_on_two_devices_are_told_apart():
    """Which is where, before anything is computed; a device without numbers stands for a GPU."""
    here, there = normal(6, 3), normal(6, 3).to("meta")
    calls = {
        "reference": (lambda a, b: fid(a, b), lambda a, b: kid(a, b, generator=stream()), precision_recall),
        "among": (nearest,),
    }
    for name, measures in calls.items():
        for measure, (a, b) in itertools.product(measures, ((here, there), (there, here))):
            with pytest.raises(ValueError, match=rf"^{name}: wanted the device of \w+, {a.device}, got {b.device}"):
                measure(a, b)
    with pytest.raises(ValueError, match=r"^reference: wanted the device"):
        fid_interval(here, there, generator=stream())
    with pytest.raises(ValueError, match=r"^unseen: wanted the device of images, cpu, got meta"):
        copied(here, here, there)


def test_points_stand_in_for_any_set_of_their_mean_and_covariance():
    """A FID and its interval know a reference by these two alone, so a handful of points serve as well as all."""
    mixed, few = normal(500, 5) @ normal(5, 5) + 3, normal(40, 5)
    mixed[:, 4] = 2 * mixed[:, 3]  # a direction without variance
    points = metrics.real_images._points_with(mixed.double().mean(0), mixed.double().T.cov())
    assert points.shape == (10, 5)
    torch.testing.assert_close(points.mean(0), mixed.double().mean(0))
    torch.testing.assert_close(points.T.cov(), mixed.double().T.cov())
    assert fid(few, points) == pytest.approx(fid(few, mixed), rel=1e-6)
    there, here = (fid_interval(few, r, generator=stream(), resamples=20) for r in (points, mixed))
    assert tuple(there) == pytest.approx(tuple(here), rel=1e-6)


def test_fid_is_never_negative_whatever_rounding_makes_of_it():
    """Of a set with itself, whose covariance has no full rank: rounding alone is left, and it has either sign."""
    for seed, scale in itertools.product(range(6), (1e-3, 1.0, 1e3)):
        x = scale * normal(40, 3, seed=seed) @ normal(3, 8, seed=9)
        assert 0 <= fid(x, x) < 1e-4 * scale**2


@pytest.mark.parametrize("side", [1, 5, 6, 7, 9, 27])
def test_a_classifier_takes_images_of_any_side(side):
    """As every denoiser does. Sides that it was made for are left alone: test_pretrained.py knows its accuracy."""
    net = Classifier(1, (8, 8, 8)).eval()
    images = torch.randint(0, 256, (3, 1, side, side + 2), generator=stream(), dtype=torch.uint8)
    features, classes = look_at(net, images)
    assert features.shape == (3, 8)
    assert classes.shape == (3,)
    # what is filled up is the last row and column, again and again
    grown = (max(8, s + s % 2) for s in images.shape[2:])
    rows, columns = (torch.arange(n).clamp(max=s - 1) for n, s in zip(grown, images.shape[2:], strict=True))
    by_hand = normalize(images)[:, :, rows][..., columns]
    torch.testing.assert_close(net.features(by_hand), features)


def test_a_classifier_learns_from_small_images_too():
    """Dark against bright, 6 × 6. (After 30 steps it depends on the seed and the precision whether it does.)"""
    labels = torch.arange(40) % 2
    images = (200 * labels[:, None, None, None] + torch.zeros(1, 1, 6, 6)).to(torch.uint8)
    found = samples_only_accuracy(
        images, labels, images, labels.to(torch.uint8), steps=100, batch_size=20, widths=(8, 8, 8)
    )
    assert found.value == 1


# --- copies by the ratio of two distances ----------------------------------------------------------------------------


def test_the_ratio_test_is_the_one_of_two_loops():
    g = torch.Generator().manual_seed(3)
    train = torch.rand(12, 1, 5, 5, generator=g, dtype=torch.float64)
    ends, s = torch.randint(12, (2, 60), generator=g), torch.rand(60, 1, 1, 1, generator=g, dtype=torch.float64) / 2
    images = (1 - s) * train[ends[0]] + s * train[ends[1]]
    hits, pairs = 0, []
    for x in images:
        first, second = sorted((x - y).norm().item() for y in train)[:2]
        hits += first < 0.4 * second
        pairs.append((first, second))
    found = ratio_test(images, train, ratio=0.4, batch_size=7)
    assert 0 < hits < 60
    assert found.value == hits / 60
    assert (found.low, found.high) == share(hits, 60)[1:3]
    assert torch.allclose(two_nearest(images, train, batch_size=7), torch.tensor(pairs, dtype=torch.float64), atol=1e-7)


def test_moved_copies_are_found_where_one_looks_for_them():
    train = torch.rand(8, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    moved = shifted(train, torch.tensor([[1, 0], [0, -1]] * 4))
    back = shifted(train, torch.tensor([[0, 0]] * 8))
    moves = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    assert torch.equal(back, train)
    assert ratio_test(moved, train).value == 0
    assert ratio_test(moved, train, moves=moves, ratio=0.9).value == 1
    second = two_nearest(train, train, moves=moves)[:, 1]
    assert (second > 0.5).all()  # of another image, not of the same one moved
    assert (two_nearest(train, train, moves=moves)[:, 1] <= two_nearest(train, train)[:, 1]).all()


def test_what_cannot_be_compared_by_a_ratio():
    x = torch.rand(3, 1, 4, 4)
    with pytest.raises(ValueError, match="train: number of images: wanted 2 or more"):
        ratio_test(x, x[:1])
    with pytest.raises(ValueError, match="moves: wanted"):
        ratio_test(x, x, moves=torch.zeros(0, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="ratio: wanted a number in"):
        ratio_test(x, x, ratio=0.0)
    with pytest.raises(ValueError, match="train: wanted"):
        ratio_test(x, torch.rand(3, 1, 5, 4))
