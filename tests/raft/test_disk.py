"""The real disk and the simulated one answer alike."""

import random
from pathlib import Path

import pytest

from raft.disk import Disk, OsDisk
from tests.sim.raft.disk import SimDisk


@pytest.fixture(params=["os", "sim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return OsDisk(tmp_path / "a" / "b") if request.param == "os" else SimDisk(random.Random(1))


def test_files_grow_shrink_move_and_vanish(disk: Disk) -> None:
    assert disk.read("f") is None
    file = disk.create("f")
    file.append(b"hello ")
    file.append(b"world")
    file.sync()
    assert disk.read("f") == b"hello world"
    file.truncate(5)
    file.append(b"!")
    file.close()
    assert disk.read("f") == b"hello!"
    again = disk.open("f")
    again.append(b"!")
    again.close()
    disk.create("g").close()
    disk.replace("f", "g")
    disk.sync_directory()
    assert (disk.read("f"), disk.read("g")) == (None, b"hello!!")
    disk.create("g").close()
    assert disk.read("g") == b""
    disk.remove("g")
    disk.remove("g")
    assert disk.read("g") is None
    with pytest.raises(FileNotFoundError):
        disk.open("g")
    assert disk.describe("g").endswith("g")
