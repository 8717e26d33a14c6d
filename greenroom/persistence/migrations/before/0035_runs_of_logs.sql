CREATE INDEX CONCURRENTLY runs_of_logs ON greenroom.runs (thread_id, log_number)
    WHERE log_number IS NOT NULL;
