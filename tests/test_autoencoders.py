"""Codes: what they tell, against formulas of one Gaussian; their scale, against all numbers; diffusion on them."""

import dataclasses
import itertools

import pytest
import torch

from course_utils import pretrained, recipes
from course_utils.autoencoders import Autoencoder, gaussian_rate, rate_and_distortion, sample_codes, standardise
from course_utils.data import load_images, normalize
from course_utils.forward import noise_like
from course_utils.runs import Training
from course_utils.samplers import sample_ddim, sample_ddpm, uniform_grid
from course_utils.schedules import linear
from course_utils.tasks import CodeDenoising, Reconstruction
from course_utils.training import train
from course_utils.variational import gaussian_kl

S = linear(1000)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=stream(seed), dtype=torch.float64)


def coder(seed=0, **sizes):
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        return Autoencoder(**{"widths": (8, 8), "latent": 2} | sizes).eval()


# --- rate and distortion ---------------------------------------------------------------------------------------------


def test_water_filling_is_the_best_of_a_grid_of_errors_on_each_axis():
    variances = torch.tensor([2.0, 0.7, 0.1, 0.05], dtype=torch.float64)
    for level in (0.03, 0.08, 0.3, 3.0):
        errors = variances[:, None] * torch.linspace(1e-4, 1, 20_001, dtype=torch.float64)
        price = (variances[:, None] / errors).log() / 2 + errors / (2 * level)
        best = price.min(1).values.sum()
        found = gaussian_rate(variances, level)
        assert found.rate + found.distortion / (2 * level) == pytest.approx(best.item(), abs=1e-6)


def test_a_nat_more_saves_twice_the_level():
    variances = normal(30).square()
    for level in (0.05, 0.4):
        low, high = (gaussian_rate(variances, level * (1 + step)) for step in (-1e-5, 1e-5))
        slope = (high.distortion - low.distortion) / (high.rate - low.rate)
        assert slope == pytest.approx(-2 * level, rel=1e-4)


def test_a_linear_autoencoder_reaches_it():
    """At a = b / l, v = level / l, b² = l - level the gradient of D / (2 level) + R vanishes, and both are as said."""
    l, level = torch.tensor([3.0, 0.9, 0.25], dtype=torch.float64), 0.2
    b = (l - level).sqrt()
    at = torch.stack([b / l, level / l, b]).requires_grad_()

    def both(a, v, b):
        return ((a**2 * l + v - 1 - v.log()) / 2).sum(), ((1 - a * b) ** 2 * l + b**2 * v).sum()

    rate, distortion = both(*at)
    (gradient,) = torch.autograd.grad(rate + distortion / (2 * level), at)
    assert gradient.abs().max() < 1e-12
    assert gaussian_rate(l, level) == pytest.approx((rate.item(), distortion.item()))
    for seed in range(20):
        other = at.detach() * (1 + 0.05 * normal(3, 3, seed=seed))
        r, d = both(*other)
        assert r + d / (2 * level) > rate + distortion / (2 * level)


class Linear(Autoencoder):
    """z = a x + noise of variance v, on the pixels themselves; x_hat = b z."""

    a, v, b = 0.8, 0.3, 1.1

    def posterior(self, x):
        return self.a * x, torch.full_like(x, self.v)

    def __init__(self):
        super().__init__(widths=(8, 8))
        self.decoder = type("Times", (torch.nn.Module,), {"forward": lambda _, z: self.b * z})()


def test_rate_and_distortion_are_those_of_a_linear_autoencoder():
    images, _ = load_images("mnist", "test", n=700)  # more than a batch, and no multiple of one
    x, model = normalize(images).double(), Linear()
    found = rate_and_distortion(model, images, stream())
    d = x[0].numel()
    rate = ((model.a * x).square().flatten(1).sum(1) + d * (model.v - 1 - torch.tensor(model.v).log())) / 2
    assert found.rate == pytest.approx(rate.mean().item(), rel=1e-5)
    each = (1 - model.a * model.b) ** 2 * x.square() + model.b**2 * model.v  # its mean over the noise
    # the variance of |c + s e|² is 4 c² s² + 2 s⁴, pixel by pixel
    c2, s2 = (1 - model.a * model.b) ** 2 * x.square(), model.b**2 * model.v
    spread = ((4 * c2 * s2 + 2 * s2**2).sum() / len(x) ** 2).sqrt().item()
    assert abs(found.distortion - each.flatten(1).sum(1).mean().item()) < 5 * spread


# --- the scale -------------------------------------------------------------------------------------------------------


def test_the_scale_is_that_of_all_drawn_codes_whatever_the_batches():
    images, _ = load_images("mnist", n=230)
    model = coder()
    mean, variance = model.posterior(normalize(images))
    centre = mean.double().mean()
    deviation = ((mean.double() - centre).square().mean() + variance.double().mean()).sqrt()
    for batch_size in (7, 100, 1000):
        standardise(model, images, batch_size=batch_size)
        assert model.mean.item() == pytest.approx(centre.item(), rel=1e-5)
        assert model.std.item() == pytest.approx(deviation.item(), rel=1e-5)
    z = model.encode(normalize(images), stream())
    noise = (variance.double().mean() / deviation**2).item()
    assert abs(z.mean().item()) < 5 * (noise / z.numel()) ** 0.5
    assert abs(z.std().item() - 1) < 5 * (2 / z.numel()) ** 0.5


