"""The embedded images are the official ones, damage never passes unseen, and batches keep their promises."""

import contextlib
import errno
import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import itertools
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils import data, files
from course_utils.data import batches, batching, cifar10, denormalize, load_images, normalize
from course_utils.data import embedded as mosaics
from course_utils.files import DataError

REPO = Path(__file__).resolve().parent.parent


def _import_build():
    spec = importlib.util.spec_from_file_location("data_build", REPO / "data" / "build.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = _import_build()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


# ---------------------------------------------------------------------------------------------------------------------
# Stand-ins: small sources in every layout, and a checkout built from them


def _random_split(rng, channels, size, repeats):
    labels = rng.permutation(np.repeat(np.arange(10), repeats)).astype(np.uint8)
    return rng.integers(0, 256, (len(labels), channels, size, size), dtype=np.uint8), labels


@pytest.fixture(scope="module")
def tiny():
    """Arrays of four small splits: 40 + 20 grey images, 100 + 20 coloured ones."""
    rng = np.random.default_rng(0)
    return {
        "mnist/train": _random_split(rng, 1, 28, 4),
        "mnist/test": _random_split(rng, 1, 28, 2),
        "cifar10/train": _random_split(rng, 3, 32, 10),
        "cifar10/test": _random_split(rng, 3, 32, 2),
    }


def plans_for(tiny):
    plans = {}
    for key, (images, labels) in tiny.items():
        pixels = images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1) / 255
        plans[key] = replace(
            build.PLANS[key],
            counts=tuple(int((labels == k).sum()) for k in range(10)),
            mean=tuple(np.round(pixels.mean(1), 8).tolist()),
            std=tuple(np.round(pixels.std(1), 8).tolist()),
            digits=8,
            columns=10,
            effort=0,
            first=3 if key == "cifar10/train" else 1 if key == "cifar10/test" else None,
            idx_md5=None,
        )
    return plans


def write_mnist(folder, tiny, compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = tiny[f"mnist/{split}"]
        files = {
            f"{prefix}-images-idx3-ubyte": struct.pack(">4i", 2051, len(images), 28, 28) + images.tobytes(),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">2i", 2049, len(labels)) + labels.tobytes(),
        }
        for name, content in files.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(content)) if compress else (folder / name).write_bytes(
                content
            )


def write_pickles(folder, tiny):
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in (("train", [f"data_batch_{i}" for i in range(1, 6)]), ("test", ["test_batch"])):
        images, labels = tiny[f"cifar10/{split}"]
        for name, x, y in zip(
            names, np.array_split(images, len(names)), np.array_split(labels, len(names)), strict=True
        ):
            batch = {"data": x.reshape(len(x), 3072), "labels": y.tolist(), "batch_label": name, "filenames": []}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_strips(folder, tiny):
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in (("train", [f"data_batch_{i}" for i in range(1, 6)]), ("test", ["test_batch"])):
        images, labels = tiny[f"cifar10/{split}"]
        (folder / f"{split}_lables.json").write_text(json.dumps(labels.tolist()))
        for name, x in zip(names, np.array_split(images, len(names)), strict=True):
            Image.fromarray(x.transpose(0, 2, 3, 1).reshape(len(x), 1024, 3)).save(folder / f"{name}.png")


@pytest.fixture
def source(tmp_path, tiny):
    """A folder with all of the stand-in in torchvision's layout."""
    write_mnist(tmp_path / "source" / "MNIST" / "raw", tiny)
    write_pickles(tmp_path / "source" / "cifar-10-batches-py", tiny)
    return tmp_path / "source"


@pytest.fixture
def checkout(tmp_path, tiny, source, monkeypatch):
    """A checkout whose embedded data is the stand-in's; the loader believes that it lives there. Returns its `data`."""
    nowhere = tmp_path / "no manifest"
    build.build(source, source, tmp_path / "checkout" / "data", plans_for(tiny), nowhere)
    monkeypatch.setattr(files, "__file__", str(tmp_path / "checkout" / "course_utils" / "files.py"))
    return tmp_path / "checkout" / "data"


