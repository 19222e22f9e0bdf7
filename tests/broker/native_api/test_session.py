"""The native protocol as a client sees it, over real sockets."""

import json
import random
from collections.abc import Sequence

import anyio
import pytest
from structlog.typing import EventDict

from broker.errors import StorageFailed
from broker.native_api import FRAME_SIZE_MAX, majority
from broker.native_api.cursor import group_of
from broker.net.stream import SocketStream
from broker.ports import Buffer, SegmentView, TopicView
from tests.broker.native_api.batches import batch
from tests.broker.native_api.harness import framed, running

PAYLOADS = [
    b"hello world",
    b" leading and trailing \n\t ",
    b"",
    b"line\nline\r\n",
    bytes(range(256)),
    b"\xff\xfe not utf-8",
    b"ERR not an error",
    b"EMPTY",
    "🦭".encode(),
    b"x" * 1_000_000,
]


async def test_put_and_get_keep_every_payload_byte_for_byte() -> None:
    async with running() as node:
        assert await node.ask(b"REGISTER logs") == [b"OK"]
        for payload in PAYLOADS:
            assert await node.ask(b"PUT logs " + payload, b"GET logs") == [b"OK", b"OK " + payload]
        assert await node.ask(b"GET logs") == [b"EMPTY"]


async def test_pipelined_commands_take_effect_in_their_order() -> None:
    async with running() as node:
        answers = await node.ask(
            b"GET logs",
            b"REGISTER logs",
            b"GET logs",
            b"PUT logs a",
            b"PUT logs b",
            b"GET logs",
            b"GET logs",
            b"GET logs",
        )
        assert answers == [
            b"ERR unknown topic logs",
            b"OK",
            b"EMPTY",
            b"OK",
            b"OK",
            b"OK a",
            b"OK b",
            b"EMPTY",
        ]


async def test_register_is_answered_where_no_majority_is_left_to_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nobody_answers(name: str, **_: object) -> TopicView:
        await anyio.sleep_forever()
        raise AssertionError

    async with running() as node:
        node.controller.add("known")
        monkeypatch.setattr(majority, "WAIT_S_MAX", 0.01)
        monkeypatch.setattr(node.controller, "create_topic", nobody_answers)
        answers = await node.ask(b"REGISTER logs", b"REGISTER known", b"PUT known a")
        assert answers[0] == (
            b"ERR the cluster cannot decide just now: no majority of its nodes has answered in"
            b" time; the topic may yet be created"
        )
        assert answers[1:] == [b"OK", b"OK"], "the connection goes on"


async def test_a_thousand_pipelined_puts_become_few_batches_and_are_each_answered() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        answers = await node.ask(*(b"PUT logs %d" % number for number in range(1_000)))
        assert answers == [b"OK"] * 1_000
        assert logs.end_offset == 1_000
        assert len(logs.batches) < 50
        gets = await node.ask(*[b"GET logs"] * 1_001)
        assert gets == [*(b"OK %d" % number for number in range(1_000)), b"EMPTY"]


async def test_the_answers_of_a_pack_and_of_a_round_leave_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    send_now = SocketStream.send_now

    def counting(self: SocketStream, buffers: Sequence[Buffer]) -> int:
        sizes.append(send_now(self, buffers))
        return sizes[-1]

    monkeypatch.setattr(SocketStream, "send_now", counting)
    async with running() as node:
        logs = node.controller.add("logs")
        logs.hold()
        client = await node.connect()
        await client.send(*[b"PUT logs x"] * 500)
        await node.until(lambda: logs.end_offset == 500)
        logs.let_go()
        assert [await client.receive() for _ in range(500)] == [b"OK"] * 500
        assert len(sizes) < 20
        sizes.clear()
        await client.send(*[b"GET logs"] * 320)
        assert [await client.receive() for _ in range(320)] == [b"OK x"] * 320
        assert len(sizes) < 50


async def test_consumers_on_many_connections_share_one_stream() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        logs.store(batch([b"%d" % number for number in range(300)]))
        got: list[bytes] = []

        async def consume() -> None:
            got.extend(await node.ask(*[b"GET logs"] * 30))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(consume)
        assert sorted(got) == sorted(b"OK %d" % number for number in range(300))


async def test_put_is_answered_only_when_durable() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        logs.hold()
        client = await node.connect()
        await client.send(b"PUT logs x")
        await node.until(lambda: logs.end_offset == 1)
        assert node.answered("PUT") == 0
        logs.let_go()
        assert await client.receive() == b"OK"


