"""A part of Sphinx's work on the pages: equations get anchors, and what speaks of an equation or a term links to it.

(3.4)                  on any page ──► the equation, on its lesson's page
ancestral sampling     the first time on a lesson's page ──► its line in the glossary, which also shows as a hint
"""

import re
from collections.abc import Callable
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from course_utils.desk.authoring.book.sheets import TAG, Term, equations, terms

NUMBER = re.compile(r"\((\d+\.\d+)\)")
CLOSED = (nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.title, nodes.raw)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls to load this."""
    links = Links()
    app.connect("builder-inited", links.read)
    app.connect("doctree-read", number_formulas)
    app.connect("doctree-resolved", links.put)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def number_formulas(app: Sphinx, doctree: nodes.document) -> None:
    """An anchor on each numbered formula of a lesson: `eq-3.4`."""
    if app.env.docname.startswith("notebooks/"):
        for formula in doctree.findall(nodes.math_block):
            if tag := TAG.search(formula.astext()):
                formula["ids"].append(f"eq-{tag[1]}")


class Links:
    """All there is to link to: numbered equations by their page, terms by each of their names."""

    def read(self, app: Sphinx) -> None:
        """Look for it among the pages that Sphinx is about to read."""
        lessons = sorted(Path(app.srcdir, "notebooks").glob("*.ipynb"))
        self.equations = {found.number: f"notebooks/{path.stem}" for path in lessons for found in equations(path)}
        self.terms = {name: term for term in terms() for name in (term.name, *term.also) if "*" not in name}
        self.names = pattern(list(self.terms))

    def put(self, app: Sphinx, doctree: nodes.document, docname: str) -> None:
        """Make numbers of equations links, and in lessons the first mention of each term."""
        if docname.startswith("code/"):
            return

        def to_equation(found: re.Match[str]) -> nodes.Node | None:
            page = self.equations.get(found[1])
            return link(app, docname, page, f"eq-{found[1]}", found[0]) if page else None

        def to_term(found: re.Match[str]) -> nodes.Node | None:
            name = found[1] if found[1] in self.terms else found[1][0].lower() + found[1][1:]
            term: Term = self.terms[name]
            if term.name in linked:
                return None
            linked.add(term.name)
            hint = f"{term.chinese} · {term.meaning}"
            return link(app, docname, "docs/glossary", term.anchor, found[0], hint)

        linked: set[str] = set()
        for text in [text for text in doctree.findall(nodes.Text) if not closed(text)]:
            pieces = split(text, NUMBER, to_equation)
            if docname.startswith("notebooks/"):
                pieces = [made for piece in pieces for made in split(piece, self.names, to_term)]
            if pieces != [text]:
                text.parent.replace(text, pieces)


def pattern(names: list[str]) -> re.Pattern[str]:
    """Any of the names as a whole word or words, the longest first, in the plural too, and at a sentence's start."""
    either = [
        re.sub(r"^[a-z]", lambda first: f"[{first[0].upper()}{first[0]}]", re.escape(name))
        for name in sorted(names, key=len, reverse=True)
    ]
    return re.compile(rf"(?<![\w-])({'|'.join(either)})(?:s|es)?(?![\w-])")


def closed(node: nodes.Node) -> bool:
    """Whether a text stands where no link may be."""
    while (node := node.parent) is not None:
        if isinstance(node, CLOSED):
            return True
    return False


def split(
    piece: nodes.Node, regex: re.Pattern[str], to: Callable[[re.Match[str]], nodes.Node | None]
) -> list[nodes.Node]:
    """A text cut at what the pattern finds, and that replaced by its link; where there is none, it stays text."""
    if not isinstance(piece, nodes.Text):
        return [piece]
    text, end, made = piece.astext(), 0, []
    for found in regex.finditer(text):
        if node := to(found):
            made += [nodes.Text(text[end : found.start()])] * (end < found.start()) + [node]
            end = found.end()
    return [*made, nodes.Text(text[end:])] if made and end < len(text) else made or [piece]


def link(app: Sphinx, docname: str, page: str, anchor: str, words: str, hint: str = "") -> nodes.reference:
    """A link to an anchor of a page: to a term if it has a hint, else to an equation."""
    address = f"#{anchor}" if page == docname else f"{app.builder.get_relative_uri(docname, page)}#{anchor}"
    made = nodes.reference("", words, internal=True, refuri=address, classes=["term"] if hint else ["equation"])
    if hint:
        made["reftitle"] = hint
    return made