def edit_manifest(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


# ---------------------------------------------------------------------------------------------------------------------
# What is embedded


@functools.cache
def embedded(name, split):
    return load_images(name, split)


@pytest.mark.parametrize(
    ("split", "mean", "std", "images_md5", "labels_md5"),
    [
        ("train", 0.1307, 0.3081, "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
        ("test", 0.1325, 0.3105, "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
    ],
)
def test_mnist_is_byte_for_byte_the_official_one(split, mean, std, images_md5, labels_md5):
    images, labels = embedded("mnist", split)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert round(images.double().div(255).mean().item(), 4) == mean
    assert round(images.double().div(255).std().item(), 4) == std
    n = {"train": 60_000, "test": 10_000}[split]
    assert images.shape == (n, 1, 28, 28)
    # the checksums that are published for the official files, uncompressed
    assert hashlib.md5(struct.pack(">4i", 2051, n, 28, 28) + images.numpy().tobytes()).hexdigest() == images_md5
    assert hashlib.md5(struct.pack(">2i", 2049, n) + bytes(labels.tolist())).hexdigest() == labels_md5


@pytest.mark.parametrize(
    ("split", "per_class", "mean", "first_pixel", "first_classes"),
    [
        ("train", 500, (0.4914, 0.4822, 0.4465), (59, 62, 63), "frog truck truck deer automobile automobile bird"),
        ("test", 100, (0.4942, 0.4851, 0.4504), (158, 112, 49), "cat ship ship airplane frog frog automobile"),
    ],
)
def test_cifar10_part_is_balanced_and_agrees_with_what_is_published(split, per_class, mean, first_pixel, first_classes):
    images, labels = embedded("cifar10", split)
    assert images.shape == (10 * per_class, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [per_class] * 10
    # neither of the official splits begins with more images of a class than are embedded, so their beginnings are ours
    assert [data.CLASSES["cifar10"][y] for y in labels[:7]] == first_classes.split()
    assert tuple(images[0, :, 0, 0].tolist()) == first_pixel
    of_each_image = images.double().div(255).mean((2, 3))
    error = of_each_image.std(0) / len(images) ** 0.5
    assert ((of_each_image.mean(0) - torch.tensor(mean)).abs() < 4 * error).all()


@pytest.mark.parametrize("key", ["mnist/train", "mnist/test", "cifar10/train", "cifar10/test"])
def test_manifest_describes_pixels_and_labels(key):
    images, labels = embedded(*key.split("/"))
    entry = json.loads((REPO / "data" / "manifest.json").read_text())["splits"][key]
    assert entry["pixels_sha256"] == sha256(images.numpy().tobytes())
    assert entry["labels_sha256"] == sha256(bytes(labels.tolist()))
    assert (entry["count"], *entry["shape"]) == tuple(images.shape)
    # one line of labels for each row of the mosaic
    lines = (REPO / "data" / entry["labels"]).read_text().splitlines()
    with Image.open(REPO / "data" / entry["images"]) as mosaic:
        assert mosaic.size == (len(lines[0]) * images.shape[3], len(lines) * images.shape[2])
    assert "".join(lines) == "".join(map(str, labels.tolist()))
    assert build.encode_labels(labels.numpy(), len(lines[0])) == (REPO / "data" / entry["labels"]).read_bytes()


def test_readme_table_agrees_with_the_manifest_and_the_files():
    manifest = json.loads((REPO / "data" / "manifest.json").read_text())
    readme = (REPO / "data" / "README.md").read_text()
    files = re.findall(r"^\| `(\S+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", readme, re.MULTILINE)
    found = {name: {"bytes": int(size.replace(",", "")), "sha256": digest} for name, size, digest in files}
    assert found == manifest["files"]
    on_disk = {f"{p.parent.name}/{p.name}": p for folder in data.CLASSES for p in (REPO / "data" / folder).iterdir()}
    assert {name: {"bytes": p.stat().st_size, "sha256": sha256(p.read_bytes())} for name, p in on_disk.items()} == found
    splits = re.findall(r"^\| (\w+/\w+)(, whole)? \| ([\d,]+) \| `(\w{64})` \| `(\w{64})` \|$", readme, re.MULTILINE)
    assert len(splits) == 6
    for key, whole, count, pixels, labels in splits:
        entry = manifest["full" if whole else "splits"][key]
        wanted = (entry["count"], entry["pixels_sha256"], entry["labels_sha256"])
        assert (int(count.replace(",", "")), pixels, labels) == wanted


def test_embedded_files_stay_small():
    assert sum(p.stat().st_size for folder in data.CLASSES for p in (REPO / "data" / folder).iterdir()) < 21e6


@pytest.mark.slow
@pytest.mark.parametrize(("key", "columns"), [("mnist/test", 40), ("cifar10/test", 50)])
def test_encoding_again_gives_the_same_pixels_whatever_the_file(key, columns):
    entry, images = files.read_manifest()["splits"][key], embedded(*key.split("/"))[0].numpy()
    again = build.encode_mosaic(images, columns, effort=0)
    assert again != (REPO / "data" / entry["images"]).read_bytes()
    assert sha256(data.decode_mosaic(again, *images.shape).tobytes()) == entry["pixels_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["mnist/test", "cifar10/test"])
def test_the_same_encoder_gives_the_same_file(key):
    manifest, plan = files.read_manifest(), build.PLANS[key]
    if build.encoder() != manifest["encoder"]:
        pytest.skip(f"here is {build.encoder()}, the files are by {manifest['encoder']}")
    again = build.encode_mosaic(embedded(*key.split("/"))[0].numpy(), plan.columns, plan.effort)
    assert sha256(again) == manifest["files"][f"{key}.webp"]["sha256"]


FULL = Path(os.environ.get("COURSE_DATA") or "~/.cache/diffusion-course").expanduser()


@pytest.mark.slow
@pytest.mark.skipif(not (FULL / "cifar-10-batches-py").is_dir(), reason="the whole of CIFAR-10 is not on this machine")
@pytest.mark.parametrize("split", ["train", "test"])
def test_embedded_cifar10_is_the_first_of_each_class_of_the_whole(split):
    images, labels = load_images("cifar10", split, full=True, download=False)
    part, part_labels = embedded("cifar10", split)
    first = len(part) // 10
    seen, chosen = [0] * 10, []
    for i, y in enumerate(labels.tolist()):
        seen[y] += 1
        if seen[y] <= first:
            chosen.append(i)
    assert torch.equal(images[chosen], part)
    assert torch.equal(labels[chosen], part_labels)


# ---------------------------------------------------------------------------------------------------------------------
# Loading


def test_n_is_the_first_n_and_frees_the_rest(monkeypatch):
    decoded = []

    def decode(*arguments):
        images = decode_mosaic(*arguments)
        decoded.append(weakref.ref(images if images.base is None else images.base))
        return images

    decode_mosaic = data.decode_mosaic
    monkeypatch.setattr(mosaics, "decode_mosaic", decode)
    first, first_labels = load_images("mnist", "test", n=7)
    assert [reference() for reference in decoded] == [None]
    images, labels = embedded("mnist", "test")
    assert torch.equal(first, images[:7])
    assert torch.equal(first_labels, labels[:7])


def test_full_mnist_is_the_embedded_one():
    images, labels = load_images("mnist", "test", full=True, root="/nowhere", download=False)
    assert torch.equal(images, embedded("mnist", "test")[0])
    assert torch.equal(labels, embedded("mnist", "test")[1])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "cifar100"}, "'cifar100'"),
        ({"name": "mnist", "split": "valid"}, "'valid'"),
        ({"name": "mnist", "split": "test", "n": 10_001}, "1 … 10000.*10001"),
        ({"name": "mnist", "n": 0}, "n: wanted 1 or more"),
        ({"name": "cifar10", "n": 5_001}, "full=True gives more"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        load_images(**arguments)


def test_agrees_with_torchvision(checkout, source, tiny, monkeypatch):
    from torchvision.datasets import CIFAR10, MNIST

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)  # of MD5s that a stand-in cannot have
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    for split in ("train", "test"):
        theirs = MNIST(source, train=split == "train")
        images, labels = load_images("mnist", split)
        assert torch.equal(images[:, 0], theirs.data)
        assert torch.equal(labels, theirs.targets)

        theirs = CIFAR10(source, train=split == "train")
        images, labels = load_images("cifar10", split, full=True, root=source, download=False)
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), theirs.data)
        assert labels.tolist() == theirs.targets

    images, labels = load_images("cifar10", "train")  # the embedded part: three of each class
    official, official_labels = tiny["cifar10/train"]
    chosen = [i for i, y in enumerate(official_labels) if (official_labels[:i] == y).sum() < 3]
    assert np.array_equal(images.numpy(), official[chosen])
    assert labels.tolist() == official_labels[chosen].tolist()


def test_whole_cifar10_is_found_through_the_environment(checkout, source, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(source))
    assert len(load_images("cifar10", full=True, download=False)[0]) == 100


def test_data_dir_is_the_named_one_then_the_packages_then_the_checkouts(tmp_path, monkeypatch):
    assert files.data_dir() == REPO / "data"
    monkeypatch.setattr(files, "__file__", str(tmp_path / "course_utils" / "files.py"))
    assert files.data_dir() == tmp_path / "data"
    (tmp_path / "course_utils" / "_data").mkdir(parents=True)
    assert files.data_dir() == tmp_path / "course_utils" / "_data"
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "named"))
    assert files.data_dir() == tmp_path / "named"


