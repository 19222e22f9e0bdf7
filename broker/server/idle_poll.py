"""Whether to ask for events for a moment longer before sleeping until one comes (pure).

Who sleeps has to be woken, which takes about as long as a small request. So the loop first asks
again and again for a moment, as Seastar's does (`idle-poll-time-us`), where the waits just before
were shorter than that (as Linux decides for an idle processor, haltpoll). A node with nothing to do
sleeps.
"""

from typing import Final

CREDIT_MAX: Final = 8
"""Waits that were short, less those that were not: so often more is polled in vain at most, when
nothing comes any longer."""


class IdlePoll:
    """Learns from every wait for events."""

    __slots__ = ("_credit", "duration_s", "is_worthwhile")

    def __init__(self, duration_s: float) -> None:
        """How long to poll in one wait, in seconds. 0: never."""
        self.duration_s = duration_s
        self._credit = 0
        self.is_worthwhile = False
        """To poll in the next wait."""

    def was_short(self) -> None:
        """An event came before `duration_s` was over."""
        self.is_worthwhile = True
        if self._credit < CREDIT_MAX:
            self._credit += 1

    def was_in_vain(self) -> None:
        """Nothing came while we polled."""
        self._credit -= 1
        self.is_worthwhile = self._credit > 0
