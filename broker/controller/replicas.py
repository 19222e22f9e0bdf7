"""This node's share of the data: its copies, the streams that fill them, the seals and the file
work.

Everything here follows the metadata, whoever leads what; `leading.py` is about what this node
writes.
"""

from collections.abc import Awaitable, Callable

from anyio.abc import TaskGroup

from broker.controller.holding import Holding
from broker.controller.housekeeping import Housekeeping
from broker.controller.metadata import Metadata
from broker.controller.sealing import Sealing
from broker.controller.surplus import Surplus
from broker.controller.windows import Windows
from broker.ports import Clock
from broker.replication.copies import Copies, Key
from broker.replication.follow import Followers
from broker.replication.peers import Peers
from broker.replication.recoverer import Recoverer
from broker.replication.repair import CatchUp
from broker.replication.service import Led, Service
from broker.replication.store import Store
from engine.segment import Segment
from raft.state import ClusterState


class Replicas:
    """One node's. `on_change` is a metadata listener; `begin` starts the work."""

    def __init__(
        self,
        *,
        node: int,
        disk: bytes,
        metadata: Metadata,
        store: Store,
        peers: Peers,
        incarnation: Callable[[], int],
        led: Led,
        led_changed: Callable[[], Awaitable[None]],
        clock: Clock,
        on_progress: Callable[[bytes, int], None],
        on_failed: Callable[[Key, OSError], None],
    ) -> None:
        self._metadata = metadata
        self._store = store
        self.copies = Copies(store, on_failed=on_failed)
        self._followers = Followers(peers, incarnation=incarnation, space=store.space)
        self._holding = Holding(
            node=node, store=store, copies=self.copies, followers=self._followers
        )
        self.windows = Windows(
            node=node, metadata=metadata, store=store, copies=self.copies, peers=peers
        )
        catch_up = CatchUp(ensure=self._holding.ensure, store=store, peers=peers)
        self._sealing = Sealing(
            node=node,
            metadata=metadata,
            recoverer=Recoverer(node=node, copies=self.copies, peers=peers, catch_up=catch_up),
            now_ms=clock.now_ms,
        )
        self._housekeeping = Housekeeping(
            node=node,
            disk=disk,
            metadata=metadata,
            store=store,
            copies=self.copies,
            windows=self.windows,
            catch_up=catch_up,
            clock=clock,
        )
        self.service = Service(
            copies=self.copies,
            store=store,
            catch_up=catch_up,
            led=led,
            led_changed=led_changed,
            held=self._held,
            disk_of=self._disk_of,
            monotonic=clock.monotonic,
            on_progress=on_progress,
        )
        """What this node answers to other nodes."""

    def on_change(self, before: ClusterState, after: ClusterState) -> None:
        self._holding.on_change(before, after)
        self._sealing.on_change(before, after)
        self._housekeeping.on_change(before, after)

    @property
    def surplus(self) -> Surplus:
        """Copies that this node need not hold."""
        return self._housekeeping.surplus

    def resume(self, topic_id: bytes) -> None:
        """A copy of this topic that had failed was read back."""
        self._holding.resume(topic_id)

    def begin(self, tasks: TaskGroup, *, as_of: ClusterState) -> None:
        """What was stored, as of that metadata, has been read back: take part from here on."""
        self._holding.begin(self._metadata.state)
        self._housekeeping.begin(as_of)
        for work in (self._followers.run, self._sealing.run, self._housekeeping.run):
            tasks.start_soon(work)

    def _held(self, topic_id: bytes, sid: int) -> Segment | None:
        topic = self._metadata.state.topics.get(topic_id)
        return None if topic is None else self._store.log(topic.name, topic_id).get(sid)

    def _disk_of(self, node: int, incarnation: int) -> bytes | None:
        broker = self._metadata.state.brokers.get(node)
        if broker is None or broker.incarnation != incarnation or broker.fenced:
            return None
        return broker.disk
