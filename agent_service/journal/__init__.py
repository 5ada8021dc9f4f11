"""The rules of journals, independent of the store: pure, no I/O and no clock.

- `event_rules`: the only table of the meaning of each kind of event
- `usage`: the usage of events, and its sums
- `append`: one append, checked and serialised
- `append_rule`: admission of appends, applied by every store
- `refusals`: the reasons for refused appends
- `stamp`: sets an event's task, attempt, time and sequence
- `payloads`: events in their stored form

The engine and the service use rules and refusals; the engine stamps events. Only stores admit appends.
"""
