"""A checkpoint is whole or not there; a damaged or hostile one is refused; one that does not fit changes nothing."""

import errno
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.checkpoints import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from course_utils.files import DataError

CONTENT = {
    "model": {"w": torch.arange(500.0)},
    "step": 3,
    "note": "x",
    "list": [1, 2.5, None],
    "half": torch.ones(2).half(),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "run" / "checkpoint.pt", CONTENT)  # makes the folder
    return tmp_path / "run" / "checkpoint.pt"


def test_what_was_saved_comes_back(path: Path) -> None:
    back = load_checkpoint(path)
    assert torch.equal(back["model"]["w"], CONTENT["model"]["w"])
    assert torch.equal(back["half"], CONTENT["half"])
    assert back["half"].dtype == torch.float16
    assert (back["step"], back["note"], back["list"]) == (3, "x", [1, 2.5, None])
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_file_is_refused(path: Path, tenths: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenths // 10])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: is damaged.*train again"):
        load_checkpoint(path)


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    """PyTorch alone would let nearly all of them pass into the weights."""
    whole = path.read_bytes()
    for i in range(0, len(whole), 11):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        with pytest.raises(CheckpointError, match="is damaged"):
            load_checkpoint(path)
    path.write_bytes(whole)
    load_checkpoint(path)


class Hostile:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_a_hostile_file_is_refused_and_not_executed(tmp_path: Path) -> None:
    mark, path, buffer = tmp_path / "executed", tmp_path / "evil.pt", io.BytesIO()
    torch.save({"model": Hostile(mark)}, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())  # with the right sum
    with pytest.raises(CheckpointError, match="something other than tensors"):
        load_checkpoint(path)
    assert not mark.exists()
    payload = path.read_bytes()[: -hashlib.sha256().digest_size]
    torch.load(io.BytesIO(payload), weights_only=False)  # it would have worked
    assert mark.exists()


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (np.mean([0.1, 0.2]), r"content\['run'\]\[1\]: .*numpy\.float64"),
        (np.int64(3), r"numpy\.int64"),
        (np.float32(1), r"numpy\.float32"),
        (np.ones(2), r"numpy\.ndarray"),
        (Path("x"), r"Path"),
        ({"a"}, r"builtins\.set"),
        (torch.float32, r"torch\.dtype"),
        ({np.int64(1): 2}, r"a key of content\['run'\]\[1\]: .*numpy\.int64"),
    ],
    ids=lambda what: type(what).__name__,
)
def test_what_could_not_be_read_again_is_refused_when_it_is_saved(path: Path, what: object, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        save_checkpoint(path, {"run": [1.0, what]})
    assert load_checkpoint(path)["step"] == 3  # what was there is there still


def test_all_that_may_be_saved_comes_back(path: Path) -> None:
    content = {"a": [True, 1, 1.5, "x", b"y", None, (1, 2)], 2: nn.Linear(1, 1).state_dict(), (1, "k"): torch.ones(1)}
    save_checkpoint(path, content)
    back = load_checkpoint(path)
    assert back["a"] == content["a"]
    assert torch.equal(back[2]["weight"], content[2]["weight"])
    assert torch.equal(back[1, "k"], torch.ones(1))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt: there is no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)
    torch.save(CONTENT, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of this course"):
        load_checkpoint(tmp_path / "foreign.pt")


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(DataError, match=r"checkpoint\.pt.*Free some space"):
        save_checkpoint(path, CONTENT | {"step": 4})
    assert os.listdir(path.parent) == [path.name]
    assert load_checkpoint(path)["step"] == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("0.bias"), r"1 tensors missing, 0 unknown, 0 of another shape, such as 0\.bias"),
        (lambda w: w.update(extra=torch.ones(1)), "0 tensors missing, 1 unknown, 0 of another shape, such as extra"),
        (lambda w: w.update({"1.weight": torch.ones(2, 2)}), r"0 unknown, 1 of another shape, such as 1\.weight"),
    ],
)
def test_another_architecture_is_named_and_changes_nothing(change, says: str) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    weights = {name: value + 1 for name, value in before.items()}
    change(weights)
    with pytest.raises(CheckpointError, match=rf"^run 7: is of another architecture than this Sequential: .*{says}"):
        load_weights(module, weights, "run 7")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_weights_that_fit_are_loaded() -> None:
    module = nn.Linear(2, 3)
    weights = {name: value + 1 for name, value in module.state_dict().items()}
    load_weights(module, weights)
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
