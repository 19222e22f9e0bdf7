"""Native clients that do what the protocol's page asks of them: go on where the leader is."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.native import Native, NativeError
from tests.cluster.processes import Node

RETRY_S_MAX = 30.0


@contextmanager
def native(node: Node) -> Iterator[Native]:
    """A connection to `node`."""
    with Native(node.native_port) as client:
        yield client


def put(client: Native, topic: str, payload: bytes) -> None:
    """PUT; again while nobody leads the topic, which is known not to have stored it."""
    deadline = time.monotonic() + RETRY_S_MAX
    while True:
        try:
            client.put(topic, payload)
        except NativeError as error:
            if "NotLeaderForPartition" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def get(client: Native, topic: str) -> bytes | None:
    """GET; again while whoever keeps the cursor is not known."""
    deadline = time.monotonic() + RETRY_S_MAX
    while True:
        try:
            return client.get(topic)
        except NativeError as error:
            if "NotLeaderForPartition" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def get_all(client: Native, topic: str) -> list[bytes]:
    """Everything up to EMPTY."""
    found = []
    while (payload := get(client, topic)) is not None:
        found.append(payload)
    return found


def numbered(prefix: str, numbers: Sequence[int], size: int = 0) -> list[bytes]:
    """Payloads that differ from each other, of `size` bytes at least."""
    return [f"{prefix}-{number:06d}".encode().ljust(size, b".") for number in numbers]
