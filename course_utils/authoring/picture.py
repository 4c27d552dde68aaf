"""The picture at the top of the README: `python -m course_utils.authoring.picture docs/film.png`."""

import sys
from pathlib import Path

import torch

from course_utils import forward, schedules
from course_utils.data import load_images, normalize, write_atomically
from course_utils.plotting import image_grid, to_png, use_style
from course_utils.samplers import sample_ddpm, uniform_grid
from course_utils.toy import IdealDenoiser


def picture() -> bytes:
    """Real digits on their way to noise, and noise on its way to digits, as PNG."""
    use_style()
    generator = torch.Generator().manual_seed(2)
    schedule = schedules.cosine()
    digits, labels = load_images("mnist", "train")
    digits = normalize(digits[:10_000])
    there, back = [], []
    for x_0 in digits[:2, None]:
        chain = dict(forward.q_chain(x_0, schedule, generator))
        there += [chain[t] for t in range(0, 1001, 100)]
    films: list[list[torch.Tensor]] = [[], []]
    x_T = torch.randn(2, 1, 28, 28, generator=generator)
    denoise = IdealDenoiser(digits, schedule, labels[:10_000])

    def keep(step) -> None:
        if step.s % 100 == 0:
            for film, frame in zip(films, step.x_s, strict=True):
                film.append(frame[None])

    sample_ddpm(denoise, x_T, schedule, uniform_grid(schedule, 100), generator=generator, callback=keep)
    for film, noise in zip(films, x_T, strict=True):
        back += [noise[None], *film]
    rows = ["forward:\nadd noise", "", "backward:\nremove it", ""]
    return to_png(image_grid(torch.cat(there + back), columns=11, row_labels=rows, size=0.7))


if __name__ == "__main__":
    write_atomically(Path(sys.argv[1]), picture())
