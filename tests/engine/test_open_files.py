"""Descriptors: never closed under a user, never more idle ones than the limit."""

from pathlib import Path

from engine.backends._memory_fs import MemoryFs
from engine.open_files import OpenFiles


def opened(files: OpenFiles, fs: MemoryFs, name: str) -> int:
    path = Path("/") / name
    return files.add(path, fs.open(path, create=True))


def test_idle_descriptors_are_kept_up_to_the_limit_least_recently_used_first() -> None:
    fs = MemoryFs()
    files = OpenFiles(fs, idle_count_max=2)
    for name in "abc":
        opened(files, fs, name)
    assert fs.open_count == 3, "all in use"
    for name in "abc":
        files.release(Path("/") / name)
    assert fs.open_count == 2
    assert files.take(Path("/a")) is None
    assert files.take(Path("/b")) is not None
    files.release(Path("/b"))
    opened(files, fs, "d")
    files.release(Path("/d"))
    assert files.take(Path("/c")) is None, "b was used after it"
    files.close()
    assert fs.open_count == 0


def test_two_openings_at_once_share_one_descriptor() -> None:
    fs = MemoryFs()
    files = OpenFiles(fs)
    first = opened(files, fs, "a")
    assert opened(files, fs, "a") == first
    assert fs.open_count == 1
    files.release(Path("/a"))
    files.forget(Path("/a"))
    assert fs.open_count == 1, "one user is left"
    files.release(Path("/a"))
    assert fs.open_count == 0


def test_forgotten_file_is_closed_at_once_when_idle() -> None:
    fs = MemoryFs()
    files = OpenFiles(fs)
    opened(files, fs, "a")
    files.release(Path("/a"))
    files.forget(Path("/a"))
    files.forget(Path("/never"))
    assert fs.open_count == 0
