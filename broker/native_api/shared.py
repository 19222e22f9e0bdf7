"""One shared cursor per topic for the whole cluster.

A topic's cursor is kept by one node at a time: the one that leads the group's shard of committed
offsets. GETs that come in elsewhere are asked of it. A question that certainly was not answered
(the node says it is not the one) is asked again of whoever is; one whose answer was lost is an
error, because the record may have been handed out: GET is at most once."""

from functools import partial
from uuid import UUID

import anyio
import anyio.abc

from broker.errors import Loading, NotLeader, OutcomeUnknown, RequestError
from broker.native_api.cursor import Cursors, Ticket, group_of
from broker.native_api.majority import in_time
from broker.ports import Controller, GroupOffsets, TopicView
from broker.replication import messages
from broker.replication.peers import Peers, PeerUnreachable

PATIENCE_S = 10.0
"""How long a GET looks for the node that keeps the cursor: longer than a failover."""

PAUSE_S = 0.05

ANSWER_TIMEOUT_S = 30.0
"""A commit that is not durable by then has an unknown fate."""


class SharedCursors:
    """What GET uses. `run` must be running."""

    def __init__(
        self, controller: Controller, offsets: GroupOffsets, cursors: Cursors, peers: Peers
    ) -> None:
        self._controller = controller
        self._offsets = offsets
        self._cursors = cursors
        self._peers = peers
        self._tasks: anyio.abc.TaskGroup | None = None

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    async def get(self, topic: TopicView) -> Ticket:
        """A place in the line of this topic's GETs, here or on the node that keeps the cursor.
        Raises MetadataUnavailable where no majority says in time who is to keep it."""
        with in_time():
            keeper = await self._offsets.leader_of(group_of(topic.name))
        if keeper == self._controller.node_id:
            return self._cursors.get(topic, partial(self.look_elsewhere, topic))
        ticket = Ticket()
        self.look_elsewhere(topic, ticket)
        return ticket

    def get_now(self, topic: TopicView, *, is_alone: bool) -> Ticket | None:
        """`get` without a task, where this node keeps the cursor and has moved it before; else
        None. See `Cursors.get_now`."""
        return self._cursors.get_now(topic, partial(self.look_elsewhere, topic), is_alone=is_alone)

    def look_elsewhere(self, topic: TopicView, ticket: Ticket) -> None:
        """This node does not keep the cursor: ask whoever does."""
        if self._tasks is None:
            ticket.end(NotLeader("the node stops, or has not started"))
        else:
            self._tasks.start_soon(self._fetch, topic, ticket)

    async def _fetch(self, topic: TopicView, ticket: Ticket) -> None:
        try:
            ticket.end(await self._take(topic))
        except RequestError as error:
            ticket.end(error)

    async def _take(self, topic: TopicView) -> bytes | None:
        failure: RequestError = NotLeader(f"nobody keeps the cursor of {topic.name} just now")
        with anyio.move_on_after(PATIENCE_S):
            while True:
                node = await self._offsets.leader_of(group_of(topic.name))
                try:
                    if node == self._controller.node_id:
                        return await self._cursors.get(topic).taken()
                    if node >= 0:
                        return await self._ask(node, topic)
                except (NotLeader, Loading) as error:
                    failure = error
                await anyio.sleep(PAUSE_S)
        raise failure

    async def _ask(self, node: int, topic: TopicView) -> bytes | None:
        ask = messages.encode(messages.TakeAsk(topic.topic_id.bytes))
        try:
            frame = await self._peers.call(node, ask, timeout_s=ANSWER_TIMEOUT_S)
            reply, value = messages.decode_reply(frame)
        except (PeerUnreachable, ValueError) as error:
            raise OutcomeUnknown(f"node {node} keeps the cursor: {error}") from error
        if not isinstance(reply, messages.TakeReply):
            raise OutcomeUnknown(f"node {node} answered a GET with {type(reply).__name__}")
        messages.raise_refusal(reply.error, reply.text)
        return None if reply.is_empty else bytes(value)

    async def answer(self, ask: messages.TakeAsk) -> list[bytes | bytearray | memoryview]:
        """Another node's GET."""
        try:
            if self._tasks is None:
                raise Loading(
                    "the node starts"
                )  # Others may know us as the leader before we serve.
            topic = self._controller.topic_by_id(UUID(bytes=ask.topic_id))
            if await self._offsets.leader_of(group_of(topic.name)) != self._controller.node_id:
                raise NotLeader("the cursor is kept elsewhere")
            value = await self._cursors.get(topic).taken()
        except RequestError as error:
            return messages.encode(messages.TakeReply(True, type(error).__name__, str(error)))
        if value is None:
            return messages.encode(messages.TakeReply(is_empty=True))
        return messages.encode(messages.TakeReply(is_empty=False), value)