@pytest.mark.slow
def test_import_is_cheap():
    code = "import course_utils.data, sys; print(sorted({'torchvision', 'PIL', 'matplotlib'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("file", ["mnist/test.webp", "mnist/test_labels.txt"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip, "damaged"), (cut, "bytes, wanted"), (Path.unlink, "missing"), (replace_by_folder, "cannot be read")],
)
def test_damaged_file_is_named_with_the_way_out(checkout, file, damage, message):
    load_images("mnist", "test")
    damage(checkout / file)
    with pytest.raises(DataError, match=rf"{file}.*{message}.*git checkout -- data/{file}"):
        load_images("mnist", "test")
    load_images("mnist", "train")  # the others are still good


@pytest.mark.parametrize(
    ("damage", "message"), [(Path.unlink, "missing"), (lambda path: path.write_text("{"), "damaged")]
)
def test_damaged_manifest_is_named_with_the_way_out(checkout, damage, message):
    damage(checkout / "manifest.json")
    with pytest.raises(DataError, match=rf"{message}.*git checkout -- data/manifest\.json"):
        load_images("mnist")


def test_way_out_fits_where_the_data_lies(checkout, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", str(checkout / "elsewhere"))
    with pytest.raises(DataError, match=r"COURSE_DATA_DIR is .*elsewhere: unset it"):
        load_images("mnist")
    monkeypatch.delenv("COURSE_DATA_DIR")
    (checkout.parent / "course_utils" / "_data").mkdir(parents=True)
    with pytest.raises(DataError, match="pip install --force-reinstall"):
        load_images("mnist")


def test_file_that_pillow_cannot_decode_is_told_from_a_damaged_one(checkout):
    content = b"no picture"
    (checkout / "mnist/test.webp").write_bytes(content)
    entry = {"bytes": len(content), "sha256": sha256(content)}
    edit_manifest(checkout, lambda manifest: manifest["files"].update({"mnist/test.webp": entry}))
    with pytest.raises(DataError, match=r"mnist/test\.webp: the file is intact.*pip install --upgrade pillow"):
        load_images("mnist", "test")


def test_decoder_that_gives_other_pixels_is_caught(checkout, monkeypatch):
    decode = data.decode_mosaic
    monkeypatch.setattr(mosaics, "decode_mosaic", lambda *arguments: decode(*arguments) ^ 1)
    with pytest.raises(DataError, match=r"mnist/test\.webp: .*other pixels"):
        load_images("mnist", "test")


# ---------------------------------------------------------------------------------------------------------------------
# Pickles


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"data": x, "labels": [0]}, lambda x: np.array([x], object)])
def test_hostile_pickle_is_refused_and_runs_nothing(checkout, source, wrap):
    trace = source / "it ran"
    content = pickle.dumps(wrap(Hostile(trace)), protocol=2)
    (source / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=r"test_batch: .*mkdir is not admitted"):
        load_images("cifar10", "test", full=True, root=source, download=False)
    assert not trace.exists()
    pickle.loads(content)  # the same bytes, read without care
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cnumpy.core.multiarray\nscalar\n.", "scalar is not admitted"),
        (b"cnumpy\nload\n.", "numpy.load is not admitted"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "codec 'hex' is not admitted"),
        (b"Pname\n.", "persistent"),
        (b"", "Ran out of input"),
        (b"not a pickle", ""),
    ],
)
def test_pickle_that_is_no_batch_is_refused(tmp_path, content, message):
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=rf"test_batch: is no batch.*{message}"):
        data.read_cifar10(tmp_path, "test")


