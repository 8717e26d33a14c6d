-- What a thread's status is when no run is on it: a pending run that is dropped leaves it as it was.

ALTER TABLE greenroom.threads ADD COLUMN resting text NOT NULL DEFAULT 'idle';
CREATE INDEX runs_temporary ON greenroom.runs (thread_id) WHERE temporary;
