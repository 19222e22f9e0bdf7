"""A storm over one group: clients that do what they want, and what always holds meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.groups.generations import EMPTY_ASSIGNMENT
from broker.groups.group import Group
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
from broker.groups.states import GroupLimits, State

HOUR_MS = 3_600_000


@dataclass
class Client:
    """What a client remembers. `instance_id` makes it a static one."""

    instance_id: str | None
    member_id: str = ""
    generation: int = -1
    protocol: str | None = None
    is_leader: bool = False
    members: tuple[str, ...] = ()
    waiting: set[int] = field(default_factory=set)


class Storm:
    """Every step checks the invariants; `end` what must hold when everybody is gone."""

    def __init__(self, client_count: int = 5) -> None:
        self.group = Group("g", GroupLimits(members_max=4))
        self.now_ms = 0
        self.clients = [Client(f"i{n}" if n % 3 == 2 else None) for n in range(client_count)]
        self.saves: list[Save] = []
        self.asked: dict[int, tuple[Client, Join | Sync]] = {}
        self.answered: set[int] = set()
        self.generations: dict[int, tuple[str | None, str | None]] = {}
        """Per generation: its protocol and type."""
        self.fresh_count = 0

    # ---- what clients do

    def join(self, client: Client, protocols: Sequence[str], is_old: bool, may_skip: bool) -> None:
        self.fresh_count += 1
        join = Join(
            ticket=len(self.asked),
            member_id=client.member_id,
            fresh_id=f"m{self.fresh_count}",
            instance_id=client.instance_id,
            session_ms=10_000,
            rebalance_ms=5_000,
            protocol_type="consumer",
            protocols=tuple((name, f"{name} of it".encode()) for name in protocols),
            must_know_its_id=not is_old,
            may_skip_assignment=may_skip,
        )
        self._ask(client, join)
        self.do(self.group.join(join, self.now_ms))

    def sync(self, client: Client) -> None:
        assignments = {one: f"{client.generation}".encode() for one in client.members}
        sync = Sync(
            ticket=len(self.asked),
            member_id=client.member_id,
            generation=client.generation,
            instance_id=client.instance_id,
            protocol=client.protocol,
            assignments=assignments if client.is_leader else {},
        )
        self._ask(client, sync)
        self.do(self.group.sync(sync, self.now_ms))

    def _ask(self, client: Client, event: Join | Sync) -> None:
        assert isinstance(event.ticket, int)
        client.waiting.add(event.ticket)
        self.asked[event.ticket] = client, event

    def heartbeat(self, client: Client) -> None:
        who = Who(client.member_id, client.instance_id)
        refusal = self.group.heartbeat(who, client.generation, self.now_ms)
        if refusal is None:
            assert client.generation == self.group.generation
        self._lose_id(client, refusal)
        self.do([])

    def commit(self, client: Client) -> None:
        who = Who(client.member_id, client.instance_id)
        if self.group.check_commit(who, client.generation, self.now_ms) is None:
            assert self.group.state is not State.COMPLETING
            assert client.generation in (-1, self.group.generation), "a zombie commits"
        self.do([])

    def leave(self, client: Client) -> None:
        who = Who(client.member_id, client.instance_id)
        self.do(self.group.leave([who], self.now_ms)[1])
        client.member_id, client.generation = "", -1

    def forget(self, client: Client) -> None:
        """It is restarted, and remembers nothing."""
        client.member_id, client.generation, client.is_leader = "", -1, False

    def wait(self, wait_ms: int) -> None:
        until_ms = self.now_ms + wait_ms
        while self.group.wake_ms is not None and self.group.wake_ms <= until_ms:
            assert self.group.wake_ms >= self.now_ms
            self.now_ms = self.group.wake_ms
            self.do(self.group.tick(self.now_ms))
            self._check_wake()
        self.now_ms = until_ms

    def _check_wake(self) -> None:
        assert self.group.wake_ms is None or self.group.wake_ms > self.now_ms, "it spins"

    def save(self) -> None:
        if self.saves:
            self.do(self.group.saved(self.saves.pop(0), self.now_ms))

    def end(self) -> None:
        """Everybody goes silent: nothing may hold the group up for ever."""
        for _ in range(20):
            while self.saves:
                self.save()
            self.wait(HOUR_MS)
        assert self.group.is_idle
        assert self.group.wake_ms is None
        assert self.answered == set(self.asked), "somebody waits for ever"

    # ---- what happens to them

    def do(self, effects: Sequence[Effect]) -> None:
        generation_before = max(self.generations, default=0)
        for effect in effects:
            if isinstance(effect, Save):
                assert effect.value.generation == self.group.generation
                self.saves.append(effect)
            else:
                self._answer(effect)
        assert generation_before <= self.group.generation
        self._check_group()

    def _answer(self, effect: Answer) -> None:
        assert isinstance(effect.ticket, int)
        assert effect.ticket not in self.answered, "answered twice"
        self.answered.add(effect.ticket)
        client, event = self.asked[effect.ticket]
        client.waiting.discard(effect.ticket)
        if isinstance(effect.answer, JoinAnswer):
            assert isinstance(event, Join)
            self._joined(client, effect.answer)
        else:
            assert isinstance(event, Sync)
            self._synced(client, event, effect.answer)

    def _joined(self, client: Client, answer: JoinAnswer) -> None:
        assert answer.refusal is not Refusal.REBALANCING, "it ends aiokafka's coordinator task"
        if answer.refusal is Refusal.MEMBER_ID_REQUIRED:
            assert client.instance_id is None
            client.member_id = answer.member_id
        if answer.refusal is not None:
            self._lose_id(client, answer.refusal)
            return
        agreed = self.generations.setdefault(
            answer.generation, (answer.protocol, answer.protocol_type)
        )
        assert agreed == (answer.protocol, answer.protocol_type), "two minds in one generation"
        assert answer.generation == self.group.generation
        client.member_id, client.generation = answer.member_id, answer.generation
        client.protocol = answer.protocol
        client.is_leader = answer.leader == answer.member_id and not answer.skip_assignment
        client.members = tuple(member.member_id for member in answer.members)
        assert bool(client.members) == (answer.leader == answer.member_id)

    def _synced(self, client: Client, sync: Sync, answer: SyncAnswer) -> None:
        if answer.refusal is not None:
            self._lose_id(client, answer.refusal)
            return
        assert sync.generation == self.group.generation
        assert answer.assignment in (f"{sync.generation}".encode(), EMPTY_ASSIGNMENT), (
            "an assignment of another generation"
        )

    def _lose_id(self, client: Client, refusal: Refusal | None) -> None:
        if refusal in (Refusal.UNKNOWN_MEMBER, Refusal.FENCED_INSTANCE):
            self.forget(client)

    def _check_group(self) -> None:
        group = self.group
        # Those who have not joined again yet do not count, as with Kafka: who comes too late is
        # refused, and dropped.
        assert sum(member.joining is not None for member in group.roster) <= 4, "too many are in"
        assert (group.state is State.EMPTY) == (not group.roster) or group.state is State.DEAD
        assert group.roster.leader in group.roster.members or not group.roster
        for member in group.roster:
            if member.joining is not None:
                assert member.joining not in self.answered
                assert group.state in (State.PREPARING, State.STABLE)
            if member.syncing is not None:
                assert member.syncing not in self.answered
                assert group.state is State.COMPLETING
        if group.state not in (State.EMPTY, State.DEAD):
            assert group.wake_ms is not None or self.saves, "nothing will ever end this"
