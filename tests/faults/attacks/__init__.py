"""What somebody who means harm may do to a server: each attack is one function, named by what it does.

    async def pings_without_end(victim: Victim) -> None

All of them come from another address than the innocent: what a server grants one address, the attackers take.
tests/faults/test_attacks.py runs every one that is in ATTACKS.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from tests.faults.attacks import callers, calls, connections, floods, messages
from tests.faults.attacks.victim import Victim

Attack = Callable[[Victim], Awaitable[None]]

ATTACKS: tuple[Attack, ...] = tuple(
    attack
    for module in (floods, connections, calls, callers, messages)
    for name, attack in vars(module).items()
    if inspect.iscoroutinefunction(attack) and attack.__module__ == module.__name__ and not name.startswith("_")
)
