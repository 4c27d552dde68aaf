"""What is shipped is what was trained: whole, verified, small, and loaded without running anything."""

import hashlib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from course_utils import data, files, metrics, pretrained, recipes, samplers
from course_utils.autoencoders import Autoencoder
from course_utils.checkpoints import CheckpointError
from course_utils.classifier import Classifier, NoisyClassifier, look_at
from course_utils.denoisers import Denoiser
from course_utils.desk import cli
from course_utils.files import DataError
from course_utils.pretrained import load_classifier, load_denoiser, load_network, read_manifest, recipe_of, ship
from course_utils.recipes import RECIPES, Recipe, recipe_from
from course_utils.run_folder import begin
from course_utils.text import TokenTransformer

SHIPPED = read_manifest()
FOLDER = Path(files.data_dir()) / "checkpoints"
TINY = Recipe(
    "tiny", "mnist", network={"channels": 1, "widths": (16,), "blocks": 1, "attention": ()}, steps=0,
    schedule={"kind": "linear", "T": 10},
)  # fmt: skip


# --- what is in the folder -------------------------------------------------------------------------------------------


def test_what_must_be_there_is_there_and_small_enough():
    assert set(SHIPPED) == set(RECIPES) - {"mnist-smoke"}  # which only tries out the machine
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == set(SHIPPED)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 31e6
    assert SHIPPED["mnist-unet"]["parameters"] <= 3e6
    assert SHIPPED["cifar10-unet"]["parameters"] <= 6e6


LABELS = torch.tensor([3, -1])
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "notes": (1, 128, 16), "film": (1, 8, 16, 16)}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_network_loads_and_is_that_of_its_recipe(name):
    recipe = recipe_of(name)
    assert recipe == recipe_from(recipes.settings_of(RECIPES[name]))
    others = {"classifier": Classifier, "noisy_classifier": NoisyClassifier, "autoencoder": Autoencoder}
    others["tokens"] = TokenTransformer
    wanted = others.get(recipe.architecture, Denoiser)
    model = load_network(name)
    assert isinstance(model, wanted)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == SHIPPED[name]["parameters"]
    shapes = SHAPES | {"mnist-7": (1, 7, 7), "mnist-codes": (4, 7, 7)}
    x = torch.zeros(2, *shapes.get(recipe.dataset, ()))
    if wanted is TokenTransformer:
        x = torch.full((2, model.length), model.mask)
    asked = {Classifier: {}, NoisyClassifier: {"log_snr": torch.zeros(2)}, Denoiser: {"t": 500, "label": LABELS}}
    asked |= {Autoencoder: {"eps": torch.zeros(2, 4, 7, 7)}, TokenTransformer: {}}
    shown = {"r": 0, "beside": x} if recipe.network.get("beside") else {}
    answered = model(x, **asked[wanted], **shown)
    assert (answered[0] if wanted is Autoencoder else answered).isfinite().all()
    if wanted is Denoiser:
        own = recipe.dataset in ("mnist-codes", "notes", "film")
        moments = (0, 1) if own else recipes.pixel_moments(recipe.dataset)
        assert (model.data_mean, model.data_std) == pytest.approx(moments)
        assert recipe.schedule["T"] == model.schedule.T


def test_the_page_of_cards_says_what_the_manifest_says():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert pretrained.with_table(page, SHIPPED) == page
    assert all(f"`{name}`" in page and entry["measured"] in page for name, entry in SHIPPED.items())
    assert all(entry["measured"] for entry in SHIPPED.values())


# --- what they drew ---------------------------------------------------------------------------------------------------


def test_the_stored_samples_are_what_the_shipped_network_draws():
    images, labels = pretrained.load_samples("mnist-unet")
    entry = read_manifest(FOLDER.parent / "samples")["mnist-unet"]
    assert entry["network_sha256"] == SHIPPED["mnist-unet"]["sha256"]  # else: python data/samples.py
    assert list(images.shape) == entry["shape"]
    assert torch.equal(labels, data.load_images("mnist", "test")[1])
    network, options = load_denoiser("mnist-unet"), {"num_classes": 10}
    again, _ = metrics.draw_images(
        network,
        network.schedule,
        (1, 28, 28),
        6,
        labels=labels[:6],
        timesteps=samplers.uniform_grid(network.schedule, 10),
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    off = (again.float() - images[:6].float()).abs()  # another machine rounds otherwise, and ten steps carry that on
    assert off.mean() < 0.5  # grey levels of 255
    assert (again.float() - images[6:12].float()).abs().mean() > 20  # other digits would be far off


def test_samples_that_are_not_there_and_damaged_ones_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="name: wanted one of mnist-unet, got 'mnist-dae'"):
        pretrained.load_samples("mnist-dae")
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((FOLDER.parent / "samples" / "manifest.json").read_bytes())
    (folder / "mnist-unet.webp").write_bytes(b"torn")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"mnist-unet\.webp: has 4 bytes"):
        pretrained.load_samples("mnist-unet")


