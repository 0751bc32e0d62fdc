"""What one step tells the next, kept where Dagster keeps everything else: in its event log."""

from typing import Any

import dagster as dg

LABEL = "handed_over"
MAX_CHARACTERS = 1000


class EventLogIOManager(dg.IOManager):
    """Hands a short text from step to step; of a run's steps each may be in its own container.

    Dagster's own way is a file on the local disk, which the next container does not have. Larger
    things belong into the repository of backups, and only their name goes from step to step.
    """

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Keep a text with the event of this output.

        Raises:
            TypeError: it is no text, or too long for an event.
        """
        if not isinstance(obj, str) or len(obj) > MAX_CHARACTERS:
            raise TypeError(
                f"{context.step_key} hands over {type(obj).__name__}: steps tell each other short "
                "texts; what is larger belongs into the repository of backups"
            )
        context.add_output_metadata({LABEL: obj})

    def load_input(self, context: dg.InputContext) -> str:
        """Find it again, also where an earlier run made it and this one is a retry.

        Raises:
            LookupError: the log does not have it (any more).
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
            f"{context.op_def.name}: what the step before it said is not in Dagster's event log"
        )
