-- The keys of requests that clients may repeat (Idempotency-Key), and what was made under them. A
-- note of something made stays when that is deleted: a repetition must not make it again.

CREATE TABLE greenroom.idempotency (
    key text PRIMARY KEY,
    -- Of the request that reserved the key: SHA-256 of its path and its body.
    digest bytea NOT NULL,
    -- The ids of what is made follow from it.
    seed uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX idempotency_by_age ON greenroom.idempotency (created_at);

CREATE TABLE greenroom.idempotency_made (
    key text NOT NULL REFERENCES greenroom.idempotency ON DELETE CASCADE,
    id text NOT NULL,
    PRIMARY KEY (key, id)
);

-- Frees a key under which nothing was made. The second statement sees what was committed while the
-- first one waited for it: who makes something shares the lock until then.
CREATE FUNCTION greenroom.release_key(given text, given_seed uuid) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM greenroom.idempotency k WHERE k.key = given AND k.seed = given_seed FOR UPDATE;
    DELETE FROM greenroom.idempotency k WHERE k.key = given AND k.seed = given_seed
        AND NOT EXISTS (SELECT FROM greenroom.idempotency_made m WHERE m.key = k.key);
    RETURN FOUND;
END
$$;
