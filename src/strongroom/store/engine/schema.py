"""The SQLite schema as numbered steps, and how a database is brought up to date.

Steps only add (expand); what a step makes unused is removed by a step at least one release later
(contract), so that the previous version still runs beside the new one.
"""

import sqlite3
from typing import Final

from strongroom.model.errors import Unavailable

STEPS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE cluster (
      id INTEGER PRIMARY KEY CHECK (id = 1),
      cluster_id TEXT NOT NULL, cluster_name TEXT NOT NULL, seal_type TEXT NOT NULL,
      wrapped_ring BLOB NOT NULL, created REAL NOT NULL
    );
    CREATE TABLE mount (
      kind TEXT NOT NULL, path TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
      PRIMARY KEY (kind, path)
    ) WITHOUT ROWID;
    CREATE TABLE policy (
      name TEXT PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE token (
      id BLOB PRIMARY KEY, accessor TEXT NOT NULL UNIQUE, parent BLOB, expires REAL,
      uses_left INTEGER NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX token_parent ON token (parent) WHERE parent IS NOT NULL;
    CREATE INDEX token_expires ON token (expires) WHERE expires IS NOT NULL;
    CREATE TABLE document (
      mount TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
      version INTEGER NOT NULL, body BLOB NOT NULL,
      PRIMARY KEY (mount, kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE node (
      id INTEGER PRIMARY KEY AUTOINCREMENT, mount TEXT NOT NULL, parent INTEGER NOT NULL,
      name BLOB NOT NULL, version INTEGER NOT NULL, body BLOB,
      UNIQUE (mount, parent, name)
    );
    CREATE TABLE kv_version (
      node INTEGER NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
      PRIMARY KEY (node, version)
    );
    CREATE TABLE consumer (
      path BLOB NOT NULL, actor BLOB NOT NULL, expires REAL, version INTEGER NOT NULL,
      body BLOB NOT NULL,
      PRIMARY KEY (path, actor)
    ) WITHOUT ROWID;
    CREATE TABLE generation (value INTEGER NOT NULL);
    INSERT INTO generation VALUES (0);
    CREATE TABLE event (sequence INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing steps, each in a transaction of its own.

    Raises Unavailable(`schema-too-new`) for a database that a later version has contracted.
    """
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (done,) = connection.execute("PRAGMA user_version").fetchone()
            if done > len(STEPS):
                raise Unavailable(
                    "schema-too-new",
                    f"the database has schema {done}, this program knows {len(STEPS)}",
                    hint="run the version that wrote it, or a newer one",
                )
            if done == len(STEPS):
                return
            for statement in STEPS[done].split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {done + 1}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
