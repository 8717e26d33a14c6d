-- Graphs that were shipped by value (from a notebook). The newest of a name is for the next run; a
-- run keeps the one that its first attempt began with.
CREATE TABLE greenroom.shipped_graphs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    graph_id text NOT NULL,
    digest text NOT NULL,
    python text NOT NULL,
    placement jsonb NOT NULL,
    payload bytea NOT NULL,
    shipped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX shipped_graphs_by_graph ON greenroom.shipped_graphs (graph_id, number DESC);
ALTER TABLE greenroom.runs ADD COLUMN shipped_number bigint;
