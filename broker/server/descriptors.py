"""How many files and connections this process may have open.

A node that cannot open a file for want of descriptors takes its disk for failed and stops. So the
connections of clients, however many come, never take them all.
"""

import resource

FOR_FILES_MIN = 512
"""Descriptors that clients leave to segments, to the metadata, and to the other nodes."""


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
