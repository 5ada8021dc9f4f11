import json
import os

from agent_service.client import Client, approve, deny

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")
with Client(target, api_key=os.environ["API_KEY"]) as client:
    task = client.run("pay 5 to ann", agent="cashier")
    for pending in task.pending_inputs:
        is_small = int(json.loads(pending.tool_call.arguments_json)["amount"]) < 10
        client.resume(task.id, pending.input_id, approve() if is_small else deny("ask the manager"))
    for event in client.watch(task.id, after_sequence=task.last_sequence):
        if event.HasField("completed"):
            print(event.completed.output)
