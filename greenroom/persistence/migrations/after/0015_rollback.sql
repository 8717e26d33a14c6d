-- Rolling back and forgetting a run is done in slices (`greenroom.persistence.bulk`); only registries
-- of the version before call these.

DROP FUNCTION greenroom.forget_run(uuid, text);
DROP FUNCTION greenroom.roll_back(uuid, text);
