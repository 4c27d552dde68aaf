"""Bad days: files with flipped bits, places where nothing can be written, paths that no American has."""

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from calls import ROW

from course_utils.checkpoints import CheckpointError
from course_utils.data import load_images
from course_utils.desk.grading.sandbox import is_there
from course_utils.files import DataError, data_dir
from course_utils.leaderboard import load, save
from course_utils.pretrained import load_denoiser

ROOT = Path(__file__).resolve().parents[1]
boxed = pytest.mark.skipif(not is_there(), reason="no bubblewrap, or it may not make namespaces")

# --- flipped bits ----------------------------------------------------------------------------------------------------
# Every byte of images, labels and weights is covered by a SHA-256, as test_data.py and test_pretrained.py prove; this
# is about the small files that hold those.


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The course's data, to be spoiled: the small files copied, the large ones linked."""
    for path in data_dir().rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(data_dir())
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(path, copy) if path.suffix in (".json", ".csv") else copy.symlink_to(path)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    return tmp_path


def flipped(path, around, n):
    """Flip a bit in turn at n random places after the text `around`, and put it back."""
    good, draw = path.read_bytes(), random.Random(0)
    start = good.index(around.encode())
    for at in sorted(draw.sample(range(start, min(start + 900, len(good))), n)):
        bad = bytearray(good)
        bad[at] ^= 1 << draw.randrange(7)
        path.write_bytes(bad)
        yield at
    path.write_bytes(good)


def outcome(call, words):
    """What a call returns; None if it raises an error of ours that begins with `words`."""
    try:
        return call()
    except (DataError, CheckpointError, ValueError) as error:
        if not re.match(words, str(error)):
            raise
        return None


def test_a_bit_flipped_in_the_manifest_of_images_is_noticed_or_harmless(data):
    images, labels = load_images("cifar10", "test")
    noticed = 0
    for around in ('"cifar10/test.webp": {', '"cifar10/test": {'):
        for _ in flipped(data / "manifest.json", around, 20):
            now = outcome(lambda: load_images("cifar10", "test"), rf"{data}/\S+: ")
            assert now is None or (torch.equal(now[0], images) and torch.equal(now[1], labels))
            noticed += now is None
    assert noticed > 10


def test_a_bit_flipped_in_the_manifest_of_networks_is_noticed_or_harmless(data):
    model = load_denoiser("mnist-cnn")
    weights, noticed = model.state_dict(), 0
    for _ in flipped(data / "checkpoints" / "manifest.json", '"mnist-cnn": {', 30):
        now = outcome(lambda: load_denoiser("mnist-cnn"), rf"{data}/\S+: |name: no denoiser")
        if now is not None:
            assert (now.predict, now.schedule.T) == (model.predict, model.schedule.T)
            assert all(torch.equal(value, weights[name]) for name, value in now.state_dict().items())
        noticed += now is None
    assert noticed > 5


def test_a_bit_flipped_in_a_leaderboard_leaves_rows_or_is_named(data):
    path = data / "leaderboard" / "mine.csv"
    save([ROW] * 5, "mine")
    for _ in flipped(path, "network", 100):
        rows = outcome(lambda: load("mine"), f"{path}: ")
        assert rows is None or len(rows) in (4, 5, 6)  # a line may end too early or too late


# --- nowhere to write, odd names -------------------------------------------------------------------------------------

USE = """
import sys, torch
from course_utils.runtime import setup
lesson = setup("01")
from course_utils.data import load_images
from course_utils.pretrained import load_denoiser
from course_utils.plotting import image_grid, show, use_style
use_style()
images, _ = load_images("mnist", "test", n=4)
show(image_grid(images), "four digits")
x = load_denoiser("mnist-cnn")(torch.zeros(1, 1, 28, 28), 500)
print("fine", tuple(x.shape))
"""


def as_somebody(*options, home="/nonexistent", command=(sys.executable, "-c", USE)):
    """Run as a user without rights, on a file system that cannot be written but where `options` say otherwise."""
    box = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    box += ["--unshare-user", "--uid", "65534", "--gid", "65534", "--die-with-parent", *options]
    box += [arg for path in (sys.prefix, str(ROOT)) if path.startswith("/tmp/") for arg in ("--ro-bind", path, path)]
    environment = {**os.environ, "HOME": home, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment = {k: v for k, v in environment.items() if not k.startswith(("XDG_", "MPLCONFIG", "TORCH_HOME"))}
    return subprocess.run([*box, *command], env=environment, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
@boxed
@pytest.mark.parametrize(
    ("options", "home"),
    [
        (["--tmpfs", "/tmp"], "/nonexistent"),
        (["--tmpfs", "/tmp", "--size", "4096", "--tmpfs", "/mnt"], "/mnt"),
        (["--size", "4096", "--tmpfs", "/tmp"], "/tmp"),
    ],
    ids=["no home", "a full home", "a full disk"],
)
def test_lessons_run_where_nothing_can_be_written(options, home):
    done = as_somebody(*options, home=home)
    assert done.returncode == 0, done.stderr
    assert "fine (1, 1, 28, 28)" in done.stdout
    assert "Traceback" not in done.stderr