async def test_puts_that_must_wait_for_a_rollover_are_answered_in_their_order() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        assert await node.ask(b"PUT logs 0") == [b"OK"]
        logs.must_wait = True
        assert await node.ask(b"PUT logs 1", b"PUT logs 2", b"GET logs") == [b"OK", b"OK", b"OK 0"]
        logs.must_wait = False
        assert await node.ask(b"PUT logs 3", b"GET logs", b"GET logs", b"GET logs") == [
            b"OK",
            b"OK 1",
            b"OK 2",
            b"OK 3",
        ]


async def test_a_put_that_was_not_committed_is_an_error_and_counted_as_one() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        assert await node.ask(b"PUT logs 0") == [b"OK"]
        logs.is_lost = True
        (answer,) = await node.ask(b"PUT logs 1")
        assert answer.startswith(b"ERR ")


async def test_get_is_answered_only_when_the_cursor_is_durable() -> None:
    async with running() as node:
        node.controller.add("logs").store(batch([b"a"]))
        node.offsets.gate = anyio.Event()
        client = await node.connect()
        await client.send(b"GET logs")
        await node.until(lambda: node.offsets.commit_count == 1)
        assert node.answered("GET") == 0
        node.offsets.gate.set()
        assert await client.receive() == b"OK a"


async def test_a_cursor_that_cannot_be_saved_hands_out_nothing() -> None:
    async with running() as node:
        node.controller.add("logs").store(batch([b"a"]))
        node.offsets.failure = StorageFailed("the disk is full")
        assert await node.ask(b"GET logs") == [b"ERR the disk is full"]


async def test_the_cursor_is_the_offset_of_a_kafka_group() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        logs.store(batch([b"a", b"b", b"c"]))
        await node.ask(b"GET logs", b"GET logs")
        assert node.offsets.positions[group_of("logs"), logs.topic.topic_id] == 2
        assert group_of("logs") == "walrus.get.logs"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"", b"ERR invalid frame length"),
        (b"NONSENSE", b"ERR unknown command"),
        (b"\xff\xff", b"ERR invalid utf-8"),
        (b"REGISTER", b"ERR REGISTER requires a topic"),
        (b"PUT", b"ERR PUT requires a topic"),
        (b"PUT logs", b"ERR PUT requires a payload"),
        (b"GET", b"ERR GET requires a topic"),
        (b"STATE", b"ERR STATE requires a topic"),
        (b"PUT nowhere x", b"ERR unknown topic nowhere"),
        (b"GET nowhere", b"ERR unknown topic nowhere"),
        (b"STATE nowhere", b"ERR unknown topic nowhere"),
        (b"PUT  logs x", b"ERR unknown topic "),
        (b"REGISTER  logs", b"ERR topic name '' is not allowed"),
        (b"PUT __internal x", b"ERR topic __internal is internal"),
        (b"GET __internal", b"ERR topic __internal is internal"),
    ],
)
async def test_errors_are_the_original_words_and_the_connection_lives(
    command: bytes, answer: bytes
) -> None:
    async with running() as node:
        node.controller.add("__internal", is_internal=True)
        assert await node.ask(command, b"REGISTER logs") == [answer, b"OK"]


async def test_register_is_idempotent() -> None:
    async with running() as node:
        assert await node.ask(*[b"REGISTER logs"] * 3) == [b"OK"] * 3
        assert node.controller.create_count == 1


async def test_a_topic_led_elsewhere_is_refused_in_the_original_words() -> None:
    async with running() as node:
        node.controller.add("logs", segments=(SegmentView(4, 0, None, 2, 0, None),))
        node.controller.is_leader = False
        answers = await node.ask(b"PUT logs x", b"GET logs")
        assert answers == [b"ERR NotLeaderForPartition: t_logs_s_4"] * 2


async def test_a_put_too_large_for_its_topic_is_refused() -> None:
    async with running() as node:
        node.controller.add("small", configs={"max.message.bytes": "200"})
        answers = await node.ask(b"PUT small " + bytes(300), b"PUT small ok")
        assert answers[0].startswith(b"ERR the batch has ")
        assert answers[1] == b"OK"


async def test_an_oversize_frame_is_answered_and_closes_the_connection() -> None:
    async with running() as node:
        client = await node.connect()
        await client.stream.send((FRAME_SIZE_MAX + 1).to_bytes(4, "little") + b"PUT logs ...")
        assert await client.receive() == b"ERR invalid frame length"
        with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
            await client.stream.receive()


