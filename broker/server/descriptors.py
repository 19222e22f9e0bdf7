"""How many files and connections this process may have open.

Each connection and each log that is open takes a descriptor. Both have limits, so that neither ever
takes what the other needs, nor what the metadata and the other nodes need.
"""

import resource

from engine.backends import LENT_MAX
from engine.open_files import COUNT_MAX

FOR_FILES_MIN = 512
"""Descriptors that clients leave to logs, to the metadata, and to the other nodes."""

FOR_OTHERS = 256 + LENT_MAX
"""What is left beside logs and clients: the metadata, connections between nodes, the admin port,
files that are open for a moment, and those that replies are sent from. Half of what clients leave,
if that is less."""


def raise_limit() -> int:
    """Let this process open as many files as the system allows it, which is far more than what
    shells and services give it at first; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def for_connections(wanted: int, limit: int) -> int:
    """At most `wanted`, of the `limit` that `raise_limit` has found; pure."""
    if limit == resource.RLIM_INFINITY:
        return wanted
    for_files = min(limit // 2, max(FOR_FILES_MIN, limit // 4))
    return max(1, min(wanted, limit - for_files))


def for_logs(connections_max: int, limit: int) -> int:
    """How many logs may be open at once, beside so many connections; pure."""
    if limit == resource.RLIM_INFINITY:
        return COUNT_MAX
    left = limit - connections_max
    return max(1, min(COUNT_MAX, left - min(FOR_OTHERS, left // 2)))
