"""The commands of the native protocol, read from a frame's body (pure).

    REGISTER <topic>    PUT <topic> <payload>    GET <topic>    STATE <topic>    METRICS

Verbs are ASCII and case-sensitive; a single space separates. The payload of a PUT is every byte
after the second space, kept as it is. Of the other commands trailing white space and further words
are ignored, as they always were.
"""

from dataclasses import dataclass


class CommandError(Exception):
    """A frame that is no command. The text is the answer's, after `ERR `."""


@dataclass(frozen=True, slots=True)
class Register:
    """Make the topic unless it exists."""

    topic: str


@dataclass(frozen=True, slots=True)
class Put:
    """Append one record without a key."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Get:
    """Take the next record at the topic's shared cursor."""

    topic: str


@dataclass(frozen=True, slots=True)
class State:
    """Show the topic's chain of segments."""

    topic: str


@dataclass(frozen=True, slots=True)
class Metrics:
    """Show what the node says about itself."""


Command = Register | Put | Get | State | Metrics

_ONE_WORD: dict[bytes, type[Register] | type[Get] | type[State]] = {
    b"REGISTER": Register,
    b"GET": Get,
    b"STATE": State,
}


def parse(frame: bytes) -> Command:
    """Raises CommandError with the protocol's own words."""
    if frame.startswith(b"PUT "):
        return _put(frame)
    words = frame.rstrip().split(b" ", 2)
    verb = words[0]
    if command := _ONE_WORD.get(verb):
        if len(words) == 1:
            raise CommandError(f"{verb.decode()} requires a topic")
        return command(_text(words[1]))
    if verb == b"METRICS":
        return Metrics()
    if verb == b"PUT":
        raise CommandError("PUT requires a topic")
    _text(frame)
    raise CommandError("unknown command")


def _put(frame: bytes) -> Put:
    words = frame.split(b" ", 2)
    if len(words) == 3:
        return Put(_text(words[1]), words[2])
    if not words[1].strip():
        raise CommandError("PUT requires a topic")
    raise CommandError("PUT requires a payload")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CommandError("invalid utf-8") from None
