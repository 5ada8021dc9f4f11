"""Live events of running tasks, from the process that drives a task to its watchers.

- `base`: the ports. `FeedWriter` publishes, `FeedReader` subscribes, `Channel` is the live side of one attempt.
- `frame`: an event as watchers receive it, serialised once for all of them; text frames are merged and cut here.
- `live_reply`: the text of the reply that a model writes now, for watchers that join in the middle.
- `memory`: the feed inside one process.
"""
