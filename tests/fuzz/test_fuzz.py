"""Each parser takes a round of hostile bytes, from a seed that is new each time.

It is a smoke test: `.ci/run` gives each 30 seconds after the tests, `make fuzz SECONDS=600` more.
"""

from __future__ import annotations

import secrets

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS

SECONDS = 0.2


@pytest.mark.fault(84, 87, 90, 91, 93, 94, 95)
@pytest.mark.parametrize("name", TARGETS)
def test_hostile_bytes_are_refused_or_mean_the_same_to_another_reader(name: str) -> None:
    assert TARGETS[name].corpus
    assert fuzz(name, SECONDS, secrets.randbits(32)) > 100


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_itself_is_checked_well(name: str) -> None:
    for raw in TARGETS[name].corpus:
        TARGETS[name].check(raw)
        TARGETS[name].check(TARGETS[name].repair(raw, raw))
