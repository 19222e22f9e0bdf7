"""One bad connection: it is closed with a reason that names it, and nobody else notices."""

import struct
import threading
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker import kafka_api
from broker.errors import FrameError, PeerError, UnsupportedRequest
from broker.kafka_api import KafkaSession, session, wire
from broker.kafka_api.apis import SERVED
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import METADATA, encode_request
from tests.broker.replies import received


async def begin(session: KafkaSession, frame: bytes) -> None:
    await session.begin(memoryview(bytearray(frame)))  # writable, as a socket fills it


def header(key: int, version: int, client_id: bytes = b"\0\3abc") -> bytes:
    return struct.pack(">hhi", key, version, 1) + client_id


@pytest.mark.parametrize("size", range(8))
async def test_a_frame_too_short_to_be_a_request(node: Node, size: int) -> None:
    with pytest.raises(FrameError, match=rf"127.0.0.1:50000: a frame of {size} bytes"):
        await begin(node.connect().session, header(3, 0)[:size])


@pytest.mark.parametrize("key", [4, 7, 99, -1, 32767])
async def test_an_api_that_is_not_served_closes_the_connection(node: Node, key: int) -> None:
    with pytest.raises(UnsupportedRequest, match=f"API key {key} "):
        await begin(node.connect().session, header(key, 0))


@pytest.mark.parametrize(
    ("key", "version"), [(0, 0), (0, 2), (0, 13), (1, 3), (1, 18), (3, 14), (3, -1), (60, 3)]
)
async def test_a_version_that_is_not_served_closes_the_connection(
    node: Node, key: int, version: int
) -> None:
    """Produce v0-v2 among them, though they are advertised."""
    with pytest.raises(UnsupportedRequest, match=rf"v{version} is not served \(v"):
        await begin(node.connect().session, header(key, version))


@pytest.mark.parametrize(
    "client_id",
    [
        pytest.param(b"", id="no client id"),
        pytest.param(b"\0", id="half a length"),
        pytest.param(b"\0\5abc", id="cut"),
        pytest.param(b"\x7f\xff", id="absurd"),
        pytest.param(b"\0\2\xff\xfe", id="no UTF-8"),
    ],
)
async def test_a_header_that_cannot_be_read(node: Node, client_id: bytes) -> None:
    with pytest.raises(FrameError):
        await begin(node.connect().session, header(3, 1, client_id))


@pytest.mark.parametrize(
    "tags", [b"", b"\x21", b"\xff" * 8, b"\1", b"\1\0\x7f", b"\1\0" + b"\xff" * 6]
)
async def test_header_tags_that_cannot_be_read(node: Node, tags: bytes) -> None:
    with pytest.raises(FrameError):
        await begin(node.connect().session, header(3, 9) + tags)


async def test_header_tags_nobody_knows_are_skipped(node: Node) -> None:
    frame = header(3, 9) + b"\1\x07\2xy" + b"\1\1\0\0\0"
    await begin(node.connect().session, frame)


async def test_the_reason_names_the_client_once_it_has_a_name(node: Node) -> None:
    connection = node.connect()
    await connection.ask(METADATA, 4, "billing", topics=[])
    with pytest.raises(PeerError, match=r"127.0.0.1:50000 \(client id 'billing'\): "):
        await begin(connection.session, b"garbage")
    assert node.counters.closed["FrameError"] == 1


async def test_the_reason_names_who_sent_a_produce_that_cannot_be_read(node: Node) -> None:
    connection = node.connect()
    await node.create("t")
    await connection.produce("t", batch(b"x"), version=9)
    records = b"\0\0\0\0" + b"\xff" * 6  # of partition 0; their size has no end
    frame = b"\0\0\0\x09\0\0\0\x01\0\x04test\0" + b"\0\xff\xff\0\0\x75\x30\2\2t\2" + records
    assert connection.session.begin_now(memoryview(frame), is_alone=True, is_next=True) is None
    with pytest.raises(PeerError, match=r"client id 'test'"):
        await begin(connection.session, frame)
    assert node.counters.closed["FrameError"] == 1


