"""One contract, three backends."""

import errno
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import liburing as ring_api
import pytest

from engine.backends import IOV_COUNT_MAX, Backend, BackendUnavailableError, choose
from engine.backends._memory import MemoryBackend
from engine.backends._posix import DETOUR_COUNT
from engine.backends._pread import PreadBackend
from engine.backends._uring import OPERATION_COUNT_MAX, UringBackend
from engine.batch import Buffer


def _uring() -> Backend:
    try:
        return UringBackend(reason="test")
    except BackendUnavailableError as error:
        pytest.skip(str(error))


BACKENDS: dict[str, Callable[[], Backend]] = {
    "memory": MemoryBackend,
    "pread": lambda: PreadBackend(reason="test"),
    "uring": _uring,
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend = BACKENDS[request.param]()
    yield backend
    backend.close()


@pytest.fixture(params=["pread", "uring"])
def real_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend = BACKENDS[request.param]()
    yield backend
    backend.close()


@pytest.fixture
def file(backend: Backend, tmp_path: Path) -> int:
    return backend.fs.open(directory(backend, tmp_path) / "log", create=True)


def directory(backend: Backend, tmp_path: Path) -> Path:
    return Path("/") if backend.name == "memory" else tmp_path


def finish(backend: Backend, results: list[Any], count: int = 1) -> list[Any]:
    backend.submit()
    while len(results) < count:
        backend.wait()
        backend.reap()
    return results


def content(backend: Backend, file: int) -> bytes:
    return backend.fs.pread(file, 0, backend.fs.size(file))


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


@pytest.fixture(params=["pread", "uring"])
def in_turn(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, list[float]]]:
    """A backend that may write in the caller's turn, and how long each look at its clock takes."""
    pauses_s = [0.0]
    now_s = 0.0

    def monotonic() -> float:
        nonlocal now_s
        now_s += pauses_s[0]
        return now_s

    backend: Backend
    if request.param == "pread":
        backend = PreadBackend(reason="test", monotonic=monotonic)
    else:
        _uring().close()
        backend = UringBackend(reason="test", monotonic=monotonic)
    yield backend, pauses_s
    backend.close()


def test_a_write_without_a_sync_is_done_when_it_is_submitted(
    in_turn: tuple[Backend, list[float]], tmp_path: Path
) -> None:
    backend, _ = in_turn
    file = backend.fs.open(tmp_path / "log", create=True)
    results: list[object] = []
    many: list[Buffer] = [i.to_bytes(4) for i in range(3000)]
    backend.write(file, 0, [b"ab", bytearray(b"cd")], sync=False, on_done=results.append)
    backend.write(file, 4, many, sync=False, on_done=results.append)
    backend.write(file, 0, [b"AB"], sync=True, on_done=results.append)
    assert results == []
    backend.submit()
    assert results[:2] == [None, None]
    finish(backend, results, 3)
    assert content(backend, file) == b"ABcd" + b"".join(many)


def test_a_disk_that_is_behind_stalls_the_caller_once(
    in_turn: tuple[Backend, list[float]], tmp_path: Path
) -> None:
    backend, pauses_s = in_turn
    file = backend.fs.open(tmp_path / "log", create=True)
    done: list[int] = []

    def write(number: int) -> bool:
        backend.write(file, number, [b"x"], sync=False, on_done=lambda _: done.append(number))
        backend.submit()
        return done[-1:] == [number]

    assert write(0)
    pauses_s[0] = 0.2
    assert write(1), "nobody knows before the first stall"
    pauses_s[0] = 0.0
    assert not write(2)
    for number in range(3, DETOUR_COUNT + 2):
        write(number)
    while len(done) < DETOUR_COUNT + 2:
        backend.wait()
        backend.reap()
    assert write(DETOUR_COUNT + 2), "for ever would be too long"


def test_a_disk_that_is_behind_stalls_a_flush_of_a_thousand_segments_once(
    in_turn: tuple[Backend, list[float]], tmp_path: Path
) -> None:
    backend, pauses_s = in_turn
    file = backend.fs.open(tmp_path / "log", create=True)
    results: list[object] = []
    for number in range(1000):
        backend.write(file, number, [b"x"], sync=False, on_done=results.append)
    pauses_s[0] = 0.2
    backend.submit()
    assert results == [None], "each of them would have waited for the disk"
    finish(backend, results, 1000)
    assert results == [None] * 1000
    assert content(backend, file) == b"x" * 1000


