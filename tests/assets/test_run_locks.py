"""Whether Dagster knows that the run which holds a lock has ended."""

import dagster as dg
import pytest

from assets.run_locks import command_of, has_ended


@dg.op
def hold(context: dg.OpExecutionContext) -> str:
    command = command_of(context)
    assert not has_ended(context.instance)(command)
    return command


@dg.job
def holding() -> None:
    hold()


def test_a_run_has_ended_when_dagster_says_so() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = holding.execute_in_process(instance=instance)
        command = result.output_for_node("hold")
        assert result.run_id in command
        assert has_ended(instance)(command)


@pytest.mark.parametrize(
    "command", ["", "restore", "dagster run", "dagster run 00000000-0000-0000-0000-000000000000"]
)
def test_of_a_run_that_dagster_does_not_know_nothing_is_said(command: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert not has_ended(instance)(command)
