"""README's table of the lessons: how long each takes from top to bottom, on machines with bfloat16 and without."""

import re
from collections.abc import Mapping
from pathlib import Path

from course_utils.files import write_atomically

COLUMNS = {"bfloat16": 2, "float32": 3}  # of the table, by what the machine computes in (`runtime.pick_precision`)


def with_seconds(page: str, seconds: Mapping[str, float], precision: str) -> str:
    """The page with the seconds of these lessons ("07") in the column of such machines; all else as it was."""

    def row(line: str) -> str:
        found = re.match(r"\| \[(\d\d) ", line)
        if not found or found[1] not in seconds:
            return line
        cells = line.split("|")  # begins and ends with one
        cells[1 + COLUMNS[precision]] = f" {seconds[found[1]]:.0f} "
        return "|".join(cells)

    return "\n".join(map(row, page.split("\n")))


def write_seconds(path: Path, seconds: Mapping[str, float], precision: str) -> None:
    """Put the seconds into the page."""
    page = with_seconds(path.read_text(encoding="utf-8"), seconds, precision)
    write_atomically(path, page.encode())
