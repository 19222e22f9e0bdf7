"""A node and connections to it, as tests want to talk: values in, values out, bytes between."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import Any, cast

import anyio

from broker.groups.coordinator import Coordinator
from broker.kafka_api import BrokerConfig, Context, Counters, KafkaConfig, KafkaSession
from broker.kafka_api.context import Stopping
from broker.kafka_api.fetch_sessions import FetchSessions
from broker.ports import Finish, Pending, Reply, Unfinished
from tests.broker.kafka_api.fake_controller import FakeController
from tests.broker.kafka_api.fakes import FakeClock, FakePartition
from tests.broker.kafka_api.layouts import (
    FETCH,
    METADATA,
    PRODUCE,
    Message,
    decode_response,
    encode_request,
)
from tests.broker.replies import received


class Way(IntEnum):
    """How a request is begun."""

    GENERAL = 0
    ALONE = 1
    """Offered to `begin_now` first, as the network layer does, when nothing else comes in its
    turn."""
    AMONG_OTHERS = 2


class Connection:
    """One client. `send` is stage 1 of a request, awaiting the result is stage 2."""

    def __init__(self, session: KafkaSession, *, way: Way = Way.GENERAL) -> None:
        self.session = session
        self.correlation_id = 0
        self.way = way
        self.general_count = 0
        """Requests that the quick way did not take."""
        self._is_known = False

    async def send(
        self, message: Message, version: int, client_id: str | None = "test", **values: Any
    ) -> "Asked":
        self.correlation_id += 1
        frame = encode_request(message, version, self.correlation_id, client_id, values)
        finish = await self._begin(memoryview(bytearray(frame)), client_id)
        return Asked(message, version, self.correlation_id, finish)

    async def _begin(self, frame: memoryview, client_id: str | None) -> Finish:
        if self.way:
            if not self._is_known:
                self._is_known = True
                hello = encode_request(METADATA, 1, 0, client_id, {"topics": []})
                await (await self.session.begin(memoryview(bytearray(hello))))()
            is_alone = self.way is Way.ALONE
            pending = self.session.begin_now(frame, is_alone=is_alone, is_next=True)
            if pending is not None:
                return partial(_settled, pending)
            self.general_count += 1
        return await self.session.begin(frame)

    async def ask(
        self, message: Message, version: int, client_id: str | None = "test", **values: Any
    ) -> dict[str, Any]:
        asked = await self.send(message, version, client_id, **values)
        return await asked.answer()

    async def produce(
        self, topic: str, records: bytes | None, version: int = 9, partition: int = 0, **values: Any
    ) -> dict[str, Any]:
        """The answer about the one partition."""
        topics = [{"name": topic, "partitions": [{"index": partition, "records": records}]}]
        answer = await self.ask(PRODUCE, version, topics=topics, **values)
        ((found,),) = [one["partitions"] for one in answer["topics"]]
        assert isinstance(found, dict)
        return found

    async def fetch(
        self,
        topic: Any,
        offset: int,
        version: int = 11,
        partition: dict[str, Any] | None = None,
        **values: Any,
    ) -> dict[str, Any]:
        """The answer about the one partition."""
        asked = await self.send_fetch(topic, offset, version, partition, **values)
        return asked.one(await asked.answer())

    async def fetch_woken_by(
        self, act: Callable[[], Awaitable[object]], offset: int = 0, **values: Any
    ) -> dict[str, Any]:
        """Park a fetch of topic `t`, see that it is parked, act, and return its answer."""
        asked = await self.send_fetch("t", offset, max_wait_ms=30_000, **values)
        answers = []

        async def finish() -> None:
            answers.append(asked.one(await asked.answer()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish)
            await anyio.wait_all_tasks_blocked()
            assert not answers, "answered before there was anything to say"
            await act()
        return answers[0]

    async def send_fetch(
        self,
        topic: Any,
        offset: int,
        version: int = 11,
        partition: dict[str, Any] | None = None,
        **values: Any,
    ) -> "Asked":
        wanted = {"partition": 0, "fetch_offset": offset, **(partition or {})}
        key = "topic_id" if version >= 13 else "topic"
        return await self.send(
            FETCH, version, topics=[{key: topic, "partitions": [wanted]}], **values
        )


async def _settled(pending: Pending) -> Reply:
    ready = anyio.Event()
    pending.on_ready = ready.set
    try:
        if not pending.is_ready:
            await ready.wait()
    except BaseException:
        pending.drop()
        raise
    try:
        return pending.take()
    except Unfinished as rest:
        return await rest.finish()


class Asked:
    """A request whose stage 1 is done."""

    def __init__(self, message: Message, version: int, correlation_id: int, finish: Finish) -> None:
        self.message, self.version, self.correlation_id = message, version, correlation_id
        self.finish = finish

    async def reply(self) -> bytes:
        return received(await self.finish())

    async def answer(self) -> dict[str, Any]:
        correlation_id, values = decode_response(self.message, self.version, await self.reply())
        assert correlation_id == self.correlation_id
        assert values.get("throttle_time_ms", 0) == 0, "clients would slow down"
        return values

    @staticmethod
    def one(answer: dict[str, Any]) -> dict[str, Any]:
        ((found,),) = [topic["partitions"] for topic in answer["topics"]]
        assert isinstance(found, dict)
        return found


class Node:
    def __init__(self, *, way: Way = Way.GENERAL) -> None:
        self.way = way
        self.clock = FakeClock()
        self.controller = FakeController(self.clock)
        self.groups = Coordinator(cast(Any, self.controller), self.clock)
        self.counters = Counters()
        self.sessions = FetchSessions()
        self.stopping = Stopping()
        self.config = KafkaConfig(
            broker_configs=(
                BrokerConfig("node.id", "1", is_default=False),
                BrokerConfig("log.dirs", "/data", documentation="Where the log is."),
            )
        )

    def configure(self, **changes: Any) -> None:
        self.config = replace(self.config, **changes)

    def connect(self, listener: str = "PLAINTEXT") -> Connection:
        context = Context(
            controller=self.controller,
            groups=self.groups,
            clock=self.clock,
            listener=listener,
            peer="127.0.0.1:50000",
            config=self.config,
            counters=self.counters,
            sessions=self.sessions,
            stopping=self.stopping,
        )
        return Connection(KafkaSession(context), way=self.way)

    async def create(self, name: str, **configs: str) -> FakePartition:
        """A topic; `_` in the name of a config stands for a dot."""
        named = {key.replace("_", "."): value for key, value in configs.items()}
        await self.controller.create_topic(name, configs=named)
        return self.controller.partitions[name]

    def depose(self, prefix: str, leader_id: int = 2) -> None:
        """Another node, or nobody (-1), leads the topics whose names begin so."""
        for name, partition in self.controller.partitions.items():
            if name.startswith(prefix):
                partition.view = replace(partition.view, leader_id=leader_id)

    async def metadata(self, version: int = 12, **values: Any) -> dict[str, Any]:
        return await self.connect().ask(METADATA, version, **values)
