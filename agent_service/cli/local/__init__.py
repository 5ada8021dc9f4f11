"""Commands that work on this machine: they start a server, or prepare and examine what it needs."""