@pytest.mark.parametrize(
    "batch",
    [
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"data": np.zeros((2, 3071), np.uint8), "labels": [0, 0]},
        {"data": np.zeros((2, 3072), np.int64), "labels": [0, 0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 0.5]},
        {"data": np.zeros((2, 3072), np.uint8)},
        [1],
    ],
)
def test_batch_of_another_form_is_refused(tmp_path, batch):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match="test_batch: is no batch"):
        data.read_cifar10(tmp_path, "test")


def test_pickles_of_python_2_are_read(tmp_path):
    """CIFAR-10's own files were written by Python 2 and numpy 1: byte strings, and names that numpy has moved since."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3072), dtype=np.uint8)
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x02M\x00\x0c\x86" + dtype + b"\x89T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    content = b"\x80\x02}(U\x04data" + reconstruct + state + b"U\x06labels](K\x03K\x08eu."
    assert np.array_equal(pickle.loads(content, encoding="latin1")["data"], pixels)
    (tmp_path / "test_batch").write_bytes(content)
    images, labels = data.read_cifar10(tmp_path, "test")
    assert np.array_equal(images.reshape(2, -1), pixels)
    assert labels.tolist() == [3, 8]


# ---------------------------------------------------------------------------------------------------------------------
# Downloading


@pytest.fixture
def pauses(monkeypatch):
    seconds = []
    monkeypatch.setattr(cifar10.time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def server(source, monkeypatch):
    """A server on this machine that offers the stand-in as CIFAR-10's archive, after as many failures as it is told."""
    from torchvision.datasets import CIFAR10

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(source / "cifar-10-batches-py", "cifar-10-batches-py")
    content = buffer.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked += 1
            failed = self.server.asked <= self.server.failures
            self.send_response(503 if failed else 200)
            self.send_header("Content-Length", str(0 if failed else len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # torchvision asks once just to see where it is sent
                self.wfile.write(b"" if failed else content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = server.failures = 0
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "*")
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_download_is_tried_three_times_verified_and_kept(checkout, tmp_path, server, pauses, tiny):
    root = tmp_path / "new" / "root"
    server.failures = 2
    images, labels = load_images("cifar10", full=True, root=root)
    assert np.array_equal(images.numpy(), tiny["cifar10/train"][0])
    assert labels.tolist() == tiny["cifar10/train"][1].tolist()
    assert pauses == [2, 4]
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]
    asked = server.asked
    assert asked > 2
    load_images("cifar10", "test", full=True, root=root)
    assert server.asked == asked


def test_archive_with_another_md5_leaves_nothing_behind(checkout, tmp_path, server, pauses, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match=r"could not be downloaded.*corrupted"):
        load_images("cifar10", full=True, root=tmp_path / "root")
    assert pauses == [2, 4]
    assert list((tmp_path / "root").iterdir()) == []


def test_archive_with_other_pixels_leaves_nothing_behind(checkout, tmp_path, server, pauses):
    edit_manifest(checkout, lambda manifest: manifest["full"]["cifar10/train"].update(pixels_sha256="0" * 64))
    with pytest.raises(DataError, match="are not CIFAR-10's"):
        load_images("cifar10", full=True, root=tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_other_process_that_was_faster_wins(checkout, tmp_path, server, pauses, source, monkeypatch):
    goal = tmp_path / "root" / "cifar-10-batches-py"
    monkeypatch.setattr(files.os, "fsync", lambda _: goal.exists() or shutil.copytree(source / goal.name, goal))
    assert len(load_images("cifar10", full=True, root=tmp_path / "root")[0]) == 100
    assert list((tmp_path / "root").iterdir()) == [goal]


def test_no_network_is_reported_after_three_tries(checkout, tmp_path, pauses, monkeypatch):
    tries = []

    def urlopen(request, *_, **__):
        tries.append(request)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DataError, match=r"Name or service not known.*tried up to 3 times.*full=False"):
        load_images("cifar10", full=True, root=tmp_path / "root")
    assert (len(tries), len(pauses)) == (3, 2)
    assert list((tmp_path / "root").iterdir()) == []


def test_download_can_be_forbidden(checkout, tmp_path):
    with pytest.raises(DataError, match=r"cifar-10-batches-py: there is no such folder, and download=False"):
        load_images("cifar10", full=True, root=tmp_path / "root", download=False)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damaged_batch_is_refused_and_left_alone(checkout, source, damage):
    folder = source / "cifar-10-batches-py"
    damage(folder / "data_batch_3")
    with pytest.raises(DataError, match=r"cifar-10-batches-py.*Delete .*cifar-10-batches-py and run again"):
        load_images("cifar10", full=True, root=source)
    assert folder.is_dir()


@pytest.mark.parametrize("url", ["http:", "https:"])
def test_full_disk_ends_a_download_at_once_and_leaves_nothing_behind(checkout, tmp_path, pauses, monkeypatch, url):
    import torchvision.datasets.utils

    def half(url, path, *_):
        if url == retried:
            raise urllib.error.URLError("no such server")
        Path(path).write_bytes(b"half")
        no_space()

    retried = "http:" if url == "https:" else None  # torchvision's second try, which hides the error of the first
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda *_, **__: url)

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", half)
    with pytest.raises(DataError, match="the disk is full"):
        load_images("cifar10", full=True, root=tmp_path / "root")
    assert pauses == []
    assert list((tmp_path / "root").iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------------
# Writing


class FullFile(io.FileIO):
    def write(self, content):
        super().write(content[: len(content) // 2])
        no_space()


@pytest.mark.parametrize("fails", ["write", "fsync", "rename"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "file"
    files.write_atomically(path, b"old")
    if fails == "write":
        monkeypatch.setattr(files, "open", FullFile, raising=False)
    else:
        monkeypatch.setattr(files.os, {"fsync": "fsync", "rename": "replace"}[fails], no_space)
    with pytest.raises(DataError, match=f"{path}: .*No space left.*Free some space"):
        files.write_atomically(path, b"new and longer")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}
    monkeypatch.undo()
    files.write_atomically(path, b"new and longer")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"new and longer"}


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written.*Make the folder writable"):
        files.write_atomically(tmp_path / "file" / "inside", b"")


# ---------------------------------------------------------------------------------------------------------------------
# Building


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("layout", ["gzip", "npm", "npm, inside"])
def test_every_layout_of_the_sources_gives_the_same_files(checkout, tmp_path, tiny, layout):
    inside = "package/" if layout == "npm" else ""
    if layout == "gzip":
        write_mnist(tmp_path / "mnist" / "MNIST" / "raw", tiny, compress=True)
        write_pickles(tmp_path / "cifar10", tiny)
    else:
        write_mnist(tmp_path / "mnist" / inside / "data", tiny)
        write_strips(tmp_path / "cifar10" / inside, tiny)
    again = tmp_path / "again"
    lines = build.build(tmp_path / "mnist", tmp_path / "cifar10", again, plans_for(tiny), checkout / "manifest.json")
    assert files_in(again) == files_in(checkout)
    assert [line.endswith(": the same file") for line in lines[1:]] == [True] * 8


def test_build_writes_the_table_of_the_readme(checkout, source, tiny):
    readme = checkout / "README.md"
    readme.write_text(f"before\n{build.MARKS[0]}\nold\n{build.MARKS[1]}\nafter\n")
    for _ in range(2):
        build.build(source, source, checkout, plans_for(tiny), checkout / "manifest.json")
        text = readme.read_text()
        assert text.startswith(f"before\n{build.MARKS[0]}\n\n| file |")
        assert text.endswith(f"|\n\n{build.MARKS[1]}\nafter\n")
        assert "old" not in text
        assert text.count(sha256((checkout / "mnist/test.webp").read_bytes())) == 1


@pytest.mark.parametrize("key", ["mnist/train", "mnist/test", "cifar10/train", "cifar10/test"])
@pytest.mark.parametrize("change", ["pixel", "label"])
def test_build_refuses_sources_that_are_not_official(tmp_path, tiny, key, change):
    images, labels = (array.copy() for array in tiny[key])
    if change == "pixel":
        images[0, 0, 5, 5] ^= 1
    else:
        labels[0] = (labels[0] + 1) % 10
    write_mnist(tmp_path / "raw", tiny | {key: (images, labels)})
    write_pickles(tmp_path / "cifar10", tiny | {key: (images, labels)})
    found = {"pixel": "mean pixel", "label": "images of each class"}[change]
    with pytest.raises(DataError, match=f"{key}: the {found}|{key}: {found}"):
        build.build(tmp_path, tmp_path / "cifar10", tmp_path / "out", plans_for(tiny), tmp_path / "none")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["images", "labels"])
def test_build_knows_mnist_by_its_md5(change):
    """Swapping two images, or two labels, changes neither counts nor moments."""
    images, labels = (array.numpy().copy() for array in embedded("mnist", "test"))
    labels = labels.astype(np.uint8)
    build.check_facts("mnist/test", images, labels, build.PLANS["mnist/test"])
    array = {"images": images, "labels": labels}[change]
    array[[0, 1]] = array[[1, 0]]
    with pytest.raises(DataError, match="mnist/test: the MD5"):
        build.check_facts("mnist/test", images, labels, build.PLANS["mnist/test"])


def test_build_refuses_what_differs_from_the_manifest(checkout, source, tmp_path, tiny):
    edit_manifest(checkout, lambda manifest: manifest["full"]["cifar10/test"].update(pixels_sha256="0" * 64))
    with pytest.raises(DataError, match=r"cifar10/test .*differs from the manifest"):
        build.build(source, source, tmp_path / "out", plans_for(tiny), checkout / "manifest.json")
    assert not (tmp_path / "out").exists()


def test_build_says_when_another_encoder_made_the_file(checkout, source, tmp_path, tiny):
    def change(manifest):
        manifest["encoder"] = "Pillow 0"
        manifest["files"]["mnist/test.webp"]["sha256"] = "0" * 64

    edit_manifest(checkout, change)
    lines = build.build(source, source, tmp_path / "out", plans_for(tiny), checkout / "manifest.json")
    assert "mnist/test.webp: another file with the same content" in lines
    assert "by Pillow 0" in lines[-1]


def test_full_disk_stops_a_build_before_the_manifest(source, tmp_path, tiny, monkeypatch):
    written = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: no_space() if len(written) == 3 else written.append(handle))
    with pytest.raises(DataError, match="Free some space"):
        build.build(source, source, tmp_path / "out", plans_for(tiny), tmp_path / "none")
    assert sorted(files_in(tmp_path / "out")) == ["mnist/test.webp", "mnist/train.webp", "mnist/train_labels.txt"]


def test_build_reports_a_wrong_folder_without_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build.py", "--mnist", str(tmp_path), "--cifar10", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .*holds no train-images-idx3-ubyte"):
        build.main()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08\x03",
        struct.pack(">4i", 2051, 2, 28, 28),  # no pixels
        struct.pack(">2i", 2049, 1) + b"1",  # labels
        struct.pack(">4i", 0x0C03, 1, 2, 2) + bytes(4),  # integers, not bytes
    ],
)
def test_damaged_idx_file_is_named(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="file: is no IDX file of 3 dimensions"):
        build.read_idx(tmp_path / "file", 3)


