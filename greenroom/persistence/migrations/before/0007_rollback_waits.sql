-- A stopped run's last writes may still be under way, in the background or in a connection whose
-- process was killed. They hold the run's record (`greenroom.fence`), so taking that first waits for
-- them, and what is deleted then is all there will ever be: whoever comes later meets the fence.
-- Without it a checkpoint was committed after its run had been rolled back, and became the thread's
-- newest.
CREATE OR REPLACE FUNCTION greenroom.delete_run_state(run uuid, thread text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    freed jsonb;
BEGIN
    PERFORM 1 FROM greenroom.runs r WHERE r.run_id = run FOR UPDATE;
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
