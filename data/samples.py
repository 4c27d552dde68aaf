"""Draw the digits that lesson 09 measures, and write them as one picture: a quarter of an hour on two idle cores.

    python data/samples.py [--n 10000]

`pretrained.load_samples` reads them. They are drawn in float32 on the CPU, so that any machine can draw them again:
all pixels come out within a grey level or two of these.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from build import encode_mosaic  # noqa: E402

from course_utils import metrics, pretrained  # noqa: E402
from course_utils.data import load_images  # noqa: E402
from course_utils.files import write_atomically  # noqa: E402
from course_utils.samplers import uniform_grid  # noqa: E402

NAME, STEPS, SEED = "mnist-unet", 10, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="digits, of the classes of the first n of the test split")
    n = parser.parse_args().n
    network = pretrained.load_denoiser(NAME)
    grid = uniform_grid(network.schedule, STEPS)
    generator, classes, drawn = torch.Generator().manual_seed(SEED), load_images("mnist", "test", n=n)[1], []
    for labels in classes.split(250):
        options = {"timesteps": grid, "num_classes": 10, "labels": labels, "generator": generator}
        drawn.append(metrics.draw_images(network, network.schedule, (1, 28, 28), len(labels), **options)[0])
        print(f"\r{sum(map(len, drawn)):,} of {n:,} digits", end="", flush=True)
    content = encode_mosaic(torch.cat(drawn).numpy(), columns=100, effort=4)
    write_atomically(HERE / "samples" / f"{NAME}.webp", content)
    entry = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "shape": [n, 1, 28, 28],
        "drawn": f"DDIM, {STEPS} steps of a uniform grid, float32, seed {SEED}, the classes of MNIST's test split",
        "network_sha256": pretrained.read_manifest()[NAME]["sha256"],
    }
    write_atomically(HERE / "samples" / "manifest.json", (json.dumps({NAME: entry}, indent=2) + "\n").encode())
    print(f"\n{HERE / 'samples' / NAME}.webp: {len(content):,} bytes")


if __name__ == "__main__":
    main()
