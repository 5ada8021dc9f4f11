-- A task's columns are what finding it, and deciding about an append to it, needs. Everything else about it is in its
-- events, and all that is here follows from them.
CREATE TABLE tasks (
    task_key      INTEGER PRIMARY KEY,  -- in the order of creation; short, because every event repeats it
    id            TEXT    NOT NULL UNIQUE,
    tenant        TEXT    NOT NULL,
    kind          INTEGER NOT NULL,     -- agent_service.v1.TaskKind
    agent         TEXT    NOT NULL,
    session_id    TEXT    NOT NULL,     -- '' if none
    request_id    TEXT    NOT NULL,     -- '' if none, or if it names a younger task by now
    create_time   INTEGER NOT NULL,     -- µs since 1970
    state         INTEGER NOT NULL,     -- agent_service.v1.TaskState
    attempt       INTEGER NOT NULL,     -- the newest
    last_sequence INTEGER NOT NULL,
    owner         TEXT    NOT NULL,     -- the worker that drives it; '' if none does
    due           INTEGER NOT NULL,     -- when it is overdue without an owner, in µs since 1970; 0 for never
    update_time   INTEGER NOT NULL      -- µs since 1970
);

-- Most tasks are over. The states are those of `base.TERMINAL`; SQLite uses an index with a condition only where a query
-- repeats it word by word. It ends every index with the row's key, so each of them is in the order of creation too.
CREATE INDEX tasks_unfinished ON tasks (owner) WHERE state NOT IN (4, 5, 6, 7);
CREATE INDEX tasks_due ON tasks (due) WHERE state NOT IN (4, 5, 6, 7) AND due <> 0;
CREATE INDEX tasks_finished ON tasks (update_time) WHERE state IN (4, 5, 6, 7);
CREATE INDEX tasks_of_tenant ON tasks (tenant);
CREATE INDEX tasks_unfinished_of_tenant ON tasks (tenant) WHERE state NOT IN (4, 5, 6, 7);
CREATE INDEX tasks_of_session ON tasks (tenant, session_id) WHERE session_id <> '';
CREATE INDEX tasks_unfinished_of_session ON tasks (tenant, session_id)
    WHERE session_id <> '' AND state NOT IN (4, 5, 6, 7);
CREATE UNIQUE INDEX tasks_of_request ON tasks (tenant, request_id) WHERE request_id <> '';

CREATE TABLE events (
    task_key INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    payload  BLOB    NOT NULL,          -- agent_service.v1.TaskEvent without its sequence
    PRIMARY KEY (task_key, sequence)
) WITHOUT ROWID;

CREATE TABLE labels (
    tenant   TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    task_key INTEGER NOT NULL,
    PRIMARY KEY (tenant, key, value, task_key)
) WITHOUT ROWID;
CREATE INDEX labels_of_task ON labels (task_key);

-- The processes that share the store. Beside its row each holds a lock on a file, as long as it lives.
CREATE TABLE workers (
    id       TEXT    PRIMARY KEY,
    beat     INTEGER NOT NULL,          -- when it last said that it lives, in µs since 1970
    attended TEXT    NOT NULL           -- the ids of tasks that callers waited for there then, with a space around each
) WITHOUT ROWID;

-- What `Store.check` writes to.
CREATE TABLE probe (writes INTEGER NOT NULL);
INSERT INTO probe VALUES (0);
