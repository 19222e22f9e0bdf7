"""Who is in a group: members, static identities, the leader, the common protocols (pure)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from broker.groups.messages import Join, MemberView, Refusal, Ticket, Who
from broker.groups.records import MemberValue


@dataclass(slots=True, kw_only=True)
class Member:
    """One member. A ticket it holds is a request of it that waits."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    assignment: bytes = b""
    joining: Ticket | None = None
    syncing: Ticket | None = None
    has_synced: bool = False
    """It has sent its SyncGroup of this generation."""
    is_new: bool = False
    """It has not been in a generation yet."""
    deadline_ms: int = 0
    """When its session ends, unless it is heard of, or waits for us."""

    @classmethod
    def of(cls, join: Join, member_id: str) -> "Member":
        return cls(
            member_id=member_id,
            instance_id=join.instance_id,
            client_id=join.client_id,
            client_host=join.client_host,
            session_ms=join.session_ms,
            rebalance_ms=join.rebalance_ms,
            protocols=join.protocols,
            is_new=True,
        )

    @classmethod
    def restored(cls, value: MemberValue) -> "Member":
        return cls(
            member_id=value.member_id,
            instance_id=value.instance_id,
            client_id=value.client_id,
            client_host=value.client_host,
            session_ms=value.session_ms,
            rebalance_ms=value.rebalance_ms,
            protocols=value.protocols,
            assignment=value.assignment,
            has_synced=True,
        )

    def value(self, assignment: bytes) -> MemberValue:
        return MemberValue(
            self.member_id,
            self.instance_id,
            self.client_id,
            self.client_host,
            self.session_ms,
            self.rebalance_ms,
            self.protocols,
            assignment,
        )

    def metadata(self, protocol: str | None) -> bytes:
        return next((data for name, data in self.protocols if name == protocol), b"")

    def size(self) -> int:
        """Bytes it makes us keep, more or less."""
        words = (self.member_id, self.client_id, self.instance_id or "")
        kept = sum(len(word.encode()) for word in words)
        return kept + sum(len(name.encode()) + len(data) for name, data in self.protocols)

    def is_waiting(self) -> bool:
        """It has a request with us, so it is our turn: its session does not run."""
        return self.joining is not None or self.syncing is not None


class Roster:
    """The members of one group, in the order in which they came."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.leader: str | None = None
        self._static: dict[str, str] = {}
        self._protocols: Counter[str] = Counter()
        self.size = 0
        """Bytes of metadata of all members."""

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members.values())

    def get(self, member_id: str) -> Member | None:
        return self.members.get(member_id)

    def static(self, instance_id: str | None) -> Member | None:
        """The member that holds a static identity now."""
        member_id = None if instance_id is None else self._static.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def find(self, who: Who) -> Member | Refusal:
        """The member, if it is one, and if no other has taken its identity over."""
        if who.instance_id is not None:
            holder = self.static(who.instance_id)
            if holder is None:
                return Refusal.UNKNOWN_MEMBER
            if holder.member_id != who.member_id:
                return Refusal.FENCED_INSTANCE
        return self.members.get(who.member_id) or Refusal.UNKNOWN_MEMBER

    def add(self, member: Member) -> None:
        """The first one leads."""
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self._static[member.instance_id] = member.member_id
        self.leader = self.leader or member.member_id
        self._count(member, 1)

    def remove(self, member: Member) -> None:
        del self.members[member.member_id]
        if self._static.get(member.instance_id or "") == member.member_id:
            del self._static[member.instance_id or ""]
        if self.leader == member.member_id:
            self.leader = next(iter(self.members), None)
        self._count(member, -1)

    def replace(self, member: Member, member_id: str) -> None:
        """A static member has come back under a new id; its place and its office stay its own."""
        was_leader = self.leader == member.member_id
        self.remove(member)
        member.member_id = member_id
        self.add(member)
        if was_leader:
            self.leader = member_id

    def update(self, member: Member, join: Join) -> None:
        """It has joined again, and may have changed its mind about everything but who it is."""
        self._count(member, -1)
        member.protocols = join.protocols
        member.client_id, member.client_host = join.client_id, join.client_host
        member.session_ms, member.rebalance_ms = join.session_ms, join.rebalance_ms
        self._count(member, 1)

    def _count(self, member: Member, sign: int) -> None:
        for name in {name for name, _ in member.protocols}:
            self._protocols[name] += sign
            if not self._protocols[name]:
                del self._protocols[name]
        self.size += sign * member.size()

    def elect(self) -> None:
        """Let one that has joined lead, and keep the leader if it has. Somebody must have."""
        leader = self.members.get(self.leader or "")
        if leader is None or leader.joining is None:
            self.leader = next(member.member_id for member in self if member.joining is not None)

    def knows_any(self, protocols: tuple[tuple[str, bytes], ...]) -> bool:
        """Whether one of them is known to all members."""
        return any(self._protocols[name] == len(self.members) for name, _ in protocols)

    def vote(self) -> str | None:
        """The protocol that most members want most, of those that all know."""
        common = {name for name, count in self._protocols.items() if count == len(self.members)}
        votes = Counter(
            next(name for name, _ in member.protocols if name in common)
            for member in self
            if common
        )
        return votes.most_common(1)[0][0] if votes else None

    def views(self, protocol: str | None) -> tuple[MemberView, ...]:
        return tuple(
            MemberView(member.member_id, member.instance_id, member.metadata(protocol))
            for member in self
        )
