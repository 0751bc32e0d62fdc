"""What hangs is not waited for, and never piles up."""

from __future__ import annotations

import threading

import pytest

from pipelines.sensors.bounded_wait import Patience
from resources.errors import PeerRefused, PeerSilent


def test_what_is_done_in_time_is_given_back_and_an_error_is_raised_again() -> None:
    patience = Patience(30.0)
    assert patience.wait_for("a look", lambda: 7) == 7

    def refuse() -> None:
        raise PeerRefused("no")

    with pytest.raises(PeerRefused, match="no"):
        patience.wait_for("a look", refuse)


def test_what_hangs_is_left_to_itself_and_nothing_is_begun_beside_it() -> None:
    released, forgotten, begun = threading.Event(), list[bool](), list[int]()

    def hang() -> None:
        begun.append(1)
        released.wait(60)

    patience = Patience(0.05, forget=lambda: forgotten.append(True))
    with pytest.raises(PeerSilent, match=r"a look at eu takes more than") as slow:
        patience.wait_for("a look at eu", hang)
    assert slow.value.hint
    for _ in range(3):
        with pytest.raises(PeerSilent, match="has not ended"):
            patience.wait_for("a look at eu", hang)
    assert (begun, forgotten) == ([1], [True])
    released.set()
    patience = _until_free(patience)
    assert patience.wait_for("a look at eu", lambda: 7) == 7


def _until_free(patience: Patience) -> Patience:
    left = patience._left
    assert left is not None
    left[0].join(30)
    return patience
