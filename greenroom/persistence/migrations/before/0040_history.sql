-- What happened to a run, in order, as `greenroom.core.timeline` reads it: each change of a run's
-- record appends its own entry. nodes: when its nodes began and ended, by attempt; written with the
-- end of an attempt. pause: the pause that is wanted, or null. An older server writes none of them.

ALTER TABLE greenroom.runs ADD COLUMN history jsonb NOT NULL DEFAULT '[]';
ALTER TABLE greenroom.runs ADD COLUMN nodes jsonb NOT NULL DEFAULT '[]';
ALTER TABLE greenroom.runs ADD COLUMN pause jsonb;
