"""The generations of one group: who is in the present one, and how the next one comes about (pure).

                 first member                     all have joined, or time is up
        Empty ───────────────▶ PreparingRebalance ──────────────────▶ CompletingRebalance
          ▲                     │      ▲      ▲                          │            │
          └─────────────────────┘      │      └──── a change ────────────┘            │ the leader's
             nobody is left            └─────────── a change ──────── Stable ◀────────┘ assignment

A *generation* is what one completed join phase makes: its members, one protocol, one leader. The
leader assigns, the coordinator only carries bytes. A new generation begins when the join phase
ends, never with a single JoinGroup; an assignment counts only in its own generation, and only once
it is saved. (Kafka: the "classic" group of its GroupMetadataManager; KIP-62, 345, 394, 814.)

What members ask, and may ask when, is in `group.py`.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from broker.groups.counts import JOIN, SYNC, Counts
from broker.groups.messages import (
    Answer,
    Effect,
    JoinAnswer,
    Refusal,
    Save,
    SyncAnswer,
    Ticket,
)
from broker.groups.records import GroupValue
from broker.groups.roster import Member, Roster
from broker.groups.states import TRANSITIONS, GroupLimits, State

CONSUMER_PROTOCOL: Final = "consumer"
EMPTY_ASSIGNMENT: Final = bytes(6) + b"\xff\xff\xff\xff"
"""Version 0, no topics, no user data, as consumers write it. To some, no bytes at all are an error
(franz-go: "response did not contain enough data")."""

NEW_MEMBER_JOIN_MS_MAX: Final = 300_000
"""How long a member that nobody knows yet is held in a join phase. It cannot heartbeat, and its
client may be gone; Kafka waits as long."""

REBALANCE_MS_MIN: Final = 1_000
"""How long the members have for a phase at least, whatever they asked. kafkajs' own tests ask for
0: Kafka then drops them, or does not, as its timer falls."""


class Generations:
    """The lower half of a `Group`: members, sessions and the two phases of a rebalance."""

    def __init__(self, group_id: str, limits: GroupLimits, counts: Counts | None = None) -> None:
        self.group_id = group_id
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.roster = Roster()
        self.wake_ms: int | None = None
        self._limits = limits
        self._counts = counts or Counts()
        self._phase_deadline_ms: int | None = None
        """When the join phase, or the wait for everybody's SyncGroup, is over."""
        self._is_first_wait = False
        """The join phase of a group that was empty: only time ends it."""
        self._first_wait_left_ms = 0
        self._has_new_member = False
        self._saving: Save | None = None
        """The assignment of this generation, on its way to the disk."""
        self._effects: list[Effect] = []

    # ---- the phases ------------------------------------------------------------------------------

    def _rebalance(self, now_ms: int) -> None:
        """Something has changed: begin a join phase, or see whether the present one is over."""
        if self.state is State.PREPARING:
            self._maybe_end_join_phase(now_ms)
            return
        is_first = self.state is State.EMPTY
        for member in self.roster:
            self._answer_sync(member, SyncAnswer(refusal=Refusal.REBALANCING), now_ms)
        self._move(State.PREPARING)
        self._saving = None
        self._is_first_wait = is_first
        rebalance_ms = self._rebalance_ms()
        if is_first:
            delay_ms = self._limits.initial_delay_ms
            self._first_wait_left_ms = max(rebalance_ms - delay_ms, 0)
            self._has_new_member = False
            self._phase_until(now_ms + delay_ms)
        else:
            self._phase_until(now_ms + rebalance_ms)
            self._maybe_end_join_phase(now_ms)

    def _rebalance_ms(self) -> int:
        return max([REBALANCE_MS_MIN, *(member.rebalance_ms for member in self.roster)])

    def _maybe_end_join_phase(self, now_ms: int) -> None:
        if self._is_first_wait and self.roster:
            return
        if all(member.joining is not None for member in self.roster):
            self._end_join_phase(now_ms)

    def _join_phase_over(self, now_ms: int) -> None:
        """The first wait goes on while it brings new members."""
        if self._is_first_wait and self._has_new_member and self._first_wait_left_ms:
            delay_ms = min(self._limits.initial_delay_ms, self._first_wait_left_ms)
            self._first_wait_left_ms -= delay_ms
            self._has_new_member = False
            self._phase_until(now_ms + max(delay_ms, 1))
            return
        # Static members are given the rest of their session to come back.
        for member in [one for one in self.roster if one.joining is None]:
            if member.instance_id is None:
                self._drop_silent(member, JOIN)
        if self.roster and not any(member.joining is not None for member in self.roster):
            self._phase_until(now_ms + self._rebalance_ms())
        else:
            self._end_join_phase(now_ms)

    def _end_join_phase(self, now_ms: int) -> None:
        """The next generation begins."""
        self._is_first_wait = False
        self._phase_deadline_ms = None
        self.generation += 1
        self.protocol = self.roster.vote()
        if not self.roster:
            self._move(State.EMPTY)
            self._effects.append(Save(self._value()))
            return
        self._counts.rebalances += 1
        self.roster.elect()
        self._move(State.COMPLETING)
        for member in self.roster:
            # An absent static member owes us no SyncGroup; its session decides about it.
            member.assignment, member.has_synced = b"", member.joining is None
            if member.joining is not None:
                self._answer(member.joining, self._joined(member))
                member.joining, member.is_new = None, False
                self._hear(member, now_ms)
        self._phase_until(now_ms + self._rebalance_ms())

    def _note_sync(self, member: Member, now_ms: int) -> None:
        member.has_synced = True
        self._hear(member, now_ms)
        if all(other.has_synced for other in self.roster):
            self._phase_deadline_ms = None

    def _assign(self, assignments: Mapping[str, bytes]) -> None:
        """The leader has spoken, for the first time in this generation."""
        for member in self.roster:
            member.assignment = assignments.get(member.member_id) or self._no_assignment()
        self._saving = Save(self._value())
        self._effects.append(self._saving)

    def _no_assignment(self) -> bytes:
        return EMPTY_ASSIGNMENT if self.protocol_type == CONSUMER_PROTOCOL else b""

    def _end_sync_phase(self, now_ms: int) -> None:
        """The assignment is saved."""
        self._saving = None
        self._move(State.STABLE)
        for member in self.roster:
            self._answer_sync(member, self._synced(member), now_ms)

    def _sync_phase_over(self, now_ms: int) -> None:
        """Who has joined and never synced is gone, or hangs."""
        self._phase_deadline_ms = None
        for member in [one for one in self.roster if not one.has_synced]:
            self._drop_silent(member, SYNC)
        self._rebalance(now_ms)

    def _phase_over(self, now_ms: int) -> None:
        """Its time is up."""
        if self.state is State.PREPARING:
            self._join_phase_over(now_ms)
        else:
            self._sync_phase_over(now_ms)

    def _die(self, refusal: Refusal) -> None:
        """Nobody waits any longer."""
        for member in self.roster:
            self._answer_all(member, refusal)
        self._saving = None
        self._phase_deadline_ms = self.wake_ms = None
        if self.state is not State.DEAD:
            self._move(State.DEAD)

    # ---- members ---------------------------------------------------------------------------------

    def _enter(self, member: Member, now_ms: int) -> None:
        self.roster.add(member)
        self._hear(member, now_ms)
        self._has_new_member = True
        self._rebalance(now_ms)

    def _drop_silent(self, member: Member, reason: str) -> None:
        self._counts.dropped[reason] += 1
        self._drop(member)

    def _drop(self, member: Member) -> None:
        self._answer_all(member, Refusal.UNKNOWN_MEMBER)
        self.roster.remove(member)

    def _hear(self, member: Member, now_ms: int) -> None:
        patience_ms = NEW_MEMBER_JOIN_MS_MAX if member.is_new else member.session_ms
        member.deadline_ms = now_ms + patience_ms
        self._wake_at(member.deadline_ms)

    def _has_expired(self, member: Member, now_ms: int) -> bool:
        return member.deadline_ms <= now_ms and (member.is_new or not member.is_waiting())

    # ---- answers ---------------------------------------------------------------------------------

    def _joined(self, member: Member) -> JoinAnswer:
        leads = member.member_id == self.roster.leader
        return JoinAnswer(
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.roster.leader or "",
            members=self.roster.views(self.protocol) if leads else (),
        )

    def _synced(self, member: Member) -> SyncAnswer:
        return SyncAnswer(
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            assignment=member.assignment,
        )

    def _answer_sync(self, member: Member, answer: SyncAnswer, now_ms: int) -> None:
        if member.syncing is not None:
            self._answer(member.syncing, answer)
            member.syncing = None
            self._hear(member, now_ms)

    def _answer_all(self, member: Member, refusal: Refusal) -> None:
        if member.joining is not None:
            self._answer(member.joining, JoinAnswer(refusal=refusal))
        if member.syncing is not None:
            self._answer(member.syncing, SyncAnswer(refusal=refusal))
        member.joining = member.syncing = None

    def _answer(self, ticket: Ticket, answer: JoinAnswer | SyncAnswer) -> None:
        self._effects.append(Answer(ticket, answer))

    def _take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # ---- time and state --------------------------------------------------------------------------

    def _phase_until(self, deadline_ms: int) -> None:
        self._phase_deadline_ms = deadline_ms
        self._wake_at(deadline_ms)

    def _wake_at(self, deadline_ms: int) -> None:
        if self.wake_ms is None or deadline_ms < self.wake_ms:
            self.wake_ms = deadline_ms

    def _set_wake(self, now_ms: int, others_ms: Iterable[int]) -> None:
        """A member that waits for us has no deadline of its own; whatever answers it sets one."""
        deadlines = list(others_ms)
        deadlines += [
            member.deadline_ms for member in self.roster if member.is_new or not member.is_waiting()
        ]
        if self._phase_deadline_ms is not None:
            deadlines.append(self._phase_deadline_ms)
        self.wake_ms = max(min(deadlines), now_ms + 1) if deadlines else None

    def _move(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} to {state}"
        self.state = state

    def _value(self) -> GroupValue:
        return GroupValue(
            self.protocol_type,
            self.generation,
            self.protocol,
            self.roster.leader,
            tuple(member.value(member.assignment) for member in self.roster),
        )
