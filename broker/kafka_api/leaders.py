"""Who leads what is not led here, told along with the error (KIP-951): a client that understands it
goes there at once instead of asking for the metadata first."""

from broker.errors import NotLeader
from broker.kafka_api.context import Context
from broker.kafka_api.wire import Maker
from broker.ports import BrokerAddress, TopicView


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
