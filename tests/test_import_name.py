"""`import shardkeeper` works where the package is installed; the repository keeps its top level.

`make wheel` builds the wheel and imports it from there.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools.config.expand import find_packages

ROOT = Path(__file__).parent.parent
STAMP = ROOT / ".venv/.installed"


def test_a_wheel_has_the_name_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    chosen = project["tool"]["setuptools"]["packages"]["find"]
    places: dict[str, str] = {}
    packages = find_packages(root_dir=str(ROOT), fill_package_dir=places, **chosen)
    assert {name.split(".")[0] for name in packages} == {
        "assets",
        "pipelines",
        "resources",
        "shardkeeper",
    }
    assert places == {"shardkeeper": "resources/import_name/shardkeeper"}
    assert not [name for name in packages if "import_name" in name]


def test_an_editable_install_has_the_name(tmp_path: Path) -> None:
    old = not STAMP.exists() or STAMP.stat().st_mtime < (ROOT / "Makefile").stat().st_mtime
    if old or not sys.prefix.startswith(str(ROOT)):
        pytest.skip("make install was not run here since it changed")
    code = "import shardkeeper; print(shardkeeper.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(ROOT / "resources/import_name/shardkeeper/__init__.py"), done
