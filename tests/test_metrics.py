"""FID is the Fréchet distance; the classifier sees what it is shown; samples are drawn as asked."""

import math

import pytest
import torch
from torch import nn

from course_utils import metrics
from course_utils.classifier import Classifier, classification, look_at, shifted
from course_utils.data import denormalize, load_images, normalize
from course_utils.denoisers import Denoiser
from course_utils.metrics import draw_images, fid, subset
from course_utils.samplers import sample_ddim, uniform_grid
from course_utils.schedules import VE, cosine
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
    # Two samples of one d-dimensional Gaussian: about d² / (2 n) for each of them (the module's docstring).
    assert fid(x, normal(500, 8, seed=1)) == pytest.approx(2 * 8**2 / (2 * 500), rel=0.5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(10, 3), "features: wanted 2 of them, as the reference has, got 3"),
        (torch.zeros(1, 2), "number of features: wanted 2 or more"),
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
        denoise, cosine(100), (1, 4, 4), 25, steps=3, num_classes=10, generator=stream(), batch_size=10,
        progress=done.append,
    )  # fmt: skip
    assert (images.shape, images.dtype) == ((25, 1, 4, 4), torch.uint8)
    assert labels.tolist() == [i % 10 for i in range(25)]
    assert torch.equal(images[:, 0, 0, 0], denormalize(labels / 10))
    assert done == [10, 10, 5]
    assert denoise.calls == [(size, t) for size in (10, 10, 5) for t in (100, 67, 33)]
    images, labels = draw_images(Marked(), cosine(100), (3, 4, 4), 2, steps=1, generator=stream())
    assert labels.tolist() == [-1, -1]
    assert (images == 128).all()


@pytest.mark.parametrize("schedule", [cosine(200), VE()], ids=["cosine", "ve"])
def test_samples_start_from_noise_of_the_last_level(schedule):
    """Of a Gaussian that is known exactly, DDIM makes its moments; bytes round by up to 1/255."""
    law = Gaussian(torch.full((4,), 0.2, dtype=torch.float64), 0.01 * torch.eye(4, dtype=torch.float64))
    images, _ = draw_images(
        lambda x, t: law.denoise(x.flatten(1), t, schedule).reshape(x.shape).to(x), schedule, (1, 2, 2), 4000,
        steps=200, generator=stream(),
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


def test_a_classifier_learns_what_can_be_learned_and_shifts_see_every_offset():
    """Ten orientations of a stripe, at random places: only a network that tolerates shifts tells them apart."""
    g = stream()
    labels = torch.randint(0, 4, (800,), generator=g)
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    angle, phase = labels * math.pi / 4, torch.rand(800, generator=g) * 2 * math.pi
    wave = angle.cos()[:, None, None] * row + angle.sin()[:, None, None] * column
    images = denormalize((1.5 * wave + phase[:, None, None]).sin()[:, None] * 0.9)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run = Training(Classifier(1, (8, 16), num_classes=4), lr=0.01, ema=0.9, precision=torch.float32)
    for _ in train(run, images[:600], labels[:600], steps=120, batch_size=50, warmup=5, loss=classification(shift=1)):
        pass
    classifier = run.averaged()
    features, seen = look_at(classifier, images[600:], batch_size=70)
    assert (seen == labels[600:]).float().mean() > 0.95
    assert (features.shape, features.dtype, features.isfinite().all()) == ((200, 16), torch.float32, True)
    assert torch.equal(classifier.head(features).argmax(1), seen)
    assert torch.equal(look_at(classifier.train(), images[600:])[1], seen)  # it sees to eval mode by itself


def test_what_the_loss_of_a_classifier_draws():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return torch.zeros(len(x), 3)

    run = Training(nn.Linear(1, 1), precision=torch.float32)
    run.forward = Spy()
    x, label = normal(4000, 1, 4, 4), torch.zeros(4000, dtype=torch.long)
    losses, t = classification(shift=1, flip=True)(run, x, label, stream())
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
        classification()(run, x, None, stream())


# --- all of it -------------------------------------------------------------------------------------------------------


def test_evaluate_knows_real_images_from_noise(monkeypatch):
    """A denoiser that returns real digits of the class asked for scores like the floor, and one of grey does not."""
    train_images, train_labels = load_images("mnist")
    by_class = [normalize(train_images[train_labels == c][:60]) for c in range(10)]

    def small(name, split="train", full=False):
        images, labels = load_images(name, split, n=3000)
        return images, labels

    monkeypatch.setattr(metrics, "load_images", small)

    class Copies(Denoiser):
        def forward(self, x_t, t, label=None):
            return torch.stack([by_class[c][i % 60] for i, c in enumerate(label.tolist())])

    class Grey(Denoiser):
        def forward(self, x_t, t, label=None):
            return torch.zeros_like(x_t)

    scores = [metrics.evaluate(kind(nn.Linear(1, 1), cosine(10)), "mnist", n=500, steps=1) for kind in (Copies, Grey)]
    assert scores[0].fid < 3 * scores[0].floor
    assert scores[1].fid > 50 * scores[1].floor
    assert scores[0].agreement > 0.97
    assert scores[1].agreement == pytest.approx(0.1)
    assert (scores[0].n, scores[0].nfe, scores[0].features) == (500, 1, "mnist-classifier")
    assert f"FID {scores[0].fid:.3g}" in str(scores[0])
    assert "n = 500" in str(scores[0])


def test_draw_images_takes_any_sampler():
    def sampler(denoise, x_T, schedule, grid, **cond):
        assert grid == uniform_grid(schedule, 7)
        return sample_ddim(denoise, x_T, schedule, [10, 0], **cond)

    images, _ = draw_images(Marked(), cosine(10), (1, 2, 2), 3, steps=7, generator=stream(), sampler=sampler)
    assert images.shape == (3, 1, 2, 2)
