"""What was handed in becomes the right answers of the right learner, whatever platforms and editors made of it."""

import csv
import io
import itertools
import json
import os
import re
import time
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("nbgrader", reason="grading needs the extra [grade]")

from course_utils.desk import cli
from course_utils.desk.grading import cells, files, grade, intake, learners, release, report, words, worker
from course_utils.desk.grading.learners import Names, id_of, owners
from course_utils.desk.lesson import ANSWER
from course_utils.files import DataError

ONE = "01"
THIS = intake.assignment(ONE)
WANTED = {lesson: intake.assignment(lesson) for lesson in ("01", "02")}
STEP = "01.q_step"
RIGHT = "def q_step(x_prev, beta, eps):\n    return (1 - beta) ** 0.5 * x_prev + beta**0.5 * eps\n"
MARK = "# Exercise 01.q_step\n"
STUB = 'def q_step(x_prev, beta, eps):\n    """x_t."""\n    raise NotImplementedError("your turn")\n'


def notebook(*sources: str, lesson: str | None = None, **more) -> bytes:
    """Code cells with these sources, and maybe a lesson in the metadata."""
    metadata = {"course": {"built_with": 1, "lesson": lesson}} if lesson else {}
    listed = [
        source if isinstance(source, dict) else {"cell_type": "code", "metadata": {}, "outputs": [], "source": source}
        for source in sources
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": listed} | more).encode()


def marked(source: str, id: str = "01-q_step", kind: str = "code") -> dict:
    """A cell that nbgrader's metadata marks."""
    return {"cell_type": kind, "metadata": {"nbgrader": {"grade_id": id}}, "outputs": [], "source": source}


def words_of(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def folder(path: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(contents: dict[str, bytes]) -> bytes:
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return block.getvalue()


def whose(path: Path, wanted=WANTED, **options) -> dict[tuple[str, str], intake.Submission]:
    return {(one.student, one.lesson): one for one in intake.collect(path, wanted, [], **options)}


def run(*arguments) -> "object":
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def graded(path: Path, out: Path, *options) -> "object":
    return run("grade", path, "--out", out, "--lessons", ONE, "--no-sandbox", *options)


@pytest.fixture
def quick(monkeypatch):
    """A grader that runs nothing and keeps no gradebook: right is the answer that these tests call right."""

    def look(submission, this, *, seed=0, sandboxed=True, stop=None) -> grade.Result:
        result = grade.Result(submission.student, this.lesson, submission.sha256, seed, sandboxed=sandboxed)
        result.name, result.unread, result.notes = submission.name, submission.unread, submission.notes
        for question in this.exercises:
            right = RIGHT.strip() in submission.answers.get(question.id, "")
            result.exercises.append(grade.Graded(question.id, "right" if right else "wrong", right, question.points))
        return result

    monkeypatch.setattr(grade, "grade", look)
    monkeypatch.setattr(report, "write_gradebook", lambda *arguments: None)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "id"),
    [
        ("ada", "ada"),
        ("रीता", "रीता"),
        ("สมชาย", "สมชาย"),
        ("Jose\u0301 Nun\u0303ez", "José_Nuñez"),  # a Mac's spelling
        ("李 小龙", "李_小龙"),
        ("=cmd|x", "cmd_x"),
        ("../../etc", "etc"),
        ("a<script>b", "a_script_b"),
        ("Emmy Noether_12345", "Emmy_Noether_12345"),
    ],
)
def test_an_id_keeps_letters_and_marks_of_every_script_and_nothing_else(who, id):
    assert id_of(who) == id


def test_an_id_is_short_enough_for_a_files_name_and_never_empty():
    long = [id_of("n" * 300 + end) for end in "ab"] + [id_of("\N{OLD ITALIC LETTER A}" * 80)]
    assert len(set(long)) == 3
    assert all(len(id.encode()) <= learners.ID_BYTES for id in long)
    assert len({id_of("!"), id_of("?"), ""}) == 3


def test_an_id_does_not_depend_on_who_else_hands_in(tmp_path):
    everybody = ["रीता", "रेता", "José", "Ada Lovelace", "ada"]
    for i, some in enumerate(itertools.combinations(everybody, 2)):
        batch = folder(tmp_path / str(i), {f"{who}/01_forward_process.ipynb": notebook(MARK + RIGHT) for who in some})
        assert {student for student, _ in whose(batch)} == {id_of(who) for who in some}
    assert len({id_of(who) for who in everybody}) == len(everybody)


def test_two_learners_with_one_id_stop_with_words_and_a_late_one_overwrites_nobody(tmp_path, quick):
    name, out = "01_forward_process.ipynb", tmp_path / "class"
    both = folder(tmp_path / "both", {f"Emmy N/{name}": notebook(MARK + RIGHT), f"Emmy_N/{name}": notebook(MARK)})
    done = graded(both, out)
    assert done.exit_code == 1
    assert "'Emmy N' and 'Emmy_N' both become Emmy_N" in done.output
    assert not (out / "grades.csv").exists()

    week = folder(tmp_path / "week", {f"Emmy N/{name}": notebook(MARK + RIGHT), f"ada/{name}": notebook(MARK)})
    assert graded(week, out).exit_code == 0
    before = {row["student"]: row["points"] for row in rows(out / "grades.csv")}
    assert before == {"Emmy_N": "1", "ada": "0"}
    late = folder(tmp_path / "late", {f"Emmy_N/{name}": notebook(MARK), f"bob/{name}": notebook(MARK)})
    assert graded(late, out).exit_code == 1
    assert {row["student"]: row["points"] for row in rows(out / "grades.csv")} == before

    # The way out that the words name: an id for the second, in the class folder's list.
    listed = json.loads((out / learners.NAMES).read_text())
    (out / learners.NAMES).write_text(json.dumps(listed | {"emmy2": "Emmy_N"}))
    done = graded(late, out)
    assert done.exit_code == 0, done.output
    assert {row["student"]: row["points"] for row in rows(out / "grades.csv")} == before | {"emmy2": "0", "bob": "0"}


def test_without_the_list_too_a_result_is_not_given_to_another(tmp_path, quick):
    first = intake.read_submission(notebook(MARK + RIGHT), "x", THIS)
    first.name = "Lee, Ann"
    second = intake.read_submission(notebook(MARK), "x", THIS)
    second.name = "Lee Ann"
    (one,) = grade.grade_class([first], {ONE: THIS}, tmp_path, sandboxed=False)
    assert one.points == 1
    (other,) = grade.grade_class([second], {ONE: THIS}, tmp_path, sandboxed=False)
    assert "'Lee, Ann'" in other.failed
    assert grade.read_result(tmp_path, first, 0, False) == one


def test_names_that_differ_in_case_alone_would_be_one_file_on_some_disks():
    names = Names()
    assert names.id("Ada") == "Ada"
    with pytest.raises(intake.IntakeError, match="'Ada' and 'ada'"):
        names.id("ada")


# --- names of platforms ----------------------------------------------------------------------------------------------

N1, N2 = "01_forward_process.ipynb", "02_noise_schedules.ipynb"
EXPORTS = {  # files of one person, the last of those to a lesson being the newest
    "Canvas": (
        "poeedgar_101",
        [
            f"poeedgar_101_900_{N1}",
            f"poeedgar_LATE_101_950_{N1}",
            "poeedgar_LATE_101_1001_01_forward_process-1.ipynb",
            f"poeedgar_101_901_{N2}",
        ],
    ),
    "Moodle": (
        "Edgar_Poe_12",
        [f"Edgar Poe_12_assignsubmission_file_/{N1}", f"Edgar Poe_12_assignsubmission_file_/{N2}"],
    ),
    "Moodle, flat": ("Edgar_Poe_12", [f"Edgar Poe_12_assignsubmission_file_{N1}"]),
    "Blackboard": (
        "epoe",
        [
            f"gradebook_DM-24_Lesson201_epoe_attempt_2024-03-01-12-30-45_{N1}",
            f"gradebook_DM-24_Lesson201_epoe_attempt_2024-11-02-09-05-00_{N1}",
            f"week 2/gradebook_DM-24_Lesson202_epoe_attempt_2024-03-09-12-30-45_{N2}",
        ],
    ),
    "Brightspace": (
        "Edgar_Poe_6142",
        [
            f"6142-1057 - Edgar Poe - Mar 1, 2024 1159 AM/{N1}",
            f"6142-1057 - Edgar Poe - Mar 1, 2024 1205 PM/{N1}",
            f"6142-1057 - Edgar Poe - 10 March, 2024 105 PM/{N1}",
            f"6142-1058 - Edgar Poe - Apr 2, 2024 1205 PM/{N2}",
        ],
    ),
    "Canvas, a group": ("poe_a_101", [f"poe_a_101_900_{N1}", f"poe_a_LATE_101_950_{N1}"]),
    "Canvas, names hidden": ("anon_Yx3bE", [f"anon_Yx3bE_900_{N1}", f"LATE_anon_Yx3bE_950_{N1}"]),
    "Brightspace, in French": (
        "Edgar_Poe_6142",
        [
            f"6142-1057 - Edgar Poe - 1 févr. 2024 13 05/{N1}",
            f"6142-1057 - Edgar Poe - 2 févr. 2024 09 05/{N1}",
            f"6142-1057 - Edgar Poe - 1 mars 2024 08 05/{N1}",
            f"6142-1058 - Edgar Poe - 2024/{N2}",
        ],
    ),
    "nbgrader, collected": ("epoe", [f"submitted/epoe/01/{N1}", f"submitted/epoe/02/{N2}"]),
    "nbgrader, inbound": (
        "epoe",
        [f"epoe+01+2024-03-01 12:00:00 UTC+ab/{N1}", f"epoe+01+2024-03-01 13:00:00 UTC+cd/{N1}"],
    ),
    "Google Classroom": ("Edgar_Poe", [f"Edgar Poe - {N1}", f"Copy of Edgar Poe - {N2}", f"Edgar Poe - Copy of {N2}"]),
    "a browser's second download": ("epoe", ["epoe.ipynb", "epoe (2).ipynb", "epoe (10).ipynb"]),
}  # fmt: skip


@pytest.mark.parametrize("alone", [False, True], ids=["in a class", "alone"])
@pytest.mark.parametrize("platform", EXPORTS)
def test_one_person_stays_one_person_and_the_newest_attempt_counts(platform, alone, tmp_path):
    id, names = EXPORTS[platform]
    contents = {
        name: notebook(f"# Exercise 02.betas\nx = {i}" if N2 in name else f"{MARK}def q_step(a, b, c):\n    return {i}")
        for i, name in enumerate(names)
    }
    if not alone:
        other = re.sub("(?i)edgar|epoe|poe", "Zed", re.sub(r"101|12|6142|900|901|950", "7", names[0]))
        contents[other] = notebook(MARK + STUB)
    path = tmp_path / "export.zip"
    path.write_bytes(zipped(contents))
    found = {key: one for key, one in whose(path).items() if "zed" not in key[0].lower()}
    assert {student for student, _ in found} == {id}
    newest = max(i for i, name in enumerate(names) if N2 not in name)
    assert found[id, "01"].answers[STEP].endswith(f"return {newest}")


def test_gradescopes_numbers_become_people(tmp_path):
    about = "submission_{0}:\n  :submitters:\n  - :name: {1}\n    :sid: '{0}'\n    :email: {1}@x.org\n  :score: 0\n"
    listed = about.format(11, "poe") + about.format(12, "zed")
    contents = {f"assignment_1_export/submission_{number}/{N1}": notebook(MARK + RIGHT) for number in (11, 12)}
    contents["assignment_1_export/submission_metadata.yml"] = listed.encode()
    assert {student for student, _ in whose(folder(tmp_path, contents))} == {"poe@x.org", "zed@x.org"}


@pytest.mark.parametrize(
    "names",
    [
        [f"week 1/epoe/{N1}"],
        [f"epoe/{N1}", "epoe/01_forward_process (1).ipynb"],
        [f"week 1/epoe/{N1}", f"week 2/epoe/{N2}"],
        [f"epoe/notebooks/{N1}", f"epoe/notebooks/solutions/{N1}"],
        ["epoe/01_forward_process-Copy1.ipynb"],
        [f"hand-ins/epoe.zip/my stuff/{N1}"],
        [f"Copy of epoe {N1}"],
    ],
    ids=lambda names: names[0],
)
def test_one_learner_alone_is_told_from_the_folders_around_them(names):
    assert {owner.who for owner in owners(names).values()} == {"epoe"}


@pytest.mark.parametrize(
    ("one", "other", "inside"), [("Day", "Work", "x/"), ("Day", "Class", "week 1/"), ("Set", "My", "")]
)
def test_folders_that_may_be_surnames_are_never_made_one_learner_in_silence(one, other, inside):
    name = "answers.ipynb" if not inside else "01_forward_process.ipynb"
    paths = [f"{who}/{inside}{name}" for who in (one, other)]
    with pytest.raises(intake.IntakeError, match=f"are {one} and {other} two learners, or one called .*--pattern"):
        owners(paths)
    told = owners(paths, pattern=f"^(?P<student>{one}|{other})/")
    assert [told[path].who for path in paths] == [one, other]
    apart = [f"{who}/{inside}01_forward_process.ipynb" for who in (one, "Poe")]
    assert [owner.who for owner in owners(apart).values()] == [one, "Poe"]
    weeks = [f"week {k}/ada/01_forward_process.ipynb" for k in (1, 2)]  # one learner, who handed in again
    assert {owner.who for owner in owners(weeks).values()} == {"ada"}


@pytest.mark.parametrize(
    "own",
    ["{}/", "{}.zip/", "Ann {}_12_assignsubmission_file_/", "{}_101_900_stuff.zip/", "submitted/{}/01/", "week 1/{}/"],
)
def test_what_a_learner_calls_the_folders_of_their_own_stops_nobody(own):
    mine = [f"{own.format('ada')}{folder}/{N1}" for folder in ("work", "class")]
    others = [f"{own.format(who)}{N1}" for who in ("bob", "cy")]
    said = [owner.who for owner in owners([*mine, *others]).values()]
    assert said[0] == said[1]
    assert len(set(said)) == 3


def test_two_who_may_be_surnames_are_not_one_by_different_lessons_either():
    for paths in ([f"Day/x/{N1}", f"Work/x/{N2}"], [f"x/Day/{N1}", f"x/Work/{N2}"], [f"Day/x/{N1}", f"Week/x/{N1}"]):
        with pytest.raises(intake.IntakeError, match="two learners, or one called x"):
            owners(paths)
    numbered = [f"{day}/Ann Poe_12_assignsubmission_file_/{N1}" for day in ("day", "work")]  # whom a platform has named
    assert {owner.who for owner in owners(numbered).values()} == {"Ann Poe_12"}


@pytest.mark.parametrize(
    "paths",
    [
        [f"Section A/Poe/{N1}", f"Section A/Lee/{N1}", f"Section B/Zed/{N1}", f"Section B/Day/{N1}"],
        [f"Group A/Poe_{N1}", f"Group A/Lee_{N1}"] + [f"Group B/{who}_{N1}" for who in ("Zed", "Day")],
        [f"week 1/Poe/{N1}", f"week 1/Lee/{N1}", f"extra/Zed/{N1}"],
        [f"week1.zip/Poe.zip/{N1}", f"week1.zip/Lee.zip/{N1}"],
        [f"submissions.zip/{who}_{N1}" for who in ("poe_1_2", "lee_3_4")],
        [f"{zip}.zip/{who}_assignsubmission_file_/{N1}" for zip in "ab" for who in ("Ann Poe_1", "Bo Lee_2")],
    ],
    ids=lambda paths: paths[0],
)
def test_folders_that_each_hold_a_class_are_not_taken_for_learners_in_silence(paths):
    with pytest.raises(intake.IntakeError, match=r"are (Poe|Ann Poe|poe)\S* and (Lee|Bo Lee|lee)\S* two "):
        owners(paths)


def test_a_few_learners_with_the_work_of_others_in_their_folders_stop_nobody():
    mine = [f"ada/{inside}{N1}" for inside in ("bob/", "cy/", "", "week 1/", "old_")]
    others = [f"{who}/{inside}{N1}" for who in ("bob", "cy") for inside in ("", "notebooks/solutions/", "work/")]
    said = owners([*mine, *others])
    assert [said[name].who for name in [*mine, *others]] == ["ada"] * 5 + ["bob"] * 3 + ["cy"] * 3


def test_two_readings_of_a_name_of_blackboards_stop_and_a_pattern_says_which(tmp_path, quick):
    names = [f"gradebook_Lesson1_{who}_poe_attempt_2024-03-01-12-30-4{i}_{N1}" for i, who in enumerate("ej")]
    path = folder(tmp_path / "in", {name: notebook(MARK + RIGHT) for name in names})
    with pytest.raises(intake.IntakeError, match="--pattern"):
        whose(path)
    pattern = r"Lesson1_(?P<student>.+)_attempt_(?P<attempt>[-\d]+)"
    assert {student for student, _ in whose(path, pattern=pattern)} == {"e_poe", "j_poe"}
    for wrong, told in (("(", "no regular expression"), ("x", "needs a group")):
        done = graded(path, tmp_path / "out", "--pattern", wrong)
        assert (done.exit_code, told in done.output) == (1, True)
    assert graded(path, tmp_path / "out", "--pattern", pattern).exit_code == 0


@pytest.mark.parametrize(
    "names",
    [
        ["1234567/{}", "2345678/{}"],
        ["1234567/hw/{}", "2345678/hw/{}"],
        ["1234567/diffusion/{}", "2345678/diffusion/{}"],
        ["1234567/2345678/{}", "2345678/1234567/{}"],
        ["week 1/1234567/{}", "week 1/2345678/{}"],
        ["My uploads/1234567.ipynb", "My uploads/2345678.ipynb"],
    ],
    ids=lambda names: names[0],
)
def test_learners_who_are_called_by_their_numbers_are_not_one(names):
    said = [owner.who for owner in owners([name.format(N1) for name in names]).values()]
    assert said == ["1234567", "2345678"]
    assert [owner.who for owner in owners([f"{k}/x/{N1}" for k in (1, 2)]).values()] == ["1", "2"]


BOB = "x_bob_attempt_2030-01-01-00-00-00"


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["gradebook_DM_L1_{who}_attempt_2024-03-01-12-30-45_{file}"], None),
        (["{who} Poe_12_assignsubmission_file_{file}"], None),
        (["{who}_101_900_{file}"], None),
        (["{who} - {file}"], None),
        (["{who}_{file}"], None),
        (["{who}/{file}"], None),
        (["{who}.zip/{file}", "{who}.zip/try 9 of bob/{file}"], None),
        (["{who}.zip/{file}", "{who}.zip/try 9 of bob/{file}"], r"try (?P<attempt>\d+) of (?P<student>[a-z]+)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("chosen", [f"{BOB}_{N1}", f"bob_5_999_{N1}", f"bob_9_assignsubmission_file_{N1}"])
def test_a_name_that_a_learner_chose_makes_them_nobody_else(names, pattern, chosen):
    def whose(who, file):
        listed = [name.format(who=who, file=file) for name in names]
        everybody = listed + [name.format(who=other, file=N1) for name in names for other in ("ada", "bob", "cyd")]
        found = owners(everybody, pattern)
        return {found[name].who for name in listed}

    assert whose("eve", chosen) & whose("bob", N1) == set()


def test_gradescopes_list_is_the_instructors_and_each_export_has_its_own(tmp_path):
    about = "submission_{0}:\n  :submitters:\n{1}  :score: 0\n"
    one = "  - :name: {0}\n    :sid: '1'\n    :email: {0}@x.org\n".format
    good = notebook(MARK + RIGHT)
    lies = about.format(12, one("poe")).encode()
    path = folder(
        tmp_path,
        {
            f"first/submission_11/{N1}": good,
            f"first/submission_12/{N1}": good,
            "first/submission_12/zz/submission_metadata.yml": lies,
            "first/submission_metadata.yml": (
                about.format(11, one("poe") + one("ann")) + about.format(12, one("zed"))
            ).encode(),
            f"second/submission_21/{N1}": good,
            "second/submission_metadata.yml": about.format(21, one("mo")).encode(),
        },
    )
    log: list[str] = []
    found = {one.student for one in intake.collect(path, WANTED, log)}
    assert found == {"poe@x.org", "zed@x.org", "mo@x.org"}
    assert "submission_11: of poe, ann; its row is the first's" in log


def test_names_in_an_old_encoding_stay_two():
    assert [id_of(f"M{letter}ller") for letter in ("\udcfc", "\udce4", "ü")] == ["Müller", "Mäller", "Müller"]


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [".IPYNB", ".ipynb.json", ".ipynb.txt", ".ipynb (1).json"])
def test_a_notebook_is_read_under_the_names_that_browsers_and_mail_give_it(end, tmp_path):
    path = folder(tmp_path, {f"ada/01_forward_process{end}": notebook(MARK + RIGHT), f"bob/{N1}": notebook(MARK)})
    assert set(whose(path)) == {("ada", ONE), ("bob", ONE)}


