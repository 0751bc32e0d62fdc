"""A store in a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.repository.storage.store import DirectoryStore


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)
