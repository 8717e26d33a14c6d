-- What was sent may be looked at, and sent again: a settled delivery keeps its contents for a while.
-- Null with settled_at: an older server has settled it, and deleted the contents.

ALTER TABLE greenroom.webhooks ADD COLUMN delivered boolean;
