"""How Sphinx makes the course's web page. `course_utils/desk/authoring/book` writes the pages it reads."""

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes

project = html_title = "Diffusion models from scratch"
language = "en"
highlight_language = "none"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.githubpages"]
extensions += ["course_utils.desk.authoring.book.links"]
exclude_patterns = ["download"]

# MathJax with its glyphs and extensions inside: formulas need no other file, and no other host.
mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax" / "tex-svg-full.js"

html_theme = "furo"
html_static_path = ["style.css", "page.js", str(mathjax), "tex-svg-full.LICENSE.txt"]
html_favicon = "favicon.svg"
html_css_files = ["style.css"]
html_js_files = [("page.js", {"defer": "defer"})]
html_show_copyright = False
html_copy_source = html_show_sourcelink = html_use_index = html_domain_indices = False  # the search finds more
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}
mathjax_path = mathjax.name
mathjax3_config = {"svg": {"scale": 0.9}}  # beside a sans serif

nb_execution_mode = "off"
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_dmath_allow_labels = False
myst_heading_anchors = 3

autodoc_inherit_docstrings = False  # or every network's `forward` would say what PyTorch says of all of them
viewcode_follow_imported_members = False
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80


# ---------------------------------------------------------------- docstrings: plain words and formulas


SECTION = re.compile(r"((?:Args|Attributes|Raises|Returns|Yields).*:)\n")
NAMES = re.compile(r"(?m)^    ([\w*, ]+): ")  # of arguments or exceptions; what is said of them may take several lines


def as_rst(docstring):
    """A docstring of the course's style as reStructuredText.

    Its paragraphs end in a full stop, a colon or a comma. One that does not, and one that is indented, is a formula or
    a picture, and stays as it is drawn. Sections such as `Args:` become lists. What stands between backticks is code.
    """
    summary, *paragraphs = re.split(r"\n\s*\n", docstring.strip())
    pieces = [as_words(summary)]
    for text in paragraphs:
        if section := SECTION.match(text):
            items = textwrap.dedent(NAMES.sub(r"    * `\1`: ", text[section.end() :]))
            pieces += [
                f"**{section[1]}**",
                "\n".join(as_words(re.sub("^ +", "  ", line)) for line in items.split("\n")),
            ]
        elif text.startswith(" ") or not text.endswith((".", ":", ",")):
            pieces.append("::\n\n" + textwrap.indent(text, "    "))
        else:
            pieces.append(as_words(text))
    return "\n\n".join(pieces) + "\n"


def as_words(text):
    """Words with code between backticks, and nothing else that reStructuredText could take for markup."""
    words = re.split(r"(`+)(.+?)\1", text)
    words[::3] = [re.sub(r"(?m)[\\_|`]|(?<!^)(?<!\w)\*(?!\w+\*)", r"\\\g<0>", plain) for plain in words[::3]]
    words[1::3] = [r"\ ``"] * len(words[1::3])
    words[2::3] = [code + r"``\ " for code in words[2::3]]
    return "".join(words)


def read_docstring(app, what, name, obj, options, lines):
    lines[:] = as_rst("\n".join(lines)).split("\n")


def skip_member(app, what, name, obj, skip, options):
    """Whether to leave a member out: True for the fields of a NamedTuple, whose docstrings say nothing."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def leave_formulas_alone(app, doctree):
    """Sphinx puts a formula with line breaks into `split`, where `\\tag` is not allowed. Ours are whole as they are."""
    for formula in doctree.findall(nodes.math_block):
        formula["no-wrap"] = formula["nowrap"] = True  # newer and older Sphinx
        formula[:] = [nodes.Text(rf"\[{formula.astext()}\]")]


def setup(app):
    app.connect("doctree-read", leave_formulas_alone)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-skip-member", skip_member)
