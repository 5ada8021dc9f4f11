"""The interceptors around every RPC: one small module for each concern, in the order of `server/stack.py`.

- `base`: the interface of an interceptor
- `request_id`, `access_log`, `metrics`, `peer_identity`, `auth_failures`, `auth`, `tracing`, `admission`, `rate_limit`:
  one interceptor each
- `chain`: the handlers for gRPC, with all interceptors around each
- `awaited`: ends calls whose request does not arrive
"""
