"""`python -m course_utils.desk.authoring.book FOLDER`: what `make book` runs."""

import subprocess
import sys
from pathlib import Path

from course_utils.desk.authoring.book import build

if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except (FileExistsError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"no book was made: {error}")
    print(f"open {sys.argv[1]}/index.html")
