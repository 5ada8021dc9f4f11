"""The client for code without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar, Unpack

from agent_service.client.aio import LEAVE_S, PATIENCE_S, AsyncClient
from agent_service.client.requests import RunOptions, UsageOptions
from agent_service.client.tls import Tls
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1.agent_pb2 import Agent
from agent_service.v1.task_event_pb2 import TaskEvent
from agent_service.v1.task_pb2 import InputAnswer, Task
from agent_service.v1.tool_pb2 import Tool

T = TypeVar("T")


class Client:
    """A blocking AsyncClient. May be used from several threads.

        with Client("localhost:9000", api_key=key) as client:
            for event in client.stream("What is 17.5% of 2340?"):
                ...

    Its calls run in a separate thread. Interrupting a call (Ctrl-C), or leaving a stream early, cancels its task.
    Close a client only after other threads have finished with it: their open calls end with `CancelledError`.
    """

    def __init__(
        self, target: str, *, api_key: str = "", tls: Tls | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agent-service-client", daemon=True)
        self._leaving: list[asyncio.Task[None]] = []
        self._thread.start()
        try:
            self._client = self._wait(_made(target, api_key, tls, patience_s))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; open calls are cancelled."""
        if self._loop.is_closed():
            return
        self._wait(_closed(self._client))
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, task: str, *, deadline_s: float | None = None, **options: Unpack[RunOptions]) -> Task:
        """See `AsyncClient.run`."""
        return self._wait(self._client.run(task, deadline_s=deadline_s, **options))

    def stream(
        self, task: str, *, deadline_s: float | None = None, **options: Unpack[RunOptions]
    ) -> Iterator[TaskEvent]:
        """See `AsyncClient.stream`."""
        return self._iterate(self._client.stream(task, deadline_s=deadline_s, **options))

    def submit(self, task: str, *, deadline_s: float | None = None, **options: Unpack[RunOptions]) -> Task:
        """See `AsyncClient.submit`."""
        return self._wait(self._client.submit(task, deadline_s=deadline_s, **options))

    def watch(self, task_id: str, *, after_sequence: int = 0, deadline_s: float | None = None) -> Iterator[TaskEvent]:
        """See `AsyncClient.watch`."""
        return self._iterate(self._client.watch(task_id, after_sequence=after_sequence, deadline_s=deadline_s))

    def get_task(self, task_id: str, *, deadline_s: float | None = None) -> Task:
        """See `AsyncClient.get_task`."""
        return self._wait(self._client.get_task(task_id, deadline_s=deadline_s))

    def list_tasks(self, **wanted: Any) -> pb.ListTasksResponse:
        """See `AsyncClient.list_tasks`."""
        return self._wait(self._client.list_tasks(**wanted))

    def cancel(self, task_id: str, *, deadline_s: float | None = None) -> Task:
        """See `AsyncClient.cancel`."""
        return self._wait(self._client.cancel(task_id, deadline_s=deadline_s))

    def resume(self, task_id: str, input_id: str, answer: InputAnswer, *, deadline_s: float | None = None) -> Task:
        """See `AsyncClient.resume`."""
        return self._wait(self._client.resume(task_id, input_id, answer, deadline_s=deadline_s))

    def delete_task(self, task_id: str, *, deadline_s: float | None = None) -> None:
        """See `AsyncClient.delete_task`."""
        self._wait(self._client.delete_task(task_id, deadline_s=deadline_s))

    def delete_session(self, session_id: str, *, deadline_s: float | None = None) -> int:
        """See `AsyncClient.delete_session`."""
        return self._wait(self._client.delete_session(session_id, deadline_s=deadline_s))

    def invoke_tool(
        self,
        name: str,
        inputs: Mapping[str, Any] | str | None = None,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        deadline_s: float | None = None,
    ) -> pb.ToolInvokeResponse:
        """See `AsyncClient.invoke_tool`."""
        return self._wait(
            self._client.invoke_tool(name, inputs, timeout_s=timeout_s, request_id=request_id, deadline_s=deadline_s)
        )

    def list_agents(self, *, deadline_s: float | None = None) -> Sequence[Agent]:
        """See `AsyncClient.list_agents`."""
        return self._wait(self._client.list_agents(deadline_s=deadline_s))

    def list_tools(self, *, deadline_s: float | None = None) -> Sequence[Tool]:
        """See `AsyncClient.list_tools`."""
        return self._wait(self._client.list_tools(deadline_s=deadline_s))

    def get_usage(self, *, deadline_s: float | None = None, **wanted: Unpack[UsageOptions]) -> Sequence[pb.UsageRow]:
        """See `AsyncClient.get_usage`."""
        return self._wait(self._client.get_usage(deadline_s=deadline_s, **wanted))

    def health(self, service: str = "", *, deadline_s: float = 5.0) -> str:
        """See `AsyncClient.health`."""
        return self._wait(self._client.health(service, deadline_s=deadline_s))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the client is closed")
        done: Future[T] = Future()
        begun: list[asyncio.Task[T]] = []

        def begin() -> None:
            begun.append(self._loop.create_task(work))
            begun[0].add_done_callback(lambda task: _tell(task, done))

        def end() -> None:
            if begun:
                begun[0].cancel()
            else:
                work.close()
                done.cancel()

        try:
            self._loop.call_soon_threadsafe(begin)
            return done.result()
        except BaseException:
            # A KeyboardInterrupt, which reaches only this thread; it may arrive after the work has ended.
            if not done.done():
                self._loop.call_soon_threadsafe(end)
                with suppress(CancelledError, TimeoutError):
                    done.exception(LEAVE_S + 1)
            raise

    def _iterate(self, events: AsyncGenerator[TaskEvent]) -> Iterator[TaskEvent]:
        try:
            while True:
                try:
                    yield self._wait(_next(events))
                except StopAsyncIteration:
                    return
        finally:
            self._leave(events)

    def _leave(self, events: AsyncGenerator[TaskEvent]) -> None:
        if self._loop.is_closed():
            return
        if threading.current_thread() is self._thread:
            # The garbage collector may close a dropped stream in any thread; the loop's own thread must not wait here.
            self._leaving.append(self._loop.create_task(_close(events)))
        else:
            self._wait(_close(events))


def _tell(task: asyncio.Task[T], done: Future[T]) -> None:
    """Pass on the result or the exception."""
    if task.cancelled():
        done.set_exception(CancelledError())
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


async def _closed(client: AsyncClient) -> None:
    """Cancel the calls that other threads wait for, then close."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=LEAVE_S)
    await client.close()


async def _made(target: str, api_key: str, tls: Tls | None, patience_s: float) -> AsyncClient:
    """Create the client in the loop, because a connection belongs to the loop that creates it."""
    return AsyncClient(target, api_key=api_key, tls=tls, patience_s=patience_s)


async def _next(events: AsyncGenerator[TaskEvent]) -> TaskEvent:
    return await anext(events)


async def _close(events: AsyncGenerator[TaskEvent]) -> None:
    await events.aclose()
