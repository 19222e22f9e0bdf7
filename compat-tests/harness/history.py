"""What the members of a group told, against what must hold of every group (pure).

Moments are seconds of the machine's monotonic clock, which all programs of a test share.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

Event = Sequence[str]
"""Its kind, then its fields: see harness/processes.py."""


@dataclass(frozen=True, slots=True)
class Told:
    """One member's life: when it was started, and what it told until it ended."""

    name: str
    started: float
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Commit:
    """An acknowledged one."""

    topic: str
    offset: int
    begun: float
    ended: float
    member: str


@dataclass(slots=True)
class Observed:
    """What somebody else was told of the group's positions, one answer after the other."""

    answers: list[tuple[float, Mapping[str, int]]] = field(default_factory=list)
    """When it was asked for, and what it said."""


def commits_of(members: Sequence[Told]) -> list[Commit]:
    return [
        Commit(event[1], int(event[2]), float(event[3]), float(event[4]), member.name)
        for member in members
        for event in member.events
        if event[0] == "committed"
    ]


def problems(
    members: Sequence[Told], observed: Observed, written: Mapping[str, Sequence[str]]
) -> list[str]:
    """Everything that is wrong, in words. `written` is all that was acknowledged, by topic, in the
    order of its offsets; the group has read and committed all of it."""
    commits = commits_of(members)
    return [
        *_lost_or_changed(members, written),
        *_out_of_order(members),
        *_commits_that_go_back(commits),
        *_starts_before_what_was_committed(members, commits),
        *_answers_that_go_back(observed, commits),
    ]


def _lost_or_changed(
    members: Sequence[Told], written: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    seen: dict[str, set[int]] = {topic: set() for topic in written}
    for member in members:
        for event in member.events:
            if event[0] != "read":
                continue
            topic, offset, value = event[1], int(event[2]), event[3]
            seen[topic].add(offset)
            if not (offset < len(written[topic]) and written[topic][offset] == value):
                yield f"{member.name} read {value!r} at {offset} of {topic}"
    for topic, offsets in seen.items():
        missing = sorted(set(range(len(written[topic]))) - offsets)
        if missing:
            yield f"{len(missing)} of {topic} were never read, the first at {missing[0]}"


def _out_of_order(members: Sequence[Told]) -> Iterator[str]:
    """From one assignment to the next a member reads a topic's offsets one by one."""
    for member in members:
        last: dict[str, int] = {}
        for event in member.events:
            if event[0] in ("assigned", "revoked"):
                last.clear()
            elif event[0] == "read":
                topic, offset = event[1], int(event[2])
                before = last.get(topic, offset - 1)
                if offset != before + 1:
                    yield f"{member.name} read {offset} of {topic} after {before}"
                last[topic] = offset


def _commits_that_go_back(commits: Sequence[Commit]) -> Iterator[str]:
    """One that began when another had been acknowledged is not behind it."""
    for topic in {one.topic for one in commits}:
        ours = sorted((one for one in commits if one.topic == topic), key=lambda one: one.ended)
        ends = [one.ended for one in ours]
        furthest = list(accumulate(ours, _further))
        for one in ours:
            count = bisect_left(ends, one.begun)
            if count and furthest[count - 1].offset > one.offset:
                yield f"{one} goes back behind {furthest[count - 1]}"


def _further(one: Commit, other: Commit) -> Commit:
    return other if other.offset > one.offset else one


def _starts_before_what_was_committed(
    members: Sequence[Told], commits: Sequence[Commit]
) -> Iterator[str]:
    """A member begins at or after whatever was committed before it knew of its assignment."""
    for member in members:
        since, begins = member.started, set[str]()
        for event in member.events:
            if event[0] == "revoked":
                since, begins = float(event[2]), set()
            elif event[0] == "assigned":
                begins = set(event[1].split(","))
            elif event[0] == "read" and event[1] in begins:
                begins.discard(event[1])
                known = [
                    one.offset for one in commits if one.topic == event[1] and one.ended < since
                ]
                if int(event[2]) < max(known, default=0):
                    yield f"{member.name} began {event[1]} at {event[2]}, not at {max(known)}"


def _answers_that_go_back(observed: Observed, commits: Sequence[Commit]) -> Iterator[str]:
    for (_, before), (_, after) in pairwise(observed.answers):
        for topic, offset in before.items():
            if after.get(topic, -1) < offset:
                yield f"{topic} went back from {offset} to {after.get(topic)}"
    for asked, answer in observed.answers:
        for one in commits:
            if one.ended < asked and answer.get(one.topic, -1) < one.offset:
                yield f"{one} was not there when it was asked for: {answer.get(one.topic)}"
