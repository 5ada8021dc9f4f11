"""A server on FastAPI that checks a key and echoes a JSON document. Prints its port as JSON."""

from __future__ import annotations

import json
import socket
import sys
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

app = FastAPI()


class Run(BaseModel):
    task: str


@app.post("/run")
async def run(request: Run, x_api_key: Annotated[str, Header()]) -> Run:
    if x_api_key != "k" * 32:
        raise HTTPException(401)
    return request


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), backlog=1024)
    print(json.dumps({"port": listening.getsockname()[1], "bodies": {}}), flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.run(sockets=[listening])
