"""Finds the handler of a call, and runs all interceptors around it.

Every handler is registered with gRPC as one that reads a stream of requests, and reads its single request itself. So it
starts with the headers, and a call is counted, logged and ended exactly once, whether its request arrives or not. A
call that sends only headers is refused at once if an interceptor refuses it, and ends after `call_timeout_s` otherwise.
gRPC itself would wait without a limit, and never start the handler.

Every method's handler is wrapped once, at start; the state of one call is in its Call. Wrapped handlers are coroutines:
finalisers of a generator inside run in the RPC's own task, even when the client disconnects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, NoReturn, TypeAlias

import grpc

from agent_service.errors import AgentServiceError, DeadlineError, InternalError, UnimplementedError, ValidationError
from agent_service.observe.log import EventLog
from agent_service.server.call import Call
from agent_service.server.interceptors.awaited import AwaitedRequests
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.methods import Method, Methods
from agent_service.server.status import as_domain_error, code_of, limit_of, status_text, trailers
from agent_service.server.transport.base import END, AbortError, Context
from agent_service.v1 import error_reason_pb2 as reasons

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior = Callable[..., Any]

# gRPC reports a disconnected caller in two steps: first no request arrives, then the handler is cancelled.
LEAVING_S = 0.01
# A call that its caller cancels keeps its place on its connection for this long after its headers. Otherwise, by
# resetting each call at once, one connection could start far more calls than it may have open.
CANCELED_S = 1.0


# The tokens of the interceptors whose `on_call` has succeeded for a call, in order.
Tokens: TypeAlias = list[Any]


class Hooks:
    """The hooks that the classes of the interceptors override. Those after `on_call` have the index of their token."""

    def __init__(self, interceptors: Sequence[Interceptor[Any]]) -> None:
        self.on_call: list[tuple[Callable[[Call], Any] | None, bool]] = []  # True: it is awaited
        self._on_error: list[tuple[int, Callable[[Any, Call], Awaitable[None]]]] = []
        self._on_end: list[tuple[int, Callable[[Any, Call], None]]] = []  # the last interceptor first
        for index, interceptor in enumerate(interceptors):
            of = type(interceptor)
            is_called = of.on_call is not Interceptor.on_call
            self.on_call.append((interceptor.on_call if is_called else None, iscoroutinefunction(of.on_call)))
            if of.on_error is not Interceptor.on_error:
                self._on_error.append((index, interceptor.on_error))
            if of.on_end is not Interceptor.on_end:
                self._on_end.insert(0, (index, interceptor.on_end))

    async def fail(self, call: Call, tokens: Tokens) -> None:
        """Run `on_error` of the interceptors that have a token, in order."""
        for index, on_error in self._on_error:
            if index < len(tokens):
                await on_error(tokens[index], call)

    def end(self, call: Call, tokens: Tokens) -> None:
        """Run `on_end` of the interceptors that have a token, in reverse order."""
        call.took_s = time.perf_counter() - call.began
        for index, on_end in self._on_end:
            if index < len(tokens):
                on_end(tokens[index], call)


class Chain(grpc.GenericRpcHandler):
    """Finds the handler of each call among `handlers`, and runs `interceptors` around it.

    A handler gets its request as bytes, and the Call instead of gRPC's context. A request must arrive within
    `call_timeout_s` of its headers. A call without a deadline must be answered within the same time after its request,
    unless its method stays open.
    """

    def __init__(
        self,
        methods: Methods,
        handlers: Sequence[grpc.GenericRpcHandler],
        interceptors: Sequence[Interceptor[Any]],
        log: EventLog,
        *,
        call_timeout_s: float,
    ) -> None:
        self._methods = methods
        self._hooks = Hooks(interceptors)
        self._log = log
        self._call_timeout_s = call_timeout_s
        self._awaited = AwaitedRequests(call_timeout_s, self._refuse_late)
        self._wrapped = {
            method.path: self._wrap(method, handler)
            for method in methods
            if (handler := _handler_of(method.path, handlers)) is not None
        }
        no_such_method: Handler = grpc.stream_stream_rpc_method_handler(_no_such_method)
        self._unknown = self._wrap(Method(), no_such_method)
        self._unknown_public = self._wrap(Method(is_public=True), no_such_method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        path = handler_call_details.method
        found = self._wrapped.get(path)
        if found is not None:
            return found
        return self._unknown_public if self._methods.is_public(path) else self._unknown

    def _wrap(self, method: Method, handler: Any) -> Handler:
        reads_itself = handler.request_streaming
        if handler.response_streaming:
            behavior = _writer(handler.stream_stream if reads_itself else handler.unary_stream)
            around = self._around(method, behavior, reads_itself=reads_itself)
            return grpc.stream_stream_rpc_method_handler(around, None, handler.response_serializer)
        behavior = handler.stream_unary if reads_itself else handler.unary_unary
        around = self._around(method, behavior, reads_itself=reads_itself)
        return grpc.stream_unary_rpc_method_handler(around, None, handler.response_serializer)

    def _around(self, method: Method, behavior: Behavior, *, reads_itself: bool) -> Behavior:
        """Return the handler with all hooks around it."""
        hooks, awaited = self._hooks, self._awaited

        async def around(requests: Any, context: Context) -> Any:
            call = Call(method, context)
            tokens: Tokens = []
            try:
                for on_call, waits in hooks.on_call:
                    token: Any = on_call(call) if on_call else None
                    tokens.append(await token if waits else token)
                if not reads_itself:
                    requests = await awaited.read(call, context)
                    if requests is END:
                        await _refuse_without_request()
                if not method.stays_open and call.left_s() is None:
                    response = await self._in_time(behavior(requests, call))
                else:
                    response = await behavior(requests, call)
            except BaseException as error:  # noqa: BLE001 - raised again, possibly as another error
                ended = await self._fail(call, tokens, error)
                # gRPC counts a call as open on its connection until its context is freed. Exceptions keep their frames
                # alive, and an aborted context keeps an exception: so no frame may reference the context.
                call.context = None
                try:
                    raise ended.with_traceback(None)
                finally:
                    del ended, call, context, requests, tokens
            hooks.end(call, tokens)
            return response

        return around

    async def _refuse_late(self, call: Call) -> None:
        if call.context is None:
            return  # the call has ended meanwhile
        call.error = self._late("the request did not come")
        await self._abort(call, call.error)  # this makes the handler's read raise

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

    async def _fail(self, call: Call, tokens: Tokens, error: BaseException) -> BaseException:
        """End a call that raised. Return the error that its handler must raise. A status that was sent is kept."""
        if isinstance(error, AbortError):
            call.code = call.sent_code()
            self._hooks.end(call, tokens)
            return error
        domain = as_domain_error(error)
        if not isinstance(error, Exception):
            left_s = call.left_s()
            if left_s is not None and left_s <= 0:
                domain = DeadlineError(reasons.ERROR_REASON_DEADLINE_EXCEEDED, "the call's deadline passed")
            call.fail(domain)
            self._hooks.end(call, tokens)
            held_s = CANCELED_S - (time.perf_counter() - call.began)
            if held_s > 0:
                asyncio.get_running_loop().call_later(held_s, _release, call.context)
            return error
        if isinstance(domain, InternalError):
            # A bug's text must not reach the caller.
            self._log.error("fault", error, request_id=call.request_id, method=call.method.path, task_id=call.task_id)
        call.fail(domain)
        try:
            await self._hooks.fail(call, tokens)
        finally:
            self._hooks.end(call, tokens)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return await self._abort(call, call.error or domain)

    async def _abort(self, call: Call, error: AgentServiceError) -> AbortError:
        call.limited_by(limit_of(error))
        # Headers that were not sent with the initial metadata are sent with the trailers: clients read both.
        metadata = (*call.headers(), *trailers(error, call.request_id))
        try:
            await call.abort(code_of(error), status_text(error), metadata)
        except AbortError as aborted:
            return aborted.with_traceback(None)


class _Details(NamedTuple):
    """The key that handlers are found by."""

    method: str


def _handler_of(path: str, handlers: Sequence[grpc.GenericRpcHandler]) -> Handler | None:
    details: Any = _Details(path)
    return next((found for handler in handlers if (found := handler.service(details)) is not None), None)


async def _refuse_without_request() -> NoReturn:
    await asyncio.sleep(LEAVING_S)
    message = "the call ended without a request"
    raise ValidationError([], reason=reasons.ERROR_REASON_MALFORMED_MESSAGE, message=message)


async def _no_such_method(_: object, __: Call) -> NoReturn:
    raise UnimplementedError(reasons.ERROR_REASON_METHOD_NOT_FOUND, "there is no such method")


def _release(_: Context | None) -> None:
    """Do nothing: the timer's reference to the context kept the call's place on its connection until now."""


def _writer(behavior: Behavior) -> Behavior:
    """Return a streaming handler as a coroutine, also if it returns an iterator of messages or a context with one."""

    async def write_all(request: object, call: Call) -> None:
        assert call.context is not None
        write = call.context.write
        result = behavior(request, call)
        if hasattr(result, "__aiter__"):
            result = aclosing(result)
        elif not hasattr(result, "__aenter__"):
            await result
            return
        async with result as messages:
            async for message in messages:
                await write(message)

    return write_all
