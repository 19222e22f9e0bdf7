"""What only real disks and a real process have: limits, threads that are still at work, references
that somebody keeps."""

import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backends import Backend
from tests.engine.backends.support import REAL_BACKENDS, content, finish


@pytest.fixture(params=REAL_BACKENDS)
def real_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend = REAL_BACKENDS[request.param]()
    yield backend
    backend.close()


def test_close_waits_for_what_is_in_flight(real_backend: Backend, tmp_path: Path) -> None:
    backend = real_backend
    file = backend.fs.open(tmp_path / "log", create=True)
    called: list[object] = []
    for i in range(50):
        backend.write(file, i, [b"x"], sync=True, on_done=called.append)
    backend.close()
    backend.close = lambda: None  # type: ignore[method-assign]
    assert os.pread(file, 100, 0) == b"x" * 50
    assert called == []
    os.close(file)


def test_short_write_is_continued_until_the_disk_refuses(
    real_backend: Backend, tmp_path: Path
) -> None:
    """A limit on the size of files makes the kernel write a part, then refuse the rest."""
    backend = real_backend
    file = backend.fs.open(tmp_path / "log", create=True)
    results: list[OSError | None] = []
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old_limit[1]))
        backend.write(file, 0, [b"a" * 4000, b"b" * 4000], sync=True, on_done=results.append)
        finish(backend, results)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert isinstance(results[0], OSError)
    assert results[0].errno == errno.EFBIG
    assert content(backend, file) == b"a" * 4000 + b"b" * 1000
    backend.fs.close(file)


def test_buffers_are_given_back(real_backend: Backend, tmp_path: Path) -> None:
    """Binding bugs that keep a reference to each buffer would keep every batch ever written."""
    backend = real_backend
    file = backend.fs.open(tmp_path / "log", create=True)
    batch = bytearray(1000)
    view = memoryview(batch)[61:]
    results: list[OSError | None] = []
    for _ in range(10):
        backend.write(file, 0, [view], sync=False, on_done=results.append)
    finish(backend, results, 10)
    view.release()
    batch.append(0)  # BufferError if anybody still holds a view
    backend.fs.close(file)


def test_a_disk_is_not_broken_because_all_descriptors_are_taken(
    monkeypatch: pytest.MonkeyPatch, real_backend: Backend, tmp_path: Path
) -> None:
    backend = real_backend
    (tmp_path / "log").touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def give_back() -> None:
        while taken:
            os.close(taken.pop())

    monkeypatch.setattr("engine.backends._posix._pause", give_back)
    taken.append(os.dup(backend.fileno()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        for ask in (
            lambda: backend.fs.listdir(tmp_path),
            lambda: backend.fs.fsync_dir(tmp_path),
            lambda: backend.fs.open(tmp_path / "log"),
        ):
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.dup(backend.fileno()))
            results: list[Any] = []
            backend.run(ask, results.append)
            (result,) = finish(backend, results)
            assert not isinstance(result, Exception)
            assert not taken, "it was asked again when there were some"
        backend.fs.close(result)
    finally:
        give_back()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