async def test_two_connections_do_not_share_a_name(node: Node) -> None:
    first, second = node.connect(), node.connect()
    await first.ask(METADATA, 4, "first", topics=[])
    assert second.session.client.client_id == ""


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [
        (struct.pack("<I", 12), "native"),
        (struct.pack("<I", 65536), "native"),
        (b"GET ", "HTTP"),
        (b"\x16\x03\x01\x02", "TLS"),
        (b"\xff\xff\xff\xff", None),
        (b"\x7f\xff\xff\xff", None),
    ],
)
async def test_a_frame_beyond_the_limit_is_logged_with_a_guess(
    node: Node, prefix: bytes, hint: str | None
) -> None:
    """A native client on the Kafka port: its little-endian length looks enormous here."""
    session = node.connect().session
    with capture_logs() as logs:
        assert not session.frame_refused(int.from_bytes(prefix, "big", signed=True))
    (line,) = logs
    assert line["peer"] == "127.0.0.1:50000"
    assert hint in line["hint"] if hint else line["hint"] is None


async def test_a_native_command_in_a_kafka_frame_is_recognised(node: Node) -> None:
    with pytest.raises(PeerError, match="native client on the Kafka port"):
        await begin(node.connect().session, b"PUT topic payload")


async def test_no_guess_after_the_first_frame(node: Node) -> None:
    connection = node.connect()
    await connection.ask(METADATA, 4, topics=[])
    with pytest.raises(PeerError) as closed:
        await begin(connection.session, b"PUT topic payload")
    assert "native" not in str(closed.value)


async def test_requests_are_counted_by_name_and_outcome_and_not_by_what_peers_invent(
    node: Node,
) -> None:
    connection = node.connect()
    await connection.ask(METADATA, 4, topics=[])
    for version in range(100, 200):
        finish = await connection.session.begin(memoryview(header(18, version)))
        await finish()
    meter = node.counters.requests
    assert meter.of("Metadata").outcomes == {"NONE": 1}
    assert meter.of("ApiVersions").outcomes == {"UNSUPPORTED_VERSION": 100}
    assert meter.of("ApiVersions").latency.count == 100


@pytest.mark.parametrize("version", [0, 4, 12])
async def test_an_answer_that_cannot_be_encoded_costs_one_request(
    node: Node, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host name of 40,000 characters is a mistake of ours, and not the end of the connection."""

    class Broken(Exception):
        pass

    calls = []

    def once(*_: object, **__: object) -> tuple[int, ...]:
        calls.append(1)
        if len(calls) == 1:
            raise Broken
        return ()

    monkeypatch.setattr(node.controller, "brokers", once)
    with capture_logs() as logs:
        await node.metadata(version, topics=[])
    assert [line["api"] for line in logs] == ["Metadata"]


async def test_a_reply_carries_the_correlation_id_it_was_asked_with(node: Node) -> None:
    for correlation_id in (0, -1, 2**31 - 1):
        frame = encode_request(METADATA, 4, correlation_id, None, {"topics": []})
        finish = await node.connect().session.begin(memoryview(frame))
        reply = received(await finish())
        assert struct.unpack_from(">i", reply, 4) == (correlation_id,)


@given(st.sampled_from(SERVED), st.binary(max_size=80))
async def test_whatever_comes_is_answered_or_closes_the_connection(
    served: tuple[int, int], body: bytes
) -> None:
    """And it is never our own mistake: nothing is logged as one."""
    node = Node()
    node.configure(fetch_wait_ms_max=0, admin_wait_ms_max=50)
    frame = header(*served) + body
    with capture_logs() as logs:
        try:
            reply = received(await (await node.connect().session.begin(memoryview(frame)))())
        except PeerError:
            reply = b""
    assert not reply or struct.unpack_from(">i", reply)[0] == len(reply) - 4
    assert not [line for line in logs if line["log_level"] == "error"]


async def test_the_first_request_of_a_version_stops_nobody_else(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes are imported and compiled: files and milliseconds, so not on the event loop."""
    threads: list[int] = []

    def load(key: int, version: int) -> wire.Codec:
        threads.append(threading.get_ident())
        return wire.Codec(key, version)

    fresh = cache(load)
    for module in (wire, session):
        monkeypatch.setattr(module, "codec", fresh)
        monkeypatch.setattr(module, "LOADED", set())
    await node.connect().ask(METADATA, 4, topics=[])
    await node.connect().ask(METADATA, 4, topics=[])
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_a_node_warms_up_for_clients_and_not_for_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: set[tuple[int, int]] = set()
    monkeypatch.setattr(wire, "LOADED", loaded)
    monkeypatch.setattr(kafka_api, "WARM_UP_PAUSE_S", 0)
    await kafka_api.warm_up()
    assert {(0, 12), (1, 17), (3, 13), (11, 9)} <= loaded
    assert {key for key, _ in loaded}.isdisjoint({15, 29, 60})
