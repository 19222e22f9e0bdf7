"""Which names a topic may have (pure)."""

import re
from collections.abc import Iterable

from broker.errors import InvalidTopic
from raft.topics import alike

NAME_SIZE_MAX = 249
"""Kafka's limit; with a partition suffix such a name still fits a file name of 255 bytes."""

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


def check_topic_name(name: str) -> None:
    """Raises InvalidTopic with the reason unless `name` is one that Kafka, too, would accept."""
    if not name:
        raise InvalidTopic("a topic name cannot be empty")
    if name in {".", ".."}:
        raise InvalidTopic(f"a topic cannot be named {name!r}")
    if len(name) > NAME_SIZE_MAX:
        raise InvalidTopic(f"the topic name has {len(name)} characters, above {NAME_SIZE_MAX}")
    if not _LEGAL.fullmatch(name):
        raise InvalidTopic(
            f"topic name {name!r}: only ASCII letters, digits, '.', '_' and '-' are allowed"
        )


def check_collision(name: str, others: Iterable[str]) -> None:
    """Raises InvalidTopic if one of the `others` differs from `name` by '.' and '_' only, as Kafka
    does."""
    if (other := alike(name, others)) is not None:
        raise InvalidTopic(f"topic {name!r} collides with the existing topic {other!r}")
