"""kafka-python, an old and a new one, each in processes of its own.

What the programs do is in compat-tests/kafka_python/client.py.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.groups import create, positions, until, write
from harness.processes import Client, read_in_order, share_is_even
from harness.programs import KAFKA_PYTHON_VERSIONS, ROOT, kafka_python
from harness.server import Server

pytestmark = [pytest.mark.kafka_python, pytest.mark.confluent]

PROGRAM = str(ROOT / "compat-tests" / "kafka_python" / "client.py")

WAIT_S_MAX = 60.0

Start = Callable[..., Client]


@pytest.fixture(params=KAFKA_PYTHON_VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def environment(version: str) -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(kafka_python(version))}


def run(version: str, what: str, *arguments: str) -> None:
    """Raises AssertionError with its words when it is disappointed."""
    result = subprocess.run(
        [sys.executable, PROGRAM, what, *arguments],
        env=environment(version),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture
def start(version: str, tmp_path: Path) -> Iterator[Start]:
    """Start members that do not outlive the test."""
    clients: list[Client] = []

    def start(server: Server, group: str, topics: Sequence[str]) -> Client:
        command = [sys.executable, PROGRAM, "member", server.kafka, group, ",".join(topics)]
        log_path = tmp_path / f"client-{len(clients)}.log"
        clients.append(Client(command, log_path, environment(version)))
        return clients[-1]

    yield start
    for client in clients:
        client.discard()


def test_record_that_comes_back_different(version: str, server: Server, topic: str) -> None:
    run(version, "codecs", server.kafka, topic)


def test_admin_call_that_answers_what_kafka_would_not(
    version: str, server: Server, topic: str
) -> None:
    run(version, "admin", server.kafka, topic)


def test_retry_that_writes_twice(server: Server, topic: str) -> None:
    run("3.0", "idempotent", server.kafka, topic)


def test_member_that_takes_messages_to_its_grave(start: Start, server: Server, topic: str) -> None:
    """Three join one by one, one is killed, one leaves; every message is read, in order."""
    topics = [f"{topic}-{number}" for number in range(6)]
    create(server.kafka, *topics)
    written = write(server.kafka, topics, ["before"])
    everybody: list[Client] = []

    def all_read() -> bool:
        found = {value for member in everybody for value in member.values()}
        return found == {value.decode() for value in written}

    for _ in range(3):
        everybody.append(start(server, topic, topics))
        until(lambda: share_is_even(everybody, topics), "the topics are shared", WAIT_S_MAX)
        written |= write(server.kafka, topics, [f"with {len(everybody)}"])
    until(all_read, "all is read", WAIT_S_MAX)
    killed, leaving, last = everybody
    killed.kill()
    until(lambda: share_is_even([leaving, last], topics), "the others take over", WAIT_S_MAX)
    written |= write(server.kafka, topics, ["after a death"])
    until(all_read, "all is read after a death", WAIT_S_MAX)
    leaving.close()
    until(lambda: share_is_even([last], topics), "the last has all", WAIT_S_MAX)
    written |= write(server.kafka, topics, ["at the end"])
    until(all_read, "all is read at the end", WAIT_S_MAX)
    last.close()
    assert read_in_order(everybody)
    values = [value for member in everybody for value in member.values()]
    # At least once: what the killed one had read and not committed may come again, once.
    assert len(values) - len(set(values)) <= len(topics)
    assert positions(server.kafka, topic) == dict.fromkeys(topics, 6)


def test_consumer_that_resumes_elsewhere(start: Start, server: Server, topic: str) -> None:
    """What was committed is not read again; what was not is."""
    create(server.kafka, topic)

    def read_part(part: int) -> list[int]:
        write(server.kafka, [topic], [f"{part} {number}" for number in range(50)])
        member = start(server, topic, [topic])
        until(lambda: len(member.of("read")) >= 50, "a part is read", WAIT_S_MAX)
        member.close()
        return [int(offset) for _, offset, _ in member.of("read")]

    assert read_part(0) == list(range(50))
    assert positions(server.kafka, topic) == {topic: 50}
    assert read_part(1) == list(range(50, 100))
    assert positions(server.kafka, topic) == {topic: 100}
