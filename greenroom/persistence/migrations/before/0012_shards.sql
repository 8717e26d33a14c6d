-- The registry may be several, each the one writer for its threads: one epoch for each shard.

ALTER TABLE greenroom.registry DROP COLUMN only_row;
ALTER TABLE greenroom.registry ADD COLUMN shard int NOT NULL DEFAULT 0;
ALTER TABLE greenroom.registry ADD PRIMARY KEY (shard);
ALTER TABLE greenroom.registry ALTER COLUMN shard DROP DEFAULT;

-- As `greenroom.core.sharding.slot_of_thread`. Not md5: there are systems that forbid it.
CREATE FUNCTION greenroom.slot_of(thread text) RETURNS int LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT get_byte(sha256(convert_to(thread, 'UTF8')), 0) & 63
$$;

-- Raises GR002 unless `mine` is the shard's current epoch: two registries can never both write. A
-- registry of the version before this migration names no shard.
DROP FUNCTION greenroom.hold_epoch(bigint);
CREATE FUNCTION greenroom.hold_epoch(mine bigint, of_shard int DEFAULT 0) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    current bigint;
BEGIN
    SELECT epoch INTO current FROM greenroom.registry WHERE shard = of_shard FOR SHARE;
    IF current IS DISTINCT FROM mine THEN
        RAISE EXCEPTION 'registry epoch % was superseded by %', mine, current
            USING ERRCODE = 'GR002';
    END IF;
END
$$;

-- The next epoch of a shard, for a registry of the generation `mine`; null if there was one of a
-- later generation. The first one of a generation ends the epochs of all shards of earlier ones:
-- they may have been another number, and then a thread had another writer.
CREATE FUNCTION greenroom.take_epoch(mine bigint, of_shard int) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    taken bigint;
BEGIN
    -- One after the other; who only holds its epoch is not kept waiting.
    LOCK TABLE greenroom.registry IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT 1 FROM greenroom.registry WHERE generation > mine) THEN
        RETURN NULL;
    END IF;
    INSERT INTO greenroom.registry (shard) VALUES (of_shard) ON CONFLICT DO NOTHING;
    UPDATE greenroom.registry SET epoch = epoch + 1, generation = mine
        WHERE shard = of_shard OR generation < mine;
    SELECT epoch INTO taken FROM greenroom.registry WHERE shard = of_shard;
    RETURN taken;
END
$$;
