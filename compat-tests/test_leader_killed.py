"""Three nodes, of which the leader is killed under a writer and a group: the clients in Python and
kcat. Those in other languages have the same in test_foreign.py and test_java_cluster.py."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.clients import confluent_read, values
from harness.groups import positions, until
from harness.processes import Client, read_in_order
from harness.programs import ROOT, kafka_python
from tests.cluster.processes import Cluster
from tests.node_process import clean_environment

WAIT_S_MAX = 90.0
"""Until everything goes on after a leader's death. Generous: a machine may be slow."""

COUNT = 600

pytestmark = [
    pytest.mark.full,
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.confluent,
    pytest.mark.timeout(300),
]


@dataclass(frozen=True, slots=True)
class Library:
    """How its programs are started: a writer of its input's lines, and a member of a group."""

    writer: Callable[[str], Sequence[str]]
    member: Callable[[str], Sequence[str]]
    path: str = ""
    """What stands first in PYTHONPATH."""
    is_idempotent: bool = True


def harness(client: str) -> Library:
    return Library(
        lambda kafka: [sys.executable, "-m", "harness.writer", client, kafka, "t"],
        lambda kafka: [sys.executable, "-m", "harness.member", client, kafka, "g", "t"],
    )


def old_or_new(version: str) -> Library:
    program = str(ROOT / "compat-tests" / "kafka_python" / "client.py")
    return Library(
        lambda kafka: [sys.executable, program, "write", kafka, "t"],
        lambda kafka: [sys.executable, program, "member", kafka, "g", "t"],
        str(kafka_python(version)),
        is_idempotent=version != "2.0",
    )


LIBRARIES = [
    pytest.param(harness("aiokafka"), id="aiokafka", marks=pytest.mark.aiokafka),
    pytest.param(harness("confluent"), id="confluent"),
    pytest.param(old_or_new("2.0"), id="kafka-python-2.0", marks=pytest.mark.kafka_python),
    pytest.param(old_or_new("3.0"), id="kafka-python-3.0", marks=pytest.mark.kafka_python),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start()
        made.register("t")
        yield made
    finally:
        made.close()


def kill_leader(cluster: Cluster) -> None:
    leader = cluster.leader("t")
    assert leader is not None
    leader.kill()


def send(client: Client, lines: Sequence[str]) -> None:
    assert client.process.stdin is not None
    client.process.stdin.write("".join(f"{line}\n" for line in lines))
    client.process.stdin.flush()


@pytest.mark.parametrize("library", LIBRARIES)
def test_leader_killed_under_a_writer_and_a_reader(
    cluster: Cluster, tmp_path: Path, library: Library
) -> None:
    """What was acknowledged is there, once if the client is idempotent, and in order."""
    path = os.pathsep.join(filter(None, (library.path, str(ROOT), str(ROOT / "compat-tests"))))
    environment = clean_environment({"PYTHONPATH": path})
    member = Client(library.member(cluster.bootstrap), tmp_path / "member.log", environment)
    writer = Client(library.writer(cluster.bootstrap), tmp_path / "writer.log", environment)
    try:
        lines = [str(number) for number in range(COUNT)]
        send(writer, lines[:200])
        until(lambda: len(writer.of("acked")) >= 50, "the first are acknowledged", WAIT_S_MAX)
        send(writer, lines[200:400])
        kill_leader(cluster)
        send(writer, lines[400:])
        assert writer.process.stdin is not None
        writer.process.stdin.close()
        until(writer.has_ended, f"its end; it said {writer.said()}", WAIT_S_MAX)
        writer.wait()
        acked = {value: int(offset) for _, offset, value in writer.of("acked")}
        assert list(acked) == lines or sorted(acked) == sorted(lines), writer.said()
        count = max(acked.values()) + 1
        stored = _stored(cluster, count)
        assert list(dict.fromkeys(stored)) == lines, "lost or out of order"
        assert all(stored[offset] == value for value, offset in acked.items())
        if library.is_idempotent:
            assert stored == lines, "stored twice"
        until(
            lambda: _committed(cluster) == count, f"all is committed: {member.said()}", WAIT_S_MAX
        )
        until(lambda: len(set(member.values())) == COUNT, "all is read", WAIT_S_MAX)
        assert list(dict.fromkeys(member.values())) == lines, "missed, or out of order"
        assert read_in_order([member])
    finally:
        writer.discard()
        member.discard()


def _stored(cluster: Cluster, count: int) -> list[str]:
    found = values(confluent_read(cluster.bootstrap, "t", count))
    return [value.decode() for value in found if value is not None]


def _committed(cluster: Cluster) -> int | None:
    return positions(cluster.bootstrap, "g").get("t")


@pytest.mark.kcat
def test_leader_killed_under_kcat(cluster: Cluster) -> None:
    """It ends well only if everything was acknowledged."""
    common = ("kcat", "-b", cluster.bootstrap, "-q", "-X", "reconnect.backoff.max.ms=500")
    reader = subprocess.Popen(
        [*common, "-u", "-X", "auto.offset.reset=earliest", "-G", "g", "t"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    writer = subprocess.Popen(
        [*common, "-X", "enable.idempotence=true", "-X", "linger.ms=2", "-P", "-t", "t"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdin is not None
        assert reader.stdout is not None
        # Long ones: it reads its input in blocks of many kilobytes.
        lines = [str(number).ljust(2_000, ".") for number in range(COUNT)]
        writer.stdin.write("".join(f"{line}\n" for line in lines[:200]))
        writer.stdin.flush()
        first = [reader.stdout.readline().strip() for _ in range(50)]
        kill_leader(cluster)
        _, said = writer.communicate("".join(f"{line}\n" for line in lines[200:]), WAIT_S_MAX)
        assert writer.returncode == 0, said
        stored = _stored(cluster, COUNT)
        assert stored == lines
        seen = first + [reader.stdout.readline().strip() for _ in range(COUNT - len(first))]
        assert seen == lines
    finally:
        for process in (writer, reader):
            process.kill()
            process.communicate()
