"""The transport on gRPC's C-core without `grpc.aio`: the event loop itself takes the events of the completion queue.

`grpc.aio` wakes the loop through a socket for each operation of a call; here one turn of the loop takes all events that
are there (docs/adr/0035).

- `server`: the ports, the calls that come in, and the stop
- `pump`: takes the events of the queue, on the loop while there are any, else on a thread
- `context`: one call
- `core`: the names of grpcio's private module that this package uses
"""
