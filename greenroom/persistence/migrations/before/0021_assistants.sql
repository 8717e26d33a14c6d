-- Assistants that clients make and change. A version never changes once it is there; the assistant
-- shows one of its versions. All writers of `assistants` keep that, also those of an older server:
-- triggers copy what they write.

-- One number for each state of each assistant, which no other state ever has: also not one of an
-- assistant that was deleted and made again under its id, with version 1 again. A gateway may keep an
-- assistant in its memory, since the admission of a run compares the number.
CREATE SEQUENCE greenroom.assistant_revisions;

ALTER TABLE greenroom.assistants
    ADD COLUMN newest int NOT NULL DEFAULT 1,
    ADD COLUMN revision bigint NOT NULL DEFAULT nextval('greenroom.assistant_revisions'),
    -- The request that wrote this: one that is repeated, since its answer was lost, changes nothing.
    ADD COLUMN change uuid,
    -- Of a graph's own assistant: what the last start has set. What clients change stays until the
    -- configuration changes.
    ADD COLUMN configured jsonb;

CREATE TABLE greenroom.assistant_versions (
    assistant_id uuid NOT NULL REFERENCES greenroom.assistants ON DELETE CASCADE,
    version int NOT NULL,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb NOT NULL,
    context jsonb NOT NULL,
    metadata jsonb NOT NULL,
    change uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (assistant_id, version)
);

CREATE FUNCTION greenroom.renew_assistant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := nextval('greenroom.assistant_revisions');
    RETURN NEW;
END
$$;
CREATE TRIGGER renewed BEFORE UPDATE ON greenroom.assistants
    FOR EACH ROW EXECUTE FUNCTION greenroom.renew_assistant();

CREATE FUNCTION greenroom.keep_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO greenroom.assistant_versions AS known (assistant_id, version, graph_id, name,
            description, config, context, metadata, change)
        VALUES (NEW.assistant_id, NEW.version, NEW.graph_id, NEW.name, NEW.description, NEW.config,
            NEW.context, NEW.metadata, NEW.change)
        ON CONFLICT (assistant_id, version) DO UPDATE
            SET graph_id = excluded.graph_id, name = excluded.name,
                description = excluded.description, config = excluded.config,
                context = excluded.context, metadata = excluded.metadata;
    RETURN NULL;
END
$$;
CREATE TRIGGER kept AFTER INSERT OR UPDATE ON greenroom.assistants
    FOR EACH ROW EXECUTE FUNCTION greenroom.keep_version();

INSERT INTO greenroom.assistant_versions (assistant_id, version, graph_id, name, description,
        config, context, metadata, created_at)
    SELECT assistant_id, version, graph_id, name, description, config, context, metadata, created_at
    FROM greenroom.assistants;

-- The version whose config a run has taken, and that state's number. Null: an older server admitted
-- the run.
ALTER TABLE greenroom.runs
    ADD COLUMN assistant_version int,
    ADD COLUMN assistant_revision bigint;
ALTER TABLE greenroom.webhooks ADD COLUMN assistant_version int;

-- Deletions that registries carry out: they stop the runs of the assistant, and delete its threads if
-- that was asked for. The record of the assistant went with the transaction that wrote this. `name`
-- is the request's, which may be repeated.
CREATE TABLE greenroom.assistant_deletions (
    name uuid PRIMARY KEY,
    assistant_id uuid NOT NULL,
    -- The last state of the assistant: a run of a later one belongs to an assistant that was made
    -- under the same id afterwards.
    revision bigint NOT NULL,
    delete_threads boolean NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
