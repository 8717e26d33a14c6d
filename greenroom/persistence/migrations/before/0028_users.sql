-- The users of a server with `auth`: on whose behalf a run is executed, also after the death of a
-- process, and the runs of a cron. Clients are never shown these columns.
ALTER TABLE greenroom.runs ADD COLUMN auth_user json;
ALTER TABLE greenroom.crons ADD COLUMN auth_user json;
-- The condition on the metadata of the thread of a cron's runs (`core.scopes.Scope.to_json`).
ALTER TABLE greenroom.crons ADD COLUMN scope json;
-- What the metadata of the threads contain that go with an assistant.
ALTER TABLE greenroom.assistant_deletions ADD COLUMN threads jsonb NOT NULL DEFAULT '{}';
