"""The smallest gRPC server on a2a-sdk: a task that ends at once, kept in memory, or one whose text comes in deltas.

Prints one JSON object: its port, and the bodies of the requests.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import uvloop
from a2a.helpers.proto_helpers import (
    new_task_from_user_message,
    new_text_artifact,
    new_text_artifact_update_event,
    new_text_message,
    new_text_status_update_event,
)
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server
from grpc import aio

ANSWER = "an answer of a peer, as fast as it can"


class Executor(AgentExecutor):
    """Ends a task at once, or writes so many deltas 10 ms apart before."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task = new_task_from_user_message(context.message)
        words = context.get_user_input().split()
        if words[0] != "deltas":
            task.status.state = pb.TASK_STATE_COMPLETED
            task.artifacts.append(new_text_artifact("answer", ANSWER))
            await event_queue.enqueue_event(task)
            return
        await event_queue.enqueue_event(task)
        for number in range(int(words[1])):
            if number:
                await asyncio.sleep(0.01)
            delta = new_text_artifact_update_event(
                task.id, task.context_id, "answer", "some word or other ", append=number > 0, artifact_id="1"
            )
            await event_queue.enqueue_event(delta)
        ended = new_text_status_update_event(task.id, task.context_id, pb.TASK_STATE_COMPLETED, ANSWER)
        await event_queue.enqueue_event(ended)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


def request(text: str) -> str:
    message = new_text_message(text, role=pb.ROLE_USER)
    return base64.b64encode(pb.SendMessageRequest(message=message).SerializeToString()).decode()


async def main(port: int) -> None:
    card = pb.AgentCard(name="bench", version="1", capabilities=pb.AgentCapabilities(streaming=True))
    handler = DefaultRequestHandler(agent_executor=Executor(), task_store=InMemoryTaskStore(), agent_card=card)
    server = aio.server(options=(("grpc.so_reuseport", 0),))
    add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    bodies = {"task": request("hello"), "stream": request("deltas 20")}
    print(json.dumps({"port": bound, "bodies": bodies}), flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
