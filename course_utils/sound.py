r"""Sound as a picture of itself: notes, their magnitudes over time and frequency, and the way back. Lesson 19.

A note is 0.24 s at 4,000 samples a second. Its short-time Fourier transform with a Hann window of 256 samples, moved
by 64, has 129 frequencies (15.6 Hz apart) at 16 times. A network learns the logarithms of its magnitudes; the phases,
which look like noise, are dropped, and found again by Griffin and Lim: a wave whose transform has the magnitudes.
"""

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_utils._contract import FINITE, SOME, Whole, checked
from course_utils._validate import require_between

RATE, SAMPLES, WINDOW, HOP = 4000, 960, 256, 64
FREQUENCIES, TIMES = WINDOW // 2 + 1, SAMPLES // HOP + 1
PITCHES, LOWEST = 16, 440.0  # sixteen semitones from A4 up
QUIET = 0.1  # added before the logarithm, 54 dB below a loud note's peak
MEAN, STD = -1.86, 0.97  # of the logarithms, over many notes

Waves = Annotated[Float[Tensor, "b 960"], FINITE]
Magnitudes = Annotated[Float[Tensor, "b 129 16"], FINITE]


@checked
def frequency_of(label: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """The fundamental of pitch 0 … 15, in Hz: 440 · 2^(label / 12); on the CPU, as all notes are."""
    label = label.cpu()
    require_between("label", label, 0, PITCHES - 1, f"0 … {PITCHES - 1}")
    return LOWEST * 2.0 ** (label.double() / 12)


@checked
def notes(label: Int[Tensor, "b"], generator: torch.Generator) -> Float[Tensor, "b 960"]:
    """A note of each pitch, each with an instrument and a touch of its own; the fundamental is the loudest partial.

    Partials below 1,900 Hz, each `brightness` (0.1 … 0.7) times as loud as the one before, in any phase; 10 ms to
    rise, then a decay of 2 … 12 a second.
    """
    f0, n = frequency_of(label)[:, None], len(label)
    draw = torch.rand(n, 4, generator=generator, dtype=torch.float64)
    brightness, decay, loud = 0.1 + 0.6 * draw[:, :1], 2 + 10 * draw[:, 1:2], 0.4 + 0.5 * draw[:, 2:3]
    t = torch.arange(SAMPLES, dtype=torch.float64) / RATE
    wave = torch.zeros(n, SAMPLES, dtype=torch.float64)
    for h in range(1, 5):
        phase = 2 * math.pi * torch.rand(n, 1, generator=generator, dtype=torch.float64)
        audible = (h * f0 < 1900).double()
        wave += audible * brightness ** (h - 1) * torch.sin(2 * math.pi * h * f0 * t + phase)
    wave = wave * (t / 0.01).clamp(max=1) * torch.exp(-decay * t)
    return (loud * wave / wave.abs().amax(1, keepdim=True)).float()


def _stft(wave: Tensor) -> Tensor:
    window = torch.hann_window(WINDOW, dtype=wave.dtype, device=wave.device)
    return torch.stft(wave, WINDOW, HOP, window=window, center=True, pad_mode="constant", return_complex=True)


def _istft(spectrum: Tensor) -> Tensor:
    window = torch.hann_window(WINDOW, dtype=spectrum.real.dtype, device=spectrum.device)
    return torch.istft(spectrum, WINDOW, HOP, window=window, length=SAMPLES)


@checked
def magnitudes(wave: Waves) -> Float[Tensor, "b 129 16"]:
    """|STFT|: how loud each frequency is at each time. Linear: twice the wave has twice the magnitudes."""
    return _stft(wave).abs()


@checked
def to_picture(magnitude: Magnitudes) -> Float[Tensor, "b 1 128 16"]:
    """Magnitudes as a network learns them: (log(m + 0.1) - mean) / std, without the highest frequency, an empty one."""
    return (((magnitude[:, :-1] + QUIET).log() - MEAN) / STD)[:, None]


@checked
def from_picture(x: Annotated[Float[Tensor, "b 1 128 16"], FINITE]) -> Float[Tensor, "b 129 16"]:
    """The inverse of `to_picture`: *linear* magnitudes again, which is what `griffin_lim` wants."""
    magnitude = ((x[:, 0] * STD + MEAN).exp() - QUIET).clamp(min=0)
    return torch.cat([magnitude, torch.zeros_like(magnitude[:, :1])], 1)


@checked
def griffin_lim(
    magnitude: Annotated[Magnitudes, SOME], iterations: Annotated[int, Whole(0)] = 60, *, generator: torch.Generator
) -> Float[Tensor, "b 960"]:
    """A wave with these magnitudes: from any phases, back and forth between waves and transforms (Griffin & Lim 1984).

    Each round makes a wave of magnitudes and phases, and keeps of its transform the phases. With the momentum of
    Perraudin et al. 2013, Alg. 2 (0.99).
    """
    angle = 2 * math.pi * torch.rand(magnitude.shape, generator=generator, dtype=torch.float64)
    phase = torch.polar(torch.ones_like(angle), angle).to(magnitude.device, torch.complex64)
    before = torch.zeros_like(phase)
    for _ in range(iterations):
        now = _stft(_istft(magnitude * phase))
        ahead = now + 0.99 * (now - before)
        phase, before = ahead / ahead.abs().clamp(min=1e-9), now
    return _istft(magnitude * phase)


@checked
def pitch_of(wave: Waves) -> Float[Tensor, "b"]:
    """The estimator of this lesson, in Hz: where the spectrum of the whole note has its highest peak, 350 … 1,400 Hz.

    Hann window, zeros up to 32,768 samples, so that frequencies lie 0.12 Hz apart. For notes whose fundamental is
    their loudest partial; silence has no pitch, and gets the lowest.
    """
    window = torch.hann_window(wave.shape[1], dtype=torch.float64, device=wave.device)
    spectrum = torch.fft.rfft(wave.double() * window, 32_768).abs()
    step = RATE / 32_768
    low, high = round(350 / step), round(1400 / step)
    return (spectrum[:, low:high].argmax(1) + low) * step


@checked
def cents(frequency: Float[Tensor, "b"], wanted: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """How far off a frequency is, in hundredths of a semitone; 50 are a quarter tone."""
    return 1200 * torch.log2(frequency / wanted.to(frequency))


def random_notes(n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n 1 128 16"], Int[Tensor, "n"]]:
    """A batch for `training.train`: pictures of new notes, and their pitches."""
    label = torch.randint(PITCHES, (n,), generator=generator)
    return to_picture(magnitudes(notes(label, generator))), label
