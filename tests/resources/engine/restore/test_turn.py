"""A record is written often, whatever the disk does, and takes little of what threads compute."""

from __future__ import annotations

import pytest

from resources.engine.restore.turn import Turn


class Clocks:
    """Of the wall, and of what a thread has computed."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.computed_s = 0.0

    def pass_by(self, seconds: float, *, computing: float = 0.0) -> None:
        self.now_s += seconds
        self.computed_s += computing


@pytest.mark.parametrize(
    ("writes_s", "computes_s", "waits_s"),
    [
        (0.005, 0.0005, 0.02),
        (0.005, 0.004, 0.08),
        (0.4, 0.001, 0.4),
        (0.4, 0.1, 2.0),
        (0.1, 0.1, 2.0),
    ],
)
def test_the_next_one_waits_for_as_long_as_it_took_and_longer_for_what_it_computed(
    writes_s: float, computes_s: float, waits_s: float
) -> None:
    clocks = Clocks()
    turn = Turn(lambda: clocks.now_s, lambda: clocks.computed_s)
    assert turn.has_come()
    with turn:
        clocks.pass_by(writes_s, computing=computes_s)
    clocks.pass_by(waits_s - 0.001)
    assert not turn.has_come()
    clocks.pass_by(0.002)
    assert turn.has_come()
