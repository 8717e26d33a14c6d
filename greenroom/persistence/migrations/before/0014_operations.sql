-- What is under way on a thread and takes more than one transaction (`greenroom.persistence.bulk`).
-- A registry that starts goes on with it.

CREATE TABLE greenroom.operations (
    -- The thread whose rows are incomplete (it is being deleted, or is a copy that is being made),
    -- or the run whose state is being deleted.
    subject text PRIMARY KEY,
    -- Whose registry sees to it; of a copy its source.
    thread_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('delete', 'copy', 'forget')),
    graph_id text,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Deletes a thread. A small one is gone at once (true). Of a larger one only the record goes, and
-- that the rest is to go is written down (false).
CREATE FUNCTION greenroom.delete_thread(thread text, most_rows int, most_bytes bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    own uuid[];
    is_small boolean;
BEGIN
    own := ARRAY(SELECT r.run_id FROM greenroom.runs r WHERE r.thread_id = thread
        LIMIT most_rows + 1);
    SELECT count(*) <= most_rows AND coalesce(sum(size), 0) <= most_bytes INTO is_small FROM (
        (SELECT pg_column_size(r.kwargs) AS size FROM greenroom.runs r
            WHERE r.thread_id = thread LIMIT most_rows + 1)
        UNION ALL (SELECT pg_column_size(e.data) FROM greenroom.run_events e
            WHERE e.run_id = ANY (own) LIMIT most_rows + 1)
        UNION ALL (SELECT pg_column_size(s.blob) FROM greenroom.saved_writes s
            WHERE s.run_id = ANY (own) LIMIT most_rows + 1)
        UNION ALL (SELECT pg_column_size(w.blob) FROM checkpoint_writes w
            WHERE w.thread_id = thread LIMIT most_rows + 1)
        UNION ALL (SELECT pg_column_size(b.blob) FROM checkpoint_blobs b
            WHERE b.thread_id = thread LIMIT most_rows + 1)
        UNION ALL (SELECT pg_column_size(c.checkpoint) + pg_column_size(c.metadata)
            FROM checkpoints c WHERE c.thread_id = thread LIMIT most_rows + 1)
    ) AS found;
    IF is_small THEN
        DELETE FROM greenroom.run_events e WHERE e.run_id = ANY (own);
        DELETE FROM greenroom.runs r WHERE r.thread_id = thread;
        DELETE FROM checkpoint_writes w WHERE w.thread_id = thread;
        DELETE FROM checkpoint_blobs b WHERE b.thread_id = thread;
        DELETE FROM checkpoints c WHERE c.thread_id = thread;
        DELETE FROM greenroom.operations o WHERE o.subject = thread;
    ELSE
        INSERT INTO greenroom.operations (subject, thread_id, kind)
            VALUES (thread, thread, 'delete')
            ON CONFLICT (subject) DO UPDATE SET kind = 'delete';
    END IF;
    DELETE FROM greenroom.threads t WHERE t.thread_id = thread;
    RETURN is_small;
END
$$;
