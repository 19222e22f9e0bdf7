"""Who else there is: what a node that joins asks those it was told of.

Only Raft's leader lets anybody in, and the one a newcomer was told of may be another. So it asks
that one for the addresses of all, and wishes to be let in from each of them.
"""

from collections.abc import Callable, Iterable

import anyio
import msgspec

from broker.errors import PeerError
from broker.peer import Channel, PeerPort

CHANNEL = "peers"

ANSWER_S_MAX = 2.0
"""How long one that is asked may take."""

Address = tuple[str, int]

_decode = msgspec.msgpack.Decoder(list[Address]).decode
_GONE = (PeerError, OSError, anyio.EndOfStream, anyio.BrokenResourceError, msgspec.MsgspecError)


class Introductions:
    """One node's end of it. `known` are the peer addresses of all nodes it knows of."""

    def __init__(self, port: PeerPort, known: Callable[[], Iterable[Address]]) -> None:
        self._port = port
        self._known = known
        port.serve(CHANNEL, self._tell)

    async def _tell(self, channel: Channel) -> None:
        await channel.send([msgspec.msgpack.encode(sorted(self._known()))])

    async def ask(self, host: str, port: int) -> frozenset[Address]:
        """Whom the node there knows; nobody, if it does not answer."""
        found: frozenset[Address] = frozenset()
        with anyio.move_on_after(ANSWER_S_MAX):
            try:
                async with await self._port.dial(host, port, CHANNEL) as channel:
                    (answer, *_) = await channel.receive()
                    found = frozenset(_decode(answer))
            except _GONE:
                pass
        return found
