"""A part of Sphinx's work on the pages: equations get anchors, and what speaks of an equation or a term links to it.

(3.4)                  on any page ──► the equation, on its lesson's page
ancestral sampling     the first time on a lesson's page ──► its line in the glossary, which also shows as a hint
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from course_utils.desk.authoring.book.sheets import TAG, Term, equations, terms

NUMBER = re.compile(r"\((\d+\.\d+)\)")
CLOSED = (nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.title, nodes.raw)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls to load this."""
    app.connect("builder-inited", read_what_there_is)
    app.connect("doctree-read", number_formulas)
    app.connect("doctree-resolved", link_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_what_there_is(app: Sphinx) -> None:
    """Every numbered equation and its page; every term, and how it may be written."""
    pages = Path(app.srcdir)
    lessons = sorted((pages / "notebooks").glob("*.ipynb"))
    app.equation_pages = {found.number: f"notebooks/{path.stem}" for path in lessons for found in equations(path)}
    app.terms = {name: term for term in terms() for name in (term.name, *term.also)}
    app.term_pattern = pattern(list(app.terms))


def pattern(names: list[str]) -> re.Pattern[str]:
    """Any of the names as a whole word or words, the longest first, in the plural too, and at a sentence's start."""
    either = [
        re.sub(r"^[a-z]", lambda first: f"[{first[0].upper()}{first[0]}]", re.escape(name))
        for name in sorted(names, key=len, reverse=True)
    ]
    return re.compile(rf"(?<![\w-])({'|'.join(either)})(?:s|es)?(?![\w-])")


def number_formulas(app: Sphinx, doctree: nodes.document) -> None:
    """An anchor on each numbered formula: `eq-3.4`."""
    if app.env.docname.startswith("notebooks/"):
        for formula in doctree.findall(nodes.math_block):
            if tag := TAG.search(formula.astext()):
                formula["ids"].append(f"eq-{tag[1]}")


def link_words(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Numbers of equations become links, and in lessons the first mention of each term."""
    linked: set[str] = set()
    if docname.startswith("code/"):
        return
    for text in list(doctree.findall(nodes.Text)):
        if _closed(text):
            continue
        pieces = _numbers(app, docname, [text])
        if docname.startswith("notebooks/"):
            pieces = [made for piece in pieces for made in _first_terms(app, docname, piece, linked)]
        if pieces != [text]:
            text.parent.replace(text, pieces)


def _closed(node: nodes.Node) -> bool:
    """Whether a text stands where no link may be."""
    while node := node.parent:
        if isinstance(node, CLOSED):
            return True
    return False


def _numbers(app: Sphinx, docname: str, pieces: list[nodes.Node]) -> list[nodes.Node]:
    def link(found: re.Match[str]) -> nodes.Node | None:
        page = app.equation_pages.get(found[1])
        return page and _link(app, docname, page, f"eq-{found[1]}", found[0])

    return [made for piece in pieces for made in _split(piece, NUMBER, link)]


def _first_terms(app: Sphinx, docname: str, piece: nodes.Node, linked: set[str]) -> list[nodes.Node]:
    def link(found: re.Match[str]) -> nodes.Node | None:
        name = found[1] if found[1] in app.terms else found[1][0].lower() + found[1][1:]
        term: Term = app.terms[name]
        if term.name in linked:
            return None
        linked.add(term.name)
        return _link(app, docname, "docs/glossary", term.anchor, found[0], hint=f"{term.chinese} · {term.meaning}")

    return _split(piece, app.term_pattern, link) if isinstance(piece, nodes.Text) else [piece]


def _split(piece: nodes.Node, regex: re.Pattern[str], link) -> list[nodes.Node]:
    """A text cut at what the pattern finds, and that replaced by its link; where `link` gives None, it stays text."""
    if not isinstance(piece, nodes.Text):
        return [piece]
    text, end, made = piece.astext(), 0, []
    for found in regex.finditer(text):
        if node := link(found):
            made += [nodes.Text(text[end : found.start()])] * (end < found.start()) + [node]
            end = found.end()
    return [*made, nodes.Text(text[end:])] if made and end < len(text) else made or [piece]


def _link(app: Sphinx, docname: str, page: str, anchor: str, words: str, hint: str = "") -> nodes.reference:
    address = f"#{anchor}" if page == docname else f"{app.builder.get_relative_uri(docname, page)}#{anchor}"
    link = nodes.reference("", words, internal=True, refuri=address, classes=["term"] if hint else ["equation"])
    if hint:
        link["reftitle"] = hint
    return link
