"""Make the embedded text from a plain-text copy of the poem, and note its checksum in `texts/manifest.json`.

    python data/texts.py FILE

FILE is `plrabn12.txt` of the Canterbury corpus, which the source archive of the Python package Brotli carries among its
test data. Its preface goes, and so do line ends of DOS and blanks before them; of Milton's verse not a letter changes.
"""

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from course_utils.files import write_atomically  # noqa: E402

FIRST, END = "Book I", "[The End]"


def verse(content: bytes) -> bytes:
    """The twelve books alone: stripped lines, no more than one empty line in a row."""
    text = content.decode("ascii").split("\x1a")[0].replace("\r", "")
    lines = [line.rstrip() for line in text.split("\n")]
    lines = lines[lines.index(FIRST) : lines.index(END)]
    kept = [line for before, line in zip(["", *lines], lines, strict=False) if line or before]
    return ("\n".join(kept).strip() + "\n").encode("ascii")


def main() -> None:
    text = verse(Path(sys.argv[1]).read_bytes())
    entry = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    write_atomically(HERE / "texts" / "paradise_lost.txt", text)
    manifest = json.dumps({"paradise_lost": entry}, indent=2) + "\n"
    write_atomically(HERE / "texts" / "manifest.json", manifest.encode())
    print(entry)


if __name__ == "__main__":
    main()
