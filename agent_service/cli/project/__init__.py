"""The files of a new project, as `agent-service init` writes them. In `Dockerfile` and `env` it fills in `{…}`."""
