"""Contenders: servers and libraries that are measured beside each other, each a process on the servers' core.

- `base`: a contender, started; a case, which is one kind of call to it; and a sample, which is what a round measured.
- `echo`: a bare server of the same gRPC library, on uvloop.
- `echo_server`: that server's process.
- `service`: this service as `serve` starts it, of this checkout or of another one.
- `service_calls`: the calls to the service that are measured.
- `worker`: libraries that run in process.
"""
