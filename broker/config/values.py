"""The kinds of values a setting can have, and what each accepts (pure).

A kind turns what a person wrote (text from a flag or variable, or a TOML value) into a value. Each
one carries the sentence that says what is valid; an error message and the reference page quote the
same sentence.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

KIB, MIB, GIB = 1024, 1024**2, 1024**3

WILDCARD_HOSTS = frozenset({"0.0.0.0", "::", "*", ""})  # noqa: S104  (recognised, not bound)

_INTEGER = re.compile(r"\d(_?\d){0,18}", re.ASCII)
_SIZE = re.compile(r"(\d(?:_?\d){0,18})\s*(KiB|MiB|GiB)?", re.ASCII)
_SIZE_UNITS = {None: 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+", re.ASCII)
_LISTENER_NAME = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class HostPort(NamedTuple):
    """An address to dial or to bind. Port 0 takes any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where we bind, and what clients that came in by this listener are told to dial."""

    name: str
    bind_host: str
    bind_port: int
    advertised_host: str
    """Empty until `load` has filled it in."""
    advertised_port: int
    """0: the port that was really bound."""

    def bound_to(self, port: int) -> "Listener":
        """This listener once the system has given it `port` (1..65535)."""
        return replace(self, bind_port=port, advertised_port=self.advertised_port or port)

    def __str__(self) -> str:
        bind = HostPort(self.bind_host, self.bind_port)
        return f"{self.name}://{bind}={HostPort(self.advertised_host, self.advertised_port)}"


class Kind(Protocol):
    """How one setting is read."""

    @property
    def metavar(self) -> str:
        """The placeholder that `--help` shows."""

    @property
    def valid(self) -> str:
        """What is accepted, to be read after "expected"."""

    def parse(self, raw: object) -> object:
        """The value. Raises ValueError when `raw` is not valid; its text may add to `valid`."""


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number of things or of units, `low` to `high`."""

    low: int
    high: int
    metavar: str = "N"

    @property
    def valid(self) -> str:
        return f"a whole number, {self.low} to {self.high}"

    def parse(self, raw: object) -> int:
        if isinstance(raw, str) and _INTEGER.fullmatch(raw.strip()):
            return _within(int(raw), self.low, self.high)
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise ValueError
        return _within(raw, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Port(Integer):
    """A TCP port."""

    low: int = 0
    high: int = 65535
    metavar: str = "PORT"

    @property
    def valid(self) -> str:
        return "a port, 0 to 65535 (0 takes any free one)"


@dataclass(frozen=True, slots=True)
class Bytes:
    """A size in bytes, `low` to `high`; `64MiB` is understood."""

    low: int
    high: int
    metavar: str = "SIZE"

    @property
    def valid(self) -> str:
        return f"a size in bytes, {self.low} to {self.high}; KiB, MiB and GiB are understood"

    def parse(self, raw: object) -> int:
        if isinstance(raw, str):
            match = _SIZE.fullmatch(raw.strip())
            if match is None:
                raise ValueError
            return _within(int(match[1]) * _SIZE_UNITS[match[2]], self.low, self.high)
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise ValueError
        return _within(raw, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Switch:
    """Yes or no. `present` lets the bare presence of a variable count as yes."""

    present: bool = False
    metavar: str = ""
    valid: str = "1, true, yes, on, or 0, false, no, off"

    def parse(self, raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        word = str(raw).strip().lower()
        if word in _TRUE or (word == "" and self.present):
            return True
        if word in _FALSE:
            return False
        raise ValueError


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return "|".join(self.words)

    @property
    def valid(self) -> str:
        return "one of " + ", ".join(self.words)

    def parse(self, raw: object) -> str:
        word = str(raw).strip().lower()
        if word not in self.words:
            raise ValueError
        return word


@dataclass(frozen=True, slots=True)
class File:
    """A path, relative to where the node was started."""

    metavar: str = "PATH"
    valid: str = "a path"

    def parse(self, raw: object) -> Path:
        if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
            raise ValueError
        return Path(raw).expanduser()


@dataclass(frozen=True, slots=True)
class Host:
    """A host to bind, or (`advertised`) one to tell others, which no wildcard can be."""

    advertised: bool = False
    metavar: str = "HOST"

    @property
    def valid(self) -> str:
        if self.advertised:
            return "a host name or address that others can dial (a wildcard cannot be dialled)"
        return "a host name or address to bind"

    def parse(self, raw: object) -> str:
        return _host(raw, advertised=self.advertised)


@dataclass(frozen=True, slots=True)
class Address:
    """HOST:PORT that others can dial."""

    metavar: str = "HOST:PORT"
    valid: str = (
        "HOST:PORT that others can dial (a wildcard cannot be dialled), as in 10.0.0.7:9092"
    )

    def parse(self, raw: object) -> HostPort:
        return _host_port(raw, advertised=True)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Several HOST:PORT, in one text or a list."""

    metavar: str = "HOST:PORT[,…]"
    valid: str = "HOST:PORT, several separated by commas, each with a port from 1 to 65535"

    def parse(self, raw: object) -> tuple[HostPort, ...]:
        addresses = tuple(_host_port(item, advertised=True) for item in _items(raw))
        if any(address.port == 0 for address in addresses):
            raise ValueError("port 0 cannot be dialled")
        return addresses


@dataclass(frozen=True, slots=True)
class Listeners:
    """Kafka listeners: `NAME://BIND` or `NAME://BIND=ADVERTISED`, in one text or a list."""

    metavar: str = "NAME://BIND[=ADVERTISED]"
    valid: str = (
        "NAME://BIND_HOST:PORT or NAME://BIND_HOST:PORT=ADVERTISED_HOST:PORT, "
        "as in EXTERNAL://0.0.0.0:9092=broker1.example.net:9092"
    )

    def parse(self, raw: object) -> tuple[Listener, ...]:
        listeners = tuple(self._one(item) for item in _items(raw))
        names = [listener.name for listener in listeners]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two listeners are named {name}")
        return listeners

    def _one(self, text: object) -> Listener:
        name, separator, addresses = str(text).partition("://")
        if not separator:
            raise ValueError(f"{text!r} has no ://")
        if not _LISTENER_NAME.fullmatch(name):
            raise ValueError(f"the name {name!r} is not made of capitals, digits and _")
        bind_text, separator, advertised_text = addresses.partition("=")
        bind = _host_port(bind_text, advertised=False)
        # No advertised host yet: for a wildcard it is the host name, which only `load` may ask for.
        advertised = HostPort("", 0)
        if separator:
            advertised = _host_port(advertised_text, advertised=True)
        return Listener(name, bind.host, bind.port, advertised.host, advertised.port)


@dataclass(frozen=True, slots=True)
class Fsync:
    """When an append counts as durable."""

    metavar: str = "each|MS|none"
    valid: str = "each, none, or a number of milliseconds from 1 to 60000"

    def parse(self, raw: object) -> str:
        word = str(raw).strip().lower()
        if word in {"each", "none"}:
            return word
        if isinstance(raw, bool) or not _INTEGER.fullmatch(word):
            raise ValueError
        return str(_within(int(word), 1, 60_000))


def plain(value: object) -> object:
    """`value` as TOML and JSON know it: text, number, truth, list or None."""
    if isinstance(value, HostPort | Listener | Path):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError
    return value


def _items(raw: object) -> Sequence[object]:
    if isinstance(raw, str):
        return [item.strip() for item in raw.split(",") if item.strip()]
    if isinstance(raw, list | tuple):
        return raw
    raise ValueError


def _host(raw: object, *, advertised: bool) -> str:
    if not isinstance(raw, str):
        raise ValueError
    host = raw.strip().removeprefix("[").removesuffix("]")
    if advertised and host in WILDCARD_HOSTS:
        raise ValueError(f"{host!r} cannot be advertised: nobody can dial it")
    if not _HOST.fullmatch(host):
        raise ValueError
    return host


def _host_port(raw: object, *, advertised: bool) -> HostPort:
    host, separator, port = str(raw).strip().rpartition(":")
    if not separator:
        raise ValueError(f"{str(raw)!r} has no :PORT")
    if ":" in host and not host.startswith("["):
        raise ValueError("an IPv6 address is written in brackets, as in [::1]:9092")
    if not _INTEGER.fullmatch(port):
        raise ValueError(f"the port {port!r} is not a number from 0 to 65535")
    return HostPort(_host(host, advertised=advertised), _within(int(port), 0, 65535))
