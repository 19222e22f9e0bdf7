"""Parts of files for sockets: bytes that are missing, pages that are, descriptors that leak."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.backends import FilePart
from engine.backends._file_part import LENT_MAX, Lender

DATA = random.Random(1).randbytes(1_000_003)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def file(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR)
    os.fsync(file)
    yield file
    os.close(file)


def lend(file: int, position: int, size: int) -> FilePart:
    part = Lender().lend(file, position, size)
    assert part is not None
    return part


def descriptor_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def forget(file: int) -> None:
    """Skips where the file system does not let its pages go."""
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    if lend(file, 0, len(DATA)).is_cached():
        pytest.skip("this file system keeps all pages")


@pytest.mark.parametrize("seed", range(10))
def test_a_socket_that_takes_little_at_once_gets_every_byte(file: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    position = rng.randrange(5_000)
    part = lend(file, position, rng.randrange(1, len(DATA) - position))
    size = len(part)
    theirs, ours = socket.socketpair()
    received = bytearray()
    with closing(theirs), closing(ours):
        ours.setblocking(False)
        while part:
            try:
                part = part.after(part.send(ours.fileno()))
            except BlockingIOError:
                received += theirs.recv(rng.randrange(1, 200_000))
        ours.shutdown(socket.SHUT_WR)
        while data := theirs.recv(1 << 20):
            received += data
    assert received == DATA[position : position + size]


def test_a_page_that_left_the_cache_is_noticed_and_loaded(file: int) -> None:
    forget(file)
    os.pread(file, 1, 500_000)
    whole, half = lend(file, 0, len(DATA)), lend(file, 1, 500_000)
    assert not whole.is_cached()
    assert not half.is_cached()
    half.load()
    assert half.is_cached()
    whole.load()
    assert whole.is_cached()
    assert lend(file, len(DATA) - 1, 1).is_cached()


def test_a_file_that_ends_early_is_an_error_and_no_endless_loop(file: int) -> None:
    part = lend(file, len(DATA) - 10, 11)
    with pytest.raises(OSError, match="a file ends at 1000003, before 1000004"):
        part.load()
    theirs, ours = socket.socketpair()
    with closing(theirs), closing(ours):
        part = part.after(part.send(ours.fileno()))
        with pytest.raises(OSError, match="a file ends"):
            part.send(ours.fileno())
    assert not lend(file, 10 * len(DATA), 5_000).is_cached()


def test_a_part_outlives_its_file(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    part = lend(file, 0, 1_000)
    os.close(file)
    path.unlink()
    theirs, ours = socket.socketpair()
    with closing(theirs), closing(ours):
        assert part.send(ours.fileno()) == 1_000
        assert theirs.recv(2_000) == DATA[:1_000]


def test_descriptors_are_given_back_by_whoever_lets_go_last(file: int) -> None:
    before = descriptor_count()
    part = lend(file, 0, 1_000)
    rest = part.after(500)
    assert descriptor_count() == before + 1
    del part
    assert descriptor_count() == before + 1
    del rest
    assert descriptor_count() == before


def test_not_all_descriptors_of_a_process_are_lent(file: int) -> None:
    lender, before = Lender(), descriptor_count()
    parts = [lender.lend(file, i, 1) for i in range(LENT_MAX + 5)]
    assert [part is not None for part in parts] == [True] * LENT_MAX + [False] * 5
    assert descriptor_count() == before + LENT_MAX
    parts.clear()
    assert descriptor_count() == before
    assert lender.lend(file, 0, 1) is not None
