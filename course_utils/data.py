"""The course's images: embedded, verified, and bytes until they reach the device.

MNIST is here whole, CIFAR-10 in part (`data/README.md` says where each comes from); the whole of CIFAR-10 is read from
a folder or fetched by torchvision. Nothing is used before its SHA-256 agrees with `data/manifest.json`.
"""

import errno
import hashlib
import io
import itertools
import json
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from course_utils._validate import (
    as_device,
    require_bytes,
    require_count,
    require_dtype,
    require_finite,
    require_float,
    require_generator,
    require_one_of,
    require_whole,
)

# torchvision and Pillow are imported where they are needed: torchvision alone takes longer than reading CIFAR-10.

CLASSES = {
    "mnist": ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
SPLITS = ("train", "test")
CIFAR10_FOLDER = "cifar-10-batches-py"  # torchvision's name for it
CIFAR10_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


class DataError(RuntimeError):
    """A data file is missing, damaged, unreadable or out of reach; the message names it and says what to do."""


# ---------------------------------------------------------------------------------------------------------------------
# Loading


def load_images(
    name: str,
    split: str = "train",
    *,
    n: int | None = None,
    full: bool = False,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> tuple[UInt8[Tensor, "n channels height width"], Int64[Tensor, "n"]]:
    """Images and labels of one split, verified against the checksums in `data/manifest.json`.

    MNIST is embedded whole (60,000 and 10,000 images). Of CIFAR-10 the first 500 of each class are embedded (test: the
    first 100); `full=True` gives all 50,000 (test: 10,000) instead.

    Args:
        name: "mnist" or "cifar10".
        split: "train" or "test".
        n: only the first n, in the official order. That order is not shuffled everywhere: the first 5,000 of MNIST's
            test split were written by other people than the last 5,000 and are easier to read.
        full: all official images. Changes nothing for MNIST.
        root: where the whole of CIFAR-10 lies or goes, in torchvision's layout; only read if `full`.
            Default: $COURSE_DATA, else ~/.cache/diffusion-course.
        download: whether torchvision may fetch the whole of CIFAR-10 (170 MB) if it is not under `root`.

    Returns:
        Images, uint8 in 0 … 255, shape (n, 1, 28, 28) or (n, 3, 32, 32); labels, int64 in 0 … 9, shape (n,).

    Raises:
        ValueError: no such name or split, or n out of range.
        DataError: a file is missing, damaged or unreadable, or the download failed.

    Used by every lesson from 01 on.
    """
    require_one_of("name", name, CLASSES)
    require_one_of("split", split, SPLITS)
    manifest, key = read_manifest(), f"{name}/{split}"
    whole = full and key in manifest["full"]
    entry = manifest["full" if whole else "splits"][key]
    if n is not None:
        require_count("n", n)
    if n is not None and n > entry["count"]:
        hint = "; full=True gives more" if key in manifest["full"] and not whole else ""
        raise ValueError(f"n: wanted 1 … {entry['count']}, the images in {key}{hint}, got {n}")

    images, labels = _full_cifar10(split, entry, root, download) if whole else _embedded(entry, manifest["files"])
    if n is not None:
        images, labels = images[:n].copy(), labels[:n]  # copied, so that the others can be freed
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def data_dir() -> Path:
    """The folder of embedded data: $COURSE_DATA_DIR if set, else the checkout's `data`, else the one in the package."""
    if named := os.environ.get("COURSE_DATA_DIR"):
        return Path(named).expanduser()
    package = Path(__file__).resolve().parent
    installed = package / "_data"  # only a built wheel has it
    return installed if installed.is_dir() else package.parent / "data"


def read_manifest() -> dict[str, Any]:
    """The checksums, counts and shapes of `data/manifest.json`. Raises DataError if it is missing or damaged."""
    path = data_dir() / "manifest.json"
    return parse_json(path, _read(path), _way_out(path))


def parse_json(path: Path, content: bytes, way_out: str) -> dict[str, Any]:
    """A manifest. Raises DataError if it is no JSON, and whenever something is looked up that is not there."""

    class Entry(dict):
        def __missing__(self, key: str) -> NoReturn:
            raise DataError(f"{path}: is damaged: it has no {key!r}. {way_out}")

    try:
        found = json.loads(content, object_hook=Entry)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except ValueError as error:
        raise DataError(f"{path}: is damaged ({error}). {way_out}") from error
    return found


def pixels_sha256(images: np.ndarray) -> str:
    """SHA-256 of a uint8 array's numbers in C order: of images (N, C, H, W), or of labels (N,)."""
    assert images.dtype == np.uint8
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def _embedded(entry: dict[str, Any], files: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    folder = data_dir()
    content = {kind: read_verified(folder / entry[kind], files[entry[kind]]) for kind in ("images", "labels")}
    path = folder / entry["images"]
    try:
        images = decode_mosaic(content["images"], entry["count"], *entry["shape"])
    except (OSError, ValueError, SyntaxError) as error:  # the three that Pillow's decoders raise
        _undecodable(path, str(error), error)
    if pixels_sha256(images) != entry["pixels_sha256"]:
        _undecodable(path, "it comes out with other pixels")
    return images, decode_labels(content["labels"])


def _undecodable(path: Path, why: str, error: Exception | None = None) -> NoReturn:
    import PIL

    raise DataError(
        f"{path}: the file is intact, but Pillow {PIL.__version__} cannot decode it ({why}). "
        "Install a Pillow that reads WebP: `pip install --upgrade pillow`"
    ) from error


def decode_mosaic(content: bytes, count: int, channels: int, height: int, width: int) -> np.ndarray:
    """The images of a mosaic file, uint8 (count, channels, height, width), read row by row from its top left corner."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as mosaic:
        # WebP has no grey: three equal channels, of which one is kept before the other two cost memory
        pixels = np.asarray(mosaic.getchannel(0) if channels == 1 else mosaic)
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    tiles = pixels.reshape(rows, height, columns, width, channels).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(count, channels, height, width)


def decode_labels(content: bytes) -> np.ndarray:
    """The labels of a text file of digits, uint8 (N,). Line breaks are only there for the reader."""
    return np.frombuffer(b"".join(content.split()), np.uint8) - np.uint8(ord("0"))


# ---------------------------------------------------------------------------------------------------------------------
# The whole of CIFAR-10


def _full_cifar10(
    split: str, entry: dict[str, Any], root: str | os.PathLike[str] | None, download: bool
) -> tuple[np.ndarray, np.ndarray]:
    root = Path(root or os.environ.get("COURSE_DATA") or "~/.cache/diffusion-course").expanduser()
    folder = root / CIFAR10_FOLDER
    if not folder.is_dir():
        if not download:
            raise DataError(
                f"{folder}: there is no such folder, and download=False. Unpack cifar-10-python.tar.gz in {root}, "
                "name another `root` (or $COURSE_DATA), or use the embedded images with full=False"
            )
        _download_cifar10(root, split, entry)
    return _verified_cifar10(folder, split, entry)


def _verified_cifar10(folder: Path, split: str, entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_cifar10(folder, split)
    if (pixels_sha256(images), pixels_sha256(labels)) != (entry["pixels_sha256"], entry["labels_sha256"]):
        raise DataError(f"{folder}: its {split} images or labels are not CIFAR-10's. Delete {folder} and run again")
    return images, labels


def read_cifar10(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,), both uint8, from a folder of CIFAR-10's own pickled batches.

    Reads them without running anything they may contain. Raises DataError, naming the file. Verifies no checksum.
    """
    batches = [_read_batch(folder / name) for name in CIFAR10_BATCHES[split]]
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = _read(path)
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        images, labels = batch["data"], np.asarray(batch["labels"])
        if images.dtype != np.uint8 or images.shape != (len(labels), 3 * 32 * 32):
            raise ValueError(f"its images are {images.dtype} of shape {images.shape}")
        if labels.dtype.kind != "i" or not 0 <= labels.min() <= labels.max() <= 9:
            raise ValueError("its labels are not all integers in 0 … 9")
    except Exception as error:  # a damaged pickle may raise anything at all
        raise DataError(f"{path}: is no batch of CIFAR-10 ({error}). Delete {path.parent} and run again") from error
    return images.reshape(-1, 3, 32, 32), labels.astype(np.uint8)


def _latin1(text: str, encoding: str) -> bytes:
    # how Python 3 writes bytes into the pickles of Python 2; any other codec would be a door into the codec registry
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r} is not admitted")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickled numpy arrays and nothing else: a pickle can otherwise call any function of this machine."""

    ADMITTED = {  # noqa: RUF012
        # the function behind every pickled array; asked from an array, since numpy 2 moved it
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted")
        return self.ADMITTED[module, name]


def _download_cifar10(root: Path, split: str, entry: dict[str, Any], tries: int = 3) -> None:
    """Fetch CIFAR-10 with torchvision (which checks its MD5), verify it, and only then move it into place."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    goal, part = root / CIFAR10_FOLDER, None
    try:
        root.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".cifar10-", dir=root))
        for left in reversed(range(tries)):
            try:
                download_and_extract_archive(CIFAR10.url, part, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
                break
            except (OSError, RuntimeError, HTTPException, EOFError) as error:
                if _disk_is_full(error) or not left:
                    raise
                time.sleep(2 ** (tries - left))  # 2, then 4 seconds
        _verified_cifar10(part / CIFAR10_FOLDER, split, entry)
        for path in (part / CIFAR10_FOLDER).iterdir():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        try:
            (part / CIFAR10_FOLDER).rename(goal)
        except OSError:
            if not goal.is_dir():  # else another process was faster, and its copy will do
                raise
    except DataError:
        raise
    except (OSError, RuntimeError, HTTPException, EOFError) as error:
        if _disk_is_full(error):
            raise DataError(f"{root}: the disk is full. CIFAR-10 needs 360 MB; nothing was left behind") from error
        raise DataError(
            f"CIFAR-10 could not be downloaded to {root} ({error}), tried up to {tries} times. "
            "Nothing was left behind. Check the network and run again; or unpack cifar-10-python.tar.gz there by other "
            "means; or use the embedded images with full=False"
        ) from error
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)


# ---------------------------------------------------------------------------------------------------------------------
# Files


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a neighbour, flushed to the disk, then renamed.

    Raises DataError if that fails, and leaves nothing behind: what was there before is there still.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        way_out = "Free some space" if _disk_is_full(error) else "Make the folder writable"
        raise DataError(f"{path}: cannot be written ({error}). {way_out} and run again") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing. {_way_out(path)}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). {_way_out(path)}") from error


def read_verified(path: Path, entry: dict[str, Any]) -> bytes:
    """A file's bytes, if they have the `bytes` and the `sha256` of a manifest's entry. Raises DataError if not."""
    content = _read(path)
    if len(content) != entry["bytes"]:
        raise DataError(f"{path}: has {len(content):,} bytes, wanted {entry['bytes']:,}. {_way_out(path)}")
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise DataError(f"{path}: is damaged: SHA-256 {found[:12]}…, wanted {entry['sha256'][:12]}…. {_way_out(path)}")
    return content


def _way_out(path: Path) -> str:
    if CIFAR10_FOLDER in path.parts:
        return f"Delete {path.parent} and run again"
    if named := os.environ.get("COURSE_DATA_DIR"):
        return f"$COURSE_DATA_DIR is {named}: unset it, or name a folder with all of the course's data"
    if data_dir().name == "_data":
        return "Reinstall the package: `pip install --force-reinstall --no-deps diffusion-from-scratch`"
    inside = path.relative_to(data_dir()).as_posix()
    return f"Run `git checkout -- data/{inside}`, or make it anew as data/README.md says"


def _disk_is_full(error: BaseException | None) -> bool:
    while error:  # torchvision retries on any OSError, so a full disk may hide behind the error of the second try
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__context__
    return False


# ---------------------------------------------------------------------------------------------------------------------
# Tensors


def normalize(images: UInt8[Tensor, "*shape"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*shape"]:
    """Bytes to numbers in [-1, 1], where diffusion models work:  x = byte / 127.5 - 1.

    Computed in at least float32, so that `denormalize` returns every byte even after a cast to bfloat16.
    Raises TypeError for anything but uint8: an image that is normalised twice is a quiet, common bug.
    """
    require_bytes("images", images)
    require_dtype("dtype", dtype)
    return (images.to(torch.promote_types(dtype, torch.float32)) / 127.5 - 1).to(dtype)


def denormalize(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Numbers in [-1, 1] back to bytes: rounded to the nearest, clamped to 0 … 255; not-a-number becomes 0, black.

    Raises TypeError for integers.
    """
    require_float("x", x)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return ((x + 1) * 127.5).round().clamp(0, 255).nan_to_num(0).to(torch.uint8)


def random_flip(x: Float[Tensor, "b *shape"], generator: torch.Generator) -> Float[Tensor, "b *shape"]:
    """Half of the images mirrored left to right, drawn for each; the generator lives on the CPU."""
    require_float("x", x)
    require_generator(generator)
    mirrored = torch.rand(len(x), generator=generator, dtype=torch.float32) < 0.5
    return torch.where(moved(mirrored, x.device).reshape(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)


def shifted(x: Float[Tensor, "b c h w"], by: Int64[Tensor, "b 2"]) -> Float[Tensor, "b c h w"]:
    """Each image moved by its own (rows, columns), what comes in at the edge being mirrored; `by` lives on the CPU."""
    require_float("x", x)
    require_whole("by", by)
    if x.ndim != 4 or by.shape != (len(x), 2):
        raise ValueError(f"by: wanted (rows, columns) for each image of {tuple(x.shape)}, got {tuple(by.shape)}")
    most = int(by.abs().max()) if len(by) else 0
    if most >= min(x.shape[2:]):
        raise ValueError(f"by: wanted moves shorter than the images, {tuple(x.shape[2:])}, got {most}")
    by = moved(by, x.device)
    padded = F.pad(x, (most, most, most, most), mode="reflect")
    rows = torch.arange(x.shape[2], device=x.device) + (most - by[:, :1])  # (b, h)
    columns = torch.arange(x.shape[3], device=x.device) + (most - by[:, 1:])  # (b, w)
    image = torch.arange(len(x), device=x.device)
    return padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def moved(x: Tensor, device: torch.device) -> Tensor:
    """x on the device; to a GPU without waiting until all that it still has to do is done."""
    return x.to(device, non_blocking=x.device.type == "cpu")  # the other way round Python must wait for the numbers


def as_batch(x: Shaped[Tensor, "b *shape"], device: torch.device, dtype: torch.dtype) -> Shaped[Tensor, "b *shape"]:
    """What a network is shown: bytes are images, and go to [-1, 1]; floats get the dtype; tokens are int64."""
    x = moved(x, device)
    return normalize(x, dtype) if x.dtype == torch.uint8 else x.to(dtype if x.is_floating_point() else torch.long)


def as_labels(label: Shaped[Tensor, "b *shape"], device: torch.device) -> Shaped[Tensor, "b *shape"]:
    """Whole numbers as int64; floats, such as a pitch, as they are."""
    label = moved(label, device)
    return label if label.is_floating_point() else label.long()


def batches(
    images: Shaped[Tensor, "n *shape"],
    labels: Integer[Tensor, "n"] | None = None,
    batch_size: int = 128,
    *,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    drop_last: bool = True,
    epochs: int | None = None,
    skip: int = 0,
) -> Iterator[Any]:
    """Shuffled batches, each image once an epoch, in a new order every epoch; images of bytes are normalised.

    There are no worker processes, because there is nothing for them to do: the images are in memory as bytes (47 MB for
    MNIST, 154 MB for CIFAR-10), a batch is one lookup, and only bytes travel to the device, where they become floats of
    four times the size. Pass images that live on the GPU already and nothing travels at all.

    Args:
        images: uint8 (n, channels, height, width), clips with frames before height, on any device; kept as they are.
            Floats (latents, waveforms) and tokens, whole numbers, of any shape (n, …), are not normalised.
        labels: one per image, whole numbers of any kind (bytes, as the data files have them), or None.
        batch_size: images per batch.
        generator: draws one permutation an epoch; the global random stream is left alone.
        device, dtype: where batches go, None: where `images` is; and of what floating-point kind they are.
        drop_last: leave out an epoch's last batch if it is short.
        epochs: how often to go through the images; None: for ever.
        skip: batches to leave out at the start, unbuilt. With the generator as it was at the beginning, a resumed run
            finds its place: `batches(…, skip=k)` is what was left after k batches.

    Yields:
        (x, y), or x if there are no labels: x (batch_size, …), float32 in [-1, 1] if the images are bytes; y int64,
        (batch_size,).

    Raises:
        TypeError: images are not numbers.
        ValueError: images as bytes without channels, or floats with NaN; labels that do not match the images, or not
            one whole batch.

    Used by lessons 04 … 19.
    """
    _require_data(images)
    require_generator(generator)
    require_dtype("dtype", dtype)
    batch_size, skip = require_count("batch_size", batch_size), require_count("skip", skip, least=0)
    if epochs is not None:
        epochs = require_count("epochs", epochs, least=0)
    n, device = len(images), images.device if device is None else as_device(device)
    if labels is not None:
        require_whole("labels", labels)
        if labels.shape != (n,):
            raise ValueError(f"labels: wanted one for each of {n} images, got {tuple(labels.shape)}")
    if (n // batch_size if drop_last else n) < 1:
        raise ValueError(f"batch_size: wanted 1 … {n}, the number of images, got {batch_size}")

    per_epoch = n // batch_size if drop_last else None

    def indices() -> Iterator[Tensor]:
        for _ in itertools.count() if epochs is None else range(epochs):
            order = torch.randperm(n, generator=generator, device=generator.device).to(images.device)
            yield from order.split(batch_size)[:per_epoch]

    def generate() -> Iterator[Any]:
        for chosen in itertools.islice(indices(), skip, None):
            x = as_batch(images[chosen], device, dtype)
            yield x if labels is None else (x, as_labels(labels[chosen.to(labels.device)], device))

    return generate()  # a function of its own, so that wrong arguments are reported at the call, not at the first batch


def _require_data(images: object) -> None:
    if isinstance(images, Tensor) and images.is_floating_point():
        require_finite("images", images)
    elif not isinstance(images, Tensor) or images.dtype != torch.uint8:
        require_whole("images", images)
    elif images.ndim < 4:
        raise ValueError(
            f"images: wanted bytes of shape (n, channels, height, width), got {tuple(images.shape)}; images[:, None] "
            "has one channel"
        )
