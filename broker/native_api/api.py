"""The native protocol of one node: what its connections share."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import anyio
import anyio.abc

from broker.native_api.cursor import CACHE_SIZE_MAX, Cursors
from broker.native_api.handlers import Context
from broker.native_api.packer import Packer
from broker.native_api.reader import SECTION_SIZE_MAX
from broker.native_api.session import NativeSession
from broker.native_api.shared import SharedCursors
from broker.ports import Buffer, Clock, Controller, GroupOffsets, NodeStatus
from broker.replication.messages import TakeAsk
from broker.replication.peers import Peers
from broker.telemetry.metrics import NATIVE_LATENCY, NATIVE_REQUESTS, RequestMeter, Sample

PUT_TIMEOUT_S = 30.0
"""How long a PUT waits to be durable before its outcome is called unknown. Kafka's
`request.timeout.ms`."""


class NativeApi:
    """Make one per node; start `run`, then hand `session` to the native listener."""

    def __init__(
        self,
        *,
        controller: Controller,
        offsets: GroupOffsets,
        peers: Peers,
        clock: Clock,
        status: Callable[[], NodeStatus],
        metrics: Callable[[], Mapping[str, object]],
        put_timeout_s: float = PUT_TIMEOUT_S,
        section_size_max: int = SECTION_SIZE_MAX,
        cache_size_max: int = CACHE_SIZE_MAX,
    ) -> None:
        self._packer = Packer(controller, clock, timeout_s=put_timeout_s)
        self._cursors = Cursors(
            controller, offsets, section_size_max=section_size_max, cache_size_max=cache_size_max
        )
        self._shared = SharedCursors(controller, offsets, self._cursors, peers)
        self._ctx = Context(controller, self._packer, self._shared, status, metrics)
        self._meter = RequestMeter(NATIVE_REQUESTS, NATIVE_LATENCY)
        self._clock = clock

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """What goes on behind the connections. Cancel it after them, or their requests hang."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._packer.run)
            await tasks.start(self._cursors.run)
            await tasks.start(self._shared.run)
            task_status.started()

    def session(self, peer: str) -> NativeSession:
        """The protocol of one new connection; `peer` is its address."""
        return NativeSession(self._ctx, self._meter, self._clock.monotonic, peer)

    async def answer(self, ask: TakeAsk) -> Sequence[Buffer]:
        """A GET that came in at another node."""
        return await self._shared.answer(ask)

    def collect(self) -> Iterator[Sample]:
        """For the metrics registry: requests by verb and outcome, and their latency."""
        return self._meter.collect()
