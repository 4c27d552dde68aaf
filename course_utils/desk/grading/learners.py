"""Whose hand-in it is: the names that platforms give to files, and the id that a learner keeps for the whole course.

An id follows from the learner's name alone, so it is the same whoever else hands in. The class folder remembers them in
`learners.json`; two names that would have one id stop the intake with words.
"""

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
    "Moodle": r"(?P<student>.+?_\d+)_(?:assignsubmission_)?(?:file|onlinetext)(?:_.*)?",
    "Blackboard": r"(?P<head>.+?)_(?P<student>[^_]+)_attempt_(?P<attempt>\d{4}(?:-\d\d){5})(?:[_. ].*)?",
    "Brightspace": r"(?P<number>\d+)-\d+ - (?P<student>.+?) - (?P<attempt>[^-]*\d{4}[^-]*?)(?: - .*)?",
    "nbgrader": r"(?P<student>[^+]+)\+[^+]+\+(?P<attempt>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^+]*)(?:\+.*)?",
    "Canvas, names hidden": r"(?:LATE_)?(?P<student>anon_[0-9A-Za-z]+)_(?P<attempt>\d+)_.+",
    "Canvas": r"(?P<student>.+?)(?:_LATE)?_(?P<number>\d+)_(?P<attempt>\d+)_.+",
}
"""Learners choose the end of such a name, so each of these takes the first of what fits, and not the last."""
GENERIC = re.compile(  # folders and files whose name says nothing about a person
    r"(?i)(the|my|all|late|week|day|unit|module|lesson|lecture|assignments?|homeworks?|hw|exercises?|sheet|problem|"
    r"set|class|course|group|batch|exports?|downloads?|submissions?|submitted|solutions?|hand-?ins?|notebooks?|work|src|"
    r"inbound|zip|attempt|answers?|final|untitled|new folder|[ _.-]|(?<!\d)(\d{1,3}|(19|20)\d\d)(?!\d))+"
)  # a year or a short number; a long one may be a learner's
SURNAMES = re.compile(  # of those, people's too
    r"(?i)the|my|all|day|week|works?|class|course|group|batch|set|sheet|problem"
)
COPY = re.compile(r" ?\((\d+)\)$|-Copy(\d+)$")  # a browser's second download; JupyterLab's duplicate
PREFIX = re.compile(r"(?i)(^|(?<= - ))(copy[ _]of[ _])+")  # Google Drive's and Colab's
INSIDE = re.compile(r"(?i)\.zip/.*")  # of a path, what a learner has put into a zip
MONTHS = (
    "jan|ene|gen",
    "f[eé]",
    "m[aä]r",
    "a[pvb]",
    "ma[iyg]|mei",
    "jui?n|giu",
    "jui?l|lug",
    "a[uog]",
    "se[pt]",
    "o[ckt]",
    "no",
    "d[eéi]",
)
SUBMISSION = re.compile(r"(?m)^(submission_\d+):[ \t]*\n((?:[ \t-].*(?:\n|$))+)")
ID_BYTES = 80
NAMES = "learners.json"  # in a class folder, which id is whose


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
        pattern: a regular expression with a group `student`, and maybe one `attempt`; it is searched for in each path,
            but not in what is inside a learner's zip, and comes before all else where it is found.
        submitters: the text of Gradescope's `submission_metadata.yml`.

    Raises IntakeError if two of Blackboard's names can be read in more than one way; if nothing but folders that may be
    surnames, such as `Day` and `Work`, tells two hand-ins apart; or if what seem to be learners hold a class each.
    """
    slugs = [source.stem for source in lessons()]
    skipped = {"submitted", "solutions", *slugs, *(slug[:2] for slug in slugs)}
    rows = {name: _row(name, skipped) for name in names}
    people = _gradescope(submitters)
    level, platform = _level(list(rows.values()), people)

    def said(row: list[str], at: int) -> Owner | None:
        folder = at < len(row) - 1 and not row[at].lower().endswith(".zip")  # whose name no learner has chosen
        tried = (_said(row[at], people, one) for one in (platform, *(PLATFORMS if folder else ())))
        return next((owner for owner in tried if owner), None)

    found: dict[str, Owner] = {}
    heads: dict[tuple[str, str], str] = {}
    above: dict[str, list[str]] = {}  # rows of what nothing has named, but for what is in a learner's own folder
    theirs: dict[str, tuple[list[str], list[str]]] = {}  # the way to that folder, and on to the file
    for name, row in rows.items():
        if pattern and (own := re.search(pattern, INSIDE.sub(".zip", name))) and own["student"]:
            attempt = own.groupdict().get("attempt") or ""
            found[name] = Owner(own["student"], tuple(map(int, re.findall(r"\d+", attempt))))
            continue
        at = min(level, len(row) - 1)
        while at < len(row) - 1 and GENERIC.fullmatch(row[at]) and said(row, at + 1):
            at += 1  # a week's folder around what a platform named
        part = row[at]
        owner = said(row, at)
        if owner is None and part is row[-1]:
            above[name], owner = row, _of_a_file(part, row[:-1], slugs, alone=len(rows) == 1)
        elif owner is None:
            above[name], theirs[name] = [*row[:at], ""], (row[: at + 1], row[at + 1 :])
        found[name] = owner or Owner(*_without_copy(re.sub(r"(?i)\.zip$", "", part)))
        if platform == "Blackboard" and (blackboard := re.fullmatch(PLATFORMS[platform], part)) is not None:
            key = name.rpartition(part)[0], found[name].who
            if heads.setdefault(key, blackboard["head"]) != blackboard["head"]:
                raise IntakeError(f"{name}: who is {found[name].who}? Say so by --pattern (docs/grading.md shows how)")
    _refuse_surnames(above, found)
    _refuse_classes(theirs, found, slugs)
    return found


def _refuse_surnames(rows: dict[str, list[str]], found: dict[str, Owner]) -> None:
    """Raise IntakeError where two paths differ only in a folder that may be a surname, and are one learner's so far."""
    seen: dict[tuple[str, ...], str] = {}  # a path without one folder of its, and who -> that folder
    for name, (*folders, file) in rows.items():
        who = found[name].who
        for depth, folder in enumerate(folders):
            if SURNAMES.fullmatch(folder):
                rest = (*folders[:depth], "", *folders[depth + 1 :], "" if who in folders else file, who)
                if (other := seen.setdefault(rest, folder)) != folder:
                    raise _two_or_one(name, other, folder, who)


