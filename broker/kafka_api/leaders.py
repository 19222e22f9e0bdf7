"""Who leads what is not led here.

It is told along with the error (KIP-951): a client that understands it goes there at once instead
of asking for the metadata first. While nobody leads, the refusal waits for who comes next: the
metadata names one of the replicas meanwhile, and sarama (4 attempts), librdkafka's queries and
kafka-go's reader (3) have otherwise given up before there is a leader.
"""

from collections.abc import Iterable
from typing import Final, Protocol

import anyio

from broker.errors import NotLeader, RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.wire import Maker
from broker.ports import BrokerAddress, TopicView

LEADER_WAIT_S: Final = 2.0
"""How long a refusal waits; the next leader comes half a second after the loss of the old one is
noticed."""

LOOK_S: Final = 0.05
"""Between two looks at who leads."""


class Leaders:
    """Filled while the partitions of one response are built, emptied into it at the end."""

    def __init__(self, ctx: Context, make: Maker) -> None:
        self._ctx = ctx
        self._own_id = ctx.controller.node_id
        self._make = make
        self._named: dict[int, BrokerAddress] = {}
        self.unset: object = make.LeaderIdAndEpoch()

    def of(self, view: TopicView | None, outcome: object) -> object:
        """The `current_leader` of a partition's answer: unset unless `outcome` is that someone else
        leads it, and that one is alive."""
        if view is not None and isinstance(outcome, NotLeader) and view.leader_id != self._own_id:
            for broker in self._ctx.controller.brokers(self._ctx.listener):
                if broker.node_id == view.leader_id:
                    self._named[broker.node_id] = broker
                    return self._make.LeaderIdAndEpoch(
                        leader_id=broker.node_id, leader_epoch=view.leader_epoch
                    )
        return self.unset

    def endpoints(self) -> tuple[object, ...]:
        """Where to reach those who were named."""
        return tuple(
            self._make.NodeEndpoint(
                node_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack
            )
            for _, broker in sorted(self._named.items())
        )


def unled(ctx: Context, names: Iterable[str]) -> list[str]:
    """Those topics that nobody serves now, as far as this node can tell."""
    return [name for name in names if not _is_led(ctx, name)]


class News(Protocol):
    """Something that may have happened; an `anyio.Event` will do."""

    def is_set(self) -> bool: ...


class Patience:
    """How long one request looks for the next leader: `wait_s` seconds from now, but no longer than
    until this node stops, or there is other news."""

    def __init__(self, ctx: Context, wait_s: float, news: News | None = None) -> None:
        self._stopping = ctx.stopping
        self._news = news
        self._ends_at = anyio.current_time() + wait_s

    @property
    def is_over(self) -> bool:
        is_told = self._stopping.is_set or (self._news is not None and self._news.is_set())
        return is_told or anyio.current_time() >= self._ends_at

    async def pause(self) -> None:
        """Between two looks."""
        left_s = self._ends_at - anyio.current_time()
        await anyio.sleep(max(0.0, min(LOOK_S, left_s)))


async def until_led(
    ctx: Context, names: Iterable[str], wait_s: float, news: News | None = None
) -> None:
    """Wait until somebody serves each of these topics, for `wait_s` or LEADER_WAIT_S at most, or
    until there is other news."""
    left = unled(ctx, names)
    if not left:
        return
    patience = Patience(ctx, min(wait_s, LEADER_WAIT_S), news)
    while left and not patience.is_over:
        await patience.pause()
        left = unled(ctx, left)


def _is_led(ctx: Context, name: str) -> bool:
    try:
        view = ctx.controller.topic(name)
        if view.leader_id == ctx.controller.node_id:
            ctx.controller.partition(view)
    except NotLeader:
        return False  # This node does, and reads back first what it has to know.
    except RequestError:
        return True  # Nobody ever will.
    return view.leader_id >= 0 and view.leader_id not in view.offline
