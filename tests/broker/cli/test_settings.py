"""`walrus config`: settings that are shown wrong, or errors nobody can act on."""

import json
import tomllib
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
    monkeypatch.delenv("WALRUS_CONFIG", raising=False)


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(walrus, ["config", *args], env=env)


def test_what_is_printed_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    first = run("print", "--fsync", "20", "--join", "a:1", "--no-auto-create-topics")
    assert tomllib.loads(first.stdout)["fsync"] == "20"
    (tmp_path / "walrus.toml").write_text(first.stdout)
    assert run("print").stdout == first.stdout


def test_listeners_print_as_a_file_that_says_the_same(tmp_path: Path) -> None:
    listener = "A://[::1]:9092=outside:1"
    first = run("print", "--kafka-listener", listener)
    assert tomllib.loads(first.stdout)["kafka_listener"] == [listener]
    (tmp_path / "other.toml").write_text(first.stdout)
    assert run("print", "--config", "other.toml").stdout == first.stdout


def test_origins_are_shown(tmp_path: Path) -> None:
    (tmp_path / "walrus.toml").write_text("admin_port = 7")
    result = run("print", "--origin", "--node-id", "4", env={"WALRUS_CLIENT_PORT": "5"})
    rows = {line.split(" ")[0]: line.rpartition("# ")[2] for line in result.stdout.splitlines()}
    assert rows["node_id"] == "--node-id"
    assert rows["client_port"] == "WALRUS_CLIENT_PORT"
    assert rows["admin_port"] == "walrus.toml"
    assert rows["kafka_port"] == "default"
    assert tomllib.loads(result.stdout)["node_id"] == 4


def test_json_has_every_setting() -> None:
    shown = json.loads(run("print", "--json").stdout)
    assert list(shown) == [setting.name for setting in SETTINGS]
    assert shown["kafka_port"] == 9092
    with_origin = json.loads(run("print", "--json", "--origin", "--kafka-port", "1").stdout)
    assert with_origin["kafka_port"] == {"value": 1, "origin": "--kafka-port"}


def test_the_file_can_be_named_by_variable(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("node_id = 9")
    assert "node 9" in run("check", env={"WALRUS_CONFIG": "node.toml"}).stdout


@pytest.mark.parametrize("args", [("check",), ("print",)])
def test_settings_that_cannot_be_meant_exit_with_2(args: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "walrus.toml").write_text("kafka_prot = 1")
    result = run(*args, "--client-port", "x")
    assert result.exit_code == 2
    assert "walrus.toml: unknown key 'kafka_prot'; did you mean kafka_port?" in result.stderr
    assert "--client-port: 'x' is not valid for client_port" in result.stderr
    assert "Traceback" not in result.output


def test_a_named_file_that_is_missing_is_an_error() -> None:
    result = run("check", "--config", "nowhere.toml")
    assert result.exit_code == 2
    assert "nowhere.toml" in result.stderr


def test_check_says_ok_and_warns() -> None:
    result = run("check", "--kafka-host", "0.0.0.0")
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: node 1, 1 of ")
    assert "kafka_advertise" in result.stderr