# --- what a FID asks of the training split ----------------------------------------------------------------------------


@pytest.mark.slow(20)
def test_the_stored_moments_are_those_of_what_the_shipped_classifier_sees():
    features = look_at(pretrained.load_classifier("mnist"), data.load_images("mnist", "train")[0])[0].double()
    mean, covariance = pretrained.load_moments("mnist")  # None: python data/references.py
    scale = features.std(0)
    assert ((mean - features.mean(0)).abs() < 1e-4 * scale).all()  # machines sum in other orders
    assert ((covariance - features.T.cov()).abs() < 1e-4 * scale * scale[:, None]).all()
    few = look_at(pretrained.load_classifier("mnist"), data.load_images("mnist", "test", n=300)[0])[0]
    stood_in = metrics.fid(few, metrics.reference("mnist").train)
    assert stood_in == pytest.approx(metrics.fid(few, features), rel=1e-4)


def test_moments_of_another_classifier_are_passed_over(monkeypatch):
    assert pretrained.load_moments("cifar10") is None
    manifest = {"mnist-classifier": {"sha256": "of another"}}
    monkeypatch.setattr(pretrained, "read_manifest", lambda folder=None: read_manifest(folder) if folder else manifest)
    assert pretrained.load_moments("mnist") is None


# --- what they can do: lower limits of the card's figures, on a part of the test split -----------------------------


@pytest.mark.slow(2)
@pytest.mark.parametrize(("dataset", "least"), [("mnist", 0.992), ("cifar10", 0.89)])
def test_the_classifiers_know_their_images(dataset, least):
    """Of CIFAR-10 1,000 are embedded: 0.917 of all of them leaves 0.89 three standard errors away."""
    assert metrics.accuracy(load_classifier(dataset), dataset, full=False).share.value >= least


@pytest.mark.slow(4)
def test_the_classifier_of_noisy_digits_sees_less_the_more_noise_there_is():
    model = pretrained.load_network("mnist-noisy-classifier")
    found = [metrics.noisy_accuracy(model, "mnist", level, full=False).value for level in (8.0, 0.0, -4.0, -12.0)]
    assert found[0] > 0.97
    assert found[1] > 0.9
    assert found[0] > found[1] > found[2] > found[3]
    assert found[3] < 0.2  # nothing is left to be seen


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in SHIPPED
        if recipe_of(name).task["kind"] == "denoising" and recipe_of(name).dataset in data.CLASSES
    ],
)
def test_every_denoiser_is_far_better_than_the_best_affine_guess_by_pixel(name):
    """The best x_0 from one pixel alone has error s² sigma² / (alpha² s² + sigma²), s² being the pixels' variance."""
    denoiser, recipe = load_denoiser(name), recipe_of(name)
    images, labels = data.load_images(recipe.dataset, "test", n=200)
    x_0, g = data.normalize(images), torch.Generator().manual_seed(0)
    for t in (200, 300, 500):  # with less noise a bottleneck cannot do even that (lesson 05)
        alpha, sigma = denoiser.schedule.coeffs(t)
        x_t = alpha.item() * x_0 + sigma.item() * torch.randn(x_0.shape, generator=g)
        s2 = denoiser.data_std**2
        affine = s2 * sigma**2 / (alpha**2 * s2 + sigma**2)
        error = (denoiser(x_t, t, label=labels) - x_0).square().mean()
        assert error < 0.75 * affine, (t, error / affine)


# --- shipping --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes.parts, "pixel_moments", lambda name: (-0.25, 0.5))
    return begin(TINY, tmp_path / "run")


