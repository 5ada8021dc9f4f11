import os
import uuid

from agent_service.client import Client

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")
with Client(target, api_key=os.environ["API_KEY"]) as client:
    session = f"trip-{uuid.uuid4()}"
    client.run("I am going to Tokyo.", session_id=session)
    print(client.run("Where am I going?", session_id=session).output)

    page = client.list_tasks(session_id=session, page_size=1)
    while page.tasks:
        for task in page.tasks:
            print(task.id, task.usage.input_tokens)
        if not page.next_page_token:
            break
        page = client.list_tasks(session_id=session, page_size=1, page_token=page.next_page_token)

    print(client.delete_session(session), "tasks erased")