def encrypted() -> bytes:
    """A zip whose one entry says that it wants a password."""
    whole = bytearray(zipped({N1: notebook(MARK + RIGHT)}))
    whole[6] |= 1
    whole[whole.find(b"PK\1\2") + 8] |= 1
    return bytes(whole)


def test_whoever_handed_in_what_cannot_be_read_has_a_row_with_0_and_a_flag(tmp_path, quick):
    good = notebook(MARK + RIGHT)
    path = folder(
        tmp_path / "in",
        {
            f"ada/{N1}": good,
            "torn.zip": zipped({N1: good})[:200],
            "locked.zip": encrypted(),
            "packed/work.rar": b"Rar!",
            "nothing.zip": zipped({"essay.pdf": b"x"}),
            f"cut/{N1}": good[:100],
            f"empty/{N1}": b"",
            "notes.txt": b"nobody's",
        },
    )
    (path / "link").mkdir()
    (path / "link" / N1).symlink_to("/etc/passwd")
    done = graded(path, tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = {row["student"]: row for row in rows(tmp_path / "out" / "grades.csv")}
    assert set(found) == {"ada", "torn", "locked", "packed", "nothing", "cut", "empty", "link"}
    for student, row in found.items():
        assert row["points"] == ("1" if student == "ada" else "0"), row
        assert row["flags"].startswith("not read:") == (student != "ada"), row
    page = (tmp_path / "out" / "feedback" / "torn" / ONE / f"{THIS.slug}.html").read_text()
    assert "could not be read" in page
    # A file that cannot be read does not take away what an earlier one has earned.
    again = folder(tmp_path / "again", {f"ada/{N1}": b"torn", f"bob/{N1}": good})
    assert graded(again, tmp_path / "out").exit_code == 0
    assert {row["student"]: row["points"] for row in rows(tmp_path / "out" / "grades.csv")}["ada"] == "1"


def test_what_cannot_be_looked_into_is_in_trouble_and_stops_nobody(tmp_path):
    good = notebook(MARK + RIGHT)
    locked = bytearray(zipped({files.SUBMITTERS: b"x"}))  # a list of Gradescope's that wants a password
    locked[6] |= 1
    locked[locked.find(b"PK\1\2") + 8] |= 1
    many = {f"{k}.zip": zipped({f"{k}.ipynb": good}) for k in range(files.INNER_LIMIT + 3)}
    contents = {
        f"ada/{N1}": good,
        "eve.zip": bytes(locked),
        "zip.zip": zipped(many),
        f"pdf/{N1}": b"%PDF-1.7",
        f"zipped/{N1}": zipped({N1: good}),
    }
    path = folder(tmp_path / "in", contents)
    (path / "pipe").mkdir()
    os.mkfifo(path / "pipe" / N1)
    log: list[str] = []
    found = {one.student: one.unread for one in intake.collect(path, {ONE: THIS}, log)}
    assert found == {
        "ada": "",
        "zip": "",
        "pdf": "not a notebook: a PDF",
        "zipped": "not a notebook: a zip",
        "pipe": "a pipe, a socket or a device",
    }
    assert sum("one of more than 10 zips" in line for line in log) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_row_and_not_forgotten(tmp_path):
    path = folder(tmp_path / "in", {f"ada/{N1}": notebook(MARK), f"bob/{N1}": notebook(MARK)})
    (path / "bob").chmod(0)
    assert {key[0]: one.unread for key, one in whose(path, {ONE: THIS}).items()} == {
        "ada": "",
        "bob": "a folder that may not be read",
    }
    (path / "bob").chmod(0o700)


def test_a_class_folder_among_the_hand_ins_is_no_hand_in(tmp_path, quick):
    path = folder(tmp_path / "in", {f"ada/{N1}": notebook(MARK + RIGHT), f"bob/{N1}": notebook(MARK + RIGHT)})
    out = path / "class"
    for _ in range(2):
        release.release(out, [ONE])
        assert graded(path, out).exit_code == 0
        assert {row["student"] for row in rows(out / "grades.csv")} == {"ada", "bob"}
    folder(out, {f"submitted/cyd/01/{N1}": notebook(MARK + RIGHT)})  # as nbgrader lays a course out
    assert set(whose(out)) == {("cyd", ONE)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_notebook_is_read_in_any_encoding_that_editors_write(encoding):
    text = json.dumps(json.loads(notebook(MARK + RIGHT + "# naïve\n")), ensure_ascii=False)
    found = intake.read_submission(text.encode(encoding), "ada", THIS)
    assert found.answers[STEP] == MARK + RIGHT + "# naïve\n"


def test_what_a_class_folder_refuses_is_told_in_words(tmp_path, quick, monkeypatch):
    path = folder(tmp_path / "in", {f"ada/{N1}": notebook(MARK + RIGHT)})
    (tmp_path / "file").write_text("no folder")
    for error in (None, OSError(28, "No space left on device"), DataError("x: cannot be written")):
        if error:
            monkeypatch.setattr(report, "write_reports", lambda *a, error=error, **k: (_ for _ in ()).throw(error))
        done = graded(path, tmp_path / ("out" if error else "file"))
        assert (done.exit_code, done.exception.__class__) == (1, SystemExit)
        assert "written" in done.output


@pytest.mark.slow(4)
def test_a_gradebook_that_cannot_be_written_is_named(tmp_path):
    from nbgrader.api import InvalidEntry

    def fill(error: Exception | None):
        with report._gradebook(tmp_path) as book:
            if error:
                raise error
            return book.students

    with pytest.raises(DataError, match=r"gradebook.db: cannot be read or written .*disk is full\)"):
        fill(InvalidEntry("(sqlite3.OperationalError) database or disk is full\n[SQL: …]"))
    (tmp_path / report.GRADEBOOK).write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"gradebook.db: cannot be read or written .*not a database\)"):
        fill(None)


def test_the_notebooks_own_lesson_comes_before_its_files_name():
    name = f"ada/{N1}"
    assert intake.lesson_of(name, notebook(lesson="02"), WANTED) == "02"
    assert intake.lesson_of(name, notebook("# Exercise 02.betas\n", "# Exercise 02.x\n"), WANTED) == "02"  # Colab
    assert intake.lesson_of(name, notebook("# Exercise 02.betas\n", MARK), WANTED) == "01"
    assert intake.lesson_of(name, notebook(), WANTED) == "01"


def test_a_second_hand_in_keeps_what_intake_said_of_the_first_and_repeats_nothing(tmp_path, quick):
    out = tmp_path / "class"
    first = folder(tmp_path / "a", {f"ada/{N1}": notebook(MARK + RIGHT), "first.txt": b"x"})
    second = folder(tmp_path / "b", {f"bob/{N1}": notebook(MARK + RIGHT), "second.txt": b"x"})
    for path in (first, second, second):
        assert graded(path, out).exit_code == 0
    said = [row["file and what was odd"] for row in rows(out / "intake.csv")]
    assert "first.txt: skipped, no notebook" in said
    assert said.count("second.txt: skipped, no notebook") == 1
    assert len(said) == len(set(said))


@pytest.mark.slow(4)
@pytest.mark.parametrize("name", ["100% sure? a#b&c=d %20"])
def test_a_class_folder_may_be_called_anything(name, tmp_path):
    with report._gradebook(folder(tmp_path / name, {"x": b""})) as book:
        book.add_student("ada")
    assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["gradebook.db", "x"]


def test_two_commands_in_one_class_folder_wait_for_each_other(tmp_path):
    import threading

    waited, order = threading.Event(), []

    def second() -> None:
        with grade.alone(tmp_path, waited.set):
            order.append("second")

    with grade.alone(tmp_path, lambda: order.append("waited")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


# --- what a hand-in may cost -----------------------------------------------------------------------------------------


@pytest.mark.slow(4)
def test_a_notebook_of_a_hundred_thousand_statements_is_parsed_twice_at_most_and_others_that_do_not_count_never(
    tmp_path, monkeypatch
):
    slow = "a;" * 99_000
    path = folder(
        tmp_path, {f"ada/{i}_{N1}": notebook(slow, MARK + RIGHT) for i in range(4)} | {f"bob/{N1}": notebook()}
    )
    seen: list[int] = []
    monkeypatch.setattr(
        cells.ast, "parse", lambda source, _parse=cells.ast.parse: seen.append(len(source)) or _parse(source)
    )
    assert STEP in whose(path)["ada", ONE].answers
    assert sum(length == len(slow) for length in seen) == 1
    assert sum(seen) < 2 * cells.CODE_LIMIT


@pytest.mark.slow(3)
def test_code_and_cells_beyond_what_one_notebook_may_have_are_left_out_and_one_note_says_so():
    found = intake.read_submission(notebook(MARK + RIGHT, *["x = 1\n" * 30_000] * 4, *["y"] * 5000), "ada", THIS)
    assert STEP in found.answers
    assert len(found.definitions) < cells.CODE_LIMIT
    assert sum("not read" in note for note in found.notes) == 1


def test_of_seven_million_cells_two_thousand_are_made():
    content = b'{"cells":[{"cell_type":"code","source":"x"},' + b"{}," * 99_999 + b"{}]}"
    with pytest.MonkeyPatch.context() as patch:
        made, real = [], cells._cell
        patch.setattr(cells, "_cell", lambda cell: made.append(1) or real(cell))
        read, more = cells.read_cells(content)
    assert len(read) == len(made) == cells.CELLS_LIMIT
    assert more == 100_001 - cells.CELLS_LIMIT


def test_of_many_notebooks_of_one_learner_few_lines_are_written(tmp_path):
    path = folder(tmp_path, {"eve.zip": zipped({f"{i}.ipynb": b"{}" for i in range(300)})})
    log: list[str] = []
    list(intake.collect(path, {ONE: THIS}, log))
    assert len(log) < intake.EACH_LIMIT + 2 * files.LINES_LIMIT


def test_ten_thousand_lines_of_ipython_do_not_make_ipython_read_a_long_cell_ten_thousand_times(monkeypatch):
    from IPython.core.inputtransformer2 import TransformerManager

    monkeypatch.setattr(TransformerManager, "transform_cell", None)  # would raise if it were called
    assert cells.Cell("code", "!ls\n" * 10_000 + RIGHT).answers("q_step")


def test_a_name_of_140_000_letters_is_shortened_in_every_table_and_an_old_table_with_it_is_read(tmp_path, quick):
    nb = notebook(f"{MARK}def q{'a' * 140_000}(x, b, e):\n    return x")
    path, out = folder(tmp_path / "in", {f"ada/{N1}": nb, f"bob/{N1}": notebook(MARK + RIGHT)}), tmp_path / "class"
    out.mkdir()
    (out / "intake.csv").write_text("lessons,file and what was odd\n01," + "a" * 200_000 + "\n")
    for _ in range(2):
        assert graded(path, out).exit_code == 0
    assert (out / "intake.csv").stat().st_size < 10_000
    found = intake.read_submission(nb, "ada", THIS)
    assert all(len(note) <= words.LENGTH for note in found.notes)


def test_a_zip_with_an_endless_table_of_contents_is_not_looked_into(tmp_path):
    many = zipped({f"{i:0200d}": b"" for i in range(10_000)})
    path = folder(tmp_path, {"ada.zip": many, "bob.zip": zipped({"in.zip": many}), f"cyd/{N1}": notebook(MARK)})
    found = whose(path, {ONE: THIS})
    assert "too many files" in found["ada", ONE].unread
    assert found["bob", ONE].unread


def test_the_other_files_of_a_learners_zip_get_a_few_lines_and_no_more(tmp_path):
    path = folder(tmp_path, {"ada.zip": zipped({f"{i}.png": b"" for i in range(500)} | {N1: notebook(MARK)})})
    log: list[str] = []
    assert len(list(intake.collect(path, {ONE: THIS}, log))) == 1
    assert sum(".png" in line for line in log) == files.LINES_LIMIT
    assert any("480 more files" in line for line in log)


# --- words that act --------------------------------------------------------------------------------------------------


def test_what_people_wrote_is_no_command_to_a_terminal_and_no_formula_to_a_spreadsheet(tmp_path, quick):
    path = folder(
        tmp_path / "in", {f"ada/{N1}": notebook(MARK + RIGHT), "\x1b]0;owned\x07\x1b[2J.txt": b"x", "=1+1.txt": b""}
    )
    (path / "\u202etxt.exe").write_bytes(b"x")
    assert graded(path, tmp_path / "out").exit_code == 0
    table = (tmp_path / "out" / "intake.csv").read_text()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", table)
    assert r"\x1b]0" in table
    assert "\"'=1+1.txt" in table
    for cell in ("=1", "+1", "-1", "@x", "＝1", "a;=1", "a; @x", "\t=1", "  =1"):
        assert not re.search(r"(^|[;\t])\s*[=+\-@＝]", words.in_table(cell)), cell
        assert words.in_table(words.in_table(cell)) == words.in_table(cell)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[click](javascript:alert(1)) <img src=x onerror=alert(1)>",
        "```\n</code></pre><script>alert(1)</script>\n````\n<script>alert(2)</script>",
        "~~~\n<script>alert(1)</script>\n~~~",
        "$$\\href{javascript:alert(1)}{x}$$ and $<img src=x onerror=alert(1)>$",
        "a\n" + "`" * 50 + "\n<iframe src='javascript:alert(1)'>",
        "![](http://example.invalid/pixel.png)\n\n<https://example.invalid>",
    ],
)
def test_a_free_text_is_shown_as_it_was_written_and_does_nothing(text):
    import nbformat
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter

    result = grade.Result("ada", ONE, "", 0, texts={THIS.texts[0].id: text}, answers={STEP: f'"""\n{text}\n"""'})
    from course_utils.desk.grading.release import handed_out
    from course_utils.desk.lesson import lessons

    filled = report._filled(handed_out(lessons([ONE])[0]), result)
    mine = nbformat.v4.new_notebook(cells=[cell for cell in filled.cells if text in cell.source])
    assert len(mine.cells) == 2
    page = BeautifulSoup(HTMLExporter(template_name="basic").from_notebook_node(mine)[0], "html.parser")
    bare = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("x"), nbformat.v4.new_code_cell("x")])
    plain = BeautifulSoup(HTMLExporter(template_name="basic").from_notebook_node(bare)[0], "html.parser")
    assert len(page.find_all(["script", "iframe", "img"])) == len(plain.find_all(["script", "iframe", "img"]))
    assert not page.find_all(lambda tag: any(name.startswith("on") for name in tag.attrs))
    assert not [a for a in page.find_all("a") if not a.get("href", "").startswith("#")]
    assert text in page.get_text()


