"""Values that pass between steps, stored in Dagster's event log like everything else."""

from typing import Any

import dagster as dg

LABEL = "handed_over"
MAX_CHARACTERS = 1000


class EventLogIOManager(dg.IOManager):
    """Passes a short text from step to step; each step of a run may be in its own container.

    Dagster's default is a file on the local disk, which the next container does not have. Larger
    values belong in the repository of backups, and only their names pass between steps.
    """

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store a text with the event of this output.

        Raises:
            TypeError: it is not a text, or is too long for an event.
        """
        if not isinstance(obj, str) or len(obj) > MAX_CHARACTERS:
            raise TypeError(
                f"{context.step_key} outputs {type(obj).__name__}: steps pass short texts; larger "
                "values belong in the repository of backups"
            )
        context.add_output_metadata({LABEL: obj})

    def load_input(self, context: dg.InputContext) -> str:
        """Load the text, also if an earlier run stored it and this one is a retry.

        Raises:
            LookupError: the log does not have it, or no longer has it.
        """
        output = context.upstream_output
        if output is not None:
            records = context.instance.get_records_for_run(
                output.run_id, of_type=dg.DagsterEventType.HANDLED_OUTPUT
            ).records
            for record in records:
                event = record.event_log_entry.dagster_event
                if event is None or event.step_key != output.step_key:
                    continue
                message: Any = event.event_specific_data
                if message.output_name == output.name:
                    return str(message.metadata[LABEL].value)
        raise LookupError(
            f"{context.op_def.name}: the output of the step before is not in Dagster's event log"
        )