def test_what_is_shipped_comes_back_in_half_precision(run, tmp_path, monkeypatch):
    for value in run.ema.weights.values():
        value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    path = ship(run, TINY, tmp_path / "data" / "checkpoints")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    model = load_denoiser("tiny")
    assert (model.data_mean, model.data_std, model.schedule.T) == (-0.25, 0.5, 10)
    assert path.stat().st_size < 2.5 * sum(p.numel() for p in model.parameters()) + 20_000
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, run.ema.weights[name], rtol=2**-11, atol=2**-24)
    entry = read_manifest()["tiny"]
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry["parameters"] == sum(p.numel() for p in model.parameters())
    assert recipe_of("tiny").network["widths"] == [16]


def test_a_damaged_or_missing_file_is_named(run, tmp_path, monkeypatch):
    path = ship(run, TINY, tmp_path / "data" / "checkpoints")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tiny\.safetensors: is damaged"):
        load_denoiser("tiny")
    path.write_bytes(content[:-10])
    with pytest.raises(DataError, match=r"tiny\.safetensors: has .* bytes"):
        load_denoiser("tiny")
    path.unlink()
    with pytest.raises(DataError, match=r"tiny\.safetensors: is missing"):
        load_denoiser("tiny")


def test_names_that_are_not_there_are_answered_with_those_that_are():
    with pytest.raises(ValueError, match=r"name: no denoiser 'mnist-transformer' is shipped; there are .*mnist-unet"):
        load_denoiser("mnist-transformer")
    with pytest.raises(ValueError, match="no denoiser 'mnist-classifier'"):
        load_denoiser("mnist-classifier")
    with pytest.raises(ValueError, match="dataset: wanted one of mnist, cifar10, got 'letters'"):
        load_classifier("letters")


def test_what_cannot_be_shipped(run, tmp_path):
    unfinished = Recipe(**TINY.__dict__ | {"steps": 5})
    with pytest.raises(CheckpointError, match="tiny: 0 of 5 steps are done"):
        ship(run, unfinished, tmp_path)
    next(iter(run.ema.weights.values())).fill_(1e6)
    with pytest.raises(CheckpointError, match="has weights that float16 cannot hold"):
        ship(run, TINY, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_commands_ship_measure_and_note(run, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    run.save(tmp_path / "run" / "checkpoint.pt")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data" / "checkpoints").mkdir(parents=True)
    (tmp_path / "data" / "checkpoints" / "README.md").write_text(
        f"Above\n{pretrained.BEGIN}\n{pretrained.END}\nBelow\n"
    )

    def course(*arguments):
        return CliRunner().invoke(cli.app, list(map(str, arguments)))

    result = course("ship", "tiny", "--run", tmp_path / "nowhere")
    assert (result.exit_code, "no run is there" in result.output) == (1, True)
    assert course("ship", "tiny", "--run", tmp_path / "run").exit_code == 0
    monkeypatch.setattr(
        "course_utils.metrics.evaluate", lambda model, dataset, **settings: f"{dataset} {settings['n']}"
    )
    result = course("evaluate", "tiny", "--n", 5, "--steps", 2, "--record")
    assert (result.exit_code, "tiny: mnist 5" in result.output) == (0, True)
    assert read_manifest()["tiny"]["measured"].startswith("mnist 5")
    page = (tmp_path / "data" / "checkpoints" / "README.md").read_text()
    assert page.startswith("Above\n")
    assert page.endswith("Below\n")
    assert "| `tiny` |" in page
    assert "mnist 5" in page
    before = (tmp_path / "data" / "checkpoints" / "manifest.json").read_bytes()
    result = course("evaluate", "tiny", "--run", tmp_path / "run", "--n", 6, "--record")
    assert (result.exit_code, "a run is not: course ship tiny --run" in result.output) == (1, True)
    assert (tmp_path / "data" / "checkpoints" / "manifest.json").read_bytes() == before
    result = course("evaluate", "nothing")
    assert (result.exit_code, "nothing: no such recipe" in result.output) == (1, True)


@pytest.mark.parametrize("page", ["", "Above", f"{pretrained.END} {pretrained.BEGIN}"])
def test_a_page_of_cards_without_its_markers_is_named(page):
    with pytest.raises(DataError, match=r"README\.md: wanted the lines <!-- table"):
        pretrained.with_table(page, SHIPPED)
