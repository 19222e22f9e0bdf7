"""Whether a disk may be trusted: a doubt goes only when the cluster has heard of it."""

from pathlib import Path

import pytest

from broker.controller import data_dir
from broker.controller.data_dir import DataDir


def start(path: Path, monkeypatch: pytest.MonkeyPatch, *, boot: int) -> tuple[DataDir, bool]:
    """A process of boot number `boot` begins on the directory, without a sync of each write."""
    boot_id = path / "boot_id"
    boot_id.write_text(f"{boot}\n")
    monkeypatch.setattr(data_dir, "_BOOT_ID", boot_id)
    data = DataDir(path / "data", node_id=1)
    return data, data.begin_run(fsync="none")


def test_a_killed_process_loses_nothing_and_a_lost_machine_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, is_trusted = start(tmp_path, monkeypatch, boot=1)
    assert is_trusted
    data.registered()
    data.release()
    data, is_trusted = start(tmp_path, monkeypatch, boot=1)
    assert is_trusted
    data.registered()
    data.release()
    data, is_trusted = start(tmp_path, monkeypatch, boot=2)
    assert not is_trusted
    data.release()


@pytest.mark.parametrize("is_clean", [True, False], ids=["stopped", "killed"])
def test_a_start_that_told_nobody_does_not_make_lost_writes_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_clean: bool
) -> None:
    """The power went, and the node that came back ended while it waited for a majority. The next
    start must still say that acknowledged records may be missing here."""
    data, _ = start(tmp_path, monkeypatch, boot=1)
    data.registered()
    data.release()
    data, _ = start(tmp_path, monkeypatch, boot=2)
    if is_clean:
        data.end_run()
    data.release()
    data, is_trusted = start(tmp_path, monkeypatch, boot=2)
    assert not is_trusted
    data.registered()
    data.end_run()
    data.release()
    data, is_trusted = start(tmp_path, monkeypatch, boot=3)
    assert is_trusted
    data.release()
