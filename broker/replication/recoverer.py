"""Seals one segment whose writer is gone, by asking its replicas: the I/O skin of `seal.py`.

Questions to different replicas run at the same time and are repeated until they are answered or the
seal is decided. A replica that cannot be reached is waited for only as long as the others do not
suffice.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

from broker.errors import StorageFailed
from broker.replication import messages
from broker.replication.copies import Copies, describe
from broker.replication.peers import Peers, PeerUnreachable
from broker.replication.repair import CatchUp
from broker.replication.replica import Definite, Refused, SealAnswer, Unknown
from broker.replication.seal import AskSeal, Commit, Copy, Recovery, SealEffect, Superseded
from engine.format import SegmentEnd

_log = structlog.get_logger(__name__)

T = TypeVar("T")

ASK_TIMEOUT_S = 2.0
"""How long one replica may take to promise: a sync of what it has queued, and one of its meta."""

COPY_TIMEOUT_S = 60.0
"""How long a repair of one copy may take; as a rule at most one write window is missing."""

RETRY_PAUSE_S = 0.1

LOSS_PATIENCE_S = 2.0
"""How long replicas that are there may take to say what they have, before what has been said is all
that counts: less than a recoverer is given."""


@dataclass(frozen=True, slots=True)
class Patient:
    """The segment to be sealed, as the metadata describes it."""

    topic: str
    topic_id: bytes
    sid: int
    seal_epoch: int
    replicas: tuple[int, ...]
    void: frozenset[int]
    spares: tuple[int, ...]
    """Live nodes outside the replica set, in the order in which they are to be asked to help."""
    accepts_loss: bool = False
    """An operator has: what is left is good enough."""
    awaited: frozenset[int] = frozenset()
    """Then, replicas that are there and can vouch: nothing is chosen without their answers. Those
    that die meanwhile are not named to the next attempt."""


class Recoverer:
    """Seals for node `node`, which may hold copies itself."""

    def __init__(self, *, node: int, copies: Copies, peers: Peers, catch_up: CatchUp) -> None:
        self._node = node
        self._copies = copies
        self._peers = peers
        self._catch_up = catch_up

    async def recover(self, patient: Patient) -> Commit | Superseded:
        """Run the protocol to its end. Waits for ever while too few replicas answer, or too few can
        vouch for their copies; cancel it when another attempt takes over."""
        recovery = Recovery(
            seal_epoch=patient.seal_epoch,
            replicas=patient.replicas,
            void=patient.void,
            spares=patient.spares,
        )
        decision: Commit | Superseded | None = None

        def perform(effects: Sequence[SealEffect]) -> None:
            nonlocal decision
            for effect in effects:
                match effect:
                    case AskSeal(node=node):
                        tasks.start_soon(ask, node)
                    case Copy():
                        tasks.start_soon(copy, effect)
                    case Commit() | Superseded():
                        decision = effect
                        tasks.cancel_scope.cancel()

        async def ask(node: int) -> None:
            answer = await _persist(lambda: self._ask(patient, node))
            _log.info(
                "asked to seal", topic=patient.topic, sid=patient.sid, node=node,
                seal_epoch=patient.seal_epoch, answer=describe(answer),
            )  # fmt: skip
            perform(recovery.answered(node, answer))

        async def copy(effect: Copy) -> None:
            end_offset = await _persist(lambda: self._copy(patient, effect))
            perform(recovery.copied(effect.target, end_offset))

        async def accept_loss() -> None:
            await anyio.sleep(LOSS_PATIENCE_S)
            perform(recovery.accept_loss(patient.awaited))

        tasks: TaskGroup
        async with anyio.create_task_group() as tasks:
            perform(recovery.begin())
            if patient.accepts_loss:
                tasks.start_soon(accept_loss)
        if decision is None:
            # Everybody has answered. Others may say more later, and are asked with the next epoch.
            _log.error(
                "too few copies can say where the segment ends",
                topic=patient.topic,
                sid=patient.sid,
            )
            await anyio.sleep_forever()
        assert decision is not None
        return decision

    async def _ask(self, patient: Patient, node: int) -> SealAnswer:
        if node == self._node:
            try:
                return await answer_seal(
                    self._copies, patient.topic_id, patient.sid, patient.seal_epoch
                )
            except StorageFailed as error:
                return Unknown(str(error))
        ask = messages.SealAsk(patient.topic_id, patient.sid, patient.seal_epoch)
        frame = await self._peers.call(node, messages.encode(ask), timeout_s=ASK_TIMEOUT_S)
        reply, _ = messages.decode_reply(frame)
        if not isinstance(reply, messages.SealReply):
            raise PeerUnreachable(f"node {node} answered a seal with {type(reply).__name__}")
        if reply.kind == "later":
            raise PeerUnreachable(reply.why)
        return from_reply(reply)

    async def _copy(self, patient: Patient, effect: Copy) -> int:
        ask = messages.CopyAsk(
            patient.topic_id, patient.sid, patient.seal_epoch, effect.source, *effect.end
        )
        if effect.target == self._node:
            try:
                return await self._catch_up.copy(ask)
            except StorageFailed as error:
                raise PeerUnreachable(str(error)) from error
        frame = await self._peers.call(
            effect.target, messages.encode(ask), timeout_s=COPY_TIMEOUT_S
        )
        reply, _ = messages.decode_reply(frame)
        if not isinstance(reply, messages.CopyReply) or reply.why:
            raise PeerUnreachable(f"node {effect.target} did not copy: {reply}")
        return reply.end_offset


async def answer_seal(copies: Copies, topic_id: bytes, sid: int, seal_epoch: int) -> SealAnswer:
    """What this node says to SEAL.

    Raises PeerUnreachable while its view of the metadata does not know the segment: ask again.
    """
    copy = copies.get(topic_id, sid)
    if copy is None:
        raise PeerUnreachable("this node has not opened its copy yet")
    return await copy.answer_seal(seal_epoch)


def to_reply(answer: SealAnswer) -> messages.SealReply:
    """For the wire."""
    match answer:
        case Definite(end):
            return messages.SealReply("definite", *end)
        case Unknown(why=why, end=end):
            told = messages.SealReply("unknown", why=why)
            return told if end is None else messages.SealReply("unknown", *end, 0, why)
        case Refused(promised_epoch):
            return messages.SealReply("refused", promised_epoch=promised_epoch)


def from_reply(reply: messages.SealReply) -> SealAnswer:
    """From the wire."""
    end = SegmentEnd(reply.end_offset, reply.size, reply.digest, reply.max_timestamp)
    if reply.kind == "definite":
        return Definite(end)
    if reply.kind == "refused":
        return Refused(reply.promised_epoch)
    return Unknown(reply.why, end if reply.end_offset >= 0 else None)


async def _persist(question: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer."""
    while True:
        try:
            return await question()
        except (PeerUnreachable, ValueError):
            await anyio.sleep(RETRY_PAUSE_S)
