"""What happens to the groups of a node, counted."""

from dataclasses import dataclass, field
from typing import Final

SESSION: Final = "session"
JOIN: Final = "join"
SYNC: Final = "sync"


@dataclass(slots=True)
class Counts:
    """Since the node started."""

    rebalances: int = 0
    """Generations that began with members."""
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys((SESSION, JOIN, SYNC), 0))
    """Members that were silent: for their session, through a join phase, or without a SyncGroup."""
    expired_offsets: int = 0
    """Positions that were too old, or of a topic that is gone."""
