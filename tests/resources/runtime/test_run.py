"""A run goes on until it is told to stop."""

from __future__ import annotations

import pytest

from resources.errors import Stopped
from resources.runtime.run import Run


def test_a_run_that_is_to_stop_says_before_what() -> None:
    run = Run[str](print)
    run.check()
    run.stop.set()
    with pytest.raises(Stopped, match="stopped before everything was done"):
        run.check()
    with pytest.raises(Stopped, match="stopped before the backup was complete"):
        run.check("the backup was complete")


def test_runs_do_not_share_their_stop() -> None:
    one, other = Run[str](print), Run[str](print)
    one.stop.set()
    other.check()
