"""What happens around every RPC: small hooks in one order, folded into one gRPC interceptor by `chain`.

From the outside in; `on_begin` and `on_call` run in this order before the request is read, `on_end` in the reverse:

    request_id   first, so that everything after it, also a refusal, can name the call
    end_span     outside whatever writes or counts: log lines and exemplars name the call's span
    access_log   outside whatever can refuse, so that refusals are logged
    metrics      the same for counts
    errors       inside log and metrics, so that they see the status that the caller gets
    identity     before auth, which asks for it: read while grpc surely has it
    failures     outside auth: counts what it refused, by peer
    auth         before limits: nobody uses up another's share without a key
    begin_span   after auth, for known callers alone
    admission    after auth, which tells the key; whoever has none takes no place
    rate_limit   last: what is refused above costs no quota
"""
