"""Whose hand-in it is: the names that platforms give to files, and the id that a learner keeps for the whole course.

An id follows from the learner's name alone, so it is the same whoever else hands in. The class folder remembers them in
`learners.json`; two names that would have one id stop the intake with words.
"""

import datetime
import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from course_utils.desk.grading.files import NOTEBOOK, IntakeError
from course_utils.desk.lesson import lessons
from course_utils.files import write_atomically

PLATFORMS = {  # what a folder, a zip or a file is called in a bulk download
    "Moodle": r"(?P<student>.+_\d+)_(?:assignsubmission_)?(?:file|onlinetext)(?:_.*)?",
    "Blackboard": r"(?P<head>.+)_(?P<student>[^_]+)_attempt_(?P<attempt>\d{4}(?:-\d\d){5})(?:[_. ].*)?",
    "Brightspace": r"(?P<number>\d+)-\d+ - (?P<student>.+?) - (?P<attempt>[^-]*\d{4}[^-]*?)(?: - .*)?",
    "nbgrader": r"(?P<student>[^+]+)\+[^+]+\+(?P<attempt>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^+]*)(?:\+.*)?",
    "Canvas": r"(?P<student>[^_]+?)(?:_LATE)?_(?P<number>\d+)_(?P<attempt>\d+)_.+",
}
GENERIC = re.compile(  # folders and files whose name says nothing about a person
    r"(?i)(the|my|all|late|week|day|unit|module|lesson|lecture|assignments?|homeworks?|hw|exercises?|sheet|problem|"
    r"set|class|course|group|batch|exports?|downloads?|submissions?|submitted|solutions?|hand-?ins?|notebooks?|work|src|"
    r"inbound|zip|attempt|answers?|final|untitled|new folder|[ _.-]|\d)+"
)
COPY = re.compile(r" ?\((\d+)\)$|-Copy(\d+)$")  # a browser's second download; JupyterLab's duplicate
PREFIX = re.compile(r"(?i)^(copy[ _]of[ _])+")  # Google Drive's and Colab's
ID_BYTES = 80
NAMES = "learners.json"


class Owner(NamedTuple):
    """Who handed in a file, and its place among their attempts: the greatest is the newest."""

    who: str
    attempt: tuple[int, ...] = ()


def owners(names: Sequence[str], pattern: str | None = None, submitters: str = "") -> dict[str, Owner]:
    """Who handed in each file, from where it lies and what it is called.

    A learner is the first folder, zip or file by which the hand-ins differ; folders such as `week 1` are passed by.
    What a learner puts into a folder or zip of their own is theirs, whatever they call it.

    Args:
        names: paths of files, with slashes; zips in them count as folders.
        pattern: a regular expression with a group `student`, and maybe one `attempt`; it is searched for in each path
            and comes before all else where it is found.
        submitters: the text of Gradescope's `submission_metadata.yml`.

    Raises IntakeError if two of Blackboard's names can be read in more than one way.
    """
    slugs = [source.stem for source in lessons()]
    skipped = {"submitted", "solutions", *slugs, *(slug[:2] for slug in slugs)}
    rows = {name: _row(name, skipped) for name in names}
    people = _gradescope(submitters)
    level = _level(list(rows.values()), people)
    found: dict[str, Owner] = {}
    heads: dict[tuple[str, str], str] = {}
    for name, row in rows.items():
        if pattern and (own := re.search(pattern, name)) and own["student"]:
            attempt = own.groupdict().get("attempt") or ""
            found[name] = Owner(own["student"], tuple(map(int, re.findall(r"\d+", attempt))))
            continue
        at = min(level, len(row) - 1)
        while at < len(row) - 1 and GENERIC.fullmatch(row[at]) and _said(row[at + 1], people):
            at += 1  # a week's folder around what a platform named
        part = row[at]
        said = _said(part, people)
        if said is None and part is row[-1]:
            said = _of_a_file(part, row[:-1], slugs, alone=len(rows) == 1)
        found[name] = said or Owner(*_without_copy(re.sub(r"(?i)\.zip$", "", part)))
        if (blackboard := re.fullmatch(PLATFORMS["Blackboard"], part)) is not None:
            key = name.rpartition(part)[0], found[name].who
            if heads.setdefault(key, blackboard["head"]) != blackboard["head"]:
                raise IntakeError(f"{name}: who is {found[name].who}? Say so by --pattern (docs/grading.md shows how)")
    return found


def _row(name: str, skipped: set[str]) -> list[str]:
    """The folders of a path that may name a learner, and its file."""
    *folders, file = PurePosixPath(name).parts
    return [folder for folder in folders if folder not in skipped] + [file]


def _level(rows: list[list[str]], people: dict[str, str]) -> int:
    """The first level at which the paths differ, or have a file; levels of weeks and the like are none.

    Zips hold one learner's work each, so no level is looked for inside one.
    """
    level = 0
    while all(len(row) > level + 1 for row in rows) and rows:
        here = {row[level] for row in rows}
        told = len(here) > 1 and not all(GENERIC.fullmatch(part) for part in here)
        if told or any(part.lower().endswith(".zip") or _said(part, people) for part in here):
            break
        level += 1
    return level


