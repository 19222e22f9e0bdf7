"""A topic's partition wherever it is led: here directly, elsewhere through the peer port.

For what the broker itself does on behalf of native clients. Batches appended here carry the
broker's own producer id and sequence, so they may be sent again after anything short of a refusal:
a failover costs a native client time, never a duplicate. Kafka clients follow the leader by
themselves; what was waiting here when the leadership moved is sent after it, once at most, and so
is what comes shortly after that (`handed_on.py`).
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import anyio

from broker.errors import (
    BrokerError,
    Loading,
    NotEnoughReplicas,
    NotLeader,
    OutcomeUnknown,
    OutOfTouch,
    RequestError,
)
from broker.ports import ACKS_ALL, Appended, Buffer, Partition, TopicView
from broker.replication import messages
from broker.replication.peers import NeverConnected, Peers, PeerUnreachable

PATIENCE_S = 10.0
"""How long a request looks for a leader that takes it: longer than a failover."""

PAUSES_S = (0.005, 0.05)
"""Before the second attempt, and at most before any later one: a new leader is ready within
milliseconds of a planned roll."""

_REFUSED = (NotLeader, NotEnoughReplicas, Loading)
"""Nothing was done. After these the leader is looked for anew."""

_UNKNOWN = (OutcomeUnknown, PeerUnreachable)
"""After these, too, but nobody knows what was done."""


class Topics(Protocol):
    """Where a topic is led, and the partition if that is here."""

    @property
    def node_id(self) -> int: ...

    def topic_by_id(self, topic_id: UUID) -> TopicView: ...

    def partition(self, topic: TopicView) -> Partition: ...


class Routed:
    """`ports.AnyPartition` of one topic. Make one per request."""

    def __init__(
        self,
        topic: TopicView,
        controller: Topics,
        peers: Peers,
        *,
        resends: bool = True,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._topic = topic
        self._resends = resends
        self._patience_s = patience_s
        self._controller = controller
        self._peers = peers
        self._appended_here: Partition | None = None
        """Where the batch waits to be committed; None when another node has answered for it."""

    @property
    def topic(self) -> TopicView:
        return self._topic

    @property
    def log_start_offset(self) -> int:
        return self._view().log_start_offset

    @property
    def high_watermark(self) -> int:
        """Of the leader if that is us; else what is known for certain."""
        view = self._view()
        if view.leader_id == self._controller.node_id:
            return self._controller.partition(view).high_watermark
        return view.segments[-1].base_offset

    def _view(self) -> TopicView:
        return self._controller.topic_by_id(self._topic.topic_id)

    async def append(self, batch: Buffer, *, acks: int) -> Appended:
        """As `Partition.append`; when the leader is elsewhere, committed too when this returns.

        Raises OutcomeUnknown when any attempt may have been appended, whatever the last one met.
        """
        refusal: RequestError = NotLeader(f"{self._topic.name} has no leader")
        doubt, pause_s = "", PAUSES_S[0]
        with anyio.move_on_after(self._patience_s):
            while True:
                before, doubt = doubt, doubt or "no answer in time"
                view = self._view()
                try:
                    return await self._append_once(view, batch, acks)
                except _REFUSED as error:
                    refusal, doubt = error, before
                except NeverConnected as error:
                    refusal, doubt = OutOfTouch(f"its leader cannot be reached: {error}"), before
                except _UNKNOWN as error:
                    doubt = str(error)
                    if not self._resends:
                        break
                if self._view().leader_epoch == view.leader_epoch:
                    await anyio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSES_S[1])
        raise OutcomeUnknown(doubt) if doubt else refusal

    async def _append_once(self, view: TopicView, batch: Buffer, acks: int) -> Appended:
        if view.leader_id == self._controller.node_id:
            partition = self._controller.partition(view)
            appended = await partition.append(batch, acks=acks)
            self._appended_here = partition
            return appended
        timeout_ms = int(self._patience_s * 1000)
        ask = messages.AppendAsk(view.topic_id.bytes, timeout_ms, view.leader_epoch)
        reply, _ = await self._ask(view, ask, batch)
        if not isinstance(reply, messages.AppendReply):
            raise PeerUnreachable(f"an append was answered with {type(reply).__name__}")
        messages.raise_refusal(reply.error, reply.text)
        self._appended_here = None
        return Appended(
            reply.base_offset, reply.end_offset, reply.log_append_time_ms, reply.log_start_offset
        )

    async def committed(self, end_offset: int, *, acks: int, timeout_s: float) -> None:
        """As `Partition.committed`. What another node has answered is committed already."""
        if self._appended_here is not None:
            await self._appended_here.committed(end_offset, acks=acks, timeout_s=timeout_s)

    async def read(self, offset: int, *, size_max: int) -> Buffer:
        """As `Partition.read`."""
        failure: BrokerError = NotLeader(f"{self._topic.name} has no leader")
        pause_s = PAUSES_S[0]
        with anyio.move_on_after(PATIENCE_S):
            while True:
                try:
                    return await self._read_once(offset, size_max)
                except (*_REFUSED, *_UNKNOWN) as error:
                    failure = error
                    await anyio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSES_S[1])
        raise failure if isinstance(failure, RequestError) else NotLeader(str(failure))

    async def _read_once(self, offset: int, size_max: int) -> Buffer:
        view = self._view()
        if view.leader_id == self._controller.node_id:
            return await self._controller.partition(view).read(offset, size_max=size_max)
        ask = messages.FetchAsk(view.topic_id.bytes, offset, size_max)
        reply, data = await self._ask(view, ask)
        if not isinstance(reply, messages.FetchReply):
            raise PeerUnreachable(f"a fetch was answered with {type(reply).__name__}")
        messages.raise_refusal(reply.error, reply.text)
        return bytes(data)

    async def _ask(
        self, view: TopicView, ask: messages.Call, *batches: Buffer
    ) -> tuple[messages.CallReply, memoryview]:
        if view.leader_id < 0:
            raise NotLeader(f"{view.name} has no leader just now")
        frame = await self._peers.call(
            view.leader_id, messages.encode(ask, *batches), timeout_s=PATIENCE_S
        )
        try:
            return messages.decode_reply(frame)
        except ValueError as error:
            raise PeerUnreachable(f"an answer that is none: {error}") from error


async def answer_client(
    topics: Topics, ask: messages.AppendAsk | messages.FetchAsk, batches: memoryview
) -> Sequence[Buffer]:
    """The other end: what another node asks on behalf of a client of its own."""
    try:
        partition = topics.partition(topics.topic_by_id(UUID(bytes=ask.topic_id)))
        if isinstance(ask, messages.AppendAsk):
            return messages.encode(await _append(partition, ask, bytes(batches)))
        data = await partition.read(ask.offset, size_max=ask.size_max)
    except RequestError as error:
        refused = type(error).__name__, str(error)
        is_append = isinstance(ask, messages.AppendAsk)
        reply = messages.AppendReply(*refused) if is_append else messages.FetchReply(*refused)
        return messages.encode(reply)
    return messages.encode(messages.FetchReply(""), data)


async def _append(
    partition: Partition, ask: messages.AppendAsk, batch: bytes
) -> messages.AppendReply:
    appended = await partition.append(batch, acks=ACKS_ALL)
    await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=ask.timeout_ms / 1000)
    return messages.AppendReply(
        "",
        "",
        appended.base_offset,
        appended.end_offset,
        appended.log_start_offset,
        appended.log_append_time_ms,
    )
