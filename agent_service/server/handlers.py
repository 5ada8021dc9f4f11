"""Binds the servicer's methods to the contract's descriptor.

Requests are decoded here and not by gRPC, which answers a malformed message with UNKNOWN and the parser's text before
any handler runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from agent_service.errors import ValidationError
from agent_service.feed.frame import Frame
from agent_service.server.call import Call
from agent_service.server.methods import SERVICE
from agent_service.v1 import agent_service_pb2 as pb
from agent_service.v1 import error_reason_pb2 as reasons

M = TypeVar("M", bound=Message)
# The result of a streaming method: its frames are written unchanged, and the context is left after the last frame.
Frames: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Frame]]

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["AgentService"]


def agent_service_handlers(servicer: object) -> grpc.GenericRpcHandler:
    """Return the handlers of every method in the contract. A servicer that lacks one fails at start."""
    methods = {method.name: _handler(method, getattr(servicer, method.name)) for method in DESCRIPTOR.methods}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _handler(method: MethodDescriptor, behavior: Callable[..., Any]) -> grpc.RpcMethodHandler[Any, Any]:
    request_class = GetMessageClass(method.input_type)
    serialize = GetMessageClass(method.output_type).SerializeToString

    async def unary(request: bytes, call: Call) -> Message:
        response: Message = await behavior(decode(request_class, request), call)
        if not call.task_id:
            await call.send_initial_metadata()
        return response

    def stream(request: bytes, call: Call) -> Frames:
        frames: Frames = behavior(decode(request_class, request), call)
        return frames

    if method.server_streaming:
        # All streaming methods stream events; a test checks that.
        return grpc.unary_stream_rpc_method_handler(stream, None, Frame.wire)
    return grpc.unary_unary_rpc_method_handler(unary, None, serialize)


def decode(request_class: type[M], request: bytes) -> M:
    """Return the decoded request.

    Raises:
        ValidationError: MALFORMED_MESSAGE, without the parser's text.
    """
    try:
        return request_class.FromString(request)
    except DecodeError as error:
        name = request_class.DESCRIPTOR.full_name
        reason, message = reasons.ERROR_REASON_MALFORMED_MESSAGE, f"the request is no {name}"
        raise ValidationError([], reason=reason, message=message, metadata={"message": name}) from error
