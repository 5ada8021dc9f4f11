"""The wire: the only package beside the client that knows gRPC.

- `app`: the server, from taking its ports to leaving without breaking a task; `connections`, `tls`: how ports open
- `transport/`: the port between gRPC and the rest, and its adapters
- `methods`: one record for each RPC, out of the contract's options
- `stack`: the interceptors in their order, with the reasons; `interceptors/`: each of them, and the chain around a call
- `call`: an RPC as interceptors and servicer see it; `peer`: the caller's address
- `handlers`, `servicer`: the methods of our own service; `convert/`: their messages to plain values and back
- `status`: the one table from errors to statuses
- `health`, `readiness`, `reflection`, `channelz`: what operators and their tools ask
"""
