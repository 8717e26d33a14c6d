-- The cancels that were heard, by their names: one that is asked again, since its answer was lost,
-- gets its first answer, also when its run was rolled back and is gone.

CREATE TABLE greenroom.cancels (
    name text PRIMARY KEY,
    heard_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
