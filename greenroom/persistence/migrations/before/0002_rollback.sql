-- What a rollback needs, and the deletion of one run's state.
--
-- Deleting a run's checkpoints alone keeps its answer: resume values and task writes stay on the
-- checkpoint *before* the run, where the user's next answer would be ignored in their favour. So
-- the writes of the thread's head checkpoints are copied before the run starts.
--
-- LangGraph's tables are made after this file is applied; the functions name them only when called.

CREATE TABLE greenroom.saved_heads (
    run_id uuid NOT NULL REFERENCES greenroom.runs ON DELETE CASCADE,
    checkpoint_ns text NOT NULL,
    checkpoint_id text NOT NULL,
    PRIMARY KEY (run_id, checkpoint_ns, checkpoint_id)
);
CREATE TABLE greenroom.saved_writes (
    run_id uuid NOT NULL REFERENCES greenroom.runs ON DELETE CASCADE,
    checkpoint_ns text NOT NULL,
    checkpoint_id text NOT NULL,
    task_id text NOT NULL,
    idx int NOT NULL,
    channel text NOT NULL,
    type text,
    blob bytea NOT NULL,
    task_path text NOT NULL,
    PRIMARY KEY (run_id, checkpoint_ns, checkpoint_id, task_id, idx)
);

-- Copies the writes of the newest checkpoint of each namespace, and of `named`, where a run starts
-- from another one. The first call for a run counts: by a second attempt the run has written.
CREATE FUNCTION greenroom.save_heads(run uuid, thread text, named text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM greenroom.saved_heads h WHERE h.run_id = run) THEN
        RETURN;
    END IF;
    INSERT INTO greenroom.saved_heads (run_id, checkpoint_ns, checkpoint_id)
        SELECT run, c.checkpoint_ns, max(c.checkpoint_id) FROM checkpoints c
            WHERE c.thread_id = thread GROUP BY c.checkpoint_ns
        UNION
        SELECT run, c.checkpoint_ns, c.checkpoint_id FROM checkpoints c
            WHERE c.thread_id = thread AND c.checkpoint_id = named;
    INSERT INTO greenroom.saved_writes (run_id, checkpoint_ns, checkpoint_id, task_id, idx,
            channel, type, blob, task_path)
        SELECT run, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.idx, w.channel, w.type, w.blob,
            w.task_path
        FROM greenroom.saved_heads h JOIN checkpoint_writes w
            ON w.thread_id = thread AND w.checkpoint_ns = h.checkpoint_ns
            AND w.checkpoint_id = h.checkpoint_id
        WHERE h.run_id = run;
END
$$;

-- Deletes the checkpoints of a run in all namespaces, their writes, and the blobs that no other
-- checkpoint of the thread uses. Not while anything runs on the thread.
CREATE FUNCTION greenroom.delete_run_state(run uuid, thread text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    freed jsonb;
BEGIN
    WITH gone AS (
        DELETE FROM checkpoints c
            WHERE c.thread_id = thread AND c.metadata ->> 'run_id' = run::text
            RETURNING c.checkpoint_ns, c.checkpoint -> 'channel_versions' AS versions
    )
    SELECT jsonb_agg(DISTINCT jsonb_build_array(g.checkpoint_ns, v.key, v.value)) INTO freed
        FROM gone g CROSS JOIN LATERAL jsonb_each_text(g.versions) v;
    -- Also the writes whose checkpoint was never saved, as happens when a process is killed.
    DELETE FROM checkpoint_writes w WHERE w.thread_id = thread AND NOT EXISTS (
        SELECT 1 FROM checkpoints c WHERE c.thread_id = w.thread_id
            AND c.checkpoint_ns = w.checkpoint_ns AND c.checkpoint_id = w.checkpoint_id);
    IF freed IS NOT NULL THEN
        DELETE FROM checkpoint_blobs b
            USING (
                SELECT f ->> 0 AS ns, f ->> 1 AS channel, f ->> 2 AS version
                    FROM jsonb_array_elements(freed) f
                EXCEPT
                SELECT c.checkpoint_ns, v.key, v.value FROM checkpoints c
                    CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') v
                    WHERE c.thread_id = thread
            ) unused
            WHERE b.thread_id = thread AND b.checkpoint_ns = unused.ns
            AND b.channel = unused.channel AND b.version = unused.version;
    END IF;
END
$$;

-- Undoes a run: its state goes, and the checkpoints that it started from are as they were. Any
-- process can do it, also after the run's process was killed; twice is the same as once.
CREATE FUNCTION greenroom.roll_back(run uuid, thread text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM greenroom.delete_run_state(run, thread);
    DELETE FROM checkpoint_writes w USING greenroom.saved_heads h
        WHERE h.run_id = run AND w.thread_id = thread AND w.checkpoint_ns = h.checkpoint_ns
        AND w.checkpoint_id = h.checkpoint_id;
    INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel,
            type, blob, task_path)
        SELECT thread, s.checkpoint_ns, s.checkpoint_id, s.task_id, s.idx, s.channel, s.type,
            s.blob, s.task_path
        FROM greenroom.saved_writes s JOIN checkpoints c
            ON c.thread_id = thread AND c.checkpoint_ns = s.checkpoint_ns
            AND c.checkpoint_id = s.checkpoint_id
        WHERE s.run_id = run;
END
$$;
