-- Why a run is pending again (null: it never ran, or has not been requeued), and by which names it
-- was cancelled: a cancel that is asked again, since its answer was lost, gets its first answer.

ALTER TABLE greenroom.runs ADD COLUMN requeued_because text;
ALTER TABLE greenroom.runs ADD COLUMN cancels text[] NOT NULL DEFAULT '{}';
