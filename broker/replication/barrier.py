"""Whether the writer of an open segment still is the one: asked of its replicas, for reads that
must not be stale.

A leader may have been deposed without knowing. What it tells of the past stays true, but "the
newest" it must not tell any more: the log's end, a group's position. Once a majority of the
replicas have said, after the read arrived, that they have made no promise to anybody, the segment
had not been sealed when it arrived: a seal needs promises of so many replicas that one of that
majority would be among them. No clock is involved (the ReadIndex of Ongaro's thesis, 6.4, on a
segment's promises). A planned roll needs no promises; only the writer itself proposes one, so it
knows.

A round of questions serves every read that came before it began. One replica costs nothing.
"""

from collections.abc import Sequence

import anyio

from broker.errors import NotLeader
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.copies import Copies, LocalCopy
from broker.replication.peers import Peers, PeerUnreachable
from broker.replication.quorum import ack_quorum

PATIENCE_S = 2.0
"""How long a round may take: longer than followers need to find a new writer."""

AGAIN_PAUSE_S = 0.02
"""Before a replica is asked again that does not know the segment yet."""


class _Round:
    def __init__(self) -> None:
        self.is_done = False
        self.refusal = ""
        """Why nobody may be told anything."""


class ReadBarrier:
    """Of one open segment, at its writer."""

    def __init__(
        self, *, node: int, topic_id: bytes, replicas: Sequence[int], copy: LocalCopy, peers: Peers
    ) -> None:
        self._replica = copy.replica
        self._peers = peers
        self._others = [other for other in replicas if other != node]
        self._needed = ack_quorum(len(replicas))
        self._ask = messages.encode(
            messages.UnfencedAsk(topic_id, copy.segment.sid, copy.replica.epoch)
        )
        self._one_at_a_time = anyio.Lock()
        self._next = _Round()
        self._scope = anyio.CancelScope()
        self._has_ended = False

    @property
    def is_free(self) -> bool:
        """There is nobody to ask."""
        return not self._others

    def end(self) -> None:
        """This is no longer the segment's writer: nobody waits any longer."""
        self._has_ended = True
        self._scope.cancel()

    async def passed(self) -> None:
        """Wait until it is certain that nobody had taken over when this was called.

        Raises NotLeader if somebody may have.
        """
        mine = self._next
        async with self._one_at_a_time:
            if not mine.is_done:
                self._next = _Round()
                mine.refusal = await self._run()
                mine.is_done = True
        if mine.refusal:
            raise NotLeader(mine.refusal)

    async def _run(self) -> str:
        """Why somebody may have taken over; "" if nobody has."""
        if self._has_ended:
            return "the lease on this segment is over"
        no = [] if self._replica.is_unfenced else ["this node: it has promised"]
        yes = 1 - len(no)

        async def ask(node: int) -> None:
            nonlocal yes
            if why := await self._answer_of(node):
                no.append(f"node {node}: {why}")
            else:
                yes += 1
            if yes >= self._needed or len(no) > len(self._others) + 1 - self._needed:
                self._scope.cancel()

        with anyio.move_on_after(PATIENCE_S) as self._scope:
            async with anyio.create_task_group() as tasks:
                for node in self._others:
                    tasks.start_soon(ask, node)
        if yes >= self._needed:
            return ""
        return f"no majority of the replicas says that this node still leads; {'; '.join(no)}"

    async def _answer_of(self, node: int) -> str:
        """What the replica has promised; "" for nothing. Asks as long as it cannot tell."""
        while True:
            try:
                frame = await self._peers.call(node, self._ask, timeout_s=PATIENCE_S)
                reply, _ = messages.decode_reply(frame)
            except (PeerUnreachable, ValueError):
                reply = None
            if isinstance(reply, messages.UnfencedReply) and reply.is_known:
                return reply.why
            await anyio.sleep(AGAIN_PAUSE_S)


def answer_unfenced(copies: Copies, ask: messages.UnfencedAsk) -> Sequence[Buffer]:
    """What a replica says."""
    copy = copies.get(ask.topic_id, ask.sid)
    if copy is None or copy.replica.epoch != ask.epoch:
        return messages.encode(messages.UnfencedReply(is_known=False))
    why = "" if copy.replica.is_unfenced else "it has promised, or cannot know whether it has"
    return messages.encode(messages.UnfencedReply(is_known=True, why=why))
