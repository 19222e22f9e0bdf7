"""Running a node: settings, health, metrics, logs, banner, and how it ends."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from harness.clients import (
    WAIT_S_MAX,
    Message,
    confluent_producer,
    confluent_read,
    confluent_read_all,
    confluent_write,
    values,
)
from harness.native import Native
from harness.server import Server
from harness.wire import FETCH, METADATA, Wire, fetch, metadata, parse_fetch, request
from tests.node_process import WALRUS, clean_environment

pytestmark = [pytest.mark.confluent]

Launch = Callable[..., Server]


def walrus(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [WALRUS, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=clean_environment(environment),
        check=False,
    )


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "environment", "file", "words"),
    [
        (["--kafka-prot", "1"], {}, "", ["--kafka-prot", "--kafka-port"]),
        (["--kafka-port", "many"], {}, "", ["kafka-port", "many"]),
        (["--kafka-port", "65536"], {}, "", ["kafka-port", "65536"]),
        (["--fsync", "sometimes"], {}, "", ["fsync", "sometimes", "each", "none"]),
        ([], {"WALRUS_KAFKA_PROT": "1"}, "", ["WALRUS_KAFKA_PROT", "WALRUS_KAFKA_PORT"]),
        ([], {"WALRUS_MAX_SEGMENT_ENTRIES": "0"}, "", ["WALRUS_MAX_SEGMENT_ENTRIES", "0"]),
        ([], {"WALRUS_DISABLE_IO_URING": "maybe"}, "", ["WALRUS_DISABLE_IO_URING", "maybe"]),
        ([], {}, "kafka_prot = 1", ["walrus.toml", "kafka_prot", "kafka_port"]),
        ([], {}, "kafka_port = 'x'", ["walrus.toml", "kafka_port"]),
        ([], {}, "= what", ["walrus.toml", "TOML"]),
        (["--kafka-advertise", "0.0.0.0:9092"], {}, "", ["0.0.0.0"]),
    ],
)
def test_setting_that_cannot_be_meant(
    tmp_path: Path, flags: list[str], environment: dict[str, str], file: str, words: list[str]
) -> None:
    """Told by name, where it came from, what would do; exit code 2, and no traceback."""
    (tmp_path / "walrus.toml").write_text(file)
    ended = walrus("serve", *flags, folder=tmp_path, environment=environment)
    assert ended.returncode == 2, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


def test_flag_that_loses_to_the_environment(tmp_path: Path) -> None:
    """Defaults < file < environment < flags."""
    (tmp_path / "walrus.toml").write_text(
        "kafka_port = 1001\nadmin_port = 1002\nraft_port = 1003\n"
    )
    environment = {"WALRUS_ADMIN_PORT": "2002", "WALRUS_RAFT_PORT": "2003"}
    shown = walrus(
        *("config", "print", "--json", "--raft-port", "3003"),
        folder=tmp_path,
        environment=environment,
    )
    assert shown.returncode == 0, shown.stderr
    settings = json.loads(shown.stdout)
    found = {
        name: settings[name] for name in ("client_port", "kafka_port", "admin_port", "raft_port")
    }
    assert found == {
        "client_port": 8080,
        "kafka_port": 1001,
        "admin_port": 2002,
        "raft_port": 3003,
    }


def test_port_that_is_taken(launch: Launch) -> None:
    server = launch()
    other = launch(start=False, kafka_port=server.kafka_port)
    other.start(wait=False)
    assert other.process is not None
    assert other.process.wait(WAIT_S_MAX) == 1
    assert str(server.kafka_port) in other.log()
    assert "Traceback" not in other.log()


# ---- what it says of itself ----------------------------------------------------------------------


def test_start_that_leaves_questions_open(launch: Launch) -> None:
    """Addresses, directory, identity, backend and why, durability, and three lines to copy."""
    server = launch(environment={"WALRUS_DISABLE_IO_URING": "1"})
    said = server.log()
    for words in (
        server.native,
        server.kafka,
        f"127.0.0.1:{server.admin_port}",
        str(server.data_dir),
        "WALRUS_DISABLE_IO_URING",
        "pread",
        "fsync each",
        f"--addr {server.native} register",
        f"--addr {server.native} put",
        f"--addr {server.native} get",
    ):
        assert words in said, words
    assert server.stop() == 0


def test_durability_given_up_in_silence(launch: Launch) -> None:
    server = launch("--fsync", "none")
    assert "none" in server.log()
    assert "power cut" in server.log()
    assert server.metric("walrus_storage_fsync_info", fsync="none") == 1


def test_logs_no_machine_can_read(launch: Launch) -> None:
    """Where stderr is no terminal, each line is a JSON object with level, time and event."""
    server = launch(start=False)
    server.folder.mkdir()
    with (server.folder / "stderr").open("wb") as errors:
        server.process = subprocess.Popen(
            server.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=server.folder,
            env=clean_environment({"WALRUS_LOG_LEVEL": "debug"}),
            start_new_session=True,
        )
        server.wait_until_ready()
        confluent_write(server.kafka, "t", [Message(b"x")])
        assert server.stop() == 0
    lines = (server.folder / "stderr").read_text().splitlines()
    assert lines
    for line in lines:
        entry = json.loads(line)
        assert {"level", "event", "timestamp"} <= entry.keys()


def test_health_that_says_nothing(server: Server) -> None:
    assert server.get("/healthz")[0] == 200
    status, text = server.get("/readyz")
    assert (status, json.loads(text)["ready"]) == (200, True)
    status, text = server.get("/v1/status")
    assert status == 200
    assert isinstance(json.loads(text), dict)
    assert server.get("/nothing-here")[0] == 404


def test_metrics_that_do_not_move(server: Server, topic: str) -> None:
    confluent_write(server.kafka, topic, [Message(b"x")] * 10)
    confluent_read(server.kafka, topic, 10)
    with Native(server.native_port) as native:
        native.put(topic, b"y")
    status, text = server.get("/metrics")
    assert status == 200
    assert "# TYPE walrus_build_info gauge" in text
    assert server.metric("walrus_build_info") == 1
    assert server.metric("walrus_ready") == 1
    assert server.metric("walrus_kafka_requests_total", api="Produce") >= 1
    assert server.metric("walrus_kafka_requests_total", api="Fetch") >= 1
    assert server.metric("walrus_native_requests_total") >= 1
    assert server.metric("walrus_storage_backend_info") == 1


# ---- how it ends ---------------------------------------------------------------------------------


def test_acknowledged_message_lost_by_a_polite_end(launch: Launch) -> None:
    """SIGTERM under load: what was acknowledged is there, the rest was refused, exit code 0."""
    server = launch()
    producer = confluent_producer(server.kafka, message_timeout_ms=3_000, retries=0)
    acked: dict[int, bytes] = {}
    stopping = threading.Event()
    enough = threading.Event()

    def on_delivery(error: object, message: object) -> None:
        if error is None:
            acked[message.offset()] = message.value()  # type: ignore[attr-defined]
            if len(acked) > 500:
                enough.set()

    def write() -> None:
        number = 0
        while not stopping.is_set():
            with suppress(BufferError):
                producer.produce("t", b"%d" % number, on_delivery=on_delivery)
                number += 1
            producer.poll(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(WAIT_S_MAX)
    assert server.stop() == 0, server.log()
    stopping.set()
    writer.join()
    producer.flush(10)
    assert "Traceback" not in server.log()

    server.start()
    found = values(confluent_read_all(server.kafka, "t"))
    for offset, value in acked.items():
        assert found[offset] == value


def test_end_that_waits_for_a_waiting_reader(launch: Launch) -> None:
    """A fetch that may wait for minutes does not hold up the end, and gets its answer."""
    server = launch()
    with Wire(server.kafka_port) as wire:
        wire.ask(METADATA, 1, metadata(["t"]))
        wire.send(request(FETCH, 11, 5, fetch("t", 0, wait_ms_max=600_000)))
        assert server.stop() == 0
        correlation_id, reply = wire.receive()
        assert correlation_id == 5
        assert parse_fetch(reply).records == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_with_idle_connections(launch: Launch, number: signal.Signals) -> None:
    server = launch()
    with Wire(server.kafka_port), Native(server.native_port) as native:
        native.register("t")
        assert server.process is not None
        server.process.send_signal(number)
        assert server.process.wait(WAIT_S_MAX) == 0
    assert "Traceback" not in server.log()


def test_readiness_after_the_end_began(launch: Launch) -> None:
    """Ready means: clients are served. Before it is true nobody is told so."""
    server = launch()
    confluent_write(server.kafka, "t", [Message(b"x")] * 100)
    server.kill()
    server.start(wait=False)
    server.wait_until_ready()
    assert values(confluent_read_all(server.kafka, "t")) == [b"x"] * 100
    assert server.stop() == 0
