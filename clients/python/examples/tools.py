import os

from agent_service.client import Client

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")
with Client(target, api_key=os.environ["API_KEY"]) as client:
    for tool in client.list_tools():
        print(tool.name, "-", tool.description)

    response = client.invoke_tool("calculator", {"expression": "17.5% of 2340"})
    print(response.error.message if response.HasField("error") else response.output.string_value)
