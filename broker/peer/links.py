"""Raft's connections to the other members, kept up.

A node sends on the connections it dialled and receives on those it accepted, so there is nothing to
negotiate about who dials whom. Messages that find no connection, or one whose peer does not read,
are dropped: Raft repeats what matters."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskGroup

from broker.errors import PeerError
from broker.peer.channel import Channel
from broker.peer.port import PeerPort
from broker.peer.wires import Receiver, Sender

RAFT_CHANNEL = "raft"
REDIAL_WAIT_S = (0.05, 0.5)

Address = tuple[str, int]

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class RaftInbox(Protocol):
    """What Raft wants to hear. Thread safe."""

    def receive(self, voter: str, data: bytes) -> None: ...
    def connected(self, voter: str) -> None: ...
    def disconnected(self, voter: str) -> None: ...
    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None: ...
    def unwatch(self, descriptor: int) -> None: ...


class RaftLinks:
    """Dials every address it is told of, and again when the connection is gone.

    It is the `Link` that a Raft node sends by, and it hands the node what arrives.
    """

    def __init__(self, port: PeerPort, rng: random.Random) -> None:
        self._port = port
        self._rng = rng
        self._senders: dict[str, Sender] = {}
        self._dialled: dict[Address, anyio.CancelScope] = {}
        self._told: frozenset[Address] = frozenset()
        self._callers: Counter[Address] = Counter()
        self._inbox: RaftInbox
        self._tasks: TaskGroup | None = None
        port.serve(RAFT_CHANNEL, self._serve)

    def send(self, voter: str, data: bytes) -> bool:
        """Thread safe, never blocks. False: dropped."""
        sender = self._senders.get(voter)
        return sender is not None and sender.send(data)

    async def run(
        self,
        inbox: RaftInbox,
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep the connections up until cancelled."""
        self._inbox = inbox
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            await anyio.sleep_forever()

    def set_addresses(self, addresses: frozenset[Address]) -> None:
        """Whom to dial: these, and whoever is connected to us: somebody who asks to be let in is
        in nobody's list. On the event loop, after `run` has started."""
        self._told = addresses
        self._dial()

    def _dial(self) -> None:
        assert self._tasks is not None, "not running"
        addresses = self._told | self._callers.keys()
        for address in set(self._dialled) - addresses:
            self._dialled.pop(address).cancel()
        for address in sorted(addresses - set(self._dialled)):
            scope = self._dialled[address] = anyio.CancelScope()
            self._tasks.start_soon(self._keep, address, scope)

    def connections(self) -> Mapping[str, object]:
        """Voters we can send to just now."""
        return dict(self._senders)

    # ---- sending ---------------------------------------------------------------------------------

    async def _keep(self, address: Address, scope: anyio.CancelScope) -> None:
        last_text = ""
        with scope:
            while True:
                try:
                    channel = await self._port.dial(*address, RAFT_CHANNEL)
                except (PeerError, OSError) as wrong:
                    text = str(wrong)
                    if isinstance(wrong, PeerError) and text != last_text:
                        _log.warning("a peer cannot be reached", address=address, reason=text)
                    last_text = text
                else:
                    last_text = ""
                    await self._send_all(channel)
                await anyio.sleep(self._rng.uniform(*REDIAL_WAIT_S))

    async def _send_all(self, channel: Channel) -> None:
        """Until the connection breaks. Of two connections to one voter the newer one counts."""
        voter = channel.peer.voter_id
        sender = self._senders[voter] = Sender(channel)
        self._inbox.connected(voter)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._notice_end, channel, tasks.cancel_scope)
                await sender.flush()
        except* OSError:
            pass
        finally:
            if self._senders.get(voter) is sender:
                del self._senders[voter]
                self._inbox.disconnected(voter)
            sender.close()
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(channel)

    async def _notice_end(self, channel: Channel, scope: anyio.CancelScope) -> None:
        """Nothing ever arrives here but the end."""
        try:
            await channel.receive()
        except (PeerError, OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        scope.cancel()

    # ---- receiving -------------------------------------------------------------------------------

    async def _serve(self, channel: Channel) -> None:
        voter = channel.peer.voter_id
        address = (channel.peer.host, channel.peer.port)
        has_port = bool(address[1])
        if has_port:
            if address not in self._dialled:
                _log.info("a peer we did not know of connects", voter=voter, address=address)
            self._callers[address] += 1
            if self._tasks is not None:
                self._dial()
        receiver = Receiver(channel, partial(self._inbox.receive, voter))
        descriptor = receiver.fileno()

        def read() -> None:
            if not receiver.read():
                self._inbox.unwatch(descriptor)

        self._inbox.watch(descriptor, read)
        try:
            await receiver.ended()
        finally:
            self._inbox.unwatch(descriptor)
            receiver.close()
            if has_port:
                self._callers -= Counter([address])