# --- honest work -----------------------------------------------------------------------------------------------------


def answer(*sources, lesson=THIS) -> intake.Submission:
    return intake.read_submission(notebook(*sources), "ada", lesson)


HALF = "def roots(beta):\n    return (1 - beta) ** 0.5, beta**0.5\n"
WHOLE = "def q_step(x_prev, beta, eps):\n    a, b = roots(beta)\n    return a * x_prev + b * eps\n"
LEFT = 'raise NotImplementedError("your turn")'
TRY = "def q_step(x, b, e):\n    return x"
IPYTHON = "!pip install -q x \\\n    y\nfiles = !ls\nt = %timeit -o 1\ntorch.*like*?\n%matplotlib inline\n"
FOUND = {  # cells, and what the answer must hold
    "split by the Lab, which copies the marks": ([marked(MARK + HALF), marked(WHOLE)], [HALF, WHOLE]),
    "split, and the second half without marks": ([marked(MARK + HALF), WHOLE], [HALF, WHOLE]),
    "split the other way round": ([marked(MARK + RIGHT), marked("TABLE = list(range(3))")], [RIGHT, "TABLE"]),
    "the stub left as a comment": ([TRY, marked(f"{MARK}{RIGHT}    # {LEFT}")], [RIGHT]),
    "the stub left below": ([TRY, marked(f"{MARK}{RIGHT}    {LEFT}")], [RIGHT]),
    "the stub untouched, the answer elsewhere": ([marked(MARK + STUB), RIGHT], [RIGHT]),
    "a title above the mark": (["# @title Exercise\n" + MARK + RIGHT], [RIGHT]),
    "lines of IPython": ([MARK + IPYTHON + RIGHT], [RIGHT]),
    "a cell magic": (["%%time\n" + MARK + RIGHT], [RIGHT]),
    "a cell magic below the mark": ([MARK + "%%time\n" + RIGHT], [RIGHT]),
    "IPython in a function": ([MARK + RIGHT.replace("\n", "\n    %matplotlib inline\n", 1)], ["run_line_magic"]),
}


