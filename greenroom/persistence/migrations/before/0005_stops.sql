-- That a run was told to stop, and how: a registry that starts tells it once more.

ALTER TABLE greenroom.runs ADD COLUMN stop text;
