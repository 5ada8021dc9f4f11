"""What happens around every RPC: one small module for each concern, in the order of `server/stack.py`.

- `base`: what an interceptor is, and its hooks
- `request_id`, `access_log`, `metrics`, `peer_identity`, `auth_failures`, `auth`, `tracing`, `admission`, `rate_limit`:
  one interceptor each
- `chain`: the handlers that grpc gets, with all interceptors around each
- `awaited`: ends the calls whose request does not come
"""
