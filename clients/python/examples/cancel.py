import asyncio
import os

from agent_service.client import AsyncClient

target = os.environ.get("AGENT_SERVICE_TARGET", "localhost:9000")


async def main() -> None:
    async with AsyncClient(target, api_key=os.environ["API_KEY"]) as client:
        # The task's own time: the task ends as FAILED.
        print((await client.run("say hello", timeout_s=30)).output)

        # The caller's time: the task ends a little before it, so that the call is still answered.
        print((await client.run("say hello", deadline_s=30)).output)

        # Anything else: a call that is cancelled cancels its task.
        try:
            async with asyncio.timeout(0.5):
                await client.run("think without end")
        except TimeoutError:
            print("stopped")


asyncio.run(main())
