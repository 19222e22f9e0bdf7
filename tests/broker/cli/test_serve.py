"""A node that does not start and does not say why."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.main import walrus
from broker.config import SETTINGS, Config, HostPort
from broker.server.ending import TakenOut
from broker.telemetry.start import BannerInfo
from tests.broker.admin.fakes import status

Announce = Callable[[BannerInfo], None]
Run = Callable[[Config, Announce], None]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Run], None]]:
    """Put another `broker.server.node.run` in place of the real one."""

    def install(run: Run) -> None:
        module = ModuleType("broker.server.node")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "broker.server.node", module)

    yield install


def keep(seen: list[Any]) -> Run:
    def serve(config: Config, announce: Announce) -> None:
        seen.append(config)

    return serve


def run(*args: str) -> Result:
    return CliRunner().invoke(walrus, list(args))


def test_settings_reach_the_node_and_what_it_announces_the_terminal(
    node: Callable[[Run], None],
) -> None:
    seen: list[Config] = []

    def serve(config: Config, announce: Announce) -> None:
        seen.append(config)
        announce(BannerInfo(status(), HostPort("127.0.0.1", 8080), (), HostPort("127.0.0.1", 1)))

    node(serve)
    result = run("serve", "--kafka-port", "0", "--fsync", "none")
    assert result.exit_code == 0
    assert (seen[0].kafka_port, seen[0].fsync) == (0, "none")
    assert "walrus-cli --addr 127.0.0.1:8080 register hello" in result.stdout


def test_a_failed_start_is_one_clear_line(node: Callable[[Run], None]) -> None:
    def fails(*_: object) -> None:
        raise ExceptionGroup("tasks", [OSError("the port 9092 is taken")])

    node(fails)
    result = run("serve")
    assert result.exit_code == 1
    assert result.stderr.strip() == "walrus: the port 9092 is taken"


def test_a_failed_start_shows_its_traceback_when_asked(node: Callable[[Run], None]) -> None:
    def fails(*_: object) -> None:
        raise OSError("the port 9092 is taken")

    node(fails)
    result = run("serve", "--log-level", "debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_a_bug_at_the_start_has_its_name(node: Callable[[Run], None]) -> None:
    def fails(*_: object) -> None:
        raise KeyError("x")

    node(fails)
    assert "walrus: KeyError: 'x'" in run("serve").stderr


def test_a_node_that_fails_later_leaves_its_traceback_in_the_log(
    node: Callable[[Run], None],
) -> None:
    def fails(config: Config, announce: Announce) -> None:
        announce(BannerInfo(status(), HostPort("127.0.0.1", 1), (), HostPort("127.0.0.1", 2)))
        raise OSError("the disk is gone")

    node(fails)
    result = run("serve", "--log-format", "json")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "the disk is gone" in result.stderr


@pytest.mark.parametrize(("serves", "exit_code"), [(True, 0), (False, 1)])
def test_a_node_that_was_taken_out_is_started_again_by_no_supervisor(
    node: Callable[[Run], None], serves: bool, exit_code: int
) -> None:
    """It has done what it was told to; one that is started after that has not."""

    def leaves(config: Config, announce: Announce) -> None:
        if serves:
            announce(BannerInfo(status(), HostPort("127.0.0.1", 1), (), HostPort("127.0.0.1", 2)))
        raise ExceptionGroup("tasks", [TakenOut("node 4 was taken out")])

    node(leaves)
    result = run("serve")
    assert result.exit_code == exit_code
    assert result.stderr.strip().endswith("walrus: node 4 was taken out")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("tasks", [KeyboardInterrupt()])]
)
def test_a_second_signal_ends_without_a_traceback(
    node: Callable[[Run], None], error: BaseException
) -> None:
    def interrupted(*_: object) -> None:
        raise error

    node(interrupted)
    result = run("serve")
    assert (result.exit_code, result.stderr) == (130, "")


def test_warnings_are_logged_once(node: Callable[[Run], None]) -> None:
    node(lambda *_: None)
    result = run("serve", "--kafka-host", "0.0.0.0")
    assert result.stderr.count("kafka_advertise") == 1


def test_settings_that_cannot_be_meant_start_nothing(node: Callable[[Run], None]) -> None:
    started: list[object] = []
    node(keep(started))
    result = run("serve", "--kafka-port", "70000")
    assert result.exit_code == 2
    assert "--kafka-port" in result.stderr
    assert not started


def test_an_unknown_flag_is_a_usage_error_with_the_nearest() -> None:
    result = run("serve", "--kafka-prot", "1")
    assert result.exit_code == 2
    assert "--kafka-port" in result.stderr


def test_dev_keeps_its_data_apart(node: Callable[[Run], None]) -> None:
    seen: list[Any] = []
    node(keep(seen))
    assert run("dev").exit_code == 0
    assert run("dev", "--data-dir", "elsewhere").exit_code == 0
    assert [config.data_dir for config in seen] == [Path("walrus-data"), Path("elsewhere")]
