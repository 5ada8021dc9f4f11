-- Where a task's last append stands among those of all tasks, for whoever follows them. NULL where that was before this
-- column: what was stored then is followed once it grows.
ALTER TABLE tasks ADD COLUMN position INTEGER;
CREATE INDEX tasks_by_position ON tasks (position) WHERE position IS NOT NULL;

-- The newest position. Kept apart from the tasks: one that is erased must not give its position to another.
CREATE TABLE positions (last INTEGER NOT NULL);
INSERT INTO positions VALUES (0);
