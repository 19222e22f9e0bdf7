"""What the tests of the backends share: the two real ones, and a way to have them finish."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.backends import Backend, BackendUnavailableError, Monotonic
from engine.backends._pread import PreadBackend
from engine.backends._uring import UringBackend


def pread(monotonic: Monotonic | None = None) -> Backend:
    return PreadBackend(reason="test", monotonic=monotonic)


def uring(monotonic: Monotonic | None = None) -> Backend:
    """Skips the test where the kernel or a sandbox refuses it."""
    try:
        return UringBackend(reason="test", monotonic=monotonic)
    except BackendUnavailableError as error:
        pytest.skip(str(error))


REAL_BACKENDS: dict[str, Callable[..., Backend]] = {"pread": pread, "uring": uring}


def finish(backend: Backend, results: list[Any], count: int = 1) -> list[Any]:
    backend.submit()
    while len(results) < count:
        backend.wait()
        backend.reap()
    return results


def content(backend: Backend, file: int) -> bytes:
    return backend.fs.pread(file, 0, backend.fs.size(file))
