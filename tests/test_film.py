"""Films: motion in closed form, figures that tell them from heaps of pictures, attention over time and only there."""

import io

import numpy as np
import PIL.Image
import pytest
import torch

from course_utils import film, recipes
from course_utils.data import load_images
from course_utils.denoisers import ClipDenoiser, Denoiser
from course_utils.plotting import show_film
from course_utils.schedules import linear


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


DIGITS, LABELS = load_images("mnist", "test", n=40)
CLIPS = film.moving_digits(DIGITS, seeded())


def test_a_shift_moves_the_centre_by_as_much_and_keeps_all_light():
    bright = torch.zeros(3, 1, 14, 14)
    bright[:, :, 5:9, 6:8] = 0.2 + 0.8 * torch.rand(3, 1, 4, 2, generator=seeded())
    by = torch.tensor([[0.0, 0.0], [1.3, -2.25], [-2.4, 0.7]])
    moved = film.shifted_frames(bright, by)
    torch.testing.assert_close(moved.sum((1, 2, 3)), bright.sum((1, 2, 3)))
    before = film.centres(2 * bright[:, :, None] - 1)[:, 0]
    weights = moved[:, 0]
    row = torch.arange(16.0) - 7.5
    after = (
        torch.stack([(weights.sum(2) * row).sum(1), (weights.sum(1) * row).sum(1)], 1) / weights.sum((1, 2))[:, None]
    )
    torch.testing.assert_close(after - before, by, atol=1e-4, rtol=0)
    whole = film.shifted_frames(bright, torch.tensor([[1.0, -2.0]] * 3))
    torch.testing.assert_close(whole[:, :, 7:11, 5:7], bright[:, :, 5:9, 6:8])  # 14 in 16: one to each side


def test_digits_move_evenly_on_a_straight_line():
    assert CLIPS.shape == (40, 1, 8, 16, 16)
    assert CLIPS.min() >= -1
    assert CLIPS.max() <= 1
    assert film.unsteadiness(CLIPS).max() < 0.2
    speed = (film.centres(CLIPS)[:, 7] - film.centres(CLIPS)[:, 0]).norm(dim=1) / 7
    assert speed.max() > 0.3
    assert speed.max() < 1.05  # 5 pixels each way in 7 steps
    alone = film.moving_digits(DIGITS, seeded(), frames=1)
    assert alone.shape == (40, 1, 1, 16, 16)
    x = film.standardised(film.moving_digits(load_images("mnist", "test", n=1000)[0], seeded()))
    assert abs(x.mean().item()) < 0.1
    assert x.std().item() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(film.pixels(film.standardised(CLIPS)), CLIPS)


def test_unsteadiness_is_what_is_left_of_the_centres_by_a_straight_line():
    spot = torch.full((1, 1, 8, 16, 16), -1.0)
    rows = [3, 4, 5, 6, 7, 8, 9, 10]
    for f, r in enumerate(rows):
        spot[0, 0, f, r, 6] = 1.0
    assert film.unsteadiness(spot).item() < 1e-6
    spot[0, 0, 4] = -1.0
    spot[0, 0, 4, 7, 9] = 1.0  # three columns aside
    time = torch.linspace(-1, 1, 8, dtype=torch.float64)
    aside = torch.tensor([0, 0, 0, 0, 3.0, 0, 0, 0], dtype=torch.float64)
    line = torch.stack([torch.ones(8, dtype=torch.float64), time], 1)
    left = aside - line @ torch.linalg.lstsq(line, aside[:, None]).solution[:, 0]
    assert film.unsteadiness(spot).item() == pytest.approx(left.square().mean().sqrt().item(), abs=1e-6)


def test_flicker_does_not_see_motion_and_sees_another_hand():
    steady = film.flicker(CLIPS)
    mixed = film.flicker(
        CLIPS[torch.randperm(40, generator=seeded())[:32]].view(4, 8, 1, 8, 16, 16)[:, :, :, 0].transpose(1, 2)
    )
    assert steady.max() < 0.12
    assert mixed.min() > 0.2
    still = CLIPS[:, :, :1].expand(-1, -1, 8, -1, -1)
    assert film.flicker(still).max() < 1e-6


def test_centred_frames_are_centred():
    assert film.centres(film.centred(CLIPS)).abs().max() < 0.3  # the dark is cut off at a tenth, before and after


def test_frames_as_digits_are_known_to_the_classifier_of_mnist():
    from course_utils.classifier import look_at
    from course_utils.pretrained import load_classifier

    seen = look_at(load_classifier("mnist"), film.as_digits(CLIPS))[1].view(40, 8)
    assert (seen == LABELS[:, None]).double().mean() > 0.95


