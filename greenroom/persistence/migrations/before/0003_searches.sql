-- What the searches need on a large database.

CREATE INDEX threads_by_state_update ON greenroom.threads (state_updated_at DESC, thread_id);
CREATE INDEX assistants_by_creation ON greenroom.assistants (created_at DESC, assistant_id);
DROP INDEX greenroom.threads_by_status;
CREATE INDEX threads_by_status ON greenroom.threads (status, updated_at DESC, thread_id);

-- Values as jsonb, for containment. JSON may hold \u0000, which jsonb refuses: it becomes U+FFFD.
CREATE FUNCTION greenroom.searchable(v json) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN v::jsonb;
EXCEPTION WHEN data_exception THEN
    BEGIN
        RETURN regexp_replace(v::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::jsonb;
    EXCEPTION WHEN data_exception THEN
        RETURN NULL;
    END;
END
$$;

-- The short plain values at the top of a thread's state: what a search by values mostly names. An
-- index over all of a state would cost more at the end of every run than the run.
CREATE FUNCTION greenroom.facets(v jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(
        CASE jsonb_typeof(v) WHEN 'object' THEN v ELSE '{}' END)
    WHERE jsonb_typeof(value) IN ('string', 'number', 'boolean') AND length(value::text) <= 256
$$;

ALTER TABLE greenroom.threads ADD COLUMN facets jsonb NOT NULL DEFAULT '{}';

CREATE FUNCTION greenroom.set_facets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.facets := greenroom.facets(greenroom.searchable(NEW."values"));
    RETURN NEW;
END
$$;
CREATE TRIGGER facets_of_new BEFORE INSERT ON greenroom.threads
    FOR EACH ROW WHEN (NEW."values" IS NOT NULL) EXECUTE FUNCTION greenroom.set_facets();
CREATE TRIGGER facets_of_changed BEFORE UPDATE OF "values" ON greenroom.threads
    FOR EACH ROW EXECUTE FUNCTION greenroom.set_facets();
CREATE INDEX threads_by_facets ON greenroom.threads USING gin (facets jsonb_path_ops)
    WHERE facets <> '{}';
