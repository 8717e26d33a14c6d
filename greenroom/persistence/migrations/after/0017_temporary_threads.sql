-- A stateless run's thread goes with the end of its run. An older registry that died before it had
-- deleted one left it here.

DELETE FROM greenroom.threads t USING greenroom.runs r
WHERE r.thread_id = t.thread_id AND r.temporary AND r.status NOT IN ('pending', 'running')
    AND NOT EXISTS (SELECT 1 FROM greenroom.runs o
        WHERE o.thread_id = t.thread_id AND (NOT o.temporary OR o.status IN ('pending', 'running')));
