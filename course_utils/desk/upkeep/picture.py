"""The picture at the top of the README: `python -m course_utils.desk.upkeep.picture docs/film.png`."""

import sys
from pathlib import Path

import torch

from course_utils import forward, schedules
from course_utils.data import load_images, normalize
from course_utils.files import write_atomically
from course_utils.plotting import image_grid, to_png, use_style
from course_utils.pretrained import load_denoiser
from course_utils.samplers import sample_ddpm, uniform_grid


def picture() -> bytes:
    """Real digits on their way to noise, and noise on its way to digits, as PNG."""
    use_style()
    generator = torch.Generator().manual_seed(2)
    denoise = load_denoiser("mnist-unet")
    schedule, digits = schedules.linear(), normalize(load_images("mnist", "train")[0][:2])  # the one it was trained on
    there, back = [], []
    for x_0 in digits[:, None]:
        chain = dict(forward.q_chain(x_0, schedule, generator))
        there += [chain[t] for t in range(0, 1001, 100)]
    films: list[list[torch.Tensor]] = [[], []]
    x_T = torch.randn(2, 1, 28, 28, generator=generator)

    def keep(step) -> None:
        if step.s % 100 == 0:
            for film, frame in zip(films, step.x_s, strict=True):
                film.append(frame[None])

    grid, label = uniform_grid(schedule, 100), torch.tensor([2, 6])
    sample_ddpm(denoise, x_T, schedule, grid, generator=generator, callback=keep, label=label)
    for film, noise in zip(films, x_T, strict=True):
        back += [noise[None], *film]
    rows = ["forward:\nadd noise", "", "backward:\nremove it", ""]
    return to_png(image_grid(torch.cat(there + back), columns=11, row_labels=rows, size=0.7))


if __name__ == "__main__":
    write_atomically(Path(sys.argv[1]), picture())
