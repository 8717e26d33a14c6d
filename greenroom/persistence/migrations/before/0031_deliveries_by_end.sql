-- The list of deliveries, the newest first.

CREATE INDEX CONCURRENTLY webhooks_by_end ON greenroom.webhooks (ended_at DESC, run_id DESC);
