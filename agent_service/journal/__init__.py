"""What a journal is, whatever keeps it: pure rules, no I/O and no clock.

- `event_rules`: what each kind of event means to a journal. The one table of it.
- `usage`: what events use, and how it is summed.
- `append`: one append, checked and serialised.
- `append_rule`: whether an append is admitted, and what follows from it. Every store applies it.
- `refusals`: why an append is refused.
- `stamp`: what a journal adds to an event.
- `payloads`: events as stores keep them.

The engine and the service read rules and refusals; the engine stamps. Only stores admit.
"""
