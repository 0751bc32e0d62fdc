"""What continuous integration does with tests that fail once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RERUN = ROOT / "tests/rerun_failed.py"
PYTEST = [sys.executable, "-m", "pytest"]
XDIST = ["-p", "xdist", "-n", "1", "--dist", "loadgroup"]

TESTS = """
import pytest
from pathlib import Path
def test_good(): pass
@pytest.mark.xdist_group("one-server")
def test_fails_once():
    seen = Path("seen")
    there = seen.exists()
    seen.touch()
    assert there
"""


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # Plugins that these tests have no use for take most of the time that a pytest needs to start.
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def first_run_and_rerun(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(tests)
    assert run([*PYTEST, *XDIST, "-q"], folder).returncode != 0
    return run([sys.executable, str(RERUN), *PYTEST], folder)


def test_a_test_that_fails_once_is_named_and_does_not_end_the_run(tmp_path: Path) -> None:
    ended = first_run_and_rerun(tmp_path, TESTS)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\nFLAKY\ntest_it.py::test_fails_once\n\n" in ended.stdout


def test_a_test_that_fails_twice_ends_the_run(tmp_path: Path) -> None:
    ended = first_run_and_rerun(tmp_path, TESTS + "def test_bad(): assert False\n")
    assert ended.returncode == 1
    assert "\nFLAKY\ntest_it.py::test_fails_once\n\n" in ended.stdout
    assert "failed twice:\ntest_it.py::test_bad\n" in ended.stdout


def test_a_file_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    ended = first_run_and_rerun(tmp_path, "import nothing_of_that_name\n")
    assert ended.returncode == 1
    assert "failed twice:\ntest_it.py\n" in ended.stdout


def test_a_run_that_failed_without_a_failed_test_stays_failed(tmp_path: Path) -> None:
    ended = run([sys.executable, str(RERUN), *PYTEST], tmp_path)
    assert ended.returncode == 1
    assert "no test of it did" in ended.stdout


def test_a_run_with_many_failures_is_not_called_flaky(tmp_path: Path) -> None:
    many = "import pytest\n@pytest.mark.parametrize('n', range(21))\ndef test_n(n): assert False\n"
    ended = first_run_and_rerun(tmp_path, many)
    assert ended.returncode == 1
    assert "21 tests failed" in ended.stdout
