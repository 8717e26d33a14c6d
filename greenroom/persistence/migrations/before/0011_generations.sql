-- Every start of a server gets a later generation than all before it (`starts`), whatever its clock
-- says, and a registry takes the epoch for its own (`generation`). One that comes back finds out
-- that a later start has replaced it: else two servers on one database took it from each other for
-- ever.

ALTER TABLE greenroom.registry
    ADD COLUMN starts bigint NOT NULL DEFAULT 0,
    ADD COLUMN generation bigint NOT NULL DEFAULT 0;
