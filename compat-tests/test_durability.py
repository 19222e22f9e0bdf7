"""What the kernel is asked, and when: a data sync lies between a write request and its answer."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.native import Native
from harness.server import Server
from harness.trace import Call, Trace, first
from harness.wire import (
    API_VERSIONS,
    METADATA,
    PRODUCE,
    Wire,
    batch,
    metadata,
    parse_produce,
    produce,
)

pytestmark = [pytest.mark.strace]

Launch = Callable[..., Server]

VISIBLE = {"WALRUS_DISABLE_IO_URING": "1"}
"""io_uring's operations are no system calls; those of pread and pwrite are."""

RECEIVE = {"recvfrom", "recvmsg", "read"}
WRITE = {"write", "writev", "pwrite64", "pwritev", "pwritev2"}
SEND = {"sendto", "sendmsg", "write", "writev"}
SYNC = {"fsync", "fdatasync"}

COUNT = 20


def _is_log(call: Call) -> bool:
    return ".log" in call.file


def _way_of(calls: list[Call], marker: str) -> tuple[Call, Call, Call]:
    """The request that carries `marker`, the write of it to a segment file, and the reply."""
    request = first(
        calls, -1, lambda c: c.name in RECEIVE and marker in c.text, f"{marker} received"
    )
    written = first(
        calls,
        request.end,
        lambda c: c.name in WRITE and _is_log(c) and marker in c.text,
        f"{marker} written to a segment file",
    )
    reply = first(
        calls,
        request.end,
        lambda c: c.name in SEND and c.file == request.file,
        f"answer to {marker}",
    )
    return request, written, reply


def _is_synced(calls: list[Call], written: Call, reply: Call) -> bool:
    """Whether a sync of the written file began after the write and ended before the reply."""
    return any(
        call.name in SYNC
        and call.file == written.file
        and call.begin > written.end
        and call.end < reply.begin
        and call.text.rstrip().endswith("= 0")
        for call in calls
    )


def _write_traced(server: Server, path: Path, *, acks: int = -1) -> list[Call]:
    """One write at a time, by Kafka and then natively, under strace."""
    with Wire(server.kafka_port) as wire, Native(server.native_port) as native:
        wire.ask(METADATA, 1, metadata(["traced"]))
        wire.ask(PRODUCE, 3, produce("traced", batch([b"first"])))
        native.put("traced", b"second")
        with Trace(server.pid, path) as trace:
            for number in range(COUNT):
                body = produce("traced", batch([b"kafka-%03d!" % number]), acks=acks)
                assert parse_produce(wire.ask(PRODUCE, 3, body)).error == 0
            for number in range(COUNT):
                native.put("traced", b"native-%03d!" % number)
    return trace.calls()


MARKERS = [
    f"{protocol}-{number:03}!" for protocol in ("kafka", "native") for number in range(COUNT)
]


def test_acknowledged_before_it_was_on_the_disk(launch: Launch, tmp_path: Path) -> None:
    server = launch(environment=VISIBLE)
    calls = _write_traced(server, tmp_path / "trace")
    for marker in MARKERS:
        _, written, reply = _way_of(calls, marker)
        assert _is_synced(calls, written, reply), f"{marker} was answered before it was synced"


def test_sync_that_nobody_asked_for(launch: Launch, tmp_path: Path) -> None:
    server = launch("--fsync", "none", environment=VISIBLE)
    calls = _write_traced(server, tmp_path / "trace")
    for marker in MARKERS:
        _, written, reply = _way_of(calls, marker)
        assert written.end < reply.begin, f"{marker} was answered before it was written"
    assert [call for call in calls if call.name in SYNC and _is_log(call)] == []


def test_timer_that_never_syncs(launch: Launch, tmp_path: Path) -> None:
    """`--fsync 20`: answered at once, synced soon after, without another write."""
    server = launch("--fsync", "20", environment=VISIBLE)
    with Wire(server.kafka_port) as wire:
        wire.ask(METADATA, 1, metadata(["timed"]))
        with Trace(server.pid, tmp_path / "trace") as trace:
            wire.ask(PRODUCE, 3, produce("timed", batch([b"kafka-000!"])))
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                wire.ask(API_VERSIONS, 0, b"")
    calls = trace.calls()
    _, written, _ = _way_of(calls, "kafka-000!")
    first(
        calls,
        written.end,
        lambda call: call.name in SYNC and call.file == written.file,
        "sync of the segment file",
    )


def test_sync_for_each_of_many_waiting_writers(launch: Launch, tmp_path: Path) -> None:
    """One sync serves all who wait for it: a hundred pipelined writes need far fewer."""
    server = launch(environment=VISIBLE)
    count = 100
    with Native(server.native_port) as native:
        native.register("many")
        native.put("many", b"first")
        with Trace(server.pid, tmp_path / "trace") as trace:
            for number in range(count):
                native.send(b"PUT many native-%03d!" % number)
            assert [native.receive() for _ in range(count)] == [b"OK"] * count
    syncs = [call for call in trace.calls() if call.name in SYNC and _is_log(call)]
    assert 1 <= len(syncs) <= count // 4
