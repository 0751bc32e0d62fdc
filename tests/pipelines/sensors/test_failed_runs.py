"""What a message says of a run that failed."""

from __future__ import annotations

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.test_utils import create_run_for_test
from dagster_shared.error import SerializableErrorInfo

from pipelines.sensors.failed_runs import why_failed


def test_of_code_that_does_not_load_the_cause_is_reported() -> None:
    instance = dg.DagsterInstance.ephemeral()
    run = create_run_for_test(instance, job_name="back_up_lab")
    cause = SerializableErrorInfo("ImportError: there is no facts\n", [], "ImportError")
    error = SerializableErrorInfo("it did not load\n", [], "DagsterUserCodeLoadError", cause)
    data = EngineEventData.engine_error(error)
    instance.report_engine_event("Could not load job definition.", run, data)
    instance.report_run_failed(run)
    assert why_failed(instance, run.run_id).split("\n")[1:] == [
        "Could not load job definition. ImportError: there is no facts"
    ]
