"""Which files the SQLite store opens, and what it says of those that it does not."""
