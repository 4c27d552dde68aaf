"""What is handed out: the learner's copies, without the folded solutions, in the folders that nbgrader expects."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_utils.desk.authoring.build import annotated_notebook, learner_notebook
from course_utils.desk.grading import files
from course_utils.desk.lesson import STUB, lessons, tags
from course_utils.files import write_atomically

CONFIG = """\
# nbgrader's settings for this class: open JupyterLab here for its formgrader (manual points, comments).
c = get_config()
c.CourseDirectory.root = "."
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
"""
NOTE = """\
The notebooks in this folder hold the solutions: nbgrader's formgrader wants them here.
Hand out those in the folder `release`, which hold none.
"""


def handed_out(source: Path) -> NotebookNode:
    """The learner's copy of a lesson without its solutions."""
    nb = learner_notebook(source)
    nb.cells = [cell for cell in nb.cells if "solution-fold" not in tags(cell)]
    return nb


def release(folder: Path, names: list[str]) -> list[Path]:
    """Write `release/NN/NN_slug.ipynb` for each lesson; the paths to hand out.

    formgrader also wants `source/NN/NN_slug.ipynb`, which hold the solutions; a note that stands there says so.

    Raises LessonError for a lesson that is not there.
    """
    written = []
    for source in lessons(names):
        for kind, nb in (("source", annotated_notebook(source)), ("release", handed_out(source))):
            path = folder / kind / source.stem[:2] / f"{source.stem}.ipynb"
            write_atomically(path, (nbformat.writes(nb) + "\n").encode())
        written.append(path)
    if written and not (note := folder / "source" / "NOT_FOR_LEARNERS.txt").exists():
        write_atomically(note, NOTE.encode())
    if not (config := folder / files.CONFIG).exists():
        write_atomically(config, CONFIG.format(stub=STUB).encode())
    return written
