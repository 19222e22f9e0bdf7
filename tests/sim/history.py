"""What clients saw, and what must not be in it: the anomalies of Jepsen's test of Kafka.

Values are unique, so nothing has to be searched for: a value has one offset, an offset one value,
for ever and for everybody.
"""

import hashlib
from dataclasses import dataclass, field

SHOWN_MAX = 5


@dataclass(slots=True)
class Send:
    """One batch of one producer."""

    producer: str
    values: tuple[bytes, ...]
    invoked_at: float
    is_durable: bool
    """Asked for acks=all."""
    offset: int = -1
    """Of the first value, once acknowledged."""
    acknowledged_at: float = -1.0
    has_failed: bool = False
    """Certainly never appended."""
    is_lost: bool = False
    """With all disks that had it, and an operator has accepted that."""


@dataclass(slots=True)
class History:
    """Of one topic."""

    sends: list[Send] = field(default_factory=list)
    seen: dict[int, bytes] = field(default_factory=dict)
    """Offset to value, of all polls by anybody."""
    end_offset: int = 0
    """One past the highest of them."""
    anomalies: list[str] = field(default_factory=list)
    gone: set[bytes] = field(default_factory=set)
    """Values that were lost for good."""
    acknowledged_count: int = 0
    polled_count: int = 0
    _digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=8))

    def anomaly(self, kind: str, what: str) -> None:
        if len(self.anomalies) < SHOWN_MAX:
            self.anomalies.append(f"{kind}: {what}")

    def note(self, *what: object) -> None:
        """For the digest, by which two runs of one seed can be compared."""
        self._digest.update(repr(what).encode())

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    # ---- what happens ----------------------------------------------------------------------------

    def sent(self, send: Send) -> None:
        self.sends.append(send)
        self.note("send", send.invoked_at, send.values)

    def acknowledged(self, send: Send, offset: int, at: float) -> None:
        self.note("ack", at, send.values, offset)
        self.acknowledged_count += len(send.values)
        send.offset, send.acknowledged_at = offset, at
        if send.is_durable:
            for index, value in enumerate(send.values):
                self._at(offset + index, value, "acknowledged")

    def polled(self, consumer: str, position: int, found: list[tuple[int, bytes]]) -> None:
        """A consumer asked for what begins at `position`."""
        self.note("poll", consumer, position, found)
        self.polled_count += len(found)
        for offset, value in found:
            if offset != position:
                kind = "skip" if offset > position else "nonmonotonic poll"
                self.anomaly(kind, f"{consumer} expected {position}, got {offset}")
            position = offset + 1
            self._at(offset, value, "polled")

    def lost(self, end_offset: int) -> None:
        """All that anybody knows from `end_offset` on went with the disks that had it, as an
        operator has accepted; these offsets will be given out again. Not their values, unless their
        producer was not answered yet: it sends them again, and they are as new."""
        self.note("lost", end_offset)
        gone = {self.seen.pop(offset) for offset in list(self.seen) if offset >= end_offset}
        asked_for = {
            value
            for send in self.sends
            if send.acknowledged_at < 0 and not send.has_failed
            for value in send.values
        }
        self.gone |= gone - asked_for
        self.end_offset = min(self.end_offset, end_offset)
        for send in self.sends:
            if send.acknowledged_at >= 0 and send.offset >= end_offset:
                send.is_lost = True

    def _at(self, offset: int, value: bytes, how: str) -> None:
        if value in self.gone:
            self.anomaly("came back", f"{value!r} was lost for good, and {how} at {offset}")
        known = self.seen.setdefault(offset, value)
        self.end_offset = max(self.end_offset, offset + 1)
        if known != value:
            self.anomaly("inconsistent offsets", f"{offset} is {known!r}, and {how} as {value!r}")

    # ---- the verdict -----------------------------------------------------------------------------

    def check(self, final: list[tuple[int, bytes]], log_start_offset: int = 0) -> list[str]:
        """`final` is the whole log as it is read after everything was healed; what was below
        `log_start_offset` was deleted on purpose."""
        final = [(offset, value) for offset, value in final if offset >= log_start_offset]
        self.polled("the last reader", log_start_offset, final)
        offsets: dict[bytes, int] = {}
        for offset, value in (*final, *sorted(self.seen.items())):
            if offsets.setdefault(value, offset) != offset:
                self.anomaly("duplicate", f"{value!r} at {offsets[value]} and {offset}")
        kept = dict(final)
        for offset, value in self.seen.items():
            if offset >= log_start_offset and offset not in kept:
                self.anomaly("lost write", f"{value!r} was at {offset}, where nothing is now")
        for send in self.sends:
            self._check_send(send, offsets)
        self._check_order()
        return self.anomalies

    def _check_send(self, send: Send, offsets: dict[bytes, int]) -> None:
        for index, value in enumerate(send.values):
            found = offsets.get(value)
            if found is None:
                continue  # What was acknowledged is in `seen`, and therefore here.
            if send.has_failed:
                self.anomaly("aborted read", f"{value!r} had failed and is at {found}")
            if send.is_lost:
                continue  # It has come back, which was told.
            if send.acknowledged_at >= 0 and send.is_durable and found != send.offset + index:
                self.anomaly("moved", f"{value!r} from {send.offset + index} to {found}")

    def _check_order(self) -> None:
        """What was acknowledged before another send began lies before it."""
        done = sorted(
            (
                send
                for send in self.sends
                if send.acknowledged_at >= 0 and send.is_durable and not send.is_lost
            ),
            key=lambda send: send.acknowledged_at,
        )
        begun = sorted(done, key=lambda send: send.invoked_at)
        highest, next_done = -1, 0
        for send in begun:
            while done[next_done].acknowledged_at < send.invoked_at:
                highest = max(highest, done[next_done].offset)
                next_done += 1
            if send.offset <= highest:
                self.anomaly("reordering", f"{send.values[0]!r} at {send.offset} after {highest}")
