-- The runs of a caller that are not over.

CREATE INDEX CONCURRENTLY runs_of_callers ON greenroom.runs (caller, status) WHERE caller IS NOT NULL AND status IN ('pending', 'running');
