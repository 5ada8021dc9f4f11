import os

from agent_service.client import Client

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")
with Client(target, api_key=os.environ["API_KEY"]) as client:
    task = client.submit("What is 12 * 12?", labels={"team": "billing"})

    seen = 0
    for event in client.watch(task.id):
        seen = event.sequence
        if event.HasField("model_started"):
            break  # leaving changes nothing: the task runs on
    for event in client.watch(task.id, after_sequence=seen):
        print(event.sequence, event.WhichOneof("event"))
    print(client.get_task(task.id).output)
