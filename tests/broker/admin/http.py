"""One HTTP request to an ASGI app, without a socket, or to a port, without a library."""

import json
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.types import ASGIApp, Message


@dataclass
class Answer:
    code: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def get(
    app: ASGIApp, path: str, *, method: str = "GET", content_type: str = "", body: bytes = b""
) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", content_type.encode())] if content_type else [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    headers = dict(sent[0]["headers"])
    return Answer(
        sent[0]["status"],
        headers.get(b"content-type", b"").decode(),
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


async def get_from(port: int, path: str) -> bytes:
    """The whole response of one request on a connection of its own."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream])