def test_decoding_undoes_the_scale():
    model, x = coder(), normalize(load_images("mnist", n=3)[0])
    plain = model.decode(model.encode(x))
    model.mean.fill_(0.7)
    model.std.fill_(5.0)
    torch.testing.assert_close(model.decode(model.encode(x)), plain)
    torch.testing.assert_close(model.encode(x) * 5 + 0.7, model.posterior(x)[0])


def test_codes_have_the_shape_they_say():
    model, x = coder(latent=3), torch.zeros(2, 1, 28, 20)
    assert model.encode(x).shape == (2, *model.code_shape(x)) == (2, 3, 7, 5)
    assert model.decode(model.encode(x)).shape == x.shape


# --- the tasks -------------------------------------------------------------------------------------------------------


def test_its_loss_is_the_error_a_pixel_and_what_a_nat_is_worth():
    run, x = Training(coder(), precision=torch.float32), normalize(load_images("mnist", n=5)[0])
    losses, times = Reconstruction(tau=0.02)(run, x, None, stream(3))
    assert times is None
    eps = torch.randn(5, 2, 7, 7, generator=stream(3))
    mean, variance = run.model.posterior(x)
    error = (run.model.decoder(mean + variance.sqrt() * eps) - x).square().flatten(1).sum(1)
    rate = gaussian_kl(mean, variance, torch.zeros_like(mean), 1.0)
    torch.testing.assert_close(losses, (error + 2 * 0.02 * rate) / 784)


def test_it_learns_and_is_shipped_with_the_scale_of_the_whole_training_set(tmp_path, monkeypatch):
    recipe = dataclasses.replace(recipes.RECIPES["mnist-autoencoder"], steps=25, warmup=5)
    images, _ = load_images("mnist", n=256)
    monkeypatch.setattr("course_utils.tasks.coding.load_images", lambda dataset: (images, None))
    run = Training(recipes.make_model(recipe), lr=recipe.lr, ema=0.9, precision=torch.float32)
    task = recipes.make_task(recipe)
    losses = [r.loss for r in train(run, images, steps=recipe.steps, batch_size=32, warmup=5, task=task)]
    assert losses[-1] < losses[0] / 2
    pretrained.ship(run, recipe, tmp_path)
    monkeypatch.setattr(pretrained, "data_dir", lambda: tmp_path.parent)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path.name)
    model = pretrained.load_network(recipe.name)
    wanted = standardise(run.averaged(), images)
    assert model.std.item() == pytest.approx(wanted.std.item(), rel=1e-3)  # float16
    assert model.mean.item() == pytest.approx(wanted.mean.item(), abs=1e-3)
    assert run.model.std == 1  # the run itself can go on


def test_codes_are_drawn_and_decoded():
    model, x_T, grid = coder(), torch.zeros(3, 1, 28, 28), uniform_grid(S, 4)

    def half(z, t, **cond):
        return z / 2

    found = sample_codes(model.decode, (2, 7, 7), half, x_T, S, grid, generator=stream(2))
    z_T = S.coeffs(1000)[1].item() * noise_like(torch.zeros(3, 2, 7, 7), stream(2))
    torch.testing.assert_close(found, model.decode(sample_ddim(half, z_T, S, grid)))
    draws = [
        sample_codes(model.decode, (2, 7, 7), half, x_T, S, grid, by=sample_ddpm, generator=stream(s))
        for s in (2, 2, 3)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.slow(6)
def test_codes_of_the_stream_are_standardised_and_in_order():
    task = {"kind": "code_denoising", "autoencoder": "mnist-autoencoder"}
    z, labels = recipes.load_data(dataclasses.replace(recipes.RECIPES["mnist-latent"], task=task))
    assert z.shape == (60_000, 4, 7, 7)
    assert abs(z.mean().item()) < 0.01
    assert abs(z.std().item() - 1) < 0.01
    shipped = pretrained.load_network("mnist-autoencoder")
    images, names = load_images("mnist", n=50)
    with torch.no_grad():
        apart = (shipped.decode(z[:50]) - normalize(images)).square().mean(), normalize(images).var()
    assert apart[0] < apart[1] / 10
    assert torch.equal(labels[:50], names)


def test_its_measure_goes_by_way_of_the_decoder():
    task = CodeDenoising()
    model = pretrained.load_denoiser("mnist-latent")
    sample = task.through(model, sample_ddim)
    assert sample.__name__ == "sample_ddim (decoded)"
    x = sample(model, torch.zeros(2, 1, 28, 28), S, uniform_grid(S, 2), generator=stream(), label=torch.arange(2))
    assert x.shape == (2, 1, 28, 28)


@pytest.mark.slow(3)
def test_small_pictures_know_their_moments():
    for name, k in (("mnist-7", 4), ("mnist-14", 2)):
        images, labels = recipes.parts.small_images(name)
        mean, std = recipes.pixel_moments(name)
        whole = load_images("mnist")[0].double() / 127.5 - 1
        small = whole.reshape(-1, 28 // k, k, 28 // k, k).mean((2, 4))
        assert mean == pytest.approx(small.mean().item(), abs=1e-6)
        assert std == pytest.approx(small.std(correction=0).item(), abs=1e-6)
        assert std < recipes.pixel_moments("mnist")[1]
        assert len(labels) == len(images)
    assert all(
        a >= b for a, b in itertools.pairwise([recipes.pixel_moments(n)[1] for n in ("mnist", "mnist-14", "mnist-7")])
    )
