-- What each gateway has counted of what callers use, for the other gateways. It is worth nothing
-- after a crash, so it is not logged.

CREATE UNLOGGED TABLE greenroom.caller_usage (
    kind text NOT NULL,
    period bigint NOT NULL,
    caller text NOT NULL,
    gateway text NOT NULL,
    amount bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, period, caller, gateway)
);

-- Whose run it is, where the runs of each caller are limited.
ALTER TABLE greenroom.runs ADD COLUMN caller text;
