"""Who may use a data directory, and who is told that they may not."""

import subprocess
from collections.abc import Callable

import pytest

from harness.clients import Message, confluent_write
from harness.server import Server
from tests.node_process import clean_environment, free_port

pytestmark = [pytest.mark.confluent]

Launch = Callable[..., Server]


def _refused(server: Server, **flags: object) -> str:
    """Start another node on the same directory; return its words. It must end by itself."""
    ports = {name: free_port() for name in ("client_port", "kafka_port", "admin_port", "raft_port")}
    result = subprocess.run(
        server.command(**(ports | flags)),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=server.folder,
        env=clean_environment(),
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def test_two_processes_on_one_directory(launch: Launch) -> None:
    server = launch()
    said = _refused(server)
    assert str(server.data_dir) in said
    assert confluent_write(server.kafka, "t", [Message(b"x")]) == [0]


def test_directory_of_another_node(launch: Launch) -> None:
    server = launch()
    assert server.stop() == 0
    said = _refused(server, node_id=2)
    assert str(server.data_dir) in said
    assert "1" in said
    assert "2" in said
    server.start()


def test_directory_that_cannot_be_written(launch: Launch) -> None:
    server = launch(start=False)
    server.folder.mkdir(parents=True)
    (server.folder / "file").write_text("not a directory")
    said = _refused(server, data_dir=server.folder / "file")
    assert str(server.folder / "file") in said
