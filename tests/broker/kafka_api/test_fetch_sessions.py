"""Fetch sessions: what is left out of an answer is what the client knows, and nothing else."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest

from broker.errors import StorageFailed
from broker.kafka_api.fetch_sessions import EPOCH_MAX, IDLE_S_MIN, FetchSessions
from broker.kafka_api.wire import load
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Connection, Node, Way
from tests.broker.kafka_api.layouts import FETCH

NOT_FOUND, WRONG_EPOCH, ID_ERROR = 70, 71, 106


@pytest.fixture(params=[Way.GENERAL, Way.ALONE])
async def way(request: pytest.FixtureRequest) -> Way:
    """Both ways of a Fetch tell and remember the same."""
    for version in (7, 11, 12, 13, 17):
        await load(1, version)
    return Way(request.param)


@dataclass
class Reader:
    """A client with a session, as KIP-227 describes one. `at` is the next offset per topic."""

    node: Node
    connection: Connection
    version: int = 11
    at: dict[str, int] = field(default_factory=dict)
    session_id: int = 0
    epoch: int = 0
    known: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """What it was told last: error, high watermark, log start."""
    read: dict[str, list[bytes]] = field(default_factory=dict)
    _sent: dict[str, int] = field(default_factory=dict)

    def named(self, name: str) -> dict[str, Any]:
        if self.version < 13:
            return {"topic": name}
        return {"topic_id": self.node.controller.partitions[name].view.topic_id}

    def name_of(self, topic: dict[str, Any]) -> str:
        if self.version < 13:
            return str(topic["topic"])
        for name, partition in self.node.controller.partitions.items():
            if partition.view.topic_id == topic["topic_id"]:
                return name
        raise AssertionError(topic)

    async def send(self, **values: Any) -> dict[str, Any]:
        """One request: everything at first, then what has changed."""
        is_full = self.epoch in (0, -1)
        changed = {
            name: offset
            for name, offset in self.at.items()
            if is_full or self._sent.get(name) != offset
        }
        topics = [
            {**self.named(name), "partitions": [{"partition": 0, "fetch_offset": offset}]}
            for name, offset in changed.items()
        ]
        forgotten = [
            {**self.named(name), "partitions": [0]}
            for name in (() if is_full else self._sent.keys() - self.at.keys())
        ]
        self._sent = dict(self.at)
        return await self.connection.ask(
            FETCH, self.version, topics=topics, forgotten=forgotten,
            session_id=self.session_id, session_epoch=self.epoch, **values,
        )  # fmt: skip

    async def fetch(self, **values: Any) -> set[str]:
        """The topics that the answer names."""
        answer = await self.send(**values)
        assert answer["error"] == 0
        self.session_id = answer["session_id"]
        self.epoch = self.epoch + 1 if self.session_id else 0
        names = [self.name_of(topic) for topic in answer["topics"]]
        assert len(set(names)) == len(names), "each topic once"
        for name, topic in zip(names, answer["topics"], strict=True):
            (found,) = topic["partitions"]
            assert found["partition"] == 0
            start = found["log_start_offset"]
            self.known[name] = (found["error"], found["high_watermark"], start)
            if found["error"] == 0 and found["records"]:
                self.read.setdefault(name, []).append(found["records"])
                self.at[name] = found["high_watermark"]
        return set(names)


@pytest.fixture
async def reader(node: Node) -> Reader:
    """Of three topics, one of which has records."""
    for name in ("a", "b", "c"):
        await node.create(name)
    await node.controller.partitions["a"].append(batch(b"first"), acks=-1)
    return Reader(node, node.connect(), at={"a": 0, "b": 0, "c": 0})


@pytest.mark.parametrize("version", [7, 11, 12, 13, 17])
async def test_only_news_is_told(node: Node, reader: Reader, version: int) -> None:
    reader.version = version
    assert await reader.fetch() == {"a", "b", "c"}, "a first answer is complete"
    assert reader.session_id > 0
    assert await reader.fetch() == set()
    await node.controller.partitions["b"].append(batch(b"second"), acks=-1)
    assert await reader.fetch() == {"b"}
    assert await reader.fetch() == set()
    await node.controller.delete_records(node.controller.topic("b"), 1)
    assert await reader.fetch() == {"b"}, "the log start has moved"
    assert reader.known["b"] == (0, 1, 1)


async def test_records_that_were_not_taken_come_again(node: Node, reader: Reader) -> None:
    await reader.fetch()
    reader.at["a"] = 0
    assert await reader.fetch() == {"a"}
    assert len(reader.read["a"]) == 2


async def test_partitions_come_and_go(node: Node, reader: Reader) -> None:
    await reader.fetch()
    await node.create("d")
    reader.at["d"] = 0
    assert await reader.fetch() == {"d"}
    del reader.at["b"]
    assert await reader.fetch() == set()
    await node.controller.partitions["b"].append(batch(b"unheard"), acks=-1)
    assert await reader.fetch() == set()
    reader.at["b"] = 0
    assert await reader.fetch() == {"b"}


async def test_errors_are_told_every_time_and_their_end_is_news(node: Node, reader: Reader) -> None:
    await reader.fetch()
    node.controller.partitions["b"].error = StorageFailed("a bad sector")
    assert await reader.fetch() == {"b"}
    assert await reader.fetch() == {"b"}
    node.controller.partitions["b"].error = None
    assert await reader.fetch() == {"b"}
    assert reader.known["b"] == (0, 0, 0)
    assert await reader.fetch() == set()


async def test_a_parked_fetch_is_woken_by_a_partition_it_did_not_name(
    node: Node, reader: Reader
) -> None:
    await reader.fetch()
    told: list[set[str]] = []

    async def fetch() -> None:
        told.append(await reader.fetch(max_wait_ms=30_000))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetch)
        await anyio.wait_all_tasks_blocked()
        assert not told
        await node.controller.partitions["c"].append(batch(b"x"), acks=-1)
    assert told == [{"c"}]


async def test_partitions_share_the_limits_of_requests_that_do_not_name_them(
    node: Node, reader: Reader
) -> None:
    """One topic that always has more must not keep the others waiting for ever."""
    await reader.fetch()
    for name in reader.at:
        for _ in range(3):
            await node.controller.partitions[name].append(batch(b"x" * 2000), acks=-1)
    told = []
    for _ in range(3):
        answer = await reader.send(max_bytes=3000)
        reader.epoch += 1
        told += [topic["topic"] for topic in answer["topics"] if topic["partitions"][0]["records"]]
    assert sorted(told) == ["a", "b", "c"]


class TestTheRules:
    async def test_an_epoch_is_served_once(self, reader: Reader) -> None:
        await reader.fetch()
        epoch = reader.epoch
        await reader.fetch()
        for wrong in (epoch, epoch + 2, EPOCH_MAX):
            reader.epoch = wrong
            answer = await reader.send()
            assert (answer["error"], answer["topics"]) == (WRONG_EPOCH, [])
        reader.epoch = epoch + 1
        assert await reader.fetch() == set(), "a mistake costs nothing but the request"

    async def test_a_session_nobody_knows_is_told_at_the_top(self, reader: Reader) -> None:
        for session_id in (0, 99):
            reader.session_id, reader.epoch = session_id, 5
            answer = await reader.send()
            assert (answer["error"], answer["session_id"]) == (NOT_FOUND, 0)
            assert answer["topics"] == []

    @pytest.mark.parametrize("epoch", [0, -1])
    async def test_a_full_request_ends_the_session_it_names(
        self, reader: Reader, epoch: int
    ) -> None:
        await reader.fetch()
        old_id, next_epoch = reader.session_id, reader.epoch
        reader.epoch = epoch
        assert await reader.fetch() == {"a", "b", "c"}
        assert (reader.session_id == 0) == (epoch == -1)
        reader.session_id, reader.epoch = old_id, next_epoch
        assert (await reader.send())["error"] == NOT_FOUND

    async def test_a_session_without_partitions_ends(self, reader: Reader) -> None:
        await reader.fetch()
        session_id, epoch = reader.session_id, reader.epoch
        reader.at.clear()
        assert await reader.fetch(max_wait_ms=30_000) == set(), (
            "at once: there is nothing to wait for"
        )
        assert reader.session_id == 0
        reader.session_id, reader.epoch = session_id, epoch + 1
        assert (await reader.send())["error"] == NOT_FOUND

    @pytest.mark.parametrize(("first", "then"), [(12, 13), (13, 12)])
    async def test_names_and_ids_do_not_mix(self, reader: Reader, first: int, then: int) -> None:
        reader.version = first
        await reader.fetch()
        reader.version = then
        assert (await reader.send())["error"] == ID_ERROR

    async def test_a_session_outlives_its_connection(self, node: Node, reader: Reader) -> None:
        await reader.fetch()
        reader.connection = node.connect()
        assert await reader.fetch() == set()

    @pytest.mark.parametrize("version", [4, 6, 11])
    async def test_clients_that_want_none_get_none(self, reader: Reader, version: int) -> None:
        topics = [{"topic": "a", "partitions": [{"partition": 0}]}]
        answer = await reader.connection.ask(FETCH, version, topics=topics)
        assert answer.get("session_id", 0) == 0
        assert len(answer["topics"]) == 1

    async def test_epochs_begin_again_after_the_last(self, node: Node, reader: Reader) -> None:
        await reader.fetch()
        node.sessions._sessions[reader.session_id].epoch = reader.epoch = EPOCH_MAX
        await reader.fetch()
        reader.epoch = 1
        assert await reader.fetch() == set()


class TestRoom:
    async def test_a_client_for_whom_there_is_no_room_goes_without(
        self, node: Node, reader: Reader
    ) -> None:
        node.sessions = FetchSessions(session_count_max=1)
        first, second = node.connect(), node.connect()
        reader.connection = first
        await reader.fetch()
        other = replace(reader, connection=second, session_id=0, epoch=0, known={}, _sent={})
        for _ in range(3):
            assert await other.fetch() == {"a", "b", "c"}
            assert other.session_id == 0
        assert await reader.fetch() == set(), "nobody was put out for it"

    async def test_the_one_that_was_silent_longest_gives_way(
        self, node: Node, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node.sessions = FetchSessions(session_count_max=2)
        now = 0.0
        monkeypatch.setattr(node.clock, "monotonic", lambda: now)
        readers = [replace(reader, connection=node.connect(), known={}, _sent={}) for _ in range(3)]
        await readers[0].fetch()
        await readers[1].fetch()
        now = IDLE_S_MIN
        await readers[0].fetch()
        await readers[2].fetch()
        assert readers[2].session_id > 0
        assert (await readers[1].send())["error"] == NOT_FOUND
        assert await readers[0].fetch() == set()

    async def test_all_sessions_together_remember_so_many_partitions(
        self, node: Node, reader: Reader
    ) -> None:
        node.sessions = FetchSessions(partition_count_max=4)
        reader.connection = node.connect()
        await reader.fetch()
        other = replace(reader, connection=node.connect(), session_id=0, epoch=0, _sent={})
        await other.fetch()
        assert other.session_id == 0
        for name in ("d", "e"):
            await node.create(name)
            reader.at[name] = 0
        assert (await reader.send())["error"] == NOT_FOUND, "it may not grow beyond it, either"
        assert len(node.sessions) == 0
        reader.session_id = reader.epoch = 0
        assert len(await reader.fetch()) == 5
        assert reader.session_id == 0


@pytest.mark.parametrize("seed", range(20))
async def test_a_client_with_a_session_knows_what_one_without_knows(node: Node, seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    names = [f"t{number}" for number in range(6)]
    for name in names:
        await node.create(name)
    reader = Reader(node, node.connect(), version=rng.choice([7, 12, 13, 17]), at={names[0]: 0})
    for _ in range(60):
        name = rng.choice(names)
        partition = node.controller.partitions[name]
        match rng.randrange(6):
            case 0 | 1 if partition.error is None:
                await partition.append(batch(b"x" * rng.randint(1, 500)), acks=-1)
            case 2:
                await node.controller.delete_records(partition.view, rng.choice([0, -1]))
            case 3:
                reader.at.setdefault(name, partition.high_watermark)
            case 4 if len(reader.at) > 1:
                reader.at.pop(name, None)
                reader.known.pop(name, None)
            case 5:
                partition.error = None if partition.error else StorageFailed("for a while")
        await reader.fetch()
        plain = Reader(node, node.connect(), version=reader.version, at=dict(reader.at), epoch=-1)
        await plain.fetch()
        assert reader.known == plain.known
