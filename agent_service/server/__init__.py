"""The gRPC server. No other package besides the client depends on gRPC.

- `app`: the server: bind, start, drain, stop; `connections`, `tls`: options and credentials of its ports
- `transport/`: the port between gRPC and the rest of the server, and its adapters
- `methods`: one record for each RPC, from the options in the contract
- `stack`: the interceptors in order, with the reasons; `interceptors/`: each of them, and the chain around a call
- `call`: the state of an RPC, for interceptors and servicer; `peer`: the caller's address
- `handlers`, `servicer`: the methods of AgentService; `convert/`: their messages to plain values and back
- `status`: the only table from errors to statuses
- `health`, `readiness`, `reflection`, `channelz`: services for operators and their tools;
  `reflection_servicer`: what reflection answers
"""
