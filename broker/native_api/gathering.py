"""Waiting a moment for those who were answered together: they ask again together.

What one commit costs, many may share. But clients who each wait for their answer fall apart: the
first one to come back starts a commit, and all others wait for the next.
"""

from typing import Final

PATIENCE_S: Final = 60e-6
"""Seconds after the last one who came, or after the answers. A commit takes longer than that, and a
client that asks again at once comes sooner."""

TURNS_MAX: Final = 20
"""Of the event loop, in which nobody comes. A clock may stand still."""

SIZE_MAX: Final = 32 * 1024
"""Bytes that are worth a commit of their own, and wait for nobody."""


class Gathering:
    """After one commit (pure). Times are of the event loop's clock."""

    __slots__ = ("_answered_count", "_came_count", "_turns", "_until")

    def __init__(self, answered_count: int, now: float) -> None:
        """So many were answered just now."""
        self._answered_count = answered_count
        self._came_count = 0
        self._turns = TURNS_MAX
        self._until = now + PATIENCE_S

    def expects(self, came_count: int, now: float) -> bool:
        """So many are here again: whether they should wait one turn of the loop more. Not to be
        asked again after a no."""
        if came_count >= self._answered_count:
            return False
        if came_count > self._came_count:
            self._came_count = came_count
            self._turns = TURNS_MAX
            self._until = now + PATIENCE_S
            return True
        self._turns -= 1
        return self._turns > 0 and now < self._until
