-- How far sweeps have come: what runs have left that ended before is deleted. A registry that starts
-- goes on from there. An older server neither reads nor writes the table.

CREATE TABLE greenroom.sweeps (
    kind text PRIMARY KEY,
    ended_before timestamptz NOT NULL
);
