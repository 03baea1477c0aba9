"""The migrations fit the code, and none can do harm."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from runstream_store.errors import MigrationError
from runstream_store.identity import KEYS, VERSIONS
from runstream_store.tables import migrate
from runstream_store.tables.schema import SCHEMAS

# Of each migration. From the first release on a line is only ever added: who edits a migration breaks every
# installation.
CHECKSUMS = {
    "0001_initial": "ad770f2870d793ba96a07175c574e837ede9bd40b79b7121c4178f3885a2983a",
    "0002_artifacts": "6c9c28290092e0f0a7f42646fe929d714050e5e1f45d8a714ae891383e8d0c7c",
    "0003_dead_letter_digests": "58c33fb29545c59a8913fd9f0b799a2d77da99914735e1eebfb3d23a8ad2b23d",
    "0004_logs": "95b5a03a17dd89281210d4189807ff442419ae0311ce2b6908d7167f9a214f13",
    "0005_search": "fa22067bcade3cd53d3c138d9cb504675a7ad3f55a220a4a1f2de13071d6a373",
}

COLUMN = re.compile(r"^\s+(\w+) ([A-Z]\w+(?:\((?:[^()]|\([^()]*\))*\))?)", re.MULTILINE)
ARROW = {
    "String": pa.string(),
    "LowCardinality(String)": pa.string(),
    "Nullable(String)": pa.string(),
    "FixedString(16)": pa.binary(16),
    "FixedString(32)": pa.binary(32),
    "Float64": pa.float64(),
    "UInt8": pa.uint8(),
    "UInt32": pa.uint32(),
    "UInt64": pa.uint64(),
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "DateTime64(9, 'UTC')": pa.timestamp("ns", "UTC"),
}


DERIVED = {"run_summaries"}
"""Tables that are made of the others, by the engine."""


def created() -> dict[str, str]:
    """Table of what was logged → its statement."""
    found = {}
    for migration in migrate.load():
        for statement in migration.statements:
            match = re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", statement)
            if match and match[1] not in DERIVED:
                found[match[1]] = statement
    return found


def test_no_migration_was_edited() -> None:
    assert {f"{one.number:04}_{one.name}": one.checksum for one in migrate.load()} == CHECKSUMS


def added() -> dict[str, dict[str, str]]:
    """Table → columns that later migrations add, with their types."""
    found: dict[str, dict[str, str]] = {}
    for migration in migrate.load():
        for statement in migration.statements:
            match = re.match(r"ALTER TABLE (\w+) ADD COLUMN IF NOT EXISTS (\w+) (.+?) DEFAULT ", statement)
            if match:
                found.setdefault(match[1], {})[match[2]] = match[3]
    return found


def test_the_schemas_are_those_of_the_tables() -> None:
    assert set(created()) == set(SCHEMAS) == set(KEYS)
    for name, statement in created().items():
        columns = {column: ARROW[kind] for column, kind in COLUMN.findall(statement.partition("\n)\n")[0])}
        columns |= {column: ARROW[kind] for column, kind in added().get(name, {}).items()}
        schema = SCHEMAS[name]
        assert schema.names == list(columns), name
        for field in schema:
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            assert kind == columns[field.name] or field.name in ("event", "manifest", "model", "data"), (
                field.name
            )


def test_the_keys_are_the_identity_of_rows() -> None:
    for name, statement in created().items():
        order = re.search(r"ORDER BY \(([^)]*)\)", statement)
        assert order is not None
        assert tuple(order[1].split(", ")) == KEYS[name]
        engine = re.search(r"ENGINE = ReplacingMergeTree(?:\((\w+)\))?\n", statement)
        assert engine is not None, name
        assert engine[1] == VERSIONS.get(name)


def test_tables_are_synced_and_nothing_depends_on_when() -> None:
    for name, statement in created().items():
        assert "fsync_after_insert = 1" in statement, name
        assert "PARTITION BY" not in statement, name
        assert "TTL" not in statement, name


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE points",
        "TRUNCATE TABLE points",
        "RENAME TABLE points TO p",
        "DELETE FROM points WHERE 1",
        "ALTER TABLE points DELETE WHERE 1",
        "ALTER TABLE points UPDATE value = 0 WHERE 1",
        "ALTER TABLE points DROP COLUMN text",
        "ALTER TABLE points MODIFY COLUMN value Float32",
        "ALTER TABLE points MODIFY ORDER BY (run)",
        "ALTER TABLE points ADD COLUMN IF NOT EXISTS a UInt8 DEFAULT 0, DROP COLUMN text",
        "ALTER TABLE points ADD COLUMN IF NOT EXISTS a UInt8",
        "ALTER TABLE points ADD COLUMN a UInt8 DEFAULT 0",
        "CREATE TABLE points (a UInt8) ENGINE = Log",
        "CREATE OR REPLACE TABLE points (a UInt8) ENGINE = Log",
        "CREATE TABLE IF NOT EXISTS a (a UInt8) ENGINE = Log AS SELECT * FROM points",
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v ENGINE = SummingMergeTree AS SELECT count() FROM points",
        "OPTIMIZE TABLE points FINAL",
        "SYSTEM STOP MERGES",
        "SET optimize_on_insert = 1",
    ],
)
def test_dangerous_statements_are_refused(statement: str) -> None:
    with pytest.raises(MigrationError):
        migrate.check([migrate.Migration(1, "danger", f"-- looks harmless\n{statement};\n")])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE IF NOT EXISTS t\n(\n    a UInt8\n)\nENGINE = ReplacingMergeTree\nORDER BY a",
        "ALTER TABLE points ADD COLUMN IF NOT EXISTS more String DEFAULT '' CODEC(ZSTD(1))",
        "ALTER TABLE points MODIFY SETTING index_granularity = 4096",
        "CREATE VIEW IF NOT EXISTS v AS SELECT * FROM points FINAL",
    ],
)
def test_harmless_statements_are_taken(statement: str) -> None:
    migrate.check([migrate.Migration(1, "harmless", statement)])


def test_numbers_follow_each_other() -> None:
    for numbers in ([2], [1, 3], [1, 1]):
        with pytest.raises(MigrationError):
            migrate.check([migrate.Migration(number, "gap", "") for number in numbers])


def test_statements_and_checksums() -> None:
    text = (
        "-- about a;\nCREATE TABLE IF NOT EXISTS a\n(\n    -- x;\n    x UInt8\n) ENGINE = Log;\n\n"
        "CREATE VIEW IF NOT EXISTS b AS SELECT ';' AS c;"
    )
    one = migrate.Migration(1, "one", text)
    assert [statement.split("\n")[0] for statement in one.statements] == [
        "CREATE TABLE IF NOT EXISTS a",
        "CREATE VIEW IF NOT EXISTS b AS SELECT ';' AS c",
    ]
    reworded = migrate.Migration(
        1, "one", text.replace("-- x;", "-- what x means").replace("    x UInt8", "  x  UInt8")
    )
    assert reworded.checksum == one.checksum
    assert migrate.Migration(1, "one", text.replace("UInt8", "UInt16")).checksum != one.checksum