def _refuse_classes(rows: dict[str, tuple[list[str], list[str]]], found: dict[str, Owner], slugs: list[str]) -> None:
    """Raise IntakeError where most learners, or a folder such as `week 1`, have one lesson under two people's names.

    Then they are sections of a class, or exports of a platform. What a few have in their folders stops nobody.
    """
    inside: dict[tuple[str, ...], str] = {}  # such a folder and a lesson -> whose it is
    crowds: dict[str, IntakeError] = {}
    for name, (way, (*folders, file)) in rows.items():
        slug = next((slug for slug in slugs if slug in file), None)
        named = [folder for folder in (re.sub(r"(?i)\.zip$", "", folder) for folder in folders) if _names(folder)]
        who = _of_a_file(file, named, slugs, alone=False).who
        if slug is None or who == "unknown" or not _names(who):
            continue
        if (other := inside.setdefault((*way, slug), who)) != who:
            crowds[found[name].who] = error = _two_or_one(name, other, who, found[name].who)
            if not way[-1].lower().endswith(".zip") and not _names(way[-1]):
                raise error
    if 2 * len(crowds) > len({owner.who for owner in found.values()}):
        raise next(iter(crowds.values()))


def _names(part: str) -> bool:
    """Whether it may be what somebody is called."""
    return not GENERIC.fullmatch(part) or SURNAMES.fullmatch(part) is not None


def _two_or_one(name: str, one: str, other: str, who: str) -> IntakeError:
    return IntakeError(
        f"{name}: are {one} and {other} two learners, or one called {who}? Say so by --pattern (docs/grading.md shows "
        "how), with a class's zips unpacked"
    )


def _row(name: str, skipped: set[str]) -> list[str]:
    """The folders of a path that may name a learner, and its file."""
    *folders, file = PurePosixPath(name).parts
    return [folder for folder in folders if folder not in skipped] + [file]


