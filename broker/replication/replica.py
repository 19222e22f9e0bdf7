"""One copy of one segment (pure): what it may still accept, and what it has promised.

    ACCEPTING ──seal──▶ PROMISED ──sealed──▶ SEALED
        └───────────────sealed─────────────────▲

SEAL is one step: promise, make the promise durable, answer the length. Between `ask_promise` and
`promised` the caller makes it durable; the answer may leave only after that. From the promise on
nothing is accepted from the segment's writer, however alive it believes itself (BookKeeper's
lesson: fencing and reading the end must be one step on one replica).
"""

from dataclasses import dataclass
from enum import Enum

from engine.format import SegmentEnd


class ReplicaPhase(Enum):
    ACCEPTING = "accepting"
    PROMISED = "promised"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class Definite:
    """This copy holds everything it ever acknowledged, and ends here."""

    end: SegmentEnd


@dataclass(frozen=True, slots=True)
class Unknown:
    """This copy may have lost what it acknowledged (its disk was replaced, or lost writes): it
    cannot vouch."""

    why: str
    end: SegmentEnd | None = None
    """Where it ends nevertheless, if that is known: what is left of it is good."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A higher epoch was promised already."""

    promised_epoch: int


SealAnswer = Definite | Unknown | Refused


class Replica:
    """The promise and the phase of one local copy. `epoch` is the leader epoch of the segment's
    writer."""

    def __init__(
        self,
        *,
        epoch: int,
        end_offset: int,
        promised_epoch: int = 0,
        is_sealed: bool = False,
        unknown: str = "",
    ) -> None:
        self.epoch = epoch
        self.end_offset = end_offset
        self.promised_epoch = promised_epoch
        self.unknown = unknown
        """Why this copy cannot vouch for its length; empty when it can."""
        self.phase = (
            ReplicaPhase.SEALED
            if is_sealed
            else ReplicaPhase.PROMISED
            if promised_epoch
            else ReplicaPhase.ACCEPTING
        )

    def accepts(self, *, epoch: int, base_offset: int) -> bool:
        """May a batch of this writer go to the end of this copy?"""
        return (
            self.phase is ReplicaPhase.ACCEPTING
            and epoch == self.epoch
            and base_offset == self.end_offset
        )

    @property
    def is_unfenced(self) -> bool:
        """Its word that it has promised nothing holds. A disk that was replaced may have."""
        return self.phase is ReplicaPhase.ACCEPTING and not self.unknown

    def appended(self, end_offset: int) -> None:
        """The log has taken a batch that `accepts` allowed."""
        self.end_offset = end_offset

    def ask_promise(self, seal_epoch: int) -> Refused | None:
        """A recoverer asks to seal. None: stop accepting now, make the promise durable, then call
        `promised`."""
        if seal_epoch < self.promised_epoch:
            return Refused(self.promised_epoch)
        self.promised_epoch = seal_epoch
        if self.phase is ReplicaPhase.ACCEPTING:
            self.phase = ReplicaPhase.PROMISED
        return None

    def promised(self, end: SegmentEnd) -> SealAnswer:
        """The promise and everything below `end` are durable: the answer that may now be sent."""
        self.end_offset = end.end_offset
        return Unknown(self.unknown, end) if self.unknown else Definite(end)

    def outlived(self) -> None:
        """The metadata has fixed the segment's end, and this copy is still to match it. It may be a
        new one, on a disk that forgot what the one before had promised."""
        self.unknown = self.unknown or "the segment has ended, and this copy is not complete"

    def sealed(self, end_offset: int) -> None:
        """The metadata has fixed the segment's end and this copy matches it."""
        self.phase = ReplicaPhase.SEALED
        self.end_offset = end_offset
