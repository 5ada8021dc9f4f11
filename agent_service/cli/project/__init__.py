"""The files of a new project, written by `agent-service init`, which replaces `{…}` in `Dockerfile` and `env`.

- `shop_tools`: tools of the project
- `test_shop_tools`: their tests
"""
