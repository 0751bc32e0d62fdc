"""Errors as Dagster shows them."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.failures import explained
from resources.errors import PeerUnreachable, RepositoryLocked


def test_an_error_of_ours_keeps_its_hint_and_its_exit_status() -> None:
    def meet_the_lock() -> None:
        with explained() as more:
            more["holder"] = dg.MetadataValue.text("another run")
            raise RepositoryLocked("the directory is in use", hint="wait for it")

    with pytest.raises(dg.Failure) as caught:
        meet_the_lock()
    assert caught.value.description == "the directory is in use\nNext: wait for it"
    found = {name: value.value for name, value in caught.value.metadata.items()}
    assert found == {
        "kind": "RepositoryLocked",
        "exit_code": "LOCKED",
        "next_step": "wait for it",
        "holder": "another run",
    }


def test_dagster_may_try_again_what_may_heal_and_nothing_else() -> None:
    with pytest.raises(dg.Failure) as heals, explained():
        raise PeerUnreachable("127.0.0.1:8088 refused the connection")
    with pytest.raises(dg.Failure) as stays, explained():
        raise RepositoryLocked("the directory is in use")
    assert heals.value.allow_retries
    assert not stays.value.allow_retries


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), explained():
        _ = 1 / 0
