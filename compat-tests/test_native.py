"""The native protocol and its command line, and what Kafka's clients make of it."""

import json
import subprocess
import threading
import time

import pytest

from harness.clients import (
    Message,
    confluent_read,
    confluent_read_all,
    confluent_write,
    offsets,
    values,
)
from harness.native import Native, NativeError
from harness.server import WALRUS_CLI, Server
from tests.node_process import clean_environment

pytestmark = [pytest.mark.confluent]


def cli(
    server: Server, *arguments: str, stdin: bytes = b"", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run walrus-cli. Raises AssertionError with its words for another exit code."""
    result = subprocess.run(
        [WALRUS_CLI, "--addr", server.native, *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert result.returncode == code, (result.stdout, result.stderr)
    return result


def test_first_minute_of_a_new_user(server: Server, topic: str) -> None:
    cli(server, "register", topic)
    cli(server, "put", topic, "hello world")
    assert b"hello world" in cli(server, "get", topic).stdout
    assert b"EMPTY" in cli(server, "get", topic).stdout


def test_error_that_exits_with_success(server: Server, topic: str) -> None:
    failed = cli(server, "get", topic, code=1)
    assert f"unknown topic {topic}".encode() in failed.stdout + failed.stderr
    failed = cli(server, "put", topic, "x", code=1)
    assert f"unknown topic {topic}".encode() in failed.stdout + failed.stderr


def test_nobody_there(server: Server) -> None:
    result = subprocess.run(
        [WALRUS_CLI, "--addr", "127.0.0.1:1", "metrics"],
        capture_output=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert result.returncode == 1
    assert b"127.0.0.1:1" in result.stderr
    assert b"Traceback" not in result.stderr


def test_session_typed_line_by_line(server: Server, topic: str) -> None:
    lines = f"REGISTER {topic}\nPUT {topic} one two\nGET {topic}\nGET {topic}\nexit\n"
    said = cli(server, stdin=lines.encode()).stdout.decode()
    assert "one two" in said
    assert "EMPTY" in said


def test_payload_that_is_not_text(server: Server, topic: str) -> None:
    """Any bytes, spaces and newlines at both ends included."""
    payloads = [
        bytes(range(256)),
        b"  leading and trailing \r\n\t ",
        b"\x00",
        b" ",
        b"\xff\xfe\xfd",
        b"PUT a b",
        "🦭 walrus".encode(),
        b"",
    ]
    with Native(server.native_port) as native:
        native.register(topic)
        for payload in payloads:
            native.put(topic, payload)
        assert native.get_all(topic) == payloads
    assert values(confluent_read_all(server.kafka, topic)) == payloads

    cli(server, "put", topic, "-", stdin=bytes(range(256)))
    assert bytes(range(256)) in cli(server, "get", topic).stdout


def test_native_write_that_kafka_cannot_see(server: Server, topic: str) -> None:
    before_ms = int(time.time() * 1000)
    with Native(server.native_port) as native:
        native.register(topic)
        for number in range(100):
            native.put(topic, b"%d" % number)
    found = confluent_read(server.kafka, topic, 100, check_crcs=True)
    assert values(found) == [b"%d" % number for number in range(100)]
    assert offsets(found) == list(range(100))
    assert {(message.key, message.headers) for message in found} == {(None, ())}
    assert before_ms <= found[0].timestamp_ms <= found[-1].timestamp_ms


def test_kafka_write_that_native_readers_cannot_see(server: Server, topic: str) -> None:
    messages = [
        Message(b"with all", key=b"key", headers=(("h", b"1"),)),
        Message(b""),
        Message(None, key=b"tombstone"),
        Message(b"\x00\xff"),
    ]
    confluent_write(server.kafka, topic, messages, compression_type="zstd")
    with Native(server.native_port) as native:
        assert native.get_all(topic) == [b"with all", b"", b"", b"\x00\xff"]


def test_cursor_of_each_connection(server: Server, topic: str) -> None:
    """One cursor for all: every message goes to exactly one of the readers."""
    count, reader_count = 2_000, 8
    confluent_write(server.kafka, topic, [Message(b"%d" % number) for number in range(count)])
    taken: list[list[int]] = [[] for _ in range(reader_count)]

    def read(mine: list[int]) -> None:
        with Native(server.native_port) as native:
            mine += [int(payload) for payload in native.get_all(topic)]

    readers = [threading.Thread(target=read, args=(mine,)) for mine in taken]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert sorted(number for mine in taken for number in mine) == list(range(count))
    for mine in taken:
        assert mine == sorted(mine), "one reader's messages out of order"


def test_cursor_moved_by_asking_an_empty_topic(server: Server, topic: str) -> None:
    with Native(server.native_port) as native:
        native.register(topic)
        for _ in range(5):
            assert native.get(topic) is None
        native.put(topic, b"first")
        assert native.get(topic) == b"first"
        for _ in range(5):
            assert native.get(topic) is None
        native.put(topic, b"second")
        assert native.get(topic) == b"second"


def test_pipelined_commands_answered_out_of_order(server: Server, topic: str) -> None:
    count = 500
    with Native(server.native_port) as native:
        native.register(topic)
        for number in range(count):
            native.send(b"PUT %s %d" % (topic.encode(), number))
            if number % 50 == 49:
                native.send(b"STATE nothing-of-that-name")
        replies = [native.receive() for _ in range(count + count // 50)]
        for number in range(0, len(replies), 51):
            assert replies[number : number + 50] == [b"OK"] * 50
            assert replies[number + 50].startswith(b"ERR unknown topic")
        for _ in range(count):
            native.send(b"GET %s" % topic.encode())
        assert [native.receive() for _ in range(count)] == [
            b"OK %d" % number for number in range(count)
        ]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"", b"ERR invalid frame length"),
        (b"FETCH a", b"ERR unknown command"),
        (b"put a b", b"ERR unknown command"),
        (b"\xff\xfe", b"ERR invalid utf-8"),
        (b"REGISTER", b"ERR REGISTER requires a topic"),
        (b"PUT", b"ERR PUT requires a topic"),
        (b"PUT a", b"ERR PUT requires a payload"),
        (b"GET", b"ERR GET requires a topic"),
        (b"STATE", b"ERR STATE requires a topic"),
        (b"GET never-registered", b"ERR unknown topic never-registered"),
        (b"STATE never-registered", b"ERR unknown topic never-registered"),
        (b"PUT never-registered x", b"ERR unknown topic never-registered"),
    ],
)
def test_command_that_is_none(server: Server, command: bytes, reply: bytes) -> None:
    """The original's words; and the connection stays in step."""
    with Native(server.native_port) as native:
        assert native.ask(command) == reply
        assert isinstance(native.metrics(), dict)


@pytest.mark.parametrize("name", ["..", "a/b", "a\x00b", "ä", "x" * 250])
def test_name_no_one_may_register(server: Server, name: str) -> None:
    with Native(server.native_port) as native:
        with pytest.raises(NativeError, match="ERR"):
            native.register(name)
        assert isinstance(native.metrics(), dict)


def test_registration_that_empties_the_topic(server: Server, topic: str) -> None:
    with Native(server.native_port) as native:
        native.register(topic)
        native.put(topic, b"kept")
        native.register(topic)
        assert native.get(topic) == b"kept"


def test_state_that_scripts_cannot_read(server: Server, topic: str) -> None:
    with Native(server.native_port) as native:
        native.register(topic)
        native.put(topic, b"x")
        state = native.state(topic)
        assert state["leader_node"] == 1
        assert state["last_sealed_entry_offset"] == 0
        assert state["sealed_segments"] == {}
        assert state["segment_leaders"] == {str(state["current_segment"]): 1}
        assert native.metrics()["current_leader"] == 1
    assert json.loads(cli(server, "state", topic).stdout) == state
    assert json.loads(cli(server, "metrics").stdout)["current_leader"] == 1


def test_payload_as_large_as_a_kafka_message(server: Server, topic: str) -> None:
    payload = bytes(range(256)) * 3_900
    with Native(server.native_port) as native:
        native.register(topic)
        native.put(topic, payload)
        assert native.get(topic) == payload
