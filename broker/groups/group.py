"""The classic group protocol: one group as a state machine (pure).

Its states and how they change are in `generations.py`; here is what becomes of each event.

Events come in with the time; effects come out. Every ticket is answered once: when a phase ends,
when its member goes, or when the member sends the request again. `wake_ms` is when `tick` has
something to do at the earliest.

Where Kafka is not followed: member ids that were given out and not used yet (KIP-394) do not hold a
rebalance up; a member that the leader forgets gets a well-formed empty assignment; a repeated
request does not leave the first one without an answer.
"""

from collections.abc import Sequence
from dataclasses import replace

from broker.groups.counts import SESSION, Counts
from broker.groups.generations import Generations
from broker.groups.messages import (
    Answer,
    Effect,
    Join,
    JoinAnswer,
    Refusal,
    Save,
    Sync,
    SyncAnswer,
    Who,
)
from broker.groups.records import GroupValue
from broker.groups.roster import Member
from broker.groups.states import GroupLimits, State


class Group(Generations):
    """See the module's text. One event is one method; it returns what is to be done."""

    def __init__(self, group_id: str, limits: GroupLimits, counts: Counts | None = None) -> None:
        super().__init__(group_id, limits, counts)
        self.pending: dict[str, int] = {}
        """Member ids given out and not used yet, and when each is forgotten."""

    @classmethod
    def restored(
        cls,
        group_id: str,
        limits: GroupLimits,
        value: GroupValue,
        now_ms: int,
        counts: Counts | None = None,
    ) -> "Group":
        """The group as it was saved; everybody's session begins anew."""
        group = cls(group_id, limits, counts)
        group.generation = value.generation
        group.protocol_type, group.protocol = value.protocol_type, value.protocol
        for member_value in value.members:
            member = Member.restored(member_value)
            group.roster.add(member)
            group._hear(member, now_ms)
        group.roster.leader = value.leader
        if value.members:
            group.state = State.STABLE
        return group

    # ---- joining ---------------------------------------------------------------------------------

    def join(self, join: Join, now_ms: int) -> list[Effect]:
        """JoinGroup. Answered at once when refused, or when nothing changes; else by the phase."""
        refusal = self._may_join(join)
        if refusal is not None:
            self._refuse_join(join, refusal)
        elif not join.member_id:
            self._join_new(join, now_ms)
        elif join.instance_id is None and self.pending.pop(join.member_id, None) is not None:
            self._add(join, join.member_id, now_ms)
        else:
            member = self.roster.find(Who(join.member_id, join.instance_id))
            if isinstance(member, Refusal):
                self._refuse_join(join, member)
            else:
                self._rejoin(join, member, now_ms)
        return self._take_effects()

    def _may_join(self, join: Join) -> Refusal | None:
        limits = self._limits
        if not limits.session_ms_min <= join.session_ms <= limits.session_ms_max:
            return Refusal.BAD_SESSION_TIMEOUT
        if self.state is State.DEAD:
            return Refusal.MOVED
        if not self._has_room(join):
            return Refusal.GROUP_FULL
        if not join.protocol_type or not join.protocols:
            return Refusal.INCONSISTENT_PROTOCOL
        if self.state is State.EMPTY:
            return None
        is_common = join.protocol_type == self.protocol_type
        if not is_common or not self.roster.knows_any(join.protocols):
            return Refusal.INCONSISTENT_PROTOCOL
        return None

    def _has_room(self, join: Join) -> bool:
        """During a join phase those that wait count: the last to come are the ones too many."""
        member = self.roster.get(join.member_id) or self.roster.static(join.instance_id)
        wanted = Member.of(join, join.member_id or join.fresh_id)
        size = wanted.size() - (0 if member is None else member.size())
        if self.roster.size + size > self._limits.metadata_size_max:
            return False
        if self.state is State.PREPARING:
            if member is not None and member.joining is not None:
                return True
            count = sum(other.joining is not None for other in self.roster)
        else:
            count = len(self.roster)
            if member is not None:
                return True
        if not join.member_id:
            count += len(self.pending)
        return count < self._limits.members_max

    def _join_new(self, join: Join, now_ms: int) -> None:
        holder = self.roster.static(join.instance_id)
        if holder is not None:
            self._replace(join, holder, now_ms)
        elif join.must_know_its_id and join.instance_id is None:
            deadline_ms = now_ms + join.session_ms
            self.pending[join.fresh_id] = deadline_ms
            self._wake_at(deadline_ms)
            self._refuse_join(join, Refusal.MEMBER_ID_REQUIRED, member_id=join.fresh_id)
        else:
            self._add(join, join.fresh_id, now_ms)

    def _add(self, join: Join, member_id: str, now_ms: int) -> None:
        if not self.roster:
            self.protocol_type = join.protocol_type
        member = Member.of(join, member_id)
        member.joining = join.ticket
        self._enter(member, now_ms)

    def _rejoin(self, join: Join, member: Member, now_ms: int) -> None:
        is_same = join.protocols == member.protocols
        if self.state is State.COMPLETING and is_same:
            # It did not get the answer of the join phase.
            self._answer(join.ticket, self._joined(member))
            self._hear(member, now_ms)
        elif self.state is State.STABLE and is_same and member.member_id != self.roster.leader:
            self._answer(join.ticket, self._joined(member))
            self._hear(member, now_ms)
        else:
            # A leader that joins again wants to assign again: what is assigned has changed.
            self._wait_to_join(join, member)
            self._rebalance(now_ms)

    def _wait_to_join(self, join: Join, member: Member) -> None:
        if member.joining is not None:
            self._answer(member.joining, JoinAnswer(refusal=Refusal.SUPERSEDED))
        self.roster.update(member, join)
        member.joining = join.ticket

    def _replace(self, join: Join, holder: Member, now_ms: int) -> None:
        """A static member was restarted. While its group is stable, nobody else notices."""
        for ticket, answer in (
            (holder.joining, JoinAnswer(refusal=Refusal.FENCED_INSTANCE)),
            (holder.syncing, SyncAnswer(refusal=Refusal.FENCED_INSTANCE)),
        ):
            if ticket is not None:
                self._answer(ticket, answer)
        holder.joining = holder.syncing = None
        leader_before = self.roster.leader or ""
        self.roster.replace(holder, join.fresh_id)
        self._wait_to_join(join, holder)
        self._hear(holder, now_ms)
        if self.state is not State.STABLE or self.roster.vote() != self.protocol:
            self._rebalance(now_ms)
            return
        joined = self._joined(holder)
        if join.may_skip_assignment:
            joined = replace(joined, skip_assignment=bool(joined.members))
        else:
            # A client that finds itself leader would assign, to no effect: it is told of the
            # leader that it was (KIP-345; KIP-814 has the better way).
            joined = replace(joined, leader=leader_before, members=())
        self._effects.append(Save(self._value(), then=Answer(join.ticket, joined)))

    def _refuse_join(self, join: Join, refusal: Refusal, member_id: str | None = None) -> None:
        answer_id = join.member_id if member_id is None else member_id
        self._answer(join.ticket, JoinAnswer(refusal=refusal, member_id=answer_id))

    # ---- syncing ---------------------------------------------------------------------------------

    def sync(self, sync: Sync, now_ms: int) -> list[Effect]:
        """SyncGroup: held until the leader's assignment is saved."""
        member = self._in_generation(Who(sync.member_id, sync.instance_id), sync.generation)
        if isinstance(member, Refusal):
            self._refuse_sync(sync, member)
        elif not self._speaks(sync):
            self._refuse_sync(sync, Refusal.INCONSISTENT_PROTOCOL)
        elif self.state is State.PREPARING:
            self._refuse_sync(sync, Refusal.REBALANCING)
        elif self.state is State.STABLE:
            self._note_sync(member, now_ms)
            self._answer(sync.ticket, self._synced(member))
        else:
            self._wait_to_sync(sync, member, now_ms)
        return self._take_effects()

    def _speaks(self, sync: Sync) -> bool:
        is_type = sync.protocol_type in (None, self.protocol_type)
        return is_type and sync.protocol in (None, self.protocol)

    def _wait_to_sync(self, sync: Sync, member: Member, now_ms: int) -> None:
        leads = member.member_id == self.roster.leader
        if leads and sum(map(len, sync.assignments.values())) > self._limits.metadata_size_max:
            self._refuse_sync(sync, Refusal.TOO_LARGE)
            return
        if member.syncing is not None:
            self._answer(member.syncing, SyncAnswer(refusal=Refusal.SUPERSEDED))
        member.syncing = sync.ticket
        self._note_sync(member, now_ms)
        if leads and self._saving is None:
            self._assign(sync.assignments)

    def saved(self, save: Save, now_ms: int) -> list[Effect]:
        """What `save` says is durable."""
        if save is self._saving:
            self._end_sync_phase(now_ms)
        if save.then is not None and self.state is State.STABLE:
            # If the group rebalances by now, the join phase answers.
            for member in self.roster:
                if member.joining == save.then.ticket:
                    member.joining = None
                    self._effects.append(save.then)
                    self._hear(member, now_ms)
        return self._take_effects()

    def _refuse_sync(self, sync: Sync, refusal: Refusal) -> None:
        self._answer(sync.ticket, SyncAnswer(refusal=refusal))

    # ---- living ----------------------------------------------------------------------------------

    def heartbeat(self, who: Who, generation: int, now_ms: int) -> Refusal | None:
        """Heartbeat. It counts while the group rebalances, too."""
        member = self._in_generation(who, generation)
        if isinstance(member, Refusal):
            return member
        self._hear(member, now_ms)
        return Refusal.REBALANCING if self.state is State.PREPARING else None

    def check_commit(self, who: Who, generation: int, now_ms: int) -> Refusal | None:
        """May this commit be written? A commit without member and generation is one by hand: from
        an admin tool, or a consumer that assigns for itself. It needs an empty group."""
        if self.state is State.DEAD:
            return Refusal.MOVED
        if generation < 0 and self.state is State.EMPTY:
            return None
        if generation < 0 and not who.member_id and who.instance_id is None:
            return Refusal.UNKNOWN_MEMBER
        member = self._in_generation(who, generation)
        if isinstance(member, Refusal):
            return member
        self._hear(member, now_ms)
        return Refusal.REBALANCING if self.state is State.COMPLETING else None

    def _in_generation(self, who: Who, generation: int) -> Member | Refusal:
        if self.state is State.DEAD:
            return Refusal.MOVED
        member = self.roster.find(who)
        if isinstance(member, Member) and generation != self.generation:
            return Refusal.ILLEGAL_GENERATION
        return member

    def leave(
        self, leavers: Sequence[Who], now_ms: int
    ) -> tuple[list[Refusal | None], list[Effect]]:
        """LeaveGroup: what to tell each of them. A static member may be named without member id
        (an operator removes it)."""
        before = len(self.roster)
        refusals = [self._leave(who) for who in leavers]
        if len(self.roster) < before:
            self._rebalance(now_ms)
        return refusals, self._take_effects()

    def _leave(self, who: Who) -> Refusal | None:
        if self.pending.pop(who.member_id, None) is not None:
            return None
        found: Member | Refusal | None = (
            self.roster.find(who) if who.member_id else self.roster.static(who.instance_id)
        )
        if isinstance(found, Member):
            self._drop(found)
            return None
        return found or Refusal.UNKNOWN_MEMBER

    def tick(self, now_ms: int) -> list[Effect]:
        """Time has passed: sessions, phases and ids that were not used end."""
        if self.wake_ms is None or now_ms < self.wake_ms:
            return []
        for member_id in [one for one, deadline in self.pending.items() if deadline <= now_ms]:
            del self.pending[member_id]
        expired = [member for member in self.roster if self._has_expired(member, now_ms)]
        for member in expired:
            self._drop_silent(member, SESSION)
        if expired:
            self._rebalance(now_ms)
        if self._phase_deadline_ms is not None and self._phase_deadline_ms <= now_ms:
            self._phase_over(now_ms)
        self._set_wake(now_ms, self.pending.values())
        return self._take_effects()

    def close(self, refusal: Refusal) -> list[Effect]:
        """The group is deleted, or coordinated elsewhere: nobody waits any longer."""
        self.pending.clear()
        self._die(refusal)
        return self._take_effects()

    @property
    def is_idle(self) -> bool:
        """Nobody is in it, and nobody is about to be."""
        return self.state is State.EMPTY and not self.pending
