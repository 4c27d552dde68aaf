"""How the solved copies are replayed, by `pytest -p replay --nbval`: each in an empty home, the long pages first."""

import os
import tempfile
from pathlib import Path

import pytest

HOME = pytest.StashKey[Path]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Later lessons take longer; a long one that begins last would keep one process busy and the others waiting."""
    items.sort(key=lambda item: item.path.name, reverse=True)


@pytest.hookimpl(tryfirst=True)  # before nbval starts the page's kernel, which inherits this
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A home of its own for each page, so that none finds what another left."""
    if HOME not in item.parent.stash:
        item.parent.stash[HOME] = home = Path(tempfile.mkdtemp(prefix=f"{item.path.stem}-"))
        os.environ["HOME"] = str(home)
