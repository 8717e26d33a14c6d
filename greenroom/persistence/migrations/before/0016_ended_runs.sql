-- What a sweep looks for: runs that have ended lately and may have left events, or copies of what
-- they wrote onto. Without it every sweep looked at all of them.

CREATE INDEX CONCURRENTLY runs_ended ON greenroom.runs (updated_at)
    WHERE (resumable OR resumes) AND status NOT IN ('pending', 'running');
