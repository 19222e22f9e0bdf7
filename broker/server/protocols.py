"""The two protocols of a node: what their connections share, and how their listeners are
described."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from anyio.abc import TaskGroup

from broker.config import Config
from broker.config import Listener as KafkaListener
from broker.groups.coordinator import Coordinator
from broker.kafka_api import Context, Counters, KafkaConfig, KafkaSession
from broker.kafka_api.context import Stopping
from broker.kafka_api.fetch_sessions import SESSION_ID_MAX, FetchSessions
from broker.native_api import BYTEORDER, FRAME_SIZE_MIN, NativeApi
from broker.net.listener import Listener
from broker.ports import AdminController, Buffer, Clock, Memory, NodeStatus
from broker.replication.messages import TakeAsk
from broker.replication.peers import Peers
from broker.server.broker_configs import broker_configs
from broker.telemetry.metrics import Sample


class Protocols:
    """Make one per node; start `run` before the listeners."""

    def __init__(
        self,
        config: Config,
        *,
        controller: AdminController,
        groups: Coordinator,
        peers: Peers,
        clock: Clock,
        memory: Memory,
        status: Callable[[], NodeStatus],
        metrics: Callable[[], Mapping[str, object]],
    ) -> None:
        self._config = config
        self._controller = controller
        self._groups = groups
        self._clock = clock
        self._memory = memory
        self._native = NativeApi(
            controller=controller,
            offsets=groups,
            peers=peers,
            clock=clock,
            status=status,
            metrics=metrics,
        )
        self._kafka = KafkaConfig(
            auto_create_topics=config.auto_create_topics,
            strict_partitions=config.strict_partitions,
            fetch_size_max=config.fetch_size_max,
            broker_configs=broker_configs(config),
        )
        self._counters = Counters()
        self._stopping = Stopping()
        self._sessions = FetchSessions(partial(random.SystemRandom().randint, 1, SESSION_ID_MAX))

    async def start(self, tasks: TaskGroup) -> None:
        """Begin what goes on behind the connections."""
        await tasks.start(self._native.run)

    def stop(self) -> None:
        """The node stops: long polls answer with what there is."""
        self._stopping.set()

    async def answer(self, ask: TakeAsk) -> Sequence[Buffer]:
        """What another node asks on behalf of a native client of its own."""
        return await self._native.answer(ask)

    def native_listener(self) -> Listener:
        config = self._config
        return Listener(
            name="native",
            host=config.client_host,
            port=config.client_port,
            flag="--client-port",
            byteorder=BYTEORDER,
            frame_size_min=FRAME_SIZE_MIN,
            frame_size_max=config.native_frame_size_max,
            make_session=self._native.session,
        )

    def kafka_listener(self, listener: KafkaListener) -> Listener:
        is_named = bool(self._config.kafka_listener)

        def session(peer: str) -> KafkaSession:
            return KafkaSession(
                Context(
                    controller=self._controller,
                    groups=self._groups,
                    clock=self._clock,
                    listener=listener.name,
                    peer=peer,
                    config=self._kafka,
                    counters=self._counters,
                    stopping=self._stopping,
                    sessions=self._sessions,
                    memory=self._memory,
                )
            )

        return Listener(
            name=listener.name,
            host=listener.bind_host,
            port=listener.bind_port,
            flag="--kafka-listener" if is_named else "--kafka-port",
            byteorder="big",
            frame_size_max=self._config.request_size_max,
            make_session=session,
        )

    def collect(self) -> Iterator[Sample]:
        """For the metrics registry."""
        yield from self._native.collect()
        yield from self._counters.requests.collect()
