"""From file, environment and flags to one `Config`: defaults < file < environment < flags.

Every problem found is reported at once, each with the key, where it came from and what would be
valid. A key nobody knows is an error too: a setting that is silently ignored is found out on the
day it was needed.
"""

import difflib
import re
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import msgspec

from broker.config.settings import SETTINGS, Config, Setting
from broker.config.values import WILDCARD_HOSTS, HostPort, Listener

PREFIX = "WALRUS_"

OTHER_VARIABLES = frozenset(
    {
        "WALRUS_ADDR",  # the node that walrus-cli talks to
        "WALRUS_CONFIG",  # the path of the file itself
        "WALRUS_CI",  # the tests' own: a missing program is a failure
    }
)
"""Known variables that are no settings of a node."""

# Kubernetes sets WALRUS_SERVICE_HOST, WALRUS_PORT=tcp://… and the like in every pod beside a
# Service named walrus.
_SERVICE_LINK = re.compile(
    r"WALRUS_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp)://")

_ONE_LISTENER = ("kafka_host", "kafka_port", "kafka_advertise")

_BY_NAME = {setting.name: setting for setting in SETTINGS}


class ConfigError(Exception):
    """The settings cannot be meant. The text has one line per problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


Layer = Literal["default", "file", "environment", "flag"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: the layer, and its name there (a path, a variable, a flag)."""

    layer: Layer
    where: str

    def __str__(self) -> str:
        return self.where


