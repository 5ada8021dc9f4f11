"""One call on the completion queue: the operations on it, and the task of its handler."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import grpc

from agent_service.server.transport.base import END, AbortError, Metadata, NotSentError
from agent_service.server.transport.loop.core import (
    CALL_OK,
    NEVER_S,
    NO_FLAGS,
    OK,
    UNKNOWN,
    ReceiveClose,
    ReceiveMessage,
    SendInitialMetadata,
    SendMessage,
    SendStatus,
    auth_context,
)

logger = logging.getLogger(__name__)


class QueueState:
    """The state of a server's queue. The core aborts the process at an operation on a queue that is shut down."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = True


class LoopContext:
    """One call, from its headers on. It is also the iterator of its requests.

    The core counts a call as open on its connection until the object `_rpc` is freed. It is released once the call has
    ended; that of a call that its client cancelled, with this context, so that a handler can keep its place.
    """

    __slots__ = (
        "_aborted",
        "_code",
        "_ends_at",
        "_headers",
        "_is_begun",
        "_is_closed",
        "_is_finished",
        "_is_receiving",
        "_is_sending",
        "_is_status_sent",
        "_loop",
        "_metadata",
        "_queue",
        "_room",
        "_rpc",
        "_sent_headers",
        "_serialize",
        "_task",
        "_unread",
        "_waiter",
    )

    def __init__(self, event: Any, queue: QueueState, loop: asyncio.AbstractEventLoop) -> None:
        self._rpc = event.call
        self._metadata = event.invocation_metadata
        self._ends_at = _loop_time(event.call_details.deadline, loop)
        self._queue = queue
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._serialize: Callable[[Any], bytes] | None = None
        self._headers: Metadata | None = None
        self._sent_headers = False
        self._waiter: asyncio.Future[Any] | None = None
        self._unread: Any = None
        self._is_receiving = False
        self._is_sending = False
        self._room: asyncio.Future[bool] | None = None  # of a writer that waits
        self._aborted: AbortError | None = None
        self._code: Any = None
        self._is_begun = False
        self._is_status_sent = False
        self._is_finished = False
        self._is_closed = False
        self._begin((ReceiveClose(NO_FLAGS),), self._on_closed)
        self._receive()  # it has often come with the headers: then the handler need not wait for it

    def peer(self) -> str:
        return "" if self._is_over else self._rpc.peer().decode()

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        found = None if self._is_over else auth_context(self._rpc)
        return {key.decode(): values for key, values in found.items()} if found else {}

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        metadata: Sequence[tuple[str, str | bytes]] = self._metadata
        return metadata

    def time_remaining(self) -> float | None:
        return None if self._ends_at is None else max(self._ends_at - self._loop.time(), 0.0)

    def code(self) -> Any:
        return self._code

    def __aiter__(self) -> LoopContext:
        return self

    async def __anext__(self) -> Any:
        request = await self.read()
        if request is END:
            raise StopAsyncIteration
        return request

    async def read(self) -> Any:
        self._raise_if_over()
        if self._unread is not None:  # it came before this read, or the read that it was for has been cancelled
            request, self._unread = self._unread, None
            return request
        waiter = self._waiter = self._loop.create_future()
        if not self._is_receiving:
            self._receive()
        request = await waiter
        if self._aborted is not None:
            raise self._aborted
        return request

    async def write(self, message: Any) -> None:
        self._raise_if_over()
        if self._is_sending:  # one message is under way, and one waits
            await self._sent()
        self._send(message)

    @property
    def is_ready(self) -> bool:
        """True if the client has room for a message: `send` does not wait."""
        return not (self._is_sending or self._is_status_sent or self._is_closed) and self._queue.is_open

    def send(self, message: Any) -> None:
        """Send a response without waiting, if `is_ready`. If it cannot be sent, the handler is cancelled."""
        try:
            self._send(message)
        except Exception:
            logger.exception("a message could not be sent")
            self._cancel_call()

    def _send(self, message: Any) -> None:
        operation = SendMessage(self._serialize(message) if self._serialize else message, NO_FLAGS)
        operations = (operation,) if self._sent_headers else (*self._headers_due(), operation)
        self._begin(operations, self._on_sent)
        self._is_sending = True

    async def _sent(self) -> None:
        """Wait until the core has taken the message that is being sent."""
        room = self._room = self._loop.create_future()
        try:
            was_taken = await room
        finally:
            self._room = None
        if not was_taken:
            raise NotSentError("the call has ended")
        if self._aborted is not None:
            raise self._aborted

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Send them at the next turn of the loop, or with the reply if it comes before."""
        self._raise_if_over()
        if self._sent_headers or self._headers is not None:
            raise RuntimeError("the initial metadata has been sent")
        self._headers = initial_metadata
        self._loop.call_soon(self._send_headers)

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata = ()) -> NoReturn:
        if self._aborted is None:
            self._aborted = AbortError("aborted")
            self._code = code
            self._finish(code.value[0], details, trailing_metadata)
            if self._waiter is not None:
                _settle_with(self._waiter, END)
        raise self._aborted

    def start(self, handler: Any) -> asyncio.Task[None]:
        """Begin the handler in a task of its own."""
        self._serialize = handler.response_serializer
        task = self._task = self._loop.create_task(self._run(handler))
        return task

    def refuse(self, code: int, details: str) -> None:
        """End a call that has no handler."""
        self._finish(code, details)

    async def _run(self, handler: Any) -> None:
        self._is_begun = True
        try:
            if handler.response_streaming:
                await handler.stream_stream(self, self)
                self._finish(OK, "")
            else:
                response = await handler.stream_unary(self, self)
                self._finish(OK, "", (), SendMessage(self._serialize(response) if self._serialize else response, 0))
        except AbortError as aborted:
            aborted.__traceback__ = None  # its frames keep this context, which keeps it
        except (asyncio.CancelledError, NotSentError):
            if not self._is_closed and not self._is_status_sent:
                self._cancel_call()
        except Exception:
            logger.exception("a handler failed")
            self._finish(UNKNOWN, "the handler failed")
        finally:
            self._task = None

    def _finish(self, code: int, details: str, trailing_metadata: Metadata = (), *messages: Any) -> None:
        """Send what ends the call, in one batch; once."""
        if self._is_status_sent:
            return
        self._is_status_sent = True
        try:
            status = SendStatus(tuple(trailing_metadata), code, details.encode(), NO_FLAGS)
            self._begin((*self._headers_due(), *messages, status), self._on_finished)
        except BaseException as error:
            self._cancel_call()  # else nothing would ever end it
            if not isinstance(error, NotSentError):
                raise

    def _headers_due(self) -> Sequence[Any]:
        if self._sent_headers:
            return ()
        self._sent_headers = True
        return (SendInitialMetadata(tuple(self._headers or ()), NO_FLAGS),)

    def _send_headers(self) -> None:
        if self._sent_headers or self._is_over:
            return
        try:
            self._begin(self._headers_due(), _ignore)
        except BaseException:
            self._cancel_call()  # else the client would wait for them
            raise

    def _begin(self, operations: Sequence[Any], tag: Callable[[Any], None]) -> None:
        """Give a batch to the core, which calls `tag` when it has ended.

        Raises:
            NotSentError: the core does not take it.
        """
        if not self._queue.is_open or self._rpc is None or self._rpc.start_server_batch(operations, tag) != CALL_OK:
            raise NotSentError("the call has ended")

    def _receive(self) -> None:
        self._begin((ReceiveMessage(NO_FLAGS),), self._on_received)
        self._is_receiving = True

    def _raise_if_over(self) -> None:
        if self._aborted is not None:
            raise self._aborted
        if self._is_status_sent:
            raise NotSentError("the call has ended")

    @property
    def _is_over(self) -> bool:
        return self._is_closed or not self._queue.is_open

    def _on_received(self, event: Any) -> None:
        self._is_receiving = False
        message = event.batch_operations[0].message()
        if self._waiter is None or not _settle_with(self._waiter, END if message is None else message):
            self._unread = message  # after the last request the next read asks the core again
        self._waiter = None

    def _on_sent(self, event: Any) -> None:
        self._is_sending = False
        if self._room is not None:
            _settle_with(self._room, bool(event.success))

    def _on_closed(self, event: Any) -> None:
        self._is_closed = True
        if not event.batch_operations[0].cancelled() or self._is_status_sent:
            self._release()
        elif self._is_begun:
            self._cancel_task()
        else:
            # Each call is counted and logged by its handler: it begins before it is cancelled.
            self._loop.call_soon(self._cancel_task)

    def _on_finished(self, event: Any) -> None:
        self._is_finished = True
        if not event.success and not self._is_closed:
            self._cancel_call()  # the core did not take the reply
        self._release()

    def _release(self) -> None:
        if self._is_closed and self._is_finished:
            self._rpc = None

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _cancel_call(self) -> None:
        if self._queue.is_open and self._rpc is not None:
            self._rpc.cancel()


def _loop_time(deadline: float, loop: asyncio.AbstractEventLoop) -> float | None:
    """Return a deadline by the loop's clock, which does not jump; None if the call has none."""
    return None if deadline > NEVER_S else loop.time() + deadline - time.time()


def _settle_with(waiter: asyncio.Future[Any], result: Any) -> bool:
    if waiter.done():
        return False
    waiter.set_result(result)
    return True


def _ignore(event: Any) -> None:
    """The batch needs no answer: if it failed, the call has ended, which `_on_closed` is called for."""
