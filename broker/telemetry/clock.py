"""The system's clocks behind `ports.Clock`."""

import time
from functools import partial

from broker.ports import Clock

_NS_PER_MS = 1_000_000


class SystemClock(Clock):
    """Wall time and time since boot. Tests and the simulation bring their own."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC. May jump."""
        return time.time_ns() // _NS_PER_MS

    monotonic = staticmethod(partial(time.clock_gettime, time.CLOCK_BOOTTIME))
    """Seconds since boot, suspend included, so that a lease cannot outlive a closed lid."""
