-- Begun tasks without an owner: drained, or answered. They are few, and looked for every second among all queued ones.
CREATE INDEX tasks_released ON tasks (state) WHERE state = 2 AND owner = '';
