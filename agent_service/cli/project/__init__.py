"""The files of a new project, as `agent-service init` writes them. In `Dockerfile` and `env` it fills in `{…}`.

- `shop_tools`: tools of the project
- `test_shop_tools`: their tests
"""
