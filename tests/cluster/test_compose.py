"""The demo cluster in containers: what the README promises, and nodes that are killed."""

import asyncio
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from random import Random

import pytest

from harness.native import Native
from tests.chaos.clients import ConfluentWriter, History
from tests.chaos.verdict import judge, read_all
from tests.cluster.clients import get_all, numbered, put
from tests.cluster.processes import wait_until
from tests.node_process import ROOT

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

NATIVE_PORTS = (9091, 9092, 9093)
ADMIN_PORTS = (9644, 9645, 9646)
KAFKA = "127.0.0.1:19091,127.0.0.1:19092,127.0.0.1:19093"


def _compose(*words: str) -> str:
    """Compose v2 is a command of docker; before, it was a program of its own."""
    has_v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    program = ["docker", "compose"] if has_v2.returncode == 0 else ["docker-compose"]
    done = subprocess.run(
        [*program, "--project-name", "walrus-test", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _is_whole() -> bool:
    for port in ADMIN_PORTS:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                pass
            address = f"http://127.0.0.1:{port}/v1/cluster"
            with urllib.request.urlopen(address, timeout=2) as response:
                nodes = json.load(response)["nodes"]
        except OSError:
            return False
        if sum(node["is_alive"] for node in nodes) != len(ADMIN_PORTS):
            return False
    return True


@pytest.fixture(scope="module")
def containers() -> Iterator[None]:
    assert shutil.which("docker"), "there is no docker"
    _compose("up", "--build", "--detach")
    try:
        wait_until(_is_whole, "three nodes in containers", timeout_s=120)
        yield
    finally:
        _compose("down", "--volumes")


@pytest.mark.usefixtures("containers")
def test_messages_lost_between_two_containers() -> None:
    payloads = numbered("message", range(20))
    with Native(NATIVE_PORTS[0]) as client:
        client.register("smoke")
        for payload in payloads:
            put(client, "smoke", payload)
    with Native(NATIVE_PORTS[1]) as client:
        assert get_all(client, "smoke") == payloads
    assert read_all(KAFKA, "smoke") == list(enumerate(payloads))


@pytest.mark.usefixtures("containers")
def test_containers_that_are_killed_one_after_the_other(seconds: float) -> None:
    rng = Random(1)
    with Native(NATIVE_PORTS[0]) as client:
        client.register("resilience")
    history = History("resilience", "confluent-kafka")
    writer = ConfluentWriter(history, KAFKA, 100)
    writer.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        victim = f"node{rng.randint(1, 3)}"
        _compose("kill", victim)
        time.sleep(rng.uniform(0.5, 4))
        _compose("start", victim)
        wait_until(_is_whole, f"{victim} is back", timeout_s=120)
    asyncio.run(writer.stop())
    verdict = judge(history, read_all(KAFKA, "resilience"))
    assert verdict.is_clean, verdict
    assert verdict.acked == verdict.sent


@pytest.mark.usefixtures("containers")
def test_the_container_of_the_first_node_without_its_volume() -> None:
    """The same words that once formed the cluster join it."""
    payloads = numbered("message", range(20))
    with Native(NATIVE_PORTS[1]) as client:
        client.register("volumes")
        for payload in payloads:
            put(client, "volumes", payload)
    _compose("rm", "--stop", "--force", "node1")
    subprocess.run(["docker", "volume", "rm", "walrus-test_data1"], check=True, capture_output=True)
    _compose("up", "--detach", "node1")
    wait_until(_is_whole, "node1 is back", timeout_s=120)
    assert read_all("127.0.0.1:19091", "volumes") == list(enumerate(payloads))
