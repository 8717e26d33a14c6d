-- Records of assistants, threads and runs, durable event tails, and the fence.
-- json (not jsonb) where bytes and key order must come back as they were written.

CREATE TABLE greenroom.registry (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch bigint NOT NULL DEFAULT 0
);
INSERT INTO greenroom.registry DEFAULT VALUES;

CREATE TABLE greenroom.assistants (
    assistant_id uuid PRIMARY KEY,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    version int NOT NULL DEFAULT 1,
    config jsonb NOT NULL DEFAULT '{}',
    context jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX assistants_by_graph ON greenroom.assistants (graph_id, created_at DESC);
CREATE INDEX assistants_by_metadata ON greenroom.assistants USING gin (metadata jsonb_path_ops);

CREATE TABLE greenroom.threads (
    thread_id text PRIMARY KEY,
    status text NOT NULL DEFAULT 'idle',
    metadata jsonb NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}',
    "values" json,
    interrupts json NOT NULL DEFAULT '{}',
    error json,
    ever_ran boolean NOT NULL DEFAULT false,
    ttl_minutes double precision,
    ttl_strategy text,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX threads_by_update ON greenroom.threads (updated_at DESC, thread_id);
CREATE INDEX threads_by_creation ON greenroom.threads (created_at DESC, thread_id);
CREATE INDEX threads_by_status ON greenroom.threads (status, updated_at DESC);
CREATE INDEX threads_by_metadata ON greenroom.threads USING gin (metadata jsonb_path_ops);
CREATE INDEX threads_by_expiry ON greenroom.threads (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE greenroom.runs (
    run_id uuid PRIMARY KEY,
    admitted bigint GENERATED ALWAYS AS IDENTITY,
    thread_id text NOT NULL,
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    status text NOT NULL,
    attempt int NOT NULL DEFAULT 0,
    actor text,
    kwargs json NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    multitask_strategy text NOT NULL,
    temporary boolean NOT NULL DEFAULT false,
    resumable boolean NOT NULL DEFAULT false,
    resumes boolean NOT NULL DEFAULT false,
    webhook text,
    error json,
    due_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX runs_of_thread ON greenroom.runs (thread_id, created_at DESC, run_id DESC);
CREATE INDEX runs_in_flight ON greenroom.runs (admitted) WHERE status IN ('pending', 'running');

-- The durable tail of a resumable run's events; same sequence numbers as the live log.
CREATE TABLE greenroom.run_events (
    run_id uuid NOT NULL,
    seq bigint NOT NULL,
    at_ms bigint NOT NULL,
    name text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (run_id, seq)
);

-- Raises GR001 unless `attempt` owns the run. FOR SHARE, not FOR KEY SHARE or a plain SELECT: only
-- that holds a takeover back until the writer's transaction is over.
CREATE FUNCTION greenroom.fence(run uuid, owner int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current int;
BEGIN
    SELECT r.attempt INTO current FROM greenroom.runs r
        WHERE r.run_id = run AND r.status = 'running' FOR SHARE;
    IF current IS DISTINCT FROM owner THEN
        RAISE EXCEPTION 'attempt % of run % is not the current one', owner, run
            USING ERRCODE = 'GR001';
    END IF;
END
$$;

-- Raises GR002 unless `mine` is the registry's current epoch: two registries can never both write.
CREATE FUNCTION greenroom.hold_epoch(mine bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current bigint;
BEGIN
    SELECT epoch INTO current FROM greenroom.registry FOR SHARE;
    IF current IS DISTINCT FROM mine THEN
        RAISE EXCEPTION 'registry epoch % was superseded by %', mine, current
            USING ERRCODE = 'GR002';
    END IF;
END
$$;
