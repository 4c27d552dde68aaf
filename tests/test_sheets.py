"""The sheets that are made of the lessons: no equation, no exercise and no term of the field is missing on them."""

import re
from pathlib import Path

import nbformat

from course_utils.desk.authoring.book import sheets

LESSONS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb"))
TERMS = sheets.terms()


def prose(lesson: Path) -> str:
    """What a lesson says, without formulas, code, addresses, hints and references."""
    cells = nbformat.read(lesson, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown").partition("## References")[0]
    return re.sub(r"(?s)<details>.*?</details>|\$\$.*?\$\$|```.*?```|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", "", text)


# ---------------------------------------------------------------- equations and exercises


def test_every_numbered_equation_is_on_the_sheet_of_formulas_once() -> None:
    page = sheets.formulas_page(LESSONS, printed=True)
    for lesson in LESSONS:
        source = nbformat.writes(nbformat.read(lesson, as_version=4))
        numbers = re.findall(r"\\\\tag\{([\d.]+)\}", source)
        assert [equation.number for equation in sheets.equations(lesson)] == numbers != []
        for number, equation in zip(numbers, sheets.equations(lesson), strict=True):
            assert equation.section
            assert page.count(f"\n({number})\n\n$${equation.formula}$$\n") == 1


def test_every_exercise_is_in_its_index() -> None:
    page = sheets.exercises_page(LESSONS)
    for lesson in LESSONS:
        cells = nbformat.read(lesson, as_version=4).cells
        asked = [cell for cell in cells if "exercise" in cell.metadata.get("tags", [])]
        listed = list(sheets.exercises(lesson))
        assert len(listed) == len(asked) > 0
        assert all("minutes" in exercise.about and exercise.heading in page for exercise in listed)


# ---------------------------------------------------------------- the glossary


def test_every_line_of_the_glossary_is_an_entry_and_they_are_in_order() -> None:
    lines = [line for line in sheets.GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("* ")]
    names = [term.name for term in TERMS]
    assert len(lines) == len(TERMS) > 100
    assert names == sorted(names, key=str.lower)
    known = [name.lower() for term in TERMS for name in term.names]
    assert len(known) == len(set(known))
    assert len({term.anchor for term in TERMS}) == len(TERMS)


def test_a_term_has_its_chinese_word_and_is_derived_where_it_says() -> None:
    numbers = {lesson: [equation.number for equation in sheets.equations(lesson)] for lesson in LESSONS}
    said = {lesson: nbformat.writes(nbformat.read(lesson, as_version=4)).lower() for lesson in LESSONS}
    for term in TERMS:
        assert re.search("[\u4e00-\u9fff]", term.chinese), term
        lesson = (sheets.GLOSSARY.parent / term.lesson).resolve()
        if number := re.fullmatch(r"\((\d+\.\d+)\)", term.where):
            assert number[1] in numbers[lesson], term
        else:
            assert term.where == f"lesson {lesson.stem[:2]}"
            assert any(name.lower() in said[lesson] for name in term.names), term


# Words that lessons emphasise and that are no terms of the field: with them alone a phrase is none.
ORDINARY = """
    asked at another beyond by denoiser does each from gradient guided here inside levels particles possible through
    a of or the this that these which what where how there then they their one two three four first last next no
    not any all every other others own same different better best worse new true real exact ideal perfect right
    sure whole large small high left below behind before over end ends middle quarter half square area size
    point points pairs kind choice step steps can is are were if with without it know known told adds plus draw
    draws judge compute test measurement difference differences function code function's network network's
    parameters picture pictures digit digits noisy noise averages average lower corrects predicts pushed belongs
    betrays uphill count as more once quite poor man way gaps batch entry observer for class telling power ninth
    independent biased paradise lost open charged slower made found good balance cancel circle fell unstable have less
    detail leave things out ahead seeds regression budget floating-point floating operations GANs
"""
NO_TERMS = {"CIFAR", "CPU", "GPU", "II", "III", "IV", "JPEG", "MB", "MNIST", "NaN", "NumPy", "PyTorch", "XI", "XII"}


def emphasised(lesson: Path) -> set[str]:
    """Phrases of up to four words in bold or italics: the way in which lessons introduce terms, and stress words."""
    found = re.findall(r"(?<![\w*\\])(\*{1,2})(?=\S)([^*$]{3,60}?)(?<=\S)\1(?![\w*])", prose(lesson))
    phrases = {" ".join(phrase.split()) for _, phrase in found}
    return {it for it in phrases if len(it.split()) <= 4 and not re.search(r"[.?!,:;()·]", it)}


def acronyms(lesson: Path) -> set[str]:
    """Words with two capital letters or more, without their numbers and plurals."""
    words = re.findall(r"\b[A-Za-z]*[A-Z][A-Za-z]*[A-Z][A-Za-z]*\b", prose(lesson))
    return {re.sub(r"(?<=[A-Z])s$", "", word) for word in words}


def words(text: str) -> set[str]:
    """The words of a phrase, small, without plurals and possessives."""
    return {re.sub(r"('s|s)$", "", word) for word in re.findall(r"[a-z_]+(?:'s)?", text.lower())}


def test_no_term_is_missing() -> None:
    known = [words(" ".join(term.names)) for term in TERMS]
    ordinary = words(ORDINARY)
    missing = {}
    for lesson in LESSONS:
        for phrase in emphasised(lesson):
            rest = words(phrase) - ordinary
            if rest and not any(rest <= words_of_one for words_of_one in known):
                missing.setdefault(phrase, lesson.stem)
        for word in acronyms(lesson):
            if word not in NO_TERMS and not any(words(word) <= words_of_one for words_of_one in known):
                missing.setdefault(word, lesson.stem)
    assert missing == {}, "put them into docs/glossary.md, or into ORDINARY if they are no terms of the field"
