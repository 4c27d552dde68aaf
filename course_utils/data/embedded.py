"""The embedded images: mosaics of lossless WebP, labels as text; nothing is used before its checksum agrees."""

import hashlib
import io
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from course_utils.files import DataError, data_dir, read_verified

# Pillow is imported where it is needed: most of the course never decodes an image.


def embedded(entry: dict[str, Any], files: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split, both uint8, by its entry in the manifest and those of its files."""
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


def pixels_sha256(images: np.ndarray) -> str:
    """SHA-256 of a uint8 array's numbers in C order: of images (N, C, H, W), or of labels (N,)."""
    assert images.dtype == np.uint8
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
