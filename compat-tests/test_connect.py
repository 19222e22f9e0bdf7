"""Kafka Connect, unmodified: lines of a file into a topic, and from there into another file."""

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clients import confluent_read_all, values
from harness.groups import until
from harness.java import VERSIONS, Java
from harness.programs import kafka_jars
from harness.server import Server
from tests.node_process import free_port

pytestmark = [pytest.mark.connect, pytest.mark.full, pytest.mark.confluent]

START_S_MAX = 100.0

FILE = "org.apache.kafka.connect.file.FileStream"
STRINGS = "org.apache.kafka.connect.storage.StringConverter"


@pytest.fixture(params=VERSIONS)
def java(request: pytest.FixtureRequest, tmp_path: Path) -> Java:
    return Java(request.param, tmp_path)


class Worker:
    """One worker's REST interface."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: object = None) -> object:
        """Raises OSError when it does not answer, or not with success."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
        return json.loads(text) if text else None

    def is_up(self) -> bool:
        try:
            self.ask("GET", "/connectors")
        except OSError:
            return False
        return True


@contextmanager
def running(java: Java, program: str, settings: dict[str, object], *files: str) -> Iterator[Worker]:
    """A worker, up; killed at the end, as none of its promises needs a goodbye."""
    port = free_port()
    plugins = java.folder / "plugins"
    plugins.mkdir(exist_ok=True)
    jar = f"connect-file-{java.version}.jar"
    if not (plugins / jar).exists():
        (plugins / jar).symlink_to(kafka_jars(java.version) / jar)
    common: dict[str, object] = {
        "key.converter": STRINGS,
        "value.converter": STRINGS,
        "offset.flush.interval.ms": 500,
        "listeners": f"HTTP://127.0.0.1:{port}",
        "plugin.path": plugins,
        "plugin.discovery": "only_scan",
    }
    path = write_properties(java.folder / "worker.properties", common | settings)
    log_path = java.folder / "worker.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            java.command(f"org.apache.kafka.connect.cli.{program}", str(path), *files),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=java.folder,
        )
    worker = Worker(port)
    try:
        until(lambda: worker.is_up() or process.poll() is not None, "the worker is up", START_S_MAX)
        assert process.poll() is None, log_path.read_text()
        yield worker
    finally:
        process.kill()
        process.wait()


def write_properties(path: Path, settings: dict[str, object]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


def source(folder: Path, topic: str) -> dict[str, object]:
    return {
        "connector.class": f"{FILE}SourceConnector",
        "tasks.max": "1",
        "file": str(folder / "in.txt"),
        "topic": topic,
    }


def sink(folder: Path, topic: str) -> dict[str, object]:
    return {
        "connector.class": f"{FILE}SinkConnector",
        "tasks.max": "1",
        "file": str(folder / "out.txt"),
        "topics": topic,
    }


def lines(first: int, last: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, last))


def arrived(path: Path, text: str) -> Callable[[], bool]:
    return lambda: path.exists() and path.read_text() == text


def test_line_that_standalone_connect_loses(java: Java, server: Server, topic: str) -> None:
    folder = java.folder
    (folder / "in.txt").write_text(lines(0, 100))
    files = [
        str(write_properties(folder / f"{name}.properties", {"name": f"{topic}-{name}"} | settings))
        for name, settings in {"source": source(folder, topic), "sink": sink(folder, topic)}.items()
    ]
    settings: dict[str, object] = {
        "bootstrap.servers": server.kafka,
        "offset.storage.file.filename": folder / "offsets",
    }
    with running(java, "ConnectStandalone", settings, *files):
        until(arrived(folder / "out.txt", lines(0, 100)), "all lines arrive", START_S_MAX)
        with (folder / "in.txt").open("a") as file:
            file.write(lines(100, 120))
        until(arrived(folder / "out.txt", lines(0, 120)), "the later ones too", START_S_MAX)
    written = [b"line %d" % number for number in range(120)]
    assert values(confluent_read_all(server.kafka, topic)) == written


def test_line_that_distributed_connect_loses(java: Java, server: Server, topic: str) -> None:
    """Its state is in three compacted topics; a worker that is killed finds it there.

    Connect asks for 25 and 5 partitions of two of them: it has to live with one.
    """
    folder = java.folder
    (folder / "in.txt").write_text(lines(0, 100))
    settings: dict[str, object] = {
        "bootstrap.servers": server.kafka,
        "group.id": topic,
        "scheduled.rebalance.max.delay.ms": 500,
    }
    for name in ("offset", "config", "status"):
        settings[f"{name}.storage.topic"] = f"{topic}-{name}"
        settings[f"{name}.storage.replication.factor"] = 1
    with running(java, "ConnectDistributed", settings) as worker:
        worker.ask("PUT", "/connectors/source/config", source(folder, topic))
        worker.ask("PUT", "/connectors/sink/config", sink(folder, topic))
        until(arrived(folder / "out.txt", lines(0, 100)), "all lines arrive", START_S_MAX)
        until(lambda: is_stored(worker), "the source's position is stored", START_S_MAX)
    with (folder / "in.txt").open("a") as file:
        file.write(lines(100, 120))
    with running(java, "ConnectDistributed", settings) as worker:
        connectors = worker.ask("GET", "/connectors")
        assert isinstance(connectors, list)
        assert sorted(connectors) == ["sink", "source"]
        written = [b"line %d" % number for number in range(120)]
        until(
            lambda: len(confluent_read_all(server.kafka, topic)) >= 120, "all are read", START_S_MAX
        )
        assert values(confluent_read_all(server.kafka, topic)) == written
        # The sink may repeat what it had not committed; it leaves nothing out.
        until(
            lambda: (
                set((folder / "out.txt").read_text().splitlines())
                == set(lines(0, 120).splitlines())
            ),
            "all lines arrive after the restart",
            START_S_MAX,
        )


def is_stored(worker: Worker) -> bool:
    """Has the source committed where in the file it is?"""
    found = worker.ask("GET", "/connectors/source/offsets")
    assert isinstance(found, dict)
    size = len(lines(0, 100))
    return [one["offset"] for one in found["offsets"]] == [{"position": size}]
