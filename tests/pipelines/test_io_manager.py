"""What passes from step to step is a short text."""

from __future__ import annotations

import dagster as dg

from assets.history.io_manager import EventLogIOManager


def test_what_is_more_than_a_short_text_is_refused(instance: dg.DagsterInstance) -> None:
    @dg.op
    def make() -> list[int]:
        return [1]

    @dg.op
    def take(value: list[int]) -> None: ...

    @dg.job(resource_defs={"io_manager": EventLogIOManager()})
    def job() -> None:
        take(make())

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "make outputs list: steps pass short texts" in str(failed.step_failure_data.error)
