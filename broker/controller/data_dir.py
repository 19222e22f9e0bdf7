"""The data directory: who owns it, whose it is, and whether its last writes can be trusted.

<data-dir>/lock        held (flock) by the one process that runs on it
<data-dir>/identity    node id, disk id, cluster id: the cookie that tells this disk from any
other <data-dir>/last_run    kernel boot id and durability of the last run: did unsynced writes
survive it? <data-dir>/raft/       metadata journal and snapshot
<data-dir>/topics/     segments, see docs/formats/segment.md
"""

import base64
import fcntl
import os
import shutil
import uuid
from pathlib import Path

import msgspec

from broker.replication.space import Usage

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DataDirError(Exception):
    """The directory cannot be used by this process; the text says why and what to do."""


class Identity(msgspec.Struct, frozen=True):
    """What makes this disk this disk. Written once; a missing or foreign one is never papered
    over."""

    node_id: int
    disk_id: str
    """32 hex digits, new for every new disk: the Raft voter id and the cookie of replication."""
    cluster_id: str
    """Empty until the node has formed or joined a cluster."""
    joins: bool = False
    """It began as one that others let in: until they have, it is a member of nothing, however often
    it is started."""


class _LastRun(msgspec.Struct, frozen=True):
    boot_id: str
    fsync: str
    is_clean: bool
    is_doubted: bool = False
    """Writes of an earlier run may be lost, and the cluster has not been told yet."""


class DataDir:
    """An opened, locked data directory. Raises DataDirError when it is in use or belongs to another
    node."""

    def __init__(self, path: Path, *, node_id: int, joins: bool = False) -> None:
        """`joins` says how a directory begins that is new; one that is not knows it."""
        self.path = path.resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataDirError(f"cannot create the data directory {self.path}: {error}") from error
        self._lock_file = self._take_lock()
        try:
            self.identity = self._identify(node_id, joins)
        except BaseException:
            self.release()
            raise

    @property
    def raft_path(self) -> Path:
        return self.path / "raft"

    @property
    def is_undecided(self) -> bool:
        """No metadata was ever here: whether it founds or joins a cluster may still be said."""
        return self.identity.joins and not self.raft_path.exists()

    @property
    def topics_path(self) -> Path:
        return self.path / "topics"

    def usage(self) -> Usage:
        """Of the disk that this is on. Raises OSError."""
        usage = shutil.disk_usage(self.path)
        return Usage(usage.total, usage.free)

    def _take_lock(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(lock, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise DataDirError(
                f"the data directory {self.path} is in use by another process (pid {owner});"
                " stop it, or choose another --data-dir"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _identify(self, node_id: int, joins: bool) -> Identity:
        path = self.path / "identity"
        if not path.exists():
            if self.topics_path.exists() or self.raft_path.exists():
                raise DataDirError(
                    f"{self.path} holds data but no identity file; restore {path} from a copy,"
                    " or start with an empty --data-dir"
                )
            identity = Identity(node_id, uuid.uuid4().hex, "", joins)
            write_durably(path, msgspec.json.encode(identity) + b"\n")
            return identity
        identity = read_identity(self.path)
        if identity.node_id != node_id:
            raise DataDirError(
                f"{self.path} belongs to node {identity.node_id}, this process was started as node"
                f" {node_id}; use --node-id {identity.node_id}, or another --data-dir"
            )
        return identity

    def founds(self) -> None:
        """An undecided one forms a cluster of its own."""
        assert self.is_undecided
        self.identity = msgspec.structs.replace(self.identity, joins=False)
        write_durably(self.path / "identity", msgspec.json.encode(self.identity) + b"\n")

    def joined(self, cluster_id: str) -> None:
        """Remember which cluster this disk belongs to. Raises DataDirError if it is another one
        already."""
        known = self.identity.cluster_id
        if known and known != cluster_id:
            raise DataDirError(
                f"{self.path} belongs to cluster {known}, but the metadata is that of {cluster_id}"
            )
        if not known:
            self.belongs_to(cluster_id)

    def belongs_to(self, cluster_id: str) -> None:
        """Note it, whatever was noted before. "": the metadata alone says which cluster it is."""
        self.identity = msgspec.structs.replace(self.identity, cluster_id=cluster_id)
        write_durably(self.path / "identity", msgspec.json.encode(self.identity) + b"\n")

    def begin_run(self, *, fsync: str) -> bool:
        """Note that a run begins. True if all that was acknowledged in earlier runs must still be
        on this disk.

        Writes that were never synced survive the death of a process, not that of the machine: only
        an unclean end without fsync *and* a reboot since then make the disk doubtful.
        """
        path = self.path / "last_run"
        boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
        is_trusted = True
        if path.exists():
            try:
                last = msgspec.json.decode(path.read_bytes(), type=_LastRun)
                has_survived = last.is_clean or last.fsync == "each" or last.boot_id == boot_id
                is_trusted = has_survived and not last.is_doubted
            except msgspec.MsgspecError:
                is_trusted = False
        self._run = _LastRun(boot_id, fsync, is_clean=False, is_doubted=not is_trusted)
        write_durably(path, msgspec.json.encode(self._run) + b"\n")
        return is_trusted

    def registered(self) -> None:
        """The cluster knows what `begin_run` said. Until it does, every start says the same: a
        process that ends before has told nobody."""
        if self._run.is_doubted:
            self._run = msgspec.structs.replace(self._run, is_doubted=False)
            write_durably(self.path / "last_run", msgspec.json.encode(self._run) + b"\n")

    def end_run(self) -> None:
        """Everything is written and synced; the next start need not doubt it."""
        clean = msgspec.structs.replace(self._run, is_clean=True)
        write_durably(self.path / "last_run", msgspec.json.encode(clean) + b"\n")

    def release(self) -> None:
        """Give the directory back."""
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1


def read_identity(path: Path) -> Identity:
    """Whose data directory this is. Raises DataDirError when it has no identity that can be
    read."""
    path = path / "identity"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except (msgspec.MsgspecError, OSError) as error:
        raise DataDirError(f"{path} is not readable: {error}; restore it from a copy") from error


def new_cluster_id() -> str:
    """22 characters, as Kafka's own; never beginning with a dash, which command lines would
    misread."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file so that a crash leaves the old or the new content, never a mixture."""
    scratch = path.with_suffix(".tmp")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
