"""Words from outside, as they may be shown: in a terminal, a table, a notebook. What people wrote never acts there."""

import re
import unicodedata

LENGTH = 500  # characters of one remark
FORMULA = re.compile(r"(^|[;\t]\s*)(?=\s*[=+\-@＝＋－＠])")  # how a cell begins that a spreadsheet computes


def shown(text: str, length: int = LENGTH) -> str:
    """One line, not too long, in which whatever a terminal obeys is spelled: escapes, controls, backward text."""
    if len(text) > length:
        text = f"{text[: length - 25]} … ({len(text):,} characters)"
    return "".join(_spelled(letter) for letter in text.replace("\n", " "))


def _spelled(letter: str) -> str:
    """Letters, marks, signs and spaces as they are; of the rest (Unicode's category C but the joiners) the number."""
    if unicodedata.category(letter)[0] != "C" or letter in "\u200c\u200d":  # Hindi, Persian and emoji need these two
        return letter
    return f"\\x{ord(letter):02x}" if ord(letter) < 256 else f"\\u{ord(letter):04x}"


def in_table(cell: object) -> str:
    """A table's cell: one line, and nothing in it that a spreadsheet would take for a formula."""
    return FORMULA.sub(r"\1'", shown(str(cell), 4 * LENGTH))


def quoted(text: str) -> str:
    """Markdown that shows a text as it was written, and acts on nothing in it: a block of code that it cannot end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    lines = [part for line in text.split("\n") for part in _wrapped(line)]
    return "\n".join([f"{fence}text", *lines, fence])


def _wrapped(line: str, width: int = 100) -> list[str]:
    """A line in pieces that fit a page, cut at spaces; a block of code would run on."""
    pieces = []
    while len(line) > width and (cut := line.rfind(" ", 1, width)) > 0:
        pieces.append(line[:cut])
        line = line[cut + 1 :]
    return [*pieces, line]
