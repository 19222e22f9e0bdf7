"""The arithmetic of copies (pure).

With R replicas and ack quorum Qa = R//2 + 1, a record is committed when Qa copies are durable, and
a seal needs R - Qa + 1 definite answers: any such set meets any ack quorum, so the longest answer
holds all that was committed.
"""

from collections.abc import Iterable


def ack_quorum(
    replica_count: int, min_insync_replicas: int = 1, node_count: int | None = None
) -> int:
    """Durable copies that make a record committed: max(R//2 + 1, min(min.insync.replicas,
    nodes))."""
    if replica_count < 1:
        raise ValueError("a segment has at least one replica")
    majority = replica_count // 2 + 1
    wanted = min(min_insync_replicas, node_count if node_count is not None else replica_count)
    return max(majority, wanted)


def seal_quorum(replica_count: int) -> int:
    """Definite SEAL answers needed before the end of a segment is known."""
    return replica_count - (replica_count // 2 + 1) + 1


def committed_offset(durable_offsets: Iterable[int], quorum: int) -> int:
    """The quorum-th largest durable end; 0 while fewer copies than `quorum` have answered."""
    ranked = sorted(durable_offsets, reverse=True)
    return ranked[quorum - 1] if len(ranked) >= quorum else 0
