"""docs/kafka-compat.md says what the clients do: they run, and their requests are noted.

`make compat-page` writes the page anew.
"""

import os
from collections.abc import Iterator

import pytest
from conftest import Launch

from harness.foreign import CLIENTS, Foreign
from harness.groups import create, positions, until, write
from harness.page import PAGE, rendered
from harness.recorder import Recorder
from harness.server import Server
from tests.node_process import free_port

HEARTBEAT = 12

pytestmark = [getattr(pytest.mark, name) for name in ("page", "go", "js", "rust", "slow")]


@pytest.fixture
def server(launch: Launch) -> Iterator[tuple[Server, Recorder]]:
    """A server with a listener behind a recorder, and one for the test itself."""
    behind, front, plain = free_port(), free_port(), free_port()
    recorder = Recorder(front, behind)
    yield (
        launch(
            *("--kafka-listener", f"PLAIN://127.0.0.1:{plain}"),
            *("--kafka-listener", f"NOTED://127.0.0.1:{behind}=127.0.0.1:{front}"),
            kafka_port=plain,
        ),
        recorder,
    )
    recorder.close()


def _session(client: Foreign, plain: str, noted: str, recorder: Recorder) -> None:
    topic = f"t-{client.name}"
    create(plain, topic)
    client.write(noted, topic, "gzip", ["a", "b"])
    write(plain, [topic], ["c"])
    client.read(noted, topic, 3)
    with client.run("join", noted, topic, "member", topic) as member:
        until(lambda: positions(plain, topic).get(topic) == 3, "all is committed")
        until(lambda: any(key == HEARTBEAT for key, _ in recorder.seen), "a heartbeat")
        member.finish()
    with client.run("admin", noted, f"{topic}-admin", topic) as admin:
        admin.finish()


def test_page_that_says_something_else(server: tuple[Server, Recorder]) -> None:
    node, recorder = server
    noted = f"127.0.0.1:{recorder.port}"
    seen = {}
    for client in CLIENTS:
        recorder.seen = set()
        _session(client, node.kafka, noted, recorder)
        seen[client.name] = recorder.seen
    if os.environ.get("REWRITE"):
        PAGE.write_text(rendered(seen))
    assert PAGE.read_text() == rendered(seen), "run: make compat-page"