@pytest.mark.parametrize("name", FOUND)
def test_an_answer_is_found_whole(name):
    sources, holds = FOUND[name]
    found = answer(*sources)
    assert found.functions[STEP] == "q_step"
    for part in holds:
        assert part.strip() in found.answers[STEP]
    page = {"get_ipython": worker.Shell}
    exec(found.definitions, page)
    exec(found.answers[STEP], page)
    assert page["q_step"](3.0, 0.36, 5.0) == pytest.approx(0.8 * 3 + 0.6 * 5)


def test_a_cell_of_another_language_is_no_python_and_an_untouched_stub_no_answer():
    assert cells.Cell("code", "%%bash\nrm -rf x").body == []
    assert not cells.Cell("code", MARK + STUB).answers("q_step")
    assert answer(marked(MARK + STUB)).answers[STEP] == MARK + STUB  # which raises NotImplementedError: "not yet"


def test_imports_below_a_title_are_imports_of_the_page():
    assert "import math" in answer("# @title Imports\nimport math\n", MARK + RIGHT).definitions


def test_two_texts_without_marks_are_found_below_the_words_that_ask_for_them():
    ten = intake.assignment("10")
    own, offers = ten.texts
    asked = [words_of(f"before\n\n{question.asked}\n*Manually graded.* Why?") for question in ten.texts]
    found = answer(asked[0], words_of("Because."), words_of("x"), asked[1], words_of("The first."), lesson=ten)
    assert found.texts == {own.id: "Because.", offers.id: "The first."}


