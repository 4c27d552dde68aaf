"""Sound: magnitudes beside a sum written out, the way there and back, the estimator of pitch, the pitch of notes."""

import math

import pytest
import torch

from course_utils import recipes, sound


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


ALL = torch.arange(16).repeat(4)
WAVES = sound.notes(ALL, seeded())


def tone(frequency, n=960, phase=0.3, loud=0.5):
    t = torch.arange(n, dtype=torch.float64) / sound.RATE
    return loud * torch.sin(2 * math.pi * frequency * t + phase)


def test_pitches_are_semitones_from_440_hz():
    f = sound.frequency_of(torch.tensor([0, 1, 12, 15]))
    assert f.tolist() == pytest.approx([440.0, 466.1638, 880.0, 1046.5023], abs=1e-4)
    with pytest.raises(ValueError, match="label: wanted 0 … 15"):
        sound.frequency_of(torch.tensor([16]))


def test_magnitudes_are_those_of_a_windowed_fourier_sum():
    wave = WAVES[:1].double()
    padded = torch.nn.functional.pad(wave[0], (128, 128))
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(256, dtype=torch.float64) / 256)
    found = sound.magnitudes(wave)[0]
    for frame in (0, 7, 15):
        piece = padded[64 * frame : 64 * frame + 256] * window
        for k in (0, 28, 66, 128):
            angle = -2 * math.pi * k * torch.arange(256, dtype=torch.float64) / 256
            by_hand = torch.complex((piece * angle.cos()).sum(), (piece * angle.sin()).sum()).abs()
            assert found[k, frame].item() == pytest.approx(by_hand.item(), abs=1e-9)
    torch.testing.assert_close(sound.magnitudes(2 * wave), 2 * sound.magnitudes(wave))


def test_pictures_have_about_mean_zero_and_variance_one_and_come_back():
    m = sound.magnitudes(WAVES)
    x = sound.to_picture(m)
    assert x.shape == (64, 1, 128, 16)
    assert abs(x.mean().item()) < 0.1
    assert x.std().item() == pytest.approx(1, abs=0.1)
    back = sound.from_picture(x)
    torch.testing.assert_close(back[:, :-1], m[:, :-1], atol=1e-4, rtol=1e-5)
    assert m[:, -1].max() < 0.05 * m.max()  # what is left out is next to nothing


@pytest.mark.parametrize("f", [437.1, 440.0, 700.3, 1046.5])
def test_the_estimator_finds_the_frequency_of_a_tone(f):
    assert sound.pitch_of(tone(f)[None]).item() == pytest.approx(f, abs=0.15)
    with_partials = tone(f) + tone(2 * f, loud=0.3, phase=2.0) + tone(3 * f, loud=0.2)
    assert abs(sound.cents(sound.pitch_of(with_partials[None]), torch.tensor([f]).double())).item() < 5


def test_notes_have_the_pitch_they_are_asked_for_and_differ():
    off = sound.cents(sound.pitch_of(WAVES), sound.frequency_of(ALL)).abs()
    assert off.max() < 2
    assert WAVES.abs().amax(1).min() > 0.39
    assert WAVES.abs().max() < 0.91
    assert (WAVES[0] - WAVES[16]).abs().max() > 0.1  # the same pitch, in another hand
    assert torch.equal(sound.notes(ALL, seeded()), WAVES)


def test_cents_are_of_ratios():
    wanted = torch.tensor([440.0, 440.0, 440.0, 100.0])
    found = sound.cents(torch.tensor([880.0, 440.0, 440 * 2 ** (-1 / 12), 101.0]), wanted)
    assert found.tolist() == pytest.approx([1200, 0, -100, 1200 * math.log2(1.01)], abs=1e-3)


def test_griffin_and_lims_way_comes_nearer_and_keeps_the_pitch():
    m = sound.magnitudes(WAVES)
    distances, waves = [], []
    for rounds in (0, 5, 20, 60):
        waves.append(sound.griffin_lim(m, rounds, generator=seeded()))
        distances.append(((sound.magnitudes(waves[-1]) - m).norm() / m.norm()).item())
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 4 * distances[3]
    assert distances[3] < 0.05
    assert (sound.cents(sound.pitch_of(waves[3]), sound.frequency_of(ALL)).abs() < 50).all()


def test_the_right_phases_are_a_fixed_point():
    """From a wave's own transform one round gives the wave back: both projections leave it alone."""
    wave = WAVES[:3].double()
    spectrum = sound._stft(wave)
    torch.testing.assert_close(sound._istft(spectrum), wave, atol=1e-9, rtol=0)
    again = sound._stft(sound._istft(spectrum))
    torch.testing.assert_close(again, spectrum, atol=1e-9, rtol=0)


def test_random_notes_are_pictures_with_their_pitches():
    x, label = sound.random_notes(200, seeded(3))
    assert label.bincount(minlength=16).min() > 2
    loudest = x[:, 0].mean(-1).argmax(1) * sound.RATE / sound.WINDOW  # Hz, to within a step of 15.6
    assert ((loudest - sound.frequency_of(label)).abs() < 16).all()
    data, labels = recipes.load_data(recipes.RECIPES["notes"])
    assert labels is None
    assert torch.equal(data(5, seeded())[0], sound.random_notes(5, seeded())[0])
