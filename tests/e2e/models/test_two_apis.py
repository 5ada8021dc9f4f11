"""Tasks of several turns over both of OpenAI's APIs, before a provider that refuses what the real ones refuse."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_service.client import AsyncClient
from agent_service.v1.task_pb2 import TASK_STATE_COMPLETED
from tests.e2e.processes import KEY, server_process
from tests.e2e.strict import ASKED, Model, asking, carries, noted, the_environments
from tests.fakes.provider import Exchange, finish, hang, status, stream, text
from tests.fakes.strict.model import CHAT, RESPONSES
from tests.fakes.strict.server import Call, StrictProvider

# How many pieces of a model's own state come back in a task of five turns: those of the first turn with each of five
# requests, those of the second with four ...
CARRIED = 5 + 4 + 3 + 2 + 1


@pytest.fixture
async def provider() -> AsyncIterator[StrictProvider]:
    async with StrictProvider() as provider:
        yield provider


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
async def test_a_key_an_address_and_a_model_are_enough(tmp_path: Path, provider: StrictProvider, path: str) -> None:
    settings = the_environments(provider, "gpt-5.6-strict", "responses" if path == RESPONSES else "chat")
    async with (
        server_process(tmp_path, **settings) as server,
        AsyncClient(server.target, api_key=KEY) as client,
    ):
        tasks = [await client.run(f"{turns} turns") for turns in (2, 5)]
    assert provider.refusals == []
    assert [task.output for task in tasks] == ["fine: 2, 4", "fine: 2, 4, 6, 8, 10"]
    assert provider.carried == (3 + 15 if path == RESPONSES else 0)
    assert {request.path for request in provider.requests} == {f"/v1{path}"}


async def test_five_turns_of_two_calls_with_every_model(tmp_path: Path, provider: StrictProvider) -> None:
    async with asking(tmp_path, provider, *ASKED) as asked:
        for model in ASKED:
            before = provider.carried
            assert (model, await asked.run(model.name, "5 turns of 2 calls")) == (model, noted(5, 2))
            assert (model, sorted(asked.take_notes())) == (model, list(range(1, 11)))
            assert (model, provider.carried - before) == (model, CARRIED if carries(model) else 0)


@pytest.mark.parametrize(("model", "api"), [("gpt-5.6-strict", "responses"), ("gemini-3-pro", "chat")])
async def test_a_kill_before_each_request_loses_no_reasoning_and_repeats_no_tool(
    tmp_path: Path, provider: StrictProvider, model: str, api: str
) -> None:
    settings = the_environments(provider, model, api)
    task_id = ""
    for _ in range(3):
        is_asked = asyncio.Event()

        async def says_nothing(exchange: Exchange, is_asked: asyncio.Event = is_asked) -> None:
            is_asked.set()
            await hang(exchange)

        provider.will(says_nothing)
        async with asking(tmp_path, provider, **settings) as asked, asyncio.timeout(20):
            task_id = task_id or (await asked.client.submit("3 turns")).id
            await is_asked.wait()
            asked.server.process.send_signal(signal.SIGKILL)
        provider.will(provider.play)  # the request that the next life repeats
    async with asking(tmp_path, provider, **settings) as asked, asyncio.timeout(20):
        async for _ in asked.client.watch(task_id):
            pass
        task = await asked.client.get_task(task_id)
        assert provider.refusals == []
        assert (task.state, task.output) == (TASK_STATE_COMPLETED, noted(3))
        assert asked.take_notes() == [1, 2, 3]
    assert provider.carried == 3 + 2 + 1


async def test_tasks_of_one_session_carry_the_reasoning_of_those_before(
    tmp_path: Path, provider: StrictProvider
) -> None:
    async with asking(tmp_path, provider, **the_environments(provider, "gpt-5.6-strict", "responses")) as asked:
        for _ in range(3):
            assert await asked.run("default", "2 turns", session_id="one") == noted(2)
    last = provider.requests[-1].body["input"]
    # Three times two turns, each with its reasoning, and two answers with theirs.
    reasoning = [item["id"] for item in last if item.get("type") == "reasoning"]
    assert len(reasoning) == len(set(reasoning)) == 8


async def test_a_key_that_changes_in_a_task_costs_the_reasoning_and_not_the_task(
    tmp_path: Path, provider: StrictProvider
) -> None:
    async def changes_its_key(exchange: Exchange) -> None:
        provider.change_key()
        await provider.play(exchange)

    provider.will(provider.play, provider.play, changes_its_key)
    async with asking(tmp_path, provider, **the_environments(provider, "gpt-5.6-strict", "responses")) as asked:
        task = await asked.client.run("4 turns")
        assert [refusal.code for refusal in provider.refusals] == ["invalid_encrypted_content"]
        assert (task.state, task.output) == (TASK_STATE_COMPLETED, noted(4))
        assert asked.take_notes() == [1, 2, 3, 4]
    assert provider.carried == 1 + 1 + 2  # that of the first turn once, then that of the third and the fourth


# Replies that a strict server refuses to read again.

SLIPS = {
    1: (Call("note", '{"number": '),),
    2: (Call("note", "null"), Call("no.te", "[1]")),
    3: (Call("n" * 80, ""), Call("note", '"x"')),
    4: (Call("note", '{"number": "\\u0000"}'), Call("note", "\x01")),
}


async def test_broken_calls_do_not_poison_the_task_or_its_session(tmp_path: Path, provider: StrictProvider) -> None:
    async with asking(tmp_path, provider, *ASKED) as asked:
        for model in ASKED:
            provider.slips |= SLIPS
            output = await asked.run(model.name, "5 turns", session_id=model.name)
            assert (model, output.partition(":")[0], output[-7:]) == (model, "fine", "noted 5")
            provider.slips.clear()
            assert (model, await asked.run(model.name, "2 turns", session_id=model.name)) == (model, noted(2))
            assert (model, asked.take_notes()) == (model, [5, 1, 2])


async def test_an_empty_reply_is_asked_again_and_is_not_repeated_to_the_provider(
    tmp_path: Path, provider: StrictProvider
) -> None:
    provider.will(provider.play, stream(text(""), finish()))
    async with asking(tmp_path, provider, **the_environments(provider, "plain-1", "chat")) as asked:
        assert await asked.run("default", "2 turns") == noted(2)


# From one API to the other in the middle of a task, and back.


def falling(first: Model, second: Model) -> Model:
    return Model(f"{first.name}-{second.name}", first.model_id, first.api, fallbacks=[second.name])


REASONING = next(model for model in ASKED if (model.model_id, model.api) == ("gpt-5.6-strict", "responses"))
OTHER = next(model for model in ASKED if (model.model_id, model.api) == ("gpt-5-strict", "responses"))
CHATTING = [model for model in ASKED if model.api == "chat"]


async def test_a_task_goes_on_over_chat_and_comes_back(tmp_path: Path, provider: StrictProvider) -> None:
    await fall_back_and_return(tmp_path, provider, [falling(REASONING, model) for model in CHATTING])


async def test_a_task_goes_on_over_responses_and_comes_back(tmp_path: Path, provider: StrictProvider) -> None:
    await fall_back_and_return(tmp_path, provider, [falling(model, REASONING) for model in CHATTING])


async def test_a_task_goes_on_with_another_model_of_the_same_api(tmp_path: Path, provider: StrictProvider) -> None:
    await fall_back_and_return(tmp_path, provider, [falling(REASONING, OTHER)])


async def fall_back_and_return(tmp_path: Path, provider: StrictProvider, models: list[Model]) -> None:
    """Turns of the first model, the second, the first, the second, and again the first."""
    away = (status(503), provider.play)
    async with asking(tmp_path, provider, *ASKED, *models) as asked:
        for model in models:
            before, asked_before = provider.carried, len(provider.requests)
            provider.will(provider.play, *away, provider.play, *away)
            output = await asked.run(model.name, "5 turns of 2 calls", session_id=model.name)
            assert (model, output) == (model, noted(5, 2))
            assert (model, await asked.run(model.name, "1 turn", session_id=model.name)) == (model, noted(1))
            assert (model, len(asked.take_notes())) == (model, 11)
            # The first model's own turns come back behind those of the other.
            assert (model, provider.carried - before > 5) == (model, carries(model))
            assert len({(one.path, one.body["model"]) for one in provider.requests[asked_before:]}) == 2
