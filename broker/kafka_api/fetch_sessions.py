"""Fetch sessions (KIP-227): a client names its partitions once, and from then on only what changes
(pure).

A session is what the broker remembers for that: the partitions, what is asked of each, and the
watermark and log start last told of it. The answer to an incremental request leaves out every
partition of which there is nothing new to say. The epoch grows with every request of a session, so
that none is lost or served twice unnoticed.

Sessions belong to the node and outlive connections. There is room for so many: the one that was
silent longest gives way if it was silent long enough, else a client that wants one gets none and
sends full requests as before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from kio.schema.errors import ErrorCode

from broker.kafka_api.errors import Refused

if TYPE_CHECKING:
    from kio.schema.fetch.v17.request import FetchRequest

NO_SESSION: Final = 0
"""The id that says so; those of sessions are greater."""
SESSION_ID_MAX: Final = 2**31 - 1

EPOCH_OPEN: Final = 0
EPOCH_FINAL: Final = -1
"""Epochs of full requests: one that opens a session, and one that ends a session or wants none."""

EPOCH_MAX: Final = 2**31 - 1

SESSION_COUNT_MAX: Final = 1000
"""As many as Kafka keeps."""
PARTITION_COUNT_MAX: Final = 200_000
"""Of all sessions together; about 100 MB."""
IDLE_S_MIN: Final = 120.0
"""A session gives way to another only after that; Kafka's `min.incremental.fetch.session.eviction`.
"""

ID_VERSION_MIN: Final = 13
"""Fetch version from which topics are named by id."""

Key = tuple[str | UUID | None, int]
Marks = tuple[int, int]
"""High watermark and log start offset."""


class Asked(NamedTuple):
    """One partition of a fetch, and what is asked of it. A named tuple, as it is made for every
    Fetch."""

    topic: str | UUID | None
    """Its name or its id; None for an id of zero."""
    partition: int
    leader_epoch: int
    """-1: whatever it is."""
    offset: int
    size_max: int
    """Bytes."""

    @property
    def key(self) -> Key:
        return self[:2]


@dataclass(slots=True)
class _Entry:
    asked: Asked
    told: Marks | None = None
    """None: whatever there is to say about it is news."""


class Session:
    """One client's partitions, in the order in which they take their turn."""

    def __init__(self, session_id: int, *, by_id: bool, now: float) -> None:
        self.session_id = session_id
        self.by_id = by_id
        self.epoch = 1
        """Of the request that must come next."""
        self.used_at = now
        self._entries: dict[Key, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def asked(self) -> tuple[Asked, ...]:
        return tuple(entry.asked for entry in self._entries.values())

    def asked_after(self, named: Iterable[Asked]) -> tuple[Asked, ...] | None:
        """What will be asked when `named` are put; None if one of them is new."""
        changed = {asked.key: asked for asked in named}
        if not changed:
            return self.asked
        if not changed.keys() <= self._entries.keys():
            return None
        return tuple(changed.get(key, entry.asked) for key, entry in self._entries.items())

    def put(self, asked: Asked) -> None:
        """A partition that is new, or of which something else is asked than before."""
        entry = self._entries.get(asked.key)
        if entry is None:
            self._entries[asked.key] = _Entry(asked)
        else:
            entry.asked = asked

    def forget(self, key: Key) -> None:
        self._entries.pop(key, None)

    def tell(self, asked: Asked, marks: Marks | None, *, has_records: bool) -> bool:
        """Whether this is news, which the client then knows. `marks` is None beside an error, and
        errors always are.

        Who got records goes to the end of the line: the limits of a request are shared in order.
        """
        entry = self._entries.get(asked.key)
        if entry is None:
            return True
        is_news = has_records or marks is None or marks != entry.told
        entry.told = marks
        if has_records:
            self._entries[asked.key] = self._entries.pop(asked.key)
        return is_news


class Plan(NamedTuple):
    """What one request is to be answered with."""

    asked: tuple[Asked, ...]
    session: Session | None = None
    is_full: bool = True
    """Every partition is answered, news or not."""

    @property
    def session_id(self) -> int:
        return NO_SESSION if self.session is None else self.session.session_id


class FetchSessions:
    """The sessions of a node. `new_id` gives ids from 1 to SESSION_ID_MAX: at random, so that a
    client of an earlier process does not take another client's session for its own."""

    def __init__(
        self,
        new_id: Callable[[], int] | None = None,
        *,
        session_count_max: int = SESSION_COUNT_MAX,
        partition_count_max: int = PARTITION_COUNT_MAX,
    ) -> None:
        self._new_id = new_id or count(1).__next__
        self._session_count_max = session_count_max
        self._partition_count_max = partition_count_max
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        self._partition_count = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, request: FetchRequest, now: float) -> Plan:
        """Take one request in; `now` is monotonic seconds. Raises Refused with the error that
        stands at the top of the answer."""
        session_id = getattr(request, "session_id", NO_SESSION)
        epoch = getattr(request, "session_epoch", EPOCH_FINAL)
        if epoch not in (EPOCH_OPEN, EPOCH_FINAL):
            return self._go_on(request, session_id, epoch, now)
        self._end(session_id)
        asked = tuple(asked_by(request))
        session = self._open(request, asked, now) if epoch == EPOCH_OPEN else None
        return Plan(asked, session)

    def _open(self, request: FetchRequest, asked: tuple[Asked, ...], now: float) -> Session | None:
        if not asked or not self._make_room(len(asked), now):
            return None
        session_id = self._new_id()
        while session_id in self._sessions:
            session_id = self._new_id()
        session = Session(session_id, by_id=request.__version__ >= ID_VERSION_MIN, now=now)
        for one in asked:
            session.put(one)
        self._sessions[session_id] = session
        self._partition_count += len(session)
        return session

    def _make_room(self, partition_count: int, now: float) -> bool:
        if partition_count > self._partition_count_max:
            return False
        while (
            len(self._sessions) >= self._session_count_max
            or self._partition_count + partition_count > self._partition_count_max
        ):
            oldest = next(iter(self._sessions.values()))
            if now - oldest.used_at < IDLE_S_MIN:
                return False
            self._end(oldest.session_id)
        return True

    def _go_on(self, request: FetchRequest, session_id: int, epoch: int, now: float) -> Plan:
        session = self._sessions.get(session_id)
        if session is None:
            text = f"no fetch session {session_id}"
            raise Refused(ErrorCode.fetch_session_id_not_found, text)
        if epoch != session.epoch:
            text = f"epoch {epoch} of a fetch session that is at {session.epoch}"
            raise Refused(ErrorCode.invalid_fetch_session_epoch, text)
        if session.by_id != (request.__version__ >= ID_VERSION_MIN):
            text = "a fetch session names its topics by name or by id, the same way always"
            raise Refused(ErrorCode.fetch_session_topic_id_error, text)
        self._change(session, request)
        if not len(session):
            self._end(session_id)
            return Plan(())
        self._used(session, now)
        return Plan(session.asked, session, is_full=False)

    def expecting(self, session_id: int, epoch: int, *, by_id: bool) -> Session | None:
        """The session of which an incremental request comes next; None if it would be refused."""
        session = self._sessions.get(session_id)
        if session is None or session.epoch != epoch or session.by_id != by_id:
            return None
        return session

    def go_on(self, session: Session, named: Iterable[Asked], now: float) -> None:
        """Take in a request that `session` expects, and that names nothing new."""
        for one in named:
            session.put(one)
        self._used(session, now)

    def _used(self, session: Session, now: float) -> None:
        session.epoch = 1 if session.epoch == EPOCH_MAX else session.epoch + 1
        session.used_at = now
        self._sessions.move_to_end(session.session_id)

    def _change(self, session: Session, request: FetchRequest) -> None:
        before = len(session)
        for one in asked_by(request):
            session.put(one)
        for topic in request.forgotten_topics_data:
            name = getattr(topic, "topic", None)
            for index in topic.partitions:
                session.forget((topic.topic_id if name is None else name, index))
        self._partition_count += len(session) - before
        if self._partition_count > self._partition_count_max:
            self._end(session.session_id)
            raise Refused(ErrorCode.fetch_session_id_not_found, "the fetch session grew too large")

    def _end(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._partition_count -= len(session)


def asked_by(request: FetchRequest) -> Iterator[Asked]:
    """The partitions that a request names, in its order."""
    for topic in request.topics:
        name = getattr(topic, "topic", None)
        named = topic.topic_id if name is None else name
        for wanted in topic.partitions:
            yield Asked(
                named,
                wanted.partition,
                getattr(wanted, "current_leader_epoch", -1),
                wanted.fetch_offset,
                wanted.partition_max_bytes,
            )
