-- They have a table now.

ALTER TABLE greenroom.runs DROP COLUMN cancels;
