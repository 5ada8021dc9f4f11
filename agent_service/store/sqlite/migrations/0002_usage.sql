-- What was used, by hour: the sum of what the events of all tasks say, those that were erased included. What the columns
-- mean stands in `store/usage.py`. Filled from the journals that there are.
CREATE TABLE usage (
    tenant               TEXT    NOT NULL,
    hour                 INTEGER NOT NULL,  -- since 1970, UTC
    agent                TEXT    NOT NULL,  -- the tool where a task's kind is TOOL
    model                TEXT    NOT NULL,  -- its key; '' if none
    tasks                INTEGER NOT NULL,
    model_calls          INTEGER NOT NULL,
    tool_calls           INTEGER NOT NULL,
    input_tokens         INTEGER NOT NULL,
    cached_input_tokens  INTEGER NOT NULL,
    output_tokens        INTEGER NOT NULL,
    reasoning_tokens     INTEGER NOT NULL,
    cost_nanos           INTEGER NOT NULL,
    estimated_calls      INTEGER NOT NULL,
    estimated_tokens     INTEGER NOT NULL,
    estimated_cost_nanos INTEGER NOT NULL,
    unpriced_calls       INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, agent, model)
) WITHOUT ROWID;

-- The model that the task asks: of its newest request, before the first the one that it was accepted with.
ALTER TABLE tasks ADD COLUMN asked TEXT NOT NULL DEFAULT '';
