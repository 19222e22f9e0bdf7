"""A connection to the admin port that gives its place up. uvicorn loads it when it begins to serve.

uvicorn waits for the first request of a connection for ever. Each takes a descriptor, and a probe
that finds no place has a healthy node killed.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX = 128
"""At once; more are closed. Scrapers and probes need a handful."""

SILENCE_S = 30
"""Who asks nothing for so long is cut off."""


class Connection(H11Protocol):
    """See the module's text."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive = SILENCE_S
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
        else:
            # As after each reply. It is taken back when there is a request.
            self.timeout_keep_alive_task = self.loop.call_later(
                SILENCE_S, self.timeout_keep_alive_handler
            )