@pytest.mark.parametrize("at", [10, 500, -8])  # the kind of compression, a pixel, the checksum
def test_damaged_gzip_is_named(tmp_path, tiny, at):
    write_mnist(tmp_path, tiny, compress=True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: is no IDX file"):
        build.read_mnist(tmp_path)


def test_damaged_png_is_named(tmp_path, tiny):
    write_strips(tmp_path / "cifar10", tiny)
    (tmp_path / "cifar10" / "data_batch_4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"data_batch_4\.png: cannot be read"):
        build.read_cifar10_source(tmp_path / "cifar10")


# ---------------------------------------------------------------------------------------------------------------------
# Tensors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_all_256_bytes_come_back(dtype):
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x = normalize(every, dtype)
    assert x.dtype == dtype
    assert x.shape == every.shape
    assert (x.min(), x.max()) == (-1, 1)
    exact = torch.tensor([byte / 127.5 - 1 for byte in range(256)], dtype=torch.float64).reshape(x.shape)
    rounding = torch.finfo(dtype).eps / 4 + torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    assert (x.double() - exact).abs().max() <= rounding  # of the result, plus what at least float32 loses on the way
    back = denormalize(x)
    assert back.dtype == torch.uint8
    assert torch.equal(back, every)


def test_normalized_is_symmetric_about_zero():
    every = torch.arange(256, dtype=torch.uint8)
    x = normalize(every, torch.float64)
    torch.testing.assert_close(x, -x.flip(0), rtol=0, atol=1e-15)


def test_denormalize_rounds_to_the_nearest_and_clamps():
    inf, nan = float("inf"), float("nan")
    level = torch.tensor([-0.49, 0.49, 0.51, 254.49, 254.51, -30.0, 300.0, -inf, inf, nan], dtype=torch.float64)
    assert denormalize(level / 127.5 - 1).tolist() == [0, 0, 1, 254, 255, 0, 255, 0, 255, 0]


def test_wrong_types_are_refused():
    with pytest.raises(TypeError):
        normalize(normalize(torch.zeros(1, dtype=torch.uint8)))
    with pytest.raises(TypeError):
        denormalize(torch.zeros(1, dtype=torch.uint8))


# ---------------------------------------------------------------------------------------------------------------------
# Batches


def numbered(n):
    """n images, the i-th of them filled with i, and labels that say the same."""
    numbers = torch.arange(n)
    return numbers.to(torch.uint8)[:, None, None, None].expand(n, 1, 2, 2).contiguous(), numbers


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers_in(x):
    return denormalize(x)[:, 0, 0, 0].tolist()


def test_an_epoch_has_each_image_once_with_its_label_in_an_order_of_its_own():
    images, labels = numbered(200)
    seen = []
    for x, y in batches(images, labels, 20, generator=seeded(), epochs=3):
        assert x.shape == (20, 1, 2, 2)
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert torch.equal(x, normalize(images)[y])
        seen += numbers_in(x)
    epochs = [seen[i : i + 200] for i in range(0, 600, 200)]
    assert len(seen) == 600
    assert all(sorted(epoch) == list(range(200)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(200)]}) == 4


@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [4, 4, 4, 4]), (False, [4, 4, 2, 4, 4, 2])])
def test_a_short_last_batch_is_left_out_or_kept(drop_last, sizes):
    images, _ = numbered(10)
    found = [len(x) for x in batches(images, batch_size=4, generator=seeded(), drop_last=drop_last, epochs=2)]
    assert found == sizes


