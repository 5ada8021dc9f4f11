import os

from agent_service.client import Client

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")
with Client(target, api_key=os.environ["API_KEY"]) as client:
    for event in client.stream("What is 17.5% of 2340?"):
        match event.WhichOneof("event"):
            case "tool_started":
                print(event.sequence, "calls", event.tool_started.name)
            case "model_replied":
                print(event.sequence, "says", event.model_replied.text)
            case "completed":
                print(event.sequence, "took", event.completed.usage.output_tokens, "tokens")
            case "failed":
                print(event.sequence, "failed:", event.failed.failure.message)