def _level(rows: list[list[str]], people: dict[str, str]) -> tuple[int, str]:
    """At which level of the paths learners are told apart, and the platform that named them, if one did.

    That is the level at which one platform has named most of what is in each folder, so that no learner's own names
    make them somebody else; else the first at which the paths differ, or have a file. Weeks and the like are no level,
    unless nothing but their numbers tells hand-ins of the same names apart. Zips hold one learner's work each, so no
    level is looked for inside one.
    """
    level, numbered = 0, None
    for depth in range(min(map(len, rows), default=0)):
        folders: dict[tuple[str, ...], set[str]] = {}
        for row in rows:
            folders.setdefault(tuple(row[:depth]), set()).add(row[depth])
        for platform in ("", *PLATFORMS):  # "" is Gradescope, where only `people` know
            named = [[_said(part, people, platform) is not None for part in parts] for parts in folders.values()]
            if all(2 * sum(told) >= len(told) for told in named):
                return depth, platform
        if any(part.lower().endswith(".zip") for parts in folders.values() for part in parts):
            break
    while all(len(row) > level + 1 for row in rows) and rows:
        here = {row[level] for row in rows}
        told = len(here) > 1 and not all(GENERIC.fullmatch(part) for part in here)
        if told or any(part.lower().endswith(".zip") or NOTEBOOK.sub("", part) in people for part in here):
            return level, ""
        if numbered is None and len(here) > 1 and all(part.isdigit() for part in here):
            numbered = level
        level += 1
    alike = len({tuple(row[level:]) for row in rows}) < len(rows)
    return numbered if numbered is not None and alike else level, ""


def _said(part: str, people: dict[str, str], platform: str) -> Owner | None:
    """The learner and the attempt in a platform's name for a hand-in; None if it is no such name."""
    bare = NOTEBOOK.sub("", part)
    if bare in people:
        return Owner(people[bare])
    if platform and (match := re.fullmatch(PLATFORMS[platform], bare)) is not None:
        groups = match.groupdict()
        who = groups["student"] + (f"_{groups['number']}" if groups.get("number") else "")
        return Owner(who, _attempt(platform, groups.get("attempt") or ""))
    return None


def _attempt(platform: str, text: str) -> tuple[int, ...]:
    """A time or number as something that grows."""
    numbers = tuple(map(int, re.findall(r"\d+", text)))
    if platform != "Brightspace":
        return numbers
    # "Mar 1, 2024 1205 PM", "1 mars 2024 13:05": the year has four digits and comes after the day
    found = re.search(r"(\d{1,2})\D+?(\d{4})\D*(.*)", text)
    month = next((k for k, name in enumerate(MONTHS, 1) if re.search(rf"(?i)\b({name})", text)), 0)
    if not found:
        return numbers
    clock = int(re.sub(r"\D", "", found[3]) or 0)
    if re.search("(?i)[ap]m", found[3]):
        clock = clock % 1200 + (1200 if "pm" in found[3].lower() else 0)
    return int(found[2]), month, int(found[1]), clock


def _of_a_file(file: str, folders: list[str], slugs: list[str], alone: bool) -> Owner:
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
    for submission, about in SUBMISSION.findall(text):
        for key in ("email", "sid", "name"):
            if told := re.search(rf":{key}:[ \t]*['\"]?([^'\"\n]+)", about):
                people[submission] = told[1].strip()
                break
    return people


def groups(submitters: str) -> list[str]:
    """Remarks on what Gradescope says that several have submitted together: the first of them has the row."""
    told = {submission: re.findall(r":name:[ \t]*(.+)", about) for submission, about in SUBMISSION.findall(submitters)}
    return [
        f"{submission}: of {', '.join(names)}; its row is the first's"
        for submission, names in told.items()
        if names[1:]
    ]


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
    """A name in the one spelling that Unicode has for it: a Mac writes é as two characters, all others as one.

    A byte of an old encoding, which Python writes as half a surrogate, is taken for Latin-1's letter.
    """
    read = (chr(ord(letter) - 0xDC00) if "\udc80" <= letter <= "\udcff" else letter for letter in who)
    return unicodedata.normalize("NFC", "".join(read).encode(errors="replace").decode())


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
