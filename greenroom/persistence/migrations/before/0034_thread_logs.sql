-- The log of a thread (event streaming): the events of its logged runs, in the order of their numbers.
-- log_runs: the number of the newest logged run; 0: nobody has asked for the log, so no run is
-- logged that does not ask for it. log_dropped: the position of the last event that is not kept.
ALTER TABLE greenroom.threads ADD COLUMN log_runs bigint NOT NULL DEFAULT 0;
ALTER TABLE greenroom.threads ADD COLUMN log_dropped bigint NOT NULL DEFAULT 0;

-- logged: the run belongs to the log. log_number: given when the run begins, or ends without having
-- begun.
ALTER TABLE greenroom.runs ADD COLUMN logged boolean NOT NULL DEFAULT false;
ALTER TABLE greenroom.runs ADD COLUMN log_number bigint;
