-- Whom A2A clients want to be told about their tasks; it goes with the task's first run.
CREATE TABLE greenroom.a2a_pushes (
    task_id uuid NOT NULL REFERENCES greenroom.runs ON DELETE CASCADE,
    config_id text NOT NULL,
    thread_id text NOT NULL,
    content jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, config_id));
-- Set for a delivery that tells of a task; its id is in the place of a run's.
ALTER TABLE greenroom.webhooks ADD COLUMN push jsonb;
