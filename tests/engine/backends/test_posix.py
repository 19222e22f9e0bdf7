"""Writes without a sync, done in the turn of whoever submits them as long as the disk keeps up."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backends import Backend
from engine.backends._posix import DETOUR_COUNT
from engine.batch import Buffer
from tests.engine.backends.support import REAL_BACKENDS, content, finish


@pytest.fixture(params=REAL_BACKENDS)
def in_turn(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, list[float]]]:
    """A backend that may write in the caller's turn, and how long each look at its clock takes."""
    pauses_s = [0.0]
    now_s = 0.0

    def monotonic() -> float:
        nonlocal now_s
        now_s += pauses_s[0]
        return now_s

    backend = REAL_BACKENDS[request.param](monotonic)
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
