"""What was handed in, made into answers: one submission for each learner and lesson.

A class comes as a folder of notebooks, a folder of students' folders, or a zip as a learning platform exports it.
`files` finds what is in it, `learners` says whose it is, `notebook` reads what counts; here the one that counts is
chosen. What one learner hands in costs others nothing: all of it is bounded.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from course_utils.desk.grading.files import FILE_LIMIT, LINES_LIMIT, SUBMITTERS, File, IntakeError, find
from course_utils.desk.grading.learners import Names, groups, owners
from course_utils.desk.grading.notebook import Assignment, Question, Submission, assignment, read_submission
from course_utils.desk.grading.words import shown
from course_utils.desk.lesson import lessons

__all__ = [
    "Assignment",
    "IntakeError",
    "Names",
    "Question",
    "Submission",
    "assignment",
    "collect",
    "lesson_of",
    "read_submission",
]

EACH_LIMIT = 100  # notebooks of one learner
BYTES_LIMIT = 100 << 20  # of all of them
TOLD = re.compile(rb'"course":\s*\{[^{}]*"lesson":\s*"(\d\d)"')
MARKED = re.compile(rb"#\s{0,9}Exercise\s{1,9}(\d\d)\.\w")


@dataclass(frozen=True)
class _Candidate:
    """A file that may count for a learner's lesson: the greatest does."""

    order: tuple
    file: File
    trouble: str = ""


def collect(
    path: Path,
    wanted: dict[str, Assignment],
    log: list[str],
    names: Names | None = None,
    pattern: str | None = None,
) -> Iterator[Submission]:
    """Every submission in a notebook, a folder or a zip, to the wanted lessons; one for each learner and lesson.

    Of several notebooks the newest attempt counts, where the platform's names tell; else the last in the alphabet; one
    in a folder `solutions` only if there is no other. A learner of whom nothing can be read has a submission that says
    so.

    Args:
        path: the notebook, folder or zip.
        wanted: the lessons, by number.
        log: takes what is skipped, and why.
        names: the ids that a class folder remembers.
        pattern: as `learners.owners` takes it.

    Raises IntakeError if `path` is none of these, or two learners would have one id.
    """
    remarks: list[str] = []
    try:
        yield from _collected(path, wanted, remarks, names or Names(), pattern)
    finally:
        log.extend(map(shown, remarks))


def _collected(
    path: Path, wanted: dict[str, Assignment], log: list[str], names: Names, pattern: str | None
) -> Iterator[Submission]:
    files, submitters = [], ""
    for file in find(path, log):
        folder, _, base = file.name.rpartition("/")
        if base != SUBMITTERS:
            files.append(file)
        elif not re.search(r"(^|/)submission_\d+(/|$)|(?i:\.zip(/|$))", folder):  # a learner's own would be a lie
            submitters += _content(file)[0].decode(errors="replace") + "\n"
    log += groups(submitters)
    owned = owners([file.name for file in files], pattern, submitters)
    ids = {who: names.id(who) for who in sorted({owner.who for owner in owned.values()})}
    called = {id: who for who, id in ids.items()}
    chosen: dict[tuple[str, str], _Candidate] = {}
    unread: dict[str, File] = {}  # a learner's first file that tells nothing, not even its lesson
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for file in files:
        owner = owned[file.name]
        student = ids[owner.who]
        count[student] += 1
        if count[student] > EACH_LIMIT or size[student] > BYTES_LIMIT:
            if count[student] <= EACH_LIMIT + LINES_LIMIT:
                log.append(
                    f"{file.name}: skipped, {student} handed in more than {EACH_LIMIT} notebooks, or too large ones"
                )
            continue
        content, trouble = _content(file)
        size[student] += len(content)
        lesson = lesson_of(file.name, content, wanted)
        if trouble:
            if not file.trouble:  # files found in trouble are in the log
                log.append(f"{file.name}: skipped, {trouble}")
            if lesson is None or not _slug(file.name):
                unread.setdefault(student, File(file.name, trouble=trouble))
                continue
        if lesson is None:
            log.append(f"{file.name}: skipped, of none of the lessons {', '.join(wanted)}")
            continue
        of_solutions = "solutions" in PurePosixPath(file.name).parts
        order = (not trouble, not of_solutions, owner.attempt, file.name)
        mine = _Candidate(order, file, trouble)
        if (before := chosen.get((student, lesson))) is not None:
            mine, other = (mine, before) if mine.order > before.order else (before, mine)
            log.append(f"{other.file.name}: not the only one of {student}, lesson {lesson}; {mine.file.name} counts")
        chosen[student, lesson] = mine
    there = {student for student, _ in chosen}
    likely = sorted({lesson for _, lesson in chosen}) or list(wanted)
    for student, file in unread.items():
        if student not in there:
            chosen |= {(student, lesson): _Candidate((), file, file.trouble) for lesson in likely}
    for (student, lesson), candidate in sorted(chosen.items()):
        content, trouble = (b"", candidate.trouble) if candidate.trouble else _content(candidate.file)
        if trouble:
            notes = [shown(f"not read: {trouble}")]
            yield Submission(student, lesson, notes=notes, unread=shown(trouble), name=called[student])
            continue
        found = read_submission(content, student, wanted[lesson])
        found.name = called[student]
        log.extend(f"{candidate.file.name}: {note}" for note in found.notes)
        yield found


def _content(file: File) -> tuple[bytes, str]:
    """What is in a file; or why it cannot be read."""
    if file.trouble:
        return b"", file.trouble
    try:
        return file.read(), ""
    except Exception as error:  # a damaged zip, one with a password, an unreadable disk
        return b"", f"{type(error).__name__}: {error}"


def _slug(name: str) -> str | None:
    """The lesson whose name is in a file's."""
    file = PurePosixPath(name).name
    return next((source.stem[:2] for source in lessons() if source.stem in file), None)


def lesson_of(name: str, content: bytes, wanted: dict[str, Assignment]) -> str | None:
    """Which of the wanted lessons a notebook answers, None if it answers another.

    Its metadata says so; else its file's name if a lesson's is in it, unless all the marks in its cells name another;
    else the marks; else a number that the name begins with. One that says nothing is of the lesson that is wanted, if
    that is one alone.
    """
    head = content[:FILE_LIMIT]
    if told := TOLD.search(head):
        lesson = told[1].decode()
    else:
        marks = Counter(mark.decode() for mark in MARKED.findall(head))
        lesson = _slug(name)
        if marks and (lesson is None or lesson not in marks):
            lesson = marks.most_common(1)[0][0]
    if lesson is None:
        numbered = re.match(r"(\d\d)(\D|$)", PurePosixPath(name).name)
        if numbered and numbered[1] in wanted:
            lesson = numbered[1]
        elif len(wanted) == 1:
            return next(iter(wanted))
    return lesson if lesson in wanted else None
