-- What a sweep looks for. Without it each one read the notes of all cancels of the last hour.

CREATE INDEX CONCURRENTLY cancels_by_age ON greenroom.cancels (heard_at);
