"""The whole of CIFAR-10: read from a folder, or fetched by torchvision; verified, and nothing in it is run."""

import io
import os
import pickle
import shutil
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from course_utils.data.embedded import pixels_sha256
from course_utils.files import DataError, disk_is_full, read

# torchvision is imported where it is needed: it takes longer than reading CIFAR-10.

FOLDER = "cifar-10-batches-py"  # torchvision's name for it
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


def full_cifar10(
    split: str, entry: dict[str, Any], root: str | os.PathLike[str] | None, download: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split, both uint8; fetched if they are not under `root`. See `data.load_images`."""
    root = Path(root or os.environ.get("COURSE_DATA") or "~/.cache/diffusion-course").expanduser()
    folder = root / FOLDER
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
    batches = [_read_batch(folder / name) for name in BATCHES[split]]
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = read(path, f"Delete {path.parent} and run again")
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

    goal, part = root / FOLDER, None
    try:
        root.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".cifar10-", dir=root))
        for left in reversed(range(tries)):
            try:
                download_and_extract_archive(CIFAR10.url, part, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
                break
            except (OSError, RuntimeError, HTTPException, EOFError) as error:
                if disk_is_full(error) or not left:
                    raise
                time.sleep(2 ** (tries - left))  # 2, then 4 seconds
        _verified_cifar10(part / FOLDER, split, entry)
        for path in (part / FOLDER).iterdir():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        try:
            (part / FOLDER).rename(goal)
        except OSError:
            if not goal.is_dir():  # else another process was faster, and its copy will do
                raise
    except DataError:
        raise
    except (OSError, RuntimeError, HTTPException, EOFError) as error:
        if disk_is_full(error):
            raise DataError(f"{root}: the disk is full. CIFAR-10 needs 360 MB; nothing was left behind") from error
        raise DataError(
            f"CIFAR-10 could not be downloaded to {root} ({error}), tried up to {tries} times. "
            "Nothing was left behind. Check the network and run again; or unpack cifar-10-python.tar.gz there by other "
            "means; or use the embedded images with full=False"
        ) from error
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)