def test_a_text_that_was_split_is_put_together_again():
    (text,) = THIS.texts
    name = text.id.replace(".", "-")
    found = answer(*(marked(part, name, "markdown") for part in ("First.", ANSWER, "Second.")))
    assert found.texts[text.id] == "First.\n\nSecond."


def test_a_cell_without_source_and_a_notebook_of_2014_are_read():
    found = answer({"cell_type": "code", "metadata": {}}, MARK + RIGHT)
    assert STEP in found.answers
    old = {"cell_type": "code", "input": [line + "\n" for line in (MARK + RIGHT).split("\n")], "outputs": []}
    sheet = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": [old]}]}).encode()
    assert RIGHT.strip() in intake.read_submission(sheet, "ada", THIS).answers[STEP]


@pytest.mark.slow(4)
def test_an_answer_is_run_with_the_answers_that_it_calls_and_no_others():
    thread = "# Exercise 01.alpha_bar\nimport os\nos._exit(0)\ndef make_alpha_bar(betas):\n    return betas"
    calls = "# Exercise 01.x0_from_eps\ndef x0_from_eps(x_t, t, alpha_bar, eps):\n    return helper(x_t, 0.5, eps)"
    helpers = "def helper(x, b, e):\n    return q_step(x, b, e)\ndef unused(b):\n    return make_alpha_bar(b)"
    found = answer(thread, MARK + RIGHT, calls, helpers)
    assert found.needs == {STEP: [], "01.alpha_bar": [], "01.x0_from_eps": [STEP]}
    result = {one.id: one for one in grade.grade(found, THIS, sandboxed=False).exercises}
    assert (result[STEP].status, result["01.alpha_bar"].flag) == ("right", "died")
    assert "wrong numbers" in result["01.x0_from_eps"].message or "not right" in result["01.x0_from_eps"].message