def test_one_batch_in_five_are_single_frames():
    batch = film.clips_of(DIGITS, LABELS)
    frames = [batch(2, seeded(i))[0].shape[2] for i in range(400)]
    assert set(frames) == {1, 8}
    assert 0.2 - 0.1 < frames.count(1) / 400 < 0.2 + 0.1
    x, label = batch(6, seeded(1))
    assert x.shape[0] == 6
    assert set(label.tolist()) <= set(LABELS.tolist())


# --- the network ------------------------------------------------------------------------------------------------------


def stirred(network):
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=seeded())
    return network.eval()


def silent(network):
    """The network without its attention over time."""
    for attention in network.time:
        torch.nn.init.zeros_(attention.out.weight)
        torch.nn.init.zeros_(attention.out.bias)
    return network


X = torch.randn(2, 1, 5, 8, 8, generator=seeded())
LOG_SNR, LABEL = torch.tensor([0.5, -1.0]), torch.tensor([2, -1])


def moved_by(network, frame, place=(3, 3)):
    """Which frames of the first clip's output move when one pixel of a frame does."""
    before = network(X, LOG_SNR, LABEL)
    other = X.clone()
    other[0, 0, frame, place[0], place[1]] += 1
    change = (network(other, LOG_SNR, LABEL) - before).abs()
    assert change[1].max() == 0  # clips do not see each other
    return (change[0, 0].flatten(1).amax(1) > 1e-6).tolist()


def test_frames_see_each_other_through_attention_over_time_and_only_so():
    network = stirred(ClipDenoiser(1, 16, 2, 2, 2, 3))
    assert moved_by(network, 2) == [True] * 5
    assert moved_by(silent(network), 2) == [False, False, True, False, False]


def test_attention_over_time_is_each_places_own():
    """With convolutions that see nothing but their own place, what happens at one place stays there in all frames."""
    network = stirred(ClipDenoiser(1, 16, 1, 2, 1))
    network.space = torch.nn.ModuleList([type("Through", (torch.nn.Module,), {"forward": lambda self, h, v: h})()])
    network.last_norm = torch.nn.Identity()
    network.time[0].norm = torch.nn.Identity()
    for conv in (network.first, network.last):
        with torch.no_grad():
            centre = conv.weight[:, :, 1, 1].clone()
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = centre
    before = network(X, LOG_SNR)
    other = X.clone()
    other[0, 0, 1, 3, 5] += 1
    change = (network(other, LOG_SNR) - before).abs()[0, 0]
    places = (change.amax(0) > 1e-6).nonzero().tolist()
    assert places == [[3, 5]]
    assert (change[:, 3, 5] > 1e-7).all()


def test_the_order_of_frames_is_known():
    network = stirred(ClipDenoiser(1, 16, 2, 2, 2))
    turned = network(X.flip(2), LOG_SNR).flip(2)
    assert (turned - network(X, LOG_SNR)).abs().max() > 1e-3


def test_it_is_a_denoiser_of_clips_of_any_length_and_starts_at_zero():
    fresh = ClipDenoiser(1, 16, 2, 2, 2, 3)
    assert fresh(X, LOG_SNR, LABEL).abs().max() == 0
    denoise = Denoiser(stirred(ClipDenoiser(1, 16, 2, 2, 2, 3)), linear(10))
    for frames in (1, 3, 8):
        assert denoise(torch.randn(2, 1, frames, 8, 12), 5, label=LABEL).shape == (2, 1, frames, 8, 12)
    with pytest.raises(ValueError, match="x: wanted"):
        fresh(torch.zeros(2, 1, 3, 7, 8), LOG_SNR)
    model = recipes.make_model(recipes.RECIPES["film"])
    assert isinstance(model.network, ClipDenoiser)


# ---------------------------------------------------------------- shown


def test_a_film_in_a_stored_page_still_moves(monkeypatch):
    build = pytest.importorskip("course_utils.desk.authoring.build", reason="pages are built where nbgrader is")
    shown = []
    monkeypatch.setattr("course_utils.plotting.display", shown.append)
    show_film(CLIPS[:3], "Three digits move.", scale=2)
    moving = PIL.Image.open(io.BytesIO(build.in_256_colours(shown[0].data)))
    assert (moving.format, getattr(moving, "n_frames", 1), moving.info.get("loop")) == ("PNG", film.FRAMES, 0)
    for i in range(film.FRAMES):  # clip 0 stands behind a border of one pixel, twice as large
        moving.seek(i)
        pixels = torch.from_numpy(np.array(moving.convert("L")))[2:34:2, 2:34:2]
        assert ((pixels / 127.5 - 1) - CLIPS[0, 0, i]).abs().max() < 0.01
