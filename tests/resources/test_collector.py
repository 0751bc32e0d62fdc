"""The garbage collector rests as long as anybody wants it to, and is then as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from resources.collector import collector_at_rest


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    was = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was else gc.disable)()


def test_it_works_again_after_the_last_one_who_wanted_it_to_rest() -> None:
    first, second = collector_at_rest(), collector_at_rest()
    with first:
        assert not gc.isenabled()
        second.__enter__()  # as another thread's, which does not end within this one
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_works_again_after_an_error() -> None:
    with pytest.raises(LookupError), collector_at_rest():
        raise LookupError
    assert gc.isenabled()


def test_where_it_was_switched_off_it_stays_off() -> None:
    gc.disable()
    with collector_at_rest():
        pass
    assert not gc.isenabled()
