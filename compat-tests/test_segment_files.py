"""Our files in the hands of Kafka's own tools."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.clients import CODECS, Message, confluent_read_all, confluent_write
from harness.groups import until
from harness.native import Native
from harness.programs import kafka_jars
from harness.server import Server

pytestmark = [pytest.mark.java, pytest.mark.confluent]

Launch = Callable[..., Server]


def dump(path: Path, *arguments: str, work: Path) -> str:
    """What `kafka-dump-log` says about a file."""
    result = subprocess.run(
        [
            *("java", "-Xmx256m", "-cp", f"{kafka_jars()}/*", "kafka.tools.DumpLogSegments"),
            *("--files", str(path), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=work,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def _write(server: Server, topic: str) -> int:
    """Batches of all codecs and writers, over several segments. Returns the number of records."""
    base_ms = int(time.time() * 1000)
    with Native(server.native_port) as native:
        native.register(topic)
        for turn, codec in enumerate(CODECS * 2):
            messages = [
                Message(
                    b"value %d" % number,
                    key=b"key %d" % number,
                    headers=(("h", b"x"),),
                    timestamp_ms=base_ms + turn * 1_000 + number,
                )
                for number in range(40)
            ]
            confluent_write(
                server.kafka, topic, messages, compression_type=codec, enable_idempotence=True
            )
            native.put(topic, b"native")
    return len(CODECS) * 2 * 41


def test_file_that_kafka_calls_damaged(launch: Launch, tmp_path: Path) -> None:
    server = launch(environment={"WALRUS_MAX_SEGMENT_ENTRIES": "100"})
    count = _write(server, "dumped")

    def files() -> list[Path]:
        return [path for path in server.segment_files() if "dumped" in str(path.parent)]

    def has_rolled_twice() -> bool:
        # The last roll may come behind the last record, and a segment has a file from its first.
        nonlocal count
        if len(files()) < 3:
            native.put("dumped", b"native")
            count += 1
        return len(files()) >= 3

    with Native(server.native_port) as native:
        until(has_rolled_twice, "the segments did not roll over")
    assert len(confluent_read_all(server.kafka, "dumped")) == count
    assert server.stop() == 0

    next_offset = 0
    for path in sorted(files(), key=lambda path: path.name):
        assert re.fullmatch(r"\d{20}\.log", path.name)
        assert int(path.stem) == next_offset
        said = dump(path, "--deep-iteration", "--print-data-log", work=tmp_path)
        assert f"Log starting offset: {next_offset}" in said
        assert "isvalid: false" not in said
        for base, last, valid in re.findall(
            r"baseOffset: (\d+) lastOffset: (\d+) .*isvalid: (\w+)", said
        ):
            assert int(base) == next_offset
            assert valid == "true"
            next_offset = int(last) + 1
        records = [int(offset) for offset in re.findall(r"^\| offset: (\d+)", said, re.MULTILINE)]
        assert records == list(range(int(path.stem), next_offset))
    assert next_offset == count


def test_index_that_kafka_calls_damaged(launch: Launch, tmp_path: Path) -> None:
    """The sparse indexes of sealed segments are in Kafka's layout, and agree with the log."""
    server = launch(environment={"WALRUS_MAX_SEGMENT_BYTES": "65536"})
    for _ in range(6):
        messages = [Message(b"x" * 2_000) for _ in range(20)]
        confluent_write(server.kafka, "indexed", messages, batch_size=4_000)
    assert server.stop() == 0
    indexes = [path for path in server.data_dir.rglob("*.index") if "indexed" in str(path.parent)]
    assert indexes, "no segment was sealed"
    for path in indexes:
        said = dump(path, work=tmp_path)
        assert re.findall(r"offset: (\d+) position: (\d+)", said)
        for wrong in ("Mismatches", "mismatch", "out of order", "Misalign"):
            assert wrong not in said
