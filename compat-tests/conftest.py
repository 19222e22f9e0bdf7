"""Servers for the tests with real clients, and their logs where a test fails."""

import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness import programs
from harness.server import Server

LOG_TAIL_SIZE = 16_000

_running: list[Server] = []


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    programs.require(item)
    for server in _running:
        if server.has_died():
            pytest.fail("the server of this file died in an earlier test", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the servers said, for tests that failed."""
    report: Any = yield
    if report.failed:
        for server in _running:
            report.sections.append((f"log of {server.folder.name}", server.log()[-LOG_TAIL_SIZE:]))
    return report


Launch = Callable[..., Server]


@contextmanager
def _launcher(tmp_path: Path) -> Iterator[Launch]:
    started: list[Server] = []

    def launch(*arguments: str, start: bool = True, **options: Any) -> Server:
        folder = tmp_path / f"server-{len(started) + 1}"
        server = Server(folder, arguments=arguments, **options)
        started.append(server)
        _running.append(server)
        return server.start() if start else server

    try:
        yield launch
    finally:
        for server in started:
            _running.remove(server)
            server.close()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start servers of this test's own: `launch("--fsync", "none", environment={…})`."""
    with _launcher(tmp_path) as launch:
        yield launch


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a file. It must be alive at the end, and end well when asked."""
    with _launcher(tmp_path_factory.mktemp("server")) as launch:
        shared = launch()
        yield shared
        assert shared.process is not None
        assert shared.process.poll() is None, f"the server died on the way:\n{shared.log()}"
        assert shared.stop() == 0, shared.log()
        assert "Traceback" not in shared.log(), shared.log()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """The name of a topic nobody else uses."""
    words = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"{words[:60]}-{uuid.uuid4().hex[:8]}"
