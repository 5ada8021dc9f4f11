"""What happens around every RPC: small hooks in one order, folded into one gRPC interceptor by `chain`.

From the outside in; `on_call` runs in this order before the request is read, `on_end` in the reverse order:

    request_id     first, so that everything after it, also a refusal, can name the call
    access_log     outside whatever can refuse, so that refusals are logged
    metrics        the same for counts
    errors         inside log and metrics, so that they see the status that the caller gets
    auth           before limits: nobody uses up another's share without a key
    auth_failures  behind auth, whose refusals it counts, before anything looks at how the call ends
    rate_limit     last: what is refused above costs no quota
"""