def test_stopping_keeps_what_is_done_and_answers_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write_gradebook", lambda *arguments: None)
    good, hang = notebook(MARK + RIGHT), notebook(MARK + "def q_step(*a):\n    while True: pass")
    path = folder(tmp_path / "in", {f"a/{N1}": good, f"b/{N1}": hang, f"c/{N1}": good})
    tell = grade.grade_class

    def interrupted(*arguments, **options):
        """Ctrl-C as soon as the first result has come."""
        run = tell(*arguments, **options)
        yield next(run)
        try:
            raise KeyboardInterrupt
        finally:
            run.close()

    monkeypatch.setattr(grade, "grade_class", interrupted)
    monkeypatch.setattr(grade, "CELL_S", 600.0)
    monkeypatch.setattr(grade, "CALL_S", 600.0)
    monkeypatch.setattr(grade, "EXERCISE_S", 600.0)
    began = time.monotonic()
    done = graded(path, tmp_path / "out", "--jobs", 1)
    assert time.monotonic() - began < 300  # the hanging one alone would take longer
    assert done.exit_code == 130
    assert "1 of 3 graded" in done.output
    assert [row["student"] for row in rows(tmp_path / "out" / "grades.csv")] == ["a"]


def test_pages_say_how_long_an_answer_may_take(tmp_path):
    result = grade.grade(answer(), THIS, sandboxed=False)
    assert "may take 20 seconds" in report.feedback_html(result, THIS, {})


def test_the_folder_with_solutions_says_what_it_is(tmp_path):
    from course_utils.desk.grading.release import release

    release(tmp_path, [ONE])
    assert "solutions" in (tmp_path / "source" / "NOT_FOR_LEARNERS.txt").read_text()
    assert "not for learners" in (cli.release.__doc__ or "")
