"""`python -m agent_service` is `agent-service`."""

from agent_service.cli import main

if __name__ == "__main__":
    main()
