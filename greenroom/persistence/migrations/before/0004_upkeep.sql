-- Webhooks that are to be sent, and when threads expire.

ALTER TABLE greenroom.runs ADD COLUMN started_at timestamptz;

-- What a receiver is told of a run, as it was when it ended: run and thread may change or go before
-- it is delivered. No foreign key for the same reason. Settled rows keep neither kwargs nor values.
CREATE TABLE greenroom.webhooks (
    run_id uuid PRIMARY KEY,
    url text NOT NULL,
    -- Host and port, by which one slow receiver is kept from taking every place.
    receiver text NOT NULL GENERATED ALWAYS AS (
        lower(regexp_replace(coalesce(substring(url FROM '^[A-Za-z]+://([^/?#]*)'), ''), '^.*@', ''))
    ) STORED,
    thread_id text NOT NULL,
    assistant_id uuid NOT NULL,
    metadata json NOT NULL,
    status text NOT NULL,
    kwargs json NOT NULL,
    multitask_strategy text NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz NOT NULL,
    "values" json,
    error json,
    attempts int NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    settled_at timestamptz,
    said text
);
CREATE INDEX webhooks_due ON greenroom.webhooks (due_at) WHERE settled_at IS NULL;
CREATE INDEX webhooks_settled ON greenroom.webhooks (settled_at) WHERE settled_at IS NOT NULL;

-- A thread's time to live counts from its last change: whatever touches it, refreshes it.
CREATE FUNCTION greenroom.set_expiry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.expires_at := NEW.updated_at + make_interval(secs => NEW.ttl_minutes * 60);
    RETURN NEW;
END
$$;
CREATE TRIGGER expiry BEFORE INSERT OR UPDATE ON greenroom.threads
    FOR EACH ROW WHEN (NEW.ttl_minutes IS NOT NULL) EXECUTE FUNCTION greenroom.set_expiry();

-- Deletes what a finished run left; says whether it was the thread's newest. That one is undone, so
-- that the thread is as before it; an older one must not take back what later runs wrote onto the
-- same checkpoints.
CREATE FUNCTION greenroom.forget_run(run uuid, thread text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM greenroom.runs newer JOIN greenroom.runs it ON it.run_id = run
        WHERE newer.thread_id = thread AND newer.attempt > 0 AND newer.admitted > it.admitted
    ) THEN
        PERFORM greenroom.delete_run_state(run, thread);
        RETURN false;
    END IF;
    PERFORM greenroom.roll_back(run, thread);
    RETURN true;
END
$$;