def _said(part: str, people: dict[str, str]) -> Owner | None:
    """The learner and the attempt in a platform's name for a hand-in; None if it is no platform's."""
    bare = NOTEBOOK.sub("", part)
    if bare in people:
        return Owner(people[bare])
    for platform, shape in PLATFORMS.items():
        if (match := re.fullmatch(shape, bare)) is not None:
            groups = match.groupdict()
            who = groups["student"] + (f"_{groups['number']}" if groups.get("number") else "")
            return Owner(who, _attempt(platform, groups.get("attempt") or ""))
    return None


def _attempt(platform: str, text: str) -> tuple[int, ...]:
    """A time or number as something that grows."""
    if platform != "Brightspace":
        return tuple(map(int, re.findall(r"\d+", text)))
    month = re.search(r"[A-Za-z]{3,}", text)
    day, year, *rest = [*re.findall(r"\d+", text.replace(":", "")), "0"]
    try:
        number = datetime.datetime.strptime(month[0][:3], "%b").month if month else 0
    except ValueError:  # another language's month
        number = 0
    clock = int(rest[0])
    if re.search("(?i)[ap]m", text):
        clock = clock % 1200 + (1200 if "pm" in text.lower() else 0)
    return int(year), number, int(day), clock


def _of_a_file(file: str, folders: list[str], slugs: list[str], alone: bool) -> Owner | None:
    """The learner in the name of a file beside the lesson's; or else the nearest folder above that names anybody."""
    stem, copy = _without_copy(PREFIX.sub("", NOTEBOOK.sub("", re.sub(r"(?i)\.zip$", "", file))))
    if inside := re.search(r"(?i)\.ipynb ?\((\d+)\)", file):
        copy = (int(inside[1]),)
    for slug in slugs:
        stem = stem.replace(slug, "")
    stem = _without_copy(stem)[0].strip(" ._-@")
    named = [re.sub(r"(?i)\.zip$", "", folder) for folder in folders if not GENERIC.fullmatch(folder)]
    if stem and not GENERIC.fullmatch(stem) and not (alone and named):
        return Owner(stem, copy)
    if named:
        return Owner(named[-1], copy)
    return Owner(stem or (folders or ["unknown"])[-1], copy)


def _without_copy(stem: str) -> tuple[str, tuple[int, ...]]:
    """A name without the number of its copy, and that number."""
    copy = COPY.search(stem)
    return (stem[: copy.start()], (int(copy[1] or copy[2]),)) if copy else (stem, ())


def _gradescope(text: str) -> dict[str, str]:
    """submission_123 -> the mail address, number or name of the first who submitted it."""
    people = {}
    for submission, about in re.findall(r"(?m)^(submission_\d+):[ \t]*\n((?:[ \t-].*(?:\n|$))+)", text):
        for key in ("email", "sid", "name"):
            if told := re.search(rf":{key}:[ \t]*['\"]?([^'\"\n]+)", about):
                people[submission] = told[1].strip()
                break
    return people


# ---------------------------------------------------------------- ids


def id_of(who: str) -> str:
    """The word that stands for a learner in tables, folders and the gradebook.

    Letters, their marks and digits of every script stay; all else becomes an underscore. What is too long for a file's
    name is cut, with a hash of the whole.
    """
    who = _as_written(who)
    kept = "".join(letter if unicodedata.category(letter)[0] in "LMN" or letter in "_.@-" else " " for letter in who)
    word = re.sub(" +", "_", kept).strip("._-@")
    digest = hashlib.sha256(who.encode()).hexdigest()[:8]
    if not word:
        return f"learner-{digest}"
    if len(word.encode()) <= ID_BYTES:
        return word
    return word.encode()[: ID_BYTES - 9].decode(errors="ignore") + f"-{digest}"


def _as_written(who: str) -> str:
    """A name in the one spelling that Unicode has for it: a Mac writes é as two characters, all others as one."""
    return unicodedata.normalize("NFC", who.encode(errors="replace").decode())


class Names:
    """Which name each id stands for, remembered in a class folder; a name that stands there with an id keeps it.

    Raises IntakeError if the folder's list cannot be read.
    """

    def __init__(self, folder: Path | None = None):
        self.path = folder / NAMES if folder else None
        self.names: dict[str, str] = {}
        if self.path and self.path.exists():
            try:
                told = json.loads(self.path.read_text(encoding="utf-8"))
                self.names = {str(id): _as_written(str(who)) for id, who in told.items()}
            except (ValueError, AttributeError, OSError) as error:
                raise IntakeError(f"{self.path}: cannot be read ({error}); mend it, or take it away") from error

    def id(self, who: str) -> str:
        """A learner's id. Raises IntakeError if it stands for somebody else already."""
        who = _as_written(who)
        if known := next((id for id, other in self.names.items() if other == who), None):
            return known
        id = id_of(who)
        taken = next((other for other in self.names if other.casefold() == id.casefold()), None)
        if taken:
            raise IntakeError(
                f"two learners would be one: {self.names[taken]!r} and {who!r} both become {id}. Rename one of the "
                f'two, or give each an id of its own in the class folder\'s {NAMES}: {{"id": "name", …}}'
            )
        self.names[id] = who
        return id

    def save(self) -> None:
        """Write the list into the class folder, if there is one."""
        if self.path:
            write_atomically(self.path, json.dumps(self.names, ensure_ascii=False, indent=1).encode())
