"""How long a command waits for a majority of the nodes to decide something."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from broker.errors import MetadataUnavailable

WAIT_S_MAX = 8.0
"""Longer than a failover, and shorter than the ten seconds after which many clients hang up."""


@contextmanager
def in_time(*, warning: str = "") -> Iterator[None]:
    """What is done inside has so long. Raises MetadataUnavailable then; `warning` is what its
    text ends with."""
    with anyio.move_on_after(WAIT_S_MAX) as patience:
        yield
    if patience.cancelled_caught:
        raise MetadataUnavailable(
            f"no majority of its nodes has answered in time{warning}"
        ) from None
