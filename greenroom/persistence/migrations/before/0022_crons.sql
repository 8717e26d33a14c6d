-- Crons: runs that are created again and again by a clock. A cron goes with its thread and with its
-- assistant, in the same transaction.

CREATE TABLE greenroom.crons (
    cron_id uuid PRIMARY KEY,
    assistant_id uuid NOT NULL REFERENCES greenroom.assistants ON DELETE CASCADE,
    -- NULL: each run has a thread of its own.
    thread_id text REFERENCES greenroom.threads ON DELETE CASCADE,
    user_id text NOT NULL DEFAULT '',
    schedule text NOT NULL,
    timezone text,
    end_time timestamptz,
    enabled boolean NOT NULL,
    on_run_completed text,
    -- The body that the runs are made of, as the client wrote it.
    payload json NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    next_run_date timestamptz NOT NULL,
    -- Changes by clients; a firing changes only the next date.
    revision int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What may fire, in the order in which it is due.
CREATE INDEX crons_by_due ON greenroom.crons (next_run_date, cron_id)
    WHERE enabled AND (end_time IS NULL OR next_run_date <= end_time);
CREATE INDEX crons_of_thread ON greenroom.crons (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX crons_of_assistant ON greenroom.crons (assistant_id);
CREATE INDEX crons_by_creation ON greenroom.crons (created_at DESC, cron_id);
CREATE INDEX crons_by_metadata ON greenroom.crons USING gin (metadata jsonb_path_ops);