async def test_the_largest_frame_is_taken() -> None:
    async with running() as node:
        node.controller.add("logs", configs={"max.message.bytes": "2000000"})
        payload = b"x" * (FRAME_SIZE_MAX - len(b"PUT logs "))
        assert await node.ask(b"PUT logs " + payload, b"GET logs") == [b"OK", b"OK " + payload]


async def test_a_kafka_client_on_this_port_is_recognised(logs: list[EventDict]) -> None:
    async with running() as node:
        client = await node.connect()
        await client.stream.send(b"\x00\x00\x00\x1d\x00\x12\x00\x03\x00\x00\x00\x01")
        assert await client.receive() == b"ERR invalid frame length"
    assert any("Kafka client on the native port" in entry.get("hint", "") for entry in logs)


async def test_state_shows_the_chain_of_segments() -> None:
    async with running() as node:
        node.controller.add(
            "logs",
            segments=(
                SegmentView(1, 0, 10, 1, 0, 500),
                SegmentView(2, 10, 25, 3, 1, 700),
                SegmentView(4, 25, None, 1, 2, None),
            ),
        )
        (answer,) = await node.ask(b"STATE logs")
        assert json.loads(answer) == {
            "current_segment": 4,
            "leader_node": 1,
            "last_sealed_entry_offset": 25,
            "sealed_segments": {"1": 10, "2": 15},
            "segment_leaders": {"1": 1, "2": 3, "4": 1},
        }


async def test_state_of_a_new_topic_is_what_the_original_answers() -> None:
    async with running() as node:
        answers = await node.ask(b"REGISTER logs", b"STATE logs")
        assert answers[1] == (
            b'{"current_segment":1,"leader_node":1,"last_sealed_entry_offset":0,'
            b'"sealed_segments":{},"segment_leaders":{"1":1}}'
        )


async def test_metrics_are_pretty_json_with_the_nodes_status() -> None:
    async with running() as node:
        (answer,) = await node.ask(b"METRICS")
        metrics = json.loads(answer)
        assert metrics["current_leader"] == 1
        assert metrics["node"]["fsync"] == "each"
        assert metrics["node"]["backend"] == "memory"
        assert b"\n" in answer


async def test_requests_are_counted_by_verb_and_outcome() -> None:
    async with running() as node:
        await node.ask(b"REGISTER t", b"PUT t ERR", b"GET t", b"GET t", b"GET no", b"", b"what")
        assert node.counts() == {
            ("REGISTER", "OK"): 1,
            ("PUT", "OK"): 1,
            ("GET", "OK"): 1,
            ("GET", "EMPTY"): 1,
            ("GET", "ERR"): 1,
            ("invalid", "ERR"): 2,
        }


async def test_an_original_client_sending_byte_by_byte_is_served() -> None:
    async with running() as node:
        client = await node.connect()
        for byte in framed(b"REGISTER logs", b"PUT logs x", b"GET logs"):
            await client.stream.send(bytes([byte]))
        assert [await client.receive() for _ in range(3)] == [b"OK", b"OK", b"OK x"]


@pytest.mark.parametrize("seed", range(10))
async def test_clients_that_send_rubbish_and_vanish_harm_nobody(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)

    def rubbish() -> bytes:
        kind = rng.randrange(4)
        if kind == 0:
            return rng.randbytes(rng.randrange(1, 200))
        if kind == 1:
            return framed(rng.randbytes(rng.randrange(0, 50)))
        if kind == 2:
            return framed(b"PUT logs " + rng.randbytes(rng.randrange(100_000)), b"GET logs")
        return framed(rng.choice([b"GET logs", b"STATE logs", b"METRICS", b"REGISTER a b"]))

    async with running() as node:
        node.controller.add("logs")
        stats = node.server.stats.listeners["native"]

        async def vandal() -> None:
            client = await node.connect()
            try:
                for _ in range(rng.randrange(1, 10)):
                    data = rubbish()
                    await client.stream.send(data[: rng.choice([len(data), len(data) // 2])])
            except anyio.BrokenResourceError:
                pass  # It was shown the door.
            await anyio.aclose_forcefully(client.stream)

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(vandal)
            assert await node.ask(b"REGISTER mine", b"PUT mine x", b"GET mine") == [
                b"OK",
                b"OK",
                b"OK x",
            ]
        await node.close_clients()
        await node.until(lambda: stats.connections == 0)
        assert stats.faults == 0
        assert node.budget.used_size == 0
