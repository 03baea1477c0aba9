"""Brings the tables to the form that this version expects.

Migrations are the files `migrations/NNNN_name.sql`, applied in the order of their numbers and never edited
after a release. DDL has no transactions, so each statement can be repeated: when the process dies in the
middle, the next start applies the migration again. Only statements that neither rewrite nor lose anything are
allowed (`check`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Final, Protocol

from runstream_store.errors import MigrationError

TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32,
    name String,
    -- SHA-256 of the statements
    checksum String,
    applied_time DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY number
"""

_EXISTS: Final = (
    "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'schema_migrations'"
)

# Each as one line. A list of changes in one ALTER, and CREATE … AS SELECT, are not among them.
_SAFE: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"CREATE TABLE IF NOT EXISTS \w+ \((?!.*\bAS SELECT\b).*",
        r"CREATE VIEW IF NOT EXISTS .*",
        r"ALTER TABLE \w+ ADD COLUMN IF NOT EXISTS (?!.*, (ADD|DROP|MODIFY|CLEAR|RENAME) ).*\bDEFAULT\b.*",
        r"ALTER TABLE \w+ MODIFY SETTING \w+ = \w+(, \w+ = \w+)*",
    )
)
_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True)
class Migration:
    """One file."""

    number: int
    name: str
    text: str

    @property
    def label(self) -> str:
        """Number and name."""
        return f"{self.number:04}_{self.name}"

    @cached_property
    def statements(self) -> tuple[str, ...]:
        """Its statements, without comments."""
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("--")]
        parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
        return tuple(part.strip() for part in parts if part.strip())

    @cached_property
    def checksum(self) -> str:
        """Of what is executed: comments and white space may be improved."""
        return hashlib.sha256(
            "\n".join(" ".join(part.split()) for part in self.statements).encode()
        ).hexdigest()


class Executor(Protocol):
    """What a migration needs of an engine."""

    def command(self, sql: str) -> object:
        """Runs a statement."""
        ...

    def rows(self, sql: str) -> Sequence[Sequence[object]]:
        """Runs a query."""
        ...


def load() -> list[Migration]:
    """All migrations of this version, checked."""
    found = []
    for entry in resources.files("runstream_store.tables").joinpath("migrations").iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    check(found)
    return found


def check(migrations: Sequence[Migration]) -> None:
    """Refuses numbers with gaps, and statements that lose or rewrite data or can't be repeated."""
    for expected, migration in enumerate(migrations, 1):
        if migration.number != expected:
            raise MigrationError(f"migration {migration.number:04} follows {expected - 1:04}")
        for statement in migration.statements:
            line = " ".join(statement.split())
            if not any(pattern.fullmatch(line) for pattern in _SAFE):
                raise MigrationError(
                    f"migration {migration.number:04} holds a statement that may rewrite or lose data,"
                    f" or can't be repeated: {line[:80]}"
                )


def pending(engine: Executor, migrations: Sequence[Migration]) -> list[Migration]:
    """The migrations that are not applied yet. Changes nothing.

    :raises MigrationError: the tables are of a newer version, or an applied migration was edited.
    """
    if not engine.rows(_EXISTS):
        return list(migrations)
    rows = engine.rows("SELECT number, name, checksum FROM schema_migrations FINAL ORDER BY number")
    done = {int(str(number)): (str(name), str(checksum)) for number, name, checksum in rows}
    newer = sorted(set(done) - {migration.number for migration in migrations})
    if newer:
        raise MigrationError(
            f"the tables were made by a newer runstream: {newer[0]:04}_{done[newer[0]][0]} is unknown here"
        )
    for migration in migrations:
        before = done.get(migration.number)
        if before is not None and before[1] != migration.checksum:
            raise MigrationError(f"migration {migration.label} is not the one that made these tables")
    return [migration for migration in migrations if migration.number not in done]


def apply(
    engine: Executor, migrations: Sequence[Migration], run: Callable[[str], str] = lambda sql: sql
) -> list[str]:
    """Applies what is not applied yet and returns the names. Several may do it at the same time.

    :param run: may adapt a statement to the engine.
    :raises MigrationError: the tables are of a newer version, or an applied migration was edited.
    """
    engine.command(run(TABLE))
    missing = pending(engine, migrations)
    for migration in missing:
        for statement in migration.statements:
            engine.command(run(statement))
        engine.command(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES"
            f" ({migration.number}, '{migration.name}', '{migration.checksum}')"
        )
    return [migration.label for migration in missing]
