"""A free text cannot act in the real formgrader, which shows it in a browser that has the instructor's rights."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="grading needs the extra [grade]")
pytest.importorskip("playwright", reason="Playwright is missing: pip install '.[browser]'")

from playwright.sync_api import sync_playwright

from course_utils.desk.grading import grade, intake, report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no browser was found: apt-get install chromium"),
]
SCRIPT = """Because variances add.

<script>
(async () => {
  const x = document.cookie.match(/_xsrf=([^;]+)/);
  const r = await fetch('/api/contents/NAME', {method: 'PUT', headers: {'Content-Type': 'application/json',
    ...(x ? {'X-XSRFToken': x[1]} : {})}, body: JSON.stringify({type: 'file', format: 'text', content: 'x'})});
  document.title = 'acted';
})();
</script>
<img src="nowhere" onerror="document.title = 'acted'">
"""


def test_a_script_in_a_free_text_is_words_in_formgrader(tmp_path):
    this = intake.assignment("01")
    (text,) = this.texts
    result = grade.Result("ada", "01", "", 0, texts={text.id: SCRIPT.replace("NAME", "quoted.txt")})
    result.exercises = [grade.Graded(question.id, "not yet", 0, question.points) for question in this.exercises]
    grade.store(tmp_path, result)
    report.write_reports(tmp_path, {"01": this})
    with report._gradebook(tmp_path) as book:
        (shown,) = book.find_submission("01", "ada").notebooks
        path = f"/formgrader/submissions/{shown.id}/"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "XDG_"))}
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.port=0"),
            "--ServerApp.jpserver_extensions={'nbgrader.server_extensions.formgrader': True}",
            *("--IdentityProvider.token=secret", f"--ServerApp.root_dir={tmp_path}"),
        ],
        env=environment | {"HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        address = next(word for line in server.stderr for word in line.split() if word.startswith("http://127.0.0.1"))
        base = address.split("/?")[0].removesuffix("/tree").removesuffix("/lab")
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{base}/formgrader/?token=secret")
            page.goto(f"{base}{path}")
            page.get_by_text("document.cookie.match").first.wait_for()
            page.wait_for_load_state("networkidle")
            assert page.title() != "acted"
            assert not (tmp_path / "quoted.txt").exists()
            # The same text as Markdown does act: this is what the quoting is for.
            file = tmp_path / "autograded" / "ada" / "01" / f"{this.slug}.ipynb"
            nb = nbformat.read(file, as_version=4)
            (cell,) = [cell for cell in nb.cells if "document.cookie" in cell.source]
            cell.source = SCRIPT.replace("NAME", "bare.txt")
            nbformat.write(nb, file)
            page.goto(f"{base}{path}")
            page.wait_for_function("document.title == 'acted'")
            browser.close()
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()
    assert not (tmp_path / "quoted.txt").exists()
