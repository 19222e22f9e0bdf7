"""A doctor who sees nothing, or panics."""

import json
import resource
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.checks import check_advertised, check_open_files, file_system_of
from broker.cli.main import walrus
from broker.config import SETTINGS, Config, HostPort

FREE_PORTS = ("--client-port=0", "--kafka-port=0", "--admin-port=0", "--raft-port=0")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)


def run(*args: str) -> Result:
    return CliRunner().invoke(walrus, ["doctor", *args])


def checks(*args: str) -> dict[str, dict[str, str]]:
    lines = run("--json", *args).stdout.splitlines()
    return {check["name"]: check for check in map(json.loads, lines)}


def test_each_thing_is_looked_at(tmp_path: Path) -> None:
    result = run(*FREE_PORTS)
    assert result.exit_code == 0, result.output
    found = checks(*FREE_PORTS)
    assert set(found) == {
        "system",
        "storage",
        "data",
        "space",
        "sync",
        "port",
        "advertised",
        "open files",
        "clock",
    }
    assert all(check["level"] == "ok" or check["advice"] for check in found.values())
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_fails_with_advice() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(*FREE_PORTS[1:], f"--client-port={port}")
    assert result.exit_code == 1
    assert f"client_port 127.0.0.1:{port}" in result.stdout
    assert "ss -ltnp" in result.stdout


def test_a_data_directory_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    found = checks(*FREE_PORTS)
    assert found["data"]["level"] == "fail"


def test_an_advertised_name_without_an_address_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    config = Config(kafka_host="0.0.0.0", kafka_advertise=HostPort("no-such-host", 1))
    (check,) = check_advertised(config)
    assert check.level == "warn"
    assert "kafka_advertise" in check.advice


def test_loopback_told_to_the_world_is_noticed() -> None:
    config = Config(kafka_host="0.0.0.0", kafka_advertise=HostPort("127.0.0.1", 9092))
    (check,) = check_advertised(config)
    assert check.level == "warn"


def test_connections_that_a_node_would_not_take_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is announced here is what the node does: 1024 files leave 512 to clients."""
    monkeypatch.setattr("broker.cli.checks.raise_limit", lambda: 1024)
    assert check_open_files(512).level == "ok"
    found = check_open_files(513)
    assert found.level == "warn"
    assert "512 are taken" in found.advice
    monkeypatch.setattr("broker.cli.checks.raise_limit", lambda: resource.RLIM_INFINITY)
    assert check_open_files(10**9).level == "ok"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "ext4"), ("/tmp", "tmpfs"), ("/tmpfiles", "ext4"), ("/data dir/x", "nfs4")],
)
def test_the_innermost_mount_counts(path: str, expected: str) -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:5 / /tmp rw - tmpfs tmpfs rw\n"
        r"24 22 0:6 / /data\040dir rw - nfs4 server:/x rw"
        "\nbroken line\n"
    )
    assert file_system_of(Path(path), mounts) == expected
