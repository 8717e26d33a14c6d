-- Threads that keep only their newest checkpoint when their time is over, and what new threads have.

ALTER TABLE greenroom.threads ADD COLUMN pruned_at timestamptz;

-- `checkpointer.ttl` of the last start; one row, or none. Every way to make a thread meets it in the
-- trigger below: a request, a run, a copy.
CREATE TABLE greenroom.thread_defaults (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    ttl_minutes double precision NOT NULL,
    ttl_strategy text NOT NULL
);

-- Before `expiry`, by its name.
CREATE FUNCTION greenroom.default_ttl() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT d.ttl_minutes, d.ttl_strategy INTO NEW.ttl_minutes, NEW.ttl_strategy
        FROM greenroom.thread_defaults d;
    RETURN NEW;
END
$$;
CREATE TRIGGER default_ttl BEFORE INSERT ON greenroom.threads
    FOR EACH ROW WHEN (NEW.ttl_minutes IS NULL) EXECUTE FUNCTION greenroom.default_ttl();

-- A thread that was pruned has no next expiry until something changes it.
CREATE OR REPLACE FUNCTION greenroom.set_expiry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ttl_strategy = 'keep_latest' AND NEW.pruned_at >= NEW.updated_at THEN
        NEW.expires_at := NULL;
    ELSE
        NEW.expires_at := NEW.updated_at + make_interval(secs => NEW.ttl_minutes * 60);
    END IF;
    RETURN NEW;
END
$$;
