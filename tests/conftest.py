"""Every test of the package runs with its shape annotations enforced, and with the same random examples every time."""

import os

import hypothesis
import pytest

hypothesis.settings.register_profile("course", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("course")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-shape-hook",
        action="store_true",
        help="leave jaxtyping's annotations unenforced: what a learner's notebook sees (tests/test_bad_input.py)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # The tests share the cores; kernels that they start inherit this too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not config.getoption("--no-shape-hook"):
        from jaxtyping import install_import_hook

        install_import_hook("course_utils", "typecheck.check")
