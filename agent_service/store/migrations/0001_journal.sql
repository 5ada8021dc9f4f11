-- A task's columns are what finding it needs. Everything else about it is in its events, and all but `update_time` of
-- what is here follows from them.
CREATE TABLE tasks (
    task_key      INTEGER PRIMARY KEY,  -- in the order of creation; short, because every event repeats it
    id            TEXT    NOT NULL UNIQUE,
    tenant        TEXT    NOT NULL,
    kind          INTEGER NOT NULL,     -- agent_service.v1.TaskKind
    agent         TEXT    NOT NULL,
    state         INTEGER NOT NULL,     -- agent_service.v1.TaskState
    attempt       INTEGER NOT NULL,     -- the newest
    last_sequence INTEGER NOT NULL,
    create_time   INTEGER NOT NULL,     -- µs since 1970
    update_time   INTEGER NOT NULL      -- µs since 1970
);

-- Recovery asks for tasks that are not terminal. The states are those of `base.TERMINAL`; SQLite uses the index only
-- where a query repeats this condition word by word.
CREATE INDEX tasks_unfinished ON tasks (id) WHERE state NOT IN (4, 5, 6, 7);

-- A tenant's tasks, newest first: SQLite ends every index with the row's key.
CREATE INDEX tasks_of_tenant ON tasks (tenant);

CREATE TABLE events (
    task_key INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    payload  BLOB    NOT NULL,          -- agent_service.v1.TaskEvent without its sequence
    PRIMARY KEY (task_key, sequence)
) WITHOUT ROWID;

-- What `Store.check` writes to.
CREATE TABLE probe (writes INTEGER NOT NULL);
INSERT INTO probe VALUES (0);
