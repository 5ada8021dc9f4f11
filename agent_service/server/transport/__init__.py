"""The transport: binds ports, accepts calls, runs their handlers, sends replies.

- `base`: the port, in terms of gRPC's public values
- `grpc_aio`: the adapter on `grpc.aio`
- `loop/`: the adapter on the completion queue of gRPC's C-core, the default

`API_TRANSPORT` chooses. What every adapter does is a suite in `tests/server/transport/`.
"""
