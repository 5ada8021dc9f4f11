"""Which task runs next in this process.

`base` is the dispatcher port, which the service uses, and the view of waiting tasks; `local` is its adapter in this
process. `take_up` alone decides which process drives a task next. `local` claims tasks from the `line` (a `fair_queue`
and a `quarantine`) while `slots` are free, and passes them to the `runner`, which owns each `running_task`.
`blocked_sessions` detects when a busy session becomes free, `session_history` reads its earlier messages.
"""
