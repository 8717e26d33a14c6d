-- A search of runs across threads, the newest first.

CREATE INDEX CONCURRENTLY runs_by_creation ON greenroom.runs (created_at DESC, run_id);
