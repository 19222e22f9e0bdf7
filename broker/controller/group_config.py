"""The configs of consumer groups, with the names, defaults and bounds of Kafka 4 (pure).

They are those of a group whose members use the protocol of KIP-848, where sessions are the group's
affair. That protocol is not served yet, and a member of the classic one says itself how long its
session and its rebalances take: to it they change nothing. Kafka knows others, of share and
streams groups; there are no such groups here, and so no such configs.
"""

from collections.abc import Mapping
from typing import Final

from broker.controller.definitions import Definition, whole
from broker.errors import InvalidConfig

_STORED = (
    "Stored and answered, for members with group.protocol=consumer, which is not served yet; a "
    "member of the classic protocol brings its own."
)

DEFINITIONS: Final[tuple[Definition, ...]] = (
    whole(
        "consumer.heartbeat.interval.ms", 5_000, 5_000, 15_000,
        f"How often a member is to send a heartbeat. {_STORED}",
        "group.consumer.heartbeat.interval.ms",
    ),
    whole(
        "consumer.session.timeout.ms", 45_000, 45_000, 60_000,
        f"After how long without a heartbeat a member is taken for dead. {_STORED}",
        "group.consumer.session.timeout.ms",
    ),
)  # fmt: skip
"""Sorted by name."""

BY_NAME: Final[Mapping[str, Definition]] = {item.name: item for item in DEFINITIONS}


def validate(configs: Mapping[str, str]) -> None:
    """Raises InvalidConfig naming the key, and the value and the valid form where it is known.

    Unlike a topic's, an unknown key is refused, as Kafka does.
    """
    for name, value in configs.items():
        definition = BY_NAME.get(name)
        if definition is None:
            raise InvalidConfig(f"a group has no config {name}")
        if not definition.check(value):
            raise InvalidConfig(f"{name}={value!r}: must be {definition.valid}")
