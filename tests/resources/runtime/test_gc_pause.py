"""The garbage collector rests as long as one block wants it to, and is then as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from resources.runtime.gc_pause import gc_paused


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    was = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was else gc.disable)()


def test_it_works_again_after_the_last_one_who_wanted_it_to_rest() -> None:
    first, second = gc_paused(), gc_paused()
    with first:
        assert not gc.isenabled()
        second.__enter__()  # as another thread's, which does not end within this one
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_works_again_after_an_error() -> None:
    with pytest.raises(LookupError), gc_paused():
        raise LookupError
    assert gc.isenabled()


def test_where_it_was_switched_off_it_stays_off() -> None:
    gc.disable()
    with gc_paused():
        pass
    assert not gc.isenabled()
