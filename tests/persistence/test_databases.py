"""The databases of the tests: one that is used again is as one that was only migrated."""

from __future__ import annotations

import psycopg
import pytest

from tests.databases import SEQUENCES, SHAPE, TABLES, Databases

Content = list[object]


def content(databases: Databases, name: str) -> Content:
    with psycopg.connect(databases.dsn(name)) as connection:
        tables = [table for (table,) in connection.execute(TABLES).fetchall()]
        found: Content = [connection.execute(SHAPE).fetchone()]
        for table in tables:
            records = connection.execute(f"TABLE {table}").fetchall()  # type: ignore[arg-type]
            found.append(sorted(records, key=repr))
        return [*found, connection.execute(SEQUENCES).fetchall()]


def test_what_was_written_and_deleted_is_as_it_was(databases: Databases) -> None:
    name = databases.take()
    before = content(databases, name)
    connection = psycopg.connect(databases.dsn(name), autocommit=True)
    tables = [table for (table,) in connection.execute(TABLES).fetchall()]
    assert len(tables) > 5
    for table in tables:
        connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]
    connection.execute("INSERT INTO greenroom.threads (thread_id) VALUES (gen_random_uuid())")
    for sequence, *_ in connection.execute(SEQUENCES).fetchall():
        connection.execute("SELECT nextval(%s)", [sequence])
    assert content(databases, name) != before
    databases.give_back(name)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    assert databases.take() == name
    assert content(databases, name) == before
    databases.give_back(name)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more (x int)",
        "ALTER TABLE greenroom.threads ADD COLUMN more int",
        "ALTER TABLE greenroom.runs DISABLE TRIGGER ALL",
        "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP INDEX greenroom.{index}",
        "ANALYZE greenroom.threads",
    ],
)
def test_what_was_changed_otherwise_is_dropped(databases: Databases, change: str) -> None:
    name = databases.take()
    with psycopg.connect(databases.dsn(name), autocommit=True) as connection:
        connection.execute("INSERT INTO greenroom.threads (thread_id) VALUES (gen_random_uuid())")
        row = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'greenroom'"
            " AND indexname NOT LIKE '%pkey' LIMIT 1"
        ).fetchone()
        assert row is not None
        connection.execute(change.format(index=row[0]))  # type: ignore[arg-type]
    databases.give_back(name)
    taken = databases.take()
    assert taken != name
    databases.give_back(taken)
