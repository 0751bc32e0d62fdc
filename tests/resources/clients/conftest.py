from __future__ import annotations

import pytest

from resources.clients import cut_again


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers here cut every connection, many of them at every byte."""
    monkeypatch.setattr(cut_again, "PAUSES_S", (0.0, 0.0))