def test_a_full_disk_is_told_to_who_wrote_in_its_turn(in_turn: tuple[Backend, list[float]]) -> None:
    backend, _ = in_turn
    full = os.open("/dev/full", os.O_WRONLY)
    results: list[OSError | None] = []
    backend.write(full, 0, [b"x"], sync=False, on_done=results.append)
    backend.submit()
    os.close(full)
    assert results[0] is not None
    assert results[0].errno == errno.ENOSPC


def test_a_callback_that_raises_in_the_callers_turn_loses_none_of_the_others(
    in_turn: tuple[Backend, list[float]], tmp_path: Path
) -> None:
    backend, _ = in_turn
    file = backend.fs.open(tmp_path / "log", create=True)
    results: list[object] = []

    def crash(_: OSError | None) -> None:
        raise ZeroDivisionError

    backend.write(file, 0, [b"a"], sync=False, on_done=crash)
    backend.write(file, 1, [b"b"], sync=False, on_done=results.append)
    with pytest.raises(ZeroDivisionError):
        backend.submit()
    backend.wait()
    backend.reap()
    assert results == [None]
    assert content(backend, file) == b"ab"


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


def test_group_commit_is_one_system_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Eight dirty files, each with a write and its sync: one submission of eight entries."""
    backend = _uring()
    submitted: list[int] = []
    submit = ring_api.io_uring_submit
    monkeypatch.setattr(
        "engine.backends._uring.ring_api.io_uring_submit",
        lambda ring: submitted.append(submit(ring)),
    )
    flags: list[int] = []
    set_flags = ring_api.io_uring_sqe_set_flags

    def watch(entry: object, flag: int) -> None:
        flags.append(flag)
        set_flags(entry, flag)

    monkeypatch.setattr("engine.backends._uring.ring_api.io_uring_sqe_set_flags", watch)
    files = [backend.fs.open(tmp_path / str(i), create=True) for i in range(8)]
    results: list[OSError | None] = []
    for file in files:
        backend.write(file, 0, [b"x"], sync=True, on_done=results.append)
    finish(backend, results, 8)
    assert submitted == [8]
    assert flags == [ring_api.IOSQE_ASYNC] * 8, "no sync may hold up the caller"
    backend.close()


def test_submission_that_the_kernel_puts_off_is_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = _uring()
    submit = ring_api.io_uring_submit
    refusals = [errno.EAGAIN, errno.EBUSY]

    def reluctant(ring: object) -> None:
        if refusals:
            raise OSError(refusals.pop(), "not now")
        submit(ring)

    monkeypatch.setattr("engine.backends._uring.ring_api.io_uring_submit", reluctant)
    file = backend.fs.open(tmp_path / "log", create=True)
    results: list[OSError | None] = []
    backend.write(file, 0, [b"x"], sync=True, on_done=results.append)
    assert finish(backend, results) == [None]
    assert refusals == []
    backend.close()


def test_a_write_whose_sync_is_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every part of it has one: what the kernel did not take at once is not less durable."""
    backend = _uring()
    writev = ring_api.io_uring_prep_writev
    asked: list[tuple[int, int]] = []

    def watch(entry: object, file: int, iovec: object, position: int, flags: int) -> None:
        asked.append((position, flags))
        writev(entry, file, iovec, position, flags)

    monkeypatch.setattr("engine.backends._uring.ring_api.io_uring_prep_writev", watch)
    file = backend.fs.open(tmp_path / "log", create=True)
    results: list[OSError | None] = []
    buffers = [b"x"] * (IOV_COUNT_MAX + 1)
    backend.write(file, 0, buffers, sync=True, on_done=results.append)
    backend.write(file, 5000, [b"y"], sync=False, on_done=results.append)
    assert finish(backend, results, 2) == [None, None]
    assert asked == [(0, os.RWF_DSYNC), (5000, 0), (IOV_COUNT_MAX, os.RWF_DSYNC)]
    backend.close()


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
