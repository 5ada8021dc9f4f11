-- Lists of one agent's tasks, whatever else the tenant has.
CREATE INDEX tasks_of_agent ON tasks (tenant, agent);
