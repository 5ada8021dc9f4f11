import os

from agent_service.client import CallError, Client
from agent_service.v1.error_reason_pb2 import ErrorReason
from agent_service.v1.task_pb2 import TASK_STATE_FAILED

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")
with Client(target, api_key=os.environ["API_KEY"]) as client:
    try:
        client.run("", agent="no such agent")
    except CallError as error:
        print(error.code, error.reason)  # INVALID_ARGUMENT FIELD_INVALID
        for field, description in error.violations:
            print(field, description)
        if error.retry_after_s is not None:
            print("may succeed in", error.retry_after_s, "s")

    # A task that ran and failed is an answer.
    task = client.run("say hello", tokens_max=1)
    if task.state == TASK_STATE_FAILED:
        print(ErrorReason.Name(task.failure.reason), task.failure.message)
