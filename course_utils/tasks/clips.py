"""Denoising of notes and of films: trained as all else, and measured by what is to be heard or seen (lesson 19)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_utils import film, guidance, sound
from course_utils._validate import require_count
from course_utils.samplers import sample_dpmpp_2m, uniform_grid
from course_utils.tasks.denoising import Denoising
from course_utils.tasks.tokens import in_words


def draw_labelled(model: Any, shape: tuple[int, ...], label: Tensor, steps: int, w: float, seed: int) -> Tensor:
    """Draws of each label, by DPM-Solver++ 2M on the uniform grid, fifty at a time."""
    generator, device, parts = torch.Generator().manual_seed(seed), next(model.parameters()).device, []
    denoise = model if w == 1 else guidance.classifier_free(model, w)
    for some in label.split(50):
        x_T = torch.randn(len(some), *shape, generator=generator).to(device)
        grid = uniform_grid(model.schedule, steps)
        parts.append(sample_dpmpp_2m(denoise, x_T, model.schedule, grid, label=some.to(device)).float().cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class Notes(Denoising):
    """Denoising of pictures of notes."""

    def measure(  # type: ignore[override]
        self, model: Any, dataset: str, *, n: int = 320, steps: int = 10, guidance: float = 1.0, seed: int = 0
    ) -> object:
        """The share of n drawn notes, of all pitches, that are measured within a quarter tone of the pitch asked."""
        from course_utils.metrics import share  # above tasks

        require_count("n", n, least=2)
        label = torch.arange(n) % sound.PITCHES
        x = draw_labelled(model, (1, sound.FREQUENCIES - 1, sound.TIMES), label, steps, guidance, seed)
        wave = sound.griffin_lim(sound.from_picture(x), generator=torch.Generator().manual_seed(seed))
        off = sound.cents(sound.pitch_of(wave), sound.frequency_of(label)).abs()
        how = f"{n} notes, DPM-Solver++ 2M, {steps} uniform steps, w = {guidance:g}, seed {seed}"
        right = share(int((off < 50).sum()), n)
        return f"{right.value:.1%} [{right.low:.1%}, {right.high:.1%}] within a quarter tone of the pitch asked; {how}"


@dataclass(frozen=True)
class Film(Denoising):
    """Denoising of clips."""

    def measure(  # type: ignore[override]
        self, model: Any, dataset: str, *, n: int = 200, steps: int = 10, guidance: float = 1.0, seed: int = 0
    ) -> object:
        """Of n drawn clips: class kept in all frames, how far from even motion, flicker."""
        from course_utils.classifier import look_at
        from course_utils.metrics import share  # above tasks
        from course_utils.pretrained import load_classifier  # which knows the tasks

        require_count("n", n, least=2)
        label = torch.arange(n) % 10
        x = film.pixels(draw_labelled(model, (1, film.FRAMES, film.SIDE, film.SIDE), label, steps, guidance, seed))
        seen = look_at(load_classifier("mnist"), film.as_digits(x))[1].view(n, -1)
        kept = share(int((seen == label[:, None]).all(1).sum()), n)
        share_kept = f"{kept.value:.1%} [{kept.low:.1%}, {kept.high:.1%}]"
        motion, flicker = in_words(film.unsteadiness(x), ".3f"), in_words(film.flicker(x).double(), ".4f")
        how = f"{n} clips, DPM-Solver++ 2M, {steps} uniform steps, w = {guidance:g}, seed {seed}"
        return f"class kept in {share_kept} of clips, {motion} pixels off even motion, flicker {flicker}; {how}"
