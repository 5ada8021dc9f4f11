"""Which task runs next in this process.

`base` is the dispatcher port, which the service uses, and the view of what waits; `local` is its adapter in this
process. `take_up` alone decides who drives a task next. `local` claims from the `line`, which has a `fair_queue` and a
`quarantine`, while `slots` are free, and hands what it has claimed to the `runner`, which owns each `running_task`.
`blocked_sessions` finds out when a busy session is free, `session_history` what was said in it before.
"""
