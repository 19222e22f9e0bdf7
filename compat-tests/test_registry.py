"""A schema registry, unmodified, that keeps its schemas in topics: Apicurio with its Kafka storage.

It reads its topic from the beginning when it starts, and every change is a record that it waits to
read back. Clients ask it as they ask Confluent's.
"""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.groups import until
from harness.programs import registry_jar
from harness.server import Server
from tests.cluster.processes import Cluster
from tests.node_process import free_port

pytestmark = [pytest.mark.registry, pytest.mark.full, pytest.mark.slow, pytest.mark.timeout(400)]

START_S_MAX = 150.0
ANSWER_S_MAX = 60.0


class Registry:
    """Its REST interface, in Confluent's form."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and answer. Raises OSError when there is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def is_up(self) -> bool:
        try:
            return self.ask("GET", "/health/ready")[0] == 200
        except (OSError, ValueError):
            return False

    def subject(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return self.ask(method, f"/apis/ccompat/v7{path}", body)

    def register(self, subject: str, *fields: str) -> tuple[int, Any]:
        """A record of these fields, which are all optional."""
        return self.subject("POST", f"/subjects/{subject}/versions", {"schema": schema(*fields)})


def schema(*fields: str, **required: str) -> str:
    given: list[Any] = [
        {"name": name, "type": ["null", "string"], "default": None} for name in fields
    ]
    given += [{"name": name, "type": kind} for name, kind in required.items()]
    return json.dumps({"type": "record", "name": "R", "fields": given})


@contextmanager
def running(kafka: str, folder: Path, name: str) -> Iterator[Registry]:
    """One instance, up; killed at the end, as none of its promises needs a goodbye."""
    registry = Registry(free_port())
    log_path = folder / f"{name}.log"
    flags = ("-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
    host = "-Dquarkus.http.host=127.0.0.1"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            ["java", *flags, host, "-jar", str(registry_jar())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={
                **os.environ,
                "APICURIO_STORAGE_KIND": "kafkasql",
                "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": kafka,
                "QUARKUS_HTTP_PORT": str(registry.port),
            },
        )
    try:

        def is_up() -> bool:
            said = log_path.read_text(errors="replace")
            assert process.poll() is None, f"{name} ended:\n{said[-4000:]}"
            return registry.is_up()

        until(is_up, f"{name} is up", START_S_MAX)
        yield registry
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def test_schema_that_is_forgotten(server: Server, topic: str, tmp_path: Path) -> None:
    """Schemas, their ids and the compatibility setting are there after a restart of both."""
    with running(server.kafka, tmp_path, "first") as registry:
        status, answer = registry.register(topic, "a")
        assert status == 200, answer
        first = answer["id"]
        assert registry.register(topic, "a") == (200, {"id": first}), "the same has the same id"
        wanted = {"compatibility": "BACKWARD"}
        assert registry.subject("PUT", f"/config/{topic}", wanted)[0] == 200
        status, answer = registry.register(topic, "a", "b")
        assert status == 200, answer
        second = answer["id"]
        assert second != first
        body = {"schema": schema("a", c="string")}
        status, _ = registry.subject("POST", f"/subjects/{topic}/versions", body)
        assert status == 409, "a new field without a default breaks readers of old records"
    server.kill()
    server.start()
    with running(server.kafka, tmp_path, "second") as registry:
        assert registry.subject("GET", "/subjects") == (200, [topic])
        assert registry.subject("GET", f"/subjects/{topic}/versions") == (200, [1, 2])
        status, answer = registry.subject("GET", f"/schemas/ids/{second}")
        assert (status, json.loads(answer["schema"])) == (200, json.loads(schema("a", "b")))
        status, answer = registry.subject("GET", f"/config/{topic}")
        assert (status, answer["compatibilityLevel"]) == (200, "BACKWARD")
        status, answer = registry.register(topic, "a", "b", "d")
        assert (status, answer["id"] > second) == (200, True)


@pytest.mark.crash
def test_schema_that_only_one_registry_knows(tmp_path: Path) -> None:
    """Two on a cluster of three: what one has taken the other tells, a node's death between."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        kafka = cluster.bootstrap
        with (
            running(kafka, tmp_path, "first") as first,
            running(kafka, tmp_path, "second") as other,
        ):
            status, answer = first.register("s", "a")
            assert status == 200, answer
            until(lambda: other.subject("GET", "/subjects/s/versions") == (200, [1]), "it heard")
            leader = cluster.leader("kafkasql-journal")
            assert leader is not None
            leader.kill()

            def is_taken() -> bool:
                return other.register("s", "a", "b")[0] == 200

            until(is_taken, "the other takes one after the death", 90)
            until(lambda: first.subject("GET", "/subjects/s/versions") == (200, [1, 2]), "both", 90)
    finally:
        cluster.close()
