"""What every test has: one event loop implementation, and an alarm for blocking calls on it."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from blockbuster import BlockBuster, BlockBusterFunction, blockbuster_ctx
from hypothesis import settings

_SOURCES = ["broker", "engine", "raft"]

_DISK_CALLS = ("fsync", "fdatasync", "pwrite", "pwritev", "pread")
"""Blockbuster does not know these; on an event loop they are exactly our sins. (`preadv` has a flag
that makes it return at once, and is used so.)"""

# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Walrus runs on asyncio; anyio's other backend is not a target."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Fail a test in which our sources block the event loop. Tests themselves may."""
    with blockbuster_ctx(scanned_modules=_SOURCES) as guard:
        guard.functions |= {
            f"os.{name}": BlockBusterFunction(os, name, scanned_modules=_SOURCES)
            for name in _DISK_CALLS
        }
        for name in _DISK_CALLS:
            guard.functions[f"os.{name}"].activate()
        # Of what is in the page cache, to a socket that does not block.
        guard.functions["os.sendfile"].can_block_in("_file_part.py", "send")
        yield guard


@pytest.fixture(autouse=True)
def no_cached_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that is cached while one test has logging configured would log past `capture_logs`
    in all later ones."""
    configure = structlog.configure

    def uncached(**settings: Any) -> None:
        configure(**settings | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
