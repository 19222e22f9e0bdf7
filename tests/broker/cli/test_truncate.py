"""An operator's cut that takes too much, or cannot be taken back."""

import fcntl
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.main import walrus


def run(*args: str, answer: str = "") -> Result:
    return CliRunner().invoke(walrus, ["truncate", *args], input=answer)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "00000000000000000000.log"
    file.write_bytes(b"0123456789")
    return file


def test_the_cut_bytes_are_kept(log: Path) -> None:
    result = run(str(log), "4", "--yes")
    assert result.exit_code == 0, result.output
    assert log.read_bytes() == b"0123"
    assert log.with_name(log.name + ".4.cut").read_bytes() == b"456789"
    assert "6 bytes cut" in result.stdout


def test_without_a_yes_nothing_is_cut(log: Path) -> None:
    assert run(str(log), "4", answer="n\n").exit_code == 1
    assert log.read_bytes() == b"0123456789"
    assert run(str(log), "4", answer="y\n").exit_code == 0


@pytest.mark.parametrize("position", ["10", "11"])
def test_a_position_beyond_the_end_is_refused(log: Path, position: str) -> None:
    result = run(str(log), position, "--yes")
    assert result.exit_code == 1
    assert "nothing to cut" in result.stderr
    assert log.read_bytes() == b"0123456789"


def test_a_running_node_keeps_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "topics" / "t" / "1"
    folder.mkdir(parents=True)
    log = folder / "00000000000000000000.log"
    log.write_bytes(b"0123456789")
    with (tmp_path / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run(str(log), "4", "--yes")
        assert result.exit_code == 1
        assert "is running" in result.stderr
        assert log.read_bytes() == b"0123456789"
    assert run(str(log), "4", "--yes").exit_code == 0


def test_arguments_that_cannot_be_meant_are_usage_errors(log: Path, tmp_path: Path) -> None:
    assert run(str(log), "-1").exit_code == 2
    assert run(str(tmp_path / "nowhere.log"), "1").exit_code == 2