DEFAULT = Origin("default", "default")


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each setting's value came from, and what is legal but deserves a warning."""

    of: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Origin:
        return self.of[name]


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as it was written, with its origin."""

    setting: Setting
    raw: object
    origin: Origin


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: Path | None,
    *,
    preset: Mapping[str, object] | None = None,
    host_name: Callable[[], str] = socket.gethostname,
) -> tuple[Config, Origins]:
    """The settings and where they came from. Raises ConfigError, which lists every problem.

    `flags` maps setting names to what was given on the command line; None and () mean not given.
    `file` is read when it is not None. `preset` replaces defaults. Blocking: reads one small file.
    """
    problems: list[str] = []
    given: dict[str, _Given] = {}
    for layer in (
        (_Given(_BY_NAME[name], raw, DEFAULT) for name, raw in (preset or {}).items()),
        _from_file(file, problems),
        _from_environ(environ, problems),
        _from_flags(flags),
    ):
        for item in layer:
            given[item.setting.name] = item
    values: dict[str, Any] = {}
    for name, item in given.items():
        try:
            values[name] = item.setting.kind.parse(item.raw)
        except ValueError as error:
            problems.append(_bad_value(item, str(error)))
    if problems:
        raise ConfigError(problems)
    config = Config(**values)
    origins = {name: given[name].origin if name in given else DEFAULT for name in _BY_NAME}
    problems.extend(_contradictions(config, origins))
    if problems:
        raise ConfigError(problems)
    config, warnings = _fill_in_advertised(config, host_name)
    return config, Origins(origins, tuple(warnings))


# ---- the layers --------------------------------------------------------------------------------


def _from_file(file: Path | None, problems: list[str]) -> Iterator[_Given]:
    if file is None:
        return
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{file}: is not TOML: {error}")
        return
    for key, raw in document.items():
        setting = _BY_NAME.get(key)
        if setting is None:
            problems.append(f"{file}: unknown key {key!r}; {_nearest(key, attrgetter('name'))}")
        else:
            yield _Given(setting, raw, Origin("file", str(file)))


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> Iterator[_Given]:
    by_variable = {setting.variable: setting for setting in SETTINGS}
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        setting = by_variable.get(variable)
        if setting is not None:
            yield _Given(setting, raw, Origin("environment", variable))
        elif not (_SERVICE_LINK.fullmatch(variable) or _SERVICE_LINK_VALUE.match(raw)):
            nearest = _nearest(variable, attrgetter("variable"))
            problems.append(f"environment: unknown variable {variable}; {nearest}")


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for name, raw in flags.items():
        if raw is not None and raw != ():
            setting = _BY_NAME[name]
            yield _Given(setting, raw, Origin("flag", setting.flag))


# ---- the problems ------------------------------------------------------------------------------


def _nearest(name: str, spelling: Callable[[Setting], str]) -> str:
    # Compared as keys: the prefix that all variables share would make any two of them alike.
    key = name.removeprefix(PREFIX).lower().replace("-", "_")
    near = difflib.get_close_matches(key, _BY_NAME, n=1, cutoff=0.6)
    if near:
        return f"did you mean {spelling(_BY_NAME[near[0]])}?"
    return "`walrus config print` lists the known ones"


def _bad_value(item: _Given, detail: str) -> str:
    setting, origin = item.setting, item.origin
    where = origin.where if origin.layer != "file" else f"{origin.where}: {setting.name}"
    text = f"{where}: {item.raw!r} is not valid for {setting.name}: expected {setting.kind.valid}"
    if isinstance(item.raw, str) and _SERVICE_LINK_VALUE.match(item.raw):
        return (
            text + " (Kubernetes sets this variable for a Service: use enableServiceLinks: false)"
        )
    return f"{text} ({detail})" if detail else text


def _contradictions(config: Config, origins: Mapping[str, Origin]) -> Iterator[str]:
    if config.kafka_listener:
        for name in _ONE_LISTENER:
            if origins[name] is not DEFAULT:
                yield (
                    f"{origins[name]}: {name} cannot be combined with kafka_listener "
                    f"({origins['kafka_listener']}): name every Kafka listener there"
                )
    for listener in config.kafka_listeners:
        if listener.name.lower() == config.native_listener.name:
            yield f"{origins['kafka_listener']}: the listener name {listener.name} is taken"
    if config.request_size_max > config.in_flight_size_max:
        yield (
            f"request_size_max ({origins['request_size_max']}) is larger than "
            f"in_flight_size_max ({origins['in_flight_size_max']}): it could never be held"
        )
    yield from _same_ports(config, origins)


def _same_ports(config: Config, origins: Mapping[str, Origin]) -> Iterator[str]:
    bound: list[tuple[str, str, int]] = [
        ("client_port", config.client_host, config.client_port),
        ("admin_port", config.admin_host, config.admin_port),
        ("raft_port", config.raft_host, config.raft_port),
    ]
    key = "kafka_listener" if config.kafka_listener else "kafka_port"
    bound += [(key, each.bind_host, each.bind_port) for each in config.kafka_listeners]
    for index, (name, host, port) in enumerate(bound):
        for other_name, other_host, other_port in bound[:index]:
            same_host = host == other_host or bool({host, other_host} & WILDCARD_HOSTS)
            if port != 0 and port == other_port and same_host:
                yield (
                    f"{name} ({origins[name]}) and {other_name} ({origins[other_name]}) "
                    f"both ask for port {port}"
                )


# ---- what others are told to dial --------------------------------------------------------------


def _fill_in_advertised(config: Config, host_name: Callable[[], str]) -> tuple[Config, list[str]]:
    """Nobody can dial a wildcard: bound with nothing advertised, it becomes the host name."""
    warnings: list[str] = []

    def dialable(bind_host: str, setting: str) -> str:
        if bind_host not in WILDCARD_HOSTS:
            return bind_host
        name = host_name()
        warnings.append(
            f"{bind_host} is bound and nothing is advertised: others are told to dial {name!r}. "
            f"If they cannot, set {setting}."
        )
        return name

    def advertised(listener: Listener) -> Listener:
        if listener.advertised_host:
            return listener
        host = dialable(listener.bind_host, f"{listener.name}'s address in kafka_listener")
        return replace(listener, advertised_host=host)

    changes: dict[str, Any] = {}
    if config.kafka_listener:
        changes["kafka_listener"] = tuple(map(advertised, config.kafka_listener))
    elif config.kafka_advertise is None:
        changes["kafka_advertise"] = HostPort(dialable(config.kafka_host, "kafka_advertise"), 0)
    if config.raft_advertise_host is None:
        changes["raft_advertise_host"] = dialable(config.raft_host, "raft_advertise_host")
    return msgspec.structs.replace(config, **changes), warnings
