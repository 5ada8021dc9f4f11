"""Somebody without a key, or with very many."""

from __future__ import annotations

import jwt

from tests.fakes.identity_provider import IdentityProvider, elliptic
from tests.faults.attacks.victim import CANARY, SERVICE, Call, Victim, check


async def tries_ten_thousand_keys(victim: Victim) -> None:
    """Each another one; after the first few the address is told to wait."""
    start, end = victim.key[:-8], victim.key[-8:]
    calls = [
        Call(f"{SERVICE}/RunTask", key=key)
        for number in range(victim.times(2500))
        for key in (f"{CANARY}-{number}", f"{start}{number:08}", f"{number}{end}", "k" * (number % 200))
    ]
    async with victim.connection() as connection:
        check(await victim.answers(connection, calls), "16", "8")


async def tries_keys_from_many_addresses(victim: Victim) -> None:
    """What is counted by address must not grow with them."""
    for number in range(victim.times(250)):
        async with victim.connection(source=f"127.0.0.{number % 250 + 3}") as connection:
            wrong = [Call(f"{SERVICE}/RunTask", key=f"{CANARY}-{number}-{one}") for one in range(10)]
            check(await victim.answers(connection, wrong), "16", "8")


async def forges_tokens(victim: Victim) -> None:
    """Signed by nobody, by somebody else, by the public key, cut off, and no token at all."""
    head, claims, signature = victim.token.split(".")
    provider = IdentityProvider()
    forged = [
        jwt.encode({"sub": "alice", "tenant": "acme"}, "", "none"),
        provider.token(key=elliptic("one")),
        provider.token(key=elliptic("another")),
        f"{head}.{claims}.",
        f"{head}.{claims}.{signature[::-1]}",
        f"{head}.{claims[:-3]}.{signature}",
        f"{'A' * 4000}.{claims}.{signature}",
        "eyJ..",
        "." * 1000,
    ]
    calls = [
        Call(f"{SERVICE}/RunTask", metadata=(("authorization", f"Bearer {token}"),), key="")
        for token in forged * victim.times(200)
    ]
    async with victim.connection() as connection:
        # 14: the provider's keys are fetched when the first token comes.
        check(await victim.answers(connection, calls), "14", "16", "8")


async def has_very_many_good_keys(victim: Victim) -> None:
    """What is kept for each must not grow with their number, nor with that of their calls."""
    calls = [Call(f"{SERVICE}/ListTools", key=key) for key in victim.keys]
    async with victim.connection() as connection:
        for _ in range(victim.times(15)):
            check(await victim.answers(connection, calls), "0")
