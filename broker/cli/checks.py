"""What `walrus doctor` looks at, one function per thing."""

import ctypes
import errno
import os
import platform
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from broker.config import Config
from broker.config.values import WILDCARD_HOSTS
from broker.server.descriptors import for_connections, raise_limit

SYNC_COUNT = 30
SYNC_SIZE = 4096
SYNC_MS_SLOW = 20.0
"""Above this a lone producer with acks=all waits noticeably for each record."""
SYNC_MS_ABSURD = 0.02
"""Below this no known device has stored anything."""

FREE_SIZE_LOW = 2 * 1024**3

DOUBTFUL_FILE_SYSTEMS = {
    "tmpfs": "It is gone after a reboot: choose a --data-dir on a disk.",
    "ramfs": "It is gone after a reboot: choose a --data-dir on a disk.",
    "overlay": "A container's own layer goes with the container: mount a volume there.",
    "nfs": "A network file system may acknowledge a sync early: use a local disk.",
    "nfs4": "A network file system may acknowledge a sync early: use a local disk.",
    "cifs": "A network file system may acknowledge a sync early: use a local disk.",
    "9p": "A shared folder of a virtual machine may acknowledge a sync early: use a local disk.",
}

_ADJTIMEX_SIZE = 512
"""Bytes, more than any kernel's struct timex."""
_TIME_ERROR = 5
_YEAR_MIN = 2025


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `advice` is empty when there is nothing to do."""

    name: str
    level: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def check_all(config: Config, warnings: Sequence[str]) -> list[Check]:
    """Every check, in the order of the report. Blocking, for less than a second on a good disk."""
    checks = [check_system(), check_backend(disable_uring=config.disable_io_uring)]
    checks += check_disk(config.data_dir)
    checks += check_ports(config)
    checks += check_advertised(config)
    checks += [check_open_files(config.connections_max), check_clock()]
    checks += [Check("settings", "warn", warning) for warning in warnings]
    return checks


def check_system() -> Check:
    """Kernel and Python, for the record; Linux is a must."""
    found = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    if platform.system() != "Linux":
        return Check("system", "fail", found, "Walrus runs on Linux.")
    return Check("system", "ok", found)


def check_backend(*, disable_uring: bool) -> Check:
    """Which storage backend would run, and why."""
    from engine.backends import choose

    backend = choose(disable_uring=disable_uring)
    found = f"{backend.name}: {backend.reason}"
    is_fallback = backend.name == "pread" and not disable_uring
    backend.close()
    if is_fallback:
        advice = (
            "A node runs well without io_uring; a container can be given it by its seccomp profile."
        )
        return Check("storage", "warn", found, advice)
    return Check("storage", "ok", found)


def check_disk(data_dir: Path) -> Iterator[Check]:
    """Is the data directory there, on what, with how much room, and how long does a sync take?"""
    existing = data_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        found = f"{existing} is not a directory that can be written"
        yield Check("data", "fail", found, "Choose another --data-dir, or change its owner.")
        return
    file_system = file_system_of(existing, Path("/proc/self/mountinfo").read_text())
    advice = DOUBTFUL_FILE_SYSTEMS.get(file_system, "")
    yield Check("data", "warn" if advice else "ok", f"{data_dir} on {file_system}", advice)

    free = shutil.disk_usage(existing).free
    found = f"{free / 1024**3:.1f} GiB free"
    if free < FREE_SIZE_LOW:
        yield Check("space", "warn", found, "A full disk stops every producer: make room.")
    else:
        yield Check("space", "ok", found)
    yield check_sync(existing)


def check_sync(directory: Path) -> Check:
    """The time of one small write and its sync, measured."""
    times_ms = []
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".walrus-doctor-") as file:
            for index in range(SYNC_COUNT):
                start = time.perf_counter()
                os.pwrite(file.fileno(), os.urandom(SYNC_SIZE), index * SYNC_SIZE)
                os.fdatasync(file.fileno())
                times_ms.append((time.perf_counter() - start) * 1000)
    except OSError as error:
        return Check("sync", "fail", f"{directory}: {error.strerror}", "The disk refuses writes.")
    typical = median(times_ms)
    worst = f"worst of {SYNC_COUNT}: {max(times_ms):.2f}"
    found = f"a write with fdatasync takes {typical:.2f} ms ({worst})"
    if typical > SYNC_MS_SLOW:
        advice = "A slow disk: many producers at once share a sync, a lone one waits for it."
        return Check("sync", "warn", found, advice)
    if typical < SYNC_MS_ABSURD:
        advice = "No disk is that fast: something acknowledges syncs without doing them."
        return Check("sync", "warn", found, advice)
    return Check("sync", "ok", found)


def check_ports(config: Config) -> Iterator[Check]:
    """Can each address be bound?"""
    addresses = [("client_port", config.client_host, config.client_port)]
    addresses += [
        (f"kafka {listener.name}", listener.bind_host, listener.bind_port)
        for listener in config.kafka_listeners
    ]
    addresses += [
        ("admin_port", config.admin_host, config.admin_port),
        ("raft_port", config.raft_host, config.raft_port),
    ]
    for name, host, port in addresses:
        error = _bind_error(host, port)
        if error is None:
            yield Check("port", "ok", f"{name} {host}:{port} is free")
            continue
        advice = "Choose an address that this machine has."
        if error.errno == errno.EADDRINUSE:
            advice = "Another program, or a node that is running, has it: `ss -ltnp` shows which."
        yield Check("port", "fail", f"{name} {host}:{port}: {error.strerror}", advice)


def _bind_error(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
    except OSError as error:
        return error
    return None


def check_advertised(config: Config) -> Iterator[Check]:
    """Can the addresses that clients are told be looked up, and do they make sense?"""
    for listener in config.kafka_listeners:
        host = listener.advertised_host
        name = f"{listener.name} tells clients {host}"
        try:
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            advice = "This machine cannot look it up, so clients hardly can: set kafka_advertise."
            yield Check("advertised", "warn", f"{name}, which has no address", advice)
            continue
        is_local = host in {"localhost", "::1"} or host.startswith("127.")
        if is_local and listener.bind_host in WILDCARD_HOSTS:
            advice = "Only clients on this machine can follow that: set kafka_advertise."
            yield Check("advertised", "warn", name, advice)
        else:
            yield Check("advertised", "ok", name)


def check_open_files(connections_max: int) -> Check:
    """Each connection and each open segment is a file descriptor."""
    limit = raise_limit()  # As a node does.
    allowed = "any number of" if limit == resource.RLIM_INFINITY else limit
    found = f"{allowed} open files allowed, {connections_max} connections"
    taken = for_connections(connections_max, limit)
    if taken < connections_max:
        advice = (
            f"Only {taken} are taken: raise the limit (`ulimit -Hn`), or lower --connections-max."
        )
        return Check("open files", "warn", found, advice)
    return Check("open files", "ok", found)


def check_clock() -> Check:
    """Record timestamps and retention rely on the wall clock; ordering and durability do not."""
    now = time.gmtime()
    found = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    if now.tm_year < _YEAR_MIN:
        return Check("clock", "fail", found, "The clock is wrong: set it before storing anything.")
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_ADJTIMEX_SIZE))
    if state == _TIME_ERROR:
        advice = "Nothing keeps the clock right: run chrony or systemd-timesyncd."
        return Check("clock", "warn", f"{found}, not synchronised", advice)
    return Check("clock", "ok", found)


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`, from the text of /proc/self/mountinfo."""
    best, found = "", "unknown"
    target = str(path.resolve())
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        point = before.split(" ")[4].encode().decode("unicode_escape")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        # The last mount on a point hides the ones before it.
        if inside and len(point) >= len(best):
            best, found = point, after.split(" ")[0]
    return found
