-- The id of the key that the task was submitted with. Filled from the journals that there are.
ALTER TABLE tasks ADD COLUMN submitted_by TEXT NOT NULL DEFAULT '';
-- What one key did, whatever else its tenant has.
CREATE INDEX tasks_of_key ON tasks (tenant, submitted_by);
