"""A group as tools see it (pure)."""

from dataclasses import dataclass

from broker.groups.generations import CONSUMER_PROTOCOL
from broker.groups.group import Group
from broker.groups.states import State
from broker.groups.subscription import subscribed_topics


@dataclass(frozen=True, slots=True)
class GroupListed:
    """A line of ListGroups."""

    group_id: str
    protocol_type: str
    state: State


@dataclass(frozen=True, slots=True)
class MemberDescribed:
    """A member of DescribeGroups."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True)
class GroupDescribed:
    """A page of DescribeGroups. The protocol and what it means to the members are shown only while
    they are settled."""

    group_id: str
    state: State
    protocol_type: str
    protocol: str
    members: tuple[MemberDescribed, ...]


def listed(group: Group) -> GroupListed:
    return GroupListed(group.group_id, group.protocol_type, group.state)


def described(group: Group) -> GroupDescribed:
    is_settled = group.state is State.STABLE
    return GroupDescribed(
        group.group_id,
        group.state,
        group.protocol_type,
        (group.protocol or "") if is_settled else "",
        tuple(
            MemberDescribed(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.metadata(group.protocol) if is_settled else b"",
                member.assignment if is_settled else b"",
            )
            for member in group.roster
        ),
    )


def subscribes(group: Group, topic: str) -> bool:
    """Whether a member wants the topic, or may want it for all that we can read."""
    if group.protocol_type != CONSUMER_PROTOCOL:
        return False
    for member in group.roster:
        topics = subscribed_topics(member.metadata(group.protocol))
        if topics is None or topic in topics:
            return True
    return False
