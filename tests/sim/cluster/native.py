"""Native clients: PUT without a retry, GET from the one cursor that all of them share.

A value is handed out at most once, by whichever node. Nothing that was acknowledged is skipped,
unless the answer of a GET was lost: each may have taken one record along.
"""

from dataclasses import dataclass, field
from functools import partial

import anyio

from broker.ports import Pending
from tests.broker.replies import received
from tests.sim.cluster.clients import Client
from tests.sim.cluster.node import Process
from tests.sim.cluster.world import World
from tests.sim.history import History

TOPIC = b"native"
EMPTY = b"EMPTY"


@dataclass(slots=True)
class Ledger:
    """What all native clients know together."""

    put: set[bytes] = field(default_factory=set)
    """Acknowledged."""
    sent: set[bytes] = field(default_factory=set)
    taken: set[bytes] = field(default_factory=set)
    lost_gets: int = 0
    """GETs that took nobody knows what."""

    def take(self, value: bytes, history: History) -> None:
        if value not in self.sent:
            history.anomaly("native", f"GET answered {value!r}, which nobody sent")
        if value in self.taken:
            history.anomaly("native", f"{value!r} was handed out twice")
        self.taken.add(value)

    def check(self, history: History) -> None:
        """Once the topic was read to its end."""
        skipped = sorted(self.put - self.taken)
        if len(skipped) > self.lost_gets:
            history.anomaly(
                "native",
                f"{len(skipped)} values were acknowledged and never handed out, {skipped[0]!r}"
                f" first; {self.lost_gets} answers were lost",
            )


class NativeClient(Client):
    """One connection after the other, to any node."""

    def __init__(self, world: World, history: History, name: str, ledger: Ledger) -> None:
        super().__init__(world, history, name)
        self.ledger = ledger
        self.put_rate = self.rng.choice([0.3, 0.6])
        self._count = 0

    async def run(self) -> None:
        await self.register()
        while not self.is_stopping:
            await anyio.sleep(self.rng.expovariate(15.0))
            if self.rng.random() < self.put_rate:
                await self._put()
            else:
                await self.get()

    async def register(self) -> None:
        while await self._say(b"REGISTER " + TOPIC) != b"OK":
            await self.pause()

    async def drain(self) -> None:
        """Take what is left. An error may hide a record, but not for ever."""
        empty_count = 0
        while empty_count < 3:
            empty_count = empty_count + 1 if await self.get() == EMPTY else 0
            await anyio.sleep(0.01)

    async def _put(self) -> None:
        self._count += 1
        value = b"%s.%d" % (self.name.encode(), self._count)
        self.ledger.sent.add(value)
        if await self._say(b"PUT %s %s" % (TOPIC, value)) == b"OK":
            self.ledger.put.add(value)
            self.history.note("native", "put", value)

    async def get(self) -> bytes | None:
        reply = await self._say(b"GET " + TOPIC)
        if reply is not None and reply.startswith(b"OK "):
            self.ledger.take(reply[3:], self.history)
            self.history.note("native", "get", reply)
        elif reply != EMPTY:
            self.ledger.lost_gets += 1
        return reply

    async def _say(self, frame: bytes) -> bytes | None:
        """The reply without its prefix; None if there was none."""
        timeout_s = self.rng.choice([0.5, 5.0, 15.0])
        return await self.anyone(partial(_serve, frame), timeout_s=timeout_s)


async def _serve(frame: bytes, process: Process) -> bytes:
    session = process.native.session("a client")
    if process.world.takes_quick_way():
        is_alone = process.world.takes_quick_way()
        pending = session.begin_now(memoryview(frame), is_alone=is_alone, is_next=True)
        if pending is not None:
            return await _settled(pending)
    finish = await session.begin(memoryview(frame))
    return received(await finish())[4:]


async def _settled(pending: Pending) -> bytes:
    """What no task of the server waits for."""
    ready = anyio.Event()
    pending.on_ready = ready.set
    if not pending.is_ready:
        await ready.wait()
    return received(pending.take())[4:]
