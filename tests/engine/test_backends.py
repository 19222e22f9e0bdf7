"""One contract, three backends, and the choice among them. What each has of its own is tested in
`backends/`."""

import errno
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backends import Backend, BackendUnavailableError, choose
from engine.backends._memory import MemoryBackend
from engine.backends._uring import OPERATION_COUNT_MAX
from engine.batch import Buffer
from tests.engine.backends.support import REAL_BACKENDS, content, finish

BACKENDS: dict[str, Callable[[], Backend]] = {"memory": MemoryBackend, **REAL_BACKENDS}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend = BACKENDS[request.param]()
    yield backend
    backend.close()


@pytest.fixture
def file(backend: Backend, tmp_path: Path) -> int:
    return backend.fs.open(directory(backend, tmp_path) / "log", create=True)


def directory(backend: Backend, tmp_path: Path) -> Path:
    return Path("/") if backend.name == "memory" else tmp_path


def test_write_takes_every_kind_of_buffer_in_order(backend: Backend, file: int) -> None:
    whole = bytearray(b"0123456789")
    buffers: list[Buffer] = [
        b"bytes ",
        bytearray(b"array "),
        memoryview(whole),
        memoryview(whole)[3:6],
        b"",
    ]
    results: list[OSError | None] = []
    backend.write(file, 0, buffers, sync=True, on_done=results.append)
    assert finish(backend, results) == [None]
    assert content(backend, file) == b"bytes array 0123456789345"


def test_write_of_nothing_completes(backend: Backend, file: int) -> None:
    results: list[OSError | None] = []
    backend.write(file, 0, [b""], sync=False, on_done=results.append)
    assert finish(backend, results) == [None]


def test_nothing_is_called_back_before_reap(backend: Backend, file: int) -> None:
    results: list[object] = []
    backend.write(file, 0, [b"x"], sync=True, on_done=results.append)
    backend.submit()
    backend.run(lambda: 5, results.append)
    backend.wait()
    assert results == []
    assert sorted(map(str, finish(backend, results, 2))) == ["5", "None"]


def test_more_buffers_than_one_system_call_takes(backend: Backend, file: int) -> None:
    buffers = [i.to_bytes(4) for i in range(3000)]
    results: list[OSError | None] = []
    backend.write(file, 0, buffers, sync=True, on_done=results.append)
    assert finish(backend, results) == [None]
    assert content(backend, file) == b"".join(buffers)


def test_more_operations_than_the_ring_holds(backend: Backend, file: int) -> None:
    count = OPERATION_COUNT_MAX + 100
    results: list[OSError | None] = []
    for i in range(count):
        backend.write(file, i * 4, [i.to_bytes(4)], sync=False, on_done=results.append)
    assert finish(backend, results, count) == [None] * count
    assert content(backend, file) == b"".join(i.to_bytes(4) for i in range(count))


def test_descriptor_is_readable_when_there_is_work(backend: Backend, file: int) -> None:
    fileno = backend.fileno()
    assert select.select([fileno], [], [], 0)[0] == []
    results: list[OSError | None] = []
    backend.sync(file, results.append)
    backend.submit()
    assert select.select([fileno], [], [], 10)[0] == [fileno]
    backend.reap()
    assert results == [None]
    assert select.select([fileno], [], [], 0)[0] == []


def test_read_is_short_only_at_the_end_of_the_file(backend: Backend, file: int) -> None:
    backend.fs.pwrite(file, 0, b"0123456789")
    results: list[Any] = []
    for position, size in ((0, 10), (3, 4), (8, 10), (10, 5), (50, 5)):
        backend.read(file, position, size, results.append)
        finish(backend, results, 1)
        assert bytes(results.pop()) == b"0123456789"[position : position + size]


def test_write_to_a_closed_file_reports_and_does_not_raise(backend: Backend, file: int) -> None:
    backend.fs.close(file)
    results: list[OSError | None] = []
    backend.write(file, 0, [b"x"], sync=True, on_done=results.append)
    backend.sync(file, results.append)
    finish(backend, results, 2)
    assert [error and error.errno for error in results] == [errno.EBADF, errno.EBADF]


def test_job_that_fails_hands_its_error_over(backend: Backend) -> None:
    def job() -> None:
        raise OSError(errno.EIO, "no")

    results: list[Any] = []
    backend.run(job, results.append)
    finish(backend, results)
    assert isinstance(results[0], OSError)


def test_callback_may_start_the_next_operation(backend: Backend, file: int) -> None:
    results: list[OSError | None] = []

    def again(error: OSError | None) -> None:
        results.append(error)
        if len(results) < 20:
            backend.write(file, len(results), [b"x"], sync=True, on_done=again)
            backend.submit()

    backend.write(file, 0, [b"x"], sync=True, on_done=again)
    assert finish(backend, results, 20) == [None] * 20


def test_callback_that_raises_does_not_lose_the_others(backend: Backend, file: int) -> None:
    fileno = backend.fileno()
    results: list[OSError | None] = []

    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    backend.write(file, 0, [b"x"], sync=False, on_done=broken)
    for i in range(5):
        backend.write(file, i, [b"x"], sync=False, on_done=results.append)
    backend.submit()
    raised = 0
    while len(results) < 5 or not raised:
        assert select.select([fileno], [], [], 10)[0]
        try:
            backend.reap()
        except RuntimeError:
            raised += 1
    assert (results, raised) == ([None] * 5, 1)


def test_file_system_operations(backend: Backend, tmp_path: Path) -> None:
    fs, home = backend.fs, directory(backend, tmp_path)
    fs.mkdir(home / "a")
    fs.mkdir(home / "a")
    file = fs.open(home / "a" / "x", create=True)
    fs.pwrite(file, 5, b"abc")
    assert (fs.size(file), fs.path_size(home / "a" / "x")) == (8, 8)
    assert fs.pread(file, 0, 100) == b"\0\0\0\0\0abc"
    fs.truncate(file, 6)
    fs.fsync(file)
    fs.fsync_dir(home / "a")
    fs.close(file)
    fs.rename(home / "a" / "x", home / "a" / "y")
    assert fs.listdir(home / "a") == ["y"]
    assert not fs.exists(home / "a" / "x")
    fs.rename(home / "a", home / "b")
    with pytest.raises(NotADirectoryError):
        fs.listdir(home / "b" / "y")
    with pytest.raises(FileNotFoundError):
        fs.open(home / "b" / "x")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(home / "b")
    with pytest.raises(OSError, match=r".") as caught:
        fs.unlink(home / "b")
    assert caught.value.errno in (errno.EISDIR, errno.EPERM, errno.ENOENT)
    fs.unlink(home / "b" / "y")
    fs.rmdir(home / "b")
    assert not fs.exists(home / "b")


def test_refused_io_uring_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("engine.backends._uring.ring_api.io_uring_queue_init", refuse)
    backend = choose()
    assert backend.name == "pread"
    assert "io_uring refused (EPERM" in backend.reason
    backend.close()
    with pytest.raises(BackendUnavailableError, match="EPERM"):
        choose(prefer="uring")


def test_choice_of_the_operator_is_followed_and_said() -> None:
    backend = choose(disable_uring=True)
    assert (backend.name, backend.reason) == ("pread", "WALRUS_DISABLE_IO_URING is set")
    backend.close()
    with pytest.raises(ValueError, match="use uring or pread"):
        choose(prefer="mmap")
