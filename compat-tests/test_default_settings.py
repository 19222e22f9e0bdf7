"""One node that closes segments and is restarted, under clients with the patience they come with.

Other tests give clients more of it, so that a slow machine fails nobody; here nothing is set but
the address, the group and where to begin.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.clients import confluent_read_all, values
from harness.groups import create, positions, until
from harness.processes import Client
from harness.programs import ROOT, kafka_python
from harness.server import Server
from tests.node_process import clean_environment

pytestmark = [pytest.mark.crash, pytest.mark.confluent, pytest.mark.slow]

WAIT_S_MAX = 60.0

SEGMENT_COUNT_MAX = 25
"""Records a segment: each part below closes several."""

PART = 60

Launch = Callable[..., Server]

CLIENTS = [
    pytest.param("aiokafka", "", id="aiokafka", marks=pytest.mark.aiokafka),
    pytest.param("confluent", "", id="confluent"),
    pytest.param("kafka-python", "3.0", id="kafka-python-3.0", marks=pytest.mark.kafka_python),
    pytest.param("kafka-python", "2.0", id="kafka-python-2.0", marks=pytest.mark.kafka_python),
]


@pytest.fixture
def server(launch: Launch) -> Server:
    return launch(environment={"WALRUS_MAX_SEGMENT_ENTRIES": str(SEGMENT_COUNT_MAX)})


def lines_of(part: int, pad: int = 0) -> list[str]:
    return [f"{part}.{number}".ljust(pad, ".") for number in range(PART)]


def say(process: "subprocess.Popen[str]", lines: Sequence[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("".join(f"{line}\n" for line in lines))
    process.stdin.flush()


def restarts(server: Server) -> Iterator[Callable[[], object]]:
    """What may come between two parts: an end that was asked for, and one that was not."""
    for end in (server.stop, server.kill):
        yield end
        server.start()


def stored(server: Server, topic: str) -> list[str]:
    found = values(confluent_read_all(server.kafka, topic))
    return [value.decode() for value in found if value is not None]


@pytest.mark.parametrize(("client", "version"), CLIENTS)
def test_record_or_reader_lost_for_want_of_patience(
    server: Server, topic: str, tmp_path: Path, client: str, version: str
) -> None:
    """Every record is acknowledged and read, though the node ends while they are written."""
    create(server.kafka, topic)
    path = [str(kafka_python(version))] if version else []
    path += [str(ROOT), str(ROOT / "compat-tests")]
    environment = clean_environment({"PYTHONPATH": os.pathsep.join(path)})
    program = [sys.executable, "-m", "harness.defaults", client]
    reader = Client(
        [*program, "read", server.kafka, "g", topic], tmp_path / "reader.log", environment
    )
    writer = Client([*program, "write", server.kafka, topic], tmp_path / "writer.log", environment)

    def acked() -> set[str]:
        assert writer.of("refused") == [], writer.said()
        return {value for _, _, value in writer.of("acked")}

    def read() -> set[str]:
        assert not reader.has_ended(), reader.said()
        return set(reader.values())

    try:
        written: list[str] = []
        for number in range(3):
            for line in lines_of(number):  # one at a time: a batch each, or nearly
                say(writer.process, [line])
                written.append(line)
            until(lambda: acked() == set(written), "all is acknowledged", WAIT_S_MAX)
        # The old client tries nothing twice by itself: what is on its way to a node that ends is
        # lost, with any broker.
        for end in restarts(server) if version != "2.0" else ():
            part = lines_of(len(written))
            written += part
            say(writer.process, part[: PART // 2])
            end()
            say(writer.process, part[PART // 2 :])
        until(lambda: acked() == set(written), "all is acknowledged", WAIT_S_MAX)
        until(lambda: read() == set(written), "all is read", WAIT_S_MAX)
        writer.close()
        reader.close()
        found = stored(server, topic)
        assert set(found) == set(written)
        for _, offset, value in writer.of("acked") + reader.of("read"):
            assert found[int(offset)] == value
        assert positions(server.kafka, "g") == {topic: len(found)}, "it commits when it closes"
        assert len(server.segment_files()) > 3
    finally:
        writer.discard()
        reader.discard()


@pytest.mark.kcat
def test_kcat_that_gives_up(server: Server, topic: str) -> None:
    """It ends well only if everything was acknowledged."""
    create(server.kafka, topic)
    common = ("kcat", "-q", "-E", "-b", server.kafka)  # -E: else it ends with the connection
    reader = subprocess.Popen(
        [*common, "-u", "-X", "auto.offset.reset=earliest", "-G", "g", topic],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    writer = subprocess.Popen(
        [*common, "-P", "-t", topic], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout is not None
        # Long ones: it reads its input in blocks of many kilobytes.
        first = lines_of(0, pad=2_000)
        say(writer, first)
        seen = [reader.stdout.readline().strip() for _ in range(PART // 2)]
        written = list(first)
        for end in restarts(server):
            part = lines_of(len(written), pad=2_000)
            written += part
            say(writer, part)
            end()
        _, said = writer.communicate(timeout=WAIT_S_MAX)
        assert writer.returncode == 0, said
        assert set(stored(server, topic)) == set(written)
        while set(seen) != set(written):
            seen.append(reader.stdout.readline().strip())
    finally:
        for process in (writer, reader):
            process.kill()
            process.communicate()
