"""What is asked of the kernel's ring, and what it may refuse."""

import errno
import os
from pathlib import Path

import liburing as ring_api
import pytest

from engine.backends import IOV_COUNT_MAX
from tests.engine.backends.support import finish, uring


def test_group_commit_is_one_system_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Eight dirty files, each with a write and its sync: one submission of eight entries."""
    backend = uring()
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
    backend = uring()
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
    backend = uring()
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
