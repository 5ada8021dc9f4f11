import os

from agent_service.client import Client

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")
with Client(target, api_key=os.environ["API_KEY"]) as client:
    task = client.run("What is 17.5% of 2340?")
    print(task.output)
