-- What the output schema of a run's graph shows of the thread's values: for readers that come after
-- the run, and for webhooks. It is known only by the process that loads the graph.

ALTER TABLE greenroom.runs ADD COLUMN output_keys jsonb;

-- The output in a thread's values. The keys are a list of channels, or the name of the one channel
-- whose value is the output; NULL shows everything.
CREATE FUNCTION greenroom.output_of("values" json, keys jsonb) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN keys IS NULL OR "values" IS NULL OR json_typeof("values") <> 'object' THEN "values"
        WHEN jsonb_typeof(keys) = 'string' THEN coalesce("values" -> (keys #>> '{}'), 'null')
        ELSE (
            SELECT coalesce(json_object_agg(key, value), '{}')
            FROM json_each("values") WHERE keys ? key)
    END
$$;
