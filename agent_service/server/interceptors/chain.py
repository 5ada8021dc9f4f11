"""Folds the interceptors into the one that grpc sees.

Hooks of the headers run in `intercept_service`, before the request is read: a refusal becomes a handler that never
reads it, so that a caller who sends nothing holds nothing. Every method's handler is wrapped once and kept; what
belongs to one call travels in a context variable. Wrapped handlers are coroutines: finalisers of a generator inside run
in the RPC's own task, also when the client goes away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc import aio

from agent_service.errors import AgentServiceError, DeadlineError, UnimplementedError
from agent_service.observe.log import EventLog
from agent_service.server.call import Call, Context, current_call, set_current_call
from agent_service.server.interceptors.base import Interceptor
from agent_service.server.status import as_domain_error, trailers
from agent_service.v1 import error_reason_pb2 as reasons

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior = Callable[..., Any]


class Chain(aio.ServerInterceptor):
    """Runs `interceptors` around every RPC."""

    def __init__(self, interceptors: Sequence[Interceptor], log: EventLog) -> None:
        self._on_call = [one.on_call for one in interceptors if type(one).on_call is not Interceptor.on_call]
        self._on_begin = [one.on_begin for one in interceptors if type(one).on_begin is not Interceptor.on_begin]
        self._on_error = [one.on_error for one in interceptors if type(one).on_error is not Interceptor.on_error]
        self._on_end = [one.on_end for one in reversed(interceptors) if type(one).on_end is not Interceptor.on_end]
        self._log = log
        self._wrapped: dict[str, Handler] = {}
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        call = Call(method, _text_metadata(handler_call_details.invocation_metadata))
        set_current_call(call)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is not None:
                wrapped = self._wrapped[method] = self._wrap(handler)
        call.is_known = wrapped is not None
        try:
            for on_call in self._on_call:
                await on_call(call)
            if wrapped is None:
                raise UnimplementedError(reasons.ERROR_REASON_METHOD_NOT_FOUND, "there is no such method")
        except AgentServiceError as error:
            call.error = error
            return self._refusal
        except Exception as error:  # noqa: BLE001 - a bug in a hook must not leak its text to the caller
            self._log.error("fault", error, request_id=call.request_id, method=call.name)
            call.error = as_domain_error(error)
            return self._refusal
        return wrapped

    async def _refuse(self, _: object, context: Context) -> None:
        call = self._begin(context)
        assert call.error is not None
        await self._abort(call, context, call.error)

    def _wrap(self, handler: Any) -> Handler:
        make: Any
        streams = handler.request_streaming
        if handler.response_streaming:
            wrapper = self._streaming(_writer(handler.stream_stream or handler.unary_stream))
            make = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_stream_rpc_method_handler
        else:
            wrapper = self._unary(handler.stream_unary or handler.unary_unary)
            make = grpc.stream_unary_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        wrapped: Handler = make(wrapper, handler.request_deserializer, handler.response_serializer)
        return wrapped

    def _unary(self, behavior: Behavior) -> Behavior:
        async def unary(request: object, context: Context) -> object:
            call = self._begin(context)
            try:
                response = await behavior(request, context)
            except BaseException as error:  # noqa: BLE001 - _fail raises it again, or what it became
                await self._fail(call, context, error)
            self._end(call)
            return response

        return unary

    def _streaming(self, write_all: Behavior) -> Behavior:
        async def streaming(request: object, context: Context) -> None:
            call = self._begin(context)
            try:
                await write_all(request, context)
            except BaseException as error:  # noqa: BLE001 - _fail raises it again, or what it became
                await self._fail(call, context, error)
            self._end(call)

        return streaming

    async def _fail(self, call: Call, context: Context, error: BaseException) -> NoReturn:
        """End a call that raised; a status that a handler of a library has set stands."""
        if isinstance(error, aio.AbortError):
            call.code = _code(context.code())
            self._end(call)
            raise error
        domain = as_domain_error(error)
        if not isinstance(error, Exception):
            left_s = call.left_s()
            if left_s is not None and left_s <= 0:
                domain = DeadlineError(reasons.ERROR_REASON_DEADLINE_EXCEEDED, "the call's deadline passed")
            call.error = domain
            self._end(call)
            raise error
        if domain is not error:
            self._log.error("fault", error, request_id=call.request_id, method=call.name, task_id=call.task_id)
        await self._abort(call, context, domain)

    async def _abort(self, call: Call, context: Context, error: AgentServiceError) -> NoReturn:
        call.error = error
        for on_error in self._on_error:
            await on_error(call)
        error = call.error
        self._end(call)
        # What did not go out with the initial metadata goes with the trailers: clients find it in either.
        metadata = (*call.headers(), *trailers(error, call.request_id))
        await context.abort(call.code, error.bounded_message, metadata)
        raise AssertionError  # abort raises; mypy does not know

    def _begin(self, context: Context) -> Call:
        call = current_call()
        call.bind(context)
        for on_begin in self._on_begin:
            on_begin(call)
        return call

    def _end(self, call: Call) -> None:
        for on_end in self._on_end:
            on_end(call)


def _writer(behavior: Behavior) -> Behavior:
    """A streaming behaviour in coroutine style, whichever of the two it was written in."""

    async def write_all(request: object, context: Context) -> None:
        result = behavior(request, context)
        if not hasattr(result, "__aiter__"):
            await result
            return
        async with aclosing(result) as messages:
            async for message in messages:
                await context.write(message)

    return write_all


def _code(code: object) -> grpc.StatusCode:
    """The code that a context holds, which is an int where abort was given one."""
    if isinstance(code, grpc.StatusCode):
        return code
    return next((known for known in grpc.StatusCode if known.value[0] == code), grpc.StatusCode.UNKNOWN)


def _text_metadata(metadata: Sequence[tuple[str, str | bytes]] | None) -> dict[str, str]:
    text: dict[str, str] = {}
    for key, value in metadata or ():
        if isinstance(value, str):
            text.setdefault(key, value)
    return text
