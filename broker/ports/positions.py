"""Where consumer groups stand, as the native protocol sees it."""

from typing import Protocol
from uuid import UUID

from broker.ports.exchange import Finish, Wake


class QuickPosition(Protocol):
    """Where a group stands in a topic, on the node that keeps the group. Good for the turn of the
    loop in which it was asked for."""

    @property
    def offset(self) -> int: ...

    def commit_now(self, offset: int, wake: Wake, *, is_alone: bool) -> bool:
        """`GroupOffsets.commit` without a task. False, and nothing has happened, if something had
        to be waited for. `is_alone` as for `append_now`."""


class GroupOffsets(Protocol):
    """Committed offsets of consumer groups, kept in the keyed state log."""

    async def leader_of(self, group_id: str) -> int:
        """The node that keeps this group; -1 while there is none. Raises MetadataUnavailable."""

    async def position(self, group: str, topic_id: UUID) -> int | None:
        """The last offset committed here, durable or about to be; None if there is none. Raises
        Loading, NotLeader."""

    async def commit(self, group: str, topic_id: UUID, offset: int, metadata: str = "") -> Finish:
        """Append the commit now; awaiting the result waits until it is durable. Raises Loading,
        NotLeader."""

    def position_now(self, group: str, topic_id: UUID) -> QuickPosition | None:
        """`position`, if this node keeps the group, there is one, and nothing has to be waited for;
        else None."""
