"""What `/metrics` shows of the groups that a node coordinates (pure)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from uuid import UUID

from broker.groups.counts import Counts
from broker.groups.shard import Entry
from broker.groups.states import State
from broker.telemetry import metrics
from broker.telemetry.metrics import Sample

LAG_SERIES_MAX: Final = 1000
"""Positions whose lag one node shows: one series each, and every scrape makes them anew. The others
are counted. Which are shown does not change while groups and topics stay."""

Where = Callable[[UUID], tuple[str, int] | None]
"""Name and end of a topic; None where this node knows no end of it."""


def samples(entries: Iterable[Entry], counts: Counts, where: Where) -> Iterator[Sample]:
    """`entries` are all groups of the node."""
    states: Counter[State] = Counter()
    member_count = position_count = shown_count = 0
    for entry in entries:
        group = entry.group
        states[group.state] += 1
        member_count += len(group.roster)
        position_count += len(entry.offsets)
        if shown_count >= LAG_SERIES_MAX:
            continue
        for topic_id, value in entry.offsets.items():
            found = where(topic_id) if shown_count < LAG_SERIES_MAX else None
            if found is not None:
                name, end_offset = found
                lag = max(0, end_offset - value.offset)
                yield Sample(metrics.GROUP_LAG, lag, (group.group_id, name))
                shown_count += 1
    for state in State:
        if state is not State.DEAD:
            yield Sample(metrics.GROUPS, states[state], (state.value,))
    yield Sample(metrics.GROUP_MEMBERS, member_count)
    yield Sample(metrics.GROUP_LAG_HIDDEN, position_count - shown_count)
    yield Sample(metrics.GROUP_REBALANCES, counts.rebalances)
    for reason, count in counts.dropped.items():
        yield Sample(metrics.GROUP_MEMBERS_DROPPED, count, (reason,))
    yield Sample(metrics.GROUP_OFFSETS_EXPIRED, counts.expired_offsets)
