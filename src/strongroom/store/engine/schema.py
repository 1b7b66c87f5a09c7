"""The schema as numbered steps for every database, and how one is brought up to date.

Steps only add (expand); what a step makes unused is removed by a step at least one release later
(contract). A database knows how many steps were taken and how many a program must know to run on
it, so that the version before goes on running beside the new one, and starts there as well. It
writes rows without what it does not know: a new column has a default, and a new field of a row may
be lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.model.errors import Unavailable
from strongroom.store.engine.sql import Dialect, Sql, upsert


@dataclass(frozen=True, slots=True)
class Step:
    """Statements by semicolon, in words of the dialect in braces.

    A step that removes something says how many steps a program must know to run on the database
    from then on (`oldest`), and the release that was the first to know them.
    """

    statements: str
    oldest: int = 0
    release: str = ""


STEPS: Final[tuple[Step, ...]] = (
    Step(
        """
        CREATE TABLE cluster (
          id INTEGER PRIMARY KEY CHECK (id = 1),
          cluster_id {text} NOT NULL, cluster_name {text} NOT NULL, seal_type {text} NOT NULL,
          wrapped_ring {bytes} NOT NULL, created {number} NOT NULL
        );
        CREATE TABLE mount (
          kind {text} NOT NULL, path {text} NOT NULL, version {whole} NOT NULL,
          body {bytes} NOT NULL,
          PRIMARY KEY (kind, path)
        ) {compact};
        CREATE TABLE policy (
          name {text} PRIMARY KEY, version {whole} NOT NULL, body {bytes} NOT NULL
        ) {compact};
        CREATE TABLE token (
          id {bytes} PRIMARY KEY, accessor {text} NOT NULL UNIQUE, parent {bytes},
          expires {number}, uses_left {whole} NOT NULL, version {whole} NOT NULL,
          body {bytes} NOT NULL
        ) {compact};
        CREATE INDEX token_parent ON token (parent) WHERE parent IS NOT NULL;
        CREATE INDEX token_expires ON token (expires) WHERE expires IS NOT NULL;
        CREATE TABLE document (
          mount {text} NOT NULL, kind {text} NOT NULL, name {text} NOT NULL,
          version {whole} NOT NULL, body {bytes} NOT NULL,
          PRIMARY KEY (mount, kind, name)
        ) {compact};
        CREATE TABLE node (
          id {identity}, mount {text} NOT NULL, parent {whole} NOT NULL,
          name {bytes} NOT NULL, version {whole} NOT NULL, body {bytes},
          UNIQUE (mount, parent, name)
        );
        CREATE TABLE kv_version (
          node {whole} NOT NULL, version {whole} NOT NULL, body {bytes} NOT NULL,
          PRIMARY KEY (node, version)
        );
        CREATE TABLE consumer (
          path {bytes} NOT NULL, actor {bytes} NOT NULL, expires {number},
          version {whole} NOT NULL, body {bytes} NOT NULL,
          PRIMARY KEY (path, actor)
        ) {compact};
        CREATE TABLE generation (value {whole} NOT NULL);
        INSERT INTO generation VALUES (0);
        CREATE TABLE event (sequence {identity}, body {bytes} NOT NULL);
        """
    ),
    # The revision of PostgreSQL: writing it is the turn to write, reading it tells of a commit.
    Step("ALTER TABLE generation ADD COLUMN revision {whole} NOT NULL DEFAULT 0"),
    # Identity, AppRole's secret ids, failed logins.
    Step(
        """
        CREATE TABLE entity (
          id {text} PRIMARY KEY, name {bytes} NOT NULL UNIQUE, version {whole} NOT NULL,
          body {bytes} NOT NULL
        ) {compact};
        CREATE TABLE alias (
          id {text} PRIMARY KEY, owner {text} NOT NULL, mount {text} NOT NULL,
          name {bytes} NOT NULL, of_group {whole} NOT NULL, version {whole} NOT NULL,
          body {bytes} NOT NULL,
          UNIQUE (mount, name, of_group)
        ) {compact};
        CREATE INDEX alias_owner ON alias (owner);
        CREATE TABLE identity_group (
          id {text} PRIMARY KEY, name {bytes} NOT NULL UNIQUE, version {whole} NOT NULL,
          body {bytes} NOT NULL
        ) {compact};
        CREATE TABLE group_member (
          group_id {text} NOT NULL, member {text} NOT NULL, kind {text} NOT NULL,
          PRIMARY KEY (group_id, member)
        ) {compact};
        CREATE INDEX group_member_member ON group_member (member);
        CREATE TABLE secret_id (
          mount {text} NOT NULL, id {bytes} NOT NULL, role {text} NOT NULL,
          accessor {text} NOT NULL, expires {number}, uses_left {whole} NOT NULL,
          version {whole} NOT NULL, body {bytes} NOT NULL,
          PRIMARY KEY (mount, id), UNIQUE (mount, accessor)
        ) {compact};
        CREATE INDEX secret_id_role ON secret_id (mount, role);
        CREATE INDEX secret_id_expires ON secret_id (expires) WHERE expires IS NOT NULL;
        CREATE INDEX secret_id_used ON secret_id (uses_left) WHERE uses_left < 0;
        CREATE TABLE failed_login (
          mount {text} NOT NULL, name {bytes} NOT NULL, lapses {number} NOT NULL,
          version {whole} NOT NULL, body {bytes} NOT NULL,
          PRIMARY KEY (mount, name)
        ) {compact};
        CREATE INDEX failed_login_lapses ON failed_login (lapses);
        """
    ),
    # Leases, cubbyholes, and tokens by where they were made.
    Step(
        """
        CREATE TABLE lease (
          id {text} PRIMARY KEY, mount {text} NOT NULL, token {bytes}, due {number},
          state {text} NOT NULL, attempts {whole} NOT NULL, version {whole} NOT NULL,
          body {bytes} NOT NULL
        ) {compact};
        CREATE INDEX lease_due ON lease (due) WHERE due IS NOT NULL;
        CREATE INDEX lease_token ON lease (token) WHERE token IS NOT NULL;
        CREATE INDEX lease_mount ON lease (mount);
        CREATE INDEX lease_stuck ON lease (id) WHERE state = 'irrevocable';
        CREATE TABLE cubbyhole (
          token {bytes} NOT NULL, name {bytes} NOT NULL, version {whole} NOT NULL,
          body {bytes} NOT NULL,
          PRIMARY KEY (token, name)
        ) {compact};
        ALTER TABLE token ADD COLUMN path {text};
        CREATE INDEX token_path ON token (path, id);
        """
    ),
    # Who leads which background work, and the key ring's terms.
    Step(
        """
        CREATE TABLE leader (
          task {text} PRIMARY KEY, node {text} NOT NULL, epoch {whole} NOT NULL,
          expires {number} NOT NULL
        ) {compact};
        CREATE TABLE key_use (term {whole} PRIMARY KEY, sealed {whole} NOT NULL);
        CREATE TABLE reseal (
          id INTEGER PRIMARY KEY CHECK (id = 1), term {whole} NOT NULL,
          started {number} NOT NULL, finished {number}, progress {bytes} NOT NULL
        );
        """
    ),
    # Which release a database needs, for the message of one that is too old.
    Step(
        "CREATE TABLE schema_release (id INTEGER PRIMARY KEY CHECK (id = 1), name {text} NOT NULL)"
    ),
    # Which nodes are there, by what they say of themselves.
    Step(
        """
        CREATE TABLE server (
          id {text} PRIMARY KEY, seen {number} NOT NULL, said {bytes} NOT NULL
        ) {compact}
        """
    ),
    # For whom a token counts: a quota that is everybody's is not one client's.
    Step(
        """
        ALTER TABLE token ADD COLUMN client {text};
        CREATE INDEX token_client ON token (client) WHERE client IS NOT NULL
        """
    ),
)
# From so many steps on a release is named, and a revision says that something has moved.
_SAYS_RELEASE: Final = 6
_HAS_REVISION: Final = 2
PUT_RELEASE: Final = upsert("schema_release", "id", "name")


def take_step(sql: Sql, dialect: Dialect, taken: int = 0, steps: Sequence[Step] = STEPS) -> bool:
    """Take one missing step, inside the caller's transaction; False when none is missing.

    `taken` is how many steps a database has that was made before it kept count of them.
    Raises Unavailable(`schema-too-new`) for a database that a later version has contracted.
    """
    sql.one(
        dialect.spell(
            "CREATE TABLE IF NOT EXISTS schema_state"
            " (id INTEGER PRIMARY KEY, taken {whole} NOT NULL, oldest {whole} NOT NULL)"
        )
    )
    sql.run(
        "INSERT INTO schema_state VALUES (1, ?, 0) ON CONFLICT DO NOTHING",
        taken,
    )
    # An update takes the row's lock, so that of programs that start together one takes the step.
    (done, oldest) = sql.one("UPDATE schema_state SET taken = taken RETURNING taken, oldest")
    check_schema(sql, len(steps))
    if done >= len(steps):
        return False
    step = steps[done]
    if done >= _HAS_REVISION:
        # First, as every write: the turn is taken before any table, so that nobody waits for
        # each other. And programs that run look whether they may go on.
        sql.one("UPDATE generation SET value = value + 1, revision = revision + 1 RETURNING value")
    for statement in step.statements.split(";"):
        if statement.strip():
            sql.run(dialect.spell(statement))
    done += 1
    sql.run("UPDATE schema_state SET taken = ?, oldest = ?", done, max(oldest, step.oldest))
    if step.release and done >= _SAYS_RELEASE:
        sql.run(PUT_RELEASE, 1, step.release)
    return True


def check_schema(sql: Sql, known: int) -> None:
    """Raise Unavailable(`schema-too-new`) where a program that knows so many steps must stop."""
    (taken, oldest) = sql.one("SELECT taken, oldest FROM schema_state")
    if oldest <= known:
        return
    named = sql.one("SELECT name FROM schema_release") if taken >= _SAYS_RELEASE else None
    needed = f"Strongroom {named[0]} or newer" if named else "a newer Strongroom"
    raise Unavailable(
        "schema-too-new",
        f"the database needs {needed}: it needs {oldest} steps of the schema,"
        f" this program knows {known}",
        hint="start that version; nothing was changed",
    )
