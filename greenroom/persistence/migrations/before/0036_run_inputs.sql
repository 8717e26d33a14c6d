-- What was said to runs while they were executed (or waited), and what became of it.
-- run_id is the run that it was said to, for_run the one that takes it: the same at first, later the
-- next run of the thread. An older server neither reads nor writes the table.

CREATE TABLE greenroom.run_inputs (
    input_id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY,
    run_id uuid NOT NULL,
    number int NOT NULL,
    thread_id text NOT NULL,
    for_run uuid NOT NULL REFERENCES greenroom.runs ON DELETE CASCADE,
    content json NOT NULL,
    as_node text,
    if_over text NOT NULL,
    status text NOT NULL DEFAULT 'waiting',
    reason text,
    said_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_at timestamptz,
    attempt int,
    step int,
    checkpoint_id text
);
CREATE UNIQUE INDEX run_inputs_of_run ON greenroom.run_inputs (run_id, number);
CREATE INDEX run_inputs_for_run ON greenroom.run_inputs (for_run, position);
CREATE INDEX run_inputs_waiting ON greenroom.run_inputs (for_run) WHERE status = 'waiting';

-- Notes what attempts have taken, as part of `greenroom.save`: in the transaction of the checkpoint
-- that contains it. An input that was taken before stays as it is.
CREATE FUNCTION greenroom.note_taken(rows jsonb, held boolean[]) RETURNS void LANGUAGE sql AS $$
    UPDATE greenroom.run_inputs i SET
        status = CASE WHEN x.reason IS NULL THEN 'taken' ELSE 'refused' END,
        reason = x.reason, taken_at = to_timestamp(x.at_ms / 1000.0), attempt = x.attempt,
        step = x.step, checkpoint_id = x.checkpoint
    FROM jsonb_to_recordset(rows) AS x(owner int, id uuid, at_ms bigint, attempt int, step int,
        checkpoint text, reason text)
    WHERE i.input_id = x.id AND i.status = 'waiting' AND held[x.owner];
$$;
