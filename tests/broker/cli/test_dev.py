"""Several nodes that get in each other's way."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.main import walrus
from broker.config import SETTINGS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)


def run(*args: str) -> Result:
    return CliRunner().invoke(walrus, ["dev", *args])


@pytest.mark.parametrize(
    "flags",
    [
        ("--node-id", "2"),
        ("--join", "127.0.0.1:6000"),
        ("--kafka-advertise", "127.0.0.1:9092"),
        ("--kafka-listener", "A://127.0.0.1:9092=127.0.0.1:9092"),
    ],
)
def test_a_setting_that_two_nodes_cannot_have(flags: tuple[str, str]) -> None:
    result = run("--nodes", "3", *flags)
    assert result.exit_code == 2
    assert flags[0] in result.stderr
    assert "one node, not for 3" in result.stderr


def test_a_variable_that_two_nodes_cannot_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALRUS_NODE_ID", "7")
    result = run("--nodes", "2")
    assert result.exit_code == 2
    assert "WALRUS_NODE_ID" in result.stderr


@pytest.mark.parametrize("count", ["0", "10", "many"])
def test_as_many_nodes_as_nobody_needs(count: str) -> None:
    assert run("--nodes", count).exit_code == 2


def test_ports_that_are_all_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("--nodes", "2", "--kafka-port", "65535", "--client-port", "0")
    assert result.exit_code == 1
    assert "--kafka-port" in result.stderr
