"""A node's life in its cluster, from its registration to its farewell.

A process that registers is a new *incarnation* of its node, numbered by the Raft index of the
registration. What earlier ones left open is sealed before this one serves; if the cluster takes it
for dead, it comes back as another one; before it stops, it has others lead what it leads, and says
that it goes. (Kafka: the BrokerLifecycleManager. The heartbeats between are in `liveness.py`.)
"""

from contextlib import suppress

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from broker.controller.leading import Leading
from broker.controller.liveness import Liveness
from broker.controller.metadata import Metadata
from broker.controller.restart import Restart
from broker.errors import MetadataUnavailable, RequestError
from raft.commands import Barrier, FenceBroker, FormCluster, RegisterBroker

_log = structlog.get_logger(__name__)

HAND_OVER_S = 5.0
"""How long a node that stops tries to give its topics to others."""

ALONE_S, ALONE_CHECK_S = 0.3, 0.05
"""For how long no majority may be connected before a node that stops gives up handing over, and how
often is looked."""

START_PATIENCE_S = 10.0
"""How long a start waits until this node's topics can be written again. Alone it always can; in a
cluster, other nodes may have to come first."""


class Lifecycle:
    """Of one process. `register`, `doubt` if need be, `begin_to_lead`, `hand_over`, in this order;
    `fenced` between."""

    def __init__(
        self,
        *,
        node: int,
        metadata: Metadata,
        liveness: Liveness,
        leading: Leading,
        restart: Restart,
    ) -> None:
        self._node = node
        self._metadata = metadata
        self._liveness = liveness
        self._leading = leading
        self._restart = restart
        self._register: RegisterBroker | None = None
        self._tasks: TaskGroup | None = None
        self._is_rejoining = False
        self.incarnation = 0
        """0 before the registration."""

    async def register(
        self, tasks: TaskGroup, *, cluster_id: str, register: RegisterBroker
    ) -> None:
        """Form the cluster if there is none yet (of id `cluster_id`), and be one of its nodes.

        Waits for a majority of the cluster as long as it takes. Raises MetadataUnavailable when
        the cluster refuses this node.
        """
        self._tasks = tasks
        if not self._metadata.state.cluster_id:
            await self._metadata.insist(FormCluster(cluster_id))
        await self._metadata.insist(Barrier())
        await self._be_registered(register)
        # What this process has written since, it has: only an earlier one's writes may be lost.
        self._register = msgspec.structs.replace(register, clean=True)

    async def doubt(self) -> None:
        """Register anew, as a disk that vouches for none of its unsealed segments. Raises as
        `register`."""
        assert self._register is not None
        await self._be_registered(msgspec.structs.replace(self._register, clean=False))

    async def _be_registered(self, register: RegisterBroker) -> None:
        """As a new incarnation. Everything earlier ones were writing will be sealed."""
        applied = await self._metadata.insist(register)
        if applied.refusal:
            raise MetadataUnavailable(f"node {self._node} may not register: {applied.refusal}")
        self.incarnation = applied.value
        self._liveness.begin(applied.value)

    async def begin_to_lead(self) -> None:
        """Returns when every segment that earlier incarnations of this node left open is sealed and
        all that this one leads can be written, or after START_PATIENCE_S. Raises
        StorageFailed."""
        await self._restart.begin_seals(lambda: self.incarnation)
        self._leading.leases.begin(self.incarnation, self._metadata.state)
        with anyio.move_on_after(START_PATIENCE_S) as patience:
            await self._sealed_all()
            await self._leading.leases.settled()
        if patience.cancelled_caught:
            _log.warning("serving, though some topics wait for other nodes to be sealed")

    async def _sealed_all(self) -> None:
        """Wait until nothing of this node's earlier incarnations is open."""
        while any(
            topic.segments[-1].writer == self._node
            and topic.segments[-1].writer_incarnation < self.incarnation
            for topic in self._metadata.state.topics.values()
        ):
            await self._metadata.changed()

    def fenced(self) -> None:
        """The cluster has given this incarnation up; come back as a new one."""
        if self._tasks is not None and not self._is_rejoining:
            self._is_rejoining = True
            self._tasks.start_soon(self._rejoin)

    async def _rejoin(self) -> None:
        _log.warning("this node was taken for dead; it comes back as a new incarnation")
        assert self._register is not None
        try:
            await self._be_registered(self._register)
            self._leading.leases.begin(self.incarnation, self._metadata.state)
            await self._restart.begin_seals(lambda: self.incarnation)
        except RequestError as error:
            _log.warning("not back yet", why=str(error))
        finally:
            self._is_rejoining = False

    async def hand_over(self) -> None:
        """Before this node stops: have others lead what it leads, as far as they can, and say
        that it goes, so that nobody waits for its silence."""
        self._is_rejoining = True  # Being fenced is what we ask for below.
        with anyio.move_on_after(HAND_OVER_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_alone, tasks.cancel_scope)
                await self._leading.roll_away("the node stops")
                if len(self._metadata.state.brokers) > 1:
                    with suppress(RequestError):
                        await self._metadata.propose(FenceBroker(self._node, self.incarnation))
                tasks.cancel_scope.cancel()

    async def _until_alone(self, handing_over: anyio.CancelScope) -> None:
        """When all nodes stop at once, the last of them have nobody to hand over to."""
        alone_s = 0.0
        while alone_s < ALONE_S:
            await anyio.sleep(ALONE_CHECK_S)
            alone_s = 0.0 if self._metadata.reaches_majority else alone_s + ALONE_CHECK_S
        handing_over.cancel()
