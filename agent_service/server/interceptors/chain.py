"""Folds the interceptors into the one that grpc sees.

All of it happens in the call's handler, which begins with the headers: every handler is given to grpc as one that
reads a stream of requests, and reads its one request itself. So a call is counted, logged and ended exactly once
whether its request comes or not; one that sends headers alone gets a refusal at once where it is refused, and is ended
after `request_timeout_s` where it is not. grpc itself would wait for ever, and never begin the handler.

Every method's handler is wrapped once and kept; what belongs to one call travels in a context variable. Wrapped
handlers are coroutines: finalisers of a generator inside run in the RPC's own task, also when the client goes away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc import aio

from agent_service.errors import AgentServiceError, DeadlineError, InternalError, UnimplementedError, ValidationError
from agent_service.observe.log import EventLog
from agent_service.server.call import Call, Context, current_call, set_current_call
from agent_service.server.interceptors.awaited import AwaitedRequests
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.status import as_domain_error, code_of, status_text, trailers
from agent_service.v1 import error_reason_pb2 as reasons

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior = Callable[..., Any]

# That a caller went away is told in two parts: there is no request, and then, by cancelling, why.
LEAVING_S = 0.01
# A call that its caller cancels keeps its place on its connection for so long from its headers on. Else, by resetting
# each call at once, one connection could have far more of them begun than it may have open.
CANCELED_S = 1.0


class Chain(aio.ServerInterceptor):
    """Runs `interceptors` around every RPC.

    A request must have come `call_timeout_s` after its headers. A call whose caller set no deadline must be answered as
    long after that, unless it may stay open (`Call.is_open`).
    """

    def __init__(self, interceptors: Sequence[Interceptor], log: EventLog, *, call_timeout_s: float) -> None:
        self._on_begin = [one.on_begin for one in interceptors if type(one).on_begin is not Interceptor.on_begin]
        self._on_call = [one.on_call for one in interceptors if type(one).on_call is not Interceptor.on_call]
        self._on_error = [one.on_error for one in interceptors if type(one).on_error is not Interceptor.on_error]
        self._on_end = [one.on_end for one in reversed(interceptors) if type(one).on_end is not Interceptor.on_end]
        self._log = log
        self._call_timeout_s = call_timeout_s
        self._wrapped: dict[str, Handler] = {}
        self._unknown: Handler = self._wrap(grpc.stream_stream_rpc_method_handler(_no_such_method))
        self._awaited = AwaitedRequests(call_timeout_s, self._refuse_late)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is not None:
                wrapped = self._wrapped[method] = self._wrap(handler)
        metadata, repeated = _text_metadata(handler_call_details.invocation_metadata)
        set_current_call(Call(method, metadata, is_known=wrapped is not None, repeated=repeated))
        return self._unknown if wrapped is None else wrapped

    def _wrap(self, handler: Any) -> Handler:
        is_stream = handler.request_streaming
        deserialize = handler.request_deserializer if is_stream else None
        decode = None if is_stream else handler.request_deserializer or _as_it_is
        if handler.response_streaming:
            behavior = _writer(handler.stream_stream if is_stream else handler.unary_stream)
            around = self._around(behavior, decode)
            return grpc.stream_stream_rpc_method_handler(around, deserialize, handler.response_serializer)
        behavior = handler.stream_unary if is_stream else handler.unary_unary
        around = self._around(behavior, decode)
        return grpc.stream_unary_rpc_method_handler(around, deserialize, handler.response_serializer)

    def _around(self, behavior: Behavior, decode: Callable[[bytes], Any] | None) -> Behavior:
        """A handler with all hooks around it; `decode` is None where it reads its requests itself."""

        async def around(requests: Any, context: Context) -> Any:
            call = current_call()
            call.bind(context)
            try:
                for on_begin in self._on_begin:
                    on_begin(call)
                for on_call in self._on_call:
                    await on_call(call)
                if decode is not None:
                    requests = decode(await self._request(call, context))
                if not call.is_open and call.left_s() is None:
                    response = await self._in_time(behavior(requests, context))
                else:
                    response = await behavior(requests, context)
            except BaseException as error:  # noqa: BLE001 - raised again, or as what it became
                ended = await self._fail(call, error)
                # For grpc a call is one of the connection's open ones until its context has gone. Exceptions keep the
                # frames that they went through, and an aborted context keeps one: none of the frames may keep it.
                call.context = None
                try:
                    raise ended.with_traceback(None)
                finally:
                    del ended, call, context, requests
            self._end(call)
            return response

        return around

    async def _request(self, call: Call, context: Context) -> bytes:
        """The one request of the call."""
        request: Any = await self._awaited.read(call, context)
        if request is aio.EOF:
            await asyncio.sleep(LEAVING_S)
            message = "the call ended without a request"
            raise ValidationError([], reason=reasons.ERROR_REASON_MALFORMED_MESSAGE, message=message)
        body: bytes = request
        return body

    async def _refuse_late(self, call: Call) -> None:
        if call.context is None:
            return  # it has ended meanwhile
        call.error = self._late("the request did not come")
        await self._abort(call, call.error)  # the handler ends by it

    async def _in_time(self, answer: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._call_timeout_s) as timeout:
                return await answer
        except TimeoutError:
            if timeout.expired():
                raise self._late("the call had no deadline and was not answered") from None
            raise

    def _late(self, what: str) -> DeadlineError:
        return DeadlineError(reasons.ERROR_REASON_DEADLINE_EXCEEDED, f"{what} within {self._call_timeout_s:g} s")

    async def _fail(self, call: Call, error: BaseException) -> BaseException:
        """End a call that raised, and what its handler is to raise; a status that was sent already stands."""
        if isinstance(error, aio.AbortError):
            call.code = call.sent_code()
            self._end(call)
            return error
        domain = as_domain_error(error)
        if not isinstance(error, Exception):
            left_s = call.left_s()
            if left_s is not None and left_s <= 0:
                domain = DeadlineError(reasons.ERROR_REASON_DEADLINE_EXCEEDED, "the call's deadline passed")
            call.error = domain
            self._end(call)
            held_s = CANCELED_S - (time.perf_counter() - call.began)
            if held_s > 0:
                asyncio.get_running_loop().call_later(held_s, _let_go, call.context)
            return error
        if isinstance(domain, InternalError):
            # A bug's text must not reach the caller.
            self._log.error("fault", error, request_id=call.request_id, method=call.name, task_id=call.task_id)
        call.error = domain
        try:
            for on_error in self._on_error:
                await on_error(call)
        finally:
            self._end(call)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return await self._abort(call, call.error)

    async def _abort(self, call: Call, error: AgentServiceError) -> aio.AbortError:
        # What did not go out with the initial metadata goes with the trailers: clients find it in either.
        metadata = (*call.headers(), *trailers(error, call.request_id))
        try:
            await call.abort(code_of(error), status_text(error), metadata)
        except aio.AbortError as aborted:
            return aborted.with_traceback(None)

    def _end(self, call: Call) -> None:
        for on_end in self._on_end:
            on_end(call)


async def _no_such_method(_: object, __: Context) -> NoReturn:
    raise UnimplementedError(reasons.ERROR_REASON_METHOD_NOT_FOUND, "there is no such method")


def _let_go(_: Context | None) -> None:
    """It was held until now, and with it the call's place."""


def _as_it_is(request: bytes) -> bytes:
    return request


def _writer(behavior: Behavior) -> Behavior:
    """A streaming behaviour in coroutine style, also where it returns its messages or a context with them."""

    async def write_all(request: object, context: Context) -> None:
        result = behavior(request, context)
        if hasattr(result, "__aiter__"):
            result = aclosing(result)
        elif not hasattr(result, "__aenter__"):
            await result
            return
        async with result as messages:
            async for message in messages:
                await context.write(message)

    return write_all


def _text_metadata(
    metadata: Sequence[tuple[str, str | bytes]] | None,
) -> tuple[dict[str, str], Sequence[tuple[str, str]]]:
    """The first value of each text key, and the further ones."""
    first: dict[str, str] = {}
    repeated: list[tuple[str, str]] = []
    for key, value in metadata or ():
        if isinstance(value, str) and first.setdefault(key, value) is not value:
            repeated.append((key, value))
    return first, repeated
