-- As in 0008, and beside a checkpoint the inputs that it contains: rows has "taken" for them. An older
-- server sends none.
CREATE OR REPLACE FUNCTION greenroom.save(runs uuid[], attempts int[], rows jsonb, blobs bytea[])
RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    held boolean[] := '{}';
    changed record;
BEGIN
    FOR n IN 1 .. cardinality(runs) LOOP
        IF cardinality(runs) = 1 THEN
            PERFORM 1 FROM greenroom.runs r WHERE r.run_id = runs[n]
                AND r.attempt = attempts[n] AND r.status = 'running' FOR SHARE;
        ELSE
            PERFORM 1 FROM greenroom.runs r WHERE r.run_id = runs[n]
                AND r.attempt = attempts[n] AND r.status = 'running' FOR SHARE SKIP LOCKED;
        END IF;
        held := held || FOUND;
    END LOOP;
    IF rows ? 'values' THEN
        FOR changed IN SELECT * FROM jsonb_to_recordset(rows -> 'values')
                AS x(owner int, thread text, blob int, facets jsonb) LOOP
            CONTINUE WHEN NOT held[changed.owner];
            IF cardinality(runs) > 1 THEN
                PERFORM 1 FROM greenroom.threads t WHERE t.thread_id = changed.thread
                    FOR NO KEY UPDATE SKIP LOCKED;
                IF NOT FOUND AND EXISTS (
                    SELECT 1 FROM greenroom.threads t WHERE t.thread_id = changed.thread
                ) THEN
                    held[changed.owner] := false;
                    CONTINUE;
                END IF;
            END IF;
            UPDATE greenroom.threads t
                SET "values" = convert_from(blobs[changed.blob], 'UTF8')::json,
                    facets = changed.facets,
                    state_updated_at = clock_timestamp(), updated_at = clock_timestamp()
                WHERE t.thread_id = changed.thread;
        END LOOP;
    END IF;
    IF rows ? 'blobs' THEN
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
            SELECT x.thread, x.ns, x.channel, x.version, x.type, blobs[x.blob]
            FROM jsonb_to_recordset(rows -> 'blobs') AS x(owner int, thread text, ns text,
                channel text, version text, type text, blob int)
            WHERE x.owner IS NULL OR held[x.owner]
            ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING;
    END IF;
    IF rows ? 'checkpoints' THEN
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
                checkpoint, metadata)
            SELECT x.thread, x.ns, x.id, x.parent, x.checkpoint, x.metadata
            FROM jsonb_to_recordset(rows -> 'checkpoints') AS x(owner int, thread text, ns text,
                id text, parent text, checkpoint jsonb, metadata jsonb)
            WHERE x.owner IS NULL OR held[x.owner]
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE SET
                checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata;
    END IF;
    IF rows ? 'upserts' THEN
        INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path,
                idx, channel, type, blob)
            SELECT x.thread, x.ns, x.id, x.task, x.path, x.idx, x.channel, x.type, blobs[x.blob]
            FROM jsonb_to_recordset(rows -> 'upserts') AS x(owner int, thread text, ns text,
                id text, task text, path text, idx int, channel text, type text, blob int)
            WHERE x.owner IS NULL OR held[x.owner]
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET
                channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob;
    END IF;
    IF rows ? 'inserts' THEN
        INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path,
                idx, channel, type, blob)
            SELECT x.thread, x.ns, x.id, x.task, x.path, x.idx, x.channel, x.type, blobs[x.blob]
            FROM jsonb_to_recordset(rows -> 'inserts') AS x(owner int, thread text, ns text,
                id text, task text, path text, idx int, channel text, type text, blob int)
            WHERE x.owner IS NULL OR held[x.owner]
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING;
    END IF;
    IF rows ? 'taken' THEN
        PERFORM greenroom.note_taken(rows -> 'taken', held);
    END IF;
    RETURN held;
END
$$;
