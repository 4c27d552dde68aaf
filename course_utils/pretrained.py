"""The course's trained networks: shipped with it in `data/checkpoints`, verified, ready to denoise.

A file holds the averaged weights in float16 and, as text, the recipe they were trained by (safetensors: no code in it).
`course ship` writes it from a run of `course train`, and notes its size and SHA-256 in `manifest.json` beside it.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from course_utils._validate import as_device, require_one_of
from course_utils.checkpoints import CheckpointError, load_weights
from course_utils.classifier import Classifier
from course_utils.data import CLASSES, decode_mosaic, load_images
from course_utils.denoisers import Denoiser
from course_utils.files import DataError, data_dir, parse_json, read, read_verified, write_atomically
from course_utils.recipes import Recipe, make_model, make_task, recipe_from, settings_of
from course_utils.tasks import DENOISERS
from course_utils.training import Training

FOLDER, SAMPLES, REFERENCES = "checkpoints", "samples", "references"
MANIFEST, CARDS = "manifest.json", "README.md"
BEGIN, END = "<!-- table, written by course ship and course evaluate -->", "<!-- end of table -->"


def load_denoiser(name: str = "mnist-unet", device: torch.device | str = "cpu") -> Denoiser:
    """A trained denoiser by its recipe's name: in eval mode, its weights float32 and fixed, its schedule with it.

    Raises:
        ValueError: there is no such denoiser; the message lists those there are.
        DataError: its file is missing or damaged.
    """
    return load_network(name, device, tasks=DENOISERS, what="denoiser")


def load_classifier(dataset: str = "mnist", device: torch.device | str = "cpu") -> Classifier:
    """The classifier of a dataset, whose features serve the metrics; in eval mode. Raises as `load_denoiser` does."""
    require_one_of("dataset", dataset, CLASSES)
    return load_network(f"{dataset}-classifier", device, tasks=("classification",), what="classifier")


def load_network(
    name: str, device: torch.device | str = "cpu", *, tasks: Sequence[str] | None = None, what: str = "network"
) -> Any:
    """A trained network by its recipe's name, of some tasks or of any. Raises as `load_denoiser` does."""
    device, manifest = as_device(device), read_manifest()
    offered = [n for n in manifest if tasks is None or _recipe_of(manifest[n]).task["kind"] in tasks]
    if name not in offered:
        raise ValueError(f"name: no {what} {name!r} is shipped; there are {', '.join(offered)}")
    path = data_dir() / FOLDER / f"{name}.safetensors"
    content = read_verified(path, manifest[name])
    recipe = dataclasses.replace(_recipe_in(content), critic=None)  # it stayed at home
    model = make_model(recipe, tuple(manifest[name]["pixel_moments"]) or None).float()
    load_weights(model, safetensors.torch.load(content), str(path))  # copied into float32 as they are
    return model.to(device).eval().requires_grad_(False)


def load_samples(name: str = "mnist-unet") -> tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, "n"]]:
    """Images that a shipped network drew, and the classes they were asked to be: those of the test split, in its order.

    `data/samples.py` drew them, which takes a while, and `data/samples/manifest.json` says how.

    Raises:
        ValueError: there are none of that network.
        DataError: their file is missing or damaged.
    """
    folder = data_dir() / SAMPLES
    manifest = read_manifest(folder)
    require_one_of("name", name, manifest)
    images = decode_mosaic(read_verified(folder / f"{name}.webp", manifest[name]), *manifest[name]["shape"])
    labels = load_images(recipe_of(name).dataset, "test", n=len(images))[1]
    return torch.from_numpy(images), labels


def load_moments(dataset: str = "mnist") -> tuple[Float[Tensor, "d"], Float[Tensor, "d d"]] | None:
    """Mean and covariance, float64, of what a dataset's classifier sees in the training split: all that FID asks of it.

    `data/references.py` computed them, since to look at 60,000 images takes a while. None if nobody did, or if another
    classifier is shipped since then. Raises DataError if their file is missing or damaged.
    """
    require_one_of("dataset", dataset, CLASSES)
    folder = data_dir() / REFERENCES
    entry = read_manifest(folder).get(dataset)
    if entry is None or entry["classifier_sha256"] != read_manifest()[f"{dataset}-classifier"]["sha256"]:
        return None
    stored = safetensors.torch.load(read_verified(folder / f"{dataset}.safetensors", entry))
    return stored["mean"], stored["covariance"]


