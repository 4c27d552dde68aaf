"""The table: a row holds one measurement and all that it depends on; `data/leaderboard/NAME.csv` holds the rows."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_type_hints

from course_utils import pretrained
from course_utils._validate import require_count, require_one_of
from course_utils.files import DataError, data_dir, write_atomically

FOLDER = "leaderboard"


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


_KINDS: dict[str, Callable] = get_type_hints(Row)  # str, int or float, by column


def path_of(name: str, folder: Path | None = None) -> Path:
    """Where a network's rows are."""
    return (folder or data_dir() / FOLDER) / f"{name}.csv"


def load(name: str = "mnist-unet", folder: Path | None = None) -> list[Row]:
    """The stored rows of a network, none if there is no file. Raises DataError if the file is damaged."""
    path = path_of(name, folder)
    if not path.exists():
        return []
    fields = dataclasses.fields(Row)
    try:
        lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), strict=True)
        if lines.fieldnames != [field.name for field in fields]:
            raise ValueError(f"its columns are {lines.fieldnames}")
        return [Row(**{field.name: _KINDS[field.name](line[field.name]) for field in fields}) for line in lines]
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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Row))
    for row in rows:
        values = dataclasses.astuple(row)
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in values)
    write_atomically(path_of(name, folder), text.getvalue().encode())


def weights(name: str) -> str:
    """What tells a shipped network's weights from others: the first digits of the SHA-256 of its file."""
    return pretrained.read_manifest()[name]["sha256"][:12]
