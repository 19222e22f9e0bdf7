"""kcat, as people use it by hand."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from harness.clients import (
    Message,
    confluent_write,
    kcat,
    kcat_read,
    kcat_write,
    offsets,
    parse_kcat,
    values,
)
from harness.server import Server

pytestmark = [pytest.mark.kcat]

NUMBERED = [Message(f"message {number}".encode()) for number in range(10)]


def test_listing_without_the_topic(server: Server, topic: str) -> None:
    kcat_write(server.kafka, topic, NUMBERED)
    listing = json.loads(kcat(server.kafka, "-L", "-J").stdout)
    assert [broker["name"] for broker in listing["brokers"]] == [server.kafka]
    (found,) = [entry for entry in listing["topics"] if entry["topic"] == topic]
    (partition,) = found["partitions"]
    assert partition["partition"] == 0
    assert partition["leader"] == 1
    assert partition["replicas"] == partition["isrs"] == [{"id": 1}]


def test_line_lost_between_two_pipes(server: Server, topic: str) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(1000))
    kcat(server.kafka, "-P", "-t", topic, stdin=lines)
    read = kcat(server.kafka, "-C", "-t", topic, "-o", "beginning", "-e", "-q")
    assert read.stdout == lines


@pytest.mark.parametrize(
    ("start", "first"),
    [("beginning", 0), ("0", 0), ("4", 4), ("9", 9), ("-3", 7), ("end", 10)],
)
def test_reader_that_starts_at_the_wrong_place(
    server: Server, topic: str, start: str, first: int
) -> None:
    kcat_write(server.kafka, topic, NUMBERED)
    found = kcat_read(server.kafka, topic, start=start)
    assert offsets(found) == list(range(first, 10))
    assert values(found) == values(NUMBERED[first:])


def test_reader_that_starts_at_a_timestamp(server: Server, topic: str) -> None:
    now_ms = int(time.time() * 1000)
    stamped = [
        Message(b"%d" % number, timestamp_ms=now_ms - 10_000 + number * 1000)
        for number in range(10)
    ]
    confluent_write(server.kafka, topic, stamped)
    found = kcat_read(server.kafka, topic, "-o", f"e@{now_ms - 2_000}", start=f"s@{now_ms - 6_500}")
    assert [message.timestamp_ms for message in found] == [
        now_ms - 10_000 + number * 1000 for number in range(4, 8)
    ]

    answer = kcat(
        server.kafka,
        *("-Q", "-t", f"{topic}:0:{now_ms - 6_500}"),
        *("-t", f"{topic}:0:-1", "-t", f"{topic}:0:-2"),
    ).stdout.decode()
    assert re.findall(r"offset (-?\d+)", answer)


def test_message_written_while_a_reader_waits_at_the_end(server: Server, topic: str) -> None:
    kcat_write(server.kafka, topic, NUMBERED)
    reader = subprocess.Popen(
        [
            *("kcat", "-b", server.kafka, "-C", "-t", topic, "-p", "0", "-o", "end"),
            *("-c", "1", "-u", "-f", "%o %T %K %S %h\\n%k%s\\n"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with reader:
        assert reader.stderr is not None
        assert reader.stdout is not None
        for line in reader.stderr:
            if b"Reached end of topic" in line:
                break
        kcat_write(server.kafka, topic, [Message(b"later")])
        (found,) = parse_kcat(reader.stdout.read())
        assert (found.offset, found.value) == (10, b"later")
        assert reader.wait(30) == 0


def test_nothing_and_emptiness_confused(server: Server, topic: str) -> None:
    """An empty value is a value; no value is a tombstone."""
    kcat(server.kafka, "-P", "-t", topic, "-K", ":", "-Z", stdin=b"gone:\nhere:x\n")
    confluent_write(server.kafka, topic, [Message(b"", key=b""), Message(None, key=None)])
    assert [(found.key, found.value) for found in kcat_read(server.kafka, topic)] == [
        (b"gone", None),
        (b"here", b"x"),
        (b"", b""),
        (None, None),
    ]


def test_header_that_does_not_arrive(server: Server, topic: str) -> None:
    headers = (("a", b"1"), ("b", b"two"), ("a", b"again"))
    kcat_write(server.kafka, topic, [Message(b"x", key=b"k", headers=headers)])
    (found,) = kcat_read(server.kafka, topic)
    assert found.content() == Message(b"x", key=b"k", headers=headers)


def test_message_of_a_megabyte(server: Server, topic: str, tmp_path: Path) -> None:
    payload = bytes(range(256)) * 4000
    path = tmp_path / "payload"
    path.write_bytes(payload)
    kcat(server.kafka, "-P", "-t", topic, str(path))
    (found,) = kcat_read(server.kafka, topic)
    assert found.value == payload