def read_manifest(folder: Path | None = None) -> dict[str, Any]:
    """What is shipped, by name: size, SHA-256, recipe, and what was measured on it. Raises DataError if damaged."""
    path = (folder or data_dir() / FOLDER) / MANIFEST
    way_out = f"Restore it: git checkout -- data/{path.parent.name}/{MANIFEST}"
    return parse_json(path, read(path, way_out), way_out) if path.exists() else {}


def recipe_of(name: str) -> Recipe:
    """The recipe that a shipped network was trained by."""
    manifest = read_manifest()
    require_one_of("name", name, manifest)
    return _recipe_of(manifest[name])


def _recipe_of(entry: dict[str, Any]) -> Recipe:
    try:
        return recipe_from(entry["recipe"])
    except (TypeError, AttributeError) as error:
        path = data_dir() / FOLDER / MANIFEST
        raise DataError(
            f"{path}: holds no recipe ({error}). Restore it: git checkout -- data/{FOLDER}/{MANIFEST}"
        ) from error


def _recipe_in(content: bytes) -> Recipe:
    """The recipe that a file of weights carries in its header, whose length its first eight bytes tell."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return recipe_from(json.loads(header["__metadata__"]["recipe"]))


def ship(
    run: Training, recipe: Recipe, folder: str | os.PathLike[str] | None = None, decay: float | None = None
) -> Path:
    """Write a run's averaged weights, in float16, to the folder of shipped networks, and its entry in the manifest.

    Of a run that kept several averages, `decay` names the one: the first unless told. The file's recipe has it alone.

    Raises:
        ValueError: the run kept no average of that decay.
        CheckpointError: the run is not done, or a weight does not fit into float16.
        DataError: a file cannot be written.
    """
    folder = Path(folder or data_dir() / FOLDER)
    if run.step < recipe.steps:
        raise CheckpointError(f"{recipe.name}: {run.step} of {recipe.steps} steps are done. Train to the end first")
    model = run.averaged(decay)
    if recipe.critic:
        model = model.generator  # what is drawn with
    if finish := getattr(make_task(recipe), "finish", None):  # what is measured on all the data, and kept with weights
        finish(model, recipe.dataset)
    weights = {key: _halved(key, value) for key, value in model.state_dict().items()}
    settings = settings_of(dataclasses.replace(recipe, ema=run.ema.decay if decay is None else decay))
    content = safetensors.torch.save(weights, {"recipe": json.dumps(settings)})
    path = folder / f"{recipe.name}.safetensors"
    write_atomically(path, content)
    manifest = read_manifest(folder)
    manifest[recipe.name] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "pixel_moments": [model.data_mean, model.data_std] if isinstance(model, Denoiser) else [],
        "recipe": settings,
        "measured": "",  # of these very weights: see `course evaluate`
    }
    write_manifest(manifest, folder)
    return path


def write_manifest(manifest: dict[str, Any], folder: Path | None = None) -> None:
    """Write the manifest, and the table of the page beside it, where there is one."""
    folder = folder or data_dir() / FOLDER
    manifest = dict(sorted(manifest.items()))
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
    page = folder / CARDS
    if page.exists():
        write_atomically(page, with_table(page.read_text(encoding="utf-8"), manifest).encode())


def with_table(page: str, manifest: dict[str, Any]) -> str:
    """The page of cards with the table of what is shipped between its two markers."""
    rows = ["| network | weights | bytes | trained on | steps × batch | measured |", "|---|---:|---:|---|---:|---|"]
    for name, entry in manifest.items():
        recipe = entry["recipe"]
        data = f"{recipe['dataset']}{', all 50,000 images' if recipe['full'] else ''}"
        rows.append(
            f"| `{name}` | {entry['parameters']:,} | {entry['bytes']:,} | {data} | "
            f"{recipe['steps']:,} × {recipe['batch_size']} | {entry['measured'] or 'not yet'} |"
        )
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise DataError(f"{CARDS}: wanted the lines {BEGIN} and {END}, between which the table stands, in this order")
    return f"{before}{BEGIN}\n\n" + "\n".join(rows) + f"\n\n{END}{after}"


def _halved(name: str, value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point():
        return value.cpu().contiguous()
    half = value.detach().cpu().to(torch.float16).contiguous()
    if not half.isfinite().all():
        raise CheckpointError(f"{name}: has weights that float16 cannot hold")
    return half
