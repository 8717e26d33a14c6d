-- How often a run's process died: it must not begin at nothing with every start of a registry, or a
-- run that takes the whole server along would be started for ever.

ALTER TABLE greenroom.runs ADD COLUMN deaths int NOT NULL DEFAULT 0;
