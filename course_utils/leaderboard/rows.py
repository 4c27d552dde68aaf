"""The table: a row holds one measurement and all that it depends on; `data/leaderboard/NAME.csv` holds the rows."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, get_type_hints

from course_utils import pretrained
from course_utils._validate import require_count, require_one_of
from course_utils.files import DataError, data_dir, write_atomically

FOLDER = "leaderboard"
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement, and all that it depends on."""

    network: str
    sha256: str  # of the network's file, its first twelve digits
    sampler: str
    grid: str
    steps: int
    nfe: int  # network calls a sample, counted
    n: int  # samples
    seed: int
    fid: float  # of n samples against the training split
    low: float  # a 95 % interval of it, for other draws of n samples: see `metrics.fid_interval`
    high: float
    bias: float  # by how much chance, at this n, raises it on average
    floor: float  # the same figure for n real images of the test split
    features: str
    seconds: float  # a sample, of the fastest batch: the one least disturbed by other work
    device: str
    precision: str

    @property
    def key(self) -> tuple:
        """What makes a measurement another one; device and precision do not."""
        return self.sha256, self.sampler, self.grid, self.steps, self.n, self.seed


def path_of(name: str, folder: Path | None = None) -> Path:
    """Where a network's rows are."""
    return (folder or data_dir() / FOLDER) / f"{name}.csv"


def load(name: str = "mnist-unet", folder: Path | None = None) -> list[Row]:
    """The stored rows of a network, none if there is no file. Raises DataError if the file is damaged."""
    return read(path_of(name, folder), Row)


def read(path: Path, kind: type[R]) -> list[R]:
    """The rows of a file, of a dataclass whose fields are text or numbers. Raises DataError if the file is damaged."""
    if not path.exists():
        return []
    kinds: dict[str, Callable] = get_type_hints(kind)  # str, int or float, by column
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    try:
        lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), strict=True)
        if lines.fieldnames != names:
            raise ValueError(f"its columns are {lines.fieldnames}")
        found = list(lines)
        if cut := next((line for line in found if None in line or None in line.values()), None):  # DictReader's filling
            raise ValueError(f"a row has not one value for each column: {list(cut.values())}"[:200])
        return [kind(**{name: kinds[name](line[name]) for name in names}) for line in found]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a leaderboard ({type(error).__name__}: {error}). "
            f"Run `git checkout -- {path.name}` in its folder, or delete it and measure again"
        ) from error


def stored(name: str = "mnist-unet", *, n: int = 1000, seed: int = 0, folder: Path | None = None) -> list[Row]:
    """One table: the rows of one n and one seed, of the weights that are shipped now. Raises DataError as `load`."""
    require_one_of("name", name, pretrained.read_manifest())
    require_count("n", n, least=2)
    require_count("seed", seed, least=0)
    wanted = weights(name), n, seed
    return [row for row in load(name, folder) if (row.sha256, row.n, row.seed) == wanted]


def save(rows: Sequence[Row], name: str = "mnist-unet", folder: Path | None = None) -> None:
    """Write the rows of a network, whole or not at all."""
    write(path_of(name, folder), Row, rows)


def write(path: Path, kind: type[R], rows: Sequence[R]) -> None:
    """Write rows of a dataclass to a file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    for row in rows:
        values = dataclasses.astuple(row)  # type: ignore[call-overload]
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in values)
    write_atomically(path, text.getvalue().encode())


def weights(name: str) -> str:
    """What tells a shipped network's weights from others: the first digits of the SHA-256 of its file."""
    return pretrained.read_manifest()[name]["sha256"][:12]
