"""Other projects that do what this one does, each in an environment of its own. A run leaves out those not installed.

- `cases`: the rows that they add.
- `install`: builds the environments, of the versions in the `.txt` files beside it.

Their programs are in `programs/`: `a2a_server` and `fastapi_server` are the smallest servers with the same answer;
`openai_agents` and `langgraph_agent` run an agent with a calculator and a model that answers at once, in the loop of
`worker`; `openai_sdk` reads the typed stream of a reply with the openai package, which this project has.
"""
