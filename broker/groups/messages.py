"""What goes into a group and what comes out of it: events, answers, effects (pure).

Times are milliseconds: `_ms` durations, or moments of a clock that never goes back. Protocol
metadata and assignments are opaque bytes, because their meaning is between the members: the same
code serves consumers, Kafka Connect and schema registries.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum

from broker.errors import RequestError
from broker.groups.records import GroupValue

Ticket = Hashable
"""Stands for one request that waits for its answer. Who sends the event chooses it; it comes back
in exactly one `Answer`."""


class Refusal(Enum):
    """Why the coordinator says no. Kafka's numbers for these are in `kafka_api`."""

    BAD_GROUP_ID = "the group has no name"
    BAD_SESSION_TIMEOUT = "the session timeout lies outside the bounds"
    COMMIT_TOO_LARGE = "the positions are too large together"
    FENCED_INSTANCE = "another member has taken this static identity over"
    GROUP_FULL = "the group, or this node, takes no more"
    ILLEGAL_GENERATION = "the generation is not the group's current one"
    INCONSISTENT_PROTOCOL = "no protocol that all members know"
    MEMBER_ID_REQUIRED = "join again, with the member id that was given"
    METADATA_TOO_LARGE = "the metadata is too large"
    MOVED = "this node no longer coordinates the group"
    NOT_EMPTY = "the group has members"
    REBALANCING = "the group rebalances: join again"
    SUBSCRIBED = "a member subscribes to the topic"
    SUPERSEDED = "the member has sent the request again"
    TOO_LARGE = "the assignments are too large together"
    UNKNOWN_GROUP = "no such group"
    UNKNOWN_MEMBER = "the group has no such member"


class GroupRefused(RequestError):
    """A refusal, for those who cannot answer with one."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


# ---- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A member wants to be in the next generation."""

    ticket: Ticket
    member_id: str
    """"" for one that has none yet."""
    fresh_id: str
    """The id such a member gets."""
    instance_id: str | None = None
    """The identity of a static member (KIP-345), which outlives its member ids."""
    client_id: str = ""
    client_host: str = ""
    session_ms: int
    rebalance_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    """Name and metadata, the most wanted first."""
    must_know_its_id: bool = False
    """A member without id only gets one, and joins with it (KIP-394): a lost answer then leaves no
    ghost behind that the others wait for."""
    may_skip_assignment: bool = False
    """The client understands `JoinAnswer.skip_assignment` (KIP-814)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """A member of a new generation asks for its part; the leader brings everybody's."""

    ticket: Ticket
    member_id: str
    generation: int
    instance_id: str | None = None
    protocol_type: str | None = None
    """Checked where it is given, as is `protocol`: older requests cannot say."""
    protocol: str | None = None
    assignments: Mapping[str, bytes]
    """By member id; only the leader's counts."""


@dataclass(frozen=True, slots=True)
class Who:
    """A member as it calls itself."""

    member_id: str
    instance_id: str | None = None


# ---- answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member as the leader sees it."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAnswer:
    refusal: Refusal | None = None
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[MemberView, ...] = ()
    """Everybody, for the leader; nobody, for the others."""
    skip_assignment: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAnswer:
    refusal: Refusal | None = None
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


# ---- effects -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell who waits with `ticket`."""

    ticket: Ticket
    answer: JoinAnswer | SyncAnswer


@dataclass(frozen=True, slots=True)
class Save:
    """Keep the group. When `value` is durable, give this object to `Group.saved`."""

    value: GroupValue
    then: Answer | None = None
    """What a static member that has come back is told, if its group is still as it was."""


Effect = Answer | Save
