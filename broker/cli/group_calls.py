"""What `walrus group` asks the nodes: consumer groups, their members, positions and lag."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from kio.schema.consumer_protocol_assignment.v0 import ConsumerProtocolAssignment
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader
from kio.serial.errors import SerialError

from broker.cli.kafka_client import KafkaClient, KafkaError, check, schema

LATEST: Final = -1
EARLIEST: Final = -2
"""Timestamps of ListOffsets that are none."""

_list_offsets = schema(2, 7)
_metadata = schema(3, 12)
_offset_commit = schema(8, 8)
_offset_fetch = schema(9, 8)
_find_coordinator = schema(10, 4)
_describe_groups = schema(15, 5)
_list_groups = schema(16, 4)
_delete_groups = schema(42, 2)
_offset_delete = schema(47, 0)

_read_assignment = entity_reader(ConsumerProtocolAssignment)

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of `walrus group list`."""

    group: str
    state: str
    protocol_type: str
    coordinator: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member, with the topics it reads."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a group is in a topic. `committed` is None where nothing is committed, `end` where the
    topic is gone."""

    topic: str
    committed: int | None
    end: int | None
    member: str | None

    @property
    def lag(self) -> int | None:
        """Records between what is committed and the end."""
        if self.committed is None or self.end is None:
            return None
        return max(0, self.end - self.committed)


@dataclass(frozen=True, slots=True)
class Described:
    """Everything about a group."""

    group: str
    state: str
    protocol_type: str
    protocol: str
    coordinator: int
    members: tuple[Member, ...]
    positions: tuple[Position, ...]

    @property
    def lag(self) -> int:
        """Of all topics together, where it is known."""
        return sum(position.lag or 0 for position in self.positions)


class GroupCalls:
    """Each method is one question or change. Raises KafkaError and NoAnswer."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    def groups(self) -> list[Listed]:
        """All groups of the cluster, by name."""
        found = []
        for node, address in self._nodes().items():
            response = self._client.patiently(partial(self._list_at, address))
            found += [
                Listed(one.group_id, one.group_state, one.protocol_type, node)
                for one in response.groups
            ]
        return sorted(found, key=lambda one: one.group)

    def _list_at(self, address: Address) -> Any:
        response = self._client.ask(_list_groups.ListGroupsRequest(states_filter=()), address)
        check(response.error_code)
        return response

    def describe(self, group: str) -> Described:
        """Raises KafkaError (GROUP_ID_NOT_FOUND) for one that is not there."""
        return self._client.patiently(lambda: self._described(group))

    def _described(self, group: str) -> Described:
        node, address = self._coordinator(group)
        asked = _describe_groups.DescribeGroupsRequest(
            groups=(group,), include_authorized_operations=False
        )
        (found,) = self._client.ask(asked, address).groups
        check(found.error_code)
        if found.group_state == "Dead":
            raise KafkaError(ErrorCode.group_id_not_found)
        members = tuple(_member(found.protocol_type, one) for one in found.members)
        committed = self._committed(group, address)
        readers = {topic: one.member_id for one in members for topic in one.topics}
        topics = sorted(committed.keys() | readers.keys())
        ends = self.offsets(dict.fromkeys(topics, LATEST))
        positions = tuple(
            Position(topic, committed.get(topic), ends.get(topic), readers.get(topic))
            for topic in topics
        )
        return Described(
            group, found.group_state, found.protocol_type, found.protocol_data, node, members,
            positions,
        )  # fmt: skip

    def committed(self, group: str) -> dict[str, int]:
        """What the group has committed, by topic."""
        return self._client.patiently(lambda: self._committed(group, self._coordinator(group)[1]))

    def _committed(self, group: str, address: Address) -> dict[str, int]:
        asked = _offset_fetch.OffsetFetchRequestGroup(group_id=group, topics=None)
        request = _offset_fetch.OffsetFetchRequest(groups=(asked,), require_stable=False)
        (found,) = self._client.ask(request, address).groups
        check(found.error_code)
        return {topic.name: topic.partitions[0].committed_offset for topic in found.topics}

    def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """Put the group there; it must have no members."""

        def at(offset: int) -> Any:
            return _offset_commit.OffsetCommitRequestPartition(
                partition_index=0,
                committed_offset=offset,
                committed_leader_epoch=-1,
                committed_metadata="",
            )

        topics = tuple(
            _offset_commit.OffsetCommitRequestTopic(name=topic, partitions=(at(offset),))
            for topic, offset in offsets.items()
        )
        request = _offset_commit.OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=-1,
            member_id="",
            group_instance_id=None,
            topics=topics,
        )
        self._client.patiently(lambda: _check_topics(self._at_coordinator(group, request)))

    def delete(self, group: str) -> None:
        """Everything about it; it must have no members."""
        request = _delete_groups.DeleteGroupsRequest(groups_names=(group,))

        def ask() -> None:
            (found,) = self._at_coordinator(group, request).results
            check(found.error_code)

        self._client.patiently(ask)

    def delete_offsets(self, group: str, topics: Iterable[str]) -> None:
        """Forget where the group is in these topics; no member may subscribe to them."""
        partition = _offset_delete.OffsetDeleteRequestPartition(partition_index=0)
        wanted = tuple(
            _offset_delete.OffsetDeleteRequestTopic(name=topic, partitions=(partition,))
            for topic in topics
        )
        request = _offset_delete.OffsetDeleteRequest(group_id=group, topics=wanted)

        def ask() -> None:
            response = self._at_coordinator(group, request)
            check(response.error_code)
            _check_topics(response)

        self._client.patiently(ask)

    def offsets(self, asked: Mapping[str, int]) -> dict[str, int]:
        """The offset at a timestamp (milliseconds since 1970, LATEST, EARLIEST) of each topic;
        -1 where no record is so young. Topics that are gone are left out."""
        return self._client.patiently(lambda: self._offsets(asked))

    def _offsets(self, asked: Mapping[str, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for address, topics in self._leaders(asked).items():
            wanted = tuple(
                _list_offsets.ListOffsetsTopic(
                    name=topic,
                    partitions=(
                        _list_offsets.ListOffsetsPartition(
                            partition_index=0, timestamp=asked[topic]
                        ),
                    ),
                )
                for topic in topics
            )
            request = _list_offsets.ListOffsetsRequest(
                replica_id=-1, isolation_level=0, topics=wanted
            )
            for topic in self._client.ask(request, address).topics:
                check(topic.partitions[0].error_code, topic.name)
                found[topic.name] = topic.partitions[0].offset
        return found

    # ---- whom to ask -----------------------------------------------------------------------------

    def _nodes(self) -> dict[int, Address]:
        request = _metadata.MetadataRequest(
            topics=(), allow_auto_topic_creation=False, include_topic_authorized_operations=False
        )
        response = self._client.ask(request)
        return {one.node_id: (one.host, one.port) for one in response.brokers}

    def _leaders(self, topics: Iterable[str]) -> dict[Address, list[str]]:
        wanted = tuple(_metadata.MetadataRequestTopic(topic_id=None, name=one) for one in topics)
        request = _metadata.MetadataRequest(
            topics=wanted,
            allow_auto_topic_creation=False,
            include_topic_authorized_operations=False,
        )
        response = self._client.ask(request)
        nodes = {one.node_id: (one.host, one.port) for one in response.brokers}
        leaders: dict[Address, list[str]] = {}
        for topic in response.topics:
            if topic.error_code is ErrorCode.unknown_topic_or_partition:
                continue
            check(topic.error_code)
            (partition,) = topic.partitions
            if partition.leader_id not in nodes:
                raise KafkaError(ErrorCode.leader_not_available, f"{topic.name} has no leader now")
            leaders.setdefault(nodes[partition.leader_id], []).append(topic.name)
        return leaders

    def _coordinator(self, group: str) -> tuple[int, Address]:
        request = _find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=(group,))
        (found,) = self._client.ask(request).coordinators
        check(found.error_code, found.error_message)
        return found.node_id, (found.host, found.port)

    def _at_coordinator(self, group: str, request: Any) -> Any:
        return self._client.ask(request, self._coordinator(group)[1])


def _check_topics(response: Any) -> None:
    for topic in response.topics:
        code = topic.partitions[0].error_code
        check(code, f"{topic.name}: {code.name.replace('_', ' ')}")


def _member(protocol_type: str, member: Any) -> Member:
    is_consumer = protocol_type == "consumer"
    topics = _assigned(member.member_assignment) if is_consumer else ()
    return Member(
        member.member_id, member.group_instance_id, member.client_id, member.client_host, topics
    )


def _assigned(assignment: bytes) -> tuple[str, ...]:
    """The topics in it. What clients write there is their own affair: nothing, if unreadable."""
    try:
        found, _ = _read_assignment(memoryview(assignment)[2:], 0)
    except (SerialError, ValueError):
        return ()
    return tuple(sorted(one.topic for one in found.assigned_partitions))
