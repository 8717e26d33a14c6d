"""The journal: the registry's writes, and its reads at its start.

| module | contents |
|---|---|
| `group_commit` | `Journal`, the one writer: gathers writes and commits them together |
| `epochs` | which registry may write |
| `run_writes` | one function for each statement about a run, which makes a `Write` of it |
| `thread_writes`, `cron_writes` | the same for threads and crons |
| `input_writes`, `pause_writes` | the same for what is said to runs, and for their pauses |
| `recovery` | the reads of a registry that starts, or that is asked for a run that is over |

The journal makes only small writes, since all writes wait for one commit after the other. Long
work, such as deleting or copying checkpoints, is the task of `greenroom.persistence.bulk`.
"""

from greenroom.persistence.journal.cron_writes import (
    advance_cron,
    change_cron,
    delete_cron,
    disable_cron,
    store_cron,
)
from greenroom.persistence.journal.epochs import (
    EPOCH_SUPERSEDED,
    Superseded,
    next_generation,
    take_epoch,
)
from greenroom.persistence.journal.group_commit import Journal, Row, Write, may_pass
from greenroom.persistence.journal.input_writes import (
    drop_inputs,
    find_input,
    hand_on_inputs,
    say,
    unsay,
    waiting_inputs,
)
from greenroom.persistence.journal.pause_writes import note_waiting, want_pause
from greenroom.persistence.journal.recovery import (
    InFlight,
    find_run,
    in_flight,
    threads_with_remains,
    was_cancel_heard,
)
from greenroom.persistence.journal.run_writes import (
    Requeued,
    admit,
    created,
    delete_run,
    end_run,
    keep_heads,
    note_cancel,
    number_run,
    requeue,
    start,
    store_cancel,
    take_back,
)
from greenroom.persistence.journal.thread_writes import (
    delete_remains,
    delete_thread,
    leave_thread,
    newest_graph,
    note_pruned,
    reset_thread_status,
    reset_thread_statuses,
    rest_thread,
)

__all__ = [
    "EPOCH_SUPERSEDED",
    "InFlight",
    "Journal",
    "Requeued",
    "Row",
    "Superseded",
    "Write",
    "admit",
    "advance_cron",
    "change_cron",
    "created",
    "delete_cron",
    "delete_remains",
    "delete_run",
    "delete_thread",
    "disable_cron",
    "drop_inputs",
    "end_run",
    "find_input",
    "find_run",
    "hand_on_inputs",
    "in_flight",
    "keep_heads",
    "leave_thread",
    "may_pass",
    "newest_graph",
    "next_generation",
    "note_cancel",
    "note_pruned",
    "note_waiting",
    "number_run",
    "requeue",
    "reset_thread_status",
    "reset_thread_statuses",
    "rest_thread",
    "say",
    "start",
    "store_cancel",
    "store_cron",
    "take_back",
    "take_epoch",
    "threads_with_remains",
    "unsay",
    "waiting_inputs",
    "want_pause",
    "was_cancel_heard",
]