def test_batches_are_endless_by_default_and_few_images_do_if_short_batches_are_kept():
    images, _ = numbered(3)
    endless = batches(images, batch_size=2, generator=seeded())
    assert len(list(itertools.islice(endless, 50))) == 50
    assert [len(x) for x in batches(images, generator=seeded(), drop_last=False, epochs=2)] == [3, 3]


def test_the_generator_alone_decides_the_order():
    images, labels = numbered(100)

    def order(seed):
        return [y.tolist() for _, y in batches(images, labels, 10, generator=seeded(seed), epochs=2)]

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = order(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert order(5) == first
    assert order(6) != first


def test_skip_finds_the_place_of_a_resumed_run():
    images, labels = numbered(50)
    whole = [y.tolist() for _, y in batches(images, labels, 8, generator=seeded(), epochs=4)]
    for skip in (0, 1, 6, 7, 13, 24):
        resumed = batches(images, labels, 8, generator=seeded(), epochs=4, skip=skip)
        assert [y.tolist() for _, y in resumed] == whole[skip:]


def test_skipped_batches_are_not_built(monkeypatch):
    built = []
    monkeypatch.setattr(batching, "normalize", lambda x, dtype: built.append(x) or normalize(x, dtype))
    next(batches(numbered(50)[0], batch_size=8, generator=seeded(), skip=1000))
    assert len(built) == 1


def test_only_bytes_are_kept_and_only_bytes_travel(monkeypatch):
    images, labels = numbered(12)
    before = images.clone()
    normalised = []
    monkeypatch.setattr(batching, "normalize", lambda x, dtype: normalised.append(x) or normalize(x, dtype))
    x, y = next(batches(images, labels, 4, generator=seeded(), device="meta"))
    assert (x.device.type, y.device.type) == ("meta", "meta")
    assert x.dtype == torch.float32
    # what is normalised is one batch, in bytes, on the device already
    assert [(z.dtype, z.device.type, len(z)) for z in normalised] == [(torch.uint8, "meta", 4)]
    assert torch.equal(images, before)
    assert images.device.type == "cpu"


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": torch.zeros(4, 1, 2, 2, dtype=torch.bool)},
        {"images": torch.full((4, 1, 2, 2), torch.nan)},
        {"images": torch.zeros(4, 2, 2, dtype=torch.uint8)},
        {"images": [[0.0]] * 4},
        {"labels": torch.arange(5)},
        {"batch_size": 5},
        {"batch_size": 0},
        {"batch_size": 0, "drop_last": False},
    ],
)
def test_wrong_arguments_are_reported_at_the_call(wrong):
    right = {"images": torch.zeros(4, 1, 2, 2, dtype=torch.uint8), "labels": torch.arange(4), "batch_size": 4}
    batches(**right, generator=seeded())
    with pytest.raises((TypeError, ValueError)):
        batches(**(right | wrong), generator=seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_a_gpu_are_those_of_the_cpu():
    images, labels = numbered(64)
    here = list(batches(images, labels, 16, generator=seeded(), epochs=2))
    for place in (images, images.cuda()):
        there = list(batches(place, labels, 16, generator=seeded(), device="cuda", epochs=2))
        assert all(x.is_cuda and y.is_cuda for x, y in there)
        assert all(
            torch.equal(y, v.cpu()) and numbers_in(x) == numbers_in(u)
            for (x, y), (u, v) in zip(here, there, strict=True)
        )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_labels_may_be_whole_numbers_of_any_kind(dtype):
    """As bytes they are in the files: what drops one says -1, which bytes cannot."""
    images, labels = torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.arange(6)
    (_, y), *_ = batches(images, labels.to(dtype), 6, generator=torch.Generator().manual_seed(0), epochs=1)
    assert y.dtype == torch.long
    assert y.sort().values.tolist() == labels.tolist()


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"", b"{", b"\xff\xfe"])
def test_a_manifest_is_an_object_or_damaged(content):
    with pytest.raises(DataError, match=r"m\.json: is damaged \(.*\)\. Go home"):
        files.parse_json(Path("m.json"), content, "Go home")


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        (torch.arange(12.0).reshape(6, 2), torch.float32),  # latents, points
        (torch.arange(48.0).reshape(6, 1, 8).half(), torch.float32),  # waveforms, kept small
        (torch.arange(48.0).reshape(6, 1, 2, 2, 2), torch.float64),  # clips, for a network of that precision
        (torch.arange(30).reshape(6, 5).to(torch.int16), torch.int64),  # tokens
    ],
)
def test_what_is_no_picture_comes_as_it_is(rows, dtype):
    wanted = dtype if dtype.is_floating_point else torch.float32
    (x,) = batches(rows, None, 6, generator=seeded(), epochs=1, dtype=wanted)
    assert x.dtype == dtype
    assert torch.equal(x[x.flatten(1)[:, 0].argsort()], rows.to(dtype))


def test_clips_as_bytes_are_normalised_and_mirrored_from_left_to_right():
    clips = torch.randint(0, 256, (40, 1, 3, 2, 5), generator=seeded(), dtype=torch.uint8)
    (x,) = batches(clips, None, 40, generator=seeded(), epochs=1)
    assert sorted(x.flatten().tolist()) == sorted(normalize(clips).flatten().tolist())
    mirrored = data.random_flip(x, seeded(3))
    assert {bool((a == b).all()) for a, b in zip(mirrored, x, strict=True)} == {True, False}
    assert all((a == b).all() or (a == b.flip(-1)).all() for a, b in zip(mirrored, x, strict=True))
