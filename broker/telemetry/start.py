"""What a node knows about itself once it has started."""

from dataclasses import dataclass

from broker.config import HostPort, Listener
from broker.ports import NodeStatus


@dataclass(frozen=True, slots=True)
class BannerInfo:
    """The addresses really bound (no port is 0 here) and what runs behind them."""

    status: NodeStatus
    native: HostPort
    kafka: tuple[Listener, ...]
    admin: HostPort
