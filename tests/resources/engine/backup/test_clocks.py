"""Has a server's clock gone as ours has?"""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from resources.engine.backup.clocks import MARGIN_NS, clocks_at, since_ns, tolerance_ns, went_alike
from resources.repository.formats.proof import Clocks

S = 10**9
DAY = 86_400 * S
THEN = Clocks(server_ns=1_700_000_000 * S, ours_ns=1_700_000_007 * S, boot_ns=500 * S, boot_id="a")


def later(elapsed: int, *, server: int = 0, ours: int = 0, boot_id: str = "a") -> Clocks:
    """After that time, with clocks that were set by those steps."""
    return Clocks(
        THEN.server_ns + elapsed + server,
        THEN.ours_ns + elapsed + ours,
        THEN.boot_ns + elapsed,
        boot_id,
    )


@pytest.mark.parametrize("elapsed", [0, S, DAY, 365 * DAY])
def test_clocks_that_nobody_set_went_alike(elapsed: int) -> None:
    assert went_alike(THEN, later(elapsed))
    assert went_alike(THEN, later(elapsed, boot_id="b"))
    assert went_alike(THEN, later(elapsed, server=elapsed // 10_000))  # a bad quartz


@pytest.mark.parametrize("step", [-365 * DAY, -DAY, -60 * S, 60 * S, DAY, 365 * DAY])
def test_a_servers_clock_that_was_set_did_not_go_as_ours(step: int) -> None:
    assert not went_alike(THEN, later(DAY // 24, server=step))
    assert not went_alike(THEN, later(DAY // 24, server=step, boot_id="b"))


@pytest.mark.parametrize("step", [-365 * DAY, -60 * S, 60 * S, 365 * DAY])
def test_ours_may_be_the_same_clock_and_the_time_since_its_start_reports(step: int) -> None:
    assert not went_alike(THEN, later(DAY // 24, server=step, ours=step))
    assert went_alike(THEN, later(DAY // 24, ours=step))


@pytest.mark.parametrize("step", [-365 * DAY, -60 * S, 60 * S])
def test_after_another_start_of_our_machine_our_clock_is_all_there_is(step: int) -> None:
    assert not went_alike(THEN, later(DAY // 24, ours=step, boot_id="b"))
    assert not went_alike(replace(THEN, boot_id=""), later(DAY // 24, ours=step, boot_id=""))


@pytest.mark.parametrize("elapsed", [S, DAY, 365 * DAY])
def test_a_step_that_passes_unseen_is_within_the_margin(elapsed: int) -> None:
    """A file that changed right after the archive was made, on a clock that was set back then."""
    now = later(elapsed, server=-tolerance_ns(THEN, later(elapsed)))
    assert went_alike(THEN, now)
    changed_ns = THEN.server_ns - tolerance_ns(THEN, now)
    assert since_ns(THEN, now) <= changed_ns - MARGIN_NS


def test_our_machine_reports_its_start() -> None:
    now = clocks_at(7)
    assert now.server_ns == 7
    assert abs(now.ours_ns - time.time_ns()) < 60 * S
    assert clocks_at(8).boot_ns >= now.boot_ns > 0
    assert clocks_at(8).boot_id == now.boot_id
