-- What people say about runs; it goes with its run.
CREATE TABLE greenroom.feedback (
    feedback_id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES greenroom.runs ON DELETE CASCADE,
    key text NOT NULL,
    content jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX feedback_run ON greenroom.feedback (run_id, created_at, feedback_id);
