"""What an operator sees of a node over HTTP, and what may be asked of it there."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from anyio.abc import TaskStatus

from broker.admin.app import make_app
from broker.admin.server import serve_admin
from broker.config import Config
from broker.controller.broker import LocalBroker
from broker.controller.metadata import Metadata
from broker.ports import NodeStatus
from broker.server.overview import overview
from broker.telemetry.metrics import Registry
from raft.node import RaftNode


class SideDoor:
    """The parts of a node, as the routes of `admin` want them."""

    def __init__(
        self,
        config: Config,
        *,
        status: Callable[[], NodeStatus],
        broker: LocalBroker,
        metadata: Metadata,
        raft: RaftNode,
        raft_leader: Callable[[], int | None],
        registry: Registry,
    ) -> None:
        self._config = config
        self._status = status
        self._broker = broker
        self._metadata = metadata
        self._raft = raft
        self._raft_leader = raft_leader
        self._registry = registry

    async def serve(self, *, task_status: TaskStatus[int]) -> None:
        """Until cancelled; says on which port."""
        app = make_app(
            status=self._status,
            topics=self._broker.controller.topics,
            cluster=self._overview,
            registry=self._registry,
            leave=self._leave,
            forget=self._broker.departures.forget,
            unclean_seal=self._unclean_seal,
            drop_surplus=self._drop_surplus,
        )
        await serve_admin(
            app, self._config.admin_host, self._config.admin_port, started=task_status.started
        )

    async def _leave(self, node: int, leaving: bool) -> None:
        await self._broker.departures.mark(node, leaving=leaving)

    async def _unclean_seal(self, topic: str, force: str) -> None:
        await self._broker.controller.unclean_seal(topic, force=force)

    async def _drop_surplus(self) -> Mapping[str, object]:
        return asdict(await self._broker.drop_surplus())

    async def _overview(self) -> Mapping[str, object]:
        written = await self._broker.written.of_all()
        reaches_majority = self._metadata.reaches_majority
        return overview(
            self._broker.controller.seen,
            node_id=self._config.node_id,
            raft_leader=self._raft_leader() if reaches_majority else None,
            reaches_majority=reaches_majority,
            members=self._raft.members,
            written=written,
        )
